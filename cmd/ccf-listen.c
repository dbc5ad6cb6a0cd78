/* ccf-listen - binds, listens, accepts, and gives each connection to a sink. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/log.h"
#include "cmd/control.h"
#include "cmd/ready.h"
#include "cmd/stdio.h"
#include "cmd/tool.h"
#include "flow/acceptor.h"
#include "flow/relay.h"
#include "flow/rows.h"
#include "flow/tell.h"
#include "net/inherit.h"

static const char *to, *id_prefix;
static bool keep_open;
static int64_t backlog = 4096, soft = 1000, hard = -1;
static struct opt_list allow_text, deny_text;
static struct ready ready = { .fd = -1 };
static struct stdio_times times = STDIO_TIMES;

static const struct opt options[] = {
	TOOL_OPTS,
	{ 0, "address-file", "FILE", OPT_TEXT, &ready.address_file, 0, 0, NULL,
	    "write the bound addresses there as JSON, by rename" },
	{ 0, "allow", "CIDR", OPT_LIST, &allow_text, 0, 0, NULL,
	    "accept from there only (repeatable)" },
	{ 0, "backlog", "N", OPT_NUMBER, &backlog, 1, 65535, NULL,
	    "connections the kernel may queue (4096)" },
	TOOL_CONTROL_OPT,
	{ 0, "deny", "CIDR", OPT_LIST, &deny_text, 0, 0, NULL,
	    "close what comes from there (repeatable)" },
	{ 0, "drain-timeout", "TIME", OPT_LIMIT, &tool.drain_timeout, 0, 0, NULL,
	    "after TERM, wait so long for connections to end (60s)" },
	STDIO_OPTS(times),
	{ 0, "id-prefix", "WORD", OPT_TEXT, &id_prefix, 0, 0, NULL,
	    "put WORD/ before every CCF_CONN_ID" },
	{ 'k', "keep-open", NULL, OPT_FLAG, &keep_open, 0, 0, NULL,
	    "on stdin/stdout: go on with the next connection" },
	{ 0, "max-open-sessions-hard", "N", OPT_NUMBER, &hard, 1, 1 << 24, NULL,
	    "of each interface: above it, close at accept (soft + 10: 1010)" },
	{ 0, "max-open-sessions-soft", "N", OPT_NUMBER, &soft, 0, 1 << 24, NULL,
	    "of each interface: above it, mark with CCF_CAPPED=1 (1000)" },
	{ 0, "ready-fd", "N", OPT_NUMBER, &ready.fd, 0, 1 << 20, NULL,
	    "write a newline there when ready" },
	{ 0, "ready-when", "WHEN", OPT_WORD, &ready.when, 0, 0, ready_words,
	    "ready means bound, or listening (bound)" },
	{ 0, "to", "LINK", OPT_TEXT, &to, 0, 0, NULL,
	    "hand connections on: PATH, dial:PATH, - or fd:N" },
	TOOL_LINK_OPTS,
	{ 0 },
};

static const struct opts opts = {
	.tool = "ccf-listen",
	.usage = "ccf-listen [options] [NAME=]ADDRESS... [-- COMMAND [ARG...]]",
	.about = "Listen on each ADDRESS and give every connection to standard input and output, "
		 "to a COMMAND, or to a link.",
	.table = options,
};

static struct acceptors all;
static struct hub hub;
static bool hub_opened;
static struct relay *joined;
static struct tell joined_tell;

/* ---- the hub sink ---- */

static void
hub_credit(struct hub *h)
{
	(void)h;
	acceptors_update(&all);
}

static void
hub_ended(struct hub *h, int status)
{
	(void)h;
	log_event(LOG_L_INFO, NULL, "sink-ended", NULL, "the consumer is gone for good: ending");
	if (!tool.draining)
		tool.exit_status = status;
	acceptors_close(&all);
}

static const struct hub_ops hub_ops = { .credit = hub_credit, .over = hub_ended };

/* ---- standard input and output ---- */

static void
stdio_done(void *arg, const struct relay_end *end)
{
	(void)arg;
	joined = NULL;
	tell_closed(&joined_tell, end->reason, end->status, end->by, end->in, end->out);
	stdio_say(end);
	if (!keep_open || end->status == CCF_STDOUT || tool.draining) {
		tool_end(end->status);
		return;
	}
	acceptors_pause(&all, false);
}

