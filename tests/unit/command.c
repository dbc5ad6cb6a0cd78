/* (who runs this makes no difference) */
#include "wire/command.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"
#include "check.h"
#include "wire/event.h"

static struct command c;
static struct text line;
static char msg[256];

/* The line in memory that ends where it may be written no more, with a byte that is not part of it.
 */
static int
parse_bytes(const char *bytes, size_t len)
{
	static char *at;

	free(at);
	at = malloc(len + 1);
	memcpy(at, bytes, len);
	at[len] = '0';
	memset(&c, 0x5a, sizeof(c));
	msg[0] = '\0';
	return command_parse(&c, at, len, msg, sizeof(msg));
}

static int
parse(const char *s)
{
	return parse_bytes(s, strlen(s));
}

static bool
id_is(const char *id)
{
	return c.id_len == strlen(id) && memcmp(c.id, id, c.id_len) == 0;
}

static bool
part_is(unsigned i, const char *bytes, size_t len)
{
	return i < c.n_parts && c.part[i].bytes && !c.part[i].path && c.part[i].len == len &&
	       memcmp(c.part[i].bytes, bytes, len) == 0;
}

/* What a sentence says; "taken": there is none. */
static const char *
fault(const char *s)
{
	int rc = parse(s);

	if (rc == 0)
		return "taken";
	CHECK_INT(rc, -EINVAL);
	CHECK_INT(c.n_parts, 0x5a5a5a5a);
	return msg;
}

CASE(every_verb)
{
	CHECK_INT(parse("associate n1 127.0.0.1:8001"), 0);
	CHECK_INT(c.verb, COMMAND_ASSOCIATE);
	CHECK(id_is("n1"));
	CHECK_STR(c.address, "127.0.0.1:8001");
	CHECK_INT(parse("send n%20%FF 0x7 hello there"), 0);
	CHECK_INT(c.verb, COMMAND_SEND);
	CHECK(id_is("n \xff"));
	CHECK_INT(c.type, 7);
	CHECK_INT(c.n_parts, 1);
	CHECK(part_is(0, "hello there", 11));
	CHECK_INT(parse("close n1"), 0);
	CHECK_INT(c.verb, COMMAND_CLOSE);
	CHECK(id_is("n1"));
	CHECK_INT(parse("ping n1"), 0);
	CHECK_INT(c.verb, COMMAND_PING);
	CHECK(id_is("n1"));
	CHECK_INT(parse("links"), 0);
	CHECK_INT(c.verb, COMMAND_LINKS);
	CHECK_INT(c.id_len, 0);
}

CASE(empty_lines_and_remarks_are_nothing_to_do)
{
	CHECK_INT(parse(""), 1);
	CHECK_INT(parse("\r"), 1);
	CHECK_INT(parse("#"), 1);
	CHECK_INT(parse("# send n1 0 x"), 1);
	CHECK_INT(parse_bytes("#\0\xff", 3), 1);
	CHECK_STR(
	    fault(" # x"), "a space is no command: write associate, send, close, ping or links");
}

CASE(what_is_no_command)
{
	CHECK_STR(
	    fault("foo"), "\"foo\" is no command: write associate, send, close, ping or links");
	CHECK_STR(
	    fault("Links"), "\"Links\" is no command: write associate, send, close, ping or links");
	CHECK_STR(
	    fault("link"), "\"link\" is no command: write associate, send, close, ping or links");
	CHECK_STR(fault("close\tn1"),
	    "\"close\tn1\" is no command: write associate, send, close, ping or links");
	CHECK_STR(
	    fault(" links"), "a space is no command: write associate, send, close, ping or links");
	CHECK_STR(fault("0123456789012345678901234567890123456789a"),
	    "\"0123456789012345678901234567890123456789\"... is no command: "
	    "write associate, send, close, ping or links");
	CHECK_STR(fault("012345678901234567890123456789012345678\xc3\xa4"),
	    "\"012345678901234567890123456789012345678\"... is no command: "
	    "write associate, send, close, ping or links");
	CHECK_INT(parse_bytes("links\0", 6), -EINVAL);
	CHECK_INT(parse_bytes("\0", 1), -EINVAL);
}

