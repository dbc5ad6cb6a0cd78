/* All that was ever put is one line of bytes, and everything is a place on it: where messages end,
 * where chunks begin, how far was written and acknowledged.  Messages of bytes alone share chunks;
 * one with a range has its own, so that it can be taken out. */
#include "flow/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "flow/range.h"

#define SHARE	   (1024 * 1024) /* bytes written at once */
#define IOVS	   64
#define CHUNK_MIN  2048 /* with its head; each next one is twice the size */
#define CHUNK_MAX  (64 * 1024)
#define ENDS_FIRST 16
#define PLACE_MAX  ((uint64_t)1 << 62) /* of the line: no sum of its places overflows */

struct outbox_chunk {
	TAILQ_ENTRY(outbox_chunk) link;
	enum { BYTES, RANGE, MARK } kind;
	uint64_t at, len; /* its place on the line */
	uint64_t
	    ranged_end; /* a message with ranges begins with this chunk and ends there; 0: no */
	size_t cap;	/* of a chunk to which messages may be added; 0: of any other */
	struct range *range;
	char bytes[];
};

/* ---- places ---- */

static uint64_t
place_written(const struct outbox *o)
{
	return o->base + o->written;
}

static uint64_t
end_of(const struct outbox *o, uint64_t i)
{
	return o->ends[(o->ends_at + i) & (o->ends_cap - 1)];
}

static uint64_t
start_of(const struct outbox *o, uint64_t i)
{
	return i ? end_of(o, i - 1) : o->front;
}

static int
ends_room(struct outbox *o)
{
	size_t cap = o->ends_cap ? 2 * o->ends_cap : ENDS_FIRST;
	uint64_t *ends;

	if (o->waiting < o->ends_cap)
		return 0;
	ends = malloc(cap * sizeof(*ends));
	if (!ends)
		return -ENOMEM;
	for (uint64_t i = 0; i < o->waiting; i++)
		ends[i] = end_of(o, i);
	free(o->ends);
	o->ends = ends;
	o->ends_at = 0;
	o->ends_cap = cap;
	return 0;
}

static void
ends_free(struct outbox *o)
{
	free(o->ends);
	o->ends = NULL;
	o->ends_at = o->ends_cap = 0;
}

/* ---- chunks ---- */

static struct outbox_chunk *
chunk_new(int kind, size_t bytes)
{
	struct outbox_chunk *c = malloc(sizeof(*c) + bytes);

	if (c) {
		*c = (struct outbox_chunk){ 0 };
		c->kind = kind;
	}
	return c;
}

/* A range comes (+1) or goes (-1). */
static void
count_range(struct outbox *o, const struct outbox_chunk *c, int by)
{
	if (!c->range)
		return;
	o->ranges += (unsigned)by;
	if (c->range->spooled)
		o->spooled += by > 0 ? c->len : -c->len;
}

static void
chunk_free(struct outbox_chunks *of, struct outbox_chunk *c)
{
	TAILQ_REMOVE(of, c, link);
	range_free(c->range);
	free(c);
}

static void
chunks_free(struct outbox_chunks *of)
{
	struct outbox_chunk *c;

	while ((c = TAILQ_FIRST(of)))
		chunk_free(of, c);
}

static void
chunk_gone(struct outbox *o, struct outbox_chunk *c)
{
	count_range(o, c, -1);
	chunk_free(&o->chunks, c);
}

void
outbox_init(struct outbox *o)
{
	*o = (struct outbox){ 0 };
	TAILQ_INIT(&o->chunks);
}

/* Nothing waits any more. */
static void
outbox_clear(struct outbox *o)
{
	chunks_free(&o->chunks);
	ends_free(o);
	o->waiting = o->begun = 0;
	o->unwritten = o->marks = o->ranges = 0;
	o->spooled = 0;
	o->stale = false;
	o->next = NULL;
	o->front = o->put;
	o->base = o->put - o->written;
}

void
outbox_free(struct outbox *o)
{
	chunks_free(&o->chunks);
	ends_free(o);
	outbox_init(o);
}

/* ---- a message more ---- */

static void
chunks_add(struct outbox *o, struct outbox_chunks *fresh)
{
	if (!o->next)
		o->next = TAILQ_FIRST(fresh);
	TAILQ_CONCAT(&o->chunks, fresh, link);
}

static void
copy_in(struct outbox *o, struct outbox_chunk *c, const struct piece *p, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const char *from = p[i].bytes;
		size_t left = from ? p[i].len : 0;

		while (left > 0) {
			size_t some;

			if (c->len == c->cap)
				c = TAILQ_NEXT(c, link);
			if (c->len == 0)
				c->at = o->put;
			some = MIN(left, c->cap - c->len);
			memcpy(c->bytes + c->len, from, some);
			c->len += some;
			o->put += some;
			from += some;
			left -= some;
		}
	}
}

