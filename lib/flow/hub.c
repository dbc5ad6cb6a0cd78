#include "flow/hub.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "flow/pipes.h"
#include "flow/room.h"
#include "net/handoff.h"

#define TICK_MS	   1000
#define STARVED_MS 200

static bool
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
	reactor_timer(h->cfg.reactor, &h->tick, CLOCK_NEVER);
	h->cfg.ops->over(h, status);
}

/* How it ends when no other link can come: as the last one did, unless it was we who wanted no
 * more.  A consumer that goes without having said drain leaves its producer in the lurch. */
static int
hub_verdict(const struct hub *h)
{
	bool wished = h->draining && !h->unwished;

	if (h->broken && !wished)
		return CCF_PROTOCOL;
	return hub_produces(h) && !h->bidden ? CCF_UNAVAILABLE : 0;
}

/* ---- a link more, a link less ---- */

int
hub_take(struct hub *h, int fd, const char *token)
{
	struct link *l;
	int rc;

	strlcpy(h->token, token, sizeof(h->token));
	rc = link_open(&l, h, fd);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	TAILQ_INSERT_TAIL(&h->links, l, of_hub);
	h->n++;
	return 0;
}

void
hub_greeted(struct hub *h, struct link *l, const struct note *hello)
{
	log_event(LOG_L_DEBUG, NULL, "link-up", NULL, "%s %s: link with %s", h->cfg.option,
	    h->cfg.spec, l->tool);
	h->broken = false;
	h->keeper->greeted(h, hello->links);
}

void
hub_gone(struct hub *h, struct link *l)
{
	struct name_end end = { .greeted = l->tool[0], .broken = l->broken, .drained = l->drained };

	TAILQ_REMOVE(&h->links, l, of_hub);
	h->n--;
	if (h->over)
		return;
	if (hub_produces(h))
		h->cfg.ops->credit(h);
	h->broken = end.broken;
	h->bidden = end.drained;
	if (h->draining && h->n == 0)
		hub_over(h, hub_verdict(h));
	else if (!l->succeeded)
		h->keeper->gone(h, &end);
}

/* Who dials does not wait for the last connection there to end before it looks for a successor. */
void
hub_drained(struct hub *h, struct link *l)
{
	if (h->over || strncmp(h->cfg.spec, "dial:", 5) != 0)
		return;
	l->succeeded = true;
	h->keeper->gone(h, &(struct name_end){ .greeted = true, .drained = true });
}

void
hub_name_over(struct hub *h, bool at_once)
{
	struct link *l, *next;

	if (!at_once && h->n > 0) {
		h->draining = h->unwished = true;
		return;
	}
	TAILQ_FOREACH_SAFE(l, &h->links, of_hub, next)
		link_pump(l);
	TAILQ_FOREACH(l, &h->links, of_hub)
		h->bidden = l->drained;
	hub_over(h, hub_verdict(h));
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

static void
hub_tick(struct timer *t)
{
	struct hub *h = (struct hub *)((char *)t - offsetof(struct hub, tick));
	int64_t now = reactor_now(h->cfg.reactor);
	struct link *l, *next;
	bool more = false;

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
	h->keeper->stop(h); /* who comes now is for whoever takes our place */
	TAILQ_FOREACH_SAFE(l, &h->links, of_hub, next)
		link_drain(l);
	if (h->n == 0)
		hub_over(h, 0);
}

/* ---- life ---- */

static void
own_greeted(struct hub *h, unsigned links)
{
	name_greeted(&h->name, links);
}

static void
own_gone(struct hub *h, const struct name_end *end)
{
	name_gone(&h->name, end);
}

static void
own_stop(struct hub *h)
{
	name_stop(&h->name);
}

static void
own_close(struct hub *h)
{
	name_close(&h->name);
}

static const struct hub_keeper own_keeper = {
	.greeted = own_greeted,
	.gone = own_gone,
	.stop = own_stop,
	.close = own_close,
};

static int
own_take(struct name *n, int fd)
{
	return hub_take(n->cfg.owner, fd, name_token(n));
}

static void
own_over(struct name *n, bool at_once)
{
	if (n->status)
		hub_over(n->cfg.owner, n->status);
	else
		hub_name_over(n->cfg.owner, at_once);
}

static const struct name_ops own_ops = { .take = own_take, .over = own_over };

void
hub_open_given(
    struct hub *h, const struct hub_config *cfg, const struct hub_keeper *keeper, void *keeper_arg)
{
	memset(h, 0, sizeof(*h));
	h->cfg = *cfg;
	h->keeper = keeper;
	h->keeper_arg = keeper_arg;
	h->tick.fire = hub_tick;
	TAILQ_INIT(&h->links);
}

int
hub_open(struct hub *h, const struct hub_config *cfg, char *msg, size_t cap)
{
	struct name_config name = { .reactor = cfg->reactor,
		.option = cfg->option,
		.spec = cfg->spec,
		.role = cfg->role,
		.links = cfg->links,
		.socket_mode = cfg->socket_mode,
		.socket_group = cfg->socket_group,
		.peer_user = cfg->peer_user,
		.ops = &own_ops,
		.owner = h };

	hub_open_given(h, cfg, &own_keeper, NULL);
	return name_open(&h->name, &name, msg, cap);
}

void
hub_close(struct hub *h)
{
	struct link *l;

	h->over = true;
	while ((l = TAILQ_FIRST(&h->links)))
		link_drop(l, NULL);
	reactor_timer(h->cfg.reactor, &h->tick, CLOCK_NEVER);
	h->keeper->close(h);
}
