/* tls_peer - for the unit tests of tls/: a link and bare OpenSSL in this process at the two ends of
 * a connection, both non-blocking, driven by turns.  The link is the server, or, by its context, the
 * client.  Nothing waits longer than 5 s for an event. */
#ifndef TLS_PEER_H
#define TLS_PEER_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/transport.h"
#include "check.h"
#include "tls/bio.h"
#include "tls/context.h"
#include "tls/link.h"
#include "tls/material.h"

#define PEER_WAIT 5000

struct pair {
	struct transport *t; /* the server; ours */
	SSL *c;		     /* the client; OpenSSL */
	int cfd;
	int served; /* what our handshake came to */
};

/* Where the certificates of this run are. */
static inline const char *
certs(const char *file)
{
	static char dir[] = "/tmp/ccf-unit.XXXXXX", path[4][256];
	static const char *where;
	static unsigned turn;
	char command[300];
	char *to = path[turn++ % 4];

	if (!where && !(where = getenv("CCF_CERTS"))) {
		where = mkdtemp(dir);
		snprintf(command, sizeof(command), "sh tests/certs.sh %s", dir);
		if (!where || system(command) != 0)
			where = "/nonexistent";
	}
	snprintf(to, sizeof(path[0]), "%s/%s", where, file);
	return to;
}

static inline void
certs_done(void)
{
	char command[300];
	const char *dir = certs("");

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	if (!getenv("CCF_CERTS") && !strncmp(dir, "/tmp/ccf-unit.", 14) && system(command) != 0)
		printf("# could not remove %s\n", dir);
}

static inline struct tls_context *
peer_context(const struct tls_policy *policy, const struct tls_files *files,
    const struct tls_server_check *check)
{
	struct tls_context *c = NULL;
	struct material *m = NULL;
	char msg[256] = "";

	if (material_read(&m, files, msg, sizeof(msg)) < 0 ||
	    (policy->tickets && material_rotate(m, NULL) < 0) ||
	    tls_context_new(&c, policy, m, check, msg, sizeof(msg)) < 0) {
		printf("Bail out! no context: %s\n", msg);
		exit(1);
	}
	material_free(m);
	return c;
}

/* A server with the certificate of this run; ca: who judges clients, or NULL. */
static inline struct tls_context *
peer_server(struct tls_policy policy, const char *ca)
{
	const char *cert = certs("chain.pem"), *key = certs("key.pem");
	const struct tls_files files = { &cert, 1, &key, 1, ca, false, NULL };

	return peer_context(&policy, &files, NULL);
}

static inline struct tls_context *
server_context(const char *const *alpn, size_t n)
{
	return peer_server(
	    (struct tls_policy){ .max_version = TLS_V13, .alpn = alpn, .n_alpn = n }, NULL);
}

static inline SSL_CTX *
client_context(int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_load_verify_locations(ctx, certs("ca.pem"), NULL);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	return ctx;
}

/* A connected pair over loopback: [0] is the server's.  sndbuf 0: the default. */
static inline void
tcp_pair(int fd[2], int sndbuf)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fd[0] = fd[1] = -1;
	if (bind(l, (struct sockaddr *)&a, len) == 0 && listen(l, 1) == 0 &&
	    getsockname(l, (struct sockaddr *)&a, &len) == 0) {
		fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (sndbuf) {
			setsockopt(l, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
			setsockopt(fd[1], SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof(sndbuf));
		}
		if (connect(fd[1], (struct sockaddr *)&a, len) == 0)
			fd[0] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		fcntl(fd[1], F_SETFL, O_NONBLOCK);
	}
	close(l);
	CHECK(fd[0] >= 0);
}

static inline void
unix_pair(int fd[2])
{
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
	fcntl(fd[1], F_SETFL, O_NONBLOCK);
}

static inline void
pair_over(struct pair *p, struct tls_context *ours, SSL_CTX *peer, int fd[2])
{
	*p = (struct pair){ .cfd = fd[1], .served = -EAGAIN };
	CHECK_INT(tls_link_new(&p->t, ours, fd[0], fd[0], true), 0);
	if (!peer)
		return;
	p->c = SSL_new(peer);
	SSL_set_fd(p->c, fd[1]);
	if (tls_context_is_client(ours)) {
		SSL_set_accept_state(p->c);
		return;
	}
	SSL_set_connect_state(p->c);
	SSL_set_tlsext_host_name(p->c, "localhost");
}

