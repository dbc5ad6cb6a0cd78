/* wire/http1_scan - the strict layer's first half: which bytes may stand where, in the order in
 * which they come.  A step reads what it can of one state, moves to the next one or refuses; it
 * knows nothing of what came before but the counters, so the verdict cannot depend on how the bytes
 * were split. */
#include "wire/http1_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef size_t step(struct http1_scan *, const char *s, size_t n); /* n > 0; how many were read */

/* An empty line before a request is dropped: some clients send one after a body. */
static size_t
start(struct http1_scan *x, const char *s, size_t n)
{
	(void)n;
	if (x->role == HTTP1_RESPONSE) {
		x->state = H1_VERSION;
		return 0;
	}
	if (*s != '\r') {
		x->state = H1_METHOD;
		return 0;
	}
	if (x->from)
		return http1_refuse(x, WHY_EMPTY_LINES, 0, NULL, 0);
	x->state = H1_START_LF;
	x->from = x->at + 1;
	return 1;
}

static size_t
method(struct http1_scan *x, const char *s, size_t n)
{
	size_t i = http1_run(s, n, H1_TOKEN);

	if (i == n)
		return n;
	if (s[i] != ' ' || x->at + i == x->from)
		return http1_stray(x, s, i, WHY_METHOD);
	x->method_len = (size_t)(x->at + i - x->from);
	x->state = H1_TARGET;
	return i + 1;
}

static size_t
target(struct http1_scan *x, const char *s, size_t n)
{
	size_t i = http1_run(s, n, H1_TARGETS);

	x->target_len += i;
	if (i == n)
		return n;
	if (s[i] == '\t' || (s[i] == ' ' && x->target_len == 0))
		return http1_stray(x, s, i, WHY_BLANKS);
	if (s[i] != ' ')
		return http1_stray(x, s, i, s[i] == '\r' ? WHY_NO_VERSION : WHY_TARGET);
	x->state = H1_VERSION;
	return i + 1;
}

/* The byte after it: the end of a request line; a blank and the status in a response. */
static size_t
after_version(struct http1_scan *x, const char *s, size_t i)
{
	if (x->role == HTTP1_RESPONSE) {
		if (s[i] != ' ')
			return http1_stray(x, s, i, WHY_STATUS);
		x->step = 0;
		x->state = H1_CODE;
	} else {
		if (s[i] != '\r')
			return http1_stray(x, s, i, WHY_AFTER_VERSION);
		x->state = H1_LINE_LF;
	}
	return i + 1;
}

static enum http1_why
no_version(const struct http1_scan *x, char c)
{
	if (x->step || x->role == HTTP1_RESPONSE)
		return WHY_VERSION;
	if (c == '\r')
		return WHY_NO_VERSION;
	return c == ' ' || c == '\t' ? WHY_BLANKS : WHY_VERSION;
}

static size_t
version(struct http1_scan *x, const char *s, size_t n)
{
	static const char form[] = "HTTP/1.1";
	size_t i;

	for (i = 0; i < n && x->step < sizeof(form) - 1; i++, x->step++) {
		bool digit = form[x->step] == '1';

		if (digit ? s[i] < '0' || s[i] > '9' : s[i] != form[x->step])
			return http1_stray(x, s, i, no_version(x, s[i]));
		if (digit) {
			x->major = x->minor;
			x->minor = (unsigned)(s[i] - '0');
		}
		if (x->step == sizeof(form) - 2 && (x->major != 1 || x->minor > 1))
			return http1_refuse(x, WHY_OTHER_VERSION, i, NULL, 0);
	}
	return i < n ? after_version(x, s, i) : n;
}

