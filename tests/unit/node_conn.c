/* (who runs this makes no difference) */
/* node_conn: real sockets on the loopback, a node on one side, bytes by hand on the other, and a
 * loop that is turned by hand. */
#include "flow/node_parts.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/metrics.h"
#include "check.h"
#include "flow/range.h"
#include "net/handoff.h"

static struct reactor *loop;
static struct dialler dialler;
static struct node node;
static int listener, base_fds;
static bool ready;
static unsigned moves; /* messages */
static uint64_t order; /* of the first message that was out of it; 0: none */
static struct {
	unsigned ups, downs;
	char id[64], reason[64], why[512];
	struct outbox_fate fate;
} told;
static char heard[4096]; /* the payloads of short messages, each with its sender: "p:hello " */

/* ---- the node ---- */

static int
open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = -3;

	CHECK(d != NULL);
	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

static bool
is_ready(void *arg, struct node_peer *p)
{
	(void)arg;
	(void)p;
	return ready;
}

static void
message(void *arg, struct node_peer *p, const struct message *m)
{
	size_t n = strlen(heard);
	uint64_t seq;

	(void)arg;
	moves++;
	if (m->frame.payload == 8 && m->payload && m->frame.type == 7) {
		memcpy(&seq, m->payload, 8);
		if (seq + 1 != moves && !order)
			order = moves;
	} else if (m->payload && m->frame.payload < 64) {
		snprintf(heard + n, sizeof(heard) - n, "%.*s:%.*s ", (int)p->id_len, p->id,
		    (int)m->frame.payload, m->payload);
	}
}

static void
event(void *arg, const struct node_event *e)
{
	(void)arg;
	told.ups += e->kind == NODE_UP;
	if (e->kind != NODE_DOWN)
		return;
	told.downs++;
	snprintf(told.id, sizeof(told.id), "%.*s", (int)e->id_len, e->id ? e->id : "");
	snprintf(told.reason, sizeof(told.reason), "%s", e->reason);
	snprintf(told.why, sizeof(told.why), "%s", e->why ? e->why : "");
	told.fate = e->fate;
}

static void
nothing(void *arg)
{
	(void)arg;
}

static void
turn(int64_t ms)
{
	CHECK_INT(reactor_turn(loop, ms), 0);
}

#define UNTIL(x)                                                                                   \
	do {                                                                                       \
		int64_t until = clock_ms() + 20000;                                                \
		while (!(x) && clock_ms() < until)                                                 \
			turn(1);                                                                   \
		CHECK(x);                                                                          \
	} while (0)

/* How often the loop wakes up within a fifth of a second. */
static unsigned
wakes(void)
{
	int64_t until = clock_ms() + 200;
	unsigned n = 0;

	for (; clock_ms() < until; n++)
		turn(until - clock_ms());
	return n;
}

static void
listen_here(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(bind(listener, (struct sockaddr *)&at, sizeof(at)), 0);
	CHECK_INT(listen(listener, 16), 0);
}

static void
forget(void)
{
	memset(&told, 0, sizeof(told));
	heard[0] = '\0';
	moves = 0;
	order = 0;
}

static void
start(const struct node_config *with)
{
	struct node_config cfg = with ? *with : (struct node_config){ .first_frame = -1 };

	base_fds = open_fds();
	log_open("node_conn", false);
	log_set_level(LOG_L_ERROR);
	signal(SIGPIPE, SIG_IGN);
	CHECK_INT(reactor_new(&loop), 0);
	dialler_open(&dialler, loop);
	listen_here();
	cfg.reactor = loop;
	cfg.dialler = &dialler;
	cfg.id = "n0";
	cfg.id_len = 2;
	cfg.plan.connect_timeout = 5000;
	cfg.plan.user_timeout = -1;
	if (!cfg.user_timeout)
		cfg.user_timeout = -1;
	cfg.keepalive = -1;
	cfg.max_frame = 64 << 20;
	cfg.most = 64 << 10;
	cfg.max_queue = 1 << 30;
	cfg.fds_spare = 8;
	cfg.ready = is_ready;
	cfg.message = message;
	cfg.event = event;
	cfg.room = cfg.idle = nothing;
	node_open(&node, &cfg);
	ready = true;
	forget();
}

static void
finish(void)
{
	node_close(&node);
	close(listener);
	dialler_close(&dialler);
	turn(0);
	reactor_free(loop);
	CHECK_INT(open_fds(), base_fds);
}

static struct node_peer *
peer(const char *id)
{
	return node_find(&node, id, strlen(id));
}

static struct node_conn *
current(const char *id)
{
	return peer(id) ? peer(id)->current : NULL;
}

static bool
adds_up(const char *id)
{
	const struct outbox *out = &peer(id)->out;

	return out->taken == out->delivered + out->dropped + out->unknown + out->waiting;
}

static void
put(const char *id, const char *payload)
{
	struct piece p = { .bytes = payload, .len = strlen(payload) };

	CHECK_INT(node_send(&node, id, strlen(id), 1, &p, 1), NODE_TAKEN);
}

static void
put_many(const char *id, unsigned n, size_t size)
{
	char *bytes = calloc(1, size);
	struct piece p = { .bytes = bytes, .len = size };

	while (n-- > 0)
		CHECK_INT(node_send(&node, id, strlen(id), 7, &p, 1), NODE_TAKEN);
	free(bytes);
}

/* ---- the other side ---- */

static void
small(int fd, int option)
{
	int bytes = 4096;

	CHECK_INT(setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof(bytes)), 0);
}

static void
armed(int fd)
{
	struct linger l = { .l_onoff = 1 };

	CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
}

/* Connects to a listening socket of its own, as if from a source: the node has one end. */
static int
arrive(int rcvbuf)
{
	struct sockaddr_in at;
	socklen_t len = sizeof(at);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), taken;

	if (rcvbuf)
		small(fd, SO_RCVBUF);
	CHECK_INT(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	CHECK_INT(connect(fd, (struct sockaddr *)&at, len), 0);
	taken = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(taken >= 0);
	armed(taken); /* as a source hands it over */
	CHECK(node_conn_new(&node, taken, false) != NULL);
	return fd;
}

