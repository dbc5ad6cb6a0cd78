#include "cmd/nodelink_orders.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/opts.h"
#include "cmd/nodelink_lines.h"
#include "cmd/tool.h"
#include "flow/inlet.h"
#include "flow/node.h"
#include "flow/range.h"
#include "wire/command.h"

#define FILES_MS  100 /* a look whether there are descriptors again */
#define FDS_SPARE 16  /* for dials, and for who asks us */

static struct orders_config cfg;
static struct inlet in;
static int in_fd = -1; /* ours */

static struct timer files_timer;
static bool out_of_files; /* this line waits for descriptors */

/* ---- send ---- */

static void
files_again(struct timer *t)
{
	(void)t;
	inlet_resume(&in);
}

/* Those of messages under way come back.  false: there are none of those. */
static bool
wait_for_files(void)
{
	struct node_peer *p;

	RB_FOREACH(p, node_peers, &cfg.node->peers)
		out_of_files = out_of_files || p->out.ranges > 0;
	files_timer.fire = files_again;
	return out_of_files && reactor_timer(tool.reactor, &files_timer,
				   clock_after(reactor_now(tool.reactor), FILES_MS)) == 0;
}

/* Files may not take the descriptors without which nothing is dialled, and none of them is sent. */
static bool
is_short(int rc, const struct range *r)
{
	struct rlimit limit;

	if (rc < 0)
		return rc == -EMFILE || rc == -ENFILE;
	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)r->fd + FDS_SPARE >= limit.rlim_cur;
}

/* The file's part of a message, looked at before anything is sent. */
static int
piece_open(struct piece *p, const struct command_part *part)
{
	int rc = range_open(&p->range, part->path, part->offset, part->length);

	if (is_short(rc, p->range) && wait_for_files())
		return -EMFILE;
	if (rc == -ERANGE && part->length >= 0)
		lines_error("send: file:%s ends before byte %lld + %lld: nothing was sent",
		    part->path, (long long)part->offset, (long long)part->length);
	else if (rc == -ERANGE)
		lines_error("send: file:%s ends before byte %lld: nothing was sent", part->path,
		    (long long)part->offset);
	else if (rc == -ENODATA)
		lines_error("send: file:%s cannot be read as far as it says it is long: nothing "
			    "was sent",
		    part->path);
	else if (rc == -EINVAL)
		lines_error(
		    "send: %s is no regular file, and only of one can a range be sent", part->path);
	else if (rc < 0)
		lines_error("send: cannot open %s: %s", part->path, strerror(-rc));
	return rc;
}

static bool
too_large(const struct piece *piece, unsigned n)
{
	uint64_t most = cfg.node->cfg.max_frame, size = 16 + cfg.node->cfg.id_len;

	for (unsigned i = 0; i < n; i++) {
		uint64_t len = piece[i].range ? piece[i].range->len : piece[i].len;

		size = len > UINT64_MAX - size ? UINT64_MAX : size + len;
	}
	if (size <= most)
		return false;
	lines_error("send: the frame would be %llu bytes, --max-frame is %llu: nothing was sent",
	    (unsigned long long)size, (unsigned long long)most);
	return true;
}

static bool
obey_send(const struct command *c)
{
	struct piece piece[COMMAND_PARTS] = { 0 };
	unsigned n = 0;
	bool ok = true;

	for (; ok && n < c->n_parts; n++) {
		piece[n] = (struct piece){ .bytes = c->part[n].bytes, .len = c->part[n].len };
		if (!piece[n].bytes)
			ok = piece_open(&piece[n], &c->part[n]) == 0;
	}
	ok = ok && !too_large(piece, n);
	if (ok && node_send(cfg.node, c->id, c->id_len, c->type, piece, n) == NODE_FAILED) {
		lines_error("send: no memory");
		ok = false;
	}
	while (n-- > 0)
		range_free(piece[n].range);
	return ok;
}

/* ---- the others ---- */

static bool
obey_associate(const struct command *c)
{
	struct addr address;
	char msg[512];
	int rc;

	if (addr_parse(&address, c->address, 0, msg, sizeof(msg)) < 0) {
		lines_error("associate: %s", msg);
		return false;
	}
	if (address.kind == ADDR_TCP && !address.host[0]) {
		lines_error("associate: %s: a host to connect to is missing, as in 127.0.0.1%s",
		    c->address, c->address);
		return false;
	}
	rc = node_associate(cfg.node, c->id, c->id_len, &address);
	if (rc == 0)
		return true;
	if (rc == -EINVAL)
		lines_error("associate: that id is our own");
	else if (rc == -ENOSPC)
		lines_error("associate: %d nodes are known already", NODE_PEERS);
	else
		lines_error("associate: %s", strerror(-rc));
	return false;
}

