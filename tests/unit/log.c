/* log: descriptor 2 goes into a memfd, and each JSON line through a strict reader. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "check.h"

static char out[64 * 1024];
static int memory = -1, real_stderr;

static void
begin(bool json)
{
	fflush(stdout);
	memory = memfd_create("log", MFD_CLOEXEC);
	real_stderr = dup(2);
	dup2(memory, 2);
	log_open("ccf-listen", json);
	log_set_level(LOG_L_INFO);
}

/* What was logged since; descriptor 2 is itself again. */
static const char *
logged(void)
{
	ssize_t n = pread(memory, out, sizeof(out) - 1, 0);

	out[n > 0 ? n : 0] = '\0';
	dup2(real_stderr, 2);
	close(real_stderr);
	close(memory);
	return out;
}

/* The strict reader: RFC 8259 and RFC 3629, one object of strings and integers.  Each returns what
 * follows, or NULL. */
static const char *
json_string(const char *s)
{
	if (!s || *s++ != '"')
		return NULL;
	while (*s != '"') {
		const unsigned char *u = (const unsigned char *)s;
		size_t n = *u < 0x80 ? 1 : *u < 0xe0 ? 2 : *u < 0xf0 ? 3 : 4;

		if (*u < 0x20 || (*u >= 0x80 && *u < 0xc2) || *u > 0xf4)
			return NULL;
		for (size_t i = 1; i < n; i++) {
			if ((u[i] & 0xc0) != 0x80)
				return NULL;
		}
		if (*s == '\\' && s[1] == 'u') {
			for (int i = 2; i < 6; i++) {
				if (!isxdigit((unsigned char)s[i]))
					return NULL;
			}
			n = 6;
		} else if (*s == '\\') {
			if (!s[1] || !strchr("\"\\/bfnrt", s[1]))
				return NULL;
			n = 2;
		}
		s += n;
	}
	return s + 1;
}

static bool
json_line(const char *s)
{
	if (*s++ != '{')
		return false;
	for (;;) {
		s = json_string(s);
		if (!s || *s++ != ':')
			return false;
		if (*s == '"')
			s = json_string(s);
		else
			s += (*s == '-') + strspn(s + (*s == '-'), "0123456789");
		if (!s)
			return false;
		if (*s == '}')
			return strcmp(s, "}\n") == 0;
		if (*s++ != ',')
			return false;
	}
}

CASE(a_text_line_has_tool_level_connection_and_peer)
{
	const struct log_who who = { .conn = "rpc#7", .iface = "rpc", .peer = "127.0.0.1:50312" };
	const struct log_who no_peer = { .conn = "rpc#7" }, no_conn = { .peer = "::1" },
			     nobody = { 0 };

	begin(false);
	log_event(LOG_L_INFO, &who, "closed", NULL, "closed after %d bytes", 5);
	log_event(LOG_L_WARN, &no_peer, "x", NULL, "a");
	log_event(LOG_L_ERROR, &no_conn, "x", NULL, "b");
	log_event(LOG_L_ERROR, &nobody, "x", NULL, "c");
	log_say(LOG_L_INFO, "d");
	log_say(LOG_L_DEBUG, "not wanted");
	log_set_level(LOG_L_DEBUG);
	log_say(LOG_L_DEBUG, "wanted");
	CHECK_STR(logged(), "ccf-listen: info: rpc#7 127.0.0.1:50312: closed after 5 bytes\n"
			    "ccf-listen: warn: rpc#7: a\n"
			    "ccf-listen: error: ::1: b\n"
			    "ccf-listen: error: c\n"
			    "ccf-listen: info: d\n"
			    "ccf-listen: debug: wanted\n");
}

CASE(errno_is_printed_and_preserved)
{
	begin(false);
	errno = ENOENT;
	log_say(LOG_L_ERROR, "open: %m");
	CHECK_INT(errno, ENOENT);
	log_say(LOG_L_DEBUG, "%m");
	CHECK_INT(errno, ENOENT);
	dup2(real_stderr, 2);
	close(2);
	log_say(LOG_L_ERROR, "nobody hears this");
	CHECK_INT(errno, ENOENT);
	CHECK_STR(logged(), "ccf-listen: error: open: No such file or directory\n");
}

