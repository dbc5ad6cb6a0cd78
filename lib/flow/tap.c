/* flow/tap - see tap.h.  Whoever moves the bytes sees a transport like the one within: its fields
 * are kept the same, before each call in the one direction, after it in the other.  Only reading is
 * held back: then it is not wanted either, so nothing spins, and who was told so is kicked later.
 */
#include "flow/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "flow/relay.h"

#define CONN_MAX 96	     /* bytes of a connection's name, with its NUL */
#define READ_MAX (64 * 1024) /* at once: what it becomes as lines is above all bounds */

struct tap {
	struct transport t; /* first */
	struct transport_ops ops;
	struct transport *inner;
	struct taps *taps;
	struct relay *relay; /* NULL until it is attached */
	struct tap *other;   /* of the same relay */
	struct decode decode;
	bool from_client;
	bool last;  /* of the two to have been read */
	bool waits; /* it was not read, or not said to be waited for, for want of room */
	bool over;  /* the decoder knows that there is no more */
	char conn[CONN_MAX];
	TAILQ_ENTRY(tap) link;
};

/* The fields that callers look at change in const calls, too (see ops->unsent); it is made by
 * malloc, never const. */
static struct tap *
tap_of(const struct transport *t)
{
	return (struct tap *)(uintptr_t)t;
}

static void
tap_mirror(struct tap *tap)
{
	const struct transport_ops *ops = tap->t.ops;

	tap->t = *tap->inner;
	tap->t.ops = ops;
}

static struct transport *
tap_enter(struct transport *t)
{
	struct transport *inner = tap_of(t)->inner;

	inner->ready = t->ready;
	return inner;
}

/* ---- what is shown ---- */

static void
tap_item(void *arg, const struct decode_item *item)
{
	struct tap *tap = arg;

	tap->taps->item(tap->taps->arg, tap->conn, tap->from_client, item);
}

static void
tap_over(struct tap *tap)
{
	if (!tap->over)
		decode_end(&tap->decode);
	tap->over = true;
}

static void
tap_was_read(struct tap *tap, bool last)
{
	if (!tap)
		return;
	tap->last = last;
	TAILQ_REMOVE(&tap->taps->all, tap, link);
	TAILQ_INSERT_TAIL(&tap->taps->all, tap, link);
}

/* Whose relay was read longest ago stands first, and is kicked first. */
static void
tap_show(struct tap *tap, const void *bytes, size_t len)
{
	decode_feed(&tap->decode, bytes, len);
	tap_was_read(tap->other, false);
	tap_was_read(tap, true);
}

static bool
tap_has_room(struct tap *tap)
{
	tap->waits = !tap->taps->ready(tap->taps->arg);
	return !tap->waits;
}

/* A relay always reads one of its sides first: where there is room for one read at a time, the
 * other has its turn after that. */
static bool
tap_may_read(struct tap *tap)
{
	struct tap *other = tap->other;

	if (!tap_has_room(tap))
		return false;
	if (!other || !other->waits || !tap->last)
		return true;
	other->waits = false;
	relay_kick(tap->relay);
	return false;
}

/* ---- the transport ---- */

static int
tap_handshake(struct transport *t)
{
	int rc = tap_of(t)->inner->ops->handshake(tap_enter(t));

	tap_mirror(tap_of(t));
	return rc;
}

static ssize_t
tap_read(struct transport *t, void *buf, size_t cap)
{
	struct tap *tap = tap_of(t);
	ssize_t n;

	if (!tap_may_read(tap))
		return -EAGAIN;
	n = tap->inner->ops->read(tap_enter(t), buf, cap < READ_MAX ? cap : READ_MAX);
	tap_mirror(tap);
	if (n > 0)
		tap_show(tap, buf, (size_t)n);
	else if (n != -EAGAIN)
		tap_over(tap);
	return n;
}

static ssize_t
tap_write(struct transport *t, const void *buf, size_t len)
{
	ssize_t n = tap_of(t)->inner->ops->write(tap_enter(t), buf, len);

	tap_mirror(tap_of(t));
	return n;
}

