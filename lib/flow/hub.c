#include "flow/hub_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/fds.h"
#include "base/log.h"
#include "flow/pipes.h"
#include "flow/room.h"
#include "net/socket.h"

#define DIAL_FIRST 50 /* ms between attempts, doubling */
#define DIAL_LAST  2000
#define TICK_MS	   1000
#define STARVED_MS 200

bool
hub_produces(const struct hub *h)
{
	return h->cfg.role == NOTE_PRODUCER;
}

static void
hub_over(struct hub *h, int status)
{
	if (h->over)
		return;
	h->over = true;
	reactor_timer(h->cfg.reactor, &h->dial, CLOCK_NEVER);
	reactor_timer(h->cfg.reactor, &h->tick, CLOCK_NEVER);
	reactor_forget(h->cfg.reactor, &h->pipe_watch);
	h->cfg.ops->over(h, status);
}

/* How it ends when no other link can come: as the last one did, unless it was we who wanted no
 * more.  A consumer that goes without having said drain leaves its producer in the lurch. */
static int
hub_verdict(const struct hub *h)
{
	bool wished = h->draining && !(h->how == HUB_READS_TICKET && h->pipe == -1);

	if (h->broken && !wished)
		return CCF_PROTOCOL;
	return hub_produces(h) && !h->bidden ? CCF_UNAVAILABLE : 0;
}

/* ---- a link more, a link less ---- */

int
hub_take(struct hub *h, int fd)
{
	struct link *l;
	int rc;

	if (h->n >= HUB_LINKS_MAX) {
		close(fd);
		if (!h->refused)
			log_say(LOG_L_WARN, "%s %s: more than %d links: further ones are closed",
			    h->cfg.option, h->cfg.spec, HUB_LINKS_MAX);
		h->refused = true;
		return -EUSERS;
	}
	rc = link_open(&l, h, fd);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	TAILQ_INSERT_TAIL(&h->links, l, of_hub);
	h->n++;
	return 0;
}

static void
hub_dial_in(struct hub *h, int64_t ms)
{
	if (!h->over && !h->draining)
		reactor_timer(h->cfg.reactor, &h->dial, reactor_now(h->cfg.reactor) + ms);
}

static const char *
hub_path(const struct hub *h)
{
	return h->ticketed ? h->ticket.path : h->bound.path;
}

static void
hub_wait_longer(struct hub *h)
{
	h->dial_wait = h->dial_wait ? h->dial_wait * 2 : DIAL_FIRST;
	if (h->dial_wait > DIAL_LAST)
		h->dial_wait = DIAL_LAST;
}

void
hub_dial(struct hub *h)
{
	uid_t uid = (uid_t)-1;
	int fd = 0;

	while (h->n < h->wanted) {
		fd = handoff_dial(hub_path(h));
		if (fd < 0)
			break;
		if (!h->ticketed && !handoff_peer_allowed(fd, h->cfg.peer_user, &uid)) {
			close(fd);
			fd = -EPERM;
			break;
		}
		fd = hub_take(h, fd);
		if (fd < 0)
			break;
	}
	if (h->n >= h->wanted)
		return;
	if (!h->missed && fd == -EPERM)
		log_say(LOG_L_WARN,
		    "%s %s: it is held by user %u, neither ours nor root (--peer-user allows "
		    "another); "
		    "trying on",
		    h->cfg.option, hub_path(h), (unsigned)uid);
	else if (!h->missed && h->n == 0)
		log_say(LOG_L_INFO, "%s %s: nobody is there yet (%s); trying on", h->cfg.option,
		    hub_path(h), strerror(-fd));
	h->missed = true;
	hub_wait_longer(h);
	hub_dial_in(h, h->dial_wait);
}

void
hub_dial_fire(struct timer *t)
{
	hub_dial((struct hub *)((char *)t - offsetof(struct hub, dial)));
}

void
hub_greeted(struct hub *h, struct link *l, const struct note *hello)
{
	h->dial_wait = 0;
	log_event(LOG_L_DEBUG, NULL, "link-up", NULL, "%s %s: link with %s", h->cfg.option,
	    h->cfg.spec, l->tool);
	h->broken = h->missed = false;
	if (h->how == HUB_BINDS || h->how == HUB_HAS_FD || hello->links <= 1 || h->draining)
		return;
	h->wanted = hello->links < HUB_LINKS_MAX ? hello->links : HUB_LINKS_MAX;
	if (h->n < h->wanted)
		hub_dial_in(h, 0);
}

