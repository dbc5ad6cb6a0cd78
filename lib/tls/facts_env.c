/* The environment of a connection after its handshake (tls/facts). */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "tls/cert.h"
#include "tls/facts.h"

/* What a client calls itself or us goes into COMMANDs' environments: only if it is plain text. */
static void
set_plain(struct env *env, const char *name, const unsigned char *p, size_t n)
{
	char value[256];

	if (!p || !n || n >= sizeof(value))
		return;
	for (size_t i = 0; i < n; i++)
		if (!isgraph(p[i]))
			return;
	memcpy(value, p, n);
	value[n] = '\0';
	env_set(env, name, value);
}

/* The name comes in three parts; text is freed. */
static void
set_text(struct env *env, const char *before, const char *peer, const char *behind, char *text)
{
	char name[64];

	snprintf(name, sizeof(name), "%s%s%s", before, peer, behind);
	if (text)
		env_set(env, name, text);
	free(text);
}

static void
set_certificate(struct env *env, const char *peer, X509 *cert)
{
	char digest[CERT_HEX];

	set_text(env, "SSL_", peer, "_CERT", cert_pem(cert));
	set_text(env, "SSL_", peer, "_S_DN", cert_name(X509_get_subject_name(cert)));
	set_text(env, "SSL_", peer, "_I_DN", cert_name(X509_get_issuer_name(cert)));
	set_text(env, "SSL_PEER_CERT_CN", "", "", cert_common_name(cert));
	set_text(env, "CCF_", peer, "_SANS", cert_sans(cert, ENV_VALUE_MAX));
	cert_sha256(cert, digest);
	set_text(env, "CCF_", peer, "_SHA256", strdup(digest));
}

/* mod_ssl's words. */
static char *
verdict(SSL *ssl, const X509 *cert)
{
	long result = SSL_get_verify_result(ssl);
	char *text;

	if (!cert)
		return strdup("NONE");
	if (result == FACTS_UNJUDGED)
		return strdup("GENEROUS");
	if (result == X509_V_OK)
		return strdup("SUCCESS");
	return asprintf(&text, "FAILED:%s", X509_verify_cert_error_string(result)) < 0 ? NULL
										       : text;
}

void
facts_env(SSL *ssl, struct env *env)
{
	const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const char *peer = SSL_is_server(ssl) ? "CLIENT" : "SERVER";
	X509 *cert = SSL_get0_peer_certificate(ssl);
	const unsigned char *alpn;
	unsigned alpn_len;

	env_set(env, "SSL_PROTOCOL", SSL_get_version(ssl));
	env_set(env, "SSL_CIPHER", SSL_get_cipher_name(ssl));
	env_set(env, "SSL_SESSION_RESUMED", SSL_session_reused(ssl) ? "Resumed" : "Initial");
	if (sni)
		set_plain(env, "SSL_TLS_SNI_SERVERNAME", (const unsigned char *)sni, strlen(sni));
	SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
	set_plain(env, "CCF_ALPN", alpn, alpn_len);
	set_text(env, "SSL_", peer, "_VERIFY", verdict(ssl, cert));
	if (cert)
		set_certificate(env, peer, cert);
}
