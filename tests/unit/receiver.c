/* receiver: real sockets on the loopback, and a loop that is turned by hand.  What the kernel does
 * seldom, the calls below do when they are told to. */
#include "flow/receiver.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "check.h"
#include "flow/echo.h"
#include "net/socket.h"
#include "wire/record.h"

#define WAIT_MS 5000

static int send_room;  /* datagrams until the socket is full; -1: it never is */
static int recv_error; /* of the next call */
static unsigned recv_calls;

int
sendmmsg(int fd, struct mmsghdr *msg, unsigned n, int flags)
{
	long went;

	if (send_room == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (send_room > 0 && n > (unsigned)send_room)
		n = (unsigned)send_room;
	went = syscall(SYS_sendmmsg, fd, msg, n, flags);
	if (send_room > 0 && went > 0)
		send_room -= (int)went;
	return (int)went;
}

int
recvmmsg(int fd, struct mmsghdr *msg, unsigned n, int flags, struct timespec *timeout)
{
	recv_calls++;
	if (recv_error) {
		errno = recv_error;
		recv_error = 0;
		return -1;
	}
	return (int)syscall(SYS_recvmmsg, fd, msg, n, flags, timeout);
}

static struct reactor *loop;
static struct receivers all;
static int base_fds;
static char msg[512];

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

static uint64_t
counted(enum metric id, const char *word)
{
	return metric_get(metrics_here(), id, word);
}

static void
begin(const struct receivers_config *with)
{
	static struct metrics figures;
	struct receivers_config cfg = with ? *with : (struct receivers_config){ 0 };

	send_room = -1;
	recv_error = 0;
	base_fds = open_fds();
	figures = (struct metrics){ 0 };
	metrics_use(&figures);
	log_open("receiver", false);
	log_set_level(LOG_L_ERROR);
	CHECK_INT(reactor_new(&loop), 0);
	cfg.reactor = loop;
	if (!cfg.patience)
		cfg.patience = 60000;
	if (!cfg.take) {
		cfg.take = echo_take;
		cfg.answers_all = true;
	}
	receivers_init(&all, &cfg);
}

static void
finish(void)
{
	receivers_close(&all);
	receivers_close(&all);
	reactor_free(loop);
	CHECK_INT(open_fds(), base_fds);
}

static int
bind_at(const char *text, int family)
{
	struct addr addr;

	msg[0] = '\0';
	CHECK_INT(
	    addr_parse(&addr, text, ADDR_MAY_NAME | ADDR_MAY_FD | ADDR_MAY_UDP, msg, sizeof(msg)),
	    0);
	return receivers_bind(&all, &addr, family, msg, sizeof(msg));
}

static struct receiver *
open_at(const char *text)
{
	struct receiver *r, *last = NULL;

	CHECK_INT(bind_at(text, AF_UNSPEC), 0);
	TAILQ_FOREACH(r, &all.list, link)
		last = r;
	if (!last) {
		printf("Bail out! %s\n", msg);
		exit(1);
	}
	return last;
}

static struct receiver *
open_below(unsigned port)
{
	char text[32];

	do
		snprintf(text, sizeof(text), "127.0.0.1:%u", --port);
	while (bind_at(text, AF_UNSPEC) != 0 && port > 20000);
	return TAILQ_FIRST(&all.list);
}

/* ---- the other side ---- */

static struct sockaddr_any
at(const char *ip, uint16_t port)
{
	struct sockaddr_any a = { 0 };

	if (inet_pton(AF_INET, ip, &a.in.sin_addr) == 1) {
		a.len = sizeof(a.in);
		a.in.sin_family = AF_INET;
		a.in.sin_port = htons(port);
		return a;
	}
	a.len = sizeof(a.in6);
	CHECK_INT(inet_pton(AF_INET6, ip, &a.in6.sin6_addr), 1);
	a.in6.sin6_family = AF_INET6;
	a.in6.sin6_port = htons(port);
	return a;
}

static int
client(const char *ip)
{
	struct sockaddr_any a = at(ip, 0);
	int on = 1, fd = socket(a.sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK_INT(bind(fd, &a.sa, a.len), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &on, sizeof(on));
	return fd;
}

static void
ask(int fd, const struct sockaddr_any *to, const void *bytes, size_t len)
{
	CHECK_INT(sendto(fd, bytes, len, 0, &to->sa, to->len), (long long)len);
}

/* Turns until so many have come in, ever. */
static void
serve(uint64_t n)
{
	int64_t end = clock_ms() + WAIT_MS;

	while (counted(METRIC_DATAGRAMS, "in") < n && clock_ms() < end)
		CHECK_INT(reactor_turn(loop, 10), 0);
	CHECK_INT(counted(METRIC_DATAGRAMS, "in"), n);
}

static void
turns(int n)
{
	while (n-- > 0)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

/* Its length; -1: there is none.  from may be NULL. */
static ssize_t
answer(int fd, void *buf, size_t cap, struct sockaddr_any *from, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct sockaddr_any a = { .len = sizeof(a.ss) };
	ssize_t n;

	if (poll(&p, 1, wait_ms) != 1)
		return -1;
	n = recvfrom(fd, buf, cap, MSG_DONTWAIT, &a.sa, &a.len);
	if (from)
		*from = a;
	return n;
}

static bool
answered(int fd, const char *with)
{
	char buf[256];
	ssize_t n = answer(fd, buf, sizeof(buf), NULL, WAIT_MS);

	return n == (ssize_t)strlen(with) && memcmp(buf, with, (size_t)n) == 0;
}

static bool
silent(int fd)
{
	char c;

	return answer(fd, &c, 1, NULL, 0) == -1;
}

static uint32_t
queued_bytes(int fd)
{
	uint32_t info[SK_MEMINFO_VARS] = { 0 };
	socklen_t len = sizeof(info);

	CHECK_INT(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len), 0);
	return info[SK_MEMINFO_RMEM_ALLOC];
}

/* n datagrams of four bytes, numbered from first, which all wait in r's socket, so far unread, when
 * this returns. */
static void
pile_up(int fd, const struct receiver *r, const struct sockaddr_any *to, uint32_t first, uint32_t n)
{
	uint32_t one = 0, before = queued_bytes(r->fd);
	int64_t end = clock_ms() + WAIT_MS;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t number = first + i;

		ask(fd, to, &number, sizeof(number));
		while (i == 0 && (one = queued_bytes(r->fd) - before) == 0 && clock_ms() < end)
			sched_yield();
	}
	while (queued_bytes(r->fd) - before < n * one && clock_ms() < end)
		sched_yield();
}

/* The answers first to first + n - 1 are there, in that order. */
static bool
numbers(int fd, uint32_t first, uint32_t n)
{
	uint32_t got;

	for (uint32_t i = 0; i < n; i++)
		if (answer(fd, &got, sizeof(got), NULL, WAIT_MS) != sizeof(got) || got != first + i)
			return false;
	return true;
}

/* ---- the echo ---- */

static void
echo_between(const char *listen, const char *to_ip, const char *from_ip)
{
	char from[ADDR_TEXT_MAX], to[ADDR_TEXT_MAX];
	struct sockaddr_any a, peer = { 0 };
	struct receiver *r = open_at(listen);
	int fd = client(from_ip);
	char buf[16];

	receivers_start(&all);
	a = at(to_ip, addr_port(&r->local));
	ask(fd, &a, "hello", 5);
	serve(counted(METRIC_DATAGRAMS, "in") + 1);
	CHECK_INT(answer(fd, buf, sizeof(buf), &peer, WAIT_MS), 5);
	CHECK(memcmp(buf, "hello", 5) == 0);
	CHECK_STR(addr_text(&peer, from, sizeof(from)), addr_text(&a, to, sizeof(to)));
	close(fd);
}

CASE(an_answer_leaves_from_the_address_that_was_asked)
{
	begin(NULL);
	echo_between("127.0.0.1:0", "127.0.0.1", "127.0.0.1");
	echo_between("[::1]:0", "::1", "::1");
	echo_between(":0", "127.0.0.2", "127.0.0.1");
	echo_between(":0", "::1", "::1");
	echo_between("0.0.0.0:0", "127.0.0.3", "127.0.0.1");
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), 5);
	CHECK_INT(counted(METRIC_DATAGRAM_BYTES, "out"), 25);
	CHECK_INT(counted(METRIC_DATAGRAM_BYTES, "in"), 25);
	finish();
}

