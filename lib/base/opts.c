/* base/opts - rows into getopt_long, values into the caller's variables, and a sentence for
 * everything that can be wrong with them. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/opts.h"

#define LONG_BASE    256 /* getopt's value of row n: above every short option */
#define NEAR	     2	 /* edits that still make it a slip of the finger */
#define HELP_WIDTH   80
#define HELP_MARGIN  2
#define HELP_COL_MAX 30

struct unit {
	const char *word;
	int64_t factor;
};

static const struct unit sizes[] = {
	{ "G", 1024 * 1024 * 1024 },
	{ "M", 1024 * 1024 },
	{ "k", 1024 },
	{ "K", 1024 },
	{ "", 1 },
	{ NULL, 0 },
};

static const struct unit times[] = {
	{ "h", 3600 * 1000 },
	{ "m", 60 * 1000 },
	{ "s", 1000 },
	{ "ms", 1 },
	{ NULL, 0 },
};

static const struct unit numbers[] = {
	{ "", 1 },
	{ NULL, 0 },
};

/* Digits, then one of the units; no sign, no space, no fraction. */
static int
parse_unit(const char *s, const struct unit *units, int64_t *ret)
{
	size_t digits = strspn(s, "0123456789");
	int64_t n = 0;
	bool range = false;

	while (units->word && strcmp(units->word, s + digits))
		units++;
	if (!digits || !units->word)
		return -EINVAL;
	for (size_t i = 0; i < digits; i++)
		range |=
		    __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, s[i] - '0', &n);
	range |= __builtin_mul_overflow(n, units->factor, &n);
	if (range)
		return -ERANGE;
	*ret = n;
	return 0;
}

int
parse_size(const char *s, int64_t *ret_bytes)
{
	return parse_unit(s, sizes, ret_bytes);
}

int
parse_time(const char *s, int64_t *ret_ms)
{
	return parse_unit(s, times, ret_ms);
}

/* n in the largest unit that leaves it an integer. */
static void
say_in(char *buf, size_t cap, int64_t n, const struct unit *units)
{
	while (units[1].word && (n == 0 || n % units->factor))
		units++;
	snprintf(buf, cap, "%" PRId64 "%s", n / units->factor, units->word);
}

static const struct unit *
units_of(const struct opt *o)
{
	return o->kind == OPT_TIME || o->kind == OPT_LIMIT ? times
	       : o->kind == OPT_SIZE			   ? sizes
							   : numbers;
}

static int
bad_number(const struct opt *o, const char *value, int why, char *msg, size_t cap)
{
	const char *name = o->name;
	char min[32], max[32];

	say_in(min, sizeof(min), o->min, units_of(o));
	say_in(max, sizeof(max), o->max, units_of(o));
	if (why == -ERANGE && o->max == INT64_MAX) {
		snprintf(msg, cap, "--%s %s: must be at least %s", name, value, min);
	} else if ((why == -ERANGE || o->kind == OPT_NUMBER) && (o->min || o->max)) {
		snprintf(msg, cap, "--%s %s: must be from %s to %s", name, value, min, max);
	} else if (why == -ERANGE) {
		snprintf(msg, cap, "--%s %s: too large", name, value);
	} else if (o->kind == OPT_SIZE) {
		snprintf(msg, cap, "--%s %s: say bytes, or an integer and k, M or G, such as 64M",
		    name, value);
	} else if (o->kind == OPT_NUMBER) {
		snprintf(msg, cap, "--%s %s: must be an integer, 0 or more", name, value);
	} else if (*value && strspn(value, "0123456789") == strlen(value)) {
		snprintf(
		    msg, cap, "--%s %s: say %ss (or %sms, %sm)", name, value, value, value, value);
	} else {
		snprintf(msg, cap, "--%s %s: say an integer and ms, s, m or h, such as 500ms", name,
		    value);
	}
	return -EINVAL;
}

static int
take_number(const struct opt *o, const char *value, char *msg, size_t cap)
{
	bool negative = *value == '-';
	int64_t n = 0;
	int r = 0;

	if (o->kind != OPT_LIMIT || strcmp(value, "none") != 0)
		r = parse_unit(value + negative, units_of(o), &n);

	if (r < 0)
		return bad_number(o, value, r, msg, cap);
	if (negative)
		n = -n;
	if (o->min || o->max ? n < o->min || n > o->max : n < 0)
		return bad_number(
		    o, value, negative && !o->min && !o->max ? -EINVAL : -ERANGE, msg, cap);
	*(int64_t *)o->to = n == 0 && o->kind == OPT_LIMIT ? -1 : n;
	return 0;
}

