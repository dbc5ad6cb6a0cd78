/* A master in this process, its workers as processes of its own, and the producer they serve: each
 * connection it sends says in CCF_DO what the worker shall do.  What workers find they write into
 * memory that we share with them. */
#include "flow/master.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/exit.h"
#include "base/log.h"
#include "check.h"
#include "flow/hub.h"
#include "flow/master_parts.h"
#include "flow/rows.h"
#include "flow/worker.h"
#include "loop/signals.h"
#include "net/handoff.h"

enum { WORKERS = 2, CONNS = 32 };

static struct shared { /* one a worker */
	pid_t pid;
	unsigned begun, fds, materials, statuses, lost, sink_links, level;
	char access[32];
	bool fresh; /* dispositions and mask were as they should be */
	char material[32];
	int exited, failed; /* how its COMMAND ended */
	unsigned ends;
} * shared;

static struct test {
	int die_at_start; /* worker 1 ends with it before it is up; 0: no */
	int end_with;	  /* status of worker 2 when all is done */
	bool stubborn;	  /* workers ignore drain and now */
	bool unsourced;	  /* there is no producer of ours */
	unsigned rows;	  /* a connection counts for so many in a list */
	const char *sink;
	const char *source;
	char *const *argv;
	unsigned commands; /* at once, of a worker */
} test;

static struct reactor *loop;
static struct signals signals;
static struct children children;
static struct master master;
static struct starter_here here;
static char dir[64], path[96], spec[112];
static int stderr_was, log_fd, material_fd;
static unsigned done;
static int done_status;

/* ---- the worker ---- */

static struct worker self;
static struct hub sources[1], sink;
static struct hub *hubs[] = { &sources[0], &sink };
static struct reactor *own;
static struct page *page;
static struct shared *mine;
static unsigned index_of_self;
static struct link_conn held[CONNS];
static struct started started[CONNS];
static unsigned n_held;

static void
command_exited(struct started *s, int wait_status)
{
	(void)s;
	mine->exited = child_exit_status(wait_status);
	mine->ends++;
}

static void
command_failed(struct started *s, int rc)
{
	(void)s;
	mine->failed = rc;
	mine->ends++;
}

static const struct started_ops command_ops = { .exited = command_exited,
	.failed = command_failed };

static void
ignore_closed(struct link_conn *c, const char *reason, int status, uint64_t in, uint64_t out)
{
	(void)c, (void)reason, (void)status, (void)in, (void)out;
}

static void
ignore(struct link_conn *c)
{
	(void)c;
}

static const struct link_conn_ops held_ops = {
	.ended = ignore, .closed = ignore_closed, .lost = ignore, .flushed = ignore
};

/* "VERB HUB ID VALUE": as a worker that has lost its mind would say it. */
static void
say_raw(const char *text, int fd)
{
	static char rows[2 * sizeof(struct conn_row)];
	static const char payload[] = "conn\0id=1\0LD_PRELOAD=evil\0SSL_CERT_FILE=evil\0CCF_A=b\0"
				      "HTTP_PROXY=evil\0HTTP_A=1";
	struct order o = { 0 };
	char what[16] = "";

	sscanf(text, "%15s %u %u %lu %d", what, &o.verb, &o.hub, &o.id, &o.value);
	o.flags = strcmp(what, "cgi") == 0 ? RUN_CGI : 0;
	if (strcmp(what, "short") == 0) {
		struct handoff_out out = { .bytes = "x", .len = 1, .fd = -1 };

		(void)handoff_send(self.channel.fd, &out, 1);
	} else if (strcmp(what, "run") == 0 || o.flags)
		(void)channel_say(&self.channel, &o, payload, sizeof(payload), fd);
	else if (strcmp(what, "rows") ==
		 0) { /* value: how much of one, and whether its texts end */
		memset(rows, o.value % 2 ? 'x' : 0, sizeof(rows));
		(void)channel_say(&self.channel, &o, rows, (size_t)o.value, -1);
	} else if (strcmp(what, "junk") == 0)
		(void)channel_say(&self.channel, &o, payload + 1, sizeof(payload) - 1, fd);
	else
		(void)channel_say(&self.channel, &o, NULL, 0, -1);
}

static void
run_cgi(struct started *s, const struct env *env, int fd)
{
	struct env cgi = { .cgi = true };

	s->ops = &command_ops;
	if (env_copy(&cgi, env) != 0 || env_set(&cgi, "HTTP_A", "1") != 0 ||
	    self.starter.ops->start(&self.starter, s, &cgi, fd) != 0)
		mine->failed = 1;
	env_free(&cgi);
}

static void
obey(const char *what, const struct env *env, int fd)
{
	struct started *s = &started[n_held - 1];

	if (strncmp(what, "raw ", 4) == 0)
		say_raw(what + 4, fd);
	else if (strcmp(what, "run") == 0) {
		s->ops = &command_ops;
		if (self.starter.ops->start(&self.starter, s, env, fd) != 0)
			mine->failed = 1;
	} else if (strcmp(what, "hangup") == 0)
		self.starter.ops->hangup(&self.starter, s - 1);
	else if (strcmp(what, "kill") == 0)
		self.starter.ops->kill(&self.starter, s - 1, SIGTERM);
	else if (strcmp(what, "run-cgi") == 0)
		run_cgi(s, env, fd);
	else if (strcmp(what, "abandon") == 0)
		self.starter.ops->abandon(&self.starter, s - 1);
	else if (strcmp(what, "sys") == 0)
		kill(getpid(), SIGSYS);
	else if (strcmp(what, "exit") == 0)
		_exit(3);
	else if (strcmp(what, "mute") == 0)
		channel_close(&self.channel);
	else if (strcmp(what, "hold") != 0)
		abort();
}

static void
source_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	struct env env = { 0 };

	(void)h;
	(void)note_env(n, &env);
	link_join(l, &held[n_held++], &held_ops, n->id);
	page->live++;
	metric_add(METRIC_TAKEN, NULL, 1);
	obey(env_get(&env, "CCF_DO"), &env, fd);
	env_free(&env);
	close(fd);
}

static unsigned
source_room(struct hub *h)
{
	(void)h;
	return CONNS;
}

static void
source_over(struct hub *h, int status)
{
	(void)h;
	exit(status == 0 && index_of_self == 1 ? test.end_with : status);
}

