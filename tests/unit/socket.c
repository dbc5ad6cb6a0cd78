#include "net/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "check.h"

static struct sockaddr_any
loopback(uint16_t port)
{
	struct sockaddr_any a = { .len = sizeof(a.in) };

	a.in.sin_family = AF_INET;
	a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a.in.sin_port = htons(port);
	return a;
}

static struct sockaddr_any
any_v6(uint16_t port)
{
	struct sockaddr_any a = { .len = sizeof(a.in6) };

	a.in6.sin6_family = AF_INET6;
	a.in6.sin6_port = htons(port);
	return a;
}

static uint16_t
port_of(int fd)
{
	struct sockaddr_any a = { 0 };

	CHECK_INT(socket_local(fd, &a), 0);
	return addr_port(&a);
}

static int
get(int fd, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	CHECK_INT(getsockopt(fd, level, option, &value, &len), 0);
	return value;
}

/* Connected, blocking; or -errno. */
static int
dial(uint16_t port)
{
	struct sockaddr_any a = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, &a.sa, a.len) == 0)
		return fd;
	close(fd);
	return -errno;
}

/* A stranger's bind, with and without SO_REUSEADDR. */
static int
stranger(uint16_t port, int reuse)
{
	struct sockaddr_any a = loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof(reuse));
	rc = bind(fd, &a.sa, a.len) < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static int
bound(uint16_t port, bool *ret_shared)
{
	struct sockaddr_any a = loopback(port);

	return socket_bind(&a, false, ret_shared);
}

static int
accepted(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	CHECK_INT(poll(&p, 1, 5000), 1);
	return accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/* Two connected ends, as ret[0] (accepted) and ret[1], of fd's port. */
static void
joined(int fd, int ret[2])
{
	ret[1] = dial(port_of(fd));
	CHECK(ret[1] >= 0);
	ret[0] = accepted(fd);
	CHECK(ret[0] >= 0);
}

CASE(a_bound_port_refuses_and_is_ours_alone)
{
	bool shared = true;
	int fd = bound(0, &shared);
	uint16_t port = port_of(fd);

	CHECK(fd >= 0 && port != 0 && !shared);
	CHECK(!socket_listens(fd));
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	CHECK_INT(dial(port), -ECONNREFUSED);
	CHECK_INT(stranger(port, 0), -EADDRINUSE);
	CHECK_INT(stranger(port, 1), -EADDRINUSE);
	CHECK_INT(bound(port, NULL), -EADDRINUSE);
	CHECK_INT(get(fd, SOL_SOCKET, SO_REUSEPORT), 0);
	close(fd);
}

CASE(a_listening_port_is_ours_alone)
{
	int fd = bound(0, NULL), pair[2];
	uint16_t port = port_of(fd);

	CHECK_INT(socket_listen(fd, 16), 0);
	CHECK(socket_listens(fd));
	joined(fd, pair);
	CHECK_INT(stranger(port, 0), -EADDRINUSE);
	CHECK_INT(stranger(port, 1), -EADDRINUSE);
	CHECK_INT(bound(port, NULL), -EADDRINUSE);
	close(pair[0]);
	close(pair[1]);
	close(fd);
}

static void
refuse_and_listen_again(int fd)
{
	uint16_t port = port_of(fd);
	int pair[2], late;

	CHECK_INT(socket_listen(fd, 16), 0);
	joined(fd, pair);
	for (int i = 0; i < 2; i++) {
		CHECK_INT(socket_refuse(fd), 0);
		CHECK(!socket_listens(fd));
		CHECK_INT(dial(port), -ECONNREFUSED);
		CHECK_INT(stranger(port, 0), -EADDRINUSE);
		CHECK_INT(stranger(port, 1), -EADDRINUSE);
		CHECK_INT(socket_listen(fd, 16), 0);
		CHECK_INT(port_of(fd), port);
		late = dial(port);
		CHECK(late >= 0);
		close(late);
		close(accepted(fd));
	}
	close(pair[0]);
	close(pair[1]);
	close(fd);
}

CASE(a_port_that_was_chosen_survives_refusing)
{
	refuse_and_listen_again(bound(0, NULL));
}

CASE(a_port_that_was_asked_for_survives_refusing)
{
	int fd = bound(0, NULL);
	uint16_t port = port_of(fd);

	close(fd);
	refuse_and_listen_again(bound(port, NULL));
}

CASE(a_restart_over_live_connections_works)
{
	int fd = bound(0, NULL), again, pair[2], other[2];
	uint16_t port = port_of(fd);
	bool shared = false;

	CHECK_INT(socket_listen(fd, 16), 0);
	joined(fd, pair);
	close(fd);
	again = bound(port, &shared);
	CHECK(again >= 0 && shared);
	CHECK_INT(get(again, SOL_SOCKET, SO_REUSEADDR), 0);
	CHECK_INT(stranger(port, 1), -EADDRINUSE);
	CHECK_INT(dial(port), -ECONNREFUSED);
	CHECK_INT(socket_listen(again, 16), 0);
	joined(again, other);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(other[i]);
	}
	close(again);
}