/* Who closes without a hello does not want us (its log says why), or was just ending. */
static void
hub_slighted(struct hub *h)
{
	if (!h->missed)
		log_say(LOG_L_INFO,
		    "%s %s: the other side closed the link without a word; trying on",
		    h->cfg.option, hub_path(h));
	h->missed = true;
	hub_wait_longer(h);
}

void
hub_gone(struct hub *h, struct link *l)
{
	TAILQ_REMOVE(&h->links, l, of_hub);
	h->n--;
	if (h->n < HUB_LINKS_MAX / 2)
		h->refused = false;
	if (h->over)
		return;
	if (hub_produces(h))
		h->cfg.ops->credit(h);
	h->broken = l->broken;
	h->bidden = l->drained;
	if (h->how == HUB_HAS_FD || (h->draining && h->n == 0))
		hub_over(h, hub_verdict(h));
	else if (h->how == HUB_DIALS || (h->how == HUB_READS_TICKET && h->ticketed)) {
		if (h->broken) /* who breaks the protocol will do so again */
			h->dial_wait = DIAL_LAST;
		if (!h->broken && !l->tool[0])
			hub_slighted(h);
		else if (h->dial_wait == 0)
			h->dial_wait = DIAL_FIRST / 2;
		hub_dial_in(h, h->dial_wait);
	}
}

void
hub_accept(struct watch *w, uint32_t got)
{
	struct hub *h = (struct hub *)((char *)w - offsetof(struct hub, watch));
	int fd = 0;

	(void)got;
	for (int i = 0; i < HUB_LINKS_MAX && (fd = handoff_accept(h->bound.fd)) >= 0; i++)
		(void)hub_take(h, fd);
	if (fd < 0 && fd != -EAGAIN) { /* the tick looks again */
		room_short("cannot accept a link", -fd, "it waits until one is free");
		reactor_want(h->cfg.reactor, &h->watch, 0);
		reactor_timer(h->cfg.reactor, &h->tick, reactor_now(h->cfg.reactor) + TICK_MS);
	}
}

/* ---- the ticket's pipe ---- */

static void
hub_pipe_ended(struct hub *h)
{
	reactor_forget(h->cfg.reactor, &h->pipe_watch);
	h->pipe = -1;
	/* what was sent before is still to be read: the links end by themselves */
	if (hub_produces(h) || h->n == 0 || !h->ticketed) {
		struct link *l, *next;

		TAILQ_FOREACH_SAFE(l, &h->links, of_hub, next)
			link_pump(l);
		TAILQ_FOREACH(l, &h->links, of_hub)
			h->bidden = l->drained;
		hub_over(h, hub_produces(h) || h->ticketed ? hub_verdict(h) : CCF_UNAVAILABLE);
	} else {
		h->wanted = 0;
		h->draining = true;
	}
}

static int
hub_read_ticket(struct hub *h)
{
	ssize_t n;
	int used;

	/* one byte at a time: what follows the line is not ours */
	n = read(h->pipe, h->ticket_text + h->ticket_len, 1);
	if (n <= 0)
		return n == 0 ? -EPIPE : -errno;
	used = ticket_parse(&h->ticket, h->ticket_text, h->ticket_len + 1);
	if (h->ticket_len++ == sizeof(h->ticket_text) - 1 && used == -EAGAIN)
		return -EBADMSG;
	return used;
}

void
hub_pipe_ready(struct watch *w, uint32_t got)
{
	struct hub *h = (struct hub *)((char *)w - offsetof(struct hub, pipe_watch));
	int rc;

	if (hub_produces(h) || h->ticketed) {
		if (got & (WATCH_HUP | WATCH_ERR))
			hub_pipe_ended(h);
		return;
	}
	rc = hub_read_ticket(h);
	if (rc == -EAGAIN || rc == -EINTR)
		return;
	if (rc == -EPIPE) {
		log_say(LOG_L_ERROR, "%s %s: the pipe ended before it said where the link is",
		    h->cfg.option, h->cfg.spec);
		hub_pipe_ended(h);
	} else if (rc < 0) {
		log_say(LOG_L_ERROR,
		    "%s %s: standard input is not a link's ticket%s: pipe a tool with --to - into "
		    "this one",
		    h->cfg.option, h->cfg.spec,
		    rc == -EPROTONOSUPPORT ? " of a version we know (1)" : "");
		reactor_forget(h->cfg.reactor, &h->pipe_watch);
		hub_over(h, CCF_PROTOCOL);
	} else {
		h->ticketed = true;
		reactor_want(h->cfg.reactor, &h->pipe_watch, WATCH_HUP);
		hub_dial(h);
	}
}

