/* flow/peer_session_new - a session begins: the pair of sockets, the environment, the COMMAND; or
 * it does not, and why. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/log.h"
#include "base/metrics.h"
#include "flow/peer_session_parts.h"
#include "flow/room.h"

#define CLOSING_SPARE 16 /* that have closed their socket, and may be gone already */

extern char **environ;

/* 0; -errno, and nothing is open. */
static int
session_pair(int queue, int pair[2])
{
	const struct sockaddr_un unnamed = { .sun_family = AF_UNIX };
	int rc = 0, value = queue / 2; /* the kernel counts twice what it is asked for */

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	for (int i = 0; i < 2 && rc == 0; i++)
		if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &value, sizeof(value)) < 0 &&
		    setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)) < 0)
			rc = -errno;
	/* The kernel makes a name up.  Nobody can connect to what does not listen. */
	if (rc == 0 && bind(pair[1], (const struct sockaddr *)&unnamed, sizeof(sa_family_t)) < 0)
		rc = -errno;
	if (rc < 0) {
		close(pair[0]);
		close(pair[1]);
	}
	return rc;
}

/* Ours that was asked; what a socket that is bound to one address says nothing about is that. */
static void
local_of(const struct receiver *r, const struct datagram *d, struct sockaddr_any *ret)
{
	*ret = r->local;
	if (IN6_IS_ADDR_UNSPECIFIED(&d->local))
		return;
	*ret = (struct sockaddr_any){
		.len = sizeof(ret->in6),
		.in6 = { .sin6_family = AF_INET6, .sin6_addr = d->local },
	};
	if (IN6_IS_ADDR_LINKLOCAL(&d->local))
		ret->in6.sin6_scope_id = d->ifindex;
}

static void
session_describe(struct peer_session *s, const struct datagram *d, struct env *env)
{
	const char *prefix = s->all->cfg.id_prefix;
	struct receiver *r = s->from;
	struct sockaddr_any local;
	char ip[ADDR_TEXT_MAX];

	local_of(r, d, &local);
	(void)env_set(env, "PROTO", "UDP");
	(void)env_set(env, "UDPLOCALIP", addr_ip(&local, ip, sizeof(ip)));
	(void)env_setf(env, "UDPLOCALPORT", "%u", addr_port(&r->local));
	(void)env_set(env, "UDPREMOTEIP", addr_ip(&d->peer, ip, sizeof(ip)));
	(void)env_setf(env, "UDPREMOTEPORT", "%u", addr_port(&d->peer));
	(void)env_set(env, "CCF_INTERFACE", r->name);
	(void)env_setf(env, "CCF_CONN_ID", "%s%s%s#%" PRIu64, prefix ? prefix : "",
	    prefix ? "/" : "", r->name, ++r->next_id);
	(void)env_setf(env, "CCF_ACCEPTED", "%" PRId64, clock_ms());
}

/* 0; -errno, and the session is not there. */
static int
session_run(struct peer_session *s, const struct env *env, int fd)
{
	const struct peer_sessions_config *cfg = &s->all->cfg;
	char **envp = env_exec(env, environ);
	struct spawn spawn = { .argv = cfg->argv, .envp = envp, .in = fd, .out = fd };
	int rc = -ENOMEM;

	if (envp)
		rc = children_start(cfg->children, &s->child, &spawn, peer_session_exited);
	free(envp);
	return rc;
}

/* The datagram waits in the socket before the COMMAND is there: so it is read, whatever the COMMAND
 * does then, and one that does not read at all cannot be started twice for it.  NULL, or the reason
 * for which it was dropped. */
