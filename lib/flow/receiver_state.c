/* flow/receiver_state - where the sockets of interfaces come from: an address, a supervisor,
 * ourselves before an exec; and what is said of them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/text.h"
#include "flow/receiver.h"
#include "net/resolve.h"
#include "net/socket.h"
#include "wire/record.h"

/* ---- one that is given ---- */

static const char *
unfit(int fd, int error)
{
	if (error == EBADF)
		return "is not open";
	if (error == ENOTSOCK)
		return "is not a socket; a UDP socket that is bound is needed";
	if (error == EISCONN)
		return "is connected to one peer; a UDP socket that is only bound is needed";
	if (error == EDESTADDRREQ)
		return "is a UDP socket that is not bound to a port";
	if (error != EPROTOTYPE)
		return strerror(error);
	if (socket_listens(fd))
		return "is a listening stream socket, not a UDP one (systemd: ListenDatagram=)";
	if (socket_family(fd) == AF_UNIX)
		return "is a Unix socket, not a UDP one";
	return socket_kind(fd) == SOCK_STREAM ? "is a connection, not a UDP socket"
					      : "is a socket, but not a UDP one";
}

/* Answers wait in the socket until their way is found, those to invented hosts as long as to
 * others. */
static void
ask_buffer(struct receiver *r)
{
	size_t wanted = r->all->cfg.buffer, got;

	if (!wanted)
		return;
	(void)datagram_buffer(r->fd, DATAGRAM_OUT, 2 * wanted);
	got = datagram_buffer(r->fd, DATAGRAM_IN, wanted);
	if (got < wanted && r->all->cfg.asked)
		log_say(LOG_L_INFO,
		    "%s: the kernel gives a receive buffer of %zu bytes, not %zu: a burst may be "
		    "lost (sysctl net.core.rmem_max)",
		    r->name, got, wanted);
}

static int
no_memory(char *msg, size_t cap)
{
	snprintf(msg, cap, "no memory");
	return CCF_SYSTEM;
}

/* Takes fd.  what: the beginning of the sentence. */
static int
adopt(struct receivers *all, int fd, const char *name, const char *what, char *msg, size_t cap)
{
	struct receiver *r;
	int rc = datagram_prepare(fd);

	if (rc < 0) {
		snprintf(msg, cap, "%s %s", what, unfit(fd, -rc));
		if (rc != -EBADF)
			close(fd);
		return CCF_USAGE;
	}
	r = receiver_new(all, fd, name);
	if (!r)
		return no_memory(msg, cap);
	ask_buffer(r);
	return 0;
}

int
receivers_inherit(struct receivers *all, int fd, const char *name, char *msg, size_t cap)
{
	char what[sizeof(((struct addr *)0)->name) + 64];

	snprintf(what, sizeof(what), "LISTEN_FDS: descriptor %d (%s)", fd, name);
	return adopt(all, fd, name, what, msg, cap);
}

static int
bind_copy(struct receivers *all, const struct addr *addr, char *msg, size_t cap)
{
	char what[64];
	int fd = fcntl(addr->fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0) {
		snprintf(msg, cap, "cannot use fd:%d: %s", addr->fd, strerror(errno));
		return CCF_BIND;
	}
	snprintf(what, sizeof(what), "fd:%d", addr->fd);
	return adopt(all, fd, addr->name, what, msg, cap) ? CCF_BIND : 0;
}

/* ---- one that is bound ---- */

/* "localhost:7777 (127.0.0.1:7777)" */
static const char *
where_text(const struct addr *addr, const struct sockaddr_any *at, char *buf, size_t cap)
{
	char text[ADDR_TEXT_MAX] = "";

	if (!addr->numeric || !*addr->host)
		addr_text(at, text, sizeof(text));
	snprintf(buf, cap, strchr(addr->host, ':') ? "[%s]:%s%s%s%s" : "%s:%s%s%s%s", addr->host,
	    addr->port, *text ? " (" : "", text, *text ? ")" : "");
	return buf;
}

static void
why_not(const struct addr *addr, const struct sockaddr_any *at, int error, char *msg, size_t cap)
{
	char where[ADDR_HOST_MAX + ADDR_TEXT_MAX + 64];
	const char *more = "";

	if (error == EACCES && addr_port(at) > 0 && addr_port(at) < 1024)
		more = " (a port this low needs CAP_NET_BIND_SERVICE)";
	else if (error == EADDRNOTAVAIL)
		more = " (it is not an address of this host)";
	else if (error == EADDRINUSE)
		more = " (ss -lunp says by whom)";
	snprintf(msg, cap, "cannot bind %s: %s%s", where_text(addr, at, where, sizeof(where)),
	    strerror(error), more);
}

/* :PORT stands for one socket: 0.0.0.0 is for where there is no IPv6, not for where somebody has
 * the port. */
