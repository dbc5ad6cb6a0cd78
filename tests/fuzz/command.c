/* Lines of commands from anybody: what is taken lies inside the line and, shown as an event shows
 * it, is taken as the same.  The same bytes as an id, a path and a payload come back from the
 * event that shows them, as words and as JSON. */
#include "wire/command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "wire/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
	if (!holds)
		abort();
}

static bool
same(const void *a, size_t a_len, const void *b, size_t b_len)
{
	return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

/* The line in memory that ends where it may be written no more, with a byte that is not part of it;
 * the caller's. */
static char *
copy(const void *bytes, size_t len)
{
	char *line = malloc(len + 1);

	must(line != NULL);
	if (len)
		memcpy(line, bytes, len);
	line[len] = '0';
	return line;
}

/* ---- a line ---- */

static void
check_inside(const struct command *c, const char *line, size_t len)
{
	const char *at = line;

	must(c->n_parts <= COMMAND_PARTS);
	for (unsigned i = 0; i < c->n_parts; i++) {
		const struct command_part *p = &c->part[i];
		const char *from = p->bytes ? p->bytes : p->path;
		size_t n = p->bytes ? p->len : strlen(p->path);

		must(!p->bytes != !p->path);
		must(from >= at && n <= len && from + n <= line + len);
		must(p->bytes || (n > 0 && p->offset >= 0 && p->length >= -1));
		must(p->bytes || p->length <= INT64_MAX - p->offset);
		at = from + n;
	}
	if (c->verb == COMMAND_ASSOCIATE)
		must(c->address > line && c->address + strlen(c->address) <= line + len &&
		     *c->address && !strchr(c->address, ' '));
	must(c->verb == COMMAND_LINKS ? c->id_len == 0 : c->id_len - 1 < FRAME_ID_MAX);
}

static void
show_part(struct event *e, const struct command_part *p)
{
	if (!p->bytes) {
		event_file(e, p->path);
		if (p->length >= 0)
			text_add(e->text, ",%lld,%lld", (long long)p->offset, (long long)p->length);
		return;
	}
	text_add(e->text, " hex:");
	for (size_t i = 0; i < p->len; i++)
		text_add(e->text, "%02X", (unsigned char)p->bytes[i]);
}

static void
check_again(const struct command *c)
{
	static const char *const verb[] = { "associate", "send", "close", "ping", "links" };
	static struct command back;
	struct text t = { 0 };
	struct event e;
	char msg[64];

	event_begin(&e, &t, false, verb[c->verb]);
	if (c->verb != COMMAND_LINKS)
		event_id(&e, "id", c->id, c->id_len);
	if (c->verb == COMMAND_ASSOCIATE)
		text_add(&t, " %s", c->address);
	if (c->verb == COMMAND_SEND)
		event_type(&e, c->type);
	for (unsigned i = 0; i < c->n_parts; i++)
		show_part(&e, &c->part[i]);
	event_end(&e);
	t.len--;
	must(!t.failed && command_parse(&back, t.at, t.len, msg, sizeof(msg)) == 0);
	must(back.verb == c->verb && back.type == c->type && back.n_parts == c->n_parts);
	must(same(back.id, back.id_len, c->id, c->id_len));
	must(c->verb != COMMAND_ASSOCIATE || strcmp(back.address, c->address) == 0);
	for (unsigned i = 0; i < c->n_parts; i++) {
		const struct command_part *p = &c->part[i], *q = &back.part[i];

		must(!p->bytes == !q->bytes && same(p->bytes, p->len, q->bytes, q->len));
		must(p->bytes || strcmp(p->path, q->path) == 0);
		must(p->offset == q->offset && p->length == q->length);
	}
	text_free(&t);
}

static void
check_line(const char *bytes, size_t len)
{
	static struct command c;
	char *line = copy(bytes, len), msg[64] = "";
	int rc;

	memset(&c, 0x5a, sizeof(c));
	rc = command_parse(&c, line, len, msg, sizeof(msg));
	must(rc == 0 || rc == 1 || rc == -EINVAL);
	must((rc == -EINVAL) == (*msg != '\0') && memchr(msg, '\0', sizeof(msg)));
	must(rc == 0 || c.n_parts == 0x5a5a5a5a);
	if (rc == 0) {
		check_inside(&c, line, len);
		check_again(&c);
	}
	free(line);
}

/* ---- events ---- */

/* The bytes that a JSON string at *s means, to where it stood; strict; *s behind it. */
static size_t
read_json(char **s)
{
	char *start = *s, *from = start, *to = start;

	must(*from++ == '"');
	while (*from != '"') {
		must((unsigned char)*from >= 0x20 && *from != 0x7f);
		if (*from == '\\') {
			from++;
			must(*from == '"' || *from == '\\');
		}
		*to++ = *from++;
	}
	*s = from + 1;
	return (size_t)(to - start);
}

static void
check_payload(const char *bytes, size_t len)
{
	static struct command c;
	struct text t = { 0 };
	struct event e;
	char msg[64];

	event_begin(&e, &t, false, "send n ping");
	event_payload(&e, bytes, len);
	must(!t.failed && t.len < EVENT_ROOM_MAX(len));
	must(command_parse(&c, t.at, t.len, msg, sizeof(msg)) == 0 && c.n_parts == (len > 0));
	must(len == 0 || (c.part[0].bytes && same(c.part[0].bytes, c.part[0].len, bytes, len)));
	text_free(&t);
}

static void
check_json(const char *bytes, size_t len)
{
	static const char text[] = "{\"event\":\"m\",\"text\":",
			  base64[] = "{\"event\":\"m\",\"base64\":";
	static struct command c;
	struct text t = { 0 };
	struct event e;
	char *s, *at, msg[64];

	event_begin(&e, &t, true, "m");
	event_payload(&e, bytes, len);
	event_end(&e);
	must(!t.failed && t.len < EVENT_ROOM_MAX(len));
	if (strncmp(t.at, text, sizeof(text) - 1) == 0) {
		s = at = t.at + sizeof(text) - 1;
		must(same(at, read_json(&s), bytes, len) && strcmp(s, "}\n") == 0);
	} else {
		must(strncmp(t.at, base64, sizeof(base64) - 1) == 0);
		s = t.at + sizeof(base64) - 1;
		must(*s == '"' && strcmp(t.at + t.len - 3, "\"}\n") == 0);
		/* The member, made the end of a command. */
		at = s + 1 - strlen("send n 0 base64:");
		memcpy(at, "send n 0 base64:", strlen("send n 0 base64:"));
		must(command_parse(&c, at, (size_t)(t.at + t.len - 3 - at), msg, sizeof(msg)) == 0);
		must(same(c.part[0].bytes, c.part[0].len, bytes, len));
	}
	text_free(&t);
}

static void
check_id(const char *bytes, size_t len)
{
	static struct command c;
	struct text t = { 0 };
	struct event e;
	char msg[64];

	event_begin(&e, &t, false, "close");
	event_id(&e, "id", bytes, len);
	must(!t.failed && command_parse(&c, t.at, t.len, msg, sizeof(msg)) == 0);
	must(same(c.id, c.id_len, bytes, len));
	text_free(&t);
}

static void
check_path(const char *bytes, size_t len)
{
	static struct command c;
	struct text t = { 0 };
	struct event e;
	char *path = copy(bytes, len), msg[64];

	path[len] = '\0';
	event_begin(&e, &t, false, "send n 0");
	event_file(&e, path);
	must(!t.failed && command_parse(&c, t.at, t.len, msg, sizeof(msg)) == 0);
	must(c.n_parts == 1 && !c.part[0].bytes && strcmp(c.part[0].path, path) == 0);
	must(c.part[0].offset == 0 && c.part[0].length == -1);
	text_free(&t);
	free(path);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *bytes = (const char *)data;
	size_t path = strnlen(bytes, size);

	check_line(bytes, size);
	check_payload(bytes, size);
	check_json(bytes, size);
	if (size)
		check_id(bytes, size < FRAME_ID_MAX ? size : FRAME_ID_MAX);
	if (path)
		check_path(bytes, path);
	return 0;
}
