/* wire/http1_parts - what the files of wire/http1 share, and nobody else sees: the scanner, which judges each byte as it comes,
 * and the reasons for which a message is refused. */
#ifndef WIRE_HTTP1_PARTS_H
#define WIRE_HTTP1_PARTS_H

#include "wire/http1.h"

enum http1_state {
	H1_START, H1_START_LF, /* nothing has come but, maybe, an empty line */
	H1_METHOD, H1_TARGET, H1_VERSION, H1_CODE, H1_REASON, H1_LINE_LF,
	H1_FIELD, H1_NAME, H1_VALUE, H1_VALUE_LF, H1_LAST_LF, /* of a head, or of trailers */
	H1_HEAD_READ, /* its last byte, that is: it is not judged yet */
	H1_LENGTH, H1_UNTIL_END, H1_SIZE, H1_EXTENSION, H1_SIZE_CR, H1_SIZE_LF, H1_DATA, H1_DATA_CR, H1_DATA_LF,
	H1_WHOLE, H1_TOLD, /* DONE is still to be told; was told */
	H1_REFUSED
};

enum http1_why {
	WHY_MEMORY,
	WHY_BARE_LF, WHY_BARE_CR, WHY_FOLDED, WHY_EMPTY_LINES,
	WHY_METHOD, WHY_TARGET, WHY_BLANKS, WHY_NO_VERSION, WHY_VERSION, WHY_AFTER_VERSION, WHY_STATUS,
	WHY_BEFORE_COLON, WHY_NO_NAME, WHY_NAME, WHY_NO_COLON, WHY_CONTROL,
	WHY_FORM, WHY_ASTERISK, WHY_AUTHORITY, WHY_NOT_HOST, WHY_NO_HOST, WHY_TWO_HOSTS, WHY_HOST,
	WHY_TWO_LENGTHS, WHY_LENGTH, WHY_LENGTH_DIGITS, WHY_BOTH, WHY_TAB, WHY_UNDERSCORE, WHY_CONNECTION,
	WHY_CODING_OLD, WHY_CODING, WHY_CODING_LAST, WHY_CODING_TWICE,
	WHY_SIZE, WHY_SIZE_DIGITS, WHY_EXTENSION, WHY_NO_EXTENSION, WHY_CHUNK_LINE, WHY_AFTER_CHUNK, WHY_TRAILER,
	WHY_CUT, WHY_OTHERWISE,
	WHY_UNKNOWN, WHY_CONNECT, WHY_CODED, WHY_OTHER_VERSION, WHY_EXPECT,
	WHY_LINE_MAX, WHY_HEAD_MAX, WHY_NAME_MAX, WHY_VALUE_MAX, WHY_COUNT_MAX, WHY_BODY_MAX
};

struct http1_mark { uint32_t name, name_len, value, value_len; }; /* a field in the buffer */

struct http1_scan {
	enum http1_role role;
	enum http1_state state;
	struct http1_limits max;
	uint64_t at;           /* bytes of the message that were read */
	uint64_t from;         /* where the head begins (after an empty line), or its trailers */
	char *buf;             /* the head, len bytes */
	size_t len, cap;
	struct http1_mark *mark;
	unsigned marks, marks_cap;
	unsigned count;        /* fields, trailers among them */
	bool trailing;
	unsigned step;         /* bytes of the version, digits of the status or of a chunk's size */
	unsigned major, minor, status;
	size_t method_len, target_len;
	uint64_t name_at, name_len, value_at, value_len; /* of the field that is being read, from the head's beginning */
	char key[32];          /* as much of its name */
	unsigned chunk_line;   /* bytes of it */
	uint64_t size, left;   /* of the chunk, or of the body */
	uint64_t body;         /* bytes of all chunks so far */
	struct http1_fault fault;
};

enum { H1_TOKEN = 1, H1_BLANK = 2, H1_VISIBLE = 4, H1_TARGETS = 8, H1_HOST = 16, H1_DIGIT = 32, H1_HEX = 64 };
extern const uint8_t http1_alphabet[256];
size_t http1_run(const char *s, size_t len, unsigned alphabet); /* so many of them, from the first on */

size_t http1_scan(struct http1_scan *, const char *s, size_t len); /* a head or trailers: how many were read */
int http1_keep(struct http1_scan *, const char *s, size_t len);    /* a head's bytes; 0 or -ENOMEM */
size_t http1_scan_body(struct http1_scan *, const char *s, size_t len); /* a piece that is in one state; H1_DATA and alike: data */
void http1_judge(struct http1_scan *, struct http1_head *, bool answers_head);
/* What a head that is whole means: fills in path to upgrade, or refuses. */

size_t http1_refuse(struct http1_scan *, enum http1_why, size_t ahead, const char *piece, size_t len);
/* ahead: how far after what was read; piece: what of the message helps to understand it, or NULL.  Returns ahead. */
size_t http1_stray(struct http1_scan *, const char *s, size_t i, enum http1_why); /* s[i] may not stand here; a LF: for that */
void http1_refuse_at(struct http1_scan *, enum http1_why, struct http1_text piece); /* of the head that was kept */

#endif
