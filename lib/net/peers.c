/* net/peers - the table of who is known. */
#include "net/peers.h"

#include <errno.h>
#include <string.h>

static int
compare(const struct peer *a, const struct peer *b)
{
	return memcmp(&a->key, &b->key, sizeof(a->key));
}

RB_PROTOTYPE(peer_tree, peer, node, compare)
RB_GENERATE(peer_tree, peer, node, compare)

_Static_assert(sizeof(struct peer_key) == 40, "compared as bytes: no padding");

void
peer_key_of(struct peer_key *key, const struct datagram *d)
{
	const struct sockaddr_any *peer = &d->peer;

	*key = (struct peer_key){ .local = d->local, .scope = d->ifindex };
	if (peer->sa.sa_family == AF_INET) {
		key->ip.s6_addr[10] = key->ip.s6_addr[11] = 0xff;
		memcpy(&key->ip.s6_addr[12], &peer->in.sin_addr, sizeof(peer->in.sin_addr));
		key->port = ntohs(peer->in.sin_port);
	} else if (peer->sa.sa_family == AF_INET6) {
		key->ip = peer->in6.sin6_addr;
		key->port = ntohs(peer->in6.sin6_port);
		/* Known also where the socket says nothing about our side. */
		if (IN6_IS_ADDR_LINKLOCAL(&key->ip))
			key->scope = peer->in6.sin6_scope_id;
	}
}

void
peer_key_sender(struct peer_key *key, const struct peer_key *of)
{
	*key = *of;
	key->local = in6addr_any;
	if (!IN6_IS_ADDR_LINKLOCAL(&key->ip))
		key->scope = 0; /* that was ours */
}

void
peer_key_host(struct peer_key *key, const struct peer_key *of)
{
	peer_key_sender(key, of);
	key->port = 0;
	if (!IN6_IS_ADDR_V4MAPPED(&key->ip))
		memset(&key->ip.s6_addr[8], 0, 8);
}

void
peers_init(struct peers *p, unsigned max)
{
	RB_INIT(&p->tree);
	TAILQ_INIT(&p->order);
	p->n = 0;
	p->max = max;
}

struct peer *
peers_find(struct peers *p, const struct peer_key *key)
{
	struct peer like;

	like.key = *key;
	return RB_FIND(peer_tree, &p->tree, &like);
}

int
peers_enter(struct peers *p, struct peer *peer, int64_t now)
{
	if (p->max > 0 && p->n >= p->max)
		return peers_find(p, &peer->key) ? -EEXIST : -ENOSPC;
	if (RB_INSERT(peer_tree, &p->tree, peer))
		return -EEXIST;
	TAILQ_INSERT_TAIL(&p->order, peer, order);
	peer->seen = now;
	p->n++;
	return 0;
}

void
peers_leave(struct peers *p, struct peer *peer)
{
	RB_REMOVE(peer_tree, &p->tree, peer);
	TAILQ_REMOVE(&p->order, peer, order);
	p->n--;
}

void
peers_heard(struct peers *p, struct peer *peer, int64_t now)
{
	peer->seen = now;
	TAILQ_REMOVE(&p->order, peer, order);
	TAILQ_INSERT_TAIL(&p->order, peer, order);
}

struct peer *
peers_oldest(struct peers *p)
{
	return TAILQ_FIRST(&p->order);
}
