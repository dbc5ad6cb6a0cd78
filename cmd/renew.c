/* cmd/renew - the check and what comes after it take the same step, become(): the check in a child,
 * which gets copies of all that crosses, so it does whatever the real one will have to do. */
#include "cmd/renew.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "base/metrics.h"
#include "base/text.h"
#include "cmd/tool.h"
#include "wire/record.h"

#define VARIABLE "CCF_RENEW"
#define CHECK	 "check "
#define VERSION	 1
#define SEALS	 (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static struct {
	char **argv;
	char path[PATH_MAX];
	char *word; /* what VARIABLE was; NULL: it was not there */
	int fd;	    /* the state: that we read, or that a child does */
	const struct renew_ops *ops;
	bool running, late;
	struct child child;
	struct timer timer;
	struct task task;
} renew = { .fd = -1 };

/* ---- where the program is ---- */

/* Whether this path, made absolute, leads to what runs here: argv[0] may be any word. */
static bool
leads_here(const char *dir, size_t len, const char *name)
{
	bool absolute = len ? *dir == '/' : *name == '/';
	char cwd[PATH_MAX] = "";
	struct stat there, here;
	int n;

	if (!absolute && !getcwd(cwd, sizeof(cwd)))
		return false;
	while (strncmp(name, "./", 2) == 0)
		name += 2;
	n = snprintf(renew.path, sizeof(renew.path), "%s%s%.*s%s%s", cwd, absolute ? "" : "/",
	    (int)len, dir, len ? "/" : "", name);
	return n < (int)sizeof(renew.path) && stat(renew.path, &there) == 0 &&
	       stat("/proc/self/exe", &here) == 0 && there.st_dev == here.st_dev &&
	       there.st_ino == here.st_ino;
}

/* The path, and not the file: that is replaced.  Links on the way are kept, for they may be what
 * will be changed. */
static void
find_program(const char *name)
{
	const char *dir = strchr(name, '/') ? "" : getenv("PATH"), *gone = " (deleted)";
	char *end;
	ssize_t n;

	for (dir = dir ? dir : "/bin:/usr/bin";;) {
		size_t len = strcspn(dir, ":");

		if (leads_here(dir, len, name))
			return;
		if (!dir[len])
			break;
		dir += len + 1;
	}
	n = readlink("/proc/self/exe", renew.path, sizeof(renew.path) - 1);
	renew.path[n > 0 ? n : 0] = '\0';
	end = renew.path + strlen(renew.path) - (n > (ssize_t)strlen(gone) ? strlen(gone) : 0);
	if (strcmp(end, gone) == 0)
		*end = '\0';
}

void
renew_prepare(char **argv)
{
	const char *word = getenv(VARIABLE);
	size_t n = 0;

	while (argv[n])
		n++;
	renew.argv = calloc(n + 1, sizeof(*argv)); /* getopt changes the order of the others */
	renew.argv = renew.argv ? memcpy(renew.argv, argv, n * sizeof(*argv)) : argv;
	find_program(n ? argv[0] : "");
	renew.word = word ? strdup(word) : NULL;
	unsetenv(VARIABLE);
}

/* ---- what is saved of ours ---- */

/* Which figure lies in which slot: what is printed where each slot holds its own number.  The help
 * may change. */
static int64_t
layout(void)
{
	enum metric all[METRIC_COUNT];
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
	struct metrics m;
	struct text t = { 0 };
	bool sample = false;

	for (unsigned i = 0; i < METRIC_SLOTS; i++)
		m.slot[i] = i + 1;
	for (unsigned i = 0; i < METRIC_COUNT; i++)
		all[i] = (enum metric)i;
	metrics_print(&t, &m, all, METRIC_COUNT);
	for (size_t i = 0; i < t.len; i++) {
		if (i == 0 || t.at[i - 1] == '\n')
			sample = t.at[i] != '#';
		if (sample)
			hash = (hash ^ (unsigned char)t.at[i]) * 0x100000001b3;
	}
	text_free(&t);
	return (int64_t)hash;
}

_Static_assert(2 * sizeof(struct metrics) + 64 < RECORD_LINE_MAX, "the figures are one line");

static int
save(struct text *t)
{
	int level = LOG_L_ERROR, rc;

	while (level < LOG_L_DEBUG && log_wants((enum log_level)(level + 1)))
		level++;
	record_begin(t, "ccf-renew");
	record_number(t, "version", VERSION);
	record_text(t, "tool", tool.name);
	record_text(t, "from", CCF_VERSION);
	record_number(t, "soft", (int64_t)tool.found.rlim_cur);
	record_number(t, "hard", (int64_t)tool.found.rlim_max);
	record_number(t, "level", level);
	record_end(t);
	record_begin(t, "figures");
	record_number(t, "layout", layout());
	record_bytes(t, "slots", metrics_here(), sizeof(struct metrics));
	record_end(t);
	rc = renew.ops->save(t);
	return rc < 0 ? rc : t->failed ? -ENOMEM : 0;
}