static void
sink_credit(struct hub *h)
{
	mine->sink_links = h->n;
}

static void
sink_over(struct hub *h, int status)
{
	(void)h;
	exit(status);
}

static void
on_material(struct worker *w, int fd)
{
	(void)w;
	mine->material[0] = '\0';
	if (pread(fd, mine->material, sizeof(mine->material) - 1, 0) > 0)
		mine->materials++;
	close(fd);
}

static void
on_drain(struct worker *w)
{
	(void)w;
	if (test.stubborn)
		return;
	while (n_held > 0)
		link_closed(&held[--n_held], "done", 0, 0, 0);
	hub_drain(&sources[0]);
}

static void
on_now(struct worker *w)
{
	(void)w;
	if (!test.stubborn)
		exit(CCF_DEADLINE);
}

static void
on_status(struct worker *w)
{
	(void)w;
	mine->statuses++;
}

static void
on_lost(struct worker *w)
{
	(void)w;
	mine->lost++;
	if (!test.stubborn)
		exit(0);
}

static void
on_gauges(struct worker *w)
{
	(void)w;
	metric_set(METRIC_LIVE, n_held);
	mine->level = log_wants(LOG_L_DEBUG);
}

static unsigned
on_rows(struct worker *w, unsigned from, struct conn_row *rows, unsigned cap)
{
	unsigned n = 0;

	(void)w;
	for (; n < cap && from + n < n_held * test.rows; n++) {
		memset(&rows[n], 0, sizeof(rows[n]));
		snprintf(rows[n].conn, sizeof(rows[n].conn), "w%u#%u", index_of_self, from + n);
		snprintf(rows[n].peer, sizeof(rows[n].peer), "\"%%s\n");
	}
	return n;
}

static bool
on_cut(struct worker *w, const char *conn)
{
	char last[32];

	(void)w;
	snprintf(last, sizeof(last), "w%u#%u", index_of_self, n_held - 1);
	if (n_held == 0 || strcmp(conn, last) != 0)
		return false;
	link_closed(&held[--n_held], "control", 0, 0, 0);
	return true;
}

static void
on_access(struct worker *w, int fd)
{
	(void)w;
	mine->access[0] = '\0';
	CHECK(pread(fd, mine->access, sizeof(mine->access) - 1, 0) > 0);
	close(fd);
}

static void
look_around(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct sigaction pipe, hup;
	sigset_t mask;

	mine->fds = 0;
	while (readdir(d))
		mine->fds++;
	closedir(d);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	sigaction(SIGPIPE, NULL, &pipe);
	sigaction(SIGHUP, NULL, &hup);
	mine->fresh = pipe.sa_handler == SIG_IGN && hup.sa_handler == SIG_DFL &&
		      sigismember(&mask, SIGCHLD) == 0;
}

static _Noreturn void
work(void *arg, unsigned index, int chan, struct page *p)
{
	static const struct worker_ops ops = { .material = on_material,
		.drain = on_drain,
		.now = on_now,
		.status = on_status,
		.gauges = on_gauges,
		.rows = on_rows,
		.cut = on_cut,
		.access = on_access,
		.lost = on_lost };
	static const struct hub_ops source_ops = {
		.conn = source_conn, .room = source_room, .over = source_over
	};
	static const struct hub_ops sink_ops = { .credit = sink_credit, .over = sink_over };
	char name[8];
	struct hub_config cfg = { .tool = name,
		.option = "--from",
		.links = WORKERS,
		.role = NOTE_CONSUMER,
		.modes = NOTE_TAKE,
		.ops = &source_ops };

	CHECK(arg == &test);
	page = p;
	index_of_self = index;
	mine = &shared[index];
	mine->pid = getpid();
	mine->begun++;
	look_around();
	if (test.die_at_start && index == 0)
		_exit(test.die_at_start);
	snprintf(name, sizeof(name), "w%u", index);
	if (reactor_new(&own) != 0)
		abort();
	cfg.reactor = own;
	cfg.spec = spec;
	worker_open(&self, own, chan, &ops, hubs, test.sink ? 2 : 1);
	hub_open_given(&sources[0], &cfg, &worker_keeper, &self);
	cfg.option = "--to";
	cfg.role = NOTE_PRODUCER;
	cfg.ops = &sink_ops;
	hub_open_given(&sink, &cfg, &worker_keeper, &self);
	worker_up(&self, "nothing but the test");
	(void)reactor_run(own);
	abort();
}

/* ---- the producer ---- */

static struct hub producer;
static struct link_conn sent[CONNS];
static unsigned n_sent;

static void
told_credit(struct hub *h)
{
	(void)h;
}

static void
told_over(struct hub *h, int status)
{
	(void)h, (void)status;
}

static const struct hub_ops producer_ops = { .credit = told_credit, .over = told_over };

static struct link *
link_to(unsigned index)
{
	struct link *l;

	TAILQ_FOREACH(l, &producer.links, of_hub)
		if (l->tool[0] == 'w' && l->tool[1] == (char)('0' + index) && link_usable(l))
			return l;
	return NULL;
}

/* Sends a connection to that worker; our end of it. */
static int
order_to(unsigned index, const char *what)
{
	struct env env = { 0 };
	int pair[2];

	while (!link_to(index))
		reactor_turn(loop, -1);
	env_set(&env, "CCF_DO", what);
	env_set(&env, "PROTO", "TEST");
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	sent[n_sent] = (struct link_conn){ .ops = &held_ops };
	CHECK_INT(link_conn(link_to(index), &sent[n_sent++], &env, pair[1]), 0);
	env_free(&env);
	return pair[0];
}

/* ---- the test ---- */

static void
on_signal(struct signals *s, int signo)
{
	(void)s, (void)signo;
}

static void
on_done(void *arg, int status)
{
	CHECK(arg == &test);
	done++;
	done_status = status;
}

static int
give_material(void *arg)
{
	(void)arg;
	return material_fd;
}

static void
put_material(const char *text)
{
	if (material_fd == -1)
		material_fd = memfd_create("material", MFD_CLOEXEC);
	CHECK(ftruncate(material_fd, 0) == 0);
	CHECK(pwrite(material_fd, text, strlen(text), 0) > 0);
}

