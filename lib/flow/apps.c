#include "flow/apps.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "flow/range.h"
#include "flow/room.h"

#define RETRY_MS 200		 /* out of descriptors */
#define LOW	 (APPS_HIGH / 2) /* a full queue is full until then */

enum app_reading {
	APP_READS,
	APP_HELD,     /* its next message waits for room() */
	APP_READ_OUT, /* its direction has ended */
};

enum app_writing {
	APP_WRITES,
	APP_BLOCKED, /* until the socket takes more */
	APP_DEAF,    /* it reads no more */
};

struct app {
	struct apps *of;
	unsigned number; /* of all that ever were */
	uid_t uid;
	int fd;
	enum app_reading reading;
	enum app_writing writing;
	bool may_read;
	bool gone;	       /* it has closed both directions */
	bool unread;	       /* ... and had not read all that was written */
	bool full;	       /* counted in apps.full */
	bool starved;	       /* no memory for a message: what follows would hide the hole */
	uint64_t long_end;     /* taken, with the last message that has a file */
	char to[FRAME_ID_MAX]; /* whom the message at the front is for */
	size_t to_len;
	struct text why; /* what was wrong with what it sent */
	struct watch watch;
	struct task task; /* one step: read, write, judge */
	struct inbox in;
	struct outbox out;
	struct grave grave;
	TAILQ_ENTRY(app) link;
};

static bool
app_listens(const struct app *app)
{
	return app->writing != APP_DEAF;
}

/* ---- what is asked and told ---- */

bool
apps_ready(const struct apps *of)
{
	return of->listening > 0 && of->full == 0;
}

bool
apps_idle(const struct apps *of)
{
	const struct app *app;

	TAILQ_FOREACH(app, &of->all, link)
		if (app->out.waiting > 0)
			return false;
	return true;
}

/* The last thing in whatever calls it: the answer is asked for at once. */
static void
apps_tell(struct apps *of)
{
	bool ready = of->held_up && apps_ready(of), idle = of->busy && apps_idle(of);

	of->held_up = of->held_up && !ready;
	of->busy = of->busy && !idle;
	if (ready || (idle && of->draining))
		of->cfg.changed(of->cfg.arg);
}

/* Files do not count as memory, but they are descriptors, and room on a disk. */
static void
app_weigh(struct app *app)
{
	bool files = app->out.taken - app->out.waiting < app->long_end;
	bool full =
	    app_listens(app) && (files || app->out.unwritten >= (app->full ? LOW : APPS_HIGH));

	if (full == app->full)
		return;
	app->full = full;
	app->of->full += full ? 1 : -1U;
	app->of->held_up |= full;
}

/* ---- lines ---- */

static void
say_attached(const struct app *app)
{
	static struct log_class class = { .name = "programs attached" };
	const struct log_fact facts[] = { { .key = "program", .num = app->number },
		{ .key = "uid", .num = app->uid }, { 0 } };

	if (log_admit(&class, reactor_now(app->of->cfg.reactor)))
		log_event(LOG_L_INFO, NULL, "attached", facts,
		    "--app %s: program %u (user %ld) attached", app->of->cfg.path, app->number,
		    (long)app->uid);
}

/* Whether it has sent something that we leave where it is. */
static bool
left_behind(const struct app *app)
{
	uint64_t have, of;
	int n = 0;

	if (app->reading != APP_READS || app->in.fault)
		return app->reading == APP_HELD;
	return inbox_partial(&app->in, &have, &of) || (ioctl(app->fd, FIONREAD, &n) == 0 && n > 0);
}

static void
say_detached(const struct app *app, const char *why)
{
	static struct log_class class = { .name = "programs detached" };
	bool behind = left_behind(app);
	const struct log_fact facts[] = { { .key = "program", .num = app->number },
		{ .key = "uid", .num = app->uid },
		{ .key = "messages_in", .num = (int64_t)app->in.messages },
		{ .key = "messages_out", .num = (int64_t)app->out.delivered },
		{ .key = "lost", .num = (int64_t)app->out.dropped }, { .key = "why", .text = why },
		{ 0 } };
	char lost[64] = "";

	if (!log_admit(&class, reactor_now(app->of->cfg.reactor)))
		return;
	if (app->out.dropped)
		snprintf(lost, sizeof(lost), ", %" PRIu64 " lost", app->out.dropped);
	log_event(LOG_L_INFO, NULL, "detached", facts,
	    "--app %s: program %u (user %ld) detached: %s; messages: %" PRIu64 " in, %" PRIu64
	    " out%s%s",
	    app->of->cfg.path, app->number, (long)app->uid, why, app->in.messages,
	    app->out.delivered, lost, behind ? "; what it sent last was not read" : "");
}

