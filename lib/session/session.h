/* session/session - what is said in plaintext on one connection.  A session gets bytes and writes bytes to its
 * writer; it never sees a socket or TLS, and never waits: it says until when it would, and is told.  It is made when the
 * first byte comes. */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct env;
struct session;
struct writer;

struct session_ops {
	const char *name;
	int (*open)(struct session **ret, struct writer *, const struct env *, void *arg);
	/* writer, env and arg (what kind of thing it is, the ops say) are borrowed until close.  0 or -errno (the connection is
	 * then reset). */
	ssize_t (*data)(struct session *, const char *bytes, size_t len);
	/* How many were taken; only called while the writer is not full.  Fewer than len, or 0: not now, writer_wake() tells when
	 * to ask again.  -errno resets the connection. */
	void (*drained)(struct session *); /* the writer had been full and has room again; may be NULL */
	void (*end)(struct session *); /* the peer has sent its end of stream; writing goes on until writer_close */
	void (*drain)(struct session *); /* we are ending: finish what is under way, begin nothing; may be NULL */
	int64_t (*deadline)(const struct session *);
	/* CLOCK_NEVER, or when to call late (clock_ms); may be NULL.  Asked after each call. */
	void (*late)(struct session *); /* that time has come */
	size_t (*held)(const struct session *); /* bytes of memory that grow with what the peer sends; NULL: none */
	void (*close)(struct session *); /* the connection is over; frees */
};

extern const struct session_ops session_echo; /* says back what it hears, closes when the peer does.  arg: NULL */
extern const struct session_ops session_capped;
/* Above the soft cap: at the first bytes, whatever they are, says its message and closes.  arg: a struct capped, or NULL */

struct capped {
	const char *message; /* len bytes */
	size_t len;
};

#endif
