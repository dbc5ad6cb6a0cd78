/* What comes in.  The parser is fed as far as the exchange can take it and not beyond: what follows
 * a request stays in the connection until its answer is whole. */
#include "session/http1.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/exit.h"
#include "session/exchange.h"
#include "session/http1_parts.h"
#include "session/writer.h"

#define BIT(state) (1u << (state))

struct session *
session_of(const struct exchange *x)
{
	return (struct session *)(uintptr_t)((const char *)x - offsetof(struct session, x));
}

void
session_tick(struct session *s)
{
	s->us = clock_us();
}

/* ---- states and deadlines ---- */

static int64_t
session_patience(const struct session *s, enum session_state state)
{
	switch (state) {
	case SESSION_IDLE:
	case SESSION_TUNNEL:
		return s->cfg->idle;
	case SESSION_HEAD:
	case SESSION_BODY:
	case SESSION_DROPPING:
		return s->cfg->request_timeout;
	default:
		return -1;
	}
}

static void
session_wind(struct session *s)
{
	s->deadline = clock_after(s->us / 1000, session_patience(s, s->state));
	s->owed = -1;
	s->paced = 0;
}

void
session_enter(struct session *s, enum session_state to)
{
	static const uint8_t next[SESSION_STATES] = {
		[SESSION_IDLE] = BIT(SESSION_HEAD) | BIT(SESSION_OVER),
		[SESSION_HEAD] = BIT(SESSION_BODY) | BIT(SESSION_OVER),
		[SESSION_BODY] = BIT(SESSION_ANSWERING) | BIT(SESSION_DROPPING) | BIT(SESSION_OVER),
		[SESSION_ANSWERING] = BIT(SESSION_IDLE) | BIT(SESSION_TUNNEL) | BIT(SESSION_OVER),
		[SESSION_DROPPING] = BIT(SESSION_IDLE) | BIT(SESSION_OVER),
		[SESSION_TUNNEL] = BIT(SESSION_OVER),
	};

	if (!(next[s->state] & BIT(to)))
		abort();
	s->state = to;
	if (to != SESSION_HEAD ||
	    s->requests > 0) /* the first one has had its time from the start */
		session_wind(s);
}

void
session_clock(struct session *s)
{
	bool ours = s->kept_len > 0 || writer_full(s->writer);

	if (s->state != SESSION_HEAD && s->state != SESSION_BODY && s->state != SESSION_DROPPING)
		return;
	if (ours && s->owed < 0 && s->deadline != CLOCK_NEVER) {
		session_tick(s);
		s->owed = s->deadline - s->us / 1000;
		if (s->owed < 0)
			s->owed = 0;
		s->deadline = CLOCK_NEVER;
	} else if (!ours && s->owed >= 0) {
		session_tick(s);
		s->deadline = clock_after(s->us / 1000, s->owed);
		s->owed = -1;
	}
}

static void
session_pace(struct session *s, uint64_t n)
{
	s->paced += n;
	if (s->paced >= HTTP1_PACE)
		session_wind(s);
}

void
session_tunnelled(struct session *s)
{
	if (s->state != SESSION_TUNNEL)
		return;
	session_tick(s);
	session_wind(s);
}

bool
session_live(const struct session *s)
{
	return (s->state == SESSION_BODY || s->state == SESSION_ANSWERING ||
		   s->state == SESSION_TUNNEL) &&
	       s->x.answer != ANSWER_WHOLE && !s->x.answering;
}

/* ---- the end ---- */

void
session_told(struct session *s, const struct http1_fault *fault, bool cut)
{
	struct http1_record r = { .head = http1_head(s->parser),
		.fault = fault,
		.status = s->x.status,
		.in = s->x.in,
		.out = s->x.out,
		.us = s->us - s->began,
		.cut = cut };

	if (s->cfg->told)
		s->cfg->told(s->arg, &r);
}

/* Not while the handler looks at it. */
static void
session_unkeep(struct session *s)
{
	if (s->handing)
		return;
	free(s->kept);
	s->kept = NULL;
	s->kept_at = s->kept_len = 0;
}

static void
session_over(struct session *s)
{
	session_unkeep(s);
	free(s->x.rest);
	s->x.rest = NULL;
	s->x.answering = false;
	session_enter(s, SESSION_OVER);
}

static void
session_close(struct session *s, const char *reason, int status)
{
	if (reason)
		writer_say_why(s->writer, reason, status);
	session_over(s);
	writer_close(s->writer);
}

void
session_broken(struct session *s, int error)
{
	session_tick(s);
	session_told(s, NULL, true);
	if (error == ENOMEM)
		writer_say_why(s->writer, "no-memory", CCF_SYSTEM);
	session_over(s);
	writer_break(s->writer, error);
}

