/* udp_made - a client's socket. */
#ifndef UDP_MADE_H
#define UDP_MADE_H

#include <sys/socket.h>

#include "net/addr.h"

static inline int
udp_client(const struct sockaddr_any *to)
{
	int fd = socket(to->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CHECK(fd >= 0);
	CHECK_INT(connect(fd, &to->sa, to->len), 0);
	return fd;
}

#endif
