/* flow/access - the access log: one line a request, written at once (O_APPEND: several workers share the file).
 * text: NCSA's combined format, then the connection's id and the time taken in seconds.
 * json: ts conn iface peer method target protocol status in out seconds cut referer agent, one object a line.
 * What came from the peer is escaped.  A line has at most 8 KiB: what is long is shortened. */
#ifndef FLOW_ACCESS_H
#define FLOW_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

struct http1_record;
struct tell;

struct access {
	int fd;        /* -1: nowhere (yet) */
	bool json;
	uint64_t lost; /* lines, since writing works no more */
	bool torn;     /* the last one is there in part: the next begins with a newline */
};

int access_file(const char *path);
/* Opens it for appending, made with mode 0640 if it is not there; "-" is standard error (a copy).  A descriptor (CLOEXEC, and
 * non-blocking but for "-": who does not read a FIFO loses lines), or -errno */
void access_use(struct access *, int fd); /* takes fd; the one before is closed */
void access_line(struct access *, const struct tell *, const struct http1_record *);
/* A write that fails is said once in the log, and again when it works. */
void access_close(struct access *);

#endif
