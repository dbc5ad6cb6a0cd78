/* An answer is read along, so that it is known where it ends.  Its head is passed on when it is
 * whole and valid, the rest piece by piece. */
#include <errno.h>
#include <string.h>

#include "base/transport.h"
#include "flow/guard_parts.h"
#include "session/exchange.h"
#include "wire/http1.h"

#define PULL_BYTES  (32 * 1024)
#define PULL_TURNS  8  /* reads before others get their turn */
#define INTERIM_MAX 16 /* answers 1xx before the final one */
#define SETTLE	    4  /* looks for the rest of a request: what is here has come by the third */

static void
guard_pass(struct guard *g, const char *bytes, size_t len)
{
	if (len > 0 && exchange_pass(g->exchange, bytes, len) < 0)
		guard_cut(g); /* no memory, or the client is gone */
}

static bool
guard_may_tunnel(const struct guard *g)
{
	const struct http1_head *asked = exchange_request(g->exchange);

	return asked->minor >= 1 && http1_is(asked->upgrade, "websocket") &&
	       http1_is(http1_head(g->answers)->upgrade, "websocket") && guard_told(g);
}

static void
guard_head(struct guard *g)
{
	const struct http1_head *head = http1_head(g->answers);

	if (head->status == 101 && !guard_may_tunnel(g))
		guard_fail(g, 502, "the backend answered 101, which was not asked for", NULL);
	else if (head->status < 200 && head->status != 101) {
		if (++g->interim > INTERIM_MAX)
			guard_fail(
			    g, 502, "the backend sends one interim answer after the other", NULL);
		else if (exchange_request(g->exchange)->minor >= 1) /* HTTP/1.0 has none */
			guard_pass(g, head->raw.at, head->raw.len);
	} else {
		guard_pass(g, head->raw.at, head->raw.len);
		g->passing = g->exchange != NULL;
		if (g->passing)
			exchange_passing(g->exchange, head->status);
	}
}

void
guard_settle(struct guard *g)
{
	const struct http1_head *head = http1_head(g->answers);

	if (guard_told(g) || --g->settling == 0)
		guard_answered(g, head->keep_alive && head->framing != HTTP1_UNTIL_END);
	else
		reactor_again(guard_loop(g), &g->task);
}

/* extra: bytes that nobody asked for came with its end. */
static void
guard_done(struct guard *g, bool extra)
{
	const struct http1_head *head = http1_head(g->answers);
	const struct http1_head *asked = exchange_request(g->exchange);
	bool is_head = http1_is_head(asked);

	if (head->status == 101) {
		g->tunnel = true;
		exchange_tunnel(g->exchange);
		if (g->ending)
			reactor_again(guard_loop(g), &g->task);
	} else if (head->status < 200) {
		http1_next(g->answers);
		http1_response_to(g->answers, is_head);
	} else if (extra) {
		guard_say(g, 0, "the backend said more than it was asked for", NULL);
		guard_answered(g, false);
	} else {
		g->settling = SETTLE;
		if (!exchange_whole(g->exchange)) /* perhaps it is there */
			exchange_resume(g->exchange);
		guard_settle(g);
	}
}

static void
guard_heard(struct guard *g, const char *bytes, size_t len)
{
	struct http1_event ev;
	size_t at = 0, n;

	if (!g->exchange) {
		guard_fail(g, 502, "the backend spoke without having been asked", NULL);
		return;
	}
	do {
		if (g->tunnel) {
			guard_pass(g, bytes + at, len - at);
			return;
		}
		n = http1_feed(g->answers, bytes + at, len - at, &ev);
		if (ev.what == HTTP1_BAD) {
			guard_fail(g, 502, "the backend's answer is malformed",
			    http1_fault(g->answers)->text);
			return;
		}
		if (g->passing)
			guard_pass(g, bytes + at, n);
		at += n;
		if (g->exchange && ev.what == HTTP1_HEAD)
			guard_head(g);
		else if (g->exchange && ev.what == HTTP1_DONE)
			guard_done(g, at < len);
	} while (g->exchange && !g->settling && (ev.what != HTTP1_MORE));
}

/* Its stream has ended, or broken. */
static void
guard_over(struct guard *g, bool clean)
{
	bool begun = g->exchange && http1_begun(g->answers);
	struct http1_event ev;

	if (!g->exchange)
		guard_detach(g, !clean);
	else if (g->tunnel && clean) {
		struct exchange *x = g->exchange;

		g->exchange = NULL;
		guard_detach(g, false);
		exchange_untunnel(x);
	} else if (g->tunnel)
		guard_fail(g, 502, "the backend broke off", NULL);
	else {
		http1_end(g->answers, &ev);
		if (ev.what == HTTP1_DONE && clean)
			guard_answered(g, false);
		else if (g->verdict && !begun)
			guard_fail(g, (unsigned)g->verdict, "there is no connection to the backend",
			    g->text);
		else
			guard_fail(g, 502,
			    begun ? "the backend broke off in its answer"
				  : "the backend closed the connection before it answered",
			    NULL);
	}
}

static void
guard_ended(struct guard *g, bool clean)
{
	struct relay_hooks hooks = handed_hooks(&g->handed);
	int is_end = clean;

	if (clean && g->handed.conn)
		is_end = hooks.is_end(hooks.arg);
	if (is_end == -EAGAIN) /* the link is read first */
		reactor_again(guard_loop(g), &g->task);
	else
		guard_over(g, is_end);
}

void
guard_pull(struct guard *g)
{
	static char bytes[PULL_BYTES];
	ssize_t n;

	for (int turn = 0; turn < PULL_TURNS && g->state == GUARD_JOINED; turn++) {
		if (g->settling || (g->exchange && exchange_full(g->exchange)))
			return;
		n = g->tp->ops->read(g->tp, bytes, sizeof(bytes));
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			guard_ended(g, n == 0 && !g->tp->broken);
			return;
		}
		guard_moved(g);
		guard_heard(g, bytes, (size_t)n);
	}
	if (g->state == GUARD_JOINED)
		reactor_again(guard_loop(g), &g->task);
}