static void
say_refused(const struct apps *of, uid_t uid, const char *why)
{
	static struct log_class class = { .name = "programs refused" };

	if (log_admit(&class, reactor_now(of->cfg.reactor)))
		log_event(LOG_L_INFO, NULL, "refused", NULL, "--app %s: user %ld %s", of->cfg.path,
		    (long)uid, why);
}

static void
say_crowd(const struct apps *of)
{
	static struct log_class class = { .name = "times that --app was full" };

	if (log_admit(&class, reactor_now(of->cfg.reactor)))
		log_event(LOG_L_INFO, NULL, "full", NULL,
		    "--app %s: %d programs are attached: the next one waits until one has gone",
		    of->cfg.path, APPS_MAX);
}

/* A message that is dropped here, by whom it was to be passed on. */
static void
say_lost(const struct apps *of, const char *whose, const char *why)
{
	static struct log_class class = { .name = "messages of --app dropped" };

	if (log_admit(&class, reactor_now(of->cfg.reactor)))
		log_event(LOG_L_WARN, NULL, "dropped", NULL,
		    "--app %s: a message %s was dropped: %s", of->cfg.path, whose, why);
}

/* ---- its end ---- */

static void
app_release(struct grave *g)
{
	free((char *)g - offsetof(struct app, grave));
}

static void
app_deafen(struct app *app)
{
	if (!app_listens(app))
		return;
	app->writing = APP_DEAF;
	(void)outbox_drop(&app->out);
	app_weigh(app);
	app->of->held_up |= --app->of->listening == 0;
}

/* apps_tell follows. */
static void
app_over(struct app *app, const char *why)
{
	struct apps *of = app->of;

	app_deafen(app);
	say_detached(app, why);
	reactor_forget(of->cfg.reactor, &app->watch);
	reactor_drop(of->cfg.reactor, &app->task);
	close(app->fd);
	inbox_free(&app->in);
	outbox_free(&app->out);
	text_free(&app->why);
	TAILQ_REMOVE(&of->all, app, link);
	of->n--;
	reactor_bury(of->cfg.reactor, &app->grave, app_release);
	if (of->bound.fd != -1 && !of->retry.slot)
		reactor_want(of->cfg.reactor, &of->watch, WATCH_READ);
}

/* ---- what it sends ---- */

static struct app *
app_of(struct inbox *in)
{
	return (struct app *)((char *)in - offsetof(struct app, in));
}

static int
app_head(struct inbox *in, const struct frame *f)
{
	struct app *app = app_of(in);
	const struct apps_config *cfg = &app->of->cfg;

	memcpy(app->to, f->to, f->to_len);
	app->to_len = f->to_len;
	if (f->from_len == 0 && cfg->id_len > cfg->max_frame - f->size) {
		text_add(&app->why,
		    "with our id a frame of %" PRIu64 " bytes, --max-frame is %" PRIu32,
		    f->size + (uint64_t)cfg->id_len, cfg->max_frame);
		return -EMSGSIZE;
	}
	if (f->from_len == 0 ||
	    (f->from_len == cfg->id_len && memcmp(f->from, cfg->id, cfg->id_len) == 0))
		return 0;
	text_add(&app->why, "a frame of sender ");
	frame_id_text(&app->why, f->from, f->from_len);
	text_add(&app->why, ", but we are ");
	frame_id_text(&app->why, cfg->id, cfg->id_len);
	return -EPERM;
}

static bool
app_ready(struct inbox *in)
{
	struct app *app = app_of(in);

	return app->of->cfg.room(app->of->cfg.arg, app->to, app->to_len);
}

static void
app_message(struct inbox *in, const struct message *m)
{
	struct app *app = app_of(in);
	char whose[48];

	if (m->payload || m->range || m->frame.payload == 0) {
		app->of->cfg.send(app->of->cfg.arg, m);
		return;
	}
	snprintf(whose, sizeof(whose), "from program %u", app->number);
	say_lost(app->of, whose, strerror(-in->file_error));
}

static const struct inbox_ops app_inbox = {
	.head = app_head,
	.ready = app_ready,
	.message = app_message,
};

/* The end of its direction: of the other one, too, if it came within a frame. */
static const char *
app_ended(struct app *app)
{
	uint64_t have, of;

	app->reading = APP_READ_OUT;
	if (!inbox_partial(&app->in, &have, &of))
		return NULL;
	text_add(&app->why, "it ended within a frame, %" PRIu64 " bytes of ", have);
	if (of)
		text_add(&app->why, "%" PRIu64, of);
	else
		text_add(&app->why, "its head");
	return app->why.at ? app->why.at : "it ended within a frame";
}

