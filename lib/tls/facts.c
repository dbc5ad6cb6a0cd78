/* One line about a handshake that failed, or has not come to its end (tls/facts). */
#include <ctype.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/env.h"
#include "tls/facts.h"

static void __attribute__((format(printf, 3, 4))) addf(char *buf, size_t cap, const char *fmt, ...)
{
	size_t len = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf + len, cap - len, fmt, ap);
	va_end(ap);
}

static const char *
peer_of(const struct hello *h)
{
	return h->client ? "server" : "client";
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

/* OpenSSL 3.0 calls the two that came with TLS 1.3 "unknown", and has an underscore in one. */
static const char *
alert_name(int alert)
{
	switch (alert & 0xff) {
	case SSL_AD_UNEXPECTED_MESSAGE:
		return "unexpected message";
	case SSL_AD_MISSING_EXTENSION:
		return "missing extension";
	case SSL_AD_CERTIFICATE_REQUIRED:
		return "certificate required";
	}
	return SSL_alert_desc_string_long(alert);
}

/* Whether it can only be about the certificate of whom it is sent to. */
static bool
about_certificate(int alert)
{
	switch (alert & 0xff) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
		return true;
	}
	return false;
}

static bool
is_past(int64_t s)
{
	return s && s < time(NULL);
}

static void
add_date(char *buf, size_t cap, int64_t s)
{
	time_t t = (time_t)s;
	char text[64] = "?";
	struct tm tm;

	if (gmtime_r(&t, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &tm);
	addf(buf, cap, "%s", text);
}

static bool
ssl_says(unsigned long err, int reason)
{
	return ERR_GET_LIB(err) == ERR_LIB_SSL && ERR_GET_REASON(err) == reason;
}

/* ---- peers that do not speak TLS ---- */

static bool
spoke_http(const char *greeting)
{
	static const char *const words[] = { "GET /", "GET h", "HEAD ", "POST ", "PUT /", "PUT h",
		"DELET", "OPTIO", "PATCH", "CONNE", "TRACE", "PRI *", "HTTP/" };

	for (size_t i = 0; i < sizeof(words) / sizeof(*words); i++)
		if (!strcmp(greeting, words[i]))
			return true;
	return false;
}

/* Both begin with a record of the handshake or an alert; a client's hello may also have the form
 * of SSL 2. */
static bool
spoke_tls(const struct hello *h, const char *greeting)
{
	unsigned char first = (unsigned char)greeting[0];

	if (!h->client && (h->version || first & 0x80))
		return true;
	return first == SSL3_RT_HANDSHAKE || first == SSL3_RT_ALERT;
}

static void
add_greeting(char *buf, size_t cap, const struct hello *h, const char *greeting)
{
	if (spoke_http(greeting)) {
		addf(buf, cap, "the %s spoke plain HTTP, not TLS", peer_of(h));
		return;
	}
	addf(buf, cap, "the %s does not speak TLS: it said \"", peer_of(h));
	for (; *greeting; greeting++)
		addf(buf, cap, "%c",
		    isprint((unsigned char)*greeting) && *greeting != '"' ? *greeting : '?');
	addf(buf, cap, "\"");
}

/* ---- why ---- */

static void
add_refusal(char *buf, size_t cap, const struct hello *h)
{
	addf(buf, cap, "the %s's certificate ", peer_of(h));
	switch (h->verdict) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		addf(buf, cap, "is for other names (%s), not for %s",
		    h->names[0] ? h->names : "it has none", h->wanted);
		return;
	case X509_V_ERR_CERT_HAS_EXPIRED:
		if (is_past(h->ends)) {
			addf(buf, cap, "expired on ");
			add_date(buf, cap, h->ends);
			return;
		}
		addf(buf, cap, "was refused: one of those above it has expired");
		return;
	case X509_V_ERR_CERT_NOT_YET_VALID:
		if (h->begins && !is_past(h->begins)) {
			addf(buf, cap, "is not valid before ");
			add_date(buf, cap, h->begins);
			return;
		}
		break;
	}
	addf(buf, cap, "was refused: %s", X509_verify_cert_error_string(h->verdict));
}

