#include "wire/command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

#define FORMS  "text:WORDS, hex:00ff, base64:AP8= or file:PATH[,OFFSET,LENGTH]"
#define QUOTED 40 /* bytes of the line that a sentence shows */
#define QUOTE  (QUOTED + 9)

static const struct verb {
	const char *word, *form;
} verbs[] = {
	[COMMAND_ASSOCIATE] = { "associate", "associate ID ADDRESS" },
	[COMMAND_SEND] = { "send", "send ID TYPE PAYLOAD" },
	[COMMAND_CLOSE] = { "close", "close ID" },
	[COMMAND_PING] = { "ping", "ping ID" },
	[COMMAND_LINKS] = { "links", "links" },
};
#define VERBS (sizeof(verbs) / sizeof(verbs[0]))

struct word { /* of the line */
	char *at;
	size_t len;
};

struct reader {
	char *at, *end; /* what is left; without a CR */
	char *last;	/* the end with it */
	const struct verb *verb;
	char *msg;
	size_t cap;
};

/* ---- what is wrong ---- */

__attribute__((format(printf, 2, 3))) static void
say(const struct reader *r, const char *fmt, ...)
{
	int n = r->verb ? snprintf(r->msg, r->cap, "%s: ", r->verb->word) : 0;
	va_list ap;

	if (n < 0 || (size_t)n >= r->cap)
		return;
	va_start(ap, fmt);
	vsnprintf(r->msg + n, r->cap - (size_t)n, fmt, ap);
	va_end(ap);
}

#define wrong(...) (say(__VA_ARGS__), -EINVAL) /* an analyzer sees what it returns */

