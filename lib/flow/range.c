#include "flow/range.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"

#define NAMES_MAX (1u << 30) /* NAME.2 ... */
#define RACES_MAX 1000	     /* as often may another process take what was free */

struct made {		    /* every range is one */
	struct range range; /* first */
	char *hidden; /* where it lies until it is done; NULL: it has no name, or has its own */
	char *wanted; /* what it is called then, if nobody else is */
};

static struct made *
made_of(struct range *r)
{
	return (struct made *)r;
}

static struct made *
made_new(void)
{
	struct made *m = calloc(1, sizeof(*m));

	if (m) {
		m->range.refs = 1;
		m->range.fd = -1;
	}
	return m;
}

/* PATH for 1, PATH.N else; NULL: no memory. */
static char *
numbered(const char *path, unsigned n)
{
	char *s;

	return asprintf(&s, n > 1 ? "%s.%u" : "%s", path, n) < 0 ? NULL : s;
}

static bool
is_free(const char *path, unsigned n)
{
	char *s = numbered(path, n);
	struct stat st;
	bool yes = !s || lstat(s, &st) < 0;

	free(s);
	return yes;
}

/* A number that is free, while the one before is not: of many, few are looked at. */
static unsigned
first_free(const char *path)
{
	unsigned taken = 0, n = 1, between;

	for (; n < NAMES_MAX && !is_free(path, n); n *= 2)
		taken = n;
	while (n - taken > 1) {
		between = taken + (n - taken) / 2;
		if (is_free(path, between))
			n = between;
		else
			taken = between;
	}
	return n;
}

/* ---- of a file that is there ---- */

/* Whether what it says of its size is true, as far as the place where a range ends. */
static bool
as_long(int fd, int64_t size, int64_t end)
{
	char byte;

	if (size == 0)
		return pread(fd, &byte, 1, 0) == 0;
	return end == 0 || pread(fd, &byte, 1, end - 1) == 1;
}

static int
range_within(struct range *r, int64_t offset, int64_t length)
{
	struct stat st;

	if (fstat(r->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || offset < 0 || length < -1)
		return -EINVAL;
	if (offset > st.st_size || length > st.st_size - offset)
		return -ERANGE;
	length = length < 0 ? st.st_size - offset : length;
	if (!as_long(r->fd, st.st_size, offset + length))
		return -ENODATA;
	r->offset = offset;
	r->len = (uint64_t)length;
	return 0;
}

int
range_open(struct range **ret, const char *path, int64_t offset, int64_t length)
{
	struct made *m = made_new();
	int rc;

	if (!m)
		return -ENOMEM;
	/* A FIFO or a device without its other end must not hold us up. */
	m->range.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	rc = m->range.fd < 0 ? -errno : range_within(&m->range, offset, length);
	if (rc < 0) {
		range_free(&m->range);
		return rc;
	}
	*ret = &m->range;
	return 0;
}

int
range_check(const struct range *r)
{
	struct stat st;

	if (fstat(r->fd, &st) < 0)
		return -errno;
	return st.st_size >= r->offset && (uint64_t)(st.st_size - r->offset) >= r->len ? 0
										       : -ESTALE;
}

/* ---- of one that is being written ---- */

static int
nameless(struct made *m, const char *dir)
{
	char *path;

	if (!dir)
		dir = getenv("TMPDIR");
	if (!dir || !*dir)
		dir = "/tmp";
	m->range.fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (m->range.fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP &&
	    errno != EISDIR) /* what file systems and kernels without it say */
		return -errno;
	if (asprintf(&path, "%s/ccf-XXXXXX", dir) < 0)
		return -ENOMEM;
	m->range.fd = mkostemp(path, O_CLOEXEC);
	if (m->range.fd >= 0)
		unlink(path);
	free(path);
	return m->range.fd < 0 ? -errno : 0;
}

/* Who was killed leaves one behind, and another process may save there, too: then it is .NAME.2. */
static int
hidden(struct made *m, const char *dir, const char *name)
{
	char *path;
	int err = EEXIST;

	if (strchr(name, '/'))
		return -EINVAL;
	if (asprintf(&m->wanted, "%s/%s", dir, name) < 0) {
		m->wanted = NULL;
		return -ENOMEM;
	}
	if (asprintf(&path, "%s/.%s", dir, name) < 0)
		return -ENOMEM;
	for (unsigned i = 0; err == EEXIST && i < RACES_MAX; i++) {
		m->hidden = numbered(path, first_free(path));
		if (!m->hidden) {
			err = ENOMEM;
			break;
		}
		m->range.fd = open(m->hidden, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
		err = m->range.fd < 0 ? errno : 0;
		if (err) {
			free(m->hidden);
			m->hidden = NULL;
		}
	}
	free(path);
	return -err;
}

int
range_new(struct range **ret, const char *dir, const char *name)
{
	struct made *m = made_new();
	int rc;

	if (!m)
		return -ENOMEM;
	rc = name ? hidden(m, dir, name) : nameless(m, dir);
	if (rc < 0) {
		range_free(&m->range);
		return rc;
	}
	m->range.spooled = !name;
	*ret = &m->range;
	return 0;
}

int
range_write(struct range *r, const void *bytes, size_t len)
{
	const char *at = bytes;

	while (len > 0) {
		ssize_t n = write(r->fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += n;
		len -= (size_t)n;
		r->len += (uint64_t)n;
	}
	return 0;
}

/* In one step, where the file system has that; else by a second name.  Neither replaces a file. */
static int
renamed(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (link(from, to) < 0)
		return -errno;
	unlink(from);
	return 0;
}

int
range_done(struct range *r)
{
	struct made *m = made_of(r);
	int rc = -EEXIST;

	if (!m->hidden)
		return 0;
	for (unsigned i = 0; rc == -EEXIST && i < RACES_MAX; i++) {
		char *path = numbered(m->wanted, first_free(m->wanted));

		rc = path ? renamed(m->hidden, path) : -ENOMEM;
		if (rc == 0)
			r->path = path;
		else
			free(path);
	}
	if (rc == 0) {
		free(m->hidden);
		m->hidden = NULL;
	}
	return rc;
}

struct range *
range_keep(struct range *r)
{
	r->refs++;
	return r;
}

void
range_free(struct range *r)
{
	struct made *m = made_of(r);

	if (!r || --r->refs > 0)
		return;
	if (m->hidden)
		unlink(m->hidden);
	fds_close(&r->fd);
	free(m->hidden);
	free(m->wanted);
	free(r->path);
	free(m);
}
