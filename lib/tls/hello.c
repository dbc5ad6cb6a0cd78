/* What is noted while a handshake runs (tls/facts): the client's hello as it came, alerts, and at
 * the end what OpenSSL's state machine was about. */
#include <ctype.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/cert.h"
#include "tls/facts.h"
#include "tls/policy.h"

struct hello *
hello_of(SSL *ssl)
{
	return SSL_get_app_data(ssl);
}

static unsigned
be16(const unsigned char *p)
{
	return (unsigned)p[0] << 8 | p[1];
}

/* Appends n bytes of a peer's as printable ones. */
static void
add_printable(char *buf, size_t cap, const void *from, size_t n)
{
	const unsigned char *p = from;
	size_t len = strlen(buf);

	for (; n && len + 1 < cap; n--, p++)
		buf[len++] = isgraph(*p) ? (char)*p : '?';
	buf[len] = '\0';
}

static void
add_alpn(struct hello *h, const void *name, size_t n)
{
	if (h->alpn[0])
		add_printable(h->alpn, sizeof(h->alpn), ",", 1);
	add_printable(h->alpn, sizeof(h->alpn), name, n);
}

/* A client knows from the start what it offers. */
static void
note_own(SSL *ssl, const struct tls_policy *policy, struct hello *h)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const char *host = X509_VERIFY_PARAM_get0_host(param, 0);
	char *ip = host ? NULL : X509_VERIFY_PARAM_get1_ip_asc(param);

	h->version = h->max_version;
	if (name)
		add_printable(h->name, sizeof(h->name), name, strlen(name));
	for (size_t i = 0; policy && i < policy->n_alpn; i++)
		add_alpn(h, policy->alpn[i], strlen(policy->alpn[i]));
	snprintf(h->wanted, sizeof(h->wanted), "%s", host ? host : ip ? ip : h->name);
	OPENSSL_free(ip);
}

