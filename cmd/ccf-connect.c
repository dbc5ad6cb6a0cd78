/* ccf-connect - dials: for standard input and output, for a COMMAND, or for each connection it is
 * handed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/fds.h"
#include "base/log.h"
#include "base/metrics.h"
#include "cmd/connect_udp.h"
#include "cmd/control.h"
#include "cmd/stdio.h"
#include "cmd/tool.h"
#include "cmd/via_tls.h"
#include "flow/dial.h"
#include "flow/joiner.h"
#include "flow/relay.h"
#include "flow/rows.h"
#include "flow/tell.h"
#include "net/socket.h"

#define FDS_KEPT 24 /* standard ones, loop, signals, resolver, a few pipes */

static const char *to, *bind_host;
static struct opt_list from;
static bool zero, reconnect;
static int64_t connect_timeout = -2, retry, retry_delay = 200, retry_max = 10000, user_timeout = -2;
static int64_t idle = -2, half_close = -2, flush = -2; /* -2: not given */

static const struct opt options[] = {
	TOOL_OPTS,
	{ 0, "bind", "HOST", OPT_TEXT, &bind_host, 0, 0, NULL,
	    "connect from this address of ours" },
	{ 0, "connect-timeout", "TIME", OPT_LIMIT, &connect_timeout, 0, 0, NULL,
	    "for each address (10s)" },
	TOOL_CONTROL_OPT,
	{ 0, "drain-timeout", "TIME", OPT_LIMIT, &tool.drain_timeout, 0, 0, NULL,
	    "after TERM, wait so long for connections to end (60s)" },
	{ 0, "flush-timeout", "TIME", OPT_LIMIT, &flush, 0, 0, NULL,
	    "for the other side to acknowledge the last byte (30s)" },
	{ 0, "from", "LINK", OPT_LIST, &from, 0, 0, NULL,
	    "connect once for each connection handed on: PATH, bind:PATH, - or fd:N (repeatable)" },
	{ 0, "half-close-timeout", "TIME", OPT_LIMIT, &half_close, 0, 0, NULL,
	    "silence after one side has ended (as --idle-timeout)" },
	{ 0, "idle-timeout", "TIME", OPT_LIMIT, &idle, 0, 0, NULL,
	    "silence (60s; none on stdin/stdout)" },
	{ 0, "reconnect", NULL, OPT_FLAG, &reconnect, 0, 0, NULL,
	    "on stdin/stdout: connect again when the connection is lost" },
	{ 0, "retry", "N", OPT_NUMBER, &retry, 0, 1 << 30, NULL,
	    "after a failure, begin again up to N times (0)" },
	{ 0, "retry-delay", "TIME", OPT_TIME, &retry_delay, 0, 0, NULL,
	    "before the first retry at most, doubling, with jitter (200ms)" },
	{ 0, "retry-max", "TIME", OPT_TIME, &retry_max, 0, 0, NULL,
	    "before any retry at most (10s)" },
	{ 0, "to", "LINK", OPT_TEXT, &to, 0, 0, NULL,
	    "hand the connection on: PATH, dial:PATH, - or fd:N" },
	{ 0, "user-timeout", "TIME", OPT_LIMIT, &user_timeout, 0, 1 << 30, NULL,
	    "cut a peer that acknowledges nothing for so long (none)" },
	{ 'z', "zero", NULL, OPT_FLAG, &zero, 0, 0, NULL,
	    "only connect, say how long each step took, and end" },
	CONNECT_UDP_OPTS,
	VIA_TLS_OPTS,
	TOOL_LINK_OPTS,
	{ 0 },
};

