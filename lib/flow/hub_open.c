/* From a name as it is written to a hub that is open, and back. */
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
#include "base/fds.h"
#include "net/socket.h"

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
	if (hub_produces(h))
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
	if (h->ticketed && (hub_produces(h) || h->pipe == -1 || hub_pipe_hung(h)))
		handoff_ticket_remove(h->ticket.path);
	h->ticketed = false;
}
