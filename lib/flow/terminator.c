#include "flow/terminator.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/transport.h"
#include "flow/master.h"
#include "flow/room.h"
#include "flow/term.h"
#include "net/socket.h"

static const char *const state_name[] = { "SHAKING", "WAITING", "ASKED", "MOVING" };
static const unsigned legal[] = {
	[TERM_SHAKING] = 1U << TERM_WAITING | 1U << TERM_MOVING,
	[TERM_WAITING] = 1U << TERM_ASKED,
	[TERM_ASKED] = 1U << TERM_MOVING,
	[TERM_MOVING] = 0,
};

/* The one door. */
void
term_enter(struct term *t, enum term_state to)
{
	assert(legal[t->state] & 1U << to);
	if (t->of->cfg.trace)
		t->of->cfg.trace(state_name[t->state], state_name[to]);
	t->state = to;
}

/* ---- the end ---- */

static void
term_release(struct grave *g)
{
	struct term *t = (struct term *)((char *)g - offsetof(struct term, grave));

	env_free(&t->env);
	free(t->tell.why);
	free(t);
}

static void
term_free(struct term *t)
{
	struct terminator *of = t->of;

	reactor_timer(of->cfg.reactor, &t->timer, CLOCK_NEVER);
	reactor_timer(of->cfg.reactor, &t->life, CLOCK_NEVER);
	budget_leave(&t->charge);
	handed_close(&t->handed);
	handed_close(&t->source);
	link_forget(&t->up);
	link_forget(&t->down);
	if (t->state == TERM_WAITING)
		TAILQ_REMOVE(&of->waiting, t, waiter);
	if (t->started.by)
		t->started.by->ops->abandon(t->started.by, &t->started);
	TAILQ_REMOVE(&of->all, t, link);
	of->live--;
	if (of->cfg.page)
		of->cfg.page->live = of->live;
	reactor_bury(of->cfg.reactor, &t->grave, term_release);
	for (unsigned i = 0; i < of->n_from; i++)
		hub_regrant(of->from[i]);
	if (of->live == 0)
		of->cfg.idle_now(of->cfg.arg);
}

void
term_over(struct term *t, const char *reason, int status, const char *by, uint64_t in, uint64_t out)
{
	tell_closed(&t->tell, reason, status, by, in, out);
	if (status == 0 && t->command_status > 0)
		status = t->command_status;
	t->of->last_status = status;
	link_closed(&t->up, reason, status, in, out);
	if (t->handed.conn &&
	    !t->down.adopted) /* the consumer has the other end of the pair, and the last word */
		link_leave(&t->down);
	else
		link_closed(&t->down, reason, status, in, out);
	term_free(t);
}

/* It ends before the relay has it. */
void
term_fail(struct term *t, const char *reason, int status, const char *by)
{
	if (t->tp) {
		reactor_forget(t->of->cfg.reactor, &t->watch);
		t->tp->ops->close(t->tp, true);
		t->tp = NULL;
	}
	term_over(t, reason, status, by, 0, 0);
}

static void
term_cut(struct term *t, const char *reason, int status)
{
	if (t->relay)
		relay_cut(t->relay, reason, status);
	else if (t->end.reason)
		term_over(t, t->end.reason, t->end.status, t->end.by, t->end.in, t->end.out);
	else
		term_fail(t, reason, status, "us");
}

/* Was it a shortage of descriptors?  Then that ends it, and the source is asked for nothing more
 * for a while. */
bool
term_starved(struct term *t, int rc)
{
	if (rc != -EMFILE && rc != -ENFILE)
		return false;
	if (t->up.link)
		hub_starve(t->up.link->hub);
	term_cut(t, "no-descriptors", CCF_UNAVAILABLE);
	return true;
}

/* The source takes it back: its client has gone. */
static void
up_closed(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	(void)in;
	(void)out;
	term_cut((struct term *)((char *)lc - offsetof(struct term, up)),
	    reason[0] ? reason : "withdrawn", status > 0 ? status : CCF_CUT);
}

static void
up_kick(struct link_conn *lc)
{
	handed_kick(&((struct term *)((char *)lc - offsetof(struct term, up)))->source);
}

