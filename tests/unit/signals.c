/* signals: delivered by the loop, put back as they were at the end. */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "loop/children.h"
#include "loop/signals.h"

static const int list[] = { SIGTERM, SIGUSR1 };

static struct reactor *r;
static struct signals s;
static unsigned seen[65];

static void
on_signal(struct signals *who, int signo)
{
	CHECK(who == &s);
	seen[signo]++;
	if (who->arg)
		signals_close(who);
}

static void
begin(void *arg)
{
	memset(seen, 0, sizeof(seen));
	CHECK_INT(reactor_new(&r), 0);
	CHECK_INT(signals_open(&s, r, list, 2, on_signal, arg), 0);
}

static void
end(void)
{
	signals_close(&s);
	signals_close(&s);
	reactor_free(r);
}

static bool
blocked(int signo)
{
	sigset_t now;

	sigprocmask(SIG_SETMASK, NULL, &now);
	return sigismember(&now, signo);
}

CASE(a_signal_is_an_event)
{
	begin(NULL);
	CHECK(blocked(SIGTERM) && blocked(SIGUSR1) && blocked(SIGCHLD) && !blocked(SIGHUP));
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGTERM);
	CHECK_INT(seen[SIGUSR1] + seen[SIGTERM], 0);
	reactor_turn(r, -1);
	CHECK_INT(seen[SIGUSR1], 1);
	CHECK_INT(seen[SIGTERM], 1);
	end();
	CHECK(!blocked(SIGTERM) && !blocked(SIGUSR1) && !blocked(SIGCHLD));
}

CASE(sigpipe_is_ignored)
{
	int p[2];

	begin(NULL);
	CHECK(pipe(p) == 0);
	close(p[0]);
	CHECK(write(p[1], "x", 1) == -1 && errno == EPIPE);
	close(p[1]);
	end();
}

CASE(the_end_of_a_child_is_not_told_to_on)
{
	int status;
	pid_t pid;

	signal(SIGCHLD, SIG_IGN); /* as some parents leave it: our children would vanish */
	begin(NULL);
	pid = fork();
	if (pid == 0)
		_exit(3);
	reactor_turn(r, -1);
	CHECK_INT(seen[SIGCHLD], 0);
	CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 3);
	end();
}

CASE(closing_within_on_is_legal)
{
	begin(&s);
	kill(getpid(), SIGUSR1);
	reactor_turn(r, -1);
	CHECK_INT(seen[SIGUSR1], 1);
	CHECK_INT(reactor_turn(r, 0), 0);
	CHECK(!blocked(SIGUSR1));
	end();
}

int
main(void)
{
	alarm(30);
	return check_main((struct check_case[]){
	    RUN(a_signal_is_an_event),
	    RUN(sigpipe_is_ignored),
	    RUN(the_end_of_a_child_is_not_told_to_on),
	    RUN(closing_within_on_is_legal),
	    { 0 },
	});
}
