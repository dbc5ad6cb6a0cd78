/* flow/asker - what is read and not sent lies in one buffer, what is received and not written in
 * one batch.  Every event does the same step: read, send, receive, write; then either it is over,
 * or interest and deadline follow from what is held. */
#include "flow/asker.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/fds.h"
#include "base/log.h"
#include "base/transport.h"
#include "net/datagram.h"
#include "net/stream.h"

#define INPUT	(256 * 1024)  /* half of it holds one datagram, and what makes it too long */
#define ANSWERS (4096 * 1024) /* of the kernel's buffer */

struct asker {
	struct asker_config cfg;
	struct transport *io;	 /* standard input and output */
	struct datagrams *batch; /* got .. n_got are not written yet */
	unsigned got, n_got;
	size_t written;	     /* bytes of the first of them */
	uint64_t unanswered; /* more answers than questions are no credit */
	unsigned may;	     /* TP_*: of the socket, until it says EAGAIN */
	int failed;	     /* errno of the socket */
	bool in_ended, too_long, over;
	bool waits;	  /* for an answer, and for nothing else: */
	int64_t waits_by; /* since the last one, or since it waits */
	struct watch in, out, sock;
	struct timer timer;
	struct task begin;
	struct asker_end end;
	size_t at, len; /* in input: not sent yet */
	char input[INPUT];
};

#define OF(pointer, member) ((struct asker *)((char *)(pointer)-offsetof(struct asker, member)))

/* ---- the end ---- */

static void
asker_over(struct asker *a, const char *reason, int status, int error)
{
	a->over = true;
	a->end.reason = reason;
	a->end.status = status;
	a->end.error = error;
	a->end.more = !a->in_ended;
	reactor_forget(a->cfg.reactor, &a->in);
	reactor_forget(a->cfg.reactor, &a->out);
	reactor_forget(a->cfg.reactor, &a->sock);
	reactor_timer(a->cfg.reactor, &a->timer, CLOCK_NEVER);
	a->cfg.done(a->cfg.arg, &a->end);
}

static void
asker_over_socket(struct asker *a, int error)
{
	bool nowhere = error == EHOSTUNREACH || error == ENETUNREACH || error == ENETDOWN;

	if (error == ECONNREFUSED)
		asker_over(a, "refused", CCF_CONNECT, error);
	else
		asker_over(a, "send-failed", nowhere ? CCF_CONNECT : CCF_SYSTEM, error);
}

static void
asker_over_line(struct asker *a)
{
	a->end.line = a->end.sent + 1;
	asker_over(a, "too-long", CCF_USAGE, 0);
}

/* ---- standard input ---- */

static bool
input_wanted(const struct asker *a)
{
	return !a->in_ended && !a->too_long && !a->failed && a->len - a->at < INPUT / 2;
}

static void
input_read(struct asker *a)
{
	ssize_t n;

	if (!input_wanted(a))
		return;
	if (INPUT - a->len < INPUT / 2) {
		memmove(a->input, a->input + a->at, a->len - a->at);
		a->len -= a->at;
		a->at = 0;
	}
	n = a->io->ops->read(a->io, a->input + a->len, INPUT - a->len);
	if (n > 0)
		a->len += (size_t)n;
	else if (n == 0)
		a->in_ended = true;
	else if (n != -EAGAIN)
		asker_over(a, "stdin-failed", CCF_SYSTEM, (int)-n);
}

/* The length of the datagram that begins at at; 0: there is none, not yet, or it is too long. */
static size_t
input_next(const struct asker *a, size_t at, bool *ret_too_long)
{
	size_t have = a->len - at, most = a->cfg.block ? a->cfg.block : DATAGRAM_MAX;
	const char *newline = NULL;

	if (!a->cfg.block && have > 0)
		newline = memchr(a->input + at, '\n', have < most ? have : most);
	if (newline)
		return (size_t)(newline - (a->input + at)) + 1;
	if (a->cfg.block && have >= most)
		return most;
	*ret_too_long = have > most;
	return a->in_ended && have <= most ? have : 0;
}

/* ---- out ---- */

static bool
window_full(const struct asker *a)
{
	return a->cfg.window && a->unanswered >= a->cfg.window;
}

/* How many can go at once. */
static unsigned
asker_collect(struct asker *a, struct datagram *to, struct datagram **list)
{
	uint64_t most = DATAGRAM_BATCH;
	bool too_long = false;
	size_t at = a->at, len;
	unsigned n = 0;

	if (a->cfg.window && a->cfg.window - a->unanswered < most)
		most = a->cfg.window - a->unanswered;
	for (; n < most && (len = input_next(a, at, &too_long)) > 0; at += len) {
		to[n] = (struct datagram){ .bytes = a->input + at, .len = len };
		list[n] = &to[n];
		n++;
	}
	if (n == 0 && too_long)
		a->too_long = true;
	return n;
}

