/* A link's name becomes connected sockets: nothing is said on them here, and nobody's hello is
 * waited for. */
#include "flow/name.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/fds.h"
#include "base/log.h"
#include "check.h"
#include "net/socket.h"

static struct reactor *loop;
static char dir[] = "/tmp/ccf-test-XXXXXX";

struct side { /* a name, and what it told */
	struct name name;
	char spec[160];
	int fd[NAME_LINKS_MAX];
	unsigned took;
	int fails; /* what take() answers, if not 0 */
	int over;
	bool at_once;
};

static struct side producer, consumer;
static char msg[256];

static const char *
in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static int
descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int
told_take(struct name *n, int fd)
{
	struct side *s = n->cfg.owner;

	CHECK_INT(socket_kind(fd), SOCK_SEQPACKET);
	if (s->fails || s->took == NAME_LINKS_MAX) {
		CHECK(s->fails != 0);
		close(fd);
		return s->fails;
	}
	s->fd[s->took++] = fd;
	return 0;
}

static void
told_over(struct name *n, bool at_once)
{
	struct side *s = n->cfg.owner;

	CHECK_INT(s->over++, 0);
	s->at_once = at_once;
}

static const struct name_ops ops = { .take = told_take, .over = told_over };

static void
start(void)
{
	log_open("name", false);
	log_set_level(LOG_L_ERROR);
	CHECK_INT(reactor_new(&loop), 0);
}

static int
side_open(struct side *s, unsigned role, const char *spec, unsigned links)
{
	struct name_config cfg = { .reactor = loop,
		.option = "--link",
		.spec = s->spec,
		.role = role,
		.links = links,
		.socket_mode = 0600,
		.socket_group = (gid_t)-1,
		.peer_user = (uid_t)-1,
		.ops = &ops,
		.owner = s };

	memset(s, 0, sizeof(*s));
	snprintf(s->spec, sizeof(s->spec), "%s", spec);
	return name_open(&s->name, &cfg, msg, sizeof(msg));
}

static void
side_close(struct side *s)
{
	name_close(&s->name);
	while (s->took > 0)
		close(s->fd[--s->took]);
}

static void
finish(struct side *a, struct side *b)
{
	side_close(a);
	if (b)
		side_close(b);
	reactor_free(loop);
}

static void
turns(int n)
{
	while (n-- > 0)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

/* The link that was taken last ends. */
static void
end_one(struct side *s, struct name_end end)
{
	close(s->fd[--s->took]);
	name_gone(&s->name, &end);
}

/* How long until it dials; -1: it will not. */
static int64_t
dials_in(const struct side *s)
{
	return s->name.dial.slot ? s->name.dial.at - reactor_now(loop) : -1;
}

/* The time has come, whatever the clock says. */
static void
fire(struct timer *t)
{
	reactor_timer(loop, t, CLOCK_NEVER);
	t->fire(t);
}

/* ---- bound and dialled ---- */

CASE(who_binds_takes_whoever_dials)
{
	int a, b;

	start();
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	CHECK_INT(producer.name.how, NAME_BINDS);
	CHECK_STR(name_token(&producer.name), "");
	CHECK_STR(name_path(&producer.name), in_dir("a"));
	a = handoff_dial(in_dir("a"));
	b = handoff_dial(in_dir("a"));
	turns(2);
	CHECK_INT(producer.took, 2);
	CHECK_INT(producer.name.n, 2);
	end_one(&producer, (struct name_end){ .greeted = true });
	end_one(&producer, (struct name_end){ .broken = true });
	CHECK_INT(producer.name.n, 0);
	CHECK_INT(producer.over, 0); /* others may come, for ever */
	CHECK_INT(dials_in(&producer), -1);
	close(a);
	close(b);
	finish(&producer, NULL);
	CHECK_INT(access(in_dir("a"), F_OK), -1);
}

CASE(a_prefix_turns_round_who_binds)
{
	char spec[160];

	start();
	snprintf(spec, sizeof(spec), "bind:%s", in_dir("a"));
	CHECK_INT(side_open(&consumer, NOTE_CONSUMER, spec, 1), 0);
	snprintf(spec, sizeof(spec), "dial:%s", in_dir("a"));
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, spec, 1), 0);
	turns(2);
	CHECK_INT(consumer.name.how, NAME_BINDS);
	CHECK_INT(producer.name.how, NAME_DIALS);
	CHECK_INT(consumer.took, 1);
	CHECK_INT(producer.took, 1);
	finish(&producer, &consumer);
}

