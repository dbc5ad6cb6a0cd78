/* flow/guard - the handler (session/http1) that stands in front of a backend: the first request whose head is valid asks the
 * hub for a connection (as flow/term_sink does: a descriptor of ours, or adopt), and from then on that one serves this
 * client. Requests go there byte for byte, one at a time, as they turn out to be valid; answers come back byte for byte, read
 * along (wire/http1) to know where each ends: there, and only there, an answer of ours may stand.  No backend: 502; none in
 * time: 504; it breaks off in an answer: the client is cut too. */
#ifndef FLOW_GUARD_H
#define FLOW_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "flow/handed.h"
#include "flow/link.h"
#include "loop/reactor.h"

struct env;
struct exchange;
struct guard;
struct http1_handler;
struct http1_parser;
struct hub;
struct transport;

extern const struct http1_handler guard_handler; /* exchange_arg is a struct http_conn, see flow/http */

struct guards_config {
	struct reactor *reactor;
	struct hub *hub;
	int64_t connect; /* ms to wait for a backend's connection (--handshake-timeout), -1: none: 504 */
	int64_t answer;  /* ms of silence of a backend that owes an answer (--idle-timeout), -1: none: 504, or a cut */
	void (*starved)(void *arg); /* no descriptor for it: 503; may be NULL */
	void *arg;
};

struct guards { /* of one process */
	struct guards_config cfg;
	bool no_sink;
	TAILQ_HEAD(guard_list, guard) waiting; /* for credit */
};

/* NONE: no backend (any more: a further request asks for another one).  WAITING: for credit.  ASKED: for adopt.  JOINED: there is
 * one.  ENDED: the client is gone. */
enum guard_state { GUARD_NONE, GUARD_WAITING, GUARD_ASKED, GUARD_JOINED, GUARD_ENDED };

struct guard { /* of one connection; lies in its http_conn, zeroed before it is used */
	struct guards *of;
	enum guard_state state;
	const struct env *env;     /* what the backend's connection is given for one */
	struct exchange *exchange; /* the one under way, or NULL */
	struct link_conn down;
	struct handed handed;      /* the backend's stream is AF_UNIX: each of its ends needs its eof; else its conn is NULL */
	int verdict;               /* the status that it comes to, as the consumer says, 0: nothing yet; text: in its word */
	char text[NOTE_REASON_MAX];
	struct transport *tp;      /* the backend, from JOINED on */
	struct watch watch;
	struct timer timer;
	struct task task;          /* a step */
	int64_t moved_at;          /* when it was asked for; then: when a byte moved, or it began to owe one */
	int64_t unsent;
	struct http1_parser *answers;
	/* of the exchange */
	size_t sent;               /* bytes of the request's head */
	unsigned interim;          /* answers 1xx */
	unsigned settling;         /* the answer is whole, and the request not: turns until that is final */
	bool hungry;               /* body() took less than there was */
	bool stuck;                /* the backend takes no more for now */
	bool deaf;                 /* it takes nothing any more; an answer may still come */
	int failed;                /* errno of a write that failed though it is still there: it is given up in the next step */
	bool passing;              /* a final answer's head has gone to the client */
	bool tunnel;               /* after a 101 */
	bool ending, finished;     /* the client has ended its stream; tunnel: the backend was told */
	TAILQ_ENTRY(guard) waiter;
};

void guards_open(struct guards *, const struct guards_config *);
void guards_update(struct guards *);  /* credit came */
void guards_no_sink(struct guards *); /* the hub has ended for good */
void guard_open(struct guard *, struct guards *, const struct env *);
void guard_close(struct guard *);
/* The client's session is over: the backend is closed (cut, if an answer was under way); legal twice. */

#endif
