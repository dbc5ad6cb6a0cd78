/* A relay is two lanes (flow/lane) between two sides.  Interest is computed from what the lanes
 * hold, in one place, after every step. */
#include "flow/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/transport.h"
#include "flow/lane.h"
#include "net/socket.h"

#define PROBE_LAST 64 /* ms between looks at SIOCOUTQ, at most */

static void relay_step(struct relay *);

/* ---- interest ---- */

static unsigned
side_ops(const struct relay *r, const struct side *s)
{
	const struct lane *in = s == &r->a ? &r->in : &r->out;
	const struct lane *out = s == &r->a ? &r->out : &r->in;
	unsigned ops = 0;

	if (in->state == LANE_OPEN && !lane_holds(in))
		ops |= TP_READ;
	if (lane_holds(out) || (out->state == LANE_ENDING && !out->waiting))
		ops |= TP_WRITE;
	/* one splice between the two waits for whichever was not ready */
	if (out->way == WAY_DIRECT && out->state == LANE_OPEN && !(s->tp->ready & TP_WRITE))
		ops |= TP_WRITE;
	if (in->way == WAY_DIRECT && in->state == LANE_OPEN && !(in->to->tp->ready & TP_WRITE))
		ops &= ~(unsigned)TP_READ;
	return ops;
}

static void
side_interest(struct relay *r, struct side *s)
{
	unsigned want = 0, ops;

	if (s->tp->rfd == -1)
		return;
	if (r->state == RELAY_MOVING && !r->failed && (ops = side_ops(r, s)) != 0)
		want = s->tp->ops->want(s->tp, ops);
	if (s->split) {
		reactor_want(r->reactor, &s->r, want & TP_READ ? WATCH_READ : 0);
		reactor_want(r->reactor, &s->w, want & TP_WRITE ? WATCH_WRITE : 0);
		return;
	}
	want = (want & TP_READ ? WATCH_READ : 0) | (want & TP_WRITE ? WATCH_WRITE : 0);
	if (!want && !s->hung && r->state == RELAY_MOVING)
		want = WATCH_HUP;
	reactor_want(r->reactor, &s->r, want);
}

/* The peer has ended, and b may have nothing more for it. */
static bool
relay_lingers(const struct relay *r)
{
	return r->cfg.peer_end == RELAY_PEER_IDLE && r->in.state == LANE_DONE &&
	       r->out.state == LANE_OPEN && !lane_holds(&r->out);
}

static int64_t
relay_deadline(struct relay *r)
{
	int64_t idle = r->cfg.idle;

	if (relay_lingers(r))
		return r->moved_at + RELAY_LINGER_MS;
	if (r->in.state == LANE_DONE || r->out.state == LANE_DONE)
		idle = r->cfg.half_close;
	if (r->linger_by)
		return r->linger_by;
	return clock_after(r->moved_at, idle);
}

/* ---- the end ---- */

static void
relay_release(struct grave *g)
{
	free((char *)g - offsetof(struct relay, grave));
}

static void
relay_over(struct relay *r, const struct relay_end *how, bool cut)
{
	struct relay_end end = *how;
	struct transport *a = r->a.tp, *b = r->b.tp;

	r->state = RELAY_OVER;
	end.in = a->in;
	end.out = a->out;
	end.more = r->out.state == LANE_OPEN || lane_holds(&r->out);
	reactor_forget(r->reactor, &r->a.r);
	reactor_forget(r->reactor, &r->a.w);
	reactor_forget(r->reactor, &r->b.r);
	reactor_forget(r->reactor, &r->b.w);
	reactor_timer(r->reactor, &r->timer, CLOCK_NEVER);
	reactor_drop(r->reactor, &r->task);
	if (cut && r->a.hooks.cut)
		r->a.hooks.cut(r->a.hooks.arg);
	if (cut && r->b.hooks.cut)
		r->b.hooks.cut(r->b.hooks.arg);
	a->ops->close(a, cut);
	if (!r->cfg.keep_b)
		b->ops->close(b, cut);
	r->cfg.done(r->cfg.arg, &end);
	lane_drop(&r->in);
	lane_drop(&r->out);
	reactor_bury(r->reactor, &r->grave, relay_release);
}

