/* flow/asker - standard input as datagrams, answers to standard output, over one connected UDP socket.
 * - a line (or block) goes out whole or not at all; one that is too long is the end of the input, and the end is too-long;
 * - while standard output takes no more, no answers are taken from the kernel's buffer; what comes after the last one that is
 *   waited for is not written;
 * - the port is refused (ECONNREFUSED): nothing more is sent, and what was answered before is still written. */
#ifndef FLOW_ASKER_H
#define FLOW_ASKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/reactor.h"

struct asker;
struct asker_end;

struct asker_config {
	struct reactor *reactor;
	int fd;		 /* a connected UDP socket; taken */
	int in, out;	 /* 0 and 1, borrowed: their O_NONBLOCK is never touched */
	unsigned block;	 /* 0: a line is a datagram, with its newline; else so many bytes are, the last may be shorter */
	unsigned window; /* unanswered ones at most; 0: no limit */
	int64_t answers; /* answers to wait for after the end of input; -1: as many as were sent; 0: none */
	int64_t timeout; /* ms to wait for the next answer, after the end of input or at the limit of the window; -1: none */
	void (*done)(void *arg, const struct asker_end *);
	void (*trace)(void *arg, const char *what, size_t len); /* NULL: no trace.  what: "out" or "in" */
	void *arg;
};

struct asker_end {
	const char *reason; /* done, timed-out, refused, too-long, stdin-failed, stdout-gone, send-failed */
	int status;	    /* base/exit.h */
	int error;	    /* errno where there is one */
	uint64_t sent, sent_bytes, answers, answer_bytes;
	uint64_t unsent; /* datagrams that were read and not sent */
	bool more;	 /* standard input was not read to its end */
	uint64_t line;	 /* of the one that is too long, from 1 */
};

int asker_new(struct asker **ret, const struct asker_config *); /* begins.  0 or -errno, and then fd is the caller's */
void asker_free(struct asker *); /* after done(), or before: NULL too.  Not from done() */

#endif
