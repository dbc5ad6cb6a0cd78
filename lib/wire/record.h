/* wire/record - a line of state: a word, then NAME=VALUE, split by single spaces; in a value what is not printable ASCII, the space
 * and the percent sign stand as %XX.  Ended by a newline.  Pure.  Names and words are lower case letters, digits, - and _. */
#ifndef WIRE_RECORD_H
#define WIRE_RECORD_H

#include <stddef.h>
#include <stdint.h>

struct text;

#define RECORD_FIELDS 48
#define RECORD_LINE_MAX 8192

struct record {
	const char *word;
	unsigned n;
	struct {
		const char *name, *value;
	} field[RECORD_FIELDS];
	char line[RECORD_LINE_MAX]; /* what they point into */
};

void record_begin(struct text *, const char *word);
void record_text(struct text *, const char *name, const char *value);
void record_bytes(struct text *, const char *name, const void *value, size_t len); /* as hex digits */
void record_number(struct text *, const char *name, int64_t value);
void record_end(struct text *);

int record_parse(struct record *, const char *at, size_t len);
/* The bytes of the first line, its newline included; 0: len is 0.  -EBADMSG: malformed, longer than RECORD_LINE_MAX, more than
 * RECORD_FIELDS, a name twice, a NUL in a value, or the newline is missing; then nothing in *record is to be used. */
const char *record_get(const struct record *, const char *name); /* or NULL */
int record_get_number(const struct record *, const char *name, int64_t min, int64_t max, int64_t *ret);
/* 0; -ENOENT: there is no such field; -ERANGE; -EBADMSG: no number */
int record_get_bytes(const struct record *, const char *name, void *to, size_t cap); /* how many; -ENOENT, -ENOSPC, -EBADMSG */

#endif
