/* ccf-tlsterm - ends TLS at the connection, or begins it (--client), and gives the plaintext to a
 * link, a COMMAND, a session, or standard input and output. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"
#include "base/log.h"
#include "cmd/control.h"
#include "cmd/tlsterm.h"
#include "cmd/tool.h"
#include "net/socket.h"
#include "session/session.h"
#include "tls/context.h"

struct tlsterm tlsterm = {
	.app = -1,
	.handshake = 10000,
	.idle = TLSTERM_UNSET,
	.half_close = TLSTERM_UNSET,
	.flush = 30000,
	.lifetime = -1,
	.cert_timeout = -1,
	.max_buffered = 64 * 1024 * 1024,
	.http = { .body = TLSTERM_UNSET,
	    .header = TLSTERM_UNSET,
	    .count = TLSTERM_UNSET,
	    .line = TLSTERM_UNSET,
	    .head = TLSTERM_UNSET,
	    .request_timeout = TLSTERM_UNSET,
	    .cgi_timeout = TLSTERM_UNSET,
	    .cgi_max = TLSTERM_UNSET },
	.access = { .fd = -1 },
	.policy = { .max_version = TLS_V13 },
};

#define HOST_MAX 253

enum { APP_ECHO, APP_HTTP1 };
static const char *const apps[] = { "echo", "http1", NULL };

static const struct opt options[] = {
	TOOL_OPTS_PLAIN,
	TOOL_CONTROL_OPT,
	{ 0, "access-log", "FILE", OPT_TEXT, &tlsterm.http.access, 0, 0, NULL,
	    "a line for each HTTP request, in the form of --log; -: standard error" },
	{ 0, "alpn", "NAME", OPT_LIST, &tlsterm.alpn, 0, 0, NULL,
	    "protocol to agree on, in order of preference (http/1.1; none with --client)" },
	{ 0, "app", "NAME", OPT_WORD, &tlsterm.app, 0, 0, apps,
	    "session that answers: echo, or http1 (with --to or a COMMAND: for each request)" },
	{ 0, "ca", "FILE|DIR", OPT_TEXT, &tlsterm.ca, 0, 0, NULL,
	    "with --client: who signs servers' certificates (those the system trusts)" },
	{ 0, "capped-message", "TEXT", OPT_TEXT, &tlsterm.capped_message, 0, 0, NULL,
	    "said to a connection above the soft cap instead of handing it on (\\n, \\xHH)" },
	{ 0, "cert", "[NAME:]FILE", OPT_LIST, &tlsterm.cert, 0, 0, NULL,
	    "certificate chain, PEM, for a server NAME; one that is not there is waited for" },
	{ 0, "cert-timeout", "TIME", OPT_LIMIT, &tlsterm.cert_timeout, 0, 0, NULL,
	    "wait no longer for --cert and --key (no limit)" },
	{ 0, "cgi-max", "N", OPT_NUMBER, &tlsterm.http.cgi_max, 1, 65536, NULL,
	    "COMMANDs that answer HTTP requests at once (64)" },
	{ 0, "cgi-timeout", "TIME", OPT_LIMIT, &tlsterm.http.cgi_timeout, 0, 0, NULL,
	    "from an HTTP request to the end of its COMMAND's answer (60s)" },
	{ 0, "ciphers", "LIST", OPT_TEXT, &tlsterm.policy.ciphers, 0, 0, NULL,
	    "suites of TLS 1.2, in OpenSSL's words (ECDHE with AES-GCM)" },
	{ 0, "ciphersuites", "LIST", OPT_TEXT, &tlsterm.policy.ciphersuites, 0, 0, NULL,
	    "suites of TLS 1.3 (AES-GCM)" },
	{ 0, "client", NULL, OPT_FLAG, &tlsterm.client, 0, 0, NULL,
	    "be the client, on descriptors 6 and 7" },
	{ 0, "client-ca", "FILE|DIR", OPT_TEXT, &tlsterm.client_ca, 0, 0, NULL,
	    "who signs clients' certificates: verify them" },
	{ 0, "drain-timeout", "TIME", OPT_LIMIT, &tool.drain_timeout, 0, 0, NULL,
	    "after TERM, wait so long for connections to end (60s)" },
	{ 0, "flush-timeout", "TIME", OPT_LIMIT, &tlsterm.flush, 0, 0, NULL,
	    "for the other side to acknowledge the last byte (30s)" },
	{ 0, "from", "LINK", OPT_LIST, &tlsterm.from, 0, 0, NULL,
	    "where connections come from: PATH, bind:PATH, - or fd:N (descriptor 0, repeatable)" },
	{ 0, "groups", "LIST", OPT_TEXT, &tlsterm.policy.groups, 0, 0, NULL,
	    "of the key exchange; ?NAME: only if known (P-521, P-384, P-256 and hybrids)" },
	{ 0, "half-close-timeout", "TIME", OPT_LIMIT, &tlsterm.half_close, 0, 0, NULL,
	    "silence after one side has ended (as --idle-timeout)" },
	{ 0, "handshake-timeout", "TIME", OPT_LIMIT, &tlsterm.handshake, 0, 0, NULL,
	    "from accept to the end of the handshake (10s)" },
	{ 0, "idle-timeout", "TIME", OPT_LIMIT, &tlsterm.idle, 0, 0, NULL,
	    "silence (60s; none on stdin/stdout)" },
	{ 0, "key", "FILE", OPT_LIST, &tlsterm.key, 0, 0, NULL,
	    "private key, PEM (in the file of --cert)" },
	{ 0, "lifetime", "TIME", OPT_LIMIT, &tlsterm.lifetime, 0, 0, NULL,
	    "of a connection, from accept (no limit)" },
	{ 0, "max-body-size", "SIZE", OPT_SIZE, &tlsterm.http.body, 0, INT64_MAX, NULL,
	    "of an HTTP request (1M)" },
	{ 0, "max-buffered", "SIZE", OPT_SIZE, &tlsterm.max_buffered, 65536, INT64_MAX, NULL,
	    "bytes held for all connections together (64M)" },
	{ 0, "max-head-size", "SIZE", OPT_SIZE, &tlsterm.http.head, 64, 16 * 1024 * 1024, NULL,
	    "of an HTTP request, with its line and all fields (64k)" },
	{ 0, "max-header-size", "SIZE", OPT_SIZE, &tlsterm.http.header, 1, 16 * 1024 * 1024, NULL,
	    "of a field's name, and of its value (16k)" },
	{ 0, "max-headers-count", "N", OPT_NUMBER, &tlsterm.http.count, 1, 65536, NULL,
	    "fields of an HTTP request (256)" },
	{ 0, "max-request-line", "SIZE", OPT_SIZE, &tlsterm.http.line, 1, 16 * 1024 * 1024, NULL,
	    "of an HTTP request (8k)" },
	{ 0, "max-version", "VERSION", OPT_WORD, &tlsterm.policy.max_version, 0, 0,
	    tls_version_words, "of TLS: 1.2 or 1.3 (1.3)" },
	{ 0, "min-version", "VERSION", OPT_WORD, &tlsterm.policy.min_version, 0, 0,
	    tls_version_words, "of TLS: 1.2 or 1.3 (1.2)" },
	{ 0, "no-sandbox", NULL, OPT_FLAG, &tlsterm.no_sandbox, 0, 0, NULL,
	    "do without the filter of system calls" },
	{ 0, "no-verify", NULL, OPT_FLAG, &tlsterm.no_verify, 0, 0, NULL,
	    "with --client: talk to any server" },
	{ 0, "passphrase", "SOURCE", OPT_TEXT, &tlsterm.passphrase, 0, 0, NULL,
	    "of the keys: env:NAME, file:PATH or fd:N (a terminal is asked)" },
	{ 0, "pin", "HASH", OPT_LIST, &tlsterm.pin, 0, 0, NULL,
	    "with --client: sha256:... of the server's key or certificate (repeatable)" },
	{ 0, "plaintext", NULL, OPT_FLAG, &tlsterm.plaintext, 0, 0, NULL, "the same without TLS" },
	{ 0, "request-timeout", "TIME", OPT_LIMIT, &tlsterm.http.request_timeout, 0, 0, NULL,
	    "for the head of an HTTP request, and for more of its body (30s)" },
	{ 0, "require-close-notify", NULL, OPT_FLAG, &tlsterm.require_close_notify, 0, 0, NULL,
	    "a peer that ends without close_notify was cut" },
	{ 0, "servername", "NAME", OPT_TEXT, &tlsterm.servername, 0, 0, NULL,
	    "with --client: whom to ask for and to expect (the host that was connected to)" },
	{ 0, "tickets", "TIME", OPT_TIME, &tlsterm.tickets, 1000, 7 * 24 * 3600 * 1000LL, NULL,
	    "let clients resume a session for so long (not at all)" },
	{ 0, "to", "LINK", OPT_TEXT, &tlsterm.to, 0, 0, NULL,
	    "hand the plaintext on: PATH, dial:PATH, - or fd:N" },
	{ 0, "user", "USER[:GROUP]", OPT_TEXT, &tlsterm.user, 0, 0, NULL,
	    "who the workers are (who started us)" },
	{ 0, "verify", "WORD", OPT_WORD, &tlsterm.verify, 0, 0, tls_verify_words,
	    "a client's certificate: request, require or none (request)" },
	{ 'j', "workers", "N", OPT_TEXT, &tlsterm.workers_text, 0, 0, NULL,
	    "processes that share the connections, or auto: one a processor (1)" },
	TOOL_LINK_OPTS,
	{ 0 },
};

static const struct opts opts = {
	.tool = "ccf-tlsterm",
	.usage = "ccf-tlsterm [options] --cert FILE [--app http1] --to LINK\n"
		 "ccf-tlsterm [options] --cert FILE --app echo|http1\n"
		 "ccf-tlsterm [options] --cert FILE [--app http1] -- COMMAND [ARG...]\n"
		 "ccf-tlsterm --client [options] [-- COMMAND [ARG...]]",
	.about = "Take connections from a link or from descriptor 0, end their TLS, and give the "
		 "plaintext to a sink; or, with --client, begin TLS on descriptors 6 and 7.",
	.table = options,
};

/* ---- what goes together ---- */