CASE(a_restart_over_time_wait_works)
{
	int fd = bound(0, NULL), again, pair[2];
	uint16_t port = port_of(fd);
	bool shared = false;
	char c;

	CHECK_INT(socket_listen(fd, 16), 0);
	joined(fd, pair);
	close(fd);
	close(pair[0]); /* first, so that the remains are on our port */
	CHECK_INT(read(pair[1], &c, 1), 0);
	close(pair[1]);
	CHECK_INT(stranger(port, 0), -EADDRINUSE);
	again = bound(port, &shared);
	CHECK(again >= 0 && shared);
	CHECK_INT(stranger(port, 1), -EADDRINUSE);
	CHECK_INT(socket_listen(again, 16), 0);
	close(again);
}

CASE(accepted_sockets_inherit_the_settings)
{
	int fd = bound(0, NULL), pair[2];

	CHECK_INT(socket_tune(fd), 0);
	CHECK_INT(socket_listen(fd, 16), 0);
	joined(fd, pair);
	CHECK_INT(get(pair[0], IPPROTO_TCP, TCP_NODELAY), 1);
	CHECK_INT(get(pair[0], SOL_SOCKET, SO_KEEPALIVE), 1);
	CHECK_INT(get(pair[0], IPPROTO_TCP, TCP_KEEPIDLE), 30);
	CHECK_INT(get(pair[0], IPPROTO_TCP, TCP_KEEPINTVL), 1);
	CHECK_INT(get(pair[0], IPPROTO_TCP, TCP_KEEPCNT), 10);
	CHECK_INT(get(pair[0], SOL_SOCKET, SO_REUSEADDR), 1);
	close(pair[0]);
	close(pair[1]);
	close(fd);
}

CASE(an_ipv6_socket_takes_both_families_or_one)
{
	struct sockaddr_any a = any_v6(0);
	int both = socket_bind(&a, false, NULL), only;
	struct env env = { 0 };
	int pair[2];

	if (both == -EAFNOSUPPORT || both == -EADDRNOTAVAIL)
		SKIP("no IPv6");
	CHECK_INT(socket_listen(both, 16), 0);
	joined(both, pair);
	CHECK_INT(socket_describe(pair[0], &env), 0);
	CHECK_STR(env_get(&env, "TCPLOCALIP"), "127.0.0.1");
	CHECK_STR(env_get(&env, "TCPREMOTEIP"), "127.0.0.1");
	only = socket_bind(&a, true, NULL);
	CHECK_INT(socket_listen(only, 16), 0);
	CHECK_INT(dial(port_of(only)), -ECONNREFUSED);
	env_free(&env);
	close(pair[0]);
	close(pair[1]);
	close(only);
	close(both);
}

CASE(an_address_that_is_not_ours_is_refused)
{
	struct sockaddr_any a = loopback(0);

	a.in.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1, for documentation */
	CHECK_INT(socket_bind(&a, false, NULL), -EADDRNOTAVAIL);
}

