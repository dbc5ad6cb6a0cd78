/* addr_parse on any text: what it takes has the promised form, survives being written again, and
 * what it refuses comes with a sentence. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
must(bool ok)
{
	if (!ok)
		abort();
}

static void
check_taken(const struct addr *a)
{
	char buf[ADDR_TEXT_MAX], again[ADDR_TEXT_MAX];
	struct sockaddr_any s, t;
	struct addr b;

	must(a->kind != ADDR_UNIX || (*a->path && strlen(a->path) < sizeof(a->path)));
	must(a->kind != ADDR_FD || a->fd >= 0);
	must(a->kind == ADDR_UNIX || a->kind == ADDR_FD || *a->port);
	if (addr_literal(a, &s) < 0)
		return;
	addr_text(&s, buf, sizeof(buf));
	must(strlen(addr_ip(&s, again, sizeof(again))) < sizeof(again));
	must(addr_parse(&b, buf, 0, again, sizeof(again)) == 0);
	must(addr_literal(&b, &t) == 0);
	must(!strcmp(addr_text(&t, again, sizeof(again)), buf));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char text[1024], msg[256];
	struct addr a;
	unsigned may;

	if (len < 1 || len > sizeof(text))
		return 0;
	may = data[0] & 7; /* '0' to '7' in the corpus */
	memcpy(text, data + 1, len - 1);
	text[len - 1] = '\0';
	msg[0] = '\0';
	if (addr_parse(&a, text, may, msg, sizeof(msg)) == 0)
		check_taken(&a);
	else
		must(msg[0] && strlen(msg) < sizeof(msg));
	return 0;
}
