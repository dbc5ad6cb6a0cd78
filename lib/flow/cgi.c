/* A run is one COMMAND and its stream.  It is its request's until the answer is over (run_part),
 * and lives on alone until the process has ended: only then is its place free. */
#include "flow/cgi.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/fds.h"
#include "base/log.h"
#include "base/metrics.h"
#include "flow/http.h"
#include "flow/room.h"
#include "flow/starter.h"
#include "flow/tell.h"
#include "session/exchange.h"
#include "wire/cgi.h"
#include "wire/http1.h"

#define REAP_MS	       1000 /* its output has ended: how long its exit status is waited for */
#define READ_SIZE      (16 * 1024)
#define READ_TURN      4 /* so many in one go: the others have their turn */
#define LATER	       "Retry-After: 1\r\n"
#define UNUSABLE       "the script's answer cannot be used: "
#define OF(member, at) ((struct cgi_run *)((char *)(at)-offsetof(struct cgi_run, member)))

struct cgi_run {
	struct cgis *of;
	struct cgi *cgi; /* whose answer it is; NULL: the answer is over */
	struct tell tell;
	struct started started;
	int wait_status;   /* when it has exited */
	bool exited, told; /* told: we sent it a signal, so how it ends is no news */
	bool late;	   /* its time is over */
	int fd;		   /* our end of its stream; -1: closed */
	struct watch watch;
	struct timer timer; /* its time; then: its exit status, or until it is killed */
	bool stuck, deaf;   /* its input is full; it takes no more of it */
	bool ended;	    /* its output */
	bool bodiless, overfull;
	struct cgi_parser parser;
	int64_t said; /* bytes of its body */
	TAILQ_ENTRY(cgi_run) link;
	struct grave grave;
};

static struct log_class cannot_lines = { .name = "COMMANDs that cannot be run" };
static struct log_class status_lines = { .name = "COMMANDs that failed" };
static struct log_class answer_lines = { .name = "answers of COMMANDs that are none" };
static struct log_class late_lines = { .name = "COMMANDs that took too long" };

static void cgis_next(struct cgis *);

static struct cgi *
cgi_of(const struct exchange *x)
{
	return &((struct http_conn *)exchange_arg(x))->cgi;
}

static void __attribute__((format(printf, 4, 5))) run_warn(
    const struct cgi_run *run, struct log_class *class, const char *event, const char *fmt, ...)
{
	struct log_who who = tell_who(&run->tell);
	char what[256];
	va_list ap;

	if (!log_admit(class, reactor_now(run->of->cfg.reactor)))
		return;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	log_event(LOG_L_WARN, &who, event, NULL, "%s %s", run->of->cfg.command, what);
}

/* ---- its end ---- */

static void
run_release(struct grave *g)
{
	free(OF(grave, g));
}

static void
run_close(struct cgi_run *run)
{
	reactor_forget(run->of->cfg.reactor, &run->watch);
	fds_close(&run->fd);
	cgi_parser_free(&run->parser);
}

static void
run_free(struct cgi_run *run)
{
	run_close(run);
	reactor_timer(run->of->cfg.reactor, &run->timer, CLOCK_NEVER);
	TAILQ_REMOVE(&run->of->runs, run, link);
	reactor_bury(run->of->cfg.reactor, &run->grave, run_release);
}

static void
run_signal(struct cgi_run *run, int signo)
{
	const struct starter_ops *ops = run->of->cfg.starter->ops;

	if (run->exited)
		return;
	run->told = true;
	if (signo == SIGHUP)
		ops->hangup(run->of->cfg.starter, &run->started);
	else
		ops->kill(run->of->cfg.starter, &run->started, signo);
}

/* Its request is done with, and what it still says is for nobody.  The last word about the exchange
 * comes after this: with it the next one may begin. */
static struct exchange *
run_part(struct cgi_run *run)
{
	struct cgi *c = run->cgi;
	struct exchange *x = c->exchange;

	c->run = NULL;
	c->exchange = NULL;
	c->state = CGI_NONE;
	run->cgi = NULL;
	run_close(run);
	if (run->exited)
		run_free(run);
	return x;
}

