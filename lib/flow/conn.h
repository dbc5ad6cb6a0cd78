/* flow/conn - a session as the inner side of a relay: a transport without a descriptor, made of a session and
 * its writer.  The session is opened when the first byte comes (a silent client costs none), or at its end of stream; its deadlines
 * are kept here. */
#ifndef FLOW_CONN_H
#define FLOW_CONN_H

#include <stdint.h>

#include "base/transport.h"

#define CONN_DRAIN_MS 2000 /* so long a client that has said nothing may still begin, once we are draining */

struct env;
struct reactor;
struct relay;
struct session_ops;

struct conn_said {          /* how the session closed, by its own word */
	const char *reason; /* static; NULL: it said nothing about it */
	int status;         /* base/exit.h */
};

struct conn_config {
	struct reactor *reactor;
	const struct session_ops *ops;
	const struct env *env;  /* borrowed until the transport is closed */
	void *arg;              /* session_ops.open's; borrowed likewise */
	int64_t first;          /* when the first byte must have come (clock_ms), CLOCK_NEVER: else it is closed without a word,
	                         * and said is "request-timeout", CCF_DEADLINE */
	struct conn_said *said; /* filled in when the transport is closed; borrowed until then; may be NULL */
};

int conn_session(struct transport **ret, const struct conn_config *); /* 0 or -ENOMEM */
void conn_attach(struct transport *, struct relay *);
/* Tells it whom to wake when the session writes by itself, and whose share bounds its writer. */
void conn_drain(struct transport *); /* the session shall begin nothing new; legal twice */

#endif
