/* ccf-udpecho - answers datagrams: echoes them, or gives each peer a COMMAND. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/metrics.h"
#include "base/text.h"
#include "cmd/control.h"
#include "cmd/ready.h"
#include "cmd/renew.h"
#include "cmd/tool.h"
#include "flow/echo.h"
#include "flow/peer_session.h"
#include "net/inherit.h"
#include "wire/record.h"

#define ADDRESSES (ADDR_MAY_NAME | ADDR_MAY_FD | ADDR_MAY_UDP)
#define NOT_GIVEN (-2)
#define QUEUE_MIN (128 * 1024) /* one datagram of any size fits, as the kernel counts */

static const char *id_prefix;
static int64_t buffer = NOT_GIVEN, hard = NOT_GIVEN, idle = NOT_GIVEN, queue = NOT_GIVEN,
	       amplification = NOT_GIVEN, starts = NOT_GIVEN;
static struct rates_config rate;
static struct opt_list allow_text, deny_text;
static struct ready ready = { .fd = -1 };

static const struct opt options[] = {
	TOOL_OPTS_FAMILY,
	TOOL_OPTS_TRACE("show each datagram"),
	{ 0, "address-file", "FILE", OPT_TEXT, &ready.address_file, 0, 0, NULL,
	    "write the bound addresses there as JSON, by rename" },
	{ 0, "allow", "CIDR", OPT_LIST, &allow_text, 0, 0, NULL,
	    "take datagrams from there only (repeatable)" },
	{ 0, "amplification", "N", OPT_NUMBER, &amplification, 0, 1 << 20, NULL,
	    "bytes to a peer for each of its own until it has shown itself; 0: any (3)" },
	TOOL_CONTROL_OPT,
	{ 0, "deny", "CIDR", OPT_LIST, &deny_text, 0, 0, NULL,
	    "drop what comes from there (repeatable)" },
	{ 0, "drain-timeout", "TIME", OPT_LIMIT, &tool.drain_timeout, 0, 0, NULL,
	    "after TERM, wait so long for COMMANDs to end (60s)" },
	{ 0, "id-prefix", "WORD", OPT_TEXT, &id_prefix, 0, 0, NULL,
	    "put WORD/ before every CCF_CONN_ID" },
	{ 0, "idle-timeout", "TIME", OPT_LIMIT, &idle, 0, 0, NULL,
	    "end the session of a peer that is silent for so long (60s)" },
	{ 0, "max-open-sessions-hard", "N", OPT_NUMBER, &hard, 1, 1 << 24, NULL,
	    "of each interface: above it, drop what new peers send (1010)" },
	{ 0, "max-queue", "SIZE", OPT_SIZE, &queue, QUEUE_MIN, 1 << 30, NULL,
	    "of each peer, waiting for its COMMAND: above it, drop (128k)" },
	{ 0, "rate", "N", OPT_NUMBER, &rate.peer, 1, BUCKET_RATE_MAX, NULL,
	    "datagrams a second taken from a peer (no limit)" },
	{ 0, "rate-all", "N", OPT_NUMBER, &rate.all, 1, BUCKET_RATE_MAX, NULL,
	    "datagrams a second taken in all (no limit)" },
	{ 0, "rate-host", "N", OPT_NUMBER, &rate.host, 1, BUCKET_RATE_MAX, NULL,
	    "the same from all ports of a host; IPv6: of a /64 (no limit)" },
	{ 0, "rate-sessions", "N", OPT_NUMBER, &starts, 0, BUCKET_RATE_MAX, NULL,
	    "sessions begun a second, in all; 0: no limit (1000)" },
	{ 0, "ready-fd", "N", OPT_NUMBER, &ready.fd, 0, 1 << 20, NULL,
	    "write a newline there when bound" },
	{ 0, "receive-buffer", "SIZE", OPT_SIZE, &buffer, 4096, 1 << 30, NULL,
	    "of each interface, as far as the kernel allows (4M)" },
	TOOL_LINK_OPTS,
	{ 0 },
};

static const struct opts opts = {
	.tool = "ccf-udpecho",
	.usage = "ccf-udpecho [options] [NAME=]ADDRESS... [-- COMMAND [ARG...]]",
	.about = "Receive datagrams at each ADDRESS and echo them, from the address that was "
		 "asked; or give each peer a COMMAND, for which a read is a datagram.",
	.table = options,
};

static char **command;
static struct receivers all;
static struct peer_sessions sessions;

/* ---- ends ---- */

static void
idle_now(void *arg)
{
	(void)arg;
	tool_end(tool.exit_status);
}