static void
stdio_accepted(void *arg, int fd, const struct env *env)
{
	int rc;

	(void)arg;
	tell_from(&joined_tell, env);
	tell_open(&joined_tell, "accepted");
	rc = stdio_join(fd, &times, keep_open ? RELAY_PEER_IDLE : RELAY_PEER_HALF, NULL, 0,
	    stdio_done, &joined);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot join the connection: %s", strerror(-rc));
	if (keep_open)
		acceptors_pause(&all, true);
	else
		acceptors_close(&all);
}

/* ---- ends ---- */

static void
idle_now(void *arg)
{
	(void)arg;
	if (!joined)
		tool_end(tool.exit_status);
}

static void
drain(void)
{
	acceptors_close(&all);
}

static void
end_now(void)
{
	if (joined)
		relay_cut(joined, "drain-timeout", CCF_DEADLINE);
}

static void
say_status(void)
{
	struct acceptor *a;

	TAILQ_FOREACH(a, &all.list, link)
		log_event(LOG_L_INFO, NULL, "status", NULL,
		    "%s: %s, %u open, peak %u, soft %u, hard %u, accepted %llu, capped %llu, "
		    "refused %llu",
		    a->name, a->listens ? "listening" : "bound, refusing", a->caps.open,
		    a->caps.peak, a->caps.soft, a->caps.hard, (unsigned long long)a->caps.accepted,
		    (unsigned long long)a->caps.capped, (unsigned long long)a->caps.refused);
	if (to)
		log_event(LOG_L_INFO, NULL, "status", NULL,
		    "--to %s: %u links, %u connections there, %llu lost with a link", to, hub.n,
		    hub_live(&hub), (unsigned long long)hub.lost);
}

/* ---- the control socket ---- */

static void
answer_metrics(struct control_call *call)
{
	struct text t = { 0 };

	acceptors_metrics(&all, &t);
	control_metrics(call, &t);
}

static void
answer_node_metrics(struct control_call *call)
{
	struct text t = { 0 };

	acceptors_node_metrics(&all, &t);
	control_reply(call, 200, "application/json", &t);
}

static void
answer_rows(struct control_call *call)
{
	struct text t = { 0 };
	struct conn_row row;

	acceptors_rows(&all, &t);
	if (joined) {
		rows_from(&row, &joined_tell, "joined");
		rows_look(&row, joined, reactor_now(tool.reactor));
		rows_json(&t, &row, 1);
	}
	control_rows(call, &t, NULL);
}

static void
answer_cut(struct control_call *call)
{
	bool ours = joined && strcmp(joined_tell.conn, call->rest) == 0;

	if (!keep_open) {
		control_elsewhere(call,
		    to ? "ask the one that took them from --to, like ccf-tlsterm or ccf-connect"
		       : "each COMMAND has its own; end it");
		return;
	}
	if (ours)
		relay_cut(joined, "control", CCF_CUT);
	control_cut(call, ours, NULL);
}

static const struct control_route routes[] = {
	{ "GET", "/metrics", "counters, gauges and histograms, as Prometheus reads them",
	    answer_metrics },
	{ "GET", "/node/metrics", "sessions of each interface, as CCF's node says them",
	    answer_node_metrics },
	{ "GET", "/connections", "those that are open", answer_rows },
	{ "DELETE", "/connections/", "cut it (with -k); # is written %23", answer_cut },
	{ 0 },
};

/* ---- the rest ---- */

static void
listening(void *arg)
{
	(void)arg;
	if (ready.when == 1)
		ready_say(&ready);
}

static void
listen_failed(void *arg)
{
	(void)arg;
	tool_end(CCF_BIND);
}

static void
leave(void)
{
	tool_control_close();
	acceptors_abandon(&all);
	if (hub_opened)
		hub_close(&hub);
}

/* ---- start ---- */

static void
bind_all(char **operands, int n)
{
	struct inherited in;
	char msg[512];
	int status;

	if (inherit_take(&in, msg, sizeof(msg)) < 0)
		tool_usage("%s", msg);
	if (n == 0 && in.n == 0)
		tool_usage("an ADDRESS is missing: write HOST:PORT, like 127.0.0.1:8080, or :8080 "
			   "for every address");
	for (int i = 0; i < in.n; i++) {
		status = acceptors_inherit(&all, INHERIT_FIRST + i, in.name[i], msg, sizeof(msg));
		if (status)
			tool_die(status, "%s", msg);
	}
	for (int i = 0; i < n; i++) {
		struct addr addr;

		if (addr_parse(&addr, operands[i], ADDR_MAY_NAME | ADDR_MAY_FD, msg, sizeof(msg)) <
		    0)
			tool_usage("%s", msg);
		for (int k = 0; k < in.n; k++)
			if (strcmp(in.name[k], addr.name) == 0)
				tool_usage("%s: two interfaces have that name", addr.name);
		status = acceptors_bind(
		    &all, &addr, tool_family(), msg, sizeof(msg), tool.trace ? tool_trace : NULL);
		if (status)
			tool_die(status, "%s", msg);
	}
}

