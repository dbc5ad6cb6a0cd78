/* (who runs this makes no difference) */
/* What passes a tap passes as if there were none: every byte, every end, every reset, also while
 * nobody takes the lines; and all of it is shown, in order. */
#include "flow/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "base/fds.h"
#include "base/log.h"
#include "check.h"
#include "flow/joiner.h"
#include "flow/outlet.h"
#include "flow/relay.h"
#include "net/handoff.h"
#include "net/stream.h"

enum { LONG = 30000, BULK = 4 << 20, MAX = 1 << 20, PAIRS = 3, CLIENT = 0, SERVER = 1 };

static struct reactor *loop;
static struct taps taps;
static struct outlet out;
static bool ready, to_outlet;
static unsigned room; /* items until it is not ready any more; UINT_MAX: for ever */

/* ---- two that talk through a relay ---- */

struct end { /* what a peer says, and what it heard */
	int fd;
	size_t to_say, said, heard;
	bool ends;    /* after that */
	ssize_t last; /* 0: its end, -errno */
	char says[BULK], hears[BULK];
};

struct pair {
	struct end end[2];
	struct relay *relay;
	struct transport *tap[2];
	struct relay_end how;
	int ended;
	/* what was shown, by side: */
	unsigned frames[2], cuts[2], unframed[2];
	uint64_t bytes[2], next[2];
};

static struct pair pairs[PAIRS], *p = pairs;

static void
on_item(void *arg, const char *conn, bool from_client, const struct decode_item *item)
{
	struct pair *of = &pairs[conn[0] - '0'];
	int i = from_client ? CLIENT : SERVER;

	CHECK(arg == &taps);
	CHECK_INT(item->offset, of->next[i]);
	of->next[i] +=
	    item->what == DECODE_UNFRAMED ? item->passed : item->frame.head + item->passed;
	of->frames[i] += item->what == DECODE_FRAME;
	of->cuts[i] += item->what == DECODE_CUT;
	of->unframed[i] += item->what == DECODE_UNFRAMED;
	if (to_outlet) {
		decode_text(outlet_line(&out), item);
		text_bytes(outlet_line(&out), "\n", 1);
		outlet_done(&out);
	}
	if (room != UINT_MAX && --room == 0)
		ready = false;
}

static bool
is_ready(void *arg)
{
	CHECK(arg == &taps);
	return to_outlet ? !outlet_full(&out) : ready;
}

static void
resume(unsigned items)
{
	ready = true;
	room = items;
	taps_resume(&taps);
}

static void
over(void *arg, const struct relay_end *how)
{
	struct pair *of = arg;

	CHECK_INT(of->ended++, 0);
	of->how = *how;
	of->how.why = NULL;
}