CASE(bytes_of_a_peer_are_escaped_in_text)
{
	begin(false);
	log_say(LOG_L_INFO, "%s", "a\nb\tc\033[1m\177\\ \"q\"");
	log_say(LOG_L_INFO, "%s", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"); /* as they are */
	log_say(LOG_L_INFO, "%s", "\xff \xc3 \xc0\xaf \xed\xa0\x80 \xf5\x80\x80\x80 \xe2\x82");
	log_say(LOG_L_INFO, "%s",
	    "\xc2\x9b"
	    "1m"); /* U+009B is CSI */
	CHECK_STR(logged(), "ccf-listen: info: a\\nb\\tc\\033[1m\\177\\\\ \"q\"\n"
			    "ccf-listen: info: \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n"
			    "ccf-listen: info: \\377 \\303 \\300\\257 \\355\\240\\200 "
			    "\\365\\200\\200\\200 \\342\\202\n"
			    "ccf-listen: info: \\302\\2331m\n");
}

CASE(a_json_line_has_the_fixed_keys_and_the_facts)
{
	const struct log_who who = { .conn = "rpc#7", .iface = "rpc", .peer = "[::1]:5" };
	const struct log_fact facts[] = { { .key = "in", .num = -5 },
		{ .key = "reason", .text = "say \"no\"\n\xff" }, { .key = NULL } };
	const char *line;

	begin(true);
	log_event(LOG_L_INFO, &who, "closed", facts, "tab\there\a\033\xc2\x9b\177");
	line = logged();
	CHECK(json_line(line));
	CHECK(strncmp(line, "{\"ts\":\"2", 8) == 0);
	CHECK(line[17] == 'T' && line[26] == '.' && line[30] == 'Z' && line[31] == '"');
	CHECK_STR(line + 32,
	    ",\"level\":\"info\",\"tool\":\"ccf-listen\",\"event\":\"closed\",\"conn\":\"rpc#7\","
	    "\"iface\":\"rpc\",\"peer\":\"[::1]:5\",\"in\":-5,"
	    "\"reason\":\"say \\\"no\\\"\\n\\\\377\","
	    "\"msg\":\"tab\\there\\u0007\\u001b\\u009b\\u007f\"}\n");
}

/* Fills s with what makes cuts hard: escapes and sequences of every length. */
static void
fill(char *s, size_t len, size_t shift)
{
	static const char bad[] = "\xe2\x82\xac\n\"\xff\xf0\x9f\x98\x80\\x\x01\xc2\x9b\xc3";

	for (size_t i = 0; i < len; i++)
		s[i] = bad[(i + shift) % (sizeof(bad) - 1)];
	s[len] = '\0';
}

CASE(a_long_line_is_cut_and_stays_a_line)
{
	static char text[20000];
	struct log_fact facts[] = { { .key = "reason", .text = text }, { .key = "n", .num = 1 },
		{ .key = NULL } };

	for (size_t len = 6900; len < 7300; len += 7) {
		fill(text, len, len);
		begin(true);
		log_event(LOG_L_INFO, NULL, "x", facts, "the message");
		CHECK(json_line(logged()) && strlen(out) <= 8192);
		CHECK(strstr(out, "\"msg\":\"the message\"}\n") != NULL);
	}
	for (size_t len = 8000; len < 16000; len += 97) {
		fill(text, len, len);
		begin(true);
		log_event(LOG_L_INFO, NULL, "x", facts, "%s", text);
		CHECK(json_line(logged()) && strlen(out) <= 8192);
		begin(false);
		log_say(LOG_L_INFO, "%s", text);
		CHECK(strlen(logged()) <= 8192 && strchr(out, '\n') == out + strlen(out) - 1);
	}
}

CASE(a_class_that_floods_is_summed_up)
{
	static struct log_class class = { .name = "handshake failures" };
	unsigned shown = 0;

	begin(false);
	CHECK(log_flush_held(0) == CLOCK_NEVER);
	for (int i = 0; i < 328; i++)
		shown += log_admit(&class, 1000 + i);
	CHECK_INT(shown, 10);
	CHECK_INT(log_flush_held(5000), 11000);
	CHECK(log_flush_held(11000) == CLOCK_NEVER);
	CHECK(log_flush_held(12000) == CLOCK_NEVER);
	CHECK(log_admit(&class, 12000));
	for (int i = 0; i < 12; i++)
		log_admit(&class, 12001);
	CHECK(log_admit(&class, 30000)); /* the sum of the old window is said first */
	CHECK(log_flush_held(50000) == CLOCK_NEVER);
	CHECK_STR(logged(), "ccf-listen: info: 318 more handshake failures in 10 s\n"
			    "ccf-listen: info: 3 more handshake failures in 10 s\n");
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_text_line_has_tool_level_connection_and_peer),
	    RUN(errno_is_printed_and_preserved),
	    RUN(bytes_of_a_peer_are_escaped_in_text),
	    RUN(a_json_line_has_the_fixed_keys_and_the_facts),
	    RUN(a_long_line_is_cut_and_stays_a_line),
	    RUN(a_class_that_floods_is_summed_up),
	    { 0 },
	});
}
