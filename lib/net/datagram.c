/* net/datagram - UDP in batches.  The path of a datagram is short, so what is set up once is never
 * set up again, and nothing is copied: names and bytes are written by the kernel where they stay.
 *
 * What the kernel does (tried on Linux 6.18):
 * - of a header recvmmsg changes the two lengths and the flags alone, and the flags it never reads;
 * - a dual-stack socket with both options tells of an IPv4 datagram twice, in both forms, and takes
 *   IP_PKTINFO where it sends to a v4-mapped address;
 * - ipi_spec_dst is 0 in a datagram that came before the option was set. */
#include "net/datagram.h"

#include <errno.h>
#include <limits.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/socket.h"

/* More than the largest there is, and a cache line: where small datagrams begin must not differ by
 * a power of two, or all of them compete for the same few lines. */
#define SLOT   65536
#define STRIDE (SLOT + 64)

/* Room for both forms, and for what somebody else's options on an inherited socket put first. */
union told {
	struct cmsghdr align;
	char bytes[192];
};

union reply {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
};

struct datagrams {
	struct mmsghdr msg[DATAGRAM_BATCH];
	struct iovec iov[DATAGRAM_BATCH];
	struct datagram at[DATAGRAM_BATCH];
	union told told[DATAGRAM_BATCH];
	_Alignas(64) char bytes[DATAGRAM_BATCH][STRIDE];
};

int
datagrams_new(struct datagrams **ret, bool told)
{
	struct datagrams *b = aligned_alloc(_Alignof(struct datagrams), sizeof(*b));

	if (!b)
		return -ENOMEM;
	memset(b, 0, offsetof(struct datagrams, bytes));
	for (unsigned i = 0; i < DATAGRAM_BATCH; i++) {
		b->iov[i] = (struct iovec){ b->bytes[i], SLOT };
		b->msg[i].msg_hdr = (struct msghdr){
			.msg_name = &b->at[i].peer.ss,
			.msg_namelen = sizeof(b->at[i].peer.ss),
			.msg_iov = &b->iov[i],
			.msg_iovlen = 1,
			.msg_control = told ? &b->told[i] : NULL,
			.msg_controllen = told ? sizeof(b->told[i]) : 0,
		};
	}
	*ret = b;
	return 0;
}

void
datagrams_free(struct datagrams *b)
{
	free(b);
}

struct datagram *
datagrams_at(struct datagrams *b, unsigned i)
{
	return &b->at[i];
}

static void
asked_v4(struct datagram *d, const struct in_pktinfo *info)
{
	uint32_t to = ntohl(info->ipi_addr.s_addr);

	/* Without ipi_spec_dst it may still be a directed broadcast: a reply from there fails. */
	if (info->ipi_spec_dst.s_addr ? info->ipi_spec_dst.s_addr != info->ipi_addr.s_addr
				      : IN_MULTICAST(to) || to == INADDR_BROADCAST) {
		d->to_many = true;
		return;
	}
	d->local.s6_addr[10] = d->local.s6_addr[11] = 0xff;
	memcpy(&d->local.s6_addr[12], &info->ipi_addr, sizeof(info->ipi_addr));
}

static void
asked_v6(struct datagram *d, const struct in6_pktinfo *info)
{
	if (IN6_IS_ADDR_V4MAPPED(&info->ipi6_addr))
		return; /* IP_PKTINFO says more about it */
	if (IN6_IS_ADDR_MULTICAST(&info->ipi6_addr))
		d->to_many = true;
	else
		d->local = info->ipi6_addr;
	if (IN6_IS_ADDR_LINKLOCAL(&info->ipi6_addr) ||
	    IN6_IS_ADDR_LINKLOCAL(&d->peer.in6.sin6_addr))
		d->ifindex = info->ipi6_ifindex;
}

static void
read_told(struct datagram *d, struct msghdr *m)
{
	struct in_pktinfo v4;
	struct in6_pktinfo v6;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&v4, CMSG_DATA(c), sizeof(v4));
			asked_v4(d, &v4);
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&v6, CMSG_DATA(c), sizeof(v6));
			asked_v6(d, &v6);
		}
}