static int
take_word(const struct opt *o, const char *value, char *msg, size_t cap)
{
	size_t at;
	int n = 0;

	for (; o->words[n]; n++) {
		if (strcmp(o->words[n], value) == 0) {
			*(int *)o->to = n;
			return 0;
		}
	}
	snprintf(msg, cap, "--%s %s: say ", o->name, value);
	for (int i = 0; i < n; i++) {
		at = strlen(msg);
		snprintf(msg + at, cap - at, "%s%s",
		    i == 0	? ""
		    : i < n - 1 ? ", "
				: " or ",
		    o->words[i]);
	}
	return -EINVAL;
}

static int
take_item(const struct opt *o, const char *value, char *msg, size_t cap)
{
	struct opt_list *list = o->to;
	const char **more = reallocarray(list->item, list->n + 1, sizeof(*more));

	if (!more) {
		snprintf(msg, cap, "--%s %s: out of memory", o->name, value);
		return -EINVAL;
	}
	more[list->n++] = value;
	list->item = more;
	return 0;
}

static int
take(const struct opt *o, const char *value, char *msg, size_t cap)
{
	switch (o->kind) {
	case OPT_FLAG:
		*(bool *)o->to = true;
		return 0;
	case OPT_COUNT:
		++*(int *)o->to;
		return 0;
	case OPT_TEXT:
		*(const char **)o->to = value;
		return 0;
	case OPT_LIST:
		return take_item(o, value, msg, cap);
	case OPT_NUMBER:
	case OPT_SIZE:
	case OPT_TIME:
	case OPT_LIMIT:
		return take_number(o, value, msg, cap);
	case OPT_WORD:
		return take_word(o, value, msg, cap);
	}
	return -EINVAL;
}

/* Levenshtein's distance of a (a_len bytes) and b; both are option names, so short. */
static unsigned
distance(const char *a, size_t a_len, const char *b)
{
	unsigned row[64];
	size_t b_len = strlen(b);

	if (a_len >= 64 || b_len >= 64)
		return 64;
	for (unsigned j = 0; j <= b_len; j++)
		row[j] = j;
	for (unsigned i = 1; i <= a_len; i++) {
		unsigned corner = row[0]; /* of the row above, one to the left */

		row[0] = i;
		for (unsigned j = 1; j <= b_len; j++) {
			unsigned best = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			best = row[j] + 1 < best ? row[j] + 1 : best;
			row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
		}
	}
	return row[b_len];
}

/* word: as typed, with its dashes.  One dash too few ("-keep") is the same slip. */
static int
bad_option(const struct opt *table, const char *word, char brief, char *msg, size_t cap)
{
	const char *name = word + strspn(word, "-"), *close[2] = { NULL, NULL };
	size_t len = strcspn(name, "=");
	unsigned best = NEAR + 1, begun = 0;
	bool is_long = word[0] == '-' && word[1] == '-';

	for (const struct opt *o = table; o->name; o++) {
		unsigned d = distance(name, len, o->name);

		if (is_long && strncmp(o->name, name, len) == 0 && begun++ < 2)
			close[begun - 1] = o->name;
		if (!begun && d < best && d < strlen(o->name)) {
			best = d;
			close[0] = o->name;
		}
	}
	if (begun > 1)
		snprintf(
		    msg, cap, "--%.*s may be --%s or --%s", (int)len, name, close[0], close[1]);
	else if (close[0] && (is_long || best == 0))
		snprintf(msg, cap, "unknown option %.*s: did you mean --%s?",
		    (int)strcspn(word, "="), word, close[0]);
	else if (is_long)
		snprintf(msg, cap, "unknown option --%.*s: see --help", (int)len, name);
	else
		snprintf(msg, cap, "unknown option -%c: see --help", brief);
	return -EINVAL;
}

static const struct opt *
row_of(const struct opt *table, int val)
{
	if (val >= LONG_BASE)
		return table + (val - LONG_BASE);
	while (table->name && table->brief != val)
		table++;
	return table;
}

