/* flow/term - one connection of a terminator; private to flow/terminator, flow/term_shake and flow/term_sink. */
#ifndef FLOW_TERM_H
#define FLOW_TERM_H

#include "base/env.h"
#include "base/metrics.h"
#include "flow/conn.h"
#include "flow/handed.h"
#include "flow/http.h"
#include "flow/relay.h"
#include "flow/starter.h"
#include "flow/tell.h"
#include "flow/terminator.h"

/* SHAKING: the handshake.  WAITING: for credit of the sink.  ASKED: for an adopt.  MOVING: the
 * relay has it. */
enum term_state { TERM_SHAKING, TERM_WAITING, TERM_ASKED, TERM_MOVING };

struct term {
	struct terminator *of;
	enum term_state state;
	struct link_conn up, down; /* on the source's list, on the sink's list */
	struct env env;
	struct tell tell;
	int64_t accepted;     /* clock_ms */
	struct transport *tp; /* until the relay takes it */
	struct watch watch;
	struct timer
	    timer; /* handshake and sink deadline; then: waiting for the COMMAND's status */
	struct timer life; /* --lifetime */
	struct charge charge;
	struct handed handed;	       /* our end of the pair is the AF_UNIX stream */
	struct handed source;	       /* what we were handed is one; else its conn is NULL */
	const struct transport *outer; /* what the relay took */
	struct transport *session;     /* likewise; NULL: its other side is none */
	struct relay *relay;
	struct http_conn http;  /* requests */
	struct conn_said said;  /* the session's own word on its end */
	struct started started; /* the COMMAND */
	int command_status; /* -1: still running, or none */
	bool command_killed, gave_up_waiting, single;
	struct relay_end end; /* its reason is set: only the COMMAND's status is missing */
	TAILQ_ENTRY(term) link, waiter;
	struct grave grave;
};

void term_enter(struct term *, enum term_state); /* the one door */
void term_over(struct term *, const char *reason, int status, const char *by, uint64_t in, uint64_t out);
/* Tells everybody, and frees. */
void term_fail(struct term *, const char *reason, int status, const char *by);
/* The same before the relay has it: the client is reset. */
bool term_starved(struct term *, int rc);
/* Was it a shortage of descriptors?  Then that has ended it, and the source is asked for nothing more for a while. */

void term_begin(struct term *, int rfd); /* tp and env are there: the handshake */
void term_late(struct timer *);
void term_count_unshaken(struct term *, const char *word); /* a handshake that comes to nothing */

/* the sinks; each begins the relay, now or (a link) when the answer is there, or ends the connection */
void term_to_session(struct term *);
void term_to_capped(struct term *); /* it is told so at its first bytes */
void term_to_stdio(struct term *);
void term_to_command(struct term *);
void term_to_hub(struct term *);

#endif
