/* Every message is judged before it is acted on; what breaks the protocol ends this link, and no
 * other. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "flow/link_parts.h"
#include "net/handoff.h"
#include "net/socket.h"

#define PUMP_MAX 64 /* batches before others get their turn; a socket holds fewer */

static char in_bytes[HANDOFF_BATCH][HANDOFF_MAX];

/* Who comes without a ticket's token was looked at by flow/name. */
static bool
hello_allowed(struct link *l, const struct note *n)
{
	const struct hub *h = l->hub;

	return !link_produces(l) || !h->token[0] || strcmp(n->token, h->token) == 0 ||
	       handoff_peer_allowed(l->fd, h->cfg.peer_user, NULL);
}

static const char *
heard_hello(struct link *l, const struct note *n)
{
	unsigned other = link_produces(l) ? NOTE_CONSUMER : NOTE_PRODUCER;

	if (l->state != LINK_GREETING)
		return "a second hello";
	if (n->role != other)
		return link_produces(l) ? "the other side is a producer too"
					: "the other side is a consumer too";
	if (!hello_allowed(l, n))
		return "its user is neither ours nor root, and its token is not the ticket's";
	if (link_produces(l))
		l->modes = n->modes ? n->modes : NOTE_TAKE;
	snprintf(l->tool, sizeof(l->tool), "%s", n->tool);
	l->state = LINK_UP;
	reactor_timer(l->hub->cfg.reactor, &l->hello, CLOCK_NEVER);
	if (link_produces(l))
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

	if (link_produces(l))
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

	if (!link_produces(l))
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

	if (link_produces(l))
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
	if (!link_produces(l))
		return "a drain from a producer";
	if (!l->drained)
		hub_drained(l->hub, l);
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
		if (!link_produces(l))
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
	if (link_produces(l) && !wrong) {
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
	if (!link_produces(l) && l->drained && !l->deaf && l->state == LINK_UP) {
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

	for (int turn = 0;
	     turn < PUMP_MAX && l->state != LINK_GONE && !(l->shut && !link_produces(l)); turn++) {
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

void
link_ready(struct watch *w, uint32_t got)
{
	struct link *l = (struct link *)((char *)w - offsetof(struct link, watch));

	bool heard_all = l->shut && !link_produces(l);

	if (heard_all && got & (WATCH_HUP | WATCH_ERR)) /* the producer is gone for good */
		link_drop(l, NULL);
	if (!heard_all && got & (WATCH_READ | WATCH_HUP | WATCH_ERR))
		link_pump(l);
	if (got & WATCH_WRITE && l->state != LINK_GONE)
		link_write(l);
}
