/* What a client of a control socket may send, through a real connection, session and router: no
 * request leaves a call behind, every answer is one, and the loop goes on.  The first byte of the
 * input says how the rest is cut. */
#include "flow/control.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct reactor *loop;
static struct control control;
static struct control_call *later;

static void
answer_now(struct control_call *call)
{
	struct text t = { 0 };

	if (strlen(call->rest) >= sizeof(call->rest) || call->body_len > CONTROL_BODY_MAX ||
	    call->body[call->body_len] != '\0')
		abort();
	text_json(&t, call->rest, strlen(call->rest));
	text_bytes(&t, call->body, call->body_len);
	control_reply(call, 200, "text/plain", &t);
}

static void
answer_long(struct control_call *call)
{
	struct text t = { 0 };

	while (t.len < 200000)
		text_add(&t, "%099zu\n", t.len);
	control_reply(call, 200, "text/plain", &t);
}

static void
answer_refused(struct control_call *call)
{
	control_refuse(call, 404, NULL, "there is no %s", call->rest);
}

static void
answer_later(struct control_call *call)
{
	if (later)
		control_refuse(later, 504, NULL, "another one came");
	later = call;
}

static const struct control_route routes[] = {
	{ "GET", "/", "this", answer_now },
	{ "GET", "/metrics", "figures", answer_long },
	{ "GET", "/connections", "those that are open", answer_later },
	{ "DELETE", "/connections/", "cut it", answer_now },
	{ "POST", "/drain", "end", answer_now },
	{ "POST", "/reload", "again", answer_refused },
	{ "PUT", "/log-level", "set it", answer_now },
	{ 0 },
};

static void
hear(int fd, bool *began)
{
	char buf[65536];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		if (!*began && memcmp(buf, "HTTP/1.1 ", n < 9 ? (size_t)n : 9) != 0)
			abort();
		*began = true;
	}
}

static void
turn(int fd, bool *began)
{
	if (reactor_turn(loop, 0) < 0)
		abort();
	hear(fd, began);
}

/* The router by itself, with what no parser would let through. */
static void
route(const char *data, size_t size)
{
	struct control_miss miss;
	char rest[32];
	size_t half = size / 2;
	const struct control_route *r = control_find(routes, (struct http1_text){ data, half },
	    (struct http1_text){ data + half, size - half }, rest, sizeof(rest), &miss);

	if (r ? strlen(rest) >= sizeof(rest)
	      : (miss.status != 400 && miss.status != 404 && miss.status != 405) || !miss.why[0] ||
		    (miss.status == 405 && !miss.allow[0]))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control_config cfg = { .path = "", .tool = "fuzz", .route = routes };
	size_t step = size > 0 && data[0] ? data[0] : 65536;
	bool began = false;
	int pair[2];

	if (size < 1 || size > 65536)
		return 0;
	log_set_level(LOG_L_ERROR);
	route((const char *)data, size);
	if (!loop && reactor_new(&loop) < 0)
		abort();
	cfg.reactor = loop;
	control_init(&control, &cfg);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0 ||
	    control_join(&control, pair[1], 0) < 0)
		abort();
	for (size_t at = 1; at < size && control.clients; at += step) {
		size_t n = size - at < step ? size - at : step;

		(void)send(pair[0], data + at, n, MSG_NOSIGNAL);
		turn(pair[0], &began);
	}
	shutdown(pair[0], SHUT_WR);
	for (int i = 0; i < 20 && control.clients; i++) {
		turn(pair[0], &began);
		if (later) {
			struct control_call *call = later;

			later = NULL;
			control_refuse(call, 504, NULL, "nobody answered");
		}
	}
	close(pair[0]);
	control_close(&control);
	later = NULL;
	if (control.clients || !TAILQ_EMPTY(&control.calls))
		abort();
	reactor_turn(loop, 0);
	return 0;
}
