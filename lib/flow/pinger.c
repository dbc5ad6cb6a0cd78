#include "flow/pinger.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"

TAILQ_HEAD(pings, ping);

struct ping {
	TAILQ_ENTRY(ping) link;
	uint64_t number;
	int64_t sent; /* clock_us */
	size_t len;
	char id[];
};

static bool
is_for(const struct ping *q, const char *id, size_t len)
{
	return q->len == len && memcmp(q->id, id, len) == 0;
}

static int64_t
deadline(const struct pinger *p, const struct ping *q)
{
	return clock_after((q->sent + 999) / 1000, p->timeout);
}

/* All wait equally long: the oldest is the next. */
static int
set_timer(struct pinger *p)
{
	const struct ping *first = TAILQ_FIRST(&p->out);

	return reactor_timer(p->reactor, &p->timer, first ? deadline(p, first) : CLOCK_NEVER);
}

static void
take_out(struct pinger *p, struct ping *q)
{
	TAILQ_REMOVE(&p->out, q, link);
	p->n--;
}

/* Who is told may begin anew, fail others, or close: none of these is among the others any more. */
static void
lose(struct pinger *p, struct pings *these, const char *why)
{
	struct ping *q;

	while ((q = TAILQ_FIRST(these))) {
		TAILQ_REMOVE(these, q, link);
		if (p->reactor)
			p->lost(p->arg, q->id, q->len, why);
		free(q);
	}
}

static void
pinger_fire(struct timer *t)
{
	struct pinger *p = (struct pinger *)((char *)t - offsetof(struct pinger, timer));
	struct pings late = TAILQ_HEAD_INITIALIZER(late);
	int64_t now = reactor_now(p->reactor), s = p->timeout / 1000;
	bool whole = p->timeout % 1000 == 0;
	struct ping *q;
	char why[64];

	while ((q = TAILQ_FIRST(&p->out)) && deadline(p, q) <= now) {
		take_out(p, q);
		TAILQ_INSERT_TAIL(&late, q, link);
	}
	(void)set_timer(p); /* it has just left its place */
	snprintf(why, sizeof(why), "no answer in %" PRId64 "%s", whole ? s : p->timeout,
	    whole ? "s" : "ms");
	lose(p, &late, why);
}

int
pinger_open(struct pinger *p, struct reactor *r)
{
	uint64_t key;
	ssize_t n;

	do
		n = getrandom(&key, sizeof(key), 0);
	while (n < 0 && errno == EINTR);
	if (n != sizeof(key))
		return n < 0 ? -errno : -EIO;
	p->reactor = r;
	p->key = key;
	p->last = 0;
	p->n = 0;
	p->timer = (struct timer){ .fire = pinger_fire };
	TAILQ_INIT(&p->out);
	return 0;
}

void
pinger_close(struct pinger *p)
{
	struct ping *q;

	if (!p->reactor)
		return;
	while ((q = TAILQ_FIRST(&p->out))) {
		take_out(p, q);
		free(q);
	}
	(void)set_timer(p);
	p->reactor = NULL;
}

int
pinger_new(struct pinger *p, const char *id, size_t len, char payload[PINGER_SIZE])
{
	struct ping *q;
	uint64_t word[2];

	if (p->n == PINGER_MAX)
		return -ENOBUFS;
	q = malloc(sizeof(*q) + len);
	if (!q)
		return -ENOMEM;
	q->sent = clock_us();
	q->len = len;
	memcpy(q->id, id, len);
	TAILQ_INSERT_TAIL(&p->out, q, link);
	if (p->n == 0 && set_timer(p) < 0) {
		TAILQ_REMOVE(&p->out, q, link);
		free(q);
		return -ENOMEM;
	}
	p->n++;
	q->number = ++p->last;
	word[0] = htole64(p->key);
	word[1] = htole64(q->number);
	memcpy(payload, word, sizeof(word));
	return 0;
}

bool
pinger_match(struct pinger *p, const char *id, size_t len, const void *payload, size_t payload_len,
    int64_t *ret_us)
{
	struct ping *q;
	uint64_t word[2];

	if (payload_len != sizeof(word))
		return false;
	memcpy(word, payload, sizeof(word));
	if (le64toh(word[0]) != p->key)
		return false;
	TAILQ_FOREACH(q, &p->out, link)
		if (q->number == le64toh(word[1]))
			break;
	if (!q || !is_for(q, id, len))
		return false;
	*ret_us = clock_us() - q->sent;
	take_out(p, q);
	(void)set_timer(p);
	free(q);
	return true;
}

void
pinger_fail(struct pinger *p, const char *id, size_t len, const char *why)
{
	struct pings these = TAILQ_HEAD_INITIALIZER(these);
	struct ping *q, *next;

	for (q = TAILQ_FIRST(&p->out); q; q = next) {
		next = TAILQ_NEXT(q, link);
		if (is_for(q, id, len)) {
			take_out(p, q);
			TAILQ_INSERT_TAIL(&these, q, link);
		}
	}
	(void)set_timer(p);
	lose(p, &these, why);
}
