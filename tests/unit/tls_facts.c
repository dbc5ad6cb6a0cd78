#include <openssl/err.h>
#include <stdbool.h>
#include <time.h>

#include "base/env.h"
#include "check.h"
#include "tls/cert.h"
#include "tls/facts.h"
#include "tls/policy.h"
#include "tls_made.h"

static struct made server, authority;

/* ---- two sides in one process ---- */

struct two {
	SSL *s, *c;
};

static int
as_told(X509_STORE_CTX *store, void *arg)
{
	X509_STORE_CTX_set_error(store, *(int *)arg);
	return 1;
}

/* verify: what the server's callback says about any certificate. */
static void
two_begin(struct two *t, const struct made *client, int *verify, SSL_SESSION *session)
{
	static SSL_CTX *s, *c;
	BIO *sb, *cb;

	if (!s) {
		s = SSL_CTX_new(TLS_server_method());
		c = SSL_CTX_new(TLS_client_method());
		SSL_CTX_use_certificate(s, server.cert);
		SSL_CTX_use_PrivateKey(s, server.key);
		SSL_CTX_set_session_id_context(s, (const unsigned char *)"x", 1);
		SSL_CTX_set_max_cert_list(s, 256 * 1024);
		hello_watch(s);
		hello_watch(c);
	}
	SSL_CTX_set_verify(s, verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_cert_verify_callback(s, as_told, verify);
	t->s = SSL_new(s);
	t->c = SSL_new(c);
	if (client) {
		SSL_use_certificate(t->c, client->cert);
		SSL_use_PrivateKey(t->c, client->key);
	}
	if (session)
		SSL_set_session(t->c, session);
	BIO_new_bio_pair(&sb, 128 * 1024, &cb, 128 * 1024);
	SSL_set_bio(t->s, sb, sb);
	SSL_set_bio(t->c, cb, cb);
	SSL_set_accept_state(t->s);
	SSL_set_connect_state(t->c);
	SSL_set_tlsext_host_name(t->c, "localhost");
}

static bool
two_shake(struct two *t)
{
	for (int i = 0; i < 20; i++) {
		int c = SSL_do_handshake(t->c), s = SSL_do_handshake(t->s);

		ERR_clear_error();
		if (c == 1 && s == 1)
			return true;
	}
	return false;
}

static void
two_end(struct two *t)
{
	SSL_free(t->s);
	SSL_free(t->c);
}

static void
facts_of_client(struct env *env, const struct made *client, int verdict)
{
	struct two t;

	*env = (struct env){ 0 };
	two_begin(&t, client, &verdict, NULL);
	CHECK(two_shake(&t));
	facts_env(t.s, env);
	two_end(&t);
}

/* Nothing but the PEM may have lines, and nothing may have anything but printable ASCII. */
static void
all_plain(const struct env *env)
{
	for (const char *p = env_next(env, NULL); p; p = env_next(env, p)) {
		bool pem = !strncmp(p, "SSL_CLIENT_CERT=", 16);

		for (const char *q = p; *q; q++)
			if ((*q < ' ' && !(pem && *q == '\n')) || *q > '~') {
				printf("# byte %d in %.60s\n", *q, p);
				check_failed++;
				break;
			}
	}
}

/* ---- the environment ---- */

CASE(every_fact_of_a_client_with_a_certificate)
{
	struct made client = make_cert((struct make){ .cn = "client one",
	    .org = "tests",
	    .san = "DNS:a.example, IP:192.0.2.1, IP:2001:db8::1, URI:urn:x, email:a@b, RID:1.2.3",
	    .issuer = &authority });
	char digest[CERT_HEX];
	struct env env;

	facts_of_client(&env, &client, X509_V_OK);
	cert_sha256(client.cert, digest);
	CHECK_STR(env_get(&env, "SSL_PROTOCOL"), "TLSv1.3");
	CHECK_STR(env_get(&env, "SSL_CIPHER"), "TLS_AES_256_GCM_SHA384");
	CHECK_STR(env_get(&env, "SSL_SESSION_RESUMED"), "Initial");
	CHECK_STR(env_get(&env, "SSL_TLS_SNI_SERVERNAME"), "localhost");
	CHECK_STR(env_get(&env, "SSL_CLIENT_VERIFY"), "SUCCESS");
	CHECK_STR(env_get(&env, "SSL_CLIENT_S_DN"), "CN=client one,O=tests");
	CHECK_STR(env_get(&env, "SSL_CLIENT_I_DN"), "CN=authority");
	CHECK_STR(env_get(&env, "SSL_PEER_CERT_CN"), "client one");
	CHECK_STR(env_get(&env, "CCF_CLIENT_SANS"),
	    "DNS:a.example, IP:192.0.2.1, IP:2001:db8::1, URI:urn:x, email:a@b, RID:1.2.3");
	CHECK_STR(env_get(&env, "CCF_CLIENT_SHA256"), digest);
	CHECK_INT(strlen(digest), 64);
	CHECK(!strncmp(env_get(&env, "SSL_CLIENT_CERT"), "-----BEGIN CERTIFICATE-----\n", 28));
	CHECK(!env_get(&env, "SSL_SERVER_CERT"));
	CHECK(!env_get(&env, "CCF_OMITTED"));
	all_plain(&env);
	env_free(&env);
	made_end(&client);
}

CASE(a_client_finds_the_same_of_its_server)
{
	struct env env = { 0 };
	struct two t;

	two_begin(&t, NULL, NULL, NULL);
	CHECK(two_shake(&t));
	facts_env(t.c, &env);
	CHECK_STR(env_get(&env, "SSL_TLS_SNI_SERVERNAME"), "localhost");
	CHECK(!strncmp(env_get(&env, "SSL_SERVER_VERIFY"), "FAILED:", 7));
	CHECK_STR(env_get(&env, "SSL_SERVER_S_DN"), "CN=server");
	CHECK_STR(env_get(&env, "SSL_SERVER_I_DN"), "CN=authority");
	CHECK_STR(env_get(&env, "CCF_SERVER_SANS"), "DNS:localhost");
	CHECK_INT(strlen(env_get(&env, "CCF_SERVER_SHA256")), 64);
	CHECK(env_get(&env, "SSL_SERVER_CERT"));
	CHECK_STR(env_get(&env, "SSL_PEER_CERT_CN"), "server");
	CHECK(!env_get(&env, "SSL_CLIENT_VERIFY"));
	CHECK(!env_get(&env, "SSL_CLIENT_CERT"));
	two_end(&t);
	env_free(&env);
}

CASE(the_verdict_has_the_words_of_mod_ssl)
{
	struct made client = make_cert((struct make){ .issuer = &authority });
	struct env env;

	facts_of_client(&env, NULL, X509_V_OK);
	CHECK_STR(env_get(&env, "SSL_CLIENT_VERIFY"), "NONE");
	CHECK(!env_get(&env, "SSL_CLIENT_CERT"));
	env_free(&env);
	facts_of_client(&env, &client, FACTS_UNJUDGED);
	CHECK_STR(env_get(&env, "SSL_CLIENT_VERIFY"), "GENEROUS");
	env_free(&env);
	facts_of_client(&env, &client, X509_V_ERR_CERT_HAS_EXPIRED);
	CHECK_STR(env_get(&env, "SSL_CLIENT_VERIFY"), "FAILED:certificate has expired");
	env_free(&env);
	made_end(&client);
}

CASE(a_resumed_session_tells_the_certificate_and_the_verdict_of_the_first)
{
	static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
	static const struct {
		bool cert;
		int verdict;
		const char *says;
	} was[] = { { true, X509_V_OK, "SUCCESS" }, { true, FACTS_UNJUDGED, "GENEROUS" },
		{ true, X509_V_ERR_CERT_HAS_EXPIRED, "FAILED:certificate has expired" },
		{ false, X509_V_OK, "NONE" } };
	struct made client = make_cert((struct make){ .cn = "one", .issuer = &authority });

	for (size_t i = 0; i < 8; i++) {
		const struct made *shows = was[i / 2].cert ? &client : NULL;
		int verdict = was[i / 2].verdict;
		struct env env = { 0 };
		SSL_SESSION *session;
		struct two t;
		char byte;

		two_begin(&t, shows, &verdict, NULL);
		SSL_set_max_proto_version(t.c, versions[i % 2]);
		CHECK(two_shake(&t));
		SSL_read(t.c, &byte, 1); /* the ticket */
		SSL_shutdown(t.c);
		session = SSL_get1_session(t.c);
		two_end(&t);

		verdict = X509_V_ERR_CERT_REVOKED; /* nobody is asked again */
		two_begin(&t, shows, &verdict, session);
		SSL_set_max_proto_version(t.c, versions[i % 2]);
		CHECK(two_shake(&t));
		facts_env(t.s, &env);
		CHECK_STR(env_get(&env, "SSL_SESSION_RESUMED"), "Resumed");
		CHECK_STR(env_get(&env, "SSL_CLIENT_VERIFY"), was[i / 2].says);
		if (shows)
			CHECK_STR(env_get(&env, "SSL_CLIENT_S_DN"), "CN=one");
		CHECK(!env_get(&env, "SSL_CLIENT_CERT") == !shows);
		CHECK(!env_get(&env, "CCF_CLIENT_SHA256") == !shows);
		SSL_SESSION_free(session);
		two_end(&t);
		env_free(&env);
	}
	made_end(&client);
}

/* ---- hostile certificates ---- */

CASE(a_subject_makes_no_second_line_or_string)
{
	static const char cn[] = "a\nSSL_CLIENT_VERIFY=SUCCESS\0\r,+\"\\<>;\x7f\xc3\xa4";
	struct made client =
	    make_cert((struct make){ .cn = cn, .cn_len = sizeof(cn) - 1, .org = "\n() { :; }; x" });
	struct env env;

	facts_of_client(&env, &client, FACTS_UNJUDGED);
	CHECK_STR(env_get(&env, "SSL_CLIENT_VERIFY"), "GENEROUS");
	CHECK_STR(env_get(&env, "SSL_CLIENT_S_DN"),
	    "CN=a\\0ASSL_CLIENT_VERIFY=SUCCESS\\00\\0D\\,\\+\\\"\\\\\\<\\>\\;\\7F\\C3\\A4,"
	    "O=\\0A() { :\\; }\\; x");
	CHECK_STR(env_get(&env, "SSL_CLIENT_I_DN"), env_get(&env, "SSL_CLIENT_S_DN"));
	CHECK_STR(env_get(&env, "SSL_PEER_CERT_CN"),
	    "a\\0ASSL_CLIENT_VERIFY=SUCCESS\\00\\0D,+\"\\\\<>;\\7F\\C3\\A4");
	all_plain(&env);
	env_free(&env);
	made_end(&client);
}

CASE(a_common_name_is_no_program)
{
	struct made client = make_cert((struct make){ .cn = "() { :; }; echo x" });
	struct env env;

	facts_of_client(&env, &client, FACTS_UNJUDGED);
	CHECK_STR(env_get(&env, "SSL_PEER_CERT_CN"), "\\28) { :; }; echo x");
	CHECK_STR(env_get(&env, "SSL_CLIENT_S_DN"), "CN=() { :\\; }\\; echo x");
	env_free(&env);
	made_end(&client);
}

static void
add_san(X509 *x, int type, const char *bytes, int n)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	ASN1_STRING *s =
	    ASN1_STRING_type_new(type == GEN_IPADD ? V_ASN1_OCTET_STRING : V_ASN1_IA5STRING);
	GENERAL_NAME *name = GENERAL_NAME_new();

	if (!all)
		all = sk_GENERAL_NAME_new_null();
	ASN1_STRING_set(s, bytes, n);
	GENERAL_NAME_set0_value(name, type, s);
	sk_GENERAL_NAME_push(all, name);
	X509_add1_ext_i2d(x, NID_subject_alt_name, all, 0, X509V3_ADD_REPLACE);
	GENERAL_NAMES_free(all);
}