static const struct link_conn_ops up_ops = {
	.closed = up_closed,
	.ended = up_kick,
	.flushed = up_kick,
	.lost = up_kick,
};

/* ---- the handshake ---- */

static void
term_shaken(struct term *t)
{
	struct terminator *of = t->of;
	char what[160];
	const char *version, *cipher;

	if (t->tp->ops->facts)
		t->tp->ops->facts(t->tp, &t->env);
	version = env_get(&t->env, "SSL_PROTOCOL");
	cipher = env_get(&t->env, "SSL_CIPHER");
	if (version && cipher)
		snprintf(what, sizeof(what), "open, %.32s %.96s", version, cipher);
	tell_open(&t->tell, version && cipher ? what : "open");
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

static void
term_unshaken(struct term *t, int rc)
{
	const char *why = term_reason(t);
	int status = rc == -EKEYREJECTED  ? CCF_PEER_CERT
		     : rc == -EKEYREVOKED ? CCF_PEER_PIN
					  : CCF_HANDSHAKE;
	bool alert = rc == -EPROTO || status != CCF_HANDSHAKE; /* else no FIN */

	term_say_unshaken(t, "handshake-failed", "handshake failed", why ? why : strerror(-rc));
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

static void
term_late(struct timer *timer)
{
	struct term *t = (struct term *)((char *)timer - offsetof(struct term, timer));
	struct log_who who = tell_who(&t->tell);

	if (t->state == TERM_SHAKING) {
		term_say_unshaken(t, "handshake-timeout",
		    "handshake not finished in time (--handshake-timeout)", term_reason(t));
		term_fail(t, "handshake-timeout", CCF_DEADLINE, "us");
	} else {
		log_event(LOG_L_INFO, &who, "sink-timeout", NULL,
		    "%s in time (--handshake-timeout)",
		    t->state == TERM_WAITING ? "no consumer had room"
					     : "the consumer did not answer");
		term_fail(t, "no-answer", CCF_DEADLINE, "us");
	}
}

static void
term_spent(struct timer *timer)
{
	struct term *t = (struct term *)((char *)timer - offsetof(struct term, life));

	term_cut(t, "lifetime", CCF_DEADLINE);
}

/* ---- the budget ---- */

static struct term *
term_of_charge(const struct charge *c)
{
	return (struct term *)((char *)(uintptr_t)c - offsetof(struct term, charge));
}

static void
charge_wake(struct charge *c)
{
	struct term *t = term_of_charge(c);

	if (t->relay)
		relay_kick(t->relay);
}

static int64_t
charge_unsent(const struct charge *c)
{
	const struct term *t = term_of_charge(c);
	const struct transport *tp = t->tp ? t->tp : t->outer;

	return tp->ops->unsent(tp);
}

static void
charge_slow(struct charge *c)
{
	term_cut(term_of_charge(c), "slow", CCF_DEADLINE);
}

static const struct charge_ops charge_ops = {
	.wake = charge_wake,
	.unsent = charge_unsent,
	.slow = charge_slow,
};

static void
budget_eased(struct budget *b)
{
	struct terminator *of =
	    (struct terminator *)((char *)b - offsetof(struct terminator, budget));

	for (unsigned i = 0; i < of->n_from; i++)
		hub_regrant(of->from[i]);
}

/* ---- life ---- */

static struct term *
term_new(struct terminator *of)
{
	struct term *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->of = of;
	t->tell.loud = of->cfg.loud;
	t->command_status = -1;
	t->timer.fire = term_late;
	t->life.fire = term_spent;
	budget_join(of->cfg.max_buffered ? &of->budget : NULL, &t->charge, &charge_ops);
	TAILQ_INSERT_TAIL(&of->all, t, link);
	of->live++;
	if (of->cfg.page) {
		of->cfg.page->live = of->live;
		of->cfg.page->accepted++;
	}
	return t;
}

/* The deadline counts from accept, wherever that was. */
static void
term_begin(struct term *t, int rfd)
{
	const struct terminator_config *cfg = &t->of->cfg;
	const char *accepted = env_get(&t->env, "CCF_ACCEPTED");
	int64_t now = reactor_now(cfg->reactor),
		since = accepted ? strtoll(accepted, NULL, 10) : now;

	if (since > now || since <= 0)
		since = now;
	env_unset_prefix(&t->env, "SSL_"); /* what tls/facts says, nobody else may say */
	env_unset_prefix(&t->env, "CCF_CLIENT_");
	env_unset_prefix(&t->env, "CCF_SERVER_");
	env_unset(&t->env, "CCF_ALPN");
	tell_from(&t->tell, &t->env);
	reactor_timer(cfg->reactor, &t->timer, clock_after(since, cfg->handshake));
	reactor_timer(cfg->reactor, &t->life, clock_after(since, cfg->lifetime));
	reactor_watch(cfg->reactor, &t->watch, rfd, term_ready);
	t->tp->ready = TP_READ | TP_WRITE;
	if (t->of->no_sink) /* it was on its way to us */
		term_fail(t, "no-sink", CCF_UNAVAILABLE, "us");
	else
		term_shake(t);
}

void
terminator_conn(struct terminator *of, struct link *l, const struct note *n, int fd)
{
	struct term *t = term_new(of);
	struct link_conn none = { 0 };

	if (t) {
		link_join(l, &t->up, &up_ops, n->id);
		if (socket_family(fd) == AF_UNIX)
			handed_open(&t->source, of->cfg.reactor, &t->up);
		(void)note_env(n, &t->env);
		if (of->cfg.wrap(of->cfg.arg, fd, fd, true, &t->tp) == 0) {
			term_begin(t, fd);
			return;
		}
		close(fd);
		term_fail(t, "no-memory", CCF_SYSTEM, "us");
		return;
	}
	close(fd);
	link_join(l, &none, &up_ops, n->id);
	link_closed(&none, "no-memory", CCF_SYSTEM, 0, 0);
}

int
terminator_single(struct terminator *of, int rfd, int wfd, const struct env *env)
{
	struct term *t = term_new(of);
	int rc;

	if (!t)
		return -ENOMEM;
	t->single = true;
	rc = env_copy(&t->env, env);
	if (rc == 0)
		rc = of->cfg.wrap(of->cfg.arg, rfd, wfd, false, &t->tp);
	if (rc < 0) {
		term_free(t);
		return rc;
	}
	term_begin(t, rfd);
	return 0;
}

unsigned
terminator_room(struct terminator *of)
{
	if (!of->ready || (of->cfg.sink == TERM_TO_HUB && !of->had_credit))
		return 0;
	if (of->cfg.max_buffered && !budget_room(&of->budget))
		return 0;
	return (room_for(of->live, 3, of->cfg.fds_spare + of->n_from) + of->n_from - 1) /
	       of->n_from;
}

void
terminator_update(struct terminator *of)
{
	struct term *t, *last = NULL;

	if (of->cfg.sink == TERM_TO_HUB && hub_ready(of->cfg.to))
		of->had_credit = true;
	while ((t = TAILQ_FIRST(&of->waiting)) && t != last && hub_ready(of->cfg.to)) {
		last = t;
		term_to_hub(t);
	}
	for (unsigned i = 0; i < of->n_from; i++)
		hub_regrant(of->from[i]);
}

void
terminator_no_sink(struct terminator *of)
{
	struct term *t, *next;

	of->no_sink = true;
	TAILQ_FOREACH_SAFE(t, &of->all, link, next)
		if (t->state != TERM_MOVING)
			term_fail(t, "no-sink", CCF_UNAVAILABLE, "us");
}

void
terminator_cut_all(struct terminator *of, const char *reason, int status)
{
	struct term *t, *next;

	TAILQ_FOREACH_SAFE(t, &of->all, link, next)
		term_cut(t, reason, status);
}

void
terminator_open(struct terminator *of, const struct terminator_config *cfg)
{
	*of = (struct terminator){ .cfg = *cfg };
	TAILQ_INIT(&of->all);
	TAILQ_INIT(&of->waiting);
	if (cfg->max_buffered)
		budget_open(&of->budget, cfg->reactor, (size_t)cfg->max_buffered, cfg->flush);
	of->budget.eased = budget_eased;
}
