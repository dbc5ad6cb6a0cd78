/* wire/cgi - the variables of a request, and a script's header, judged line by line as it comes, so
 * that a script that says something else is known at its first line. */
#include "wire/cgi.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/env.h"
#include "base/text.h"
#include "wire/http1.h"

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* ---- variables ---- */

static int
set_bytes(struct env *to, const char *name, const char *at, size_t len)
{
	return env_setf(to, name, "%.*s", (int)len, len ? at : "");
}

/* What the connection's variable says. */
static int
set_as(struct env *to, const char *name, const char *from, const char *otherwise)
{
	const char *value = env_get(to, from);

	return value || otherwise ? env_set(to, name, value ? value : otherwise) : 0;
}

/* Clients resolve their dots; who sends them hopes for a script that opens what it is told. */
static bool
climbs(const char *path)
{
	for (const char *at = path; (at = strstr(at, "/..")); at += 3)
		if (at[3] == '/' || at[3] == '\0')
			return true;
	return false;
}

/* %2f would become a slash that is none, and no string holds what %00 says. */
static int
set_path(struct env *to, struct http1_text path)
{
	struct text said = { 0 };
	int rc = 0;

	for (size_t i = 0; i < path.len && rc == 0; i++) {
		char c = path.at[i];

		if (c == '%') {
			int high = i + 2 < path.len ? text_hex(path.at[i + 1]) : -1;
			int low = high >= 0 ? text_hex(path.at[i + 2]) : -1;

			c = low < 0 ? '\0' : (char)(high * 16 + low);
			rc = c == '\0' || c == '/' ? -EINVAL : 0;
			i += 2;
		}
		text_bytes(&said, &c, 1);
	}
	if (rc == 0 && said.at && climbs(said.at))
		rc = -EINVAL;
	if (rc == 0)
		rc = said.failed ? -ENOMEM : env_set(to, "PATH_INFO", said.at ? said.at : "");
	text_free(&said);
	return rc;
}

/* Where the port begins in "host:port", "[v6]:port". */
static size_t
host_len(struct http1_text host)
{
	size_t n = host.len;

	while (n > 0 && is_digit(host.at[n - 1]))
		n--;
	return n > 0 && host.at[n - 1] == ':' ? n - 1 : host.len;
}

static int
set_server(struct env *to, const struct http1_head *h)
{
	const char *ip = env_get(to, "TCPLOCALIP");
	size_t n = host_len(h->host);
	bool tls = env_get(to, "SSL_PROTOCOL") != NULL;
	int rc;

	if (n > 0)
		rc = set_bytes(to, "SERVER_NAME", h->host.at, n);
	else
		rc = env_setf(to, "SERVER_NAME", ip && strchr(ip, ':') ? "[%s]" : "%s",
		    ip ? ip : "localhost");
	if (rc == 0)
		rc = set_as(to, "SERVER_PORT", "TCPLOCALPORT", tls ? "443" : "80");
	if (rc == 0 && tls)
		rc = env_set(to, "HTTPS", "on");
	return rc;
}

static int
set_peer(struct env *to)
{
	const char *verdict = env_get(to, "SSL_CLIENT_VERIFY");
	int rc = set_as(to, "REMOTE_ADDR", "TCPREMOTEIP", "");

	if (rc == 0)
		rc = set_as(to, "REMOTE_HOST", "TCPREMOTEIP", "");
	if (rc == 0)
		rc = set_as(to, "REMOTE_PORT", "TCPREMOTEPORT", NULL);
	if (rc < 0 || !(verdict && !strcmp(verdict, "SUCCESS") && env_get(to, "SSL_CLIENT_S_DN")))
		return rc;
	rc = env_set(to, "AUTH_TYPE", "ClientCert");
	return rc < 0 ? rc : set_as(to, "REMOTE_USER", "SSL_CLIENT_S_DN", NULL);
}

static int
set_request(struct env *to, const struct http1_head *h)
{
	struct http1_text path = h->path.len > 0 ? h->path : (struct http1_text){ "/", 1 };
	int rc = set_bytes(to, "REQUEST_METHOD", h->method.at, h->method.len);

	if (rc == 0)
		rc = set_bytes(to, "REQUEST_URI", h->target.at, h->target.len);
	if (rc == 0)
		rc = env_set(to, "SCRIPT_NAME", "");
	if (rc == 0)
		rc = *path.at == '*' ? env_set(to, "PATH_INFO", "") : set_path(to, path);
	if (rc == 0)
		rc = set_bytes(to, "QUERY_STRING", h->query.at, h->query.len);
	if (rc == 0)
		rc = env_setf(to, "SERVER_PROTOCOL", "HTTP/1.%u", h->minor);
	if (rc == 0 && h->framing == HTTP1_LENGTH)
		rc = env_setf(to, "CONTENT_LENGTH", "%" PRIu64, h->length);
	return rc;
}

