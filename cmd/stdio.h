/* cmd/stdio - one connection joined to standard input and output. */
#ifndef CMD_STDIO_H
#define CMD_STDIO_H

#include <stddef.h>
#include <stdint.h>

#include "flow/relay.h"

struct stdio_times {
	int64_t idle, half_close, flush; /* ms; -1: none */
};

#define STDIO_TIMES { .idle = -1, .half_close = -1, .flush = 30000 }
#define STDIO_OPTS(t) \
	{ 0, "flush-timeout", "TIME", OPT_LIMIT, &(t).flush, 0, 0, NULL, \
	    "for the other side to acknowledge the last byte (30s)" }

int stdio_join(int fd, const struct stdio_times *, enum relay_peer_end, const void *first, size_t len,
    void (*done)(void *, const struct relay_end *), struct relay **ret);
/* Takes fd on success; with RELAY_PEER_HALF 0 and 1 are used up, else they are kept for the next.  0 or -errno. */
void stdio_close(int status); /* at the end of the process: what was kept ends cleanly, if it did */
void stdio_say(const struct relay_end *); /* a line for a transfer that was cut */

#endif
