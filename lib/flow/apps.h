/* flow/apps - the same frames in binary, for programs (--app PATH): a Unix stream socket, any number of programs up to APPS_MAX.
 * Towards a program: every message, as its frame came from the network, to each program that is attached.  From a program:
 * addressed frames (wire/frame), whose sender is ours or empty (then ours is put in).  Who may connect: our own user, root,
 * peer_user.
 * - a program that does not read holds everything up once its queue is full (apps_ready); it loses nothing;
 * - what a program sends to a full queue waits, and that program is not read meanwhile;
 * - a frame that breaks the form, or another's sender, ends that program's connection with one line that says why;
 * - a payload longer than in memory crosses by way of a nameless file, both ways. */
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

enum app_sent { APP_SENT, APP_WAIT }; /* WAIT: not taken; the same comes again after apps_resume */

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
	enum app_sent (*send)(void *arg, const struct message *); /* a program sends it to frame.to */
	void (*changed)(void *arg);  /* apps_ready may answer differently now */
	void *arg;
};

struct apps {
	struct apps_config cfg;
	struct handoff_bound bound;
	struct watch watch;
	struct timer retry; /* out of descriptors */
	unsigned n;
	bool draining;
	TAILQ_HEAD(, app) all;
};

int apps_open(struct apps *, const struct apps_config *, char *msg, size_t cap); /* 0; -errno, msg says it */
bool apps_ready(const struct apps *); /* somebody is attached, and nobody's queue is full */
void apps_message(struct apps *, const struct message *); /* to each; legal when not ready: then above the bound */
void apps_resume(struct apps *);      /* send() may answer differently now */
void apps_drain(struct apps *);
/* No program more is let in, none is read; each gets what waits for it and then our end of stream */
bool apps_idle(const struct apps *);  /* nothing waits for any of them (changed() is called when that becomes so) */
void apps_close(struct apps *);       /* all of it, and the socket's file; legal on a zeroed one */

#endif
