/* flow/node_says - what a node tells: events, the drops of a turn summed up, rows, figures. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/exit.h"
#include "base/metrics.h"
#include "base/text.h"
#include "flow/node_parts.h"
#include "flow/rows.h"

#define DROPS_MAX 64 /* of different ids or reasons, until they are told */

struct node_drop {
	TAILQ_ENTRY(node_drop) link;
	const char *loss; /* static */
	uint64_t n;
	size_t id_len;
	char id[];
};

/* ---- events ---- */

static void
tell_drop(
    struct node *node, const char *id, size_t len, const char *loss, uint64_t n, const char *why)
{
	struct node_event e = { .kind = NODE_DROP,
		.id = id,
		.id_len = len,
		.address = "",
		.reason = loss,
		.why = why,
		.count = n };

	if (node->cfg.event)
		node->cfg.event(node->cfg.arg, &e);
}

static void
tell_drops(struct node *node)
{
	struct node_drop *d;

	while ((d = TAILQ_FIRST(&node->drops))) {
		TAILQ_REMOVE(&node->drops, d, link);
		node->n_drops--;
		tell_drop(node, d->id, d->id_len, d->loss, d->n, NULL);
		free(d);
	}
}

void
node_drops_free(struct node *node)
{
	struct node_drop *d;

	while ((d = TAILQ_FIRST(&node->drops))) {
		TAILQ_REMOVE(&node->drops, d, link);
		free(d);
	}
	node->n_drops = 0;
}

static struct node_drop *
drop_find(struct node *node, const char *id, size_t len, const char *loss)
{
	struct node_drop *d;

	TAILQ_FOREACH(d, &node->drops, link)
		if (d->id_len == len && memcmp(d->id, id, len) == 0 && strcmp(d->loss, loss) == 0)
			break;
	return d;
}

static struct node_drop *
drop_new(struct node *node, const char *id, size_t len, const char *loss)
{
	struct node_drop *d = malloc(sizeof(*d) + len);

	if (!d)
		return NULL;
	*d = (struct node_drop){ .loss = loss, .id_len = len };
	memcpy(d->id, id, len);
	if (node->n_drops >= DROPS_MAX)
		tell_drops(node);
	TAILQ_INSERT_HEAD(&node->drops, d, link);
	node->n_drops++;
	node_due(node, NODE_DUE_DROPS);
	return d;
}

void
node_drop(struct node *node, const char *id, size_t len, const char *loss, uint64_t n)
{
	struct node_drop *d = drop_find(node, id, len, loss);

	metric_add(METRIC_LOSSES, loss, n);
	if (!d)
		d = drop_new(node, id, len, loss);
	if (d)
		d->n += n;
	else
		tell_drop(node, id, len, loss, n, NULL);
}

void
node_drop_now(
    struct node *node, const char *id, size_t len, const char *loss, uint64_t n, const char *why)
{
	if (n == 0)
		return;
	metric_add(METRIC_LOSSES, loss, n);
	tell_drops(node);
	tell_drop(node, id, len, loss, n, why);
}

void
node_tell_conn(struct node_conn *c, enum node_event_kind kind, struct node_event *e)
{
	struct node *node = c->node;

	tell_drops(node);
	e->kind = kind;
	e->id = c->peer ? c->peer->id : NULL;
	e->id_len = c->peer ? c->peer->id_len : 0;
	e->dialled = c->dialled;
	e->address = c->address;
	if (node->cfg.event)
		node->cfg.event(node->cfg.arg, e);
}

void
node_open_line(const struct node_conn *c)
{
	struct text line = { 0 };

	text_add(&line, c->dialled ? "connected to node " : "is node ");
	frame_id_text(&line, c->peer->id, c->peer->id_len);
	tell_open(&c->tell, line.at ? line.at : "connected");
	text_free(&line);
}

/* ---- the end of a turn ---- */

void
node_due(struct node *node, enum node_due what)
{
	if (!node->due)
		reactor_later(node->cfg.reactor, &node->task);
	node->due |= what;
}

void
node_turn_over(struct task *t)
{
	struct node *node = (struct node *)((char *)t - offsetof(struct node, task));
	unsigned due = node->due;

	node->due = 0;
	tell_drops(node);
	if (due & NODE_DUE_FORGET)
		node_forget(node);
	if (due & NODE_DUE_ROOM && node->cfg.room)
		node->cfg.room(node->cfg.arg);
	if (due & NODE_DUE_IDLE && node->cfg.idle)
		node->cfg.idle(node->cfg.arg);
}

/* ---- what is asked ---- */

