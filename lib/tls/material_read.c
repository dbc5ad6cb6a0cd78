/* Files into material: all are read first, so that one that is there and broken is told before one
 * that is not there yet; then keys are opened and find their certificates. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/cert.h"
#include "tls/material_form.h"
#include "tls/passphrase.h"
#include "tls/pem.h"
#include "tls/says.h"
#include "tls/secret.h"

struct own { /* one of --cert */
	char name[256];
	const char *path;
	struct pem_text text;
	X509 *leaf;
	struct span span[2]; /* leaf, chain */
	EVP_PKEY *key;
};

struct reading {
	const struct tls_files *files;
	struct own *own;      /* files->n_cert of them */
	struct pem_text *key; /* files->n_key of them */
	const char *missing;  /* the first that is not there */
	struct secret_buf build;
	char *msg;
	size_t cap;
};

static int
bad(struct reading *r, const char *path, const char *what)
{
	return says(-EKEYREJECTED, r->msg, r->cap, "%s: %s", path, what);
}

/* err: of pem_read, pem_next */
static int
bad_file(struct reading *r, const char *path, int err)
{
	return pem_bad(err, path, r->msg, r->cap);
}

static int
no_memory(struct reading *r)
{
	return says(-ENOMEM, r->msg, r->cap, "%s", strerror(ENOMEM));
}

/* 1: not there, which is no fault yet. */
static int
read_file(struct reading *r, const char *path, struct pem_text *ret)
{
	int rc = pem_read(ret, AT_FDCWD, path, MATERIAL_FILE_MAX);

	if (rc == -ENOENT) {
		if (!r->missing)
			r->missing = path;
		return 1;
	}
	if (rc < 0)
		return bad_file(r, path, rc);
	return ret->len ? 0 : says(-EAGAIN, r->msg, r->cap, "%s: is empty", path);
}

static void
note_span(struct own *o, X509 *x, bool first)
{
	struct span s = { cert_time(X509_get0_notBefore(x)), cert_time(X509_get0_notAfter(x)) };

	if (first)
		o->span[0] = s;
	else if (X509_NAME_cmp(X509_get_subject_name(x), X509_get_issuer_name(x)) != 0 &&
		 (!o->span[1].end || s.end < o->span[1].end)) /* nobody looks at a root's dates */
		o->span[1] = s;
}

/* Leaf and chain; each has to be one. */
static int
read_certificate(struct reading *r, struct own *o)
{
	struct pem b;
	int rc;

	while ((rc = pem_next(&o->text, &b)) > 0) {
		X509 *x;

		if (!pem_is_certificate(&b))
			continue;
		x = pem_certificate(&b);
		if (!x || (!o->leaf && !X509_get0_pubkey(x))) {
			X509_free(x);
			return says(-EKEYREJECTED, r->msg, r->cap,
			    "%s: a certificate in it is unusable: %s", o->path, says_why());
		}
		note_span(o, x, !o->leaf);
		if (o->leaf)
			X509_free(x);
		else
			o->leaf = x;
	}
	o->text.at = 0;
	if (rc < 0)
		return bad_file(r, o->path, rc);
	return o->leaf ? 0 : bad(r, o->path, "does not hold a certificate in PEM form");
}

/* 1: it holds a private key, 0: none */
static int
holds_key(struct reading *r, const char *path, struct pem_text *t)
{
	struct pem b;
	int rc, found = 0;

	while ((rc = pem_next(t, &b)) > 0)
		found |= pem_is_key(&b);
	t->at = 0;
	return rc < 0 ? bad_file(r, path, rc) : found;
}

