#include "wire/record.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyz0123456789-_"

/* ---- writing ---- */

static bool
stands_plain(char c)
{
	return c > ' ' && c < 0x7f && c != '%';
}

void
record_begin(struct text *t, const char *word)
{
	text_bytes(t, word, strlen(word));
}

void
record_text(struct text *t, const char *name, const char *value)
{
	text_add(t, " %s=", name);
	while (*value) {
		size_t n = 0;

		while (stands_plain(value[n]))
			n++;
		text_bytes(t, value, n);
		value += n;
		if (*value)
			text_add(t, "%%%02X", (unsigned char)*value++);
	}
}

void
record_bytes(struct text *t, const char *name, const void *value, size_t len)
{
	const unsigned char *at = value;

	text_add(t, " %s=", name);
	for (size_t i = 0; i < len; i++)
		text_add(t, "%02x", at[i]);
}

void
record_number(struct text *t, const char *name, int64_t value)
{
	text_add(t, " %s=%" PRId64, name, value);
}

void
record_end(struct text *t)
{
	text_bytes(t, "\n", 1);
}

/* ---- reading ---- */

/* The byte that two hex digits say; -1: they do not. */
static int
hex_byte(const char *s)
{
	int high = text_hex(s[0]), low = high < 0 ? -1 : text_hex(s[1]);

	return low < 0 ? -1 : high << 4 | low;
}

/* The value at s, up to a space or the end, made plain where it stands.  What follows it; NULL:
 * malformed. */
static char *
plain(char *s)
{
	char *to = s;

	while (*s && *s != ' ') {
		int c = *s == '%' ? hex_byte(s + 1) : stands_plain(*s) ? *s : 0;

		if (c <= 0)
			return NULL;
		s += *s == '%' ? 3 : 1;
		*to++ = (char)c;
	}
	if (*s)
		s++;
	*to = '\0';
	return s;
}

/* NAME=VALUE at s, and what follows it. */
static char *
parse_field(struct record *r, char *s)
{
	size_t len = strspn(s, NAME_CHARS);
	char *name = s;

	if (len == 0 || s[len] != '=' || r->n == RECORD_FIELDS)
		return NULL;
	s[len] = '\0';
	if (record_get(r, name))
		return NULL;
	r->field[r->n].name = name;
	r->field[r->n].value = s + len + 1;
	r->n++;
	return plain(s + len + 1);
}

int
record_parse(struct record *r, const char *at, size_t len)
{
	size_t max = len < RECORD_LINE_MAX ? len : RECORD_LINE_MAX, word;
	const char *end = len ? memchr(at, '\n', max) : NULL;
	char *s = r->line, *stop;

	if (len == 0)
		return 0;
	if (!end || end == at || end[-1] == ' ' || memchr(at, '\0', (size_t)(end - at)))
		return -EBADMSG;
	stop = s + (end - at);
	memcpy(s, at, (size_t)(end - at));
	*stop = '\0';
	word = strspn(s, NAME_CHARS);
	if (word == 0 || (s[word] && s[word] != ' '))
		return -EBADMSG;
	r->word = s;
	r->n = 0;
	s += word;
	if (*s)
		*s++ = '\0';
	while (s && s < stop)
		s = parse_field(r, s);
	return s ? (int)(end - at) + 1 : -EBADMSG;
}

const char *
record_get(const struct record *r, const char *name)
{
	for (unsigned i = 0; i < r->n; i++)
		if (strcmp(r->field[i].name, name) == 0)
			return r->field[i].value;
	return NULL;
}

int
record_get_number(const struct record *r, const char *name, int64_t min, int64_t max, int64_t *ret)
{
	const char *text = record_get(r, name), *digits;
	long long n;

	if (!text)
		return -ENOENT;
	digits = text + (*text == '-');
	if (!*digits || digits[strspn(digits, "0123456789")])
		return -EBADMSG;
	errno = 0;
	n = strtoll(text, NULL, 10);
	if (errno || n < min || n > max)
		return -ERANGE;
	*ret = n;
	return 0;
}

int
record_get_bytes(const struct record *r, const char *name, void *to, size_t cap)
{
	const char *text = record_get(r, name);
	unsigned char bytes[RECORD_LINE_MAX / 2];
	size_t len = text ? strlen(text) : 0;

	if (!text)
		return -ENOENT;
	if (len % 2)
		return -EBADMSG;
	if (len / 2 > cap)
		return -ENOSPC;
	for (size_t i = 0; i < len / 2; i++) {
		int c = hex_byte(text + 2 * i);

		if (c < 0)
			return -EBADMSG;
		bytes[i] = (unsigned char)c;
	}
	if (len)
		memcpy(to, bytes, len / 2);
	return (int)len / 2;
}
