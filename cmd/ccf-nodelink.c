/* ccf-nodelink - links between nodes: CCF's frames, as lines for people and shells, as bytes for
 * programs. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/metrics.h"
#include "base/text.h"
#include "cmd/control.h"
#include "cmd/nodelink_lines.h"
#include "cmd/nodelink_orders.h"
#include "cmd/nodelink_tap.h"
#include "cmd/ready.h"
#include "cmd/tool.h"
#include "flow/apps.h"
#include "flow/node.h"
#include "flow/pinger.h"

#define FDS_KEPT  32 /* standard ones, loop, signals, resolver, files under way */
#define NOT_GIVEN (-2)

static const char *id_text, *app_path, *bind_host, *commands, *linger_text, *save_dir, *tap_address;
static struct opt_list from, peers;
static bool echo;
static struct ready ready = { .fd = -1 };
static int64_t connect_timeout = 2000, user_timeout = NOT_GIVEN, keepalive = NOT_GIVEN,
	       first_frame = NOT_GIVEN, linger = NOT_GIVEN, ping_timeout = NOT_GIVEN,
	       retry = NOT_GIVEN, retry_delay = 200, retry_max = 10000;
static int64_t max_event = NOT_GIVEN, max_frame = 64 << 20, max_queue = NOT_GIVEN;

static const struct opt options[] = {
	TOOL_OPTS,
	{ 0, "app", "PATH", OPT_TEXT, &app_path, 0, 0, NULL,
	    "give messages to programs at this Unix socket, and take theirs" },
	{ 0, "bind", "HOST", OPT_TEXT, &bind_host, 0, 0, NULL, "dial from this address of ours" },
	{ 0, "client-host", "HOST", OPT_TEXT, &bind_host, 0, 0, NULL, "the same as --bind" },
	{ 0, "commands", "FILE", OPT_TEXT, &commands, 0, 0, NULL,
	    "read commands there: a file, a FIFO or fd:N (standard input)" },
	{ 0, "connect-timeout", "TIME", OPT_LIMIT, &connect_timeout, 0, 0, NULL,
	    "for each address (2s)" },
	TOOL_CONTROL_OPT,
	{ 0, "drain-timeout", "TIME", OPT_LIMIT, &tool.drain_timeout, 0, 0, NULL,
	    "after TERM, wait so long for messages to arrive (60s)" },
	{ 0, "echo", NULL, OPT_FLAG, &echo, 0, 0, NULL, "send each message back to its sender" },
	{ 0, "first-frame-timeout", "TIME", OPT_LIMIT, &first_frame, 0, 0, NULL,
	    "for a connection to say whose it is (10s)" },
	LINES_OPT,
	{ 0, "from", "LINK", OPT_LIST, &from, 0, 0, NULL,
	    "take connections there: PATH, bind:PATH, - or fd:N (repeatable)" },
	{ 0, "id", "ID", OPT_TEXT, &id_text, 0, 0, NULL, "who we are, in every frame we send" },
	{ 0, "keepalive", "TIME", OPT_TIME, &keepalive, 1000, 32767000, NULL,
	    "of silence, until a connection is probed (30s)" },
	{ 0, "linger", "TIME", OPT_TEXT, &linger_text, 0, 0, NULL,
	    "stay so long after the last command (0s; for good with --from or --app)" },
	{ 0, "max-event", "SIZE", OPT_SIZE, &max_event, 0, 16 << 20, NULL,
	    "a longer payload is shown as its size, or --save'd (64k)" },
	{ 0, "max-frame", "SIZE", OPT_SIZE, &max_frame, 16, UINT32_MAX, NULL,
	    "a longer frame ends its connection (64M)" },
	{ 0, "max-queue", "SIZE", OPT_SIZE, &max_queue, 65536, (int64_t)1 << 40, NULL,
	    "of messages that wait to be written to a peer (16M)" },
	{ 0, "peer", "ID=ADDRESS", OPT_LIST, &peers, 0, 0, NULL,
	    "where a node is; dialled on first use (repeatable)" },
	{ 0, "ping-timeout", "TIME", OPT_LIMIT, &ping_timeout, 0, 0, NULL,
	    "for the answer to a ping (3s)" },
	{ 0, "ready-fd", "N", OPT_NUMBER, &ready.fd, 0, 1 << 20, NULL,
	    "write a newline there when all is open" },
	{ 0, "retry", "N", OPT_NUMBER, &retry, 0, 1 << 30, NULL,
	    "keep what did not arrive, dial again up to N times in a row (0)" },
	{ 0, "retry-delay", "TIME", OPT_TIME, &retry_delay, 0, 0, NULL,
	    "before the first retry at most, doubling, with jitter (200ms)" },
	{ 0, "retry-max", "TIME", OPT_TIME, &retry_max, 0, 0, NULL,
	    "before any retry at most (10s)" },
	{ 0, "save", "DIR", OPT_TEXT, &save_dir, 0, 0, NULL,
	    "write payloads above --max-event to files there" },
	{ 0, "tap", "ADDRESS", OPT_TEXT, &tap_address, 0, 0, NULL,
	    "pass connections on to there unchanged, and show their frames" },
	{ 0, "user-timeout", "TIME", OPT_LIMIT, &user_timeout, 0, 1 << 30, NULL,
	    "cut a peer that acknowledges, or reads, nothing for so long (2s)" },
	TOOL_LINK_OPTS,
	{ 0 },
};

