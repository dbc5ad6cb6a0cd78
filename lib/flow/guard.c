/* A backend is asked for when the first request needs one.  What it does not take is not taken from
 * the client; what the client does not take is not read from it. */
#include "flow/guard.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/transport.h"
#include "flow/guard_parts.h"
#include "flow/http.h"
#include "flow/tell.h"
#include "session/exchange.h"

/* What is read of an answer before it is passed on is bounded by these alone. */
static const struct http1_limits answer_limits = {
	.body = UINT64_MAX, .header = 32 * 1024, .count = 500, .line = 8 * 1024, .head = 64 * 1024
};

struct reactor *
guard_loop(const struct guard *g)
{
	return g->of->cfg.reactor;
}

static struct guard *
guard_of(struct exchange *x)
{
	return &((struct http_conn *)exchange_arg(x))->guard;
}

/* ---- deadlines ---- */

/* Is it the backend we wait for?  Not while the client takes nothing, or still talks; a tunnel's
 * silence the session heeds. */
static bool
guard_owes(const struct guard *g)
{
	return g->exchange && !g->tunnel && !exchange_full(g->exchange) &&
	       (g->stuck || g->deaf || exchange_whole(g->exchange));
}

static int64_t
guard_due(const struct guard *g)
{
	const struct guards_config *cfg = &g->of->cfg;

	if (g->state == GUARD_WAITING || g->state == GUARD_ASKED)
		return clock_after(g->moved_at, cfg->connect);
	return g->state == GUARD_JOINED && guard_owes(g) ? clock_after(g->moved_at, cfg->answer)
							 : CLOCK_NEVER;
}

/* A timer that fires too early looks again: so it is moved only where it would fire too late. */
void
guard_time(struct guard *g)
{
	int64_t due = guard_due(g);

	if (due != CLOCK_NEVER && (!g->timer.slot || due < g->timer.at))
		(void)reactor_timer(guard_loop(g), &g->timer, due);
}

void
guard_moved(struct guard *g)
{
	g->moved_at = reactor_now(guard_loop(g));
}

static void
guard_late(struct timer *t)
{
	struct guard *g = (struct guard *)((char *)t - offsetof(struct guard, timer));
	int64_t unsent = g->tp ? g->tp->ops->unsent(g->tp) : 0;

	if (unsent != g->unsent) /* what lies in the kernel is being taken: no event says so */
		guard_moved(g);
	g->unsent = unsent;
	if (reactor_now(guard_loop(g)) < guard_due(g))
		guard_time(g);
	else if (g->state == GUARD_WAITING)
		guard_fail(g, 504, "nobody had room for a connection to the backend in time", NULL);
	else if (g->state == GUARD_ASKED)
		guard_fail(g, 504, "no connection to the backend came in time", NULL);
	else
		guard_fail(g, 504,
		    g->passing ? "the backend fell silent in its answer"
			       : "the backend did not answer in time",
		    NULL);
}

/* ---- what comes and goes ---- */

static void
guard_interest(struct guard *g)
{
	bool full = g->exchange && exchange_full(g->exchange);
	unsigned want = 0;

	if (g->state != GUARD_JOINED)
		return;
	if (!full && !g->tp->ended && !g->settling)
		want |= WATCH_READ;
	if (g->stuck)
		want |= WATCH_WRITE;
	reactor_want(guard_loop(g), &g->watch, want);
	guard_time(g);
}

/* How many it took, 0 also when it takes nothing any more. */
static size_t
guard_write(struct guard *g, const char *bytes, size_t len)
{
	ssize_t n;

	if (g->deaf || len == 0)
		return 0;
	n = g->tp->ops->write(g->tp, bytes, len);
	g->deaf = n < 0 && n != -EAGAIN;
	if (g->deaf && !g->tp->broken) { /* it is still there, and would wait for the rest */
		g->failed = (int)-n;
		reactor_later(guard_loop(g), &g->task);
	}
	g->stuck = !g->deaf && n < (ssize_t)len;
	if (n > 0)
		guard_moved(g);
	return n > 0 ? (size_t)n : 0;
}

