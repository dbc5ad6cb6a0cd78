/* (who runs this makes no difference) */
#include "wire/decode.h"

#include <stdlib.h>

#include "base/text.h"
#include "check.h"

static char stream[8192]; /* made by hand: nothing of the codec's is used */
static size_t len;
static struct text told; /* a line for each item */
static bool as_json;
static uint64_t bytes_told; /* of the stream, by all items */

static void
put(uint64_t n, unsigned bytes)
{
	for (; bytes; bytes--, n >>= 8)
		stream[len++] = (char)(n & 0xff);
}

static void
put_text(const char *s, size_t n)
{
	memcpy(stream + len, s, n);
	len += n;
}

static void
put_times(char c, size_t n)
{
	memset(stream + len, c, n);
	len += n;
}

/* The head of a frame of n0's. */
static void
head(uint64_t type, uint64_t payload)
{
	put(16 + 2 + payload, 4);
	put(type, 8);
	put(2, 8);
	put_text("n0", 2);
}

/* Tag and iv. */
static void
gcm(unsigned char iv0, uint64_t nonce)
{
	put_times('\xab', 16);
	put(iv0, 1);
	put(nonce, 7);
}

static uint64_t
size_of(const struct decode_item *item)
{
	return item->what == DECODE_UNFRAMED ? item->passed : item->frame.head + item->passed;
}

static void
note(void *arg, const struct decode_item *item)
{
	static const char *const words[] = { "frame", "cut", "unframed" };

	(void)arg;
	CHECK_INT(item->offset, bytes_told);
	CHECK(item->have <= item->passed);
	bytes_told += size_of(item);
	text_add(&told, "%s%s ", told.len ? "\n" : "", words[item->what]);
	if (as_json)
		decode_json(&told, item);
	else
		decode_text(&told, item);
}

/* What is told about the stream, fed in pieces of that size. */
static const char *
decoded_by(size_t step, uint32_t max)
{
	struct decode d = { .max = max, .item = note };

	text_free(&told);
	bytes_told = 0;
	for (size_t at = 0, n; at < len; at += n) {
		char *own;

		n = step < len - at ? step : len - at;
		own = malloc(n);
		memcpy(own, stream + at, n);
		decode_feed(&d, own, n);
		free(own);
	}
	decode_end(&d);
	decode_end(&d);
	CHECK_INT(bytes_told, len);
	return told.at ? told.at : "";
}

/* The same whole and byte by byte; the stream is used up. */
static const char *
decoded(void)
{
	char *whole = strdup(decoded_by(len, UINT32_MAX));

	CHECK_STR(decoded_by(1, UINT32_MAX), whole);
	free(whole);
	len = 0;
	return told.at ? told.at : "";
}

static const char *
json(void)
{
	const char *said;

	as_json = true;
	said = decoded();
	as_json = false;
	return said;
}

#define X8  "7878787878787878"
#define TAG "abababababababababababababababab"

/* ---- the stream ---- */

CASE(frames_follow_one_another)
{
	head(1, 3);
	put_text("abc", 3);
	head(0, 0);
	head(FRAME_PING, 8);
	put(7, 8);
	head(100, 1);
	put(0, 1);
	CHECK_STR(decoded(), "frame consensus n0 3 hex:616263\n"
			     "frame channel n0 0\n"
			     "frame ping n0 8 hex:0700000000000000\n"
			     "frame 100 n0 1 hex:00");
	CHECK_STR(decoded(), "");
}

CASE(a_long_payload_passes_by)
{
	struct decode d = { .max = UINT32_MAX, .item = note };
	static char block[1 << 20];

	text_free(&told);
	bytes_told = 0;
	head(100, UINT32_MAX - 18);
	memset(block, 'x', sizeof(block));
	decode_feed(&d, stream, len);
	len = 0;
	for (unsigned i = 0; i < 4095; i++)
		decode_feed(&d, block, sizeof(block));
	CHECK(!told.at);
	decode_feed(&d, block, sizeof(block) - 19);
	CHECK_STR(told.at, "frame 100 n0 4294967277 "
			   "hex:" X8 X8 X8 X8 X8 X8 X8 X8 " +4294967213");
	decode_end(&d);
	CHECK(told.at && !strchr(told.at, '\n'));
}

