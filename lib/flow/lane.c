#include "flow/lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/transport.h"
#include "flow/pipes.h"
#include "net/stream.h"

#define SCRATCH RELAY_REST_MAX
#define BULK	(64 * 1024)  /* a read this large means more is coming: splice pays */
#define TURN	(512 * 1024) /* bytes a lane may move before others get their turn */

static char scratch[SCRATCH];

void
relay_fail(struct relay *r, struct side *s, int error)
{
	if (r->failed)
		return;
	r->failed = s;
	r->error = error < 0 ? -error : error;
}

bool
lane_holds(const struct lane *l)
{
	return l->len > 0 || l->piped > 0 || l->unflushed;
}

int
lane_keep(struct lane *l, const char *bytes, size_t len)
{
	l->kept = malloc(len);
	if (!l->kept)
		return -ENOMEM;
	memcpy(l->kept, bytes, len);
	l->at = 0;
	l->len = len;
	return 0;
}

void
lane_drop(struct lane *l)
{
	free(l->kept);
	l->kept = NULL;
	l->len = l->at = 0;
	pipes_return(l->pipe, l->piped == 0);
	l->pipe = NULL;
	l->piped = 0;
	l->unflushed = false;
}

/* The destination failed.  One that may stop listening is no failure: its input is dropped from now
 * on. */
static void
lane_refused(struct relay *r, struct lane *l, int error)
{
	if (l->to == &r->b && r->cfg.indifferent && (error == -EPIPE || error == -ECONNRESET)) {
		lane_drop(l);
		l->discard = true;
		return;
	}
	r->refused = r->refused || !r->failed;
	relay_fail(r, l->to, error);
}

static int
lane_push_kept(struct lane *l)
{
	struct transport *to = l->to->tp;

	while (l->len > 0) {
		ssize_t n = to->ops->write(to, l->kept + l->at, l->len);

		if (n < 0)
			return (int)n;
		l->at += (size_t)n;
		l->len -= (size_t)n;
		l->unflushed = true;
	}
	free(l->kept);
	l->kept = NULL;
	return 0;
}

static int
lane_push_pipe(struct lane *l)
{
	while (l->piped > 0) {
		ssize_t n = stream_splice(NULL, l->to->tp, l->pipe->rfd, -1, l->piped, false);

		if (n < 0)
			return (int)n;
		l->piped -= (size_t)n;
	}
	if (l->pipe) {
		pipes_return(l->pipe, true);
		l->pipe = NULL;
	}
	return 0;
}

/* The destination takes no splice (/dev/null, a file open for appending): what the pipe holds
 * becomes bytes. */
