#include <arpa/inet.h>
#include <sys/stat.h>

#include "base/env.h"
#include "tls/policy.h"
#include "tls_files.h"
#include "tls_peer.h"

#define FOREVER 86400

static char msg[512];
static struct made ca, other_ca, mid, a, b, wild, rsa;
static SSL_CTX *any_12, *any_13; /* clients that trust everybody */

struct given {
	const char *cert[4], *ca;
	struct tls_policy policy;
	struct tls_server_check check;
};

static struct material *
material(const struct given *g)
{
	struct tls_files f = { .cert = g->cert, .ca = g->ca };
	struct material *m = NULL;

	while (f.n_cert < 4 && g->cert[f.n_cert])
		f.n_cert++;
	if (material_read(&m, &f, msg, sizeof(msg)) < 0) {
		printf("Bail out! %s\n", msg);
		exit(1);
	}
	return m;
}

static int
try_over(struct tls_context **ret, struct given g, const struct material *m)
{
	struct tls_context *c = (struct tls_context *)&g;
	int r;

	if (!g.policy.min_version && !g.policy.max_version)
		g.policy.max_version = TLS_V13;
	msg[0] = '\0';
	r = tls_context_new(&c, &g.policy, m, g.policy.client ? &g.check : NULL, msg, sizeof(msg));
	CHECK(r == 0 || c == (struct tls_context *)&g);
	CHECK(ERR_peek_error() == 0);
	if (r == 0)
		*ret = c;
	return r;
}

static int
try(struct given g)
{
	struct material *m = material(&g);
	struct tls_context *c = NULL;
	int r = try_over(&c, g, m);

	tls_context_free(c);
	material_free(m);
	return r;
}

static struct tls_context *
over(struct given g, const struct material *m)
{
	struct tls_context *c = NULL;

	if (try_over(&c, g, m) < 0) {
		printf("Bail out! %s\n", msg);
		exit(1);
	}
	return c;
}

static struct tls_context *
make(struct given g)
{
	struct material *m = material(&g);
	struct tls_context *c = over(g, m);

	material_free(m);
	return c;
}
#define MAKE(...) make((struct given){ __VA_ARGS__ })

static SSL_CTX *
trusting(int version)
{
	SSL_CTX *ctx = client_context(version);

	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	return ctx;
}

static const char *
env_of(const struct pair *p, const char *name)
{
	static char value[2][512];
	static unsigned turn;
	struct env env = { 0 };
	const char *v;
	char *to = value[turn++ % 2];

	p->t->ops->facts(p->t, &env);
	v = env_get(&env, name);
	snprintf(to, sizeof(value[0]), "%s", v ? v : "");
	env_free(&env);
	return v ? to : NULL;
}

static bool
reason_has(const struct pair *p, const char *words)
{
	const char *why = p->t->ops->reason(p->t);

	if (why && strstr(why, words))
		return true;
	printf("# \"%s\" has no \"%s\"\n", why ? why : "(null)", words);
	return false;
}

/* ---- server names ---- */

/* The CN of whom a client meets that asks for sni (NULL: it asks for nothing). */
static const char *
meets(struct tls_context *c, SSL_CTX *client, const char *sni, const char *sigalgs)
{
	static char cn[64];
	struct pair p;

	pair_tcp(&p, c, client, 0);
	SSL_set_tlsext_host_name(p.c, sni);
	if (sigalgs)
		SSL_set1_sigalgs_list(p.c, sigalgs);
	if (!pair_shake(&p))
		snprintf(cn, sizeof(cn), "%s", p.t->ops->reason(p.t));
	else
		X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(p.c)),
		    NID_commonName, cn, sizeof(cn));
	pair_end(&p);
	return cn;
}

static const char *
named(const char *name, const char *path)
{
	static char spec[8][160];
	static unsigned turn;
	char *to = spec[turn++ % 8];

	snprintf(to, sizeof(spec[0]), "%s:%s", name, path);
	return to;
}

