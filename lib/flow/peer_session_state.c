/* flow/peer_session_state - what sessions say of themselves on the control socket, and what of them
 * crosses an exec. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/metrics.h"
#include "base/text.h"
#include "flow/peer_session_parts.h"
#include "flow/rows.h"
#include "net/socket.h"
#include "wire/record.h"

static const struct peer_session *
session_of(const struct peer *p)
{
	return (const struct peer_session *)((const char *)p - offsetof(struct peer_session, peer));
}

/* ---- GET /connections ---- */

void
peer_sessions_rows(const struct peer_sessions *all, struct text *t)
{
	const struct peer_session *s;
	struct conn_row row;
	int64_t held; /* what waits for the COMMAND */

	TAILQ_FOREACH(s, &all->open, link) {
		rows_from(&row, &s->tell, s->state == SESSION_DRAINING ? "draining" : "open");
		row.in = s->in;
		row.out = s->out;
		row.idle_ms = reactor_now(all->cfg.reactor) - s->peer.seen;
		if (row.idle_ms > row.age_ms) /* by another clock's rounding */
			row.idle_ms = row.age_ms;
		held = socket_unsent(s->fd);
		row.held = held < 0 ? 0 : (uint64_t)held;
		rows_json(t, &row, 1);
	}
}

/* ---- GET /metrics ---- */

static double
active(const struct receiver *r)
{
	return r->caps.open;
}

static double
peak(const struct receiver *r)
{
	return r->caps.peak;
}

static double
hard(const struct receiver *r)
{
	return r->caps.hard;
}

static double
accepted(const struct receiver *r)
{
	return (double)r->caps.accepted;
}

static const struct family {
	const char *name, *type, *help;
	double (*value)(const struct receiver *);
} families[] = {
	{ "ccfnet_interface_active", "gauge", "Sessions that are open.", active },
	{ "ccfnet_interface_peak", "gauge", "The most there ever were at once.", peak },
	{ "ccfnet_interface_hard_cap", "gauge", "Above it what new peers send is dropped.", hard },
	{ "ccfnet_interface_accepted_total", "counter", "Sessions begun.", accepted },
};

void
peer_sessions_metrics(const struct peer_sessions *all, struct text *t)
{
	static const enum metric which[] = { METRIC_TAKEN, METRIC_LIVE, METRIC_PEAK, METRIC_REFUSED,
		METRIC_CLOSED, METRIC_BYTES, METRIC_CONN_TIME, METRIC_COMMANDS };
	const char *refused = "ccfnet_interface_refused_total";
	const struct receiver *r;

	metrics_print(t, metrics_here(), which, sizeof(which) / sizeof(which[0]));
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		const struct family *f = &families[i];

		metrics_family(t, f->name, f->type, f->help);
		TAILQ_FOREACH(r, &all->cfg.receivers->list, link)
			metrics_sample(t, f->name, f->value(r), "interface", r->name, NULL);
	}
	metrics_family(t, refused, "counter", "Datagrams of new peers dropped, by reason.");
	TAILQ_FOREACH(r, &all->cfg.receivers->list, link)
		metrics_sample(t, refused, (double)r->caps.refused, "interface", r->name, "reason",
		    "hard-cap", NULL);
}

/* ---- GET /node/metrics ---- */

/* There is no soft cap over UDP, and nothing that could be malformed; but each field is there. */
void
peer_sessions_node_metrics(const struct peer_sessions *all, struct text *t)
{
	const struct receiver *r;

	text_add(t, "{\"sessions\":{\"active\":%u,\"peak\":%" PRIu64 ",\"interfaces\":{",
	    all->n_open, metric_get(metrics_here(), METRIC_PEAK, NULL));
	TAILQ_FOREACH(r, &all->cfg.receivers->list, link) {
		if (r != TAILQ_FIRST(&all->cfg.receivers->list))
			text_bytes(t, ",", 1);
		text_json(t, r->name, strlen(r->name));
		text_add(t,
		    ":{\"active\":%u,\"peak\":%u,\"soft_cap\":%u,\"hard_cap\":%u,"
		    "\"errors\":{\"parsing\":0,\"request_payload_too_large\":0,"
		    "\"request_header_too_large\":0}}",
		    r->caps.open, r->caps.peak, r->caps.soft, r->caps.hard);
	}
	text_add(t, "}}}\n");
}

/* ---- across an exec: the clock goes on, and so does each deadline ---- */

static void
save_one(const struct peer_session *s, struct text *t)
{
	bool open = s->fd != -1;

	record_begin(t, open ? "session" : "leaving");
	record_number(t, "pid", s->child.pid);
	record_text(t, "interface", s->from->name);
	record_text(t, "id", s->tell.conn);
	record_text(t, "peer", s->tell.peer);
	record_number(t, "since", s->tell.since);
	record_number(t, "in", (int64_t)s->in);
	record_number(t, "out", (int64_t)s->out);
	if (open) {
		record_number(t, "fd", s->fd);
		record_bytes(t, "remote", &s->to.peer.ss, s->to.peer.len);
		record_bytes(t, "local", &s->to.local, sizeof(s->to.local));
		record_number(t, "ifindex", s->to.ifindex);
		record_number(t, "charged", (int64_t)s->charged);
		record_number(t, "answered", s->answered);
		record_number(t, "shown", s->shown);
		record_number(t, "draining", s->state == SESSION_DRAINING);
		record_number(t, "seen", s->peer.seen);
	} else {
		record_number(t, "told", s->state == SESSION_LEAVING);
		record_number(t, "pressed", s->pressed);
		record_number(t, "due", s->due);
	}
	record_end(t);
}

