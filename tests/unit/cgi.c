/* cgi: the variables of a request, and what a script's header says, however it was split. */
#include "wire/cgi.h"

#include <errno.h>
#include <stdlib.h>

#include "base/env.h"
#include "check.h"
#include "wire/http1.h"

/* ---- variables ---- */

static const struct http1_limits limits = { .body = HTTP1_BODY_MAX,
	.header = HTTP1_HEADER_MAX,
	.count = HTTP1_COUNT_MAX,
	.line = HTTP1_LINE_MAX,
	.head = HTTP1_HEAD_MAX };

static struct env vars;

/* The variables of the request, for a connection that is described by pairs. */
static int
say(const char *request, const char *const *pairs)
{
	struct http1_parser *p;
	struct http1_event e;
	int rc = -ENODATA;

	env_free(&vars);
	vars.cgi = true;
	for (; pairs && *pairs; pairs++)
		CHECK_INT(env_add_pair(&vars, *pairs), 0);
	CHECK_INT(http1_new(&p, HTTP1_REQUEST, &limits), 0);
	(void)http1_feed(p, request, strlen(request), &e);
	CHECK_INT(e.what, HTTP1_HEAD);
	if (e.what == HTTP1_HEAD)
		rc = cgi_variables(&vars, http1_head(p));
	else if (e.what == HTTP1_BAD)
		printf("# %s\n", http1_fault(p)->text);
	http1_free(p);
	return rc;
}

static const char *const plain[] = { "PROTO=TCP", "TCPLOCALIP=192.0.2.1", "TCPLOCALPORT=8080",
	"TCPREMOTEIP=192.0.2.7", "TCPREMOTEPORT=50000", "CCF_CONN_ID=rpc#1", NULL };
static const char *const verified[] = { "PROTO=SSL", "TCPLOCALIP=::1", "TCPLOCALPORT=8443",
	"TCPREMOTEIP=::1", "TCPREMOTEPORT=50000", "SSL_PROTOCOL=TLSv1.3",
	"SSL_CLIENT_VERIFY=SUCCESS", "SSL_CLIENT_S_DN=CN=alice", NULL };

CASE(a_request_becomes_the_variables_of_rfc_3875)
{
	CHECK_INT(say("POST /a%20b/c?x=%31&y HTTP/1.1\r\nHost: example.org:8443\r\n"
		      "Content-Type: text/plain\r\nContent-Length: 5\r\nX-One: 1\r\n\r\n",
		      plain),
	    0);
	CHECK_STR(env_get(&vars, "GATEWAY_INTERFACE"), "CGI/1.1");
	CHECK_STR(env_get(&vars, "SERVER_SOFTWARE"), "ccf-net/" CCF_VERSION);
	CHECK_STR(env_get(&vars, "SERVER_PROTOCOL"), "HTTP/1.1");
	CHECK_STR(env_get(&vars, "SERVER_NAME"), "example.org");
	CHECK_STR(env_get(&vars, "SERVER_PORT"), "8080");
	CHECK_STR(env_get(&vars, "REQUEST_METHOD"), "POST");
	CHECK_STR(env_get(&vars, "REQUEST_URI"), "/a%20b/c?x=%31&y");
	CHECK_STR(env_get(&vars, "SCRIPT_NAME"), "");
	CHECK_STR(env_get(&vars, "PATH_INFO"), "/a b/c");
	CHECK_STR(env_get(&vars, "QUERY_STRING"), "x=%31&y");
	CHECK_STR(env_get(&vars, "REMOTE_ADDR"), "192.0.2.7");
	CHECK_STR(env_get(&vars, "REMOTE_HOST"), "192.0.2.7");
	CHECK_STR(env_get(&vars, "REMOTE_PORT"), "50000");
	CHECK_STR(env_get(&vars, "CONTENT_TYPE"), "text/plain");
	CHECK_STR(env_get(&vars, "CONTENT_LENGTH"), "5");
	CHECK_STR(env_get(&vars, "HTTP_HOST"), "example.org:8443");
	CHECK_STR(env_get(&vars, "HTTP_X_ONE"), "1");
	CHECK_STR(env_get(&vars, "CCF_CONN_ID"), "rpc#1");
	CHECK(!env_get(&vars, "HTTP_CONTENT_TYPE"));
	CHECK(!env_get(&vars, "HTTP_CONTENT_LENGTH"));
	CHECK(!env_get(&vars, "HTTPS"));
	CHECK(!env_get(&vars, "AUTH_TYPE"));
	CHECK(!env_get(&vars, "REMOTE_USER"));
}

