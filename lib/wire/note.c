/* wire/note - the messages of a link and the ticket, as bytes.
 * One table says which field belongs to which verb, how it is written and where it is kept; the
 * parser and the printer both read it, so neither can know a field that the other does not. */
#include "wire/note.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"

enum field_kind { NUM32, NUM64, STATUS, VERSION, ROLE, MODES, TOOL, TOKEN, REASON };

#define BIT(verb) (1u << (verb))

struct field {
	const char *name;
	unsigned verbs;	 /* who may have it */
	unsigned wanted; /* who must have it */
	enum field_kind kind;
	size_t at; /* in struct note */
};

#define AT(member) offsetof(struct note, member)
#define WITH_ID	   (BIT(NOTE_CONN) | BIT(NOTE_ADOPT) | BIT(NOTE_EOF) | BIT(NOTE_CLOSED))

/* In the order in which they are printed. */
static const struct field fields[] = {
	{ "id", WITH_ID, WITH_ID, NUM64, AT(id) },
	{ "version", BIT(NOTE_HELLO), BIT(NOTE_HELLO), VERSION, AT(version) },
	{ "tool", BIT(NOTE_HELLO), BIT(NOTE_HELLO), TOOL, AT(tool) },
	{ "role", BIT(NOTE_HELLO), BIT(NOTE_HELLO), ROLE, AT(role) },
	{ "modes", BIT(NOTE_HELLO), 0, MODES, AT(modes) },
	{ "links", BIT(NOTE_HELLO), 0, NUM32, AT(links) },
	{ "token", BIT(NOTE_HELLO), 0, TOKEN, AT(token) },
	{ "n", BIT(NOTE_READY), BIT(NOTE_READY), NUM32, AT(n) },
	{ "reason", BIT(NOTE_CLOSED), BIT(NOTE_CLOSED), REASON, AT(reason) },
	{ "status", BIT(NOTE_CLOSED), 0, STATUS, AT(status) },
	{ "in", BIT(NOTE_CLOSED), 0, NUM64, AT(in) },
	{ "out", BIT(NOTE_CLOSED), 0, NUM64, AT(out) },
	{ "ready", BIT(NOTE_ADOPT) | BIT(NOTE_CLOSED), 0, NUM32, AT(n) },
};
#define N_FIELDS (sizeof(fields) / sizeof(fields[0]))

static const char *const verb_names[] = {
	[NOTE_UNKNOWN] = "unknown",
	[NOTE_HELLO] = "hello",
	[NOTE_READY] = "ready",
	[NOTE_CONN] = "conn",
	[NOTE_ADOPT] = "adopt",
	[NOTE_EOF] = "eof",
	[NOTE_CLOSED] = "closed",
	[NOTE_DRAIN] = "drain",
};
#define N_VERBS (sizeof(verb_names) / sizeof(verb_names[0]))

static char fault[96];

/* Only words of ours go in: a peer's bytes have no business in a message about them. */
static int __attribute__((format(printf, 1, 2))) bad(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(fault, sizeof(fault), fmt, ap);
	va_end(ap);
	return -EBADMSG;
}

const char *
note_fault(void)
{
	return fault;
}

const char *
note_verb_name(enum note_verb verb)
{
	return (unsigned)verb < N_VERBS ? verb_names[verb] : verb_names[NOTE_UNKNOWN];
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool
is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

/* Digits and nothing else, at most max: strtoull would take blanks and signs. */
static bool
get_number(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t n = 0;

	if (*s == '\0')
		return false;
	for (; *s; s++) {
		unsigned d = (unsigned char)*s - '0';

		if (!is_digit(*s) || n > (max - d) / 10)
			return false;
		n = n * 10 + d;
	}
	*ret = n;
	return true;
}

/* A word of the given length whose every byte is a lower-case letter, a digit or one of also (and,
 * with upper, a capital letter). */
static bool
is_word(const char *s, size_t max, bool upper, const char *also)
{
	size_t n = strlen(s);

	if (n == 0 || n > max)
		return false;
	for (; *s; s++)
		if (!is_lower(*s) && !is_digit(*s) && !(upper && is_upper(*s)) && !strchr(also, *s))
			return false;
	return true;
}

static bool
is_token(const char *s, size_t n)
{
	if (n != 32)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_digit(s[i]) && !(s[i] >= 'a' && s[i] <= 'f'))
			return false;
	return true;
}

/* A list of words; those we do not know are for a later version. */
static uint32_t
get_modes(const char *s)
{
	uint32_t modes = 0;

	while (*s) {
		size_t n = strcspn(s, ",");

		if (n == 4 && !memcmp(s, "take", n))
			modes |= NOTE_TAKE;
		else if (n == 4 && !memcmp(s, "give", n))
			modes |= NOTE_GIVE;
		s += n + (s[n] == ',');
	}
	return modes;
}

/* Whether s may stand in a field of that kind; the parser and the printer both ask. */
static bool
is_text(enum field_kind kind, const char *s)
{
	switch (kind) {
	case TOOL:
		return is_word(s, sizeof(((struct note *)0)->tool) - 1, true, "-_.");
	case REASON:
		return is_word(s, NOTE_REASON_MAX - 1, false, "-");
	case TOKEN:
		return is_token(s, strlen(s));
	default:
		return false;
	}
}