CASE(what_is_missing_or_too_much)
{
	CHECK_STR(fault("associate"), "associate: no ID: write associate ID ADDRESS");
	CHECK_STR(fault("associate n1"), "associate: no ADDRESS: write associate ID ADDRESS");
	CHECK_STR(fault("associate n1 "), "associate: no ADDRESS: write associate ID ADDRESS");
	CHECK_STR(fault("associate n1 a:1 b:2"),
	    "associate: \"b:2\" is too much: write associate ID ADDRESS");
	CHECK_STR(fault("associate n1 a:1 "),
	    "associate: a space at the end: write associate ID ADDRESS");
	CHECK_STR(fault("send"), "send: no ID: write send ID TYPE PAYLOAD");
	CHECK_STR(fault("send n1"), "send: no TYPE: write send ID TYPE PAYLOAD");
	CHECK_STR(fault("send n1 "), "send: no TYPE: write send ID TYPE PAYLOAD");
	CHECK_STR(fault("send  n1 0"),
	    "send: two spaces before the ID, where one stands: write send ID TYPE PAYLOAD");
	CHECK_STR(fault("send n1  0"),
	    "send: two spaces before the TYPE, where one stands: write send ID TYPE PAYLOAD");
	CHECK_STR(fault("close"), "close: no ID: write close ID");
	CHECK_STR(fault("close "), "close: no ID: write close ID");
	CHECK_STR(fault("close n1 "), "close: a space at the end: write close ID");
	CHECK_STR(fault("close n1 n2"), "close: \"n2\" is too much: write close ID");
	CHECK_STR(fault("ping n1 n2"), "ping: \"n2\" is too much: write ping ID");
	CHECK_STR(fault("links n1"), "links: \"n1\" is too much: write links");
	CHECK_STR(fault("links "), "links: a space at the end: write links");
	CHECK_INT(parse_bytes("close n\0", 8), -EINVAL);
	CHECK_STR(msg, "close: a NUL in the ID: write close ID");
	CHECK_INT(parse_bytes("associate n1 a\0:1", 17), -EINVAL);
	CHECK_STR(msg, "associate: a NUL in the ADDRESS: write associate ID ADDRESS");
	CHECK_INT(parse_bytes("send n1 0\0 x", 12), -EINVAL);
	CHECK_STR(msg, "send: a NUL in the TYPE: write send ID TYPE PAYLOAD");
}

CASE(ids_and_types_are_exact)
{
	static const char types[] = "send: \"%s\" is no TYPE: write channel, consensus, forwarded, "
				    "ping, or a number such as 7 or 0x7";
	static const char *const bad[] = { "foo", "-1", "0x", "18446744073709551616", "1x" };
	char s[3 * FRAME_ID_MAX + 16], said[256];

	CHECK_STR(fault("close n=1"), "close: \"n=1\" is no ID: write %3D for =");
	CHECK_STR(fault("close n%1"), "close: \"n%1\" is no ID: write %25 for %");
	CHECK_STR(fault("close \"n\""), "close: \"\"n\"\" is no ID: write %22 for \"");
	CHECK_STR(fault("close n\t"), "close: \"n\t\" is no ID: write %09 for byte 0x09");
	CHECK_STR(fault("close \xc3\xa4"), "close: \"\xc3\xa4\" is no ID: write %C3 for byte 0xc3");
	memcpy(s, "close ", 6);
	memset(s + 6, 'n', FRAME_ID_MAX + 1);
	s[6 + FRAME_ID_MAX + 1] = '\0';
	CHECK_STR(fault(s), "close: an ID of 1025 bytes: 1024 are the most");
	s[6 + FRAME_ID_MAX] = '\0';
	CHECK_INT(parse(s), 0);
	CHECK_INT(c.id_len, FRAME_ID_MAX);
	for (int i = 0; i < FRAME_ID_MAX; i++)
		memcpy(s + 6 + 3 * i, "%00", 4);
	CHECK_INT(parse(s), 0);
	CHECK_INT(c.id_len, FRAME_ID_MAX);
	strcat(s, "n");
	CHECK_STR(fault(s), "close: an ID of 1025 bytes: 1024 are the most");

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(said, sizeof(said), types, bad[i]);
		snprintf(s, sizeof(s), "send n1 %s x", bad[i]);
		CHECK_STR(fault(s), said);
	}
	CHECK_INT(parse("send n1 18446744073709551615 x"), 0);
	CHECK(c.type == UINT64_MAX);
	CHECK_INT(parse("send n1 consensus x"), 0);
	CHECK_INT(c.type, FRAME_CONSENSUS);
	CHECK_INT(parse("send n1 ping x"), 0);
	CHECK_INT(c.type, FRAME_PING);
}

