/* Who is above the soft cap is told so when it has said something, not before: an answer that comes
 * before the question is lost by real clients.  In a protocol that we do not know nothing is said
 * at all. */
#include <errno.h>
#include <stdlib.h>

#include "base/exit.h"
#include "session/session.h"
#include "session/writer.h"

struct session {
	struct writer *writer;
	const struct capped *says; /* or NULL */
};

static int
capped_open(struct session **ret, struct writer *writer, const struct env *env, void *arg)
{
	struct session *s = calloc(1, sizeof(*s));

	(void)env;
	if (!s)
		return -ENOMEM;
	s->writer = writer;
	s->says = arg;
	*ret = s;
	return 0;
}

static ssize_t
capped_data(struct session *s, const char *bytes, size_t len)
{
	int rc = s->says ? writer_put(s->writer, s->says->message, s->says->len) : 0;

	(void)bytes;
	writer_say_why(s->writer, "capped", CCF_UNAVAILABLE);
	writer_close(s->writer);
	return rc < 0 ? rc : (ssize_t)len;
}

static void
capped_end(struct session *s)
{
	writer_close(s->writer);
}

static void
capped_close(struct session *s)
{
	free(s);
}

const struct session_ops session_capped = {
	.name = "capped",
	.open = capped_open,
	.data = capped_data,
	.end = capped_end,
	.close = capped_close,
};
