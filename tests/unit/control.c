/* A control socket in this process, and its clients as well: what they send and get goes through
 * the kernel. */
#include "flow/control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "check.h"

static struct reactor *loop;
static struct control control;
static char dir[] = "/tmp/ccf-unit-control.XXXXXX", path[64];
static char body[CONTROL_BODY_MAX + 1], rest[128];
static uid_t uid;
static struct control_call *later;
static size_t much;

/* ---- the routes ---- */

static void
say(struct control_call *call, const char *text)
{
	struct text t = { 0 };

	text_add(&t, "%s", text);
	control_reply(call, 200, "text/plain", &t);
}

static void
answer_root(struct control_call *call)
{
	say(call, "root");
}

static void
answer_put(struct control_call *call)
{
	memcpy(body, call->body, call->body_len + 1);
	memcpy(rest, call->rest, sizeof(rest));
	uid = call->uid;
	say(call, "put");
}

static void
answer_much(struct control_call *call)
{
	struct text t = { 0 };

	while (t.len < much)
		text_add(&t, "%015zu\n", t.len);
	control_reply(call, 200, "text/plain", &t);
}

static void
answer_later(struct control_call *call)
{
	later = call;
}

static void
answer_never(struct control_call *call)
{
	control_refuse(call, 404, "X-A: b\r\n", "\"no\" %s", "%d");
}

static void
answer_nothing(struct control_call *call)
{
	control_reply(call, 202, NULL, NULL);
}

static const struct control_route routes[] = {
	{ "GET", "/", "root", answer_root },
	{ "GET", "/much", "much", answer_much },
	{ "GET", "/later", "later", answer_later },
	{ "GET", "/never", "never", answer_never },
	{ "POST", "/nothing", "nothing", answer_nothing },
	{ "PUT", "/things/", "one", answer_put },
	{ "DELETE", "/things/", "one", answer_put },
	{ "GET", "/things", "all", answer_root },
	{ "POST", "/hidden", NULL, answer_root },
	{ 0 },
};

/* ---- clients ---- */

struct client {
	int fd;
	char got[65536];
	size_t len;
	bool ended;
};

static void
turn(void)
{
	reactor_turn(loop, 5);
}

static struct client
dial(void)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct client c = { .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };

	strcpy(un.sun_path, path);
	CHECK(connect(c.fd, (struct sockaddr *)&un, sizeof(un)) == 0);
	return c;
}

