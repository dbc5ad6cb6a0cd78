#include "flow/pipes.h"

#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#define STDIO_SIZE (1024 * 1024)

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

struct pipes *
pipes_borrow(void)
{
	struct pipes *empty = NULL;

	for (int i = 0; i < made; i++) {
		if (pool[i].lent)
			continue;
		if (pool[i].rfd != -1) {
			pool[i].lent = true;
			return &pool[i];
		}
		empty = &pool[i];
	}
	if (!empty && made < PIPES_MAX)
		empty = &pool[made++], empty->rfd = -1;
	return empty && pipes_make(empty) ? empty : NULL;
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