static void
add_dirname(X509 *x, X509_NAME *dn)
{
	GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
	GENERAL_NAME *name = GENERAL_NAME_new();

	GENERAL_NAME_set0_value(name, GEN_DIRNAME, dn);
	sk_GENERAL_NAME_push(all, name);
	X509_add1_ext_i2d(x, NID_subject_alt_name, all, 0, X509V3_ADD_REPLACE);
	GENERAL_NAMES_free(all);
}

CASE(an_alternative_name_cannot_pass_for_two)
{
	struct made client = make_cert((struct make){ .cn = "x" });
	char *sans;

	add_san(client.cert, GEN_DNS, "a, DNS:b\n\0c\\", 12);
	add_san(client.cert, GEN_URI, "\xc3\xa4 {", 4);
	add_san(client.cert, GEN_IPADD, "abc", 3);
	add_san(client.cert, GEN_DNS, "", 0);
	sans = cert_sans(client.cert, 4096);
	CHECK_STR(sans, "DNS:a\\2C\\20DNS:b\\0A\\00c\\5C, URI:\\C3\\A4\\20{, IP:abc, DNS:");
	free(sans);
	made_end(&client);

	client = make_cert((struct make){ .cn = "d, DNS:e", .org = "f" });
	add_dirname(client.cert, X509_NAME_dup(X509_get_subject_name(client.cert)));
	sans = cert_sans(client.cert, 4096);
	CHECK_STR(sans, "DirName:CN=d\\5C\\2C\\20DNS:e\\2CO=f");
	free(sans);
	made_end(&client);
	client = make_cert((struct make){ .san = "otherName:1.2.3.4;UTF8:x, DNS:y" });
	sans = cert_sans(client.cert, 4096);
	CHECK_STR(sans, "othername:1.2.3.4, DNS:y");
	free(sans);
	made_end(&client);
}

