#include "flow/control.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/log.h"
#include "base/text.h"
#include "flow/conn.h"
#include "flow/relay.h"
#include "flow/room.h"
#include "net/stream.h"
#include "session/exchange.h"

#define RETRY_MS  200	      /* out of descriptors */
#define PIECE	  (32 * 1024) /* of a long answer, said at a time */
#define PATH_SAID 64	      /* bytes of what was asked for, in the answer that it is not there */

struct control_client {
	struct control *of;
	struct env env; /* empty */
	struct http1_setup setup;
	struct relay *relay;
	uid_t uid;
	struct exchange *exchange; /* the one under way, or NULL */
	struct control_call *call; /* it is not answered yet */
	struct text out;	   /* the answer, as far as it is not said */
	size_t said;
	TAILQ_ENTRY(control_client) link;
	struct grave grave;
};

/* ---- routes ---- */

/* How long it is; -EINVAL: half an escape, or a NUL; -ENAMETOOLONG. */
static int
decode(struct http1_text from, char *to, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < from.len; i++) {
		int c = (unsigned char)from.at[i];

		if (c == '%') {
			int high = i + 2 < from.len ? text_hex(from.at[i + 1]) : -1;
			int low = i + 2 < from.len ? text_hex(from.at[i + 2]) : -1;

			if (high < 0 || low < 0)
				return -EINVAL;
			c = high << 4 | low;
			i += 2;
		}
		if (c == '\0')
			return -EINVAL;
		if (n + 1 >= cap)
			return -ENAMETOOLONG;
		to[n++] = (char)c;
	}
	to[n] = '\0';
	return (int)n;
}

/* Whether the route's path is this one; rest: what it leaves over. */
static bool
leads(const struct control_route *r, struct http1_text path, struct http1_text *rest)
{
	size_t len = strlen(r->path);
	bool open = len > 1 && r->path[len - 1] == '/';

	if (path.len < len + open || memcmp(path.at, r->path, len) != 0)
		return false;
	*rest = (struct http1_text){ path.at + len, path.len - len };
	return open || rest->len == 0;
}

static bool
asks(const struct control_route *r, struct http1_text method)
{
	bool head = method.len == 4 && memcmp(method.at, "HEAD", 4) == 0;
	size_t len = strlen(r->method);

	return head ? strcmp(r->method, "GET") == 0
		    : method.len == len && memcmp(method.at, r->method, len) == 0;
}

static void
join(char *to, size_t cap, const char *method, const char *path)
{
	size_t n = strlen(to), len = strlen(path);

	snprintf(to + n, cap - n, "%s%s%s%s%s", n ? ", " : "", method, len ? " " : "", path,
	    len > 1 && path[len - 1] == '/' ? "ID" : "");
}

static void
no_such_path(struct control_miss *m, const struct control_route *route, struct http1_text path)
{
	char there[384] = "";

	for (; route->method; route++)
		if (route->about)
			join(there, sizeof(there), route->method, route->path);
	m->status = 404;
	snprintf(m->why, sizeof(m->why), "there is no %.*s%s here; there is %s",
	    (int)(path.len < PATH_SAID ? path.len : PATH_SAID), path.at,
	    path.len > PATH_SAID ? "..." : "", there);
}

static void
no_such_method(struct control_miss *m, struct http1_text method, const char *path)
{
	m->status = 405;
	snprintf(m->why, sizeof(m->why), "%s does not take %.*s, but %s", path,
	    (int)(method.len < PATH_SAID ? method.len : PATH_SAID), method.at, m->allow);
}

const struct control_route *
control_find(const struct control_route *route, struct http1_text method, struct http1_text path,
    char *to, size_t cap, struct control_miss *miss)
{
	const struct control_route *r, *here = NULL;
	struct http1_text rest;

	*miss = (struct control_miss){ 0 };
	for (r = route; r->method; r++) {
		if (!leads(r, path, &rest))
			continue;
		here = r;
		if (asks(r, method))
			break;
		join(miss->allow, sizeof(miss->allow), r->method, "");
		if (strcmp(r->method, "GET") == 0)
			join(miss->allow, sizeof(miss->allow), "HEAD", "");
	}
	if (!here)
		no_such_path(miss, route, path);
	else if (!r->method)
		no_such_method(miss, method, here->path);
	else if (decode(rest, to, cap) < 0) {
		miss->status = 400;
		snprintf(miss->why, sizeof(miss->why),
		    "what stands after %s is too long, or escaped wrongly: # is written %%23",
		    r->path);
	} else
		return r;
	return NULL;
}

