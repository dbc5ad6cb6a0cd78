/* loop/timers - a binary heap by deadline.  Place 0 is the earliest; a timer's slot is its place
 * + 1. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "loop/reactor.h"
#include "loop/timers.h"

static void
put(struct timers *h, size_t place, struct timer *t)
{
	h->heap[place] = t;
	t->slot = (unsigned)place + 1;
}

/* t goes into the hole at place, or wherever above or below it belongs. */
static void
settle(struct timers *h, size_t place, struct timer *t)
{
	while (place > 0 && h->heap[(place - 1) / 2]->at > t->at) {
		put(h, place, h->heap[(place - 1) / 2]);
		place = (place - 1) / 2;
	}
	for (;;) {
		size_t child = 2 * place + 1;

		if (child + 1 < h->n && h->heap[child + 1]->at < h->heap[child]->at)
			child++;
		if (child >= h->n || h->heap[child]->at >= t->at)
			break;
		put(h, place, h->heap[child]);
		place = child;
	}
	put(h, place, t);
}

int
timers_set(struct timers *h, struct timer *t, int64_t at)
{
	if (at == CLOCK_NEVER) {
		timers_cancel(h, t);
		return 0;
	}
	if (!t->slot && h->n == h->cap) {
		size_t cap = h->cap ? 2 * h->cap : 32;
		struct timer **heap = reallocarray(h->heap, cap, sizeof(struct timer *));

		if (!heap)
			return -ENOMEM;
		h->heap = heap;
		h->cap = cap;
	}
	t->at = at;
	settle(h, t->slot ? t->slot - 1 : h->n++, t);
	return 0;
}

void
timers_cancel(struct timers *h, struct timer *t)
{
	size_t place = t->slot - 1;

	if (!t->slot)
		return;
	t->slot = 0;
	t->at = CLOCK_NEVER;
	h->n--;
	if (place != h->n)
		settle(h, place, h->heap[h->n]);
}

int64_t
timers_next(const struct timers *h)
{
	return h->n ? h->heap[0]->at : CLOCK_NEVER;
}

struct timer *
timers_due(struct timers *h, int64_t now)
{
	struct timer *t = h->n ? h->heap[0] : NULL;

	if (!t || t->at > now)
		return NULL;
	timers_cancel(h, t);
	return t;
}

void
timers_free(struct timers *h)
{
	while (h->n)
		h->heap[--h->n]->slot = 0;
	free(h->heap);
	*h = (struct timers){ 0 };
}
