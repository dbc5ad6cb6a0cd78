/* net/handoff - the socket of a link: packets with a descriptor each, and the three ways to get
 * one. SEQPACKET keeps message and descriptor together, so nothing is ever reassembled here.  What
 * the kernel does (tried on Linux 6.18):
 * - an empty packet reads as 0, like the end of file;
 * - recvmmsg at the end of file fills every slot with a length of 0;
 * - bind(2) gives the file the mode of the socket's own inode less the umask, but neither its owner
 * nor its group. */
#include "net/handoff.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Room for one descriptor, and for the credentials that somebody's SO_PASSCRED on an inherited
 * socket puts first. More descriptors than one do fit, so they are counted. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
};

static void
close_keeping_errno(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
}

static void
put_descriptor(struct msghdr *m, union control *c, int fd)
{
	struct cmsghdr *h;

	memset(c, 0, sizeof(*c));
	m->msg_control = c;
	m->msg_controllen = CMSG_SPACE(sizeof(int));
	h = CMSG_FIRSTHDR(m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
}

/* As many of n as the socket takes, at most a batch. */
static int
send_batch(int chan, const struct handoff_out *out, unsigned n)
{
	struct mmsghdr msgs[HANDOFF_BATCH];
	struct iovec iov[HANDOFF_BATCH];
	union control control[HANDOFF_BATCH];
	int went;

	memset(msgs, 0, sizeof(msgs));
	for (unsigned i = 0; i < n; i++) {
		iov[i].iov_base = (void *)(uintptr_t)out[i].bytes;
		iov[i].iov_len = out[i].len;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		if (out[i].fd >= 0)
			put_descriptor(&msgs[i].msg_hdr, &control[i], out[i].fd);
	}
	do
		went = sendmmsg(chan, msgs, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (went < 0 && errno == EINTR);
	return went < 0 ? -errno : went;
}

int
handoff_lend(int chan, const struct handoff_out *out)
{
	int rc;

	if (out->len == 0 || out->len > HANDOFF_MAX)
		return out->len ? -EMSGSIZE : -EINVAL;
	rc = send_batch(chan, out, 1);
	return rc < 0 ? rc : 0;
}

static void
close_sent(struct handoff_out *out, int n)
{
	for (int i = 0; i < n; i++)
		if (out[i].fd >= 0) {
			close(out[i].fd);
			out[i].fd = -1;
		}
}

int
handoff_send(int chan, struct handoff_out *out, unsigned n)
{
	unsigned sent = 0, sound = 0;

	/* An empty packet would read as the end, and a larger one be cut off: neither may leave. */
	while (sound < n && out[sound].len > 0 && out[sound].len <= HANDOFF_MAX)
		sound++;
	if (n > 0 && sound == 0)
		return out[0].len ? -EMSGSIZE : -EINVAL;
	while (sent < sound) {
		unsigned batch = sound - sent < HANDOFF_BATCH ? sound - sent : HANDOFF_BATCH;
		int went = send_batch(chan, out + sent, batch);

		if (went == -EAGAIN || went == -ETOOMANYREFS) {
			errno = -went;
			break;
		}
		if (went < 0)
			return sent ? (int)sent : went;
		close_sent(out + sent, went);
		sent += (unsigned)went;
		if ((unsigned)went < batch)
			break;
	}
	return (int)sent;
}

/* Keeps the first descriptor of a message and closes the others: their number. */
static unsigned
take_descriptors(struct msghdr *m, int *ret_fd)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t off = CMSG_LEN(0); off + sizeof(int) <= c->cmsg_len;
		     off += sizeof(int)) {
			int fd;

			memcpy(&fd, (char *)c + off, sizeof(fd));
			if (n++ == 0)
				*ret_fd = fd;
			else
				close(fd);
		}
	}
	return n;
}

/* One slot of a batch: 0 where the packet was empty. */
static void
take_message(struct handoff_in *in, struct mmsghdr *m)
{
	unsigned n;

	in->fd = -1;
	in->starved = false;
	in->len = m->msg_len;
	n = take_descriptors(&m->msg_hdr, &in->fd);
	if (m->msg_hdr.msg_flags & MSG_TRUNC || n > 1)
		in->len = -EBADMSG;
	else if (m->msg_hdr.msg_flags & MSG_CTRUNC)
		in->starved = true; /* one came along, and this process has no number free */
	if (in->len <= 0 && in->fd >= 0) {
		close(in->fd);
		in->fd = -1;
		in->len = -EBADMSG;
	}
}

