/* flow/peer_session - a COMMAND for each peer.  What waits for a COMMAND waits in the kernel;
 * nothing of a datagram is kept here.
 *
 * What the kernel does with an AF_UNIX SEQPACKET pair (tried on Linux 6.18):
 * - a send is refused (EAGAIN) once the queue holds SO_SNDBUF bytes with its overhead, whatever the
 *   size; one that is larger than SO_SNDBUF less 32 always is (EMSGSIZE);
 * - after shutdown or close the other side reads what was queued, then 0, for ever; recvmmsg fills
 *   its batch with these;
 * - a close with datagrams unread is told to the other side once (ECONNRESET), by whatever it asks
 *   next; what it had been sent is still there behind. */
#include "flow/peer_session.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/exit.h"
#include "base/fds.h"
#include "base/log.h"
#include "base/metrics.h"
#include "flow/peer_session_parts.h"

#define LAST_MS	     100 /* a COMMAND that ends its socket by ending itself is reaped in this time */
#define LAST_BATCHES 64	 /* of what a COMMAND that is gone has left */
#define BIT(n)	     (1u << (n))

static struct peer_session *
session_of(struct peer *p)
{
	return (struct peer_session *)((char *)p - offsetof(struct peer_session, peer));
}

static int64_t
now(const struct peer_sessions *all)
{
	return reactor_now(all->cfg.reactor);
}

/* ---- state ---- */

static bool
has_slot(enum peer_session_state state)
{
	return state == SESSION_OPEN || state == SESSION_DRAINING;
}

static bool
is_leaving(enum peer_session_state state)
{
	return state == SESSION_CLOSING || state == SESSION_LEAVING;
}

static void session_ready(struct watch *, uint32_t got);

static void
slot_take(struct peer_session *s)
{
	struct peer_sessions *all = s->all;

	TAILQ_INSERT_TAIL(&all->open, s, link);
	metric_set(METRIC_LIVE, ++all->n_open);
	if (all->n_open > metric_get(metrics_here(), METRIC_PEAK, NULL))
		metric_set(METRIC_PEAK, all->n_open);
	reactor_watch(all->cfg.reactor, &s->watch, s->fd, session_ready);
	reactor_want(all->cfg.reactor, &s->watch, WATCH_READ);
}

static void
slot_leave(struct peer_session *s)
{
	struct peer_sessions *all = s->all;

	TAILQ_REMOVE(&all->open, s, link);
	metric_set(METRIC_LIVE, --all->n_open);
	reactor_forget(all->cfg.reactor, &s->watch);
	fds_close(&s->fd);
	peers_leave(&s->from->peers, &s->peer);
	admission_leave(&s->from->caps);
	s->from->told_full = false;
}

static void
session_release(struct grave *g)
{
	free((char *)g - offsetof(struct peer_session, grave));
}

void
peer_session_enter(struct peer_session *s, enum peer_session_state to)
{
	static const uint8_t legal[] = {
		[SESSION_NEW] = BIT(SESSION_OPEN) | BIT(SESSION_DRAINING) | BIT(SESSION_CLOSING) |
				BIT(SESSION_LEAVING),
		[SESSION_OPEN] = BIT(SESSION_DRAINING) | BIT(SESSION_CLOSING) |
				 BIT(SESSION_LEAVING) | BIT(SESSION_GONE),
		[SESSION_DRAINING] =
		    BIT(SESSION_CLOSING) | BIT(SESSION_LEAVING) | BIT(SESSION_GONE),
		[SESSION_CLOSING] = BIT(SESSION_LEAVING) | BIT(SESSION_GONE),
		[SESSION_LEAVING] = BIT(SESSION_GONE),
		[SESSION_GONE] = 0,
	};
	struct peer_sessions *all = s->all;
	enum peer_session_state was = s->state;

	assert(legal[was] & BIT(to));
	s->state = to;
	if (has_slot(was) && !has_slot(to))
		slot_leave(s);
	if (!has_slot(was) && has_slot(to))
		slot_take(s);
	if (!is_leaving(was) && is_leaving(to))
		TAILQ_INSERT_TAIL(&all->leaving, s, link);
	if (is_leaving(was) && !is_leaving(to)) {
		TAILQ_REMOVE(&all->leaving, s, link);
		s->from->told_full = false;
	}
	s->from->leaving += to == SESSION_LEAVING;
	s->from->leaving -= was == SESSION_LEAVING;
	s->from->closing += to == SESSION_CLOSING;
	s->from->closing -= was == SESSION_CLOSING;
	if (to != SESSION_CLOSING)
		(void)reactor_timer(all->cfg.reactor, &s->last, CLOCK_NEVER);
	if (to == SESSION_GONE)
		reactor_bury(all->cfg.reactor, &s->grave, session_release);
}

