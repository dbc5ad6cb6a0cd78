#include <netinet/tcp.h>
#include <openssl/pem.h>

#include "base/env.h"
#include "tls/cert.h"
#include "tls_made.h"
#include "tls_peer.h"

#define MIB (1024 * 1024)

static unsigned char sent[2][2 * MIB], got[2][2 * MIB];

static struct tls_context *server;
static SSL_CTX *client_12, *client_13;

static bool
open_pair(struct pair *p, SSL_CTX *client)
{
	pair_tcp(p, server, client, 0);
	return pair_shake(p);
}

/* What SSL_write makes of buf, as bytes for the test to send as it likes. */
static size_t
client_encrypts(struct pair *p, const void *buf, size_t n, unsigned char *ret, size_t cap)
{
	BIO *mem = BIO_new(BIO_s_mem());
	size_t put = 0;
	int len;

	SSL_set0_wbio(p->c, mem);
	CHECK(SSL_write_ex(p->c, buf, n, &put) && put == n);
	len = BIO_read(mem, ret, (int)cap);
	SSL_set0_wbio(p->c, BIO_new_socket(p->cfd, BIO_NOCLOSE));
	return len > 0 ? (size_t)len : 0;
}

static void
client_resets(struct pair *p)
{
	struct linger now = { 1, 0 };

	setsockopt(p->cfd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	SSL_free(p->c);
	p->c = NULL;
	close(p->cfd);
	p->cfd = -1;
}

static void
reason_has(int line, const struct pair *p, const char *words)
{
	const char *why = p->t->ops->reason(p->t);

	if (!why || !strstr(why, words) || strchr(why, '\n')) {
		printf("# line %d: reason is \"%s\", not \"...%s...\"\n", line,
		    why ? why : "(null)", words);
		check_failed++;
	}
}
#define REASON_HAS(p, words) reason_has(__LINE__, p, words)

static const char *
fact(const struct pair *p, const char *name)
{
	static char value[8192];
	struct env env = { 0 };
	const char *v;

	p->t->ops->facts(p->t, &env);
	v = env_get(&env, name);
	snprintf(value, sizeof(value), "%s", v ? v : "");
	env_free(&env);
	return v ? value : NULL;
}

/* A mebibyte each way at once, through small socket buffers; ends with both sides' ends. */
static void
both_ways(SSL_CTX *client)
{
	size_t sput = 0, sgot = 0, cput = 0, cgot = 0, n;
	struct pair p;
	bool going = true;

	fill_pattern(sent[0], MIB, 1);
	fill_pattern(sent[1], MIB, 2);
	pair_tcp(&p, server, client, 4096);
	CHECK(pair_shake(&p));
	while (going && (sgot < MIB || cgot < MIB)) {
		ssize_t r;
		int flushed;

		while (sput < MIB && (r = p.t->ops->write(p.t, sent[0] + sput, MIB - sput)) > 0)
			sput += (size_t)r;
		flushed = p.t->ops->flush(p.t);
		CHECK(flushed == 0 || flushed == -EAGAIN);
		while (sgot < MIB && (r = p.t->ops->read(p.t, got[0] + sgot, MIB - sgot)) > 0)
			sgot += (size_t)r;
		ERR_clear_error();
		while (cput < MIB && SSL_write_ex(p.c, sent[1] + cput, MIB - cput, &n))
			cput += n;
		ERR_clear_error();
		while (cgot < MIB && SSL_read_ex(p.c, got[1] + cgot, MIB - cgot, &n))
			cgot += n;
		if (sgot < MIB || cgot < MIB)
			going = pair_wait(&p, TP_READ | (sput < MIB || flushed ? TP_WRITE : 0));
	}
	CHECK_INT(sgot, MIB);
	CHECK_INT(cgot, MIB);
	CHECK(!memcmp(sent[1], got[0], MIB));
	CHECK(!memcmp(sent[0], got[1], MIB));
	CHECK_INT(p.t->in, MIB);
	CHECK_INT(p.t->out, MIB);
	CHECK_INT(p.t->ops->read(p.t, got, 1), -EAGAIN);
	CHECK_INT(bio_held(), 0);
	CHECK_INT(p.t->broken, 0);
	pair_end(&p);
}

CASE(a_mebibyte_goes_both_ways_at_once_in_tls_13)
{
	both_ways(client_13);
}

CASE(a_mebibyte_goes_both_ways_at_once_in_tls_12)
{
	both_ways(client_12);
}

CASE(several_records_come_in_one_read)
{
	struct pair p;
	size_t n = 0;

	CHECK(open_pair(&p, client_13));
	for (int i = 0; i < 5; i++)
		CHECK_INT(SSL_write(p.c, sent[0] + i * 1000, 1000), 1000);
	CHECK(server_readable(&p));
	while (n < 5000 && server_readable(&p)) {
		ssize_t r = p.t->ops->read(p.t, got[0] + n, 8000);

		if (r <= 0)
			break;
		n += (size_t)r;
		CHECK(n % 1000 == 0);
	}
	CHECK_INT(n, 5000);
	CHECK(!memcmp(sent[0], got[0], n));
	pair_end(&p);
}

CASE(bytes_that_stayed_behind_are_told_by_the_ready_bit)
{
	struct pair p;

	CHECK(open_pair(&p, client_13));
	CHECK_INT(SSL_write(p.c, sent[0], 3000), 3000);
	CHECK(server_readable(&p));
	for (int i = 0; i < 3; i++) {
		CHECK(p.t->ready & TP_READ);
		CHECK_INT(p.t->ops->read(p.t, got[0] + i * 1000, 1000), 1000);
	}
	CHECK_INT(p.t->ops->read(p.t, got[0], 1), -EAGAIN);
	CHECK(!(p.t->ready & TP_READ));
	pair_end(&p);
}

/* In TLS 1.3 the client may speak in the same segment that ends its handshake. */
CASE(bytes_that_came_with_the_handshake_are_read_without_an_event)
{
	BIO *out = BIO_new(BIO_s_mem()), *in = BIO_new(BIO_s_mem());
	struct pair p;
	char buf[32 * 1024];
	int fd[2], r;

	unix_pair(fd);
	pair_over(&p, server, client_13, fd);
	SSL_set_bio(p.c, in, out);
	for (r = 0; r != 1;) {
		r = SSL_do_handshake(p.c);
		if (r == 1)
			CHECK_INT(SSL_write(p.c, "early bird", 10), 10);
		r = r == 1;
		while (BIO_pending(out) > 0) {
			int n = BIO_read(out, buf, sizeof(buf));

			CHECK_INT(write(p.cfd, buf, (size_t)n), n);
		}
		p.t->ready = TP_READ | TP_WRITE;
		p.served = p.t->ops->handshake(p.t);
		CHECK(p.served == 0 || p.served == -EAGAIN);
		if (!r) {
			ssize_t n = read(p.cfd, buf, sizeof(buf));

			CHECK(n > 0 && BIO_write(in, buf, (int)n) == n);
			if (n <= 0)
				break;
		}
	}
	CHECK_INT(p.served, 0);
	CHECK(p.t->ready & TP_READ);
	CHECK_INT(p.t->ops->read(p.t, buf, sizeof(buf)), 10);
	CHECK(!memcmp(buf, "early bird", 10));
	pair_end(&p);
}

CASE(a_clear_ready_bit_answers_without_looking)
{
	struct pair p;

	CHECK(open_pair(&p, client_13));
	CHECK_INT(p.t->ops->read(p.t, got, 100), -EAGAIN);
	CHECK_INT(SSL_write(p.c, "x", 1), 1);
	CHECK(server_readable(&p));
	p.t->ready = 0;
	CHECK_INT(p.t->ops->read(p.t, got, 100), -EAGAIN);
	CHECK_INT(p.t->ops->want(p.t, TP_READ), TP_READ);
	p.t->ready = TP_READ;
	CHECK_INT(p.t->ops->read(p.t, got, 100), 1);
	CHECK_INT(p.t->ops->write(p.t, "y", 1), 1);
	CHECK_INT(p.t->ops->flush(p.t), -EAGAIN);
	CHECK_INT(p.t->ops->want(p.t, TP_WRITE), TP_WRITE);
	p.t->ready = TP_WRITE;
	CHECK_INT(p.t->ops->flush(p.t), 0);
	pair_end(&p);
}

CASE(the_clients_close_notify_ends_its_direction_only)
{
	SSL_CTX *const clients[] = { client_12, client_13 };
	struct pair p;
	size_t n;

	for (int i = 0; i < 2; i++) {
		CHECK(open_pair(&p, clients[i]));
		CHECK_INT(SSL_write(p.c, "request", 7), 7);
		CHECK_INT(SSL_shutdown(p.c), 0);
		CHECK_INT(server_reads(&p, got[0], 100, &n), 0);
		CHECK_INT(n, 7);
		CHECK(p.t->ended);
		CHECK(!p.t->bare_end);
		CHECK_INT(p.t->ops->read(p.t, got[0], 100), 0);
		CHECK(server_says(&p, sent[0], 100000));
		CHECK_INT(p.t->ops->finish(p.t), 0);
		CHECK_INT(client_reads(&p, got[1], sizeof(got[1]), &n), SSL_ERROR_ZERO_RETURN);
		CHECK_INT(n, 100000);
		CHECK(!memcmp(sent[0], got[1], n));
		CHECK_INT(p.t->broken, 0);
		pair_end(&p);
	}
}

CASE(our_close_notify_ends_our_direction_only)
{
	SSL_CTX *const clients[] = { client_12, client_13 };
	struct pair p;
	char byte;
	size_t n;

	for (int i = 0; i < 2; i++) {
		CHECK(open_pair(&p, clients[i]));
		CHECK_INT(p.t->ops->write(p.t, "bye", 3), 3);
		CHECK_INT(p.t->ops->finish(p.t), 0);
		CHECK_INT(p.t->ops->finish(p.t), 0);
		CHECK(p.t->ops->write(p.t, "more", 4) < 0);
		CHECK_INT(client_reads(&p, got[1], 100, &n), SSL_ERROR_ZERO_RETURN);
		CHECK_INT(n, 3);
		CHECK(
		    recv(p.cfd, &byte, 1, 0) == 0); /* the end of stream follows the close_notify */
		CHECK_INT(SSL_write(p.c, sent[0], 16000), 16000);
		CHECK_INT(server_reads(&p, got[0], 16000, &n), 16000);
		CHECK(!memcmp(sent[0], got[0], n));
		CHECK_INT(SSL_shutdown(p.c), 1);
		CHECK_INT(server_reads(&p, got[0], 1, &n), 0);
		CHECK(p.t->ended && !p.t->bare_end);
		pair_end(&p);
	}
}

CASE(a_bare_fin_ends_the_direction_and_is_told)
{
	struct pair p;
	size_t n;

	CHECK(open_pair(&p, client_13));
	CHECK_INT(SSL_write(p.c, "request", 7), 7);
	shutdown(p.cfd, SHUT_WR);
	CHECK_INT(server_reads(&p, got[0], 100, &n), 0);
	CHECK_INT(n, 7);
	CHECK(p.t->ended);
	CHECK(p.t->bare_end);
	CHECK_INT(p.t->broken, 0);
	CHECK(server_says(&p, sent[0], 50000));
	CHECK_INT(p.t->ops->finish(p.t), 0);
	CHECK_INT(client_reads(&p, got[1], sizeof(got[1]), &n), SSL_ERROR_ZERO_RETURN);
	CHECK_INT(n, 50000);
	pair_end(&p);
}

CASE(an_end_inside_a_record_is_a_cut)
{
	static const size_t cuts[] = { 1, 4, 5, 6, 500 };
	SSL_CTX *const clients[] = { client_12, client_13 };
	unsigned char record[2048];
	struct pair p;
	size_t n, len;

	for (size_t i = 0; i < 2 * sizeof(cuts) / sizeof(*cuts); i++) {
		CHECK(open_pair(&p, clients[i % 2]));
		CHECK_INT(SSL_write(p.c, "whole", 5), 5);
		len = client_encrypts(&p, sent[0], 1000, record, sizeof(record));
		CHECK(len > 1000);
		CHECK_INT(send(p.cfd, record, cuts[i / 2], 0), cuts[i / 2]);
		shutdown(p.cfd, SHUT_WR);
		CHECK_INT(server_reads(&p, got[0], 100, &n), -ECONNRESET);
		CHECK_INT(n, 5);
		CHECK(!p.t->ended);
		CHECK_INT(p.t->broken, ECONNRESET);
		REASON_HAS(&p, "cut in the middle of a record");
		CHECK_INT(p.t->ops->read(p.t, got[0], 100), -ECONNRESET);
		pair_end(&p);
	}
}

CASE(a_reset_is_a_cut_for_reading_and_for_writing)
{
	struct pair p;
	size_t n;

	CHECK(open_pair(&p, client_13));
	client_resets(&p);
	CHECK_INT(server_reads(&p, got[0], 100, &n), -ECONNRESET);
	CHECK_INT(p.t->broken, ECONNRESET);
	CHECK(p.t->ops->write(p.t, "x", 1) < 0);
	pair_end(&p);

	CHECK(open_pair(&p, client_13));
	client_resets(&p);
	CHECK(server_readable(&p));
	CHECK_INT(p.t->ops->write(p.t, "x", 1), 1);
	CHECK_INT(p.t->ops->flush(p.t), -ECONNRESET);
	CHECK_INT(p.t->broken, ECONNRESET);
	CHECK_INT(p.t->ops->finish(p.t), -ECONNRESET);
	pair_end(&p);

	CHECK(open_pair(&p, client_13));
	client_resets(&p);
	CHECK(server_readable(&p));
	CHECK(p.t->ops->finish(p.t) < 0);
	CHECK_INT(p.t->broken, ECONNRESET);
	pair_end(&p);
}

CASE(a_damaged_record_is_a_protocol_error_and_the_client_is_told)
{
	unsigned char record[2048];
	struct pair p;
	size_t n, len;

	CHECK(open_pair(&p, client_13));
	CHECK_INT(SSL_write(p.c, "whole", 5), 5);
	len = client_encrypts(&p, sent[0], 1000, record, sizeof(record));
	record[len - 1] ^= 1;
	CHECK_INT(send(p.cfd, record, len, 0), len);
	CHECK_INT(server_reads(&p, got[0], 100, &n), -EPROTO);
	CHECK_INT(n, 5);
	REASON_HAS(&p, "bad record mac");
	CHECK_INT(p.t->ops->read(p.t, got[0], 100), -EPROTO);
	CHECK_INT(p.t->ops->write(p.t, "x", 1), -EPROTO);
	CHECK_INT(client_reads(&p, got[1], 10, &n), SSL_ERROR_SSL);
	CHECK_INT(ERR_GET_REASON(ERR_peek_error()), SSL_R_SSLV3_ALERT_BAD_RECORD_MAC);
	pair_end(&p);
}

CASE(a_cut_sends_no_close_notify_but_a_fatal_alert_and_a_reset)
{
	struct pair p;
	size_t n;

	CHECK(open_pair(&p, client_13));
	p.t->ops->close(p.t, true);
	p.t = NULL;
	CHECK_INT(client_reads(&p, got[1], 10, &n), SSL_ERROR_SSL);
	CHECK_INT(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_INTERNAL_ERROR);
	CHECK_INT(recv(p.cfd, got[1], 1, 0), -1);
	CHECK_INT(errno, ECONNRESET);
	pair_end(&p);
	/* TLS 1.2 has no way to make OpenSSL say it: any record that its keys have not made; what a
	 * client calls that is its own affair */
	CHECK(open_pair(&p, client_12));
	p.t->ops->close(p.t, true);
	p.t = NULL;
	CHECK_INT(client_reads(&p, got[1], 10, &n), SSL_ERROR_SSL);
	pair_end(&p);
	/* nor does a close without finish: bytes that were not flushed stay unsent */
	CHECK(open_pair(&p, client_13));
	CHECK_INT(p.t->ops->write(p.t, "x", 1), 1);
	p.t->ops->close(p.t, false);
	p.t = NULL;
	CHECK_INT(client_reads(&p, got[1], 10, &n), SSL_ERROR_SSL);
	CHECK_INT(ERR_GET_REASON(ERR_peek_error()), SSL_R_UNEXPECTED_EOF_WHILE_READING);
	CHECK_INT(n, 0);
	pair_end(&p);
}

CASE(descriptors_that_are_not_owned_stay_open)
{
	struct transport *t;
	int fd[2];

	unix_pair(fd);
	CHECK_INT(tls_link_new(&t, server, fd[0], fd[0], false), 0);
	t->ops->close(t, false);
	CHECK(fcntl(fd[0], F_GETFD) >= 0);
	close(fd[0]);
	close(fd[1]);
}

CASE(unsent_is_what_the_peer_has_not_acknowledged)
{
	struct pair p;
	int64_t before;
	ssize_t r;
	size_t n;

	pair_tcp(&p, server, client_13, 4096);
	CHECK(pair_shake(&p));
	CHECK_INT(p.t->ops->write(p.t, "x", 1), 1);
	CHECK(p.t->ops->unsent(p.t) > 1);
	while ((r = p.t->ops->write(p.t, sent[0], sizeof(sent[0]))) > 0)
		continue;
	CHECK_INT(r, -EAGAIN);
	before = p.t->ops->unsent(p.t);
	CHECK(before > (int64_t)bio_held());
	CHECK(bio_held() > 0);
	while ((r = p.t->ops->flush(p.t)) == -EAGAIN && pair_wait(&p, TP_WRITE))
		while (SSL_read_ex(p.c, got[1], sizeof(got[1]), &n))
			continue;
	CHECK_INT(r, 0);
	/* nothing tells of the last acknowledgement; it may be 40 ms late */
	for (int i = 0; i < PEER_WAIT && p.t->ops->unsent(p.t) > 0; i++)
		poll(NULL, 0, 1);
	CHECK_INT(p.t->ops->unsent(p.t), 0);
	CHECK_INT(bio_held(), 0);
	pair_end(&p);
}

CASE(many_connections_share_the_buffers_and_none_is_mixed_up)
{
	enum { N = 20, EACH = 60000, STEP = 7000 };
	static unsigned char in[N][EACH];
	struct pair p[N];
	size_t put[N] = { 0 }, have[N] = { 0 }, back[N] = { 0 };
	bool going = true;

	for (int i = 0; i < N; i++) {
		pair_tcp(&p[i], server, i % 2 ? client_13 : client_12, 4096);
		CHECK(pair_shake(&p[i]));
		/* each says something that its server leaves lying half read */
		fill_pattern(got[0], 300, (unsigned)i);
		CHECK_INT(SSL_write(p[i].c, got[0], 300), 300);
		CHECK(server_readable(&p[i]));
		CHECK_INT(p[i].t->ops->read(p[i].t, in[i], 10), 10);
	}
	fill_pattern(sent[0], sizeof(sent[0]), 3);
	while (going) {
		going = false;
		for (int i = 0; i < N; i++) {
			size_t k = EACH - put[i] < STEP ? EACH - put[i] : STEP;
			ssize_t r =
			    k ? p[i].t->ops->write(p[i].t, sent[0] + i * 1000 + put[i], k) : 0;

			CHECK(r >= 0 || r == -EAGAIN);
			put[i] += r > 0 ? (size_t)r : 0;
		}
		for (int i = 0; i < N; i++) {
			size_t n;

			p[i].t->ready |= TP_WRITE;
			p[i].t->ops->flush(p[i].t);
			ERR_clear_error();
			while (have[i] < EACH &&
			       SSL_read_ex(p[i].c, in[i] + have[i], EACH - have[i], &n))
				have[i] += n;
			going |= have[i] < EACH;
		}
	}
	for (int i = 0; i < N; i++) {
		CHECK(!memcmp(in[i], sent[0] + i * 1000, EACH));
		CHECK_INT(server_reads(&p[i], in[i], 290, &back[i]), 290);
		fill_pattern(got[0], 300, (unsigned)i);
		CHECK(!memcmp(in[i], got[0] + 10, 290));
	}
	CHECK_INT(bio_held(), 0);
	for (int i = 0; i < N; i++)
		pair_end(&p[i]);
}

CASE(a_key_update_is_answered_though_nobody_writes)
{
	struct pair p;
	size_t n;

	CHECK(open_pair(&p, client_13));
	CHECK_INT(SSL_key_update(p.c, SSL_KEY_UPDATE_REQUESTED), 1);
	CHECK_INT(SSL_write(p.c, "after", 5), 5);
	CHECK_INT(server_reads(&p, got[0], 5, &n), 5);
	CHECK_INT(p.t->ops->unsent(p.t), 0);
	CHECK(server_says(&p, "new key", 7));
	client_reads(&p, got[1], 7, &n);
	CHECK(n == 7 && !memcmp(got[1], "new key", 7));
	pair_end(&p);
}

CASE(the_client_sees_a_chain_of_two_and_verifies_it)
{
	struct pair p;

	CHECK(open_pair(&p, client_13));
	CHECK_INT(sk_X509_num(SSL_get_peer_cert_chain(p.c)), 2);
	CHECK_INT(SSL_get_verify_result(p.c), X509_V_OK);
	pair_end(&p);
}

CASE(alpn_is_agreed_or_left_out_but_never_a_reason_to_fail)
{
	static const struct {
		const char *offer, *agreed;
	} tries[] = {
		{ "\x02h2\x08http/1.1", "http/1.1" },
		{ "\x03xyz\x06"
		  "custom",
		    "custom" },
		{ "\x02h2", NULL },
		{ NULL, NULL },
	};
	const char *const ours[] = { "http/1.1", "custom" };
	struct tls_context *with = server_context(ours, 2);
	const unsigned char *name;
	unsigned n;
	struct pair p;

	for (size_t i = 0; i < 4; i++) {
		pair_tcp(&p, with, client_13, 0);
		if (tries[i].offer)
			SSL_set_alpn_protos(p.c, (const unsigned char *)tries[i].offer,
			    (unsigned)strlen(tries[i].offer));
		CHECK(pair_shake(&p));
		SSL_get0_alpn_selected(p.c, &name, &n);
		CHECK_INT(n, tries[i].agreed ? strlen(tries[i].agreed) : 0);
		if (tries[i].agreed)
			CHECK_STR(fact(&p, "CCF_ALPN"), tries[i].agreed);
		else
			CHECK(!fact(&p, "CCF_ALPN"));
		pair_end(&p);
	}
	tls_context_free(with);
	/* a server without any */
	pair_tcp(&p, server, client_13, 0);
	SSL_set_alpn_protos(p.c, (const unsigned char *)"\x02h2", 3);
	CHECK(pair_shake(&p));
	CHECK(!fact(&p, "CCF_ALPN"));
	pair_end(&p);
}

static int sessions;

static int
count_session(SSL *ssl, SSL_SESSION *s)
{
	(void)ssl;
	(void)s;
	sessions++;
	return 0;
}

CASE(nothing_can_be_resumed)
{
	SSL_CTX *const clients[] = { client_12, client_13 };
	struct pair p;
	size_t n;

	for (int i = 0; i < 2; i++) {
		SSL_SESSION *s;

		SSL_CTX_set_session_cache_mode(
		    clients[i], SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(clients[i], count_session);
		sessions = 0;
		CHECK(open_pair(&p, clients[i]));
		CHECK(server_says(&p, "x", 1));
		client_reads(&p, got[0], 1, &n);
		s = SSL_get1_session(p.c);
		SSL_SESSION_get_id(s, &(unsigned){ 0 });
		CHECK(!SSL_SESSION_has_ticket(s));
		CHECK(!SSL_SESSION_is_resumable(s));
		CHECK_INT(SSL_SESSION_get_max_early_data(s), 0);
		if (i == 1)
			CHECK_INT(sessions, 0);
		pair_end(&p);

		pair_tcp(&p, server, clients[i], 0);
		SSL_set_session(p.c, s);
		CHECK(pair_shake(&p));
		CHECK(!SSL_session_reused(p.c));
		pair_end(&p);
		SSL_SESSION_free(s);
		SSL_CTX_sess_set_new_cb(clients[i], NULL);
		SSL_CTX_set_session_cache_mode(clients[i], SSL_SESS_CACHE_OFF);
	}
}

CASE(renegotiation_is_refused)
{
	struct pair p;
	ssize_t r = -EAGAIN;
	int e = SSL_ERROR_WANT_READ, why = 0;

	CHECK(open_pair(&p, client_12));
	CHECK_INT(SSL_renegotiate(p.c), 1);
	while (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
		ERR_clear_error();
		e = SSL_get_error(p.c, SSL_do_handshake(p.c));
		why = ERR_GET_REASON(ERR_peek_error());
		r = p.t->ops->read(p.t, got[0], 100);
		if (r != -EAGAIN)
			break;
		if (e == SSL_ERROR_WANT_READ && !pair_wait(&p, TP_READ))
			break;
	}
	CHECK_INT(e, SSL_ERROR_SSL);
	CHECK_INT(why, SSL_R_NO_RENEGOTIATION);
	CHECK_INT(r, -EAGAIN);
	pair_end(&p);
}

CASE(the_facts_of_an_anonymous_client)
{
	struct pair p;

	CHECK(open_pair(&p, client_13));
	CHECK_STR(fact(&p, "SSL_PROTOCOL"), "TLSv1.3");
	CHECK_STR(fact(&p, "SSL_CIPHER"), "TLS_AES_256_GCM_SHA384");
	CHECK_STR(fact(&p, "SSL_TLS_SNI_SERVERNAME"), "localhost");
	CHECK_STR(fact(&p, "SSL_CLIENT_VERIFY"), "NONE");
	CHECK(!fact(&p, "SSL_CLIENT_CERT"));
	pair_end(&p);
	CHECK(open_pair(&p, client_12));
	CHECK_STR(fact(&p, "SSL_PROTOCOL"), "TLSv1.2");
	CHECK_STR(fact(&p, "SSL_CIPHER"), "ECDHE-ECDSA-AES256-GCM-SHA384");
	CHECK_STR(fact(&p, "SSL_TLS_SNI_SERVERNAME"), "localhost");
	pair_end(&p);
}

CASE(a_client_certificate_is_taken_and_not_judged)
{
	SSL_CTX *const clients[] = { client_12, client_13 };
	struct pair p;

	for (int i = 0; i < 2; i++) {
		pair_tcp(&p, server, clients[i], 0);
		CHECK_INT(SSL_use_certificate_chain_file(p.c, certs("client.pem")), 1);
		CHECK_INT(SSL_use_PrivateKey_file(p.c, certs("client.key"), SSL_FILETYPE_PEM), 1);
		CHECK(pair_shake(&p));
		CHECK_STR(fact(&p, "SSL_CLIENT_VERIFY"), "GENEROUS");
		CHECK_STR(fact(&p, "SSL_CLIENT_S_DN"), "CN=client one,O=ccf-net tests");
		CHECK_STR(fact(&p, "SSL_PEER_CERT_CN"), "client one");
		CHECK(!strncmp(fact(&p, "SSL_CLIENT_CERT"), "-----BEGIN CERTIFICATE-----\n", 28));
		pair_end(&p);
	}
}

/* The client shows a certificate whose subject would like to be more than one line. */
static bool
shake_with_odd(struct pair *p, int comment)
{
	struct made odd = make_cert(
	    (struct make){ .cn = "a\nSSL_CLIENT_VERIFY=SUCCESS,\xc3\xa4", .comment = comment });

	pair_tcp(p, server, client_13, 0);
	SSL_use_certificate(p->c, odd.cert);
	SSL_use_PrivateKey(p->c, odd.key);
	made_end(&odd);
	return pair_shake(p);
}

CASE(a_subject_cannot_smuggle_lines)
{
	struct pair p;

	CHECK(shake_with_odd(&p, 0));
	CHECK_STR(fact(&p, "SSL_CLIENT_S_DN"), "CN=a\\0ASSL_CLIENT_VERIFY=SUCCESS\\,\\C3\\A4");
	CHECK(!strchr(fact(&p, "SSL_PEER_CERT_CN"), '\n'));
	pair_end(&p);
}

CASE(certificates_that_could_not_be_told_on_are_refused)
{
	struct pair p;

	CHECK(shake_with_odd(&p, 22 * 1024));
	CHECK(strlen(fact(&p, "SSL_CLIENT_S_DN")) > 0);
	pair_end(&p);
	for (int size = 26 * 1024; size <= 40 * 1024; size += 14 * 1024) {
		shake_with_odd(&p, size);
		CHECK_INT(p.served, -EPROTO);
		REASON_HAS(&p, "the client's certificates are larger than 32 KiB");
		pair_end(&p);
	}
}

CASE(a_client_of_an_old_version_is_told_what_is_missing)
{
	SSL_CTX *client = client_context(TLS1_1_VERSION);
	struct pair p;

	SSL_CTX_set_security_level(client, 0);
	pair_tcp(&p, server, client, 0);
	CHECK(!pair_shake(&p));
	CHECK_INT(p.served, -EPROTO);
	REASON_HAS(&p,
	    "no shared protocol version (client offered at most TLS 1.1, the minimum is TLS 1.2");
	REASON_HAS(&p, "server name localhost");
	REASON_HAS(&p, "alert sent: protocol version");
	/* and the alert has reached it */
	ERR_clear_error();
	CHECK(SSL_do_handshake(p.c) <= 0);
	CHECK_INT(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
	pair_end(&p);
	SSL_CTX_free(client);
}

CASE(no_shared_cipher_is_named_with_what_was_offered)
{
	struct pair p;

	pair_tcp(&p, server, client_12, 0);
	SSL_set_cipher_list(p.c, "ECDHE-ECDSA-CHACHA20-POLY1305");
	SSL_set_alpn_protos(p.c, (const unsigned char *)"\x02h2\x03x\ny", 7);
	CHECK(!pair_shake(&p));
	CHECK_INT(p.served, -EPROTO);
	REASON_HAS(&p, "no shared cipher (client offered at most TLS 1.2");
	REASON_HAS(&p, "ALPN h2,x?y");
	REASON_HAS(&p, "alert sent: handshake failure");
	pair_end(&p);
	pair_tcp(&p, server, client_13, 0);
	SSL_set1_groups_list(p.c, "X25519");
	CHECK(!pair_shake(&p));
	CHECK_INT(p.served, -EPROTO);
	REASON_HAS(&p, "(client offered at most TLS 1.3");
	pair_end(&p);
}

CASE(a_client_that_distrusts_us_is_named_as_such)
{
	SSL_CTX *client = client_context(TLS1_3_VERSION);
	struct pair p;

	SSL_CTX_set_cert_store(client, X509_STORE_new());
	pair_tcp(&p, server, client, 0);
	CHECK(!pair_shake(&p));
	CHECK_INT(p.served, -EPROTO);
	REASON_HAS(&p, "the client refused, with alert: unknown CA");
	pair_end(&p);
	SSL_CTX_free(client);
}

static void
says_instead_of_tls(const char *text, size_t n, const char *why)
{
	struct pair p;

	pair_tcp(&p, server, NULL, 0);
	CHECK_INT(send(p.cfd, text, n, 0), n);
	shutdown(p.cfd, SHUT_WR);
	while (p.served == -EAGAIN && server_readable(&p))
		p.served = p.t->ops->handshake(p.t);
	CHECK_INT(p.served, -EPROTO);
	CHECK_INT(p.t->ops->handshake(p.t), -EPROTO);
	CHECK_STR(p.t->ops->reason(p.t), why);
	pair_end(&p);
}
#define SAYS(text, why) says_instead_of_tls(text, sizeof(text) - 1, why)

CASE(other_protocols_are_recognised)
{
	SAYS("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "the client spoke plain HTTP, not TLS");
	SAYS("DELETE /x HTTP/1.1\r\n\r\n", "the client spoke plain HTTP, not TLS");
	SAYS("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "the client spoke plain HTTP, not TLS");
	SAYS("SSH-2.0-OpenSSH_9.2p1\r\n", "the client does not speak TLS: it said \"SSH-2\"");
	SAYS("\r\n\r\n\r\n\r\n", "the client does not speak TLS: it said \"?????\"");
	SAYS("", "the client closed the connection without a word");
	SAYS("\x16\x03\x01",
	    "the handshake was cut in the middle of a record (before a hello came)");
	SAYS("\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
	    "the handshake was cut in the middle of a record (before a hello came)");
}

CASE(a_client_that_leaves_in_the_handshake)
{
	struct pair p;

	pair_tcp(&p, server, client_12, 0);
	SSL_do_handshake(p.c);
	CHECK(server_readable(&p));
	CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
	CHECK_INT(p.t->ops->want(p.t, TP_READ), TP_READ);
	shutdown(p.cfd, SHUT_WR);
	CHECK(server_readable(&p));
	CHECK_INT(p.t->ops->handshake(p.t), -EPROTO);
	REASON_HAS(&p, "the client closed the connection in the handshake (client offered at most "
		       "TLS 1.2; server name localhost; waiting for the client's answer)");
	pair_end(&p);

	pair_tcp(&p, server, client_12, 0);
	SSL_do_handshake(p.c);
	CHECK(server_readable(&p));
	CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
	client_resets(&p);
	CHECK(server_readable(&p));
	CHECK_INT(p.t->ops->handshake(p.t), -ECONNRESET);
	CHECK_INT(p.t->broken, ECONNRESET);
	REASON_HAS(&p, "Connection reset by peer (client offered at most TLS 1.2; server name "
		       "localhost; waiting for the client's answer)");
	pair_end(&p);
}

CASE(a_handshake_goes_through_two_pipes)
{
	struct pair p = { .cfd = -1, .served = -EAGAIN };
	int up[2], down[2], r = 0;

	CHECK(pipe2(up, O_CLOEXEC) == 0 && pipe2(down, O_CLOEXEC) == 0);
	fcntl(up[1], F_SETFL, O_NONBLOCK);
	fcntl(down[0], F_SETFL, O_NONBLOCK);
	CHECK_INT(tls_link_new(&p.t, server, up[0], down[1], true), 0);
	p.c = SSL_new(client_13);
	SSL_set_rfd(p.c, down[0]);
	SSL_set_wfd(p.c, up[1]);
	SSL_set_connect_state(p.c);
	for (int i = 0; i < 20 && (p.served || r != 1); i++) {
		ERR_clear_error();
		if (r != 1)
			r = SSL_do_handshake(p.c);
		p.t->ready = TP_READ | TP_WRITE;
		if (p.served)
			p.served = p.t->ops->handshake(p.t);
	}
	CHECK_INT(p.served, 0);
	CHECK_INT(SSL_write(p.c, "through", 7), 7);
	p.t->ready = TP_READ | TP_WRITE;
	CHECK_INT(p.t->ops->read(p.t, got[0], 100), 7);
	CHECK_INT(p.t->ops->finish(p.t), 0);
	CHECK_INT(SSL_read(p.c, got[1], 1), 0);
	CHECK_INT(SSL_get_error(p.c, 0), SSL_ERROR_ZERO_RETURN);
	pair_end(&p);
	close(up[1]);
	close(down[0]);
}

/* ---- clients' certificates that are judged ---- */

static struct made authority, stranger, good_client, bad_client, host;

/* Writes it as PEM; borrowed until the next. */
static const char *
made_file(const struct made *m, bool key)
{
	static char path[2][64];
	char *to = path[key];
	int fd;
	FILE *f;

	snprintf(to, sizeof(path[0]), "/tmp/ccf-unit-made.XXXXXX");
	fd = mkstemp(to);
	f = fdopen(fd, "w");
	PEM_write_X509(f, m->cert);
	if (key)
		PEM_write_PrivateKey(f, m->key, NULL, NULL, 0, NULL, NULL);
	fclose(f);
	return to;
}

static struct tls_context *
judging_server(int verify, int64_t tickets)
{
	const char *ca = made_file(&authority, false);
	struct tls_policy policy = { .max_version = TLS_V13, .verify = verify, .tickets = tickets };
	struct tls_context *c = peer_server(policy, ca);

	unlink(ca);
	return c;
}

static bool
shake_showing(struct pair *p, struct tls_context *ours, SSL_CTX *peer, const struct made *shown)
{
	pair_tcp(p, ours, peer, 0);
	if (shown) {
		SSL_use_certificate(p->c, shown->cert);
		SSL_use_PrivateKey(p->c, shown->key);
	}
	return pair_shake(p);
}

CASE(a_client_certificate_is_judged_and_let_in_where_that_is_asked)
{
	struct tls_context *asks = judging_server(TLS_REQUEST, 0);
	SSL_CTX *const clients[] = { client_12, client_13 };
	struct pair p;

	for (int i = 0; i < 2; i++) {
		CHECK(shake_showing(&p, asks, clients[i], &good_client));
		CHECK_STR(fact(&p, "SSL_CLIENT_VERIFY"), "SUCCESS");
		CHECK_STR(fact(&p, "SSL_CLIENT_I_DN"), "CN=authority");
		pair_end(&p);
		CHECK(shake_showing(&p, asks, clients[i], &bad_client));
		CHECK(!strncmp(fact(&p, "SSL_CLIENT_VERIFY"), "FAILED:unable to ", 17));
		CHECK_STR(fact(&p, "SSL_CLIENT_S_DN"), "CN=bad");
		pair_end(&p);
		CHECK(shake_showing(&p, asks, clients[i], NULL));
		CHECK_STR(fact(&p, "SSL_CLIENT_VERIFY"), "NONE");
		pair_end(&p);
	}
	tls_context_free(asks);
}

CASE(a_client_without_a_good_certificate_is_refused_where_one_is_required)
{
	struct tls_context *wants = judging_server(TLS_REQUIRE, 0);
	SSL_CTX *const clients[] = { client_12, client_13 };
	struct made old = make_cert(
	    (struct make){ .cn = "old", .issuer = &authority, .from = -7200, .to = -3600 });
	struct pair p;

	for (int i = 0; i < 2; i++) {
		CHECK(shake_showing(&p, wants, clients[i], &good_client));
		CHECK_STR(fact(&p, "SSL_CLIENT_VERIFY"), "SUCCESS");
		pair_end(&p);
		shake_showing(&p, wants, clients[i], NULL);
		CHECK_INT(p.served, -EPROTO);
		REASON_HAS(&p, "the client sent no certificate (client offered at most TLS 1.");
		REASON_HAS(
		    &p, "server name localhost; reading the client's certificate; alert sent: ");
		REASON_HAS(&p, "); --verify require wants one");
		pair_end(&p);
		shake_showing(&p, wants, clients[i], &bad_client);
		CHECK_INT(p.served, -EPROTO);
		REASON_HAS(&p, "the client's certificate was refused: unable to ");
		REASON_HAS(&p, " (CN=bad, SHA-256 ");
		REASON_HAS(&p, "; reading the client's certificate; alert sent: unknown CA); "
			       "--client-ca says who is trusted");
		pair_end(&p);
		shake_showing(&p, wants, clients[i], &old);
		CHECK_INT(p.served, -EPROTO);
		REASON_HAS(&p, "the client's certificate expired on 2");
		REASON_HAS(&p, " UTC (CN=old, SHA-256 ");
		pair_end(&p);
	}
	made_end(&old);
	tls_context_free(wants);
}

/* The handshake goes wrong after the client has shown its certificate. */
CASE(the_certificate_of_a_client_that_fails_later_is_told)
{
	unsigned char junk[] = { SSL3_RT_APPLICATION_DATA, 3, 3, 0, 3, 1, 2, 3 };
	BIO *out = BIO_new(BIO_s_mem()), *in = BIO_new(BIO_s_mem());
	static char buf[32 * 1024];
	struct pair p;
	int fd[2], n;

	unix_pair(fd);
	pair_over(&p, server, client_12, fd);
	SSL_use_certificate(p.c, good_client.cert);
	SSL_use_PrivateKey(p.c, good_client.key);
	SSL_set_bio(p.c, in, out);
	for (int i = 0; i < 2; i++) {
		SSL_do_handshake(p.c);
		n = BIO_read(out, buf, sizeof(buf));
		if (i == 1) { /* its certificate and key, no finish */
			n = 5 + ((unsigned char)buf[3] << 8 | (unsigned char)buf[4]);
			n += 5 + ((unsigned char)buf[n + 3] << 8 | (unsigned char)buf[n + 4]);
		}
		CHECK_INT(write(p.cfd, buf, (size_t)n), n);
		p.t->ready = TP_READ | TP_WRITE;
		CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
		n = i == 0 ? (int)read(p.cfd, buf, sizeof(buf)) : 0;
		BIO_write(in, buf, n);
	}
	CHECK_INT(write(p.cfd, junk, sizeof(junk)), sizeof(junk));
	p.t->ready = TP_READ | TP_WRITE;
	CHECK_INT(p.t->ops->handshake(p.t), -EPROTO);
	REASON_HAS(&p, " (CN=good, SHA-256 ");
	REASON_HAS(&p, "; client offered at most TLS 1.2; server name localhost; waiting for the "
		       "client's finish; alert sent: unexpected message)");
	pair_end(&p);
}

CASE(a_resumed_client_is_who_it_was)
{
	struct tls_context *asks = judging_server(TLS_REQUEST, 300);
	SSL_CTX *const clients[] = { client_12, client_13 };
	const struct made *const shown[] = { &good_client, &bad_client, NULL };
	const char *const verdict[] = { "SUCCESS", "FAILED:unable to ", "NONE" };

	for (int i = 0; i < 6; i++) {
		const char *says = verdict[i / 2];
		SSL_SESSION *s;
		struct pair p;
		size_t n;

		CHECK(shake_showing(&p, asks, clients[i % 2], shown[i / 2]));
		CHECK_STR(fact(&p, "SSL_SESSION_RESUMED"), "Initial");
		CHECK(server_says(&p, "x", 1));
		client_reads(&p, got[0], 1, &n);
		SSL_shutdown(p.c);
		s = SSL_get1_session(p.c);
		pair_end(&p);
		pair_tcp(&p, asks, clients[i % 2], 0);
		SSL_set_session(p.c, s);
		CHECK(pair_shake(&p));
		CHECK_STR(fact(&p, "SSL_SESSION_RESUMED"), "Resumed");
		CHECK(!strncmp(fact(&p, "SSL_CLIENT_VERIFY"), says, strlen(says)));
		CHECK(!fact(&p, "SSL_CLIENT_CERT") == !shown[i / 2]);
		/* and a cut is still no clean end */
		p.t->ops->close(p.t, true);
		p.t = NULL;
		CHECK_INT(client_reads(&p, got[1], 10, &n), SSL_ERROR_SSL);
		if (i % 2)
			CHECK_INT(
			    ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_INTERNAL_ERROR);
		SSL_SESSION_free(s);
		pair_end(&p);
	}
	tls_context_free(asks);
}

CASE(how_far_a_handshake_came_can_be_asked_at_any_time)
{
	struct pair p;

	pair_tcp(&p, server, client_13, 0);
	CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
	CHECK_STR(p.t->ops->reason(p.t), "the client said nothing");
	CHECK_INT(send(p.cfd, "\x16\x03\x01", 3, 0), 3);
	CHECK(server_readable(&p));
	CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
	CHECK_STR(p.t->ops->reason(p.t), "stopped before a whole hello came");
	pair_end(&p);
	pair_tcp(&p, server, client_13, 0);
	SSL_do_handshake(p.c);
	CHECK(server_readable(&p));
	CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
	CHECK_STR(p.t->ops->reason(p.t), "stopped while waiting for the client's answer (client "
					 "offered at most TLS 1.3; server name localhost)");
	CHECK(pair_shake(&p));
	CHECK(!p.t->ops->reason(p.t));
	pair_end(&p);
}

/* ---- our client ---- */

static struct tls_context *
our_client(struct tls_policy policy, const char *name, const char *pin, const struct made *shows)
{
	const char *ca = made_file(&authority, false),
		   *cert = shows ? made_file(shows, true) : NULL;
	const struct tls_files files = { &cert, shows != NULL, NULL, 0, ca, false, NULL };
	const struct tls_server_check check = { name, &pin, pin != NULL };
	struct tls_context *c;

	policy.client = true;
	policy.max_version = policy.max_version ? policy.max_version : TLS_V13;
	c = peer_context(&policy, &files, &check);
	unlink(ca);
	if (shows)
		unlink(cert);
	return c;
}

/* A server that is bare OpenSSL. */
static SSL_CTX *
bare_server(const struct made *cert, int version)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	SSL_CTX_set_min_proto_version(ctx, version);
	SSL_CTX_set_max_proto_version(ctx, version);
	SSL_CTX_use_certificate(ctx, cert->cert);
	SSL_CTX_use_PrivateKey(ctx, cert->key);
	return ctx;
}

static const int both[] = { TLS1_2_VERSION, TLS1_3_VERSION };

CASE(our_client_checks_its_server_and_talks_to_it)
{
	static const char *const alpn[] = { "h2", "http/1.1" };
	struct tls_policy policy = { .alpn = alpn, .n_alpn = 2 };
	struct tls_context *ours = our_client(policy, "host.example", NULL, NULL);
	struct pair p;
	size_t n;

	for (int i = 0; i < 2; i++) {
		SSL_CTX *bare = bare_server(&host, both[i]);

		pair_tcp(&p, ours, bare, 0);
		CHECK_INT(p.t->ops->want(p.t, TP_READ), TP_WRITE); /* it speaks first */
		CHECK(pair_shake(&p));
		CHECK_STR(SSL_get_servername(p.c, TLSEXT_NAMETYPE_host_name), "host.example");
		CHECK_STR(fact(&p, "SSL_SERVER_VERIFY"), "SUCCESS");
		CHECK_STR(fact(&p, "SSL_SERVER_S_DN"), "CN=host");
		CHECK_STR(
		    fact(&p, "CCF_SERVER_SANS"), "DNS:host.example, DNS:b.example, IP:192.0.2.1");
		CHECK_STR(fact(&p, "SSL_TLS_SNI_SERVERNAME"), "host.example");
		CHECK(!fact(&p, "SSL_CLIENT_VERIFY"));
		CHECK(server_says(&p, sent[0], 100000));
		client_reads(&p, got[0], 100000, &n);
		CHECK(n == 100000 && !memcmp(sent[0], got[0], n));
		CHECK_INT(SSL_write(p.c, sent[1], 5000), 5000);
		CHECK_INT(server_reads(&p, got[1], 5000, &n), 5000);
		CHECK(!memcmp(sent[1], got[1], n));
		CHECK_INT(p.t->ops->finish(p.t), 0);
		CHECK_INT(client_reads(&p, got[0], 1, &n), SSL_ERROR_ZERO_RETURN);
		CHECK_INT(SSL_shutdown(p.c), 1);
		CHECK_INT(server_reads(&p, got[0], 1, &n), 0);
		CHECK(p.t->ended && !p.t->bare_end);
		pair_end(&p);
		SSL_CTX_free(bare);
	}
	tls_context_free(ours);
}

static void
our_client_refuses(
    struct tls_context *ours, const struct made *cert, int err, const char *const *says)
{
	for (int i = 0; i < 2; i++) {
		SSL_CTX *bare = bare_server(cert, both[i]);
		struct pair p;

		pair_tcp(&p, ours, bare, 0);
		CHECK(!pair_shake(&p));
		CHECK_INT(p.served, err);
		for (const char *const *s = says; *s; s++)
			REASON_HAS(&p, *s);
		CHECK_INT(p.t->ops->handshake(p.t), err);
		pair_end(&p);
		SSL_CTX_free(bare);
	}
	tls_context_free(ours);
}
#define REFUSES(ours, cert, err, ...)                                                              \
	our_client_refuses(ours, cert, err, (const char *const[]){ __VA_ARGS__, NULL })

CASE(our_client_says_why_it_refuses_a_server)
{
	struct tls_policy policy = { 0 }, blind = { .verify = TLS_NONE };
	struct made old = make_cert((struct make){ .cn = "old",
	    .san = "DNS:host.example",
	    .issuer = &authority,
	    .from = -7200,
	    .to = -3600 });
	char pin[] = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

	REFUSES(our_client(policy, "host.example", NULL, NULL), &stranger, -EKEYREJECTED,
	    "the server's certificate was refused: self-signed certificate (CN=stranger, SHA-256 ",
	    "; we offered TLS 1.2 to TLS 1.3; server name host.example; checking the server's "
	    "certificate; alert sent: unknown CA); --ca FILE says who is trusted, --no-verify "
	    "trusts "
	    "anybody, and with --pin sha256:");
	REFUSES(our_client(policy, "other.example", NULL, NULL), &host, -EKEYREJECTED,
	    "the server's certificate is for other names (DNS:host.example, DNS:b.example, "
	    "IP:192.0.2.1), not for other.example (CN=host, SHA-256 ",
	    "; --servername says which name to look for");
	REFUSES(our_client(policy, "192.0.2.7", NULL, NULL), &host, -EKEYREJECTED,
	    "is for other names (DNS:host.example, DNS:b.example, IP:192.0.2.1), not for 192.0.2.7 "
	    "(CN=host, SHA-256 ");
	REFUSES(our_client(policy, "host.example", NULL, NULL), &old, -EKEYREJECTED,
	    "the server's certificate expired on 2", " UTC (CN=old, SHA-256 ",
	    "; --no-verify goes on without a check");
	REFUSES(our_client(policy, "host.example", pin, NULL), &host, -EKEYREVOKED,
	    "no --pin is met by the server's certificate (CN=host, SHA-256 ",
	    "checking the server's certificate; alert sent: ", "); its key is sha256:");
	REFUSES(our_client(blind, "host.example", pin, NULL), &stranger, -EKEYREVOKED,
	    "no --pin is met by the server's certificate (CN=stranger, SHA-256 ");
	made_end(&old);
}

CASE(our_client_trusts_a_key_or_anybody_when_it_is_told_so)
{
	struct tls_policy blind = { .verify = TLS_NONE };
	SSL_CTX *bare = bare_server(&stranger, TLS1_3_VERSION);
	char pin[80] = "sha256:";
	struct tls_context *ours;
	struct pair p;

	cert_key_sha256(stranger.cert, pin + strlen(pin));
	for (int i = 0; i < 2; i++) {
		ours = our_client(blind, "host.example", i ? pin : NULL, NULL);
		pair_tcp(&p, ours, bare, 0);
		CHECK(pair_shake(&p));
		CHECK_STR(fact(&p, "SSL_SERVER_VERIFY"), i ? "SUCCESS" : "GENEROUS");
		CHECK_STR(fact(&p, "SSL_SERVER_S_DN"), "CN=stranger");
		pair_end(&p);
		tls_context_free(ours);
	}
	SSL_CTX_free(bare);
}

static void
server_answers(const char *text, size_t n, int err, const char *why)
{
	struct tls_context *ours = our_client((struct tls_policy){ 0 }, "host.example", NULL, NULL);
	struct pair p;

	pair_tcp(&p, ours, NULL, 0);
	CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
	REASON_HAS(&p, "the server said nothing (we offered TLS 1.2 to TLS 1.3; server name "
		       "host.example)");
	CHECK_INT(send(p.cfd, text, n, 0), n);
	shutdown(p.cfd, SHUT_WR);
	while (p.served == -EAGAIN && server_readable(&p))
		p.served = p.t->ops->handshake(p.t);
	CHECK_INT(p.served, err);
	CHECK_STR(p.t->ops->reason(p.t), why);
	pair_end(&p);
	tls_context_free(ours);
}
#define ANSWERS(text, why) server_answers(text, sizeof(text) - 1, -EPROTO, why)

CASE(our_client_says_what_answers_in_place_of_a_server)
{
	ANSWERS("SSH-2.0-OpenSSH_9.2p1\r\n",
	    "the server does not speak TLS: it said \"SSH-2\"; its TLS may be on another port");
	ANSWERS("HTTP/1.1 400 Bad Request\r\n\r\n",
	    "the server spoke plain HTTP, not TLS; its TLS may be on another port");
	ANSWERS("",
	    "the server closed the connection without a word (we offered TLS 1.2 to TLS 1.3; "
	    "server name host.example)");
	ANSWERS("\x16\x03\x03\x00\x7a\x02", "the handshake was cut in the middle of a record (we "
					    "offered TLS 1.2 to TLS 1.3; server "
					    "name host.example; waiting for the server's hello)");
	ANSWERS("\x15\x03\x03\x00\x02\x02\x28",
	    "the server refused, with alert: handshake failure (we offered TLS 1.2 to TLS 1.3; "
	    "server "
	    "name host.example; waiting for the server's hello); it may want other --ciphers, "
	    "--ciphersuites or --groups, or a certificate (--cert)");
	ANSWERS("\x15\x03\x03\x00\x02\x01\x00",
	    "the server closed the connection in the handshake (we offered TLS 1.2 to TLS 1.3; "
	    "server "
	    "name host.example; waiting for the server's hello)");
}

CASE(a_server_that_leaves_in_the_handshake)
{
	struct tls_context *ours = our_client((struct tls_policy){ 0 }, "host.example", NULL, NULL);
	SSL_CTX *bare = bare_server(&host, TLS1_2_VERSION);
	struct pair p;

	for (int i = 0; i < 2; i++) {
		pair_tcp(&p, ours, bare, 0);
		CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
		while (SSL_get_state(p.c) != TLS_ST_SW_SRVR_DONE && pair_wait(&p, 0))
			SSL_do_handshake(p.c);
		CHECK(server_readable(&p));
		CHECK_INT(p.t->ops->handshake(p.t), -EAGAIN);
		REASON_HAS(&p, "stopped while waiting for the server's finish (CN=host, SHA-256 ");
		if (i)
			client_resets(&p);
		else
			shutdown(p.cfd, SHUT_WR);
		CHECK(server_readable(&p));
		CHECK_INT(p.t->ops->handshake(p.t), i ? -ECONNRESET : -EPROTO);
		REASON_HAS(
		    &p, i ? "Connection reset by peer (CN=host, SHA-256 "
			  : "the server closed the connection in the handshake (CN=host, SHA-256 ");
		REASON_HAS(&p, "; we offered TLS 1.2 to TLS 1.3; server name host.example; waiting "
			       "for the server's finish)");
		pair_end(&p);
	}
	SSL_CTX_free(bare);
	tls_context_free(ours);
}

static int
alpn_or_nothing(SSL *ssl, const unsigned char **ret, unsigned char *n, const unsigned char *offer,
    unsigned offer_n, void *arg)
{
	(void)ssl, (void)ret, (void)n, (void)offer, (void)offer_n, (void)arg;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int
name_or_nothing(SSL *ssl, int *alert, void *arg)
{
	(void)ssl, (void)arg;
	*alert = SSL_AD_UNRECOGNIZED_NAME;
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Who has closed answers our close_notify with a reset, before we can end the stream, too. */
CASE(what_came_before_a_cut_is_there_after_our_end_has_met_it)
{
	struct pair p;
	size_t n;

	CHECK(open_pair(&p, client_13));
	CHECK_INT(SSL_write(p.c, "last", 4), 4);
	close(p.cfd);
	p.cfd = -1;
	CHECK(server_readable(&p));
	CHECK_INT(p.t->ops->finish(p.t), -ECONNRESET);
	CHECK_INT(p.t->broken, ECONNRESET);
	CHECK(server_reads(&p, got[0], 4, &n) > 0);
	CHECK_INT(n, 4);
	CHECK(memcmp(got[0], "last", 4) == 0);
	CHECK_INT(p.t->ops->finish(p.t), -ECONNRESET);
	pair_end(&p);
}

CASE(a_server_that_wants_something_else_is_named_with_its_alert)
{
	static const char *const alpn[] = { "x" };
	struct tls_policy policy = { .alpn = alpn, .n_alpn = 1 };
	struct tls_context *ours = our_client(policy, "host.example", NULL, NULL);
	SSL_CTX *bare = bare_server(&host, TLS1_3_VERSION);
	struct pair p;

	SSL_CTX_set_alpn_select_cb(bare, alpn_or_nothing, NULL);
	pair_tcp(&p, ours, bare, 0);
	CHECK(!pair_shake(&p));
	CHECK_INT(p.served, -EPROTO);
	REASON_HAS(&p,
	    "the server refused, with alert: no application protocol (we offered TLS 1.2 to "
	    "TLS 1.3; server name host.example; ALPN x; waiting for the server's hello); "
	    "--alpn says what is offered");
	pair_end(&p);
	SSL_CTX_set_tlsext_servername_callback(bare, name_or_nothing);
	pair_tcp(&p, ours, bare, 0);
	CHECK(!pair_shake(&p));
	REASON_HAS(&p, "the server refused, with alert: unrecognized name (");
	REASON_HAS(&p, "; --servername says which name to ask for");
	pair_end(&p);
	SSL_CTX_free(bare);
	tls_context_free(ours);
	/* what speaks TLS 1.1 at most says so */
	bare = bare_server(&host, TLS1_1_VERSION);
	SSL_CTX_set_security_level(bare, 0);
	ours = our_client((struct tls_policy){ 0 }, "host.example", NULL, NULL);
	pair_tcp(&p, ours, bare, 0);
	CHECK(!pair_shake(&p));
	REASON_HAS(&p,
	    "the server refused, with alert: protocol version (we offered TLS 1.2 to TLS "
	    "1.3; ");
	pair_end(&p);
	SSL_CTX_free(bare);
	tls_context_free(ours);
}

static int
verify_none_but_authority(X509_STORE_CTX *store, void *arg)
{
	(void)arg;
	X509_STORE_CTX_set_error(store, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY);
	return 0;
}

/* In TLS 1.3 the client has finished when the server looks at its certificate. */
CASE(a_server_that_refuses_our_certificate_says_so_on_the_first_read)
{
	struct tls_context *ours;
	SSL_CTX *bare = bare_server(&host, TLS1_3_VERSION);
	struct pair p;
	size_t n;

	SSL_CTX_set_verify(bare, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(bare, verify_none_but_authority, NULL);
	for (int i = 0; i < 2; i++) {
		ours = our_client(
		    (struct tls_policy){ 0 }, "host.example", NULL, i ? &good_client : NULL);
		pair_tcp(&p, ours, bare, 0);
		CHECK(!pair_shake(&p));
		CHECK_INT(p.served, 0);
		CHECK_INT(server_reads(&p, got[0], 10, &n), -EACCES);
		CHECK_STR(p.t->ops->reason(p.t),
		    i ? "the server refused our certificate, with alert: unknown CA; --cert and "
			"--key say which is shown"
		      : "the server wants a certificate, with alert: certificate required; --cert "
			"and --key say which is shown");
		pair_end(&p);
		tls_context_free(ours);
	}
	SSL_CTX_free(bare);
	bare = bare_server(&host, TLS1_2_VERSION);
	SSL_CTX_set_verify(bare, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(bare, verify_none_but_authority, NULL);
	ours = our_client((struct tls_policy){ 0 }, "host.example", NULL, &good_client);
	pair_tcp(&p, ours, bare, 0);
	CHECK(!pair_shake(&p));
	CHECK_INT(p.served, -EPROTO);
	REASON_HAS(
	    &p, "the server refused our certificate, with alert: unknown CA (CN=host, SHA-256 ");
	pair_end(&p);
	tls_context_free(ours);
	SSL_CTX_free(bare);
}

CASE(a_cut_of_our_client_is_no_clean_end_for_the_server)
{
	struct tls_context *ours = our_client((struct tls_policy){ 0 }, "host.example", NULL, NULL);
	struct pair p;
	size_t n;

	for (int i = 0; i < 2; i++) {
		SSL_CTX *bare = bare_server(&host, both[i]);

		SSL_CTX_set_options(bare, SSL_OP_IGNORE_UNEXPECTED_EOF);
		pair_tcp(&p, ours, bare, 0);
		CHECK(pair_shake(&p));
		p.t->ops->close(p.t, true);
		p.t = NULL;
		CHECK_INT(client_reads(&p, got[1], 10, &n), SSL_ERROR_SSL);
		pair_end(&p);
		SSL_CTX_free(bare);
	}
	tls_context_free(ours);
}

int
main(void)
{
	int r;

	authority = make_cert((struct make){ .cn = "authority", .ca = true });
	stranger = make_cert((struct make){ .cn = "stranger", .san = "DNS:host.example" });
	good_client = make_cert((struct make){ .cn = "good", .issuer = &authority });
	struct made other = make_cert((struct make){ .cn = "other", .ca = true });
	bad_client = make_cert((struct make){ .cn = "bad", .issuer = &other });
	made_end(&other);
	host = make_cert((struct make){ .cn = "host",
	    .san = "DNS:host.example, DNS:b.example, IP:192.0.2.1",
	    .issuer = &authority });
	server = server_context(NULL, 0);
	client_12 = client_context(TLS1_2_VERSION);
	client_13 = client_context(TLS1_3_VERSION);
	fill_pattern(sent[0], sizeof(sent[0]), 1);
	r = check_main((struct check_case[]){
	    RUN(a_mebibyte_goes_both_ways_at_once_in_tls_13),
	    RUN(a_mebibyte_goes_both_ways_at_once_in_tls_12),
	    RUN(several_records_come_in_one_read),
	    RUN(bytes_that_stayed_behind_are_told_by_the_ready_bit),
	    RUN(bytes_that_came_with_the_handshake_are_read_without_an_event),
	    RUN(a_clear_ready_bit_answers_without_looking),
	    RUN(the_clients_close_notify_ends_its_direction_only),
	    RUN(our_close_notify_ends_our_direction_only),
	    RUN(a_bare_fin_ends_the_direction_and_is_told),
	    RUN(an_end_inside_a_record_is_a_cut),
	    RUN(a_reset_is_a_cut_for_reading_and_for_writing),
	    RUN(a_damaged_record_is_a_protocol_error_and_the_client_is_told),
	    RUN(a_cut_sends_no_close_notify_but_a_fatal_alert_and_a_reset),
	    RUN(descriptors_that_are_not_owned_stay_open),
	    RUN(unsent_is_what_the_peer_has_not_acknowledged),
	    RUN(many_connections_share_the_buffers_and_none_is_mixed_up),
	    RUN(a_key_update_is_answered_though_nobody_writes),
	    RUN(the_client_sees_a_chain_of_two_and_verifies_it),
	    RUN(alpn_is_agreed_or_left_out_but_never_a_reason_to_fail),
	    RUN(nothing_can_be_resumed),
	    RUN(renegotiation_is_refused),
	    RUN(the_facts_of_an_anonymous_client),
	    RUN(a_client_certificate_is_taken_and_not_judged),
	    RUN(a_subject_cannot_smuggle_lines),
	    RUN(certificates_that_could_not_be_told_on_are_refused),
	    RUN(a_client_of_an_old_version_is_told_what_is_missing),
	    RUN(no_shared_cipher_is_named_with_what_was_offered),
	    RUN(a_client_that_distrusts_us_is_named_as_such),
	    RUN(other_protocols_are_recognised),
	    RUN(a_client_that_leaves_in_the_handshake),
	    RUN(a_handshake_goes_through_two_pipes),
	    RUN(a_client_certificate_is_judged_and_let_in_where_that_is_asked),
	    RUN(a_client_without_a_good_certificate_is_refused_where_one_is_required),
	    RUN(the_certificate_of_a_client_that_fails_later_is_told),
	    RUN(a_resumed_client_is_who_it_was),
	    RUN(how_far_a_handshake_came_can_be_asked_at_any_time),
	    RUN(our_client_checks_its_server_and_talks_to_it),
	    RUN(our_client_says_why_it_refuses_a_server),
	    RUN(our_client_trusts_a_key_or_anybody_when_it_is_told_so),
	    RUN(our_client_says_what_answers_in_place_of_a_server),
	    RUN(a_server_that_leaves_in_the_handshake),
	    RUN(what_came_before_a_cut_is_there_after_our_end_has_met_it),
	    RUN(a_server_that_wants_something_else_is_named_with_its_alert),
	    RUN(a_server_that_refuses_our_certificate_says_so_on_the_first_read),
	    RUN(a_cut_of_our_client_is_no_clean_end_for_the_server),
	    { 0 },
	});
	SSL_CTX_free(client_12);
	SSL_CTX_free(client_13);
	tls_context_free(server);
	made_end(&authority);
	made_end(&stranger);
	made_end(&good_client);
	made_end(&bad_client);
	made_end(&host);
	certs_done();
	return r;
}
