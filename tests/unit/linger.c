/* A TLS client still sends 200 KiB while the answer comes and the other side closes: it reads the
 * whole answer and a clean end, whoever answered. */
#include "base/clock.h"
#include "base/exit.h"
#include "flow/conn.h"
#include "flow/relay.h"
#include "loop/reactor.h"
#include "net/stream.h"
#include "session/session.h"
#include "session/writer.h"
#include "tls_peer.h"

#include <netinet/tcp.h>
#include <signal.h>

enum { ANSWER = 20 * 1024, SENDS = 200 * 1024 };

static struct tls_context *server;
static SSL_CTX *client_12, *client_13;
static struct reactor *loop;
static struct relay *relay;
static struct relay_end end;
static int ended;
static unsigned char answer[ANSWER], heard[ANSWER + 1], sends[SENDS];

static void
over(void *arg, const struct relay_end *how)
{
	(void)arg;
	ended++;
	end = *how;
}

/* A session that answers its first bytes and closes. */
static int
brief_open(struct session **ret, struct writer *w, const struct env *env, void *arg)
{
	(void)env;
	(void)arg;
	*ret = (struct session *)w;
	return 0;
}

static ssize_t
brief_data(struct session *s, const char *bytes, size_t len)
{
	struct writer *w = (struct writer *)s;

	(void)bytes;
	CHECK_INT(writer_put(w, answer, sizeof(answer)), 0);
	writer_close(w);
	return (ssize_t)len;
}

static void
brief_end(struct session *s)
{
	(void)s;
}

static const struct session_ops brief = { .name = "brief",
	.open = brief_open,
	.data = brief_data,
	.end = brief_end,
	.close = brief_end };

static void
begin(struct pair *p, struct transport *inner, bool indifferent)
{
	struct relay_config cfg = { .a = p->t,
		.b = inner,
		.indifferent = indifferent,
		.idle = 20000,
		.half_close = 20000,
		.flush = 20000,
		.done = over };

	ended = 0;
	end = (struct relay_end){ 0 };
	CHECK_INT(relay_start(&relay, loop, &cfg), 0);
	p->t = NULL; /* taken */
}

/* All of it, without reading; what has come is acknowledged at once, so that nothing but the
 * lingering holds the other side. */
static void
client_sends(struct pair *p)
{
	int64_t limit = clock_ms() + 20000;
	size_t sent = 0, n;
	int one = 1;

	while (sent < SENDS && clock_ms() < limit) {
		ERR_clear_error();
		if (SSL_write_ex(p->c, sends + sent, SENDS - sent < 1000 ? SENDS - sent : 1000, &n))
			sent += n;
		else if (SSL_get_error(p->c, 0) != SSL_ERROR_WANT_WRITE)
			break;
		setsockopt(p->cfd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof(one));
		CHECK_INT(reactor_turn(loop, 0), 0);
	}
	CHECK_INT(sent, SENDS);
	CHECK_INT(ended, 0);
}

static void
client_hears_it_all(struct pair *p)
{
	int64_t limit = clock_ms() + 20000;
	size_t got = 0, n;
	int e = SSL_ERROR_WANT_READ;

	while (e == SSL_ERROR_WANT_READ && clock_ms() < limit) {
		ERR_clear_error();
		e = SSL_ERROR_WANT_READ;
		if (got < sizeof(heard) && SSL_read_ex(p->c, heard + got, sizeof(heard) - got, &n))
			got += n;
		else
			e = SSL_get_error(p->c, 0);
		CHECK_INT(reactor_turn(loop, e == SSL_ERROR_WANT_READ ? 5 : 0), 0);
	}
	CHECK_INT(e, SSL_ERROR_ZERO_RETURN); /* close_notify */
	CHECK_INT(got, ANSWER);
	CHECK(memcmp(heard, answer, ANSWER) == 0);
	CHECK_INT(recv(p->cfd, heard, 1, MSG_DONTWAIT), 0); /* and FIN, no reset */
}

