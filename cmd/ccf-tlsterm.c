/* ccf-tlsterm - ends TLS at the connection and gives the plaintext to a link, a COMMAND or a
 * session. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/log.h"
#include "cmd/tool.h"
#include "flow/terminator.h"
#include "net/socket.h"
#include "net/stream.h"
#include "session/session.h"
#include "tls/context.h"
#include "tls/link.h"

#define FDS_KEPT     24	   /* standard ones, loop, signals, certificate files, a few pipes */
#define CERT_LOOK_MS 1000  /* a certificate that is not there yet is looked for so often */
#define CERT_SAY_MS  60000 /* and said so often */

static const char *to, *cert, *key;
static struct opt_list from, alpn;
static bool plaintext, require_close_notify;
static int app = -1;
static int64_t handshake = 10000, idle = -2, half_close = -2, flush = 30000, cert_timeout = -1;

static const char *const apps[] = { "echo", NULL };
static const struct session_ops *const app_ops[] = { &session_echo };

static const struct opt options[] = {
	TOOL_OPTS_PLAIN,
	{ 0, "alpn", "NAME", OPT_LIST, &alpn, 0, 0, NULL,
	    "protocol to agree on, in order of preference (http/1.1)" },
	{ 0, "app", "NAME", OPT_WORD, &app, 0, 0, apps, "session that answers: echo" },
	{ 0, "cert", "FILE", OPT_TEXT, &cert, 0, 0, NULL,
	    "certificate chain, PEM; one that is not there is waited for" },
	{ 0, "cert-timeout", "TIME", OPT_LIMIT, &cert_timeout, 0, 0, NULL,
	    "wait no longer for --cert and --key (no limit)" },
	{ 0, "drain-timeout", "TIME", OPT_LIMIT, &tool.drain_timeout, 0, 0, NULL,
	    "after TERM, wait so long for connections to end (60s)" },
	{ 0, "flush-timeout", "TIME", OPT_LIMIT, &flush, 0, 0, NULL,
	    "for the other side to acknowledge the last byte (30s)" },
	{ 0, "from", "LINK", OPT_LIST, &from, 0, 0, NULL,
	    "where connections come from: PATH, bind:PATH, - or fd:N (descriptor 0, repeatable)" },
	{ 0, "half-close-timeout", "TIME", OPT_LIMIT, &half_close, 0, 0, NULL,
	    "silence after one side has ended (as --idle-timeout)" },
	{ 0, "handshake-timeout", "TIME", OPT_LIMIT, &handshake, 0, 0, NULL,
	    "from accept to the end of the handshake (10s)" },
	{ 0, "idle-timeout", "TIME", OPT_LIMIT, &idle, 0, 0, NULL, "silence (60s)" },
	{ 0, "key", "FILE", OPT_TEXT, &key, 0, 0, NULL,
	    "private key, PEM (in the file of --cert)" },
	{ 0, "plaintext", NULL, OPT_FLAG, &plaintext, 0, 0, NULL, "the same without TLS" },
	{ 0, "require-close-notify", NULL, OPT_FLAG, &require_close_notify, 0, 0, NULL,
	    "a client that ends without close_notify was cut" },
	{ 0, "to", "LINK", OPT_TEXT, &to, 0, 0, NULL,
	    "hand the plaintext on: PATH, dial:PATH, - or fd:N" },
	TOOL_LINK_OPTS,
	{ 0 },
};

static const struct opts opts = {
	.tool = "ccf-tlsterm",
	.usage = "ccf-tlsterm [options] --cert FILE [--key FILE] --to LINK\n"
		 "ccf-tlsterm [options] --cert FILE [--key FILE] --app NAME\n"
		 "ccf-tlsterm [options] --cert FILE [--key FILE] -- COMMAND [ARG...]",
	.about = "Take connections from a link or from descriptor 0, end their TLS, and give the "
		 "plaintext to a sink.",
	.table = options,
};

static struct tls_context *context;
static struct terminator terminator;
static struct hub sources[HUB_LINKS_MAX], sink;
static unsigned sources_opened, sources_open;
static bool sink_opened;
static bool single, cut_short;
static struct timer cert_timer;
static int64_t cert_since, cert_said;

static void
leave(void)
{
	for (unsigned i = 0; i < sources_opened; i++)
		hub_close(&sources[i]);
	if (sink_opened)
		hub_close(&sink);
}

static int
wrap(void *arg, int rfd, int wfd, bool owns, struct transport **ret)
{
	(void)arg;
	return plaintext ? stream_new(rfd, wfd, owns, ret)
			 : tls_link_new(ret, context, rfd, wfd, owns);
}

