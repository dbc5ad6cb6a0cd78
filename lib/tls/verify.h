/* tls/verify - who judges the peer's certificate, and how: by the CAs that were given, by its name, by its pin.  The verdict
 * is the session's verify result, FACTS_UNJUDGED where nobody was to judge, and of a refusal it stands in the hello too. */
#ifndef TLS_VERIFY_H
#define TLS_VERIFY_H

#include <openssl/ssl.h>
#include <stddef.h>

#define PIN_SIZE 32

struct tls_policy;
struct tls_server_check;

int pin_parse(const char *pin, unsigned char ret[PIN_SIZE]); /* 0 or -EINVAL */
int verify_setup(SSL_CTX *, const struct tls_policy *, const struct tls_server_check *, X509_STORE *cas);
/* check: NULL for a server; cas, kept by reference: NULL, and nobody judges clients, no server is trusted by a CA.
 * 0, -ENOMEM, -EINVAL: a pin or the name. */
int verify_store(X509_STORE **ret, const char *pem, size_t len, char *msg, size_t cap); /* 0, -EKEYREJECTED, -ENOMEM */
void *hang(SSL_CTX *, int *slot, size_t size); /* zeroed memory that the SSL_CTX frees; *slot begins as -1.  NULL: none */

#endif
