#include "cmd/ready.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/log.h"
#include "cmd/tool.h"
#include "net/addr.h"
#include "net/inherit.h"

const char *const ready_words[] = { "bound", "listening", NULL };

void
ready_check(const struct ready *r)
{
	if (r->fd == -1)
		return;
	if (fcntl((int)r->fd, F_GETFD) == -1)
		tool_usage("--ready-fd %lld: that descriptor is not open", (long long)r->fd);
	if (r->fd > 2)
		(void)fds_set_cloexec((int)r->fd, true);
}

static void
put_json(FILE *f, const char *s)
{
	putc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putc('\\', f);
		if ((unsigned char)*s < 0x20)
			fprintf(f, "\\u%04x", (unsigned)*s);
		else
			putc(*s, f);
	}
	putc('"', f);
}

static void
put_addresses(FILE *f, const struct ready_name *list, size_t n)
{
	char text[ADDR_TEXT_MAX];

	fputs("{", f);
	for (size_t i = 0; i < n; i++) {
		fputs(i ? ",\n  " : "\n  ", f);
		put_json(f, list[i].name);
		fputs(": ", f);
		put_json(f, addr_text(list[i].local, text, sizeof(text)));
	}
	fputs("\n}\n", f);
}

static _Noreturn void
cannot_write(const struct ready *r, int error)
{
	tool_die(
	    CCF_SYSTEM, "--address-file %s: cannot write it: %s", r->address_file, strerror(error));
}

/* A device, a pipe, or a link (/dev/stdout): nobody wants it replaced. */
static bool
is_special(const char *file)
{
	struct stat st;

	return lstat(file, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

void
ready_addresses(const struct ready *r, const struct ready_name *list, size_t n)
{
	bool bad, in_place = r->address_file && is_special(r->address_file);
	char temp[4096];
	FILE *f;

	if (!r->address_file)
		return;
	if (snprintf(temp, sizeof(temp), "%s.%ld", r->address_file, (long)getpid()) >=
	    (int)sizeof(temp))
		tool_usage("--address-file: the name is too long");
	if (!in_place)
		(void)unlink(temp);
	f = in_place ? fopen(r->address_file, "we") : fopen(temp, "wxe");
	if (!f)
		cannot_write(r, errno);
	put_addresses(f, list, n);
	bad = ferror(f);
	bad |= fclose(f) != 0;
	if (bad || (!in_place && rename(temp, r->address_file) == -1)) {
		int err = errno;

		if (!in_place)
			unlink(temp);
		cannot_write(r, err);
	}
}

void
ready_say(const struct ready *r)
{
	int rc = notify_send("READY=1");

	if (rc < 0)
		log_say(LOG_L_WARN, "NOTIFY_SOCKET: %s", strerror(-rc));
	if (r->fd != -1 && write((int)r->fd, "\n", 1) == -1)
		log_say(LOG_L_WARN, "--ready-fd %lld: %s", (long long)r->fd, strerror(errno));
	if (r->fd > 2)
		close((int)r->fd);
}
