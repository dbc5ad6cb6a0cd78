/* tls/context - what handshakes share: policy, certificates by server name, CAs, ticket keys.  SSL_CTXs behind a name.  Only
 * tls/ includes <openssl/>. */
#ifndef TLS_CONTEXT_H
#define TLS_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "tls/policy.h"

struct material;
struct ssl_st; /* OpenSSL's SSL */
struct tls_context;

struct tls_server_check { /* what a client demands of the server; strings are copied */
	const char *name;	/* sent as SNI (not if it is an address) and looked for in the certificate; NULL: neither */
	const char *const *pin; /* n_pin of them, "sha256:" and 64 hex digits or 44 base64 characters, of the leaf's
				   SubjectPublicKeyInfo or of the whole leaf: one has to be met; none: no pin */
	size_t n_pin;
};

int tls_pin_check(const char *pin); /* is it one, as written?  0 or -EINVAL */

int tls_context_new(struct tls_context **ret, const struct tls_policy *, const struct material *,
    const struct tls_server_check *, char *msg, size_t cap);
/* A server's needs at least one certificate in the material; a client's may have one, and has a check (NULL for a server).
 * By SNI: an exact name first, then a wildcard for exactly one label, else the first certificates without a name, else
 * those of the first name.  Several certificates of one name stand side by side (ECDSA and RSA).
 * 0.  -EKEYREJECTED: something in the material is unusable, msg: which file, and OpenSSL's reason.  -EINVAL,
 * -ENOTSUP: as policy_check.  -ENOMEM. */
void tls_context_free(struct tls_context *); /* links made from it keep what they started with */
int tls_keylog(const char *path); /* clients made from now on append their secrets to path (SSLKEYLOGFILE).  0 or -errno */
struct ssl_st *tls_context_ssl(struct tls_context *);
/* For tls/link: a new side, yours; it outlives the context.  NULL: no memory. */
bool tls_context_is_client(const struct tls_context *);
const struct tls_policy *tls_context_policy(const struct tls_context *); /* for messages; its strings are borrowed */
void tls_about(char *buf, size_t cap); /* "OpenSSL 3.0.x ..." for --version */

#endif
