/* flow/control - the control socket of a tool that stays running: HTTP/1.1 on a Unix socket that curl can speak to, answered by
 * the same session as any other (session/http1).  Who may connect: our own user, root, --peer-user.  At most CONTROL_CLIENTS at
 * once; each has short deadlines; none of them can keep a tool from ending. */
#ifndef FLOW_CONTROL_H
#define FLOW_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "loop/reactor.h"
#include "net/handoff.h"
#include "session/http1.h"

#define CONTROL_CLIENTS 16
#define CONTROL_BODY_MAX 4096
#define CONTROL_HEAD_MAX (8 * 1024)
#define CONTROL_WAIT_MS 2000 /* for workers' parts of an answer */
#define CONTROL_REQUEST_MS 10000
#define CONTROL_IDLE_MS 30000

struct control;
struct control_call;
struct control_client;
struct text;

struct control_route {
	const char *method; /* HEAD is asked as GET */
	const char *path;   /* "/metrics"; one that ends with '/' (and is not "/") takes what follows, decoded, as call->rest */
	const char *about;  /* one line, for GET /; NULL: not shown there, nor said to exist */
	void (*answer)(struct control_call *); /* control_reply or control_refuse, now or later */
};

struct control_call {                /* a request; valid until it is answered, or control_close */
	struct control *of;
	struct control_client *client; /* NULL: it has gone; answer anyway, that frees the call */
	const struct control_route *route;
	char rest[128];
	char body[CONTROL_BODY_MAX + 1]; /* NUL-terminated */
	size_t body_len;
	uid_t uid;                   /* who asks */
	bool asked;                  /* the route has it */
	TAILQ_ENTRY(control_call) link;
};

struct control_config {
	struct reactor *reactor;
	const char *path;
	mode_t socket_mode;
	gid_t socket_group;  /* (gid_t)-1: leave it */
	uid_t peer_user;     /* (uid_t)-1: nobody else */
	const char *tool;
	const struct control_route *route; /* ends with a NULL method; borrowed for good */
};

struct control {
	struct control_config cfg;
	struct http1_config http;
	struct handoff_bound bound;
	struct watch watch;
	struct timer retry; /* out of descriptors */
	unsigned clients;
	pid_t pid; /* whose socket it is: a child of ours removes nothing */
	TAILQ_HEAD(control_clients, control_client) all;
	TAILQ_HEAD(control_calls, control_call) calls;
};

int control_open(struct control *, const struct control_config *, char *msg, size_t cap); /* 0; -errno, msg says it */
void control_adopt(struct control *, const struct control_config *, const struct handoff_bound *);
/* The same with a socket that is bound, and listens, already: its fd is taken; cfg's path, mode and group do not matter. */
void control_close(struct control *);
/* The socket's file, all clients, all calls: what is still under way for one must not answer any more.  Legal on a zeroed one. */
void control_reply(struct control_call *, unsigned status, const char *type, struct text *body);
/* body: taken (freed), may be NULL, may be long.  The call is over. */
void control_refuse(struct control_call *, unsigned status, const char *fields, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* CCF's JSON error with that sentence; fields: as exchange_refuse has them.  The call is over. */

/* without a socket: for tests */
void control_init(struct control *, const struct control_config *);
int control_join(struct control *, int fd, uid_t); /* a client; fd is taken.  0 or -errno */
struct control_miss {
	unsigned status;   /* 404, 405 (allow: the methods there are) or 400 */
	char why[512];     /* a sentence that says what there is */
	char allow[64];
};
const struct control_route *control_find(const struct control_route *, struct http1_text method, struct http1_text path,
    char *rest, size_t cap, struct control_miss *); /* or NULL, and the last is filled in */

#endif