CASE(a_certificate_is_chosen_by_server_name)
{
	SSL_CTX *const clients[] = { any_12, any_13 };
	const char *pa = put_made("a", &a, NULL, true, NULL),
		   *pb = put_made("b", &b, NULL, true, NULL),
		   *pw = put_made("w", &wild, NULL, true, NULL);
	struct tls_context *c =
	    MAKE(.cert = { named("b.example", pb), named("*.b.example", pw), pa });
	struct tls_context *nameless =
	    MAKE(.cert = { named("b.example", pb), named("a.example", pa) });

	for (int i = 0; i < 2; i++) {
		CHECK_STR(meets(c, clients[i], NULL, NULL), "a");
		CHECK_STR(meets(c, clients[i], "b.example", NULL), "b");
		CHECK_STR(meets(c, clients[i], "B.Example", NULL), "b");
		CHECK_STR(meets(c, clients[i], "x.b.example", NULL), "wild");
		CHECK_STR(meets(c, clients[i], "x.y.b.example", NULL), "a");
		CHECK_STR(meets(c, clients[i], ".b.example", NULL), "a");
		CHECK_STR(meets(c, clients[i], "*.b.example", NULL), "wild");
		CHECK_STR(meets(c, clients[i], "unknown", NULL), "a");
		CHECK_STR(meets(nameless, clients[i], NULL, NULL), "b");
		CHECK_STR(meets(nameless, clients[i], "unknown", NULL), "b");
		CHECK_STR(meets(nameless, clients[i], "b.example", NULL), "b");
		CHECK_STR(meets(nameless, clients[i], "a.example", NULL), "a");
	}
	tls_context_free(c);
	tls_context_free(nameless);
}

CASE(two_kinds_of_keys_stand_side_by_side)
{
	SSL_CTX *const clients[] = { any_12, any_13 };
	const char *pa = put_made("a", &a, NULL, true, NULL),
		   *pb = put_made("b", &b, &ca, true, NULL),
		   *pr = put_made("r", &rsa, NULL, true, NULL);
	struct tls_context *c = MAKE(.cert = { pa, pr, named("x.org", pr), named("x.org", pb) });

	for (int i = 0; i < 2; i++) {
		CHECK_STR(meets(c, clients[i], NULL, "ECDSA+SHA256"), "a");
		CHECK_STR(meets(c, clients[i], NULL, "RSA-PSS+SHA256"), "rsa");
		CHECK_STR(meets(c, clients[i], "x.org", "ECDSA+SHA256"), "b");
		CHECK_STR(meets(c, clients[i], "x.org", "RSA-PSS+SHA256"), "rsa");
	}
	tls_context_free(c);
}

CASE(each_certificate_sends_its_own_chain_and_no_other)
{
	struct made leaf = make_cert((struct make){ .cn = "leaf", .issuer = &mid });
	/* who may sign clients has nothing to do with who signed us */
	struct tls_context *c = MAKE(.cert = { put_made("leaf", &leaf, &mid, true, NULL),
					 put_made("r", &rsa, NULL, true, NULL),
					 named("bare", put_made("bare", &leaf, NULL, true, NULL)) },
	    .ca = put_made("ca", &ca, &mid, false, NULL));
	static const struct {
		const char *name, *sigalgs;
		int chain;
	} tries[] = { { NULL, "ECDSA+SHA256", 2 }, { NULL, "RSA-PSS+SHA256", 1 },
		{ "bare", "ECDSA+SHA256", 1 } };
	struct pair p;

	for (int i = 0; i < 3; i++) {
		pair_tcp(&p, c, any_13, 0);
		SSL_set_tlsext_host_name(p.c, tries[i].name);
		SSL_set1_sigalgs_list(p.c, tries[i].sigalgs);
		CHECK(pair_shake(&p));
		CHECK_INT(sk_X509_num(SSL_get_peer_cert_chain(p.c)), tries[i].chain);
		pair_end(&p);
	}
	tls_context_free(c);
	made_end(&leaf);
}

/* ---- clients are judged ---- */

static int asked;

static int
count_request(SSL *ssl, void *arg)
{
	(void)ssl;
	(void)arg;
	asked++;
	return 1;
}

/* Both handshakes with a client that shows m (NULL: none).  In TLS 1.3 the client is done first. */
static bool
shows(struct pair *p, struct tls_context *c, SSL_CTX *client, const struct made *m)
{
	bool done;

	asked = 0;
	pair_tcp(p, c, client, 0);
	SSL_set_cert_cb(p->c, count_request, NULL);
	if (m) {
		SSL_use_certificate(p->c, m->cert);
		SSL_use_PrivateKey(p->c, m->key);
	}
	done = pair_shake(p);
	CHECK(done == (p->served == 0));
	return done;
}