CASE(what_is_too_large_is_left_out_by_name)
{
	struct made client = make_cert((struct make){ .cn = "many", .names = 3000 });
	struct env env;

	facts_of_client(&env, &client, FACTS_UNJUDGED);
	CHECK(!env_get(&env, "CCF_CLIENT_SANS"));
	CHECK_STR(env_get(&env, "CCF_OMITTED"), "CCF_CLIENT_SANS");
	CHECK(env_get(&env, "SSL_CLIENT_CERT"));
	CHECK_STR(env_get(&env, "SSL_CLIENT_S_DN"), "CN=many");
	env_free(&env);
	made_end(&client);

	client = make_cert((struct make){ .cn = "long", .comment = 40 * 1024 });
	facts_of_client(&env, &client, FACTS_UNJUDGED);
	CHECK(!env_get(&env, "SSL_CLIENT_CERT"));
	CHECK_STR(env_get(&env, "CCF_OMITTED"), "SSL_CLIENT_CERT");
	CHECK_STR(env_get(&env, "SSL_CLIENT_S_DN"), "CN=long");
	CHECK_INT(strlen(env_get(&env, "CCF_CLIENT_SHA256")), 64);
	env_free(&env);
	made_end(&client);
}

/* ---- the leaf in a line ---- */

CASE(a_leaf_is_noted_with_its_digest_whatever_its_size)
{
	static char cn[64], org[64 * 4];
	struct made x;
	struct hello h = { .client = true };
	char digest[CERT_HEX];

	x = make_cert((struct make){ .cn = "a\nb", .san = "DNS:a, DNS:b" });
	cert_sha256(x.cert, digest);
	hello_leaf(&h, x.cert);
	CHECK(!strncmp(h.leaf, "CN=a\\0Ab, SHA-256 ", 18));
	CHECK_STR(h.leaf + 18, digest);
	CHECK_STR(h.names, "DNS:a, DNS:b");
	CHECK(!strncmp(h.pin, "sha256:", 7) && strlen(h.pin) == 71);
	CHECK(h.begins < time(NULL) && h.ends > time(NULL) + 86000);
	made_end(&x);

	memset(cn, 1, sizeof(cn));
	memset(org, 1, sizeof(org));
	x = make_cert((struct make){ .cn = cn, .cn_len = sizeof(cn), .names = 3000 });
	for (int i = 0; i < 3; i++)
		X509_NAME_add_entry_by_NID(X509_get_subject_name(x.cert), NID_organizationName,
		    MBSTRING_UTF8, (unsigned char *)org, 64, -1, 0);
	X509_sign(x.cert, x.key, EVP_sha256());
	cert_sha256(x.cert, digest);
	ERR_clear_error();
	hello_leaf(&h, x.cert);
	CHECK_INT(strlen(h.leaf), sizeof(h.leaf) - 1);
	CHECK(strstr(h.leaf, "..., SHA-256 "));
	CHECK_STR(h.leaf + strlen(h.leaf) - 64, digest);
	CHECK_INT(strlen(h.names), sizeof(h.names) - 1);
	CHECK(!strcmp(h.names + sizeof(h.names) - 4, "..."));
	CHECK_INT(ERR_peek_error(), 0);
	made_end(&x);
	hello_leaf(NULL, NULL);
}