CASE(a_request_without_much_has_what_every_script_expects)
{
	CHECK_INT(say("GET / HTTP/1.0\r\n\r\n", NULL), 0);
	CHECK_STR(env_get(&vars, "SERVER_PROTOCOL"), "HTTP/1.0");
	CHECK_STR(env_get(&vars, "SERVER_NAME"), "localhost");
	CHECK_STR(env_get(&vars, "SERVER_PORT"), "80");
	CHECK_STR(env_get(&vars, "PATH_INFO"), "/");
	CHECK_STR(env_get(&vars, "QUERY_STRING"), "");
	CHECK_STR(env_get(&vars, "REMOTE_ADDR"), "");
	CHECK(!env_get(&vars, "REMOTE_PORT"));
	CHECK(!env_get(&vars, "CONTENT_LENGTH"));
	CHECK(!env_get(&vars, "CONTENT_TYPE"));
	CHECK_INT(say("GET / HTTP/1.0\r\n\r\n", plain), 0);
	CHECK_STR(env_get(&vars, "SERVER_NAME"), "192.0.2.1");
	CHECK_INT(say("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", plain), 0);
	CHECK_STR(env_get(&vars, "REQUEST_URI"), "*");
	CHECK_STR(env_get(&vars, "PATH_INFO"), "");
	CHECK_INT(say("GET http://a?b HTTP/1.1\r\nHost: a\r\n\r\n", plain), 0);
	CHECK_STR(env_get(&vars, "REQUEST_URI"), "http://a?b");
	CHECK_STR(env_get(&vars, "PATH_INFO"), "/");
}

CASE(tls_and_a_verified_certificate_are_told)
{
	static const char *const unverified[] = { "SSL_PROTOCOL=TLSv1.3",
		"SSL_CLIENT_VERIFY=GENEROUS", "SSL_CLIENT_S_DN=CN=alice", NULL };
	static const char *const failed[] = { "SSL_PROTOCOL=TLSv1.3",
		"SSL_CLIENT_VERIFY=FAILED:SUCCESS", "SSL_CLIENT_S_DN=CN=alice", NULL };
	static const char *const nameless[] = { "SSL_PROTOCOL=TLSv1.3", "SSL_CLIENT_VERIFY=SUCCESS",
		NULL };

	CHECK_INT(say("GET / HTTP/1.0\r\n\r\n", verified), 0);
	CHECK_STR(env_get(&vars, "HTTPS"), "on");
	CHECK_STR(env_get(&vars, "SERVER_NAME"), "[::1]");
	CHECK_STR(env_get(&vars, "AUTH_TYPE"), "ClientCert");
	CHECK_STR(env_get(&vars, "REMOTE_USER"), "CN=alice");
	CHECK_STR(env_get(&vars, "SSL_CLIENT_S_DN"), "CN=alice");
	CHECK_INT(say("GET / HTTP/1.0\r\n\r\n", unverified), 0);
	CHECK_STR(env_get(&vars, "SERVER_PORT"), "443");
	CHECK(!env_get(&vars, "AUTH_TYPE"));
	CHECK(!env_get(&vars, "REMOTE_USER"));
	CHECK_INT(say("GET / HTTP/1.0\r\n\r\n", failed), 0);
	CHECK(!env_get(&vars, "REMOTE_USER"));
	CHECK_INT(say("GET / HTTP/1.0\r\n\r\n", nameless), 0);
	CHECK(!env_get(&vars, "AUTH_TYPE"));
}

CASE(the_server_has_the_name_it_was_called_by)
{
	static const char *const hosts[][2] = { { "a.example", "a.example" },
		{ "a.example:80", "a.example" }, { "[::1]", "[::1]" }, { "[::1]:80", "[::1]" },
		{ "192.0.2.9:1", "192.0.2.9" }, { "1", "1" } };

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		char request[128];

		snprintf(
		    request, sizeof(request), "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", hosts[i][0]);
		CHECK_INT(say(request, plain), 0);
		CHECK_STR(env_get(&vars, "SERVER_NAME"), hosts[i][1]);
	}
}

