/* base/env - one growing block of strings.  It is small (a connection has some twenty names), so
 * everything is a walk over it; the order is the order of a packet on the link. */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"

#define OMITTED	     "CCF_OMITTED"
#define OMITTED_ROOM 1024 /* of ENV_TOTAL_MAX, kept free to name what did not fit */
#define CERT_PREFIX  "SSL_CLIENT_CERT"

void
env_free(struct env *e)
{
	free(e->block);
	*e = (struct env){ 0 };
}

static bool
begins(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool
is_name(const char *pair, const char *name, size_t len)
{
	return strncmp(pair, name, len) == 0 && pair[len] == '=';
}

/* The variables of a request (RFC 3875, and three that servers agree on). */
bool
env_is_cgi(const char *s)
{
	static const char *const names[] = { "AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE",
		"GATEWAY_INTERFACE", "HTTPS", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING",
		"REMOTE_ADDR", "REMOTE_HOST", "REMOTE_IDENT", "REMOTE_PORT", "REMOTE_USER",
		"REQUEST_METHOD", "REQUEST_URI", "SCRIPT_NAME", "SERVER_NAME", "SERVER_PORT",
		"SERVER_PROTOCOL", "SERVER_SOFTWARE" };
	size_t len = strcspn(s, "=");

	if (begins(s, "HTTP_"))
		return len > 5 && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == len &&
		       !(len == 10 && begins(s, "HTTP_PROXY"));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strlen(names[i]) == len && begins(s, names[i]))
			return true;
	}
	return false;
}

/* SSL_CERT_FILE and SSL_CERT_DIR tell OpenSSL whom to trust: a setting of the process, which no
 * peer of a link may plant. */
bool
env_may_travel(const char *s)
{
	size_t len = strcspn(s, "=");

	if (begins(s, "SSL_"))
		return !(len == 13 && begins(s, "SSL_CERT_FILE")) &&
		       !(len == 12 && begins(s, "SSL_CERT_DIR"));
	return (len == 5 && begins(s, "PROTO")) || begins(s, "TCP") || begins(s, "UDP") ||
	       begins(s, "CCF_");
}

const char *
env_next(const struct env *e, const char *prev)
{
	const char *next = prev ? prev + strlen(prev) + 1 : e->block;

	return next && next < e->block + e->len ? next : NULL;
}

static char *
find(const struct env *e, const char *name, size_t len)
{
	for (const char *p = env_next(e, NULL); p; p = env_next(e, p)) {
		if (is_name(p, name, len))
			return (char *)p;
	}
	return NULL;
}

const char *
env_get(const struct env *e, const char *name)
{
	size_t len = strlen(name);
	char *pair = find(e, name, len);

	return pair ? pair + len + 1 : NULL;
}

static void
cut_out(struct env *e, char *pair)
{
	size_t len = strlen(pair) + 1;
	char *end = e->block + e->len;

	memmove(pair, pair + len, (size_t)(end - pair) - len);
	e->len -= len;
}

void
env_unset(struct env *e, const char *name)
{
	char *pair = find(e, name, strlen(name));

	if (pair)
		cut_out(e, pair);
}

void
env_unset_prefix(struct env *e, const char *prefix)
{
	char *p = e->block;

	while (p && p < e->block + e->len) {
		if (begins(p, prefix))
			cut_out(e, p);
		else
			p += strlen(p) + 1;
	}
}

static int
reserve(struct env *e, size_t need)
{
	size_t cap = e->cap ? e->cap : 512;
	char *block;

	if (e->block && need <= e->cap)
		return 0;
	while (cap < need)
		cap *= 2;
	block = realloc(e->block, cap);
	if (!block)
		return -ENOMEM;
	e->block = block;
	e->cap = cap;
	return 0;
}

/* name and value may lie in the block itself: the new pair is written behind everything before the
 * old one goes, and a block that moves takes them along. */
static int
replace(struct env *e, const char *name, size_t name_len, const char *value, size_t value_len)
{
	uintptr_t old = (uintptr_t)e->block;
	size_t size = name_len + value_len + 2, len = e->len;
	bool ours_name = e->block && name >= e->block && name < e->block + len;
	bool ours_value = e->block && value >= e->block && value < e->block + len;
	char *at, *before;
	int r;

	r = reserve(e, len + size);
	if (r < 0)
		return r;
	if (ours_name)
		name = e->block + ((uintptr_t)name - old);
	if (ours_value)
		value = e->block + ((uintptr_t)value - old);
	at = e->block + len;
	memcpy(at, name, name_len);
	at[name_len] = '=';
	memcpy(at + name_len + 1, value, value_len);
	at[size - 1] = '\0';
	before = find(e, at, name_len);
	e->len += size;
	if (before)
		cut_out(e, before);
	return 0;
}

/* Where name stands in CCF_OMITTED, a list separated by single spaces; or NULL. */
static const char *
in_omitted(const char *list, const char *name, size_t len)
{
	for (const char *p = list; p && *p; p += strcspn(p, " "), p += *p == ' ') {
		if (strcspn(p, " ") == len && strncmp(p, name, len) == 0)
			return p;
	}
	return NULL;
}

