#include <stdlib.h>

#include "base/text.h"
#include "check.h"

static struct text t;

static const char *
json(const char *s, size_t len)
{
	text_free(&t);
	text_json(&t, s, len);
	return t.at;
}

CASE(it_grows_and_stays_a_string)
{
	char long_one[5000];

	text_free(&t);
	CHECK(!t.at && !t.len && !t.failed);
	memset(long_one, 'x', sizeof(long_one) - 1);
	long_one[sizeof(long_one) - 1] = '\0';
	text_add(&t, "%d %s", 7, "%s 100%");
	CHECK_STR(t.at, "7 %s 100%");
	text_add(&t, "|%s|", long_one);
	text_bytes(&t, "\0b", 2);
	CHECK_INT(t.len, 9 + 2 + 4999 + 2);
	CHECK(memcmp(t.at + t.len - 3, "|\0b", 4) == 0);
	for (size_t n = 1; n < 600; n++) { /* each length at which it has to grow */
		text_free(&t);
		text_add(&t, "%.*s", (int)n, long_one);
		CHECK(t.len == n && strlen(t.at) == n);
	}
}

CASE(what_does_not_fit_is_remembered)
{
	text_free(&t);
	text_add(&t, "a");
	text_bytes(&t, "", (size_t)-1 / 2); /* not read: there is no room */
	CHECK(t.failed);
	CHECK_STR(t.at, "a");
	text_add(&t, "b");
	CHECK_STR(t.at, "a");
	text_free(&t);
	CHECK(!t.failed);
}

CASE(json_strings_are_escaped)
{
	CHECK_STR(json("", 0), "\"\"");
	CHECK_STR(json("a\"b\\c", 5), "\"a\\\"b\\\\c\"");
	CHECK_STR(json("\n\t\0\x1f\x7f", 5), "\"\\n\\t\\u0000\\u001f\\u007f\"");
	CHECK_STR(json("\xc3\xbc\xf0\x9f\x98\x80", 6), "\"\xc3\xbc\xf0\x9f\x98\x80\"");
	CHECK_STR(json("\xff", 1), "\"\\\\377\"");
	CHECK_STR(json("\xc3\xbc", 1), "\"\\\\303\""); /* the rest of it lies beyond len */
	CHECK_STR(json("\xc2\x85", 2), "\"\\u0085\"");
}

CASE(a_hex_digit_has_a_value)
{
	for (int c = 0; c < 256; c++) {
		static const char digits[] = "0123456789abcdef0123456789ABCDEF";
		const char *at = c ? strchr(digits, c) : NULL;

		CHECK_INT(text_hex((char)c), at ? (at - digits) % 16 : -1);
	}
}

int
main(void)
{
	int r = check_main((struct check_case[]){
	    RUN(it_grows_and_stays_a_string),
	    RUN(what_does_not_fit_is_remembered),
	    RUN(json_strings_are_escaped),
	    RUN(a_hex_digit_has_a_value),
	    { 0 },
	});

	text_free(&t);
	return r;
}
