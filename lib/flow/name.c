#include "flow/name.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/fds.h"
#include "base/log.h"
#include "flow/room.h"
#include "net/socket.h"

#define DIAL_FIRST 50 /* ms between attempts, doubling */
#define DIAL_LAST  2000
#define TICK_MS	   1000

static bool
name_produces(const struct name *n)
{
	return n->cfg.role == NOTE_PRODUCER;
}

static void
name_unbind(struct name *n)
{
	if (n->bound.fd == -1)
		return;
	reactor_forget(n->cfg.reactor, &n->watch);
	handoff_unbind(&n->bound);
}

static void
name_quiet(struct name *n)
{
	reactor_timer(n->cfg.reactor, &n->dial, CLOCK_NEVER);
	reactor_timer(n->cfg.reactor, &n->tick, CLOCK_NEVER);
	name_unbind(n);
}

static void
name_over(struct name *n, bool at_once)
{
	reactor_forget(n->cfg.reactor, &n->pipe_watch);
	if (n->over)
		return;
	n->over = true;
	name_quiet(n);
	n->cfg.ops->over(n, at_once);
}

/* There was no ticket. */
static void
name_fail(struct name *n, int status)
{
	n->status = status;
	name_over(n, true);
}

static int
name_take(struct name *n, int fd)
{
	int rc;

	n->n++;
	rc = n->cfg.ops->take(n, fd);
	if (rc < 0)
		n->n--;
	return rc;
}

const char *
name_token(const struct name *n)
{
	return n->ticketed ? n->ticket.token : "";
}

const char *
name_path(const struct name *n)
{
	return n->ticketed ? n->ticket.path : n->bound.path;
}

/* ---- dialling ---- */

static void
name_dial_in(struct name *n, int64_t ms)
{
	if (!n->over && !n->stopped)
		reactor_timer(n->cfg.reactor, &n->dial, reactor_now(n->cfg.reactor) + ms);
}

static void
name_wait_longer(struct name *n)
{
	n->dial_wait = n->dial_wait ? n->dial_wait * 2 : DIAL_FIRST;
	if (n->dial_wait > DIAL_LAST)
		n->dial_wait = DIAL_LAST;
}

static int
name_dial_one(struct name *n, uid_t *uid)
{
	int fd = handoff_dial(name_path(n));

	if (fd >= 0 && !n->ticketed && !handoff_peer_allowed(fd, n->cfg.peer_user, uid)) {
		close(fd);
		return -EPERM;
	}
	return fd < 0 ? fd : name_take(n, fd);
}

/* Opens the links that are wanting, or tries again later. */
static void
name_dial(struct name *n)
{
	uid_t uid = (uid_t)-1;
	int rc = 0;

	while (rc >= 0 && n->n < n->wanted)
		rc = name_dial_one(n, &uid);
	if (rc >= 0)
		return;
	if (!n->missed && rc == -EPERM)
		log_say(LOG_L_WARN,
		    "%s %s: it is held by user %u, neither ours nor root (--peer-user allows "
		    "another); "
		    "trying on",
		    n->cfg.option, name_path(n), (unsigned)uid);
	else if (!n->missed && n->n == 0)
		log_say(LOG_L_INFO, "%s %s: nobody is there yet (%s); trying on", n->cfg.option,
		    name_path(n), strerror(-rc));
	n->missed = true;
	name_wait_longer(n);
	name_dial_in(n, n->dial_wait);
}

static void
name_dial_fire(struct timer *t)
{
	name_dial((struct name *)((char *)t - offsetof(struct name, dial)));
}

static bool
name_dials(const struct name *n)
{
	return n->how == NAME_DIALS || (n->how == NAME_READS_TICKET && n->ticketed);
}

static void
name_want(struct name *n, unsigned links)
{
	n->wanted = links > n->cfg.links ? links : n->cfg.links;
	if (n->wanted > NAME_LINKS_MAX)
		n->wanted = NAME_LINKS_MAX;
}

void
name_greeted(struct name *n, unsigned links)
{
	n->dial_wait = 0;
	n->missed = false;
	if (links <= 1 || !name_dials(n))
		return;
	name_want(n, links);
	if (n->n < n->wanted)
		name_dial_in(n, 0);
}