static const struct opts opts = {
	.tool = "ccf-connect",
	.usage = "ccf-connect [options] ADDRESS [-- COMMAND [ARG...]]\n"
		 "ccf-connect --tls [options] ADDRESS [-- COMMAND [ARG...]]\n"
		 "ccf-connect [options] udp:HOST:PORT [-- COMMAND [ARG...]]\n"
		 "ccf-connect [options] --from LINK ADDRESS",
	.about = "Connect to ADDRESS and give the connection to standard input and output, to a "
		 "COMMAND, or to a link; "
		 "or, with --from, connect once for every connection that is handed on.",
	.table = options,
};

static struct addr target;
static struct endpoint_plan plan;
static struct dialler dialler;
static struct dial dial;
static struct joiner joiner;
static struct hub sources[HUB_LINKS_MAX], sink;
static unsigned sources_opened, sources_open;
static bool sink_opened;
static char **command;

static void
leave(void)
{
	tool_control_close();
	for (unsigned i = 0; i < sources_opened; i++)
		hub_close(&sources[i]);
	if (sink_opened)
		hub_close(&sink);
}

static void
say_note(struct endpoint *ep, const char *text)
{
	(void)ep;
	log_say(LOG_L_INFO, "%s", text);
}

static void
dial_now(void (*done)(struct dial *))
{
	dial_start(&dial, &dialler, &plan, done);
	dial.ep.trace = tool.trace ? tool_trace : NULL;
	dial.ep.note = say_note;
}

static void
dial_failed(void)
{
	char why[512];

	endpoint_why(&dial.ep, why, sizeof(why));
	log_event(LOG_L_ERROR, NULL, "connect-failed", NULL, "%s", why);
	tool_end(endpoint_exit(&dial.ep));
}

static void
describe(int fd, struct env *env)
{
	(void)socket_describe(fd, env);
	if (target.kind == ADDR_TCP || target.kind == ADDR_UDP)
		(void)env_set(
		    env, target.kind == ADDR_TCP ? "TCPREMOTEHOST" : "UDPREMOTEHOST", target.host);
	(void)env_set(env, "CCF_INTERFACE", target.name);
	(void)env_setf(env, "CCF_CONN_ID", "%s#1", target.name);
	(void)env_setf(env, "CCF_ACCEPTED", "%lld", (long long)clock_ms());
}

/* ---- -z ---- */

static void
zero_done(struct dial *d)
{
	char text[ADDR_TEXT_MAX];

	if (d->ep.state != EP_CONNECTED) {
		dial_failed();
		return;
	}
	printf("connected to %s: name %" PRId64 ".%03d ms, connection %" PRId64 ".%03d ms\n",
	    addr_text(&d->ep.peer, text, sizeof(text)), d->ep.took_resolve / 1000,
	    (int)(d->ep.took_resolve % 1000), d->ep.took_connect / 1000,
	    (int)(d->ep.took_connect % 1000));
	tool_end(fflush(stdout) == 0 ? CCF_OK : CCF_STDOUT);
}

/* ---- standard input and output ---- */

static struct relay *joined;
static char rest[RELAY_REST_MAX];
static size_t rest_len;
static int joined_fd = -1;
static int64_t joined_at;
static uint64_t sent, unknown; /* of all connections together */
static unsigned in_a_row;      /* connections that did not last */
static struct timer again_timer;

/* What the peer's kernel has, and what nobody can know about: never sent twice. */
static void
stdio_account(const struct relay_end *end)
{
	int64_t acked = joined_fd == -1 ? 0 : socket_acked(joined_fd);
	uint64_t known = acked < 0 ? 0 : (uint64_t)acked;

	if (known > end->out || (acked < 0 && end->status == CCF_OK))
		known = end->out; /* a Unix socket: who leaves bytes unread resets */
	sent += end->out;
	unknown += end->out - known;
	log_event(LOG_L_WARN, NULL, "disconnected", NULL,
	    "disconnected (%s): %" PRIu64 " bytes acknowledged, %" PRIu64
	    " unknown, %zu kept; connecting again",
	    end->reason, known, end->out - known, rest_len);
}

/* Cut, or closed by the peer while there is more to say.  Who had his say has nothing to go on
 * with, but who never says anything listens on. */
