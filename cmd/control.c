#include "cmd/control.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/metrics.h"
#include "cmd/tool.h"
#include "net/socket.h"
#include "wire/record.h"

static const char *const level_words[] = { "error", "warn", "info", "debug", NULL };

static struct control control;
static struct handoff_bound crossed = { .fd = -1 }; /* it came with us, and is not served yet */
static uid_t crossed_user;
static struct task drain_task;

/* ---- what all have ---- */

static void
say_who(const struct control_call *call, const char *what)
{
	const struct log_fact facts[] = { { .key = "uid", .num = call->uid }, { 0 } };

	log_event(LOG_L_INFO, NULL, "control", facts, "--control: user %u: %s%s %s",
	    (unsigned)call->uid, call->route->path, call->rest, what);
}

static void
plain(struct control_call *call, unsigned status, const char *text)
{
	struct text body = { 0 };

	text_add(&body, "%s\n", text);
	control_reply(call, status, "text/plain", &body);
}

static void
answer_routes(struct control_call *call)
{
	const struct control_route *r = call->of->cfg.route;
	struct text body = { 0 };

	text_add(&body, "%s %s\n", tool.name, CCF_VERSION);
	for (; r->method; r++) {
		bool open = strlen(r->path) > 1 && r->path[strlen(r->path) - 1] == '/';

		if (r->about)
			text_add(&body, "%-6s %s%-*s %s\n", r->method, r->path,
			    (int)(18 - strlen(r->path)), open ? "ID" : "", r->about);
	}
	control_reply(call, 200, "text/plain", &body);
}

/* In the next turn: the tool may end by it, and the answer shall have gone. */
static void
drain_now(struct task *t)
{
	(void)t;
	tool_drain();
}

static void
answer_drain(struct control_call *call)
{
	say_who(call, tool.draining ? "again" : "asked for");
	drain_task.run = drain_now;
	reactor_again(tool.reactor, &drain_task);
	plain(call, 202, "draining");
}

static void
answer_reload(struct control_call *call)
{
	if (!tool.hup) {
		control_refuse(call, 404, NULL, "%s has nothing to reload", tool.name);
		return;
	}
	say_who(call, "asked for");
	tool.hup();
	plain(call, 202, "reloading: the log says how it went");
}

static void
answer_level(struct control_call *call)
{
	int level = LOG_L_ERROR;

	while (level < LOG_L_DEBUG && log_wants((enum log_level)(level + 1)))
		level++;
	plain(call, 200, level_words[level]);
}

static void
answer_set_level(struct control_call *call)
{
	size_t len = strcspn(call->body, " \t\r\n");
	bool heard = log_wants(LOG_L_INFO); /* one that silences the log is the last to be said */
	int level = 0;

	if (call->body[len + strspn(call->body + len, " \t\r\n")] == '\0')
		call->body[len] = '\0';
	while (level_words[level] && strcmp(level_words[level], call->body) != 0)
		level++;
	if (!level_words[level]) {
		control_refuse(call, 400, NULL, "write error, warn, info or debug in the body");
		return;
	}
	if (heard)
		say_who(call, level_words[level]);
	(tool.level ? tool.level : log_set_level)((enum log_level)level);
	if (!heard)
		say_who(call, level_words[level]);
	plain(call, 200, level_words[level]);
}

static const struct control_route shared[] = {
	{ "GET", "/", "what can be asked for here", answer_routes },
	{ "POST", "/drain", "take nothing new, finish, end: as TERM", answer_drain },
	{ "POST", "/reload", "read files again: as HUP", answer_reload },
	{ "GET", "/log-level", "error, warn, info or debug", answer_level },
	{ "PUT", "/log-level", "set it: the word is the body", answer_set_level },
};
#define SHARED (sizeof(shared) / sizeof(shared[0]))

/* ---- answers ---- */

void
control_metrics(struct control_call *call, struct text *samples)
{
	metrics_process(samples, tool.name);
	control_reply(call, 200, "text/plain; version=0.0.4; charset=utf-8", samples);
}

void
control_rows(struct control_call *call, struct text *rows, const char *missing)
{
	struct text body = { .failed = rows->failed };

	text_add(&body, "[");
	if (rows->len)
		text_bytes(&body, rows->at, rows->len);
	if (missing) {
		text_add(&body, "%s{\"missing\":", rows->len ? ",\n" : "");
		text_json(&body, missing, strlen(missing));
		text_add(&body, "}");
	}
	text_add(&body, "]\n");
	text_free(rows);
	control_reply(call, 200, "application/json", &body);
}

