#include <errno.h>
#include <stdlib.h>

#include "session/session.h"
#include "session/writer.h"

struct session {
	struct writer *writer;
};

static int
echo_open(struct session **ret, struct writer *writer, const struct env *env)
{
	struct session *s = calloc(1, sizeof(*s));

	(void)env;
	if (!s)
		return -ENOMEM;
	s->writer = writer;
	*ret = s;
	return 0;
}

static int
echo_data(struct session *s, const char *bytes, size_t len)
{
	return writer_put(s->writer, bytes, len);
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
