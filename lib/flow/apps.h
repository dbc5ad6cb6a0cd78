/* flow/apps - the same frames in binary, for programs (--app PATH): a Unix stream socket, any number of programs up to APPS_MAX.
 * Towards a program: every message, as its frame came from the network, to each program that is attached.  From a program:
 * addressed frames (wire/frame), whose sender is ours or empty (then ours is put in).  Who may connect: our own user, root,
 * peer_user.
 * - a program that does not read holds everything up once its queue is full (apps_ready); it loses nothing;
 * - what a program sends to a full queue waits, and that program is not read meanwhile (what room() says is otherwise the owner's);
 * - a frame that breaks the form, or another's sender, ends that program's connection with one line that says why;
 * - a program that ends its direction goes on listening; one that shuts its reading side only sends, and nobody waits for it; at
 *   its full close what it sent before is still passed on, and what waited for it is lost, counted in the line that says so;
 * - a payload longer than in memory crosses by way of a nameless file, both ways; a queue takes one of those at a time. */
#ifndef FLOW_APPS_H
#define FLOW_APPS_H

#include <stdbool.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "flow/inbox.h"
#include "flow/outbox.h"
#include "loop/reactor.h"
#include "net/handoff.h"

#define APPS_MAX  16
#define APPS_HIGH (1024 * 1024) /* bytes of memory waiting for a program: it is full from here on */

struct app;

struct apps_config {
	struct reactor *reactor;
	const char *path;
	mode_t socket_mode;
	gid_t socket_group; /* (gid_t)-1: leave it */
	uid_t peer_user;    /* (uid_t)-1: nobody else */
	const char *id;     /* ours; borrowed */
	size_t id_len;
	uint32_t max_frame;
	size_t most;        /* of a payload in memory */
	bool (*room)(void *arg, const char *to, size_t len);
	/* May a message to that id be sent now?  false: that program waits, and it is asked again after apps_resume */
	void (*send)(void *arg, const struct message *);
	/* A program sends it to frame.to, after room() said yes.  frame.from is empty or ours: its head is for the caller to make.
	 * The payload is in memory or in the range, always */
	void (*changed)(void *arg);  /* apps_ready is true now, and was not; after apps_drain: or apps_idle */
	void *arg;
};

struct apps {
	struct apps_config cfg;
	struct handoff_bound bound;
	struct watch watch;
	struct timer retry; /* out of descriptors */
	unsigned n;         /* programs attached */
	unsigned listening; /* those of them who read */
	unsigned full;      /* those of them whose queue is full */
	unsigned count;     /* that ever were */
	bool draining;
	bool held_up, busy; /* private: changed() is owed when it is ready, idle */
	TAILQ_HEAD(, app) all;
};

int apps_open(struct apps *, const struct apps_config *, char *msg, size_t cap); /* 0; -errno, msg says it */
bool apps_ready(const struct apps *); /* somebody listens, and nobody's queue is full */
void apps_message(struct apps *, const struct message *); /* to each; legal when not ready: then above the bound */
void apps_resume(struct apps *);      /* room() may answer differently now */
void apps_drain(struct apps *);
/* No program more is let in, none is read; messages still go to those that are attached.  apps_close is to follow */
bool apps_idle(const struct apps *);  /* nothing waits for any of them (after apps_drain changed() tells when that is so) */
void apps_close(struct apps *);
/* All of it, and the socket's file; legal on a zeroed one.  A program gets what was written to it, then the end of stream
 * (ECONNRESET if something that it sent was not read) */

#endif
