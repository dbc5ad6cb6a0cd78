#include "cmd/nodelink_lines.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "cmd/tool.h"
#include "flow/node.h"
#include "flow/outlet.h"
#include "flow/range.h"
#include "wire/decode.h"
#include "wire/event.h"

const char *const lines_words[] = { "text", "json", NULL };
int lines_format;

static struct outlet out;
static void (*told_drained)(void), (*told_empty)(void);

static void
on_drained(void *arg)
{
	(void)arg;
	if (told_drained)
		told_drained();
}

static void
on_empty(void *arg)
{
	(void)arg;
	if (told_empty)
		told_empty();
}

static void
on_gone(void *arg, int error)
{
	(void)arg;
	log_event(LOG_L_ERROR, NULL, "stdout-gone", NULL,
	    "cannot write the events to standard output: %s", strerror(error < 0 ? -error : error));
	tool_end(CCF_STDOUT);
}

void
lines_open(void (*drained)(void))
{
	out.drained = on_drained;
	out.empty = on_empty;
	out.gone = on_gone;
	told_drained = drained;
	if (outlet_open(&out, tool.reactor, 1) < 0)
		tool_die(CCF_SYSTEM, "no memory");
}

bool
lines_full(void)
{
	return outlet_full(&out);
}

void
lines_finish(void (*empty)(void))
{
	told_empty = empty;
	outlet_finish(&out);
}

void
lines_close(void)
{
	outlet_close(&out);
}

static struct event
begin(const char *name)
{
	struct event e;

	event_begin(&e, outlet_line(&out), lines_format == 1, name);
	return e;
}

static void
end(struct event *e)
{
	event_end(e);
	outlet_done(&out);
}

void
lines_message(const struct message *m)
{
	struct event e = begin("message");

	event_id(&e, "from", m->frame.from, m->frame.from_len);
	event_type(&e, m->frame.type);
	event_number(&e, "size", m->frame.payload);
	if (m->payload || m->frame.payload == 0)
		event_payload(&e, m->payload, m->frame.payload);
	else
		event_file(&e, m->range ? m->range->path : NULL);
	end(&e);
}

const char *
lines_why(const struct node_event *n)
{
	if (n->why)
		return n->why;
	if (strcmp(n->reason, "unknown-peer") == 0)
		return "its address is not known: say associate or --peer";
	return n->reason;
}

/* What may have arrived is not dropped. */
static void
lines_drop(const struct node_event *n)
{
	bool unknown = strcmp(n->reason, "unknown") == 0;
	struct event e = begin(unknown ? "unknown" : "dropped");
	const char *why = lines_why(n);

	event_id(&e, "peer", n->id, n->id_len);
	event_number(&e, "count", n->count);
	if (!unknown)
		event_word(&e, "reason", n->reason);
	if (why != n->reason)
		event_note(&e, "why", why);
	end(&e);
}

void
lines_event(const struct node_event *n)
{
	struct event e;

	if (n->kind == NODE_DROP) {
		lines_drop(n);
		return;
	}
	e = begin(n->kind == NODE_UP ? "link up" : "link down");
	if (n->id)
		event_id(&e, "peer", n->id, n->id_len);
	else
		event_word(&e, "peer", "-");
	event_word(&e, "direction", n->dialled ? "out" : "in");
	event_id(
	    &e, "address", *n->address ? n->address : "-", *n->address ? strlen(n->address) : 1);
	if (n->kind == NODE_DOWN) {
		event_word(&e, "reason", n->reason);
		event_count(&e, "delivered", n->fate.delivered);
		event_count(&e, "dropped", n->fate.dropped);
		event_count(&e, "unknown", n->fate.unknown);
		event_count(&e, "kept", n->fate.kept);
		if (n->why)
			event_note(&e, "why", n->why);
	}
	end(&e);
}

void
lines_error(const char *fmt, ...)
{
	struct event e = begin("error");
	char said[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(said, sizeof(said), fmt, ap);
	va_end(ap);
	event_note(&e, "error", said);
	end(&e);
}

void
lines_pong(const char *id, size_t len, int64_t us)
{
	struct event e = begin("pong");

	event_id(&e, "peer", id, len);
	event_ms(&e, "ms", us);
	end(&e);
}

void
lines_no_pong(const char *id, size_t len, const char *why)
{
	struct event e = begin("no pong");

	event_id(&e, "peer", id, len);
	event_note(&e, "why", why);
	end(&e);
}

void
lines_peer(const struct node_peer *p)
{
	struct event e = begin("peer");

	event_id(&e, "peer", p->id, p->id_len);
	event_word(&e, "state", node_peer_state_name(node_peer_state(p)));
	if (p->address)
		event_fact(&e, "address", p->address->name);
	event_count(&e, "sent", p->out.taken);
	event_count(&e, "delivered", p->out.delivered);
	event_count(&e, "dropped", p->out.dropped);
	event_count(&e, "unknown", p->out.unknown);
	event_count(&e, "waiting", p->out.waiting);
	event_count(&e, "resent", p->out.resent);
	event_count(&e, "received", p->messages_in);
	end(&e);
}

void
lines_links(uint64_t n)
{
	struct event e = begin("links");

	event_number(&e, "count", n);
	end(&e);
}

static const char *
name_of(const struct decode_item *item)
{
	return item->what == DECODE_FRAME ? "frame" : item->what == DECODE_CUT ? "cut" : "unframed";
}

static void
frame_event(struct event *e, const char *conn, bool from_client, const struct decode_item *item)
{
	if (conn) {
		event_id(e, "conn", conn, strlen(conn));
		event_word(e, "direction", from_client ? "in" : "out");
	} else {
		event_number(e, "offset", item->offset);
	}
	text_bytes(e->text, e->json ? "," : " ", 1);
	if (e->json)
		decode_json(e->text, item);
	else
		decode_text(e->text, item);
}

void
lines_frame(const char *conn, bool from_client, const struct decode_item *item)
{
	struct event e = begin(name_of(item));

	frame_event(&e, conn, from_client, item);
	end(&e);
}

void
lines_print_frame(struct text *t, const struct decode_item *item)
{
	struct event e;

	event_begin(&e, t, lines_format == 1, name_of(item));
	frame_event(&e, NULL, false, item);
	event_end(&e);
}
