/* rates: the three limits beside each other, and a table that a flood of senders cannot make
 * grow, nor use to free somebody of his limit.  The clock is ours. */
#include "flow/rates.h"

#include <arpa/inet.h>

#include "check.h"

#define SECOND 1000000

static struct rates rates;

static void
begin(int64_t peer, int64_t host, int64_t all)
{
	struct rates_config cfg = { .peer = peer, .host = host, .all = all };

	rates_open(&rates, &cfg);
}

static const char *
take(const struct datagram *d, int64_t now_us)
{
	const char *over = rates_take(&rates, d, now_us);

	return over ? over : "in";
}

static struct datagram
from_v4(uint32_t ip, uint16_t port)
{
	struct datagram d = { .peer = { .len = sizeof(d.peer.in) } };

	d.peer.in.sin_family = AF_INET;
	d.peer.in.sin_addr.s_addr = htonl(ip);
	d.peer.in.sin_port = htons(port);
	return d;
}

static struct datagram
from_v6(const char *ip, uint16_t port)
{
	struct datagram d = { .peer = { .len = sizeof(d.peer.in6) } };

	d.peer.in6.sin6_family = AF_INET6;
	CHECK_INT(inet_pton(AF_INET6, ip, &d.peer.in6.sin6_addr), 1);
	d.peer.in6.sin6_port = htons(port);
	return d;
}

CASE(without_limits_all_comes_in_and_nobody_is_remembered)
{
	struct datagram d = from_v4(0x7f000001, 1);

	begin(0, 0, 0);
	for (int i = 0; i < 1000; i++)
		CHECK_STR(take(&d, SECOND), "in");
	CHECK_INT(rates.known.n, 0);
	rates_close(&rates);
	rates_close(&rates);
}

CASE(a_peer_has_its_own_limit_whichever_address_it_asks)
{
	struct datagram a = from_v4(0x7f000001, 1), b = from_v4(0x7f000001, 2);

	begin(3, 0, 0);
	CHECK_STR(take(&a, SECOND), "in");
	CHECK_STR(take(&a, SECOND), "in");
	a.local.s6_addr[15] = 7;
	CHECK_STR(take(&a, SECOND), "in");
	CHECK_STR(take(&a, SECOND), "rate");
	CHECK_STR(take(&b, SECOND), "in");
	CHECK_INT(rates.known.n, 2);
	CHECK_STR(take(&a, SECOND + SECOND / 3 - 1), "rate");
	CHECK_STR(take(&a, SECOND + SECOND / 3 + 1), "in");
	CHECK_STR(take(&a, SECOND + SECOND / 3 + 1), "rate");
	rates_close(&rates);
}

CASE(the_ports_of_a_host_share_a_limit)
{
	struct datagram a = from_v4(0x7f000001, 1), b = from_v4(0x7f000001, 2),
			c = from_v4(0x7f000002, 1);

	begin(0, 2, 0);
	CHECK_STR(take(&a, SECOND), "in");
	CHECK_STR(take(&b, SECOND), "in");
	CHECK_STR(take(&a, SECOND), "rate-host");
	CHECK_STR(take(&b, SECOND), "rate-host");
	CHECK_STR(take(&c, SECOND), "in");
	CHECK_INT(rates.known.n, 2);
	rates_close(&rates);
}

CASE(a_64_of_ipv6_is_a_host)
{
	struct datagram a = from_v6("2001:db8::1", 1), b = from_v6("2001:db8::ffff:1", 2),
			c = from_v6("2001:db8:0:1::1", 1);

	begin(0, 1, 0);
	CHECK_STR(take(&a, SECOND), "in");
	CHECK_STR(take(&b, SECOND), "rate-host");
	CHECK_STR(take(&c, SECOND), "in");
	rates_close(&rates);
}

CASE(one_limit_holds_for_all_together)
{
	struct datagram d;

	begin(0, 0, 5);
	for (uint32_t i = 0; i < 10; i++) {
		d = from_v4(0x0a000000 + i, 1);
		CHECK_STR(take(&d, SECOND), i < 5 ? "in" : "rate-all");
	}
	CHECK_INT(rates.known.n, 0);
	rates_close(&rates);
}