static int
put_bytes(struct outbox *o, const struct piece *p, unsigned n, uint64_t total)
{
	struct outbox_chunks fresh = TAILQ_HEAD_INITIALIZER(fresh);
	struct outbox_chunk *c, *last = TAILQ_LAST(&o->chunks, outbox_chunks);
	uint64_t room = last && last->cap ? last->cap - last->len : 0;
	size_t size = last && last->cap ? 2 * (sizeof(*c) + last->cap) : CHUNK_MIN;

	if (room == 0)
		last = NULL;
	for (; room < total; room += c->cap, size *= 2) {
		size = MIN(size, CHUNK_MAX);
		c = chunk_new(BYTES, size - sizeof(*c));
		if (!c) {
			chunks_free(&fresh);
			return -ENOMEM;
		}
		c->cap = size - sizeof(*c);
		TAILQ_INSERT_TAIL(&fresh, c, link);
	}
	if (!last)
		last = TAILQ_FIRST(&fresh);
	else if (!o->next)
		o->next = last;
	chunks_add(o, &fresh);
	copy_in(o, last, p, n);
	o->unwritten += total;
	return 0;
}

static struct outbox_chunk *
piece_chunk(const struct piece *p)
{
	struct outbox_chunk *c = chunk_new(p->bytes ? BYTES : RANGE, p->bytes ? p->len : 0);

	if (!c)
		return NULL;
	if (p->bytes) {
		c->len = p->len;
		memcpy(c->bytes, p->bytes, p->len);
	} else {
		c->len = p->range->len;
		c->range = range_keep(p->range);
	}
	return c;
}

static uint64_t
piece_len(const struct piece *p)
{
	return p->bytes ? p->len : p->range ? p->range->len : 0;
}

static int
put_ranged(struct outbox *o, const struct piece *p, unsigned n, uint64_t total)
{
	struct outbox_chunks fresh = TAILQ_HEAD_INITIALIZER(fresh);
	struct outbox_chunk *c;
	uint64_t at = o->put;
	size_t memory = 0;

	for (unsigned i = 0; i < n; i++) {
		if (piece_len(&p[i]) == 0)
			continue;
		c = piece_chunk(&p[i]);
		if (!c) {
			chunks_free(&fresh);
			return -ENOMEM;
		}
		c->at = at;
		at += c->len;
		memory += c->kind == BYTES ? c->len : 0;
		TAILQ_INSERT_TAIL(&fresh, c, link);
	}
	TAILQ_FIRST(&fresh)->ranged_end = o->put + total;
	TAILQ_FOREACH(c, &fresh, link)
		count_range(o, c, 1);
	chunks_add(o, &fresh);
	o->put += total;
	o->unwritten += memory;
	return 0;
}

int
outbox_put(struct outbox *o, const struct piece *p, unsigned n)
{
	uint64_t total = 0;
	bool ranged = false;
	int rc;

	for (unsigned i = 0; i < n; i++) {
		if (piece_len(&p[i]) > PLACE_MAX - o->put - total)
			return -EOVERFLOW;
		total += piece_len(&p[i]);
		ranged = ranged || (!p[i].bytes && p[i].range);
	}
	if (total == 0)
		return -EINVAL;
	rc = ends_room(o);
	if (rc == 0)
		rc = ranged ? put_ranged(o, p, n, total) : put_bytes(o, p, n, total);
	if (rc < 0)
		return rc;
	o->ends[(o->ends_at + o->waiting) & (o->ends_cap - 1)] = o->put;
	o->waiting++;
	o->taken++;
	o->bytes_taken += total;
	return 0;
}

/* ---- marks ---- */

int
outbox_mark(struct outbox *o)
{
	struct outbox_chunks fresh = TAILQ_HEAD_INITIALIZER(fresh);
	struct outbox_chunk *c = TAILQ_LAST(&o->chunks, outbox_chunks);

	if (c && c->kind == MARK)
		return 0; /* nothing was put since */
	c = chunk_new(MARK, 0);
	if (!c)
		return -ENOMEM;
	c->at = o->put;
	TAILQ_INSERT_TAIL(&fresh, c, link);
	chunks_add(o, &fresh);
	o->marks++;
	return 0;
}

bool
outbox_at_mark(const struct outbox *o)
{
	return o->next && o->next->kind == MARK;
}

void
outbox_pass(struct outbox *o)
{
	struct outbox_chunk *c = o->next;

	while (c && c->kind != MARK)
		c = TAILQ_NEXT(c, link);
	if (!c)
		return;
	if (o->next == c)
		o->next = TAILQ_NEXT(c, link);
	chunk_free(&o->chunks, c);
	o->marks--;
}

