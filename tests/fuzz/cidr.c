/* cidr_parse on any text: a network that is taken holds its own first address. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "net/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char text[128];
	struct sockaddr_any s = { 0 };
	struct cidr c;

	if (len >= sizeof(text))
		return 0;
	memcpy(text, data, len);
	text[len] = '\0';
	if (cidr_parse(&c, text) < 0)
		return 0;
	s.sa.sa_family = (sa_family_t)c.family;
	if (c.family == AF_INET)
		memcpy(&s.in.sin_addr, c.bits, 4);
	else
		memcpy(&s.in6.sin6_addr, c.bits, 16);
	if (c.prefix > (c.family == AF_INET ? 32u : 128u) || !cidr_holds(&c, &s))
		abort();
	return 0;
}
