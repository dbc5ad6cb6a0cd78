/* wire/http1_strict - the strict layer's second half: what a head whose bytes are all right means,
 * and whether two readers could take it for different things. */
#include "wire/http1_parts.h"

#include <string.h>

static unsigned char
lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

static bool
alike(struct http1_text a, struct http1_text b)
{
	if (a.len != b.len)
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (lower(a.at[i]) != lower(b.at[i]))
			return false;
	return true;
}

bool
http1_is_head(const struct http1_head *h)
{
	return h->method.len == 4 && memcmp(h->method.at, "HEAD", 4) == 0;
}

bool
http1_is(struct http1_text text, const char *word)
{
	return alike(text, (struct http1_text){ word, strlen(word) });
}

const struct http1_text *
http1_find(const struct http1_head *h, const char *field)
{
	struct http1_text name = { field, strlen(field) };

	for (unsigned i = 0; i < h->n_fields; i++)
		if (alike(h->field[i].name, name))
			return &h->field[i].value;
	return NULL;
}

static struct http1_text
skip(struct http1_text t, size_t n)
{
	return (struct http1_text){ t.at + n, t.len - n };
}

/* The next element of a list, without the blanks around it; it may be empty.  rest.at is NULL after
 * the last one. */
static struct http1_text
element(struct http1_text *rest)
{
	struct http1_text e = *rest;
	const char *comma = memchr(e.at, ',', e.len);

	if (comma) {
		e.len = (size_t)(comma - e.at);
		*rest = skip(*rest, e.len + 1);
	} else {
		rest->at = NULL;
	}
	e = skip(e, http1_run(e.at, e.len, H1_BLANK));
	while (e.len && http1_alphabet[(unsigned char)e.at[e.len - 1]] & H1_BLANK)
		e.len--;
	return e;
}

/* --- the request line --- */

static bool
is_connect(struct http1_text method)
{
	return method.len == 7 && !memcmp(method.at, "CONNECT", 7);
}

