/* (who runs this makes no difference) */
/* Messages on their way, and what has become of each.  The last cases play thousands of random
 * moves against a model that keeps every message as plain bytes, and compare what the other end of
 * the socket reads. */
#include "flow/outbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "flow/range.h"

#define SMALL 4608 /* what the kernel makes of the least there is; it doubles it */

static char path[3][64];

/* What lies in file n at a place: the same whenever it is there. */
static char
file_byte(int n, size_t at)
{
	return (char)(at * 7 + at / 251 + (size_t)n * 31);
}

static void
file_resize(int n, size_t len)
{
	static char bytes[256 * 1024];
	int fd = open(path[n], O_RDWR | O_CREAT, 0600);

	for (size_t i = 0; i < len; i++)
		bytes[i] = file_byte(n, i);
	CHECK(ftruncate(fd, (off_t)len) == 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len);
	close(fd);
}

static void
nonblock(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void
local_pair(int fd[2], int room)
{
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

static void
tcp_pair(int fd[2], int room)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (room) {
		setsockopt(l, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
		setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	}
	setsockopt(fd[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	bind(l, (struct sockaddr *)&a, sizeof(a));
	listen(l, 1);
	getsockname(l, (struct sockaddr *)&a, &len);
	CHECK_INT(connect(fd[0], (struct sockaddr *)&a, len), 0);
	fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	nonblock(fd[0]);
	nonblock(fd[1]);
	close(l);
}

static void
pair_close(int fd[2])
{
	close(fd[0]);
	close(fd[1]);
}

static void
put(struct outbox *o, const char *text)
{
	CHECK_INT(outbox_put(o, &(struct piece){ .bytes = text, .len = strlen(text) }, 1), 0);
}

static void
put_range(struct outbox *o, const char *head, struct range *r)
{
	struct piece p[] = { { .bytes = head, .len = strlen(head) }, { .range = r } };

	CHECK_INT(outbox_put(o, p, 2), 0);
}

static const char *
got(int fd)
{
	static char text[1024];
	ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static bool
balanced(const struct outbox *o)
{
	return o->taken == o->delivered + o->dropped + o->unknown + o->waiting;
}

static bool
is_fate(const struct outbox_fate *f, uint64_t delivered, uint64_t dropped, uint64_t unknown,
    uint64_t kept)
{
	return f->delivered == delivered && f->dropped == dropped && f->unknown == unknown &&
	       f->kept == kept;
}

CASE(a_message_waits_until_it_is_acknowledged)
{
	struct outbox o;
	int fd[2];

	outbox_init(&o);
	local_pair(fd, 65536);
	outbox_begin(&o);
	CHECK(!outbox_wants(&o));
	put(&o, "one");
	put(&o, "three");
	CHECK(outbox_wants(&o));
	CHECK_INT(o.unwritten, 8);
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_STR(got(fd[1]), "onethree");
	CHECK(!outbox_wants(&o) && !outbox_in_message(&o));
	CHECK_INT(o.unwritten, 0);
	CHECK_INT(o.written, 8);
	CHECK_INT(o.waiting, 2);
	CHECK_INT(outbox_acknowledge(&o, 2), 0);
	CHECK_INT(outbox_acknowledge(&o, 7), 1);
	CHECK_INT(outbox_acknowledge(&o, 4), 0); /* never fewer */
	CHECK_INT(o.acked, 7);
	CHECK_INT(o.bytes_delivered, 3);
	put(&o, "x");
	outbox_settle(&o); /* what was written */
	CHECK_INT(o.delivered, 2);
	CHECK_INT(o.waiting, 1);
	CHECK_INT(outbox_acknowledge(&o, 1000), 0); /* no more than was written */
	CHECK(balanced(&o));
	CHECK_INT(outbox_put(&o, &(struct piece){ .bytes = "", .len = 0 }, 1), -EINVAL);
	CHECK_INT(outbox_put(&o, NULL, 0), -EINVAL);
	CHECK_INT(o.taken, 3);
	CHECK_INT(outbox_drop(&o), 1);
	CHECK(!outbox_wants(&o) && balanced(&o));
	CHECK(!o.ends && TAILQ_EMPTY(&o.chunks)); /* idle, it keeps nothing */
	outbox_free(&o);
	pair_close(fd);
}

CASE(what_a_break_finds_is_kept_and_sent_again_or_counted)
{
	struct outbox o;
	struct outbox_fate fate;
	char big[70000];
	int fd[2];

	memset(big, 'x', sizeof(big));
	outbox_init(&o);
	local_pair(fd, SMALL);
	outbox_begin(&o);
	put(&o, "one");
	put(&o, "two");
	CHECK_INT(outbox_put(&o, &(struct piece){ .bytes = big, .len = sizeof(big) }, 1), 0);
	put(&o, "four");
	CHECK_INT(outbox_write(&o, fd[0], false), -EAGAIN);
	CHECK(o.written > 6 && o.written < 6 + sizeof(big));
	CHECK(outbox_in_message(&o));
	CHECK_INT(outbox_acknowledge(&o, 3), 1);
	outbox_break(&o, OUTBOX_KEEP_ALL, &fate);
	CHECK(is_fate(&fate, 1, 0, 0, 3));
	CHECK(balanced(&o) && !outbox_in_message(&o));
	CHECK_INT(o.resent, 0);
	pair_close(fd);

	local_pair(fd, SMALL);
	outbox_begin(&o);
	CHECK_INT(o.unwritten, 3 + sizeof(big) + 4);
	CHECK_INT(outbox_write(&o, fd[0], false), -EAGAIN);
	CHECK_INT(o.resent, 2); /* not the one of which no byte had gone */
	got(fd[1]);
	outbox_break(&o, OUTBOX_KEEP_NONE, &fate);
	CHECK(is_fate(&fate, 0, 2, 1, 0));
	CHECK_INT(o.dropped, 2);
	CHECK_INT(o.unknown, 1);
	CHECK(balanced(&o) && !outbox_wants(&o));
	pair_close(fd);
	outbox_break(&o, OUTBOX_KEEP_NONE, NULL);
	outbox_free(&o);
}

CASE(writing_stops_at_a_mark_until_it_is_passed)
{
	struct outbox o;
	int fd[2];

	outbox_init(&o);
	local_pair(fd, 65536);
	outbox_begin(&o);
	CHECK_INT(outbox_mark(&o), 0);
	CHECK(outbox_at_mark(&o) && !outbox_wants(&o));
	outbox_pass(&o);
	CHECK(!outbox_at_mark(&o));
	outbox_pass(&o); /* there is none */
	put(&o, "one");
	CHECK_INT(outbox_mark(&o), 0);
	put(&o, "two");
	CHECK_INT(outbox_mark(&o), 0);
	CHECK_INT(outbox_mark(&o), 0);
	put(&o, "three");
	CHECK(!outbox_at_mark(&o) && outbox_wants(&o));
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_STR(got(fd[1]), "one");
	CHECK(outbox_at_mark(&o) && !outbox_wants(&o));
	outbox_settle(&o);
	CHECK(outbox_at_mark(&o));
	outbox_pass(&o);
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_STR(got(fd[1]), "two");
	CHECK(outbox_at_mark(&o));
	outbox_break(&o, OUTBOX_KEEP_ALL, NULL);
	CHECK(!outbox_at_mark(&o));
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_STR(got(fd[1]), "twothree");
	outbox_mark(&o);
	CHECK_INT(outbox_drop(&o), 2);
	CHECK(!outbox_at_mark(&o) && balanced(&o));
	outbox_free(&o);
	pair_close(fd);
}

CASE(the_rest_of_a_message_that_has_begun_and_no_more)
{
	struct outbox o;
	char big[70000], sink[70000];
	int fd[2], rc;

	memset(big, 'x', sizeof(big));
	outbox_init(&o);
	local_pair(fd, SMALL);
	outbox_begin(&o);
	put(&o, "one");
	CHECK_INT(outbox_write(&o, fd[0], true), 0);
	CHECK_INT(o.written, 0);
	CHECK_INT(outbox_put(&o, &(struct piece){ .bytes = big, .len = sizeof(big) }, 1), 0);
	put(&o, "three");
	CHECK_INT(outbox_write(&o, fd[0], false), -EAGAIN);
	while ((rc = outbox_write(&o, fd[0], true)) == -EAGAIN)
		CHECK(recv(fd[1], sink, sizeof(sink), 0) > 0);
	CHECK_INT(rc, 0);
	CHECK_INT(o.written, 3 + sizeof(big));
	CHECK(!outbox_in_message(&o) && outbox_wants(&o));
	outbox_free(&o);
	pair_close(fd);
}

static unsigned losses;
static const struct range *lost_one;

static void
lost(struct outbox *o, const struct range *r)
{
	CHECK(balanced(o));
	losses++;
	lost_one = r;
}

CASE(a_message_whose_file_has_shrunk_before_its_first_byte_is_dropped)
{
	struct outbox o;
	struct range *r, *r2;
	int fd[2];

	file_resize(0, 10);
	file_resize(1, 10);
	CHECK_INT(range_open(&r, path[0], 0, 10), 0);
	CHECK_INT(range_open(&r2, path[1], 0, 10), 0);
	outbox_init(&o);
	o.lost = lost;
	local_pair(fd, 65536);
	outbox_begin(&o);
	put(&o, "one");
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	put(&o, "two");
	put_range(&o, "ranged", r);
	put(&o, "four");
	CHECK_INT(r->refs, 2);
	CHECK_INT(o.unwritten, 13);
	CHECK_INT(truncate(path[0], 9), 0);
	losses = 0;
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_STR(got(fd[1]), "onetwofour");
	CHECK_INT(losses, 1);
	CHECK(lost_one == r);
	CHECK_INT(r->refs, 1);
	CHECK_INT(o.unwritten, 0);
	CHECK_INT(o.written, 10);
	CHECK_INT(o.dropped, 1);
	CHECK_INT(outbox_acknowledge(&o, 5), 1);
	CHECK_INT(outbox_acknowledge(&o, 6), 1);
	CHECK_INT(outbox_acknowledge(&o, 10), 1);
	CHECK_INT(o.bytes_delivered, 10);
	CHECK(balanced(&o) && o.waiting == 0);

	/* The second of its files. */
	CHECK_INT(outbox_put(&o, (struct piece[]){ { .range = r2 }, { .range = r } }, 2), 0);
	o.lost = NULL;
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_STR(got(fd[1]), "");
	CHECK_INT(o.dropped, 2);
	CHECK(balanced(&o) && !outbox_wants(&o));
	range_free(r);
	range_free(r2);
	outbox_free(&o);
	pair_close(fd);
}

CASE(a_file_that_shrinks_under_a_message_is_said)
{
	struct outbox o;
	struct outbox_fate fate;
	struct range *r;
	int fd[2];

	file_resize(0, 100000);
	CHECK_INT(range_open(&r, path[0], 0, -1), 0);
	outbox_init(&o);
	local_pair(fd, SMALL);
	outbox_begin(&o);
	put_range(&o, "head", r);
	put(&o, "after");
	CHECK_INT(outbox_write(&o, fd[0], false), -EAGAIN);
	CHECK(o.written > 4 && outbox_in_message(&o));
	CHECK_INT(truncate(path[0], 0), 0);
	while (*got(fd[1]))
		;
	CHECK_INT(outbox_write(&o, fd[0], true), -ESTALE);
	CHECK_INT(outbox_write(&o, fd[0], false), -ESTALE);
	losses = 0;
	o.lost = lost;
	outbox_break(&o, OUTBOX_KEEP_ALL, &fate);
	CHECK(is_fate(&fate, 0, 0, 0, 1));
	CHECK_INT(losses, 1);
	CHECK_INT(o.dropped, 1);
	pair_close(fd);

	local_pair(fd, SMALL);
	outbox_begin(&o);
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_STR(got(fd[1]), "after");
	CHECK_INT(o.dropped, 1);
	CHECK_INT(o.resent, 0);
	CHECK(balanced(&o));
	range_free(r);
	outbox_free(&o);
	pair_close(fd);
}

/* The size was true when it was asked, and reading fails all the same: nobody else's fault. */
CASE(a_file_that_cannot_be_read_takes_only_its_own_message_along)
{
	struct outbox o;
	struct outbox_fate fate;
	struct range *r;
	int fd[2];

	file_resize(0, 10);
	for (int head = 0; head < 2; head++) {
		CHECK_INT(range_open(&r, path[0], 0, -1), 0);
		close(r->fd);
		r->fd = open(path[0], O_WRONLY | O_CLOEXEC);
		outbox_init(&o);
		o.lost = lost;
		losses = 0;
		local_pair(fd, SMALL);
		outbox_begin(&o);
		put(&o, "before");
		if (head)
			put_range(&o, "head", r);
		else
			CHECK_INT(outbox_put(&o, &(struct piece){ .range = r }, 1), 0);
		put(&o, "after");
		CHECK_INT(o.ranges, 1);
		CHECK_INT(outbox_write(&o, fd[0], false), -ESTALE);
		outbox_break(&o, head ? OUTBOX_KEEP_ALL : OUTBOX_KEEP_UNWRITTEN, &fate);
		CHECK(is_fate(&fate, 0, 0, !head, 1 + head));
		CHECK_INT(losses, 1);
		CHECK_INT(o.ranges, 0);
		CHECK(balanced(&o));
		pair_close(fd);

		local_pair(fd, SMALL);
		outbox_begin(&o);
		CHECK_INT(outbox_write(&o, fd[0], false), 0);
		CHECK_STR(got(fd[1]), head ? "beforeafter" : "after");
		CHECK_INT(o.resent, head);
		range_free(r);
		outbox_free(&o);
		pair_close(fd);
	}
}

CASE(no_sum_of_sizes_overflows)
{
	struct outbox o;
	struct range huge = { .refs = 9, .fd = -1, .len = INT64_MAX };
	struct piece p[] = { { .range = &huge }, { .range = &huge },
		{ .bytes = "abcd", .len = 4 } };

	outbox_init(&o);
	CHECK_INT(outbox_put(&o, p, 3), -EOVERFLOW);
	CHECK_INT(outbox_put(&o, p, 1), -EOVERFLOW);
	huge.len = (uint64_t)1 << 61;
	CHECK_INT(outbox_put(&o, p, 1), 0);
	CHECK_INT(outbox_put(&o, p, 2), -EOVERFLOW);
	CHECK_INT(huge.refs, 10);
	CHECK_INT(o.taken, 1);
	CHECK_INT(outbox_drop(&o), 1);
	CHECK_INT(huge.refs, 9);
	CHECK_INT(o.ranges, 0);
	outbox_free(&o);
}

CASE(a_mark_behind_a_mark_is_the_same)
{
	struct outbox o;

	outbox_init(&o);
	outbox_begin(&o);
	for (int i = 0; i < 3; i++)
		CHECK_INT(outbox_mark(&o), 0);
	CHECK(outbox_at_mark(&o));
	outbox_pass(&o);
	CHECK(!outbox_at_mark(&o));
	outbox_free(&o);
}

CASE(a_head_and_its_range_leave_in_one_segment)
{
	struct outbox o;
	struct range *r;
	struct tcp_info ti;
	socklen_t len = sizeof(ti);
	int fd[2];

	file_resize(0, 1000);
	CHECK_INT(range_open(&r, path[0], 0, -1), 0);
	outbox_init(&o);
	tcp_pair(fd, 0);
	outbox_begin(&o);
	put(&o, "one");
	put_range(&o, "head", r);
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_INT(o.written, 1007);
	CHECK_INT(getsockopt(fd[0], IPPROTO_TCP, TCP_INFO, &ti, &len), 0);
	CHECK_INT(ti.tcpi_data_segs_out, 1);
	range_free(r);
	outbox_free(&o);
	pair_close(fd);
}

CASE(a_turn_has_a_share)
{
	static char mega[1024 * 1024];
	struct outbox o;
	struct range *r;
	int fd[2], room = 4 * 1024 * 1024;

	local_pair(fd, SMALL);
	if (setsockopt(fd[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0) {
		pair_close(fd);
		SKIP("needs a large socket buffer");
	}
	outbox_init(&o);
	outbox_begin(&o);
	put(&o, "one");
	CHECK_INT(outbox_put(&o, &(struct piece){ .bytes = mega, .len = sizeof(mega) }, 1), 0);
	put(&o, "three");
	CHECK_INT(outbox_write(&o, fd[0], false), 1);
	CHECK_INT(o.written, sizeof(mega));
	CHECK_INT(outbox_write(&o, fd[0], false), 0);
	CHECK_INT(o.written, sizeof(mega) + 8);
	pair_close(fd);

	local_pair(fd, SMALL);
	setsockopt(fd[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	outbox_break(&o, OUTBOX_KEEP_NONE, NULL);
	file_resize(0, 0);
	CHECK_INT(truncate(path[0], sizeof(mega) + 100), 0);
	CHECK_INT(range_open(&r, path[0], 0, -1), 0);
	put_range(&o, "head", r);
	CHECK_INT(outbox_write(&o, fd[0], false), 1);
	CHECK_INT(o.written, sizeof(mega));
	CHECK(outbox_in_message(&o));
	CHECK_INT(outbox_write(&o, fd[0], true), 0);
	CHECK_INT(o.written, sizeof(mega) + 104);
	range_free(r);
	outbox_free(&o);
	pair_close(fd);
}

CASE(a_broken_descriptor_is_an_error_and_loses_nothing)
{
	struct outbox o;
	int fd[2];

	outbox_init(&o);
	local_pair(fd, 65536);
	close(fd[1]);
	outbox_begin(&o);
	put(&o, "one");
	CHECK_INT(outbox_write(&o, fd[0], false), -EPIPE);
	CHECK_INT(o.waiting, 1);
	CHECK(outbox_wants(&o));
	outbox_free(&o);
	outbox_free(&(struct outbox){ 0 });
	close(fd[0]);
}

/* ---- against a model ---- */

#define MSGS 4096

struct msg {
	bool mark;
	char *bytes;
	size_t len, memory;
	struct range *range[2];
	int file[2];
	bool touched; /* a byte was written to an earlier descriptor */
	bool whole;   /* ... all of it was */
	bool begun;   /* ... to this one */
};

static struct model {
	struct outbox o;
	bool tcp;
	int fd[2];
	struct msg *q[MSGS]; /* the front first */
	size_t n;
	uint64_t taken, delivered, dropped, unknown, resent, bytes_taken, bytes_delivered, here;
	uint64_t received; /* from this descriptor */
	uint64_t done;	   /* of its bytes, before the front */
	char *stream;	   /* all that was received and is not before the front */
	size_t stream_len;
	size_t size[3];	  /* of the files */
	uint64_t lost_at; /* where on this descriptor a message was lost */
	uint64_t seed;
} m;

static unsigned
pick(unsigned below)
{
	m.seed = m.seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(m.seed >> 33) % below;
}

static bool
stale(const struct msg *g)
{
	for (int i = 0; i < 2; i++) {
		if (g->range[i] && g->range[i]->len > 0 &&
		    (uint64_t)g->range[i]->offset + g->range[i]->len > m.size[g->file[i]])
			return true;
	}
	return false;
}

static void
msg_free(struct msg *g)
{
	range_free(g->range[0]);
	range_free(g->range[1]);
	free(g->bytes);
	free(g);
}

static void
model_remove(size_t i)
{
	msg_free(m.q[i]);
	m.n--;
	memmove(&m.q[i], &m.q[i + 1], (m.n - i) * sizeof(m.q[0]));
}

static size_t
model_waiting(void)
{
	size_t n = 0;

	for (size_t i = 0; i < m.n; i++)
		n += !m.q[i]->mark;
	return n;
}

/* The box says that the message at the place it has written to is gone. */
static void
model_lost(struct outbox *o, const struct range *r)
{
	uint64_t at = m.done;
	size_t i = 0;

	for (; i < m.n && at < o->written; i++)
		at += m.q[i]->len;
	CHECK_INT(at, o->written);
	m.lost_at = at;
	if (i == m.n || m.q[i]->mark) {
		CHECK(!"a message is lost");
		return;
	}
	CHECK(stale(m.q[i]));
	CHECK(m.q[i]->range[0] == r || m.q[i]->range[1] == r);
	m.unknown += m.q[i]->whole;
	m.dropped += !m.q[i]->whole;
	model_remove(i);
}

static void
model_put(void)
{
	static const unsigned most[] = { 100, 100, 100, 1000, 1000, 5000 };
	struct msg *g = calloc(1, sizeof(*g));
	struct piece p[5];
	unsigned n = 0, bytes = 1 + pick(3), ranges = pick(4) == 0 ? 1 + pick(2) : 0;
	size_t len[5] = { 0 };

	if (m.n == MSGS) {
		free(g);
		return;
	}
	g->bytes = malloc(700000);
	while (bytes > 0 || ranges > 0) {
		char *at = g->bytes + g->len;
		unsigned k = 0;

		if (bytes > 0 && (ranges == 0 || pick(2))) {
			len[n] = pick(pick(50) ? most[pick(6)] : 150000) + (bytes == 1);
			for (size_t i = 0; i < len[n]; i++)
				at[i] = (char)pick(256);
			p[n] = (struct piece){ .bytes = at, .len = len[n] };
			g->memory += len[n];
			bytes--;
		} else {
			k = g->range[0] ? 1 : 0;
			g->file[k] = (int)pick(3);
			size_t size = m.size[g->file[k]], off = pick((unsigned)size + 1);

			len[n] = pick((unsigned)(size - off) + 1);
			if (range_open(
				&g->range[k], path[g->file[k]], (int64_t)off, (int64_t)len[n]) < 0)
				CHECK(!"range_open");
			g->range[k]->spooled = pick(2);
			for (size_t i = 0; i < len[n]; i++)
				at[i] = file_byte(g->file[k], off + i);
			p[n] = (struct piece){ .range = g->range[k] };
			ranges--;
		}
		g->len += len[n++];
	}
	CHECK_INT(outbox_put(&m.o, p, n), 0);
	g->bytes = realloc(g->bytes, g->len);
	m.taken++;
	m.bytes_taken += g->len;
	m.q[m.n++] = g;
}

static void
model_mark(void)
{
	if (m.n == MSGS || pick(4))
		return;
	CHECK_INT(outbox_mark(&m.o), 0);
	if (m.n > 0 && m.q[m.n - 1]->mark)
		return; /* one is enough */
	m.q[m.n] = calloc(1, sizeof(struct msg));
	m.q[m.n++]->mark = true;
}

static void
model_pass(void)
{
	outbox_pass(&m.o);
	for (size_t i = 0; i < m.n; i++) {
		if (m.q[i]->mark) {
			model_remove(i);
			return;
		}
	}
}

/* Reads some of what was written, or all. */
static void
model_read(bool all)
{
	static char sink[1024 * 1024];
	size_t want = all ? SIZE_MAX : 1 + pick(20000);

	while (want > 0 && m.received < m.o.written) {
		struct pollfd p = { .fd = m.fd[1], .events = POLLIN };
		ssize_t n;

		poll(&p, 1, 5000);
		n = recv(m.fd[1], sink, want < sizeof(sink) ? want : sizeof(sink), MSG_DONTWAIT);
		if (n <= 0) {
			CHECK(!"what was written arrives");
			return;
		}
		m.stream = realloc(m.stream, m.stream_len + (size_t)n);
		memcpy(m.stream + m.stream_len, sink, (size_t)n);
		m.stream_len += (size_t)n;
		m.received += (uint64_t)n;
		want -= all ? 0 : (size_t)n;
	}
	CHECK(recv(m.fd[1], sink, 1, MSG_DONTWAIT | MSG_PEEK) < 0 || m.received < m.o.written);
}

/* What was received is what the messages say, from the front on. */
static void
model_compare(void)
{
	size_t at = 0;

	for (size_t i = 0; i < m.n && at < m.stream_len; i++) {
		size_t some = m.q[i]->len < m.stream_len - at ? m.q[i]->len : m.stream_len - at;

		if (m.q[i]->mark) {
			CHECK(!"nothing is written beyond a mark");
			break;
		}
		CHECK(memcmp(m.stream + at, m.q[i]->bytes, some) == 0);
		at += some;
	}
	CHECK_INT(at, m.stream_len);
}

/* Forgets messages at the front, which were received or need not be any more. */
static void
model_front(size_t n)
{
	size_t len = 0;

	for (; n > 0; n--) {
		len += m.q[0]->len;
		model_remove(0);
	}
	m.done += len;
	CHECK(len <= m.stream_len);
	m.stream_len -= len;
	if (len > 0)
		memmove(m.stream, m.stream + len, m.stream_len);
}

static void
model_begin(void)
{
	if (m.tcp)
		tcp_pair(m.fd, 4096);
	else
		local_pair(m.fd, SMALL);
	m.received = m.done = m.here = 0;
	m.stream_len = 0;
	outbox_begin(&m.o);
}

static void
model_break(enum outbox_keep keep)
{
	struct outbox_fate fate;
	uint64_t at = m.done, unknown = 0, dropped = 0, written = m.o.written;
	size_t lost = 0;

	for (size_t i = m.n; i-- > 0;) {
		if (m.q[i]->mark)
			model_remove(i);
	}
	m.lost_at = UINT64_MAX;
	outbox_break(&m.o, keep, &fate);
	written = written < m.lost_at ? written : m.lost_at;
	for (size_t i = 0; i < m.n; i++) {
		struct msg *g = m.q[i];

		g->begun = at < written;
		at += g->len;
		g->touched = g->touched || g->begun;
		g->whole = g->whole || at <= written;
		if (keep == OUTBOX_KEEP_ALL || (keep == OUTBOX_KEEP_UNWRITTEN && !g->begun))
			continue;
		unknown += g->whole;
		dropped += !g->whole;
		lost++;
	}
	while (lost-- > 0)
		model_remove(0);
	for (size_t i = 0; i < m.n; i++)
		m.q[i]->begun = false;
	CHECK(is_fate(&fate, m.here, dropped, unknown, m.n));
	m.unknown += unknown;
	m.dropped += dropped;
	pair_close(m.fd);
	model_begin();
}

static void
model_acknowledge(void)
{
	uint64_t acked = m.o.acked + pick((unsigned)(m.o.written - m.o.acked) + 1), at = m.done;
	size_t n = 0;

	if (pick(8) == 0)
		acked = m.o.written;
	model_read(true);
	model_compare();
	for (; n < m.n && !m.q[n]->mark && at + m.q[n]->len <= acked; n++)
		at += m.q[n]->len;
	if (acked == m.o.written && pick(2))
		outbox_settle(&m.o);
	else
		CHECK_INT(outbox_acknowledge(&m.o, acked), n);
	m.delivered += n;
	m.here += n;
	m.bytes_delivered += at - m.done;
	model_front(n);
}

static void
model_write(bool only_begun)
{
	bool in = outbox_in_message(&m.o);
	uint64_t was = m.o.written, at = m.done, border = 0;
	int rc = outbox_write(&m.o, m.fd[0], only_begun);

	for (size_t i = 0; i < m.n && at < m.o.written; i++) {
		struct msg *g = m.q[i];

		if (at <= was && was < at + g->len)
			border = at == was ? at : at + g->len;
		if (!g->begun) {
			CHECK(at >= was && !stale(g) && !only_begun);
			m.resent += g->touched;
			g->begun = true;
		}
		at += g->len;
	}
	if (only_begun)
		CHECK(m.o.written <= (in ? border : was));
	if (rc == 0)
		CHECK(only_begun ? !outbox_in_message(&m.o) : !outbox_wants(&m.o));
	if (rc != -ESTALE) {
		CHECK(rc == 0 || rc == 1 || rc == -EAGAIN);
		return;
	}
	{
		enum outbox_keep keep = pick(3);
		uint64_t lost = m.dropped + m.unknown;

		CHECK(outbox_in_message(&m.o));
		model_break(keep);
		CHECK(keep != OUTBOX_KEEP_ALL || m.dropped + m.unknown == lost + 1);
	}
}

static void
model_resize(void)
{
	int file = (int)pick(3);

	model_read(true); /* what is on its way refers to the file's pages */
	m.size[file] = pick(pick(3) ? 12000 : 500);
	file_resize(file, m.size[file]);
}

static void
model_check(void)
{
	uint64_t at = m.done, unwritten = 0, spooled = 0;
	unsigned ranges = 0;
	bool in = false, wants = false, at_mark = false, first = true;

	for (size_t i = 0; i < m.n; i++) {
		struct msg *g = m.q[i];
		uint64_t end = at + g->len;
		bool more = g->mark || end > m.o.written;

		in = in || (at < m.o.written && end > m.o.written);
		wants = wants || (first && more && !g->mark);
		at_mark = at_mark || (first && more && g->mark);
		first = first && !more;
		at = end;
	}
	at = m.done;
	for (size_t i = 0; i < m.n; at += m.q[i++]->len) {
		if (at >= m.o.written)
			unwritten += m.q[i]->memory;
		for (int k = 0; k < 2; k++) {
			struct range *r = m.q[i]->range[k];

			ranges += r && r->len > 0;
			spooled += r && r->spooled ? r->len : 0;
		}
	}
	CHECK_INT(m.o.ranges, ranges);
	CHECK_INT(m.o.spooled, spooled);
	CHECK(in ? m.o.unwritten >= unwritten : m.o.unwritten == unwritten);
	CHECK_INT(outbox_in_message(&m.o), in);
	CHECK_INT(outbox_wants(&m.o), wants);
	CHECK_INT(outbox_at_mark(&m.o), at_mark);
	CHECK(balanced(&m.o));
	CHECK_INT(m.o.waiting, model_waiting());
	CHECK_INT(m.o.taken, m.taken);
	CHECK_INT(m.o.delivered, m.delivered);
	CHECK_INT(m.o.dropped, m.dropped);
	CHECK_INT(m.o.unknown, m.unknown);
	CHECK_INT(m.o.resent, m.resent);
	CHECK_INT(m.o.bytes_taken, m.bytes_taken);
	CHECK_INT(m.o.bytes_delivered, m.bytes_delivered);
}

static void
model_drop(void)
{
	bool in = outbox_in_message(&m.o);
	uint64_t n = model_waiting();

	CHECK_INT(outbox_drop(&m.o), n);
	m.dropped += n;
	model_read(true);
	model_compare();
	m.done = m.o.written;
	m.stream_len = 0;
	while (m.n > 0)
		model_remove(0);
	if (in || pick(2))
		model_break(pick(3));
}

static void
model_play(bool tcp, uint64_t seed, unsigned moves)
{
	m = (struct model){ .tcp = tcp, .seed = seed };
	outbox_init(&m.o);
	m.o.lost = model_lost;
	for (int i = 0; i < 3; i++)
		file_resize(i, m.size[i] = 12000);
	model_begin();
	for (unsigned i = 0; i < moves && !check_failed; i++) {
		unsigned k = pick(100);

		if (k < 35)
			model_put();
		else if (k < 70)
			model_write(k < 40);
		else if (k < 80)
			model_read(false);
		else if (k < 89)
			model_acknowledge();
		else if (k < 92)
			model_mark();
		else if (k < 95)
			model_pass();
		else if (k < 97)
			model_resize();
		else if (k < 99)
			model_break(pick(4) ? OUTBOX_KEEP_ALL : pick(3));
		else if (pick(4) == 0)
			model_drop();
		model_check();
		if (check_failed)
			printf("# seed %llu, move %u, kind %u\n", (unsigned long long)seed, i, k);
	}
	model_break(OUTBOX_KEEP_NONE);
	CHECK_INT(m.o.waiting, 0);
	pair_close(m.fd);
	outbox_free(&m.o);
	free(m.stream);
}

CASE(random_moves_on_a_local_socket_end_as_the_model_says)
{
	for (uint64_t seed = 1; seed <= 8 && !check_failed; seed++)
		model_play(false, seed, 3000);
}

CASE(random_moves_on_tcp_end_as_the_model_says)
{
	for (uint64_t seed = 100; seed <= 104 && !check_failed; seed++)
		model_play(true, seed, 3000);
}

int
main(void)
{
	int rc;

	signal(SIGPIPE, SIG_IGN); /* sendfile has no MSG_NOSIGNAL */
	for (int i = 0; i < 3; i++)
		snprintf(path[i], sizeof(path[i]), "/tmp/ccf-outbox-%ld-%d", (long)getpid(), i);
	rc = check_main((struct check_case[]){
	    RUN(a_message_waits_until_it_is_acknowledged),
	    RUN(what_a_break_finds_is_kept_and_sent_again_or_counted),
	    RUN(writing_stops_at_a_mark_until_it_is_passed),
	    RUN(the_rest_of_a_message_that_has_begun_and_no_more),
	    RUN(a_message_whose_file_has_shrunk_before_its_first_byte_is_dropped),
	    RUN(a_file_that_shrinks_under_a_message_is_said),
	    RUN(a_file_that_cannot_be_read_takes_only_its_own_message_along),
	    RUN(no_sum_of_sizes_overflows),
	    RUN(a_mark_behind_a_mark_is_the_same),
	    RUN(a_head_and_its_range_leave_in_one_segment),
	    RUN(a_turn_has_a_share),
	    RUN(a_broken_descriptor_is_an_error_and_loses_nothing),
	    RUN(random_moves_on_a_local_socket_end_as_the_model_says),
	    RUN(random_moves_on_tcp_end_as_the_model_says),
	    { 0 },
	});
	for (int i = 0; i < 3; i++)
		unlink(path[i]);
	return rc;
}