CASE(an_empty_datagram_is_answered)
{
	struct receiver *r;
	char c;
	int fd;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	ask(fd, &r->local, "", 0);
	serve(1);
	CHECK_INT(answer(fd, &c, 1, NULL, WAIT_MS), 0);
	close(fd);
	finish();
}

/* What a peer's number n is made of can be told from n and the peer. */
static size_t
made_of(char *buf, uint32_t peer, uint32_t n)
{
	static const size_t lengths[] = { 65507, 9000, 1472, 512, 64, 8 };
	uint32_t seed = peer * 2654435761u + n * 40503u;
	size_t len = 8 + seed % lengths[n % 6];

	if (len > 65507)
		len = 65507;
	memset(buf, (int)(seed >> 8), len);
	memcpy(buf, &peer, 4);
	memcpy(buf + 4, &n, 4);
	return len;
}

CASE(three_thousand_datagrams_come_back_whole_and_in_order)
{
	enum { PEERS = 6, EACH = 500, WINDOW = 2 };
	static char want[65536], got[65536];
	struct receivers_config cfg = { .buffer = 4 << 20 };
	uint64_t in = 0;
	struct receiver *r;
	int fd[PEERS];

	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	for (uint32_t p = 0; p < PEERS; p++)
		fd[p] = client("127.0.0.1");
	for (uint32_t n = 0; n < EACH; n += WINDOW) {
		for (uint32_t w = 0; w < WINDOW; w++)
			for (uint32_t p = 0; p < PEERS; p++, in++)
				ask(fd[p], &r->local, want, made_of(want, p, n + w));
		serve(in);
		for (uint32_t p = 0; p < PEERS; p++)
			for (uint32_t w = 0; w < WINDOW; w++) {
				size_t len = made_of(want, p, n + w);

				CHECK_INT(answer(fd[p], got, sizeof(got), NULL, WAIT_MS), len);
				CHECK(memcmp(got, want, len) == 0);
			}
	}
	CHECK_INT(in, PEERS * EACH);
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), in);
	CHECK_INT(counted(METRIC_DATAGRAM_BYTES, "out"), counted(METRIC_DATAGRAM_BYTES, "in"));
	CHECK_INT(counted(METRIC_DROPS, NULL), 0);
	for (uint32_t p = 0; p < PEERS; p++)
		close(fd[p]);
	finish();
}

CASE(a_batch_is_one_call_and_four_are_a_turn)
{
	struct receivers_config cfg = { .buffer = 4 << 20 };
	struct receiver *r;
	int fd;

	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 100);
	recv_calls = 0;
	turns(1);
	CHECK_INT(recv_calls, 2); /* 64, 36: not a third for nothing */
	CHECK_INT(counted(METRIC_DATAGRAMS, "in"), 100);
	CHECK(numbers(fd, 0, 100));
	turns(3);
	CHECK_INT(recv_calls, 2);
	close(fd);
	finish();

	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 600);
	recv_calls = 0;
	turns(1); /* four when it is ready, four again at the end of the turn */
	CHECK_INT(recv_calls, 8);
	CHECK_INT(counted(METRIC_DATAGRAMS, "in"), 512);
	turns(1);
	CHECK_INT(counted(METRIC_DATAGRAMS, "in"), 600);
	CHECK_INT(recv_calls, 10);
	turns(3);
	CHECK_INT(recv_calls, 10);
	close(fd);
	finish();
}

