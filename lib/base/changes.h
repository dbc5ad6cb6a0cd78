/* base/changes - files that may be replaced while we run: device, inode, size, mtime, mode and owner (of what a path leads
 * to, so that a rename, a rewrite in place and a symlink swapped above it all count) are asked once a second, and a change
 * counts when everything has held still for a second. */
#ifndef BASE_CHANGES_H
#define BASE_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHANGES_LOOK_MS	 1000
#define CHANGES_STILL_MS 1000

struct changes {
	char **path;	/* ours */
	size_t n, cap;
	uint64_t loaded; /* what they looked like when they were last loaded, as one number */
	uint64_t seen;	 /* ... at the last look */
	int64_t since;	 /* ms: it has looked like that since then */
};

int changes_add(struct changes *, const char *path); /* copied; a directory stands for every file in it.  0 or -ENOMEM */
void changes_loaded(struct changes *);
/* What is there now is what we have: call it before reading the files, so that a change meanwhile is seen. */
bool changes_look(struct changes *, int64_t now_ms);
/* Something differs from what was loaded, and has held still.  True once; after changes_loaded (also where loading
 * failed) only a new change counts. */
void changes_free(struct changes *);

#endif