static bool
obey_close(const struct command *c)
{
	int rc = node_end(cfg.node, c->id, c->id_len);

	if (rc == -ENOENT)
		lines_error("close: nobody is known by that id: `links` says who is");
	else if (rc < 0)
		lines_error("close: %s", strerror(-rc));
	return rc == 0;
}

static bool
obey_ping(const struct command *c)
{
	char payload[PINGER_SIZE];
	struct piece piece = { .bytes = payload, .len = sizeof(payload) };
	int rc = pinger_new(cfg.pinger, c->id, c->id_len, payload);

	if (rc < 0) {
		lines_error("ping: %s",
		    rc == -ENOBUFS ? "too many are out without an answer" : strerror(-rc));
		return false;
	}
	if (node_send(cfg.node, c->id, c->id_len, FRAME_PING, &piece, 1) == NODE_FAILED)
		pinger_fail(cfg.pinger, c->id, c->id_len, "no memory");
	return true;
}

static bool
obey_links(void)
{
	struct node_peer *p;
	uint64_t n = 0;

	RB_FOREACH(p, node_peers, &cfg.node->peers) {
		node_look(p);
		lines_peer(p);
		n++;
	}
	lines_links(n);
	return true;
}

static bool
obey(const struct command *c)
{
	bool sends = c->verb == COMMAND_SEND || c->verb == COMMAND_PING;

	if (sends && cfg.silent) {
		lines_error("with --echo nothing else is sent: two echoes would answer each other "
			    "for ever");
		return false;
	}
	switch (c->verb) {
	case COMMAND_ASSOCIATE:
		return obey_associate(c);
	case COMMAND_SEND:
		return obey_send(c);
	case COMMAND_CLOSE:
		return obey_close(c);
	case COMMAND_PING:
		return obey_ping(c);
	case COMMAND_LINKS:
		break;
	}
	return obey_links();
}

/* ---- the lines ---- */

/* false: not now, the same line comes again. */
static bool
order(void *arg, char *line, size_t len)
{
	static struct command c;
	char msg[512];
	int rc;

	(void)arg;
	if (lines_full())
		return false;
	if (!line) {
		lines_error(
		    "a line of more than %d bytes: send file:PATH instead", COMMAND_LINE_MAX);
		cfg.bad();
		return true;
	}
	rc = command_parse(&c, line, len, msg, sizeof(msg));
	if (rc > 0)
		return true;
	if (rc < 0) {
		lines_error("%s", msg);
		cfg.bad();
		return true;
	}
	if ((c.verb == COMMAND_SEND || c.verb == COMMAND_PING) && !cfg.silent &&
	    node_room(cfg.node, c.id, c.id_len) == NODE_WAIT)
		return false;
	out_of_files = false;
	if (!obey(&c) && !out_of_files)
		cfg.bad();
	return !out_of_files;
}

static void
no_more(void *arg, int error)
{
	(void)arg;
	if (error < 0)
		log_event(LOG_L_ERROR, NULL, "stdin-failed", NULL, "cannot read the commands: %s",
		    strerror(-error));
	cfg.over(error);
}

/* A FIFO is opened for writing too: it does not end with each of its writers. */
static int
file_open(const char *file)
{
	struct stat st;
	int64_t n;

	if (strncmp(file, "fd:", 3) == 0) {
		if (parse_size(file + 3, &n) < 0 || n > 1 << 20 || fcntl((int)n, F_GETFD) < 0)
			tool_usage("--commands %s: no such descriptor is open", file);
		return (int)n;
	}
	if (stat(file, &st) < 0)
		tool_die(CCF_SYSTEM, "--commands %s: %s", file, strerror(errno));
	in_fd = open(file, (S_ISFIFO(st.st_mode) ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (in_fd < 0)
		tool_die(CCF_SYSTEM, "--commands %s: %s", file, strerror(errno));
	return in_fd;
}

void
orders_open(const struct orders_config *with, const char *file)
{
	cfg = *with;
	in = (struct inlet){ .longest = COMMAND_LINE_MAX, .line = order, .end = no_more };
	if (inlet_open(&in, tool.reactor, file ? file_open(file) : 0) < 0)
		tool_die(CCF_SYSTEM, "no memory");
}

void
orders_resume(void)
{
	if (cfg.node)
		inlet_resume(&in);
}

void
orders_close(void)
{
	inlet_close(&in);
	if (tool.reactor)
		(void)reactor_timer(tool.reactor, &files_timer, CLOCK_NEVER);
	if (in_fd != -1)
		close(in_fd);
	in_fd = -1;
}
