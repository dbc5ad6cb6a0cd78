#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/text.h"
#include "tls/context.h"
#include "tls/facts.h"
#include "tls/policy.h"
#include "tls/says.h"
#include "tls/verify.h"

#define CA_NAMES_MAX (32 * 1024) /* bytes; a CertificateRequest has room for 64 KiB */

struct judge { /* hangs on the SSL_CTX, so that links may outlive the context */
	bool client, require;
	bool by_ca; /* the chain is verified; otherwise any will do */
	size_t n_pin;
	unsigned char pin[][PIN_SIZE];
};

static void
hanging_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	free(ptr);
}

void *
hang(SSL_CTX *ctx, int *slot, size_t size)
{
	void *p = calloc(1, size);

	if (*slot < 0)
		*slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, hanging_free);
	if (p && *slot >= 0 && SSL_CTX_set_ex_data(ctx, *slot, p))
		return p;
	free(p);
	return NULL;
}

int
pin_parse(const char *pin, unsigned char ret[PIN_SIZE])
{
	unsigned char bytes[PIN_SIZE + 1];
	size_t n;

	if (strncmp(pin, "sha256:", 7) != 0)
		return -EINVAL;
	pin += 7;
	n = strlen(pin);
	if (n == 44) {
		/* 33 bytes, the last of them padding */
		if (pin[43] != '=' || pin[42] == '=' ||
		    EVP_DecodeBlock(bytes, (const unsigned char *)pin, 44) != PIN_SIZE + 1)
			return -EINVAL;
		memcpy(ret, bytes, PIN_SIZE);
		return 0;
	}
	if (n != 64)
		return -EINVAL;
	for (int i = 0; i < PIN_SIZE; i++) {
		int high = text_hex(pin[2 * i]), low = text_hex(pin[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		bytes[i] = (unsigned char)(high << 4 | low);
	}
	memcpy(ret, bytes, PIN_SIZE);
	return 0;
}

int
tls_pin_check(const char *pin)
{
	unsigned char bytes[PIN_SIZE];

	return pin_parse(pin, bytes);
}

static bool
meets_pin(const struct judge *j, X509 *leaf)
{
	unsigned char whole[EVP_MAX_MD_SIZE], key[EVP_MAX_MD_SIZE], *spki = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf), &spki);
	bool met = false;

	if (len > 0 && EVP_Digest(spki, (size_t)len, key, NULL, EVP_sha256(), NULL) &&
	    X509_digest(leaf, EVP_sha256(), whole, NULL))
		for (size_t i = 0; i < j->n_pin; i++)
			met |= !memcmp(key, j->pin[i], PIN_SIZE) ||
			       !memcmp(whole, j->pin[i], PIN_SIZE);
	OPENSSL_free(spki);
	return met;
}

static SSL *
ssl_of(X509_STORE_CTX *store)
{
	return X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
}

/* Bytes of a certificate as PEM: base64 in lines of 64, between two marks. */
static size_t
pem_size(const X509 *cert)
{
	int der = i2d_X509(cert, NULL);
	size_t n = der > 0 ? ((size_t)der + 2) / 3 * 4 : 0;

	return n + n / 64 + 64;
}

/* What is sent so could not be told on. */
static bool
too_big(X509_STORE_CTX *store)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
	size_t size = 0;

	for (int i = 0; i < sk_X509_num(chain); i++)
		size += pem_size(sk_X509_value(chain, i));
	return size > ENV_CERT_MAX;
}

/* Whether its chain is good; the verdict is the error of the store. */
static bool
chain_is_good(X509_STORE_CTX *store)
{
	bool good = X509_verify_cert(store) == 1;
	int verdict = X509_STORE_CTX_get_error(store);

	/* Without memory it fails and has no verdict, or one that would read as "nobody judged". */
	if (!good && (verdict == X509_V_OK || verdict == FACTS_UNJUDGED))
		X509_STORE_CTX_set_error(store, X509_V_ERR_OUT_OF_MEM);
	ERR_clear_error();
	return good && verdict == X509_V_OK;
}

/* That it holds the key of the certificate it shows, OpenSSL has checked or will. */
static int
judge_client(X509_STORE_CTX *store, void *arg)
{
	const struct judge *j = arg;
	struct hello *h = hello_of(ssl_of(store));

	if (too_big(store)) {
		if (h)
			h->big_certificate = true;
		hello_leaf(h, X509_STORE_CTX_get0_cert(store));
		X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
		return 0;
	}
	if (!j->by_ca)
		X509_STORE_CTX_set_error(store, FACTS_UNJUDGED);
	else if (!chain_is_good(store) && j->require) {
		if (h)
			h->verdict = X509_STORE_CTX_get_error(store);
		hello_leaf(h, X509_STORE_CTX_get0_cert(store));
		return 0;
	}
	return 1;
}

