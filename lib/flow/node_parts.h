/* flow/node_parts - between flow/node (peers, dials, who wins) and flow/node_conn (one connection: reading, writing, leaving);
 * nobody else includes it. */
#ifndef FLOW_NODE_PARTS_H
#define FLOW_NODE_PARTS_H

#include "base/text.h"
#include "flow/handed.h"
#include "flow/node.h"
#include "flow/tell.h"

enum node_conn_state {
	CONN_STRANGER, /* incoming, before its first head */
	CONN_OPEN,     /* the peer's current one */
	CONN_LEAVING,  /* our direction ends behind the message under way; the peer's is read to its end */
	CONN_OVER,     /* buried */
};

struct node_conn {
	enum node_conn_state state; /* moved by conn_enter in node_conn.c only */
	struct node *node;
	struct node_peer *peer;     /* NULL: a stranger's */
	bool dialled;
	bool writes;                /* peer->out is written here: at most one connection of a peer has that */
	bool ended;                 /* the peer's end of stream was read */
	bool shut;                  /* ours was said */
	int fd;
	bool is_unix;
	int64_t born;               /* clock_ms: connected, or taken */
	char address[ADDR_TEXT_MAX];
	char files[3 * 64 + 1];     /* how payloads that are kept are called: the peer's id, cut; but letters, digits, - and _
				       as %XX */
	struct watch watch;
	struct timer timer;         /* STRANGER: the first frame; LEAVING: silence; acknowledgements */
	struct task task;           /* one step: read, write, judge */
	struct inbox in;
	uint64_t out_bytes;
	uint64_t delivered;         /* messages that were acknowledged here */
	struct link_conn lc;        /* incoming: what it came by */
	struct tell tell;
	struct grave grave;
	TAILQ_ENTRY(node_conn) link; /* of node.strangers or peer.conns */
	bool parted;                /* LEAVING: the next one does not wait for its end */
	bool last;                  /* LEAVING, ended: there is no other way to the peer: all that waits is written here */
	const char *leave_reason;   /* LEAVING: why, a word of metric_reasons; static */
	int64_t moved_at;           /* when something came, was written or acknowledged last */
	unsigned probe;             /* how often acknowledgements were asked for in vain */
	/* private to node_conn.c, node_leave.c */
	int broken;                 /* the first of the errors that any call met, positive: the kernel says it once */
	bool readable, blocked;     /* reading may give something; writing waits for the peer */
	bool held;                  /* ready() said no */
	bool hung;                  /* a hang-up or an error was reported, which does not go away: out of the set */
	bool stepping, kicked;      /* ... and it was kicked meanwhile */
	int64_t held_at, left_at;   /* when ready() said no; when it began to leave, later by how long it was held since */
	uint64_t moved, moved_in;   /* at moved_at: messages read, bytes written and acknowledged; bytes read */
	struct text why;            /* the sentence of a fault */
};

/* node_conn.c: each is legal in any state but OVER */
extern const struct link_conn_ops node_conn_said; /* of lc */
struct node_conn *node_conn_new(struct node *, int fd, bool dialled); /* takes fd, tunes it; a stranger of node.strangers unless
									 dialled;
									 NULL: no memory, and fd is the caller's */
void node_conn_dialled(struct node_conn *, struct node_peer *); /* OPEN at once, the peer's current one */
void node_conn_joined(struct node_conn *, struct node_peer *);
/* STRANGER -> OPEN, current, to the end of peer->conns: from node_judge, which has made the former current one leave */
void node_conn_leave(struct node_conn *, const char *reason);   /* -> LEAVING: a refused one too (it never writes) */
void node_conn_cut(struct node_conn *, const char *reason, int status, const char *why); /* resets it; ends in node_conn_over */
void node_conn_kick(struct node_conn *); /* something may have changed: what to write, who may read, ready(): a step in this turn */
void node_conn_acks(struct node_conn *); /* asks the kernel now, and tells peer->out */

