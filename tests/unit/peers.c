/* The table of peers, beside an array that does the same slowly; and what makes two peers one. */
#include "net/peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "check.h"

static struct datagram
datagram_of(const char *peer, const char *local)
{
	struct datagram d = { 0 };
	struct addr addr;
	char msg[256];

	CHECK_INT(addr_parse(&addr, peer, 0, msg, sizeof(msg)), 0);
	CHECK_INT(addr_literal(&addr, &d.peer), 0);
	CHECK_INT(inet_pton(AF_INET6, local, &d.local), 1);
	return d;
}

enum view { FLOW, SENDER, HOST };

static struct peer_key
key_of(const char *peer, const char *local, enum view view)
{
	struct datagram d = datagram_of(peer, local);
	struct peer_key key;

	memset(&key, 0xa5, sizeof(key));
	peer_key_of(&key, &d);
	if (view == SENDER)
		peer_key_sender(&key, &key);
	else if (view == HOST)
		peer_key_host(&key, &key);
	return key;
}

static bool
same(struct peer_key a, struct peer_key b)
{
	return memcmp(&a, &b, sizeof(a)) == 0;
}

/* Both at the same address of ours. */
static bool
same_seen_as(enum view view, const char *a, const char *b)
{
	return same(key_of(a, "::", view), key_of(b, "::", view));
}

CASE(a_flow_has_two_ends)
{
	const char *peer = "192.0.2.1:7", *a = "::ffff:127.0.0.1", *b = "::ffff:127.0.0.2";

	CHECK(same(key_of(peer, a, FLOW), key_of(peer, a, FLOW)));
	CHECK(!same(key_of(peer, a, FLOW), key_of(peer, b, FLOW)));
	CHECK(same(key_of(peer, a, SENDER), key_of(peer, b, SENDER)));
	CHECK(same(key_of(peer, a, HOST), key_of(peer, b, HOST)));
}

CASE(a_port_is_another_peer_of_the_same_host)
{
	CHECK(!same_seen_as(FLOW, "192.0.2.1:7", "192.0.2.1:8"));
	CHECK(!same_seen_as(SENDER, "192.0.2.1:7", "192.0.2.1:8"));
	CHECK(same_seen_as(HOST, "192.0.2.1:7", "192.0.2.1:8"));
	CHECK(!same_seen_as(HOST, "192.0.2.1:7", "192.0.2.2:7"));
	CHECK_INT(key_of("192.0.2.1:7", "::", FLOW).port, 7);
	CHECK_INT(key_of("[::1]:65535", "::", FLOW).port, 65535);
	CHECK_INT(key_of("[::1]:65535", "::", HOST).port, 0);
}

CASE(ipv4_is_ipv4_however_it_comes)
{
	CHECK(same_seen_as(FLOW, "192.0.2.1:7", "[::ffff:192.0.2.1]:7"));
	CHECK(same_seen_as(HOST, "192.0.2.1:7", "[::ffff:192.0.2.1]:8"));
	CHECK(!same_seen_as(HOST, "192.0.2.1:7", "[::ffff:192.0.2.2]:7"));
}

CASE(a_host_has_64_bits_of_ipv6)
{
	CHECK(!same_seen_as(SENDER, "[2001:db8:1:2::1]:7", "[2001:db8:1:2:8000::]:7"));
	CHECK(same_seen_as(HOST, "[2001:db8:1:2::1]:7", "[2001:db8:1:2:8000::]:7"));
	CHECK(!same_seen_as(HOST, "[2001:db8:1:2::1]:7", "[2001:db8:1:3::1]:7"));
	/* These begin with 80 bits of nothing, as IPv4 does. */
	CHECK(!same_seen_as(HOST, "[::1]:7", "0.0.0.1:7"));
}

CASE(a_link_local_address_is_one_of_its_interface)
{
	struct datagram d = datagram_of("[2001:db8::1]:7", "fe80::9");
	struct peer_key one, two;

	for (enum view v = FLOW; v <= HOST; v++) {
		CHECK(!same_seen_as(v, "[fe80::1%1]:7", "[fe80::1%2]:7"));
		CHECK(same_seen_as(v, "[fe80::1%1]:7", "[fe80::1%1]:7"));
		CHECK(same_seen_as(v, "[2001:db8::1%1]:7", "[2001:db8::1%2]:7"));
	}
	/* Ours may be one as well: two interfaces are two flows, and one sender. */
	d.ifindex = 1;
	peer_key_of(&one, &d);
	d.ifindex = 2;
	peer_key_of(&two, &d);
	CHECK(!same(one, two));
	peer_key_sender(&one, &one);
	peer_key_sender(&two, &two);
	CHECK(same(one, two));
}

