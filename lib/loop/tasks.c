/* loop/tasks - see tasks.h. */
#include "loop/tasks.h"

enum { NOT_QUEUED, IN_LATER, IN_AGAIN, IN_DUE }; /* task.queued */

void
tasks_init(struct tasks *q)
{
	TAILQ_INIT(&q->later);
	TAILQ_INIT(&q->again);
	TAILQ_INIT(&q->due);
	TAILQ_INIT(&q->graves);
	q->turn = 1;
	q->closing = false;
}

void
tasks_later(struct tasks *q, struct task *t)
{
	if (q->closing && t->ran == q->turn) {
		tasks_again(q, t);
		return;
	}
	if (t->queued == IN_AGAIN)
		tasks_drop(q, t); /* the sooner of the two */
	if (t->queued != NOT_QUEUED)
		return;
	TAILQ_INSERT_TAIL(&q->later, t, link);
	t->queued = IN_LATER;
}

void
tasks_again(struct tasks *q, struct task *t)
{
	if (t->queued != NOT_QUEUED)
		return;
	TAILQ_INSERT_TAIL(&q->again, t, link);
	t->queued = IN_AGAIN;
}

void
tasks_drop(struct tasks *q, struct task *t)
{
	struct task_list *list[] = {
		[IN_LATER] = &q->later, [IN_AGAIN] = &q->again, [IN_DUE] = &q->due
	};

	if (t->queued != NOT_QUEUED)
		TAILQ_REMOVE(list[t->queued], t, link);
	t->queued = NOT_QUEUED;
}

bool
tasks_waiting(const struct tasks *q)
{
	return !TAILQ_EMPTY(&q->later) || !TAILQ_EMPTY(&q->again);
}

static void
run_all(struct tasks *q, struct task_list *list)
{
	struct task *t;

	while ((t = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, t, link);
		t->queued = NOT_QUEUED;
		t->ran = q->turn;
		t->run(t); /* t may be gone now */
	}
}

void
tasks_end_turn(struct tasks *q)
{
	struct task *t;

	TAILQ_CONCAT(&q->due, &q->again, link);
	TAILQ_FOREACH(t, &q->due, link)
		t->queued = IN_DUE;
	q->closing = true;
	run_all(q, &q->due);
	run_all(q, &q->later);
	q->closing = false;
	tasks_bury_all(q);
	if (++q->turn == 0)
		q->turn = 1;
}

void
tasks_bury(struct tasks *q, struct grave *g, void (*release)(struct grave *))
{
	g->release = release;
	TAILQ_INSERT_TAIL(&q->graves, g, link);
}

void
tasks_bury_all(struct tasks *q)
{
	struct grave *g;

	while ((g = TAILQ_FIRST(&q->graves))) {
		TAILQ_REMOVE(&q->graves, g, link);
		g->release(g);
	}
}