static void
know(const char *id)
{
	struct sockaddr_in at;
	socklen_t len = sizeof(at);
	char text[64], msg[256];
	struct addr addr;

	CHECK_INT(getsockname(listener, (struct sockaddr *)&at, &len), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(at.sin_port));
	CHECK_INT(addr_parse(&addr, text, ADDR_MAY_NAME, msg, sizeof(msg)), 0);
	CHECK_INT(node_associate(&node, id, strlen(id), &addr), 0);
}

static int
dialled(void)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	UNTIL(poll(&p, 1, 0) == 1);
	return accept4(listener, NULL, NULL, SOCK_CLOEXEC);
}

static size_t
frame_of(char *to, uint64_t type, const char *from, const void *payload, size_t len)
{
	char head[FRAME_HEAD_MAX];
	size_t n = frame_write_head(head, type, from, strlen(from), len);

	memcpy(to, head, n);
	memcpy(to + n, payload, len);
	return n + len;
}

static size_t
frame(char *to, const char *from, const char *payload)
{
	return frame_of(to, 1, from, payload, strlen(payload));
}

static void
say(int fd, const char *from, const char *payload)
{
	char bytes[FRAME_HEAD_MAX + 256];
	size_t n = frame(bytes, from, payload);

	CHECK_INT(send(fd, bytes, n, MSG_NOSIGNAL), n);
}

static void
reset(int fd)
{
	armed(fd);
	close(fd);
}

static bool
was_reset(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) == 1 && p.revents & POLLERR;
}

/* How many bytes lie there unread. */
static size_t
lies(int fd)
{
	int n = 0;

	CHECK_INT(ioctl(fd, FIONREAD, &n), 0);
	return (size_t)n;
}

/* Reads up to n bytes while the loop turns; fewer: the end of stream, or a reset. */
static size_t
take(int fd, char *to, size_t n)
{
	static char dropped[65536];
	int64_t until = clock_ms() + 20000;
	size_t have = 0;
	ssize_t got;

	while (have < n && clock_ms() < until) {
		size_t some = to || n - have < sizeof(dropped) ? n - have : sizeof(dropped);

		got = recv(fd, to ? to + have : dropped, some, MSG_DONTWAIT);
		if (got == 0 || (got < 0 && errno != EAGAIN))
			break;
		have += got > 0 ? (size_t)got : 0;
		turn(got > 0 ? 0 : 1);
	}
	return have;
}

/* ---- both ways ---- */

CASE(a_message_each_way_on_a_connection_that_we_dialled)
{
	char bytes[64], want[64];
	size_t n = frame(want, "n0", "hello");
	int fd;

	start(NULL);
	know("p");
	put("p", "hello");
	fd = dialled();
	CHECK_INT(take(fd, bytes, n), n);
	CHECK(memcmp(bytes, want, n) == 0);
	say(fd, "p", "there");
	UNTIL(moves == 1);
	CHECK_STR(heard, "p:there ");
	CHECK_INT(told.ups, 1);
	UNTIL(node_idle(&node));
	CHECK_INT(peer("p")->out.delivered, 1);
	CHECK_INT(peer("p")->messages_in, 1);
	CHECK_INT(peer("p")->bytes_in, frame(bytes, "p", "there"));
	/* nothing is asked when there is nothing to be known */
	CHECK_INT(current("p")->timer.slot, 0);
	close(fd);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "done");
	CHECK_STR(told.id, "p");
	CHECK_INT(told.fate.delivered, 1);
	finish();
}

CASE(a_message_each_way_on_a_connection_that_came)
{
	int fd;

	start(NULL);
	fd = arrive(0);
	turn(0);
	CHECK(!TAILQ_EMPTY(&node.strangers));
	say(fd, "p", "here");
	UNTIL(moves == 1);
	CHECK(TAILQ_EMPTY(&node.strangers));
	CHECK_STR(heard, "p:here ");
	put("p", "thanks");
	CHECK_INT(take(fd, NULL, 20 + 2 + 6), 28);
	UNTIL(node_idle(&node));
	CHECK_INT(peer("p")->out.delivered, 1);
	close(fd);
	UNTIL(told.downs == 1);
	CHECK_INT(node.live, 0);
	CHECK(!peer("p"));
	finish();
}

CASE(a_stream_cut_at_every_byte_gives_what_was_whole_and_says_what_was_not)
{
	char bytes[256], why[64];
	size_t ends[4] = { 0 }, n = 0;
	unsigned whole;
	int fd;

	n += frame(bytes + n, "p", "one");
	ends[1] = n;
	n += frame(bytes + n, "p", "");
	ends[2] = n;
	n += frame(bytes + n, "p", "three");
	ends[3] = n;
	start(NULL);
	for (size_t cut = 0; cut <= n; cut++) {
		forget();
		fd = arrive(0);
		for (size_t i = 0; i < cut; i++) { /* one byte a turn */
			CHECK_INT(send(fd, bytes + i, 1, MSG_NOSIGNAL), 1);
			turn(0);
		}
		close(fd);
		UNTIL(told.downs == 1);
		for (whole = 0; whole < 3 && ends[whole + 1] <= cut;)
			whole++;
		CHECK_INT(moves, whole);
		CHECK_STR(told.reason, ends[whole] == cut ? "done" : "half-frame");
		snprintf(why, sizeof(why), "%zu of %zu bytes of a frame", cut - ends[whole],
		    whole < 3 ? ends[whole + 1] - ends[whole] : 0);
		if (cut - ends[whole] >= FRAME_PREFIX)
			CHECK_STR(told.why, why);
		CHECK_INT(node.live, 0);
	}
	finish();
}