static void
write_addresses(void)
{
	struct ready_name *list;
	struct acceptor *a;
	size_t n = 0;

	TAILQ_FOREACH(a, &all.list, link)
		n++;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		tool_die(CCF_SYSTEM, "no memory");
	n = 0;
	TAILQ_FOREACH(a, &all.list, link)
		list[n++] = (struct ready_name){ .name = a->name, .local = &a->local };
	ready_addresses(&ready, list, n);
	free(list);
}

static void
check(char **operands, int n, char **command)
{
	if (to && command)
		tool_usage("--to and a COMMAND exclude each other: one sink is enough");
	if (keep_open && (to || command))
		tool_usage("-k is for standard input and output; --to and a COMMAND go on anyway");
	control_may(to || command || keep_open, "give --to, a COMMAND or -k");
	if (hard == -1) /* as many above it as CCF has by default */
		hard = soft + 10;
	if (hard <= soft)
		tool_usage(
		    "--max-open-sessions-hard (%lld) must be above --max-open-sessions-soft (%lld)",
		    (long long)hard, (long long)soft);
	if (ready.when == 1 && ready.fd == -1 && !getenv("NOTIFY_SOCKET"))
		tool_usage("--ready-when needs --ready-fd or NOTIFY_SOCKET");
	tool_id_prefix(id_prefix);
	tool_one_word(operands, n);
	tool_names(operands, n, ADDR_MAY_NAME | ADDR_MAY_FD);
	ready_check(&ready);
}

static void
open_sink(char **command)
{
	struct acceptor_config cfg = { .reactor = tool.reactor,
		.children = &tool.children,
		.argv = command,
		.sink = to	  ? SINK_HUB
			: command ? SINK_COMMAND
				  : SINK_STDIO,
		.hub = &hub,
		.soft = (unsigned)soft,
		.hard = (unsigned)hard,
		.backlog = (int)backlog,
		.id_prefix = id_prefix,
		.stdio = stdio_accepted,
		.listening = listening,
		.failed = listen_failed,
		.idle = idle_now };

	cfg.allow = tool_cidrs("--allow", &allow_text);
	cfg.n_allow = allow_text.n;
	cfg.deny = tool_cidrs("--deny", &deny_text);
	cfg.n_deny = deny_text.n;
	acceptors_init(&all, &cfg);
	tool.leave = leave;
}

static void
open_hub(void)
{
	struct hub_config cfg;
	char msg[512];
	int rc;

	tool_link_config(&cfg, NOTE_PRODUCER, "--to", to);
	cfg.ops = &hub_ops;
	rc = hub_open(&hub, &cfg, msg, sizeof(msg));
	if (rc < 0)
		tool_die(tool_link_status(rc), "%s", msg);
	hub_opened = true;
}

int
main(int argc, char **argv)
{
	int first, n, status;
	char **command;

	tool.drain_timeout = 60000;
	first = tool_begin(&opts, argc, argv);
	command = tool_command(argc - first, argv + first, &n);
	check(argv + first, n, command);
	tool_log_level(to || command || keep_open);
	env_scrub_process();
	tool_reactor();
	if (to) {
		struct hub_config cfg;

		tool_link_config(&cfg, NOTE_PRODUCER, "--to", to);
	}
	open_sink(command);
	bind_all(argv + first, n);
	tool.drain = drain;
	tool.now = end_now;
	tool.status = say_status;
	if (to || command || keep_open)
		tool_stay(); /* who sees our names may signal us */
	if (to)
		open_hub();
	tool_control(routes);
	write_addresses();
	acceptors_start(&all);
	if (ready.when == 0 && tool.exit_status == 0)
		ready_say(&ready);
	status = tool_run();
	stdio_close(status);
	leave();
	reactor_free(tool.reactor);
	return status;
}