void
node_count(struct node_peer *p)
{
	metric_add(METRIC_MESSAGES, "in", p->messages_in - p->counted.in);
	metric_add(METRIC_MESSAGE_BYTES, "in", p->bytes_in - p->counted.in_bytes);
	metric_add(METRIC_MESSAGES, "out", p->out.delivered - p->counted.out);
	metric_add(METRIC_MESSAGE_BYTES, "out", p->out.bytes_delivered - p->counted.out_bytes);
	metric_add(METRIC_RESENT, NULL, p->out.resent - p->counted.resent);
	p->counted.in = p->messages_in;
	p->counted.in_bytes = p->bytes_in;
	p->counted.out = p->out.delivered;
	p->counted.out_bytes = p->out.bytes_delivered;
	p->counted.resent = p->out.resent;
}

enum node_peer_state
node_peer_state(const struct node_peer *p)
{
	return p->current			 ? NODE_PEER_UP
	       : p->dialling == PEER_DIALLING	 ? NODE_PEER_DIALLING
	       : p->dialling == PEER_BACKING_OFF ? NODE_PEER_WAITING
						 : NODE_PEER_DOWN;
}

const char *
node_peer_state_name(enum node_peer_state state)
{
	static const char *const name[] = {
		[NODE_PEER_DOWN] = "down",
		[NODE_PEER_DIALLING] = "dialling",
		[NODE_PEER_WAITING] = "waiting",
		[NODE_PEER_UP] = "up",
	};

	return name[state];
}

void
node_look(struct node_peer *p)
{
	struct node_conn *c;

	TAILQ_FOREACH(c, &p->conns, link)
		if (c->writes) {
			node_conn_acks(c);
			return;
		}
}

static const char *
state_name(const struct node_conn *c)
{
	return c->state == CONN_STRANGER ? "first-frame"
	       : c->state == CONN_OPEN	 ? "open"
					 : "leaving";
}

static void
row_add(const struct node_conn *c, struct text *t)
{
	int64_t now = reactor_now(c->node->cfg.reactor);
	struct conn_row row;

	rows_from(&row, &c->tell, state_name(c));
	row.in = c->in.bytes;
	row.out = c->out_bytes;
	row.held = c->in.rest_len + (c->writes ? c->peer->out.unwritten : 0);
	row.idle_ms = now > c->moved_at ? now - c->moved_at : 0;
	if (row.idle_ms > row.age_ms) /* by another clock's rounding */
		row.idle_ms = row.age_ms;
	rows_json(t, &row, 1);
}

void
node_rows(const struct node *node, struct text *t)
{
	const struct node_conn *c;
	struct node_peer *p;

	TAILQ_FOREACH(c, &node->strangers, link)
		row_add(c, t);
	RB_FOREACH(p, node_peers, (struct node_peers *)&node->peers)
		TAILQ_FOREACH(c, &p->conns, link)
			row_add(c, t);
}

static struct node_conn *
conn_called(struct node *node, const char *conn)
{
	struct node_conn *c;
	struct node_peer *p;

	TAILQ_FOREACH(c, &node->strangers, link)
		if (strcmp(c->tell.conn, conn) == 0)
			return c;
	RB_FOREACH(p, node_peers, &node->peers)
		TAILQ_FOREACH(c, &p->conns, link)
			if (strcmp(c->tell.conn, conn) == 0)
				return c;
	return NULL;
}

bool
node_cut(struct node *node, const char *conn)
{
	struct node_conn *c = conn_called(node, conn);

	if (c)
		node_conn_cut(c, "control", CCF_CUT, NULL);
	return c != NULL;
}

void
node_metrics(struct node *node, struct text *t)
{
	static const enum metric which[] = { METRIC_TAKEN, METRIC_LIVE, METRIC_PEAK, METRIC_CLOSED,
		METRIC_BYTES, METRIC_CONN_TIME, METRIC_DIALS, METRIC_DIAL_TIME, METRIC_MESSAGES,
		METRIC_MESSAGE_BYTES, METRIC_LOSSES, METRIC_RESENT, METRIC_MESSAGES_WAITING,
		METRIC_LINES };
	struct node_peer *p;
	uint64_t waiting = 0;

	RB_FOREACH(p, node_peers, &node->peers) {
		node_look(p);
		node_count(p);
		waiting += p->out.waiting;
	}
	metric_set(METRIC_LIVE, node->live);
	metric_set(METRIC_PEAK, node->peak);
	metric_set(METRIC_MESSAGES_WAITING, waiting);
	metrics_print(t, metrics_here(), which, sizeof(which) / sizeof(which[0]));
}