/* Those that llhttp 8.1 knows for HTTP; the usual ones first. */
static bool
is_known(struct http1_text method)
{
	static const char *const known[] = { "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS",
		"PATCH", "TRACE", "ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "M-SEARCH",
		"MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "NOTIFY", "PROPFIND",
		"PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE", "UNBIND",
		"UNLINK", "UNLOCK", "UNSUBSCRIBE" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (method.len == strlen(known[i]) && !memcmp(method.at, known[i], method.len))
			return true;
	return false;
}

/* How long "[v6]" is, 0: it is none. */
static size_t
bracketed(struct http1_text a)
{
	const char *end = memchr(a.at, ']', a.len);
	size_t len = end ? (size_t)(end - a.at) : 0;

	if (len < 3 || !memchr(a.at, ':', len))
		return 0;
	for (size_t i = 1; i < len; i++)
		if (a.at[i] != ':' && a.at[i] != '.' && !http1_run(a.at + i, 1, H1_HEX))
			return 0;
	return len + 1;
}

static bool
is_host(struct http1_text a)
{
	size_t digits, len = 0;

	if (a.len)
		len = a.at[0] == '[' ? bracketed(a) : http1_run(a.at, a.len, H1_HOST);
	if (len == 0 || len == a.len)
		return len != 0;
	a = skip(a, len);
	digits = http1_run(a.at + 1, a.len - 1, H1_DIGIT);
	return a.at[0] == ':' && digits >= 1 && digits <= 5 && digits + 1 == a.len;
}

/* The default port said is the default port not said. */
static struct http1_text
without_port(struct http1_text a, const char *port)
{
	size_t len = strlen(port);

	if (a.len > len && !memcmp(a.at + a.len - len, port, len))
		a.len -= len;
	return a;
}

static void
split_path(struct http1_head *h, struct http1_text path)
{
	const char *mark = memchr(path.at, '?', path.len);

	h->path = path;
	h->query = (struct http1_text){ NULL, 0 };
	if (mark) {
		h->path.len = (size_t)(mark - path.at);
		h->query = skip(path, h->path.len + 1);
	}
	if (h->path.len == 0)
		h->path = (struct http1_text){ "/", 1 };
}

/* A whole URI: its host and the Host must be one. */
static void
judge_uri(struct http1_scan *x, struct http1_head *h, struct http1_text rest, const char *port)
{
	struct http1_text host = rest;

	for (host.len = 0; host.len < rest.len; host.len++)
		if (host.at[host.len] == '/' || host.at[host.len] == '?')
			break;
	if (!is_host(host))
		http1_refuse_at(x, WHY_AUTHORITY, host);
	else if (!h->host.at)
		h->host = host;
	else if (!alike(without_port(host, port), without_port(h->host, port)))
		http1_refuse_at(x, WHY_NOT_HOST, host);
	split_path(h, skip(rest, host.len));
}

static void
judge_target(struct http1_scan *x, struct http1_head *h)
{
	static const struct scheme {
		const char *name, *port;
	} schemes[] = { { "http://", ":80" }, { "https://", ":443" } };
	struct http1_text t = h->target;

	if (t.at[0] == '/') {
		split_path(h, t);
		return;
	}
	if (t.len == 1 && t.at[0] == '*') {
		split_path(h, t);
		if (!http1_is(h->method, "OPTIONS"))
			http1_refuse_at(x, WHY_ASTERISK, h->method);
		return;
	}
	for (size_t i = 0; i < 2; i++) {
		size_t len = strlen(schemes[i].name);

		if (t.len > len && http1_is((struct http1_text){ t.at, len }, schemes[i].name)) {
			judge_uri(x, h, skip(t, len), schemes[i].port);
			return;
		}
	}
	http1_refuse_at(x, WHY_FORM, t);
}

/* --- fields --- */

struct framing {
	const struct http1_field *host, *length, *coding, *expect;
	uint64_t n; /* Content-Length */
	unsigned codings, chunked;
	bool ends_chunked; /* the last coding was it */
	bool close, keep_alive, upgrade;
};

/* Readers differ on what a tab is in a value that decides on the framing. */
static bool
has_tab(const struct http1_field *f)
{
	const char *s = f->name.at + f->name.len;

	while (*s != '\t' && *s != '\r')
		s++;
	return *s == '\t';
}

static void
judge_length(struct http1_scan *x, struct framing *is, const struct http1_field *f)
{
	size_t digits = http1_run(f->value.at, f->value.len, H1_DIGIT);

	if (is->length)
		http1_refuse_at(x, WHY_TWO_LENGTHS, f->value);
	else if (has_tab(f))
		http1_refuse_at(x, WHY_TAB, f->value);
	else if (digits == 0 || digits != f->value.len)
		http1_refuse_at(x, WHY_LENGTH, f->value);
	else if (digits > 19)
		http1_refuse_at(x, WHY_LENGTH_DIGITS, f->value);
	else
		for (size_t i = 0; i < digits; i++)
			is->n = is->n * 10 + (uint64_t)(f->value.at[i] - '0');
	is->length = f;
}

static void
judge_coding(struct http1_scan *x, struct framing *is, const struct http1_field *f)
{
	struct http1_text rest = f->value;

	is->coding = f;
	if (has_tab(f)) {
		http1_refuse_at(x, WHY_TAB, f->value);
		return;
	}
	while (rest.at) {
		struct http1_text coding = element(&rest);

		if (coding.len == 0 || http1_run(coding.at, coding.len, H1_TOKEN) != coding.len) {
			http1_refuse_at(x, WHY_CODING, f->value);
			return;
		}
		is->ends_chunked = http1_is(coding, "chunked");
		is->chunked += is->ends_chunked;
		is->codings++;
	}
}

/* Who passes a request on drops what Connection names. */
static void
judge_connection(struct http1_scan *x, struct framing *is, struct http1_text rest)
{
	while (rest.at && x->state != H1_REFUSED) {
		struct http1_text option = element(&rest);

		if (http1_is(option, "host") || http1_is(option, "content-length") ||
		    http1_is(option, "transfer-encoding"))
			http1_refuse_at(x, WHY_CONNECTION, option);
		is->close |= http1_is(option, "close");
		is->keep_alive |= http1_is(option, "keep-alive");
		is->upgrade |= http1_is(option, "upgrade");
	}
}

static void
judge_host(struct http1_scan *x, struct framing *is, const struct http1_field *f)
{
	if (is->host)
		http1_refuse_at(x, WHY_TWO_HOSTS, f->value);
	else if (x->role == HTTP1_REQUEST && !is_host(f->value))
		http1_refuse_at(x, WHY_HOST, f->value);
	is->host = f;
}

/* Some take a _ for a -, as in the variables of CGI. */
static bool
is_with_underscore(struct http1_text name, const char *word)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.at[i] != '_' ? lower(name.at[i]) != lower(word[i]) : word[i] != '-')
			return false;
	return true;
}

