/* net/addr - addresses as text.  A text is refused for one reason, in one sentence that shows the
 * form that would do: what is wrong with an address is hardly ever seen at a glance. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS "0123456789"
#define ALNUM  DIGITS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

struct complaint {
	char *msg;
	size_t cap;
	const char *text; /* the address as written, without NAME= */
};

static int refuse(const struct complaint *, const char *, ...)
    __attribute__((format(printf, 2, 3)));

static int
refuse(const struct complaint *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (c->cap)
		vsnprintf(c->msg, c->cap, fmt, ap);
	va_end(ap);
	return -EINVAL;
}

static bool
made_of(const char *s, const char *set)
{
	return s[strspn(s, set)] == '\0';
}

static bool
digits(const char *s)
{
	return *s && made_of(s, DIGITS);
}

/* The scope of a link-local address: an interface's name or its number. */
static int
literal_scope(const char *text, uint32_t *ret)
{
	const char *err;
	uint32_t scope;

	if (digits(text)) {
		scope = (uint32_t)strtonum(text, 1, UINT32_MAX, &err);
		if (err)
			return -EINVAL;
	} else
		scope = if_nametoindex(text);
	if (scope == 0)
		return -EINVAL;
	*ret = scope;
	return 0;
}

static int
literal_v6(const char *text, struct sockaddr_any *ret)
{
	char host[ADDR_HOST_MAX];
	struct sockaddr_any a = { .len = sizeof(a.in6) };
	char *percent;

	if (strlcpy(host, text, sizeof(host)) >= sizeof(host))
		return -EINVAL;
	percent = strchr(host, '%');
	if (percent)
		*percent++ = '\0';
	a.in6.sin6_family = AF_INET6;
	if (inet_pton(AF_INET6, host, &a.in6.sin6_addr) != 1)
		return -EINVAL;
	if (percent && literal_scope(percent, &a.in6.sin6_scope_id) < 0)
		return -EINVAL;
	*ret = a;
	return 0;
}

static int
literal_host(const char *host, struct sockaddr_any *ret)
{
	struct sockaddr_any a = { .len = sizeof(a.in) };

	a.in.sin_family = AF_INET;
	if (inet_pton(AF_INET, host, &a.in.sin_addr) == 1) {
		*ret = a;
		return 0;
	}
	return literal_v6(*host ? host : "::", ret);
}

static bool
is_v6(const char *host)
{
	struct in6_addr in6;
	char text[ADDR_HOST_MAX];

	/* Whether the interface behind a % exists is no question of form. */
	strlcpy(text, host, sizeof(text));
	text[strcspn(text, "%")] = '\0';
	return inet_pton(AF_INET6, text, &in6) == 1;
}

static int
parse_port(struct addr *a, const char *port, const struct complaint *c)
{
	const char *err;

	if (!*port)
		return refuse(c,
		    "'%s' has no port after the colon: write HOST:PORT, such as %s8080", c->text,
		    c->text);
	if (digits(port)) {
		strtonum(port, 0, 65535, &err);
		if (err)
			return refuse(c,
			    "port %.32s in '%s' is above 65535: write HOST:PORT with a smaller one",
			    port, c->text);
	} else if (!made_of(port, ALNUM "-") || *port == '-')
		return refuse(c,
		    "'%s' is no port: write HOST:PORT with a number up to 65535 or a service's "
		    "name",
		    port);
	if (strlcpy(a->port, port, sizeof(a->port)) >= sizeof(a->port))
		return refuse(c,
		    "the port in '%s' is too long: write HOST:PORT with a number up to 65535",
		    c->text);
	return 0;
}

static int
parse_host(struct addr *a, const char *host, const struct complaint *c)
{
	size_t n = strlen(host);

	if (n > 253 && !(n == 254 && host[253] == '.'))
		return refuse(c, "the host's name is too long: a name has at most 253 bytes");
	if (!made_of(host, ALNUM "-._"))
		return refuse(c,
		    "'%s' is no host: write HOST:PORT; a name is made of letters, digits, '-', '_' "
		    "and '.'",
		    host);
	if (*host == '-' || *host == '.')
		return refuse(c,
		    "'%s' is no host: a name begins with a letter or a digit; write HOST:PORT",
		    host);
	strlcpy(a->host, host, sizeof(a->host));
	return 0;
}