static const char *
reason_of(const struct relay *r)
{
	if (r->cfg.stdio && r->failed == &r->b)
		return !r->refused	   ? "stdin-failed"
		       : r->error == EPIPE ? "stdout-gone"
					   : "stdout-failed";
	if (r->failed->tp->bare_end && r->failed == &r->a)
		return "no-close-notify";
	switch (r->error) {
	case EPROTO:
	case EBADMSG:
		return "protocol";
	case ETIMEDOUT:
		return "timed-out";
	case ENOMEM:
		return "no-memory";
	default:
		return "reset";
	}
}

static void
relay_failed(struct relay *r)
{
	struct relay_end end = { .reason = reason_of(r),
		.status = CCF_CUT,
		.error = r->error,
		.by = r->failed == &r->a ? "peer" : "inner" };

	if (r->cfg.stdio && r->failed == &r->b)
		end.status = r->refused		      ? CCF_STDOUT
			     : r->error == ECONNRESET ? CCF_CUT
						      : CCF_SYSTEM;
	relay_over(r, &end, true);
}

static void
relay_clean(struct relay *r)
{
	struct relay_end end = { .reason = "done", .by = r->a.tp->ended ? "peer" : "inner" };

	if (r->a.tp->bare_end) {
		end.reason = "no-close-notify";
		end.status = CCF_CUT;
	}
	relay_over(r, &end, false);
}

/* Has the peer acknowledged something since we last looked? */
static bool
side_takes(struct side *s)
{
	int64_t was = s->unsent;

	s->unsent = s->tp->ops->unsent(s->tp);
	return s->unsent != was;
}

/* Both ends of stream have passed: look until the last byte is acknowledged (no event says so). */
static void
relay_probe(struct relay *r)
{
	struct side *s[2] = { &r->a, &r->b };
	bool unsent = false, takes = false, over;

	for (int i = 0; i < 2; i++) {
		struct transport *tp = s[i]->tp;

		if (s[i]->settled)
			continue;
		takes |= side_takes(s[i]);
		if (s[i]->unsent == 0)
			continue;
		over = tp->wfd != -1 && socket_over(tp->wfd);
		if (over &&
		    tp->ops->unsent(tp) == 0) /* acknowledged just now, and closed by that */
			continue;
		unsent = true;
		if (tp->broken || over) {
			relay_fail(r, s[i], ECONNRESET);
			relay_failed(r);
			return;
		}
	}
	if (takes)
		r->flush_by = clock_after(reactor_now(r->reactor), r->cfg.flush);
	if (!unsent)
		relay_clean(r);
	else if (reactor_now(r->reactor) >= r->flush_by)
		relay_cut(r, "flush-timeout", CCF_DEADLINE);
	else {
		if (r->probe < PROBE_LAST)
			r->probe = r->probe ? r->probe * 2 : 1;
		reactor_timer(r->reactor, &r->timer, reactor_now(r->reactor) + r->probe);
	}
}

/* What came from the peer before it was cut is still written to standard output: what we hold, and
 * what lies in its socket.  True: standard output is full. */
static bool
relay_owes_stdout(struct relay *r)
{
	struct lane *l = &r->in;

	if (!r->cfg.stdio || r->failed != &r->a)
		return false;
	for (;;) {
		int rc = lane_holds(l) ? lane_push(l) : 0;

		if (rc < 0)
			return rc == -EAGAIN;
		if (l->state != LANE_OPEN || r->error == ENOMEM)
			return false;
		l->copy_only = true;
		l->way = WAY_COPY;
		l->from->tp->ready |= TP_READ;
		if (lane_copy(r, l) <= 0)
			return false;
	}
}

