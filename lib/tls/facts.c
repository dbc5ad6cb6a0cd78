#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "tls/facts.h"

struct hello *
hello_of(SSL *ssl)
{
	return SSL_get_app_data(ssl);
}

void
hello_begin(SSL *ssl, struct hello *h)
{
	if (h)
		*h = (struct hello){ .alert_got = -1, .alert_sent = -1 };
	SSL_set_app_data(ssl, h);
}

static unsigned
be16(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

/* Appends n bytes of a peer's as printable ones. */
static void
add_printable(char *buf, size_t cap, const unsigned char *p, size_t n)
{
	size_t len = strlen(buf);

	for (; n && len + 1 < cap; n--, p++)
		buf[len++] = isgraph(*p) ? (char)*p : '?';
	buf[len] = '\0';
}

/* The extension lists what the client speaks, GREASE among it: only TLS has 3 as its first byte. */
static void
note_version(SSL *ssl, struct hello *h)
{
	const unsigned char *p;
	size_t n;

	h->version = (int)SSL_client_hello_get0_legacy_version(ssl);
	if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &p, &n) || n < 1)
		return;
	for (n--, p++; n >= 2; n -= 2, p += 2)
		if (p[0] == 3 && (int)be16(p) > h->version)
			h->version = (int)be16(p);
}

static void
note_name(SSL *ssl, struct hello *h)
{
	const unsigned char *p;
	size_t n;

	/* list length, type (0: host), name length, name */
	if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) && n > 5 && p[2] == 0 &&
	    be16(p + 3) <= n - 5) {
		h->name[0] = '\0';
		add_printable(h->name, sizeof(h->name), p + 5, be16(p + 3));
	}
}

static void
note_alpn(SSL *ssl, struct hello *h)
{
	const unsigned char *p;
	size_t n;

	if (!SSL_client_hello_get0_ext(
		ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &p, &n) ||
	    n < 2)
		return;
	h->alpn[0] = '\0';
	for (p += 2, n -= 2; n && *p < n; n -= *p + 1u, p += *p + 1u) {
		if (h->alpn[0])
			add_printable(h->alpn, sizeof(h->alpn), (const unsigned char *)",", 1);
		add_printable(h->alpn, sizeof(h->alpn), p + 1, *p);
	}
}

static int
hello_came(SSL *ssl, int *alert, void *arg)
{
	struct hello *h = hello_of(ssl);

	(void)alert;
	(void)arg;
	if (h) {
		note_version(ssl, h);
		note_name(ssl, h);
		note_alpn(ssl, h);
	}
	return SSL_CLIENT_HELLO_SUCCESS;
}

static void
note_alert(const SSL *ssl, int where, int value)
{
	struct hello *h = SSL_get_app_data(ssl);

	if (!h || !(where & SSL_CB_ALERT))
		return;
	if (where & SSL_CB_READ)
		h->alert_got = value;
	else
		h->alert_sent = value;
}

void
hello_watch(SSL_CTX *ctx)
{
	SSL_CTX_set_client_hello_cb(ctx, hello_came, NULL);
	SSL_CTX_set_info_callback(ctx, note_alert);
}

static char *
bio_string(BIO *b)
{
	char *p, *s;
	long n = BIO_get_mem_data(b, &p);

	s = n > 0 ? strndup(p, (size_t)n) : NULL;
	(void)BIO_reset(b);
	return s;
}

static void
set_printed(struct env *env, const char *name, BIO *b)
{
	char *s = bio_string(b);

	if (s)
		env_set(env, name, s);
	free(s);
}

/* Names are written so that no byte of theirs can end a line or a string. */
static void
set_certificate(struct env *env, X509 *cert)
{
	X509_NAME *subject = X509_get_subject_name(cert);
	int last = -1, next;
	BIO *b = BIO_new(BIO_s_mem());

	if (!b)
		return;
	if (PEM_write_bio_X509(b, cert))
		set_printed(env, "SSL_CLIENT_CERT", b);
	if (X509_NAME_print_ex(b, subject, 0, XN_FLAG_RFC2253) >= 0)
		set_printed(env, "SSL_CLIENT_S_DN", b);
	while ((next = X509_NAME_get_index_by_NID(subject, NID_commonName, last)) >= 0)
		last = next;
	if (last >= 0 &&
	    ASN1_STRING_print_ex(b, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last)),
		ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_ESC_MSB | ASN1_STRFLGS_UTF8_CONVERT) >= 0)
		set_printed(env, "SSL_PEER_CERT_CN", b);
	BIO_free(b);
}

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

