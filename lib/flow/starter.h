/* flow/starter - who starts the COMMAND of a connection: this process (a tool with one connection, a master), or the
 * master of this worker (flow/worker). */
#ifndef FLOW_STARTER_H
#define FLOW_STARTER_H

#include <stdint.h>
#include <sys/tree.h>

#include "loop/children.h"

struct env;
struct starter;
struct started;

struct started_ops {
	void (*exited)(struct started *, int wait_status); /* once; it is over */
	void (*failed)(struct started *, int error);       /* it could not be run after all: -errno; it is over */
};

struct started {                /* a COMMAND that was asked for; lies in its owner, zeroed before it is used */
	const struct started_ops *ops;
	struct starter *by;     /* NULL: over, or never begun */
	struct child child;     /* here */
	uint64_t id;            /* at the master's */
	RB_ENTRY(started) node;
};

RB_HEAD(started_tree, started); /* by id: what a master runs for a worker, what a worker has asked for */
int started_cmp(const struct started *, const struct started *);
RB_PROTOTYPE(started_tree, started, node, started_cmp)
struct started *started_find(struct started_tree *, uint64_t id);

struct starter_ops {
	int (*start)(struct starter *, struct started *, const struct env *, int fd);
	/* fd (borrowed: the caller closes its own) becomes 0 and 1 of the COMMAND, or 6 and 7.  0; -errno: it cannot
	 * be run and nothing will be called.  Elsewhere that may be found out later: failed(). */
	void (*hold)(struct starter *, struct started *, int fd);
	/* fd (borrowed): our end of its stream, which must not end before hangup() has reached it.  NULL: it cannot. */
	void (*hangup)(struct starter *, struct started *);  /* SIGHUP; legal when it is over */
	void (*kill)(struct starter *, struct started *, int signo); /* SIGTERM or SIGKILL; legal when it is over */
	void (*abandon)(struct starter *, struct started *); /* its end interests nobody; legal when it is over */
};

struct starter {
	const struct starter_ops *ops;
};

struct starter_here {           /* this process starts it */
	struct starter starter;
	struct children *children;
	char *const *argv;
	int at;                 /* 0: the connection becomes 0 and 1; 6: it becomes 6 and 7, and 0 and 1 stay */
};

void starter_here_open(struct starter_here *, struct children *, char *const *argv, int at);

#endif
