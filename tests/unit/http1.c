/* What a head says, what a limit allows, and what a parser keeps; the verdicts themselves are in
 * http1_corpus.c. */
#include "wire/http1.h"

#include <errno.h>
#include <stdlib.h>

#include "check.h"

static const struct http1_limits usual = { HTTP1_BODY_MAX, HTTP1_HEADER_MAX, HTTP1_COUNT_MAX,
	HTTP1_LINE_MAX, HTTP1_HEAD_MAX };

static struct http1_parser *
parser(enum http1_role role, const struct http1_limits *limits)
{
	struct http1_parser *p = NULL;

	if (http1_new(&p, role, limits) < 0)
		abort();
	return p;
}

/* The first event that is not MORE, or MORE when all is read. */
static enum http1_what
say(struct http1_parser *p, const char *s)
{
	struct http1_event e;

	http1_feed(p, s, strlen(s), &e);
	return e.what;
}

/* The head of one request (or response) that is all right. */
static struct http1_parser *
headed(enum http1_role role, const char *s)
{
	struct http1_parser *p = parser(role, &usual);

	CHECK_INT(say(p, s), HTTP1_HEAD);
	if (!http1_head(p))
		abort();
	return p;
}

static const char *
str(struct http1_text t)
{
	static char kept[4][256];
	static unsigned turn;
	char *s = kept[turn++ % 4];

	if (!t.at)
		return "(none)";
	snprintf(s, sizeof(kept[0]), "%.*s", (int)t.len, t.at);
	return s;
}

CASE(a_head_says_what_came)
{
	static const char bytes[] = "POST /app/log?id=1&x=? HTTP/1.1\r\nHost: "
				    "a.example:8080\r\nX-Empty: \r\nx-two:  1 2\t\r\n"
				    "Content-Length: 5\r\nX-Two: other\r\n\r\n";
	struct http1_parser *p = headed(HTTP1_REQUEST, bytes);
	const struct http1_head *h = http1_head(p);

	CHECK_STR(str(h->raw), bytes);
	CHECK_STR(str(h->method), "POST");
	CHECK_STR(str(h->target), "/app/log?id=1&x=?");
	CHECK_STR(str(h->path), "/app/log");
	CHECK_STR(str(h->query), "id=1&x=?");
	CHECK_STR(str(h->host), "a.example:8080");
	CHECK_INT(h->minor, 1);
	CHECK_INT(h->n_fields, 5);
	CHECK_STR(str(h->field[1].name), "X-Empty");
	CHECK_INT(h->field[1].value.len, 0);
	CHECK_STR(str(*http1_find(h, "X-TWO")), "1 2");
	CHECK(http1_find(h, "X-Three") == NULL);
	CHECK(http1_find(h, "X-Tw") == NULL);
	CHECK_INT(h->framing, HTTP1_LENGTH);
	CHECK_INT(h->length, 5);
	CHECK(h->keep_alive && !h->expects && h->upgrade.len == 0);
	http1_free(p);
}

