/* flow/relay - two transports joined, both directions, until both are done.
 * - an end of stream on one side becomes an end of stream on the other, after what came before it;
 * - a cut stays a cut: if any call on a side failed, the other side is reset too; but what b said before is delivered first,
 *   and where that was all (its end of stream came), a only learns that b does not listen any more: what it still sends is
 *   dropped for a while, it is closed without a reset, and the status says that something was cut;
 * - bounded: a direction holds at most one read (128 KiB, less where the budget is tight); while it does, its source is
 *   not read; a session that answers more than is taken is not told more;
 * - a clean end is reported only when the last byte has been acknowledged on both sides.
 * Side a is the peer (the client of a server, the server of a client), b what stands behind us. */
#ifndef FLOW_RELAY_H
#define FLOW_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct charge;
struct reactor;
struct relay;
struct transport;

struct relay_end {
	const char *reason; /* one word: done, reset, idle ... */
	int status;         /* base/exit.h; 0 only if nothing was cut */
	int error;          /* the errno behind it, or 0 */
	const char *why;    /* what the transport that failed says of it, or NULL; only until done() returns */
	const char *by;     /* who ended it: peer, inner, us */
	uint64_t in, out;   /* plaintext bytes from and to the peer */
	bool more;          /* b had more for a, or had not ended: with status 0, the peer left (peer_end) */
};

struct relay_hooks {    /* what a side cannot know by itself; each may be NULL */
	int (*is_end)(void *arg);
	/* The stream gave its end: 1: a real one, 0: it was cut, -EAGAIN: not known yet, relay_kick comes. */
	int (*announce)(void *arg);
	/* Before our end of stream is sent on this side: 0: go on, -EAGAIN: not yet, relay_kick comes. */
	void (*cut)(void *arg);
	/* The relay is being cut; this side is closed next. */
	void *arg;
};

enum relay_peer_end {   /* what the end of a's stream says, while b has not ended */
	RELAY_PEER_HALF, /* that was all from there: b may go on talking */
	RELAY_PEER_IDLE, /* it is over when b has had nothing to say for RELAY_LINGER_MS */
	RELAY_PEER_GONE, /* it is over: what b still has is not for this peer (relay_rest) */
};

struct relay_linger {       /* it is over when the first of them is */
	int64_t quiet;      /* ms without a byte (0: RELAY_LINGER_MS from the beginning, whatever comes) */
	int64_t longest;    /* ms, from the beginning (0: RELAY_LINGER_MS) */
	uint64_t bytes;     /* 0: RELAY_LINGER_BYTES */
};

struct relay_config {
	struct transport *a, *b; /* taken */
	struct relay_hooks a_hooks, b_hooks;
	bool indifferent; /* b may stop listening (a COMMAND, a session): then what a still sends is read and dropped */
	bool stdio;       /* b is our standard input and output: what came before a cut is still written */
	bool keep_b;      /* b is not ended, nor closed at the end: it is the caller's again */
	enum relay_peer_end peer_end;
	bool bare_is_cut; /* an end of stream without close_notify is a cut */
	int64_t idle, half_close, flush; /* ms, -1: none.  idle is also how long a may take nothing of what is there for it */
	bool b_has_deadlines; /* b (a session) ends it by itself when nothing is said: idle and half_close count only while a
	                       * does not take what is there for it */
	struct relay_linger linger; /* after our end of stream, where nobody reads what a still says; 0: the usual */
	struct charge *charge; /* what is held is told to it (flow/budget), and is 0 before done(); NULL: no budget */
	const void *first; /* bytes for a that come before b's (copied), or NULL */
	size_t first_len;
	void (*done)(void *arg, const struct relay_end *);
	/* Called once, from the reactor or from relay_cut; both transports are closed (b: see keep_b), the relay must not be
	 * used any more. */
	void *arg;
};

#define RELAY_LINGER_MS    2000
#define RELAY_LINGER_BYTES (256 * 1024)

int relay_start(struct relay **ret, struct reactor *, const struct relay_config *);
/* 0: begins in this turn.  -ENOMEM: nothing was taken. */
void relay_kick(struct relay *);     /* a hook would answer differently now; legal from anywhere */
void relay_cut(struct relay *, const char *reason, int status);
/* Ends it now, both sides reset; done() is called before this returns. */
size_t relay_share(const struct relay *); /* how many bytes it may hold; SIZE_MAX without a budget */
size_t relay_rest(const struct relay *, char *to, size_t cap);
/* In done(): bytes read from b that a never took (keep_b), at most RELAY_REST_MAX. */
#define RELAY_REST_MAX (128 * 1024)

struct relay_view {         /* a live one, as it is now */
	uint64_t in, out;   /* plaintext bytes from and to the peer */
	int64_t moved_at;   /* clock_ms: when a byte moved last */
	size_t held;        /* bytes of memory */
};
void relay_look(const struct relay *, struct relay_view *ret);

#endif