static void
add_alert(char *buf, size_t cap, bool client, int alert)
{
	const char *peer = client ? "server" : "client";

	if ((alert & 0xff) == SSL_AD_CLOSE_NOTIFY)
		addf(buf, cap, "the %s closed the connection in the handshake", peer);
	else if (client && (alert & 0xff) == SSL_AD_CERTIFICATE_REQUIRED)
		addf(buf, cap, "the server wants a certificate, with alert: %s", alert_name(alert));
	else
		addf(buf, cap, "the %s refused%s, with alert: %s", peer,
		    client && about_certificate(alert) ? " our certificate" : "",
		    alert_name(alert));
}

static const char *
own_words(const struct hello *h, unsigned long err)
{
	if (ERR_GET_LIB(err) != ERR_LIB_SSL)
		return NULL;
	switch (ERR_GET_REASON(err)) {
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_WRONG_SSL_VERSION:
		return "no shared protocol version";
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_GROUPS:
		return "no shared group";
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return h->client ? NULL : "the client sent no certificate";
	}
	return NULL;
}

static void
add_cause(char *buf, size_t cap, const struct hello *h, unsigned long err)
{
	const char *why = own_words(h, err);

	if (h->big_certificate && h->client)
		addf(buf, cap, "the server's certificates are too large");
	else if (h->big_certificate)
		addf(buf, cap, "the client's certificates are larger than %d KiB",
		    ENV_CERT_MAX / 1024);
	else if (h->pin_failed)
		addf(buf, cap, "no --pin is met by the %s's certificate", peer_of(h));
	else if (h->verdict != X509_V_OK)
		add_refusal(buf, cap, h);
	else if (h->alert_got >= 0)
		add_alert(buf, cap, h->client, h->alert_got);
	else
		addf(buf, cap, "%s",
		    why					   ? why
		    : (why = ERR_reason_error_string(err)) ? why
							   : "OpenSSL gives no reason");
}

/* ---- when ---- */

static void
add_versions(char *buf, size_t cap, const struct hello *h, unsigned long err)
{
	if (h->client) {
		addf(buf, cap, "; we offered %s", version_name(h->min_version));
		if (h->max_version > h->min_version)
			addf(buf, cap, " to %s", version_name(h->max_version));
	} else if (h->version) {
		addf(buf, cap, "; client offered at most %s", version_name(h->version));
		if (h->version < h->min_version)
			addf(buf, cap, ", the minimum is %s", version_name(h->min_version));
		else if (ssl_says(err, SSL_R_UNSUPPORTED_PROTOCOL))
			addf(buf, cap, ", the maximum is %s", version_name(h->max_version));
	}
}

static void
add_circumstances(char *buf, size_t cap, const struct hello *h, unsigned long err)
{
	size_t begin = strlen(buf);

	if (h->leaf[0])
		addf(buf, cap, "; %s", h->leaf);
	add_versions(buf, cap, h, err);
	if (h->name[0])
		addf(buf, cap, "; server name %s", h->name);
	if (h->alpn[0])
		addf(buf, cap, "; ALPN %s", h->alpn);
	if (h->stage)
		addf(buf, cap, "; %s", h->stage);
	if (h->alert_sent >= 0)
		addf(buf, cap, "; alert sent: %s", alert_name(h->alert_sent));
	if (strlen(buf) < begin + 2)
		return;
	buf[begin] = ' '; /* in place of the first separator */
	buf[begin + 1] = '(';
	addf(buf, cap, ")");
}

/* ---- what to try ---- */

static void
add_advice_about_certificate(char *buf, size_t cap, const struct hello *h)
{
	switch (h->verdict) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		addf(buf, cap, "; --servername says which name to look for");
		return;
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		addf(buf, cap, "; --no-verify goes on without a check");
		break;
	default:
		addf(buf, cap, "; --ca FILE says who is trusted, --no-verify trusts anybody");
	}
	if (h->pin[0])
		addf(buf, cap, ", and with --pin %s this key alone", h->pin);
}

