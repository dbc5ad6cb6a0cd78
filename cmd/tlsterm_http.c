/* HTTP sessions of ccf-tlsterm: what goes together, who answers, the access log, and what a
 * connection above the soft cap is told. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cmd/tlsterm.h"
#include "cmd/tool.h"
#include "session/http1.h"

#define RETRY_MAX 5 /* seconds */

static struct http http;
static bool opened;
static char busy[1024]; /* the 503 */

/* ---- what goes together ---- */

static bool
given(int64_t n)
{
	return n != TLSTERM_UNSET;
}

static void
check_http_only(void)
{
	const struct tlsterm_http *o = &tlsterm.http;

	if (given(o->body) || given(o->header) || given(o->count) || given(o->line) ||
	    given(o->head) || given(o->request_timeout))
		tool_usage("--max-body-size, --max-header-size, --max-headers-count, "
			   "--max-request-line, --max-head-size and --request-timeout are for "
			   "--app http1");
	if (given(o->cgi_timeout) || given(o->cgi_max))
		tool_usage("--cgi-timeout and --cgi-max are for --app http1 with a COMMAND");
	if (o->access)
		tool_usage("--access-log has a line a request: it goes with --app http1");
}

/* The byte that stands for the escape at s ("\n" ...), and how long that is; 0: it is none. */
static size_t
unescape(const char *s, char *ret)
{
	static const char from[] = "nrt\\", to[] = "\n\r\t\\";
	const char *simple = s[1] ? strchr(from, s[1]) : NULL;

	if (simple) {
		*ret = to[simple - from];
		return 2;
	}
	if (s[1] != 'x' || text_hex(s[2]) < 0 || text_hex(s[3]) < 0)
		return 0;
	*ret = (char)(text_hex(s[2]) * 16 + text_hex(s[3]));
	return 4;
}

static void
take_capped_message(const char *text)
{
	char *message = malloc(strlen(text) + 1);
	size_t n, len = 0;

	if (!message)
		tool_die(CCF_SYSTEM, "%s", strerror(ENOMEM));
	for (; *text; text += n) {
		n = 1;
		message[len] = *text;
		if (*text == '\\' && (n = unescape(text, &message[len])) == 0)
			tool_usage("--capped-message: after a backslash stands n, r, t, another "
				   "one, or x and two hex digits");
		len++;
	}
	tlsterm.capped = (struct capped){ .message = message, .len = len };
}

static void
check_capped(void)
{
	if (!tlsterm.capped_message)
		return;
	if (tlsterm.client)
		tool_usage("--capped-message is for the server's side");
	if (tlsterm.is_http)
		tool_usage("--app http1 answers 503 above the soft cap: --capped-message is for "
			   "other sinks");
	take_capped_message(tlsterm.capped_message);
}

static int64_t
or_default(int64_t n, int64_t usual)
{
	return given(n) ? n : usual;
}

/* A usual one gives way to a smaller head, one that was asked for does not. */
static size_t
fit(const char *option, int64_t n, int64_t usual, int64_t head)
{
	if (given(n) && n > head)
		tool_usage("%s %" PRId64 ": it has to fit into --max-head-size (%" PRId64 ")",
		    option, n, head);
	n = or_default(n, usual);
	return (size_t)(n < head ? n : head);
}

static void
set_limits(void)
{
	const struct tlsterm_http *o = &tlsterm.http;
	int64_t head = or_default(o->head, HTTP1_HEAD_MAX);

	tlsterm.limits = (struct http1_limits){
		.body = (uint64_t)or_default(o->body, HTTP1_BODY_MAX),
		.header = fit("--max-header-size", o->header, HTTP1_HEADER_MAX, head),
		.count = (unsigned)or_default(o->count, HTTP1_COUNT_MAX),
		.line = fit("--max-request-line", o->line, HTTP1_LINE_MAX, head),
		.head = (size_t)head,
	};
}

void
tlsterm_http_check(void)
{
	check_capped();
	if (!tlsterm.is_http) {
		check_http_only();
		return;
	}
	if (tlsterm.client)
		tool_usage("--app http1 is for the server's side");
	if (!tlsterm.command && (given(tlsterm.http.cgi_timeout) || given(tlsterm.http.cgi_max)))
		tool_usage("--cgi-timeout and --cgi-max are for a COMMAND");
	set_limits();
}

/* ---- who answers ---- */

/* A connection to a backend, or to a COMMAND, did not fit: no more clients for a while. */
static void
starved(void *arg)
{
	struct terminator *of = arg;

	for (unsigned i = 0; i < of->n_from; i++)
		hub_starve(of->from[i]);
}

unsigned
tlsterm_http_commands(void)
{
	int64_t n = or_default(tlsterm.http.cgi_max, 64) / tlsterm.workers;

	return n > 0 ? (unsigned)n : 1;
}

void
tlsterm_http_sink(struct terminator *of, struct terminator_config *cfg)
{
	struct http_config h = { .to = tlsterm.to	 ? HTTP_GUARD
				       : tlsterm.command ? HTTP_CGI
							 : HTTP_BUILTIN,
		.limits = tlsterm.limits,
		.request_timeout = or_default(tlsterm.http.request_timeout, 30000),
		.idle = cfg->idle,
		.guard = { .reactor = cfg->reactor,
		    .hub = cfg->to,
		    .connect = cfg->handshake,
		    .answer = cfg->idle,
		    .starved = starved,
		    .arg = of },
		.cgi = { .reactor = cfg->reactor,
		    .starter = cfg->starter,
		    .command = cfg->command,
		    .max = tlsterm_http_commands(),
		    .timeout = or_default(tlsterm.http.cgi_timeout, 60000),
		    .ended = cfg->idle_now,
		    .arg = cfg->arg },
		.access = tlsterm.http.access ? &tlsterm.access : NULL };

	http_open(&http, &h);
	opened = true;
	cfg->http = &http;
	cfg->session = &session_http1;
	cfg->capped_first = h.request_timeout;
	tlsterm_http_next_capped();
}

void
tlsterm_http_next_capped(void)
{
	static unsigned last;

	if (!tlsterm.is_http)
		return;
	last = last % RETRY_MAX + 1;
	tlsterm.capped =
	    (struct capped){ .message = busy, .len = http1_capped(busy, sizeof(busy), last) };
}

bool
tlsterm_http_runs(bool any)
{
	return opened && http.cfg.to == HTTP_CGI &&
	       (any ? http.cgis.running > 0 : cgis_owing(&http.cgis));
}

void
tlsterm_http_close(void)
{
	if (opened && http.cfg.to == HTTP_CGI)
		cgis_close(&http.cgis);
	opened = false;
	access_close(&tlsterm.access);
}

/* ---- the access log ---- */

void
tlsterm_http_access(void)
{
	int fd;

	tlsterm.access.json = tool.log == 1;
	if (!tlsterm.http.access)
		return;
	fd = access_file(tlsterm.http.access);
	if (fd < 0)
		tool_die(CCF_SYSTEM, "--access-log %s: %s", tlsterm.http.access, strerror(-fd));
	access_use(&tlsterm.access, fd);
}

int
tlsterm_http_access_again(void)
{
	int fd = tlsterm.http.access ? access_file(tlsterm.http.access) : -1;

	if (fd >= 0 || !tlsterm.http.access)
		return fd;
	log_event(LOG_L_ERROR, NULL, "access-log-kept", NULL,
	    "--access-log %s: %s; the one before stays in use", tlsterm.http.access, strerror(-fd));
	return -1;
}
