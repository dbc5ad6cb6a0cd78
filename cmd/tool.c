#include "cmd/tool.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/fds.h"
#include "base/log.h"
#include "flow/hub.h"

#define HELD_MS 10000

struct tool tool;
struct tool_link tool_link;
const char *const tool_log_words[] = { "text", "json", NULL };

static _Noreturn void
tool_exit(int status)
{
	if (tool.leave)
		tool.leave();
	exit(status);
}

static void
tool_version(void)
{
	printf("%s (ccf-net) %s%s%s\n", tool.name, CCF_VERSION, tool.with ? ", " : "",
	    tool.with ? tool.with : "");
}

_Noreturn void
tool_usage(const char *fmt, ...)
{
	char msg[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	log_event(
	    LOG_L_ERROR, NULL, "usage", NULL, "%s (%s --help shows the options)", msg, tool.name);
	tool_exit(CCF_USAGE);
}

_Noreturn void
tool_die(int status, const char *fmt, ...)
{
	char msg[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	log_event(LOG_L_ERROR, NULL, "failed", NULL, "%s", msg);
	tool_exit(status);
}

int
tool_begin(const struct opts *opts, int argc, char **argv)
{
	char msg[512];
	int first, rc = fds_fill_standard();

	tool.name = opts->tool;
	log_open(tool.name, false);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot open /dev/null: %s", strerror(-rc));
	first = opts_parse(opts, argc, argv, msg, sizeof(msg));
	if (first < 0)
		tool_usage("%s", msg);
	if (tool.help || tool.version) {
		if (tool.help)
			opts_help(opts);
		else
			tool_version();
		exit(fflush(stdout) == 0 ? CCF_OK : CCF_STDOUT);
	}
	log_open(tool.name, tool.log == 1);
	if (tool.v4 && tool.v6)
		tool_usage("-4 and -6 exclude each other");
	if (tool.quiet && tool.verbose)
		tool_usage("-q and -v exclude each other");
	rc = fds_raise_limit(&tool.found);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot raise the limit of descriptors: %s", strerror(-rc));
	signal(SIGPIPE, SIG_IGN);
	return first;
}

void
tool_log_level(bool stays)
{
	int level = (stays ? LOG_L_INFO : LOG_L_WARN) + tool.verbose;

	if (tool.quiet)
		level = LOG_L_WARN;
	if (tool.trace && tool.log == 1 && level < LOG_L_INFO)
		level = LOG_L_INFO; /* where the trace has to be JSON, too */
	log_set_level(level > LOG_L_DEBUG ? LOG_L_DEBUG : (enum log_level)level);
}

int
tool_family(void)
{
	return tool.v4 ? AF_INET : tool.v6 ? AF_INET6 : AF_UNSPEC;
}

struct cidr *
tool_cidrs(const char *option, const struct opt_list *list)
{
	struct cidr *c = calloc(list->n + 1, sizeof(*c));

	if (!c)
		tool_die(CCF_SYSTEM, "no memory");
	for (size_t i = 0; i < list->n; i++)
		if (cidr_parse(&c[i], list->item[i]) < 0)
			tool_usage(
			    "%s %s: write an address and a prefix length, like 192.0.2.0/24 or ::1",
			    option, list->item[i]);
	return c;
}

void
tool_look_up(const char *name)
{
	const char *path = getenv("PATH");
	char file[4096];

	if (!path)
		path = "/bin:/usr/bin";
	for (const char *dir = path;;) {
		size_t len = strcspn(dir, ":");

		if (strchr(name, '/'))
			snprintf(file, sizeof(file), "%s", name);
		else
			snprintf(file, sizeof(file), "%.*s/%s", (int)(len ? len : 1),
			    len ? dir : ".", name);
		if (access(file, X_OK) == 0)
			return;
		if (strchr(name, '/') || !dir[len])
			break;
		dir += len + 1;
	}
	tool_die(errno == EACCES ? CCF_CANNOT_RUN : CCF_NOT_FOUND, "cannot run %s: %s", name,
	    strerror(errno));
}

char **
tool_command(int argc, char **argv, int *io_operands)
{
	for (int i = 0; i < argc; i++) {
		if (strcmp(argv[i], "--") != 0)
			continue;
		*io_operands = i;
		if (i + 1 == argc)
			tool_usage("a COMMAND is missing after --");
		tool_look_up(argv[i + 1]);
		return argv + i + 1;
	}
	*io_operands = argc;
	return NULL;
}

void
tool_one_word(char **operands, int n)
{
	char text[1024], msg[1024];
	struct addr addr;

	for (int i = 0; i + 1 < n; i++) {
		const char *port = operands[i + 1];

		if (!*port || port[strspn(port, "0123456789")] != '\0' ||
		    addr_parse(&addr, operands[i], ADDR_MAY_NAME | ADDR_MAY_FD | ADDR_MAY_UDP, msg,
			sizeof(msg)) == 0)
			continue;
		snprintf(text, sizeof(text), "%s %s", operands[i], port);
		if (addr_parse(&addr, text, ADDR_MAY_NAME, msg, sizeof(msg)) < 0)
			tool_usage("%s", msg);
	}
}

void
tool_names(char **operands, int n, unsigned may)
{
	char msg[512];
	struct addr a, b;

	for (int i = 0; i < n; i++) {
		if (addr_parse(&a, operands[i], may, msg, sizeof(msg)) < 0)
			tool_usage("%s", msg);
		for (int k = 0; k < i; k++)
			if (addr_parse(&b, operands[k], may, msg, sizeof(msg)) == 0 &&
			    strcmp(a.name, b.name) == 0)
				tool_usage("%s: two interfaces have that name", a.name);
	}
}

void
tool_id_prefix(const char *word)
{
	if (word && (strlen(word) > 32 || strpbrk(word, "/# \n") || !*word))
		tool_usage("--id-prefix %s: up to 32 bytes without blanks, / and #", word);
}

static uid_t
tool_uid(const char *text)
{
	const char *err;
	struct passwd *pw = getpwnam(text);
	long long n = strtonum(text, 0, UINT32_MAX - 1, &err);

	if (pw)
		return pw->pw_uid;
	if (err)
		tool_usage("--peer-user %s: there is no such user", text);
	return (uid_t)n;
}

static gid_t
tool_gid(const char *text)
{
	const char *err;
	struct group *gr = getgrnam(text);
	long long n = strtonum(text, 0, UINT32_MAX - 1, &err);

	if (gr)
		return gr->gr_gid;
	if (err)
		tool_usage("--socket-group %s: there is no such group", text);
	return (gid_t)n;
}

static mode_t
tool_mode(const char *text)
{
	char *end;
	unsigned long mode = strtoul(text, &end, 8);

	if (!*text || *end || mode > 0777)
		tool_usage("--socket-mode %s: write an octal mode up to 0777, like 0660", text);
	return (mode_t)mode;
}

void
tool_socket(mode_t *mode, gid_t *group, uid_t *peer_user)
{
	*mode = tool_link.mode_text ? tool_mode(tool_link.mode_text) : 0600;
	*group = tool_link.group_text ? tool_gid(tool_link.group_text) : (gid_t)-1;
	*peer_user = tool_link.user_text ? tool_uid(tool_link.user_text) : (uid_t)-1;
}

void
tool_link_config(struct hub_config *cfg, unsigned role, const char *option, const char *spec)
{
	char msg[512];

	*cfg = (struct hub_config){ .reactor = tool.reactor,
		.tool = tool.name,
		.option = option,
		.spec = spec,
		.role = role };
	tool_socket(&cfg->socket_mode, &cfg->socket_group, &cfg->peer_user);
	if (name_check(option, spec, role, msg, sizeof(msg)) < 0)
		tool_usage("%s", msg);
}

int
tool_link_status(int rc)
{
	return rc == -EADDRINUSE ? CCF_BIND : rc == -EPIPE ? CCF_UNAVAILABLE : CCF_SYSTEM;
}

/* ---- the loop ---- */

void
tool_reactor(void)
{
	int rc = reactor_new(&tool.reactor);

	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot make an event loop: %s", strerror(-rc));
	tool.drain_timer = (struct timer){ 0 }; /* a worker's master may have armed it in another */
}

static void
tool_cut(void)
{
	if (tool.exit_status == 0)
		tool.exit_status = CCF_DEADLINE;
	(void)reactor_timer(tool.reactor, &tool.drain_timer, CLOCK_NEVER);
	tool.now();
	if (!tool.lingers)
		tool_end(CCF_DEADLINE);
}

static void
tool_drain_late(struct timer *t)
{
	(void)t;
	log_say(LOG_L_WARN, "not drained in time (--drain-timeout): ending now");
	tool_cut();
}

void
tool_drain(void)
{
	if (tool.draining)
		return;
	tool.draining = true;
	tool.drain_timer.fire = tool_drain_late;
	(void)reactor_timer(tool.reactor, &tool.drain_timer,
	    clock_after(reactor_now(tool.reactor), tool.drain_timeout));
	log_event(LOG_L_INFO, NULL, "draining", NULL, "draining");
	tool.drain();
}

static void
tool_term(void)
{
	if (!tool.draining)
		tool_drain();
	else {
		log_say(LOG_L_INFO, "a second signal: ending now");
		tool_cut();
	}
}

static void
tool_signal(struct signals *s, int signo)
{
	(void)s;
	switch (signo) {
	case SIGTERM:
	case SIGINT:
		tool_term();
		break;
	case SIGHUP:
		if (tool.hup)
			tool.hup();
		break;
	case SIGUSR1:
		if (tool.status)
			tool.status();
		break;
	case SIGUSR2:
		if (tool.renew)
			tool.renew();
		break;
	}
}

static void
tool_signals(const int *list, size_t n)
{
	int rc = signals_open(&tool.signals, tool.reactor, list, n, tool_signal, NULL);

	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot receive signals: %s", strerror(-rc));
	children_open(&tool.children, &tool.signals, &tool.found);
}

void
tool_stay(void)
{
	static const int list[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2 };

	tool_signals(list, sizeof(list) / sizeof(list[0]) - !tool.renew);
}

void
tool_children(void)
{
	tool_signals(NULL, 0);
}

void
tool_end(int status)
{
	if (tool.exit_status == 0)
		tool.exit_status = status;
	reactor_stop(tool.reactor);
}

/* Floods are summed up every ten seconds, whether or not another such line comes. */
static void
tool_held_fire(struct timer *t)
{
	(void)log_flush_held(reactor_now(tool.reactor));
	(void)reactor_timer(tool.reactor, t, reactor_now(tool.reactor) + HELD_MS);
}

int
tool_run(void)
{
	struct timer held = { .fire = tool_held_fire }; /* a worker's loop is another */
	int rc;

	(void)reactor_timer(tool.reactor, &held, reactor_now(tool.reactor) + HELD_MS);
	rc = reactor_run(tool.reactor);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "waiting for events: %s", strerror(-rc));
	(void)reactor_timer(tool.reactor, &held, CLOCK_NEVER);
	(void)log_flush_held(INT64_MAX);
	return tool.exit_status;
}

void
tool_trace(struct endpoint *ep, enum endpoint_state from, enum endpoint_state to)
{
	const struct log_fact facts[] = { { .key = "from", .text = endpoint_state_name(from) },
		{ .key = "to", .text = endpoint_state_name(to) }, { 0 } };

	(void)ep;
	if (tool.log == 1)
		log_event(
		    LOG_L_INFO, NULL, "trace", facts, "%s -> %s", facts[0].text, facts[1].text);
	else
		fprintf(stderr, "trace: %s -> %s\n", facts[0].text, facts[1].text);
}
