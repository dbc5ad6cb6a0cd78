/* net/socket - what every socket of ours is told, and how a port is bound so that it is ours alone.
 *
 * SO_REUSEADDR is needed to bind over connections that a former process left behind (TIME_WAIT, or
 * alive in a child), and every one of them must have had it too: accepted sockets inherit it from
 * the listening one.  But a bound socket that has it and does not listen lets others with it bind
 * the same port.  So it is on while we bind over remains and while we listen, and off in between.
 */
#include "net/socket.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* not netinet/tcp.h: glibc's tcp_info ends before bytes_acked */
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/env.h"
#include "net/handoff.h"

static int
set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int
get(int fd, int option)
{
	int value;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? -errno : value;
}

static bool
is_tcp(int fd)
{
	return get(fd, SO_PROTOCOL) == IPPROTO_TCP;
}

int
socket_kind(int fd)
{
	return get(fd, SO_TYPE);
}

int
socket_family(int fd)
{
	return get(fd, SO_DOMAIN);
}

bool
socket_listens(int fd)
{
	return get(fd, SO_ACCEPTCONN) > 0;
}

int
socket_tune(int fd)
{
	static const struct {
		int level, option, value;
	} settings[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, 30 },
		{ IPPROTO_TCP, TCP_KEEPINTVL, 1 },
		{ IPPROTO_TCP, TCP_KEEPCNT, 10 },
	};
	int rc = 0;

	if (!is_tcp(fd))
		return 0;
	for (size_t i = 0; rc == 0 && i < sizeof(settings) / sizeof(*settings); i++)
		rc = set(fd, settings[i].level, settings[i].option, settings[i].value);
	return rc;
}