/* Who closes without a hello does not want us (its log says why), or was just ending. */
static void
name_slighted(struct name *n)
{
	if (!n->missed)
		log_say(LOG_L_INFO,
		    "%s %s: the other side closed the link without a word; trying on",
		    n->cfg.option, name_path(n));
	n->missed = true;
	name_wait_longer(n);
}

void
name_gone(struct name *n, const struct name_end *end)
{
	n->n--;
	if (n->n < NAME_LINKS_MAX / 2)
		n->refused = false;
	if (n->over || n->stopped)
		return;
	if (n->how == NAME_HAS_FD)
		name_over(n, true);
	if (!name_dials(n))
		return;
	if (end->broken) /* who breaks the protocol will do so again */
		n->dial_wait = DIAL_LAST;
	else if (!end->greeted)
		name_slighted(n);
	else if (n->dial_wait == 0)
		n->dial_wait = DIAL_FIRST / 2;
	name_dial_in(n, n->dial_wait);
}

/* ---- bound ---- */

/* With a ticket it is the hello that shows who may. */
static bool
name_lets_in(struct name *n, int fd)
{
	static struct log_class class = { .name = "links of other users" };

	if (n->n >= NAME_LINKS_MAX) {
		if (!n->refused)
			log_say(LOG_L_WARN, "%s %s: more than %d links: further ones are closed",
			    n->cfg.option, n->cfg.spec, NAME_LINKS_MAX);
		n->refused = true;
		return false;
	}
	if (n->ticketed || handoff_peer_allowed(fd, n->cfg.peer_user, NULL))
		return true;
	if (log_admit(&class, reactor_now(n->cfg.reactor)))
		log_event(LOG_L_WARN, NULL, "link-broken", NULL,
		    "%s %s: link with an unknown tool ended: its user is neither ours nor root "
		    "(--peer-user allows another)",
		    n->cfg.option, n->cfg.spec);
	return false;
}

static void
name_accept(struct watch *w, uint32_t got)
{
	struct name *n = (struct name *)((char *)w - offsetof(struct name, watch));
	int fd = 0;

	(void)got;
	for (int i = 0; i < NAME_LINKS_MAX && n->bound.fd != -1; i++) {
		fd = handoff_accept(n->bound.fd);
		if (fd < 0)
			break;
		if (name_lets_in(n, fd))
			(void)name_take(n, fd);
		else
			close(fd);
	}
	if (fd < 0 && fd != -EAGAIN) { /* the tick looks again */
		room_short("cannot accept a link", -fd, "it waits until one is free");
		reactor_want(n->cfg.reactor, &n->watch, 0);
		reactor_timer(n->cfg.reactor, &n->tick, reactor_now(n->cfg.reactor) + TICK_MS);
	}
}

static void
name_tick(struct timer *t)
{
	struct name *n = (struct name *)((char *)t - offsetof(struct name, tick));

	reactor_want(n->cfg.reactor, &n->watch, WATCH_READ);
}

/* ---- the ticket's pipe ---- */

static void
name_pipe_ended(struct name *n)
{
	n->pipe = -1;
	/* a producer's last words are still to be read: its links end by themselves */
	name_over(n, name_produces(n));
}

static int
name_read_ticket(struct name *n)
{
	ssize_t got;
	int used;

	/* one byte at a time: what follows the line is not ours */
	got = read(n->pipe, n->ticket_text + n->ticket_len, 1);
	if (got <= 0)
		return got == 0 ? -EPIPE : -errno;
	used = ticket_parse(&n->ticket, n->ticket_text, n->ticket_len + 1);
	if (n->ticket_len++ == sizeof(n->ticket_text) - 1 && used == -EAGAIN)
		return -EBADMSG;
	return used;
}

static void
name_pipe_ready(struct watch *w, uint32_t got)
{
	struct name *n = (struct name *)((char *)w - offsetof(struct name, pipe_watch));
	int rc;

	if (name_produces(n) || n->ticketed) {
		if (got & (WATCH_HUP | WATCH_ERR))
			name_pipe_ended(n);
		return;
	}
	rc = name_read_ticket(n);
	if (rc == -EAGAIN || rc == -EINTR)
		return;
	if (rc == -EPIPE) {
		log_say(LOG_L_ERROR, "%s %s: the pipe ended before it said where the link is",
		    n->cfg.option, n->cfg.spec);
		n->pipe = -1;
		name_fail(n, CCF_UNAVAILABLE);
	} else if (rc < 0) {
		log_say(LOG_L_ERROR,
		    "%s %s: standard input is not a link's ticket%s: pipe a tool with --to - into "
		    "this one",
		    n->cfg.option, n->cfg.spec,
		    rc == -EPROTONOSUPPORT ? " of a version we know (1)" : "");
		name_fail(n, CCF_PROTOCOL);
	} else {
		n->ticketed = true;
		reactor_want(n->cfg.reactor, &n->pipe_watch, WATCH_HUP);
		name_dial(n);
	}
}

