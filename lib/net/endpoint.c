/* net/endpoint - CCF's TCPImpl as a machine that somebody else turns.  Every change of state goes
 * through enter(), every answer is computed from the state by needs().  A failure keeps its FAILED
 * state until the retry begins, so that whoever looks sees why nothing happens. */
#include "net/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "net/socket.h"

#define BIT(state) (1u << (state))

static const char *const names[] = {
	[EP_FRESH] = "FRESH",
	[EP_LISTENING_RESOLVING] = "LISTENING_RESOLVING",
	[EP_LISTENING] = "LISTENING",
	[EP_BINDING] = "BINDING",
	[EP_BINDING_FAILED] = "BINDING_FAILED",
	[EP_CONNECTING_RESOLVING] = "CONNECTING_RESOLVING",
	[EP_CONNECTING] = "CONNECTING",
	[EP_CONNECTED] = "CONNECTED",
	[EP_DISCONNECTED] = "DISCONNECTED",
	[EP_RECONNECTING] = "RECONNECTING",
	[EP_RESOLVING_FAILED] = "RESOLVING_FAILED",
	[EP_LISTENING_FAILED] = "LISTENING_FAILED",
	[EP_CONNECTING_FAILED] = "CONNECTING_FAILED",
};

static const uint32_t legal[] = {
	[EP_FRESH] = BIT(EP_LISTENING_RESOLVING) | BIT(EP_BINDING) | BIT(EP_CONNECTING_RESOLVING) |
		     BIT(EP_CONNECTED),
	[EP_LISTENING_RESOLVING] =
	    BIT(EP_LISTENING) | BIT(EP_RESOLVING_FAILED) | BIT(EP_LISTENING_FAILED),
	[EP_LISTENING] = 0,
	[EP_BINDING] = BIT(EP_CONNECTING_RESOLVING) | BIT(EP_BINDING_FAILED),
	[EP_BINDING_FAILED] = BIT(EP_BINDING),
	[EP_CONNECTING_RESOLVING] =
	    BIT(EP_CONNECTING) | BIT(EP_RESOLVING_FAILED) | BIT(EP_CONNECTING_FAILED),
	[EP_CONNECTING] =
	    BIT(EP_CONNECTED) | BIT(EP_CONNECTING_RESOLVING) | BIT(EP_CONNECTING_FAILED),
	[EP_CONNECTED] = BIT(EP_DISCONNECTED),
	[EP_DISCONNECTED] = BIT(EP_RECONNECTING),
	[EP_RECONNECTING] = BIT(EP_FRESH),
	[EP_RESOLVING_FAILED] = BIT(EP_CONNECTING_RESOLVING),
	[EP_LISTENING_FAILED] = 0,
	[EP_CONNECTING_FAILED] = BIT(EP_CONNECTING_RESOLVING),
};

const char *
endpoint_state_name(enum endpoint_state state)
{
	return (size_t)state < sizeof(names) / sizeof(*names) ? names[state] : "?";
}

/* A bug of ours, not an event: there is no log here, and the core is the report. */
static _Noreturn void
illegal(enum endpoint_state from, enum endpoint_state to)
{
	char text[128];
	int n = snprintf(text, sizeof(text), "endpoint: illegal move %s -> %s\n",
	    endpoint_state_name(from), endpoint_state_name(to));

	if (write(STDERR_FILENO, text, (size_t)n) < 0) {
		/* abort(3) has to say it alone */
	}
	abort();
}

/* The one door. */
static void
enter(struct endpoint *ep, enum endpoint_state to)
{
	enum endpoint_state from = ep->state;

	if (!(legal[from] & BIT(to)))
		illegal(from, to);
	ep->state = to;
	if (ep->trace)
		ep->trace(ep, from, to);
}

static void note(struct endpoint *, const char *, ...) __attribute__((format(printf, 2, 3)));

static void
note(struct endpoint *ep, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!ep->note)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ep->note(ep, text);
}

static bool
failed(const struct endpoint *ep)
{
	return BIT(ep->state) & (BIT(EP_BINDING_FAILED) | BIT(EP_RESOLVING_FAILED) |
				    BIT(EP_LISTENING_FAILED) | BIT(EP_CONNECTING_FAILED));
}

static bool
retry_left(const struct endpoint *ep)
{
	return failed(ep) && ep->tried < ep->plan.retries;
}

