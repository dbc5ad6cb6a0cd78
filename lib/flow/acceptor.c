#include "flow/acceptor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "flow/room.h"
#include "flow/rows.h"
#include "flow/tell.h"
#include "net/socket.h"

#define TURN	 64  /* connections accepted before others get their turn */
#define RETRY_MS 200 /* out of descriptors */

extern char **environ;

struct accepted { /* a connection that is open somewhere */
	struct acceptor *from;
	struct link_conn handed; /* SINK_HUB */
	struct child child;	 /* SINK_COMMAND */
	struct tell tell;
	struct accepted *next, **prev;
	struct grave grave;
};

/* ---- one connection ---- */

static struct accepted *
accepted_new(struct acceptor *a, const struct env *env)
{
	struct accepted *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->from = a;
	tell_from(&c->tell, env);
	c->next = a->all->accepted;
	c->prev = &a->all->accepted;
	if (c->next)
		c->next->prev = &c->next;
	a->all->accepted = c;
	a->all->open++;
	tell_open(&c->tell, "accepted");
	return c;
}

static void
accepted_release(struct grave *g)
{
	free((char *)g - offsetof(struct accepted, grave));
}

static enum admit
accept_enter(struct acceptor *a)
{
	struct acceptors *all = a->all;
	enum admit admit = admission_enter(&a->caps);

	if (admit == ADMIT_REFUSED) {
		metric_add(METRIC_REFUSED, "hard-cap", 1);
		return admit;
	}
	metric_add(METRIC_TAKEN, NULL, 1);
	if (admit == ADMIT_CAPPED)
		metric_add(METRIC_CAPPED, NULL, 1);
	if (++all->active > all->peak)
		all->peak = all->active;
	return admit;
}

static void
accept_leave(struct acceptor *a)
{
	admission_leave(&a->caps);
	a->all->active--;
}

static void
accepted_over(
    struct accepted *c, const char *reason, int status, const char *by, uint64_t in, uint64_t out)
{
	struct acceptors *all = c->from->all;

	tell_closed(&c->tell, reason, status, by, in, out);
	accept_leave(c->from);
	*c->prev = c->next;
	if (c->next)
		c->next->prev = c->prev;
	all->open--;
	reactor_bury(all->cfg.reactor, &c->grave, accepted_release);
	if (all->closing && all->open == 0)
		all->cfg.idle(all->cfg.arg);
	else
		acceptors_update(all);
}

static void
handed_closed(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	struct accepted *c = (struct accepted *)((char *)lc - offsetof(struct accepted, handed));

	for (unsigned e = 0; e < ACCEPT_ERRORS; e++)
		if (strcmp(reason, accept_error_word(e)) == 0) {
			c->from->errors[e]++;
			metric_add(METRIC_HTTP_ERRORS, reason, 1);
		}
	accepted_over(c, reason[0] ? reason : "closed", status, "inner", in, out);
}

static void
handed_lost(struct link_conn *lc)
{
	struct accepted *c = (struct accepted *)((char *)lc - offsetof(struct accepted, handed));

	accepted_over(c, "link-lost", CCF_UNAVAILABLE, "inner", 0, 0);
}

static const struct link_conn_ops handed_ops = {
	.closed = handed_closed,
	.lost = handed_lost,
};

static void
command_exited(struct child *child, int wait_status)
{
	struct accepted *c = (struct accepted *)((char *)child - offsetof(struct accepted, child));

	accepted_over(c, WIFSIGNALED(wait_status) ? "killed" : "exited",
	    child_exit_status(wait_status), "inner", 0, 0);
}

static void
accept_to_hub(struct acceptor *a, int fd, const struct env *env)
{
	struct link *l = hub_pick(a->all->cfg.hub);
	struct accepted *c = l ? accepted_new(a, env) : NULL;
	int rc = -ENOMEM;

	socket_reset(
	    fd); /* armed: who dies with it on his hands, or before he read it, has cut it */
	if (c) {
		c->handed.ops = &handed_ops;
		rc = link_conn(l, &c->handed, env, fd);
	}
	if (rc == 0) {
		if (a->local.sa.sa_family ==
		    AF_UNIX) /* its end will be a real one: nobody else could say so */
			(void)link_eof(&c->handed);
		return;
	}
	close(fd);
	if (c)
		accepted_over(c, "no-sink", CCF_UNAVAILABLE, "us", 0, 0);
	else
		accept_leave(a);
}

