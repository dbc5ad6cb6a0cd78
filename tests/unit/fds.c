/* fds: each case that changes the process runs in a child of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fds.h"
#include "check.h"

static bool
in_child(bool (*f)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(f() ? 0 : 1);
	return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool
open_on(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static bool
all_closed(void)
{
	close_range(0, ~0U, 0);
	return fds_fill_standard() == 0 && open_on(0) && open_on(1) && open_on(2) && !open_on(3) &&
	       write(1, "x", 1) == 1 && read(0, (char[1]){ 0 }, 1) == 0;
}

static bool
one_closed(void)
{
	close_range(3, ~0U, 0);
	close(1);
	return fds_fill_standard() == 0 && open_on(1) && !open_on(3);
}

CASE(closed_standard_descriptors_are_opened_on_dev_null)
{
	CHECK(in_child(all_closed));
	CHECK(in_child(one_closed));
}

static bool
null_in_place(void)
{
	int p[2];

	if (pipe(p) < 0 || dup2(p[1], 1) < 0 || close(p[1]) < 0)
		return false;
	fds_null(1);
	return read(p[0], (char[1]){ 0 }, 1) == 0 && write(1, "x", 1) == 1 && !open_on(p[1]);
}

CASE(dev_null_in_its_place_lets_the_other_side_see_the_end)
{
	CHECK(in_child(null_in_place));
}

static bool
limit_is_raised(void)
{
	struct rlimit found = { 0 }, now;

	getrlimit(RLIMIT_NOFILE, &now);
	now.rlim_cur = 20;
	if (setrlimit(RLIMIT_NOFILE, &now) < 0 || fds_raise_limit(&found) < 0)
		return false;
	getrlimit(RLIMIT_NOFILE, &now);
	return found.rlim_cur == 20 && now.rlim_cur == now.rlim_max &&
	       found.rlim_max == now.rlim_max;
}

CASE(the_soft_limit_is_raised_and_the_found_one_told)
{
	CHECK(in_child(limit_is_raised));
}

CASE(flags_are_set_and_cleared)
{
	int p[2];

	CHECK(pipe(p) == 0);
	CHECK_INT(fds_set_nonblock(p[0], true), 0);
	CHECK(fcntl(p[0], F_GETFL) & O_NONBLOCK);
	CHECK_INT(fds_set_nonblock(p[0], false), 0);
	CHECK(!(fcntl(p[0], F_GETFL) & O_NONBLOCK));
	CHECK_INT(fds_set_cloexec(p[0], true), 0);
	CHECK(fcntl(p[0], F_GETFD) & FD_CLOEXEC);
	CHECK_INT(fds_set_cloexec(p[0], false), 0);
	CHECK(!(fcntl(p[0], F_GETFD) & FD_CLOEXEC));
	close(p[0]);
	CHECK_INT(fds_set_nonblock(p[0], true), -EBADF);
	CHECK_INT(fds_set_cloexec(p[0], true), -EBADF);
	close(p[1]);
}

CASE(closing_keeps_errno_and_leaves_minus_one)
{
	int p[2];

	CHECK(pipe(p) == 0);
	errno = EXDEV;
	fds_close(&p[0]);
	fds_close(&p[0]);
	CHECK_INT(p[0], -1);
	CHECK_INT(errno, EXDEV);
	fds_close(&p[1]);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(closed_standard_descriptors_are_opened_on_dev_null),
	    RUN(dev_null_in_its_place_lets_the_other_side_see_the_end),
	    RUN(the_soft_limit_is_raised_and_the_found_one_told),
	    RUN(flags_are_set_and_cleared),
	    RUN(closing_keeps_errno_and_leaves_minus_one),
	    { 0 },
	});
}
