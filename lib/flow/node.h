/* flow/node - a CCF node's links (microsoft/CCF src/host/node_connections.h; CCF.md sections 8 and 13): peers by their id, one
 * connection each that is used both ways, dialled when the first message for it comes, or taken from a source and known by the
 * sender of its first frame.  Every message that was taken ends as delivered (acknowledged by the peer's kernel), dropped, or
 * unknown.
 *
 * The rules:
 * - an incoming connection replaces the one there is, unless that was dialled by us less than NODE_YOUNG_MS ago, the peer has not
 *   ended it, and our id is not greater than the peer's (bytes compared): then the incoming one is refused (CCF #8233).  Both ends
 *   come to the same one;
 * - who loses is not cut: the frame under way is finished, we end our direction, and what the peer said there is still delivered;
 *   the other connection is read, and written by who wrote on the old one, only when that has ended (or has been silent for
 *   NODE_LEAVE_MS, where bytes that make no message are silence), so nothing is lost or overtaken.  So it is after `close` and
 *   after the peer's own end of stream; if that peer cannot be dialled, all that waits for it is written there first;
 * - a peer's entry belongs to its connection, not to its id: the end of an old one takes nothing from the new;
 * - a frame whose sender is not the connection's peer, or is ourselves, is a protocol error: one line, and that connection is
 *   reset;
 * - at the end of a connection: without retries what was not delivered is unknown (written whole) or dropped, and only the next
 *   message dials again; after a clean end, or of one that was leaving, what was not written dials at once; with retries all of it
 *   is kept, and sent again from the first message that was not acknowledged, after a back-off (what was unknown may arrive twice).
 *   When the retries are used up, all that waits is dropped (unknown: what had been written whole). */
#ifndef FLOW_NODE_H
#define FLOW_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/tree.h>

#include "flow/dial.h"
#include "flow/hub.h"
#include "flow/inbox.h"
#include "flow/outbox.h"

struct text;

#define NODE_YOUNG_MS 2000 /* CCF #8233 */
#define NODE_LEAVE_MS 1000
#define NODE_FLUSH_MS 30000 /* for what was written before a `close` or a drain to be acknowledged, without a user_timeout;
			       and for one that leaves, however much it has to say, while others wait behind it for that */
#define NODE_FEW_MS   100   /* a dial for which there was no descriptor is tried again */
#define NODE_FILES    32   /* ranges of files waiting for a peer: each holds a descriptor */
#define NODE_CROWD    4    /* connections of a peer at once, one and those before it that are read to their end: it is not
			      dialled more often, and while anybody has so many, and waits for us (ready), no more are taken:
			      what has come there was acknowledged, and is to be read, not refused */
#define NODE_MANY     64   /* ... and while anybody has so many, waiting for us or not, they are taken one by one */
#define NODE_CONNS    256  /* ... and of these the next one is refused */
#define NODE_PEERS    4096 /* known ids; beyond that a stranger's connection is refused */

struct node_conn;
struct node_drop;

struct node_peer {
	char *id; /* id_len bytes and a NUL, ours */
	size_t id_len;
	struct node *node;
	struct addr *address;    /* NULL: it cannot be dialled */
	bool said;               /* by --peer or associate: kept for good.  Else it goes with its last connection and message */
	struct outbox out;
	TAILQ_HEAD(node_conns, node_conn) conns; /* in the order of what was said on them; the first is the one that is read */
	struct node_conn *current;     /* the one in use, or NULL */
	uint64_t messages_in, bytes_in;
	/* private to node*.c */
	enum { PEER_IDLE, PEER_DIALLING, PEER_BACKING_OFF } dialling;
	struct dial dial;
	struct timer timer;      /* the next retry */
	unsigned failures;       /* in a row: breaks, and dials */
	bool refused;            /* the last dial failed, and there was no connection since */
	bool wanted;             /* somebody was told NODE_WAIT */
	uint64_t delivered;      /* of out, when it moved last */
	struct {
		uint64_t in, in_bytes, out, out_bytes, resent;
	} counted;               /* by base/metrics */
	RB_ENTRY(node_peer) node_entry;
};

enum node_put {
	NODE_TAKEN,
	NODE_WAIT,    /* its queue is full: room() is called when there is room again */
	NODE_DROPPED, /* and counted, and told as an event */
	NODE_FAILED,  /* no memory; not counted */
};

enum node_event_kind { NODE_UP, NODE_DOWN, NODE_DROP };

struct node_event { /* borrowed for the call */
	enum node_event_kind kind;
	const char *id; /* of the peer; NULL: DOWN of a connection that never said whose it is */
	size_t id_len;
	bool dialled;        /* UP, DOWN: by us */
	const char *address; /* of the other end, as addr_text; "" not known */
	const char *reason;  /* DOWN: a word of metric_reasons; DROP: one of metric_losses */
	const char *why;     /* more of it in a sentence, or NULL */
	uint64_t count;      /* DROP: messages */
	struct outbox_fate fate; /* DOWN: of the messages that were written there or wait */
};

