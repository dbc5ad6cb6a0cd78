/* HTTP/1 from anybody: the same verdict whole and in pieces, what is told lies in what was fed, and
 * llhttp never has to say that it reads something otherwise: our layer refuses it first.  The first
 * two bytes of the input choose role, limits and pieces. */
#include "wire/http1.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Everything that was told, one thing after the other. */
struct told {
	char *at;
	size_t len, cap;
};

static void
add(struct told *t, const void *s, size_t len)
{
	if (t->len + len > t->cap) {
		t->cap = 2 * (t->len + len);
		t->at = realloc(t->at, t->cap);
		if (!t->at)
			abort();
	}
	if (len)
		memcpy(t->at + t->len, s, len);
	t->len += len;
}

static void
must(bool true_always)
{
	if (!true_always)
		abort();
}

static bool
begins(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

static bool
lies_in(struct http1_text part, struct http1_text whole)
{
	return part.at >= whole.at && part.at + part.len <= whole.at + whole.len;
}

static void
add_head(struct told *t, const struct http1_head *h)
{
	char facts[] = { 'H', (char)h->framing, (char)h->keep_alive, (char)h->expects,
		(char)h->minor };

	add(t, facts, sizeof(facts));
	add(t, &h->length, sizeof(h->length));
	add(t, h->raw.at, h->raw.len);
	for (unsigned i = 0; i < h->n_fields; i++) {
		must(lies_in(h->field[i].name, h->raw) && lies_in(h->field[i].value, h->raw));
		must(h->field[i].name.len > 0);
	}
	if (h->method.at)
		must(lies_in(h->method, h->raw) && lies_in(h->target, h->raw) && h->path.len > 0);
	if (h->query.at)
		must(lies_in(h->query, h->target));
	if (h->host.at)
		must(lies_in(h->host, h->raw));
	if (h->upgrade.at)
		must(lies_in(h->upgrade, h->raw));
}

static bool
add_event(struct told *t, struct http1_parser *p, const struct http1_event *e)
{
	const struct http1_fault *fault = http1_fault(p);

	switch (e->what) {
	case HTTP1_MORE:
		return true;
	case HTTP1_HEAD:
		add_head(t, http1_head(p));
		return true;
	case HTTP1_BODY:
		add(t, e->body, e->len);
		return true;
	case HTTP1_DONE:
		add(t, "D", 1);
		http1_next(p);
		must(http1_held(p) == 0 && !http1_begun(p));
		return true;
	case HTTP1_BAD:
		break;
	}
	must(fault && !begins(fault->text, "Unable to parse data as a HTTP request: llhttp") &&
	     !begins(fault->text, "Unable to parse data as a HTTP response: llhttp"));
	for (const char *s = fault->text; *s; s++)
		must(*s >= ' ' && *s <= '~');
	add(t, &fault->status, sizeof(fault->status));
	add(t, &fault->at, sizeof(fault->at));
	add(t, fault->text, strlen(fault->text));
	return false;
}

/* False: it was refused. */
static bool
feed(struct told *t, struct http1_parser *p, const char *s, size_t len)
{
	struct http1_event e;
	char *own = malloc(len ? len : 1);
	bool good = true;
	size_t i = 0;

	if (!own)
		abort();
	if (len)
		memcpy(own, s, len);
	do {
		size_t n = http1_feed(p, own + i, len - i, &e);

		must(n <= len - i);
		if (e.what == HTTP1_BODY)
			must(e.len && e.body >= own + i && e.body + e.len <= own + i + n);
		i += n;
		good = add_event(t, p, &e);
	} while (good && e.what != HTTP1_MORE);
	must(!good || i == len);
	free(own);
	return good;
}

static struct told
run(const uint8_t how[2], const char *s, size_t len, bool whole)
{
	static const struct http1_limits usual = { HTTP1_BODY_MAX, HTTP1_HEADER_MAX,
		HTTP1_COUNT_MAX, HTTP1_LINE_MAX, HTTP1_HEAD_MAX };
	static const struct http1_limits small = { 40, 24, 4, 40, 128 };
	struct http1_event e = { HTTP1_BODY, NULL, 0 };
	struct told t = { 0 };
	struct http1_parser *p;
	uint32_t dice = how[1];
	bool good = true;

	if (http1_new(
		&p, how[0] & 1 ? HTTP1_RESPONSE : HTTP1_REQUEST, how[0] & 2 ? &small : &usual) < 0)
		abort();
	http1_response_to(p, how[0] & 4);
	while (good && len) {
		size_t n = len;

		if (!whole) {
			dice = dice * 1664525 + 1013904223;
			n = 1 + (dice >> 16) % (how[1] % 2 ? 3 : 40);
			n = n < len ? n : len;
		}
		good = feed(&t, p, s, n);
		s += n;
		len -= n;
	}
	while (good && e.what != HTTP1_MORE) {
		http1_end(p, &e);
		good = add_event(&t, p, &e);
	}
	http1_free(p);
	return t;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct told whole, pieces;

	if (size < 2)
		return 0;
	whole = run(data, (const char *)data + 2, size - 2, true);
	pieces = run(data, (const char *)data + 2, size - 2, false);
	must(
	    whole.len == pieces.len && (whole.len == 0 || !memcmp(whole.at, pieces.at, whole.len)));
	free(whole.at);
	free(pieces.at);
	return 0;
}
