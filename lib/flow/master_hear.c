/* What workers say.  A worker sees peers' bytes, so none of it is believed: who says what it cannot
 * mean has been taken over, or has lost its mind, and is killed. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/fds.h"
#include "base/log.h"
#include "flow/master_parts.h"
#include "wire/note.h"

/* ---- COMMANDs ---- */

static struct master_run *
run_of(struct started *s)
{
	return (struct master_run *)((char *)s - offsetof(struct master_run, started));
}

static void
run_over(struct master_run *run)
{
	RB_REMOVE(started_tree, &run->by->runs, &run->started);
	run->by->n_runs--;
	fds_close(&run->held);
	free(run);
}

static void
run_exited(struct started *s, int wait_status)
{
	struct master_run *run = run_of(s);

	worker_tell(run->by,
	    &(struct order){ .verb = ORDER_EXITED, .id = s->id, .value = wait_status }, -1);
	run_over(run);
}

static const struct started_ops run_ops = { .exited = run_exited };

void
master_hang_up(struct master_worker *w)
{
	struct starter *starter = w->of->cfg.starter;
	struct started *s;

	while ((s = RB_ROOT(&w->runs))) {
		starter->ops->hangup(starter, s);
		starter->ops->abandon(starter, s);
		run_over(run_of(s));
	}
}

static int
run_start(struct master_worker *w, const struct order *o, const struct note *note, int fd)
{
	struct starter *starter = w->of->cfg.starter;
	struct master_run *run = calloc(1, sizeof(*run));
	struct env env = { .cgi = o->flags & RUN_CGI };
	int rc = run ? note_env(note, &env) : -ENOMEM;

	if (rc == 0) {
		*run = (struct master_run){
			.by = w, .started = { .ops = &run_ops, .id = o->id }, .held = -1
		};
		rc = starter->ops->start(starter, &run->started, &env, fd);
	}
	env_free(&env);
	if (rc < 0) {
		free(run);
		return rc;
	}
	RB_INSERT(started_tree, &w->runs, &run->started);
	w->n_runs++;
	return 0;
}

static const char *
heard_run(struct master_worker *w, const struct order *o, const char *payload, size_t len, int fd)
{
	struct note note;
	int rc = -EMFILE;

	if (!w->of->cfg.starter)
		return "it asked for a COMMAND, and there is none";
	if (o->id <= w->last_id)
		return "it asked for a COMMAND under a number that was used before";
	if (note_parse(&note, payload, len) < 0 || note.verb != NOTE_CONN)
		return "it asked for a COMMAND, and not for which connection";
	if (w->of->cfg.commands && w->n_runs + w->forgotten >= w->of->cfg.commands)
		return "it asked for more COMMANDs than it may have at once";
	w->last_id = o->id;
	if (w->dead)
		return NULL;
	if (fd != -1)
		rc = run_start(w, o, &note, fd);
	if (rc < 0)
		worker_tell(
		    w, &(struct order){ .verb = ORDER_FAILED, .id = o->id, .value = rc }, -1);
	return NULL;
}

/* One that is over is still known to the worker until it has read that.  *fd is taken where it is
 * kept. */
static const char *
heard_about_run(struct master_worker *w, const struct order *o, int *fd)
{
	struct starter *starter = w->of->cfg.starter;
	struct started *s = started_find(&w->runs, o->id);

	if (o->verb == ORDER_KILL && o->value != SIGTERM && o->value != SIGKILL)
		return "it wanted a COMMAND to get a signal that is not for it";
	if (o->id == 0 || o->id > w->last_id)
		return "it spoke of a COMMAND that there never was";
	if (!s)
		return NULL;
	if (o->verb == ORDER_HOLD) {
		fds_close(&run_of(s)->held);
		run_of(s)->held = *fd;
		*fd = -1;
	} else if (o->verb == ORDER_HANGUP) {
		starter->ops->hangup(starter, s);
		fds_close(&run_of(s)->held);
	} else if (o->verb == ORDER_KILL) {
		starter->ops->kill(starter, s, o->value);
	} else {
		starter->ops->abandon(starter, s);
		run_over(run_of(s));
		w->forgotten++;
	}
	return NULL;
}

/* ---- itself, and its links ---- */

static const char *
heard_up(struct master_worker *w, const struct order *o)
{
	struct master *m = w->of;
	bool all = true;

	if (w->up)
		return "it said twice that it is up";
	w->up = w->was_up = true;
	for (unsigned i = 0; i < m->cfg.workers; i++)
		all &= m->worker[i].was_up;
	if (m->up)
		log_event(LOG_L_INFO, NULL, "worker-up", NULL, "worker %u (pid %d) is up again: %s",
		    w->index + 1, (int)w->child.pid, o->text);
	else if (all)
		log_event(LOG_L_INFO, NULL, "workers-up", NULL, "%u worker%s up: %s",
		    m->cfg.workers, m->cfg.workers == 1 ? "" : "s", o->text);
	m->up |= all;
	return NULL;
}

static const char *
heard_link(struct master_worker *w, const struct order *o)
{
	struct name *n;

	if (o->hub >= w->of->cfg.n_names || w->links[o->hub] == 0)
		return "it spoke of a link that it does not have";
	n = &w->of->names[o->hub];
	if (o->verb == ORDER_GREETED) {
		if (o->value < 0 || o->value > NAME_LINKS_MAX)
			return "it wanted more links than there can be";
		name_greeted(n, (unsigned)o->value);
		return NULL;
	}
	w->links[o->hub]--;
	w->n_links--;
	w->of->bidden[o->hub] = o->flags & GONE_DRAINED;
	name_gone(n, &(struct name_end){ .greeted = o->flags & GONE_GREETED,
			 .broken = o->flags & GONE_BROKEN,
			 .drained = o->flags & GONE_DRAINED });
	return NULL;
}

static void
master_heard(struct channel *c, const struct order *o, const char *payload, size_t len, int fd)
{
	struct master_worker *w = c->owner;
	const char *wrong;

	switch (w->fault ? ORDER_NONE : o->verb) {
	case ORDER_NONE: /* it is being killed */
		wrong = NULL;
		break;
	case ORDER_UP:
		wrong = heard_up(w, o);
		break;
	case ORDER_GREETED:
	case ORDER_GONE:
		wrong = heard_link(w, o);
		break;
	case ORDER_RUN:
		wrong = heard_run(w, o, payload, len, fd);
		break;
	case ORDER_HOLD:
	case ORDER_HANGUP:
	case ORDER_KILL:
	case ORDER_FORGET:
		wrong = heard_about_run(w, o, &fd);
		break;
	case ORDER_LISTED:
		wrong = heard_listed(w, o, payload, len);
		break;
	case ORDER_WAS_CUT:
		wrong = heard_was_cut(w, o);
		break;
	default:
		wrong = "it gave an order that is for workers";
		break;
	}
	if (fd != -1)
		close(fd);
	if (wrong)
		worker_kill(w, wrong);
}

static void
master_heard_end(struct channel *c)
{
	struct master_worker *w = c->owner;
	struct reactor *r = w->of->cfg.reactor;

	if (c->wrong)
		worker_kill(w, c->wrong);
	else if (!w->dead && !w->timer.slot)
		(void)reactor_timer(r, &w->timer, reactor_now(r) + MASTER_MUTE_MS);
}

const struct channel_ops master_channel_ops = { .order = master_heard, .ended = master_heard_end };