/* ---- lines ---- */

#define SSL_ERR(reason) ERR_PACK(ERR_LIB_SSL, 0, reason)
static const char record[] = "\x16\x03\x01";

static void
line_is(int line, const struct hello *h, unsigned long err, const char *greeting, const char *want)
{
	char buf[2048];

	facts_failure(buf, sizeof(buf), h, err, greeting);
	if (strcmp(buf, want)) {
		printf("# line %d: \"%s\"\n# is not: \"%s\"\n", line, buf, want);
		check_failed++;
	}
}
#define LINE_IS(h, err, greeting, want) line_is(__LINE__, h, err, greeting, want)

static struct hello
of_server(void)
{
	return (struct hello){ .alert_got = -1,
		.alert_sent = -1,
		.version = TLS1_3_VERSION,
		.min_version = TLS1_2_VERSION,
		.max_version = TLS1_3_VERSION };
}

static struct hello
of_client(void)
{
	struct hello h = of_server();

	h.client = true;
	strcpy(h.name, "host.example");
	strcpy(h.wanted, "host.example");
	return h;
}

CASE(lines_about_versions)
{
	struct hello h = of_server();

	h.version = TLS1_1_VERSION;
	h.alert_sent = 2 << 8 | SSL_AD_PROTOCOL_VERSION;
	h.stage = "choosing parameters";
	LINE_IS(&h, SSL_ERR(SSL_R_UNSUPPORTED_PROTOCOL), record,
	    "no shared protocol version (client offered at most TLS 1.1, the minimum is TLS 1.2; "
	    "choosing parameters; alert sent: protocol version)");
	h = of_server();
	h.max_version = TLS1_2_VERSION;
	LINE_IS(&h, SSL_ERR(SSL_R_UNSUPPORTED_PROTOCOL), record,
	    "no shared protocol version (client offered at most TLS 1.3, the maximum is TLS 1.2)");
	h = of_client();
	strcpy(h.alpn, "h2,http/1.1");
	h.alert_got = 2 << 8 | SSL_AD_PROTOCOL_VERSION;
	h.stage = "waiting for the server's hello";
	LINE_IS(&h, SSL_ERR(SSL_R_TLSV1_ALERT_PROTOCOL_VERSION), record,
	    "the server refused, with alert: protocol version (we offered TLS 1.2 to TLS 1.3; "
	    "server "
	    "name host.example; ALPN h2,http/1.1; waiting for the server's hello); --min-version "
	    "and "
	    "--max-version say what is offered");
	h = of_client();
	h.min_version = TLS1_3_VERSION;
	LINE_IS(&h, SSL_ERR(SSL_R_UNSUPPORTED_PROTOCOL), record,
	    "no shared protocol version (we offered TLS 1.3; server name host.example)");
}

