/* wire/http1 - the parser: gathers a head and has it judged, hands out a body as it comes, and asks
 * llhttp about the same bytes. It must say the same of every message, or the message is refused:
 * whoever reads it behind us may well use llhttp too. Chunk extensions alone are kept from it: 8.1
 * refuses two in one line, and they mean nothing. */
#include "wire/http1.h"

#include <errno.h>
#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

#include "wire/http1_parts.h"

struct http1_parser {
	struct http1_scan scan;
	struct http1_head head;
	struct http1_field *field;
	bool headed;	   /* head is valid */
	bool answers_head; /* what this response answers */
	uint64_t told;	   /* bytes of the body */
	llhttp_t other;
	struct {
		bool headed, whole;
		bool chunked, has_length, keep_alive;
		uint64_t length, body;
	} says;
};

/* --- the other reader --- */

static int
on_head(llhttp_t *other)
{
	struct http1_parser *p = other->data;

	/* It does not know what a response answers, and of 204 and 304 not that they have no body.
	 */
	if (p->scan.role == HTTP1_RESPONSE && p->head.framing == HTTP1_NO_BODY)
		other->flags |= F_SKIPBODY;
	p->says.headed = true;
	p->says.chunked = other->flags & F_CHUNKED;
	p->says.has_length = other->flags & F_CONTENT_LENGTH;
	p->says.length = other->content_length;
	p->says.keep_alive = llhttp_should_keep_alive(other);
	return (other->flags & F_SKIPBODY) != 0;
}

static int
on_body(llhttp_t *other, const char *at, size_t len)
{
	struct http1_parser *p = other->data;

	(void)at;
	p->says.body += len;
	return 0;
}

static int
on_whole(llhttp_t *other)
{
	struct http1_parser *p = other->data;

	p->says.whole = true;
	return 0;
}

static const llhttp_settings_t ask = {
	.on_headers_complete = on_head,
	.on_body = on_body,
	.on_message_complete = on_whole,
};

static void
disagree(struct http1_parser *p)
{
	const char *why = llhttp_get_error_reason(&p->other);

	if (p->scan.state != H1_REFUSED)
		http1_refuse(&p->scan, WHY_OTHERWISE, 0, why, why ? strlen(why) : 0);
}

/* Stops where a message ends in an upgrade; what follows is none of its business. */
static void
other_reads(struct http1_parser *p, const char *s, size_t len)
{
	llhttp_errno_t err;

	if (len == 0 || p->scan.state == H1_REFUSED)
		return;
	err = llhttp_execute(&p->other, s, len);
	if (err != HPE_OK && !(err == HPE_PAUSED_UPGRADE && p->says.whole))
		disagree(p);
}

static void
compare_ends(struct http1_parser *p)
{
	if (p->says.whole != (p->scan.state == H1_WHOLE) || p->says.body != p->told)
		disagree(p);
}

static void
compare_heads(struct http1_parser *p)
{
	const struct http1_head *h = &p->head;
	bool same = p->says.headed && p->other.http_major == 1 && p->other.http_minor == h->minor;

	if (p->scan.role == HTTP1_REQUEST)
		same = same && http1_is(h->method, llhttp_method_name(p->other.method));
	else
		same = same && p->other.status_code == h->status;
	if (h->framing != HTTP1_NO_BODY || p->scan.role == HTTP1_REQUEST)
		same = same && p->says.chunked == (h->framing == HTTP1_CHUNKED) &&
		       p->says.has_length == (h->framing == HTTP1_LENGTH);
	if (h->framing == HTTP1_LENGTH)
		same = same && p->says.length == h->length;
	if (!same)
		disagree(p);
}

/* --- a head --- */

static struct http1_text
text(const struct http1_scan *x, size_t at, size_t len)
{
	return (struct http1_text){ x->buf + at, len };
}

static int
gather(struct http1_parser *p)
{
	struct http1_scan *x = &p->scan;
	struct http1_head *h = &p->head;

	if (x->marks) {
		p->field = reallocarray(NULL, x->marks, sizeof(*p->field));
		if (!p->field)
			return -ENOMEM;
	}
	for (unsigned i = 0; i < x->marks; i++) {
		const struct http1_mark *m = &x->mark[i];

		p->field[i].name = text(x, m->name, m->name_len);
		p->field[i].value = text(x, m->value, m->value_len);
	}
	*h = (struct http1_head){ .raw = text(x, 0, x->len),
		.status = x->status,
		.minor = x->minor,
		.field = p->field,
		.n_fields = x->marks };
	if (x->role == HTTP1_REQUEST) {
		h->method = text(x, 0, x->method_len);
		h->target = text(x, x->method_len + 1, x->target_len);
	}
	free(x->mark);
	x->mark = NULL;
	x->marks = x->marks_cap = 0;
	return 0;
}

static void
begin_body(struct http1_scan *x, const struct http1_head *h)
{
	static const enum http1_state states[] = { [HTTP1_NO_BODY] = H1_WHOLE,
		[HTTP1_LENGTH] = H1_LENGTH,
		[HTTP1_CHUNKED] = H1_SIZE,
		[HTTP1_UNTIL_END] = H1_UNTIL_END };

	x->state = states[h->framing];
	x->step = 0;
	x->left = h->length;
	if (x->state == H1_LENGTH && x->left == 0)
		x->state = H1_WHOLE;
}