static int
read_own(struct reading *r)
{
	for (size_t i = 0; i < r->files->n_cert; i++) {
		struct own *o = &r->own[i];
		int rc;

		o->path = tls_file_split(r->files->cert[i], o->name, sizeof(o->name));
		if (!o->path)
			return says(-EKEYREJECTED, r->msg, r->cap,
			    "--cert %s: neither FILE nor NAME:FILE", r->files->cert[i]);
		if ((rc = read_file(r, o->path, &o->text)) == 0)
			rc = read_certificate(r, o);
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < r->files->n_key; i++) {
		int rc = read_file(r, r->files->key[i], &r->key[i]);

		if (rc == 0 && (rc = holds_key(r, r->files->key[i], &r->key[i])) == 0)
			rc = bad(r, r->files->key[i], "does not hold a private key in PEM form");
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- keys ---- */

struct asking {
	struct reading *r;
	const char *path;
	int rc; /* 1: a passphrase was given, < 0: there is none */
};

static int
give_passphrase(char *buf, int size, int writing, void *arg)
{
	struct asking *a = arg;
	int n;

	(void)writing;
	if (size < PASSPHRASE_MAX || a->rc < 0)
		return -1;
	n = passphrase_get(a->r->files->passphrase, a->path, buf, a->r->msg, a->r->cap);
	a->rc = n < 0 ? n : 1;
	return n < 0 ? -1 : n;
}

static int
open_key(struct reading *r, const char *path, const struct pem *b, EVP_PKEY **ret)
{
	BIO *bio = BIO_new_mem_buf(b->text, (int)b->len);
	struct asking a = { r, path, 0 };
	const char *why;

	ERR_clear_error();
	*ret = bio ? PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, &a) : NULL;
	BIO_free(bio);
	if (*ret)
		return 0;
	if (a.rc < 0)
		return a.rc;
	why = says_why();
	if (a.rc) {
		passphrase_wrong(path);
		return says(-EKEYREJECTED, r->msg, r->cap,
		    "%s: wrong passphrase for the private key (%s)", path, why);
	}
	return says(
	    -EKEYREJECTED, r->msg, r->cap, "%s: its private key is unusable: %s", path, why);
}

static bool
belongs(const struct own *o, const EVP_PKEY *key)
{
	bool same = EVP_PKEY_eq(X509_get0_pubkey(o->leaf), key) == 1;

	ERR_clear_error();
	return same;
}

/* Gives the key to every certificate that has none yet and is its own.  How many it is the key of.
 */
static size_t
give_key(struct reading *r, EVP_PKEY *key)
{
	size_t n = 0;

	for (size_t i = 0; i < r->files->n_cert; i++)
		if (belongs(&r->own[i], key)) {
			if (!r->own[i].key && EVP_PKEY_up_ref(key))
				r->own[i].key = key;
			n++;
		}
	return n;
}

/* One file's keys; only: the certificate in the same file, NULL for a file of --key. */
static int
read_keys(struct reading *r, const char *path, struct pem_text *t, const struct own *only)
{
	const struct own *first = only ? only : r->own;
	bool one = only || r->files->n_cert == 1;
	size_t used = 0;
	struct pem b;

	while (pem_next(t, &b) > 0) {
		EVP_PKEY *key;
		int rc;

		if (!pem_is_key(&b))
			continue;
		if ((rc = open_key(r, path, &b, &key)) < 0)
			return rc;
		used += only && !belongs(only, key) ? 0 : give_key(r, key);
		EVP_PKEY_free(key);
	}
	if (used)
		return 0;
	return says(-EKEYREJECTED, r->msg, r->cap, "%s: the private key does not match %s%s", path,
	    one ? "the certificate in " : "any of the certificates", one ? first->path : "");
}

static int
match_keys(struct reading *r)
{
	int rc;

	for (size_t i = 0; i < r->files->n_key; i++)
		if ((rc = read_keys(r, r->files->key[i], &r->key[i], NULL)) < 0)
			return rc;
	for (size_t i = 0; i < r->files->n_cert; i++) {
		struct own *o = &r->own[i];

		if (o->key)
			continue;
		rc = holds_key(r, o->path, &o->text);
		if (rc == 0 && r->files->n_key)
			return bad(r, o->path,
			    "none of the private keys (--key) is that of its certificate");
		if (rc == 0)
			return bad(r, o->path,
			    "does not hold a private key in PEM form, and there is no --key");
		if ((rc = read_keys(r, o->path, &o->text, o)) < 0)
			return rc;
	}
	return 0;
}

static int
check_names(struct reading *r)
{
	for (size_t i = 0; i < r->files->n_cert; i++)
		for (size_t k = 0; k < i; k++) {
			const struct own *a = &r->own[k], *b = &r->own[i];

			if (!strcmp(a->name, b->name) &&
			    EVP_PKEY_get_base_id(a->key) == EVP_PKEY_get_base_id(b->key))
				return says(-EKEYREJECTED, r->msg, r->cap,
				    "%s and %s: two certificates with the same kind of key%s%s%s",
				    a->path, b->path, *a->name ? " for " : "", a->name,
				    *a->name ? "" : " (NAME:FILE chooses by server name)");
		}
	return 0;
}

/* ---- the form ---- */

/* Blocks as they were, one after the other. */
static size_t
add_certificates(struct secret_buf *b, struct pem_text *t)
{
	size_t before = b->len;
	struct pem block;

	t->at = 0;
	while (pem_next(t, &block) > 0)
		if (pem_is_certificate(&block)) {
			secret_add(b, block.text, block.len);
			secret_add(b, "\n", 1);
		}
	return b->len - before;
}

static int
add_own(struct reading *r, struct own *o)
{
	struct form_cert f = { .name_len = (uint32_t)strlen(o->name),
		.file_len = (uint32_t)strlen(o->path) + 1,
		.leaf = o->span[0],
		.chain = o->span[1] };
	BIO *key = BIO_new(BIO_s_secmem());
	size_t at = r->build.len;
	char *text;
	long n;

	if (!key || !PEM_write_bio_PKCS8PrivateKey(key, o->key, NULL, NULL, 0, NULL, NULL) ||
	    (n = BIO_get_mem_data(key, &text)) <= 0) {
		BIO_free(key);
		return no_memory(r);
	}
	secret_add(&r->build, &f, sizeof(f));
	secret_add(&r->build, o->name, f.name_len);
	secret_add(&r->build, o->path, f.file_len);
	f.pem_len = (uint32_t)add_certificates(&r->build, &o->text);
	f.key_len = (uint32_t)n;
	secret_add(&r->build, text, f.key_len);
	BIO_free(key);
	if (r->build.failed)
		return no_memory(r);
	memcpy(r->build.p + at, &f, sizeof(f));
	return 0;
}

static int
add_cas(struct reading *r)
{
	size_t at = r->build.len;
	struct form_head *h;
	int rc = material_add_cas(&r->build, r->files, r->msg, r->cap);

	if (rc < 0)
		return rc;
	if (r->build.failed)
		return no_memory(r);
	if (r->build.len - at > MATERIAL_CA_MAX)
		return says(-EKEYREJECTED, r->msg, r->cap,
		    "the CA certificates are more than %d MiB", MATERIAL_CA_MAX / (1024 * 1024));
	h = (struct form_head *)r->build.p;
	h->ca_len = r->build.len - at;
	return 0;
}

/* ---- */

static int
read_all(struct reading *r)
{
	struct form_head head = { .magic = FORM_MAGIC, .n_certs = (uint32_t)r->files->n_cert };
	int rc = read_own(r);

	secret_add(&r->build, &head, sizeof(head));
	if (rc == 0 && r->missing)
		rc = says(-ENOENT, r->msg, r->cap, "%s is not there", r->missing);
	if (rc == 0)
		rc = match_keys(r);
	if (rc == 0)
		rc = check_names(r);
	for (size_t i = 0; rc == 0 && i < r->files->n_cert; i++)
		rc = add_own(r, &r->own[i]);
	return rc == 0 ? add_cas(r) : rc;
}

static void
reading_free(struct reading *r)
{
	for (size_t i = 0; r->own && i < r->files->n_cert; i++) {
		secret_free(r->own[i].text.p);
		X509_free(r->own[i].leaf);
		EVP_PKEY_free(r->own[i].key);
	}
	for (size_t i = 0; r->key && i < r->files->n_key; i++)
		secret_free(r->key[i].p);
	secret_free(r->build.p);
	free(r->own);
	free(r->key);
}

int
material_read(struct material **ret, const struct tls_files *files, char *msg, size_t cap)
{
	struct reading r = { .files = files, .msg = msg, .cap = cap };
	int rc;

	if (files->n_cert > MATERIAL_CERTS_MAX)
		return says(-EKEYREJECTED, msg, cap, "more than %d certificates (--cert)",
		    MATERIAL_CERTS_MAX);
	passphrase_take(files->passphrase);
	r.own = calloc(files->n_cert + 1, sizeof(*r.own));
	r.key = calloc(files->n_key + 1, sizeof(*r.key));
	rc = r.own && r.key ? read_all(&r) : no_memory(&r);
	if (rc == 0) {
		rc = material_wrap(ret, r.build.p, r.build.len);
		if (rc == 0)
			r.build.p = NULL;
		else
			says(rc, msg, cap, "cannot keep the certificates: %s", strerror(-rc));
	}
	if (rc == 0)
		passphrase_proven();
	reading_free(&r);
	secret_sweep();
	ERR_clear_error();
	return rc;
}