CASE(a_path_is_decoded_or_refused)
{
	static const struct {
		const char *target, *path; /* NULL: refused */
	} paths[] = { { "/%41%5a%61", "/AZa" }, { "/a%3fb?c", "/a?b" }, { "/%c3%a4", "/\xc3\xa4" },
		{ "/a%0ab", "/a\nb" }, { "/+", "/+" }, { "/%25", "/%" }, { "/%252f", "/%2f" },
		{ "/%00", NULL }, { "/a%2fb", NULL }, { "/a%2Fb", NULL }, { "/%", NULL },
		{ "/%4", NULL }, { "/%4g", NULL }, { "/%g4", NULL }, { "/%%41", NULL },
		{ "/%4?1", NULL }, { "/..", NULL }, { "/a/../b", NULL }, { "/%2e%2E/b", NULL },
		{ "/..a/b..", "/..a/b.." }, { "/...", "/..." }, { "/a?/../", "/a" },
		{ "/a?%2f%00%", "/a" } };

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		char request[128];
		int rc;

		snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n",
		    paths[i].target);
		rc = say(request, plain);
		CHECK_INT(rc, paths[i].path ? 0 : -EINVAL);
		if (paths[i].path)
			CHECK_STR(env_get(&vars, "PATH_INFO"), paths[i].path);
		if (rc != (paths[i].path ? 0 : -EINVAL))
			printf("# %s\n", paths[i].target);
	}
}

static unsigned
count_named(const char *prefix)
{
	unsigned n = 0;

	for (const char *p = env_next(&vars, NULL); p; p = env_next(&vars, p))
		n += strncmp(p, prefix, strlen(prefix)) == 0;
	return n;
}

CASE(fields_that_would_deceive_or_leak_are_left_out)
{
	CHECK_INT(say("GET / HTTP/1.1\r\nHost: a\r\nProxy: evil\r\nAuthorization: secret\r\n"
		      "Proxy-Authorization: secret\r\nConnection: close\r\nX_A: 1\r\nX.A: 2\r\n"
		      "X-A: 3\r\nX!: 4\r\npRoXy: evil\r\n\r\n",
		      plain),
	    0);
	CHECK_STR(env_get(&vars, "HTTP_X_A"), "3");
	CHECK_INT(count_named("HTTP_"), 2);
	CHECK_INT(say("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
		      "Content-Encoding: gzip\r\n\r\n",
		      plain),
	    0);
	CHECK(!env_get(&vars, "CONTENT_LENGTH"));
	CHECK_STR(env_get(&vars, "HTTP_CONTENT_ENCODING"), "gzip");
	CHECK_INT(count_named("HTTP_"), 2);
}

CASE(repeated_fields_are_one)
{
	CHECK_INT(say("GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nCookie: a=1\r\nx-a: 2\r\nX-B: b\r\n"
		      "cookie: b=2\r\nX-A:\r\n\r\n",
		      plain),
	    0);
	CHECK_STR(env_get(&vars, "HTTP_X_A"), "1, 2, ");
	CHECK_STR(env_get(&vars, "HTTP_COOKIE"), "a=1; b=2");
	CHECK_STR(env_get(&vars, "HTTP_X_B"), "b");
	CHECK_INT(count_named("HTTP_X_A"), 1);
}

CASE(what_does_not_fit_is_not_left_out)
{
	static char request[64 * 1024];
	size_t at;

	/* at the limit of a value, and two that together are beyond it */
	for (int more = 0; more < 2; more++) {
		at = (size_t)sprintf(request, "GET / HTTP/1.1\r\nHost: a\r\nX-A: ");
		memset(request + at, 'x', ENV_CGI_VALUE_MAX);
		at += ENV_CGI_VALUE_MAX;
		strcpy(request + at, more ? "\r\nX-A: b\r\n\r\n" : "\r\n\r\n");
		CHECK_INT(say(request, plain), more ? -E2BIG : 0);
		CHECK(!env_get(&vars, "CCF_OMITTED"));
	}
	/* as many fields as there may be */
	at = (size_t)sprintf(request, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 1; i < HTTP1_COUNT_MAX; i++)
		at += (size_t)sprintf(request + at, "X-%d: %d\r\n", i, i);
	strcpy(request + at, "\r\n");
	CHECK_INT(say(request, verified), 0);
	CHECK_INT(count_named("HTTP_X_"), HTTP1_COUNT_MAX - 1);
	/* all together */
	at = (size_t)sprintf(request, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 0; i < 4; i++) {
		at += (size_t)sprintf(request + at, "X-%d: ", i);
		memset(request + at, 'x', 15300);
		at += 15300;
		at += (size_t)sprintf(request + at, "\r\n");
	}
	strcpy(request + at, "\r\n");
	CHECK_INT(say(request, plain), -E2BIG);
	env_free(&vars);
}

/* ---- the script's header ---- */

static struct cgi_parser p;

