/* What becomes of the plaintext: a session in this process, a COMMAND, or a link. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/transport.h"
#include "flow/conn.h"
#include "flow/term.h"
#include "net/stream.h"

#define REAP_MS 1000 /* a COMMAND closed its end: how long its exit status is waited for */

extern char **environ;

static const struct link_conn_ops down_ops;

static void
term_relayed(void *arg, const struct relay_end *end)
{
	struct term *t = arg;

	t->relay = NULL;
	t->handed.relay = t->source.relay = NULL;
	reactor_timer(t->of->cfg.reactor, &t->timer, CLOCK_NEVER);
	t->end = *end;
	if (t->command_status > 0 &&
	    end->status == CCF_CUT) { /* its end came first, and says more */
		t->end.status = t->command_status;
		t->end.reason = t->command_killed ? "killed" : end->reason;
	}
	if (t->single && t->child.pid > 0) /* its status is ours: wait for it */
		return;
	term_over(t, t->end.reason, t->end.status, t->end.by, t->end.in, t->end.out);
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

static int
term_relay(
    struct term *t, struct transport *inner, const struct relay_hooks *hooks, bool indifferent)
{
	const struct terminator_config *cfg = &t->of->cfg;
	struct relay_config rc = { .a = t->tp,
		.b = inner,
		.indifferent = indifferent,
		.idle = cfg->idle,
		.half_close = cfg->half_close,
		.flush = cfg->flush,
		.bare_is_cut = cfg->require_close_notify,
		.done = term_relayed,
		.arg = t };
	int err;

	if (t->source.conn)
		rc.a_hooks = (struct relay_hooks){
			.is_end = source_is_end, .announce = source_announce, .arg = t
		};
	if (hooks)
		rc.b_hooks = *hooks;
	reactor_forget(cfg->reactor, &t->watch);
	reactor_timer(cfg->reactor, &t->timer, CLOCK_NEVER);
	err = relay_start(&t->relay, cfg->reactor, &rc);
	if (err < 0)
		return err;
	t->outer = t->tp;
	t->tp = NULL;
	term_enter(t, TERM_MOVING);
	t->handed.relay = t->source.relay = t->relay;
	return 0;
}

static void
term_relay_fd(struct term *t, int fd, const struct relay_hooks *hooks, bool indifferent)
{
	struct transport *inner = NULL;
	int rc = stream_new(fd, fd, true, &inner);

	if (rc < 0)
		close(fd);
	else if ((rc = term_relay(t, inner, hooks, indifferent)) < 0)
		inner->ops->close(inner, true);
	if (rc < 0)
		term_fail(t, "no-memory", CCF_SYSTEM, "us");
}

void
term_to_session(struct term *t)
{
	const struct terminator_config *cfg = &t->of->cfg;
	bool capped = env_get(&t->env, "CCF_CAPPED") != NULL;
	struct transport *inner;
	int rc = conn_session(&inner, capped ? cfg->capped : cfg->session, &t->env);

	if (rc == 0 && (rc = term_relay(t, inner, NULL, true)) < 0)
		inner->ops->close(inner, true);
	if (rc < 0)
		term_fail(t, "no-memory", CCF_SYSTEM, "us");
	else
		conn_attach(inner, t->relay);
}

/* ---- a COMMAND ---- */

static void
term_exited(struct child *child, int wait_status)
{
	struct term *t = (struct term *)((char *)child - offsetof(struct term, child));

	t->command_status = child_exit_status(wait_status);
	t->command_killed = WIFSIGNALED(wait_status);
	t->child.pid = 0;
	if (t->relay)
		relay_kick(t->relay);
	else if (t->end.reason)
		term_over(t, t->end.reason, t->end.status, t->end.by, t->end.in, t->end.out);
}

static void
term_reap_late(struct timer *timer)
{
	struct term *t = (struct term *)((char *)timer - offsetof(struct term, timer));

	t->gave_up_waiting = true;
	if (t->relay)
		relay_kick(t->relay);
}

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
	if (!t->timer.slot) {
		t->timer.fire = term_reap_late;
		reactor_timer(
		    t->of->cfg.reactor, &t->timer, reactor_now(t->of->cfg.reactor) + REAP_MS);
	}
	return -EAGAIN;
}

/* To a COMMAND a cut would look like an end of input: its carrier is lost, and it is told as a
 * terminal would. */
static void
command_cut(void *arg)
{
	struct term *t = arg;

	if (t->child.pid > 0)
		kill(t->child.pid, SIGHUP);
}

void
term_to_command(struct term *t)
{
	const struct terminator_config *cfg = &t->of->cfg;
	struct relay_hooks hooks = { .is_end = command_is_end, .cut = command_cut, .arg = t };
	char **envp = env_exec(&t->env, environ);
	struct spawn spawn = { .argv = cfg->argv, .envp = envp };
	int pair[2], rc = -ENOMEM;

	if (envp && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == -1)
		rc = -errno;
	else if (envp) {
		spawn.in = spawn.out = pair[1];
		rc = children_start(cfg->children, &t->child, &spawn, term_exited);
		close(pair[1]);
		if (rc < 0)
			close(pair[0]);
	}
	free(envp);
	if (rc < 0 && !term_starved(t, rc)) {
		struct log_who who = tell_who(&t->tell);

		log_event(LOG_L_ERROR, &who, "cannot-run", NULL, "cannot run %s: %s", cfg->argv[0],
		    strerror(-rc));
		term_fail(t, "cannot-run", rc == -ENOENT ? CCF_NOT_FOUND : CCF_CANNOT_RUN, "us");
	}
	if (rc == 0)
		term_relay_fd(t, pair[0], &hooks, true);
}

/* ---- a link ---- */

void
term_to_hub(struct term *t)
{
	struct link *l = hub_pick(t->of->cfg.to);
	struct relay_hooks hooks;
	int pair[2] = { -1, -1 }, rc;

	if (!l)
		return;
	t->down.ops = &down_ops;
	t->down.owing = true;
	if (l->modes & NOTE_GIVE)
		rc = link_conn(l, &t->down, &t->env, -1);
	else if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == -1)
		rc = -errno;
	else
		rc = link_conn(l, &t->down, &t->env, pair[1]);
	if (rc < 0) {
		if (pair[0] != -1) {
			close(pair[0]);
			close(pair[1]);
		}
		if (!term_starved(t, rc))
			term_fail(t, "no-sink", CCF_UNAVAILABLE, "us");
		return;
	}
	TAILQ_REMOVE(&t->of->waiting, t, waiter);
	term_enter(t, TERM_ASKED);
	if (pair[0] == -1)
		return;
	handed_open(&t->handed, t->of->cfg.reactor, &t->down);
	hooks = handed_hooks(&t->handed);
	term_relay_fd(t, pair[0], &hooks, false);
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