int
handoff_recv(int chan, struct handoff_in *in, unsigned n)
{
	struct mmsghdr msgs[HANDOFF_BATCH];
	struct iovec iov[HANDOFF_BATCH];
	union control control[HANDOFF_BATCH];
	int got, last = 0;

	if (n > HANDOFF_BATCH)
		n = HANDOFF_BATCH;
	memset(msgs, 0, sizeof(msgs));
	for (unsigned i = 0; i < n; i++) {
		iov[i].iov_base = in[i].bytes;
		iov[i].iov_len = HANDOFF_MAX;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_control = &control[i];
		msgs[i].msg_hdr.msg_controllen = sizeof(control[i]);
	}
	do
		got = recvmmsg(chan, msgs, n, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	for (int i = 0; i < got; i++) {
		take_message(&in[i], &msgs[i]);
		if (in[i].len)
			last = i + 1;
	}
	/* The end of file fills a batch up: where there is room left after an empty packet, or
	 * something came after it, it was a packet.  Alone it is the end, whatever it was. */
	if (last > 0 && last < got && (unsigned)got < n)
		last++;
	for (int i = 0; i < last; i++)
		if (in[i].len == 0)
			in[i].len = -EBADMSG;
	return last;
}

int
handoff_pair(int ret_fd[2])
{
	int fd[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) < 0)
		return -errno;
	ret_fd[0] = fd[0];
	ret_fd[1] = fd[1];
	return 0;
}

static int
name_to_address(const char *path, struct sockaddr_un *un)
{
	size_t n = strlen(path);

	if (n == 0)
		return -ENOENT;
	if (n >= sizeof(un->sun_path))
		return -ENAMETOOLONG;
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, n);
	return 0;
}

/* The directory part of path, opened; who binds or reclaims a name in it holds its lock.  dir is at
 * least as large as any socket's path. */
static int
open_directory(const char *path, char *dir, size_t cap)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 1;
	int fd;

	if (n + 1 > cap)
		return -ENAMETOOLONG;
	memcpy(dir, slash ? path : ".", n);
	dir[n] = '\0';
	fd = open(n ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Whether somebody listens at un, whatever the type: 0: nobody, -EADDRINUSE, or what stands in the
 * way. */
static int
probe(const struct sockaddr_un *un, int type)
{
	struct stat st;
	int fd, r = 0;

	if (lstat(un->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)un, sizeof(*un)) == 0 || errno == EAGAIN ||
	    errno == EPROTOTYPE)
		r = -EADDRINUSE;
	else if (errno != ECONNREFUSED && errno != ENOENT)
		r = -errno;
	close(fd);
	return r;
}

/* Gives the file the rights that bind(2) could not: it was made with the owner's alone, so a window
 * is only ever too narrow.  By a descriptor of the file itself, so that a name that was changed
 * meanwhile does not matter. */
static int
widen(struct handoff_bound *b, mode_t mode, gid_t group)
{
	char self[32];
	struct stat st;
	int fd, r = 0;

	fd = open(b->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st) < 0)
		r = -errno;
	else if (!S_ISSOCK(st.st_mode))
		r = -EADDRINUSE; /* not what we have just bound */
	else if (group != (gid_t)-1 && fchownat(fd, "", (uid_t)-1, group, AT_EMPTY_PATH) < 0)
		r = -errno;
	else if ((st.st_mode & 07777) != mode && chmod(self, mode) < 0)
		r = -errno;
	if (r == 0) {
		b->dev = st.st_dev;
		b->ino = st.st_ino;
	}
	close(fd);
	return r;
}

/* Under the directory's lock. */
static int
bind_here(struct handoff_bound *b, const struct sockaddr_un *un, mode_t mode, gid_t group)
{
	int r;

	if (fchmod(b->fd, mode & 0700) < 0)
		return -errno;
	if (bind(b->fd, (const struct sockaddr *)un, sizeof(*un)) < 0)
		return -errno;
	r = widen(b, mode, group);
	if (r == 0 && listen(b->fd, SOMAXCONN) < 0)
		r = -errno;
	if (r < 0 && r != -EADDRINUSE)
		unlink(un->sun_path);
	return r;
}