CASE(more_than_the_most_are_closed)
{
	int fd[NAME_LINKS_MAX + 2];
	char c;

	start();
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	for (int i = 0; i < NAME_LINKS_MAX + 2; i++) {
		fd[i] = handoff_dial(in_dir("a"));
		turns(1);
	}
	turns(2);
	CHECK_INT(producer.took, NAME_LINKS_MAX);
	CHECK_INT(producer.name.n, NAME_LINKS_MAX);
	CHECK(producer.name.refused);
	CHECK_INT(read(fd[NAME_LINKS_MAX], &c, 1), 0);
	CHECK_INT(read(fd[NAME_LINKS_MAX + 1], &c, 1), 0);
	CHECK_INT(read(fd[0], &c, 1), -1);
	for (int i = 0; i < NAME_LINKS_MAX + 2; i++)
		close(fd[i]);
	finish(&producer, NULL);
}

CASE(another_user_is_closed_before_he_is_taken)
{
	pid_t child;
	int status;

	if (geteuid() != 0)
		SKIP("takes another user");
	start();
	CHECK_INT(chmod(dir, 0711), 0);
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	CHECK_INT(chmod(in_dir("a"), 0666), 0);
	for (int i = 0; i < 2; i++) {
		child = fork();
		if (child == 0)
			_exit(setuid(65534) == 0 && handoff_dial(in_dir("a")) >= 0 ? 0 : 1);
		CHECK_INT(waitpid(child, &status, 0), child);
		CHECK_INT(status, 0);
		turns(1);
		CHECK_INT(producer.took, i);
		producer.name.cfg.peer_user = 65534;
	}
	finish(&producer, NULL);
}

CASE(who_finds_nobody_waits_twice_as_long_each_time)
{
	static const int wait[] = { 50, 100, 200, 400, 800, 1600, 2000, 2000 };

	start();
	CHECK_INT(side_open(&consumer, NOTE_CONSUMER, in_dir("a"), 1), 0);
	for (size_t i = 0; i < sizeof(wait) / sizeof(wait[0]); i++) {
		CHECK_INT(dials_in(&consumer), wait[i]);
		fire(&consumer.name.dial);
	}
	CHECK(consumer.name.missed);
	CHECK_INT(consumer.took, 0);
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	fire(&consumer.name.dial);
	turns(1);
	CHECK_INT(consumer.took, 1);
	CHECK_INT(producer.took, 1);
	CHECK_INT(dials_in(&consumer), -1);
	finish(&producer, &consumer);
}

CASE(when_a_link_ends_how_it_went_says_how_soon_it_is_dialled_again)
{
	start();
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	CHECK_INT(side_open(&consumer, NOTE_CONSUMER, in_dir("a"), 1), 0);
	name_greeted(&consumer.name, 0);
	end_one(&consumer, (struct name_end){ .greeted = true });
	CHECK_INT(dials_in(&consumer), 25);
	fire(&consumer.name.dial);
	CHECK_INT(consumer.took, 1);
	end_one(&consumer, (struct name_end){ 0 }); /* without a word */
	CHECK_INT(dials_in(&consumer), 50);
	CHECK(consumer.name.missed);
	fire(&consumer.name.dial);
	end_one(&consumer, (struct name_end){ 0 });
	CHECK_INT(dials_in(&consumer), 100);
	fire(&consumer.name.dial);
	name_greeted(&consumer.name, 0);
	CHECK(!consumer.name.missed);
	end_one(&consumer, (struct name_end){ .greeted = true, .broken = true });
	CHECK_INT(dials_in(&consumer), 2000);
	CHECK_INT(consumer.over, 0);
	finish(&producer, &consumer);
}

CASE(three_workers_have_three_links_and_the_other_side_may_ask_for_more)
{
	start();
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	CHECK_INT(side_open(&consumer, NOTE_CONSUMER, in_dir("a"), 3), 0);
	turns(2);
	CHECK_INT(consumer.took, 3);
	CHECK_INT(producer.took, 3);
	name_greeted(&consumer.name, 2); /* fewer than ours */
	CHECK_INT(dials_in(&consumer), -1);
	end_one(&consumer, (struct name_end){ .greeted = true });
	CHECK_INT(consumer.name.n, 2);
	fire(&consumer.name.dial);
	CHECK_INT(consumer.took, 3);
	name_greeted(&consumer.name, 5);
	CHECK_INT(dials_in(&consumer), 0);
	fire(&consumer.name.dial);
	CHECK_INT(consumer.took, 5);
	name_greeted(&producer.name, 5); /* who binds dials nobody */
	CHECK_INT(dials_in(&producer), -1);
	name_greeted(&consumer.name, 1000);
	CHECK_INT(consumer.name.wanted, NAME_LINKS_MAX);
	finish(&producer, &consumer);
}

