/* net/resolve - one detached thread a lookup.  All that a thread and its resolver share lies behind
 * one lock: the list of finished jobs and the count of who still holds the resolver.  Who asked is
 * known to the asking thread alone, so a lookup is cancelled by forgetting it, and a resolver is
 * freed by the last thread that comes home. */
#include "net/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

/* getaddrinfo's own needs, with room for what a name service module brings. */
#define STACK_BYTES (256 * 1024)

struct job {
	TAILQ_ENTRY(job) link;	/* in asked; the asking thread's */
	STAILQ_ENTRY(job) home; /* in done; under the lock */
	struct resolver *resolver;
	struct addr addr;
	int family;
	bool passive;
	struct lookup *askers; /* the asking thread's */
	struct answer *answer; /* the thread's, until the job is in done */
};

struct resolver {
	int fd;
	TAILQ_HEAD(, job) asked; /* under way or finished, not yet collected */
	pthread_mutex_t lock;
	STAILQ_HEAD(done, job) done;
	unsigned holders; /* the owner and the threads */
	bool closed;
};

static const struct answer no_memory = { .error = EAI_MEMORY };

static struct answer *
answer_new(size_t room)
{
	return calloc(1, sizeof(struct answer) + room * sizeof(struct sockaddr_any));
}

struct answer *
answer_copy(const struct answer *from)
{
	struct answer *a = answer_new(from->n);

	if (a) {
		a->error = from->error;
		a->n = from->n;
		memcpy(a->at, from->at, from->n * sizeof(from->at[0]));
	}
	return a;
}

/* Once each: with both families under one name in the hosts file glibc gives an address twice. */
static void
answer_add(struct answer *a, const struct addrinfo *ai)
{
	struct sockaddr_any s = { .len = ai->ai_addrlen };

	if (ai->ai_addrlen > sizeof(s.ss) || a->n == RESOLVE_MAX)
		return;
	memcpy(&s.ss, ai->ai_addr, ai->ai_addrlen);
	for (size_t i = 0; i < a->n; i++)
		if (a->at[i].len == s.len && !memcmp(&a->at[i].ss, &s.ss, s.len))
			return;
	a->at[a->n++] = s;
}

/* The blocking call.  NULL: no memory. */
static struct answer *
look_up(const struct addr *addr, int family, bool passive)
{
	struct addrinfo hints = { .ai_family = family, .ai_flags = passive ? AI_PASSIVE : 0 };
	struct addrinfo *list = NULL;
	struct answer *a = answer_new(RESOLVE_MAX);

	if (!a)
		return NULL;
	hints.ai_socktype = addr->kind == ADDR_UDP ? SOCK_DGRAM : SOCK_STREAM;
	a->error = getaddrinfo(*addr->host ? addr->host : NULL, addr->port, &hints, &list);
	if (a->error == 0) {
		for (struct addrinfo *ai = list; ai; ai = ai->ai_next)
			answer_add(a, ai);
		freeaddrinfo(list);
		if (a->n == 0)
			a->error = EAI_NONAME;
	}
	return a;
}

/* The two addresses that no host at all stands for. */
static void
answer_hostless(struct answer *a, int family, bool passive, uint16_t port_be)
{
	struct sockaddr_any six = { .len = sizeof(six.in6) }, four = { .len = sizeof(four.in) };

	six.in6.sin6_family = AF_INET6;
	six.in6.sin6_port = port_be;
	six.in6.sin6_addr = passive ? in6addr_any : in6addr_loopback;
	four.in.sin_family = AF_INET;
	four.in.sin_port = port_be;
	four.in.sin_addr.s_addr = htonl(passive ? INADDR_ANY : INADDR_LOOPBACK);
	if (family != AF_INET)
		a->at[a->n++] = six;
	if (family != AF_INET6)
		a->at[a->n++] = four;
}

int
resolve_numeric(const struct addr *addr, int family, bool passive, struct answer **ret)
{
	struct sockaddr_any s;
	struct answer *a;
	int rc;

	rc = addr_literal(addr, &s);
	if (rc < 0)
		return rc;
	a = answer_new(2);
	if (!a)
		return -ENOMEM;
	if (addr->kind != ADDR_UNIX && *addr->host == '\0')
		answer_hostless(a, family, passive, htons(addr_port(&s)));
	else if (addr->kind != ADDR_UNIX && family != AF_UNSPEC && family != s.sa.sa_family)
		a->error = EAI_ADDRFAMILY;
	else
		a->at[a->n++] = s;
	*ret = a;
	return 0;
}

int
resolve_now(const struct addr *addr, int family, bool passive, struct answer **ret)
{
	struct answer *a;
	int rc = resolve_numeric(addr, family, passive, ret);

	if (rc != -EINVAL)
		return rc;
	a = look_up(addr, family, passive);
	if (!a)
		return -ENOMEM;
	*ret = a;
	return 0;
}

static void
job_free(struct job *j)
{
	free(j->answer);
	free(j);
}