static const struct opts opts = {
	.tool = "ccf-nodelink",
	.usage = "ccf-nodelink --id ID [options]\n"
		 "ccf-nodelink --tap ADDRESS --from LINK [options]\n"
		 "ccf-nodelink [options] decode FILE",
	.about = "Exchange messages with other nodes: commands on standard input (associate, send, "
		 "close, ping, links), events on standard output.",
	.table = options,
};

static char id[FRAME_ID_MAX];
static size_t id_len;
static struct node node;
static struct apps apps;
static struct pinger pinger;
static struct dialler dialler;
static struct hub sources[HUB_LINKS_MAX];
static unsigned sources_opened, sources_open;

/* ---- the end ---- */

static enum {
	RUNNING,
	ENDING,	   /* no command comes any more, and nothing else can: until all has arrived */
	LINGERING, /* ... and then for so long */
	DRAINING,
	WRITING, /* the last lines */
} stage;
static bool commands_over;
static struct timer linger_timer;
static struct task check_task;

/* Where others depend on us, what became of single messages is told, and is no failure of ours. */
static bool
stays(void)
{
	return from.n > 0 || app_path;
}

static void
failed(int status)
{
	if (!stays() && tool.exit_status == 0)
		tool.exit_status = status;
}

static void
written(void)
{
	tool_end(tool.exit_status);
}

static void
drain_begin(void)
{
	if (stage >= DRAINING)
		return;
	stage = DRAINING;
	orders_close();
	for (unsigned i = 0; i < sources_opened; i++)
		hub_drain(&sources[i]);
	if (app_path)
		apps_drain(&apps);
	node_drain(&node);
	reactor_later(tool.reactor, &check_task);
}

static void
linger_over(struct timer *t)
{
	(void)t;
	tool_drain(); /* within --drain-timeout, whatever the others do */
}

static void
linger_begin(void)
{
	stage = LINGERING;
	linger_timer.fire = linger_over;
	if (linger > 0)
		(void)reactor_timer(
		    tool.reactor, &linger_timer, clock_after(reactor_now(tool.reactor), linger));
	else
		tool_drain();
}

/* A connection that its peer does not end is none of that: the drain sees to it. */
static bool
all_arrived(void)
{
	struct node_peer *p;

	RB_FOREACH(p, node_peers, &node.peers)
		if (p->out.waiting > 0)
			return false;
	return pinger.n == 0;
}

