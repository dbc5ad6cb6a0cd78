/* flow/node_leave - how a connection between nodes ends, and what became of what was written: the
 * kernel says it once that a connection was cut, and goes on saying what the peer's has
 * acknowledged. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "flow/node_parts.h"
#include "net/socket.h"

#define ASK_OPEN_MS	  10
#define ASK_OPEN_MOST_MS  1000
#define ASK_LEAVE_MS	  1
#define ASK_LEAVE_MOST_MS 50
#define SOME_BYTES	  4096 /* of one that leaves: fewer that make no message are silence */

/* ---- what was acknowledged ---- */

/* An AF_UNIX peer that closes takes what it has not read along, and then nothing counts as unread;
 * it leaves a reset for that, which is met behind the last that it has said.  Asked after the
 * figure was: then that was said by one who lived. */
static bool
conn_swallowed(struct node_conn *c)
{
	struct pollfd p = { .fd = c->fd };
	char byte;

	if (poll(&p, 1, 0) == 0)
		return false;
	if (!c->ended || c->broken == ECONNRESET)
		return true;
	if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		return false;
	node_conn_broke(c, errno);
	return true;
}

/* SIOCOUTQ stays what it was when a TCP connection is cut, and counts our end of stream as a byte.
 * Of an AF_UNIX stream it is the memory that what is unread takes: more than its bytes. */
static uint64_t
conn_unacked(struct node_conn *c)
{
	const struct outbox *out = &c->peer->out;
	uint64_t known = out->written - out->acked;
	int64_t n = socket_unsent(c->fd);

	if (n < 0 || (c->is_unix && known > 0 && conn_swallowed(c)))
		return known;
	if (!c->is_unix && c->shut && n > 0)
		n--;
	return (uint64_t)n < known ? (uint64_t)n : known;
}

static bool
conn_owed(const struct node_conn *c)
{
	return c->writes && c->peer && c->peer->out.acked < c->peer->out.written;
}

void
node_conn_acks(struct node_conn *c)
{
	struct outbox *out;
	uint64_t unacked;

	if (c->state == CONN_OVER || !conn_owed(c))
		return;
	out = &c->peer->out;
	unacked = conn_unacked(c);
	if (unacked == out->written - out->acked)
		return;
	c->delivered += outbox_acknowledge(out, out->written - unacked);
	c->probe = 0;
	node_peer_moved(c->peer);
}

/* ---- over ---- */

static void
conn_release(struct grave *g)
{
	struct node_conn *c = (struct node_conn *)((char *)g - offsetof(struct node_conn, grave));

	close(c->fd);
	inbox_free(&c->in);
	text_free(&c->why);
	free(c);
}

/* Legal within its own step: its memory and its descriptor go when the turn ends. */
void
node_conn_end(struct node_conn *c, const char *reason, int status, const char *why, bool clean)
{
	struct reactor *r = c->node->cfg.reactor;

	node_conn_acks(c);
	if (c->state == CONN_OVER)
		return;
	node_conn_enter(c, CONN_OVER);
	reactor_forget(r, &c->watch);
	reactor_timer(r, &c->timer, CLOCK_NEVER);
	reactor_drop(r, &c->task);
	if (clean && !c->is_unix)
		socket_calm(c->fd);
	reactor_bury(r, &c->grave, conn_release);
	node_conn_over(c, reason, status, why, clean);
}

/* ---- faults ---- */

void
node_conn_accuse(struct node_conn *c, const struct frame *f, int fault)
{
	text_free(&c->why);
	if (fault == NODE_FAULT_MEMORY)
		text_add(&c->why, "no memory for the peer ");
	else if (fault == NODE_FAULT_CROWD)
		text_add(&c->why, "too many connections or too many peers: refused one of ");
	else
		text_add(&c->why, "a frame from ");
	frame_id_text(&c->why, f->from, f->from_len);
	if (fault == NODE_FAULT_SELF) {
		text_add(&c->why, ", which is our own id%s",
		    c->dialled ? ": the address leads to ourselves" : "");
	} else if (fault == NODE_FAULT_SENDER && c->peer) {
		text_add(&c->why, " on the connection of ");
		frame_id_text(&c->why, c->peer->id, c->peer->id_len);
		if (c->dialled && c->in.messages == 0)
			text_add(&c->why, ": the address leads to somebody else");
	}
}