CASE(an_empty_payload)
{
	static const char *const one[] = {
		"send n1 0 hex:", "send n1 0 text:", "send n1 0 base64:"
	};

	CHECK_INT(parse("send n1 0"), 0);
	CHECK_INT(c.n_parts, 0);
	CHECK_INT(parse("send n1 0 "), 0);
	CHECK_INT(c.n_parts, 0);
	CHECK_INT(parse("send n1 0\r"), 0);
	CHECK_INT(c.n_parts, 0);
	for (int i = 0; i < 3; i++) {
		CHECK_INT(parse(one[i]), 0);
		CHECK_INT(c.n_parts, 1);
		CHECK(part_is(0, "", 0));
	}
}

CASE(a_plain_payload_stands_as_it_is)
{
	static const char *const plain[] = { "x", " x", "x ", "  ", "a  b", "\t", "#", "-", "%41",
		"gr\xc3\xbc\xc3\x9f", "\xff\x80", "text", "hex", " hex:00", "x hex:00", "Hex:00",
		"file", "http://x", "\rx" };
	char s[64];

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		snprintf(s, sizeof(s), "send n1 0 %s", plain[i]);
		CHECK_INT(parse(s), 0);
		CHECK(part_is(0, plain[i], strlen(plain[i])));
		CHECK_INT(c.n_parts, 1);
	}
	CHECK_INT(parse_bytes("send n1 0 a\0b\0", 14), 0);
	CHECK(part_is(0, "a\0b\0", 4));
}

CASE(a_cr_at_the_end_is_of_a_plain_payload_only)
{
	CHECK_INT(parse("links\r"), 0);
	CHECK_INT(parse("close n1\r\r"), 0);
	CHECK(id_is("n1"));
	CHECK_INT(parse("associate n1 a:1\r"), 0);
	CHECK_STR(c.address, "a:1");
	CHECK_INT(parse("send n1 7\r"), 0);
	CHECK_INT(c.type, 7);
	CHECK_INT(parse("send n1 0 text:a%0D\r"), 0);
	CHECK(part_is(0, "a\r", 2));
	CHECK_INT(parse("send n1 0 file:/x,1,2\r"), 0);
	CHECK_STR(c.part[0].path, "/x");
	CHECK_INT(c.part[0].length, 2);
	CHECK_INT(parse("send n1 0 file:/x\r"), 0);
	CHECK_STR(c.part[0].path, "/x");
	CHECK_INT(parse("send n1 0 a\r"), 0);
	CHECK(part_is(0, "a\r", 2));
	CHECK_INT(parse("send n1 0 \r"), 0);
	CHECK(part_is(0, "\r", 1));
	CHECK_INT(parse("links\r\r"), 0);
	CHECK_STR(fault("links\r "),
	    "\"links\r\" is no command: write associate, send, close, ping or links");
	CHECK_STR(fault("close \r"), "close: no ID: write close ID");
}

