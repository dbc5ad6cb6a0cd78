/* (who runs this makes no difference) */
#include "wire/frame.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"
#include "check.h"

static char line[2 * FRAME_HEAD_MAX];
static size_t len;
static struct frame f;

/* ---- bytes by hand: nothing of the codec's is used to make them ---- */

static void
put(uint64_t n, unsigned bytes)
{
	for (; bytes; bytes--, n >>= 8)
		line[len++] = (char)(n & 0xff);
}

static void
put_times(char c, size_t n)
{
	memset(line + len, c, n);
	len += n;
}

/* A head that says what it is told to, and its sender as far as it fits. */
static void
make(uint32_t size, uint64_t type, uint64_t id)
{
	len = 0;
	put(size, 4);
	put(type, 8);
	put(id, 8);
	put_times('s', id <= FRAME_ID_MAX + 1 ? (size_t)id : 0);
}

static void
make_addressed(uint64_t dest, uint32_t size, uint64_t id)
{
	len = 0;
	put(dest, 8);
	put_times('d', dest <= FRAME_ID_MAX + 1 ? (size_t)dest : 0);
	put(size, 4);
	put(1, 8);
	put(id, 8);
	put_times('s', id <= FRAME_ID_MAX + 1 ? (size_t)id : 0);
}

/* Of the first n bytes, in a piece of memory that ends there. */
static int
parse(size_t n, uint32_t max, bool addressed)
{
	char *own = malloc(n ? n : 1);
	int rc;

	memcpy(own, line, n);
	memset(&f, 0x55, sizeof(f));
	rc = frame_parse(&f, n ? own : NULL, n, max, addressed);
	if (rc == 1)
		CHECK(f.from >= own && f.from + f.from_len <= own + n);
	if (rc != 1)
		for (size_t i = 0; i < sizeof(f); i++)
			CHECK(((char *)&f)[i] == 0x55);
	free(own);
	return rc;
}

/* 0 up to the byte that decides, that verdict from there on. */
static void
decides(int verdict, size_t at, uint32_t max, bool addressed)
{
	for (size_t n = 0; n <= len; n++) {
		int rc = parse(n, max, addressed);

		if (rc != (n < at ? 0 : verdict))
			printf("# after %zu of %zu bytes, verdict due at %zu:\n", n, len, at);
		CHECK_INT(rc, n < at ? 0 : verdict);
	}
}

static const char *
why(int fault, uint32_t max, bool addressed)
{
	static char said[200];
	struct text t = { 0 };

	frame_fault_text(&t, fault, line, len, max, addressed);
	snprintf(said, sizeof(said), "%s", t.at);
	text_free(&t);
	return said;
}

/* ---- reading ---- */

CASE(a_frame_is_what_its_bytes_say)
{
	static const char bytes[] = "\x15\0\0\0" /* 21 = 16 + 2 + 3 */
				    "\1\0\0\0\0\0\0\0"
				    "\2\0\0\0\0\0\0\0"
				    "n0"
				    "abc";

	CHECK_INT(frame_parse(&f, bytes, sizeof(bytes) - 1, 21, false), 1);
	CHECK(f.to == NULL && f.to_len == 0 && f.at == 0);
	CHECK_INT(f.size, 21);
	CHECK_INT(f.type, FRAME_CONSENSUS);
	CHECK(f.from == bytes + 20 && f.from_len == 2);
	CHECK_INT(f.head, 22);
	CHECK_INT(f.payload, 3);
	CHECK_INT(frame_parse(&f, bytes, 22, 21, false), 1);
	CHECK_INT(frame_parse(&f, bytes, 21, 21, false), 0);
}