static void
accept_to_command(struct acceptor *a, int fd, const struct env *env)
{
	static struct log_class class = { .name = "commands that could not be run" };
	const struct acceptor_config *cfg = &a->all->cfg;
	struct accepted *c = accepted_new(a, env);
	char **envp = env_exec(env, environ);
	struct spawn spawn = { .argv = cfg->argv, .envp = envp, .in = fd, .out = fd };
	int rc = -ENOMEM;

	if (c && envp)
		rc = children_start(cfg->children, &c->child, &spawn, command_exited);
	free(envp);
	metric_add(METRIC_COMMANDS, rc < 0 ? "failed" : "ok", 1);
	if (rc < 0)
		socket_reset(fd);
	close(fd);
	if (rc == 0)
		return;
	if (log_admit(&class, reactor_now(cfg->reactor)))
		log_say(LOG_L_ERROR, "cannot run %s: %s", cfg->argv[0], strerror(-rc));
	if (c)
		accepted_over(
		    c, "cannot-run", rc == -ENOENT ? CCF_NOT_FOUND : CCF_CANNOT_RUN, "us", 0, 0);
	else
		accept_leave(a);
}

static void
accept_to_stdio(struct acceptor *a, int fd, const struct env *env)
{
	a->all->stdio = a; /* one at a time: the caps have no say */
	a->all->cfg.stdio(a->all->cfg.arg, fd, env);
}

/* ---- accepting ---- */

static void
accept_refused(struct acceptor *a, int fd, const struct sockaddr_any *peer, const char *event,
    struct log_class *class, const char *why)
{
	char text[ADDR_TEXT_MAX];
	struct log_who who = { .iface = a->name, .peer = addr_text(peer, text, sizeof(text)) };

	close(fd);
	if (log_admit(class, reactor_now(a->all->cfg.reactor)))
		log_event(LOG_L_INFO, &who, event, NULL, "%s: refused: %s", a->name, why);
}

static void
accept_describe(
    struct acceptor *a, int fd, const struct sockaddr_any *peer, bool capped, struct env *env)
{
	const char *prefix = a->all->cfg.id_prefix;
	char ip[ADDR_TEXT_MAX];

	if (socket_describe(fd, env) < 0 &&
	    peer->sa.sa_family != AF_UNIX) { /* it has reset already */
		(void)env_set(env, "TCPREMOTEIP", addr_ip(peer, ip, sizeof(ip)));
		(void)env_setf(env, "TCPREMOTEPORT", "%u", addr_port(peer));
	}
	(void)env_set(env, "CCF_INTERFACE", a->name);
	(void)env_setf(env, "CCF_CONN_ID", "%s%s%s#%llu", prefix ? prefix : "", prefix ? "/" : "",
	    a->name, (unsigned long long)a->next_id);
	(void)env_setf(env, "CCF_ACCEPTED", "%lld", (long long)clock_ms());
	if (capped)
		(void)env_set(env, "CCF_CAPPED", "1");
}

static void
accept_one(struct acceptor *a, int fd, const struct sockaddr_any *peer)
{
	static struct log_class denied = { .name = "connections denied" },
				full = { .name = "connections above the hard cap" };
	const struct acceptor_config *cfg = &a->all->cfg;
	struct env env = { 0 };
	enum admit admit;

	a->next_id++;
	if (!cidr_admits(cfg->allow, cfg->n_allow, cfg->deny, cfg->n_deny, peer)) {
		a->denied++;
		metric_add(METRIC_REFUSED, "denied", 1);
		accept_refused(
		    a, fd, peer, "denied", &denied, "not allowed from there (--allow, --deny)");
		return;
	}
	admit = accept_enter(a);
	if (admit == ADMIT_REFUSED) {
		accept_refused(
		    a, fd, peer, "capped", &full, "at the hard cap (--max-open-sessions-hard)");
		return;
	}
	accept_describe(a, fd, peer, admit == ADMIT_CAPPED, &env);
	switch (a->all->cfg.sink) {
	case SINK_HUB:
		accept_to_hub(a, fd, &env);
		break;
	case SINK_COMMAND:
		accept_to_command(a, fd, &env);
		break;
	case SINK_STDIO:
		accept_to_stdio(a, fd, &env);
		break;
	}
	env_free(&env);
}

/* No credit, no accept, except to close above the hard cap. */
static bool
accept_wanted(const struct acceptor *a)
{
	const struct acceptors *all = a->all;

	if (all->closing || all->starved || all->paused || !a->listens)
		return false;
	return all->cfg.sink != SINK_HUB || hub_ready(all->cfg.hub) || admission_full(&a->caps);
}

