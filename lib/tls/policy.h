/* tls/policy - what is demanded of every handshake, in one place.  By default CCF.md section 3 to the letter: TLS 1.2 up, its
 * suites and groups (hybrid ones where the library has them), no resumption, no tickets, no 0-RTT, no renegotiation, a
 * client's certificate asked for and never judged. */
#ifndef TLS_POLICY_H
#define TLS_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

enum tls_verify { TLS_REQUEST, TLS_REQUIRE, TLS_NONE }; /* the peer's certificate; words: tls_verify_words */
enum tls_version { TLS_V12, TLS_V13 };			/* words: tls_version_words ("1.2", "1.3") */

extern const char *const tls_verify_words[], *const tls_version_words[]; /* NULL-terminated, in the enum's order */

struct tls_policy {
	bool client;			      /* of a client: verify decides about the server (TLS_NONE: --no-verify) */
	int min_version, max_version;	      /* enum tls_version */
	const char *ciphers;		      /* TLS 1.2, OpenSSL's list; NULL: CCF's */
	const char *ciphersuites;	      /* TLS 1.3; NULL: CCF's */
	const char *groups;		      /* names and ':', "?" before one: skip it if unknown; NULL: CCF's */
	const char *const *alpn;	      /* n_alpn names in order of preference; none: no ALPN */
	size_t n_alpn;
	int verify;			      /* enum tls_verify */
	int64_t tickets;		      /* seconds for which a session may be resumed (keys: material); 0: none */
};

int policy_check(const struct tls_policy *, char *msg, size_t cap);
/* 0.  -EINVAL: msg names the option and the piece of it that OpenSSL refused ("--groups: OpenSSL knows no group
 * \"P-999\""), for a usage error; also where the pieces exclude each other (--min-version above --max-version, a suite
 * list that leaves no suite for a version that is allowed).  -ENOTSUP: this OpenSSL cannot keep the rest. */
int policy_apply(struct ssl_ctx_st *, const struct tls_policy *); /* 0; -EINVAL, -ENOTSUP as policy_check */

#endif
