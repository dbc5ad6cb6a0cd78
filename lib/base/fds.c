/* base/fds - see fds.h. */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fds.h"

int
fds_fill_standard(void)
{
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		/* The lowest free number is fd: all below it are open by now. */
		if (open("/dev/null", O_RDWR) < 0)
			return -errno;
	}
	return 0;
}

int
fds_raise_limit(struct rlimit *ret_found)
{
	struct rlimit found, raised;

	if (getrlimit(RLIMIT_NOFILE, &found) < 0)
		return -errno;
	raised = found;
	raised.rlim_cur = raised.rlim_max;
	if (raised.rlim_cur != found.rlim_cur && setrlimit(RLIMIT_NOFILE, &raised) < 0)
		return -errno;
	*ret_found = found;
	return 0;
}

/* Not F_SETFL: with it a confined process could also take O_APPEND from a log that is shared. */
int
fds_set_nonblock(int fd, bool on)
{
	int value = on;

	return ioctl(fd, FIONBIO, &value) < 0 ? -errno : 0;
}

int
fds_set_cloexec(int fd, bool on)
{
	int old = fcntl(fd, F_GETFD), new = on ? old | FD_CLOEXEC : old & ~FD_CLOEXEC;

	if (old < 0 || (new != old &&fcntl(fd, F_SETFD, new) < 0))
		return -errno;
	return 0;
}

void
fds_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

static int kept_null = -1;

int
fds_keep_null(void)
{
	if (kept_null == -1)
		kept_null = open("/dev/null", O_RDWR | O_CLOEXEC);
	return kept_null == -1 ? -errno : 0;
}

int
fds_null(int fd)
{
	int null = kept_null == -1 ? open("/dev/null", O_RDWR | O_CLOEXEC) : kept_null;
	int rc;

	if (null == -1)
		return -errno;
	rc = dup2(null, fd) == -1 ? -errno : 0;
	if (null != kept_null)
		close(null);
	return rc;
}
