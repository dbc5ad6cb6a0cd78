/* flow/node - peers and their messages, and which connection of a peer stays: see node.h's rules.
 */
#include "flow/node.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "base/metrics.h"
#include "flow/node_parts.h"
#include "flow/range.h"
#include "flow/room.h"

#define PIECES 32 /* of a message, with its head */

/* ---- peers ---- */

static int
id_cmp(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int by = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return by ? by : a_len < b_len ? -1 : a_len > b_len;
}

int
node_peer_cmp(struct node_peer *a, struct node_peer *b)
{
	return id_cmp(a->id, a->id_len, b->id, b->id_len);
}

RB_GENERATE(node_peers, node_peer, node_entry, node_peer_cmp)

struct node_peer *
node_find(struct node *node, const char *id, size_t len)
{
	struct node_peer *p = node->last, key;

	if (p && p->id_len == len && memcmp(p->id, id, len) == 0)
		return p;
	key.id = (char *)id;
	key.id_len = len;
	p = RB_FIND(node_peers, &node->peers, &key);
	if (p)
		node->last = p;
	return p;
}

/* A file shrank before the first byte of its message was written. */
static void
peer_lost(struct outbox *out, const struct range *r)
{
	struct node_peer *p = (struct node_peer *)((char *)out - offsetof(struct node_peer, out));

	(void)r;
	node_drop(p->node, p->id, p->id_len, "file-shrank", 1);
}

static int
peer_new(struct node_peer **ret, struct node *node, const char *id, size_t len)
{
	struct node_peer *p;

	if (node->n_peers >= NODE_PEERS)
		return -ENOSPC;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->id = malloc(len + 1);
	if (!p->id) {
		free(p);
		return -ENOMEM;
	}
	memcpy(p->id, id, len);
	p->id[len] = '\0';
	p->id_len = len;
	p->node = node;
	p->timer.fire = node_peer_again;
	outbox_init(&p->out);
	p->out.lost = peer_lost;
	TAILQ_INIT(&p->conns);
	RB_INSERT(node_peers, &node->peers, p);
	node->n_peers++;
	*ret = p;
	return 0;
}

static int
peer_make(struct node_peer **ret, struct node *node, const char *id, size_t len)
{
	struct node_peer *p = node_find(node, id, len);

	if (!p)
		return peer_new(ret, node, id, len);
	*ret = p;
	return 0;
}

static void
peer_free(struct node_peer *p)
{
	struct node *node = p->node;

	node_peer_halt(p);
	node_count(p);
	RB_REMOVE(node_peers, &node->peers, p);
	node->n_peers--;
	if (node->last == p)
		node->last = NULL;
	outbox_free(&p->out);
	free(p->address);
	free(p->id);
	free(p);
}

void
node_forget(struct node *node)
{
	struct node_peer *p, *next;

	RB_FOREACH_SAFE(p, node_peers, &node->peers, next)
		if (!p->said && TAILQ_EMPTY(&p->conns) && p->out.waiting == 0)
			peer_free(p);
}

int
node_associate(struct node *node, const char *id, size_t len, const struct addr *address)
{
	struct addr *copy;
	struct node_peer *p;
	int rc;

	if (id_cmp(id, len, node->cfg.id, node->cfg.id_len) == 0)
		return -EINVAL;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	rc = peer_make(&p, node, id, len);
	if (rc < 0) {
		free(copy);
		return rc;
	}
	*copy = *address;
	node_peer_halt(p); /* what waits tries the new one at once */
	free(p->address);
	p->address = copy;
	p->said = true;
	p->refused = false;
	p->failures = 0;
	node_peer_check(p);
	return 0;
}

/* ---- messages ---- */

static bool
is_full(const struct node_peer *p)
{
	return p->out.unwritten + p->out.spooled >= p->node->cfg.max_queue ||
	       p->out.ranges >= NODE_FILES;
}

