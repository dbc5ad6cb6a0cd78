/* flow/joiner - ccf-connect --from: one connection dialled for each that is handed to us.  With a descriptor the two
 * are joined here; without one ours is given away (adopt), and nothing stays. */
#ifndef FLOW_JOINER_H
#define FLOW_JOINER_H

#include "flow/dial.h"
#include "flow/hub.h"

struct relay;
struct text;
struct transport;

struct joiner_config {
	struct reactor *reactor;
	struct dialler *dialler;
	struct endpoint_plan plan;
	int64_t idle, half_close, flush; /* ms, -1: none */
	unsigned fds_spare; /* descriptors this process keeps for itself */
	void (*trace)(struct endpoint *, enum endpoint_state, enum endpoint_state);
	int (*wrap)(void *arg, const char *conn, bool from_client, struct transport **tp);
	/* Where two are joined: puts another transport in the place of each.  0 or -errno (then *tp is as it was), and the two
	 * are not joined.  NULL: nothing stands between.  Who sets it gives none away (hub_config.modes NOTE_TAKE alone) */
	void (*attach)(struct transport *, struct relay *); /* with wrap: the relay of what that made */
	void (*idle_now)(void *arg); /* nothing is left (told after each last one) */
	void *arg;
};

struct joiner {
	struct joiner_config cfg;
	struct hub *hub[HUB_LINKS_MAX]; /* the sources */
	unsigned n_hubs;
	unsigned live, peak;		/* connections we hold: dialling or joined; the most there ever were */
	struct joined *list;
};

void joiner_open(struct joiner *, const struct joiner_config *);
void joiner_conn(struct joiner *, struct link *, const struct note *, int fd); /* hub_ops.conn; takes fd */
unsigned joiner_room(struct joiner *);	/* hub_ops.room */
void joiner_rows(const struct joiner *, struct text *);	/* rows_json of those we hold */
bool joiner_cut(struct joiner *, const char *conn);	/* the one with that id, reason "control": found and cut */
void joiner_metrics(const struct joiner *, struct text *);
void joiner_cut_all(struct joiner *, const char *reason, int status);

#endif
