/* Nothing is answered in a protocol we do not know: the connection ends cleanly at its first bytes.
 */
#include <errno.h>
#include <stdlib.h>

#include "session/session.h"
#include "session/writer.h"

struct session {
	struct writer *writer;
};

static int
capped_open(struct session **ret, struct writer *writer, const struct env *env)
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
capped_data(struct session *s, const char *bytes, size_t len)
{
	(void)bytes;
	(void)len;
	writer_close(s->writer);
	return 0;
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
