/* Datagrams over the loopback: what comes is what was sent, from whom it came, and the answer
 * leaves from the address that was asked. */
#include "net/datagram.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "udp_made.h"

static struct datagrams *batch;

static struct sockaddr_any
at(const char *text)
{
	struct sockaddr_any a = { 0 };
	struct addr addr;
	char msg[256];

	CHECK_INT(addr_parse(&addr, text, 0, msg, sizeof(msg)), 0);
	CHECK_INT(addr_literal(&addr, &a), 0);
	return a;
}

static struct sockaddr_any
name_of(int fd)
{
	struct sockaddr_any a = { .len = sizeof(a.ss) };

	CHECK_INT(getsockname(fd, &a.sa, &a.len), 0);
	return a;
}

static int
bound(const char *text)
{
	struct sockaddr_any a = at(text);

	return datagram_bind(&a, false);
}

/* Where fd can be reached: its port at host, which is written as [HOST] or HOST. */
static struct sockaddr_any
port_of(int fd, const char *host)
{
	struct sockaddr_any a = name_of(fd);
	char text[ADDR_TEXT_MAX];

	snprintf(text, sizeof(text), "%s:%u", host, addr_port(&a));
	return at(text);
}

/* A plain socket of the test's own, connected. */
static int
client_of(int fd, const char *host)
{
	struct sockaddr_any to = port_of(fd, host);
	int client = socket(to.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CHECK_INT(connect(client, &to.sa, to.len), 0);
	return client;
}

static bool
readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 5000) == 1;
}

static int
receive(int fd)
{
	CHECK(readable(fd));
	return datagrams_recv(batch, fd);
}

/* What came, as the peer's address and, behind it, ours that it asked. */
static const char *
from_to(const struct datagram *d)
{
	static char text[2 * ADDR_TEXT_MAX + 4];
	char peer[ADDR_TEXT_MAX], local[INET6_ADDRSTRLEN];

	snprintf(text, sizeof(text), "%s %s", addr_ip(&d->peer, peer, sizeof(peer)),
	    inet_ntop(AF_INET6, &d->local, local, sizeof(local)));
	return text;
}

static bool
has_v6(void)
{
	int fd = bound("[::1]:0");

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* A question of len bytes from a connected socket, and the answer, from the batch. */
static void
there_and_back(const char *bind_to, const char *host, const char *expected)
{
	static const size_t sizes[] = { 1, 0, 1472, DATAGRAM_MAX };
	static char sent[DATAGRAM_MAX], got[DATAGRAM_MAX + 1];
	int fd = bound(bind_to), client = client_of(fd, host);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct datagram *d = datagrams_at(batch, 0);

		memset(sent, 'a' + (int)i, sizes[i]);
		CHECK_INT(send(client, sent, sizes[i], 0), sizes[i]);
		CHECK_INT(receive(fd), 1);
		CHECK_INT(d->len, sizes[i]);
		CHECK(!d->too_large && !d->to_many);
		CHECK(memcmp(d->bytes, sent, sizes[i]) == 0);
		CHECK_STR(from_to(d), expected);
		CHECK_INT(datagrams_send(fd, &d, 1), 1);
		CHECK(readable(client));
		CHECK_INT(recv(client, got, sizeof(got), 0), sizes[i]);
		CHECK(memcmp(got, sent, sizes[i]) == 0);
	}
	close(client);
	close(fd);
}

CASE(every_size_over_ipv4)
{
	there_and_back("127.0.0.1:0", "127.0.0.1", "127.0.0.1 ::");
	there_and_back("0.0.0.0:0", "127.0.0.1", "127.0.0.1 ::ffff:127.0.0.1");
}

CASE(every_size_over_ipv6)
{
	if (!has_v6())
		SKIP("no IPv6 here");
	there_and_back("[::1]:0", "[::1]", "::1 ::");
	there_and_back("[::]:0", "[::1]", "::1 ::1");
}

