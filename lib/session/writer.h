/* session/writer - where a session puts the plaintext it answers with.  Bounded: from the high mark on it is
 * full, and while it is, what the peer sends is not read.  A write is taken whole or not at all. */
#ifndef SESSION_WRITER_H
#define SESSION_WRITER_H

#include <stdbool.h>
#include <stddef.h>

#define WRITER_HIGH (64 * 1024) /* bytes waiting: full from here on */
#define WRITER_MAX  (1024 * 1024) /* bytes waiting: no more are taken */

struct writer {
	char *bytes; /* ours */
	size_t at, len, cap;
	bool closed; /* the session has said its last */
	void (*woken)(struct writer *); /* something to send came outside of session_ops; may be NULL */
	void *owner;
};

int writer_put(struct writer *, const void *bytes, size_t len);
/* 0: copied.  -ENOBUFS: it does not fit under WRITER_MAX; nothing was taken.  -EPIPE: after writer_close.  -ENOMEM. */
void writer_close(struct writer *); /* what was put is still sent, then our end of stream */
bool writer_full(const struct writer *);
size_t writer_take(struct writer *, void *to, size_t cap); /* for the one who sends: moves bytes out */
void writer_free(struct writer *);

#endif
