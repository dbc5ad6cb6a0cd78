/* loop/reactor - one epoll set, one thread.  A watch lies in its owner; the watch, not the number, is the
 * key, so a reused descriptor inherits nothing.  Level-triggered.  Only reactor.c calls epoll.
 * - a watch that wants nothing is out of the set, unless it asks for WATCH_HUP alone;
 * - a file that epoll refuses (EPERM) counts as always ready and takes its turn fairly;
 * - one that epoll has no memory for is polled a few times a second until it has;
 * - a watch that was forgotten is never reported, even in the batch under way;
 * - interest is applied once, just before the next wait: wanting and unwanting in one turn costs no call. */
#ifndef LOOP_REACTOR_H
#define LOOP_REACTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

enum {
	WATCH_READ = 1,
	WATCH_WRITE = 2,
	WATCH_HUP = 4,		/* want: be told of errors and hang-ups alone (a FIN is none) */
	WATCH_EDGE = 16,	/* want, beside READ: be called when something comes, not as long as it lasts: for who reads until
				 * there is no more, or calls himself again.  A change of interest reports what is there. */
	WATCH_ERR = 8,		/* got: EPOLLERR; reported with whatever else is there */
};

struct reactor;

struct watch {
	int fd;
	void (*ready)(struct watch *, uint32_t got);
				/* got: WATCH_* bits; HUP and ERR also set the READ/WRITE that was wanted */
	uint32_t want;		/* set by reactor_want only */
	/* private */
	uint32_t in_set;
	bool known, refused, lacks, dirty, queued;
	TAILQ_ENTRY(watch) link, changed;
};

struct task {			/* work for the end of this turn, or the next turn; lies in its owner */
	void (*run)(struct task *);
	/* private */
	uint8_t queued;
	unsigned ran;		/* the turn at whose end it ran last */
	TAILQ_ENTRY(task) link;
};

struct grave {			/* memory to be released when the turn is over; lies in its owner */
	void (*release)(struct grave *);
	TAILQ_ENTRY(grave) link;
};

struct timer {			/* a deadline; lies in its owner */
	void (*fire)(struct timer *);
	int64_t at;		/* clock_ms; set by reactor_timer only */
	unsigned slot;		/* private: place in the heap + 1; 0: not armed */
};

int reactor_new(struct reactor **ret);		/* 0 or -errno */
void reactor_free(struct reactor *);		/* buries what is left; watches and timers still armed are only dropped */

void reactor_watch(struct reactor *, struct watch *, int fd, void (*ready)(struct watch *, uint32_t));
	/* Begins with no interest.  fd is borrowed until reactor_forget. */
void reactor_want(struct reactor *, struct watch *, uint32_t want);	/* no system call here, none later if unchanged */
void reactor_forget(struct reactor *, struct watch *);
	/* Legal anywhere, also twice and on a zeroed watch.  Call it before close(fd). */
void reactor_bury(struct reactor *, struct grave *, void (*release)(struct grave *));

void reactor_later(struct reactor *, struct task *);
	/* Runs at the end of this turn, once; queueing twice is one.  A task that already ran at this turn's end
	 * goes to the next turn, so that no circle of tasks keeps a turn from ending. */
void reactor_again(struct reactor *, struct task *);	/* runs in the next turn, which then does not wait */
void reactor_drop(struct reactor *, struct task *);	/* takes it out of whichever queue; legal when in none */

int reactor_timer(struct reactor *, struct timer *, int64_t at);
	/* Arms or moves; CLOCK_NEVER cancels.  O(log n).  0 or -ENOMEM (arming only).  Within a fire() the
	 * earliest is the next millisecond: a timer that arms itself for the past cannot keep a turn from ending. */

int64_t reactor_now(const struct reactor *);	/* clock_ms as of this turn's return from waiting */
int reactor_run(struct reactor *);
	/* Turns until reactor_stop.  Order of a turn: apply interest, wait, watches, timers, again-tasks of
	 * the last turn, later-tasks (those queued meanwhile too), burials.  0 or -errno of epoll_wait. */
int reactor_turn(struct reactor *, int64_t wait_ms);	/* one turn; for tests.  wait_ms < 0: as long as it takes */
void reactor_stop(struct reactor *);

#endif