/* Each of these: NULL, or why it has to end. */
static const char *
app_read(struct app *app)
{
	int error = 0;

	if (!app->may_read || app->reading != APP_READS || app->of->draining)
		return NULL;
	app->may_read = false;
	switch (inbox_step(&app->in, app->fd, &error)) {
	case INBOX_MORE:
		app->may_read = true;
		reactor_again(app->of->cfg.reactor, &app->task);
		return NULL;
	case INBOX_WAIT:
		return NULL;
	case INBOX_HELD:
		app->reading = APP_HELD;
		return NULL;
	case INBOX_END:
		return app_ended(app);
	case INBOX_FAULT:
		if (!app->why.len)
			inbox_fault_text(&app->in, &app->why);
		return app->why.at ? app->why.at : "a malformed frame";
	case INBOX_ERROR:
		break;
	}
	if (error != -ECONNRESET)
		return strerror(-error);
	app->gone = app->unread = true; /* so the kernel says that it closed on what we wrote */
	return app_ended(app);
}

/* ---- what it gets ---- */

static void
app_lost(struct outbox *out, const struct range *r)
{
	struct app *app = (struct app *)((char *)out - offsetof(struct app, out));
	char whose[48];

	snprintf(whose, sizeof(whose), "to program %u", app->number);
	(void)r;
	say_lost(app->of, whose, "its file has shrunk");
}

static void
app_put(struct app *app, const struct piece *piece, unsigned n)
{
	app->starved |= outbox_put(&app->out, piece, n) < 0;
	if (n > 1)
		app->long_end = app->out.taken;
	app_weigh(app);
	if (app->writing == APP_WRITES || app->starved)
		reactor_later(app->of->cfg.reactor, &app->task);
}

void
apps_message(struct apps *of, const struct message *m)
{
	bool in_memory = m->payload || m->frame.payload == 0;
	struct piece piece[] = {
		{ .bytes = m->raw,
		    .len = in_memory ? FRAME_PREFIX + (size_t)m->frame.size
				     : m->frame.head - m->frame.at },
		{ .range = m->range, .len = m->frame.payload },
	};
	struct app *app;

	if (!in_memory && !m->range) {
		say_lost(of, "from a peer", "its payload could not be kept");
		return;
	}
	of->busy = true;
	TAILQ_FOREACH(app, &of->all, link)
		if (app_listens(app))
			app_put(app, piece, in_memory ? 1 : 2);
}

static const char *
app_write(struct app *app)
{
	int rc;

	if (app->writing != APP_WRITES)
		return NULL;
	rc = outbox_write(&app->out, app->fd, false);
	outbox_settle(&app->out);
	app_weigh(app);
	switch (rc) {
	case 0:
		return NULL;
	case 1:
		reactor_again(app->of->cfg.reactor, &app->task);
		return NULL;
	case -EAGAIN:
		app->writing = APP_BLOCKED;
		return NULL;
	case -EPIPE:
	case -ECONNRESET:
		app_deafen(app);
		return NULL;
	case -ESTALE:
		return "a file has shrunk under a message that was partly written";
	default:
		return strerror(-rc);
	}
}

/* ---- a step ---- */

static const char *
app_judge(struct app *app)
{
	const char *why;

	if (app->starved)
		return "no memory for a message to it";
	why = app_read(app);
	if (app->gone)
		app_deafen(app);
	if (!why)
		why = app_write(app);
	if (!why && (app->reading == APP_READ_OUT || app->of->draining) && app->writing == APP_DEAF)
		why = app->unread ? "it closed, and had not read everything" : "it closed";
	return why;
}

static void
app_step(struct task *t)
{
	struct app *app = (struct app *)((char *)t - offsetof(struct app, task));
	struct apps *of = app->of;
	const char *why = app_judge(app);

	if (why)
		app_over(app, why);
	else
		reactor_want(of->cfg.reactor, &app->watch,
		    (app->reading == APP_READS && !of->draining ? WATCH_READ : 0) |
			(app->writing == APP_BLOCKED ? WATCH_WRITE : 0) |
			(app->gone ? 0 : WATCH_HUP));
	apps_tell(of);
}

static void
app_event(struct watch *w, uint32_t got)
{
	struct app *app = (struct app *)((char *)w - offsetof(struct app, watch));

	if (got & WATCH_HUP)
		app->gone = true;
	if (got & WATCH_READ)
		app->may_read = true;
	if (got & WATCH_WRITE && app->writing == APP_BLOCKED)
		app->writing = APP_WRITES;
	reactor_later(app->of->cfg.reactor, &app->task);
}