void
hello_begin(SSL *ssl, const struct tls_policy *policy, struct hello *h)
{
	SSL_set_app_data(ssl, h);
	if (!h)
		return;
	*h = (struct hello){ .alert_got = -1, .alert_sent = -1, .client = !SSL_is_server(ssl) };
	h->min_version = (int)SSL_get_min_proto_version(ssl);
	h->max_version = (int)SSL_get_max_proto_version(ssl);
	if (!h->max_version)
		h->max_version = TLS1_3_VERSION;
	if (h->client)
		note_own(ssl, policy, h);
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
	for (p += 2, n -= 2; n && *p < n; n -= *p + 1u, p += *p + 1u)
		add_alpn(h, p + 1, *p);
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

/* Only a client without one is asked. */
static int
certificate_asked(SSL *ssl, X509 **cert, EVP_PKEY **key)
{
	struct hello *h = hello_of(ssl);

	(void)cert;
	(void)key;
	if (h)
		h->asked = true;
	return 0;
}

void
hello_watch(SSL_CTX *ctx)
{
	SSL_CTX_set_client_cert_cb(ctx, certificate_asked);
	SSL_CTX_set_client_hello_cb(ctx, hello_came, NULL);
	SSL_CTX_set_info_callback(ctx, note_alert);
}

/* text, which is freed here, as far as it fits beside what has to stand behind it. */
static void
set_cut(char *buf, size_t cap, char *text, const char *behind)
{
	size_t room = cap - strlen(behind) - 1;

	if (text && strlen(text) > room)
		memcpy(text + room - 3, "...", 4);
	strlcpy(buf, text ? text : "?", cap);
	strlcat(buf, behind, cap);
	free(text);
}

/* The marks keep errors met on the way out of the queue, whose first one is the handshake's. */
void
hello_leaf(struct hello *h, X509 *cert)
{
	char digest[CERT_HEX], behind[CERT_HEX + 16];
	char *sans;

	if (!h || !cert)
		return;
	ERR_set_mark();
	cert_sha256(cert, digest);
	snprintf(behind, sizeof(behind), ", SHA-256 %s", digest);
	set_cut(h->leaf, sizeof(h->leaf), cert_name(X509_get_subject_name(cert)), behind);
	h->begins = cert_time(X509_get0_notBefore(cert));
	h->ends = cert_time(X509_get0_notAfter(cert));
	if (h->client) {
		if ((sans = cert_sans(cert, sizeof(h->names))))
			set_cut(h->names, sizeof(h->names), sans, "");
		cert_key_sha256(cert, digest);
		snprintf(h->pin, sizeof(h->pin), "sha256:%s", digest);
	}
	ERR_pop_to_mark();
}

struct stage {
	OSSL_HANDSHAKE_STATE state;
	const char *busy; /* when it is our own doing that the handshake stops here */
	const char *then; /* when something else was waited for; NULL: the same */
};

static const struct stage of_server[] = {
	{ TLS_ST_BEFORE, "before a hello came", NULL },
	{ TLS_ST_SR_CLNT_HELLO, "choosing parameters", NULL },
	{ TLS_ST_SR_CERT, "reading the client's certificate", "waiting for the client's finish" },
	{ TLS_ST_SR_KEY_EXCH, "reading the client's key", "waiting for the client's finish" },
	{ TLS_ST_SR_CERT_VRFY, "checking the client's signature",
	    "waiting for the client's finish" },
	{ TLS_ST_SR_CHANGE, "waiting for the client's finish", NULL },
	{ TLS_ST_SR_FINISHED, "checking the client's finish", "sending the last messages" },
	{ TLS_ST_SW_SESSION_TICKET, "sending the last messages", NULL },
	{ TLS_ST_OK, "sending the last messages", NULL },
	{ TLS_ST_BEFORE, "waiting for the client's answer", NULL }, /* any other */
};

static const struct stage of_client[] = {
	{ TLS_ST_BEFORE, "making our hello", NULL },
	{ TLS_ST_CW_CLNT_HELLO, "waiting for the server's hello", NULL },
	{ TLS_ST_CR_SRVR_HELLO, "reading the server's hello",
	    "waiting for the rest of the server's answer" },
	{ TLS_ST_CR_ENCRYPTED_EXTENSIONS, "reading the server's hello",
	    "waiting for the server's certificate" },
	{ TLS_ST_CR_CERT_REQ, "reading what certificate the server wants",
	    "waiting for the rest of the server's answer" },
	{ TLS_ST_CR_CERT, "checking the server's certificate",
	    "waiting for the server's signature" },
	{ TLS_ST_CR_CERT_VRFY, "checking the server's signature",
	    "waiting for the server's finish" },
	{ TLS_ST_CR_KEY_EXCH, "reading the server's key",
	    "waiting for the rest of the server's answer" },
	{ TLS_ST_CR_FINISHED, "checking the server's finish", "sending our finish" },
	{ TLS_ST_OK, "sending our finish", NULL },
	{ TLS_ST_BEFORE, "waiting for the server's finish", NULL }, /* any other */
};

/* An alert, an end of stream, or a record that did not belong here came in place of the next
 * message; the state is still that of the last one. */
static bool
was_waiting(const struct hello *h, unsigned long err)
{
	if (!err || h->alert_got >= 0 || ERR_GET_LIB(err) != ERR_LIB_SSL)
		return true;
	switch (h->alert_sent & 0xff) {
	case SSL_AD_UNEXPECTED_MESSAGE:
	case SSL_AD_BAD_RECORD_MAC:
	case SSL_AD_RECORD_OVERFLOW:
		return true;
	}
	return false;
}

static const char *
stage_of(const struct stage *s, OSSL_HANDSHAKE_STATE state, bool waiting)
{
	while (s->state != state && s[1].state != TLS_ST_BEFORE)
		s++;
	if (s->state != state)
		s++;
	return waiting && s->then ? s->then : s->busy;
}

void
hello_end(SSL *ssl, struct hello *h, unsigned long err)
{
	OSSL_HANDSHAKE_STATE state = SSL_get_state(ssl);
	bool cert = state == TLS_ST_SR_CERT || state == TLS_ST_CR_CERT;
	int reason = ERR_GET_LIB(err) == ERR_LIB_SSL ? ERR_GET_REASON(err) : 0;

	h->stage = stage_of(h->client ? of_client : of_server, state, was_waiting(h, err));
	if (!h->client && state == TLS_ST_SR_CLNT_HELLO && !h->version)
		h->stage = "reading the client's hello";
	if (cert && reason == SSL_R_EXCESSIVE_MESSAGE_SIZE)
		h->big_certificate = true;
	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && h->verdict == X509_V_OK)
		h->verdict = SSL_get_verify_result(ssl);
	if (!h->leaf[0])
		hello_leaf(h, SSL_get0_peer_certificate(ssl));
}