static size_t
code(struct http1_scan *x, const char *s, size_t n)
{
	size_t i;

	for (i = 0; i < n && x->step < 3; i++, x->step++) {
		if (s[i] < (x->step ? '0' : '1') || s[i] > '9')
			return http1_stray(x, s, i, WHY_STATUS);
		x->status = x->status * 10 + (unsigned)(s[i] - '0');
	}
	if (i == n)
		return n;
	if (s[i] != ' ' && s[i] != '\r')
		return http1_stray(x, s, i, WHY_STATUS);
	x->state = s[i] == ' ' ? H1_REASON : H1_LINE_LF;
	return i + 1;
}

static size_t
reason(struct http1_scan *x, const char *s, size_t n)
{
	size_t i = http1_run(s, n, H1_VISIBLE | H1_BLANK);

	if (i == n)
		return n;
	if (s[i] != '\r')
		return http1_stray(x, s, i, WHY_STATUS);
	x->state = H1_LINE_LF;
	return i + 1;
}

static size_t
field(struct http1_scan *x, const char *s, size_t n)
{
	(void)n;
	if (*s == '\r') {
		x->state = H1_LAST_LF;
		return 1;
	}
	if (*s == ' ' || *s == '\t')
		return http1_refuse(x, WHY_FOLDED, 0, NULL, 0);
	if (http1_run(s, 1, H1_TOKEN) == 0)
		return http1_stray(x, s, 0, *s == ':' ? WHY_NO_NAME : WHY_NAME);
	if (x->count == x->max.count)
		return http1_refuse(x, WHY_COUNT_MAX, 0, NULL, 0);
	x->count++;
	x->name_at = x->at - x->from;
	x->name_len = x->value_len = 0;
	x->state = H1_NAME;
	return 0;
}

/* What says how a message is framed, where it goes, or who may: too late when the body has been
 * read. */
static bool
may_trail(const struct http1_scan *x)
{
	static const char *const never[] = { "Authorization", "Connection", "Content-Encoding",
		"Content-Length", "Content-Range", "Content-Type", "Expect", "Host", "Range",
		"Set-Cookie", "Trailer", "Transfer-Encoding", "Upgrade" };

	if (x->name_len > sizeof(x->key))
		return true;
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (http1_is((struct http1_text){ x->key, (size_t)x->name_len }, never[i]))
			return false;
	return true;
}

static size_t
name(struct http1_scan *x, const char *s, size_t n)
{
	size_t i = http1_run(s, n, H1_TOKEN), room = x->max.header - (size_t)x->name_len;

	if (x->name_len < sizeof(x->key)) {
		size_t more = sizeof(x->key) - (size_t)x->name_len;

		memcpy(x->key + x->name_len, s, more < i ? more : i);
	}
	x->name_len += i < room ? i : room;
	if (i > room)
		return http1_refuse(x, WHY_NAME_MAX, room, NULL, 0);
	if (i == n)
		return n;
	if (s[i] == ' ' || s[i] == '\t')
		return http1_refuse(x, WHY_BEFORE_COLON, i, NULL, 0);
	if (s[i] != ':')
		return http1_stray(x, s, i, s[i] == '\r' ? WHY_NO_COLON : WHY_NAME);
	if (x->trailing && !may_trail(x))
		return http1_refuse(x, WHY_TRAILER, i, x->key, (size_t)x->name_len);
	x->state = H1_VALUE;
	return i + 1;
}

/* Blanks before and after it are not its own: it ends with the last byte that is none. */
static size_t
value(struct http1_scan *x, const char *s, size_t n)
{
	size_t i = 0;

	for (;;) {
		size_t seen = http1_run(s + i, n - i, H1_VISIBLE);
		uint64_t here = x->at - x->from + i;

		if (seen) {
			if (x->value_len == 0)
				x->value_at = here;
			x->value_len = here + seen - x->value_at;
			if (x->value_len > x->max.header) {
				uint64_t over = x->value_len - x->max.header;

				return http1_refuse(x, WHY_VALUE_MAX,
				    i + (over < seen ? seen - (size_t)over : 0), NULL, 0);
			}
		}
		i += seen;
		seen = http1_run(s + i, n - i, H1_BLANK);
		if (seen == 0)
			break;
		i += seen;
	}
	if (i == n)
		return n;
	if (s[i] != '\r')
		return http1_stray(x, s, i, WHY_CONTROL);
	if (x->value_len == 0)
		x->value_at = x->at - x->from + i;
	x->state = H1_VALUE_LF;
	return i + 1;
}