CASE(text_and_hex)
{
	CHECK_INT(parse("send n1 0 text:hello%20you%2c%00gr\xc3\xbc\xc3\x9f%25"), 0);
	CHECK(part_is(0, "hello you,\0gr\xc3\xbc\xc3\x9f%", 18));
	CHECK_INT(parse("send n1 0 hex:00fFAb90"), 0);
	CHECK(part_is(0, "\x00\xff\xab\x90", 4));
	CHECK_STR(fault("send n1 0 hex:0g"), "send: \"hex:0g\": g is no hex digit");
	CHECK_STR(fault("send n1 0 hex:0x00"), "send: \"hex:0x00\": x is no hex digit");
	CHECK_STR(fault("send n1 0 hex:0\t"), "send: \"hex:0\t\": byte 0x09 is no hex digit");
	CHECK_STR(
	    fault("send n1 0 hex:012"), "send: \"hex:012\": write two hex digits for each byte");
	CHECK_STR(
	    fault("send n1 0 hex:00112233445566778899aabbccddeeff00112233g45566778899aabbccddee"),
	    "send: ...\"aabbccddeeff00112233g45566778899aabbccdd\"...: g is no hex digit");
	CHECK_STR(fault("send n1 0 text:100%"), "send: \"text:100%\": write %25 for %");
	CHECK_STR(fault("send n1 0 text:%20%4"), "send: \"text:%20%4\": write %25 for %");
	CHECK_STR(fault("send n1 0 text:%20%4x"), "send: \"text:%20%4x\": write %25 for %");
	CHECK_INT(parse_bytes("send n1 0 text:\0", 16), -EINVAL);
}

static const char *
base64(const char *digits)
{
	char s[64];

	snprintf(s, sizeof(s), "send n1 0 base64:%s", digits);
	return fault(s);
}

CASE(base64_is_strict)
{
	CHECK_STR(base64("Zg=="), "taken");
	CHECK(part_is(0, "f", 1));
	CHECK_STR(base64("Zg"), "taken");
	CHECK(part_is(0, "f", 1));
	CHECK_STR(base64("Zm8="), "taken");
	CHECK(part_is(0, "fo", 2));
	CHECK_STR(base64("Zm8"), "taken");
	CHECK(part_is(0, "fo", 2));
	CHECK_STR(base64("Zm9v"), "taken");
	CHECK(part_is(0, "foo", 3));
	CHECK_STR(base64("AP+/gICAgA=="), "taken");
	CHECK(part_is(0, "\x00\xff\xbf\x80\x80\x80\x80", 7));
	CHECK_STR(base64("Zg="), "send: \"base64:Zg=\": write == at its end");
	CHECK_STR(base64("Zg==="), "send: \"base64:Zg===\": write == at its end");
	CHECK_STR(base64("Zm8=="), "send: \"base64:Zm8==\": write = at its end");
	CHECK_STR(base64("Zm9v="), "send: \"base64:Zm9v=\": write no = at its end");
	CHECK_STR(base64("===="), "send: \"base64:====\": write no = at its end");
	CHECK_STR(base64("Zg==Zg=="),
	    "send: \"base64:Zg==Zg==\": = is no base64 digit: write A-Z a-z 0-9 + /");
	CHECK_STR(
	    base64("Z-_9"), "send: \"base64:Z-_9\": - is no base64 digit: write A-Z a-z 0-9 + /");
	CHECK_STR(base64("Zm\t9v"),
	    "send: \"base64:Zm\t9v\": byte 0x09 is no base64 digit: write A-Z a-z 0-9 + /");
	CHECK_STR(base64("Z"), "send: \"base64:Z\": a base64 digit is missing");
	CHECK_STR(base64("Zm9vZ"), "send: \"base64:Zm9vZ\": a base64 digit is missing");
	CHECK_STR(base64("Zh=="),
	    "send: \"base64:Zh==\": its last digit, h, has bits that belong to no byte");
	CHECK_STR(base64("Zh"),
	    "send: \"base64:Zh\": its last digit, h, has bits that belong to no byte");
	CHECK_STR(base64("Zm9"),
	    "send: \"base64:Zm9\": its last digit, 9, has bits that belong to no byte");
}

/* The last part is a file's, and this one. */
static void
check_file(const char *part, const char *path, int64_t offset, int64_t length)
{
	char s[128];
	const struct command_part *p;

	snprintf(s, sizeof(s), "send n1 0 %s", part);
	CHECK_INT(parse(s), 0);
	p = &c.part[c.n_parts - 1];
	CHECK(!p->bytes);
	CHECK_STR(p->path, path);
	CHECK_INT(p->offset, offset);
	CHECK_INT(p->length, length);
}

