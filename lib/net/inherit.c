#include "net/inherit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fds.h"

static int
inherit_names(struct inherited *in, const char *names, char *msg, size_t cap)
{
	int n = 0;

	for (const char *p = names; p; n++) {
		size_t len = strcspn(p, ":");

		if (n < in->n && len > 0)
			snprintf(in->name[n], sizeof(in->name[n]), "%.*s", (int)len, p);
		p = p[len] ? p + len + 1 : NULL;
	}
	if (names && n != in->n) {
		snprintf(msg, cap, "LISTEN_FDNAMES has %d names for %d descriptors", n, in->n);
		return -EINVAL;
	}
	return 0;
}

/* A systemd unit with two sockets gives both the same name; an interface is known by its own. */
static void
inherit_tell_apart(struct inherited *in)
{
	for (int i = 1; i < in->n; i++)
		for (int k = 0; k < i; k++)
			if (strcmp(in->name[i], in->name[k]) == 0) {
				size_t len = strnlen(in->name[i], sizeof(in->name[i]) - 8);

				snprintf(in->name[i] + len, sizeof(in->name[i]) - len, "-%d",
				    INHERIT_FIRST + i);
				break;
			}
}

static int
inherit_read(struct inherited *in, char *msg, size_t cap)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS"), *err;
	int rc;

	if (!pid || !fds || strtonum(pid, 1, 1 << 30, &err) != getpid())
		return 0;
	in->n = (int)strtonum(fds, 1, INHERIT_MAX, &err);
	if (err) {
		snprintf(
		    msg, cap, "LISTEN_FDS=%s: a number from 1 to %d is wanted", fds, INHERIT_MAX);
		return -EINVAL;
	}
	for (int i = 0; i < in->n; i++) {
		snprintf(in->name[i], sizeof(in->name[i]), "fd%d", INHERIT_FIRST + i);
		rc = fds_set_cloexec(INHERIT_FIRST + i, true);
		if (rc < 0) {
			snprintf(msg, cap, "LISTEN_FDS=%s: descriptor %d is not open", fds,
			    INHERIT_FIRST + i);
			return -EINVAL;
		}
	}
	rc = inherit_names(in, getenv("LISTEN_FDNAMES"), msg, cap);
	inherit_tell_apart(in);
	return rc;
}

int
inherit_take(struct inherited *in, char *msg, size_t cap)
{
	int rc;

	memset(in, 0, sizeof(*in));
	rc = inherit_read(in, msg, cap);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
	return rc;
}

int
notify_send(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	socklen_t len;
	int fd, rc = 0;

	if (!path || (path[0] != '/' && path[0] != '@') || !path[1])
		return 0;
	if (strlcpy(un.sun_path, path, sizeof(un.sun_path)) >= sizeof(un.sun_path))
		return -ENAMETOOLONG;
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (path[0] == '@')
		un.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -errno;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&un, len) == -1)
		rc = -errno;
	close(fd);
	unsetenv("NOTIFY_SOCKET"); /* it was meant for us, not for a COMMAND */
	return rc;
}
