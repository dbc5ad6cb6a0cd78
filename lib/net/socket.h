/* net/socket - the settings every socket of ours gets, said once. */
#ifndef NET_SOCKET_H
#define NET_SOCKET_H

#include <stdbool.h>

#include "net/addr.h"

struct env;

int socket_tune(int fd);
/* TCP_NODELAY, keepalive 30 s / 1 s / 10.  Set on a listening socket, accepted ones inherit them.
 * 0 or -errno; not a TCP socket: 0, nothing done. */
int socket_bind(const struct sockaddr_any *, bool only_v6, bool *ret_shared);
/* A bound stream socket (CLOEXEC, NONBLOCK), not listening, or -errno.  Without SO_REUSEADDR; on
 * EADDRINUSE once more with it, which is then cleared again (*ret_shared: that was needed), so that
 * the port is ours alone. A unix path: a stale file is reclaimed, and it listens already (see
 * net/handoff). */
int socket_listen(int fd, int backlog);
/* Sets SO_REUSEADDR (TCP), then listen(2); also after socket_refuse.  0 or -errno */
int socket_refuse(int fd);
/* shutdown(2): the kernel refuses, and the port stays ours if socket_bind made it.  0 or -errno
 * (-EOPNOTSUPP: not TCP) */
bool socket_listens(int fd); /* SO_ACCEPTCONN */
int socket_kind(int fd);     /* SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM, or -errno (-ENOTSOCK) */
int socket_family(int fd);   /* AF_*, or -errno */
int socket_local(int fd, struct sockaddr_any *);
int socket_peer(int fd, struct sockaddr_any *);
bool socket_is_here(const struct sockaddr_any *); /* an IP address of this host, whatever its port: one can bind to it */
int socket_describe(int fd, struct env *);
/* PROTO=TCP, TCPLOCALIP, TCPLOCALPORT, TCPREMOTEIP, TCPREMOTEPORT (v4-mapped as IPv4), or the same with UDP; PROTO=UNIX
 * for AF_UNIX.  Other TCP* and UDP* go.  -ENOTCONN: the client has gone already, its side is left out. */
bool socket_over(int fd);			/* TCP: state CLOSE: after both FINs a reset is told by nothing else */
int64_t socket_unsent(int fd); /* SIOCOUTQ; -errno */
int64_t socket_acked(int fd);
/* Our bytes that the peer acknowledged, also after a reset, less the SYN of who connects (an
 * accepted socket may count one too few); -errno */
bool socket_was_up(int fd);
/* TCP, of who connects: our SYN was acknowledged, though the connection may be cut by now */
void socket_leave(int fd);			/* Ends our direction and drops what has come, so that the close that follows
					 * is no reset that overtakes our last word */
void socket_reset(int fd);
/* SO_LINGER 0: the close that follows, if nobody else holds it, is a reset.  Does not close. */
void socket_calm(int fd);			/* Undoes that: the close is an orderly one */

#endif
