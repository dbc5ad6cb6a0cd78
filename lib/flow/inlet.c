/* flow/inlet - see inlet.h.  Bytes are read once a turn into one buffer, and told from a copy,
 * which may be written into: what is not taken lies in the buffer as it came. */
#include "flow/inlet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/transport.h"
#include "net/stream.h"

#define CHUNK (64 * 1024) /* bytes of buffer that stay, and are read at once */
#define LINES 256	  /* told in a turn, before others get theirs */

enum told { TOLD, HUNGRY, STOPPED };
enum found { NONE, WHOLE, TOO_LONG };

static void
inlet_over(struct inlet *in, int error)
{
	inlet_stop(in);
	in->end(in->arg, error);
}

/* ---- the buffer ---- */

static void
inlet_front(struct inlet *in)
{
	if (in->at == 0)
		return;
	in->len -= in->at;
	in->seen -= in->at;
	memmove(in->buf, in->buf + in->at, in->len);
	in->at = 0;
}

static bool
inlet_resize(struct inlet *in, size_t cap)
{
	char *buf = realloc(in->buf, cap);

	if (!buf)
		return false;
	free(in->copy); /* as large as the buffer, and made when it is needed */
	in->copy = NULL;
	in->buf = buf;
	in->cap = cap;
	return true;
}

/* Room to read into: there is always some, for a line that fills the buffer is too long. */
static bool
inlet_room(struct inlet *in)
{
	size_t most = in->longest + 1 > CHUNK ? in->longest + 1 : CHUNK;
	size_t cap = in->cap < CHUNK ? CHUNK : in->cap < most / 2 ? in->cap * 2 : most;

	if (in->cap - in->len >= CHUNK / 2)
		return true;
	inlet_front(in);
	return in->cap - in->len >= CHUNK / 2 || in->cap == most || inlet_resize(in, cap);
}

/* Nothing to do until more comes: a buffer that a long line made large goes back. */
static void
inlet_wait(struct inlet *in)
{
	if (in->cap > CHUNK && in->len - in->at <= CHUNK / 2) {
		inlet_front(in);
		(void)inlet_resize(in, CHUNK);
	}
	reactor_want(in->reactor, &in->watch, WATCH_READ);
}

/* False: there is nothing to be had now. */
static bool
inlet_read(struct inlet *in)
{
	ssize_t n = -ENOMEM;

	if (inlet_room(in))
		n = in->from->ops->read(in->from, in->buf + in->len, in->cap - in->len);
	if (n == -EAGAIN)
		inlet_wait(in);
	else if (n < 0)
		inlet_over(in, (int)n);
	else if (n == 0) {
		in->ended = true;
		reactor_want(in->reactor, &in->watch, 0);
	} else
		in->len += (size_t)n;
	return n >= 0;
}

/* ---- lines ---- */

/* The next newline, looked for only in what is new; NULL: there is none. */
static const char *
inlet_newline(struct inlet *in)
{
	const char *newline = NULL;

	if (in->len > in->seen)
		newline = memchr(in->buf + in->seen, '\n', in->len - in->seen);
	in->seen = newline ? (size_t)(newline - in->buf) : in->len;
	return newline;
}

static void
inlet_pass(struct inlet *in, const char *newline)
{
	in->at = in->seen + (newline ? 1 : 0);
	in->seen = in->at;
}

static enum found
inlet_find(const struct inlet *in, const char *newline)
{
	size_t len = in->seen - in->at;

	if (len > in->longest)
		return TOO_LONG;
	return newline || (in->ended && len > 0) ? WHOLE : NONE;
}

static bool
inlet_copy(struct inlet *in, size_t len)
{
	if (!in->copy)
		in->copy = malloc(in->cap + 1);
	if (!in->copy)
		return false;
	memcpy(in->copy, in->buf + in->at, len);
	in->copy[len] = '\0';
	return true;
}

/* Held while it is told, so that an inlet_resume from within is not lost. */
static enum told
inlet_offer(struct inlet *in, const char *newline, enum found found)
{
	size_t len = found == WHOLE ? in->seen - in->at : 0;
	bool taken;

	if (found == WHOLE && !inlet_copy(in, len)) {
		inlet_over(in, -ENOMEM);
		return STOPPED;
	}
	in->held = true;
	taken = in->line(in->arg, found == WHOLE ? in->copy : NULL, len);
	if (in->over)
		return STOPPED;
	if (!taken) {
		reactor_want(in->reactor, &in->watch, 0);
		return STOPPED;
	}
	in->held = false;
	in->skipping = !newline;
	inlet_pass(in, newline);
	return TOLD;
}

static enum told
inlet_tell(struct inlet *in)
{
	const char *newline = inlet_newline(in);
	enum found found;

	if (in->skipping) {
		in->skipping = !newline;
		inlet_pass(in, newline);
		newline = newline ? inlet_newline(in) : NULL;
	}
	found = inlet_find(in, newline);
	if (found != NONE)
		return inlet_offer(in, newline, found);
	if (!in->ended)
		return HUNGRY;
	inlet_over(in, 0);
	return STOPPED;
}

static void
inlet_step(struct task *t)
{
	struct inlet *in = (struct inlet *)((char *)t - offsetof(struct inlet, task));
	bool fed = false;

	for (unsigned lines = 0; lines < LINES; lines++) {
		enum told told = in->held ? STOPPED : inlet_tell(in);

		if (told == STOPPED)
			return;
		if (told == TOLD)
			continue;
		if (fed) {
			inlet_wait(in);
			return;
		}
		fed = true;
		if (!inlet_read(in))
			return;
	}
	reactor_again(in->reactor, &in->task);
}

static void
inlet_ready(struct watch *w, uint32_t got)
{
	struct inlet *in = (struct inlet *)((char *)w - offsetof(struct inlet, watch));

	(void)got;
	in->from->ready |= TP_READ;
	reactor_later(in->reactor, &in->task);
}

/* ---- life ---- */

int
inlet_open(struct inlet *in, struct reactor *reactor, int fd)
{
	struct transport *from;
	int rc = stream_new(fd, -1, false, &from);

	if (rc < 0)
		return rc;
	*in = (struct inlet){ .reactor = reactor,
		.longest = in->longest,
		.line = in->line,
		.end = in->end,
		.arg = in->arg,
		.from = from,
		.task = { .run = inlet_step } };
	reactor_watch(reactor, &in->watch, fd, inlet_ready);
	reactor_later(reactor, &in->task);
	return 0;
}

void
inlet_resume(struct inlet *in)
{
	if (!in->held || in->over)
		return;
	in->held = false;
	reactor_later(in->reactor, &in->task);
}

void
inlet_stop(struct inlet *in)
{
	if (!in->from || in->over)
		return;
	in->over = true;
	reactor_forget(in->reactor, &in->watch);
	reactor_drop(in->reactor, &in->task);
}

void
inlet_close(struct inlet *in)
{
	if (!in->from)
		return;
	inlet_stop(in);
	in->from->ops->close(in->from, false);
	free(in->buf);
	free(in->copy);
	*in = (struct inlet){ .over = true };
}