void
node_conn_fault(struct node_conn *c)
{
	int fault = c->in.fault;

	if (fault > NODE_FAULT_SENDER)
		inbox_fault_text(&c->in, &c->why);
	if (fault == NODE_FAULT_MEMORY)
		node_conn_end(c, "no-memory", CCF_SYSTEM, c->why.at, false);
	else if (fault == NODE_FAULT_CROWD)
		node_conn_end(c, "refused", CCF_UNAVAILABLE, c->why.at, false);
	else
		node_conn_end(c, "protocol", CCF_PROTOCOL, c->why.at, false);
}

static bool
conn_half_frame(struct node_conn *c, const char *before)
{
	uint64_t have, of;

	if (!inbox_partial(&c->in, &have, &of))
		return false;
	text_add(&c->why, "%s%" PRIu64, before, have);
	if (of > 0)
		text_add(&c->why, " of %" PRIu64, of);
	text_add(&c->why, " bytes of a frame");
	return true;
}

void
node_conn_broke(struct node_conn *c, int error)
{
	if (!c->broken)
		c->broken = error;
}

static bool
is_timeout(int error)
{
	/* What routers and our own interfaces have said meanwhile stands in for ETIMEDOUT. */
	return error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH ||
	       error == EHOSTDOWN || error == ENETDOWN;
}

/* The peer's doing, or ours: a file cannot be read, there is no memory. */
static const char *
fail_reason(int error)
{
	switch (error) {
	case ECONNRESET:
	case ECONNABORTED:
	case ECONNREFUSED:
	case EPIPE:
		return "reset";
	case ENOMEM:
	case ENOBUFS:
		return "no-memory";
	default:
		return "other";
	}
}

void
node_conn_fail(struct node_conn *c)
{
	int64_t user = c->node->cfg.user_timeout;
	const char *reason = fail_reason(c->broken);

	node_conn_acks(c);
	text_free(&c->why);
	if (!is_timeout(c->broken)) {
		text_add(&c->why, "%s", strerror(c->broken));
	} else if ((conn_owed(c) || c->shut) && user > 0) {
		reason = "user-timeout";
		text_add(&c->why,
		    "it did not acknowledge, or did not read, what was sent for %" PRId64
		    " ms (--user-timeout): %s",
		    user, strerror(c->broken));
	} else {
		reason = "timed-out";
		text_add(
		    &c->why, "it does not answer any more (--keepalive): %s", strerror(c->broken));
	}
	conn_half_frame(c, ", after ");
	node_conn_end(c, reason, CCF_CUT, c->why.at, false);
}

/* ---- leaving ---- */

/* An AF_UNIX stream that came over a link ends with an eof there, which was sent before the end of
 * the stream: once the link has been read it is there, or never comes. */
static bool
conn_announced(struct node_conn *c)
{
	if (!c->is_unix || !c->lc.ops)
		return true;
	if (!c->lc.ended && c->lc.link)
		link_pump(c->lc.link);
	return c->lc.ended;
}

void
node_conn_finish(struct node_conn *c)
{
	bool announced = conn_announced(c);

	if (c->state == CONN_OVER)
		return;
	c->ended = true;
	if (c->broken) {
		node_conn_fail(c);
	} else if (conn_half_frame(c, "")) {
		node_conn_end(c, "half-frame", CCF_CUT, c->why.at, false);
	} else if (!announced) {
		node_conn_end(c, "reset", CCF_CUT,
		    "its end of stream was not announced on the link it came by", false);
	} else if (c->state == CONN_STRANGER) {
		node_conn_end(c, "done", CCF_OK, NULL, true);
	} else if (c->state == CONN_OPEN) {
		c->last = !c->peer->address;
		node_conn_leave(c, "done");
		node_peer_check(c->peer);
	}
}

