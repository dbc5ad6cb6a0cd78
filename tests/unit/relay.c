/* The relay over real sockets, and over a side made of a struct where a socket cannot be brought to
 * do what is asked: ends stay ends, cuts stay cuts, and nothing is held beyond the bound. */
#include "flow/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/transport.h"
#include "check.h"
#include "flow/budget.h"
#include "flow/conn.h"
#include "loop/reactor.h"
#include "net/stream.h"
#include "session/session.h"
#include "session/writer.h"

enum { BULK = 3 << 20, LONG = 30000 };

static struct reactor *loop;
static struct relay *relay;
static struct relay_end end;
static char why[80];
static int ended;
static char pattern[BULK], heard[BULK];

static void
over(void *arg, const struct relay_end *how)
{
	(void)arg;
	CHECK_INT(ended++, 0);
	end = *how;
	end.why = NULL; /* borrowed */
	snprintf(why, sizeof(why), "%s", how->why ? how->why : "");
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
	fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	CHECK_INT(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	close(l);
}

static void
unix_pair(int fd[2])
{
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
}

static struct transport *
stream(int fd)
{
	struct transport *t = NULL;

	CHECK_INT(stream_new(fd, fd, true, &t), 0);
	return t;
}

static struct relay_config
plain(struct transport *a, struct transport *b)
{
	return (struct relay_config){
		.a = a, .b = b, .idle = LONG, .half_close = LONG, .flush = LONG, .done = over
	};
}

static void
begin(const struct relay_config *cfg)
{
	ended = 0;
	end = (struct relay_end){ 0 };
	if (!loop)
		CHECK_INT(reactor_new(&loop), 0);
	CHECK_INT(relay_start(&relay, loop, cfg), 0);
}

static void
turns(int n)
{
	while (n-- > 0 && !ended)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

/* Until it is over; false: it is not. */
static bool
runs_out(void)
{
	int64_t limit = clock_ms() + LONG;

	while (!ended && clock_ms() < limit)
		CHECK_INT(reactor_turn(loop, 100), 0);
	return ended == 1;
}

static void
finish(void)
{
	if (!ended)
		relay_cut(relay, "test", CCF_SYSTEM);
	CHECK_INT(ended, 1);
	reactor_turn(loop, 0);
	reactor_free(loop);
	loop = NULL;
}

/* A session as side b; the reactor is made for it. */
static struct transport *
session_of(const struct session_ops *ops)
{
	struct transport *t = NULL;
	struct conn_config c = { .ops = ops, .first = CLOCK_NEVER };

	CHECK_INT(reactor_new(&loop), 0);
	c.reactor = loop;
	CHECK_INT(conn_session(&t, &c), 0);
	return t;
}

/* What fd has now, after some turns: bytes, 0 at its end, or -errno. */
static ssize_t
comes(int fd)
{
	ssize_t n = -EAGAIN;

	for (int i = 0; i < 1000 && n == -EAGAIN; i++) {
		reactor_turn(loop, i < 10 ? 0 : 5);
		n = recv(fd, heard, sizeof(heard), MSG_DONTWAIT);
		n = n < 0 ? -errno : n;
	}
	return n;
}

static void
reset(int fd)
{
	struct linger now = { 1, 0 };

	CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(fd);
}

/* ---- a side made of a struct ---- */

struct fake {
	struct transport t;
	size_t gives, wrote; /* bytes it still gives; bytes it took */
	bool full, stops;    /* takes nothing; ends after gives */
	int read_error, write_error;
	int64_t unsent;
	unsigned reads, writes, finishes;
	bool cut, closed;
};

static ssize_t
fake_read(struct transport *t, void *buf, size_t cap)
{
	struct fake *f = (struct fake *)t;
	size_t n = f->gives < cap ? f->gives : cap;

	f->reads++;
	if (n == 0 && f->read_error)
		return -f->read_error;
	if (n == 0 && !f->stops)
		return -EAGAIN;
	t->ended = n == 0;
	memset(buf, 'x', n);
	f->gives -= n;
	t->in += n;
	return (ssize_t)n;
}

static ssize_t
fake_write(struct transport *t, const void *buf, size_t len)
{
	struct fake *f = (struct fake *)t;

	(void)buf;
	f->writes++;
	if (f->write_error)
		return -f->write_error;
	if (f->full)
		return -EAGAIN;
	f->wrote += len;
	t->out += len;
	return (ssize_t)len;
}

static int
fake_flush(struct transport *t)
{
	(void)t;
	return 0;
}

static int
fake_finish(struct transport *t)
{
	((struct fake *)t)->finishes++;
	return 0;
}

static unsigned
fake_want(const struct transport *t, unsigned ops)
{
	(void)t;
	return ops;
}

static int64_t
fake_unsent(const struct transport *t)
{
	return ((const struct fake *)t)->unsent;
}

static void
fake_close(struct transport *t, bool cut)
{
	struct fake *f = (struct fake *)t;

	CHECK(!f->closed);
	f->closed = true;
	f->cut = cut;
}

static const struct transport_ops fake_ops = {
	.name = "fake",
	.read = fake_read,
	.write = fake_write,
	.flush = fake_flush,
	.finish = fake_finish,
	.want = fake_want,
	.unsent = fake_unsent,
	.close = fake_close,
};

static struct transport *
fake(struct fake *f)
{
	f->t.ops = &fake_ops;
	f->t.rfd = f->t.wfd = -1;
	return &f->t;
}

/* ---- two real sockets: what the relay joins is peer's and inner's other end ---- */

static struct relay_config cfg;
static int peer, inner;

static void
joins(void (*a_pair)(int[2]), void (*b_pair)(int[2]))
{
	int a[2], b[2];

	a_pair(a);
	b_pair(b);
	peer = a[0];
	inner = b[0];
	cfg = plain(stream(a[1]), stream(b[1]));
}

static void
says(int fd, const char *text)
{
	CHECK_INT(write(fd, text, strlen(text)), strlen(text));
}

static void
hears(int fd, const char *text)
{
	CHECK_INT(comes(fd), strlen(text));
	CHECK(memcmp(heard, text, strlen(text)) == 0);
}

CASE(an_end_on_one_side_is_one_on_the_other_and_two_make_a_clean_end)
{
	joins(tcp_pair, tcp_pair);
	begin(&cfg);
	says(peer, "question");
	hears(inner, "question");
	shutdown(peer, SHUT_WR);
	CHECK_INT(comes(inner), 0);
	CHECK_INT(ended, 0);
	says(inner, "a late answer");
	hears(peer, "a late answer");
	CHECK_INT(ended, 0);
	shutdown(inner, SHUT_WR);
	CHECK_INT(comes(peer), 0);
	CHECK(runs_out());
	CHECK_STR(end.reason, "done");
	CHECK_INT(end.status, 0);
	CHECK_STR(end.by, "peer");
	CHECK_INT(end.in, 8);
	CHECK_INT(end.out, 13);
	finish();
	close(peer);
	close(inner);
}

/* Both directions at once, more than every buffer on the way: by copy and by splice. */
static void
bulk(void (*a_pair)(int[2]), void (*b_pair)(int[2]))
{
	size_t sent[2] = { 0, 0 }, got[2] = { 0, 0 };
	int from[2], to[2];
	int64_t limit = clock_ms() + LONG;

	joins(a_pair, b_pair);
	from[0] = to[1] = peer;
	from[1] = to[0] = inner;
	begin(&cfg);
	while ((!ended || got[0] + got[1] < 2 * BULK) && clock_ms() < limit) {
		for (int i = 0; i < 2; i++) {
			ssize_t n = 0;

			if (sent[i] < BULK)
				n = send(from[i], pattern + sent[i], BULK - sent[i], MSG_DONTWAIT);
			sent[i] += n > 0 ? (size_t)n : 0;
			if (n > 0 && sent[i] == BULK)
				shutdown(from[i], SHUT_WR);
			n = recv(to[i], heard, sizeof(heard), MSG_DONTWAIT);
			if (n > 0)
				CHECK(memcmp(heard, pattern + got[i], (size_t)n) == 0);
			got[i] += n > 0 ? (size_t)n : 0;
		}
		reactor_turn(loop, 0);
	}
	CHECK_INT(ended, 1);
	CHECK_INT(end.status, 0);
	CHECK_INT(got[0], BULK);
	CHECK_INT(got[1], BULK);
	CHECK_INT(end.in, BULK);
	CHECK_INT(end.out, BULK);
	finish();
	close(peer);
	close(inner);
}

CASE(megabytes_each_way_arrive_as_they_were)
{
	bulk(tcp_pair, tcp_pair);
	bulk(unix_pair, tcp_pair);
	bulk(unix_pair, unix_pair);
}

CASE(first_bytes_come_before_what_the_inner_side_says)
{
	joins(tcp_pair, unix_pair);
	cfg.first = "first ";
	cfg.first_len = 6;
	says(inner, "second");
	begin(&cfg);
	turns(3);
	hears(peer, "first second");
	finish();
	close(peer);
	close(inner);
}

/* ---- cuts ---- */

static void
cut_short(void (*b_pair)(int[2]), bool by_peer, bool half_closed)
{
	int gone, left;

	joins(tcp_pair, b_pair);
	begin(&cfg);
	gone = by_peer ? peer : inner;
	left = by_peer ? inner : peer;
	says(gone, "the beginning");
	hears(left, "the beginning");
	if (half_closed) {
		shutdown(left, SHUT_WR);
		CHECK_INT(comes(gone), 0);
	}
	reset(gone);
	CHECK(runs_out());
	CHECK_STR(end.reason, "reset");
	CHECK_INT(end.status, CCF_CUT);
	CHECK_STR(end.by, by_peer ? "peer" : "inner");
	if (left == peer || b_pair == tcp_pair)
		CHECK_INT(comes(left), -ECONNRESET);
	finish();
	close(left);
}

CASE(a_reset_on_one_side_is_a_reset_on_the_other)
{
	cut_short(tcp_pair, true, false);
	cut_short(tcp_pair, false, false);
	cut_short(unix_pair, true, false);
	cut_short(tcp_pair, true, true);
	cut_short(tcp_pair, false, true);
}

CASE(a_reset_is_found_while_nothing_is_read)
{
	struct fake b = { .full = true };
	int a[2];

	tcp_pair(a);
	cfg = plain(stream(a[1]), fake(&b));
	begin(&cfg);
	says(a[0], "more than it takes");
	for (int i = 0; i < 1000 && b.writes == 0; i++)
		CHECK_INT(reactor_turn(loop, 5), 0);
	CHECK_INT(b.writes > 0, 1);
	reset(a[0]);
	CHECK(runs_out());
	CHECK_INT(end.status, CCF_CUT);
	CHECK(b.closed && b.cut);
	finish();
}

CASE(relay_cut_resets_both_and_has_told_before_it_returns)
{
	joins(tcp_pair, tcp_pair);
	begin(&cfg);
	turns(2);
	relay_cut(relay, "because", CCF_DEADLINE);
	CHECK_INT(ended, 1);
	CHECK_STR(end.reason, "because");
	CHECK_INT(end.status, CCF_DEADLINE);
	CHECK_STR(end.by, "us");
	CHECK_INT(comes(peer), -ECONNRESET);
	CHECK_INT(comes(inner), -ECONNRESET);
	finish();
	close(peer);
	close(inner);
}

/* ---- what a side cannot know by itself ---- */

static int answer, asked, cuts;

static int
hook(void *arg)
{
	(void)arg;
	asked++;
	return answer;
}

static void
hook_cut(void *arg)
{
	(void)arg;
	cuts++;
}

CASE(an_end_that_the_hook_denies_is_a_cut)
{
	joins(tcp_pair, unix_pair);
	cfg.b_hooks = (struct relay_hooks){ .is_end = hook, .cut = hook_cut };
	answer = asked = cuts = 0;
	begin(&cfg);
	says(inner, "half of it");
	hears(peer, "half of it");
	close(inner);
	CHECK(runs_out());
	CHECK_INT(asked, 1);
	CHECK_INT(cuts, 1);
	CHECK_INT(end.status, CCF_CUT);
	CHECK_INT(comes(peer), -ECONNRESET);
	finish();
	close(peer);
}

CASE(an_end_that_is_not_known_yet_waits_for_a_kick)
{
	joins(tcp_pair, unix_pair);
	cfg.b_hooks.is_end = hook;
	answer = -EAGAIN;
	asked = 0;
	begin(&cfg);
	shutdown(inner, SHUT_WR);
	turns(20);
	CHECK(asked >= 1 && asked < 5);
	CHECK_INT(recv(peer, heard, 1, MSG_DONTWAIT), -1);
	answer = 1;
	relay_kick(relay);
	CHECK_INT(comes(peer), 0);
	CHECK_INT(ended, 0);
	finish();
	close(peer);
	close(inner);
}

CASE(an_end_is_announced_before_it_is_sent_and_waits_for_that)
{
	joins(tcp_pair, unix_pair);
	cfg.b_hooks.announce = hook;
	answer = -EAGAIN;
	asked = 0;
	begin(&cfg);
	says(peer, "all of it");
	shutdown(peer, SHUT_WR);
	hears(inner, "all of it");
	turns(20);
	CHECK(asked >= 1 && asked < 5);
	CHECK_INT(recv(inner, heard, 1, MSG_DONTWAIT), -1);
	CHECK_INT(errno, EAGAIN);
	answer = 0;
	relay_kick(relay);
	CHECK_INT(comes(inner), 0);
	finish();
	close(peer);
	close(inner);
}

CASE(an_end_without_close_notify_is_18_or_a_cut)
{
	for (int cut = 0; cut < 2; cut++) {
		struct fake a = { .gives = 10, .stops = true, .t.bare_end = true };
		struct fake b = { .stops = true };

		cfg = plain(fake(&a), fake(&b));
		cfg.bare_is_cut = cut;
		begin(&cfg);
		CHECK(runs_out());
		CHECK_STR(end.reason, "no-close-notify");
		CHECK_INT(end.status, CCF_CUT);
		CHECK_INT(b.wrote, 10);
		CHECK_INT(b.cut, cut);
		CHECK_INT(b.finishes, !cut);
		finish();
	}
}

/* ---- the bounds ---- */

CASE(a_side_that_takes_nothing_stops_the_other_from_being_read)
{
	struct fake a = { .gives = 1 << 30 }, b = { .full = true };
	size_t given;
	unsigned reads;

	a.t.ready = b.t.ready = TP_READ | TP_WRITE;
	cfg = plain(fake(&a), fake(&b));
	begin(&cfg);
	turns(3);
	given = (size_t)a.t.in;
	reads = a.reads;
	CHECK(given > 0 && given <= 128 * 1024);
	turns(50);
	CHECK_INT(a.t.in, given);
	CHECK_INT(a.reads, reads);
	b.full = false;
	b.t.ready |= TP_WRITE;
	relay_kick(relay);
	turns(10);
	CHECK(a.t.in > given);
	CHECK(b.wrote >= given);
	CHECK_INT(ended, 0);
	finish();
}

CASE(one_that_never_runs_dry_leaves_the_turn_to_others)
{
	struct fake a = { .gives = 1 << 30 }, b = { 0 };

	cfg = plain(fake(&a), fake(&b));
	begin(&cfg);
	turns(1);
	CHECK(b.wrote > 0 && b.wrote <= 1 << 20);
	turns(4);
	CHECK(b.wrote > 1 << 20);
	finish();
}

CASE(silence_ends_it_after_idle_and_after_half_close)
{
	joins(tcp_pair, tcp_pair);
	cfg.idle = 30;
	begin(&cfg);
	CHECK(runs_out());
	CHECK_STR(end.reason, "idle");
	CHECK_INT(end.status, CCF_DEADLINE);
	CHECK_INT(comes(peer), -ECONNRESET);
	finish();
	close(peer);
	close(inner);

	joins(tcp_pair, tcp_pair);
	cfg.idle = -1;
	cfg.half_close = 30;
	begin(&cfg);
	shutdown(peer, SHUT_WR);
	CHECK(runs_out());
	CHECK_STR(end.reason, "half-close-timeout");
	CHECK_INT(end.status, CCF_DEADLINE);
	finish();
	close(peer);
	close(inner);
}

CASE(a_clean_end_waits_for_the_last_byte_to_be_acknowledged)
{
	struct fake a = { .stops = true, .unsent = 100 }, b = { .gives = 100, .stops = true };

	cfg = plain(fake(&a), fake(&b));
	begin(&cfg);
	turns(5);
	CHECK_INT(ended, 0);
	CHECK(a.finishes && b.finishes);
	a.unsent = 0;
	CHECK(runs_out());
	CHECK_STR(end.reason, "done");
	CHECK_INT(end.status, 0);
	CHECK(a.closed && !a.cut && b.closed && !b.cut);
	finish();
}

CASE(a_last_byte_that_is_never_acknowledged_is_a_cut)
{
	struct fake a = { .stops = true, .unsent = 100 }, b = { .gives = 100, .stops = true };

	cfg = plain(fake(&a), fake(&b));
	cfg.flush = 30;
	begin(&cfg);
	CHECK(runs_out());
	CHECK_STR(end.reason, "flush-timeout");
	CHECK_INT(end.status, CCF_DEADLINE);
	CHECK(a.cut);
	finish();
}

/* ---- a session or a COMMAND behind it ---- */

CASE(one_that_stops_listening_is_no_failure_and_what_it_said_is_delivered)
{
	struct fake a = { .gives = 10 << 20 };
	struct fake b = { .gives = 5, .stops = true, .write_error = EPIPE };

	cfg = plain(fake(&a), fake(&b));
	cfg.indifferent = true;
	begin(&cfg);
	CHECK(runs_out());
	CHECK_INT(end.status, 0);
	CHECK_INT(end.out, 5);
	CHECK_INT(a.finishes, 1);
	CHECK(!a.cut);
	CHECK(end.in >= RELAY_LINGER_BYTES && end.in < 10 << 20);
	finish();

	a = (struct fake){ .gives = 100 };
	b = (struct fake){ .write_error = EPIPE };
	cfg = plain(fake(&a), fake(&b));
	begin(&cfg);
	CHECK(runs_out());
	CHECK_INT(end.status, CCF_CUT);
	finish();
}

/* After our end of stream nobody reads what a still says: for how long is the caller's to say. */
CASE(lingering_lasts_as_long_as_something_comes_but_not_for_ever)
{
	struct fake a = { .gives = 20 << 20 };
	struct fake b = { .gives = 5, .stops = true, .write_error = EPIPE };
	int64_t since;

	cfg = plain(fake(&a), fake(&b));
	cfg.indifferent = true;
	cfg.linger = (struct relay_linger){ .quiet = LONG, .longest = LONG, .bytes = 10 << 20 };
	begin(&cfg);
	CHECK(runs_out());
	CHECK_INT(end.status, 0);
	CHECK(end.in > 10 << 20 && end.in < 20 << 20);
	finish();

	for (int i = 0; i < 2; i++) {
		a = (struct fake){ .gives = 1 };
		b = (struct fake){ .gives = 5, .stops = true, .write_error = EPIPE };
		cfg = plain(fake(&a), fake(&b));
		cfg.indifferent = true;
		cfg.linger = (struct relay_linger){
			.quiet = i ? 40 : LONG, .longest = i ? LONG : 120, .bytes = 1 << 30
		};
		begin(&cfg);
		turns(2);
		since = clock_ms();
		while (!ended && clock_ms() - since < (i ? 60 : RELAY_LINGER_MS)) {
			a.gives++; /* it goes on and on, or stops some time */
			relay_kick(relay);
			CHECK_INT(reactor_turn(loop, 0), 0);
		}
		CHECK(runs_out());
		CHECK(clock_ms() - since >= (i ? 95 : 110));
		CHECK(clock_ms() - since < RELAY_LINGER_MS);
		finish();
	}
}

CASE(a_session_hears_and_answers_and_closes)
{
	struct transport *session;
	int a[2];

	tcp_pair(a);
	session = session_of(&session_echo);
	cfg = plain(stream(a[1]), session);
	cfg.indifferent = true;
	begin(&cfg);
	conn_attach(session, relay);
	peer = a[0];
	says(peer, "hello");
	hears(peer, "hello");
	shutdown(peer, SHUT_WR);
	CHECK_INT(comes(peer), 0);
	CHECK(runs_out());
	CHECK_STR(end.reason, "done");
	CHECK_INT(end.status, 0);
	CHECK_INT(end.in, 5);
	CHECK_INT(end.out, 5);
	finish();
	close(peer);
}

CASE(a_session_whose_answers_nobody_reads_is_not_told_more)
{
	struct fake a = { .gives = 1 << 30, .full = true };
	struct transport *session;

	session = session_of(&session_echo);
	cfg = plain(fake(&a), session);
	cfg.indifferent = true;
	begin(&cfg);
	conn_attach(session, relay);
	turns(50);
	CHECK_INT(ended, 0);
	CHECK(a.t.in <= WRITER_MAX);
	a.full = false;
	a.t.ready |= TP_WRITE;
	relay_kick(relay);
	turns(20);
	CHECK(a.wrote > WRITER_MAX);
	finish();
}

/* ---- one that answers at length, and stops when its writer is full ---- */

enum { TALK = 3 << 20 };

struct session {
	struct writer *writer;
	size_t left;
	unsigned drained;
};

static struct session talker;
static size_t talker_most; /* that ever waited in its writer */

static void
talk(struct session *s)
{
	while (s->left > 0 && !writer_full(s->writer)) {
		size_t n = s->left < 1500 ? s->left : 1500;

		CHECK_INT(writer_put(s->writer, pattern + TALK - s->left, n), 0);
		s->left -= n;
		if (s->writer->len > talker_most)
			talker_most = s->writer->len;
	}
	if (s->left == 0)
		writer_close(s->writer);
}

static int
talker_open(struct session **ret, struct writer *writer, const struct env *env, void *arg)
{
	(void)env;
	(void)arg;
	talker = (struct session){ .writer = writer, .left = TALK };
	talker_most = 0;
	*ret = &talker;
	return 0;
}

static ssize_t
talker_data(struct session *s, const char *bytes, size_t len)
{
	(void)bytes;
	talk(s);
	return (ssize_t)len;
}

static void
talker_drained(struct session *s)
{
	CHECK(!writer_full(s->writer));
	s->drained++;
	talk(s);
}

static void
talker_end(struct session *s)
{
	(void)s;
}

static const struct session_ops talker_ops = {
	.name = "talker",
	.open = talker_open,
	.data = talker_data,
	.drained = talker_drained,
	.end = talker_end,
	.close = talker_end,
};

static struct budget budget;
static struct charge charge;
static unsigned slow;

static void
charge_wake(struct charge *c)
{
	(void)c;
	relay_kick(relay);
}

static int64_t
charge_unsent(const struct charge *c)
{
	(void)c;
	return cfg.a->ops->unsent(cfg.a);
}

static void
charge_slow(struct charge *c)
{
	slow++;
	relay_cut(relay, "slow", CCF_DEADLINE);
	budget_leave(c);
}

static const struct charge_ops charge_ops = {
	.wake = charge_wake, .unsent = charge_unsent, .slow = charge_slow
};

/* begin(), with a budget that one connection has for itself. */
static void
begin_within(size_t max, int64_t flush, struct transport *session)
{
	cfg.charge = &charge;
	cfg.indifferent = session != NULL;
	slow = 0;
	begin(&cfg);
	budget_open(&budget, loop, max, flush);
	budget_join(&budget, &charge, &charge_ops);
	if (session)
		conn_attach(session, relay);
}

static void
finish_within(void)
{
	if (!ended)
		relay_cut(relay, "test", CCF_SYSTEM);
	CHECK_INT(budget.held, 0);
	budget_leave(&charge);
	CHECK_INT(budget.live, 0);
	CHECK_INT(budget.held, 0);
	budget_close(&budget);
	finish();
}

CASE(a_session_that_stops_when_full_goes_on_when_drained)
{
	for (int tight = 0; tight < 2; tight++) {
		struct transport *session;
		size_t got = 0;
		ssize_t n;
		int a[2];

		tcp_pair(a);
		peer = a[0];
		session = session_of(&talker_ops);
		cfg = plain(stream(a[1]), session);
		begin_within(tight ? BUDGET_LEAST : 64 << 20, -1, session);
		says(peer, "go");
		while ((n = comes(peer)) > 0) {
			CHECK(memcmp(heard, pattern + got, (size_t)n) == 0);
			got += (size_t)n;
		}
		CHECK_INT(n, 0);
		CHECK_INT(got, TALK);
		CHECK(talker.drained > 0);
		CHECK(talker_most < (tight ? BUDGET_LEAST / 2 : WRITER_HIGH) + 1500);
		finish_within();
		close(peer);
	}
}

/* ---- the budget ---- */

/* A peer that sends and never reads: what it can get rid of, until nothing moves. */
static size_t
pours(int fd)
{
	size_t sent = 0, before;
	ssize_t n;

	do {
		before = sent;
		for (int i = 0; i < 20; i++) {
			while ((n = send(fd, pattern, 65536, MSG_DONTWAIT)) > 0)
				sent += (size_t)n;
			CHECK_INT(reactor_turn(loop, 0), 0);
		}
	} while (sent > before && sent < BULK * 100UL);
	return sent;
}

CASE(one_that_sends_and_never_reads_holds_its_share_and_no_more)
{
	static const size_t max[] = { BUDGET_LEAST, 100000, 600000 };

	for (int i = 0; i < 3; i++) {
		struct transport *session;
		int a[2];

		tcp_pair(a);
		peer = a[0];
		session = session_of(&session_echo);
		cfg = plain(stream(a[1]), session);
		begin_within(max[i], -1, session);
		pours(peer);
		CHECK_INT(ended, 0);
		CHECK(budget.held > max[i] / 8);
		CHECK(budget.held <= max[i] + max[i] / 4);
		/* what was taken all comes back when it does read */
		shutdown(peer, SHUT_WR);
		while (comes(peer) > 0)
			continue;
		CHECK(runs_out());
		CHECK_INT(end.status, 0);
		CHECK_INT(end.in, end.out);
		finish_within();
		close(peer);
	}
}

CASE(both_directions_stuck_hold_a_share_between_them)
{
	static const size_t max[] = { BUDGET_LEAST, 100000, 600000 };

	for (int i = 0; i < 3; i++) {
		struct fake a = { .gives = 1 << 30, .full = true };
		struct fake b = { .gives = 1 << 30, .full = true };

		cfg = plain(fake(&a), fake(&b));
		b.t.rfd = b.t.wfd = peer = socket(AF_INET, SOCK_STREAM, 0); /* no session */
		begin_within(max[i], -1, NULL);
		turns(20);
		CHECK(a.t.in > 0 && b.t.in > 0);
		CHECK(budget.held > 0 && budget.held <= max[i]);
		finish_within();
		close(peer);
	}
}

/* What is sent to inner comes back from there, and inner reads nothing while it has something to
 * say: neither direction may wait for the other, however little may be held. */
CASE(an_echo_behind_the_smallest_share_comes_to_its_end)
{
	char back[4096];
	size_t has = 0, sent = 0, got = 0;
	int64_t limit = clock_ms() + LONG;
	ssize_t n;

	joins(unix_pair, unix_pair);
	begin_within(BUDGET_LEAST, -1, NULL);
	while (got < BULK && clock_ms() < limit && !ended) {
		if (has == 0 && (n = recv(inner, back, sizeof(back), MSG_DONTWAIT)) > 0)
			has = (size_t)n;
		if (has > 0 && (n = send(inner, back, has, MSG_DONTWAIT)) > 0) {
			memmove(back, back + n, has - (size_t)n);
			has -= (size_t)n;
		}
		if (sent < BULK && (n = send(peer, pattern + sent, BULK - sent, MSG_DONTWAIT)) > 0)
			sent += (size_t)n;
		if ((n = recv(peer, heard, 1000, MSG_DONTWAIT)) > 0) {
			CHECK(memcmp(heard, pattern + got, (size_t)n) == 0);
			got += (size_t)n;
		}
		CHECK_INT(reactor_turn(loop, 0), 0);
	}
	CHECK_INT(got, BULK);
	finish_within();
	close(peer);
	close(inner);
}

CASE(at_the_bound_one_whose_output_does_not_move_is_cut)
{
	struct transport *session;
	int a[2];

	tcp_pair(a);
	peer = a[0];
	session = session_of(&session_echo);
	cfg = plain(stream(a[1]), session);
	begin_within(BUDGET_LEAST, 50, session);
	pours(peer);
	if (!ended)
		budget_hold(&charge, BUDGET_LEAST, false);
	CHECK(runs_out());
	CHECK_STR(end.reason, "slow");
	CHECK_INT(end.status, CCF_DEADLINE);
	CHECK_INT(slow, 1);
	finish_within();
	close(peer);
}

/* ---- what is owed to the peer when something behind it fails ---- */

CASE(a_peer_that_takes_nothing_is_not_kept_by_what_it_says)
{
	struct fake b = { .gives = 1 << 30 };
	int64_t limit = clock_ms() + LONG;
	int a[2];

	tcp_pair(a);
	cfg = plain(stream(a[1]), fake(&b));
	cfg.idle = 200;
	begin(&cfg);
	while (!ended && clock_ms() < limit) {
		(void)send(a[0], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		CHECK_INT(reactor_turn(loop, 10), 0);
	}
	CHECK_STR(end.reason, "idle");
	CHECK_INT(end.status, CCF_DEADLINE);
	CHECK(b.wrote > 0);
	finish();
	close(a[0]);
}

/* It answers, ends and is gone, while the peer still sends 200 KiB. */
CASE(an_answer_from_one_that_does_not_listen_to_the_end_arrives_whole)
{
	size_t sent = 0, size = 200 * 1024;
	ssize_t n;

	joins(tcp_pair, tcp_pair);
	begin(&cfg);
	says(peer, "the beginning");
	hears(inner, "the beginning");
	says(inner, "the answer");
	shutdown(inner, SHUT_WR);
	close(inner); /* from now on it answers with a reset */
	while (sent < size && !ended) {
		n = send(peer, pattern + sent, 1000, MSG_DONTWAIT | MSG_NOSIGNAL);
		CHECK(n > 0 || errno == EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
		CHECK_INT(reactor_turn(loop, 0), 0);
	}
	hears(peer, "the answer");
	CHECK_INT(comes(peer), 0);
	CHECK_INT(ended, 0);
	shutdown(peer, SHUT_WR);
	CHECK(runs_out());
	CHECK_STR(end.reason, "reset");
	CHECK_INT(end.status, CCF_CUT); /* not all that the peer said was heard */
	CHECK_STR(end.by, "inner");
	CHECK_INT(recv(peer, heard, 1, MSG_DONTWAIT), 0);
	finish();
	close(peer);
}

CASE(the_last_words_of_one_that_was_cut_come_before_the_reset)
{
	ssize_t n;
	size_t got = 0;

	joins(tcp_pair, tcp_pair);
	begin(&cfg);
	says(peer, "the beginning");
	hears(inner, "the beginning");
	CHECK_INT(send(inner, pattern, 100000, 0), 100000);
	says(peer, "more");
	for (int i = 0; i < 1000 && recv(inner, heard, 1, MSG_PEEK | MSG_DONTWAIT) < 1; i++)
		CHECK_INT(reactor_turn(loop, 5), 0);
	close(inner);		/* unread: a reset follows what it said */
	says(peer, "and more"); /* the write that fails is told of the reset, and no read is */
	while (got < 100000 && (n = comes(peer)) > 0) {
		CHECK(memcmp(heard, pattern + got, (size_t)n) == 0);
		got += (size_t)n;
	}
	CHECK_INT(got, 100000);
	CHECK(runs_out());
	CHECK_STR(end.reason, "reset");
	CHECK_INT(end.status, CCF_CUT);
	CHECK_INT(comes(peer), -ECONNRESET);
	finish();
	close(peer);
}

/* ---- the loop ---- */

/* It refused us while we wrote: the kernel says only that the connection is gone. */
static ssize_t
write_to_refuser(struct transport *t, const void *buf, size_t len)
{
	(void)buf;
	(void)len;
	((struct fake *)t)->read_error = EACCES;
	return -EPIPE;
}

static const char *
says_why(const struct transport *t)
{
	(void)t;
	return "it does not want us";
}

static void
no_facts(const struct transport *t, struct env *env)
{
	(void)t;
	(void)env;
}

CASE(a_refusal_that_came_before_a_cut_is_what_ended_it)
{
	struct transport_ops ops = fake_ops;

	ops.write = write_to_refuser;
	ops.reason = says_why;
	ops.facts = no_facts;
	for (int i = 0; i < 2; i++) {
		struct fake a = { .read_error = i ? EACCES : 0 }, b = { .gives = i ? 0 : 10 };

		cfg = plain(fake(&a), fake(&b));
		a.t.ops = &ops;
		begin(&cfg);
		CHECK(runs_out());
		CHECK_STR(end.reason, "handshake-failed");
		CHECK_STR(why, "it does not want us");
		CHECK_INT(end.status, CCF_HANDSHAKE);
		CHECK_STR(end.by, "peer");
		CHECK(b.cut);
		finish();
	}
}

CASE(nothing_is_called_while_nothing_happens)
{
	struct fake b = { 0 };
	unsigned reads, writes;
	int a[2];

	tcp_pair(a);
	cfg = plain(stream(a[1]), fake(&b));
	begin(&cfg);
	turns(5);
	reads = b.reads;
	writes = b.writes;
	turns(100);
	CHECK_INT(b.reads, reads);
	CHECK_INT(b.writes, writes);
	finish();
	close(a[0]);
}

CASE(what_the_caller_keeps_is_neither_ended_nor_closed)
{
	struct fake a = { .stops = true }, b = { .gives = 10 };

	cfg = plain(fake(&a), fake(&b));
	cfg.keep_b = true;
	cfg.peer_end = RELAY_PEER_GONE;
	begin(&cfg);
	CHECK(runs_out());
	CHECK(a.closed);
	CHECK(!b.closed);
	CHECK_INT(b.finishes, 0);
	finish();
}

int
main(void)
{
	for (size_t i = 0; i < BULK; i++)
		pattern[i] = (char)(i * 31 + i / 257);
	log_open("relay", false);
	log_set_level(LOG_L_ERROR);
	return check_main((struct check_case[]){
	    RUN(an_end_on_one_side_is_one_on_the_other_and_two_make_a_clean_end),
	    RUN(megabytes_each_way_arrive_as_they_were),
	    RUN(first_bytes_come_before_what_the_inner_side_says),
	    RUN(a_reset_on_one_side_is_a_reset_on_the_other),
	    RUN(a_reset_is_found_while_nothing_is_read),
	    RUN(relay_cut_resets_both_and_has_told_before_it_returns),
	    RUN(an_end_that_the_hook_denies_is_a_cut),
	    RUN(an_end_that_is_not_known_yet_waits_for_a_kick),
	    RUN(an_end_is_announced_before_it_is_sent_and_waits_for_that),
	    RUN(an_end_without_close_notify_is_18_or_a_cut),
	    RUN(a_side_that_takes_nothing_stops_the_other_from_being_read),
	    RUN(one_that_never_runs_dry_leaves_the_turn_to_others),
	    RUN(silence_ends_it_after_idle_and_after_half_close),
	    RUN(a_clean_end_waits_for_the_last_byte_to_be_acknowledged),
	    RUN(a_last_byte_that_is_never_acknowledged_is_a_cut),
	    RUN(one_that_stops_listening_is_no_failure_and_what_it_said_is_delivered),
	    RUN(lingering_lasts_as_long_as_something_comes_but_not_for_ever),
	    RUN(a_session_hears_and_answers_and_closes),
	    RUN(a_session_whose_answers_nobody_reads_is_not_told_more),
	    RUN(a_session_that_stops_when_full_goes_on_when_drained),
	    RUN(one_that_sends_and_never_reads_holds_its_share_and_no_more),
	    RUN(both_directions_stuck_hold_a_share_between_them),
	    RUN(an_echo_behind_the_smallest_share_comes_to_its_end),
	    RUN(at_the_bound_one_whose_output_does_not_move_is_cut),
	    RUN(a_peer_that_takes_nothing_is_not_kept_by_what_it_says),
	    RUN(an_answer_from_one_that_does_not_listen_to_the_end_arrives_whole),
	    RUN(the_last_words_of_one_that_was_cut_come_before_the_reset),
	    RUN(a_refusal_that_came_before_a_cut_is_what_ended_it),
	    RUN(nothing_is_called_while_nothing_happens),
	    RUN(what_the_caller_keeps_is_neither_ended_nor_closed),
	    { 0 },
	});
}
