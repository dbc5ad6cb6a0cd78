/* flow/tell - the two lines every connection gets in the log: one when it opens, one when it closes, which is counted. */
#ifndef FLOW_TELL_H
#define FLOW_TELL_H

#include <stdbool.h>
#include <stdint.h>

struct env;
struct log_who;

#define TELL_PEER_MAX 128

struct tell {	/* who, kept as long as the connection */
	char conn[96];
	char iface[80];
	char peer[TELL_PEER_MAX];
	int64_t since; /* clock_us */
	bool loud;     /* an end that is none is an error line */
	bool hushed;   /* one of a flood that is summed up: its end is a debug line */
	char *why;     /* more about the reason, for the closing line, or NULL; its owner's to free */
};

void tell_from(struct tell *, const struct env *); /* CCF_CONN_ID, CCF_INTERFACE, TCP- or UDPREMOTEIP and -PORT; starts its clock */
struct log_who tell_who(const struct tell *);	   /* borrows */
void tell_open(const struct tell *, const char *what);
void tell_closed(const struct tell *, const char *reason, int status, const char *by, uint64_t in, uint64_t out);
/* "closed: done, by peer, 12 bytes in, 34 out, after 1.234 s"; and counts it (base/metrics) */

#endif
