/* tls/cert - what a certificate says, as text: no byte of it can end a line or a string, or pass for a separator.  Strings
 * are the caller's to free; NULL: the certificate does not say it, or there is no memory. */
#ifndef TLS_CERT_H
#define TLS_CERT_H

#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>

#define CERT_HEX 65 /* a SHA-256 in hex, and its NUL */

char *cert_pem(X509 *); /* the one that has lines */
char *cert_name(const X509_NAME *); /* RFC 2253 */
char *cert_common_name(const X509 *); /* the last of the subject's */
char *cert_sans(const X509 *, size_t enough); /* "DNS:a, IP:1.2.3.4, URI:..."; what follows after enough bytes is left out */
void cert_sha256(const X509 *, char hex[CERT_HEX]);
void cert_key_sha256(const X509 *, char hex[CERT_HEX]); /* of the SubjectPublicKeyInfo */
int64_t cert_time(const ASN1_TIME *); /* s since 1970; 0: no time */

#endif
