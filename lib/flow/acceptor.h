/* flow/acceptor - listening interfaces: accept, admit, hand on.  What becomes of a connection is the sink's business:
 * a hub (--to), a COMMAND, or our own standard input and output. */
#ifndef FLOW_ACCEPTOR_H
#define FLOW_ACCEPTOR_H

#include <sys/queue.h>

#include "flow/admission.h"
#include "flow/hub.h"
#include "loop/children.h"
#include "net/addr.h"
#include "net/endpoint.h"

struct text;

#define ACCEPT_GONE_MS 5000 /* after the last consumer has gone, the kernel refuses again */

/* as they stand in the reason of `closed` on a link (CCF.md section 4) */
enum accept_error { ACCEPT_PARSING, ACCEPT_PAYLOAD, ACCEPT_HEADER, ACCEPT_ERRORS };

enum accept_sink { SINK_STDIO, SINK_COMMAND, SINK_HUB };

struct acceptor_config {
	struct reactor *reactor;
	enum accept_sink sink;
	struct hub *hub;	      /* SINK_HUB */
	struct children *children;    /* SINK_COMMAND */
	char *const *argv;	      /* SINK_COMMAND */
	unsigned soft, hard;	      /* caps of each interface; 0: none */
	int backlog;
	const char *id_prefix;	      /* NULL, or what stands before NAME#N with a slash */
	const struct cidr *allow, *deny;
	size_t n_allow, n_deny;
	void (*stdio)(void *arg, int fd, const struct env *); /* SINK_STDIO: a connection; fd is yours */
	void (*listening)(void *arg); /* every interface listens now, for the first time; may be NULL */
	void (*failed)(void *arg);    /* one cannot listen (it has said why) */
	void (*idle)(void *arg);      /* while closing: the last connection has gone */
	void *arg;
};

struct acceptor { /* one interface */
	struct acceptors *all;
	char name[sizeof(((struct addr *)0)->name)];
	struct endpoint ep; /* LISTENING */
	int fd;		    /* its socket, borrowed from ep, or inherited (ours) */
	bool inherited;	    /* from LISTEN_FDS: it listens already */
	bool listens;
	struct sockaddr_any local;
	struct watch watch;
	struct admission caps;
	uint64_t denied;    /* ever, by --allow and --deny */
	uint64_t errors[ACCEPT_ERRORS];
	uint64_t next_id;
	TAILQ_ENTRY(acceptor) link;
};

struct acceptors {
	struct acceptor_config cfg;
	TAILQ_HEAD(, acceptor) list;
	struct timer gone;  /* the last consumer has gone: stop listening when it fires */
	struct timer retry; /* out of descriptors: look again */
	bool starved;
	bool had_credit, told_listening, closing, paused;
	unsigned open;	    /* connections on the lists of all interfaces */
	unsigned active, peak; /* those, and the one on standard input and output; the most there ever were */
	struct acceptor *stdio; /* whose connection that is */
	struct accepted *accepted; /* private: every connection that is open, for the end */
};

void acceptors_init(struct acceptors *, const struct acceptor_config *);
int acceptors_bind(struct acceptors *, const struct addr *, int family, char *msg, size_t cap,
    void (*trace)(struct endpoint *, enum endpoint_state, enum endpoint_state));
/* 0: bound.  Else an exit status (base/exit.h), and msg. */
int acceptors_inherit(struct acceptors *, int fd, const char *name, char *msg, size_t cap); /* takes fd; as above */
void acceptors_start(struct acceptors *);
void acceptors_update(struct acceptors *); /* credit came or went */
void acceptors_pause(struct acceptors *, bool on); /* SINK_STDIO: one at a time */
void acceptors_close(struct acceptors *); /* no new ones: the sockets are closed; idle() when open is 0 (perhaps at once) */
void acceptors_abandon(struct acceptors *); /* frees what is left; COMMANDs get a TERM */

/* for the control socket */
void acceptors_rows(const struct acceptors *, struct text *); /* rows_json of those on the lists */
void acceptors_metrics(const struct acceptors *, struct text *);
void acceptors_node_metrics(const struct acceptors *, struct text *); /* GET /node/metrics: CCF's JSON */
const char *accept_error_word(enum accept_error);

#endif
