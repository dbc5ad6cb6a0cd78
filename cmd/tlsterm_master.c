/* The master of ccf-tlsterm: reads keys, binds, dials, starts COMMANDs, and sees no byte of a peer.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/log.h"
#include "cmd/tlsterm.h"
#include "cmd/tool.h"
#include "flow/access.h"

static struct master master;
static struct starter_here starter;
static bool opened;

static void
leave(void)
{
	tlsterm_control_close();
	if (opened)
		master_close(&master);
	tlsterm_http_close();
}

static int
material(void *arg)
{
	(void)arg;
	return certs.fd;
}

static void
done(void *arg, int status)
{
	(void)arg;
	tool_end(status);
}

static void
changed(void)
{
	if (opened)
		master_material(&master);
}

static void
hup(void)
{
	int fd = tlsterm_http_access_again();

	if (fd != -1)
		master_access(&master, fd);
	certs_reload();
}

static void
level(enum log_level to)
{
	master_level(&master, to);
}

static void
drain(void)
{
	master_drain(&master);
}

static void
now(void)
{
	master_now(&master);
}

static void
status(void)
{
	char said[640];

	certs_say(said, sizeof(said));
	master_status(&master, said);
}

static void
names(struct name_config *cfg)
{
	for (unsigned i = 0; i < tlsterm.n_links; i++) {
		const struct hub_config *hub = &tlsterm.link[i];

		cfg[i] = (struct name_config){ .option = hub->option,
			.spec = hub->spec,
			.role = hub->role,
			.socket_mode = hub->socket_mode,
			.socket_group = hub->socket_group,
			.peer_user = hub->peer_user };
	}
}

void
tlsterm_master(void)
{
	static struct name_config cfg[MASTER_NAMES_MAX];
	struct master_config m = { .reactor = tool.reactor,
		.children = &tool.children,
		.workers = tlsterm.workers,
		.names = cfg,
		.n_names = tlsterm.n_links,
		.work = tlsterm_work,
		.material = material,
		.done = done };
	char msg[512];
	int rc;

	tool.drain = drain;
	tool.now = now;
	tool.lingers = true;
	tool.hup = tlsterm.plaintext && !tlsterm.http.access ? NULL : hup;
	tool.level = level;
	tool.status = status;
	tool.leave = leave;
	tool_stay();
	env_scrub_process();
	if (!tlsterm.plaintext)
		certs_start(changed);
	if (tlsterm.command) {
		starter_here_open(&starter, &tool.children, tlsterm.command, 0);
		m.starter = &starter.starter;
		m.commands = tlsterm.is_http ? tlsterm_http_commands() : 0;
	}
	tlsterm_control(&master); /* asked from the loop on */
	names(cfg);
	rc = master_open(&master, &m, msg, sizeof(msg));
	if (rc < 0)
		tool_die(tool_link_status(rc), "%s", msg);
	opened = true;
	if (tlsterm.access.fd != -1)
		master_access(&master, tlsterm.access.fd);
	tlsterm.access.fd = -1; /* lines are the workers' */
}
