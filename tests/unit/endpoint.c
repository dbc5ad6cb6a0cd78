/* The machine's file itself, for its one door is not visible outside. */
#include "net/endpoint.c"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/exit.h"
#include "check.h"

#define STATES (sizeof(names) / sizeof(*names))

/* The table, written down once more. */
static const char *const moves[] = {
	"FRESH > LISTENING_RESOLVING BINDING CONNECTING_RESOLVING CONNECTED",
	"LISTENING_RESOLVING > LISTENING RESOLVING_FAILED LISTENING_FAILED",
	"LISTENING >",
	"BINDING > CONNECTING_RESOLVING BINDING_FAILED",
	"BINDING_FAILED > BINDING",
	"CONNECTING_RESOLVING > CONNECTING RESOLVING_FAILED CONNECTING_FAILED",
	"CONNECTING > CONNECTED CONNECTING_RESOLVING CONNECTING_FAILED",
	"CONNECTED > DISCONNECTED",
	"DISCONNECTED > RECONNECTING",
	"RECONNECTING > FRESH",
	"RESOLVING_FAILED > CONNECTING_RESOLVING",
	"LISTENING_FAILED >",
	"CONNECTING_FAILED > CONNECTING_RESOLVING",
};

static bool
is_legal(const char *from, const char *to)
{
	size_t n = strlen(from), m = strlen(to);

	for (size_t i = 0; i < sizeof(moves) / sizeof(*moves); i++) {
		const char *p = moves[i] + n + 2;

		if (strncmp(moves[i], from, n) || moves[i][n] != ' ')
			continue;
		while (*p == ' ') {
			p++;
			if (!strncmp(p, to, m) && (p[m] == ' ' || p[m] == '\0'))
				return true;
			p += strcspn(p, " ");
		}
	}
	return false;
}