CASE(a_connection_describes_itself)
{
	int fd = bound(0, NULL), pair[2], un[2], pipes[2];
	struct env env = { 0 };
	char port[8];

	CHECK_INT(socket_listen(fd, 16), 0);
	joined(fd, pair);
	CHECK_INT(env_set(&env, "TCPREMOTEHOST", "planted"), 0);
	CHECK_INT(socket_describe(pair[0], &env), 0);
	CHECK_STR(env_get(&env, "PROTO"), "TCP");
	CHECK_STR(env_get(&env, "TCPLOCALIP"), "127.0.0.1");
	snprintf(port, sizeof(port), "%u", port_of(fd));
	CHECK_STR(env_get(&env, "TCPLOCALPORT"), port);
	CHECK_STR(env_get(&env, "TCPREMOTEIP"), "127.0.0.1");
	snprintf(port, sizeof(port), "%u", port_of(pair[1]));
	CHECK_STR(env_get(&env, "TCPREMOTEPORT"), port);
	CHECK(!env_get(&env, "TCPREMOTEHOST"));
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, un), 0);
	CHECK_INT(socket_describe(un[0], &env), 0);
	CHECK_STR(env_get(&env, "PROTO"), "UNIX");
	CHECK(!env_get(&env, "TCPREMOTEIP"));
	CHECK_INT(pipe(pipes), 0);
	CHECK_INT(socket_describe(pipes[0], &env), -ENOTSOCK);
	CHECK_INT(socket_kind(un[0]), SOCK_STREAM);
	CHECK_INT(socket_kind(pipes[0]), -ENOTSOCK);
	CHECK_INT(socket_family(un[0]), AF_UNIX);
	CHECK_INT(socket_tune(un[0]), 0);
	CHECK_INT(socket_refuse(un[0]), -EOPNOTSUPP);
	env_free(&env);
	for (int i = 0; i < 2; i++) {
		close(pair[i]);
		close(un[i]);
		close(pipes[i]);
	}
	close(fd);
}

CASE(what_is_acknowledged_is_counted)
{
	int fd = bound(0, NULL), pair[2];
	char c;

	CHECK_INT(socket_listen(fd, 16), 0);
	joined(fd, pair);
	CHECK_INT(socket_acked(pair[1]), 0);
	CHECK_INT(send(pair[1], "hello", 5, 0), 5);
	CHECK_INT(recv(pair[0], &c, 1, 0), 1);
	CHECK_INT(send(pair[0], "x", 1, 0), 1);
	CHECK_INT(recv(pair[1], &c, 1, 0), 1); /* carries the acknowledgement */
	CHECK_INT(socket_acked(pair[1]), 5);
	CHECK_INT(socket_unsent(pair[1]), 0);
	CHECK(socket_unsent(-1) < 0);
	CHECK(socket_acked(-1) < 0);
	socket_reset(pair[0]);
	close(pair[0]);
	CHECK_INT(recv(pair[1], &c, 1, 0), -1);
	CHECK_INT(errno, ECONNRESET);
	CHECK_INT(socket_acked(pair[1]), 5);
	close(pair[1]);
	close(fd);
}

CASE(a_reset_that_was_armed_can_be_undone)
{
	int fd = bound(0, NULL), pair[2];
	char c;

	CHECK_INT(socket_listen(fd, 16), 0);
	joined(fd, pair);
	socket_reset(pair[0]);
	socket_calm(pair[0]);
	close(pair[0]);
	CHECK_INT(recv(pair[1], &c, 1, 0), 0);
	close(pair[1]);
	close(fd);
}

CASE(a_path_is_bound_and_private)
{
	char dir[] = "/tmp/ccf-unit-socket-XXXXXX";
	struct sockaddr_any a = { 0 };
	struct stat st;
	int fd;

	CHECK(mkdtemp(dir) != NULL);
	a.un.sun_family = AF_UNIX;
	snprintf(a.un.sun_path, sizeof(a.un.sun_path), "%s/s", dir);
	a.len = sizeof(a.un);
	fd = socket_bind(&a, false, NULL);
	CHECK(fd >= 0 && socket_listens(fd));
	CHECK_INT(stat(a.un.sun_path, &st), 0);
	CHECK_INT(st.st_mode & 0777, 0600);
	CHECK_INT(socket_bind(&a, false, NULL), -EADDRINUSE);
	close(fd);
	fd = socket_bind(&a, false, NULL); /* stale: reclaimed */
	CHECK(fd >= 0);
	close(fd);
	unlink(a.un.sun_path);
	rmdir(dir);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_bound_port_refuses_and_is_ours_alone),
	    RUN(a_listening_port_is_ours_alone),
	    RUN(a_port_that_was_chosen_survives_refusing),
	    RUN(a_port_that_was_asked_for_survives_refusing),
	    RUN(a_restart_over_live_connections_works),
	    RUN(a_restart_over_time_wait_works),
	    RUN(accepted_sockets_inherit_the_settings),
	    RUN(an_ipv6_socket_takes_both_families_or_one),
	    RUN(an_address_that_is_not_ours_is_refused),
	    RUN(a_connection_describes_itself),
	    RUN(what_is_acknowledged_is_counted),
	    RUN(a_reset_that_was_armed_can_be_undone),
	    RUN(a_path_is_bound_and_private),
	    { 0 },
	});
}
