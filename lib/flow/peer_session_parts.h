/* flow/peer_session - what its files share. */
#ifndef FLOW_PEER_SESSION_PARTS_H
#define FLOW_PEER_SESSION_PARTS_H

#include "flow/peer_session.h"
#include "flow/tell.h"

enum peer_session_state {
	SESSION_NEW,	  /* in no list */
	SESSION_OPEN,	  /* has a slot: is in its interface's table, counted there, and on the list of the open */
	SESSION_DRAINING, /* the same; its COMMAND has been shown the end of its input */
	SESSION_CLOSING,  /* its slot is free: the socket has ended, and whether the COMMAND has will be known in a moment */
	SESSION_LEAVING,  /* over, and its end told; the COMMAND is still there */
	SESSION_GONE
};

struct peer_session {
	struct peer_sessions *all;
	struct receiver *from;
	enum peer_session_state state; /* moved by peer_session_enter only */
	struct peer peer;	  /* in from->peers while it has a slot */
	struct datagram to;	  /* who the peer is, and ours that it asked; no bytes */
	int fd;			  /* our end, nonblocking; -1 without a slot.  The COMMAND's has a name: see session_hear */
	struct watch watch;
	struct child child;
	struct tell tell;
	uint64_t in, out;     /* bytes */
	uint64_t charged;     /* of out; an empty datagram counts as one byte */
	bool answered, shown; /* something was sent to the peer; a datagram of its own came after that */
	bool pressed;	      /* the COMMAND got a TERM */
	int64_t due;	      /* without a slot: when it is pressed harder */
	struct timer last;    /* SESSION_CLOSING */
	TAILQ_ENTRY(peer_session) link;
	struct grave grave;
};

void peer_session_enter(struct peer_session *, enum peer_session_state);
/* The one door.  To a state with a slot: fd is there, peer is in the table, and admission has counted it. */
void peer_session_newcomer(struct peer_sessions *, struct receiver *, const struct datagram *, const struct peer_key *);
/* One of a peer that has no session: begins it, or drops it */
void peer_session_closed(struct peer_session *); /* by its COMMAND, which has perhaps ended too */
void peer_session_exited(struct child *, int wait_status);
void peer_sessions_arm(struct peer_sessions *); /* after a deadline came, or the nearest went */

#endif