static bool
logged(const char *what)
{
	static char text[65536];
	ssize_t n = pread(log_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return strstr(text, what) != NULL;
}

static int
begin_master(char *msg, size_t cap)
{
	struct name_config names[2] = {
		{ .option = "--from",
		    .spec = test.source ? test.source : spec,
		    .role = NOTE_CONSUMER,
		    .socket_mode = 0600,
		    .socket_group = (gid_t)-1,
		    .peer_user = (uid_t)-1 },
		{ .option = "--to",
		    .spec = test.sink,
		    .role = NOTE_PRODUCER,
		    .socket_mode = 0600,
		    .socket_group = (gid_t)-1,
		    .peer_user = (uid_t)-1 },
	};
	struct master_config cfg = { .reactor = loop,
		.children = &children,
		.workers = WORKERS,
		.names = names,
		.n_names = test.sink ? 2 : 1,
		.starter = test.argv ? &here.starter : NULL,
		.commands = test.commands,
		.work = work,
		.material = give_material,
		.done = on_done,
		.arg = &test };

	starter_here_open(&here, &children, test.argv, 0);
	return master_open(&master, &cfg, msg, cap);
}

static void
begin_loop(void)
{
	struct rlimit found;

	memset(shared, 0, WORKERS * sizeof(*shared));
	done = n_sent = 0;
	material_fd = -1;
	fflush(stdout);
	log_fd = memfd_create("log", MFD_CLOEXEC);
	stderr_was = fcntl(2, F_DUPFD_CLOEXEC, 3);
	dup2(log_fd, 2);
	strcpy(dir, "/tmp/ccf-master-XXXXXX");
	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/link", dir);
	snprintf(spec, sizeof(spec), "bind:%s", path);
	getrlimit(RLIMIT_NOFILE, &found);
	CHECK_INT(reactor_new(&loop), 0);
	CHECK_INT(signals_open(&signals, loop, NULL, 0, on_signal, NULL), 0);
	children_open(&children, &signals, &found);
}

static void
begin(const struct test *how)
{
	struct hub_config cfg;
	char msg[256] = "";

	test = how ? *how : (struct test){ 0 };
	begin_loop();
	CHECK_INT(begin_master(msg, sizeof(msg)), 0);
	CHECK_STR(msg, "");
	cfg = (struct hub_config){ .reactor = loop,
		.tool = "test",
		.option = "--to",
		.spec = path,
		.role = NOTE_PRODUCER,
		.socket_group = (gid_t)-1,
		.peer_user = (uid_t)-1,
		.ops = &producer_ops };
	snprintf(spec, sizeof(spec), "dial:%s", path);
	cfg.spec = spec;
	if (!test.unsourced)
		CHECK_INT(hub_open(&producer, &cfg, msg, sizeof(msg)), 0);
}

static void
end(void)
{
	char line[4096];
	ssize_t n;

	if (!test.unsourced)
		hub_close(&producer);
	for (unsigned i = 0; i < WORKERS; i++)
		if (master.worker && master.worker[i].state == WORKER_RUNS)
			kill(master.worker[i].child.pid, SIGKILL);
	master_close(&master);
	while (!RB_EMPTY(&children.tree))
		reactor_turn(loop, -1);
	reactor_turn(loop, 0);
	signals_close(&signals);
	reactor_free(loop);
	dup2(stderr_was, 2);
	close(stderr_was);
	if (check_failed && (n = pread(log_fd, line, sizeof(line) - 1, 0)) > 0) {
		line[n] = '\0';
		for (char *s = strtok(line, "\n"); s; s = strtok(NULL, "\n"))
			printf("# %s\n", s);
	}
	close(log_fd);
	close(material_fd);
	unlink(path);
	CHECK_INT(rmdir(dir), 0);
}

#define UNTIL(x)                                                                                   \
	while (!(x))                                                                               \
	reactor_turn(loop, -1)

/* Somebody else writes it: no event says when. */
#define SEEN(x)                                                                                    \
	while (!(x))                                                                               \
	reactor_turn(loop, 1)

CASE(a_worker_begins_with_nothing_of_ours_and_links_are_shared_out)
{
	begin(NULL);
	UNTIL(master.up && link_to(0) && link_to(1));
	CHECK(logged("2 workers up: nothing but the test"));
	for (int i = 0; i < WORKERS; i++) {
		/* . and .., 0 to 2, the channel, the directory itself */
		CHECK_INT(shared[i].fds, 7);
		CHECK(shared[i].fresh);
		CHECK_INT(shared[i].begun, 1);
		CHECK_INT(shared[i].materials, 0);
		CHECK_INT(master.worker[i].links[0], 1);
	}
	CHECK_INT(producer.n, 2);
	end();
}

CASE(a_killed_worker_is_told_of_with_what_it_had_and_started_again)
{
	char line[160];
	pid_t pid;
	int fd[3];

	begin(NULL);
	for (int i = 0; i < 3; i++)
		fd[i] = order_to(1, "hold");
	close(order_to(0, "hold"));
	UNTIL(master_live(&master) == 4);
	pid = shared[1].pid;
	CHECK_INT(kill(pid, SIGKILL), 0);
	UNTIL(master.crashed == 1);
	snprintf(line, sizeof(line),
	    "warn: worker 2 (pid %d) was killed by SIGKILL; 3 connections lost; starting it again "
	    "in 100 ms\n",
	    (int)pid);
	CHECK(logged(line));
	CHECK_INT(master_live(&master), 1);
	CHECK_INT(master.worker[1].links[0], 0);
	UNTIL(link_to(1) && link_to(1)->live == 0);
	CHECK_INT(shared[1].begun, 2);
	CHECK(shared[1].pid != pid);
	CHECK_INT(shared[0].begun, 1);
	CHECK_INT(master.worker[0].links[0], 1);
	CHECK_INT(master.worker[1].links[0], 1);
	CHECK(logged(" is up again: nothing but the test"));
	CHECK_INT(done, 0);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	end();
}

CASE(what_the_sandbox_forbids_is_said_by_name_and_the_back_off_doubles)
{
	begin(NULL);
	close(order_to(0, "sys"));
	UNTIL(master.crashed == 1);
	CHECK(logged(") was killed by SIGSYS: it called what the sandbox forbids; 1 connection "
		     "lost; starting it again in 100 ms"));
	close(order_to(0, "exit"));
	UNTIL(master.crashed == 2);
	CHECK(logged(") exited with status 3; 1 connection lost; starting it again in 200 ms"));
	UNTIL(link_to(0));
	master.worker[0].since -= MASTER_PROVEN_MS; /* as if it had lived so long */
	close(order_to(0, "exit"));
	UNTIL(master.crashed == 3);
	CHECK_INT(master.worker[0].delay, 100);
	end();
}

CASE(an_order_that_cannot_be_meant_ends_that_worker_and_no_other)
{
	static const struct {
		const char *with;
		unsigned verb;
		const char *rest, *why;
	} bad[] = {
		{ "short", 0, "", "it gave an order of the wrong length" },
		{ "order", 99, "0 0 0", "it gave an order that there is none" },
		{ "order", ORDER_LINK, "0 0 0", "it gave an order with a descriptor" },
		{ "order", ORDER_DRAIN, "0 0 0", "it gave an order that is for workers" },
		{ "order", ORDER_UP, "0 0 0", "it said twice that it is up" },
		{ "order", ORDER_GREETED, "1 0 0", "it spoke of a link that it does not have" },
		{ "order", ORDER_GREETED, "0 0 9999", "it wanted more links than there can be" },
		{ "order", ORDER_GONE, "9 0 0", "it spoke of a link that it does not have" },
		{ "run", ORDER_RUN, "0 0 0",
		    "it asked for a COMMAND under a number that was used" },
		{ "junk", ORDER_RUN, "0 1 0", "it asked for a COMMAND, and not for which" },
		{ "order", ORDER_RUN, "0 1 0", "it gave an order of the wrong length" },
		{ "order", ORDER_HANGUP, "0 7 0", "it spoke of a COMMAND that there never was" },
		{ "order", ORDER_KILL, "0 7 9", "it spoke of a COMMAND that there never was" },
		{ "order", ORDER_KILL, "0 7 1", "it wanted a COMMAND to get a signal that is" },
		{ "order", ORDER_FORGET, "0 0 0", "it spoke of a COMMAND that there never was" },
		{ "order", ORDER_HOLD, "0 7 0", "it gave an order with a descriptor too many, or" },
		{ "order", ORDER_LISTED, "0 1 0", "it answered what was not asked" },
		{ "order", ORDER_LIST, "0 1 0", "it gave an order that is for workers" },
		{ "rows", ORDER_UP, "0 0 8", "it gave an order of the wrong length" },
	};
	char *argv[] = { "true", NULL };
	char line[160], raw[64];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		begin(&(struct test){ .argv = argv });
		snprintf(raw, sizeof(raw), "raw %s %u %s", bad[i].with, bad[i].verb, bad[i].rest);
		close(order_to(1, raw));
		UNTIL(master.crashed > 0);
		snprintf(line, sizeof(line), " was killed: %s", bad[i].why);
		CHECK(logged(line));
		CHECK_INT(kill(shared[0].pid, 0), 0);
		CHECK_INT(master.worker[0].state, WORKER_RUNS);
		UNTIL(link_to(1));
		CHECK_INT(shared[0].begun, 1);
		CHECK_INT(shared[1].begun, 2);
		end();
	}
	begin(NULL);
	snprintf(raw, sizeof(raw), "raw run %u 0 1 0", ORDER_RUN);
	close(order_to(1, raw));
	UNTIL(master.crashed > 0);
	CHECK(logged(" was killed: it asked for a COMMAND, and there is none"));
	end();
}

