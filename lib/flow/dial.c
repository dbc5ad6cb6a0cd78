#include "flow/dial.h"

#include <netdb.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/metrics.h"

static void dial_needs(struct dial *, const struct endpoint_need *);

static void
dialler_ready(struct watch *w, uint32_t got)
{
	struct dialler *d = (struct dialler *)((char *)w - offsetof(struct dialler, watch));

	(void)got;
	resolver_collect(d->resolver);
}

void
dialler_open(struct dialler *d, struct reactor *reactor)
{
	*d = (struct dialler){ .reactor = reactor };
}

void
dialler_close(struct dialler *d)
{
	if (!d->resolver)
		return;
	reactor_forget(d->reactor, &d->watch);
	resolver_free(d->resolver);
	d->resolver = NULL;
}

static int
dialler_resolver(struct dialler *d)
{
	int rc = d->resolver ? 0 : resolver_new(&d->resolver);

	if (rc == 0 && !d->watch.known) {
		reactor_watch(d->reactor, &d->watch, resolver_fd(d->resolver), dialler_ready);
		reactor_want(d->reactor, &d->watch, WATCH_READ);
	}
	return rc;
}

static void
dial_unwatch(struct dial *d)
{
	if (d->watching)
		reactor_forget(d->with->reactor, &d->watch);
	d->watching = false;
}

static void
dial_step(struct dial *d, enum endpoint_event event)
{
	struct endpoint_need need;

	dial_unwatch(d);
	endpoint_step(&d->ep, event, reactor_now(d->with->reactor), &need);
	dial_needs(d, &need);
}

static void
dial_ready(struct watch *w, uint32_t got)
{
	(void)got;
	dial_step((struct dial *)((char *)w - offsetof(struct dial, watch)), EP_EVENT);
}

static void
dial_time(struct timer *t)
{
	dial_step((struct dial *)((char *)t - offsetof(struct dial, timer)), EP_TIME);
}

static void
dial_answered(struct lookup *l, const struct answer *answer)
{
	struct dial *d = (struct dial *)((char *)l - offsetof(struct dial, lookup));
	struct endpoint_need need;

	endpoint_resolved(&d->ep, answer, reactor_now(d->with->reactor), &need);
	dial_needs(d, &need);
}

static int
dial_ask(struct dial *d, const struct endpoint_need *need)
{
	int rc = dialler_resolver(d->with);

	if (rc == 0)
		rc = resolver_ask(d->with->resolver, &d->lookup, need->lookup, d->ep.plan.family,
		    need->lookup_passive, dial_answered);
	return rc;
}

/* Arranges for what the endpoint waits for; when it waits for nothing more, tells the owner. */
static void
dial_needs(struct dial *d, const struct endpoint_need *first)
{
	struct endpoint_need need = *first;

	while (need.lookup &&
	       dial_ask(d, &need) < 0) { /* no thread: as if the server did not answer */
		struct answer none = { .error = EAI_AGAIN };

		endpoint_resolved(&d->ep, &none, reactor_now(d->with->reactor), &need);
	}
	if (endpoint_over(&d->ep)) {
		reactor_timer(d->with->reactor, &d->timer, CLOCK_NEVER);
		reactor_later(d->with->reactor, &d->tell);
		return;
	}
	reactor_timer(d->with->reactor, &d->timer, need.deadline);
	if (need.fd != -1) {
		reactor_watch(d->with->reactor, &d->watch, need.fd, dial_ready);
		reactor_want(d->with->reactor, &d->watch, WATCH_WRITE);
		d->watching = true;
	}
}

static void
dial_begin(struct task *t)
{
	dial_step((struct dial *)((char *)t - offsetof(struct dial, begin)), EP_START);
}

/* A task of its own: what is connected at once is told of in the same turn. */
static void
dial_tell(struct task *t)
{
	struct dial *d = (struct dial *)((char *)t - offsetof(struct dial, tell));
	bool ok = d->ep.state == EP_CONNECTED;

	metric_add(METRIC_DIALS, ok ? "ok" : "failed", 1);
	if (ok)
		metric_time(METRIC_DIAL_TIME, d->ep.took_resolve + d->ep.took_connect);
	d->done(d);
}

void
dial_start(struct dial *d, struct dialler *with, const struct endpoint_plan *plan,
    void (*done)(struct dial *))
{
	*d = (struct dial){ .with = with, .done = done };
	endpoint_init(&d->ep, plan);
	d->timer.fire = dial_time;
	d->begin.run = dial_begin;
	d->tell.run = dial_tell;
	dial_restart(d);
}

void
dial_restart(struct dial *d)
{
	reactor_later(d->with->reactor, &d->begin);
}

void
dial_stop(struct dial *d)
{
	if (!d->with)
		return;
	dial_unwatch(d);
	reactor_timer(d->with->reactor, &d->timer, CLOCK_NEVER);
	reactor_drop(d->with->reactor, &d->begin);
	reactor_drop(d->with->reactor, &d->tell);
	if (d->with->resolver)
		resolver_cancel(d->with->resolver, &d->lookup);
	endpoint_close(&d->ep);
	d->with = NULL;
}
