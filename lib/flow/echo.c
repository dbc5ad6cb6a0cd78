#include "flow/echo.h"

void
echo_take(void *arg, struct receiver *r, struct datagram *const *d, unsigned n)
{
	(void)arg;
	(void)receiver_send(r, d, n, true);
}
