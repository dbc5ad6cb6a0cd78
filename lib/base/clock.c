/* base/clock - see clock.h. */
#include <time.h>

#include "base/clock.h"

int64_t
clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
clock_ms(void)
{
	return clock_us() / 1000;
}

int64_t
clock_after(int64_t now, int64_t ms)
{
	int64_t at;

	if (ms < 0 || __builtin_add_overflow(now, ms, &at))
		return CLOCK_NEVER;
	return at;
}