CASE(a_stream_that_ends_within_a_frame_says_where)
{
	head(1, 3);
	put_text("abc", 3);
	for (size_t whole = len, n = 1; n < whole; n++) {
		char want[80], hex[80] = "";

		for (size_t i = n < 22 ? 0 : 22; i < n; i++)
			sprintf(hex + strlen(hex), "%02x", (unsigned char)stream[i]);
		if (n < 4)
			snprintf(want, sizeof(want), "cut got=%zu hex:%s", n, hex);
		else if (n < 22)
			snprintf(want, sizeof(want), "cut got=%zu of=25 hex:%s", n, hex);
		else
			snprintf(want, sizeof(want), "cut consensus n0 3 got=%zu%s%s", n - 22,
			    n > 22 ? " hex:" : "", hex);
		len = n;
		CHECK_STR(decoded_by(n, 100), want);
		CHECK_STR(decoded_by(1, 100), want);
	}
	len = 2;
	CHECK_STR(json(), "cut \"got\":2,\"hex\":\"1500\",\"more\":0");
	len = 6;
	CHECK_STR(json(), "cut \"got\":6,\"of\":25,\"hex\":\"150000000100\",\"more\":0");
	len = 24;
	CHECK_STR(json(), "cut \"type\":\"consensus\",\"from\":\"n0\",\"size\":3,\"got\":2,"
			  "\"hex\":\"6162\",\"more\":0");
}

CASE(what_has_no_frames_is_shown_from_there_on)
{
	head(1, 0);
	put_text("GET / HTTP/1.1\r\n", 16);
	put_times('x', 64);
	CHECK_STR(decoded_by(len, 1024),
	    "frame consensus n0 0\n"
	    "unframed got=80 hex:474554202f20485454502f312e310d0a" X8 X8 X8 X8 X8 X8
	    " +16: a frame of 542393671 bytes, --max-frame is 1024");
	CHECK_STR(decoded_by(32, 1024),
	    "frame consensus n0 0\n"
	    "unframed got=10 hex:474554202f2048545450: a frame of 542393671 bytes, --max-frame is "
	    "1024\n"
	    "unframed got=70 hex:2f312e310d0a" X8 X8 X8 X8 X8 X8 X8 "7878 +6");
	as_json = true;
	decoded_by(32, 1024);
	as_json = false;
	CHECK(strstr(told.at, "\nunframed \"got\":10,\"hex\":\"474554202f2048545450\",\"more\":0,"
			      "\"why\":\"a frame of 542393671 bytes, --max-frame is 1024\"\n"
			      "unframed \"got\":70,\"hex\":"));
	len = 0;
}

/* One after the other, each a stream of its own: the first byte that shows the fault ends it. */
CASE(every_fault_is_told_once)
{
	static const struct {
		uint32_t size;
		uint64_t id;
		const char *why;
	} faults[] = {
		{ 1025, 1, "a frame of 1025 bytes, --max-frame is 1024" },
		{ 4, 0, "a frame of 4 bytes, its headers alone are 16" },
		{ 20, 5, "a sender of 5 bytes in a frame that has room for 4" },
		{ 20, 0, "a frame without a sender" },
		{ UINT32_MAX, UINT64_MAX, "a frame of 4294967295 bytes, --max-frame is 1024" },
	};

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		const char *line, *end;

		put(faults[i].size, 4);
		put(1, 8);
		put(faults[i].id, 8);
		put_times('x', 100);
		decoded_by(1, 1024);
		end = strchr(told.at, '\n');
		line = end ? strstr(told.at, ": ") : NULL;
		CHECK(line && line < end && !strstr(end, ": "));
		CHECK(line && !strncmp(line + 2, faults[i].why, strlen(faults[i].why)));
		len = 0;
	}
}

CASE(a_sender_is_one_word)
{
	put(16 + 5, 4);
	put(3, 8);
	put(5, 8);
	put_text("a \"\\\n", 5);
	CHECK_STR(decoded(), "frame 3 a%20%22\\%0A 0");
	put(16 + 2, 4);
	put(UINT64_MAX, 8);
	put(2, 8);
	put_text("\\\xff", 2);
	CHECK_STR(json(), "frame \"type\":\"18446744073709551615\",\"from\":\"\\\\%FF\",\"size\":0,"
			  "\"hex\":\"\",\"more\":0");
}

/* ---- consensus ---- */

static void
append(uint64_t entries)
{
	head(1, 57 + 24 + entries);
	for (uint64_t n = 0, v = 10; n < 7; n++, v++)
		put(n ? v : 0, 8); /* type, then idx 11 and so on */
	put(1, 1);
	gcm(0, 99);
}

#define APPEND                                                                                     \
	"append_entries idx=11 prev_idx=12 term=13 prev_term=14 leader_commit_idx=15 "             \
	"term_of_idx=16 contains_new_view=1 tag=" TAG " nonce=99"

