#include "cmd/stdio.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/transport.h"
#include "cmd/tool.h"
#include "flow/pipes.h"
#include "flow/relay.h"
#include "net/stream.h"

static struct transport *ours; /* kept, it lives through several connections */

int
stdio_join(int fd, const struct stdio_times *times, enum relay_peer_end peer_end, const void *first,
    size_t len, void (*done)(void *, const struct relay_end *), struct relay **ret)
{
	bool keep = peer_end != RELAY_PEER_HALF;
	struct relay_config rc = { .stdio = true,
		.keep_b = keep,
		.peer_end = peer_end,
		.idle = times->idle,
		.half_close = times->half_close,
		.flush = times->flush,
		.first = first,
		.first_len = len,
		.done = done };
	int err = 0;

	if (!ours) {
		pipes_enlarge(STDIN_FILENO);
		pipes_enlarge(STDOUT_FILENO);
		err = stream_new(STDIN_FILENO, STDOUT_FILENO, false, &ours);
	}
	if (err == 0)
		err = stream_new(fd, fd, true, &rc.a);
	if (err < 0)
		return err;
	rc.b = ours;
	err = relay_start(ret, tool.reactor, &rc);
	if (err < 0) {
		rc.a->ops->close(rc.a, true); /* closes fd: the caller is about to end */
		return err;
	}
	if (!keep)
		ours = NULL;
	return 0;
}

void
stdio_close(int status)
{
	if (ours)
		ours->ops->close(ours, status != 0);
	ours = NULL;
}

void
stdio_say(const struct relay_end *end)
{
	if (end->status == 0)
		return;
	log_event(LOG_L_ERROR, NULL, "cut", NULL,
	    "%s: %s%s%s; %" PRIu64 " bytes received, %" PRIu64 " sent",
	    end->status == CCF_STDOUT	  ? "standard output went away"
	    : end->status == CCF_DEADLINE ? "a deadline passed"
					  : "the connection was cut",
	    end->reason, end->error ? ": " : "", end->error ? strerror(end->error) : "", end->in,
	    end->out);
}
