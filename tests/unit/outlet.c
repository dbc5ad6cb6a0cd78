/* (who runs this makes no difference) */
/* Lines to pipes, files, terminals, /dev/full and nobody: all of them, in order, as fast as they
 * are taken and no faster, and who reads them is never made non-blocking. */
#include "flow/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "check.h"

enum { LONG = 30000, HEARD = 8 << 20 };

static struct reactor *loop;
static struct outlet out;
static int drained, emptied, gone, error, pipe_r, pipe_w;
static unsigned said;
static bool closes;
static char heard[HEARD], expected[HEARD];
static size_t heard_len, expected_len;

static void
on_drained(void *arg)
{
	CHECK(arg == heard);
	CHECK(!outlet_full(&out));
	drained++;
}

static void
on_empty(void *arg)
{
	(void)arg;
	emptied++;
	if (closes)
		outlet_close(&out);
}

static void
on_gone(void *arg, int how)
{
	(void)arg;
	gone++;
	error = how;
	if (closes)
		outlet_close(&out);
}

static void
begin(int fd)
{
	CHECK_INT(reactor_new(&loop), 0);
	drained = emptied = gone = error = 0;
	said = 0;
	closes = false;
	heard_len = expected_len = 0;
	out = (struct outlet){
		.drained = on_drained, .empty = on_empty, .gone = on_gone, .arg = heard
	};
	CHECK_INT(outlet_open(&out, loop, fd), 0);
}

static void
begin_pipe(void)
{
	int fd[2];

	CHECK_INT(pipe2(fd, O_CLOEXEC), 0);
	pipe_r = fd[0];
	pipe_w = fd[1];
	CHECK_INT(fcntl(pipe_r, F_SETFL, O_NONBLOCK), 0);
	begin(pipe_w);
}

static void
finish(void)
{
	if (pipe_w > 0)
		CHECK(!(fcntl(pipe_w, F_GETFL) & O_NONBLOCK));
	outlet_close(&out);
	outlet_close(&out);
	reactor_free(loop);
	fds_close(&pipe_r);
	fds_close(&pipe_w);
}

static void
turns(int n)
{
	while (n-- > 0)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

/* A line of some length that says which it is. */
static void
say(size_t pad)
{
	struct text *t = outlet_line(&out);
	size_t was = t->len;

	text_add(t, "%u %*s\n", said, (int)pad, "x");
	CHECK(expected_len + (t->len - was) <= HEARD);
	memcpy(expected + expected_len, t->at + was, t->len - was);
	expected_len += t->len - was;
	said++;
	outlet_done(&out);
}

static void
hear(size_t most)
{
	ssize_t n = read(pipe_r, heard + heard_len, most);

	if (n > 0)
		heard_len += (size_t)n;
}

static void
heard_all(void)
{
	CHECK_INT(heard_len, expected_len);
	CHECK(memcmp(heard, expected, expected_len) == 0);
}

CASE(written_when_the_turn_ends)
{
	begin_pipe();
	say(3);
	say(3);
	hear(100);
	CHECK_INT(heard_len, 0);
	turns(1);
	hear(100);
	heard_all();
	CHECK_INT(emptied + gone + drained, 0);
	finish();
}

CASE(a_slow_reader_loses_nothing)
{
	int64_t limit = clock_ms() + LONG;
	int fulls = 0;

	begin_pipe();
	srandom(1);
	while (heard_len < expected_len || said < 20000) {
		CHECK(clock_ms() < limit);
		if (clock_ms() >= limit)
			break;
		while (!outlet_full(&out) && said < 20000)
			say((size_t)random() % 400);
		fulls += outlet_full(&out);
		hear(1 + (size_t)random() % 9000);
		turns(1);
		CHECK(out.waiting.len - out.at <= OUTLET_HIGH + 500);
		CHECK(out.waiting.cap <= 4 * OUTLET_HIGH);
	}
	heard_all();
	CHECK(fulls > 0);
	CHECK(drained > 0);
	CHECK_INT(gone + emptied, 0);
	finish();
}

CASE(full_until_half_is_left)
{
	begin_pipe();
	while (!outlet_full(&out))
		say(1000);
	CHECK(out.waiting.len >= OUTLET_HIGH && out.waiting.len < OUTLET_HIGH + 1100);
	turns(3);
	while (out.waiting.len - out.at > OUTLET_HIGH / 2) {
		CHECK(outlet_full(&out));
		CHECK_INT(drained, 0);
		hear(4096);
		turns(2);
	}
	CHECK(!outlet_full(&out));
	CHECK_INT(drained, 1);
	finish();
}

CASE(memory_goes_back_when_all_is_written)
{
	int64_t limit = clock_ms() + LONG;

	begin_pipe();
	while (!outlet_full(&out))
		say(1000);
	while (heard_len < expected_len && clock_ms() < limit) {
		hear(65536);
		turns(1);
	}
	heard_all();
	CHECK_INT(out.waiting.cap, 0);
	finish();
}

CASE(finish_waits_for_the_last_byte)
{
	int64_t limit = clock_ms() + LONG;

	begin_pipe();
	while (expected_len < 150000)
		say(100);
	outlet_finish(&out);
	turns(3);
	CHECK_INT(emptied, 0);
	while (!emptied && clock_ms() < limit) {
		hear(4096);
		turns(1);
	}
	CHECK_INT(emptied, 1);
	hear(HEARD - heard_len);
	heard_all();
	turns(3);
	CHECK_INT(emptied, 1);
	finish();
}

CASE(finish_with_nothing_to_write)
{
	begin_pipe();
	closes = true; /* from within */
	outlet_finish(&out);
	CHECK_INT(emptied, 0);
	turns(1);
	CHECK_INT(emptied, 1);
	CHECK_INT(gone, 0);
	finish();
}

CASE(nobody_reads)
{
	begin_pipe();
	say(10);
	turns(1);
	fds_close(&pipe_r);
	turns(1);
	CHECK_INT(gone, 0);
	say(10);
	CHECK_INT(gone, 0);
	turns(1);
	CHECK_INT(gone, 1);
	CHECK_INT(error, EPIPE);
	for (int i = 0; i < 1000; i++)
		say(1000);
	CHECK(!outlet_full(&out));
	CHECK_INT(out.waiting.cap, 0);
	outlet_finish(&out);
	turns(3);
	CHECK_INT(gone, 1);
	CHECK_INT(emptied + drained, 0);
	finish();
}

CASE(the_reader_leaves_a_full_pipe)
{
	begin_pipe();
	closes = true;
	while (!outlet_full(&out))
		say(1000);
	outlet_finish(&out);
	turns(2);
	fds_close(&pipe_r);
	turns(2);
	CHECK_INT(gone, 1);
	CHECK_INT(error, EPIPE);
	CHECK_INT(emptied + drained, 0);
	finish();
}

CASE(a_full_disk)
{
	struct stat st;
	int fd;

	if (stat("/dev/full", &st) < 0 || !S_ISCHR(st.st_mode) || major(st.st_rdev) != 1 ||
	    minor(st.st_rdev) != 7)
		SKIP("no /dev/full");
	fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	begin(fd);
	say(10);
	turns(2);
	CHECK_INT(gone, 1);
	CHECK_INT(error, ENOSPC);
	finish();
	close(fd);
}

CASE(a_closed_descriptor)
{
	begin(-1);
	say(10);
	turns(2);
	CHECK_INT(gone, 1);
	CHECK_INT(error, EBADF);
	finish();
}

CASE(a_file_and_dev_null)
{
	char name[] = "/tmp/outlet.XXXXXX";
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), fd = mkostemp(name, O_CLOEXEC);

	unlink(name);
	begin(fd);
	while (!outlet_full(&out))
		say(500);
	outlet_finish(&out);
	turns(3);
	CHECK_INT(emptied, 1);
	heard_len = (size_t)pread(fd, heard, HEARD, 0);
	heard_all();
	finish();
	begin(null);
	while (!outlet_full(&out))
		say(500);
	turns(1);
	CHECK_INT(drained, 1);
	outlet_finish(&out);
	turns(1);
	CHECK_INT(emptied, 1);
	finish();
	close(fd);
	close(null);
}

