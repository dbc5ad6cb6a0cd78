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
#include "flow/budget.h"
#include "flow/lane.h"
#include "net/socket.h"

#define PROBE_LAST 64 /* ms between looks at SIOCOUTQ, at most */
#define LOOKS	   4  /* at SIOCOUTQ within a deadline */

static void relay_step(struct relay *);

/* ---- interest ---- */

static unsigned
side_ops(const struct relay *r, const struct side *s)
{
	const struct lane *in = s == &r->a ? &r->in : &r->out;
	const struct lane *out = s == &r->a ? &r->out : &r->in;
	unsigned ops = 0;

	if (in->state == LANE_OPEN && !lane_holds(in) && !in->stopped)
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
relay_patience(const struct relay *r)
{
	return r->in.state == LANE_DONE || r->out.state == LANE_DONE ? r->cfg.half_close
								     : r->cfg.idle;
}

/* How long what nobody reads is waited for. */
static int64_t
relay_linger_by(const struct relay *r)
{
	const struct relay_linger *linger = &r->cfg.linger;
	int64_t quiet, longest;

	if (!linger->quiet)
		return r->linger_from + RELAY_LINGER_MS;
	quiet = clock_after(r->in.dropped_at, linger->quiet);
	longest = clock_after(r->linger_from, linger->longest ? linger->longest : RELAY_LINGER_MS);
	return quiet < longest ? quiet : longest;
}

/* A peer that takes nothing is not kept by what it says. */
static int64_t
relay_deadline(const struct relay *r)
{
	if (relay_lingers(r))
		return r->moved_at + RELAY_LINGER_MS;
	if (r->linger_from)
		return relay_linger_by(r);
	if (r->cfg.b_has_deadlines && r->out.state == LANE_OPEN && !lane_holds(&r->out))
		return CLOCK_NEVER;
	return clock_after(lane_holds(&r->out) ? r->out.moved_at : r->moved_at, relay_patience(r));
}

/* When to look next: who slowly takes what lies in the kernel raises no event, and is not silent.
 */
static int64_t
relay_due(const struct relay *r)
{
	int64_t deadline = relay_deadline(r), since = r->moved_at, look;

	if (deadline == CLOCK_NEVER || r->linger_from || relay_lingers(r))
		return deadline;
	if (r->looked_at >= since && r->a.unsent == 0 && r->b.unsent == 0)
		return deadline;
	if (r->looked_at > since)
		since = r->looked_at;
	look = clock_after(since, relay_patience(r) / LOOKS);
	return relay_patience(r) >= 0 && look < deadline ? look : deadline;
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
	char *why = how->why ? strdup(how->why) : NULL; /* it is the transport's */

	r->state = RELAY_OVER;
	end.why = why;
	if (r->cfg.charge)
		budget_hold(r->cfg.charge, 0, true);
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
	free(why);
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
	if (r->failed->tp->bare_end && !r->failed->tp->broken && r->failed == &r->a)
		return "no-close-notify";
	switch (r->error) {
	case EACCES:
		return "handshake-failed";
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

/* What the peer said before it took no more: a refusal explains that. */
static void
relay_heed_refusal(struct relay *r)
{
	struct transport *tp = r->failed->tp;

	if (r->failed != &r->a || !tp->ops->facts || r->in.state != LANE_OPEN)
		return;
	tp->ready |= TP_READ;
	if (lane_last_words(&r->in) == -EACCES)
		r->error = EACCES;
}

static void
relay_failed(struct relay *r)
{
	const struct transport_ops *ops = r->failed->tp->ops;
	struct relay_end end = { .status = CCF_CUT, .by = r->failed == &r->a ? "peer" : "inner" };

	relay_heed_refusal(r);
	end.reason = reason_of(r);
	end.error = r->error;
	end.why = ops->reason ? ops->reason(r->failed->tp) : NULL;
	if (r->failed == &r->a && r->error == EACCES)
		end.status = CCF_HANDSHAKE;
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
	if (r->unheard) {
		end.reason = "reset";
		end.status = CCF_CUT;
		end.error = r->unheard;
		end.by = "inner";
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

		if (s[i]->settled || (s[i] == &r->b && (r->failed || r->unheard)))
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
	if (r->failed && (!unsent || reactor_now(r->reactor) >= r->flush_by))
		relay_failed(r);
	else if (!unsent)
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

/* Both ends of stream have passed, or b's last words before it was cut. */
static void
relay_flush(struct relay *r)
{
	r->state = RELAY_FLUSHING;
	r->flush_by = clock_after(reactor_now(r->reactor), r->cfg.flush);
	side_interest(r, &r->a);
	side_interest(r, &r->b);
	relay_probe(r);
}

/* We have said all we had, and nobody reads what the peer says: it goes on for a while, so that no
 * reset eats our last words. */
static void
relay_linger(struct relay *r)
{
	uint64_t bytes = r->cfg.linger.bytes ? r->cfg.linger.bytes : RELAY_LINGER_BYTES;
	int64_t now = reactor_now(r->reactor);

	if (!r->linger_from) {
		r->linger_from = r->in.dropped_at = now;
		r->in.dropped = 0;
		reactor_timer(r->reactor, &r->timer, relay_linger_by(r));
	}
	if (r->in.dropped > bytes || now >= relay_linger_by(r))
		r->in.state = LANE_DONE;
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
		if (r->failed == &r->b && !r->cfg.stdio && !lane_holds(&r->out))
			relay_flush(r);
		else
			relay_failed(r);
		return true;
	}
	if (r->cfg.indifferent && (r->b.hung || (r->b.tp->rfd == -1 && r->b.tp->ended)))
		r->in.discard = true;
	if (r->out.state == LANE_DONE && r->in.discard && r->in.state != LANE_DONE)
		relay_linger(r);
	if (r->in.state != LANE_DONE || r->out.state != LANE_DONE)
		return false;
	relay_flush(r);
	return true;
}

/* What is held now is the budget's to know.  Output is what goes to a, if there is some. */
static void
relay_account(struct relay *r)
{
	size_t left[2] = { side_held(&r->a, TP_WRITE), side_held(&r->b, TP_WRITE) };
	uint64_t took[2] = { r->a.tp->out - left[0], r->b.tp->out - left[1] };
	size_t out = left[0] + r->out.len + side_held(&r->b, TP_READ);
	int i = out > 0 ? 0 : 1;

	budget_hold(r->cfg.charge, relay_held(r), took[i] != r->took[i]);
	memcpy(r->took, took, sizeof(took));
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
	bool more, says;

	if (r->state != RELAY_MOVING)
		return;
	more = lane_pump(r, &r->in);
	if (relay_peer_left(r))
		return;
	says = lane_pump(r, &r->out);
	/* its last words are what has come by now */
	if (r->unheard && !says && r->out.state == LANE_OPEN && !lane_holds(&r->out))
		relay_fail(r, &r->b, r->unheard);
	more |= says;
	/* what stopped a session's input is gone (lane_room); one that takes more than it did kicks
	 */
	if (r->b.tp->rfd == -1 && r->in.stopped && !lane_holds(&r->out))
		more = true;
	if (r->cfg.charge)
		relay_account(r);
	if (relay_judge(r))
		return;
	if (more)
		reactor_again(r->reactor, &r->task);
	side_interest(r, &r->a);
	side_interest(r, &r->b);
	if (!r->timer.slot || relay_due(r) < r->timer.at)
		reactor_timer(r->reactor, &r->timer, relay_due(r));
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

	if (r->state == RELAY_FLUSHING) {
		relay_probe(r);
		return;
	}
	if (reactor_now(r->reactor) >= relay_due(r)) {
		r->looked_at = reactor_now(r->reactor);
		if (side_takes(&r->b))
			relay_moved(r, &r->in);
		if (side_takes(&r->a))
			relay_moved(r, &r->out);
	}
	if (reactor_now(r->reactor) < relay_due(r))
		reactor_timer(r->reactor, &r->timer, relay_due(r));
	else if (r->linger_from)
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
	if (s == &r->b && (r->cfg.indifferent || relay_unheard(r, EPIPE)))
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
relay_share(const struct relay *r)
{
	return r->cfg.charge ? budget_share(r->cfg.charge) : SIZE_MAX;
}

void
relay_look(const struct relay *r, struct relay_view *ret)
{
	*ret = (struct relay_view){ .moved_at = r->moved_at };
	if (r->state == RELAY_OVER)
		return;
	ret->in = r->a.tp->in;
	ret->out = r->a.tp->out;
	ret->held = relay_held(r);
}

size_t
relay_rest(const struct relay *r, char *to, size_t cap)
{
	size_t n = r->out.len < cap ? r->out.len : cap;

	if (n > 0)
		memcpy(to, r->out.kept + r->out.at, n);
	return n;
}
