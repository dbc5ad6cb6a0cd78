/* flow/receiver - the path of a datagram, from the socket to the sink and back.  What is not for
 * each datagram is done for a batch: the system calls, the figures, the clock. */
#include "flow/receiver.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "net/socket.h"

#define TURN	  4	/* batches before others get their turn */
#define RETRY_MS  200	/* reading failed */
#define BY_CHANCE 32768 /* the first port that clients are given (ip_local_port_range) */
#define BIT(n)	  (1u << (n))

/* ---- what is left out ---- */

static struct drop {
	const char *reason, *why;
	struct log_class class;
} drops[] = {
	{ "too-large", "more than 65507 bytes", { .name = "datagrams that were too large" } },
	{ "denied", "not allowed from there (--allow, --deny)", { .name = "datagrams denied" } },
	{ "loop", "an answer would reach no one, or go round for ever",
	    { .name = "datagrams that could go round" } },
	{ "rate", "above --rate", { .name = "datagrams above --rate" } },
	{ "rate-host", "above --rate-host", { .name = "datagrams above --rate-host" } },
	{ "rate-all", "above --rate-all", { .name = "datagrams above --rate-all" } },
	{ "send-full", "the socket is full",
	    { .name = "datagrams that the socket had no room for" } },
	{ "send-failed", NULL, { .name = "datagrams that could not be sent" } },
	{ "other", "no memory",
	    { .name = "datagrams without memory for them" } }, /* and all else */
};

static void
traced(struct receiver *r, const struct datagram *d, const char *what)
{
	const struct receivers_config *cfg = &r->all->cfg;

	if (cfg->trace)
		cfg->trace(cfg->arg, r, d, what);
}

void
receiver_drop(struct receiver *r, const struct datagram *d, const char *reason)
{
	metric_add(METRIC_DROPS, reason, 1);
	traced(r, d, reason);
}

static void
drop(struct receiver *r, const struct datagram *d, const char *reason, int error)
{
	const struct log_fact facts[] = { { .key = "reason", .text = reason }, { 0 } };
	char peer[ADDR_TEXT_MAX];
	struct log_who who = { .iface = r->name };
	struct drop *as = drops, *last = drops + sizeof(drops) / sizeof(drops[0]) - 1;

	receiver_drop(r, d, reason);
	while (as < last && strcmp(as->reason, reason) != 0)
		as++;
	if (!log_admit(&as->class, reactor_now(r->all->cfg.reactor)))
		return;
	who.peer = addr_text(&d->peer, peer, sizeof(peer));
	log_event(LOG_L_INFO, &who, "dropped", facts, "%s: dropped: %s", r->name,
	    error ? strerror(error) : as->why);
}

static struct in6_addr
ip_of(const struct sockaddr_any *a)
{
	struct in6_addr ip = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

	if (a->sa.sa_family == AF_INET6)
		return a->in6.sin6_addr;
	memcpy(&ip.s6_addr[12], &a->in.sin_addr, 4);
	return ip;
}

/* Neither a broadcast nor a multicast address, nor none at all. */
static bool
is_one(const struct sockaddr_any *a)
{
	struct in6_addr ip = ip_of(a);
	uint32_t v4;

	if (!IN6_IS_ADDR_V4MAPPED(&ip))
		return !IN6_IS_ADDR_MULTICAST(&ip) && !IN6_IS_ADDR_UNSPECIFIED(&ip);
	memcpy(&v4, &ip.s6_addr[12], sizeof(v4));
	v4 = ntohl(v4);
	return !IN_MULTICAST(v4) && v4 != INADDR_BROADCAST && v4 != INADDR_ANY;
}

static bool
sends_from(const struct receiver *r, const struct sockaddr_any *at)
{
	struct in6_addr is = ip_of(&r->local), from = ip_of(at);

	return addr_any_host(&r->local) ? socket_is_here(at) : IN6_ARE_ADDR_EQUAL(&is, &from);
}

