/* base/metrics - where each figure lies among the slots is the layout of a struct that the compiler
 * makes of the tables: a counter has a slot a word, a gauge one, a histogram one a bucket and one
 * for its sum. */
#include "base/metrics.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

#define LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MANY   8 /* words: of more than these, those that count nothing are not printed */

static const char *const metric_one[] = { "" };
static const char *const metric_directions[] = { "in", "out" };
static const char *const metric_refusals[] = { "hard-cap", "denied", "other" };
static const char *const metric_shakes[] = { "ok", "failed", "timeout", "client-gone", "other" };
static const char *const metric_results[] = { "ok", "failed" };
static const char *const metric_errors[] = { "parsing", "request-payload-too-large",
	"request-header-too-large" };
static const char *const metric_drops[] = { "queue-full", "rate", "rate-host", "rate-all",
	"rate-sessions", "hard-cap", "too-large", "empty", "denied", "loop", "amplification",
	"send-full", "send-failed", "no-descriptors", "cannot-run", "draining", "kernel", "other" };
static const char *const metric_losses[] = { "unknown", "unknown-peer", "queue-full", "refused",
	"connect-timeout", "no-such-name", "cannot-bind", "link-lost", "file-shrank", "not-kept",
	"draining", "drain-timeout", "other" };
static const char *const metric_levels[] = { "error", "warn", "info", "debug" };
/* clang-format off */
static const char *const metric_reasons[] = { /* the most frequent first: a word is looked up at each close */
	"done", "exited", "reset", "no-close-notify", "left", "idle", "client-gone", "handshake-failed", "handshake-timeout",
	"request-timeout", "request-cut", "capped", "parsing", "request-payload-too-large", "request-header-too-large", "closed",
	"control", "cannot-run", "connect-timeout", "drain-timeout", "duplicate", "file-shrank",
	"first-frame", "flush-timeout", "half-close-timeout", "half-frame", "killed", "lifetime", "link-lost",
	"no-answer", "no-descriptors", "no-memory", "no-sink", "no-such-name", "protocol", "refused", "replaced", "slow", "stdin-failed",
	"stdout-failed", "stdout-gone", "timed-out", "user-timeout", "withdrawn", "worker-died", "other" };
static const char *const metric_codes[] = {
	"200", "404", "101", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308", "400", "401", "403", "405", "406",
	"408", "409", "410", "411", "412", "413", "414", "415", "416", "417", "422", "426", "428", "429", "431", "500", "501", "502",
	"503", "504", "505", "507", "none", "other" };
/* clang-format on */

static const uint64_t bucket[] = { 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000,
	500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 300000000, 3600000000 };

struct layout {
#define COUNTER(id, name, label, words, help) uint64_t id[LEN(words)];
	METRICS_COUNTERS(COUNTER)
#define GAUGE(id, name, help) uint64_t id;
	METRICS_GAUGES(GAUGE)
#define HISTOGRAM(id, name, help) uint64_t id[LEN(bucket) + 2];
	METRICS_HISTOGRAMS(HISTOGRAM)
};
_Static_assert(sizeof(struct layout) <= sizeof(struct metrics), "METRIC_SLOTS is too small");

