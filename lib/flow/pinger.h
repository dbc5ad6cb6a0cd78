/* flow/pinger - round trips by an echo peer: what a ping carries, and which are still out. */
#ifndef FLOW_PINGER_H
#define FLOW_PINGER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "loop/reactor.h"
#include "wire/frame.h"

#define PINGER_MAX  1024 /* out at once */
#define PINGER_SIZE 16   /* bytes of the payload: u64 of this process (random), u64 number; little-endian */

struct ping;

struct pinger {
	struct reactor *reactor;
	int64_t timeout; /* ms; -1: none */
	void (*lost)(void *arg, const char *id, size_t len, const char *why); /* "no answer in 3s", or what pinger_fail was told */
	void *arg;
	/* private */
	uint64_t key, last;
	unsigned n;
	TAILQ_HEAD(, ping) out; /* oldest first */
	struct timer timer;
};

int pinger_open(struct pinger *, struct reactor *); /* what stands above `private` is set before.  0 or -errno (getrandom) */
void pinger_close(struct pinger *);                 /* without a word; legal on a zeroed one */
int pinger_new(struct pinger *, const char *id, size_t len, char payload[PINGER_SIZE]);
/* One more is out.  0; -ENOBUFS: PINGER_MAX are; -ENOMEM */
bool pinger_match(struct pinger *, const char *id, size_t len, const void *payload, size_t payload_len, int64_t *ret_us);
/* The answer to one that is out, from whom it went to: how long it took.  false: it is none of ours */
void pinger_fail(struct pinger *, const char *id, size_t len, const char *why); /* none that went there will be answered: lost()
										   for each */

#endif