CASE(two_hundred_thousand_messages_each_way_in_order)
{
	enum { MANY = 200000 };
	char *bytes = malloc(MANY * 29), *back = malloc(MANY * 30);
	size_t n = 0, sent = 0, got = 0, all;
	uint64_t seq;
	int fd;

	for (uint64_t i = 0; i < MANY; i++)
		n += frame_of(bytes + n, 7, "p", &i, 8);
	start(NULL);
	fd = arrive(0);
	for (uint64_t i = 0; i < MANY || got < MANY * 30;) {
		ssize_t some = send(fd, bytes + sent, n - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
		struct piece p = { .bytes = &i, .len = 8 };

		sent += some > 0 ? (size_t)some : 0;
		for (int k = 0; peer("p") && k < 2000 && i < MANY; k++, i++)
			CHECK_INT(node_send(&node, "p", 1, 7, &p, 1), NODE_TAKEN);
		some = recv(fd, back + got, MANY * 30 - got, MSG_DONTWAIT);
		got += some > 0 ? (size_t)some : 0;
		turn(0);
	}
	UNTIL(moves == MANY && node_idle(&node));
	CHECK_INT(order, 0);
	all = 0;
	for (uint64_t i = 0; i < MANY; i++) {
		memcpy(&seq, back + i * 30 + 22, 8);
		all += seq == i;
	}
	CHECK_INT(all, MANY);
	CHECK_INT(peer("p")->out.delivered, MANY);
	CHECK_INT(current("p")->delivered, MANY);
	close(fd);
	UNTIL(told.downs == 1);
	finish();
	free(bytes);
	free(back);
}

/* ---- who speaks ---- */

CASE(a_sender_that_changes_is_a_protocol_error)
{
	int fd;

	start(NULL);
	fd = arrive(0);
	say(fd, "p", "one");
	say(fd, "p x", "two");
	say(fd, "p", "three");
	UNTIL(told.downs == 1);
	CHECK_STR(heard, "p:one ");
	CHECK_STR(told.id, "p");
	CHECK_STR(told.reason, "protocol");
	CHECK_STR(told.why, "a frame from p%20x on the connection of p");
	CHECK_INT(take(fd, NULL, 1), 0);
	CHECK_INT(errno, ECONNRESET);
	close(fd);
	finish();
}

CASE(our_own_id_is_a_protocol_error)
{
	int fd;

	start(NULL);
	fd = arrive(0);
	say(fd, "n0", "one");
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "protocol");
	CHECK_STR(told.why, "a frame from n0, which is our own id");
	close(fd);
	forget();
	fd = arrive(0);
	say(fd, "p", "one");
	say(fd, "n0", "two");
	UNTIL(told.downs == 1);
	CHECK_STR(heard, "p:one ");
	CHECK_STR(told.why, "a frame from n0, which is our own id");
	close(fd);
	finish();
}

CASE(an_address_that_leads_to_somebody_else_is_found_out)
{
	int fd;

	start(NULL);
	know("p");
	put("p", "hello");
	fd = dialled();
	say(fd, "q", "who?");
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "protocol");
	CHECK_STR(
	    told.why, "a frame from q on the connection of p: the address leads to somebody else");
	CHECK_INT(moves, 0);
	close(fd);
	finish();
}

CASE(a_frame_that_is_none_is_a_protocol_error)
{
	int fd;

	start(NULL);
	fd = arrive(0);
	CHECK_INT(send(fd, "\4\0\0\0", 4, MSG_NOSIGNAL), 4);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "protocol");
	CHECK(told.why[0] != '\0');
	CHECK_STR(told.id, "");
	close(fd);
	forget();
	fd = arrive(0);
	say(fd, "p", "one");
	CHECK_INT(send(fd, "\377\377\377\377", 4, MSG_NOSIGNAL), 4);
	UNTIL(told.downs == 1);
	CHECK_STR(heard, "p:one ");
	CHECK_STR(told.reason, "protocol");
	close(fd);
	finish();
}

