/* tls_made - certificates made in this process, good and hostile ones. */
#ifndef TLS_MADE_H
#define TLS_MADE_H

#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

struct made {
	X509 *cert;
	EVP_PKEY *key;
};

struct make {
	const char *cn; /* cn_len bytes; 0: to its NUL; NULL: "made" */
	int cn_len;
	const char *org;
	const char *san; /* as openssl.cnf has it */
	int names;	 /* and so many more of DNS names */
	int comment;	 /* bytes of an extension that nobody wants */
	long from, to;	 /* s from now; 0, 0: from an hour ago for a day */
	const struct made *issuer; /* NULL: itself */
	bool ca;
};

static inline void
made_ext(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
}

static inline void
made_sans(X509 *x, int names)
{
	GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
	char text[32];

	for (int i = 0; i < names; i++) {
		GENERAL_NAME *name = GENERAL_NAME_new();
		ASN1_IA5STRING *s = ASN1_IA5STRING_new();

		snprintf(text, sizeof(text), "a%d", i % 10);
		ASN1_STRING_set(s, text, -1);
		GENERAL_NAME_set0_value(name, GEN_DNS, s);
		sk_GENERAL_NAME_push(all, name);
	}
	X509_add1_ext_i2d(x, NID_subject_alt_name, all, 0, 0);
	GENERAL_NAMES_free(all);
}

static inline void
made_comment(X509 *x, int n)
{
	ASN1_OCTET_STRING *os = ASN1_OCTET_STRING_new();
	unsigned char *text = malloc((size_t)n);
	X509_EXTENSION *ext;

	memset(text, 'x', (size_t)n);
	ASN1_OCTET_STRING_set(os, text, n);
	ext = X509_EXTENSION_create_by_NID(NULL, NID_netscape_comment, 0, os);
	X509_add_ext(x, ext, -1);
	X509_EXTENSION_free(ext);
	ASN1_OCTET_STRING_free(os);
	free(text);
}

static inline struct made
make_cert(struct make m)
{
	struct made new = { X509_new(), EVP_EC_gen("P-256") };
	const struct made *by = m.issuer ? m.issuer : &new;
	X509_NAME *name = X509_get_subject_name(new.cert);
	static long serial;

	ASN1_INTEGER_set(X509_get_serialNumber(new.cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(new.cert), m.from || m.to ? m.from : -3600);
	X509_gmtime_adj(X509_getm_notAfter(new.cert), m.from || m.to ? m.to : 86400);
	if (m.org)
		X509_NAME_add_entry_by_txt(
		    name, "O", MBSTRING_UTF8, (const unsigned char *)m.org, -1, -1, 0);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
	    (const unsigned char *)(m.cn ? m.cn : "made"), m.cn_len ? m.cn_len : -1, -1, 0);
	X509_set_issuer_name(new.cert, X509_get_subject_name(by->cert));
	X509_set_version(new.cert, 2);
	X509_set_pubkey(new.cert, new.key);
	if (m.ca)
		made_ext(new.cert, NID_basic_constraints, "critical,CA:TRUE");
	if (m.san)
		made_ext(new.cert, NID_subject_alt_name, m.san);
	if (m.names)
		made_sans(new.cert, m.names);
	if (m.comment)
		made_comment(new.cert, m.comment);
	X509_sign(new.cert, by->key, EVP_sha256());
	return new;
}

static inline void
made_end(struct made *m)
{
	X509_free(m->cert);
	EVP_PKEY_free(m->key);
	*m = (struct made){ 0 };
}

#endif
