#include "flow/worker.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/log.h"
#include "flow/room.h"
#include "flow/rows.h"
#include "wire/note.h"

#define ROWS_AT_ONCE 128 /* of a list: they fit in a packet */

static struct worker *
worker_of(struct channel *c)
{
	return (struct worker *)((char *)c - offsetof(struct worker, channel));
}

/* Not said: the master is gone, and lost() comes or came. */
static void
worker_say(struct worker *w, const struct order *o)
{
	(void)channel_say(&w->channel, o, NULL, 0, -1);
}

/* ---- COMMANDs ---- */

static struct worker *
worker_of_starter(struct starter *s)
{
	return (struct worker *)((char *)s - offsetof(struct worker, starter));
}

static int
remote_start(struct starter *by, struct started *s, const struct env *env, int fd)
{
	static char packet[NOTE_MAX];
	struct worker *w = worker_of_starter(by);
	struct order o = {
		.verb = ORDER_RUN, .id = w->last_id + 1, .flags = env->cgi ? RUN_CGI : 0
	};
	struct note note = { .verb = NOTE_CONN, .id = o.id };
	ssize_t len = note_print(&note, env, packet, sizeof(packet));
	int rc = len < 0 ? (int)len : channel_say(&w->channel, &o, packet, (size_t)len, fd);

	if (rc < 0)
		return rc;
	s->by = by;
	s->id = ++w->last_id;
	RB_INSERT(started_tree, &w->started, s);
	return 0;
}

/* Not said: the master is gone, and can tell nobody. */
static void
remote_hold(struct starter *by, struct started *s, int fd)
{
	struct order o = { .verb = ORDER_HOLD, .id = s->id };

	if (s->by)
		(void)channel_say(&worker_of_starter(by)->channel, &o, NULL, 0, fd);
}

static void
remote_hangup(struct starter *by, struct started *s)
{
	if (s->by)
		worker_say(
		    worker_of_starter(by), &(struct order){ .verb = ORDER_HANGUP, .id = s->id });
}

static void
remote_kill(struct starter *by, struct started *s, int signo)
{
	if (s->by)
		worker_say(worker_of_starter(by),
		    &(struct order){ .verb = ORDER_KILL, .id = s->id, .value = signo });
}

static void
remote_abandon(struct starter *by, struct started *s)
{
	struct worker *w = worker_of_starter(by);

	if (!s->by)
		return;
	RB_REMOVE(started_tree, &w->started, s);
	s->by = NULL;
	worker_say(w, &(struct order){ .verb = ORDER_FORGET, .id = s->id });
}

static const struct starter_ops remote_ops = {
	.start = remote_start,
	.hold = remote_hold,
	.hangup = remote_hangup,
	.kill = remote_kill,
	.abandon = remote_abandon,
};

/* One that was abandoned meanwhile interests nobody. */
static void
worker_heard_end(struct worker *w, const struct order *o)
{
	struct started *s = started_find(&w->started, o->id);

	if (!s)
		return;
	RB_REMOVE(started_tree, &w->started, s);
	s->by = NULL;
	if (o->verb == ORDER_EXITED)
		s->ops->exited(s, o->value);
	else
		s->ops->failed(s, o->value);
}

/* ---- links ---- */

static void
worker_tell_hub(struct hub *h, struct order *o)
{
	struct worker *w = h->keeper_arg;

	while (o->hub < w->n_hub && w->hub[o->hub] != h)
		o->hub++;
	if (o->hub < w->n_hub)
		worker_say(w, o);
}

static void
keeper_greeted(struct hub *h, unsigned links)
{
	worker_tell_hub(h, &(struct order){ .verb = ORDER_GREETED,
			       .value = (int)(links < NAME_LINKS_MAX ? links : NAME_LINKS_MAX) });
}

static void
keeper_gone(struct hub *h, const struct name_end *end)
{
	worker_tell_hub(
	    h, &(struct order){ .verb = ORDER_GONE,
		   .flags = (end->greeted ? GONE_GREETED : 0) | (end->broken ? GONE_BROKEN : 0) |
			    (end->drained ? GONE_DRAINED : 0) });
}

/* The master knows: it is who drains us, or saw the sink's name end first. */
static void
keeper_ignores(struct hub *h)
{
	(void)h;
}

const struct hub_keeper worker_keeper = {
	.greeted = keeper_greeted,
	.gone = keeper_gone,
	.stop = keeper_ignores,
	.close = keeper_ignores,
};