static bool
same_name(struct http1_text a, struct http1_text b)
{
	return a.len == b.len && strncasecmp(a.at, b.at, a.len) == 0;
}

/* Whether it becomes a variable.  Secrets do not: an environment is easily shown (ps e). */
static bool
is_told(struct http1_text name)
{
	static const char *const never[] = { "proxy", "authorization", "proxy-authorization",
		"connection", "transfer-encoding", "content-length" };

	for (size_t i = 0; i < name.len; i++) {
		if (!is_alnum(name.at[i]) && name.at[i] != '-')
			return false;
	}
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		if (http1_is(name, never[i]))
			return false;
	}
	return name.len > 0;
}

static void
add_name(struct text *to, struct http1_text name)
{
	if (!http1_is(name, "content-type"))
		text_add(to, "HTTP_");
	for (size_t i = 0; i < name.len; i++) {
		char c = name.at[i] == '-' ? '_' : name.at[i];

		if (c >= 'a' && c <= 'z')
			c += 'A' - 'a';
		text_bytes(to, &c, 1);
	}
}

/* The i-th field, and those of the same name behind it. */
static int
set_field(struct env *to, const struct http1_head *h, unsigned i)
{
	struct http1_text name = h->field[i].name;
	struct text pair = { 0 };
	int rc;

	add_name(&pair, name);
	text_add(&pair, "=");
	for (unsigned k = i; k < h->n_fields; k++) {
		if (k > i && !same_name(h->field[k].name, name))
			continue;
		if (k > i)
			text_add(&pair, http1_is(name, "cookie") ? "; " : ", ");
		text_bytes(&pair, h->field[k].value.at, h->field[k].value.len);
	}
	rc = pair.failed ? -ENOMEM : env_add_pair(to, pair.at);
	text_free(&pair);
	return rc;
}

static bool
is_first(const struct http1_head *h, unsigned i)
{
	for (unsigned k = 0; k < i; k++) {
		if (same_name(h->field[k].name, h->field[i].name))
			return false;
	}
	return true;
}

int
cgi_variables(struct env *to, const struct http1_head *h)
{
	int rc = env_set(to, "GATEWAY_INTERFACE", "CGI/1.1");

	if (rc == 0)
		rc = env_set(to, "SERVER_SOFTWARE", "ccf-net/" CCF_VERSION);
	if (rc == 0)
		rc = set_server(to, h);
	if (rc == 0)
		rc = set_peer(to);
	if (rc == 0)
		rc = set_request(to, h);
	for (unsigned i = 0; i < h->n_fields && rc == 0; i++) {
		if (is_told(h->field[i].name) && is_first(h, i))
			rc = set_field(to, h, i);
	}
	return rc;
}

/* ---- the script's header ---- */

enum { STATUS = 1, LENGTH = 2, TYPE = 4, LOCATION = 8, OURS = 16 };

static const struct {
	const char *name;
	unsigned what;
} known[] = {
	{ "status", STATUS },
	{ "content-length", LENGTH },
	{ "content-type", TYPE },
	{ "location", LOCATION },
	{ "connection", OURS },
	{ "transfer-encoding", OURS },
	{ "keep-alive", OURS },
	{ "upgrade", OURS },
	{ "trailer", OURS },
	{ "date", OURS },
};