void
apps_resume(struct apps *of)
{
	struct app *app;

	TAILQ_FOREACH(app, &of->all, link) {
		if (app->reading != APP_HELD)
			continue;
		app->reading = APP_READS;
		app->may_read = true;
		reactor_later(of->cfg.reactor, &app->task);
	}
}

/* ---- letting in ---- */

/* Who has closed already (one that only looked whether somebody listens) is no listener: a message
 * would be lost. */
static bool
has_closed(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) > 0 && p.revents & POLLHUP;
}

/* fd is taken. */
static void
app_attach(struct apps *of, int fd, uid_t uid)
{
	struct app *app = calloc(1, sizeof(*app));

	if (!app) {
		say_refused(of, uid, "cannot attach: no memory");
		close(fd);
		return;
	}
	app->of = of;
	app->fd = fd;
	app->uid = uid;
	app->number = ++of->count;
	app->in.ops = &app_inbox;
	app->in.max = of->cfg.max_frame;
	app->in.addressed = true;
	app->in.most = of->cfg.most;
	app->in.large = INBOX_SPOOL;
	outbox_init(&app->out);
	app->out.lost = app_lost;
	outbox_begin(&app->out);
	app->task.run = app_step;
	app->gone = has_closed(fd);
	app->writing = app->gone ? APP_DEAF : APP_WRITES;
	reactor_watch(of->cfg.reactor, &app->watch, fd, app_event);
	reactor_want(of->cfg.reactor, &app->watch, WATCH_READ | WATCH_HUP);
	TAILQ_INSERT_TAIL(&of->all, app, link);
	of->n++;
	of->listening += app_listens(app);
	say_attached(app);
}

static void
apps_take(struct apps *of, int fd)
{
	uid_t uid = (uid_t)-1;

	if (handoff_peer_allowed(fd, of->cfg.peer_user, &uid)) {
		app_attach(of, fd, uid);
		return;
	}
	say_refused(of, uid, "may not (--peer-user)");
	close(fd);
}

static void
apps_event(struct watch *w, uint32_t got)
{
	struct apps *of = (struct apps *)((char *)w - offsetof(struct apps, watch));
	int fd = 0;

	(void)got;
	while (of->n < APPS_MAX && (fd = handoff_accept(of->bound.fd)) >= 0)
		apps_take(of, fd);
	if (of->n == APPS_MAX) {
		say_crowd(of);
		reactor_want(of->cfg.reactor, w, 0);
	} else if (fd != -EAGAIN) {
		room_short("cannot accept on the --app socket", -fd, "programs wait");
		reactor_want(of->cfg.reactor, w, 0);
		(void)reactor_timer(
		    of->cfg.reactor, &of->retry, reactor_now(of->cfg.reactor) + RETRY_MS);
	}
	apps_tell(of);
}

static void
apps_retry(struct timer *t)
{
	struct apps *of = (struct apps *)((char *)t - offsetof(struct apps, retry));

	reactor_want(of->cfg.reactor, &of->watch, WATCH_READ);
}

/* ---- life ---- */

int
apps_open(struct apps *of, const struct apps_config *cfg, char *msg, size_t cap)
{
	struct handoff_bound bound;
	int rc = handoff_bind(&bound, cfg->path, cfg->socket_mode, cfg->socket_group, SOCK_STREAM);

	if (rc < 0) {
		snprintf(msg, cap, "--app %s: cannot bind it: %s", cfg->path,
		    rc == -EADDRINUSE ? "somebody listens there"
		    : rc == -ENOTSOCK ? "another kind of file is there"
				      : strerror(-rc));
		return rc;
	}
	*of =
	    (struct apps){ .cfg = *cfg, .bound = bound, .retry.fire = apps_retry, .held_up = true };
	TAILQ_INIT(&of->all);
	reactor_watch(cfg->reactor, &of->watch, bound.fd, apps_event);
	reactor_want(cfg->reactor, &of->watch, WATCH_READ);
	return 0;
}

static void
apps_shut(struct apps *of)
{
	reactor_forget(of->cfg.reactor, &of->watch);
	(void)reactor_timer(of->cfg.reactor, &of->retry, CLOCK_NEVER);
	handoff_unbind(&of->bound);
}

void
apps_drain(struct apps *of)
{
	struct app *app;

	if (!of->cfg.reactor || of->draining)
		return;
	of->draining = true;
	apps_shut(of);
	TAILQ_FOREACH(app, &of->all, link)
		reactor_later(of->cfg.reactor, &app->task);
}

void
apps_close(struct apps *of)
{
	struct app *app;

	if (!of->cfg.reactor)
		return;
	apps_shut(of);
	while ((app = TAILQ_FIRST(&of->all)))
		app_over(app, "we end");
	of->cfg.reactor = NULL;
}
