/* flow/worker - a worker's side of its channel: links, certificates and orders come in, what became of the links goes out, and
 * COMMANDs are asked for. */
#ifndef FLOW_WORKER_H
#define FLOW_WORKER_H

#include "flow/channel.h"
#include "flow/hub.h"
#include "flow/starter.h"

struct conn_row;
struct worker;

struct worker_ops {
	void (*material)(struct worker *, int fd); /* yours */
	void (*drain)(struct worker *);
	void (*now)(struct worker *);
	void (*status)(struct worker *);
	void (*gauges)(struct worker *); /* set them to what is so now; NULL: there are none */
	unsigned (*rows)(struct worker *, unsigned from, struct conn_row *rows, unsigned cap);
	/* The live connections from the from-th on: how many were filled in; fewer than cap: that was all */
	bool (*cut)(struct worker *, const char *conn); /* the connection with that id: found and cut */
	void (*access)(struct worker *, int fd);        /* yours */
	void (*lost)(struct worker *); /* the master is gone: nobody can bring links or start COMMANDs any more; once */
};

struct worker {
	struct channel channel;
	const struct worker_ops *ops;
	struct hub **hub; /* n_hub of them, in the master's order; the caller's */
	unsigned n_hub;
	struct starter starter; /* the terminator's */
	struct started_tree started;
	uint64_t last_id;
};

/* The log level is set here.  What is NULL of gauges, rows, cut and access is not answered. */
void worker_open(struct worker *, struct reactor *, int chan, const struct worker_ops *, struct hub **, unsigned n_hub);
/* Takes chan.  The hubs are opened with hub_open_given(hub, cfg, worker_keeper, worker). */
extern const struct hub_keeper worker_keeper;
void worker_up(struct worker *, const char *holds); /* ready for links; holds: what confines us, for the master's log */
void worker_close(struct worker *);

#endif