/* What is to become of one for p, and why if it is dropped. */
static enum node_put
may_put(const struct node *node, const struct node_peer *p, const char **ret_loss)
{
	if (node->draining) {
		*ret_loss = "draining";
		return NODE_DROPPED;
	}
	if (!p || !node_peer_reachable(p)) {
		*ret_loss = "unknown-peer";
		return NODE_DROPPED;
	}
	if (!is_full(p))
		return NODE_TAKEN;
	*ret_loss = "queue-full";
	return p->refused ? NODE_DROPPED : NODE_WAIT;
}

static enum node_put
refuse(struct node *node, struct node_peer *p, const char *id, size_t len, const char *loss)
{
	if (p) {
		p->out.taken++;
		p->out.dropped++;
	} else {
		node->nobodys++;
	}
	node_drop(node, id, len, loss, 1);
	return NODE_DROPPED;
}

/* NODE_TAKEN: it may be put.  Else it is dealt with. */
static enum node_put
ask_put(struct node *node, struct node_peer *p, const char *id, size_t len)
{
	const char *loss;
	enum node_put may = may_put(node, p, &loss);

	if (may == NODE_WAIT)
		p->wanted = true;
	return may == NODE_DROPPED ? refuse(node, p, id, len, loss) : may;
}

static enum node_put
put(struct node_peer *p, const struct piece *piece, unsigned n)
{
	if (outbox_put(&p->out, piece, n) < 0)
		return NODE_FAILED;
	if (p->current)
		node_conn_kick(p->current);
	else
		node_peer_check(p);
	return NODE_TAKEN;
}

/* Those that have bytes; how many there are then. */
static unsigned
with_bytes(struct piece *to, const struct piece *piece, unsigned n, uint64_t *ret_size)
{
	unsigned m = 0;

	*ret_size = 0;
	for (unsigned i = 0; i < n; i++) {
		uint64_t len = piece[i].bytes	? piece[i].len
			       : piece[i].range ? piece[i].range->len
						: 0;

		if (len > 0)
			to[m++] = piece[i];
		*ret_size = *ret_size + len < len ? UINT64_MAX : *ret_size + len;
	}
	return m;
}

enum node_put
node_send(struct node *node, const char *id, size_t len, uint64_t type, const struct piece *piece,
    unsigned n)
{
	struct node_peer *p = node_find(node, id, len);
	struct piece all[PIECES];
	char head[FRAME_HEAD_MAX];
	enum node_put may = ask_put(node, p, id, len);
	uint64_t size;

	if (may != NODE_TAKEN)
		return may;
	n = with_bytes(all + 1, piece, n, &size);
	all[0] = (struct piece){ .bytes = head };
	all[0].len = frame_write_head(head, type, node->cfg.id, node->cfg.id_len, size);
	if (all[0].len == 0) /* no frame can say how long it is */
		return refuse(node, p, id, len, "other");
	return put(p, all, n + 1);
}

enum node_put
node_pass(struct node *node, const char *id, size_t len, const struct piece *piece, unsigned n)
{
	struct node_peer *p = node_find(node, id, len);
	struct piece all[PIECES];
	enum node_put may = ask_put(node, p, id, len);
	uint64_t size;

	if (may != NODE_TAKEN)
		return may;
	n = with_bytes(all, piece, n, &size);
	return put(p, all, n);
}

int
node_room(struct node *node, const char *id, size_t len)
{
	struct node_peer *p = node_find(node, id, len);
	const char *loss;
	enum node_put may = may_put(node, p, &loss);

	if (may == NODE_WAIT) /* who asked waits, too */
		p->wanted = true;
	return (int)may;
}

int
node_end(struct node *node, const char *id, size_t len)
{
	struct node_peer *p = node_find(node, id, len);
	int rc;

	if (!p)
		return -ENOENT;
	if (!p->current && !outbox_wants(&p->out))
		return 0; /* nothing to be closed, nor will be for what was sent before */
	rc = outbox_mark(&p->out);
	if (rc == 0 && p->current)
		node_conn_kick(p->current);
	return rc;
}