/* ---- what does not come in ---- */

CASE(one_that_is_too_large_is_counted_and_never_echoed_short)
{
	static char big[65527];
	struct receiver *r;
	int fd;

	begin(NULL);
	r = open_at("[::1]:0");
	receivers_start(&all);
	fd = client("::1");
	ask(fd, &r->local, big, sizeof(big));
	ask(fd, &r->local, big, 65508);
	ask(fd, &r->local, big, 65507);
	serve(3);
	CHECK_INT(answer(fd, big, sizeof(big), NULL, WAIT_MS), 65507);
	CHECK(silent(fd));
	CHECK_INT(counted(METRIC_DROPS, "too-large"), 2);
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), 1);
	close(fd);
	finish();
}

static void
admits(const char *allow_text, const char *deny_text, bool one, bool two)
{
	struct cidr allow, deny;
	struct receivers_config cfg = { .allow = &allow,
		.n_allow = allow_text != NULL,
		.deny = &deny,
		.n_deny = deny_text != NULL };
	struct receiver *r;
	int a, b;

	CHECK(!allow_text || cidr_parse(&allow, allow_text) == 0);
	CHECK(!deny_text || cidr_parse(&deny, deny_text) == 0);
	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	a = client("127.0.0.1");
	b = client("127.0.0.2");
	ask(a, &r->local, "a", 1);
	ask(b, &r->local, "b", 1);
	serve(2);
	CHECK(one ? answered(a, "a") : silent(a));
	CHECK(two ? answered(b, "b") : silent(b));
	CHECK_INT(counted(METRIC_DROPS, "denied"), !one + !two);
	close(a);
	close(b);
	finish();
}

CASE(allow_and_deny_say_who_comes_in)
{
	admits(NULL, NULL, true, true);
	admits("127.0.0.1", NULL, true, false);
	admits(NULL, "127.0.0.1", false, true);
	admits("127.0.0.0/8", "127.0.0.2", true, false);
	admits("10.0.0.0/8", NULL, false, false);
}

CASE(what_comes_from_ourselves_is_dropped)
{
	struct sockaddr_any to;
	struct receiver *r, *any, *other;
	int fd;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	any = open_at(":0");
	other = open_at("other=127.0.0.3:0");
	receivers_start(&all);
	ask(r->fd, &r->local, "round", 5);
	serve(1);
	CHECK_INT(counted(METRIC_DROPS, "loop"), 1);
	to = at("::ffff:127.0.0.1", addr_port(&any->local));
	ask(any->fd, &to, "round", 5);
	serve(2);
	to = at("::ffff:127.0.0.2", addr_port(&any->local)); /* from 127.0.0.1 */
	ask(any->fd, &to, "round", 5);
	serve(3);
	to = at("::1", addr_port(&any->local));
	ask(any->fd, &to, "round", 5);
	serve(4);
	CHECK_INT(counted(METRIC_DROPS, "loop"), 4);
	ask(r->fd, &other->local, "round", 5); /* one interface of ours to another */
	serve(5);
	to = at("::ffff:127.0.0.1", addr_port(&r->local)); /* the dual-stack one to it */
	ask(any->fd, &to, "round", 5);
	serve(6);
	CHECK_INT(counted(METRIC_DROPS, "loop"), 6);
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), 0);
	fd = client("127.0.0.1"); /* the same addresses, another port */
	ask(fd, &r->local, "a", 1);
	serve(7);
	CHECK(answered(fd, "a"));
	close(fd);
	finish();
}

static unsigned taken;
static char last_bytes[16];
static size_t last_len;

static void
take_all(void *arg, struct receiver *r, struct datagram *const *d, unsigned n)
{
	(void)r;
	CHECK(arg == &taken);
	CHECK(n >= 1);
	taken += n;
	last_len = d[n - 1]->len;
	if (last_len <= sizeof(last_bytes))
		memcpy(last_bytes, d[n - 1]->bytes, last_len);
}

CASE(what_was_sent_to_many_is_not_taken)
{
	struct receivers_config cfg = { .take = take_all, .arg = &taken };
	struct sockaddr_any to;
	struct receiver *r;
	int fd;

	taken = 0;
	begin(&cfg);
	r = open_at("0.0.0.0:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	to = at("127.255.255.255", addr_port(&r->local));
	ask(fd, &to, "all", 3);
	serve(1);
	CHECK_INT(counted(METRIC_DROPS, "loop"), 1);
	to = at("127.0.0.1", addr_port(&r->local));
	ask(fd, &to, "one", 3);
	serve(2);
	CHECK_INT(taken, 1);
	CHECK_INT(last_len, 3);
	close(fd);
	finish();
}

CASE(what_comes_from_ourselves_is_not_taken_and_an_echo_does_not_answer_a_twin)
{
	struct receivers_config cfg = { .take = take_all, .arg = &taken };
	struct sockaddr_any to;
	struct receiver *r;
	int fd;

	taken = 0;
	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	ask(r->fd, &r->local, "us", 2);
	serve(1);
	CHECK_INT(counted(METRIC_DROPS, "loop"), 1);
	to = at("127.0.0.2", addr_port(&r->local));
	fd = datagram_bind(&to, true);
	ask(fd, &r->local, "?", 1);
	serve(2);
	CHECK_INT(taken, 1);
	(void)open_at("0.0.0.0:0"); /* which sends from every address of ours */
	ask(TAILQ_NEXT(r, link)->fd, &r->local, "us", 2);
	serve(3);
	CHECK_INT(counted(METRIC_DROPS, "loop"), 2);
	CHECK_INT(taken, 1);
	CHECK(!socket_is_here(&(struct sockaddr_any){ .len = sizeof(to.in),
	    .in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0000201) } }));
	close(fd);
	finish();

	begin(NULL);
	r = open_below(32768);
	receivers_start(&all);
	to = at("127.0.0.2", addr_port(&r->local));
	fd = datagram_bind(&to, true);
	ask(fd, &r->local, "?", 1);
	serve(1);
	CHECK_INT(counted(METRIC_DROPS, "loop"), 1);
	CHECK(silent(fd));
	close(fd);
	finish();
}

