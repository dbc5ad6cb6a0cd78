/* A session behind a relay: what it does not take waits without costing anything, its deadlines
 * come, and how it ends is how the client sees it. */
#include "flow/conn.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "check.h"
#include "flow/budget.h"
#include "flow/relay.h"
#include "loop/reactor.h"
#include "net/stream.h"
#include "session/session.h"
#include "session/writer.h"

#define LONG 30000

/* ---- a session that is told what to do ---- */

struct session {
	struct writer *writer;
	size_t takes, took, held;
	unsigned asked, drained, ended, late, closed;
	int64_t deadline;
	int fails;
	void (*on_data)(struct session *), (*on_late)(struct session *);
};

static struct session it;

static int
it_open(struct session **ret, struct writer *writer, const struct env *env, void *arg)
{
	(void)env;
	CHECK(arg == &it);
	it.writer = writer;
	*ret = &it;
	return it.fails;
}

static ssize_t
it_data(struct session *s, const char *bytes, size_t len)
{
	size_t n = len < s->takes ? len : s->takes;

	(void)bytes;
	s->asked++;
	s->takes -= n;
	s->took += n;
	if (s->on_data)
		s->on_data(s);
	return s->fails ? s->fails : (ssize_t)n;
}

static void
it_drained(struct session *s)
{
	s->drained++;
}

static void
it_end(struct session *s)
{
	s->ended++;
	writer_close(s->writer);
}

static int64_t
it_deadline(const struct session *s)
{
	return s->deadline;
}

static void
it_late(struct session *s)
{
	s->late++;
	s->deadline = CLOCK_NEVER;
	if (s->on_late)
		s->on_late(s);
}

static size_t
it_held(const struct session *s)
{
	return s->held;
}

static void
it_close(struct session *s)
{
	s->closed++;
}

static const struct session_ops it_ops = {
	.name = "it",
	.open = it_open,
	.data = it_data,
	.drained = it_drained,
	.end = it_end,
	.deadline = it_deadline,
	.late = it_late,
	.held = it_held,
	.close = it_close,
};

/* ---- a client, a relay ---- */

static struct reactor *loop;
static struct relay *relay;
static struct relay_end end;
static struct transport *tp;
static struct conn_said said;
static struct relay_config cfg;
static int client, ended;
static char bytes[300000], heard[1000000];

static void
over(void *arg, const struct relay_end *how)
{
	(void)arg;
	ended++;
	end = *how;
}

static void
open_conn(int64_t first)
{
	struct conn_config c = { .ops = &it_ops,
		.arg = &it,
		.said = &said,
		.first = first == CLOCK_NEVER ? first : clock_ms() + first };

	it = (struct session){ .takes = SIZE_MAX, .deadline = CLOCK_NEVER };
	said = (struct conn_said){ "untouched", -1 };
	CHECK_INT(reactor_new(&loop), 0);
	c.reactor = loop;
	CHECK_INT(conn_session(&tp, &c), 0);
}

/* cfg but for its two sides has been said. */
static void
begin_as(int64_t first)
{
	int fd[2];

	open_conn(first);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	client = fd[0];
	cfg.b = tp;
	CHECK_INT(stream_new(fd[1], fd[1], true, &cfg.a), 0);
	ended = 0;
	CHECK_INT(relay_start(&relay, loop, &cfg), 0);
	conn_attach(tp, relay);
}

static void
begin(int64_t first)
{
	cfg = (struct relay_config){ .indifferent = true,
		.idle = LONG,
		.half_close = LONG,
		.flush = LONG,
		.b_has_deadlines = true,
		.done = over };
	begin_as(first);
}