CASE(a_dual_stack_socket_answers_both)
{
	if (!has_v6())
		SKIP("no IPv6 here");
	there_and_back(":0", "127.0.0.1", "127.0.0.1 ::ffff:127.0.0.1");
	there_and_back("[::ffff:0.0.0.0]:0", "127.0.0.1", "127.0.0.1 ::ffff:127.0.0.1");
	there_and_back("[::ffff:127.0.0.1]:0", "127.0.0.1", "127.0.0.1 ::");
}

/* Connected clients take an answer only from the address they asked. */
static void
asked_at_two(const char *bind_to)
{
	int fd = bound(bind_to);
	int client[] = { client_of(fd, "127.0.0.1"), client_of(fd, "127.0.0.2") };
	struct datagram *all[] = { datagrams_at(batch, 0), datagrams_at(batch, 1) };
	char got[8];

	CHECK_INT(send(client[0], "one", 3, 0), 3);
	CHECK_INT(send(client[1], "two", 3, 0), 3);
	CHECK_INT(receive(fd), 2);
	CHECK_STR(from_to(all[0]), "127.0.0.1 ::ffff:127.0.0.1");
	CHECK_STR(from_to(all[1]), "127.0.0.1 ::ffff:127.0.0.2");
	CHECK_INT(datagrams_send(fd, all, 2), 2);
	for (int i = 0; i < 2; i++) {
		CHECK(readable(client[i]));
		CHECK_INT(recv(client[i], got, sizeof(got), 0), 3);
		CHECK(memcmp(got, i ? "two" : "one", 3) == 0);
		close(client[i]);
	}
	close(fd);
}

CASE(the_answer_leaves_from_the_address_asked)
{
	asked_at_two("0.0.0.0:0");
	if (has_v6())
		asked_at_two(":0");
}

CASE(nobody_there_is_eagain_on_a_blocking_socket_too)
{
	int fd = bound("127.0.0.1:0");

	CHECK_INT(datagrams_recv(batch, fd), -EAGAIN);
	CHECK_INT(fcntl(fd, F_SETFL, 0), 0);
	CHECK_INT(datagrams_recv(batch, fd), -EAGAIN);
	close(fd);
}

CASE(an_empty_datagram_is_not_the_end)
{
	int fd = bound("127.0.0.1:0"), client = client_of(fd, "127.0.0.1");

	CHECK_INT(send(client, "", 0, 0), 0);
	CHECK_INT(send(client, "", 0, 0), 0);
	CHECK_INT(receive(fd), 2);
	CHECK_INT(datagrams_at(batch, 1)->len, 0);
	CHECK_INT(datagrams_recv(batch, fd), -EAGAIN);
	close(client);
	close(fd);
}

/* Each says its sender and its number, in a length of its own. */
static void
send_numbered(const int client[3], int n)
{
	char text[256];

	for (int i = 0; i < n; i++) {
		memset(text, '.', sizeof(text));
		snprintf(text, sizeof(text), "%d %d", i % 3, i);
		CHECK_INT(send(client[i % 3], text, (size_t)(20 + i), 0), 20 + i);
	}
}

CASE(two_hundred_keep_order_and_bytes)
{
	int fd = bound("127.0.0.1:0"), client[3], seen = 0, n;
	char elsewhere[1] = "";

	CHECK(datagram_buffer(fd, DATAGRAM_IN, 1 << 20) >= 1 << 18);
	for (int i = 0; i < 3; i++)
		client[i] = client_of(fd, "127.0.0.1");
	send_numbered(client, 200);
	while ((n = datagrams_recv(batch, fd)) > 0) {
		CHECK_INT(n, seen < 192 ? DATAGRAM_BATCH : 8);
		for (unsigned i = 0; i < (unsigned)n; i++, seen++) {
			struct sockaddr_any sender = name_of(client[seen % 3]);
			struct datagram *d = datagrams_at(batch, i);
			char text[32];

			snprintf(text, sizeof(text), "%d %d", seen % 3, seen);
			CHECK_STR(d->bytes, text);
			CHECK_INT(d->len, 20 + seen);
			CHECK_INT(addr_port(&d->peer), addr_port(&sender));
			d->bytes = elsewhere; /* as a caller may: the next batch does not mind */
			d->peer.len = 0;
			d->local = in6addr_loopback;
		}
	}
	CHECK_INT(n, -EAGAIN);
	CHECK_INT(seen, 200);
	for (int i = 0; i < 3; i++)
		close(client[i]);
	close(fd);
}