/* Whether it is time for the next step to the end. */
static void
check_end(struct task *t)
{
	bool last = linger != NOT_GIVEN ? linger >= 0 : sources_open == 0 && !app_path;

	(void)t;
	if (stage == RUNNING && commands_over && last)
		stage = ENDING;
	if (stage == ENDING && all_arrived())
		linger_begin();
	if (stage == DRAINING && sources_open == 0 && node_idle(&node) && apps_idle(&apps)) {
		stage = WRITING;
		lines_finish(written);
	}
}

static void
check_later(void *arg)
{
	(void)arg;
	reactor_later(tool.reactor, &check_task);
}

static void
orders_over(int error)
{
	if (error < 0)
		failed(CCF_SYSTEM);
	commands_over = true;
	check_later(NULL);
}

static void
orders_bad(void)
{
	failed(CCF_USAGE);
}

static void
end_now(void)
{
	node_now(&node, "drain-timeout");
}

static void
leave(void)
{
	tool_control_close();
	apps_close(&apps);
	for (unsigned i = 0; i < sources_opened; i++)
		hub_close(&sources[i]);
	sources_opened = 0;
}

/* ---- messages and events ---- */

static bool
may_come(void *arg, struct node_peer *p)
{
	(void)arg;
	if (app_path ? !apps_ready(&apps) : lines_full())
		return false;
	return !echo || node_room(&node, p->id, p->id_len) != NODE_WAIT;
}

static void
came_ping(const struct node_peer *p, int64_t us)
{
	lines_pong(p->id, p->id_len, us);
	check_later(NULL);
}

/* A long payload that was to lie in a file and does not; the log says why. */
static bool
unkept(const struct message *m)
{
	return (save_dir || echo) && !m->payload && !m->range && m->frame.payload > 0;
}

/* An echo is its sender's bytes or none. */
static void
not_kept(const struct node_peer *p)
{
	static const char loss[] = "not-kept";
	struct node_event e = { .kind = NODE_DROP,
		.id = p->id,
		.id_len = p->id_len,
		.reason = loss,
		.why = "its payload could not be kept until it is sent back",
		.count = 1 };

	failed(CCF_SYSTEM);
	if (!echo)
		return;
	metric_add(METRIC_LOSSES, loss, 1);
	lines_event(&e);
}

/* What nobody waits for an answer about: the others are told as events. */
static void
was_put(enum node_put put)
{
	if (put != NODE_FAILED)
		return;
	lines_error("no memory for a message: it was not sent");
	failed(CCF_SYSTEM);
}

static void
came(void *arg, struct node_peer *p, const struct message *m)
{
	struct piece piece = {
		.bytes = m->payload, .len = m->payload ? m->frame.payload : 0, .range = m->range
	};
	int64_t us;

	(void)arg;
	if (m->frame.type == FRAME_PING && m->payload &&
	    pinger_match(&pinger, p->id, p->id_len, m->payload, m->frame.payload, &us)) {
		came_ping(p, us);
		return;
	}
	if (app_path)
		apps_message(&apps, m);
	else
		lines_message(m);
	if (unkept(m))
		not_kept(p);
	else if (echo)
		was_put(node_send(&node, p->id, p->id_len, m->frame.type, &piece, 1));
}

static int
status_of(const char *reason)
{
	static const struct {
		const char *reason;
		int status;
	} of[] = { { "no-such-name", CCF_RESOLVE }, { "refused", CCF_CONNECT },
		{ "connect-timeout", CCF_DEADLINE }, { "cannot-bind", CCF_BIND },
		{ "link-lost", CCF_CUT }, { "unknown", CCF_CUT }, { "file-shrank", CCF_CUT },
		{ "other", CCF_SYSTEM } };

	for (size_t i = 0; i < sizeof(of) / sizeof(of[0]); i++)
		if (strcmp(of[i].reason, reason) == 0)
			return of[i].status;
	return CCF_UNAVAILABLE;
}

