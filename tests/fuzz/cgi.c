/* First byte even: a script's header; the verdict is the same in whatever pieces it comes, and what
 * is passed on has the promised form.  Odd: a request, whose variables keep to their rules. */
#include "wire/cgi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/env.h"
#include "wire/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
	if (!holds)
		abort();
}

static int
hear(struct cgi_parser *p, const char *bytes, size_t len, size_t piece, size_t *used)
{
	size_t at = 0, n;
	int rc = 0;

	*p = (struct cgi_parser){ 0 };
	while (rc == 0 && at < len) {
		n = len - at < piece ? len - at : piece;
		rc = cgi_read(p, bytes + at, n, &n);
		at += n;
	}
	*used = at;
	return rc;
}

/* "Name: value\r\n" ..., nothing else and nothing of ours. */
static void
check_fields(const char *s)
{
	static const char *const ours[] = { "Status", "Content-Length", "Connection",
		"Transfer-Encoding", "Keep-Alive", "Upgrade", "Trailer", "Date" };

	while (*s) {
		size_t len = strcspn(s, "\r\n"), name = strcspn(s, ":");

		must(name > 0 && name + 1 < len && s[name + 1] == ' ');
		must(strncmp(s + len, "\r\n", 2) == 0);
		for (size_t i = 0; i < len; i++)
			must(((unsigned char)s[i] >= ' ' || s[i] == '\t') && s[i] != 0x7f);
		must(memchr(s, ' ', name) == NULL);
		for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
			must(strlen(ours[i]) != name || strncasecmp(s, ours[i], name) != 0);
		s += len + 2;
	}
}

static void
script(const char *bytes, size_t len)
{
	struct cgi_parser whole, parts;
	size_t used, used_parts;
	int rc = hear(&whole, bytes, len, len, &used);

	must(rc == 0 || rc == 1 || rc == -EBADMSG);
	must((rc == 1) == whole.whole && (rc == -EBADMSG) == (whole.fault[0] != '\0'));
	if (rc == 1) {
		must(whole.head.status >= 200 && whole.head.status <= 599);
		must(whole.head.length >= -1);
		check_fields(whole.head.fields);
	}
	for (size_t piece = 1; piece < len && piece < 40; piece = piece * 2 + 1) {
		must(hear(&parts, bytes, len, piece, &used_parts) == rc);
		must(rc != 1 || used_parts == used);
		must(strcmp(parts.fault, whole.fault) == 0);
		must(parts.head.status == whole.head.status &&
		     parts.head.length == whole.head.length &&
		     strcmp(parts.head.reason, whole.head.reason) == 0);
		must(rc != 1 || strcmp(parts.head.fields, whole.head.fields) == 0);
		cgi_parser_free(&parts);
	}
	cgi_parser_free(&whole);
}

static void
variables(const struct http1_head *h)
{
	struct env env = { .cgi = true };
	const char *value;
	int rc;

	env_set(&env, "TCPREMOTEIP", "192.0.2.7");
	rc = cgi_variables(&env, h);
	must(rc == 0 || rc == -E2BIG || rc == -EINVAL);
	for (const char *p = env_next(&env, NULL); p; p = env_next(&env, p)) {
		must(env_may_travel(p) || env_is_cgi(p));
		for (const char *q = env_next(&env, p); q; q = env_next(&env, q))
			must(strncmp(p, q, strcspn(p, "=") + 1) != 0);
	}
	must(!env_get(&env, "CCF_OMITTED") && !env_get(&env, "HTTP_PROXY") &&
	     !env_get(&env, "REMOTE_USER") && !env_get(&env, "HTTP_AUTHORIZATION"));
	if (rc == 0) {
		value = env_get(&env, "PATH_INFO");
		must(value && (*value == '/' || *value == '\0'));
		must(env_get(&env, "QUERY_STRING") && env_get(&env, "SERVER_NAME"));
	}
	env_free(&env);
}

static void
request(const char *bytes, size_t len)
{
	const struct http1_limits limits = { .body = HTTP1_BODY_MAX,
		.header = HTTP1_HEADER_MAX,
		.count = HTTP1_COUNT_MAX,
		.line = HTTP1_LINE_MAX,
		.head = HTTP1_HEAD_MAX };
	struct http1_parser *p;
	struct http1_event e;

	must(http1_new(&p, HTTP1_REQUEST, &limits) == 0);
	(void)http1_feed(p, bytes, len, &e);
	if (e.what == HTTP1_HEAD)
		variables(http1_head(p));
	http1_free(p);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	if (data[0] % 2)
		request((const char *)data + 1, size - 1);
	else
		script((const char *)data + 1, size - 1);
	return 0;
}
