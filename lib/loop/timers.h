/* loop/timers - the binary heap under reactor_timer; a timer knows its slot. */
#ifndef LOOP_TIMERS_H
#define LOOP_TIMERS_H

#include <stddef.h>
#include <stdint.h>

struct timer;

struct timers {
	struct timer **heap;
	size_t n, cap;
};

int timers_set(struct timers *, struct timer *, int64_t at);	/* arms or moves; 0 or -ENOMEM */
void timers_cancel(struct timers *, struct timer *);		/* legal when not armed */
int64_t timers_next(const struct timers *);			/* CLOCK_NEVER when empty */
struct timer *timers_due(struct timers *, int64_t now);		/* takes out and returns one that is due, or NULL */
void timers_free(struct timers *);

#endif
