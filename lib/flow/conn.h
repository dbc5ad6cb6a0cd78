/* flow/conn - a session as the inner side of a relay: a transport without a descriptor, made of a session and
 * its writer.  The session is opened when the first byte comes (a silent client costs none), or at its end of stream. */
#ifndef FLOW_CONN_H
#define FLOW_CONN_H

#include "base/transport.h"

struct env;
struct relay;
struct session_ops;

int conn_session(struct transport **ret, const struct session_ops *, const struct env *);
/* env: borrowed until the transport is closed.  0 or -ENOMEM. */
void conn_attach(struct transport *, struct relay *);
/* Tells it whom to wake when the session writes by itself, and whose share bounds its writer. */

#endif
