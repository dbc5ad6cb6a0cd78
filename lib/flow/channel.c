/* flow/channel - orders and the queue of those that the socket does not take yet. */
#include "flow/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "net/handoff.h"

#define RESEND_MS  20 /* after ETOOMANYREFS, ENOBUFS: no event says when it is over */
#define READ_BATCH 32 /* orders in one go: the other channels have their turn */

struct channel_out {
	TAILQ_ENTRY(channel_out) link;
	size_t len;
	int fd;
	char bytes[];
};

enum { CARRIES_FD = 1, CARRIES_PAYLOAD = 2, MAY_CARRY_PAYLOAD = 4 };

static const unsigned carries[ORDER_VERBS] = {
	[ORDER_LINK] = CARRIES_FD,
	[ORDER_MATERIAL] = CARRIES_FD,
	[ORDER_RUN] = CARRIES_FD | CARRIES_PAYLOAD,
	[ORDER_HOLD] = CARRIES_FD,
	[ORDER_ACCESS] = CARRIES_FD,
	[ORDER_LISTED] = MAY_CARRY_PAYLOAD,
};

int
channel_pair(int ret_fd[2])
{
	return handoff_pair(ret_fd);
}

/* ---- saying ---- */

static void
channel_unqueue(struct channel *c, struct channel_out *o)
{
	TAILQ_REMOVE(&c->queue, o, link);
	c->queued--;
	if (o->fd != -1)
		close(o->fd);
	free(o);
}

/* Nothing more can be said; what the other side said before is still to be read. */
static void
channel_mute(struct channel *c)
{
	struct channel_out *o;

	c->over = true;
	while ((o = TAILQ_FIRST(&c->queue)))
		channel_unqueue(c, o);
	reactor_timer(c->reactor, &c->resend, CLOCK_NEVER);
}

static void
channel_end(struct channel *c, const char *wrong)
{
	channel_mute(c);
	c->wrong = wrong;
	reactor_forget(c->reactor, &c->watch);
	c->ops->ended(c);
}

/* Its end comes when all that was said has been read. */
static void
channel_lost(struct channel *c)
{
	channel_mute(c);
	shutdown(c->fd, SHUT_RDWR);
}

/* 0: sent.  -EAGAIN, -ETOOMANYREFS ...: later.  -EPIPE: never. */
static int
channel_send(struct channel *c, const void *bytes, size_t len, int fd)
{
	int rc = handoff_lend(c->fd, &(struct handoff_out){ .bytes = bytes, .len = len, .fd = fd });

	return rc == -ECONNRESET || rc == -ENOTCONN ? -EPIPE : rc;
}

static bool
channel_may_later(int rc)
{
	return rc == -EAGAIN || rc == -ETOOMANYREFS || rc == -ENOBUFS || rc == -ENOMEM;
}

static void
channel_wait(struct channel *c, int rc)
{
	reactor_want(c->reactor, &c->watch, WATCH_READ | (rc == -EAGAIN ? WATCH_WRITE : 0));
	if (rc < 0 && rc != -EAGAIN)
		(void)reactor_timer(c->reactor, &c->resend, reactor_now(c->reactor) + RESEND_MS);
}

static void
channel_flush(struct channel *c)
{
	struct channel_out *o;
	int rc = 0;

	while (rc == 0 && (o = TAILQ_FIRST(&c->queue))) {
		rc = channel_send(c, o->bytes, o->len, o->fd);
		if (rc == 0)
			channel_unqueue(c, o);
	}
	if (rc == 0 || channel_may_later(rc))
		channel_wait(c, rc);
	else if (rc == -EPIPE)
		channel_lost(c);
	else
		channel_end(c, NULL);
}

static void
channel_resend(struct timer *t)
{
	channel_flush((struct channel *)((char *)t - offsetof(struct channel, resend)));
}

/* Into the queue, with a descriptor of its own. */
static int
channel_keep(struct channel *c, const char *bytes, size_t len, int fd)
{
	struct channel_out *o = malloc(sizeof(*o) + len);
	int err;

	if (!o)
		return -ENOMEM;
	o->len = len;
	o->fd = fd == -1 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (o->fd == -1 && fd != -1) {
		err = -errno;
		free(o);
		return err;
	}
	memcpy(o->bytes, bytes, len);
	TAILQ_INSERT_TAIL(&c->queue, o, link);
	c->queued++;
	return 0;
}