struct node_config {
	struct reactor *reactor;
	struct dialler *dialler;
	const char *id; /* ours; borrowed */
	size_t id_len;
	struct endpoint_plan plan; /* of every dial but for its target; its retries, retry_min and retry_max are ours to follow */
	int64_t user_timeout;      /* ms; -1: none.  TCP_USER_TIMEOUT of every connection, dialled or taken */
	int64_t keepalive;         /* ms, in whole seconds: TCP_KEEPIDLE; -1: as the socket has it */
	int64_t first_frame;       /* ms: for an incoming one's first whole head; -1: none */
	uint32_t max_frame;
	size_t most;               /* of a payload in memory */
	size_t max_queue;          /* bytes waiting for a peer, in memory and in nameless files */
	enum inbox_large large;    /* longer payloads */
	const char *save_dir;
	unsigned fds_spare;
	void (*trace)(struct endpoint *, enum endpoint_state, enum endpoint_state);
	bool (*ready)(void *arg, struct node_peer *); /* may a message of that peer be delivered now?  node_resume when that
							 changes */
	void (*message)(void *arg, struct node_peer *, const struct message *);
	void (*event)(void *arg, const struct node_event *);
	void (*room)(void *arg);  /* a queue that was full has room, or its messages are gone: who was told NODE_WAIT may try
				     again */
	void (*idle)(void *arg);  /* node_idle may be true now */
	void *arg;
};

struct node {
	struct node_config cfg;
	RB_HEAD(node_peers, node_peer) peers;
	TAILQ_HEAD(, node_conn) strangers; /* incoming, whose first frame has not come */
	unsigned n_peers, live, peak;      /* connections */
	struct hub *hub[HUB_LINKS_MAX];    /* the sources; set by the tool as it opens them */
	unsigned n_hubs;
	bool draining;
	uint64_t nobodys;                  /* messages dropped because nobody was known by that id */
	/* private to node*.c */
	struct node_peer *last;            /* asked for last */
	uint64_t dials;                    /* connected ones, for their CCF_CONN_ID */
	const char *ending;                /* node_now, node_close: why */
	TAILQ_HEAD(, node_drop) drops;     /* not told yet: summed up over a turn */
	unsigned n_drops, due;
	struct task task;                  /* at the end of the turn: what is due */
};

void node_open(struct node *, const struct node_config *);
void node_close(struct node *); /* resets what is left, frees all; no event is told any more; legal on a zeroed one */

int node_associate(struct node *, const char *id, size_t len, const struct addr *); /* copies; replaces the address; a connection
										       that
							is there stays.  0, -ENOMEM, -EINVAL (our own id), -ENOSPC (NODE_PEERS) */
enum node_put node_send(struct node *, const char *id, size_t len, uint64_t type, const struct piece *, unsigned n);
/* The pieces are the payload (n <= 31); the head is made here.  Dials where there is no connection */
enum node_put node_pass(struct node *, const char *id, size_t len, const struct piece *, unsigned n);
/* The same for a whole frame that has its head already */
int node_room(struct node *, const char *id, size_t len);
/* What node_send would say now, but for memory: an enum node_put, without doing or counting anything */
int node_end(struct node *, const char *id, size_t len);
/* `close`: after what was sent before; what is sent later goes over a new connection.  0; -ENOENT: nobody is known by that id;
 * -ENOMEM */
struct node_peer *node_find(struct node *, const char *id, size_t len); /* or NULL */

void node_resume(struct node *); /* ready() may answer differently now */
void node_conn_taken(struct node *, struct link *, const struct note *, int fd); /* hub_ops.conn; takes fd */
unsigned node_hub_room(struct node *); /* hub_ops.room: 0 while draining */

void node_drain(struct node *);
/* Takes no message and no connection more (NODE_DROPPED, "draining"); what waits is still delivered, then each connection is left.
 * idle() when all that is done */
bool node_idle(const struct node *); /* nothing waits to be delivered, written or acknowledged, no dial is under way, nothing is
					leaving;
				      * while draining: and there are no connections */
void node_now(struct node *, const char *reason); /* the drain has lasted too long: all that waits is dropped, connections are
						     reset */

/* what is asked about it */
enum node_peer_state { NODE_PEER_DOWN, NODE_PEER_DIALLING, NODE_PEER_WAITING, NODE_PEER_UP };
enum node_peer_state node_peer_state(const struct node_peer *);
const char *node_peer_state_name(enum node_peer_state); /* "down", "dialling", "waiting" (for the next retry), "up" */
void node_look(struct node_peer *); /* asks the kernel what was acknowledged: its figures are those of now */
void node_rows(const struct node *, struct text *); /* rows_json of all connections; state: "first-frame", "open", "leaving" */
bool node_cut(struct node *, const char *conn);     /* the connection with that CCF_CONN_ID, reason "control": found and reset */
void node_metrics(struct node *, struct text *);

int node_peer_cmp(struct node_peer *, struct node_peer *);
RB_PROTOTYPE(node_peers, node_peer, node_entry, node_peer_cmp)

#endif