static int
judge_server(X509_STORE_CTX *store, void *arg)
{
	const struct judge *j = arg;
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	struct hello *h = hello_of(ssl_of(store));
	bool good = !j->by_ca || chain_is_good(store), pinned = !j->n_pin || meets_pin(j, leaf);

	if (good && pinned) {
		if (!j->by_ca && !j->n_pin)
			X509_STORE_CTX_set_error(store, FACTS_UNJUDGED);
		return 1;
	}
	if (h && !good)
		h->verdict = X509_STORE_CTX_get_error(store);
	else if (h)
		h->pin_failed = true;
	if (good)
		X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
	hello_leaf(h, leaf);
	return 0;
}

/* An address, as v4, v6 or v6%interface. */
static bool
set_address(X509_VERIFY_PARAM *param, const char *name)
{
	char text[INET6_ADDRSTRLEN + 1];
	unsigned char bin[16];
	size_t n = strcspn(name, "%");

	if (n >= sizeof(text))
		return false;
	memcpy(text, name, n);
	text[n] = '\0';
	if (inet_pton(AF_INET, text, bin) == 1 && !name[n])
		return X509_VERIFY_PARAM_set1_ip(param, bin, 4);
	return inet_pton(AF_INET6, text, bin) == 1 && X509_VERIFY_PARAM_set1_ip(param, bin, 16);
}

static int
check_name(SSL_CTX *ctx, const char *name)
{
	X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
	size_t n = strlen(name);

	if (set_address(param, name))
		return 0;
	if (n > 1 && name[n - 1] == '.') /* absolute; certificates do not have that */
		n--;
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return n && X509_VERIFY_PARAM_set1_host(param, name, n) ? 0 : -EINVAL;
}

/* By default no CA is named (CCF): a client then shows what it has. */
static int
name_cas(SSL_CTX *ctx, X509_STORE *cas)
{
	STACK_OF(X509) *all = X509_STORE_get1_all_certs(cas);
	int size = 0, r = all ? 0 : -ENOMEM;

	for (int i = 0; i < sk_X509_num(all); i++)
		size += 2 + i2d_X509_NAME(X509_get_subject_name(sk_X509_value(all, i)), NULL);
	for (int i = 0; r == 0 && size <= CA_NAMES_MAX && i < sk_X509_num(all); i++)
		if (!SSL_CTX_add_client_CA(ctx, sk_X509_value(all, i)))
			r = -ENOMEM;
	sk_X509_pop_free(all, X509_free);
	return r;
}

int
verify_store(X509_STORE **ret, const char *pem, size_t len, char *msg, size_t cap)
{
	X509_STORE *store = X509_STORE_new();
	BIO *b = BIO_new_mem_buf(pem, (int)len);
	X509 *x = NULL;
	bool good = store && b;

	ERR_clear_error();
	while (good && (x = PEM_read_bio_X509(b, NULL, NULL, NULL))) {
		good = X509_STORE_add_cert(store, x);
		X509_free(x);
	}
	BIO_free(b);
	if (good && ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		good = false;
	if (!good) {
		X509_STORE_free(store);
		return says(
		    -EKEYREJECTED, msg, cap, "a CA's certificate is unusable: %s", says_why());
	}
	ERR_clear_error();
	*ret = store;
	return 0;
}

int
verify_setup(
    SSL_CTX *ctx, const struct tls_policy *p, const struct tls_server_check *check, X509_STORE *cas)
{
	static int slot = -1;
	size_t n_pin = p->client && check ? check->n_pin : 0;
	struct judge *j = hang(ctx, &slot, sizeof(*j) + n_pin * PIN_SIZE);
	int mode = p->client || p->verify != TLS_NONE ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, r = 0;

	if (!j)
		return -ENOMEM;
	j->client = p->client;
	j->require = p->verify == TLS_REQUIRE;
	j->by_ca = p->client ? p->verify != TLS_NONE : cas != NULL;
	if (!p->client && p->verify == TLS_REQUIRE)
		mode |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	for (size_t i = 0; i < n_pin; i++)
		if (pin_parse(check->pin[i], j->pin[j->n_pin++]) < 0)
			return -EINVAL;
	SSL_CTX_set_verify(ctx, mode, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, p->client ? judge_server : judge_client, j);
	/* Who gives an intermediate CA, or the very certificate, means that one. */
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
	if (cas)
		SSL_CTX_set1_cert_store(ctx, cas);
	if (cas && !p->client && p->verify != TLS_NONE)
		r = name_cas(ctx, cas);
	if (p->client && check && check->name)
		r = check_name(ctx, check->name);
	return r;
}
