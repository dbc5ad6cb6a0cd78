/* What the master of ccf-tlsterm answers at its control socket.  Connections are in the workers, so
 * each answer waits for what they say. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/metrics.h"
#include "cmd/control.h"
#include "cmd/tlsterm.h"
#include "cmd/tool.h"

struct question {
	struct master_ask ask;
	struct control_call *call;
	TAILQ_ENTRY(question) link;
};

static struct master *master;
static TAILQ_HEAD(, question) questions = TAILQ_HEAD_INITIALIZER(questions);

/* ---- questions ---- */

static void
forget(struct question *q)
{
	TAILQ_REMOVE(&questions, q, link);
	master_unask(&q->ask);
	text_free(&q->ask.rows);
	free(q);
}

static struct question *
question_new(struct control_call *call)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q) {
		control_reply(call, 500, NULL, NULL);
		return NULL;
	}
	q->call = call;
	TAILQ_INSERT_TAIL(&questions, q, link);
	return q;
}

/* What an answer lacks, in a sentence; or NULL. */
static const char *
missing(const struct master_ask *ask, char *said, size_t cap)
{
	if (ask->missing) {
		snprintf(said, cap, "%u of %u workers did not answer in time", ask->missing,
		    tlsterm.workers);
		return said;
	}
	return NULL;
}

/* ---- GET /metrics ---- */

static void
print(struct text *t, const struct metrics *m)
{
	static const enum metric always[] = { METRIC_TAKEN, METRIC_CLOSED, METRIC_LIVE, METRIC_PEAK,
		METRIC_BYTES, METRIC_CONN_TIME, METRIC_BUFFERED, METRIC_BUFFER_LIMIT, METRIC_SLOW,
		METRIC_DEATHS, METRIC_LINES };
	static const enum metric tls[] = { METRIC_SHAKES, METRIC_SHAKE_TIME, METRIC_RELOADS };
	static const enum metric http[] = { METRIC_REQUESTS, METRIC_REQUEST_TIME,
		METRIC_HTTP_ERRORS, METRIC_HTTP_CAPPED };
	static const enum metric command[] = { METRIC_COMMANDS };
	static const enum metric cgi[] = { METRIC_RUNNING, METRIC_WAITING };

	metrics_print(t, m, always, sizeof(always) / sizeof(*always));
	if (!tlsterm.plaintext)
		metrics_print(t, m, tls, sizeof(tls) / sizeof(*tls));
	if (tlsterm.is_http)
		metrics_print(t, m, http, sizeof(http) / sizeof(*http));
	if (tlsterm.command)
		metrics_print(t, m, command, sizeof(command) / sizeof(*command));
	if (tlsterm.is_http && tlsterm.command)
		metrics_print(t, m, cgi, sizeof(cgi) / sizeof(*cgi));
}

static void
print_certificates(struct text *t)
{
	const struct material_cert *cert;
	size_t n = material_certs(certs.now, &cert);

	metrics_family(t, "ccfnet_tls_certificate_not_after_seconds", "gauge",
	    "Until when a certificate of ours is valid, since the epoch.");
	for (size_t i = 0; i < n; i++)
		metrics_sample(t, "ccfnet_tls_certificate_not_after_seconds",
		    (double)material_cert_end(certs.now, i), "file", cert[i].file, "servername",
		    cert[i].name, NULL);
}

static void
gauged(struct master_ask *ask)
{
	struct question *q = (struct question *)ask;
	struct metrics sum = { 0 };
	struct text t = { 0 };

	master_metrics(master, &sum);
	print(&t, &sum);
	if (!tlsterm.plaintext)
		print_certificates(&t);
	metrics_family(&t, "ccfnet_workers", "gauge", "Workers that share the connections.");
	metrics_sample(&t, "ccfnet_workers", tlsterm.workers, NULL);
	metrics_family(&t, "ccfnet_workers_silent", "gauge",
	    "Of those, how many did not answer just now: their gauges are older.");
	metrics_sample(&t, "ccfnet_workers_silent", ask->missing, NULL);
	control_metrics(q->call, &t);
	forget(q);
}

static void
ask_metrics(struct control_call *call)
{
	struct question *q = question_new(call);

	if (q)
		master_gauges(master, &q->ask, gauged);
}

/* ---- GET /connections, DELETE /connections/ID ---- */

static void
listed(struct master_ask *ask)
{
	struct question *q = (struct question *)ask;
	char said[80];
	const char *lacks = missing(ask, said, sizeof(said));

	if (ask->full && !lacks)
		lacks = "there are more";
	control_rows(q->call, &ask->rows, lacks);
	forget(q);
}

static void
ask_connections(struct control_call *call)
{
	struct question *q = question_new(call);

	if (q)
		master_rows(master, &q->ask, listed);
}

static void
was_cut(struct master_ask *ask)
{
	struct question *q = (struct question *)ask;
	char said[80];

	control_cut(q->call, ask->cut, missing(ask, said, sizeof(said)));
	forget(q);
}

static void
ask_cut(struct control_call *call)
{
	struct question *q = question_new(call);

	if (q)
		master_cut(master, &q->ask, call->rest, was_cut);
}

/* ---- life ---- */

static const struct control_route routes[] = {
	{ "GET", "/metrics", "counters, as Prometheus reads them", ask_metrics },
	{ "GET", "/connections", "the open connections", ask_connections },
	{ "DELETE", "/connections/", "cut the connection with that id", ask_cut },
	{ 0 },
};

void
tlsterm_control(struct master *m)
{
	master = m;
	tool_control(routes);
}

void
tlsterm_control_close(void)
{
	tool_control_close();
	while (!TAILQ_EMPTY(&questions))
		forget(TAILQ_FIRST(&questions));
}
