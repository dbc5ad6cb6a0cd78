#include "cmd/connect_udp.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/tool.h"
#include "flow/asker.h"
#include "net/socket.h"

struct connect_udp connect_udp = { .answers = -1, .timeout = -2 };

static struct asker *asker;
static char peer_text[ADDR_TEXT_MAX];

/* The option that was given, or NULL. */
static const char *
given(void)
{
	return connect_udp.size		   ? "--datagram-size"
	       : connect_udp.window	   ? "--window"
	       : connect_udp.answers >= 0  ? "--answers"
	       : connect_udp.timeout != -2 ? "--answer-timeout"
					   : NULL;
}

bool
connect_udp_check(const struct addr *target, bool command)
{
	const char *option = given();

	if (target->kind != ADDR_UDP) {
		if (option)
			tool_usage("%s is about datagrams: it goes with udp:HOST:PORT", option);
		return false;
	}
	if (target->host[0] == '\0')
		tool_usage("udp::%s: a host to send to is missing, as in udp:127.0.0.1:%s",
		    target->port, target->port);
	if (target->port[strspn(target->port, "0")] == '\0')
		tool_usage(
		    "%s: port 0 is none to send to: write the port the service has", target->name);
	if (command && option)
		tool_usage("%s is about standard input and output: a COMMAND has the socket itself",
		    option);
	if (connect_udp.timeout == -2)
		connect_udp.timeout = 3000;
	return true;
}

static void
trace(void *arg, const char *what, size_t len)
{
	const struct log_fact facts[] = { { .key = "what", .text = what },
		{ .key = "bytes", .num = (int64_t)len }, { 0 } };

	(void)arg;
	if (tool.log == 1)
		log_event(LOG_L_INFO, NULL, "trace", facts, "%s %zu bytes", what, len);
	else
		fprintf(stderr, "trace: %s %zu bytes\n", what, len);
}

/* ---- the end, in words ---- */

static void
say_time(char *buf, size_t cap)
{
	int64_t ms = connect_udp.timeout;
	bool whole = ms % 1000 == 0;

	snprintf(buf, cap, "%" PRId64 "%s", whole ? ms / 1000 : ms, whole ? "s" : "ms");
}

static void
say_late(const struct asker_end *end, char *buf, size_t cap)
{
	char within[32];

	say_time(within, sizeof(within));
	if (end->unsent > 0 || end->more)
		snprintf(buf, cap,
		    "no answer within %s (--answer-timeout) to %" PRId64
		    " datagrams (--window): %" PRIu64 " were sent, %s%" PRIu64 " %s were not",
		    within, connect_udp.window, end->sent, end->more ? "at least " : "",
		    end->unsent, connect_udp.size ? "blocks" : "lines");
	else if (connect_udp.answers >= 0)
		snprintf(buf, cap,
		    "%" PRIu64 " of %" PRId64
		    " answers (--answers) came; no more within %s (--answer-timeout)",
		    end->answers, connect_udp.answers, within);
	else
		snprintf(buf, cap,
		    "%" PRIu64 " of %" PRIu64
		    " datagrams were answered; no more within %s (--answer-timeout; --answers 0 "
		    "waits for none)",
		    end->answers, end->sent, within);
}

static void
say_why(const struct asker_end *end, char *buf, size_t cap)
{
	if (end->status == CCF_DEADLINE)
		say_late(end, buf, cap);
	else if (end->status == CCF_USAGE)
		snprintf(buf, cap,
		    "line %" PRIu64
		    " is longer than the %d bytes that a datagram holds, newline included: "
		    "it was not sent (--datagram-size N sends blocks instead)",
		    end->line, DATAGRAM_MAX);
	else if (end->status == CCF_STDOUT)
		snprintf(buf, cap, "standard output went away: %s; %" PRIu64 " answers had come",
		    strerror(end->error), end->answers);
	else if (end->error == ECONNREFUSED)
		snprintf(buf, cap, "nobody receives at udp:%s (port unreachable)", peer_text);
	else if (!strcmp(end->reason, "stdin-failed"))
		snprintf(buf, cap, "cannot read standard input: %s", strerror(end->error));
	else
		snprintf(buf, cap, "cannot send to udp:%s: %s", peer_text, strerror(end->error));
}

static void
done(void *arg, const struct asker_end *end)
{
	char why[512];

	(void)arg;
	if (end->status != CCF_OK) {
		say_why(end, why, sizeof(why));
		log_event(LOG_L_ERROR, NULL, end->reason, NULL, "%s", why);
	}
	log_event(LOG_L_INFO, NULL, "close", NULL,
	    "%" PRIu64 " datagrams (%" PRIu64 " bytes) sent, %" PRIu64 " answers (%" PRIu64
	    " bytes) received",
	    end->sent, end->sent_bytes, end->answers, end->answer_bytes);
	tool_end(end->status);
}

/* ---- the beginning ---- */

static void
say_open(int fd)
{
	struct sockaddr_any local, peer;
	char text[ADDR_TEXT_MAX];

	if (socket_peer(fd, &peer) < 0 || socket_local(fd, &local) < 0)
		return;
	addr_text(&peer, peer_text, sizeof(peer_text));
	log_event(LOG_L_INFO, NULL, "open", NULL, "sending to udp:%s from %s", peer_text,
	    addr_text(&local, text, sizeof(text)));
}

void
connect_udp_start(int fd)
{
	struct asker_config cfg = { .reactor = tool.reactor,
		.fd = fd,
		.in = STDIN_FILENO,
		.out = STDOUT_FILENO,
		.block = (unsigned)connect_udp.size,
		.window = (unsigned)connect_udp.window,
		.answers = connect_udp.answers,
		.timeout = connect_udp.timeout,
		.done = done,
		.trace = tool.trace ? trace : NULL };
	int rc;

	say_open(fd);
	rc = asker_new(&asker, &cfg);
	if (rc < 0)
		tool_die(CCF_SYSTEM, "cannot send from standard input: %s", strerror(-rc));
}

void
connect_udp_close(void)
{
	asker_free(asker);
	asker = NULL;
}