/* ---- once a second, while there is something to look at ---- */

static bool
hub_tick_link(struct hub *h, struct link *l, int64_t now)
{
	if (!l->unread_since)
		return false;
	if (handoff_unread(l->fd) == 0) {
		l->unread_since = 0;
		if (l->stale) {
			l->stale = false;
			h->cfg.ops->credit(h);
		}
		return false;
	}
	if (!l->stale && now - l->unread_since >= LINK_STALE_MS) {
		l->stale = true;
		log_event(LOG_L_WARN, NULL, "link-stale", NULL,
		    "%s %s: %s has not read a connection for %d s: it gets no more until it does",
		    h->cfg.option, h->cfg.spec, l->tool, LINK_STALE_MS / 1000);
		h->cfg.ops->credit(h);
	}
	return true;
}

void
hub_tick(struct timer *t)
{
	struct hub *h = (struct hub *)((char *)t - offsetof(struct hub, tick));
	int64_t now = reactor_now(h->cfg.reactor);
	struct link *l, *next;
	bool more = false;

	if (h->how == HUB_BINDS && !h->over)
		reactor_want(h->cfg.reactor, &h->watch, WATCH_READ);
	TAILQ_FOREACH_SAFE(l, &h->links, of_hub, next)
		more |= hub_produces(h) && hub_tick_link(h, l, now);
	if (more)
		reactor_timer(h->cfg.reactor, &h->tick, now + TICK_MS);
	if (!hub_produces(h))
		hub_regrant(h);
}

void
hub_sent_conn(struct hub *h)
{
	if (!h->tick.slot)
		reactor_timer(h->cfg.reactor, &h->tick, reactor_now(h->cfg.reactor) + TICK_MS);
}

/* ---- producer ---- */

bool
hub_ready(const struct hub *h)
{
	struct link *l;

	TAILQ_FOREACH(l, &h->links, of_hub)
		if (link_usable(l))
			return true;
	return false;
}

bool
hub_has_links(const struct hub *h)
{
	struct link *l;

	TAILQ_FOREACH(l, &h->links, of_hub)
		if (l->state == LINK_UP && !l->drained)
			return true;
	return false;
}

struct link *
hub_pick(struct hub *h)
{
	struct link *l, *best = NULL;

	TAILQ_FOREACH(l, &h->links, of_hub) {
		if (!link_usable(l))
			continue;
		if (!best || l->live < best->live ||
		    (l->live == best->live && l->served < best->served))
			best = l;
	}
	return best;
}

unsigned
hub_live(const struct hub *h)
{
	struct link *l;
	unsigned n = 0;

	TAILQ_FOREACH(l, &h->links, of_hub)
		n += l->live;
	return n;
}

/* ---- consumer ---- */

void
hub_regrant(struct hub *h)
{
	struct link *l;

	if (h->starved_until > reactor_now(h->cfg.reactor))
		return;
	TAILQ_FOREACH(l, &h->links, of_hub)
		link_regrant(l);
}

unsigned
hub_room(struct hub *h)
{
	unsigned room = 0;

	if (h->starved_until <= reactor_now(h->cfg.reactor))
		room = h->cfg.ops->room(h);
	if (room == 0 && !h->tick.slot)
		reactor_timer(h->cfg.reactor, &h->tick, reactor_now(h->cfg.reactor) + STARVED_MS);
	return room > h->n ? room / h->n : room > 0;
}

void
hub_starve(struct hub *h)
{
	room_short("no descriptor for a connection", EMFILE, "it was closed");
	pipes_close_idle();
	if (hub_produces(h))
		return;
	h->starved_until = reactor_now(h->cfg.reactor) + STARVED_MS;
	reactor_timer(h->cfg.reactor, &h->tick, h->starved_until);
}

void
hub_drain(struct hub *h)
{
	struct link *l, *next;

	h->draining = true;
	reactor_timer(h->cfg.reactor, &h->dial, CLOCK_NEVER);
	if (h->how == HUB_BINDS && h->bound.fd != -1) {
		/* who comes now is for whoever takes our place */
		reactor_forget(h->cfg.reactor, &h->watch);
		handoff_unbind(&h->bound);
	}
	TAILQ_FOREACH_SAFE(l, &h->links, of_hub, next)
		link_drain(l);
	if (h->n == 0)
		hub_over(h, 0);
}
