#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/metrics.h"
#include "base/text.h"
#include "check.h"

static struct metrics m;
static struct text t;

static const char *
print(const enum metric *which, unsigned n)
{
	text_free(&t);
	metrics_print(&t, metrics_here(), which, n);
	return t.at;
}
#define PRINT(...)                                                                                 \
	print((const enum metric[]){ __VA_ARGS__ },                                                \
	    sizeof((enum metric[]){ __VA_ARGS__ }) / sizeof(enum metric))

static void
begin(void)
{
	memset(&m, 0, sizeof(m));
	metrics_use(&m);
}

/* From the checkout, or as tests/run does it; NULL: not here. */
static const char *
checker(void)
{
	static char path[4096] = "tests/peer/promcheck.py";
	const char *build = getenv("BUILD");

	if (access(path, X_OK) && build)
		snprintf(path, sizeof(path), "%s/../tests/peer/promcheck.py", build);
	return access(path, X_OK) == 0 ? path : NULL;
}

static int
promcheck(const struct text *text)
{
	FILE *p = popen(checker(), "w");

	if (!p)
		return -1;
	fwrite(text->at, 1, text->len, p);
	return pclose(p);
}

CASE(counters_count_where_metrics_use_says)
{
	struct metrics other = { 0 };

	begin();
	metric_add(METRIC_TAKEN, NULL, 2);
	metric_add(METRIC_CLOSED, "done", 1);
	metrics_use(&other);
	metric_add(METRIC_TAKEN, NULL, 5);
	CHECK_INT(metric_get(&m, METRIC_TAKEN, NULL), 2);
	CHECK_INT(metric_get(&m, METRIC_CLOSED, "done"), 1);
	CHECK_INT(metric_get(&other, METRIC_TAKEN, NULL), 5);
	CHECK(metrics_here() == &other);
	begin();
}

CASE(a_word_nobody_knows_is_other)
{
	begin();
	metric_add(METRIC_CLOSED, "what-a-peer-said", 3);
	metric_add(METRIC_CLOSED, "reset", 1);
	metric_add(METRIC_CLOSED, NULL, 1);
	CHECK_INT(metric_get(&m, METRIC_CLOSED, "other"), 4);
	CHECK_INT(metric_get(&m, METRIC_CLOSED, "reset"), 1);
	CHECK_INT(metric_get(&m, METRIC_CLOSED, NULL), 5);
	CHECK(!strstr(PRINT(METRIC_CLOSED), "what-a"));
}

CASE(no_two_figures_share_a_slot)
{
	struct metrics before;

	begin();
	for (unsigned id = 0; id < METRIC_COUNT; id++) {
		before = m;
		if (id >= METRIC_SHAKE_TIME)
			metric_time(id, INT64_MAX); /* its last bucket, and its sum */
		else if (id >= METRIC_LIVE)
			metric_set(id, 1);
		else
			metric_add(id, "a word at the end", 1);
		for (unsigned i = 0; i < id; i++)
			CHECK_INT(metric_get(&m, i, NULL), metric_get(&before, i, NULL));
		CHECK_INT(metric_get(&m, id, NULL), 1);
	}
}

CASE(counters_are_printed)
{
	begin();
	metric_add(METRIC_TAKEN, NULL, UINT64_MAX);
	metric_add(METRIC_REFUSED, "hard-cap", 7);
	metric_add(METRIC_CLOSED, "idle", 2);
	CHECK_STR(PRINT(METRIC_TAKEN, METRIC_REFUSED, METRIC_CLOSED),
	    "# HELP ccfnet_connections_taken_total Connections taken from a source.\n"
	    "# TYPE ccfnet_connections_taken_total counter\n"
	    "ccfnet_connections_taken_total 18446744073709551615\n"
	    "# HELP ccfnet_connections_refused_total Connections closed at accept, by reason.\n"
	    "# TYPE ccfnet_connections_refused_total counter\n"
	    "ccfnet_connections_refused_total{reason=\"hard-cap\"} 7\n"
	    "ccfnet_connections_refused_total{reason=\"denied\"} 0\n"
	    "ccfnet_connections_refused_total{reason=\"other\"} 0\n"
	    "# HELP ccfnet_connections_closed_total Connections that are over, by reason.\n"
	    "# TYPE ccfnet_connections_closed_total counter\n"
	    "ccfnet_connections_closed_total{reason=\"idle\"} 2\n");
}