/* Whether a socket of ours sent it, or is what it claims to be from.  One that answers whatever
 * comes may have a twin elsewhere, at the same port, that does so too; but a port that is given out
 * by chance may be a client's. */
static bool
is_ours(const struct receiver *r, const struct datagram *d, uint16_t port)
{
	const struct receiver *o;

	TAILQ_FOREACH(o, &r->all->list, link)
		if (addr_port(&o->local) == port &&
		    ((r->all->cfg.answers_all && port < BY_CHANCE) || sends_from(o, &d->peer)))
			return true;
	return false;
}

/* From echo, daytime, qotd, chargen or time, which answer whatever comes (RFC 862 to 868). */
static bool
answers_back(uint16_t port)
{
	static const uint64_t such = 1ull << 7 | 1ull << 13 | 1ull << 17 | 1ull << 19 | 1ull << 37;

	return port < 64 && (such >> port & 1);
}

/* NULL: it may come in.  The rates are asked last: they count. */
static const char *
refused(struct receiver *r, const struct datagram *d, int64_t now_us)
{
	const struct receivers_config *cfg = &r->all->cfg;
	uint16_t port = addr_port(&d->peer);

	if (d->too_large)
		return "too-large";
	if ((cfg->n_allow || cfg->n_deny) &&
	    !cidr_admits(cfg->allow, cfg->n_allow, cfg->deny, cfg->n_deny, &d->peer))
		return "denied";
	if (port == 0 || d->to_many || !is_one(&d->peer) || answers_back(port) ||
	    is_ours(r, d, port))
		return "loop";
	return now_us ? rates_take(&r->all->rates, d, now_us) : NULL;
}

/* ---- state ---- */

static uint32_t
receiver_wants(const struct receiver *r)
{
	if (r->kept_n > 0)
		return WATCH_WRITE;
	return r->state == RECEIVER_READING ? WATCH_READ | WATCH_EDGE : 0;
}

/* The one door; also after what is kept has changed. */
static void
receiver_enter(struct receiver *r, enum receiver_state to)
{
	static const unsigned legal[] = {
		[RECEIVER_READING] =
		    BIT(RECEIVER_SENDING) | BIT(RECEIVER_RESTING) | BIT(RECEIVER_STOPPED),
		[RECEIVER_SENDING] = BIT(RECEIVER_READING) | BIT(RECEIVER_STOPPED),
		[RECEIVER_RESTING] =
		    BIT(RECEIVER_READING) | BIT(RECEIVER_SENDING) | BIT(RECEIVER_STOPPED),
		[RECEIVER_STOPPED] = BIT(RECEIVER_READING),
	};

	assert(to == r->state || legal[r->state] & BIT(to));
	r->state = to;
	reactor_want(r->all->cfg.reactor, &r->watch, receiver_wants(r));
}

/* ---- sending ---- */

/* How many of them are done with, one way or the other: the socket is full if not all.  Adds to
 * *went. */
static unsigned
send_some(struct receiver *r, struct datagram *const *d, unsigned n, unsigned *went)
{
	uint64_t bytes = 0;
	unsigned at = 0, out = 0;
	int rc;

	while (at < n) {
		rc = datagrams_send(
		    r->fd, d + at, n - at < DATAGRAM_BATCH ? n - at : DATAGRAM_BATCH);
		if (rc == -EAGAIN)
			break;
		if (rc < 0) {
			drop(r, d[at++], "send-failed", -rc);
			continue;
		}
		for (int i = 0; i < rc; i++, at++) {
			bytes += d[at]->len;
			traced(r, d[at], "out");
		}
		out += (unsigned)rc;
	}
	if (out > 0) {
		metric_add(METRIC_DATAGRAMS, "out", out);
		metric_add(METRIC_DATAGRAM_BYTES, "out", bytes);
	}
	*went += out;
	return at;
}

