/* What a terminator with sessions says of its connections: how they ended, those above the soft
 * cap, what is counted, what can be looked at and cut. */
#include "flow/terminator.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "base/log.h"
#include "base/metrics.h"
#include "check.h"
#include "flow/http.h"
#include "flow/rows.h"
#include "net/handoff.h"
#include "net/stream.h"
#include "session/session.h"

#define GET "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

static struct reactor *loop;
static struct http http;
static struct hub source;
static struct terminator term;
static struct metrics counted;
static int wire, client;
static uint64_t last_id;
static char heard[64 * 1024];
static size_t heard_len;
static bool ended;
static struct note closed;

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
over(struct hub *h, int status)
{
	(void)h;
	(void)status;
}

static void
conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	(void)h;
	terminator_conn(&term, l, n, fd);
}

static unsigned
room(struct hub *h)
{
	(void)h;
	return terminator_room(&term);
}

static const struct hub_keeper keeper = {
	.greeted = none_greeted, .gone = none_gone, .stop = none, .close = none
};
static const struct hub_ops ops = { .conn = conn, .room = room, .over = over };

static void
idle_now(void *arg)
{
	(void)arg;
}

static int
wrap(void *arg, int rfd, int wfd, bool owns, struct transport **ret)
{
	(void)arg;
	return stream_new(rfd, wfd, owns, ret);
}

static void
say(const struct note *n, const struct env *env, int fd)
{
	static char packet[HANDOFF_MAX];
	ssize_t len = note_print(n, env, packet, sizeof(packet));
	struct handoff_out out = { .bytes = packet, .len = (size_t)len, .fd = fd };

	CHECK(len > 0);
	CHECK_INT(handoff_send(wire, &out, 1), 1);
}

static void
turn(int64_t ms)
{
	static char bytes[HANDOFF_MAX];
	struct handoff_in in = { .bytes = bytes, .fd = -1 };
	struct note n;
	ssize_t got;

	CHECK_INT(reactor_turn(loop, ms), 0);
	if (handoff_recv(wire, &in, 1) == 1 && note_parse(&n, in.bytes, (size_t)in.len) == 0 &&
	    n.verb == NOTE_CLOSED)
		closed = n;
	if (client == -1)
		return;
	got = recv(client, heard + heard_len, sizeof(heard) - 1 - heard_len, MSG_DONTWAIT);
	heard_len += got > 0 ? (size_t)got : 0;
	heard[heard_len] = '\0';
	ended |= got == 0;
}

#define UNTIL(x)                                                                                   \
	do {                                                                                       \
		int rounds = 0;                                                                    \
		while (!(x) && rounds++ < 5000)                                                    \
			turn(rounds < 20 ? 0 : 1);                                                 \
		CHECK(x);                                                                          \
	} while (0)

static void
start(struct terminator_config tc, int64_t request_timeout)
{
	struct hub_config hc = { .tool = "test",
		.option = "--from",
		.spec = "-",
		.role = NOTE_CONSUMER,
		.modes = NOTE_TAKE,
		.peer_user = (uid_t)-1,
		.ops = &ops };
	struct http_config cfg = { .to = HTTP_BUILTIN,
		.limits = { HTTP1_BODY_MAX, HTTP1_HEADER_MAX, HTTP1_COUNT_MAX, HTTP1_LINE_MAX,
		    HTTP1_HEAD_MAX },
		.request_timeout = request_timeout,
		.idle = 20000 };
	int fd[2];

	log_open("terminator", false);
	log_set_level(LOG_L_ERROR);
	memset(&counted, 0, sizeof(counted));
	metrics_use(&counted);
	CHECK_INT(reactor_new(&loop), 0);
	hc.reactor = tc.reactor = loop;
	tc.wrap = wrap;
	tc.idle_now = idle_now;
	tc.handshake = tc.idle = tc.half_close = tc.flush = 20000;
	tc.lifetime = -1;
	if (tc.sink == TERM_TO_SESSION && !tc.session) {
		http_open(&http, &cfg);
		tc.http = &http;
		tc.session = &session_http1;
	}
	hub_open_given(&source, &hc, &keeper, NULL);
	terminator_open(&term, &tc);
	term.from[term.n_from++] = &source;
	term.ready = true;
	CHECK_INT(handoff_pair(fd), 0);
	wire = fd[1];
	client = -1;
	last_id = 0;
	CHECK_INT(hub_take(&source, fd[0], ""), 0);
	say(
	    &(struct note){
		.verb = NOTE_HELLO, .version = 1, .role = NOTE_PRODUCER, .tool = "test" },
	    NULL, -1);
	for (int i = 0; i < 4; i++)
		turn(0);
}

