/* Datagrams between an asker and a socket of the test's, which answers when it is told to: what is
 * sent, what is written, when it ends, and what is not taken while it cannot be passed on. */
#include "flow/asker.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/fds.h"
#include "check.h"
#include "net/datagram.h"
#include "udp_made.h"

enum { LONG = 30000, BLOCK = DATAGRAM_MAX, MANY = 3000 };

static struct reactor *loop;
static struct asker *asker;
static struct asker_config cfg;
static struct asker_end end;
static int ended, traced_in, traced_out;
static int64_t ended_at, last_in;
static int server, in_r, in_w, out_r, out_w; /* in_w, out_r: ours */
static char heard[1 << 20];
static size_t heard_len;

static void
over(void *arg, const struct asker_end *how)
{
	(void)arg;
	CHECK_INT(ended++, 0);
	ended_at = reactor_now(loop);
	end = *how;
}

static void
traced(void *arg, const char *what, size_t len)
{
	(void)arg;
	(void)len;
	traced_out += !strcmp(what, "out");
	if (!strcmp(what, "in")) {
		traced_in++;
		last_in = reactor_now(loop);
	}
}

static int
udp(struct sockaddr_any *at)
{
	struct sockaddr_any a = { .len = sizeof(a.in) };
	int fd;

	a.in = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	fd = datagram_bind(&a, false);
	at->len = sizeof(at->ss);
	CHECK_INT(getsockname(fd, &at->sa, &at->len), 0);
	(void)datagram_buffer(fd, DATAGRAM_IN, 4 << 20);
	return fd;
}

/* Everything but asker_new: cfg can be changed before that. */
static void
prepare(void)
{
	struct sockaddr_any at;
	int in[2], out[2];

	server = udp(&at);
	CHECK_INT(pipe2(in, O_CLOEXEC), 0);
	CHECK_INT(pipe2(out, O_CLOEXEC), 0);
	in_r = in[0];
	in_w = in[1];
	out_r = out[0];
	out_w = out[1];
	CHECK_INT(fcntl(out_r, F_SETFL, O_NONBLOCK), 0);
	CHECK_INT(reactor_new(&loop), 0);
	cfg = (struct asker_config){ .reactor = loop,
		.fd = udp_client(&at),
		.in = in_r,
		.out = out_w,
		.answers = -1,
		.timeout = LONG,
		.done = over,
		.trace = traced };
	ended = traced_in = traced_out = 0;
	heard_len = 0;
	end = (struct asker_end){ 0 };
}

static void
begin(void)
{
	CHECK_INT(asker_new(&asker, &cfg), 0);
}

static void
turns(int n)
{
	while (n-- > 0 && !ended)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

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
	CHECK(!(fcntl(in_r, F_GETFL) & O_NONBLOCK));
	CHECK(!(fcntl(out_w, F_GETFL) & O_NONBLOCK));
	asker_free(asker);
	asker = NULL;
	reactor_free(loop);
	fds_close(&server);
	fds_close(&in_r);
	fds_close(&in_w);
	fds_close(&out_r);
	fds_close(&out_w);
}

static void
say(const char *text)
{
	CHECK_INT(write(in_w, text, strlen(text)), strlen(text));
}

static void
say_all(const char *text)
{
	say(text);
	fds_close(&in_w);
}

/* One datagram of the asker's, or -1 if none is there; answered so many times with text, or with
 * itself. */
static ssize_t
serve(int times, const char *text)
{
	static char buf[65536];
	struct sockaddr_any from = { .len = sizeof(from.ss) };
	ssize_t n = recvfrom(server, buf, sizeof(buf), MSG_DONTWAIT, &from.sa, &from.len);

	if (n >= 0 && text)
		memcpy(buf, text, strlen(text));
	while (n >= 0 && times-- > 0) {
		size_t len = text ? strlen(text) : (size_t)n;

		CHECK_INT(sendto(server, buf, len, 0, &from.sa, from.len), len);
	}
	return n;
}

static int
served(int times, const char *text)
{
	int n = 0;

	while (serve(times, text) >= 0)
		n++;
	return n;
}

static void
hear(void)
{
	ssize_t n;

	while ((n = read(out_r, heard + heard_len, sizeof(heard) - 1 - heard_len)) > 0)
		heard_len += (size_t)n;
	heard[heard_len] = '\0';
}

static bool
wait_heard(size_t len)
{
	int64_t limit = clock_ms() + LONG;

	for (hear(); heard_len < len && clock_ms() < limit; hear())
		CHECK_INT(reactor_turn(loop, 10), 0);
	return heard_len >= len;
}

/* ---- what is sent ---- */

