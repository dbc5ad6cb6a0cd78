/* tls/pem - text in PEM form, block by block, and the files it comes from. */
#ifndef TLS_PEM_H
#define TLS_PEM_H

#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

struct pem {		/* a block: what it is ("CERTIFICATE"), and its text with both marks; borrowed */
	const char *label, *text;
	size_t label_len, len;
};

struct pem_text {
	char *p; /* secret memory */
	size_t len, at; /* at: where the next block is looked for */
};

int pem_read(struct pem_text *ret, int dir, const char *path, size_t max);
/* A regular file, whole.  0 (free with secret_free(ret->p)); -EISDIR; -EFBIG: more than max bytes; -ENXIO: not a regular
 * file; -errno.  Waits for nobody. */
int pem_next(struct pem_text *, struct pem *); /* 1: a block, 0: no more, -EBADMSG: the text ends inside one */
int pem_bad(int err, const char *path, char *msg, size_t cap);
/* What pem_read or pem_next said, as a sentence.  -ENOMEM, -EMFILE, -ENFILE as they are, -EBADMSG is -EAGAIN (somebody may be
 * writing it), anything else -EKEYREJECTED. */
bool pem_is_certificate(const struct pem *);
X509 *pem_certificate(const struct pem *); /* NULL: OpenSSL's errors say why */
bool pem_is_key(const struct pem *); /* a private one */

#endif