/* To a COMMAND a cut would look like an end of input: it is told as a terminal would. */
static void
run_cut(struct cgi_run *run)
{
	run_signal(run, SIGHUP);
	exchange_cut(run_part(run));
}

static void
run_unusable(struct cgi_run *run, const char *fault)
{
	run_warn(run, &answer_lines, "cgi-unusable", "has given an answer that cannot be used: %s",
	    fault);
	run_signal(run, SIGHUP);
	exchange_refuse(run_part(run), 500, "InternalError", NULL, UNUSABLE "%s", fault);
}

static void
cgis_tell(const struct cgis *of)
{
	if (of->cfg.ended)
		of->cfg.ended(of->cfg.arg);
}

/* More cannot be done; where the master is gone, nobody says that it has ended. */
static void
run_kill(struct timer *t)
{
	struct cgi_run *run = OF(timer, t);

	run_signal(run, SIGKILL);
	cgis_tell(run->of);
}

static void
run_late(struct timer *t)
{
	struct cgi_run *run = OF(timer, t);
	struct reactor *r = run->of->cfg.reactor;
	bool begun = run->parser.whole;

	run_warn(run, &late_lines, "cgi-timeout", "takes longer than %" PRId64 " ms, and is ended",
	    run->of->cfg.timeout);
	run_signal(run, SIGTERM);
	run->late = true;
	run->timer.fire = run_kill;
	reactor_timer(r, &run->timer, clock_after(reactor_now(r), CGI_KILL_MS));
	if (run->cgi && begun)
		exchange_cut(run_part(run));
	else if (run->cgi)
		exchange_refuse(run_part(run), 504, "GatewayTimeout", NULL,
		    "the script has not answered in time");
}

/* As long as its request may take. */
static void
run_within(struct cgi_run *run)
{
	run->timer.fire = run_late;
	reactor_timer(run->of->cfg.reactor, &run->timer, run->cgi->until);
}

/* Its output has ended, and so has it; or it lives on and has said all it had to say. */
static void
run_settle(struct cgi_run *run)
{
	const struct cgi_parser *p = &run->parser;
	struct reactor *r = run->of->cfg.reactor;
	char how[40] = "it ended before its header did";

	run_within(run);
	if (run->exited && WIFSIGNALED(run->wait_status)) {
		snprintf(
		    how, sizeof(how), "it was killed by signal %d", WTERMSIG(run->wait_status));
		if (p->whole)
			exchange_cut(run_part(run));
		else
			run_unusable(run, how);
	} else if (!p->whole)
		run_unusable(run, p->len == 0 ? "it said nothing" : how);
	else if (!run->bodiless && run->said < p->head.length) {
		run_warn(run, &answer_lines, "cgi-short",
		    "has said %" PRId64 " bytes, and Content-Length: %" PRId64, run->said,
		    p->head.length);
		exchange_cut(run_part(run));
	} else {
		reactor_timer(r, &run->timer, CLOCK_NEVER);
		exchange_said(run_part(run));
	}
}

static void
run_reap_late(struct timer *t)
{
	run_settle(OF(timer, t));
}

static void
run_over(struct cgi_run *run)
{
	run->exited = true;
	run->of->running--;
	if (!run->cgi)
		run_free(run);
}

static void
run_exited(struct started *s, int wait_status)
{
	struct cgi_run *run = OF(started, s);
	struct cgis *of = run->of;

	run->wait_status = wait_status;
	metric_add(METRIC_COMMANDS, wait_status == 0 ? "ok" : "failed", 1);
	if (WIFSIGNALED(wait_status) && !run->told)
		run_warn(run, &status_lines, "cgi-status", "was killed by signal %d",
		    WTERMSIG(wait_status));
	else if (wait_status != 0 && !run->told)
		run_warn(run, &status_lines, "cgi-status", "ended with status %d",
		    WEXITSTATUS(wait_status));
	run_over(run);
	if (run->cgi && run->ended)
		run_settle(run);
	cgis_next(of);
	cgis_tell(of);
}

