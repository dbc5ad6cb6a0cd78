/* flow/outlet - see outlet.h.  What was added is written by one task, at the end of a turn; what
 * the descriptor does not take then is tried again when the reactor says so. */
#include "flow/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/transport.h"
#include "net/stream.h"

#define KEPT (64 * 1024) /* bytes of memory that stay when all is written */

static size_t
outlet_left(const struct outlet *o)
{
	return o->waiting.len - o->at;
}

static int
outlet_push(struct outlet *o)
{
	while (outlet_left(o) > 0) {
		ssize_t n = o->to->ops->write(o->to, o->waiting.at + o->at, outlet_left(o));

		if (n < 0)
			return (int)n;
		o->at += (size_t)n;
	}
	return 0;
}

/* Forgets what was written; moved is never more than was written since it was moved last. */
static void
outlet_compact(struct outlet *o)
{
	struct text *t = &o->waiting;

	if (o->at == t->len && t->cap > KEPT)
		text_free(t);
	else if (o->at > 0 && o->at >= t->len / 2) {
		memmove(t->at, t->at + o->at, outlet_left(o) + 1); /* and its NUL */
		t->len -= o->at;
	} else
		return;
	o->at = 0;
}

static void
outlet_lose(struct outlet *o, int error)
{
	o->lost = true;
	o->full = o->finishing = false;
	reactor_forget(o->reactor, &o->watch);
	text_free(&o->waiting);
	o->at = 0;
	o->gone(o->arg, error);
}

/* Each callback comes last: o may be closed in it. */
static void
outlet_step(struct task *t)
{
	struct outlet *o = (struct outlet *)((char *)t - offsetof(struct outlet, task));
	int rc = o->waiting.failed ? -ENOMEM : outlet_push(o);
	bool drained;

	if (rc < 0 && rc != -EAGAIN) {
		outlet_lose(o, -rc);
		return;
	}
	outlet_compact(o);
	reactor_want(o->reactor, &o->watch, outlet_left(o) > 0 ? WATCH_WRITE : 0);
	drained = o->full && outlet_left(o) <= OUTLET_HIGH / 2;
	if (drained)
		o->full = false;
	if (o->finishing && outlet_left(o) == 0) {
		o->finishing = false;
		o->empty(o->arg);
	} else if (drained)
		o->drained(o->arg);
}

static void
outlet_ready(struct watch *w, uint32_t got)
{
	struct outlet *o = (struct outlet *)((char *)w - offsetof(struct outlet, watch));

	(void)got;
	o->to->ready |= TP_WRITE;
	reactor_later(o->reactor, &o->task);
}

/* poll calls a terminal writable that has room for one byte, and a write of more waits until all of
 * it is taken, perhaps for ever (^S).  Opened anew it has an O_NONBLOCK of its own; the master of a
 * pty would be another pty.  -1: go on with fd. */
static int
outlet_terminal(int fd)
{
	char name[64];
	unsigned pty;

	if (!isatty(fd) || ioctl(fd, TIOCGPTN, &pty) == 0)
		return -1;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return open(name, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int
outlet_open(struct outlet *o, struct reactor *reactor, int fd)
{
	struct transport *to;
	int own = outlet_terminal(fd), rc;

	if (own != -1)
		fd = own;
	rc = stream_new(-1, fd, own != -1, &to);
	if (rc < 0) {
		fds_close(&own);
		return rc;
	}
	*o = (struct outlet){ .reactor = reactor,
		.drained = o->drained,
		.empty = o->empty,
		.gone = o->gone,
		.arg = o->arg,
		.to = to,
		.task = { .run = outlet_step } };
	reactor_watch(reactor, &o->watch, fd, outlet_ready);
	return 0;
}

struct text *
outlet_line(struct outlet *o)
{
	return &o->waiting;
}

void
outlet_done(struct outlet *o)
{
	if (o->lost) {
		text_free(&o->waiting);
		return;
	}
	if (outlet_left(o) >= OUTLET_HIGH)
		o->full = true;
	reactor_later(o->reactor, &o->task);
}

bool
outlet_full(const struct outlet *o)
{
	return o->full;
}

void
outlet_finish(struct outlet *o)
{
	if (o->lost)
		return;
	o->finishing = true;
	reactor_later(o->reactor, &o->task);
}

void
outlet_close(struct outlet *o)
{
	if (!o->to)
		return;
	reactor_forget(o->reactor, &o->watch);
	reactor_drop(o->reactor, &o->task);
	o->to->ops->close(o->to, o->lost || outlet_left(o) > 0);
	text_free(&o->waiting);
	*o = (struct outlet){ .lost = true };
}
