/* flow/receiver - UDP interfaces: bind, receive in batches, admit, give to the sink.  The counterpart of flow/acceptor where there
 * are no connections.  What the sink sees has passed --allow, --deny and the rates, is whole, and came from somebody who can be
 * answered; everything else is counted (ccfnet_datagrams_dropped) and summed up in the log.
 * Two that answer each other could go on for ever: dropped (loop) is what comes from a service that answers everything (RFC 862 to
 * 868: ports 7, 13, 17, 19, 37), or seems to come from ourselves, and what was sent to a broadcast or multicast address.
 * A socket whose sending side is full is not read for a moment, so that a burst of answers gets through; then they are
 * dropped, for they may be for hosts that were invented, and a socket waits seconds for each of these to be found. */
#ifndef FLOW_RECEIVER_H
#define FLOW_RECEIVER_H

#include <sys/queue.h>

#include "flow/admission.h"
#include "flow/rates.h"
#include "loop/reactor.h"
#include "net/addr.h"
#include "net/datagram.h"
#include "net/peers.h"

struct record;
struct text;

#define RECEIVER_PATIENCE_MS 20

struct receiver;

struct receivers_config {
	struct reactor *reactor;
	const struct cidr *allow, *deny; /* borrowed for good */
	size_t n_allow, n_deny;
	struct rates_config rate;
	size_t buffer; /* bytes of receive buffer wanted of the kernel, each interface; twice that for what is sent */
	bool asked;    /* by the user: he is told if it is less */
	unsigned hard; /* cap on sessions of each interface, for its admission; 0: none */
	int64_t patience; /* ms that a full socket is waited for; 0: RECEIVER_PATIENCE_MS */
	bool answers_all; /* the sink answers whatever comes: what comes from the port of an interface of ours, wherever from, is
			   * dropped (loop), for a twin would answer our answer; below 32768, where no client is by chance */
	void (*take)(void *arg, struct receiver *, struct datagram *const *, unsigned n);
	/* n >= 1, in the order in which they came.  Borrowed for the call, but what receiver_send keeps. */
	void (*trace)(void *arg, struct receiver *, const struct datagram *, const char *what);
	/* NULL: no trace.  what: "in", "out", or why it was dropped */
	void *arg;
};

enum receiver_state {
	RECEIVER_READING,
	RECEIVER_SENDING, /* the socket is full: what is kept goes out first */
	RECEIVER_RESTING, /* reading failed: it is tried again in a moment */
	RECEIVER_STOPPED  /* not started, or receivers_stop: nothing is read; what is kept still goes out */
};

struct receiver { /* one interface */
	struct receivers *all;
	char name[sizeof(((struct addr *)0)->name)];
	int fd; /* ours */
	struct sockaddr_any local;
	enum receiver_state state; /* moved by receiver.c only */
	struct watch watch;
	struct task more; /* there was more than a turn's worth */
	struct timer rest;
	struct datagrams *batch;
	struct datagram *kept[DATAGRAM_BATCH]; /* not sent yet: kept_at .. kept_n, in batch */
	unsigned kept_at, kept_n;
	struct admission caps; /* of the sink's sessions */
	struct peers peers;    /* the sink's sessions */
	uint64_t next_id;      /* of the sink's sessions */
	/* The sink's: sessions whose place is free, and their COMMAND is not known to have ended.  leaving: it was told; a newcomer
	 * is refused while as many are leaving as the cap allows open.  closing: its socket ended just now, and most exit. */
	unsigned closing, leaving;
	bool told_full;	       /* the sink's: since one of them ended it was said that there is no room for more */
	uint32_t lost;	       /* datagram_lost when it was last asked */
	TAILQ_ENTRY(receiver) link;
};

struct receivers {
	struct receivers_config cfg;
	TAILQ_HEAD(, receiver) list;
	struct rates rates;
	bool stopped;
};

void receivers_init(struct receivers *, const struct receivers_config *);
int receivers_bind(struct receivers *, const struct addr *, int family, char *msg, size_t cap);
/* UDP at HOST:PORT (resolved, the first address that can be bound), :PORT (one dual-stack socket, 0.0.0.0 where there is no
 * IPv6) or fd:N (a copy of it).  0; else an exit status (base/exit.h), and msg. */
int receivers_inherit(struct receivers *, int fd, const char *name, char *msg, size_t cap); /* takes fd, in any case; as above */
void receivers_start(struct receivers *);
void receivers_stop(struct receivers *); /* nothing is read any more; sends still work.  Legal twice */
void receivers_let_go(struct receivers *); /* before an end or an exec: what is kept goes now, or is dropped */
void receivers_close(struct receivers *); /* frees all; legal on a zeroed one.  The sink's sessions must be gone */
unsigned receiver_send(struct receiver *, struct datagram *const *, unsigned n, bool keep);
/* Counts (out, dropped) and skips those that the kernel refuses.  How many went.  The socket full: keep: the rest (of this
 * receiver's own batch, n <= DATAGRAM_BATCH) goes out when it can, but is dropped after a moment, and no more is read until then;
 * else they are dropped (send-full).  In state SENDING everything that is not kept is dropped the same way. */
void receiver_drop(struct receiver *, const struct datagram *, const char *reason); /* counts and traces what the sink leaves */
void receivers_ask_lost(struct receivers *); /* counts what the kernel lost until now (dropped: kernel) */
void receivers_metrics(struct receivers *, struct text *); /* datagrams, bytes, dropped: with what the kernel lost until now */

/* across an exec (cmd/renew): a line "socket fd=N name=... next_id=N accepted=N refused=N peak=N lost=N" each */
int receivers_save(const struct receivers *, struct text *);
int receivers_restore(struct receivers *, const struct record *, char *msg, size_t cap);
/* One of these lines: takes that descriptor over (datagram_prepare again).  As receivers_inherit. */
struct receiver *receivers_find(struct receivers *, const char *name); /* or NULL */

struct receiver *receiver_new(struct receivers *, int fd, const char *name); /* private; takes fd, prepared.  NULL: no memory */

#endif