/* Unlocks; whoever was last switches off the light. */
static void
resolver_release(struct resolver *r)
{
	bool last = --r->holders == 0;

	pthread_mutex_unlock(&r->lock);
	if (last) {
		pthread_mutex_destroy(&r->lock);
		free(r);
	}
}

static void *
job_run(void *arg)
{
	struct job *j = arg;
	struct resolver *r = j->resolver;

	j->answer = look_up(&j->addr, j->family, j->passive);
	pthread_mutex_lock(&r->lock);
	if (r->closed) {
		job_free(j);
	} else {
		STAILQ_INSERT_TAIL(&r->done, j, home);
		eventfd_write(r->fd, 1);
	}
	resolver_release(r);
	return NULL;
}

/* Signals belong to the main thread, which has them in a signalfd or wants to die of them. */
static int
job_start(struct job *j)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int rc;

	rc = pthread_attr_init(&attr);
	if (rc != 0)
		return -rc;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&thread, &attr, job_run, j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -rc;
}

int
resolver_new(struct resolver **ret)
{
	struct resolver *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->fd < 0) {
		int rc = -errno;

		free(r);
		return rc;
	}
	pthread_mutex_init(&r->lock, NULL);
	TAILQ_INIT(&r->asked);
	STAILQ_INIT(&r->done);
	r->holders = 1;
	*ret = r;
	return 0;
}

static void
job_forget_askers(struct job *j)
{
	while (j->askers) {
		j->askers->asked = NULL;
		j->askers = j->askers->next;
	}
}

void
resolver_free(struct resolver *r)
{
	struct job *j;

	if (!r)
		return;
	while ((j = TAILQ_FIRST(&r->asked))) {
		TAILQ_REMOVE(&r->asked, j, link);
		job_forget_askers(j);
	}
	pthread_mutex_lock(&r->lock);
	while ((j = STAILQ_FIRST(&r->done))) {
		STAILQ_REMOVE_HEAD(&r->done, home);
		job_free(j);
	}
	r->closed = true;
	close(r->fd);
	resolver_release(r);
}

int
resolver_fd(const struct resolver *r)
{
	return r->fd;
}

/* One at a time, for an answer may make its asker cancel another of the same job. */
static void
job_answer(struct job *j)
{
	const struct answer *answer = j->answer ? j->answer : &no_memory;
	struct lookup *l;

	while ((l = j->askers)) {
		j->askers = l->next;
		l->asked = NULL;
		l->answered(l, answer);
	}
}

void
resolver_collect(struct resolver *r)
{
	struct done home = STAILQ_HEAD_INITIALIZER(home);
	eventfd_t count;
	struct job *j;

	(void)eventfd_read(r->fd, &count);
	pthread_mutex_lock(&r->lock);
	STAILQ_CONCAT(&home, &r->done);
	pthread_mutex_unlock(&r->lock);
	while ((j = STAILQ_FIRST(&home))) {
		STAILQ_REMOVE_HEAD(&home, home);
		/* Now, so that who asks again from its answer starts a new lookup. */
		TAILQ_REMOVE(&r->asked, j, link);
		job_answer(j);
		job_free(j);
	}
}

static bool
job_matches(const struct job *j, const struct addr *addr, int family, bool passive)
{
	return j->family == family && j->passive == passive && j->addr.kind == addr->kind &&
	       !strcmp(j->addr.host, addr->host) && !strcmp(j->addr.port, addr->port);
}

static int
job_new(struct resolver *r, const struct addr *addr, int family, bool passive, struct job **ret)
{
	struct job *j = calloc(1, sizeof(*j));
	int rc;

	if (!j)
		return -ENOMEM;
	j->resolver = r;
	j->addr = *addr;
	j->family = family;
	j->passive = passive;
	pthread_mutex_lock(&r->lock);
	r->holders++;
	pthread_mutex_unlock(&r->lock);
	rc = job_start(j);
	if (rc < 0) {
		free(j);
		pthread_mutex_lock(&r->lock);
		resolver_release(r);
		return rc;
	}
	TAILQ_INSERT_TAIL(&r->asked, j, link);
	*ret = j;
	return 0;
}

int
resolver_ask(struct resolver *r, struct lookup *l, const struct addr *addr, int family,
    bool passive, void (*answered)(struct lookup *, const struct answer *))
{
	struct lookup **end;
	struct job *j;
	int rc;

	TAILQ_FOREACH(j, &r->asked, link)
		if (job_matches(j, addr, family, passive))
			break;
	if (!j) {
		rc = job_new(r, addr, family, passive, &j);
		if (rc < 0)
			return rc;
	}
	*l = (struct lookup){ .answered = answered, .asked = j };
	for (end = &j->askers; *end; end = &(*end)->next)
		;
	*end = l;
	return 0;
}

void
resolver_cancel(struct resolver *r, struct lookup *l)
{
	struct job *j = l->asked;
	struct lookup **at;

	(void)r; /* the thread goes on: its answer may serve the next who asks */
	if (!j)
		return;
	for (at = &j->askers; *at && *at != l; at = &(*at)->next)
		;
	if (*at)
		*at = l->next;
	l->asked = NULL;
}
