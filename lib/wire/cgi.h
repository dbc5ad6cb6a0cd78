/* wire/cgi - RFC 3875 as bytes: which variables a request becomes, and what a script's header says. */
#ifndef WIRE_CGI_H
#define WIRE_CGI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct env;
struct http1_head;

int cgi_variables(struct env *to, const struct http1_head *);
/* Adds to `to` (whose cgi flag is set, and which has the connection's variables) GATEWAY_INTERFACE, SERVER_PROTOCOL,
 * SERVER_SOFTWARE, SERVER_NAME, SERVER_PORT, REQUEST_METHOD, REQUEST_URI, SCRIPT_NAME (empty), PATH_INFO (decoded; %00, %2f
 * and a segment that is ".." are refused), QUERY_STRING, REMOTE_ADDR, REMOTE_HOST, REMOTE_PORT, HTTPS=on where there is TLS,
 * AUTH_TYPE and REMOTE_USER where a client's certificate was verified, CONTENT_TYPE, CONTENT_LENGTH (not of a chunked body),
 * and HTTP_* for every other field but Proxy, Authorization, Proxy-Authorization, Connection, Transfer-Encoding, and any
 * whose name has something else than letters, digits and '-' (two names would become one).  Repeated ones are joined by ", "
 * (Cookie by "; ").  0; -E2BIG: it does not fit (431); -EINVAL: a path that cannot be said (400); -ENOMEM. */

#define CGI_HEAD_MAX  (64 * 1024)
#define CGI_COUNT_MAX 256

struct cgi_head {               /* what the script's header says, once it is whole */
	unsigned status;        /* 200 if it said none; 302 with a Location and none */
	char reason[64];        /* as it said, or "" (a longer one too) */
	int64_t length;         /* -1: not said */
	char *fields;           /* "Name: value\r\n" ... of the others, NUL-terminated, ours */
};

struct cgi_parser {             /* zeroed before the first byte */
	char *raw;              /* ours: what came, while it is not whole */
	size_t len, cap;
	size_t line;            /* private: where the line begins that is not ended yet */
	unsigned count, once;   /* private: lines; which of those that stand once there were */
	bool whole;
	struct cgi_head head;
	char fault[128];        /* what is wrong with it, in words */
};

int cgi_read(struct cgi_parser *, const char *bytes, size_t len, size_t *ret_used);
/* 0: read on.  1: the header is whole, *ret_used bytes of these belong to it, the rest is body.  -EBADMSG: fault says what is
 * wrong: no field at all, a line without a colon, a control character, a bad Status or Content-Length, a field twice that stands
 * once, too large.  Lines may end with LF or CRLF.  Connection, Transfer-Encoding, Keep-Alive, Upgrade, Trailer and Date are ours:
 * dropped.  -ENOMEM.  After 1 or an error it is not called again. */
void cgi_parser_free(struct cgi_parser *);

#endif
