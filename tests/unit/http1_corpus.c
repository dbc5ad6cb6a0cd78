/* The requests of tests/http1/cases.txt (and responses.txt) get the verdict that stands there: sent
 * whole, byte by byte, and split at every offset. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "wire/http1.h"

struct bytes {
	char *at;
	size_t len, cap;
	size_t mark; /* where \^ stood; SIZE_MAX: nowhere */
};

#define N_BODIES 8

struct corpus_case {
	char name[96], want[512], says[256];
	bool to_head;
	struct bytes stream, body; /* all bodies, one after the other */
	size_t ends[N_BODIES];	   /* of each in body */
	unsigned bodies;
};

/* --- reading the file --- */

static void
add(struct bytes *b, const char *s, size_t len)
{
	if (b->len + len > b->cap) {
		b->cap = 2 * (b->len + len);
		b->at = realloc(b->at, b->cap);
		if (!b->at)
			abort();
	}
	memcpy(b->at + b->len, s, len);
	b->len += len;
}

/* One escape, s being after the backslash: what is after it. */
static const char *
add_escape(struct bytes *b, const char *s)
{
	static const char names[] = "rnt\\\"", values[] = "\r\n\t\\\"";
	const char *known = *s ? strchr(names, *s) : NULL;
	char c;

	if (known) {
		c = values[known - names];
	} else if (*s == 'x') {
		char hex[3] = { s[1], s[1] ? s[2] : '\0', '\0' };

		c = (char)strtoul(hex, NULL, 16);
		s += 2;
	} else {
		printf("# unknown escape: \\%s\n", s);
		exit(1);
	}
	add(b, &c, 1);
	return s + 1;
}

static void
add_escaped(struct bytes *b, const char *s, const char *end)
{
	while (s < end) {
		if (*s != '\\') {
			add(b, s++, 1);
		} else if (s[1] == '^') {
			b->mark = b->len;
			s += 2;
		} else if (s[1] == '{') {
			char *what;
			unsigned long times = strtoul(s + 2, &what, 10);
			const char *close = strchr(what, '}');

			while (times--)
				add_escaped(b, what + 1, close);
			s = close + 1;
		} else {
			s = add_escape(b, s + 1);
		}
	}
}

static void
take(struct corpus_case *c, const char *line)
{
	const char *end = line + strlen(line), *value = strchr(line, ':');

	if (!strncmp(line, "< ", 2)) {
		add_escaped(&c->stream, line + 2, end);
		return;
	}
	value = value ? value + 1 : end;
	value += *value == ' ';
	if (!strncmp(line, "name:", 5)) {
		snprintf(c->name, sizeof(c->name), "%s", value);
	} else if (!strncmp(line, "want:", 5)) {
		snprintf(c->want, sizeof(c->want), "%s", value);
	} else if (!strncmp(line, "says:", 5)) {
		snprintf(c->says, sizeof(c->says), "%s", value);
	} else if (!strncmp(line, "to:", 3)) {
		c->to_head = true;
	} else if (!strncmp(line, "body:", 5) && c->bodies < N_BODIES) {
		add_escaped(&c->body, value, end);
		c->ends[c->bodies++] = c->body.len;
	} else {
		printf("# not understood: %s\n", line);
		exit(1);
	}
}

static void
forget(struct corpus_case *c)
{
	free(c->stream.at);
	free(c->body.at);
	*c = (struct corpus_case){ .stream.mark = SIZE_MAX };
}

/* --- what a parser tells --- */

struct seen {
	char words[512];
	size_t at;   /* of the byte that was refused, in the stream */
	size_t body; /* bytes of bodies */
	unsigned bodies;
	bool wrong; /* something that must always hold did not */
	char text[256];
};

struct hearing {
	const struct corpus_case *c;
	struct http1_parser *p;
	struct seen *seen;
	size_t read, from; /* bytes of the stream; where this message begins */
	bool over, headed;
};

static const char *const framings[] = { "none", "length", "chunked", "end" };

static void
word(struct seen *s, const char *fmt, ...)
{
	size_t len = strlen(s->words);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->words + len, sizeof(s->words) - len, fmt, ap);
	va_end(ap);
}

