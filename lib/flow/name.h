/* flow/name - how the name of a link becomes connected sockets: PATH bound or dialled (dial:PATH and bind:PATH turn
 * that round), "-" (a ticket on a pipe, or a link that is descriptor 0 or 1), fd:N.  It finds the sockets and knows when
 * no other can come; what is said on them is flow/hub's business, in this process or in a worker's. */
#ifndef FLOW_NAME_H
#define FLOW_NAME_H

#include <stdbool.h>
#include <sys/types.h>

#include "loop/reactor.h"
#include "net/handoff.h"
#include "wire/note.h"

#define NAME_LINKS_MAX 64

struct name;

struct name_ops {
	int (*take)(struct name *, int fd);
	/* A link more: a connected socket, taken also on failure.  0 or -errno.  Its user was looked at, unless name_token
	 * is not "" and we produce: then the hello has to show that, or be of an allowed user. */
	void (*over)(struct name *, bool at_once);
	/* No other link can come (called once).  at_once: those that are there have ended too, but for what was
	 * already said on them; else they end by themselves. */
};

struct name_config {
	struct reactor *reactor;
	const char *option;  /* "--to": for messages */
	const char *spec;    /* the name as written; borrowed */
	unsigned role;       /* NOTE_PRODUCER, NOTE_CONSUMER: ours */
	unsigned links;      /* how many to keep open when we dial: one a worker */
	mode_t socket_mode;  /* of a bound PATH */
	gid_t socket_group;  /* (gid_t)-1: leave it */
	uid_t peer_user;     /* allowed besides our own and root; (uid_t)-1: nobody */
	const struct name_ops *ops;
	void *owner;
};

struct name_end {        /* how a link ended */
	bool greeted;    /* the other side had said hello */
	bool broken;     /* it broke the protocol */
	bool drained;    /* it had said drain */
};

struct name {
	struct name_config cfg;
	enum { NAME_BINDS, NAME_DIALS, NAME_READS_TICKET, NAME_HAS_FD } how;
	unsigned n;            /* links that were taken and are not gone */
	unsigned wanted;       /* links to keep open, when we dial */
	struct handoff_bound bound;
	struct ticket ticket;
	bool ticketed;         /* the links' place came through a pipe, or went out through one */
	int pipe;              /* the ticket's pipe: its end is the name's end; -1 none */
	size_t ticket_len;
	char ticket_text[TICKET_MAX];
	struct watch watch;    /* the listener */
	struct watch pipe_watch;
	struct timer dial;
	struct timer tick;     /* a listener that had no descriptor is asked again */
	int64_t dial_wait;
	bool missed;           /* that nobody is there has been said */
	bool refused;          /* that links are over the limit has been said */
	bool stopped, over;
	int status;            /* over() for want of a ticket: CCF_PROTOCOL (it was none), CCF_UNAVAILABLE; else 0 */
};

int name_check(const char *option, const char *spec, unsigned role, char *msg, size_t cap);
/* 0; -EINVAL: a usage error, msg says what to write */
int name_open(struct name *, const struct name_config *, char *msg, size_t cap);
/* 0; -errno, and msg says what could not be done.  -EADDRINUSE: the name cannot be bound, for whatever reason;
 * -EPIPE: nobody is there to read the ticket.  take() may be called before it returns. */
void name_close(struct name *);       /* the listener, the socket's file, the ticket's directory */
void name_stop(struct name *);        /* no more links, please: unbinds, dials no more.  over() is not called for it,
                                       * but still for the end of a ticket's pipe */

const char *name_token(const struct name *); /* what the hello of a consumer carries; "" where none is wanted */
const char *name_path(const struct name *);  /* for messages */
void name_greeted(struct name *, unsigned links);           /* a hello came, with links= (0: not said) */
void name_gone(struct name *, const struct name_end *);     /* a link that was taken has ended */

#endif
