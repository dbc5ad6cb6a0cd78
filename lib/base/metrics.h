/* base/metrics - what this process counts, and the Prometheus text (exposition format 0.0.4) that says it.  All figures of a
 * process are one flat array, so a worker's can lie in memory that its master reads and adds up.  One writer, relaxed atomics. */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdbool.h>
#include <stdint.h>

struct text;

/* name, label ("" none), words of the label, help.  Counters get _total; a histogram's figures are microseconds here and seconds
 * there.  A word that is not in its list (metrics.c) counts as the last one.
 *	reasons, codes	as they are said; "other"; a code of "none": the request was cut before it had an answer
 *	refusals	hard-cap denied other
 *	shakes		ok failed timeout client-gone other
 *	results		ok failed
 *	errors		parsing request-payload-too-large request-header-too-large
 *	directions	in out
 *	drops		too-large empty denied rate rate-host rate-all rate-sessions loop hard-cap queue-full amplification
 *			send-full send-failed no-descriptors cannot-run draining kernel other
 *	losses		unknown (written whole, and not acknowledged when the connection broke) unknown-peer queue-full
 *			refused connect-timeout no-such-name cannot-bind link-lost file-shrank not-kept draining drain-timeout
 *			other
 *	levels		error warn info debug */
#define METRICS_COUNTERS(X) \
	X(TAKEN, "ccfnet_connections_taken", "", metric_one, "Connections taken from a source.") \
	X(CLOSED, "ccfnet_connections_closed", "reason", metric_reasons, "Connections that are over, by reason.") \
	X(BYTES, "ccfnet_connection_bytes", "direction", metric_directions, \
	    "Plaintext bytes from (in) and to (out) peers, of closed connections.") \
	X(REFUSED, "ccfnet_connections_refused", "reason", metric_refusals, "Connections closed at accept, by reason.") \
	X(CAPPED, "ccfnet_connections_capped", "", metric_one, "Connections let in above the soft cap.") \
	X(SHAKES, "ccfnet_tls_handshakes", "result", metric_shakes, "TLS handshakes, by result.") \
	X(RELOADS, "ccfnet_tls_reloads", "result", metric_results, "Loads of certificates, keys and CAs, by result.") \
	X(DIALS, "ccfnet_dials", "result", metric_results, "Connections dialled, by result.") \
	X(SLOW, "ccfnet_connections_slow", "", metric_one, "Connections cut at the budget because their peer took nothing.") \
	X(REQUESTS, "ccfnet_http_requests", "code", metric_codes, "HTTP requests, by status of the answer.") \
	X(HTTP_ERRORS, "ccfnet_http_errors", "class", metric_errors, "HTTP requests refused for what they were, by CCF's class.") \
	X(HTTP_CAPPED, "ccfnet_http_capped", "", metric_one, "503 answers above the soft cap.") \
	X(COMMANDS, "ccfnet_commands", "result", metric_results, "COMMANDs by result: of the start; a CGI program: of its end.") \
	X(DATAGRAMS, "ccfnet_datagrams", "direction", metric_directions, "Datagrams that came in (in) and that were sent (out).") \
	X(DATAGRAM_BYTES, "ccfnet_datagram_bytes", "direction", metric_directions, "Their bytes, without headers.") \
	X(DROPS, "ccfnet_datagrams_dropped", "reason", metric_drops, "Datagrams not passed on, either way, by reason.") \
	X(MESSAGES, "ccfnet_messages", "direction", metric_directions, \
	    "Node messages that came (in) and that peers acknowledged (out).") \
	X(MESSAGE_BYTES, "ccfnet_message_bytes", "direction", metric_directions, "Bytes of their frames.") \
	X(LOSSES, "ccfnet_messages_lost", "reason", metric_losses, "Node messages dropped, or unknown after a break, by reason.") \
	X(RESENT, "ccfnet_messages_resent", "", metric_one, "Node messages written once more after a break.") \
	X(DEATHS, "ccfnet_worker_deaths", "", metric_one, "Workers that ended unasked.") \
	X(LINES, "ccfnet_log_lines", "level", metric_levels, "Lines logged, by level.")
#define METRICS_GAUGES(X) \
	X(LIVE, "ccfnet_connections_active", "Connections that are open.") \
	X(PEAK, "ccfnet_connections_peak", "The most there ever were at once.") \
	X(BUFFERED, "ccfnet_buffered_bytes", "Bytes held in memory for connections (--max-buffered).") \
	X(BUFFER_LIMIT, "ccfnet_buffered_limit_bytes", "What --max-buffered allows.") \
	X(MESSAGES_WAITING, "ccfnet_messages_waiting", "Node messages that are not acknowledged yet, written or not.") \
	X(RUNNING, "ccfnet_cgi_running", "COMMANDs that answer a request just now.") \
	X(WAITING, "ccfnet_cgi_waiting", "Requests that wait for a COMMAND's turn.")
#define METRICS_HISTOGRAMS(X) \
	X(SHAKE_TIME, "ccfnet_tls_handshake_seconds", "Duration of successful TLS handshakes.") \
	X(CONN_TIME, "ccfnet_connection_seconds", "Duration of connections.") \
	X(REQUEST_TIME, "ccfnet_http_request_seconds", "From the first byte of a request to the last of its answer.") \
	X(DIAL_TIME, "ccfnet_dial_seconds", "Duration of successful dials.")

#define METRIC_ENUM_C(name, ...) METRIC_##name,
enum metric { METRICS_COUNTERS(METRIC_ENUM_C) METRICS_GAUGES(METRIC_ENUM_C) METRICS_HISTOGRAMS(METRIC_ENUM_C) METRIC_COUNT };

#define METRIC_SLOTS 256 /* enough for all of them; a test says so */

struct metrics {
	uint64_t slot[METRIC_SLOTS];
};

void metrics_use(struct metrics *); /* counts there from now on (borrowed for good); at first: in a static one of this process */
struct metrics *metrics_here(void);

void metric_add(enum metric, const char *word, uint64_t n); /* word NULL: a counter without a label */
void metric_set(enum metric, uint64_t value);               /* a gauge */
void metric_time(enum metric, int64_t us);                  /* one more in a histogram */
uint64_t metric_get(const struct metrics *, enum metric, const char *word); /* word NULL: the sum over all */

void metrics_sum(struct metrics *to, const struct metrics *from); /* adds; PEAK too (it is then an upper bound) */
void metrics_keep(struct metrics *to, const struct metrics *from); /* the same without the gauges: of who is no more */
void metrics_print(struct text *, const struct metrics *, const enum metric *which, unsigned n);
/* HELP, TYPE and samples of these, in that order.  Where the label has many words, those that count nothing are left out. */

/* for what one process knows of itself: a family whose samples the caller has */
void metrics_family(struct text *, const char *name, const char *type, const char *help);
void metrics_sample(struct text *, const char *name, double value, ...) __attribute__((sentinel));
/* label, value pairs of const char *, then NULL; values are escaped. */
void metrics_process(struct text *, const char *tool);
/* ccfnet_build_info, and under Prometheus' own names (process_*) when it started, CPU, memory, open and most descriptors */

#endif
