#include "wire/record.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"
#include "check.h"

static struct text t;
static struct record r;

static int
parse(const char *line)
{
	return record_parse(&r, line, strlen(line));
}

CASE(what_is_written_reads_back)
{
	const unsigned char bytes[] = { 0, 1, 0x7f, 0x80, 0xff };
	char back[5];
	int64_t n = 0;

	text_free(&t);
	record_begin(&t, "session");
	record_number(&t, "fd", 7);
	record_text(&t, "empty", "");
	record_text(&t, "odd", "a b=c%41\n\t\xc3\xa4");
	record_bytes(&t, "bytes", bytes, sizeof(bytes));
	record_bytes(&t, "none", NULL, 0);
	record_number(&t, "least", INT64_MIN);
	record_end(&t);
	CHECK(!t.failed);
	CHECK_STR(t.at, "session fd=7 empty= odd=a%20b=c%2541%0A%09%C3%A4 bytes=00017f80ff none= "
			"least=-9223372036854775808\n");
	CHECK_INT(record_parse(&r, t.at, t.len), t.len);
	CHECK_STR(r.word, "session");
	CHECK_INT(r.n, 6);
	CHECK_STR(record_get(&r, "empty"), "");
	CHECK_STR(record_get(&r, "odd"), "a b=c%41\n\t\xc3\xa4");
	CHECK_INT(record_get_bytes(&r, "bytes", back, 5), 5);
	CHECK(memcmp(back, bytes, 5) == 0);
	CHECK_INT(record_get_bytes(&r, "none", back, 0), 0);
	CHECK_INT(record_get_number(&r, "least", INT64_MIN, INT64_MAX, &n), 0);
	CHECK(n == INT64_MIN);
	CHECK(!record_get(&r, "session") && !record_get(&r, "f") && !record_get(&r, "fdx"));
}

CASE(the_first_line_of_several_is_read)
{
	static const char lines[] = "a x=1\nb\nrest";
	size_t len = sizeof(lines) - 1;

	CHECK_INT(record_parse(&r, lines, len), 6);
	CHECK_STR(r.word, "a");
	CHECK_INT(record_parse(&r, lines + 6, len - 6), 2);
	CHECK_STR(r.word, "b");
	CHECK_INT(r.n, 0);
	CHECK(!record_get(&r, "x"));
	CHECK_INT(record_parse(&r, lines + 8, len - 8), -EBADMSG);
	CHECK_INT(record_parse(&r, lines, 0), 0);
	CHECK_INT(record_parse(&r, NULL, 0), 0);
}

CASE(what_is_malformed_is_refused)
{
	static const char *const bad[] = { "\n", " \n", "a", "a b", " a\n", "a \n", "a  b=1\n",
		"a b\n", "a b=1 \n", "a =1\n", "a b=1 b=2\n", "A\n", "a B=1\n", "a b=%\n",
		"a b=%4\n", "a b=%4x\n", "a b=%00\n", "a b=\x01\n", "a b=\x80\n", "a b=\t\n",
		"a\tb=1\n", "a b=1\r\n", "=\n", "a=1\n" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (parse(bad[i]) != -EBADMSG) {
			printf("# taken: %s", bad[i]);
			CHECK(false);
		}
	CHECK_INT(record_parse(&r, "a b=\0\n", 6), -EBADMSG);
	CHECK_INT(parse("a b=%41%3d%2F c=b=%25\n"), 22);
	CHECK_STR(record_get(&r, "b"), "A=/");
	CHECK_STR(record_get(&r, "c"), "b=%");
}

CASE(a_line_has_its_bounds)
{
	char *line = malloc(RECORD_LINE_MAX + 1), back[8] = "before";

	memset(line, 'a', RECORD_LINE_MAX + 1);
	memcpy(line, "w v=", 4);
	line[RECORD_LINE_MAX - 1] = '\n';
	CHECK_INT(record_parse(&r, line, RECORD_LINE_MAX + 1), RECORD_LINE_MAX);
	CHECK_INT(strlen(record_get(&r, "v")), RECORD_LINE_MAX - 5);
	CHECK_INT(record_get_bytes(&r, "v", back, sizeof(back)), -EBADMSG);
	line[RECORD_LINE_MAX - 2] = ' ';
	memcpy(line + RECORD_LINE_MAX - 1, "a\n", 2);
	CHECK_INT(record_parse(&r, line, RECORD_LINE_MAX + 1), -EBADMSG);
	free(line);

	text_free(&t);
	record_begin(&t, "w");
	for (int i = 0; i < RECORD_FIELDS; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%d", i);
		record_number(&t, name, i);
	}
	text_add(&t, "\n");
	CHECK_INT(record_parse(&r, t.at, t.len), t.len);
	CHECK_INT(r.n, RECORD_FIELDS);
	t.len--;
	record_number(&t, "more", 1);
	record_end(&t);
	CHECK_INT(record_parse(&r, t.at, t.len), -EBADMSG);
}

static int
number(const char *value, int64_t min, int64_t max, int64_t *ret)
{
	text_free(&t);
	record_begin(&t, "w");
	record_text(&t, "n", value);
	record_end(&t);
	CHECK_INT(record_parse(&r, t.at, t.len), t.len);
	return record_get_number(&r, "n", min, max, ret);
}

CASE(numbers_are_exact)
{
	static const char *const bad[] = { "", "-", "+1", " 1", "1 ", "0x1", "1e3", "--1", "1.0" };
	int64_t n = 42;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_INT(number(bad[i], INT64_MIN, INT64_MAX, &n), -EBADMSG);
	CHECK_INT(number("9223372036854775808", INT64_MIN, INT64_MAX, &n), -ERANGE);
	CHECK_INT(number("-9223372036854775809", INT64_MIN, INT64_MAX, &n), -ERANGE);
	CHECK_INT(number("6", 7, 8, &n), -ERANGE);
	CHECK_INT(number("9", 7, 8, &n), -ERANGE);
	CHECK_INT(record_get_number(&r, "m", 0, 1, &n), -ENOENT);
	CHECK_INT(n, 42);
	CHECK_INT(number("8", 7, 8, &n), 0);
	CHECK_INT(n, 8);
	CHECK_INT(number("-7", -7, 8, &n), 0);
	CHECK_INT(n, -7);
}

CASE(bytes_are_exact)
{
	char to[4] = "....";

	CHECK_INT(parse("w a=0102 odd=012 none=0g long=0102030405 up=AbCd\n"), 49);
	CHECK_INT(record_get_bytes(&r, "odd", to, 4), -EBADMSG);
	CHECK_INT(record_get_bytes(&r, "none", to, 4), -EBADMSG);
	CHECK_INT(record_get_bytes(&r, "long", to, 4), -ENOSPC);
	CHECK_INT(record_get_bytes(&r, "b", to, 4), -ENOENT);
	CHECK(memcmp(to, "....", 4) == 0);
	CHECK_INT(record_get_bytes(&r, "a", to, 2), 2);
	CHECK(memcmp(to, "\1\2..", 4) == 0);
	CHECK_INT(record_get_bytes(&r, "up", to, 4), 2);
	CHECK(memcmp(to, "\xab\xcd..", 4) == 0);
}

int
main(void)
{
	int bad = check_main((struct check_case[]){ RUN(what_is_written_reads_back),
	    RUN(the_first_line_of_several_is_read), RUN(what_is_malformed_is_refused),
	    RUN(a_line_has_its_bounds), RUN(numbers_are_exact), RUN(bytes_are_exact), { 0 } });

	text_free(&t);
	return bad;
}