CASE(a_line_is_a_datagram_and_the_last_may_lack_its_newline)
{
	prepare();
	begin();
	say_all("one\n\nthree");
	turns(5);
	CHECK_INT(serve(1, NULL), 4);
	CHECK_INT(serve(1, NULL), 1);
	CHECK_INT(serve(1, NULL), 5);
	CHECK_INT(serve(0, NULL), -1);
	CHECK(runs_out());
	CHECK_STR(end.reason, "done");
	CHECK_INT(end.status, CCF_OK);
	CHECK_INT(end.sent, 3);
	CHECK_INT(end.sent_bytes, 10);
	CHECK_INT(end.answers, 3);
	CHECK_INT(end.answer_bytes, 10);
	CHECK_INT(traced_out, 3);
	CHECK_INT(traced_in, 3);
	hear();
	CHECK_STR(heard, "one\n\nthree");
	finish();
}

CASE(half_a_line_waits_for_the_other_half)
{
	prepare();
	begin();
	say("on");
	turns(5);
	CHECK_INT(serve(0, NULL), -1);
	say("e\ntw");
	turns(5);
	CHECK_INT(serve(1, NULL), 4);
	CHECK_INT(serve(0, NULL), -1);
	CHECK(wait_heard(4));
	CHECK_STR(heard, "one\n");
	CHECK_INT(ended, 0);
	finish();
}

CASE(blocks_are_cut_without_a_look_at_lines)
{
	prepare();
	cfg.block = 4;
	begin();
	say("a\nbcd");
	turns(5);
	CHECK_INT(serve(1, NULL), 4);
	CHECK_INT(serve(1, NULL), -1);
	say_all("e\nfgh");
	turns(5);
	CHECK_INT(serve(1, NULL), 4);
	CHECK_INT(serve(1, NULL), 2);
	CHECK(runs_out());
	hear();
	CHECK_STR(heard, "a\nbcde\nfgh");
	finish();
}

CASE(the_largest_line_is_sent_whole)
{
	static char line[BLOCK + 1];

	prepare();
	begin();
	memset(line, 'x', BLOCK);
	line[BLOCK - 1] = '\n';
	for (int i = 0; i < 8; i++) {
		CHECK_INT(write(in_w, line + i * 8192, i < 7 ? 8192 : BLOCK - 7 * 8192) > 0, 1);
		turns(5);
	}
	CHECK_INT(serve(0, NULL), BLOCK);
	memset(line, 'y', BLOCK);
	for (int i = 0; i < 8; i++) {
		CHECK_INT(write(in_w, line + i * 8192, i < 7 ? 8192 : BLOCK - 7 * 8192) > 0, 1);
		turns(5);
	}
	CHECK_INT(serve(0, NULL), -1);
	fds_close(&in_w);
	turns(5);
	CHECK_INT(serve(0, NULL), BLOCK);
	CHECK_INT(ended, 0);
	finish();
}

CASE(a_line_too_long_ends_the_input_and_what_came_before_is_answered)
{
	static char line[BLOCK + 2];
	char name[] = "/tmp/ccf-unit-asker.XXXXXX";

	prepare();
	fds_close(&in_r);
	in_r = cfg.in = mkstemp(name);
	unlink(name);
	memset(line, 'x', BLOCK + 1);
	line[BLOCK] = '\n';
	CHECK_INT(write(in_r, "one\ntwo\n", 8), 8);
	CHECK_INT(write(in_r, line, BLOCK + 1), BLOCK + 1);
	CHECK_INT(write(in_r, "never\n", 6), 6);
	CHECK_INT(lseek(in_r, 0, SEEK_SET), 0);
	begin();
	turns(5);
	CHECK_INT(ended, 0);
	CHECK_INT(served(1, NULL), 2);
	CHECK(runs_out());
	CHECK_STR(end.reason, "too-long");
	CHECK_INT(end.status, CCF_USAGE);
	CHECK_INT(end.line, 3);
	CHECK_INT(end.sent, 2);
	hear();
	CHECK_STR(heard, "one\ntwo\n");
	finish();
}

CASE(empty_input_sends_nothing_and_waits_for_nothing)
{
	prepare();
	cfg.answers = 3;
	fds_close(&in_w);
	begin();
	CHECK(runs_out());
	CHECK_INT(end.status, CCF_OK);
	CHECK_INT(end.sent, 0);
	finish();
}

