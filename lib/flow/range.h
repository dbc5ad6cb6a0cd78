/* flow/range - bytes that lie in a file and are sent from there without passing through us: a range of one that somebody names,
 * or a payload too long for memory that was written there while it arrived.  Shared by counting. */
#ifndef FLOW_RANGE_H
#define FLOW_RANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
	unsigned refs;
	int fd;        /* ours */
	int64_t offset;
	uint64_t len;
	char *path;    /* where it is kept for the user (--save), or NULL */
	bool spooled;  /* its file is ours and has no name: it takes up space until the last ref goes */
};

int range_open(struct range **ret, const char *path, int64_t offset, int64_t length);
/* Of a regular file; length -1: to its end.  0 (one ref); -errno of open; -EINVAL: no regular file; -ERANGE: the file ends before
 * offset + length, or offset lies behind its end; -ENODATA: its last byte cannot be read, or it says that it is empty and is not
 * (/proc, /sys): its size is not true */
int range_new(struct range **ret, const char *dir, const char *name);
/* An empty one, to be written.  name: dir/.name until range_done has kept it as dir/name (never over another: with .2, .3 ...
 * then, the first that is free as far as that is found by bisection); NULL: it has no name at all (O_TMPFILE, or made and
 * unlinked), and dir NULL is $TMPDIR, else /tmp.  0 or -errno */
int range_write(struct range *, const void *, size_t len); /* appends; 0 or -errno (-ENOSPC ...) */
int range_done(struct range *);  /* it is whole: gives it its name.  0 or -errno */
struct range *range_keep(struct range *);  /* one ref more */
void range_free(struct range *);           /* one less; the last closes, and removes a file that was not done.  NULL too */
int range_check(const struct range *);     /* is it still as long?  0; -ESTALE: it has shrunk; -errno */

#endif