static const char *
advice_about_alert(int alert)
{
	switch (alert & 0xff) {
	case SSL_AD_PROTOCOL_VERSION:
		return "; --min-version and --max-version say what is offered";
	case SSL_AD_HANDSHAKE_FAILURE:
	case SSL_AD_INSUFFICIENT_SECURITY:
		return "; it may want other --ciphers, --ciphersuites or --groups, or a "
		       "certificate (--cert)";
	case SSL_AD_UNRECOGNIZED_NAME:
		return "; --servername says which name to ask for";
	case SSL_AD_NO_APPLICATION_PROTOCOL:
		return "; --alpn says what is offered";
	}
	return about_certificate(alert) || (alert & 0xff) == SSL_AD_CERTIFICATE_REQUIRED
		   ? "; --cert and --key say which is shown"
		   : "";
}

static void
add_advice(char *buf, size_t cap, const struct hello *h, unsigned long err)
{
	if (h->big_certificate)
		return;
	if (h->client && h->pin_failed)
		addf(buf, cap, "; its key is %s", h->pin);
	else if (h->client && h->verdict != X509_V_OK)
		add_advice_about_certificate(buf, cap, h);
	else if (h->client && h->alert_got >= 0 && h->asked)
		addf(buf, cap, "; it asked for a certificate: --cert and --key show one");
	else if (h->client && h->alert_got >= 0)
		addf(buf, cap, "%s", advice_about_alert(h->alert_got));
	else if (h->verdict != X509_V_OK && !is_past(h->ends))
		addf(buf, cap, "; --client-ca says who is trusted");
	else if (ssl_says(err, SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE))
		addf(buf, cap, "; --verify require wants one");
}

/* ---- the lines ---- */

void
facts_failure(char *buf, size_t cap, const struct hello *h, unsigned long err, const char *greeting)
{
	buf[0] = '\0';
	if (!spoke_tls(h, greeting)) {
		add_greeting(buf, cap, h, greeting);
		if (h->client)
			addf(buf, cap, "; its TLS may be on another port");
		return;
	}
	add_cause(buf, cap, h, err);
	add_circumstances(buf, cap, h, err);
	add_advice(buf, cap, h, err);
}

void
facts_ended(char *buf, size_t cap, const struct hello *h, const char *how)
{
	buf[0] = '\0';
	addf(buf, cap, "%s", how);
	if (h->alert_got >= 0)
		addf(buf, cap, " after alert: %s", alert_name(h->alert_got));
	add_circumstances(buf, cap, h, 0);
}

void
facts_pending(char *buf, size_t cap, const struct hello *h, const char *greeting)
{
	struct hello rest = *h;

	rest.stage = NULL;
	buf[0] = '\0';
	if (*greeting && !spoke_tls(h, greeting))
		add_greeting(buf, cap, h, greeting);
	else if (!*greeting)
		addf(buf, cap, "the %s said nothing", peer_of(h));
	else if (!h->client && !h->version)
		addf(buf, cap, "stopped before a whole hello came");
	else
		addf(buf, cap, "stopped while %s", h->stage);
	add_circumstances(buf, cap, &rest, 0);
}

bool
facts_broken(char *buf, size_t cap, bool client, unsigned long err)
{
	int alert =
	    ERR_GET_LIB(err) == ERR_LIB_SSL ? ERR_GET_REASON(err) - SSL_AD_REASON_OFFSET : -1;
	const char *why = ERR_reason_error_string(err);

	buf[0] = '\0';
	if (alert < 0 || alert > 255) {
		addf(buf, cap, "%s", why ? why : "OpenSSL gives no reason");
		return false;
	}
	/* A server of TLS 1.3 says so only when the client has finished. */
	if (client && (about_certificate(alert) || alert == SSL_AD_CERTIFICATE_REQUIRED)) {
		add_alert(buf, cap, client, alert);
		addf(buf, cap, "%s", advice_about_alert(alert));
		return true;
	}
	addf(buf, cap, "the %s ended it with alert: %s", client ? "server" : "client",
	    alert_name(alert));
	return false;
}