static void
finish_head(struct http1_parser *p)
{
	struct http1_scan *x = &p->scan;

	if (gather(p) < 0) {
		http1_refuse(x, WHY_MEMORY, 0, NULL, 0);
		return;
	}
	p->headed = true;
	http1_judge(x, &p->head, p->answers_head);
	if (x->state == H1_REFUSED)
		return;
	begin_body(x, &p->head);
	llhttp_init(&p->other, x->role == HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &ask);
	p->other.data = p;
	other_reads(p, x->buf, x->len);
	compare_heads(p);
	compare_ends(p);
	/* Its lists know no tabs: where only we saw an option, the careful reading is that it
	 * closes. */
	p->head.keep_alive &= p->says.keep_alive;
}

static size_t
read_head(struct http1_parser *p, const char *s, size_t len)
{
	struct http1_scan *x = &p->scan;
	uint64_t was = x->at;
	size_t n = http1_scan(x, s, len), before;

	if (x->state <= H1_START_LF || x->state == H1_REFUSED)
		return n;
	before = x->from > was ? (size_t)(x->from - was) : 0;
	if (http1_keep(x, s + before, n - before) < 0)
		http1_refuse(x, WHY_MEMORY, 0, NULL, 0);
	else if (x->state == H1_HEAD_READ)
		finish_head(p);
	return n;
}

/* --- a body --- */

static bool
is_data(enum http1_state state)
{
	return state == H1_LENGTH || state == H1_DATA || state == H1_UNTIL_END;
}

static size_t
read_body(struct http1_parser *p, const char *s, size_t len, struct http1_event *ret)
{
	struct http1_scan *x = &p->scan;
	size_t n = 0, given = 0;

	while (n < len && x->state < H1_WHOLE && ret->what == HTTP1_MORE) {
		enum http1_state was = x->state;
		size_t took = http1_scan_body(x, s + n, len - n);

		if (was == H1_EXTENSION) {
			other_reads(p, s + given, n - given);
			given = n + took;
		}
		if (is_data(was) && took) {
			*ret = (struct http1_event){ HTTP1_BODY, s + n, took };
			p->told += took;
		}
		n += took;
	}
	if (x->state < H1_TOLD) {
		other_reads(p, s + given, n - given);
		compare_ends(p);
	}
	return n;
}

/* --- what is public --- */

int
http1_new(struct http1_parser **ret, enum http1_role role, const struct http1_limits *limits)
{
	struct http1_parser *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->scan.role = role;
	p->scan.max = *limits;
	if (p->scan.max.head > UINT32_MAX) /* what a mark can hold */
		p->scan.max.head = UINT32_MAX;
	*ret = p;
	return 0;
}

void
http1_free(struct http1_parser *p)
{
	if (!p)
		return;
	http1_next(p);
	free(p);
}

size_t
http1_feed(struct http1_parser *p, const char *bytes, size_t len, struct http1_event *ret)
{
	struct http1_scan *x = &p->scan;
	struct http1_event event = { HTTP1_MORE, NULL, 0 };
	size_t n = 0;

	if (len && x->state < H1_WHOLE && p->headed) {
		n = read_body(p, bytes, len, &event);
	} else if (len && x->state < H1_WHOLE) {
		n = read_head(p, bytes, len);
		event.what = p->headed ? HTTP1_HEAD : HTTP1_MORE;
	}
	if (x->state == H1_REFUSED) {
		event.what = HTTP1_BAD;
	} else if (event.what == HTTP1_MORE && x->state >= H1_WHOLE) {
		event.what = HTTP1_DONE;
		x->state = H1_TOLD;
	}
	*ret = event;
	return n;
}

void
http1_end(struct http1_parser *p, struct http1_event *ret)
{
	struct http1_scan *x = &p->scan;

	*ret = (struct http1_event){ HTTP1_MORE, NULL, 0 };
	if (x->state == H1_UNTIL_END) {
		x->state = H1_WHOLE;
		llhttp_finish(&p->other);
		compare_ends(p);
	} else if (http1_begun(p) && x->state != H1_WHOLE) {
		http1_refuse(x, WHY_CUT, 0, NULL, 0);
	}
	if (x->state == H1_REFUSED) {
		ret->what = HTTP1_BAD;
	} else if (x->state == H1_WHOLE) {
		ret->what = HTTP1_DONE;
		x->state = H1_TOLD;
	}
}

void
http1_next(struct http1_parser *p)
{
	enum http1_role role = p->scan.role;
	struct http1_limits max = p->scan.max;
	bool answers_head = p->answers_head;

	free(p->scan.buf);
	free(p->scan.mark);
	free(p->field);
	*p = (struct http1_parser){ .scan = { .role = role, .max = max },
		.answers_head = answers_head };
}

void
http1_response_to(struct http1_parser *p, bool head)
{
	p->answers_head = head;
}

bool
http1_begun(const struct http1_parser *p)
{
	return p->scan.state > H1_START_LF && p->scan.state < H1_TOLD;
}

const struct http1_head *
http1_head(const struct http1_parser *p)
{
	return p->headed ? &p->head : NULL;
}

const struct http1_fault *
http1_fault(const struct http1_parser *p)
{
	return p->scan.state == H1_REFUSED ? &p->scan.fault : NULL;
}

size_t
http1_held(const struct http1_parser *p)
{
	return p->scan.cap + p->scan.marks_cap * sizeof(*p->scan.mark) +
	       p->head.n_fields * sizeof(*p->field);
}
