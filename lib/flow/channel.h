/* flow/channel - the socket between a master and one worker: AF_UNIX SEQPACKET, one packet is one order, with at most one
 * descriptor.  Both ends are the same program, so an order is a struct; the master believes none of it (a worker sees
 * peers' bytes): verb, hub and length are checked here, the rest by who receives it. */
#ifndef FLOW_CHANNEL_H
#define FLOW_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "loop/reactor.h"

#define CHANNEL_HUBS_MAX 65 /* sources and a sink */

enum order_verb {
	ORDER_NONE,
	/* to a worker */
	ORDER_LINK,     /* hub, text (the token, or ""), fd: a link more of that name */
	ORDER_MATERIAL, /* fd: certificates and keys, from now on */
	ORDER_OVER,     /* hub, flags (OVER_*): no other link of that name can come */
	ORDER_DRAIN,    /* take nothing new, finish, end */
	ORDER_NOW,      /* end now */
	ORDER_STATUS,   /* say it in the log */
	ORDER_CUT,      /* text (a CCF_CONN_ID): cut that connection, if it is yours */
	ORDER_LIST,     /* id (of the question), flags (LIST_*): which connections there are, and set your gauges */
	ORDER_LEVEL,    /* value: the log level from now on */
	ORDER_ACCESS,   /* fd: the access log, from now on */
	ORDER_EXITED,   /* id, value (as waitpid has it): the COMMAND is over */
	ORDER_FAILED,   /* id, value (-errno): the COMMAND could not be run */
	/* to the master */
	ORDER_UP,       /* text (what holds, in words): started, confined, ready for links */
	ORDER_GREETED,  /* hub, value (links=, 0: not said) */
	ORDER_GONE,     /* hub, flags (GONE_*) */
	ORDER_RUN,      /* id, fd, flags (RUN_*), payload (a conn message of wire/note: the environment): start the COMMAND on fd */
	ORDER_HANGUP,   /* id: SIGHUP to it */
	ORDER_FORGET,   /* id: its end interests nobody */
	ORDER_KILL,     /* id, value (SIGTERM or SIGKILL): to it */
	ORDER_LISTED,   /* id (of the question), flags (LISTED_*), payload (struct conn_row, so many as there are, or none) */
	ORDER_WAS_CUT,  /* text: that connection was ours, and is cut */
	ORDER_HOLD,     /* id, fd: the worker's end of its stream, kept until it is over or hung up: a cut must not reach it as
	                 * an end before the SIGHUP does, also when the worker dies */
	ORDER_VERBS
};

enum { OVER_AT_ONCE = 1, OVER_BIDDEN = 2 }; /* bidden: the link of that name that ended last had said drain */
enum { RUN_CGI = 1 }; /* the environment is a CGI program's (struct env's cgi) */
enum { LIST_NO_ROWS = 1 }; /* the gauges, and an answer, are enough */
enum { LISTED_ALL = 1 }; /* no more rows come */
enum { GONE_GREETED = 1, GONE_BROKEN = 2, GONE_DRAINED = 4 };

struct order {
	uint32_t verb;
	uint32_t hub;   /* index of the name: sources first, then the sink */
	uint64_t id;    /* of a COMMAND */
	int32_t value;
	uint32_t flags;
	char text[128]; /* NUL-terminated */
};

struct channel;

struct channel_ops {
	void (*order)(struct channel *, const struct order *, const char *payload, size_t len, int fd);
	/* fd is yours, -1: none */
	void (*ended)(struct channel *); /* the other side is gone, or said something that is no order; once */
};

struct channel {
	int fd;
	struct reactor *reactor;
	const struct channel_ops *ops;
	void *owner;
	struct watch watch;
	struct timer resend; /* ETOOMANYREFS */
	TAILQ_HEAD(, channel_out) queue;
	size_t queued;
	bool over;         /* nothing can be said any more */
	const char *wrong; /* it ended because of this: what the other side said that is no order; else NULL */
};

int channel_pair(int ret_fd[2]);                 /* CLOEXEC, NONBLOCK; 0 or -errno */
void channel_open(struct channel *, struct reactor *, int fd, const struct channel_ops *, void *owner); /* takes fd */
int channel_say(struct channel *, const struct order *, const void *payload, size_t len, int fd);
/* fd is duplicated if it cannot go at once: it stays the caller's.  0: sent, or kept to be sent (an order is never lost
 * while the other side lives).  -EPIPE: it is over.  -ENOMEM, -EMFILE, -EMSGSIZE: not said. */
void channel_pump(struct channel *);
/* Reads all there is now: what a process said before it died.  Legal when it is closed. */
void channel_close(struct channel *); /* what is still to be sent is dropped */

#endif
