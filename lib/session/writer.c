#include "session/writer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SMALL 1024 /* what malloc has at hand */
#define FIRST 4096

static int
writer_room(struct writer *w, size_t len)
{
	size_t cap = w->cap > SMALL ? w->cap : FIRST;
	char *bytes;

	if (w->at > 0) {
		memmove(w->bytes, w->bytes + w->at, w->len);
		w->at = 0;
	}
	if (w->len + len <= w->cap)
		return 0;
	while (cap < w->len + len)
		cap += cap / 4;
	if (w->len + len <= SMALL)
		cap = SMALL;
	bytes = realloc(w->bytes, cap);
	if (!bytes)
		return -ENOMEM;
	w->bytes = bytes;
	w->cap = cap;
	return 0;
}

int
writer_put(struct writer *w, const void *bytes, size_t len)
{
	int rc;

	if (w->closed)
		return -EPIPE;
	if (len > WRITER_MAX - w->len) {
		w->stuffed = w->len > 0;
		return -ENOBUFS;
	}
	rc = writer_room(w, len);
	if (rc < 0)
		return rc;
	memcpy(w->bytes + w->len, bytes, len);
	w->len += len;
	w->stuffed = w->stuffed || writer_full(w);
	writer_wake(w);
	return 0;
}

void
writer_wake(struct writer *w)
{
	if (w->woken)
		w->woken(w);
}

void
writer_close(struct writer *w)
{
	w->closed = true;
	writer_wake(w);
}

void
writer_break(struct writer *w, int error)
{
	if (!w->broken)
		w->broken = error;
	writer_close(w);
}

void
writer_say_why(struct writer *w, const char *reason, int status)
{
	if (w->reason)
		return;
	w->reason = reason;
	w->status = status;
}

bool
writer_full(const struct writer *w)
{
	return w->len >= (w->high ? w->high : WRITER_HIGH);
}

/* The session may have asked under the old mark, and may ask under the new one. */
bool
writer_drained(struct writer *w, size_t high)
{
	bool was = w->stuffed || writer_full(w);

	w->high = high < WRITER_HIGH ? high : WRITER_HIGH;
	w->stuffed = writer_full(w);
	return was && !w->stuffed;
}

size_t
writer_take(struct writer *w, void *to, size_t cap)
{
	size_t n = w->len < cap ? w->len : cap;

	if (n == 0)
		return 0;
	memcpy(to, w->bytes + w->at, n);
	w->at += n;
	w->len -= n;
	if (w->len == 0) /* idle connections hold no memory */
		writer_free(w);
	return n;
}

void
writer_free(struct writer *w)
{
	free(w->bytes);
	w->bytes = NULL;
	w->at = w->len = w->cap = 0;
}