bool
endpoint_over(const struct endpoint *ep)
{
	return ep->state == EP_CONNECTED || ep->state == EP_LISTENING ||
	       (failed(ep) && !retry_left(ep));
}

/* What to wait for, from the state alone. */
static void
needs(struct endpoint *ep, struct endpoint_need *need)
{
	*need = (struct endpoint_need){ .fd = -1, .deadline = CLOCK_NEVER };
	if (ep->state == EP_CONNECTING)
		need->fd = ep->fd;
	if (ep->state == EP_CONNECTING || retry_left(ep))
		need->deadline = ep->deadline;
	if (ep->awaits && !ep->said) {
		ep->said = true;
		need->lookup = ep->awaits;
		need->lookup_passive = ep->state == EP_BINDING;
	}
}

static void
await_lookup(struct endpoint *ep, const struct addr *name)
{
	ep->awaits = name;
	ep->said = false;
}

static void
blame(struct endpoint *ep, int error, int gai, bool timed_out)
{
	ep->error = error;
	ep->gai = gai;
	ep->timed_out = timed_out;
}

static void
forget_answer(struct endpoint *ep)
{
	free(ep->answer);
	ep->answer = NULL;
	ep->next = 0;
	ep->awaits = NULL;
}

int64_t
endpoint_backoff(const struct endpoint_plan *plan, unsigned n)
{
	int64_t most = plan->retry_min;

	for (; n > 0 && most < plan->retry_max; n--)
		most *= 2;
	if (most > plan->retry_max)
		most = plan->retry_max;
	if (most <= 0)
		return 0;
	return arc4random_uniform(most < UINT32_MAX ? (uint32_t)most + 1 : UINT32_MAX);
}

static void
fail(struct endpoint *ep, enum endpoint_state state, int64_t now)
{
	fds_close(&ep->fd);
	forget_answer(ep);
	enter(ep, state);
	ep->deadline =
	    retry_left(ep) ? clock_after(now, endpoint_backoff(&ep->plan, ep->tried)) : CLOCK_NEVER;
}

/* --- reaching one address --- */

static bool
suits(const struct endpoint *ep, const struct sockaddr_any *at)
{
	return !ep->bound_known || at->sa.sa_family == ep->bound.sa.sa_family;
}

static const struct sockaddr_any *
next_address(struct endpoint *ep)
{
	char text[ADDR_TEXT_MAX], bound[ADDR_TEXT_MAX];

	while (ep->answer && ep->next < ep->answer->n) {
		const struct sockaddr_any *at = &ep->answer->at[ep->next++];

		if (suits(ep, at))
			return at;
		note(ep, "%s is passed over: it is of another family than %s, which is bound first",
		    addr_text(at, text, sizeof(text)), addr_ip(&ep->bound, bound, sizeof(bound)));
	}
	return NULL;
}

static int
bind_first(int fd, const struct sockaddr_any *bound)
{
	int on = 1;

	/* The port is chosen when the peer is known: else there are only 28,000 for all peers
	 * together. */
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	return bind(fd, &bound->sa, bound->len) < 0 ? -errno : 0;
}