static void
asker_sent(struct asker *a, size_t len)
{
	a->at += len;
	a->unanswered++;
	a->end.sent++;
	a->end.sent_bytes += len;
	if (a->cfg.trace)
		a->cfg.trace(a->cfg.arg, "out", len);
}

static int
asker_put(struct asker *a, struct datagram **list, unsigned n)
{
	int rc = datagrams_send(a->cfg.fd, list, n);

	if (rc == -EAGAIN)
		a->may &= ~(unsigned)TP_WRITE;
	else if (rc < 0)
		a->failed = -rc;
	for (int i = 0; i < rc; i++)
		asker_sent(a, list[i]->len);
	return rc;
}

/* A refusal that stops a batch in its middle is told by nobody (sendmmsg(2)): so the next one goes
 * alone, and then the socket is asked. */
static void
asker_send(struct asker *a)
{
	struct datagram d[DATAGRAM_BATCH], *list[DATAGRAM_BATCH];
	unsigned n;
	int rc;

	if (a->failed || window_full(a) || !(a->may & TP_WRITE))
		return;
	n = asker_collect(a, d, list);
	rc = n ? asker_put(a, list, n) : 0;
	if (rc > 0 && rc < (int)n) {
		(void)asker_put(a, list + rc, 1);
		a->may |= TP_READ;
	}
}

/* ---- in ---- */

static bool
asker_holds(const struct asker *a)
{
	return a->got < a->n_got;
}

static bool
all_sent(const struct asker *a)
{
	return a->too_long || (a->in_ended && a->at == a->len);
}

/* Who asks nothing is not answered. */
static bool
all_answered(const struct asker *a)
{
	bool counted = a->cfg.answers >= 0 && a->end.sent > 0;

	return a->end.answers >= (counted ? (uint64_t)a->cfg.answers : a->end.sent);
}

static void
asker_answered(struct asker *a, struct datagram *d)
{
	if (a->cfg.trace)
		a->cfg.trace(a->cfg.arg, "in", d->len);
	if (d->too_large || (all_sent(a) && all_answered(a))) {
		if (d->too_large)
			log_say(LOG_L_WARN, "an answer of more than %d bytes was dropped",
			    DATAGRAM_MAX);
		d->len = 0;
		return;
	}
	if (a->unanswered > 0)
		a->unanswered--;
	a->end.answers++;
	a->end.answer_bytes += d->len;
	a->waits = false;
}

/* Whether there were any. */
static bool
asker_receive(struct asker *a)
{
	int rc;

	if (asker_holds(a) || !(a->may & TP_READ))
		return false;
	rc = datagrams_recv(a->batch, a->cfg.fd);
	if (rc < DATAGRAM_BATCH)
		a->may &= ~(unsigned)TP_READ;
	if (rc < 0) {
		if (rc != -EAGAIN && !a->failed)
			a->failed = -rc;
		return false;
	}
	a->got = 0;
	a->n_got = (unsigned)rc;
	for (unsigned i = 0; i < a->n_got; i++)
		asker_answered(a, datagrams_at(a->batch, i));
	return true;
}

static void
asker_write(struct asker *a)
{
	while (asker_holds(a)) {
		const struct datagram *d = datagrams_at(a->batch, a->got);
		ssize_t n = 0;

		if (a->written < d->len)
			n = a->io->ops->write(a->io, d->bytes + a->written, d->len - a->written);
		if (n == -EAGAIN)
			return;
		if (n < 0) {
			asker_over(a, "stdout-gone", CCF_STDOUT, (int)-n);
			return;
		}
		a->written += (size_t)n;
		if (a->written >= d->len) {
			a->written = 0;
			a->got++;
		}
	}
}

/* An error of the socket is told before what came earlier. */
static void
asker_last_answers(struct asker *a)
{
	do {
		asker_write(a);
		a->may |= TP_READ;
	} while (!a->over && asker_receive(a));
}

/* ---- what next ---- */

/* What was not answered may be known to have been refused. */
static void
asker_finished(struct asker *a)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (a->end.answers < a->end.sent)
		(void)getsockopt(a->cfg.fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (a->too_long)
		asker_over_line(a);
	else if (error)
		asker_over_socket(a, error);
	else
		asker_over(a, "done", CCF_OK, 0);
}