static bool
stdio_goes_on(const struct relay_end *end)
{
	if (!reconnect || (end->status != CCF_CUT && end->status != CCF_OK))
		return false;
	return end->more || (end->status == CCF_CUT && sent + end->out == 0);
}

static void
stdio_again(struct timer *t)
{
	(void)t;
	endpoint_again(&dial.ep);
	dial_restart(&dial);
}

/* A peer that takes a connection and drops it is not asked again at once. */
static void
stdio_lost(const struct relay_end *end)
{
	int64_t now = reactor_now(tool.reactor);

	rest_len = relay_rest(joined, rest, sizeof(rest));
	stdio_account(end);
	in_a_row = now - joined_at < plan.retry_max ? in_a_row + 1 : 1;
	again_timer.fire = stdio_again;
	(void)reactor_timer(
	    tool.reactor, &again_timer, clock_after(now, endpoint_backoff(&plan, in_a_row - 1)));
}

static void
stdio_over(const struct relay_end *end)
{
	stdio_say(end);
	if (end->status == 0 && unknown > 0)
		log_event(LOG_L_ERROR, NULL, "cut", NULL,
		    "%" PRIu64 " bytes may not have arrived: connections were lost with them",
		    unknown);
	tool_end(end->status ? end->status : unknown > 0 ? CCF_CUT : CCF_OK);
}

static void
stdio_done(void *arg, const struct relay_end *end)
{
	bool again = stdio_goes_on(end);

	(void)arg;
	if (again)
		stdio_lost(end);
	fds_close(&joined_fd);
	joined = NULL;
	endpoint_lost(&dial.ep);
	if (!again)
		stdio_over(end);
}

static void
stdio_connected(struct dial *d)
{
	struct stdio_times times = { .idle = idle == -2 ? -1 : idle,
		.half_close = half_close == -2 ? -1 : half_close,
		.flush = flush };
	int fd, rc;

	if (d->ep.state != EP_CONNECTED) {
		if (rest_len > 0)
			log_say(LOG_L_ERROR, "%zu bytes were read and never sent", rest_len);
		dial_failed();
		return;
	}
	fd = endpoint_take_fd(&d->ep);
	joined_at = reactor_now(tool.reactor);
	if (reconnect) /* to ask afterwards what was acknowledged */
		joined_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	rc = stdio_join(fd, &times, reconnect ? RELAY_PEER_GONE : RELAY_PEER_HALF, rest, rest_len,
	    stdio_done, &joined);
	rest_len = 0;
	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot join the connection: %s", strerror(-rc));
}

/* ---- datagrams ---- */

static void
udp_connected(struct dial *d)
{
	if (d->ep.state == EP_CONNECTED)
		connect_udp_start(endpoint_take_fd(&d->ep));
	else
		dial_failed();
}

/* ---- COMMAND ---- */

static void
command_connected(struct dial *d)
{
	extern char **environ;
	struct env env = { 0 };
	char **envp;
	int fd, rc;

	if (d->ep.state != EP_CONNECTED) {
		dial_failed();
		return;
	}
	fd = fcntl(
	    endpoint_take_fd(&d->ep), F_DUPFD_CLOEXEC, 10); /* above 6 and 7, whatever it was */
	describe(fd, &env);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	envp = env_exec(&env, environ);
	if (fd == -1 || !envp || dup2(fd, 6) == -1 || dup2(fd, 7) == -1)
		tool_die(CCF_SYSTEM, "cannot place the connection on 6 and 7: %s", strerror(errno));
	rc = children_become(&tool.found, via_tls.keep, command, envp);
	tool_die(rc == -ENOENT ? CCF_NOT_FOUND : CCF_CANNOT_RUN, "cannot run %s: %s", command[0],
	    strerror(-rc));
}

/* ---- --to ---- */

static struct link_conn handed;
static struct tell handed_tell;
static int handed_fd = -1;