void
node_resume(struct node *node)
{
	struct node_conn *c;
	struct node_peer *p;

	RB_FOREACH(p, node_peers, &node->peers)
		TAILQ_FOREACH(c, &p->conns, link)
			node_conn_kick(c);
}

/* ---- connections ---- */

void
node_conn_taken(struct node *node, struct link *l, const struct note *n, int fd)
{
	struct node_conn *c = fd == -1 ? NULL : node_conn_new(node, fd, false);
	struct link_conn none = { 0 };
	struct env env = { 0 };

	if (!c) {
		if (fd != -1)
			close(fd);
		link_join(l, &none, &node_conn_said, n->id);
		link_closed(&none, fd == -1 ? "no-sink" : "no-memory",
		    fd == -1 ? CCF_UNAVAILABLE : CCF_SYSTEM, 0, 0);
		return;
	}
	link_join(l, &c->lc, &node_conn_said, n->id);
	(void)note_env(n, &env);
	tell_from(&c->tell, &env);
	env_free(&env);
	if (!c->address[0])
		strlcpy(c->address, c->tell.peer, sizeof(c->address));
	metric_add(METRIC_TAKEN, NULL, 1);
	if (node->draining)
		node_conn_leave(c, "closed");
}

/* Fewer, where a peer has many that were not read yet: they wait before they are taken, too. */
static unsigned
room_beside(struct node *node)
{
	unsigned n, room = UINT_MAX;
	struct node_peer *p;

	if (node->live < NODE_CROWD)
		return room;
	RB_FOREACH(p, node_peers, &node->peers) {
		n = node_peer_conns(p);
		if (n >= NODE_CROWD && TAILQ_FIRST(&p->conns)->held)
			return 0;
		if (n >= NODE_MANY)
			room = 1;
	}
	return room;
}

unsigned
node_hub_room(struct node *node)
{
	unsigned n = node->n_hubs ? node->n_hubs : 1, most, room;

	if (node->draining)
		return 0;
	/* Of each: its socket, and a file for a long payload. */
	room = (room_for(node->live, 2, node->cfg.fds_spare + node->n_hubs) + n - 1) / n;
	most = room_beside(node);
	return room < most ? room : most;
}

/* The peer has nothing more to say there, whether that was read or not. */
static bool
has_end(const struct node_conn *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };

	return c->ended || c->hung || c->broken || poll(&p, 1, 0) == 1;
}

/* CCF #8233: of two that dial each other at the same time both keep what the lesser one dialled.
 * Who has ended ours does not dial at the same time, but again. */
static bool
refuses(const struct node_peer *p)
{
	const struct node *node = p->node;
	const struct node_conn *c = p->current;

	return c && c->dialled && reactor_now(node->cfg.reactor) - c->born < NODE_YOUNG_MS &&
	       id_cmp(node->cfg.id, node->cfg.id_len, p->id, p->id_len) <= 0 && !has_end(c);
}

/* What has come there and was not read. */
static bool
has_unread(const struct node_conn *c)
{
	int n = 0;

	return c->in.rest_len > 0 || c->in.due || (ioctl(c->fd, FIONREAD, &n) == 0 && n > 0);
}

/* Who dials us does not know yet of the one that we dialled, or has ended it: what he says here he
 * said before all that may still come there, or there comes nothing more.  That one waits. */
static void
put_in_order(struct node_conn *c)
{
	struct node_conn *before = TAILQ_PREV(c, node_conns, link);

	if (!before || !before->dialled || before->state != CONN_LEAVING || has_unread(before))
		return;
	TAILQ_REMOVE(&c->peer->conns, c, link);
	TAILQ_INSERT_BEFORE(before, c, link);
}