/* A ping may have gone over another connection that there is by now. */
static void
link_went_down(const struct node_event *e)
{
	const struct node_peer *p = node_find(&node, e->id, e->id_len);

	if (e->fate.unknown + e->fate.dropped > 0)
		failed(CCF_CUT);
	if (e->fate.kept == 0 && (!p || node_peer_state(p) != NODE_PEER_UP))
		pinger_fail(&pinger, e->id, e->id_len, "the link went down");
}

static void
happened(void *arg, const struct node_event *e)
{
	(void)arg;
	lines_event(e);
	if (e->kind == NODE_DROP) {
		failed(status_of(e->reason));
		if (strcmp(e->reason, "queue-full") != 0)
			pinger_fail(&pinger, e->id, e->id_len, lines_why(e));
	} else if (e->kind == NODE_DOWN && e->id) {
		link_went_down(e);
	}
}

static void
room_again(void *arg)
{
	(void)arg;
	orders_resume();
	apps_resume(&apps);
	if (echo)
		node_resume(&node);
}

static void
regrant(void)
{
	for (unsigned i = 0; i < sources_opened; i++)
		hub_regrant(&sources[i]);
}

static void
lines_drained(void)
{
	orders_resume();
	node_resume(&node);
	apps_resume(&apps);
	regrant();
}

static void
ping_lost(void *arg, const char *peer, size_t len, const char *why)
{
	(void)arg;
	lines_no_pong(peer, len, why);
	failed(CCF_DEADLINE);
	check_later(NULL);
}

/* ---- programs ---- */

static bool
app_room(void *arg, const char *to, size_t len)
{
	(void)arg;
	return !lines_full() && node_room(&node, to, len) != NODE_WAIT;
}

/* What has no sender gets ours; what has it is passed on as it is. */
static void
app_sends(void *arg, const struct message *m)
{
	size_t head = m->frame.head - m->frame.at;
	struct piece whole[] = { { .bytes = m->raw,
				     .len = head + (m->payload ? (size_t)m->frame.payload : 0) },
		{ .range = m->range } };
	struct piece payload = { .bytes = m->payload,
		.len = m->payload ? (size_t)m->frame.payload : 0,
		.range = m->range };

	(void)arg;
	if (m->frame.from_len > 0)
		was_put(node_pass(&node, m->frame.to, m->frame.to_len, whole, m->range ? 2 : 1));
	else
		was_put(node_send(&node, m->frame.to, m->frame.to_len, m->frame.type, &payload, 1));
}

static void
apps_changed(void *arg)
{
	(void)arg;
	node_resume(&node);
	regrant();
	check_later(NULL);
}

static void
open_apps(void)
{
	struct apps_config cfg = { .reactor = tool.reactor,
		.path = app_path,
		.id = id,
		.id_len = id_len,
		.max_frame = (uint32_t)max_frame,
		.most = (size_t)max_event,
		.room = app_room,
		.send = app_sends,
		.changed = apps_changed };
	char msg[512];
	int rc;

	tool_socket(&cfg.socket_mode, &cfg.socket_group, &cfg.peer_user);
	rc = apps_open(&apps, &cfg, msg, sizeof(msg));
	if (rc < 0)
		tool_die(rc == -ENOMEM ? CCF_SYSTEM : CCF_BIND, "%s", msg);
}

/* ---- sources ---- */

static void
source_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	node_conn_taken(&node, l, n, fd);
}

/* Nobody is let in before a program is there to hear him, or while no more lines are taken: those
 * that are told all the same are then of the connections and peers that there are, a few each. */
static unsigned
source_room(struct hub *h)
{
	(void)h;
	return lines_full() || (app_path && apps.n == 0) ? 0 : node_hub_room(&node);
}

static void
source_over(struct hub *h, int status)
{
	(void)h;
	if (status && tool.exit_status == 0)
		tool.exit_status = status;
	sources_open--;
	check_later(NULL);
}

static const struct hub_ops source_ops = {
	.conn = source_conn, .room = source_room, .over = source_over
};

