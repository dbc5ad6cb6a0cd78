/* wire/http1 - HTTP/1 messages as bytes: a request (or a response, for who passes one on) goes in, in whatever pieces it
 * comes, and its head, its body and its end come out.  llhttp reads it; before it stands a strict layer of ours that refuses
 * whatever two servers could read differently (RFC 9112 without its leniencies; ccf-tlsterm(1) has the list, tests/http1/ a case
 * for each), so that the verdict is ours and the same with every llhttp, and wherever the bytes were split.  Pure: no descriptor,
 * no clock.  Only this room includes <llhttp.h>. */
#ifndef WIRE_HTTP1_H
#define WIRE_HTTP1_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http1_role { HTTP1_REQUEST, HTTP1_RESPONSE };

struct http1_limits {      /* exactly at the limit passes */
	uint64_t body;     /* bytes of a body, decoded: 413.  A Content-Length or chunk above it is refused at once */
	size_t header;     /* bytes of a name, and of a value: 431 */
	unsigned count;    /* fields, trailers among them: 431 */
	size_t line;       /* bytes of the request line without its CRLF: 414 */
	size_t head;       /* bytes of the head as it came, with the empty line; and of the trailers: 431 */
};

/* CCF's (CCF.md section 5.1), and two of ours */
#define HTTP1_BODY_MAX   (1024 * 1024)
#define HTTP1_HEADER_MAX (16 * 1024)
#define HTTP1_COUNT_MAX  256
#define HTTP1_LINE_MAX   (8 * 1024)
#define HTTP1_HEAD_MAX   (64 * 1024)
#define HTTP1_CHUNK_LINE_MAX 256 /* bytes of a chunk's line, extensions and all: 400 */

struct http1_text { const char *at; size_t len; }; /* not NUL-terminated */
struct http1_field { struct http1_text name, value; }; /* value without the blanks around it */

enum http1_framing { HTTP1_NO_BODY, HTTP1_LENGTH, HTTP1_CHUNKED, HTTP1_UNTIL_END /* responses only */ };

struct http1_head {                  /* everything in it is borrowed from the parser, until http1_next */
	struct http1_text raw;       /* as it came, from the first line to the empty one */
	struct http1_text method, target;  /* request */
	struct http1_text path;      /* of the target; in absolute form what is after the host (nothing: "/"); OPTIONS *: "*" */
	struct http1_text query;     /* what is after its "?"; at NULL: there is none */
	struct http1_text host;      /* request: the value of Host (HTTP/1.0 without one: that of an absolute form, else empty) */
	unsigned status;             /* response */
	unsigned minor;              /* HTTP/1.minor */
	const struct http1_field *field;
	unsigned n_fields;
	enum http1_framing framing;
	uint64_t length;             /* HTTP1_LENGTH */
	bool keep_alive;             /* version and Connection say that another message may follow */
	bool expects;                /* request: Expect: 100-continue (not on HTTP/1.0) */
	struct http1_text upgrade;   /* the value of Upgrade, where Connection names it; else empty */
};

const struct http1_text *http1_find(const struct http1_head *, const char *name);
/* The value of the first field of that name (any case), or NULL. */
bool http1_is(struct http1_text, const char *word); /* the same bytes, in any case */
bool http1_is_head(const struct http1_head *);             /* the method is HEAD: its answer has no body */

enum http1_class { HTTP1_PARSING, HTTP1_PAYLOAD, HTTP1_HEADERS }; /* CCF's three counters of errors */

struct http1_fault {
	int status;            /* 400, 413, 414, 417, 431, 501, 505; a response's: 502; no memory: 500 */
	enum http1_class class;
	const char *code;      /* CCF's where it has one (RequestBodyTooLarge ...) */
	uint64_t at;           /* the byte of the message that was refused, from 0 */
	char text[256];        /* a sentence; what came from the peer is escaped in it */
};

enum http1_what {
	HTTP1_MORE, /* all of it is read, and nothing is to be told */
	HTTP1_HEAD, /* the head is whole and valid: http1_head() */
	HTTP1_BODY, /* bytes of the body, decoded, borrowed from what was fed */
	HTTP1_DONE, /* the message is whole; http1_next() before the next one is fed */
	HTTP1_BAD,  /* refused: http1_fault(); nothing more may be fed */
};

struct http1_event {
	enum http1_what what;
	const char *body; /* HTTP1_BODY */
	size_t len;
};

struct http1_parser;

int http1_new(struct http1_parser **ret, enum http1_role, const struct http1_limits *); /* limits are copied.  0 or -ENOMEM */
void http1_free(struct http1_parser *); /* NULL is fine */
size_t http1_feed(struct http1_parser *, const char *bytes, size_t len, struct http1_event *ret);
/* Reads as far as the next event and says how many bytes that took: 0 to len (len may be 0: DONE of a message without a
 * body follows its HEAD without a byte).  Called again until MORE.  Those bytes, as they came, are what who passes the message on
 * passes on: after HEAD http1_head()->raw, from then on what each call has read (chunk lines and trailers among it; they
 * are read before they are judged whole, so the event MORE in the middle of a line says that they are valid so far).
 * The verdict does not depend on how the bytes are split.  No memory: BAD with status 500. */
void http1_end(struct http1_parser *, struct http1_event *ret);
/* The stream has ended: DONE (a response that lasts until then), MORE (between two messages), or BAD (cut off). */
void http1_next(struct http1_parser *); /* after DONE: forgets the message, keeps no buffer */
void http1_response_to(struct http1_parser *, bool head);
/* A response's parser, before each (it stays so until said otherwise): it answers a HEAD request, so it has no body whatever
 * its head says. */
bool http1_begun(const struct http1_parser *); /* a byte of the message has come (an empty line before it is none); not DONE */
const struct http1_head *http1_head(const struct http1_parser *); /* from HEAD until http1_next; else NULL.
 * After BAD too, where it was whole and its bytes were right: then it says what was sent, and may not say what that means. */
const struct http1_fault *http1_fault(const struct http1_parser *); /* after BAD */
size_t http1_held(const struct http1_parser *); /* bytes of memory that grow with what the peer sends */

#endif