CASE(clients_are_judged_as_the_policy_says)
{
	SSL_CTX *const clients[] = { any_12, any_13 };
	struct made good = make_cert((struct make){ .cn = "good", .issuer = &ca }),
		    wrong = make_cert((struct make){ .cn = "wrong", .issuer = &other_ca }),
		    old = make_cert((struct make){
			.cn = "old", .issuer = &ca, .from = -2 * FOREVER, .to = -FOREVER });
	const char *pa = put_made("a", &a, NULL, true, NULL),
		   *pca = put_made("ca", &ca, NULL, false, NULL);
	struct tls_context *none =
			       MAKE(.cert = { pa }, .ca = pca, .policy = { .verify = TLS_NONE }),
			   *any = MAKE(.cert = { pa }), *request = MAKE(.cert = { pa }, .ca = pca),
			   *require =
			       MAKE(.cert = { pa }, .ca = pca, .policy = { .verify = TLS_REQUIRE }),
			   *some = MAKE(.cert = { pa }, .policy = { .verify = TLS_REQUIRE });
	struct pair p;

	for (int i = 0; i < 2; i++) {
		SSL_CTX *client = clients[i];
		const struct {
			struct tls_context *by;
			const struct made *shown;
			const char *verdict, *refusal;
		} cells[] = {
			{ none, &good, "NONE", NULL },
			{ any, NULL, "NONE", NULL },
			{ any, &good, "GENEROUS", NULL },
			{ any, &old, "GENEROUS", NULL },
			{ request, NULL, "NONE", NULL },
			{ request, &good, "SUCCESS", NULL },
			{ request, &wrong, "FAILED:", NULL },
			{ request, &old, "FAILED:certificate has expired", NULL },
			{ require, &good, "SUCCESS", NULL },
			{ require, &wrong, NULL, "CN=wrong" },
			{ require, &old, NULL, "expired" },
			{ require, NULL, NULL, "certificate" },
			{ some, &wrong, "GENEROUS", NULL },
			{ some, NULL, NULL, "certificate" },
		};

		for (size_t k = 0; k < sizeof(cells) / sizeof(*cells); k++) {
			const char *got, *want = cells[k].verdict;
			bool through = shows(&p, cells[k].by, client, cells[k].shown);

			CHECK_INT(asked, cells[k].by != none);
			CHECK(through == !cells[k].refusal);
			if (cells[k].refusal) {
				CHECK_INT(p.served, -EPROTO);
				CHECK(reason_has(&p, cells[k].refusal));
			} else if (!(got = env_of(&p, "SSL_CLIENT_VERIFY")) ||
				   strncmp(got, want, strlen(want))) {
				printf("# cell %zu: %s, not %s\n", k, got, want);
				check_failed++;
			}
			pair_end(&p);
		}
	}
	tls_context_free(none);
	tls_context_free(any);
	tls_context_free(request);
	tls_context_free(require);
	tls_context_free(some);
	made_end(&good);
	made_end(&wrong);
	made_end(&old);
}

static int named_cas;

static int
count_names(SSL *ssl, void *arg)
{
	(void)arg;
	named_cas = sk_X509_NAME_num(SSL_get0_peer_CA_list(ssl));
	return 1;
}

CASE(cas_are_named_if_they_are_given)
{
	SSL_CTX *const clients[] = { any_12, any_13 };
	const char *pa = put_made("a", &a, NULL, true, NULL);
	struct tls_context *without = MAKE(.cert = { pa }),
			   *with = MAKE(.cert = { pa },
			       .ca = put_made("cas", &ca, &other_ca, false, NULL));
	struct pair p;

	for (int i = 0; i < 4; i++) {
		named_cas = -1;
		pair_tcp(&p, i / 2 ? with : without, clients[i % 2], 0);
		SSL_set_cert_cb(p.c, count_names, NULL);
		CHECK(pair_shake(&p));
		CHECK(i / 2 ? named_cas == 2 : named_cas <= 0);
		pair_end(&p);
	}
	tls_context_free(without);
	tls_context_free(with);
}

/* ---- the client's side ---- */

static SSL_CTX *
server_of(const struct made *m, const struct made *chain)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	SSL_CTX_use_certificate(ctx, m->cert);
	SSL_CTX_use_PrivateKey(ctx, m->key);
	if (chain)
		SSL_CTX_add1_chain_cert(ctx, chain->cert);
	return ctx;
}

static char sni[256]; /* what the last server was asked for */