CASE(a_target_has_a_path_and_a_query)
{
	static const struct {
		const char *method, *target, *path, *query;
	} rows[] = {
		{ "GET", "/", "/", "(none)" },
		{ "GET", "/?", "/", "" },
		{ "GET", "/a?b?c", "/a", "b?c" },
		{ "OPTIONS", "*", "*", "(none)" },
		{ "GET", "http://a/b?c", "/b", "c" },
		{ "GET", "https://a", "/", "(none)" },
		{ "GET", "http://a?c", "/", "c" },
		{ "GET", "//b/c", "//b/c", "(none)" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char bytes[128];
		struct http1_parser *p;

		snprintf(bytes, sizeof(bytes), "%s %s HTTP/1.1\r\nHost: a\r\n\r\n", rows[i].method,
		    rows[i].target);
		p = headed(HTTP1_REQUEST, bytes);
		CHECK_STR(str(http1_head(p)->path), rows[i].path);
		CHECK_STR(str(http1_head(p)->query), rows[i].query);
		http1_free(p);
	}
}

CASE(an_absolute_form_stands_in_for_the_host_that_is_not_said)
{
	struct http1_parser *p = headed(HTTP1_REQUEST, "GET http://b.example/ HTTP/1.0\r\n\r\n");

	CHECK_STR(str(http1_head(p)->host), "b.example");
	http1_free(p);
	p = headed(HTTP1_REQUEST, "GET / HTTP/1.0\r\n\r\n");
	CHECK_INT(http1_head(p)->host.len, 0);
	http1_free(p);
}

CASE(version_and_connection_say_whether_another_may_follow)
{
	static const struct {
		int minor;
		const char *connection;
		bool keep;
	} rows[] = {
		{ 1, "", true },
		{ 1, "Connection: close\r\n", false },
		{ 1, "Connection: Close\r\n", false },
		{ 1, "Connection: x, close\r\n", false },
		{ 1, "Connection: x,\tclose\t,y\r\n", false },
		{ 1, "Connection: x\r\nConnection: close\r\n", false },
		{ 1, "Connection: closed\r\n", true },
		{ 1, "Connection: not close\r\n", true },
		{ 1, "Connection: keep-alive, close\r\n", false },
		{ 0, "", false },
		{ 0, "Connection: keep-alive\r\n", true },
		{ 0, "Connection: Keep-Alive\r\n", true },
		{ 0, "Connection: keep-alive, close\r\n", false },
		{ 0, "Connection: keep-alives\r\n", false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char bytes[128];
		struct http1_parser *p;

		snprintf(bytes, sizeof(bytes), "GET / HTTP/1.%d\r\nHost: a\r\n%s\r\n",
		    rows[i].minor, rows[i].connection);
		p = headed(HTTP1_REQUEST, bytes);
		if (http1_head(p)->keep_alive != rows[i].keep)
			printf("# %s", bytes);
		CHECK_INT(http1_head(p)->keep_alive, rows[i].keep);
		http1_free(p);
	}
}

CASE(a_response_until_the_end_is_the_last)
{
	struct http1_parser *p = headed(HTTP1_RESPONSE, "HTTP/1.1 200 OK\r\n\r\n");

	CHECK_INT(http1_head(p)->framing, HTTP1_UNTIL_END);
	CHECK(!http1_head(p)->keep_alive);
	CHECK_INT(http1_head(p)->status, 200);
	http1_free(p);
}

CASE(expectations_and_upgrades_are_said)
{
	struct http1_parser *p = headed(HTTP1_REQUEST,
	    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-CONTINUE\r\nContent-Length: 1\r\n\r\n");

	CHECK(http1_head(p)->expects);
	http1_free(p);
	p = headed(HTTP1_REQUEST, "POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n");
	CHECK(!http1_head(p)->expects);
	http1_free(p);
	p = headed(HTTP1_REQUEST,
	    "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: x, Upgrade\r\n\r\n");
	CHECK_STR(str(http1_head(p)->upgrade), "websocket");
	http1_free(p);
	p = headed(HTTP1_REQUEST, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n");
	CHECK_INT(http1_head(p)->upgrade.len, 0);
	http1_free(p);
}

/* --- limits --- */

enum kind { BODY, CHUNKS, VALUE, NAME, COUNT, LINE };

/* A request that has n of it, as a string of the caller's. */
static char *
made(enum kind kind, size_t n)
{
	char *s = malloc(n * 8 + 256), *to = s;

	if (!s)
		abort();
	to += sprintf(to, "POST /");
	if (kind == LINE)
		for (size_t i = sizeof("POST / HTTP/1.1") - 1; i < n; i++)
			*to++ = 'p';
	to += sprintf(to, " HTTP/1.1\r\nHost: a\r\n");
	if (kind == COUNT)
		for (size_t i = 1; i < n; i++)
			to += sprintf(to, "A: b\r\n");
	if (kind == NAME) {
		memset(to, 'n', n);
		to += n;
		to += sprintf(to, ": v\r\n");
	}
	if (kind == VALUE) {
		to += sprintf(to, "K:\t");
		memset(to, 'v', n);
		to += n;
		to += sprintf(to, " \r\n");
	}
	if (kind == BODY)
		to += sprintf(to, "Content-Length: %zu\r\n", n);
	if (kind == CHUNKS)
		to += sprintf(to, "Transfer-Encoding: chunked\r\n");
	to += sprintf(to, "\r\n");
	if (kind == BODY) {
		memset(to, 'b', n);
		to += n;
	}
	for (size_t i = 0; kind == CHUNKS && i < n; i++)
		to += sprintf(to, "1\r\nc\r\n");
	if (kind == CHUNKS)
		to += sprintf(to, "0\r\n\r\n");
	*to = '\0';
	return s;
}

static enum http1_what
outcome(struct http1_parser *p, const char *s)
{
	size_t len = strlen(s);
	struct http1_event e;

	do {
		size_t n = http1_feed(p, s, len, &e);

		s += n;
		len -= n;
	} while (e.what == HTTP1_HEAD || e.what == HTTP1_BODY);
	return e.what;
}

CASE(exactly_at_a_limit_passes)
{
	static const struct {
		enum kind kind;
		size_t n;
		int status;
		enum http1_class class;
		const char *code, *text;
	} rows[] = {
		{ BODY, 1000, 413, HTTP1_PAYLOAD, "RequestBodyTooLarge",
		    "HTTP request body is too large (max size allowed: 1000)" },
		{ CHUNKS, 1000, 413, HTTP1_PAYLOAD, "RequestBodyTooLarge",
		    "HTTP request body is too large (max size allowed: 1000)" },
		{ VALUE, 100, 431, HTTP1_HEADERS, "RequestHeaderTooLarge",
		    "Header value for 'K' is too large (max size allowed: 100)" },
		{ NAME, 100, 431, HTTP1_HEADERS, "RequestHeaderTooLarge",
		    "Header key for 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn...' is too large (max size "
		    "allowed: 100)" },
		{ COUNT, 50, 431, HTTP1_HEADERS, "RequestHeaderTooLarge",
		    "Too many headers (max number allowed: 50)" },
		{ LINE, 200, 414, HTTP1_HEADERS, "RequestLineTooLong",
		    "HTTP request line is too large (max size allowed: 200)" },
	};
	static const struct http1_limits small = { 1000, 100, 50, 200, 2000 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t n = rows[i].n, sizes[] = { n / 2, n - 10, n - 1, n, n + 1, n + 10, 2 * n };

		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			struct http1_parser *p = parser(HTTP1_REQUEST, &small);
			char *s = made(rows[i].kind, sizes[k]);

			CHECK_INT(outcome(p, s), sizes[k] <= n ? HTTP1_DONE : HTTP1_BAD);
			if (sizes[k] > n && http1_fault(p)) {
				CHECK_INT(http1_fault(p)->status, rows[i].status);
				CHECK_INT(http1_fault(p)->class, rows[i].class);
				CHECK_STR(http1_fault(p)->code, rows[i].code);
				CHECK_STR(http1_fault(p)->text, rows[i].text);
			}
			free(s);
			http1_free(p);
		}
	}
}

CASE(each_status_has_its_code)
{
	static const struct {
		const char *bytes;
		int status;
		const char *code;
	} rows[] = {
		{ "\n", 400, "InvalidInput" },
		{ "GET / HTTP/2.0", 505, "HttpVersionNotSupported" },
		{ "BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "NotImplemented" },
		{ "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 501, "NotImplemented" },
		{ "GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417, "ExpectationFailed" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct http1_parser *p = parser(HTTP1_REQUEST, &usual);

		CHECK_INT(say(p, rows[i].bytes), HTTP1_BAD);
		CHECK_INT(http1_fault(p)->status, rows[i].status);
		CHECK_INT(http1_fault(p)->class, HTTP1_PARSING);
		CHECK_STR(http1_fault(p)->code, rows[i].code);
		CHECK_INT(http1_head(p) != NULL, strstr(rows[i].bytes, "\r\n\r\n") != NULL);
		http1_free(p);
	}
}

CASE(a_refusal_says_what_and_where_and_escapes_it)
{
	struct http1_parser *p = parser(HTTP1_REQUEST, &usual);

	CHECK_INT(say(p, "GET / HTTP/1.1\r\nHost: "
			 "\"\xff'\\\t<script>012345678901234567890123456789\r\n\r\n"),
	    HTTP1_BAD);
	CHECK_STR(http1_fault(p)->text,
	    "Unable to parse data as a HTTP request: a malformed Host "
	    "('\\x22\\xff\\x27\\x5c\\x09<script>0123456789012345678...') at byte 22");
	CHECK_INT(http1_fault(p)->at, 22);
	CHECK_INT(say(p, "GET"), HTTP1_BAD);
	http1_free(p);
}

/* A name and a sentence of nothing but what must be escaped still fit. */
CASE(the_longest_sentence_fits)
{
	char bytes[512];
	struct http1_parser *p = parser(HTTP1_REQUEST, &usual);
	size_t len;

	len = (size_t)sprintf(bytes, "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: ");
	memset(bytes + len, '\xff', 300);
	memcpy(bytes + len + 300, "\r\n\r\n", 5);
	CHECK_INT(say(p, bytes), HTTP1_BAD);
	CHECK(strstr(http1_fault(p)->text, "...') at byte 44") != NULL);
	http1_free(p);
}

/* --- what is kept, and the end --- */

CASE(between_messages_nothing_is_kept)
{
	struct http1_parser *p = parser(HTTP1_REQUEST, &usual);

	CHECK_INT(http1_held(p), 0);
	CHECK(!http1_begun(p));
	CHECK_INT(say(p, "\r\n"), HTTP1_MORE);
	CHECK(!http1_begun(p));
	CHECK_INT(http1_held(p), 0);
	CHECK_INT(say(p, "GET / HTTP/1.1\r\nHost: "), HTTP1_MORE);
	CHECK(http1_begun(p));
	CHECK(http1_held(p) > 0 && http1_held(p) < 2048);
	CHECK(http1_head(p) == NULL);
	CHECK_INT(say(p, "a\r\n\r\n"), HTTP1_HEAD);
	CHECK_STR(str(http1_head(p)->raw), "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	CHECK(http1_begun(p));
	CHECK_INT(say(p, ""), HTTP1_DONE);
	CHECK(!http1_begun(p));
	CHECK(http1_head(p) != NULL);
	http1_next(p);
	CHECK_INT(http1_held(p), 0);
	CHECK(http1_head(p) == NULL);
	http1_free(p);
	http1_free(NULL);
}

CASE(a_head_in_small_pieces_is_held_once)
{
	struct http1_parser *p = parser(HTTP1_REQUEST, &usual);

	CHECK_INT(say(p, "GET / HTTP/1.1\r\nHost: a\r\n"), HTTP1_MORE);
	for (int i = 0; i < 255; i++) {
		CHECK_INT(say(p, "A"), HTTP1_MORE);
		CHECK_INT(say(p, ": \r\n"), HTTP1_MORE);
	}
	CHECK(http1_held(p) <= 2 * (25 + 255 * 5) + 256 * 16);
	http1_free(p);
}

CASE(the_end_of_the_stream_is_clean_only_between_messages)
{
	struct http1_parser *p = parser(HTTP1_REQUEST, &usual);
	struct http1_event e;

	http1_end(p, &e);
	CHECK_INT(e.what, HTTP1_MORE);
	CHECK_INT(say(p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), HTTP1_HEAD);
	http1_end(p, &e);
	CHECK_INT(e.what, HTTP1_DONE);
	http1_end(p, &e);
	CHECK_INT(e.what, HTTP1_MORE);
	http1_next(p);
	CHECK_INT(say(p, "G"), HTTP1_MORE);
	http1_end(p, &e);
	CHECK_INT(e.what, HTTP1_BAD);
	CHECK_INT(http1_fault(p)->status, 400);
	CHECK_STR(http1_fault(p)->text,
	    "Unable to parse data as a HTTP request: the end of the stream at byte 1");
	http1_free(p);
}

CASE(a_body_is_borrowed_from_what_was_fed)
{
	static const char bytes[] =
	    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
	struct http1_parser *p = parser(HTTP1_REQUEST, &usual);
	const char *s = bytes;
	struct http1_event e;

	s += http1_feed(p, s, strlen(s), &e);
	CHECK_INT(e.what, HTTP1_HEAD);
	CHECK_STR(s, "3\r\nabc\r\n0\r\n\r\n");
	s += http1_feed(p, s, strlen(s), &e);
	CHECK_INT(e.what, HTTP1_BODY);
	CHECK(e.body == strstr(bytes, "abc") && e.len == 3);
	CHECK_STR(s, "\r\n0\r\n\r\n");
	s += http1_feed(p, s, strlen(s), &e);
	CHECK_INT(e.what, HTTP1_DONE);
	CHECK_STR(s, "");
	http1_free(p);
}

CASE(what_answers_head_has_no_body)
{
	struct http1_parser *p = parser(HTTP1_RESPONSE, &usual);

	for (int i = 0; i < 2; i++) {
		http1_response_to(p, i == 0);
		CHECK_INT(say(p, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"), HTTP1_HEAD);
		CHECK_INT(http1_head(p)->framing, i == 0 ? HTTP1_NO_BODY : HTTP1_LENGTH);
		CHECK_INT(say(p, i == 0 ? "" : "abc"), i == 0 ? HTTP1_DONE : HTTP1_BODY);
		http1_next(p);
	}
	http1_free(p);
}

CASE(words_are_compared_in_any_case)
{
	CHECK(http1_is((struct http1_text){ "Keep-Alive", 10 }, "keep-alive"));
	CHECK(!http1_is((struct http1_text){ "Keep-Alive", 9 }, "keep-alive"));
	CHECK(!http1_is((struct http1_text){ "[", 1 }, "{"));
	CHECK(!http1_is((struct http1_text){ "\xc4", 1 }, "\xe4"));
	CHECK(http1_is((struct http1_text){ NULL, 0 }, ""));
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_head_says_what_came),
	    RUN(a_target_has_a_path_and_a_query),
	    RUN(an_absolute_form_stands_in_for_the_host_that_is_not_said),
	    RUN(version_and_connection_say_whether_another_may_follow),
	    RUN(a_response_until_the_end_is_the_last),
	    RUN(expectations_and_upgrades_are_said),
	    RUN(exactly_at_a_limit_passes),
	    RUN(each_status_has_its_code),
	    RUN(a_refusal_says_what_and_where_and_escapes_it),
	    RUN(the_longest_sentence_fits),
	    RUN(between_messages_nothing_is_kept),
	    RUN(a_head_in_small_pieces_is_held_once),
	    RUN(the_end_of_the_stream_is_clean_only_between_messages),
	    RUN(a_body_is_borrowed_from_what_was_fed),
	    RUN(what_answers_head_has_no_body),
	    RUN(words_are_compared_in_any_case),
	    { 0 },
	});
}