CASE(lines_about_a_servers_certificate)
{
	struct hello h = of_client(), plain;

	h.name[0] = '\0';
	strcpy(h.leaf, "CN=x, SHA-256 12");
	strcpy(h.pin, "sha256:34");
	plain = h;
	h.verdict = X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "the server's certificate was refused: self-signed certificate in certificate chain "
	    "(CN=x, SHA-256 12; we offered TLS 1.2 to TLS 1.3); --ca FILE says who is trusted, "
	    "--no-verify trusts anybody, and with --pin sha256:34 this key alone");
	h.verdict = X509_V_ERR_HOSTNAME_MISMATCH;
	strcpy(h.names, "DNS:a, DNS:b");
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "the server's certificate is for other names (DNS:a, DNS:b), not for host.example "
	    "(CN=x, SHA-256 12; we offered TLS 1.2 to TLS 1.3); --servername says which name to "
	    "look for");
	h.verdict = X509_V_ERR_CERT_HAS_EXPIRED;
	h.ends = 1;
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "the server's certificate expired on 1970-01-01 00:00:01 UTC (CN=x, SHA-256 12; we "
	    "offered TLS 1.2 to TLS 1.3); --no-verify goes on without a check, and with --pin "
	    "sha256:34 this key alone");
	h.ends = time(NULL) + 1000;
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "the server's certificate was refused: one of those above it has expired (CN=x, "
	    "SHA-256 12; we offered TLS 1.2 to TLS 1.3); --no-verify goes on without a check, and "
	    "with --pin sha256:34 this key alone");
	h = plain;
	h.pin_failed = true;
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "no --pin is met by the server's certificate (CN=x, SHA-256 12; we offered TLS 1.2 to "
	    "TLS 1.3); its key is sha256:34");
}