static void
accept_failed(struct acceptor *a, int error)
{
	static struct log_class class = { .name = "failed accepts" };
	struct acceptors *all = a->all;

	if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM)
		room_short("cannot accept", error, "clients queue until one is free");
	else if (log_admit(&class, reactor_now(all->cfg.reactor)))
		log_say(LOG_L_WARN, "%s: cannot accept: %s", a->name, strerror(error));
	all->starved = true; /* whatever it is, it may last, and the socket stays readable */
	reactor_timer(all->cfg.reactor, &all->retry, reactor_now(all->cfg.reactor) + RETRY_MS);
	acceptors_update(all);
}

static void
accept_ready(struct watch *w, uint32_t got)
{
	struct acceptor *a = (struct acceptor *)((char *)w - offsetof(struct acceptor, watch));

	int fd;

	(void)got;
	for (int i = 0; i < TURN && accept_wanted(a); i++) {
		struct sockaddr_any peer = { .len = sizeof(peer.ss) };
		struct pollfd p = { .fd = a->fd, .events = POLLIN };

		/* one we were given may block, and its O_NONBLOCK is not ours to set */
		if (a->inherited && poll(&p, 1, 0) != 1)
			break;
		fd = accept4(a->fd, &peer.sa, &peer.len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd == -1) {
			if (errno == EINTR || errno == ECONNABORTED)
				continue;
			if (errno != EAGAIN)
				accept_failed(a, errno);
			break;
		}
		accept_one(a, fd, &peer);
	}
	acceptors_update(a->all);
}

static void
accept_retry(struct timer *t)
{
	struct acceptors *all = (struct acceptors *)((char *)t - offsetof(struct acceptors, retry));

	all->starved = false;
	acceptors_update(all);
}

/* ---- listening or not ---- */

static void
listen_on(struct acceptor *a)
{
	int rc;

	if (a->listens)
		return;
	rc = a->inherited ? 0 : socket_listen(a->fd, a->all->cfg.backlog);
	if (rc < 0) {
		log_say(LOG_L_ERROR, "%s: cannot listen: %s", a->name, strerror(-rc));
		a->all->cfg.failed(a->all->cfg.arg);
		return;
	}
	a->listens = true;
	log_event(LOG_L_INFO, NULL, "listening", NULL, "%s: listening", a->name);
}

static void
listen_off(struct acceptor *a)
{
	if (!a->listens || a->inherited)
		return;
	(void)socket_refuse(a->fd);
	a->listens = false;
	log_event(LOG_L_INFO, NULL, "refusing", NULL,
	    "%s: no consumer: connections are refused until one comes", a->name);
}

static void
accept_gone(struct timer *t)
{
	struct acceptors *all = (struct acceptors *)((char *)t - offsetof(struct acceptors, gone));
	struct acceptor *a;

	if (hub_has_links(all->cfg.hub))
		return;
	all->had_credit = false;
	TAILQ_FOREACH(a, &all->list, link)
		listen_off(a);
	acceptors_update(all);
}

static void
acceptors_listen(struct acceptors *all)
{
	bool hub = all->cfg.sink == SINK_HUB, every = true;
	struct acceptor *a;

	if (hub && hub_ready(all->cfg.hub))
		all->had_credit = true;
	if (hub && all->had_credit) {
		if (hub_has_links(all->cfg.hub))
			reactor_timer(all->cfg.reactor, &all->gone, CLOCK_NEVER);
		else if (!all->gone.slot)
			reactor_timer(all->cfg.reactor, &all->gone,
			    reactor_now(all->cfg.reactor) + ACCEPT_GONE_MS);
	}
	TAILQ_FOREACH(a, &all->list, link) {
		if (!hub || (all->had_credit && hub_ready(all->cfg.hub)))
			listen_on(a);
		every = every && a->listens;
	}
	if (every && !all->told_listening) {
		all->told_listening = true;
		if (all->cfg.listening)
			all->cfg.listening(all->cfg.arg);
	}
}

void
acceptors_update(struct acceptors *all)
{
	struct acceptor *a;

	if (all->closing)
		return;
	acceptors_listen(all);
	TAILQ_FOREACH(a, &all->list, link)
		reactor_want(all->cfg.reactor, &a->watch, accept_wanted(a) ? WATCH_READ : 0);
}

void
acceptors_pause(struct acceptors *all, bool on)
{
	all->paused = on;
	if (!on && all->stdio) {
		accept_leave(all->stdio);
		all->stdio = NULL;
	}
	acceptors_update(all);
}

/* ---- life ---- */

void
acceptors_init(struct acceptors *all, const struct acceptor_config *cfg)
{
	*all = (struct acceptors){ .cfg = *cfg };
	TAILQ_INIT(&all->list);
	all->gone.fire = accept_gone;
	all->retry.fire = accept_retry;
}

