/* The beginning of a connection: its handshake, and the choice of the sink once it is done. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/transport.h"
#include "flow/term.h"
#include "net/socket.h"

static bool
term_is_tls(const struct term *t)
{
	return t->tp && t->tp->ops->facts;
}

static void
term_sink(struct term *t)
{
	struct terminator *of = t->of;

	if (of->cfg.capped && env_get(&t->env, "CCF_CAPPED")) {
		term_to_capped(t);
		return;
	}
	switch (of->cfg.sink) {
	case TERM_TO_SESSION:
		term_to_session(t);
		break;
	case TERM_TO_COMMAND:
		term_to_command(t);
		break;
	case TERM_TO_STDIO:
		term_to_stdio(t);
		break;
	case TERM_TO_HUB:
		/* Until the sink has answered not a byte is read; the client is watched, and its
		 * deadline runs. */
		reactor_want(of->cfg.reactor, &t->watch, WATCH_HUP);
		term_enter(t, TERM_WAITING);
		TAILQ_INSERT_TAIL(&of->waiting, t, waiter);
		if (TAILQ_FIRST(&of->waiting) == t)
			term_to_hub(t);
		break;
	}
}

static void
term_shaken(struct term *t)
{
	char what[160];
	const char *version, *cipher;

	if (term_is_tls(t)) {
		t->tp->ops->facts(t->tp, &t->env);
		metric_add(METRIC_SHAKES, "ok", 1);
		metric_time(METRIC_SHAKE_TIME, clock_us() - t->tell.since);
	}
	version = env_get(&t->env, "SSL_PROTOCOL");
	cipher = env_get(&t->env, "SSL_CIPHER");
	if (version && cipher)
		snprintf(what, sizeof(what), "open, %.32s %.96s", version, cipher);
	tell_open(&t->tell, version && cipher ? what : "open");
	term_sink(t);
}

/* What became of the handshake, in one line; floods of them are summed up. */
static void
term_say_unshaken(struct term *t, const char *event, const char *what, const char *why)
{
	static struct log_class class = { .name = "failed handshakes" };
	struct log_who who = tell_who(&t->tell);

	if (log_admit(&class, reactor_now(t->of->cfg.reactor)))
		log_event(t->of->cfg.loud ? LOG_L_ERROR : LOG_L_INFO, &who, event, NULL, "%s%s%s",
		    what, why ? ": " : "", why ? why : "");
	else
		t->tell.hushed = true;
	t->tell.loud = false; /* that was loud enough */
}

static const char *
term_reason(const struct term *t)
{
	return t->tp->ops->reason ? t->tp->ops->reason(t->tp) : NULL;
}

void
term_count_unshaken(struct term *t, const char *word)
{
	if (t->state == TERM_SHAKING && term_is_tls(t))
		metric_add(METRIC_SHAKES, word, 1);
}

static void
term_unshaken(struct term *t, int rc)
{
	const char *why = term_reason(t);
	int status = rc == -EKEYREJECTED  ? CCF_PEER_CERT
		     : rc == -EKEYREVOKED ? CCF_PEER_PIN
					  : CCF_HANDSHAKE;
	bool alert = rc == -EPROTO || status != CCF_HANDSHAKE; /* else no FIN */

	term_say_unshaken(t, "handshake-failed", "handshake failed", why ? why : strerror(-rc));
	term_count_unshaken(t, t->tp->broken || t->tp->ended ? "client-gone" : "failed");
	reactor_forget(t->of->cfg.reactor, &t->watch);
	if (alert)
		socket_leave(t->tp->rfd); /* it shall arrive */
	t->tp->ops->close(t->tp, !alert);
	t->tp = NULL;
	term_fail(t, "handshake-failed", status, "peer");
}

/* Until the relay does it. */
static void
term_account(struct term *t)
{
	const struct transport_ops *ops = t->tp->ops;

	if (ops->held)
		budget_hold(
		    &t->charge, ops->held(t->tp, TP_READ) + ops->held(t->tp, TP_WRITE), false);
}

static void
term_shake(struct term *t)
{
	int rc = t->tp->ops->handshake(t->tp);
	unsigned want;

	term_account(t);
	if (rc == 0)
		term_shaken(t);
	else if (rc == -EAGAIN) {
		want = t->tp->ops->want(t->tp, TP_READ | TP_WRITE);
		reactor_want(t->of->cfg.reactor, &t->watch,
		    (want & TP_READ ? WATCH_READ : 0) | (want & TP_WRITE ? WATCH_WRITE : 0));
	} else
		term_unshaken(t, rc);
}

static void
term_ready(struct watch *w, uint32_t got)
{
	struct term *t = (struct term *)((char *)w - offsetof(struct term, watch));

	if (got & (WATCH_READ | WATCH_HUP | WATCH_ERR))
		t->tp->ready |= TP_READ;
	if (got & (WATCH_WRITE | WATCH_HUP | WATCH_ERR))
		t->tp->ready |= TP_WRITE;
	if (t->state == TERM_SHAKING)
		term_shake(t);
	else if (got & (WATCH_HUP | WATCH_ERR))
		term_fail(t, "client-gone", CCF_CUT, "peer");
}

void
term_late(struct timer *timer)
{
	struct term *t = (struct term *)((char *)timer - offsetof(struct term, timer));
	struct log_who who = tell_who(&t->tell);

	if (t->state == TERM_SHAKING) {
		term_say_unshaken(t, "handshake-timeout",
		    "handshake not finished in time (--handshake-timeout)", term_reason(t));
		term_count_unshaken(t, "timeout");
		term_fail(t, "handshake-timeout", CCF_DEADLINE, "us");
	} else {
		log_event(LOG_L_INFO, &who, "sink-timeout", NULL,
		    "%s in time (--handshake-timeout)",
		    t->state == TERM_WAITING ? "no consumer had room"
					     : "the consumer did not answer");
		term_fail(t, "no-answer", CCF_DEADLINE, "us");
	}
}

/* The deadline counts from accept, wherever that was. */
void
term_begin(struct term *t, int rfd)
{
	const struct terminator_config *cfg = &t->of->cfg;
	const char *accepted = env_get(&t->env, "CCF_ACCEPTED");
	int64_t now = reactor_now(cfg->reactor);

	t->accepted = accepted ? strtoll(accepted, NULL, 10) : now;
	if (t->accepted > now || t->accepted <= 0)
		t->accepted = now;
	env_unset_prefix(&t->env, "SSL_"); /* what tls/facts says, nobody else may say */
	env_unset_prefix(&t->env, "CCF_CLIENT_");
	env_unset_prefix(&t->env, "CCF_SERVER_");
	env_unset(&t->env, "CCF_ALPN");
	tell_from(&t->tell, &t->env);
	reactor_timer(cfg->reactor, &t->timer, clock_after(t->accepted, cfg->handshake));
	reactor_timer(cfg->reactor, &t->life, clock_after(t->accepted, cfg->lifetime));
	reactor_watch(cfg->reactor, &t->watch, rfd, term_ready);
	t->tp->ready = TP_READ | TP_WRITE;
	if (t->of->no_sink && cfg->sink == TERM_TO_HUB) /* it was on its way to us */
		term_fail(t, "no-sink", CCF_UNAVAILABLE, "us");
	else
		term_shake(t);
}