/* As the script says it, in pieces of that size; the last word. */
static int
hear(const char *bytes, size_t len, size_t piece, size_t *used)
{
	size_t at = 0, n;
	int rc = 0;

	cgi_parser_free(&p);
	p = (struct cgi_parser){ 0 };
	while (rc == 0 && at < len) {
		n = len - at < piece ? len - at : piece;
		rc = cgi_read(&p, bytes + at, n, &n);
		at += n;
	}
	*used = at;
	return rc;
}

struct script {
	const char *said;
	unsigned status;
	const char *reason;
	int64_t length;
	const char *fields;
	const char *body;
};

CASE(a_header_is_read_however_it_was_split)
{
	static const struct script scripts[] = {
		{ "Content-Type: text/plain\n\nhello", 200, "", -1, "Content-Type: text/plain\r\n",
		    "hello" },
		{ "Content-Type:text/plain\r\n\r\n", 200, "", -1, "Content-Type: text/plain\r\n",
		    "" },
		{ "Status: 404\nX-A: \t b c \t\n\r\n\n", 404, "", -1, "X-A: b c\r\n", "\n" },
		{ "STATUS: 201 Made It\r\nContent-Length: 12\n\nx", 201, "Made It", 12, "", "x" },
		{ "Location: /there\n\n", 302, "", -1, "Location: /there\r\n", "" },
		{ "Location: http://a/\nStatus: 303 See Other\n\n", 303, "See Other", -1,
		    "Location: http://a/\r\n", "" },
		{ "Set-Cookie: a\nset-cookie: b\nX:\n\n", 200, "", -1,
		    "Set-Cookie: a\r\nset-cookie: b\r\nX: \r\n", "" },
		{ "Connection: close\nTransfer-Encoding: chunked\nKeep-Alive: 1\nUpgrade: x\n"
		  "Trailer: x\nDate: now\nConnection: x\nServer: y\n\n",
		    200, "", -1, "Server: y\r\n", "" },
		{ "Content-Length: 9223372036854775807\n\n", 200, "", INT64_MAX, "", "" },
		{ "Content-Length: 0\n\n", 200, "", 0, "", "" },
		{ "Status: 599 \xc3\xa4\nA: \xff\n\n", 599, "\xc3\xa4", -1, "A: \xff\r\n", "" },
		{ "Status: 200 "
		  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		  "\n\n",
		    200, "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", -1, "",
		    "" },
		{ "Status: 200 "
		  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
		  "\n\n",
		    200, "", -1, "", "" },
	};

	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		const struct script *s = &scripts[i];
		size_t len = strlen(s->said), used;

		for (size_t piece = 1; piece <= len; piece++) {
			CHECK_INT(hear(s->said, len, piece, &used), 1);
			CHECK(p.whole);
			CHECK_INT(p.head.status, s->status);
			CHECK_STR(p.head.reason, s->reason);
			CHECK_INT(p.head.length, s->length);
			CHECK_STR(p.head.fields, s->fields);
			CHECK_STR(s->said + used, s->body);
		}
	}
}

CASE(a_header_that_is_none_is_refused_however_it_was_split)
{
	static const char *const scripts[][2] = {
		{ "\n", "it has no field at all" },
		{ "\r\n", "it has no field at all" },
		{ "<html>\n\n", "line 1: there is no colon" },
		{ "A: b\nhello\n", "line 2: there is no colon" },
		{ "A: b\n \n\n", "line 2: there is no colon" },
		{ "A: b\n c: d\n\n", "line 2: there is no name before the colon" },
		{ "A : b\n\n", "line 1: there is no name before the colon" },
		{ ": b\n\n", "line 1: there is no name before the colon" },
		{ "A(: b\n\n", "line 1: there is no name before the colon" },
		{ "\xc3\xa4: b\n\n", "line 1: there is no name before the colon" },
		{ "A: b\rc\n\n", "line 1: a control character" },
		{ "A: b\r\r\n\n", "line 1: a control character" },
		{ "A\t: b\x01\n\n", "line 1: a control character" },
		{ "A: \x7f\n\n", "line 1: a control character" },
		{ "Status: OK\n\n", "line 1: Status is not a number from 200 to 599" },
		{ "Status:\n\n", "line 1: Status is not a number from 200 to 599" },
		{ "Status: 20\n\n", "line 1: Status is not a number from 200 to 599" },
		{ "Status: 100\n\n", "line 1: Status is not a number from 200 to 599" },
		{ "Status: 600\n\n", "line 1: Status is not a number from 200 to 599" },
		{ "Status: 2000\n\n", "line 1: Status is not a number from 200 to 599" },
		{ "Status: 200OK\n\n", "line 1: Status is not a number from 200 to 599" },
		{ "Status: HTTP/1.1 200 OK\n\n", "line 1: Status is not a number from 200 to 599" },
		{ "HTTP/1.1 200 OK\n\n", "line 1: there is no colon" },
		{ "Content-Length:\n\n", "line 1: Content-Length is not a number" },
		{ "Content-Length: -1\n\n", "line 1: Content-Length is not a number" },
		{ "Content-Length: 1 2\n\n", "line 1: Content-Length is not a number" },
		{ "Content-Length: 0x1\n\n", "line 1: Content-Length is not a number" },
		{ "Content-Length: 9223372036854775808\n\n",
		    "line 1: Content-Length is not a number" },
		{ "Status: 200\nSTATUS: 200\n\n", "line 2: STATUS is there twice" },
		{ "Content-Length: 1\nContent-Length: 1\n\n",
		    "line 2: Content-Length is there twice" },
		{ "Content-Type: a\nA: b\nContent-Type: a\n\n",
		    "line 3: Content-Type is there twice" },
		{ "Location: a\nLocation: a\n\n", "line 2: Location is there twice" },
	};
	size_t used;

	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		size_t len = strlen(scripts[i][0]);

		for (size_t piece = 1; piece <= len; piece++) {
			CHECK_INT(hear(scripts[i][0], len, piece, &used), -EBADMSG);
			CHECK_STR(p.fault, scripts[i][1]);
			CHECK(!p.whole && !p.head.fields);
		}
	}
	CHECK_INT(hear("A: b\0c\n\n", 8, 8, &used), -EBADMSG);
	CHECK_STR(p.fault, "line 1: a control character");
}

