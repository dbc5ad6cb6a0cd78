#include "wire/event.h"

#include <inttypes.h>
#include <string.h>

#include "base/text.h"
#include "wire/command.h"

static void
add(struct event *e, const char *s)
{
	text_bytes(e->text, s, strlen(s));
}

/* What stands before a value, or a fact. */
static void
add_key(struct event *e, const char *key, bool fact)
{
	if (e->json)
		text_add(e->text, ",\"%s\":", key);
	else
		text_add(e->text, fact ? " %s=" : " ", key);
}

static bool
is_printable(char c)
{
	return c >= ' ' && c < 0x7f;
}

/* What is no printable ASCII, the space, and what `also` has, as %XX. */
static void
add_escaped(struct event *e, const char *s, const char *also)
{
	while (*s) {
		size_t n = 0;

		while (is_printable(s[n]) && s[n] != ' ' && !strchr(also, s[n]))
			n++;
		text_bytes(e->text, s, n);
		s += n;
		if (*s)
			text_add(e->text, "%%%02X", (unsigned char)*s++);
	}
}

static void
add_string(struct event *e, const char *s)
{
	if (e->json)
		text_json(e->text, s, strlen(s));
	else
		add_escaped(e, s, "");
}

void
event_begin(struct event *e, struct text *text, bool json, const char *name)
{
	*e = (struct event){ .text = text, .json = json };
	text_add(text, json ? "{\"event\":\"%s\"" : "%s", name);
}

/* In an id as it is shown only a backslash needs more to be JSON. */
void
event_id(struct event *e, const char *key, const char *id, size_t len)
{
	struct text shown = { 0 };

	add_key(e, key, false);
	if (!e->json) {
		frame_id_text(e->text, id, len);
		return;
	}
	frame_id_text(&shown, id, len);
	text_json(e->text, shown.at, shown.len);
	e->text->failed = e->text->failed || shown.failed;
	text_free(&shown);
}

void
event_word(struct event *e, const char *key, const char *word)
{
	add_key(e, key, false);
	add_string(e, word);
}

void
event_number(struct event *e, const char *key, uint64_t n)
{
	add_key(e, key, false);
	text_add(e->text, "%" PRIu64, n);
}

void
event_type(struct event *e, uint64_t type)
{
	const char *name = frame_type_name(type), *quote = e->json ? "\"" : "";

	add_key(e, "type", false);
	if (name)
		text_add(e->text, "%s%s%s", quote, name, quote);
	else
		text_add(e->text, "%s%" PRIu64 "%s", quote, type, quote);
}

void
event_fact(struct event *e, const char *key, const char *text)
{
	add_key(e, key, true);
	add_string(e, text);
}

void
event_count(struct event *e, const char *key, uint64_t n)
{
	add_key(e, key, true);
	text_add(e->text, "%" PRIu64, n);
}

void
event_ms(struct event *e, const char *key, int64_t us)
{
	int64_t n = us < 0 ? 0 : us;

	add_key(e, key, true);
	text_add(e->text, "%" PRId64 ".%03" PRId64, n / 1000, n % 1000);
}

void
event_note(struct event *e, const char *key, const char *sentence)
{
	size_t len = strlen(sentence);
	char unit[9];

	if (e->json) {
		add_key(e, key, false);
		text_json(e->text, sentence, len);
		return;
	}
	add(e, ": ");
	while (len) {
		size_t n = text_escape(sentence, len, false, unit);

		add(e, unit);
		sentence += n;
		len -= n;
	}
}

/* ---- payloads ---- */

static void
add_hex(struct event *e, const unsigned char *at, size_t len)
{
	static const char digit[] = "0123456789abcdef";
	char out[1024];
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		out[n++] = digit[at[i] >> 4];
		out[n++] = digit[at[i] & 15];
		if (n == sizeof(out) || i + 1 == len) {
			text_bytes(e->text, out, n);
			n = 0;
		}
	}
}

static void
add_base64(struct event *e, const unsigned char *at, size_t len)
{
	static const char digit[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char out[1024];
	size_t n = 0;

	for (size_t i = 0; i < len; i += 3) {
		size_t left = len - i;
		unsigned bits = (unsigned)at[i] << 16;

		if (left > 1)
			bits |= (unsigned)at[i + 1] << 8;
		if (left > 2)
			bits |= at[i + 2];
		out[n++] = digit[bits >> 18];
		out[n++] = digit[bits >> 12 & 63];
		out[n++] = left > 1 ? digit[bits >> 6 & 63] : '=';
		out[n++] = left > 2 ? digit[bits & 63] : '=';
		if (n == sizeof(out) || left <= 3) {
			text_bytes(e->text, out, n);
			n = 0;
		}
	}
}

static bool
is_plain(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!is_printable(s[i]))
			return false;
	}
	return !command_has_form(s, len);
}

/* What text_json would escape would not come back as the same bytes, or is for no terminal; but for
 * quotes and backslashes, which are printable. */
static bool
is_text(const char *s, size_t len)
{
	char unit[9];

	while (len) {
		size_t n = is_printable(*s) ? 1 : text_escape(s, len, true, unit);

		if (!is_printable(*s) && *unit == '\\')
			return false;
		s += n;
		len -= n;
	}
	return true;
}

void
event_payload(struct event *e, const void *bytes, size_t len)
{
	bool plain = e->json ? is_text(bytes, len) : is_plain(bytes, len);

	if (e->json)
		add_key(e, plain ? "text" : "base64", false);
	else
		add(e, plain ? " " : " hex:");
	if (e->json && plain)
		text_json(e->text, bytes, len);
	else if (plain)
		text_bytes(e->text, bytes, len);
	else if (!e->json)
		add_hex(e, bytes, len);
	else {
		add(e, "\"");
		add_base64(e, bytes, len);
		add(e, "\"");
	}
}

/* A comma is escaped: two at its end could be a range. */
void
event_file(struct event *e, const char *path)
{
	add_key(e, "file", false);
	if (!path)
		add(e, e->json ? "null" : "-");
	else if (e->json)
		text_json(e->text, path, strlen(path));
	else {
		add(e, "file:");
		add_escaped(e, path, "%,");
	}
}

void
event_end(struct event *e)
{
	add(e, e->json ? "}\n" : "\n");
}