static bool
get_small(enum field_kind kind, const char *value, uint32_t *ret)
{
	uint64_t n = 0;
	bool ok = true;

	if (kind == MODES)
		n = get_modes(value);
	else if (kind == ROLE) {
		n = !strcmp(value, "producer") ? NOTE_PRODUCER : NOTE_CONSUMER;
		ok = n == NOTE_PRODUCER || !strcmp(value, "consumer");
	} else
		ok = get_number(value, kind == STATUS ? 255 : UINT32_MAX, &n) &&
		     (kind != VERSION || n > 0);
	*ret = (uint32_t)n;
	return ok;
}

static bool
get_field(struct note *note, const struct field *f, const char *value)
{
	char *to = (char *)note + f->at;
	uint64_t wide;
	uint32_t small;

	switch (f->kind) {
	case TOOL:
	case TOKEN:
	case REASON:
		if (!is_text(f->kind, value))
			return false;
		memcpy(to, value, strlen(value) + 1);
		return true;
	case NUM64:
		if (!get_number(value, UINT64_MAX, &wide))
			return false;
		memcpy(to, &wide, sizeof(wide));
		return true;
	default:
		if (!get_small(f->kind, value, &small))
			return false;
		memcpy(to, &small, sizeof(small));
		return true;
	}
}

static int
parse_field(struct note *note, const char *s, const char *equals, uint32_t *seen)
{
	size_t n = (size_t)(equals - s);

	for (size_t i = 0; i < N_FIELDS; i++) {
		const struct field *f = &fields[i];

		if (!(f->verbs & BIT(note->verb)) || strlen(f->name) != n || memcmp(f->name, s, n))
			continue;
		if (*seen & BIT(i))
			return bad("%s: %s= is there twice", verb_names[note->verb], f->name);
		*seen |= BIT(i);
		if (!get_field(note, f, equals + 1))
			return bad("%s: %s= is not what it should be%s", verb_names[note->verb],
			    f->name, f->kind == VERSION ? " (we need 1)" : "");
		return 0;
	}
	return 0; /* unknown, or of no meaning here: ignored */
}

static int
parse_strings(struct note *note, const char *s, const char *end, uint32_t *seen)
{
	const char *env = NULL;
	unsigned n = 0;

	for (; s < end; s += strlen(s) + 1) {
		const char *equals = strchr(s, '=');

		if (*s == '\0')
			return bad("an empty string");
		if (!equals)
			return bad("a field without =");
		if (++n > NOTE_STRINGS_MAX)
			return bad("more than %d strings", NOTE_STRINGS_MAX);
		if (is_upper(*s) || *s == '_') {
			env = env ? env : s;
			continue;
		}
		if (!is_lower(*s))
			return bad("a field whose name does not begin with a letter");
		if (env)
			return bad("a field after the environment");
		if (parse_field(note, s, equals, seen) < 0)
			return -EBADMSG;
	}
	if (env && note->verb == NOTE_CONN) {
		note->env = env;
		note->env_len = (size_t)(end - env);
	}
	return 0;
}

int
note_parse(struct note *ret, const char *bytes, size_t len)
{
	struct note note = { .status = -1, .modes = NOTE_TAKE };
	uint32_t seen = 0;

	if (len == 0 || len > NOTE_MAX)
		return bad("%s", len ? "longer than a packet may be" : "empty");
	if (bytes[len - 1] != '\0')
		return bad("the last string is not ended");
	if (!is_lower(*bytes) || !is_word(bytes, NOTE_REASON_MAX - 1, false, "-"))
		return bad("the first string is not a verb");
	for (unsigned v = NOTE_HELLO; v < N_VERBS; v++)
		if (!strcmp(bytes, verb_names[v]))
			note.verb = v;
	if (parse_strings(&note, bytes + strlen(bytes) + 1, bytes + len, &seen) < 0)
		return -EBADMSG;
	for (size_t i = 0; i < N_FIELDS; i++)
		if (fields[i].wanted & BIT(note.verb) && !(seen & BIT(i)))
			return bad("%s: %s= is missing", verb_names[note.verb], fields[i].name);
	*ret = note;
	return 0;
}

struct out {
	char *at;
	size_t left;
	bool full;
};

static void
put(struct out *o, const void *bytes, size_t n)
{
	if (n > o->left) {
		o->full = true;
		return;
	}
	memcpy(o->at, bytes, n);
	o->at += n;
	o->left -= n;
}

static void
put_pair(struct out *o, const char *name, const char *value)
{
	put(o, name, strlen(name));
	put(o, "=", 1);
	put(o, value, strlen(value) + 1);
}

static void
put_number(struct out *o, const char *name, uint64_t n)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, n);
	put_pair(o, name, text);
}