static void
check_server(void)
{
	if (tlsterm.ca || tlsterm.servername || tlsterm.no_verify || tlsterm.pin.n)
		tool_usage(
		    "--ca, --servername, --no-verify and --pin are for --client (--client-ca "
		    "verifies clients)");
	if (tlsterm.plaintext && (tlsterm.cert.n || tlsterm.key.n || tlsterm.alpn.n ||
				     tlsterm.client_ca || tlsterm.verify || tlsterm.tickets))
		tool_usage("--plaintext goes with no --cert, --key, --alpn, --client-ca, --verify "
			   "or --tickets");
	if (!tlsterm.plaintext && !tlsterm.cert.n)
		tool_usage("--cert FILE is missing (or --plaintext)");
	if (tlsterm.client_ca && tlsterm.verify == TLS_NONE)
		tool_usage("--client-ca verifies what --verify none does not ask for");
}

static void
check_client(void)
{
	if (tlsterm.plaintext || tlsterm.client_ca || tlsterm.tickets || tlsterm.verify)
		tool_usage(
		    "--plaintext, --client-ca, --tickets and --verify are for the server's side");
	if (tlsterm.from.n)
		tool_usage(
		    "--client has its connection on descriptors 6 and 7: it takes no --from");
	if (tlsterm.key.n && !tlsterm.cert.n)
		tool_usage("--key goes with a --cert");
	if (tlsterm.no_verify && tlsterm.ca)
		tool_usage("--ca verifies what --no-verify does not");
	for (size_t i = 0; i < tlsterm.pin.n; i++)
		if (tls_pin_check(tlsterm.pin.item[i]) < 0)
			tool_usage(
			    "--pin %s: write sha256: and 64 hex digits, or the 44 characters "
			    "of base64",
			    tlsterm.pin.item[i]);
	if (socket_kind(6) != SOCK_STREAM)
		tool_usage("--client: descriptor 6 is no connection: write `ccf-connect HOST:PORT "
			   "-- ccf-tlsterm --client ...`, or `ccf-connect --tls HOST:PORT`");
}

