/* OpenSSL sees only the BIOs of tls/bio, so no call here blocks or is half done: a record is begun
 * only when the writer has room for all of it, which is why a write never has to be repeated with
 * the same bytes. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tls/bio.h"
#include "tls/context.h"
#include "tls/facts.h"
#include "tls/link.h"

enum tls_wait { WAIT_NONE, WAIT_READ, WAIT_WRITE };
enum { RECORD = 16384, REASON_MAX = 2048 };

struct tls_link {
	struct transport t;
	SSL *ssl;
	BIO *rd, *wr;	     /* owned by ssl */
	struct hello *hello; /* until the handshake is over */
	char *why;	     /* why the last call failed */
	int fate;	     /* -errno that every call answers with from now on */
	enum tls_wait shake_waits, read_waits, write_waits; /* set only from SSL_get_error */
	bool owns;
	bool shaken;   /* the handshake is done, its last flight perhaps not sent */
	bool owes;     /* OpenSSL wrote something of its own that is not sent */
	bool said_bye; /* close_notify was written */
	bool sent_fin;
};

static struct tls_link *
link_of(struct transport *t)
{
	return (struct tls_link *)t;
}

static const struct tls_link *
link_seen(const struct transport *t)
{
	return (const struct tls_link *)t;
}

/* Ends the link for good with -errno; why may be NULL: strerror says it. */
static int
doom(struct tls_link *l, int err, const char *why)
{
	free(l->why);
	l->why = why ? strdup(why) : NULL;
	l->fate = err;
	if (err == -ECONNRESET && !l->t.broken)
		l->t.broken = ECONNRESET;
	return err;
}

static enum tls_wait
wait_of(int ssl_error)
{
	if (ssl_error == SSL_ERROR_WANT_READ)
		return WAIT_READ;
	return ssl_error == SSL_ERROR_WANT_WRITE ? WAIT_WRITE : WAIT_NONE;
}

/* Sends what OpenSSL wrote unasked (flights, alerts, key updates): nobody else flushes for it. */
static int
pay(struct tls_link *l)
{
	int r = bio_flush(l->wr);

	l->owes = r == -EAGAIN;
	return r;
}

static void
let_go_of_hello(struct tls_link *l)
{
	hello_begin(l->ssl, NULL, NULL);
	free(l->hello);
	l->hello = NULL;
}

/* Bytes that came along with the end of the handshake raise no event any more. */
static void
note_buffered(struct tls_link *l)
{
	if (bio_buffered(l->rd))
		l->t.ready |= TP_READ;
}

static const char *
peer_of(const struct tls_link *l)
{
	return SSL_is_server(l->ssl) ? "client" : "server";
}

/* The connection failed, not TLS; how: what it came to. */
static int
shake_ended(struct tls_link *l, int err, const char *how)
{
	char why[REASON_MAX];

	facts_ended(why, sizeof(why), l->hello, how);
	return doom(l, err, why);
}

static int
shake_left(struct tls_link *l)
{
	bool silent = !*bio_greeting(l->rd);
	char how[80];

	l->t.ended = true;
	if (silent)
		l->hello->stage = NULL; /* that says it */
	else if (bio_in_record(l->rd))
		return shake_ended(l, -EPROTO, "the handshake was cut in the middle of a record");
	snprintf(how, sizeof(how), "the %s closed the connection %s", peer_of(l),
	    silent ? "without a word" : "in the handshake");
	return shake_ended(l, -EPROTO, how);
}

/* Where OpenSSL has a reason it is the first one: the socket may have failed over the alert. */
static int
shake_failed(struct tls_link *l, unsigned long err)
{
	struct hello *h = l->hello;
	char why[REASON_MAX];
	int fate = -EPROTO;

	/* The alert must get out; if the socket is full there is no use in waiting for it. */
	pay(l);
	hello_end(l->ssl, h, err);
	if (!err && bio_error(l->rd))
		return shake_ended(l, -bio_error(l->rd), strerror(bio_error(l->rd)));
	if (!err && bio_error(l->wr))
		return shake_ended(l, -bio_error(l->wr), strerror(bio_error(l->wr)));
	if (!err && bio_ended(l->rd))
		return shake_left(l);
	facts_failure(why, sizeof(why), h, err, bio_greeting(l->rd));
	if (h->client && h->pin_failed)
		fate = -EKEYREVOKED;
	else if (h->client && h->verdict != X509_V_OK && !h->big_certificate)
		fate = -EKEYREJECTED;
	return doom(l, fate, why);
}

static int
link_handshake(struct transport *t)
{
	struct tls_link *l = link_of(t);
	int r, e, sent;

	if (l->fate)
		return l->fate;
	if (!l->shaken) {
		bio_expect(l->rd, 0);
		ERR_clear_error();
		r = SSL_do_handshake(l->ssl);
		e = SSL_get_error(l->ssl, r);
		l->shake_waits = wait_of(e);
		if (r != 1 && l->shake_waits == WAIT_NONE)
			return shake_failed(l, ERR_peek_error());
		l->shaken = r == 1;
	}
	sent = pay(l);
	if (sent < 0 && sent != -EAGAIN && l->hello) {
		hello_end(l->ssl, l->hello, 0);
		return shake_ended(l, sent, strerror(-sent));
	}
	if (!l->shaken || sent == -EAGAIN)
		return -EAGAIN;
	if (l->hello)
		let_go_of_hello(l);
	note_buffered(l);
	return sent < 0 ? doom(l, sent, NULL) : 0;
}

