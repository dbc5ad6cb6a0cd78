#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tls/context.h"
#include "tls/policy.h"

struct tls_context {
	SSL_CTX *ctx;
};

struct alpn { /* hangs on the SSL_CTX, so that links may outlive the context */
	unsigned len;
	unsigned char wire[]; /* each name after a byte with its length */
};

static int __attribute__((format(printf, 4, 5)))
fail(int err, char *msg, size_t cap, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, cap, fmt, ap);
	va_end(ap);
	ERR_clear_error();
	return err;
}

/* The errno that OpenSSL met, 0 if the failure was none of the system's. */
static int
system_errno(void)
{
	unsigned long err;

	while ((err = ERR_get_error()))
		if (ERR_SYSTEM_ERROR(err))
			return ERR_GET_REASON(err);
	return 0;
}

static bool
is_error(unsigned long err, int lib, int reason)
{
	return ERR_GET_LIB(err) == lib && ERR_GET_REASON(err) == reason;
}

/* what: "certificate" or "private key", which file should hold. */
static int
bad_file(const char *file, const char *what, char *msg, size_t cap)
{
	unsigned long first = ERR_peek_error(), last = ERR_peek_last_error();
	const char *why = ERR_reason_error_string(first);
	int sys = system_errno();
	struct stat st;

	/* OpenSSL takes a directory for an empty file. */
	if (!sys && stat(file, &st) == 0 && S_ISDIR(st.st_mode))
		sys = EISDIR;
	switch (sys) {
	case 0:
		break;
	case ENOENT:
		return fail(-ENOENT, msg, cap, "%s is not there", file);
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return fail(-sys, msg, cap, "%s: %s", file, strerror(sys));
	default:
		return fail(-EKEYREJECTED, msg, cap, "%s: %s", file, strerror(sys));
	}
	if (is_error(last, ERR_LIB_PEM, PEM_R_NO_START_LINE) ||
	    is_error(first, ERR_LIB_PEM, PEM_R_NO_START_LINE) ||
	    is_error(first, ERR_LIB_OSSL_DECODER, ERR_R_UNSUPPORTED))
		return fail(
		    -EKEYREJECTED, msg, cap, "%s: does not hold a %s in PEM form", file, what);
	return fail(-EKEYREJECTED, msg, cap, "%s: its %s is unusable: %s", file, what,
	    why ? why : "OpenSSL gives no reason");
}

static int
load_certificate(SSL_CTX *ctx, const char *file, char *msg, size_t cap)
{
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ctx, file) == 1)
		return 0;
	return bad_file(file, "certificate", msg, cap);
}

/* There is nobody to ask, and a prompt would hang a service. */
static int
no_passphrase(char *buf, int size, int rwflag, void *asked)
{
	(void)buf;
	(void)size;
	(void)rwflag;
	if (asked)
		*(bool *)asked = true;
	return 0;
}

static int
load_key(SSL_CTX *ctx, const char *file, const char *cert, char *msg, size_t cap)
{
	bool asked = false;
	unsigned long err;
	int loaded;

	SSL_CTX_set_default_passwd_cb_userdata(ctx, &asked);
	ERR_clear_error();
	loaded = SSL_CTX_use_PrivateKey_file(ctx, file, SSL_FILETYPE_PEM) == 1;
	SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
	if (loaded && SSL_CTX_check_private_key(ctx))
		return 0;
	if (asked)
		return fail(-EKEYREJECTED, msg, cap,
		    "%s: the private key is protected by a passphrase; it must be stored without "
		    "one",
		    file);
	/* A key of another kind than the certificate's is loaded, and then has no certificate. */
	err = ERR_peek_last_error();
	if (loaded || is_error(err, ERR_LIB_X509, X509_R_KEY_VALUES_MISMATCH) ||
	    is_error(err, ERR_LIB_X509, X509_R_KEY_TYPE_MISMATCH))
		return fail(-EKEYREJECTED, msg, cap,
		    "%s: the private key does not match the certificate in %s", file, cert);
	return bad_file(file, "private key", msg, cap);
}

static int
choose_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len, const unsigned char *offer,
    unsigned offer_len, void *arg)
{
	const struct alpn *ours = arg;
	unsigned char *found;

	(void)ssl;
	if (SSL_select_next_proto(&found, ret_len, ours->wire, ours->len, offer, offer_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_NOACK;
	*ret = found;
	return SSL_TLSEXT_ERR_OK;
}

static void
alpn_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	free(ptr);
}

static int
set_alpn(SSL_CTX *ctx, const struct tls_config *config, char *msg, size_t cap)
{
	static int slot = -1;
	struct alpn *a;
	size_t len = 0;

	if (!config->n_alpn)
		return 0;
	for (size_t i = 0; i < config->n_alpn; i++) {
		size_t n = strlen(config->alpn[i]);

		if (!n || n > 255)
			return fail(-EINVAL, msg, cap,
			    "an ALPN name has 1 to 255 bytes, \"%.20s\" has %zu", config->alpn[i],
			    n);
		len += 1 + n;
	}
	if (len > 65535)
		return fail(-EINVAL, msg, cap, "the ALPN names are longer than 65535 bytes");
	if (slot < 0)
		slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, alpn_free);
	a = malloc(sizeof(*a) + len);
	if (!a || !SSL_CTX_set_ex_data(ctx, slot, a)) {
		free(a);
		return fail(-ENOMEM, msg, cap, "%s", strerror(ENOMEM));
	}
	a->len = 0;
	for (size_t i = 0; i < config->n_alpn; i++) {
		size_t n = strlen(config->alpn[i]);

		a->wire[a->len++] = (unsigned char)n;
		memcpy(a->wire + a->len, config->alpn[i], n);
		a->len += (unsigned)n;
	}
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, a);
	return 0;
}

int
tls_context_new(struct tls_context **ret, const struct tls_config *config, char *msg, size_t cap)
{
	const char *key = config->key ? config->key : config->cert;
	struct tls_context *c = calloc(1, sizeof(*c));
	int r;

	ERR_clear_error();
	if (!c || !(c->ctx = SSL_CTX_new(TLS_server_method()))) {
		r = fail(-ENOMEM, msg, cap, "%s", strerror(ENOMEM));
		goto out;
	}
	SSL_CTX_set_default_passwd_cb(c->ctx, no_passphrase);
	r = policy_apply(c->ctx);
	if (r < 0) {
		const char *why = ERR_reason_error_string(ERR_peek_error());

		fail(r, msg, cap, "this OpenSSL refuses the TLS policy: %s",
		    why ? why : "no reason");
		goto out;
	}
	if ((r = set_alpn(c->ctx, config, msg, cap)) < 0 ||
	    (r = load_certificate(c->ctx, config->cert, msg, cap)) < 0 ||
	    (r = load_key(c->ctx, key, config->cert, msg, cap)) < 0)
		goto out;
	*ret = c;
	c = NULL;
out:
	tls_context_free(c);
	return r;
}

void
tls_context_free(struct tls_context *c)
{
	if (!c)
		return;
	SSL_CTX_free(c->ctx);
	free(c);
}

SSL *
tls_context_ssl(struct tls_context *c)
{
	SSL *ssl = SSL_new(c->ctx);

	if (ssl)
		SSL_set_accept_state(ssl);
	return ssl;
}

void
tls_about(char *buf, size_t cap)
{
	snprintf(buf, cap, "%s", OpenSSL_version(OPENSSL_VERSION));
}