static void
handed_closed(struct link_conn *lc, const char *reason, int status, uint64_t in, uint64_t out)
{
	(void)lc;
	tell_closed(&handed_tell, reason, status, "inner", in, out);
	tool_end(status < 0 ? 0 : status);
}

static void
handed_lost(struct link_conn *lc)
{
	(void)lc;
	tell_closed(&handed_tell, "link-lost", CCF_UNAVAILABLE, "inner", 0, 0);
	tool_end(CCF_UNAVAILABLE);
}

static const struct link_conn_ops handed_ops = { .closed = handed_closed, .lost = handed_lost };

static void
hand_on(struct hub *h)
{
	struct link *l = hub_pick(h);
	struct env env = { 0 };
	int rc;

	if (!l || handed_fd == -1)
		return;
	describe(handed_fd, &env);
	tell_from(&handed_tell, &env);
	handed.ops = &handed_ops;
	socket_reset(handed_fd); /* armed: who dies with it has cut it */
	rc = link_conn(l, &handed, &env, handed_fd);
	env_free(&env);
	if (rc < 0)
		tool_die(
		    CCF_SYSTEM, "--to %s: cannot hand the connection on: %s", to, strerror(-rc));
	if (dial.ep.peer.sa.sa_family == AF_UNIX)
		(void)link_eof(&handed);
	tell_open(&handed_tell, "connected and handed on");
	handed_fd = -1;
}

static void
to_connected(struct dial *d)
{
	if (d->ep.state != EP_CONNECTED) {
		dial_failed();
		return;
	}
	handed_fd = endpoint_take_fd(&d->ep);
	hand_on(&sink);
}

/* No connection is made before somebody is there to have it. */
static void
sink_credit(struct hub *h)
{
	static bool dialled;

	if (!dialled && hub_ready(h)) {
		dialled = true;
		dial_now(to_connected);
	}
	hand_on(h);
}

static void
sink_over(struct hub *h, int status)
{
	(void)h;
	if (handed.ops && !handed.link) /* somebody took it, and it is over */
		return;
	log_say(LOG_L_ERROR, "--to %s: nobody is left to take the connection", to);
	tool_end(status ? status : CCF_UNAVAILABLE);
}

static const struct hub_ops sink_ops = { .credit = sink_credit, .over = sink_over };

static void
to_metrics(struct control_call *call)
{
	static const enum metric which[] = { METRIC_LIVE, METRIC_DIALS, METRIC_DIAL_TIME,
		METRIC_LINES };
	struct text t = { 0 };

	metric_set(METRIC_LIVE, handed.link || handed_fd != -1);
	metrics_print(&t, metrics_here(), which, sizeof(which) / sizeof(which[0]));
	control_metrics(call, &t);
}

static void
to_rows(struct control_call *call)
{
	struct text t = { 0 };
	struct conn_row row;

	if (handed.link) {
		rows_from(&row, &handed_tell, "handed");
		rows_json(&t, &row, 1);
	}
	control_rows(call, &t, NULL);
}

static void
to_cut(struct control_call *call)
{
	control_elsewhere(call, "ask the one that took it from --to, like ccf-tlsterm");
}

static const struct control_route to_routes[] = {
	{ "GET", "/metrics", "counters, gauges and histograms, as Prometheus reads them",
	    to_metrics },
	{ "GET", "/connections", "the one that was handed on", to_rows },
	{ "DELETE", "/connections/", NULL, to_cut },
	{ 0 },
};

/* ---- --from ---- */

static void
from_finish(void)
{
	if (sources_open == 0 && joiner.live == 0)
		tool_end(tool.exit_status);
}

static void
from_idle(void *arg)
{
	(void)arg;
	from_finish();
}

static void
from_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	joiner_conn(&joiner, l, n, fd);
}

static unsigned
from_room(struct hub *h)
{
	(void)h;
	return joiner_room(&joiner);
}

