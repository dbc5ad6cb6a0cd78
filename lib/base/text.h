/* base/text - a text that grows: for answers and lines that are put together piece by piece.  What could not be added for
 * want of memory is remembered, and asked about once, at the end. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct text {
	char *at;        /* len bytes and a NUL; NULL while empty */
	size_t len, cap;
	bool failed;     /* no memory: what was added since is missing */
};

void text_add(struct text *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_bytes(struct text *, const void *, size_t);
void text_json(struct text *, const char *, size_t); /* as a JSON string, quotes and all; bytes that are no UTF-8 as in the log */
int text_hex(char); /* the value of a hex digit, in either case; -1: it is none */
void text_free(struct text *); /* leaves an empty one */

size_t text_escape(const void *bytes, size_t len, bool json, char out[9]);
/* One unit (a character, or a byte that is part of none) as a line of the log has it, NUL-terminated: escaped where it has to be,
 * for JSON inside quotes.  How many bytes it was; len may not be 0. */

#endif