/* getopt's two tables.  ":": tell a missing value apart. */
static int
make_tables(const struct opt *table, char **ret_short, struct option **ret_long)
{
	struct option *longs;
	char *brief;
	size_t n = 0, at = 0;

	while (table[n].name)
		n++;
	brief = malloc(2 * n + 2);
	longs = calloc(n + 1, sizeof(*longs));
	if (!brief || !longs) {
		free(brief);
		free(longs);
		return -ENOMEM;
	}
	brief[at++] = ':';
	for (size_t i = 0; i < n; i++) {
		longs[i].name = table[i].name;
		longs[i].has_arg = table[i].arg ? required_argument : no_argument;
		longs[i].val = LONG_BASE + (int)i;
		if (!table[i].brief)
			continue;
		brief[at++] = table[i].brief;
		if (table[i].arg)
			brief[at++] = ':';
	}
	brief[at] = '\0';
	*ret_short = brief;
	*ret_long = longs;
	return 0;
}

/* The word getopt has just refused.  It has gone past it unless it stands within a cluster ("-xk").
 */
static const char *
culprit(char **argv)
{
	const char *word = argv[optind - 1];

	return !optopt || (*word == '-' && word[strlen(word) - 1] == optopt) ? word : argv[optind];
}

int
opts_parse(const struct opts *opts, int argc, char **argv, char *msg, size_t cap)
{
	const struct opt *table = opts->table;
	struct option *longs;
	char *brief;
	int val, r, n = 1;

	r = make_tables(table, &brief, &longs);
	if (r < 0) {
		snprintf(msg, cap, "out of memory");
		return -EINVAL;
	}
	while (n < argc && strcmp(argv[n], "--") != 0)
		n++;
	optind = 0; /* glibc: begin anew, whoever parsed before */
	for (r = 0; r == 0;) {
		val = getopt_long(n, argv, brief, longs, NULL);
		if (val == -1)
			break;
		if (val == ':') {
			snprintf(msg, cap, "--%s needs a value", row_of(table, optopt)->name);
			r = -EINVAL;
		} else if (val == '?' && optopt >= LONG_BASE) {
			snprintf(msg, cap, "--%s takes no value", row_of(table, optopt)->name);
			r = -EINVAL;
		} else if (val == '?') {
			r = bad_option(table, culprit(argv), (char)optopt, msg, cap);
		} else {
			r = take(row_of(table, val), optarg, msg, cap);
		}
	}
	free(brief);
	free(longs);
	return r < 0 ? r : optind;
}

static size_t
left_width(const struct opt *o)
{
	return HELP_MARGIN + strlen("-x, --") + strlen(o->name) + (o->arg ? 1 + strlen(o->arg) : 0);
}

/* text, filled up to HELP_WIDTH, every line but the first indented. */
static void
print_filled(const char *text, size_t indent)
{
	size_t column = indent;

	while (*text) {
		size_t len = strcspn(text, " ");

		if (column > indent && column + 1 + len > HELP_WIDTH) {
			printf("\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			putchar(' ');
			column++;
		}
		printf("%.*s", (int)len, text);
		column += len;
		text += len + strspn(text + len, " ");
	}
	putchar('\n');
}

/* The row whose name comes after that of prev in the alphabet. */
static const struct opt *
next_row(const struct opt *table, const struct opt *prev)
{
	const struct opt *best = NULL;

	for (const struct opt *o = table; o->name; o++)
		if ((!prev || strcmp(o->name, prev->name) > 0) &&
		    (!best || strcmp(o->name, best->name) < 0))
			best = o;
	return best;
}

void
opts_help(const struct opts *opts)
{
	size_t column = 0;

	printf("usage: ");
	for (const char *s = opts->usage; *s;) {
		size_t len = strcspn(s, "\n");

		printf("%s%.*s\n", s == opts->usage ? "" : "       ", (int)len, s);
		s += len + (s[len] == '\n');
	}
	print_filled(opts->about, 0);
	putchar('\n');
	for (const struct opt *o = opts->table; o->name; o++) {
		if (left_width(o) > column && left_width(o) <= HELP_COL_MAX - 2)
			column = left_width(o);
	}
	column += 2;
	for (const struct opt *o = NULL; (o = next_row(opts->table, o));) {
		char brief[] = { '-', o->brief, ',', '\0' };

		printf("%*s%-3s --%s%s%s", HELP_MARGIN, "", o->brief ? brief : "", o->name,
		    o->arg ? " " : "", o->arg ? o->arg : "");
		if (left_width(o) + 2 > column)
			printf("\n%*s", (int)column, "");
		else
			printf("%*s", (int)(column - left_width(o)), "");
		print_filled(o->help, column);
	}
}