static int
tap_flush(struct transport *t)
{
	int rc = tap_of(t)->inner->ops->flush(tap_enter(t));

	tap_mirror(tap_of(t));
	return rc;
}

static int
tap_finish(struct transport *t)
{
	int rc = tap_of(t)->inner->ops->finish(tap_enter(t));

	tap_mirror(tap_of(t));
	return rc;
}

static unsigned
tap_want(const struct transport *t, unsigned ops)
{
	struct tap *tap = tap_of(t);

	if (ops & TP_READ && !tap_has_room(tap))
		ops &= ~(unsigned)TP_READ;
	return ops ? tap->inner->ops->want(tap->inner, ops) : 0;
}

static int64_t
tap_unsent(const struct transport *t)
{
	struct tap *tap = tap_of(t);
	int64_t n = tap->inner->ops->unsent(tap_enter(&tap->t));

	tap_mirror(tap);
	return n;
}

static size_t
tap_held(const struct transport *t, unsigned op)
{
	return tap_of(t)->inner->ops->held(tap_of(t)->inner, op);
}

static void
tap_facts(const struct transport *t, struct env *env)
{
	tap_of(t)->inner->ops->facts(tap_of(t)->inner, env);
}

static const char *
tap_reason(const struct transport *t)
{
	return tap_of(t)->inner->ops->reason(tap_of(t)->inner);
}

static void
tap_close(struct transport *t, bool cut)
{
	struct tap *tap = tap_of(t);

	if (!t)
		return;
	tap_over(tap);
	if (tap->other)
		tap->other->other = NULL;
	TAILQ_REMOVE(&tap->taps->all, tap, link);
	tap->inner->ops->close(tap->inner, cut);
	free(tap);
}

static const struct transport_ops tap_ops = {
	.handshake = tap_handshake,
	.read = tap_read,
	.write = tap_write,
	.flush = tap_flush,
	.finish = tap_finish,
	.want = tap_want,
	.unsent = tap_unsent,
	.held = tap_held,
	.facts = tap_facts,
	.reason = tap_reason,
	.close = tap_close,
};

/* What the inner one has not, it has not either. */
static struct transport_ops
tap_ops_for(const struct transport_ops *inner)
{
	struct transport_ops ops = tap_ops;

	ops.name = inner->name;
	if (!inner->held)
		ops.held = NULL;
	if (!inner->facts)
		ops.facts = NULL;
	if (!inner->reason)
		ops.reason = NULL;
	return ops;
}

/* ---- life ---- */

void
taps_open(struct taps *taps)
{
	TAILQ_INIT(&taps->all);
}

int
tap_wrap(struct taps *taps, struct transport *inner, const char *conn, bool from_client,
    struct transport **ret)
{
	struct tap *tap = calloc(1, sizeof(*tap));

	if (!tap)
		return -ENOMEM;
	tap->ops = tap_ops_for(inner->ops);
	tap->t.ops = &tap->ops;
	tap->inner = inner;
	tap_mirror(tap);
	tap->taps = taps;
	tap->from_client = from_client;
	tap->decode.max = taps->max;
	tap->decode.item = tap_item;
	tap->decode.arg = tap;
	strlcpy(tap->conn, conn, sizeof(tap->conn));
	TAILQ_INSERT_TAIL(&taps->all, tap, link);
	*ret = &tap->t;
	return 0;
}

void
tap_attach(struct transport *t, struct relay *relay)
{
	struct tap *tap = tap_of(t), *other;

	TAILQ_FOREACH(other, &tap->taps->all, link)
		if (other->relay == relay) {
			tap->other = other;
			other->other = tap;
		}
	tap->relay = relay;
}

void
taps_resume(struct taps *taps)
{
	struct tap *tap;

	TAILQ_FOREACH(tap, &taps->all, link)
		if (tap->waits && tap->relay)
			relay_kick(tap->relay);
}
