#include "flow/room.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "flow/pipes.h"

#define EPISODE_MS 10000
#define ROOM_MAX   (1U << 20)

void
room_short(const char *failed, int error, const char *so)
{
	static int64_t last;
	int64_t now = clock_ms();

	if (!last || now - last > EPISODE_MS)
		log_event(LOG_L_WARN, NULL, "starved", NULL,
		    "%s: %s; %s (raise the limit with ulimit -n)", failed, strerror(error), so);
	last = now;
}

unsigned
room_for(unsigned live, unsigned each, unsigned keep)
{
	struct rlimit limit;
	rlim_t used = (rlim_t)live * each + keep + 2 * pipes_most(), room;

	if (getrlimit(RLIMIT_NOFILE, &limit) == -1 || limit.rlim_cur == RLIM_INFINITY)
		return ROOM_MAX;
	room = limit.rlim_cur > used ? (limit.rlim_cur - used) / each : 0;
	if (room == 0)
		room_short("taking no connections", EMFILE,
		    "they wait where they come from until one has ended");
	return room < ROOM_MAX ? (unsigned)room : ROOM_MAX;
}
