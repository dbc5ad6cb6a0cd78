/* flow/node_conn - one connection between nodes: a step in each turn in which something happened
 * reads, writes and judges (node_leave.c); what it waits for then is computed from its state. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "flow/node_parts.h"
#include "net/socket.h"

#define BIT(state) (1u << (state))

static const uint8_t conn_next[] = {
	[CONN_STRANGER] = BIT(CONN_OPEN) | BIT(CONN_LEAVING) | BIT(CONN_OVER),
	[CONN_OPEN] = BIT(CONN_LEAVING) | BIT(CONN_OVER),
	[CONN_LEAVING] = BIT(CONN_OVER),
	[CONN_OVER] = 0,
};

void
node_conn_enter(struct node_conn *c, enum node_conn_state to)
{
	if (!(conn_next[c->state] & BIT(to)))
		abort();
	if (c->peer && c->peer->current == c)
		c->peer->current = NULL;
	c->state = to;
}

bool
node_conn_first(const struct node_conn *c)
{
	return !c->peer || TAILQ_FIRST(&c->peer->conns) == c;
}

/* ---- what it reads ---- */

static struct node_conn *
conn_of(struct inbox *in)
{
	return (struct node_conn *)((char *)in - offsetof(struct node_conn, in));
}

static bool
is_id(const struct frame *f, const char *id, size_t len)
{
	return f->from_len == len && memcmp(f->from, id, len) == 0;
}

static void
conn_name_files(struct node_conn *c)
{
	static const char hex[] = "0123456789ABCDEF";
	char *to = c->files;

	for (size_t i = 0; i < c->peer->id_len && i < sizeof(c->files) / 3; i++) {
		unsigned char byte = (unsigned char)c->peer->id[i];

		if ((byte | 32) >= 'a' && (byte | 32) <= 'z')
			*to++ = (char)byte;
		else if ((byte >= '0' && byte <= '9') || byte == '-' || byte == '_')
			*to++ = (char)byte;
		else {
			*to++ = '%';
			*to++ = hex[byte >> 4];
			*to++ = hex[byte & 15];
		}
	}
	*to = '\0';
}

static int
conn_head(struct inbox *in, const struct frame *f)
{
	struct node_conn *c = conn_of(in);
	const struct node_config *cfg = &c->node->cfg;
	int rc = 0;

	if (c->state == CONN_OVER)
		return NODE_FAULT_SENDER;
	if (!c->peer)
		rc = node_judge(c, f);
	else if (!is_id(f, c->peer->id, c->peer->id_len))
		rc = is_id(f, cfg->id, cfg->id_len) ? NODE_FAULT_SELF : NODE_FAULT_SENDER;
	if (rc < 0)
		node_conn_accuse(c, f, rc);
	else if (!c->files[0])
		conn_name_files(c);
	return rc;
}

static bool
conn_may_deliver(struct inbox *in)
{
	struct node_conn *c = conn_of(in);
	const struct node_config *cfg = &c->node->cfg;

	return c->state != CONN_OVER && node_conn_first(c) && cfg->ready(cfg->arg, c->peer);
}

static void
conn_message(struct inbox *in, const struct message *m)
{
	struct node_conn *c = conn_of(in);
	static struct log_class class = { .name = "payloads that could not be kept" };
	struct log_who who = tell_who(&c->tell);

	if (in->file_error && log_admit(&class, reactor_now(c->node->cfg.reactor)))
		log_event(LOG_L_WARN, &who, "save", NULL,
		    "a payload of %llu bytes could not be kept: %s",
		    (unsigned long long)m->frame.payload, strerror(-in->file_error));
	in->file_error = 0;
	c->peer->messages_in++;
	c->peer->bytes_in += FRAME_PREFIX + (uint64_t)m->frame.size;
	c->node->cfg.message(c->node->cfg.arg, c->peer, m);
}

static const struct inbox_ops conn_inbox = {
	.head = conn_head,
	.ready = conn_may_deliver,
	.message = conn_message,
};

/* A reset is found here, behind everything that came before it.  Nothing at all, where a hang-up
 * was reported or a call has failed, is the end as well: else it would be asked for ever. */
static void
conn_wait(struct node_conn *c, bool moved)
{
	c->readable = c->hung || c->broken;
	if (c->readable && !moved) {
		node_conn_broke(c, ECONNRESET);
		node_conn_fail(c);
	}
}

/* One that leaves behind another is read for its end; its messages wait. */
static bool
conn_may_read(const struct node_conn *c)
{
	return !c->ended && (node_conn_first(c) || c->state == CONN_LEAVING);
}

