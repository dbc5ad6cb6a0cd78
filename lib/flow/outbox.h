/* flow/outbox - messages on their way to one descriptor: bytes, ranges of files, marks, in order, and what has become of each.  A
 * message waits until it was written, and lies here until the other side's kernel has acknowledged it, so that after a break it is
 * known what arrived, what did not, and what nobody can know; and can be sent again.  Knows no reactor: it is asked to write. */
#ifndef FLOW_OUTBOX_H
#define FLOW_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

struct range;
struct outbox_chunk;

struct piece { /* of a message */
	const void *bytes; /* copied; NULL: range */
	size_t len;
	struct range *range; /* kept: one ref more */
};

struct outbox {
	/* messages: taken == delivered + dropped + unknown + waiting, always */
	uint64_t taken, delivered, dropped, unknown;
	uint64_t waiting;      /* not yet acknowledged: written or not */
	uint64_t resent;       /* written once more after a break; not a fate */
	uint64_t bytes_taken, bytes_delivered;
	/* of the descriptor it is written to now, in bytes since outbox_begin */
	uint64_t written, acked;
	size_t unwritten;      /* bytes of memory that wait to be written, for a bound (ranges count as nothing) */
	uint64_t spooled;      /* bytes of messages that wait, and lie in files of ours without a name (range.spooled) */
	unsigned ranges;       /* of messages that wait: a descriptor each */
	void (*lost)(struct outbox *, const struct range *); /* set by the owner, after outbox_init */
	/* private */
	TAILQ_HEAD(outbox_chunks, outbox_chunk) chunks;
	uint64_t *ends;        /* ring: where each waiting message ends, in bytes ever put */
	size_t ends_at, ends_cap;
	uint64_t put, base;    /* bytes ever put; the place in them where `written` began to count */
	uint64_t front, again; /* where the first waiting message begins; up to where an earlier descriptor was written */
	uint64_t begun, here;  /* messages: waiting, of which a byte was written; delivered since outbox_begin */
	struct outbox_chunk *next; /* to be written next */
	unsigned marks;
	bool stale;            /* the file of the message to be written next, or under way, failed */
};

struct outbox_fate { /* delivered: since outbox_begin; the others: what a break has found here */
	uint64_t delivered, dropped, unknown, kept;
};

void outbox_init(struct outbox *);
void outbox_free(struct outbox *); /* legal on a zeroed one */

int outbox_put(struct outbox *, const struct piece *, unsigned n);
/* A message, whole or not at all (a range's len is its own).  0; -ENOMEM; -EINVAL: it has no bytes; -EOVERFLOW: more than 2^62,
 * with all that was ever put */
int outbox_mark(struct outbox *);
/* Writing stops here until outbox_pass.  Nothing where a mark is the last thing put.  0 or -ENOMEM */
bool outbox_at_mark(const struct outbox *); /* all before the first mark was written (not: acknowledged) */
void outbox_pass(struct outbox *);

void outbox_begin(struct outbox *); /* a new descriptor: written and acked count from 0; the first waiting message is written
				       first */
int outbox_write(struct outbox *, int fd, bool only_begun);
/* Writes to a socket without waiting (MSG_DONTWAIT, MSG_NOSIGNAL; sendfile on a descriptor that is O_NONBLOCK), gathered, up to a
 * mark. only_begun: no more than the rest of a message that is partly written.  0: there is nothing more to be written now.  1:
 * there is, but this turn has had its share (1 MiB).  -EAGAIN: wait for writing.  -ESTALE: a file has shrunk, or cannot be read,
 * under a message that is partly written: the descriptor must be reset, and outbox_break drops that message.  A message whose file
 * has shrunk before its first byte was written is dropped here, counted (as unknown, if a descriptor before took it whole), and its
 * range given to lost() (may be NULL).  Else -errno */
bool outbox_in_message(const struct outbox *); /* a message is partly written */
bool outbox_wants(const struct outbox *);      /* there is something to write before the next mark */
uint64_t outbox_acknowledge(struct outbox *, uint64_t acked);
/* So many bytes of `written` have arrived (never fewer than before): lets go of the messages that ended there; how many they were
 * */
void outbox_settle(struct outbox *); /* written is delivered: for a local program, where there is nothing to wait for */
enum outbox_keep { OUTBOX_KEEP_NONE, OUTBOX_KEEP_ALL, OUTBOX_KEEP_UNWRITTEN };
void outbox_break(struct outbox *, enum outbox_keep, struct outbox_fate *ret);
/* The descriptor is gone (tell what was acknowledged first; written and acked are 0 then).  ret may be NULL.  Messages not
 * acknowledged: KEEP_ALL: all wait to be written again, and those of which a byte was written count as resent when that happens;
 * else those written whole, here or on a descriptor before, are unknown, the rest dropped (a partly written one too: it cannot have
 * arrived), but KEEP_UNWRITTEN: those of which no byte was written here wait for the next; marks go, too.  The one that -ESTALE was
 * about never waits: where it would, it is given to lost() as above, and no part of ret */
uint64_t outbox_drop(struct outbox *); /* drops all that wait, written or not, and the marks; how many messages they
					   were.  In mid-message the descriptor must be reset */

#endif
