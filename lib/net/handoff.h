/* net/handoff - a link's socket: AF_UNIX SEQPACKET, one packet is one message with at most one
 * descriptor. Only this file touches SCM_RIGHTS.  Contents are wire/note's business. */
#ifndef NET_HANDOFF_H
#define NET_HANDOFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define HANDOFF_MAX   65536 /* bytes of a packet */
#define HANDOFF_BATCH 16    /* messages a system call */

struct handoff_out {
	const void *bytes;
	size_t len;
	int fd; /* -1: none.  Given: closed by handoff_send when it has gone */
};

int handoff_send(int chan, struct handoff_out *, unsigned n);
/* sendmmsg.  How many went (their descriptors are closed here), fewer than n when the socket is
 * full; 0 is possible, and errno then says why: EAGAIN (EPOLLOUT tells when), ETOOMANYREFS (nothing
 * tells: try again when something else was received).  -errno: none went, every descriptor is still
 * the caller's. */
int handoff_lend(int chan, const struct handoff_out *);
/* The same for one, whose descriptor stays the caller's.  0 or -errno */

struct handoff_in {
	char *bytes;  /* cap HANDOFF_MAX, the caller's */
	ssize_t len;  /* >0; -EBADMSG: malformed (truncated, two descriptors, empty: but alone that
			 reads as the end) */
	int fd;	      /* -1, or the caller's now: CLOEXEC */
	bool starved; /* a descriptor came that this process had no room for (MSG_CTRUNC) */
};

int handoff_recv(int chan, struct handoff_in *, unsigned n);
/* recvmmsg without waiting.  >0: so many are filled in.  0: the peer closed.  -errno (-EAGAIN).
 * Stray descriptors beyond the first are closed, and that message is -EBADMSG. */

int handoff_pair(int ret_fd[2]); /* socketpair, CLOEXEC, NONBLOCK; 0 or -errno */

struct handoff_bound { /* a name we bound */
	int fd;	       /* ours, listening, NONBLOCK */
	dev_t dev;
	ino_t ino;
	char path[108];
};

int handoff_bind(struct handoff_bound *, const char *path, mode_t mode, gid_t group, int type);
/* Binds and listens (type: SOCK_SEQPACKET; SOCK_STREAM for net/socket).  The mode is set by fchmod
 * before bind, so nobody gets in early; group (gid_t)-1: leave it.  A stale file (nobody listens)
 * is reclaimed under flock of its directory: probe (a connection that ends at once), unlink, bind,
 * listen.  0; -EADDRINUSE: somebody listens there; -ENOTSOCK: another kind of file is there;
 * -ENAMETOOLONG; else -errno. */

void handoff_unbind(
    struct handoff_bound *); /* closes; removes the file if it is still ours (device and inode) */
int handoff_accept(int listener);   /* CLOEXEC, NONBLOCK; or -errno */
int handoff_dial(const char *path); /* connected, CLOEXEC, NONBLOCK; or -errno.  Never waits (a full
				       backlog is -EAGAIN) */
bool handoff_peer_allowed(int fd, uid_t also, uid_t *ret_uid);
/* SO_PEERCRED: own uid, root, or also ((uid_t)-1: nobody else).  ret_uid (may be NULL) is set
 * whenever it is known, for the line that says who was refused. */

int64_t handoff_unread(int fd); /* SIOCOUTQ: bytes sent that the peer has not read; 0 unknown */

int handoff_ticket_dir(char *path, size_t cap);
/* Makes a directory (mkdtemp, 0711) and writes "DIR/link" to path.  Under $XDG_RUNTIME_DIR or
 * $TMPDIR where everybody may pass (0711: the consumer may be another user), else /tmp.  0 or
 * -errno */

void handoff_ticket_remove(
    const char *path); /* the socket and its directory, if we may and if they look like that */
int handoff_token(char out[33]); /* 32 hex digits from getrandom, NUL.  0 or -errno */

#endif