static bool
may_fall_back(const struct addr *addr, int error)
{
	return *addr->host || error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

/* The first address that can be bound; its socket, or -1, and msg. */
static int
bind_first(const struct addr *addr, int family, const struct answer *answer, char *msg, size_t cap)
{
	bool only_v6 = *addr->host || family == AF_INET6;
	int fd = -1;

	for (size_t i = 0; i < answer->n; i++) {
		if (i > 0) {
			if (!may_fall_back(addr, -fd))
				break;
			log_say(LOG_L_INFO, "%s: %s; trying the next address", addr->name, msg);
		}
		fd = datagram_bind(&answer->at[i], only_v6);
		if (fd >= 0)
			return fd;
		why_not(addr, &answer->at[i], -fd, msg, cap);
	}
	return -1;
}

static int
bind_inet(struct receivers *all, const struct addr *addr, int family, char *msg, size_t cap)
{
	struct addr udp = *addr;
	struct answer *answer;
	struct receiver *r;
	int fd;

	udp.kind = ADDR_UDP; /* where a port's name is looked up */
	if (resolve_now(&udp, family, true, &answer) < 0)
		return no_memory(msg, cap);
	if (answer->error) {
		bool port = answer->error == EAI_SERVICE;

		snprintf(msg, cap, "cannot resolve %s%s: %s", port ? "the port " : "",
		    port ? addr->port : addr->host, gai_strerror(answer->error));
		free(answer);
		return CCF_RESOLVE;
	}
	fd = bind_first(addr, family, answer, msg, cap);
	free(answer);
	if (fd < 0)
		return CCF_BIND;
	r = receiver_new(all, fd, addr->name);
	if (!r)
		return no_memory(msg, cap);
	ask_buffer(r);
	return 0;
}

int
receivers_bind(struct receivers *all, const struct addr *addr, int family, char *msg, size_t cap)
{
	if (addr->kind == ADDR_FD)
		return bind_copy(all, addr, msg, cap);
	if (addr->kind != ADDR_UNIX)
		return bind_inet(all, addr, family, msg, cap);
	snprintf(msg, cap, "unix:%s is no UDP address: write HOST:PORT, or :PORT", addr->path);
	return CCF_USAGE;
}

/* ---- across an exec ---- */

int
receivers_save(const struct receivers *all, struct text *t)
{
	const struct receiver *r;

	TAILQ_FOREACH(r, &all->list, link) {
		record_begin(t, "socket");
		record_number(t, "fd", r->fd);
		record_text(t, "name", r->name);
		record_number(t, "next_id", (int64_t)r->next_id);
		record_number(t, "accepted", (int64_t)r->caps.accepted);
		record_number(t, "refused", (int64_t)r->caps.refused);
		record_number(t, "peak", r->caps.peak);
		record_number(t, "lost", r->lost);
		record_end(t);
	}
	return t->failed ? -ENOMEM : 0;
}

static bool
taken(const struct receivers *all, const char *name, int fd)
{
	const struct receiver *r;

	TAILQ_FOREACH(r, &all->list, link)
		if (r->fd == fd || strcmp(r->name, name) == 0)
			return true;
	return false;
}

enum { FD, NEXT_ID, ACCEPTED, REFUSED, PEAK, LOST, NUMBERS };

static int
read_numbers(const struct record *rec, const char *name, int64_t *ret, char *msg, size_t cap)
{
	static const struct {
		const char *name;
		int64_t min, max;
	} number[NUMBERS] = {
		[FD] = { "fd", 3, INT_MAX },
		[NEXT_ID] = { "next_id", 0, INT64_MAX },
		[ACCEPTED] = { "accepted", 0, INT64_MAX },
		[REFUSED] = { "refused", 0, INT64_MAX },
		[PEAK] = { "peak", 0, UINT_MAX },
		[LOST] = { "lost", 0, UINT32_MAX },
	};

	for (int i = 0; i < NUMBERS; i++)
		if (record_get_number(rec, number[i].name, number[i].min, number[i].max, &ret[i]) <
		    0) {
			snprintf(msg, cap, "socket %s: %s is missing or out of range", name,
			    number[i].name);
			return CCF_SYSTEM;
		}
	return 0;
}

int
receivers_restore(struct receivers *all, const struct record *rec, char *msg, size_t cap)
{
	char what[sizeof(((struct receiver *)0)->name) + 64];
	const char *name = record_get(rec, "name");
	struct receiver *r;
	int64_t got[NUMBERS];
	int status;

	if (!name || !*name || strlen(name) >= sizeof(r->name)) {
		snprintf(msg, cap, "socket: it has no name");
		return CCF_SYSTEM;
	}
	status = read_numbers(rec, name, got, msg, cap);
	if (status)
		return status;
	if (taken(all, name, (int)got[FD])) {
		snprintf(msg, cap, "socket %s: there is one of that name, or with descriptor %d",
		    name, (int)got[FD]);
		return CCF_SYSTEM;
	}
	snprintf(what, sizeof(what), "socket %s: descriptor %d", name, (int)got[FD]);
	status = adopt(all, (int)got[FD], name, what, msg, cap);
	if (status)
		return status;
	r = receivers_find(all, name);
	r->next_id = (uint64_t)got[NEXT_ID];
	r->caps.accepted = (uint64_t)got[ACCEPTED];
	r->caps.refused = (uint64_t)got[REFUSED];
	r->caps.peak = (unsigned)got[PEAK];
	r->lost = (uint32_t)got[LOST];
	return 0;
}

/* ---- GET /metrics ---- */

void
receivers_ask_lost(struct receivers *all)
{
	struct receiver *r;

	TAILQ_FOREACH(r, &all->list, link) {
		uint32_t lost = datagram_lost(r->fd);

		metric_add(METRIC_DROPS, "kernel", lost - r->lost);
		r->lost = lost;
	}
}

void
receivers_metrics(struct receivers *all, struct text *t)
{
	static const enum metric which[] = { METRIC_DATAGRAMS, METRIC_DATAGRAM_BYTES, METRIC_DROPS,
		METRIC_LINES };

	receivers_ask_lost(all);
	metrics_print(t, metrics_here(), which, sizeof(which) / sizeof(which[0]));
}
