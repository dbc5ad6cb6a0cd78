/* cmd/ready - how a listening tool says that it is there: a file of addresses, a newline, READY=1. */
#ifndef CMD_READY_H
#define CMD_READY_H

#include <stddef.h>
#include <stdint.h>

struct sockaddr_any;

struct ready {
	const char *address_file; /* NULL: none */
	int64_t fd;		  /* -1: none */
	int when;		  /* index of ready_words */
};

extern const char *const ready_words[]; /* bound, listening */

void ready_check(const struct ready *);			    /* exits 2 if fd is not open */
struct ready_name { /* an interface; both borrowed */
	const char *name;
	const struct sockaddr_any *local;
};

void ready_addresses(const struct ready *, const struct ready_name *, size_t n);
/* Writes the file, by rename; a device, a pipe or a symbolic link as it stands.  Exits on failure */
void ready_say(const struct ready *);			    /* the newline, and READY=1 */

#endif
