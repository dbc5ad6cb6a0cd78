/* cmd/via_tls - `ccf-connect --tls`: the options of ccf-tlsterm's client, kept as they were written; once connected,
 * ccf-connect becomes `ccf-tlsterm --client` with them. */
#ifndef CMD_VIA_TLS_H
#define CMD_VIA_TLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/opts.h"

enum {
	VIA_CA, VIA_CIPHERS, VIA_CIPHERSUITES, VIA_GROUPS, VIA_HANDSHAKE, VIA_MAX, VIA_MIN, VIA_PASSPHRASE, VIA_SERVERNAME,
	VIA_TEXTS
};
enum { VIA_ALPN, VIA_CERT, VIA_KEY, VIA_PIN, VIA_LISTS };

struct via_tls {
	bool on, no_verify, require_close_notify;
	int keep; /* the descriptor of --passphrase fd:N, or -1 */
	const char *text[VIA_TEXTS];
	struct opt_list list[VIA_LISTS];
};

extern struct via_tls via_tls;

#define VIA_TLS_OPTS \
	{ 0, "tls", NULL, OPT_FLAG, &via_tls.on, 0, 0, NULL, \
	    "speak TLS, through ccf-tlsterm; the options marked (tls) are its" }, \
	{ 0, "alpn", "NAME", OPT_LIST, &via_tls.list[VIA_ALPN], 0, 0, NULL, \
	    "(tls) protocol to agree on, in order of preference" }, \
	{ 0, "ca", "FILE|DIR", OPT_TEXT, &via_tls.text[VIA_CA], 0, 0, NULL, \
	    "(tls) who signs servers' certificates (those the system trusts)" }, \
	{ 0, "cert", "FILE", OPT_LIST, &via_tls.list[VIA_CERT], 0, 0, NULL, \
	    "(tls) our certificate chain, PEM" }, \
	{ 0, "ciphers", "LIST", OPT_TEXT, &via_tls.text[VIA_CIPHERS], 0, 0, NULL, \
	    "(tls) suites of TLS 1.2" }, \
	{ 0, "ciphersuites", "LIST", OPT_TEXT, &via_tls.text[VIA_CIPHERSUITES], 0, 0, NULL, \
	    "(tls) suites of TLS 1.3" }, \
	{ 0, "groups", "LIST", OPT_TEXT, &via_tls.text[VIA_GROUPS], 0, 0, NULL, \
	    "(tls) of the key exchange" }, \
	{ 0, "handshake-timeout", "TIME", OPT_TEXT, &via_tls.text[VIA_HANDSHAKE], 0, 0, NULL, \
	    "(tls) from the connection to the end of the handshake (10s)" }, \
	{ 0, "key", "FILE", OPT_LIST, &via_tls.list[VIA_KEY], 0, 0, NULL, \
	    "(tls) our private key, PEM" }, \
	{ 0, "max-version", "VERSION", OPT_TEXT, &via_tls.text[VIA_MAX], 0, 0, NULL, \
	    "(tls) 1.2 or 1.3 (1.3)" }, \
	{ 0, "min-version", "VERSION", OPT_TEXT, &via_tls.text[VIA_MIN], 0, 0, NULL, \
	    "(tls) 1.2 or 1.3 (1.2)" }, \
	{ 0, "no-verify", NULL, OPT_FLAG, &via_tls.no_verify, 0, 0, NULL, \
	    "(tls) talk to any server" }, \
	{ 0, "passphrase", "SOURCE", OPT_TEXT, &via_tls.text[VIA_PASSPHRASE], 0, 0, NULL, \
	    "(tls) of the key: env:NAME, file:PATH or fd:N" }, \
	{ 0, "pin", "HASH", OPT_LIST, &via_tls.list[VIA_PIN], 0, 0, NULL, \
	    "(tls) sha256:... of the server's key or certificate (repeatable)" }, \
	{ 0, "require-close-notify", NULL, OPT_FLAG, &via_tls.require_close_notify, 0, 0, NULL, \
	    "(tls) a server that ends without close_notify was cut" }, \
	{ 0, "servername", "NAME", OPT_TEXT, &via_tls.text[VIA_SERVERNAME], 0, 0, NULL, \
	    "(tls) whom to ask for and to expect (the host of ADDRESS)" }

bool via_tls_check(void); /* is it --tls?  Exits 2 where its options stand without it, 127 where ccf-tlsterm is missing */
char **via_tls_argv(char *const *command, int64_t idle, int64_t half_close, int64_t flush);
/* The command line of ccf-tlsterm; command (NULL: standard input and output) stands at its end.  Times in ms, -1: none, -2: not
 * given.  For good. */

#endif
