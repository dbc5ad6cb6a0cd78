/* loop/signals - signals as events: blocked, read from a signalfd by the reactor.  SIGPIPE is ignored. */
#ifndef LOOP_SIGNALS_H
#define LOOP_SIGNALS_H

#include <signal.h>
#include "loop/reactor.h"

struct signals {
	struct watch watch;
	struct reactor *reactor;
	void (*on)(struct signals *, int signo);	/* never called for SIGCHLD, which loop/children takes */
	void *arg;
	struct children *children;			/* may be NULL */
	sigset_t blocked;				/* private: what signals_close unblocks */
};

int signals_open(struct signals *, struct reactor *, const int *list, size_t n,
    void (*on)(struct signals *, int), void *arg);	/* SIGCHLD is always among them.  0 or -errno */
void signals_close(struct signals *);			/* unblocks them again; legal twice and on a zeroed one */

#endif