/* "[V6]:PORT" */
static int
parse_bracketed(struct addr *a, const char *text, const struct complaint *c)
{
	size_t n = strcspn(text, "]");

	if (text[n] == '\0')
		return refuse(c,
		    "'%s' lacks the closing bracket: write [V6]:PORT, such as [::1]:8080", c->text);
	if (n - 1 >= sizeof(a->host))
		return refuse(
		    c, "the address in brackets is too long: write [V6]:PORT, such as [::1]:8080");
	memcpy(a->host, text + 1, n - 1);
	a->host[n - 1] = '\0';
	if (!is_v6(a->host)) {
		struct in_addr in;
		bool v4 = inet_pton(AF_INET, a->host, &in) == 1;

		return v4 ? refuse(c, "brackets are for IPv6: write %s%s", a->host, text + n + 1)
			  : refuse(c,
				"'%s' is no IPv6 address: brackets are for those alone, write "
				"[::1]:8080 or HOST:PORT",
				a->host);
	}
	text += n + 1;
	if (*text == '\0')
		return refuse(c, "'%s' has no port: write [%s]:PORT", c->text, a->host);
	if (*text != ':')
		return refuse(
		    c, "'%s' has no colon after the bracket: write [%s]:PORT", c->text, a->host);
	return parse_port(a, text + 1, c);
}

/* More than one colon and no bracket. */
static int
refuse_colons(const char *text, const struct complaint *c)
{
	const char *last = strrchr(text, ':');
	char head[ADDR_HOST_MAX];

	if (!strncmp(text, "tcp:", 4))
		return refuse(c, "TCP needs no 'tcp:' in front: write %s", text + 4);
	snprintf(head, sizeof(head), "%.*s", (int)(last - text), text);
	if (is_v6(head) && digits(last + 1))
		return refuse(c, "the port of '%s' cannot be told from the address: write [%s]:%s",
		    text, head, last + 1);
	if (is_v6(text))
		return refuse(
		    c, "'%s' is an IPv6 address without a port: write [%s]:PORT", text, text);
	return refuse(
	    c, "'%s' has too many colons: write HOST:PORT, or [V6]:PORT for an IPv6 address", text);
}

static int
refuse_bare(const char *text, const struct complaint *c)
{
	if (digits(text))
		return refuse(c,
		    "'%s' is a port without a host: write :%s (every address) or 127.0.0.1:%s",
		    text, text, text);
	if (!*text)
		return refuse(c, "the address is empty: write HOST:PORT, :PORT or unix:PATH");
	return refuse(c, "'%s' has no port: write HOST:PORT, such as %s:8080", text,
	    isalnum((unsigned char)*text) ? text : "localhost");
}

static int
parse_inet(struct addr *a, const char *text, const struct complaint *c)
{
	char host[ADDR_NAME_MAX + ADDR_HOST_MAX];
	const char *colon = strchr(text, ':');
	struct sockaddr_any lit;
	int rc;

	if (strchr(text, '/') && text[0] != '[') {
		const char *url = strstr(text, "://");

		return url ? refuse(c, "'%s' is a URL: write HOST:PORT", text)
			   : refuse(c, "'%s' looks like a path: write unix:%s", text, text);
	}
	if (text[0] == '[')
		rc = parse_bracketed(a, text, c);
	else if (!colon)
		return refuse_bare(text, c);
	else if (strchr(colon + 1, ':'))
		return refuse_colons(text, c);
	else {
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
		rc = parse_host(a, host, c);
		if (rc == 0)
			rc = parse_port(a, colon + 1, c);
	}
	if (rc == 0)
		a->numeric = digits(a->port) && literal_host(a->host, &lit) == 0;
	return rc;
}

static int
parse_path(struct addr *a, const char *path, const struct complaint *c)
{
	if (!*path)
		return refuse(
		    c, "'unix:' has no path: write unix:PATH, such as unix:/run/app.sock");
	if (strlcpy(a->path, path, sizeof(a->path)) >= sizeof(a->path))
		return refuse(c,
		    "the path is too long for a Unix socket (%zu bytes, at most %zu): write "
		    "unix:PATH with a "
		    "shorter one",
		    strlen(path), sizeof(a->path) - 1);
	a->kind = ADDR_UNIX;
	a->numeric = true;
	return 0;
}

static int
parse_fd(struct addr *a, const char *number, const struct complaint *c)
{
	const char *err = "";

	if (digits(number))
		a->fd = (int)strtonum(number, 0, INT_MAX, &err);
	if (err)
		return refuse(c, "'fd:%s' names no descriptor: write fd:N, such as fd:3", number);
	a->kind = ADDR_FD;
	a->numeric = true;
	return 0;
}

/* Control bytes and spaces never belong into an address that is not a path; what a text with
 * control bytes was cannot be shown either. */