/* Is it over, or nearly?  True: there is nothing left to wait for here. */
static bool
relay_judge(struct relay *r)
{
	if (r->failed) {
		if (relay_owes_stdout(r)) {
			reactor_want(r->reactor, &r->a.r, 0);
			reactor_want(r->reactor, &r->b.r, r->b.split ? 0 : WATCH_WRITE);
			reactor_want(r->reactor, &r->b.w, r->b.split ? WATCH_WRITE : 0);
			reactor_timer(r->reactor, &r->timer, CLOCK_NEVER);
			return true;
		}
		relay_failed(r);
		return true;
	}
	if (r->cfg.indifferent && (r->b.hung || (r->b.tp->rfd == -1 && r->b.tp->ended)))
		r->in.discard = true;
	/* we have said all we had, and nobody reads what the peer says */
	if (r->out.state == LANE_DONE && r->in.discard && r->in.state != LANE_DONE) {
		if (!r->linger_by) {
			r->linger_by = reactor_now(r->reactor) + RELAY_LINGER_MS;
			r->in.dropped = 0;
			reactor_timer(r->reactor, &r->timer, r->linger_by);
		}
		if (r->in.dropped > RELAY_LINGER_BYTES || reactor_now(r->reactor) >= r->linger_by)
			r->in.state = LANE_DONE;
	}
	if (r->in.state != LANE_DONE || r->out.state != LANE_DONE)
		return false;
	r->state = RELAY_FLUSHING;
	r->flush_by = clock_after(reactor_now(r->reactor), r->cfg.flush);
	side_interest(r, &r->a);
	side_interest(r, &r->b);
	relay_probe(r);
	return true;
}

/* Has the peer, with its end, gone for good?  Where b has ended too, or is about to, its end is one
 * like any other. */
static bool
relay_peer_left(struct relay *r)
{
	struct relay_end end = { .reason = "left", .by = "peer" };

	if (r->cfg.peer_end != RELAY_PEER_GONE || r->in.state != LANE_DONE || r->failed)
		return false;
	r->b.tp->ready |= TP_READ;
	lane_hold(r, &r->out);
	if (r->failed || (r->out.state != LANE_OPEN && !lane_holds(&r->out)))
		return false;
	relay_over(r, &end, false);
	return true;
}

static void
relay_step(struct relay *r)
{
	bool more;

	if (r->state != RELAY_MOVING)
		return;
	more = lane_pump(r, &r->in);
	if (relay_peer_left(r))
		return;
	more |= lane_pump(r, &r->out);
	/* a session that was full has been emptied, and raises no event */
	if (r->b.tp->rfd == -1 && lane_holds(&r->in) && !lane_holds(&r->out))
		more = true;
	if (relay_judge(r))
		return;
	if (more)
		reactor_again(r->reactor, &r->task);
	side_interest(r, &r->a);
	side_interest(r, &r->b);
	if (!r->timer.slot || relay_deadline(r) < r->timer.at)
		reactor_timer(r->reactor, &r->timer, relay_deadline(r));
}

static void
relay_task(struct task *t)
{
	relay_step((struct relay *)((char *)t - offsetof(struct relay, task)));
}

static void
relay_timer(struct timer *t)
{
	struct relay *r = (struct relay *)((char *)t - offsetof(struct relay, timer));
	bool a_takes, b_takes;

	if (r->state == RELAY_FLUSHING) {
		relay_probe(r);
		return;
	}
	a_takes = side_takes(&r->a);
	b_takes = side_takes(&r->b);
	if (a_takes || b_takes) /* who slowly takes what lies in the kernel is not silent */
		r->moved_at = reactor_now(r->reactor);
	if (reactor_now(r->reactor) < relay_deadline(r))
		reactor_timer(r->reactor, &r->timer, relay_deadline(r));
	else if (r->linger_by)
		relay_step(r);
	else if (relay_lingers(r)) {
		r->out.state = LANE_ENDING;
		relay_step(r);
	} else
		relay_cut(r,
		    r->in.state == LANE_DONE || r->out.state == LANE_DONE ? "half-close-timeout"
									  : "idle",
		    CCF_DEADLINE);
}

