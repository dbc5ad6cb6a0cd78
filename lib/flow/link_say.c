/* Messages are queued and go out together at the end of the turn, through one system call where
 * possible. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "flow/link_parts.h"
#include "net/handoff.h"
#include "net/socket.h"

struct link_out {
	TAILQ_ENTRY(link_out) link;
	size_t len;
	int fd;
	char bytes[];
};

#define RESEND_MS 20 /* after ETOOMANYREFS, ENOBUFS: no event says when it is over */
#define KEPT_MAX                                                                                   \
	(4 * LINK_WINDOW) /* messages the other side does not read: no more are asked for */

static int
link_queue(struct link *l, const struct note *note, const struct env *env, int fd)
{
	static char packet[NOTE_MAX];
	ssize_t len = note_print(note, env, packet, sizeof(packet));
	struct link_out *o;

	if (len < 0)
		return (int)len;
	if (l->deaf || l->state == LINK_GONE || (l->shut && link_produces(l)))
		return -EPIPE;
	o = malloc(sizeof(*o) + (size_t)len);
	if (!o)
		return -ENOMEM;
	o->len = (size_t)len;
	o->fd = fd;
	memcpy(o->bytes, packet, (size_t)len);
	TAILQ_INSERT_TAIL(&l->queue, o, link);
	l->queued++;
	l->full |= l->queued - l->sent >= KEPT_MAX;
	reactor_later(l->hub->cfg.reactor, &l->later);
	return 0;
}

static void
link_out_free(struct link *l, struct link_out *o)
{
	TAILQ_REMOVE(&l->queue, o, link);
	free(o);
}

void
link_empty_queue(struct link *l)
{
	struct link_out *o, *next;

	TAILQ_FOREACH_SAFE(o, &l->queue, link, next) {
		if (o->fd != -1) {
			socket_reset(o->fd);
			close(o->fd);
		}
		link_out_free(l, o);
	}
}

static void
link_tell_flushed(struct link *l)
{
	struct link_conn *c, *next;

	RB_FOREACH_SAFE(c, link_conns, &l->conns, next) {
		if (!c->eof_mark || c->eof_mark > l->sent)
			continue;
		link_unmark(c);
		if (c->ops->flushed)
			c->ops->flushed(c);
	}
}

static int
link_send_some(struct link *l)
{
	struct handoff_out out[HANDOFF_BATCH];
	struct link_out *o;
	unsigned n = 0;
	int went;

	TAILQ_FOREACH(o, &l->queue, link) {
		if (n == HANDOFF_BATCH)
			break;
		out[n++] = (struct handoff_out){ .bytes = o->bytes, .len = o->len, .fd = o->fd };
	}
	if (n == 0)
		return 0;
	errno = 0;
	went = handoff_send(l->fd, out, n);
	for (int i = 0; i < went; i++) {
		link_out_free(l, TAILQ_FIRST(&l->queue));
		l->sent++;
	}
	if (went < 0 && went != -EAGAIN)
		return went;
	if (went == (int)n)
		return 1;
	return errno == ETOOMANYREFS ? -ETOOMANYREFS : -EAGAIN;
}

/* What EAGAIN keeps back goes out first when it can. */
void
link_write(struct link *l)
{
	int rc;

	if (l->state == LINK_GONE)
		return;
	while ((rc = link_send_some(l)) > 0)
		;
	if (rc == -ETOOMANYREFS || rc == -ENOBUFS || rc == -ENOMEM) {
		(void)reactor_timer(
		    l->hub->cfg.reactor, &l->resend, reactor_now(l->hub->cfg.reactor) + RESEND_MS);
	} else if (rc == -EPIPE || rc == -ECONNRESET || rc == -ENOTCONN) {
		/* not its end: what the other said before is still to be read; then it comes */
		l->deaf = true;
		shutdown(l->fd, SHUT_RDWR);
		link_empty_queue(l);
		l->sent = l->queued;
	} else if (rc < 0 && rc != -EAGAIN) { /* the other is alive, and would wait for it */
		link_drop(l, strerror(-rc));
		return;
	}
	reactor_want(l->hub->cfg.reactor, &l->watch,
	    (l->shut && !link_produces(l) ? WATCH_HUP : WATCH_READ) |
		(rc == -EAGAIN ? WATCH_WRITE : 0));
	if (l->marked > 0)
		link_tell_flushed(l);
	if (l->full && l->queued - l->sent < KEPT_MAX / 2)
		reactor_later(l->hub->cfg.reactor, &l->later);
	link_wind_up(l);
}