/* With a UDP header of our own. */
static void
forge(int raw, uint16_t from_port, const struct sockaddr_any *to)
{
	struct sockaddr_any a = *to;
	struct {
		uint16_t from, to, len, sum;
		char bytes[4];
	} udp = { htons(from_port), to->in.sin_port, htons(12), 0, "forg" };

	a.in.sin_port = 0;
	ask(raw, &a, &udp, sizeof(udp));
}

CASE(the_ports_of_those_who_answer_everything_are_not_answered)
{
	static const uint16_t ports[] = { 0, 7, 13, 17, 19, 37 };
	int raw = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_UDP);
	struct receiver *r;

	if (raw < 0)
		SKIP("needs CAP_NET_RAW");
	begin(NULL);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	for (unsigned i = 0; i < 6; i++)
		forge(raw, ports[i], &r->local);
	serve(6);
	CHECK_INT(counted(METRIC_DROPS, "loop"), 6);
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), 0);
	forge(raw, 9, &r->local);
	forge(raw, 64 + 7, &r->local);
	serve(8);
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), 2);
	finish();

	close(raw);
}

static void
limited(const struct rates_config *rate, const char *reason, unsigned first, unsigned second)
{
	struct receivers_config cfg = { .rate = *rate };
	struct receiver *r;
	int a, b;

	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	a = client("127.0.0.1");
	b = client("127.0.0.1");
	pile_up(a, r, &r->local, 0, 20);
	pile_up(b, r, &r->local, 0, 20);
	serve(40); /* one batch, and so one moment */
	CHECK(numbers(a, 0, first));
	CHECK(numbers(b, 0, second));
	CHECK(silent(a) && silent(b));
	CHECK_INT(counted(METRIC_DROPS, reason), 40 - first - second);
	CHECK_INT(counted(METRIC_DROPS, NULL), 40 - first - second);
	close(a);
	close(b);
	finish();
}

CASE(of_a_burst_as_many_as_the_rate_allows_are_answered)
{
	limited(&(struct rates_config){ .peer = 5 }, "rate", 5, 5);
	limited(&(struct rates_config){ .host = 25 }, "rate-host", 20, 5);
	limited(&(struct rates_config){ .all = 7 }, "rate-all", 7, 0);
	limited(&(struct rates_config){ .peer = 1000, .host = 1000, .all = 1000 }, "rate", 20, 20);
}

/* ---- sending ---- */

CASE(a_full_socket_is_not_read_and_what_was_read_goes_out_in_order)
{
	struct receiver *r;
	int fd;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 80);
	send_room = 10;
	recv_calls = 0;
	turns(5);
	CHECK_INT(r->state, RECEIVER_SENDING);
	CHECK_INT(recv_calls, 1);
	CHECK(numbers(fd, 0, 10));
	CHECK(silent(fd));
	send_room = 7;
	turns(5);
	CHECK_INT(r->state, RECEIVER_SENDING);
	CHECK(numbers(fd, 10, 7));
	send_room = -1;
	serve(80);
	CHECK_INT(r->state, RECEIVER_READING);
	CHECK(numbers(fd, 17, 63));
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), 80);
	CHECK_INT(counted(METRIC_DROPS, NULL), 0);
	close(fd);
	finish();
}

CASE(a_socket_that_stays_full_is_not_waited_for)
{
	struct receivers_config cfg = { .patience = 5 };
	struct receiver *r;
	int fd;

	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 3);
	send_room = 1;
	serve(3);
	CHECK_INT(r->state, RECEIVER_SENDING);
	while (r->state == RECEIVER_SENDING)
		CHECK_INT(reactor_turn(loop, -1), 0);
	CHECK_INT(r->state, RECEIVER_READING);
	CHECK_INT(counted(METRIC_DROPS, "send-full"), 2);
	pile_up(fd, r, &r->local, 3, 2);
	send_room = -1;
	serve(5);
	CHECK(numbers(fd, 0, 1));
	CHECK(numbers(fd, 3, 2));
	pile_up(fd, r, &r->local, 5, 5);
	send_room = 0;
	serve(10);
	send_room = 2;
	receivers_let_go(&all); /* at the end */
	CHECK(numbers(fd, 5, 2));
	CHECK_INT(counted(METRIC_DROPS, "send-full"), 5);
	close(fd);
	finish();
}