static const struct {
	const char *type, *name, *help, *label;
	const char *const *word;
	unsigned at, words;
} metric[] = {
#define AT(id) offsetof(struct layout, id) / sizeof(uint64_t)
#define COUNTER_ROW(id, name, label, words, help)                                                  \
	[METRIC_##id] = { "counter", name "_total", help, label, words, AT(id), LEN(words) },
	METRICS_COUNTERS(COUNTER_ROW)
#define GAUGE_ROW(id, name, help) [METRIC_##id] = { "gauge", name, help, "", NULL, AT(id), 1 },
	    METRICS_GAUGES(GAUGE_ROW)
#define HISTOGRAM_ROW(id, name, help)                                                              \
	[METRIC_##id] = { "histogram", name, help, "", NULL, AT(id), LEN(bucket) + 2 },
		METRICS_HISTOGRAMS(HISTOGRAM_ROW)
};

static struct metrics metrics_own;
static struct metrics *metrics_now = &metrics_own;

void
metrics_use(struct metrics *m)
{
	metrics_now = m;
}

struct metrics *
metrics_here(void)
{
	return metrics_now;
}

/* ---- counting ---- */

static uint64_t
look(const uint64_t *slot)
{
	return __atomic_load_n(slot, __ATOMIC_RELAXED);
}

/* One writer: no locked instruction is needed, only that a reader elsewhere never sees half a
 * number. */
static void
add(uint64_t *slot, uint64_t n)
{
	__atomic_store_n(slot, look(slot) + n, __ATOMIC_RELAXED);
}

static unsigned
slot_of(enum metric id, const char *word)
{
	unsigned i = 0, last = metric[id].words - 1;

	while (i < last && (!word || strcmp(word, metric[id].word[i]) != 0))
		i++;
	return metric[id].at + i;
}

void
metric_add(enum metric id, const char *word, uint64_t n)
{
	add(&metrics_now->slot[slot_of(id, word)], n);
}

void
metric_set(enum metric id, uint64_t value)
{
	__atomic_store_n(&metrics_now->slot[metric[id].at], value, __ATOMIC_RELAXED);
}

void
metric_time(enum metric id, int64_t us)
{
	uint64_t *slot = metrics_now->slot + metric[id].at, n = us > 0 ? (uint64_t)us : 0;
	unsigned i = 0;

	while (i < LEN(bucket) && n > bucket[i])
		i++;
	add(&slot[i], 1);
	add(&slot[LEN(bucket) + 1], n);
}

uint64_t
metric_get(const struct metrics *m, enum metric id, const char *word)
{
	unsigned n = metric[id].words - (*metric[id].type == 'h'); /* without the sum of times */
	uint64_t sum = 0;

	if (word)
		return look(&m->slot[slot_of(id, word)]);
	for (unsigned i = 0; i < n; i++)
		sum += look(&m->slot[metric[id].at + i]);
	return sum;
}

void
metrics_keep(struct metrics *to, const struct metrics *from)
{
	for (unsigned id = 0; id < METRIC_COUNT; id++) {
		for (unsigned i = 0; *metric[id].type != 'g' && i < metric[id].words; i++)
			add(&to->slot[metric[id].at + i], look(&from->slot[metric[id].at + i]));
	}
}

void
metrics_sum(struct metrics *to, const struct metrics *from)
{
	for (unsigned i = 0; i < METRIC_SLOTS; i++)
		add(&to->slot[i], look(&from->slot[i]));
}

/* ---- saying it ---- */

static void
escaped(struct text *t, const char *s, bool quotes)
{
	for (; *s; s++) {
		if (*s == '\n')
			text_bytes(t, "\\n", 2);
		else if (*s == '\\' || (quotes && *s == '"'))
			text_add(t, "\\%c", *s);
		else
			text_bytes(t, s, 1);
	}
}

void
metrics_family(struct text *t, const char *name, const char *type, const char *help)
{
	text_add(t, "# HELP %s ", name);
	escaped(t, help, false);
	text_add(t, "\n# TYPE %s %s\n", name, type);
}

void
metrics_sample(struct text *t, const char *name, double value, ...)
{
	const char *label, *sep = "{";
	va_list ap;

	text_bytes(t, name, strlen(name));
	va_start(ap, value);
	while ((label = va_arg(ap, const char *))) {
		text_add(t, "%s%s=\"", sep, label);
		escaped(t, va_arg(ap, const char *), true);
		text_bytes(t, "\"", 1);
		sep = ",";
	}
	va_end(ap);
	text_add(t, "%s %.15g\n", *sep == ',' ? "}" : "", value);
}

static void
print_words(struct text *t, const uint64_t *slot, enum metric id)
{
	for (unsigned i = 0; i < metric[id].words; i++) {
		uint64_t n = look(&slot[i]);

		if (!*metric[id].label)
			text_add(t, "%s %" PRIu64 "\n", metric[id].name, n);
		else if (n || metric[id].words <= MANY)
			text_add(t, "%s{%s=\"%s\"} %" PRIu64 "\n", metric[id].name,
			    metric[id].label, metric[id].word[i], n);
	}
}

static void
print_times(struct text *t, const uint64_t *slot, enum metric id)
{
	const char *name = metric[id].name;
	uint64_t n = 0;

	for (unsigned i = 0; i < LEN(bucket); i++) {
		n += look(&slot[i]);
		text_add(
		    t, "%s_bucket{le=\"%.15g\"} %" PRIu64 "\n", name, (double)bucket[i] / 1e6, n);
	}
	n += look(&slot[LEN(bucket)]);
	text_add(t, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n%s_sum %.15g\n%s_count %" PRIu64 "\n",
	    name, n, name, (double)look(&slot[LEN(bucket) + 1]) / 1e6, name, n);
}

void
metrics_print(struct text *t, const struct metrics *m, const enum metric *which, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		enum metric id = which[i];

		metrics_family(t, metric[id].name, metric[id].type, metric[id].help);
		if (*metric[id].type == 'h')
			print_times(t, m->slot + metric[id].at, id);
		else
			print_words(t, m->slot + metric[id].at, id);
	}
}

/* ---- the process ---- */

static void
one(struct text *t, const char *name, const char *type, const char *help, double value)
{
	metrics_family(t, name, type, help);
	metrics_sample(t, name, value, NULL);
}

/* The fields of proc(5)'s stat after the name, which may hold anything. */
static void
process_stat(struct text *t)
{
	double hz = (double)sysconf(_SC_CLK_TCK);
	unsigned long user, kernel, size;
	unsigned long long start;
	struct timespec now, up;
	char line[1024], *at;
	long pages;
	FILE *f = fopen("/proc/self/stat", "re");

	at = f && fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (f)
		fclose(f);
	if (!at || sscanf(at,
		       ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d "
		       "%*d %llu %lu %ld",
		       &user, &kernel, &start, &size, &pages) != 5)
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &up);
	one(t, "process_start_time_seconds", "gauge", "When this process started, since the epoch.",
	    (double)(now.tv_sec - up.tv_sec) + (double)(now.tv_nsec - up.tv_nsec) / 1e9 +
		(double)start / hz);
	one(t, "process_cpu_seconds_total", "counter", "CPU time of this process.",
	    (double)(user + kernel) / hz);
	one(t, "process_virtual_memory_bytes", "gauge", "Address space of this process.",
	    (double)size);
	one(t, "process_resident_memory_bytes", "gauge", "Memory of this process.",
	    (double)pages * (double)sysconf(_SC_PAGESIZE));
}

static void
process_fds(struct text *t)
{
	struct rlimit limit;
	DIR *dir = opendir("/proc/self/fd");
	int n = -3; /* "." and "..", and the one that reads it */

	if (dir) {
		while (readdir(dir))
			n++;
		closedir(dir);
		one(t, "process_open_fds", "gauge", "Descriptors this process has open.", n);
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		one(t, "process_max_fds", "gauge", "Descriptors this process may have open.",
		    (double)limit.rlim_cur);
}

void
metrics_process(struct text *t, const char *tool)
{
	metrics_family(t, "ccfnet_build_info", "gauge", "Always 1; the labels say what runs.");
	metrics_sample(t, "ccfnet_build_info", 1, "tool", tool, "version", CCF_VERSION, NULL);
	process_stat(t);
	process_fds(t);
}
