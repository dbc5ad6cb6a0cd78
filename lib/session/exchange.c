/* What goes out.  A head is put together in one piece with as much of the body as fits, so that a
 * small answer is one write. */
#include "session/exchange.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session/http1_parts.h"
#include "session/writer.h"

#define SPARE 64 /* bytes that the writer always has for the end of a body */

/* ---- pieces ---- */

struct piece {
	struct writer *writer;
	size_t len;
	int rc;
	char bytes[2048];
};

static void
piece_open(struct piece *p, struct writer *writer)
{
	p->writer = writer;
	p->len = 0;
	p->rc = 0;
}

static void
piece_out(struct piece *p)
{
	if (p->rc == 0 && p->len > 0)
		p->rc = writer_put(p->writer, p->bytes, p->len);
	p->len = 0;
}

static void
piece_add(struct piece *p, const void *bytes, size_t len)
{
	if (len > sizeof(p->bytes) - p->len)
		piece_out(p);
	if (len > sizeof(p->bytes)) {
		if (p->rc == 0)
			p->rc = writer_put(p->writer, bytes, len);
		return;
	}
	if (len > 0)
		memcpy(p->bytes + p->len, bytes, len);
	p->len += len;
}

static void
piece_text(struct piece *p, const char *text)
{
	piece_add(p, text, strlen(text));
}

static void
piece_number(struct piece *p, uint64_t n, unsigned base)
{
	char digits[24], *at = digits + sizeof(digits);

	do
		*--at = "0123456789abcdef"[n % base];
	while ((n /= base) > 0);
	piece_add(p, at, (size_t)(digits + sizeof(digits) - at));
}

/* ---- heads ---- */

static void
piece_framing(struct piece *p, struct exchange *x, int64_t length)
{
	x->left = length;
	x->bodiless = x->head || x->status < 200 || x->status == 204 || x->status == 304;
	if (x->status < 200 || x->status == 204 || x->status == 304)
		return;
	if (length >= 0) {
		piece_text(p, "Content-Length: ");
		piece_number(p, (uint64_t)length, 10);
		piece_text(p, "\r\n");
	} else if (http1_head(session_of(x)->parser)->minor >= 1) {
		piece_text(p, "Transfer-Encoding: chunked\r\n");
		x->chunked = !x->bodiless;
	} else if (!x->bodiless) /* its end is that of the connection */
		x->keep = false;
}

static void
piece_connection(struct piece *p, const struct exchange *x)
{
	const struct http1_head *head = http1_head(session_of(x)->parser);

	if (!x->keep)
		piece_text(p, "Connection: close\r\n");
	else if (head && head->minor == 0)
		piece_text(p, "Connection: keep-alive\r\n");
}

static void
piece_head(struct piece *p, struct exchange *x, const char *reason, const char *type,
    const char *fields, int64_t length)
{
	piece_text(p, "HTTP/1.1 ");
	piece_number(p, x->status, 10);
	piece_text(p, " ");
	piece_text(p, reason ? reason : http1_reason(x->status));
	piece_text(p, "\r\n");
	piece_text(p, http1_date());
	if (type) {
		piece_text(p, "Content-Type: ");
		piece_text(p, type);
		piece_text(p, "\r\n");
	}
	if (fields)
		piece_text(p, fields);
	piece_framing(p, x, length);
	piece_connection(p, x);
	piece_text(p, "\r\n");
}

/* ---- whole answers ---- */

/* Of an answer that is larger than what the writer takes at once. */
int
answer_go_on(struct exchange *x)
{
	struct session *s = session_of(x);
	int rc;

	while (x->rest_len > 0 && !writer_full(s->writer)) {
		size_t n = x->rest_len < WRITER_HIGH ? x->rest_len : WRITER_HIGH;

		rc = writer_put(s->writer, x->rest + x->rest_at, n);
		if (rc < 0)
			return rc;
		x->rest_at += n;
		x->rest_len -= n;
	}
	if (x->rest_len > 0)
		return 0;
	free(x->rest);
	x->rest = NULL;
	x->rest_at = 0;
	session_answered(s);
	return 0;
}