/* Makes the move in a child: 0: made; SIGABRT, and text is what it said. */
static int
move(enum endpoint_state from, enum endpoint_state to, char *text, size_t cap)
{
	int out[2], status = 0;
	ssize_t n;
	pid_t pid;

	CHECK_INT(pipe(out), 0);
	pid = fork();
	if (pid == 0) {
		struct rlimit none = { 0 };
		struct endpoint ep;

		setrlimit(RLIMIT_CORE, &none);
		dup2(out[1], 2);
		endpoint_init(&ep, NULL);
		ep.state = from;
		enter(&ep, to);
		_exit(ep.state == to ? 0 : 1);
	}
	close(out[1]);
	n = read(out[0], text, cap - 1);
	text[n > 0 ? n : 0] = '\0';
	close(out[0]);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

CASE(every_move_is_legal_or_aborts_with_both_names)
{
	char text[256], said[256];

	for (unsigned from = 0; from < STATES; from++)
		for (unsigned to = 0; to < STATES; to++) {
			bool ok = is_legal(names[from], names[to]);

			CHECK_INT(move(from, to, text, sizeof(text)), ok ? 0 : SIGABRT);
			snprintf(said, sizeof(said), "%s -> %s", names[from], names[to]);
			CHECK(ok || strstr(text, said));
		}
}

/* --- a watched endpoint --- */

static char traced[1024], noted[1024];

static void
trace(struct endpoint *ep, enum endpoint_state from, enum endpoint_state to)
{
	CHECK_INT(ep->state, to);
	if (!*traced)
		strlcat(traced, endpoint_state_name(from), sizeof(traced));
	strlcat(traced, " ", sizeof(traced));
	strlcat(traced, endpoint_state_name(to), sizeof(traced));
}

static void
take_note(struct endpoint *ep, const char *text)
{
	(void)ep;
	strlcat(noted, text, sizeof(noted));
	strlcat(noted, "\n", sizeof(noted));
}

static struct endpoint_plan
plan_for(const char *target)
{
	struct endpoint_plan plan = { .connect_timeout = 1000, .user_timeout = -1 };
	char msg[256];

	CHECK_INT(addr_parse(&plan.target, target, ADDR_MAY_UDP, msg, sizeof(msg)), 0);
	return plan;
}

static void
begin(struct endpoint *ep, const struct endpoint_plan *plan)
{
	traced[0] = noted[0] = '\0';
	endpoint_init(ep, plan);
	ep->trace = trace;
	ep->note = take_note;
}

/* On loopback a connection is made, or refused, at once, unless the kernel has much to do. */
static void
settle(struct endpoint *ep, int64_t now, struct endpoint_need *need)
{
	struct pollfd p = { .events = POLLOUT };

	while (ep->state == EP_CONNECTING) {
		p.fd = need->fd;
		CHECK_INT(poll(&p, 1, 20000), 1);
		if (!p.revents)
			break;
		endpoint_step(ep, EP_EVENT, now, need);
	}
}

static const char *
why(const struct endpoint *ep)
{
	static char text[512];

	return endpoint_why(ep, text, sizeof(text));
}

static struct sockaddr_any
loopback(uint16_t port)
{
	struct sockaddr_any a = { .len = sizeof(a.in) };

	a.in.sin_family = AF_INET;
	a.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a.in.sin_port = htons(port);
	return a;
}

/* A port of ours that refuses, or with backlog >= 0 listens; its number and "127.0.0.1:PORT". */
static int
port(int backlog, struct sockaddr_any *ret, char text[ADDR_TEXT_MAX])
{
	struct sockaddr_any a = loopback(0);
	int fd = socket_bind(&a, false, NULL);

	CHECK(fd >= 0);
	if (backlog >= 0)
		CHECK_INT(socket_listen(fd, backlog), 0);
	CHECK_INT(socket_local(fd, ret), 0);
	addr_text(ret, text, ADDR_TEXT_MAX);
	return fd;
}

static struct answer *
answer_of(const struct sockaddr_any *a, const struct sockaddr_any *b)
{
	struct answer *answer = calloc(1, sizeof(*answer) + 2 * sizeof(answer->at[0]));

	answer->at[answer->n++] = *a;
	if (b)
		answer->at[answer->n++] = *b;
	return answer;
}

CASE(connecting_on_loopback_is_one_step)
{
	struct sockaddr_any at, peer;
	char text[ADDR_TEXT_MAX];
	int l = port(16, &at, text), fd, on = 0;
	struct endpoint_plan plan = plan_for(text);
	struct endpoint_need need;
	struct endpoint ep;
	unsigned ms = 0;
	socklen_t len = sizeof(ms);

	plan.user_timeout = 2000;
	for (int i = 0; i < 100; i++) { /* more than one, where the kernel has much to do */
		begin(&ep, &plan);
		CHECK(!endpoint_over(&ep));
		endpoint_step(&ep, EP_START, 0, &need);
		if (ep.state != EP_CONNECTING)
			break;
		endpoint_close(&ep);
		close(accept(l, NULL, NULL));
	}
	CHECK_STR(traced, "FRESH CONNECTING_RESOLVING CONNECTING CONNECTED");
	CHECK(endpoint_over(&ep));
	CHECK_INT(endpoint_exit(&ep), CCF_OK);
	CHECK_INT(need.fd, -1);
	CHECK(need.deadline == CLOCK_NEVER && !need.lookup);
	fd = endpoint_take_fd(&ep);
	CHECK_INT(ep.fd, -1);
	CHECK_INT(ep.state, EP_CONNECTED);
	CHECK_INT(socket_peer(fd, &peer), 0);
	CHECK_INT(addr_port(&peer), addr_port(&at));
	CHECK_INT(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, &len), 0);
	CHECK_INT(ms, 2000);
	len = sizeof(on);
	CHECK_INT(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	CHECK_INT(on, 1);
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	endpoint_close(&ep);
	close(l);
}

CASE(a_refusal_is_told)
{
	struct sockaddr_any at;
	char text[ADDR_TEXT_MAX], expected[256];
	int l = port(-1, &at, text);
	struct endpoint_plan plan = plan_for(text);
	struct endpoint_need need;
	struct endpoint ep;

	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	settle(&ep, 0, &need);
	CHECK_STR(traced, "FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED");
	CHECK(endpoint_over(&ep));
	CHECK_INT(ep.fd, -1);
	CHECK_INT(endpoint_exit(&ep), CCF_CONNECT);
	snprintf(expected, sizeof(expected), "cannot connect to %s: Connection refused", text);
	CHECK_STR(why(&ep), expected);
	CHECK_STR(noted, "");
	endpoint_close(&ep);
	close(l);
}

CASE(the_second_address_is_tried)
{
	struct sockaddr_any bad, good;
	char text[ADDR_TEXT_MAX];
	int l = port(-1, &bad, text), m = port(16, &good, text);
	struct endpoint_plan plan = plan_for("two.example:80");
	struct answer *answer = answer_of(&bad, &good);
	struct endpoint_need need;
	struct endpoint ep;

	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	CHECK(need.lookup && !strcmp(need.lookup->host, "two.example"));
	CHECK(!need.lookup_passive);
	CHECK(need.deadline == CLOCK_NEVER && need.fd == -1);
	endpoint_step(&ep, EP_TIME, 5, &need);
	CHECK(!need.lookup); /* said once */
	endpoint_resolved(&ep, answer, 0, &need);
	settle(&ep, 0, &need);
	CHECK_STR(traced,
	    "FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTED");
	CHECK(strstr(noted, "Connection refused; trying the next address"));
	CHECK_INT(addr_port(&ep.peer), addr_port(&good));
	CHECK_INT(endpoint_exit(&ep), CCF_OK);
	free(answer);
	endpoint_close(&ep);
	close(l);
	close(m);
}

/* A listener whose backlog is full answers no SYN any more. */
static int
silent_port(struct sockaddr_any *ret, char text[ADDR_TEXT_MAX], int *ret_client)
{
	int l = port(0, ret, text);

	*ret_client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(connect(*ret_client, &ret->sa, ret->len), 0);
	return l;
}

CASE(each_address_has_a_deadline)
{
	struct sockaddr_any silent, good;
	char text[ADDR_TEXT_MAX];
	int client, l = silent_port(&silent, text, &client), m = port(16, &good, text);
	struct endpoint_plan plan = plan_for("two.example:80");
	struct answer *answer = answer_of(&silent, &good);
	struct endpoint_need need;
	struct endpoint ep;

	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 100, &need);
	endpoint_resolved(&ep, answer, 100, &need);
	CHECK_INT(ep.state, EP_CONNECTING);
	CHECK_INT(need.fd, ep.fd);
	CHECK_INT(need.deadline, 1100);
	endpoint_step(&ep, EP_EVENT, 500, &need); /* false alarms */
	endpoint_step(&ep, EP_TIME, 1099, &need);
	CHECK_INT(ep.state, EP_CONNECTING);
	CHECK_INT(need.deadline, 1100);
	endpoint_step(&ep, EP_TIME, 1100, &need);
	settle(&ep, 1100, &need);
	CHECK_STR(traced,
	    "FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_RESOLVING CONNECTING CONNECTED");
	CHECK(strstr(noted, "no answer within 1 s"));
	free(answer);
	endpoint_close(&ep);
	close(client);
	close(l);
	close(m);
}