CASE(an_addressed_frame_says_whom_it_is_for)
{
	static const char bytes[] = "\3\0\0\0\0\0\0\0"
				    "n11"
				    "\x12\0\0\0"
				    "\x88\x77\x66\x55\x44\x33\x22\x11"
				    "\0\0\0\0\0\0\0\0"
				    "xy";

	CHECK_INT(frame_parse(&f, bytes, sizeof(bytes) - 1, 18, true), 1);
	CHECK(f.to == bytes + 8 && f.to_len == 3 && f.at == 11);
	CHECK(f.type == 0x1122334455667788);
	CHECK_INT(f.size, 18);
	CHECK_INT(f.from_len, 0);
	CHECK_INT(f.head, 11 + 20);
	CHECK_INT(f.payload, 2);
}

CASE(a_head_is_whole_at_its_last_byte)
{
	make(16 + 64 + 1000, 2, 64);
	decides(1, 20 + 64, 2000, false);
	CHECK_INT(f.payload, 1000);
	make(16 + FRAME_ID_MAX, 2, FRAME_ID_MAX);
	decides(1, 20 + FRAME_ID_MAX, UINT32_MAX, false);
	CHECK_INT(f.payload, 0);
	make_addressed(FRAME_ID_MAX, 16 + FRAME_ID_MAX, FRAME_ID_MAX);
	CHECK_INT(len, FRAME_HEAD_MAX);
	decides(1, FRAME_HEAD_MAX, UINT32_MAX, true);
	make_addressed(1, 16, 0);
	decides(1, 9 + 20, 16, true);
	CHECK_INT(f.head, 29);
}

CASE(the_largest_frame_is_read)
{
	make(UINT32_MAX, UINT64_MAX, 1);
	decides(1, 21, UINT32_MAX, false);
	CHECK(f.size == UINT32_MAX && f.type == UINT64_MAX);
	CHECK_INT(f.payload, UINT32_MAX - 17LL);
}

CASE(a_size_is_refused_by_its_prefix)
{
	make(1024, 1, 4);
	decides(1, 24, 1024, false);
	decides(-FRAME_TOO_LARGE, 4, 1023, false);
	CHECK_STR(why(-FRAME_TOO_LARGE, 1023, false), "a frame of 1024 bytes, --max-frame is 1023");
	make(UINT32_MAX, 1, 4);
	decides(-FRAME_TOO_LARGE, 4, UINT32_MAX - 1, false);
	decides(-FRAME_TOO_LARGE, 4, 0, false);
	make(16, 1, 1);
	decides(-FRAME_ID_OVERRUNS, 20, 16, false);
	for (uint32_t n = 0; n < 16; n++) {
		make(n, 1, 1);
		decides(-FRAME_TOO_SMALL, 4, 1024, false);
	}
	CHECK_STR(
	    why(-FRAME_TOO_SMALL, 1024, false), "a frame of 15 bytes, its headers alone are 16");
}

CASE(a_sender_is_measured_by_its_own_frame)
{
	make(16 + 4, 1, 4);
	decides(1, 24, 1024, false);
	make(16 + 4, 1, 5); /* the fifth byte lies in the buffer, and in the next frame */
	decides(-FRAME_ID_OVERRUNS, 20, 1024, false);
	CHECK_STR(why(-FRAME_ID_OVERRUNS, 1024, false),
	    "a sender of 5 bytes in a frame that has room for 4");
	make(16 + 4, 1, UINT64_MAX);
	decides(-FRAME_ID_OVERRUNS, 20, 1024, false);
	CHECK_STR(why(-FRAME_ID_OVERRUNS, 1024, false),
	    "a sender of 18446744073709551615 bytes in a frame that has room for 4");
	make(UINT32_MAX, 1, UINT64_MAX - 15);
	decides(-FRAME_ID_OVERRUNS, 20, UINT32_MAX, false);
}

