#include "flow/link.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "flow/link_parts.h"

int
link_conn_cmp(struct link_conn *a, struct link_conn *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(link_conns, link_conn, node, link_conn_cmp)

bool
link_produces(const struct link *l)
{
	return l->hub->cfg.role == NOTE_PRODUCER;
}

/* ---- the list of open ids ---- */

struct link_conn *
link_find(struct link *l, uint64_t id)
{
	struct link_conn key = { .id = id };

	return RB_FIND(link_conns, &l->conns, &key);
}

void
link_add(struct link *l, struct link_conn *c)
{
	c->link = l;
	RB_INSERT(link_conns, &l->conns, c);
	l->live++;
}

/* Whether a drained link may be shut or closed now. */
void
link_wind_up(struct link *l)
{
	struct link_conn *c;

	if (l->state != LINK_UP || !l->drained || !TAILQ_EMPTY(&l->queue))
		return;
	if (link_produces(l)) {
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
void
link_settle(struct link_conn *c)
{
	if (c->link && c->owing) {
		c->link->owing--;
		if (c->link->drained)
			reactor_later(c->link->hub->cfg.reactor, &c->link->later);
	}
	c->owing = false;
}

void
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
	if (!link_produces(l))
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