static void
entry(unsigned version, uint64_t size, uint64_t there)
{
	put(version, 1);
	put(2, 1);
	put(size, 6);
	put_times('e', (size_t)there);
}

CASE(append_entries_has_its_fields_by_name)
{
	append(0);
	CHECK_STR(decoded(), "frame consensus n0 81 " APPEND " entries=0");
	append(0);
	CHECK_STR(json(),
	    "frame \"type\":\"consensus\",\"from\":\"n0\",\"size\":81,\"message\":"
	    "\"append_entries\",\"fields\":{\"idx\":11,\"prev_idx\":12,\"term\":13,\"prev_term\":"
	    "14,"
	    "\"leader_commit_idx\":15,\"term_of_idx\":16,\"contains_new_view\":1,\"tag\":\"" TAG
	    "\",\"nonce\":99,\"entries\":0},\"hex\":\"\",\"more\":0");
}

CASE(entries_are_counted_and_measured)
{
	append(8 + 3 + 8 + 0 + 8 + 1);
	entry(1, 3, 3);
	entry(1, 0, 0);
	entry(1, 1, 1);
	CHECK_STR(decoded(), "frame consensus n0 109 " APPEND " entries=3 sizes=3,0,1 "
			     "hex:010203000000000065656501020000000000000102010000000000"
			     "65");
	append(8 + 3);
	entry(1, 3, 3);
	CHECK(strstr(json(), ",\"nonce\":99,\"entries\":1,\"sizes\":[3]},\"hex\":"
			     "\"0102030000000000656565\",\"more\":0"));
}

CASE(entries_beyond_what_is_kept_are_said_to_be_there)
{
	append(8 + 1000 + 8 + 5);
	entry(1, 1000, 1000);
	entry(1, 5, 5);
	CHECK(strstr(decoded(), " entries=1 sizes=1000 unseen=13 hex:01"));
	CHECK(strstr(told.at, " +957"));
	append(8 + 1000);
	entry(1, 1000, 1000);
	CHECK(strstr(decoded(), " entries=1 sizes=1000 hex:01"));
	/* A header of which the last byte is not kept. */
	append(8 + DECODE_SHOWN - 81 - 8 - 7 + 8 + 5);
	entry(1, DECODE_SHOWN - 81 - 8 - 7, DECODE_SHOWN - 81 - 8 - 7);
	entry(1, 5, 5);
	CHECK(strstr(decoded(), " entries=1 sizes=416 unseen=6 hex:01"));
	append(8 + DECODE_SHOWN - 81 - 8 - 8 + 8 + 5);
	entry(1, DECODE_SHOWN - 81 - 8 - 8, DECODE_SHOWN - 81 - 8 - 8);
	entry(1, 5, 5);
	CHECK(strstr(decoded(), " entries=2 sizes=415,5 hex:01"));
}

CASE(what_is_no_entry_trails)
{
	append(8 + 2 + 8 + 1);
	entry(1, 2, 2);
	entry(2, 1, 1);
	CHECK(strstr(decoded(), " entries=1 sizes=2 trailing=9 hex:01"));
	append(8 + 2);
	entry(1, 3, 2);
	CHECK(strstr(decoded(), " entries=0 trailing=10 hex:01"));
	append(8);
	entry(1, 0xffffffffffff, 0);
	CHECK(strstr(decoded(), " entries=0 trailing=8 hex:01"));
	append(8 + 7);
	entry(1, 0, 7);
	CHECK(strstr(decoded(), " entries=1 sizes=0 trailing=7 hex:01"));
}

CASE(a_payload_that_is_too_short_shows_what_it_has)
{
	static const char *const names[] = { "idx", "prev_idx", "term", "prev_term",
		"leader_commit_idx", "term_of_idx" };

	for (size_t n = 0; n < 81; n++) {
		char key[40];

		append(0);
		memcpy(stream, &(uint32_t){ (uint32_t)(18 + n) }, 4);
		len = 22 + n;
		decoded();
		CHECK((n >= 8) == !!strstr(told.at, "append_entries"));
		for (size_t i = 0; i < 6; i++) {
			snprintf(key, sizeof(key), " %s=%zu", names[i], 11 + i);
			CHECK((n >= 16 + 8 * i) == !!strstr(told.at, key));
		}
		CHECK((n >= 57) == !!strstr(told.at, " contains_new_view=1"));
		CHECK(!strstr(told.at, " tag=") && !strstr(told.at, " entries="));
		snprintf(key, sizeof(key), " short=%zu",
		    n < 56   ? 8 - n % 8
		    : n < 57 ? 1
			     : 24 - (n - 57));
		CHECK((n >= 8) == !!strstr(told.at, key));
		CHECK((n < 8 ? n > 0 : n < 56 ? n % 8 > 0 : n > 57) == !!strstr(told.at, " hex:"));
	}
}

