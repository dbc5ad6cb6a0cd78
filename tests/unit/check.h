/* check - the smallest test frame that still says what failed: TAP on standard output, one function a case.
 *
 *	CASE(two_and_two) { CHECK(2 + 2 == 4); CHECK_INT(2 + 2, 4); CHECK_STR("a", "a"); }
 *	int main(void) { return check_main((struct check_case[]){ RUN(two_and_two), { 0 } }); }
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct check_case {
	const char *name;
	void (*run)(void);
};

static int check_failed;
static const char *check_skipped;

#define CASE(name) static void name(void)
#define RUN(name) { #name, name }
#define SKIP(why) do { check_skipped = (why); return; } while (0)
#define CHECK(x) do { if (!(x)) { check_failed++; printf("# %s:%d: not true: %s\n", __FILE__, __LINE__, #x); } } while (0)
#define CHECK_INT(x, y) do { \
	long long check_x = (long long)(x), check_y = (long long)(y); \
	if (check_x != check_y) { check_failed++; \
		printf("# %s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #x, check_x, check_y); } \
} while (0)
#define CHECK_STR(x, y) do { \
	const char *check_x = (x), *check_y = (y); \
	if (!check_x || strcmp(check_x, check_y)) { check_failed++; \
		printf("# %s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, #x, check_x ? check_x : "(null)", check_y); } \
} while (0)

static inline int
check_main(const struct check_case *cases)
{
	int n = 0, bad = 0;

	for (const struct check_case *c = cases; c->name; c++) {
		check_failed = 0;
		check_skipped = NULL;
		c->run();
		printf("%sok %d - %s%s%s\n", check_failed ? "not " : "", ++n, c->name,
		    check_skipped ? " # SKIP " : "", check_skipped ? check_skipped : "");
		fflush(stdout);
		bad += check_failed != 0;
	}
	printf("1..%d\n", n);
	return bad != 0;
}

#endif
