#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>

#include "check.h"

#define ALL (ADDR_MAY_NAME | ADDR_MAY_FD | ADDR_MAY_UDP)

static char msg[512];

static int
parse(struct addr *a, const char *text, unsigned may)
{
	msg[0] = '\0';
	return addr_parse(a, text, may, msg, sizeof(msg));
}

/* Refused, and the message holds what helps. */
#define REFUSED(text, may, says)                                                                   \
	do {                                                                                       \
		struct addr refused = { .fd = -7 };                                                \
		CHECK_INT(parse(&refused, text, may), -EINVAL);                                    \
		CHECK_INT(refused.fd, -7);                                                         \
		if (!strstr(msg, says)) {                                                          \
			check_failed++;                                                            \
			printf("# %s:%d: %s: \"%s\" lacks \"%s\"\n", __FILE__, __LINE__, text,     \
			    msg, says);                                                            \
		}                                                                                  \
	} while (0)

CASE(host_and_port_are_taken_apart)
{
	struct addr a;

	CHECK_INT(parse(&a, "example.com:443", 0), 0);
	CHECK_INT(a.kind, ADDR_TCP);
	CHECK_STR(a.host, "example.com");
	CHECK_STR(a.port, "443");
	CHECK_STR(a.name, "example.com:443");
	CHECK(!a.named && !a.numeric);
	CHECK_INT(parse(&a, "127.0.0.1:0", 0), 0);
	CHECK(a.numeric);
	CHECK_INT(parse(&a, "127.0.0.1:http", 0), 0);
	CHECK(!a.numeric);
	CHECK_INT(parse(&a, "my_host.:65535", 0), 0);
	CHECK_STR(a.host, "my_host.");
}

CASE(ipv6_stands_in_brackets)
{
	struct addr a;
	struct sockaddr_any s;
	char buf[ADDR_TEXT_MAX];

	CHECK_INT(parse(&a, "[2001:db8::1]:80", 0), 0);
	CHECK_STR(a.host, "2001:db8::1");
	CHECK(a.numeric);
	CHECK_INT(addr_literal(&a, &s), 0);
	CHECK_STR(addr_text(&s, buf, sizeof(buf)), "[2001:db8::1]:80");
	CHECK_STR(addr_ip(&s, buf, sizeof(buf)), "2001:db8::1");
	CHECK_INT(addr_port(&s), 80);
	CHECK_INT(parse(&a, "[fe80::1%1]:80", 0), 0);
	CHECK_INT(addr_literal(&a, &s), 0);
	CHECK_INT(s.in6.sin6_scope_id, 1);
	CHECK_STR(addr_text(&s, buf, sizeof(buf)), "[fe80::1%1]:80");
	REFUSED("::1:80", 0, "write [::1]:80");
	REFUSED(":::80", 0, "write [::]:80");
	REFUSED("fe80::1", 0, "write [fe80::1]:PORT");
	REFUSED("[::1]", 0, "write [::1]:PORT");
	REFUSED("[::1]80", 0, "write [::1]:PORT");
	REFUSED("[::1", 0, "closing bracket");
	REFUSED("[127.0.0.1]:80", 0, "write 127.0.0.1:80");
	REFUSED("[host]:80", 0, "no IPv6 address");
	REFUSED("[]:80", 0, "no IPv6 address");
	REFUSED("a:b:c", 0, "too many colons");
	REFUSED("tcp:host:80", 0, "write host:80");
}

CASE(a_port_alone_means_every_address)
{
	struct addr a;
	struct sockaddr_any s;
	char buf[ADDR_TEXT_MAX];

	CHECK_INT(parse(&a, ":8080", 0), 0);
	CHECK_STR(a.host, "");
	CHECK(a.numeric);
	CHECK_INT(addr_literal(&a, &s), 0);
	CHECK_STR(addr_text(&s, buf, sizeof(buf)), "[::]:8080");
	CHECK(addr_any_host(&s));
	REFUSED("8080", 0, "write :8080 (every address) or 127.0.0.1:8080");
}