static ssize_t
end_of_stream(struct tls_link *l)
{
	if (bio_ended(l->rd) && bio_in_record(l->rd))
		return doom(l, -ECONNRESET, "cut in the middle of a record");
	l->t.ended = true;
	l->t.bare_end = bio_ended(l->rd);
	return 0;
}

static int
read_failed(struct tls_link *l, unsigned long err)
{
	char why[REASON_MAX];
	bool refused;

	if (!err && bio_error(l->rd))
		return doom(l, -bio_error(l->rd), NULL);
	if (!err && bio_error(l->wr)) /* an answer of OpenSSL's own */
		return doom(l, -bio_error(l->wr), NULL);
	refused = facts_broken(why, sizeof(why), !SSL_is_server(l->ssl), err);
	return doom(l, refused ? -EACCES : -EPROTO, why);
}

/* Reads until the buffer is full or OpenSSL waits.  Where it was not the socket that stopped us
 * ready is set: what lies in a buffer raises no event. */
static ssize_t
link_read(struct transport *t, void *buf, size_t cap)
{
	struct tls_link *l = link_of(t);
	size_t n = 0, got, pending = bio_pending(l->wr);
	int r = 1, e;
	unsigned long err;

	if (l->fate || t->ended)
		return l->fate;
	if (!l->shaken || !cap)
		return l->shaken ? -EAGAIN : -ENOTCONN;
	for (; r && n < cap; n += r ? got : 0) {
		bio_expect(l->rd, cap - n);
		ERR_clear_error();
		r = SSL_read_ex(l->ssl, (char *)buf + n, cap - n, &got);
	}
	e = SSL_get_error(l->ssl, r);
	err = ERR_peek_error();
	t->in += n;
	l->read_waits = wait_of(e);
	if (l->owes || bio_pending(l->wr) > pending)
		pay(l);
	if (l->read_waits != WAIT_NONE)
		return n ? (ssize_t)n : -EAGAIN;
	if (!r && e != SSL_ERROR_ZERO_RETURN)
		r = read_failed(l, err);
	if (n) {
		t->ready |= TP_READ;
		return (ssize_t)n;
	}
	return e == SSL_ERROR_ZERO_RETURN ? end_of_stream(l) : r;
}

static int
write_failed(struct tls_link *l, int e, unsigned long err)
{
	const char *why = ERR_reason_error_string(err);

	l->write_waits = wait_of(e);
	if (l->write_waits != WAIT_NONE)
		return -EAGAIN;
	if (bio_error(l->wr)) /* what the peer sent before can still be read */
		return -bio_error(l->wr);
	return doom(l, -EPROTO, why ? why : "OpenSSL gives no reason");
}

static ssize_t
link_write(struct transport *t, const void *buf, size_t len)
{
	struct tls_link *l = link_of(t);
	size_t n = 0, put;
	int r = 0;

	if (l->fate)
		return l->fate;
	if (!l->shaken || l->said_bye)
		return -ENOTCONN;
	if (bio_blocked(l->wr) && (r = pay(l)) < 0)
		return r;
	l->write_waits = WAIT_NONE;
	for (; n < len && !bio_blocked(l->wr); n += put) {
		size_t k = len - n < RECORD ? len - n : RECORD;

		ERR_clear_error();
		r = SSL_write_ex(l->ssl, (const char *)buf + n, k, &put);
		if (!r) {
			r = write_failed(l, SSL_get_error(l->ssl, r), ERR_peek_error());
			break;
		}
	}
	t->out += n;
	return n ? (ssize_t)n : r;
}

static int
link_flush(struct transport *t)
{
	struct tls_link *l = link_of(t);

	return l->fate ? l->fate : pay(l);
}

static int
link_finish(struct transport *t)
{
	struct tls_link *l = link_of(t);
	int r;

	if (l->fate)
		return l->fate;
	if (l->shaken && !l->said_bye) {
		ERR_clear_error();
		r = SSL_shutdown(l->ssl);
		if (r < 0)
			return write_failed(l, SSL_get_error(l->ssl, r), ERR_peek_error());
		l->said_bye = true;
	}
	if ((r = pay(l)) < 0 || l->sent_fin)
		return r;
	l->sent_fin = shutdown(t->wfd, SHUT_WR) == 0 || errno == ENOTSOCK;
	if (l->sent_fin || errno != ENOTCONN)
		return l->sent_fin ? 0 : -errno;
	/* The kernel has forgotten a connection that was reset: nobody will say it again.  What
	 * came before can still be read. */
	if (!t->broken)
		t->broken = ECONNRESET;
	return -ECONNRESET;
}