/* Those that are open in the order in which they were heard of. */
int
peer_sessions_save(const struct peer_sessions *all, struct text *t)
{
	const struct peer_session *s;
	const struct receiver *r;
	const struct peer *p;

	TAILQ_FOREACH(r, &all->cfg.receivers->list, link)
		TAILQ_FOREACH(p, &r->peers.order, order)
			save_one(session_of(p), t);
	TAILQ_FOREACH(s, &all->leaving, link)
		save_one(s, t);
	return t->failed ? -ENOMEM : 0;
}

/* A number of a line, or the first that is wrong with it. */
static int64_t
number(const struct record *line, const char *name, int64_t max, const char **wrong)
{
	int64_t n = 0;

	if (record_get_number(line, name, 0, max, &n) < 0 && !*wrong)
		*wrong = name;
	return n;
}

static void
word(const struct record *line, const char *name, char *to, size_t cap, const char **wrong)
{
	const char *value = record_get(line, name);

	if (!value || strlcpy(to, value, cap) >= cap)
		*wrong = name;
}

static void
restore_common(struct peer_session *s, const struct record *line, const char **wrong)
{
	const char *name = record_get(line, "interface");

	s->from = name ? receivers_find(s->all->cfg.receivers, name) : NULL;
	if (!s->from)
		*wrong = "interface";
	else
		strlcpy(s->tell.iface, name, sizeof(s->tell.iface));
	word(line, "id", s->tell.conn, sizeof(s->tell.conn), wrong);
	word(line, "peer", s->tell.peer, sizeof(s->tell.peer), wrong);
	s->tell.since = number(line, "since", INT64_MAX, wrong);
	s->in = (uint64_t)number(line, "in", INT64_MAX, wrong);
	s->out = (uint64_t)number(line, "out", INT64_MAX, wrong);
	s->child.pid = (pid_t)number(line, "pid", INT_MAX, wrong);
	if (s->child.pid < 1)
		*wrong = "pid";
}

static void
restore_address(struct peer_session *s, const struct record *line, const char **wrong)
{
	struct sockaddr_any *peer = &s->to.peer;
	int len = record_get_bytes(line, "remote", &peer->ss, sizeof(peer->ss));

	peer->len = len > 0 ? (socklen_t)len : 0;
	if (!(peer->sa.sa_family == AF_INET && len == sizeof(peer->in)) &&
	    !(peer->sa.sa_family == AF_INET6 && len == sizeof(peer->in6)))
		*wrong = "remote";
	if (record_get_bytes(line, "local", &s->to.local, sizeof(s->to.local)) !=
	    sizeof(s->to.local))
		*wrong = "local";
	s->to.ifindex = (unsigned)number(line, "ifindex", INT_MAX, wrong);
	peer_key_of(&s->peer.key, &s->to);
}

static void
restore_open(struct peer_session *s, const struct record *line, const char **wrong)
{
	struct peer_sessions *all = s->all;
	bool draining = number(line, "draining", 1, wrong);
	int64_t seen = number(line, "seen", INT64_MAX, wrong);

	s->charged = (uint64_t)number(line, "charged", INT64_MAX, wrong);
	s->answered = number(line, "answered", 1, wrong);
	s->shown = number(line, "shown", 1, wrong);
	s->fd = (int)number(line, "fd", INT_MAX, wrong);
	restore_address(s, line, wrong);
	if (socket_kind(s->fd) != SOCK_SEQPACKET)
		*wrong = "fd";
	if (*wrong)
		return;
	if (peers_enter(&s->from->peers, &s->peer, seen) < 0) {
		*wrong = "remote";
		return;
	}
	if (++s->from->caps.open > s->from->caps.peak) /* it was accepted before the exec */
		s->from->caps.peak = s->from->caps.open;
	children_adopt(all->cfg.children, &s->child, s->child.pid, peer_session_exited);
	peer_session_enter(s, draining ? SESSION_DRAINING : SESSION_OPEN);
}

static void
restore_leaving(struct peer_session *s, const struct record *line, const char **wrong)
{
	bool told = number(line, "told", 1, wrong);

	s->fd = -1;
	s->pressed = number(line, "pressed", 1, wrong);
	s->due = number(line, "due", INT64_MAX, wrong);
	if (*wrong)
		return;
	children_adopt(s->all->cfg.children, &s->child, s->child.pid, peer_session_exited);
	if (told)
		peer_session_enter(s, SESSION_LEAVING);
	else
		peer_session_closed(s);
}

int
peer_sessions_restore(struct peer_sessions *all, const struct record *line, char *msg, size_t cap)
{
	struct peer_session *s = calloc(1, sizeof(*s));
	const char *wrong = NULL;

	if (!s) {
		snprintf(msg, cap, "no memory");
		return CCF_SYSTEM;
	}
	s->all = all;
	restore_common(s, line, &wrong);
	if (strcmp(line->word, "session") == 0)
		restore_open(s, line, &wrong);
	else if (strcmp(line->word, "leaving") == 0)
		restore_leaving(s, line, &wrong);
	else
		wrong = "the word";
	if (!wrong) {
		peer_sessions_arm(all);
		return 0;
	}
	snprintf(msg, cap, "%s %s: %s is missing or wrong", line->word, s->tell.conn, wrong);
	free(s);
	return CCF_SYSTEM;
}
