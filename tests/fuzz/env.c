/* Strings, each ended by a NUL, are added to an env as a link adds them; whatever they are, the env
 * keeps its bounds and names nothing twice. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(bool holds)
{
	if (!holds)
		abort();
}

static void
check(const struct env *e)
{
	size_t certs = 0, len = 0;

	for (const char *p = env_next(e, NULL); p; p = env_next(e, p)) {
		const char *value = strchr(p, '=');

		require(value && value > p && env_may_travel(p));
		value++;
		if (strncmp(p, "SSL_CLIENT_CERT", 15) == 0)
			certs += strlen(value);
		else
			require(strlen(value) <= ENV_VALUE_MAX);
		for (const char *q = env_next(e, p); q; q = env_next(e, q))
			require(strncmp(p, q, (size_t)(value - p)) != 0);
		len += strlen(p) + 1;
	}
	require(len == e->len && len <= ENV_TOTAL_MAX && certs <= ENV_CERT_MAX);
}

/* A first byte of a string below 8 repeats its last byte, so that long values need no long input.
 */
static char *
make_pair(const char *s, size_t len)
{
	size_t more = len && (uint8_t)*s < 8 ? (size_t)1 << (8 + (uint8_t)*s) : 0;
	char *pair;

	if (more)
		s++, len--;
	pair = malloc(len + more + 1);
	require(pair);
	memcpy(pair, s, len);
	memset(pair + len, more && len ? s[len - 1] : 'x', more);
	pair[len + more] = '\0';
	return pair;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct env e = { 0 }, copy = { 0 };
	char **all, *none[] = { NULL };

	while (size) {
		size_t len = strnlen((const char *)data, size);
		char *pair = make_pair((const char *)data, len);
		int r = env_add_pair(&e, pair);

		require(r == 0 || r == -EINVAL || r == -EPERM);
		if (r == -EINVAL)
			env_unset_prefix(&e, pair);
		if (env_next(&e, NULL) && len % 2) /* one of its own strings: nothing new */
			require(env_add_pair(&e, env_next(&e, NULL)) == 0);
		free(pair);
		check(&e);
		len += len < size;
		data += len;
		size -= len;
	}
	require(env_copy(&copy, &e) == 0 && copy.len == e.len);
	all = env_exec(&copy, none);
	require(all);
	free(all);
	env_free(&copy);
	env_free(&e);
	return 0;
}
