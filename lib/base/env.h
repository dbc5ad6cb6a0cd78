/* base/env - what is known about a connection: NAME=VALUE strings, packed one
 * after the other with their NULs, in the order in which they were set.
 * A name appears once.  Only PROTO, TCP*, UDP*, SSL_* and CCF_* may stand here:
 * nothing else crosses a link or reaches a COMMAND (ccf-net(7)), but for the
 * variables of a request (cgi). */
#ifndef BASE_ENV_H
#define BASE_ENV_H

#include <stdbool.h>
#include <stddef.h>

#define ENV_VALUE_MAX 4096		/* bytes of a value, but for certificates */
#define ENV_CERT_MAX (32 * 1024)	/* bytes of all SSL_CLIENT_CERT* together */
#define ENV_NAMES_MAX 256		/* each is compared with each, and a peer of a link chooses them */
#define ENV_CGI_VALUE_MAX (16 * 1024)
#define ENV_CGI_NAMES_MAX 512
#define ENV_TOTAL_MAX (60 * 1024)	/* bytes of the block; a link's packet is 64 KiB */

struct env {
	char *block;	/* len bytes of NUL-terminated strings; NULL when empty */
	size_t len, cap;
	bool cgi;	/* a CGI program's: RFC 3875's names may stand here too, and values up to ENV_CGI_VALUE_MAX */
};

void env_free(struct env *);			/* leaves an empty env */
bool env_may_travel(const char *name_or_pair);
	/* PROTO, TCP*, UDP*, SSL_*, CCF_*; not SSL_CERT_FILE, SSL_CERT_DIR: those configure a process */
bool env_is_cgi(const char *name_or_pair);
	/* A name that a CGI program's environment may have besides (RFC 3875's, REQUEST_URI, REMOTE_PORT, HTTPS, HTTP_*; never
	 * HTTP_PROXY, which programs take for their own configuration) */
const char *env_get(const struct env *, const char *name);	/* borrowed until the next set; or NULL */
int env_set(struct env *, const char *name, const char *value);
	/* Copies.  0; -EPERM if the name may not travel, -EINVAL if the name holds '=' or is empty.
	 * A value that is too long is left out, its name appended to CCF_OMITTED, and 0 returned; with cgi -E2BIG, and
	 * nothing has changed.  -ENOMEM. */
int env_setf(struct env *, const char *name, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void env_unset(struct env *, const char *name);
void env_unset_prefix(struct env *, const char *prefix);
int env_add_pair(struct env *, const char *pair);	/* "NAME=VALUE", as env_set; -EINVAL without '=' */
int env_copy(struct env *to, const struct env *from);
const char *env_next(const struct env *, const char *prev);
	/* The first pair for prev == NULL, the one after prev else; NULL at the end. */

int env_take_process(struct env *to);
	/* Copies what may travel out of this process's environment (a connection that came by exec). */
void env_scrub_process(void);
	/* Unsets every PROTO, TCP*, UDP*, SSL_* (but SSL_CERT_FILE, SSL_CERT_DIR, SSLKEYLOGFILE stay) and CCF_*
	 * of this process, so that no COMMAND sees what the caller planted. */
char **env_exec(const struct env *, char *const *process_environ);
	/* One allocation: process_environ without what may travel (with cgi: nor RFC 3875's names and HTTP_*), then
	 * ours; NULL-terminated.  The caller frees the array; its strings are borrowed from both.  NULL: no memory. */

#endif