/* The time in which nothing could be delivered is not the peer's. */
static void
conn_hold(struct node_conn *c, bool held)
{
	int64_t now = reactor_now(c->node->cfg.reactor);

	if (held && !c->held)
		c->held_at = now;
	else if (!held && c->held)
		c->left_at += now - c->held_at;
	if (c->left_at > now)
		c->left_at = now;
	c->held = held;
}

static void
conn_read(struct node_conn *c)
{
	uint64_t before = c->in.bytes;
	enum inbox_step step;
	int error = 0;

	if (!conn_may_read(c) || !(c->readable || c->held))
		return;
	step = inbox_step(&c->in, c->fd, &error);
	if (c->state == CONN_OVER)
		return;
	conn_hold(c, step == INBOX_HELD);
	switch (step) {
	case INBOX_MORE:
		c->readable = true;
		break;
	case INBOX_HELD:
		break;
	case INBOX_WAIT:
		conn_wait(c, c->in.bytes != before);
		break;
	case INBOX_END:
		node_conn_finish(c);
		break;
	case INBOX_FAULT:
		node_conn_fault(c);
		break;
	case INBOX_ERROR:
		node_conn_broke(c, -error);
		node_conn_fail(c);
		break;
	}
}

/* ---- what it writes ---- */

static bool
conn_may_write(const struct node_conn *c)
{
	struct node_peer *p = c->peer;
	struct node_conn *other;

	if (!p || c->broken || c->shut)
		return false;
	if (c->state == CONN_LEAVING && !node_conn_flushes(c))
		return c->writes && outbox_in_message(&p->out);
	TAILQ_FOREACH(other, &p->conns, link)
		if (other != c && other->writes)
			return false;
	if (c->state == CONN_LEAVING)
		return true;
	return p->current == c && (outbox_wants(&p->out) || outbox_at_mark(&p->out));
}

static void
conn_wrote(struct node_conn *c, int rc)
{
	c->blocked = rc == -EAGAIN;
	if (rc == 1) {
		c->kicked = true;
	} else if (rc == -ESTALE) {
		node_conn_end(c, "file-shrank", CCF_CUT,
		    "a file became shorter while it was being sent", false);
	} else if (rc < 0 && rc != -EAGAIN) {
		node_conn_broke(c, -rc);
		c->readable = true; /* what has come, and then the end */
	}
}

static void
conn_write(struct node_conn *c)
{
	struct outbox *out = &c->peer->out;
	uint64_t before, waiting;
	int rc;

	if (!c->writes)
		outbox_begin(out);
	c->writes = true;
	before = out->written;
	waiting = out->waiting;
	rc = outbox_write(out, c->fd, c->state == CONN_LEAVING && !node_conn_flushes(c));
	c->out_bytes += out->written - before;
	if (out->written != before)
		c->probe = 0;
	if (out->written != before || out->waiting != waiting) /* fewer: files that have shrunk */
		node_peer_moved(c->peer);
	if (c->state != CONN_OVER)
		conn_wrote(c, rc);
	if (c->state == CONN_OPEN && !c->broken && outbox_at_mark(out)) {
		outbox_pass(out);
		node_conn_leave(c, "closed");
		node_peer_check(c->peer);
	}
}

/* ---- a step ---- */

static uint32_t
conn_want(const struct node_conn *c)
{
	if (c->hung || (c->ended && c->shut)) /* it hangs up for good */
		return 0;
	return WATCH_HUP | (conn_may_read(c) && !c->held ? WATCH_READ : 0u) |
	       (c->blocked && conn_may_write(c) ? WATCH_WRITE : 0u);
}

static void
conn_step(struct task *t)
{
	struct node_conn *c = (struct node_conn *)((char *)t - offsetof(struct node_conn, task));
	struct reactor *r = c->node->cfg.reactor;

	c->stepping = true;
	conn_read(c);
	c->kicked = false; /* whatever it was for, it is done now */
	if (c->state != CONN_OVER && !c->blocked && conn_may_write(c))
		conn_write(c);
	if (c->state != CONN_OVER)
		node_conn_judge(c);
	c->stepping = false;
	if (c->state == CONN_OVER)
		return;
	reactor_want(r, &c->watch, conn_want(c));
	if (reactor_timer(r, &c->timer, node_conn_due(c)) < 0)
		node_conn_cut(c, "no-memory", CCF_SYSTEM, "no memory for a timer");
	else if (c->kicked || (conn_may_read(c) && c->readable && !c->held))
		reactor_later(r, &c->task);
}

void
node_conn_kick(struct node_conn *c)
{
	c->kicked = true;
	if (!c->stepping && c->state != CONN_OVER)
		reactor_later(c->node->cfg.reactor, &c->task);
}

