/* loop/children - vfork, a short way to exec on the parent's memory, and reaping by pid. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fds.h"
#include "loop/children.h"
#include "loop/signals.h"

static int
by_pid(const struct child *a, const struct child *b)
{
	return a->pid < b->pid ? -1 : a->pid > b->pid;
}

RB_PROTOTYPE(child_tree, child, node, by_pid)
RB_GENERATE(child_tree, child, node, by_pid)

void
children_open(struct children *c, struct signals *s, const struct rlimit *found)
{
	RB_INIT(&c->tree);
	c->found = *found;
	c->live = 0;
	if (s)
		s->children = c;
}

/* exec keeps what is ignored, and a handler must not run in a vfork child.  The two numbers that
 * glibc keeps for itself answer EINVAL.  but: the process goes on without exec, and this one stays
 * as it is; 0: none. */
static void
default_signals(int but)
{
	struct sigaction now, dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int signo = 1; signo <= SIGRTMAX; signo++) {
		if (signo != but && sigaction(signo, NULL, &now) == 0 && now.sa_handler != SIG_DFL)
			sigaction(signo, &dfl, NULL);
	}
	/* glibc keeps 32 and 33 to itself and refuses them, yet a parent may have left them
	 * ignored. */
	for (int signo = 32; !but && signo <= 33; signo++)
		syscall(SYS_rt_sigaction, signo, (const unsigned long[4]){ 0 }, NULL,
		    sizeof(unsigned long));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* dup2 onto itself keeps close-on-exec. */
static int
place_one(int fd, int at)
{
	return fd == at ? fds_set_cloexec(fd, false) : dup2(fd, at);
}

/* in and out become at and at + 1, whichever of these two they are themselves. */
static int
place(int in, int out, int at)
{
	if (out == at && in != at) {
		out = fcntl(out, F_DUPFD_CLOEXEC, at + 2);
		if (out < 0)
			return -1;
	}
	return place_one(in, at) < 0 || place_one(out, at + 1) < 0 ? -1 : 0;
}

/* Closed by exec, so that after an exec that failed the caller still has what it had. */
static void
leave_open(int at)
{
	if (at)
		close_range(3, (unsigned)at - 1, CLOSE_RANGE_CLOEXEC);
	close_range(at ? (unsigned)at + 2 : 3, ~0U, CLOSE_RANGE_CLOEXEC);
}

/* execvpe says EACCES also where it only could not look into a directory of PATH (an ordinary user
 * with root's PATH); that is a command not found, as shells see it. */
static int
why_not(const char *file, int err)
{
	const char *dir = getenv("PATH");
	char path[PATH_MAX];

	if (err != EACCES || strchr(file, '/') || !dir)
		return err;
	for (; *dir; dir += strcspn(dir, ":"), dir += *dir == ':') {
		snprintf(path, sizeof(path), "%.*s/%s", (int)strcspn(dir, ":"), dir, file);
		if (access(path, F_OK) == 0)
			return err;
	}
	return ENOENT;
}

/* Not inlined: nothing of the caller's frame may be changed by the child, which runs on it.
 * execvpe looks in our own PATH.  *err is the child's word to us: the memory is shared. */
__attribute__((noinline)) static pid_t
start(const struct children *c, const struct spawn *spawn, volatile int *err)
{
	pid_t pid = vfork();

	if (pid != 0)
		return pid;
	if (place(spawn->in, spawn->out, spawn->at) == 0) {
		leave_open(spawn->at);
		setrlimit(RLIMIT_NOFILE, &c->found);
		default_signals(0);
		execvpe(spawn->argv[0], spawn->argv, spawn->envp);
	}
	*err = why_not(spawn->argv[0], errno);
	_exit(127);
}

static void
enter(struct children *c, struct child *child, pid_t pid, void (*exited)(struct child *, int))
{
	child->pid = pid;
	child->exited = exited;
	RB_INSERT(child_tree, &c->tree, child);
	c->live++;
}

