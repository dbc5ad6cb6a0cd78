/* flow/link - one conversation of the handoff link (ccf-handoff(7)), either side: hello, credit, the list of open
 * connections, drain.  A link belongs to a hub (flow/hub), which finds it its socket and picks among several. */
#ifndef FLOW_LINK_H
#define FLOW_LINK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/tree.h>

#include "loop/reactor.h"
#include "wire/note.h"

#define LINK_WINDOW   32   /* credit on its way, at most */
#define LINK_HELLO_MS 5000 /* for the other side's hello */
#define LINK_STALE_MS 5000 /* a conn unread for so long: the link is passed over */

struct env;
struct hub;
struct link_conn;

struct link_conn_ops { /* what the other side says about one connection */
	void (*adopted)(struct link_conn *, int fd); /* producer: use fd, it is yours */
	void (*ended)(struct link_conn *);   /* eof: the end of that AF_UNIX stream will be a real one; conn->ended is set */
	void (*closed)(struct link_conn *, const char *reason, int status, uint64_t in, uint64_t out);
	/* over, says the other; the id has left the list.  status -1: it did not say */
	void (*lost)(struct link_conn *);    /* the link has ended; the id has left the list */
	void (*flushed)(struct link_conn *); /* link_eof answered -EAGAIN, and now it has gone */
};

struct link_conn { /* an open id; lies in its owner, zeroed before it is used */
	const struct link_conn_ops *ops;
	struct link *link; /* NULL: on no list */
	uint64_t id;
	bool ended;        /* the other side said eof */
	bool said_eof;     /* we did */
	bool adopted;      /* consumer: we gave our descriptor; producer: we got it */
	bool asked;        /* producer: it went without a descriptor, and the consumer may adopt */
	bool owing;        /* producer: something is still to be said to the consumer (eof, or we wait for adopt) */
	uint64_t eof_mark; /* private: the place of our eof in the queue */
	RB_ENTRY(link_conn) node;
};

struct link_out; /* a message on its way */

enum link_state { LINK_GREETING, LINK_UP, LINK_GONE };

struct link {
	enum link_state state;
	struct hub *hub;
	int fd; /* ours */
	struct watch watch;
	struct timer hello;
	struct timer resend; /* ETOOMANYREFS: the socket is writable and yet takes no descriptor */
	struct task later;
	struct grave grave;
	TAILQ_HEAD(, link_out) queue;
	uint64_t queued, sent;          /* messages, ever: for link_eof */
	RB_HEAD(link_conns, link_conn) conns;
	unsigned live;                  /* on the list */
	unsigned owing;
	unsigned marked;                /* conns whose eof is on its way */
	uint64_t last_id;
	uint32_t credit;                /* producer: conns we may send; consumer: conns that may still come */
	uint32_t modes;                 /* the consumer's */
	uint64_t served;                /* when it was picked last, in the hub's count */
	int64_t unread_since;           /* producer: a conn was sent and not read yet; 0 none */
	bool stale;                     /* ... for longer than LINK_STALE_MS: passed over */
	bool drained;                   /* the consumer said drain (either side knows) */
	bool succeeded;                 /* producer: ... and its keeper counts it as gone, and dials another one */
	bool shut;                      /* producer: has shut its writing side; consumer: has read that end */
	bool deaf;                      /* sending failed: read on, for what was said before */
	bool full;                      /* the other side reads nothing: until it does, no conns and no grants */
	bool broken;                    /* it ended because the other side broke the protocol */
	char tool[32];                  /* of the other side */
	TAILQ_ENTRY(link) of_hub;
};

int link_open(struct link **ret, struct hub *, int fd); /* takes fd on success */
void link_drop(struct link *, const char *why);
/* Ends it: every id is lost.  why: logged as a warning; NULL: silent.  Legal anywhere. */

/* producer */
bool link_usable(const struct link *);
int link_conn(struct link *, struct link_conn *, const struct env *, int fd);
/* Sends a connection; fd -1: asks the consumer to give.  0: fd is taken.  -errno: fd is still yours. */

/* consumer */
void link_join(struct link *, struct link_conn *, const struct link_conn_ops *, uint64_t id);
/* In hub_ops.conn, or in place of one that link_forget has just taken off. */
int link_adopt(struct link_conn *, int fd);
/* Answers a conn that came without a descriptor.  0: fd is taken, no copy is kept.  -errno: fd is still yours. */
void link_regrant(struct link *); /* room may have changed */
void link_drain(struct link *);

/* both */
int link_eof(struct link_conn *);
/* 0: said (or there is no link any more), shut the stream down now.  -EAGAIN: flushed() comes. */
void link_closed(struct link_conn *, const char *reason, int status, uint64_t in, uint64_t out);
/* Says that the connection is over and takes its id off the list; legal when it is on none. */
void link_forget(struct link_conn *); /* takes it off without a word */
void link_leave(struct link_conn *);
/* producer: its owner is done, the consumer is not: the id stays open, without an owner, until the consumer says closed */
void link_pump(struct link *);        /* reads what is there now, so that an eof already sent is known */

int link_conn_cmp(struct link_conn *, struct link_conn *);
RB_PROTOTYPE(link_conns, link_conn, node, link_conn_cmp)

#endif