/* ---- the certificate ---- */

static int
load(char *msg, size_t cap)
{
	static const char *const http[] = { "http/1.1" };
	struct tls_config cfg = { .cert = cert,
		.key = key ? key : cert,
		.alpn = alpn.n ? alpn.item : http,
		.n_alpn = alpn.n ? alpn.n : 1 };

	return tls_context_new(&context, &cfg, msg, cap);
}

static void
loaded(void)
{
	log_event(LOG_L_INFO, NULL, "certificate", NULL, "certificate loaded from %s", cert);
	terminator.ready = true;
	terminator_update(&terminator);
}

static void
cert_look(struct timer *t)
{
	int64_t now = reactor_now(tool.reactor), next = now + CERT_LOOK_MS;
	int64_t end = clock_after(cert_since, cert_timeout);
	char msg[512];
	int rc = load(msg, sizeof(msg));

	if (rc == 0) {
		loaded();
		return;
	}
	if (rc != -ENOENT)
		tool_die(CCF_OWN_CERT, "%s", msg);
	if (now >= end)
		tool_die(CCF_OWN_CERT, "%s; waited for it in vain (--cert-timeout)", msg);
	if (!cert_said || now - cert_said >= CERT_SAY_MS) {
		log_event(LOG_L_INFO, NULL, "certificate-awaited", NULL,
		    "%s; taking no connections until it is", msg);
		cert_said = now;
	}
	(void)reactor_timer(tool.reactor, t, next < end ? next : end);
}

static void
cert_start(void)
{
	char msg[512];
	int rc;

	if (plaintext) {
		terminator.ready = true;
		return;
	}
	if (!single) {
		cert_timer.fire = cert_look;
		cert_since = reactor_now(tool.reactor);
		cert_look(&cert_timer);
		return;
	}
	rc = load(msg, sizeof(msg));
	if (rc < 0)
		tool_die(rc == -EINVAL ? CCF_USAGE : CCF_OWN_CERT, "%s", msg);
	terminator.ready = true;
}

/* ---- source and sink ---- */

static void
finish(void)
{
	if (sources_open > 0 || terminator.live > 0)
		return;
	tool_end(single ? terminator.last_status : cut_short ? CCF_DEADLINE : tool.exit_status);
}

static void
idle_now(void *arg)
{
	(void)arg;
	finish();
}

static void
from_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	terminator_conn(&terminator, l, n, fd);
}

static unsigned
from_room(struct hub *h)
{
	(void)h;
	return terminator_room(&terminator);
}

static void
from_over(struct hub *h, int status)
{
	(void)h;
	if (tool.exit_status == 0)
		tool.exit_status = status;
	sources_open--;
	finish();
}

static const struct hub_ops from_ops = { .conn = from_conn, .room = from_room, .over = from_over };

static void
drain(void)
{
	for (size_t i = 0; i < from.n; i++)
		if (!sources[i].over)
			hub_drain(&sources[i]);
}

static void
sink_credit(struct hub *h)
{
	(void)h;
	terminator_update(&terminator);
}

/* Nobody can take the plaintext any more: no new ones, reset who has no sink yet, finish what has
 * moved. */
static void
sink_over(struct hub *h, int status)
{
	log_event(LOG_L_INFO, NULL, "sink-ended", NULL,
	    "%s %s: the consumer is gone for good: finishing", h->cfg.option, h->cfg.spec);
	if (!tool.draining && tool.exit_status == 0)
		tool.exit_status = status;
	drain();
	terminator_no_sink(&terminator);
}

static const struct hub_ops sink_ops = { .credit = sink_credit, .over = sink_over };

static void
end_now(void)
{
	cut_short = true;
	terminator_cut_all(&terminator, "drain-timeout", CCF_DEADLINE);
}

static void
say_status(void)
{
	log_event(LOG_L_INFO, NULL, "status", NULL,
	    "%u connections, %u sources open, certificate %s", terminator.live, sources_open,
	    plaintext	       ? "not wanted"
	    : terminator.ready ? "loaded"
			       : "awaited");
}

/* ---- start ---- */

/* Before anything is done for one of them. */
static void
check_links(void)
{
	struct hub_config cfg;

	for (size_t i = 0; i < from.n; i++)
		tool_link_config(&cfg, NOTE_CONSUMER, "--from", from.item[i]);
	if (to)
		tool_link_config(&cfg, NOTE_PRODUCER, "--to", to);
}

