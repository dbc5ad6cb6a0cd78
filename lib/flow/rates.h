/* flow/rates - how many datagrams a second are taken: from a peer (address and port), from a host (address; IPv6: 64 bits of it),
 * and in all.  The table is bounded: of those it has no room for, the longest silent is forgotten, and begins anew. */
#ifndef FLOW_RATES_H
#define FLOW_RATES_H

#include "net/bucket.h"
#include "net/peers.h"

#define RATES_KNOWN 65536 /* peers and hosts remembered; those silent for a second need not be */

struct rates_config {
	int64_t peer, host, all; /* datagrams a second; 0: no limit */
};

struct rates {
	struct rates_config cfg;
	struct bucket all;
	struct peers known; /* in struct rated */
};

void rates_open(struct rates *, const struct rates_config *);
void rates_close(struct rates *);
const char *rates_take(struct rates *, const struct datagram *, int64_t now_us);
/* NULL: it may come in, and is counted against each.  Else which limit it is over, as metrics.h says it: "rate", "rate-host",
 * "rate-all" ("no-memory": nothing can be remembered about a newcomer); then nothing was taken from any. */

#endif
