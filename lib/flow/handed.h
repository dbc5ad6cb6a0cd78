/* flow/handed - the ends of stream of an AF_UNIX stream that crosses a link: each needs its eof (ccf-handoff(7)),
 * and one without is a cut.  Shared by whoever relays such a stream. */
#ifndef FLOW_HANDED_H
#define FLOW_HANDED_H

#include "flow/link.h"
#include "flow/relay.h"

struct handed { /* lies in its owner */
	struct link_conn *conn; /* what the stream belongs to */
	struct relay *relay;	/* NULL until it runs */
	struct reactor *reactor;
	struct task pump;
	bool pumped; /* the link was read after the stream ended */
};

int handed_offer(struct link *, struct link_conn *, const struct env *, int *ret_fd);
/* Producer: sends a connection.  A consumer that gives is asked to adopt it (*ret_fd is -1); another is sent one end of a pair,
 * and *ret_fd is the other end, the caller's.  -errno: nothing was sent. */
void handed_open(struct handed *, struct reactor *, struct link_conn *);
void handed_close(struct handed *);
struct relay_hooks handed_hooks(struct handed *); /* for the side that is the AF_UNIX stream */
void handed_kick(struct handed *); /* from link_conn_ops: ended, flushed, lost */

#endif