static void
join(struct node_conn *c, struct node_peer *p)
{
	bool crossed = !p->current || has_end(p->current);
	struct node_event e = { 0 };
	struct node_conn *other;

	node_peer_halt(p);
	p->refused = false;
	if (p->current)
		node_conn_leave(p->current, "replaced");
	node_conn_joined(c, p);
	if (crossed)
		put_in_order(c);
	TAILQ_FOREACH(other, &p->conns, link) /* their patience is another now */
		node_conn_kick(other);
	node_open_line(c);
	node_tell_conn(c, NODE_UP, &e);
}

/* A stranger that will not be p's current one.  What a peer that keeps to our rules says here comes
 * before what it says on that one; whoever has begun there may have said this later. */
static void
adopt(struct node_conn *c, struct node_peer *p)
{
	TAILQ_REMOVE(&c->node->strangers, c, link);
	c->peer = p;
	if (p->current && p->current->in.bytes == 0 && !has_end(p->current))
		TAILQ_INSERT_BEFORE(p->current, c, link);
	else
		TAILQ_INSERT_TAIL(&p->conns, c, link);
}

int
node_judge(struct node_conn *c, const struct frame *f)
{
	struct node *node = c->node;
	struct node_peer *p;
	int rc;

	if (id_cmp(f->from, f->from_len, node->cfg.id, node->cfg.id_len) == 0)
		return NODE_FAULT_SELF;
	rc = peer_make(&p, node, f->from, f->from_len);
	if (rc < 0)
		return rc == -ENOSPC ? NODE_FAULT_CROWD : NODE_FAULT_MEMORY;
	if (node_peer_conns(p) >= NODE_CONNS)
		return NODE_FAULT_CROWD;
	if (c->state == CONN_LEAVING) {
		adopt(c, p);
	} else if (refuses(p)) {
		adopt(c, p);
		node_conn_leave(c, "duplicate");
	} else {
		join(c, p);
	}
	return 0;
}

/* ---- the end of a connection ---- */

static enum outbox_keep
keeps(const struct node_peer *p, bool went)
{
	if (p->node->ending)
		return OUTBOX_KEEP_NONE;
	if (p->node->cfg.plan.retries > 0)
		return OUTBOX_KEEP_ALL;
	return p->current || went ? OUTBOX_KEEP_UNWRITTEN : OUTBOX_KEEP_NONE;
}

/* What has become of the messages that were written there, or wait.  Whether that was a failure. */
static bool
settle(struct node_conn *c, bool clean, struct outbox_fate *fate)
{
	struct node_peer *p = c->peer;
	struct outbox *out = &p->out;
	bool went = clean || c->leave_reason;
	uint64_t waiting = out->waiting;

	if (c->writes && clean)
		c->delivered += outbox_acknowledge(out, out->written);
	if (c->writes && !(went && out->acked == out->written && !outbox_in_message(out)))
		outbox_break(out, keeps(p, went), fate);
	c->writes = false;
	fate->delivered = c->delivered;
	fate->kept = out->waiting;
	if (fate->unknown)
		metric_add(METRIC_LOSSES, "unknown", fate->unknown);
	if (fate->dropped)
		metric_add(
		    METRIC_LOSSES, p->node->ending ? p->node->ending : "link-lost", fate->dropped);
	/* One that was dialled for them and took none would be dialled for ever. */
	return waiting > 0 && (!went || (c->dialled && c->delivered == 0));
}

static bool
ended_by_peer(const char *reason)
{
	static const char *const word[] = { "done", "reset", "half-frame", "timed-out",
		"withdrawn" };

	for (size_t i = 0; i < sizeof(word) / sizeof(*word); i++)
		if (strcmp(reason, word[i]) == 0)
			return true;
	return false;
}