/* ---- answers ---- */

static const char *
code_of(unsigned status)
{
	return status == 400   ? "InvalidInput"
	       : status == 404 ? "ResourceNotFound"
	       : status == 405 ? "UnsupportedHttpVerb"
	       : status == 503 ? "ServiceUnavailable"
	       : status == 504 ? "GatewayTimeout"
			       : "InternalError";
}

static void
error_json(struct text *t, unsigned status, const char *why)
{
	char json[2048];

	http1_error_json(json, sizeof(json), code_of(status), why);
	text_add(t, "%s\n", json);
}

/* What is left of the answer, as far as it is taken now. */
static void
say_on(struct control_client *c)
{
	struct exchange *x = c->exchange;

	while (x && c->said < c->out.len && !exchange_full(x)) {
		size_t n = c->out.len - c->said;

		if (n > PIECE)
			n = PIECE;
		if (exchange_say(x, c->out.at + c->said, n) < 0) {
			c->exchange = NULL;
			text_free(&c->out);
			exchange_cut(x);
			return;
		}
		c->said += n;
	}
	if (!x || c->said < c->out.len)
		return;
	c->exchange = NULL;
	text_free(&c->out);
	exchange_said(x);
}

/* body is taken. */
static void
answer(struct control_client *c, unsigned status, const char *type, const char *fields,
    struct text *body)
{
	struct exchange *x = c->exchange;
	char head[256];

	if (!body->failed && body->len > PIECE) {
		snprintf(head, sizeof(head), "Content-Type: %s\r\n%s", type, fields ? fields : "");
		c->out = *body;
		c->said = 0;
		if (exchange_begin(x, status, NULL, head, (int64_t)body->len) == 0)
			say_on(c);
		return;
	}
	c->exchange = NULL;
	if (body->failed)
		exchange_refuse(x, 500, "InternalError", NULL, "no memory for the answer");
	else
		exchange_answer(x, status, body->len ? type : NULL, fields, body->at, body->len);
	text_free(body);
}

static void
call_free(struct control_call *call)
{
	if (call->client)
		call->client->call = NULL;
	TAILQ_REMOVE(&call->of->calls, call, link);
	free(call);
}

void
control_reply(struct control_call *call, unsigned status, const char *type, struct text *body)
{
	struct control_client *c = call->client;
	struct text none = { 0 };

	call_free(call);
	if (c)
		answer(c, status, type, NULL, body ? body : &none);
	else if (body)
		text_free(body);
}

void
control_refuse(struct control_call *call, unsigned status, const char *fields, const char *fmt, ...)
{
	struct control_client *c = call->client;
	struct text body = { 0 };
	char why[768];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	call_free(call);
	if (!c)
		return;
	error_json(&body, status, why);
	answer(c, status, "application/json", fields, &body);
}

/* ---- the handler ---- */

static void
refuse_miss(struct control_client *c, const struct control_miss *miss)
{
	struct text body = { 0 };
	char fields[96];

	snprintf(fields, sizeof(fields), "Allow: %s\r\n", miss->allow);
	error_json(&body, miss->status, miss->why);
	answer(c, miss->status, "application/json", miss->status == 405 ? fields : NULL, &body);
}