CASE(a_terminal_that_is_stopped)
{
	int64_t limit = clock_ms() + LONG;
	struct termios raw;
	int ours, theirs;

	CHECK_INT(openpty(&ours, &theirs, NULL, NULL, NULL), 0);
	CHECK_INT(tcgetattr(theirs, &raw), 0);
	cfmakeraw(&raw);
	CHECK_INT(tcsetattr(theirs, TCSANOW, &raw), 0);
	begin(theirs);
	while (expected_len < 100000)
		say(300);
	outlet_finish(&out);
	turns(5);
	CHECK_INT(emptied, 0);
	CHECK_INT(fcntl(ours, F_SETFL, O_NONBLOCK), 0);
	while (heard_len < expected_len && clock_ms() < limit) {
		ssize_t n = read(ours, heard + heard_len, HEARD - heard_len);

		heard_len += n > 0 ? (size_t)n : 0;
		CHECK_INT(reactor_turn(loop, 1), 0);
	}
	turns(2);
	heard_all();
	CHECK_INT(emptied, 1);
	CHECK(!(fcntl(theirs, F_GETFL) & O_NONBLOCK));
	finish();
	close(ours);
	close(theirs);
}

CASE(nothing_is_asked_of_the_kernel_while_there_is_nothing_to_do)
{
	begin_pipe();
	say(10);
	turns(2);
	CHECK_INT(out.watch.want, 0);
	while (!outlet_full(&out))
		say(1000);
	turns(2);
	CHECK_INT(out.watch.want, WATCH_WRITE);
	finish();
	out = (struct outlet){ 0 };
	outlet_close(&out);
}

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	return check_main((struct check_case[]){
	    RUN(written_when_the_turn_ends),
	    RUN(a_slow_reader_loses_nothing),
	    RUN(full_until_half_is_left),
	    RUN(memory_goes_back_when_all_is_written),
	    RUN(finish_waits_for_the_last_byte),
	    RUN(finish_with_nothing_to_write),
	    RUN(nobody_reads),
	    RUN(the_reader_leaves_a_full_pipe),
	    RUN(a_full_disk),
	    RUN(a_closed_descriptor),
	    RUN(a_file_and_dev_null),
	    RUN(a_terminal_that_is_stopped),
	    RUN(nothing_is_asked_of_the_kernel_while_there_is_nothing_to_do),
	    { 0 },
	});
}