CASE(a_slot_forgets_what_was_in_it)
{
	int any = bound("0.0.0.0:0"), one = bound("127.0.0.1:0");
	int to_any = client_of(any, "127.0.0.1"), to_one = client_of(one, "127.0.0.1");

	CHECK_INT(send(to_any, "longer", 6, 0), 6);
	CHECK_INT(receive(any), 1);
	CHECK_STR(from_to(datagrams_at(batch, 0)), "127.0.0.1 ::ffff:127.0.0.1");
	CHECK_INT(send(to_one, "x", 1, 0), 1);
	CHECK_INT(receive(one), 1);
	CHECK_STR(from_to(datagrams_at(batch, 0)), "127.0.0.1 ::");
	CHECK_INT(datagrams_at(batch, 0)->len, 1);
	CHECK_INT(send(to_any, "again", 5, 0), 5);
	CHECK_INT(receive(any), 1);
	CHECK_STR(from_to(datagrams_at(batch, 0)), "127.0.0.1 ::ffff:127.0.0.1");
	close(to_any);
	close(to_one);
	close(any);
	close(one);
}

CASE(more_than_ipv4_can_carry_is_too_large)
{
	static char bytes[65527];
	int fd, client;

	if (!has_v6())
		SKIP("no IPv6 here");
	fd = bound("[::1]:0");
	client = client_of(fd, "[::1]");
	CHECK_INT(send(client, bytes, sizeof(bytes), 0), sizeof(bytes));
	CHECK_INT(receive(fd), 1);
	CHECK(datagrams_at(batch, 0)->too_large);
	CHECK_INT(send(client, bytes, DATAGRAM_MAX + 1, 0), DATAGRAM_MAX + 1);
	CHECK_INT(receive(fd), 1);
	CHECK(datagrams_at(batch, 0)->too_large);
	CHECK_INT(send(client, bytes, DATAGRAM_MAX, 0), DATAGRAM_MAX);
	CHECK_INT(receive(fd), 1);
	CHECK(!datagrams_at(batch, 0)->too_large);
	close(client);
	close(fd);
}

static void
shouted(const char *bind_to, const char *to)
{
	int fd = bound(bind_to), client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
	struct sockaddr_any all = port_of(fd, to);

	CHECK_INT(setsockopt(client, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on)), 0);
	CHECK_INT(sendto(client, "x", 1, 0, &all.sa, all.len), 1);
	CHECK_INT(receive(fd), 1);
	CHECK(datagrams_at(batch, 0)->to_many);
	CHECK_STR(from_to(datagrams_at(batch, 0)), "127.0.0.1 ::");
	close(client);
	close(fd);
}

CASE(a_broadcast_is_to_many)
{
	shouted("0.0.0.0:0", "127.255.255.255");
	shouted("127.255.255.255:0", "127.255.255.255");
	if (has_v6())
		shouted(":0", "127.255.255.255");
}

static void
to_group(const char *bind_to)
{
	int fd = bound(bind_to), client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_any group = port_of(fd, "239.255.7.7");
	struct ip_mreqn on_lo = { .imr_multiaddr = group.in.sin_addr,
		.imr_address = { htonl(INADDR_LOOPBACK) },
		.imr_ifindex = (int)if_nametoindex("lo") };

	CHECK_INT(setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &on_lo, sizeof(on_lo)), 0);
	CHECK_INT(setsockopt(client, IPPROTO_IP, IP_MULTICAST_IF, &on_lo, sizeof(on_lo)), 0);
	CHECK_INT(sendto(client, "x", 1, 0, &group.sa, group.len), 1);
	CHECK_INT(receive(fd), 1);
	CHECK(datagrams_at(batch, 0)->to_many);
	CHECK_STR(from_to(datagrams_at(batch, 0)), "127.0.0.1 ::");
	close(client);
	close(fd);
}