CASE(two_words_are_refused_with_the_right_form)
{
	REFUSED("localhost 80", 0, "write localhost:80");
	REFUSED("::1 80", 0, "write [::1]:80");
	REFUSED(" localhost:80", 0, "one word");
	REFUSED("localhost", 0, "such as localhost:8080");
	REFUSED("localhost:", 0, "such as localhost:8080");
	REFUSED("[::1]:", 0, "such as [::1]:8080");
	REFUSED(":", 0, "such as :8080");
	REFUSED("", 0, "empty");
	REFUSED("-", 0, "HOST:PORT");
	REFUSED("http://host:80", 0, "URL");
	REFUSED("/run/x.sock", 0, "write unix:/run/x.sock");
	REFUSED("host:70000", 0, "above 65535");
	REFUSED("host:99999999999999999999999", 0, "above 65535");
	REFUSED("host:+1", 0, "no port");
	REFUSED("host:-1", 0, "service");
	REFUSED("ho$t:80", 0, "letters, digits");
	REFUSED("-host:80", 0, "begins with");
	REFUSED("host\n:80", 0, "control byte");
	REFUSED("host\x7f:80", 0, "control byte");
}

CASE(a_listening_address_may_be_named)
{
	struct addr a;

	CHECK_INT(parse(&a, "rpc=127.0.0.1:0", ALL), 0);
	CHECK(a.named);
	CHECK_STR(a.name, "rpc");
	CHECK_STR(a.host, "127.0.0.1");
	CHECK_INT(parse(&a, "unix=unix:/a=b", ALL), 0);
	CHECK_STR(a.name, "unix");
	CHECK_STR(a.path, "/a=b");
	CHECK_INT(parse(&a, "unix:/a=b", ALL), 0);
	CHECK_STR(a.path, "/a=b");
	CHECK_STR(a.name, "unix:/a=b");
	REFUSED("rpc=127.0.0.1:0", 0, "write 127.0.0.1:0 without 'rpc='");
	REFUSED("r.pc=127.0.0.1:0", ALL, "letters, digits, - and _");
	REFUSED("=127.0.0.1:0", ALL, "letters, digits, - and _");
	REFUSED("rpc=", ALL, "empty");
	REFUSED("rpc=localhost", ALL, "'localhost' has no port");
}

CASE(the_other_kinds)
{
	struct addr a;
	struct sockaddr_any s;
	char buf[ADDR_TEXT_MAX];

	CHECK_INT(parse(&a, "unix:/run/my app.sock", 0), 0);
	CHECK_INT(a.kind, ADDR_UNIX);
	CHECK_STR(a.path, "/run/my app.sock");
	CHECK_INT(addr_literal(&a, &s), 0);
	CHECK_STR(addr_text(&s, buf, sizeof(buf)), "unix:/run/my app.sock");
	CHECK_STR(addr_ip(&s, buf, sizeof(buf)), "");
	CHECK_INT(addr_port(&s), 0);
	CHECK_INT(parse(&a, "fd:3", ALL), 0);
	CHECK_INT(a.kind, ADDR_FD);
	CHECK_INT(a.fd, 3);
	CHECK_INT(addr_literal(&a, &s), -EINVAL);
	CHECK_INT(parse(&a, "udp:[::1]:53", ALL), 0);
	CHECK_INT(a.kind, ADDR_UDP);
	CHECK_STR(a.host, "::1");
	REFUSED("unix:", ALL, "no path");
	REFUSED("fd:", ALL, "fd:3");
	REFUSED("fd:x", ALL, "fd:3");
	REFUSED("fd:99999999999", ALL, "fd:3");
	REFUSED("fd:3", 0, "descriptor");
	REFUSED("udp:h:1", 0, "UDP");
	REFUSED("udp:h", ALL, "no port");
}

