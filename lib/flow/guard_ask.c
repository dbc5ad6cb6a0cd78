/* The way to a backend: over the hub, as flow/term_sink goes, once there is credit. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/exit.h"
#include "flow/guard_parts.h"
#include "flow/hub.h"
#include "net/socket.h"
#include "net/stream.h"

static const struct link_conn_ops down_ops;

static void
guard_joined(struct guard *g, int fd)
{
	if (stream_new(fd, fd, true, &g->tp) < 0) {
		close(fd);
		guard_fail(g, 503, "there is no memory for a connection to the backend", NULL);
		return;
	}
	if (socket_family(fd) == AF_UNIX)
		handed_open(&g->handed, guard_loop(g), &g->down);
	reactor_watch(guard_loop(g), &g->watch, fd, guard_ready);
	g->state = GUARD_JOINED;
	g->unsent = 0;
	guard_moved(g);
	guard_step(g);
}

static void
guard_no_descriptors(struct guard *g)
{
	if (g->of->cfg.starved)
		g->of->cfg.starved(g->of->cfg.arg);
	guard_fail(g, 503, "there is no descriptor for a connection to the backend", NULL);
}

/* The first in the queue, when there may be credit. */
static void
guard_connect(struct guard *g)
{
	struct link *l = hub_pick(g->of->cfg.hub);
	int fd, rc;

	if (!l)
		return;
	TAILQ_REMOVE(&g->of->waiting, g, waiter);
	g->state = GUARD_ASKED;
	g->down = (struct link_conn){ .ops = &down_ops, .owing = true };
	rc = handed_offer(l, &g->down, g->env, &fd);
	if (rc == 0 && fd != -1)
		guard_joined(g, fd);
	else if (rc == -EMFILE || rc == -ENFILE)
		guard_no_descriptors(g);
	else if (rc < 0)
		guard_fail(g, 502, "the backend cannot be asked for a connection", NULL);
}

void
guard_ask(struct guard *g)
{
	struct guard_list *waiting = &g->of->waiting;

	if (g->of->no_sink) {
		guard_fail(g, 502, "nobody leads to the backend any more", NULL);
		return;
	}
	g->state = GUARD_WAITING;
	g->verdict = 0;
	guard_moved(g);
	TAILQ_INSERT_TAIL(waiting, g, waiter);
	guard_time(g);
	if (TAILQ_FIRST(waiting) == g)
		guard_connect(g);
}

static void
down_adopted(struct link_conn *lc, int fd)
{
	guard_joined((struct guard *)((char *)lc - offsetof(struct guard, down)), fd);
}

static void
down_kick(struct link_conn *lc)
{
	struct guard *g = (struct guard *)((char *)lc - offsetof(struct guard, down));

	reactor_later(guard_loop(g), &g->task);
}

/* What came before is in the stream, and is read first. */
static void
down_closed(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	struct guard *g = (struct guard *)((char *)lc - offsetof(struct guard, down));
	bool busy = status == CCF_UNAVAILABLE || strcmp(reason, "no-descriptors") == 0;
	bool had_one = g->state == GUARD_JOINED && (status == CCF_OK || status == CCF_CUT);

	(void)in;
	(void)out;
	g->verdict = had_one ? 0 : status == CCF_DEADLINE ? 504 : busy ? 503 : 502;
	snprintf(g->text, sizeof(g->text), "%s", reason[0] ? reason : "refused");
	if (g->state == GUARD_ASKED)
		guard_fail(
		    g, (unsigned)g->verdict, "there is no connection to the backend", g->text);
	else
		down_kick(lc);
}

static void
down_lost(struct link_conn *lc)
{
	struct guard *g = (struct guard *)((char *)lc - offsetof(struct guard, down));

	if (g->state == GUARD_ASKED)
		guard_fail(g, 502, "who leads to the backend is gone", NULL);
	else
		down_kick(lc);
}

static const struct link_conn_ops down_ops = {
	.adopted = down_adopted,
	.ended = down_kick,
	.flushed = down_kick,
	.closed = down_closed,
	.lost = down_lost,
};

void
guards_update(struct guards *of)
{
	struct guard *g;

	while ((g = TAILQ_FIRST(&of->waiting)) && hub_ready(of->cfg.hub))
		guard_connect(g);
}

void
guards_no_sink(struct guards *of)
{
	struct guard *g;

	of->no_sink = true;
	while ((g = TAILQ_FIRST(&of->waiting)))
		guard_fail(g, 502, "nobody leads to the backend any more", NULL);
}
