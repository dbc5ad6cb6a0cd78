/* loop/children - processes we started, each waited for by its own pid.  vfork underneath, so starting one
 * costs the same however large we are. */
#ifndef LOOP_CHILDREN_H
#define LOOP_CHILDREN_H

#include <sys/resource.h>
#include <sys/tree.h>
#include <sys/types.h>
#include "loop/reactor.h"

struct signals;

struct child {				/* lies in its owner until exited() was called or child_abandon */
	pid_t pid;
	void (*exited)(struct child *, int wait_status);
	RB_ENTRY(child) node;		/* private */
};

struct children {
	RB_HEAD(child_tree, child) tree;
	struct rlimit found;		/* the descriptor limit a COMMAND gets back */
	unsigned live;			/* started, and neither reaped nor abandoned yet */
};

struct spawn {
	char *const *argv;		/* argv[0] is looked up in PATH */
	char *const *envp;
	int in, out;			/* borrowed: the caller closes its own; made blocking first */
	int at;				/* 0: they become 0 and 1.  6: they become 6 and 7, and 0 and 1 stay as they are */
};

void children_open(struct children *, struct signals *, const struct rlimit *found);
int children_start(struct children *, struct child *, const struct spawn *, void (*exited)(struct child *, int));
	/* The child has default dispositions, an empty mask, the limits we found, and nothing open but 0, 1, 2 (6, 7).
	 * 0; else -errno of vfork or exec (ENOENT: not found; the child is already reaped). */
int children_fork(struct children *, struct child *, void (*exited)(struct child *, int));
	/* A process that goes on with this program.  In it: 0, default dispositions but for SIGPIPE (ignored), an empty
	 * mask, and a tree without children; every descriptor is still open.  Here: its pid, or -errno. */
void children_adopt(struct children *, struct child *, pid_t, void (*exited)(struct child *, int));
	/* One that this process started before it exec'd itself.  Call children_reap when all are adopted. */
void children_reap(struct children *);		/* SIGCHLD came: waits for each of ours that is done, calls exited */
void child_abandon(struct children *, struct child *);	/* its end will be reaped and told to nobody */
int children_become(const struct rlimit *found, int keep, char *const *argv, char *const *envp);
	/* exec in place, dispositions, mask and limits as above; descriptors 0, 1, 2, 6, 7 stay, the latter two
	 * made blocking, and keep (-1: none).  Returns only -errno, with every descriptor still open. */
int child_exit_status(int wait_status);		/* as a shell says it: code, or 128 + signal */

#endif