/* The part of the window that may be granted now; 0: not worth a message yet. */
static uint32_t
link_due(struct link *l)
{
	unsigned most;

	if (link_produces(l) || l->state != LINK_UP || l->drained || l->full ||
	    l->credit > LINK_WINDOW / 2)
		return 0;
	most = hub_room(l->hub);
	if (most > LINK_WINDOW)
		most = LINK_WINDOW;
	return most > l->credit ? most - l->credit : 0;
}

static void
link_grant(struct link *l)
{
	struct note note = { .verb = NOTE_READY, .n = link_due(l) };

	if (note.n > 0 && link_queue(l, &note, NULL, -1) == 0)
		l->credit += note.n;
}

void
link_later(struct task *t)
{
	struct link *l = (struct link *)((char *)t - offsetof(struct link, later));

	if (l->state == LINK_GONE)
		return;
	if (l->full && l->queued - l->sent < KEPT_MAX / 2) {
		l->full = false;
		if (link_produces(l))
			l->hub->cfg.ops->credit(l->hub);
	}
	link_grant(l);
	link_write(l);
}

void
link_regrant(struct link *l)
{
	if (l->state == LINK_UP && l->credit <= LINK_WINDOW / 2)
		reactor_later(l->hub->cfg.reactor, &l->later);
}

void
link_hello(struct link *l)
{
	const struct hub_config *cfg = &l->hub->cfg;
	struct note note = { .verb = NOTE_HELLO,
		.version = NOTE_VERSION,
		.role = cfg->role,
		.modes = cfg->modes,
		.links = cfg->links > 1 ? cfg->links : 0 };

	snprintf(note.tool, sizeof(note.tool), "%s", cfg->tool);
	if (!link_produces(l))
		memcpy(note.token, l->hub->token, sizeof(note.token));
	(void)link_queue(l, &note, NULL, -1);
}

int
link_conn(struct link *l, struct link_conn *c, const struct env *env, int fd)
{
	struct note note = { .verb = NOTE_CONN, .id = l->last_id + 1 };
	int rc = link_queue(l, &note, env, fd);

	if (rc < 0)
		return rc;
	l->last_id++;
	l->credit--;
	l->served = ++l->hub->picks;
	if (!l->unread_since)
		l->unread_since = reactor_now(l->hub->cfg.reactor);
	hub_sent_conn(l->hub);
	c->id = note.id;
	c->asked = fd == -1;
	link_add(l, c);
	if (c->owing)
		l->owing++;
	return 0;
}

int
link_adopt(struct link_conn *c, int fd)
{
	struct link *l = c->link;
	struct note note = { .verb = NOTE_ADOPT, .id = c->id };
	int rc;

	if (!l)
		return -EPIPE;
	note.n = link_due(l);
	rc = link_queue(l, &note, NULL, fd);
	if (rc < 0)
		return rc;
	l->credit += note.n;
	c->adopted = true;
	return 0;
}

int
link_eof(struct link_conn *c)
{
	struct link *l = c->link;
	struct note note = { .verb = NOTE_EOF, .id = c->id };

	if (!l)
		return 0;
	if (!c->said_eof) {
		c->said_eof = true;
		if (link_queue(l, &note, NULL, -1) < 0)
			return 0;
		c->eof_mark = l->queued;
		l->marked++;
		link_write(l);
		if (!c->link)
			return 0;
	}
	if (c->eof_mark && c->eof_mark > l->sent)
		return -EAGAIN;
	link_unmark(c);
	link_settle(c);
	return 0;
}

void
link_closed(struct link_conn *c, const char *reason, int status, uint64_t in, uint64_t out)
{
	struct link *l = c->link;
	struct note note = {
		.verb = NOTE_CLOSED, .id = c->id, .status = status, .in = in, .out = out
	};

	if (!l)
		return;
	snprintf(note.reason, sizeof(note.reason), "%s", reason);
	link_forget(c);
	note.n = link_due(l);
	if (link_queue(l, &note, NULL, -1) == 0)
		l->credit += note.n;
}

void
link_drain(struct link *l)
{
	struct note note = { .verb = NOTE_DRAIN };

	if (l->drained)
		return;
	l->drained = true;
	if (l->state == LINK_UP)
		(void)link_queue(l, &note, NULL, -1);
	else
		link_drop(l, NULL);
}

bool
link_usable(const struct link *l)
{
	return l->state == LINK_UP && !l->drained && !l->deaf && !l->stale && !l->full &&
	       l->credit > 0;
}