CASE(what_is_not_to_be_kept_is_dropped_while_the_socket_is_full)
{
	struct datagram d = { .bytes = (char *)"late", .len = 4 }, *list[] = { &d, &d };
	struct receiver *r;
	int fd;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	CHECK_INT(socket_local(fd, &d.peer), 0);
	send_room = 1;
	CHECK_INT(receiver_send(r, list, 2, false), 1);
	CHECK_INT(counted(METRIC_DROPS, "send-full"), 1);
	CHECK_INT(r->state, RECEIVER_READING); /* an echo would wait; others may lose it */
	CHECK(answered(fd, "late"));
	pile_up(fd, r, &r->local, 0, 3);
	turns(1);
	CHECK_INT(r->state, RECEIVER_SENDING);
	send_room = -1;
	CHECK_INT(receiver_send(r, list, 2, false), 0); /* it must not overtake */
	CHECK_INT(counted(METRIC_DROPS, "send-full"), 3);
	turns(1);
	CHECK_INT(r->state, RECEIVER_READING);
	CHECK_INT(receiver_send(r, list, 2, false), 2);
	CHECK(numbers(fd, 0, 3));
	CHECK(answered(fd, "late") && answered(fd, "late"));
	close(fd);
	finish();
}

static void
take_spoiled(void *arg, struct receiver *r, struct datagram *const *d, unsigned n)
{
	(void)arg;
	for (unsigned i = 0; i < n; i += 2)
		d[i]->peer.in.sin_port = 0; /* EINVAL */
	CHECK_INT(receiver_send(r, d, n, true), n / 2);
}

CASE(one_that_cannot_be_sent_keeps_no_other_back)
{
	struct receivers_config cfg = { .take = take_spoiled };
	uint32_t got;
	struct receiver *r;
	int fd;

	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 10);
	serve(10);
	for (uint32_t i = 1; i < 10; i += 2) {
		CHECK_INT(answer(fd, &got, sizeof(got), NULL, WAIT_MS), 4);
		CHECK_INT(got, i);
	}
	CHECK_INT(counted(METRIC_DROPS, "send-failed"), 5);
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), 5);
	CHECK_INT(r->state, RECEIVER_READING);
	close(fd);
	finish();
}

/* ---- ends ---- */

CASE(nothing_is_read_before_the_start_nor_after_the_stop)
{
	struct receiver *r;
	int fd;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 3);
	recv_calls = 0;
	turns(3);
	CHECK_INT(recv_calls, 0);
	CHECK_INT(r->state, RECEIVER_STOPPED);
	receivers_start(&all);
	serve(3);
	CHECK(numbers(fd, 0, 3));
	recv_calls = 0;
	for (uint32_t i = 0; i < 3000; i++) { /* a flood, in the midst of which it is stopped */
		ask(fd, &r->local, &i, sizeof(i));
		if (i == 1000) {
			receivers_stop(&all);
			recv_calls = 0;
		}
		if (i % 50 == 0)
			turns(1);
	}
	CHECK_INT(recv_calls, 0);
	CHECK_INT(r->state, RECEIVER_STOPPED);
	receivers_stop(&all);
	receivers_start(&all); /* it is over */
	turns(1);
	CHECK_INT(recv_calls, 0);
	close(fd);
	finish();
}

CASE(what_was_kept_still_goes_out_after_the_stop)
{
	struct datagram d = { .bytes = (char *)"last", .len = 4 }, *list[] = { &d };
	struct receiver *r;
	int fd;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 64);
	send_room = 4;
	turns(1);
	receivers_stop(&all);
	turns(2);
	CHECK_INT(counted(METRIC_DATAGRAMS, "out"), 4);
	send_room = -1;
	turns(1);
	CHECK(numbers(fd, 0, 64));
	CHECK_INT(r->state, RECEIVER_STOPPED);
	CHECK_INT(socket_local(fd, &d.peer), 0);
	CHECK_INT(receiver_send(r, list, 1, false), 1); /* sends still work */
	CHECK(answered(fd, "last"));
	close(fd);
	finish();
}

static void
take_and_stop(void *arg, struct receiver *r, struct datagram *const *d, unsigned n)
{
	(void)arg;
	(void)d;
	taken += n;
	receivers_stop(r->all);
}

CASE(a_sink_may_stop_it)
{
	struct receivers_config cfg = { .take = take_and_stop };
	struct receiver *r;
	int fd;

	taken = 0;
	begin(&cfg);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 100);
	turns(5);
	CHECK_INT(taken, 64);
	close(fd);
	finish();
}

/* ---- trouble ---- */

CASE(a_failing_receive_is_tried_again_and_does_not_spin)
{
	struct receiver *r;
	int fd;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.1");
	pile_up(fd, r, &r->local, 0, 3);
	recv_error = ENOBUFS;
	recv_calls = 0;
	turns(20);
	CHECK_INT(recv_calls, 1);
	CHECK_INT(r->state, RECEIVER_RESTING);
	serve(3);
	CHECK_INT(recv_calls, 2);
	CHECK_INT(r->state, RECEIVER_READING);
	CHECK(numbers(fd, 0, 3));
	pile_up(fd, r, &r->local, 3, 1);
	recv_error = ENOMEM;
	turns(1);
	receivers_stop(&all); /* while it rests */
	turns(1);
	CHECK_INT(r->state, RECEIVER_STOPPED);
	close(fd);
	finish();
}

CASE(a_socket_that_somebody_shut_down_does_not_spin)
{
	struct receiver *r;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	receivers_start(&all);
	turns(1);
	(void)shutdown(r->fd, SHUT_RDWR); /* ENOTCONN, and done all the same */
	recv_calls = 0;
	turns(20);
	CHECK(recv_calls <= 1);
	finish();
}

CASE(an_error_that_is_nobody_s_datagram_does_not_spin)
{
	struct sockaddr_any gone;
	struct receiver *r;
	int on = 1, fd;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	CHECK_INT(setsockopt(r->fd, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)), 0);
	receivers_start(&all);
	fd = client("127.0.0.1");
	CHECK_INT(socket_local(fd, &gone), 0);
	close(fd);
	ask(r->fd, &gone, "x", 1); /* port unreachable: in its queue of errors, for good */
	recv_calls = 0;
	turns(30);
	CHECK(recv_calls <= 2);
	fd = client("127.0.0.1");
	ask(fd, &r->local, "a", 1);
	serve(1);
	CHECK(answered(fd, "a"));
	recv_calls = 0;
	turns(20);
	CHECK(recv_calls <= 1);
	close(fd);
	finish();
}

