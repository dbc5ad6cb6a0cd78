/* flow/node_dial - how messages for a peer get a connection: dials, failures in a row, back-off. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/text.h"
#include "flow/node_parts.h"
#include "flow/room.h"

void
node_peer_halt(struct node_peer *p)
{
	dial_stop(&p->dial);
	reactor_timer(p->node->cfg.reactor, &p->timer, CLOCK_NEVER);
	p->dialling = PEER_IDLE;
}

/* ---- failures ---- */

static bool
may_retry(struct node_peer *p)
{
	const struct node_config *cfg = &p->node->cfg;
	int64_t ms;

	if (p->failures > cfg->plan.retries || p->out.waiting == 0 || p->node->ending)
		return false;
	ms = endpoint_backoff(&cfg->plan, p->failures - 1);
	return reactor_timer(cfg->reactor, &p->timer, clock_after(reactor_now(cfg->reactor), ms)) ==
	       0;
}

void
node_peer_drop(struct node_peer *p, const char *loss, const char *why)
{
	struct outbox_fate fate;

	outbox_break(&p->out, OUTBOX_KEEP_NONE, &fate);
	node_drop_now(p->node, p->id, p->id_len, loss, fate.dropped, why);
	node_drop_now(p->node, p->id, p->id_len, "unknown", fate.unknown, why);
}

void
node_peer_failed(struct node_peer *p, const char *loss, const char *why)
{
	node_peer_halt(p);
	p->failures++;
	if (p->wanted)
		node_due(p->node, NODE_DUE_ROOM); /* it is gone, or they are told otherwise */
	if (may_retry(p)) {
		p->dialling = PEER_BACKING_OFF;
		return;
	}
	p->failures = 0;
	p->refused = p->wanted = false;
	node_peer_drop(p, loss, why);
	node_peer_check(p);
}

static const char *
loss_of(const struct endpoint *ep)
{
	switch (endpoint_exit(ep)) {
	case CCF_DEADLINE:
		return "connect-timeout";
	case CCF_RESOLVE:
		return "no-such-name";
	case CCF_BIND:
		return "cannot-bind";
	case CCF_CONNECT:
		return "refused";
	default:
		return "other";
	}
}

/* We have no descriptor for it: the peer has not failed, and there will be one again. */
static bool
dial_later(struct node_peer *p)
{
	struct reactor *r = p->node->cfg.reactor;
	int error = p->dial.ep.error;

	if ((error != EMFILE && error != ENFILE) || p->node->ending)
		return false;
	room_short("cannot dial", error, "messages wait until there is a descriptor");
	if (reactor_timer(r, &p->timer, clock_after(reactor_now(r), NODE_FEW_MS)) < 0)
		return false;
	dial_stop(&p->dial);
	p->dialling = PEER_BACKING_OFF;
	return true;
}

static void
dial_failed(struct node_peer *p)
{
	static struct log_class class = { .name = "failed dials" };
	struct log_who who = { .peer = p->address->name };
	const char *loss = loss_of(&p->dial.ep);
	struct text id = { 0 };
	char why[512];

	(void)endpoint_why(&p->dial.ep, why, sizeof(why));
	frame_id_text(&id, p->id, p->id_len);
	if (log_admit(&class, reactor_now(p->node->cfg.reactor)))
		log_event(LOG_L_WARN, &who, "connect-failed", NULL, "node %s: %s",
		    id.at ? id.at : "", why);
	text_free(&id);
	p->refused = true;
	node_peer_failed(p, loss, why);
}

/* ---- dials ---- */

static void
dial_name(struct node_peer *p, struct node_conn *c)
{
	struct text id = { 0 };

	frame_id_text(&id, p->id, p->id_len);
	snprintf(c->tell.conn, sizeof(c->tell.conn), "%.70s#%llu", id.at ? id.at : "node",
	    (unsigned long long)++p->node->dials);
	text_free(&id);
}