static void
control_begin(struct exchange *x, const struct http1_head *head)
{
	struct control_client *c = exchange_arg(x);
	struct control_call *call = calloc(1, sizeof(*call));
	struct control_miss miss;

	c->exchange = x;
	if (!call) {
		c->exchange = NULL;
		exchange_refuse(x, 500, "InternalError", NULL, "no memory");
		return;
	}
	call->route = control_find(
	    c->of->cfg.route, head->method, head->path, call->rest, sizeof(call->rest), &miss);
	if (!call->route) {
		free(call);
		refuse_miss(c, &miss);
		return;
	}
	call->of = c->of;
	call->client = c;
	call->uid = c->uid;
	c->call = call;
	TAILQ_INSERT_TAIL(&c->of->calls, call, link);
	exchange_continue(x);
}

/* More than that the session has refused. */
static ssize_t
control_body(struct exchange *x, const char *bytes, size_t len)
{
	struct control_client *c = exchange_arg(x);
	struct control_call *call = c->call;

	if (!call || len > CONTROL_BODY_MAX - call->body_len)
		return -EMSGSIZE;
	memcpy(call->body + call->body_len, bytes, len);
	call->body_len += len;
	return (ssize_t)len;
}

static void
control_end(struct exchange *x)
{
	struct control_client *c = exchange_arg(x);

	if (!c->call)
		return;
	c->call->asked = true;
	c->call->route->answer(c->call);
}

static void
control_drained(struct exchange *x)
{
	struct control_client *c = exchange_arg(x);

	if (c->out.len)
		say_on(c);
}

/* The client has gone: what was asked and is still under way is answered to nobody. */
static void
control_abort(struct exchange *x)
{
	struct control_client *c = exchange_arg(x);
	struct control_call *call = c->call;

	c->exchange = NULL;
	c->call = NULL;
	text_free(&c->out);
	if (!call)
		return;
	call->client = NULL;
	if (!call->asked)
		call_free(call);
}

static const struct http1_handler control_handler = {
	.name = "control",
	.begin = control_begin,
	.body = control_body,
	.end = control_end,
	.drained = control_drained,
	.abort = control_abort,
};

/* ---- clients ---- */

static void
control_release(struct grave *g)
{
	free((char *)g - offsetof(struct control_client, grave));
}

static void
client_over(struct control_client *c)
{
	struct control *of = c->of;

	env_free(&c->env);
	TAILQ_REMOVE(&of->all, c, link);
	of->clients--;
	reactor_bury(of->cfg.reactor, &c->grave, control_release);
	if (of->bound.fd != -1 && !of->retry.slot)
		reactor_want(of->cfg.reactor, &of->watch, WATCH_READ);
}

static void
client_done(void *arg, const struct relay_end *end)
{
	(void)end;
	client_over(arg);
}

/* fd is taken. */
static int
client_join(struct control_client *c, int fd)
{
	struct reactor *r = c->of->cfg.reactor;
	struct relay_config rc = { .indifferent = true,
		.b_has_deadlines = true,
		.idle = CONTROL_IDLE_MS,
		.half_close = CONTROL_REQUEST_MS,
		.flush = CONTROL_REQUEST_MS,
		.done = client_done,
		.arg = c };
	struct conn_config conn = { .reactor = r,
		.ops = &session_http1,
		.env = &c->env,
		.arg = &c->setup,
		.first = reactor_now(r) + CONTROL_REQUEST_MS };
	int rv = stream_new(fd, fd, true, &rc.a);

	if (rv < 0) {
		close(fd);
		return rv;
	}
	rv = conn_session(&rc.b, &conn);
	if (rv == 0)
		rv = relay_start(&c->relay, r, &rc);
	if (rv == 0)
		conn_attach(rc.b, c->relay);
	else {
		if (rc.b)
			rc.b->ops->close(rc.b, true);
		rc.a->ops->close(rc.a, true);
	}
	return rv;
}

int
control_join(struct control *of, int fd, uid_t uid)
{
	struct control_client *c = calloc(1, sizeof(*c));
	int rc;

	if (!c) {
		close(fd);
		return -ENOMEM;
	}
	c->of = of;
	c->uid = uid;
	c->setup = (struct http1_setup){ .cfg = &of->http, .arg = c };
	TAILQ_INSERT_TAIL(&of->all, c, link);
	of->clients++;
	rc = client_join(c, fd);
	if (rc < 0)
		client_over(c);
	return rc;
}

