/* base/log - a line is built in one buffer and leaves in one write(2).  Everything that is put into
 * it goes through one escaper, a unit (a character or its escape) at a time, so that neither a
 * peer's bytes nor the 8 KiB cut can break a line, a UTF-8 sequence or the JSON around them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"

#define LINE_MAX_BYTES (8 * 1024)
#define MSG_ROOM       1024 /* of a JSON line, kept from the facts for msg */
#define END_ROOM       4    /* "\"}\n" and a NUL */
#define CLASS_BURST    10
#define CLASS_WINDOW   10000 /* ms */

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	size_t bound; /* what may be filled now; the rest is for what follows */
	bool json;
};

static const char *const level_word[] = { "error", "warn", "info", "debug" };

static const char *log_tool = "ccf-net";
static bool log_json;
static enum log_level log_level = LOG_L_INFO;
static struct log_class *log_held;

void
log_open(const char *tool, bool json)
{
	log_tool = tool;
	log_json = json;
}

void
log_set_level(enum log_level level)
{
	log_level = level;
}

bool
log_wants(enum log_level level)
{
	return level <= log_level;
}

static bool
put_raw(struct line *l, const char *s, size_t n)
{
	if (l->len + n > l->bound)
		return false;
	memcpy(l->text + l->len, s, n);
	l->len += n;
	return true;
}

static void
put(struct line *l, const char *s)
{
	size_t len = strlen(s);
	char unit[9];

	for (size_t n; len; s += n, len -= n) {
		n = text_escape(s, len, l->json, unit);
		if (!put_raw(l, unit, strlen(unit)))
			return;
	}
}

/* A key goes in whole or not at all, and its value leaves room for the quote. */
static void
put_key(struct line *l, const char *key, const char *value)
{
	char head[64];
	int n = snprintf(head, sizeof(head), "%c\"%s\":\"", l->len ? ',' : '{', key);

	if (!value || n < 0 || (size_t)n >= sizeof(head) || l->len + (size_t)n + 1 > l->bound)
		return;
	put_raw(l, head, (size_t)n);
	l->bound--;
	put(l, value);
	l->bound++;
	put_raw(l, "\"", 1);
}

static void
put_number(struct line *l, const char *key, int64_t num)
{
	char pair[96];
	int n = snprintf(pair, sizeof(pair), ",\"%s\":%" PRId64, key, num);

	if (n > 0 && (size_t)n < sizeof(pair))
		put_raw(l, pair, (size_t)n);
}

static void
build_json(struct line *l, enum log_level level, const struct log_who *who, const char *event,
    const struct log_fact *fact, const char *msg)
{
	struct timespec now;
	struct tm tm;
	char date[32], ts[48];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ts, sizeof(ts), "%s.%03ldZ", date, now.tv_nsec / 1000000);
	l->bound = sizeof(l->text) - END_ROOM - MSG_ROOM;
	put_key(l, "ts", ts);
	put_key(l, "level", level_word[level]);
	put_key(l, "tool", log_tool);
	put_key(l, "event", event);
	if (who) {
		put_key(l, "conn", who->conn);
		put_key(l, "iface", who->iface);
		put_key(l, "peer", who->peer);
	}
	for (; fact && fact->key; fact++) {
		if (fact->text)
			put_key(l, fact->key, fact->text);
		else
			put_number(l, fact->key, fact->num);
	}
	l->bound = sizeof(l->text) - END_ROOM;
	put_key(l, "msg", msg);
	l->text[l->len++] = '}'; /* of END_ROOM */
}

static void
build_text(struct line *l, enum log_level level, const struct log_who *who, const char *msg)
{
	const char *conn = who ? who->conn : NULL, *peer = who ? who->peer : NULL;

	l->bound = sizeof(l->text) - END_ROOM;
	put(l, log_tool);
	put(l, ": ");
	put(l, level_word[level]);
	put(l, ": ");
	if (conn)
		put(l, conn);
	if (conn && peer)
		put(l, " ");
	if (peer)
		put(l, peer);
	if (conn || peer)
		put(l, ": ");
	put(l, msg);
}

static void
log_line(enum log_level level, const struct log_who *who, const char *event,
    const struct log_fact *facts, const char *fmt, va_list ap)
{
	char msg[LINE_MAX_BYTES];
	struct line l;
	int saved = errno; /* first of all: fmt may hold %m */

	if (!log_wants(level))
		return;
	metric_add(METRIC_LINES, level_word[level], 1);
	if (vsnprintf(msg, sizeof(msg), fmt, ap) < 0)
		snprintf(msg, sizeof(msg), "(a message that cannot be printed: %s)", fmt);
	l.len = 0;
	l.json = log_json;
	if (log_json)
		build_json(&l, level, who, event, facts, msg);
	else
		build_text(&l, level, who, msg);
	l.text[l.len++] = '\n';
	while (write(STDERR_FILENO, l.text, l.len) < 0 && errno == EINTR)
		;
	errno = saved;
}

void
log_event(enum log_level level, const struct log_who *who, const char *event,
    const struct log_fact *facts, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, who, event, facts, fmt, ap);
	va_end(ap);
}

void
log_say(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(level, NULL, "note", NULL, fmt, ap);
	va_end(ap);
}

static void
end_window(struct log_class *class)
{
	const struct log_fact facts[] = {
		{ .key = "class", .text = class->name },
		{ .key = "held", .num = class->held },
		{ .key = NULL },
	};

	if (class->held)
		log_event(LOG_L_INFO, NULL, "held", facts, "%u more %s in %d s", class->held,
		    class->name, CLASS_WINDOW / 1000);
	class->shown = class->held = 0;
}

bool
log_admit(struct log_class *class, int64_t now)
{
	if (class->held && now - class->since >= CLASS_WINDOW)
		log_flush_held(now);
	if (!class->shown || now - class->since >= CLASS_WINDOW) {
		class->shown = 0;
		class->since = now;
	}
	if (class->shown < CLASS_BURST) {
		class->shown++;
		return true;
	}
	if (!class->held++) {
		class->next = log_held;
		log_held = class;
	}
	return false;
}

int64_t
log_flush_held(int64_t now)
{
	int64_t again = CLOCK_NEVER;
	struct log_class **at = &log_held, *class;

	while ((class = *at)) {
		int64_t end = class->since + CLASS_WINDOW;

		if (end > now) {
			again = end < again ? end : again;
			at = &class->next;
			continue;
		}
		*at = class->next;
		class->next = NULL;
		end_window(class);
	}
	return again;
}