static const char *
session_begin(struct peer_session *s, const struct datagram *d, const struct env *env)
{
	static struct log_class class = { .name = "commands that could not be run" };
	int pair[2], rc = session_pair(s->all->cfg.queue, pair);
	bool fits;

	if (rc < 0) {
		room_short("cannot start a session", -rc,
		    "what new peers send is dropped until descriptors are free");
		return "no-descriptors";
	}
	s->fd = pair[0];
	fits = send(s->fd, d->bytes, d->len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
	if (fits) {
		rc = session_run(s, env, pair[1]);
		metric_add(METRIC_COMMANDS, rc < 0 ? "failed" : "ok", 1);
	}
	close(pair[1]);
	if (fits && rc == 0)
		return NULL;
	close(s->fd);
	if (!fits)
		return "queue-full";
	if (log_admit(&class, reactor_now(s->all->cfg.reactor)))
		log_say(LOG_L_ERROR, "cannot run %s: %s", s->all->cfg.argv[0], strerror(-rc));
	return "cannot-run";
}

static const char *
session_new(struct peer_sessions *all, struct receiver *r, const struct datagram *d,
    const struct peer_key *key)
{
	struct peer_session *s = calloc(1, sizeof(*s));
	struct env env = { 0 };
	const char *dropped;

	if (!s)
		return "no-memory";
	*s = (struct peer_session){ .all = all, .from = r, .peer.key = *key, .in = d->len };
	s->to = (struct datagram){ .peer = d->peer, .local = d->local, .ifindex = d->ifindex };
	session_describe(s, d, &env);
	tell_from(&s->tell, &env);
	dropped = session_begin(s, d, &env);
	env_free(&env);
	if (dropped) {
		free(s);
		return dropped;
	}
	(void)peers_enter(&r->peers, &s->peer, reactor_now(all->cfg.reactor));
	(void)admission_enter(&r->caps);
	peer_session_enter(s, SESSION_OPEN);
	peer_sessions_arm(all);
	metric_add(METRIC_TAKEN, NULL, 1);
	tell_open(&s->tell, "session");
	return NULL;
}

/* One line an episode, which lasts until a session of that interface, or its COMMAND, ends. */
static void
tell_full(const struct peer_sessions *all, struct receiver *r, const struct datagram *d)
{
	static struct log_class class = { .name = "datagrams above the hard cap" };
	char text[ADDR_TEXT_MAX];
	struct log_who who = {
		.iface = r->name,
		.peer = addr_text(&d->peer, text, sizeof(text)),
	};

	if (r->told_full || !log_admit(&class, reactor_now(all->cfg.reactor)))
		return;
	r->told_full = true;
	if (admission_full(&r->caps))
		log_event(LOG_L_INFO, &who, "capped", NULL,
		    "%s: dropped: at the hard cap of %u sessions (--max-open-sessions-hard)",
		    r->name, r->caps.hard);
	else
		log_event(LOG_L_INFO, &who, "capped", NULL,
		    "%s: dropped: the COMMANDs of %u sessions that are over have not exited "
		    "(--max-open-sessions-hard)",
		    r->name, r->leaving + r->closing);
}

/* Also of processes: those of sessions that are over are no more than those of the others. */
static bool
is_full(const struct receiver *r)
{
	unsigned hard = r->caps.hard;

	return admission_full(&r->caps) ||
	       (hard && (r->leaving >= hard || r->leaving + r->closing >= hard + CLOSING_SPARE));
}

static bool
may_start(struct peer_sessions *all, const struct receiver *r, const struct datagram *d)
{
	static struct log_class class = { .name = "datagrams above --rate-sessions" };
	char text[ADDR_TEXT_MAX];
	struct log_who who = {
		.iface = r->name,
		.peer = addr_text(&d->peer, text, sizeof(text)),
	};
	int64_t rate = all->cfg.starts, now_us = clock_us();

	if (rate == 0)
		return true;
	if (bucket_has(&all->starts, rate, now_us)) {
		bucket_take(&all->starts, rate, now_us);
		return true;
	}
	if (log_admit(&class, reactor_now(all->cfg.reactor)))
		log_event(LOG_L_INFO, &who, "dropped", NULL, "%s: dropped: above --rate-sessions",
		    r->name);
	return false;
}

void
peer_session_newcomer(struct peer_sessions *all, struct receiver *r, const struct datagram *d,
    const struct peer_key *key)
{
	const char *dropped;

	if (d->len == 0)
		dropped = "empty";
	else if (is_full(r)) {
		r->caps.refused++;
		metric_add(METRIC_REFUSED, "hard-cap", 1);
		tell_full(all, r, d);
		dropped = "hard-cap";
	} else if (!may_start(all, r, d))
		dropped = "rate-sessions";
	else
		dropped = session_new(all, r, d, key);
	if (dropped)
		receiver_drop(r, d, dropped);
}
