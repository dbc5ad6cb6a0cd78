#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/changes.h"

#define SEED 0xcbf29ce484222325u /* FNV-1a */

static uint64_t
mix(uint64_t sum, const void *data, size_t n)
{
	const unsigned char *p = data;

	for (; n; n--, p++)
		sum = (sum ^ *p) * 0x100000001b3u;
	return sum;
}

/* What a path leads to, as one number; one that leads nowhere looks like its errno. */
static uint64_t
look_at(int dir, const char *path, bool *is_dir)
{
	struct stat st;
	int64_t what[9] = { 0 };

	*is_dir = false;
	if (fstatat(dir, path, &st, 0) == -1)
		what[0] = errno;
	else {
		*is_dir = S_ISDIR(st.st_mode);
		what[1] = (int64_t)st.st_dev;
		what[2] = (int64_t)st.st_ino;
		what[3] = (int64_t)st.st_size;
		what[4] = (int64_t)st.st_mtim.tv_sec;
		what[5] = (int64_t)st.st_mtim.tv_nsec;
		what[6] = (int64_t)st.st_mode; /* who may not be read today, may tomorrow */
		what[7] = (int64_t)st.st_uid;
		what[8] = (int64_t)st.st_gid;
	}
	return mix(SEED, what, sizeof(what));
}

/* Summed, so that the order in which entries are listed does not matter. */
static uint64_t
look_in(const char *path)
{
	DIR *dir = opendir(path);
	uint64_t sum = 0;
	struct dirent *e;
	bool is_dir;

	if (!dir)
		return (uint64_t)errno;
	while ((e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		sum += mix(look_at(dirfd(dir), e->d_name, &is_dir), e->d_name, strlen(e->d_name));
	}
	closedir(dir);
	return sum;
}

/* Never 0: that is "not looked yet". */
static uint64_t
look(const struct changes *c)
{
	uint64_t sum = SEED, one;
	bool is_dir;

	for (size_t i = 0; i < c->n; i++) {
		one = look_at(AT_FDCWD, c->path[i], &is_dir);
		sum = mix(sum, &one, sizeof(one));
		one = is_dir ? look_in(c->path[i]) : 0;
		sum = mix(sum, &one, sizeof(one));
	}
	return sum ? sum : 1;
}

int
changes_add(struct changes *c, const char *path)
{
	char *copy, **more;

	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 8;

		more = reallocarray(c->path, cap, sizeof(*more));
		if (!more)
			return -ENOMEM;
		c->path = more;
		c->cap = cap;
	}
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	c->path[c->n++] = copy;
	return 0;
}

void
changes_loaded(struct changes *c)
{
	c->loaded = c->seen = look(c);
}

bool
changes_look(struct changes *c, int64_t now_ms)
{
	uint64_t now = look(c);

	if (!c->loaded)
		c->loaded = c->seen = now;
	if (now != c->seen) {
		c->seen = now;
		c->since = now_ms;
		return false;
	}
	if (now == c->loaded || now_ms - c->since < CHANGES_STILL_MS)
		return false;
	c->loaded = now;
	return true;
}

void
changes_free(struct changes *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->path[i]);
	free(c->path);
	*c = (struct changes){ 0 };
}