static void
drain(void)
{
	receivers_stop(&all);
	if (command) {
		peer_sessions_drain(&sessions);
	} else {
		receivers_let_go(&all);
		tool_end(CCF_OK);
	}
}

static void
end_now(void)
{
	if (command)
		peer_sessions_now(&sessions);
}

static void
leave(void)
{
	tool_control_close();
	peer_sessions_abandon(&sessions);
	receivers_close(&all);
}

static void
say_status(void)
{
	char text[ADDR_TEXT_MAX];
	struct receiver *r;

	receivers_ask_lost(&all);
	TAILQ_FOREACH(r, &all.list, link)
		log_event(LOG_L_INFO, NULL, "status", NULL,
		    "%s: at udp:%s, %u sessions, peak %u, hard %u, begun %" PRIu64
		    ", refused %" PRIu64,
		    r->name, addr_text(&r->local, text, sizeof(text)), r->caps.open, r->caps.peak,
		    r->caps.hard, r->caps.accepted, r->caps.refused);
	log_event(LOG_L_INFO, NULL, "status", NULL,
	    "%" PRIu64 " datagrams in, %" PRIu64 " out, %" PRIu64 " dropped",
	    metric_get(metrics_here(), METRIC_DATAGRAMS, "in"),
	    metric_get(metrics_here(), METRIC_DATAGRAMS, "out"),
	    metric_get(metrics_here(), METRIC_DROPS, NULL));
}

static void
trace(void *arg, struct receiver *r, const struct datagram *d, const char *what)
{
	char text[ADDR_TEXT_MAX];
	const struct log_fact facts[] = { { .key = "what", .text = what },
		{ .key = "bytes", .num = (int64_t)d->len }, { 0 } };
	struct log_who who = { .iface = r->name, .peer = addr_text(&d->peer, text, sizeof(text)) };

	(void)arg;
	if (tool.log == 1)
		log_event(LOG_L_INFO, &who, "trace", facts, "%s %zu bytes", what, d->len);
	else
		fprintf(stderr, "trace: %s %s %s %zu bytes\n", r->name, text, what, d->len);
}

/* ---- the control socket ---- */

static void
answer_metrics(struct control_call *call)
{
	struct text t = { 0 };

	receivers_metrics(&all, &t);
	if (command)
		peer_sessions_metrics(&sessions, &t);
	control_metrics(call, &t);
}

static void
answer_node_metrics(struct control_call *call)
{
	struct text t = { 0 };

	if (!command) {
		control_refuse(
		    call, 404, NULL, "an echo has no sessions: they come with a COMMAND");
		return;
	}
	peer_sessions_node_metrics(&sessions, &t);
	control_reply(call, 200, "application/json", &t);
}

static void
answer_rows(struct control_call *call)
{
	struct text t = { 0 };

	if (command)
		peer_sessions_rows(&sessions, &t);
	control_rows(call, &t, NULL);
}

static void
answer_cut(struct control_call *call)
{
	control_cut(call, command && peer_sessions_cut(&sessions, call->rest), NULL);
}

static const struct control_route routes[] = {
	{ "GET", "/metrics", "counters, gauges and histograms, as Prometheus reads them",
	    answer_metrics },
	{ "GET", "/node/metrics", "sessions of each interface, as CCF's node says them",
	    answer_node_metrics },
	{ "GET", "/connections", "the sessions of peers (with a COMMAND)", answer_rows },
	{ "DELETE", "/connections/", "end it; # is written %23", answer_cut },
	{ 0 },
};

/* ---- USR2 ---- */

static int
save(struct text *t)
{
	int rc = receivers_save(&all, t);

	tool_control_save(t);
	return rc == 0 && command ? peer_sessions_save(&sessions, t) : rc;
}

static int
restore(const struct record *line, char *msg, size_t cap)
{
	if (strcmp(line->word, "socket") == 0)
		return receivers_restore(&all, line, msg, cap);
	if (strcmp(line->word, "control") == 0)
		return tool_control_restore(line, msg, cap);
	if (command)
		return peer_sessions_restore(&sessions, line, msg, cap);
	snprintf(msg, cap, "there are sessions, and no COMMAND");
	return CCF_USAGE;
}

static void
let_go(void)
{
	receivers_let_go(&all);
}

static void
renew(void)
{
	static const struct renew_ops ops = { .save = save, .leave = let_go };

	renew_now(&ops);
}

/* ---- start ---- */

static void
need_command(const char *option, int64_t value)
{
	if (value != NOT_GIVEN && !command)
		tool_usage("%s is for the sessions of a COMMAND: an echo has none", option);
}

