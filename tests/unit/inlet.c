/* (who runs this makes no difference) */
/* Lines from pipes, files, terminals and sockets: however they are split, each comes whole, once,
 * in order, and only when it is wanted. */
#include "flow/inlet.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "check.h"

enum { LONG = 30000, LONGEST = 1 << 20, HEARD = 8 << 20, TURN = 256 };

static struct reactor *loop;
static struct inlet in;
static int ended, error, r, w;
static unsigned lines, too_long;
static unsigned hold_every;		     /* 0: each line is taken at once */
static bool held, scribbles, resumes, stops; /* resumes: within the line that it does not take */
static char heard[HEARD], bytes[HEARD];
static size_t heard_len, len_of[4096];

static bool
on_line(void *arg, char *line, size_t len)
{
	CHECK(arg == heard);
	CHECK(!ended);
	if (hold_every && !held && lines % hold_every == 0) {
		held = true;
		if (line && scribbles)
			memset(line, '!', len + 1);
		if (resumes)
			inlet_resume(&in);
		return false;
	}
	held = false;
	len_of[lines++ % 4096] = len;
	if (!line)
		too_long++;
	else if (heard_len + len < HEARD) {
		memcpy(heard + heard_len, line, len);
		heard_len += len;
		heard[heard_len++] = '\n';
		line[len] = '\0';
	}
	if (stops)
		inlet_stop(&in);
	return true;
}

static void
on_end(void *arg, int how)
{
	(void)arg;
	CHECK_INT(ended++, 0);
	error = how;
	inlet_resume(&in);
}

static void
begin(int fd, size_t longest)
{
	CHECK_INT(reactor_new(&loop), 0);
	ended = error = 0;
	lines = too_long = 0;
	hold_every = 0;
	held = scribbles = resumes = stops = false;
	heard_len = 0;
	in = (struct inlet){ .longest = longest, .line = on_line, .end = on_end, .arg = heard };
	CHECK_INT(inlet_open(&in, loop, fd), 0);
}

static void
begin_pipe(size_t longest)
{
	int fd[2];

	CHECK_INT(pipe2(fd, O_CLOEXEC), 0);
	r = fd[0];
	w = fd[1];
	begin(r, longest);
}

static void
finish(void)
{
	inlet_stop(&in);
	inlet_close(&in);
	inlet_close(&in);
	inlet_stop(&in);
	inlet_resume(&in);
	reactor_free(loop);
	if (r > 0)
		CHECK(!(fcntl(r, F_GETFL) & O_NONBLOCK));
	fds_close(&r);
	fds_close(&w);
}