CASE(a_header_without_its_end_is_not_whole)
{
	static const char said[] = "Content-Type: text/plain\r\n\r";
	size_t used;

	CHECK_INT(hear(said, sizeof(said) - 1, 100, &used), 0);
	CHECK(!p.whole && p.len == sizeof(said) - 1);
	CHECK_INT(hear("", 0, 1, &used), 0);
	CHECK_INT(p.len, 0);
}

CASE(a_header_has_bounds)
{
	static char said[2 * CGI_HEAD_MAX];
	static const size_t pieces[] = { sizeof(said), 4096, 1000, 7 };
	size_t at, used;

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		memset(said, 'x', sizeof(said));
		memcpy(said, "X: ", 3);
		memcpy(said + CGI_HEAD_MAX - 2, "\n\n", 2);
		CHECK_INT(hear(said, sizeof(said), pieces[i], &used), 1);
		CHECK_INT(used, CGI_HEAD_MAX);
		memcpy(said + CGI_HEAD_MAX - 2, "x\n\n", 3);
		CHECK_INT(hear(said, sizeof(said), pieces[i], &used), -EBADMSG);
		CHECK_STR(p.fault, "it is longer than 65536 bytes");
		memcpy(said + CGI_HEAD_MAX - 2, "xxx", 3);
		CHECK_INT(hear(said, sizeof(said), pieces[i], &used), -EBADMSG);
		CHECK_STR(p.fault, "it is longer than 65536 bytes");
		/* what is wrong first counts */
		memcpy(said + 10, "\nhello\n", 7);
		CHECK_INT(hear(said, sizeof(said), pieces[i], &used), -EBADMSG);
		CHECK_STR(p.fault, "line 2: there is no colon");
	}
	for (int more = 0; more < 2; more++) {
		at = 0;
		for (int i = 0; i < CGI_COUNT_MAX + more; i++)
			at += (size_t)sprintf(said + at, "X: y\n");
		strcpy(said + at, "\n");
		CHECK_INT(hear(said, at + 1, at + 1, &used), more ? -EBADMSG : 1);
	}
	CHECK_STR(p.fault, "it has more than 256 fields");
	cgi_parser_free(&p);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_request_becomes_the_variables_of_rfc_3875),
	    RUN(a_request_without_much_has_what_every_script_expects),
	    RUN(tls_and_a_verified_certificate_are_told),
	    RUN(the_server_has_the_name_it_was_called_by),
	    RUN(a_path_is_decoded_or_refused),
	    RUN(fields_that_would_deceive_or_leak_are_left_out),
	    RUN(repeated_fields_are_one),
	    RUN(what_does_not_fit_is_not_left_out),
	    RUN(a_header_is_read_however_it_was_split),
	    RUN(a_header_that_is_none_is_refused_however_it_was_split),
	    RUN(a_header_without_its_end_is_not_whole),
	    RUN(a_header_has_bounds),
	    { 0 },
	});
}