CASE(the_first_head_has_its_time)
{
	struct node_config cfg = { .first_frame = 100 };
	int64_t since = clock_ms();
	int silent, slow;

	start(&cfg);
	silent = arrive(0);
	slow = arrive(0);
	while (told.downs < 2 && clock_ms() < since + 5000) {
		(void)send(slow, "\24", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		turn(60);
	}
	CHECK_INT(told.downs, 2);
	CHECK(clock_ms() - since >= 100);
	CHECK_INT(node.live, 0);
	close(silent);
	close(slow);
	forget();
	since = arrive(0);
	say((int)since, "p", "in time");
	UNTIL(moves == 1);
	turn(150);
	turn(0);
	CHECK_INT(told.downs, 0);
	close((int)since);
	finish();
}

/* ---- resets ---- */

/* What a break says, held against what the other side's kernel had. */
static void
check_fate(uint64_t written_whole, uint64_t there, unsigned sent)
{
	CHECK_INT(told.fate.delivered, there);
	CHECK_INT(told.fate.unknown, written_whole - there);
	CHECK_INT(told.fate.dropped, sent - written_whole);
}

CASE(a_reset_tells_delivered_unknown_and_dropped_apart)
{
	enum { SENT = 20000, SIZE = 1024, EACH = 20 + 2 + SIZE };
	uint64_t written, there;
	int fd;

	for (int dial = 0; dial < 2; dial++) {
		start(NULL);
		if (dial) {
			know("p");
			small(listener, SO_RCVBUF);
			put("p", "x");
			fd = dialled();
		} else {
			fd = arrive(1);
			say(fd, "p", "x");
			UNTIL(moves == 1);
			put("p", "x");
		}
		CHECK_INT(take(fd, NULL, 23), 23);
		put_many("p", SENT, SIZE);
		UNTIL(current("p")->blocked && peer("p")->out.acked == 23 + lies(fd));
		CHECK_INT(take(fd, NULL, 4 * EACH), 4 * EACH);
		for (int64_t end = clock_ms() + 300;
		     clock_ms() < end;) /* the window moves when it will */
			turn(1);
		node_conn_acks(current("p"));
		there = 4 + lies(fd) / EACH;
		CHECK_INT(peer("p")->out.acked, 23 + 4 * EACH + lies(fd));
		written = (peer("p")->out.written - 23) / EACH;
		CHECK(written < SENT && there < written);
		reset(fd);
		UNTIL(told.downs == 1);
		CHECK_STR(told.reason, "reset");
		check_fate(written + 1, there + 1, SENT + 1);
		if (dial)
			CHECK(adds_up("p"));
		CHECK_INT(node.live, 0);
		finish();
	}
}

CASE(what_was_said_before_a_reset_is_delivered)
{
	int fd;

	start(NULL);
	fd = arrive(0);
	say(fd, "p", "one");
	say(fd, "p", "two");
	reset(fd);
	UNTIL(told.downs == 1);
	CHECK_STR(heard, "p:one p:two ");
	CHECK_STR(told.reason, "reset");
	CHECK_STR(told.id, "p");

	/* also where our own write met the reset first */
	forget();
	fd = arrive(0);
	say(fd, "p", "one");
	UNTIL(moves == 1);
	say(fd, "p", "two");
	say(fd, "p", "three");
	reset(fd);
	put("p", "lost");
	UNTIL(told.downs == 1);
	CHECK_STR(heard, "p:one p:two p:three ");
	CHECK_STR(told.reason, "reset");
	CHECK_INT(told.fate.dropped + told.fate.unknown, 1);
	finish();
}

CASE(what_was_said_before_a_reset_waits_for_a_sink_that_is_full)
{
	int fd;

	start(NULL);
	fd = arrive(0);
	ready = false;
	say(fd, "p", "one");
	say(fd, "p", "two");
	for (int i = 0; i < 5; i++)
		turn(1);
	say(fd, "p", "three");
	CHECK_INT(moves, 0);
	/* full: nothing to do, and nobody is woken */
	CHECK(wakes() < 5);
	reset(fd);
	put("p", "lost");
	CHECK(wakes() < 20);
	CHECK_INT(told.downs, 0);
	ready = true;
	node_resume(&node);
	UNTIL(told.downs == 1);
	CHECK_STR(heard, "p:one p:two p:three ");
	CHECK_STR(told.reason, "reset");
	finish();
}

CASE(a_reset_within_a_frame_says_both)
{
	char bytes[64];
	size_t n = frame(bytes, "p", "half");
	int fd;

	start(NULL);
	fd = arrive(0);
	say(fd, "p", "one");
	CHECK_INT(send(fd, bytes, n - 2, MSG_NOSIGNAL), n - 2);
	UNTIL(moves == 1);
	reset(fd);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "reset");
	CHECK(strstr(told.why, "after 23 of 25 bytes of a frame"));
	finish();
}

CASE(a_peer_that_does_not_read_meets_the_user_timeout)
{
	struct node_config cfg = { .first_frame = -1, .user_timeout = 300 };
	enum { SENT = 20000, EACH = 20 + 2 + 1024 };
	uint64_t written = 0, there;
	int fd;

	start(&cfg);
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put_many("p", SENT, 1024);
	UNTIL(current("p")->blocked);
	while (told.downs == 0 && current("p")) {
		written = peer("p")->out.written / EACH;
		turn(1);
	}
	there = lies(fd) / EACH;
	CHECK_STR(told.reason, "user-timeout");
	CHECK(strstr(told.why, "--user-timeout"));
	check_fate(written, there, SENT);
	reset(fd);
	finish();
}

/* ---- leaving ---- */

CASE(a_close_finishes_the_message_under_way_and_what_follows_is_dialled_anew)
{
	enum { BIG = 8 << 20 };
	char want[64], bytes[64];
	size_t n = frame(want, "n0", "later");
	int fd, fd2;

	start(NULL);
	know("p");
	put_many("p", 1, BIG);
	fd = dialled();
	UNTIL(current("p") && current("p")->blocked);
	CHECK_INT(node_end(&node, "p", 1), 0);
	put("p", "later");
	turn(1);
	CHECK_INT(take(fd, NULL, 22 + BIG + 1), 22 + BIG);
	say(fd, "p", "last word");
	shutdown(fd, SHUT_WR);
	fd2 = dialled();
	CHECK_INT(take(fd2, bytes, n), n);
	CHECK(memcmp(bytes, want, n) == 0);
	UNTIL(told.downs == 1);
	CHECK_STR(heard, "p:last word ");
	CHECK_STR(told.reason, "closed");
	CHECK_INT(told.fate.delivered, 1);
	UNTIL(node_idle(&node));
	CHECK(!was_reset(fd));
	CHECK_INT(peer("p")->out.delivered, 2);
	CHECK(adds_up("p"));
	close(fd);
	close(fd2);
	finish();
}

CASE(who_leaves_is_not_waited_for_for_ever)
{
	int64_t since;
	int fd;

	/* all is acknowledged, but the end does not come: it is only closed */
	start(NULL);
	know("p");
	put("p", "x");
	fd = dialled();
	CHECK_INT(take(fd, NULL, 23), 23);
	since = clock_ms();
	CHECK_INT(node_end(&node, "p", 1), 0);
	UNTIL(told.downs == 1);
	CHECK(clock_ms() - since >= NODE_LEAVE_MS);
	CHECK_STR(told.reason, "closed");
	CHECK_INT(told.fate.delivered, 1);
	CHECK_INT(take(fd, NULL, 1), 0);
	turn(1);
	CHECK(!was_reset(fd));
	close(fd);

	/* a message under way that nobody reads: it has as long as without an end */
	forget();
	small(listener, SO_RCVBUF);
	put_many("p", 1, 8 << 20);
	fd = dialled();
	UNTIL(current("p") && current("p")->blocked);
	node.cfg.user_timeout = NODE_LEAVE_MS + 300; /* the kernel does not know it */
	since = clock_ms();
	node_conn_leave(current("p"), "closed");
	UNTIL(told.downs == 1);
	CHECK(clock_ms() - since >= NODE_LEAVE_MS + 300);
	CHECK_STR(told.reason, "closed");
	CHECK_INT(told.fate.delivered, 0);
	CHECK_INT(told.fate.dropped, 1);
	CHECK(adds_up("p"));
	take(fd, NULL, 16 << 20);
	CHECK_INT(errno, ECONNRESET);
	close(fd);
	finish();
}