static bool
continues(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* The word, or what of it lies around its byte i, no character of it cut. */
static const char *
quote(char to[QUOTE], struct word w, size_t i)
{
	size_t from = i >= QUOTED ? i - QUOTED / 2 : 0, len;

	while (from > 0 && from < i && continues(w.at[from]))
		from++;
	len = w.len - from < QUOTED ? w.len - from : QUOTED;
	while (len > 1 && from + len < w.len && continues(w.at[from + len]))
		len--;
	snprintf(to, QUOTE, "%s\"%.*s\"%s", from ? "..." : "", (int)len, w.at + from,
	    from + len < w.len ? "..." : "");
	return to;
}

static const char *
byte_name(char to[16], char c)
{
	snprintf(to, 16, c > ' ' && c < 0x7f ? "%c" : "byte 0x%02x", (unsigned char)c);
	return to;
}

/* ---- words ---- */

static struct word
cut_word(struct reader *r, char *at)
{
	char *space = memchr(at, ' ', (size_t)(r->end - at));

	r->at = space ? space : r->end;
	return (struct word){ at, (size_t)(r->at - at) };
}

static int
next_word(struct reader *r, const char *what, const char *form, struct word *ret)
{
	struct word w;

	if (r->at == r->end || r->at + 1 == r->end)
		return wrong(r, "no %s: write %s", what, form);
	w = cut_word(r, r->at + 1);
	if (w.len == 0)
		return wrong(r, "two spaces before the %s, where one stands: write %s", what, form);
	if (memchr(w.at, '\0', w.len))
		return wrong(r, "a NUL in the %s: write %s", what, form);
	*ret = w;
	return 0;
}

static int
no_more(const struct reader *r)
{
	struct word w = { r->at + 1, (size_t)(r->end - r->at) };
	char said[QUOTE];

	if (w.len == 0)
		return 0;
	w.len--;
	if (w.len == 0)
		return wrong(r, "a space at the end: write %s", r->verb->form);
	return wrong(r, "%s is too much: write %s", quote(said, w, 0), r->verb->form);
}

static int
read_verb(struct reader *r, enum command_verb *ret)
{
	struct word w = cut_word(r, r->at);
	char said[QUOTE];

	for (size_t i = 0; i < VERBS; i++) {
		if (strlen(verbs[i].word) == w.len && memcmp(verbs[i].word, w.at, w.len) == 0) {
			r->verb = &verbs[i];
			*ret = (enum command_verb)i;
			return 0;
		}
	}
	return wrong(r, "%s is no command: write associate, send, close, ping or links",
	    w.len ? quote(said, w, 0) : "a space");
}

/* Whether an escape stands at s[i]. */
static bool
is_escape(const char *s, size_t len, size_t i)
{
	return s[i] == '%' && len - i > 2 && text_hex(s[i + 1]) >= 0 && text_hex(s[i + 2]) >= 0;
}

static int
wrong_id(const struct reader *r, struct word w)
{
	char said[QUOTE], name[16];
	size_t n = 0;

	for (size_t i = 0; i < w.len; i++, n++) {
		if (is_escape(w.at, w.len, i))
			i += 2;
		else if (w.at[i] <= ' ' || w.at[i] >= 0x7f || strchr("%=\"", w.at[i]))
			return wrong(r, "%s is no ID: write %%%02X for %s", quote(said, w, i),
			    (unsigned char)w.at[i], byte_name(name, w.at[i]));
	}
	return wrong(r, "an ID of %zu bytes: %d are the most", n, FRAME_ID_MAX);
}

static int
read_id(struct reader *r, struct command *c)
{
	struct word w;
	ssize_t len;
	int rc = next_word(r, "ID", r->verb->form, &w);

	if (rc < 0)
		return rc;
	len = frame_id_parse(c->id, w.at, w.len);
	if (len < 0)
		return wrong_id(r, w);
	c->id_len = (size_t)len;
	return 0;
}

static int
read_address(struct reader *r, struct command *c)
{
	struct word w;
	int rc = next_word(r, "ADDRESS", r->verb->form, &w);

	if (rc == 0)
		rc = no_more(r);
	if (rc < 0)
		return rc;
	w.at[w.len] = '\0';
	c->address = w.at;
	return 0;
}

static int
read_type(struct reader *r, struct command *c)
{
	char said[QUOTE];
	struct word w;
	int rc = next_word(r, "TYPE", r->verb->form, &w);

	if (rc == 0 && frame_type_parse(w.at, w.len, &c->type) < 0)
		rc = wrong(r,
		    "%s is no TYPE: write channel, consensus, forwarded, ping, or a number such as "
		    "7 or 0x7",
		    quote(said, w, 0));
	return rc;
}

/* ---- payloads ---- */

/* Each looks at the whole part before it decodes it where it stands, so that a sentence shows what
 * was written.  skip: the bytes of its prefix. */

static int
read_escaped(const struct reader *r, struct word w, size_t skip, struct word *ret)
{
	char said[QUOTE], *to = w.at + skip;

	for (size_t i = skip; i < w.len; i++) {
		if (w.at[i] == '%' && !is_escape(w.at, w.len, i))
			return wrong(r, "%s: write %%25 for %%", quote(said, w, i));
	}
	for (size_t i = skip; i < w.len; i++) {
		if (w.at[i] == '%') {
			*to++ = (char)(text_hex(w.at[i + 1]) << 4 | text_hex(w.at[i + 2]));
			i += 2;
		} else
			*to++ = w.at[i];
	}
	*ret = (struct word){ w.at + skip, (size_t)(to - w.at) - skip };
	return 0;
}

static int
read_text(const struct reader *r, struct word w, size_t skip, struct command_part *part)
{
	struct word bytes;
	int rc = read_escaped(r, w, skip, &bytes);

	if (rc == 0)
		*part = (struct command_part){ .bytes = bytes.at, .len = bytes.len };
	return rc;
}

static int
read_hex(const struct reader *r, struct word w, size_t skip, struct command_part *part)
{
	char said[QUOTE], name[16], *to = w.at + skip;

	for (size_t i = skip; i < w.len; i++) {
		if (text_hex(w.at[i]) < 0)
			return wrong(r, "%s: %s is no hex digit", quote(said, w, i),
			    byte_name(name, w.at[i]));
	}
	if ((w.len - skip) % 2)
		return wrong(r, "%s: write two hex digits for each byte", quote(said, w, w.len));
	for (size_t i = skip; i < w.len; i += 2)
		*to++ = (char)(text_hex(w.at[i]) << 4 | text_hex(w.at[i + 1]));
	*part = (struct command_part){ .bytes = w.at + skip, .len = (size_t)(to - w.at) - skip };
	return 0;
}

static int
digit64(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 section 4, as strict as its section 3.5 may be; n: without the padding. */
static int
check_base64(const struct reader *r, struct word w, size_t skip, size_t n)
{
	static const char *const pads[] = { "", "", "==", "=" };
	size_t rest = (n - skip) % 4, padding = w.len - n;
	char said[QUOTE], name[16];

	for (size_t i = skip; i < n; i++) {
		if (digit64(w.at[i]) < 0)
			return wrong(r, "%s: %s is no base64 digit: write A-Z a-z 0-9 + /",
			    quote(said, w, i), byte_name(name, w.at[i]));
	}
	if (rest == 1)
		return wrong(r, "%s: a base64 digit is missing", quote(said, w, w.len));
	if (padding && (rest == 0 || padding != 4 - rest))
		return wrong(r, "%s: write %s at its end", quote(said, w, w.len),
		    rest ? pads[rest] : "no =");
	if (rest && digit64(w.at[n - 1]) & (rest == 2 ? 15 : 3))
		return wrong(r, "%s: its last digit, %c, has bits that belong to no byte",
		    quote(said, w, w.len), w.at[n - 1]);
	return 0;
}

static int
read_base64(const struct reader *r, struct word w, size_t skip, struct command_part *part)
{
	char *to = w.at + skip;
	size_t n = w.len;
	unsigned bits = 0;
	int have = 0, rc;

	while (n > skip && w.at[n - 1] == '=')
		n--;
	rc = check_base64(r, w, skip, n);
	if (rc < 0)
		return rc;
	for (size_t i = skip; i < n; i++) {
		bits = (bits << 6 | (unsigned)digit64(w.at[i])) & 0xfff;
		have += 6;
		if (have >= 8) {
			have -= 8;
			*to++ = (char)(bits >> have);
		}
	}
	*part = (struct command_part){ .bytes = w.at + skip, .len = (size_t)(to - w.at) - skip };
	return 0;
}

/* 1: digits; 0: something else; -ERANGE. */
static int
read_digits(const char *at, const char *end, int64_t *ret)
{
	int64_t n = 0;
	bool large = false;

	for (const char *s = at; s < end; s++) {
		if (*s < '0' || *s > '9')
			return 0;
		large = large || n > (INT64_MAX - (*s - '0')) / 10;
		n = large ? n : n * 10 + (*s - '0');
	}
	if (large)
		return -ERANGE;
	*ret = n;
	return at < end;
}

/* The range at the end of w, which is shortened by it, if there is one. */
static int
read_range(const struct reader *r, struct word *w, struct command_part *part)
{
	char *end = w->at + w->len, *second = memrchr(w->at, ',', w->len), *first;
	char said[QUOTE];
	int offset, length;

	first = second ? memrchr(w->at, ',', (size_t)(second - w->at)) : NULL;
	if (!first)
		return 0;
	offset = read_digits(first + 1, second, &part->offset);
	length = read_digits(second + 1, end, &part->length);
	if (offset == 0 || length == 0) {
		part->offset = 0;
		part->length = -1;
		return 0;
	}
	if (offset < 0 || length < 0 || part->offset > INT64_MAX - part->length)
		return wrong(r,
		    "%s: no file has such a range: write file:PATH,OFFSET,LENGTH, in bytes",
		    quote(said, *w, w->len));
	w->len = (size_t)(first - w->at);
	return 0;
}

static int
read_file(const struct reader *r, struct word w, size_t skip, struct command_part *part)
{
	struct command_part p = { .length = -1 };
	struct word path, whole = w;
	char said[QUOTE];
	int rc = read_range(r, &w, &p);

	if (rc == 0 && w.len == skip)
		rc = wrong(r, "%s: no path: write file:PATH or file:PATH,OFFSET,LENGTH",
		    quote(said, whole, 0));
	if (rc == 0 && memmem(w.at, w.len, "%00", 3))
		rc = wrong(r, "%s: no path has a NUL", quote(said, w, 0));
	if (rc == 0)
		rc = read_escaped(r, w, skip, &path);
	if (rc < 0)
		return rc;
	path.at[path.len] = '\0';
	p.path = path.at;
	*part = p;
	return 0;
}

static const struct form {
	const char *prefix;
	int (*read)(const struct reader *, struct word, size_t skip, struct command_part *);
} forms[] = {
	{ "text:", read_text },
	{ "hex:", read_hex },
	{ "base64:", read_base64 },
	{ "file:", read_file },
};

static const struct form *
form_of(const char *at, size_t len)
{
	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		size_t n = strlen(forms[i].prefix);

		if (len >= n && memcmp(at, forms[i].prefix, n) == 0)
			return &forms[i];
	}
	return NULL;
}

bool
command_has_form(const void *payload, size_t len)
{
	return form_of(payload, len) != NULL;
}

static int
read_part(struct reader *r, struct command *c)
{
	const struct form *form;
	char said[QUOTE];
	struct word w;
	int rc = next_word(r, "next part of its payload", FORMS, &w);

	if (rc < 0)
		return rc;
	form = form_of(w.at, w.len);
	if (!form)
		return wrong(r,
		    "%s is no part of a payload: write " FORMS
		    ", and %%20 for a space in a text or a path",
		    quote(said, w, 0));
	if (c->n_parts == COMMAND_PARTS)
		return wrong(r,
		    "more than %d parts: write some of them as one, as in hex:0001 for "
		    "hex:00 hex:01",
		    COMMAND_PARTS);
	return form->read(r, w, strlen(form->prefix), &c->part[c->n_parts++]);
}

static int
read_payload(struct reader *r, struct command *c)
{
	char *at = r->at + 1;
	int rc = 0;

	if (r->at == r->end)
		return 0;
	if (!form_of(at, (size_t)(r->end - at))) {
		c->part[0] = (struct command_part){ .bytes = at, .len = (size_t)(r->last - at) };
		c->n_parts = at < r->last;
		return 0;
	}
	while (rc == 0 && r->at < r->end)
		rc = read_part(r, c);
	return rc;
}

static int
read_rest(struct reader *r, struct command *c)
{
	int rc = c->verb == COMMAND_LINKS ? 0 : read_id(r, c);

	if (rc == 0 && c->verb == COMMAND_SEND) {
		rc = read_type(r, c);
		return rc < 0 ? rc : read_payload(r, c);
	}
	if (rc == 0 && c->verb == COMMAND_ASSOCIATE)
		return read_address(r, c);
	return rc < 0 ? rc : no_more(r);
}

int
command_parse(struct command *ret, char *line, size_t len, char *msg, size_t cap)
{
	struct reader r = { .at = line, .last = line + len, .msg = msg, .cap = cap };
	struct command c = { 0 };
	int rc;

	r.end = r.last;
	while (r.end > line && r.end[-1] == '\r')
		r.end--;
	if (r.end == line || *line == '#')
		return 1;
	rc = read_verb(&r, &c.verb);
	if (rc == 0)
		rc = read_rest(&r, &c);
	if (rc == 0)
		*ret = c;
	return rc;
}
