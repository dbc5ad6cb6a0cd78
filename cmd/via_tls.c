#include "cmd/via_tls.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/tool.h"

struct via_tls via_tls = { .keep = -1 };

static const char *const text_names[VIA_TEXTS] = {
	[VIA_CA] = "--ca",
	[VIA_CIPHERS] = "--ciphers",
	[VIA_CIPHERSUITES] = "--ciphersuites",
	[VIA_GROUPS] = "--groups",
	[VIA_HANDSHAKE] = "--handshake-timeout",
	[VIA_MAX] = "--max-version",
	[VIA_MIN] = "--min-version",
	[VIA_PASSPHRASE] = "--passphrase",
	[VIA_SERVERNAME] = "--servername",
};
static const char *const list_names[VIA_LISTS] = {
	[VIA_ALPN] = "--alpn",
	[VIA_CERT] = "--cert",
	[VIA_KEY] = "--key",
	[VIA_PIN] = "--pin",
};

static char tlsterm[PATH_MAX]; /* beside us, or wherever PATH has it */

static void
find(void)
{
	ssize_t n = readlink("/proc/self/exe", tlsterm, sizeof(tlsterm) - 32);
	char *slash;

	tlsterm[n > 0 ? n : 0] = '\0';
	slash = strrchr(tlsterm, '/');
	strlcpy(slash ? slash + 1 : tlsterm, "ccf-tlsterm", 32);
	if (access(tlsterm, X_OK) == -1)
		strlcpy(tlsterm, "ccf-tlsterm", sizeof(tlsterm));
	tool_look_up(tlsterm);
}

static void
needs(const char *option)
{
	tool_usage("%s goes with --tls", option);
}

/* The passphrase is ccf-tlsterm's to read: its descriptor has to get there. */
static void
keep_passphrase(void)
{
	const char *source = via_tls.text[VIA_PASSPHRASE], *err;
	int fd;

	if (!source || strncmp(source, "fd:", 3) != 0)
		return;
	fd = (int)strtonum(source + 3, 0, 1 << 20, &err);
	if (err || fcntl(fd, F_GETFD) == -1)
		tool_usage("--passphrase %s: no such descriptor is open", source);
	if (fd == 6 || fd == 7)
		tool_usage("--passphrase %s: 6 and 7 are the connection's: take another", source);
	if (fd > STDERR_FILENO)
		via_tls.keep = fd;
}

bool
via_tls_check(void)
{
	if (via_tls.on) {
		find();
		keep_passphrase();
		return true;
	}
	for (size_t i = 0; i < VIA_TEXTS; i++)
		if (via_tls.text[i])
			needs(text_names[i]);
	for (size_t i = 0; i < VIA_LISTS; i++)
		if (via_tls.list[i].n)
			needs(list_names[i]);
	if (via_tls.no_verify)
		needs("--no-verify");
	if (via_tls.require_close_notify)
		needs("--require-close-notify");
	return false;
}

/* ---- its command line ---- */

struct words {
	char **item;
	size_t n, cap;
};

static void
add(struct words *w, const char *word)
{
	if (w->n == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 32;
		w->item = reallocarray(w->item, w->cap, sizeof(*w->item));
		if (!w->item)
			tool_die(CCF_SYSTEM, "no memory");
	}
	w->item[w->n++] = (char *)word;
}

static void
add_time(struct words *w, const char *name, int64_t ms)
{
	char *text;

	if (ms == -2)
		return;
	if (asprintf(&text, "%" PRId64 "ms", ms < 0 ? 0 : ms) == -1)
		tool_die(CCF_SYSTEM, "no memory");
	add(w, name);
	add(w, text);
}

static void
add_common(struct words *w)
{
	add(w, "--log");
	add(w, tool_log_words[tool.log]);
	if (tool.quiet)
		add(w, "-q");
	for (int i = 0; i < tool.verbose; i++)
		add(w, "-v");
	if (tool.trace)
		add(w, "--trace");
	if (via_tls.no_verify)
		add(w, "--no-verify");
	if (via_tls.require_close_notify)
		add(w, "--require-close-notify");
}

char **
via_tls_argv(char *const *command, int64_t idle, int64_t half_close, int64_t flush)
{
	struct words w = { 0 };

	add(&w, tlsterm);
	add(&w, "--client");
	add_common(&w);
	for (size_t i = 0; i < VIA_TEXTS; i++) {
		if (!via_tls.text[i])
			continue;
		add(&w, text_names[i]);
		add(&w, via_tls.text[i]);
	}
	for (size_t i = 0; i < VIA_LISTS; i++) {
		for (size_t k = 0; k < via_tls.list[i].n; k++) {
			add(&w, list_names[i]);
			add(&w, via_tls.list[i].item[k]);
		}
	}
	add_time(&w, "--idle-timeout", idle);
	add_time(&w, "--half-close-timeout", half_close);
	add_time(&w, "--flush-timeout", flush);
	if (command) {
		add(&w, "--");
		for (; *command; command++)
			add(&w, *command);
	}
	add(&w, NULL);
	return w.item;
}