/* ---- what cannot be run ---- */

static void
cgi_cannot_run(struct cgis *of, const struct tell *tell, struct exchange *x, int rc)
{
	struct log_who who = tell_who(tell);

	if (rc == -EMFILE || rc == -ENFILE) {
		room_short("a COMMAND was not run", -rc, "its client was told 503");
		exchange_refuse(x, 503, "ServiceUnavailable", LATER, "out of descriptors");
		return;
	}
	if (log_admit(&cannot_lines, reactor_now(of->cfg.reactor)))
		log_event(LOG_L_ERROR, &who, "cannot-run", NULL, "cannot run %s: %s",
		    of->cfg.command, strerror(-rc));
	exchange_refuse(x, 500, "InternalError", NULL, "the script cannot be run");
}

static void
run_failed(struct started *s, int rc)
{
	struct cgi_run *run = OF(started, s);
	struct cgis *of = run->of;

	metric_add(METRIC_COMMANDS, "failed", 1);
	run_over(run);
	if (run->cgi)
		cgi_cannot_run(of, &run->tell, run_part(run), rc);
	cgis_next(of);
	cgis_tell(of);
}

static const struct started_ops run_ops = { .exited = run_exited, .failed = run_failed };

static void
cgi_refuse(struct exchange *x, int rc)
{
	if (rc == -E2BIG)
		exchange_refuse(x, 431, "RequestHeaderTooLarge", NULL,
		    "the request does not fit into the environment of the script");
	else if (rc == -EINVAL)
		exchange_refuse(x, 400, "InvalidInput", NULL,
		    "the path has a %% without two digits, a %%2f, a %%00, or a segment \"..\"");
	else
		exchange_refuse(x, 500, "InternalError", NULL, "out of memory");
}

/* ---- what it says ---- */

/* What is wanted of its stream, after each step. */
static void
run_want(struct cgi_run *run)
{
	uint32_t want = 0;

	if (!run->cgi)
		return;
	if (!run->ended && !exchange_full(run->cgi->exchange))
		want |= WATCH_READ;
	if (run->stuck)
		want |= WATCH_WRITE;
	reactor_want(run->of->cfg.reactor, &run->watch, want);
}

static int
run_begin(struct cgi_run *run)
{
	const struct cgi_head *h = &run->parser.head;
	struct exchange *x = run->cgi->exchange;

	run->bodiless = h->status == 204 || h->status == 304 || http1_is_head(exchange_request(x));
	return exchange_begin(x, h->status, h->reason[0] ? h->reason : NULL, h->fields, h->length);
}

static int
run_say(struct cgi_run *run, const char *at, size_t n)
{
	int64_t length = run->parser.head.length;

	if (run->bodiless)
		return 0;
	if (length >= 0 && n > (uint64_t)(length - run->said)) {
		if (!run->overfull)
			run_warn(run, &answer_lines, "cgi-surplus",
			    "says more than its Content-Length: %" PRId64 "; the rest is dropped",
			    length);
		run->overfull = true;
		n = (size_t)(length - run->said);
	}
	run->said += (int64_t)n;
	return n > 0 ? exchange_say(run->cgi->exchange, at, n) : 0;
}

static void
run_heard(struct cgi_run *run, const char *at, size_t n)
{
	size_t used = 0;
	int rc = 0;

	if (!run->parser.whole) {
		rc = cgi_read(&run->parser, at, n, &used);
		if (rc == 0)
			return;
		if (rc < 0) {
			run_unusable(run, rc == -EBADMSG ? run->parser.fault : "no memory");
			return;
		}
		rc = run_begin(run);
	}
	if (rc == 0 && run->cgi)
		rc = run_say(run, at + used, n - used);
	if (rc < 0 && run->cgi)
		run_cut(run);
}

/* One read.  False: there is no more now.  ECONNRESET comes once, and then the end: it has not read
 * all that was for it. */
