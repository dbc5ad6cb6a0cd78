/* reactor: each rule of the loop.  epoll_ctl is counted by standing in for it; wake-ups are counted
 * in turns.  A case that hangs is ended by the alarm. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "check.h"
#include "loop/reactor.h"

static unsigned ctl_calls;

int
epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	ctl_calls++;
	return (int)syscall(SYS_epoll_ctl, epfd, op, fd, ev);
}

struct probe {
	struct watch watch;
	unsigned calls;
	uint32_t got;
	void (*then)(struct probe *);
};

static struct reactor *r;
static struct probe a, b, c;

static void
probe_ready(struct watch *w, uint32_t got)
{
	struct probe *p = (struct probe *)(void *)w; /* its first member */

	p->calls++;
	p->got = got;
	if (p->then)
		p->then(p);
}

static void
begin(void)
{
	a = b = c = (struct probe){ 0 };
	CHECK_INT(reactor_new(&r), 0);
}

static void
end(void)
{
	reactor_forget(r, &a.watch);
	reactor_forget(r, &b.watch);
	reactor_forget(r, &c.watch);
	reactor_free(r);
}

static void
watch(struct probe *p, int fd, uint32_t want)
{
	reactor_watch(r, &p->watch, fd, probe_ready);
	reactor_want(r, &p->watch, want);
}

static void
pair(int sv[2])
{
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) == 0);
}

static void
close_pair(int sv[2])
{
	close(sv[0]);
	close(sv[1]);
}