static void
from_over(struct hub *h, int status)
{
	(void)h;
	if (status && tool.exit_status == 0)
		tool.exit_status = status;
	sources_open--;
	from_finish();
}

static const struct hub_ops from_ops = { .conn = from_conn, .room = from_room, .over = from_over };

static void
from_drain(void)
{
	for (size_t i = 0; i < from.n; i++)
		hub_drain(&sources[i]);
}

static void
from_now(void)
{
	joiner_cut_all(&joiner, "drain-timeout", CCF_DEADLINE);
}

static void
from_status(void)
{
	log_event(LOG_L_INFO, NULL, "status", NULL, "%u connections, %u sources open", joiner.live,
	    sources_open);
}

static void
from_metrics(struct control_call *call)
{
	struct text t = { 0 };

	joiner_metrics(&joiner, &t);
	control_metrics(call, &t);
}

static void
from_rows(struct control_call *call)
{
	struct text t = { 0 };

	joiner_rows(&joiner, &t);
	control_rows(call, &t, NULL);
}

static void
from_cut(struct control_call *call)
{
	control_cut(call, joiner_cut(&joiner, call->rest), NULL);
}

static const struct control_route from_routes[] = {
	{ "GET", "/metrics", "counters, gauges and histograms, as Prometheus reads them",
	    from_metrics },
	{ "GET", "/connections", "those that are dialled or joined here", from_rows },
	{ "DELETE", "/connections/", "cut it; # is written %23", from_cut },
	{ 0 },
};

static void
from_open(void)
{
	struct joiner_config cfg = { .reactor = tool.reactor,
		.dialler = &dialler,
		.plan = plan,
		.idle = idle == -2 ? 60000 : idle,
		.flush = flush,
		.fds_spare = FDS_KEPT,
		.trace = tool.trace ? tool_trace : NULL,
		.idle_now = from_idle };
	char msg[512];

	cfg.half_close = half_close == -2 ? cfg.idle : half_close;
	joiner_open(&joiner, &cfg);
	tool.drain = from_drain;
	tool.now = from_now;
	tool.status = from_status;
	tool_stay(); /* who sees our names may signal us */
	tool_control(from_routes);
	for (size_t i = 0; i < from.n; i++) {
		struct hub_config hub;
		int rc;

		tool_link_config(&hub, NOTE_CONSUMER, "--from", from.item[i]);
		hub.modes = NOTE_TAKE | NOTE_GIVE;
		hub.ops = &from_ops;
		sources_open++;
		joiner.hub[joiner.n_hubs++] = &sources[i];
		rc = hub_open(&sources[i], &hub, msg, sizeof(msg));
		if (rc < 0)
			tool_die(tool_link_status(rc), "%s", msg);
		sources_opened++;
	}
}

/* What was handed on is somebody else's to finish; we wait to hear of it. */
static void
to_drain(void)
{
	if (!handed.link)
		tool_end(CCF_OK);
}

static void
to_now(void)
{
}

static void
to_open(void)
{
	struct hub_config cfg;
	char msg[512];
	int rc;

	tool_link_config(&cfg, NOTE_PRODUCER, "--to", to);
	cfg.ops = &sink_ops;
	tool.drain = to_drain;
	tool.now = to_now;
	tool_stay();
	tool_control(to_routes);
	rc = hub_open(&sink, &cfg, msg, sizeof(msg));
	if (rc < 0)
		tool_die(tool_link_status(rc), "%s", msg);
	sink_opened = true;
}

/* ---- start ---- */

