#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>

#include "check.h"
#include "tls/policy.h"

static char msg[512];

/* Up to TLS 1.3 if it names no version. */
static int
try(struct tls_policy p)
{
	int r;

	msg[0] = '\0';
	if (!p.min_version && !p.max_version)
		p.max_version = TLS_V13;
	r = policy_check(&p, msg, sizeof(msg));
	CHECK(ERR_peek_error() == 0);
	if (r == 0)
		CHECK_STR(msg, "");
	return r;
}

static void
refused(int line, struct tls_policy p, const char *words)
{
	int r = try(p);

	if (r != -EINVAL || !strstr(msg, words)) {
		printf("# %s:%d: %d, \"%s\", not \"%s\"\n", __FILE__, line, r, msg, words);
		check_failed++;
	}
}
#define REFUSED(words, ...) refused(__LINE__, (struct tls_policy){ __VA_ARGS__ }, words)
#define TAKEN(...)	    CHECK_INT(try((struct tls_policy){ __VA_ARGS__ }), 0)

/* The names of what it offers, for one version. */
static const char *
offered(const struct tls_policy *p, const char *version)
{
	static char list[1024];
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	STACK_OF(SSL_CIPHER) * all;

	list[0] = '\0';
	CHECK_INT(policy_apply(ctx, p), 0);
	all = SSL_CTX_get_ciphers(ctx);
	for (int i = 0; i < sk_SSL_CIPHER_num(all); i++) {
		const SSL_CIPHER *c = sk_SSL_CIPHER_value(all, i);

		if (!strcmp(SSL_CIPHER_get_version(c), version)) {
			strcat(list, *list ? ":" : "");
			strcat(list, SSL_CIPHER_get_name(c));
		}
	}
	SSL_CTX_free(ctx);
	return list;
}

CASE(by_default_the_policy_is_ccfs)
{
	struct tls_policy p = { .max_version = TLS_V13 };
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	uint64_t off = SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE;

	CHECK_INT(try(p), 0);
	CHECK_STR(offered(&p, "TLSv1.3"), "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256");
	CHECK_STR(offered(&p, "TLSv1.2"),
	    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
	    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256");
	CHECK_INT(policy_apply(ctx, &p), 0);
	CHECK_INT(SSL_CTX_get_min_proto_version(ctx), TLS1_2_VERSION);
	CHECK_INT(SSL_CTX_get_max_proto_version(ctx), TLS1_3_VERSION);
	CHECK((SSL_CTX_get_options(ctx) & off) == off);
	CHECK_INT(SSL_CTX_get_num_tickets(ctx), 0);
	CHECK_INT(SSL_CTX_get_session_cache_mode(ctx), SSL_SESS_CACHE_OFF);
	CHECK_INT(SSL_CTX_get_max_early_data(ctx), 0);
	SSL_CTX_free(ctx);
	TAKEN(.client = true);
}

CASE(what_is_given_replaces_the_default)
{
	struct tls_policy p = { .max_version = TLS_V13,
		.ciphers = "ECDHE-RSA-CHACHA20-POLY1305:!RC4:!nonsense",
		.ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" };

	CHECK_INT(try(p), 0);
	CHECK_STR(offered(&p, "TLSv1.3"), "TLS_CHACHA20_POLY1305_SHA256");
	CHECK_STR(offered(&p, "TLSv1.2"), "ECDHE-RSA-CHACHA20-POLY1305");
	TAKEN(.ciphers = "ECDHE+AESGCM:!aNULL:@STRENGTH");
	TAKEN(.ciphers = "DEFAULT@SECLEVEL=1");
	TAKEN(.groups = "X25519:P-256:ffdhe2048");
	TAKEN(.groups = "prime256v1");
}

CASE(a_refused_cipher_is_named)
{
	REFUSED("--ciphers: OpenSSL knows no cipher \"RC5\"",
	    .ciphers = "ECDHE-RSA-AES128-GCM-SHA256:RC5");
	REFUSED("--ciphers: OpenSSL knows no cipher \"@X\"", .ciphers = "HIGH:@X");
	REFUSED("\"TLS_AES_128_GCM_SHA256\" is no suite of TLS 1.2",
	    .ciphers = "HIGH:TLS_AES_128_GCM_SHA256");
	REFUSED("leaves no suite for TLS 1.2", .ciphers = "!aNULL");
	REFUSED("leaves no suite for TLS 1.2", .ciphers = "");
	REFUSED("--ciphersuites: OpenSSL knows no suite of TLS 1.3 called \"TLS_X\"",
	    .ciphersuites = "TLS_AES_128_GCM_SHA256:TLS_X");
	REFUSED("called \"\"", .ciphersuites = "TLS_AES_128_GCM_SHA256::");
	REFUSED("called \"ECDHE-RSA-AES128-GCM-SHA256\"",
	    .ciphersuites = "ECDHE-RSA-AES128-GCM-SHA256");
	REFUSED("leaves no suite for TLS 1.3", .ciphersuites = "");
}

CASE(a_refused_group_is_named_unless_it_is_optional)
{
	REFUSED("--groups: OpenSSL knows no group \"P-999\"", .groups = "P-256:P-999");
	REFUSED("--groups: OpenSSL knows no group \"\"", .groups = "P-256:");
	REFUSED("--groups: OpenSSL knows no group \"\"", .groups = "");
	REFUSED("\"prime256v1\" stands there twice", .groups = "P-256:prime256v1");
	REFUSED("OpenSSL knows none of \"?P-999\"", .groups = "?P-999");
	TAKEN(.groups = "?P-999:?P-256");
	TAKEN(.groups = "P-256:?P-999");
}

CASE(versions_exclude_each_other)
{
	const struct tls_policy only_12 = { .max_version = TLS_V12, .ciphersuites = "" };

	REFUSED("--min-version 1.3 is above --max-version 1.2", .min_version = TLS_V13,
	    .max_version = TLS_V12);
	TAKEN(.min_version = TLS_V13, .max_version = TLS_V13);
	CHECK_INT(policy_check(&only_12, msg, sizeof(msg)), 0);
	CHECK_STR(tls_version_words[TLS_V12], "1.2");
	CHECK_STR(tls_version_words[TLS_V13], "1.3");
	CHECK_STR(tls_verify_words[TLS_REQUIRE], "require");
	CHECK_STR(tls_verify_words[TLS_NONE], "none");
}

CASE(an_alpn_name_has_1_to_255_bytes)
{
	char longest[257];
	const char *names[] = { "http/1.1", longest }, *many[260];

	memset(longest, 'x', 256);
	longest[256] = '\0';
	REFUSED("--alpn: a name has 1 to 255 bytes", .alpn = names, .n_alpn = 2);
	longest[255] = '\0';
	TAKEN(.alpn = names, .n_alpn = 2);
	for (size_t i = 0; i < 260; i++)
		many[i] = longest;
	REFUSED("--alpn: the names have more than 65535 bytes", .alpn = many, .n_alpn = 260);
	longest[0] = '\0';
	REFUSED("--alpn: a name has 1 to 255 bytes", .alpn = names, .n_alpn = 2);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(by_default_the_policy_is_ccfs),
	    RUN(what_is_given_replaces_the_default),
	    RUN(a_refused_cipher_is_named),
	    RUN(a_refused_group_is_named_unless_it_is_optional),
	    RUN(versions_exclude_each_other),
	    RUN(an_alpn_name_has_1_to_255_bytes),
	    { 0 },
	});
}
