/* The HTTP/1 session, driven by hand: bytes in, bytes out, a handler that does what each case
 * wants, and a clock that stands still until it is moved. */
#include "session/http1.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "check.h"
#include "session/exchange.h"
#include "session/writer.h"

/* ---- the clock, and memory that runs out ---- */

static int64_t now_ms = 1000000;

int64_t
clock_us(void)
{
	return now_ms * 1000;
}

int64_t
clock_ms(void)
{
	return now_ms;
}

int64_t
clock_after(int64_t now, int64_t ms)
{
	return ms < 0 ? CLOCK_NEVER : now + ms;
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif

static long until_none = -1; /* so many allocations go well; -1: all */

#ifndef SANITIZED
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static bool
none_left(void)
{
	return until_none >= 0 && until_none-- == 0 && (until_none = 0, true);
}

void *
malloc(size_t n)
{
	return none_left() ? NULL : __libc_malloc(n);
}

void *
calloc(size_t n, size_t size)
{
	return none_left() ? NULL : __libc_calloc(n, size);
}

void *
realloc(void *p, size_t n)
{
	return none_left() ? NULL : __libc_realloc(p, n);
}
#endif

/* ---- a handler that does what it is told, and says what it was told ---- */

static char trace[4096];
static struct exchange *now; /* the one under way */

static void __attribute__((format(printf, 1, 2))) note(const char *fmt, ...)
{
	size_t at = strlen(trace);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(trace + at, sizeof(trace) - at, fmt, ap);
	va_end(ap);
}

static volatile char last; /* byte that body() was shown */
static size_t takes;	   /* bytes that body() takes; SIZE_MAX: all */
static void (*at_begin)(struct exchange *), (*at_body)(struct exchange *),
    (*at_end)(struct exchange *), (*at_hungup)(struct exchange *);

static void
hand_begin(struct exchange *x, const struct http1_head *head)
{
	now = x;
	note("begin %.*s;", (int)head->target.len, head->target.at);
	if (at_begin)
		at_begin(x);
}

static ssize_t
hand_body(struct exchange *x, const char *bytes, size_t len)
{
	size_t n = len < takes ? len : takes;

	note("body %.*s;", n > 40 ? 0 : (int)n, bytes);
	if (takes != SIZE_MAX)
		takes -= n;
	if (at_body)
		at_body(x);
	last = len > 0 ? bytes[len - 1] : 0;
	return (ssize_t)n;
}

static void
hand_end(struct exchange *x)
{
	CHECK(exchange_whole(x));
	note("end;");
	if (at_end)
		at_end(x);
}

static void
hand_drained(struct exchange *x)
{
	(void)x;
	note("drained;");
}

static void
hand_hungup(struct exchange *x)
{
	note("hungup;");
	if (at_hungup)
		at_hungup(x);
}

static void
hand_abort(struct exchange *x)
{
	note("abort;");
	exchange_answer(x, 200, NULL, NULL, "x", 1); /* too late: must do nothing */
	exchange_cut(x);
	now = NULL;
}

static struct http1_handler hand = {
	.name = "hand",
	.begin = hand_begin,
	.body = hand_body,
	.end = hand_end,
	.drained = hand_drained,
	.hungup = hand_hungup,
	.abort = hand_abort,
};

static void
told(void *arg, const struct http1_record *r)
{
	CHECK(arg == trace);
	note("told %u", r->status);
	if (r->head)
		note(" %.*s", (int)r->head->target.len, r->head->target.at);
	if (r->in || r->out)
		note(" %llu/%llu", (unsigned long long)r->in, (unsigned long long)r->out);
	note("%s%s;", r->fault ? " fault" : "", r->cut ? " cut" : "");
}

/* ---- the one who owns the writer ---- */

static struct http1_config config;
static struct http1_setup setup = { &config, trace };
static struct writer w;
static struct session *s;
static struct env env;
static int woken;
static char heard[4 << 20];

static void
wake(struct writer *writer)
{
	(void)writer;
	woken++;
}

static void
begin(const struct http1_handler *handler)
{
	config = (struct http1_config){
		.limits = { HTTP1_BODY_MAX, HTTP1_HEADER_MAX, HTTP1_COUNT_MAX, HTTP1_LINE_MAX,
		    HTTP1_HEAD_MAX },
		.request_timeout = 10000,
		.idle = 60000,
		.handler = handler,
		.told = told,
	};
	w = (struct writer){ .woken = wake };
	trace[0] = '\0';
	takes = SIZE_MAX;
	at_begin = at_body = at_end = at_hungup = NULL;
	now = NULL;
	hand.raw = false;
	s = NULL;
	CHECK_INT(session_http1.open(&s, &w, &env, &setup), 0);
}

static void
finish(void)
{
	session_http1.close(s);
	writer_free(&w);
}

/* What it says now, without the Date, whose form is checked. */
static const char *
hears(void)
{
	size_t n = 0, got;
	char *date;

	while ((got = writer_take(&w, heard + n, sizeof(heard) - 1 - n)) > 0)
		n += got;
	(void)writer_drained(&w, SIZE_MAX);
	heard[n] = '\0';
	while ((date = strstr(heard, "\r\nDate: "))) {
		char *end = strstr(date + 2, "\r\n");

		CHECK_INT(end - date, 2 + strlen("Date: Sun, 06 Nov 1994 08:49:37 GMT"));
		CHECK(strncmp(end - 4, " GMT", 4) == 0);
		memmove(date, end, strlen(end) + 1);
	}
	return heard;
}

static size_t
says(const char *text)
{
	ssize_t n = session_http1.data(s, text, strlen(text));

	CHECK(n >= 0);
	return (size_t)n;
}

/* All of it is taken. */
static void
asks(const char *text)
{
	CHECK_INT(says(text), strlen(text));
}

#define HOST "Host: a\r\n"
#define GET  "GET /x HTTP/1.1\r\n" HOST "\r\n"
#define OK   "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"

static void
answer_ok(struct exchange *x)
{
	exchange_answer(x, 200, "text/plain", NULL, "ok", 2);
}

static void
refusal(
    char *to, size_t cap, unsigned status, const char *code, const char *text, const char *fields)
{
	char json[2048];

	snprintf(
	    json, sizeof(json), "{\"error\":{\"code\":\"%s\",\"message\":\"%s\"}}", code, text);
	snprintf(to, cap,
	    "HTTP/1.1 %u %s\r\nContent-Type: application/json\r\n%sContent-Length: "
	    "%zu\r\nConnection: close\r\n\r\n%s",
	    status, http1_reason(status), fields, strlen(json), json);
}

static void
hears_refusal(unsigned status, const char *code, const char *text)
{
	char expected[4096];

	refusal(expected, sizeof(expected), status, code, text, "");
	CHECK_STR(hears(), expected);
	CHECK(w.closed);
	CHECK_INT(w.broken, 0);
}

/* ---- one request after the other ---- */

CASE(requests_are_answered_one_after_the_other_until_close)
{
	begin(&hand);
	at_end = answer_ok;
	asks(GET);
	CHECK_STR(hears(), OK "\r\nok");
	CHECK(!w.closed);
	asks(GET);
	CHECK_STR(hears(), OK "\r\nok");
	asks("GET /y HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n");
	CHECK_STR(hears(), OK "Connection: close\r\n\r\nok");
	CHECK(w.closed);
	CHECK(!w.reason);
	CHECK_STR(trace, "begin /x;end;told 200 /x 0/2;begin /x;end;told 200 /x 0/2;begin "
			 "/y;end;told 200 /y 0/2;");
	finish();
}

CASE(http_1_0_closes_unless_it_asks_to_be_kept)
{
	begin(&hand);
	at_begin = answer_ok;
	asks("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	CHECK_STR(hears(), OK "Connection: keep-alive\r\n\r\nok");
	CHECK(!w.closed);
	asks("GET / HTTP/1.0\r\n\r\n");
	CHECK_STR(hears(), OK "Connection: close\r\n\r\nok");
	CHECK(w.closed);
	finish();
}

static void
answer_fields(struct exchange *x)
{
	exchange_answer(x, 204, NULL, "Allow: GET\r\n", NULL, 0);
}

static void
answer_304(struct exchange *x)
{
	exchange_answer(x, 304, NULL, NULL, "body", 4);
}

static void
answer_long(struct exchange *x)
{
	CHECK_INT(exchange_begin(x, 200, "Fine", NULL, -1), 0);
	CHECK_INT(exchange_say(x, "one", 3), 0);
	CHECK_INT(exchange_say(x, "", 0), 0);
	CHECK_INT(exchange_say(x, "sixteen bytes...", 16), 0);
	exchange_said(x);
}

CASE(head_204_and_304_have_no_body)
{
	begin(&hand);
	at_begin = answer_ok;
	asks("HEAD / HTTP/1.1\r\n" HOST "\r\n");
	CHECK_STR(hears(), OK "\r\n");
	at_begin = answer_long;
	asks("HEAD / HTTP/1.1\r\n" HOST "\r\n");
	CHECK_STR(hears(), "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n");
	asks("HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	CHECK_STR(hears(), "HTTP/1.1 200 Fine\r\nConnection: keep-alive\r\n\r\n");
	at_begin = answer_fields;
	asks(GET);
	CHECK_STR(hears(), "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n");
	at_begin = answer_304;
	asks(GET);
	CHECK_STR(hears(), "HTTP/1.1 304 Not Modified\r\n\r\n");
	CHECK(!w.closed);
	finish();
}

CASE(an_answer_of_unknown_length_is_chunked_and_for_http_1_0_lasts_until_the_end)
{
	begin(&hand);
	at_begin = answer_long;
	asks(GET);
	CHECK_STR(hears(), "HTTP/1.1 200 Fine\r\nTransfer-Encoding: chunked\r\n\r\n"
			   "3\r\none\r\n10\r\nsixteen bytes...\r\n0\r\n\r\n");
	CHECK(!w.closed);
	asks("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	CHECK_STR(hears(), "HTTP/1.1 200 Fine\r\nConnection: close\r\n\r\nonesixteen bytes...");
	CHECK(w.closed);
	finish();
}

CASE(an_answer_is_as_long_as_it_said_or_is_cut)
{
	begin(&hand);
	asks(GET);
	CHECK(!exchange_begun(now));
	CHECK_INT(exchange_begin(now, 200, NULL, NULL, 5), 0);
	CHECK(exchange_begun(now));
	CHECK_INT(exchange_begin(now, 500, NULL, NULL, 5), -EPIPE);
	CHECK_INT(exchange_say(now, "123456", 6), -EMSGSIZE);
	CHECK_INT(exchange_say(now, "1234", 4), 0);
	CHECK_INT(exchange_say(now, "56", 2), -EMSGSIZE);
	exchange_said(now);
	CHECK_STR(hears(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234");
	CHECK_INT(w.broken, ECONNRESET);
	CHECK_STR(trace, "begin /x;end;told 200 /x 0/4 cut;");
	CHECK_INT(exchange_say(now, "5", 1), -EPIPE);
	finish();
	CHECK_STR(trace, "begin /x;end;told 200 /x 0/4 cut;");
}

CASE(what_follows_waits_until_the_answer_is_whole)
{
	const char *two = "GET /1 HTTP/1.1\r\n" HOST "\r\nGET /2 HTTP/1.1\r\n" HOST "\r\n";
	size_t n;

	begin(&hand);
	n = says(two);
	CHECK_INT(n, strlen(two) / 2);
	CHECK_INT(says(two + n), 0);
	CHECK_INT(session_http1.deadline(s), CLOCK_NEVER);
	woken = 0;
	answer_ok(now);
	CHECK(woken > 0);
	CHECK_STR(hears(), OK "\r\nok");
	asks(two + n);
	answer_ok(now);
	CHECK_STR(hears(), OK "\r\nok");
	CHECK_STR(trace, "begin /1;end;told 200 /1 0/2;begin /2;end;told 200 /2 0/2;");
	finish();
}

CASE(pipelined_requests_wait_while_what_was_answered_is_not_read)
{
	const char *two = GET GET;
	size_t n;

	begin(&hand);
	at_end = answer_ok;
	w.high = 50;
	n = says(two);
	CHECK_INT(n, strlen(two) / 2);
	CHECK(writer_full(&w));
	hears();
	asks(two + n);
	CHECK_STR(hears(), OK "\r\nok");
	finish();
}

/* ---- bodies ---- */

#define POST5 "POST /x HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n"
#define POSTC "POST /x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"

CASE(a_body_comes_decoded_and_ends)
{
	begin(&hand);
	at_end = answer_ok;
	asks(POST5 "12");
	CHECK(!exchange_whole(now));
	asks("345" POSTC "3\r\nabc\r\n4;x=y\r\ndef");
	asks("g\r\n0\r\nX-Later: x\r\n");
	CHECK(!exchange_whole(now));
	asks("\r\n");
	CHECK_STR(trace, "begin /x;body 12;body 345;end;told 200 /x 5/2;"
			 "begin /x;body abc;body def;body g;end;told 200 /x 7/2;");
	finish();
}

CASE(a_raw_handler_gets_what_follows_the_head_as_it_came)
{
	begin(&hand);
	hand.raw = true;
	at_end = answer_ok;
	asks(POST5 "12345");
	asks(POSTC "3\r\nabc\r\n4;x=y\r");
	asks("\ndefg\r\n0\r\nX-Later: x\r\n\r\n");
	CHECK_STR(trace,
	    "begin /x;body 12345;end;told 200 /x 5/2;"
	    "begin /x;body 3\r\nabc\r\n4;x=y\r;body \ndefg\r\n0\r\nX-Later: x\r\n\r\n;end;"
	    "told 200 /x 38/2;");
	finish();
}

CASE(what_a_handler_does_not_take_is_given_again_and_nothing_more)
{
	for (int raw = 0; raw < 2; raw++) {
		begin(&hand);
		hand.raw = raw;
		takes = 2;
		asks(POST5 "12345");
		CHECK_STR(trace, "begin /x;body 12;");
		CHECK_INT(session_http1.held(s) > 0, 1);
		CHECK(!exchange_whole(now));
		CHECK_INT(says("GET"), 0);
		takes = 1;
		exchange_resume(now);
		takes = 0;
		exchange_resume(now);
		takes = SIZE_MAX;
		woken = 0;
		exchange_resume(now);
		CHECK(woken > 0);
		CHECK_STR(trace, "begin /x;body 12;body 3;body ;body 45;end;");
		CHECK(exchange_whole(now));
		answer_ok(now);
		CHECK_STR(hears(), OK "\r\nok");
		asks(GET);
		finish();
	}
}

CASE(a_handler_that_takes_nothing_holds_a_piece_and_the_rest_is_not_taken)
{
	static char body[200000];

	begin(&hand);
	takes = 0;
	asks("POST / HTTP/1.1\r\n" HOST "Content-Length: 200000\r\n\r\n");
	CHECK_INT(session_http1.data(s, body, sizeof(body)), HTTP1_PACE);
	CHECK_INT(session_http1.data(s, body, sizeof(body)), 0);
	CHECK(session_http1.held(s) < HTTP1_PACE + 4096);
	finish();
	CHECK_STR(trace, "begin /;body ;abort;told 0 / 16384/0 cut;");
}

CASE(a_handler_may_answer_while_it_is_given_what_was_held)
{
	begin(&hand);
	takes = 1;
	asks(POST5 "1234");
	takes = SIZE_MAX;
	at_body = answer_ok; /* and its bytes are looked at after that */
	exchange_resume(now);
	CHECK_STR(hears(), OK "\r\nok");
	CHECK_STR(trace, "begin /x;body 1;body 234;told 200 /x 4/2;");
	at_body = NULL;
	asks("5" GET);
	CHECK(!w.closed);
	finish();
}

static void
resume_at_once(struct exchange *x)
{
	takes = takes == 0 ? SIZE_MAX : takes;
	exchange_resume(x);
}

CASE(a_handler_may_ask_for_more_while_it_is_given_some)
{
	begin(&hand);
	takes = 3;
	at_body = resume_at_once;
	at_end = answer_ok;
	asks(POST5 "12345");
	CHECK_STR(trace, "begin /x;body 123;body 45;end;told 200 /x 5/2;");
	finish();
}

/* ---- 100 Continue ---- */

#define EXPECTS "POST /x HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
#define GO	"HTTP/1.1 100 Continue\r\n\r\n"

CASE(who_waits_for_100_continue_gets_it_once)
{
	begin(&hand);
	at_end = answer_ok;
	asks(EXPECTS);
	CHECK_STR(hears(), GO);
	exchange_continue(now);
	asks("123");
	asks("45");
	CHECK_STR(hears(), OK "\r\nok");
	asks(EXPECTS "1"); /* it did not wait */
	CHECK_STR(hears(), "");
	exchange_continue(now);
	asks("2345");
	CHECK_STR(hears(), OK "\r\nok");
	asks("POST / HTTP/1.1\r\n" HOST
	     "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
	CHECK_STR(hears(), GO);
	asks("1\r\nx\r\n0\r\n\r\n");
	CHECK_STR(hears(), OK "\r\nok");
	asks("POST / HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n");
	CHECK_STR(hears(), OK "\r\nok");
	asks("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	CHECK_STR(hears(), "");
	finish();
}

CASE(a_raw_handler_says_100_continue_itself_or_passes_it_on)
{
	begin(&hand);
	hand.raw = true;
	asks(EXPECTS);
	CHECK_STR(hears(), "");
	CHECK_INT(exchange_pass(now, GO, strlen(GO)), 0);
	CHECK(!exchange_begun(now));
	CHECK_STR(hears(), GO);
	answer_ok(now); /* it may still say something else */
	CHECK_STR(hears(), OK "Connection: close\r\n\r\nok");
	finish();
}

CASE(an_early_answer_to_one_who_waits_for_100_continue_closes)
{
	begin(&hand);
	at_begin = answer_ok;
	asks(EXPECTS);
	CHECK_STR(hears(), OK "Connection: close\r\n\r\nok");
	CHECK(w.closed);
	finish();
}

/* ---- answers that come before the request is whole ---- */

CASE(after_an_early_answer_a_small_rest_is_read_and_dropped)
{
	begin(&hand);
	at_begin = answer_ok;
	asks(POST5);
	CHECK_STR(hears(), OK "\r\nok");
	asks("123");
	at_begin = NULL;
	asks("45" GET);
	CHECK_STR(trace, "begin /x;told 200 /x 0/2;begin /x;end;");
	answer_ok(now);
	CHECK_STR(hears(), OK "\r\nok");
	takes = 2; /* and what was held is dropped, too */
	asks(POST5 "1234");
	answer_ok(now);
	CHECK_STR(hears(), OK "\r\nok");
	takes = SIZE_MAX;
	asks("5" GET);
	CHECK(!w.closed);
	finish();
}

CASE(after_an_early_answer_in_body_the_handler_gets_no_more)
{
	begin(&hand);
	at_body = answer_ok;
	asks(POSTC "1\r\na\r\n1\r\nb\r\n0\r\n\r\n" GET);
	CHECK_STR(trace, "begin /x;body a;told 200 /x 1/2;begin /x;end;");
	CHECK_STR(hears(), OK "\r\nok");
	finish();
}

CASE(after_an_early_answer_a_large_rest_closes)
{
	char text[100];

	for (int more = 0; more < 2; more++) {
		begin(&hand);
		at_begin = answer_ok;
		snprintf(text, sizeof(text),
		    "POST / HTTP/1.1\r\n" HOST "Content-Length: %d\r\n\r\n", HTTP1_LINGER + more);
		asks(text);
		CHECK_STR(hears(), more ? OK "Connection: close\r\n\r\nok" : OK "\r\nok");
		CHECK_INT(w.closed, more);
		finish();
	}
}

CASE(after_an_early_answer_chunks_are_dropped_up_to_a_bound)
{
	static const char chunk[] = "8\r\n12345678\r\n";
	int n = 0;

	begin(&hand);
	at_begin = answer_ok;
	asks(POSTC);
	CHECK_STR(hears(), OK "\r\nok");
	while (!w.closed && n < 2 * HTTP1_LINGER) {
		asks(chunk);
		n += (int)strlen(chunk);
	}
	CHECK(n > HTTP1_LINGER && n < HTTP1_LINGER + 20);
	CHECK(!w.broken);
	CHECK_STR(trace, "begin /x;told 200 /x 0/2;");
	finish();
}

CASE(what_is_dropped_must_be_well_formed_too)
{
	begin(&hand);
	at_begin = answer_ok;
	asks(POSTC);
	hears();
	asks("x\r\n");
	CHECK(w.closed && !w.broken);
	CHECK(!w.reason); /* it was told as answered */
	CHECK_STR(hears(), "");
	CHECK_STR(trace, "begin /x;told 200 /x 0/2;");
	finish();
}

static void
refuse(struct exchange *x)
{
	exchange_refuse(x, 403, "Forbidden", "X: y\r\n", "no \"%s\"\\ \x01\xff here", "entry");
}

CASE(a_refusal_says_why_and_closes_if_the_request_is_not_whole)
{
	static const char said[] = "no \\\"entry\\\"\\\\ \\u0001\\\\377 here";
	char expected[1000], *close;

	refusal(expected, sizeof(expected), 403, "Forbidden", said, "X: y\r\n");
	begin(&hand);
	at_begin = refuse;
	asks(POST5);
	CHECK_STR(hears(), expected);
	CHECK(w.closed);
	finish();

	begin(&hand);
	hand.raw = true;
	at_end = refuse;
	asks(GET);
	CHECK_STR(hears(), expected);
	CHECK(w.closed);
	finish();

	close = strstr(expected, "Connection: close\r\n");
	memmove(close, close + 19, strlen(close + 19) + 1);
	begin(&hand);
	at_begin = refuse;
	asks(GET);
	CHECK_STR(hears(), expected);
	CHECK(!w.closed);
	asks(GET);
	CHECK_STR(hears(), expected);
	finish();
}

CASE(a_refusal_after_the_answer_has_begun_cuts_it)
{
	begin(&hand);
	asks(GET);
	CHECK_INT(exchange_begin(now, 200, NULL, NULL, 5), 0);
	refuse(now);
	CHECK_STR(hears(), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
	CHECK_INT(w.broken, ECONNRESET);
	finish();
}

/* ---- requests that are refused ---- */

static char big[3 << 20];

static const char *
repeat(const char *before, char c, size_t n, const char *after)
{
	size_t at = strlen(before);

	memcpy(big, before, at);
	memset(big + at, c, n);
	strcpy(big + at + n, after);
	return big;
}

static void
refused(
    const char *text, unsigned status, const char *code, const char *message, const char *reason)
{
	begin(&hand);
	asks(text);
	hears_refusal(status, code, message);
	CHECK_STR(w.reason, reason);
	CHECK_INT(w.status, CCF_PROTOCOL);
	snprintf(heard, sizeof(heard), "told %u %s0/%zu fault;", status,
	    status == 413 ? "/ " : "", /* the rest is refused before its head is whole */
	    strlen(code) + strlen(message) + strlen("{'error':{'code':'','message':''}}"));
	CHECK_STR(trace, heard);
	asks(GET); /* nobody reads it */
	CHECK_STR(hears(), "");
	finish();
}

CASE(what_is_malformed_or_too_large_is_refused_and_closed)
{
	begin(&hand);
	asks("GET / HTTP/1.1\r\nHost : a\r\n\r\n");
	CHECK(strstr(hears(), "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"));
	CHECK_STR(w.reason, "parsing");
	CHECK_INT(w.status, CCF_PROTOCOL);
	CHECK(strncmp(trace, "told 400 0/", 11) == 0 && strstr(trace, " fault;"));
	CHECK(w.closed && !w.broken);
	finish();
	refused("POST / HTTP/1.1\r\n" HOST "Content-Length: 1048577\r\n\r\n", 413,
	    "RequestBodyTooLarge", "HTTP request body is too large (max size allowed: 1048576)",
	    "request-payload-too-large");
	refused(repeat("GET / HTTP/1.1\r\n" HOST "X: ", 'x', HTTP1_HEADER_MAX + 1, "\r\n\r\n"), 431,
	    "RequestHeaderTooLarge", "Header value for 'X' is too large (max size allowed: 16384)",
	    "request-header-too-large");
}

CASE(what_is_exactly_at_the_limit_passes)
{
	begin(&hand);
	at_end = answer_ok;
	asks("POST / HTTP/1.1\r\n" HOST "Content-Length: 1048576\r\n\r\n");
	asks(repeat("", 'b', 1048576, ""));
	CHECK_STR(hears(), OK "\r\nok");
	asks(repeat("GET / HTTP/1.1\r\n" HOST "X: ", 'x', HTTP1_HEADER_MAX, "\r\n\r\n"));
	CHECK_STR(hears(), OK "\r\nok");
	finish();
}

CASE(a_body_that_turns_out_too_large_aborts_and_is_refused_unless_the_answer_has_begun)
{
	for (int begun = 0; begun < 2; begun++) {
		begin(&hand);
		asks(POSTC);
		if (begun)
			CHECK_INT(exchange_begin(now, 200, NULL, NULL, -1), 0);
		hears();
		asks("100000\r\n");
		asks(repeat("", 'b', 1048576, "\r\n"));
		trace[0] = '\0';
		asks("1\r\nx");
		CHECK_STR(w.reason, "request-payload-too-large");
		if (begun) {
			CHECK_STR(hears(), "");
			CHECK_INT(w.broken, ECONNRESET);
			CHECK_STR(trace, "abort;told 200 /x 1048576/0 fault cut;");
		} else {
			hears_refusal(413, "RequestBodyTooLarge",
			    "HTTP request body is too large (max size allowed: 1048576)");
			CHECK(strncmp(trace, "abort;told 413 /x 1048576/", 26) == 0);
		}
		finish();
	}
}

/* ---- deadlines ---- */

static void
late_in(int64_t ms)
{
	CHECK_INT(session_http1.deadline(s) - now_ms, ms);
	now_ms += ms;
	session_http1.late(s);
}

#define SLOW "The request did not come in time"

CASE(a_head_must_come_in_time_from_its_first_byte)
{
	begin(&hand);
	now_ms += 1000; /* the first one: from the beginning */
	asks("GET / HT");
	late_in(9000);
	hears_refusal(408, "RequestTimeout", SLOW);
	CHECK_STR(w.reason, "request-timeout");
	CHECK_INT(w.status, CCF_DEADLINE);
	CHECK_STR(trace, "told 408 0/80;");
	CHECK_INT(session_http1.deadline(s), CLOCK_NEVER);
	finish();

	begin(&hand);
	at_end = answer_ok;
	asks(GET);
	now_ms += 5000;
	asks("G");
	now_ms += 9000;
	asks("E");
	hears();
	late_in(1000);
	hears_refusal(408, "RequestTimeout", SLOW);
	finish();
}

CASE(a_client_that_never_asks_is_closed_without_a_word)
{
	begin(&hand);
	late_in(10000);
	CHECK_STR(hears(), "");
	CHECK(w.closed);
	CHECK_STR(w.reason, "request-timeout");
	CHECK_INT(w.status, CCF_DEADLINE);
	CHECK_STR(trace, "");
	finish();
}

CASE(a_body_must_come_at_a_pace)
{
	begin(&hand);
	asks("POST / HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
	for (int i = 0; i < 3; i++) {
		now_ms += 9999;
		asks(repeat("", 'b', HTTP1_PACE, ""));
	}
	now_ms += 9999;
	asks(repeat("", 'b', HTTP1_PACE - 1, ""));
	late_in(1);
	hears_refusal(408, "RequestTimeout", SLOW);
	CHECK(strstr(trace, ";abort;told 408 / "));
	finish();
}

CASE(time_in_which_the_handler_takes_nothing_is_not_the_clients)
{
	begin(&hand);
	takes = 1;
	now_ms += 50;
	asks("POST / HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n");
	now_ms += 4000;
	asks("12");
	CHECK_INT(session_http1.deadline(s), CLOCK_NEVER);
	now_ms += 1000000;
	takes = SIZE_MAX;
	exchange_resume(now);
	CHECK_INT(session_http1.deadline(s) - now_ms, 6000);
	/* nor is that in which our own answer is not read */
	CHECK_INT(exchange_begin(now, 200, NULL, NULL, -1), 0);
	CHECK_INT(exchange_say(now, big, WRITER_HIGH), 0);
	CHECK(exchange_full(now));
	CHECK_INT(session_http1.deadline(s), CLOCK_NEVER);
	now_ms += 1000000;
	hears();
	session_http1.drained(s);
	late_in(6000);
	CHECK_INT(w.broken, ECONNRESET);
	CHECK_STR(w.reason, "request-timeout");
	finish();
}

CASE(silence_between_two_requests_closes)
{
	begin(&hand);
	at_end = answer_ok;
	asks(GET);
	late_in(60000); /* the answer was not even read */
	CHECK(!w.closed);
	hears();
	late_in(60000);
	CHECK(w.closed && !w.broken);
	CHECK_STR(w.reason, "idle");
	CHECK_INT(w.status, 0);
	finish();
	CHECK_STR(trace, "begin /x;end;told 200 /x 0/2;");

	begin(&hand);
	at_begin = answer_ok;
	asks(POST5); /* and the rest of this one never comes */
	late_in(10000);
	CHECK(w.closed && !w.broken);
	CHECK_STR(w.reason, "request-timeout");
	finish();
}

CASE(without_limits_it_waits_for_ever)
{
	begin(&hand);
	config.request_timeout = config.idle = -1;
	at_end = answer_ok;
	asks(GET "G"); /* the first had its time from the beginning */
	CHECK_INT(session_http1.deadline(s), CLOCK_NEVER);
	asks("ET / HTTP/1.1\r\n" HOST "\r\n");
	CHECK_INT(session_http1.deadline(s), CLOCK_NEVER);
	finish();
}

/* ---- the end of the client's stream ---- */

CASE(the_end_between_two_requests_is_a_clean_one)
{
	begin(&hand);
	session_http1.end(s);
	CHECK(w.closed && !w.broken && !w.reason);
	finish();
	begin(&hand);
	at_end = answer_ok;
	asks(GET);
	session_http1.end(s);
	CHECK(w.closed && !w.broken && !w.reason);
	CHECK_STR(hears(), OK "\r\nok");
	finish();
}

CASE(the_end_in_a_request_cuts_it_and_says_so)
{
	static const char *const what[] = { "GET / HT", POST5 "1", POSTC "1\r\n" };

	for (int i = 0; i < 3; i++) {
		begin(&hand);
		asks(what[i]);
		session_http1.end(s);
		CHECK(strncmp(hears(), "HTTP/1.1 400 Bad Request\r\n", 26) == 0);
		CHECK(w.closed && !w.broken);
		CHECK_STR(w.reason, "request-cut");
		CHECK_INT(w.status, CCF_CUT);
		CHECK(i == 0 || strstr(trace, "abort;told 400 /x"));
		CHECK(i != 0 || !strncmp(trace, "told 400 0/", 11));
		finish();
	}
	begin(&hand);
	asks(POST5 "1");
	CHECK_INT(exchange_begin(now, 200, NULL, NULL, 1), 0);
	session_http1.end(s);
	CHECK_INT(w.broken, ECONNRESET);
	finish();
}

CASE(the_end_after_a_request_does_not_keep_its_answer)
{
	begin(&hand);
	asks(POST5 "12345");
	session_http1.end(s);
	CHECK(!w.closed);
	answer_ok(now);
	CHECK_STR(hears(), OK "Connection: close\r\n\r\nok");
	CHECK(w.closed);
	CHECK_STR(trace, "begin /x;body 12345;end;hungup;told 200 /x 5/2;");
	finish();

	begin(&hand);
	takes = 2;
	at_hungup = answer_ok;
	asks(POST5 "12345");
	session_http1.end(s); /* all of it is here */
	CHECK_STR(hears(), OK "Connection: close\r\n\r\nok");
	CHECK(w.closed);
	finish();
}

CASE(a_drain_ends_what_is_idle_and_lets_a_request_be_answered)
{
	begin(&hand); /* idle, and what it was answered is still to be read */
	at_end = answer_ok;
	asks(GET);
	session_http1.drain(s);
	CHECK(w.closed && !w.broken);
	CHECK_STR(hears(), OK "\r\nok");
	finish();

	begin(&hand); /* nothing asked yet, then half a head: that one is answered, and the last */
	at_end = answer_ok;
	session_http1.drain(s);
	CHECK(!w.closed);
	asks("GET /x HT");
	session_http1.drain(s);
	CHECK(!w.closed);
	asks("TP/1.1\r\n" HOST "\r\n");
	CHECK_STR(hears(), OK "Connection: close\r\n\r\nok");
	CHECK(w.closed);
	finish();

	begin(&hand); /* under way */
	asks(GET);
	session_http1.drain(s);
	CHECK(!w.closed);
	answer_ok(now);
	CHECK_STR(hears(), OK "Connection: close\r\n\r\nok");
	CHECK(w.closed && !w.broken);
	finish();
}

CASE(a_connection_that_is_over_aborts_what_is_under_way)
{
	begin(&hand);
	asks(POST5 "1");
	finish();
	CHECK_STR(trace, "begin /x;body 1;abort;told 0 /x 1/0 cut;");
	begin(&hand);
	asks("GET / HT");
	finish();
	CHECK_STR(trace, "");
}

/* ---- somebody else's answers, and tunnels ---- */

#define PASSED "HTTP/1.1 200 Fine\r\nContent-Length: 4\r\n\r\n"

CASE(what_is_passed_is_passed_as_it_is)
{
	begin(&hand);
	hand.raw = true;
	asks(GET);
	CHECK_INT(exchange_pass(now, GO, strlen(GO)), 0);
	CHECK_INT(exchange_pass(now, PASSED, strlen(PASSED)), 0);
	exchange_passing(now, 200);
	CHECK(exchange_begun(now));
	CHECK_INT(exchange_pass(now, "body", 4), 0);
	exchange_passed(now, true);
	CHECK_STR(hears(), GO PASSED "body");
	CHECK(!w.closed);
	asks(GET);
	exchange_passing(now, 200);
	exchange_passed(now, false);
	CHECK(w.closed && !w.broken);
	CHECK_STR(trace, "begin /x;end;told 200 /x 0/4;begin /x;end;told 200 /x;");
	finish();

	begin(&hand);
	hand.raw = true;
	asks(GET);
	exchange_passing(now, 200);
	exchange_cut(now);
	CHECK_INT(w.broken, ECONNRESET);
	CHECK_STR(trace, "begin /x;end;told 200 /x cut;");
	finish();
}

#define UPGRADE "GET /ws HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

CASE(after_a_101_all_that_comes_is_the_handlers)
{
	begin(&hand);
	hand.raw = true;
	CHECK_INT(says(UPGRADE "early"), strlen(UPGRADE));
	exchange_passing(now, 101);
	exchange_tunnel(now);
	takes = 3;
	CHECK_INT(says("early"), 3);
	CHECK_INT(says("ly"), 0);
	takes = SIZE_MAX;
	woken = 0;
	exchange_resume(now);
	CHECK(woken > 0);
	asks("ly");
	CHECK_INT(exchange_pass(now, "late", 4), 0);
	CHECK_STR(hears(), "late");
	session_http1.end(s);
	CHECK(!w.closed);
	CHECK_INT(exchange_pass(now, "r", 1), 0);
	exchange_untunnel(now);
	CHECK_STR(hears(), "r");
	CHECK(w.closed && !w.broken);
	CHECK_STR(trace, "begin /ws;end;body ear;body ;body ly;hungup;told 101 /ws 5/5;");
	finish();
}

CASE(a_silent_tunnel_is_cut)
{
	begin(&hand);
	hand.raw = true;
	asks(UPGRADE);
	exchange_passing(now, 101);
	exchange_tunnel(now);
	now_ms += 50000;
	asks("x");
	now_ms += 50000;
	CHECK_INT(exchange_pass(now, "y", 1), 0);
	late_in(60000);
	CHECK_INT(w.broken, ECONNRESET);
	CHECK_STR(w.reason, "idle");
	CHECK_INT(w.status, CCF_DEADLINE);
	CHECK_STR(trace, "begin /ws;end;body x;abort;told 101 /ws 1/1 cut;");
	finish();
}

/* ---- the writer's bounds ---- */

CASE(one_that_is_full_tells_when_there_is_room)
{
	begin(&hand);
	asks(GET);
	CHECK_INT(exchange_begin(now, 200, NULL, NULL, -1), 0);
	while (!exchange_full(now))
		CHECK_INT(exchange_say(now, big, 4000), 0);
	CHECK(w.len < WRITER_HIGH + 5000);
	CHECK_INT(exchange_say(now, big, WRITER_MAX), -ENOBUFS);
	trace[0] = '\0';
	hears();
	session_http1.drained(s);
	CHECK_STR(trace, "drained;");
	exchange_said(now);
	session_http1.drained(s);
	CHECK(!strstr(strstr(trace, "told"), "drained"));
	finish();
}

CASE(an_answer_larger_than_the_writer_goes_out_bit_by_bit)
{
	size_t size = 2 * WRITER_MAX + 12345, got = 0;
	char head[100];

	begin(&hand);
	asks(GET);
	memset(big, 'z', size);
	exchange_answer(now, 200, NULL, NULL, big, size);
	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
	CHECK(!strstr(trace, "told"));
	CHECK(w.len <= WRITER_MAX);
	CHECK_INT(says(GET), 0);
	while (got < size + strlen(head) && !w.closed) {
		bool first = got == 0;

		got += strlen(hears());
		if (first)
			CHECK(strncmp(heard, head, strlen(head)) == 0);
		session_http1.drained(s);
	}
	CHECK_INT(got, size + strlen(head));
	CHECK(strstr(trace, "told 200 /x 0/2109497;"));
	asks(GET);
	finish();
}

static void
answer_large(struct exchange *x)
{
	exchange_answer(x, 200, NULL, NULL, big, 2 * WRITER_MAX);
}

CASE(a_large_answer_that_comes_early_is_the_last_the_handler_hears_of_it)
{
	size_t got = 0;

	memset(big, 'z', 2 * WRITER_MAX);
	begin(&hand);
	at_body = answer_large;
	asks("POST /x HTTP/1.1\r\n" HOST "Content-Length: 300000\r\n\r\n1");
	for (int i = 0; i < 100 && !w.closed && !strstr(trace, "told"); i++) {
		if (!writer_full(&w) && i < 2)
			(void)session_http1.data(s, big, 150000);
		got += strlen(hears());
		session_http1.drained(s);
	}
	CHECK(got + strlen(hears()) > 2 * WRITER_MAX);
	CHECK(w.closed && !w.broken);
	CHECK_STR(trace, "begin /x;body 1;told 200 /x 1/2097152;");
	finish();
	CHECK_STR(trace, "begin /x;body 1;told 200 /x 1/2097152;");
}

CASE(a_large_answer_that_is_cut_is_told_once)
{
	memset(big, 'z', 2 * WRITER_MAX);
	begin(&hand);
	at_body = answer_large;
	asks("POST /x HTTP/1.1\r\n" HOST "Content-Length: 300000\r\n\r\n1");
	session_http1.end(s);
	CHECK_INT(w.broken, ECONNRESET);
	finish();
	CHECK_STR(trace, "begin /x;body 1;told 200 /x 1/2097152 cut;");
}

/* ---- the built-in pages ---- */

static void
set_env(void)
{
	env_free(&env);
	CHECK_INT(env_set(&env, "CCF_INTERFACE", "rpc"), 0);
	CHECK_INT(env_set(&env, "CCF_CONN_ID", "rpc#7"), 0);
	CHECK_INT(env_set(&env, "TCPREMOTEIP", "::1"), 0);
	CHECK_INT(env_set(&env, "TCPREMOTEPORT", "4711"), 0);
	CHECK_INT(env_set(&env, "SSL_PROTOCOL", "TLSv1.3"), 0);
	CHECK_INT(env_set(&env, "SSL_CIPHER", "TLS_AES_128_GCM_SHA256"), 0);
}

#define PAGE                                                                                       \
	"This is ccf-net.\n\ninterface: rpc\nconnection: rpc#7\npeer: [::1]:4711\n"                \
	"TLS: TLSv1.3 TLS_AES_128_GCM_SHA256\nrequests on this connection: "

CASE(the_root_says_where_you_are)
{
	char expected[1000];

	set_env();
	begin(&http1_builtin);
	for (int i = 1; i < 3; i++) {
		asks("GET /?x HTTP/1.1\r\n" HOST "\r\n");
		snprintf(expected, sizeof(expected),
		    "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "
		    "%zu\r\n\r\n" PAGE "%d\n",
		    strlen(PAGE) + 2, i);
		CHECK_STR(hears(), expected);
	}
	asks("HEAD / HTTP/1.1\r\n" HOST "\r\n");
	*(strstr(expected, "\r\n\r\n") + 4) = '\0';
	CHECK_STR(hears(), expected);
	finish();
	env_free(&env);
}

CASE(the_echo_says_a_body_back)
{
	begin(&http1_builtin);
	asks("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n12");
	asks("345");
	CHECK_STR(hears(), "HTTP/1.1 200 OK\r\nContent-Type: "
			   "application/octet-stream\r\nContent-Length: 5\r\n\r\n12345");
	asks("PUT /echo HTTP/1.1\r\n" HOST
	     "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n");
	CHECK_STR(hears(), "HTTP/1.1 200 OK\r\nContent-Type: "
			   "application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
			   "5\r\n12345\r\n0\r\n\r\n");
	asks("POST /echo HTTP/1.1\r\n" HOST "\r\n");
	CHECK_STR(hears(), "HTTP/1.1 200 OK\r\nContent-Type: "
			   "application/octet-stream\r\nContent-Length: 0\r\n\r\n");
	finish();
}

CASE(a_long_echo_waits_for_who_reads_it)
{
	size_t size = 1000000, sent = 0, got = 0, most = 0;

	begin(&http1_builtin);
	for (size_t i = 0; i < size; i++)
		big[i] = (char)('a' + i % 23);
	asks("POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000000\r\n\r\n");
	for (int i = 0; i < 1000 && got < size; i++) {
		size_t n = size - sent < 128 * 1024 ? size - sent : 128 * 1024;

		if (n > 0 && !writer_full(&w))
			sent += (size_t)session_http1.data(s, big + sent, n);
		most = w.len > most ? w.len : most;
		if (got == 0) { /* the head, too */
			writer_take(&w, heard, 0);
			hears();
			n = strlen(strstr(heard, "\r\n\r\n") + 4);
			CHECK(memcmp(strstr(heard, "\r\n\r\n") + 4, big, n) == 0);
		} else {
			n = writer_take(&w, heard, 5000);
			CHECK(memcmp(heard, big + got, n) == 0);
			if (writer_drained(&w, SIZE_MAX))
				session_http1.drained(s);
		}
		got += n;
	}
	CHECK_INT(got, size);
	CHECK(most < WRITER_HIGH + HTTP1_PACE + 200);
	CHECK(strstr(trace, "told 200 /echo 1000000/1000000;"));
	finish();
}

static void
builtin_refuses(
    const char *request, unsigned status, const char *code, const char *text, const char *fields)
{
	char expected[1000], *close;

	begin(&http1_builtin);
	refusal(expected, sizeof(expected), status, code, text, fields);
	close = strstr(expected, "Connection: close\r\n");
	memmove(close, close + 19, strlen(close + 19) + 1);
	asks(request);
	CHECK_STR(hears(), expected);
	finish();
}

CASE(a_body_for_the_root_is_counted)
{
	begin(&http1_builtin);
	asks("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n12345");
	CHECK(strstr(hears(), "\r\n\r\n5 bytes\n"));
	asks("PUT / HTTP/1.1\r\n" HOST
	     "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n");
	CHECK(strstr(hears(), "\r\n\r\n3 bytes\n"));
	finish();
}

CASE(other_paths_and_methods_are_told_what_there_is)
{
	builtin_refuses("GET /b\"\\ HTTP/1.1\r\n" HOST "\r\n", 404, "ResourceNotFound",
	    "Unknown path: /b\\\"\\\\ (there are GET / and POST /echo)", "");
	builtin_refuses("DELETE / HTTP/1.1\r\n" HOST "\r\n", 405, "UnsupportedHttpVerb",
	    "Allowed methods for '/' are: GET, HEAD, POST, PUT, OPTIONS.",
	    "Allow: GET, HEAD, POST, PUT, OPTIONS\r\n");
	builtin_refuses("GET /echo HTTP/1.1\r\n" HOST "\r\n", 405, "UnsupportedHttpVerb",
	    "Allowed methods for '/echo' are: POST, PUT, OPTIONS.",
	    "Allow: POST, PUT, OPTIONS\r\n");
	begin(&http1_builtin);
	asks("OPTIONS * HTTP/1.1\r\n" HOST "\r\nOPTIONS /echo HTTP/1.1\r\n" HOST "\r\n");
	CHECK_STR(hears(), "HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, POST, PUT, OPTIONS\r\n\r\n"
			   "HTTP/1.1 204 No Content\r\nAllow: POST, PUT, OPTIONS\r\n\r\n");
	finish();
}

/* ---- texts ---- */

CASE(errors_are_json_however_short_the_room)
{
	char json[64];

	http1_error_json(json, sizeof(json), "Code", "a \"quoted\" text that is longer than that");
	CHECK_STR(
	    json, "{\"error\":{\"code\":\"Code\",\"message\":\"a \\\"quoted\\\" text that is\"}}");
}

CASE(the_answer_above_the_cap_is_a_whole_one)
{
	char text[1000];
	size_t n = http1_capped(text, sizeof(text), 7);

	CHECK_INT(n, strlen(text));
	CHECK_STR(text,
	    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: "
	    "7\r\n"
	    "Content-Length: 114\r\nConnection: close\r\n\r\n"
	    "{\"error\":{\"code\":\"SessionCapExhausted\",\"message\":\"" HTTP1_CAPPED_TEXT "\"}}");
}

/* ---- whatever the pieces ---- */

static const char series[] = "GET / HTTP/1.1\r\n" HOST "\r\n"
			     "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 10\r\n\r\n0123456789"
			     "\r\nHEAD / HTTP/1.1\r\n" HOST "\r\n"
			     "DELETE / HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc"
			     "GET / HTTP/1.1\r\n" HOST "\r\n";

/* In pieces that end at a, b and where the series does. */
static void
in_pieces(size_t a, size_t b, char *to)
{
	size_t ends[] = { a, b, sizeof(series) - 1 }, at = 0;

	begin(&http1_builtin);
	to[0] = '\0';
	for (int i = 0; i < 3; i++) {
		while (at < ends[i] && !w.closed)
			at += (size_t)session_http1.data(s, series + at, ends[i] - at);
		strcat(to, hears());
	}
	finish();
}

CASE(every_split_of_a_series_gets_the_same_answers)
{
	static char whole[10000], split[10000], traced[sizeof(trace)];
	size_t len = sizeof(series) - 1;

	in_pieces(0, 0, whole);
	strcpy(traced, trace);
	CHECK(strstr(whole, "0123456789HTTP/1.1 200 OK"));
	CHECK(strstr(whole, "405"));
	for (size_t a = 0; a <= len; a++) {
		for (size_t b = a; b <= len; b += a % 7 + 1) {
			in_pieces(a, b, split);
			if (strcmp(split, whole) != 0 || strcmp(trace, traced) != 0) {
				printf("# split at %zu and %zu:\n%s\n", a, b, split);
				CHECK(false);
				return;
			}
		}
	}
	begin(&http1_builtin);
	split[0] = '\0';
	for (size_t i = 0; i < len && !w.closed; i++) {
		CHECK_INT(session_http1.data(s, series + i, 1), 1);
		strcat(split, hears());
	}
	CHECK_STR(split, whole);
	finish();
}

/* ---- no memory ---- */

CASE(without_memory_it_is_not_opened_or_cut_and_never_more_than_that)
{
	struct session *t = NULL;
	int opened = 0, whole = 0;

#ifdef SANITIZED
	SKIP("the allocator is the sanitizer's");
#endif
	for (long k = 0; k < 40; k++) {
		w = (struct writer){ .woken = wake };
		begin(&hand);
		finish();
		trace[0] = '\0';
		takes = 2;
		until_none = k;
		if (session_http1.open(&t, &w, &env, &setup) == -ENOMEM) {
			until_none = -1;
			CHECK(t == NULL);
			continue;
		}
		s = t;
		t = NULL;
		opened++;
		(void)session_http1.data(s, POST5 "12345", strlen(POST5 "12345"));
		takes = SIZE_MAX;
		if (!w.closed) {
			exchange_resume(now);
			exchange_answer(now, 200, NULL, NULL, big, 100000);
		}
		until_none = -1;
		if (!w.closed) {
			whole++;
			CHECK(strstr(trace, "told 200 /x 5/100000;"));
		} else
			CHECK(w.broken || strstr(trace, "told 500") || strstr(trace, "told 0"));
		finish();
	}
	CHECK(opened > 30 && whole > 20 && whole < opened);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(requests_are_answered_one_after_the_other_until_close),
	    RUN(http_1_0_closes_unless_it_asks_to_be_kept),
	    RUN(head_204_and_304_have_no_body),
	    RUN(an_answer_of_unknown_length_is_chunked_and_for_http_1_0_lasts_until_the_end),
	    RUN(an_answer_is_as_long_as_it_said_or_is_cut),
	    RUN(what_follows_waits_until_the_answer_is_whole),
	    RUN(pipelined_requests_wait_while_what_was_answered_is_not_read),
	    RUN(a_body_comes_decoded_and_ends),
	    RUN(a_raw_handler_gets_what_follows_the_head_as_it_came),
	    RUN(what_a_handler_does_not_take_is_given_again_and_nothing_more),
	    RUN(a_handler_that_takes_nothing_holds_a_piece_and_the_rest_is_not_taken),
	    RUN(a_handler_may_answer_while_it_is_given_what_was_held),
	    RUN(a_handler_may_ask_for_more_while_it_is_given_some),
	    RUN(who_waits_for_100_continue_gets_it_once),
	    RUN(a_raw_handler_says_100_continue_itself_or_passes_it_on),
	    RUN(an_early_answer_to_one_who_waits_for_100_continue_closes),
	    RUN(after_an_early_answer_a_small_rest_is_read_and_dropped),
	    RUN(after_an_early_answer_in_body_the_handler_gets_no_more),
	    RUN(after_an_early_answer_a_large_rest_closes),
	    RUN(after_an_early_answer_chunks_are_dropped_up_to_a_bound),
	    RUN(what_is_dropped_must_be_well_formed_too),
	    RUN(a_refusal_says_why_and_closes_if_the_request_is_not_whole),
	    RUN(a_refusal_after_the_answer_has_begun_cuts_it),
	    RUN(what_is_malformed_or_too_large_is_refused_and_closed),
	    RUN(what_is_exactly_at_the_limit_passes),
	    RUN(a_body_that_turns_out_too_large_aborts_and_is_refused_unless_the_answer_has_begun),
	    RUN(a_head_must_come_in_time_from_its_first_byte),
	    RUN(a_client_that_never_asks_is_closed_without_a_word),
	    RUN(a_body_must_come_at_a_pace),
	    RUN(time_in_which_the_handler_takes_nothing_is_not_the_clients),
	    RUN(silence_between_two_requests_closes),
	    RUN(without_limits_it_waits_for_ever),
	    RUN(the_end_between_two_requests_is_a_clean_one),
	    RUN(the_end_in_a_request_cuts_it_and_says_so),
	    RUN(the_end_after_a_request_does_not_keep_its_answer),
	    RUN(a_drain_ends_what_is_idle_and_lets_a_request_be_answered),
	    RUN(a_connection_that_is_over_aborts_what_is_under_way),
	    RUN(what_is_passed_is_passed_as_it_is),
	    RUN(after_a_101_all_that_comes_is_the_handlers),
	    RUN(a_silent_tunnel_is_cut),
	    RUN(one_that_is_full_tells_when_there_is_room),
	    RUN(an_answer_larger_than_the_writer_goes_out_bit_by_bit),
	    RUN(a_large_answer_that_comes_early_is_the_last_the_handler_hears_of_it),
	    RUN(a_large_answer_that_is_cut_is_told_once),
	    RUN(the_root_says_where_you_are),
	    RUN(the_echo_says_a_body_back),
	    RUN(a_long_echo_waits_for_who_reads_it),
	    RUN(a_body_for_the_root_is_counted),
	    RUN(other_paths_and_methods_are_told_what_there_is),
	    RUN(errors_are_json_however_short_the_room),
	    RUN(the_answer_above_the_cap_is_a_whole_one),
	    RUN(every_split_of_a_series_gets_the_same_answers),
	    RUN(without_memory_it_is_not_opened_or_cut_and_never_more_than_that),
	    { 0 },
	});
}
