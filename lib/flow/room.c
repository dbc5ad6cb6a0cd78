#include "flow/room.h"

#include <sys/resource.h>

#include "flow/link.h"

unsigned
room_for(unsigned live, unsigned each, unsigned keep)
{
	struct rlimit limit;
	rlim_t used = (rlim_t)live * each + keep;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur == RLIM_INFINITY)
		return LINK_WINDOW;
	if (limit.rlim_cur <= used)
		return 0;
	return (limit.rlim_cur - used) / each > LINK_WINDOW
		   ? LINK_WINDOW
		   : (unsigned)((limit.rlim_cur - used) / each);
}
