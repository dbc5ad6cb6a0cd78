/* base/opts - one table an option: the parser, --help and the drift test read the same rows.
 * getopt_long underneath. */
#ifndef BASE_OPTS_H
#define BASE_OPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum opt_kind {
	OPT_FLAG,	/* to: bool, set to true */
	OPT_COUNT,	/* to: int, one more each time */
	OPT_TEXT,	/* to: const char *, borrowed from argv; given twice: the last one holds */
	OPT_LIST,	/* to: struct opt_list, repeatable */
	OPT_NUMBER,	/* to: int64_t, min..max */
	OPT_SIZE,	/* to: int64_t bytes: integer and k, M, G (1024); a bare number is bytes */
	OPT_TIME,	/* to: int64_t ms: integer and ms, s, m, h; a bare number is an error */
	OPT_LIMIT,	/* the same for a deadline: "none", or 0 with any unit, is -1: no limit */
	OPT_WORD,	/* to: int, the index of the word in words */
};

struct opt_list {
	const char **item;	/* n of them, borrowed from argv; the array is ours for good */
	size_t n;
};

struct opt {
	char brief;		/* 0: none */
	const char *name;	/* the long one; a row without it ends the table */
	const char *arg;	/* how help calls the value: "TIME"; NULL: takes none */
	enum opt_kind kind;
	void *to;
	int64_t min, max;	/* for numbers, sizes and times; both 0: any that is not negative */
	const char *const *words;	/* for OPT_WORD, NULL-terminated */
	const char *help;	/* one line, with the default where there is one */
};

struct opts {
	const char *tool, *usage, *about;	/* usage: shaped like SYNOPSIS, lines split by \n; about: one sentence */
	const struct opt *table;
};

int opts_parse(const struct opts *, int argc, char **argv, char *msg, size_t cap);
	/* The index of the first operand, or of the "--" that ended them.  Options and operands may be mixed up to "--":
	 * they are sorted in place; "--" and what follows it (the COMMAND) stay as they are.
	 * -EINVAL: msg says in one sentence what was wrong and what to write instead (exit CCF_USAGE).
	 * --help and --version are rows like any other (OPT_FLAG): the caller acts on them. */
void opts_help(const struct opts *);	/* to standard output, 80 columns, options sorted by name */

int parse_size(const char *, int64_t *ret_bytes);	/* 0, -EINVAL, -ERANGE */
int parse_time(const char *, int64_t *ret_ms);		/* 0, -EINVAL, -ERANGE */

#endif