static void
judge_framed(struct http1_scan *x, struct framing *is, const struct http1_field *f)
{
	bool length = f->name.len == 14;
	const char *word = length ? "Content-Length" : "Transfer-Encoding";

	if (!is_with_underscore(f->name, word))
		return;
	if (!http1_is(f->name, word))
		http1_refuse_at(x, WHY_UNDERSCORE, f->name);
	else if (length)
		judge_length(x, is, f);
	else
		judge_coding(x, is, f);
}

/* The length of a name tells most fields from those that matter. */
static void
judge_field(
    struct http1_scan *x, struct http1_head *h, struct framing *is, const struct http1_field *f)
{
	switch (f->name.len) {
	case 4:
		if (http1_is(f->name, "Host"))
			judge_host(x, is, f);
		break;
	case 6:
		if (http1_is(f->name, "Expect") &&
		    (!is->expect || http1_is(is->expect->value, "100-continue")))
			is->expect = f;
		break;
	case 7:
		if (http1_is(f->name, "Upgrade") && !h->upgrade.at)
			h->upgrade = f->value;
		break;
	case 10:
		if (http1_is(f->name, "Connection"))
			judge_connection(x, is, f->value);
		break;
	case 14:
	case 17:
		judge_framed(x, is, f);
		break;
	}
}

static void
judge_framing(struct http1_scan *x, struct http1_head *h, const struct framing *is)
{
	if (is->coding && is->length)
		http1_refuse_at(x, WHY_BOTH, is->coding->value);
	else if (is->coding && h->minor == 0)
		http1_refuse_at(x, WHY_CODING_OLD, is->coding->value);
	else if (is->chunked > 1)
		http1_refuse_at(x, WHY_CODING_TWICE, is->coding->value);
	else if (is->coding && !is->ends_chunked)
		http1_refuse_at(x, WHY_CODING_LAST, is->coding->value);
	else if (is->codings > 1 && x->role == HTTP1_REQUEST)
		http1_refuse_at(x, WHY_CODED, is->coding->value);
	if (is->coding)
		h->framing = HTTP1_CHUNKED;
	else if (is->length)
		h->framing = HTTP1_LENGTH;
	else
		h->framing = x->role == HTTP1_REQUEST ? HTTP1_NO_BODY : HTTP1_UNTIL_END;
	h->length = is->n;
}

static void
judge_request(struct http1_scan *x, struct http1_head *h, const struct framing *is)
{
	if (is->host)
		h->host = is->host->value;
	else if (h->minor == 1)
		http1_refuse(x, WHY_NO_HOST, 0, NULL, 0);
	if (x->state != H1_REFUSED)
		judge_target(x, h);
	if (x->state != H1_REFUSED)
		judge_framing(x, h, is);
	if (x->state != H1_REFUSED && is->expect && h->minor == 1) {
		h->expects = http1_is(is->expect->value, "100-continue");
		if (!h->expects)
			http1_refuse_at(x, WHY_EXPECT, is->expect->value);
	}
}

static void
judge_response(
    struct http1_scan *x, struct http1_head *h, const struct framing *is, bool answers_head)
{
	judge_framing(x, h, is);
	if (answers_head || h->status < 200 || h->status == 204 || h->status == 304)
		h->framing = HTTP1_NO_BODY;
}

void
http1_judge(struct http1_scan *x, struct http1_head *h, bool answers_head)
{
	struct framing is = { 0 };

	if (x->role == HTTP1_REQUEST && !is_known(h->method)) {
		http1_refuse_at(x, is_connect(h->method) ? WHY_CONNECT : WHY_UNKNOWN, h->method);
		return;
	}
	for (unsigned i = 0; i < h->n_fields && x->state != H1_REFUSED; i++)
		judge_field(x, h, &is, &h->field[i]);
	if (x->state == H1_REFUSED)
		return;
	if (x->role == HTTP1_REQUEST)
		judge_request(x, h, &is);
	else
		judge_response(x, h, &is, answers_head);
	if (x->state == H1_REFUSED)
		return;
	if (is.length && h->framing == HTTP1_LENGTH && h->length > x->max.body)
		http1_refuse_at(x, WHY_BODY_MAX, is.length->value);
	h->keep_alive =
	    !is.close && (h->minor == 1 || is.keep_alive) && h->framing != HTTP1_UNTIL_END;
	if (!is.upgrade)
		h->upgrade = (struct http1_text){ NULL, 0 };
}