void
control_cut(struct control_call *call, bool found, const char *missing)
{
	struct text body = { 0 };

	if (!found && missing) {
		control_refuse(call, 504, NULL, "%s is not found, but %s", call->rest, missing);
		return;
	}
	if (!found) {
		control_refuse(call, 404, NULL,
		    "there is no connection %s: GET /connections shows those there are (# is "
		    "written %%23)",
		    call->rest);
		return;
	}
	say_who(call, "cut");
	text_add(&body, "{\"cut\":");
	text_json(&body, call->rest, strlen(call->rest));
	text_add(&body, "}\n");
	control_reply(call, 200, "application/json", &body);
}

void
control_elsewhere(struct control_call *call, const char *who)
{
	control_refuse(call, 405, "Allow: \r\n", "%s does not hold its connections' bytes: %s",
	    tool.name, who);
}

/* ---- USR2 ---- */

void
tool_control_save(struct text *t)
{
	const struct handoff_bound *b = &control.bound;

	if (!control.cfg.reactor)
		return;
	record_begin(t, "control");
	record_number(t, "fd", b->fd);
	record_text(t, "path", b->path);
	record_number(t, "dev", (int64_t)b->dev);
	record_number(t, "ino", (int64_t)b->ino);
	record_number(t, "user", (int64_t)control.cfg.peer_user);
	record_end(t);
}

int
tool_control_restore(const struct record *r, char *msg, size_t cap)
{
	struct handoff_bound b = { .fd = -1 };
	int64_t fd, dev, ino, user;
	const char *path = record_get(r, "path");

	if (record_get_number(r, "fd", 3, INT_MAX, &fd) < 0 ||
	    record_get_number(r, "dev", INT64_MIN, INT64_MAX, &dev) < 0 ||
	    record_get_number(r, "ino", INT64_MIN, INT64_MAX, &ino) < 0 ||
	    record_get_number(r, "user", 0, (uid_t)-1, &user) < 0 || !path ||
	    strlcpy(b.path, path, sizeof(b.path)) >= sizeof(b.path)) {
		snprintf(msg, cap, "a field is missing or out of range");
		return CCF_SYSTEM;
	}
	if (!tool.control_path || crossed.fd != -1) {
		snprintf(msg, cap,
		    crossed.fd == -1 ? "there is one, and no --control" : "there are two");
		return CCF_SYSTEM;
	}
	b.fd = (int)fd;
	b.dev = (dev_t)dev;
	b.ino = (ino_t)ino;
	if (socket_family(b.fd) != AF_UNIX || socket_kind(b.fd) != SOCK_STREAM ||
	    !socket_listens(b.fd)) {
		snprintf(msg, cap, "descriptor %d is no Unix socket that listens", b.fd);
		return CCF_SYSTEM;
	}
	crossed = b;
	crossed_user = (uid_t)user;
	return 0;
}

/* ---- life ---- */

void
control_may(bool stays, const char *how)
{
	const char *path = tool.control_path;

	if (path && !stays)
		tool_usage("--control is for a tool that stays running: %s", how);
	if (path && (!*path || strlen(path) >= sizeof(control.bound.path)))
		tool_usage("--control %s: a path of 1 to %zu bytes is wanted", path,
		    sizeof(control.bound.path) - 1);
}

static void
open_here(struct control_config *cfg)
{
	char msg[512];
	int rc;

	tool_socket(&cfg->socket_mode, &cfg->socket_group, &cfg->peer_user);
	rc = control_open(&control, cfg, msg, sizeof(msg));
	if (rc < 0)
		tool_die(rc == -EADDRINUSE ? CCF_BIND : CCF_SYSTEM, "%s", msg);
}

void
tool_control(const struct control_route *own)
{
	struct control_config cfg = {
		.reactor = tool.reactor, .path = tool.control_path, .tool = tool.name
	};
	struct control_route *all;
	size_t n = 0;

	if (!tool.control_path)
		return;
	while (own[n].method)
		n++;
	all = calloc(SHARED + n + 1, sizeof(*all));
	if (!all)
		tool_die(CCF_SYSTEM, "no memory");
	all[0] = shared[0];
	memcpy(all + 1, own, n * sizeof(*all));
	memcpy(all + 1 + n, shared + 1, (SHARED - 1) * sizeof(*all));
	cfg.route = all;
	if (crossed.fd == -1) {
		open_here(&cfg);
		return;
	}
	cfg.peer_user = crossed_user;
	control_adopt(&control, &cfg, &crossed);
	crossed.fd = -1;
}

void
tool_control_close(void)
{
	handoff_unbind(&crossed);
	if (!control.cfg.reactor || control.pid != getpid()) /* a worker's master's */
		return;
	reactor_drop(tool.reactor, &drain_task);
	control_close(&control);
	free((void *)(uintptr_t)control.cfg.route);
	control.cfg.route = NULL;
}
