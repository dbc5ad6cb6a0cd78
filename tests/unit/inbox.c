/* Frames from one descriptor: whole, in order, as fast as they are taken, whatever pieces the
 * stream comes in. */
#include "flow/inbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "check.h"
#include "flow/range.h"

#define FROM "n1"
#define MAX  (256 * 1024 * 1024)

static char dir[] = "/tmp/ccf-inbox-XXXXXX";

/* ---- a stream ---- */

static char *stream;
static size_t stream_len, stream_cap;

static void
add(const void *bytes, size_t len)
{
	if (stream_len + len > stream_cap) {
		stream_cap = 2 * (stream_len + len);
		stream = realloc(stream, stream_cap);
	}
	memcpy(stream + stream_len, bytes, len);
	stream_len += len;
}

static void
add_number(uint64_t n, unsigned bytes)
{
	for (; bytes > 0; bytes--, n >>= 8)
		add(&(char){ (char)n }, 1);
}

static char
payload_byte(uint64_t type, size_t at)
{
	return (char)(type * 13 + at * 7 + at / 251);
}

/* A frame of that type, whose payload can be known again by it. */
static void
add_frame(const char *to, const char *from, uint64_t type, size_t len)
{
	if (to) {
		add_number(strlen(to), 8);
		add(to, strlen(to));
	}
	add_number(16 + strlen(from) + len, 4);
	add_number(type, 8);
	add_number(strlen(from), 8);
	add(from, strlen(from));
	for (size_t i = 0; i < len; i++)
		add(&(char){ payload_byte(type, i) }, 1);
}

/* ---- who takes it ---- */

static struct taken {
	uint64_t n, heads;  /* messages; heads that were asked about */
	uint64_t type, len; /* of the last */
	bool in_memory, wrong;
	char to[32], from[32], path[PATH_MAX];
	struct range *keep;
	bool keeps;
	uint64_t ready;	 /* so many may come */
	uint64_t refuse; /* this head is a fault: the first is 1 */
	bool free_at_once;
} t;

static bool
is_payload(const struct message *m)
{
	static char bytes[65536];
	uint64_t len = m->frame.payload;

	if (m->payload) {
		for (size_t i = 0; i < len; i++) {
			if (m->payload[i] != payload_byte(m->frame.type, i))
				return false;
		}
		return true;
	}
	if (!m->range || m->range->len != len)
		return false;
	for (uint64_t at = 0, i = 0; at < len; at += i) {
		ssize_t n = pread(m->range->fd, bytes, sizeof(bytes), (off_t)at);

		if (n <= 0)
			return false;
		for (i = 0; i < (uint64_t)n; i++) {
			if (bytes[i] != payload_byte(m->frame.type, at + i))
				return false;
		}
	}
	return true;
}

static int
take_head(struct inbox *in, const struct frame *f)
{
	(void)in;
	CHECK(f->from != NULL);
	return ++t.heads == t.refuse ? -100 : 0;
}

static bool
take_ready(struct inbox *in)
{
	(void)in;
	if (t.ready == 0)
		return false;
	t.ready--;
	return true;
}

static void
take_message(struct inbox *in, const struct message *m)
{
	struct frame f;

	t.n++;
	t.type = m->frame.type;
	t.len = m->frame.payload;
	t.in_memory = m->payload != NULL;
	snprintf(t.from, sizeof(t.from), "%.*s", (int)m->frame.from_len, m->frame.from);
	snprintf(t.to, sizeof(t.to), "%.*s", (int)m->frame.to_len, m->frame.to ? m->frame.to : "");
	snprintf(t.path, sizeof(t.path), "%s", m->range && m->range->path ? m->range->path : "");
	if (m->payload || m->range)
		t.wrong = t.wrong || !is_payload(m);
	/* raw is the frame, without whom it is for */
	CHECK_INT(frame_parse(&f, m->raw, m->frame.head - m->frame.at, in->max, false),
	    m->frame.from_len ? 1 : -FRAME_ID_EMPTY);
	if (m->payload)
		CHECK(m->payload == m->raw + (m->frame.head - m->frame.at));
	if (t.keeps && m->range)
		t.keep = range_keep(m->range);
	if (t.free_at_once) {
		inbox_free(in);
		t.wrong = t.wrong || !is_payload(m); /* it stays for the call */
	}
}

static const struct inbox_ops ops = { take_head, take_ready, take_message };

