/* session/session - what is said in plaintext on one connection.  A session gets bytes and writes bytes to its
 * writer; it never sees a socket or TLS.  It is made when the first byte comes. */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include <stddef.h>

struct env;
struct session;
struct writer;

struct session_ops {
	const char *name;
	int (*open)(struct session **ret, struct writer *, const struct env *);
	/* writer and env are borrowed until close.  0 or -errno (the connection is then reset). */
	int (*data)(struct session *, const char *bytes, size_t len);
	/* All of it is taken; only called while the writer is not full.  0; -errno resets the connection. */
	void (*drained)(struct session *); /* the writer had been full and has room again; may be NULL */
	void (*end)(struct session *); /* the peer has sent its end of stream; writing goes on until writer_close */
	void (*close)(struct session *); /* the connection is over; frees */
};

extern const struct session_ops session_echo; /* says back what it hears, closes when the peer does */
extern const struct session_ops session_capped; /* above the soft cap: closes at the first bytes, whatever they are */

#endif
