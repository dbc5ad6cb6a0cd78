#include <errno.h>
#include <stdlib.h>

#include "session/session.h"
#include "session/writer.h"

struct session {
	struct writer *writer;
};

static int
echo_open(struct session **ret, struct writer *writer, const struct env *env, void *arg)
{
	struct session *s = calloc(1, sizeof(*s));

	(void)env;
	(void)arg;
	if (!s)
		return -ENOMEM;
	s->writer = writer;
	*ret = s;
	return 0;
}

static ssize_t
echo_data(struct session *s, const char *bytes, size_t len)
{
	int rc = writer_put(s->writer, bytes, len);

	return rc < 0 ? rc : (ssize_t)len;
}

static void
echo_end(struct session *s)
{
	writer_close(s->writer);
}

static void
echo_close(struct session *s)
{
	free(s);
}

const struct session_ops session_echo = {
	.name = "echo",
	.open = echo_open,
	.data = echo_data,
	.end = echo_end,
	.close = echo_close,
};