static int
answer_keep(struct exchange *x, const void *body, size_t len)
{
	x->rest = malloc(len);
	if (!x->rest)
		return -ENOMEM;
	memcpy(x->rest, body, len);
	x->rest_len = len;
	x->answering = true;
	return 0;
}

int
answer_whole(struct exchange *x, unsigned status, const char *type, const char *fields,
    const void *body, size_t len)
{
	struct session *s = session_of(x);
	struct piece p;
	bool large = len + s->writer->len > WRITER_MAX - WRITER_HIGH; /* a head fits in any case */

	x->answer = ANSWER_BEGUN;
	x->status = status;
	piece_open(&p, s->writer);
	piece_head(&p, x, NULL, type, fields, (int64_t)len);
	if (!x->bodiless)
		x->out = len;
	if (!x->bodiless && !large)
		piece_add(&p, body, len);
	piece_out(&p);
	if (p.rc == 0 && large && !x->bodiless)
		p.rc = answer_keep(x, body, len);
	return p.rc;
}

int
answer_error(
    struct exchange *x, unsigned status, const char *code, const char *fields, const char *text)
{
	char json[2048];

	http1_error_json(json, sizeof(json), code, text);
	return answer_whole(x, status, "application/json", fields, json, strlen(json));
}

static void
answer_given(struct exchange *x, int rc)
{
	if (rc == 0 && x->answering)
		rc = answer_go_on(x);
	else if (rc == 0)
		session_answered(session_of(x));
	if (rc < 0)
		session_broken(session_of(x), rc == -ENOMEM ? ENOMEM : ECONNRESET);
}

/* Can a whole answer still be given?  Where one has begun, that is cut. */
static bool
answer_free(struct exchange *x)
{
	if (session_live(session_of(x)) && x->answer == ANSWER_NONE)
		return true;
	exchange_cut(x);
	return false;
}

void
exchange_answer(struct exchange *x, unsigned status, const char *type, const char *fields,
    const void *body, size_t len)
{
	if (!answer_free(x))
		return;
	x->keep = x->keep && session_droppable(session_of(x));
	answer_given(x, answer_whole(x, status, type, fields, body, len));
}

void
exchange_refuse(
    struct exchange *x, unsigned status, const char *code, const char *fields, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!answer_free(x))
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	x->keep = x->keep && exchange_whole(x) && !session_of(x)->cfg->handler->raw;
	answer_given(x, answer_error(x, status, code, fields, text));
}

/* ---- one piece after the other ---- */

int
exchange_begin(
    struct exchange *x, unsigned status, const char *reason, const char *fields, int64_t length)
{
	struct session *s = session_of(x);
	struct piece p;

	if (!session_live(s) || x->answer != ANSWER_NONE)
		return -EPIPE;
	x->answer = ANSWER_BEGUN;
	x->status = status;
	piece_open(&p, s->writer);
	piece_head(&p, x, reason, NULL, fields, length);
	piece_out(&p);
	if (p.rc < 0)
		session_broken(s, p.rc == -ENOMEM ? ENOMEM : ECONNRESET);
	return p.rc;
}

int
exchange_say(struct exchange *x, const void *bytes, size_t len)
{
	struct session *s = session_of(x);
	struct piece p;
	size_t before = s->writer->len;

	if (!session_live(s) || x->answer != ANSWER_BEGUN)
		return -EPIPE;
	if (x->left >= 0 && len > (uint64_t)x->left)
		return -EMSGSIZE;
	if (!x->bodiless && before + len > WRITER_MAX - SPARE) {
		s->writer->stuffed = true;
		return -ENOBUFS;
	}
	if (x->left > 0)
		x->left -= (int64_t)len;
	if (x->bodiless || len == 0)
		return 0;
	piece_open(&p, s->writer);
	if (x->chunked) {
		piece_number(&p, len, 16);
		piece_text(&p, "\r\n");
	}
	piece_add(&p, bytes, len);
	if (x->chunked)
		piece_text(&p, "\r\n");
	piece_out(&p);
	x->out += s->writer->len - before;
	if (p.rc < 0)
		session_broken(s, -p.rc);
	session_clock(s);
	return p.rc;
}