CASE(a_deadline_on_the_last_address_is_the_end)
{
	struct sockaddr_any silent;
	char text[ADDR_TEXT_MAX];
	int client, l = silent_port(&silent, text, &client);
	struct endpoint_plan plan = plan_for(text);
	struct endpoint_need need;
	struct endpoint ep;

	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	endpoint_step(&ep, EP_TIME, 1000, &need);
	CHECK_STR(traced, "FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED");
	CHECK_INT(endpoint_exit(&ep), CCF_DEADLINE);
	CHECK(strstr(why(&ep), "no answer within 1 s"));
	endpoint_close(&ep);
	close(client);
	close(l);
}

CASE(a_connection_that_takes_time_is_seen_by_its_event)
{
	struct sockaddr_any silent;
	char text[ADDR_TEXT_MAX];
	int client, l = silent_port(&silent, text, &client);
	struct endpoint_plan plan = plan_for(text);
	struct endpoint_need need;
	struct endpoint ep;
	struct pollfd p;

	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	CHECK_INT(ep.state, EP_CONNECTING);
	close(accept(l, NULL, NULL)); /* room: the SYN that is sent again is answered */
	p = (struct pollfd){ .fd = need.fd, .events = POLLOUT };
	CHECK_INT(poll(&p, 1, 20000), 1);
	endpoint_step(&ep, EP_EVENT, 1, &need);
	CHECK_STR(traced, "FRESH CONNECTING_RESOLVING CONNECTING CONNECTED");
	endpoint_close(&ep);
	close(client);
	close(l);
}