/* From now on nothing that the handler says is heard. */
static void
session_abort(struct session *s)
{
	enum answer answer = s->x.answer;

	if (!session_live(s))
		return;
	s->x.answer = ANSWER_WHOLE;
	s->cfg->handler->abort(&s->x);
	s->x.answer = answer;
}

struct refusal {
	unsigned status;
	const char *code, *text;
	const char *reason; /* and what it is to who counts and to the shell */
	int exit;
	const struct http1_fault *fault;
};

/* The request goes no further.  If its answer has begun, nothing sensible can be said any more. */
static void
session_refuse(struct session *s, const struct refusal *why)
{
	const struct http1_head *head = http1_head(s->parser);
	struct exchange *x = &s->x;
	enum answer was;

	session_tick(s);
	if (s->state == SESSION_HEAD)
		*x = (struct exchange){ .left = -1, .head = head && http1_is_head(head) };
	was = x->answer;
	session_abort(s);
	if (was != ANSWER_WHOLE || !why->fault) /* one that was told already is not counted again */
		writer_say_why(s->writer, why->reason, why->exit);
	if (was == ANSWER_NONE) {
		x->keep = false;
		if (answer_error(x, why->status, why->code, NULL, why->text) < 0)
			x->status = 0;
	}
	if (was != ANSWER_WHOLE)
		session_told(s, why->fault, was == ANSWER_BEGUN || x->status == 0);
	if (was == ANSWER_BEGUN) {
		session_over(s);
		writer_break(s->writer, ECONNRESET);
	} else
		session_close(s, NULL, 0);
}

static void
session_fault(struct session *s)
{
	static const char *const reason[] = {
		[HTTP1_PARSING] = "parsing",
		[HTTP1_PAYLOAD] = "request-payload-too-large",
		[HTTP1_HEADERS] = "request-header-too-large",
	};
	const struct http1_fault *f = http1_fault(s->parser);
	struct refusal why = { .status = (unsigned)f->status,
		.code = f->code,
		.text = f->text,
		.reason = reason[f->class],
		.exit = CCF_PROTOCOL,
		.fault = f };

	if (f->status >= 500 && f->status != 501 && f->status != 505) { /* no memory */
		why.reason = "no-memory";
		why.exit = CCF_SYSTEM;
		why.fault = NULL;
	}
	session_refuse(s, &why);
}

/* ---- what comes ---- */

static void
session_begin(struct session *s)
{
	const struct http1_head *head = http1_head(s->parser);
	struct exchange *x = &s->x;

	*x = (struct exchange){ .left = -1, .keep = head->keep_alive && !s->ended && !s->draining };
	x->head = http1_is_head(head);
	x->whole =
	    head->framing == HTTP1_NO_BODY || (head->framing == HTTP1_LENGTH && head->length == 0);
	session_enter(s, SESSION_BODY);
	s->requests++;
	s->cfg->handler->begin(x, head);
}

/* The handler takes what it can now. */
static size_t
session_hand(struct session *s, const char *bytes, size_t len)
{
	size_t taken = 0;
	ssize_t n;

	s->handing = true;
	do {
		s->resumed = false;
		n = s->cfg->handler->body(&s->x, bytes + taken, len - taken);
		taken += n > 0 ? (size_t)n : 0;
	} while (taken < len && s->resumed && session_live(s));
	s->handing = false;
	return taken;
}

static void
session_hand_kept(struct session *s)
{
	size_t n;

	if (!session_live(s) || s->kept_len == 0 || !s->resumed)
		return;
	n = session_hand(s, s->kept + s->kept_at, s->kept_len);
	s->kept_at += n;
	s->kept_len -= n;
	if (s->kept_len == 0 || s->state != SESSION_BODY)
		session_unkeep(s);
}

/* A piece of what follows the head, for the handler. */
static void
session_give(struct session *s, const char *bytes, size_t len)
{
	const struct http1_head *head = http1_head(s->parser);
	struct exchange *x = &s->x;
	size_t n;

	x->in += len;
	if (head->framing == HTTP1_LENGTH && x->in == head->length)
		x->whole = true;
	session_pace(s, len);
	n = session_hand(s, bytes, len);
	if (n >= len || s->state != SESSION_BODY)
		return;
	s->kept = malloc(len - n);
	if (!s->kept) {
		session_abort(s);
		session_broken(s, ENOMEM);
		return;
	}
	memcpy(s->kept, bytes + n, len - n);
	s->kept_at = 0;
	s->kept_len = len - n;
}

