/* net/bucket - a token bucket in eight bytes: the generic cell rate algorithm (ITU-T I.371), which keeps the moment at which the
 * bucket will be full again.  Up to one second's worth is saved; zeroed it is full.  Pure: the clock is the caller's. */
#ifndef NET_BUCKET_H
#define NET_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bucket {
	int64_t full_at; /* private: 0.1 ns; so the clock may go for 29 years */
};

#define BUCKET_RATE_MAX 100000000 /* a second */

bool bucket_has(const struct bucket *, int64_t rate, int64_t now_us); /* one may be taken now.  rate: tokens a second, from 1 */
void bucket_take(struct bucket *, int64_t rate, int64_t now_us);      /* takes one; after bucket_has */
bool bucket_full(const struct bucket *, int64_t now_us);	      /* nobody would notice if it were forgotten */

#endif