static void
conn_ready(struct watch *w, uint32_t got)
{
	struct node_conn *c = (struct node_conn *)((char *)w - offsetof(struct node_conn, watch));

	if (got & (WATCH_HUP | WATCH_ERR))
		c->hung = c->readable = true;
	if (got & WATCH_READ)
		c->readable = true;
	if (got & (WATCH_WRITE | WATCH_HUP | WATCH_ERR))
		c->blocked = false;
	node_conn_kick(c);
}

static void
conn_fire(struct timer *t)
{
	struct node_conn *c = (struct node_conn *)((char *)t - offsetof(struct node_conn, timer));

	c->probe++;
	node_conn_kick(c);
}

/* ---- its life ---- */

static void
conn_tune(struct node_conn *c)
{
	const struct node_config *cfg = &c->node->cfg;
	int flags = fcntl(c->fd, F_GETFL), timeout = 0, idle = 0;

	if (flags >= 0 && !(flags & O_NONBLOCK)) /* sendfile(2) needs it */
		(void)fcntl(c->fd, F_SETFL, flags | O_NONBLOCK);
	c->is_unix = socket_family(c->fd) == AF_UNIX;
	if (c->is_unix)
		return;
	(void)socket_tune(c->fd);
	socket_reset(c->fd); /* armed: who dies with it has cut it */
	if (cfg->user_timeout > 0)
		timeout = cfg->user_timeout < INT32_MAX ? (int)cfg->user_timeout : INT32_MAX;
	if (cfg->keepalive > 0)
		idle = cfg->keepalive < 32767000 ? (int)((cfg->keepalive + 999) / 1000) : 32767;
	if (timeout)
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	if (idle)
		(void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
}

static void
conn_look(struct node_conn *c)
{
	struct sockaddr_any peer;

	if (socket_peer(c->fd, &peer) == 0 && (!c->is_unix || c->dialled))
		(void)addr_text(&peer, c->address, sizeof(c->address));
	snprintf(c->tell.peer, sizeof(c->tell.peer), "%s", c->address);
	c->tell.since = clock_us();
	c->born = c->moved_at = clock_ms();
}

struct node_conn *
node_conn_new(struct node *n, int fd, bool dialled)
{
	struct node_conn *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->node = n;
	c->fd = fd;
	c->dialled = dialled;
	c->in.ops = &conn_inbox;
	c->in.max = n->cfg.max_frame;
	c->in.most = n->cfg.most;
	c->in.large = n->cfg.large;
	c->in.dir = n->cfg.save_dir;
	c->in.name = c->files;
	c->readable = true;
	c->task.run = conn_step;
	c->timer.fire = conn_fire;
	conn_tune(c);
	conn_look(c);
	reactor_watch(n->cfg.reactor, &c->watch, fd, conn_ready);
	if (!dialled)
		TAILQ_INSERT_TAIL(&n->strangers, c, link);
	if (++n->live > n->peak)
		n->peak = n->live;
	node_conn_kick(c);
	return c;
}

static void
conn_open(struct node_conn *c, struct node_peer *p)
{
	node_conn_enter(c, CONN_OPEN);
	c->peer = p;
	p->current = c;
	TAILQ_INSERT_TAIL(&p->conns, c, link);
	node_conn_kick(c);
}

void
node_conn_dialled(struct node_conn *c, struct node_peer *p)
{
	conn_open(c, p);
}

void
node_conn_joined(struct node_conn *c, struct node_peer *p)
{
	TAILQ_REMOVE(&c->node->strangers, c, link);
	conn_open(c, p);
}

void
node_conn_leave(struct node_conn *c, const char *reason)
{
	if (c->state >= CONN_LEAVING)
		return;
	node_conn_enter(c, CONN_LEAVING);
	c->leave_reason = reason;
	c->moved_at = c->left_at = clock_ms();
	c->moved_in = c->in.bytes;
	c->probe = 0;
	node_conn_kick(c);
}

void
node_conn_cut(struct node_conn *c, const char *reason, int status, const char *why)
{
	node_conn_end(c, reason, status, why, false);
}

/* ---- what the other side of its link says ---- */

static struct node_conn *
conn_of_link(struct link_conn *lc)
{
	return (struct node_conn *)((char *)lc - offsetof(struct node_conn, lc));
}

/* Its eof came or ours has gone; or the link has ended: the connection is ours and goes on. */
static void
conn_said(struct link_conn *lc)
{
	node_conn_kick(conn_of_link(lc));
}

static void
conn_withdrawn(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	(void)in;
	(void)out;
	node_conn_cut(conn_of_link(lc), reason[0] ? reason : "withdrawn",
	    status > 0 ? status : CCF_CUT, "its source says that it is over");
}

const struct link_conn_ops node_conn_said = {
	.ended = conn_said,
	.closed = conn_withdrawn,
	.lost = conn_said,
	.flushed = conn_said,
};