CASE(a_multicast_is_to_many)
{
	to_group("0.0.0.0:0");
	to_group("239.255.7.7:0");
	if (has_v6())
		to_group(":0");
}

/* "[fe80::1%eth0]" of any interface, or NULL; instead: that address in its place. */
static const char *
link_local(const char *instead)
{
	static char text[ADDR_TEXT_MAX];
	struct ifaddrs *all, *i;
	char ip[INET6_ADDRSTRLEN];

	*text = '\0';
	if (getifaddrs(&all) < 0)
		return NULL;
	for (i = all; i; i = i->ifa_next) {
		struct sockaddr_in6 in6;

		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET6)
			continue;
		memcpy(&in6, i->ifa_addr, sizeof(in6));
		if (i->ifa_flags & IFF_UP && IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr))
			snprintf(text, sizeof(text), "[%s%%%s]",
			    instead ? instead : inet_ntop(AF_INET6, &in6.sin6_addr, ip, sizeof(ip)),
			    i->ifa_name);
	}
	freeifaddrs(all);
	return *text ? text : NULL;
}

CASE(an_ipv6_multicast_is_to_many)
{
	const char *all = link_local("ff02::1");
	struct sockaddr_any group;
	int fd, client, hops = 0; /* it does not leave this machine */

	if (!all)
		SKIP("no link-local address here");
	fd = bound(":0");
	client = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	group = port_of(fd, all);
	CHECK_INT(setsockopt(client, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)), 0);
	CHECK_INT(sendto(client, "x", 1, 0, &group.sa, group.len), 1);
	CHECK_INT(receive(fd), 1);
	CHECK(datagrams_at(batch, 0)->to_many);
	CHECK(IN6_IS_ADDR_UNSPECIFIED(&datagrams_at(batch, 0)->local));
	close(client);
	close(fd);
}

CASE(a_link_local_peer_is_answered_on_its_interface)
{
	const char *host = link_local(NULL);
	struct datagram *d = datagrams_at(batch, 0);
	char got[8];
	int fd, client;

	if (!host)
		SKIP("no link-local address here");
	fd = bound(":0");
	client = client_of(fd, host);
	CHECK_INT(send(client, "x", 1, 0), 1);
	CHECK_INT(receive(fd), 1);
	CHECK(IN6_IS_ADDR_LINKLOCAL(&d->local));
	CHECK_INT(d->ifindex, d->peer.in6.sin6_scope_id);
	CHECK(d->ifindex > 0);
	for (int i = 0; i < 2; i++) {
		CHECK_INT(datagrams_send(fd, &d, 1), 1);
		CHECK(readable(client));
		CHECK_INT(recv(client, got, sizeof(got), 0), 1);
		d->peer.in6.sin6_scope_id = 0; /* ours says it as well */
	}
	close(client);
	close(fd);
}

CASE(what_came_before_it_was_prepared_is_answered_too)
{
	struct sockaddr_any any = at("0.0.0.0:0");
	struct datagram *d = datagrams_at(batch, 0);
	char got[8];
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), client;

	CHECK_INT(bind(fd, &any.sa, any.len), 0);
	client = client_of(fd, "127.0.0.2");
	CHECK_INT(send(client, "x", 1, 0), 1);
	CHECK(readable(fd));
	CHECK_INT(datagram_prepare(fd), 0);
	CHECK_INT(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	CHECK_INT(receive(fd), 1);
	CHECK(!d->to_many);
	CHECK_STR(from_to(d), "127.0.0.1 ::ffff:127.0.0.2");
	CHECK_INT(datagrams_send(fd, &d, 1), 1);
	CHECK(readable(client));
	CHECK_INT(recv(client, got, sizeof(got), 0), 1);
	close(client);
	close(fd);
}