CASE(many_lines_go_in_order)
{
	size_t len = 0;

	prepare();
	cfg.window = 100;
	begin();
	for (int i = 0; i < MANY; i++) {
		char line[32];
		int n = snprintf(line, sizeof(line), "line %d\n", i);

		CHECK_INT(write(in_w, line, (size_t)n), n);
		len += (size_t)n;
		if (i % 50 == 0)
			turns(1);
		(void)served(1, NULL);
		hear();
	}
	fds_close(&in_w);
	while (heard_len < len && !ended) {
		CHECK_INT(reactor_turn(loop, 10), 0);
		(void)served(1, NULL);
		hear();
	}
	CHECK(runs_out());
	CHECK_INT(end.answers, MANY);
	for (int i = 0; i < MANY; i++) {
		static const char *at;
		char line[32];

		at = i ? at : heard;
		snprintf(line, sizeof(line), "line %d\n", i);
		CHECK(!strncmp(at, line, strlen(line)));
		at += strlen(line);
	}
	finish();
}

/* ---- how long it waits ---- */

CASE(the_window_bounds_what_is_unanswered)
{
	prepare();
	cfg.window = 2;
	begin();
	say("1\n2\n3\n4\n5\n");
	turns(10);
	CHECK_INT(serve(1, NULL), 2);
	CHECK_INT(serve(0, NULL), 2);
	CHECK_INT(serve(0, NULL), -1);
	CHECK(wait_heard(2));
	turns(10);
	CHECK_INT(serve(3, NULL), 2); /* for one question: no credit */
	CHECK_INT(serve(0, NULL), -1);
	CHECK(wait_heard(8));
	turns(10);
	CHECK_INT(served(0, NULL), 2);
	CHECK_INT(ended, 0);
	finish();
}

CASE(at_the_limit_of_the_window_time_runs_and_what_is_left_is_counted)
{
	prepare();
	cfg.window = 2;
	cfg.timeout = 30;
	begin();
	say("1\n2\n3\n4\n5");
	CHECK(runs_out());
	CHECK_STR(end.reason, "timed-out");
	CHECK_INT(end.status, CCF_DEADLINE);
	CHECK_INT(end.sent, 2);
	CHECK_INT(end.unsent, 2);
	CHECK(end.more);
	finish();
}

CASE(an_open_input_is_no_reason_to_hurry)
{
	int64_t until = clock_ms() + 60;

	prepare();
	cfg.timeout = 10;
	begin();
	say("1\n");
	while (clock_ms() < until)
		CHECK_INT(reactor_turn(loop, 5), 0);
	CHECK_INT(ended, 0);
	fds_close(&in_w);
	CHECK(runs_out());
	CHECK_STR(end.reason, "timed-out");
	CHECK_INT(end.sent, 1);
	CHECK_INT(end.answers, 0);
	CHECK(!end.more);
	finish();
}

CASE(each_answer_begins_the_time_anew)
{
	prepare();
	cfg.timeout = 100;
	begin();
	say_all("1\n2\n3\n4\n");
	for (int i = 0; i < 3; i++) {
		int64_t until = clock_ms() + 50;

		while (clock_ms() < until && !ended)
			CHECK_INT(reactor_turn(loop, 10), 0);
		(void)serve(1, NULL);
	}
	CHECK(runs_out());
	CHECK_STR(end.reason, "timed-out");
	CHECK(end.answers > 0 && end.answers < 4);
	CHECK(ended_at - last_in >= cfg.timeout);
	finish();
}

CASE(none_are_waited_for_if_none_are_asked_for)
{
	prepare();
	cfg.answers = 0;
	begin();
	say_all("1\n2\n");
	CHECK(runs_out());
	CHECK_INT(end.status, CCF_OK);
	CHECK_INT(end.sent, 2);
	CHECK_INT(served(0, NULL), 2);
	finish();
}

CASE(so_many_are_waited_for_and_no_more_are_written)
{
	prepare();
	cfg.answers = 5;
	begin();
	say_all("1\n");
	turns(5);
	CHECK_INT(serve(4, "ab"), 2);
	CHECK(wait_heard(8));
	CHECK_INT(ended, 0);
	finish();

	prepare();
	cfg.answers = 5;
	begin();
	say_all("1\n2\n");
	turns(5);
	CHECK_INT(served(4, "ab"), 2);
	CHECK(runs_out());
	CHECK_INT(end.status, CCF_OK);
	CHECK_INT(end.answers, 5);
	hear();
	CHECK_STR(heard, "ababababab");
	finish();
}

CASE(an_empty_answer_counts)
{
	prepare();
	begin();
	say_all("1\n2\n");
	turns(5);
	CHECK_INT(serve(1, ""), 2);
	CHECK_INT(serve(1, "x"), 2);
	CHECK(runs_out());
	CHECK_INT(end.answers, 2);
	CHECK_INT(end.answer_bytes, 1);
	finish();
}

/* ---- what fails ---- */

CASE(a_refused_port_is_told_and_earlier_answers_are_written)
{
	prepare();
	begin();
	say("1\n");
	turns(5);
	CHECK_INT(serve(1, "early"), 2);
	fds_close(&server);
	say("2\n");
	CHECK(runs_out());
	CHECK_STR(end.reason, "refused");
	CHECK_INT(end.status, CCF_CONNECT);
	CHECK_INT(end.error, ECONNREFUSED);
	CHECK_INT(end.answers, 1);
	hear();
	CHECK_STR(heard, "early");
	finish();
}