static void
check_udp(void)
{
	const struct {
		bool given;
		const char *why;
	} no[] = {
		{ zero, "-z says how long a connection takes: over UDP there is none, and only an "
			"answer shows that somebody is there" },
		{ to, "--to hands a connection on: over UDP there is none" },
		{ tool.control_path, "--control is for a tool that stays running: over UDP this "
				     "one does not" },
		{ from.n, "--from joins connections: over UDP there are none" },
		{ via_tls.on, "--tls is spoken over a connection: over UDP there is none" },
		{ reconnect, "--reconnect is for a lost connection: over UDP there is none" },
		{ retry, "--retry is for a connection that fails: over UDP there is none" },
		{ connect_timeout != -2, "--connect-timeout waits for a connection: over UDP there "
					 "is none, and --answer-timeout waits for answers" },
		{ idle != -2, "--idle-timeout is for a connection: over UDP there is none, and "
			      "--answer-timeout waits for answers" },
		{ half_close != -2, "--half-close-timeout is for a connection: over UDP no side "
				    "can end one" },
		{ flush != -2, "--flush-timeout waits for acknowledgements: over UDP there are "
			       "none" },
		{ user_timeout != -2, "--user-timeout waits for acknowledgements: over UDP there "
				      "are none" },
	};

	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (no[i].given)
			tool_usage("%s", no[i].why);
}

static void
check(char **operands, int n)
{
	char msg[512];

	if (n == 0)
		tool_usage("an ADDRESS is missing: write HOST:PORT, [V6]:PORT or unix:PATH");
	tool_one_word(operands, n);
	if (n > 1)
		tool_usage("%s: one ADDRESS is enough", operands[1]);
	if (addr_parse(&target, operands[0], ADDR_MAY_UDP, msg, sizeof(msg)) < 0)
		tool_usage("%s", msg);
	if (target.kind == ADDR_TCP && target.host[0] == '\0')
		tool_usage("%s: a host to connect to is missing, as in 127.0.0.1%s", operands[0],
		    operands[0]);
	if (connect_udp_check(&target, command))
		check_udp();
	control_may(to || from.n, "give --from or --to");
	if (!!to + !!command + zero > 1)
		tool_usage("--to, -z and a COMMAND exclude each other");
	if (from.n && (to || command || zero))
		tool_usage("--from joins what it is handed with ADDRESS: it goes with no --to, -z "
			   "or COMMAND");
	if (from.n > HUB_LINKS_MAX)
		tool_usage("--from can be given up to %d times", HUB_LINKS_MAX);
	if (reconnect && (from.n || to || command || zero))
		tool_usage("--reconnect is for standard input and output");
	if (via_tls.on && (from.n || to || zero || reconnect))
		tool_usage("--tls is for standard input and output, or a COMMAND: it goes with no "
			   "--from, --to, -z or --reconnect");
	if (retry_max < retry_delay)
		retry_max = retry_delay;
	if (connect_timeout == -2)
		connect_timeout = 10000;
	if (flush == -2)
		flush = 30000;
}

int
main(int argc, char **argv)
{
	int first, n, status;

	tool.drain_timeout = 60000;
	first = tool_begin(&opts, argc, argv);
	command = tool_command(argc - first, argv + first, &n);
	check(argv + first, n);
	if (via_tls_check())
		command = via_tls_argv(command, idle, half_close, flush);
	tool_log_level(from.n > 0 || to);
	env_scrub_process();
	tool_reactor();
	plan = (struct endpoint_plan){ .target = target,
		.bind_host = bind_host,
		.family = tool_family(),
		.connect_timeout = connect_timeout,
		.user_timeout = user_timeout,
		.retries = (unsigned)retry,
		.retry_min = retry_delay,
		.retry_max = retry_max };
	dialler_open(&dialler, tool.reactor);
	tool.leave = leave;
	if (from.n)
		from_open();
	else if (to)
		to_open();
	else
		dial_now(zero			   ? zero_done
			 : command		   ? command_connected
			 : target.kind == ADDR_UDP ? udp_connected
						   : stdio_connected);
	status = tool_run();
	stdio_close(status);
	connect_udp_close();
	leave();
	if (dial.with)
		dial_stop(&dial);
	dialler_close(&dialler);
	reactor_free(tool.reactor);
	return status;
}
