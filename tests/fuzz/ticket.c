/* Whatever stands on the pipe where a ticket should: the answer for a line does not depend on how
 * much of it came at once, and what is accepted can be printed. */
#include "wire/note.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *line = (const char *)data;
	struct ticket whole, part;
	char out[TICKET_MAX];
	int r = ticket_parse(&whole, line, size), n = -EAGAIN;

	for (size_t i = 0; i <= size && n == -EAGAIN; i++)
		n = ticket_parse(&part, line, i);
	if (n != r)
		abort();
	if (r > 0 && (ticket_print(&whole, out, sizeof(out)) != r || memcmp(out, line, (size_t)r)))
		abort();
	return 0;
}
