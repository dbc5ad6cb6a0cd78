#include "flow/joiner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "flow/handed.h"
#include "flow/relay.h"
#include "flow/room.h"
#include "flow/rows.h"
#include "flow/tell.h"
#include "net/socket.h"
#include "net/stream.h"

struct joined {
	struct joiner *joiner;
	struct link_conn lc;
	struct handed handed;
	int client; /* the descriptor we were handed; -1: asked to give, or the relay has it */
	bool client_unix, asked;
	struct watch watch; /* of the client, while we dial */
	struct dial dial;
	struct relay *relay;
	struct tell tell;
	struct joined *next, **prev;
	struct grave grave;
};

static void
joined_release(struct grave *g)
{
	free((char *)g - offsetof(struct joined, grave));
}

static void
joined_free(struct joined *j)
{
	struct joiner *joiner = j->joiner;

	dial_stop(&j->dial);
	handed_close(&j->handed);
	link_forget(&j->lc);
	*j->prev = j->next;
	if (j->next)
		j->next->prev = j->prev;
	joiner->live--;
	reactor_bury(joiner->cfg.reactor, &j->grave, joined_release);
	for (unsigned i = 0; i < joiner->n_hubs; i++)
		hub_regrant(joiner->hub[i]);
	if (joiner->live == 0)
		joiner->cfg.idle_now(joiner->cfg.arg);
}

/* It ends before anything was joined: the client sees a reset. */
static void
joined_fail(struct joined *j, const char *reason, int status, const char *by)
{
	if (j->client != -1) {
		reactor_forget(j->joiner->cfg.reactor, &j->watch);
		socket_reset(j->client);
		close(j->client);
		j->client = -1;
	}
	tell_closed(&j->tell, reason, status, by, 0, 0);
	link_closed(&j->lc, reason, status, 0, 0);
	joined_free(j);
}

static void
joined_done(void *arg, const struct relay_end *end)
{
	struct joined *j = arg;

	j->relay = NULL;
	tell_closed(&j->tell, end->reason, end->status, end->by, end->in, end->out);
	link_closed(&j->lc, end->reason, end->status, end->in, end->out);
	joined_free(j);
}

/* ---- what the producer says ---- */

static void
joined_ended(struct link_conn *lc)
{
	handed_kick(&((struct joined *)((char *)lc - offsetof(struct joined, lc)))->handed);
}

static void
joined_closed(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	struct joined *j = (struct joined *)((char *)lc - offsetof(struct joined, lc));

	(void)in;
	(void)out;
	if (j->relay)
		relay_cut(
		    j->relay, reason[0] ? reason : "withdrawn", status > 0 ? status : CCF_CUT);
	else /* its client has gone: there is nothing to dial for */
		joined_fail(
		    j, reason[0] ? reason : "withdrawn", status > 0 ? status : CCF_CUT, "peer");
}

static void
joined_lost(struct link_conn *lc)
{
	struct joined *j = (struct joined *)((char *)lc - offsetof(struct joined, lc));

	if (j->relay) /* we own it and go on; an AF_UNIX stream will be found cut */
		handed_kick(&j->handed);
	else if (j->asked)
		joined_fail(j, "link-lost", CCF_UNAVAILABLE, "peer");
}

static const struct link_conn_ops joined_ops = {
	.ended = joined_ended,
	.closed = joined_closed,
	.lost = joined_lost,
	.flushed = joined_ended,
};

/* An adopted connection is the producer's: we only keep its number until it says closed. */
struct given {
	struct joiner *joiner;
	struct link_conn lc;
	struct grave grave;
};

static void
given_release(struct grave *g)
{
	free((char *)g - offsetof(struct given, grave));
}

static void
given_over(struct link_conn *lc)
{
	struct given *g = (struct given *)((char *)lc - offsetof(struct given, lc));

	reactor_bury(g->joiner->cfg.reactor, &g->grave, given_release);
}

static void
given_closed(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	(void)reason;
	(void)status;
	(void)in;
	(void)out;
	given_over(lc);
}

