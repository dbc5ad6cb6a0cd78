#include "flow/lane.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/transport.h"
#include "flow/budget.h"
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

size_t
side_held(const struct side *s, unsigned op)
{
	return s->tp->ops->held ? s->tp->ops->held(s->tp, op) : 0;
}

size_t
relay_held(const struct relay *r)
{
	size_t n = side_held(&r->a, TP_READ) + side_held(&r->b, TP_READ) +
		   side_held(&r->a, TP_WRITE) + side_held(&r->b, TP_WRITE);

	return n + r->in.at + r->in.len + r->out.at + r->out.len;
}

void
relay_moved(struct relay *r, struct lane *l)
{
	r->moved_at = l->moved_at = reactor_now(r->reactor);
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

/* The destination failed. */
static void
lane_refused(struct relay *r, struct lane *l, int error)
{
	if (l->to == &r->b && (error == -EPIPE || error == -ECONNRESET) && relay_unheard(r, error))
		return;
	r->refused = r->refused || !r->failed;
	relay_fail(r, l->to, error);
}

/* b does not listen any more.  It may (a COMMAND, a session), or it has said all it had to say:
 * then what a sends is dropped from now on.  Else what it said before is read before the cut that
 * it is. False: nothing can be dropped here. */
bool
relay_unheard(struct relay *r, int error)
{
	if (!r->cfg.indifferent && (r->cfg.stdio || r->cfg.keep_b || r->in.state == LANE_DONE))
		return false;
	if (!r->cfg.indifferent && !r->unheard)
		r->unheard = error < 0 ? -error : error;
	lane_drop(&r->in);
	r->in.discard = true;
	r->b.tp->ready |= TP_READ;
	return true;
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
	l->at = 0;
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

/* How much may be read for it now.  An eighth of the share is left to the other direction, so that
 * neither ever waits for the other's bytes to go; only what a session says stops its input, for
 * that goes by itself (what it holds of a request goes when more of that comes).  0: nothing. */
static size_t
lane_room(const struct relay *r, const struct lane *l)
{
	size_t share = relay_share(r), most = share - share / 8, others, room;
	bool says = l->to->tp->rfd == -1 && (side_held(l->to, TP_READ) > 0 || lane_holds(&r->out));

	if (share >= 8 * SCRATCH || l->discard)
		return SCRATCH;
	others = relay_held(r) - side_held(l->from, TP_READ);
	room = share > others ? share - others : 0;
	if (says && room < share / 16)
		return 0;
	if (!says && room < share / 8)
		room = share / 8;
	room = room < most ? room : most;
	return room < SCRATCH ? room : SCRATCH;
}

ssize_t
lane_copy(struct relay *r, struct lane *l)
{
	struct transport *from = l->from->tp, *to = l->to->tp;
	size_t room = lane_room(r, l);
	ssize_t n, put = 0;
	int rc;

	if (room == 0) {
		l->stopped = true;
		budget_stop(r->cfg.charge);
		return -EAGAIN;
	}
	n = from->ops->read(from, scratch, room);
	if (n <= 0)
		return n;
	if (l->discard) {
		l->dropped += (uint64_t)n;
		l->dropped_at = reactor_now(r->reactor);
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

	l->stopped = false;
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
	else if (l->from == &r->b && l->from->tp->rfd != -1 && r->cfg.indifferent &&
		 error == -ECONNRESET)
		/* it left with something unread; what it said has been read before this */
		l->state = LANE_ENDING;
	else if (l->discard && r->out.state == LANE_DONE && !l->from->tp->broken)
		l->state = LANE_DONE; /* nobody wanted it */
	else
		relay_fail(r, l->from, error);
}

/* Moves what can be moved.  True: its turn is over though there is more. */
bool
lane_pump(struct relay *r, struct lane *l)
{
	size_t left = TURN;

	while (l->state != LANE_DONE && !r->failed) {
		uint64_t put = l->to->tp->out;
		bool held = lane_holds(l);
		ssize_t n = held ? lane_push(l) : 0;

		if (l->to->tp->out != put || (held && n == 0))
			relay_moved(r, l);
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
				relay_moved(r, l);
			left -= (size_t)n < left ? (size_t)n : left;
		}
		/* the kernel says once that a connection was cut, to a write, and then to no read;
		 * to one that had sent its end before it says EPIPE */
		if (n == 0 && l->from == &r->b && r->unheard == ECONNRESET)
			n = -ECONNRESET;
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

int
lane_last_words(struct lane *l)
{
	struct transport *from = l->from->tp;
	ssize_t n = 1;

	for (size_t left = TURN; n > 0 && left > 0; left -= (size_t)n < left ? (size_t)n : left)
		n = from->ops->read(from, scratch, sizeof(scratch));
	return n > 0 ? -EAGAIN : (int)n;
}

void
lane_open(struct lane *l, struct side *from, struct side *to)
{
	l->from = from;
	l->to = to;
	l->moved_at = from->relay->moved_at;
	l->copy_only = !stream_is(from->tp) || !stream_is(to->tp);
	l->way = l->copy_only ? WAY_COPY : WAY_DIRECT;
}