/* ---- from one end to the other ---- */

static struct inbox in;
static int fd[2], error;

static void
start(void)
{
	int room = 1024 * 1024;

	in = (struct inbox){
		.ops = &ops, .max = MAX, .most = 100, .large = INBOX_SPOOL, .dir = dir, .name = FROM
	};
	t = (struct taken){ .ready = UINT64_MAX };
	stream_len = 0;
	error = 0;
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	setsockopt(fd[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
}

static void
stop(void)
{
	inbox_free(&in);
	close(fd[0]);
	if (fd[1] >= 0)
		close(fd[1]);
}

static void
end(void)
{
	close(fd[1]);
	fd[1] = -1;
}

static void
say(const char *bytes, size_t len)
{
	CHECK_INT(send(fd[1], bytes, len, MSG_NOSIGNAL), (long long)len);
}

static enum inbox_step
step(void)
{
	enum inbox_step s;

	do
		s = inbox_step(&in, fd[0], &error);
	while (s == INBOX_MORE);
	return s;
}

/* The other side has ended: what that looks like after what it said. */
static enum inbox_step
last_step(void)
{
	enum inbox_step s = step();

	return s == INBOX_WAIT ? step() : s;
}

/* All of the stream in pieces of `piece` bytes; what the step after the last said. */
static enum inbox_step
feed(size_t piece)
{
	enum inbox_step s = INBOX_WAIT;

	for (size_t at = 0; at < stream_len && s == INBOX_WAIT; at += piece) {
		say(stream + at, piece < stream_len - at ? piece : stream_len - at);
		s = step();
	}
	return s;
}

static unsigned
entries(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	while ((e = readdir(d)))
		n += e->d_name[0] != '.' || e->d_name[1] == FROM[0];
	closedir(d);
	return n;
}

static void
sweep(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while ((e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
}

static const char *
in_dir(const char *name)
{
	static char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* ---- cases ---- */

CASE(what_comes_in_one_piece_is_delivered_with_one_step)
{
	start();
	CHECK_INT(inbox_step(&in, fd[0], &error), INBOX_WAIT);
	for (uint64_t i = 1; i <= 1000; i++)
		add_frame(NULL, FROM, i, i % 90);
	say(stream, stream_len);
	CHECK_INT(inbox_step(&in, fd[0], &error), INBOX_WAIT);
	CHECK_INT(t.n, 1000);
	CHECK_INT(t.heads, 1000);
	CHECK_INT(t.type, 1000);
	CHECK_STR(t.from, FROM);
	CHECK(t.in_memory && !t.wrong);
	CHECK_INT(in.messages, 1000);
	CHECK_INT(in.bytes, stream_len);
	CHECK(in.rest == NULL);
	end();
	CHECK_INT(last_step(), INBOX_END);
	CHECK_INT(step(), INBOX_END);
	CHECK(in.ended && !inbox_partial(&in, &(uint64_t){ 0 }, &(uint64_t){ 0 }));
	stop();
}

/* Small ones, one at the border of memory, long ones, one after the other. */
static void
add_mixture(const char *to)
{
	static const size_t len[] = { 0, 1, 64, 100, 101, 0, 500, 99, 1, 200, 300, 7 };

	for (size_t i = 0; i < sizeof(len) / sizeof(len[0]); i++)
		add_frame(to, FROM, i + 1, len[i]);
}

CASE(the_pieces_in_which_it_comes_do_not_matter)
{
	static const size_t piece[] = { 1, 2, 3, 5, 19, 20, 21, 22, 23, 100, 999, 1000, 1001,
		5000 };

	for (size_t i = 0; i < sizeof(piece) / sizeof(piece[0]); i++) {
		for (int addressed = 0; addressed < 2; addressed++) {
			start();
			in.addressed = addressed;
			add_mixture(addressed ? "n0" : NULL);
			CHECK_INT(feed(piece[i]), INBOX_WAIT);
			CHECK_INT(t.n, 12);
			CHECK_INT(t.heads, 12);
			CHECK_STR(t.to, addressed ? "n0" : "");
			CHECK(!t.wrong && in.file_error == 0);
			CHECK(in.rest == NULL && in.long_head == NULL);
			stop();
		}
	}
}

CASE(it_may_be_cut_in_two_anywhere)
{
	for (size_t at = 1;; at++) {
		start();
		add_mixture(NULL);
		if (at >= stream_len)
			break;
		say(stream, at);
		CHECK_INT(step(), INBOX_WAIT);
		say(stream + at, stream_len - at);
		CHECK_INT(step(), INBOX_WAIT);
		CHECK_INT(t.n, 12);
		CHECK(!t.wrong);
		stop();
	}
	stop();
}

/* Whole frames within the first `len` bytes, where the next one begins, and where it ends. */
static unsigned
whole(size_t len, bool addressed, size_t *ret_begin, size_t *ret_end)
{
	unsigned n = 0;
	struct frame f;

	*ret_begin = *ret_end = 0;
	while (*ret_begin < stream_len) {
		frame_parse(&f, stream + *ret_begin, stream_len - *ret_begin, MAX, addressed);
		*ret_end = *ret_begin + f.head + f.payload;
		if (*ret_end > len)
			break;
		*ret_begin = *ret_end;
		n++;
	}
	return n;
}

CASE(an_end_of_stream_within_a_frame_is_told)
{
	for (int addressed = 0; addressed < 2; addressed++) {
		for (size_t at = 0;; at++) {
			uint64_t have = 0, of = 0;
			size_t begin, border, prefix = addressed ? 14 : 4;
			unsigned n;

			start();
			in.addressed = addressed;
			add_mixture(addressed ? "n0" : NULL);
			if (at > stream_len)
				break;
			n = whole(at, addressed, &begin, &border);
			say(stream, at);
			end();
			CHECK_INT(last_step(), INBOX_END);
			CHECK_INT(t.n, n);
			CHECK_INT(inbox_partial(&in, &have, &of), at > begin);
			CHECK_INT(have, at - begin);
			CHECK_INT(of, at - begin < prefix ? 0 : border - begin);
			stop();
		}
		stop();
	}
}

CASE(a_fault_is_told_after_what_came_before_it_and_stays)
{
	static const struct {
		uint64_t size, id;
		int fault;
	} bad[] = {
		{ MAX + 1, 2, -FRAME_TOO_LARGE },
		{ UINT32_MAX, 2, -FRAME_TOO_LARGE },
		{ 0, 2, -FRAME_TOO_SMALL },
		{ 15, 2, -FRAME_TOO_SMALL },
		{ 18, 3, -FRAME_ID_OVERRUNS },
		{ 18, UINT64_MAX, -FRAME_ID_OVERRUNS },
		{ 18, 0, -FRAME_ID_EMPTY },
		{ 3000, FRAME_ID_MAX + 1, -FRAME_ID_TOO_LONG },
	};
	static const size_t piece[] = { 1, 7, 1 << 20 };

	for (size_t i = 0; i < 3 * sizeof(bad) / sizeof(bad[0]); i++) {
		struct text text = { 0 }, again = { 0 };
		size_t begin;

		start();
		add_frame(NULL, FROM, 1, 10);
		add_frame(NULL, FROM, 2, 2000);
		begin = stream_len;
		add_number(bad[i / 3].size, 4);
		add_number(0, 8);
		add_number(bad[i / 3].id, 8);
		add("n1", 2);
		add_frame(NULL, FROM, 3, 10);
		CHECK_INT(feed(piece[i % 3]), INBOX_FAULT);
		CHECK_INT(in.fault, bad[i / 3].fault);
		CHECK_INT(t.n, 2);
		CHECK_INT(t.heads, 2);
		CHECK_INT(step(), INBOX_FAULT);
		CHECK_INT(t.n, 2);
		inbox_fault_text(&in, &text);
		frame_fault_text(&again, in.fault, stream + begin, stream_len - begin, MAX, false);
		CHECK(text.len > 0);
		CHECK_STR(text.at, again.at);
		text_free(&text);
		text_free(&again);
		stop();
	}
}

CASE(a_head_may_be_refused)
{
	for (size_t piece = 1; piece < 8000; piece *= 11) {
		start();
		t.refuse = 3;
		add_frame(NULL, FROM, 1, 10);
		add_frame(NULL, FROM, 2, 2000);
		add_frame(NULL, FROM, 3, 5000); /* nothing of it is kept */
		CHECK_INT(feed(piece), INBOX_FAULT);
		CHECK_INT(in.fault, -100);
		CHECK_INT(t.n, 2);
		CHECK_INT(t.heads, 3);
		CHECK(in.range == NULL);
		CHECK_INT(step(), INBOX_FAULT);
		stop();
	}
}

CASE(while_it_is_held_nothing_is_read_and_the_order_stays)
{
	for (size_t piece = 10; piece < 40000; piece *= 10) {
		uint64_t bytes, n = 0;

		start();
		t.ready = 2;
		add_mixture(NULL);
		add_mixture(NULL);
		CHECK_INT(feed(piece), INBOX_HELD);
		CHECK_INT(t.n, 2);
		bytes = in.bytes;
		say(stream + bytes, stream_len - bytes);
		for (n = 3; n <= 24; n++) {
			bytes = in.bytes;
			CHECK_INT(step(), INBOX_HELD);
			CHECK_INT(step(), INBOX_HELD);
			CHECK_INT(in.bytes, bytes);
			CHECK(!inbox_partial(&in, &(uint64_t){ 0 }, &(uint64_t){ 0 }));
			CHECK_INT(t.n, n - 1);
			t.ready = 1;
			step();
			CHECK_INT(t.n, n);
			CHECK_INT(t.type, (n - 1) % 12 + 1);
		}
		CHECK_INT(t.heads, 24);
		t.ready = 1;
		CHECK_INT(step(), INBOX_WAIT);
		CHECK(in.rest == NULL && !t.wrong);
		end();
		CHECK_INT(last_step(), INBOX_END);
		stop();
	}
}

CASE(an_end_comes_behind_what_is_held)
{
	start();
	t.ready = 0;
	add_frame(NULL, FROM, 1, 2000);
	add_frame(NULL, FROM, 2, 2000);
	add_frame(NULL, FROM, 3, 20);
	say(stream, stream_len - 1);
	end();
	CHECK_INT(last_step(), INBOX_HELD);
	t.ready = 1;
	CHECK_INT(step(), INBOX_HELD);
	CHECK_INT(t.n, 1);
	t.ready = 1;
	CHECK_INT(last_step(), INBOX_END);
	CHECK_INT(t.n, 2);
	CHECK(inbox_partial(&in, &(uint64_t){ 0 }, &(uint64_t){ 0 }));
	stop();
}

CASE(a_reset_comes_behind_what_was_read)
{
	struct linger l = { .l_onoff = 1 };

	start();
	close(fd[0]);
	close(fd[1]);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	add_frame(NULL, FROM, 1, 20);
	say(stream, stream_len);
	CHECK_INT(step(), INBOX_WAIT);
	/* Who goes with unread bytes resets. */
	CHECK_INT(send(fd[0], "x", 1, 0), 1);
	setsockopt(fd[1], SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	end();
	CHECK_INT(last_step(), INBOX_ERROR);
	CHECK_INT(error, -ECONNRESET);
	error = 0;
	CHECK_INT(step(), INBOX_ERROR);
	CHECK_INT(error, -ECONNRESET);
	CHECK_INT(t.n, 1);
	stop();
}

CASE(a_long_payload_passes_by_or_lies_in_a_file)
{
	start();
	in.large = INBOX_PASS;
	add_frame(NULL, FROM, 1, 5000);
	CHECK_INT(feed(700), INBOX_WAIT);
	CHECK_INT(t.n, 1);
	CHECK_INT(t.len, 5000);
	CHECK(!t.in_memory && in.file_error == 0);
	stop();

	start();
	t.keeps = true;
	add_frame(NULL, FROM, 1, 5000);
	CHECK_INT(feed(700), INBOX_WAIT);
	CHECK(!t.in_memory && t.keep && !t.wrong);
	CHECK_STR(t.path, "");
	CHECK_INT(entries(), 0);
	stop();
	CHECK_INT(t.keep->refs, 1);
	CHECK_INT(t.keep->len, 5000);
	range_free(t.keep);

	start();
	in.large = INBOX_SAVE;
	add_frame(NULL, FROM, 1, 5000);
	add_frame(NULL, FROM, 1, 50);
	add_frame(NULL, FROM, 2, 6000);
	say(stream, 4000);
	CHECK_INT(step(), INBOX_WAIT);
	CHECK_INT(access(in_dir("." FROM "-1"), F_OK), 0);
	CHECK(access(in_dir(FROM "-1"), F_OK) < 0);
	say(stream + 4000, stream_len - 4000);
	CHECK_INT(step(), INBOX_WAIT);
	CHECK_INT(t.n, 3);
	CHECK(!t.wrong);
	CHECK_STR(t.path, in_dir(FROM "-2"));
	CHECK_INT(access(in_dir(FROM "-1"), F_OK), 0);
	CHECK_INT(entries(), 2);
	stop();

	start(); /* the peer comes again: no file of before is replaced */
	in.large = INBOX_SAVE;
	add_frame(NULL, FROM, 3, 5000);
	CHECK_INT(feed(1 << 20), INBOX_WAIT);
	CHECK_STR(t.path, in_dir(FROM "-1.2"));
	stop();
	start();
	in.large = INBOX_SAVE;
	add_frame(NULL, FROM, 3, 5000);
	CHECK_INT(feed(1 << 20), INBOX_WAIT);
	CHECK_STR(t.path, in_dir(FROM "-1.3"));
	stop();
	CHECK_INT(entries(), 4);
	sweep();
}

CASE(half_a_payload_leaves_nothing)
{
	uint64_t have, of;

	start();
	in.large = INBOX_SAVE;
	add_frame(NULL, FROM, 1, 5000);
	say(stream, 4000);
	end();
	CHECK_INT(last_step(), INBOX_END);
	CHECK_INT(entries(), 1);
	CHECK(inbox_partial(&in, &have, &of));
	CHECK_INT(have, 4000);
	CHECK_INT(of, stream_len);
	stop();
	CHECK_INT(entries(), 0);
	CHECK_INT(t.n, 0);
}

CASE(a_payload_that_cannot_be_kept_passes_by)
{
	struct rlimit was, low;

	start();
	in.large = INBOX_SAVE;
	in.dir = in_dir("none");
	add_mixture(NULL);
	CHECK_INT(feed(700), INBOX_WAIT);
	CHECK_INT(t.n, 12);
	CHECK_INT(in.file_error, -ENOENT);
	CHECK(!t.wrong);
	stop();

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &was);
	low = (struct rlimit){ 150, was.rlim_max };
	start();
	in.large = INBOX_SAVE;
	add_mixture(NULL);
	setrlimit(RLIMIT_FSIZE, &low);
	CHECK_INT(feed(700), INBOX_WAIT);
	setrlimit(RLIMIT_FSIZE, &was);
	CHECK_INT(t.n, 12);
	CHECK_INT(in.file_error, -EFBIG);
	CHECK_INT(entries(), 1); /* the one of 101 bytes */
	CHECK(!t.wrong);
	stop();
	sweep();

	start(); /* taken away while it is written */
	in.large = INBOX_SAVE;
	add_frame(NULL, FROM, 1, 5000);
	say(stream, 4000);
	CHECK_INT(step(), INBOX_WAIT);
	sweep();
	say(stream + 4000, stream_len - 4000);
	CHECK_INT(step(), INBOX_WAIT);
	CHECK_INT(t.n, 1);
	CHECK_INT(in.file_error, -ENOENT);
	CHECK_STR(t.path, "");
	stop();
}

CASE(a_sender_may_be_left_out_towards_the_network)
{
	start();
	in.addressed = true;
	add_frame("n7", "", 1, 10);
	add_frame("n7", "", 2, 1010);
	CHECK_INT(feed(1), INBOX_WAIT);
	CHECK_INT(t.n, 2);
	CHECK_STR(t.to, "n7");
	CHECK_STR(t.from, "");
	stop();
}

CASE(messages_in_memory_may_be_longer_than_a_read)
{
	start();
	in.most = 3 * 1024 * 1024;
	add_frame(NULL, FROM, 1, 10);
	add_frame(NULL, FROM, 2, 3 * 1024 * 1024);
	add_frame(NULL, FROM, 3, 10);
	CHECK_INT(feed(100 * 1000), INBOX_WAIT);
	CHECK_INT(t.n, 3);
	CHECK(t.in_memory && !t.wrong && in.rest == NULL);
	stop();
}

CASE(a_box_may_be_freed_from_within)
{
	for (int i = 0; i < 4; i++) {
		bool held = i & 1, spooled = i & 2;

		start();
		t.free_at_once = true;
		t.ready = held ? 0 : UINT64_MAX;
		add_frame(NULL, FROM, 1, spooled ? 5000 : 10);
		add_frame(NULL, FROM, 2, 10);
		CHECK_INT(feed(1 << 20), held ? INBOX_HELD : INBOX_ERROR);
		t.ready = UINT64_MAX;
		CHECK_INT(step(), INBOX_ERROR);
		CHECK_INT(error, -ECANCELED);
		CHECK_INT(t.n, 1);
		CHECK(!t.wrong && !in.rest && !in.long_head && !in.range);
		CHECK_INT(step(), INBOX_ERROR);
		stop();
	}
	inbox_free(&(struct inbox){ 0 });
}

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif

CASE(a_frame_of_any_size_takes_little_memory)
{
#ifdef SANITIZED
	SKIP("malloc is not its own");
#else
	enum { SIZE = 100 * 1000 * 1000, PIECE = 100 * 1000 };
	static char zeroes[PIECE];
	size_t before, most = 0;

	start();
	in.most = 64 * 1024;
	add_number(16 + 2 + (uint64_t)SIZE, 4);
	add_number(0, 8);
	add_number(2, 8);
	add(FROM, 2);
	before = mallinfo2().uordblks;
	say(stream, stream_len);
	for (size_t n = 0; n < SIZE; n += PIECE) {
		size_t now;

		say(zeroes, PIECE);
		CHECK_INT(step(), INBOX_WAIT);
		now = mallinfo2().uordblks - before;
		most = now > most ? now : most;
	}
	CHECK_INT(t.n, 1);
	CHECK_INT(t.len, SIZE);
	CHECK(most < 64 * 1024);
	stop();
#endif
}

static uint64_t seed = 1;

static unsigned
pick(unsigned below)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(seed >> 33) % below;
}

CASE(random_streams_are_delivered_as_they_were_sent)
{
	for (unsigned round = 0; round < 30; round++) {
		static const unsigned sizes[] = { 10, 100, 1100, 5000, 300000 };
		unsigned n = 1 + pick(300), last = 0;
		size_t at = 0;

		start();
		in.most = 1 + pick(100000);
		in.large = pick(3);
		for (unsigned i = 1; i <= n; i++)
			add_frame(NULL, FROM, i, pick(sizes[pick(round % 5 + 1)]));
		for (unsigned moves = 0; t.n < n && moves < 1000000; moves++) {
			size_t some = pick(round % 2 ? 300 : 150000);
			enum inbox_step s;

			some = some < stream_len - at ? some : stream_len - at;
			t.ready = pick(round % 3 ? 200 : 3);
			if (some > 0) {
				ssize_t sent = send(fd[1], stream + at, some, MSG_DONTWAIT);

				at += sent > 0 ? (size_t)sent : 0;
			}
			s = inbox_step(&in, fd[0], &error);
			CHECK(s == INBOX_WAIT || s == INBOX_HELD || s == INBOX_MORE);
			CHECK(t.n == last || t.type == t.n);
			last = (unsigned)t.n;
		}
		CHECK_INT(t.n, n);
		CHECK_INT(t.heads, n);
		CHECK(!t.wrong && in.file_error == 0);
		stop();
	}
	sweep();
}

int
main(void)
{
	int rc;

	if (!mkdtemp(dir))
		return 1;
	rc = check_main((struct check_case[]){
	    RUN(what_comes_in_one_piece_is_delivered_with_one_step),
	    RUN(the_pieces_in_which_it_comes_do_not_matter),
	    RUN(it_may_be_cut_in_two_anywhere),
	    RUN(an_end_of_stream_within_a_frame_is_told),
	    RUN(a_fault_is_told_after_what_came_before_it_and_stays),
	    RUN(a_head_may_be_refused),
	    RUN(while_it_is_held_nothing_is_read_and_the_order_stays),
	    RUN(an_end_comes_behind_what_is_held),
	    RUN(a_reset_comes_behind_what_was_read),
	    RUN(a_long_payload_passes_by_or_lies_in_a_file),
	    RUN(half_a_payload_leaves_nothing),
	    RUN(a_payload_that_cannot_be_kept_passes_by),
	    RUN(a_sender_may_be_left_out_towards_the_network),
	    RUN(messages_in_memory_may_be_longer_than_a_read),
	    RUN(a_box_may_be_freed_from_within),
	    RUN(a_frame_of_any_size_takes_little_memory),
	    RUN(random_streams_are_delivered_as_they_were_sent),
	    { 0 },
	});
	free(stream);
	sweep();
	rmdir(dir);
	return rc;
}