static int
lane_unpipe(struct lane *l)
{
	char *bytes = malloc(l->piped);
	size_t got = 0;

	while (bytes && got < l->piped) {
		ssize_t n = read(l->pipe->rfd, bytes + got, l->piped - got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	if (got < l->piped) {
		free(bytes);
		return bytes ? -EIO : -ENOMEM;
	}
	pipes_return(l->pipe, true);
	l->pipe = NULL;
	l->piped = 0;
	l->kept = bytes;
	l->at = 0;
	l->len = got;
	l->copy_only = true;
	l->way = WAY_COPY;
	return 0;
}

/* 0: the lane holds nothing.  -EAGAIN: wait for the destination.  Else it failed. */
int
lane_push(struct lane *l)
{
	struct transport *to = l->to->tp;
	int rc = 0;

	if (l->len > 0)
		rc = lane_push_kept(l);
	if (rc == 0 && l->piped > 0)
		rc = lane_push_pipe(l);
	if (rc == -EINVAL && l->piped > 0 && (rc = lane_unpipe(l)) == 0)
		rc = lane_push_kept(l);
	if (l->unflushed && (rc == 0 || rc == -EAGAIN)) {
		int flushed = to->ops->flush(to);

		if (flushed == 0)
			l->unflushed = false;
		if (rc == 0 || flushed != 0)
			rc = flushed;
	}
	return rc;
}

ssize_t
lane_copy(struct relay *r, struct lane *l)
{
	struct transport *from = l->from->tp, *to = l->to->tp;
	ssize_t n = from->ops->read(from, scratch, sizeof(scratch));
	ssize_t put = 0;
	int rc;

	if (n <= 0)
		return n;
	if (l->discard) {
		l->dropped += (uint64_t)n;
		return n;
	}
	put = to->ops->write(to, scratch, (size_t)n);
	if (put < 0 && put != -EAGAIN) {
		lane_refused(r, l, (int)put);
		if (!r->cfg.keep_b)
			return n;
	}
	l->unflushed = put > 0;
	if (put < 0)
		put = 0;
	if (put < n && (rc = lane_keep(l, scratch + put, (size_t)(n - put))) < 0)
		relay_fail(r, l->to, rc);
	if (n >= BULK && !l->copy_only)
		l->way = WAY_SPLICE;
	return n;
}

static ssize_t
pull_splice(struct relay *r, struct lane *l)
{
	ssize_t n;

	if (!l->pipe)
		l->pipe = pipes_borrow();
	if (!l->pipe)
		return lane_copy(r, l);
	n = stream_splice(l->from->tp, NULL, -1, l->pipe->wfd, (size_t)l->pipe->size, true);
	if (n > 0) {
		l->piped = (size_t)n;
		if (n < BULK / 4)
			l->way = WAY_COPY;
		return n;
	}
	pipes_return(l->pipe, true);
	l->pipe = NULL;
	if (n == -EINVAL) {
		l->copy_only = true;
		l->way = WAY_COPY;
		return lane_copy(r, l);
	}
	return n;
}

static ssize_t
lane_pull(struct relay *r, struct lane *l)
{
	ssize_t n;

	if (l->discard)
		return lane_copy(r, l);
	if (l->way == WAY_DIRECT) {
		n = stream_direct(l->from->tp, l->to->tp, SCRATCH * 8);
		if (n != -EINVAL)
			return n;
		l->way = WAY_COPY;
	}
	return l->way == WAY_SPLICE ? pull_splice(r, l) : lane_copy(r, l);
}

/* The source has ended and everything before that is delivered: pass the end on. */
static void
lane_end(struct relay *r, struct lane *l)
{
	struct side *from = l->from, *to = l->to;
	int rc = 1;

	l->waiting = false;
	if (from->hooks.is_end)
		rc = from->hooks.is_end(from->hooks.arg);
	if (rc == 0 || (from->tp->bare_end && r->cfg.bare_is_cut && from == &r->a)) {
		relay_fail(r, from, ECONNRESET);
		return;
	}
	if (rc > 0 && !l->discard)
		rc = to->hooks.announce ? to->hooks.announce(to->hooks.arg) : 0;
	if (rc == -EAGAIN) {
		l->waiting = true;
		return;
	}
	/* a close_notify that finds the peer gone is no loss: many clients do not wait for it */
	if (!stream_is(to->tp) && to->tp->ended && to->tp->ops->unsent(to->tp) == 0)
		to->settled = true;
	rc = 0;
	if (!l->discard && !(to == &r->b && r->cfg.keep_b)) {
		/* what is no socket is closed by that: somebody else may hold it, too, and then
		 * epoll would go on about it */
		if (to->split && stream_is(to->tp))
			reactor_forget(r->reactor, &to->w);
		rc = to->tp->ops->finish(to->tp);
	}
	if (rc == 0 || (rc != -EAGAIN && to->settled))
		l->state = LANE_DONE;
	else if (rc != -EAGAIN) {
		lane_refused(r, l, rc);
		if (l->discard)
			l->state = LANE_DONE;
	}
}

static void
lane_source_failed(struct relay *r, struct lane *l, int error)
{
	/* in a direct splice one of the two is a pipe: that is never reset, and a socket that is
	 * read never says EPIPE */
	if (l->way == WAY_DIRECT && (error == -EPIPE || l->from == &r->b))
		lane_refused(r, l, error);
	else if (l->from == &r->b && r->cfg.indifferent && error == -ECONNRESET) {
		/* it left with something unread; what it said has been read before this */
		l->state = LANE_ENDING;
	} else
		relay_fail(r, l->from, error);
}

/* Moves what can be moved.  True: its turn is over though there is more. */
bool
lane_pump(struct relay *r, struct lane *l)
{
	size_t left = TURN;

	while (l->state != LANE_DONE && !r->failed) {
		uint64_t put = l->to->tp->out;
		ssize_t n = lane_holds(l) ? lane_push(l) : 0;

		if (l->to->tp->out != put)
			r->moved_at = reactor_now(r->reactor);
		if (n == -EAGAIN)
			return false;
		if (n < 0) {
			lane_refused(r, l, (int)n);
			continue;
		}
		if (l->state == LANE_ENDING) {
			lane_end(r, l);
			return false;
		}
		if (left == 0)
			return true;
		n = lane_pull(r, l);
		if (n == -EAGAIN)
			return false;
		if (n >= 0) {
			if (!l->discard) /* what nobody wants keeps nobody alive */
				r->moved_at = reactor_now(r->reactor);
			left -= (size_t)n < left ? (size_t)n : left;
		}
		if (n == 0)
			l->state = LANE_ENDING;
		else if (n < 0)
			lane_source_failed(r, l, (int)n);
	}
	return false;
}

/* What b has to say just now is kept for another peer, or it turns out that b has ended. */
void
lane_hold(struct relay *r, struct lane *l)
{
	struct transport *from = l->from->tp;
	ssize_t n;
	int rc = 0;

	if (l->state != LANE_OPEN || lane_holds(l))
		return;
	n = from->ops->read(from, scratch, sizeof(scratch));
	if (n == 0)
		l->state = LANE_ENDING;
	else if (n > 0)
		rc = lane_keep(l, scratch, (size_t)n);
	if (rc < 0 || (n < 0 && n != -EAGAIN))
		relay_fail(r, l->from, rc < 0 ? rc : (int)n);
}

void
lane_open(struct lane *l, struct side *from, struct side *to)
{
	l->from = from;
	l->to = to;
	l->copy_only = !stream_is(from->tp) || !stream_is(to->tp);
	l->way = l->copy_only ? WAY_COPY : WAY_DIRECT;
}