/* What came in one slot, which is then ready for the next. */
static void
take(struct datagram *d, struct mmsghdr *msg)
{
	struct msghdr *m = &msg->msg_hdr;

	d->peer.len = m->msg_namelen;
	d->local = in6addr_any;
	d->ifindex = 0;
	d->bytes = m->msg_iov->iov_base;
	d->len = msg->msg_len;
	d->too_large = msg->msg_len > DATAGRAM_MAX || m->msg_flags & MSG_TRUNC;
	d->to_many = false;
	if (m->msg_controllen > 0)
		read_told(d, m);
	m->msg_namelen = sizeof(d->peer.ss);
	m->msg_controllen = m->msg_control ? sizeof(union told) : 0;
}

int
datagrams_recv(struct datagrams *b, int fd)
{
	int n;

	do
		n = recvmmsg(fd, b->msg, DATAGRAM_BATCH, MSG_DONTWAIT, NULL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++)
		take(&b->at[i], &b->msg[i]);
	return n;
}

static void
put_control(struct msghdr *m, union reply *r, int level, int type, const void *info, size_t len)
{
	struct cmsghdr *c = &r->align;

	m->msg_control = r;
	/* Without the padding: 36 bytes need no memory of the kernel. */
	m->msg_controllen = CMSG_LEN(len);
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), info, len);
}

static void
put_local(struct msghdr *m, union reply *r, const struct datagram *d)
{
	struct in6_pktinfo v6 = { d->local, d->ifindex };
	struct in_pktinfo v4 = { 0 };

	if (IN6_IS_ADDR_V4MAPPED(&d->local)) {
		memcpy(&v4.ipi_spec_dst, &d->local.s6_addr[12], sizeof(v4.ipi_spec_dst));
		put_control(m, r, IPPROTO_IP, IP_PKTINFO, &v4, sizeof(v4));
	} else
		put_control(m, r, IPPROTO_IPV6, IPV6_PKTINFO, &v6, sizeof(v6));
}

int
datagrams_send(int fd, struct datagram *const *at, unsigned n)
{
	struct mmsghdr msg[DATAGRAM_BATCH];
	struct iovec iov[DATAGRAM_BATCH];
	union reply reply[DATAGRAM_BATCH];
	int went;

	if (n > DATAGRAM_BATCH)
		n = DATAGRAM_BATCH;
	for (unsigned i = 0; i < n; i++) {
		struct datagram *d = at[i];

		iov[i] = (struct iovec){ d->bytes, d->len };
		msg[i].msg_hdr = (struct msghdr){
			.msg_name = d->peer.len ? &d->peer.ss : NULL,
			.msg_namelen = d->peer.len,
			.msg_iov = &iov[i],
			.msg_iovlen = 1,
		};
		if (!IN6_IS_ADDR_UNSPECIFIED(&d->local))
			put_local(&msg[i].msg_hdr, &reply[i], d);
	}
	do
		went = sendmmsg(fd, msg, n, MSG_DONTWAIT);
	while (went < 0 && errno == EINTR);
	return went < 0 ? -errno : went;
}

static int
set(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* 0 where it cannot be told. */
static int
get(int fd, int option)
{
	int value = 0;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) < 0 ? 0 : value;
}