CASE(a_link_that_could_not_be_taken_is_not_counted)
{
	int fds;

	start();
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	CHECK_INT(side_open(&consumer, NOTE_CONSUMER, in_dir("none"), 1), 0);
	fds = descriptors();
	producer.fails = consumer.fails = -ENOMEM;
	strcpy(consumer.name.bound.path, in_dir("a"));
	fire(&consumer.name.dial);
	CHECK_INT(dials_in(&consumer), 100);
	turns(1);
	CHECK_INT(consumer.name.n, 0);
	CHECK_INT(producer.name.n, 0);
	CHECK_INT(descriptors(), fds);
	consumer.fails = 0;
	fire(&consumer.name.dial);
	CHECK_INT(consumer.name.n, 1);
	finish(&producer, &consumer);
}

CASE(without_a_descriptor_a_link_waits_until_there_is_one)
{
	struct rlimit was, now;
	int fd;

	start();
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	fd = handoff_dial(in_dir("a"));
	CHECK_INT(getrlimit(RLIMIT_NOFILE, &was), 0);
	now = was;
	now.rlim_cur = (rlim_t)fd; /* the lowest that was free */
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &now), 0);
	turns(2);
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &was), 0);
	CHECK_INT(producer.took, 0);
	turns(2);
	CHECK_INT(producer.took, 0); /* it does not spin */
	CHECK(producer.name.tick.slot != 0);
	fire(&producer.name.tick);
	turns(2);
	CHECK_INT(producer.took, 1);
	close(fd);
	finish(&producer, NULL);
}

CASE(who_has_stopped_binds_and_dials_no_more)
{
	start();
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	CHECK_INT(side_open(&consumer, NOTE_CONSUMER, in_dir("a"), 1), 0);
	turns(1);
	name_stop(&producer.name);
	CHECK_INT(access(in_dir("a"), F_OK), -1);
	CHECK(handoff_dial(in_dir("a")) < 0);
	name_stop(&consumer.name);
	name_greeted(&consumer.name, 4);
	end_one(&consumer, (struct name_end){ .greeted = true });
	end_one(&producer, (struct name_end){ .greeted = true });
	CHECK_INT(dials_in(&consumer), -1);
	CHECK_INT(consumer.over + producer.over, 0);
	CHECK_INT(consumer.name.n + producer.name.n, 0);
	finish(&producer, &consumer);
}

/* ---- the ticket ---- */

static int pipe_kept[2] = { -1, -1 }; /* our 0 and 1, while the pipe has their place */

static void
standard(int at, int fd)
{
	pipe_kept[at] = fcntl(at, F_DUPFD_CLOEXEC, 3);
	fflush(stdout);
	CHECK_INT(dup2(fd, at), at);
	close(fd);
}

static void
standard_back(int at)
{
	CHECK_INT(dup2(pipe_kept[at], at), at);
	fds_close(&pipe_kept[at]);
}

/* A consumer on a pipe; returns the end that is written to. */
static int
reads_ticket(void)
{
	int fd[2];

	start();
	CHECK_INT(pipe2(fd, O_CLOEXEC), 0);
	standard(0, fd[0]);
	CHECK_INT(side_open(&consumer, NOTE_CONSUMER, "-", 1), 0);
	CHECK_INT(consumer.name.how, NAME_READS_TICKET);
	return fd[1];
}

/* One that makes a ticket, too; its standard output is not ours for long. */
static void
both_by_ticket(int *ret_written)
{
	int out = reads_ticket();

	standard(1, out);
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, "-", 1), 0);
	CHECK_INT(producer.name.how, NAME_BINDS);
	out = fcntl(1, F_DUPFD_CLOEXEC, 3);
	standard_back(1); /* checks speak there */
	reactor_forget(loop, &producer.name.pipe_watch);
	reactor_watch(loop, &producer.name.pipe_watch, out, producer.name.pipe_watch.ready);
	reactor_want(loop, &producer.name.pipe_watch, WATCH_HUP);
	producer.name.pipe = out;
	turns(TICKET_MAX);
	*ret_written = out;
}

