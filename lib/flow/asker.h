/* flow/asker - standard input as datagrams, answers to standard output, over one connected UDP socket. */
#ifndef FLOW_ASKER_H
#define FLOW_ASKER_H

#include <stdint.h>

#include "loop/reactor.h"

struct asker;
struct asker_end;

struct asker_config {
	struct reactor *reactor;
	int fd;		 /* connected (datagram_connect); taken */
	int in, out;	 /* 0 and 1, borrowed: their O_NONBLOCK is never touched */
	unsigned block;	 /* 0: a line is a datagram, with its newline; else so many bytes are, the last may be shorter */
	unsigned window; /* unanswered ones at most; 0: no limit.  At the limit nothing is read */
	int64_t answers; /* answers to wait for after the end of input; -1: as many as were sent; 0: none */
	int64_t timeout; /* ms to wait for the next answer, after the end of input or at the limit of the window; -1: none */
	void (*done)(void *arg, const struct asker_end *);
	void *arg;
};

struct asker_end {
	const char *reason; /* done, timed-out, refused, too-long, stdin-failed, stdout-gone, send-failed */
	int status;	    /* base/exit.h */
	int error;	    /* errno where there is one */
	uint64_t sent, sent_bytes, answers, answer_bytes, line; /* line: of the one that is too long, from 1 */
};

int asker_new(struct asker **ret, const struct asker_config *); /* begins.  0 or -errno, and then fd is the caller's */
void asker_free(struct asker *); /* after done(), or before: NULL too.  Not from done() */

#endif
