/* timers: the heap against a sorted reference, and its edges. */
#include <stdlib.h>

#include "base/clock.h"
#include "check.h"
#include "loop/reactor.h"
#include "loop/timers.h"

#define N 300

/* The reference: the earliest deadline among those that are armed, found by looking at all. */
static int64_t
earliest(const struct timer *t, const int64_t *at)
{
	int64_t best = CLOCK_NEVER;

	for (int i = 0; i < N; i++) {
		if (t[i].slot && at[i] < best)
			best = at[i];
	}
	return best;
}

CASE(the_heap_agrees_with_a_sorted_reference)
{
	static struct timer t[N];
	static int64_t at[N];
	struct timers h = { 0 };
	struct timer *due;
	bool agree = true;

	srandom(1);
	for (int step = 0; step < 20000; step++) {
		int i = (int)(random() % N);

		if (random() % 4 == 0) {
			timers_cancel(&h, &t[i]);
			agree &= !t[i].slot;
		} else if (random() % 8 == 0) {
			int64_t now = random() % 1000;

			while ((due = timers_due(&h, now))) {
				agree &= !due->slot && at[due - t] <= now;
				agree &= timers_next(&h) >= at[due - t];
			}
			agree &= timers_next(&h) > now;
		} else {
			at[i] = random() % 1000;
			agree &= timers_set(&h, &t[i], at[i]) == 0 && t[i].at == at[i];
		}
		agree &= timers_next(&h) == earliest(t, at);
	}
	for (size_t i = 0; i < h.n; i++)
		agree &= h.heap[i]->slot == i + 1;
	CHECK(agree);
	timers_free(&h);
	for (int i = 0; i < N; i++)
		CHECK_INT(t[i].slot, 0);
}

CASE(an_empty_heap_has_no_deadline)
{
	struct timers h = { 0 };
	struct timer t = { 0 };

	CHECK(timers_next(&h) == CLOCK_NEVER);
	CHECK(!timers_due(&h, INT64_MAX));
	timers_cancel(&h, &t);
	timers_free(&h);
}

CASE(never_cancels_and_the_last_moment_is_due)
{
	struct timers h = { 0 };
	struct timer t = { 0 };

	CHECK_INT(timers_set(&h, &t, 5), 0);
	CHECK_INT(timers_set(&h, &t, CLOCK_NEVER), 0);
	CHECK_INT(h.n, 0);
	CHECK_INT(timers_set(&h, &t, 5), 0);
	CHECK(!timers_due(&h, 4));
	CHECK(timers_due(&h, 5) == &t);
	CHECK(!timers_due(&h, 5));
	timers_free(&h);
}

CASE(a_deadline_that_overflows_never_comes)
{
	CHECK_INT(clock_after(10, 5), 15);
	CHECK(clock_after(10, -1) == CLOCK_NEVER);
	CHECK(clock_after(INT64_MAX - 1, 5) == CLOCK_NEVER);
	CHECK(clock_ms() <= clock_us() / 1000);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(the_heap_agrees_with_a_sorted_reference),
	    RUN(an_empty_heap_has_no_deadline),
	    RUN(never_cancels_and_the_last_moment_is_due),
	    RUN(a_deadline_that_overflows_never_comes),
	    { 0 },
	});
}