/* ---- writing ---- */

bool
outbox_in_message(const struct outbox *o)
{
	return o->begun > 0 && end_of(o, o->begun - 1) > place_written(o);
}

bool
outbox_wants(const struct outbox *o)
{
	return o->next && o->next->kind != MARK;
}

void
outbox_begin(struct outbox *o)
{
	struct outbox_chunk *c;

	o->again = MAX(o->again, place_written(o));
	o->base = o->front;
	o->written = o->acked = 0;
	o->begun = o->here = 0;
	o->stale = false;
	o->next = TAILQ_FIRST(&o->chunks);
	o->unwritten = 0;
	TAILQ_FOREACH(c, &o->chunks, link) {
		if (c->kind == BYTES)
			o->unwritten += c->at + c->len - MAX(c->at, o->front);
	}
}

static void
outbox_wrote(struct outbox *o, size_t n)
{
	uint64_t place, start;

	o->written += n;
	place = place_written(o);
	while (o->next && o->next->kind != MARK && o->next->at + o->next->len <= place)
		o->next = TAILQ_NEXT(o->next, link);
	for (; o->begun < o->waiting; o->begun++) {
		start = start_of(o, o->begun);
		if (start >= place)
			break;
		o->resent += start < o->again;
	}
}

/* A range of the message that begins with c, if one of its files has shrunk, or cannot be asked. */
static struct range *
shrunk(struct outbox_chunk *c)
{
	uint64_t end = c->ranged_end;

	for (; c && c->at < end; c = TAILQ_NEXT(c, link)) {
		if (c->range && range_check(c->range) < 0)
			return c->range;
	}
	return NULL;
}

/* Whether a message with ranges is the next to be written, and nothing of it was. */
static bool
ranged_begins(const struct outbox *o, const struct outbox_chunk *c)
{
	return c->ranged_end && c->at >= place_written(o);
}

/* Takes the next message to be written off the line, and moves up what lies before it.  Its chunk
 * is o->next, and no byte of it counts as written. */
static void
drop_next(struct outbox *o, struct range *why)
{
	uint64_t end = o->next->ranged_end, len = end - o->next->at, i;
	struct outbox_chunk *c;

	range_keep(why);
	while ((c = o->next) && c->at < end) {
		o->next = TAILQ_NEXT(c, link);
		if (c->kind == BYTES)
			o->unwritten -= c->len;
		chunk_gone(o, c);
	}
	TAILQ_FOREACH(c, &o->chunks, link) {
		if (c == o->next)
			break;
		c->at += len;
		c->ranged_end += c->ranged_end ? len : 0;
	}
	for (i = o->begun; i > 0; i--)
		o->ends[(o->ends_at + i) & (o->ends_cap - 1)] = end_of(o, i - 1) + len;
	o->ends_at = (o->ends_at + 1) & (o->ends_cap - 1);
	o->front += len;
	o->base += len;
	o->waiting--;
	if (end <= o->again)
		o->unknown++; /* a descriptor before may have brought it there */
	else
		o->dropped++;
	if (o->waiting == 0)
		ends_free(o);
	if (o->lost)
		o->lost(o, why);
	range_free(why);
}

/* What can go out with one call, before the place `stop`; ret_more: a range follows at once. */
static int
gather(const struct outbox *o, uint64_t stop, size_t most, struct iovec iov[IOVS], bool *ret_more)
{
	struct outbox_chunk *c = o->next;
	uint64_t at = place_written(o);
	int n = 0;

	stop = MIN(stop, at + most);
	*ret_more = false;
	for (; c && c->kind != MARK && at < stop && n < IOVS; c = TAILQ_NEXT(c, link)) {
		if (n > 0 && ranged_begins(o, c) && shrunk(c))
			break;
		if (c->kind == RANGE) {
			*ret_more = true;
			break;
		}
		iov[n].iov_base = c->bytes + (at - c->at);
		iov[n].iov_len = MIN(c->at + c->len, stop) - at;
		at += iov[n++].iov_len;
	}
	return n;
}

static int
write_bytes(struct outbox *o, int fd, uint64_t stop, size_t *share)
{
	struct iovec iov[IOVS];
	bool more;
	struct msghdr msg = { .msg_iov = iov,
		.msg_iovlen = (size_t)gather(o, stop, *share, iov, &more) };
	size_t all = 0;
	ssize_t n;

	for (size_t i = 0; i < msg.msg_iovlen; i++)
		all += iov[i].iov_len;
	n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	o->unwritten -= (size_t)n;
	*share -= (size_t)n;
	outbox_wrote(o, (size_t)n);
	return (size_t)n < all ? -EAGAIN : 0;
}

/* An error of sendfile: can the byte be read that was to go out?  EINVAL: the file knows no
 * sendfile (FUSE, /sys); no socket of ours says that. */
