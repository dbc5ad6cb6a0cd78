#include "flow/hub.h"

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

static bool
producing(const struct hub *h)
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
	return producing(h) && !h->bidden ? CCF_UNAVAILABLE : 0;
}

/* ---- a link more, a link less ---- */

static int
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

static void
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

static void
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
	if (producing(h))
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

static void
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
	if (producing(h) || h->n == 0 || !h->ticketed) {
		struct link *l, *next;

		TAILQ_FOREACH_SAFE(l, &h->links, of_hub, next)
			link_pump(l);
		TAILQ_FOREACH(l, &h->links, of_hub)
			h->bidden = l->drained;
		hub_over(h, producing(h) || h->ticketed ? hub_verdict(h) : CCF_UNAVAILABLE);
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

static void
hub_pipe_ready(struct watch *w, uint32_t got)
{
	struct hub *h = (struct hub *)((char *)w - offsetof(struct hub, pipe_watch));
	int rc;

	if (producing(h) || h->ticketed) {
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

static void
hub_tick(struct timer *t)
{
	struct hub *h = (struct hub *)((char *)t - offsetof(struct hub, tick));
	int64_t now = reactor_now(h->cfg.reactor);
	struct link *l, *next;
	bool more = false;

	if (h->how == HUB_BINDS && !h->over)
		reactor_want(h->cfg.reactor, &h->watch, WATCH_READ);
	TAILQ_FOREACH_SAFE(l, &h->links, of_hub, next)
		more |= producing(h) && hub_tick_link(h, l, now);
	if (more)
		reactor_timer(h->cfg.reactor, &h->tick, now + TICK_MS);
	if (!producing(h))
		hub_regrant(h);
}

void
hub_sent_conn(struct hub *h)
{
	if (!h->tick.slot)
		reactor_timer(h->cfg.reactor, &h->tick, reactor_now(h->cfg.reactor) + TICK_MS);
}

/* ---- opening ---- */

/* Takes the spec apart: what it is, and its path or descriptor. */
static int
hub_spec(const char *option, const char *spec, unsigned role, bool *binds, const char **path,
    int *fd, char *msg, size_t cap)
{
	struct stat st;

	*binds = role == NOTE_PRODUCER;
	*path = NULL;
	*fd = -1;
	if (strcmp(spec, "-") == 0)
		*fd = role == NOTE_PRODUCER ? 1 : 0;
	else if (strncmp(spec, "fd:", 3) == 0) {
		const char *err;
		long long n = strtonum(spec + 3, 0, 1 << 20, &err);

		if (err) {
			snprintf(msg, cap, "%s %s: write fd: and the number of a descriptor",
			    option, spec);
			return -EINVAL;
		}
		*fd = (int)n;
		if (socket_kind(*fd) != SOCK_SEQPACKET) {
			snprintf(msg, cap, "%s %s: descriptor %d is not a SEQPACKET socket", option,
			    spec, *fd);
			return -EINVAL;
		}
	} else {
		bool dial = strncmp(spec, "dial:", 5) == 0, bind = strncmp(spec, "bind:", 5) == 0;

		*path = spec + (dial || bind ? 5 : 0);
		if (dial || bind)
			*binds = bind;
		if (!**path || strlen(*path) >= sizeof(((struct handoff_bound *)0)->path)) {
			snprintf(
			    msg, cap, "%s %s: a path of 1 to 107 bytes is wanted", option, spec);
			return -EINVAL;
		}
	}
	if (*path || fstat(*fd, &st) == -1 || strcmp(spec, "-") != 0)
		return 0;
	if (isatty(*fd)) {
		snprintf(msg, cap,
		    role == NOTE_PRODUCER
			? "%s -: standard output is a terminal: pipe it into the next tool, as in "
			  "`... | ccf-connect --from - HOST:PORT`"
			: "%s -: standard input is a terminal: pipe a tool into this one, as in "
			  "`ccf-listen --to - :8443 | ...`",
		    option);
		return -EINVAL;
	}
	if (!S_ISFIFO(st.st_mode) && socket_kind(*fd) != SOCK_SEQPACKET) {
		snprintf(msg, cap, "%s -: standard %s is neither a pipe nor a link's socket",
		    option, role == NOTE_PRODUCER ? "output" : "input");
		return -EINVAL;
	}
	return 0;
}

int
hub_check(const char *option, const char *spec, unsigned role, char *msg, size_t cap)
{
	const char *path;
	bool binds;
	int fd;

	return hub_spec(option, spec, role, &binds, &path, &fd, msg, cap);
}

static int
hub_bind(struct hub *h, const char *path, char *msg, size_t cap)
{
	int rc =
	    handoff_bind(&h->bound, path, h->cfg.socket_mode, h->cfg.socket_group, SOCK_SEQPACKET);

	if (rc < 0) {
		snprintf(msg, cap, "%s %s: cannot bind it: %s", h->cfg.option, path,
		    rc == -EADDRINUSE ? "another tool listens there"
		    : rc == -ENOTSOCK ? "there is a file that is no socket"
				      : strerror(-rc));
		return -EADDRINUSE;
	}
	h->how = HUB_BINDS;
	reactor_watch(h->cfg.reactor, &h->watch, h->bound.fd, hub_accept);
	reactor_want(h->cfg.reactor, &h->watch, WATCH_READ);
	return 0;
}

/* The producer's end of "-": a directory, a socket in it, and one line that says where. */
static int
hub_write_ticket(struct hub *h, int out, char *msg, size_t cap)
{
	char line[TICKET_MAX];
	int rc, n;

	h->cfg.socket_mode = 0666; /* the token is the permission */
	rc = handoff_token(h->ticket.token);
	if (rc == 0)
		rc = handoff_ticket_dir(h->ticket.path, sizeof(h->ticket.path));
	if (rc < 0) {
		snprintf(msg, cap, "%s -: cannot make a directory for the link: %s", h->cfg.option,
		    strerror(-rc));
		return rc;
	}
	rc = hub_bind(h, h->ticket.path, msg, cap);
	if (rc < 0) {
		handoff_ticket_remove(h->ticket.path);
		return rc;
	}
	h->ticketed = true;
	n = ticket_print(&h->ticket, line, sizeof(line));
	if (n < 0 || write(out, line, (size_t)n) != n) {
		rc = n < 0 ? n : -errno;
		snprintf(msg, cap, "%s -: cannot write to standard output: %s", h->cfg.option,
		    rc == -EPIPE ? "nobody reads it" : strerror(-rc));
		hub_close(h);
		return rc;
	}
	h->pipe = out;
	reactor_watch(h->cfg.reactor, &h->pipe_watch, out, hub_pipe_ready);
	reactor_want(h->cfg.reactor, &h->pipe_watch, WATCH_HUP);
	return 0;
}

static int
hub_use_fd(struct hub *h, int fd, char *msg, size_t cap)
{
	int mine = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int rc = mine < 0 ? -errno : 0;

	h->how = HUB_HAS_FD;
	if (rc == 0)
		rc = hub_take(h, mine);
	if (rc < 0)
		snprintf(msg, cap, "%s %s: %s", h->cfg.option, h->cfg.spec, strerror(-rc));
	else if (fd > 2)
		close(fd); /* the copy is the link's; an inherited one would keep it open */
	else
		fds_null(fd);
	return rc;
}

int
hub_open(struct hub *h, const struct hub_config *cfg, char *msg, size_t cap)
{
	const char *path;
	bool binds;
	int fd, rc;

	memset(h, 0, sizeof(*h));
	h->cfg = *cfg;
	h->pipe = -1;
	h->bound.fd = -1;
	h->wanted = 1;
	h->dial.fire = hub_dial_fire;
	h->tick.fire = hub_tick;
	TAILQ_INIT(&h->links);
	rc = hub_spec(cfg->option, cfg->spec, cfg->role, &binds, &path, &fd, msg, cap);
	if (rc < 0)
		return rc;
	if (path && binds)
		return hub_bind(h, path, msg, cap);
	if (path) {
		h->how = HUB_DIALS;
		strlcpy(h->bound.path, path, sizeof(h->bound.path));
		hub_dial(h);
		return 0;
	}
	if (socket_kind(fd) == SOCK_SEQPACKET)
		return hub_use_fd(h, fd, msg, cap);
	if (producing(h))
		return hub_write_ticket(h, fd, msg, cap);
	h->how = HUB_READS_TICKET;
	h->pipe = fd;
	reactor_watch(cfg->reactor, &h->pipe_watch, fd, hub_pipe_ready);
	reactor_want(cfg->reactor, &h->pipe_watch, WATCH_READ);
	return 0;
}

static bool
hub_pipe_hung(const struct hub *h)
{
	struct pollfd p = { .fd = h->pipe };

	return poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

void
hub_close(struct hub *h)
{
	struct link *l;

	h->over = true;
	while ((l = TAILQ_FIRST(&h->links)))
		link_drop(l, NULL);
	reactor_timer(h->cfg.reactor, &h->dial, CLOCK_NEVER);
	reactor_timer(h->cfg.reactor, &h->tick, CLOCK_NEVER);
	if (h->pipe != -1)
		reactor_forget(h->cfg.reactor, &h->pipe_watch);
	if (h->how == HUB_BINDS && h->bound.fd != -1) {
		reactor_forget(h->cfg.reactor, &h->watch);
		handoff_unbind(&h->bound);
	}
	/* the consumer removes what a killed producer left, if it may */
	if (h->ticketed && (producing(h) || h->pipe == -1 || hub_pipe_hung(h)))
		handoff_ticket_remove(h->ticket.path);
	h->ticketed = false;
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
	if (producing(h))
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