CASE(lines_about_a_clients_certificate)
{
	struct hello h = of_server();

	strcpy(h.leaf, "CN=x, SHA-256 12");
	h.verdict = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY;
	h.stage = "reading the client's certificate";
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "the client's certificate was refused: unable to get local issuer certificate (CN=x, "
	    "SHA-256 12; client offered at most TLS 1.3; reading the client's certificate); "
	    "--client-ca says who is trusted");
	h.verdict = X509_V_ERR_CERT_HAS_EXPIRED;
	h.ends = 86400;
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "the client's certificate expired on 1970-01-02 00:00:00 UTC (CN=x, SHA-256 12; "
	    "client offered at most TLS 1.3; reading the client's certificate)");
	h.verdict = X509_V_ERR_CERT_NOT_YET_VALID;
	h.ends = 0;
	h.begins = 4102444800;
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "the client's certificate is not valid before 2100-01-01 00:00:00 UTC (CN=x, SHA-256 "
	    "12; client offered at most TLS 1.3; reading the client's certificate); --client-ca "
	    "says who is trusted");
	h = of_server();
	LINE_IS(&h, SSL_ERR(SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE), record,
	    "the client sent no certificate (client offered at most TLS 1.3); --verify require "
	    "wants one");
}

CASE(lines_about_alerts)
{
	static const struct {
		int alert;
		const char *line;
	} say[] = {
		{ SSL_AD_HANDSHAKE_FAILURE,
		    "the server refused, with alert: handshake failure (we offered TLS 1.2 to TLS "
		    "1.3; server name host.example); it may want other --ciphers, --ciphersuites "
		    "or --groups, or a certificate (--cert)" },
		{ SSL_AD_UNRECOGNIZED_NAME,
		    "the server refused, with alert: unrecognized name (we offered TLS 1.2 to TLS "
		    "1.3; server name host.example); --servername says which name to ask for" },
		{ SSL_AD_NO_APPLICATION_PROTOCOL,
		    "the server refused, with alert: no application protocol (we offered TLS 1.2 "
		    "to TLS 1.3; server name host.example); --alpn says what is offered" },
		{ SSL_AD_UNKNOWN_CA,
		    "the server refused our certificate, with alert: unknown CA (we offered TLS "
		    "1.2 to TLS 1.3; server name host.example); --cert and --key say which is "
		    "shown" },
		{ SSL_AD_CERTIFICATE_REQUIRED,
		    "the server wants a certificate, with alert: certificate required (we offered "
		    "TLS 1.2 to TLS 1.3; server name host.example); --cert and --key say which is "
		    "shown" },
		{ SSL_AD_INTERNAL_ERROR,
		    "the server refused, with alert: internal error (we offered TLS 1.2 to TLS "
		    "1.3; server name host.example)" },
		{ SSL_AD_CLOSE_NOTIFY,
		    "the server closed the connection in the handshake (we offered TLS 1.2 to TLS "
		    "1.3; server name host.example)" },
	};
	struct hello h = of_client();

	for (size_t i = 0; i < sizeof(say) / sizeof(*say); i++) {
		h.alert_got = 2 << 8 | say[i].alert;
		LINE_IS(&h, SSL_ERR(SSL_AD_REASON_OFFSET + say[i].alert), record, say[i].line);
	}
	h = of_server();
	h.alert_got = 2 << 8 | SSL_AD_UNKNOWN_CA;
	LINE_IS(&h, SSL_ERR(SSL_R_TLSV1_ALERT_UNKNOWN_CA), record,
	    "the client refused, with alert: unknown CA (client offered at most TLS 1.3)");
}

