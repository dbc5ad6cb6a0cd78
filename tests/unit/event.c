/* (who runs this makes no difference) */
#include "wire/event.h"

#include <stdlib.h>

#include "base/text.h"
#include "check.h"
#include "wire/command.h"

static struct text t;
static struct event e;

static struct event *
begin(bool json, const char *name)
{
	text_free(&t);
	event_begin(&e, &t, json, name);
	return &e;
}

static const char *
end(void)
{
	event_end(&e);
	CHECK(!t.failed && strlen(t.at) == t.len);
	return t.at;
}

static void
link_down(void)
{
	event_id(&e, "peer", "n \"1\"\\\n", 7);
	event_word(&e, "direction", "out");
	event_fact(&e, "address", "unix:/a b\\\"%");
	event_count(&e, "dropped", 18446744073709551615u);
	event_note(&e, "why", "a \"bad\"\n thing\\");
}

CASE(words_facts_and_a_note)
{
	begin(false, "link down");
	link_down();
	CHECK_STR(end(), "link down n%20%221%22\\%0A out address=unix:/a%20b\\\"% "
			 "dropped=18446744073709551615: a \"bad\"\\n thing\\\\\n");
	begin(true, "link down");
	link_down();
	CHECK_STR(end(),
	    "{\"event\":\"link down\",\"peer\":\"n%20%221%22\\\\%0A\","
	    "\"direction\":\"out\",\"address\":\"unix:/a b\\\\\\\"%\","
	    "\"dropped\":18446744073709551615,\"why\":\"a \\\"bad\\\"\\n thing\\\\\"}\n");
	begin(false, "error");
	event_note(&e, "error", "");
	CHECK_STR(end(), "error: \n");
	begin(true, "links");
	CHECK_STR(end(), "{\"event\":\"links\"}\n");
}

CASE(numbers_and_times)
{
	static const struct {
		int64_t us;
		const char *text;
	} times[] = { { 1234, "1.234" }, { 0, "0.000" }, { 7, "0.007" }, { 1000, "1.000" },
		{ 60000010, "60000.010" }, { -1, "0.000" } };
	char said[64];

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		begin(false, "pong");
		event_ms(&e, "ms", times[i].us);
		snprintf(said, sizeof(said), "pong ms=%s\n", times[i].text);
		CHECK_STR(end(), said);
		begin(true, "pong");
		event_ms(&e, "ms", times[i].us);
		snprintf(said, sizeof(said), "{\"event\":\"pong\",\"ms\":%s}\n", times[i].text);
		CHECK_STR(end(), said);
	}
	begin(false, "links");
	event_number(&e, "count", 3);
	CHECK_STR(end(), "links 3\n");
	begin(true, "links");
	event_number(&e, "count", UINT64_MAX);
	CHECK_STR(end(), "{\"event\":\"links\",\"count\":18446744073709551615}\n");
}

CASE(types)
{
	static const uint64_t type[] = { FRAME_CONSENSUS, FRAME_PING, UINT64_MAX };
	static const char *const name[] = { "consensus", "ping", "18446744073709551615" };
	char said[64];

	for (int i = 0; i < 3; i++) {
		begin(false, "x");
		event_type(&e, type[i]);
		snprintf(said, sizeof(said), "x %s\n", name[i]);
		CHECK_STR(end(), said);
		begin(true, "x");
		event_type(&e, type[i]);
		snprintf(said, sizeof(said), "{\"event\":\"x\",\"type\":\"%s\"}\n", name[i]);
		CHECK_STR(end(), said);
	}
}

CASE(what_is_no_ascii)
{
	begin(false, "x");
	event_fact(&e, "a", "\xc3\xa4\x01\x7f");
	event_note(&e, "n", "\xc3\xa4\x01\xff");
	CHECK_STR(end(), "x a=%C3%A4%01%7F: \xc3\xa4\\001\\377\n");
	begin(true, "x");
	event_fact(&e, "a", "\xc3\xa4\x01\x7f");
	event_note(&e, "n", "\xc3\xa4\xff");
	CHECK_STR(end(),
	    "{\"event\":\"x\",\"a\":\"\xc3\xa4\\u0001\\u007f\",\"n\":\"\xc3\xa4\\\\377\"}\n");
}