CASE(a_ticket_says_where_the_link_is)
{
	char path[sizeof(producer.name.ticket.path)];
	struct stat st;
	int out;

	both_by_ticket(&out);
	CHECK(consumer.name.ticketed && producer.name.ticketed);
	CHECK_INT(strlen(name_token(&producer.name)), 32);
	CHECK_STR(name_token(&consumer.name), name_token(&producer.name));
	CHECK_STR(name_path(&consumer.name), name_path(&producer.name));
	CHECK_INT(consumer.took, 1);
	CHECK_INT(producer.took, 1);
	snprintf(path, sizeof(path), "%s", name_path(&producer.name));
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(st.st_mode & 0777, 0666);

	end_one(&consumer, (struct name_end){ .greeted = true });
	CHECK_INT(consumer.over, 0); /* the pipe lives: it is dialled again */
	fire(&consumer.name.dial);
	turns(2);
	CHECK_INT(consumer.took, 1);
	CHECK_INT(producer.took, 2);
	side_close(&producer);
	CHECK_INT(stat(path, &st), -1);
	*strrchr(path, '/') = '\0';
	CHECK_INT(stat(path, &st), -1);
	close(out);
	side_close(&consumer);
	reactor_free(loop);
	standard_back(0);
}

CASE(the_end_of_the_pipe_is_the_end_and_a_consumers_links_end_by_themselves)
{
	int out;

	both_by_ticket(&out);
	reactor_forget(loop, &producer.name.pipe_watch);
	close(out);
	turns(2);
	CHECK_INT(consumer.over, 1);
	CHECK(!consumer.at_once);
	CHECK_INT(consumer.name.status, 0);
	end_one(&consumer, (struct name_end){ .greeted = true });
	CHECK_INT(dials_in(&consumer), -1);
	finish(&producer, &consumer);
	standard_back(0);
}

CASE(when_nobody_reads_the_ticket_any_more_the_producers_links_have_ended_too)
{
	int out;

	both_by_ticket(&out);
	name_stop(&consumer.name);
	reactor_forget(loop, &consumer.name.pipe_watch);
	standard_back(0); /* the last reader */
	turns(2);
	CHECK_INT(producer.over, 1);
	CHECK(producer.at_once);
	CHECK(handoff_dial(name_path(&producer.name)) < 0);
	turns(2);
	finish(&producer, &consumer);
	close(out);
}

CASE(what_is_no_ticket_ends_it_and_says_why)
{
	int out = reads_ticket();

	CHECK_INT(write(out, "hello\n", 6), 6);
	turns(6);
	CHECK_INT(consumer.over, 1);
	CHECK(consumer.at_once);
	CHECK_INT(consumer.name.status, CCF_PROTOCOL);
	close(out);
	turns(1);
	finish(&consumer, NULL);
	standard_back(0);

	out = reads_ticket();
	CHECK_INT(write(out, "ccf-hand", 8), 8);
	close(out);
	turns(10);
	CHECK_INT(consumer.over, 1);
	CHECK_INT(consumer.name.status, CCF_UNAVAILABLE);
	finish(&consumer, NULL);
	standard_back(0);
}

CASE(a_ticket_that_comes_after_the_stop_is_not_followed)
{
	int out = reads_ticket();
	char line[TICKET_MAX];
	int len;

	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	len = snprintf(line, sizeof(line), "ccf-handoff 1 %032d %s\n", 0, in_dir("a"));
	name_stop(&consumer.name);
	CHECK_INT(write(out, line, (size_t)len), len);
	turns(len + 1);
	CHECK(!consumer.name.ticketed);
	CHECK_INT(consumer.took, 0);
	CHECK_INT(consumer.over, 0);
	close(out);
	finish(&producer, &consumer);
	standard_back(0);
}

/* ---- fd:N ---- */

CASE(an_inherited_socket_is_the_one_link)
{
	char spec[16];
	int fd[2];

	for (int i = 0; i < 2; i++) {
		start();
		CHECK_INT(handoff_pair(fd), 0);
		snprintf(spec, sizeof(spec), "fd:%d", fd[0]);
		CHECK_INT(side_open(&consumer, NOTE_CONSUMER, spec, 3), 0);
		CHECK_INT(consumer.name.how, NAME_HAS_FD);
		CHECK_INT(consumer.took, 1);
		CHECK_INT(fcntl(fd[0], F_GETFD), -1); /* no second copy */
		CHECK_STR(name_token(&consumer.name), "");
		name_greeted(&consumer.name, 4);
		CHECK_INT(dials_in(&consumer), -1);
		if (i == 1)
			name_stop(&consumer.name);
		end_one(&consumer, (struct name_end){ .greeted = true });
		CHECK_INT(consumer.over, i == 0);
		CHECK_INT(consumer.at_once, i == 0);
		close(fd[1]);
		finish(&consumer, NULL);
	}
}

