/* net/resolve - getaddrinfo off the loop.  A lookup runs in a thread of its own; a name that is
 * being looked up already is shared; a numeric address never goes there.  resolver_fd() becomes
 * readable when an answer is there. One resolver a process is enough.  Not thread-safe on its
 * outside. */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H

#include "net/addr.h"

#define RESOLVE_MAX 64 /* addresses kept of one answer */

struct resolver;

struct answer {
	int error; /* 0, or an EAI_* (gai_strerror) */
	size_t n;
	struct sockaddr_any at[];
};

struct lookup { /* lies in its asker until answered or cancelled */
	void (*answered)(struct lookup *, const struct answer *); /* answer borrowed for the call */
	void *asked; /* private: the job, NULL when idle */
	struct lookup *next;
};

int resolver_new(struct resolver **ret);  /* 0 or -errno */
void resolver_free(struct resolver *);	  /* lookups under way end harmlessly, told to nobody;
					   * not from answered() */
int resolver_fd(const struct resolver *); /* borrowed; poll for reading */
void resolver_collect(struct resolver *); /* calls answered() for each finished lookup */
int resolver_ask(struct resolver *, struct lookup *, const struct addr *, int family, bool passive,
    void (*answered)(struct lookup *, const struct answer *));
/* family: AF_UNSPEC, AF_INET, AF_INET6.  0: answered() comes later.  -errno: no thread could be
 * made. */
void resolver_cancel(struct resolver *, struct lookup *); /* legal when idle */

int resolve_numeric(const struct addr *, int family, bool passive, struct answer **ret);
/* Without any lookup: 0 as resolve_now, for numeric and unix addresses; -EINVAL for others.  :PORT
 * is [::] (meant dual-stack) and then 0.0.0.0 when passive, [::1] and then 127.0.0.1 else; a
 * literal of another family than asked for is EAI_ADDRFAMILY. */
int resolve_now(const struct addr *, int family, bool passive, struct answer **ret);
/* Blocking, for start-up.  0: *ret is the caller's to free() (error may be set inside).  -ENOMEM.
 * Numeric and unix addresses are answered by resolve_numeric. */
struct answer *answer_copy(const struct answer *); /* the caller's to free(); NULL: no memory */

#endif