bool
node_conn_flushes(const struct node_conn *c)
{
	return c->last && c->peer && !c->shut && !c->peer->current && outbox_wants(&c->peer->out);
}

/* Our end of stream, once nothing of a message is left to be written. */
static void
conn_shut(struct node_conn *c)
{
	if (c->shut || c->broken || node_conn_flushes(c) ||
	    (c->writes && outbox_in_message(&c->peer->out)))
		return;
	if (c->is_unix && c->lc.ops && link_eof(&c->lc) == -EAGAIN)
		return; /* flushed() comes */
	if (c->state == CONN_OVER)
		return;
	if (shutdown(c->fd, SHUT_WR) == 0) {
		c->shut = true;
	} else {
		node_conn_broke(c, errno == ENOTCONN ? ECONNRESET : errno);
		c->readable = true;
	}
}

static bool
conn_settled(const struct node_conn *c)
{
	return !c->writes || (!conn_owed(c) && !outbox_in_message(&c->peer->out));
}

/* Silence means something: its end could have been read. */
static bool
conn_could_end(const struct node_conn *c)
{
	return c->ended || !c->held;
}

/* The next one may be dialled, and write, before this one's end has been read: that cannot be while
 * our sink is full, which may in turn wait for what is written there.  Not at once: what the peer's
 * kernel has of this one should be read before what comes on the next. */
static void
conn_give_up(struct node_conn *c)
{
	if (c->parted || !conn_settled(c))
		return;
	c->writes = false;
	c->parted = true;
	node_peer_check(c->peer);
	if (c->peer->current)
		node_conn_kick(c->peer->current);
}

/* Our own sink is full, or one before it is leaving, too: that ends by itself. */
static bool
conn_has_to_wait(const struct node_conn *c)
{
	const struct node_conn *before = c;

	while ((before = TAILQ_PREV(before, node_conns, link)))
		if (before->state == CONN_LEAVING)
			return true;
	return TAILQ_FIRST(&c->peer->conns)->held;
}

/* A peer that keeps to our rules would have ended those before it by now. */
static void
conn_overtake(struct node_conn *c)
{
	c->moved_at = reactor_now(c->node->cfg.reactor);
	if (conn_has_to_wait(c)) {
		conn_give_up(c);
		return;
	}
	TAILQ_REMOVE(&c->peer->conns, c, link);
	TAILQ_INSERT_HEAD(&c->peer->conns, c, link);
	node_conn_kick(c);
}

/* How long nothing may move.  What was written has the time that it would have without an end; but
 * not where another connection has taken this one's place: it waits. */
static int64_t
conn_patience(const struct node_conn *c)
{
	int64_t user = c->node->cfg.user_timeout;

	if (!c->peer || c->peer->current)
		return NODE_LEAVE_MS;
	if (conn_settled(c) && !node_conn_flushes(c))
		return NODE_LEAVE_MS;
	if (user <= 0)
		return NODE_FLUSH_MS;
	return user > NODE_LEAVE_MS ? user : NODE_LEAVE_MS;
}

/* Whoever comes next has waited long enough for it, however much it still says. */
static bool
conn_overdue(const struct node_conn *c)
{
	return c->peer && !c->held && TAILQ_NEXT(c, link) &&
	       reactor_now(c->node->cfg.reactor) - c->left_at >= NODE_FLUSH_MS;
}

