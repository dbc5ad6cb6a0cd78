#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tls/cert.h"

/* What was printed, if it was; b is gone in any case. */
static char *
take_text(BIO *b, bool printed)
{
	char *p, *s = NULL;
	long n = b && printed ? BIO_get_mem_data(b, &p) : 0;

	if (n > 0)
		s = strndup(p, (size_t)n);
	BIO_free(b);
	return s;
}

char *
cert_pem(X509 *cert)
{
	BIO *b = BIO_new(BIO_s_mem());

	return take_text(b, b && PEM_write_bio_X509(b, cert));
}

char *
cert_name(const X509_NAME *name)
{
	BIO *b = BIO_new(BIO_s_mem());

	return take_text(b, b && X509_NAME_print_ex(b, name, 0, XN_FLAG_RFC2253) >= 0);
}

/* "() {" at the start of a variable is a program to an old bash. */
char *
cert_common_name(const X509 *cert)
{
	const X509_NAME *subject = X509_get_subject_name(cert);
	const ASN1_STRING *cn;
	int last = -1, next;
	char *s, *safe;
	BIO *b;

	while ((next = X509_NAME_get_index_by_NID(subject, NID_commonName, last)) >= 0)
		last = next;
	if (last < 0 || !(b = BIO_new(BIO_s_mem())))
		return NULL;
	cn = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, last));
	s = take_text(
	    b, ASN1_STRING_print_ex(b, cn,
		   ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_ESC_MSB | ASN1_STRFLGS_UTF8_CONVERT) >= 0);
	if (!s || strncmp(s, "() {", 4) != 0)
		return s;
	if (asprintf(&safe, "\\28%s", s + 1) < 0)
		safe = NULL;
	free(s);
	return safe;
}

/* As RFC 2253 escapes: a backslash and two hex digits; the comma too, it stands between names. */
static void
put_escaped(BIO *b, const char *kind, const unsigned char *p, int n)
{
	BIO_puts(b, kind);
	for (; n > 0; n--, p++) {
		if (isgraph(*p) && *p != ',' && *p != '\\')
			BIO_write(b, p, 1);
		else
			BIO_printf(b, "\\%02X", *p);
	}
}

static void
put_string(BIO *b, const char *kind, const ASN1_STRING *s)
{
	put_escaped(b, kind, ASN1_STRING_get0_data(s), ASN1_STRING_length(s));
}

static void
put_address(BIO *b, const ASN1_OCTET_STRING *ip)
{
	int n = ASN1_STRING_length(ip);
	char text[INET6_ADDRSTRLEN];

	if ((n == 4 || n == 16) &&
	    inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(ip), text, sizeof(text)))
		BIO_printf(b, "IP:%s", text);
	else
		put_string(b, "IP:", ip);
}

static void
put_oid(BIO *b, const char *kind, const ASN1_OBJECT *oid)
{
	char text[128];

	OBJ_obj2txt(text, sizeof(text), oid, 1);
	BIO_printf(b, "%s:%s", kind, text);
}

static void
put_san(BIO *b, const GENERAL_NAME *name)
{
	char *dn;

	switch (name->type) {
	case GEN_DNS:
		put_string(b, "DNS:", name->d.dNSName);
		break;
	case GEN_EMAIL:
		put_string(b, "email:", name->d.rfc822Name);
		break;
	case GEN_URI:
		put_string(b, "URI:", name->d.uniformResourceIdentifier);
		break;
	case GEN_IPADD:
		put_address(b, name->d.iPAddress);
		break;
	case GEN_DIRNAME:
		dn = cert_name(name->d.directoryName);
		put_escaped(b, "DirName:", (unsigned char *)dn, dn ? (int)strlen(dn) : 0);
		free(dn);
		break;
	case GEN_RID:
		put_oid(b, "RID", name->d.registeredID);
		break;
	case GEN_OTHERNAME:
		put_oid(b, "othername", name->d.otherName->type_id);
		break;
	default:
		BIO_puts(b, "other");
	}
}

char *
cert_sans(const X509 *cert, size_t enough)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	BIO *b = names ? BIO_new(BIO_s_mem()) : NULL;

	for (int i = 0; b && i < sk_GENERAL_NAME_num(names); i++) {
		if ((size_t)BIO_pending(b) > enough)
			break;
		if (i)
			BIO_puts(b, ", ");
		put_san(b, sk_GENERAL_NAME_value(names, i));
	}
	GENERAL_NAMES_free(names);
	return take_text(b, true);
}

static void
to_hex(const unsigned char *md, unsigned n, char hex[CERT_HEX])
{
	static const char digits[] = "0123456789abcdef";

	for (unsigned i = 0; i < n; i++) {
		*hex++ = digits[md[i] >> 4];
		*hex++ = digits[md[i] & 15];
	}
	*hex = '\0';
}

void
cert_sha256(const X509 *cert, char hex[CERT_HEX])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	if (!X509_digest(cert, EVP_sha256(), md, &n))
		n = 0;
	to_hex(md, n, hex);
}

void
cert_key_sha256(const X509 *cert, char hex[CERT_HEX])
{
	unsigned char md[EVP_MAX_MD_SIZE], *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
	unsigned n = 0;

	if (len <= 0 || !EVP_Digest(der, (size_t)len, md, &n, EVP_sha256(), NULL))
		n = 0;
	OPENSSL_free(der);
	to_hex(md, n, hex);
}

int64_t
cert_time(const ASN1_TIME *t)
{
	struct tm tm;

	return ASN1_TIME_to_tm(t, &tm) ? timegm(&tm) : 0;
}