static int
parse_bytes(const char *text, const struct complaint *c)
{
	const char *space = strchr(text, ' ');

	for (const char *s = text; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return refuse(c, "the address holds a control byte: write HOST:PORT");
	if (!strncmp(text, "unix:", 5) || strstr(text, "=unix:") || !space)
		return 0;
	if (space != text && digits(space + 1)) {
		char host[ADDR_HOST_MAX];

		snprintf(host, sizeof(host), "%.*s", (int)(space - text), text);
		return refuse(c, "host and port are one word: write %s%s%s:%s",
		    is_v6(host) ? "[" : "", host, is_v6(host) ? "]" : "", space + 1);
	}
	return refuse(c, "'%s' holds a space: write HOST:PORT in one word", text);
}

/* "NAME=ADDRESS": moves *text behind the '='.  Only a path may hold an '=' of its own. */
static int
parse_name(struct addr *a, const char **text, unsigned may, const struct complaint *c)
{
	size_t n = strcspn(*text, "=");

	if ((*text)[n] == '\0' || !strncmp(*text, "unix:", 5))
		return 0;
	if (!(may & ADDR_MAY_NAME))
		return refuse(c, "only a listening address can be named: write %s without '%.*s='",
		    *text + n + 1, (int)n, *text);
	if (n == 0 || strspn(*text, ALNUM "-_") < n)
		return refuse(c,
		    "'%.*s' is no name: a name is made of letters, digits, - and _; write "
		    "NAME=HOST:PORT",
		    (int)n, *text);
	if (n >= ADDR_NAME_MAX)
		return refuse(c,
		    "the name is too long (%zu bytes, at most %d): write NAME=HOST:PORT with a "
		    "shorter one",
		    n, ADDR_NAME_MAX - 1);
	memcpy(a->name, *text, n);
	a->name[n] = '\0';
	a->named = true;
	*text += n + 1;
	return 0;
}

static int
parse_kind(struct addr *a, const char *text, unsigned may, const struct complaint *c)
{
	int rc;

	if (!strncmp(text, "unix:", 5))
		return parse_path(a, text + 5, c);
	if (!strncmp(text, "fd:", 3)) {
		if (!(may & ADDR_MAY_FD))
			return refuse(c,
			    "a descriptor (%s) cannot stand here: write HOST:PORT or unix:PATH",
			    text);
		return parse_fd(a, text + 3, c);
	}
	if (strncmp(text, "udp:", 4))
		return parse_inet(a, text, c);
	if (!(may & ADDR_MAY_UDP))
		return refuse(
		    c, "UDP (%s) cannot be used here: write HOST:PORT for TCP, or unix:PATH", text);
	rc = parse_inet(a, text + 4, c);
	if (rc == 0)
		a->kind = ADDR_UDP;
	return rc;
}

int
addr_parse(struct addr *ret, const char *text, unsigned may, char *msg, size_t cap)
{
	struct complaint c = { msg, cap, text };
	struct addr a = { .kind = ADDR_TCP, .fd = -1 };
	int rc;

	if (strlen(text) >= sizeof(a.name))
		return refuse(&c,
		    "the address is too long (%zu bytes): write HOST:PORT or unix:PATH",
		    strlen(text));
	rc = parse_bytes(text, &c);
	if (rc == 0)
		rc = parse_name(&a, &text, may, &c);
	if (rc < 0)
		return rc;
	if (!a.named)
		strlcpy(a.name, text, sizeof(a.name));
	c.text = text;
	rc = parse_kind(&a, text, may, &c);
	if (rc == 0)
		*ret = a;
	return rc;
}

int
addr_literal(const struct addr *a, struct sockaddr_any *ret)
{
	struct sockaddr_any s = { 0 };
	const char *err;
	in_port_t port;

	if (a->kind == ADDR_UNIX) {
		s.un.sun_family = AF_UNIX;
		strlcpy(s.un.sun_path, a->path, sizeof(s.un.sun_path));
		s.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(a->path) + 1);
		*ret = s;
		return 0;
	}
	if (a->kind == ADDR_FD || !a->numeric || literal_host(a->host, &s) < 0)
		return -EINVAL;
	port = htons((uint16_t)strtonum(a->port, 0, 65535, &err));
	if (err)
		return -EINVAL;
	if (s.sa.sa_family == AF_INET)
		s.in.sin_port = port;
	else
		s.in6.sin6_port = port;
	*ret = s;
	return 0;
}

/* The IPv4 address in it, whichever way it is written. */
static bool
has_v4(const struct sockaddr_any *s, struct in_addr *ret)
{
	if (s->sa.sa_family == AF_INET)
		*ret = s->in.sin_addr;
	else if (s->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&s->in6.sin6_addr))
		memcpy(ret, &s->in6.sin6_addr.s6_addr[12], sizeof(*ret));
	else
		return false;
	return true;
}

const char *
addr_ip(const struct sockaddr_any *s, char *buf, size_t cap)
{
	char ip[INET6_ADDRSTRLEN];
	struct in_addr v4;

	if (cap)
		*buf = '\0';
	if (has_v4(s, &v4)) {
		inet_ntop(AF_INET, &v4, buf, (socklen_t)cap);
	} else if (s->sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &s->in6.sin6_addr, ip, sizeof(ip));
		if (s->in6.sin6_scope_id)
			snprintf(buf, cap, "%s%%%u", ip, (unsigned)s->in6.sin6_scope_id);
		else
			strlcpy(buf, ip, cap);
	}
	return buf;
}

