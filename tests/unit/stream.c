/* The transport over bare descriptors: nothing waits, a cut is known, and the ready bits tell the
 * truth. */
#include "net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"

static char buf[1 << 20];

static struct transport *
over(int rfd, int wfd, bool owns)
{
	struct transport *t = NULL;

	CHECK_INT(stream_new(rfd, wfd, owns, &t), 0);
	return t;
}

static void
until(int fd, short events)
{
	struct pollfd p = { fd, events, 0 };

	CHECK_INT(poll(&p, 1, 5000), 1);
}

static void
nonblock(int fd)
{
	CHECK_INT(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

static void
tcp_pair(int fd[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_INT(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	CHECK_INT(listen(l, 1), 0);
	CHECK_INT(getsockname(l, (struct sockaddr *)&a, &len), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(connect(fd[0], (struct sockaddr *)&a, sizeof(a)), 0);
	fd[1] = accept(l, NULL, NULL);
	close(l);
}

static void
unix_pair(int fd[2])
{
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
}

static void
reset(int fd)
{
	struct linger now = { 1, 0 };

	CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(fd);
}

static void
fill(struct transport *t)
{
	ssize_t n;

	t->ready = TP_READ | TP_WRITE;
	do
		n = t->ops->write(t, buf, sizeof(buf));
	while (n > 0);
	CHECK_INT(n, -EAGAIN);
	CHECK_INT(t->ready & TP_WRITE, 0);
}

/* Sockets without O_NONBLOCK throughout: they are the shell's. */
CASE(a_short_read_of_a_socket_saves_the_call_that_would_find_nothing)
{
	struct transport *t;
	int fd[2];

	tcp_pair(fd);
	t = over(fd[0], fd[0], true);
	CHECK(stream_is(t));
	CHECK_INT(t->ops->handshake(t), 0);
	CHECK_INT(t->ready, TP_READ | TP_WRITE);
	CHECK_INT(t->ops->read(t, buf, 10), -EAGAIN);
	CHECK_INT(t->ready, TP_WRITE);
	CHECK_INT(write(fd[1], "12345678", 8), 8);
	until(fd[0], POLLIN);
	CHECK_INT(t->ops->read(t, buf, 10), -EAGAIN);
	t->ready |= TP_READ;
	CHECK_INT(t->ops->read(t, buf, 5), 5);
	CHECK_INT(t->ready, TP_READ | TP_WRITE);
	CHECK_INT(t->ops->read(t, buf, 5), 3);
	CHECK_INT(t->ready, TP_WRITE);
	CHECK_INT(t->in, 8);
	CHECK_INT(fcntl(fd[0], F_GETFL) & O_NONBLOCK, 0);
	CHECK_INT(t->ops->want(t, TP_READ), TP_READ);
	CHECK_INT(t->ops->flush(t), 0);
	t->ops->close(t, false);
	CHECK_INT(read(fd[1], buf, 1), 0);
	close(fd[1]);
}

CASE(an_end_of_stream_is_one_and_stays)
{
	struct transport *t;
	int fd[2];

	unix_pair(fd);
	t = over(fd[0], fd[0], true);
	CHECK_INT(t->ops->read(t, buf, 0), -EINVAL);
	shutdown(fd[1], SHUT_WR);
	CHECK_INT(t->ops->read(t, buf, 10), 0);
	CHECK(t->ended && !t->bare_end && !t->broken);
	t->ready = 0;
	CHECK_INT(t->ops->read(t, buf, 10), 0);
	t->ready = TP_WRITE;
	CHECK_INT(t->ops->write(t, "abc", 3), 3);
	CHECK_INT(t->out, 3);
	CHECK_INT(t->ops->finish(t), 0);
	CHECK_INT(t->ops->finish(t), 0);
	CHECK_INT(read(fd[1], buf, 10), 3);
	CHECK_INT(read(fd[1], buf, 10), 0);
	CHECK_INT(t->ops->unsent(t), 0);
	t->ops->close(t, true);
	close(fd[1]);
}

CASE(a_full_socket_says_so_without_waiting)
{
	struct transport *t;
	int fd[2];

	tcp_pair(fd);
	t = over(fd[0], fd[0], true);
	fill(t);
	CHECK_INT(t->ops->write(t, buf, 1), -EAGAIN);
	CHECK(t->ops->unsent(t) > 0);
	CHECK(!t->broken);
	CHECK_INT(t->ops->finish(t), 0);
	while (read(fd[1], buf, sizeof(buf)) > 0)
		continue;
	/* The peer's own end acknowledges everything before it. */
	close(fd[1]);
	until(fd[0], POLLIN);
	CHECK_INT(t->ops->unsent(t), 0);
	t->ready = TP_READ;
	CHECK_INT(t->ops->read(t, buf, 1), 0);
	CHECK(!t->broken);
	t->ops->close(t, false);
}

CASE(a_reset_is_told_once_and_remembered)
{
	struct transport *t;
	int fd[2];

	signal(SIGPIPE, SIG_DFL);
	tcp_pair(fd);
	t = over(fd[0], fd[0], true);
	reset(fd[1]);
	until(fd[0], POLLIN);
	CHECK_INT(t->ops->read(t, buf, 10), -ECONNRESET);
	CHECK_INT(t->broken, ECONNRESET);
	t->ready |= TP_READ;
	CHECK_INT(t->ops->read(t, buf, 10), 0);
	CHECK_INT(t->ops->write(t, "x", 1), -EPIPE);
	CHECK_INT(t->ops->finish(t), -EPIPE);
	CHECK_INT(t->broken, ECONNRESET);
	t->ops->close(t, true);

	tcp_pair(fd);
	t = over(fd[0], fd[0], true);
	reset(fd[1]);
	until(fd[0], POLLIN);
	CHECK_INT(t->ops->write(t, "x", 1), -ECONNRESET);
	CHECK_INT(t->ops->write(t, "x", 1), -EPIPE);
	CHECK_INT(t->broken, ECONNRESET);
	t->ops->close(t, true);
}

CASE(an_end_that_nobody_can_see_is_a_cut)
{
	struct transport *t;
	int fd[2];

	tcp_pair(fd);
	t = over(fd[0], fd[0], true);
	reset(fd[1]);
	until(fd[0], POLLIN);
	CHECK_INT(t->ops->finish(t), -EPIPE);
	CHECK_INT(t->broken, EPIPE);
	t->ops->close(t, false);
}

/* Both ends of stream were seen, the last bytes were not: no call reports this reset. */
CASE(a_reset_after_both_ends_is_found_by_what_is_unsent)
{
	struct transport *t;
	int fd[2];

	tcp_pair(fd);
	t = over(fd[0], fd[0], true);
	fill(t);
	CHECK_INT(t->ops->finish(t), 0);
	shutdown(fd[1], SHUT_WR);
	until(fd[0], POLLIN);
	t->ready = TP_READ;
	CHECK_INT(t->ops->read(t, buf, 1), 0);
	CHECK(t->ops->unsent(t) > 0);
	CHECK_INT(t->broken, 0);
	reset(fd[1]);
	until(fd[0], POLLERR);
	CHECK_INT(t->ops->read(t, buf, 1), 0);
	CHECK(t->ops->unsent(t) > 0);
	CHECK_INT(t->broken, ECONNRESET);
	t->ops->close(t, true);
}

CASE(a_cut_close_is_a_reset_also_when_borrowed)
{
	struct transport *t;
	int fd[2];

	tcp_pair(fd);
	t = over(fd[0], fd[0], true);
	t->ops->close(t, true);
	until(fd[1], POLLIN);
	CHECK_INT(read(fd[1], buf, 1), -1);
	CHECK_INT(errno, ECONNRESET);
	close(fd[1]);

	tcp_pair(fd);
	t = over(fd[0], fd[0], false);
	t->ops->close(t, true);
	CHECK(fcntl(fd[0], F_GETFD) >= 0);
	close(fd[0]);
	until(fd[1], POLLIN);
	CHECK_INT(read(fd[1], buf, 1), -1);
	CHECK_INT(errno, ECONNRESET);
	close(fd[1]);
}

CASE(a_pipe_is_read_and_written_without_waiting)
{
	struct transport *t;
	int in[2], out[2];

	CHECK_INT(pipe2(in, O_CLOEXEC), 0);
	CHECK_INT(pipe2(out, O_CLOEXEC), 0);
	t = over(in[0], out[1], true);
	CHECK_INT(t->ops->read(t, buf, 100), -EAGAIN);
	CHECK_INT(t->ready, TP_WRITE);
	CHECK_INT(write(in[1], "12345", 5), 5);
	t->ready |= TP_READ;
	CHECK_INT(t->ops->read(t, buf, 100), 5);
	CHECK_INT(t->ready, TP_READ | TP_WRITE);
	CHECK_INT(t->ops->read(t, buf, 100), -EAGAIN);
	CHECK_INT(t->ops->write(t, buf, sizeof(buf)), PIPE_BUF);
	fill(t);
	CHECK_INT(t->ready, TP_READ);
	close(in[1]);
	CHECK_INT(t->ops->read(t, buf, 100), 0);
	CHECK(t->ended);
	CHECK_INT(t->ops->unsent(t), 0);
	t->ops->close(t, false);
	close(out[0]);
	CHECK(fcntl(out[1], F_GETFD) < 0);
}

CASE(a_pipe_whose_reader_is_gone_is_broken)
{
	struct transport *t;
	int out[2];

	signal(SIGPIPE, SIG_IGN);
	CHECK_INT(pipe2(out, O_CLOEXEC), 0);
	t = over(-1, out[1], true);
	CHECK_INT(t->ops->want(t, TP_READ | TP_WRITE), TP_WRITE);
	CHECK_INT(t->ops->read(t, buf, 1), -EBADF);
	close(out[0]);
	CHECK_INT(t->ops->write(t, "x", 1), -EPIPE);
	CHECK_INT(t->broken, EPIPE);
	t->ops->close(t, false);
	signal(SIGPIPE, SIG_DFL);
}

CASE(the_end_of_an_owned_pipe_reaches_its_reader)
{
	struct transport *t;
	int in[2], out[2];

	CHECK_INT(pipe2(in, O_CLOEXEC), 0);
	CHECK_INT(pipe2(out, O_CLOEXEC), 0);
	t = over(in[0], out[1], true);
	CHECK_INT(t->ops->finish(t), 0);
	CHECK_INT(t->wfd, -1);
	CHECK_INT(read(out[0], buf, 1), 0);
	CHECK_INT(t->ops->want(t, TP_READ | TP_WRITE), TP_READ);
	CHECK_INT(t->ops->write(t, "x", 1), -EBADF);
	CHECK_INT(t->ops->finish(t), 0);
	t->ops->close(t, false);
	CHECK(fcntl(in[0], F_GETFD) < 0);
	close(in[1]);
	close(out[0]);
}

CASE(the_end_of_standard_output_reaches_its_reader)
{
	struct transport *t;
	int in[2], out[2], saved, r;
	ssize_t end, wrote;

	CHECK_INT(pipe2(in, O_CLOEXEC), 0);
	CHECK_INT(pipe2(out, O_CLOEXEC), 0);
	fflush(stdout);
	saved = dup(1);
	dup2(out[1], 1);
	close(out[1]);
	t = over(in[0], 1, false);
	r = t->ops->finish(t);
	end = read(out[0], buf, 1);
	wrote = write(1, "x", 1); /* into /dev/null */
	dup2(saved, 1);
	close(saved);
	CHECK_INT(r, 0);
	CHECK_INT(end, 0);
	CHECK_INT(wrote, 1);
	t->ops->close(t, false);
	CHECK(fcntl(in[0], F_GETFD) >= 0);
	close(in[0]);
	close(in[1]);
	close(out[0]);
}

CASE(a_file_and_dev_null_never_wait)
{
	struct transport *t;
	char name[] = "/tmp/ccf-test-XXXXXX";
	int fd = mkstemp(name), null = open("/dev/null", O_RDWR | O_CLOEXEC);

	unlink(name);
	CHECK_INT(pwrite(fd, "123456", 6, 0), 6);
	t = over(fd, null, true);
	CHECK_INT(t->ops->read(t, buf, 4), 4);
	CHECK_INT(t->ops->read(t, buf, 4), 2);
	CHECK(t->ready & TP_READ);
	CHECK_INT(t->ops->read(t, buf, 4), 0);
	CHECK(t->ops->write(t, buf, 100) == 100);
	t->ops->close(t, false);
}

CASE(a_terminal_is_never_spliced)
{
	struct transport *t;
	int pt = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), p[2];

	if (pt < 0 || grantpt(pt) < 0 || unlockpt(pt) < 0)
		SKIP("no pseudo-terminals here");
	CHECK_INT(pipe2(p, O_CLOEXEC), 0);
	t = over(pt, pt, true);
	CHECK_INT(stream_splice(t, NULL, -1, p[1], 100, true), -EINVAL);
	CHECK_INT(stream_splice(NULL, t, p[0], -1, 100, false), -EINVAL);
	CHECK_INT(t->ops->write(t, "abc\n", 4), 4);
	t->ops->close(t, false);
	close(p[0]);
	close(p[1]);
}

CASE(splicing_moves_bytes_through_a_pipe_of_ours)
{
	struct transport *a, *b;
	int in[2], out[2], p[2];

	tcp_pair(in);
	unix_pair(out);
	nonblock(in[0]);
	nonblock(out[0]);
	CHECK_INT(pipe2(p, O_CLOEXEC), 0);
	a = over(in[0], in[0], true);
	b = over(out[0], out[0], true);
	CHECK_INT(stream_splice(a, NULL, -1, p[1], 1000, true), -EAGAIN);
	CHECK_INT(a->ready, TP_WRITE);
	CHECK_INT(write(in[1], "12345", 5), 5);
	until(in[0], POLLIN);
	CHECK_INT(stream_splice(a, NULL, -1, p[1], 1000, true), -EAGAIN);
	a->ready |= TP_READ;
	CHECK_INT(stream_splice(a, NULL, -1, p[1], 1000, true), 5);
	CHECK_INT(a->in, 5);
	CHECK_INT(stream_splice(NULL, b, p[0], -1, 1000, false), 5);
	CHECK_INT(b->out, 5);
	CHECK_INT(read(out[1], buf, 10), 5);
	close(in[1]);
	until(in[0], POLLIN);
	CHECK_INT(stream_splice(a, NULL, -1, p[1], 1000, true), 0);
	CHECK(a->ended);
	fill(b);
	b->ready |= TP_WRITE;
	CHECK_INT(write(p[1], "x", 1), 1);
	CHECK_INT(stream_splice(NULL, b, p[0], -1, 1, false), -EAGAIN);
	CHECK_INT(b->ready, TP_READ);
	a->ops->close(a, false);
	b->ops->close(b, false);
	close(out[1]);
	close(p[0]);
	close(p[1]);
}

CASE(a_splice_into_a_full_tcp_socket_does_not_wait)
{
	struct transport *t;
	int fd[2], p[2];

	tcp_pair(fd);
	nonblock(fd[0]);
	CHECK_INT(pipe2(p, O_CLOEXEC), 0);
	t = over(fd[0], fd[0], true);
	fill(t);
	t->ready |= TP_WRITE;
	CHECK_INT(write(p[1], buf, 4096), 4096);
	CHECK_INT(stream_splice(NULL, t, p[0], -1, 4096, false), -EAGAIN);
	CHECK_INT(t->ready & TP_WRITE, 0);
	t->ops->close(t, true);
	close(fd[1]);
	close(p[0]);
	close(p[1]);
}

CASE(a_splice_out_of_a_socket_into_a_full_pipe_does_not_wait)
{
	struct transport *t;
	int fd[2], p[2];

	unix_pair(fd);
	nonblock(fd[0]);
	CHECK_INT(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	while (write(p[1], buf, 4096) > 0)
		continue;
	CHECK_INT(fcntl(p[1], F_SETFL, 0), 0);
	t = over(fd[0], fd[0], true);
	CHECK_INT(write(fd[1], buf, 100), 100);
	CHECK_INT(stream_splice(t, NULL, -1, p[1], 100, true), -EAGAIN);
	t->ready |= TP_READ;
	CHECK_INT(t->ops->read(t, buf, 200), 100);
	t->ops->close(t, true);
	close(fd[1]);
	close(p[0]);
	close(p[1]);
}

CASE(a_socket_without_o_nonblock_is_not_spliced)
{
	struct transport *t, *o;
	int fd[2], p[2];

	tcp_pair(fd);
	CHECK_INT(pipe2(p, O_CLOEXEC), 0);
	t = over(fd[0], fd[0], true);
	o = over(p[0], p[1], true);
	CHECK_INT(stream_splice(t, NULL, -1, p[1], 100, true), -EINVAL);
	CHECK_INT(stream_splice(NULL, t, p[0], -1, 100, false), -EINVAL);
	CHECK_INT(stream_direct(t, o, 100), -EINVAL);
	CHECK_INT(stream_direct(o, t, 100), -EINVAL);
	CHECK_INT(t->ready, TP_READ | TP_WRITE);
	t->ops->close(t, false);
	o->ops->close(o, false);
	close(fd[1]);
}

CASE(a_reset_is_found_by_splicing_too)
{
	struct transport *t;
	int fd[2], p[2];

	signal(SIGPIPE, SIG_IGN);
	CHECK_INT(pipe2(p, O_CLOEXEC), 0);
	for (int side = 0; side < 2; side++) {
		tcp_pair(fd);
		nonblock(fd[0]);
		t = over(fd[0], fd[0], true);
		reset(fd[1]);
		until(fd[0], POLLIN);
		CHECK_INT(write(p[1], "x", 1), 1);
		CHECK_INT(side ? stream_splice(NULL, t, p[0], -1, 1, false)
			       : stream_splice(t, NULL, -1, p[1], 1, true),
		    -ECONNRESET);
		CHECK_INT(t->broken, ECONNRESET);
		t->ops->close(t, true);
	}
	close(p[0]);
	close(p[1]);
	signal(SIGPIPE, SIG_DFL);
}

CASE(one_splice_joins_standard_input_to_a_socket)
{
	struct transport *in, *sock;
	int fd[2], p[2];

	tcp_pair(fd);
	nonblock(fd[0]);
	CHECK_INT(pipe2(p, O_CLOEXEC), 0);
	in = over(p[0], -1, true);
	sock = over(fd[0], fd[0], true);
	CHECK_INT(stream_direct(in, sock, 1000), -EAGAIN);
	CHECK_INT(in->ready & TP_READ, 0);
	CHECK(sock->ready & TP_WRITE);
	CHECK_INT(write(p[1], "12345", 5), 5);
	in->ready |= TP_READ;
	CHECK_INT(stream_direct(in, sock, 1000), 5);
	CHECK_INT(in->in, 5);
	CHECK_INT(sock->out, 5);
	CHECK_INT(read(fd[1], buf, 10), 5);
	fill(sock);
	CHECK_INT(write(p[1], "x", 1), 1);
	CHECK_INT(stream_direct(in, sock, 1000), -EAGAIN);
	sock->ready |= TP_WRITE;
	CHECK_INT(stream_direct(in, sock, 1000), -EAGAIN);
	CHECK_INT(sock->ready & TP_WRITE, 0);
	CHECK(in->ready & TP_READ);
	CHECK_INT(in->ops->read(in, buf, 10), 1);
	close(p[1]);
	sock->ready |= TP_WRITE;
	CHECK_INT(stream_direct(in, sock, 1000), 0);
	CHECK(in->ended);
	in->ops->close(in, false);
	sock->ops->close(sock, true);
	close(fd[1]);
}

CASE(one_splice_joins_a_socket_to_standard_output)
{
	struct transport *out, *sock;
	int fd[2], p[2];

	signal(SIGPIPE, SIG_IGN);
	unix_pair(fd);
	nonblock(fd[0]);
	CHECK_INT(pipe2(p, O_CLOEXEC), 0);
	out = over(-1, p[1], true);
	sock = over(fd[0], fd[0], true);
	CHECK_INT(stream_direct(sock, out, 1000), -EAGAIN);
	CHECK_INT(sock->ready & TP_READ, 0);
	CHECK(out->ready & TP_WRITE);
	CHECK_INT(write(fd[1], "12345", 5), 5);
	sock->ready |= TP_READ;
	CHECK_INT(stream_direct(sock, out, 1000), 5);
	CHECK_INT(read(p[0], buf, 10), 5);
	fill(out);
	out->ready |= TP_WRITE;
	CHECK_INT(write(fd[1], "x", 1), 1);
	CHECK_INT(stream_direct(sock, out, 1000), -EAGAIN);
	CHECK_INT(out->ready & TP_WRITE, 0);
	CHECK(sock->ready & TP_READ);
	out->ready |= TP_WRITE;
	close(p[0]);
	CHECK_INT(stream_direct(sock, out, 1000), -EPIPE);
	CHECK_INT(out->broken, EPIPE);
	CHECK_INT(sock->broken, 0);
	CHECK_INT(stream_direct(sock, sock, 1000), -EINVAL);
	out->ops->close(out, false);
	sock->ops->close(sock, false);
	close(fd[1]);
	signal(SIGPIPE, SIG_DFL);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_short_read_of_a_socket_saves_the_call_that_would_find_nothing),
	    RUN(an_end_of_stream_is_one_and_stays),
	    RUN(a_full_socket_says_so_without_waiting),
	    RUN(a_reset_is_told_once_and_remembered),
	    RUN(an_end_that_nobody_can_see_is_a_cut),
	    RUN(a_reset_after_both_ends_is_found_by_what_is_unsent),
	    RUN(a_cut_close_is_a_reset_also_when_borrowed),
	    RUN(a_pipe_is_read_and_written_without_waiting),
	    RUN(a_pipe_whose_reader_is_gone_is_broken),
	    RUN(the_end_of_an_owned_pipe_reaches_its_reader),
	    RUN(the_end_of_standard_output_reaches_its_reader),
	    RUN(a_file_and_dev_null_never_wait),
	    RUN(a_terminal_is_never_spliced),
	    RUN(splicing_moves_bytes_through_a_pipe_of_ours),
	    RUN(a_splice_into_a_full_tcp_socket_does_not_wait),
	    RUN(a_splice_out_of_a_socket_into_a_full_pipe_does_not_wait),
	    RUN(a_socket_without_o_nonblock_is_not_spliced),
	    RUN(a_reset_is_found_by_splicing_too),
	    RUN(one_splice_joins_standard_input_to_a_socket),
	    RUN(one_splice_joins_a_socket_to_standard_output),
	    { 0 },
	});
}