static void
control_take(struct control *of, int fd)
{
	static struct log_class class = { .name = "clients of the control socket refused" };
	uid_t uid = (uid_t)-1;

	if (!handoff_peer_allowed(fd, of->cfg.peer_user, &uid)) {
		if (log_admit(&class, reactor_now(of->cfg.reactor)))
			log_event(LOG_L_INFO, NULL, "refused", NULL,
			    "--control %s: user %ld may not (--peer-user)", of->cfg.path,
			    (long)uid);
		close(fd);
	} else
		(void)control_join(of, fd, uid);
}

static void
control_ready(struct watch *w, uint32_t got)
{
	struct control *of = (struct control *)((char *)w - offsetof(struct control, watch));
	int fd = 0;

	(void)got;
	while (of->clients < CONTROL_CLIENTS && (fd = handoff_accept(of->bound.fd)) >= 0)
		control_take(of, fd);
	if (of->clients == CONTROL_CLIENTS) /* the next one waits until one of them has gone */
		reactor_want(of->cfg.reactor, w, 0);
	else if (fd < 0 && fd != -EAGAIN) {
		room_short("cannot accept on the control socket", -fd, "its clients wait");
		reactor_want(of->cfg.reactor, w, 0);
		(void)reactor_timer(
		    of->cfg.reactor, &of->retry, reactor_now(of->cfg.reactor) + RETRY_MS);
	}
}

static void
control_retry(struct timer *t)
{
	struct control *of = (struct control *)((char *)t - offsetof(struct control, retry));

	reactor_want(of->cfg.reactor, &of->watch, WATCH_READ);
}

/* ---- life ---- */

void
control_init(struct control *of, const struct control_config *cfg)
{
	*of = (struct control){
		.cfg = *cfg, .retry.fire = control_retry, .pid = getpid(), .bound.fd = -1
	};
	TAILQ_INIT(&of->all);
	TAILQ_INIT(&of->calls);
	of->http = (struct http1_config){ .limits = { .body = CONTROL_BODY_MAX,
					      .header = CONTROL_HEAD_MAX,
					      .count = 64,
					      .line = CONTROL_HEAD_MAX / 2,
					      .head = CONTROL_HEAD_MAX },
		.request_timeout = CONTROL_REQUEST_MS,
		.idle = CONTROL_IDLE_MS,
		.handler = &control_handler };
}

static void
control_listen(struct control *of)
{
	reactor_watch(of->cfg.reactor, &of->watch, of->bound.fd, control_ready);
	reactor_want(of->cfg.reactor, &of->watch, WATCH_READ);
}

int
control_open(struct control *of, const struct control_config *cfg, char *msg, size_t cap)
{
	int rc;

	control_init(of, cfg);
	rc = handoff_bind(&of->bound, cfg->path, cfg->socket_mode, cfg->socket_group, SOCK_STREAM);
	if (rc < 0) {
		of->cfg.reactor = NULL;
		snprintf(msg, cap, "--control %s: cannot bind it: %s", cfg->path,
		    rc == -EADDRINUSE ? "somebody listens there"
		    : rc == -ENOTSOCK ? "another kind of file is there"
				      : strerror(-rc));
		return rc;
	}
	control_listen(of);
	return 0;
}

void
control_adopt(
    struct control *of, const struct control_config *cfg, const struct handoff_bound *bound)
{
	control_init(of, cfg);
	of->bound = *bound;
	control_listen(of);
}

void
control_close(struct control *of)
{
	struct control_client *c;
	struct control_call *call;

	if (!of->cfg.reactor || of->pid != getpid())
		return;
	reactor_forget(of->cfg.reactor, &of->watch);
	(void)reactor_timer(of->cfg.reactor, &of->retry, CLOCK_NEVER);
	handoff_unbind(&of->bound);
	while ((c = TAILQ_FIRST(&of->all)))
		relay_cut(c->relay, "control", 0);
	while ((call = TAILQ_FIRST(&of->calls)))
		call_free(call);
	of->cfg.reactor = NULL;
}