static struct acceptor *
acceptor_new(struct acceptors *all, const char *name)
{
	struct acceptor *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->all = all;
	a->fd = -1;
	a->caps.soft = all->cfg.soft;
	a->caps.hard = all->cfg.hard;
	snprintf(a->name, sizeof(a->name), "%s", name);
	TAILQ_INSERT_TAIL(&all->list, a, link);
	return a;
}

static void
acceptor_note(struct endpoint *ep, const char *text)
{
	log_say(LOG_L_INFO, "%s: %s", ((struct acceptor *)ep->owner)->name, text);
}

int
acceptors_bind(struct acceptors *all, const struct addr *addr, int family, char *msg, size_t cap,
    void (*trace)(struct endpoint *, enum endpoint_state, enum endpoint_state))
{
	struct endpoint_plan plan = {
		.target = *addr, .family = family, .connect_timeout = -1, .user_timeout = -1
	};
	struct acceptor *a = acceptor_new(all, addr->name);

	if (!a) {
		snprintf(msg, cap, "no memory");
		return CCF_SYSTEM;
	}
	endpoint_init(&a->ep, &plan);
	a->ep.trace = trace;
	a->ep.note = acceptor_note;
	a->ep.owner = a;
	if (endpoint_listen(&a->ep, addr, family) < 0) {
		endpoint_why(&a->ep, msg, cap);
		return endpoint_exit(&a->ep);
	}
	a->fd = a->ep.fd;
	a->inherited = socket_listens(a->fd); /* fd:N, or a Unix socket */
	if (addr->kind == ADDR_UNIX)
		(void)socket_listen(a->fd, all->cfg.backlog);
	if (addr->kind == ADDR_FD)
		(void)socket_tune(a->fd);
	(void)socket_local(a->fd, &a->local);
	reactor_watch(all->cfg.reactor, &a->watch, a->fd, accept_ready);
	return 0;
}

int
acceptors_inherit(struct acceptors *all, int fd, const char *name, char *msg, size_t cap)
{
	struct acceptor *a;

	if (!socket_listens(fd) || socket_kind(fd) != SOCK_STREAM) {
		snprintf(msg, cap,
		    "LISTEN_FDS: descriptor %d (%s) is not a listening stream socket", fd, name);
		return CCF_USAGE;
	}
	a = acceptor_new(all, name);
	if (!a) {
		snprintf(msg, cap, "no memory");
		return CCF_SYSTEM;
	}
	endpoint_init(&a->ep, NULL);
	a->fd = fd;
	a->inherited = true;
	(void)socket_tune(fd);
	(void)socket_local(fd, &a->local);
	reactor_watch(all->cfg.reactor, &a->watch, fd, accept_ready);
	return 0;
}

void
acceptors_start(struct acceptors *all)
{
	acceptors_update(all);
}

static void
acceptor_shut(struct acceptor *a)
{
	if (a->fd == -1)
		return;
	reactor_forget(a->all->cfg.reactor, &a->watch);
	if (a->ep.fd == -1)
		close(a->fd);
	endpoint_close(&a->ep);
	a->fd = -1;
	a->listens = false;
}

void
acceptors_close(struct acceptors *all)
{
	struct acceptor *a;

	if (all->closing)
		return;
	all->closing = true;
	reactor_timer(all->cfg.reactor, &all->gone, CLOCK_NEVER);
	reactor_timer(all->cfg.reactor, &all->retry, CLOCK_NEVER);
	TAILQ_FOREACH(a, &all->list, link)
		acceptor_shut(a);
	if (all->open == 0)
		all->cfg.idle(all->cfg.arg);
}

void
acceptors_abandon(struct acceptors *all)
{
	struct accepted *c, *next;
	struct acceptor *a;

	for (c = all->accepted; c; c = next) {
		next = c->next;
		if (c->child.pid > 0) {
			kill(c->child.pid, SIGTERM);
			child_abandon(all->cfg.children, &c->child);
		}
		link_forget(&c->handed);
		free(c);
	}
	all->accepted = NULL;
	while ((a = TAILQ_FIRST(&all->list))) {
		TAILQ_REMOVE(&all->list, a, link);
		acceptor_shut(a);
		free(a);
	}
}

void
acceptors_rows(const struct acceptors *all, struct text *t)
{
	struct conn_row row;

	for (const struct accepted *c = all->accepted; c; c = c->next) {
		rows_from(&row, &c->tell, all->cfg.sink == SINK_COMMAND ? "command" : "handed");
		rows_json(t, &row, 1);
	}
}
