#include "flow/handed.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

int
handed_offer(struct link *l, struct link_conn *lc, const struct env *env, int *ret_fd)
{
	int pair[2], rc;

	*ret_fd = -1;
	if (l->modes & NOTE_GIVE)
		return link_conn(l, lc, env, -1);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == -1)
		return -errno;
	rc = link_conn(l, lc, env, pair[1]);
	if (rc < 0) {
		close(pair[0]);
		close(pair[1]);
		return rc;
	}
	*ret_fd = pair[0];
	return 0;
}

static void
handed_pump(struct task *t)
{
	struct handed *h = (struct handed *)((char *)t - offsetof(struct handed, pump));

	h->pumped = true;
	if (h->conn->link)
		link_pump(h->conn->link); /* may end us: then relay is NULL */
	handed_kick(h);
}

/* The eof was sent before the stream's end: once the link has been read, it is there or never
 * comes. */
static int
handed_is_end(void *arg)
{
	struct handed *h = arg;

	if (h->conn->ended)
		return 1;
	if (!h->conn->link || h->pumped)
		return 0;
	reactor_again(h->reactor, &h->pump);
	return -EAGAIN;
}

static int
handed_announce(void *arg)
{
	struct handed *h = arg;

	return link_eof(h->conn);
}

void
handed_open(struct handed *h, struct reactor *reactor, struct link_conn *conn)
{
	*h = (struct handed){ .conn = conn, .reactor = reactor, .pump = { .run = handed_pump } };
}

void
handed_close(struct handed *h)
{
	h->relay = NULL;
	if (h->reactor)
		reactor_drop(h->reactor, &h->pump);
}

struct relay_hooks
handed_hooks(struct handed *h)
{
	return (
	    struct relay_hooks){ .is_end = handed_is_end, .announce = handed_announce, .arg = h };
}

void
handed_kick(struct handed *h)
{
	if (h->relay)
		relay_kick(h->relay);
}
