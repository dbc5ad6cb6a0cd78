/* tls/facts - what is known about a peer: the environment's SSL_* and CCF_* names after a handshake, and one line about what
 * went wrong in one that failed. */
#ifndef TLS_FACTS_H
#define TLS_FACTS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct env;
struct tls_policy;

#define FACTS_UNJUDGED X509_V_ERR_UNSPECIFIED
/* The verify result (X509_STORE_CTX_set_error, and 1 returned) of a certificate that nobody was to judge.  It stands in the
 * session, so that a resumed one says so too. */

struct hello {		/* collected while the handshake runs; lives no longer */
	bool client;	/* ours: the peer is the server */
	int version;	/* the highest the client offered, 0: no hello came */
	char name[256]; /* server name and ALPN it asked for, cut to fit, printable */
	char alpn[128];
	int alert_got, alert_sent;    /* the last ones, or -1 */
	int min_version, max_version; /* ours: 0x0303 ... */
	const char *stage;	    /* how far it came, in words; static */
	bool big_certificate;	    /* refused for its size */
	bool asked;		    /* of a client: the server asked for a certificate, and we had none that fits */
	long verdict;		    /* X509_V_*: why the peer's certificate was refused; X509_V_OK: it was not */
	bool pin_failed;
	char leaf[512];		    /* the peer's, if it sent one: subject and SHA-256, printable */
	int64_t begins, ends;	    /* the leaf's, s since 1970 */
	char wanted[256];	    /* of a client: the name or address the leaf has to have, */
	char names[256];	    /* those it has, */
	char pin[80];		    /* and its key as --pin has it */
};

void hello_watch(SSL_CTX *); /* from now on handshakes fill in their hello */
void hello_begin(SSL *, const struct tls_policy *, struct hello *);
/* The hello is borrowed until hello_begin(ssl, NULL, NULL). */
struct hello *hello_of(SSL *); /* NULL after the handshake */
void hello_leaf(struct hello *, X509 *); /* notes whose certificate it is; for who refuses it */
void hello_end(SSL *, struct hello *, unsigned long err);
/* Before facts_failure and facts_pending: adds what OpenSSL knows.  err as below. */

void facts_env(SSL *, struct env *);
/* Of a server's side: SSL_PROTOCOL, SSL_CIPHER, SSL_SESSION_RESUMED (Initial, Resumed), SSL_TLS_SNI_SERVERNAME, CCF_ALPN,
 * SSL_CLIENT_VERIFY (NONE; GENEROUS: nobody was to judge it; SUCCESS; FAILED:reason), and of a certificate SSL_CLIENT_CERT
 * (PEM), SSL_CLIENT_S_DN, SSL_CLIENT_I_DN (RFC 2253, escaped), SSL_PEER_CERT_CN, CCF_CLIENT_SANS ("DNS:a, IP:1.2.3.4,
 * URI:...", escaped), CCF_CLIENT_SHA256 (hex).  Of a client's: the same with SERVER for CLIENT. */
void facts_failure(
    char *buf, size_t cap, const struct hello *, unsigned long err, const char *greeting);
/* One line: the reason, then in parentheses the peer's leaf, versions, server name and ALPN offered, the stage, alerts; then
 * what to try.  err is OpenSSL's first error, 0: none; greeting the first five bytes of the peer. */
void facts_ended(char *buf, size_t cap, const struct hello *, const char *how);
/* The same where not TLS but the connection failed: how says what came of it. */
void facts_pending(char *buf, size_t cap, const struct hello *, const char *greeting);
/* How far a handshake has come that is not at its end: "the client said nothing", "stopped while ... (...)". */
bool facts_broken(char *buf, size_t cap, bool client, unsigned long err);
/* Why a connection failed after its handshake; client as in hello.  True: the server refused the client's certificate. */

#endif