static inline void
pair_tcp(struct pair *p, struct tls_context *ours, SSL_CTX *peer, int sndbuf)
{
	int fd[2];

	tcp_pair(fd, sndbuf);
	pair_over(p, ours, peer, fd);
}

/* Waits for what the server wants or the client can do; the poller's part of the contract. */
static inline bool
pair_wait(struct pair *p, unsigned ops)
{
	unsigned want = p->t ? p->t->ops->want(p->t, ops) : 0;
	short client = (short)(POLLIN | (p->c && SSL_want_write(p->c) ? POLLOUT : 0));
	struct pollfd pfd[] = {
		{ p->t ? p->t->rfd : -1,
		    (short)((want & TP_READ ? POLLIN : 0) | (want & TP_WRITE ? POLLOUT : 0)), 0 },
		{ p->cfd, client, 0 },
	};

	if (poll(pfd, 2, PEER_WAIT) <= 0) {
		printf("# nothing happened (server wants %u)\n", want);
		check_failed++;
		return false;
	}
	if (pfd[0].revents & ~POLLOUT)
		p->t->ready |= TP_READ;
	if (pfd[0].revents & ~POLLIN)
		p->t->ready |= TP_WRITE;
	return true;
}

/* Waits until the server can read. */
static inline bool
server_readable(struct pair *p)
{
	struct pollfd pfd = { p->t->rfd, POLLIN, 0 };

	if (poll(&pfd, 1, PEER_WAIT) <= 0)
		return false;
	p->t->ready |= TP_READ;
	return true;
}

/* Both handshakes to their ends.  True: both succeeded. */
static inline bool
pair_shake(struct pair *p)
{
	int r = 0, e = SSL_ERROR_WANT_READ;

	for (;;) {
		if (p->c && r != 1 && (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE)) {
			ERR_clear_error();
			r = SSL_do_handshake(p->c);
			e = SSL_get_error(p->c, r);
		}
		if (p->served == -EAGAIN)
			p->served = p->t->ops->handshake(p->t);
		if (p->served == 0 && r == 1)
			return true;
		if ((p->served && p->served != -EAGAIN) ||
		    (r != 1 && e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE &&
			p->served != -EAGAIN))
			return false;
		if (!pair_wait(p, TP_READ))
			return false;
	}
}

static inline void
pair_end(struct pair *p)
{
	SSL_free(p->c);
	if (p->t)
		p->t->ops->close(p->t, false);
	if (p->cfd >= 0)
		close(p->cfd);
	*p = (struct pair){ .cfd = -1 };
}

/* Reads what the server gets until it ends, fails or has n bytes.  The last return value. */
static inline ssize_t
server_reads(struct pair *p, void *buf, size_t n, size_t *ret_got)
{
	ssize_t r = 1;

	*ret_got = 0;
	while (*ret_got < n) {
		r = p->t->ops->read(p->t, (char *)buf + *ret_got, n - *ret_got);
		if (r > 0)
			*ret_got += (size_t)r;
		else if (r != -EAGAIN || !server_readable(p))
			break;
	}
	return r;
}

/* The same for the client; SSL_get_error of the last call. */
static inline int
client_reads(struct pair *p, void *buf, size_t n, size_t *ret_got)
{
	size_t got;
	int e = SSL_ERROR_NONE;

	*ret_got = 0;
	while (*ret_got < n) {
		ERR_clear_error();
		if (SSL_read_ex(p->c, (char *)buf + *ret_got, n - *ret_got, &got)) {
			*ret_got += got;
			continue;
		}
		e = SSL_get_error(p->c, 0);
		if (e != SSL_ERROR_WANT_READ || !pair_wait(p, 0))
			break;
	}
	return e;
}

static inline bool
server_says(struct pair *p, const void *buf, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = p->t->ops->write(p->t, (const char *)buf + done, n - done);

		if (r > 0)
			done += (size_t)r;
		else if (r != -EAGAIN)
			return false;
		if (r <= 0 && !pair_wait(p, TP_WRITE))
			return false;
	}
	return p->t->ops->flush(p->t) == 0;
}

static inline void
fill_pattern(unsigned char *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)((seed += 0x9e37u) >> 7 ^ i);
}

#endif