CASE(lines_about_other_protocols)
{
	struct hello h = of_client();

	LINE_IS(&h, 1, "SSH-2",
	    "the server does not speak TLS: it said \"SSH-2\"; its TLS may be on another port");
	LINE_IS(
	    &h, 1, "HTTP/", "the server spoke plain HTTP, not TLS; its TLS may be on another port");
	LINE_IS(&h, 1, "a\"b\n\x80",
	    "the server does not speak TLS: it said \"a?b??\"; its TLS may be on another port");
	h = of_server();
	h.version = 0;
	LINE_IS(&h, 1, "220 m", "the client does not speak TLS: it said \"220 m\"");
	LINE_IS(&h, 1, "GET /", "the client spoke plain HTTP, not TLS");
}

CASE(lines_about_the_size_of_certificates)
{
	struct hello h = of_server();

	h.big_certificate = true;
	h.verdict = X509_V_ERR_APPLICATION_VERIFICATION;
	LINE_IS(&h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record,
	    "the client's certificates are larger than 32 KiB (client offered at most TLS 1.3)");
	h = of_client();
	h.big_certificate = true;
	LINE_IS(&h, SSL_ERR(SSL_R_EXCESSIVE_MESSAGE_SIZE), record,
	    "the server's certificates are too large (we offered TLS 1.2 to TLS 1.3; server name "
	    "host.example)");
}

CASE(the_longest_line_is_one_line_and_fits)
{
	struct hello h = of_client();
	char buf[2048];

	memset(h.name, 'n', sizeof(h.name) - 1);
	memset(h.alpn, 'a', sizeof(h.alpn) - 1);
	memset(h.wanted, 'w', sizeof(h.wanted) - 1);
	memset(h.names, 's', sizeof(h.names) - 1);
	memset(h.leaf, 'l', sizeof(h.leaf) - 1);
	memset(h.pin, 'p', sizeof(h.pin) - 1);
	h.stage = "waiting for the rest of the server's answer";
	h.alert_sent = SSL_AD_CERTIFICATE_UNKNOWN;
	for (h.verdict = 0; h.verdict < 100; h.verdict++) {
		facts_failure(
		    buf, sizeof(buf), &h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record);
		CHECK(strlen(buf) < sizeof(buf) - 100);
		CHECK(!strchr(buf, '\n'));
	}
	for (size_t cap = 1; cap < 900; cap++) {
		memset(buf, 'x', sizeof(buf));
		facts_failure(buf, cap, &h, SSL_ERR(SSL_R_CERTIFICATE_VERIFY_FAILED), record);
		CHECK(strlen(buf) < cap);
		CHECK(buf[cap] == 'x');
	}
}