static void
hold(struct seen *s, bool true_always, const char *what)
{
	if (!true_always && !s->wrong)
		printf("# does not hold: %s\n", what);
	s->wrong |= !true_always;
}

static void
hear_head(struct hearing *h)
{
	const struct http1_head *head = http1_head(h->p);
	size_t raw = head->raw.len;

	h->headed = true;
	word(h->seen, "%s%s", *h->seen->words ? " " : "", framings[head->framing]);
	hold(h->seen,
	    raw <= h->read - h->from && !memcmp(head->raw.at, h->c->stream.at + h->read - raw, raw),
	    "a head is what came");
	for (unsigned i = 0; i < head->n_fields; i++)
		hold(h->seen,
		    head->field[i].name.at > head->raw.at &&
			head->field[i].value.at + head->field[i].value.len < head->raw.at + raw,
		    "a field lies in its head");
}

static void
hear_bad(struct hearing *h)
{
	const struct http1_fault *fault = http1_fault(h->p);
	const char *before = h->headed ? "/" : *h->seen->words ? " " : "";
	bool cut = strstr(fault->text, "the end of the stream") != NULL;

	if (cut)
		word(h->seen, "%scut", before);
	else
		word(h->seen, "%s%d", before, fault->status);
	h->seen->at = h->from + (size_t)fault->at;
	snprintf(h->seen->text, sizeof(h->seen->text), "%s", fault->text);
	for (const char *s = fault->text; *s; s++)
		hold(h->seen, *s >= ' ' && *s <= '~', "a sentence is printable");
	h->over = true;
}

static void
hear(struct hearing *h, const struct http1_event *e)
{
	const struct bytes *body = &h->c->body;

	switch (e->what) {
	case HTTP1_HEAD:
		hear_head(h);
		break;
	case HTTP1_BODY:
		/* (of one that is refused no body is given) */
		if (h->seen->bodies < h->c->bodies)
			hold(h->seen,
			    e->len <= body->len - h->seen->body &&
				!memcmp(e->body, body->at + h->seen->body, e->len),
			    "a body is what was sent");
		h->seen->body += e->len;
		break;
	case HTTP1_DONE:
		if (http1_head(h->p)->framing != HTTP1_NO_BODY) {
			unsigned n = h->seen->bodies++;

			hold(h->seen, n < h->c->bodies && h->c->ends[n] == h->seen->body,
			    "a body is whole");
		}
		hold(h->seen, !http1_begun(h->p), "what is done is not begun");
		http1_next(h->p);
		hold(h->seen, http1_held(h->p) == 0 && !http1_head(h->p), "nothing is kept");
		h->from = h->read;
		h->headed = false;
		break;
	case HTTP1_BAD:
		hear_bad(h);
		break;
	case HTTP1_MORE:
		break;
	}
}

/* Small pieces are read from memory of their own, so that a sanitizer sees who reads beyond. */
static void
feed(struct hearing *h, const char *s, size_t len)
{
	struct http1_event e;
	char *own = len < 4096 ? malloc(len ? len : 1) : NULL;
	size_t i = 0;

	if (own && len)
		s = memcpy(own, s, len);
	if (h->over)
		len = 0;
	do {
		size_t took = http1_feed(h->p, s + i, len - i, &e);

		hold(h->seen, took <= len - i, "no more is read than there is");
		if (e.what == HTTP1_BODY)
			hold(h->seen, e.len && e.body >= s + i && e.body + e.len <= s + i + took,
			    "a body lies in what was read");
		i += took;
		h->read += took;
		if (!h->over)
			hear(h, &e);
	} while (e.what != HTTP1_MORE && e.what != HTTP1_BAD);
	hold(h->seen, h->over || i == len, "MORE has read all");
	free(own);
}

/* In two pieces, first and the rest; first 0: byte by byte. */
static void
run(struct http1_parser *p, const struct corpus_case *c, size_t first, struct seen *seen)
{
	struct hearing h = { .c = c, .p = p, .seen = seen };
	const struct bytes *b = &c->stream;
	struct http1_event e;

	seen->words[0] = seen->text[0] = '\0';
	seen->at = SIZE_MAX;
	seen->body = seen->bodies = 0;
	seen->wrong = false;
	http1_response_to(p, c->to_head);
	if (first) {
		feed(&h, b->at, first);
		feed(&h, b->at + first, b->len - first);
	} else {
		for (size_t i = 0; i < b->len && !h.over; i++)
			feed(&h, b->at + i, 1);
	}
	for (e.what = HTTP1_BODY; !h.over && e.what != HTTP1_MORE;) {
		http1_end(p, &e);
		hear(&h, &e);
	}
	http1_next(p);
}