/* What came of our client's handshake with the server. */
static int
visit(SSL_CTX *server, struct given g)
{
	struct tls_context *c;
	const char *name;
	struct pair p;
	int r;

	g.policy.client = true;
	c = make(g);
	CHECK(tls_context_is_client(c));
	pair_tcp(&p, c, server, 0);
	pair_shake(&p);
	r = p.served;
	msg[0] = '\0';
	if (r < 0)
		snprintf(msg, sizeof(msg), "%s", p.t->ops->reason(p.t));
	else
		snprintf(msg, sizeof(msg), "%s", env_of(&p, "SSL_SERVER_VERIFY"));
	name = SSL_get_servername(p.c, TLSEXT_NAMETYPE_host_name);
	snprintf(sni, sizeof(sni), "%s", name ? name : "");
	pair_end(&p);
	tls_context_free(c);
	return r;
}
#define VISIT(server, ...) visit(server, (struct given){ __VA_ARGS__ })

CASE(a_server_is_verified_by_its_chain_and_its_name)
{
	struct made leaf = make_cert((struct make){ .cn = "leaf",
	    .issuer = &mid,
	    .san = "DNS:www.example.org,DNS:*.wild.org,DNS:f*.part.org,IP:10.0.0.1,IP:fe80::1" });
	struct made self = make_cert((struct make){ .cn = "self", .san = "DNS:self" });
	struct made old =
	    make_cert((struct make){ .issuer = &ca, .san = "DNS:old", .from = -9999, .to = -9 });
	SSL_CTX *server = server_of(&leaf, &mid), *alone = server_of(&self, NULL),
		*late = server_of(&old, NULL);
	const char *pca = put_made("ca", &ca, NULL, false, NULL),
		   *pmid = put_made("mid", &mid, NULL, false, NULL),
		   *pother = put_made("other", &other_ca, NULL, false, NULL),
		   *pself = put_made("self", &self, NULL, false, NULL);

	static const char *const good[] = { "www.example.org", "WWW.example.ORG",
		"www.example.org.", "a.wild.org", "10.0.0.1", "fe80::1", "fe80:0::1%eth0" };
	static const char *const wrong[] = { "example.org", "a.b.wild.org", "wild.org",
		"foo.part.org", "10.0.0.2", "fe80::2", "leaf" };

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		CHECK_INT(VISIT(server, .ca = pca, .check = { .name = good[i] }), 0);
		CHECK_STR(msg, "SUCCESS");
		CHECK_INT(strcspn(sni, "."), i < 4 ? strcspn(good[i], ".") : 0);
		CHECK(!*sni || sni[strlen(sni) - 1] != '.');
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		CHECK_INT(VISIT(server, .ca = pca, .check = { .name = wrong[i] }), -EKEYREJECTED);
		CHECK(strstr(msg, "is for other names (DNS:www.example.org"));
	}
	CHECK_INT(VISIT(server, .ca = pca), 0); /* no name, no check of it */
	CHECK_STR(sni, "");
	CHECK_INT(VISIT(server, .ca = pother, .check = { .name = good[0] }), -EKEYREJECTED);
	CHECK_INT(VISIT(server, .ca = NULL, .check = { .name = good[0] }), -EKEYREJECTED);
	CHECK_INT(VISIT(server, .ca = pmid, .check = { .name = good[0] }),
	    0); /* an intermediate is trusted as such */
	CHECK_INT(VISIT(alone, .ca = pself, .check = { .name = "self" }), 0);
	CHECK_INT(VISIT(alone, .ca = pself, .check = { .name = "selfish" }), -EKEYREJECTED);
	CHECK_INT(VISIT(alone, .ca = pca, .check = { .name = "self" }), -EKEYREJECTED);
	CHECK_INT(VISIT(late, .ca = pca, .check = { .name = "old" }), -EKEYREJECTED);
	CHECK(strstr(msg, "expired"));
	CHECK_INT(VISIT(late, .ca = pother, .policy = { .verify = TLS_NONE },
		      .check = { .name = "else" }),
	    0);
	CHECK_STR(msg, "GENEROUS");
	CHECK_STR(sni, "else");
	SSL_CTX_free(server);
	SSL_CTX_free(alone);
	SSL_CTX_free(late);
	made_end(&leaf);
	made_end(&self);
	made_end(&old);
}

/* The server's certificate is for servers: one for clients only does not pass, nor the other way
 * round. */
