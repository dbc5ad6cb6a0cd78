/* net/inherit - listening sockets given to us by a supervisor (systemd's protocol: LISTEN_PID, LISTEN_FDS,
 * LISTEN_FDNAMES), and what we tell it (NOTIFY_SOCKET). */
#ifndef NET_INHERIT_H
#define NET_INHERIT_H

#include <stddef.h>

#define INHERIT_FIRST 3
#define INHERIT_MAX   64

struct inherited {
	int n;				/* descriptors 3 .. 3+n-1, now close-on-exec */
	char name[INHERIT_MAX][64];	/* "fd3" where none was given; NAME-4 where descriptor 3 has that NAME */
};

int inherit_take(struct inherited *, char *msg, size_t cap);
/* 0: also when none are meant for us (n is 0).  -EINVAL: the variables contradict each other; msg says how.
 * The variables are unset on every path. */
int notify_send(const char *state); /* "READY=1"; 0, also when NOTIFY_SOCKET is unset, as it is afterwards; -errno */

#endif
