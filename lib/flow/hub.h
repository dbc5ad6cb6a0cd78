/* flow/hub - the links of one name, and the choice among them.  A name is a PATH (the producer binds, the consumer
 * dials; dial:PATH and bind:PATH turn that round), "-" (a ticket on a pipe, or a link that is descriptor 0 or 1),
 * or fd:N.  Who finds nobody keeps trying, says so once, and dials again when a link ends. */
#ifndef FLOW_HUB_H
#define FLOW_HUB_H

#include <sys/types.h>

#include "flow/link.h"
#include "net/handoff.h"

#define HUB_LINKS_MAX 64

struct hub;

struct hub_ops {
	void (*conn)(struct hub *, struct link *, const struct note *, int fd);
	/* consumer: a connection; fd is yours, -1: you are asked to give.  Must link_join, or answer closed at once. */
	unsigned (*room)(struct hub *);
	/* consumer: how many more connections may be on their way to us, on all links of all hubs */
	void (*credit)(struct hub *); /* producer: credit came, or went (hub_ready tells) */
	void (*over)(struct hub *, int status);
	/* It has ended for good: nobody can come any more.  Called once; status 0, or what went wrong. */
};

struct hub_config {
	struct reactor *reactor;
	const char *tool;      /* said in the hello */
	const char *option;    /* "--to": for messages */
	const char *spec;      /* the name as written; borrowed */
	unsigned role;         /* NOTE_PRODUCER, NOTE_CONSUMER: ours */
	unsigned modes;        /* consumer: NOTE_TAKE | NOTE_GIVE */
	mode_t socket_mode;    /* of a bound PATH */
	gid_t socket_group;    /* (gid_t)-1: leave it */
	uid_t peer_user;       /* allowed besides our own and root; (uid_t)-1: nobody */
	const struct hub_ops *ops;
	void *owner;
};

struct hub {
	struct hub_config cfg;
	TAILQ_HEAD(, link) links;
	unsigned n;
	unsigned wanted;       /* links to keep open, when we dial */
	uint64_t picks;
	enum { HUB_BINDS, HUB_DIALS, HUB_READS_TICKET, HUB_HAS_FD } how;
	struct handoff_bound bound;
	struct ticket ticket;
	bool ticketed;         /* the link's name came through a pipe */
	int pipe;              /* the ticket's pipe: its end is the link's end; -1 none */
	size_t ticket_len;
	char ticket_text[TICKET_MAX];
	struct watch watch;    /* the listener */
	struct watch pipe_watch;
	struct timer dial;
	struct timer tick;     /* unread conns, starved consumers */
	int64_t dial_wait;
	int64_t starved_until; /* consumer: no grants before */
	bool missed;           /* that nobody is there has been said */
	bool refused;          /* that links are over the limit has been said */
	bool broken;           /* the link that ended last broke the protocol, and none was greeted since */
	bool draining, over;
	bool bidden;           /* producer: the link that ended last had said drain */
	uint64_t lost;         /* connections that ended with their link */
};

int hub_check(const char *option, const char *spec, unsigned role, char *msg, size_t cap);
/* 0; -EINVAL: a usage error, msg says what to write */
int hub_open(struct hub *, const struct hub_config *, char *msg, size_t cap);
/* 0; -errno, and msg says what could not be done.  -EADDRINUSE: the name cannot be bound, for whatever reason;
 * -EPIPE: nobody is there to read the ticket. */
void hub_close(struct hub *); /* all links, the name, the ticket's directory */

bool hub_ready(const struct hub *); /* producer: somebody has credit */
bool hub_has_links(const struct hub *);
struct link *hub_pick(struct hub *); /* producer: credit and fewest live connections, on a tie served longest ago; or NULL */
void hub_regrant(struct hub *);     /* consumer: room() may answer differently now */
void hub_starve(struct hub *);      /* a descriptor did not fit: it is said, and a consumer grants nothing for a while */
void hub_drain(struct hub *);       /* consumer: no more, please; over() comes when each link is done */
unsigned hub_live(const struct hub *); /* open ids of all links */

/* for flow/link */
void hub_greeted(struct hub *, struct link *, const struct note *hello);
void hub_gone(struct hub *, struct link *);
void hub_sent_conn(struct hub *);
unsigned hub_room(struct hub *); /* a link's part of room(), 0 while starved; asks again by itself */

#endif