CASE(an_end_of_stream_between_frames_is_answered_when_the_message_under_way_is_whole)
{
	enum { BIG = 4 << 20 };
	int fd;

	start(NULL);
	know("p");
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put_many("p", 1, BIG);
	UNTIL(current("p")->blocked);
	put_many("p", 1, BIG);
	shutdown(fd, SHUT_WR);
	UNTIL(!current("p"));
	CHECK_INT(take(fd, NULL, 2 * BIG), 22 + BIG);
	UNTIL(told.downs == 1);
	turn(1);
	CHECK(!was_reset(fd));
	CHECK_STR(told.reason, "done");
	CHECK_INT(told.fate.delivered, 1);
	close(fd);
	fd = dialled();
	CHECK_INT(take(fd, NULL, 22 + BIG), 22 + BIG);
	close(fd);
	finish();
}

CASE(who_ends_and_cannot_be_dialled_gets_all_that_waits_first)
{
	enum { SENT = 8, BIG = 1 << 20 };
	int64_t since;
	size_t first;
	int fd;

	start(NULL);
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put_many("p", SENT, BIG);
	UNTIL(current("p")->blocked);
	shutdown(fd, SHUT_WR);
	UNTIL(!current("p"));
	put_many("p", 1, BIG); /* as who answers a little late */
	CHECK_INT(take(fd, NULL, (SENT + 1) * (22 + BIG) + 1), (SENT + 1) * (22 + BIG));
	UNTIL(told.downs == 1);
	turn(1);
	CHECK(!was_reset(fd));
	CHECK_STR(told.reason, "done");
	CHECK_INT(told.fate.delivered, SENT + 1);
	CHECK_INT(told.fate.dropped + told.fate.unknown, 0);
	close(fd);
	UNTIL(!peer("p"));

	/* if it reads */
	forget();
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put_many("p", SENT, BIG);
	UNTIL(current("p")->blocked);
	shutdown(fd, SHUT_WR);
	node.cfg.user_timeout = NODE_LEAVE_MS + 300; /* the kernel does not know it */
	since = clock_ms();
	UNTIL(told.downs == 1);
	CHECK(clock_ms() - since >= NODE_LEAVE_MS + 300);
	CHECK_STR(told.reason, "done");
	CHECK(strstr(told.why, "acknowledged") != NULL);
	close(fd);

	/* and what is left goes over the next one that comes, once it comes */
	node.cfg.user_timeout = -1;
	forget();
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put_many("p", SENT, BIG);
	UNTIL(current("p")->blocked);
	shutdown(fd, SHUT_WR);
	UNTIL(!current("p"));
	{
		int fd2 = arrive(0);

		say(fd2, "p", "y");
		UNTIL(told.ups == 2);
		first = take(fd, NULL, SENT * (22 + BIG)) / (22 + BIG);
		CHECK(first < SENT); /* what was begun there */
		close(fd);
		CHECK_INT(
		    take(fd2, NULL, (SENT - first) * (22 + BIG)), (SENT - first) * (22 + BIG));
		CHECK_INT(told.fate.delivered, first);
		CHECK_INT(told.fate.dropped + told.fate.unknown, 0);
		close(fd2);
	}
	finish();
}

CASE(who_has_closed_altogether_is_cut)
{
	int fd;

	start(NULL);
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put_many("p", 1, 4 << 20);
	UNTIL(current("p")->blocked);
	take(fd, NULL, lies(fd));
	close(fd);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "reset");
	CHECK_INT(told.fate.delivered, 0);
	CHECK_INT(told.fate.dropped, 1);
	finish();
}

CASE(a_reset_behind_both_ends_of_stream_is_found)
{
	int fd;

	start(NULL);
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put_many("p", 100, 1024);
	UNTIL(peer("p")->out.unwritten == 0);
	shutdown(fd, SHUT_WR);
	UNTIL(!current("p"));
	for (int i = 0; i < 20; i++)
		turn(1);
	CHECK_INT(told.downs, 0); /* both have ended, but not all is acknowledged */
	reset(fd);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "reset");
	CHECK(told.fate.delivered > 0 && told.fate.unknown > 0);
	CHECK_INT(told.fate.delivered + told.fate.unknown, 100);
	finish();
}

CASE(the_next_connection_is_read_and_written_after_the_one_it_replaces)
{
	int64_t since = clock_ms();
	int fd, fd2;

	start(NULL);
	fd = arrive(0);
	ready = false;
	say(fd, "p", "1");
	say(fd, "p", "2");
	UNTIL(current("p") != NULL);
	put("p", "x");
	CHECK_INT(take(fd, NULL, 23), 23);
	fd2 = arrive(0);
	say(fd2, "p", "4");
	say(fd2, "p", "5");
	UNTIL(told.ups == 2);
	CHECK(TAILQ_FIRST(&peer("p")->conns) != current("p"));
	CHECK_INT(take(fd, NULL, 1), 0);
	put("p", "y"); /* whether the first has read all, a full sink cannot know: in a while */
	CHECK(wakes() < 20);
	CHECK_INT(lies(fd2), 0);
	CHECK_INT(take(fd2, NULL, 23), 23);
	CHECK(clock_ms() - since >= NODE_LEAVE_MS);
	CHECK(wakes() < 20);
	say(fd, "p", "3");
	close(fd);
	turn(1);
	CHECK_INT(moves, 0);
	ready = true;
	node_resume(&node);
	UNTIL(moves == 5);
	CHECK_STR(heard, "p:1 p:2 p:3 p:4 p:5 ");
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "replaced");
	CHECK(TAILQ_FIRST(&peer("p")->conns) == current("p"));
	close(fd2);
	finish();
}

