#include "flow/http.h"

#include <stdio.h>

#include "base/metrics.h"
#include "flow/access.h"

static void
http_count(const struct http1_record *r)
{
	static const char *const class[] = { [HTTP1_PARSING] = "parsing",
		[HTTP1_PAYLOAD] = "request-payload-too-large",
		[HTTP1_HEADERS] = "request-header-too-large" };
	char code[12];

	snprintf(code, sizeof(code), "%u", r->status);
	metric_add(METRIC_REQUESTS, r->status ? code : "none", 1);
	if (r->fault)
		metric_add(METRIC_HTTP_ERRORS, class[r->fault->class], 1);
	metric_time(METRIC_REQUEST_TIME, r->us);
}

static void
http_told(void *arg, const struct http1_record *r)
{
	struct http_conn *hc = arg;

	http_count(r);
	if (hc->of->cfg.access)
		access_line(hc->of->cfg.access, hc->tell, r);
}

void
http_open(struct http *h, const struct http_config *cfg)
{
	*h = (struct http){ .cfg = *cfg };
	h->session = (struct http1_config){ .limits = cfg->limits,
		.request_timeout = cfg->request_timeout,
		.idle = cfg->idle,
		.handler = cfg->to == HTTP_GUARD ? &guard_handler
			   : cfg->to == HTTP_CGI ? &cgi_handler
						 : &http1_builtin,
		.told = http_told };
	if (cfg->to == HTTP_GUARD)
		guards_open(&h->guards, &cfg->guard);
	else if (cfg->to == HTTP_CGI)
		cgis_open(&h->cgis, &cfg->cgi);
}

void
http_join(struct http *h, struct http_conn *hc, const struct env *env, const struct tell *tell)
{
	hc->of = h;
	hc->env = env;
	hc->tell = tell;
	hc->setup = (struct http1_setup){ .cfg = &h->session, .arg = hc };
	if (h->cfg.to == HTTP_GUARD)
		guard_open(&hc->guard, &h->guards, env);
	else if (h->cfg.to == HTTP_CGI)
		cgi_open(&hc->cgi, &h->cgis, env);
}

void
http_leave(struct http_conn *hc)
{
	if (!hc->of)
		return;
	if (hc->of->cfg.to == HTTP_GUARD)
		guard_close(&hc->guard);
	else if (hc->of->cfg.to == HTTP_CGI)
		cgi_close(&hc->cgi);
	hc->of = NULL;
}

void
http_update(struct http *h)
{
	if (h->cfg.to == HTTP_GUARD)
		guards_update(&h->guards);
}

void
http_no_sink(struct http *h)
{
	if (h->cfg.to == HTTP_GUARD)
		guards_no_sink(&h->guards);
}

void
http_gauges(const struct http *h)
{
	const struct cgi *c;
	unsigned waiting = 0;

	if (h->cfg.to != HTTP_CGI)
		return;
	TAILQ_FOREACH(c, &h->cgis.waiting, waiter)
		waiting++;
	metric_set(METRIC_RUNNING, h->cgis.running);
	metric_set(METRIC_WAITING, waiting);
}
