/* loop/signals - see signals.h. */
#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/fds.h"
#include "loop/children.h"
#include "loop/signals.h"

#define BATCH 8

static struct signals *
owner(struct watch *w)
{
	return (struct signals *)(void *)((char *)w - offsetof(struct signals, watch));
}

/* on() may close us: after each call the watch says whether it did. */
static void
signals_ready(struct watch *w, uint32_t got)
{
	struct signals *s = owner(w);
	struct signalfd_siginfo info[BATCH];
	ssize_t n = read(w->fd, info, sizeof(info));
	size_t count = n > 0 ? (size_t)n / sizeof(info[0]) : 0;

	(void)got; /* more than BATCH: level-triggered, we come again */
	for (size_t i = 0; i < count && w->known; i++) {
		int signo = (int)info[i].ssi_signo;

		if (signo != SIGCHLD)
			s->on(s, signo);
		else if (s->children)
			children_reap(s->children);
	}
}

int
signals_open(struct signals *s, struct reactor *r, const int *list, size_t n,
    void (*on)(struct signals *, int), void *arg)
{
	sigset_t mask, before;
	int fd, err;

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	for (size_t i = 0; i < n; i++)
		sigaddset(&mask, list[i]);
	err = pthread_sigmask(SIG_BLOCK, &mask, &before);
	if (err)
		return -err;
	fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0) {
		err = errno;
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		return -err;
	}
	/* An inherited SIG_IGN for SIGCHLD would have the kernel reap our children for us. */
	signal(SIGCHLD, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	*s = (struct signals){ .reactor = r, .on = on, .arg = arg, .blocked = mask };
	reactor_watch(r, &s->watch, fd, signals_ready);
	reactor_want(r, &s->watch, WATCH_READ);
	return 0;
}

void
signals_close(struct signals *s)
{
	if (!s->watch.known)
		return;
	reactor_forget(s->reactor, &s->watch);
	fds_close(&s->watch.fd);
	pthread_sigmask(SIG_UNBLOCK, &s->blocked, NULL);
}
