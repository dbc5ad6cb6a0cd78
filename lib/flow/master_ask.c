/* Questions to all workers at once, and what the pages of living and dead ones add up to.  Orders
 * keep their order on a channel, so a worker's answer to ORDER_LIST also says that it has obeyed
 * what was said before it. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fds.h"
#include "flow/control.h"
#include "flow/master_parts.h"
#include "flow/rows.h"

/* ---- asking ---- */

static void
ask_over(struct master_ask *a)
{
	void (*done)(struct master_ask *) = a->done;

	for (uint64_t left = a->waits; left; left &= left - 1)
		a->missing++;
	master_unask(a);
	done(a);
}

static void
ask_late(struct timer *t)
{
	ask_over((struct master_ask *)((char *)t - offsetof(struct master_ask, timer)));
}

static void
ask_told(struct task *t)
{
	ask_over((struct master_ask *)((char *)t - offsetof(struct master_ask, tell)));
}

void
master_unask(struct master_ask *a)
{
	struct master *m = a->of;

	if (!m)
		return;
	TAILQ_REMOVE(&m->asks, a, link);
	reactor_timer(m->cfg.reactor, &a->timer, CLOCK_NEVER);
	reactor_drop(m->cfg.reactor, &a->tell);
	a->of = NULL;
}

/* Who cannot be told has died, or will: it has no connections. */
static void
ask(struct master *m, struct master_ask *a, uint32_t flags, void (*done)(struct master_ask *))
{
	struct reactor *r = m->cfg.reactor;
	struct order o = { .verb = ORDER_LIST, .id = ++m->last_ask, .flags = flags };

	*a = (struct master_ask){ .done = done, .of = m, .id = o.id, .conn = a->conn };
	a->timer.fire = ask_late;
	a->tell.run = ask_told;
	TAILQ_INSERT_TAIL(&m->asks, a, link);
	for (unsigned i = 0; i < m->cfg.workers; i++) {
		struct master_worker *w = &m->worker[i];

		if (!worker_hears(w))
			continue;
		worker_tell(w, &o, -1);
		a->waits |= (uint64_t)1 << i;
	}
	if (a->waits == 0 || reactor_timer(r, &a->timer, reactor_now(r) + CONTROL_WAIT_MS) < 0)
		reactor_later(r, &a->tell);
}

void
master_gauges(struct master *m, struct master_ask *a, void (*done)(struct master_ask *))
{
	ask(m, a, LIST_NO_ROWS, done);
}

void
master_rows(struct master *m, struct master_ask *a, void (*done)(struct master_ask *))
{
	ask(m, a, 0, done);
}

void
master_cut(
    struct master *m, struct master_ask *a, const char *conn, void (*done)(struct master_ask *))
{
	struct order o = { .verb = ORDER_CUT };

	if (strlen(conn) < sizeof(o.text)) { /* else it is nobody's */
		snprintf(o.text, sizeof(o.text), "%s", conn);
		for (unsigned i = 0; i < m->cfg.workers; i++)
			worker_tell(&m->worker[i], &o, -1);
	}
	a->conn = conn;
	ask(m, a, LIST_NO_ROWS, done);
}

/* ---- answers ---- */

static void
ask_answered(struct master_ask *a, const struct master_worker *w)
{
	a->waits &= ~((uint64_t)1 << w->index);
	if (a->waits == 0)
		reactor_later(w->of->cfg.reactor, &a->tell);
}

void
master_answers_for(struct master_worker *w)
{
	struct master_ask *a;

	TAILQ_FOREACH(a, &w->of->asks, link)
		ask_answered(a, w);
}

static bool
ended(const char *text, size_t cap)
{
	return memchr(text, '\0', cap);
}

static bool
row_fair(const struct conn_row *r)
{
	return ended(r->conn, sizeof(r->conn)) && ended(r->iface, sizeof(r->iface)) &&
	       ended(r->peer, sizeof(r->peer)) && ended(r->state, sizeof(r->state)) &&
	       ended(r->tls, sizeof(r->tls));
}

static const char *
ask_row(struct master_ask *a, const char *bytes)
{
	struct conn_row row;

	memcpy(&row, bytes, sizeof(row));
	if (!row_fair(&row))
		return "it listed a connection with an endless text";
	if (a->n == ROWS_MAX)
		a->full = true;
	else {
		a->n++;
		rows_json(&a->rows, &row, 1);
	}
	return NULL;
}

/* An answer that comes too late is read and dropped. */
const char *
heard_listed(struct master_worker *w, const struct order *o, const char *payload, size_t len)
{
	const char *wrong = NULL;
	struct master_ask *a;

	if (o->id == 0 || o->id > w->of->last_ask)
		return "it answered what was not asked";
	if (len % sizeof(struct conn_row) != 0)
		return "it listed half a connection";
	TAILQ_FOREACH(a, &w->of->asks, link)
		if (a->id == o->id)
			break;
	if (!a)
		return NULL;
	if (!(a->waits >> w->index & 1))
		return "it answered a question twice";
	for (; len > 0 && !wrong;
	     payload += sizeof(struct conn_row), len -= sizeof(struct conn_row))
		wrong = ask_row(a, payload);
	if (o->flags & LISTED_ALL)
		ask_answered(a, w);
	return wrong;
}

const char *
heard_was_cut(struct master_worker *w, const struct order *o)
{
	struct master_ask *a;

	TAILQ_FOREACH(a, &w->of->asks, link)
		if (a->conn && strcmp(a->conn, o->text) == 0)
			a->cut = true;
	return NULL;
}

/* ---- what all are told ---- */

void
master_give_access(struct master_worker *w)
{
	if (w->of->access != -1)
		worker_tell(w, &(struct order){ .verb = ORDER_ACCESS }, w->of->access);
}

void
master_access(struct master *m, int fd)
{
	fds_close(&m->access);
	m->access = fd;
	for (unsigned i = 0; i < m->cfg.workers; i++)
		master_give_access(&m->worker[i]);
}

void
master_level(struct master *m, enum log_level level)
{
	log_set_level(level);
	for (unsigned i = 0; i < m->cfg.workers; i++)
		worker_tell(&m->worker[i],
		    &(struct order){ .verb = ORDER_LEVEL, .value = (int32_t)level }, -1);
}

void
master_metrics(const struct master *m, struct metrics *sum)
{
	metrics_sum(sum, metrics_here());
	metrics_sum(sum, &m->gone);
	for (unsigned i = 0; i < m->cfg.workers; i++)
		metrics_sum(sum, &m->pages[i].metrics);
}