/* node_leave.c: how one ends; for node_conn.c */
void node_conn_enter(struct node_conn *, enum node_conn_state); /* the one door; in node_conn.c */
void node_conn_end(struct node_conn *, const char *reason, int status, const char *why, bool clean);
bool node_conn_first(const struct node_conn *); /* of its peer's: it may be read; a stranger, too; in node_conn.c */
bool node_conn_flushes(const struct node_conn *); /* LEAVING: what waits for the peer is written here, and something does */
void node_conn_broke(struct node_conn *, int error); /* a call failed with it, positive */
void node_conn_fail(struct node_conn *);             /* ends what broke: all that could be read was */
void node_conn_accuse(struct node_conn *, const struct frame *, int fault); /* head(): the sentence of NODE_FAULT_* */
void node_conn_fault(struct node_conn *);            /* ends it for what the inbox found */
void node_conn_finish(struct node_conn *);           /* the peer's end of stream was read */
void node_conn_judge(struct node_conn *);            /* after reading and writing: is it over? */
int64_t node_conn_due(const struct node_conn *);     /* when to look again if nothing happens */

/* node.c */
int node_judge(struct node_conn *, const struct frame *);
/* The first head of a stranger: its peer is found or made, and who wins is settled: node_conn_joined, or node_conn_leave with the
 * reason "duplicate" after being put before peer->current: what came there was said before anything that comes on the
 * other.  0: its messages may come.  Below 0: it has to be cut:
 * NODE_FAULT_* */
void node_conn_over(struct node_conn *, const char *reason, int status, const char *why, bool clean);
/* From node_conn.c, once, before it is buried: tells its source and the log, takes it off its list, settles peer->out if it wrote
 * (outbox_break, or nothing if clean and all was acknowledged), tells the event, and lets the next connection of the peer go on.
 * clean: both ends of stream, at the border of a frame, and what we wrote was acknowledged */
void node_peer_moved(struct node_peer *); /* its queue has shrunk: who waits is told, retries begin anew */
void node_peer_check(struct node_peer *); /* whether it has to dial, may be forgotten, or the node is idle now */

/* between node.c, node_dial.c and node_says.c */
void node_peer_halt(struct node_peer *);  /* stops a dial or a back-off */
void node_peer_drop(struct node_peer *, const char *loss, const char *why); /* all that waits; nobody writes it now */
void node_peer_failed(struct node_peer *, const char *loss, const char *why);
/* One failure more of getting messages there: the next try, or all that waits is dropped; why: a sentence, or NULL */
void node_peer_again(struct timer *);     /* the back-off is over */
bool node_peer_reachable(const struct node_peer *);
unsigned node_peer_conns(const struct node_peer *); /* how many it has */

enum node_due { NODE_DUE_DROPS = 1, NODE_DUE_ROOM = 2, NODE_DUE_IDLE = 4, NODE_DUE_FORGET = 8 };
void node_due(struct node *, enum node_due); /* at the end of the turn */
void node_turn_over(struct task *);
void node_forget(struct node *);             /* the peers that nobody needs */
void node_drop(struct node *, const char *id, size_t len, const char *loss, uint64_t n);
/* Counts them, and tells them with others of that id and reason at the end of the turn */
void node_drop_now(struct node *, const char *id, size_t len, const char *loss, uint64_t n, const char *why);
void node_tell_conn(struct node_conn *, enum node_event_kind, struct node_event *);
/* Fills in what an event says about a connection, and tells it */
void node_open_line(const struct node_conn *); /* in the log, once it is known whose it is */
void node_drops_free(struct node *);
void node_count(struct node_peer *); /* what came and went since the last time */

enum { /* beside -enum frame_fault */
	NODE_FAULT_SENDER = -100, /* a frame's sender is not the connection's peer */
	NODE_FAULT_SELF = -101,   /* it is ourselves */
	NODE_FAULT_CROWD = -102,  /* NODE_PEERS, or NODE_CONNS */
	NODE_FAULT_MEMORY = -103,
};

#endif
