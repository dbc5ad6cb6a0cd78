/* flow/cgi - the handler (session/http1) that runs a COMMAND for each request, as RFC 3875 has it: its variables in the
 * environment, the body on descriptor 0, header and body of the answer from descriptor 1 (one AF_UNIX stream: the end of the body
 * is its half-close).  So many at once; who comes when all are running waits its turn.  One that takes longer than it may is ended
 * (SIGTERM, 2 s later SIGKILL), and the client is told 504; one whose client has gone gets SIGHUP, and its place is free when it
 * has ended. */
#ifndef FLOW_CGI_H
#define FLOW_CGI_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "loop/reactor.h"

struct cgi;
struct cgi_run;
struct env;
struct exchange;
struct http1_handler;
struct starter;

extern const struct http1_handler cgi_handler; /* exchange_arg is a struct http_conn, see flow/http */

struct cgis_config {
	struct reactor *reactor;
	struct starter *starter;
	const char *command; /* its name, for messages */
	unsigned max;        /* at once, in this process */
	int64_t timeout;     /* ms, from the whole head to the end of the answer, the wait for a turn included; -1: none */
	void (*ended)(void *arg); /* a process has ended, or was killed; may be NULL */
	void *arg;
};

struct cgis { /* of one process */
	struct cgis_config cfg;
	unsigned running;                   /* processes, those whose client has gone, or has its answer, among them */
	TAILQ_HEAD(cgi_list, cgi) waiting;  /* for their turn */
	TAILQ_HEAD(cgi_runs, cgi_run) runs;
};

enum cgi_state { CGI_NONE, CGI_WAITING, CGI_RUNNING }; /* RUNNING: its run is there, until the answer is whole */

struct cgi { /* of one connection; lies in its http_conn, zeroed before it is used */
	struct cgis *of;
	enum cgi_state state;
	const struct env *env;     /* the connection's */
	struct exchange *exchange; /* the one under way, or NULL */
	bool whole;                /* all of its request was given to us */
	struct cgi_run *run;
	int64_t until;             /* the answer must be whole (clock_ms) */
	struct timer timer;        /* while it waits */
	TAILQ_ENTRY(cgi) waiter;
};

#define CGI_KILL_MS 2000

void cgis_open(struct cgis *, const struct cgis_config *);
bool cgis_owing(const struct cgis *); /* one runs whose time is running out: not who has answered, and goes on for himself */
void cgis_close(struct cgis *);
/* At the end of the process: what still runs is told to end (who was told before is killed), and waited for by nobody. */
void cgi_open(struct cgi *, struct cgis *, const struct env *);
void cgi_close(struct cgi *); /* the client's session is over; legal twice */

#endif