CASE(a_sender_has_a_byte_and_a_limit)
{
	make(16, 1, 0);
	decides(-FRAME_ID_EMPTY, 20, 1024, false);
	make(16 + 8, 1, 0);
	decides(-FRAME_ID_EMPTY, 20, 1024, false);
	CHECK_STR(why(-FRAME_ID_EMPTY, 1024, false), "a frame without a sender");
	make(16 + 2 * FRAME_ID_MAX, 1, FRAME_ID_MAX);
	decides(1, 20 + FRAME_ID_MAX, 4096, false);
	make(16 + 2 * FRAME_ID_MAX, 1, FRAME_ID_MAX + 1);
	decides(-FRAME_ID_TOO_LONG, 20, 4096, false);
	CHECK_STR(why(-FRAME_ID_TOO_LONG, 4096, false), "a sender of 1025 bytes, 1024 is the most");
}

CASE(a_destination_has_a_byte_and_a_limit)
{
	make_addressed(0, 20, 4);
	decides(-FRAME_DEST_EMPTY, 8, 1024, true);
	CHECK_STR(why(-FRAME_DEST_EMPTY, 1024, true), "a frame without a destination");
	make_addressed(FRAME_ID_MAX + 1, 20, 4);
	decides(-FRAME_DEST_TOO_LONG, 8, 1024, true);
	CHECK_STR(
	    why(-FRAME_DEST_TOO_LONG, 1024, true), "a destination of 1025 bytes, 1024 is the most");
	make_addressed(UINT64_MAX, 20, 4);
	decides(-FRAME_DEST_TOO_LONG, 8, 1024, true);
	CHECK_STR(why(-FRAME_DEST_TOO_LONG, 1024, true),
	    "a destination of 18446744073709551615 bytes, 1024 is the most");
}

CASE(the_faults_of_an_addressed_frame_are_found_behind_its_destination)
{
	make_addressed(7, 1025, 4);
	decides(-FRAME_TOO_LARGE, 15 + 4, 1024, true);
	CHECK_STR(why(-FRAME_TOO_LARGE, 1024, true), "a frame of 1025 bytes, --max-frame is 1024");
	make_addressed(7, 15, 4);
	decides(-FRAME_TOO_SMALL, 15 + 4, 1024, true);
	CHECK_STR(
	    why(-FRAME_TOO_SMALL, 1024, true), "a frame of 15 bytes, its headers alone are 16");
	make_addressed(7, 20, 5);
	decides(-FRAME_ID_OVERRUNS, 15 + 20, 1024, true);
	CHECK_STR(why(-FRAME_ID_OVERRUNS, 1024, true),
	    "a sender of 5 bytes in a frame that has room for 4");
	make_addressed(7, 5000, FRAME_ID_MAX + 1);
	decides(-FRAME_ID_TOO_LONG, 15 + 20, 8192, true);
	CHECK_STR(why(-FRAME_ID_TOO_LONG, 8192, true), "a sender of 1025 bytes, 1024 is the most");
}

CASE(a_fault_is_told_from_the_bytes_that_showed_it)
{
	make(70000000, 1, 4);
	len = 4;
	CHECK_STR(why(-FRAME_TOO_LARGE, 67108864, false),
	    "a frame of 70000000 bytes, --max-frame is 67108864");
	len = 0; /* and from fewer without a look beyond them */
	CHECK_STR(why(-FRAME_TOO_LARGE, 5, true), "a frame of 0 bytes, --max-frame is 5");
	CHECK_STR(why(-FRAME_DEST_TOO_LONG, 5, true), "a destination of 0 bytes, 1024 is the most");
	CHECK_STR(why(-99, 5, true), "a malformed frame");
}

/* ---- writing ---- */

CASE(what_is_written_are_these_bytes)
{
	static const char head[] = "\x15\0\0\0\2\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0n0";
	static const char dest[] = "\3\0\0\0\0\0\0\0n11";
	char out[FRAME_HEAD_MAX];

	CHECK_INT(frame_write_head(out, FRAME_FORWARDED, "n0", 2, 3), sizeof(head) - 1);
	CHECK(memcmp(out, head, sizeof(head) - 1) == 0);
	CHECK_INT(frame_write_dest(out, "n11", 3), sizeof(dest) - 1);
	CHECK(memcmp(out, dest, sizeof(dest) - 1) == 0);
}

