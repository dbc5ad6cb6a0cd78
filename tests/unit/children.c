/* children: what a COMMAND finds, and how its end comes back. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fds.h"
#include "check.h"
#include "loop/children.h"
#include "loop/signals.h"

struct probe {
	struct child child;
	unsigned ends;
	int status;
};

static struct reactor *r;
static struct signals s;
static struct children c;
static struct rlimit found;

static void
on_signal(struct signals *who, int signo)
{
	(void)who, (void)signo;
}

static void
begin(void)
{
	static const int list[] = { SIGTERM, SIGUSR1 };

	getrlimit(RLIMIT_NOFILE, &found);
	CHECK_INT(reactor_new(&r), 0);
	CHECK_INT(signals_open(&s, r, list, 2, on_signal, NULL), 0);
	children_open(&c, &s, &found);
}

static void
end(void)
{
	signals_close(&s);
	reactor_free(r);
}

static void
exited(struct child *child, int wait_status)
{
	struct probe *p = (struct probe *)(void *)child; /* its first member */

	p->ends++;
	p->status = child_exit_status(wait_status);
}

static int
start(struct probe *p, int in, int out, const char *script)
{
	char *argv[] = { "sh", "-c", (char *)script, NULL };
	char *envp[] = { "PATH=/usr/bin:/bin", "PROTO=TCP", NULL };
	struct spawn spawn = { .argv = argv, .envp = envp, .in = in, .out = out };

	*p = (struct probe){ 0 };
	return children_start(&c, &p->child, &spawn, exited);
}

/* Runs the script on a socketpair; its status. */
static int
run(const char *script)
{
	struct probe p;
	int sv[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) == 0);
	CHECK_INT(start(&p, sv[0], sv[0], script), 0);
	CHECK_INT(c.live, 1);
	CHECK(!(fcntl(sv[0], F_GETFL) & O_NONBLOCK));
	while (!p.ends)
		reactor_turn(r, -1);
	CHECK_INT(c.live, 0);
	CHECK_INT(p.ends, 1);
	close(sv[0]);
	close(sv[1]);
	return p.status;
}

CASE(the_status_is_what_a_shell_would_say)
{
	begin();
	CHECK_INT(run("exit 0"), 0);
	CHECK_INT(run("exit 3"), 3);
	CHECK_INT(run("kill -9 $$"), 128 + 9);
	CHECK_INT(run("test $PROTO = TCP"), 0);
	end();
}

CASE(dispositions_and_mask_are_the_default_ones)
{
	begin();
	signal(SIGHUP, SIG_IGN);
	CHECK_INT(run("grep -q '^SigBlk:[[:space:]]*0*$' /proc/self/status"), 0);
	CHECK_INT(run("grep -q '^SigIgn:[[:space:]]*0*$' /proc/self/status"), 0);
	CHECK(signal(SIGHUP, SIG_DFL) == SIG_IGN);
	end();
}

CASE(nothing_is_open_but_the_three)
{
	int stray;

	begin();
	stray = fcntl(2, F_DUPFD, 9);
	CHECK(!(fcntl(stray, F_GETFD) & FD_CLOEXEC));
	/* 3 is ls's own look at the directory. */
	CHECK_INT(run("test \"$(ls /proc/self/fd | tr '\\n' ' ')\" = '0 1 2 3 '"), 0);
	CHECK(!(fcntl(stray, F_GETFD) & FD_CLOEXEC));
	close(stray);
	end();
}

CASE(the_limit_we_found_is_given_back)
{
	struct rlimit low, saved;

	begin();
	getrlimit(RLIMIT_NOFILE, &saved);
	low = saved;
	low.rlim_cur = 77;
	children_open(&c, &s, &low);
	CHECK_INT(run("test $(ulimit -n) = 77"), 0);
	getrlimit(RLIMIT_NOFILE, &low);
	CHECK_INT(low.rlim_cur, saved.rlim_cur);
	end();
}

CASE(two_pipes_become_0_and_1)
{
	struct probe p;
	int in[2], out[2];
	char answer[16] = "";

	begin();
	CHECK(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
	CHECK_INT(start(&p, in[0], out[1], "read x; echo $x$x"), 0);
	close(in[0]), close(out[1]);
	CHECK(write(in[1], "ab\n", 3) == 3);
	CHECK_INT(read(out[0], answer, sizeof(answer) - 1), 5);
	CHECK_STR(answer, "abab\n");
	while (!p.ends)
		reactor_turn(r, -1);
	close(in[1]), close(out[0]);
	end();
}

/* Our own 0 and 1, crossed over: in a process of our own, which has no other output then. */
static int
crossed(void)
{
	struct probe p = { 0 };
	int in[2], out[2], bad;
	char answer[4] = "";

	begin();
	bad = pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0;
	dup3(in[0], 1, O_CLOEXEC);
	dup3(out[1], 0, O_CLOEXEC);
	bad |= start(&p, 1, 0, "read x; echo $x") != 0;
	bad |= write(in[1], "ab\n", 3) != 3;
	bad |= read(out[0], answer, 3) != 3 || strcmp(answer, "ab\n") != 0;
	while (!bad && !p.ends)
		reactor_turn(r, -1);
	return bad || p.status;
}

CASE(crossed_0_and_1_arrive_uncrossed)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(crossed());
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_INT(status, 0);
}