int
channel_say(struct channel *c, const struct order *order, const void *payload, size_t len, int fd)
{
	static char bytes[HANDOFF_MAX];
	int rc = -EAGAIN;

	if (c->over)
		return -EPIPE;
	if (len > sizeof(bytes) - sizeof(*order))
		return -EMSGSIZE;
	memcpy(bytes, order, sizeof(*order));
	if (len > 0)
		memcpy(bytes + sizeof(*order), payload, len);
	len += sizeof(*order);
	if (TAILQ_EMPTY(&c->queue)) {
		rc = channel_send(c, bytes, len, fd);
		if (rc == 0)
			return 0;
		if (channel_may_later(rc))
			channel_wait(c, rc);
	}
	if (channel_may_later(rc))
		rc = channel_keep(c, bytes, len, fd);
	else if (rc == -EPIPE)
		channel_lost(c);
	return rc;
}

/* ---- hearing ---- */

/* NULL, or what is wrong with it. */
static const char *
order_fault(const struct order *o, size_t payload, const struct handoff_in *in)
{
	if (o->verb == ORDER_NONE || o->verb >= ORDER_VERBS)
		return "it gave an order that there is none";
	if (o->hub >= CHANNEL_HUBS_MAX)
		return "it gave an order about a link that there is none";
	if (!memchr(o->text, '\0', sizeof(o->text)))
		return "it gave an order with an endless text";
	if (!(carries[o->verb] & MAY_CARRY_PAYLOAD) &&
	    !(carries[o->verb] & CARRIES_PAYLOAD) != (payload == 0))
		return "it gave an order of the wrong length";
	if (carries[o->verb] & CARRIES_FD ? in->fd == -1 && !in->starved
					  : in->fd != -1 || in->starved)
		return "it gave an order with a descriptor too many, or without the one it needs";
	return NULL;
}

/* One order.  False: there is none now. */
static bool
channel_hear(struct channel *c)
{
	static char bytes[HANDOFF_MAX];
	struct handoff_in in = { .bytes = bytes, .fd = -1 };
	struct order order;
	const char *wrong = "it gave an order of the wrong length";
	int n = handoff_recv(c->fd, &in, 1);

	if (n == -ECONNRESET) /* its last orders come after this */
		return true;
	if (n == -EAGAIN)
		return false;
	if (n <= 0) {
		channel_end(c, NULL);
		return false;
	}
	if (in.len >= (ssize_t)sizeof(order)) {
		memcpy(&order, bytes, sizeof(order));
		wrong = order_fault(&order, (size_t)in.len - sizeof(order), &in);
	}
	if (wrong) {
		fds_close(&in.fd);
		channel_end(c, wrong);
		return false;
	}
	c->ops->order(c, &order, bytes + sizeof(order), (size_t)in.len - sizeof(order), in.fd);
	return true;
}

void
channel_pump(struct channel *c)
{
	while (c->watch.known && channel_hear(c))
		;
}

static void
channel_ready(struct watch *w, uint32_t got)
{
	struct channel *c = (struct channel *)((char *)w - offsetof(struct channel, watch));

	if (got & WATCH_WRITE)
		channel_flush(c);
	if (got & (WATCH_READ | WATCH_HUP | WATCH_ERR))
		for (int i = 0; i < READ_BATCH && c->watch.known && channel_hear(c); i++)
			;
}

/* ---- life ---- */

void
channel_open(
    struct channel *c, struct reactor *r, int fd, const struct channel_ops *ops, void *owner)
{
	*c = (struct channel){
		.fd = fd, .reactor = r, .ops = ops, .owner = owner, .resend.fire = channel_resend
	};
	TAILQ_INIT(&c->queue);
	reactor_watch(r, &c->watch, fd, channel_ready);
	reactor_want(r, &c->watch, WATCH_READ);
}

void
channel_close(struct channel *c)
{
	if (!c->reactor || c->fd == -1)
		return;
	channel_mute(c);
	reactor_forget(c->reactor, &c->watch);
	fds_close(&c->fd);
}
