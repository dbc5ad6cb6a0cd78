/* flow/peer_session over real UDP sockets.  The COMMANDs are this program itself, in another role:
 * a shell reads byte by byte, and so never sees a datagram. */
#include "flow/peer_session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "check.h"
#include "flow/peer_session_parts.h"
#include "loop/signals.h"
#include "udp_made.h"
#include "wire/record.h"

/* ---- COMMANDs ---- */

static char word[DATAGRAM_MAX + 1]; /* what was heard last */

static ssize_t
listen_for(void)
{
	ssize_t n = read(0, word, sizeof(word) - 1);

	word[n > 0 ? n : 0] = '\0';
	return n;
}

static void
speak(const char *fmt, long long n)
{
	char text[64];

	if (write(1, text, (size_t)snprintf(text, sizeof(text), fmt, n)) < 0)
		_exit(9);
}

static void
speak_size(size_t len)
{
	static const char zeros[80000];

	if (write(1, zeros, len) < 0)
		_exit(9);
}

/* "10*7": seven datagrams of ten bytes. */
static void
as_talker(void)
{
	while (listen_for() > 0)
		for (long size = atol(word),
			  n = strchr(word, '*') ? atol(strchr(word, '*') + 1) : 0;
		     n > 0; n--)
			speak_size((size_t)size);
}

static void
as_echo(void)
{
	ssize_t n;

	while ((n = listen_for()) > 0)
		if (write(1, word, (size_t)n) < 0)
			_exit(9);
}

static void
as_counter(void)
{
	for (long long n = 1; listen_for() > 0; n++)
		speak("%lld", n);
}

static void
as_env(void)
{
	while (listen_for() > 0) {
		const char *value = getenv(word);

		(void)!write(1, value ? value : "-", value ? strlen(value) : 1);
	}
}

/* Says three things, and exits with what it was told, or dies. */
static void
as_leaver(void)
{
	int status;

	listen_for();
	status = atoi(word);
	speak("one", 0);
	speak_size(0);
	speak("two", 0);
	if (status > 128)
		raise(status - 128);
	_exit(status);
}

/* Closes its socket and stays, perhaps against our will. */
static void
as_closer(void)
{
	listen_for();
	if (*word == 'w') {
		speak("ready", 0);
		listen_for();
	}
	if (*word == 'i')
		signal(SIGTERM, SIG_IGN);
	speak("bye", 0);
	close(0);
	close(1);
	for (;;)
		pause();
}

static void
as_mute(void)
{
	for (;;)
		pause();
}

/* Reads the first, and the others when there will be no more. */
static void
as_last(void)
{
	struct pollfd p = { .fd = 0, .events = POLLRDHUP };
	long long n = 0;

	listen_for();
	speak("ready", 0);
	while (poll(&p, 1, -1) != 1)
		;
	while (listen_for() > 0)
		n++;
	speak("%lld", n);
	listen_for(); /* again the end */
	speak("end", 0);
	_exit(0);
}

/* Exits with a datagram unread. */
static void
as_quitter(void)
{
	struct pollfd p = { .fd = 0, .events = POLLIN };

	listen_for();
	speak("ready", 0);
	while (poll(&p, 1, -1) != 1)
		;
	speak("last", 0);
	_exit(0);
}

/* 150 datagrams, more than two batches, and exits. */
static void
as_many(void)
{
	listen_for();
	for (int i = 0; i < 150; i++)
		speak("%lld", i);
	_exit(0);
}

/* An echo that a TERM does not end. */
static void
as_stubborn(void)
{
	signal(SIGTERM, SIG_IGN);
	as_echo();
	for (;;)
		pause();
}

static void
on_tick(int signo)
{
	(void)signo;
	speak("tick", 0);
}

static void
as_ticker(void)
{
	signal(SIGUSR1, on_tick);
	as_echo();
}

static const struct role {
	const char *name;
	void (*run)(void);
} roles[] = {
	{ "talker", as_talker },
	{ "echo", as_echo },
	{ "counter", as_counter },
	{ "env", as_env },
	{ "leaver", as_leaver },
	{ "closer", as_closer },
	{ "mute", as_mute },
	{ "last", as_last },
	{ "quitter", as_quitter },
	{ "ticker", as_ticker },
	{ "many", as_many },
	{ "stubborn", as_stubborn },
};

static int
command(const char *name)
{
	alarm(60);
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++)
		if (strcmp(roles[i].name, name) == 0) {
			roles[i].run();
			return 0;
		}
	return 2;
}

/* ---- the test ---- */

static struct reactor *loop;
static struct signals signals;
static struct children children;
static struct receivers receivers;
static struct receiver *r;
static struct peer_sessions all;

static unsigned
n_leaving(void)
{
	const struct receiver *one;
	unsigned n = 0;

	TAILQ_FOREACH(one, &receivers.list, link)
		n += one->leaving;
	return n;
}
static struct metrics metrics;
static unsigned idle_calls, descriptors;
static char *argv[] = { "/proc/self/exe", NULL, NULL };
static int log_fd = -1, stderr_was;