/* A TCP connection whose far end was just reset. */
static int
reset_connection(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	struct linger hard = { .l_onoff = 1 };
	int l = socket(AF_INET, SOCK_STREAM, 0), s = socket(AF_INET, SOCK_STREAM, 0), near;
	struct pollfd p = { .events = POLLIN };

	CHECK(bind(l, (struct sockaddr *)&sin, len) == 0 && listen(l, 1) == 0);
	CHECK(getsockname(l, (struct sockaddr *)&sin, &len) == 0);
	CHECK(connect(s, (struct sockaddr *)&sin, len) == 0);
	near = p.fd = accept(l, NULL, NULL);
	setsockopt(s, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(s);
	close(l);
	CHECK(poll(&p, 1, -1) == 1 && (p.revents & POLLERR));
	return near;
}

static void
count_fire(struct timer *t)
{
	(void)t;
	reactor_stop(r);
}

/* Turns that wait, until a timer ends them: with nothing to report there is one, two if the clock
 * is read on the edge of a millisecond. */
static unsigned
turns_until_timer(void)
{
	struct timer t = { .fire = count_fire };
	unsigned turns = 0;

	CHECK_INT(reactor_timer(r, &t, clock_ms() + 20), 0);
	do {
		CHECK_INT(reactor_turn(r, -1), 0);
	} while (turns++ < 1000 && t.slot);
	return turns;
}

CASE(what_is_wanted_is_reported_and_nothing_else)
{
	int sv[2];

	begin();
	pair(sv);
	watch(&a, sv[0], WATCH_READ);
	reactor_turn(r, 0);
	CHECK_INT(a.calls, 0);
	CHECK(write(sv[1], "x", 1) == 1);
	reactor_turn(r, -1);
	CHECK_INT(a.calls, 1);
	CHECK_INT(a.got, WATCH_READ);
	reactor_want(r, &a.watch, WATCH_READ | WATCH_WRITE);
	reactor_turn(r, -1);
	CHECK_INT(a.got, WATCH_READ | WATCH_WRITE);
	reactor_want(r, &a.watch, WATCH_WRITE);
	reactor_turn(r, -1);
	CHECK_INT(a.got, WATCH_WRITE);
	end();
	close_pair(sv);
}

CASE(interest_is_applied_once_just_before_the_wait)
{
	int sv[2];

	begin();
	pair(sv);
	ctl_calls = 0;
	watch(&a, sv[0], WATCH_READ);
	reactor_want(r, &a.watch, 0);
	reactor_turn(r, 0);
	CHECK_INT(ctl_calls, 0);
	reactor_want(r, &a.watch, WATCH_READ);
	reactor_want(r, &a.watch, WATCH_WRITE);
	reactor_want(r, &a.watch, WATCH_READ);
	CHECK_INT(ctl_calls, 0);
	reactor_turn(r, 0);
	CHECK_INT(ctl_calls, 1);
	reactor_want(r, &a.watch, WATCH_READ | WATCH_WRITE);
	reactor_want(r, &a.watch, WATCH_READ);
	reactor_want(r, &a.watch, WATCH_READ);
	reactor_turn(r, 0);
	CHECK_INT(ctl_calls, 1);
	reactor_want(r, &a.watch, WATCH_WRITE);
	reactor_turn(r, 0);
	CHECK_INT(ctl_calls, 2);
	reactor_want(r, &a.watch, 0);
	reactor_turn(r, 0);
	CHECK_INT(ctl_calls, 3);
	reactor_forget(r, &a.watch);
	CHECK_INT(ctl_calls, 3);
	end();
	close_pair(sv);
}

CASE(a_reset_connection_that_wants_nothing_wakes_nobody)
{
	int fd;

	begin();
	fd = reset_connection();
	watch(&a, fd, WATCH_READ);
	reactor_turn(r, -1);
	CHECK_INT(a.calls, 1);
	CHECK_INT(a.got, WATCH_READ | WATCH_HUP | WATCH_ERR);
	reactor_want(r, &a.watch, 0);
	CHECK(turns_until_timer() <= 2);
	CHECK_INT(a.calls, 1);
	end();
	close(fd);
}

CASE(hup_alone_is_told_of_a_reset_and_a_hang_up_but_not_of_a_fin)
{
	int fd, sv[2];

	begin();
	fd = reset_connection();
	pair(sv);
	watch(&a, fd, WATCH_HUP);
	watch(&b, sv[0], WATCH_HUP);
	CHECK(write(sv[1], "x", 1) == 1);
	reactor_turn(r, -1);
	CHECK_INT(a.got, WATCH_HUP | WATCH_ERR);
	CHECK_INT(b.calls, 0);
	reactor_forget(r, &a.watch);
	shutdown(sv[1], SHUT_WR);
	CHECK(turns_until_timer() <= 2);
	CHECK_INT(b.calls, 0);
	close(sv[1]);
	reactor_turn(r, -1);
	CHECK_INT(b.got, WATCH_HUP);
	end();
	close(fd);
	close(sv[0]);
}

CASE(an_edge_is_told_once_and_again_when_more_comes_or_interest_changes)
{
	int sv[2];

	begin();
	pair(sv);
	watch(&a, sv[0], WATCH_READ | WATCH_EDGE);
	CHECK(write(sv[1], "x", 1) == 1);
	reactor_turn(r, -1);
	CHECK_INT(a.got, WATCH_READ);
	CHECK(turns_until_timer() <= 2);
	CHECK_INT(a.calls, 1);
	CHECK(write(sv[1], "y", 1) == 1);
	reactor_turn(r, -1);
	CHECK_INT(a.calls, 2);
	reactor_want(r, &a.watch, 0);
	reactor_turn(r, 0);
	reactor_want(r, &a.watch, WATCH_READ | WATCH_EDGE);
	reactor_turn(r, -1);
	CHECK_INT(a.calls, 3);
	CHECK(turns_until_timer() <= 2);
	CHECK_INT(a.calls, 3);
	end();
	close(sv[0]);
	close(sv[1]);
}

CASE(an_error_wakes_a_writer_too)
{
	int fd;

	begin();
	fd = reset_connection();
	watch(&a, fd, WATCH_WRITE);
	reactor_turn(r, -1);
	CHECK_INT(a.got, WATCH_WRITE | WATCH_HUP | WATCH_ERR);
	end();
	close(fd);
}

CASE(files_are_always_ready_and_fair_next_to_a_socket)
{
	int sv[2], null = open("/dev/null", O_RDWR), file = open("/proc/self/exe", O_RDONLY);

	begin();
	pair(sv);
	CHECK(write(sv[1], "x", 1) == 1);
	watch(&a, file, WATCH_READ);
	watch(&b, null, WATCH_WRITE | WATCH_READ);
	watch(&c, sv[0], WATCH_READ);
	for (int i = 0; i < 10; i++)
		CHECK_INT(reactor_turn(r, -1), 0);
	CHECK_INT(a.calls, 10);
	CHECK_INT(b.calls, 10);
	CHECK_INT(c.calls, 10);
	CHECK_INT(a.got, WATCH_READ);
	CHECK_INT(b.got, WATCH_READ | WATCH_WRITE);
	end();
	close_pair(sv);
	close(null);
	close(file);
}

CASE(a_file_that_wants_nothing_does_not_spin)
{
	int null = open("/dev/null", O_RDWR);

	begin();
	watch(&a, null, WATCH_READ);
	reactor_turn(r, -1);
	CHECK_INT(a.calls, 1);
	reactor_want(r, &a.watch, 0);
	CHECK(turns_until_timer() <= 2);
	reactor_want(r, &a.watch, WATCH_HUP); /* which it never does */
	CHECK(turns_until_timer() <= 2);
	CHECK_INT(a.calls, 1);
	reactor_want(r, &a.watch, WATCH_WRITE);
	reactor_turn(r, -1);
	CHECK_INT(a.got, WATCH_WRITE);
	end();
	close(null);
}

static void
forget_b_and_c(struct probe *p)
{
	(void)p;
	reactor_forget(r, &b.watch);
	reactor_forget(r, &c.watch);
	reactor_forget(r, &a.watch);
	reactor_forget(r, &a.watch);
}

CASE(a_watch_forgotten_within_the_batch_is_not_reported)
{
	int x[2], y[2], z[2];

	begin();
	pair(x), pair(y), pair(z);
	CHECK(write(x[1], "x", 1) + write(y[1], "x", 1) + write(z[1], "x", 1) == 3);
	watch(&a, x[0], WATCH_READ);
	watch(&b, y[0], WATCH_READ);
	watch(&c, z[0], WATCH_READ);
	a.then = b.then = c.then = forget_b_and_c;
	reactor_turn(r, -1);
	CHECK_INT(a.calls + b.calls + c.calls, 1);
	CHECK(turns_until_timer() <= 2);
	end();
	close_pair(x), close_pair(y), close_pair(z);
}

CASE(a_file_forgotten_while_files_are_served_is_not_reported)
{
	int x = open("/dev/null", O_RDWR), y = open("/dev/null", O_RDWR),
	    z = open("/dev/null", O_RDWR);

	begin();
	watch(&a, x, WATCH_READ);
	watch(&b, y, WATCH_READ);
	watch(&c, z, WATCH_READ);
	a.then = b.then = c.then = forget_b_and_c;
	reactor_turn(r, -1);
	CHECK_INT(a.calls, 1);
	CHECK_INT(b.calls + c.calls, 0);
	CHECK(turns_until_timer() <= 2);
	end();
	close(x), close(y), close(z);
}

static void
unwant_all(struct probe *p)
{
	(void)p;
	reactor_want(r, &a.watch, 0);
	reactor_want(r, &b.watch, 0);
}

CASE(interest_dropped_within_the_batch_is_not_reported)
{
	int x[2], y[2];

	begin();
	pair(x), pair(y);
	CHECK(write(x[1], "x", 1) + write(y[1], "x", 1) == 2);
	watch(&a, x[0], WATCH_READ);
	watch(&b, y[0], WATCH_READ);
	a.then = b.then = unwant_all;
	reactor_turn(r, -1);
	CHECK_INT(a.calls + b.calls, 1);
	end();
	close_pair(x), close_pair(y);
}

static int spare_fd;

/* Whoever of the two comes first takes the other's number for a connection that has nothing to say.
 */
static void
reuse_number(struct probe *p)
{
	struct probe *other = p == &a ? &b : &a;
	int number = other->watch.fd;

	p->then = NULL;
	reactor_want(r, &p->watch, 0);
	reactor_forget(r, &other->watch);
	close(number);
	CHECK_INT(dup2(spare_fd, number), number);
	watch(&c, number, WATCH_READ);
}

CASE(a_number_closed_and_reused_within_the_batch_inherits_nothing)
{
	int x[2], y[2], z[2];

	begin();
	pair(x), pair(y), pair(z);
	spare_fd = z[0];
	CHECK(write(x[1], "x", 1) + write(y[1], "x", 1) == 2);
	watch(&a, x[0], WATCH_READ);
	watch(&b, y[0], WATCH_READ);
	a.then = b.then = reuse_number;
	reactor_turn(r, -1);
	CHECK_INT(a.calls + b.calls, 1);
	reactor_turn(r, 0);
	CHECK_INT(a.calls + b.calls, 1);
	CHECK_INT(c.calls, 0);
	CHECK(write(z[1], "x", 1) == 1);
	reactor_turn(r, -1);
	CHECK_INT(c.calls, 1);
	end();
	close_pair(x), close_pair(y), close_pair(z);
}

CASE(more_than_a_batch_is_served_fairly)
{
	enum { N = 150 };
	static struct probe many[N];
	static int sv[N][2];

	begin();
	for (int i = 0; i < N; i++) {
		pair(sv[i]);
		CHECK(write(sv[i][1], "x", 1) == 1);
		watch(&many[i], sv[i][0], WATCH_READ);
	}
	for (int i = 0; i < 6; i++)
		reactor_turn(r, -1);
	for (int i = 0; i < N; i++) {
		CHECK(many[i].calls >= 2);
		reactor_forget(r, &many[i].watch);
		close_pair(sv[i]);
	}
	end();
}

CASE(forgetting_is_legal_twice_and_on_a_zeroed_watch)
{
	int sv[2];

	begin();
	pair(sv);
	reactor_forget(r, &a.watch);
	reactor_want(r, &a.watch, WATCH_READ);
	watch(&a, sv[0], WATCH_READ);
	reactor_forget(r, &a.watch);
	reactor_forget(r, &a.watch);
	reactor_want(r, &a.watch, WATCH_WRITE);
	reactor_turn(r, 0);
	CHECK_INT(a.calls, 0);
	end();
	close_pair(sv);
}

/* What happened in a turn, a letter each. */
static char story[64];
static struct timer timer1, timer2;
static struct task task1, task2, task3;
static struct grave grave1;

static void
tell(const char *what)
{
	strncat(story, what, sizeof(story) - strlen(story) - 1);
}

static void
bury_story(struct grave *g)
{
	(void)g;
	tell("G");
}

static void
later_nested(struct task *t)
{
	(void)t;
	tell("l");
}

static void
later_story(struct task *t)
{
	(void)t;
	tell("L");
	reactor_later(r, &task3);
}

static void
again_story(struct task *t)
{
	(void)t;
	tell("A");
}

static void
timer_story(struct timer *t)
{
	(void)t;
	tell("T");
	CHECK_INT(t->slot, 0);
}

static void
watch_story(struct probe *p)
{
	tell("W");
	reactor_forget(r, &p->watch);
	reactor_bury(r, &grave1, bury_story);
	reactor_later(r, &task1);
	reactor_later(r, &task1);
	CHECK_INT(reactor_timer(r, &timer1, reactor_now(r)), 0);
}

static void
begin_story(void)
{
	begin();
	*story = '\0';
	timer1 = (struct timer){ .fire = timer_story };
	timer2 = timer1;
	task1 = (struct task){ .run = later_story };
	task2 = (struct task){ .run = again_story };
	task3 = (struct task){ .run = later_nested };
}

CASE(a_turn_has_one_order)
{
	int sv[2];

	begin_story();
	pair(sv);
	CHECK(write(sv[1], "x", 1) == 1);
	watch(&a, sv[0], WATCH_READ);
	a.then = watch_story;
	reactor_again(r, &task2);
	reactor_turn(r, -1);
	CHECK_STR(story, "WTALlG");
	CHECK_INT(reactor_turn(r, 0), 0);
	CHECK_STR(story, "WTALlG");
	end();
	close_pair(sv);
}

static void
later_itself(struct task *t)
{
	tell("S");
	reactor_later(r, t);
}

static void
later_the_other(struct task *t)
{
	tell(t == &task1 ? "1" : "2");
	reactor_later(r, t == &task1 ? &task2 : &task1);
}

CASE(a_task_that_queues_itself_waits_for_the_next_turn)
{
	begin_story();
	task1.run = later_itself;
	reactor_later(r, &task1);
	reactor_turn(r, -1);
	CHECK_STR(story, "S");
	reactor_turn(r, -1);
	CHECK_STR(story, "SS");
	reactor_drop(r, &task1);
	CHECK(turns_until_timer() <= 2);
	CHECK_STR(story, "SS");
	end();
}

CASE(a_circle_of_tasks_does_not_keep_a_turn_from_ending)
{
	begin_story();
	task1.run = task2.run = later_the_other;
	reactor_later(r, &task1);
	reactor_turn(r, -1);
	CHECK_STR(story, "12");
	reactor_turn(r, -1);
	CHECK_STR(story, "1212");
	end();
}

static void
again_itself(struct task *t)
{
	tell("A");
	reactor_again(r, t);
	reactor_again(r, t);
}

CASE(an_again_task_runs_once_a_turn_and_the_turn_does_not_wait)
{
	begin_story();
	task1.run = again_itself;
	reactor_again(r, &task1);
	for (int i = 0; i < 3; i++)
		reactor_turn(r, -1);
	CHECK_STR(story, "AAA");
	end();
}

static void
drop_the_others(struct task *t)
{
	tell("D");
	(void)t;
	reactor_drop(r, &task1);
	reactor_drop(r, &task2);
	reactor_drop(r, &task3);
}

CASE(a_dropped_task_does_not_run_from_any_queue)
{
	begin_story();
	reactor_drop(r, &task1);
	task1.run = drop_the_others;
	reactor_again(r, &task1); /* drops one due beside it and one for later */
	reactor_again(r, &task2);
	reactor_later(r, &task3);
	reactor_turn(r, -1);
	CHECK_STR(story, "D");
	reactor_again(r, &task2);
	reactor_drop(r, &task2);
	CHECK(turns_until_timer() <= 2);
	CHECK_STR(story, "D");
	end();
}

static void
cancel_other(struct timer *t)
{
	struct timer *other = t == &timer1 ? &timer2 : &timer1;

	tell("c");
	CHECK_INT(reactor_timer(r, other, CLOCK_NEVER), 0);
	CHECK_INT(reactor_timer(r, t, CLOCK_NEVER), 0);
}

CASE(a_timer_cancelled_by_another_does_not_fire)
{
	begin_story();
	timer1.fire = timer2.fire = cancel_other;
	reactor_timer(r, &timer1, reactor_now(r) - 5);
	reactor_timer(r, &timer2, reactor_now(r) - 5);
	reactor_turn(r, -1);
	CHECK_STR(story, "c");
	CHECK_INT(timer1.slot + timer2.slot, 0);
	end();
}

static void
fire_again_in_the_past(struct timer *t)
{
	tell("p");
	reactor_timer(r, t, 0);
}

CASE(a_timer_armed_for_the_past_by_itself_lets_the_turn_end)
{
	begin_story();
	timer1.fire = fire_again_in_the_past;
	reactor_timer(r, &timer1, 0);
	reactor_timer(r, &timer2, reactor_now(r));
	reactor_turn(r, -1);
	CHECK(strcmp(story, "pT") == 0 || strcmp(story, "Tp") == 0);
	while (strlen(story) < 3)
		reactor_turn(r, -1);
	CHECK_INT(story[2], 'p');
	end();
}

CASE(a_stop_ends_the_turn_and_not_the_next_run)
{
	int sv[2];

	begin_story();
	pair(sv);
	reactor_stop(r);
	CHECK_INT(reactor_run(r), 0);
	task1.run = again_story;
	reactor_later(r, &task1);
	timer1.fire = count_fire;
	reactor_timer(r, &timer1, 0);
	CHECK_INT(reactor_run(r), 0);
	CHECK_STR(story, "A");
	end();
	close_pair(sv);
}

CASE(what_lies_in_a_grave_is_released_at_the_end)
{
	begin_story();
	reactor_bury(r, &grave1, bury_story);
	CHECK_STR(story, "");
	end();
	CHECK_STR(story, "G");
}

int
main(void)
{
	alarm(60);
	return check_main((struct check_case[]){
	    RUN(what_is_wanted_is_reported_and_nothing_else),
	    RUN(interest_is_applied_once_just_before_the_wait),
	    RUN(a_reset_connection_that_wants_nothing_wakes_nobody),
	    RUN(hup_alone_is_told_of_a_reset_and_a_hang_up_but_not_of_a_fin),
	    RUN(an_edge_is_told_once_and_again_when_more_comes_or_interest_changes),
	    RUN(an_error_wakes_a_writer_too),
	    RUN(files_are_always_ready_and_fair_next_to_a_socket),
	    RUN(a_file_that_wants_nothing_does_not_spin),
	    RUN(a_watch_forgotten_within_the_batch_is_not_reported),
	    RUN(a_file_forgotten_while_files_are_served_is_not_reported),
	    RUN(interest_dropped_within_the_batch_is_not_reported),
	    RUN(a_number_closed_and_reused_within_the_batch_inherits_nothing),
	    RUN(more_than_a_batch_is_served_fairly),
	    RUN(forgetting_is_legal_twice_and_on_a_zeroed_watch),
	    RUN(a_turn_has_one_order),
	    RUN(a_task_that_queues_itself_waits_for_the_next_turn),
	    RUN(a_circle_of_tasks_does_not_keep_a_turn_from_ending),
	    RUN(an_again_task_runs_once_a_turn_and_the_turn_does_not_wait),
	    RUN(a_dropped_task_does_not_run_from_any_queue),
	    RUN(a_timer_cancelled_by_another_does_not_fire),
	    RUN(a_timer_armed_for_the_past_by_itself_lets_the_turn_end),
	    RUN(a_stop_ends_the_turn_and_not_the_next_run),
	    RUN(what_lies_in_a_grave_is_released_at_the_end),
	    { 0 },
	});
}
