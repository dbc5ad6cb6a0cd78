/* base/log - one event is one line on standard error, written with one write(2).
 * Text: "TOOL: LEVEL: CONN PEER: MESSAGE" (no time: the supervisor adds it).
 * JSON: one object with ts level tool event conn iface peer, the facts, and msg.
 * Bytes that came from a peer are escaped here (vis(3)), whoever logs them.
 * Rooms below flow/ do not log: they return errors. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_L_ERROR, LOG_L_WARN, LOG_L_INFO, LOG_L_DEBUG };

struct log_who {			/* whom a line is about; every field may be NULL */
	const char *conn;		/* CCF_CONN_ID */
	const char *iface;
	const char *peer;		/* address and port */
};

struct log_fact {			/* one more key of the JSON object; a list ends with a NULL key */
	const char *key;
	const char *text;		/* NULL: num counts */
	int64_t num;
};

struct log_class {			/* a kind of line that may flood; static, zeroed but for name */
	const char *name;		/* "handshake failures": said in the summary */
	int64_t since;			/* start of the current window, clock_ms */
	unsigned shown, held;
	struct log_class *next;		/* classes that hold something back */
};

void log_open(const char *tool, bool json);	/* tool: borrowed for good */
void log_set_level(enum log_level);
bool log_wants(enum log_level);

void log_event(enum log_level, const struct log_who *, const char *event, const struct log_fact *facts,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
	/* event: the fixed word under "event" (never translated, never from a peer).  who, facts: may be NULL.
	 * errno is preserved.  A line is cut at 8 KiB. */
void log_say(enum log_level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
	/* The same without a connection and facts; event is "note". */

bool log_admit(struct log_class *, int64_t now);
	/* Whether this line of the class may be logged: the first 10 of a 10 s window are, the rest are counted. */
int64_t log_flush_held(int64_t now);
	/* Says "N more NAME in 10 s" for every class whose window is over.  Returns when to call it again
	 * (clock_ms), CLOCK_NEVER if nothing is held. */

#endif