CASE(who_is_refused_soon_stops_sending)
{
	static char lines[8192];

	prepare();
	fds_close(&server);
	memset(lines, '\n', sizeof(lines));
	CHECK_INT(write(in_w, lines, sizeof(lines)), sizeof(lines));
	begin();
	CHECK(runs_out());
	CHECK_STR(end.reason, "refused");
	CHECK(end.sent < sizeof(lines) / 2);
	finish();
}

CASE(a_refusal_that_is_known_is_told_to_who_waits_for_none)
{
	prepare();
	fds_close(&server);
	cfg.answers = 0;
	begin();
	say_all("1\n");
	CHECK(runs_out());
	CHECK_INT(end.status, CCF_CONNECT);
	finish();
}

CASE(while_output_takes_no_more_answers_stay_where_they_are)
{
	static char text[101];
	int n = 0;

	prepare();
	cfg.timeout = 20;
	cfg.answers = 200;
	CHECK_INT(fcntl(out_w, F_SETPIPE_SZ, 4096), 4096);
	memset(text, 'x', sizeof(text) - 1);
	begin();
	say_all("1\n");
	turns(5);
	CHECK_INT(serve(200, text), 2);
	for (int64_t until = clock_ms() + 100; clock_ms() < until; n++)
		CHECK_INT(reactor_turn(loop, 5), 0);
	CHECK(n < 200);
	/* A pipe, a batch that stands before it, and no deadline meanwhile. */
	CHECK_INT(ended, 0);
	CHECK(traced_in <= 4096 / 100 + 2 * DATAGRAM_BATCH);
	CHECK_INT(recv(cfg.fd, heard, 1, MSG_PEEK | MSG_DONTWAIT), 1);
	CHECK(wait_heard(200 * 100));
	CHECK(runs_out());
	CHECK_INT(end.status, CCF_OK);
	CHECK_INT(end.answer_bytes, 200 * 100);
	finish();
}

CASE(output_that_went_away)
{
	prepare();
	fds_close(&out_r);
	begin();
	say("1\n");
	turns(5);
	CHECK_INT(serve(1, NULL), 2);
	CHECK(runs_out());
	CHECK_STR(end.reason, "stdout-gone");
	CHECK_INT(end.status, CCF_STDOUT);
	CHECK_INT(end.error, EPIPE);
	finish();
}

CASE(input_that_cannot_be_read)
{
	prepare();
	fds_close(&in_r);
	in_r = cfg.in = open("/", O_RDONLY | O_CLOEXEC);
	begin();
	CHECK(runs_out());
	CHECK_STR(end.reason, "stdin-failed");
	CHECK_INT(end.status, CCF_SYSTEM);
	CHECK_INT(end.error, EISDIR);
	finish();
}

CASE(it_can_be_freed_before_it_began_and_in_the_middle)
{
	prepare();
	begin();
	finish();

	prepare();
	begin();
	say("1\n2\n");
	turns(3);
	(void)serve(1, NULL);
	finish();
	asker_free(NULL);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return check_main((struct check_case[]){
	    RUN(a_line_is_a_datagram_and_the_last_may_lack_its_newline),
	    RUN(half_a_line_waits_for_the_other_half),
	    RUN(blocks_are_cut_without_a_look_at_lines),
	    RUN(the_largest_line_is_sent_whole),
	    RUN(a_line_too_long_ends_the_input_and_what_came_before_is_answered),
	    RUN(empty_input_sends_nothing_and_waits_for_nothing),
	    RUN(many_lines_go_in_order),
	    RUN(the_window_bounds_what_is_unanswered),
	    RUN(at_the_limit_of_the_window_time_runs_and_what_is_left_is_counted),
	    RUN(an_open_input_is_no_reason_to_hurry),
	    RUN(each_answer_begins_the_time_anew),
	    RUN(none_are_waited_for_if_none_are_asked_for),
	    RUN(so_many_are_waited_for_and_no_more_are_written),
	    RUN(an_empty_answer_counts),
	    RUN(a_refused_port_is_told_and_earlier_answers_are_written),
	    RUN(who_is_refused_soon_stops_sending),
	    RUN(a_refusal_that_is_known_is_told_to_who_waits_for_none),
	    RUN(while_output_takes_no_more_answers_stay_where_they_are),
	    RUN(output_that_went_away),
	    RUN(input_that_cannot_be_read),
	    RUN(it_can_be_freed_before_it_began_and_in_the_middle),
	    { 0 },
	});
}
