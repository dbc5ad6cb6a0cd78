/* loop/reactor - see reactor.h.  What a watch wants is only noted when it is said; the difference
 * to what epoll knows is settled just before the wait.  Files that epoll refuses stand in a ring of
 * their own and get one call a turn, as a ready descriptor does. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "loop/reactor.h"
#include "loop/tasks.h"
#include "loop/timers.h"

#define BATCH	 64 /* events a wait: a turn stays short, the kernel rotates the rest */
#define AGAIN_MS 20 /* until what epoll had no memory for is tried again */

TAILQ_HEAD(watch_list, watch);

struct reactor {
	int epfd;
	bool stop;
	bool firing; /* timers are: see reactor_timer */
	int64_t now;
	struct watch_list changed; /* want and in_set may differ */
	struct watch_list always;  /* refused by epoll, and wanting something */
	struct tasks tasks;
	struct timers timers;
	struct epoll_event batch[BATCH];
	int batch_n; /* events in it; 0 outside their delivery */
};

int
reactor_new(struct reactor **ret)
{
	struct reactor *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (r->epfd < 0) {
		int err = errno;

		free(r);
		return -err;
	}
	TAILQ_INIT(&r->changed);
	TAILQ_INIT(&r->always);
	tasks_init(&r->tasks);
	r->now = clock_ms();
	*ret = r;
	return 0;
}

void
reactor_free(struct reactor *r)
{
	if (!r)
		return;
	tasks_bury_all(&r->tasks);
	timers_free(&r->timers);
	close(r->epfd);
	free(r);
}

void
reactor_watch(struct reactor *r, struct watch *w, int fd, void (*ready)(struct watch *, uint32_t))
{
	(void)r;
	*w = (struct watch){ .fd = fd, .ready = ready, .known = true };
}

void
reactor_want(struct reactor *r, struct watch *w, uint32_t want)
{
	want &= WATCH_READ | WATCH_WRITE | WATCH_HUP | WATCH_EDGE;
	if (!w->known || want == w->want)
		return;
	w->want = want;
	if (!w->dirty)
		TAILQ_INSERT_TAIL(&r->changed, w, changed);
	w->dirty = true;
}