static bool
is_as_wanted(const struct corpus_case *c, const struct seen *seen, const char *how, size_t at)
{
	size_t mark = c->stream.mark;
	bool cut = strstr(c->want, "cut") != NULL;

	if (cut)
		mark = c->stream.len;
	if (strcmp(seen->words, c->want) || seen->at != mark || !strstr(seen->text, c->says) ||
	    seen->wrong || (!*c->says && *seen->text)) {
		printf("# %s, %s %zu: \"%s\" at %zu, not \"%s\" at %zu; it says: %s\n", c->name,
		    how, at, seen->words, seen->at, c->want, mark, seen->text);
		return false;
	}
	return true;
}

/* Of long ones, where something happens, and here and there between. */
static bool
is_worth_it(const struct corpus_case *c, size_t at)
{
	size_t len = c->stream.len, mark = c->stream.mark;

	return len < 2048 || at < 200 || at > len - 100 || at % (len / 53) == 0 ||
	       (mark != SIZE_MAX && at + 40 > mark && at < mark + 40);
}

static bool
judge(struct http1_parser *p, const struct corpus_case *c)
{
	struct seen seen;

	if (c->stream.len) {
		run(p, c, c->stream.len, &seen);
		if (!is_as_wanted(c, &seen, "whole", 0))
			return false;
	}
	run(p, c, 0, &seen);
	if (!is_as_wanted(c, &seen, "byte by byte", 0))
		return false;
	for (size_t i = 1; i < c->stream.len; i++) {
		if (!is_worth_it(c, i))
			continue;
		run(p, c, i, &seen);
		if (!is_as_wanted(c, &seen, "split at", i))
			return false;
	}
	return true;
}

/* --- the files --- */

static FILE *
open_cases(const char *name)
{
	static const char *const places[] = { "%s/../../../tests/http1/%s", "tests/http1/%s" };
	char exe[PATH_MAX], path[2 * PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	FILE *f;

	exe[n > 0 ? n : 0] = '\0';
	if (strrchr(exe, '/'))
		*strrchr(exe, '/') = '\0';
	snprintf(path, sizeof(path), places[0], exe, name); /* BUILD/tests/unit */
	f = fopen(path, "r");
	if (!f) {
		snprintf(path, sizeof(path), places[1], name);
		f = fopen(path, "r");
	}
	return f;
}

static unsigned
judge_file(const char *name, enum http1_role role)
{
	static const struct http1_limits limits = { HTTP1_BODY_MAX, HTTP1_HEADER_MAX,
		HTTP1_COUNT_MAX, HTTP1_LINE_MAX, HTTP1_HEAD_MAX };
	struct corpus_case c = { .stream.mark = SIZE_MAX };
	FILE *f = open_cases(name);
	struct http1_parser *p;
	char *line = NULL;
	size_t cap = 0;
	unsigned n = 0;
	ssize_t len;

	CHECK(f != NULL);
	if (!f || http1_new(&p, role, &limits) < 0)
		return 0;
	do {
		len = getline(&line, &cap, f);
		if (len > 0 && line[len - 1] == '\n')
			line[len - 1] = '\0';
		if (*c.name && (len < 0 || !strncmp(line, "name:", 5))) {
			CHECK(judge(p, &c));
			forget(&c);
			n++;
		}
		if (len > 0 && *line && *line != '#')
			take(&c, line);
	} while (len >= 0);
	http1_free(p);
	free(line);
	fclose(f);
	return n;
}

CASE(requests_are_judged_alike_however_they_are_split)
{
	CHECK(judge_file("cases.txt", HTTP1_REQUEST) >= 300);
}

CASE(responses_are_judged_alike_however_they_are_split)
{
	CHECK(judge_file("responses.txt", HTTP1_RESPONSE) >= 40);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(requests_are_judged_alike_however_they_are_split),
	    RUN(responses_are_judged_alike_however_they_are_split),
	    { 0 },
	});
}