static void
send_all(struct client *c, const char *text)
{
	size_t len = strlen(text);

	while (len > 0) {
		ssize_t n = send(c->fd, text, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return;
		if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
		turn();
	}
}

static void
hear(struct client *c)
{
	ssize_t n = recv(c->fd, c->got + c->len, sizeof(c->got) - 1 - c->len, 0);

	if (n == 0 || (n < 0 && errno != EAGAIN))
		c->ended = true;
	if (n > 0)
		c->len += (size_t)n;
	c->got[c->len] = '\0';
}

static unsigned
count(const char *in, const char *what)
{
	unsigned n = 0;

	for (; (in = strstr(in, what)); in++)
		n++;
	return n;
}

/* Turns until it has heard that so often, or its end. */
static const char *
until(struct client *c, const char *what, unsigned times)
{
	while (!c->ended && count(c->got, what) < times) {
		turn();
		hear(c);
	}
	return c->got;
}

static const char *
ask(struct client *c, const char *request, const char *what)
{
	c->len = 0;
	c->got[0] = '\0';
	send_all(c, request);
	return until(c, what, 1);
}

static void
begin_as(mode_t mode)
{
	struct control_config cfg = { .path = path,
		.socket_mode = mode,
		.socket_group = (gid_t)-1,
		.peer_user = (uid_t)-1,
		.tool = "test",
		.route = routes };
	char msg[256] = "";

	CHECK_INT(reactor_new(&loop), 0);
	cfg.reactor = loop;
	CHECK_INT(control_open(&control, &cfg, msg, sizeof(msg)), 0);
	CHECK_STR(msg, "");
}

static void
begin(void)
{
	begin_as(0600);
}

static void
end(void)
{
	control_close(&control);
	CHECK_INT(access(path, F_OK), -1);
	CHECK_INT(control.clients, 0);
	reactor_turn(loop, 0);
	reactor_free(loop);
}

/* ---- routing ---- */

static struct control_miss miss;

static const struct control_route *
find(const char *method, const char *where)
{
	rest[0] = '\0';
	return control_find(routes, (struct http1_text){ method, strlen(method) },
	    (struct http1_text){ where, strlen(where) }, rest, 16, &miss);
}

CASE(a_path_and_a_method_lead_to_a_route)
{
	CHECK(find("GET", "/")->answer == answer_root);
	CHECK(find("HEAD", "/much")->answer == answer_much);
	CHECK(find("GET", "/things")->answer == answer_root);
	CHECK(find("PUT", "/things/rpc%237")->answer == answer_put);
	CHECK_STR(rest, "rpc#7");
	CHECK(find("DELETE", "/things/a/b%2f%C3%bc+") != NULL);
	CHECK_STR(rest, "a/b/\xc3\xbc+");
	CHECK(find("POST", "/hidden") != NULL);
	CHECK(find("PUT", "/things/123456789012345") != NULL); /* 15 and a NUL */
}

CASE(what_does_not_lead_anywhere_is_told_what_there_is)
{
	static const char *const nowhere[] = { "", "*", "/nix", "/much/", "//", "/thing",
		"/things/", "/hidden/x", "/MUCH", "/much%20" };
	char longer[256];

	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
		CHECK(find("GET", nowhere[i]) == NULL);
		CHECK_INT(miss.status, 404);
	}
	CHECK(find("GET", "/nix") == NULL);
	CHECK_STR(miss.why,
	    "there is no /nix here; there is GET /, GET /much, GET /later, "
	    "GET /never, POST /nothing, PUT /things/ID, DELETE /things/ID, GET /things");
	CHECK(find("PATCH", "/things/x") == NULL);
	CHECK_INT(miss.status, 405);
	CHECK_STR(miss.allow, "PUT, DELETE");
	CHECK_STR(miss.why, "/things/ does not take PATCH, but PUT, DELETE");
	CHECK(find("PUT", "/much") == NULL);
	CHECK_STR(miss.allow, "GET, HEAD");
	CHECK(find("get", "/much") == NULL);
	CHECK_INT(miss.status, 405);
	CHECK(find("HEAD", "/nothing") == NULL);
	CHECK_INT(miss.status, 405);
	memset(longer, '/', sizeof(longer));
	longer[255] = '\0';
	CHECK(find(longer, longer) == NULL);
	CHECK_INT(miss.status, 404);
	CHECK(strstr(miss.why, "/... here; there is GET /,"));
	CHECK(find(longer, "/much") == NULL);
	CHECK_INT(miss.status, 405);
}

CASE(what_is_escaped_wrongly_is_said)
{
	static const char *const bad[] = { "/things/%", "/things/a%2", "/things/%zz", "/things/%00",
		"/things/%0", "/things/%%3", "/things/1234567890123456" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(find("PUT", bad[i]) == NULL);
		CHECK_INT(miss.status, 400);
		CHECK(strstr(miss.why, "# is written %23"));
	}
}

/* ---- over the socket ---- */

CASE(requests_are_answered_on_one_connection)
{
	struct client c;
	const char *s;

	begin();
	c = dial();
	s = ask(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "root");
	CHECK(strncmp(s, "HTTP/1.1 200 OK\r\n", 17) == 0 && strstr(s, "\r\nContent-Length: 4\r\n"));
	s = ask(
	    &c, "PUT /things/rpc%237 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "put");
	CHECK_STR(body, "hello");
	CHECK_STR(rest, "rpc#7");
	CHECK_INT(uid, getuid());
	s = ask(&c, "GET /nix HTTP/1.1\r\nHost: x\r\n\r\n", "}}");
	CHECK(strncmp(s, "HTTP/1.1 404 ", 13) == 0);
	CHECK(strstr(s, "application/json"));
	CHECK(strstr(
	    s, "{\"error\":{\"code\":\"ResourceNotFound\",\"message\":\"there is no /nix here; "));
	s = ask(&c, "DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", "}}");
	CHECK(strncmp(s, "HTTP/1.1 405 ", 13) == 0 && strstr(s, "\r\nAllow: GET, HEAD\r\n"));
	s = ask(&c, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n", "}}");
	CHECK(strstr(s, "\r\nX-A: b\r\n") && strstr(s, "\"message\":\"\\\"no\\\" %d\""));
	s = ask(&c, "POST /nothing HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n");
	CHECK(strncmp(s, "HTTP/1.1 202 ", 13) == 0 && strstr(s, "\r\nContent-Length: 0\r\n"));
	s = ask(&c,
	    "HEAD / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: "
	    "close\r\n\r\n",
	    "\r\n\r\nroot");
	CHECK_INT(count(s, "HTTP/1.1 200 OK"), 2);
	until(&c, "never", 1);
	CHECK(c.ended);
	close(c.fd);
	end();
}

