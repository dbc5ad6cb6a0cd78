/* A bucket over simulated time: how fast it fills, how much it holds. */
#include "net/bucket.h"

#include "check.h"

#define SECOND 1000000LL

/* Takes while there is something; at most so many. */
static int64_t
drain(struct bucket *b, int64_t rate, int64_t now, int64_t most)
{
	int64_t n = 0;

	while (n < most && bucket_has(b, rate, now)) {
		bucket_take(b, rate, now);
		n++;
	}
	return n;
}

static bool
within_a_percent(int64_t n, int64_t of)
{
	return n >= of - of / 100 && n <= of + of / 100;
}

CASE(it_saves_one_second)
{
	static const int64_t rates[] = { 1, 2, 3, 7, 1000, 16384 };

	for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		struct bucket b = { 0 };

		CHECK_INT(drain(&b, rates[i], 0, 1 << 20), rates[i]);
		CHECK_INT(drain(&b, rates[i], 1000 * SECOND, 1 << 20), rates[i]);
		CHECK(!bucket_has(&b, rates[i], 1000 * SECOND));
	}
}

CASE(the_highest_rates_save_it_too)
{
	static const int64_t rates[] = { 999999, 1000001, 98765432, BUCKET_RATE_MAX };

	for (size_t i = 0; i < sizeof(rates) / sizeof(*rates); i++) {
		struct bucket b = { 0 };

		CHECK(within_a_percent(drain(&b, rates[i], 5, rates[i] * 2), rates[i]));
	}
}

/* What a greedy one gets in so many seconds after he has emptied it, asking every tick us. */
static int64_t
flow(int64_t rate, int64_t seconds, int64_t tick)
{
	struct bucket b = { 0 };
	int64_t start = 12345 * SECOND, n = 0;

	drain(&b, rate, start, rate * 2);
	for (int64_t t = tick; t <= seconds * SECOND; t += tick)
		n += drain(&b, rate, start + t, rate * 2);
	return n;
}

CASE(the_long_run_is_the_rate)
{
	CHECK_INT(flow(1, 1000, 1000), 1000);
	CHECK(within_a_percent(flow(3, 1000, 1000), 3000));
	CHECK(within_a_percent(flow(1000, 100, 100), 100000));
	CHECK(within_a_percent(flow(999999, 10, 7), 9999990));
	CHECK(within_a_percent(flow(98765432, 1, 3), 98765432));
	CHECK(within_a_percent(flow(BUCKET_RATE_MAX, 1, 3), BUCKET_RATE_MAX));
}

CASE(one_comes_back_when_its_time_has_come)
{
	struct bucket b = { 0 };

	CHECK_INT(drain(&b, 1000, SECOND, 2000), 1000);
	CHECK(!bucket_has(&b, 1000, SECOND + 999));
	CHECK(bucket_has(&b, 1000, SECOND + 1000));
	CHECK_INT(drain(&b, 1000, SECOND + 2500, 2000), 2);
	CHECK_INT(drain(&b, 1000, SECOND + 3000, 2000), 1); /* half of one was there */
}

CASE(full_is_as_if_it_were_new)
{
	struct bucket b = { 0 };

	CHECK(bucket_full(&b, 0));
	bucket_take(&b, 4, SECOND);
	CHECK(!bucket_full(&b, SECOND));
	CHECK(!bucket_full(&b, SECOND + SECOND / 4 - 1));
	CHECK(bucket_full(&b, SECOND + SECOND / 4));
	CHECK_INT(drain(&b, 4, SECOND + SECOND / 4, 100), 4);
	CHECK(bucket_full(&b, 2 * SECOND + SECOND / 4));
}

CASE(a_clock_that_steps_back_costs_that_step)
{
	struct bucket b = { 0 };

	CHECK_INT(drain(&b, 1000, 10 * SECOND, 600), 600);
	CHECK_INT(drain(&b, 1000, 10 * SECOND - 100000, 2000), 300);
	CHECK_INT(drain(&b, 1000, 10 * SECOND, 2000), 100);
	CHECK_INT(drain(&b, 1000, 11 * SECOND, 2000), 1000);
}

CASE(a_machine_may_be_up_for_years)
{
	int64_t year = 366 * 86400 * SECOND;
	struct bucket b = { 0 };

	CHECK_INT(drain(&b, 10, 29 * year, 100), 10);
	CHECK(!bucket_full(&b, 29 * year));
	CHECK_INT(drain(&b, 10, 29 * year + SECOND, 100), 10);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(it_saves_one_second),
	    RUN(the_highest_rates_save_it_too),
	    RUN(the_long_run_is_the_rate),
	    RUN(one_comes_back_when_its_time_has_come),
	    RUN(full_is_as_if_it_were_new),
	    RUN(a_clock_that_steps_back_costs_that_step),
	    RUN(a_machine_may_be_up_for_years),
	    { 0 },
	});
}