static unsigned
link_want(const struct transport *t, unsigned ops)
{
	const struct tls_link *l = link_seen(t);
	unsigned want = ops && l->owes ? TP_WRITE : 0;

	if (!l->shaken)
		return want | (l->shake_waits == WAIT_WRITE ? TP_WRITE : TP_READ);
	if (l->hello) /* only the last flight is to go */
		return TP_WRITE;
	if (ops & TP_READ && !t->ended)
		want |= l->read_waits == WAIT_WRITE ? TP_WRITE : TP_READ;
	if (ops & TP_WRITE)
		want |= l->write_waits == WAIT_READ ? TP_READ : TP_WRITE;
	return want;
}

/* What lies in an AF_UNIX socket has reached the peer's kernel: it is the same one. */
static int64_t
link_unsent(const struct transport *t)
{
	int64_t pending = (int64_t)bio_pending(link_seen(t)->wr);
	int queued = 0, domain = AF_UNSPEC;
	socklen_t len = sizeof(domain);

	if (ioctl(t->wfd, SIOCOUTQ, &queued) == -1 || !queued)
		return pending;
	if (getsockopt(t->wfd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == -1 || domain == AF_UNIX)
		return pending;
	return pending + queued;
}

static size_t
link_held(const struct transport *t, unsigned op)
{
	return bio_kept(op == TP_READ ? link_seen(t)->rd : link_seen(t)->wr);
}

static void
link_facts(const struct transport *t, struct env *env)
{
	if (link_seen(t)->shaken)
		facts_env(link_seen(t)->ssl, env);
}

/* Of a handshake that is under way: how far it has come, until somebody asks again. */
static const char *
link_reason(const struct transport *t)
{
	const struct tls_link *l = link_seen(t);
	static char why[REASON_MAX];

	if (l->why || l->fate || !l->hello)
		return l->why;
	hello_end(l->ssl, l->hello, 0);
	facts_pending(why, sizeof(why), l->hello, bio_greeting(l->rd));
	return why;
}

static void
link_free(struct tls_link *l)
{
	SSL_free(l->ssl);
	free(l->hello);
	free(l->why);
	free(l);
}

/* Armed, a close is a reset, also the one that the kernel does for a process that was killed: a
 * bare FIN is an empty answer to some clients. */
static void
arm(int fd, bool on)
{
	struct linger reset = { .l_onoff = on, .l_linger = 0 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
}

/* A bare reset is an empty success to some clients, as a bare FIN is (Python 3.11), so a fatal
 * alert goes before it, if it can go now.  OpenSSL has no call for one: a ticket that cannot be
 * made (tls/context refuses it when there is no hello any more) ends a server's TLS 1.3 with
 * internal_error; the others send a record that their keys have not made. */
static void
say_failed(struct tls_link *l)
{
	static const unsigned char record[] = { SSL3_RT_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL,
		SSL_AD_INTERNAL_ERROR };
	int now = 1;

	if (!l->shaken || l->said_bye || l->fate || l->t.broken || bio_blocked(l->wr))
		return;
	ERR_clear_error();
	if (SSL_version(l->ssl) < TLS1_3_VERSION || !SSL_is_server(l->ssl))
		BIO_write(l->wr, record, sizeof(record));
	else if (SSL_new_session_ticket(l->ssl))
		SSL_do_handshake(l->ssl);
	setsockopt(l->t.wfd, IPPROTO_TCP, TCP_NODELAY, &now, sizeof(now));
	pay(l);
}

/* SSL_free sends nothing, and the writer forgets what it has not sent. */
static void
link_close(struct transport *t, bool cut)
{
	struct tls_link *l = link_of(t);

	if (cut)
		say_failed(l);
	arm(t->wfd, cut);
	if (l->owns) {
		close(t->rfd);
		if (t->wfd != t->rfd)
			close(t->wfd);
	}
	link_free(l);
}

static const struct transport_ops link_ops = {
	.name = "tls",
	.handshake = link_handshake,
	.read = link_read,
	.write = link_write,
	.flush = link_flush,
	.finish = link_finish,
	.want = link_want,
	.unsent = link_unsent,
	.held = link_held,
	.facts = link_facts,
	.reason = link_reason,
	.close = link_close,
};

int
tls_link_new(struct transport **ret, struct tls_context *context, int rfd, int wfd, bool owns)
{
	struct tls_link *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->t = (struct transport){ .ops = &link_ops, .rfd = rfd, .wfd = wfd };
	l->t.ready = TP_READ | TP_WRITE; /* nothing has said otherwise yet */
	l->owns = owns;
	l->ssl = tls_context_ssl(context);
	l->hello = malloc(sizeof(*l->hello));
	l->rd = bio_reader(&l->t);
	l->wr = bio_writer(&l->t);
	if (!l->ssl || !l->hello || !l->rd || !l->wr) {
		BIO_free(l->rd);
		BIO_free(l->wr);
		link_free(l);
		return -ENOMEM;
	}
	SSL_set_bio(l->ssl, l->rd, l->wr);
	hello_begin(l->ssl, tls_context_policy(context), l->hello);
	if (l->hello->client) /* it speaks first */
		l->shake_waits = WAIT_WRITE;
	arm(wfd, true);
	*ret = &l->t;
	return 0;
}
