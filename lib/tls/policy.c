#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "tls/facts.h"
#include "tls/policy.h"
#include "tls/says.h"

#define GROUPS_MAX 512 /* bytes of a list of groups, its unknown ones left out */
#define PIECE_MAX  128

const char *const tls_verify_words[] = { "request", "require", "none", NULL };
const char *const tls_version_words[] = { "1.2", "1.3", NULL };

static const int wire_version[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static const char suites_12[] = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
				"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256";
static const char suites_13[] = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";
static const char all_groups[] =
    "?SecP384r1MLKEM1024:?SecP256r1MLKEM768:?X25519MLKEM768:P-521:P-384:P-256";

/* The next piece of *list, cut to fit (none so long is known); false at the end.  A list ends after
 * its last piece, so "" has one and "A:" two. */
static bool
next_piece(const char **list, const char *separators, char *piece)
{
	size_t n;

	if (!*list)
		return false;
	n = strcspn(*list, separators);
	snprintf(piece, PIECE_MAX, "%.*s", n < PIECE_MAX ? (int)n : PIECE_MAX - 1, *list);
	*list = (*list)[n] ? *list + n + 1 : NULL;
	return true;
}

/* OpenSSL passes over a piece it does not know as long as it knows another one. */
static int
check_ciphers(SSL_CTX *ctx, const char *list, char *msg, size_t cap)
{
	char piece[PIECE_MAX], with[PIECE_MAX + 8];

	for (const char *rest = list; next_piece(&rest, ":, ;", piece);) {
		if (!*piece || strchr("!-+", *piece)) /* to exclude what is unknown is no harm */
			continue;
		snprintf(with, sizeof(with), "%s%s", *piece == '@' ? "ALL:" : "", piece);
		if (SSL_CTX_set_cipher_list(ctx, with))
			continue;
		if (!strncmp(piece, "TLS_", 4))
			return says(-EINVAL, msg, cap,
			    "--ciphers: \"%s\" is no suite of TLS 1.2; those of TLS 1.3 stand in "
			    "--ciphersuites",
			    piece);
		return says(-EINVAL, msg, cap, "--ciphers: OpenSSL knows no cipher \"%s\"", piece);
	}
	if (!SSL_CTX_set_cipher_list(ctx, list))
		return says(
		    -EINVAL, msg, cap, "--ciphers: \"%s\" leaves no suite for TLS 1.2", list);
	return 0;
}

static int
check_ciphersuites(SSL_CTX *ctx, const char *list, bool wanted, char *msg, size_t cap)
{
	char piece[PIECE_MAX];

	if (!*list && wanted)
		return says(-EINVAL, msg, cap,
		    "--ciphersuites: \"\" leaves no suite for TLS 1.3; --max-version 1.2 does "
		    "without it");
	for (const char *rest = *list ? list : NULL; next_piece(&rest, ":", piece);)
		if (!*piece || !SSL_CTX_set_ciphersuites(ctx, piece))
			return says(-EINVAL, msg, cap,
			    "--ciphersuites: OpenSSL knows no suite of TLS 1.3 called \"%s\"",
			    piece);
	if (!SSL_CTX_set_ciphersuites(ctx, list))
		return says(-EINVAL, msg, cap, "--ciphersuites: OpenSSL refuses \"%s\"", list);
	return 0;
}

/* The '?' is ours: OpenSSL knows it since 3.3 only.  ret has GROUPS_MAX bytes. */
static int
known_groups(SSL_CTX *ctx, const char *list, char *ret, char *msg, size_t cap)
{
	char piece[PIECE_MAX];
	size_t len = 0;

	for (const char *rest = list; next_piece(&rest, ":", piece);) {
		bool optional = *piece == '?';
		const char *name = piece + optional;
		int n;

		if (!*name || !SSL_CTX_set1_groups_list(ctx, name)) {
			if (optional && *name)
				continue;
			return says(
			    -EINVAL, msg, cap, "--groups: OpenSSL knows no group \"%s\"", name);
		}
		n = snprintf(ret + len, GROUPS_MAX - len, "%s%s", len ? ":" : "", name);
		if (n >= (int)(GROUPS_MAX - len) || !SSL_CTX_set1_groups_list(ctx, ret))
			return says(-EINVAL, msg, cap,
			    "--groups: \"%s\" stands there twice, or there are too many", name);
		len += (size_t)n;
	}
	if (!len)
		return says(-EINVAL, msg, cap, "--groups: OpenSSL knows none of \"%s\"", list);
	return 0;
}

static int
check_alpn(const struct tls_policy *p, char *msg, size_t cap)
{
	size_t len = 0;

	for (size_t i = 0; i < p->n_alpn; i++) {
		size_t n = strlen(p->alpn[i]);

		if (!n || n > 255)
			return says(-EINVAL, msg, cap,
			    "--alpn: a name has 1 to 255 bytes, \"%.20s\" has %zu", p->alpn[i], n);
		len += 1 + n;
	}
	if (len > UINT16_MAX)
		return says(-EINVAL, msg, cap, "--alpn: the names have more than 65535 bytes");
	return 0;
}

static int
set_versions(SSL_CTX *ctx, const struct tls_policy *p, char *msg, size_t cap)
{
	if (p->min_version > p->max_version)
		return says(-EINVAL, msg, cap, "--min-version %s is above --max-version %s",
		    tls_version_words[p->min_version], tls_version_words[p->max_version]);
	if (!SSL_CTX_set_min_proto_version(ctx, wire_version[p->min_version]) ||
	    !SSL_CTX_set_max_proto_version(ctx, wire_version[p->max_version]))
		return -ENOTSUP;
	return 0;
}

static int
set_lists(SSL_CTX *ctx, const struct tls_policy *p, char *msg, size_t cap)
{
	bool has_13 = p->max_version == TLS_V13;
	char groups[GROUPS_MAX] = "";
	int r = 0;

	if (p->ciphers)
		r = check_ciphers(ctx, p->ciphers, msg, cap);
	else if (!SSL_CTX_set_cipher_list(ctx, suites_12))
		r = -ENOTSUP;
	if (r == 0 && p->ciphersuites)
		r = check_ciphersuites(ctx, p->ciphersuites, has_13, msg, cap);
	else if (r == 0 && !SSL_CTX_set_ciphersuites(ctx, suites_13))
		r = -ENOTSUP;
	if (r < 0)
		return r;
	r = known_groups(ctx, p->groups ? p->groups : all_groups, groups, msg, cap);
	return r < 0 && !p->groups ? -ENOTSUP : r;
}

/* What nobody may choose. */
static int
set_rest(SSL_CTX *ctx, const struct tls_policy *p)
{
	SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION |
				     SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION |
				     SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
				     SSL_OP_IGNORE_UNEXPECTED_EOF);
	/* A chain is what its file has: issuers of clients are not looked through for ours. */
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				  SSL_MODE_RELEASE_BUFFERS | SSL_MODE_NO_AUTO_CHAIN);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (!p->client)
		SSL_CTX_set_max_cert_list(ctx, ENV_CERT_MAX);
	hello_watch(ctx);
	/* Early data that a client sends unasked, with a ticket of another server's, is passed over
	 * (recv_max_early_data stays as it is): at 0 its handshake would fail. */
	if (!SSL_CTX_set_num_tickets(ctx, 0) || !SSL_CTX_set_max_early_data(ctx, 0))
		return -ENOTSUP;
	return 0;
}

static int
apply(SSL_CTX *ctx, const struct tls_policy *p, char *msg, size_t cap)
{
	int r = set_versions(ctx, p, msg, cap);

	if (r == 0)
		r = set_lists(ctx, p, msg, cap);
	if (r == 0)
		r = check_alpn(p, msg, cap);
	return r == 0 ? set_rest(ctx, p) : r;
}

int
policy_check(const struct tls_policy *p, char *msg, size_t cap)
{
	SSL_CTX *ctx = SSL_CTX_new(p->client ? TLS_client_method() : TLS_server_method());
	int r;

	if (!ctx)
		return says(-ENOMEM, msg, cap, "%s", strerror(ENOMEM));
	ERR_clear_error();
	r = apply(ctx, p, msg, cap);
	if (r == -ENOTSUP)
		says(r, msg, cap, "this OpenSSL refuses the TLS policy: %s", says_why());
	ERR_clear_error();
	SSL_CTX_free(ctx);
	return r;
}

int
policy_apply(SSL_CTX *ctx, const struct tls_policy *p)
{
	char msg[256];
	int r = apply(ctx, p, msg, sizeof(msg));

	if (r == 0)
		ERR_clear_error(); /* of optional groups */
	return r;
}
