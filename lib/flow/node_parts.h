/* flow/node_parts - between flow/node (peers, dials, who wins) and flow/node_conn (one connection: reading, writing, leaving);
 * nobody else includes it. */
#ifndef FLOW_NODE_PARTS_H
#define FLOW_NODE_PARTS_H

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
	char files[3 * 64 + 4];     /* how payloads that are kept are called: the peer's id, cut, nothing but letters, digits, -
				       and _ */
	struct watch watch;
	struct timer timer;         /* STRANGER: the first frame; LEAVING: silence; acknowledgements */
	struct task task;           /* one step: read, write, judge */
	struct inbox in;
	uint64_t out_bytes;
	struct link_conn lc;        /* incoming: what it came by */
	struct tell tell;
	struct grave grave;
	TAILQ_ENTRY(node_conn) link; /* of node.strangers or peer.conns */
	const char *leave_reason;   /* LEAVING: why, a word of metric_reasons; static */
	int64_t moved_at;           /* LEAVING: when something came or was acknowledged last */
	unsigned probe;             /* how often acknowledgements were asked for in vain */
};

/* node_conn.c: each is legal in any state but OVER */
struct node_conn *node_conn_new(struct node *, int fd, bool dialled); /* takes fd, tunes it; a stranger of node.strangers unless
									 dialled;
									 NULL: no memory, and fd is the caller's */
void node_conn_dialled(struct node_conn *, struct node_peer *); /* OPEN at once, the peer's current one */
void node_conn_joined(struct node_conn *, struct node_peer *);
/* STRANGER -> OPEN, current, at the end of peer->conns: from node_judge, which has made the former current one leave */
void node_conn_leave(struct node_conn *, const char *reason);   /* -> LEAVING: a refused one too (it never writes) */
void node_conn_cut(struct node_conn *, const char *reason, int status, const char *why); /* resets it; ends in node_conn_over */
void node_conn_kick(struct node_conn *); /* something may have changed: what to write, who may read, ready(): a step in this turn */
void node_conn_acks(struct node_conn *); /* asks the kernel now, and tells peer->out */

/* node.c */
int node_judge(struct node_conn *, const struct frame *);
/* The first head of a stranger: its peer is found or made, and who wins is settled: node_conn_joined, or node_conn_leave with the
 * reason "duplicate" after being put at the end of peer->conns.  0: its messages may come.  Below 0: it has to be cut:
 * NODE_FAULT_* */
void node_conn_over(struct node_conn *, const char *reason, int status, const char *why, bool clean);
/* From node_conn.c, once, before it is buried: tells its source and the log, takes it off its list, settles peer->out if it wrote
 * (outbox_break, or nothing if clean and all was acknowledged), tells the event, and lets the next connection of the peer go on.
 * clean: both ends of stream, at the border of a frame, and what we wrote was acknowledged */
void node_peer_moved(struct node_peer *); /* its queue has shrunk: who waits is told, retries begin anew */
void node_peer_check(struct node_peer *); /* whether it has to dial, may be forgotten, or the node is idle now */

enum { /* beside -enum frame_fault */
	NODE_FAULT_SENDER = -100, /* a frame's sender is not the connection's peer */
	NODE_FAULT_SELF = -101,   /* it is ourselves */
	NODE_FAULT_CROWD = -102,  /* NODE_PEERS, or NODE_CONNS */
	NODE_FAULT_MEMORY = -103,
};

#endif