CASE(what_is_too_long_is_refused)
{
	char text[600], name[] = "unix:";
	struct addr a;

	memset(text, 'a', sizeof(text));
	strcpy(text + 254, ":80");
	REFUSED(text, 0, "at most 253");
	strcpy(text + 253, ":80");
	CHECK_INT(parse(&a, text, 0), 0);
	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	REFUSED(text, 0, "too long");
	memcpy(text, name, 5);
	text[5 + 107] = '\0';
	CHECK_INT(parse(&a, text, 0), 0);
	text[5 + 107] = 'a';
	text[5 + 108] = '\0';
	REFUSED(text, 0, "too long");
	memset(text, 'a', sizeof(text));
	strcpy(text + 64, "=:80");
	REFUSED(text, ALL, "name is too long");
	strcpy(text + 63, "=:80");
	CHECK_INT(parse(&a, text, ALL), 0);
	memset(text, 'a', sizeof(text));
	text[0] = '[';
	strcpy(text + 300, "]:80");
	REFUSED(text, ALL, "too long");
	memset(text, '1', sizeof(text));
	text[0] = ':';
	memset(text + 1, 'a', 40);
	text[41] = '\0';
	REFUSED(text, ALL, "too long");
}

CASE(a_mapped_address_is_shown_as_ipv4)
{
	struct addr a;
	struct sockaddr_any s;
	char buf[ADDR_TEXT_MAX];

	CHECK_INT(parse(&a, "[::ffff:192.0.2.1]:80", 0), 0);
	CHECK_INT(addr_literal(&a, &s), 0);
	CHECK_INT(s.sa.sa_family, AF_INET6);
	CHECK_STR(addr_text(&s, buf, sizeof(buf)), "192.0.2.1:80");
	CHECK_STR(addr_ip(&s, buf, sizeof(buf)), "192.0.2.1");
	CHECK(!addr_any_host(&s));
	CHECK_STR(addr_text(&s, buf, 6), "192.0");
}

static bool
holds(const char *net, const char *host)
{
	struct cidr c;
	struct addr a = { .port = "1", .numeric = true };
	struct sockaddr_any s;

	strcpy(a.host, host);
	CHECK_INT(cidr_parse(&c, net), 0);
	CHECK_INT(addr_literal(&a, &s), 0);
	return cidr_holds(&c, &s);
}

CASE(cidr_matches_by_prefix)
{
	CHECK(holds("10.0.0.0/8", "10.255.0.1"));
	CHECK(!holds("10.0.0.0/8", "11.0.0.1"));
	CHECK(holds("10.128.0.0/9", "10.129.0.1"));
	CHECK(!holds("10.128.0.0/9", "10.127.0.1"));
	CHECK(holds("0.0.0.0/0", "1.2.3.4"));
	CHECK(holds("127.0.0.1", "127.0.0.1"));
	CHECK(!holds("127.0.0.1", "127.0.0.2"));
	CHECK(holds("[::1]/128", "::1"));
	CHECK(holds("[::1]", "::1"));
	CHECK(holds("2001:db8::/33", "2001:db8:7fff::1"));
	CHECK(!holds("2001:db8::/33", "2001:db8:8000::1"));
	CHECK(!holds("::/0", "1.2.3.4"));
	CHECK(holds("10.0.0.0/8", "::ffff:10.1.1.1"));
	CHECK(!holds("::/0", "::ffff:10.1.1.1"));
	CHECK(holds("::ffff:10.0.0.0/104", "10.1.1.1"));
}

CASE(cidr_refuses_what_is_no_network)
{
	static const char *const bad[] = { "", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.1/8",
		"::/129", "::1/127", "10.0.0/8", "[10.0.0.0]/8", "host", "10.0.0.0/-1",
		"10.0.0.0/8x", "[::1", "::1]",
		"10.0.0.0/00000000000000000000000000009999999999999999999" };
	struct cidr c = { .family = -7 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_INT(cidr_parse(&c, bad[i]), -EINVAL);
	CHECK_INT(c.family, -7);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(host_and_port_are_taken_apart),
	    RUN(ipv6_stands_in_brackets),
	    RUN(a_port_alone_means_every_address),
	    RUN(two_words_are_refused_with_the_right_form),
	    RUN(a_listening_address_may_be_named),
	    RUN(the_other_kinds),
	    RUN(what_is_too_long_is_refused),
	    RUN(a_mapped_address_is_shown_as_ipv4),
	    RUN(cidr_matches_by_prefix),
	    RUN(cidr_refuses_what_is_no_network),
	    { 0 },
	});
}