CASE(a_name_that_does_not_resolve)
{
	struct endpoint_plan plan = plan_for("nobody.example:80");
	struct answer none = { .error = EAI_NONAME }, empty = { 0 };
	struct endpoint_need need;
	struct endpoint ep;

	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	endpoint_resolved(&ep, &none, 0, &need);
	CHECK_STR(traced, "FRESH CONNECTING_RESOLVING RESOLVING_FAILED");
	CHECK(endpoint_over(&ep));
	CHECK_INT(endpoint_exit(&ep), CCF_RESOLVE);
	CHECK_STR(why(&ep), "cannot resolve nobody.example: Name or service not known");
	endpoint_resolved(&ep, &none, 0, &need); /* nobody asked */
	CHECK_INT(ep.state, EP_RESOLVING_FAILED);
	endpoint_close(&ep);
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	endpoint_resolved(&ep, &empty, 0, &need);
	CHECK_INT(endpoint_exit(&ep), CCF_RESOLVE);
	endpoint_close(&ep);
	plan = plan_for("127.0.0.1:80");
	plan.family = AF_INET6;
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	CHECK_INT(ep.state, EP_RESOLVING_FAILED);
	endpoint_close(&ep);
}

CASE(a_bound_endpoint_connects_from_there)
{
	struct sockaddr_any at, local;
	char text[ADDR_TEXT_MAX];
	int l = port(16, &at, text);
	struct endpoint_plan plan = plan_for(text);
	struct endpoint_need need;
	struct endpoint ep;

	plan.bind_host = "127.0.0.2";
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	settle(&ep, 0, &need);
	CHECK_STR(traced, "FRESH BINDING CONNECTING_RESOLVING CONNECTING CONNECTED");
	CHECK_INT(socket_local(ep.fd, &local), 0);
	CHECK_STR(addr_ip(&local, text, sizeof(text)), "127.0.0.2");
	CHECK(addr_port(&local) != 0);
	endpoint_close(&ep);
	close(l);
}

CASE(a_bind_address_that_is_not_ours)
{
	struct endpoint_plan plan = plan_for("127.0.0.1:1");
	struct endpoint_need need;
	struct endpoint ep;

	plan.bind_host = "192.0.2.1";
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	CHECK_STR(traced, "FRESH BINDING BINDING_FAILED");
	CHECK(endpoint_over(&ep));
	CHECK_INT(endpoint_exit(&ep), CCF_BIND);
	CHECK_STR(why(&ep), "cannot bind to 192.0.2.1: Cannot assign requested address (it is not "
			    "an address of this host)");
	endpoint_close(&ep);
}