static int
new_socket(int family)
{
	int fd;

	if (family != AF_INET && family != AF_INET6)
		return -EAFNOSUPPORT;
	fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

/* A broadcast address of one of our networks is known to the kernel alone: it lets nobody connect
 * to one who has not said SO_BROADCAST. */
static bool
is_broadcast(const struct sockaddr_any *at)
{
	int fd = new_socket(at->sa.sa_family);
	bool is = fd >= 0 && connect(fd, &at->sa, at->len) < 0 && errno == EACCES;

	if (fd >= 0)
		close(fd);
	return is;
}

/* Whether what comes to a socket that is bound there was sent to one address of ours. */
static bool
is_one_of_ours(const struct sockaddr_any *at)
{
	const struct in6_addr *ip = &at->in6.sin6_addr;
	struct sockaddr_any v4 = { .len = sizeof(v4.in), .in = at->in };

	if (at->sa.sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(ip))
		return !IN6_IS_ADDR_UNSPECIFIED(ip) && !IN6_IS_ADDR_MULTICAST(ip);
	if (at->sa.sa_family == AF_INET6) {
		v4.in.sin_family = AF_INET;
		memcpy(&v4.in.sin_addr, &ip->s6_addr[12], sizeof(v4.in.sin_addr));
	}
	return v4.in.sin_addr.s_addr != INADDR_ANY && !IN_MULTICAST(ntohl(v4.in.sin_addr.s_addr)) &&
	       !is_broadcast(&v4);
}

int
datagram_prepare(int fd)
{
	struct sockaddr_any local, peer;
	int rc, kind = socket_kind(fd);

	if (kind < 0)
		return kind;
	if (kind != SOCK_DGRAM || get(fd, SO_PROTOCOL) != IPPROTO_UDP)
		return -EPROTOTYPE;
	rc = socket_local(fd, &local);
	if (rc < 0)
		return rc;
	if (local.sa.sa_family != AF_INET && local.sa.sa_family != AF_INET6)
		return -EPROTOTYPE;
	if (addr_port(&local) == 0)
		return -EDESTADDRREQ;
	if (socket_peer(fd, &peer) == 0)
		return -EISCONN;
	/* Errors of the past are no news to one who answers many; on one of ours it is off. */
	rc = set(fd, IPPROTO_IP, IP_RECVERR, 0);
	if (rc == 0 && local.sa.sa_family == AF_INET6)
		rc = set(fd, IPPROTO_IPV6, IPV6_RECVERR, 0);
	if (rc < 0 || is_one_of_ours(&local))
		return rc;
	rc = set(fd, IPPROTO_IP, IP_PKTINFO, 1);
	if (rc == 0 && local.sa.sa_family == AF_INET6)
		rc = set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	return rc;
}

int
datagram_bind(const struct sockaddr_any *at, bool only_v6)
{
	int rc = 0, fd = new_socket(at->sa.sa_family);

	if (fd < 0)
		return fd;
	if (at->sa.sa_family == AF_INET6)
		rc = set(fd, IPPROTO_IPV6, IPV6_V6ONLY, only_v6);
	if (rc == 0 && bind(fd, &at->sa, at->len) < 0)
		rc = -errno;
	if (rc == 0)
		rc = datagram_prepare(fd);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return fd;
}

/* What the plain option would make of it, tried elsewhere: it cuts at the system's limit, and so
 * can make a buffer smaller that somebody with more rights had made. */
static int
buffer_allowed(int option, int wanted)
{
	int got = 0, fd = new_socket(AF_INET);

	if (fd < 0)
		fd = new_socket(AF_INET6);
	if (fd < 0)
		return 0;
	if (set(fd, SOL_SOCKET, option, wanted) == 0)
		got = get(fd, option);
	close(fd);
	return got;
}

size_t
datagram_buffer(int fd, enum datagram_way way, size_t wanted)
{
	static const int plain[] = { [DATAGRAM_IN] = SO_RCVBUF, [DATAGRAM_OUT] = SO_SNDBUF },
			 force[] = {
				 [DATAGRAM_IN] = SO_RCVBUFFORCE, [DATAGRAM_OUT] = SO_SNDBUFFORCE
			 };
	int is = get(fd, plain[way]);
	/* The kernel counts twice what it is asked for. */
	int value = wanted < INT_MAX / 2 ? (int)wanted : INT_MAX / 2;

	if (value > is / 2 && set(fd, SOL_SOCKET, force[way], value) < 0 &&
	    buffer_allowed(plain[way], value) > is)
		(void)set(fd, SOL_SOCKET, plain[way], value);
	return (size_t)get(fd, plain[way]);
}

uint32_t
datagram_lost(int fd)
{
	uint32_t info[SK_MEMINFO_VARS];
	socklen_t len = sizeof(info);

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) < 0 ||
	    len < (SK_MEMINFO_DROPS + 1) * sizeof(*info))
		return 0;
	return info[SK_MEMINFO_DROPS];
}
