/* session/writer - where a session puts the plaintext it answers with.  Bounded: from the high mark on it is
 * full, and while it is, what the peer sends is not read.  A write is taken whole or not at all.  Who has much to say
 * stops when it is full and goes on in session_ops.drained: what is put beyond the high mark no budget can prevent. */
#ifndef SESSION_WRITER_H
#define SESSION_WRITER_H

#include <stdbool.h>
#include <stddef.h>

#define WRITER_HIGH (64 * 1024) /* bytes waiting: full from here on, at the latest */
#define WRITER_MAX  (1024 * 1024) /* bytes waiting: no more are taken */

struct writer {
	char *bytes; /* ours */
	size_t at, len, cap;
	size_t high; /* full from here on: less than WRITER_HIGH where the budget is tight; 0: WRITER_HIGH */
	bool closed; /* the session has said its last */
	bool stuffed; /* it was full, or did not take a write, and drained was not called yet */
	int broken;   /* the session cannot go on: an errno; the connection is reset once what was put has been sent */
	const char *reason; /* why the session closed, one static word for the closing line and for `closed` on a link; or NULL */
	int status;   /* with it: base/exit.h */
	void (*woken)(struct writer *); /* something to send came outside of session_ops; may be NULL */
	void *owner;
};

int writer_put(struct writer *, const void *bytes, size_t len);
/* 0: copied.  -ENOBUFS: it does not fit under WRITER_MAX, nothing was taken (drained comes, if something waits).
 * -EPIPE: after writer_close.  -ENOMEM. */
void writer_close(struct writer *); /* what was put is still sent, then our end of stream */
void writer_break(struct writer *, int error); /* what was put is still sent, then the connection is reset */
void writer_say_why(struct writer *, const char *reason, int status); /* the first one holds */
void writer_wake(struct writer *); /* the session takes more than when it was asked last, or its deadline has moved */
bool writer_full(const struct writer *);
size_t writer_take(struct writer *, void *to, size_t cap); /* for the one who sends: moves bytes out */
bool writer_drained(struct writer *, size_t high);
/* For the one who sends, after a take; high: the mark from now on.  Was it full, and is not any more?  True once. */
void writer_free(struct writer *);

#endif
