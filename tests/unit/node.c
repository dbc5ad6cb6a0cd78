/* (who runs this makes no difference) */
/* Nodes on loopback: two of them in this process, or one and a peer written by hand.  Nothing here
 * waits for a time: each case turns the loop until what it waits for has happened. */
#include "flow/node.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "check.h"
#include "flow/node_parts.h"
#include "flow/range.h"
#include "net/handoff.h"

#define PATIENCE_MS 10000
#define TYPE	    7
#define LARGE	    400000

struct side {
	struct node node;
	const char *id;
	int listener;
	struct watch watch;
	char address[64];
	bool shy; /* accepts only now and then */
	bool deaf;
	unsigned got, wrong; /* messages; those out of turn */
	size_t bytes;
	char last[64], from[64];
	unsigned ups, downs, drops, rooms, idles;
	uint64_t dropped, unknown, told_dropped;
	char reason[64], loss[64], why[256];
	struct outbox_fate fate;
};

static struct reactor *loop;
static struct dialler dialler;
static struct side a, b;
static int fds_before;

/* ---- what a node tells ---- */

static bool
side_ready(void *arg, struct node_peer *p)
{
	struct side *s = arg;

	(void)p;
	return !s->deaf;
}

/* A payload of four bytes is the number of its message. */
static void
side_message(void *arg, struct node_peer *p, const struct message *m)
{
	struct side *s = arg;
	uint32_t n;

	if (m->payload && m->frame.payload == sizeof(n)) {
		memcpy(&n, m->payload, sizeof(n));
		s->wrong += n != s->got;
	}
	s->got++;
	s->bytes += m->frame.payload;
	snprintf(s->from, sizeof(s->from), "%s", p->id);
	snprintf(s->last, sizeof(s->last), "%.*s", m->payload ? (int)m->frame.payload : 0,
	    m->payload ? m->payload : "");
}

static void
side_event(void *arg, const struct node_event *e)
{
	struct side *s = arg;

	if (e->kind == NODE_UP)
		s->ups++;
	if (e->kind == NODE_DROP) {
		s->drops++;
		s->told_dropped += e->count;
		snprintf(s->loss, sizeof(s->loss), "%s", e->reason);
	}
	if (e->kind == NODE_DOWN) {
		s->downs++;
		s->fate = e->fate;
		s->told_dropped += e->fate.dropped;
		snprintf(s->reason, sizeof(s->reason), "%s", e->reason);
	}
	snprintf(s->why, sizeof(s->why), "%s", e->why ? e->why : "");
}

static void
side_room(void *arg)
{
	((struct side *)arg)->rooms++;
}

static void
side_idle(void *arg)
{
	((struct side *)arg)->idles++;
}

/* ---- the world ---- */

static void
turns(int n)
{
	while (n-- > 0)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

#define UNTIL(x)                                                                                   \
	do {                                                                                       \
		int64_t until_end = clock_ms() + PATIENCE_MS;                                      \
		while (!(x) && clock_ms() < until_end)                                             \
			reactor_turn(loop, 20);                                                    \
		CHECK(x);                                                                          \
	} while (0)

static int
count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int
listener_new(char *address, size_t cap)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&in, len) == 0 && listen(fd, 64) == 0);
	CHECK_INT(getsockname(fd, (struct sockaddr *)&in, &len), 0);
	snprintf(address, cap, "127.0.0.1:%u", ntohs(in.sin_port));
	return fd;
}

static void
side_accept(struct watch *w, uint32_t got)
{
	struct side *s = (struct side *)((char *)w - offsetof(struct side, watch));
	int fd;

	(void)got;
	if (s->shy && random() % 4)
		return;
	fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0)
		CHECK(node_conn_new(&s->node, fd, false) != NULL);
}

static struct node_config
config(const char *id)
{
	return (struct node_config){ .reactor = loop,
		.dialler = &dialler,
		.id = id,
		.id_len = strlen(id),
		.plan = { .connect_timeout = 2000, .user_timeout = -1, .retry_max = 5 },
		.user_timeout = 2000,
		.keepalive = 30000,
		.first_frame = 10000,
		.max_frame = 1 << 20,
		.most = 1 << 20,
		.max_queue = 1 << 20,
		.ready = side_ready,
		.message = side_message,
		.event = side_event,
		.room = side_room,
		.idle = side_idle };
}

static void
side_open_with(struct side *s, struct node_config cfg)
{
	*s = (struct side){ .id = cfg.id };
	cfg.arg = s;
	node_open(&s->node, &cfg);
	s->listener = listener_new(s->address, sizeof(s->address));
	reactor_watch(loop, &s->watch, s->listener, side_accept);
	reactor_want(loop, &s->watch, WATCH_READ);
}

static void
side_open(struct side *s, const char *id)
{
	side_open_with(s, config(id));
}

static void
side_close(struct side *s)
{
	reactor_forget(loop, &s->watch);
	close(s->listener);
	node_close(&s->node);
	node_close(&s->node);
}

static void
world(void)
{
	static struct metrics figures;

	figures = (struct metrics){ 0 };
	metrics_use(&figures);
	log_open("node", false);
	log_set_level(LOG_L_ERROR);
	fds_before = count_fds();
	CHECK_INT(reactor_new(&loop), 0);
	dialler_open(&dialler, loop);
}

static void
world_ends(void)
{
	turns(1);
	dialler_close(&dialler);
	reactor_free(loop);
	CHECK_INT(count_fds(), fds_before);
}

/* ---- what is done to it ---- */

static void
knows(struct side *s, const char *id, const char *address)
{
	struct addr addr;
	char msg[256];

	CHECK_INT(addr_parse(&addr, address, 0, msg, sizeof(msg)), 0);
	CHECK_INT(node_associate(&s->node, id, strlen(id), &addr), 0);
}

static int
say(struct side *s, const char *to, const void *bytes, size_t len)
{
	struct piece piece = { .bytes = bytes, .len = len };

	return (int)node_send(&s->node, to, strlen(to), TYPE, &piece, 1);
}

static int
text(struct side *s, const char *to, const char *what)
{
	return say(s, to, what, strlen(what));
}

static int
number(struct side *s, const char *to, uint32_t n)
{
	return say(s, to, &n, sizeof(n));
}

static struct node_peer *
peer(struct side *s, const char *id)
{
	struct node_peer *p = node_find(&s->node, id, strlen(id));

	if (p)
		node_look(p);
	return p;
}

static unsigned
conns(struct side *s, const char *id)
{
	struct node_peer *p = peer(s, id);
	struct node_conn *c;
	unsigned n = 0;

	if (p)
		TAILQ_FOREACH(c, &p->conns, link)
			n++;
	return n;
}

static bool
balanced(struct side *s, const char *id, uint64_t sent)
{
	const struct outbox *o = &peer(s, id)->out;

	return o->taken == sent && o->taken == o->delivered + o->dropped + o->unknown + o->waiting;
}

static uint64_t
metric(enum metric id, const char *word)
{
	return metric_get(metrics_here(), id, word);
}