CASE(the_other_consensus_messages_have_their_fields_by_name)
{
	head(1, 25 + 24);
	put(1, 8);
	put(3, 8);
	put(70, 8);
	put(0, 1);
	gcm(0, 5);
	CHECK_STR(decoded(), "frame consensus n0 49 append_entries_response term=3 last_log_idx=70 "
			     "success=OK tag=" TAG " nonce=5");
	for (unsigned verdict = 0; verdict < 3; verdict++) {
		static const char *const words[] = { "\"OK\"", "\"FAIL\"", "2" };
		char want[60];

		head(1, 25 + 24);
		put(1, 8);
		put(3, 8);
		put(70, 8);
		put(verdict, 1);
		gcm(0, 5);
		snprintf(want, sizeof(want), ",\"success\":%s,\"tag\":", words[verdict]);
		CHECK(strstr(json(), want));
	}
	head(1, 10);
	put(2, 8);
	put(0x102, 2);
	CHECK_STR(decoded(), "frame consensus n0 10 append_entries_signed_response hex:0201");
	head(1, 24 + 3);
	put(5, 8);
	put(UINT64_MAX, 8);
	put_text("abcdefghijk", 11);
	CHECK_STR(decoded(), "frame consensus n0 27 propose_request_vote "
			     "term=18446744073709551615 short=13 hex:6162636465666768696a6b");
	head(1, 9);
	put(8, 8);
	put(1, 1);
	CHECK_STR(decoded(), "frame consensus n0 9 hex:080000000000000001");
}

CASE(votes_are_told_apart)
{
	static const struct {
		unsigned message;
		const char *name;
	} votes[] = { { 3, "request_vote" }, { 6, "request_pre_vote" } };

	for (size_t i = 0; i < 2; i++) {
		char want[200];

		head(1, 32 + 24 + 2);
		put(votes[i].message, 8);
		put(4, 8);
		put(5, 8);
		put(6, 8);
		gcm(3, 0xffffffffffffff);
		put(0, 2);
		snprintf(want, sizeof(want),
		    "frame consensus n0 58 %s term=4 last_committable_idx=5 "
		    "term_of_last_committable_idx=6 tag=%s iv0=3 nonce=72057594037927935 hex:0000",
		    votes[i].name, TAG);
		CHECK_STR(decoded(), want);
		head(1, 17 + 24);
		put(votes[i].message + 1, 8);
		put(4, 8);
		put(1, 1);
		gcm(0, 1);
		snprintf(want, sizeof(want),
		    "frame consensus n0 41 %s_response term=4 granted=1 tag=%s nonce=1",
		    votes[i].name, TAG);
		CHECK_STR(decoded(), want);
	}
}

/* ---- channels ---- */

static void
buffer(uint64_t size, uint64_t there)
{
	put(size, 8);
	put_times('b', (size_t)there);
}

CASE(key_exchanges_are_measured)
{
	head(0, 16 + 8 + 3 + 8 + 2 + 8 + 4 + 8 + 32);
	put(0, 8);
	put(1, 8);
	buffer(3, 3);
	buffer(2, 2);
	buffer(4, 4);
	buffer(32, 32);
	CHECK(strstr(decoded(), "frame channel n0 89 key_exchange_init version=1 key_share=3 "
				"signature=2 cert=4 salt=32 hex:0300000000000000626262020000"));
	head(0, 16 + 8 + 1 + 8 + 2 + 8 + 3);
	put(1, 8);
	put(1, 8);
	buffer(1, 1);
	buffer(2, 2);
	buffer(3, 3);
	CHECK(strstr(json(), "\"message\":\"key_exchange_response\",\"fields\":{\"version\":1,"
			     "\"key_share\":1,\"signature\":2,\"cert\":3},\"hex\":\"01000000"));
	head(0, 8 + 8 + 5);
	put(2, 8);
	buffer(5, 5);
	CHECK_STR(decoded(), "frame channel n0 21 key_exchange_final signature=5 "
			     "hex:05000000000000006262626262");
	head(0, 8);
	put(3, 8);
	CHECK_STR(decoded(), "frame channel n0 8 hex:0300000000000000");
}

