/* opts: values, sentences, and the shape of --help. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/opts.h"
#include "check.h"

static const char *const words[] = { "text", "json", NULL };

static struct {
	bool keep, help;
	int verbose, log;
	const char *to;
	struct opt_list allow;
	int64_t backlog, count, buffered, idle, any, limit;
} got;

static const struct opt rows[] = {
	{ 'k', "keep", NULL, OPT_FLAG, &got.keep, .help = "go on after the first connection" },
	{ 'v', "verbose", NULL, OPT_COUNT, &got.verbose, .help = "say more; twice: debug" },
	{ 0, "to", "SINK", OPT_TEXT, &got.to, .help = "hand connections off to SINK" },
	{ 0, "allow", "CIDR", OPT_LIST, &got.allow, .help = "accept only these" },
	{ 'b', "backlog", "N", OPT_NUMBER, &got.backlog, 1, 65535, .help = "queue N (4096)" },
	{ 0, "count", "N", OPT_NUMBER, &got.count, .help = "any number" },
	{ 0, "max-buffered", "SIZE", OPT_SIZE, &got.buffered, 1024, 1024 * 1024 * 1024,
	    .help =
		"bytes held, in all, in both directions, until whoever reads them has caught up "
		"with whoever writes them (64M)" },
	{ 0, "idle-timeout", "TIME", OPT_TIME, &got.idle, .help = "close a silent peer (60s)" },
	{ 0, "limit", "TIME", OPT_LIMIT, &got.limit, .help = "a deadline" },
	{ 0, "any-timeout", "TIME", OPT_TIME, &got.any, -1, 3600000, .help = "short" },
	{ 0, "log", "FORMAT", OPT_WORD, &got.log, .words = words, .help = "text or json" },
	{ 'h', "help", NULL, OPT_FLAG, &got.help, .help = "print this" },
	{ 0, "a-name-that-is-much-too-long", "FOR-A-COLUMN", OPT_TEXT, &got.to, .help = "wraps" },
	{ 0 },
};

static const struct opts opts = { "ccf-listen",
	"ccf-listen [options] [NAME=]ADDRESS... [-- COMMAND [ARG...]]\nccf-listen --help",
	"Listens, accepts and hands connections on.", rows };

static char msg[256];
static char *words_given[32];

/* The arguments are separated by single spaces. */
static int
parse(const char *line)
{
	static char copy[512];
	int argc = 0;

	free(got.allow.item);
	memset(&got, 0, sizeof(got));
	*msg = '\0';
	snprintf(copy, sizeof(copy), "ccf-listen %s", line);
	for (char *s = copy, *word; (word = strsep(&s, " "));)
		words_given[argc++] = word;
	words_given[argc] = NULL;
	return opts_parse(&opts, argc, words_given, msg, sizeof(msg));
}

CASE(every_kind_takes_its_value)
{
	CHECK_INT(parse("-kvv --verbose --to - --allow ::1 --allow=10.0.0.0/8 -b 5 --count 0 "
			"--max-buffered 64k --idle-timeout 5s --log json x"),
	    18);
	CHECK_STR(msg, "");
	CHECK(got.keep && !got.help);
	CHECK_INT(got.verbose, 3);
	CHECK_STR(got.to, "-");
	CHECK_INT(got.allow.n, 2);
	CHECK_STR(got.allow.item[0], "::1");
	CHECK_STR(got.allow.item[1], "10.0.0.0/8");
	CHECK_INT(got.backlog, 5);
	CHECK_INT(got.count, 0);
	CHECK_INT(got.buffered, 65536);
	CHECK_INT(got.idle, 5000);
	CHECK_INT(got.log, 1);
	CHECK_INT(parse("--to a --to b"), 5);
	CHECK_STR(got.to, "b");
	CHECK_INT(parse("--any-timeout -1s"), -EINVAL);
	CHECK_INT(parse("--any-timeout -1ms"), 3);
	CHECK_INT(got.any, -1);
}

CASE(options_and_operands_mix_up_to_two_dashes)
{
	static const char *const sorted[] = { "ccf-listen", "-k", "-v", "--to", "x", "a", "b", "--",
		"-v", NULL };

	CHECK_INT(parse(""), 1); /* an empty operand */
	CHECK_INT(parse("a -k -v b --to x -- -v"), 5);
	CHECK_INT(got.verbose, 1);
	CHECK_STR(got.to, "x");
	for (int i = 0; sorted[i]; i++)
		CHECK_STR(words_given[i], sorted[i]);
	CHECK_INT(parse("-k -- -v"), 2); /* "--" itself */
	CHECK_INT(got.verbose, 0);
	CHECK_INT(parse("--"), 1);
	CHECK_INT(parse("-"), 1);
	CHECK_INT(parse("--to --"), -EINVAL);
	CHECK_STR(msg, "--to needs a value");
}

static void
refused(const char *line, const char *sentence)
{
	CHECK_INT(parse(line), -EINVAL);
	CHECK_STR(msg, sentence);
}