/* A peer written by hand. */
static int
raw_dial(const struct side *s)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	in.sin_port = htons((uint16_t)atoi(strchr(s->address, ':') + 1));
	CHECK_INT(connect(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	return fd;
}

static int
raw_accept(int listener)
{
	int fd = -1;

	UNTIL(fd >= 0 || (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0);
	return fd;
}

static void
raw_say(int fd, const char *from, const char *what)
{
	char head[FRAME_HEAD_MAX];
	size_t len = frame_write_head(head, TYPE, from, strlen(from), strlen(what));

	CHECK_INT(send(fd, head, len, MSG_NOSIGNAL), (long long)len);
	CHECK_INT(send(fd, what, strlen(what), MSG_NOSIGNAL), (long long)strlen(what));
}

static size_t
raw_read(int fd, char *to, size_t len)
{
	int64_t end = clock_ms() + PATIENCE_MS;
	size_t n = 0;

	while (n < len && clock_ms() < end) {
		ssize_t some = recv(fd, to + n, len - n, MSG_DONTWAIT);

		if (some > 0)
			n += (size_t)some;
		else if (some == 0 || errno != EAGAIN)
			break;
		else
			reactor_turn(loop, 1);
	}
	return n;
}

/* The payload of the next frame; "" at the end. */
static const char *
raw_hear(int fd)
{
	static char buf[1 << 21];
	struct frame f;
	uint32_t n;

	if (raw_read(fd, buf, 4) != 4)
		return "";
	memcpy(&n, buf, 4);
	if (raw_read(fd, buf + 4, n) != n || frame_parse(&f, buf, n + 4, UINT32_MAX, false) != 1)
		return "?";
	buf[n + 4] = '\0';
	return buf + f.head;
}

static bool
raw_ended(int fd)
{
	char byte;

	for (int64_t end = clock_ms() + PATIENCE_MS; clock_ms() < end; reactor_turn(loop, 1)) {
		ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

		if (n == 0)
			return true;
		if (n > 0 || errno != EAGAIN)
			return false;
	}
	return false;
}

static void
raw_reset(int fd)
{
	struct linger now = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* Its kernel takes so little that it acknowledges no message that it has not read. */
static int
listener_small(char *address, size_t cap)
{
	int fd = listener_new(address, cap), small = 32768;

	CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	return fd;
}

/* An address where nobody listens. */
static void
nowhere(char *address, size_t cap)
{
	close(listener_new(address, cap));
}

static void
two(const char *id_a, const char *id_b)
{
	world();
	side_open(&a, id_a);
	side_open(&b, id_b);
}

static void
two_end(void)
{
	side_close(&a);
	side_close(&b);
	world_ends();
}

static void
one_with(struct node_config cfg)
{
	side_open_with(&a, cfg);
}

static void
one(const char *id)
{
	world();
	one_with(config(id));
}

static void
one_ends(void)
{
	side_close(&a);
	world_ends();
}

/* ---- peers and messages ---- */

CASE(the_first_message_dials_and_all_go_over_one_connection_in_order)
{
	two("n0", "n1");
	knows(&a, "n1", b.address);
	CHECK_INT(a.node.live, 0);
	CHECK_INT(node_peer_state(peer(&a, "n1")), NODE_PEER_DOWN);
	for (uint32_t i = 0; i < 1000; i++)
		CHECK_INT(number(&a, "n1", i), NODE_TAKEN);
	CHECK_INT(node_peer_state(peer(&a, "n1")), NODE_PEER_DIALLING);
	UNTIL(b.got == 1000);
	CHECK_STR(b.from, "n0");
	for (uint32_t i = 0; i < 1000; i++)
		CHECK_INT(number(&b, "n0", i), NODE_TAKEN);
	UNTIL(a.got == 1000 && node_idle(&a.node) && node_idle(&b.node));
	CHECK_INT(a.wrong + b.wrong, 0);
	CHECK_INT(a.node.live, 1);
	CHECK_INT(b.node.live, 1);
	CHECK_INT(a.ups, 1);
	CHECK_INT(b.ups, 1);
	CHECK_INT(node_peer_state(peer(&b, "n0")), NODE_PEER_UP);
	CHECK(balanced(&a, "n1", 1000) && peer(&a, "n1")->out.delivered == 1000);
	CHECK(peer(&b, "n0")->messages_in == 1000 && a.idles > 0);
	two_end();
}

CASE(an_address_that_is_said_again_is_dialled_in_place_of_the_old)
{
	char dead[64];

	two("n0", "n1");
	nowhere(dead, sizeof(dead));
	knows(&a, "n1", dead);
	knows(&a, "n1", b.address);
	CHECK_INT(text(&a, "n1", "one"), NODE_TAKEN);
	UNTIL(b.got == 1);
	knows(&a, "n1", dead); /* a connection that is there stays */
	CHECK_INT(text(&a, "n1", "two"), NODE_TAKEN);
	UNTIL(b.got == 2);
	CHECK_INT(b.node.peak, 1);
	CHECK_INT(a.node.n_peers, 1);
	two_end();
}

CASE(a_new_address_is_dialled_at_once_when_the_old_is_being_tried)
{
	struct node_config cfg;
	char dead[64];

	world();
	cfg = config("n0");
	cfg.plan.retries = 1000;
	cfg.plan.retry_min = cfg.plan.retry_max = 3600000;
	one_with(cfg);
	side_open(&b, "n1");
	nowhere(dead, sizeof(dead));
	knows(&a, "n1", dead);
	CHECK_INT(text(&a, "n1", "hello"), NODE_TAKEN);
	UNTIL(node_peer_state(peer(&a, "n1")) == NODE_PEER_WAITING);
	CHECK(!node_idle(&a.node));
	knows(&a, "n1", b.address);
	UNTIL(b.got == 1);
	CHECK_STR(b.last, "hello");
	two_end();
}

CASE(our_own_id_is_no_peer_and_there_is_a_most)
{
	struct addr addr;
	char id[16], msg[64];

	one("n0");
	CHECK_INT(addr_parse(&addr, "127.0.0.1:1", 0, msg, sizeof(msg)), 0);
	CHECK_INT(node_associate(&a.node, "n0", 2, &addr), -EINVAL);
	for (int i = 0; i < NODE_PEERS; i++) {
		snprintf(id, sizeof(id), "p%d", i);
		CHECK_INT(node_associate(&a.node, id, strlen(id), &addr), 0);
	}
	CHECK_INT(node_associate(&a.node, "more", 4, &addr), -ENOSPC);
	CHECK_INT(node_associate(&a.node, "p7", 2, &addr), 0);
	CHECK_INT(text(&a, "n0", "to ourselves"), NODE_DROPPED);
	one_ends();
}

CASE(messages_for_nobody_known_are_dropped_and_told_once_a_turn)
{
	one("n0");
	for (int i = 0; i < 5000; i++)
		CHECK_INT(text(&a, "who", "x"), NODE_DROPPED);
	for (int i = 0; i < 300; i++) {
		char id[16];

		snprintf(id, sizeof(id), "who%d", i);
		CHECK_INT(text(&a, id, "x"), NODE_DROPPED);
	}
	CHECK_INT(node_room(&a.node, "who", 3), NODE_DROPPED);
	CHECK_INT(node_end(&a.node, "who", 3), -ENOENT);
	turns(2);
	CHECK_INT(a.drops, 301);
	CHECK_INT(a.told_dropped, 5300);
	CHECK_STR(a.loss, "unknown-peer");
	CHECK_INT(a.node.nobodys, 5300);
	CHECK_INT(metric(METRIC_LOSSES, "unknown-peer"), 5300);
	CHECK(node_find(&a.node, "who", 3) == NULL && node_idle(&a.node));
	one_ends();
}

CASE(pieces_become_one_message_and_empty_ones_nothing)
{
	struct piece piece[] = { { .bytes = "he", .len = 2 }, { 0 }, { .bytes = "", .len = 0 },
		{ .bytes = "llo", .len = 3 } };
	char frame[FRAME_HEAD_MAX + 5];
	size_t head;

	two("n0", "n1");
	knows(&a, "n1", b.address);
	CHECK_INT(node_send(&a.node, "n1", 2, TYPE, piece, 4), NODE_TAKEN);
	UNTIL(b.got == 1);
	CHECK_STR(b.last, "hello");
	CHECK_INT(node_send(&a.node, "n1", 2, TYPE, piece + 1, 2), NODE_TAKEN);
	UNTIL(b.got == 2);
	CHECK_STR(b.last, "");
	head = frame_write_head(frame, TYPE, "n0", 2, 5);
	memcpy(frame + head, "whole", 5);
	piece[0] = (struct piece){ .bytes = frame, .len = head + 5 };
	CHECK_INT(node_pass(&a.node, "n1", 2, piece, 2), NODE_TAKEN);
	UNTIL(b.got == 3);
	CHECK_STR(b.last, "whole");
	two_end();
}

CASE(a_stranger_is_known_while_its_connection_is_there)
{
	int fd;

	one("n0");
	fd = raw_dial(&a);
	UNTIL(a.node.live == 1);
	CHECK(TAILQ_FIRST(&a.node.strangers) != NULL);
	raw_say(fd, "n9", "hello");
	UNTIL(a.got == 1);
	CHECK_STR(a.from, "n9");
	CHECK_INT(text(&a, "n9", "back"), NODE_TAKEN);
	CHECK_STR(raw_hear(fd), "back");
	CHECK(!peer(&a, "n9")->said);
	close(fd);
	UNTIL(a.downs == 1 && !node_find(&a.node, "n9", 2));
	CHECK_STR(a.reason, "done");
	CHECK_INT(a.fate.delivered, 1);
	CHECK_INT(text(&a, "n9", "gone"), NODE_DROPPED);
	CHECK_INT(a.node.n_peers, 0);
	one_ends();
}

/* ---- close ---- */

CASE(close_lets_earlier_messages_arrive_and_a_later_one_dials_anew)
{
	two("n0", "n1");
	knows(&a, "n1", b.address);
	for (uint32_t i = 0; i < 300; i++)
		CHECK_INT(number(&a, "n1", i), NODE_TAKEN);
	CHECK_INT(node_end(&a.node, "n1", 2), 0);
	for (uint32_t i = 300; i < 600; i++)
		CHECK_INT(number(&a, "n1", i), NODE_TAKEN);
	CHECK_INT(node_end(&a.node, "n1", 2), 0);
	CHECK_INT(node_end(&a.node, "n1", 2), 0);
	UNTIL(b.got == 600 && node_idle(&a.node) && a.node.live == 0);
	CHECK_INT(b.wrong, 0);
	CHECK_INT(a.ups, 2);
	CHECK_INT(a.downs, 2);
	CHECK_STR(a.reason, "closed");
	CHECK_INT(a.told_dropped, 0);
	CHECK(balanced(&a, "n1", 600) && peer(&a, "n1")->out.delivered == 600);
	CHECK_INT(node_end(&a.node, "n1", 2), 0); /* nothing is there to be closed ... */
	CHECK_INT(number(&a, "n1", 600), NODE_TAKEN);
	UNTIL(b.got == 601);
	UNTIL(node_idle(&a.node));
	CHECK_INT(conns(&a, "n1"), 1); /* ... nor later */
	CHECK_INT(node_end(&a.node, "n1", 2), 0);
	UNTIL(a.node.live == 0 && b.node.live == 0);
	two_end();
}

CASE(what_the_peer_says_after_close_is_still_delivered)
{
	char address[64];
	int listener, fd;

	one("n0");
	listener = listener_new(address, sizeof(address));
	knows(&a, "n1", address);
	CHECK_INT(text(&a, "n1", "last"), NODE_TAKEN);
	CHECK_INT(node_end(&a.node, "n1", 2), 0);
	fd = raw_accept(listener);
	CHECK_STR(raw_hear(fd), "last");
	CHECK(raw_ended(fd));
	CHECK(!node_idle(&a.node));
	raw_say(fd, "n1", "late");
	close(fd);
	UNTIL(a.node.live == 0);
	CHECK_INT(a.got, 1);
	CHECK_STR(a.last, "late");
	close(listener);
	one_ends();
}

/* ---- connections from a source ---- */

static struct hub hub;

static void
source_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	node_conn_taken(&a.node, l, n, fd);
}

static unsigned
source_room(struct hub *h)
{
	(void)h;
	return node_hub_room(&a.node);
}

static void
source_nothing(struct hub *h)
{
	(void)h;
}

static void
source_gone(struct hub *h, const struct name_end *end)
{
	(void)h;
	(void)end;
}

static void
source_over(struct hub *h, int status)
{
	(void)h;
	(void)status;
}

static void
source_greeted(struct hub *h, unsigned links)
{
	(void)h;
	(void)links;
}

static void
source_say(int wire, const struct note *n, const struct env *env, int fd)
{
	char packet[1024];
	ssize_t len = note_print(n, env, packet, sizeof(packet));
	struct handoff_out out = { .bytes = packet, .len = (size_t)len, .fd = fd };

	CHECK(len > 0 && handoff_send(wire, &out, 1) == 1);
}

/* The other side of a link to a. */
static int
source_open(void)
{
	static const struct hub_keeper keeper = { .greeted = source_greeted,
		.gone = source_gone,
		.stop = source_nothing,
		.close = source_nothing };
	static const struct hub_ops ops = {
		.conn = source_conn, .room = source_room, .over = source_over
	};
	struct hub_config cfg = { .reactor = loop,
		.tool = "node",
		.option = "--from",
		.spec = "-",
		.role = NOTE_CONSUMER,
		.modes = NOTE_TAKE,
		.peer_user = (uid_t)-1,
		.ops = &ops };
	struct note hello = { .verb = NOTE_HELLO,
		.version = 1,
		.role = NOTE_PRODUCER,
		.modes = NOTE_TAKE,
		.tool = "test" };
	int fd[2];

	hub_open_given(&hub, &cfg, &keeper, NULL);
	a.node.hub[a.node.n_hubs++] = &hub;
	CHECK_INT(handoff_pair(fd), 0);
	CHECK_INT(hub_take(&hub, fd[0], ""), 0);
	source_say(fd[1], &hello, NULL, -1);
	turns(3);
	return fd[1];
}

/* What the node says about a connection that was its. */
static struct note
source_hears_closed(int wire)
{
	static char bytes[HANDOFF_MAX];
	struct handoff_in in = { .bytes = bytes, .fd = -1 };
	struct note n = { 0 };

	UNTIL(n.verb == NOTE_CLOSED ||
	      (handoff_recv(wire, &in, 1) == 1 && note_parse(&n, bytes, (size_t)in.len) == 0 &&
		  n.verb == NOTE_CLOSED));
	return n;
}

CASE(a_connection_from_a_source_keeps_its_name_and_its_end_is_told)
{
	struct note conn = { .verb = NOTE_CONN, .id = 1 }, closed;
	struct env env = { 0 };
	struct text t = { 0 };
	int wire, fd;

	one("n0");
	wire = source_open();
	CHECK_INT(env_set(&env, "CCF_CONN_ID", "node#7"), 0);
	CHECK_INT(env_set(&env, "CCF_INTERFACE", "node"), 0);
	CHECK_INT(env_set(&env, "TCPREMOTEIP", "192.0.2.1"), 0);
	CHECK_INT(env_set(&env, "TCPREMOTEPORT", "99"), 0);
	reactor_want(loop, &a.watch, 0); /* its socket is accepted here */
	fd = raw_dial(&a);
	source_say(wire, &conn, &env, raw_accept(a.listener));
	UNTIL(a.node.live == 1);
	raw_say(fd, "n1", "hello");
	UNTIL(a.got == 1);
	node_rows(&a.node, &t);
	CHECK(strstr(t.at, "\"id\":\"node#7\"") && strstr(t.at, "192.0.2.1:99"));
	CHECK_INT(metric(METRIC_TAKEN, NULL), 1);
	text_free(&t);
	close(fd);
	closed = source_hears_closed(wire);
	CHECK_STR(closed.reason, "done");
	CHECK_INT(closed.in, 27);
	CHECK_INT(a.node.live, 0);
	node_drain(&a.node); /* one that was on its way is let go again */
	fd = raw_dial(&a);
	conn.id = 2;
	source_say(wire, &conn, &env, raw_accept(a.listener));
	CHECK(raw_ended(fd));
	close(fd);
	closed = source_hears_closed(wire);
	CHECK_INT(closed.id, 2);
	close(wire);
	env_free(&env);
	a.node.n_hubs = 0;
	hub_close(&hub);
	one_ends();
}

/* ---- failures ---- */

CASE(a_refused_dial_drops_what_waits_and_the_next_message_dials_again)
{
	char dead[64];

	two("n0", "n1");
	nowhere(dead, sizeof(dead));
	knows(&a, "n1", dead);
	for (int i = 0; i < 100; i++)
		CHECK_INT(text(&a, "n1", "lost"), NODE_TAKEN);
	UNTIL(a.drops == 1);
	CHECK_STR(a.loss, "refused");
	CHECK(strstr(a.why, "refused") != NULL);
	CHECK_INT(a.told_dropped, 100);
	CHECK(balanced(&a, "n1", 100) && peer(&a, "n1")->out.dropped == 100 && node_idle(&a.node));
	CHECK_INT(text(&a, "n1", "lost"), NODE_TAKEN);
	UNTIL(a.drops == 2);
	CHECK_INT(metric(METRIC_DIALS, "failed"), 2);
	CHECK_INT(metric(METRIC_LOSSES, "refused"), 101);
	knows(&a, "n1", b.address);
	CHECK_INT(text(&a, "n1", "found"), NODE_TAKEN);
	UNTIL(b.got == 1);
	CHECK_STR(b.last, "found");
	two_end();
}

CASE(a_name_that_does_not_resolve_and_a_dial_without_an_answer_say_so)
{
	struct node_config cfg;

	world();
	cfg = config("n0");
	cfg.plan.connect_timeout = 20;
	one_with(cfg);
	knows(&a, "n1", "nowhere.invalid:1");
	CHECK_INT(text(&a, "n1", "x"), NODE_TAKEN);
	UNTIL(a.drops == 1);
	CHECK_STR(a.loss, "no-such-name");
	{ /* a backlog that is full answers nothing */
		char address[64];
		int full = listener_new(address, sizeof(address)), fd[4];

		listen(full, 0);
		for (int i = 0; i < 4; i++) {
			struct sockaddr_in in = { .sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				.sin_port = htons((uint16_t)atoi(strchr(address, ':') + 1)) };

			fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
			(void)connect(fd[i], (struct sockaddr *)&in, sizeof(in));
		}
		knows(&a, "n2", address);
		CHECK_INT(text(&a, "n2", "x"), NODE_TAKEN);
		UNTIL(a.drops == 2);
		CHECK_STR(a.loss, "connect-timeout");
		for (int i = 0; i < 4; i++)
			close(fd[i]);
		close(full);
	}
	one_ends();
}

CASE(a_break_without_retries_leaves_unknown_and_dropped_that_add_up)
{
	static char large[LARGE];
	char address[64], byte;
	int listener, fd;

	one("n0");
	a.node.cfg.max_queue = 1 << 24;
	listener = listener_small(address, sizeof(address));
	knows(&a, "n1", address);
	for (int i = 0; i < 30; i++)
		CHECK_INT(say(&a, "n1", large, sizeof(large)), NODE_TAKEN);
	fd = raw_accept(listener);
	CHECK_INT(raw_read(fd, &byte, 1), 1);
	turns(3);
	raw_reset(fd);
	UNTIL(a.downs == 1);
	CHECK_STR(a.reason, "reset");
	CHECK(a.fate.dropped > 0 && a.fate.kept == 0);
	CHECK(balanced(&a, "n1", peer(&a, "n1")->out.taken));
	CHECK_INT(peer(&a, "n1")->out.waiting, 0);
	CHECK_INT(peer(&a, "n1")->out.dropped, a.fate.dropped);
	CHECK_INT(peer(&a, "n1")->out.unknown, a.fate.unknown);
	CHECK_INT(metric(METRIC_LOSSES, "link-lost"), a.fate.dropped);
	CHECK_INT(metric(METRIC_LOSSES, "unknown"), a.fate.unknown);
	UNTIL(node_idle(&a.node));
	CHECK_INT(metric(METRIC_DIALS, NULL), 1);
	CHECK_INT(text(&a, "n1", "again"), NODE_TAKEN);
	fd = raw_accept(listener);
	CHECK_STR(raw_hear(fd), "again");
	close(fd);
	close(listener);
	one_ends();
}

CASE(retries_keep_all_and_send_it_again_after_a_reset_in_mid_message)
{
	static char large[LARGE];
	struct node_config cfg;
	char address[64];
	int listener, fd;

	world();
	cfg = config("n0");
	cfg.max_queue = 1 << 24;
	cfg.plan.retries = 1; /* in a row: there are more than that */
	one_with(cfg);
	listener = listener_small(address, sizeof(address));
	knows(&a, "n1", address);
	for (int i = 0; i < 6; i++) {
		memset(large, 'a' + i, sizeof(large));
		CHECK_INT(say(&a, "n1", large, sizeof(large)), NODE_TAKEN);
	}
	for (int i = 0; i < 5; i++) {
		fd = raw_accept(listener);
		CHECK_INT(raw_hear(fd)[LARGE - 1], 'a' + i);
		CHECK_INT(raw_read(fd, large, 5000), 5000);
		raw_reset(fd);
		UNTIL(a.downs == (unsigned)i + 1);
		CHECK_STR(a.reason, "reset");
		CHECK_INT(a.fate.delivered, 1);
		CHECK_INT(a.fate.kept, 5 - i);
		CHECK_INT(a.fate.dropped + a.fate.unknown, 0);
	}
	fd = raw_accept(listener);
	CHECK_INT(raw_hear(fd)[LARGE - 1], 'f');
	UNTIL(node_idle(&a.node));
	CHECK(balanced(&a, "n1", 6) && peer(&a, "n1")->out.delivered == 6);
	node_count(peer(&a, "n1"));
	CHECK(metric(METRIC_RESENT, NULL) >= 5);
	CHECK_INT(a.told_dropped, 0);
	close(fd);
	close(listener);
	one_ends();
}

CASE(what_was_written_whole_is_unknown_when_the_retries_are_used_up)
{
	static char large[LARGE];
	struct node_config cfg;
	char address[64], byte;
	int listener, fd;

	world();
	cfg = config("n0");
	cfg.max_queue = 1 << 24;
	cfg.plan.retries = 1;
	one_with(cfg);
	listener = listener_small(address, sizeof(address));
	knows(&a, "n1", address);
	for (int i = 0; i < 30; i++)
		CHECK_INT(say(&a, "n1", large, sizeof(large)), NODE_TAKEN);
	fd = raw_accept(listener);
	close(listener);
	CHECK_INT(raw_read(fd, &byte, 1), 1);
	turns(3);
	raw_reset(fd);
	UNTIL(a.downs == 1);
	CHECK_INT(a.fate.kept, 30);
	UNTIL(a.drops == 2 && node_idle(&a.node));
	CHECK(peer(&a, "n1")->out.unknown > 0 && peer(&a, "n1")->out.dropped > 0);
	CHECK(balanced(&a, "n1", 30) && a.told_dropped == 30);
	CHECK_INT(metric(METRIC_LOSSES, "unknown"), peer(&a, "n1")->out.unknown);
	CHECK_INT(metric(METRIC_LOSSES, "refused"), peer(&a, "n1")->out.dropped);
	one_ends();
}

CASE(retries_that_are_used_up_drop_all_that_waits)
{
	struct node_config cfg;
	char dead[64];

	world();
	cfg = config("n0");
	cfg.plan.retries = 3;
	cfg.plan.retry_min = 1;
	one_with(cfg);
	nowhere(dead, sizeof(dead));
	knows(&a, "n1", dead);
	CHECK_INT(text(&a, "n1", "x"), NODE_TAKEN);
	CHECK_INT(text(&a, "n1", "y"), NODE_TAKEN);
	UNTIL(a.drops == 1);
	CHECK_INT(a.told_dropped, 2);
	CHECK_INT(metric(METRIC_DIALS, "failed"), 4);
	CHECK(balanced(&a, "n1", 2) && peer(&a, "n1")->out.dropped == 2 && node_idle(&a.node));
	CHECK_INT(text(&a, "n1", "z"), NODE_TAKEN);
	UNTIL(a.drops == 2);
	CHECK_INT(metric(METRIC_DIALS, "failed"), 8);
	one_ends();
}

/* It ends its direction, and then is cut: what was not written is the next connection's.  Unless
 * it took nothing at all: it would be dialled for ever. */
CASE(a_peer_that_leaves_is_dialled_again_if_it_took_something)
{
	static char large[LARGE];

	for (int i = 0; i < 2; i++) {
		char address[64];
		int listener, fd;

		one("n0");
		a.node.cfg.max_queue = 1 << 24;
		listener = listener_small(address, sizeof(address));
		knows(&a, "n1", address);
		for (int n = 0; n < 30; n++)
			CHECK_INT(say(&a, "n1", large, sizeof(large)), NODE_TAKEN);
		fd = raw_accept(listener);
		if (i == 1)
			(void)raw_hear(fd);
		shutdown(fd, SHUT_WR);
		UNTIL(node_peer_state(peer(&a, "n1")) == NODE_PEER_DOWN);
		raw_reset(fd);
		UNTIL(a.downs == 1);
		CHECK_INT(a.fate.delivered, i);
		CHECK(a.fate.kept > 0);
		if (i == 1) {
			uint64_t left = a.fate.kept;

			fd = raw_accept(listener);
			while (left-- > 0)
				CHECK(raw_hear(fd) && peer(&a, "n1")->current);
			UNTIL(node_idle(&a.node));
			close(fd);
		} else {
			UNTIL(node_idle(&a.node));
			CHECK_STR(a.loss, "link-lost");
		}
		CHECK_INT(metric(METRIC_DIALS, NULL), 1 + i);
		CHECK(balanced(&a, "n1", 30));
		close(listener);
		one_ends();
	}
}

CASE(messages_for_a_peer_without_an_address_wait_as_long_as_retries_would_take)
{
	for (int back = 0; back < 2; back++) {
		struct node_config cfg;
		int fd;

		world();
		cfg = config("n0");
		cfg.plan.retries = 3;
		cfg.plan.retry_min = cfg.plan.retry_max = back ? 3600000 : 1;
		one_with(cfg);
		fd = raw_dial(&a);
		raw_say(fd, "n1", "hello");
		UNTIL(a.got == 1);
		raw_reset(fd);
		CHECK_INT(text(&a, "n1", "kept"), NODE_TAKEN);
		UNTIL(a.downs == 1);
		CHECK_INT(a.fate.kept, 1);
		if (back) {
			CHECK_INT(node_peer_state(peer(&a, "n1")), NODE_PEER_WAITING);
			CHECK_INT(text(&a, "n1", "too"), NODE_TAKEN);
			fd = raw_dial(&a);
			raw_say(fd, "n1", "again");
			CHECK_STR(raw_hear(fd), "kept");
			CHECK_STR(raw_hear(fd), "too");
			close(fd);
		} else {
			UNTIL(a.drops == 1);
			CHECK_STR(a.loss, "link-lost");
			UNTIL(a.node.n_peers == 0);
		}
		one_ends();
	}
}

/* ---- queues ---- */

CASE(a_full_queue_says_wait_and_tells_when_there_is_room)
{
	static char large[16384];
	struct node_config cfg;
	char address[64];
	int listener, fd, n = 0;
	unsigned rooms;

	world();
	cfg = config("n0");
	cfg.max_queue = 65536;
	one_with(cfg);
	memset(large, 'k', sizeof(large));
	listener = listener_small(address, sizeof(address));
	knows(&a, "n1", address);
	do { /* until the kernel takes no more of it */
		while (say(&a, "n1", large, sizeof(large)) == NODE_TAKEN)
			n++;
		rooms = a.rooms;
		UNTIL(a.rooms > rooms ||
		      (peer(&a, "n1")->current && peer(&a, "n1")->current->blocked));
	} while (a.rooms > rooms);
	while (say(&a, "n1", large, sizeof(large)) == NODE_TAKEN)
		n++;
	CHECK_INT(say(&a, "n1", large, sizeof(large)), NODE_WAIT);
	CHECK_INT(node_room(&a.node, "n1", 2), NODE_WAIT);
	CHECK_INT(peer(&a, "n1")->out.taken, n);
	fd = raw_accept(listener);
	for (; n > 0; n--)
		CHECK(raw_hear(fd)[0] == 'k');
	UNTIL(a.rooms > rooms && node_idle(&a.node));
	CHECK_INT(node_room(&a.node, "n1", 2), NODE_TAKEN);
	CHECK_INT(a.told_dropped, 0);
	close(fd);
	close(listener);
	one_ends();
}

CASE(a_full_queue_drops_while_dials_fail_and_who_waited_is_told)
{
	struct node_config cfg;
	char dead[64];
	int n = 0;

	world();
	cfg = config("n0");
	cfg.max_queue = 1000;
	cfg.plan.retries = 1;
	cfg.plan.retry_min = cfg.plan.retry_max = 3600000;
	one_with(cfg);
	nowhere(dead, sizeof(dead));
	knows(&a, "n1", dead);
	while (text(&a, "n1", "0123456789") == NODE_TAKEN)
		n++;
	CHECK_INT(text(&a, "n1", "x"), NODE_WAIT); /* the first dial is under way */
	UNTIL(a.rooms == 1);
	CHECK_INT(node_peer_state(peer(&a, "n1")), NODE_PEER_WAITING);
	for (int i = 0; i < 10; i++)
		CHECK_INT(text(&a, "n1", "x"), NODE_DROPPED);
	turns(1);
	CHECK_INT(a.drops, 1);
	CHECK_INT(a.told_dropped, 10);
	CHECK_STR(a.loss, "queue-full");
	CHECK(balanced(&a, "n1", (uint64_t)n + 10) && peer(&a, "n1")->out.waiting == (uint64_t)n);
	one_ends();
}

static int
send_range(struct side *s, struct range *r)
{
	struct piece piece = { .range = r };

	return (int)node_send(&s->node, "n1", 2, TYPE, &piece, 1);
}

CASE(files_that_wait_have_a_most_and_so_have_the_bytes_of_those_that_are_ours)
{
	struct range *own, *named;
	char address[64], path[] = "/tmp/node-test-XXXXXX";
	int listener, file, fd;

	one("n0");
	file = mkstemp(path);
	listener = listener_new(address, sizeof(address));
	knows(&a, "n1", address);
	CHECK_INT(range_new(&own, NULL, NULL), 0);
	CHECK_INT(ftruncate(own->fd, 1 << 19), 0);
	own->len = 1 << 19;
	CHECK_INT(ftruncate(file, 1 << 19), 0);
	CHECK_INT(range_open(&named, path, 0, -1), 0);
	for (int i = 0; i < 3; i++)
		CHECK_INT(send_range(&a, named), NODE_TAKEN); /* takes up no space of ours */
	CHECK_INT(send_range(&a, own), NODE_TAKEN);
	CHECK_INT(send_range(&a, own), NODE_TAKEN);
	CHECK_INT(text(&a, "n1", "x"), NODE_WAIT);
	CHECK_INT(a.rooms, 0);
	fd = raw_accept(listener);
	for (int i = 0; i < 5; i++)
		(void)raw_hear(fd);
	UNTIL(a.rooms == 1 && node_idle(&a.node));
	for (int i = 0; i < NODE_FILES; i++)
		CHECK_INT(send_range(&a, named), NODE_TAKEN);
	CHECK_INT(send_range(&a, named), NODE_WAIT);
	CHECK_INT(node_room(&a.node, "n1", 2), NODE_WAIT);
	CHECK_INT(ftruncate(file, 1), 0); /* none of them can be sent */
	UNTIL(a.rooms == 2 && node_idle(&a.node));
	CHECK_INT(a.told_dropped, NODE_FILES);
	CHECK_INT(node_room(&a.node, "n1", 2), NODE_TAKEN);
	range_free(own);
	range_free(named);
	unlink(path);
	close(file);
	close(fd);
	close(listener);
	one_ends();
}

CASE(a_dial_that_finds_no_descriptor_is_tried_again_and_nothing_is_dropped)
{
	struct rlimit was, few;

	two("n0", "n1");
	knows(&a, "n1", b.address);
	CHECK_INT(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = 3; /* what is open stays so */
	CHECK_INT(text(&a, "n1", "first"), NODE_TAKEN);
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
	UNTIL(node_peer_state(peer(&a, "n1")) == NODE_PEER_WAITING);
	UNTIL(metric(METRIC_DIALS, "failed") >= 3);
	CHECK_INT(a.drops, 0);
	CHECK_INT(peer(&a, "n1")->failures, 0);
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &was), 0);
	UNTIL(b.got == 1 && node_idle(&a.node));
	CHECK_STR(b.last, "first");
	CHECK(balanced(&a, "n1", 1) && a.told_dropped == 0);
	two_end();
}

/* ---- two connections ---- */

/* Both have something to say at about the same time. */
static void
meet(int round, bool closing)
{
	uint32_t sent_a = 0, sent_b = 0, all_a = 1 + (uint32_t)random() % 40,
		 all_b = 1 + (uint32_t)random() % 40;
	bool swap = round % 2;

	side_open(&a, swap ? "n1" : "n0");
	side_open(&b, swap ? "n0" : "n1");
	a.shy = random() % 2;
	b.shy = random() % 2;
	knows(&a, b.id, b.address);
	knows(&b, a.id, a.address);
	while (sent_a < all_a || sent_b < all_b) {
		if (sent_a < all_a && random() % 3)
			CHECK_INT(number(&a, b.id, sent_a++), NODE_TAKEN);
		if (sent_b < all_b && random() % 3)
			CHECK_INT(number(&b, a.id, sent_b++), NODE_TAKEN);
		if (closing && random() % 6 == 0)
			CHECK_INT(node_end(&a.node, b.id, 2), 0);
		if (closing && random() % 6 == 0)
			CHECK_INT(node_end(&b.node, a.id, 2), 0);
		a.deaf = random() % 5 == 0;
		b.deaf = random() % 5 == 0;
		node_resume(&a.node);
		node_resume(&b.node);
		if (random() % 2)
			turns((int)(random() % 3));
	}
	a.deaf = b.deaf = false;
	node_resume(&a.node);
	node_resume(&b.node);
	UNTIL(a.got == all_b && b.got == all_a && a.node.live <= 1 && b.node.live <= 1);
	CHECK_INT(a.wrong + b.wrong, 0);
	CHECK_INT(a.told_dropped + b.told_dropped, 0);
	CHECK_INT(peer(&a, b.id)->out.unknown + peer(&b, a.id)->out.unknown, 0);
	CHECK_INT(number(&a, b.id, all_a), NODE_TAKEN);
	CHECK_INT(number(&b, a.id, all_b), NODE_TAKEN);
	UNTIL(a.got == all_b + 1 && b.got == all_a + 1);
	CHECK_INT(a.wrong + b.wrong, 0);
	UNTIL(a.node.live == 1 && b.node.live == 1); /* the last two may have crossed, too */
	CHECK(peer(&a, b.id)->current->dialled != peer(&b, a.id)->current->dialled);
	side_close(&a);
	side_close(&b);
	turns(1);
}

static void
meet_often(int rounds, bool closing)
{
	unsigned seed = getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : (unsigned)getpid();

	world();
	srandom(seed);
	for (int i = 0; i < rounds && !check_failed; i++)
		meet(i, closing);
	if (check_failed)
		printf("# SEED=%u\n", seed);
	world_ends();
}

CASE(of_two_that_dial_each_other_one_connection_stays_and_nothing_is_lost)
{
	meet_often(200, false);
}

CASE(closes_in_between_lose_nothing_and_let_nothing_overtake)
{
	meet_often(100, true);
}

CASE(the_lesser_id_refuses_and_the_greater_gives_way)
{
	static const char *const ours[] = { "n5", "n5", "n5" }, *const theirs[] = { "n6", "n4",
		"n50" };

	for (int i = 0; i < 3; i++) {
		char address[64];
		int listener, out, in;

		one(ours[i]);
		listener = listener_new(address, sizeof(address));
		knows(&a, theirs[i], address);
		CHECK_INT(text(&a, theirs[i], "dialled"), NODE_TAKEN);
		out = raw_accept(listener);
		CHECK_STR(raw_hear(out), "dialled");
		in = raw_dial(&a);
		raw_say(in, theirs[i], "first");
		raw_say(in, theirs[i], "second");
		if (i == 1) { /* theirs is less: what they dialled stays */
			CHECK(raw_ended(out));
			raw_say(out, theirs[i], "zeroth");
			shutdown(out, SHUT_WR);
			UNTIL(a.got == 3 && a.node.live == 1);
			CHECK_STR(a.reason, "replaced");
			CHECK_STR(a.last, "second");
		} else {
			CHECK(raw_ended(in));
			UNTIL(a.got == 2);
			shutdown(in, SHUT_WR);
			UNTIL(a.node.live == 1);
			CHECK_STR(a.reason, "duplicate");
		}
		CHECK_INT(text(&a, theirs[i], "then"), NODE_TAKEN);
		CHECK_STR(raw_hear(i == 1 ? in : out), "then");
		CHECK_INT(a.told_dropped, 0);
		close(out);
		close(in);
		close(listener);
		one_ends();
	}
}

CASE(who_has_ended_ours_and_dials_is_not_refused_and_is_read_behind_it)
{
	char address[64];
	int listener, out, in;

	one("n0");
	listener = listener_new(address, sizeof(address));
	knows(&a, "n1", address);
	CHECK_INT(text(&a, "n1", "dialled"), NODE_TAKEN);
	out = raw_accept(listener);
	CHECK_STR(raw_hear(out), "dialled");
	a.deaf = true; /* its end waits behind what it said */
	raw_say(out, "n1", "first");
	raw_say(out, "n1", "second");
	shutdown(out, SHUT_WR);
	UNTIL(conns(&a, "n1") == 1 && peer(&a, "n1")->current->in.bytes > 0);
	in = raw_dial(&a);
	raw_say(in, "n1", "third");
	UNTIL(conns(&a, "n1") == 2);
	CHECK_INT(a.ups, 2);
	CHECK(!peer(&a, "n1")->current->dialled);
	a.deaf = false;
	node_resume(&a.node);
	UNTIL(a.got > 0);
	CHECK(a.got > 1 || strcmp(a.last, "first") == 0);
	UNTIL(a.got == 3 && a.node.live == 1);
	CHECK_STR(a.last, "third");
	CHECK_STR(a.reason, "replaced");
	CHECK_INT(text(&a, "n1", "there"), NODE_TAKEN);
	CHECK_STR(raw_hear(in), "there");
	close(out);
	close(in);
	close(listener);
	one_ends();
}

CASE(one_refused_after_ours_has_spoken_is_read_behind_that)
{
	char address[64];
	int listener, out, in;

	one("n0");
	listener = listener_new(address, sizeof(address));
	knows(&a, "n1", address);
	CHECK_INT(text(&a, "n1", "dialled"), NODE_TAKEN);
	out = raw_accept(listener);
	CHECK_STR(raw_hear(out), "dialled");
	a.deaf = true;
	raw_say(out, "n1", "first");
	raw_say(out, "n1", "second");
	UNTIL(peer(&a, "n1")->current->in.bytes > 0);
	in = raw_dial(&a);
	raw_say(in, "n1", "behind");
	UNTIL(conns(&a, "n1") == 2);
	CHECK_INT(a.ups, 1); /* refused all the same */
	CHECK(raw_ended(in));
	a.deaf = false;
	node_resume(&a.node);
	UNTIL(a.got == 2);
	CHECK_STR(a.last, "second");
	CHECK(!node_idle(&a.node));
	UNTIL(a.got == 3); /* it has its turn */
	CHECK_STR(a.last, "behind");
	close(in);
	UNTIL(a.node.live == 1);
	CHECK_STR(a.reason, "duplicate");
	raw_say(out, "n1", "on");
	UNTIL(a.got == 4);
	UNTIL(node_idle(&a.node));
	close(out);
	close(listener);
	one_ends();
}

CASE(an_incoming_connection_wins_over_one_that_is_no_longer_young)
{
	char address[64];
	int listener, out, in;

	one("n0");
	listener = listener_new(address, sizeof(address));
	knows(&a, "n1", address);
	CHECK_INT(text(&a, "n1", "dialled"), NODE_TAKEN);
	out = raw_accept(listener);
	CHECK_STR(raw_hear(out), "dialled");
	peer(&a, "n1")->current->born -= NODE_YOUNG_MS;
	in = raw_dial(&a);
	raw_say(in, "n1", "newer");
	UNTIL(a.ups == 2);
	CHECK_INT(text(&a, "n1", "there"), NODE_TAKEN);
	CHECK_INT(a.got, 0); /* the old one is read first */
	CHECK(raw_ended(out));
	close(out);
	UNTIL(a.got == 1);
	CHECK_STR(raw_hear(in), "there");
	CHECK_STR(a.reason, "replaced");
	CHECK_INT(conns(&a, "n1"), 1);
	close(in);
	close(listener);
	one_ends();
}

CASE(the_end_of_an_old_connection_leaves_the_new_one)
{
	int old, in;

	one("n5");
	old = raw_dial(&a);
	raw_say(old, "n1", "old");
	UNTIL(a.got == 1);
	CHECK_INT(text(&a, "n1", "to old"), NODE_TAKEN);
	CHECK_STR(raw_hear(old), "to old");
	in = raw_dial(&a);
	raw_say(in, "n1", "new");
	UNTIL(a.ups == 2);
	raw_reset(old);
	UNTIL(a.downs == 1 && a.got == 2);
	CHECK(peer(&a, "n1")->current != NULL);
	CHECK_INT(text(&a, "n1", "to new"), NODE_TAKEN);
	CHECK_STR(raw_hear(in), "to new");
	CHECK_INT(a.node.live, 1);
	close(in);
	one_ends();
}

CASE(what_was_not_written_on_a_replaced_connection_goes_over_the_next)
{
	static char large[200000];
	char address[64], byte;
	int listener, out, in, n = 20, small = 4096;

	one("n5"); /* without retries */
	listener = listener_new(address, sizeof(address));
	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	a.node.cfg.max_queue = 1 << 24;
	knows(&a, "n1", address);
	for (int i = 0; i < n; i++) {
		memset(large, 'a' + i, sizeof(large));
		CHECK_INT(say(&a, "n1", large, sizeof(large)), NODE_TAKEN);
	}
	out = raw_accept(listener);
	CHECK_INT(raw_read(out, &byte, 1), 1);
	turns(5);
	in = raw_dial(&a);
	raw_say(in, "n1", "here");
	UNTIL(a.ups == 2);
	raw_reset(out); /* in mid-message */
	UNTIL(a.downs == 1);
	CHECK(a.fate.kept > 0 && a.fate.dropped == 1);
	CHECK_INT(a.fate.kept + a.fate.dropped + a.fate.unknown + a.fate.delivered, n);
	for (uint64_t i = (uint64_t)n - a.fate.kept; i < (uint64_t)n; i++)
		CHECK_INT(raw_hear(in)[0], 'a' + (int)i);
	UNTIL(node_idle(&a.node));
	CHECK(balanced(&a, "n1", (uint64_t)n));
	CHECK_INT(metric(METRIC_RESENT, NULL), 0);
	close(in);
	close(listener);
	one_ends();
}

CASE(an_incoming_connection_stops_a_dial_and_a_back_off)
{
	struct node_config cfg;
	char dead[64];
	int in;

	world();
	cfg = config("n5");
	cfg.plan.retries = 1;
	cfg.plan.retry_min = cfg.plan.retry_max = 3600000;
	one_with(cfg);
	nowhere(dead, sizeof(dead));
	knows(&a, "n1", dead);
	CHECK_INT(text(&a, "n1", "kept"), NODE_TAKEN);
	UNTIL(node_peer_state(peer(&a, "n1")) == NODE_PEER_WAITING);
	in = raw_dial(&a);
	raw_say(in, "n1", "here");
	CHECK_STR(raw_hear(in), "kept");
	CHECK_INT(node_peer_state(peer(&a, "n1")), NODE_PEER_UP);
	UNTIL(node_idle(&a.node));
	close(in);
	one_ends();
}

CASE(our_own_id_and_a_crowd_are_refused)
{
	int fd[NODE_CONNS + 1];

	one("n0");
	fd[0] = raw_dial(&a);
	raw_say(fd[0], "n0", "we");
	UNTIL(a.downs == 1);
	CHECK_STR(a.reason, "protocol");
	CHECK_INT(a.ups + a.got + a.node.n_peers, 0);
	close(fd[0]);
	for (int i = 0; i <= NODE_CONNS; i++) {
		fd[i] = raw_dial(&a);
		raw_say(fd[i], "n1", "x");
		UNTIL(a.node.live == (unsigned)i + 1 || a.downs == 2);
		UNTIL(conns(&a, "n1") == (unsigned)i + 1 || a.downs == 2);
	}
	CHECK_INT(a.downs, 2);
	CHECK_INT(conns(&a, "n1"), NODE_CONNS);
	for (int i = 0; i <= NODE_CONNS; i++)
		close(fd[i]);
	UNTIL(a.node.live == 0);
	one_ends();
}

/* ---- the end ---- */

CASE(a_drain_lets_all_arrive_and_then_leaves)
{
	two("n0", "n1");
	knows(&a, "n1", b.address);
	b.deaf = true;
	for (uint32_t i = 0; i < 1000; i++)
		CHECK_INT(number(&a, "n1", i), NODE_TAKEN);
	UNTIL(b.node.live == 1);
	node_drain(&a.node);
	CHECK_INT(text(&a, "n1", "late"), NODE_DROPPED);
	CHECK_INT(node_hub_room(&a.node), 0);
	CHECK(!node_idle(&a.node));
	b.deaf = false;
	node_resume(&b.node);
	UNTIL(node_idle(&a.node));
	CHECK_INT(b.got, 1000);
	CHECK_INT(b.wrong, 0);
	CHECK_INT(a.node.live, 0);
	CHECK_STR(a.loss, "draining");
	CHECK(balanced(&a, "n1", 1001) && peer(&a, "n1")->out.delivered == 1000);
	UNTIL(b.node.live == 0);
	two_end();
}

CASE(a_stranger_that_speaks_while_we_drain_is_still_heard)
{
	int fd;

	one("n0");
	fd = raw_dial(&a);
	UNTIL(a.node.live == 1);
	node_drain(&a.node);
	CHECK(raw_ended(fd));
	raw_say(fd, "n1", "last");
	close(fd);
	UNTIL(node_idle(&a.node));
	CHECK_INT(a.got, 1);
	CHECK_INT(a.ups, 0);
	one_ends();
}

CASE(now_drops_what_waits_and_resets)
{
	struct node_config cfg;
	char address[64], dead[64], byte;
	int listener, fd, stranger;

	world();
	cfg = config("n0");
	cfg.plan.retries = 5;
	cfg.plan.retry_min = cfg.plan.retry_max = 3600000;
	one_with(cfg);
	listener = listener_new(address, sizeof(address));
	nowhere(dead, sizeof(dead));
	knows(&a, "n1", address);
	knows(&a, "n2", dead);
	CHECK_INT(text(&a, "n1", "x"), NODE_TAKEN);
	CHECK_INT(text(&a, "n2", "x"), NODE_TAKEN);
	stranger = raw_dial(&a);
	fd = raw_accept(listener);
	UNTIL(a.node.live == 2 && node_peer_state(peer(&a, "n2")) == NODE_PEER_WAITING);
	node_drain(&a.node);
	turns(2);
	CHECK(!node_idle(&a.node));
	node_now(&a.node, "drain-timeout");
	UNTIL(node_idle(&a.node));
	CHECK_INT(a.node.live, 0);
	CHECK_STR(a.loss, "drain-timeout");
	CHECK_INT(peer(&a, "n2")->out.dropped, 1);
	CHECK(balanced(&a, "n1", 1) && balanced(&a, "n2", 1));
	while (recv(fd, &byte, 1, 0) > 0)
		;
	close(fd);
	close(stranger);
	close(listener);
	one_ends();
}

CASE(what_is_under_way_at_a_close_is_freed)
{
	char dead[64];
	int fd;

	two("n0", "n1");
	nowhere(dead, sizeof(dead));
	knows(&a, "n1", b.address);
	knows(&a, "n2", dead);
	fd = raw_dial(&b);
	(void)text(&a, "n1", "x");
	(void)text(&a, "n2", "x");
	(void)text(&a, "n3", "x");
	turns(2);
	(void)text(&a, "n1", "y");
	side_close(&a);
	side_close(&b);
	close(fd);
	world_ends();
}

/* ---- figures ---- */

CASE(rows_and_figures_say_what_is_there)
{
	struct text t = { 0 };
	int stranger;

	two("n 0", "n1");
	knows(&a, "n1", b.address);
	CHECK_INT(text(&a, "n1", "hello"), NODE_TAKEN);
	UNTIL(b.got == 1 && node_idle(&a.node));
	stranger = raw_dial(&a);
	UNTIL(a.node.live == 2);
	node_rows(&a.node, &t);
	CHECK(strstr(t.at, "\"id\":\"n1#1\"") && strstr(t.at, "\"state\":\"open\"") &&
	      strstr(t.at, "\"state\":\"first-frame\"") && strstr(t.at, b.address));
	text_free(&t);
	node_metrics(&a.node, &t);
	CHECK(strstr(t.at, "ccfnet_connections_active 2\n") &&
	      strstr(t.at, "ccfnet_messages_total{direction=\"out\"} 1\n") &&
	      strstr(t.at, "ccfnet_message_bytes_total{direction=\"out\"} 28\n") &&
	      strstr(t.at, "ccfnet_messages_waiting 0\n") &&
	      strstr(t.at, "ccfnet_dials_total{result=\"ok\"} 1\n"));
	text_free(&t);
	CHECK(!node_cut(&a.node, "n1#2"));
	CHECK(node_cut(&a.node, "n1#1"));
	UNTIL(a.downs == 1 && b.downs == 1);
	CHECK_STR(a.reason, "control");
	CHECK_STR(b.reason, "reset");
	CHECK_INT(metric(METRIC_MESSAGES, "in"), 1);
	CHECK_STR(node_peer_state_name(NODE_PEER_WAITING), "waiting");
	close(stranger);
	two_end();
}

CASE(a_file_that_shrank_before_it_was_sent_is_a_message_dropped)
{
	char path[] = "/tmp/node-test-XXXXXX";
	int file = mkstemp(path);
	struct piece piece = { 0 };

	two("n0", "n1");
	CHECK_INT(ftruncate(file, 1000), 0);
	CHECK_INT(range_open(&piece.range, path, 0, -1), 0);
	knows(&a, "n1", b.address);
	CHECK_INT(node_send(&a.node, "n1", 2, TYPE, &piece, 1), NODE_TAKEN);
	CHECK_INT(text(&a, "n1", "after"), NODE_TAKEN);
	range_free(piece.range);
	CHECK_INT(ftruncate(file, 10), 0);
	UNTIL(b.got == 1 && a.drops == 1 && node_idle(&a.node));
	CHECK_STR(b.last, "after");
	CHECK_STR(a.loss, "file-shrank");
	CHECK(balanced(&a, "n1", 2) && peer(&a, "n1")->out.dropped == 1);
	unlink(path);
	two_end();
	close(file);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(the_first_message_dials_and_all_go_over_one_connection_in_order),
	    RUN(an_address_that_is_said_again_is_dialled_in_place_of_the_old),
	    RUN(a_new_address_is_dialled_at_once_when_the_old_is_being_tried),
	    RUN(our_own_id_is_no_peer_and_there_is_a_most),
	    RUN(messages_for_nobody_known_are_dropped_and_told_once_a_turn),
	    RUN(pieces_become_one_message_and_empty_ones_nothing),
	    RUN(a_stranger_is_known_while_its_connection_is_there),
	    RUN(close_lets_earlier_messages_arrive_and_a_later_one_dials_anew),
	    RUN(what_the_peer_says_after_close_is_still_delivered),
	    RUN(a_connection_from_a_source_keeps_its_name_and_its_end_is_told),
	    RUN(a_refused_dial_drops_what_waits_and_the_next_message_dials_again),
	    RUN(a_name_that_does_not_resolve_and_a_dial_without_an_answer_say_so),
	    RUN(a_break_without_retries_leaves_unknown_and_dropped_that_add_up),
	    RUN(retries_keep_all_and_send_it_again_after_a_reset_in_mid_message),
	    RUN(what_was_written_whole_is_unknown_when_the_retries_are_used_up),
	    RUN(retries_that_are_used_up_drop_all_that_waits),
	    RUN(a_peer_that_leaves_is_dialled_again_if_it_took_something),
	    RUN(messages_for_a_peer_without_an_address_wait_as_long_as_retries_would_take),
	    RUN(a_full_queue_says_wait_and_tells_when_there_is_room),
	    RUN(a_full_queue_drops_while_dials_fail_and_who_waited_is_told),
	    RUN(files_that_wait_have_a_most_and_so_have_the_bytes_of_those_that_are_ours),
	    RUN(a_dial_that_finds_no_descriptor_is_tried_again_and_nothing_is_dropped),
	    RUN(of_two_that_dial_each_other_one_connection_stays_and_nothing_is_lost),
	    RUN(closes_in_between_lose_nothing_and_let_nothing_overtake),
	    RUN(the_lesser_id_refuses_and_the_greater_gives_way),
	    RUN(who_has_ended_ours_and_dials_is_not_refused_and_is_read_behind_it),
	    RUN(one_refused_after_ours_has_spoken_is_read_behind_that),
	    RUN(an_incoming_connection_wins_over_one_that_is_no_longer_young),
	    RUN(the_end_of_an_old_connection_leaves_the_new_one),
	    RUN(what_was_not_written_on_a_replaced_connection_goes_over_the_next),
	    RUN(an_incoming_connection_stops_a_dial_and_a_back_off),
	    RUN(our_own_id_and_a_crowd_are_refused),
	    RUN(a_drain_lets_all_arrive_and_then_leaves),
	    RUN(a_stranger_that_speaks_while_we_drain_is_still_heard),
	    RUN(now_drops_what_waits_and_resets),
	    RUN(what_is_under_way_at_a_close_is_freed),
	    RUN(rows_and_figures_say_what_is_there),
	    RUN(a_file_that_shrank_before_it_was_sent_is_a_message_dropped),
	    { 0 },
	});
}
