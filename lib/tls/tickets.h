/* tls/tickets - sessions that are resumed: all of a session stands in its ticket, and whoever has the keys can go on with it,
 * another worker or the next process. */
#ifndef TLS_TICKETS_H
#define TLS_TICKETS_H

#include <openssl/ssl.h>

struct material;
struct tls_policy;

int tickets_setup(SSL_CTX *, const struct tls_policy *, const struct material *);
/* Of a server: none unless the policy has them and the material their keys.  Whichever, a ticket that is asked for after
 * the handshake fails (hello_of says it is over): tls/link provokes that for its alert.  0, -ENOMEM, -ENOTSUP */

#endif
