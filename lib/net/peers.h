/* net/peers - who is known: a bounded table of peers, found by their address, in the order in which they were last heard of.  What
 * is kept about each is the owner's: a struct peer lies in it.  A red-black tree, so nobody who chooses his addresses can make it
 * slow.  Nothing is allocated here, and no clock is read. */
#ifndef NET_PEERS_H
#define NET_PEERS_H

#include <stdint.h>
#include <sys/queue.h>
#include <sys/tree.h>

#include "net/datagram.h"

struct peer_key { /* compared as bytes */
	struct in6_addr ip;    /* the peer's, IPv4 as v4-mapped */
	struct in6_addr local; /* ours that it speaks to; ::: not said */
	uint32_t scope;        /* of a link-local address: the interface; 0 else */
	uint16_t port;         /* the peer's; 0: its host */
	uint16_t zero;
};

void peer_key_of(struct peer_key *, const struct datagram *); /* the flow: the peer's address and port, and ours */
void peer_key_sender(struct peer_key *, const struct peer_key *of); /* the peer, whichever of our addresses it asks */
void peer_key_host(struct peer_key *, const struct peer_key *of);
/* Its host: no port; of IPv6 the first 64 bits, which are one subscriber's (RFC 6177) */

struct peer {
	struct peer_key key;
	int64_t seen; /* by the clock of who calls */
	/* private */
	RB_ENTRY(peer) node;
	TAILQ_ENTRY(peer) order;
};

struct peers {
	RB_HEAD(peer_tree, peer) tree;
	TAILQ_HEAD(peer_order, peer) order; /* the longest silent first */
	unsigned n, max;
};

void peers_init(struct peers *, unsigned max); /* max 0: no bound */
struct peer *peers_find(struct peers *, const struct peer_key *); /* or NULL */
int peers_enter(struct peers *, struct peer *, int64_t now); /* key filled in.  0; -EEXIST; -ENOSPC: max are in it */
void peers_leave(struct peers *, struct peer *);	       /* must be in it */
void peers_heard(struct peers *, struct peer *, int64_t now); /* sets seen, puts it last.  O(1) */
struct peer *peers_oldest(struct peers *);		       /* the one silent for longest, or NULL */

#endif
