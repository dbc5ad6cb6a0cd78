/* flow/master - workers: started, told, buried, started again. */
#include "flow/master.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/fds.h"
#include "base/log.h"
#include "flow/master_parts.h"

#define KEPT_MAX 16384 /* orders that a worker does not read: it is none any more */

bool
worker_hears(const struct master_worker *w)
{
	return w->state == WORKER_RUNS && !w->dead && !w->channel.over;
}

void
worker_kill(struct master_worker *w, const char *why)
{
	if (w->fault || w->dead || w->state != WORKER_RUNS)
		return;
	w->fault = why;
	kill(w->child.pid, SIGKILL);
}

/* Who missed an order would go on with something that is not so: it has to begin anew. */
void
worker_tell(struct master_worker *w, const struct order *o, int fd)
{
	int rc;

	if (!worker_hears(w))
		return;
	rc = channel_say(&w->channel, o, NULL, 0, fd);
	if (rc < 0 && rc != -EPIPE)
		worker_kill(w, "an order cannot be given to it");
	else if (w->channel.queued > KEPT_MAX)
		worker_kill(w, "it does not read its orders");
}

static void
master_tell(struct master *m, enum order_verb verb)
{
	for (unsigned i = 0; i < m->cfg.workers; i++)
		worker_tell(&m->worker[i], &(struct order){ .verb = verb }, -1);
}

bool
master_ending(const struct master *m)
{
	unsigned sources = 0, over = 0;

	for (unsigned i = 0; i < m->names_open; i++) {
		const struct name *n = &m->names[i];

		if (n->cfg.role == NOTE_PRODUCER && n->over)
			return true;
		sources += n->cfg.role == NOTE_CONSUMER;
		over += n->cfg.role == NOTE_CONSUMER && n->over;
	}
	return m->draining || (sources > 0 && over == sources);
}

void
master_retire(struct master *m)
{
	bool all = true;

	for (unsigned i = 0; i < m->cfg.workers; i++) {
		struct master_worker *w = &m->worker[i];

		if (w->state == WORKER_OUT && master_ending(m)) {
			reactor_timer(m->cfg.reactor, &w->timer, CLOCK_NEVER);
			w->state = WORKER_DONE;
			master_lost_links(w, false);
		}
		all &= w->state == WORKER_DONE;
	}
	if (!all || m->told)
		return;
	m->told = true;
	m->cfg.done(m->cfg.arg, m->status);
}

/* ---- the end of a worker ---- */

/* "was killed by SIGSYS: it called what the sandbox forbids", in our words. */
static void
worker_how(const struct master_worker *w, int wait_status, char *buf, size_t cap)
{
	int signo = WTERMSIG(wait_status);
	const char *name = sigabbrev_np(signo);

	if (w->fault)
		snprintf(buf, cap, "was killed: %s", w->fault);
	else if (!WIFSIGNALED(wait_status))
		snprintf(buf, cap, "exited with status %d", WEXITSTATUS(wait_status));
	else if (name)
		snprintf(buf, cap, "was killed by SIG%s%s", name,
		    signo == SIGSYS ? ": it called what the sandbox forbids" : "");
	else
		snprintf(buf, cap, "was killed by signal %d", signo);
}

static void
worker_say_death(const struct master_worker *w, int wait_status, const char *next)
{
	unsigned lost = w->of->pages[w->index].live;
	char how[160];
	const struct log_fact facts[] = {
		{ .key = "worker", .num = w->index + 1 },
		{ .key = "pid", .num = w->child.pid },
		{ .key = "connections", .num = lost },
		{ .key = "status", .num = child_exit_status(wait_status) },
		{ .key = "reason", .text = how },
		{ 0 },
	};

	worker_how(w, wait_status, how, sizeof(how));
	log_event(LOG_L_WARN, NULL, "worker-died", facts,
	    "worker %u (pid %d) %s; %u connection%s lost%s", w->index + 1, (int)w->child.pid, how,
	    lost, lost == 1 ? "" : "s", next);
}

/* It begins anew after a while, each time a longer one. */
static void
worker_again(struct master_worker *w)
{
	struct reactor *r = w->of->cfg.reactor;

	w->delay = w->delay ? 2 * w->delay : MASTER_AGAIN_FIRST;
	if (w->delay > MASTER_AGAIN_LAST)
		w->delay = MASTER_AGAIN_LAST;
	(void)reactor_timer(r, &w->timer, reactor_now(r) + w->delay);
}

static void
worker_out(struct master_worker *w, int wait_status)
{
	char next[64];

	if (reactor_now(w->of->cfg.reactor) - w->since >= MASTER_PROVEN_MS)
		w->delay = 0;
	w->state = WORKER_OUT;
	worker_again(w);
	snprintf(next, sizeof(next), "; starting it again in %" PRId64 " ms", w->delay);
	worker_say_death(w, wait_status, next);
}