CASE(what_is_written_reads_back)
{
	size_t dest;

	memset(line, 0, sizeof(line));
	memset(line + FRAME_HEAD_MAX, 'i', FRAME_ID_MAX);
	dest = frame_write_dest(line, line + FRAME_HEAD_MAX, FRAME_ID_MAX);
	len = dest + frame_write_head(line + dest, UINT64_MAX, line + FRAME_HEAD_MAX, FRAME_ID_MAX,
			 UINT32_MAX - 16 - FRAME_ID_MAX);
	CHECK_INT(len, FRAME_HEAD_MAX);
	decides(1, len, UINT32_MAX, true);
	CHECK(f.size == UINT32_MAX && f.type == UINT64_MAX);
	CHECK(f.payload == UINT32_MAX - 16 - FRAME_ID_MAX);
	CHECK(f.from_len == FRAME_ID_MAX && f.to_len == FRAME_ID_MAX);
}

CASE(what_does_not_fit_is_not_written)
{
	static char id[FRAME_ID_MAX + 1];
	char out[FRAME_HEAD_MAX] = "untouched";

	CHECK_INT(frame_write_head(out, 1, id, 0, 0), 0);
	CHECK_INT(frame_write_head(out, 1, id, FRAME_ID_MAX + 1, 0), 0);
	CHECK_INT(frame_write_head(out, 1, id, 1, UINT32_MAX - 16), 0);
	CHECK_INT(frame_write_head(out, 1, id, 1, UINT64_MAX), 0);
	CHECK_INT(frame_write_head(out, 1, id, FRAME_ID_MAX, UINT64_MAX - 16), 0);
	CHECK_INT(frame_write_dest(out, id, 0), 0);
	CHECK_INT(frame_write_dest(out, id, FRAME_ID_MAX + 1), 0);
	CHECK_STR(out, "untouched");
	CHECK_INT(frame_write_head(out, 1, "n", 1, UINT32_MAX - 17), 21);
	CHECK(memcmp(out, "\xff\xff\xff\xff", 4) == 0);
}

/* ---- words ---- */

static uint64_t
type_of(const char *word)
{
	uint64_t type = 4711;
	int rc = frame_type_parse(word, strlen(word), &type);

	CHECK(rc == 0 || (rc == -EINVAL && type == 4711));
	return type;
}

CASE(a_type_is_a_name_or_a_number)
{
	CHECK_INT(type_of("channel"), 0);
	CHECK_INT(type_of("channel_msg"), 0);
	CHECK_INT(type_of("consensus"), 1);
	CHECK_INT(type_of("consensus_msg"), 1);
	CHECK_INT(type_of("forwarded"), 2);
	CHECK_INT(type_of("forwarded_msg"), 2);
	CHECK_INT(type_of("ping"), FRAME_PING);
	CHECK_INT(type_of("0"), 0);
	CHECK_INT(type_of("100"), 100);
	CHECK_INT(type_of("0x10"), 16);
	CHECK_INT(type_of("0xaF"), 175);
	CHECK(type_of("18446744073709551615") == UINT64_MAX);
	CHECK(type_of("0xffffffffffffffff") == UINT64_MAX);
	CHECK_STR(frame_type_name(0), "channel");
	CHECK_STR(frame_type_name(1), "consensus");
	CHECK_STR(frame_type_name(2), "forwarded");
	CHECK_STR(frame_type_name(FRAME_PING), "ping");
	CHECK(!frame_type_name(3) && !frame_type_name(UINT64_MAX));
}

CASE(anything_else_is_no_type)
{
	static const char *const bad[] = { "", "x", "channe", "channels", "Channel", "-1", "+1",
		" 1", "1 ", "1a", "0x", "0xg", "0X10", "x10", "18446744073709551616",
		"99999999999999999999", "0x10000000000000000", NULL };

	for (const char *const *b = bad; *b; b++) {
		uint64_t type = 4711;

		CHECK_INT(frame_type_parse(*b, strlen(*b), &type), -EINVAL);
		CHECK_INT(type, 4711);
	}
	CHECK_INT(frame_type_parse("12", 1, &(uint64_t){ 0 }), 0);
}