/* The state as text, and as a file that nobody can change any more. */
static int
take_state(struct text *t, int *ret_fd)
{
	int fd, rc = save(t);

	if (rc < 0)
		return rc;
	fd = memfd_create("ccf-renew", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	for (size_t at = 0; at < t->len;) {
		ssize_t n = write(fd, t->at + at, t->len - at);

		if (n < 0 && errno != EINTR)
			goto out;
		at += n > 0 ? (size_t)n : 0;
	}
	if (fcntl(fd, F_ADD_SEALS, SEALS) == 0) {
		*ret_fd = fd;
		return 0;
	}
out:
	rc = -errno;
	close(fd);
	return rc;
}

/* ---- becoming another ---- */

/* Whether what stands in the state as fd=N, and the state itself, stays open across an exec. */
static void
let_cross(const struct text *state, int fd, bool on)
{
	static struct record r;
	int64_t number;
	int n;

	fds_set_cloexec(fd, !on);
	for (size_t at = 0; (n = record_parse(&r, state->at + at, state->len - at)) > 0;
	     at += (size_t)n)
		if (record_get_number(&r, "fd", 3, INT_MAX, &number) == 0)
			fds_set_cloexec((int)number, !on);
}

static char **
environ_with(char *pair)
{
	size_t n = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 2, sizeof(*env));
	if (!env)
		return NULL;
	memcpy(env, environ, n * sizeof(*env));
	env[n] = pair;
	return env;
}

/* Returns only -errno, and then all is as it was.  The signals we wait for stay blocked: one that
 * comes now is pending until the new program waits for them, too. */
static int
become(const struct text *state, int fd, const char *how)
{
	char pair[64];
	char **env;
	int rc;

	snprintf(pair, sizeof(pair), "%s=%s%d", VARIABLE, how, fd);
	env = environ_with(pair);
	if (!env)
		return -ENOMEM;
	let_cross(state, fd, true);
	execve(renew.path, renew.argv, env);
	rc = -errno;
	let_cross(state, fd, false);
	free(env);
	return rc;
}

static void
stays(const char *why)
{
	log_event(LOG_L_WARN, NULL, "not-renewed", NULL,
	    "%s does not take over (%s): going on as before", renew.path, why);
}

static int
replace(void)
{
	struct text state = { 0 };
	int fd, rc;

	(void)log_flush_held(INT64_MAX);
	rc = take_state(&state, &fd);
	if (rc == 0) {
		if (renew.ops->leave)
			renew.ops->leave();
		rc = become(&state, fd, "");
		close(fd);
	}
	text_free(&state);
	return rc;
}

/* ---- the check ---- */

/* At the end of the turn: signals that were read together with the child's end have been heard. */
static void
check_passed(struct task *t)
{
	int rc;

	(void)t;
	renew.running = false;
	if (tool.draining) {
		stays("draining");
		return;
	}
	rc = replace();
	stays(strerror(-rc));
}

/* The last seal is the word of one that has read the state; many a program ends with 0. */
static void
check_exited(struct child *c, int status)
{
	int seals = fcntl(renew.fd, F_GET_SEALS);
	char why[64] = "";

	(void)c;
	(void)reactor_timer(tool.reactor, &renew.timer, CLOCK_NEVER);
	fds_close(&renew.fd);
	if (renew.late)
		snprintf(why, sizeof(why), "no answer in %d s", RENEW_CHECK_MS / 1000);
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "killed by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status))
		snprintf(why, sizeof(why), "status %d", WEXITSTATUS(status));
	else if (seals < 0 || !(seals & F_SEAL_SEAL))
		snprintf(why, sizeof(why), "it has not read the state");
	if (!*why) {
		renew.task.run = check_passed;
		reactor_later(tool.reactor, &renew.task);
		return;
	}
	renew.running = false;
	stays(why);
}

static void
check_late(struct timer *t)
{
	(void)t;
	renew.late = true;
	if (kill(-renew.child.pid, SIGKILL) < 0) /* the group: it may be a script */
		kill(renew.child.pid, SIGKILL);
}

static _Noreturn void
check_here(const struct text *state, int fd)
{
	int rc;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* it holds copies of our sockets */
	rc = become(state, fd, CHECK);
	log_event(
	    LOG_L_ERROR, NULL, "failed", NULL, "cannot run %s: %s", renew.path, strerror(-rc));
	_exit(CCF_CANNOT_RUN);
}

static int
check(void)
{
	struct text state = { 0 };
	int fd = -1, rc = take_state(&state, &fd);

	if (rc == 0 && access(renew.path, X_OK) < 0)
		rc = -errno;
	if (rc == 0) {
		rc = children_fork(&tool.children, &renew.child, check_exited);
		if (rc == 0)
			check_here(&state, fd);
	}
	text_free(&state);
	if (rc < 0) {
		fds_close(&fd);
		return rc;
	}
	renew.running = true;
	renew.late = false;
	renew.fd = fd;
	renew.timer.fire = check_late;
	(void)reactor_timer(tool.reactor, &renew.timer, reactor_now(tool.reactor) + RENEW_CHECK_MS);
	return 0;
}