/* Nothing moved for a while, though it could: what is left is given up. */
static void
conn_silent(struct node_conn *c)
{
	bool clean = conn_settled(c) && !node_conn_flushes(c) && !conn_overdue(c);

	text_free(&c->why);
	if (!c->ended && conn_half_frame(c, "its end did not come: "))
		clean = false;
	else if (conn_overdue(c))
		text_add(&c->why, "it has not ended within %d ms, and others wait for that",
		    NODE_FLUSH_MS);
	else if (clean)
		text_add(&c->why, "its end of stream did not come within %d ms", NODE_LEAVE_MS);
	else
		text_add(&c->why, "nothing more was acknowledged within %" PRId64 " ms",
		    conn_patience(c));
	node_conn_end(c, c->leave_reason, clean ? CCF_OK : CCF_DEADLINE, c->why.at, clean);
}

static void
conn_judge_leaving(struct node_conn *c)
{
	conn_shut(c);
	if (c->state == CONN_OVER)
		return;
	if (c->ended && c->shut && conn_settled(c)) {
		node_conn_end(c, c->leave_reason, CCF_OK, NULL, true);
		return;
	}
	/* A reset behind both ends of stream is reported by no call.  The last acknowledgement
	 * closes it, too, and may have come meanwhile. */
	if (c->ended && c->shut && !c->is_unix && socket_over(c->fd)) {
		node_conn_acks(c);
		if (conn_owed(c))
			node_conn_broke(c, ECONNRESET);
		node_conn_kick(c);
	}
	if (c->broken && c->ended)
		node_conn_fail(c);
	else if (reactor_now(c->node->cfg.reactor) - c->moved_at < conn_patience(c) &&
		 !conn_overdue(c))
		return;
	else if (conn_could_end(c))
		conn_silent(c);
	else if (!node_conn_first(c))
		conn_overtake(c);
	else
		conn_give_up(c);
}

static void
conn_note(struct node_conn *c, int64_t now)
{
	uint64_t moved = c->in.messages + c->out_bytes + (c->writes ? c->peer->out.acked : 0);
	uint64_t some = c->state == CONN_LEAVING ? SOME_BYTES : 1;

	if (moved == c->moved && c->in.bytes - c->moved_in < some)
		return;
	c->moved_at = now;
	c->moved = moved;
	c->moved_in = c->in.bytes;
}

void
node_conn_judge(struct node_conn *c)
{
	int64_t now = reactor_now(c->node->cfg.reactor);
	int64_t wait = c->node->cfg.first_frame;

	node_conn_acks(c);
	if (c->state == CONN_OVER)
		return;
	conn_note(c, now);
	if (c->state == CONN_LEAVING)
		conn_judge_leaving(c);
	else if (c->state == CONN_STRANGER && now >= clock_after(c->born, wait))
		node_conn_end(c, "first-frame", CCF_DEADLINE,
		    "no whole head of a frame came in time (--first-frame-timeout)", false);
	else if (c->broken && c->ended)
		node_conn_fail(c);
}

static int64_t
conn_interval(const struct node_conn *c, int64_t least, int64_t most)
{
	int64_t wait = least << (c->probe < 10 ? c->probe : 10);

	return wait < most ? wait : most;
}

int64_t
node_conn_due(const struct node_conn *c)
{
	int64_t now = reactor_now(c->node->cfg.reactor), at = CLOCK_NEVER, silent;

	if (c->state == CONN_STRANGER)
		return clock_after(c->born, c->node->cfg.first_frame);
	if (c->state == CONN_OPEN)
		return conn_owed(c) ? now + conn_interval(c, ASK_OPEN_MS, ASK_OPEN_MOST_MS) : at;
	if (conn_owed(c))
		at = now + conn_interval(c, ASK_LEAVE_MS, ASK_LEAVE_MOST_MS);
	silent = c->moved_at + conn_patience(c);
	if ((conn_could_end(c) || !node_conn_first(c) || (!c->parted && conn_settled(c))) &&
	    silent < at)
		at = silent;
	return at;
}
