/* session/http1 - an HTTP/1 session: reads requests one after the other (wire/http1), gives each to a handler, and writes
 * the answers in that order; refuses what is too large, malformed or too slow with CCF's JSON error (CCF.md section 5), then
 * closes.  One exchange at a time: the next request is not read before the answer to this one is whole, so pipelined requests
 * wait in the connection.  What a handler does not take is not read from the client. */
#ifndef SESSION_HTTP1_H
#define SESSION_HTTP1_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "session/session.h"
#include "wire/http1.h"

struct env;
struct exchange;     /* session/exchange */
struct http1_record;

struct http1_handler {
	const char *name;
	bool raw; /* body() gets the bytes as they came (chunk lines, trailers), and the answer is passed on as it is: a guard */
	void (*begin)(struct exchange *, const struct http1_head *);
	/* A request whose head is valid; it stays until the exchange is over.  The answer may begin at once, or later. */
	ssize_t (*body)(struct exchange *, const char *bytes, size_t len);
	/* How many were taken; fewer than len, or 0: not now, exchange_resume() tells when.  Not called any more once the answer
	 * is whole: what is left of the body is then read and dropped (to HTTP1_LINGER at most, else the connection closes). */
	void (*end)(struct exchange *);     /* the request is whole; not called if the answer was whole before */
	void (*drained)(struct exchange *); /* it was exchange_full, and there is room again; may be NULL */
	void (*hungup)(struct exchange *);  /* the client ended its stream; what it asked for is still answered; may be NULL */
	void (*abort)(struct exchange *);
	/* Begun, and will never be whole: the connection is over.  Nothing can be said any more. */
};

struct http1_config {
	struct http1_limits limits;
	int64_t request_timeout; /* ms, -1: none.  For a head, from its first byte (the first one: from the session's beginning;
	                          * before that flow/conn watches), and for each further HTTP1_PACE bytes of a body that we are
	                          * ready to take: 408 */
	int64_t idle;            /* ms of silence between two requests, -1: none: closed without a word */
	const struct http1_handler *handler;
	void (*told)(void *arg, const struct http1_record *); /* a request is over, or was refused; may be NULL */
};

#define HTTP1_PACE   (16 * 1024)
#define HTTP1_LINGER (64 * 1024)

struct http1_setup {        /* session_ops.open's arg */
	const struct http1_config *cfg;
	void *arg;          /* the handler's, and told's: what belongs to this connection */
};

struct http1_record {       /* one request, for an access log and for counting; borrowed while told() runs */
	const struct http1_head *head;   /* NULL: it was refused before it had a valid one */
	const struct http1_fault *fault; /* NULL: it was well-formed */
	unsigned status;    /* of the answer; 0: none was given (cut) */
	uint64_t in, out;   /* bytes of the bodies: decoded and as sent (a guard's: of everything after the head) */
	int64_t us;         /* from the first byte of the request to the last of the answer */
	bool cut;           /* the answer did not become whole */
};

extern const struct session_ops session_http1;
extern const struct http1_handler http1_builtin;
/* GET / says where you are (address, interface, connection, TLS), POST / how long the body was, POST /echo says it back; for demos,
 * tests and benchmarks. */

void http1_error_json(char *to, size_t cap, const char *code, const char *text);
/* {"error":{"code":..,"message":..}}, the text shortened where it does not fit; cap at least 64. */
const char *http1_reason(unsigned status); /* "Not Found"; "" for one that has none */

#define HTTP1_CAPPED_TEXT "Service is currently busy and unable to serve new connections"
size_t http1_capped(char *to, size_t cap, unsigned retry_after);
/* The whole 503 that a connection above the soft cap gets (CCF.md section 4), with Retry-After in seconds and Connection: close. */

#endif