/* ---- from what is written to what is open, and back ---- */

struct spec { /* a name taken apart */
	bool binds;
	const char *path; /* or NULL, and then */
	int fd;
};

static int
spec_fd(struct spec *s, const char *option, const char *spec, char *msg, size_t cap)
{
	const char *err;
	long long number = strtonum(spec + 3, 0, 1 << 20, &err);

	if (err) {
		snprintf(msg, cap, "%s %s: write fd: and the number of a descriptor", option, spec);
		return -EINVAL;
	}
	s->fd = (int)number;
	if (socket_kind(s->fd) != SOCK_SEQPACKET) {
		snprintf(msg, cap, "%s %s: descriptor %d is not a SEQPACKET socket", option, spec,
		    s->fd);
		return -EINVAL;
	}
	return 0;
}

static int
spec_standard(struct spec *s, const char *option, unsigned role, char *msg, size_t cap)
{
	struct stat st;

	s->fd = role == NOTE_PRODUCER ? 1 : 0;
	if (fstat(s->fd, &st) == -1)
		return 0;
	if (isatty(s->fd)) {
		snprintf(msg, cap,
		    role == NOTE_PRODUCER
			? "%s -: standard output is a terminal: pipe it into the next tool, as in "
			  "`... | ccf-connect --from - HOST:PORT`"
			: "%s -: standard input is a terminal: pipe a tool into this one, as in "
			  "`ccf-listen --to - :8443 | ...`",
		    option);
		return -EINVAL;
	}
	if (!S_ISFIFO(st.st_mode) && socket_kind(s->fd) != SOCK_SEQPACKET) {
		snprintf(msg, cap, "%s -: standard %s is neither a pipe nor a link's socket",
		    option, role == NOTE_PRODUCER ? "output" : "input");
		return -EINVAL;
	}
	return 0;
}

static int
spec_path(struct spec *s, const char *option, const char *spec, char *msg, size_t cap)
{
	bool dial = strncmp(spec, "dial:", 5) == 0, bind = strncmp(spec, "bind:", 5) == 0;

	s->path = spec + (dial || bind ? 5 : 0);
	if (dial || bind)
		s->binds = bind;
	if (!*s->path || strlen(s->path) >= sizeof(((struct handoff_bound *)0)->path)) {
		snprintf(msg, cap, "%s %s: a path of 1 to 107 bytes is wanted", option, spec);
		return -EINVAL;
	}
	return 0;
}

static int
spec_parse(
    struct spec *s, const char *option, const char *spec, unsigned role, char *msg, size_t cap)
{
	*s = (struct spec){ .binds = role == NOTE_PRODUCER, .fd = -1 };
	if (strcmp(spec, "-") == 0)
		return spec_standard(s, option, role, msg, cap);
	if (strncmp(spec, "fd:", 3) == 0)
		return spec_fd(s, option, spec, msg, cap);
	return spec_path(s, option, spec, msg, cap);
}

int
name_check(const char *option, const char *spec, unsigned role, char *msg, size_t cap)
{
	struct spec s;

	return spec_parse(&s, option, spec, role, msg, cap);
}

static int
name_bind(struct name *n, const char *path, char *msg, size_t cap)
{
	int rc =
	    handoff_bind(&n->bound, path, n->cfg.socket_mode, n->cfg.socket_group, SOCK_SEQPACKET);

	if (rc < 0) {
		snprintf(msg, cap, "%s %s: cannot bind it: %s", n->cfg.option, path,
		    rc == -EADDRINUSE ? "another tool listens there"
		    : rc == -ENOTSOCK ? "there is a file that is no socket"
				      : strerror(-rc));
		return -EADDRINUSE;
	}
	n->how = NAME_BINDS;
	reactor_watch(n->cfg.reactor, &n->watch, n->bound.fd, name_accept);
	reactor_want(n->cfg.reactor, &n->watch, WATCH_READ);
	return 0;
}

