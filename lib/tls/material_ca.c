/* CAs into material: those of --ca, a file or a directory, and the system's. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/material_form.h"
#include "tls/pem.h"
#include "tls/says.h"
#include "tls/secret.h"

#define SUM 32

struct cas {
	const struct tls_files *files;
	struct secret_buf *to;
	unsigned char (
	    *seen)[SUM]; /* those that are in: a directory has the same one by several names */
	size_t n_seen, cap_seen;
	char *msg;
	size_t cap;
};

static int
no_memory(struct cas *r)
{
	return says(-ENOMEM, r->msg, r->cap, "%s", strerror(ENOMEM));
}

/* 1: new, 0: it is in already */
static int
note_ca(struct cas *r, const X509 *x)
{
	unsigned char sum[EVP_MAX_MD_SIZE];

	if (!X509_digest(x, EVP_sha256(), sum, NULL))
		return no_memory(r);
	for (size_t i = 0; i < r->n_seen; i++)
		if (!memcmp(r->seen[i], sum, sizeof(*r->seen)))
			return 0;
	if (r->n_seen == r->cap_seen) {
		size_t cap = r->cap_seen ? 2 * r->cap_seen : 64;
		void *more = reallocarray(r->seen, cap, sizeof(*r->seen));

		if (!more)
			return no_memory(r);
		r->seen = more;
		r->cap_seen = cap;
	}
	memcpy(r->seen[r->n_seen++], sum, sizeof(*r->seen));
	return 1;
}

static int
add_ca(struct cas *r, const char *path, const struct pem *b)
{
	X509 *x = pem_certificate(b);
	int rc;

	if (!x)
		return says(-EKEYREJECTED, r->msg, r->cap,
		    "%s: a certificate in it is unusable: %s", path, says_why());
	rc = note_ca(r, x);
	X509_free(x);
	if (rc > 0) {
		secret_add(r->to, b->text, b->len);
		secret_add(r->to, "\n", 1);
	}
	return rc < 0 ? rc : 0;
}

static int
add_ca_text(struct cas *r, const char *path, struct pem_text *t)
{
	struct pem b;
	int rc;

	while ((rc = pem_next(t, &b)) > 0)
		if (pem_is_certificate(&b) && (rc = add_ca(r, path, &b)) < 0)
			return rc;
	return rc < 0 ? pem_bad(rc, path, r->msg, r->cap) : 0;
}

/* 0 also for what is none, or has gone. */
static int
add_ca_entry(struct cas *r, int dir, const char *name, const char *path)
{
	struct pem_text t;
	int rc = pem_read(&t, dir, name, MATERIAL_FILE_MAX);

	if (rc == -ENXIO || rc == -EISDIR || rc == -ENOENT)
		return 0;
	if (rc < 0)
		return pem_bad(rc, path, r->msg, r->cap);
	rc = add_ca_text(r, path, &t);
	secret_free(t.p);
	return rc;
}

static bool
is_unusable(int rc)
{
	return rc == -EKEYREJECTED || rc == -EAGAIN;
}

/* system: what is wrong with one of its files is not ours to put right. */
static int
add_ca_dir(struct cas *r, const char *path, bool system)
{
	DIR *dir = opendir(path);
	struct dirent *e;
	char name[4096];
	int rc = 0;

	if (!dir)
		return pem_bad(-errno, path, r->msg, r->cap);
	while (rc == 0 && (e = readdir(dir))) {
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		rc = add_ca_entry(r, dirfd(dir), e->d_name, name);
		if (system && is_unusable(rc))
			rc = 0;
	}
	closedir(dir);
	return rc;
}

static int
add_given_cas(struct cas *r)
{
	const char *path = r->files->ca;
	struct pem_text t;
	int rc = pem_read(&t, AT_FDCWD, path, MATERIAL_CA_MAX);

	if (rc == 0) {
		rc = add_ca_text(r, path, &t);
		secret_free(t.p);
	} else if (rc == -EISDIR)
		rc = add_ca_dir(r, path, false);
	else
		rc = pem_bad(rc, path, r->msg, r->cap);
	if (rc == 0 && !r->n_seen)
		return says(-EKEYREJECTED, r->msg, r->cap,
		    "%s: does not hold a certificate in PEM form", path);
	return rc;
}

static const char *
place(const char *variable, const char *otherwise)
{
	const char *p = secure_getenv(variable);

	return p ? p : otherwise;
}

static int
add_system_cas(struct cas *r)
{
	const char *file = place(X509_get_default_cert_file_env(), X509_get_default_cert_file());
	const char *dirs = place(X509_get_default_cert_dir_env(), X509_get_default_cert_dir());
	char *list = strdup(dirs), *rest = list, *dir;
	int rc = list ? add_ca_entry(r, AT_FDCWD, file, file) : no_memory(r);

	while ((rc == 0 || is_unusable(rc)) && (dir = strsep(&rest, ":")))
		rc = add_ca_dir(r, dir, true);
	free(list);
	if (rc < 0 && !is_unusable(rc))
		return rc;
	if (!r->n_seen)
		return says(-EKEYREJECTED, r->msg, r->cap,
		    "the system has no CA certificates (neither %s nor %s): --ca names a file of "
		    "them",
		    file, dirs);
	return 0;
}

int
material_add_cas(struct secret_buf *to, const struct tls_files *files, char *msg, size_t cap)
{
	struct cas r = { .files = files, .to = to, .msg = msg, .cap = cap };
	int rc = 0;

	if (files->ca)
		rc = add_given_cas(&r);
	if (rc == 0 && files->ca_system)
		rc = add_system_cas(&r);
	free(r.seen);
	return rc;
}
