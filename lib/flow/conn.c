#include "flow/conn.h"

#include <errno.h>
#include <stdlib.h>

#include "flow/relay.h"
#include "session/session.h"
#include "session/writer.h"

struct conn {
	struct transport tp;
	const struct session_ops *ops;
	const struct env *env;
	struct session *session; /* NULL until the first byte */
	struct writer writer;
	struct relay *relay; /* NULL until attached */
	bool told_end;
};

static int
conn_handshake(struct transport *tp)
{
	(void)tp;
	return 0;
}

static int
conn_open(struct conn *c)
{
	return c->session ? 0 : c->ops->open(&c->session, &c->writer, c->env);
}

/* What the relay reads is what the session wrote. */
static ssize_t
conn_read(struct transport *tp, void *buf, size_t cap)
{
	struct conn *c = (struct conn *)tp;
	size_t share = c->relay ? relay_share(c->relay) : SIZE_MAX;
	size_t n = writer_take(&c->writer, buf, cap);

	tp->in += n;
	if (writer_drained(&c->writer, share / 2) && c->session && c->ops->drained &&
	    !c->writer.closed)
		c->ops->drained(c->session);
	if (n > 0)
		return (ssize_t)n;
	if (!c->writer.closed)
		return -EAGAIN;
	tp->ended = true;
	return 0;
}

static ssize_t
conn_write(struct transport *tp, const void *buf, size_t len)
{
	struct conn *c = (struct conn *)tp;
	int rc;

	if (c->writer.closed)
		return -EPIPE;
	if (writer_full(&c->writer))
		return -EAGAIN;
	rc = conn_open(c);
	if (rc == 0)
		rc = c->ops->data(c->session, buf, len);
	if (rc < 0)
		return rc;
	tp->out += len;
	return (ssize_t)len;
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
	int rc = c->told_end || c->writer.closed ? 0 : conn_open(c);

	if (rc < 0)
		return rc;
	if (!c->told_end && c->session)
		c->ops->end(c->session);
	c->told_end = true;
	return 0;
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
	return op == TP_READ ? ((const struct conn *)tp)->writer.cap : 0;
}

static void
conn_close(struct transport *tp, bool cut)
{
	struct conn *c = (struct conn *)tp;

	(void)cut;
	if (c->session)
		c->ops->close(c->session);
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

	if (c->relay)
		relay_kick(c->relay);
}

int
conn_session(struct transport **ret, const struct session_ops *ops, const struct env *env)
{
	struct conn *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->tp.ops = &conn_ops;
	c->tp.rfd = c->tp.wfd = -1;
	c->ops = ops;
	c->env = env;
	c->writer.owner = c;
	c->writer.woken = conn_woken;
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