static void
tcp_pair(int fd[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), size = 256 * 1024;

	CHECK_INT(setsockopt(l, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
	CHECK_INT(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	CHECK_INT(listen(l, 1), 0);
	CHECK_INT(getsockname(l, (struct sockaddr *)&a, &len), 0);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	CHECK_INT(connect(fd[0], (struct sockaddr *)&a, sizeof(a)), 0);
	fd[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	CHECK_INT(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	close(l);
}

static void
open_taps(void)
{
	CHECK_INT(reactor_new(&loop), 0);
	taps = (struct taps){ .ready = is_ready, .item = on_item, .arg = &taps, .max = MAX };
	taps_open(&taps);
	ready = true;
	room = UINT_MAX;
	to_outlet = false;
}

/* The peers of pair i, and the transports of the relay to be, tapped or not. */
static void
open_pair(int i, bool tapped, struct relay_config *cfg)
{
	struct pair *of = &pairs[i];
	struct transport **t[2] = { &cfg->a, &cfg->b };
	char conn[] = { (char)('0' + i), '\0' };

	*of = (struct pair){ .relay = NULL };
	*cfg = (struct relay_config){
		.idle = LONG, .half_close = LONG, .flush = LONG, .done = over, .arg = of
	};
	for (int s = 0; s < 2; s++) {
		int fd[2];

		tcp_pair(fd);
		of->end[s].fd = fd[0];
		of->end[s].last = 1;
		CHECK_INT(stream_new(fd[1], fd[1], true, t[s]), 0);
		if (tapped)
			CHECK_INT(tap_wrap(&taps, *t[s], conn, s == CLIENT, t[s]), 0);
		CHECK_INT(stream_is(*t[s]), !tapped);
		of->tap[s] = tapped ? *t[s] : NULL;
	}
}

static void
start(int i, const struct relay_config *cfg)
{
	struct pair *of = &pairs[i];

	CHECK_INT(relay_start(&of->relay, loop, cfg), 0);
	for (int s = 0; s < 2; s++)
		if (of->tap[s])
			tap_attach(of->tap[s], of->relay);
}

static void
begin(bool tapped)
{
	struct relay_config cfg;

	p = pairs;
	open_taps();
	open_pair(0, tapped, &cfg);
	start(0, &cfg);
}

static void
finish(int n)
{
	for (int i = 0; i < n; i++) {
		if (!pairs[i].ended)
			relay_cut(pairs[i].relay, "test", CCF_SYSTEM);
		CHECK_INT(pairs[i].ended, 1);
		fds_close(&pairs[i].end[0].fd);
		fds_close(&pairs[i].end[1].fd);
	}
	CHECK(TAILQ_EMPTY(&taps.all));
	outlet_close(&out);
	reactor_turn(loop, 0);
	reactor_free(loop);
}

/* ---- what they say ---- */

static void
put(struct end *e, uint64_t n, unsigned bytes)
{
	for (; bytes; bytes--, n >>= 8)
		e->says[e->to_say++] = (char)(n & 0xff);
}

static void
frame(struct end *e, size_t payload)
{
	put(e, 16 + 2 + payload, 4);
	put(e, (uint64_t)random() % 5, 8);
	put(e, 2, 8);
	put(e, 'n' | '7' << 8, 2);
	for (size_t i = 0; i < payload; i++)
		put(e, (uint64_t)random(), 1);
}

static unsigned
frames(struct end *e, size_t total)
{
	unsigned n = 0;

	for (; e->to_say < total; n++)
		frame(e, (size_t)random() % (random() % 20 ? 100 : 100000));
	return n;
}

static void
end_says(struct end *e, size_t most)
{
	size_t left = e->to_say - e->said;
	ssize_t n = 0;

	if (e->fd == -1)
		return;
	if (left > 0)
		n = send(e->fd, e->says + e->said, left < most ? left : most, MSG_NOSIGNAL);
	e->said += n > 0 ? (size_t)n : 0;
	if (e->ends && e->said == e->to_say) {
		CHECK_INT(shutdown(e->fd, SHUT_WR), 0);
		e->ends = false;
	}
}

static void
end_hears(struct end *e, size_t most)
{
	ssize_t n;

	if (e->fd == -1 || e->last <= 0 || e->heard == BULK)
		return;
	n = recv(e->fd, e->hears + e->heard, BULK - e->heard < most ? BULK - e->heard : most, 0);
	if (n > 0)
		e->heard += (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		e->last = n == 0 ? 0 : -errno;
}

static void
talk(struct pair *of, size_t most)
{
	for (int s = 0; s < 2; s++) {
		end_says(&of->end[s], 1 + (size_t)random() % most);
		end_hears(&of->end[s], 1 + (size_t)random() % most);
	}
}

static bool
heard_all(const struct pair *of)
{
	const struct end *c = &of->end[CLIENT], *s = &of->end[SERVER];

	return c->heard == s->to_say && s->heard == c->to_say &&
	       memcmp(c->hears, s->says, c->heard) == 0 && memcmp(s->hears, c->says, s->heard) == 0;
}

/* Until the relay is over and both have heard how. */
static bool
runs_out(struct pair *of)
{
	int64_t limit = clock_ms() + LONG;

	while ((!of->ended || (of->end[0].fd != -1 && of->end[0].last > 0) ||
		   (of->end[1].fd != -1 && of->end[1].last > 0)) &&
	       clock_ms() < limit) {
		CHECK_INT(reactor_turn(loop, of->ended ? 0 : 1), 0);
		talk(of, BULK);
	}
	return of->ended && clock_ms() < limit;
}

static void
reset(struct end *e)
{
	struct linger now = { 1, 0 };

	CHECK_INT(setsockopt(e->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	fds_close(&e->fd);
}

/* ---- the bytes ---- */

CASE(unchanged_through_random_splits)
{
	for (unsigned round = 0; round < 8; round++) {
		static const size_t most[] = { 3000, 70000, 300000, 20000 };
		int64_t limit = clock_ms() + LONG;
		unsigned n[2];

		srandom(round);
		begin(true);
		for (int s = 0; s < 2; s++) {
			n[s] = frames(&p->end[s], BULK / 2);
			p->end[s].ends = true;
		}
		if (round & 1) /* from here on nobody understands it */
			for (size_t i = 0; i < 300000; i++)
				put(&p->end[CLIENT], 0xff, 1);
		while (!p->ended && clock_ms() < limit) {
			talk(p, most[round % 4]);
			CHECK_INT(reactor_turn(loop, 0), 0);
		}
		CHECK(runs_out(p));
		CHECK(heard_all(p));
		CHECK_INT(p->how.status, 0);
		CHECK_STR(p->how.reason, "done");
		CHECK_INT(p->how.in, p->end[CLIENT].to_say);
		CHECK_INT(p->how.out, p->end[SERVER].to_say);
		for (int s = 0; s < 2; s++) {
			CHECK_INT(p->frames[s], n[s]);
			CHECK_INT(p->cuts[s], 0);
			CHECK_INT(p->next[s], p->end[s].to_say);
		}
		CHECK_INT(p->unframed[CLIENT] > 0, round & 1);
		CHECK_INT(p->unframed[SERVER], 0);
		finish(1);
	}
}

CASE(shown_while_it_passes)
{
	begin(true);
	frame(&p->end[CLIENT], 10);
	while (p->end[SERVER].heard == 0) {
		talk(p, BULK);
		CHECK_INT(reactor_turn(loop, 0), 0);
	}
	CHECK_INT(p->frames[CLIENT], 1);
	CHECK_INT(p->frames[SERVER], 0);
	finish(1);
}

/* ---- nobody takes the lines ---- */

static bool rang;

static void
rings(struct timer *t)
{
	(void)t;
	rang = true;
}

/* How many turns it is until a timer of some ms fires. */
static unsigned
turns_of(int64_t ms)
{
	struct timer t = { .fire = rings };
	unsigned n = 0;

	rang = false;
	CHECK_INT(reactor_timer(loop, &t, clock_ms() + ms), 0);
	for (; !rang; n++)
		CHECK_INT(reactor_turn(loop, -1), 0);
	return n;
}

CASE(held_without_spinning_and_woken_again)
{
	uint64_t in;

	srandom(4);
	begin(true);
	ready = false;
	(void)frames(&p->end[CLIENT], BULK / 2);
	(void)frames(&p->end[SERVER], BULK / 2);
	for (int i = 0; i < 200; i++) {
		talk(p, BULK);
		CHECK_INT(reactor_turn(loop, 0), 0);
	}
	CHECK(p->end[CLIENT].said < p->end[CLIENT].to_say); /* the kernel's buffers, no more */
	CHECK_INT(p->end[SERVER].heard + p->end[CLIENT].heard, 0);
	CHECK_INT(p->frames[0] + p->frames[1], 0);
	CHECK_INT(p->tap[0]->in + p->tap[1]->in, 0);
	CHECK(turns_of(30) < 6);
	resume(1);
	for (int i = 0; i < 50; i++)
		CHECK_INT(reactor_turn(loop, 0), 0);
	in = p->tap[0]->in + p->tap[1]->in;
	CHECK(in > 0 && in <= 65536); /* one read */
	CHECK(turns_of(30) < 6);
	resume(UINT_MAX);
	p->end[0].ends = p->end[1].ends = true;
	CHECK(runs_out(p));
	CHECK(heard_all(p));
	CHECK_INT(p->how.status, 0);
	finish(1);
}

CASE(an_end_waits_for_its_turn)
{
	begin(true);
	ready = false;
	frame(&p->end[CLIENT], 100);
	p->end[CLIENT].ends = p->end[SERVER].ends = true;
	for (int i = 0; i < 50; i++) {
		talk(p, BULK);
		CHECK_INT(reactor_turn(loop, 0), 0);
	}
	CHECK_INT(p->ended, 0);
	CHECK(turns_of(30) < 6);
	resume(UINT_MAX);
	CHECK(runs_out(p));
	CHECK(heard_all(p));
	CHECK_INT(p->how.status, 0);
	finish(1);
}

/* As much is shown of one as of another: all say what they can, and there is room for one read at a
 * time. */
CASE(all_take_turns)
{
	struct relay_config cfg;
	int64_t limit = clock_ms() + LONG;
	uint64_t least = 0, most = 0;

	srandom(5);
	open_taps();
	ready = false;
	for (int i = 0; i < PAIRS; i++) {
		open_pair(i, true, &cfg);
		(void)frames(&pairs[i].end[CLIENT], BULK / 2);
		(void)frames(&pairs[i].end[SERVER], BULK / 2);
		start(i, &cfg);
	}
	while (least < 1000000 && clock_ms() < limit) {
		least = UINT64_MAX;
		for (int i = 0; i < 2 * PAIRS; i++) {
			uint64_t n = pairs[i / 2].next[i % 2];

			talk(&pairs[i / 2], BULK);
			least = n < least ? n : least;
			most = n > most ? n : most;
		}
		CHECK_INT(reactor_turn(loop, 0), 0);
		if (!ready)
			resume(1);
	}
	CHECK(least >= 1000000);
	CHECK(most < least + 400000);
	finish(PAIRS);
}

/* The other side of a connection that says much has nothing to say. */
CASE(who_says_nothing_is_not_waited_for)
{
	int64_t limit = clock_ms() + LONG;

	begin(true);
	ready = false;
	(void)frames(&p->end[SERVER], BULK / 2);
	(void)frames(&p->end[CLIENT], 100);
	p->end[CLIENT].ends = p->end[SERVER].ends = true;
	while (!p->ended && clock_ms() < limit) {
		talk(p, BULK);
		CHECK_INT(reactor_turn(loop, 1), 0);
		if (!ready)
			resume(1);
	}
	CHECK(runs_out(p));
	CHECK(heard_all(p));
	finish(1);
}

CASE(a_slow_reader_of_lines_holds_all_of_it)
{
	struct relay_config cfg;
	static char lines[1 << 16];
	int64_t limit = clock_ms() + 2 * LONG;
	unsigned n = 0, all = 0;
	int fd[2], over_now = 0;

	srandom(6);
	open_taps();
	CHECK_INT(pipe2(fd, O_CLOEXEC), 0);
	CHECK_INT(fcntl(fd[0], F_SETFL, O_NONBLOCK), 0);
	out = (struct outlet){ .drained = (void (*)(void *))taps_resume, .arg = &taps };
	CHECK_INT(outlet_open(&out, loop, fd[1]), 0);
	to_outlet = true;
	for (int i = 0; i < PAIRS; i++) {
		open_pair(i, true, &cfg);
		for (int s = 0; s < 2; s++) {
			all += frames(&pairs[i].end[s], BULK / 4);
			pairs[i].end[s].ends = true;
		}
		start(i, &cfg);
	}
	while ((n < all || over_now < PAIRS) && clock_ms() < limit) {
		ssize_t got = read(fd[0], lines, 1 + (size_t)random() % sizeof(lines));

		for (ssize_t i = 0; i < got; i++)
			n += lines[i] == '\n';
		over_now = 0;
		for (int i = 0; i < PAIRS; i++) {
			talk(&pairs[i], BULK);
			over_now += pairs[i].ended && heard_all(&pairs[i]);
		}
		CHECK_INT(reactor_turn(loop, 0), 0);
		CHECK(out.waiting.len - out.at < OUTLET_HIGH + 6 * 300000);
	}
	CHECK_INT(n, all);
	CHECK_INT(over_now, PAIRS);
	for (int i = 0; i < PAIRS; i++)
		CHECK_INT(pairs[i].how.status, 0);
	finish(PAIRS);
	close(fd[0]);
	close(fd[1]);
}

/* ---- the ends ---- */

static void
both_end(void)
{
	p->end[CLIENT].ends = p->end[SERVER].ends = true;
}

static void
client_ends_first(void)
{
	int64_t limit = clock_ms() + LONG;

	p->end[CLIENT].ends = true;
	while (p->end[SERVER].last > 0 && clock_ms() < limit) {
		CHECK_INT(reactor_turn(loop, 0), 0);
		talk(p, BULK);
	}
	p->end[SERVER].ends = true;
}

static void
client_resets(void)
{
	int64_t limit = clock_ms() + LONG;

	while (p->end[SERVER].heard < p->end[CLIENT].to_say && clock_ms() < limit) {
		CHECK_INT(reactor_turn(loop, 0), 0);
		talk(p, BULK);
	}
	reset(&p->end[CLIENT]);
}

static void
server_resets_after_its_end(void)
{
	int64_t limit = clock_ms() + LONG;

	p->end[SERVER].ends = true;
	while (p->end[CLIENT].last > 0 && clock_ms() < limit) {
		CHECK_INT(reactor_turn(loop, 0), 0);
		talk(p, BULK);
	}
	reset(&p->end[SERVER]);
	frame(&p->end[CLIENT], 1000);
}

static void
server_resets_at_once(void)
{
	reset(&p->end[SERVER]);
}

static void
server_closes_with_something_unread(void)
{
	end_says(&p->end[CLIENT], BULK);
	end_says(&p->end[SERVER], BULK);
	for (int i = 0; i < 5; i++)
		CHECK_INT(reactor_turn(loop, 0), 0);
	fds_close(&p->end[SERVER].fd);
}

static void
we_cut_it(void)
{
	talk(p, BULK);
	for (int i = 0; i < 5; i++)
		CHECK_INT(reactor_turn(loop, 0), 0);
	relay_cut(p->relay, "drain-timeout", CCF_DEADLINE);
}

CASE(ends_and_resets_are_as_without_it)
{
	static void (*const what[])(void) = { both_end, client_ends_first, client_resets,
		server_resets_after_its_end, server_resets_at_once,
		server_closes_with_something_unread, we_cut_it };
	static struct pair without;

	for (size_t i = 0; i < sizeof(what) / sizeof(what[0]); i++) {
		int was = check_failed;

		for (int tapped = 0; tapped < 2; tapped++) {
			srandom(7);
			begin(tapped);
			(void)frames(&p->end[CLIENT], 20000);
			(void)frames(&p->end[SERVER], 10000);
			what[i]();
			CHECK(runs_out(p));
			if (!tapped)
				without = *p;
			finish(1);
		}
		CHECK_STR(p->how.reason, without.how.reason);
		CHECK_STR(p->how.by, without.how.by);
		CHECK_INT(p->how.status, without.how.status);
		CHECK_INT(p->how.error, without.how.error);
		CHECK_INT(p->how.in, without.how.in);
		CHECK_INT(p->how.out, without.how.out);
		CHECK_INT(p->how.more, without.how.more);
		for (int s = 0; s < 2; s++) {
			CHECK_INT(p->end[s].heard, without.end[s].heard);
			CHECK_INT(p->end[s].last, without.end[s].last);
		}
		if (check_failed > was)
			printf("# the above in scenario %zu\n", i);
	}
}

CASE(a_frame_that_is_cut_is_shown_once)
{
	for (int how = 0; how < 3; how++) {
		int64_t limit = clock_ms() + LONG;

		begin(true);
		frame(&p->end[CLIENT], 100);
		frame(&p->end[CLIENT], 100);
		p->end[CLIENT].to_say -= 60;
		while (p->end[SERVER].heard < p->end[CLIENT].to_say && clock_ms() < limit) {
			CHECK_INT(reactor_turn(loop, 0), 0);
			talk(p, BULK);
		}
		CHECK_INT(p->frames[CLIENT], 1);
		CHECK_INT(p->cuts[CLIENT], 0);
		if (how == 0)
			both_end();
		else if (how == 1)
			reset(&p->end[CLIENT]);
		else
			relay_cut(p->relay, "test", CCF_SYSTEM);
		CHECK(runs_out(p));
		CHECK_INT(p->cuts[CLIENT], 1);
		CHECK_INT(p->cuts[SERVER], 0);
		CHECK_INT(p->frames[CLIENT], 1);
		finish(1);
	}
}

/* ---- whatever is within ---- */

struct fake {
	struct transport t;
	unsigned ready_then; /* as it was in the last call */
	int rc;
	bool closed, cut;
};

static struct fake fake;

static int
fake_call(struct transport *t)
{
	CHECK(t == &fake.t);
	fake.ready_then = t->ready;
	t->ready = 0;
	t->broken = EPIPE;
	t->bare_end = true;
	t->in += 3;
	t->out += 5;
	t->wfd = -1;
	return fake.rc;
}

static ssize_t
fake_read(struct transport *t, void *buf, size_t cap)
{
	(void)buf;
	(void)cap;
	t->ended = true;
	return fake_call(t);
}

static ssize_t
fake_write(struct transport *t, const void *buf, size_t len)
{
	(void)buf;
	(void)len;
	return fake_call(t);
}

static unsigned
fake_want(const struct transport *t, unsigned ops)
{
	(void)t;
	return ops == TP_READ ? TP_WRITE : ops;
}

static int64_t
fake_unsent(const struct transport *t)
{
	return fake_call((struct transport *)(uintptr_t)t);
}

static size_t
fake_held(const struct transport *t, unsigned op)
{
	(void)t;
	return 10 + op;
}

static void
fake_facts(const struct transport *t, struct env *env)
{
	(void)t;
	CHECK_INT(env_set(env, "CCF_ALPN", "fake"), 0);
}

static const char *
fake_reason(const struct transport *t)
{
	(void)t;
	return "why";
}

static void
fake_close(struct transport *t, bool cut)
{
	CHECK(t == &fake.t);
	fake.closed = true;
	fake.cut = cut;
}

static const struct transport_ops fake_ops = { .name = "fake",
	.handshake = fake_call,
	.read = fake_read,
	.write = fake_write,
	.flush = fake_call,
	.finish = fake_call,
	.want = fake_want,
	.unsent = fake_unsent,
	.held = fake_held,
	.facts = fake_facts,
	.reason = fake_reason,
	.close = fake_close };

static void
mirrored(const struct transport *t, int calls)
{
	CHECK_INT(fake.ready_then, TP_READ);
	CHECK_INT(t->ready, 0);
	CHECK_INT(t->broken, EPIPE);
	CHECK(t->bare_end);
	CHECK_INT(t->in, 3 * calls);
	CHECK_INT(t->out, 5 * calls);
	CHECK_INT(t->rfd, 7);
	CHECK_INT(t->wfd, -1);
}

CASE(every_call_and_every_field_goes_through)
{
	struct env env = { 0 };
	struct transport *t = NULL;
	char byte = 0;
	int calls = 0;

	open_taps();
	fake = (struct fake){ .t = { .ops = &fake_ops, .rfd = 7, .wfd = 8, .ready = TP_WRITE } };
	fake.rc = -EPIPE;
	CHECK_INT(tap_wrap(&taps, &fake.t, "0", true, &t), 0);
	CHECK_INT(t->wfd, 8);
	CHECK_INT(t->ready, TP_WRITE);
	CHECK_STR(t->ops->name, "fake");
	t->ready = TP_READ;
	CHECK_INT(t->ops->handshake(t), -EPIPE);
	mirrored(t, ++calls);
	CHECK(!t->ended);
	t->ready = TP_READ;
	CHECK_INT(t->ops->write(t, &byte, 1), -EPIPE);
	mirrored(t, ++calls);
	t->ready = TP_READ;
	CHECK_INT(t->ops->flush(t), -EPIPE);
	mirrored(t, ++calls);
	t->ready = TP_READ;
	CHECK_INT(t->ops->finish(t), -EPIPE);
	mirrored(t, ++calls);
	t->ready = TP_READ;
	CHECK_INT(t->ops->unsent(t), -EPIPE);
	mirrored(t, ++calls);
	t->ready = TP_READ;
	ready = false;
	CHECK_INT(t->ops->read(t, &byte, 1), -EAGAIN);
	CHECK_INT(t->ready, TP_READ);
	CHECK_INT(t->ops->want(t, TP_READ), 0);
	CHECK_INT(t->ops->want(t, TP_READ | TP_WRITE), TP_WRITE);
	ready = true;
	CHECK_INT(t->ops->want(t, TP_READ), TP_WRITE);
	CHECK_INT(t->ops->read(t, &byte, 1), -EPIPE);
	mirrored(t, ++calls);
	CHECK(t->ended);
	CHECK_INT(t->ops->held(t, TP_WRITE), 10 + TP_WRITE);
	t->ops->facts(t, &env);
	CHECK_STR(env_get(&env, "CCF_ALPN"), "fake");
	env_free(&env);
	CHECK_STR(t->ops->reason(t), "why");
	taps_resume(&taps); /* nobody is attached */
	t->ops->close(t, true);
	CHECK(fake.closed && fake.cut);
	CHECK(TAILQ_EMPTY(&taps.all));
	reactor_free(loop);
}

/* ---- the joiner's hook ---- */

static struct joiner joiner;
static struct hub producer, consumer;
static int wraps, attached;
static bool refuses;

static int
wrap(void *arg, const char *conn, bool from_client, struct transport **tp)
{
	CHECK(arg == &taps);
	CHECK_STR(conn, "0#1");
	CHECK_INT(wraps++, from_client ? CLIENT : SERVER);
	return refuses && !from_client ? -ENOMEM : tap_wrap(&taps, *tp, conn, from_client, tp);
}

static void
attach(struct transport *t, struct relay *relay)
{
	attached++;
	tap_attach(t, relay);
}

static void
hub_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	joiner_conn(&joiner, l, n, fd);
}

static unsigned
hub_rooms(struct hub *h)
{
	(void)h;
	return 10;
}

static void
hub_nothing(struct hub *h)
{
	(void)h;
}

static void
hub_over(struct hub *h, int status)
{
	(void)h;
	(void)status;
}

static void
joiner_nothing(void *arg)
{
	(void)arg;
}

static int closed_status;

static void
conn_closed(struct link_conn *c, const char *reason, int status, uint64_t in, uint64_t to)
{
	(void)c;
	(void)reason;
	(void)in;
	(void)to;
	closed_status = status;
}

static void
conn_nothing(struct link_conn *c)
{
	(void)c;
}

static void
open_hub(struct hub *h, unsigned role, int fd)
{
	static const struct hub_ops ops = {
		.conn = hub_conn, .room = hub_rooms, .credit = hub_nothing, .over = hub_over
	};
	static char spec[2][16];
	struct hub_config cfg = { .reactor = loop,
		.tool = "test",
		.option = "--link",
		.spec = spec[role == NOTE_PRODUCER],
		.role = role,
		.modes = NOTE_TAKE,
		.peer_user = (uid_t)-1,
		.ops = &ops };
	char msg[256];

	snprintf(spec[role == NOTE_PRODUCER], sizeof(spec[0]), "fd:%d", fd);
	CHECK_INT(hub_open(h, &cfg, msg, sizeof(msg)), 0);
}

static void
joined_through(struct end *client, struct end *server)
{
	static const struct link_conn_ops ops = {
		.closed = conn_closed, .lost = conn_nothing, .flushed = conn_nothing
	};
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	struct dialler dialler = { 0 };
	struct joiner_config cfg = { .reactor = loop,
		.dialler = &dialler,
		.plan = { .connect_timeout = LONG, .user_timeout = -1 },
		.idle = -1,
		.half_close = -1,
		.flush = LONG,
		.wrap = wrap,
		.attach = attach,
		.idle_now = joiner_nothing,
		.arg = &taps };
	struct link_conn lc = { .ops = &ops };
	struct env env = { 0 };
	char text[64], msg[256];
	int link[2], fd[2], l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int64_t limit = clock_ms() + LONG;

	CHECK_INT(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	CHECK_INT(listen(l, 1), 0);
	CHECK_INT(getsockname(l, (struct sockaddr *)&a, &len), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(a.sin_port));
	CHECK_INT(addr_parse(&cfg.plan.target, text, 0, msg, sizeof(msg)), 0);
	dialler_open(&dialler, loop);
	joiner_open(&joiner, &cfg);
	CHECK_INT(handoff_pair(link), 0);
	open_hub(&producer, NOTE_PRODUCER, link[0]);
	open_hub(&consumer, NOTE_CONSUMER, link[1]);
	joiner.hub[joiner.n_hubs++] = &consumer;
	while (!hub_ready(&producer) && clock_ms() < limit)
		CHECK_INT(reactor_turn(loop, 10), 0);
	tcp_pair(fd);
	client->fd = fd[0];
	CHECK_INT(env_set(&env, "CCF_CONN_ID", "0#1"), 0);
	CHECK_INT(link_conn(hub_pick(&producer), &lc, &env, fd[1]), 0);
	env_free(&env);
	closed_status = -1;
	while (closed_status == -1 && clock_ms() < limit) {
		CHECK_INT(reactor_turn(loop, 1), 0);
		if (server->fd == -1)
			server->fd = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		talk(pairs, BULK);
	}
	hub_close(&producer);
	hub_close(&consumer);
	dialler_close(&dialler);
	close(l);
}

CASE(the_joiner_lets_it_stand_between)
{
	for (int round = 0; round < 2; round++) {
		log_open("tap", false);
		log_set_level(LOG_L_ERROR);
		open_taps();
		*p = (struct pair){ .end = { { .fd = -1, .last = 1 }, { .fd = -1, .last = 1 } } };
		frame(&p->end[CLIENT], 30);
		frame(&p->end[SERVER], 40);
		p->end[CLIENT].ends = p->end[SERVER].ends = true;
		wraps = attached = 0;
		refuses = round == 1;
		joined_through(&p->end[CLIENT], &p->end[SERVER]);
		CHECK_INT(closed_status, refuses ? CCF_SYSTEM : 0);
		CHECK_INT(wraps, 2);
		CHECK_INT(attached, refuses ? 0 : 2);
		CHECK_INT(heard_all(p), !refuses);
		CHECK_INT(p->frames[CLIENT] + p->frames[SERVER], refuses ? 0 : 2);
		CHECK(TAILQ_EMPTY(&taps.all));
		fds_close(&p->end[CLIENT].fd);
		fds_close(&p->end[SERVER].fd);
		reactor_free(loop);
	}
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return check_main((struct check_case[]){
	    RUN(unchanged_through_random_splits),
	    RUN(shown_while_it_passes),
	    RUN(held_without_spinning_and_woken_again),
	    RUN(an_end_waits_for_its_turn),
	    RUN(all_take_turns),
	    RUN(who_says_nothing_is_not_waited_for),
	    RUN(a_slow_reader_of_lines_holds_all_of_it),
	    RUN(ends_and_resets_are_as_without_it),
	    RUN(a_frame_that_is_cut_is_shown_once),
	    RUN(every_call_and_every_field_goes_through),
	    RUN(the_joiner_lets_it_stand_between),
	    { 0 },
	});
}