static void
drop(void)
{
	if (client != -1)
		close(client);
	client = -1;
}

static void
finish(void)
{
	drop();
	terminator_cut_all(&term, "test", 0);
	CHECK_INT(term.live, 0);
	hub_close(&source);
	close(wire);
	CHECK_INT(reactor_turn(loop, 0), 0);
	reactor_free(loop);
}

static void
hand_over(bool capped)
{
	unsigned live = term.live;
	struct env env = { 0 };
	int pair[2];

	drop();
	heard_len = 0;
	heard[0] = '\0';
	ended = false;
	closed = (struct note){ 0 };
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	client = pair[0];
	CHECK_INT(env_setf(&env, "CCF_CONN_ID", "rpc#%llu", (unsigned long long)last_id + 1), 0);
	CHECK_INT(env_set(&env, "CCF_INTERFACE", "rpc"), 0);
	if (capped)
		CHECK_INT(env_set(&env, "CCF_CAPPED", "1"), 0);
	say(&(struct note){ .verb = NOTE_CONN, .id = ++last_id }, &env, pair[1]);
	env_free(&env);
	UNTIL(term.live > live);
}

static void
put(const char *bytes, size_t len)
{
	CHECK_INT(send(client, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* The client ends as it should: with its eof, where it came by a Unix socket. */
static void
leave(void)
{
	say(&(struct note){ .verb = NOTE_EOF, .id = last_id }, NULL, -1);
	drop();
}

static uint64_t
count(enum metric m, const char *word)
{
	return metric_get(&counted, m, word);
}

CASE(a_request_that_is_refused_is_the_reason_and_is_counted)
{
	static const struct {
		const char *request, *status, *reason;
	} bad[] = { { "GET /\r\n\r\n", "400", "parsing" },
		{ "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1048577\r\n\r\n", "413",
		    "request-payload-too-large" },
		{ NULL, "431", "request-header-too-large" } };
	static char long_one[32 * 1024];

	start((struct terminator_config){ .sink = TERM_TO_SESSION }, 20000);
	strcpy(long_one, "GET / HTTP/1.1\r\nHost: h\r\nX: ");
	memset(long_one + strlen(long_one), 'a', HTTP1_HEADER_MAX + 1);
	strcat(long_one, "\r\n\r\n");
	for (int reads = 1; reads >= 0; reads--)
		for (size_t i = 0; i < 3; i++) {
			const char *r = bad[i].request ? bad[i].request : long_one;

			hand_over(false);
			put(r, strlen(r));
			UNTIL(ended);
			CHECK(strncmp(heard + 9, bad[i].status, 3) == 0);
			if (reads)
				leave();
			else
				drop(); /* a cut, but the reason is what it was refused for */
			UNTIL(closed.reason[0]);
			CHECK_STR(closed.reason, bad[i].reason);
			CHECK_INT(closed.status, reads ? CCF_PROTOCOL : CCF_CUT);
			CHECK_INT(count(METRIC_CLOSED, bad[i].reason), 2 - reads);
			CHECK_INT(count(METRIC_HTTP_ERRORS, bad[i].reason), 2 - reads);
			CHECK_INT(count(METRIC_REQUESTS, bad[i].status), 2 - reads);
		}
	CHECK_INT(count(METRIC_TAKEN, NULL), 6);
	finish();
}

CASE(an_ordinary_one_is_counted_too)
{
	start((struct terminator_config){ .sink = TERM_TO_SESSION }, 20000);
	hand_over(false);
	put(GET, strlen(GET));
	UNTIL(ended);
	CHECK(strncmp(heard + 9, "200", 3) == 0);
	leave();
	UNTIL(closed.reason[0]);
	CHECK_STR(closed.reason, "done");
	CHECK_INT(count(METRIC_CLOSED, "done"), 1);
	CHECK_INT(count(METRIC_REQUESTS, "200"), 1);
	CHECK_INT(count(METRIC_REQUEST_TIME, NULL), 1);
	CHECK_INT(count(METRIC_CONN_TIME, NULL), 1);
	CHECK_INT(count(METRIC_HTTP_ERRORS, NULL), 0);
	CHECK_INT(count(METRIC_SHAKES, NULL), 0); /* it is not TLS */
	CHECK_INT(count(METRIC_BYTES, "in"), strlen(GET));
	CHECK_INT(count(METRIC_BYTES, "out"), heard_len);
	terminator_gauges(&term);
	CHECK_INT(count(METRIC_LIVE, NULL), 0);
	CHECK_INT(count(METRIC_PEAK, NULL), 1);
	finish();
}

CASE(above_the_soft_cap_the_first_bytes_whatever_they_are_get_the_message)
{
	char message[512];
	struct capped capped = { .message = message,
		.len = http1_capped(message, sizeof(message), 7) };

	for (int sink = TERM_TO_HUB; sink <= TERM_TO_SESSION; sink++) {
		struct hub nobody = { 0 };

		TAILQ_INIT(&nobody.links);
		start((struct terminator_config){ .sink = (enum term_sink)sink,
			  .to = &nobody,
			  .capped = &capped,
			  .capped_first = 20000 },
		    20000);
		term.had_credit = true;
		hub_regrant(&source);
		turn(0);
		hand_over(true);
		for (int i = 0; i < 5; i++)
			turn(0);
		CHECK_INT(heard_len, 0);
		put("\x16\x03?", 3);
		UNTIL(ended);
		CHECK_INT(heard_len, capped.len);
		CHECK(memcmp(heard, message, capped.len) == 0);
		leave();
		UNTIL(closed.reason[0]);
		CHECK_STR(closed.reason, "capped");
		CHECK_INT(closed.status, CCF_UNAVAILABLE);
		CHECK_INT(count(METRIC_CLOSED, "capped"), 1);
		CHECK_INT(count(METRIC_HTTP_CAPPED, NULL), sink == TERM_TO_SESSION);
		CHECK_INT(count(METRIC_REQUESTS, NULL), 0);
		finish();
	}
}

CASE(who_is_silent_above_the_soft_cap_or_below_it_is_closed_at_the_deadline)
{
	struct capped capped = { .message = "x", .len = 1 };

	for (int above = 0; above < 2; above++) {
		start(
		    (struct terminator_config){
			.sink = TERM_TO_SESSION, .capped = &capped, .capped_first = 30 },
		    30);
		hand_over(above);
		UNTIL(ended);
		CHECK_INT(heard_len, 0);
		leave();
		UNTIL(closed.reason[0]);
		CHECK_STR(closed.reason, "request-timeout");
		CHECK_INT(closed.status, CCF_DEADLINE);
		CHECK_INT(count(METRIC_HTTP_CAPPED, NULL), 0);
		finish();
	}
}

CASE(live_connections_can_be_looked_at_and_cut_by_their_name)
{
	struct conn_row row[4] = { 0 };
	int kept[2];

	start((struct terminator_config){ .sink = TERM_TO_SESSION }, 20000);
	for (int i = 0; i < 2; i++) {
		hand_over(false);
		put("GET ", 4);
		turn(0);
		turn(0);
		kept[i] = client;
		client = -1;
	}
	hand_over(false);
	CHECK_INT(terminator_rows(&term, 0, row, 4), 3);
	CHECK_STR(row[0].conn, "rpc#1");
	CHECK_STR(row[2].conn, "rpc#3");
	CHECK_STR(row[1].iface, "rpc");
	CHECK_STR(row[1].state, "open");
	CHECK_STR(row[1].tls, "");
	CHECK_INT(row[1].in, 4);
	CHECK(row[1].age_ms >= 0 && row[1].idle_ms >= 0 && row[1].idle_ms <= row[1].age_ms);
	CHECK_INT(terminator_rows(&term, 1, row, 1), 1);
	CHECK_STR(row[0].conn, "rpc#2");
	CHECK_INT(terminator_rows(&term, 3, row, 4), 0);
	CHECK(!terminator_cut(&term, "rpc#9", "control", CCF_CUT));
	CHECK(terminator_cut(&term, "rpc#2", "control", CCF_CUT));
	CHECK_INT(term.live, 2);
	UNTIL(closed.reason[0]);
	CHECK_INT(closed.id, 2);
	CHECK_STR(closed.reason, "control");
	terminator_gauges(&term);
	CHECK_INT(count(METRIC_LIVE, NULL), 2);
	CHECK_INT(count(METRIC_PEAK, NULL), 3);
	close(kept[0]);
	close(kept[1]);
	finish();
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_request_that_is_refused_is_the_reason_and_is_counted),
	    RUN(an_ordinary_one_is_counted_too),
	    RUN(above_the_soft_cap_the_first_bytes_whatever_they_are_get_the_message),
	    RUN(who_is_silent_above_the_soft_cap_or_below_it_is_closed_at_the_deadline),
	    RUN(live_connections_can_be_looked_at_and_cut_by_their_name),
	    { 0 },
	});
}
