/* flow/peer_session - a session for each peer that sends datagrams: a COMMAND whose descriptors 0 and 1 are one AF_UNIX SEQPACKET
 * socket, on which one read is one datagram.  A session begins with a peer's first datagram, unless its interface is at its hard
 * cap, and ends when the COMMAND exits or closes its socket, when the peer was silent for too long, or when it is cut; who comes
 * back gets a new one.  The peer is its address and port, and ours that it asked.
 * - the queue of a peer is the kernel's, between us and its COMMAND: bounded in bytes; what does not fit is dropped;
 * - an empty datagram is not delivered (it would read as the end), only counted; an empty one of the COMMAND's is sent;
 * - until a second datagram of a peer has come after our first answer, it is sent at most amplification bytes for each of its own
 *   (RFC 9000, section 8.1): its address may be a victim's.  An empty datagram is a byte there. */
#ifndef FLOW_PEER_SESSION_H
#define FLOW_PEER_SESSION_H

#include "flow/receiver.h"
#include "loop/children.h"

struct record;
struct text;

#define PEER_GRACE_MS 5000 /* a COMMAND whose session is over gets so long until SIGTERM, and as long again until SIGKILL */

struct peer_sessions_config {
	struct reactor *reactor;
	struct children *children;
	char *const *argv;     /* COMMAND */
	const char *id_prefix; /* NULL, or what stands before NAME#N with a slash */
	int64_t idle;	       /* ms without a datagram either way; -1: none */
	int64_t grace;	       /* ms; 0: PEER_GRACE_MS */
	int64_t starts;	       /* sessions begun a second; 0: no limit.  Those who have one shall not starve for newcomers */
	int queue;	       /* bytes, as the kernel counts them, that may wait for a COMMAND */
	int64_t amplification; /* bytes out for each in to a peer that has not shown itself; -1: no limit */
	struct receivers *receivers; /* where they come from: their admission, peers and next_id are ours to use */
	void (*idle_now)(void *arg); /* while draining: the last session and the last COMMAND have gone */
	void *arg;
};

struct peer_session;

struct peer_sessions {
	struct peer_sessions_config cfg;
	TAILQ_HEAD(, peer_session) open;    /* those with a peer */
	TAILQ_HEAD(, peer_session) leaving; /* those whose session is over and whose COMMAND is not, the longest waited for first */
	unsigned n_open; /* of all interfaces */
	struct bucket starts;
	struct timer timer; /* the next of them to be idle, or out of grace */
	struct datagrams *batch; /* what a COMMAND says */
	bool draining;
};

int peer_sessions_open(struct peer_sessions *, const struct peer_sessions_config *); /* 0 or -ENOMEM */
void peer_sessions_take(void *arg, struct receiver *, struct datagram *const *, unsigned n); /* receivers_config.take; arg: these */
void peer_sessions_drain(struct peer_sessions *);
/* After receivers_stop: every COMMAND reads the end of its input behind what is queued; what it still says is sent; idle_now() when
 * the last has exited, perhaps at once.  Legal twice */
void peer_sessions_now(struct peer_sessions *); /* the drain has lasted too long: ends every session (drain-timeout), TERM to all */
void peer_sessions_abandon(struct peer_sessions *); /* frees all; COMMANDs get a TERM; legal on a zeroed one */
bool peer_sessions_cut(struct peer_sessions *, const char *id); /* DELETE /connections/ID: whether there was one */
void peer_sessions_rows(const struct peer_sessions *, struct text *); /* rows_json; state: "open", "draining" */
void peer_sessions_metrics(const struct peer_sessions *, struct text *);
void peer_sessions_node_metrics(const struct peer_sessions *, struct text *); /* CCF's JSON, as acceptors_node_metrics says it */

/* across an exec (cmd/renew): "session ..." for each that is open, "leaving ..." for each that is not */
int peer_sessions_save(const struct peer_sessions *, struct text *);
int peer_sessions_restore(struct peer_sessions *, const struct record *, char *msg, size_t cap);
/* One of these lines, after the "socket" lines: takes its descriptor and its process over.  0; else an exit status, and msg. */

#endif
