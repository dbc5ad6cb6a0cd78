/* ccf-tlsterm with one connection: a server's on descriptor 0, or a client's on 6 and 7. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/env.h"
#include "base/log.h"
#include "cmd/tlsterm.h"
#include "cmd/tool.h"
#include "flow/pipes.h"
#include "net/socket.h"
#include "tls/context.h"

static struct terminator terminator;
static struct starter_here starter;
static struct tls_context *context;
static struct hub sink;
static bool sink_opened;

static void
leave(void)
{
	if (sink_opened)
		hub_close(&sink);
	tls_context_free(context);
	context = NULL;
	tlsterm_http_close();
}

static void
idle_now(void *arg)
{
	(void)arg;
	if (terminator.live == 0 && !tlsterm_http_runs(true))
		tool_end(terminator.last_status);
}

/* Told to end: the connection is cut, and the COMMAND hears so (SIGHUP) before its input ends. Told
 * again: it is not waited for. */
static void
cut(void)
{
	if (terminator.live == 0)
		tool_end(terminator.last_status);
	terminator_cut_all(&terminator, "killed", CCF_DEADLINE);
}

static void
sink_credit(struct hub *h)
{
	(void)h;
	terminator_update(&terminator);
}

static void
sink_over(struct hub *h, int status)
{
	log_event(LOG_L_INFO, NULL, "sink-ended", NULL, "%s %s: the consumer is gone for good",
	    h->cfg.option, h->cfg.spec);
	if (tool.exit_status == 0)
		tool.exit_status = status;
	terminator_no_sink(&terminator);
}

static const struct hub_ops sink_ops = { .credit = sink_credit, .over = sink_over };

static void
open_sink(void)
{
	struct hub_config cfg;
	char msg[512];
	int rc;

	if (!tlsterm.to)
		return;
	tool_link_config(&cfg, NOTE_PRODUCER, "--to", tlsterm.to);
	cfg.ops = &sink_ops;
	rc = hub_open(&sink, &cfg, msg, sizeof(msg));
	if (rc < 0)
		tool_die(tool_link_status(rc), "%s", msg);
	sink_opened = true;
}

static bool
same_socket(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Whom the client asks for: as told, or who was connected to. */
static const char *
server_name(const struct env *env)
{
	const char *name = tlsterm.servername;

	if (!name)
		name = env_get(env, "TCPREMOTEHOST");
	if (!name)
		name = env_get(env, "TCPREMOTEIP");
	if (!name && !tlsterm.no_verify)
		tool_usage("--servername NAME is missing: nothing says who was connected to");
	return name;
}

static void
open_context(const struct env *env)
{
	struct tls_server_check check = { .pin = tlsterm.pin.item, .n_pin = tlsterm.pin.n };
	const char *keylog = tlsterm.client ? getenv("SSLKEYLOGFILE") : NULL;
	char msg[512];
	int rc;

	if (tlsterm.plaintext)
		return;
	certs_once();
	if (tlsterm.client)
		check.name = server_name(env);
	if (keylog && *keylog && (rc = tls_keylog(keylog)) < 0)
		tool_die(CCF_SYSTEM, "SSLKEYLOGFILE: %s: %s", keylog, strerror(-rc));
	rc = tls_context_new(
	    &context, &tlsterm.policy, certs.now, tlsterm.client ? &check : NULL, msg, sizeof(msg));
	if (rc < 0)
		tool_die(rc == -EINVAL ? CCF_USAGE : CCF_OWN_CERT, "%s", msg);
}

static void
confine(void)
{
	char holds[160];

	if (tlsterm.command) /* a filter would be the COMMAND's too */
		tlsterm.no_sandbox = true;
	tlsterm_confine(tlsterm.to ? SANDBOX_UNIX_DIAL : 0, holds, sizeof(holds));
	log_event(LOG_L_DEBUG, NULL, "confined", NULL, "%s", holds);
}

static void
take_connection(const struct env *env)
{
	int rfd = tlsterm.client ? 6 : STDIN_FILENO, wfd = tlsterm.client ? 7 : STDOUT_FILENO, rc;

	if ((tlsterm.to && strcmp(tlsterm.to, "-") == 0) || same_socket(rfd, wfd))
		wfd = rfd;
	rc = terminator_single(&terminator, rfd, wfd, env);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot take the connection: %s", strerror(-rc));
}

void
tlsterm_single(void)
{
	struct terminator_config cfg = { .to = &sink,
		.starter = &starter.starter,
		.loud = tlsterm.client,
		.idle_now = idle_now,
		.arg = &context };
	struct env env = { 0 };

	tool.leave = leave;
	if (tlsterm.command) {
		tool.drain = tool.now = tool.hup = cut;
		tool_stay();
	} else
		tool_children();
	if (env_take_process(&env) < 0)
		tool_die(CCF_SYSTEM, "%s", strerror(ENOMEM));
	if (!env_get(&env, "PROTO"))
		(void)socket_describe(tlsterm.client ? 6 : STDIN_FILENO, &env);
	open_context(&env);
	env_scrub_process();
	if (tlsterm.command)
		starter_here_open(
		    &starter, &tool.children, tlsterm.command, tlsterm.client ? 6 : 0);
	tlsterm_terminator(&terminator, &cfg);
	terminator.ready = true;
	open_sink();
	if (cfg.sink == TERM_TO_STDIO) {
		pipes_enlarge(STDIN_FILENO);
		pipes_enlarge(STDOUT_FILENO);
	}
	confine();
	take_connection(&env);
	env_free(&env);
}
