/* cmd/connect_udp - `ccf-connect udp:HOST:PORT`: its options, and standard input and output as datagrams and answers. */
#ifndef CMD_CONNECT_UDP_H
#define CMD_CONNECT_UDP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/opts.h"
#include "net/datagram.h"

struct addr;

struct connect_udp {
	int64_t size, window; /* 0: not given */
	int64_t answers;      /* -1: not given */
	int64_t timeout;      /* -2: not given */
};

extern struct connect_udp connect_udp;

#define CONNECT_UDP_OPTS \
	{ 0, "answer-timeout", "TIME", OPT_LIMIT, &connect_udp.timeout, 0, 0, NULL, \
	    "(udp) for the next answer: at the end, or at the window's limit (3s)" }, \
	{ 0, "answers", "N", OPT_NUMBER, &connect_udp.answers, 0, 0, NULL, \
	    "(udp) to wait for at the end (as many as datagrams went)" }, \
	{ 0, "datagram-size", "N", OPT_NUMBER, &connect_udp.size, 1, DATAGRAM_MAX, NULL, \
	    "(udp) bytes of standard input a datagram (a line is one)" }, \
	{ 0, "window", "N", OPT_NUMBER, &connect_udp.window, 1, INT32_MAX, NULL, \
	    "(udp) datagrams on their way without an answer, at most (no limit)" }

bool connect_udp_check(const struct addr *, bool command);
/* Is it udp:?  Exits 2 where its options stand without it, or with a COMMAND */
void connect_udp_start(int fd); /* once connected; takes fd, ends the tool */
void connect_udp_close(void);

#endif
