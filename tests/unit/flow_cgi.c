/* flow/cgi with real scripts, for requests of a session that is made up here: what the handler is
 * given and what it says are both in our hands. */
#include "flow/cgi.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/log.h"
#include "base/metrics.h"
#include "check.h"
#include "flow/http.h"
#include "flow/starter.h"
#include "loop/children.h"
#include "loop/signals.h"
#include "session/exchange.h"

/* ---- the session ---- */

struct exchange {
	struct http_conn conn;
	struct http1_head head;
	struct http1_field field[4];
	const char *send; /* the request's body */
	size_t send_len, sent;
	bool pumping, whole;
	bool full; /* the answer is not taken */
	/* the answer */
	bool begun, over, cut;
	unsigned status, says;
	char reason[32], code[32], fields[256], text[256], body[256];
	int64_t length;
	size_t len;
	unsigned *order, nth; /* the how many-th that was answered */
};

static struct reactor *loop;

static bool
is_live(const struct exchange *x)
{
	return !x->over && x->conn.cgi.exchange == x;
}

static void
pump(struct exchange *x)
{
	ssize_t n = 1;

	if (x->pumping || x->whole)
		return;
	x->pumping = true;
	while (is_live(x) && x->sent < x->send_len && n > 0) {
		n = cgi_handler.body(x, x->send + x->sent, x->send_len - x->sent);
		CHECK(n >= 0);
		x->sent += (size_t)n;
	}
	x->pumping = false;
	if (is_live(x) && x->sent == x->send_len) {
		x->whole = true;
		cgi_handler.end(x);
	}
}

static void
answered(struct exchange *x)
{
	CHECK(!x->over);
	x->over = true;
	x->nth = ++*x->order;
}

void
exchange_refuse(
    struct exchange *x, unsigned status, const char *code, const char *fields, const char *fmt, ...)
{
	va_list ap;

	CHECK(!x->begun);
	x->status = status;
	snprintf(x->code, sizeof(x->code), "%s", code);
	snprintf(x->fields, sizeof(x->fields), "%s", fields ? fields : "");
	va_start(ap, fmt);
	vsnprintf(x->text, sizeof(x->text), fmt, ap);
	va_end(ap);
	answered(x);
}

int
exchange_begin(
    struct exchange *x, unsigned status, const char *reason, const char *fields, int64_t length)
{
	CHECK(!x->begun && !x->over);
	x->begun = true;
	x->status = status;
	x->length = length;
	snprintf(x->reason, sizeof(x->reason), "%s", reason ? reason : "");
	snprintf(x->fields, sizeof(x->fields), "%s", fields);
	return 0;
}

int
exchange_say(struct exchange *x, const void *bytes, size_t len)
{
	size_t room = sizeof(x->body) - 1;

	CHECK(x->begun && !x->over && !x->full && len > 0);
	CHECK(x->length < 0 || x->len + len <= (size_t)x->length);
	if (x->len < room)
		memcpy(x->body + x->len, bytes, len < room - x->len ? len : room - x->len);
	x->len += len;
	x->says++;
	return 0;
}

void
exchange_said(struct exchange *x)
{
	CHECK(x->begun);
	answered(x);
}

void
exchange_cut(struct exchange *x)
{
	x->cut = true;
	answered(x);
}

static unsigned full_asked;

bool
exchange_full(const struct exchange *x)
{
	full_asked++;
	return x->full;
}

void
exchange_resume(struct exchange *x)
{
	pump(x);
}

void
exchange_continue(struct exchange *x)
{
	CHECK(!x->over);
}

const struct http1_head *
exchange_request(const struct exchange *x)
{
	return &x->head;
}

void *
exchange_arg(const struct exchange *x)
{
	return (void *)(uintptr_t)&x->conn;
}

/* ---- the test ---- */

static struct signals signals;
static struct children children;
static struct starter_here here;
static struct cgis cgis;
static struct env env;
static unsigned order, descriptors;
static char *argv[] = { "/bin/sh", "-c", NULL, NULL };
static int log_fd = -1, stderr_was;
static char dir[64], fifo[96];

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