static void
open_sources(void)
{
	char msg[512];

	for (size_t i = 0; i < from.n; i++) {
		struct hub_config hub;
		int rc;

		tool_link_config(&hub, NOTE_CONSUMER, "--from", from.item[i]);
		hub.modes = NOTE_TAKE;
		hub.ops = &source_ops;
		sources_open++;
		node.hub[node.n_hubs++] = &sources[i];
		rc = hub_open(&sources[i], &hub, msg, sizeof(msg));
		if (rc < 0)
			tool_die(tool_link_status(rc), "%s", msg);
		sources_opened++;
	}
}

/* ---- what is asked about it ---- */

static void
say_status(void)
{
	struct node_peer *p;

	RB_FOREACH(p, node_peers, &node.peers) {
		struct text name = { 0 };

		node_look(p);
		frame_id_text(&name, p->id, p->id_len);
		log_event(LOG_L_INFO, NULL, "status", NULL,
		    "%s: %s, %" PRIu64 " sent: %" PRIu64 " delivered, %" PRIu64 " dropped, %" PRIu64
		    " unknown, %" PRIu64 " waiting; %" PRIu64 " received",
		    name.at, node_peer_state_name(node_peer_state(p)), p->out.taken,
		    p->out.delivered, p->out.dropped, p->out.unknown, p->out.waiting,
		    p->messages_in);
		text_free(&name);
	}
	log_event(LOG_L_INFO, NULL, "status", NULL,
	    "%u nodes, %u connections, %u sources open, %" PRIu64 " messages to nobody known",
	    node.n_peers, node.live, sources_open, node.nobodys);
}

static void
answer_metrics(struct control_call *call)
{
	struct text t = { 0 };

	node_metrics(&node, &t);
	control_metrics(call, &t);
}

static void
answer_rows(struct control_call *call)
{
	struct text t = { 0 };

	node_rows(&node, &t);
	control_rows(call, &t, NULL);
}

static void
answer_cut(struct control_call *call)
{
	control_cut(call, node_cut(&node, call->rest), NULL);
}

static const struct control_route routes[] = {
	{ "GET", "/metrics", "counters, gauges and histograms, as Prometheus reads them",
	    answer_metrics },
	{ "GET", "/connections", "those with other nodes", answer_rows },
	{ "DELETE", "/connections/", "reset it; # is written %23", answer_cut },
	{ 0 },
};

/* ---- start ---- */

static void
check_id(const char *option, const char *text, size_t len, char *to, size_t *ret_len)
{
	ssize_t n = frame_id_parse(to, text, len);

	if (n < 0)
		tool_usage(
		    "%s: \"%.*s\"%s is no id: 1 to %d bytes, of which spaces, '%%', '=', '\"' "
		    "and what is not ASCII are written %%XX",
		    option, len < 80 ? (int)len : 80, text, len < 80 ? "" : "...", FRAME_ID_MAX);
	*ret_len = (size_t)n;
}

static void
add_peer(const char *item, bool only_look)
{
	const char *equals = strchr(item, '=');
	char peer[FRAME_ID_MAX], msg[512];
	struct addr address;
	size_t len;
	int rc;

	if (!equals)
		tool_usage("--peer %s: write ID=ADDRESS, like n1=127.0.0.1:9001", item);
	check_id("--peer", item, (size_t)(equals - item), peer, &len);
	if (addr_parse(&address, equals + 1, 0, msg, sizeof(msg)) < 0)
		tool_usage("--peer: %s", msg);
	if (address.kind == ADDR_TCP && !address.host[0])
		tool_usage("--peer %s: a host to connect to is missing, as in 127.0.0.1%s", item,
		    equals + 1);
	if (len == id_len && memcmp(peer, id, len) == 0)
		tool_usage("--peer %s: that is our own --id", item);
	if (only_look)
		return;
	rc = node_associate(&node, peer, len, &address);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "--peer %s: %s", item,
		    rc == -ENOSPC ? "too many nodes" : strerror(-rc));
}