static void
asker_late(struct asker *a)
{
	bool too_long = false;
	size_t len;

	if (a->too_long) {
		asker_over_line(a);
		return;
	}
	for (size_t at = a->at; (len = input_next(a, at, &too_long)) > 0; at += len)
		a->end.unsent++;
	asker_over(a, "timed-out", CCF_DEADLINE, 0);
}

static void
asker_wait(struct asker *a, bool for_answer)
{
	if (for_answer && !a->waits)
		a->waits_by = clock_after(reactor_now(a->cfg.reactor), a->cfg.timeout);
	a->waits = for_answer;
	reactor_timer(a->cfg.reactor, &a->timer, for_answer ? a->waits_by : CLOCK_NEVER);
}

static void
asker_interest(struct asker *a)
{
	bool holds = asker_holds(a), too_long = false;
	bool sends = !window_full(a) && !a->failed && input_next(a, a->at, &too_long) > 0;
	bool waits = !holds && !a->failed && (all_sent(a) || window_full(a));

	reactor_want(a->cfg.reactor, &a->in, input_wanted(a) ? WATCH_READ : 0);
	reactor_want(a->cfg.reactor, &a->out, holds ? WATCH_WRITE : 0);
	reactor_want(a->cfg.reactor, &a->sock,
	    (holds || a->failed ? 0 : WATCH_READ) | (sends ? WATCH_WRITE : 0));
	asker_wait(a, waits);
}

static void
asker_step(struct asker *a)
{
	input_read(a);
	if (!a->over)
		asker_send(a);
	if (!a->over && !a->failed)
		(void)asker_receive(a);
	if (!a->over)
		asker_write(a);
	if (!a->over && a->failed)
		asker_last_answers(a);
	if (a->over)
		return;
	if (a->failed && !asker_holds(a))
		asker_over_socket(a, a->failed);
	else if (all_sent(a) && all_answered(a) && !asker_holds(a))
		asker_finished(a);
	else
		asker_interest(a);
}

/* ---- events ---- */

static void
in_ready(struct watch *w, uint32_t got)
{
	struct asker *a = OF(w, in);

	(void)got;
	a->io->ready |= TP_READ;
	asker_step(a);
}

static void
out_ready(struct watch *w, uint32_t got)
{
	struct asker *a = OF(w, out);

	(void)got;
	a->io->ready |= TP_WRITE;
	asker_step(a);
}

static void
sock_ready(struct watch *w, uint32_t got)
{
	struct asker *a = OF(w, sock);

	a->may |= (got & WATCH_READ ? TP_READ : 0) | (got & WATCH_WRITE ? TP_WRITE : 0);
	asker_step(a);
}

static void
late(struct timer *t)
{
	asker_late(OF(t, timer));
}

static void
begin(struct task *t)
{
	asker_step(OF(t, begin));
}

/* ---- life ---- */

/* Larger than the path takes: the kernel cuts it up, and none is lost to find out. */
static void
allow_fragments(int fd)
{
	int ip = IP_PMTUDISC_DONT, ip6 = IPV6_PMTUDISC_DONT;

	(void)setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &ip, sizeof(ip));
	(void)setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &ip6, sizeof(ip6));
}

int
asker_new(struct asker **ret, const struct asker_config *cfg)
{
	struct asker *a = calloc(1, sizeof(*a));
	int rc = a ? datagrams_new(&a->batch, false) : -ENOMEM;

	if (rc == 0)
		rc = stream_new(cfg->in, cfg->out, false, &a->io);
	if (rc < 0) {
		if (a)
			datagrams_free(a->batch);
		free(a);
		return rc;
	}
	a->cfg = *cfg;
	a->may = TP_READ | TP_WRITE;
	a->timer.fire = late;
	a->begin.run = begin;
	allow_fragments(cfg->fd);
	(void)datagram_buffer(cfg->fd, DATAGRAM_IN, ANSWERS);
	reactor_watch(cfg->reactor, &a->in, cfg->in, in_ready);
	reactor_watch(cfg->reactor, &a->out, cfg->out, out_ready);
	reactor_watch(cfg->reactor, &a->sock, cfg->fd, sock_ready);
	reactor_later(cfg->reactor, &a->begin);
	*ret = a;
	return 0;
}

void
asker_free(struct asker *a)
{
	if (!a)
		return;
	reactor_forget(a->cfg.reactor, &a->in);
	reactor_forget(a->cfg.reactor, &a->out);
	reactor_forget(a->cfg.reactor, &a->sock);
	reactor_timer(a->cfg.reactor, &a->timer, CLOCK_NEVER);
	reactor_drop(a->cfg.reactor, &a->begin);
	a->io->ops->close(a->io, !a->over || a->end.status != CCF_OK);
	datagrams_free(a->batch);
	fds_close(&a->cfg.fd);
	free(a);
}