CASE(a_command_that_cannot_run_says_why)
{
	char *none[] = { "ccf-no-such-command", NULL }, *not_run[] = { "/dev/null", NULL };
	char *envp[] = { NULL };
	struct spawn spawn = { .argv = none, .envp = envp, .in = 0, .out = 0 };
	struct probe p = { 0 };
	int null;

	begin();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	spawn.in = spawn.out = null;
	CHECK_INT(children_start(&c, &p.child, &spawn, exited), -ENOENT);
	spawn.argv = not_run;
	CHECK_INT(children_start(&c, &p.child, &spawn, exited), -EACCES);
	CHECK_INT(c.live, 0);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	spawn.in = spawn.out = 999;
	CHECK_INT(children_start(&c, &p.child, &spawn, exited), -EBADF);
	close(null);
	end();
}

CASE(many_are_each_told_once_beside_a_stranger)
{
	enum { N = 40 };
	static struct probe p[N];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), status;
	unsigned ends = 0;
	pid_t stranger;

	begin();
	stranger = fork(); /* a zombie that is not ours hides nobody */
	if (stranger == 0)
		_exit(7);
	CHECK(waitid(P_PID, (id_t)stranger, &(siginfo_t){ 0 }, WEXITED | WNOWAIT) == 0);
	for (int i = 0; i < N; i++) {
		char script[16];

		snprintf(script, sizeof(script), "exit %d", i);
		CHECK_INT(start(&p[i], null, null, script), 0);
	}
	CHECK_INT(c.live, N);
	while (c.live)
		reactor_turn(r, -1);
	for (int i = 0; i < N; i++) {
		ends += p[i].ends;
		CHECK_INT(p[i].status, i);
	}
	CHECK_INT(ends, N);
	CHECK(waitpid(stranger, &status, 0) == stranger && WEXITSTATUS(status) == 7);
	close(null);
	end();
}

CASE(an_abandoned_one_is_reaped_and_told_to_nobody)
{
	struct probe *p = malloc(sizeof(*p));
	int sv[2];
	pid_t pid;

	begin();
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	CHECK_INT(start(p, sv[0], sv[0], "read x"), 0);
	pid = p->child.pid;
	child_abandon(&c, &p->child);
	child_abandon(&c, &p->child);
	free(p);
	CHECK_INT(c.live, 0);
	CHECK(kill(pid, 0) == 0);
	close(sv[0]);
	close(sv[1]);
	while (!RB_EMPTY(&c.tree))
		reactor_turn(r, -1);
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	end();
}

/* Becomes a shell on 6 and 7, which answers there what it found. */
static void
become(int fd)
{
	char *argv[] = { "sh", "-c", "read x <&6; test ! -e /proc/$$/fd/9 && echo $x$PROTO >&7",
		NULL };
	char *none[] = { "ccf-no-such-command", NULL };
	char *envp[] = { "PATH=/usr/bin:/bin", "PROTO=TCP", NULL };

	begin();
	dup2(2, 9);
	dup3(fd, 7, O_CLOEXEC);
	if (fd != 6)
		dup3(fd, 6, O_CLOEXEC);
	if (children_become(&found, -1, none, envp) != -ENOENT || fcntl(9, F_GETFD) < 0)
		_exit(1);
	children_become(&found, -1, argv, envp);
	_exit(2);
}

CASE(becoming_a_command_keeps_6_and_7_and_nothing_else)
{
	char answer[16] = "";
	int sv[2], status;
	pid_t pid;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == 0);
	pid = fork();
	if (pid == 0)
		become(sv[0]);
	close(sv[0]);
	fds_set_nonblock(sv[1], false);
	CHECK(write(sv[1], "ab\n", 3) == 3);
	CHECK_INT(read(sv[1], answer, sizeof(answer) - 1), 6);
	CHECK_STR(answer, "abTCP\n");
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_INT(status, 0);
	close(sv[1]);
}