static bool
run_hear(struct cgi_run *run)
{
	static char bytes[READ_SIZE];
	struct reactor *r = run->of->cfg.reactor;
	ssize_t n = recv(run->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0) {
		run_heard(run, bytes, (size_t)n);
		return true;
	}
	if (n < 0 && errno == ECONNRESET)
		return true;
	if (n < 0) {
		if (errno != EAGAIN && errno != EINTR)
			run_cut(run);
		return false;
	}
	run->ended = true;
	if (run->exited)
		run_settle(run);
	else {
		run->timer.fire = run_reap_late;
		reactor_timer(r, &run->timer, clock_after(reactor_now(r), REAP_MS));
	}
	return false;
}

static void
run_ready(struct watch *w, uint32_t got)
{
	struct cgi_run *run = OF(watch, w);

	if (got & WATCH_WRITE) {
		run->stuck = false;
		exchange_resume(run->cgi->exchange);
	}
	for (int i = 0; got & WATCH_READ && i < READ_TURN && run->cgi && !run->ended; i++) {
		if (exchange_full(run->cgi->exchange) || !run_hear(run))
			break;
	}
	run_want(run);
}

/* ---- its start ---- */

static int
run_start(struct cgi_run *run, const struct env *env)
{
	struct starter *starter = run->of->cfg.starter;
	int pair[2], rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == -1)
		return -errno;
	run->started.ops = &run_ops;
	rc = starter->ops->start(starter, &run->started, env, pair[1]);
	fds_close(&pair[1]);
	if (rc < 0)
		fds_close(&pair[0]);
	else if (starter->ops->hold)
		starter->ops->hold(starter, &run->started, pair[0]);
	run->fd = pair[0];
	return rc;
}

/* It runs: c is given what it says. */
static void
run_join(struct cgi_run *run, struct cgi *c)
{
	struct reactor *r = run->of->cfg.reactor;

	run->cgi = c;
	c->run = run;
	c->state = CGI_RUNNING;
	run->of->running++;
	TAILQ_INSERT_TAIL(&run->of->runs, run, link);
	run_within(run);
	reactor_watch(r, &run->watch, run->fd, run_ready);
	run_want(run);
	if (c->whole) /* it came while we waited */
		shutdown(run->fd, SHUT_WR);
	else
		exchange_continue(c->exchange);
}

static void
cgi_start(struct cgi *c)
{
	struct cgi_run *run = calloc(1, sizeof(*run));
	struct env env = { .cgi = true };
	struct exchange *x = c->exchange;
	int rc = run ? env_copy(&env, c->env) : -ENOMEM;
	int unfit = rc == 0 ? cgi_variables(&env, exchange_request(x)) : rc;

	if (unfit == 0) {
		*run = (struct cgi_run){ .of = c->of, .fd = -1 };
		tell_from(&run->tell, c->env);
		rc = run_start(run, &env);
	}
	env_free(&env);
	if (unfit == 0 && rc == 0) {
		run_join(run, c);
		return;
	}
	c->exchange = NULL;
	c->state = CGI_NONE;
	if (unfit < 0)
		cgi_refuse(x, unfit);
	else {
		metric_add(METRIC_COMMANDS, "failed", 1);
		cgi_cannot_run(c->of, &run->tell, x, rc);
	}
	free(run);
}

/* ---- turns ---- */

static void
cgi_unqueue(struct cgi *c)
{
	TAILQ_REMOVE(&c->of->waiting, c, waiter);
	c->state = CGI_NONE;
	reactor_timer(c->of->cfg.reactor, &c->timer, CLOCK_NEVER);
}

static void
cgis_next(struct cgis *of)
{
	struct cgi *c;

	while (of->running < of->cfg.max && (c = TAILQ_FIRST(&of->waiting))) {
		cgi_unqueue(c);
		cgi_start(c);
		if (c->run)
			exchange_resume(c->exchange);
	}
}

