/* parse_size and parse_time: what they take they take exactly, what they refuse they leave alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/opts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check(int r, const char *text, int64_t n)
{
	if (r == 0 && (n < 0 || *text < '0' || *text > '9'))
		abort();
	if (r != 0 && (n != -42 || (r != -EINVAL && r != -ERANGE)))
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[64];
	int64_t n = -42;
	int r;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	r = parse_size(text, &n);
	check(r, text, n);
	n = -42;
	r = parse_time(text, &n);
	check(r, text, n);
	if (r == 0 && !strpbrk(text, "msh")) /* a bare number is no time */
		abort();
	return 0;
}