CASE(a_certificate_has_to_be_for_its_purpose)
{
	struct made m = make_cert((struct make){ .issuer = &ca, .san = "DNS:x" });
	const char *pca = put_made("ca", &ca, NULL, false, NULL);
	struct tls_context *require;
	SSL_CTX *server;
	struct pair p;

	made_ext(m.cert, NID_ext_key_usage, "clientAuth");
	X509_sign(m.cert, ca.key, EVP_sha256());
	server = server_of(&m, NULL);
	CHECK_INT(VISIT(server, .ca = pca, .check = { .name = "x" }), -EKEYREJECTED);
	require = MAKE(.cert = { put_made("a", &a, NULL, true, NULL) }, .ca = pca,
	    .policy = { .verify = TLS_REQUIRE });
	CHECK(shows(&p, require, any_13, &m));
	pair_end(&p);
	tls_context_free(require);
	SSL_CTX_free(server);
	made_end(&m);
}

static void
pin_of(char *pin, const unsigned char sum[32], bool base64)
{
	int n = snprintf(pin, 80, "sha256:");

	if (base64)
		EVP_EncodeBlock((unsigned char *)pin + n, sum, 32);
	for (int i = 0; !base64 && i < 32; i++)
		n += snprintf(pin + n, 80 - (size_t)n, i % 2 ? "%02x" : "%02X", sum[i]);
}

CASE(a_pin_is_of_the_key_or_of_the_whole_certificate)
{
	struct made m = make_cert((struct make){ .issuer = &ca, .san = "DNS:x" });
	SSL_CTX *server = server_of(&m, NULL);
	const char *pca = put_made("ca", &ca, NULL, false, NULL);
	char pin[4][80], no[80] = "sha256:";
	const char *list[2] = { no };
	unsigned char sum[32], *der = NULL;
	int n = i2d_PUBKEY(m.key, &der);

	memset(no + 7, '0', 64);
	EVP_Digest(der, (size_t)n, sum, NULL, EVP_sha256(), NULL);
	OPENSSL_free(der);
	pin_of(pin[0], sum, false);
	pin_of(pin[1], sum, true);
	X509_digest(m.cert, EVP_sha256(), sum, NULL);
	pin_of(pin[2], sum, false);
	pin_of(pin[3], sum, true);
	for (int i = 0; i < 4; i++) {
		list[1] = pin[i];
		CHECK_INT(tls_pin_check(pin[i]), 0);
		CHECK_INT(VISIT(server, .ca = pca, .check = { "x", list, 2 }), 0);
		CHECK_INT(
		    VISIT(server, .policy = { .verify = TLS_NONE }, .check = { "y", list, 2 }), 0);
		CHECK_STR(msg, "SUCCESS");
		CHECK_INT(VISIT(server, .ca = pca, .check = { "y", list, 2 }), -EKEYREJECTED);
	}
	CHECK_INT(VISIT(server, .ca = pca, .check = { "x", list, 1 }), -EKEYREVOKED);
	CHECK_INT(VISIT(server, .policy = { .verify = TLS_NONE }, .check = { "x", list, 1 }),
	    -EKEYREVOKED);
	SSL_CTX_free(server);
	made_end(&m);
}

CASE(what_is_no_pin_is_refused)
{
	char pin[128] = "sha256:";

	memset(pin + 7, 'a', 64);
	CHECK_INT(tls_pin_check(pin), 0);
	pin[70] = 'g';
	CHECK_INT(tls_pin_check(pin), -EINVAL);
	pin[70] = '\0';
	CHECK_INT(tls_pin_check(pin), -EINVAL);
	strcpy(pin + 7 + 43, "=");
	CHECK_INT(tls_pin_check(pin), 0);
	pin[7 + 43] = 'a';
	CHECK_INT(tls_pin_check(pin), -EINVAL);
	strcpy(pin + 7 + 42, "==");
	CHECK_INT(tls_pin_check(pin), -EINVAL);
	strcpy(pin + 7 + 42, "!=");
	CHECK_INT(tls_pin_check(pin), -EINVAL);
	CHECK_INT(tls_pin_check("sha1:aa"), -EINVAL);
	CHECK_INT(tls_pin_check(""), -EINVAL);
}

