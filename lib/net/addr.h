/* net/addr - addresses as people write them, sockaddrs as people read them.  Pure: no lookup, no
 * socket. Grammar: HOST:PORT, [V6]:PORT, :PORT, unix:PATH, fd:N, udp:HOST:PORT; a listening one may
 * be named NAME=ADDRESS. */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

enum addr_kind { ADDR_TCP, ADDR_UNIX, ADDR_FD, ADDR_UDP };
/* what addr_parse allows; TCP and unix always */
enum { ADDR_MAY_NAME = 1, ADDR_MAY_FD = 2, ADDR_MAY_UDP = 4 };

#define ADDR_NAME_MAX 64
#define ADDR_HOST_MAX 256 /* a DNS name has at most 253 bytes */

struct addr {
	enum addr_kind kind;
	char name[ADDR_NAME_MAX + ADDR_HOST_MAX + 8]; /* the NAME, or the address as written */
	bool named;
	char host[ADDR_HOST_MAX]; /* without brackets; "" for :PORT (every address) */
	char port[32];		  /* a number or a service name */
	bool numeric; /* host is a literal (or empty) and port a number: no lookup needed */
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;
};

int addr_parse(struct addr *, const char *text, unsigned may, char *msg, size_t cap);
/* 0; -EINVAL, and msg says in one sentence what is wrong and shows the right form
 * ("::1:80": write [::1]:80; "host 80": write host:80).  NAME is letters, digits, - and _. */

struct sockaddr_any { /* one of the addresses a name stands for */
	socklen_t len;
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_storage ss;
	};
};

#define ADDR_TEXT_MAX 128 /* holds any of the texts below; a unix path is cut */

int addr_literal(const struct addr *, struct sockaddr_any *);
/* Of a numeric TCP/UDP or unix address; for :PORT this is [::].  0, -EINVAL if a lookup is needed.
 */
const char *addr_text(const struct sockaddr_any *, char *buf, size_t cap);
/* "192.0.2.1:80", "[2001:db8::1]:80", "unix:/path"; v4-mapped as IPv4.  Returns buf. */
const char *addr_ip(const struct sockaddr_any *, char *buf, size_t cap);
/* The host alone, no brackets; "" for unix. */
uint16_t addr_port(const struct sockaddr_any *); /* 0 for unix */
bool addr_any_host(const struct sockaddr_any *); /* 0.0.0.0 or [::] */

struct cidr {
	int family;
	unsigned char bits[16]; /* v4-mapped is kept as IPv4 */
	unsigned prefix;
};

int cidr_parse(struct cidr *, const char *text);
/* "10.0.0.0/8", "::1", "[::1]/128".  0, -EINVAL (also bits set beyond the prefix) */
bool cidr_holds(const struct cidr *, const struct sockaddr_any *);
bool cidr_admits(const struct cidr *allow, size_t n_allow, const struct cidr *deny, size_t n_deny, const struct sockaddr_any *);
/* What --deny names is out, the rest in if --allow names it or nothing; a Unix peer always */

#endif