CASE(a_body_has_a_bound)
{
	static char big[CONTROL_BODY_MAX + 2], head[128];
	struct client c;

	begin();
	memset(big, 'x', CONTROL_BODY_MAX + 1);
	c = dial();
	snprintf(head, sizeof(head),
	    "PUT /things/a HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", CONTROL_BODY_MAX);
	send_all(&c, head);
	big[CONTROL_BODY_MAX] = '\0';
	CHECK(strstr(ask(&c, big, "put"), "200 OK"));
	CHECK_INT(strlen(body), CONTROL_BODY_MAX);
	big[CONTROL_BODY_MAX] = 'x';
	snprintf(head, sizeof(head),
	    "PUT /things/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
	    CONTROL_BODY_MAX + 1);
	send_all(&c, head);
	CHECK(strstr(ask(&c, big, "}}"), "HTTP/1.1 413 "));
	until(&c, "never", 1);
	CHECK(c.ended);
	close(c.fd);
	c = dial();
	CHECK(strstr(ask(&c, "nonsense\r\n\r\n", "}}"), "HTTP/1.1 400 "));
	close(c.fd);
	end();
}

/* The end of a list is not lost because its client reads it slowly. */
CASE(a_long_answer_comes_whole)
{
	struct client c;
	size_t got = 0;
	char *at;

	begin();
	much = 5 * 1024 * 1024;
	c = dial();
	ask(&c, "GET /much HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "\r\n\r\n");
	at = strstr(c.got, "\r\n\r\n");
	CHECK(strstr(c.got, "\r\nContent-Length: 5242880\r\n"));
	got = c.len - (size_t)(at + 4 - c.got);
	while (!c.ended) {
		c.len = 0;
		hear(&c);
		if (c.len >= 16 && got % 16 == 0)
			CHECK_INT(strtol(c.got, NULL, 10), got);
		got += c.len;
		turn();
	}
	CHECK_INT(got, much);
	close(c.fd);
	/* and one whose client leaves in the middle of it */
	c = dial();
	ask(&c, "GET /much HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n");
	close(c.fd);
	while (control.clients > 0)
		turn();
	end();
}

CASE(an_answer_may_come_later_or_to_nobody)
{
	struct text t = { 0 };
	struct client c;

	begin();
	c = dial();
	send_all(&c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
	while (!later)
		turn();
	hear(&c);
	CHECK_INT(c.len, 0); /* nor is the next one answered before it */
	text_add(&t, "now");
	control_reply(later, 200, "text/plain", &t);
	later = NULL;
	until(&c, "root", 1);
	CHECK(strstr(c.got, "\r\n\r\nnowHTTP/1.1 200 OK"));

	send_all(&c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	while (!later)
		turn();
	close(c.fd);
	turn();
	control_refuse(later, 400, NULL, "to nobody");
	later = NULL;
	CHECK(TAILQ_EMPTY(&control.calls));
	while (control.clients > 0)
		turn();

	c = dial();
	send_all(&c, "GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
	while (!later)
		turn();
	end(); /* nobody answers that */
	close(c.fd);
}

CASE(so_many_clients_and_the_next_one_waits)
{
	static struct client c[CONTROL_CLIENTS + 1];

	begin();
	for (int i = 0; i <= CONTROL_CLIENTS; i++)
		c[i] = dial();
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		ask(&c[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "root");
	send_all(&c[CONTROL_CLIENTS], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	for (int i = 0; i < 10; i++)
		turn();
	CHECK_INT(control.clients, CONTROL_CLIENTS);
	hear(&c[CONTROL_CLIENTS]);
	CHECK_INT(c[CONTROL_CLIENTS].len, 0);
	close(c[3].fd);
	until(&c[CONTROL_CLIENTS], "root", 1);
	CHECK(!c[CONTROL_CLIENTS].ended);
	end();
	for (int i = 0; i <= CONTROL_CLIENTS; i++)
		if (i != 3)
			close(c[i].fd);
}

CASE(the_socket_is_ours_alone_and_a_stale_one_is_taken)
{
	struct control other = { 0 };
	struct control_config cfg;
	struct stat st;
	char msg[256] = "";
	struct client c;
	pid_t pid;

	begin_as(0640);
	CHECK_INT(lstat(path, &st), 0);
	CHECK_INT(st.st_mode & 07777, 0640);
	cfg = control.cfg;
	CHECK_INT(control_open(&other, &cfg, msg, sizeof(msg)), -EADDRINUSE);
	CHECK(strstr(msg, path) && strstr(msg, "somebody listens there"));
	control_close(&other);
	control_close(&other);
	pid = fork(); /* a worker: nothing of it is its own */
	if (pid == 0) {
		control_close(&control);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	CHECK_INT(access(path, F_OK), 0);
	close(control.bound.fd); /* as if it had been killed */
	control.bound.fd = -1;
	reactor_free(loop);
	CHECK_INT(access(path, F_OK), 0);
	begin();
	c = dial();
	CHECK(strstr(ask(&c, "GET / HTTP/1.0\r\n\r\n", "root"), "200 OK"));
	close(c.fd);
	end();
}

/* As by an exec: who served it before is gone, but for the socket. */
static void
adopt(void)
{
	struct control_config cfg = control.cfg;
	struct handoff_bound bound = control.bound;

	reactor_free(loop);
	CHECK_INT(reactor_new(&loop), 0);
	cfg.reactor = loop;
	memset(&control, 0x55, sizeof(control));
	control_adopt(&control, &cfg, &bound);
}

CASE(a_socket_that_was_bound_before_is_served_and_its_file_goes_if_it_is_still_that)
{
	struct stat before, after;
	struct client c;
	int fd;

	begin();
	CHECK_INT(lstat(path, &before), 0);
	c = dial();
	adopt();
	CHECK(strstr(ask(&c, "GET / HTTP/1.0\r\n\r\n", "root"), "200 OK"));
	close(c.fd);
	CHECK_INT(lstat(path, &after), 0);
	CHECK(before.st_dev == after.st_dev && before.st_ino == after.st_ino);
	end();

	begin();
	CHECK_INT(unlink(path), 0);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	close(fd);
	adopt();
	control_close(&control);
	CHECK_INT(unlink(path), 0); /* it is not ours */
	reactor_free(loop);
}

CASE(who_is_not_us_is_turned_away)
{
	struct client c;
	int status = 0;
	pid_t pid;

	if (geteuid() != 0)
		SKIP("only root can be somebody else");
	begin_as(0666);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		char byte;

		if (setuid(65534) != 0)
			_exit(3);
		c = dial();
		fcntl(c.fd, F_SETFL, 0);
		_exit(read(c.fd, &byte, 1) == 0 ? 0 : 1);
	}
	while (waitpid(pid, &status, WNOHANG) == 0)
		turn();
	CHECK_INT(status, 0);
	CHECK_INT(control.clients, 0);
	end();
}

int
main(void)
{
	int r;

	alarm(60);
	signal(SIGPIPE, SIG_IGN);
	log_open("test", false);
	log_set_level(LOG_L_ERROR);
	if (!mkdtemp(dir) || chmod(dir, 0711))
		return 1;
	snprintf(path, sizeof(path), "%s/c", dir);
	r = check_main((struct check_case[]){
	    RUN(a_path_and_a_method_lead_to_a_route),
	    RUN(what_does_not_lead_anywhere_is_told_what_there_is),
	    RUN(what_is_escaped_wrongly_is_said),
	    RUN(requests_are_answered_on_one_connection),
	    RUN(a_body_has_a_bound),
	    RUN(a_long_answer_comes_whole),
	    RUN(an_answer_may_come_later_or_to_nobody),
	    RUN(so_many_clients_and_the_next_one_waits),
	    RUN(the_socket_is_ours_alone_and_a_stale_one_is_taken),
	    RUN(a_socket_that_was_bound_before_is_served_and_its_file_goes_if_it_is_still_that),
	    RUN(who_is_not_us_is_turned_away),
	    { 0 },
	});
	return rmdir(dir) != 0 || r;
}
