/* The names, and which worker gets a link of one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "flow/master_parts.h"

struct master_waiting {
	TAILQ_ENTRY(master_waiting) link;
	unsigned hub;
	int fd;
};

/* A link that waits for a moment rather than for ever goes to whom it will serve longest. */
static bool
worker_comes_soon(const struct master_worker *w)
{
	int64_t now = reactor_now(w->of->cfg.reactor);

	return w->state == WORKER_RUNS ||
	       (w->state == WORKER_OUT && w->timer.at - now <= MASTER_SOON_MS);
}

static bool
worker_has_fewer(const struct master_worker *w, const struct master_worker *than, unsigned hub)
{
	if (w->links[hub] != than->links[hub])
		return w->links[hub] < than->links[hub];
	return w->n_links < than->n_links;
}

/* Who should have it, and may be about to be started again; NULL: nobody ever. */
static struct master_worker *
master_pick(struct master *m, unsigned hub)
{
	struct master_worker *best = NULL, *other = NULL;

	for (unsigned i = 0; i < m->cfg.workers; i++) {
		struct master_worker *w = &m->worker[i];

		if (w->state == WORKER_DONE)
			continue;
		other = w;
		if (worker_comes_soon(w) && (!best || worker_has_fewer(w, best, hub)))
			best = w;
	}
	return best ? best : other;
}

/* fd is taken if it goes. */
static int
worker_give(struct master_worker *w, unsigned hub, int fd)
{
	struct order o = { .verb = ORDER_LINK, .hub = hub };
	int rc;

	strlcpy(o.text, name_token(&w->of->names[hub]), sizeof(o.text));
	rc = channel_say(&w->channel, &o, NULL, 0, fd);
	if (rc < 0)
		return rc;
	close(fd);
	w->links[hub]++;
	w->n_links++;
	return 0;
}

static int
master_wait(struct master *m, unsigned hub, int fd)
{
	struct master_waiting *waiting = malloc(sizeof(*waiting));

	if (!waiting)
		return -ENOMEM;
	*waiting = (struct master_waiting){ .hub = hub, .fd = fd };
	TAILQ_INSERT_TAIL(&m->waiting, waiting, link);
	return 0;
}

static int
master_take(struct name *n, int fd)
{
	struct master *m = n->cfg.owner;
	unsigned hub = (unsigned)(n - m->names);
	struct master_worker *w = master_pick(m, hub);
	int rc = -EPIPE;

	if (w && worker_hears(w))
		rc = worker_give(w, hub, fd);
	if (w && rc == -EPIPE)
		rc = master_wait(m, hub, fd);
	if (rc < 0)
		close(fd);
	return rc;
}

/* 0: it went, or cannot.  -EAGAIN: it waits on. */
static int
master_hand_one(struct master *m, struct master_waiting *waiting)
{
	struct name *n = &m->names[waiting->hub];
	struct master_worker *w = n->stopped ? NULL : master_pick(m, waiting->hub);
	int rc = -ECANCELED;

	if (w)
		rc = worker_hears(w) ? worker_give(w, waiting->hub, waiting->fd) : -EPIPE;
	if (rc == -EPIPE)
		return -EAGAIN;
	TAILQ_REMOVE(&m->waiting, waiting, link);
	if (rc < 0) {
		close(waiting->fd);
		name_gone(n, &(struct name_end){ .greeted = true });
	}
	free(waiting);
	return 0;
}

/* name_gone may lead back here, and then next is no more. */
void
master_hand_out(struct master *m)
{
	struct master_waiting *waiting = TAILQ_FIRST(&m->waiting), *next;

	for (; waiting; waiting = next) {
		next = TAILQ_NEXT(waiting, link);
		if (master_hand_one(m, waiting) == 0)
			next = TAILQ_FIRST(&m->waiting);
	}
}

void
master_stop_sources(struct master *m)
{
	for (unsigned i = 0; i < m->names_open; i++)
		if (m->names[i].cfg.role == NOTE_CONSUMER)
			name_stop(&m->names[i]);
	master_hand_out(m);
}

static void
master_over(struct name *n, bool at_once)
{
	struct master *m = n->cfg.owner;
	unsigned hub = (unsigned)(n - m->names);
	struct order o = { .verb = ORDER_OVER,
		.hub = hub,
		.flags = (at_once ? OVER_AT_ONCE : 0) | (m->bidden[hub] ? OVER_BIDDEN : 0) };

	if (m->status == 0)
		m->status = n->status;
	for (unsigned i = 0; i < m->cfg.workers; i++)
		worker_tell(&m->worker[i], &o, -1);
	if (n->cfg.role == NOTE_PRODUCER)
		master_stop_sources(m);
	master_retire(m);
}

static const struct name_ops name_ops = { .take = master_take, .over = master_over };

void
master_say_over(struct master_worker *w)
{
	struct master *m = w->of;

	for (unsigned i = 0; i < m->cfg.n_names; i++)
		if (m->names[i].over)
			worker_tell(w,
			    &(struct order){ .verb = ORDER_OVER,
				.hub = i,
				.flags = m->bidden[i] ? OVER_BIDDEN : 0 },
			    -1);
}

static bool
name_redials(const struct name *n)
{
	return (n->how == NAME_DIALS || n->how == NAME_READS_TICKET) && !n->over && !n->stopped;
}

void
master_lost_links(struct master_worker *w, bool again)
{
	struct master *m = w->of;

	for (unsigned i = 0; i < m->cfg.n_names; i++) {
		unsigned n = w->links[i];

		if (again && name_redials(&m->names[i]))
			continue;
		w->links[i] = 0;
		w->n_links -= n;
		while (n-- > 0)
			name_gone(&m->names[i], &(struct name_end){ .greeted = true });
	}
}

int
master_open_names(struct master *m, char *msg, size_t cap)
{
	for (unsigned i = 0; i < m->cfg.n_names; i++) {
		struct name_config cfg = m->cfg.names[i];
		int rc;

		cfg.reactor = m->cfg.reactor;
		cfg.links = m->cfg.workers;
		cfg.ops = &name_ops;
		cfg.owner = m;
		rc = name_open(&m->names[i], &cfg, msg, cap);
		if (rc < 0)
			return rc;
		m->names_open++;
	}
	return 0;
}