static int
client_socket(const struct endpoint *ep, const struct sockaddr_any *at)
{
	int type = ep->plan.target.kind == ADDR_UDP ? SOCK_DGRAM : SOCK_STREAM;
	int fd, rc;

	fd = socket(at->sa.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	rc = socket_tune(fd);
	if (rc == 0 && ep->bound_known)
		rc = bind_first(fd, &ep->bound);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* While nobody listens on a port that the kernel also hands out, a client can be given that very
 * port and meet itself. */
static bool
met_itself(int fd, const struct sockaddr_any *peer)
{
	struct sockaddr_any local;

	return peer->sa.sa_family != AF_UNIX && socket_local(fd, &local) == 0 &&
	       local.len == peer->len && !memcmp(&local.ss, &peer->ss, peer->len);
}

/* 0: connected.  -EINPROGRESS: not yet known.  SO_ERROR is asked only of who is not connected:
 * after that it would swallow the one report of a reset. */
static int
judge(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	struct sockaddr_any peer;
	int error = 0;
	socklen_t len = sizeof(error);

	if (poll(&p, 1, 0) <= 0)
		return -EINPROGRESS;
	if (socket_peer(fd, &peer) == 0) {
		if (!met_itself(fd, &peer))
			return 0;
		socket_reset(fd);
		return -ECONNREFUSED;
	}
	if (socket_was_up(fd)) /* and is cut already: who reads it will be told */
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return -errno;
	return error ? -error : -ECONNREFUSED;
}

static int
connect_once(int fd, const struct sockaddr_any *at)
{
	if (connect(fd, &at->sa, at->len) == 0) /* a Unix socket, or UDP */
		return met_itself(fd, at) ? -ECONNREFUSED : 0;
	return errno == EINPROGRESS ? judge(fd) : -errno;
}

static void
connected(struct endpoint *ep)
{
	if (ep->plan.user_timeout >= 0 && ep->plan.target.kind == ADDR_TCP) {
		unsigned ms =
		    ep->plan.user_timeout < INT32_MAX ? (unsigned)ep->plan.user_timeout : INT32_MAX;

		(void)setsockopt(ep->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	}
	ep->took_connect = clock_us() - ep->began;
	blame(ep, 0, 0, false);
	forget_answer(ep);
	enter(ep, EP_CONNECTED);
}

/* Starts on the next address; what fails at once makes room for the one after it. */
static void
connect_next(struct endpoint *ep, int64_t now)
{
	const struct sockaddr_any *at;
	char why[512];
	int rc;

	while ((at = next_address(ep))) {
		if (ep->error)
			note(ep, "%s; trying the next address", endpoint_why(ep, why, sizeof(why)));
		if (ep->state == EP_CONNECTING)
			enter(ep, EP_CONNECTING_RESOLVING);
		ep->peer = *at;
		ep->began = clock_us();
		rc = client_socket(ep, at);
		if (rc >= 0) {
			ep->fd = rc;
			ep->deadline = clock_after(now, ep->plan.connect_timeout);
			enter(ep, EP_CONNECTING);
			rc = connect_once(ep->fd, at);
		}
		if (rc == 0)
			connected(ep);
		if (rc == 0 || rc == -EINPROGRESS)
			return;
		fds_close(&ep->fd);
		blame(ep, -rc, 0, false);
	}
	if (!ep->error)
		blame(ep, EAFNOSUPPORT, 0, false);
	fail(ep, EP_CONNECTING_FAILED, now);
}

static void
connect_failed(struct endpoint *ep, int error, bool timed_out, int64_t now)
{
	fds_close(&ep->fd);
	ep->took_connect = clock_us() - ep->began;
	blame(ep, error, 0, timed_out);
	connect_next(ep, now);
}

/* --- the way there: bind, resolve --- */

static void
resolving_failed(struct endpoint *ep, int gai, int64_t now)
{
	blame(ep, 0, gai, false);
	fail(ep, EP_RESOLVING_FAILED, now);
}

/* Takes answer. */
static void
resolved(struct endpoint *ep, struct answer *answer, int64_t now)
{
	ep->took_resolve = clock_us() - ep->began;
	if (!answer || answer->error || answer->n == 0) {
		int gai = !answer ? EAI_MEMORY : answer->error ? answer->error : EAI_NONAME;

		free(answer);
		resolving_failed(ep, gai, now);
		return;
	}
	forget_answer(ep);
	ep->answer = answer;
	connect_next(ep, now);
}

static void
start_resolving(struct endpoint *ep, int64_t now)
{
	struct answer *answer = NULL;
	int rc;

	enter(ep, EP_CONNECTING_RESOLVING);
	blame(ep, 0, 0, false);
	ep->peer = (struct sockaddr_any){ 0 };
	ep->began = clock_us();
	if (ep->plan.target.kind == ADDR_FD) {
		blame(ep, EOPNOTSUPP, 0, false);
		fail(ep, EP_CONNECTING_FAILED, now);
		return;
	}
	rc = resolve_numeric(&ep->plan.target, ep->plan.family, false, &answer);
	if (rc == -EINVAL)
		await_lookup(ep, &ep->plan.target);
	else
		resolved(ep, answer, now);
}

static int
try_bind(const struct sockaddr_any *at)
{
	int fd, rc;

	fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	rc = bind_first(fd, at);
	close(fd);
	return rc;
}

/* Whether at could ever be bound for a target that is written as a number. */
static bool
suits_target(const struct endpoint *ep, const struct sockaddr_any *at)
{
	struct sockaddr_any target;

	return !*ep->plan.target.host || addr_literal(&ep->plan.target, &target) < 0 ||
	       target.sa.sa_family == at->sa.sa_family;
}

static bool
bind_to(struct endpoint *ep, const struct sockaddr_any *at)
{
	int rc = try_bind(at);

	if (rc < 0) {
		blame(ep, -rc, 0, false);
		return false;
	}
	ep->bound = *at;
	ep->bound_known = true;
	return true;
}

/* The first address that is ours; where the target's family is known, one of that family before
 * others. */
static void
bind_resolved(struct endpoint *ep, const struct answer *answer, int64_t now)
{
	ep->awaits = NULL;
	if (answer->error || answer->n == 0)
		blame(ep, 0, answer->error ? answer->error : EAI_NONAME, false);
	for (int pass = 0; pass < 2 && !ep->bound_known; pass++)
		for (size_t i = 0; i < answer->n && !ep->bound_known; i++)
			if (suits_target(ep, &answer->at[i]) == (pass == 0))
				bind_to(ep, &answer->at[i]);
	if (ep->bound_known)
		start_resolving(ep, now);
	else
		fail(ep, EP_BINDING_FAILED, now);
}

/* --bind as an address: without a port, and IPv6 with or without brackets. */
static int
parse_bind_host(const char *host, struct addr *ret)
{
	char text[ADDR_HOST_MAX + 8], msg[8];
	bool bare6 = strchr(host, ':') && *host != '[';

	if (!*host ||
	    snprintf(text, sizeof(text), bare6 ? "[%s]:0" : "%s:0", host) >= (int)sizeof(text))
		return -EINVAL;
	return addr_parse(ret, text, 0, msg, sizeof(msg));
}

static void
start_binding(struct endpoint *ep, int64_t now)
{
	static const struct answer no_name = { .error = EAI_NONAME },
				   no_memory = { .error = EAI_MEMORY };
	struct answer *answer = NULL;
	int rc;

	enter(ep, EP_BINDING);
	blame(ep, 0, 0, false);
	if (parse_bind_host(ep->plan.bind_host, &ep->bind_addr) < 0) {
		bind_resolved(ep, &no_name, now);
		return;
	}
	rc = resolve_numeric(&ep->bind_addr, ep->plan.family, true, &answer);
	if (rc == -EINVAL)
		await_lookup(ep, &ep->bind_addr);
	else
		bind_resolved(ep, answer ? answer : &no_memory, now);
	free(answer);
}

static void
start(struct endpoint *ep, int64_t now)
{
	if (ep->plan.bind_host && !ep->bound_known)
		start_binding(ep, now);
	else
		start_resolving(ep, now);
}

static void
event(struct endpoint *ep, int64_t now)
{
	int rc;

	if (ep->state != EP_CONNECTING)
		return;
	rc = judge(ep->fd);
	if (rc == 0)
		connected(ep);
	else if (rc != -EINPROGRESS)
		connect_failed(ep, -rc, false, now);
}

static void
time_passed(struct endpoint *ep, int64_t now)
{
	if (now < ep->deadline)
		return;
	if (ep->state == EP_CONNECTING)
		connect_failed(ep, ETIMEDOUT, true, now);
	else if (retry_left(ep)) {
		ep->tried++;
		start(ep, now);
	}
}

void
endpoint_step(
    struct endpoint *ep, enum endpoint_event what, int64_t now, struct endpoint_need *need)
{
	switch (what) {
	case EP_START:
		start(ep, now);
		break;
	case EP_EVENT:
		event(ep, now);
		break;
	case EP_TIME:
		time_passed(ep, now);
		break;
	}
	needs(ep, need);
}

void
endpoint_resolved(
    struct endpoint *ep, const struct answer *answer, int64_t now, struct endpoint_need *need)
{
	if (ep->awaits && ep->state == EP_BINDING)
		bind_resolved(ep, answer, now);
	else if (ep->awaits && ep->state == EP_CONNECTING_RESOLVING)
		resolved(ep, answer_copy(answer), now);
	needs(ep, need);
}

/* --- life --- */

void
endpoint_init(struct endpoint *ep, const struct endpoint_plan *plan)
{
	static const struct endpoint_plan none = { .connect_timeout = -1, .user_timeout = -1 };

	*ep = (struct endpoint){ .fd = -1, .path.fd = -1, .deadline = CLOCK_NEVER };
	ep->plan = plan ? *plan : none;
}

void
endpoint_close(struct endpoint *ep)
{
	if (*ep->path.path) {
		handoff_unbind(&ep->path);
		ep->fd = -1;
	}
	fds_close(&ep->fd);
	forget_answer(ep);
}

int
endpoint_take_fd(struct endpoint *ep)
{
	int fd = ep->fd;

	if (*ep->path.path)
		return fcntl(fd, F_DUPFD_CLOEXEC, 0);
	ep->fd = -1;
	return fd;
}

void
endpoint_peer(struct endpoint *ep, int fd)
{
	ep->fd = fd;
	(void)socket_peer(fd, &ep->peer);
	enter(ep, EP_CONNECTED);
}

void
endpoint_lost(struct endpoint *ep)
{
	fds_close(&ep->fd);
	enter(ep, EP_DISCONNECTED);
}

void
endpoint_again(struct endpoint *ep)
{
	enter(ep, EP_RECONNECTING);
	ep->tried = 0;
	ep->bound_known = false;
	enter(ep, EP_FRESH);
}

/* --- listening --- */

static int
listen_inherited(int fd, int *ret)
{
	int copy, kind = socket_kind(fd);

	if (kind < 0)
		return kind;
	if (kind != SOCK_STREAM || !socket_listens(fd))
		return -EINVAL;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return -errno;
	*ret = copy;
	return 0;
}

static int
listen_path(struct endpoint *ep, int *ret)
{
	int rc = handoff_bind(&ep->path, ep->plan.target.path, 0600, (gid_t)-1, SOCK_STREAM);

	if (rc == 0)
		*ret = ep->path.fd;
	return rc;
}

static int
bind_and_tune(const struct sockaddr_any *at, bool only_v6)
{
	int rc, fd = socket_bind(at, only_v6, NULL);

	if (fd < 0)
		return fd;
	rc = socket_tune(fd);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* :PORT stands for one socket: 0.0.0.0 is for where there is no IPv6, not for where somebody has
 * the port. */
static bool
may_fall_back(const struct endpoint *ep)
{
	return *ep->plan.target.host || ep->error == EAFNOSUPPORT || ep->error == EADDRNOTAVAIL;
}

static int
listen_inet(struct endpoint *ep, int *ret)
{
	struct answer *answer;
	bool only_v6 = *ep->plan.target.host || ep->plan.family == AF_INET6;
	char why[512];
	int fd = -EADDRNOTAVAIL;

	if (resolve_now(&ep->plan.target, ep->plan.family, true, &answer) < 0)
		return -ENOMEM;
	ep->gai = answer->error;
	for (size_t i = 0; i < answer->n; i++) {
		if (i > 0 && !may_fall_back(ep))
			break;
		if (i > 0)
			note(ep, "%s; trying the next address", endpoint_why(ep, why, sizeof(why)));
		ep->peer = answer->at[i];
		fd = bind_and_tune(&ep->peer, only_v6);
		if (fd >= 0)
			break;
		ep->error = -fd;
	}
	free(answer);
	if (fd < 0)
		return fd;
	*ret = fd;
	return 0;
}

int
endpoint_listen(struct endpoint *ep, const struct addr *addr, int family)
{
	int rc;

	enter(ep, EP_LISTENING_RESOLVING);
	ep->plan = (struct endpoint_plan){ .target = *addr, .family = family };
	if (addr->kind == ADDR_FD)
		rc = listen_inherited(addr->fd, &ep->fd);
	else if (addr->kind == ADDR_UNIX)
		rc = listen_path(ep, &ep->fd);
	else if (addr->kind == ADDR_TCP)
		rc = listen_inet(ep, &ep->fd);
	else
		rc = -EPROTONOSUPPORT;
	if (rc < 0) {
		blame(ep, ep->gai ? 0 : -rc, ep->gai, false);
		enter(ep, ep->gai ? EP_RESOLVING_FAILED : EP_LISTENING_FAILED);
		return rc;
	}
	blame(ep, 0, 0, false);
	enter(ep, EP_LISTENING);
	return 0;
}