static void
on_signal(struct signals *s, int signo)
{
	(void)s, (void)signo;
}

static bool
logged(const char *what)
{
	static char text[65536];
	ssize_t n = pread(log_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return strstr(text, what) != NULL;
}

static void
unlog(void)
{
	CHECK(ftruncate(log_fd, 0) == 0 && lseek(log_fd, 0, SEEK_SET) == 0);
}

static void
begin(const char *script, unsigned max, int64_t timeout)
{
	struct cgis_config cfg = {
		.starter = &here.starter, .command = "script", .max = max, .timeout = timeout
	};
	struct rlimit found;

	argv[2] = (char *)(uintptr_t)script;
	order = 0;
	descriptors = open_descriptors();
	getrlimit(RLIMIT_NOFILE, &found);
	CHECK_INT(reactor_new(&loop), 0);
	cfg.reactor = loop;
	CHECK_INT(signals_open(&signals, loop, NULL, 0, on_signal, NULL), 0);
	children_open(&children, &signals, &found);
	starter_here_open(&here, &children, argv, 0);
	cgis_open(&cgis, &cfg);
	env_set(&env, "PROTO", "TCP");
	env_set(&env, "TCPREMOTEIP", "192.0.2.7");
	env_set(&env, "TCPREMOTEPORT", "5");
	env_set(&env, "CCF_CONN_ID", "rpc#1");
}

static void
until_all_is_over(void)
{
	while (cgis.running > 0)
		reactor_turn(loop, -1);
}

/* And nothing is left of what there was. */
static void
end(void)
{
	until_all_is_over();
	CHECK_INT(children.live, 0);
	CHECK(TAILQ_EMPTY(&cgis.runs) && TAILQ_EMPTY(&cgis.waiting));
	reactor_turn(loop, 0);
	cgis_close(&cgis);
	signals_close(&signals);
	reactor_free(loop);
	env_free(&env);
	CHECK_INT(open_descriptors(), descriptors);
}

#define TEXT(s) ((struct http1_text){ (s), strlen(s) })

static void
ask(struct exchange *x, const char *method, const char *path, const char *body, size_t len)
{
	*x = (struct exchange){ .send = body, .send_len = len, .order = &order };
	cgi_open(&x->conn.cgi, &cgis, &env);
	x->head = (struct http1_head){ .method = TEXT(method),
		.target = TEXT(path),
		.path = TEXT(path),
		.minor = 1,
		.framing = body ? HTTP1_LENGTH : HTTP1_NO_BODY,
		.length = len,
		.field = x->field };
	cgi_handler.begin(x, &x->head);
	pump(x);
}

static void
answer(struct exchange *x)
{
	while (!x->over)
		reactor_turn(loop, -1);
	CHECK(x->conn.cgi.state == CGI_NONE && !x->conn.cgi.run && !x->conn.cgi.exchange);
	cgi_close(&x->conn.cgi);
}

/* One request, one script. */
static struct exchange *
get(const char *script)
{
	static struct exchange x;

	begin(script, 1, 30000);
	ask(&x, "GET", "/", NULL, 0);
	answer(&x);
	end();
	return &x;
}

/* What a test waits for on the part of a script that goes on. */
static void
let_go_on(void)
{
	int fd = open(fifo, O_RDWR | O_CLOEXEC | O_NONBLOCK); /* waits for nobody */

	CHECK(fd != -1 && write(fd, "\n", 1) == 1);
	until_all_is_over();
	close(fd);
}

/* ---- */

CASE(a_script_answers)
{
	const struct exchange *x =
	    get("printf 'Status: 201 Made\\nX-Method: %s\\nContent-Type: text/plain\\n\\n%s %s' "
		"$REQUEST_METHOD $REMOTE_ADDR $CCF_CONN_ID");

	CHECK_INT(x->status, 201);
	CHECK_STR(x->reason, "Made");
	CHECK_STR(x->fields, "X-Method: GET\r\nContent-Type: text/plain\r\n");
	CHECK_INT(x->length, -1);
	CHECK_STR(x->body, "192.0.2.7 rpc#1");
	CHECK(!x->cut);
	CHECK_INT(metric_get(metrics_here(), METRIC_COMMANDS, "ok"), 1);
	CHECK_INT(metric_get(metrics_here(), METRIC_COMMANDS, "failed"), 0);
}

CASE(a_redirect_needs_no_status)
{
	const struct exchange *x = get("printf 'Location: /there\\n\\n'");

	CHECK_INT(x->status, 302);
	CHECK_STR(x->fields, "Location: /there\r\n");
	CHECK(x->over && !x->cut);
	CHECK_INT(x->len, 0);
}

CASE(a_megabyte_goes_in_and_comes_back)
{
	static char much[1 << 20];
	struct exchange x;

	for (size_t i = 0; i < sizeof(much); i++)
		much[i] = (char)('a' + i % 23);
	begin("printf 'Content-Length: %d\\n\\n' $CONTENT_LENGTH; exec cat", 1, 30000);
	ask(&x, "POST", "/", much, sizeof(much));
	CHECK(!x.whole); /* it did not go at once */
	answer(&x);
	CHECK(x.whole && !x.cut);
	CHECK_INT(x.length, sizeof(much));
	CHECK_INT(x.len, sizeof(much));
	CHECK(memcmp(x.body, much, sizeof(x.body) - 1) == 0);
	end();
}

CASE(nothing_is_read_while_the_client_takes_nothing)
{
	struct exchange x;
	unsigned says, asked;

	begin("printf 'A: b\\n\\n'; head -c 1048576 /dev/zero", 1, 30000);
	ask(&x, "GET", "/", NULL, 0);
	while (x.says < 3)
		reactor_turn(loop, -1);
	x.full = true;
	cgi_handler.drained(&x); /* what is wanted is thought over */
	says = x.says;
	asked = full_asked;
	for (int i = 0; i < 5; i++)
		reactor_turn(loop, 0);
	CHECK_INT(x.says, says);
	CHECK_INT(full_asked, asked); /* nor is it looked at */
	CHECK(x.len < 1048576);
	x.full = false;
	cgi_handler.drained(&x);
	answer(&x);
	CHECK_INT(x.len, 1048576);
	end();
}

CASE(a_script_may_leave_its_input_alone)
{
	static char much[1 << 20];
	struct exchange x;

	begin("printf 'A: b\\n\\nno'", 1, 30000);
	ask(&x, "POST", "/", much, sizeof(much));
	answer(&x);
	CHECK_STR(x.body, "no");
	CHECK(!x.cut);
	end();
	/* it has ended, and nobody has taken the answer yet */
	begin("printf 'A: b\\n\\nno'", 1, 30000);
	ask(&x, "POST", "/", much, sizeof(much));
	while (!x.begun)
		reactor_turn(loop, -1);
	x.full = true;
	until_all_is_over();
	while (!x.whole)
		reactor_turn(loop, -1);
	x.full = false;
	cgi_handler.drained(&x);
	answer(&x);
	CHECK_STR(x.body, "no");
	end();
}

CASE(a_script_may_answer_before_it_reads)
{
	static char some[100];
	struct exchange x;

	begin("printf 'A: b\\n\\nearly '; wc -c", 1, 30000);
	ask(&x, "POST", "/", NULL, 0);
	CHECK(x.whole);
	answer(&x);
	CHECK_STR(x.body, "early 0\n");
	end();
	begin("printf 'A: b\\n\\nearly '; wc -c", 1, 30000);
	x = (struct exchange){ .order = &order };
	memset(some, 'x', sizeof(some));
	ask(&x, "POST", "/", some, sizeof(some));
	answer(&x);
	CHECK_STR(x.body, "early 100\n");
	end();
}

CASE(an_answer_that_is_none_is_500)
{
	const struct exchange *x;

	unlog();
	x = get("true");
	CHECK_INT(x->status, 500);
	CHECK_STR(x->code, "InternalError");
	CHECK_STR(x->text, "the script's answer cannot be used: it said nothing");
	CHECK(logged(
	    "rpc#1 192.0.2.7:5: script has given an answer that cannot be used: it said nothing"));
	x = get("echo hello");
	CHECK_STR(x->text, "the script's answer cannot be used: line 1: there is no colon");
	x = get("printf 'A: b\\n'");
	CHECK_STR(x->text, "the script's answer cannot be used: it ended before its header did");
	CHECK_INT(x->status, 500);
	/* who goes on is hung up on, and has nobody to talk to */
	x = get("echo hello; sleep 1000 </dev/null >/dev/null & exec sleep 1000 & wait");
	CHECK_INT(x->status, 500);
}

CASE(a_killed_script_has_not_answered)
{
	const struct exchange *x;

	unlog();
	x = get("kill -9 $$");
	CHECK_INT(x->status, 500);
	CHECK_STR(x->text, "the script's answer cannot be used: it was killed by signal 9");
	CHECK(logged("script was killed by signal 9"));
	x = get("printf 'A: b\\n\\nhello'; kill -9 $$");
	CHECK_INT(x->status, 200);
	CHECK_STR(x->body, "hello");
	CHECK(x->cut);
}

CASE(a_status_is_only_a_warning)
{
	uint64_t failed = metric_get(metrics_here(), METRIC_COMMANDS, "failed");
	const struct exchange *x;

	unlog();
	x = get("printf 'A: b\\n\\nhello'; exit 3");
	CHECK_INT(x->status, 200);
	CHECK_STR(x->body, "hello");
	CHECK(!x->cut);
	CHECK(logged("script ended with status 3"));
	CHECK_INT(metric_get(metrics_here(), METRIC_COMMANDS, "failed"), failed + 1);
}

CASE(a_length_is_kept_or_the_answer_is_cut)
{
	const struct exchange *x;

	unlog();
	x = get("printf 'Content-Length: 6\\n\\nhello'");
	CHECK_STR(x->body, "hello");
	CHECK(x->cut);
	CHECK(logged("has said 5 bytes, and Content-Length: 6"));
	x = get("printf 'Content-Length: 5\\n\\nhello'");
	CHECK(!x->cut);
	CHECK_INT(x->length, 5);
	x = get("printf 'Content-Length: 4\\n\\nhel'; printf 'lo you'; printf more");
	CHECK_STR(x->body, "hell");
	CHECK(!x->cut);
	CHECK(logged("says more than its Content-Length: 4"));
	x = get("printf 'Content-Length: 0\\n\\nhello'");
	CHECK_INT(x->len, 0);
	CHECK(!x->cut);
}

CASE(a_head_has_no_body)
{
	struct exchange x;

	begin("printf 'Content-Length: 6\\n\\n'", 1, 30000);
	ask(&x, "HEAD", "/", NULL, 0);
	answer(&x);
	CHECK_INT(x.length, 6);
	CHECK(!x.cut);
	ask(&x, "head", "/", NULL, 0); /* a method of that name is another one */
	answer(&x);
	CHECK(x.cut);
	end();
	begin("printf 'Content-Length: 6\\n\\ntoo much'", 1, 30000);
	ask(&x, "HEAD", "/", NULL, 0);
	answer(&x);
	CHECK_INT(x.len, 0);
	CHECK(!x.cut);
	end();
	CHECK_INT(get("printf 'Status: 204\\n\\nhello'")->len, 0);
	CHECK_INT(get("printf 'Status: 304\\nContent-Length: 9\\n\\n'")->cut, false);
}

CASE(time_is_limited)
{
	struct exchange x;

	unlog();
	begin("exec sleep 1000", 1, 50);
	ask(&x, "GET", "/", NULL, 0);
	answer(&x);
	CHECK_INT(x.status, 504);
	CHECK_STR(x.code, "GatewayTimeout");
	CHECK(logged("script takes longer than 50 ms, and is ended"));
	until_all_is_over(); /* by SIGTERM: nobody waited for CGI_KILL_MS */
	CHECK(!logged("killed by signal"));
	end();
	begin("printf 'A: b\\n\\nhello'; exec sleep 1000", 1, 300);
	ask(&x, "GET", "/", NULL, 0);
	answer(&x);
	CHECK_STR(x.body, "hello");
	CHECK(x.cut);
	end();
	begin("trap '' TERM; printf 'A: b\\n'; while :; do sleep 1000 </dev/null >/dev/null; done",
	    1, 300);
	ask(&x, "GET", "/", NULL, 0);
	answer(&x);
	CHECK_INT(x.status, 504);
	CHECK_INT(cgis.running, 1);
	until_all_is_over(); /* SIGKILL */
	end();
}

CASE(a_client_that_leaves_hangs_up)
{
	struct exchange x;

	begin("printf 'A: b\\n\\n'; exec sleep 1000", 1, 60000);
	ask(&x, "GET", "/", NULL, 0);
	while (!x.begun)
		reactor_turn(loop, -1);
	cgi_handler.abort(&x);
	CHECK_INT(x.conn.cgi.state, CGI_NONE);
	cgi_close(&x.conn.cgi);
	CHECK_INT(cgis.running, 1); /* its place is free when it has ended */
	CHECK_INT(open_descriptors(), descriptors + 2);
	end();
	CHECK(!x.over);
}

CASE(a_script_that_ignores_it_keeps_its_place_and_its_deadline)
{
	char script[256];
	struct exchange x, y;

	snprintf(script, sizeof(script), "trap '' HUP; read x <%s; printf 'A: b\\n\\nhello'", fifo);
	begin(script, 1, 60000);
	ask(&x, "GET", "/", NULL, 0);
	while (!x.conn.cgi.run)
		reactor_turn(loop, -1);
	/* it has come as far as the fifo: only then does it ignore */
	close(open(fifo, O_WRONLY | O_CLOEXEC));
	ask(&y, "GET", "/", NULL, 0);
	CHECK_INT(y.conn.cgi.state, CGI_WAITING);
	cgi_close(&x.conn.cgi);
	CHECK_INT(cgis.running, 1);
	CHECK_INT(y.conn.cgi.state, CGI_WAITING);
	cgi_close(&y.conn.cgi);
	let_go_on();
	end();
	snprintf(script, sizeof(script), "trap '' HUP; while :; do read x <%s; done", fifo);
	begin(script, 1, 400);
	ask(&x, "GET", "/", NULL, 0);
	close(open(fifo, O_WRONLY | O_CLOEXEC));
	cgi_close(&x.conn.cgi);
	until_all_is_over();
	CHECK(!x.over);
	end();
}

static void
no_matter(struct timer *t)
{
	(void)t;
}

CASE(a_script_that_goes_on_in_silence_has_answered)
{
	struct timer later = { .fire = no_matter };
	char script[256];
	struct exchange x;

	snprintf(
	    script, sizeof(script), "printf 'A: b\\n\\nhello'; exec <&- >&-; read x <%s", fifo);
	begin(script, 1, 1500);
	unlog();
	ask(&x, "GET", "/", NULL, 0);
	answer(&x);
	CHECK_STR(x.body, "hello");
	CHECK(!x.cut);
	CHECK_INT(cgis.running, 1);
	reactor_timer(loop, &later, x.conn.cgi.until + 1);
	while (later.slot)
		reactor_turn(loop, -1);
	CHECK(!logged("takes longer")); /* it has all the time now */
	let_go_on();
	end();
	snprintf(script, sizeof(script), "exec <&- >&-; while :; do read x <%s; done", fifo);
	begin(script, 1, 2000);
	ask(&x, "GET", "/", NULL, 0);
	answer(&x);
	CHECK_INT(x.status, 500);
	end();
}

CASE(turns_are_taken_in_order)
{
	enum { N = 20 };
	static struct exchange x[N];
	unsigned most = 0;

	begin("printf 'A: b\\n\\n'; cat", 3, 30000);
	for (unsigned i = 0; i < N; i++) {
		ask(&x[i], "POST", "/", "hello", i % 2 ? 5 : 0);
		CHECK_INT(x[i].conn.cgi.state, i < 3 ? CGI_RUNNING : CGI_WAITING);
		CHECK(i < 3 || x[i].sent == 0);
		CHECK_INT(x[i].whole, i < 3 || i % 2 == 0);
	}
	cgi_handler.abort(&x[10]); /* one goes away */
	for (unsigned i = 0; i < N; i++) {
		while (i != 10 && !x[i].over) {
			most = cgis.running > most ? cgis.running : most;
			reactor_turn(loop, -1);
		}
		CHECK_INT(x[i].cut, false);
		CHECK_STR(x[i].body, i % 2 ? "hello" : "");
		CHECK(i < 6 || i == 10 || x[i].nth + 3 > i - (i > 10));
	}
	CHECK_INT(most, 3);
	end();
}

CASE(who_waits_too_long_is_told_503)
{
	char script[256];
	struct exchange x, y;

	snprintf(script, sizeof(script), "read x <%s; printf 'A: b\\n\\nhello'", fifo);
	begin(script, 1, 300);
	ask(&x, "GET", "/", NULL, 0);
	cgis.cfg.timeout = 10;
	ask(&y, "GET", "/", NULL, 0);
	answer(&y);
	CHECK_INT(y.status, 503);
	CHECK_STR(y.code, "ServiceUnavailable");
	CHECK_STR(y.fields, "Retry-After: 1\r\n");
	CHECK(!x.over);
	answer(&x);
	CHECK_INT(x.status, 504);
	end();
}

CASE(what_cannot_be_run_is_500)
{
	static char *none[] = { "/nowhere/at/all", NULL };
	struct rlimit was, few;
	struct exchange x;

	unlog();
	begin("", 1, 30000);
	here.argv = none;
	ask(&x, "GET", "/", NULL, 0);
	CHECK(x.over);
	CHECK_INT(x.status, 500);
	CHECK_STR(x.text, "the script cannot be run");
	CHECK(logged("error: rpc#1 192.0.2.7:5: cannot run script: No such file or directory"));
	here.argv = argv;
	getrlimit(RLIMIT_NOFILE, &was);
	few = (struct rlimit){ .rlim_cur = 3, .rlim_max = was.rlim_max };
	setrlimit(RLIMIT_NOFILE, &few);
	ask(&x, "GET", "/", NULL, 0);
	setrlimit(RLIMIT_NOFILE, &was);
	CHECK(x.over);
	CHECK_INT(x.status, 503);
	CHECK_STR(x.fields, "Retry-After: 1\r\n");
	end();
}

CASE(a_request_that_cannot_be_said_is_refused)
{
	char *much = malloc(17000);
	struct exchange x;

	begin("printf 'A: b\\n\\n'", 1, 30000);
	ask(&x, "GET", "/a%2fb", NULL, 0);
	CHECK_INT(x.status, 400);
	CHECK(x.over);
	ask(&x, "GET", "/a/%2e./b", NULL, 0);
	CHECK_INT(x.status, 400);
	CHECK(strstr(x.text, "a segment \"..\""));
	memset(much, 'x', 17000);
	*much = '/';
	much[16999] = '\0';
	ask(&x, "GET", much, NULL, 0);
	CHECK_INT(x.status, 431);
	CHECK_STR(x.code, "RequestHeaderTooLarge");
	CHECK(x.over);
	end();
	free(much);
}

/* ---- somebody else starts it ---- */

static struct remote {
	struct starter starter;
	struct started *asked;
	int fd, held; /* copies of both ends */
	unsigned hangups, kills, abandons;
	int signo;
	bool cgi;
} remote;

static int
remote_start(struct starter *by, struct started *s, const struct env *e, int fd)
{
	s->by = by;
	remote.asked = s;
	remote.fd = dup(fd);
	remote.cgi = e->cgi && env_get(e, "REQUEST_METHOD");
	return 0;
}

static void
remote_hold(struct starter *by, struct started *s, int fd)
{
	(void)by;
	CHECK(s == remote.asked);
	remote.held = dup(fd);
}

static void
remote_hangup(struct starter *by, struct started *s)
{
	(void)by, (void)s;
	remote.hangups++;
}

static void
remote_kill(struct starter *by, struct started *s, int signo)
{
	(void)by, (void)s;
	remote.kills++;
	remote.signo = signo;
}

static void
remote_abandon(struct starter *by, struct started *s)
{
	(void)by;
	s->by = NULL;
	remote.abandons++;
}

static const struct starter_ops remote_ops = { .start = remote_start,
	.hold = remote_hold,
	.hangup = remote_hangup,
	.kill = remote_kill,
	.abandon = remote_abandon };

static void
begin_remote(int64_t timeout)
{
	begin("", 1, timeout);
	remote = (struct remote){ .starter.ops = &remote_ops, .fd = -1, .held = -1 };
	cgis.cfg.starter = &remote.starter;
}

static void
end_remote(void)
{
	close(remote.fd);
	close(remote.held);
	end();
}

CASE(elsewhere_it_may_fail_later)
{
	struct exchange x, y;

	begin_remote(30000);
	ask(&x, "POST", "/", "hello", 5);
	ask(&y, "GET", "/", NULL, 0);
	CHECK(remote.cgi && remote.held != -1);
	CHECK_INT(y.conn.cgi.state, CGI_WAITING);
	close(remote.fd);
	close(remote.held);
	remote.asked->ops->failed(remote.asked, -ENOENT);
	CHECK(x.over);
	CHECK_INT(x.status, 500);
	CHECK_INT(y.conn.cgi.state, CGI_RUNNING); /* whose turn it is then */
	cgi_close(&y.conn.cgi);
	CHECK_INT(remote.hangups, 1);
	CHECK_INT(cgis.running, 1);
	remote.asked->ops->failed(remote.asked, -EACCES); /* nobody is there any more */
	CHECK_INT(cgis.running, 0);
	end_remote();
}

CASE(its_exit_and_its_end_come_in_any_order)
{
	static const char said[] = "A: b\n\nhello";
	struct exchange x;

	for (int exit_first = 0; exit_first < 2; exit_first++) {
		begin_remote(30000);
		ask(&x, "GET", "/", NULL, 0);
		CHECK(write(remote.fd, said, sizeof(said) - 1) == sizeof(said) - 1);
		if (exit_first) {
			remote.asked->ops->exited(remote.asked, 0);
			CHECK_INT(cgis.running,
			    0); /* it runs no more, and the answer is still to be given */
			CHECK(!x.over);
			CHECK_INT(x.conn.cgi.state, CGI_RUNNING);
		}
		close(remote.fd);
		for (int i = 0; !exit_first && i < 3; i++)
			reactor_turn(loop, 0);
		CHECK(!x.over);
		if (!exit_first)
			remote.asked->ops->exited(remote.asked, 0);
		answer(&x);
		CHECK_STR(x.body, "hello");
		CHECK(!x.cut);
		remote.fd = -1;
		end_remote();
	}
}

/* Its output has ended, it has not, and its client is gone: it has its time, and no more. */
CASE(a_client_may_leave_while_an_exit_is_waited_for)
{
	static const char said[] = "A: b\n\nhello";
	struct exchange x;

	begin_remote(100);
	ask(&x, "GET", "/", NULL, 0);
	CHECK(write(remote.fd, said, sizeof(said) - 1) == sizeof(said) - 1);
	close(remote.fd);
	remote.fd = -1;
	while (x.len == 0)
		reactor_turn(loop, -1);
	for (int i = 0; i < 3; i++)
		reactor_turn(loop, 0);
	cgi_handler.abort(&x);
	CHECK_INT(remote.hangups, 1);
	while (remote.kills < 1)
		reactor_turn(loop, -1);
	CHECK_INT(remote.signo, SIGTERM);
	remote.asked->ops->exited(remote.asked, SIGTERM);
	CHECK(!x.over);
	end_remote();
}

static unsigned told_of_ends;

static void
count_ends(void *arg)
{
	(void)arg;
	told_of_ends++;
}

CASE(one_that_lives_on_is_ended_when_we_end)
{
	struct exchange x, y;

	begin_remote(10);
	cgis.cfg.ended = count_ends;
	ask(&x, "GET", "/", NULL, 0);
	answer(&x);
	CHECK_INT(remote.kills, 1);
	CHECK_INT(remote.signo, SIGTERM);
	CHECK(cgis_owing(&cgis));
	while (remote.kills < 2)
		reactor_turn(loop, -1);
	CHECK_INT(remote.signo, SIGKILL);
	CHECK(!cgis_owing(&cgis)); /* and that was said: its exit may never be */
	CHECK_INT(told_of_ends, 1);
	remote.asked->ops->exited(remote.asked, SIGKILL);
	end_remote();
	begin_remote(30000);
	ask(&x, "GET", "/", NULL, 0);
	ask(&y, "GET", "/", NULL, 0);
	cgis_close(&cgis);
	CHECK_INT(remote.signo, SIGTERM);
	CHECK_INT(remote.abandons, 1);
	cgi_close(&x.conn.cgi);
	cgi_close(&y.conn.cgi);
	cgi_close(&y.conn.cgi);
	end_remote();
}

int
main(void)
{
	int bad;

	alarm(120);
	setenv("PATH", "/usr/bin:/bin", 1);
	snprintf(
	    dir, sizeof(dir), "%s/ccf-cgi-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	if (!mkdtemp(dir))
		return 1;
	snprintf(fifo, sizeof(fifo), "%s/fifo", dir);
	if (mkfifo(fifo, 0600) == -1)
		return 1;
	log_open("test", false);
	log_fd = memfd_create("log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	stderr_was = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(log_fd, STDERR_FILENO);
	bad = check_main((struct check_case[]){
	    RUN(a_script_answers),
	    RUN(an_answer_that_is_none_is_500),
	    RUN(a_killed_script_has_not_answered),
	    RUN(a_status_is_only_a_warning),
	    RUN(a_length_is_kept_or_the_answer_is_cut),
	    RUN(time_is_limited),
	    RUN(what_cannot_be_run_is_500),
	    RUN(a_redirect_needs_no_status),
	    RUN(a_megabyte_goes_in_and_comes_back),
	    RUN(nothing_is_read_while_the_client_takes_nothing),
	    RUN(a_script_may_leave_its_input_alone),
	    RUN(a_script_may_answer_before_it_reads),
	    RUN(a_head_has_no_body),
	    RUN(a_client_that_leaves_hangs_up),
	    RUN(a_script_that_ignores_it_keeps_its_place_and_its_deadline),
	    RUN(a_script_that_goes_on_in_silence_has_answered),
	    RUN(turns_are_taken_in_order),
	    RUN(who_waits_too_long_is_told_503),
	    RUN(a_request_that_cannot_be_said_is_refused),
	    RUN(elsewhere_it_may_fail_later),
	    RUN(its_exit_and_its_end_come_in_any_order),
	    RUN(a_client_may_leave_while_an_exit_is_waited_for),
	    RUN(one_that_lives_on_is_ended_when_we_end),
	    { 0 },
	});
	dup2(stderr_was, STDERR_FILENO);
	unlink(fifo);
	rmdir(dir);
	return bad;
}
