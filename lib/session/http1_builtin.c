/* Pages for demos, tests and benchmarks.  The page about the connection is made once; only its last
 * line, how many requests there were, changes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/text.h"
#include "session/exchange.h"
#include "session/http1_parts.h"

enum page { PAGE_NONE, PAGE_ROOT, PAGE_ECHO, PAGE_ALL };

static const char *const allow[] = {
	[PAGE_ROOT] = "GET, HEAD, POST, PUT, OPTIONS",
	[PAGE_ECHO] = "POST, PUT, OPTIONS",
	[PAGE_ALL] = "GET, HEAD, POST, PUT, OPTIONS",
};

static bool
is(struct http1_text text, const char *word)
{
	return text.len == strlen(word) && memcmp(text.at, word, text.len) == 0;
}

static enum page
page_of(const struct http1_head *head)
{
	return is(head->path, "/")	 ? PAGE_ROOT
	       : is(head->path, "/echo") ? PAGE_ECHO
	       : is(head->path, "*")	 ? PAGE_ALL
					 : PAGE_NONE;
}

/* ---- GET / ---- */

static void
add(struct text *t, const char *what, const char *value, const char *more)
{
	if (value)
		text_add(t, "%s: %s%s%s\n", what, value, more ? " " : "", more ? more : "");
}

static char *
page_make(const struct env *env)
{
	const char *ip = env_get(env, "TCPREMOTEIP"), *port = env_get(env, "TCPREMOTEPORT");
	const char *client = env_get(env, "SSL_CLIENT_S_DN");
	struct text t = { 0 };

	text_add(&t, "This is ccf-net.\n\n");
	add(&t, "interface", env_get(env, "CCF_INTERFACE"), NULL);
	add(&t, "connection", env_get(env, "CCF_CONN_ID"), NULL);
	if (ip && port)
		text_add(&t, strchr(ip, ':') ? "peer: [%s]:%s\n" : "peer: %s:%s\n", ip, port);
	add(&t, "TLS", env_get(env, "SSL_PROTOCOL"), env_get(env, "SSL_CIPHER"));
	add(&t, "client certificate", client, env_get(env, "SSL_CLIENT_VERIFY"));
	if (t.failed)
		text_free(&t);
	return t.at;
}

static void
answer_root(struct exchange *x)
{
	struct session *s = session_of(x);
	char body[2048];
	int n;

	if (!s->page && s->env)
		s->page = page_make(s->env);
	n = snprintf(body, sizeof(body), "%.1900srequests on this connection: %llu\n",
	    s->page ? s->page : "", (unsigned long long)s->requests);
	exchange_answer(x, 200, "text/plain; charset=utf-8", NULL, body, (size_t)n);
}

/* ---- POST / ---- */

static void
answer_length(struct exchange *x)
{
	char body[64];
	int n = snprintf(body, sizeof(body), "%llu bytes\n", (unsigned long long)x->in);

	exchange_answer(x, 200, "text/plain; charset=utf-8", NULL, body, (size_t)n);
}

/* ---- POST /echo ---- */

static int
echo_begin(struct exchange *x)
{
	const struct http1_head *head = exchange_request(x);

	if (exchange_begun(x))
		return 0;
	return exchange_begin(x, 200, NULL, "Content-Type: application/octet-stream\r\n",
	    head->framing == HTTP1_CHUNKED ? -1 : (int64_t)head->length);
}

static ssize_t
builtin_body(struct exchange *x, const char *bytes, size_t len)
{
	if (page_of(exchange_request(x)) == PAGE_ROOT)
		return (ssize_t)len;
	if (exchange_full(x))
		return 0;
	if (echo_begin(x) == 0 && exchange_say(x, bytes, len) < 0)
		exchange_cut(x);
	return (ssize_t)len;
}

static void
builtin_end(struct exchange *x)
{
	if (page_of(exchange_request(x)) == PAGE_ROOT)
		answer_length(x);
	else if (echo_begin(x) == 0)
		exchange_said(x);
}

/* ---- the handler ---- */

static void
answer_other(struct exchange *x, const struct http1_head *head, enum page page)
{
	char fields[64];
	size_t len = head->path.len < 200 ? head->path.len : 200;
	const char *dots = len < head->path.len ? "..." : "";

	if (page == PAGE_NONE) {
		exchange_refuse(x, 404, "ResourceNotFound", NULL,
		    "Unknown path: %.*s%s (there are GET / and POST /echo)", (int)len,
		    head->path.at, dots);
		return;
	}
	snprintf(fields, sizeof(fields), "Allow: %s\r\n", allow[page]);
	if (is(head->method, "OPTIONS"))
		exchange_answer(x, 204, NULL, fields, NULL, 0);
	else
		exchange_refuse(x, 405, "UnsupportedHttpVerb", fields,
		    "Allowed methods for '%.*s' are: %s.", (int)len, head->path.at, allow[page]);
}

static void
builtin_begin(struct exchange *x, const struct http1_head *head)
{
	bool sends = is(head->method, "POST") || is(head->method, "PUT");
	enum page page = page_of(head);

	if (page == PAGE_ROOT && (is(head->method, "GET") || is(head->method, "HEAD")))
		answer_root(x);
	else if (!sends || (page != PAGE_ROOT && page != PAGE_ECHO))
		answer_other(x, head, page);
}

static void
builtin_abort(struct exchange *x)
{
	(void)x;
}

const struct http1_handler http1_builtin = {
	.name = "builtin",
	.begin = builtin_begin,
	.body = builtin_body,
	.end = builtin_end,
	.drained = exchange_resume,
	.abort = builtin_abort,
};
