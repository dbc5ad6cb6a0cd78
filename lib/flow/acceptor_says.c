/* What listening interfaces say of themselves on the control socket. */
#include <string.h>

#include "base/metrics.h"
#include "base/text.h"
#include "flow/acceptor.h"

const char *
accept_error_word(enum accept_error e)
{
	static const char *const word[] = { [ACCEPT_PARSING] = "parsing",
		[ACCEPT_PAYLOAD] = "request-payload-too-large",
		[ACCEPT_HEADER] = "request-header-too-large" };

	return word[e];
}

/* ---- GET /metrics ---- */

static double
listens(const struct acceptor *a)
{
	return a->listens;
}

static double
active(const struct acceptor *a)
{
	return a->caps.open;
}

static double
peak(const struct acceptor *a)
{
	return a->caps.peak;
}

static double
soft(const struct acceptor *a)
{
	return a->caps.soft;
}

static double
hard(const struct acceptor *a)
{
	return a->caps.hard;
}

static double
accepted(const struct acceptor *a)
{
	return (double)a->caps.accepted;
}

static double
capped(const struct acceptor *a)
{
	return (double)a->caps.capped;
}

static const struct family {
	const char *name, *type, *help;
	double (*value)(const struct acceptor *);
} families[] = {
	{ "ccfnet_interface_listening", "gauge", "1: the kernel takes connections; 0: it refuses.",
	    listens },
	{ "ccfnet_interface_active", "gauge", "Connections that are open.", active },
	{ "ccfnet_interface_peak", "gauge", "The most there ever were at once.", peak },
	{ "ccfnet_interface_soft_cap", "gauge", "Above it connections are marked.", soft },
	{ "ccfnet_interface_hard_cap", "gauge", "Above it connections are closed at accept.",
	    hard },
	{ "ccfnet_interface_accepted_total", "counter", "Connections let in.", accepted },
	{ "ccfnet_interface_capped_total", "counter", "Connections let in above the soft cap.",
	    capped },
};

static void
say_refused(const struct acceptors *all, struct text *t)
{
	const char *name = "ccfnet_interface_refused_total";
	const struct acceptor *a;

	metrics_family(t, name, "counter", "Connections closed at accept, by reason.");
	TAILQ_FOREACH(a, &all->list, link) {
		metrics_sample(t, name, (double)a->caps.refused, "interface", a->name, "reason",
		    "hard-cap", NULL);
		metrics_sample(
		    t, name, (double)a->denied, "interface", a->name, "reason", "denied", NULL);
	}
}

static void
say_errors(const struct acceptors *all, struct text *t)
{
	const char *name = "ccfnet_interface_http_errors_total";
	const struct acceptor *a;

	metrics_family(t, name, "counter",
	    "Connections closed because of a request, by CCF's class, as the consumer said.");
	TAILQ_FOREACH(a, &all->list, link)
		for (unsigned e = 0; e < ACCEPT_ERRORS; e++)
			metrics_sample(t, name, (double)a->errors[e], "interface", a->name, "class",
			    accept_error_word(e), NULL);
}

void
acceptors_metrics(const struct acceptors *all, struct text *t)
{
	static const enum metric which[] = { METRIC_TAKEN, METRIC_LIVE, METRIC_PEAK, METRIC_CAPPED,
		METRIC_REFUSED, METRIC_CLOSED, METRIC_BYTES, METRIC_CONN_TIME, METRIC_HTTP_ERRORS,
		METRIC_COMMANDS, METRIC_LINES };
	const struct acceptor *a;

	metric_set(METRIC_LIVE, all->active);
	metric_set(METRIC_PEAK, all->peak);
	metrics_print(t, metrics_here(), which, sizeof(which) / sizeof(which[0]));
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		const struct family *f = &families[i];

		metrics_family(t, f->name, f->type, f->help);
		TAILQ_FOREACH(a, &all->list, link)
			metrics_sample(t, f->name, f->value(a), "interface", a->name, NULL);
	}
	say_refused(all, t);
	say_errors(all, t);
}

/* ---- GET /node/metrics ---- */

static void
say_interface(const struct acceptor *a, struct text *t)
{
	text_json(t, a->name, strlen(a->name));
	text_add(t,
	    ":{\"active\":%u,\"peak\":%u,\"soft_cap\":%u,\"hard_cap\":%u,\"errors\":{\"parsing\":%"
	    "llu,"
	    "\"request_payload_too_large\":%llu,\"request_header_too_large\":%llu}}",
	    a->caps.open, a->caps.peak, a->caps.soft, a->caps.hard,
	    (unsigned long long)a->errors[ACCEPT_PARSING],
	    (unsigned long long)a->errors[ACCEPT_PAYLOAD],
	    (unsigned long long)a->errors[ACCEPT_HEADER]);
}

void
acceptors_node_metrics(const struct acceptors *all, struct text *t)
{
	const struct acceptor *a;

	text_add(
	    t, "{\"sessions\":{\"active\":%u,\"peak\":%u,\"interfaces\":{", all->active, all->peak);
	TAILQ_FOREACH(a, &all->list, link) {
		if (a != TAILQ_FIRST(&all->list))
			text_bytes(t, ",", 1);
		say_interface(a, t);
	}
	text_add(t, "}}}\n");
}
