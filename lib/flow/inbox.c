/* What is read lies in one buffer of the process, and is delivered from there; what is left over
 * goes into memory of the inbox itself: the beginning of a frame, or everything behind a message
 * that is held.  The rest of a frame whose size is known is read to where it belongs, what follows
 * it into the buffer, with one call. */
#include "flow/inbox.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/text.h"
#include "flow/range.h"

static char shared[FRAME_HEAD_MAX + INBOX_READ];
static const struct inbox *stepping;

static size_t
rest_left(const struct inbox *in)
{
	return in->rest_len - in->rest_at;
}

static const char *
rest_bytes(const struct inbox *in)
{
	return in->rest ? in->rest + in->rest_at : "";
}

static void
rest_free(struct inbox *in)
{
	free(in->rest);
	in->rest = NULL;
	in->rest_at = in->rest_len = in->rest_cap = 0;
}

/* These bytes and no others, with room for `cap`. */
static void
rest_set(struct inbox *in, const char *at, size_t len, size_t cap)
{
	char *old = in->rest;

	in->rest = NULL;
	if (len > 0) {
		cap = MAX(cap, len);
		in->rest = malloc(cap);
		if (!in->rest) {
			in->error = -ENOMEM;
			len = cap = 0;
		} else
			memcpy(in->rest, at, len);
	}
	free(old);
	in->rest_at = 0;
	in->rest_len = len;
	in->rest_cap = len ? cap : 0;
}

/* More behind what lies there. */
static void
rest_add(struct inbox *in, const char *at, size_t len)
{
	char *all;

	if (in->rest_cap - in->rest_len < len) {
		all = realloc(in->rest, in->rest_len + len);
		if (!all) {
			in->error = -ENOMEM;
			return;
		}
		in->rest = all;
		in->rest_cap = in->rest_len + len;
	}
	memcpy(in->rest + in->rest_len, at, len);
	in->rest_len += len;
}

/* ---- a long payload ---- */

static void
long_failed(struct inbox *in, int error)
{
	in->file_error = error;
	range_free(in->range);
	in->range = NULL;
}

static void
long_open(struct inbox *in)
{
	char *name = NULL;
	int rc;

	if (in->large == INBOX_PASS)
		return;
	if (in->large == INBOX_SAVE &&
	    asprintf(&name, "%s-%llu", in->name, (unsigned long long)++in->files) < 0) {
		in->file_error = -ENOMEM;
		return;
	}
	rc = range_new(&in->range, name ? in->dir : NULL, name);
	if (rc < 0)
		in->file_error = rc;
	free(name);
}

static void
long_begin(struct inbox *in, const char *at, const struct frame *f)
{
	in->long_head = malloc(f->head);
	if (!in->long_head) {
		in->error = -ENOMEM;
		return;
	}
	memcpy(in->long_head, at, f->head);
	frame_parse(&in->frame, in->long_head, f->head, in->max, in->addressed);
	in->left = f->payload;
	long_open(in);
}

/* How many of these bytes belong to it. */
static size_t
long_more(struct inbox *in, const char *at, size_t len)
{
	int rc;

	len = MIN(len, in->left);
	in->left -= len;
	if (in->range && len > 0) {
		rc = range_write(in->range, at, len);
		if (rc < 0)
			long_failed(in, rc);
	}
	if (in->left == 0) {
		in->due = true;
		rc = in->range ? range_done(in->range) : 0;
		if (rc < 0)
			long_failed(in, rc);
	}
	return len;
}

static void
long_free(struct inbox *in)
{
	range_free(in->range);
	in->range = NULL;
	free(in->long_head);
	in->long_head = NULL;
	in->left = 0;
	in->due = false;
}

/* ---- messages ---- */

static bool
stopped(const struct inbox *in)
{
	return in->held || in->fault || in->error;
}

static bool
deliver(struct inbox *in, const struct message *m)
{
	in->held = !in->ops->ready(in);
	if (stopped(in))
		return false;
	in->judged = false;
	in->messages++;
	in->ops->message(in, m);
	return true;
}

static size_t
eat_long(struct inbox *in, const char *at, size_t len)
{
	struct message m = { .frame = in->frame };
	size_t n = long_more(in, at, len);

	if (!in->due)
		return n;
	m.raw = in->long_head + in->frame.at;
	m.range = in->range;
	if (deliver(in, &m))
		long_free(in);
	return n;
}

static void
judge(struct inbox *in, const struct frame *f)
{
	if (!in->judged)
		in->fault = in->ops->head(in, f);
	in->judged = true;
}

/* How many bytes are done with.  0: it goes no further with what there is. */
static size_t
eat_one(struct inbox *in, const char *at, size_t len)
{
	struct message m = { 0 };
	int rc = frame_parse(&m.frame, at, len, in->max, in->addressed);
	size_t head = m.frame.head;

	if (rc < 0)
		in->fault = rc;
	else if (rc > 0)
		judge(in, &m.frame);
	if (rc <= 0 || stopped(in))
		return 0;
	if (m.frame.payload > in->most) {
		long_begin(in, at, &m.frame);
		return in->error ? 0 : head;
	}
	if (len - head < m.frame.payload)
		return 0;
	m.raw = at + m.frame.at;
	m.payload = at + head;
	return deliver(in, &m) ? head + (size_t)m.frame.payload : 0;
}

