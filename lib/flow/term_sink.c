/* What becomes of the plaintext: a session in this process, a COMMAND, or a link. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/transport.h"
#include "flow/term.h"
#include "net/stream.h"
#include "session/session.h"

#define LINGER_QUIET_MS 2000
#define LINGER_MS	30000
#define LINGER_BYTES	(64 * 1024 * 1024)
#define REAP_MS		1000 /* a COMMAND closed its end: how long its exit status is waited for */

static const struct link_conn_ops down_ops;

static void
term_settle(struct term *t)
{
	term_over(t, t->end.reason, t->end.status, t->end.by, t->end.in, t->end.out);
}

/* Its status says more than that its stream was cut. */
static void
term_heed_status(struct term *t)
{
	if (t->command_status > 0 && t->end.status == CCF_CUT) {
		t->end.status = t->command_status;
		t->end.reason = t->command_killed ? "killed" : t->end.reason;
	}
}

static bool
term_cut_by_command(const struct term *t)
{
	return t->end.status == CCF_CUT && strcmp(t->end.by, "inner") == 0;
}

static void
term_reap_late(struct timer *timer)
{
	struct term *t = (struct term *)((char *)timer - offsetof(struct term, timer));

	t->gave_up_waiting = true;
	if (t->relay)
		relay_kick(t->relay);
	else
		term_settle(t);
}

static void
term_await_status(struct term *t)
{
	struct reactor *r = t->of->cfg.reactor;

	t->timer.fire = term_reap_late;
	reactor_timer(r, &t->timer, reactor_now(r) + REAP_MS);
}

/* What says more than the one word, to somebody who sits there. */
static const char *
term_why(const struct term *t, const struct relay_end *end)
{
	if (end->why || !t->tell.loud || strcmp(end->reason, "no-close-notify") != 0)
		return end->why;
	return "the server ended without close_notify, so what came may not be all";
}

/* A session that refuses says why; what the peer does about it comes after that. */
static void
term_heed_session(struct term *t)
{
	bool bare = strcmp(t->end.reason, "no-close-notify") == 0;
	bool broke = strcmp(t->end.by, "inner") == 0; /* the session itself */

	if (!t->said.reason)
		return;
	t->end.reason = t->said.reason;
	if (t->end.status == 0 || bare || broke) {
		t->end.status = t->said.status;
		t->end.by = "us";
	}
	if (t->of->cfg.http && strcmp(t->said.reason, "capped") == 0)
		metric_add(METRIC_HTTP_CAPPED, NULL, 1);
}

static void
term_relayed(void *arg, const struct relay_end *end)
{
	struct term *t = arg;
	const char *why = term_why(t, end);

	t->relay = NULL;
	t->session = NULL;
	t->handed.relay = t->source.relay = NULL;
	reactor_timer(t->of->cfg.reactor, &t->timer, CLOCK_NEVER);
	reactor_timer(t->of->cfg.reactor, &t->life, CLOCK_NEVER);
	budget_leave(&t->charge);
	t->end = *end;
	t->end.why = NULL; /* it is borrowed */
	t->tell.why = why ? strdup(why) : NULL;
	http_leave(&t->http);
	term_heed_session(t);
	term_heed_status(t);		/* its end came first */
	if (t->started.by && t->single) /* its status is ours: wait for it */
		return;
	if (t->started.by && term_cut_by_command(t) && !t->gave_up_waiting)
		term_await_status(t); /* killed, or not to be run: that is on its way */
	else
		term_settle(t);
}

/* ---- the plaintext side ---- */

/* A close_notify is the client's own word; any other end of an AF_UNIX stream needs the source's.
 */
static int
source_is_end(void *arg)
{
	struct term *t = arg;
	struct relay_hooks hooks = handed_hooks(&t->source);

	return t->outer->ops->facts && !t->outer->bare_end ? 1 : hooks.is_end(hooks.arg);
}

static int
source_announce(void *arg)
{
	return link_eof(&((struct term *)arg)->up);
}

