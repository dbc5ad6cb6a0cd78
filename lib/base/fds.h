/* base/fds - descriptors and their limit, for every tool. */
#ifndef BASE_FDS_H
#define BASE_FDS_H

#include <stdbool.h>
#include <sys/resource.h>

int fds_fill_standard(void);
	/* Opens /dev/null on each of 0, 1, 2 that is closed.  0 or -errno. */
int fds_raise_limit(struct rlimit *ret_found);
	/* Raises the soft limit of descriptors to the hard one; ret_found is what a COMMAND gets back.  0 or -errno. */
int fds_set_nonblock(int fd, bool on);	/* 0 or -errno */
int fds_set_cloexec(int fd, bool on);	/* 0 or -errno */
int fds_null(int fd);	/* puts /dev/null in the place of one of 0, 1, 2: whoever waits for its end sees it.  0 or -errno */
int fds_keep_null(void);	/* opens it for fds_null now, because later nothing can be opened.  0 or -errno */
void fds_close(int *fd);		/* closes what is open, leaves -1; errno preserved */

#endif