/* What holds no process any more; what it said last has been read. */
static void
worker_bury(struct master_worker *w)
{
	w->dead = true;
	channel_pump(&w->channel);
	channel_close(&w->channel);
	master_answers_for(w);
	master_hang_up(w);
	reactor_timer(w->of->cfg.reactor, &w->timer, CLOCK_NEVER);
}

/* What it counted, and what it could not count any more. */
static void
worker_count(const struct master_worker *w, bool crashed)
{
	const struct page *page = &w->of->pages[w->index];

	if (crashed)
		metric_add(METRIC_DEATHS, NULL, 1);
	if (page->live > 0)
		metric_add(METRIC_CLOSED, "worker-died", page->live);
	metrics_keep(&w->of->gone, &page->metrics);
}

static void
worker_ended(struct child *child, int wait_status)
{
	struct master_worker *w =
	    (struct master_worker *)((char *)child - offsetof(struct master_worker, child));
	struct master *m = w->of;
	bool may, began, crashed;

	worker_bury(w);
	may = master_ending(m);
	began = m->up || w->was_up;
	crashed = WIFSIGNALED(wait_status) || (!may && began);
	m->crashed += crashed;
	worker_count(w, crashed);
	master_lost_links(w, true);
	if (began && !master_ending(m))
		worker_out(w, wait_status);
	else {
		w->state = WORKER_DONE;
		if (crashed)
			worker_say_death(w, wait_status, "");
		if (m->status == 0)
			m->status = child_exit_status(wait_status);
		if (m->status == 0 && !may)
			m->status = CCF_SYSTEM;
	}
	m->pages[w->index] = (struct page){ 0 };
	w->child.pid = 0;
	w->fault = NULL;
	if (w->state == WORKER_DONE) {
		master_lost_links(w, false);
		if (!began && !may) /* it will not be better next time */
			master_now(m);
	}
	master_hand_out(m);
	master_retire(m);
}

/* ---- its beginning ---- */

static void
master_give_material(struct master *m, struct master_worker *w)
{
	int fd = m->cfg.material ? m->cfg.material(m->cfg.arg) : -1;

	if (fd != -1)
		worker_tell(w, &(struct order){ .verb = ORDER_MATERIAL }, fd);
}

static _Noreturn void
worker_begin(const struct master_worker *w, int chan)
{
	const struct master_config *cfg = &w->of->cfg;

	if (chan > 3)
		close_range(3, (unsigned)chan - 1, 0);
	close_range((unsigned)chan + 1, ~0U, 0);
	metrics_use(&w->of->pages[w->index].metrics);
	cfg->work(cfg->arg, w->index, chan, &w->of->pages[w->index]);
	abort();
}

/* The process, and nothing yet said to it. */
static int
worker_fork(struct master_worker *w)
{
	struct master *m = w->of;
	int pair[2], rc = channel_pair(pair);

	if (rc < 0)
		return rc;
	(void)log_flush_held(INT64_MAX); /* nor is what we hold back the new one's to say */
	fflush(NULL);
	rc = children_fork(m->cfg.children, &w->child, worker_ended);
	if (rc == 0)
		worker_begin(w, pair[1]);
	close(pair[1]);
	if (rc < 0) {
		close(pair[0]);
		return rc;
	}
	w->state = WORKER_RUNS;
	w->up = w->dead = false;
	w->last_id = 0;
	w->forgotten = 0;
	w->since = reactor_now(m->cfg.reactor);
	channel_open(&w->channel, m->cfg.reactor, pair[0], &master_channel_ops, w);
	return 0;
}

static void
worker_start(struct master_worker *w)
{
	struct master *m = w->of;
	int rc = worker_fork(w);

	if (rc < 0) {
		worker_again(w);
		log_event(LOG_L_WARN, NULL, "worker-missing", NULL,
		    "cannot start worker %u: %s; trying again in %" PRId64 " ms", w->index + 1,
		    strerror(-rc), w->delay);
		return;
	}
	master_give_material(m, w);
	master_give_access(w);
	master_lost_links(w, false);
	master_hand_out(m);
	master_say_over(w);
}

static void
worker_fire(struct timer *t)
{
	struct master_worker *w =
	    (struct master_worker *)((char *)t - offsetof(struct master_worker, timer));

	if (w->state == WORKER_OUT)
		worker_start(w);
	else
		worker_kill(w, w->of->now ? "it did not end when it was told to"
					  : "its channel ended, and it did not");
}

/* ---- the master ---- */

