#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tls/context.h"
#include "tls/material.h"
#include "tls/says.h"
#include "tls/tickets.h"
#include "tls/verify.h"

struct tls_context {
	SSL_CTX *ctx; /* of the certificates that serve where no name was asked for */
	struct tls_policy policy;
	char sni[256]; /* of a client: the name it asks for, or "" */
};

/* The following hang on the SSL_CTX, so that links may outlive the context. */

struct alpn {
	unsigned len;
	unsigned char wire[]; /* each name after a byte with its length */
};

struct names {
	size_t n;
	struct {
		char name[256];
		SSL_CTX *ctx; /* NULL: the one that this hangs on */
	} at[];
};

struct plan { /* what every SSL_CTX of a context is made from */
	const struct tls_policy *policy;
	const struct material *material;
	const struct tls_server_check *check;
	X509_STORE *cas;
	char *msg;
	size_t cap;
};

static int keylog = -1;

static int
no_memory(const struct plan *p)
{
	return says(-ENOMEM, p->msg, p->cap, "%s", strerror(ENOMEM));
}

static int
unusable(const struct plan *p, const struct material_cert *cert, const char *what)
{
	return says(-EKEYREJECTED, p->msg, p->cap, "%s: its %s is unusable: %s", cert->file, what,
	    says_why());
}

/* Its chain goes to the certificate that was added last. */
static int
use_chain(SSL_CTX *ctx, BIO *pem)
{
	X509 *x;
	int i;

	for (i = 0; (x = PEM_read_bio_X509(pem, NULL, NULL, NULL)); i++) {
		if (i == 0) {
			int used = SSL_CTX_use_certificate(ctx, x);

			X509_free(x);
			if (!used)
				return -1;
		} else if (!SSL_CTX_add0_chain_cert(ctx, x)) {
			X509_free(x);
			return -1;
		}
	}
	if (!i || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return -1;
	ERR_clear_error();
	return 0;
}

static int
use_certificate(SSL_CTX *ctx, const struct plan *p, const struct material_cert *cert)
{
	BIO *pem = BIO_new_mem_buf(cert->pem, (int)cert->pem_len),
	    *key_pem = BIO_new_mem_buf(cert->key, (int)cert->key_len);
	EVP_PKEY *key = NULL;
	int r = 0;

	ERR_clear_error();
	if (!pem || !key_pem)
		r = no_memory(p);
	else if (use_chain(ctx, pem) < 0)
		r = unusable(p, cert, "certificate");
	else if (!(key = PEM_read_bio_PrivateKey(key_pem, NULL, NULL, "")) ||
		 !SSL_CTX_use_PrivateKey(ctx, key) || !SSL_CTX_check_private_key(ctx))
		r = unusable(p, cert, "private key");
	EVP_PKEY_free(key);
	BIO_free(key_pem);
	BIO_free(pem);
	return r;
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

static int
set_alpn(SSL_CTX *ctx, const struct tls_policy *p)
{
	static int slot = -1;
	struct alpn *a;
	size_t len = 0;

	for (size_t i = 0; i < p->n_alpn; i++)
		len += 1 + strlen(p->alpn[i]);
	if (!len)
		return 0;
	if (!(a = hang(ctx, &slot, sizeof(*a) + len)))
		return -ENOMEM;
	for (size_t i = 0; i < p->n_alpn; i++) {
		size_t n = strlen(p->alpn[i]);

		a->wire[a->len++] = (unsigned char)n;
		memcpy(a->wire + a->len, p->alpn[i], n);
		a->len += (unsigned)n;
	}
	if (p->client)
		return SSL_CTX_set_alpn_protos(ctx, a->wire, a->len) ? -ENOMEM : 0;
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, a);
	return 0;
}

/* One write a line: other processes may append to the same file. */
static void
log_key(const SSL *ssl, const char *line)
{
	struct iovec iov[] = { { (char *)line, strlen(line) }, { (char[]){ '\n' }, 1 } };

	(void)ssl;
	if (writev(keylog, iov, 2) < 0)
		return; /* nobody to tell */
}

int
tls_keylog(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);

	if (fd == -1)
		return -errno;
	if (keylog != -1)
		close(keylog);
	keylog = fd;
	return 0;
}

/* All certificates of that name. */
static int
make_ctx(SSL_CTX **ret, const struct plan *p, const char *name)
{
	SSL_CTX *ctx = SSL_CTX_new(p->policy->client ? TLS_client_method() : TLS_server_method());
	const struct material_cert *cert;
	size_t n = material_certs(p->material, &cert);
	int r;

	if (!ctx)
		return no_memory(p);
	if ((r = policy_apply(ctx, p->policy)) == 0 && (r = set_alpn(ctx, p->policy)) == 0 &&
	    (r = verify_setup(ctx, p->policy, p->check, p->cas)) == 0 && !p->policy->client)
		r = tickets_setup(ctx, p->policy, p->material);
	if (r < 0)
		says(r, p->msg, p->cap, "cannot set up TLS: %s", strerror(-r));
	for (size_t i = 0; r == 0 && i < n; i++)
		if (!strcmp(cert[i].name, name))
			r = use_certificate(ctx, p, &cert[i]);
	if (p->policy->client && keylog != -1)
		SSL_CTX_set_keylog_callback(ctx, log_key);
	if (r == 0)
		*ret = ctx;
	else
		SSL_CTX_free(ctx);
	return r;
}

