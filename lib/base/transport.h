/* base/transport - how flow/ moves a connection's plaintext without knowing who owns the socket:
 * bare descriptors (net/stream), OpenSSL (tls/link), a session in this process (flow/conn).
 * Nothing here blocks.  A transport is closed once, by ops->close, which frees it. */
#ifndef BASE_TRANSPORT_H
#define BASE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct env;
struct transport;

enum { TP_READ = 1, TP_WRITE = 2 };

struct transport_ops {
	const char *name;
	int (*handshake)(struct transport *);
		/* 0: done (always, where there is none).  -EAGAIN: call again when want() says so.
		 * Else -errno (-EPROTO for TLS), and reason() tells. */
	ssize_t (*read)(struct transport *, void *buf, size_t cap);
		/* >0 plaintext bytes.  0: the peer's end of stream (then ended is set, and bare_end if nothing
		 * announced it).  -EAGAIN.  -EACCES: the peer refuses us (a handshake that failed late); reason() tells.
		 * Else -errno; ECONNRESET, EPIPE, ETIMEDOUT also set broken. */
	ssize_t (*write)(struct transport *, const void *buf, size_t len);
		/* >0: that many bytes are now the transport's.  -EAGAIN: none, wait.  Else as read. */
	int (*flush)(struct transport *);
		/* Sends what write() left gathered.  0: nothing is pending below.  -EAGAIN: wait to write.  Else -errno. */
	int (*finish)(struct transport *);
		/* Ends our direction: close_notify where there is one, then the end of stream.  Call again on
		 * -EAGAIN.  0: done. */
	unsigned (*want)(const struct transport *, unsigned ops);
		/* The poll interest (TP_READ on rfd, TP_WRITE on wfd) of one who waits for these operations:
		 * a TLS read may wait for writing. */
	int64_t (*unsent)(const struct transport *);
		/* Bytes written that the peer's kernel has not acknowledged (SIOCOUTQ, and what lies gathered);
		 * 0 where that means nothing. */
	size_t (*held)(const struct transport *, unsigned op);
		/* Bytes of memory kept for it now.  TP_READ: come from the peer (or said by a session), not yet read from
		 * here.  TP_WRITE: taken by write(), not yet passed to the kernel.  NULL: it keeps none. */
	void (*facts)(const struct transport *, struct env *);	/* adds SSL_* and CCF_ALPN; may be NULL */
	const char *(*reason)(const struct transport *);	/* why the last call failed, or NULL: strerror */
	void (*close)(struct transport *, bool cut);
		/* cut: the peer shall see a reset where the socket has one (SO_LINGER 0), and never a
		 * close_notify.  Closes the descriptors it owns and frees. */
};

struct transport {
	const struct transport_ops *ops;
	int rfd, wfd;		/* what to poll, the same for a socket; -1: nothing (a session) */
	unsigned ready;		/* what may be tried: the poller sets bits, a call that would block clears its own;
				 * while a bit is clear the call answers -EAGAIN without a system call */
	int broken;		/* the first of ECONNRESET, EPIPE, ETIMEDOUT that any call met; stays: the kernel says it once */
	bool ended, bare_end;	/* the peer's end of stream was read; without a close_notify */
	uint64_t in, out;	/* plaintext bytes read and written */
};

#endif