CASE(what_cannot_serve_is_not_prepared)
{
	struct sockaddr_any one = at("127.0.0.1:0");
	int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int unbound = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int unix_one = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int fd = bound("127.0.0.1:0"), connected = client_of(fd, "127.0.0.1");
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	CHECK_INT(bind(tcp, &one.sa, one.len), 0);
	CHECK_INT(datagram_prepare(tcp), -EPROTOTYPE);
	CHECK_INT(datagram_prepare(unix_one), -EPROTOTYPE);
	CHECK_INT(datagram_prepare(unbound), -EDESTADDRREQ);
	CHECK_INT(datagram_prepare(connected), -EISCONN);
	CHECK_INT(datagram_prepare(null), -ENOTSOCK);
	CHECK_INT(datagram_prepare(fd), 0);
	close(tcp);
	close(unbound);
	close(unix_one);
	close(connected);
	close(null);
	close(fd);
}

CASE(a_port_is_ours_alone)
{
	int fd = bound("127.0.0.1:0"), second;
	struct sockaddr_any a = name_of(fd), path = { .len = sizeof(sa_family_t) };

	CHECK_INT(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	second = datagram_bind(&a, false);
	CHECK_INT(second, -EADDRINUSE);
	path.sa.sa_family = AF_UNIX;
	CHECK_INT(datagram_bind(&path, false), -EAFNOSUPPORT);
	CHECK_INT(bound("192.0.2.253:0"), -EADDRNOTAVAIL);
	close(fd);
}

CASE(only_v6_leaves_ipv4_to_others)
{
	int six, four = -EADDRINUSE;

	if (!has_v6())
		SKIP("no IPv6 here");
	/* The kernel may choose a port that somebody has in IPv4. */
	for (int i = 0; i < 100 && four == -EADDRINUSE; i++) {
		struct sockaddr_any a = at("[::]:0"), b;

		six = datagram_bind(&a, true);
		b = port_of(six, "0.0.0.0");
		four = datagram_bind(&b, false);
		close(six);
	}
	CHECK(four >= 0);
	close(four);
}

CASE(a_connected_socket_hears_that_nobody_is_there)
{
	int gone = bound("127.0.0.1:0");
	struct sockaddr_any to = name_of(gone);
	struct datagram d = { .bytes = (char[]){ "x" }, .len = 1 }, *one = &d;
	int fd = udp_client(&to);

	CHECK_INT(datagrams_send(fd, &one, 1), 1);
	CHECK_INT(receive(gone), 1);
	close(gone);
	CHECK_INT(datagrams_send(fd, &one, 1), 1);
	CHECK_INT(receive(fd), -ECONNREFUSED);
	CHECK_INT(datagrams_recv(batch, fd), -EAGAIN);
	close(fd);
}

CASE(one_bad_peer_does_not_hold_up_the_others)
{
	int to = bound("127.0.0.1:0"), fd = bound("0.0.0.0:0");
	char digits[] = "01234";
	struct datagram d[5], *all[5];

	for (int i = 0; i < 5; i++) {
		d[i] = (struct datagram){ .peer = name_of(to), .bytes = &digits[i], .len = 1 };
		all[i] = &d[i];
	}
	d[2].peer.in.sin_port = 0;
	CHECK_INT(datagrams_send(fd, all, 5), 2);
	CHECK_INT(datagrams_send(fd, all + 2, 3), -EINVAL);
	CHECK_INT(datagrams_send(fd, all + 3, 2), 2);
	CHECK_INT(datagrams_send(fd, all, 0), 0);
	CHECK_INT(receive(to), 4);
	CHECK(*datagrams_at(batch, 1)->bytes == '1' && *datagrams_at(batch, 2)->bytes == '3');
	/* An address that is not ours is that datagram's own fault too. */
	CHECK_INT(inet_pton(AF_INET6, "::ffff:192.0.2.253", &d[0].local), 1);
	CHECK_INT(datagrams_send(fd, all, 1), -ENETUNREACH);
	close(fd);
	close(to);
}

CASE(a_batch_that_is_longer_is_cut)
{
	int to = bound("127.0.0.1:0"), fd = bound("127.0.0.1:0");
	struct datagram d = { .peer = name_of(to), .bytes = (char[]){ "x" }, .len = 1 };
	struct datagram *all[DATAGRAM_BATCH + 1];

	for (int i = 0; i <= DATAGRAM_BATCH; i++)
		all[i] = &d;
	CHECK_INT(datagrams_send(fd, all, DATAGRAM_BATCH + 1), DATAGRAM_BATCH);
	CHECK_INT(receive(to), DATAGRAM_BATCH);
	close(fd);
	close(to);
}

CASE(what_the_kernel_lost_is_counted)
{
	int fd = bound("127.0.0.1:0"), client = client_of(fd, "127.0.0.1"), small = 1, came = 0, n;
	char bytes[1000] = { 0 };

	CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	CHECK_INT(datagram_lost(fd), 0);
	for (int i = 0; i < 100; i++)
		CHECK_INT(send(client, bytes, sizeof(bytes), 0), sizeof(bytes));
	while ((n = datagrams_recv(batch, fd)) > 0)
		came += n;
	CHECK(came > 0 && came < 100);
	CHECK_INT(came + (int)datagram_lost(fd), 100);
	CHECK_INT(datagram_lost(-1), 0);
	close(client);
	close(fd);
}

CASE(the_receive_buffer_only_grows)
{
	int fd = bound("127.0.0.1:0"), small = 5000;
	size_t is;

	CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	CHECK_INT(datagram_buffer(fd, DATAGRAM_IN, 0), 10000);
	CHECK_INT(datagram_buffer(fd, DATAGRAM_IN, 4000), 10000);
	CHECK_INT(datagram_buffer(fd, DATAGRAM_IN, 8000), 16000);
	is = datagram_buffer(fd, DATAGRAM_IN, (size_t)-1); /* as much as we may have */
	CHECK(is > 16000);
	CHECK_INT(datagram_buffer(fd, DATAGRAM_IN, 20000), is);
	CHECK_INT(datagram_buffer(-1, DATAGRAM_IN, 1), 0);
	close(fd);
}

CASE(a_buffer_that_more_rights_made_stays)
{
	int fd = bound("127.0.0.1:0"), large = 1 << 28;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof(large)) < 0) {
		close(fd);
		SKIP("not root");
	}
	CHECK_INT(seteuid(65534), 0);
	CHECK_INT(datagram_buffer(fd, DATAGRAM_IN, (size_t)large + 4096), 2 * (size_t)large);
	CHECK_INT(seteuid(0), 0);
	close(fd);
}

