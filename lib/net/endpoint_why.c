/* net/endpoint_why - what became of an endpoint, as an exit status and as a sentence: what failed
 * on which address, and the remedy where there is one. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "base/exit.h"
#include "net/endpoint.h"

int
endpoint_exit(const struct endpoint *ep)
{
	if (ep->gai)
		return CCF_RESOLVE;
	if (ep->state == EP_BINDING_FAILED || ep->state == EP_LISTENING_FAILED)
		return CCF_BIND;
	if (ep->timed_out)
		return CCF_DEADLINE;
	return ep->error ? CCF_CONNECT : CCF_OK;
}

/* As it was written, less its name. */
static const char *
target_text(const struct addr *a, char *buf, size_t cap)
{
	const char *udp = a->kind == ADDR_UDP ? "udp:" : "";

	if (a->kind == ADDR_UNIX)
		snprintf(buf, cap, "unix:%s", a->path);
	else if (a->kind == ADDR_FD)
		snprintf(buf, cap, "fd:%d", a->fd);
	else
		snprintf(buf, cap, strchr(a->host, ':') ? "%s[%s]:%s" : "%s%s:%s", udp, a->host,
		    a->port);
	return buf;
}

static const char *
why_resolve(const struct endpoint *ep, char *buf, size_t cap)
{
	const struct addr *a = &ep->plan.target;

	if (ep->state == EP_BINDING_FAILED)
		snprintf(buf, cap, "cannot resolve %s, the address to bind: %s", ep->plan.bind_host,
		    gai_strerror(ep->gai));
	else if (ep->gai == EAI_SERVICE)
		snprintf(
		    buf, cap, "cannot resolve the port %s: %s", a->port, gai_strerror(ep->gai));
	else
		snprintf(buf, cap, "cannot resolve %s: %s", a->host, gai_strerror(ep->gai));
	return buf;
}

static const char *
why_bind(const struct endpoint *ep, char *buf, size_t cap)
{
	snprintf(buf, cap, "cannot bind to %s: %s%s", ep->plan.bind_host, strerror(ep->error),
	    ep->error == EADDRNOTAVAIL ? " (it is not an address of this host)" : "");
	return buf;
}

/* "localhost:80 (127.0.0.1:80)" */
static const char *
reached_text(const struct endpoint *ep, char *buf, size_t cap)
{
	char target[ADDR_HOST_MAX + 64], peer[ADDR_TEXT_MAX];

	target_text(&ep->plan.target, target, sizeof(target));
	if (ep->peer.len && !(ep->plan.target.numeric && *ep->plan.target.host) &&
	    ep->plan.target.kind != ADDR_UNIX)
		snprintf(buf, cap, "%s (%s)", target, addr_text(&ep->peer, peer, sizeof(peer)));
	else
		strlcpy(buf, target, cap);
	return buf;
}

static const char *
why_listen(const struct endpoint *ep, char *buf, size_t cap)
{
	char where[ADDR_HOST_MAX + ADDR_TEXT_MAX + 64];
	const char *more = "";

	if (ep->plan.target.kind == ADDR_FD)
		more = " (it has to be a listening stream socket)";
	else if (ep->error == EACCES && addr_port(&ep->peer) > 0 && addr_port(&ep->peer) < 1024)
		more = " (a port this low needs CAP_NET_BIND_SERVICE)";
	else if (ep->error == EADDRNOTAVAIL)
		more = " (it is not an address of this host)";
	snprintf(buf, cap, "cannot listen on %s: %s%s", reached_text(ep, where, sizeof(where)),
	    strerror(ep->error), more);
	return buf;
}

static const char *
why_connect(const struct endpoint *ep, char *buf, size_t cap)
{
	char where[ADDR_HOST_MAX + ADDR_TEXT_MAX + 64];
	int64_t ms = ep->plan.connect_timeout;
	bool whole = ms % 1000 == 0;

	reached_text(ep, where, sizeof(where));
	if (ep->timed_out)
		snprintf(buf, cap, "cannot connect to %s: no answer within %lld %s", where,
		    (long long)(whole ? ms / 1000 : ms), whole ? "s" : "ms");
	else if (ep->error == EAFNOSUPPORT && ep->bound_known && !ep->peer.len)
		snprintf(buf, cap,
		    "cannot connect to %s: no address of it is of the family of %s, which is bound "
		    "first",
		    where, ep->plan.bind_host);
	else
		snprintf(buf, cap, "cannot connect to %s: %s", where, strerror(ep->error));
	return buf;
}

const char *
endpoint_why(const struct endpoint *ep, char *buf, size_t cap)
{
	char where[ADDR_HOST_MAX + ADDR_TEXT_MAX + 64];

	if (ep->gai)
		return why_resolve(ep, buf, cap);
	if (!ep->error) {
		snprintf(buf, cap,
		    ep->state == EP_LISTENING ? "listening on %s" : "connected to %s",
		    reached_text(ep, where, sizeof(where)));
		return buf;
	}
	if (ep->state == EP_BINDING_FAILED)
		return why_bind(ep, buf, cap);
	if (ep->state == EP_LISTENING_FAILED || ep->state == EP_LISTENING_RESOLVING)
		return why_listen(ep, buf, cap);
	return why_connect(ep, buf, cap);
}