/* ---- the end of a session ---- */

static void
session_tell(struct peer_session *s, const char *reason, int status, const char *by)
{
	tell_closed(&s->tell, reason, status, by, s->in, s->out);
}

/* A process that only checks what another one has saved (cmd/renew) knows of its COMMANDs, and must
 * not touch them: they are not its children. */
static void
session_signal(const struct peer_session *s, int signo)
{
	siginfo_t info;

	if (waitid(P_PID, (id_t)s->child.pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
		kill(s->child.pid, signo);
}

/* The first time with TERM; and the list stays in the order of due. */
static void
session_press(struct peer_session *s)
{
	struct peer_sessions *all = s->all;

	session_signal(s, s->pressed ? SIGKILL : SIGTERM);
	s->pressed = true;
	s->due = now(all) + all->cfg.grace;
	TAILQ_REMOVE(&all->leaving, s, link);
	TAILQ_INSERT_TAIL(&all->leaving, s, link);
}

/* By us: the COMMAND reads the end of its input, or is told by TERM at once. */
static void
session_end(struct peer_session *s, const char *reason, int status, bool press)
{
	session_tell(s, reason, status, "us");
	s->due = now(s->all) + s->all->cfg.grace;
	peer_session_enter(s, SESSION_LEAVING);
	if (press)
		session_press(s);
	peer_sessions_arm(s->all);
}

static void
session_lives_on(struct timer *t)
{
	struct peer_session *s =
	    (struct peer_session *)((char *)t - offsetof(struct peer_session, last));

	session_tell(s, "closed", CCF_OK, "inner");
	peer_session_enter(s, SESSION_LEAVING);
}

/* By the COMMAND.  A process closes its socket a little before it can be reaped: which of the two
 * this is decides what is told. */
void
peer_session_closed(struct peer_session *s)
{
	struct peer_sessions *all = s->all;

	s->due = now(all) + all->cfg.grace;
	peer_session_enter(s, SESSION_CLOSING);
	s->last.fire = session_lives_on;
	if (reactor_timer(all->cfg.reactor, &s->last, now(all) + LAST_MS) < 0)
		session_lives_on(&s->last);
	peer_sessions_arm(all);
}

static void
settle(struct peer_sessions *all)
{
	if (all->draining && TAILQ_EMPTY(&all->open) && TAILQ_EMPTY(&all->leaving))
		all->cfg.idle_now(all->cfg.arg);
}

/* ---- from the COMMAND to the peer ---- */

static uint64_t
cost(const struct datagram *d)
{
	return d->len > 0 ? d->len : 1;
}

/* Until the peer has shown itself it gets little: its address may be a victim's. */
static bool
session_may_say(struct peer_session *s, const struct datagram *d, uint64_t out)
{
	static struct log_class class = { .name = "datagrams of COMMANDs above --amplification" };
	struct log_who who = tell_who(&s->tell);
	int64_t times = s->all->cfg.amplification;

	if (d->too_large) {
		receiver_drop(s->from, d, "too-large");
		return false;
	}
	if (s->shown || times < 0 || out + cost(d) <= s->in * (uint64_t)times)
		return true;
	receiver_drop(s->from, d, "amplification");
	if (log_admit(&class, now(s->all)))
		log_event(LOG_L_INFO, &who, "amplification", NULL,
		    "%zu bytes dropped: %" PRIu64 " in and %" PRIu64
		    " out, and the peer has not shown yet that it gets them (--amplification)",
		    d->len, s->in, out);
	return false;
}

/* charged: with them.  Where the kernel refused some of them it counts too many, as out does. */
static void
session_say(struct peer_session *s, struct datagram *const *d, unsigned n, uint64_t charged)
{
	if (receiver_send(s->from, d, n, false) == 0)
		return;
	s->charged = charged;
	for (unsigned i = 0; i < n; i++)
		s->out += d[i]->len;
	s->answered = true;
	peers_heard(&s->from->peers, &s->peer, now(s->all));
}

/* A batch of what the COMMAND says goes to the peer.  How many there were, 0: none just now;
 * -EPIPE: the end was among them.  It is no datagram: it comes from nobody, while the COMMAND's
 * socket has a name. */
static int
session_hear(struct peer_session *s)
{
	struct datagram *out[DATAGRAM_BATCH];
	uint64_t said = s->charged;
	unsigned n_out = 0;
	int i, n = datagrams_recv(s->all->batch, s->fd);

	if (n == -ECONNRESET)
		n = datagrams_recv(s->all->batch, s->fd);
	if (n < 0)
		return n == -EAGAIN ? 0 : -EPIPE;
	for (i = 0; i < n; i++) {
		struct datagram *d = datagrams_at(s->all->batch, (unsigned)i);

		if (d->peer.len == 0)
			break;
		d->peer = s->to.peer;
		d->local = s->to.local;
		d->ifindex = s->to.ifindex;
		if (!session_may_say(s, d, said))
			continue;
		said += cost(d);
		out[n_out++] = d;
	}
	if (n_out > 0)
		session_say(s, out, n_out, said);
	return i < n ? -EPIPE : n;
}

/* The COMMAND is gone, or nearly.  Who inherited its socket may go on for ever. */
static void
session_last_words(struct peer_session *s)
{
	for (int i = 0; i < LAST_BATCHES && session_hear(s) > 0; i++)
		;
}

static void
session_ready(struct watch *w, uint32_t got)
{
	struct peer_session *s =
	    (struct peer_session *)((char *)w - offsetof(struct peer_session, watch));

	(void)got;
	if (session_hear(s) < 0)
		peer_session_closed(s);
}

void
peer_session_exited(struct child *child, int wait_status)
{
	struct peer_session *s =
	    (struct peer_session *)((char *)child - offsetof(struct peer_session, child));
	struct peer_sessions *all = s->all;

	if (has_slot(s->state))
		session_last_words(s);
	if (s->state != SESSION_LEAVING)
		session_tell(s, WIFSIGNALED(wait_status) ? "killed" : "exited",
		    child_exit_status(wait_status), "inner");
	peer_session_enter(s, SESSION_GONE);
	settle(all);
}

/* ---- from the peer to the COMMAND ---- */

static void
drop_all(struct receiver *r, struct datagram *const *d, unsigned n, const char *reason)
{
	for (unsigned i = 0; i < n; i++)
		receiver_drop(r, d[i], reason);
}

static void
tell_queue_full(const struct peer_session *s)
{
	static struct log_class class = { .name = "times that a queue was full" };
	struct log_who who = tell_who(&s->tell);

	if (log_admit(&class, now(s->all)))
		log_event(LOG_L_INFO, &who, "dropped", NULL,
		    "dropped: the COMMAND has not read what came before (--max-queue)");
}

/* None of them is empty.  How many are done with; 0: the session is over. */
static unsigned
session_pass(struct peer_session *s, struct datagram *const *d, unsigned n)
{
	struct mmsghdr msg[DATAGRAM_BATCH];
	struct iovec iov[DATAGRAM_BATCH];
	int went;

	memset(msg, 0, n * sizeof(msg[0]));
	for (unsigned i = 0; i < n; i++) {
		iov[i] = (struct iovec){ d[i]->bytes, d[i]->len };
		msg[i].msg_hdr.msg_iov = &iov[i];
		msg[i].msg_hdr.msg_iovlen = 1;
	}
	do
		went = sendmmsg(s->fd, msg, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (went < 0 && errno == EINTR);
	for (int i = 0; i < went; i++)
		s->in += d[i]->len;
	if (went > 0)
		return (unsigned)went;
	if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM || errno == EMSGSIZE) {
		tell_queue_full(s);
		drop_all(s->from, d, n, "queue-full");
		return n;
	}
	session_last_words(s);
	peer_session_closed(s);
	return 0;
}

/* The first, and those that follow it from the same peer.  How many are done with. */
static unsigned
take_some(struct peer_sessions *all, struct receiver *r, struct datagram *const *d, unsigned n)
{
	struct peer_key key, next;
	struct peer_session *s;
	struct peer *p;
	unsigned same = 1;

	peer_key_of(&key, d[0]);
	p = peers_find(&r->peers, &key);
	if (!p) {
		peer_session_newcomer(all, r, d[0], &key);
		return 1;
	}
	s = session_of(p);
	peers_heard(&r->peers, p, now(all));
	s->shown = s->shown || s->answered;
	if (d[0]->len == 0) {
		receiver_drop(r, d[0], "empty");
		return 1;
	}
	for (; same < n && same < DATAGRAM_BATCH && d[same]->len > 0; same++) {
		peer_key_of(&next, d[same]);
		if (memcmp(&next, &key, sizeof(key)) != 0)
			break;
	}
	return session_pass(s, d, same);
}

void
peer_sessions_take(void *arg, struct receiver *r, struct datagram *const *d, unsigned n)
{
	struct peer_sessions *all = arg;

	if (all->draining)
		drop_all(r, d, n, "draining");
	else
		for (unsigned done = 0; done < n;)
			done += take_some(all, r, d + done, n - done);
}

/* ---- deadlines ---- */

static int64_t
idle_at(const struct peer_sessions *all, const struct peer *p)
{
	return clock_after(p->seen, all->cfg.idle);
}

void
peer_sessions_arm(struct peer_sessions *all)
{
	struct peer_session *s = TAILQ_FIRST(&all->leaving);
	int64_t at = s ? s->due : CLOCK_NEVER;
	struct receiver *r;

	TAILQ_FOREACH(r, &all->cfg.receivers->list, link) {
		struct peer *p = peers_oldest(&r->peers);

		if (p && idle_at(all, p) < at)
			at = idle_at(all, p);
	}
	(void)reactor_timer(all->cfg.reactor, &all->timer, at);
}

/* Looks who it is now: a datagram only moves its peer in the table. */
static void
sessions_due(struct timer *t)
{
	struct peer_sessions *all =
	    (struct peer_sessions *)((char *)t - offsetof(struct peer_sessions, timer));
	struct peer_session *s;
	struct receiver *r;
	struct peer *p;

	TAILQ_FOREACH(r, &all->cfg.receivers->list, link)
		while ((p = peers_oldest(&r->peers)) && idle_at(all, p) <= now(all))
			session_end(session_of(p), "idle", CCF_OK, false);
	while ((s = TAILQ_FIRST(&all->leaving)) && s->due <= now(all))
		session_press(s);
	peer_sessions_arm(all);
}

/* ---- life ---- */

int
peer_sessions_open(struct peer_sessions *all, const struct peer_sessions_config *cfg)
{
	struct datagrams *batch;

	if (datagrams_new(&batch, false) < 0)
		return -ENOMEM;
	*all = (struct peer_sessions){ .cfg = *cfg, .batch = batch, .timer.fire = sessions_due };
	if (all->cfg.grace == 0)
		all->cfg.grace = PEER_GRACE_MS;
	TAILQ_INIT(&all->open);
	TAILQ_INIT(&all->leaving);
	return 0;
}

void
peer_sessions_drain(struct peer_sessions *all)
{
	struct peer_session *s;

	if (all->draining)
		return;
	all->draining = true;
	TAILQ_FOREACH(s, &all->open, link)
		if (s->state == SESSION_OPEN) {
			(void)shutdown(s->fd, SHUT_WR);
			peer_session_enter(s, SESSION_DRAINING);
		}
	settle(all);
}

void
peer_sessions_now(struct peer_sessions *all)
{
	struct peer_session *s, *next;
	bool was = all->draining;

	all->draining = true;
	while ((s = TAILQ_FIRST(&all->open)))
		session_end(s, "drain-timeout", CCF_DEADLINE, true);
	TAILQ_FOREACH_SAFE(s, &all->leaving, link, next)
		if (!s->pressed)
			session_press(s);
	peer_sessions_arm(all);
	if (!was)
		settle(all);
}

static void
session_abandon(struct peer_session *s)
{
	if (!s->pressed)
		session_signal(s, SIGTERM);
	child_abandon(s->all->cfg.children, &s->child);
	peer_session_enter(s, SESSION_GONE);
}

void
peer_sessions_abandon(struct peer_sessions *all)
{
	struct peer_session *s;

	if (!all->batch)
		return;
	while ((s = TAILQ_FIRST(&all->open)) || (s = TAILQ_FIRST(&all->leaving)))
		session_abandon(s);
	(void)reactor_timer(all->cfg.reactor, &all->timer, CLOCK_NEVER);
	datagrams_free(all->batch);
	all->batch = NULL;
}

bool
peer_sessions_cut(struct peer_sessions *all, const char *id)
{
	struct peer_session *s;

	TAILQ_FOREACH(s, &all->open, link)
		if (strcmp(s->tell.conn, id) == 0) {
			session_end(s, "control", CCF_CUT, true);
			return true;
		}
	return false;
}