static bool
takes_stdin(void)
{
	for (size_t i = 0; i < from.n; i++)
		if (strcmp(from.item[i], "-") == 0 || strcmp(from.item[i], "fd:0") == 0)
			return true;
	return false;
}

/* What is for a node's links only, where there is none. */
static void
check_no_node(const char *with)
{
	const struct {
		const char *option;
		bool given;
	} no[] = { { "--id", id_text }, { "--app", app_path }, { "--commands", commands },
		{ "--echo", echo }, { "--peer", peers.n }, { "--save", save_dir },
		{ "--linger", linger_text }, { "--max-event", max_event != NOT_GIVEN },
		{ "--max-queue", max_queue != NOT_GIVEN },
		{ "--ping-timeout", ping_timeout != NOT_GIVEN }, { "--retry", retry != NOT_GIVEN },
		{ "--keepalive", keepalive != NOT_GIVEN },
		{ "--first-frame-timeout", first_frame != NOT_GIVEN },
		{ "--ready-fd", ready.fd != -1 } };

	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		if (no[i].given)
			tool_usage("%s is for links of our own: it does not go with %s",
			    no[i].option, with);
}

static void
check_tap(struct addr *target)
{
	char msg[512];

	check_no_node("--tap");
	if (from.n == 0)
		tool_usage("--tap takes connections from --from: as in ccf-listen --to - :9000 | "
			   "ccf-nodelink --from - --tap %s",
		    tap_address);
	if (addr_parse(target, tap_address, 0, msg, sizeof(msg)) < 0)
		tool_usage("--tap: %s", msg);
	if (target->kind == ADDR_TCP && !target->host[0])
		tool_usage("--tap %s: a host to connect to is missing, as in 127.0.0.1%s",
		    tap_address, tap_address);
}

/* Unlike elsewhere 0s is no time at all, and not for good. */
static void
check_linger(void)
{
	if (strcmp(linger_text, "none") == 0)
		linger = -1;
	else if (parse_time(linger_text, &linger) < 0)
		tool_usage("--linger %s: say none, or an integer and ms, s, m or h, such as 500ms",
		    linger_text);
}

static void
check_commands(void)
{
	bool same = strcmp(commands, "fd:0") == 0 && takes_stdin();

	for (size_t i = 0; i < from.n; i++)
		same |= strncmp(commands, "fd:", 3) == 0 && strcmp(commands, from.item[i]) == 0;
	if (same)
		tool_usage("--commands %s: --from reads that descriptor already", commands);
	if (strcmp(commands, "fd:1") == 0 || strcmp(commands, "fd:2") == 0)
		tool_usage("--commands %s: that is where we write", commands);
}

static void
check_save(void)
{
	struct stat st;
	bool there = stat(save_dir, &st) == 0;

	if (!there && errno != ENOENT && errno != ENOTDIR)
		tool_die(CCF_SYSTEM, "--save %s: %s", save_dir, strerror(errno));
	if (!there || !S_ISDIR(st.st_mode))
		tool_usage("--save %s: no such directory", save_dir);
}

static void
check_node(void)
{
	if (!id_text)
		tool_usage("--id is missing: who we are, as in --id n0");
	check_id("--id", id_text, strlen(id_text), id, &id_len);
	for (size_t i = 0; i < peers.n; i++)
		add_peer(peers.item[i], true);
	if (echo && app_path)
		tool_usage("--echo answers by itself: it does not go with --app");
	if (save_dir && app_path)
		tool_usage("--save writes payloads that are too long for an event: with --app "
			   "programs get them");
	if (save_dir)
		check_save();
	if (commands)
		check_commands();
	if (linger_text)
		check_linger();
	ready_check(&ready);
}

static void
check(char **operands, int n)
{
	if (n > 0)
		tool_usage("%s: there are no operands but decode FILE; where a node is, is said as "
			   "--peer ID=ADDRESS",
		    operands[0]);
	if (from.n > HUB_LINKS_MAX)
		tool_usage("--from can be given up to %d times", HUB_LINKS_MAX);
	if (retry_max < retry_delay)
		retry_max = retry_delay;
}