static void
turns(int n)
{
	while (n-- > 0 && !ended)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

static bool
comes_true(bool (*what)(void))
{
	int64_t limit = clock_ms() + LONG;

	while (!what() && clock_ms() < limit)
		CHECK_INT(reactor_turn(loop, 100), 0);
	return what();
}

static bool
is_over(void)
{
	return ended > 0;
}

static bool
is_late(void)
{
	return it.late > 0;
}

static void
finish(void)
{
	if (!ended)
		relay_cut(relay, "test", CCF_SYSTEM);
	CHECK_INT(ended, 1);
	CHECK(it.closed <= 1);
	reactor_turn(loop, 0);
	reactor_free(loop);
	close(client);
}

/* Nothing is left to do: the loop waits for as long as it may. */
static bool
rests(void)
{
	unsigned asked;
	int64_t since;

	turns(5);
	asked = it.asked;
	since = clock_us();
	CHECK_INT(reactor_turn(loop, 20), 0);
	return clock_us() - since >= 19000 && it.asked == asked;
}

static ssize_t
hears(void)
{
	size_t n = 0;
	ssize_t got = -1;

	for (int i = 0; i < 20; i++) {
		CHECK_INT(reactor_turn(loop, 0), 0);
		while (
		    n < sizeof(heard) && (got = recv(client, heard + n, sizeof(heard) - n, 0)) > 0)
			n += (size_t)got;
	}
	return (ssize_t)n;
}

/* ---- as a transport ---- */

CASE(what_is_taken_is_what_was_written_and_none_is_not_now)
{
	open_conn(CLOCK_NEVER);
	it.takes = 7;
	CHECK_INT(tp->ops->write(tp, bytes, 10), 7);
	CHECK_INT(tp->ops->write(tp, bytes, 3), -EAGAIN);
	CHECK_INT(tp->out, 7);
	it.takes = 5;
	CHECK_INT(tp->ops->write(tp, bytes, 3), 3);
	CHECK_INT(tp->out, 10);
	CHECK_INT(it.asked, 3);
	CHECK_INT(writer_put(it.writer, bytes, WRITER_HIGH), 0);
	CHECK_INT(tp->ops->write(tp, bytes, 3), -EAGAIN);
	CHECK_INT(it.asked, 3);
	it.held = 100;
	CHECK_INT(tp->ops->held(tp, TP_WRITE), 100);
	CHECK(tp->ops->held(tp, TP_READ) >= WRITER_HIGH);
	writer_close(it.writer);
	CHECK_INT(tp->ops->write(tp, bytes, 3), -EPIPE);
	tp->ops->close(tp, false);
	CHECK_INT(it.closed, 1);
	CHECK(!said.reason);
	CHECK_INT(said.status, 0);
	reactor_free(loop);
}

CASE(one_that_broke_says_what_it_had_and_then_fails)
{
	open_conn(CLOCK_NEVER);
	CHECK_INT(tp->ops->write(tp, bytes, 10), 10);
	CHECK_INT(writer_put(it.writer, "last words", 10), 0);
	writer_say_why(it.writer, "parsing", CCF_PROTOCOL);
	writer_break(it.writer, ECONNRESET);
	CHECK_INT(tp->ops->write(tp, bytes, 3), -EPIPE);
	CHECK_INT(tp->ops->read(tp, heard, 4), 4);
	CHECK_INT(tp->ops->read(tp, heard, 100), 6);
	CHECK_INT(tp->ops->read(tp, heard, 100), -ECONNRESET);
	CHECK(!tp->ended);
	CHECK_INT(tp->broken, ECONNRESET);
	tp->ops->close(tp, true);
	CHECK_STR(said.reason, "parsing");
	CHECK_INT(said.status, CCF_PROTOCOL);
	reactor_free(loop);
}

/* ---- one that does not take what is there ---- */

CASE(one_that_takes_nothing_for_a_while_costs_no_turns)
{
	begin(CLOCK_NEVER);
	it.takes = 3;
	CHECK_INT(write(client, "0123456789", 10), 10);
	CHECK(rests());
	CHECK_INT(it.took, 3);
	CHECK_INT(it.asked, 2);
	it.takes = 5;
	writer_wake(it.writer);
	CHECK(rests());
	CHECK_INT(it.took, 8);
	it.takes = SIZE_MAX;
	writer_wake(it.writer);
	turns(5);
	CHECK_INT(it.took, 10);
	CHECK_INT(write(client, "more", 4), 4);
	turns(5);
	CHECK_INT(it.took, 14);
	finish();
}

CASE(nor_does_one_that_is_full_and_nobody_reads)
{
	begin(CLOCK_NEVER);
	CHECK_INT(write(client, "x", 1), 1);
	turns(3);
	CHECK_INT(writer_put(it.writer, bytes, sizeof(bytes)), 0);
	CHECK_INT(writer_put(it.writer, bytes, sizeof(bytes)), 0);
	CHECK_INT(write(client, "01234", 5), 5);
	CHECK(rests());
	CHECK_INT(it.took, 1);
	CHECK_INT(hears(), 2 * sizeof(bytes));
	CHECK_INT(it.took, 6);
	CHECK(it.drained > 0);
	finish();
}

static void
fill(struct session *s)
{
	if (s->took == 1)
		CHECK_INT(writer_put(s->writer, bytes, WRITER_HIGH), 0);
}

CASE(one_that_was_full_gets_what_waited_when_there_is_room)
{
	begin(CLOCK_NEVER);
	it.on_data = fill;
	it.takes = 1;
	CHECK_INT(write(client, "0123456789", 10), 10);
	turns(1);
	it.takes = SIZE_MAX;
	CHECK_INT(hears(), WRITER_HIGH);
	CHECK_INT(it.took, 10);
	finish();
}

static void
close_at_once(struct session *s)
{
	CHECK_INT(writer_put(s->writer, "bye", 3), 0);
	writer_close(s->writer);
}

CASE(what_a_session_that_closed_did_not_take_is_dropped_and_what_comes_then_too)
{
	begin(CLOCK_NEVER);
	it.takes = 3;
	it.on_data = close_at_once;
	CHECK_INT(write(client, bytes, 1000), 1000);
	CHECK_INT(hears(), 3);
	CHECK_INT(recv(client, heard, 1, 0), 0);
	CHECK_INT(ended, 0);
	CHECK_INT(send(client, bytes, 1000, MSG_NOSIGNAL), 1000);
	turns(5);
	CHECK_INT(shutdown(client, SHUT_WR), 0);
	CHECK(comes_true(is_over));
	CHECK_INT(end.status, 0);
	CHECK_INT(end.in, 2000);
	finish();
}

/* ---- deadlines ---- */

CASE(a_deadline_comes_and_one_that_moves_away_does_not)
{
	int64_t since = clock_ms();

	begin(CLOCK_NEVER);
	it.deadline = since + 30;
	CHECK_INT(write(client, "x", 1), 1);
	turns(3);
	it.deadline = since + 60; /* nobody is told: the timer finds out */
	CHECK(comes_true(is_late));
	CHECK(clock_ms() >= since + 60);
	CHECK_INT(it.late, 1);
	CHECK(rests());
	finish();
}

CASE(a_deadline_that_the_session_moves_by_itself_is_heard_of)
{
	begin(CLOCK_NEVER);
	CHECK_INT(write(client, "x", 1), 1);
	turns(3);
	it.deadline = clock_ms() + LONG;
	writer_wake(it.writer);
	it.deadline = clock_ms() + 20;
	writer_wake(it.writer);
	CHECK(comes_true(is_late));
	finish();
}

static void
say_late(struct session *s)
{
	CHECK_INT(writer_put(s->writer, "too late", 8), 0);
	writer_say_why(s->writer, "request-timeout", CCF_DEADLINE);
	writer_close(s->writer);
}

CASE(what_is_said_when_it_is_late_is_delivered)
{
	begin(CLOCK_NEVER);
	it.on_late = say_late;
	it.deadline = clock_ms() + 5;
	CHECK_INT(write(client, "x", 1), 1);
	CHECK(comes_true(is_late));
	CHECK_INT(hears(), 8);
	CHECK_INT(recv(client, heard, 1, 0), 0);
	shutdown(client, SHUT_WR);
	CHECK(comes_true(is_over));
	CHECK_STR(end.reason, "done");
	CHECK_STR(said.reason, "request-timeout");
	CHECK_INT(said.status, CCF_DEADLINE);
	finish();
}

CASE(a_client_that_says_nothing_is_closed_without_a_word_and_costs_no_session)
{
	begin(20);
	while (recv(client, heard, 1, 0) != 0)
		CHECK_INT(reactor_turn(loop, 50), 0);
	shutdown(client, SHUT_WR);
	CHECK(comes_true(is_over));
	CHECK(!it.writer);
	CHECK_STR(said.reason, "request-timeout");
	CHECK_INT(said.status, CCF_DEADLINE);
	finish();

	begin(20); /* and one that does is not */
	CHECK_INT(write(client, "x", 1), 1);
	turns(3);
	it.deadline = clock_ms() + 100;
	writer_wake(it.writer);
	CHECK(comes_true(is_late));
	CHECK_INT(ended, 0);
	finish();
}

/* ---- ends ---- */

CASE(one_that_broke_resets_its_client_after_its_last_words)
{
	begin(CLOCK_NEVER);
	CHECK_INT(write(client, "x", 1), 1);
	turns(3);
	CHECK_INT(writer_put(it.writer, "half of", 7), 0);
	writer_break(it.writer, ECONNRESET);
	CHECK(comes_true(is_over));
	CHECK_STR(end.reason, "reset");
	CHECK_INT(end.status, CCF_CUT);
	CHECK_STR(end.by, "inner");
	CHECK_INT(end.out, 7);
	finish();
}

CASE(one_that_fails_resets_its_client_at_once)
{
	begin(CLOCK_NEVER);
	it.fails = -ENOMEM;
	CHECK_INT(write(client, "x", 1), 1);
	CHECK(comes_true(is_over));
	CHECK_STR(end.reason, "no-memory");
	CHECK_INT(end.status, CCF_CUT);
	finish();
}

/* ---- who watches whom ---- */

CASE(silence_is_the_sessions_to_judge_but_not_that_nothing_is_taken)
{
	for (int full = 0; full < 2; full++) {
		struct relay_view view;
		int64_t since;

		cfg.idle = cfg.half_close = 30;
		begin_as(CLOCK_NEVER);
		CHECK_INT(write(client, "x", 1), 1);
		turns(3);
		if (full) {
			CHECK_INT(writer_put(it.writer, bytes, sizeof(bytes)), 0);
			CHECK_INT(writer_put(it.writer, bytes, sizeof(bytes)), 0);
			CHECK(comes_true(is_over));
			CHECK_STR(end.reason, "idle");
			CHECK_INT(end.status, CCF_DEADLINE);
		} else {
			it.deadline = clock_ms() + 90; /* three times as long as it may be idle */
			writer_wake(it.writer);
			since = reactor_now(loop);
			CHECK(comes_true(is_late));
			CHECK_INT(ended, 0);
			relay_look(relay, &view);
			CHECK_INT(view.in, 1);
			CHECK_INT(view.out, 0);
			CHECK_INT(view.held, 0);
			CHECK(view.moved_at <= since);
		}
		finish();
	}
}

/* ---- the budget ---- */

static struct budget budget;
static struct charge charge;

static void
charge_wake(struct charge *c)
{
	(void)c;
	relay_kick(relay);
}

static const struct charge_ops charge_ops = { .wake = charge_wake };

static void
hold(struct session *s)
{
	s->held = s->took;
}

/* What it holds of a request goes when the rest of that comes: so it does come, however small the
 * share. */
CASE(a_session_that_holds_more_than_its_share_still_comes_to_the_end_of_it)
{
	size_t sent = 0;
	ssize_t n;

	cfg.charge = &charge;
	cfg.idle = cfg.half_close = LONG;
	charge = (struct charge){ 0 };
	begin_as(CLOCK_NEVER);
	budget_open(&budget, loop, BUDGET_LEAST, -1);
	budget_join(&budget, &charge, &charge_ops);
	it.on_data = hold;
	for (int i = 0; i < 200 && it.took < 60000; i++) {
		if (sent < 60000 && (n = send(client, bytes, 60000 - sent, 0)) > 0)
			sent += (size_t)n;
		CHECK_INT(reactor_turn(loop, 0), 0);
	}
	CHECK_INT(it.took, 60000);
	CHECK_INT(budget.held, 60000);
	CHECK(rests());
	relay_cut(relay, "test", 0);
	budget_leave(&charge);
	budget_close(&budget);
	finish();
}

int
main(void)
{
	log_open("conn", false);
	log_set_level(LOG_L_ERROR);
	return check_main((struct check_case[]){
	    RUN(what_is_taken_is_what_was_written_and_none_is_not_now),
	    RUN(one_that_broke_says_what_it_had_and_then_fails),
	    RUN(one_that_takes_nothing_for_a_while_costs_no_turns),
	    RUN(nor_does_one_that_is_full_and_nobody_reads),
	    RUN(one_that_was_full_gets_what_waited_when_there_is_room),
	    RUN(what_a_session_that_closed_did_not_take_is_dropped_and_what_comes_then_too),
	    RUN(a_deadline_comes_and_one_that_moves_away_does_not),
	    RUN(a_deadline_that_the_session_moves_by_itself_is_heard_of),
	    RUN(what_is_said_when_it_is_late_is_delivered),
	    RUN(a_client_that_says_nothing_is_closed_without_a_word_and_costs_no_session),
	    RUN(one_that_broke_resets_its_client_after_its_last_words),
	    RUN(one_that_fails_resets_its_client_at_once),
	    RUN(silence_is_the_sessions_to_judge_but_not_that_nothing_is_taken),
	    RUN(a_session_that_holds_more_than_its_share_still_comes_to_the_end_of_it),
	    { 0 },
	});
}