CASE(a_client_shows_its_certificate_and_asks_for_protocols)
{
	struct made me = make_cert((struct make){ .cn = "me", .issuer = &mid });
	const char *const alpn[] = { "h2", "http/1.1" };
	struct given g = { .cert = { put_made("me", &me, &mid, true, NULL) },
		.policy = { .client = true, .verify = TLS_NONE, .alpn = alpn, .n_alpn = 2 } };
	struct tls_context *c = make(g),
			   *ours = MAKE(.cert = { put_made("a", &a, NULL, true, NULL) },
			       .ca = put_made("ca", &ca, NULL, false, NULL),
			       .policy = { .verify = TLS_REQUIRE, .alpn = alpn + 1, .n_alpn = 1 });
	struct transport *t[2];
	struct env env = { 0 };
	int fd[2], r[2] = { -EAGAIN, -EAGAIN };

	unix_pair(fd);
	CHECK_INT(tls_link_new(&t[0], ours, fd[0], fd[0], true), 0);
	CHECK_INT(tls_link_new(&t[1], c, fd[1], fd[1], true), 0);
	for (int turn = 0; turn < 20 && (r[0] || r[1]); turn++) {
		t[turn % 2]->ready = TP_READ | TP_WRITE;
		if (r[turn % 2])
			r[turn % 2] = t[turn % 2]->ops->handshake(t[turn % 2]);
	}
	CHECK_INT(r[0], 0);
	CHECK_INT(r[1], 0);
	t[0]->ops->facts(t[0], &env);
	CHECK_STR(env_get(&env, "SSL_CLIENT_S_DN"), "CN=me");
	CHECK_STR(env_get(&env, "SSL_CLIENT_VERIFY"), "SUCCESS");
	CHECK_STR(env_get(&env, "CCF_ALPN"), "http/1.1");
	env_free(&env);
	t[1]->ops->close(t[1], false);
	t[0]->ops->close(t[0], false);
	tls_context_free(c);
	tls_context_free(ours);
	made_end(&me);
}

CASE(secrets_are_logged_where_they_are_asked_for)
{
	struct made m = make_cert((struct make){ .issuer = &ca, .san = "DNS:x" });
	SSL_CTX *server = server_of(&m, NULL);
	const char *path = in_dir("keys"), *pca = put_made("ca", &ca, NULL, false, NULL);
	char text[4096] = "";
	struct stat st;
	FILE *f;

	CHECK_INT(tls_keylog("/nonexistent/keys"), -ENOENT);
	put_file("keys", "# before\n");
	unlink(path);
	CHECK_INT(tls_keylog(path), 0);
	CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
	CHECK_INT(VISIT(server, .ca = pca, .check = { .name = "x" }), 0);
	f = fopen(path, "r");
	CHECK(f && fread(text, 1, sizeof(text) - 1, f) > 0);
	if (f)
		fclose(f);
	CHECK(strstr(text, "CLIENT_HANDSHAKE_TRAFFIC_SECRET "));
	CHECK(strstr(text, "\nSERVER_TRAFFIC_SECRET_0 "));
	CHECK(text[strlen(text) - 1] == '\n');
	CHECK_INT(tls_keylog("/dev/null"), 0);
	SSL_CTX_free(server);
	made_end(&m);
}

/* ---- tickets ---- */

/* A client's visit: with the session, or without (NULL), and what it took with it. */
static bool
resumes(struct tls_context *c, SSL_CTX *client, SSL_SESSION *with, SSL_SESSION **ret)
{
	struct pair p;
	size_t n;
	char byte;
	bool reused;

	pair_tcp(&p, c, client, 0);
	if (with)
		SSL_set_session(p.c, with);
	CHECK(pair_shake(&p));
	CHECK(server_says(&p, "x", 1)); /* tickets of TLS 1.3 come before it */
	client_reads(&p, &byte, 1, &n);
	reused = SSL_session_reused(p.c);
	CHECK_STR(env_of(&p, "SSL_SESSION_RESUMED"), reused ? "Resumed" : "Initial");
	if (ret) {
		*ret = SSL_get1_session(p.c);
		CHECK_INT(SSL_SESSION_get_max_early_data(*ret), 0);
	}
	SSL_set_shutdown(p.c, SSL_SENT_SHUTDOWN); /* or its session would count as broken */
	pair_end(&p);
	return reused;
}

static struct material *
through_memory(const struct material *m)
{
	struct material *copy = NULL;
	int fd = -1;

	CHECK_INT(material_seal(m, &fd), 0);
	CHECK_INT(material_open(&copy, fd), 0);
	close(fd);
	return copy;
}