void
renew_now(const struct renew_ops *ops)
{
	int rc;

	if (tool.draining || renew.running) {
		log_event(LOG_L_WARN, NULL, "not-renewed", NULL, "%s: USR2 is ignored",
		    tool.draining ? "draining" : "being renewed already");
		return;
	}
	renew.ops = ops;
	rc = check();
	if (rc < 0)
		stays(strerror(-rc));
}

/* ---- the new program ---- */

bool
renew_resumes(void)
{
	return renew.word;
}

bool
renew_checks(void)
{
	return renew.word && strncmp(renew.word, CHECK, strlen(CHECK)) == 0;
}

static void
read_state(struct text *t)
{
	const char *number = renew.word + (renew_checks() ? strlen(CHECK) : 0), *err;
	int fd = (int)strtonum(number, 3, INT_MAX, &err), seals;
	char part[4096];
	ssize_t n;

	seals = err ? -1 : fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & SEALS) != SEALS)
		tool_usage("%s=%s: there is no state of a running %s (who sets this itself, at "
			   "USR2): unset it",
		    VARIABLE, renew.word, tool.name);
	fds_set_cloexec(fd, true);
	renew.fd = fd;
	while ((n = pread(fd, part, sizeof(part), (off_t)t->len)) > 0)
		text_bytes(t, part, (size_t)n);
	if (n < 0 || t->failed)
		tool_die(CCF_SYSTEM, "cannot read the state: %s", strerror(n < 0 ? errno : ENOMEM));
}

static void
restore_head(const struct record *r, char *from, size_t cap)
{
	const char *who = record_get(r, "tool"), *version = record_get(r, "from");
	int64_t n = 0, soft, hard, level;

	if (strcmp(r->word, "ccf-renew") != 0 || !who || strcmp(who, tool.name) != 0 || !version)
		tool_die(CCF_SYSTEM, "this is no state of a running %s", tool.name);
	strlcpy(from, version, cap);
	if (record_get_number(r, "version", VERSION, VERSION, &n) < 0)
		tool_die(CCF_SYSTEM, "%s has written its state in a form that %s does not read",
		    version, CCF_VERSION);
	if (record_get_number(r, "soft", INT64_MIN, INT64_MAX, &soft) < 0 ||
	    record_get_number(r, "hard", INT64_MIN, INT64_MAX, &hard) < 0 ||
	    record_get_number(r, "level", LOG_L_ERROR, LOG_L_DEBUG, &level) < 0)
		tool_die(CCF_SYSTEM, "the first line of the state is malformed");
	tool.found = (struct rlimit){ (rlim_t)soft, (rlim_t)hard };
	tool.children.found = tool.found;
	if (renew_checks())
		level = LOG_L_WARN;
	(tool.level ? tool.level : log_set_level)((enum log_level)level);
}

static void
restore_figures(const struct record *r)
{
	struct metrics saved;
	int64_t as;

	if (record_get_number(r, "layout", INT64_MIN, INT64_MAX, &as) == 0 && as == layout() &&
	    record_get_bytes(r, "slots", &saved, sizeof(saved)) == (int)sizeof(saved))
		metrics_sum(metrics_here(), &saved);
}

static void
restore_line(const struct record *r, int (*line)(const struct record *, char *, size_t))
{
	char msg[512] = "";
	int64_t fd;
	int rc = record_get_number(r, "fd", 3, INT_MAX, &fd);

	if (rc != -ENOENT && (rc < 0 || fds_set_cloexec((int)fd, true) < 0))
		tool_die(CCF_SYSTEM, "the state: %s: descriptor %s is not open", r->word,
		    record_get(r, "fd"));
	rc = line(r, msg, sizeof(msg));
	if (rc)
		tool_die(rc, "the state: %s: %s", r->word, msg);
}

void
renew_read(int (*line)(const struct record *, char *msg, size_t cap))
{
	static struct record r;
	struct text state = { 0 };
	char from[64] = "";
	size_t at = 0;
	int n;

	if (renew_checks())
		tool.leave = NULL; /* nothing here is ours */
	read_state(&state);
	for (; (n = record_parse(&r, state.at + at, state.len - at)) > 0; at += (size_t)n) {
		if (at == 0)
			restore_head(&r, from, sizeof(from));
		else if (strcmp(r.word, "figures") == 0)
			restore_figures(&r);
		else
			restore_line(&r, line);
	}
	if (n < 0 || at == 0)
		tool_die(CCF_SYSTEM, "the state is malformed at byte %zu", at);
	text_free(&state);
	if (renew_checks())
		return;
	fds_close(&renew.fd);
	log_event(LOG_L_INFO, NULL, "renewed", NULL, "renewed: %s, was %s", CCF_VERSION, from);
	/* Who ended in between: setting SIGCHLD to its default has thrown away the signal that said
	 * so. */
	kill(getpid(), SIGCHLD);
}

_Noreturn void
renew_checked(void)
{
	exit(fcntl(renew.fd, F_ADD_SEALS, F_SEAL_SEAL) == 0 ? CCF_OK : CCF_SYSTEM);
}