CASE(a_failure_after_the_handshake_names_the_alert)
{
	char buf[512];

	CHECK(facts_broken(buf, sizeof(buf), true, SSL_ERR(SSL_R_TLSV1_ALERT_UNKNOWN_CA)));
	CHECK_STR(buf, "the server refused our certificate, with alert: unknown CA; --cert and "
		       "--key say which is shown");
	CHECK(
	    facts_broken(buf, sizeof(buf), true, SSL_ERR(SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED)));
	CHECK_STR(buf, "the server wants a certificate, with alert: certificate required; --cert "
		       "and --key say which is shown");
	CHECK(!facts_broken(buf, sizeof(buf), true, SSL_ERR(SSL_R_TLSV1_ALERT_INTERNAL_ERROR)));
	CHECK_STR(buf, "the server ended it with alert: internal error");
	CHECK(!facts_broken(buf, sizeof(buf), false, SSL_ERR(SSL_R_TLSV1_ALERT_UNKNOWN_CA)));
	CHECK_STR(buf, "the client ended it with alert: unknown CA");
	CHECK(!facts_broken(
	    buf, sizeof(buf), false, SSL_ERR(SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC)));
	CHECK_STR(buf, "decryption failed or bad record mac");
	CHECK(!facts_broken(buf, sizeof(buf), false, 0));
	CHECK_STR(buf, "OpenSSL gives no reason");
}

CASE(how_far_a_handshake_came)
{
	struct hello h = of_server();
	char buf[2048];

	h.version = 0;
	h.stage = "before a hello came";
	facts_pending(buf, sizeof(buf), &h, "");
	CHECK_STR(buf, "the client said nothing");
	facts_pending(buf, sizeof(buf), &h, "\x16");
	CHECK_STR(buf, "stopped before a whole hello came");
	facts_pending(buf, sizeof(buf), &h, "GE");
	CHECK_STR(buf, "the client does not speak TLS: it said \"GE\"");
	h.version = TLS1_3_VERSION;
	h.stage = "waiting for the client's answer";
	facts_pending(buf, sizeof(buf), &h, record);
	CHECK_STR(buf, "stopped while waiting for the client's answer (client offered at most TLS "
		       "1.3)");
	h = of_client();
	h.stage = "waiting for the server's hello";
	facts_pending(buf, sizeof(buf), &h, "");
	CHECK_STR(buf, "the server said nothing (we offered TLS 1.2 to TLS 1.3; server name "
		       "host.example)");
	h.alert_got = SSL_AD_HANDSHAKE_FAILURE;
	facts_ended(buf, sizeof(buf), &h, "Connection reset by peer");
	CHECK_STR(buf, "Connection reset by peer after alert: handshake failure (we offered TLS "
		       "1.2 to TLS 1.3; server name host.example; waiting for the server's hello)");
}

int
main(void)
{
	int r;

	authority = make_cert((struct make){ .cn = "authority", .ca = true });
	server = make_cert(
	    (struct make){ .cn = "server", .san = "DNS:localhost", .issuer = &authority });
	r = check_main((struct check_case[]){
	    RUN(every_fact_of_a_client_with_a_certificate),
	    RUN(a_client_finds_the_same_of_its_server),
	    RUN(the_verdict_has_the_words_of_mod_ssl),
	    RUN(a_resumed_session_tells_the_certificate_and_the_verdict_of_the_first),
	    RUN(a_subject_makes_no_second_line_or_string),
	    RUN(a_common_name_is_no_program),
	    RUN(an_alternative_name_cannot_pass_for_two),
	    RUN(what_is_too_large_is_left_out_by_name),
	    RUN(a_leaf_is_noted_with_its_digest_whatever_its_size),
	    RUN(lines_about_versions),
	    RUN(lines_about_a_servers_certificate),
	    RUN(lines_about_a_clients_certificate),
	    RUN(lines_about_alerts),
	    RUN(lines_about_other_protocols),
	    RUN(lines_about_the_size_of_certificates),
	    RUN(the_longest_line_is_one_line_and_fits),
	    RUN(a_failure_after_the_handshake_names_the_alert),
	    RUN(how_far_a_handshake_came),
	    { 0 },
	});
	made_end(&server);
	made_end(&authority);
	return r;
}