CASE(files_and_their_ranges)
{
	check_file("file:/a/b", "/a/b", 0, -1);
	check_file("file:a,0,5", "a", 0, 5);
	check_file("file:a,b,10,0", "a,b", 10, 0);
	check_file("file:a,1,2,3", "a,1", 2, 3);
	check_file("file:a,5", "a,5", 0, -1);
	check_file("file:a,5,", "a,5,", 0, -1);
	check_file("file:a,,5", "a,,5", 0, -1);
	check_file("file:a,-1,5", "a,-1,5", 0, -1);
	check_file("file:a,1,5x", "a,1,5x", 0, -1);
	check_file("file:a,1,5%30", "a,1,50", 0, -1);
	check_file("file:a%2C1,5", "a,1,5", 0, -1);
	check_file("file:a,99999999999999999999,x", "a,99999999999999999999,x", 0, -1);
	check_file("file:a%20b%25c\xc3\xa4%0A", "a b%c\xc3\xa4\n", 0, -1);
	check_file("file:a,0,9223372036854775807", "a", 0, INT64_MAX);
	check_file("file:a,9223372036854775807,0", "a", INT64_MAX, 0);
	CHECK_STR(fault("send n1 0 file:"),
	    "send: \"file:\": no path: write file:PATH or file:PATH,OFFSET,LENGTH");
	CHECK_STR(fault("send n1 0 file:,0,5"),
	    "send: \"file:,0,5\": no path: write file:PATH or file:PATH,OFFSET,LENGTH");
	CHECK_STR(fault("send n1 0 file:a%00b"), "send: \"file:a%00b\": no path has a NUL");
	CHECK_STR(fault("send n1 0 file:a%b,0,5"), "send: \"file:a%b\": write %25 for %");
	CHECK_STR(fault("send n1 0 file:a,9223372036854775808,0"),
	    "send: \"file:a,9223372036854775808,0\": no file has such a range: "
	    "write file:PATH,OFFSET,LENGTH, in bytes");
	CHECK_STR(fault("send n1 0 file:a,1,9223372036854775807"),
	    "send: \"file:a,1,9223372036854775807\": no file has such a range: "
	    "write file:PATH,OFFSET,LENGTH, in bytes");
}

CASE(parts_are_mixed)
{
	char s[256] = "send n1 consensus";

	CHECK_INT(parse("send n1 0 hex:01 file:a,1,2 text:b%20 base64:Yw file:d text: hex:02"), 0);
	CHECK_INT(c.n_parts, 7);
	CHECK(part_is(0, "\1", 1));
	CHECK_STR(c.part[1].path, "a");
	CHECK(part_is(2, "b ", 2));
	CHECK(part_is(3, "c", 1));
	CHECK_STR(c.part[4].path, "d");
	CHECK(part_is(5, "", 0));
	CHECK(part_is(6, "\2", 1));
	CHECK_STR(fault("send n1 0 text:hello world"),
	    "send: \"world\" is no part of a payload: write text:WORDS, hex:00ff, base64:AP8= or "
	    "file:PATH[,OFFSET,LENGTH], and %20 for a space in a text or a path");
	CHECK_STR(fault("send n1 0 text:a  hex:00"),
	    "send: two spaces before the next part of its payload, where one stands: "
	    "write text:WORDS, hex:00ff, base64:AP8= or file:PATH[,OFFSET,LENGTH]");
	CHECK_STR(fault("send n1 0 text:a "),
	    "send: no next part of its payload: "
	    "write text:WORDS, hex:00ff, base64:AP8= or file:PATH[,OFFSET,LENGTH]");
	CHECK_STR(
	    fault("send n1 0 file:a hex:0"), "send: \"hex:0\": write two hex digits for each byte");
	for (int i = 0; i < COMMAND_PARTS; i++)
		strcat(s, " file:x");
	CHECK_INT(parse(s), 0);
	CHECK_INT(c.n_parts, COMMAND_PARTS);
	for (int i = 0; i < COMMAND_PARTS; i++)
		CHECK_STR(c.part[i].path, "x");
	strcat(s, " hex:");
	CHECK_STR(fault(s), "send: more than 16 parts: write some of them as one, as in hex:0001 "
			    "for hex:00 hex:01");
}