CASE(what_one_limit_refuses_the_others_are_not_charged_for)
{
	struct datagram a = from_v4(0x0a000001, 1), b = from_v4(0x0a000002, 1),
			c = from_v4(0x0a000003, 1);

	begin(1, 1, 2);
	CHECK_STR(take(&a, SECOND), "in");
	CHECK_STR(take(&a, SECOND), "rate"); /* else nothing would be left for b */
	CHECK_STR(take(&b, SECOND), "in");
	for (int i = 0; i < 10; i++)
		CHECK_STR(take(&c, SECOND), "rate-all");
	CHECK_STR(
	    take(&c, SECOND + SECOND / 2), "in"); /* of its own one a second it has had none */
	rates_close(&rates);
}

/* Each sends one every 10 us; the steady one a hundred a second, as it may. */
CASE(a_flood_of_senders_leaves_a_bounded_table_and_a_steady_peer)
{
	struct datagram steady = from_v4(0x7f000001, 7000), d;
	int64_t now = SECOND;
	int missed = 0;

	begin(100, 1000, 0);
	for (uint32_t i = 0; i < 200000; i++, now += 10) {
		d = from_v4(0x0a000000 + i, (uint16_t)(1 + i % 60000));
		CHECK_STR(take(&d, now), "in");
		if (i % 1000 == 0)
			missed += strcmp(take(&steady, now), "in") != 0;
		if (rates.known.n > RATES_KNOWN)
			break;
	}
	CHECK_INT(missed, 0);
	CHECK(rates.known.n <= RATES_KNOWN);
	rates_close(&rates);
	CHECK_INT(rates.known.n, 0);
}

/* All at one moment: no bucket is full again, and still nothing grows. */
CASE(a_flood_at_one_moment_is_bounded_too)
{
	struct datagram d;

	begin(10, 10, 0);
	for (uint32_t i = 0; i < RATES_KNOWN; i++) {
		d = from_v4(0x0a000000 + i, 1);
		CHECK_STR(take(&d, SECOND), "in");
	}
	CHECK_INT(rates.known.n, RATES_KNOWN);
	rates_close(&rates);
}

CASE(who_goes_on_sending_is_not_forgotten_in_a_flood)
{
	struct datagram over = from_v4(0x7f000001, 7000), d;
	int64_t now = SECOND;
	int escaped = 0;

	begin(1, 0, 0);
	CHECK_STR(take(&over, now), "in");
	for (uint32_t i = 0; i < 3 * RATES_KNOWN; i++, now += 2) { /* 0.4 s */
		d = from_v4(0x0a000000 + i, 1);
		(void)take(&d, now);
		if (i % 30000 == 0)
			escaped += strcmp(take(&over, now), "rate") != 0;
	}
	CHECK_INT(escaped, 0);
	rates_close(&rates);
}

CASE(the_table_shrinks_when_the_flood_is_over)
{
	struct datagram d;
	int64_t now = SECOND;

	begin(10, 0, 0);
	for (uint32_t i = 0; i < RATES_KNOWN; i++) {
		d = from_v4(0x0a000000 + i, 1);
		(void)take(&d, now);
	}
	now += 2 * SECOND;
	for (uint32_t i = 0; i < RATES_KNOWN; i++, now += 10000) {
		d = from_v4(0x0c000000 + i, 1);
		CHECK_STR(take(&d, now), "in");
	}
	CHECK(rates.known.n < 1000);
	rates_close(&rates);
}

int
main(void)
{
	return check_main(
	    (struct check_case[]){ RUN(without_limits_all_comes_in_and_nobody_is_remembered),
		RUN(a_peer_has_its_own_limit_whichever_address_it_asks),
		RUN(the_ports_of_a_host_share_a_limit), RUN(a_64_of_ipv6_is_a_host),
		RUN(one_limit_holds_for_all_together),
		RUN(what_one_limit_refuses_the_others_are_not_charged_for),
		RUN(a_flood_of_senders_leaves_a_bounded_table_and_a_steady_peer),
		RUN(a_flood_at_one_moment_is_bounded_too),
		RUN(who_goes_on_sending_is_not_forgotten_in_a_flood),
		RUN(the_table_shrinks_when_the_flood_is_over), { 0 } });
}