/* The head, then (by body()) what follows it. */
static void
guard_push(struct guard *g)
{
	struct http1_text raw;

	if (!g->exchange || g->deaf)
		return;
	raw = exchange_request(g->exchange)->raw;
	g->sent += guard_write(g, raw.at + g->sent, raw.len - g->sent);
	if (g->sent < raw.len)
		return;
	g->stuck = false;
	if (g->hungry) {
		g->hungry = false;
		exchange_resume(g->exchange);
	}
}

/* The client has ended the tunnel, and all it said was taken. */
static void
guard_finish(struct guard *g)
{
	struct relay_hooks hooks = handed_hooks(&g->handed);

	if (!g->tunnel || !g->ending || g->finished || g->deaf)
		return;
	if (g->handed.conn && hooks.announce(hooks.arg) == -EAGAIN)
		return;
	g->finished = true;
	g->deaf = g->tp->ops->finish(g->tp) < 0;
}

void
guard_step(struct guard *g)
{
	if (g->state == GUARD_JOINED)
		guard_push(g);
	if (g->state == GUARD_JOINED)
		guard_finish(g);
	if (g->state == GUARD_JOINED)
		guard_pull(g);
	guard_interest(g);
}

static void
guard_task(struct task *t)
{
	struct guard *g = (struct guard *)((char *)t - offsetof(struct guard, task));

	if (g->state == GUARD_JOINED && g->failed)
		guard_fail(g, 502, "the request cannot be passed on", strerror(g->failed));
	if (g->state == GUARD_JOINED && g->settling)
		guard_settle(g);
	guard_step(g);
}

void
guard_ready(struct watch *w, uint32_t got)
{
	struct guard *g = (struct guard *)((char *)w - offsetof(struct guard, watch));

	if (got & (WATCH_READ | WATCH_HUP | WATCH_ERR))
		g->tp->ready |= TP_READ;
	if (got & (WATCH_WRITE | WATCH_HUP | WATCH_ERR))
		g->tp->ready |= TP_WRITE;
	guard_step(g);
}

/* ---- the end of a backend ---- */

void
guard_detach(struct guard *g, bool cut)
{
	const char *reason = cut ? "reset" : "done";
	uint64_t in = g->tp ? g->tp->out : 0, out = g->tp ? g->tp->in : 0;

	if (g->state == GUARD_WAITING)
		TAILQ_REMOVE(&g->of->waiting, g, waiter);
	if (g->tp) {
		reactor_forget(guard_loop(g), &g->watch);
		if (!cut && g->handed.conn && !g->finished)
			(void)link_eof(&g->down);
		g->tp->ops->close(g->tp, cut);
		g->tp = NULL;
	}
	if (g->handed.conn && !g->down.adopted) /* the consumer has the last word */
		link_leave(&g->down);
	else
		link_closed(&g->down, reason, cut ? CCF_CUT : 0, in, out);
	handed_close(&g->handed);
	g->handed.conn = NULL;
	reactor_timer(guard_loop(g), &g->timer, CLOCK_NEVER);
	reactor_drop(guard_loop(g), &g->task);
	http1_free(g->answers);
	g->answers = NULL;
	g->state = GUARD_NONE;
	g->stuck = g->deaf = false;
	g->settling = 0;
	g->failed = 0;
}

void
guard_say(const struct guard *g, unsigned status, const char *text, const char *more)
{
	static struct log_class class = { .name = "failures of the backend" };
	const struct http_conn *hc =
	    (const struct http_conn *)((const char *)g - offsetof(struct http_conn, guard));
	struct log_who who = tell_who(hc->tell);
	struct log_fact facts[] = { { .key = status ? "status" : NULL, .num = status }, { 0 } };
	char told[16] = "";

	if (!log_admit(&class, reactor_now(guard_loop(g))))
		return;
	if (status)
		snprintf(told, sizeof(told), "%u: ", status);
	log_event(LOG_L_WARN, &who, "backend-failed", facts, "%s%s%s%s", told, text,
	    more ? ": " : "", more ? more : "");
}

void
guard_fail(struct guard *g, unsigned status, const char *text, const char *more)
{
	struct exchange *x = g->exchange;
	bool passing = g->passing;

	guard_say(g, x && !passing ? status : 0, text, more);
	g->exchange = NULL;
	guard_detach(g, true);
	if (x && passing)
		exchange_cut(x);
	else if (x)
		exchange_refuse(x, status,
		    status == 502   ? "BadGateway"
		    : status == 503 ? "ServiceUnavailable"
				    : "GatewayTimeout",
		    status == 503 ? "Retry-After: 1\r\n" : NULL, "%s", text);
}