static bool
is_host(const char *name)
{
	const char *colon = strchr(name, ':');
	size_t n = strlen(name);

	return n > 0 && n <= HOST_MAX && !strpbrk(name, " \t\n/@[]") &&
	       (!colon || strchr(colon + 1, ':'));
}

/* What can be seen of them before anything is done. */
static void
check_words(void)
{
	const char *from = tlsterm.passphrase, *name = tlsterm.servername;

	/* It may be the passphrase itself: it is not shown. */
	if (from && strncmp(from, "env:", 4) != 0 && strncmp(from, "file:", 5) != 0 &&
	    strncmp(from, "fd:", 3) != 0)
		tool_usage("--passphrase is not the passphrase but says where it is: env:NAME, "
			   "file:PATH or fd:N");
	if (name && !is_host(name))
		tool_usage(
		    "--servername %s: write a host name or an address, without a port", name);
}

static void
check_sinks(int n, char **operands)
{
	int sinks = !!tlsterm.to + !!tlsterm.command + (tlsterm.app == APP_ECHO);

	if (n > 0)
		tool_usage(
		    "%s: this tool takes no operands; a COMMAND stands after --", operands[0]);
	if (sinks > 1)
		tool_usage("--to, --app and a COMMAND exclude each other; but --app http1 goes "
			   "with --to LINK, or with a COMMAND, or stands alone");
	if (sinks == 0 && tlsterm.app < 0 && !tlsterm.client)
		tool_usage("say what becomes of the plaintext: --to LINK, --app NAME, or "
			   "-- COMMAND");
	if (tlsterm.from.n > HUB_LINKS_MAX)
		tool_usage("--from can be given up to %d times", HUB_LINKS_MAX);
}