CASE(a_key_exchange_that_is_not_whole_says_so)
{
	head(0, 8 + 8 + 5 + 2); /* trailing */
	put(2, 8);
	buffer(5, 7);
	CHECK(strstr(decoded(), " signature=5 trailing=2 hex:"));
	head(0, 8 + 8 + 5); /* a buffer that overruns the payload */
	put(2, 8);
	buffer(7, 5);
	CHECK(strstr(decoded(), " key_exchange_final signature=7 short=2 hex:"));
	head(0, 8 + 8);
	put(2, 8);
	buffer(UINT64_MAX, 0);
	CHECK(strstr(decoded(), " signature=18446744073709551615 short=18446744073709551615 hex:"));
	head(0, 16 + 8 + 1 + 3); /* half a length */
	put(0, 8);
	put(1, 8);
	buffer(1, 4);
	CHECK(strstr(decoded(), " version=1 key_share=1 short=5 hex:"));
	head(0, 16 + 8); /* nothing behind an empty one */
	put(1, 8);
	put(1, 8);
	buffer(0, 0);
	CHECK(strstr(decoded(), " version=1 key_share=0 short=8 hex:"));
	head(0, 16 + 8 + 600 + 8 + 7); /* beyond what is kept */
	put(1, 8);
	put(1, 8);
	buffer(600, 600);
	buffer(7, 7);
	CHECK(strstr(decoded(), " version=1 key_share=600 unseen=15 hex:"));
}

/* ---- forwarded ---- */

CASE(forwarded_headers_have_their_fields_by_name)
{
	static const char *const want[] = {
		"frame forwarded n0 35 forwarded_cmd_v1 frame_format=1 tag=" TAG
		" nonce=8 hex:6363",
		"frame forwarded n0 35 forwarded_response_v1 frame_format=1 tag=" TAG
		" nonce=8 hex:6363",
		"frame forwarded n0 43 forwarded_cmd_v2 frame_format=1 command_id=77 tag=" TAG
		" nonce=8 hex:6363",
		"frame forwarded n0 43 forwarded_response_v2 frame_format=1 command_id=77 tag=" TAG
		" nonce=8 hex:6363",
		"frame forwarded n0 51 forwarded_cmd_v3 frame_format=1 command_id=77 active_view=2 "
		"tag=" TAG " nonce=8 hex:6363",
		"frame forwarded n0 44 forwarded_response_v3 frame_format=1 command_id=77 "
		"terminate_session=1 tag=" TAG " nonce=8 hex:6363",
	};
	static const unsigned sizes[] = { 9, 9, 17, 17, 25, 18 };

	for (unsigned i = 0; i < 6; i++) {
		head(2, sizes[i] + 24 + 2);
		put(i, 8);
		put(1, 1);
		if (i >= 2)
			put(77, 8);
		if (i == 4)
			put(2, 8);
		else if (i == 5)
			put(1, 1);
		gcm(0, 8);
		put_times('c', 2);
		CHECK_STR(decoded(), want[i]);
	}
	head(2, 12);
	put(6, 8);
	put(1, 4);
	CHECK_STR(decoded(), "frame forwarded n0 12 hex:060000000000000001000000");
}

CASE(a_cut_message_shows_the_fields_that_came)
{
	append(0);
	len -= 24 + 3;
	CHECK_STR(decoded(), "cut consensus n0 81 got=54 append_entries idx=11 prev_idx=12 term=13 "
			     "prev_term=14 leader_commit_idx=15 unseen=27 hex:100000000000");
}

int
main(void)
{
	return check_main((struct check_case[]){ RUN(frames_follow_one_another),
	    RUN(a_long_payload_passes_by), RUN(a_stream_that_ends_within_a_frame_says_where),
	    RUN(what_has_no_frames_is_shown_from_there_on), RUN(every_fault_is_told_once),
	    RUN(a_sender_is_one_word), RUN(append_entries_has_its_fields_by_name),
	    RUN(entries_are_counted_and_measured),
	    RUN(entries_beyond_what_is_kept_are_said_to_be_there), RUN(what_is_no_entry_trails),
	    RUN(a_payload_that_is_too_short_shows_what_it_has),
	    RUN(the_other_consensus_messages_have_their_fields_by_name), RUN(votes_are_told_apart),
	    RUN(key_exchanges_are_measured), RUN(a_key_exchange_that_is_not_whole_says_so),
	    RUN(forwarded_headers_have_their_fields_by_name),
	    RUN(a_cut_message_shows_the_fields_that_came), { 0 } });
}
