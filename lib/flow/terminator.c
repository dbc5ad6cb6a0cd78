#include "flow/terminator.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/transport.h"
#include "flow/conn.h"
#include "flow/handed.h"
#include "flow/relay.h"
#include "flow/room.h"
#include "flow/tell.h"
#include "net/socket.h"
#include "net/stream.h"

#define REAP_MS 1000 /* a COMMAND closed its end: how long its exit status is waited for */

extern char **environ;

/* SHAKING: the handshake.  WAITING: for credit of the sink.  ASKED: for an adopt.  MOVING: the
 * relay has it. */
enum term_state { TERM_SHAKING, TERM_WAITING, TERM_ASKED, TERM_MOVING };

static const char *const state_name[] = { "SHAKING", "WAITING", "ASKED", "MOVING" };
static const unsigned legal[] = {
	[TERM_SHAKING] = 1U << TERM_WAITING | 1U << TERM_MOVING,
	[TERM_WAITING] = 1U << TERM_ASKED,
	[TERM_ASKED] = 1U << TERM_MOVING,
	[TERM_MOVING] = 0,
};

struct term {
	struct terminator *of;
	enum term_state state;
	struct link_conn up, down; /* on the source's list, on the sink's list */
	struct env env;
	struct tell tell;
	struct transport *tp; /* until the relay takes it */
	struct watch watch;
	struct timer
	    timer; /* handshake and sink deadline; then: waiting for the COMMAND's status */
	struct handed handed;	       /* our end of the pair is the AF_UNIX stream */
	struct handed source;	       /* what we were handed is one; else its conn is NULL */
	const struct transport *outer; /* what the relay took */
	struct relay *relay;
	struct child child;
	int command_status; /* -1: still running, or none */
	bool command_killed, gave_up_waiting, single;
	struct relay_end end; /* with it only the COMMAND's status is missing */
	TAILQ_ENTRY(term) link, waiter;
	struct grave grave;
};

static const struct link_conn_ops up_ops, down_ops;

/* The one door. */
static void
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
	free(t);
}

static void
term_free(struct term *t)
{
	struct terminator *of = t->of;

	reactor_timer(of->cfg.reactor, &t->timer, CLOCK_NEVER);
	handed_close(&t->handed);
	handed_close(&t->source);
	link_forget(&t->up);
	link_forget(&t->down);
	if (t->state == TERM_WAITING)
		TAILQ_REMOVE(&of->waiting, t, waiter);
	if (t->child.pid > 0)
		child_abandon(of->cfg.children, &t->child);
	TAILQ_REMOVE(&of->all, t, link);
	of->live--;
	reactor_bury(of->cfg.reactor, &t->grave, term_release);
	for (unsigned i = 0; i < of->n_from; i++)
		hub_regrant(of->from[i]);
	if (of->live == 0)
		of->cfg.idle_now(of->cfg.arg);
}

static void
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
static void
term_fail(struct term *t, const char *reason, int status, const char *by)
{
	if (t->tp) {
		reactor_forget(t->of->cfg.reactor, &t->watch);
		t->tp->ops->close(t->tp, true);
		t->tp = NULL;
	}
	term_over(t, reason, status, by, 0, 0);
}

/* Was it a shortage of descriptors?  Then that ends it, and the source is asked for nothing more
 * for a while. */
static bool
term_starved(struct term *t, int rc)
{
	if (rc != -EMFILE && rc != -ENFILE)
		return false;
	if (t->up.link)
		hub_starve(t->up.link->hub);
	term_fail(t, "no-descriptors", CCF_UNAVAILABLE, "us");
	return true;
}

static void
term_cut(struct term *t, const char *reason, int status)
{
	if (t->relay)
		relay_cut(t->relay, reason, status);
	else
		term_fail(t, reason, status, "us");
}

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

static void
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

static void
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

static void
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
term_shake(struct term *t)
{
	static struct log_class class = { .name = "failed handshakes" };
	int rc = t->tp->ops->handshake(t->tp);
	unsigned want;

	if (rc == 0) {
		term_shaken(t);
		return;
	}
	if (rc == -EAGAIN) {
		want = t->tp->ops->want(t->tp, TP_READ | TP_WRITE);
		reactor_want(t->of->cfg.reactor, &t->watch,
		    (want & TP_READ ? WATCH_READ : 0) | (want & TP_WRITE ? WATCH_WRITE : 0));
		return;
	}
	if (log_admit(&class, reactor_now(t->of->cfg.reactor))) {
		struct log_who who = tell_who(&t->tell);
		const char *why = t->tp->ops->reason ? t->tp->ops->reason(t->tp) : NULL;

		log_event(LOG_L_INFO, &who, "handshake-failed", NULL, "handshake failed: %s",
		    why ? why : strerror(-rc));
	}
	reactor_forget(t->of->cfg.reactor, &t->watch);
	socket_leave(t->tp->rfd); /* the alert that says why shall arrive */
	t->tp->ops->close(t->tp, false);
	t->tp = NULL;
	term_fail(t, "handshake-failed", CCF_HANDSHAKE, "peer");
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
		log_event(LOG_L_INFO, &who, "handshake-timeout", NULL,
		    "handshake not finished in time (--handshake-timeout)");
		term_fail(t, "handshake-timeout", CCF_DEADLINE, "us");
	} else {
		log_event(LOG_L_INFO, &who, "sink-timeout", NULL,
		    "%s in time (--handshake-timeout)",
		    t->state == TERM_WAITING ? "no consumer had room"
					     : "the consumer did not answer");
		term_fail(t, "no-answer", CCF_DEADLINE, "us");
	}
}

/* ---- life ---- */

static struct term *
term_new(struct terminator *of)
{
	struct term *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->of = of;
	t->command_status = -1;
	t->timer.fire = term_late;
	TAILQ_INSERT_TAIL(&of->all, t, link);
	of->live++;
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
	env_unset_prefix(&t->env, "SSL_");
	env_unset(&t->env, "CCF_ALPN");
	tell_from(&t->tell, &t->env);
	reactor_timer(cfg->reactor, &t->timer, clock_after(since, cfg->handshake));
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
}