CASE(a_line_of_any_length_and_a_message_that_is_cut)
{
	char *s = malloc(COMMAND_LINE_MAX), few[4] = "...", none = '.';

	memset(s, '0', COMMAND_LINE_MAX);
	memcpy(s, "send n1 0 hex:", 14);
	CHECK_INT(parse_bytes(s, COMMAND_LINE_MAX), 0);
	CHECK_INT(c.part[0].len, (COMMAND_LINE_MAX - 14) / 2);
	memset(s, 'x', COMMAND_LINE_MAX);
	CHECK_INT(parse_bytes(s, COMMAND_LINE_MAX), -EINVAL);
	CHECK(strlen(msg) < 128);
	memcpy(s, "close ", 6);
	CHECK_INT(command_parse(&c, s, 100, few, sizeof(few)), 0);
	CHECK_INT(command_parse(&c, s, 5, few, sizeof(few)), -EINVAL);
	CHECK_STR(few, "clo");
	CHECK_INT(command_parse(&c, s, 1, few, sizeof(few)), -EINVAL);
	CHECK_STR(few, "\"c\"");
	CHECK_INT(command_parse(&c, s, 5, &none, 0), -EINVAL);
	CHECK_INT(none, '.');
	free(s);
}

/* What an event shows of these bytes, a send command takes for the same. */
static void
check_back(const char *bytes, size_t len)
{
	struct event e;

	text_free(&line);
	event_begin(&e, &line, false, "send");
	event_id(&e, "to", "n1", 2);
	event_type(&e, FRAME_CHANNEL);
	event_payload(&e, bytes, len);
	CHECK_INT(parse_bytes(line.at, line.len), 0);
	if (len == 0)
		CHECK_INT(c.n_parts, 0);
	else
		CHECK(c.n_parts == 1 && part_is(0, bytes, len));
}

CASE(what_an_event_shows_is_a_command_s_payload)
{
	static const char *const same[] = { "", "hello", " hello ", "hex:00", "text:", "file:/x",
		"base64:!", "hex", "\r", "x\r", "a\tb", "gr\xc3\xbc\xc3\x9f", "%41", "\n", "#",
		"-" };
	char bytes[256];

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		check_back(same[i], strlen(same[i]));
	for (unsigned i = 0; i < 256; i++) {
		bytes[i] = (char)i;
		check_back(bytes + i, 1);
	}
	check_back(bytes, 256);
}

CASE(the_forms_are_known)
{
	CHECK(command_has_form("hex:", 4));
	CHECK(command_has_form("text:x", 6));
	CHECK(command_has_form("base64:", 7));
	CHECK(command_has_form("file:", 5));
	CHECK(!command_has_form("hex:", 3));
	CHECK(!command_has_form(" hex:", 5));
	CHECK(!command_has_form("HEX:", 4));
	CHECK(!command_has_form(NULL, 0));
}

int
main(void)
{
	int bad = check_main((struct check_case[]){ RUN(every_verb),
	    RUN(empty_lines_and_remarks_are_nothing_to_do), RUN(what_is_no_command),
	    RUN(what_is_missing_or_too_much), RUN(ids_and_types_are_exact), RUN(an_empty_payload),
	    RUN(a_plain_payload_stands_as_it_is), RUN(a_cr_at_the_end_is_of_a_plain_payload_only),
	    RUN(text_and_hex), RUN(base64_is_strict), RUN(files_and_their_ranges),
	    RUN(parts_are_mixed), RUN(a_line_of_any_length_and_a_message_that_is_cut),
	    RUN(what_an_event_shows_is_a_command_s_payload), RUN(the_forms_are_known), { 0 } });

	parse("");
	text_free(&line);
	return bad;
}