CASE(a_session_goes_on_with_another_worker_until_its_key_is_gone)
{
	SSL_CTX *const clients[] = { any_12, any_13 };
	struct given g = { .cert = { put_made("a", &a, NULL, true, NULL) },
		.policy = { .tickets = 3600 } };
	struct material *m, *copy;
	struct tls_context *c;
	SSL_SESSION *s, *renewed, *before = NULL;

	for (int i = 0; i < 2; i++) {
		m = material(&g);
		CHECK_INT(material_rotate(m, NULL), 0);
		c = over(g, m);
		CHECK(!resumes(c, clients[i], NULL, &s));
		CHECK(SSL_SESSION_has_ticket(s));
		CHECK(resumes(c, clients[i], s, NULL));
		tls_context_free(c);
		for (int rotated = 0; rotated <= TICKET_KEYS; rotated++) {
			copy = through_memory(m);
			c = over(g, copy);
			CHECK(resumes(c, clients[i], s, &renewed) == (rotated < TICKET_KEYS));
			if (before) /* it has a ticket of the key that was the first then */
				CHECK(resumes(c, clients[i], before, NULL));
			SSL_SESSION_free(before);
			before = renewed;
			tls_context_free(c);
			material_free(copy);
			CHECK_INT(material_rotate(m, m), 0);
		}
		SSL_SESSION_free(before);
		before = NULL;
		SSL_SESSION_free(s);
		material_free(m);
	}
}

CASE(no_session_outlives_the_cas_that_judged_it)
{
	SSL_CTX *const clients[] = { any_12, any_13 };
	struct given g = { .cert = { put_made("a", &a, NULL, true, NULL) },
		.ca = put_made("ca", &ca, NULL, false, NULL),
		.policy = { .tickets = 3600 } };
	struct given h = g;
	struct material *m = material(&g), *n;
	struct tls_context *c, *d;
	SSL_SESSION *s;

	h.ca = put_made("other", &other_ca, NULL, false, NULL);
	n = material(&h);
	CHECK_INT(material_rotate(m, NULL), 0);
	material_keep_tickets(n, m);
	c = over(g, m);
	d = over(h, n);
	for (int i = 0; i < 2; i++) {
		CHECK(!resumes(c, clients[i], NULL, &s));
		CHECK(!resumes(d, clients[i], s, NULL));
		CHECK(resumes(c, clients[i], s, NULL));
		SSL_SESSION_free(s);
	}
	tls_context_free(c);
	tls_context_free(d);
	material_free(m);
	material_free(n);
}

CASE(without_keys_there_are_no_tickets)
{
	SSL_CTX *const clients[] = { any_12, any_13 };
	struct tls_context *c =
	    MAKE(.cert = { put_made("a", &a, NULL, true, NULL) }, .policy = { .tickets = 3600 });
	SSL_SESSION *s;

	for (int i = 0; i < 2; i++) {
		CHECK(!resumes(c, clients[i], NULL, &s));
		CHECK(!SSL_SESSION_has_ticket(s));
		CHECK(!resumes(c, clients[i], s, NULL));
		SSL_SESSION_free(s);
	}
	tls_context_free(c);
}

CASE(a_cut_is_an_alert_with_tickets_too)
{
	struct given g = { .cert = { put_made("a", &a, NULL, true, NULL) },
		.policy = { .tickets = 3600 } };
	struct material *m = material(&g);
	struct tls_context *c;
	struct pair p;
	char byte;
	size_t n;

	CHECK_INT(material_rotate(m, NULL), 0);
	c = over(g, m);
	pair_tcp(&p, c, any_13, 0);
	CHECK(pair_shake(&p));
	p.t->ops->close(p.t, true);
	p.t = NULL;
	CHECK_INT(client_reads(&p, &byte, 1, &n), SSL_ERROR_SSL);
	CHECK_INT(ERR_GET_REASON(ERR_peek_error()), SSL_R_TLSV1_ALERT_INTERNAL_ERROR);
	ERR_clear_error();
	pair_end(&p);
	tls_context_free(c);
	material_free(m);
}

/* ---- the rest ---- */