/* The producer's end of "-": a directory, a socket in it, and one line that says where. */
static int
name_write_ticket(struct name *n, int out, char *msg, size_t cap)
{
	char line[TICKET_MAX];
	int rc, len;

	n->cfg.socket_mode = 0666; /* the token is the permission */
	rc = handoff_token(n->ticket.token);
	if (rc == 0)
		rc = handoff_ticket_dir(n->ticket.path, sizeof(n->ticket.path));
	if (rc < 0) {
		snprintf(msg, cap, "%s -: cannot make a directory for the link: %s", n->cfg.option,
		    strerror(-rc));
		return rc;
	}
	rc = name_bind(n, n->ticket.path, msg, cap);
	if (rc < 0) {
		handoff_ticket_remove(n->ticket.path);
		return rc;
	}
	n->ticketed = true;
	len = ticket_print(&n->ticket, line, sizeof(line));
	if (len < 0 || write(out, line, (size_t)len) != len) {
		rc = len < 0 ? len : -errno;
		snprintf(msg, cap, "%s -: cannot write to standard output: %s", n->cfg.option,
		    rc == -EPIPE ? "nobody reads it" : strerror(-rc));
		name_close(n);
		return rc;
	}
	n->pipe = out;
	reactor_watch(n->cfg.reactor, &n->pipe_watch, out, name_pipe_ready);
	reactor_want(n->cfg.reactor, &n->pipe_watch, WATCH_HUP);
	return 0;
}

static int
name_use_fd(struct name *n, int fd, char *msg, size_t cap)
{
	int mine = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int rc = mine < 0 ? -errno : 0;

	n->how = NAME_HAS_FD;
	if (rc == 0)
		rc = name_take(n, mine);
	if (rc < 0)
		snprintf(msg, cap, "%s %s: %s", n->cfg.option, n->cfg.spec, strerror(-rc));
	else if (fd > 2)
		close(fd); /* the copy is the link's; an inherited one would keep it open */
	else
		fds_null(fd);
	return rc;
}

int
name_open(struct name *n, const struct name_config *cfg, char *msg, size_t cap)
{
	struct spec s;
	int rc;

	memset(n, 0, sizeof(*n));
	n->cfg = *cfg;
	n->pipe = -1;
	n->bound.fd = -1;
	n->dial.fire = name_dial_fire;
	n->tick.fire = name_tick;
	name_want(n, 1);
	rc = spec_parse(&s, cfg->option, cfg->spec, cfg->role, msg, cap);
	if (rc < 0)
		return rc;
	if (s.path && s.binds)
		return name_bind(n, s.path, msg, cap);
	if (s.path) {
		n->how = NAME_DIALS;
		strlcpy(n->bound.path, s.path, sizeof(n->bound.path));
		name_dial(n);
		return 0;
	}
	if (socket_kind(s.fd) == SOCK_SEQPACKET)
		return name_use_fd(n, s.fd, msg, cap);
	if (name_produces(n))
		return name_write_ticket(n, s.fd, msg, cap);
	n->how = NAME_READS_TICKET;
	n->pipe = s.fd;
	reactor_watch(cfg->reactor, &n->pipe_watch, s.fd, name_pipe_ready);
	reactor_want(cfg->reactor, &n->pipe_watch, WATCH_READ);
	return 0;
}

void
name_stop(struct name *n)
{
	n->stopped = true;
	name_quiet(n);
	if (n->how == NAME_READS_TICKET && !n->ticketed)
		reactor_forget(n->cfg.reactor, &n->pipe_watch);
}

static bool
name_pipe_hung(const struct name *n)
{
	struct pollfd p = { .fd = n->pipe };

	return poll(&p, 1, 0) == 1 && p.revents & POLLHUP;
}

void
name_close(struct name *n)
{
	n->over = true;
	name_quiet(n);
	reactor_forget(n->cfg.reactor, &n->pipe_watch);
	/* the consumer removes what a killed producer left, if it may */
	if (n->ticketed && (name_produces(n) || n->pipe == -1 || name_pipe_hung(n)))
		handoff_ticket_remove(n->ticket.path);
	n->ticketed = false;
}