CASE(times_fall_into_buckets)
{
	const char *s;

	begin();
	metric_time(METRIC_DIAL_TIME, -5);
	metric_time(METRIC_DIAL_TIME, 500); /* exactly at the bound: in it */
	metric_time(METRIC_DIAL_TIME, 501);
	metric_time(METRIC_DIAL_TIME, 70000000);
	metric_time(METRIC_DIAL_TIME, 7200000000);
	s = PRINT(METRIC_DIAL_TIME);
	CHECK(strstr(s,
	    "# TYPE ccfnet_dial_seconds histogram\nccfnet_dial_seconds_bucket{le=\"0.0005\"} 2\n"));
	CHECK(strstr(s, "_bucket{le=\"0.001\"} 3\n"));
	CHECK(strstr(s, "_bucket{le=\"60\"} 3\n"));
	CHECK(strstr(s, "_bucket{le=\"300\"} 4\n"));
	CHECK(strstr(s, "_bucket{le=\"3600\"} 4\n"));
	CHECK(strstr(s, "_bucket{le=\"+Inf\"} 5\n"));
	CHECK(strstr(s, "ccfnet_dial_seconds_sum 7270.001001\n"));
	CHECK(strstr(s, "ccfnet_dial_seconds_count 5\n"));
	CHECK_INT(metric_get(&m, METRIC_DIAL_TIME, NULL), 5);
}

CASE(sums_add_and_what_is_kept_has_no_gauges)
{
	struct metrics sum = { 0 }, base = { 0 };

	begin();
	metric_add(METRIC_BYTES, "out", 10);
	metric_set(METRIC_LIVE, 4);
	metric_set(METRIC_PEAK, 6);
	metric_time(METRIC_CONN_TIME, 7);
	metrics_sum(&sum, &m);
	metrics_sum(&sum, &m);
	metrics_keep(&base, &m);
	CHECK_INT(metric_get(&sum, METRIC_BYTES, "out"), 20);
	CHECK_INT(metric_get(&sum, METRIC_LIVE, NULL), 8);
	CHECK_INT(metric_get(&sum, METRIC_PEAK, NULL), 12);
	CHECK_INT(metric_get(&sum, METRIC_CONN_TIME, NULL), 2);
	CHECK_INT(metric_get(&base, METRIC_BYTES, "out"), 10);
	CHECK_INT(metric_get(&base, METRIC_CONN_TIME, NULL), 1);
	CHECK_INT(metric_get(&base, METRIC_LIVE, NULL), 0);
	CHECK_INT(metric_get(&base, METRIC_PEAK, NULL), 0);
}

CASE(labels_and_help_are_escaped)
{
	text_free(&t);
	metrics_family(&t, "x", "gauge", "a \"b\"\n\\c");
	metrics_sample(&t, "x", 0.25, "a", "q\"\\\n%s", "b", "", NULL);
	metrics_sample(&t, "x", 1732272000.125, NULL);
	metrics_sample(&t, "x", -3, "c", "\xc3\xbc", NULL);
	CHECK_STR(t.at,
	    "# HELP x a \"b\"\\n\\\\c\n# TYPE x gauge\n"
	    "x{a=\"q\\\"\\\\\\n%s\",b=\"\"} 0.25\nx 1732272000.125\nx{c=\"\xc3\xbc\"} -3\n");
	if (!checker())
		SKIP("no tests/peer/promcheck.py here");
	CHECK_INT(promcheck(&t), 0);
}

CASE(another_process_reads_along)
{
	struct metrics *page =
	    mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();

	if (pid == 0) {
		metrics_use(page);
		metric_add(METRIC_CLOSED, "done", 3);
		_exit(0);
	}
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK_INT(metric_get(page, METRIC_CLOSED, "done"), 3);
	munmap(page, sizeof(*page));
}

CASE(all_of_it_is_the_format)
{
	enum metric all[METRIC_COUNT];

	begin();
	for (unsigned i = 0; i < METRIC_COUNT; i++)
		all[i] = i;
	metric_add(METRIC_CLOSED, "done", 1);
	metric_time(METRIC_REQUEST_TIME, 1234);
	(void)print(all, METRIC_COUNT);
	metrics_process(&t, "ccf-test");
	CHECK(strstr(t.at, "ccfnet_build_info{tool=\"ccf-test\",version=\"" CCF_VERSION "\"} 1\n"));
	CHECK(strstr(t.at, "\nprocess_open_fds "));
	CHECK(strstr(t.at, "\nprocess_start_time_seconds "));
	CHECK(!t.failed);
	if (!checker())
		SKIP("no tests/peer/promcheck.py here");
	CHECK_INT(promcheck(&t), 0);
	text_add(&t, "again 1\n");
	CHECK(promcheck(&t) > 0);
}

int
main(void)
{
	int r = check_main((struct check_case[]){
	    RUN(counters_count_where_metrics_use_says),
	    RUN(a_word_nobody_knows_is_other),
	    RUN(no_two_figures_share_a_slot),
	    RUN(counters_are_printed),
	    RUN(times_fall_into_buckets),
	    RUN(sums_add_and_what_is_kept_has_no_gauges),
	    RUN(labels_and_help_are_escaped),
	    RUN(another_process_reads_along),
	    RUN(all_of_it_is_the_format),
	    { 0 },
	});
	text_free(&t);
	return r;
}