int
handoff_bind(struct handoff_bound *ret, const char *path, mode_t mode, gid_t group, int type)
{
	struct handoff_bound b = { .fd = -1 };
	struct sockaddr_un un;
	char dir[sizeof(un.sun_path)];
	int lock, r;

	r = name_to_address(path, &un);
	if (r < 0)
		return r;
	memcpy(b.path, un.sun_path, sizeof(b.path));
	lock = open_directory(path, dir, sizeof(dir));
	if (lock < 0)
		return lock;
	b.fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (b.fd < 0) {
		r = -errno;
		goto out;
	}
	/* A name that is bound but does not listen yet would look stale: the lock is held until
	 * listen(2). */
	while (flock(lock, LOCK_EX) < 0)
		if (errno != EINTR) {
			r = -errno;
			goto out;
		}
	r = probe(&un, type);
	if (r == 0 && unlink(un.sun_path) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0)
		r = bind_here(&b, &un, mode, group);
out:
	if (r < 0 && b.fd >= 0)
		close(b.fd);
	close(lock);
	if (r == 0)
		*ret = b;
	return r;
}

void
handoff_unbind(struct handoff_bound *b)
{
	struct stat st;

	/* The file goes while we still listen: nobody can have found it stale and put another in
	 * its place. */
	if (b->fd < 0)
		return;
	if (lstat(b->path, &st) == 0 && st.st_dev == b->dev && st.st_ino == b->ino)
		unlink(b->path);
	close_keeping_errno(b->fd);
	b->fd = -1;
}

int
handoff_accept(int listener)
{
	int fd;

	do
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	return fd < 0 ? -errno : fd;
}

int
handoff_dial(const char *path)
{
	struct sockaddr_un un;
	int fd, r;

	r = name_to_address(path, &un);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

bool
handoff_peer_allowed(int fd, uid_t also, uid_t *ret_uid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return false;
	if (cred.uid == (uid_t)-1)
		return false; /* nobody is there: not connected */
	if (ret_uid)
		*ret_uid = cred.uid;
	return cred.uid == geteuid() || cred.uid == 0 || cred.uid == also;
}

int64_t
handoff_unread(int fd)
{
	int n;

	return ioctl(fd, SIOCOUTQ, &n) < 0 ? 0 : n;
}

/* A directory in base that a process of another uid can reach: base must let everybody pass. */
static int
make_directory(const char *base, char *path, size_t cap)
{
	struct stat st;
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int n;

	if (!base || *base != '/')
		return -ENOENT;
	if (stat(base, &st) < 0)
		return -errno;
	if (!(st.st_mode & S_IXOTH))
		return -EACCES;
	n = snprintf(dir, sizeof(dir), "%s/ccf-XXXXXX", base);
	if ((size_t)n + sizeof("/link") > sizeof(dir) || (size_t)n + sizeof("/link") > cap)
		return -ENAMETOOLONG;
	if (!mkdtemp(dir))
		return -errno;
	if (chmod(dir, 0711) < 0) {
		n = -errno;
		rmdir(dir);
		return n;
	}
	snprintf(path, cap, "%s/link", dir);
	return 0;
}

int
handoff_ticket_dir(char *path, size_t cap)
{
	const char *base[] = { getenv("XDG_RUNTIME_DIR"), getenv("TMPDIR"), "/tmp" };
	int r = -ENOENT;

	for (size_t i = 0; i < sizeof(base) / sizeof(base[0]); i++) {
		r = make_directory(base[i], path, cap);
		if (r == 0)
			break;
	}
	return r;
}

void
handoff_ticket_remove(const char *path)
{
	static const char shape[] = "ccf-XXXXXX/link";
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)];
	size_t n = strlen(path), tail = sizeof(shape) - 1, name = sizeof("/link") - 1;
	struct stat st;
	int fd;

	/* The path came through a pipe: nothing goes but a socket where a ticket has its socket. */
	if (n >= sizeof(dir) || n <= tail || path[n - tail - 1] != '/' ||
	    memcmp(path + n - tail, shape, 4) || strcmp(path + n - name, "/link"))
		return;
	memcpy(dir, path, n - name);
	dir[n - name] = '\0';
	fd = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstatat(fd, "link", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
		unlinkat(fd, "link", 0);
	close_keeping_errno(fd);
	rmdir(dir);
}

int
handoff_token(char out[33])
{
	unsigned char random[16];
	ssize_t n;

	do
		n = getrandom(random, sizeof(random), 0);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(random))
		return n < 0 ? -errno : -EIO;
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(out + 2 * i, 3, "%02x", random[i]);
	return 0;
}