int
children_start(struct children *c, struct child *child, const struct spawn *spawn,
    void (*exited)(struct child *, int))
{
	sigset_t all, before;
	volatile int err = 0;
	pid_t pid;
	int r;

	r = fds_set_nonblock(spawn->in, false);
	if (r == 0 && spawn->out != spawn->in)
		r = fds_set_nonblock(spawn->out, false);
	if (r < 0)
		return r;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = start(c, spawn, &err);
	if (pid < 0)
		err = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err) {
		while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return -err;
	}
	enter(c, child, pid, exited);
	return 0;
}

void
children_adopt(
    struct children *c, struct child *child, pid_t pid, void (*exited)(struct child *, int))
{
	enter(c, child, pid, exited);
}

/* A ghost holds the pid of an abandoned child, whose owner is gone. */
static void
ghost_exited(struct child *ghost, int status)
{
	(void)status;
	free(ghost);
}

/* In the new process, whose children are not ours. */
static void
disown_all(struct children *c)
{
	struct child *child, *next;

	RB_FOREACH_SAFE(child, child_tree, &c->tree, next) {
		RB_REMOVE(child_tree, &c->tree, child);
		if (child->exited == ghost_exited)
			free(child);
	}
	c->live = 0;
}

int
children_fork(struct children *c, struct child *child, void (*exited)(struct child *, int))
{
	sigset_t all, before;
	pid_t pid;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = fork();
	err = errno;
	if (pid == 0) {
		disown_all(c);
		signal(SIGPIPE, SIG_IGN);
		default_signals(SIGPIPE);
		return 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0)
		return -err;
	enter(c, child, pid, exited);
	return pid;
}

void
child_abandon(struct children *c, struct child *child)
{
	struct child *ghost;

	if (RB_FIND(child_tree, &c->tree, child) != child)
		return;
	RB_REMOVE(child_tree, &c->tree, child);
	c->live--;
	ghost = malloc(sizeof(*ghost));
	if (!ghost)
		return; /* a zombie until we end: better than a callback into freed memory */
	ghost->pid = child->pid;
	ghost->exited = ghost_exited;
	RB_INSERT(child_tree, &c->tree, ghost);
}

static bool
reap(struct children *c, struct child *child)
{
	int status;

	if (waitpid(child->pid, &status, WNOHANG) != child->pid)
		return false;
	RB_REMOVE(child_tree, &c->tree, child);
	if (child->exited != ghost_exited)
		c->live--;
	child->exited(child, status);
	return true;
}

/* The kernel says which child is done without giving it up, so one of a thousand costs a look into
 * the tree.  Where it names one that is not ours (inherited through exec, or a library's), it would
 * go on naming that one: then all of ours are asked. */
void
children_reap(struct children *c)
{
	struct child key, *child;
	siginfo_t info;
	int r;

	for (;;) {
		info.si_pid = 0;
		do
			r = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
		while (r < 0 && errno == EINTR);
		if (r < 0 || info.si_pid == 0)
			return;
		key.pid = info.si_pid;
		child = RB_FIND(child_tree, &c->tree, &key);
		if (!child || !reap(c, child))
			break;
	}
	/* exited() may start and abandon others: look the next one up afresh. */
	for (key.pid = 0; (child = RB_NFIND(child_tree, &c->tree, &key)); reap(c, child))
		key.pid = child->pid + 1;
}

int
children_become(const struct rlimit *found, int keep, char *const *argv, char *const *envp)
{
	for (int fd = 6; fd <= 7; fd++) {
		fds_set_nonblock(fd, false);
		fds_set_cloexec(fd, false);
	}
	leave_open(6);
	if (keep >= 0)
		fds_set_cloexec(keep, false);
	setrlimit(RLIMIT_NOFILE, found);
	default_signals(0);
	execvpe(argv[0], argv, envp);
	return -why_not(argv[0], errno);
}

int
child_exit_status(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