CASE(the_next_one_is_written_when_the_old_one_has_all_and_its_end_came)
{
	enum { SENT = 100, EACH = 20 + 2 + 1024 };
	int fd, fd2;

	start(NULL);
	fd = arrive(1);
	say(fd, "p", "1");
	UNTIL(moves == 1);
	put_many("p", SENT, 1024);
	UNTIL(peer("p")->out.unwritten == 0);
	fd2 = arrive(0);
	say(fd2, "p", "2");
	UNTIL(told.ups == 2);
	put("p", "y");
	for (int i = 0; i < 20; i++)
		turn(1);
	CHECK_INT(lies(fd2), 0);
	CHECK_INT(take(fd, NULL, SENT * EACH + 1), SENT * EACH);
	for (int i = 0; i < 20; i++)
		turn(1);
	CHECK_INT(told.downs, 0); /* all was acknowledged, but was it read? */
	CHECK_INT(lies(fd2), 0);
	close(fd);
	CHECK_INT(take(fd2, NULL, 23), 23);
	CHECK_INT(told.downs, 1);
	CHECK_INT(told.fate.delivered, SENT);
	CHECK_INT(told.fate.unknown, 0);
	close(fd2);
	finish();
}

CASE(one_that_is_refused_is_read_to_its_end_first)
{
	int fd, fd2;

	start(NULL);
	know("p");
	put("p", "x");
	fd = dialled(); /* n0 is less than p: ours stays */
	CHECK_INT(take(fd, NULL, 23), 23);
	fd2 = arrive(0);
	say(fd2, "p", "1");
	UNTIL(moves == 1);
	say(fd, "p", "3");
	for (int i = 0; i < 5; i++)
		turn(1);
	CHECK_INT(moves, 1);
	CHECK_INT(take(fd2, NULL, 1), 0);
	say(fd2, "p", "2");
	close(fd2);
	UNTIL(moves == 3);
	CHECK_STR(heard, "p:1 p:2 p:3 ");
	CHECK_STR(told.reason, "duplicate");
	CHECK(current("p")->dialled);
	close(fd);
	finish();
}

/* As slowly as that: 20 ms for each. */
static void
dribble(int fd, const char *bytes, size_t n)
{
	int64_t end = clock_ms() + 20;

	(void)send(fd, bytes, n, MSG_NOSIGNAL);
	while (clock_ms() < end)
		turn(end - clock_ms());
}

static void
turn_for(int64_t ms)
{
	for (int64_t end = clock_ms() + ms; clock_ms() < end;)
		turn(end - clock_ms());
}

CASE(one_that_leaves_and_says_a_byte_now_and_then_keeps_nobody_waiting)
{
	static char bytes[65536], payload[60000];
	size_t n = frame_of(bytes, 1, "p", payload, sizeof(payload)), at = 30;
	int64_t since;
	int fd, fd2;

	start(NULL);
	fd = arrive(0);
	CHECK_INT(send(fd, bytes, at, MSG_NOSIGNAL), at);
	UNTIL(told.ups == 1);
	fd2 = arrive(0);
	say(fd2, "p", "real");
	UNTIL(told.ups == 2);
	since = clock_ms();
	while (moves == 0 && clock_ms() < since + 10000)
		dribble(fd, bytes + at++, 1);
	CHECK_STR(heard, "p:real ");
	CHECK_STR(told.reason, "replaced");
	CHECK(strstr(told.why, "of a frame") != NULL);
	CHECK(was_reset(fd));
	close(fd);

	/* after `close`, too */
	CHECK_INT(send(fd2, bytes, 40, MSG_NOSIGNAL), 40);
	put("p", "x");
	CHECK_INT(node_end(&node, "p", 1), 0);
	CHECK_INT(take(fd2, NULL, 24), 23);
	since = clock_ms();
	for (at = 40; told.downs == 1 && clock_ms() < since + 10000;)
		dribble(fd2, bytes + at++, 1);
	CHECK_STR(told.reason, "closed");
	CHECK_INT(told.fate.delivered, 1);
	close(fd2);

	/* but who goes on saying something is heard to the end */
	forget();
	fd = arrive(0);
	CHECK_INT(send(fd, bytes, 30, MSG_NOSIGNAL), 30);
	UNTIL(told.ups == 1);
	fd2 = arrive(0);
	say(fd2, "p", "real");
	UNTIL(told.ups == 2);
	for (at = 30; at < n; at += 600)
		dribble(fd, bytes + at, n - at < 600 ? n - at : 600);
	UNTIL(moves == 1);
	CHECK_STR(heard, "");
	close(fd);
	UNTIL(moves == 2);
	close(fd2);
	finish();
}

CASE(one_that_leaves_and_says_ever_more_has_an_end_if_another_waits)
{
	char bytes[64];
	size_t n = frame(bytes, "p", "more");
	int fd, fd2;

	start(NULL);
	fd = arrive(0);
	say(fd, "p", "1");
	UNTIL(moves == 1);
	node_conn_leave(current("p"), "closed");
	TAILQ_FIRST(&peer("p")->conns)->left_at -= NODE_FLUSH_MS;
	say(fd, "p", "2");
	UNTIL(moves == 2);
	turn(1);
	CHECK_INT(told.downs, 0); /* nobody waits */
	ready = false;
	say(fd, "p", "3");
	UNTIL(TAILQ_FIRST(&peer("p")->conns)->held);
	fd2 = arrive(0);
	say(fd2, "p", "real");
	UNTIL(told.ups == 2);
	TAILQ_FIRST(&peer("p")->conns)->left_at = clock_ms() - NODE_FLUSH_MS + 500;
	turn_for(1000);
	node_resume(&node);
	turn(0);
	CHECK_INT(told.downs, 0); /* it is we who cannot go on */
	ready = true;
	node_resume(&node);
	UNTIL(moves == 3);
	CHECK_INT(told.downs, 0); /* that time is not counted */
	for (int i = 0; i < 200 && !strstr(heard, "real"); i++)
		dribble(fd, bytes, n);
	CHECK(strstr(heard, "p:1 p:2 p:3 p:more ") != NULL && strstr(heard, "p:real ") != NULL);
	CHECK_INT(told.downs, 1);
	CHECK_STR(told.reason, "closed");
	CHECK(strstr(told.why, "others wait") != NULL);
	CHECK(was_reset(fd));
	close(fd);
	close(fd2);
	finish();
}

