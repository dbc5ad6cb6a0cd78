/* flow/echo - every datagram goes back to who sent it, from the address that was asked (RFC 862).  No state: an answer is never
 * longer than its question, and nothing is remembered of anybody. */
#ifndef FLOW_ECHO_H
#define FLOW_ECHO_H

#include "flow/receiver.h"

void echo_take(void *arg, struct receiver *, struct datagram *const *, unsigned n); /* receivers_config.take; arg is not used */

#endif