CASE(a_bind_name_is_resolved_first)
{
	struct sockaddr_any at, me = loopback(0), foreign = loopback(0);
	char text[ADDR_TEXT_MAX];
	int l = port(16, &at, text);
	struct endpoint_plan plan = plan_for(text);
	struct answer none = { .error = EAI_NONAME }, *answer;
	struct endpoint_need need;
	struct endpoint ep;

	plan.bind_host = "me.example";
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	CHECK(need.lookup && !strcmp(need.lookup->host, "me.example") && need.lookup_passive);
	foreign.in.sin_addr.s_addr = htonl(0xc0000201); /* 192.0.2.1 */
	answer = answer_of(&foreign, &me);
	endpoint_resolved(&ep, answer, 0, &need);
	settle(&ep, 0, &need);
	CHECK_STR(traced, "FRESH BINDING CONNECTING_RESOLVING CONNECTING CONNECTED");
	free(answer);
	endpoint_close(&ep);
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	endpoint_resolved(&ep, &none, 0, &need);
	CHECK_STR(traced, "FRESH BINDING BINDING_FAILED");
	CHECK_INT(endpoint_exit(&ep), CCF_RESOLVE);
	CHECK_STR(
	    why(&ep), "cannot resolve me.example, the address to bind: Name or service not known");
	endpoint_close(&ep);
	plan.bind_host = "no name";
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	CHECK_STR(traced, "FRESH BINDING BINDING_FAILED");
	CHECK_INT(endpoint_exit(&ep), CCF_RESOLVE);
	endpoint_close(&ep);
	close(l);
}

CASE(addresses_of_another_family_are_passed_over)
{
	struct sockaddr_any six = { .len = sizeof(six.in6) }, good;
	char text[ADDR_TEXT_MAX];
	int l = port(16, &good, text);
	struct endpoint_plan plan = plan_for("two.example:80");
	struct answer *answer;
	struct endpoint_need need;
	struct endpoint ep;

	six.in6.sin6_family = AF_INET6;
	six.in6.sin6_addr = in6addr_loopback;
	answer = answer_of(&six, &good);
	plan.bind_host = "127.0.0.1";
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	endpoint_resolved(&ep, answer, 0, &need);
	settle(&ep, 0, &need);
	CHECK_STR(traced, "FRESH BINDING CONNECTING_RESOLVING CONNECTING CONNECTED");
	CHECK_STR(noted, "[::1]:0 is passed over: it is of another family than 127.0.0.1, which is "
			 "bound first\n");
	endpoint_close(&ep);
	answer->n = 1;
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	endpoint_resolved(&ep, answer, 0, &need);
	CHECK_STR(traced, "FRESH BINDING CONNECTING_RESOLVING CONNECTING_FAILED");
	CHECK_INT(endpoint_exit(&ep), CCF_CONNECT);
	CHECK(strstr(why(&ep), "no address of it is of the family of 127.0.0.1"));
	free(answer);
	endpoint_close(&ep);
	close(l);
}

CASE(retries_wait_with_jitter_and_then_go_on)
{
	struct sockaddr_any at;
	char text[ADDR_TEXT_MAX];
	int l = port(-1, &at, text);
	struct endpoint_plan plan = plan_for(text);
	struct endpoint_need need;
	struct endpoint ep;
	int64_t now = 1000;

	plan.retries = 4;
	plan.retry_min = 200;
	plan.retry_max = 700;
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, now, &need);
	settle(&ep, now, &need);
	for (int n = 0; n < 4; n++) {
		int64_t most = n == 0 ? 200 : n == 1 ? 400 : 700;

		CHECK_INT(ep.state, EP_CONNECTING_FAILED);
		CHECK(!endpoint_over(&ep));
		CHECK_INT(need.fd, -1);
		CHECK(need.deadline >= now && need.deadline <= now + most);
		endpoint_step(&ep, EP_TIME, need.deadline - 1, &need);
		CHECK_INT(ep.state, EP_CONNECTING_FAILED);
		now = need.deadline;
		if (n == 3)
			CHECK_INT(socket_listen(l, 16), 0);
		traced[0] = '\0';
		endpoint_step(&ep, EP_TIME, now, &need);
		settle(&ep, now, &need);
	}
	CHECK_STR(traced, "CONNECTING_FAILED CONNECTING_RESOLVING CONNECTING CONNECTED");
	endpoint_close(&ep);
	close(l);
}

