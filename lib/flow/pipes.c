#include "flow/pipes.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/resource.h>
#include <unistd.h>

#define STDIO_SIZE (1024 * 1024)
#define PART	   16 /* of the descriptors, for each end */

static struct pipes pool[PIPES_MAX];
static int made; /* slots 0..made-1 have been used; a slot without descriptors has rfd -1 */

static bool
pipes_make(struct pipes *p)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) == -1)
		return false;
	p->rfd = fd[0];
	p->wfd = fd[1];
	p->size = fcntl(p->wfd, F_SETPIPE_SZ, PIPES_SIZE);
	if (p->size == -1)
		p->size = fcntl(p->wfd, F_GETPIPE_SZ);
	p->lent = true;
	return true;
}

unsigned
pipes_most(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur / PART > PIPES_MAX)
		return PIPES_MAX;
	return (unsigned)limit.rlim_cur / PART;
}

struct pipes *
pipes_borrow(void)
{
	struct pipes *empty = NULL;
	unsigned lent = 0;

	for (int i = 0; i < made; i++) {
		lent += pool[i].lent;
		if (!pool[i].lent && pool[i].rfd == -1)
			empty = &pool[i];
		else if (!pool[i].lent) {
			pool[i].lent = true;
			return &pool[i];
		}
	}
	if (lent >= pipes_most())
		return NULL;
	if (!empty)
		empty = &pool[made++], empty->rfd = -1;
	return pipes_make(empty) ? empty : NULL;
}

static void
pipes_drop(struct pipes *p)
{
	close(p->rfd);
	close(p->wfd);
	p->rfd = p->wfd = -1;
}

void
pipes_return(struct pipes *p, bool empty)
{
	if (!p)
		return;
	p->lent = false;
	if (!empty)
		pipes_drop(p);
}

void
pipes_close_idle(void)
{
	for (int i = 0; i < made; i++)
		if (!pool[i].lent && pool[i].rfd != -1)
			pipes_drop(&pool[i]);
}

void
pipes_enlarge(int fd)
{
	if (fcntl(fd, F_GETPIPE_SZ) > 0)
		(void)fcntl(fd, F_SETPIPE_SZ, STDIO_SIZE);
}