static void
dial_connected(struct node_peer *p)
{
	int fd = endpoint_take_fd(&p->dial.ep);
	struct node_event e = { 0 };
	struct node_conn *c;

	node_peer_halt(p);
	c = node_conn_new(p->node, fd, true);
	if (!c) {
		close(fd);
		node_peer_failed(p, "other", "no memory for a connection");
		return;
	}
	p->refused = false;
	dial_name(p, c);
	node_conn_dialled(c, p);
	node_open_line(c);
	node_tell_conn(c, NODE_UP, &e);
}

static void
dial_done(struct dial *d)
{
	struct node_peer *p = (struct node_peer *)((char *)d - offsetof(struct node_peer, dial));

	if (d->ep.state == EP_CONNECTED)
		dial_connected(p);
	else if (!dial_later(p))
		dial_failed(p);
}

/* What cannot be dialled is waited for as long as retries would take. */
static void
dial_begin(struct node_peer *p)
{
	struct node *node = p->node;
	struct endpoint_plan plan = node->cfg.plan;

	while (outbox_at_mark(&p->out)) /* a close, and there is nothing to be closed */
		outbox_pass(&p->out);
	if (!p->address) {
		node_peer_failed(p, "link-lost", NULL);
		return;
	}
	plan.target = *p->address;
	plan.retries = 0;
	p->dialling = PEER_DIALLING;
	dial_start(&p->dial, node->cfg.dialler, &plan, dial_done);
	p->dial.ep.trace = node->cfg.trace;
	p->dial.ep.owner = p;
}

void
node_peer_again(struct timer *t)
{
	struct node_peer *p = (struct node_peer *)((char *)t - offsetof(struct node_peer, timer));

	p->dialling = PEER_IDLE;
	node_peer_check(p);
}

/* ---- what to do now ---- */

unsigned
node_peer_conns(const struct node_peer *p)
{
	const struct node_conn *c;
	unsigned n = 0;

	TAILQ_FOREACH(c, &p->conns, link)
		n++;
	return n;
}

/* What is dialled next waits for the end of those before it. */
static bool
may_dial(const struct node_peer *p)
{
	const struct node_conn *c;

	TAILQ_FOREACH(c, &p->conns, link)
		if (!c->parted)
			return false;
	return p->dialling == PEER_IDLE && node_peer_conns(p) < NODE_CROWD;
}

bool
node_peer_reachable(const struct node_peer *p)
{
	return p->address || !TAILQ_EMPTY(&p->conns) || p->dialling != PEER_IDLE;
}

static bool
half_full(const struct node_peer *p)
{
	return p->out.unwritten + p->out.spooled > p->node->cfg.max_queue / 2 ||
	       p->out.ranges > NODE_FILES / 2;
}

/* Who waits is not told of every byte: half of it has to be free. */
static void
tell_room(struct node_peer *p)
{
	if (!p->wanted || (half_full(p) && !p->refused))
		return;
	p->wanted = false;
	node_due(p->node, NODE_DUE_ROOM);
}

/* node_now: nothing is tried any more. */
static void
give_up(struct node_peer *p)
{
	node_peer_halt(p);
	if (TAILQ_EMPTY(&p->conns))
		node_peer_drop(p, p->node->ending, NULL);
}

void
node_peer_check(struct node_peer *p)
{
	struct node *node = p->node;

	if (node->ending)
		give_up(p);
	if (p->out.waiting == 0 || p->current)
		node_peer_halt(p);
	else if (may_dial(p)) {
		dial_begin(p);
		return;
	}
	tell_room(p);
	if (p->out.waiting > 0)
		return;
	if (node->draining && p->current && p->current == TAILQ_FIRST(&p->conns))
		node_conn_leave(p->current, "closed");
	if (!p->said && TAILQ_EMPTY(&p->conns))
		node_due(node, NODE_DUE_FORGET);
	node_due(node, NODE_DUE_IDLE);
}

void
node_peer_moved(struct node_peer *p)
{
	if (p->out.delivered != p->delivered)
		p->failures = 0;
	p->delivered = p->out.delivered;
	tell_room(p);
	if (p->out.waiting == 0)
		node_peer_check(p);
}