static void
read_all(int fd, char *to, size_t cap)
{
	size_t at = 0;
	ssize_t n;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while ((n = read(fd, to + at, cap - 1 - at)) != 0) {
		if (n > 0)
			at += (size_t)n;
		else
			reactor_turn(loop, 1);
	}
	to[at] = '\0';
	close(fd);
}

CASE(a_command_runs_for_a_worker_with_its_environment_and_its_status_goes_back)
{
	char *argv[] = { "sh", "-c", "env; exit 5", NULL };
	char said[8192], raw[64];

	setenv("CCF_OURS", "1", 1);
	begin(&(struct test){ .argv = argv });
	read_all(order_to(0, "run"), said, sizeof(said));
	CHECK(strstr(said, "PROTO=TEST\n") && strstr(said, "CCF_DO=run\n"));
	CHECK(strstr(said, "PATH=") && !strstr(said, "CCF_OURS"));
	SEEN(shared[0].ends == 1);
	CHECK_INT(shared[0].exited, 5);
	CHECK_INT(shared[1].ends, 0);
	CHECK(RB_EMPTY(&master.worker[0].runs));
	/* and one of which it does not know itself */
	snprintf(raw, sizeof(raw), "raw run %u 0 7 0", ORDER_RUN);
	read_all(order_to(0, raw), said, sizeof(said));
	CHECK(strstr(said, "CCF_A=b\n"));
	CHECK(!strstr(said, "LD_PRELOAD") && !strstr(said, "evil"));
	UNTIL(RB_EMPTY(&master.worker[0].runs));
	CHECK_INT(master.crashed, 0);
	end();
	unsetenv("CCF_OURS");
}

CASE(a_cgi_program_has_its_request_and_nothing_else_besides)
{
	char *argv[] = { "env", NULL };
	char said[8192], raw[64];

	setenv("HTTP_B", "1", 1);
	begin(&(struct test){ .argv = argv });
	read_all(order_to(0, "run-cgi"), said, sizeof(said));
	CHECK(strstr(said, "PROTO=TEST\n") && strstr(said, "HTTP_A=1\n"));
	CHECK(!strstr(said, "HTTP_B"));
	/* the worker's word is not believed */
	snprintf(raw, sizeof(raw), "raw cgi %u 0 7 0", ORDER_RUN);
	read_all(order_to(0, raw), said, sizeof(said));
	CHECK(strstr(said, "CCF_A=b\n") && strstr(said, "HTTP_A=1\n"));
	CHECK(!strstr(said, "HTTP_B") && !strstr(said, "evil"));
	UNTIL(RB_EMPTY(&master.worker[0].runs));
	end();
	unsetenv("HTTP_B");
}

CASE(a_command_is_killed_for_its_worker)
{
	char *argv[] = { "sh", "-c", "trap 'echo term; exit 0' TERM; echo ready; read x; read y",
		NULL };
	char said[64] = "";
	int fd, other;

	begin(&(struct test){ .argv = argv });
	fd = order_to(0, "run");
	UNTIL(!RB_EMPTY(&master.worker[0].runs));
	CHECK_INT(read(fd, said, 6), 6);
	other = order_to(0, "kill");
	read_all(fd, said, sizeof(said));
	CHECK_STR(said, "term\n");
	SEEN(shared[0].ends == 1);
	close(other);
	end();
}