static unsigned
processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static void
check_workers(void)
{
	const char *err = NULL, *text = tlsterm.workers_text;

	tlsterm.workers = 1;
	if (!text)
		return;
	if (tlsterm.single)
		tool_usage("-j: there is one connection, and nothing to share");
	tlsterm.workers = strcmp(text, "auto") == 0
			      ? processors()
			      : (unsigned)strtonum(text, 1, MASTER_WORKERS_MAX, &err);
	if (err)
		tool_usage("-j %s: write a number from 1 to %d, or auto", text, MASTER_WORKERS_MAX);
	if (tlsterm.workers > MASTER_WORKERS_MAX)
		tlsterm.workers = MASTER_WORKERS_MAX;
}

/* Before anything is done for one of them. */
static void
check_links(void)
{
	for (size_t i = 0; i < tlsterm.from.n; i++)
		tool_link_config(&tlsterm.link[tlsterm.n_links++], NOTE_CONSUMER, "--from",
		    tlsterm.from.item[i]);
	if (tlsterm.to)
		tool_link_config(
		    &tlsterm.link[tlsterm.n_links++], NOTE_PRODUCER, "--to", tlsterm.to);
}

static void
check_source(void)
{
	static const char *own[] = { "-" };

	tlsterm.single =
	    tlsterm.client || (tlsterm.from.n == 0 && socket_kind(STDIN_FILENO) == SOCK_STREAM);
	if (tlsterm.single && !tlsterm.client && socket_listens(STDIN_FILENO))
		tool_usage("standard input is a listening socket: let ccf-listen accept, it takes "
			   "LISTEN_FDS");
	if (!tlsterm.single && tlsterm.from.n == 0)
		tlsterm.from = (struct opt_list){ .item = own, .n = 1 };
}

static void
check_policy(void)
{
	static const char *const http[] = { "http/1.1" };
	struct tls_policy *p = &tlsterm.policy;
	char msg[512];

	p->client = tlsterm.client;
	p->verify = tlsterm.no_verify ? TLS_NONE : tlsterm.verify;
	p->tickets = tlsterm.tickets / 1000;
	p->alpn = tlsterm.alpn.n ? tlsterm.alpn.item : http;
	p->n_alpn = tlsterm.alpn.n ? tlsterm.alpn.n : tlsterm.client ? 0 : 1;
	if (!tlsterm.plaintext && policy_check(p, msg, sizeof(msg)) < 0)
		tool_usage("%s", msg);
	for (size_t i = 0; i < tlsterm.cert.n; i++) {
		char name[256];

		if (!tls_file_split(tlsterm.cert.item[i], name, sizeof(name)))
			tool_usage("--cert %s: before the ':' stands a host name, or *. and one",
			    tlsterm.cert.item[i]);
	}
	if (tlsterm.cert.n > MATERIAL_CERTS_MAX)
		tool_usage("--cert can be given up to %d times", MATERIAL_CERTS_MAX);
	tlsterm.files = (struct tls_files){ .cert = tlsterm.cert.item,
		.n_cert = tlsterm.cert.n,
		.key = tlsterm.key.item,
		.n_key = tlsterm.key.n,
		.ca = tlsterm.client ? tlsterm.ca : tlsterm.client_ca,
		.ca_system = tlsterm.client && !tlsterm.ca && !tlsterm.no_verify,
		.passphrase = tlsterm.passphrase };
}

static void
check(int n, char **operands)
{
	char msg[512];

	tlsterm.is_http = tlsterm.app == APP_HTTP1;
	check_sinks(n, operands);
	check_words();
	check_source();
	tlsterm_http_check();
	if (tlsterm.client)
		check_client();
	else
		check_server();
	control_may(!tlsterm.single, "with --from, or in a pipe; here there is one connection");
	check_workers();
	check_links();
	check_policy();
	if (tlsterm.user && identity_find(&tlsterm.identity, tlsterm.user, msg, sizeof(msg)) < 0)
		tool_usage("--user %s: %s", tlsterm.user, msg);
	tlsterm.has_identity = tlsterm.user;
	if (tlsterm.app == APP_ECHO)
		tlsterm.session = &session_echo;
}

int
main(int argc, char **argv)
{
	static char with[128];
	int first, n, status;

	tls_about(with, sizeof(with));
	tool.with = with;
	tool.drain_timeout = 60000;
	first = tool_begin(&opts, argc, argv);
	tlsterm.command = tool_command(argc - first, argv + first, &n);
	check(n, argv + first);
	tool_log_level(!tlsterm.client);
	tlsterm_http_access(); /* first of all: a path that cannot be opened is seen at once */
	tool_reactor();
	if (tlsterm.single)
		tlsterm_single();
	else
		tlsterm_master();
	status = tool_run();
	if (tool.leave)
		tool.leave();
	certs_close();
	reactor_free(tool.reactor);
	return status;
}