/* An error nobody was waiting for.  Queued bytes come before it, but only standard output still
 * wants them. */
static void
side_error(struct relay *r, struct side *s)
{
	s->hung = true;
	if (s == &r->b && r->cfg.indifferent)
		return;
	if (!s->settled && !(r->cfg.stdio && s == &r->a && r->in.state == LANE_OPEN))
		relay_fail(r, s, s->tp->broken ? s->tp->broken : ECONNRESET);
}

static void
side_event(struct side *s, uint32_t got)
{
	struct relay *r = s->relay;
	bool waited = s->r.want != WATCH_HUP;

	if (got & (WATCH_READ | WATCH_HUP | WATCH_ERR))
		s->tp->ready |= TP_READ;
	if (got & (WATCH_WRITE | WATCH_HUP | WATCH_ERR))
		s->tp->ready |= TP_WRITE;
	if (!s->split && !waited) {
		if (got & WATCH_ERR)
			side_error(r, s);
		else
			s->hung = true;
	}
	if (r->failed && r->state == RELAY_MOVING)
		(void)relay_judge(r);
	else
		relay_step(r);
}

static void
side_r_ready(struct watch *w, uint32_t got)
{
	side_event((struct side *)((char *)w - offsetof(struct side, r)), got);
}

static void
side_w_ready(struct watch *w, uint32_t got)
{
	/* the read end of a split side has a watch of its own */
	(void)got;
	side_event((struct side *)((char *)w - offsetof(struct side, w)), WATCH_WRITE);
}

/* ---- life ---- */

static void
side_open(struct relay *r, struct side *s, struct transport *tp, const struct relay_hooks *hooks)
{
	s->relay = r;
	s->tp = tp;
	s->hooks = *hooks;
	s->split = tp->rfd != tp->wfd;
	if (tp->rfd == -1)
		return;
	reactor_watch(r->reactor, &s->r, tp->rfd, side_r_ready);
	if (s->split)
		reactor_watch(r->reactor, &s->w, tp->wfd, side_w_ready);
}

int
relay_start(struct relay **ret, struct reactor *reactor, const struct relay_config *cfg)
{
	struct relay *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->reactor = reactor;
	r->cfg = *cfg;
	r->moved_at = reactor_now(reactor);
	r->task.run = relay_task;
	r->timer.fire = relay_timer;
	side_open(r, &r->a, cfg->a, &cfg->a_hooks);
	side_open(r, &r->b, cfg->b, &cfg->b_hooks);
	lane_open(&r->in, &r->a, &r->b);
	lane_open(&r->out, &r->b, &r->a);
	if (cfg->first_len > 0 && lane_keep(&r->out, cfg->first, cfg->first_len) < 0) {
		free(r);
		return -ENOMEM;
	}
	if (cfg->keep_b) { /* what is in a pipe of ours could not be given back */
		r->out.copy_only = true;
		if (r->out.way == WAY_SPLICE)
			r->out.way = WAY_COPY;
	}
	/* decrypted bytes raise no event: run once unconditionally */
	cfg->a->ready |= TP_READ | TP_WRITE;
	cfg->b->ready |= TP_READ | TP_WRITE;
	reactor_later(reactor, &r->task);
	*ret = r;
	return 0;
}

void
relay_kick(struct relay *r)
{
	if (r->state != RELAY_OVER)
		reactor_later(r->reactor, &r->task);
}

void
relay_cut(struct relay *r, const char *reason, int status)
{
	struct relay_end end = { .reason = reason, .status = status, .by = "us" };

	if (r->state != RELAY_OVER)
		relay_over(r, &end, true);
}

size_t
relay_rest(const struct relay *r, char *to, size_t cap)
{
	size_t n = r->out.len < cap ? r->out.len : cap;

	if (n > 0)
		memcpy(to, r->out.kept + r->out.at, n);
	return n;
}
