/* wire/http1_chunks - where a body ends: by its length, with the stream, or by its chunks, whose
 * lines are read as strictly as a head's. */
#include "base/text.h"
#include "wire/http1_parts.h"

static size_t
size(struct http1_scan *x, const char *s, size_t n)
{
	size_t i = http1_run(s, n, H1_HEX);

	for (size_t k = 0; k < i; k++, x->step++) {
		if (x->step == 15)
			return http1_refuse(x, WHY_SIZE_DIGITS, k, NULL, 0);
		x->size = x->size << 4 | (unsigned)text_hex(s[k]);
	}
	if (i == n)
		return n;
	if (x->step == 0 || (s[i] != ';' && s[i] != '\r'))
		return http1_stray(x, s, i, WHY_SIZE);
	x->chunk_line = x->step;
	x->state = s[i] == ';' ? H1_EXTENSION : H1_SIZE_CR;
	return i;
}

/* Nobody uses it, and what it holds can be anything; it must not look like the end of its line to
 * anyone. */
static size_t
extension(struct http1_scan *x, const char *s, size_t n)
{
	size_t i = http1_run(s, n, H1_VISIBLE | H1_BLANK),
	       room = HTTP1_CHUNK_LINE_MAX - x->chunk_line;

	if (i > room)
		return http1_refuse(x, WHY_CHUNK_LINE, room, NULL, 0);
	x->chunk_line += (unsigned)i;
	if (i == n)
		return n;
	if (s[i] != '\r')
		return http1_stray(x, s, i, WHY_EXTENSION);
	if (x->chunk_line == x->step + 1) /* a semicolon, and nothing */
		return http1_refuse(x, WHY_NO_EXTENSION, i, NULL, 0);
	x->state = H1_SIZE_CR;
	return i;
}

/* The line is whole. */
static size_t
size_lf(struct http1_scan *x, const char *s)
{
	if (*s != '\n')
		return http1_refuse(x, WHY_BARE_CR, 0, NULL, 0);
	if (x->size > x->max.body - x->body)
		return http1_refuse(x, WHY_BODY_MAX, 0, NULL, 0);
	x->body += x->size;
	x->left = x->size;
	x->size = 0;
	x->step = 0;
	x->state = H1_DATA;
	if (x->left == 0) {
		x->trailing = true;
		x->from = x->at + 1;
		x->state = H1_FIELD;
	}
	return 1;
}

static size_t
data(struct http1_scan *x, size_t n)
{
	if (n < x->left) {
		x->left -= n;
		return n;
	}
	n = (size_t)x->left;
	x->left = 0;
	x->state = x->state == H1_DATA ? H1_DATA_CR : H1_WHOLE;
	return n;
}

static size_t
until_end(struct http1_scan *x, size_t n)
{
	uint64_t room = x->max.body - x->body;

	if (room == 0)
		return http1_refuse(x, WHY_BODY_MAX, 0, NULL, 0);
	n = n < room ? n : (size_t)room;
	x->body += n;
	return n;
}

static size_t
scan(struct http1_scan *x, const char *s, size_t n)
{
	switch (x->state) {
	case H1_LENGTH:
	case H1_DATA:
		return data(x, n);
	case H1_UNTIL_END:
		return until_end(x, n);
	case H1_SIZE:
		return size(x, s, n);
	case H1_EXTENSION:
		return extension(x, s, n);
	case H1_SIZE_CR:
		x->state = H1_SIZE_LF;
		return 1;
	case H1_SIZE_LF:
		return size_lf(x, s);
	case H1_DATA_CR:
		if (*s != '\r')
			return http1_stray(x, s, 0, WHY_AFTER_CHUNK);
		x->state = H1_DATA_LF;
		return 1;
	case H1_DATA_LF:
		if (*s != '\n')
			return http1_refuse(x, WHY_BARE_CR, 0, NULL, 0);
		x->state = H1_SIZE;
		return 1;
	default:
		return 0;
	}
}

size_t
http1_scan_body(struct http1_scan *x, const char *s, size_t len)
{
	size_t took;

	if (x->trailing)
		return http1_scan(x, s, len);
	took = scan(x, s, len);
	x->at += took;
	return took;
}