/* The UCSPI client's place; our 0 and 1 stay what they are, in a process where they are pipes. */
static int
at_6_and_7(bool cross)
{
	char *argv[] = { "sh", "-c",
		"read x <&6; read y; echo $x$y >&7; ls /proc/self/fd >&7; echo z", NULL };
	char *envp[] = { "PATH=/usr/bin:/bin", NULL };
	char said[64] = "", answer[4] = "";
	struct spawn spawn = { .argv = argv, .envp = envp, .in = 6, .out = 6, .at = 6 };
	struct probe p = { 0 };
	int sv[2], in[2], out[2], bad;

	begin();
	dup2(2, 9); /* a stray one */
	bad = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) != 0 ||
	      pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0;
	for (int *fd = sv; fd < sv + 2; fd++)
		*fd = fcntl(*fd, F_DUPFD_CLOEXEC, 20);
	dup2(in[0], 0), dup2(out[1], 1);
	dup3(sv[0], cross ? 7 : 6, O_CLOEXEC), dup3(sv[0], 6, O_CLOEXEC);
	if (cross)
		spawn.in = 7;
	bad |= write(in[1], "b\n", 2) != 2 || write(sv[1], "a\n", 2) != 2;
	bad |= children_start(&c, &p.child, &spawn, exited) != 0;
	while (!bad && !p.ends)
		reactor_turn(r, -1);
	bad |= read(sv[1], said, sizeof(said) - 1) <= 0 || read(out[0], answer, 3) != 2;
	/* 3 is ls's own look at the directory */
	bad |= strcmp(said, "ab\n0\n1\n2\n3\n6\n7\n") != 0 || strcmp(answer, "z\n") != 0;
	return bad || p.status;
}

CASE(the_connection_may_become_6_and_7_and_0_and_1_stay)
{
	for (int cross = 0; cross < 2; cross++) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(at_6_and_7(cross));
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK_INT(status, 0);
	}
}

/* What a forked one finds: a bit for each thing that is not as it should be. */
static int
found_in_fork(const struct probe *other)
{
	sigset_t mask;
	int bad = 0;

	sigprocmask(SIG_SETMASK, NULL, &mask);
	for (int signo = 1; signo < 32; signo++)
		bad |= sigismember(&mask, signo) == 1 ? 1 : 0;
	bad |= signal(SIGPIPE, SIG_DFL) == SIG_IGN ? 0 : 2;
	bad |= signal(SIGUSR2, SIG_DFL) == SIG_DFL ? 0 : 4;
	bad |= RB_EMPTY(&c.tree) && c.live == 0 ? 0 : 8;
	bad |= waitpid(other->child.pid, NULL, WNOHANG) == -1 ? 0 : 16;
	return bad;
}

CASE(a_forked_one_begins_like_a_fresh_process_and_is_reaped_by_its_pid)
{
	struct probe command, gone, forked = { 0 };
	int sv[2], pid;

	begin();
	signal(SIGUSR2, SIG_IGN);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
	CHECK_INT(start(&command, sv[0], sv[0], "read x; exit 3"), 0);
	CHECK_INT(start(&gone, sv[0], sv[0], "read x"), 0);
	child_abandon(&c, &gone.child);
	pid = children_fork(&c, &forked.child, exited);
	if (pid == 0)
		_exit(found_in_fork(&command));
	CHECK(pid > 0 && forked.child.pid == pid);
	CHECK_INT(c.live, 2);
	while (!forked.ends)
		reactor_turn(r, -1);
	CHECK_INT(forked.status, 0);
	CHECK_INT(command.ends, 0);
	signal(SIGUSR2, SIG_DFL);
	close(sv[0]), close(sv[1]);
	while (!RB_EMPTY(&c.tree))
		reactor_turn(r, -1);
	CHECK_INT(command.ends, 1);
	end();
}

int
main(void)
{
	alarm(60);
	return check_main((struct check_case[]){
	    RUN(the_status_is_what_a_shell_would_say),
	    RUN(dispositions_and_mask_are_the_default_ones),
	    RUN(nothing_is_open_but_the_three),
	    RUN(the_limit_we_found_is_given_back),
	    RUN(two_pipes_become_0_and_1),
	    RUN(crossed_0_and_1_arrive_uncrossed),
	    RUN(a_command_that_cannot_run_says_why),
	    RUN(many_are_each_told_once_beside_a_stranger),
	    RUN(an_abandoned_one_is_reaped_and_told_to_nobody),
	    RUN(becoming_a_command_keeps_6_and_7_and_nothing_else),
	    RUN(the_connection_may_become_6_and_7_and_0_and_1_stay),
	    RUN(a_forked_one_begins_like_a_fresh_process_and_is_reaped_by_its_pid),
	    { 0 },
	});
}
