/* Requests through the guard, from a client's socket to a backend's, over a link whose other side
 * is this test: what answers are passed on, where an answer of ours stands, and what is never
 * passed. */
#include "flow/guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "base/log.h"
#include "check.h"
#include "flow/http.h"
#include "flow/rows.h"
#include "flow/terminator.h"
#include "net/handoff.h"
#include "net/socket.h"
#include "net/stream.h"

#define GET  "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
#define HEAD "HEAD /x HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
#define UPGRADE                                                                                    \
	"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: "              \
	"WebSocket\r\n\r\n"
#define SWITCH "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
#define OK     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define ROUNDS 5000

static struct reactor *loop;
static struct hub hub;
static struct http http;
static struct terminator term;
static int wire;   /* the consumer's side of the link */
static int client; /* the client's side of its connection; ours is lent */
static int lent, backend, starved;
static uint64_t id; /* of the connection asked for last */
static char heard[64 * 1024], told[64 * 1024];
static size_t heard_len, told_len;
static bool client_ended, backend_ended, backend_reset;
static char closed_reason[NOTE_REASON_MAX];
static int closed_status, conns;
static struct env facts;

/* ---- the world around it ---- */

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
none(struct hub *h)
{
	(void)h;
}

static void
credit(struct hub *h)
{
	(void)h;
	terminator_update(&term);
}

static void
over(struct hub *h, int status)
{
	(void)h;
	(void)status;
}

static const struct hub_keeper keeper = {
	.greeted = none_greeted, .gone = none_gone, .stop = none, .close = none
};
static const struct hub_ops ops = { .credit = credit, .over = over };

static void
idle_now(void *arg)
{
	(void)arg;
}

static void
short_of_them(void *arg)
{
	(void)arg;
	starved++;
}

static int
wrap(void *arg, int rfd, int wfd, bool owns, struct transport **ret)
{
	(void)arg;
	return stream_new(rfd, wfd, owns, ret);
}

static void
say(const struct note *n, int fd)
{
	static char packet[HANDOFF_MAX];
	ssize_t len = note_print(n, NULL, packet, sizeof(packet));
	struct handoff_out out = { .bytes = packet, .len = (size_t)len, .fd = fd };

	CHECK(len > 0);
	CHECK_INT(handoff_send(wire, &out, 1), 1);
}

static void
link_up(unsigned modes, uint32_t n)
{
	struct note hello = { .verb = NOTE_HELLO,
		.version = 1,
		.role = NOTE_CONSUMER,
		.modes = modes,
		.tool = "test" };
	int fd[2];

	CHECK_INT(handoff_pair(fd), 0);
	wire = fd[1];
	CHECK_INT(hub_take(&hub, fd[0], ""), 0);
	say(&hello, -1);
	if (n > 0)
		say(&(struct note){ .verb = NOTE_READY, .n = n }, -1);
}

/* connect, answer: ms */
static void
start(unsigned modes, uint32_t n, int64_t connect_ms, int64_t answer_ms)
{
	struct hub_config hc = { .tool = "test",
		.option = "--to",
		.spec = "-",
		.role = NOTE_PRODUCER,
		.peer_user = (uid_t)-1,
		.ops = &ops };
	struct http_config cfg = { .to = HTTP_GUARD,
		.limits = { .body = 16 * 1024 * 1024,
		    .header = HTTP1_HEADER_MAX,
		    .count = HTTP1_COUNT_MAX,
		    .line = HTTP1_LINE_MAX,
		    .head = HTTP1_HEAD_MAX },
		.request_timeout = 20000,
		.idle = 20000,
		.guard = { .hub = &hub,
		    .connect = connect_ms,
		    .answer = answer_ms,
		    .starved = short_of_them } };
	struct terminator_config tc = { .wrap = wrap,
		.sink = TERM_TO_SESSION,
		.session = &session_http1,
		.http = &http,
		.handshake = 20000,
		.idle = 20000,
		.half_close = 20000,
		.flush = 20000,
		.lifetime = -1,
		.idle_now = idle_now };

	log_open("guard", false);
	log_set_level(LOG_L_ERROR);
	CHECK_INT(reactor_new(&loop), 0);
	hc.reactor = cfg.guard.reactor = tc.reactor = loop;
	hub_open_given(&hub, &hc, &keeper, NULL);
	http_open(&http, &cfg);
	terminator_open(&term, &tc);
	term.ready = true;
	backend = client = lent = wire = -1;
	starved = conns = 0;
	env_free(&facts);
	CHECK_INT(env_set(&facts, "CCF_CONN_ID", "rpc#7"), 0);
	if (modes)
		link_up(modes, n);
}

