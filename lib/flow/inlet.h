/* flow/inlet - lines from a descriptor that may be anything (its O_NONBLOCK is never touched), one at a time, only as fast as
 * they are taken.  A line that is too long is told as such, and passed over. */
#ifndef FLOW_INLET_H
#define FLOW_INLET_H

#include <stdbool.h>
#include <stddef.h>

#include "loop/reactor.h"

struct transport;

struct inlet {
	struct reactor *reactor;
	size_t longest;  /* bytes of a line */
	bool (*line)(void *arg, char *line, size_t len);
	/* Without its newline; len bytes and one more may be written.  line NULL: one that was too long.  false: not now: the same
	 * line comes again, as it was, after inlet_resume (what was written into it is undone) */
	void (*end)(void *arg, int error);
	/* The end of input (0; a last line without a newline came before it as a line), or -errno of reading, and what came without
	 * a newline before that is no line.  Called once, from the reactor */
	void *arg;
	/* private */
	struct transport *from;
	struct watch watch;
	struct task task;
	char *buf, *copy;
	size_t at, seen, len, cap; /* no newline from at to seen, but perhaps just there */
	bool held, skipping, ended, over;
};

int inlet_open(struct inlet *, struct reactor *, int fd);
/* fd is borrowed.  What stands above `private` is set before.  0 or -ENOMEM */
void inlet_resume(struct inlet *); /* legal at any time */
void inlet_stop(struct inlet *);   /* no line more, and no end; legal twice and on a zeroed one */
void inlet_close(struct inlet *);

#endif