CASE(a_command_that_cannot_be_run_is_told_later)
{
	char *argv[] = { "ccf-no-such-command", NULL };
	char said[64];

	begin(&(struct test){ .argv = argv });
	read_all(order_to(1, "run"), said, sizeof(said));
	CHECK_STR(said, "");
	SEEN(shared[1].ends == 1);
	CHECK_INT(shared[1].failed, -ENOENT);
	CHECK(RB_EMPTY(&master.worker[1].runs));
	end();
}

CASE(a_command_is_hung_up_by_its_worker_and_when_that_dies)
{
	char *argv[] = { "sh", "-c", "trap 'echo hup; exit 0' HUP; echo ready; read x; read y",
		NULL };
	char said[64] = "";
	int fd[4];

	begin(&(struct test){ .argv = argv });
	for (int i = 0; i < 4; i += 2) {
		fd[i] = order_to((unsigned)i / 2, "run");
		UNTIL(!RB_EMPTY(&master.worker[i / 2].runs));
		CHECK_INT(read(fd[i], said, 6), 6);
	}
	fd[1] = order_to(0, "hangup");
	read_all(fd[0], said, sizeof(said));
	CHECK_STR(said, "hup\n");
	SEEN(shared[0].ends == 1);
	CHECK_INT(kill(shared[1].pid, SIGKILL), 0);
	read_all(fd[2], said, sizeof(said));
	CHECK_STR(said, "hup\n");
	CHECK(RB_EMPTY(&master.worker[1].runs));
	close(fd[1]);
	end();
}

CASE(a_command_that_was_abandoned_runs_on_and_its_end_is_told_to_nobody)
{
	char *argv[] = { "sh", "-c", "echo ready; read x; echo $x", NULL };
	char said[64] = "";
	int fd, other;

	begin(&(struct test){ .argv = argv });
	fd = order_to(0, "run");
	UNTIL(!RB_EMPTY(&master.worker[0].runs));
	CHECK_INT(read(fd, said, 6), 6);
	other = order_to(0, "abandon");
	UNTIL(RB_EMPTY(&master.worker[0].runs));
	CHECK_INT(write(fd, "a\n", 2), 2);
	read_all(fd, said, sizeof(said));
	CHECK_STR(said, "a\n");
	CHECK_INT(shared[0].ends, 0);
	close(other);
	end();
}

