/* session/http1_parts - private to session/http1, session/exchange and session/http1_builtin. */
#ifndef SESSION_HTTP1_PARTS_H
#define SESSION_HTTP1_PARTS_H

#include "session/http1.h"

struct writer;

enum session_state {
	SESSION_IDLE,      /* between two requests; before the first one, too */
	SESSION_HEAD,      /* a head has begun */
	SESSION_BODY,      /* the handler has the request, and is given what follows the head */
	SESSION_ANSWERING, /* the request is whole, the answer is not */
	SESSION_DROPPING,  /* the answer was whole before the request */
	SESSION_TUNNEL,
	SESSION_OVER,      /* the writer is closed or broken */
	SESSION_STATES
};

enum answer { ANSWER_NONE, ANSWER_BEGUN, ANSWER_WHOLE };

struct exchange {
	enum answer answer;
	unsigned status;   /* of the answer, once it has begun */
	bool head;         /* the method is HEAD */
	bool keep;         /* another request may follow */
	bool whole;        /* nothing of the request is still to come */
	bool done;         /* and the parser has said so */
	bool begun;        /* something has come of what follows its head */
	bool continued;    /* 100 Continue was said */
	bool bodiless, chunked; /* its answer's body */
	bool passing;      /* exchange_passing was said */
	bool answering;    /* rest is what is still to be said of the answer: for the handler it is over */
	int64_t left;      /* bytes that the answer's body still needs; -1: that is not known */
	uint64_t in, out;  /* as in http1_record */
	uint64_t dropped;
	char *rest;        /* rest_len bytes from rest_at on */
	size_t rest_at, rest_len;
};

struct session {
	struct writer *writer;
	const struct env *env;
	const struct http1_config *cfg;
	void *arg;
	struct http1_parser *parser;
	enum session_state state;
	bool reading;      /* session_read is under way: it goes on by itself */
	bool handing;      /* body() is */
	bool resumed;      /* exchange_resume was called meanwhile */
	bool ended;        /* the client's stream has */
	bool draining;     /* this request is the last */
	int64_t us;        /* clock_us, lately */
	int64_t deadline;  /* clock_ms */
	int64_t owed;      /* while it is not the client we wait for: what is left until the deadline, in ms; else -1 */
	int64_t began;     /* clock_us, of the request */
	uint64_t paced;    /* bytes of the body since the deadline was moved */
	uint64_t requests;
	char *kept;        /* what the handler did not take yet: kept_len bytes from kept_at on */
	size_t kept_at, kept_len;
	char *page;        /* http1_builtin's, but for its last line */
	struct exchange x; /* one at a time */
};

void session_enter(struct session *, enum session_state); /* the one door */
void session_tick(struct session *); /* what time it is */
bool session_live(const struct session *); /* the handler has an exchange that is not over */
void session_answered(struct session *); /* the answer is whole: what comes after it */
void session_broken(struct session *, int error); /* it will not be: resets the connection */
void session_told(struct session *, const struct http1_fault *, bool cut);
void session_go(struct session *); /* from outside of session_ops: something changed for what comes in */
void session_tunnelled(struct session *); /* something has gone through the tunnel, if it is one */
void session_clock(struct session *); /* the deadline stands while it is not the client we wait for */
struct session *session_of(const struct exchange *);

/* what exchange_* do, without asking whether the exchange is live; all of it at once */
int answer_whole(struct exchange *, unsigned status, const char *type, const char *fields, const void *body, size_t len);
int answer_error(struct exchange *, unsigned status, const char *code, const char *fields, const char *text);
int answer_go_on(struct exchange *); /* with its rest.  0 or -errno */
bool session_droppable(const struct session *);
/* Is what is left of the request so little that it is better read and dropped than the connection closed? */

const char *http1_date(void); /* a Date field with its CRLF */

#endif
