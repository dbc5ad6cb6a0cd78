#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <readpassphrase.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"
#include "tls/passphrase.h"
#include "tls/says.h"
#include "tls/secret.h"

struct kept { /* in secret memory, which a child sees as zeros: there the list ends at once */
	struct kept *next;
	size_t len;
	char secret[PASSPHRASE_MAX];
	char from[]; /* "env:NAME", "fd:N", or the path of the key it was typed for */
};

static struct kept *all;
static bool proven;

static struct kept **
find(const char *from)
{
	struct kept **k = &all;

	while (*k && strcmp((*k)->from, from) != 0)
		k = &(*k)->next;
	return k;
}

static int
keep(const char *from, const char *buf, size_t len)
{
	size_t n = strlen(from) + 1;
	struct kept *k = secret_new(sizeof(*k) + n, true);

	if (!k)
		return -ENOMEM;
	memcpy(k->from, from, n);
	memcpy(k->secret, buf, len);
	k->len = len;
	k->next = all;
	all = k;
	return (int)len;
}

static int
use_kept(const struct kept *k, char *buf)
{
	memcpy(buf, k->secret, k->len);
	return (int)k->len;
}

/* n bytes of buf, of which the first line counts; more than PASSPHRASE_MAX - 1 are too many. */
static int
first_line(const char *from, const char *buf, size_t n, char *msg, size_t cap)
{
	const char *end = memchr(buf, '\n', n);

	if (end)
		n = (size_t)(end - buf);
	if (!n)
		return says(-EKEYREJECTED, msg, cap, "the passphrase from %s is empty", from);
	if (n >= PASSPHRASE_MAX)
		return says(-EKEYREJECTED, msg, cap,
		    "the passphrase from %s is longer than %d bytes", from, PASSPHRASE_MAX - 1);
	return (int)n;
}

static int
no_source(int err, const char *from, char *msg, size_t cap)
{
	bool ours = err == EMFILE || err == ENFILE || err == ENOMEM;

	return says(ours ? -err : -EKEYREJECTED, msg, cap, "the passphrase from %s: %s", from,
	    strerror(err));
}

static int
from_variable(const char *spec, char *buf, char *msg, size_t cap)
{
	const char *name = spec + strlen("env:");
	char *value = getenv(name);
	size_t n;
	int r;

	if (!value)
		return says(-EKEYREJECTED, msg, cap, "the passphrase from %s: it is not set", spec);
	n = strnlen(value, PASSPHRASE_MAX);
	memcpy(buf, value, n);
	r = first_line(spec, buf, n, msg, cap);
	OPENSSL_cleanse(value, strlen(value));
	unsetenv(name);
	return r < 0 ? r : keep(spec, buf, (size_t)r);
}

/* Who waits for a passphrase can be told to end, though the loop has these signals blocked to read
 * them itself. */
static void
let_end(sigset_t *before)
{
	sigset_t end;

	sigemptyset(&end);
	sigaddset(&end, SIGINT);
	sigaddset(&end, SIGTERM);
	pthread_sigmask(SIG_UNBLOCK, &end, before);
}

/* Up to a line feed, the end, or PASSPHRASE_MAX bytes. */
static ssize_t
read_line(int fd, char *buf)
{
	struct pollfd pfd = { fd, POLLIN, 0 };
	size_t n = 0;
	ssize_t r = 1;

	while (r && n < PASSPHRASE_MAX && !memchr(buf, '\n', n)) {
		r = read(fd, buf + n, PASSPHRASE_MAX - n);
		if (r == -1 && errno == EAGAIN)
			poll(&pfd, 1, -1);
		else if (r == -1 && errno != EINTR)
			return -errno;
		else if (r > 0)
			n += (size_t)r;
	}
	return (ssize_t)n;
}

static int
from_descriptor(const char *spec, char *buf, char *msg, size_t cap)
{
	sigset_t before;
	char *end;
	long fd = strtol(spec + strlen("fd:"), &end, 10);
	ssize_t n;
	int r;

	if (!spec[3] || *end || fd < 0 || fd > 1 << 20)
		return no_source(EBADF, spec, msg, cap);
	let_end(&before);
	n = read_line((int)fd, buf);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (n < 0)
		return no_source((int)-n, spec, msg, cap);
	if (fd <= STDERR_FILENO)
		fds_null((int)fd);
	else
		close((int)fd);
	r = first_line(spec, buf, (size_t)n, msg, cap);
	return r < 0 ? r : keep(spec, buf, (size_t)r);
}

static int
from_file(const char *spec, char *buf, char *msg, size_t cap)
{
	int fd = open(spec + strlen("file:"), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	ssize_t n;

	if (fd == -1)
		return no_source(errno, spec, msg, cap);
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
		close(fd);
		return says(-EKEYREJECTED, msg, cap,
		    "the passphrase from %s: not a regular file (fd:N reads from a pipe)", spec);
	}
	n = read_line(fd, buf);
	close(fd);
	return n < 0 ? no_source((int)-n, spec, msg, cap)
		     : first_line(spec, buf, (size_t)n, msg, cap);
}

static char *
ask(const char *prompt, char *buf)
{
	sigset_t before;
	char *r;

	let_end(&before);
	r = readpassphrase(prompt, buf, PASSPHRASE_MAX, RPP_REQUIRE_TTY);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static int
from_terminal(const char *file, char *buf, char *msg, size_t cap)
{
	char prompt[512];
	int r;

	if (proven)
		return says(-EKEYREJECTED, msg, cap,
		    "%s: the private key is protected by a passphrase, which is not asked for "
		    "while running (--passphrase)",
		    file);
	snprintf(prompt, sizeof(prompt), "Passphrase for %s: ", file);
	if (!ask(prompt, buf))
		return says(-EKEYREJECTED, msg, cap,
		    "%s: the private key is protected by a passphrase, and there is no terminal "
		    "to ask (--passphrase env:NAME, file:PATH or fd:N)",
		    file);
	r = first_line("the terminal", buf, strlen(buf), msg, cap);
	return r < 0 ? r : keep(file, buf, (size_t)r);
}

int
passphrase_get(const char *spec, const char *file, char buf[PASSPHRASE_MAX], char *msg, size_t cap)
{
	const struct kept *k = *find(spec ? spec : file);

	if (k)
		return use_kept(k, buf);
	if (!spec)
		return from_terminal(file, buf, msg, cap);
	if (!strncmp(spec, "env:", 4))
		return from_variable(spec, buf, msg, cap);
	if (!strncmp(spec, "file:", 5))
		return from_file(spec, buf, msg, cap);
	if (!strncmp(spec, "fd:", 3))
		return from_descriptor(spec, buf, msg, cap);
	/* It may be the passphrase itself. */
	return says(-EKEYREJECTED, msg, cap,
	    "--passphrase is not the passphrase but says where it is: env:NAME, file:PATH or "
	    "fd:N");
}

void
passphrase_take(const char *spec)
{
	char buf[PASSPHRASE_MAX], msg[256];
	const char *value = spec && !strncmp(spec, "env:", 4) ? getenv(spec + 4) : NULL;

	if (value && *value && !*find(spec))
		(void)from_variable(spec, buf, msg, sizeof(msg));
	OPENSSL_cleanse(buf, sizeof(buf));
}

void
passphrase_wrong(const char *file)
{
	struct kept **at = find(file), *k = *at;

	if (!k || proven)
		return;
	*at = k->next;
	secret_free(k);
}

void
passphrase_proven(void)
{
	proven = true;
}
