/* net/stream - the transport over bare descriptors.
 * What a descriptor is decides how it is asked not to wait; that is looked up once, when the stream
 * is made.  O_NONBLOCK is not set, so splice(2) is refused for a socket without it:
 * SPLICE_F_NONBLOCK speaks of pipes, and a splice from an empty or into a full blocking TCP socket
 * waits (tried on Linux 6.18). */
#include "net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"

enum kind {
	NOTHING, /* -1, or not a descriptor */
	SOCKET,
	FIFO,
	SLOW, /* a terminal or another character device: poll says */
	PLAIN /* a file: never waits, as files go */
};

struct stream {
	struct transport t; /* first */
	enum kind rkind, wkind;
	bool rsplice, wsplice; /* a splice there cannot wait */
	bool tcp;	       /* wfd is a TCP socket */
	bool owns, finished;
};

static const struct transport_ops stream_ops;

static struct stream *
stream_of(struct transport *t)
{
	return (struct stream *)t;
}

bool
stream_is(const struct transport *t)
{
	return t && t->ops == &stream_ops;
}

/* Every failure comes by here: the kernel says once that a connection was cut, so it is kept. */
static int
failed(struct transport *t, int err)
{
	if (!t->broken && (err == ECONNRESET || err == EPIPE || err == ETIMEDOUT))
		t->broken = err;
	return -err;
}

static int
not_now(struct transport *t, unsigned bit)
{
	t->ready &= ~bit;
	return -EAGAIN;
}

static ssize_t
ended(struct transport *t)
{
	t->ended = true;
	return 0;
}