/* The master counts it as ours until we say that it is gone. */
static void
worker_take(struct worker *w, const struct order *o, int fd)
{
	struct hub *h = w->hub[o->hub];

	if (fd == -1)
		hub_starve(h);
	if (fd == -1 || hub_take(h, fd, o->text) < 0)
		worker_say(w, &(struct order){ .verb = ORDER_GONE, .hub = o->hub });
}

/* Who never had a link of that name cannot know how the last one ended. */
static void
worker_heard_over(struct hub *h, uint32_t flags)
{
	if (h->n == 0 && flags & OVER_BIDDEN)
		h->bidden = true;
	hub_name_over(h, flags & OVER_AT_ONCE);
}

/* ---- questions ---- */

static void
worker_cut(struct worker *w, const struct order *o)
{
	struct order was = { .verb = ORDER_WAS_CUT };

	memcpy(was.text, o->text, sizeof(was.text));
	if (w->ops->cut && w->ops->cut(w, o->text))
		worker_say(w, &was);
}

/* All in one turn: nobody comes or goes between two of its packets. */
static void
worker_list(struct worker *w, const struct order *o)
{
	static struct conn_row rows[ROWS_AT_ONCE];
	struct order listed = { .verb = ORDER_LISTED, .id = o->id };
	unsigned from = 0, n;

	if (w->ops->gauges)
		w->ops->gauges(w);
	do {
		n = w->ops->rows && !(o->flags & LIST_NO_ROWS)
			? w->ops->rows(w, from, rows, ROWS_AT_ONCE)
			: 0;
		from += n;
		if (n < ROWS_AT_ONCE || from > ROWS_MAX)
			listed.flags = LISTED_ALL;
		(void)channel_say(&w->channel, &listed, rows, n * sizeof(rows[0]), -1);
	} while (!(listed.flags & LISTED_ALL));
}

static void
worker_access(struct worker *w, int fd)
{
	if (fd == -1)
		room_short("no descriptor for the new access log", EMFILE, "the old one stays");
	else if (w->ops->access)
		w->ops->access(w, fd);
	else
		close(fd);
}

static void
worker_heard(struct channel *c, const struct order *o, const char *payload, size_t len, int fd)
{
	struct worker *w = worker_of(c);

	(void)payload;
	(void)len;
	switch (o->verb) {
	case ORDER_LINK:
		if (o->hub < w->n_hub)
			worker_take(w, o, fd);
		else if (fd != -1)
			close(fd);
		break;
	case ORDER_OVER:
		if (o->hub < w->n_hub)
			worker_heard_over(w->hub[o->hub], o->flags);
		break;
	case ORDER_MATERIAL:
		if (fd == -1)
			room_short(
			    "no descriptor for new certificates", EMFILE, "the old ones stay");
		else
			w->ops->material(w, fd);
		break;
	case ORDER_DRAIN:
		w->ops->drain(w);
		break;
	case ORDER_NOW:
		w->ops->now(w);
		break;
	case ORDER_STATUS:
		w->ops->status(w);
		break;
	case ORDER_CUT:
		worker_cut(w, o);
		break;
	case ORDER_LIST:
		worker_list(w, o);
		break;
	case ORDER_LEVEL:
		log_set_level((enum log_level)o->value);
		break;
	case ORDER_ACCESS:
		worker_access(w, fd);
		break;
	case ORDER_EXITED:
	case ORDER_FAILED:
		worker_heard_end(w, o);
		break;
	default:
		if (fd != -1)
			close(fd);
		break;
	}
}

/* COMMANDs run on; nobody will say how they end. */
static void
worker_lost(struct channel *c)
{
	struct worker *w = worker_of(c);

	w->ops->lost(w);
}

static const struct channel_ops channel_ops = { .order = worker_heard, .ended = worker_lost };

/* ---- life ---- */

void
worker_open(struct worker *w, struct reactor *r, int chan, const struct worker_ops *ops,
    struct hub **hub, unsigned n_hub)
{
	*w = (struct worker){ .ops = ops, .hub = hub, .n_hub = n_hub, .starter.ops = &remote_ops };
	RB_INIT(&w->started);
	channel_open(&w->channel, r, chan, &channel_ops, w);
}

void
worker_up(struct worker *w, const char *holds)
{
	struct order o = { .verb = ORDER_UP };

	snprintf(o.text, sizeof(o.text), "%s", holds);
	worker_say(w, &o);
}

void
worker_close(struct worker *w)
{
	struct started *s;

	while ((s = RB_ROOT(&w->started))) {
		RB_REMOVE(started_tree, &w->started, s);
		s->by = NULL;
	}
	channel_close(&w->channel);
}
