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
#include "flow/conn.h"
#include "flow/master.h"
#include "flow/room.h"
#include "flow/rows.h"
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
	http_leave(&t->http);
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
	else {
		term_count_unshaken(t, "other");
		term_fail(t, reason, status, "us");
	}
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

/* ---- its lifetime ---- */

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
	metric_add(METRIC_SLOW, NULL, 1);
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
	metric_add(METRIC_TAKEN, NULL, 1);
	if (++of->live > of->peak)
		of->peak = of->live;
	if (of->cfg.page) {
		of->cfg.page->live = of->live;
		of->cfg.page->accepted++;
	}
	return t;
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

/* The hub that the connections, or their requests, go to; or NULL. */
static struct hub *
terminator_hub(const struct terminator *of)
{
	const struct http *http = of->cfg.http;

	if (of->cfg.sink == TERM_TO_HUB)
		return of->cfg.to;
	return http && http->cfg.to == HTTP_GUARD ? http->cfg.guard.hub : NULL;
}

unsigned
terminator_room(struct terminator *of)
{
	if (!of->ready || (terminator_hub(of) && !of->had_credit))
		return 0;
	if (of->cfg.max_buffered && !budget_room(&of->budget))
		return 0;
	return (room_for(of->live, 3, of->cfg.fds_spare + of->n_from) + of->n_from - 1) /
	       of->n_from;
}

void
terminator_update(struct terminator *of)
{
	struct hub *hub = terminator_hub(of);
	struct term *t, *last = NULL;

	if (hub && hub_ready(hub))
		of->had_credit = true;
	if (of->cfg.http)
		http_update(of->cfg.http);
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
	if (of->cfg.http) {
		http_no_sink(of->cfg.http);
		return;
	}
	TAILQ_FOREACH_SAFE(t, &of->all, link, next)
		if (t->state != TERM_MOVING)
			term_fail(t, "no-sink", CCF_UNAVAILABLE, "us");
}

void
terminator_drain(struct terminator *of)
{
	struct term *t, *next;

	of->draining = true;
	TAILQ_FOREACH_SAFE(t, &of->all, link, next)
		if (t->session)
			conn_drain(t->session);
}

/* ---- what is so now ---- */

static void
term_row(const struct term *t, struct conn_row *row)
{
	static const char *const word[] = { "handshake", "waiting", "asked", "open" };
	const char *version = env_get(&t->env, "SSL_PROTOCOL"),
		   *cipher = env_get(&t->env, "SSL_CIPHER");

	rows_from(row, &t->tell, word[t->state]);
	if (version && cipher)
		snprintf(row->tls, sizeof(row->tls), "%s %s", version, cipher);
	if (t->relay)
		rows_look(row, t->relay, reactor_now(t->of->cfg.reactor));
	else {
		row->idle_ms = row->age_ms;
		row->held = t->charge.held;
	}
}

unsigned
terminator_rows(const struct terminator *of, unsigned from, struct conn_row *rows, unsigned cap)
{
	const struct term *t;
	unsigned at = 0, n = 0;

	TAILQ_FOREACH(t, &of->all, link)
		if (at++ >= from && n < cap)
			term_row(t, &rows[n++]);
	return n;
}

bool
terminator_cut(struct terminator *of, const char *conn, const char *reason, int status)
{
	struct term *t;

	TAILQ_FOREACH(t, &of->all, link)
		if (strcmp(t->tell.conn, conn) == 0) {
			term_cut(t, reason, status);
			return true;
		}
	return false;
}

void
terminator_gauges(const struct terminator *of)
{
	metric_set(METRIC_LIVE, of->live);
	metric_set(METRIC_PEAK, of->peak);
	metric_set(METRIC_BUFFERED, of->budget.held);
	metric_set(METRIC_BUFFER_LIMIT, (uint64_t)of->cfg.max_buffered);
	if (of->cfg.http)
		http_gauges(of->cfg.http);
}

/* ---- the end of all ---- */

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
