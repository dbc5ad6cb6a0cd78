#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#include "base/env.h"
#include "tls/facts.h"
#include "tls/policy.h"

static const char suites_12[] = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
				"ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256";
static const char suites_13[] = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";

static const struct {
	const char *name;
	bool must;
} groups[] = {
	{ "SecP384r1MLKEM1024", false },
	{ "SecP256r1MLKEM768", false },
	{ "X25519MLKEM768", false },
	{ "P-521", true },
	{ "P-384", true },
	{ "P-256", true },
};

/* OpenSSL before 3.3 does not know the '?' that marks a group as optional: try each by itself. */
static bool
set_groups(SSL_CTX *ctx)
{
	char list[256] = "";

	for (size_t i = 0; i < sizeof(groups) / sizeof(*groups); i++) {
		if (!groups[i].must && !SSL_CTX_set1_groups_list(ctx, groups[i].name))
			continue;
		if (*list)
			strcat(list, ":");
		strcat(list, groups[i].name);
	}
	ERR_clear_error();
	return SSL_CTX_set1_groups_list(ctx, list);
}

/* Bytes of a certificate as PEM: base64 in lines of 64, between two marks. */
static size_t
pem_size(const X509 *cert)
{
	int der = i2d_X509(cert, NULL);
	size_t n = der > 0 ? ((size_t)der + 2) / 3 * 4 : 0;

	return n + n / 64 + 64;
}

/* Instead of a verification: who the client is, is the session's business.  That it holds the key
 * of the certificate it shows, OpenSSL has checked or will.  Refused is only what could not be told
 * on. */
static int
accept_any(X509_STORE_CTX *store, void *arg)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
	size_t size = 0;

	(void)arg;
	for (int i = 0; i < sk_X509_num(chain); i++)
		size += pem_size(sk_X509_value(chain, i));
	if (size > ENV_CERT_MAX) {
		hello_of(ssl)->big_certificate = true;
		X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
		return 0;
	}
	return 1;
}

/* There are none, so who asks for one wants the failure: see tls/link. */
static int
no_ticket(SSL *ssl, void *arg)
{
	(void)ssl;
	(void)arg;
	return 0;
}

int
policy_apply(SSL_CTX *ctx)
{
	SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION |
				     SSL_OP_NO_SESSION_RESUMPTION_ON_RENEGOTIATION |
				     SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
				     SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				  SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, accept_any, NULL);
	SSL_CTX_set_max_cert_list(ctx, ENV_CERT_MAX);
	hello_watch(ctx);
	if (!SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) ||
	    !SSL_CTX_set_max_proto_version(ctx, 0) || !SSL_CTX_set_num_tickets(ctx, 0) ||
	    !SSL_CTX_set_session_ticket_cb(ctx, no_ticket, NULL, NULL) ||
	    !SSL_CTX_set_max_early_data(ctx, 0) || !SSL_CTX_set_recv_max_early_data(ctx, 0) ||
	    !SSL_CTX_set_cipher_list(ctx, suites_12) || !SSL_CTX_set_ciphersuites(ctx, suites_13) ||
	    !set_groups(ctx))
		return -ENOTSUP;
	return 0;
}
