/* flow/tap - a transport that shows what passes through another one: every byte read from it is told to a decoder first
 * (wire/decode), and nothing is changed.  While there is no room for lines it is not read.
 * For a relay that closes both its sides; inner reads and writes one descriptor. */
#ifndef FLOW_TAP_H
#define FLOW_TAP_H

#include <sys/queue.h>

#include "base/transport.h"
#include "wire/decode.h"

struct relay;
struct taps;

struct taps { /* what all taps of a process share */
	bool (*ready)(void *arg); /* may more be shown now?  taps_resume when that changes */
	void (*item)(void *arg, const char *conn, bool from_client, const struct decode_item *);
	void *arg;
	uint32_t max;             /* of N */
	/* private */
	TAILQ_HEAD(, tap) all;
};

void taps_open(struct taps *);
int tap_wrap(struct taps *, struct transport *inner, const char *conn, bool from_client, struct transport **ret);
/* inner is taken on success.  conn: copied, cut at 95 bytes.  0 or -ENOMEM */
void tap_attach(struct transport *, struct relay *); /* whom to kick when it may be read again */
void taps_resume(struct taps *);

#endif
