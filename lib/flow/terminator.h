/* flow/terminator - ccf-tlsterm's flow: takes connections, lets a transport be wrapped around each (TLS, or none), and
 * gives the plaintext to a sink: another link, a COMMAND, or a session in this process. */
#ifndef FLOW_TERMINATOR_H
#define FLOW_TERMINATOR_H

#include "flow/budget.h"
#include "flow/hub.h"

struct capped;
struct conn_row;
struct env;
struct http;
struct page;
struct relay_end;
struct session_ops;
struct starter;
struct transport;

enum term_sink { TERM_TO_HUB, TERM_TO_COMMAND, TERM_TO_SESSION, TERM_TO_STDIO };

struct terminator_config {
	struct reactor *reactor;
	int (*wrap)(void *arg, int rfd, int wfd, bool owns, struct transport **ret);
	/* 0 or -errno, and then the descriptors are still the caller's */
	enum term_sink sink;
	struct hub *to;			/* TERM_TO_HUB */
	struct starter *starter;	/* TERM_TO_COMMAND */
	const char *command;		/* its name, for messages */
	const struct session_ops *session; /* TERM_TO_SESSION */
	struct http *http;              /* TERM_TO_SESSION with session_http1: what becomes of requests; else NULL */
	const struct capped *capped;    /* what a connection above the soft cap is told at its first bytes, in place of going to
	                                 * the sink; NULL: it goes there, but a session is closed */
	int64_t capped_first;           /* ms from accept to those bytes, -1: idle's */
	int64_t handshake, idle, half_close, flush; /* ms, -1: none */
	int64_t lifetime;     /* of a connection from its accept, ms, -1: none */
	int64_t max_buffered; /* bytes held for all connections of this process (flow/budget); 0: no limit */
	bool require_close_notify;
	bool loud; /* somebody sits at this one connection: its failures are errors, not information */
	unsigned fds_spare;
	void (*trace)(const char *from, const char *to); /* the states of a connection; may be NULL */
	struct page *page; /* a worker's (flow/master): live and accepted are kept there too; else NULL */
	void (*idle_now)(void *arg); /* nothing is left (told after each last one) */
	void *arg;
};

struct term;

struct terminator {
	struct terminator_config cfg;
	struct hub *from[HUB_LINKS_MAX];
	unsigned n_from;
	bool ready;	 /* a certificate is there: the owner sets it, then calls terminator_update */
	bool had_credit; /* the sink has granted once */
	bool no_sink;	 /* the sink has ended for good */
	bool draining;   /* terminator_drain was called */
	unsigned live, peak;
	struct budget budget;
	TAILQ_HEAD(term_list, term) all;
	TAILQ_HEAD(term_waiters, term) waiting; /* for credit of the sink */
	int last_status; /* of the connection that ended last: the tool's, where it has only one */
};

void terminator_open(struct terminator *, const struct terminator_config *);
void terminator_conn(struct terminator *, struct link *, const struct note *, int fd); /* hub_ops.conn; takes fd */
int terminator_single(struct terminator *, int rfd, int wfd, const struct env *);
/* The connection on our own descriptors, which are borrowed.  0 or -errno */
unsigned terminator_room(struct terminator *); /* hub_ops.room of each source */
void terminator_update(struct terminator *);   /* credit of the sink, or ready, changed */
void terminator_no_sink(struct terminator *);  /* the sink has ended for good: resets who has none yet */
unsigned terminator_rows(const struct terminator *, unsigned from, struct conn_row *rows, unsigned cap);
/* The connections from the from-th on, oldest first: how many were filled in. */
bool terminator_cut(struct terminator *, const char *conn, const char *reason, int status); /* that id: found, and cut */
void terminator_gauges(const struct terminator *); /* sets base/metrics' gauges to what is so now */
void terminator_drain(struct terminator *);    /* we are ending: no request more on a connection than the one under way */
void terminator_cut_all(struct terminator *, const char *reason, int status);

#endif