CASE(an_inherited_socket_that_cannot_be_taken_stays)
{
	struct name_config cfg = {
		.option = "--link", .role = NOTE_CONSUMER, .ops = &ops, .owner = &consumer
	};
	int fd[2];

	start();
	CHECK_INT(handoff_pair(fd), 0);
	memset(&consumer, 0, sizeof(consumer));
	snprintf(consumer.spec, sizeof(consumer.spec), "fd:%d", fd[0]);
	consumer.fails = -ENOMEM;
	cfg.reactor = loop;
	cfg.spec = consumer.spec;
	CHECK_INT(name_open(&consumer.name, &cfg, msg, sizeof(msg)), -ENOMEM);
	CHECK(strstr(msg, "memory") != NULL);
	CHECK(fcntl(fd[0], F_GETFD) != -1);
	CHECK_INT(consumer.over, 0);
	close(fd[0]);
	close(fd[1]);
	finish(&consumer, NULL);
}

/* ---- what cannot be opened ---- */

CASE(what_is_no_name_says_what_to_write)
{
	static const struct {
		const char *spec, *says;
	} bad[] = {
		{ "fd:x", "number of a descriptor" },
		{ "fd:-1", "number of a descriptor" },
		{ "fd:2", "not a SEQPACKET socket" },
		{ "", "1 to 107 bytes" },
		{ "dial:", "1 to 107 bytes" },
		{ "bind:", "1 to 107 bytes" },
	};
	char path[120];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_INT(
		    name_check("--link", bad[i].spec, NOTE_CONSUMER, msg, sizeof(msg)), -EINVAL);
		CHECK(strstr(msg, bad[i].says) != NULL);
	}
	memset(path, 'x', 108);
	path[108] = '\0';
	CHECK_INT(name_check("--link", path, NOTE_CONSUMER, msg, sizeof(msg)), -EINVAL);
	path[107] = '\0';
	CHECK_INT(name_check("--link", path, NOTE_CONSUMER, msg, sizeof(msg)), 0);
}

CASE(a_name_that_another_has_is_not_bound)
{
	int fds;

	start();
	CHECK_INT(side_open(&producer, NOTE_PRODUCER, in_dir("a"), 1), 0);
	fds = descriptors();
	CHECK_INT(side_open(&consumer, NOTE_PRODUCER, in_dir("a"), 1), -EADDRINUSE);
	CHECK(strstr(msg, "another tool listens there") != NULL);
	CHECK_INT(descriptors(), fds);
	finish(&producer, NULL);
}

int
main(void)
{
	int bad;

	CHECK(mkdtemp(dir) != NULL);
	setenv("TMPDIR", dir, 1);
	unsetenv("XDG_RUNTIME_DIR");
	bad = check_main((struct check_case[]){
	    RUN(who_binds_takes_whoever_dials),
	    RUN(a_prefix_turns_round_who_binds),
	    RUN(more_than_the_most_are_closed),
	    RUN(another_user_is_closed_before_he_is_taken),
	    RUN(who_finds_nobody_waits_twice_as_long_each_time),
	    RUN(when_a_link_ends_how_it_went_says_how_soon_it_is_dialled_again),
	    RUN(three_workers_have_three_links_and_the_other_side_may_ask_for_more),
	    RUN(a_link_that_could_not_be_taken_is_not_counted),
	    RUN(without_a_descriptor_a_link_waits_until_there_is_one),
	    RUN(who_has_stopped_binds_and_dials_no_more),
	    RUN(a_ticket_says_where_the_link_is),
	    RUN(the_end_of_the_pipe_is_the_end_and_a_consumers_links_end_by_themselves),
	    RUN(when_nobody_reads_the_ticket_any_more_the_producers_links_have_ended_too),
	    RUN(what_is_no_ticket_ends_it_and_says_why),
	    RUN(a_ticket_that_comes_after_the_stop_is_not_followed),
	    RUN(an_inherited_socket_is_the_one_link),
	    RUN(an_inherited_socket_that_cannot_be_taken_stays),
	    RUN(what_is_no_name_says_what_to_write),
	    RUN(a_name_that_another_has_is_not_bound),
	    { 0 },
	});
	CHECK_INT(rmdir(dir), 0);
	return bad || check_failed;
}
