#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n bytes more, and a NUL. */
static bool
text_room(struct text *t, size_t n)
{
	size_t cap = t->cap ? t->cap : 256;
	char *at;

	if (t->failed || n >= (size_t)-1 / 4 - t->len) {
		t->failed = true;
		return false;
	}
	if (t->len + n < t->cap)
		return true;
	while (cap <= t->len + n)
		cap *= 2;
	at = realloc(t->at, cap);
	if (!at) {
		t->failed = true;
		return false;
	}
	t->at = at;
	t->cap = cap;
	return true;
}

void
text_bytes(struct text *t, const void *bytes, size_t len)
{
	if (!text_room(t, len))
		return;
	if (len)
		memcpy(t->at + t->len, bytes, len);
	t->len += len;
	t->at[t->len] = '\0';
}

void
text_add(struct text *t, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	if (!text_room(t, 0))
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(t->at + t->len, t->cap - t->len, fmt, ap);
	if (n < 0)
		t->failed = true;
	else if (text_room(t, (size_t)n)) {
		vsnprintf(t->at + t->len, t->cap - t->len, fmt, again);
		t->len += (size_t)n;
	}
	if (t->failed)
		t->at[t->len] = '\0';
	va_end(again);
	va_end(ap);
}

void
text_json(struct text *t, const char *s, size_t len)
{
	char unit[9];

	text_bytes(t, "\"", 1);
	while (len) {
		size_t n = text_escape(s, len, true, unit);

		text_bytes(t, unit, strlen(unit));
		s += n;
		len -= n;
	}
	text_bytes(t, "\"", 1);
}

void
text_free(struct text *t)
{
	free(t->at);
	*t = (struct text){ 0 };
}

/* The length of the well-formed UTF-8 sequence at s (RFC 3629: no overlong, no surrogate, nothing
 * above U+10FFFF); 0 if there is none. */
static size_t
utf8_len(const unsigned char *s, size_t len)
{
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (s[0] > 0xf4 || n > len)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

/* A C1 control (U+0080 to U+009F) is valid UTF-8 and still moves a terminal's cursor. */
size_t
text_escape(const void *bytes, size_t len, bool json, char out[9])
{
	static const char from[] = "\a\b\f\n\r\t\v", to[] = "abfnrtv";
	const unsigned char *s = bytes;
	size_t n = utf8_len(s, len);
	const char *c = memchr(from, s[0], sizeof(from) - 1);
	bool c1 = n == 2 && s[0] == 0xc2 && s[1] < 0xa0;

	if (s[0] == '\\' || (json && s[0] == '"'))
		snprintf(out, 9, "\\%c", s[0]);
	else if (c && !(json && (*c == '\a' || *c == '\v')))
		snprintf(out, 9, "\\%c", to[c - from]);
	else if (json && (c1 || (n == 1 && (s[0] < 0x20 || s[0] == 0x7f))))
		snprintf(out, 9, "\\u%04x", c1 ? s[1] : s[0]);
	else if (c1)
		snprintf(out, 9, "\\%03o\\%03o", s[0], s[1]);
	else if (n == 0 || s[0] < 0x20 || s[0] == 0x7f)
		snprintf(out, 9, json ? "\\\\%03o" : "\\%03o", s[0]);
	else
		snprintf(out, 9, "%.*s", (int)n, (const char *)s);
	return n ? n : 1;
}

int
text_hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
