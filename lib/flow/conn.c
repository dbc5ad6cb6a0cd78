/* The timer is armed for the earliest moment that was ever asked for and not moved when that moves
 * away: one that fires early looks again.  So a request costs no heap operation. */
#include "flow/conn.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/exit.h"
#include "flow/relay.h"
#include "loop/reactor.h"
#include "session/session.h"
#include "session/writer.h"

struct conn {
	struct transport tp;
	struct conn_config cfg;
	struct session *session; /* NULL until the first byte */
	struct writer writer;
	struct relay *relay; /* NULL until attached */
	struct timer timer;
	bool told_end, draining;
	bool inside; /* called by the relay, which looks afterwards anyway */
};

/* ---- deadlines ---- */

static int64_t
conn_deadline(const struct conn *c)
{
	if (c->writer.closed)
		return CLOCK_NEVER;
	if (!c->session)
		return c->cfg.first;
	return c->cfg.ops->deadline ? c->cfg.ops->deadline(c->session) : CLOCK_NEVER;
}

static void
conn_wind(struct conn *c)
{
	int64_t at = conn_deadline(c);

	if (at != CLOCK_NEVER && (!c->timer.slot || at < c->timer.at))
		(void)reactor_timer(c->cfg.reactor, &c->timer, at);
}

static void
conn_late(struct timer *timer)
{
	struct conn *c = (struct conn *)((char *)timer - offsetof(struct conn, timer));

	if (reactor_now(c->cfg.reactor) >= conn_deadline(c)) {
		if (c->session)
			c->cfg.ops->late(c->session);
		else {
			writer_say_why(&c->writer, "request-timeout", CCF_DEADLINE);
			writer_close(&c->writer);
		}
		if (c->relay)
			relay_kick(c->relay);
	}
	conn_wind(c);
}

/* ---- the transport ---- */

static int
conn_handshake(struct transport *tp)
{
	(void)tp;
	return 0;
}

static int
conn_open(struct conn *c)
{
	int rc;

	if (c->session)
		return 0;
	rc = c->cfg.ops->open(&c->session, &c->writer, c->cfg.env, c->cfg.arg);
	if (rc == 0 && c->draining && c->cfg.ops->drain)
		c->cfg.ops->drain(c->session);
	return rc;
}

static ssize_t
conn_last(struct conn *c)
{
	struct transport *tp = &c->tp;

	if (!c->writer.closed)
		return -EAGAIN;
	if (!c->writer.broken) {
		tp->ended = true;
		return 0;
	}
	if (!tp->broken)
		tp->broken = c->writer.broken;
	return -c->writer.broken;
}

/* What the relay reads is what the session wrote. */
static ssize_t
conn_read(struct transport *tp, void *buf, size_t cap)
{
	struct conn *c = (struct conn *)tp;
	size_t share = c->relay ? relay_share(c->relay) : SIZE_MAX;
	size_t n = writer_take(&c->writer, buf, cap);

	tp->in += n;
	if (writer_drained(&c->writer, share / 2) && !c->writer.closed) {
		c->inside = true;
		if (c->session && c->cfg.ops->drained)
			c->cfg.ops->drained(c->session);
		c->inside = false;
		conn_wind(c);
		if (c->relay) /* its input may have waited for that */
			relay_kick(c->relay);
	}
	return n > 0 ? (ssize_t)n : conn_last(c);
}

static ssize_t
conn_write(struct transport *tp, const void *buf, size_t len)
{
	struct conn *c = (struct conn *)tp;
	ssize_t n;

	if (c->writer.closed)
		return -EPIPE;
	if (writer_full(&c->writer))
		return -EAGAIN;
	c->inside = true;
	n = conn_open(c);
	if (n == 0)
		n = c->cfg.ops->data(c->session, buf, len);
	c->inside = false;
	conn_wind(c);
	if (n <= 0)
		return n < 0 ? n : -EAGAIN;
	tp->out += (size_t)n;
	return n;
}

static int
conn_flush(struct transport *tp)
{
	(void)tp;
	return 0;
}

static int
conn_finish(struct transport *tp)
{
	struct conn *c = (struct conn *)tp;
	int rc = 0;

	if (c->told_end || c->writer.closed)
		return 0;
	c->inside = true;
	rc = conn_open(c);
	if (rc == 0) {
		c->cfg.ops->end(c->session);
		c->told_end = true;
	}
	c->inside = false;
	conn_wind(c);
	return rc;
}

static unsigned
conn_want(const struct transport *tp, unsigned ops)
{
	(void)tp;
	return ops;
}

static int64_t
conn_unsent(const struct transport *tp)
{
	(void)tp;
	return 0;
}

static size_t
conn_held(const struct transport *tp, unsigned op)
{
	const struct conn *c = (const struct conn *)tp;

	if (op == TP_READ)
		return c->writer.cap;
	return c->session && c->cfg.ops->held ? c->cfg.ops->held(c->session) : 0;
}

static void
conn_close(struct transport *tp, bool cut)
{
	struct conn *c = (struct conn *)tp;

	(void)cut;
	c->inside = true;
	(void)reactor_timer(c->cfg.reactor, &c->timer, CLOCK_NEVER);
	if (c->session)
		c->cfg.ops->close(c->session);
	if (c->cfg.said)
		*c->cfg.said = (struct conn_said){ c->writer.reason, c->writer.status };
	writer_free(&c->writer);
	free(c);
}

static const struct transport_ops conn_ops = {
	.name = "session",
	.handshake = conn_handshake,
	.read = conn_read,
	.write = conn_write,
	.flush = conn_flush,
	.finish = conn_finish,
	.want = conn_want,
	.unsent = conn_unsent,
	.held = conn_held,
	.close = conn_close,
};

static void
conn_woken(struct writer *w)
{
	struct conn *c = w->owner;

	if (c->inside)
		return;
	conn_wind(c);
	if (c->relay)
		relay_kick(c->relay);
}

int
conn_session(struct transport **ret, const struct conn_config *cfg)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->tp.ops = &conn_ops;
	c->tp.rfd = c->tp.wfd = -1;
	c->cfg = *cfg;
	c->timer.fire = conn_late;
	c->writer.owner = c;
	c->writer.woken = conn_woken;
	conn_wind(c);
	*ret = &c->tp;
	return 0;
}

void
conn_attach(struct transport *tp, struct relay *relay)
{
	struct conn *c = (struct conn *)tp;

	c->relay = relay;
	(void)writer_drained(&c->writer, relay_share(relay) / 2);
}

void
conn_drain(struct transport *tp)
{
	struct conn *c = (struct conn *)tp;
	int64_t soon = reactor_now(c->cfg.reactor) + CONN_DRAIN_MS;

	if (c->draining || !c->cfg.ops->drain)
		return;
	c->draining = true;
	if (c->session)
		c->cfg.ops->drain(c->session);
	else if (soon < c->cfg.first)
		c->cfg.first = soon;
	conn_wind(c);
	if (c->relay)
		relay_kick(c->relay);
}