int
main(void)
{
	int failed;

	if (datagrams_new(&batch, true) < 0)
		return 1;
	failed = check_main((struct check_case[]){
	    RUN(every_size_over_ipv4),
	    RUN(every_size_over_ipv6),
	    RUN(a_dual_stack_socket_answers_both),
	    RUN(the_answer_leaves_from_the_address_asked),
	    RUN(nobody_there_is_eagain_on_a_blocking_socket_too),
	    RUN(an_empty_datagram_is_not_the_end),
	    RUN(two_hundred_keep_order_and_bytes),
	    RUN(a_slot_forgets_what_was_in_it),
	    RUN(more_than_ipv4_can_carry_is_too_large),
	    RUN(a_broadcast_is_to_many),
	    RUN(a_multicast_is_to_many),
	    RUN(an_ipv6_multicast_is_to_many),
	    RUN(a_link_local_peer_is_answered_on_its_interface),
	    RUN(what_came_before_it_was_prepared_is_answered_too),
	    RUN(what_cannot_serve_is_not_prepared),
	    RUN(a_port_is_ours_alone),
	    RUN(only_v6_leaves_ipv4_to_others),
	    RUN(a_connected_socket_hears_that_nobody_is_there),
	    RUN(one_bad_peer_does_not_hold_up_the_others),
	    RUN(a_batch_that_is_longer_is_cut),
	    RUN(what_the_kernel_lost_is_counted),
	    RUN(the_receive_buffer_only_grows),
	    RUN(a_buffer_that_more_rights_made_stays),
	    { 0 },
	});
	datagrams_free(batch);
	datagrams_free(NULL);
	return failed;
}
