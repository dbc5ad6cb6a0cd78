/* Lines of state from anybody: what is accepted keeps to its form, and written again reads back as
 * the same. */
#include "wire/record.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
	if (!holds)
		abort();
}

static void
look_at(const struct record *r, const char *name)
{
	static char bytes[RECORD_LINE_MAX];
	int64_t n = 42;
	int rc = record_get_number(r, name, -1000, 1000, &n);

	must(rc == 0 ? n >= -1000 && n <= 1000 : n == 42);
	must(rc == 0 || rc == -EBADMSG || rc == -ERANGE);
	rc = record_get_bytes(r, name, bytes, sizeof(bytes));
	must(rc == -EBADMSG || rc == (int)strlen(record_get(r, name)) / 2);
	rc = record_get_bytes(r, name, bytes, 1);
	must(rc == -EBADMSG || rc == -ENOSPC || (rc >= 0 && rc <= 1));
}

static void
check_again(const struct record *r)
{
	static struct record back;
	struct text t = { 0 };

	record_begin(&t, r->word);
	for (unsigned i = 0; i < r->n; i++)
		record_text(&t, r->field[i].name, r->field[i].value);
	record_end(&t);
	/* Never longer than what it was read from: only what has to be is escaped. */
	must(!t.failed && record_parse(&back, t.at, t.len) == (int)t.len);
	must(back.n == r->n && strcmp(back.word, r->word) == 0);
	for (unsigned i = 0; i < r->n; i++) {
		must(strcmp(back.field[i].name, r->field[i].name) == 0);
		must(strcmp(back.field[i].value, r->field[i].value) == 0);
	}
	text_free(&t);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct record r;
	const char *at = (const char *)data;
	int n;

	for (; (n = record_parse(&r, at, size)) > 0; at += n, size -= (size_t)n) {
		must((size_t)n <= size && n <= RECORD_LINE_MAX && at[n - 1] == '\n');
		must(r.n <= RECORD_FIELDS && *r.word);
		for (unsigned i = 0; i < r.n; i++) {
			must(record_get(&r, r.field[i].name) == r.field[i].value);
			look_at(&r, r.field[i].name);
		}
		check_again(&r);
	}
	must(n == (size ? -EBADMSG : 0));
	return 0;
}
