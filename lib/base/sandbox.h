/* base/sandbox - gives up what a process needs no more: identity, privileges, system calls (seccomp). */
#ifndef BASE_SANDBOX_H
#define BASE_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define IDENTITY_GROUPS_MAX 256

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t groups[IDENTITY_GROUPS_MAX]; /* n_groups of them: his supplementary ones, and gid */
	int n_groups;
	char name[64];			   /* USER, as given */
};

int identity_find(struct identity *, const char *user, char *msg, size_t cap);
/* USER or USER:GROUP, names or numbers (a number without an entry needs GROUP).  0; -EINVAL: there is none, msg says which */
int identity_take(const struct identity *, char *msg, size_t cap);
/* Groups, gid, uid: real, effective and saved, for good (checked); no capabilities (but root's as root), no_new_privs.
 * Already being him takes no privilege.  0; -errno: msg says which call, and the remedy */

enum { /* what stays allowed besides moving bytes between descriptors that are open */
	SANDBOX_UNIX_DIAL = 1, /* a single connection's own link, opened before: socket and connect of AF_UNIX streams, accept,
				  unlink, rmdir, lstat, open with O_PATH */
};

int sandbox_enter(unsigned allow, char *msg, size_t cap);
/* From now on any system call but those of a running tool kills the process with SIGSYS: none that opens a file, makes a
 * socket (socketpair may), connects, binds, executes, forks, traces or changes identity; mmap and mprotect never
 * PROT_EXEC.  The loop, signals and whatever else is opened once has to be there before.  Sets TZ (so that times can be
 * printed), forbids cores, drops every capability and sets no_new_privs first.  0; -errno (-ENOSYS, -EINVAL: this kernel has
 * no seccomp): msg says what failed; nothing of the filter holds then. */

#endif