CASE(what_the_kernel_lost_is_counted_once)
{
	struct receiver *r;
	struct text t = { 0 };
	int fd, small = 4096;
	uint64_t lost;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	CHECK_INT(setsockopt(r->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	receivers_start(&all);
	fd = client("127.0.0.1");
	for (uint32_t i = 0; i < 500; i++)
		ask(fd, &r->local, &i, sizeof(i));
	turns(5);
	receivers_metrics(&all, &t);
	lost = counted(METRIC_DROPS, "kernel");
	CHECK(lost > 0);
	CHECK_INT(counted(METRIC_DATAGRAMS, "in") + lost, 500);
	CHECK(strstr(t.at, "ccfnet_datagrams_dropped_total{reason=\"kernel\"} ") != NULL);
	CHECK(strstr(t.at, "ccfnet_datagrams_total{direction=\"out\"} ") != NULL);
	CHECK(strstr(t.at, "ccfnet_datagram_bytes_total{direction=\"in\"} ") != NULL);
	receivers_metrics(&all, &t);
	CHECK_INT(counted(METRIC_DROPS, "kernel"), lost);
	text_free(&t);
	close(fd);
	finish();
}

/* ---- what is said ---- */

static char traces[1024];

static void
trace(void *arg, struct receiver *r, const struct datagram *d, const char *what)
{
	size_t n = strlen(traces);

	(void)arg;
	snprintf(traces + n, sizeof(traces) - n, "%.8s %zu %s, ", r->name, d->len, what);
}

CASE(each_datagram_can_be_traced)
{
	struct cidr deny;
	struct receivers_config cfg = {
		.take = echo_take, .answers_all = true, .trace = trace, .deny = &deny, .n_deny = 1
	};
	struct receiver *r;
	int a, b;

	traces[0] = '\0';
	CHECK_INT(cidr_parse(&deny, "127.0.0.2"), 0);
	begin(&cfg);
	r = open_at("x=127.0.0.1:0");
	receivers_start(&all);
	a = client("127.0.0.1");
	b = client("127.0.0.2");
	ask(a, &r->local, "one", 3);
	serve(1);
	ask(b, &r->local, "four", 4);
	serve(2);
	receiver_drop(r, &(struct datagram){ .len = 5 }, "queue-full");
	CHECK_STR(traces, "x 3 in, x 3 out, x 4 denied, x 5 queue-full, ");
	CHECK_INT(counted(METRIC_DROPS, "queue-full"), 1);
	close(a);
	close(b);
	finish();
}

CASE(what_is_dropped_is_said_and_a_flood_is_summed_up)
{
	struct cidr deny;
	struct receivers_config cfg = { .deny = &deny, .n_deny = 1 };
	int memory, own, fd, lines = 0;
	static char text[16384];
	struct receiver *r;

	CHECK_INT(cidr_parse(&deny, "127.0.0.2"), 0);
	begin(&cfg);
	log_set_level(LOG_L_INFO);
	memory = memfd_create("log", MFD_CLOEXEC);
	own = dup(2);
	dup2(memory, 2);
	r = open_at("x=127.0.0.1:0");
	receivers_start(&all);
	fd = client("127.0.0.2");
	pile_up(fd, r, &r->local, 0, 60);
	serve(60);
	(void)log_flush_held(CLOCK_NEVER - 20000);
	dup2(own, 2);
	close(own);
	CHECK(pread(memory, text, sizeof(text) - 1, 0) > 0);
	close(memory);
	CHECK(strstr(text, "receiver: info: x: receiving\n") != NULL);
	CHECK(strstr(text, "receiver: info: 127.0.0.2:") != NULL);
	CHECK(strstr(text, ": x: dropped: not allowed from there (--allow, --deny)\n") != NULL);
	CHECK(strstr(text, " more datagrams denied in 10 s\n") != NULL);
	for (const char *s = text; (s = strstr(s, "dropped:")); s++)
		lines++;
	CHECK(lines <= 10);
	close(fd);
	finish();
}

/* ---- where they come from ---- */

CASE(two_interfaces_answer_for_themselves)
{
	struct receiver *a, *b;
	int one, two;

	begin(NULL);
	a = open_at("a=127.0.0.1:0");
	b = open_at("b=[::1]:0");
	CHECK(receivers_find(&all, "a") == a);
	CHECK(receivers_find(&all, "b") == b);
	CHECK(receivers_find(&all, "c") == NULL);
	receivers_start(&all);
	one = client("127.0.0.1");
	two = client("::1");
	ask(one, &a->local, "to a", 4);
	ask(two, &b->local, "to b", 4);
	serve(2);
	CHECK(answered(one, "to a"));
	CHECK(answered(two, "to b"));
	close(one);
	close(two);
	finish();
}

static bool
said(const char *part)
{
	if (strstr(msg, part))
		return true;
	printf("# said: %s\n", msg);
	return false;
}

CASE(an_address_that_cannot_be_bound_is_said_with_the_reason)
{
	struct receiver *r;
	char text[ADDR_TEXT_MAX + 16];

	begin(NULL);
	r = open_at("127.0.0.1:0");
	snprintf(text, sizeof(text), "x=127.0.0.1:%u", addr_port(&r->local));
	CHECK_INT(bind_at(text, AF_UNSPEC), CCF_BIND);
	CHECK(said("cannot bind 127.0.0.1:"));
	CHECK(said("Address already in use (ss -lunp says by whom)"));
	CHECK_INT(bind_at("192.0.2.77:0", AF_UNSPEC), CCF_BIND);
	CHECK(said("cannot bind 192.0.2.77:0: Cannot assign requested address (it is not an "
		   "address of this host)"));
	CHECK_INT(bind_at("127.0.0.1:no-such-service", AF_UNSPEC), CCF_RESOLVE);
	CHECK(said("cannot resolve the port no-such-service: "));
	CHECK_INT(bind_at("[::1]:7777", AF_INET), CCF_RESOLVE);
	CHECK(said("cannot resolve ::1: "));
	CHECK_INT(bind_at("unix:/tmp/x", AF_UNSPEC), CCF_USAGE);
	CHECK(said("unix:/tmp/x is no UDP address: write HOST:PORT"));
	CHECK_INT(bind_at("fd:1000", AF_UNSPEC), CCF_BIND);
	CHECK(said("cannot use fd:1000: Bad file descriptor"));
	CHECK(r == TAILQ_FIRST(&all.list) && !TAILQ_NEXT(r, link));
	finish();
}

/* :PORT is one socket; it never steps aside to half of the port. */
CASE(every_address_is_one_socket)
{
	char text[16];
	struct receiver *r;

	begin(NULL);
	r = open_at(":0");
	CHECK_INT(r->local.sa.sa_family, AF_INET6);
	finish();

	begin(NULL);
	CHECK_INT(bind_at(":0", AF_INET), 0);
	CHECK_INT(TAILQ_FIRST(&all.list)->local.sa.sa_family, AF_INET);
	r = open_at("[::1]:0");
	snprintf(text, sizeof(text), "x=:%u", addr_port(&r->local));
	CHECK_INT(bind_at(text, AF_UNSPEC), CCF_BIND);
	CHECK(said("(ss -lunp says by whom)"));
	CHECK_INT(bind_at(text, AF_INET6), CCF_BIND);
	CHECK_INT(bind_at(text, AF_INET), 0);
	finish();

	begin(NULL);
	CHECK_INT(bind_at(":0", AF_INET6), 0);
	snprintf(text, sizeof(text), "x=:%u", addr_port(&TAILQ_FIRST(&all.list)->local));
	CHECK_INT(bind_at(text, AF_INET), 0); /* that half is free */
	finish();
}

CASE(a_given_descriptor_is_a_bound_udp_socket_or_told_so)
{
	struct sockaddr_any a = at("127.0.0.1", 0), local;
	char text[32];
	int fd;

	begin(NULL);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(bind(fd, &a.sa, a.len), 0);
	CHECK_INT(listen(fd, 1), 0);
	CHECK_INT(receivers_inherit(&all, fd, "rpc", msg, sizeof(msg)), CCF_USAGE);
	CHECK(said("(rpc) is a listening stream socket, not a UDP one (systemd: ListenDatagram=)"));
	CHECK(said("LISTEN_FDS: descriptor "));
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK_INT(receivers_inherit(&all, fd, "rpc", msg, sizeof(msg)), CCF_USAGE);
	CHECK(said("is a Unix socket, not a UDP one"));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK_INT(receivers_inherit(&all, fd, "rpc", msg, sizeof(msg)), CCF_USAGE);
	CHECK(said("is a UDP socket that is not bound to a port"));
	fd = client("127.0.0.1");
	CHECK_INT(socket_local(fd, &local), 0);
	CHECK_INT(connect(fd, &local.sa, local.len), 0);
	CHECK_INT(receivers_inherit(&all, fd, "rpc", msg, sizeof(msg)), CCF_USAGE);
	CHECK(said("is connected to one peer"));
	fd = memfd_create("file", MFD_CLOEXEC);
	CHECK_INT(receivers_inherit(&all, fd, "rpc", msg, sizeof(msg)), CCF_USAGE);
	CHECK(said("is not a socket"));
	CHECK_INT(receivers_inherit(&all, 1000, "rpc", msg, sizeof(msg)), CCF_USAGE);
	CHECK(said("is not open"));
	CHECK(TAILQ_EMPTY(&all.list));
	CHECK_INT(open_fds(), base_fds + 1); /* all are closed; there is the reactor */
	fd = memfd_create("file", MFD_CLOEXEC);
	snprintf(text, sizeof(text), "x=fd:%d", fd);
	CHECK_INT(bind_at(text, AF_UNSPEC), CCF_BIND);
	close(fd);
	finish();
}

CASE(a_given_socket_is_served)
{
	int given, fd, copy_of;
	char text[32];
	struct sockaddr_any local;

	begin(NULL);
	given = client("127.0.0.1"); /* a blocking one */
	copy_of = client("127.0.0.1");
	fd = client("127.0.0.1");
	CHECK_INT(receivers_inherit(&all, given, "rpc", msg, sizeof(msg)), 0);
	snprintf(text, sizeof(text), "fd:%d", copy_of);
	CHECK(open_at(text)->fd != copy_of);
	CHECK(receivers_find(&all, text) != NULL);
	receivers_start(&all);
	ask(fd, &receivers_find(&all, "rpc")->local, "a", 1);
	serve(1);
	CHECK(answered(fd, "a"));
	CHECK_INT(socket_local(copy_of, &local), 0);
	ask(fd, &local, "b", 1);
	serve(2);
	CHECK(answered(fd, "b"));
	close(fd);
	close(copy_of);
	finish();
}

/* ---- across an exec ---- */

static int
restore(const char *line)
{
	static struct record rec;

	CHECK_INT(record_parse(&rec, line, strlen(line)), (long long)strlen(line));
	return receivers_restore(&all, &rec, msg, sizeof(msg));
}

CASE(a_socket_goes_over_to_the_next_program_with_all_that_waits_in_it)
{
	struct sockaddr_any local;
	struct text t = { 0 };
	struct receiver *r;
	int fd, kept, was;

	begin(NULL);
	r = open_at("127.0.0.1:0");
	snprintf(r->name, sizeof(r->name), "an odd %% name"); /* a supervisor may think of one */
	r->next_id = 12;
	r->caps.accepted = 11;
	r->caps.refused = 3;
	r->caps.peak = 7;
	receivers_start(&all);
	fd = client("127.0.0.1");
	local = r->local;
	receivers_stop(&all);
	pile_up(fd, r, &local, 0, 5);
	CHECK_INT(receivers_save(&all, &t), 0);
	was = r->fd;
	kept = dup(was);
	receivers_close(&all);
	CHECK_INT(dup2(kept, was), was);
	close(kept);

	receivers_init(&all, &all.cfg);
	CHECK_INT(restore(t.at), 0);
	r = receivers_find(&all, "an odd % name");
	CHECK(r != NULL);
	CHECK_INT(r->fd, was);
	CHECK_INT(r->next_id, 12);
	CHECK_INT(r->caps.accepted, 11);
	CHECK_INT(r->caps.refused, 3);
	CHECK_INT(r->caps.peak, 7);
	CHECK_INT(addr_port(&r->local), addr_port(&local));
	CHECK(restore(t.at) != 0);
	CHECK(said("there is one of that name, or with descriptor "));
	receivers_start(&all);
	serve(5);
	CHECK(numbers(fd, 0, 5));
	text_free(&t);
	close(fd);
	finish();
}

CASE(a_line_of_state_that_does_not_hold_is_refused)
{
	static const char more[] = " next_id=1 accepted=1 refused=0 peak=1 lost=0\n";
	char line[256];
	int pipe_ends[2];

	begin(NULL);
	CHECK_INT(pipe(pipe_ends), 0);
	snprintf(line, sizeof(line), "socket fd=1000 name=x%s", more);
	CHECK_INT(restore(line), CCF_USAGE);
	CHECK(said("socket x: descriptor 1000 is not open"));
	snprintf(line, sizeof(line), "socket fd=%d name=x%s", pipe_ends[0], more);
	CHECK_INT(restore(line), CCF_USAGE);
	CHECK(said("is not a socket"));
	CHECK_INT(restore("socket fd=2 name=x next_id=1 accepted=1 refused=0 peak=1 lost=0\n"),
	    CCF_SYSTEM);
	CHECK(said("socket x: fd is missing or out of range"));
	CHECK_INT(restore("socket fd=9 name=x next_id=-1 accepted=1 refused=0 peak=1 lost=0\n"),
	    CCF_SYSTEM);
	CHECK(said("next_id is missing or out of range"));
	CHECK_INT(
	    restore("socket fd=9 name=x next_id=1 accepted=1 refused=0 lost=0\n"), CCF_SYSTEM);
	CHECK(said("peak is missing or out of range"));
	CHECK_INT(
	    restore("socket fd=9 next_id=1 accepted=1 refused=0 peak=1 lost=0\n"), CCF_SYSTEM);
	CHECK(said("it has no name"));
	CHECK(TAILQ_EMPTY(&all.list));
	close(pipe_ends[1]);
	finish();
}

CASE(what_was_never_opened_can_be_closed)
{
	struct receivers none = { 0 };

	receivers_close(&none);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(an_answer_leaves_from_the_address_that_was_asked),
	    RUN(an_empty_datagram_is_answered),
	    RUN(three_thousand_datagrams_come_back_whole_and_in_order),
	    RUN(a_batch_is_one_call_and_four_are_a_turn),
	    RUN(one_that_is_too_large_is_counted_and_never_echoed_short),
	    RUN(allow_and_deny_say_who_comes_in), RUN(what_comes_from_ourselves_is_dropped),
	    RUN(what_was_sent_to_many_is_not_taken),
	    RUN(what_comes_from_ourselves_is_not_taken_and_an_echo_does_not_answer_a_twin),
	    RUN(the_ports_of_those_who_answer_everything_are_not_answered),
	    RUN(of_a_burst_as_many_as_the_rate_allows_are_answered),
	    RUN(a_full_socket_is_not_read_and_what_was_read_goes_out_in_order),
	    RUN(a_socket_that_stays_full_is_not_waited_for),
	    RUN(what_is_not_to_be_kept_is_dropped_while_the_socket_is_full),
	    RUN(one_that_cannot_be_sent_keeps_no_other_back),
	    RUN(nothing_is_read_before_the_start_nor_after_the_stop),
	    RUN(what_was_kept_still_goes_out_after_the_stop), RUN(a_sink_may_stop_it),
	    RUN(a_failing_receive_is_tried_again_and_does_not_spin),
	    RUN(a_socket_that_somebody_shut_down_does_not_spin),
	    RUN(an_error_that_is_nobody_s_datagram_does_not_spin),
	    RUN(what_the_kernel_lost_is_counted_once), RUN(each_datagram_can_be_traced),
	    RUN(what_is_dropped_is_said_and_a_flood_is_summed_up),
	    RUN(two_interfaces_answer_for_themselves),
	    RUN(an_address_that_cannot_be_bound_is_said_with_the_reason),
	    RUN(every_address_is_one_socket),
	    RUN(a_given_descriptor_is_a_bound_udp_socket_or_told_so), RUN(a_given_socket_is_served),
	    RUN(a_socket_goes_over_to_the_next_program_with_all_that_waits_in_it),
	    RUN(a_line_of_state_that_does_not_hold_is_refused),
	    RUN(what_was_never_opened_can_be_closed), { 0 } });
}