static void
say_over(struct node_conn *c, const char *reason, int status, const char *why)
{
	struct node *node = c->node;

	node->live--;
	c->tell.why = (char *)why;
	tell_closed(&c->tell, reason, status, ended_by_peer(reason) ? "peer" : "us", c->in.bytes,
	    c->out_bytes);
	c->tell.why = NULL;
	link_closed(&c->lc, reason, status, c->in.bytes, c->out_bytes);
	for (unsigned i = 0; i < node->n_hubs; i++)
		hub_regrant(node->hub[i]);
}

/* It has lost one of its connections. */
static void
goes_on(struct node_peer *p, bool failed, const char *why)
{
	struct node_conn *c;

	if (!p->current)
		while (outbox_at_mark(&p->out)) /* a close, and there is nothing to be closed */
			outbox_pass(&p->out);
	TAILQ_FOREACH(c, &p->conns, link)
		node_conn_kick(c);
	if (failed && p->out.waiting > 0 && !p->current)
		node_peer_failed(p, "link-lost", why);
	else
		node_peer_check(p);
}

void
node_conn_over(struct node_conn *c, const char *reason, int status, const char *why, bool clean)
{
	struct node *node = c->node;
	struct node_peer *p = c->peer;
	struct node_event e = { .reason = reason, .why = why };
	bool failed = false;

	if (p) {
		TAILQ_REMOVE(&p->conns, c, link);
		if (p->current == c)
			p->current = NULL;
		failed = settle(c, clean, &e.fate);
		node_count(p);
	} else {
		TAILQ_REMOVE(&node->strangers, c, link);
	}
	say_over(c, reason, status, why);
	node_tell_conn(c, NODE_DOWN, &e);
	if (p)
		goes_on(p, failed, why);
	node_due(node, NODE_DUE_IDLE);
}

/* ---- life ---- */

void
node_open(struct node *node, const struct node_config *cfg)
{
	*node = (struct node){ .cfg = *cfg, .task = { .run = node_turn_over } };
	RB_INIT(&node->peers);
	TAILQ_INIT(&node->strangers);
	TAILQ_INIT(&node->drops);
}

void
node_drain(struct node *node)
{
	struct node_conn *c, *next;
	struct node_peer *p;

	node->draining = true;
	TAILQ_FOREACH_SAFE(c, &node->strangers, link, next)
		node_conn_leave(c, "closed");
	RB_FOREACH(p, node_peers, &node->peers)
		node_peer_check(p);
	node_due(node, NODE_DUE_ROOM);
	node_due(node, NODE_DUE_IDLE);
}

bool
node_idle(const struct node *node)
{
	struct node_peer *p;

	RB_FOREACH(p, node_peers, (struct node_peers *)&node->peers) {
		const struct node_conn *first = TAILQ_FIRST(&p->conns);

		if (p->out.waiting > 0 || p->dialling != PEER_IDLE || first != p->current ||
		    (first && TAILQ_NEXT(first, link)))
			return false;
	}
	return !node->draining || node->live == 0;
}

static void
end_all(struct node *node, const char *reason, int status)
{
	struct node_conn *c, *next;
	struct node_peer *p;

	node->draining = true;
	node->ending = reason;
	TAILQ_FOREACH_SAFE(c, &node->strangers, link, next)
		node_conn_cut(c, reason, status, NULL);
	RB_FOREACH(p, node_peers, &node->peers) {
		TAILQ_FOREACH_SAFE(c, &p->conns, link, next)
			node_conn_cut(c, reason, status, NULL);
		node_peer_check(p);
	}
}

void
node_now(struct node *node, const char *reason)
{
	end_all(node, reason, CCF_DEADLINE);
	node_due(node, NODE_DUE_IDLE);
}

void
node_close(struct node *node)
{
	struct node_peer *p;

	if (!node->cfg.reactor)
		return;
	node->cfg.event = NULL;
	end_all(node, "closed", CCF_CUT);
	while ((p = RB_MIN(node_peers, &node->peers)))
		peer_free(p);
	node_drops_free(node);
	reactor_drop(node->cfg.reactor, &node->task);
	*node = (struct node){ 0 };
}
