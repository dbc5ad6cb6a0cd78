/* flow/hub - the links of one name, and the choice among them.  The sockets are found by a keeper: flow/name in this process
 * (hub_open), or the master of this worker (hub_open_given). */
#ifndef FLOW_HUB_H
#define FLOW_HUB_H

#include <sys/types.h>

#include "flow/link.h"
#include "flow/name.h"

#define HUB_LINKS_MAX NAME_LINKS_MAX

struct hub;

struct hub_ops {
	void (*conn)(struct hub *, struct link *, const struct note *, int fd);
	/* consumer: a connection; fd is yours, -1: you are asked to give.  Must link_join, or answer closed at once. */
	unsigned (*room)(struct hub *);
	/* consumer: how many more connections may be on their way to us, on all links of all hubs */
	void (*credit)(struct hub *); /* producer: credit came, or went (hub_ready tells) */
	void (*over)(struct hub *, int status);
	/* It has ended for good: nobody can come any more.  Called once; status 0, or what went wrong. */
};

struct hub_config {
	struct reactor *reactor;
	const char *tool;      /* said in the hello */
	const char *option;    /* "--to": for messages */
	const char *spec;      /* the name as written; borrowed */
	unsigned role;         /* NOTE_PRODUCER, NOTE_CONSUMER: ours */
	unsigned modes;        /* consumer: NOTE_TAKE | NOTE_GIVE */
	unsigned links;        /* workers on our side, each with a link of its own: said in the hello; 0: 1 */
	mode_t socket_mode;    /* of a bound PATH */
	gid_t socket_group;    /* (gid_t)-1: leave it */
	uid_t peer_user;       /* allowed besides our own and root; (uid_t)-1: nobody */
	const struct hub_ops *ops;
	void *owner;
};

struct hub_keeper {            /* told what becomes of the links */
	void (*greeted)(struct hub *, unsigned links);       /* a hello came, with links= (0: not said) */
	void (*gone)(struct hub *, const struct name_end *); /* a link has ended */
	void (*stop)(struct hub *);                          /* no more links, please */
	void (*close)(struct hub *);
};

struct hub {
	struct hub_config cfg;
	const struct hub_keeper *keeper;
	void *keeper_arg;
	struct name name;      /* hub_open */
	TAILQ_HEAD(, link) links;
	unsigned n;
	uint64_t picks;
	char token[33];        /* a consumer's hello carries it, a producer's wants it; "" none */
	struct timer tick;     /* unread conns, starved consumers */
	int64_t starved_until; /* consumer: no grants before */
	bool broken;           /* the link that ended last broke the protocol, and none was greeted since */
	bool bidden;           /* producer: the link that ended last had said drain */
	bool draining;         /* no link more; over() comes with the end of the last */
	bool unwished;         /* ... and it was not we who wanted that */
	bool over;
	uint64_t lost;         /* connections that ended with their link */
};

int hub_open(struct hub *, const struct hub_config *, char *msg, size_t cap); /* 0 or -errno, as name_open */
void hub_open_given(struct hub *, const struct hub_config *, const struct hub_keeper *, void *keeper_arg);
int hub_take(struct hub *, int fd, const char *token);
/* From the keeper: one link more; fd is taken, also on failure.  0 or -errno */
void hub_name_over(struct hub *, bool at_once); /* from the keeper: as name_ops.over */
void hub_close(struct hub *); /* all links, and through the keeper the name */

bool hub_ready(const struct hub *); /* producer: somebody has credit */
bool hub_has_links(const struct hub *);
struct link *hub_pick(struct hub *); /* producer: credit and fewest live connections, on a tie served longest ago; or NULL */
void hub_regrant(struct hub *);     /* consumer: room() may answer differently now */
void hub_starve(struct hub *);      /* a descriptor did not fit: it is said, and a consumer grants nothing for a while */
void hub_drain(struct hub *);       /* consumer: no more, please; over() comes when each link is done */
unsigned hub_live(const struct hub *); /* open ids of all links */

/* for flow/link */
void hub_greeted(struct hub *, struct link *, const struct note *hello);
void hub_gone(struct hub *, struct link *);
void hub_drained(struct hub *, struct link *); /* producer: the other side said drain */
void hub_sent_conn(struct hub *);
unsigned hub_room(struct hub *); /* a link's part of room(), 0 while starved; asks again by itself */

#endif