static int
bind_once(const struct sockaddr_any *at, bool only_v6, bool over_remains)
{
	int fd, rc = 0;

	fd = socket(at->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (at->sa.sa_family == AF_INET6)
		rc = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, only_v6);
	if (rc == 0 && over_remains)
		rc = set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (rc == 0 && bind(fd, &at->sa, at->len) < 0)
		rc = -errno;
	if (rc == 0 && over_remains)
		rc = set(fd, SOL_SOCKET, SO_REUSEADDR, 0);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* A port that the kernel chose is given back by shutdown(2); one that was asked for by number stays
 * (Linux 6.18: SOCK_BINDPORT_LOCK).  So a second socket asks for it while the first still has it.
 */
static int
bind_chosen(const struct sockaddr_any *at, bool only_v6)
{
	struct sockaddr_any chosen;
	int first, fd;

	first = bind_once(at, only_v6, false);
	if (first < 0)
		return first;
	fd = socket_local(first, &chosen);
	if (fd == 0)
		fd = set(first, SOL_SOCKET, SO_REUSEADDR, 1);
	if (fd == 0)
		fd = bind_once(&chosen, only_v6, true);
	close(first);
	return fd;
}

int
socket_bind(const struct sockaddr_any *at, bool only_v6, bool *ret_shared)
{
	struct handoff_bound bound;
	bool shared = false;
	int fd;

	if (at->sa.sa_family == AF_UNIX) {
		fd = handoff_bind(&bound, at->un.sun_path, 0600, (gid_t)-1, SOCK_STREAM);
		if (fd == 0)
			fd = bound.fd;
	} else if (addr_port(at) == 0) {
		fd = bind_chosen(at, only_v6);
	} else {
		fd = bind_once(at, only_v6, false);
		if (fd == -EADDRINUSE) {
			shared = true;
			fd = bind_once(at, only_v6, true);
		}
	}
	if (fd >= 0 && ret_shared)
		*ret_shared = shared;
	return fd;
}

int
socket_listen(int fd, int backlog)
{
	int rc;

	if (is_tcp(fd)) {
		rc = set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
		if (rc < 0)
			return rc;
	}
	return listen(fd, backlog) < 0 ? -errno : 0;
}

bool
socket_is_here(const struct sockaddr_any *at)
{
	struct sockaddr_any any_port = *at;
	int fd = socket(at->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool is;

	if (at->sa.sa_family == AF_INET6)
		any_port.in6.sin6_port = 0;
	else
		any_port.in.sin_port = 0;
	is = fd >= 0 && bind(fd, &any_port.sa, at->len) == 0;
	if (fd >= 0)
		close(fd);
	return is;
}

int
socket_refuse(int fd)
{
	int rc;

	/* An AF_UNIX socket would refuse for ever: listen(2) does not undo its shutdown. */
	if (!is_tcp(fd))
		return -EOPNOTSUPP;
	/* First, so that nobody can bind in between.  What was accepted keeps its own setting; what
	 * waits in the backlog is reset by the shutdown anyway. */
	rc = set(fd, SOL_SOCKET, SO_REUSEADDR, 0);
	if (rc == 0 && shutdown(fd, SHUT_RDWR) < 0)
		rc = -errno;
	return rc;
}

int
socket_local(int fd, struct sockaddr_any *ret)
{
	struct sockaddr_any a = { .len = sizeof(a.ss) };

	if (getsockname(fd, &a.sa, &a.len) < 0)
		return -errno;
	*ret = a;
	return 0;
}

int
socket_peer(int fd, struct sockaddr_any *ret)
{
	struct sockaddr_any a = { .len = sizeof(a.ss) };

	if (getpeername(fd, &a.sa, &a.len) < 0)
		return -errno;
	*ret = a;
	return 0;
}

static int
describe_side(
    struct env *env, const char *ip_name, const char *port_name, const struct sockaddr_any *a)
{
	char ip[ADDR_TEXT_MAX];
	int rc;

	rc = env_set(env, ip_name, addr_ip(a, ip, sizeof(ip)));
	return rc < 0 ? rc : env_setf(env, port_name, "%u", addr_port(a));
}

int
socket_describe(int fd, struct env *env)
{
	struct sockaddr_any local, peer;
	bool tcp = is_tcp(fd);
	int rc;

	rc = socket_local(fd, &local);
	if (rc < 0)
		return rc;
	env_unset_prefix(env, "TCP");
	env_unset_prefix(env, "UDP");
	if (local.sa.sa_family == AF_UNIX)
		return env_set(env, "PROTO", "UNIX");
	rc = env_set(env, "PROTO", tcp ? "TCP" : "UDP");
	if (rc == 0)
		rc = describe_side(env, tcp ? "TCPLOCALIP" : "UDPLOCALIP",
		    tcp ? "TCPLOCALPORT" : "UDPLOCALPORT", &local);
	/* A client that has reset already has no name any more. */
	if (rc == 0)
		rc = socket_peer(fd, &peer);
	return rc < 0 ? rc
		      : describe_side(env, tcp ? "TCPREMOTEIP" : "UDPREMOTEIP",
			    tcp ? "TCPREMOTEPORT" : "UDPREMOTEPORT", &peer);
}

int64_t
socket_unsent(int fd)
{
	int n;

	return ioctl(fd, SIOCOUTQ, &n) < 0 ? -errno : n;
}

int64_t
socket_acked(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	uint64_t sent, acked;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
		return -errno;
	/* The SYN of who connects counts as a byte, and later so does the FIN. */
	sent = info.tcpi_bytes_sent - info.tcpi_bytes_retrans;
	acked = info.tcpi_bytes_acked > 0 ? info.tcpi_bytes_acked - 1 : 0;
	return (int64_t)(acked < sent ? acked : sent);
}

bool
socket_was_up(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_bytes_acked > 0;
}

void
socket_reset(int fd)
{
	struct linger linger = { .l_onoff = 1 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void
socket_calm(int fd)
{
	struct linger linger = { 0 };

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

bool
socket_over(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info.tcpi_state);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	       info.tcpi_state == 7; /* TCP_CLOSE */
}

void
socket_leave(int fd)
{
	char dropped[4096];

	(void)shutdown(fd, SHUT_WR);
	for (int i = 0; i < 64 && recv(fd, dropped, sizeof(dropped), MSG_DONTWAIT) > 0; i++)
		;
}