/* What would be malformed at the other side is refused here: a bug of ours must not cost a link. */
static int
put_small(struct out *o, const struct note *note, const struct field *f, uint32_t n)
{
	static const char *const modes[] = { "", "take", "give", "take,give" };
	bool wanted = f->wanted & BIT(note->verb);

	switch (f->kind) {
	case MODES:
		put_pair(o, f->name, modes[n & (NOTE_TAKE | NOTE_GIVE)]);
		return 0;
	case ROLE:
		put_pair(o, f->name, n == NOTE_PRODUCER ? "producer" : "consumer");
		return n == NOTE_PRODUCER || n == NOTE_CONSUMER ? 0 : -EINVAL;
	case STATUS:
		if (note->status >= 0)
			put_number(o, f->name, n);
		return note->status <= 255 ? 0 : -EINVAL;
	default:
		if (n || wanted)
			put_number(o, f->name, n);
		return n || f->kind != VERSION ? 0 : -EINVAL;
	}
}

static int
put_field(struct out *o, const struct note *note, const struct field *f)
{
	const char *at = (const char *)note + f->at;
	uint64_t wide;
	uint32_t small;

	switch (f->kind) {
	case TOOL:
	case TOKEN:
	case REASON:
		if (*at == '\0' && !(f->wanted & BIT(note->verb)))
			return 0;
		put_pair(o, f->name, at);
		return is_text(f->kind, at) ? 0 : -EINVAL;
	case NUM64:
		memcpy(&wide, at, sizeof(wide));
		put_number(o, f->name, wide);
		return 0;
	default:
		memcpy(&small, at, sizeof(small));
		return put_small(o, note, f, small);
	}
}

ssize_t
note_print(const struct note *note, const struct env *env, char *out, size_t cap)
{
	struct out o = { .at = out, .left = cap < NOTE_MAX ? cap : NOTE_MAX };
	const char *verb = note_verb_name(note->verb);

	if (note->verb == NOTE_UNKNOWN || (unsigned)note->verb >= N_VERBS)
		return -EINVAL;
	put(&o, verb, strlen(verb) + 1);
	for (size_t i = 0; i < N_FIELDS; i++)
		if (fields[i].verbs & BIT(note->verb) && put_field(&o, note, &fields[i]) < 0)
			return -EINVAL;
	if (note->verb == NOTE_CONN && env && env->len)
		put(&o, env->block, env->len);
	return o.full ? -EMSGSIZE : o.at - out;
}

int
note_env(const struct note *note, struct env *to)
{
	const char *end;

	if (!note->env)
		return 0;
	end = note->env + note->env_len;
	for (const char *s = note->env; s < end; s += strlen(s) + 1) {
		int r = env_add_pair(to, s);

		if (r < 0 && r != -EPERM)
			return r;
	}
	return 0;
}

static const char ticket_head[] = "ccf-handoff ";

/* A path that a line can carry and an address can hold. */
static bool
is_path(const char *s, size_t n)
{
	if (n == 0 || n >= sizeof(((struct ticket *)0)->path) || *s != '/')
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			return false;
	return true;
}

/* Whether what there is of the line can be the beginning of want. */
static bool
begins(const char *line, size_t len, const char *want)
{
	size_t n = strlen(want);

	return !memcmp(line, want, len < n ? len : n);
}

/* A ticket of a version that we do not speak is still known as one: a number and a blank. */
static int
other_version(const char *s, size_t len, bool ended)
{
	size_t n = 0;

	while (n < len && n < 10 && is_digit(s[n]))
		n++;
	if (n == len && n > 0 && n < 10 && !ended)
		return -EAGAIN;
	return n > 0 && n < 10 && n < len && s[n] == ' ' ? -EPROTONOSUPPORT : -EBADMSG;
}

int
ticket_parse(struct ticket *ret, const char *line, size_t len)
{
	const size_t head = sizeof(ticket_head) - 1, token = head + 2, path = token + 33;
	const char *newline = len ? memchr(line, '\n', len) : NULL;
	size_t n = newline ? (size_t)(newline - line) : len;

	if (n == 0)
		return newline ? -EBADMSG : -EAGAIN;
	if (!begins(line, n, ticket_head))
		return -EBADMSG;
	if (n > head && !begins(line + head, n - head, "1 "))
		return other_version(line + head, n - head, newline);
	if (!newline)
		return n < TICKET_MAX ? -EAGAIN : -EBADMSG;
	if (n <= path || !is_token(line + token, 32) || line[path - 1] != ' ' ||
	    !is_path(line + path, n - path))
		return -EBADMSG;
	memset(ret, 0, sizeof(*ret));
	memcpy(ret->token, line + token, 32);
	memcpy(ret->path, line + path, n - path);
	return (int)n + 1;
}

int
ticket_print(const struct ticket *t, char *out, size_t cap)
{
	int n;

	if (!is_token(t->token, strnlen(t->token, sizeof(t->token))) ||
	    !is_path(t->path, strnlen(t->path, sizeof(t->path))))
		return -EINVAL;
	n = snprintf(out, cap, "%s%d %s %s\n", ticket_head, NOTE_VERSION, t->token, t->path);
	return (size_t)n < cap ? n : -EMSGSIZE;
}