static unsigned
open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static const char *
log_text(void)
{
	static char text[1 << 17];
	ssize_t n = pread(log_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static unsigned
logged(const char *what)
{
	unsigned n = 0;

	for (const char *at = log_text(); (at = strstr(at, what)); at++)
		n++;
	return n;
}

static uint64_t
drops(const char *reason)
{
	return metric_get(&metrics, METRIC_DROPS, reason);
}

static void
on_signal(struct signals *s, int signo)
{
	(void)s, (void)signo;
}

static void
on_idle(void *arg)
{
	CHECK(arg == &all);
	idle_calls++;
}

static void
bind_at(const char *address)
{
	struct addr addr;
	char msg[256];

	CHECK_INT(addr_parse(&addr, address, ADDR_MAY_NAME, msg, sizeof(msg)), 0);
	CHECK_INT(receivers_bind(&receivers, &addr, AF_UNSPEC, msg, sizeof(msg)), 0);
}

/* Everything that is not said: as ccf-udpecho has it. */
struct setting {
	const char *address;
	int64_t idle, grace, starts;
	unsigned hard;
	int queue;
	int64_t amplification;
};

static void
begin_with(const char *role, const struct setting *s)
{
	struct receivers_config rc = { .hard = s->hard, .buffer = 1 << 20, .arg = &all };
	struct peer_sessions_config cfg = {
		.children = &children,
		.argv = argv,
		.idle = s->idle ? s->idle : 60000,
		.grace = s->grace,
		.starts = s->starts,
		.queue = s->queue ? s->queue : 128 * 1024,
		.amplification = s->amplification ? s->amplification : 3,
		.receivers = &receivers,
		.idle_now = on_idle,
		.arg = &all,
	};
	struct rlimit found;

	argv[1] = (char *)(uintptr_t)role;
	idle_calls = 0;
	memset(&metrics, 0, sizeof(metrics));
	metrics_use(&metrics);
	CHECK(ftruncate(log_fd, 0) == 0 && lseek(log_fd, 0, SEEK_SET) == 0);
	descriptors = open_descriptors();
	getrlimit(RLIMIT_NOFILE, &found);
	CHECK_INT(reactor_new(&loop), 0);
	CHECK_INT(signals_open(&signals, loop, NULL, 0, on_signal, NULL), 0);
	children_open(&children, &signals, &found);
	rc.reactor = cfg.reactor = loop;
	rc.take = peer_sessions_take;
	receivers_init(&receivers, &rc);
	CHECK_INT(peer_sessions_open(&all, &cfg), 0);
	bind_at(s->address ? s->address : "a=127.0.0.1:0");
	r = TAILQ_FIRST(&receivers.list);
	receivers_start(&receivers);
}

static void
begin(const char *role)
{
	begin_with(role, &(struct setting){ 0 });
}

/* And nothing is left of what there was. */
static void
end(void)
{
	peer_sessions_abandon(&all);
	CHECK(TAILQ_EMPTY(&all.open) && TAILQ_EMPTY(&all.leaving));
	CHECK_INT(all.n_open, 0);
	CHECK_INT(n_leaving(), 0);
	CHECK_INT(children.live, 0);
	for (struct receiver *each = TAILQ_FIRST(&receivers.list); each;
	     each = TAILQ_NEXT(each, link)) {
		CHECK_INT(each->peers.n, 0);
		CHECK_INT(each->caps.open, 0);
	}
	while (!RB_EMPTY(&children.tree)) { /* who does not go of himself */
		struct child *c = RB_ROOT(&children.tree);

		kill(c->pid, SIGKILL);
		reactor_turn(loop, -1);
	}
	CHECK(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
	receivers_close(&receivers);
	signals_close(&signals);
	reactor_free(loop);
	CHECK_INT(open_descriptors(), descriptors);
	metrics_use(&(struct metrics){ 0 });
}

static int
client_to(struct sockaddr_any to)
{
	return udp_client(&to);
}

static int
client(void)
{
	return client_to(r->local);
}

static void
say_bytes(int fd, const void *bytes, size_t len)
{
	CHECK_INT(send(fd, bytes, len, 0), len);
}

static void
say(int fd, const char *text)
{
	say_bytes(fd, text, strlen(text));
}

static char heard[DATAGRAM_MAX + 1];

/* The next datagram for fd; how long it is. */
static ssize_t
hear(int fd)
{
	ssize_t n;

	while ((n = recv(fd, heard, sizeof(heard) - 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
		reactor_turn(loop, -1);
	heard[n > 0 ? n : 0] = '\0';
	return n;
}

static bool
hears_nothing(int fd)
{
	return recv(fd, heard, sizeof(heard), MSG_DONTWAIT) == -1 && errno == EAGAIN;
}

static const char *
ask(int fd, const char *text)
{
	say(fd, text);
	hear(fd);
	return heard;
}

#define UNTIL(x)                                                                                   \
	while (!(x))                                                                               \
	reactor_turn(loop, -1)

/* ---- what passes ---- */

CASE(each_peer_has_a_command_of_its_own)
{
	int a, b;

	begin("counter");
	a = client(), b = client();
	CHECK_STR(ask(a, "x"), "1");
	CHECK_STR(ask(a, "x"), "2");
	CHECK_STR(ask(b, "x"), "1");
	CHECK_STR(ask(a, "x"), "3");
	CHECK_STR(ask(b, "x"), "2");
	CHECK_INT(all.n_open, 2);
	CHECK_INT(r->peers.n, 2);
	CHECK_INT(r->caps.open, 2);
	CHECK_INT(children.live, 2);
	CHECK_INT(metric_get(&metrics, METRIC_TAKEN, NULL), 2);
	CHECK_INT(metric_get(&metrics, METRIC_LIVE, NULL), 2);
	CHECK_INT(metric_get(&metrics, METRIC_COMMANDS, "ok"), 2);
	CHECK_INT(logged(": session\n"), 2);
	CHECK_INT(logged("a#1 127.0.0.1:"), 1);
	CHECK_INT(logged("a#2 127.0.0.1:"), 1);
	close(a), close(b);
	end();
}

CASE(a_command_finds_the_environment_of_its_session)
{
	char port[16];
	struct sockaddr_any me = { .len = sizeof(me.ss) };
	int a;

	begin("env");
	all.cfg.id_prefix = "p";
	setenv("TCPREMOTEIP", "planted", 1);
	a = client();
	getsockname(a, &me.sa, &me.len);
	CHECK_STR(ask(a, "PROTO"), "UDP");
	CHECK_STR(ask(a, "UDPLOCALIP"), "127.0.0.1");
	snprintf(port, sizeof(port), "%u", addr_port(&r->local));
	CHECK_STR(ask(a, "UDPLOCALPORT"), port);
	CHECK_STR(ask(a, "UDPREMOTEIP"), "127.0.0.1");
	snprintf(port, sizeof(port), "%u", addr_port(&me));
	CHECK_STR(ask(a, "UDPREMOTEPORT"), port);
	CHECK_STR(ask(a, "CCF_INTERFACE"), "a");
	CHECK_STR(ask(a, "CCF_CONN_ID"), "p/a#1");
	ask(a, "CCF_ACCEPTED");
	CHECK(atoll(heard) <= clock_ms() && atoll(heard) > clock_ms() - 60000);
	CHECK_STR(ask(a, "TCPREMOTEIP"), "-");
	unsetenv("TCPREMOTEIP");
	close(a);
	end();
}

/* The clients are connected: they hear nothing that comes from elsewhere. */
CASE(an_answer_leaves_from_the_address_that_was_asked)
{
	struct sockaddr_any to = { .len = sizeof(to.in) };
	int a, b;

	begin_with("env", &(struct setting){ .address = "a=0.0.0.0:0" });
	to.in = r->local.in;
	to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a = client_to(to);
	to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
	b = client_to(to);
	CHECK_STR(ask(a, "UDPLOCALIP"), "127.0.0.1");
	CHECK_STR(ask(b, "UDPLOCALIP"), "127.0.0.2");
	CHECK_INT(all.n_open, 2);
	close(a), close(b);
	end();
}

CASE(an_ipv4_peer_of_a_dual_stack_socket_is_written_as_ipv4)
{
	struct sockaddr_any to = { .len = sizeof(to.in) };
	int a;

	begin_with("env", &(struct setting){ .address = "a=:0" });
	to.in.sin_family = AF_INET;
	to.in.sin_port = htons(addr_port(&r->local));
	to.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a = client_to(to);
	CHECK_STR(ask(a, "UDPLOCALIP"), "127.0.0.1");
	CHECK_STR(ask(a, "UDPREMOTEIP"), "127.0.0.1");
	close(a);
	if (r->local.sa.sa_family == AF_INET6) {
		to = r->local;
		to.in6.sin6_addr = in6addr_loopback;
		a = client_to(to);
		CHECK_STR(ask(a, "UDPLOCALIP"), "::1");
		CHECK_STR(ask(a, "UDPREMOTEIP"), "::1");
		close(a);
	}
	end();
}

CASE(datagrams_of_any_size_stay_whole)
{
	static const size_t size[] = { 1, 2, 511, 1400, 9000, 65506, 65507 };
	static char bytes[DATAGRAM_MAX];
	int a;

	begin("echo");
	a = client();
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + i / 251);
	for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
		say_bytes(a, bytes, size[i]);
		CHECK_INT(hear(a), size[i]);
		CHECK(memcmp(heard, bytes, size[i]) == 0);
	}
	CHECK_INT(metric_get(&metrics, METRIC_DROPS, NULL), 0);
	close(a);
	end();
}

CASE(a_batch_of_several_peers_is_taken_apart)
{
	int fd[3], n = 0;

	begin_with("counter", &(struct setting){ .amplification = -1 });
	for (int i = 0; i < 3; i++)
		fd[i] = client();
	for (int k = 0; k < 5; k++) /* before the loop turns: one batch */
		for (int i = 0; i < 3; i++)
			for (int again = 0; again <= i; again++)
				say(fd[i], "x");
	for (int i = 0; i < 3; i++)
		for (int k = 1; k <= 5 * (i + 1); k++, n++) {
			hear(fd[i]);
			CHECK_INT(atoi(heard), k);
		}
	CHECK_INT(n, 30);
	CHECK_INT(all.n_open, 3);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	end();
}

CASE(empty_datagrams_of_a_peer_are_counted_and_not_delivered)
{
	int a;

	begin("counter");
	a = client();
	say(a, "");
	UNTIL(drops("empty") == 1);
	CHECK_INT(all.n_open, 0);
	CHECK_INT(children.live, 0);
	CHECK_STR(ask(a, "x"), "1");
	say(a, "y"); /* in one batch, between others */
	say(a, "");
	CHECK_STR(ask(a, "z"), "2");
	CHECK_INT(hear(a), 1);
	CHECK_STR(heard, "3");
	CHECK_INT(drops("empty"), 2);
	CHECK_INT(all.n_open, 1);
	close(a);
	end();
}

CASE(empty_datagrams_of_a_command_are_sent)
{
	int a;

	begin("talker");
	a = client();
	say(a, "0*3");
	for (int i = 0; i < 3; i++)
		CHECK_INT(hear(a), 0);
	say(a, "5*1");
	CHECK_INT(hear(a), 5);
	CHECK_INT(all.n_open, 1);
	close(a);
	end();
}

CASE(what_a_command_says_that_is_too_large_is_dropped)
{
	int a;

	begin_with("talker", &(struct setting){ .amplification = -1 });
	a = client();
	say(a, "65508*1");
	UNTIL(drops("too-large") == 1);
	say(a, "70000*1");
	UNTIL(drops("too-large") == 2);
	say(a, "65507*1");
	CHECK_INT(hear(a), 65507);
	CHECK_INT(all.n_open, 1);
	close(a);
	end();
}

CASE(the_queue_of_a_command_that_does_not_read_is_bounded)
{
	static char bytes[1000];
	struct text rows = { 0 };
	int a, b, n = 0;
	unsigned long long held;

	begin_with("mute", &(struct setting){ .hard = 2 });
	a = client(), b = client();
	while (drops("queue-full") < 100) {
		say_bytes(a, bytes, sizeof(bytes));
		reactor_turn(loop, 0);
		n++;
	}
	CHECK(n > 100 + 32 && n < 100 + 128 * 1024 / 1000);
	for (int i = 0; i < 10; i++)
		say(a, "x");
	say(b, "x"); /* another's is his own */
	UNTIL(all.n_open == 2);
	CHECK_INT(drops("queue-full"), 110);
	peer_sessions_rows(&all, &rows);
	CHECK(sscanf(strstr(rows.at, "\"held\":"), "\"held\":%llu", &held) == 1);
	CHECK(held >= 128 * 1024 && held < 128 * 1024 + 4096);
	text_free(&rows);
	close(a), close(b);
	end();
}

/* ---- amplification ---- */

CASE(until_a_peer_has_shown_itself_it_gets_three_bytes_for_one)
{
	int a;

	begin("talker");
	a = client();
	say(a, "5*7"); /* 3 in: 9 out, which is one */
	CHECK_INT(hear(a), 5);
	UNTIL(drops("amplification") == 6);
	CHECK(hears_nothing(a));
	CHECK_INT(logged("5 bytes dropped: 3 in and 5 out"), 6);
	CHECK_INT(logged("(--amplification)"), 6);
	say(a, "5*7"); /* after an answer: it gets them */
	for (int i = 0; i < 7; i++)
		CHECK_INT(hear(a), 5);
	say(a, "60000*1");
	CHECK_INT(hear(a), 60000);
	CHECK_INT(drops("amplification"), 6);
	close(a);
	end();
}

CASE(exactly_three_times_is_not_above_it)
{
	int a, b;

	begin("talker");
	a = client(), b = client();
	say(a, "9*1");
	CHECK_INT(hear(a), 9);
	say(b, "10*1");
	CHECK_INT(hear(b), 10);
	say(b, "1*3");
	for (int i = 0; i < 3; i++)
		CHECK_INT(hear(b), 1);
	CHECK_INT(drops("amplification"), 0);
	close(a), close(b);
	end();
}

CASE(an_empty_answer_counts_as_a_byte)
{
	int a;

	begin("talker");
	a = client();
	say(a, "0*20"); /* 4 in: 12 out */
	for (int i = 0; i < 12; i++)
		CHECK_INT(hear(a), 0);
	UNTIL(drops("amplification") == 8);
	CHECK(hears_nothing(a));
	say(a, "0*20");
	for (int i = 0; i < 20; i++)
		CHECK_INT(hear(a), 0);
	CHECK_INT(drops("amplification"), 8);
	close(a);
	end();
}

CASE(a_second_datagram_before_any_answer_shows_nothing)
{
	int a;

	begin("talker");
	a = client();
	say(a, "10*1"); /* 4 in: 12 out; then 8 in: 24 out, 10 of them gone */
	say(a, "13*1");
	say(a, "2*1 ");
	CHECK_INT(hear(a), 10);
	CHECK_INT(hear(a), 13);
	CHECK_INT(hear(a), 2);
	close(a);
	a = client();
	say(a, "99*1");
	UNTIL(drops("amplification") == 1);
	say(a, "99*1"); /* nothing was sent yet */
	UNTIL(drops("amplification") == 2);
	say(a, "0*1"); /* an empty answer is one too */
	CHECK_INT(hear(a), 0);
	say(a, "99*1");
	CHECK_INT(hear(a), 99);
	close(a);
	end();
}

CASE(without_a_limit_it_gets_all)
{
	int a;

	begin_with("talker", &(struct setting){ .amplification = -1 });
	a = client();
	say(a, "60000*2");
	CHECK_INT(hear(a), 60000);
	CHECK_INT(hear(a), 60000);
	close(a);
	end();
}

/* ---- ends ---- */

static void
until_exited(const struct peer_session *session)
{
	siginfo_t info;

	CHECK(waitid(P_PID, (id_t)session->child.pid, &info, WEXITED | WNOWAIT) == 0);
}

/* What the peer of that client sends next. */
static struct datagram
datagram_of(int fd, const char *text)
{
	struct datagram d = { .bytes = (char *)(uintptr_t)text, .len = strlen(text) };

	d.peer.len = sizeof(d.peer.ss);
	CHECK(getsockname(fd, &d.peer.sa, &d.peer.len) == 0);
	return d;
}

CASE(a_command_that_exits_is_heard_out_and_its_slot_is_free)
{
	int a;

	begin("leaver");
	a = client();
	say(a, "3    ");
	hear(a);
	CHECK_STR(heard, "one");
	CHECK_INT(hear(a), 0);
	hear(a);
	CHECK_STR(heard, "two");
	UNTIL(children.live == 0);
	CHECK(hears_nothing(a)); /* its end is no datagram */
	CHECK_INT(all.n_open, 0);
	CHECK_INT(n_leaving(), 0);
	CHECK(TAILQ_EMPTY(&all.leaving));
	CHECK_INT(r->peers.n, 0);
	CHECK_INT(r->caps.open, 0);
	CHECK_INT(logged("closed: exited, by inner, 5 bytes in, 6 out"), 1);
	CHECK_INT(logged(", status 3"), 1);
	CHECK_INT(metric_get(&metrics, METRIC_CLOSED, "exited"), 1);
	CHECK_INT(metric_get(&metrics, METRIC_BYTES, "in"), 5);
	CHECK_INT(metric_get(&metrics, METRIC_BYTES, "out"), 6);
	CHECK_INT(metric_get(&metrics, METRIC_LIVE, NULL), 0);
	CHECK_STR(ask(a, "137"), "one");
	UNTIL(children.live == 0);
	CHECK_INT(logged("a#2 127.0.0.1:"), 2);
	CHECK_INT(logged("closed: killed, by inner"), 1);
	CHECK_INT(logged(", status 137"), 1);
	close(a);
	end();
}

/* Whichever of the two is seen first: here it is the exit. */
CASE(an_exit_that_is_seen_first_is_heard_out_too)
{
	int a;

	begin("leaver");
	a = client();
	say(a, "0    ");
	UNTIL(all.n_open == 1);
	until_exited(TAILQ_FIRST(&all.open));
	children_reap(&children);
	CHECK_INT(all.n_open, 0);
	CHECK_INT(hear(a), 3);
	CHECK_INT(hear(a), 0);
	CHECK_INT(hear(a), 3);
	CHECK_INT(logged("closed: exited"), 1);
	close(a);
	end();
}

CASE(an_exit_with_something_unread_is_heard_out_too)
{
	struct datagram d, *list[] = { &d };
	int a;

	begin_with("quitter", &(struct setting){ .amplification = -1 });
	a = client();
	CHECK_STR(ask(a, "x"), "ready");
	d = datagram_of(a, "y");
	peer_sessions_take(&all, r, list, 1);
	until_exited(TAILQ_FIRST(&all.open));
	hear(a);
	CHECK_STR(heard, "last");
	UNTIL(children.live == 0);
	CHECK_INT(logged("closed: exited, by inner, 2 bytes in, 9 out"), 1);
	close(a);
	end();
}

CASE(much_that_was_said_before_an_exit_is_all_heard)
{
	int a;

	begin_with("many", &(struct setting){ .amplification = -1 });
	a = client();
	say(a, "x");
	UNTIL(all.n_open == 1);
	until_exited(TAILQ_FIRST(&all.open));
	children_reap(&children);
	CHECK_INT(children.live, 0);
	for (int i = 0; i < 150; i++) {
		hear(a);
		CHECK_INT(atoi(heard), i);
	}
	close(a);
	end();
}

CASE(what_comes_for_a_command_that_is_just_gone_begins_a_new_session)
{
	struct datagram d, *list[] = { &d };
	int a;

	begin("leaver");
	a = client();
	d = datagram_of(a, "0    ");
	say(a, "0    ");
	UNTIL(all.n_open == 1);
	until_exited(TAILQ_FIRST(&all.open));
	peer_sessions_take(&all, r, list, 1);
	CHECK_INT(all.n_open, 1);
	CHECK_STR(TAILQ_FIRST(&all.open)->tell.conn, "a#2");
	for (int i = 0; i < 6; i++)
		CHECK_INT(hear(a), i % 3 == 1 ? 0 : 3);
	UNTIL(children.live == 0);
	CHECK_INT(logged("closed: exited"), 2);
	CHECK_INT(metric_get(&metrics, METRIC_DROPS, NULL), 0);
	close(a);
	end();
}

CASE(a_command_that_closes_its_socket_is_over_and_asked_to_go)
{
	int a, b;

	begin_with("closer", &(struct setting){ .hard = 1, .grace = 150 });
	a = client(), b = client();
	CHECK_STR(ask(a, "x"), "bye");
	UNTIL(all.n_open == 0);
	CHECK_INT(children.live, 1); /* the slot is free, the process is there */
	CHECK_INT(r->caps.open, 0);
	CHECK_INT(logged("closed:"), 0);
	CHECK_STR(ask(b, "ignores TERM"), "bye");
	UNTIL(n_leaving() >= 1);
	CHECK_INT(logged("closed: closed, by inner, 1 bytes in, 3 out"), 1);
	UNTIL(children.live == 1); /* a TERM was enough for the first */
	UNTIL(children.live == 0);
	CHECK_INT(logged("closed: closed, by inner"), 2);
	CHECK_INT(logged("closed:"), 2);
	CHECK_INT(metric_get(&metrics, METRIC_CLOSED, "closed"), 2);
	close(a), close(b);
	end();
}

/* Not before all of them are up: a COMMAND may take longer to start than a test should last. */
static void
idle_is(int64_t ms)
{
	all.cfg.idle = ms;
	peer_sessions_arm(&all);
}

/* One turn, in which the peer is heard: what has come is taken before deadlines are looked at. */
static void
keep_alive(int fd)
{
	say(fd, "x");
	reactor_turn(loop, 10);
}

CASE(who_is_silent_for_too_long_is_over)
{
	int a, b;

	begin("counter");
	a = client(), b = client();
	ask(a, "x");
	ask(b, "x");
	idle_is(100);
	while (all.n_open == 2) /* b says nothing more */
		keep_alive(a);
	CHECK_INT(logged("closed: idle, by us, 1 bytes in, 1 out"), 1);
	CHECK_INT(r->peers.n, 1);
	idle_is(60000);
	CHECK_STR(ask(b, "x"), "1"); /* somebody else */
	CHECK_INT(logged("a#3 127.0.0.1:"), 1);
	idle_is(1);
	UNTIL(all.n_open == 0);
	UNTIL(children.live == 0);
	CHECK_INT(metric_get(&metrics, METRIC_CLOSED, "idle"), 3);
	CHECK_INT(n_leaving(), 0);
	close(a), close(b);
	end();
}

CASE(a_peer_that_speaks_is_not_the_oldest)
{
	struct peer_session *first;
	int a, b;

	begin("mute");
	a = client(), b = client();
	say(a, "x");
	UNTIL(all.n_open == 1);
	first = TAILQ_FIRST(&all.open);
	say(b, "x");
	UNTIL(all.n_open == 2);
	CHECK(peers_oldest(&r->peers) == &first->peer);
	say(a, "");
	UNTIL(drops("empty") == 1);
	CHECK(peers_oldest(&r->peers) != &first->peer);
	close(a), close(b);
	end();
}

CASE(what_a_command_says_counts_too)
{
	struct peer_session *first;
	int a, b;

	begin_with("ticker", &(struct setting){ .amplification = -1 });
	a = client(), b = client();
	ask(a, "x");
	first = TAILQ_FIRST(&all.open);
	ask(b, "x");
	CHECK(peers_oldest(&r->peers) == &first->peer);
	kill(first->child.pid, SIGUSR1);
	hear(a);
	CHECK_STR(heard, "tick");
	CHECK(peers_oldest(&r->peers) != &first->peer);
	CHECK(first->peer.seen >= peers_oldest(&r->peers)->seen);
	close(a), close(b);
	end();
}

CASE(who_is_idle_at_an_interface_of_many_is_found)
{
	struct sockaddr_any to;
	int a, b;

	begin("counter");
	bind_at("b=127.0.0.1:0");
	receivers_start(&receivers);
	to = TAILQ_NEXT(r, link)->local;
	a = client(), b = client_to(to);
	CHECK_STR(ask(b, "x"), "1");
	CHECK_STR(ask(a, "x"), "1");
	idle_is(100);
	while (all.n_open == 2)
		keep_alive(a);
	CHECK_INT(TAILQ_NEXT(r, link)->peers.n, 0);
	CHECK_INT(r->peers.n, 1);
	UNTIL(all.n_open == 0);
	UNTIL(children.live == 0);
	CHECK_INT(logged("b#1 127.0.0.1:"), 2);
	close(a), close(b);
	end();
}

CASE(a_command_that_does_not_go_is_pressed)
{
	int a;

	begin_with("mute", &(struct setting){ .idle = 30, .grace = 30 });
	a = client();
	say(a, "x");
	UNTIL(n_leaving() == 1);
	CHECK_INT(children.live, 1);
	UNTIL(children.live == 0);
	close(a);
	end();
}

CASE(one_can_be_cut)
{
	int a, b;

	begin_with("mute", &(struct setting){ .grace = 60000 });
	a = client(), b = client();
	say(a, "x");
	UNTIL(all.n_open == 1);
	say(b, "x");
	UNTIL(all.n_open == 2);
	CHECK(!peer_sessions_cut(&all, "a#3"));
	CHECK(!peer_sessions_cut(&all, ""));
	CHECK(peer_sessions_cut(&all, "a#1"));
	CHECK(!peer_sessions_cut(&all, "a#1"));
	CHECK_INT(all.n_open, 1);
	CHECK_INT(logged("closed: control, by us"), 1);
	UNTIL(children.live == 1); /* by TERM, at once */
	CHECK_INT(n_leaving(), 0);
	close(a), close(b);
	end();
}

/* ---- admission ---- */

CASE(at_the_cap_a_newcomer_is_dropped_with_one_line)
{
	int fd[4];

	begin_with("leaver", &(struct setting){ .hard = 1 });
	argv[1] = "counter";
	for (int i = 0; i < 4; i++)
		fd[i] = client();
	CHECK_STR(ask(fd[0], "x"), "1");
	say(fd[1], "x");
	say(fd[2], "x");
	say(fd[1], "x");
	UNTIL(drops("hard-cap") == 3);
	CHECK_STR(ask(fd[0], "x"), "2");
	CHECK_INT(
	    logged("a: dropped: at the hard cap of 1 sessions (--max-open-sessions-hard)"), 1);
	CHECK_INT(r->caps.refused, 3);
	CHECK_INT(metric_get(&metrics, METRIC_REFUSED, "hard-cap"), 3);
	CHECK_INT(r->caps.peak, 1);
	CHECK_INT(children.live, 1);
	CHECK(peer_sessions_cut(&all, "a#1"));
	UNTIL(children.live == 0);
	CHECK_STR(ask(fd[1], "x"), "1"); /* as peer 2, and a new episode */
	CHECK_INT(logged("a#2 127.0.0.1:"), 1);
	say(fd[3], "x");
	UNTIL(drops("hard-cap") == 4);
	CHECK_INT(logged("at the hard cap of 1"), 2);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	end();
}

CASE(commands_that_do_not_go_count_for_newcomers)
{
	int a, b;

	begin_with("closer", &(struct setting){ .hard = 1, .grace = 400 });
	a = client(), b = client();
	CHECK_STR(ask(a, "ignores TERM"), "bye");
	UNTIL(n_leaving() == 1);
	say(b, "x");
	UNTIL(drops("hard-cap") == 1);
	CHECK_INT(all.n_open, 0);
	CHECK_INT(logged("the COMMANDs of 1 sessions that are over have not exited"), 1);
	CHECK_INT(r->caps.refused, 1);
	UNTIL(children.live == 0);
	argv[1] = "echo";
	CHECK_STR(ask(b, "x"), "x");
	say(a, "x");
	UNTIL(drops("hard-cap") == 2);
	CHECK_INT(logged("at the hard cap of 1"), 1); /* another episode */
	close(a), close(b);
	end();
}

CASE(commands_that_have_just_closed_their_sockets_are_not_many)
{
	enum { ASKED = 30 };
	unsigned begun = 0, most = 0;
	struct receiver *b;
	int fd;

	begin_with("closer", &(struct setting){ .hard = 2, .grace = 60000 });
	bind_at("b=127.0.0.1:0");
	b = TAILQ_NEXT(r, link);
	receivers_start(&receivers);
	for (unsigned i = 0; i < ASKED; i++) {
		fd = client();
		say(fd, "ignores TERM");
		UNTIL(r->closing + r->leaving > begun || drops("hard-cap") == i - begun + 1);
		begun = r->closing + r->leaving;
		most = begun > most ? begun : most;
		close(fd);
	}
	CHECK_INT(drops("hard-cap"), ASKED - begun);
	CHECK(most >= 2 && most <= 2 + 16); /* when we are slow, fewer */
	fd = client_to(b->local);	    /* another interface's are its own */
	CHECK_STR(ask(fd, "x"), "bye");
	CHECK_INT(b->caps.refused, 0);
	close(fd);
	end();
}

CASE(of_many_newcomers_as_many_as_the_rate_allows_get_a_session)
{
	enum { ASKED = 20 };
	int fd[ASKED];

	begin_with("counter", &(struct setting){ .starts = 3 });
	for (int i = 0; i < ASKED; i++)
		fd[i] = client();
	CHECK_STR(ask(fd[0], "x"), "1");
	for (int i = 1; i < ASKED; i++)
		say(fd[i], "x");
	CHECK_STR(ask(fd[0], "x"), "2");
	CHECK(all.n_open >= 3 && all.n_open < 10);
	CHECK_INT(drops("rate-sessions"), ASKED - all.n_open);
	CHECK(logged("a: dropped: above --rate-sessions") > 0);
	for (int i = 0; i < ASKED; i++)
		close(fd[i]);
	end();
}

CASE(an_episode_ends_with_a_session_though_its_command_stays)
{
	int fd[4];

	begin_with("stubborn", &(struct setting){ .hard = 2 });
	for (int i = 0; i < 4; i++)
		fd[i] = client();
	ask(fd[0], "x");
	ask(fd[1], "x");
	say(fd[2], "x");
	UNTIL(drops("hard-cap") == 1);
	CHECK(peer_sessions_cut(&all, "a#1"));
	CHECK_STR(ask(fd[2], "x"), "x");
	say(fd[3], "x");
	UNTIL(drops("hard-cap") == 2);
	CHECK_INT(n_leaving(), 1);
	CHECK_INT(logged("at the hard cap of 2"), 2);
	for (int i = 0; i < 4; i++)
		close(fd[i]);
	end();
}

CASE(a_flood_of_forged_peers_costs_a_bounded_table)
{
	enum { PEERS = 5000 };
	struct datagram d = { .bytes = "x", .len = 1 }, *list[] = { &d };
	unsigned before;

	begin_with("mute", &(struct setting){ .hard = 10 });
	d.peer.len = sizeof(d.peer.in);
	d.peer.in.sin_family = AF_INET;
	for (unsigned i = 0; i < 10; i++) {
		d.peer.in.sin_addr.s_addr = htonl(0x7f000000 + i);
		d.peer.in.sin_port = htons(9);
		peer_sessions_take(&all, r, list, 1);
	}
	before = open_descriptors();
	for (unsigned i = 10; i < PEERS; i++) {
		d.peer.in.sin_addr.s_addr = htonl(0x7f000000 + i);
		peer_sessions_take(&all, r, list, 1);
	}
	CHECK_INT(all.n_open, 10);
	CHECK_INT(r->peers.n, 10);
	CHECK_INT(children.live, 10);
	CHECK_INT(open_descriptors(), before);
	CHECK_INT(drops("hard-cap"), PEERS - 10);
	CHECK_INT(logged("at the hard cap of 10 sessions"), 1);
	end();
}

CASE(what_cannot_be_run_is_no_session)
{
	char *none[] = { "ccf-no-such-command", NULL };
	int a;

	begin("echo");
	all.cfg.argv = none;
	a = client();
	say(a, "x");
	UNTIL(drops("cannot-run") == 1);
	CHECK_INT(all.n_open, 0);
	CHECK_INT(r->peers.n, 0);
	CHECK_INT(r->caps.accepted, 0);
	CHECK_INT(metric_get(&metrics, METRIC_COMMANDS, "failed"), 1);
	CHECK_INT(metric_get(&metrics, METRIC_TAKEN, NULL), 0);
	CHECK_INT(logged("error: cannot run ccf-no-such-command: No such file"), 1);
	CHECK_INT(logged("a#"), 0);
	all.cfg.argv = argv;
	CHECK_STR(ask(a, "x"), "x");
	close(a);
	end();
}

CASE(without_descriptors_it_is_dropped)
{
	struct rlimit was, none;
	int a, taken;

	begin("echo");
	a = client();
	taken = open("/dev/null", O_RDONLY | O_CLOEXEC);
	close(taken);
	getrlimit(RLIMIT_NOFILE, &was);
	none = was;
	none.rlim_cur = (rlim_t)taken + 1; /* one is left, and a pair is two */
	setrlimit(RLIMIT_NOFILE, &none);
	say(a, "x");
	UNTIL(drops("no-descriptors") == 1);
	setrlimit(RLIMIT_NOFILE, &was);
	CHECK_INT(all.n_open, 0);
	CHECK_INT(logged("cannot start a session: Too many open files"), 1);
	CHECK_STR(ask(a, "x"), "x");
	close(a);
	end();
}

/* ---- the end of all ---- */

CASE(a_drain_lets_the_commands_read_their_queues)
{
	struct datagram d, *list[] = { &d };
	struct text rows = { 0 };
	int a, b;

	begin_with("last", &(struct setting){ .amplification = -1 });
	a = client(), b = client();
	CHECK_STR(ask(a, "x"), "ready");
	CHECK_STR(ask(b, "x"), "ready");
	for (int i = 0; i < 5; i++)
		say(a, "x");
	say(b, "x");
	reactor_turn(loop, 0);
	reactor_turn(loop, 0);
	receivers_stop(&receivers);
	peer_sessions_drain(&all);
	peer_sessions_drain(&all);
	peer_sessions_rows(&all, &rows);
	CHECK(strstr(rows.at, "\"state\":\"draining\"") != NULL);
	CHECK(strstr(rows.at, "\"state\":\"open\"") == NULL);
	text_free(&rows);
	d = datagram_of(a, "x");
	peer_sessions_take(&all, r, list, 1);
	CHECK_INT(drops("draining"), 1);
	CHECK_INT(idle_calls, 0);
	hear(a);
	CHECK_STR(heard, "5");
	hear(a);
	CHECK_STR(heard, "end");
	hear(b);
	CHECK_STR(heard, "1");
	UNTIL(idle_calls > 0);
	CHECK_INT(children.live, 0);
	CHECK_INT(logged("closed: exited, by inner"), 2);
	for (int i = 0; i < 3; i++)
		reactor_turn(loop, 0);
	CHECK_INT(idle_calls, 1);
	close(a), close(b);
	end();
}

CASE(a_drain_of_nothing_is_over_at_once)
{
	begin("echo");
	receivers_stop(&receivers);
	peer_sessions_drain(&all);
	CHECK_INT(idle_calls, 1);
	peer_sessions_drain(&all);
	peer_sessions_now(&all);
	CHECK_INT(idle_calls, 1);
	end();
	begin("echo");
	peer_sessions_now(&all);
	CHECK_INT(idle_calls, 1);
	end();
}

CASE(a_drain_waits_for_those_whose_session_is_over)
{
	int a;

	begin_with("closer", &(struct setting){ .grace = 50 });
	a = client();
	CHECK_STR(ask(a, "ignores TERM"), "bye");
	UNTIL(all.n_open == 0);
	receivers_stop(&receivers);
	peer_sessions_drain(&all);
	CHECK_INT(idle_calls, 0);
	UNTIL(idle_calls == 1); /* by TERM, then KILL */
	CHECK_INT(children.live, 0);
	CHECK_INT(logged("closed: closed"), 1);
	close(a);
	end();
}

CASE(a_drain_that_lasts_too_long_is_cut)
{
	int a, b;

	begin_with("mute", &(struct setting){ .grace = 60000 });
	a = client(), b = client();
	say(a, "x");
	say(b, "x");
	UNTIL(all.n_open == 2);
	receivers_stop(&receivers);
	peer_sessions_drain(&all);
	CHECK_INT(idle_calls, 0);
	peer_sessions_now(&all);
	CHECK_INT(all.n_open, 0);
	CHECK_INT(logged("closed: drain-timeout, by us"), 2);
	UNTIL(idle_calls == 1); /* a TERM, at once */
	CHECK_INT(children.live, 0);
	close(a), close(b);
	end();
}

CASE(an_abandon_leaves_nothing)
{
	struct peer_sessions none = { 0 };
	int a, b;

	peer_sessions_abandon(&none);
	begin("closer");
	a = client(), b = client();
	CHECK_STR(ask(a, "x"), "bye");
	UNTIL(all.n_open == 0);
	argv[1] = "echo";
	CHECK_STR(ask(b, "x"), "x");
	peer_sessions_abandon(&all);
	CHECK_INT(children.live, 0);
	while (!RB_EMPTY(&children.tree)) /* both got a TERM */
		reactor_turn(loop, -1);
	peer_sessions_abandon(&all);
	close(a), close(b);
	end();
}

/* ---- what it says ---- */

CASE(a_row_says_who_and_how_much)
{
	struct text t = { 0 };
	int a;

	begin("talker");
	a = client();
	peer_sessions_rows(&all, &t);
	CHECK_INT(t.len, 0);
	say(a, "5*1");
	CHECK_INT(hear(a), 5);
	peer_sessions_rows(&all, &t);
	CHECK(strstr(t.at, "\"id\":\"a#1\",\"interface\":\"a\",\"peer\":\"127.0.0.1:"));
	CHECK(strstr(
	    t.at, "\"state\":\"open\",\"tls\":null,\"in\":3,\"out\":5,\"held\":0,\"idle\":"));
	text_free(&t);
	close(a);
	end();
}

CASE(the_figures_are_those_of_an_acceptor)
{
	struct text t = { 0 };
	int a;

	begin_with("echo", &(struct setting){ .hard = 7 });
	a = client();
	ask(a, "x");
	peer_sessions_metrics(&all, &t);
	CHECK(strstr(t.at, "\nccfnet_connections_taken_total 1\n"));
	CHECK(strstr(t.at, "\nccfnet_connections_active 1\n"));
	CHECK(strstr(t.at, "\nccfnet_connections_peak 1\n"));
	CHECK(strstr(t.at, "\nccfnet_commands_total{result=\"ok\"} 1\n"));
	CHECK(strstr(t.at, "\nccfnet_interface_active{interface=\"a\"} 1\n"));
	CHECK(strstr(t.at, "\nccfnet_interface_hard_cap{interface=\"a\"} 7\n"));
	CHECK(strstr(t.at, "\nccfnet_interface_accepted_total{interface=\"a\"} 1\n"));
	CHECK(strstr(
	    t.at, "\nccfnet_interface_refused_total{interface=\"a\",reason=\"hard-cap\"} 0\n"));
	text_free(&t);
	peer_sessions_node_metrics(&all, &t);
	CHECK_STR(t.at,
	    "{\"sessions\":{\"active\":1,\"peak\":1,\"interfaces\":{\"a\":{\"active\":1,\"peak\":1,"
	    "\"soft_cap\":0,\"hard_cap\":7,\"errors\":{\"parsing\":0,"
	    "\"request_payload_too_large\":0,\"request_header_too_large\":0}}}}}\n");
	text_free(&t);
	close(a);
	end();
}

/* ---- across an exec ---- */

/* As an exec would: all is forgotten, nobody is told, the descriptors stay. */
static void
forget(void)
{
	struct receiver *each;
	struct peer_session *s;

	while ((s = TAILQ_FIRST(&all.open))) {
		TAILQ_REMOVE(&all.open, s, link);
		reactor_forget(loop, &s->watch);
		free(s);
	}
	while ((s = TAILQ_FIRST(&all.leaving))) {
		TAILQ_REMOVE(&all.leaving, s, link);
		reactor_timer(loop, &s->last, CLOCK_NEVER);
		free(s);
	}
	reactor_timer(loop, &all.timer, CLOCK_NEVER);
	datagrams_free(all.batch);
	while ((each = TAILQ_FIRST(&receivers.list))) {
		TAILQ_REMOVE(&receivers.list, each, link);
		reactor_forget(loop, &each->watch);
		datagrams_free(each->batch);
		free(each);
	}
	children_open(&children, &signals,
	    &(struct rlimit){ children.found.rlim_cur, children.found.rlim_max });
}

static void
restore(const struct text *state)
{
	static struct record line;
	char msg[256] = "";
	size_t at = 0;
	int n;

	while ((n = record_parse(&line, state->at + at, state->len - at)) > 0) {
		if (strcmp(line.word, "socket") == 0)
			CHECK_INT(receivers_restore(&receivers, &line, msg, sizeof(msg)), 0);
		else
			CHECK_INT(peer_sessions_restore(&all, &line, msg, sizeof(msg)), 0);
		CHECK_STR(msg, "");
		at += (size_t)n;
	}
	CHECK_INT(n, 0);
	r = TAILQ_FIRST(&receivers.list);
}

static void
renew(void)
{
	struct peer_sessions_config cfg = all.cfg;
	struct receivers_config rc = receivers.cfg;
	struct text state = { 0 };

	CHECK_INT(receivers_save(&receivers, &state), 0);
	CHECK_INT(peer_sessions_save(&all, &state), 0);
	forget();
	receivers_init(&receivers, &rc);
	CHECK_INT(peer_sessions_open(&all, &cfg), 0);
	restore(&state);
	receivers_start(&receivers);
	children_reap(&children);
	text_free(&state);
}

CASE(sessions_go_on_after_an_exec)
{
	struct text t = { 0 };
	int a, b;

	begin_with("counter", &(struct setting){ .hard = 2 });
	a = client(), b = client();
	ask(a, "xx");
	ask(b, "x");
	ask(a, "x");
	say(b, "x"); /* nobody has read it yet */
	renew();
	CHECK_INT(all.n_open, 2);
	CHECK_INT(r->caps.open, 2);
	CHECK_INT(r->caps.accepted, 2);
	CHECK_INT(r->caps.peak, 2);
	CHECK_INT(children.live, 2);
	hear(b);
	CHECK_STR(heard, "2");
	CHECK_STR(ask(a, "x"), "3");
	CHECK_INT(logged(": session\n"), 2); /* no new opening line */
	peer_sessions_rows(&all, &t);
	CHECK(strstr(t.at, "\"id\":\"a#1\""));
	CHECK(strstr(t.at, "\"in\":4,\"out\":3"));
	CHECK(strstr(t.at, "\"id\":\"a#2\""));
	text_free(&t);
	CHECK(peer_sessions_cut(&all, "a#1"));
	CHECK_INT(logged("closed: control, by us, 4 bytes in, 3 out"), 1);
	UNTIL(children.live == 1);
	CHECK_STR(ask(a, "x"), "1");
	CHECK_INT(logged("a#3 127.0.0.1:"), 1);
	kill(TAILQ_FIRST(&all.open)->child.pid, SIGKILL);
	UNTIL(children.live == 1);
	CHECK_INT(logged("closed: killed"), 1);
	close(a), close(b);
	end();
}

CASE(what_a_peer_has_shown_is_not_forgotten)
{
	int a, b, c;

	begin("talker");
	a = client(), b = client(), c = client();
	say(a, "5*1");
	hear(a);
	say(b, "5*1");
	hear(b);
	say(b, "5*1");
	hear(b);
	say(c, "99*1");
	UNTIL(drops("amplification") == 1);
	renew();
	say(a, "99*1");
	CHECK_INT(hear(a), 99); /* it was answered before */
	say(b, "99*1");
	CHECK_INT(hear(b), 99);
	say(c, "99*1");
	UNTIL(drops("amplification") == 2);
	say(c, "36*1"); /* 12 in */
	CHECK_INT(hear(c), 36);
	close(a), close(b), close(c);
	end();
}

CASE(who_is_idle_is_so_after_an_exec_too)
{
	int64_t seen;
	int a, b;

	begin("counter");
	a = client(), b = client();
	ask(a, "x");
	ask(b, "x");
	ask(a, "x");
	CHECK_STR(TAILQ_FIRST(&all.open)->tell.conn, "a#1");
	seen = peers_oldest(&r->peers)->seen;
	renew();
	CHECK_INT(peers_oldest(&r->peers)->seen, seen);
	CHECK_STR(TAILQ_FIRST(&all.open)->tell.conn, "a#2"); /* the longest silent first */
	CHECK_STR(TAILQ_NEXT(TAILQ_FIRST(&all.open), link)->tell.conn, "a#1");
	idle_is(1);
	UNTIL(children.live == 0);
	CHECK_INT(logged("closed: idle"), 2);
	close(a), close(b);
	end();
}

CASE(those_that_leave_are_waited_for_after_an_exec)
{
	int a, b;

	begin_with("closer", &(struct setting){ .grace = 400 });
	a = client(), b = client();
	CHECK_STR(ask(b, "wait"), "ready");
	CHECK_STR(ask(a, "ignores TERM"), "bye");
	UNTIL(n_leaving() == 1); /* and its end is told */
	CHECK_STR(ask(b, "x"), "bye");
	UNTIL(all.n_open == 0);
	CHECK_INT(logged("closed:"), 1);
	renew();
	CHECK_INT(children.live, 2);
	CHECK_INT(r->caps.open, 0);
	UNTIL(logged("closed:") == 2); /* now that of the other */
	UNTIL(children.live == 0);
	CHECK_INT(logged("closed: closed, by inner"), 2);
	close(a), close(b);
	end();
}

CASE(a_drain_goes_on_after_an_exec)
{
	int a;

	begin_with("last", &(struct setting){ .amplification = -1 });
	a = client();
	CHECK_STR(ask(a, "x"), "ready");
	say(a, "x");
	reactor_turn(loop, 0);
	kill(TAILQ_FIRST(&all.open)->child.pid, SIGSTOP);
	receivers_stop(&receivers);
	peer_sessions_drain(&all);
	renew();
	CHECK_INT(all.n_open, 1);
	CHECK(TAILQ_FIRST(&all.open)->state == SESSION_DRAINING);
	kill(TAILQ_FIRST(&all.open)->child.pid, SIGCONT);
	receivers_stop(&receivers);
	peer_sessions_drain(&all);
	hear(a);
	CHECK_STR(heard, "1");
	UNTIL(idle_calls == 1);
	close(a);
	end();
}

/* The child of cmd/renew: it looks at the state, and is not the COMMANDs' parent. */
CASE(who_only_looks_at_the_state_touches_no_command)
{
	struct text state = { 0 };
	int a, status;
	pid_t pid;

	begin("counter");
	a = client();
	ask(a, "x");
	CHECK_INT(receivers_save(&receivers, &state), 0);
	CHECK_INT(peer_sessions_save(&all, &state), 0);
	pid = fork();
	if (pid == 0) {
		struct peer_sessions_config cfg = all.cfg;
		struct receivers_config rc = receivers.cfg;

		check_failed = 0;
		CHECK_INT(reactor_new(&loop), 0); /* the epoll set of the other is shared */
		cfg.reactor = rc.reactor = loop;
		children_open(&children, &signals, &children.found);
		receivers_init(&receivers, &rc);
		CHECK_INT(peer_sessions_open(&all, &cfg), 0);
		restore(&state);
		CHECK_INT(all.n_open, 1);
		peer_sessions_abandon(&all);
		_exit(check_failed);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_INT(status, 0);
	CHECK_STR(ask(a, "x"), "2");
	text_free(&state);
	close(a);
	end();
}

/* Each field of a line is needed. */
static void
refuses_without(const struct text *line, const char *name)
{
	static struct record whole, part;
	struct text t = { 0 };
	char msg[256] = "";

	CHECK(record_parse(&whole, line->at, line->len) > 0);
	record_begin(&t, whole.word);
	for (unsigned i = 0; i < whole.n; i++)
		if (strcmp(whole.field[i].name, name) != 0)
			record_text(&t, whole.field[i].name, whole.field[i].value);
	record_end(&t);
	CHECK(record_parse(&part, t.at, t.len) > 0);
	CHECK_INT(peer_sessions_restore(&all, &part, msg, sizeof(msg)), 1);
	CHECK(strstr(msg, name) != NULL);
	text_free(&t);
}

CASE(a_line_that_lacks_something_is_refused)
{
	static const char *const names[] = { "pid", "interface", "id", "peer", "since", "in", "out",
		"fd", "remote", "local", "ifindex", "answered", "shown", "draining", "seen" };
	static const char *const left[] = { "pid", "told", "pressed", "due" };
	struct text open = { 0 }, leaving = { 0 };
	static struct record line;
	char msg[256];
	int a;

	begin("counter");
	a = client();
	ask(a, "x");
	CHECK_INT(peer_sessions_save(&all, &open), 0);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		refuses_without(&open, names[i]);
	CHECK(record_parse(&line, open.at, open.len) > 0);
	CHECK_INT(peer_sessions_restore(&all, &line, msg, sizeof(msg)), 1); /* it is there */
	line.word = "sessions";
	CHECK_INT(peer_sessions_restore(&all, &line, msg, sizeof(msg)), 1);
	CHECK(peer_sessions_cut(&all, "a#1"));
	CHECK_INT(peer_sessions_save(&all, &leaving), 0);
	for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++)
		refuses_without(&leaving, left[i]);
	CHECK_INT(all.n_open, 0);
	CHECK_INT(n_leaving(), 1);
	UNTIL(children.live == 0);
	text_free(&open);
	text_free(&leaving);
	close(a);
	end();
}

int
main(int argc, char **args)
{
	int bad;

	if (argc > 1)
		return command(args[1]);
	alarm(120);
	log_open("test", false);
	log_fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	stderr_was = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(log_fd, STDERR_FILENO);
	bad = check_main((struct check_case[]){
	    RUN(each_peer_has_a_command_of_its_own),
	    RUN(a_command_finds_the_environment_of_its_session),
	    RUN(an_answer_leaves_from_the_address_that_was_asked),
	    RUN(an_ipv4_peer_of_a_dual_stack_socket_is_written_as_ipv4),
	    RUN(datagrams_of_any_size_stay_whole),
	    RUN(a_batch_of_several_peers_is_taken_apart),
	    RUN(empty_datagrams_of_a_peer_are_counted_and_not_delivered),
	    RUN(empty_datagrams_of_a_command_are_sent),
	    RUN(what_a_command_says_that_is_too_large_is_dropped),
	    RUN(the_queue_of_a_command_that_does_not_read_is_bounded),
	    RUN(until_a_peer_has_shown_itself_it_gets_three_bytes_for_one),
	    RUN(exactly_three_times_is_not_above_it),
	    RUN(an_empty_answer_counts_as_a_byte),
	    RUN(a_second_datagram_before_any_answer_shows_nothing),
	    RUN(without_a_limit_it_gets_all),
	    RUN(a_command_that_exits_is_heard_out_and_its_slot_is_free),
	    RUN(an_exit_that_is_seen_first_is_heard_out_too),
	    RUN(an_exit_with_something_unread_is_heard_out_too),
	    RUN(much_that_was_said_before_an_exit_is_all_heard),
	    RUN(what_comes_for_a_command_that_is_just_gone_begins_a_new_session),
	    RUN(a_command_that_closes_its_socket_is_over_and_asked_to_go),
	    RUN(who_is_silent_for_too_long_is_over),
	    RUN(a_peer_that_speaks_is_not_the_oldest),
	    RUN(what_a_command_says_counts_too),
	    RUN(who_is_idle_at_an_interface_of_many_is_found),
	    RUN(a_command_that_does_not_go_is_pressed),
	    RUN(one_can_be_cut),
	    RUN(at_the_cap_a_newcomer_is_dropped_with_one_line),
	    RUN(commands_that_do_not_go_count_for_newcomers),
	    RUN(commands_that_have_just_closed_their_sockets_are_not_many),
	    RUN(of_many_newcomers_as_many_as_the_rate_allows_get_a_session),
	    RUN(an_episode_ends_with_a_session_though_its_command_stays),
	    RUN(a_flood_of_forged_peers_costs_a_bounded_table),
	    RUN(what_cannot_be_run_is_no_session),
	    RUN(without_descriptors_it_is_dropped),
	    RUN(a_drain_lets_the_commands_read_their_queues),
	    RUN(a_drain_of_nothing_is_over_at_once),
	    RUN(a_drain_waits_for_those_whose_session_is_over),
	    RUN(a_drain_that_lasts_too_long_is_cut),
	    RUN(an_abandon_leaves_nothing),
	    RUN(a_row_says_who_and_how_much),
	    RUN(the_figures_are_those_of_an_acceptor),
	    RUN(sessions_go_on_after_an_exec),
	    RUN(what_a_peer_has_shown_is_not_forgotten),
	    RUN(who_is_idle_is_so_after_an_exec_too),
	    RUN(those_that_leave_are_waited_for_after_an_exec),
	    RUN(a_drain_goes_on_after_an_exec),
	    RUN(who_only_looks_at_the_state_touches_no_command),
	    RUN(a_line_that_lacks_something_is_refused),
	    { 0 },
	});
	if (bad)
		dprintf(stderr_was, "%s", log_text());
	return bad;
}