CASE(links_outlive_their_context)
{
	const char *const alpn[] = { "http/1.1" };
	struct given g = { .cert = { put_made("a", &a, NULL, true, NULL),
			       named("localhost", put_made("b", &b, NULL, true, NULL)) },
		.ca = put_made("ca", &ca, NULL, false, NULL),
		.policy = { .alpn = alpn, .n_alpn = 1, .tickets = 3600 } };
	struct material *m = material(&g);
	struct tls_context *server;
	const unsigned char *got;
	struct pair p;
	unsigned n;

	CHECK_INT(material_rotate(m, NULL), 0);
	server = over(g, m);
	material_free(m);
	pair_tcp(&p, server, any_13, 0);
	SSL_set_alpn_protos(p.c, (const unsigned char *)"\x08http/1.1", 9);
	tls_context_free(server);
	CHECK(pair_shake(&p));
	SSL_get0_alpn_selected(p.c, &got, &n);
	CHECK(n == 8 && !memcmp(got, "http/1.1", 8));
	pair_end(&p);
}

CASE(what_cannot_serve_is_refused_with_its_file)
{
	struct made weak = make_rsa("weak");
	const char *path;

	EVP_PKEY_free(weak.key);
	weak.key = EVP_RSA_gen(1024);
	X509_set_pubkey(weak.cert, weak.key);
	X509_sign(weak.cert, weak.key, EVP_sha256());
	path = put_made("weak", &weak, NULL, true, NULL);
	CHECK_INT(try((struct given){
		      .cert = { put_made("a", &a, NULL, true, NULL), named("x", path) } }),
	    -EKEYREJECTED);
	CHECK(!strncmp(msg, path, strlen(path)) && strstr(msg, "key too small"));
	CHECK_INT(try((struct given){ 0 }), -EINVAL);
	CHECK(strstr(msg, "certificate"));
	CHECK_INT(try((struct given){ .cert = { path }, .policy = { .ciphers = "X" } }), -EINVAL);
	CHECK(strstr(msg, "--ciphers"));
	CHECK_INT(try((struct given){ .policy = { .client = true } }), 0);
	CHECK_INT(
	    try((struct given){ .policy = { .client = true }, .check = { .name = "" } }), -EINVAL);
	made_end(&weak);
}

CASE(the_version_names_the_library)
{
	char buf[64];

	tls_about(buf, sizeof(buf));
	CHECK(!strncmp(buf, "OpenSSL ", 8));
}

int
main(void)
{
	int r;

	dir_make();
	ca = make_cert((struct make){ .cn = "the ca", .ca = true });
	other_ca = make_cert((struct make){ .cn = "another ca", .ca = true });
	mid = make_cert((struct make){ .cn = "mid", .ca = true, .issuer = &ca });
	a = make_cert((struct make){ .cn = "a" });
	b = make_cert((struct make){ .cn = "b" });
	wild = make_cert((struct make){ .cn = "wild" });
	rsa = make_rsa("rsa");
	any_12 = trusting(TLS1_2_VERSION);
	any_13 = trusting(TLS1_3_VERSION);
	r = check_main((struct check_case[]){
	    RUN(a_certificate_is_chosen_by_server_name),
	    RUN(two_kinds_of_keys_stand_side_by_side),
	    RUN(each_certificate_sends_its_own_chain_and_no_other),
	    RUN(clients_are_judged_as_the_policy_says),
	    RUN(cas_are_named_if_they_are_given),
	    RUN(a_server_is_verified_by_its_chain_and_its_name),
	    RUN(a_certificate_has_to_be_for_its_purpose),
	    RUN(a_pin_is_of_the_key_or_of_the_whole_certificate),
	    RUN(what_is_no_pin_is_refused),
	    RUN(a_client_shows_its_certificate_and_asks_for_protocols),
	    RUN(secrets_are_logged_where_they_are_asked_for),
	    RUN(a_session_goes_on_with_another_worker_until_its_key_is_gone),
	    RUN(no_session_outlives_the_cas_that_judged_it),
	    RUN(without_keys_there_are_no_tickets),
	    RUN(a_cut_is_an_alert_with_tickets_too),
	    RUN(links_outlive_their_context),
	    RUN(what_cannot_serve_is_refused_with_its_file),
	    RUN(the_version_names_the_library),
	    { 0 },
	});
	SSL_CTX_free(any_12);
	SSL_CTX_free(any_13);
	made_end(&ca);
	made_end(&other_ca);
	made_end(&mid);
	made_end(&a);
	made_end(&b);
	made_end(&wild);
	made_end(&rsa);
	dir_end();
	certs_done();
	return r;
}