static void
cgi_waited(struct timer *t)
{
	struct cgi *c = (struct cgi *)((char *)t - offsetof(struct cgi, timer));
	struct exchange *x = c->exchange;

	cgi_unqueue(c);
	c->exchange = NULL;
	exchange_refuse(x, 503, "ServiceUnavailable", LATER,
	    "other requests have kept all scripts busy for too long");
}

static void
cgi_queue(struct cgi *c)
{
	c->state = CGI_WAITING;
	TAILQ_INSERT_TAIL(&c->of->waiting, c, waiter);
	c->timer.fire = cgi_waited;
	reactor_timer(c->of->cfg.reactor, &c->timer, c->until);
}

/* ---- the handler ---- */

static void
cgi_begin(struct exchange *x, const struct http1_head *head)
{
	struct cgi *c = cgi_of(x);
	struct cgis *of = c->of;

	(void)head;
	c->exchange = x;
	c->whole = false;
	c->until = clock_after(reactor_now(of->cfg.reactor), of->cfg.timeout);
	if (of->running < of->cfg.max && TAILQ_EMPTY(&of->waiting))
		cgi_start(c);
	else
		cgi_queue(c);
}

/* A COMMAND may answer, and end, without having read what it was sent. */
static ssize_t
cgi_body(struct exchange *x, const char *bytes, size_t len)
{
	struct cgi_run *run = cgi_of(x)->run;
	ssize_t n;

	if (!run)
		return 0;
	if (run->deaf)
		return (ssize_t)len;
	n = send(run->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	run->deaf = n < 0 && (errno == EPIPE || errno == ECONNRESET);
	run->stuck = !run->deaf && n < (ssize_t)len;
	run_want(run);
	return run->deaf ? (ssize_t)len : n > 0 ? n : 0;
}

static void
cgi_end(struct exchange *x)
{
	struct cgi *c = cgi_of(x);

	c->whole = true;
	if (c->run)
		shutdown(c->run->fd, SHUT_WR);
}

static void
cgi_drained(struct exchange *x)
{
	struct cgi_run *run = cgi_of(x)->run;

	if (run)
		run_want(run);
}

static void
cgi_abort(struct exchange *x)
{
	cgi_close(cgi_of(x));
}

const struct http1_handler cgi_handler = {
	.name = "cgi",
	.begin = cgi_begin,
	.body = cgi_body,
	.end = cgi_end,
	.drained = cgi_drained,
	.abort = cgi_abort,
};

/* ---- life ---- */

void
cgi_open(struct cgi *c, struct cgis *of, const struct env *env)
{
	*c = (struct cgi){ .of = of, .env = env };
}

void
cgi_close(struct cgi *c)
{
	if (c->state == CGI_WAITING)
		cgi_unqueue(c);
	else if (c->state == CGI_RUNNING) {
		run_signal(c->run, SIGHUP);
		run_within(c->run); /* also where its end was waited for: there is nobody to tell */
		(void)run_part(c->run);
	}
	c->exchange = NULL;
}

void
cgis_open(struct cgis *of, const struct cgis_config *cfg)
{
	*of = (struct cgis){ .cfg = *cfg };
	TAILQ_INIT(&of->waiting);
	TAILQ_INIT(&of->runs);
}

bool
cgis_owing(const struct cgis *of)
{
	const struct cgi_run *run;

	TAILQ_FOREACH(run, &of->runs, link)
		if (!run->exited && run->timer.slot)
			return true;
	return false;
}

void
cgis_close(struct cgis *of)
{
	struct cgi_run *run;
	struct cgi *c;

	while ((c = TAILQ_FIRST(&of->waiting)))
		cgi_unqueue(c);
	while ((run = TAILQ_FIRST(&of->runs))) {
		run_signal(run, run->late ? SIGKILL : SIGTERM);
		of->cfg.starter->ops->abandon(of->cfg.starter, &run->started);
		run->exited = true;
		if (run->cgi)
			(void)run_part(run);
		else
			run_free(run);
	}
	of->running = 0;
}