static void
check(char **operands, int n)
{
	need_command("--amplification", amplification);
	need_command("--idle-timeout", idle);
	need_command("--max-open-sessions-hard", hard);
	need_command("--max-queue", queue);
	need_command("--rate-sessions", starts);
	tool_id_prefix(id_prefix);
	tool_one_word(operands, n);
	tool_names(operands, n, ADDRESSES);
	control_may(true, NULL);
	if (!renew_resumes()) /* it was said, and closed */
		ready_check(&ready);
}

static void
open_all(void)
{
	struct receivers_config cfg = { .reactor = tool.reactor,
		.allow = tool_cidrs("--allow", &allow_text),
		.n_allow = allow_text.n,
		.deny = tool_cidrs("--deny", &deny_text),
		.n_deny = deny_text.n,
		.rate = rate,
		.buffer = buffer == NOT_GIVEN ? 4 << 20 : (size_t)buffer,
		.asked = buffer != NOT_GIVEN,
		.hard = hard == NOT_GIVEN ? 1010 : (unsigned)hard,
		.answers_all = !command,
		.take = command ? peer_sessions_take : echo_take,
		.trace = tool.trace ? trace : NULL,
		.arg = &sessions };
	struct peer_sessions_config with = { .reactor = tool.reactor,
		.children = &tool.children,
		.argv = command,
		.id_prefix = id_prefix,
		.idle = idle == NOT_GIVEN ? 60000 : idle,
		.starts = starts == NOT_GIVEN ? 1000 : starts,
		.queue = queue == NOT_GIVEN ? QUEUE_MIN : (int)queue,
		.amplification = amplification == NOT_GIVEN ? 3
				 : amplification == 0	    ? -1
							    : amplification,
		.receivers = &all,
		.idle_now = idle_now };

	receivers_init(&all, &cfg);
	tool.leave = leave;
	if (command && peer_sessions_open(&sessions, &with) < 0)
		tool_die(CCF_SYSTEM, "no memory");
}

static void
bind_inherited(char **operands, int n, const struct inherited *in)
{
	char msg[512];
	int status;

	for (int i = 0; i < in->n; i++) {
		struct addr addr;

		for (int k = 0; k < n; k++)
			if (addr_parse(&addr, operands[k], ADDRESSES, msg, sizeof(msg)) == 0 &&
			    strcmp(in->name[i], addr.name) == 0)
				tool_usage("%s: two interfaces have that name", addr.name);
		status = receivers_inherit(&all, INHERIT_FIRST + i, in->name[i], msg, sizeof(msg));
		if (status)
			tool_die(status, "%s", msg);
	}
}

static void
bind_all(char **operands, int n)
{
	struct inherited in;
	char msg[512];
	int status;

	if (inherit_take(&in, msg, sizeof(msg)) < 0)
		tool_usage("%s", msg);
	if (n == 0 && in.n == 0)
		tool_usage("an ADDRESS is missing: write HOST:PORT, like 127.0.0.1:7777, or :7777 "
			   "for every address");
	bind_inherited(operands, n, &in);
	for (int i = 0; i < n; i++) {
		struct addr addr;

		(void)addr_parse(&addr, operands[i], ADDRESSES, msg, sizeof(msg));
		status = receivers_bind(&all, &addr, tool_family(), msg, sizeof(msg));
		if (status)
			tool_die(status, "%s", msg);
	}
}

static void
write_addresses(void)
{
	struct ready_name *list;
	struct receiver *r;
	size_t n = 0;

	TAILQ_FOREACH(r, &all.list, link)
		n++;
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		tool_die(CCF_SYSTEM, "no memory");
	n = 0;
	TAILQ_FOREACH(r, &all.list, link)
		list[n++] = (struct ready_name){ .name = r->name, .local = &r->local };
	ready_addresses(&ready, list, n);
	free(list);
}

int
main(int argc, char **argv)
{
	int first, n, status;

	renew_prepare(argv);
	tool.drain_timeout = 60000;
	first = tool_begin(&opts, argc, argv);
	command = tool_command(argc - first, argv + first, &n);
	check(argv + first, n);
	tool_log_level(true);
	env_scrub_process();
	tool_reactor();
	open_all();
	tool.drain = drain;
	tool.now = end_now;
	tool.status = say_status;
	tool.renew = renew;
	tool_stay(); /* who sees our names may signal us */
	if (renew_checks()) {
		renew_read(restore);
		renew_checked();
	}
	if (renew_resumes())
		renew_read(restore);
	else
		bind_all(argv + first, n);
	tool_control(routes);
	receivers_start(&all);
	if (!renew_resumes()) {
		write_addresses();
		ready_say(&ready);
	}
	status = tool_run();
	leave();
	reactor_free(tool.reactor);
	return status;
}
