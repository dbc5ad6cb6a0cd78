/* flow/dial - an endpoint (net/endpoint) stepped by the reactor until it is connected or has failed, which is counted. */
#ifndef FLOW_DIAL_H
#define FLOW_DIAL_H

#include "loop/reactor.h"
#include "net/endpoint.h"

struct dialler { /* what a process's dials share: the reactor and one resolver */
	struct reactor *reactor;
	struct resolver *resolver; /* NULL until the first name */
	struct watch watch;
};

struct dial { /* lies in its owner; not moved while under way */
	struct endpoint ep;
	struct dialler *with;
	void (*done)(struct dial *); /* ep.state is CONNECTED (endpoint_take_fd) or a failure; called from the reactor */
	struct watch watch;
	struct timer timer;
	struct task begin, tell;
	struct lookup lookup;
	bool watching;
};

void dialler_open(struct dialler *, struct reactor *);
void dialler_close(struct dialler *);
void dial_start(struct dial *, struct dialler *, const struct endpoint_plan *, void (*done)(struct dial *));
/* done() never comes before this returns.  ep.trace, ep.note and ep.owner are NULL until the caller sets them. */
void dial_restart(struct dial *); /* after endpoint_again */
void dial_stop(struct dial *);	  /* at any time, also after done; closes what was not taken */

#endif