CASE(what_was_said_to_one_that_leaves_waits_for_a_sink_that_is_full)
{
	int fd, fd2;

	start(NULL);
	fd = arrive(0);
	ready = false;
	say(fd, "p", "1");
	say(fd, "p", "2");
	UNTIL(current("p") != NULL);
	CHECK_INT(node_end(&node, "p", 1), 0);
	CHECK_INT(take(fd, NULL, 1), 0);
	say(fd, "p", "3");
	fd2 = arrive(0);
	say(fd2, "p", "4");
	UNTIL(told.ups == 2);
	reset(fd2);
	CHECK(wakes() < 20);
	for (int64_t until = clock_ms() + NODE_LEAVE_MS; clock_ms() < until;)
		turn(100);
	node_resume(&node); /* still full */
	CHECK(wakes() < 20);
	CHECK_INT(told.downs, 0);
	CHECK_INT(moves, 0);
	close(fd);
	ready = true;
	node_resume(&node);
	UNTIL(told.downs == 2);
	CHECK_STR(heard, "p:1 p:2 p:3 p:4 ");
	CHECK_STR(told.reason, "reset");
	finish();
}

CASE(two_that_leave_behind_a_full_sink_keep_their_order)
{
	int fd[3];

	start(NULL);
	ready = false;
	for (int i = 0; i < 3; i++) {
		fd[i] = arrive(0);
		say(fd[i], "p", i == 0 ? "1" : i == 1 ? "2" : "3");
		UNTIL(told.ups == (unsigned)i + 1);
	}
	for (int64_t until = clock_ms() + NODE_LEAVE_MS + 300; clock_ms() < until;)
		turn(100);
	CHECK(wakes() < 30);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	ready = true;
	node_resume(&node);
	UNTIL(told.downs == 3);
	CHECK_STR(heard, "p:1 p:2 p:3 ");
	finish();
}

CASE(a_peer_that_does_not_read_wakes_nobody)
{
	int fd;

	start(NULL);
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put_many("p", 1, 8 << 20);
	UNTIL(current("p")->blocked);
	CHECK(wakes() < 20);
	shutdown(fd, SHUT_WR);
	UNTIL(!current("p"));
	CHECK(wakes() < 30); /* every 50 ms at last */
	reset(fd);
	UNTIL(told.downs == 1);
	finish();
}

/* ---- files ---- */

CASE(a_file_that_shrinks_in_mid_send_resets_the_connection)
{
	enum { BIG = 8 << 20 };
	int fd, file;
	char path[64];
	struct range *r;
	struct piece p = { 0 };

	start(NULL);
	file = memfd_create("range", MFD_CLOEXEC);
	CHECK_INT(ftruncate(file, BIG), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	CHECK_INT(range_open(&r, path, 0, -1), 0);
	p.range = r;
	p.len = BIG;
	fd = arrive(1);
	say(fd, "p", "x");
	UNTIL(moves == 1);
	CHECK_INT(node_send(&node, "p", 1, 1, &p, 1), NODE_TAKEN);
	range_free(r);
	UNTIL(current("p")->blocked);
	CHECK_INT(ftruncate(file, 1 << 20), 0);
	CHECK(take(fd, NULL, BIG) < BIG);
	CHECK_INT(errno, ECONNRESET);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "file-shrank");
	CHECK_INT(told.fate.dropped, 1);
	close(fd);
	close(file);
	finish();
}

/* ---- Unix streams ---- */

static int
arrive_unix(void)
{
	int fd[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	CHECK(node_conn_new(&node, fd[0], false) != NULL);
	return fd[1];
}

CASE(what_a_unix_peer_took_along_unread_was_not_delivered)
{
	char bytes[64];
	int fd;

	start(NULL);
	fd = arrive_unix();
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put("p", "one");
	put("p", "two");
	UNTIL(peer("p")->out.unwritten == 0);
	turn(20);
	CHECK_INT(peer("p")->out.delivered, 0);
	CHECK_INT(take(fd, bytes, 25), 25);
	close(fd);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "reset");
	CHECK_INT(told.fate.delivered, 0); /* both were one write, half read */
	CHECK_INT(told.fate.unknown, 2);

	forget();
	fd = arrive_unix();
	say(fd, "p", "x");
	UNTIL(moves == 1);
	put("p", "one");
	CHECK_INT(take(fd, bytes, 25), 25);
	put("p", "two");
	CHECK_INT(take(fd, bytes, 25), 25);
	close(fd);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "done");
	CHECK_INT(told.fate.delivered, 2);
	finish();
}

/* ---- what comes over a link ---- */

static struct hub hub;
static int wire;
static struct note over;

static void
none(struct hub *h)
{
	(void)h;
}

static void
none_greeted(struct hub *h, unsigned n)
{
	(void)h;
	(void)n;
}

static void
none_gone(struct hub *h, const struct name_end *end)
{
	(void)h;
	(void)end;
}

static void
none_over(struct hub *h, int status)
{
	(void)h;
	(void)status;
}

static void
taken(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	node_conn_taken(&node, l, n, fd);
}

static unsigned
room(struct hub *h)
{
	(void)h;
	return node_hub_room(&node);
}

static const struct hub_keeper keeper = {
	.greeted = none_greeted, .gone = none_gone, .stop = none, .close = none
};
static const struct hub_ops hub_says = { .conn = taken, .room = room, .over = none_over };

