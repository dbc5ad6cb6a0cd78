/* base/clock - one clock for deadlines: CLOCK_MONOTONIC, in milliseconds.
 * It is the same in every process of a host, so CCF_ACCEPTED carries it. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define CLOCK_NEVER INT64_MAX	/* the deadline that never comes */

int64_t clock_ms(void);
int64_t clock_us(void);		/* the same clock, for durations in logs */
int64_t clock_after(int64_t now, int64_t ms);
	/* now + ms; CLOCK_NEVER if ms is negative (no limit) or it would overflow */

#endif
