/* cmd/renew - USR2: the program file is replaced under a tool that keeps running.  Its state goes into a memfd as lines
 * (wire/record); the new program is started as a child that only checks that it can read them and its own options; only if it
 * ends with 0 does this process exec it, with the same arguments: same pid, same sockets, same children.  If it does not, one
 * line says why, and all goes on as before.  The child has copies of every descriptor that crosses, so that it can take them over
 * as the real one will; what it must not do is signal the children, which are not its own. */
#ifndef CMD_RENEW_H
#define CMD_RENEW_H

#include <stdbool.h>
#include <stddef.h>

struct record;
struct text;

#define RENEW_CHECK_MS 5000 /* for the new program to say that it can */

struct renew_ops {
	int (*save)(struct text *); /* appends the tool's lines: what stands there as fd=N crosses the exec.  0 or -errno.  Called
				     * for the check, and again just before the exec, at the end of a turn */
	void (*leave)(void);	    /* just before the exec, which may yet fail: what does not cross it goes; may be NULL */
};

void renew_prepare(char **argv); /* first thing in main: remembers the arguments and where the program file is (argv[0], PATH) */
bool renew_resumes(void);	 /* we were exec'd by renew_now, or check for one: state is there to be read */
bool renew_checks(void);	 /* only to check: bind, open, start nothing; read the state, and exit 0 (renew_checked) */
void renew_read(int (*line)(const struct record *, char *msg, size_t cap));
/* Calls line() for each line that is not renew's own: 0, or an exit status and msg.  Exits where one is refused or cannot be
 * read.  After tool_log_level and tool_stay; renew_prepare has taken its variable out of the environment.
 * Also takes over what renew saved of itself: the descriptor limit that COMMANDs get back (tool.found), the figures
 * (base/metrics) if their layout is the same, and the log level (the check says warnings and errors only, and has no tool.leave).
 * Descriptors become close-on-exec again.  Children that ended in between are reaped in the loop's first turn. */
_Noreturn void renew_checked(void); /* exit 0 */
void renew_now(const struct renew_ops *); /* at USR2, from the loop; borrowed for good.  Again while one is under way: one line */

#endif