void
reactor_forget(struct reactor *r, struct watch *w)
{
	if (!w->known)
		return;
	if (w->in_set)
		epoll_ctl(r->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	if (w->dirty)
		TAILQ_REMOVE(&r->changed, w, changed);
	if (w->queued)
		TAILQ_REMOVE(&r->always, w, link);
	for (int i = 0; i < r->batch_n; i++) {
		if (r->batch[i].data.ptr == w)
			r->batch[i].data.ptr = NULL;
	}
	w->known = w->refused = w->lacks = w->dirty = w->queued = false;
	w->want = w->in_set = 0;
}

/* A file that epoll refuses never hangs up: HUP alone is no reason to call it. */
static void
apply_refused(struct reactor *r, struct watch *w)
{
	bool on = w->want & (WATCH_READ | WATCH_WRITE);

	if (on && !w->queued)
		TAILQ_INSERT_TAIL(&r->always, w, link);
	else if (!on && w->queued)
		TAILQ_REMOVE(&r->always, w, link);
	w->queued = on;
}

static void
apply(struct reactor *r, struct watch *w)
{
	struct epoll_event ev = { .data.ptr = w };
	int op = !w->want ? EPOLL_CTL_DEL : w->in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (w->refused) {
		apply_refused(r, w);
		return;
	}
	w->lacks = false;
	if (w->want == w->in_set)
		return;
	/* WATCH_HUP is no bit: being in the set is enough to be told of errors and hang-ups. */
	ev.events = (w->want & WATCH_READ ? EPOLLIN : 0u) |
		    (w->want & WATCH_WRITE ? EPOLLOUT : 0u) | (w->want & WATCH_EDGE ? EPOLLET : 0u);
	if (epoll_ctl(r->epfd, op, w->fd, &ev) == 0 || op == EPOLL_CTL_DEL) {
		w->in_set = w->want;
		return;
	}
	/* One key, two watches: the second would silently steal the first one's events. */
	if (errno == EEXIST)
		abort();
	if (errno != EPERM) { /* no memory, too many watches: for now it is polled */
		w->lacks = w->dirty = true;
		TAILQ_INSERT_TAIL(&r->changed, w, changed);
		return;
	}
	w->in_set = 0;
	w->refused = true;
	apply_refused(r, w);
}

/* Afterwards only those that lack something are left. */
static void
apply_all(struct reactor *r)
{
	struct watch_list todo = TAILQ_HEAD_INITIALIZER(todo);
	struct watch *w;

	TAILQ_CONCAT(&todo, &r->changed, changed);
	while ((w = TAILQ_FIRST(&todo))) {
		TAILQ_REMOVE(&todo, w, changed);
		w->dirty = false;
		apply(r, w);
	}
}

static int
wait_time(const struct reactor *r, int64_t limit)
{
	int64_t at = timers_next(&r->timers), left;

	if (!TAILQ_EMPTY(&r->always) || tasks_waiting(&r->tasks))
		return 0;
	left = at == CLOCK_NEVER ? -1 : at - clock_ms();
	if (at != CLOCK_NEVER && left < 0)
		left = 0;
	if (!TAILQ_EMPTY(&r->changed) && (left < 0 || left > AGAIN_MS))
		left = AGAIN_MS;
	if (limit >= 0 && (left < 0 || limit < left))
		left = limit;
	return left > INT_MAX ? INT_MAX : (int)left;
}

/* got is held against what is wanted now, which an earlier call of the batch may have changed. */
static void
deliver(const struct epoll_event *ev)
{
	struct watch *w = ev->data.ptr;
	uint32_t got =
	    (ev->events & EPOLLIN ? WATCH_READ : 0u) | (ev->events & EPOLLOUT ? WATCH_WRITE : 0u);

	if (!w || !w->want)
		return;
	if (ev->events & EPOLLHUP)
		got |= WATCH_HUP | WATCH_READ | WATCH_WRITE;
	if (ev->events & EPOLLERR)
		got |= WATCH_ERR | WATCH_READ | WATCH_WRITE;
	got &= (w->want & ~(uint32_t)WATCH_EDGE) | WATCH_HUP | WATCH_ERR;
	if (got)
		w->ready(w, got);
}

/* Each of the ring once; who joins meanwhile stands behind the mark and has to wait. */
static void
serve_always(struct reactor *r)
{
	struct watch mark = { .fd = -1 }, *w;

	if (TAILQ_EMPTY(&r->always))
		return;
	TAILQ_INSERT_TAIL(&r->always, &mark, link);
	while ((w = TAILQ_FIRST(&r->always)) != &mark) {
		uint32_t got = w->want & (WATCH_READ | WATCH_WRITE);

		TAILQ_REMOVE(&r->always, w, link);
		TAILQ_INSERT_TAIL(&r->always, w, link);
		if (got)
			w->ready(w, got);
	}
	TAILQ_REMOVE(&r->always, &mark, link);
}

/* As serve_always does. */
static void
serve_lacking(struct reactor *r)
{
	struct watch mark = { .fd = -1 }, *w;

	TAILQ_INSERT_TAIL(&r->changed, &mark, changed);
	while ((w = TAILQ_FIRST(&r->changed)) != &mark) {
		uint32_t got = w->want & (WATCH_READ | WATCH_WRITE);

		TAILQ_REMOVE(&r->changed, w, changed);
		TAILQ_INSERT_TAIL(&r->changed, w, changed);
		if (w->lacks && got)
			w->ready(w, got);
	}
	TAILQ_REMOVE(&r->changed, &mark, changed);
}

static void
fire_timers(struct reactor *r)
{
	struct timer *t;

	r->firing = true;
	while ((t = timers_due(&r->timers, r->now)))
		t->fire(t);
	r->firing = false;
}

int
reactor_turn(struct reactor *r, int64_t wait_ms)
{
	int n;

	apply_all(r);
	n = epoll_wait(r->epfd, r->batch, BATCH, wait_time(r, wait_ms));
	if (n < 0 && errno != EINTR)
		return -errno;
	r->now = clock_ms();
	r->batch_n = n > 0 ? n : 0;
	for (int i = 0; i < r->batch_n; i++)
		deliver(&r->batch[i]);
	r->batch_n = 0;
	serve_always(r);
	serve_lacking(r);
	fire_timers(r);
	tasks_end_turn(&r->tasks);
	return 0;
}

int
reactor_run(struct reactor *r)
{
	int err = 0;

	while (!r->stop && !err)
		err = reactor_turn(r, -1);
	r->stop = false;
	return err;
}

void
reactor_stop(struct reactor *r)
{
	r->stop = true;
}

int64_t
reactor_now(const struct reactor *r)
{
	return r->now;
}

void
reactor_bury(struct reactor *r, struct grave *g, void (*release)(struct grave *))
{
	tasks_bury(&r->tasks, g, release);
}

void
reactor_later(struct reactor *r, struct task *t)
{
	tasks_later(&r->tasks, t);
}

void
reactor_again(struct reactor *r, struct task *t)
{
	tasks_again(&r->tasks, t);
}

void
reactor_drop(struct reactor *r, struct task *t)
{
	tasks_drop(&r->tasks, t);
}

int
reactor_timer(struct reactor *r, struct timer *t, int64_t at)
{
	if (r->firing && at <= r->now)
		at = r->now + 1;
	if (t->slot && t->at == at)
		return 0;
	return timers_set(&r->timers, t, at);
}