/* Also those that it abandoned: they may still run. */
CASE(a_worker_that_wants_more_commands_at_once_than_it_may_is_killed)
{
	char *argv[] = { "sh", "-c", "echo ready; read x", NULL };
	char said[64] = "";
	int fd[2];

	begin(&(struct test){ .argv = argv, .commands = 2 });
	for (unsigned i = 0; i < 3; i++) { /* one after the other it may */
		fd[0] = order_to(0, "run");
		UNTIL(master.worker[0].n_runs == 1);
		CHECK_INT(write(fd[0], "\n", 1), 1);
		read_all(fd[0], said, sizeof(said));
		UNTIL(master.worker[0].n_runs == 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		fd[i] = order_to(0, "run");
		UNTIL(master.worker[0].n_runs == i + 1);
	}
	close(order_to(0, "abandon"));
	UNTIL(master.worker[0].forgotten == 1);
	CHECK_INT(master.worker[0].n_runs, 1);
	CHECK_INT(master.crashed, 0);
	close(order_to(0, "run"));
	UNTIL(master.crashed == 1);
	CHECK(logged("was killed: it asked for more COMMANDs than it may have at once"));
	UNTIL(link_to(0));
	CHECK_INT(master.worker[0].n_runs + master.worker[0].forgotten, 0);
	close(fd[0]);
	close(fd[1]);
	end();
}

CASE(material_goes_to_every_worker_when_it_changes_and_to_each_new_one)
{
	begin(NULL);
	UNTIL(master.up);
	put_material("one");
	master_material(&master);
	SEEN(shared[0].materials == 1 && shared[1].materials == 1);
	CHECK_STR(shared[1].material, "one");
	put_material("two");
	kill(shared[1].pid, SIGKILL);
	SEEN(shared[1].materials == 2);
	CHECK_STR(shared[1].material, "two");
	CHECK_STR(shared[0].material, "one");
	master_material(&master);
	SEEN(shared[0].materials == 2 && shared[1].materials == 3);
	master_status(&master, "fine");
	SEEN(shared[0].statuses == 1 && shared[1].statuses == 1);
	CHECK(logged("0 connections, 2 workers (pids ") && logged("), 1 died; fine"));
	end();
}

CASE(a_drain_ends_with_the_first_status_that_is_not_0)
{
	begin(&(struct test){ .end_with = 9 });
	close(order_to(0, "hold"));
	close(order_to(1, "hold"));
	UNTIL(master_live(&master) == 2);
	master_drain(&master);
	CHECK_INT(handoff_dial(path), -ENOENT);
	UNTIL(done);
	CHECK_INT(done_status, 9);
	CHECK_INT(master.crashed, 0);
	CHECK(!logged("warn:"));
	end();
	CHECK_INT(done, 1);
}

CASE(who_waits_to_be_started_again_is_not_when_there_is_a_drain)
{
	begin(NULL);
	UNTIL(link_to(0) && link_to(1));
	kill(shared[0].pid, SIGKILL);
	kill(shared[1].pid, SIGKILL);
	UNTIL(master.worker[0].state == WORKER_OUT && master.worker[1].state == WORKER_OUT);
	master_drain(&master);
	CHECK_INT(done, 1);
	CHECK_INT(done_status, 0);
	end();
}

CASE(while_nobody_is_there_links_wait)
{
	begin(NULL);
	UNTIL(link_to(0) && link_to(1));
	kill(shared[0].pid, SIGKILL);
	kill(shared[1].pid, SIGKILL);
	UNTIL(!TAILQ_EMPTY(&master.waiting));
	CHECK(master.worker[0].state == WORKER_OUT || master.worker[1].state == WORKER_OUT);
	UNTIL(link_to(0) && link_to(1));
	CHECK(TAILQ_EMPTY(&master.waiting));
	CHECK_INT(master.worker[0].links[0], 1);
	CHECK_INT(master.worker[1].links[0], 1);
	end();
}

CASE(now_ends_them_and_who_does_not_is_killed)
{
	begin(NULL);
	UNTIL(master.up);
	master_now(&master);
	UNTIL(done);
	CHECK_INT(done_status, CCF_DEADLINE);
	end();
	begin(&(struct test){ .stubborn = true });
	UNTIL(master.up);
	master_drain(&master);
	master_now(&master);
	for (int i = 0; i < WORKERS; i++) {
		CHECK(master.worker[i].timer.slot);
		reactor_timer(loop, &master.worker[i].timer, reactor_now(loop) + 1);
	}
	UNTIL(done);
	CHECK_INT(done_status, 128 + SIGKILL);
	CHECK(logged(" was killed: it did not end when it was told to; 0 connections lost\n"));
	end();
}

CASE(who_closes_its_channel_and_does_not_end_is_killed)
{
	begin(&(struct test){ .stubborn = true });
	close(order_to(0, "mute"));
	UNTIL(master.worker[0].timer.slot);
	CHECK_INT(master.worker[0].state, WORKER_RUNS);
	reactor_timer(loop, &master.worker[0].timer, reactor_now(loop) + 1);
	UNTIL(master.crashed == 1);
	CHECK(
	    logged(" was killed: its channel ended, and it did not; 1 connection lost; starting"));
	end();
}

CASE(a_worker_that_cannot_begin_ends_the_master_with_its_status)
{
	begin(&(struct test){ .die_at_start = 58 });
	UNTIL(done);
	CHECK_INT(done_status, 58);
	CHECK_INT(shared[0].begun, 1);
	CHECK(!logged("warn:")); /* its own line said why */
	end();
}

CASE(when_every_source_is_over_the_workers_end_and_so_does_the_master)
{
	char fd_spec[16];
	int pair[2];

	CHECK_INT(handoff_pair(pair), 0);
	snprintf(fd_spec, sizeof(fd_spec), "fd:%d", pair[0]);
	begin(&(struct test){ .unsourced = true, .source = fd_spec });
	UNTIL(master.up);
	CHECK_INT(master.worker[0].links[0] + master.worker[1].links[0], 1);
	close(pair[1]);
	UNTIL(done);
	CHECK_INT(done_status, 0);
	CHECK(!logged("warn:"));
	end();
}

CASE(a_name_that_we_dial_has_a_link_for_each_worker_also_after_one_died)
{
	char sink_path[96], sink_spec[112];
	struct handoff_bound bound;
	struct handoff_in in = { .bytes = malloc(HANDOFF_MAX) };
	int got[3];

	strcpy(sink_path, "/tmp/ccf-sink-XXXXXX");
	CHECK(mkdtemp(sink_path) != NULL);
	strcat(sink_path, "/s");
	CHECK_INT(handoff_bind(&bound, sink_path, 0600, (gid_t)-1, SOCK_SEQPACKET), 0);
	snprintf(sink_spec, sizeof(sink_spec), "dial:%s", sink_path);
	begin(&(struct test){ .sink = sink_spec });
	for (int i = 0; i < 2; i++)
		SEEN((got[i] = handoff_accept(bound.fd)) >= 0);
	UNTIL(master.up);
	CHECK_INT(master.worker[0].links[1], 1);
	CHECK_INT(master.worker[1].links[1], 1);
	kill(shared[0].pid, SIGKILL);
	UNTIL(master.crashed == 1);
	CHECK_INT(master.worker[0].links[1], 1); /* not dialled again before it is there again */
	CHECK_INT(master.names[1].n, 2);
	SEEN((got[2] = handoff_accept(bound.fd)) >= 0);
	CHECK_INT(shared[0].begun, 2);
	CHECK_INT(master.worker[0].links[1], 1);
	CHECK_INT(master.worker[1].links[1], 1);
	CHECK_INT(master.names[1].n, 2);
	/* the one that died is at its end; the two others have nothing to say yet: the consumer
	 * begins */
	for (int i = 0, ends = 0; i < 3; i++) {
		int n = handoff_recv(got[i], &in, 1);

		ends += n == 0 || n == -ECONNRESET;
		CHECK(i < 2 || ends == 1);
		CHECK(n <= 0 || in.len > 0);
		close(got[i]);
	}
	handoff_unbind(&bound);
	end();
	*strrchr(sink_path, '/') = '\0';
	CHECK_INT(rmdir(sink_path), 0);
	free(in.bytes);
}

/* ---- questions ---- */

static unsigned answers;

static void
on_answer(struct master_ask *a)
{
	CHECK(a->of == NULL);
	answers++;
}

static unsigned
count(const char *in, const char *what)
{
	unsigned n = 0;

	for (; in && (in = strstr(in, what)); in++)
		n++;
	return n;
}

CASE(workers_are_asked_for_rows_gauges_and_cuts)
{
	struct metrics sum = { 0 };
	struct master_ask a = { 0 };

	answers = 0;
	begin(&(struct test){ .rows = 300 });
	UNTIL(master.up);
	master_rows(&master, &a, on_answer);
	CHECK_INT(answers, 0); /* never before it has returned */
	UNTIL(answers == 1);
	CHECK(a.rows.len == 0 && !a.missing && !a.full);
	close(order_to(0, "hold"));
	close(order_to(0, "hold"));
	close(order_to(1, "hold"));
	UNTIL(master_live(&master) == 3);
	master_rows(&master, &a, on_answer);
	UNTIL(answers == 2);
	CHECK_INT(count(a.rows.at, "\"id\":\"w0#"), 600);
	CHECK_INT(count(a.rows.at, "\"id\":\"w1#"), 300);
	CHECK_INT(count(a.rows.at, "\"peer\":\"\\\"%s\\n\""), 900);
	text_free(&a.rows);

	master_gauges(&master, &a, on_answer);
	UNTIL(answers == 3);
	CHECK(a.rows.len == 0);
	master_metrics(&master, &sum);
	CHECK_INT(metric_get(&sum, METRIC_LIVE, NULL), 3);
	CHECK_INT(metric_get(&sum, METRIC_TAKEN, NULL), 3);

	a = (struct master_ask){ 0 };
	master_cut(&master, &a, "w0#1", on_answer);
	UNTIL(answers == 4);
	CHECK(a.cut && !a.missing);
	a = (struct master_ask){ 0 };
	master_cut(&master, &a, "w0#1", on_answer);
	UNTIL(answers == 5);
	CHECK(!a.cut);
	CHECK_INT(master.crashed, 0);
	end();
}

CASE(a_stopped_worker_is_waited_for_and_then_missing)
{
	struct master_ask a = { 0 }, b = { 0 }, c = { 0 };

	answers = 0;
	begin(&(struct test){ .rows = 1 });
	close(order_to(0, "hold"));
	close(order_to(1, "hold"));
	UNTIL(master_live(&master) == 2);
	CHECK_INT(kill(shared[0].pid, SIGSTOP), 0);
	master_rows(&master, &a, on_answer);
	master_rows(&master, &c, on_answer);
	UNTIL(answers == 2);
	CHECK_INT(a.missing, 1);
	CHECK_INT(count(a.rows.at, "\"id\""), 1);
	CHECK(strstr(a.rows.at, "w1#0"));
	text_free(&a.rows);
	text_free(&c.rows);
	/* what it says to that when it goes on is too late, and no fault */
	master_rows(&master, &b, on_answer);
	CHECK_INT(kill(shared[0].pid, SIGCONT), 0);
	UNTIL(answers == 3);
	CHECK_INT(b.missing, 0);
	CHECK_INT(count(b.rows.at, "\"id\""), 2);
	text_free(&b.rows);
	/* one that dies meanwhile has none */
	CHECK_INT(kill(shared[0].pid, SIGSTOP), 0);
	master_rows(&master, &b, on_answer);
	CHECK_INT(kill(shared[0].pid, SIGKILL), 0);
	UNTIL(answers == 4);
	CHECK_INT(b.missing, 0);
	CHECK_INT(count(b.rows.at, "\"id\""), 1);
	text_free(&b.rows);
	CHECK_INT(master.crashed, 1);
	/* and who does not want to know any more is not told */
	master_rows(&master, &b, on_answer);
	master_unask(&b);
	master_unask(&b);
	master_rows(&master, &a, on_answer);
	UNTIL(answers == 5);
	text_free(&a.rows);
	master_rows(&master, &a, on_answer);
	end();
	CHECK_INT(answers, 5);
}

CASE(a_dead_workers_counters_stay_and_its_gauges_go)
{
	struct metrics sum = { 0 };
	struct master_ask a = { 0 };
	uint64_t lost = metric_get(metrics_here(), METRIC_CLOSED, "worker-died");

	answers = 0;
	begin(NULL);
	close(order_to(0, "hold"));
	close(order_to(1, "hold"));
	UNTIL(master_live(&master) == 2);
	master_gauges(&master, &a, on_answer);
	UNTIL(answers == 1);
	kill(shared[1].pid, SIGKILL);
	UNTIL(master.crashed == 1);
	master_metrics(&master, &sum);
	CHECK_INT(metric_get(&sum, METRIC_TAKEN, NULL), 2);
	CHECK_INT(metric_get(&sum, METRIC_LIVE, NULL), 1);
	CHECK(metric_get(&sum, METRIC_DEATHS, NULL) >= 1);
	CHECK_INT(metric_get(&sum, METRIC_CLOSED, "worker-died"), lost + 1);
	end();
}

/* Asks until the workers that are there have it: one that is just starting is not asked. */
static void
ask_until_told(unsigned index)
{
	struct master_ask a = { 0 };

	do {
		answers = 0;
		master_gauges(&master, &a, on_answer);
		UNTIL(answers == 1);
	} while (!shared[index].level);
	CHECK_STR(shared[index].access, "the access log");
}

CASE(the_level_and_the_access_log_reach_every_worker_that_is_or_will_be)
{
	begin(NULL);
	UNTIL(master.up);
	put_material("the access log");
	master_level(&master, LOG_L_DEBUG);
	master_access(&master, dup(material_fd));
	ask_until_told(0);
	ask_until_told(1);
	shared[1].access[0] = '\0';
	shared[1].level = 0;
	kill(shared[1].pid, SIGKILL);
	UNTIL(master.crashed == 1);
	ask_until_told(1);
	end();
	log_set_level(LOG_L_INFO);
}

CASE(rows_that_cannot_be_meant_end_that_worker)
{
	static const struct {
		size_t len;
		const char *why;
	} bad[] = {
		{ sizeof(struct conn_row) - 8, "it listed half a connection" },
		{ sizeof(struct conn_row) + 1, "it listed half a connection" },
	};
	struct master_ask a = { 0 };
	char raw[64], line[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		begin(NULL);
		answers = 0;
		UNTIL(master.up);
		master_rows(&master, &a, on_answer);
		UNTIL(answers == 1);
		snprintf(raw, sizeof(raw), "raw rows %u 0 1 %zu", ORDER_LISTED, bad[i].len);
		close(order_to(1, raw));
		UNTIL(master.crashed == 1);
		snprintf(line, sizeof(line), " was killed: %s", bad[i].why);
		CHECK(logged(line));
		end();
	}
	begin(NULL); /* an answer to what was answered long ago is no fault by itself */
	answers = 0;
	UNTIL(master.up);
	master_rows(&master, &a, on_answer);
	UNTIL(answers == 1);
	snprintf(raw, sizeof(raw), "raw rows %u 0 1 %zu", ORDER_LISTED, sizeof(struct conn_row));
	close(order_to(1, raw));
	master_rows(&master, &a, on_answer);
	UNTIL(answers == 2);
	CHECK_INT(a.missing, 0);
	CHECK_INT(master.crashed, 0);
	end();
}

CASE(a_list_has_ends_as_have_its_texts)
{
	struct order o = { .verb = ORDER_LISTED };
	struct master_ask a = { 0 };
	struct conn_row row;
	size_t one, between;

	answers = 0;
	begin(NULL);
	UNTIL(master.up);
	master_rows(&master, &a, on_answer);
	o.id = a.id;
	for (size_t i = 0; i < 5; i++) {
		static const size_t end_of[] = { offsetof(struct conn_row, iface),
			offsetof(struct conn_row, peer), offsetof(struct conn_row, state),
			offsetof(struct conn_row, tls), offsetof(struct conn_row, in) };
		const char *wrong;

		memset(&row, 0, sizeof(row));
		memset((char *)&row + (i ? end_of[i - 1] : 0), 'x',
		    end_of[i] - (i ? end_of[i - 1] : 0));
		wrong = heard_listed(&master.worker[0], &o, (char *)&row, sizeof(row));
		CHECK_STR(wrong, "it listed a connection with an endless text");
	}
	memset(&row, 0, sizeof(row));
	for (int i = 0; i < ROWS_MAX; i++)
		CHECK(!heard_listed(&master.worker[0], &o, (char *)&row, sizeof(row)));
	CHECK(!a.full);
	CHECK(!heard_listed(&master.worker[0], &o, (char *)&row, sizeof(row)));
	CHECK(a.full);
	one = strcspn(a.rows.at, "}") + 1; /* all are alike; a sanitizer's strstr would be slow */
	between = strcspn(a.rows.at + one, "{");
	CHECK_INT(a.rows.len, ROWS_MAX * (one + between) - between);
	o.flags = LISTED_ALL;
	CHECK(!heard_listed(&master.worker[0], &o, NULL, 0));
	CHECK_STR(heard_listed(&master.worker[0], &o, NULL, 0), "it answered a question twice");
	master_unask(&a);
	text_free(&a.rows);
	end();
}

static void
say_note(int fd, struct note *note)
{
	static char bytes[NOTE_MAX];
	struct handoff_out out = { .bytes = bytes, .fd = -1 };

	out.len = (size_t)note_print(note, NULL, bytes, sizeof(bytes));
	CHECK_INT(handoff_send(fd, &out, 1), 1);
}

CASE(a_consumer_that_leaves_properly_ends_all_workers_with_0_also_who_never_knew_it)
{
	char fd_spec[16];
	int pair[2];

	CHECK_INT(handoff_pair(pair), 0);
	snprintf(fd_spec, sizeof(fd_spec), "fd:%d", pair[0]);
	begin(&(struct test){ .sink = fd_spec });
	UNTIL(link_to(0) && link_to(1));
	say_note(pair[1], &(struct note){ .verb = NOTE_HELLO,
			      .version = NOTE_VERSION,
			      .role = NOTE_CONSUMER,
			      .modes = NOTE_TAKE,
			      .tool = "test" });
	say_note(pair[1], &(struct note){ .verb = NOTE_DRAIN });
	close(pair[1]);
	UNTIL(done);
	CHECK_INT(done_status, 0);
	CHECK_INT(handoff_dial(path), -ENOENT); /* nobody is let in any more */
	CHECK(!logged("warn:"));
	end();
}

CASE(a_name_that_cannot_be_opened_is_said_and_nothing_is_left)
{
	char msg[256] = "";

	test = (struct test){ .unsourced = true };
	begin_loop();
	CHECK_INT(mkdir(path, 0700), 0);
	CHECK_INT(begin_master(msg, sizeof(msg)), -EADDRINUSE);
	CHECK(strstr(msg, "--from") && strstr(msg, path));
	CHECK_INT(children.live, 0);
	CHECK_INT(rmdir(path), 0);
	end();
}

/* The master is a process of its own here; that its workers have ended is the end of the pipe that
 * is their standard output. */
CASE(when_the_master_is_killed_its_workers_know)
{
	int out[2], fd;
	char byte;
	pid_t pid;

	CHECK(pipe2(out, O_CLOEXEC) == 0);
	memset(shared, 0, WORKERS * sizeof(*shared));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], 1);
		begin(NULL);
		close(order_to(0, "hold"));
		UNTIL(master.up && master_live(&master) == 1);
		unlink(path);
		rmdir(dir);
		raise(SIGKILL);
	}
	close(out[1]);
	CHECK(waitpid(pid, NULL, 0) == pid);
	while ((fd = (int)read(out[0], &byte, 1)) == 1)
		;
	CHECK_INT(fd, 0);
	CHECK_INT(shared[0].lost, 1);
	CHECK_INT(shared[1].lost, 1);
	close(out[0]);
}