static const char *
id_text(const char *id, size_t n)
{
	static char said[3 * FRAME_ID_MAX + 1];
	struct text t = { 0 };

	frame_id_text(&t, id, n);
	snprintf(said, sizeof(said), "%s", t.at ? t.at : "");
	text_free(&t);
	return said;
}

CASE(an_id_is_a_word)
{
	char back[FRAME_ID_MAX];

	CHECK_STR(id_text("", 0), "");
	CHECK_STR(id_text("n0", 2), "n0");
	CHECK_STR(id_text("a b=\"%\n\0\x7f\xff~!", 12), "a%20b%3D%22%25%0A%00%7F%FF~!");
	for (unsigned c = 0; c < 256; c++) {
		char id[3] = { 'x', (char)c, 'y' };
		const char *text = id_text(id, 3);
		bool plain = c > 0x20 && c < 0x7f && !strchr("%=\"", (int)c);

		CHECK_INT(strlen(text), plain ? 3 : 5);
		CHECK_INT(frame_id_parse(back, text, strlen(text)), 3);
		CHECK(memcmp(back, id, 3) == 0);
	}
}

CASE(an_id_is_read_as_it_is_shown)
{
	static const char *const bad[] = { "", "a b", "a=b", "\"a\"", "%", "%4", "a%", "a%4", "%g0",
		"%0g", "\xc3\xa4", "a\tb", "\x7f", "%%41", NULL };
	char back[FRAME_ID_MAX] = "untouched", text[3 * FRAME_ID_MAX + 3];

	for (const char *const *b = bad; *b; b++)
		CHECK_INT(frame_id_parse(back, *b, strlen(*b)), -EINVAL);
	CHECK_INT(frame_id_parse(back, "a\0b", 3), -EINVAL);
	CHECK_INT(frame_id_parse(back, "a%41", 3), -EINVAL); /* the rest is not its own */
	memset(text, 'a', sizeof(text));
	CHECK_INT(frame_id_parse(back, text, FRAME_ID_MAX + 1), -EINVAL);
	CHECK_STR(back, "untouched");
	CHECK_INT(frame_id_parse(back, text, FRAME_ID_MAX), FRAME_ID_MAX);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = "%fF"[i % 3];
	CHECK_INT(frame_id_parse(back, text, 3 * FRAME_ID_MAX), FRAME_ID_MAX);
	CHECK(back[0] == '\xff' && back[FRAME_ID_MAX - 1] == '\xff');
	CHECK_INT(frame_id_parse(back, text, 3 * FRAME_ID_MAX + 3), -EINVAL);
}

int
main(void)
{
	return check_main((struct check_case[]){ RUN(a_frame_is_what_its_bytes_say),
	    RUN(an_addressed_frame_says_whom_it_is_for), RUN(a_head_is_whole_at_its_last_byte),
	    RUN(the_largest_frame_is_read), RUN(a_size_is_refused_by_its_prefix),
	    RUN(a_sender_is_measured_by_its_own_frame), RUN(a_sender_has_a_byte_and_a_limit),
	    RUN(a_destination_has_a_byte_and_a_limit),
	    RUN(the_faults_of_an_addressed_frame_are_found_behind_its_destination),
	    RUN(a_fault_is_told_from_the_bytes_that_showed_it),
	    RUN(what_is_written_are_these_bytes), RUN(what_is_written_reads_back),
	    RUN(what_does_not_fit_is_not_written), RUN(a_type_is_a_name_or_a_number),
	    RUN(anything_else_is_no_type), RUN(an_id_is_a_word), RUN(an_id_is_read_as_it_is_shown),
	    { 0 } });
}