static void
check(int n, char **operands, char **command)
{
	int sinks = !!to + !!command + (app >= 0), kind = socket_kind(STDIN_FILENO);

	if (n > 0)
		tool_usage(
		    "%s: this tool takes no operands; a COMMAND stands after --", operands[0]);
	if (sinks != 1)
		tool_usage(sinks ? "--to, --app and a COMMAND exclude each other"
				 : "say what becomes of the plaintext: --to LINK, --app NAME, or "
				   "-- COMMAND");
	if (plaintext && (cert || key || alpn.n))
		tool_usage("--plaintext goes with no --cert, --key or --alpn");
	if (!plaintext && !cert)
		tool_usage("--cert FILE is missing (or --plaintext)");
	if (from.n > HUB_LINKS_MAX)
		tool_usage("--from can be given up to %d times", HUB_LINKS_MAX);
	for (size_t i = 0; i < alpn.n; i++)
		if (!*alpn.item[i] || strlen(alpn.item[i]) > 255)
			tool_usage("--alpn: a name has 1 to 255 bytes");
	single = from.n == 0 && kind == SOCK_STREAM;
	if (single && socket_listens(STDIN_FILENO))
		tool_usage("standard input is a listening socket: let ccf-listen accept, it takes "
			   "LISTEN_FDS");
	if (!single && from.n == 0) {
		static const char *own[] = { "-" };

		from.item = own;
		from.n = 1;
	}
	check_links();
}

static void
trace(const char *before, const char *after)
{
	fprintf(stderr, "trace: %s -> %s\n", before, after);
}

static void
open_terminator(char **command)
{
	struct terminator_config cfg = { .reactor = tool.reactor,
		.wrap = wrap,
		.to = &sink,
		.children = &tool.children,
		.argv = command,
		.sink = to	  ? TERM_TO_HUB
			: command ? TERM_TO_COMMAND
				  : TERM_TO_SESSION,
		.session = app >= 0 ? app_ops[app] : NULL,
		.capped = &session_capped,
		.handshake = handshake,
		.idle = idle == -2 ? 60000 : idle,
		.flush = flush,
		.require_close_notify = require_close_notify,
		.fds_spare = FDS_KEPT,
		.trace = tool.trace ? trace : NULL,
		.idle_now = idle_now };

	cfg.half_close = half_close == -2 ? cfg.idle : half_close;
	terminator_open(&terminator, &cfg);
}

static void
open_links(void)
{
	struct hub_config cfg;
	char msg[512];
	int rc;

	for (size_t i = 0; i < from.n; i++) {
		tool_link_config(&cfg, NOTE_CONSUMER, "--from", from.item[i]);
		cfg.modes = NOTE_TAKE;
		cfg.ops = &from_ops;
		sources_open++;
		terminator.from[terminator.n_from++] = &sources[i];
		rc = hub_open(&sources[i], &cfg, msg, sizeof(msg));
		if (rc < 0)
			tool_die(tool_link_status(rc), "%s", msg);
		sources_opened++;
	}
	if (!to)
		return;
	tool_link_config(&cfg, NOTE_PRODUCER, "--to", to);
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

static void
take_own(void)
{
	struct env env = { 0 };
	bool same = (to && strcmp(to, "-") == 0) || same_socket(STDIN_FILENO, STDOUT_FILENO);
	int rc = env_take_process(&env);

	if (!env_get(&env, "PROTO"))
		(void)socket_describe(STDIN_FILENO, &env);
	if (rc == 0)
		rc = terminator_single(
		    &terminator, STDIN_FILENO, same ? STDIN_FILENO : STDOUT_FILENO, &env);
	env_free(&env);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot take the connection: %s", strerror(-rc));
}

int
main(int argc, char **argv)
{
	static char with[128];
	int first, n, status;
	char **command;

	tls_about(with, sizeof(with));
	tool.with = with;
	tool.drain_timeout = 60000;
	first = tool_begin(&opts, argc, argv);
	command = tool_command(argc - first, argv + first, &n);
	check(n, argv + first, command);
	tool_log_level(true);
	tool_reactor();
	open_terminator(command);
	tool.drain = drain;
	tool.now = end_now;
	tool.status = say_status;
	tool.leave = leave;
	if (single)
		tool_children();
	else
		tool_stay();
	cert_start();
	open_links();
	if (single)
		take_own();
	env_scrub_process();
	status = tool_run();
	leave();
	tls_context_free(context);
	reactor_free(tool.reactor);
	return status;
}
