/* net/bucket - each token taken moves the moment of being full on by what one takes to come back;
 * it may lie ahead by a second at most. */
#include "net/bucket.h"

#define US     10000 /* in tenths of a nanosecond: at the highest rate a token is 100 of them */
#define SECOND (1000000LL * US)

bool
bucket_has(const struct bucket *b, int64_t rate, int64_t now_us)
{
	return b->full_at - now_us * US <= SECOND - SECOND / rate;
}

void
bucket_take(struct bucket *b, int64_t rate, int64_t now_us)
{
	int64_t now = now_us * US;

	b->full_at = (b->full_at > now ? b->full_at : now) + SECOND / rate;
}

bool
bucket_full(const struct bucket *b, int64_t now_us)
{
	return b->full_at <= now_us * US;
}