static size_t
name_of(const struct names *names, const char *name)
{
	size_t i = 0;

	while (i < names->n && strcasecmp(names->at[i].name, name) != 0)
		i++;
	return i;
}

/* A name that is none of ours: OpenSSL would forget it with the handshake, but when a session of
 * TLS 1.2 is resumed, it tells the session's. */
static int
keep_name(SSL *ssl, const char *asked)
{
	if (!SSL_session_reused(ssl) && !SSL_SESSION_set1_hostname(SSL_get0_session(ssl), asked))
		ERR_clear_error(); /* no memory: it is told this once */
	return SSL_TLSEXT_ERR_NOACK;
}

static int
choose_name(SSL *ssl, int *alert, void *arg)
{
	const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name), *dot;
	const struct names *names = arg;
	char wild[256];
	size_t i;

	if (!asked)
		return SSL_TLSEXT_ERR_NOACK;
	i = name_of(names, asked);
	dot = strchr(asked, '.');
	if (i == names->n && dot && dot > asked && strlen(dot) < sizeof(wild) - 1) {
		snprintf(wild, sizeof(wild), "*%s", dot);
		i = name_of(names, wild);
	}
	if (i == names->n)
		return keep_name(ssl, asked);
	if (names->at[i].ctx && !SSL_set_SSL_CTX(ssl, names->at[i].ctx)) {
		*alert = SSL_AD_INTERNAL_ERROR;
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	}
	return SSL_TLSEXT_ERR_OK;
}

static void
names_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	struct names *names = ptr;

	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	for (size_t i = 0; names && i < names->n; i++)
		SSL_CTX_free(names->at[i].ctx);
	free(names);
}

/* base serves those named first, and whoever is none of the others. */
static int
set_names(SSL_CTX *base, const struct plan *p, const char *first)
{
	static int slot = -1;
	const struct material_cert *cert;
	size_t n = material_certs(p->material, &cert);
	struct names *names = calloc(1, sizeof(*names) + n * sizeof(names->at[0]));
	int r = 0;

	if (slot < 0)
		slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, names_free);
	if (!names || slot < 0 || !SSL_CTX_set_ex_data(base, slot, names)) {
		free(names);
		return no_memory(p);
	}
	for (size_t i = 0; r == 0 && i < n; i++) {
		size_t at = name_of(names, cert[i].name);

		if (!cert[i].name[0] || at < names->n)
			continue;
		if (strcmp(cert[i].name, first) != 0)
			r = make_ctx(&names->at[at].ctx, p, cert[i].name);
		snprintf(names->at[at].name, sizeof(names->at[at].name), "%s", cert[i].name);
		names->n++;
	}
	SSL_CTX_set_tlsext_servername_callback(base, choose_name);
	SSL_CTX_set_tlsext_servername_arg(base, names);
	return r;
}

static int
make_all(SSL_CTX **ret, const struct plan *p)
{
	const struct material_cert *cert;
	size_t n = material_certs(p->material, &cert);
	const char *first = n ? cert[0].name : "";
	SSL_CTX *base = NULL;
	int r;

	if (!n && !p->policy->client)
		return says(-EINVAL, p->msg, p->cap, "a server needs a certificate");
	for (size_t i = 0; i < n; i++)
		if (!cert[i].name[0])
			first = "";
	r = make_ctx(&base, p, first);
	if (r == 0 && !p->policy->client)
		r = set_names(base, p, first);
	if (r == 0)
		*ret = base;
	else
		SSL_CTX_free(base);
	return r;
}

/* What is asked for by name; an address is not. */
static void
set_sni(struct tls_context *c, const struct tls_server_check *check)
{
	size_t n;

	if (!check || !check->name || !X509_VERIFY_PARAM_get0_host(SSL_CTX_get0_param(c->ctx), 0))
		return;
	snprintf(c->sni, sizeof(c->sni), "%s", check->name);
	n = strlen(c->sni);
	if (n > 1 && c->sni[n - 1] == '.')
		c->sni[n - 1] = '\0';
}

int
tls_context_new(struct tls_context **ret, const struct tls_policy *policy,
    const struct material *material, const struct tls_server_check *check, char *msg, size_t cap)
{
	struct tls_context *c = calloc(1, sizeof(*c));
	struct plan p = { policy, material, policy->client ? check : NULL, NULL, msg, cap };
	size_t len;
	const char *ca = material_ca(material, &len);
	int r;

	ERR_clear_error();
	if (!c)
		return no_memory(&p);
	c->policy = *policy;
	r = policy_check(policy, msg, cap);
	if (r == 0 && ca)
		r = verify_store(&p.cas, ca, len, msg, cap);
	if (r == 0)
		r = make_all(&c->ctx, &p);
	X509_STORE_free(p.cas);
	if (r == 0) {
		set_sni(c, p.check);
		*ret = c;
		c = NULL;
	}
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

	if (!ssl)
		return NULL;
	if (!c->policy.client) {
		SSL_set_accept_state(ssl);
		return ssl;
	}
	SSL_set_connect_state(ssl);
	if (c->sni[0] && !SSL_set_tlsext_host_name(ssl, c->sni)) {
		SSL_free(ssl);
		return NULL;
	}
	return ssl;
}

bool
tls_context_is_client(const struct tls_context *c)
{
	return c->policy.client;
}

const struct tls_policy *
tls_context_policy(const struct tls_context *c)
{
	return &c->policy;
}

void
tls_about(char *buf, size_t cap)
{
	snprintf(buf, cap, "%s", OpenSSL_version(OPENSSL_VERSION));
}