static int __attribute__((format(printf, 2, 3))) bad(struct cgi_parser *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(p->fault, sizeof(p->fault), fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

static unsigned
what_is(struct http1_text name)
{
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (http1_is(name, known[i].name))
			return known[i].what;
	}
	return 0;
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* A line that has a colon, without its end. */
static struct http1_field
split(const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len), *at = colon + 1, *end = line + len;

	while (at < end && is_blank(*at))
		at++;
	while (at < end && is_blank(end[-1]))
		end--;
	return (struct http1_field){ { line, (size_t)(colon - line) }, { at, (size_t)(end - at) } };
}

/* "404", "404 Not Found" */
static int
read_status(struct cgi_parser *p, struct http1_text said)
{
	const char *s = said.at;
	size_t n;

	if (said.len < 3 || s[0] < '2' || s[0] > '5' || !is_digit(s[1]) || !is_digit(s[2]) ||
	    (said.len > 3 && s[3] != ' '))
		return bad(p, "line %u: Status is not a number from 200 to 599", p->count);
	p->head.status = (unsigned)((s[0] - '0') * 100 + (s[1] - '0') * 10 + s[2] - '0');
	n = said.len > 4 ? said.len - 4 : 0;
	if (n < sizeof(p->head.reason)) {
		memcpy(p->head.reason, n ? s + 4 : "", n);
		p->head.reason[n] = '\0';
	}
	return 0;
}

static int
read_length(struct cgi_parser *p, struct http1_text said)
{
	int64_t n = 0;

	for (size_t i = 0; i < said.len; i++) {
		int d = said.at[i] - '0';

		if (!is_digit(said.at[i]) || n > (INT64_MAX - d) / 10)
			said.len = 0;
		else
			n = n * 10 + d;
	}
	if (said.len == 0)
		return bad(p, "line %u: Content-Length is not a number", p->count);
	p->head.length = n;
	return 0;
}

/* tchar of RFC 9110 */
static bool
is_name(struct http1_text name)
{
	for (size_t i = 0; i < name.len; i++) {
		if (!is_alnum(name.at[i]) && !strchr("!#$%&'*+-.^_`|~", name.at[i]))
			return false;
	}
	return name.len > 0;
}

static int
read_field(struct cgi_parser *p, struct http1_field f)
{
	unsigned what = what_is(f.name);

	if (!is_name(f.name))
		return bad(p, "line %u: there is no name before the colon", p->count);
	if (what & p->once & ~(unsigned)OURS)
		return bad(p, "line %u: %.*s is there twice", p->count, (int)f.name.len, f.name.at);
	p->once |= what;
	if (what == STATUS)
		return read_status(p, f.value);
	return what == LENGTH ? read_length(p, f.value) : 0;
}

/* Without its end. */
static int
read_line(struct cgi_parser *p, const char *line, size_t len)
{
	if (++p->count > CGI_COUNT_MAX)
		return bad(p, "it has more than %d fields", CGI_COUNT_MAX);
	for (size_t i = 0; i < len; i++) {
		if (((unsigned char)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f)
			return bad(p, "line %u: a control character", p->count);
	}
	if (!memchr(line, ':', len))
		return bad(p, "line %u: there is no colon", p->count);
	return read_field(p, split(line, len));
}

/* The length of the line at s, which ends with LF, without its end. */
static size_t
line_len(const char *s)
{
	size_t len = strcspn(s, "\n");

	return len > 0 && s[len - 1] == '\r' ? len - 1 : len;
}

/* Every line was judged before, and none holds a NUL. */
static int
finish(struct cgi_parser *p)
{
	struct text fields = { 0 };
	const char *s = p->raw;

	if (p->count == 0)
		return bad(p, "it has no field at all");
	for (size_t len = line_len(s); len > 0; len = line_len(s)) {
		struct http1_field f = split(s, len);

		if (!(what_is(f.name) & (STATUS | LENGTH | OURS))) {
			text_bytes(&fields, f.name.at, f.name.len);
			text_add(&fields, ": ");
			text_bytes(&fields, f.value.at, f.value.len);
			text_add(&fields, "\r\n");
		}
		s += strcspn(s, "\n") + 1;
	}
	text_bytes(&fields, "", 0);
	if (fields.failed) {
		text_free(&fields);
		return -ENOMEM;
	}
	if (!(p->once & STATUS))
		p->head.status = p->once & LOCATION ? 302 : 200;
	if (!(p->once & LENGTH))
		p->head.length = -1;
	p->head.fields = fields.at;
	p->whole = true;
	free(p->raw);
	p->raw = NULL;
	return 1;
}

static int
keep(struct cgi_parser *p, const char *bytes, size_t len)
{
	size_t cap = p->cap ? p->cap : 512;
	char *raw;

	while (cap < p->len + len)
		cap *= 2;
	if (cap > p->cap) {
		raw = realloc(p->raw, cap);
		if (!raw)
			return -ENOMEM;
		p->raw = raw;
		p->cap = cap;
	}
	memcpy(p->raw + p->len, bytes, len);
	p->len += len;
	return 0;
}

int
cgi_read(struct cgi_parser *p, const char *bytes, size_t len, size_t *ret_used)
{
	size_t used = 0;
	int rc = 0;

	while (used < len && rc == 0) {
		const char *end = memchr(bytes + used, '\n', len - used), *line;
		size_t n = end ? (size_t)(end + 1 - (bytes + used)) : len - used;

		if (n > CGI_HEAD_MAX - p->len)
			return bad(p, "it is longer than %d bytes", CGI_HEAD_MAX);
		rc = keep(p, bytes + used, n);
		used += n;
		if (rc < 0 || !end)
			continue;
		line = p->raw + p->line;
		n = p->len - p->line - 1;
		n -= n > 0 && line[n - 1] == '\r';
		rc = n > 0 ? read_line(p, line, n) : finish(p);
		p->line = p->len;
	}
	if (rc == 1)
		*ret_used = used;
	return rc;
}

void
cgi_parser_free(struct cgi_parser *p)
{
	free(p->raw);
	free(p->head.fields);
	p->raw = p->head.fields = NULL;
}