static struct peer_key
number(unsigned n)
{
	struct peer_key key = { .port = (uint16_t)n };

	return key;
}

CASE(the_table_has_a_bound)
{
	struct peers table;
	struct peer a = { .key = number(1) }, b = { .key = number(2) }, c = { .key = number(3) };
	struct peer again = { .key = number(1), .seen = -7 };

	peers_init(&table, 2);
	CHECK(!peers_oldest(&table));
	CHECK_INT(peers_enter(&table, &a, 10), 0);
	CHECK_INT(peers_enter(&table, &again, 11), -EEXIST);
	CHECK_INT(peers_enter(&table, &b, 12), 0);
	CHECK_INT(peers_enter(&table, &c, 13), -ENOSPC);
	CHECK_INT(peers_enter(&table, &again, 13), -EEXIST);
	CHECK_INT(again.seen, -7);
	CHECK_INT(table.n, 2);
	CHECK(peers_oldest(&table) == &a);
	peers_heard(&table, &a, 14);
	CHECK_INT(a.seen, 14);
	CHECK(peers_oldest(&table) == &b);
	peers_leave(&table, &b);
	CHECK_INT(peers_enter(&table, &c, 15), 0);
	CHECK(!peers_find(&table, &b.key));
	CHECK(peers_find(&table, &a.key) == &a);
}

#define MANY 300

static struct peer peer[MANY];
static struct peer *model[MANY]; /* in the order of peers.order */
static unsigned n_model;

static unsigned
place(const struct peer *p)
{
	unsigned i = 0;

	while (i < n_model && model[i] != p)
		i++;
	return i;
}

static void
model_remove(unsigned i)
{
	memmove(&model[i], &model[i + 1], (--n_model - i) * sizeof(*model));
}

static void
step(struct peers *table, struct peer *p, int64_t now)
{
	unsigned i = place(p);

	CHECK(peers_find(table, &p->key) == (i < n_model ? p : NULL));
	if (i == n_model) {
		if (table->max && n_model == table->max) {
			CHECK_INT(peers_enter(table, p, now), -ENOSPC);
			return;
		}
		CHECK_INT(peers_enter(table, p, now), 0);
	} else {
		model_remove(i);
		if (random() % 3 == 0) {
			peers_leave(table, p);
			return;
		}
		peers_heard(table, p, now);
	}
	CHECK_INT(p->seen, now);
	model[n_model++] = p;
}

static void
against_the_model(unsigned max)
{
	struct peers table;
	struct peer *p;
	unsigned i = 0;

	srandom(max + 1);
	n_model = 0;
	peers_init(&table, max);
	for (unsigned k = 0; k < MANY; k++) {
		peer[k] = (struct peer){ 0 };
		peer[k].key.ip.s6_addr[k % 16] = (uint8_t)(k / 16 + 1);
	}
	for (int64_t now = 1; now <= 20000 && !check_failed; now++) {
		step(&table, &peer[random() % MANY], now);
		CHECK_INT(table.n, n_model);
		CHECK(peers_oldest(&table) == (n_model ? model[0] : NULL));
	}
	TAILQ_FOREACH(p, &table.order, order)
		CHECK(i < n_model && model[i++] == p);
	CHECK_INT(i, n_model);
	while ((p = peers_oldest(&table)))
		peers_leave(&table, p);
	CHECK_INT(table.n, 0);
}

CASE(it_does_what_an_array_would)
{
	against_the_model(0);
	against_the_model(40);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_flow_has_two_ends),
	    RUN(a_port_is_another_peer_of_the_same_host),
	    RUN(ipv4_is_ipv4_however_it_comes),
	    RUN(a_host_has_64_bits_of_ipv6),
	    RUN(a_link_local_address_is_one_of_its_interface),
	    RUN(the_table_has_a_bound),
	    RUN(it_does_what_an_array_would),
	    { 0 },
	});
}
