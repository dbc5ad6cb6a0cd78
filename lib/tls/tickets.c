#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <string.h>

#include "tls/facts.h"
#include "tls/material.h"
#include "tls/policy.h"
#include "tls/secret.h"
#include "tls/tickets.h"

#define TICKETS_EACH 2 /* a browser opens more than one connection at once */

struct keys {
	size_t n;
	struct ticket_key key[TICKET_KEYS];
};

static int slot = -1;

static void
keys_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent;
	(void)ad;
	(void)idx;
	(void)argl;
	(void)argp;
	secret_free(ptr);
}

static const struct ticket_key *
find_key(const struct keys *keys, const unsigned char name[16])
{
	for (size_t i = 0; i < keys->n; i++)
		if (!memcmp(keys->key[i].name, name, 16))
			return &keys->key[i];
	return NULL;
}

static bool
set_mac(EVP_MAC_CTX *mac, const struct ticket_key *k)
{
	unsigned char key[sizeof(k->hmac)];
	OSSL_PARAM params[] = {
		OSSL_PARAM_octet_string(OSSL_MAC_PARAM_KEY, key, sizeof(key)),
		OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 6),
		OSSL_PARAM_END,
	};
	int r;

	memcpy(key, k->hmac, sizeof(key));
	r = EVP_MAC_CTX_set_params(mac, params);
	OPENSSL_cleanse(key, sizeof(key));
	return r;
}

/* OpenSSL's meaning: -1 fails the handshake, 0 means no such key: a whole handshake, 2 that it
 * wants to be renewed. */
static int
ticket_key_cb(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int sealing)
{
	const struct keys *keys = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), slot);
	const struct ticket_key *k = sealing ? &keys->key[0] : find_key(keys, name);

	if (!k)
		return 0;
	if (sealing) {
		memcpy(name, k->name, 16);
		if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
			return -1;
	}
	if (!EVP_CipherInit_ex2(cipher, EVP_aes_256_cbc(), k->aes, iv, sealing, NULL) ||
	    !set_mac(mac, k))
		return -1;
	return k == &keys->key[0] ? 1 : 2;
}

static int
only_in_handshake(SSL *ssl, void *arg)
{
	(void)arg;
	return hello_of(ssl) != NULL;
}

/* A session is resumed under the name it was begun with, or not at all: with TLS 1.2 OpenSSL would
 * go on under the old one (RFC 6066 section 3). */
static SSL_TICKET_RETURN
same_name(SSL *ssl, SSL_SESSION *session, const unsigned char *key, size_t key_len,
    SSL_TICKET_STATUS status, void *arg)
{
	const struct hello *h = hello_of(ssl);
	const char *name;

	(void)key;
	(void)key_len;
	(void)arg;
	if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	name = SSL_SESSION_get0_hostname(session);
	if (!h || strcasecmp(h->name, name ? name : "") != 0)
		return SSL_TICKET_RETURN_IGNORE_RENEW;
	return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* What a client was judged by binds its session: nobody gets in by the CAs of yesterday. */
static int
set_id_context(SSL_CTX *ctx, const struct tls_policy *p, const struct material *m)
{
	unsigned char id[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	const char *ca;
	size_t len = 0;
	bool good;

	ca = material_ca(m, &len);
	good = md && EVP_DigestInit_ex2(md, EVP_sha256(), NULL) &&
	       EVP_DigestUpdate(md, &p->verify, sizeof(p->verify)) &&
	       (!ca || EVP_DigestUpdate(md, ca, len)) && EVP_DigestFinal_ex(md, id, NULL) &&
	       SSL_CTX_set_session_id_context(ctx, id, SSL_MAX_SID_CTX_LENGTH);
	EVP_MD_CTX_free(md);
	return good ? 0 : -ENOMEM;
}

int
tickets_setup(SSL_CTX *ctx, const struct tls_policy *p, const struct material *m)
{
	const struct ticket_key *from;
	struct keys *keys;

	SSL_CTX_set_session_ticket_cb(ctx, only_in_handshake, same_name, NULL);
	if (!p->tickets || !material_tickets(m, &from))
		return 0;
	if (slot < 0)
		slot = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, keys_free);
	keys = secret_new(sizeof(*keys), false);
	if (!keys || slot < 0 || !SSL_CTX_set_ex_data(ctx, slot, keys)) {
		secret_free(keys);
		return -ENOMEM;
	}
	keys->n = material_tickets(m, &from);
	memcpy(keys->key, from, keys->n * sizeof(*from));
	SSL_CTX_clear_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_timeout(ctx, (long)p->tickets);
	if (!SSL_CTX_set_num_tickets(ctx, TICKETS_EACH) ||
	    !SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket_key_cb))
		return -ENOTSUP;
	return set_id_context(ctx, p, m);
}