CASE(a_retry_begins_where_it_failed)
{
	struct endpoint_plan plan = plan_for("nobody.example:80");
	struct answer none = { .error = EAI_AGAIN };
	struct endpoint_need need;
	struct endpoint ep;

	plan.retries = 1;
	plan.bind_host = "127.0.0.1";
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	endpoint_resolved(&ep, &none, 0, &need);
	CHECK(!endpoint_over(&ep) && need.deadline == 0);
	endpoint_step(&ep, EP_TIME, 0, &need);
	CHECK(need.lookup != NULL);
	endpoint_resolved(&ep, &none, 0, &need);
	CHECK(endpoint_over(&ep) && need.deadline == CLOCK_NEVER);
	CHECK_STR(traced, "FRESH BINDING CONNECTING_RESOLVING RESOLVING_FAILED "
			  "CONNECTING_RESOLVING RESOLVING_FAILED");
	endpoint_close(&ep);
	plan.bind_host = "192.0.2.1";
	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	endpoint_step(&ep, EP_TIME, need.deadline, &need);
	CHECK(endpoint_over(&ep));
	CHECK_STR(traced, "FRESH BINDING BINDING_FAILED BINDING BINDING_FAILED");
	endpoint_close(&ep);
}

CASE(a_lost_connection_is_made_again)
{
	struct sockaddr_any at;
	char text[ADDR_TEXT_MAX];
	int l = port(16, &at, text);
	struct endpoint_plan plan = plan_for(text);
	struct endpoint_need need;
	struct endpoint ep;

	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	settle(&ep, 0, &need);
	traced[0] = '\0';
	endpoint_lost(&ep);
	CHECK_INT(ep.fd, -1);
	endpoint_again(&ep);
	CHECK(!endpoint_over(&ep));
	endpoint_step(&ep, EP_START, 0, &need);
	settle(&ep, 0, &need);
	CHECK_STR(traced,
	    "CONNECTED DISCONNECTED RECONNECTING FRESH CONNECTING_RESOLVING CONNECTING CONNECTED");
	endpoint_close(&ep);
	close(l);
}

CASE(a_peer_is_connected_from_the_start)
{
	struct endpoint ep;
	int un[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, un), 0);
	begin(&ep, NULL);
	endpoint_peer(&ep, un[0]);
	CHECK_STR(traced, "FRESH CONNECTED");
	CHECK_INT(endpoint_take_fd(&ep), un[0]);
	endpoint_lost(&ep);
	endpoint_close(&ep);
	close(un[0]);
	close(un[1]);
}

static struct addr
listening(const char *text)
{
	struct addr a = { 0 };
	char msg[256];

	CHECK_INT(addr_parse(&a, text, ADDR_MAY_NAME | ADDR_MAY_FD, msg, sizeof(msg)), 0);
	return a;
}

CASE(listening_binds_and_refuses)
{
	struct addr a = listening("rpc=127.0.0.1:0"), b;
	struct sockaddr_any at;
	char text[ADDR_TEXT_MAX], expected[256];
	struct endpoint ep, second;

	begin(&ep, NULL);
	CHECK_INT(endpoint_listen(&ep, &a, AF_UNSPEC), 0);
	CHECK_STR(traced, "FRESH LISTENING_RESOLVING LISTENING");
	CHECK(!socket_listens(ep.fd) && endpoint_over(&ep));
	CHECK_INT(endpoint_exit(&ep), CCF_OK);
	CHECK_INT(socket_local(ep.fd, &at), 0);
	b = listening(addr_text(&at, text, sizeof(text)));
	begin(&second, NULL);
	CHECK_INT(endpoint_listen(&second, &b, AF_UNSPEC), -EADDRINUSE);
	CHECK_STR(traced, "FRESH LISTENING_RESOLVING LISTENING_FAILED");
	CHECK(endpoint_over(&second));
	CHECK_INT(endpoint_exit(&second), CCF_BIND);
	snprintf(expected, sizeof(expected), "cannot listen on %s: Address already in use", text);
	CHECK_STR(why(&second), expected);
	endpoint_close(&second);
	endpoint_close(&ep);
}

