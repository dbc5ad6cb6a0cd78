/* Messages are queued and go out together at the end of the turn, through one system call where
 * possible. Reading never waits for writing, nor writing for reading. */
#include "flow/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/log.h"
#include "flow/hub.h"
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
#define PUMP_MAX 64	  /* batches before others get their turn; a socket holds fewer */

static char in_bytes[HANDOFF_BATCH][HANDOFF_MAX];

static void link_write(struct link *);

int
link_conn_cmp(struct link_conn *a, struct link_conn *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(link_conns, link_conn, node, link_conn_cmp)

static bool
producing(const struct link *l)
{
	return l->hub->cfg.role == NOTE_PRODUCER;
}

/* ---- the list of open ids ---- */

static struct link_conn *
link_find(struct link *l, uint64_t id)
{
	struct link_conn key = { .id = id };

	return RB_FIND(link_conns, &l->conns, &key);
}

static void
link_add(struct link *l, struct link_conn *c)
{
	c->link = l;
	RB_INSERT(link_conns, &l->conns, c);
	l->live++;
}

/* Whether a drained link may be shut or closed now. */
static void
link_wind_up(struct link *l)
{
	struct link_conn *c;

	if (l->state != LINK_UP || !l->drained || !TAILQ_EMPTY(&l->queue))
		return;
	if (producing(l)) {
		if (l->owing == 0 && !l->shut) {
			l->shut = true;
			shutdown(l->fd, SHUT_WR);
		}
		return;
	}
	if (!l->shut)
		return;
	RB_FOREACH(c, link_conns, &l->conns)
		if (!c->adopted)
			return;
	link_drop(l, NULL);
}

/* Nothing is owed to the consumer about it any more. */
static void
link_settle(struct link_conn *c)
{
	if (c->link && c->owing) {
		c->link->owing--;
		if (c->link->drained)
			reactor_later(c->link->hub->cfg.reactor, &c->link->later);
	}
	c->owing = false;
}

static void
link_unmark(struct link_conn *c)
{
	if (c->eof_mark)
		c->link->marked--;
	c->eof_mark = 0;
}

void
link_forget(struct link_conn *c)
{
	struct link *l = c->link;

	if (!l)
		return;
	link_settle(c);
	link_unmark(c);
	RB_REMOVE(link_conns, &l->conns, c);
	l->live--;
	c->link = NULL;
	if (l->drained)
		reactor_later(l->hub->cfg.reactor, &l->later);
}

/* ---- sending ---- */

static int
link_queue(struct link *l, const struct note *note, const struct env *env, int fd)
{
	static char packet[NOTE_MAX];
	ssize_t len = note_print(note, env, packet, sizeof(packet));
	struct link_out *o;

	if (len < 0)
		return (int)len;
	if (l->deaf || l->state == LINK_GONE || (l->shut && producing(l)))
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

static void
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
static void
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
		/* not its end: what the other said before is still to be read */
		l->deaf = true;
		link_empty_queue(l);
		l->sent = l->queued;
	} else if (rc < 0 && rc != -EAGAIN) { /* the other is alive, and would wait for it */
		link_drop(l, strerror(-rc));
		return;
	}
	reactor_want(l->hub->cfg.reactor, &l->watch,
	    (l->shut && !producing(l) ? WATCH_HUP : WATCH_READ) |
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

	if (producing(l) || l->state != LINK_UP || l->drained || l->full ||
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

static void
link_later(struct task *t)
{
	struct link *l = (struct link *)((char *)t - offsetof(struct link, later));

	if (l->state == LINK_GONE)
		return;
	if (l->full && l->queued - l->sent < KEPT_MAX / 2) {
		l->full = false;
		if (producing(l))
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

static void
link_hello(struct link *l)
{
	const struct hub_config *cfg = &l->hub->cfg;
	struct note note = {
		.verb = NOTE_HELLO, .version = NOTE_VERSION, .role = cfg->role, .modes = cfg->modes
	};

	snprintf(note.tool, sizeof(note.tool), "%s", cfg->tool);
	if (!producing(l) && l->hub->ticketed)
		memcpy(note.token, l->hub->ticket.token, sizeof(note.token));
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

/* ---- receiving ---- */

/* A descriptor that was inherited is the permission; so is the token of a ticket, and to its reader
 * the ticket. */
static bool
hello_allowed(struct link *l, const struct note *n)
{
	const struct hub *h = l->hub;
	uid_t uid;

	if (h->how == HUB_HAS_FD || handoff_peer_allowed(l->fd, h->cfg.peer_user, &uid))
		return true;
	return h->ticketed && (!producing(l) || strcmp(n->token, h->ticket.token) == 0);
}

static const char *
heard_hello(struct link *l, const struct note *n)
{
	unsigned other = producing(l) ? NOTE_CONSUMER : NOTE_PRODUCER;

	if (l->state != LINK_GREETING)
		return "a second hello";
	if (n->role != other)
		return producing(l) ? "the other side is a producer too"
				    : "the other side is a consumer too";
	if (!hello_allowed(l, n))
		return l->hub->ticketed
			   ? "its user is neither ours nor root, and its token is not the ticket's"
			   : "its user is neither ours nor root (--peer-user allows another)";
	if (producing(l))
		l->modes = n->modes ? n->modes : NOTE_TAKE;
	snprintf(l->tool, sizeof(l->tool), "%s", n->tool);
	l->state = LINK_UP;
	reactor_timer(l->hub->cfg.reactor, &l->hello, CLOCK_NEVER);
	if (producing(l))
		link_hello(l);
	hub_greeted(l->hub, l, n);
	link_regrant(l);
	return NULL;
}

/* The sum may be more than a number holds. */
static void
link_credit(struct link *l, uint32_t n)
{
	l->credit = n > LINK_WINDOW || l->credit + n > LINK_WINDOW ? LINK_WINDOW : l->credit + n;
}

static const char *
heard_conn(struct link *l, const struct note *n, int *fd, bool starved)
{
	int got = *fd;

	if (producing(l))
		return "a conn from a consumer";
	if (n->id <= l->last_id)
		return "a connection number that is not larger than the last";
	if (l->credit == 0)
		return "more connections than were granted";
	l->last_id = n->id;
	l->credit--;
	link_regrant(l);
	if (starved) {
		struct link_conn c = { .id = n->id };

		hub_starve(l->hub); /* before: closed may carry a grant */
		link_add(l, &c);
		link_closed(&c, "no-descriptors", 69, 0, 0);
		return NULL;
	}
	if (got == -1 && !(l->hub->cfg.modes & NOTE_GIVE))
		return "a conn without its descriptor";
	if (got != -1 && socket_kind(got) != SOCK_STREAM)
		return "a conn whose descriptor is not a stream socket";
	*fd = -1;
	l->hub->cfg.ops->conn(l->hub, l, n, got);
	return NULL;
}

static const char *
heard_adopt(struct link *l, const struct note *n, int *fd, bool starved)
{
	struct link_conn *c = link_find(l, n->id);
	int got = *fd;

	if (!producing(l))
		return "an adopt from a producer";
	if (got == -1 && !starved)
		return "an adopt without its descriptor";
	if (got != -1 && socket_kind(got) != SOCK_STREAM)
		return "an adopt whose descriptor is not a stream socket";
	link_credit(l, n->n);
	if (!c || !c->asked || c->adopted) /* it crossed our closed: closed unread */
		return NULL;
	if (starved) {
		hub_starve(l->hub);
		link_closed(c, "no-descriptors", 69, 0, 0);
		c->ops->closed(c, "no-descriptors", 69, 0, 0);
		return NULL;
	}
	*fd = -1;
	c->adopted = true;
	link_settle(c);
	c->ops->adopted(c, got);
	return NULL;
}

static void
heard_closed(struct link *l, const struct note *n)
{
	struct link_conn *c = link_find(l, n->id);

	if (producing(l))
		link_credit(l, n->n);
	if (!c)
		return;
	link_forget(c);
	c->ops->closed(c, n->reason, n->status, n->in, n->out);
}

static void
heard_eof(struct link *l, const struct note *n)
{
	struct link_conn *c = link_find(l, n->id);

	if (!c || c->ended)
		return;
	c->ended = true;
	if (c->ops->ended)
		c->ops->ended(c);
}

static const char *
heard_drain(struct link *l)
{
	if (!producing(l))
		return "a drain from a producer";
	l->drained = true;
	l->credit = 0;
	reactor_later(l->hub->cfg.reactor, &l->later);
	return NULL;
}

/* Acts on one message.  NULL, or what was wrong with it. */
static const char *
link_hear(struct link *l, struct handoff_in *in)
{
	bool had = link_usable(l);
	const char *wrong = NULL;
	struct note n;

	if (in->len < 0)
		return "a message of the wrong shape (too long, or with two descriptors)";
	if (note_parse(&n, in->bytes, (size_t)in->len) < 0)
		return note_fault();
	if (l->state == LINK_GREETING && n.verb != NOTE_HELLO)
		return "something before its hello";
	if (in->fd != -1 && n.verb != NOTE_CONN && n.verb != NOTE_ADOPT && n.verb != NOTE_UNKNOWN)
		return "a descriptor where none belongs";
	if (l->unread_since) /* it lives; the hub's tick looks whether all is read */
		l->unread_since = reactor_now(l->hub->cfg.reactor);
	l->stale = false;
	switch (n.verb) {
	case NOTE_HELLO:
		wrong = heard_hello(l, &n);
		break;
	case NOTE_READY:
		if (!producing(l))
			wrong = "a ready from a producer";
		else
			link_credit(l, n.n);
		break;
	case NOTE_CONN:
		wrong = heard_conn(l, &n, &in->fd, in->starved);
		break;
	case NOTE_ADOPT:
		wrong = heard_adopt(l, &n, &in->fd, in->starved);
		break;
	case NOTE_EOF:
		heard_eof(l, &n);
		break;
	case NOTE_CLOSED:
		heard_closed(l, &n);
		break;
	case NOTE_DRAIN:
		wrong = heard_drain(l);
		break;
	case NOTE_UNKNOWN:
		break;
	}
	if (producing(l) && !wrong) {
		if (l->drained)
			l->credit = 0;
		if (had != link_usable(l))
			l->hub->cfg.ops->credit(l->hub);
	}
	return wrong;
}

/* The other side has closed, or (consumer, after our drain) has nothing more to say. */
static void
link_read_end(struct link *l)
{
	if (!producing(l) && l->drained && !l->deaf && l->state == LINK_UP) {
		l->shut = true;
		l->credit = 0;
		reactor_want(l->hub->cfg.reactor, &l->watch, WATCH_HUP);
		reactor_later(l->hub->cfg.reactor, &l->later);
		return;
	}
	link_drop(l, NULL);
}

void
link_pump(struct link *l)
{
	struct handoff_in in[HANDOFF_BATCH];
	const char *wrong = NULL;
	int n;

	for (int turn = 0; turn < PUMP_MAX && l->state != LINK_GONE && !(l->shut && !producing(l));
	     turn++) {
		for (int i = 0; i < HANDOFF_BATCH; i++)
			in[i] = (struct handoff_in){ .bytes = in_bytes[i], .fd = -1 };
		n = handoff_recv(l->fd, in, HANDOFF_BATCH);
		if (n == -EAGAIN)
			return;
		if (n == -ECONNRESET) /* its last messages come after this */
			continue;
		if (n <= 0) {
			link_read_end(l);
			return;
		}
		for (int i = 0; i < n; i++) {
			if (!wrong && l->state != LINK_GONE)
				wrong = link_hear(l, &in[i]);
			if (in[i].fd != -1)
				close(in[i].fd);
		}
		if (wrong)
			link_drop(l, wrong);
		if (n < HANDOFF_BATCH) /* level-triggered: more is reported again */
			return;
	}
}

static void
link_ready(struct watch *w, uint32_t got)
{
	struct link *l = (struct link *)((char *)w - offsetof(struct link, watch));

	bool heard_all = l->shut && !producing(l);

	if (heard_all && got & (WATCH_HUP | WATCH_ERR)) /* the producer is gone for good */
		link_drop(l, NULL);
	if (!heard_all && got & (WATCH_READ | WATCH_HUP | WATCH_ERR))
		link_pump(l);
	if (got & WATCH_WRITE && l->state != LINK_GONE)
		link_write(l);
}

/* ---- life ---- */

static void
link_release(struct grave *g)
{
	free((char *)g - offsetof(struct link, grave));
}

static void
link_resend(struct timer *t)
{
	link_write((struct link *)((char *)t - offsetof(struct link, resend)));
}

static void
link_slow(struct timer *t)
{
	link_drop((struct link *)((char *)t - offsetof(struct link, hello)), "no hello in time");
}

void
link_drop(struct link *l, const char *why)
{
	static struct log_class broken = { .name = "broken links" };
	struct hub *hub = l->hub;
	struct reactor *reactor = hub->cfg.reactor;
	struct link_conn *c;

	if (l->state == LINK_GONE)
		return;
	if (why && log_admit(&broken, reactor_now(reactor)))
		log_event(LOG_L_WARN, NULL, "link-broken", NULL, "%s %s: link with %s ended: %s",
		    hub->cfg.option, hub->cfg.spec, l->tool[0] ? l->tool : "an unknown tool", why);
	l->state = LINK_GONE;
	l->broken = why != NULL;
	reactor_forget(reactor, &l->watch);
	reactor_timer(reactor, &l->hello, CLOCK_NEVER);
	reactor_timer(reactor, &l->resend, CLOCK_NEVER);
	reactor_drop(reactor, &l->later);
	close(l->fd);
	l->fd = -1;
	while ((c = RB_MIN(link_conns, &l->conns))) {
		if (!c->adopted)
			hub->lost++;
		link_forget(c);
		if (c->ops->lost)
			c->ops->lost(c);
	}
	reactor_drop(reactor, &l->later);
	link_empty_queue(l);
	reactor_bury(reactor, &l->grave, link_release);
	hub_gone(hub, l);
}

int
link_open(struct link **ret, struct hub *hub, int fd)
{
	struct link *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return -ENOMEM;
	l->hub = hub;
	l->fd = fd;
	l->later.run = link_later;
	l->hello.fire = link_slow;
	l->resend.fire = link_resend;
	TAILQ_INIT(&l->queue);
	RB_INIT(&l->conns);
	rc = reactor_timer(
	    hub->cfg.reactor, &l->hello, reactor_now(hub->cfg.reactor) + LINK_HELLO_MS);
	if (rc < 0) {
		free(l);
		return rc;
	}
	reactor_watch(hub->cfg.reactor, &l->watch, fd, link_ready);
	reactor_want(hub->cfg.reactor, &l->watch, WATCH_READ);
	if (!producing(l))
		link_hello(l);
	*ret = l;
	return 0;
}

void
link_join(struct link *l, struct link_conn *c, const struct link_conn_ops *ops, uint64_t id)
{
	c->ops = ops;
	c->id = id;
	link_add(l, c);
}

struct orphan {
	struct link_conn lc;
};

static void
orphan_lost(struct link_conn *lc)
{
	free((struct orphan *)((char *)lc - offsetof(struct orphan, lc)));
}

static void
orphan_closed(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	(void)reason;
	(void)status;
	(void)in;
	(void)out;
	orphan_lost(lc);
}

static const struct link_conn_ops orphan_ops = {
	.closed = orphan_closed,
	.lost = orphan_lost,
};

void
link_leave(struct link_conn *c)
{
	struct link *l = c->link;
	struct orphan *o = l ? calloc(1, sizeof(*o)) : NULL;

	link_forget(c);
	if (o)
		link_join(l, &o->lc, &orphan_ops, c->id);
}
