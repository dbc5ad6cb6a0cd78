#include "flow/starter.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/env.h"
#include "base/metrics.h"

int
started_cmp(const struct started *a, const struct started *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(started_tree, started, node, started_cmp)

struct started *
started_find(struct started_tree *tree, uint64_t id)
{
	struct started key = { .id = id };

	return RB_FIND(started_tree, tree, &key);
}

static void
here_exited(struct child *child, int wait_status)
{
	struct started *s = (struct started *)((char *)child - offsetof(struct started, child));

	s->by = NULL;
	s->ops->exited(s, wait_status);
}

static int
here_start(struct starter *by, struct started *s, const struct env *env, int fd)
{
	struct starter_here *h = (struct starter_here *)by;
	char **envp = env_exec(env, environ);
	struct spawn spawn = { .argv = h->argv, .envp = envp, .in = fd, .out = fd, .at = h->at };
	int rc = envp ? children_start(h->children, &s->child, &spawn, here_exited) : -ENOMEM;

	free(envp);
	if (!env->cgi) /* of those flow/cgi counts how they end */
		metric_add(METRIC_COMMANDS, rc < 0 ? "failed" : "ok", 1);
	if (rc == 0)
		s->by = by;
	return rc;
}

static void
here_hangup(struct starter *by, struct started *s)
{
	(void)by;
	if (s->by)
		kill(s->child.pid, SIGHUP);
}

static void
here_kill(struct starter *by, struct started *s, int signo)
{
	(void)by;
	if (s->by)
		kill(s->child.pid, signo);
}

static void
here_abandon(struct starter *by, struct started *s)
{
	if (s->by)
		child_abandon(((struct starter_here *)by)->children, &s->child);
	s->by = NULL;
}

static const struct starter_ops here_ops = {
	.start = here_start,
	.hangup = here_hangup,
	.kill = here_kill,
	.abandon = here_abandon,
};

void
starter_here_open(struct starter_here *h, struct children *children, char *const *argv, int at)
{
	*h = (struct starter_here){
		.starter.ops = &here_ops, .children = children, .argv = argv, .at = at
	};
}