static void
session_drop(struct session *s, size_t len)
{
	s->x.dropped += len;
	session_pace(s, len);
	if (s->x.dropped > HTTP1_LINGER && !s->x.answering)
		session_close(s, NULL, 0);
}

static void
session_next(struct session *s)
{
	s->x.done = false;
	session_unkeep(s);
	http1_next(s->parser);
	session_enter(s, SESSION_IDLE);
}

/* The request is read to its end, and taken. */
static void
session_whole(struct session *s)
{
	if (s->state == SESSION_DROPPING)
		session_next(s);
	else if (s->state == SESSION_BODY && s->kept_len == 0) {
		session_enter(s, SESSION_ANSWERING);
		if (!s->x.answering)
			s->cfg->handler->end(&s->x);
	}
}

/* Each of these reads as far as it can now, and says how many bytes that took and whether there may
 * be more to read. */
static size_t
read_head(struct session *s, const char *bytes, size_t len, bool *more)
{
	struct http1_event ev;
	size_t n;

	*more = false;
	if (len == 0)
		return 0;
	n = http1_feed(s->parser, bytes, len, &ev);
	if (s->state == SESSION_IDLE && (ev.what != HTTP1_MORE || http1_begun(s->parser))) {
		s->began = s->us;
		session_enter(s, SESSION_HEAD);
	}
	if (ev.what == HTTP1_HEAD) {
		session_begin(s);
		*more = true;
	} else if (ev.what == HTTP1_BAD)
		session_fault(s);
	return n;
}

/* So much of the body at once is read, as the handler may not take it. */
#define WINDOW HTTP1_PACE

static size_t
read_body(struct session *s, const char *bytes, size_t len, bool *more)
{
	bool raw = s->cfg->handler->raw;
	size_t n = 0, window = len < WINDOW ? len : WINDOW, piece;
	struct http1_event ev;

	do
		n += http1_feed(s->parser, bytes + n, window - n, &ev);
	while (raw && ev.what == HTTP1_BODY);
	*more = ev.what != HTTP1_MORE || n < len;
	s->x.begun |= n > 0;
	piece = raw ? n : ev.what == HTTP1_BODY ? ev.len : 0;
	if (ev.what == HTTP1_DONE)
		s->x.whole = true;
	if (ev.what == HTTP1_BAD)
		session_fault(s);
	else if (s->state == SESSION_DROPPING || s->x.answering)
		session_drop(s, n);
	else if (piece > 0)
		session_give(s, raw ? bytes : ev.body, piece);
	else if (ev.what == HTTP1_MORE && !raw && !s->x.begun)
		exchange_continue(&s->x);
	if (ev.what == HTTP1_DONE) {
		s->x.done = true;
		session_whole(s);
	}
	return n;
}

static size_t
read_tunnel(struct session *s, const char *bytes, size_t len, bool *more)
{
	size_t n = len > 0 ? session_hand(s, bytes, len) : 0;

	s->x.in += n;
	if (n > 0)
		session_tunnelled(s);
	*more = false;
	return n;
}

static size_t
session_read(struct session *s, const char *bytes, size_t len)
{
	size_t used = 0;
	bool more = true;

	s->reading = true;
	session_hand_kept(s);
	if (s->x.done)
		session_whole(s);
	while (more && !(writer_full(s->writer) && used < len)) {
		const char *at = bytes + used;
		size_t left = len - used;

		switch (s->state) {
		case SESSION_IDLE:
		case SESSION_HEAD:
			used += read_head(s, at, left, &more);
			break;
		case SESSION_BODY:
		case SESSION_DROPPING:
			if (s->kept_len > 0)
				more = false;
			else
				used += read_body(s, at, left, &more);
			break;
		case SESSION_TUNNEL:
			used += read_tunnel(s, at, left, &more);
			break;
		default:
			more = false;
		}
	}
	s->reading = false;
	session_clock(s);
	return s->state == SESSION_OVER ? len : used;
}

void
session_go(struct session *s)
{
	if (s->reading)
		return;
	(void)session_read(s, "", 0);
	writer_wake(s->writer);
}

/* Who waits for 100 Continue may never send it. */
bool
session_droppable(const struct session *s)
{
	const struct http1_head *head = http1_head(s->parser);
	const struct exchange *x = &s->x;

	if (x->whole)
		return true;
	if (head->expects && !x->continued && !x->begun)
		return false;
	return head->framing != HTTP1_LENGTH || head->length - x->in <= HTTP1_LINGER;
}

