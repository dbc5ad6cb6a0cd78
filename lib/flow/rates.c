/* flow/rates - a peer and its host are entries of one table: a host is a peer without a port.  Who
 * is not in it has a full bucket, so whoever's bucket is full again can leave it at any time. */
#include "flow/rates.h"

#include <stddef.h>
#include <stdlib.h>

struct rated {
	struct peer peer;
	struct bucket bucket;
};

static struct rated *
rated_of(struct peer *p)
{
	return (struct rated *)((char *)p - offsetof(struct rated, peer));
}

void
rates_open(struct rates *r, const struct rates_config *cfg)
{
	*r = (struct rates){ .cfg = *cfg };
	peers_init(&r->known, RATES_KNOWN);
}

static void
rated_forget(struct rates *r, struct peer *p)
{
	peers_leave(&r->known, p);
	free(rated_of(p));
}

void
rates_close(struct rates *r)
{
	struct peer *p;

	while ((p = peers_oldest(&r->known)))
		rated_forget(r, p);
}

/* Two leave for each that comes, so that the table shrinks after a flood.  What was heard at this
 * very moment stays: our caller holds it. */
static void
make_room(struct rates *r, int64_t now_us)
{
	struct peer *p;

	for (int i = 0; i < 2 && (p = peers_oldest(&r->known)); i++) {
		bool idle = p->seen != now_us && bucket_full(&rated_of(p)->bucket, now_us);

		if (!idle && r->known.n < RATES_KNOWN)
			return;
		rated_forget(r, p);
	}
}

/* Who is refused was heard as well: he is not to be forgotten, and begin anew, the sooner for it.
 */
static struct rated *
rated_find(struct rates *r, const struct peer_key *key, int64_t now_us)
{
	struct peer *p = peers_find(&r->known, key);

	if (!p)
		return NULL;
	peers_heard(&r->known, p, now_us);
	return rated_of(p);
}

static struct rated *
rated_new(struct rates *r, const struct peer_key *key, int64_t now_us)
{
	struct rated *e;

	make_room(r, now_us);
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->peer.key = *key;
	if (peers_enter(&r->known, &e->peer, now_us) < 0) {
		free(e);
		return NULL;
	}
	return e;
}

/* One of the two limits that each has its own of. */
struct own {
	int64_t rate;
	const char *over;
	struct peer_key key;
	struct rated *rated;
};

const char *
rates_take(struct rates *r, const struct datagram *d, int64_t now_us)
{
	struct own own[] = { { .rate = r->cfg.peer, .over = "rate" },
		{ .rate = r->cfg.host, .over = "rate-host" } };
	struct peer_key flow;

	peer_key_of(&flow, d);
	peer_key_sender(&own[0].key, &flow);
	peer_key_host(&own[1].key, &flow);
	for (int i = 0; i < 2; i++) {
		struct own *o = &own[i];

		if (!o->rate)
			continue;
		o->rated = rated_find(r, &o->key, now_us);
		if (o->rated && !bucket_has(&o->rated->bucket, o->rate, now_us))
			return o->over;
	}
	if (r->cfg.all && !bucket_has(&r->all, r->cfg.all, now_us))
		return "rate-all";
	for (int i = 0; i < 2; i++)
		if (own[i].rate && !own[i].rated &&
		    !(own[i].rated = rated_new(r, &own[i].key, now_us)))
			return "no-memory";
	for (int i = 0; i < 2; i++)
		if (own[i].rate)
			bucket_take(&own[i].rated->bucket, own[i].rate, now_us);
	if (r->cfg.all)
		bucket_take(&r->all, r->cfg.all, now_us);
	return NULL;
}