void
guard_cut(struct guard *g)
{
	struct exchange *x = g->exchange;

	g->exchange = NULL;
	guard_detach(g, true);
	if (x)
		exchange_cut(x);
}

bool
guard_told(const struct guard *g)
{
	return g->sent == exchange_request(g->exchange)->raw.len && exchange_whole(g->exchange);
}

void
guard_answered(struct guard *g, bool keep)
{
	struct exchange *x = g->exchange;
	bool whole = guard_told(g);

	keep = keep && whole && !g->deaf && !exchange_last(x);
	g->exchange = NULL;
	g->settling = 0;
	if (keep)
		http1_next(g->answers);
	else
		guard_detach(g, !whole);
	exchange_passed(x, keep);
}

/* ---- the request ---- */

/* It may have ended since its last answer, or spoken, though no event has said so yet.  What it
 * says once it was asked is taken for the answer. */
static void
guard_look(struct guard *g)
{
	g->tp->ready |= TP_READ;
	guard_pull(g);
	if (g->state == GUARD_JOINED && g->tp->ended)
		guard_detach(g, false);
}

static void
guard_begin(struct exchange *x, const struct http1_head *head)
{
	struct guard *g = guard_of(x);

	if (g->state == GUARD_JOINED)
		guard_look(g);
	g->exchange = x;
	g->sent = 0;
	g->interim = g->settling = 0;
	g->hungry = g->stuck = g->passing = false;
	g->tunnel = g->ending = g->finished = false;
	if (!g->answers && http1_new(&g->answers, HTTP1_RESPONSE, &answer_limits) < 0) {
		guard_fail(g, 503, "there is no memory for this request", NULL);
		return;
	}
	http1_response_to(g->answers, http1_is_head(head));
	if (g->state == GUARD_JOINED) {
		guard_moved(g);
		guard_push(g);
		guard_interest(g);
	} else
		guard_ask(g);
}

static ssize_t
guard_body(struct exchange *x, const char *bytes, size_t len)
{
	struct guard *g = guard_of(x);
	size_t n = 0;

	if (g->deaf && g->tunnel) /* its own end may still come */
		return (ssize_t)len;
	if (g->state == GUARD_JOINED && g->sent == exchange_request(x)->raw.len)
		n = guard_write(g, bytes, len);
	g->hungry = n < len;
	guard_interest(g);
	return (ssize_t)n;
}

static void
guard_end(struct exchange *x)
{
	struct guard *g = guard_of(x);

	guard_moved(g);
	if (g->settling)
		reactor_later(guard_loop(g), &g->task);
	guard_time(g);
}

static void
guard_drained(struct exchange *x)
{
	struct guard *g = guard_of(x);

	guard_moved(g);
	guard_step(g);
}

/* A client that ends its stream still wants what it has asked for. */
static void
guard_hungup(struct exchange *x)
{
	struct guard *g = guard_of(x);

	g->ending = true;
	guard_step(g);
}

static void
guard_abort(struct exchange *x)
{
	struct guard *g = guard_of(x);

	guard_detach(g, true);
	g->exchange = NULL;
}

const struct http1_handler guard_handler = {
	.name = "guard",
	.raw = true,
	.begin = guard_begin,
	.body = guard_body,
	.end = guard_end,
	.drained = guard_drained,
	.hungup = guard_hungup,
	.abort = guard_abort,
};

/* ---- life ---- */

void
guards_open(struct guards *of, const struct guards_config *cfg)
{
	*of = (struct guards){ .cfg = *cfg };
	TAILQ_INIT(&of->waiting);
}

void
guard_open(struct guard *g, struct guards *of, const struct env *env)
{
	g->of = of;
	g->env = env;
	g->timer.fire = guard_late;
	g->task.run = guard_task;
}

void
guard_close(struct guard *g)
{
	if (!g->of || g->state == GUARD_ENDED)
		return;
	guard_detach(g, g->exchange != NULL);
	g->exchange = NULL;
	g->state = GUARD_ENDED;
}