void
session_answered(struct session *s)
{
	struct exchange *x = &s->x;

	session_tick(s);
	x->answer = ANSWER_WHOLE;
	x->answering = false;
	session_told(s, NULL, false);
	if (!x->keep || !session_droppable(s))
		session_close(s, NULL, 0);
	else if (s->state == SESSION_ANSWERING)
		session_next(s);
	else {
		session_unkeep(s);
		session_enter(s, SESSION_DROPPING);
	}
	session_go(s);
}

/* ---- session_ops ---- */

static int
http1_open(struct session **ret, struct writer *writer, const struct env *env, void *arg)
{
	const struct http1_setup *setup = arg;
	struct session *s = calloc(1, sizeof(*s));
	int rc = s ? http1_new(&s->parser, HTTP1_REQUEST, &setup->cfg->limits) : -ENOMEM;

	if (rc < 0) {
		free(s);
		return rc;
	}
	s->writer = writer;
	s->env = env;
	s->cfg = setup->cfg;
	s->arg = setup->arg;
	session_tick(s);
	s->deadline = clock_after(s->us / 1000, s->cfg->request_timeout);
	s->owed = -1;
	*ret = s;
	return 0;
}

static ssize_t
http1_data(struct session *s, const char *bytes, size_t len)
{
	session_tick(s);
	return (ssize_t)session_read(s, bytes, len);
}

static void
http1_drained(struct session *s)
{
	int rc;

	if (s->x.answering) {
		rc = answer_go_on(&s->x);
		if (rc < 0)
			session_broken(s, -rc);
	} else if (session_live(s) && s->cfg->handler->drained)
		s->cfg->handler->drained(&s->x);
	session_clock(s);
}

/* In the middle of a request.  The answer is for a client that still listens. */
static void
session_cut(struct session *s)
{
	struct refusal why = { .status = 400,
		.code = "InvalidInput",
		.text = "The request ended in the middle",
		.reason = "request-cut",
		.exit = CCF_CUT };
	struct http1_event ev;

	http1_end(s->parser, &ev);
	if (ev.what == HTTP1_BAD) {
		why.code = http1_fault(s->parser)->code;
		why.text = http1_fault(s->parser)->text;
	}
	session_refuse(s, &why);
}

static void
http1_ended(struct session *s)
{
	session_tick(s);
	s->ended = true;
	s->x.keep = false;
	if (s->state == SESSION_IDLE || s->state == SESSION_DROPPING)
		session_close(s, NULL, 0);
	else if (s->state == SESSION_HEAD || (s->state == SESSION_BODY && !s->x.whole))
		session_cut(s);
	else if (session_live(s) && s->cfg->handler->hungup)
		s->cfg->handler->hungup(&s->x);
}

/* A client that was answered knows that an idle connection may close; one that has just come is
 * about to ask. */
static void
http1_drain(struct session *s)
{
	s->draining = true;
	if (s->state == SESSION_BODY || s->state == SESSION_ANSWERING ||
	    s->state == SESSION_DROPPING)
		s->x.keep = false;
	else if (s->state == SESSION_IDLE && s->requests > 0)
		session_close(s, NULL, 0);
}

static int64_t
http1_deadline(const struct session *s)
{
	return s->deadline;
}

static void
http1_late(struct session *s)
{
	struct refusal slow = { .status = 408,
		.code = "RequestTimeout",
		.text = "The request did not come in time",
		.reason = "request-timeout",
		.exit = CCF_DEADLINE };

	session_tick(s);
	switch (s->state) {
	case SESSION_IDLE:
		if (s->requests == 0)
			session_close(s, slow.reason, slow.exit);
		else if (s->writer->len > 0) /* it has not read the last answer yet */
			session_wind(s);
		else
			session_close(s, "idle", CCF_OK);
		break;
	case SESSION_TUNNEL:
		writer_say_why(s->writer, "idle", CCF_DEADLINE);
		session_abort(s);
		session_broken(s, ECONNRESET);
		break;
	default:
		session_refuse(s, &slow);
	}
}

static size_t
http1_ops_held(const struct session *s)
{
	return http1_held(s->parser) + s->kept_at + s->kept_len + s->x.rest_at + s->x.rest_len;
}

static void
http1_close(struct session *s)
{
	if (s->x.answering || session_live(s)) {
		session_abort(s);
		session_tick(s);
		session_told(s, NULL, true);
	}
	session_unkeep(s);
	free(s->x.rest);
	free(s->page);
	http1_free(s->parser);
	free(s);
}

const struct session_ops session_http1 = {
	.name = "http1",
	.open = http1_open,
	.data = http1_data,
	.drained = http1_drained,
	.end = http1_ended,
	.drain = http1_drain,
	.deadline = http1_deadline,
	.late = http1_late,
	.held = http1_ops_held,
	.close = http1_close,
};