unsigned
receiver_send(struct receiver *r, struct datagram *const *d, unsigned n, bool keep)
{
	struct reactor *reactor = r->all->cfg.reactor;
	unsigned went = 0, at = 0;

	if (r->kept_n == 0) /* else they go first */
		at = send_some(r, d, n, &went);
	keep = keep && at < n && r->kept_n == 0 &&
	       reactor_timer(reactor, &r->rest, reactor_now(reactor) + r->all->cfg.patience) == 0;
	for (; at < n; at++)
		if (keep && r->kept_n < DATAGRAM_BATCH)
			r->kept[r->kept_n++] = d[at];
		else
			drop(r, d[at], "send-full", 0);
	if (keep)
		receiver_enter(
		    r, r->state == RECEIVER_STOPPED ? RECEIVER_STOPPED : RECEIVER_SENDING);
	return went;
}

static void
kept_over(struct receiver *r)
{
	r->kept_at = r->kept_n = 0;
	(void)reactor_timer(r->all->cfg.reactor, &r->rest, CLOCK_NEVER);
	receiver_enter(r, r->state == RECEIVER_SENDING ? RECEIVER_READING : r->state);
}

static void
send_kept(struct receiver *r)
{
	unsigned went = 0;

	r->kept_at += send_some(r, r->kept + r->kept_at, r->kept_n - r->kept_at, &went);
	if (r->kept_at < r->kept_n)
		return;
	kept_over(r);
}

static void
drop_kept(struct receiver *r)
{
	while (r->kept_at < r->kept_n)
		drop(r, r->kept[r->kept_at++], "send-full", 0);
	kept_over(r);
}

/* ---- receiving ---- */

static void
receiver_takes(struct receiver *r, unsigned n)
{
	const struct receivers_config *cfg = &r->all->cfg;
	bool rated = cfg->rate.peer || cfg->rate.host || cfg->rate.all;
	int64_t now_us = rated ? clock_us() : 0;
	struct datagram *in[DATAGRAM_BATCH];
	uint64_t bytes = 0;
	unsigned n_in = 0;

	for (unsigned i = 0; i < n; i++) {
		struct datagram *d = datagrams_at(r->batch, i);
		const char *reason = refused(r, d, now_us);

		bytes += d->len;
		if (reason) {
			drop(r, d, reason, 0);
			continue;
		}
		traced(r, d, "in");
		in[n_in++] = d;
	}
	metric_add(METRIC_DATAGRAMS, "in", n);
	metric_add(METRIC_DATAGRAM_BYTES, "in", bytes);
	if (n_in > 0)
		cfg->take(cfg->arg, r, in, n_in);
}

/* Whatever it is, it may last, and the socket stays readable. */
static void
receiver_failed(struct receiver *r, int error)
{
	static struct log_class class = { .name = "failed receives" };
	struct reactor *reactor = r->all->cfg.reactor;

	if (log_admit(&class, reactor_now(reactor)))
		log_say(LOG_L_WARN, "%s: cannot receive: %s", r->name, strerror(error));
	if (reactor_timer(reactor, &r->rest, reactor_now(reactor) + RETRY_MS) == 0)
		receiver_enter(r, RECEIVER_RESTING);
}

/* What waits for peers who are not there (their addresses were invented) fills a socket for
 * seconds: those who are there shall not wait for it. */
static void
receiver_rested(struct timer *t)
{
	struct receiver *r = (struct receiver *)((char *)t - offsetof(struct receiver, rest));

	if (r->kept_n > 0)
		drop_kept(r);
	else if (r->state == RECEIVER_RESTING)
		receiver_enter(r, RECEIVER_READING);
}