static int
mark(struct http1_scan *x)
{
	if (x->marks == x->marks_cap) {
		unsigned cap = x->marks_cap ? 2 * x->marks_cap : 16;
		struct http1_mark *more = reallocarray(x->mark, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		x->mark = more;
		x->marks_cap = cap;
	}
	x->mark[x->marks++] = (struct http1_mark){ (uint32_t)x->name_at, (uint32_t)x->name_len,
		(uint32_t)x->value_at, (uint32_t)x->value_len };
	return 0;
}

/* Each line's last byte. */
static size_t
line_feed(struct http1_scan *x, const char *s, size_t n)
{
	(void)n;
	if (*s != '\n')
		return http1_refuse(x, WHY_BARE_CR, 0, NULL, 0);
	switch (x->state) {
	case H1_START_LF:
		x->from = x->at + 1;
		x->state = H1_START;
		break;
	case H1_VALUE_LF:
		if (!x->trailing && mark(x) < 0)
			return http1_refuse(x, WHY_MEMORY, 0, NULL, 0);
		x->state = H1_FIELD;
		break;
	case H1_LAST_LF:
		x->state = x->trailing ? H1_WHOLE : H1_HEAD_READ;
		break;
	default:
		x->state = H1_FIELD;
		break;
	}
	return 1;
}

/* Of the first line, so many of n may be read at once; 0: it is too long. */
static size_t
first_line(const struct http1_scan *x, const char *s, size_t n)
{
	uint64_t had = x->at - x->from;

	if (had < x->max.line)
		return n < x->max.line - had ? n : (size_t)(x->max.line - had);
	return *s == '\r' || *s == '\n';
}

size_t
http1_scan(struct http1_scan *x, const char *s, size_t len)
{
	static step *const steps[] = { [H1_START] = start,
		[H1_START_LF] = line_feed,
		[H1_METHOD] = method,
		[H1_TARGET] = target,
		[H1_VERSION] = version,
		[H1_CODE] = code,
		[H1_REASON] = reason,
		[H1_LINE_LF] = line_feed,
		[H1_FIELD] = field,
		[H1_NAME] = name,
		[H1_VALUE] = value,
		[H1_VALUE_LF] = line_feed,
		[H1_LAST_LF] = line_feed };
	size_t i = 0;

	while (i < len && x->state < H1_HEAD_READ) {
		uint64_t room = x->max.head - (x->at - x->from);
		size_t n = len - i < room ? len - i : (size_t)room;
		size_t took;

		if (n == 0 && x->state > H1_START_LF)
			return i + http1_refuse(x, WHY_HEAD_MAX, 0, NULL, 0);
		if (x->state > H1_START_LF && x->state < H1_LINE_LF) {
			n = first_line(x, s + i, n);
			if (n == 0)
				return i + http1_refuse(x, WHY_LINE_MAX, 0, NULL, 0);
		}
		took = steps[x->state](x, s + i, n);
		x->at += took;
		i += took;
	}
	return i;
}

int
http1_keep(struct http1_scan *x, const char *s, size_t len)
{
	if (len > x->cap - x->len) {
		size_t cap = x->len + len;
		char *more;

		if (x->state != H1_HEAD_READ) { /* more will come */
			cap = cap < 256 ? 512 : 2 * cap;
			cap = cap < x->max.head ? cap : x->max.head;
		}
		more = realloc(x->buf, cap);
		if (!more)
			return -ENOMEM;
		x->buf = more;
		x->cap = cap;
	}
	memcpy(x->buf + x->len, s, len);
	x->len += len;
	return 0;
}