void
facts_env(SSL *ssl, struct env *env)
{
	const char *sni = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	X509 *cert = SSL_get0_peer_certificate(ssl);
	const unsigned char *alpn;
	unsigned alpn_len;

	env_set(env, "SSL_PROTOCOL", SSL_get_version(ssl));
	env_set(env, "SSL_CIPHER", SSL_get_cipher_name(ssl));
	if (sni)
		set_plain(env, "SSL_TLS_SNI_SERVERNAME", (const unsigned char *)sni, strlen(sni));
	SSL_get0_alpn_selected(ssl, &alpn, &alpn_len);
	set_plain(env, "CCF_ALPN", alpn, alpn_len);
	/* GENEROUS is mod_ssl's word for: presented, and nobody has verified it. */
	env_set(env, "SSL_CLIENT_VERIFY", cert ? "GENEROUS" : "NONE");
	if (cert)
		set_certificate(env, cert);
}

static const char *
version_name(int version)
{
	switch (version) {
	case SSL3_VERSION:
		return "SSL 3.0";
	case TLS1_VERSION:
		return "TLS 1.0";
	case TLS1_1_VERSION:
		return "TLS 1.1";
	case TLS1_2_VERSION:
		return "TLS 1.2";
	case TLS1_3_VERSION:
		return "TLS 1.3";
	}
	return version > TLS1_3_VERSION ? "a later TLS" : "an earlier SSL";
}

static void __attribute__((format(printf, 3, 4))) addf(char *buf, size_t cap, const char *fmt, ...)
{
	size_t len = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf + len, cap - len, fmt, ap);
	va_end(ap);
}

static bool
spoke_http(const char *greeting)
{
	static const char *const words[] = { "GET /", "GET h", "HEAD ", "POST ", "PUT /", "PUT h",
		"DELET", "OPTIO", "PATCH", "CONNE", "TRACE", "PRI *" };

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (!strcmp(greeting, words[i]))
			return true;
	return false;
}

static bool
ssl_says(unsigned long err, int reason)
{
	return ERR_GET_LIB(err) == ERR_LIB_SSL && ERR_GET_REASON(err) == reason;
}

static void
add_cause(char *buf, size_t cap, const struct hello *h, unsigned long err)
{
	const char *why = ERR_reason_error_string(err);

	if (h->big_certificate || ssl_says(err, SSL_R_EXCESSIVE_MESSAGE_SIZE))
		addf(buf, cap, "the client's certificates are larger than %d KiB",
		    ENV_CERT_MAX / 1024);
	else if (h->alert_got >= 0)
		addf(buf, cap, "the client refused, with alert: %s",
		    SSL_alert_desc_string_long(h->alert_got));
	else if (ssl_says(err, SSL_R_UNSUPPORTED_PROTOCOL))
		addf(buf, cap, "no shared protocol version");
	else
		addf(buf, cap, "%s", why ? why : "OpenSSL gives no reason");
}

void
facts_failure(char *buf, size_t cap, const struct hello *h, unsigned long err, const char *greeting)
{
	buf[0] = '\0';
	if (spoke_http(greeting)) {
		addf(buf, cap, "the client spoke plain HTTP, not TLS");
		return;
	}
	/* 22: a handshake record; the top bit: a hello in SSL 2 form */
	if (!h->version && greeting[0] != 22 && !(greeting[0] & 0x80)) {
		addf(buf, cap, "the client did not speak TLS (it began with \"");
		add_printable(buf, cap, (const unsigned char *)greeting, strlen(greeting));
		addf(buf, cap, "\")");
		return;
	}
	add_cause(buf, cap, h, err);
	if (!h->version)
		return;
	addf(buf, cap, " (client offered at most %s", version_name(h->version));
	if (h->version < TLS1_2_VERSION)
		addf(buf, cap, ", the minimum is TLS 1.2");
	if (h->name[0])
		addf(buf, cap, "; server name %s", h->name);
	if (h->alpn[0])
		addf(buf, cap, "; ALPN %s", h->alpn);
	if (h->alert_sent >= 0)
		addf(buf, cap, "; alert sent: %s", SSL_alert_desc_string_long(h->alert_sent));
	addf(buf, cap, ")");
}