CASE(a_port_alone_is_one_dual_stack_socket)
{
	struct addr a = listening(":0");
	struct sockaddr_any at, to;
	char text[ADDR_TEXT_MAX];
	struct endpoint ep, second;
	int fd;

	begin(&ep, NULL);
	CHECK_INT(endpoint_listen(&ep, &a, AF_UNSPEC), 0);
	CHECK_INT(socket_local(ep.fd, &at), 0);
	CHECK(addr_any_host(&at));
	CHECK_INT(socket_listen(ep.fd, 16), 0);
	to = loopback(addr_port(&at));
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(connect(fd, &to.sa, to.len), 0);
	close(fd);
	snprintf(text, sizeof(text), ":%u", addr_port(&at));
	a = listening(text);
	begin(&second, NULL);
	CHECK_INT(endpoint_listen(&second, &a, AF_UNSPEC), -EADDRINUSE);
	endpoint_close(&second);
	endpoint_close(&ep);
}

CASE(what_cannot_listen_says_why)
{
	struct addr a = listening("192.0.2.1:0");
	struct endpoint ep;
	char text[32];
	int pipes[2];

	begin(&ep, NULL);
	CHECK_INT(endpoint_listen(&ep, &a, AF_UNSPEC), -EADDRNOTAVAIL);
	CHECK_INT(endpoint_exit(&ep), CCF_BIND);
	CHECK(strstr(why(&ep), "not an address of this host"));
	a = listening("127.0.0.1:no-such-service");
	begin(&ep, NULL);
	CHECK(endpoint_listen(&ep, &a, AF_UNSPEC) < 0);
	CHECK_STR(traced, "FRESH LISTENING_RESOLVING RESOLVING_FAILED");
	CHECK_INT(endpoint_exit(&ep), CCF_RESOLVE);
	CHECK_INT(pipe(pipes), 0);
	snprintf(text, sizeof(text), "fd:%d", pipes[0]);
	a = listening(text);
	begin(&ep, NULL);
	CHECK_INT(endpoint_listen(&ep, &a, AF_UNSPEC), -ENOTSOCK);
	CHECK_INT(endpoint_exit(&ep), CCF_BIND);
	endpoint_close(&ep);
	close(pipes[0]);
	close(pipes[1]);
}

CASE(an_inherited_listener_is_taken_as_a_copy)
{
	struct sockaddr_any at;
	char text[ADDR_TEXT_MAX], name[32];
	int l = port(16, &at, text), bound = port(-1, &at, text);
	struct addr a;
	struct endpoint ep;

	snprintf(name, sizeof(name), "fd:%d", l);
	a = listening(name);
	begin(&ep, NULL);
	CHECK_INT(endpoint_listen(&ep, &a, AF_UNSPEC), 0);
	CHECK(ep.fd != l && (fcntl(ep.fd, F_GETFD) & FD_CLOEXEC));
	endpoint_close(&ep);
	CHECK(socket_listens(l));
	snprintf(name, sizeof(name), "fd:%d", bound);
	a = listening(name);
	begin(&ep, NULL);
	CHECK_INT(endpoint_listen(&ep, &a, AF_UNSPEC), -EINVAL);
	CHECK(strstr(why(&ep), "listening stream socket"));
	endpoint_close(&ep);
	close(l);
	close(bound);
}

CASE(a_unix_path_takes_the_same_way)
{
	char dir[] = "/tmp/ccf-unit-endpoint-XXXXXX", text[ADDR_TEXT_MAX];
	struct endpoint_plan plan;
	struct endpoint_need need;
	struct endpoint ep, client;
	struct addr a;
	int fd;

	CHECK(mkdtemp(dir) != NULL);
	snprintf(text, sizeof(text), "unix:%s/s", dir);
	a = listening(text);
	plan = plan_for(text);
	plan.retries = 1;
	begin(&client, &plan);
	endpoint_step(&client, EP_START, 0, &need);
	CHECK_STR(traced, "FRESH CONNECTING_RESOLVING CONNECTING CONNECTING_FAILED");
	CHECK_INT(client.error, ENOENT);
	begin(&ep, NULL);
	CHECK_INT(endpoint_listen(&ep, &a, AF_UNSPEC), 0);
	traced[0] = '\0';
	endpoint_step(&client, EP_TIME, need.deadline, &need);
	CHECK_STR(traced, "CONNECTING_FAILED CONNECTING_RESOLVING CONNECTING CONNECTED");
	fd = endpoint_take_fd(&ep);
	CHECK(fd >= 0 && socket_listens(fd));
	close(fd);
	endpoint_close(&ep);
	CHECK_INT(access(text + 5, F_OK), -1);
	endpoint_close(&client);
	CHECK_INT(rmdir(dir), 0);
}