uint16_t
addr_port(const struct sockaddr_any *s)
{
	if (s->sa.sa_family == AF_INET)
		return ntohs(s->in.sin_port);
	return s->sa.sa_family == AF_INET6 ? ntohs(s->in6.sin6_port) : 0;
}

const char *
addr_text(const struct sockaddr_any *s, char *buf, size_t cap)
{
	char ip[INET6_ADDRSTRLEN + 16];

	if (s->sa.sa_family == AF_UNIX) {
		size_t head = offsetof(struct sockaddr_un, sun_path);
		size_t n = s->len > head ? s->len - head : 0;

		/* A socket that was never bound has no path; an abstract name begins with NUL. */
		if (n > 0 && s->un.sun_path[0] == '\0')
			snprintf(buf, cap, "unix:@%.*s", (int)(n - 1), s->un.sun_path + 1);
		else
			snprintf(buf, cap, "unix:%.*s", (int)n, s->un.sun_path);
		return buf;
	}
	addr_ip(s, ip, sizeof(ip));
	snprintf(buf, cap, strchr(ip, ':') ? "[%s]:%u" : "%s:%u", ip, addr_port(s));
	return buf;
}

bool
addr_any_host(const struct sockaddr_any *s)
{
	struct in_addr v4;

	if (has_v4(s, &v4))
		return v4.s_addr == htonl(INADDR_ANY);
	return s->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&s->in6.sin6_addr);
}

/* Whether a and b agree in their first n bits. */
static bool
bits_equal(const unsigned char *a, const unsigned char *b, unsigned n)
{
	unsigned whole = n / 8, rest = n % 8;

	if (memcmp(a, b, whole))
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool
bits_set_beyond(const struct cidr *c)
{
	unsigned all = c->family == AF_INET ? 32 : 128;

	for (unsigned i = c->prefix; i < all; i++)
		if (c->bits[i / 8] & (0x80u >> i % 8))
			return true;
	return false;
}

/* "[::1]" and "::1" are both taken: out loses the brackets. */
static int
cidr_host(const char *text, size_t n, char *out, size_t cap)
{
	if (n >= 2 && text[0] == '[' && text[n - 1] == ']') {
		text++;
		n -= 2;
		if (!memchr(text, ':', n))
			return -EINVAL;
	}
	if (n >= cap)
		return -EINVAL;
	memcpy(out, text, n);
	out[n] = '\0';
	return 0;
}

int
cidr_parse(struct cidr *ret, const char *text)
{
	struct cidr c = { 0 };
	char host[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	const char *err;
	unsigned all;

	if (cidr_host(text, slash ? (size_t)(slash - text) : strlen(text), host, sizeof(host)) < 0)
		return -EINVAL;
	c.family = inet_pton(AF_INET, host, c.bits) == 1 ? AF_INET : AF_INET6;
	if (c.family == AF_INET6 && inet_pton(AF_INET6, host, c.bits) != 1)
		return -EINVAL;
	all = c.family == AF_INET ? 32 : 128;
	c.prefix = all;
	if (slash) {
		if (!digits(slash + 1))
			return -EINVAL;
		c.prefix = (unsigned)strtonum(slash + 1, 0, all, &err);
		if (err)
			return -EINVAL;
	}
	if (bits_set_beyond(&c))
		return -EINVAL;
	if (c.family == AF_INET6 && c.prefix >= 96 &&
	    IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)c.bits)) {
		c.family = AF_INET;
		c.prefix -= 96;
		memmove(c.bits, c.bits + 12, 4);
		memset(c.bits + 4, 0, 12);
	}
	*ret = c;
	return 0;
}

bool
cidr_holds(const struct cidr *c, const struct sockaddr_any *s)
{
	struct in_addr v4;

	if (has_v4(s, &v4))
		return c->family == AF_INET &&
		       bits_equal(c->bits, (const unsigned char *)&v4, c->prefix);
	return s->sa.sa_family == AF_INET6 && c->family == AF_INET6 &&
	       bits_equal(c->bits, s->in6.sin6_addr.s6_addr, c->prefix);
}

static bool
cidr_any(const struct cidr *list, size_t n, const struct sockaddr_any *s)
{
	for (size_t i = 0; i < n; i++)
		if (cidr_holds(&list[i], s))
			return true;
	return false;
}

bool
cidr_admits(const struct cidr *allow, size_t n_allow, const struct cidr *deny, size_t n_deny,
    const struct sockaddr_any *s)
{
	if (s->sa.sa_family == AF_UNIX)
		return true;
	if (cidr_any(deny, n_deny, s))
		return false;
	return n_allow == 0 || cidr_any(allow, n_allow, s);
}
