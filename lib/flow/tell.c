#include "flow/tell.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/log.h"
#include "base/metrics.h"

void
tell_from(struct tell *t, const struct env *env)
{
	const char *id = env_get(env, "CCF_CONN_ID"), *iface = env_get(env, "CCF_INTERFACE");
	const char *ip = env_get(env, "TCPREMOTEIP"), *port = env_get(env, "TCPREMOTEPORT");

	if (!ip) {
		ip = env_get(env, "UDPREMOTEIP");
		port = env_get(env, "UDPREMOTEPORT");
	}
	snprintf(t->conn, sizeof(t->conn), "%s", id ? id : "");
	snprintf(t->iface, sizeof(t->iface), "%s", iface ? iface : "");
	if (ip && port)
		snprintf(t->peer, sizeof(t->peer), strchr(ip, ':') ? "[%.64s]:%.8s" : "%.64s:%.8s",
		    ip, port);
	else
		t->peer[0] = '\0';
	t->since = clock_us();
}

struct log_who
tell_who(const struct tell *t)
{
	return (struct log_who){
		.conn = t->conn[0] ? t->conn : NULL,
		.iface = t->iface[0] ? t->iface : NULL,
		.peer = t->peer[0] ? t->peer : NULL,
	};
}

void
tell_open(const struct tell *t, const char *what)
{
	struct log_who who = tell_who(t);

	log_event(LOG_L_INFO, &who, "open", NULL, "%s", what);
}

void
tell_closed(
    const struct tell *t, const char *reason, int status, const char *by, uint64_t in, uint64_t out)
{
	struct log_who who = tell_who(t);
	int64_t us = clock_us() - t->since;
	enum log_level level = t->hushed	       ? LOG_L_DEBUG
			       : t->loud && status > 0 ? LOG_L_ERROR
						       : LOG_L_INFO;
	char said[32] = "";
	struct log_fact facts[] = {
		{ .key = "reason", .text = reason },
		{ .key = "by", .text = by },
		{ .key = "status", .num = status },
		{ .key = "in", .num = (int64_t)in },
		{ .key = "out", .num = (int64_t)out },
		{ .key = "us", .num = us },
		{ .key = t->why ? "why" : NULL, .text = t->why },
		{ 0 },
	};

	metric_add(METRIC_CLOSED, reason, 1);
	metric_add(METRIC_BYTES, "in", in);
	metric_add(METRIC_BYTES, "out", out);
	if (t->since)
		metric_time(METRIC_CONN_TIME, us);
	if (status > 0)
		snprintf(said, sizeof(said), ", status %d", status);
	log_event(level, &who, "close", facts,
	    "closed: %s, by %s, %" PRIu64 " bytes in, %" PRIu64 " out, after %" PRId64
	    ".%03d s%s%s%s",
	    reason, by, in, out, us / 1000000, (int)(us % 1000000 / 1000), said, t->why ? ": " : "",
	    t->why ? t->why : "");
}
