/* flow/outlet - lines to a descriptor that may be anything: a pipe, a file, a terminal, a socket (its O_NONBLOCK is never touched).
 * What is put is kept and written in the order it came, at the end of the turn or when it can be.  Bounded by who asks outlet_full
 * before each line; a line is never cut. */
#ifndef FLOW_OUTLET_H
#define FLOW_OUTLET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"
#include "loop/reactor.h"

struct transport;

#define OUTLET_HIGH (256 * 1024) /* bytes waiting: full from here on, until half of that is left */

struct outlet {
	struct reactor *reactor;
	void (*drained)(void *arg);         /* it was full, and is not any more */
	void (*empty)(void *arg);           /* all was written, after outlet_finish; perhaps at once, then from the reactor */
	void (*gone)(void *arg, int error); /* a write failed (EPIPE ...): called once, nothing is kept or taken any more, and
					     * nothing else is called */
	void *arg;
	/* private */
	struct transport *to;
	struct watch watch;
	struct task task;
	struct text waiting;
	size_t at;
	bool full, finishing, lost;
};

int outlet_open(struct outlet *, struct reactor *, int fd); /* fd is borrowed.  Callbacks are set before.  0 or -ENOMEM */
struct text *outlet_line(struct outlet *); /* add a line to it, newline and all, then */
void outlet_done(struct outlet *);         /* it is whole: written when the turn ends */
bool outlet_full(const struct outlet *);
void outlet_finish(struct outlet *);       /* nothing more will come: empty() when all has been written */
void outlet_close(struct outlet *);        /* what is still kept is lost; legal on a zeroed one */

#endif