/* Delivers what is whole; how many bytes are done with. */
static size_t
eat(struct inbox *in, const char *at, size_t len)
{
	size_t n = 0, some;

	while (!stopped(in) && (n < len || in->due)) {
		if (in->long_head) {
			n += eat_long(in, at + n, len - n);
			continue;
		}
		some = eat_one(in, at + n, len - n);
		n += some;
		if (some == 0)
			break;
	}
	return n;
}

static void
eat_rest(struct inbox *in)
{
	in->rest_at += eat(in, rest_bytes(in), rest_left(in));
	if (in->rest_at == in->rest_len)
		rest_free(in);
}

/* ---- reading ---- */

/* Of the frame that begins here, if its head is whole and its payload is for memory; else 0. */
static size_t
whole_size(const struct inbox *in, const char *at, size_t len)
{
	struct frame f = { 0 };

	if (in->judged && !in->long_head && len > 0)
		frame_parse(&f, at, len, in->max, in->addressed);
	return f.head + (size_t)f.payload;
}

/* Bytes of it that are missing, with room for them. */
static size_t
missing(struct inbox *in)
{
	size_t all = whole_size(in, rest_bytes(in), rest_left(in));

	if (all == 0)
		return 0;
	if (in->rest_at > 0 || in->rest_cap < all)
		rest_set(in, rest_bytes(in), rest_left(in), all);
	return in->error ? 0 : all - in->rest_len;
}

/* What was read and has not been delivered stays: the beginning of a frame, or all of it. */
static void
eat_read(struct inbox *in, const char *at, size_t len)
{
	size_t n = eat(in, at, len);

	at += n;
	len -= n;
	if (len == 0 || in->error)
		return;
	if (in->rest)
		rest_add(in, at, len);
	else if (in->held)
		rest_set(in, at, len, len);
	else
		rest_set(in, at, MIN(len, FRAME_HEAD_MAX + in->most), whole_size(in, at, len));
}

static enum inbox_step
failed(struct inbox *in, int error)
{
	if (error == -EAGAIN)
		return INBOX_WAIT;
	in->error = error;
	return INBOX_ERROR;
}

/* The beginning of a head goes before what is read now. */
static enum inbox_step
read_once(struct inbox *in, int fd)
{
	size_t gap = missing(in), begun = gap ? 0 : rest_left(in);
	struct iovec iov[2] = { { gap ? in->rest + in->rest_len : NULL, gap },
		{ shared + begun, INBOX_READ } };
	struct msghdr msg = { .msg_iov = iov + !gap, .msg_iovlen = gap ? 2 : 1 };
	ssize_t n;

	if (in->error)
		return INBOX_ERROR;
	assert(begun < FRAME_HEAD_MAX);
	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		in->ended = n == 0;
		return n < 0 ? failed(in, -errno) : INBOX_END;
	}
	in->bytes += (uint64_t)n;
	if (gap) {
		in->rest_len += MIN((size_t)n, gap);
		eat_rest(in);
	} else if (begun) {
		memcpy(shared, rest_bytes(in), begun);
		rest_free(in);
	}
	if ((size_t)n > gap)
		eat_read(in, shared, begun + (size_t)n - gap);
	return (size_t)n == gap + INBOX_READ ? INBOX_MORE : INBOX_WAIT;
}

static enum inbox_step
state(const struct inbox *in, enum inbox_step otherwise)
{
	return in->fault   ? INBOX_FAULT
	       : in->error ? INBOX_ERROR
	       : in->held  ? INBOX_HELD
			   : otherwise;
}

enum inbox_step
inbox_step(struct inbox *in, int fd, int *ret_error)
{
	enum inbox_step step;

	assert(!stepping);
	stepping = in;
	in->held = false;
	if (!stopped(in))
		eat_rest(in);
	step = INBOX_END;
	if (!stopped(in) && !in->ended)
		step = read_once(in, fd);
	stepping = NULL;
	if (in->error == -ECANCELED)
		inbox_free(in);
	step = state(in, step);
	if (step == INBOX_ERROR)
		*ret_error = in->error;
	return step;
}

/* ---- questions ---- */

static uint64_t
le(const char *at, size_t size)
{
	uint64_t n = 0;

	memcpy(&n, at, size);
	return le64toh(n);
}

bool
inbox_partial(const struct inbox *in, uint64_t *ret_have, uint64_t *ret_of)
{
	const char *at = rest_bytes(in);
	uint64_t have = rest_left(in), before = 0;

	if (in->held || (in->long_head ? in->due : have == 0))
		return false;
	if (in->long_head) {
		*ret_have = in->frame.head + in->frame.payload - in->left;
		*ret_of = in->frame.head + in->frame.payload;
		return true;
	}
	if (in->addressed)
		before = have < 8 ? have : 8 + le(at, 8);
	*ret_have = have;
	*ret_of = 0;
	if (before <= have && have - before >= FRAME_PREFIX)
		*ret_of = before + FRAME_PREFIX + le(at + before, FRAME_PREFIX);
	return true;
}

void
inbox_fault_text(const struct inbox *in, struct text *t)
{
	frame_fault_text(
	    t, in->fault, in->rest + in->rest_at, rest_left(in), in->max, in->addressed);
}

void
inbox_free(struct inbox *in)
{
	in->error = -ECANCELED;
	if (in == stepping)
		return; /* what is being delivered lies there */
	rest_free(in);
	long_free(in);
}