static void
finish(struct pair *p, int status)
{
	int64_t limit = clock_ms() + 20000;

	SSL_shutdown(p->c);
	shutdown(p->cfd, SHUT_WR);
	while (!ended && clock_ms() < limit)
		CHECK_INT(reactor_turn(loop, 100), 0);
	CHECK_INT(ended, 1);
	CHECK_INT(end.status, status);
	CHECK_INT(end.out, ANSWER);
	pair_end(p);
	reactor_free(loop);
}

CASE(behind_a_session)
{
	for (int i = 0; i < 2; i++) {
		struct transport *inner;
		struct pair p;

		pair_tcp(&p, server, i ? client_12 : client_13, 0);
		CHECK(pair_shake(&p));
		CHECK_INT(reactor_new(&loop), 0);
		CHECK_INT(conn_session(&inner,
			      &(struct conn_config){
				  .reactor = loop, .ops = &brief, .first = CLOCK_NEVER }),
		    0);
		begin(&p, inner, true);
		conn_attach(inner, relay);
		client_sends(&p);
		client_hears_it_all(&p);
		finish(&p, 0);
	}
}

/* inner's other end says the answer once it has heard something, and closes with the rest unread.
 */
static void
answers(int fd)
{
	char some[100];
	size_t put = 0;
	int64_t limit = clock_ms() + 20000;
	ssize_t n;

	while (recv(fd, some, sizeof(some), MSG_DONTWAIT) < 1 && clock_ms() < limit)
		CHECK_INT(reactor_turn(loop, 5), 0);
	while (put < ANSWER && clock_ms() < limit) {
		n = send(fd, answer + put, ANSWER - put, MSG_DONTWAIT);
		put += n > 0 ? (size_t)n : 0;
		CHECK_INT(reactor_turn(loop, 0), 0);
	}
}

static void
behind(void (*pair)(int[2]), bool indifferent, int status)
{
	for (int i = 0; i < 2; i++) {
		struct transport *inner;
		struct pair p;
		size_t n;
		int fd[2];

		pair(fd);
		pair_tcp(&p, server, i ? client_12 : client_13, 0);
		CHECK(pair_shake(&p));
		fcntl(fd[0], F_SETFL, O_NONBLOCK);
		CHECK_INT(stream_new(fd[0], fd[0], true, &inner), 0);
		CHECK_INT(reactor_new(&loop), 0);
		begin(&p, inner, indifferent);
		CHECK(SSL_write_ex(p.c, "ask", 3, &n));
		answers(fd[1]);
		if (!indifferent) /* else its end is told by others */
			shutdown(fd[1], SHUT_WR);
		close(fd[1]);
		client_sends(&p);
		client_hears_it_all(&p);
		finish(&p, status);
	}
}

static void
tcp(int fd[2])
{
	tcp_pair(fd, 0);
}

CASE(behind_a_command)
{
	behind(unix_pair, true, 0);
}

/* Then something was cut: the status says it, and the client has what it was owed all the same. */
CASE(behind_a_link_that_adopted_a_socket)
{
	behind(tcp, false, CCF_CUT);
}

int
main(void)
{
	int bad;

	signal(SIGPIPE, SIG_IGN);
	server = server_context(NULL, 0);
	client_12 = client_context(TLS1_2_VERSION);
	client_13 = client_context(TLS1_3_VERSION);
	fill_pattern(answer, sizeof(answer), 1);
	fill_pattern(sends, sizeof(sends), 2);
	bad = check_main((struct check_case[]){
	    RUN(behind_a_session),
	    RUN(behind_a_command),
	    RUN(behind_a_link_that_adopted_a_socket),
	    { 0 },
	});
	SSL_CTX_free(client_12);
	SSL_CTX_free(client_13);
	tls_context_free(server);
	certs_done();
	return bad;
}