static struct endpoint_plan
plan_of(int64_t cut_after)
{
	return (struct endpoint_plan){ .bind_host = bind_host,
		.family = tool_family(),
		.connect_timeout = connect_timeout,
		.user_timeout = cut_after,
		.retries = retry == NOT_GIVEN ? 0 : (unsigned)retry,
		.retry_min = retry_delay,
		.retry_max = retry_max };
}

static void
open_node(void)
{
	struct node_config cfg = { .reactor = tool.reactor,
		.dialler = &dialler,
		.id = id,
		.id_len = id_len,
		.user_timeout = user_timeout == NOT_GIVEN ? 2000 : user_timeout,
		.keepalive = keepalive == NOT_GIVEN ? 30000 : keepalive,
		.first_frame = first_frame == NOT_GIVEN ? 10000 : first_frame,
		.max_frame = (uint32_t)max_frame,
		.most = (size_t)max_event,
		.max_queue = max_queue == NOT_GIVEN ? 16 << 20 : (size_t)max_queue,
		.large = save_dir	    ? INBOX_SAVE
			 : echo || app_path ? INBOX_SPOOL
					    : INBOX_PASS,
		.save_dir = save_dir,
		.fds_spare = FDS_KEPT,
		.trace = tool.trace ? tool_trace : NULL,
		.ready = may_come,
		.message = came,
		.event = happened,
		.room = room_again,
		.idle = check_later };

	cfg.plan = plan_of(cfg.user_timeout);
	node_open(&node, &cfg);
	for (size_t i = 0; i < peers.n; i++)
		add_peer(peers.item[i], false);
}

static void
run_node(void)
{
	struct orders_config orders = { .node = &node,
		.pinger = &pinger,
		.silent = echo,
		.bad = orders_bad,
		.over = orders_over };
	int rc;

	check_task.run = check_end;
	if (max_event == NOT_GIVEN)
		max_event = 65536;
	lines_open(lines_drained);
	pinger.timeout = ping_timeout == NOT_GIVEN ? 3000 : ping_timeout;
	pinger.lost = ping_lost;
	rc = pinger_open(&pinger, tool.reactor);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "no random bytes: %s", strerror(-rc));
	dialler_open(&dialler, tool.reactor);
	open_node();
	tool.drain = drain_begin;
	tool.now = end_now;
	tool.status = say_status;
	tool_stay(); /* who sees our names may signal us */
	tool_control(routes);
	if (app_path)
		open_apps();
	open_sources();
	if (commands || !takes_stdin())
		orders_open(&orders, commands);
	else
		orders_over(0);
	ready_say(&ready);
}

static int
finish(int status)
{
	orders_close();
	leave();
	pinger_close(&pinger);
	node_close(&node);
	nodelink_tap_close();
	lines_close();
	if (dialler.reactor)
		dialler_close(&dialler);
	reactor_free(tool.reactor);
	return status;
}

int
main(int argc, char **argv)
{
	struct addr target;
	int first;

	tool.drain_timeout = 60000;
	first = tool_begin(&opts, argc, argv);
	if (argc - first > 0 && strcmp(argv[first], "decode") == 0) {
		check_no_node("decode");
		if (argc - first != 2)
			tool_usage("decode takes one FILE, a capture of one direction (- is "
				   "standard input)");
		return nodelink_decode(argv[first + 1], (uint32_t)max_frame);
	}
	check(argv + first, argc - first);
	if (tap_address)
		check_tap(&target);
	else
		check_node();
	control_may(true, NULL);
	tool_log_level(stays());
	env_scrub_process();
	tool_reactor();
	tool.leave = leave;
	if (tap_address) {
		struct endpoint_plan plan = plan_of(user_timeout == NOT_GIVEN ? -1 : user_timeout);

		plan.target = target;
		nodelink_tap(&plan, &from, (uint32_t)max_frame);
	} else {
		run_node();
	}
	return finish(tool_run());
}
