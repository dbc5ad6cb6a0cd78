/* flow/pipes - kernel pipes for splice, borrowed only while bytes are in them.
 * A process has at most PIPES_MAX of PIPES_SIZE: an ordinary user owns 64 MiB of pipe in all,
 * and what we take is missing in his other programs.  Who gets none reads and writes. */
#ifndef FLOW_PIPES_H
#define FLOW_PIPES_H

#include <stdbool.h>

#define PIPES_MAX  32
#define PIPES_SIZE (256 * 1024)

struct pipes {
	int rfd, wfd;
	int size; /* bytes it holds */
	bool lent;
};

struct pipes *pipes_borrow(void);
/* An empty pipe, or NULL: all that there may be are lent. */
void pipes_return(struct pipes *, bool empty);
/* NULL is legal.  Not empty: it is closed, not used again. */
unsigned pipes_most(void);   /* how many there may be: with both ends no more than an eighth of the descriptors */
void pipes_close_idle(void); /* gives the descriptors of idle ones back */
void pipes_enlarge(int fd);
/* stdin or stdout of a single transfer: 1 MiB if the kernel allows; not a pipe: nothing. */

#endif