CASE(a_full_unix_backlog_is_a_failure_that_is_retried)
{
	char dir[] = "/tmp/ccf-unit-endpoint-XXXXXX", text[ADDR_TEXT_MAX];
	struct endpoint_plan plan;
	struct endpoint_need need;
	struct endpoint ep, first, client;
	struct addr a;

	CHECK(mkdtemp(dir) != NULL);
	snprintf(text, sizeof(text), "unix:%s/s", dir);
	a = listening(text);
	plan = plan_for(text);
	begin(&ep, NULL);
	CHECK_INT(endpoint_listen(&ep, &a, AF_UNSPEC), 0);
	CHECK_INT(listen(ep.fd, 0), 0);
	begin(&first, &plan);
	endpoint_step(&first, EP_START, 0, &need);
	CHECK_INT(first.state, EP_CONNECTED);
	plan.retries = 1;
	begin(&client, &plan);
	endpoint_step(&client, EP_START, 0, &need);
	CHECK_INT(client.state, EP_CONNECTING_FAILED);
	CHECK_INT(client.error, EAGAIN);
	close(accept(ep.fd, NULL, NULL));
	endpoint_step(&client, EP_TIME, need.deadline, &need);
	CHECK_INT(client.state, EP_CONNECTED);
	endpoint_close(&first);
	endpoint_close(&client);
	endpoint_close(&ep);
	CHECK_INT(rmdir(dir), 0);
}

CASE(a_client_that_meets_itself_is_refused)
{
	struct sockaddr_any at = loopback(0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	CHECK_INT(bind(fd, &at.sa, at.len), 0);
	CHECK_INT(socket_local(fd, &at), 0);
	CHECK_INT(connect_once(fd, &at), -ECONNREFUSED);
	close(fd);
}

CASE(udp_is_connected_at_once)
{
	struct endpoint_plan plan = plan_for("udp:127.0.0.1:9");
	struct endpoint_need need;
	struct endpoint ep;

	begin(&ep, &plan);
	endpoint_step(&ep, EP_START, 0, &need);
	CHECK_INT(ep.state, EP_CONNECTED);
	CHECK_INT(socket_kind(ep.fd), SOCK_DGRAM);
	endpoint_close(&ep);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(every_move_is_legal_or_aborts_with_both_names),
	    RUN(connecting_on_loopback_is_one_step),
	    RUN(a_refusal_is_told),
	    RUN(the_second_address_is_tried),
	    RUN(each_address_has_a_deadline),
	    RUN(a_deadline_on_the_last_address_is_the_end),
	    RUN(a_connection_that_takes_time_is_seen_by_its_event),
	    RUN(a_name_that_does_not_resolve),
	    RUN(a_bound_endpoint_connects_from_there),
	    RUN(a_bind_address_that_is_not_ours),
	    RUN(a_bind_name_is_resolved_first),
	    RUN(addresses_of_another_family_are_passed_over),
	    RUN(retries_wait_with_jitter_and_then_go_on),
	    RUN(a_retry_begins_where_it_failed),
	    RUN(a_lost_connection_is_made_again),
	    RUN(a_peer_is_connected_from_the_start),
	    RUN(listening_binds_and_refuses),
	    RUN(a_port_alone_is_one_dual_stack_socket),
	    RUN(what_cannot_listen_says_why),
	    RUN(an_inherited_listener_is_taken_as_a_copy),
	    RUN(a_unix_path_takes_the_same_way),
	    RUN(a_full_unix_backlog_is_a_failure_that_is_retried),
	    RUN(a_client_that_meets_itself_is_refused),
	    RUN(udp_is_connected_at_once),
	    { 0 },
	});
}
