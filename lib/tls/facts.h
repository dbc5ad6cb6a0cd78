/* tls/facts - what is known about a peer: the environment's SSL_* names after a handshake, and one
 * line about what went wrong after one that failed. */
#ifndef TLS_FACTS_H
#define TLS_FACTS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>

struct env;

struct hello {		/* collected while the handshake runs; lives no longer */
	int version;	/* the highest the client offered, 0: no hello came */
	char name[128]; /* server name and ALPN it asked for, cut to fit, printable */
	char alpn[128];
	int alert_got, alert_sent; /* the last ones, or -1 */
	bool big_certificate;	   /* refused for its size */
};

void hello_watch(SSL_CTX *); /* from now on handshakes fill in their hello */
void hello_begin(SSL *, struct hello *);
/* Borrowed until hello_begin(ssl, NULL). */
struct hello *hello_of(SSL *);

void facts_env(SSL *, struct env *);
void facts_failure(
    char *buf, size_t cap, const struct hello *, unsigned long err, const char *greeting);
/* One line; err is OpenSSL's first error, greeting the first five bytes of the client. */

#endif