static const struct link_conn_ops given_ops = {
	.closed = given_closed,
	.lost = given_over,
};

/* ---- the dial ---- */

static void
joined_give(struct joined *j)
{
	struct given *g = calloc(1, sizeof(*g));
	bool is_unix = j->dial.ep.peer.sa.sa_family == AF_UNIX;
	struct link *l = j->lc.link;
	int fd, rc = -ENOMEM;

	if (g) {
		g->joiner = j->joiner;
		fd = endpoint_take_fd(&j->dial.ep);
		link_forget(&j->lc);
		link_join(l, &g->lc, &given_ops, j->lc.id);
		rc = link_adopt(&g->lc, fd);
		if (rc < 0) {
			close(fd);
			link_closed(&g->lc, "no-memory", CCF_SYSTEM, 0, 0);
			free(g);
			joined_fail(j, "no-memory", CCF_SYSTEM, "us");
			return;
		}
		if (is_unix) /* its end will be a real one: nobody else could say so */
			(void)link_eof(&g->lc);
		tell_open(&j->tell, "connected and given on");
		joined_free(j);
		return;
	}
	joined_fail(j, "no-memory", CCF_SYSTEM, "us");
}

static int
joined_wrap(struct joined *j, struct relay_config *rc)
{
	const struct joiner_config *cfg = &j->joiner->cfg;
	int err = 0;

	if (cfg->wrap)
		err = cfg->wrap(cfg->arg, j->tell.conn, true, &rc->a);
	if (cfg->wrap && err == 0)
		err = cfg->wrap(cfg->arg, j->tell.conn, false, &rc->b);
	return err;
}

static void
joined_join(struct joined *j)
{
	const struct joiner_config *cfg = &j->joiner->cfg;
	struct relay_config rc = { .idle = cfg->idle,
		.half_close = cfg->half_close,
		.flush = cfg->flush,
		.done = joined_done,
		.arg = j };
	int fd = endpoint_take_fd(&j->dial.ep);

	reactor_forget(cfg->reactor, &j->watch);
	if (j->client_unix)
		rc.a_hooks = handed_hooks(&j->handed);
	if (stream_new(j->client, j->client, true, &rc.a) < 0)
		goto out;
	j->client = -1;
	if (stream_new(fd, fd, true, &rc.b) < 0)
		goto out;
	fd = -1;
	if (joined_wrap(j, &rc) < 0 || relay_start(&j->relay, cfg->reactor, &rc) < 0)
		goto out;
	if (cfg->wrap) {
		cfg->attach(rc.a, j->relay);
		cfg->attach(rc.b, j->relay);
	}
	j->handed.relay = j->relay;
	tell_open(&j->tell, "connected");
	return;
out:
	if (fd != -1)
		close(fd);
	if (rc.b)
		rc.b->ops->close(rc.b, true);
	if (rc.a)
		rc.a->ops->close(rc.a, true);
	joined_fail(j, "no-memory", CCF_SYSTEM, "us");
}

static void
joined_dialled(struct dial *d)
{
	static struct log_class class = { .name = "failed dials" };
	struct joined *j = (struct joined *)((char *)d - offsetof(struct joined, dial));
	struct log_who who = tell_who(&j->tell);
	char why[256];
	int status = endpoint_exit(&d->ep), error = d->ep.gai ? 0 : d->ep.error;

	if (d->ep.state == EP_CONNECTED) {
		if (j->asked)
			joined_give(j);
		else
			joined_join(j);
		return;
	}
	if (error == EMFILE || error == ENFILE) {
		if (j->lc.link)
			hub_starve(j->lc.link->hub);
		joined_fail(j, "no-descriptors", CCF_UNAVAILABLE, "us");
		return;
	}
	if (log_admit(&class, reactor_now(j->joiner->cfg.reactor)))
		log_event(LOG_L_WARN, &who, "connect-failed", NULL, "%s",
		    endpoint_why(&d->ep, why, sizeof(why)));
	joined_fail(j,
	    status == CCF_DEADLINE  ? "connect-timeout"
	    : status == CCF_RESOLVE ? "no-such-name"
				    : "refused",
	    status, "inner");
}