void
exchange_said(struct exchange *x)
{
	struct session *s = session_of(x);
	int rc = 0;

	if (!session_live(s) || x->answer != ANSWER_BEGUN)
		return;
	if (!x->bodiless && x->left > 0)
		rc = -ECONNRESET;
	else if (x->chunked) {
		rc = writer_put(s->writer, "0\r\n\r\n", 5);
		x->out += 5;
	}
	if (rc < 0)
		session_broken(s, -rc);
	else
		session_answered(s);
}

void
exchange_cut(struct exchange *x)
{
	if (session_live(session_of(x)))
		session_broken(session_of(x), ECONNRESET);
}

/* ---- somebody else's ---- */

int
exchange_pass(struct exchange *x, const void *bytes, size_t len)
{
	struct session *s = session_of(x);
	int rc = session_live(s) ? writer_put(s->writer, bytes, len) : -EPIPE;

	if (rc < 0)
		return rc;
	if (x->passing)
		x->out += len;
	session_tunnelled(s);
	session_clock(s);
	return 0;
}

void
exchange_passing(struct exchange *x, unsigned status)
{
	if (!session_live(session_of(x)) || x->answer != ANSWER_NONE)
		return;
	x->answer = ANSWER_BEGUN;
	x->status = status;
	x->passing = true;
}

void
exchange_passed(struct exchange *x, bool keep)
{
	if (!session_live(session_of(x)) || x->answer != ANSWER_BEGUN)
		return;
	x->keep = x->keep && keep;
	session_answered(session_of(x));
}

void
exchange_tunnel(struct exchange *x)
{
	struct session *s = session_of(x);

	if (s->state != SESSION_ANSWERING || x->answer != ANSWER_BEGUN) {
		exchange_cut(x);
		return;
	}
	session_tick(s);
	session_enter(s, SESSION_TUNNEL);
	session_go(s);
}

void
exchange_untunnel(struct exchange *x)
{
	struct session *s = session_of(x);

	if (s->state != SESSION_TUNNEL || !session_live(s))
		return;
	x->keep = false;
	session_answered(s);
}

/* ---- what it is like ---- */

bool
exchange_full(const struct exchange *x)
{
	return writer_full(session_of(x)->writer);
}

void
exchange_resume(struct exchange *x)
{
	struct session *s = session_of(x);

	s->resumed = true;
	session_go(s);
}

void
exchange_continue(struct exchange *x)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct session *s = session_of(x);

	if (!session_live(s) || x->answer != ANSWER_NONE || x->whole || x->begun || x->continued ||
	    !http1_head(s->parser)->expects)
		return;
	if (writer_put(s->writer, text, sizeof(text) - 1) == 0)
		x->continued = true;
}

bool
exchange_begun(const struct exchange *x)
{
	return x->answer != ANSWER_NONE;
}

bool
exchange_last(const struct exchange *x)
{
	return !x->keep;
}

bool
exchange_whole(const struct exchange *x)
{
	const struct session *s = session_of(x);

	return x->whole && s->kept_len == 0 && !s->handing;
}

const struct http1_head *
exchange_request(const struct exchange *x)
{
	return http1_head(session_of(x)->parser);
}

const struct env *
exchange_env(const struct exchange *x)
{
	return session_of(x)->env;
}

void *
exchange_arg(const struct exchange *x)
{
	return session_of(x)->arg;
}