/* Of rc, what b is and is like has been said. */
static int
term_relay(struct term *t, struct relay_config *rc)
{
	const struct terminator_config *cfg = &t->of->cfg;
	int err;

	rc->a = t->tp;
	rc->idle = cfg->idle;
	rc->half_close = cfg->half_close;
	rc->flush = cfg->flush;
	rc->charge = &t->charge;
	rc->bare_is_cut = cfg->require_close_notify;
	rc->done = term_relayed;
	rc->arg = t;
	if (t->source.conn)
		rc->a_hooks = (struct relay_hooks){
			.is_end = source_is_end, .announce = source_announce, .arg = t
		};
	reactor_forget(cfg->reactor, &t->watch);
	reactor_timer(cfg->reactor, &t->timer, CLOCK_NEVER);
	err = relay_start(&t->relay, cfg->reactor, rc);
	if (err < 0)
		return err;
	t->outer = t->tp;
	t->tp = NULL;
	term_enter(t, TERM_MOVING);
	t->handed.relay = t->source.relay = t->relay;
	return 0;
}

/* Of rc, all but b has been said. */
static void
term_relay_b(struct term *t, struct relay_config *rc, int rfd, int wfd, bool owns)
{
	int err = stream_new(rfd, wfd, owns, &rc->b);

	if (err < 0 && owns)
		close(rfd);
	else if (err == 0 && (err = term_relay(t, rc)) < 0)
		rc->b->ops->close(rc->b, true);
	if (err < 0)
		term_fail(t, "no-memory", CCF_SYSTEM, "us");
}

static void
term_relay_fd(struct term *t, int fd, const struct relay_hooks *hooks, bool indifferent)
{
	struct relay_config rc = { .indifferent = indifferent };

	if (hooks)
		rc.b_hooks = *hooks;
	term_relay_b(t, &rc, fd, fd, true);
}

/* ---- a session ---- */

static void
term_relay_session(struct term *t, struct conn_config *conn)
{
	struct relay_config rc = { .indifferent = true,
		.b_has_deadlines = conn->first != CLOCK_NEVER || t->of->cfg.http };
	int err;

	if (t->of->cfg.http) /* so that who writes all before it reads sees why it was refused */
		rc.linger = (struct relay_linger){
			.quiet = LINGER_QUIET_MS, .longest = LINGER_MS, .bytes = LINGER_BYTES
		};
	conn->reactor = t->of->cfg.reactor;
	conn->env = &t->env;
	conn->said = &t->said;
	err = conn_session(&rc.b, conn);
	if (err == 0 && (err = term_relay(t, &rc)) < 0)
		rc.b->ops->close(rc.b, true);
	if (err < 0) {
		term_fail(t, "no-memory", CCF_SYSTEM, "us");
		return;
	}
	conn_attach(rc.b, t->relay);
	t->session = rc.b;
	if (t->of->draining)
		conn_drain(t->session);
}

void
term_to_session(struct term *t)
{
	const struct terminator_config *cfg = &t->of->cfg;
	struct conn_config conn = { .ops = cfg->session, .first = CLOCK_NEVER };

	if (env_get(&t->env, "CCF_CAPPED"))
		conn.ops = &session_capped;
	else if (cfg->http) {
		const struct http_config *http = &cfg->http->cfg;

		http_join(cfg->http, &t->http, &t->env, &t->tell);
		conn.arg = &t->http.setup;
		conn.first = clock_after(
		    t->accepted, http->request_timeout >= 0 ? http->request_timeout : http->idle);
	}
	term_relay_session(t, &conn);
}

void
term_to_capped(struct term *t)
{
	const struct terminator_config *cfg = &t->of->cfg;
	struct conn_config conn = { .ops = &session_capped,
		.arg = (void *)(uintptr_t)cfg->capped, /* it only reads it */
		.first = clock_after(t->accepted, cfg->capped_first) };

	term_relay_session(t, &conn);
}

/* ---- standard input and output ---- */

void
term_to_stdio(struct term *t)
{
	struct relay_config rc = { .stdio = true };

	term_relay_b(t, &rc, STDIN_FILENO, STDOUT_FILENO, false);
}

/* ---- a COMMAND ---- */

static void
term_exited(struct started *s, int wait_status)
{
	struct term *t = (struct term *)((char *)s - offsetof(struct term, started));

	t->command_status = child_exit_status(wait_status);
	t->command_killed = WIFSIGNALED(wait_status);
	if (t->relay)
		relay_kick(t->relay);
	else if (t->end.reason) {
		if (term_cut_by_command(t))
			term_heed_status(t);
		term_settle(t);
	}
}

/* Says why; what it is to the shell. */
static int
term_cannot_run(struct term *t, int rc)
{
	struct log_who who = tell_who(&t->tell);

	log_event(LOG_L_ERROR, &who, "cannot-run", NULL, "cannot run %s: %s", t->of->cfg.command,
	    strerror(-rc));
	return rc == -ENOENT ? CCF_NOT_FOUND : CCF_CANNOT_RUN;
}