static void
turns(int n)
{
	while (n-- > 0)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

static void
say(const char *text)
{
	CHECK_INT(write(w, text, strlen(text)), strlen(text));
}

static bool
runs_out(void)
{
	int64_t limit = clock_ms() + LONG;

	while (!ended && clock_ms() < limit) {
		CHECK_INT(reactor_turn(loop, 100), 0);
		if (held && !resumes)
			inlet_resume(&in);
	}
	return ended == 1;
}

static void
heard_is(const char *text)
{
	heard[heard_len] = '\0';
	CHECK_STR(heard, text);
}

CASE(lines_as_they_come)
{
	begin_pipe(100);
	turns(1);
	say("one\n\ntwo");
	turns(2);
	heard_is("one\n\n");
	turns(3);
	say("");
	say(" halves\nthree");
	turns(2);
	heard_is("one\n\ntwo halves\n");
	fds_close(&w);
	CHECK(runs_out());
	heard_is("one\n\ntwo halves\nthree\n");
	CHECK_INT(error, 0);
	finish();
}

CASE(a_nul_is_a_byte_of_a_line)
{
	begin_pipe(100);
	CHECK_INT(write(w, "a\0b\n\0\n", 6), 6);
	fds_close(&w);
	CHECK(runs_out());
	CHECK_INT(lines, 2);
	CHECK_INT(heard_len, 6);
	CHECK(memcmp(heard, "a\0b\n\0\n", 6) == 0);
	finish();
}

CASE(nothing_at_all)
{
	begin(open("/dev/null", O_RDONLY | O_CLOEXEC), 100);
	CHECK(runs_out());
	CHECK_INT(lines, 0);
	CHECK_INT(error, 0);
	turns(3);
	close(in.watch.fd);
	finish();
	begin(-1, 100);
	CHECK(runs_out());
	CHECK_INT(error, -EBADF);
	finish();
}

CASE(a_line_not_taken_comes_again_as_it_was)
{
	begin_pipe(100);
	hold_every = 1;
	scribbles = true;
	say("first\nsecond\nlast");
	turns(5);
	CHECK(held);
	CHECK_INT(lines, 0);
	CHECK_INT(in.watch.want, 0);
	fds_close(&w);
	turns(5);
	CHECK_INT(lines, 0);
	CHECK(runs_out());
	heard_is("first\nsecond\nlast\n");
	finish();
}

CASE(resumed_from_within_the_line)
{
	begin_pipe(100);
	hold_every = 1;
	resumes = scribbles = true;
	say("first\nsecond\nlast");
	fds_close(&w);
	CHECK(runs_out());
	heard_is("first\nsecond\nlast\n");
	finish();
}

/* Lines of all sizes, written in pieces of all sizes. */
static size_t
make(size_t total, size_t longest)
{
	size_t len = 0;

	while (len < total) {
		size_t n = (size_t)random() % (random() % 50 ? 60 : longest + 1);

		for (size_t i = 0; i < n && len < total - 1; i++)
			bytes[len++] = (char)(' ' + random() % 90);
		bytes[len++] = '\n';
	}
	return len;
}

static void
written_in_pieces(size_t total)
{
	int64_t limit = clock_ms() + LONG;
	size_t at = 0;

	CHECK_INT(fcntl(w, F_SETFL, O_NONBLOCK), 0);
	while (at < total && clock_ms() < limit) {
		size_t n = 1 + (size_t)random() % 30000;
		ssize_t put = write(w, bytes + at, n < total - at ? n : total - at);

		at += put > 0 ? (size_t)put : 0;
		turns((int)(random() % 3));
		if (held && !resumes && random() % 2)
			inlet_resume(&in);
	}
	fds_close(&w);
}

CASE(random_pieces)
{
	for (int round = 0; round < 12; round++) {
		size_t longest = round % 2 ? 300000 : 5000, total;

		srandom((unsigned)round);
		begin_pipe(longest);
		hold_every = (unsigned)round / 2;
		scribbles = true;
		resumes = round % 3 == 2;
		total = make(3 << 20, longest);
		written_in_pieces(total);
		CHECK(runs_out());
		CHECK_INT(too_long, 0);
		CHECK_INT(heard_len, total);
		CHECK(memcmp(heard, bytes, total) == 0);
		finish();
	}
}

static void
fill(char *at, size_t n, char c)
{
	memset(at, c, n);
	at[n] = '\n';
}

CASE(the_longest_and_one_more)
{
	size_t total = 0;

	for (int round = 0; round < 3; round++) {
		size_t longest = round == 0 ? 10 : round == 1 ? 65536 : LONGEST;

		total = 0;
		fill(bytes, longest, 'a');
		total += longest + 1;
		fill(bytes + total, longest + 1, 'b');
		total += longest + 2;
		fill(bytes + total, longest * 3, 'c');
		total += longest * 3 + 1;
		fill(bytes + total, 5, 'd');
		total += 6;
		fill(bytes + total, longest, 'e');
		total += longest; /* without its newline */
		begin_pipe(longest);
		hold_every = 1;
		srandom(3);
		written_in_pieces(total);
		CHECK(runs_out());
		CHECK_INT(lines, 5);
		CHECK_INT(too_long, 2);
		CHECK_INT(len_of[0], longest);
		CHECK_INT(len_of[1] + len_of[2], 0);
		CHECK_INT(len_of[3], 5);
		CHECK_INT(len_of[4], longest);
		CHECK(heard[0] == 'a' && heard[longest + 1] == 'd' && heard[longest + 7] == 'e');
		finish();
	}
}

CASE(too_long_is_told_before_its_end)
{
	begin_pipe(10);
	say("12345678901");
	turns(2);
	CHECK_INT(too_long, 1);
	for (int i = 0; i < 50; i++) {
		say("more of the same");
		turns(2);
	}
	CHECK_INT(too_long, 1);
	say("\nshort\n");
	turns(2);
	heard_is("short\n");
	say("12345678901");
	fds_close(&w);
	CHECK(runs_out());
	CHECK_INT(too_long, 2);
	CHECK_INT(lines, 3);
	finish();
}

CASE(a_file_takes_its_turn)
{
	char name[] = "/tmp/inlet.XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);
	unsigned most = 0, all = 200000, was;
	int64_t limit = clock_ms() + LONG;

	unlink(name);
	for (unsigned i = 0; i < all / 1000; i++) {
		for (unsigned j = 0; j < 1000; j++)
			snprintf(bytes + 10 * j, 11, "%09u\n", i * 1000 + j);
		CHECK_INT(write(fd, bytes, 10000), 10000);
	}
	CHECK_INT(lseek(fd, 0, SEEK_SET), 0);
	begin(fd, 100);
	while (!ended && clock_ms() < limit) {
		was = lines;
		CHECK_INT(reactor_turn(loop, 1000), 0);
		most = lines - was > most ? lines - was : most;
	}
	CHECK_INT(lines, all);
	CHECK(most <= TURN);
	CHECK_INT(heard_len, all * 10);
	CHECK(memcmp(heard + 10 * 123456, "000123456\n", 10) == 0);
	finish();
	close(fd);
}

CASE(a_pipe_takes_its_turn)
{
	unsigned was;

	begin_pipe(100);
	for (int i = 0; i < 10000; i++)
		say("abc\n");
	for (int i = 0; i < 20; i++) {
		was = lines;
		turns(1);
		CHECK(lines - was <= TURN);
	}
	while (lines < 10000 && lines > was) {
		was = lines;
		turns(1);
	}
	CHECK_INT(lines, 10000);
	finish();
}

CASE(memory_goes_back_when_idle)
{
	begin_pipe(LONGEST);
	CHECK_INT(fcntl(w, F_SETFL, O_NONBLOCK), 0);
	fill(bytes, LONGEST, 'a');
	for (size_t at = 0; at < LONGEST + 1;) {
		ssize_t n = write(w, bytes + at, LONGEST + 1 - at);

		at += n > 0 ? (size_t)n : 0;
		turns(1);
	}
	turns(3);
	CHECK_INT(lines, 1);
	CHECK(in.cap <= 65536);
	CHECK(!in.copy);
	say("next, in pa");
	turns(2);
	CHECK(in.cap <= 65536);
	say("rts\n");
	turns(2);
	CHECK_INT(lines, 2);
	CHECK_INT(len_of[1], 14);
	finish();
}

CASE(stopped_from_within)
{
	begin_pipe(100);
	stops = true;
	say("one\ntwo\n");
	fds_close(&w);
	turns(5);
	inlet_resume(&in);
	turns(5);
	CHECK_INT(lines, 1);
	CHECK_INT(ended, 0);
	finish();
	in = (struct inlet){ 0 };
	inlet_stop(&in);
	inlet_close(&in);
	begin_pipe(100);
	say("never read\n");
	inlet_stop(&in);
	turns(3);
	CHECK_INT(lines + (unsigned)ended, 0);
	finish();
}

CASE(a_terminal)
{
	int ours;

	CHECK_INT(openpty(&ours, &r, NULL, NULL, NULL), 0);
	begin(r, 100);
	turns(2);
	CHECK_INT(write(ours, "typed\nhalf", 10), 10);
	while (lines == 0)
		CHECK_INT(reactor_turn(loop, LONG), 0);
	heard_is("typed\n");
	CHECK_INT(write(ours, "\004", 1), 1); /* what was typed so far goes */
	while (in.len == in.at)
		CHECK_INT(reactor_turn(loop, LONG), 0);
	turns(2);
	CHECK_INT(ended, 0);
	CHECK_INT(write(ours, "\n\004", 2), 2);
	CHECK(runs_out());
	heard_is("typed\nhalf\n");
	CHECK_INT(error, 0);
	finish();
	close(ours);
}

CASE(a_socket_that_is_reset)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger reset = { .l_onoff = 1 };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK_INT(bind(l, (struct sockaddr *)&a, sizeof(a)), 0);
	CHECK_INT(listen(l, 1), 0);
	CHECK_INT(getsockname(l, (struct sockaddr *)&a, &len), 0);
	w = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(connect(w, (struct sockaddr *)&a, sizeof(a)), 0);
	r = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	close(l);
	begin(r, 100);
	say("whole\nbroken off");
	while (!lines)
		CHECK_INT(reactor_turn(loop, 1000), 0);
	CHECK_INT(setsockopt(w, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	fds_close(&w);
	CHECK(runs_out());
	CHECK_INT(error, -ECONNRESET);
	heard_is("whole\n");
	finish();
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(lines_as_they_come),
	    RUN(a_nul_is_a_byte_of_a_line),
	    RUN(nothing_at_all),
	    RUN(a_line_not_taken_comes_again_as_it_was),
	    RUN(resumed_from_within_the_line),
	    RUN(random_pieces),
	    RUN(the_longest_and_one_more),
	    RUN(too_long_is_told_before_its_end),
	    RUN(a_file_takes_its_turn),
	    RUN(a_pipe_takes_its_turn),
	    RUN(memory_goes_back_when_idle),
	    RUN(stopped_from_within),
	    RUN(a_terminal),
	    RUN(a_socket_that_is_reset),
	    { 0 },
	});
}
