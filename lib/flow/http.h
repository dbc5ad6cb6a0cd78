/* flow/http - HTTP/1 sessions of a terminator: what becomes of each request (the built-in pages, a backend behind a link, a COMMAND
 * a request), the 503 above the soft cap, the access log, the counters.  One struct http a process, one struct http_conn a
 * connection. */
#ifndef FLOW_HTTP_H
#define FLOW_HTTP_H

#include "flow/cgi.h"
#include "flow/guard.h"
#include "session/http1.h"

struct access;
struct reactor;
struct tell;

enum http_to { HTTP_BUILTIN, HTTP_GUARD, HTTP_CGI };

struct http_config {
	enum http_to to;
	struct http1_limits limits;
	int64_t request_timeout, idle; /* ms, -1: none */
	struct guards_config guard;    /* HTTP_GUARD */
	struct cgis_config cgi;        /* HTTP_CGI */
	struct access *access;         /* NULL: no access log */
};

struct http {
	struct http_config cfg;
	struct http1_config session;
	struct guards guards;
	struct cgis cgis;
};

struct http_conn { /* lies in the connection; zeroed before http_join */
	struct http *of;
	const struct env *env;
	const struct tell *tell;
	struct guard guard; /* exactly one of the two is used, or none */
	struct cgi cgi;
	struct http1_setup setup; /* for conn_session */
};

void http_open(struct http *, const struct http_config *);
void http_join(struct http *, struct http_conn *, const struct env *, const struct tell *);
/* env, tell: borrowed until http_leave */
void http_leave(struct http_conn *); /* after the session has been closed; legal when it never joined */
void http_update(struct http *);     /* the hub has credit */
void http_no_sink(struct http *);    /* the hub has ended for good: who waits for it is told 502 */
void http_gauges(const struct http *); /* sets base/metrics' gauges to what is so now */

#endif
