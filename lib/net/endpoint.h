/* net/endpoint - the TCP state machine (the states of CCF's TCPImpl): listen, connect, peer.
 * It waits for nothing itself: it is stepped with an event and answers with what it needs: a
 * descriptor, an interest, a deadline, or a lookup.  One table of legal moves behind one door; an
 * illegal move aborts with both names. */
#ifndef NET_ENDPOINT_H
#define NET_ENDPOINT_H

#include "net/addr.h"
#include "net/handoff.h"
#include "net/resolve.h"

enum endpoint_state {
	EP_FRESH,
	EP_LISTENING_RESOLVING,
	EP_LISTENING,
	EP_BINDING,
	EP_BINDING_FAILED,
	EP_CONNECTING_RESOLVING,
	EP_CONNECTING,
	EP_CONNECTED,
	EP_DISCONNECTED,
	EP_RECONNECTING,
	EP_RESOLVING_FAILED,
	EP_LISTENING_FAILED,
	EP_CONNECTING_FAILED,
};

struct endpoint_plan { /* what to reach, and how; copied in */
	struct addr target;
	const char *bind_host;	      /* NULL: the kernel chooses; borrowed */
	int family;		      /* AF_UNSPEC, AF_INET, AF_INET6 */
	int64_t connect_timeout;      /* ms for each address; -1 none */
	int64_t user_timeout;	      /* TCP_USER_TIMEOUT in ms; -1 none */
	unsigned retries;	      /* how often to begin again after a failure */
	int64_t retry_min, retry_max; /* ms; full jitter between 0 and min(max, min << n) */
};

enum endpoint_event {
	EP_START, /* FRESH: begin to connect; after a failure: again, now */
	EP_EVENT, /* the descriptor is ready */
	EP_TIME,  /* the deadline passed */
};

struct endpoint_need {		   /* the answer: what to wait for next */
	int fd;			   /* -1: none; wait for writing */
	int64_t deadline;	   /* clock_ms, CLOCK_NEVER */
	const struct addr *lookup; /* NULL, or, said once: ask the resolver for this (and
				    * plan.family) and give the answer to endpoint_resolved */
	bool lookup_passive;
};

struct endpoint {
	enum endpoint_state state; /* moved by endpoint.c only */
	int fd;			   /* ours while CONNECTING, CONNECTED or LISTENING; -1 else */
	int error;	/* errno of the last failure; 0 if it was a name (then gai is set) */
	int gai;	/* EAI_* of the last failure */
	bool timed_out; /* the last failure was our deadline */
	struct sockaddr_any peer;	    /* the address under way or reached */
	int64_t took_resolve, took_connect; /* us, of the last try */
	void (*trace)(struct endpoint *, enum endpoint_state from, enum endpoint_state to);
	void (*note)(struct endpoint *, const char *text);
	/* Both may be NULL.  note: what else is worth a line: an address passed over or failed
	 * with others left. */
	void *owner;
	/* private */
	struct endpoint_plan plan;
	struct answer *answer;	   /* ours */
	const struct addr *awaits; /* the lookup that is under way */
	bool said;		   /* and that it was asked for */
	struct handoff_bound path; /* of a listening unix address; path.fd is fd too */
	size_t next;		   /* index of the next address */
	bool bound_known;
	struct sockaddr_any bound;
	struct addr bind_addr;
	unsigned tried;
	int64_t deadline, began;
};

const char *endpoint_state_name(enum endpoint_state); /* "CONNECTING_RESOLVING" */
void endpoint_init(struct endpoint *, const struct endpoint_plan *);
/* The plan may be NULL: to listen, or for endpoint_peer. */
void endpoint_close(struct endpoint *);
/* Closes fd, frees; legal in any state; no move is traced. */

void endpoint_step(struct endpoint *, enum endpoint_event, int64_t now, struct endpoint_need *);
/* After EINPROGRESS it asks once more before it says "wait": on loopback that is done. */
void endpoint_resolved(
    struct endpoint *, const struct answer *, int64_t now, struct endpoint_need *);
/* The answer to need.lookup (of the target, or of --bind while BINDING). */
bool endpoint_over(const struct endpoint *);
/* CONNECTED, LISTENING, or failed with no retry left.  A failure with a retry left keeps its FAILED
 * state until need.deadline and then moves on (BINDING_FAILED -> BINDING, ... ->
 * CONNECTING_RESOLVING). */
int endpoint_exit(const struct endpoint *);
/* The exit status (base/exit.h) of the last failure: 6, 7, 28, 45; 0 when CONNECTED. */
const char *endpoint_why(const struct endpoint *, char *buf, size_t cap);
/* "cannot connect to ...: Connection refused" */
int endpoint_take_fd(struct endpoint *);
/* The descriptor is the caller's (of a unix listener a copy: endpoint_close removes the file); the
 * state stays. */

int endpoint_listen(struct endpoint *, const struct addr *, int family);
/* FRESH -> LISTENING_RESOLVING -> LISTENING: resolves (blocking: start-up) and binds the first
 * address that works; the socket is bound and tuned, not listening yet (net/socket does that), but
 * for unix: and fd: ones.  :PORT is dual-stack for AF_UNSPEC, [::]:PORT is IPv6 alone.  0; -errno
 * with RESOLVING_FAILED or LISTENING_FAILED (endpoint_exit and endpoint_why tell). */
void endpoint_peer(struct endpoint *, int fd); /* FRESH -> CONNECTED; takes fd */
void endpoint_lost(struct endpoint *);	/* CONNECTED -> DISCONNECTED; closes fd if still held */
void endpoint_again(struct endpoint *); /* DISCONNECTED -> RECONNECTING -> FRESH; then EP_START */
int64_t endpoint_backoff(const struct endpoint_plan *, unsigned n);
/* ms to wait before the n-th time again, from 0: full jitter, so that many who lost the same peer do not come back
 * together. */

#endif