static const char *
payload(bool json, const char *bytes, size_t len)
{
	static char said[256];

	begin(json, "m");
	event_payload(&e, bytes, len);
	end();
	snprintf(said, sizeof(said), "%.*s", (int)t.len - (json ? 14 : 2), t.at + (json ? 13 : 1));
	return said;
}

CASE(a_payload_in_text)
{
	CHECK_STR(payload(false, "", 0), " ");
	CHECK_STR(payload(false, NULL, 0), " ");
	CHECK_STR(payload(false, "hello there ", 12), " hello there ");
	CHECK_STR(payload(false, "a\"\\%~", 5), " a\"\\%~");
	CHECK_STR(payload(false, "hex:00", 6), " hex:6865783a3030");
	CHECK_STR(payload(false, "text:", 5), " hex:746578743a");
	CHECK_STR(payload(false, "file:x", 6), " hex:66696c653a78");
	CHECK_STR(payload(false, "base64:", 7), " hex:6261736536343a");
	CHECK_STR(payload(false, "\0\xff\n", 3), " hex:00ff0a");
	CHECK_STR(payload(false, "a\r", 2), " hex:610d");
	CHECK_STR(payload(false, "\x7f", 1), " hex:7f");
	CHECK_STR(payload(false, "gr\xc3\xbc\xc3\x9f", 6), " hex:6772c3bcc39f");
}

CASE(a_payload_in_json)
{
	CHECK_STR(payload(true, "", 0), "\"text\":\"\"}");
	CHECK_STR(payload(true, NULL, 0), "\"text\":\"\"}");
	CHECK_STR(payload(true, "hex:00", 6), "\"text\":\"hex:00\"}");
	CHECK_STR(payload(true, "a \"b\\", 5), "\"text\":\"a \\\"b\\\\\"}");
	CHECK_STR(payload(true, "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80", 11),
	    "\"text\":\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80\"}");
	CHECK_STR(payload(true, "f\n", 2), "\"base64\":\"Zgo=\"}");
	CHECK_STR(payload(true, "\x7f", 1), "\"base64\":\"fw==\"}");
	CHECK_STR(payload(true, "a\xc2\x85", 3), "\"base64\":\"YcKF\"}");
	CHECK_STR(payload(true, "\xc0\x80", 2), "\"base64\":\"wIA=\"}");
	CHECK_STR(payload(true, "\xed\xa0\x80", 3), "\"base64\":\"7aCA\"}");
	CHECK_STR(payload(true, "\0\xff\xbf", 3), "\"base64\":\"AP+/\"}");
	CHECK_STR(payload(true, "ab\xc3", 3), "\"base64\":\"YWLD\"}");
}

static const char *
file(bool json, const char *path)
{
	begin(json, "m");
	event_file(&e, path);
	return end();
}

CASE(a_file)
{
	CHECK_STR(file(false, NULL), "m -\n");
	CHECK_STR(file(true, NULL), "{\"event\":\"m\",\"file\":null}\n");
	CHECK_STR(file(false, "/a b%,1,2\xc3\xa4"), "m file:/a%20b%25%2C1%2C2%C3%A4\n");
	CHECK_STR(file(true, "/a b%,1,2\xc3\xa4\""),
	    "{\"event\":\"m\",\"file\":\"/a b%,1,2\xc3\xa4\\\"\"}\n");
}

CASE(no_message_is_longer_than_its_room)
{
	static const char fill[] = "a\"\\\n\xff\xc3";
	char id[FRAME_ID_MAX], *bytes = malloc(100000);

	for (size_t f = 0; f < sizeof(fill); f++) {
		for (size_t len = 0; len < 100000; len = len * 3 + 1) {
			memset(id, fill[f], sizeof(id));
			memset(bytes, fill[f], len);
			for (int json = 0; json < 2; json++) {
				begin(json, "message");
				event_id(&e, "from", id, sizeof(id));
				event_type(&e, UINT64_MAX);
				event_number(&e, "size", UINT64_MAX);
				event_payload(&e, bytes, len);
				end();
				CHECK(t.len <= EVENT_ROOM_MAX(len));
			}
		}
	}
	free(bytes);
}

int
main(void)
{
	int bad = check_main((struct check_case[]){ RUN(words_facts_and_a_note),
	    RUN(numbers_and_times), RUN(types), RUN(what_is_no_ascii), RUN(a_payload_in_text),
	    RUN(a_payload_in_json), RUN(a_file), RUN(no_message_is_longer_than_its_room), { 0 } });

	text_free(&t);
	return bad;
}
