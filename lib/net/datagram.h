/* net/datagram - UDP sockets, read and written in batches (udp(7), ip(7), ipv6(7); recvmmsg(2), sendmmsg(2)).  Each datagram knows
 * who sent it and which address of ours was asked, and a reply can leave from there.  What the datagrams are for is not known here:
 * an echo, sessions, or QUIC stand on the same five: datagram (socket and batch), peers (who is known), bucket (how much they may),
 * and the caller's clock and loop. */
#ifndef NET_DATAGRAM_H
#define NET_DATAGRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "net/addr.h"

#define DATAGRAM_MAX   65507 /* bytes of one: what IPv4 can carry (RFC 768, RFC 791); a larger IPv6 one counts as too large */
#define DATAGRAM_BATCH 64    /* datagrams a system call */

struct datagram {
	struct sockaddr_any peer; /* from whom, or to whom; len 0: the one the socket is connected to */
	struct in6_addr local;    /* ours that was asked, IPv4 as v4-mapped; ::: not said (a socket bound to one address needs no
				   * word about it), or none that a reply could leave from (multicast): the kernel chooses */
	unsigned ifindex;         /* the interface it came in by, where a reply needs it (IPv6 link-local); 0 */
	char *bytes;              /* received: in the batch, valid until the next datagrams_recv */
	size_t len;
	bool too_large;           /* more than DATAGRAM_MAX, or cut by the kernel (MSG_TRUNC): never use the bytes */
	bool to_many;             /* sent to a broadcast or multicast address */
};

struct datagrams; /* the memory of a batch: touched only as far as datagrams were long */

int datagrams_new(struct datagrams **ret, bool told);
/* told: with what the kernel says beside the bytes (local, ifindex, to_many); else that is thrown away, and with it every
 * descriptor that somebody sends over a Unix socket.  0 or -ENOMEM */
void datagrams_free(struct datagrams *);   /* NULL too */
struct datagram *datagrams_at(struct datagrams *, unsigned i); /* i < what datagrams_recv gave.  May be changed (as for a reply) */
int datagrams_recv(struct datagrams *, int fd);
/* One recvmmsg without waiting, whatever O_NONBLOCK is.  How many came, 1 to DATAGRAM_BATCH; fewer than that: there were no more at
 * that moment.  -errno: -EAGAIN; a connected socket also reports what came back by ICMP (-ECONNREFUSED ...).  EINTR is retried. */
int datagrams_send(int fd, struct datagram *const *, unsigned n);
/* One sendmmsg of up to DATAGRAM_BATCH without waiting, each to its peer, from its local.  How many went; fewer than n: ask again
 * with the rest, and that call says why.  -errno: none went, because of the first: -EAGAIN: the socket is full (wait for writing);
 * anything else is that datagram's own fault (-EMSGSIZE, -EPERM, -ENETUNREACH, -EINVAL ...): skip it.  EINTR is retried. */

int datagram_bind(const struct sockaddr_any *, bool only_v6);
/* A bound UDP socket, CLOEXEC, NONBLOCK, prepared; never shared (no SO_REUSEADDR).  -errno */
int datagram_prepare(int fd);
/* What datagram_bind does to its own, for one that was given to us: where it is bound to every address it is asked to say which
 * one was meant (IP_PKTINFO, IPV6_RECVPKTINFO; on a dual-stack socket both).  Its file status flags stay.  0; -EPROTOTYPE: no
 * datagram socket of IPv4 or IPv6; -EDESTADDRREQ: not bound; -EISCONN: connected to one peer; -errno */
enum datagram_way { DATAGRAM_IN, DATAGRAM_OUT };
size_t datagram_buffer(int fd, enum datagram_way, size_t wanted);
/* Raises the socket's buffer that way towards wanted bytes (SO_RCVBUFFORCE, SO_SNDBUFFORCE; else up to net.core.rmem_max or
 * wmem_max), never down.
 * What it is now, in the kernel's own count. */
uint32_t datagram_lost(int fd); /* datagrams the kernel dropped because the buffer was full, ever (SO_MEMINFO; wraps); 0: unknown */

#endif
