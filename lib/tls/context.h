/* tls/context - what one interface's handshakes share: certificate chain, key, policy.  An SSL_CTX
 * behind a name.  Only tls/ includes <openssl/>. */
#ifndef TLS_CONTEXT_H
#define TLS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

struct ssl_st; /* OpenSSL's SSL */
struct tls_context;

struct tls_config {
	const char *cert;	 /* PEM file; the whole chain in it is sent */
	const char *key;	 /* PEM file; NULL: in the same file */
	const char *const *alpn; /* names, n_alpn of them, in order of preference; none: no ALPN */
	size_t n_alpn;
};

int tls_context_new(struct tls_context **ret, const struct tls_config *, char *msg, size_t cap);
/* 0.  -ENOENT: cert or key is not there (that alone: deferred), msg has its path.  -EKEYREJECTED: a
 * file is there and unusable (msg: which, and OpenSSL's reason).  -EINVAL: a bad ALPN name.
 * -ENOMEM, -EMFILE, -ENFILE: no fault of the files.  -ENOTSUP: this OpenSSL cannot keep the policy.
 * Policy is CCF's (CCF.md section 3): TLS 1.2 up, its suites and groups, no resumption, no tickets,
 * no 0-RTT, no renegotiation, client certificate requested and never verified. */
void tls_context_free(struct tls_context *); /* links made from it keep what they started with */
struct ssl_st *tls_context_ssl(struct tls_context *);
/* For tls/link: a new server side, yours; it outlives the context.  NULL: no memory. */
void tls_about(char *buf, size_t cap); /* "OpenSSL 3.0.x ..." for --version */

#endif
