/* loop/tasks - the queues under reactor_later, reactor_again and reactor_bury; a task and a grave
 * lie in their owners. */
#ifndef LOOP_TASKS_H
#define LOOP_TASKS_H

#include <stdbool.h>
#include "loop/reactor.h"

TAILQ_HEAD(task_list, task);
TAILQ_HEAD(grave_list, grave);

struct tasks {
	struct task_list later, again;
	struct task_list due;	/* the again-tasks of the last turn, while they run */
	struct grave_list graves;
	unsigned turn;		/* never 0: that is a task that never ran */
	bool closing;		/* the tasks of this turn run */
};

void tasks_init(struct tasks *);
void tasks_later(struct tasks *, struct task *);
void tasks_again(struct tasks *, struct task *);
void tasks_drop(struct tasks *, struct task *);
void tasks_bury(struct tasks *, struct grave *, void (*release)(struct grave *));
bool tasks_waiting(const struct tasks *);	/* whether the next turn has something to run */
void tasks_end_turn(struct tasks *);		/* again-tasks of the last turn, later-tasks, burials */
void tasks_bury_all(struct tasks *);

#endif
