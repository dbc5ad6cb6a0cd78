/* flow/budget - how many bytes one process holds in memory for all its connections, in either direction, against one bound
 * (--max-buffered), with fair shares inside it.
 * - A connection's share is max(BUDGET_LEAST, bound / live connections).  At its share it stops reading what would add to it;
 *   what is taken is always written, so nobody ever waits for the budget but by not being read.
 * - At the bound everybody's share is BUDGET_LEAST, and connections whose output has not moved for --flush-timeout are cut,
 *   longest first, until it is below.  "At" is from 15/16 up (lanes stop when less than a sixteenth of a share is left) to
 *   below 7/8.  So the most that is ever held is about max(bound, live * BUDGET_LEAST), a third more where records that are
 *   read ahead are larger than what is left of a share, what sessions write beyond, and of each connection a request's head
 *   that is not whole yet (--max-head-size: a smaller share would keep it from ever being).
 * Counted is what was allocated: what lanes keep, what tls/bio keeps unsent or has read ahead (ciphertext: 22 bytes more a
 * record), a session's writer.  Not counted: what OpenSSL has of a record that is not yet whole or not read to its end (at
 * most 17 KiB a connection), its state, the two buffers that all connections share, and what lies in the kernel: socket
 * buffers (tcp_mem) and the pipes of splice (flow/pipes). */
#ifndef FLOW_BUDGET_H
#define FLOW_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "loop/reactor.h"

#define BUDGET_LEAST (16 * 1024)

struct charge;

struct charge_ops {
	void (*wake)(struct charge *); /* the share has grown: what budget_stop told of may go on */
	int64_t (*unsent)(const struct charge *); /* what its peer has not acknowledged; a system call */
	void (*slow)(struct charge *); /* cut it: has left the budget when this returns; no other may leave by it */
};

struct charge { /* one connection's; lies in its owner, zeroed before budget_join */
	struct budget *of; /* NULL: nothing is bounded, and every call is legal */
	const struct charge_ops *ops;
	size_t held;
	/* private */
	int64_t moved_at; /* when output moved last, or it began to hold */
	int64_t unsent;
	bool looked, stopped;
	TAILQ_ENTRY(charge) holds, stops;
};

struct budget {
	size_t max, held; /* bytes */
	unsigned live;
	uint64_t slow; /* connections that were cut */
	void (*eased)(struct budget *); /* it is below again; may be NULL */
	/* private */
	struct reactor *reactor;
	int64_t flush;
	size_t share, low; /* low: the smallest since the last waking */
	bool full;
	TAILQ_HEAD(charges, charge) holding; /* whose output has not moved the longest first */
	struct charges stopped;
	struct timer look;
	struct task wake;
};

void budget_open(struct budget *, struct reactor *, size_t max, int64_t flush);
/* max in bytes; flush in ms, -1: nobody is cut for being slow.  One line in the log per crossing (summed). */
void budget_close(struct budget *); /* nobody may be left in it */
bool budget_room(const struct budget *); /* not twice the bound: more connections may be taken */

void budget_join(struct budget *, struct charge *, const struct charge_ops *); /* budget NULL: as without one */
void budget_leave(struct charge *); /* returns what it holds; legal twice */
void budget_hold(struct charge *, size_t held, bool moved);
/* What it holds now, all of it; moved: its output has since the last time.  No system call. */
size_t budget_share(const struct charge *); /* what it may hold: SIZE_MAX without a budget */
void budget_stop(struct charge *); /* it does not read for want of share: wake() tells when that has grown by an eighth */

#endif