static bool
is_of_the_file(int fd, off_t at, int error)
{
	char byte;

	return error == EINVAL || pread(fd, &byte, 1, at) != 1;
}

static int
write_range(struct outbox *o, int fd, size_t *share)
{
	struct outbox_chunk *c = o->next;
	uint64_t done = place_written(o) - c->at;
	off_t at = c->range->offset + (off_t)done;
	ssize_t n = sendfile(fd, c->range->fd, &at, MIN(c->len - done, *share));
	int error = n < 0 ? errno : 0;

	if (error == EINTR)
		return 0;
	if (n == 0 || (error && error != EAGAIN && is_of_the_file(c->range->fd, at, error))) {
		o->stale = true;
		return -ESTALE;
	}
	if (n < 0)
		return -error;
	*share -= (size_t)n;
	outbox_wrote(o, (size_t)n);
	return 0;
}

int
outbox_write(struct outbox *o, int fd, bool only_begun)
{
	uint64_t stop = UINT64_MAX;
	size_t share = SHARE;
	struct range *r;
	int rc;

	if (only_begun)
		stop = outbox_in_message(o) ? end_of(o, o->begun - 1) : 0;
	while (outbox_wants(o) && place_written(o) < stop) {
		if (share == 0)
			return 1;
		if (ranged_begins(o, o->next) && (r = shrunk(o->next))) {
			drop_next(o, r);
			continue;
		}
		rc = o->next->range ? write_range(o, fd, &share) : write_bytes(o, fd, stop, &share);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- what has become of it ---- */

/* The first n messages are no more. */
static void
let_go(struct outbox *o, uint64_t n)
{
	struct outbox_chunk *c;

	o->front = end_of(o, n - 1);
	o->ends_at = (o->ends_at + n) & (o->ends_cap - 1);
	o->begun -= n;
	o->waiting -= n;
	while ((c = TAILQ_FIRST(&o->chunks)) && c->kind != MARK && c->at + c->len <= o->front)
		chunk_gone(o, c);
	if (o->waiting == 0)
		ends_free(o);
}

uint64_t
outbox_acknowledge(struct outbox *o, uint64_t acked)
{
	uint64_t n = 0, place;

	o->acked = MAX(o->acked, MIN(acked, o->written));
	place = o->base + o->acked;
	while (n < o->begun && end_of(o, n) <= place)
		n++;
	if (n == 0)
		return 0;
	o->bytes_delivered += end_of(o, n - 1) - o->front;
	o->delivered += n;
	o->here += n;
	let_go(o, n);
	return n;
}

void
outbox_settle(struct outbox *o)
{
	outbox_acknowledge(o, o->written);
}

/* Of the first n: written whole, if not here then on an earlier descriptor. */
static uint64_t
written_whole(const struct outbox *o, uint64_t n)
{
	uint64_t place = MAX(o->again, place_written(o)), i = 0;

	while (i < n && end_of(o, i) <= place)
		i++;
	return i;
}

/* The message under way cannot be written, here or on any other descriptor. */
static void
drop_stale(struct outbox *o)
{
	bool begun = outbox_in_message(o);
	uint64_t start = begun ? start_of(o, o->begun - 1) : place_written(o);
	struct outbox_chunk *c;
	struct range *why = o->next->range;

	TAILQ_FOREACH(c, &o->chunks, link) {
		if (c->kind != MARK && c->at >= start)
			break;
	}
	o->next = c;
	o->begun -= begun;
	o->written = start - o->base;
	drop_next(o, why);
}

void
outbox_break(struct outbox *o, enum outbox_keep keep, struct outbox_fate *ret)
{
	bool stale = o->stale && (keep == OUTBOX_KEEP_ALL ||
				     (keep == OUTBOX_KEEP_UNWRITTEN && !outbox_in_message(o)));
	uint64_t lost = keep == OUTBOX_KEEP_ALL	   ? 0
			: keep == OUTBOX_KEEP_NONE ? o->waiting
						   : o->begun;
	struct outbox_fate fate = { .delivered = o->here };

	while (o->marks)
		outbox_pass(o);
	if (stale)
		drop_stale(o);
	fate.kept = o->waiting - lost;
	fate.unknown = written_whole(o, lost);
	fate.dropped = lost - fate.unknown;
	o->unknown += fate.unknown;
	o->dropped += fate.dropped;
	if (fate.kept == 0)
		outbox_clear(o);
	else if (lost > 0)
		let_go(o, lost);
	outbox_begin(o);
	if (ret)
		*ret = fate;
}

uint64_t
outbox_drop(struct outbox *o)
{
	uint64_t n = o->waiting;

	o->dropped += n;
	outbox_clear(o);
	return n;
}