int
main(void)
{
	alarm(60);
	signal(SIGPIPE, SIG_IGN);
	log_open("test", false);
	shared = mmap(NULL, WORKERS * sizeof(*shared), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return check_main((struct check_case[]){
	    RUN(a_worker_begins_with_nothing_of_ours_and_links_are_shared_out),
	    RUN(a_killed_worker_is_told_of_with_what_it_had_and_started_again),
	    RUN(what_the_sandbox_forbids_is_said_by_name_and_the_back_off_doubles),
	    RUN(an_order_that_cannot_be_meant_ends_that_worker_and_no_other),
	    RUN(a_command_runs_for_a_worker_with_its_environment_and_its_status_goes_back),
	    RUN(a_cgi_program_has_its_request_and_nothing_else_besides),
	    RUN(a_command_is_killed_for_its_worker),
	    RUN(a_command_that_cannot_be_run_is_told_later),
	    RUN(a_command_is_hung_up_by_its_worker_and_when_that_dies),
	    RUN(a_command_that_was_abandoned_runs_on_and_its_end_is_told_to_nobody),
	    RUN(a_worker_that_wants_more_commands_at_once_than_it_may_is_killed),
	    RUN(material_goes_to_every_worker_when_it_changes_and_to_each_new_one),
	    RUN(workers_are_asked_for_rows_gauges_and_cuts),
	    RUN(a_stopped_worker_is_waited_for_and_then_missing),
	    RUN(a_dead_workers_counters_stay_and_its_gauges_go),
	    RUN(the_level_and_the_access_log_reach_every_worker_that_is_or_will_be),
	    RUN(rows_that_cannot_be_meant_end_that_worker),
	    RUN(a_list_has_ends_as_have_its_texts),
	    RUN(a_drain_ends_with_the_first_status_that_is_not_0),
	    RUN(who_waits_to_be_started_again_is_not_when_there_is_a_drain),
	    RUN(while_nobody_is_there_links_wait),
	    RUN(now_ends_them_and_who_does_not_is_killed),
	    RUN(who_closes_its_channel_and_does_not_end_is_killed),
	    RUN(a_worker_that_cannot_begin_ends_the_master_with_its_status),
	    RUN(when_every_source_is_over_the_workers_end_and_so_does_the_master),
	    RUN(a_name_that_we_dial_has_a_link_for_each_worker_also_after_one_died),
	    RUN(a_consumer_that_leaves_properly_ends_all_workers_with_0_also_who_never_knew_it),
	    RUN(a_name_that_cannot_be_opened_is_said_and_nothing_is_left),
	    RUN(when_the_master_is_killed_its_workers_know),
	    { 0 },
	});
}