static void
joined_client_gone(struct watch *w, uint32_t got)
{
	struct joined *j = (struct joined *)((char *)w - offsetof(struct joined, watch));

	if (got & (WATCH_HUP | WATCH_ERR))
		joined_fail(j, "client-gone", CCF_CUT, "peer");
}

void
joiner_conn(struct joiner *joiner, struct link *l, const struct note *n, int fd)
{
	struct joined *j = calloc(1, sizeof(*j));
	struct env env = { 0 };

	if (!j) {
		struct link_conn none = { 0 };

		if (fd != -1)
			close(fd);
		link_join(l, &none, &given_ops, n->id);
		link_closed(&none, "no-memory", CCF_SYSTEM, 0, 0);
		return;
	}
	j->joiner = joiner;
	j->client = fd;
	j->asked = fd == -1;
	j->client_unix = fd != -1 && socket_family(fd) == AF_UNIX;
	link_join(l, &j->lc, &joined_ops, n->id);
	handed_open(&j->handed, joiner->cfg.reactor, &j->lc);
	(void)note_env(n, &env);
	tell_from(&j->tell, &env);
	env_free(&env);
	j->next = joiner->list;
	j->prev = &joiner->list;
	if (j->next)
		j->next->prev = &j->next;
	joiner->list = j;
	if (++joiner->live > joiner->peak)
		joiner->peak = joiner->live;
	metric_add(METRIC_TAKEN, NULL, 1);
	if (fd != -1) {
		reactor_watch(joiner->cfg.reactor, &j->watch, fd, joined_client_gone);
		reactor_want(joiner->cfg.reactor, &j->watch, WATCH_HUP);
	}
	dial_start(&j->dial, joiner->cfg.dialler, &joiner->cfg.plan, joined_dialled);
	j->dial.ep.trace = joiner->cfg.trace;
	j->dial.ep.owner = j;
}

unsigned
joiner_room(struct joiner *joiner)
{
	unsigned n = joiner->n_hubs;

	return (room_for(joiner->live, 2, joiner->cfg.fds_spare + n) + n - 1) / n;
}

void
joiner_open(struct joiner *joiner, const struct joiner_config *cfg)
{
	*joiner = (struct joiner){ .cfg = *cfg };
}

static void
joined_cut(struct joined *j, const char *reason, int status)
{
	if (j->relay)
		relay_cut(j->relay, reason, status);
	else
		joined_fail(j, reason, status, "us");
}

void
joiner_cut_all(struct joiner *joiner, const char *reason, int status)
{
	struct joined *j, *next;

	for (j = joiner->list; j; j = next) {
		next = j->next;
		joined_cut(j, reason, status);
	}
}

/* ---- for the control socket ---- */

bool
joiner_cut(struct joiner *joiner, const char *conn)
{
	for (struct joined *j = joiner->list; j; j = j->next)
		if (strcmp(j->tell.conn, conn) == 0) {
			joined_cut(j, "control", CCF_CUT);
			return true;
		}
	return false;
}

void
joiner_rows(const struct joiner *joiner, struct text *t)
{
	struct conn_row row;

	for (const struct joined *j = joiner->list; j; j = j->next) {
		rows_from(&row, &j->tell, j->relay ? "joined" : "dialling");
		if (j->relay)
			rows_look(&row, j->relay, reactor_now(joiner->cfg.reactor));
		rows_json(t, &row, 1);
	}
}

void
joiner_metrics(const struct joiner *joiner, struct text *t)
{
	static const enum metric which[] = { METRIC_TAKEN, METRIC_LIVE, METRIC_PEAK, METRIC_CLOSED,
		METRIC_BYTES, METRIC_CONN_TIME, METRIC_DIALS, METRIC_DIAL_TIME, METRIC_LINES };

	metric_set(METRIC_LIVE, joiner->live);
	metric_set(METRIC_PEAK, joiner->peak);
	metrics_print(t, metrics_here(), which, sizeof(which) / sizeof(which[0]));
}
