#include "flow/rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "flow/relay.h"
#include "flow/tell.h"

void
rows_from(struct conn_row *row, const struct tell *tell, const char *state)
{
	*row = (struct conn_row){ .age_ms = (clock_us() - tell->since) / 1000, .idle_ms = -1 };
	snprintf(row->conn, sizeof(row->conn), "%s", tell->conn);
	snprintf(row->iface, sizeof(row->iface), "%s", tell->iface);
	snprintf(row->peer, sizeof(row->peer), "%s", tell->peer);
	snprintf(row->state, sizeof(row->state), "%s", state);
}

void
rows_look(struct conn_row *row, const struct relay *relay, int64_t now)
{
	struct relay_view view;

	relay_look(relay, &view);
	row->in = view.in;
	row->out = view.out;
	row->idle_ms = now > view.moved_at ? now - view.moved_at : 0;
	if (row->idle_ms > row->age_ms) /* by another clock's rounding */
		row->idle_ms = row->age_ms;
	row->held = view.held;
}

static void
key_text(struct text *t, const char *key, const char *value)
{
	text_add(t, "\"%s\":", key);
	if (value[0])
		text_json(t, value, strlen(value));
	else
		text_add(t, "null");
	text_add(t, ",");
}

static void
key_seconds(struct text *t, const char *key, int64_t ms, const char *end)
{
	if (ms < 0)
		text_add(t, "\"%s\":null%s", key, end);
	else
		text_add(t, "\"%s\":%" PRId64 ".%03d%s", key, ms / 1000, (int)(ms % 1000), end);
}

static void
key_bytes(struct text *t, const char *key, uint64_t n, bool known)
{
	if (known)
		text_add(t, "\"%s\":%" PRIu64 ",", key, n);
	else
		text_add(t, "\"%s\":null,", key);
}

void
rows_json(struct text *t, const struct conn_row *row, unsigned n)
{
	for (; n; n--, row++) {
		bool here = row->idle_ms >= 0;

		text_add(t, t->len ? ",\n{" : "{");
		key_text(t, "id", row->conn);
		key_text(t, "interface", row->iface);
		key_text(t, "peer", row->peer);
		key_text(t, "state", row->state);
		key_text(t, "tls", row->tls);
		key_bytes(t, "in", row->in, here);
		key_bytes(t, "out", row->out, here);
		key_bytes(t, "held", row->held, here);
		key_seconds(t, "idle", row->idle_ms, ",");
		key_seconds(t, "age", row->age_ms, "}");
	}
}