static int
master_start(struct master *m, char *msg, size_t cap)
{
	for (unsigned i = 0; i < m->cfg.workers; i++) {
		int rc = worker_fork(&m->worker[i]);

		if (rc < 0) {
			snprintf(msg, cap, "cannot start a worker: %s", strerror(-rc));
			return rc;
		}
		master_give_material(m, &m->worker[i]);
	}
	master_hand_out(m);
	for (unsigned i = 0; i < m->cfg.workers; i++)
		master_say_over(&m->worker[i]);
	return 0;
}

static int
master_new(struct master *m, const struct master_config *cfg)
{
	*m = (struct master){ .cfg = *cfg, .access = -1 };
	TAILQ_INIT(&m->waiting);
	TAILQ_INIT(&m->asks);
	m->worker = calloc(cfg->workers, sizeof(*m->worker));
	if (!m->worker)
		return -ENOMEM;
	m->pages = mmap(NULL, cfg->workers * sizeof(*m->pages), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m->pages == MAP_FAILED) {
		free(m->worker);
		m->worker = NULL;
		return -ENOMEM;
	}
	for (unsigned i = 0; i < cfg->workers; i++) {
		struct master_worker *w = &m->worker[i];

		*w = (struct master_worker){ .of = m, .index = i, .timer.fire = worker_fire };
		RB_INIT(&w->runs);
	}
	return 0;
}

int
master_open(struct master *m, const struct master_config *cfg, char *msg, size_t cap)
{
	int rc = master_new(m, cfg);

	if (rc < 0) {
		snprintf(msg, cap, "no memory for %u workers", cfg->workers);
		return rc;
	}
	rc = master_open_names(m, msg, cap);
	if (rc == 0)
		rc = master_start(m, msg, cap);
	if (rc < 0)
		master_close(m);
	return rc;
}

void
master_material(struct master *m)
{
	for (unsigned i = 0; i < m->cfg.workers; i++)
		if (worker_hears(&m->worker[i]))
			master_give_material(m, &m->worker[i]);
}

static void
master_draining(struct master *m)
{
	m->draining = true;
	master_stop_sources(m);
}

void
master_drain(struct master *m)
{
	master_draining(m);
	master_tell(m, ORDER_DRAIN);
	master_retire(m);
}

void
master_now(struct master *m)
{
	struct reactor *r = m->cfg.reactor;

	if (m->now)
		return;
	m->now = true;
	master_draining(m);
	master_tell(m, ORDER_NOW);
	for (unsigned i = 0; i < m->cfg.workers; i++)
		if (m->worker[i].state == WORKER_RUNS)
			(void)reactor_timer(r, &m->worker[i].timer, reactor_now(r) + MASTER_NOW_MS);
	master_retire(m);
}

void
master_status(struct master *m, const char *also)
{
	char pids[MASTER_WORKERS_MAX * 12] = "";
	size_t n = 0;

	master_tell(m, ORDER_STATUS);
	for (unsigned i = 0; i < m->cfg.workers; i++)
		if (m->worker[i].state == WORKER_RUNS)
			n += (size_t)snprintf(
			    pids + n, sizeof(pids) - n, " %d", (int)m->worker[i].child.pid);
	log_event(LOG_L_INFO, NULL, "status", NULL,
	    "%u connections, %u worker%s (pid%s%s), %" PRIu64 " died; %s", master_live(m),
	    m->cfg.workers, m->cfg.workers == 1 ? "" : "s", m->cfg.workers == 1 ? "" : "s",
	    n > 0 ? pids : " none", m->crashed, also);
}

unsigned
master_live(const struct master *m)
{
	unsigned n = 0;

	for (unsigned i = 0; m->pages && i < m->cfg.workers; i++)
		n += m->pages[i].live;
	return n;
}

static void
worker_let_go(struct master_worker *w)
{
	master_hang_up(w);
	channel_close(&w->channel);
	reactor_timer(w->of->cfg.reactor, &w->timer, CLOCK_NEVER);
	if (w->state == WORKER_RUNS)
		child_abandon(w->of->cfg.children, &w->child);
	w->state = WORKER_DONE;
}

void
master_close(struct master *m)
{
	struct master_ask *a;

	if (!m->worker)
		return;
	m->told = true;
	while ((a = TAILQ_FIRST(&m->asks)))
		master_unask(a);
	fds_close(&m->access);
	for (unsigned i = 0; i < m->names_open; i++)
		name_close(&m->names[i]);
	for (unsigned i = 0; i < m->cfg.workers; i++)
		worker_let_go(&m->worker[i]);
	master_hand_out(m); /* to nobody: what waits is closed */
	free(m->worker);
	m->worker = NULL;
	munmap(m->pages, m->cfg.workers * sizeof(*m->pages));
	m->pages = NULL;
}