static int
omit(struct env *e, const char *name, size_t len)
{
	const char *list = env_get(e, OMITTED);
	size_t old = list ? strlen(list) + 1 : 0;
	char both[ENV_VALUE_MAX + 1];
	char *stale = find(e, name, len);
	int r = 0;

	/* A list that is full stays as it is: that something is missing is said already. */
	if (!in_omitted(list, name, len) && old + len <= ENV_VALUE_MAX &&
	    e->len + len + sizeof(OMITTED "=") + 1 <= ENV_TOTAL_MAX) {
		snprintf(both, sizeof(both), "%s%s%.*s", list ? list : "", list ? " " : "",
		    (int)len, name);
		if (stale)
			cut_out(e, stale);
		stale = NULL;
		r = replace(e, OMITTED, strlen(OMITTED), both, strlen(both));
	}
	if (stale)
		cut_out(e, stale);
	return r;
}

static void
unomit(struct env *e, const char *name, size_t len)
{
	char *list = (char *)env_get(e, OMITTED);
	char *at = list ? (char *)in_omitted(list, name, len) : NULL;
	size_t cut = len, tail;

	if (!at)
		return;
	if (at[len] == ' ')
		cut++;
	else if (at > list)
		at--, cut++;
	tail = (size_t)(e->block + e->len - (at + cut));
	memmove(at, at + cut, tail);
	e->len -= cut;
	if (!*env_get(e, OMITTED))
		env_unset(e, OMITTED);
}

static size_t
count(const struct env *e)
{
	size_t n = 0;

	for (const char *p = env_next(e, NULL); p; p = env_next(e, p))
		n++;
	return n;
}

/* Whether the pair keeps within the bounds, not counting what it replaces.  The last place among
 * the names is for CCF_OMITTED. */
static bool
fits(const struct env *e, const char *name, size_t name_len, size_t value_len)
{
	const char *before = find(e, name, name_len);
	size_t total = e->len - (before ? strlen(before) + 1 : 0);
	size_t certs = value_len;

	if (!before && count(e) >= (e->cgi ? ENV_CGI_NAMES_MAX : ENV_NAMES_MAX) - 1)
		return false;
	if (total + name_len + value_len + 2 > ENV_TOTAL_MAX - OMITTED_ROOM)
		return false;
	if (!begins(name, CERT_PREFIX))
		return value_len <= (e->cgi ? ENV_CGI_VALUE_MAX : ENV_VALUE_MAX);
	for (const char *p = env_next(e, NULL); p; p = env_next(e, p)) {
		if (p != before && begins(p, CERT_PREFIX))
			certs += strlen(p + strcspn(p, "=") + 1);
	}
	return certs <= ENV_CERT_MAX;
}

static int
set(struct env *e, const char *name, size_t name_len, const char *value)
{
	size_t value_len = strlen(value);
	int r;

	if (!name_len)
		return -EINVAL;
	if (!env_may_travel(name) && !(e->cgi && env_is_cgi(name)))
		return -EPERM;
	if (!fits(e, name, name_len, value_len))
		return e->cgi ? -E2BIG : omit(e, name, name_len);
	r = replace(e, name, name_len, value, value_len);
	if (r == 0) /* by the new pair's name: the caller's may have lain in a block that moved */
		unomit(e, e->block + e->len - (name_len + value_len + 2), name_len);
	return r;
}

int
env_set(struct env *e, const char *name, const char *value)
{
	return strchr(name, '=') ? -EINVAL : set(e, name, strlen(name), value);
}

int
env_add_pair(struct env *e, const char *pair)
{
	size_t len = strcspn(pair, "=");

	return pair[len] == '=' ? set(e, pair, len, pair + len + 1) : -EINVAL;
}

int
env_setf(struct env *e, const char *name, const char *fmt, ...)
{
	va_list ap;
	char *value;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&value, fmt, ap);
	va_end(ap);
	if (r < 0)
		return -ENOMEM;
	r = env_set(e, name, value);
	free(value);
	return r;
}

int
env_copy(struct env *to, const struct env *from)
{
	int r;

	if (to == from)
		return 0;
	r = from->len ? reserve(to, from->len) : 0;
	if (r < 0)
		return r;
	if (from->len)
		memcpy(to->block, from->block, from->len);
	to->len = from->len;
	return 0;
}

int
env_take_process(struct env *to)
{
	for (char **p = environ; p && *p; p++) {
		int r = strchr(*p, '=') && env_may_travel(*p) ? env_add_pair(to, *p) : 0;

		if (r == -ENOMEM)
			return r;
	}
	return 0;
}

/* In place, as unsetenv does it, but it cannot run out of memory and takes doubled names too. */
void
env_scrub_process(void)
{
	char **keep = environ;

	for (char **p = environ; p && *p; p++) {
		if (!env_may_travel(*p))
			*keep++ = *p;
	}
	if (keep)
		*keep = NULL;
}

/* What the process has of that name is not the COMMAND's.  HTTP_PROXY, which no request may set, is
 * one of those that a COMMAND would believe to come from a request. */
static bool
is_ours(const struct env *e, const char *pair)
{
	return env_may_travel(pair) || (e->cgi && (begins(pair, "HTTP_") || env_is_cgi(pair)));
}

char **
env_exec(const struct env *e, char *const *process_environ)
{
	size_t n = 1;
	char **all, **at;

	for (char *const *p = process_environ; p && *p; p++)
		n++;
	for (const char *p = env_next(e, NULL); p; p = env_next(e, p))
		n++;
	at = all = calloc(n, sizeof(*all));
	if (!all)
		return NULL;
	for (char *const *p = process_environ; p && *p; p++) {
		if (!is_ours(e, *p))
			*at++ = *p;
	}
	for (const char *p = env_next(e, NULL); p; p = env_next(e, p))
		*at++ = (char *)p;
	return all;
}