/* Whether poll(2) says anything of fd now: ready, at its end, or in error.  -EAGAIN: nothing. */
static int
poll_now(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	if (poll(&p, 1, 0) < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (p.revents & POLLNVAL)
		return -EBADF;
	return p.revents ? 0 : -EAGAIN;
}

static int
stream_handshake(struct transport *t)
{
	(void)t;
	return 0;
}

static ssize_t
stream_read(struct transport *t, void *buf, size_t cap)
{
	struct stream *s = stream_of(t);
	ssize_t n;
	int r = 0;

	if (t->ended)
		return 0;
	if (cap == 0 || s->rkind == NOTHING)
		return cap ? -EBADF : -EINVAL; /* 0 would look like the end */
	if (!(t->ready & TP_READ))
		return -EAGAIN;
	if (s->rkind == FIFO || s->rkind == SLOW)
		r = poll_now(t->rfd, POLLIN);
	if (r < 0)
		return r == -EAGAIN ? not_now(t, TP_READ) : r;
	do
		n = s->rkind == SOCKET ? recv(t->rfd, buf, cap, MSG_DONTWAIT)
				       : read(t->rfd, buf, cap);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? not_now(t, TP_READ) : failed(t, errno);
	if (n == 0)
		return ended(t);
	/* A socket that gave less than it was asked for is empty; epoll is level-triggered and
	 * would say if not. */
	if (s->rkind == SOCKET && (size_t)n < cap)
		t->ready &= ~(unsigned)TP_READ;
	t->in += (uint64_t)n;
	return n;
}

static ssize_t
stream_write(struct transport *t, const void *buf, size_t len)
{
	struct stream *s = stream_of(t);
	ssize_t n;
	int r = 0;

	if (len == 0 || s->wkind == NOTHING || s->finished)
		return len ? -EBADF : -EINVAL;
	if (!(t->ready & TP_WRITE))
		return -EAGAIN;
	if (s->wkind == FIFO || s->wkind == SLOW) {
		r = poll_now(t->wfd, POLLOUT);
		len = len < PIPE_BUF ? len : PIPE_BUF;
	}
	if (r < 0)
		return r == -EAGAIN ? not_now(t, TP_WRITE) : r;
	do
		n = s->wkind == SOCKET ? send(t->wfd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL)
				       : write(t->wfd, buf, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? not_now(t, TP_WRITE) : failed(t, errno);
	t->out += (uint64_t)n;
	return n;
}

static int
stream_flush(struct transport *t)
{
	(void)t;
	return 0; /* nothing is gathered here */
}

static int
stream_finish(struct transport *t)
{
	struct stream *s = stream_of(t);
	int r = 0;

	if (s->finished)
		return 0;
	s->finished = true;
	if (s->wkind == SOCKET) {
		if (shutdown(t->wfd, SHUT_WR) == 0)
			return 0;
		/* A reset that nobody has read yet leaves ENOTCONN here: there is no peer to see
		 * our end. */
		return failed(t, errno == ENOTCONN ? EPIPE : errno);
	}
	if (t->wfd < 0 || t->wfd == t->rfd)
		return 0;
	if (s->owns)
		close(t->wfd);
	else if (t->wfd == STDOUT_FILENO) {
		/* It is borrowed and cannot be closed for everybody, but this process can stop
		 * holding it: the reader sees the end, and the number stays taken. */
		r = fds_null(STDOUT_FILENO);
	}
	t->wfd = -1;
	s->wkind = NOTHING;
	return r;
}

static unsigned
stream_want(const struct transport *t, unsigned ops)
{
	return ops & ((t->rfd >= 0 ? TP_READ : 0u) | (t->wfd >= 0 ? TP_WRITE : 0u));
}

/* After a reset that found both ends of stream read, no call reports it any more: recv gives 0, and
 * SIOCOUTQ stays where it was for good.  A closed socket with something unacknowledged was cut. */
static int64_t
stream_unsent(const struct transport *t)
{
	struct stream *s = (struct stream *)(uintptr_t)t; /* made by malloc, never const */
	struct tcp_info info;
	socklen_t len = sizeof(info.tcpi_state);
	int n;

	if (!s->tcp || s->wkind == NOTHING || ioctl(t->wfd, SIOCOUTQ, &n) < 0 || n <= 0)
		return 0;
	if (getsockopt(t->wfd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    info.tcpi_state != TCP_CLOSE)
		return n;
	/* The last acknowledgement closes it, too, and may have come between the two questions. */
	if (ioctl(t->wfd, SIOCOUTQ, &n) < 0 || n <= 0)
		return 0;
	failed(&s->t, ECONNRESET);
	return n;
}

static const char *
stream_reason(const struct transport *t)
{
	(void)t;
	return NULL; /* errno says it all */
}

/* Armed, a close is a reset, also the one that the kernel does for a process that was killed: only
 * stream_close can make it a clean one.  Also where the descriptor is borrowed: it belongs to the
 * socket, and holds when the last holder goes. */
static void
arm(const struct stream *s, bool on)
{
	struct linger reset = { .l_onoff = on, .l_linger = 0 };

	if (s->tcp && s->wkind == SOCKET)
		setsockopt(s->t.wfd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

static void
stream_close(struct transport *t, bool cut)
{
	struct stream *s;
	int saved = errno;

	if (!t)
		return;
	s = stream_of(t);
	arm(s, cut);
	if (s->owns && t->rfd >= 0)
		close(t->rfd);
	if (s->owns && t->wfd >= 0 && t->wfd != t->rfd)
		close(t->wfd);
	free(s);
	errno = saved;
}

static const struct transport_ops stream_ops = {
	.name = "stream",
	.handshake = stream_handshake,
	.read = stream_read,
	.write = stream_write,
	.flush = stream_flush,
	.finish = stream_finish,
	.want = stream_want,
	.unsent = stream_unsent,
	.reason = stream_reason,
	.close = stream_close,
};

static enum kind
kind_of(int fd, bool *ret_splice)
{
	struct stat st;
	int flags;

	*ret_splice = false;
	if (fd < 0 || fstat(fd, &st) < 0)
		return NOTHING;
	flags = fcntl(fd, F_GETFL);
	if (S_ISSOCK(st.st_mode)) {
		*ret_splice = flags >= 0 && flags & O_NONBLOCK;
		return SOCKET;
	}
	if (S_ISCHR(st.st_mode))
		return SLOW; /* never by splice: a terminal takes one, and waits in it */
	*ret_splice = true;
	return S_ISFIFO(st.st_mode) ? FIFO : PLAIN;
}

static bool
is_tcp(int fd)
{
	int protocol = 0;
	socklen_t len = sizeof(protocol);

	return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 &&
	       protocol == IPPROTO_TCP;
}

int
stream_new(int rfd, int wfd, bool owns, struct transport **ret)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->t.ops = &stream_ops;
	s->t.rfd = rfd;
	s->t.wfd = wfd;
	s->t.ready = TP_READ | TP_WRITE;
	s->owns = owns;
	s->rkind = kind_of(rfd, &s->rsplice);
	s->wkind = s->rkind;
	s->wsplice = s->rsplice;
	if (wfd != rfd)
		s->wkind = kind_of(wfd, &s->wsplice);
	s->tcp = s->wkind == SOCKET && is_tcp(wfd);
	arm(s, true);
	*ret = &s->t;
	return 0;
}

static ssize_t
splice_now(int from, int to, size_t len)
{
	ssize_t n;

	do
		n = splice(from, NULL, to, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t
splice_in(struct transport *from, int wpipe, size_t len)
{
	ssize_t n;

	if (from->ended)
		return 0;
	if (!stream_of(from)->rsplice)
		return -EINVAL;
	if (!(from->ready & TP_READ))
		return -EAGAIN;
	n = splice_now(from->rfd, wpipe, len);
	if (n < 0)
		return n == -EAGAIN   ? not_now(from, TP_READ)
		       : n == -EINVAL ? n
				      : failed(from, (int)-n);
	if (n == 0)
		return ended(from);
	from->in += (uint64_t)n;
	return n;
}

static ssize_t
splice_out(int rpipe, struct transport *to, size_t len)
{
	struct stream *s = stream_of(to);
	ssize_t n;

	if (!s->wsplice || s->finished)
		return s->finished ? -EBADF : -EINVAL;
	if (!(to->ready & TP_WRITE))
		return -EAGAIN;
	n = splice_now(rpipe, to->wfd, len);
	if (n < 0)
		return n == -EAGAIN   ? not_now(to, TP_WRITE)
		       : n == -EINVAL ? n
				      : failed(to, (int)-n);
	to->out += (uint64_t)n;
	return n;
}

ssize_t
stream_splice(
    struct transport *from, struct transport *to, int rpipe, int wpipe, size_t len, bool fill)
{
	if (len == 0 || !stream_is(fill ? from : to))
		return -EINVAL;
	return fill ? splice_in(from, wpipe, len) : splice_out(rpipe, to, len);
}

/* Nothing moved: which of the two was it?  Where both look ready by now, the reader's bit goes:
 * level-triggered, epoll sets it again at once. */
static ssize_t
nothing_moved(struct transport *from, struct transport *to)
{
	struct pollfd p[2] = { { .fd = from->rfd, .events = POLLIN },
		{ .fd = to->wfd, .events = POLLOUT } };

	if (poll(p, 2, 0) < 0)
		p[0].revents = p[1].revents = 0;
	if (!p[1].revents)
		to->ready &= ~(unsigned)TP_WRITE;
	if (!p[0].revents || p[1].revents)
		from->ready &= ~(unsigned)TP_READ;
	return -EAGAIN;
}

/* splice looks at the pipe first: without a reader it says EPIPE though the socket may have nothing
 * for it. */
static ssize_t
nobody_reads(struct transport *from, struct transport *to)
{
	char byte;
	ssize_t n = recv(from->rfd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n == 0)
		return ended(from);
	if (n < 0 && errno == EAGAIN) {
		from->ready &= ~(unsigned)TP_READ;
		return -EAGAIN;
	}
	return n < 0 ? failed(from, errno) : failed(to, EPIPE);
}

ssize_t
stream_direct(struct transport *from, struct transport *to, size_t len)
{
	struct stream *r, *w;
	ssize_t n;

	if (len == 0 || !stream_is(from) || !stream_is(to))
		return -EINVAL;
	r = stream_of(from);
	w = stream_of(to);
	if (from->ended)
		return 0;
	if (!r->rsplice || !w->wsplice || w->finished || (r->rkind != FIFO && w->wkind != FIFO))
		return -EINVAL;
	if (!(from->ready & TP_READ) || !(to->ready & TP_WRITE))
		return -EAGAIN;
	n = splice_now(from->rfd, to->wfd, len);
	if (n == -EAGAIN)
		return nothing_moved(from, to);
	if (n == -EINVAL)
		return n;
	if (n == -EPIPE && r->rkind == SOCKET)
		return nobody_reads(from, to);
	/* One call, two sides: a pipe is never reset, and who reads never meets EPIPE. */
	if (n < 0)
		return failed(n != -EPIPE && r->rkind == SOCKET ? from : to, (int)-n);
	if (n == 0)
		return ended(from);
	from->in += (uint64_t)n;
	to->out += (uint64_t)n;
	return n;
}