static void
tell(const struct note *n, int fd)
{
	static char packet[HANDOFF_MAX];
	struct env env = { 0 };
	ssize_t len;
	struct handoff_out out = { .bytes = packet, .fd = fd };

	CHECK_INT(env_set(&env, "CCF_CONN_ID", "node#1"), 0);
	len = note_print(n, fd != -1 ? &env : NULL, packet, sizeof(packet));
	env_free(&env);
	CHECK(len > 0);
	out.len = (size_t)len;
	CHECK_INT(handoff_send(wire, &out, 1), 1);
}

static bool
said(enum note_verb what)
{
	static char bytes[HANDOFF_MAX];
	struct handoff_in in = { .bytes = bytes, .fd = -1 };

	while (over.verb != what && handoff_recv(wire, &in, 1) == 1)
		CHECK_INT(note_parse(&over, in.bytes, (size_t)in.len), 0);
	return over.verb == what;
}

static void
open_link(void)
{
	struct hub_config hc = { .reactor = loop,
		.tool = "test",
		.option = "--from",
		.spec = "-",
		.role = NOTE_CONSUMER,
		.modes = NOTE_TAKE,
		.peer_user = (uid_t)-1,
		.ops = &hub_says };
	int fd[2];

	hub_open_given(&hub, &hc, &keeper, NULL);
	node.hub[node.n_hubs++] = &hub;
	CHECK_INT(handoff_pair(fd), 0);
	wire = fd[1];
	CHECK_INT(hub_take(&hub, fd[0], ""), 0);
	tell(
	    &(struct note){
		.verb = NOTE_HELLO, .version = 1, .role = NOTE_PRODUCER, .tool = "test" },
	    -1);
	for (int i = 0; i < 4; i++)
		turn(0);
	over = (struct note){ 0 };
}

static void
close_link(void)
{
	node.n_hubs = 0;
	hub_close(&hub);
	close(wire);
	turn(0);
}

static int
hand(uint64_t id)
{
	int fd[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd), 0);
	tell(&(struct note){ .verb = NOTE_CONN, .id = id }, fd[0]);
	return fd[1];
}

CASE(the_end_of_a_handed_unix_stream_needs_its_eof_both_ways)
{
	int fd;

	start(NULL);
	open_link();
	fd = hand(1);
	say(fd, "p", "one");
	UNTIL(moves == 1);
	shutdown(fd, SHUT_WR);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "reset");
	UNTIL(said(NOTE_CLOSED));
	CHECK_INT(over.status, CCF_CUT);
	close(fd);

	forget();
	fd = hand(2);
	say(fd, "p", "one");
	UNTIL(moves == 1);
	over = (struct note){ 0 };
	tell(&(struct note){ .verb = NOTE_EOF, .id = 2 }, -1);
	shutdown(fd, SHUT_WR);
	UNTIL(said(NOTE_EOF));
	CHECK_INT(take(fd, NULL, 1), 0);
	close(fd);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "done");
	UNTIL(said(NOTE_CLOSED));
	CHECK_INT(over.status, CCF_OK);
	close_link();
	finish();
}

CASE(what_its_source_withdraws_is_cut)
{
	int fd;

	start(NULL);
	open_link();
	fd = hand(1);
	say(fd, "p", "one");
	UNTIL(moves == 1);
	tell(&(struct note){ .verb = NOTE_CLOSED, .id = 1, .status = CCF_CUT, .reason = "reset" },
	    -1);
	UNTIL(told.downs == 1);
	CHECK_STR(told.reason, "reset");
	CHECK_INT(take(fd, NULL, 1), 0);
	close(fd);
	close_link();
	finish();
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_message_each_way_on_a_connection_that_we_dialled),
	    RUN(a_message_each_way_on_a_connection_that_came),
	    RUN(a_stream_cut_at_every_byte_gives_what_was_whole_and_says_what_was_not),
	    RUN(two_hundred_thousand_messages_each_way_in_order),
	    RUN(a_sender_that_changes_is_a_protocol_error),
	    RUN(our_own_id_is_a_protocol_error),
	    RUN(an_address_that_leads_to_somebody_else_is_found_out),
	    RUN(a_frame_that_is_none_is_a_protocol_error),
	    RUN(the_first_head_has_its_time),
	    RUN(a_reset_tells_delivered_unknown_and_dropped_apart),
	    RUN(what_was_said_before_a_reset_is_delivered),
	    RUN(what_was_said_before_a_reset_waits_for_a_sink_that_is_full),
	    RUN(a_reset_within_a_frame_says_both),
	    RUN(a_peer_that_does_not_read_meets_the_user_timeout),
	    RUN(a_close_finishes_the_message_under_way_and_what_follows_is_dialled_anew),
	    RUN(who_leaves_is_not_waited_for_for_ever),
	    RUN(an_end_of_stream_between_frames_is_answered_when_the_message_under_way_is_whole),
	    RUN(who_ends_and_cannot_be_dialled_gets_all_that_waits_first),
	    RUN(who_has_closed_altogether_is_cut),
	    RUN(a_reset_behind_both_ends_of_stream_is_found),
	    RUN(the_next_connection_is_read_and_written_after_the_one_it_replaces),
	    RUN(the_next_one_is_written_when_the_old_one_has_all_and_its_end_came),
	    RUN(one_that_is_refused_is_read_to_its_end_first),
	    RUN(one_that_leaves_and_says_a_byte_now_and_then_keeps_nobody_waiting),
	    RUN(one_that_leaves_and_says_ever_more_has_an_end_if_another_waits),
	    RUN(what_was_said_to_one_that_leaves_waits_for_a_sink_that_is_full),
	    RUN(two_that_leave_behind_a_full_sink_keep_their_order),
	    RUN(a_peer_that_does_not_read_wakes_nobody),
	    RUN(a_file_that_shrinks_in_mid_send_resets_the_connection),
	    RUN(what_a_unix_peer_took_along_unread_was_not_delivered),
	    RUN(the_end_of_a_handed_unix_stream_needs_its_eof_both_ways),
	    RUN(what_its_source_withdraws_is_cut),
	    { 0 },
	});
}
