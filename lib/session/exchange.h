/* session/exchange - what a handler (session/http1) says to the request it was given: a whole answer, one piece after the other,
 * or (a raw one, a guard) somebody else's bytes as they are.  Nothing waits; who has much to say stops when exchange_full and
 * goes on in drained().  Once the answer is whole or cut, the exchange is over for the handler; the next one's begin() is never
 * called from within these. */
#ifndef SESSION_EXCHANGE_H
#define SESSION_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct env;
struct exchange;
struct http1_head;


void exchange_answer(struct exchange *, unsigned status, const char *type, const char *fields, const void *body, size_t len);
/* A whole answer.  fields: more of them, each with its CRLF, or NULL; type NULL: no Content-Type.  Body is copied. */
void exchange_refuse(struct exchange *, unsigned status, const char *code, const char *fields, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* A whole answer with CCF's JSON error; the connection closes after it if the request was not read to its end. */
int exchange_begin(struct exchange *, unsigned status, const char *reason, const char *fields, int64_t length);
/* The head of an answer: Date, Connection and its framing are added.  reason NULL: the usual one.  length -1: not known
 * (chunked; for HTTP/1.0 until the end of the connection).  0 or -errno (no memory: the connection is cut). */
int exchange_say(struct exchange *, const void *bytes, size_t len);
/* Of its body; HEAD: dropped.  0 or -errno: -EMSGSIZE (beyond length) and -ENOBUFS (WRITER_MAX) have taken nothing, after the
 * others it is cut.  Legal then, as everything here: it does nothing. */
void exchange_said(struct exchange *); /* that was all of it; too little for its length: cut */
void exchange_cut(struct exchange *);  /* it cannot become whole: nothing more is sent, the connection is reset */

/* a raw one's */
int exchange_pass(struct exchange *, const void *bytes, size_t len); /* as they are; 0 or -errno */
void exchange_passing(struct exchange *, unsigned status);
/* The head that is being passed (not an interim one) has that status; what is passed from now on counts as its body. */
void exchange_passed(struct exchange *, bool keep); /* it is whole; keep: another request may follow */
void exchange_tunnel(struct exchange *);
/* After a 101 that was passed, the request being whole: no HTTP any more, body() gets all that comes, hungup() its end.  Cut
 * when nothing has passed either way for http1_config's idle. */
void exchange_untunnel(struct exchange *);          /* the other side has ended: so do we */

bool exchange_full(const struct exchange *);   /* say and pass no more for now: drained() comes */
void exchange_resume(struct exchange *);
/* body() would take more than it did.  It, and end(), may be called before this returns. */
void exchange_continue(struct exchange *);     /* the body is wanted: 100 Continue, if the client waits for it; else nothing */
bool exchange_begun(const struct exchange *); /* too late for another status */
bool exchange_last(const struct exchange *);   /* the connection closes after it */
bool exchange_whole(const struct exchange *);  /* the request has been read to its end, and body() took all of it */
const struct http1_head *exchange_request(const struct exchange *);
const struct env *exchange_env(const struct exchange *);
void *exchange_arg(const struct exchange *);

#endif
