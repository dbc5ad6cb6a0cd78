/* tls/policy - what CCF demands of every handshake (CCF.md section 3), in one place: versions,
 * suites, groups, no resumption, no 0-RTT, no renegotiation, client certificates asked for and
 * never judged. */
#ifndef TLS_POLICY_H
#define TLS_POLICY_H

#include <openssl/ssl.h>

int policy_apply(SSL_CTX *); /* 0; -ENOTSUP if this OpenSSL cannot be told so; ERR_* says why */

#endif