/* A batch that is not full was the last there is: what comes behind it is told again. */
static void
receiver_reads(struct receiver *r, uint32_t got)
{
	int n = DATAGRAM_BATCH;

	for (int i = 0; i < TURN && n == DATAGRAM_BATCH && r->state == RECEIVER_READING; i++) {
		n = datagrams_recv(r->batch, r->fd);
		if (n > 0)
			receiver_takes(r, (unsigned)n);
		else if (n != -EAGAIN)
			receiver_failed(r, -n);
		else if (i == 0 && got & WATCH_HUP) /* shut down by who shares it */
			receiver_failed(r, ESHUTDOWN);
		else if (i == 0 && got & WATCH_ERR)
			receiver_failed(r, EIO);
	}
	if (n == DATAGRAM_BATCH && r->state == RECEIVER_READING)
		reactor_again(r->all->cfg.reactor, &r->more);
}

static void
receiver_goes_on(struct task *t)
{
	receiver_reads((struct receiver *)((char *)t - offsetof(struct receiver, more)), 0);
}

static void
receiver_ready(struct watch *w, uint32_t got)
{
	struct receiver *r = (struct receiver *)((char *)w - offsetof(struct receiver, watch));

	if (r->kept_n > 0)
		send_kept(r);
	else
		receiver_reads(r, got);
}

/* ---- life ---- */

void
receivers_init(struct receivers *all, const struct receivers_config *cfg)
{
	*all = (struct receivers){ .cfg = *cfg };
	if (cfg->patience == 0)
		all->cfg.patience = RECEIVER_PATIENCE_MS;
	TAILQ_INIT(&all->list);
	rates_open(&all->rates, &cfg->rate);
}

struct receiver *
receiver_new(struct receivers *all, int fd, const char *name)
{
	struct receiver *r = calloc(1, sizeof(*r));

	if (!r || datagrams_new(&r->batch, true) < 0) {
		free(r);
		close(fd);
		return NULL;
	}
	r->all = all;
	r->fd = fd;
	r->state = RECEIVER_STOPPED;
	r->caps.hard = all->cfg.hard;
	r->lost = datagram_lost(fd);
	r->rest.fire = receiver_rested;
	r->more.run = receiver_goes_on;
	strlcpy(r->name, name, sizeof(r->name));
	(void)socket_local(fd, &r->local);
	peers_init(&r->peers, 0);
	reactor_watch(all->cfg.reactor, &r->watch, fd, receiver_ready);
	TAILQ_INSERT_TAIL(&all->list, r, link);
	return r;
}

void
receivers_start(struct receivers *all)
{
	struct receiver *r;

	if (all->stopped)
		return;
	TAILQ_FOREACH(r, &all->list, link) {
		receiver_enter(r, RECEIVER_READING);
		log_event(LOG_L_INFO, NULL, "receiving", NULL, "%s: receiving", r->name);
	}
}

void
receivers_stop(struct receivers *all)
{
	struct receiver *r;

	all->stopped = true;
	TAILQ_FOREACH(r, &all->list, link)
		receiver_enter(r, RECEIVER_STOPPED);
}

void
receivers_let_go(struct receivers *all)
{
	struct receiver *r;

	TAILQ_FOREACH(r, &all->list, link)
		if (r->kept_n > 0) {
			send_kept(r);
			drop_kept(r);
		}
}

void
receivers_close(struct receivers *all)
{
	struct receiver *r;

	while ((r = TAILQ_FIRST(&all->list))) {
		TAILQ_REMOVE(&all->list, r, link);
		reactor_forget(all->cfg.reactor, &r->watch);
		reactor_timer(all->cfg.reactor, &r->rest, CLOCK_NEVER);
		reactor_drop(all->cfg.reactor, &r->more);
		close(r->fd);
		datagrams_free(r->batch);
		free(r);
	}
	rates_close(&all->rates);
}

struct receiver *
receivers_find(struct receivers *all, const char *name)
{
	struct receiver *r;

	TAILQ_FOREACH(r, &all->list, link)
		if (strcmp(r->name, name) == 0)
			return r;
	return NULL;
}