static void
term_failed(struct started *s, int rc)
{
	struct term *t = (struct term *)((char *)s - offsetof(struct term, started));
	int status;

	if (term_starved(t, rc)) /* the master is */
		return;
	status = term_cannot_run(t, rc);
	if (t->relay)
		relay_cut(t->relay, "cannot-run", status);
	else
		term_over(t, "cannot-run", status, "us", t->end.in, t->end.out);
}

static const struct started_ops command_ops = { .exited = term_exited, .failed = term_failed };

/* The COMMAND's end of stream: one that was killed has cut it, one that lives on has only closed
 * its output. */
static int
command_is_end(void *arg)
{
	struct term *t = arg;

	if (t->command_status >= 0)
		return !t->command_killed;
	if (t->gave_up_waiting)
		return 1;
	if (!t->timer.slot)
		term_await_status(t);
	return -EAGAIN;
}

/* To a COMMAND a cut would look like an end of input: its carrier is lost, and it is told as a
 * terminal would. */
static void
command_cut(void *arg)
{
	struct term *t = arg;

	if (t->started.by)
		t->started.by->ops->hangup(t->started.by, &t->started);
}

void
term_to_command(struct term *t)
{
	const struct terminator_config *cfg = &t->of->cfg;
	struct relay_hooks hooks = { .is_end = command_is_end, .cut = command_cut, .arg = t };
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		rc = -errno;
	else {
		t->started.ops = &command_ops;
		rc = cfg->starter->ops->start(cfg->starter, &t->started, &t->env, pair[1]);
		close(pair[1]);
		if (rc < 0)
			close(pair[0]);
		else if (cfg->starter->ops->hold)
			cfg->starter->ops->hold(cfg->starter, &t->started, pair[0]);
	}
	if (rc == 0)
		term_relay_fd(t, pair[0], &hooks, true);
	else if (!term_starved(t, rc))
		term_fail(t, "cannot-run", term_cannot_run(t, rc), "us");
}

/* ---- a link ---- */

void
term_to_hub(struct term *t)
{
	struct link *l = hub_pick(t->of->cfg.to);
	struct relay_hooks hooks;
	int fd, rc;

	if (!l)
		return;
	t->down.ops = &down_ops;
	t->down.owing = true;
	rc = handed_offer(l, &t->down, &t->env, &fd);
	if (rc < 0) {
		if (!term_starved(t, rc))
			term_fail(t, "no-sink", CCF_UNAVAILABLE, "us");
		return;
	}
	TAILQ_REMOVE(&t->of->waiting, t, waiter);
	term_enter(t, TERM_ASKED);
	if (fd == -1)
		return;
	handed_open(&t->handed, t->of->cfg.reactor, &t->down);
	hooks = handed_hooks(&t->handed);
	term_relay_fd(t, fd, &hooks, false);
}

static void
down_adopted(struct link_conn *lc, int fd)
{
	struct term *t = (struct term *)((char *)lc - offsetof(struct term, down));
	struct relay_hooks hooks;
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	bool is_unix =
	    getsockname(fd, (struct sockaddr *)&ss, &len) == 0 && ss.ss_family == AF_UNIX;

	if (!is_unix) {
		term_relay_fd(t, fd, NULL, false);
		return;
	}
	handed_open(&t->handed, t->of->cfg.reactor, &t->down);
	hooks = handed_hooks(&t->handed);
	term_relay_fd(t, fd, &hooks, false);
}

static void
down_kick(struct link_conn *lc)
{
	handed_kick(&((struct term *)((char *)lc - offsetof(struct term, down)))->handed);
}

/* The sink says it is over.  A clean one speaks through the stream; a failure is passed on as a
 * reset. */
static void
down_closed(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	struct term *t = (struct term *)((char *)lc - offsetof(struct term, down));

	(void)in;
	(void)out;
	if (!t->relay)
		term_fail(t, reason[0] ? reason : "refused", status > 0 ? status : CCF_UNAVAILABLE,
		    "inner");
	else if (status > 0 && !lc->ended)
		relay_cut(t->relay, reason[0] ? reason : "reset", status);
	else
		relay_kick(t->relay);
}

static void
down_lost(struct link_conn *lc)
{
	struct term *t = (struct term *)((char *)lc - offsetof(struct term, down));

	if (t->state == TERM_ASKED && !t->relay)
		term_fail(t, "link-lost", CCF_UNAVAILABLE, "inner");
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