CASE(each_mistake_has_its_sentence)
{
	refused("--bakclog 5", "unknown option --bakclog: did you mean --backlog?");
	refused("--backlogs=5", "unknown option --backlogs: did you mean --backlog?");
	refused("--frobnicate", "unknown option --frobnicate: see --help");
	refused("-x", "unknown option -x: see --help");
	refused("keep -x", "unknown option -x: see --help");
	refused("keep -xk y", "unknown option -x: see --help");
	refused("keep --keeq", "unknown option --keeq: did you mean --keep?");
	refused("-kx", "unknown option -x: see --help");
	refused("-to x", "unknown option -to: did you mean --to?");
	refused("--a x", "--a may be --allow or --any-timeout");
	refused("--keep=yes", "--keep takes no value");
	refused("--backlog", "--backlog needs a value");
	refused("-b", "--backlog needs a value");
	refused("--backlog 0", "--backlog 0: must be from 1 to 65535");
	refused("--backlog x", "--backlog x: must be from 1 to 65535");
	refused("--count -5", "--count -5: must be an integer, 0 or more");
	refused("--count 5x", "--count 5x: must be an integer, 0 or more");
	refused("--count 99999999999999999999", "--count 99999999999999999999: too large");
	refused("--idle-timeout 5", "--idle-timeout 5: say 5s (or 5ms, 5m)");
	refused("--idle-timeout 0", "--idle-timeout 0: say 0s (or 0ms, 0m)");
	refused("--idle-timeout 5d",
	    "--idle-timeout 5d: say an integer and ms, s, m or h, such as 500ms");
	refused("--any-timeout 2h", "--any-timeout 2h: must be from -1ms to 1h");
	refused("--max-buffered 64MB",
	    "--max-buffered 64MB: say bytes, or an integer and k, M or G, such as 64M");
	refused("--max-buffered 1023", "--max-buffered 1023: must be from 1k to 1G");
	refused("--log xml", "--log xml: say text or json");
}

CASE(a_deadline_can_be_none)
{
	for (const char *const *p = (const char *const[]){ "--limit none", "--limit 0s",
		 "--limit 0ms", "--limit=0h", NULL };
	     *p; p++) {
		got.limit = 42;
		CHECK(parse(*p) > 0);
		CHECK_INT(got.limit, -1);
	}
	CHECK_INT(parse("--limit 2s"), 3);
	CHECK_INT(got.limit, 2000);
	CHECK_INT(parse("--limit nobody"), -EINVAL);
	CHECK_INT(parse("--idle-timeout none"), -EINVAL);
}

CASE(a_short_buffer_cuts_the_sentence)
{
	char tiny[8], *argv[] = { (char *)"x", (char *)"--log", (char *)"xml", NULL };

	CHECK_INT(opts_parse(&opts, 3, argv, tiny, sizeof(tiny)), -EINVAL);
	CHECK_STR(tiny, "--log x");
}

CASE(sizes_and_times_are_exact)
{
	int64_t n = 42;

	CHECK_INT(parse_size("0", &n), 0);
	CHECK_INT(n, 0);
	CHECK(parse_size("3k", &n) == 0 && n == 3 * 1024);
	CHECK(parse_size("64M", &n) == 0 && n == 64 << 20);
	CHECK(parse_size("8G", &n) == 0 && n == 8LL << 30);
	CHECK(parse_size("9223372036854775807", &n) == 0 && n == INT64_MAX);
	CHECK(parse_time("250ms", &n) == 0 && n == 250);
	CHECK(parse_time("5s", &n) == 0 && n == 5000);
	CHECK(parse_time("2m", &n) == 0 && n == 120000);
	CHECK(parse_time("1h", &n) == 0 && n == 3600000);
	n = 42;
	CHECK_INT(parse_size("9223372036854775808", &n), -ERANGE);
	CHECK_INT(parse_size("8589934592G", &n), -ERANGE);
	CHECK_INT(parse_time("9223372036854775807s", &n), -ERANGE);
	for (const char *const *p = (const char *const[]){ "", "k", " 1", "1 ", "+1", "-1", "1.5k",
		 "1kk", "0x10", "1kB", "1s", NULL };
	     *p; p++)
		CHECK_INT(parse_size(*p, &n), -EINVAL);
	for (const char *const *p =
		 (const char *const[]){ "", "5", "s", "1S", "1ms ", "-1s", "1.5s", "1M", NULL };
	     *p; p++)
		CHECK_INT(parse_time(*p, &n), -EINVAL);
	CHECK_INT(n, 42);
}

CASE(help_is_aligned_within_80_columns)
{
	static char text[4096];
	int memory = memfd_create("help", 0), real = dup(1);
	ssize_t n;

	fflush(stdout);
	dup2(memory, 1);
	opts_help(&opts);
	fflush(stdout);
	dup2(real, 1);
	n = pread(memory, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	CHECK(strncmp(text, "usage: ccf-listen [options]", 27) == 0);
	CHECK(strstr(text, "\n       ccf-listen --help\n") != NULL);
	CHECK(strstr(text, "\nListens, accepts and hands connections on.\n\n") != NULL);
	CHECK(strstr(text, "\n  -k, --keep               go on after") != NULL);
	CHECK(strstr(text, "\n      --idle-timeout TIME  close a silent peer (60s)\n") != NULL);
	CHECK(strstr(text, "FOR-A-COLUMN\n                           wraps\n") != NULL);
	for (char *s = text, *line; (line = strsep(&s, "\n"));)
		CHECK(strlen(line) <= 80);
	close(memory);
	close(real);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(every_kind_takes_its_value),
	    RUN(options_and_operands_mix_up_to_two_dashes),
	    RUN(each_mistake_has_its_sentence),
	    RUN(a_deadline_can_be_none),
	    RUN(a_short_buffer_cuts_the_sentence),
	    RUN(sizes_and_times_are_exact),
	    RUN(help_is_aligned_within_80_columns),
	    { 0 },
	});
}
