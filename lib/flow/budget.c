/* Whose output moves goes to the end of the list, so the list is in order and nothing is searched.
 * A kernel that still has something to send wakes nobody until a third of it is gone: before a
 * connection is cut it is asked twice what its peer has acknowledged. */
#include "flow/budget.h"

#include "base/clock.h"
#include "base/log.h"

static void
budget_wake(struct task *task)
{
	struct budget *b = (struct budget *)((char *)task - offsetof(struct budget, wake));
	struct charge *c, *last = TAILQ_LAST(&b->stopped, charges);

	b->low = b->share;
	while ((c = TAILQ_FIRST(&b->stopped))) {
		TAILQ_REMOVE(&b->stopped, c, stops);
		c->stopped = false;
		c->ops->wake(c);
		if (c == last)
			break;
	}
	if (!b->full && b->eased)
		b->eased(b);
}

static void
budget_divide(struct budget *b)
{
	size_t share = b->full || !b->live ? BUDGET_LEAST : b->max / b->live;

	b->share = share > BUDGET_LEAST ? share : BUDGET_LEAST;
	if (b->share < b->low)
		b->low = b->share;
	else if (b->share - b->low >= b->low / 8 && !TAILQ_EMPTY(&b->stopped))
		reactor_later(b->reactor, &b->wake);
}

static void
budget_wind(struct budget *b)
{
	struct charge *c = TAILQ_FIRST(&b->holding);
	int64_t soon = reactor_now(b->reactor) + b->flush / 8 + 1;
	int64_t due = c ? clock_after(c->moved_at, b->flush) : CLOCK_NEVER;

	(void)reactor_timer(b->reactor, &b->look, due > soon ? due : soon);
}

static void
budget_cross(struct budget *b, bool full)
{
	static struct log_class class = { .name = "crossings of --max-buffered" };

	b->full = full;
	if (log_admit(&class, reactor_now(b->reactor)))
		log_event(LOG_L_INFO, NULL, full ? "budget-reached" : "budget-eased",
		    (struct log_fact[]){ { "held", NULL, (int64_t)b->held },
			{ "max", NULL, (int64_t)b->max }, { "live", NULL, b->live }, { 0 } },
		    full ? "%zu bytes are held for %u connections (--max-buffered %zu): who sends "
			   "more than is taken is not read"
			 : "%zu bytes are held for %u connections, below --max-buffered %zu again",
		    b->held, b->live, b->max);
	budget_divide(b);
	if (full && b->flush >= 0)
		budget_wind(b);
	else
		(void)reactor_timer(b->reactor, &b->look, CLOCK_NEVER);
	if (!full)
		reactor_later(b->reactor, &b->wake);
}

static void
budget_weigh(struct budget *b)
{
	if (!b->full && b->held >= b->max - b->max / 16)
		budget_cross(b, true);
	else if (b->full && b->held < b->max - b->max / 8)
		budget_cross(b, false);
}

static void
charge_moved(struct charge *c)
{
	TAILQ_REMOVE(&c->of->holding, c, holds);
	TAILQ_INSERT_TAIL(&c->of->holding, c, holds);
	c->moved_at = reactor_now(c->of->reactor);
	c->looked = false;
}

static void
budget_look(struct timer *timer)
{
	struct budget *b = (struct budget *)((char *)timer - offsetof(struct budget, look));
	int64_t now = reactor_now(b->reactor), unsent;
	struct charge *c, *next;

	for (c = TAILQ_FIRST(&b->holding); c && b->full; c = next) {
		next = TAILQ_NEXT(c, holds);
		if (now < clock_after(c->moved_at, b->flush))
			break;
		unsent = c->ops->unsent(c);
		if (c->looked && c->unsent == unsent) {
			b->slow++;
			c->ops->slow(c);
		} else if (c->looked)
			charge_moved(c);
		else {
			c->looked = true;
			c->unsent = unsent;
		}
	}
	if (b->full)
		budget_wind(b);
}

void
budget_join(struct budget *b, struct charge *c, const struct charge_ops *ops)
{
	*c = (struct charge){ .of = b, .ops = ops };
	if (!b)
		return;
	b->live++;
	budget_divide(b);
}

void
budget_leave(struct charge *c)
{
	struct budget *b = c->of;

	if (!b)
		return;
	budget_hold(c, 0, false);
	if (c->stopped)
		TAILQ_REMOVE(&b->stopped, c, stops);
	c->stopped = false;
	c->of = NULL;
	b->live--;
	budget_divide(b);
}

void
budget_hold(struct charge *c, size_t held, bool moved)
{
	struct budget *b = c->of;
	size_t was = c->held;

	if (!b || (held == was && !(moved && held)))
		return;
	b->held += held - was;
	c->held = held;
	if (!was)
		TAILQ_INSERT_TAIL(&b->holding, c, holds);
	if (!held)
		TAILQ_REMOVE(&b->holding, c, holds);
	else if (!was || moved)
		charge_moved(c);
	budget_weigh(b);
}

size_t
budget_share(const struct charge *c)
{
	return c->of ? c->of->share : SIZE_MAX;
}

void
budget_stop(struct charge *c)
{
	if (!c->of || c->stopped)
		return;
	c->stopped = true;
	if (TAILQ_EMPTY(&c->of->stopped))
		c->of->low = c->of->share;
	TAILQ_INSERT_TAIL(&c->of->stopped, c, stops);
}

bool
budget_room(const struct budget *b)
{
	return b->held / 2 < b->max;
}

void
budget_open(struct budget *b, struct reactor *reactor, size_t max, int64_t flush)
{
	*b = (struct budget){ .reactor = reactor,
		.max = max,
		.flush = flush,
		.look.fire = budget_look,
		.wake.run = budget_wake };
	TAILQ_INIT(&b->holding);
	TAILQ_INIT(&b->stopped);
	budget_divide(b);
}

void
budget_close(struct budget *b)
{
	(void)reactor_timer(b->reactor, &b->look, CLOCK_NEVER);
	reactor_drop(b->reactor, &b->wake);
}