static void
drop(int *fd)
{
	if (*fd != -1)
		close(*fd);
	*fd = -1;
}

static void
finish(void)
{
	drop(&client);
	terminator_cut_all(&term, "test", 0);
	CHECK_INT(term.live, 0);
	drop(&lent);
	drop(&backend);
	hub_close(&hub);
	drop(&wire);
	CHECK_INT(reactor_turn(loop, 0), 0);
	reactor_free(loop);
	env_free(&facts);
}

static void
new_client(void)
{
	int pair[2];

	drop(&client);
	drop(&lent);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	client = pair[0];
	lent = pair[1];
	heard_len = told_len = 0;
	heard[0] = told[0] = '\0';
	client_ended = backend_ended = backend_reset = false;
	closed_reason[0] = '\0';
	closed_status = -2;
	CHECK_INT(terminator_single(&term, lent, lent, &facts), 0);
}

/* A TCP connection with both ends here: a reset can be told from an end. */
static void
tcp_pair(int pair[2])
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	pair[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(bind(l, (struct sockaddr *)&sin, sizeof(sin)), 0);
	CHECK_INT(listen(l, 1), 0);
	CHECK_INT(getsockname(l, (struct sockaddr *)&sin, &len), 0);
	CHECK_INT(connect(pair[0], (struct sockaddr *)&sin, len), 0);
	pair[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	fcntl(pair[0], F_SETFL, O_NONBLOCK);
	close(l);
}

static void
adopt(int fd)
{
	say(&(struct note){ .verb = NOTE_ADOPT, .id = id, .n = 1 }, fd);
}

static void
consumer_closes(const char *reason, int status)
{
	struct note n = { .verb = NOTE_CLOSED, .id = id, .status = status, .n = 1 };

	snprintf(n.reason, sizeof(n.reason), "%s", reason);
	say(&n, -1);
}

/* ---- turning, until something is so ---- */

static void
hear_link(void)
{
	static char bytes[HANDOFF_MAX];
	struct handoff_in in = { .bytes = bytes, .fd = -1 };
	struct note n;

	if (wire == -1 || handoff_recv(wire, &in, 1) != 1 ||
	    note_parse(&n, in.bytes, (size_t)in.len) < 0)
		return;
	if (n.verb == NOTE_CONN) {
		struct env env = { 0 };

		conns++;
		id = n.id;
		drop(&backend);
		backend = in.fd;
		backend_ended = backend_reset = false;
		told_len = 0;
		CHECK_INT(note_env(&n, &env), 0);
		CHECK_STR(env_get(&env, "CCF_CONN_ID"), "rpc#7");
		env_free(&env);
	} else if (n.verb == NOTE_CLOSED) {
		closed_status = n.status;
		snprintf(closed_reason, sizeof(closed_reason), "%s", n.reason);
	}
}

static void
hear(int fd, char *to, size_t *len, bool *ended, bool *reset)
{
	ssize_t n;

	if (fd == -1 || *len == sizeof(heard) - 1)
		return;
	n = recv(fd, to + *len, sizeof(heard) - 1 - *len, MSG_DONTWAIT);
	if (n > 0)
		*len += (size_t)n;
	else if (n == 0)
		*ended = true;
	else if (errno == ECONNRESET && reset)
		*reset = true;
	to[*len] = '\0';
}

static bool silent_client, silent_backend;

static void
turn(int64_t ms)
{
	CHECK_INT(reactor_turn(loop, ms), 0);
	hear_link();
	if (!silent_client)
		hear(client, heard, &heard_len, &client_ended, NULL);
	if (!silent_backend)
		hear(backend, told, &told_len, &backend_ended, &backend_reset);
}

#define UNTIL(x)                                                                                   \
	do {                                                                                       \
		int rounds = 0;                                                                    \
		while (!(x) && rounds++ < ROUNDS)                                                  \
			turn(rounds < 20 ? 0 : 1);                                                 \
		CHECK(x);                                                                          \
	} while (0)

static void
settle(void)
{
	for (int i = 0; i < 6; i++)
		turn(0);
}

static void
put(int fd, const char *bytes, size_t len)
{
	if (len == 0)
		return;
	CHECK_INT(send(fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void
ask(const char *request)
{
	put(client, request, strlen(request));
	UNTIL(told_len >= strlen(request));
	CHECK_STR(told, request);
	told_len = 0;
}

static bool
heard_has(const char *s)
{
	return strstr(heard, s) != NULL;
}

static void
hears(const char *s)
{
	UNTIL(heard_len >= strlen(s));
	CHECK_STR(heard, s);
	heard_len = 0;
}

static bool
is_cut(void) /* our end of the client's connection was not ended cleanly */
{
	settle();
	return term.live == 0 && term.last_status == CCF_CUT && !client_ended;
}

static void
end_backend(bool eof)
{
	if (eof)
		say(&(struct note){ .verb = NOTE_EOF, .id = id }, -1);
	drop(&backend);
}

/* ---- answers that are passed ---- */

struct shape {
	const char *request, *answer;
	bool until_end, closes;
};

static const struct shape shapes[] = {
	{ GET, OK, false, false },
	{ GET, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false, false },
	{ GET,
	    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: "
	    "y\r\n\r\n",
	    false, false },
	{ GET, "HTTP/1.1 200 OK\r\nX: y\r\n\r\nuntil the end", true, true },
	{ GET, "HTTP/1.0 200 OK\r\n\r\nuntil the end", true, true },
	{ GET, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", false,
	    true },
	{ HEAD, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", false, false },
	{ HEAD, "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", false, false },
	{ HEAD, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, false },
	{ GET, "HTTP/1.1 204 No Content\r\n\r\n", false, false },
	{ GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", false, false },
	{ GET, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" OK, false,
	    false },
	{ POST "hello", "HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\noh\r\n", false, false },
};

static void
answer_split(const struct shape *s, size_t at)
{
	size_t len = strlen(s->answer);

	ask(s->request);
	put(backend, s->answer, at);
	settle();
	CHECK(heard_len <= at);
	put(backend, s->answer + at, len - at);
	if (s->until_end)
		end_backend(true);
	hears(s->answer);
	if (!s->closes)
		return;
	UNTIL(client_ended);
	drop(&client);
	UNTIL(term.live == 0);
	CHECK_INT(term.last_status, 0);
	new_client();
}

CASE(an_answer_of_any_shape_is_passed_as_it_is_wherever_it_is_split)
{
	start(NOTE_TAKE, 32, 20000, 20000);
	new_client();
	for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes) && !check_failed; i++)
		for (size_t at = 0; at <= strlen(shapes[i].answer) && !check_failed; at++) {
			answer_split(&shapes[i], at);
			if (check_failed)
				printf("# shape %zu split at %zu\n", i, at);
			say(&(struct note){ .verb = NOTE_READY, .n = 1 }, -1);
		}
	finish();
}

CASE(one_backend_serves_all_requests_of_a_client_pipelined_ones_in_turn)
{
	start(NOTE_TAKE, 2, 20000, 20000);
	new_client();
	put(client, GET POST "hello" HEAD, strlen(GET POST "hello" HEAD));
	UNTIL(told_len >= strlen(GET));
	settle();
	CHECK_STR(told, GET); /* the second one waits for its turn */
	put(backend, OK, strlen(OK));
	UNTIL(told_len >= strlen(GET POST "hello"));
	CHECK_STR(told, GET POST "hello");
	put(backend, OK, strlen(OK));
	UNTIL(told_len >= strlen(GET POST "hello" HEAD));
	CHECK_STR(told, GET POST "hello" HEAD);
	put(backend, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", 38);
	hears(OK OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
	CHECK_INT(conns, 1);
	finish();
}

CASE(a_request_body_is_passed_as_it_comes_byte_for_byte)
{
	static const char request[] =
	    "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "5\r\nhello\r\n0003;x=\"y\"\r\nabc\r\n0\r\nX-T: t\r\n\r\n";

	start(NOTE_TAKE, 1, 20000, 20000);
	new_client();
	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		put(client, request + i, 1);
		settle();
	}
	UNTIL(told_len >= sizeof(request) - 1);
	CHECK_STR(told, request);
	put(backend, OK, strlen(OK));
	hears(OK);
	finish();
}

CASE(what_asks_for_100_continue_gets_the_backends)
{
	static const char head[] = "POST /x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
				   "Content-Length: 5\r\n\r\n";

	start(NOTE_TAKE, 1, 20000, 20000);
	new_client();
	ask(head);
	settle();
	CHECK_INT(heard_len, 0);
	put(backend, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	hears("HTTP/1.1 100 Continue\r\n\r\n");
	ask("hello");
	put(backend, OK, strlen(OK));
	hears(OK);
	ask(GET);
	finish();
}

CASE(an_interim_answer_is_not_for_http_1_0)
{
	start(NOTE_TAKE, 1, 20000, 20000);
	new_client();
	ask("GET / HTTP/1.0\r\n\r\n");
	put(backend, "HTTP/1.1 103 Early\r\n\r\n" OK, 22 + strlen(OK));
	UNTIL(client_ended);
	CHECK_STR(heard, OK);
	finish();
}

CASE(after_an_answer_that_closes_the_client_is_closed_too)
{
	start(NOTE_TAKE | NOTE_GIVE, 1, 20000, 20000);
	new_client();
	put(client, GET GET, strlen(GET GET));
	UNTIL(conns == 1);
	CHECK_INT(backend, -1); /* we were asked to give */
	{
		int pair[2];

		tcp_pair(pair);
		backend = pair[0];
		adopt(pair[1]);
	}
	UNTIL(told_len >= strlen(GET));
	put(backend, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 57);
	UNTIL(client_ended && backend_ended);
	CHECK_STR(told, GET);
	CHECK(!backend_reset);
	CHECK_STR(closed_reason, "done");
	CHECK_INT(closed_status, 0);
	finish();
}

/* ---- answers of ours ---- */

static void
expect_error(const char *status, const char *code)
{
	char line[16];

	UNTIL(client_ended);
	CHECK(heard_has("\r\nConnection: close\r\n"));
	snprintf(line, sizeof(line), "HTTP/1.1 %s ", status);
	CHECK(heard_has(line));
	CHECK(heard_has(code));
	drop(&client);
	UNTIL(term.live == 0);
	CHECK_INT(term.last_status, 0);
}

CASE(without_a_backend_it_is_502_503_or_504_as_the_consumer_says)
{
	static const struct {
		const char *reason, *status, *code;
		int said;
	} said[] = { { "refused", "502", "\"BadGateway\"", 7 },
		{ "no-such-name", "502", "\"BadGateway\"", 6 },
		{ "connect-timeout", "504", "\"GatewayTimeout\"", CCF_DEADLINE },
		{ "no-descriptors", "503", "\"ServiceUnavailable\"", CCF_UNAVAILABLE } };

	for (unsigned modes = NOTE_TAKE; modes <= (NOTE_TAKE | NOTE_GIVE); modes += NOTE_GIVE) {
		start(modes, 32, 20000, 20000);
		for (size_t i = 0; i < sizeof(said) / sizeof(*said); i++) {
			new_client();
			put(client, GET, strlen(GET));
			UNTIL(conns == (int)i + 1);
			consumer_closes(said[i].reason, said[i].said);
			drop(&backend);
			expect_error(said[i].status, said[i].code);
		}
		finish();
	}
}

CASE(nobody_with_room_is_504_and_nobody_for_good_502)
{
	start(0, 0, 30, 20000);
	new_client();
	put(client, GET, strlen(GET));
	expect_error("504", "\"GatewayTimeout\"");
	new_client();
	put(client, GET, strlen(GET));
	settle();
	CHECK_INT(heard_len, 0);
	terminator_no_sink(&term);
	expect_error("502", "\"BadGateway\"");
	new_client();
	put(client, GET, strlen(GET)); /* and from now on at once */
	expect_error("502", "\"BadGateway\"");
	CHECK_INT(conns, 0);
	finish();
}

CASE(a_consumer_that_does_not_give_in_time_is_504_and_is_told)
{
	int pair[2];

	start(NOTE_TAKE | NOTE_GIVE, 1, 30, 20000);
	new_client();
	put(client, GET, strlen(GET));
	UNTIL(conns == 1);
	expect_error("504", "\"GatewayTimeout\"");
	UNTIL(closed_reason[0]);
	tcp_pair(pair);
	backend = pair[0];
	adopt(pair[1]); /* it crosses our closed */
	UNTIL(backend_ended || backend_reset);
	CHECK_INT(told_len, 0);
	finish();
}

CASE(who_waits_for_room_is_served_in_turn)
{
	start(NOTE_TAKE, 0, 20000, 20000);
	new_client();
	put(client, GET, strlen(GET));
	settle();
	CHECK_INT(conns, 0);
	CHECK_INT(terminator_room(&term), 0);
	say(&(struct note){ .verb = NOTE_READY, .n = 1 }, -1);
	UNTIL(told_len == strlen(GET));
	put(backend, OK, strlen(OK));
	hears(OK);
	finish();
}

CASE(a_backend_that_is_silent_is_504_before_its_answer_and_a_cut_in_it)
{
	static const char *const begun[] = { "",
		"HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no" };

	start(NOTE_TAKE, 32, 20000, 30);
	for (size_t i = 0; i < 4; i++) {
		new_client();
		ask(GET);
		put(backend, begun[i], strlen(begun[i]));
		if (i < 3)
			expect_error("504", "\"GatewayTimeout\"");
		else
			UNTIL(is_cut());
		UNTIL(backend_ended);
		drop(&client);
		UNTIL(term.live == 0);
	}
	finish();
}

CASE(the_client_may_take_its_time_while_it_is_not_the_backend_we_wait_for)
{
	int64_t from;

	start(NOTE_TAKE, 1, 20000, 20);
	new_client();
	ask(POST);
	from = clock_ms();
	UNTIL(clock_ms() > from + 60);
	put(client, "hello", 5);
	UNTIL(told_len == 5);
	put(backend, OK, strlen(OK));
	hears(OK);
	CHECK_INT(term.live, 1);
	finish();
}

CASE(a_backend_that_ends_is_502_before_its_answer_and_a_cut_in_it)
{
	static const char *const begun[] = { "", "HTTP/1.1 103 X\r\n\r\n", "HTTP/1.1 200 OK\r\nX",
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n0\r\n" };

	start(NOTE_TAKE, 32, 20000, 20000);
	for (int eof = 0; eof < 2; eof++)
		for (size_t i = 0; i < 5; i++) {
			new_client();
			ask(GET);
			put(backend, begun[i], strlen(begun[i]));
			end_backend(eof);
			if (i < 3)
				expect_error("502", "\"BadGateway\"");
			else
				UNTIL(is_cut());
			drop(&client);
			UNTIL(term.live == 0);
			say(&(struct note){ .verb = NOTE_READY, .n = 1 }, -1);
		}
	finish();
}

CASE(an_answer_until_the_end_needs_a_real_end)
{
	start(NOTE_TAKE, 1, 20000, 20000);
	new_client();
	ask(GET);
	put(backend, "HTTP/1.0 200 OK\r\n\r\nabc", 22);
	end_backend(false); /* as if the consumer had been killed */
	UNTIL(is_cut());
	finish();
}

CASE(an_answer_that_is_none_is_502_and_never_reaches_the_client)
{
	static const char *const bad[] = { "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\nX: y\n\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "HTTP/2 200\r\n\r\n",
		"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n" };
	char many[17 * 25 + 1] = "";

	start(NOTE_TAKE, 32, 20000, 20000);
	for (size_t i = 0; i <= sizeof(bad) / sizeof(*bad); i++) {
		const char *say_now = many;

		if (i < sizeof(bad) / sizeof(*bad))
			say_now = bad[i];
		else
			for (int n = 0; n < 17; n++)
				strcat(many, "HTTP/1.1 100 Continue\r\n\r\n");
		new_client();
		ask(GET);
		put(backend, say_now, strlen(say_now));
		UNTIL(heard_has("\"BadGateway\""));
		CHECK(!heard_has("SSH") && !heard_has(" 200") && !heard_has("HTTP/1.1 101"));
		UNTIL(backend_ended);
		say(&(struct note){ .verb = NOTE_READY, .n = 1 }, -1);
	}
	finish();
}

CASE(a_backend_that_says_more_than_it_was_asked_for_is_let_go)
{
	start(NOTE_TAKE, 2, 20000, 20000);
	new_client();
	ask(GET);
	put(backend, OK OK, 2 * strlen(OK)); /* in one piece */
	UNTIL(client_ended);
	CHECK_STR(heard, OK);
	UNTIL(backend_ended);

	new_client();
	ask(GET);
	put(backend, OK, strlen(OK));
	hears(OK);
	put(backend, OK, strlen(OK)); /* later */
	UNTIL(backend_ended);
	say(&(struct note){ .verb = NOTE_READY, .n = 1 }, -1);
	settle();
	CHECK_INT(heard_len, 0);
	ask(GET); /* of another one */
	CHECK_INT(conns, 3);
	put(backend, OK, strlen(OK));
	hears(OK);
	finish();
}

CASE(a_backend_that_ends_between_two_requests_is_replaced_by_another)
{
	start(NOTE_TAKE, 2, 20000, 20000);
	new_client();
	ask(GET);
	put(backend, OK, strlen(OK));
	hears(OK);
	end_backend(true);
	settle();
	CHECK(!client_ended);
	ask(GET);
	CHECK_INT(conns, 2);
	put(backend, OK, strlen(OK));
	hears(OK);
	finish();
}

/* The client is heard first, though it spoke later. */
CASE(what_it_said_or_did_before_it_was_asked_is_no_answer)
{
	static const char evil[] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

	start(NOTE_TAKE, 3, 20000, 20000);
	new_client();
	ask(GET);
	put(backend, OK, strlen(OK));
	hears(OK);
	settle();
	put(client, GET, strlen(GET));
	put(backend, evil, strlen(evil));
	UNTIL(conns == 2 && told_len >= strlen(GET));
	CHECK_STR(told, GET);
	put(backend, OK, strlen(OK));
	hears(OK);
	settle();
	put(client, GET, strlen(GET));
	end_backend(true);
	UNTIL(conns == 3 && told_len >= strlen(GET));
	CHECK_STR(told, GET);
	put(backend, OK, strlen(OK));
	hears(OK);
	finish();
}

CASE(an_answer_before_the_request_is_whole_is_passed_and_both_are_closed)
{
	start(NOTE_TAKE, 1, 20000, 20000);
	new_client();
	ask(POST "he");
	put(backend, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n", 38);
	UNTIL(client_ended && backend_ended);
	CHECK_STR(heard, "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n");
	finish();
}

/* What it has not heard of this request nobody sends it any more: the next one must not follow. */
CASE(an_answer_before_the_head_has_gone_out_is_the_backends_last)
{
	static char head[64 * 1024];
	int pair[2], small = 1, idle = 0;
	size_t len = (size_t)snprintf(head, sizeof(head),
	    "GET /x HTTP/1.1\r\nHost: h\r\nA: %015000d\r\nB: %015000d\r\nC: "
	    "%015000d\r\nD: %015000d\r\n\r\n",
	    1, 2, 3, 4);

	start(NOTE_TAKE | NOTE_GIVE, 1, 20000, 20000);
	new_client();
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	CHECK_INT(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	silent_backend = true;
	put(client, head, len);
	UNTIL(conns == 1);
	backend = pair[0];
	adopt(pair[1]);
	while (idle++ < 20)
		turn(1);
	put(backend, OK, strlen(OK));
	hears(OK);
	UNTIL(client_ended);
	silent_backend = false;
	UNTIL(backend_ended || backend_reset);
	CHECK(told_len < len);
	finish();
}

CASE(what_is_here_already_of_a_request_is_passed_though_the_answer_is_whole)
{
	static char body[60 * 1024];
	static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 61440\r\n\r\n";
	int pair[2];

	start(NOTE_TAKE | NOTE_GIVE, 1, 20000, 20000);
	new_client();
	put(client, head, sizeof(head) - 1);
	put(client, body, sizeof(body));
	UNTIL(conns == 1);
	tcp_pair(pair);
	backend = pair[0];
	put(backend, OK, strlen(OK)); /* before it has read anything */
	adopt(pair[1]);
	hears(OK);
	UNTIL(told_len == sizeof(head) - 1 + sizeof(body));
	told_len = 0;
	ask(GET);
	CHECK_INT(conns, 1);
	finish();
}

CASE(without_a_descriptor_it_is_503_and_the_source_hears_of_it)
{
	struct rlimit was, few;
	int held[64], n = 0;

	start(NOTE_TAKE, 1, 20000, 20000);
	new_client();
	CHECK_INT(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = (struct rlimit){ .rlim_cur = 64, .rlim_max = was.rlim_max };
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (n < 64 && (held[n] = dup(wire)) != -1)
		n++;
	put(client, GET, strlen(GET));
	expect_error("503", "\r\nRetry-After: 1\r\n");
	CHECK_INT(starved, 1);
	while (n > 0)
		close(held[--n]);
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &was), 0);
	finish();
}

/* ---- what is cut, and who is told ---- */

CASE(a_client_that_leaves_in_mid_answer_resets_the_backend)
{
	for (int i = 0; i < 3; i++) {
		int pair[2];

		start(NOTE_TAKE | NOTE_GIVE, 1, 20000, 20000);
		new_client();
		put(client, GET, strlen(GET));
		UNTIL(conns == 1);
		tcp_pair(pair);
		backend = pair[0];
		adopt(pair[1]);
		UNTIL(told_len == strlen(GET));
		if (i > 0)
			put(backend, OK, strlen(OK) - (i == 1));
		settle();
		terminator_cut_all(&term, "reset", CCF_CUT);
		if (i < 2)
			UNTIL(backend_reset);
		else
			UNTIL(backend_ended);
		CHECK_INT(backend_reset, i < 2);
		UNTIL(closed_reason[0]);
		CHECK_INT(closed_status, i < 2 ? CCF_CUT : 0);
		finish();
	}
}

CASE(a_client_that_leaves_while_it_waits_is_taken_back)
{
	start(NOTE_TAKE | NOTE_GIVE, 1, 20000, 20000);
	new_client();
	put(client, GET, strlen(GET));
	UNTIL(conns == 1);
	terminator_cut_all(&term, "reset", CCF_CUT);
	UNTIL(closed_reason[0]);
	CHECK_INT(closed_status, CCF_CUT);
	finish();
}

CASE(a_request_that_turns_out_bad_is_refused_and_the_backend_cut)
{
	static const char bad[] = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
				  "5\r\nhello\r\n";
	int pair[2];

	start(NOTE_TAKE | NOTE_GIVE, 1, 20000, 20000);
	new_client();
	put(client, bad, sizeof(bad) - 1);
	UNTIL(conns == 1);
	tcp_pair(pair);
	backend = pair[0];
	adopt(pair[1]);
	UNTIL(told_len == sizeof(bad) - 1);
	put(client, "oops\r\n", 6);
	UNTIL(heard_has("HTTP/1.1 400 "));
	UNTIL(backend_reset);
	CHECK(strstr(told, "oops") == NULL);
	UNTIL(client_ended);
	drop(&client);
	UNTIL(term.live == 0);
	finish();
}

/* ---- what does not fit ---- */

#define MUCH (4 * 1024 * 1024)

static uint64_t
memory_held(void)
{
	struct conn_row row = { 0 };

	CHECK_INT(terminator_rows(&term, 0, &row, 1), 1);
	CHECK_STR(row.conn, "rpc#7");
	CHECK_STR(row.state, "open");
	return row.held;
}

CASE(a_client_that_does_not_read_stops_the_backend)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 4194304\r\n\r\n";
	static char bytes[64 * 1024];
	size_t sent = 0, got = 0;
	ssize_t n;
	int idle = 0;

	start(NOTE_TAKE, 1, 20000, 20);
	new_client();
	ask(GET);
	put(backend, head, sizeof(head) - 1);
	silent_client = true;
	while (idle < 50) {
		n = send(backend, bytes, MUCH - sent < sizeof(bytes) ? MUCH - sent : sizeof(bytes),
		    MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		turn(1); /* longer than it may be silent, were it to blame */
		CHECK(memory_held() < 192 * 1024);
	}
	CHECK(sent < MUCH);
	while (got < MUCH + sizeof(head) - 1 && !check_failed) {
		if (sent < MUCH && (n = send(backend, bytes,
					MUCH - sent < sizeof(bytes) ? MUCH - sent : sizeof(bytes),
					MSG_NOSIGNAL)) > 0)
			sent += (size_t)n;
		turn(0);
		n = recv(client, bytes, sizeof(bytes), MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
		CHECK(n != 0 && term.live == 1);
	}
	CHECK_INT(got, MUCH + sizeof(head) - 1);
	silent_client = false;
	ask(GET);
	finish();
}

CASE(a_backend_that_does_not_read_stops_the_client)
{
	static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n";
	static char bytes[64 * 1024];
	size_t sent = 0, got = 0, left;
	ssize_t n;
	int idle = 0;

	start(NOTE_TAKE, 1, 20000, 20000);
	new_client();
	silent_backend = true;
	put(client, head, sizeof(head) - 1);
	while (idle < 50) {
		left = MUCH - sent < sizeof(bytes) ? MUCH - sent : sizeof(bytes);
		n = send(client, bytes, left, MSG_NOSIGNAL);
		sent += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		turn(0);
		CHECK(memory_held() < 192 * 1024);
	}
	CHECK(sent < MUCH);
	while (got < MUCH + sizeof(head) - 1 && !check_failed) {
		left = MUCH - sent < sizeof(bytes) ? MUCH - sent : sizeof(bytes);
		if (left > 0 && (n = send(client, bytes, left, MSG_NOSIGNAL)) > 0)
			sent += (size_t)n;
		turn(0);
		n = recv(backend, bytes, sizeof(bytes), MSG_DONTWAIT);
		got += n > 0 ? (size_t)n : 0;
		CHECK(n != 0 && term.live == 1);
	}
	silent_backend = false;
	put(backend, OK, strlen(OK));
	hears(OK);
	finish();
}

CASE(a_backend_that_takes_nothing_is_504)
{
	static const char head[] = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4194304\r\n\r\n";
	static char bytes[64 * 1024];
	size_t sent = 0;
	ssize_t n;

	start(NOTE_TAKE, 1, 20000, 30);
	new_client();
	silent_backend = true;
	put(client, head, sizeof(head) - 1);
	while (!heard_has("504") && !check_failed) {
		n = sent < MUCH ? send(client, bytes, sizeof(bytes), MSG_NOSIGNAL) : 0;
		sent += n > 0 ? (size_t)n : 0;
		turn(1);
		CHECK(sent < MUCH);
	}
	silent_backend = false;
	finish();
}

/* ---- tunnels ---- */

CASE(a_websocket_is_a_tunnel_with_two_ends)
{
	for (int first = 0; first < 2; first++) {
		start(NOTE_TAKE, 1, 20000, 20000);
		new_client();
		ask(UPGRADE);
		put(client, "early", 5);
		settle();
		CHECK_INT(told_len, 0); /* it is not known yet what it is */
		put(backend, SWITCH "frame", strlen(SWITCH) + 5);
		hears(SWITCH "frame");
		UNTIL(told_len == 5);
		CHECK_STR(told, "early");
		put(client, GET, strlen(GET)); /* no HTTP any more */
		UNTIL(told_len == 5 + strlen(GET));
		if (first == 0) {
			shutdown(client, SHUT_WR);
			UNTIL(backend_ended);
			put(backend, "late", 4);
			hears("late");
			end_backend(true);
			UNTIL(client_ended);
		} else {
			say(&(struct note){ .verb = NOTE_EOF, .id = id }, -1);
			shutdown(backend, SHUT_WR);
			UNTIL(client_ended && backend_ended);
			drop(&client);
		}
		UNTIL(term.live == 0);
		CHECK_INT(term.last_status, 0);
		finish();
	}
}

/* Two fields: what we take for a websocket is something else to the backend. */
CASE(a_101_for_another_protocol_is_502)
{
	static const char asked[] = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
				    "Upgrade: websocket\r\nUpgrade: h2c\r\n\r\n";
	static const char *const answers[] = {
		"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n",
		"HTTP/1.1 101 Switching\r\n\r\n"
	};

	start(NOTE_TAKE, 3, 20000, 20000);
	for (size_t i = 0; i < sizeof(answers) / sizeof(*answers); i++) {
		new_client();
		ask(asked);
		put(backend, answers[i], strlen(answers[i]));
		UNTIL(client_ended);
		CHECK(heard_has("\"BadGateway\"") && !heard_has("HTTP/1.1 101"));
		UNTIL(backend_ended);
	}
	finish();
}

CASE(a_tunnel_that_is_cut_stays_cut)
{
	start(NOTE_TAKE, 1, 20000, 20000);
	new_client();
	ask(UPGRADE);
	put(backend, SWITCH, strlen(SWITCH));
	hears(SWITCH);
	end_backend(false);
	UNTIL(is_cut());
	finish();
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(an_answer_of_any_shape_is_passed_as_it_is_wherever_it_is_split),
	    RUN(one_backend_serves_all_requests_of_a_client_pipelined_ones_in_turn),
	    RUN(a_request_body_is_passed_as_it_comes_byte_for_byte),
	    RUN(what_asks_for_100_continue_gets_the_backends),
	    RUN(an_interim_answer_is_not_for_http_1_0),
	    RUN(after_an_answer_that_closes_the_client_is_closed_too),
	    RUN(without_a_backend_it_is_502_503_or_504_as_the_consumer_says),
	    RUN(nobody_with_room_is_504_and_nobody_for_good_502),
	    RUN(a_consumer_that_does_not_give_in_time_is_504_and_is_told),
	    RUN(who_waits_for_room_is_served_in_turn),
	    RUN(a_backend_that_is_silent_is_504_before_its_answer_and_a_cut_in_it),
	    RUN(the_client_may_take_its_time_while_it_is_not_the_backend_we_wait_for),
	    RUN(a_backend_that_ends_is_502_before_its_answer_and_a_cut_in_it),
	    RUN(an_answer_until_the_end_needs_a_real_end),
	    RUN(an_answer_that_is_none_is_502_and_never_reaches_the_client),
	    RUN(a_backend_that_says_more_than_it_was_asked_for_is_let_go),
	    RUN(a_backend_that_ends_between_two_requests_is_replaced_by_another),
	    RUN(what_it_said_or_did_before_it_was_asked_is_no_answer),
	    RUN(an_answer_before_the_request_is_whole_is_passed_and_both_are_closed),
	    RUN(an_answer_before_the_head_has_gone_out_is_the_backends_last),
	    RUN(what_is_here_already_of_a_request_is_passed_though_the_answer_is_whole),
	    RUN(without_a_descriptor_it_is_503_and_the_source_hears_of_it),
	    RUN(a_client_that_leaves_in_mid_answer_resets_the_backend),
	    RUN(a_client_that_leaves_while_it_waits_is_taken_back),
	    RUN(a_request_that_turns_out_bad_is_refused_and_the_backend_cut),
	    RUN(a_client_that_does_not_read_stops_the_backend),
	    RUN(a_backend_that_does_not_read_stops_the_client),
	    RUN(a_backend_that_takes_nothing_is_504),
	    RUN(a_websocket_is_a_tunnel_with_two_ends),
	    RUN(a_101_for_another_protocol_is_502),
	    RUN(a_tunnel_that_is_cut_stays_cut),
	    { 0 },
	});
}
