/* tls/material - everything that is read from files for handshakes: certificates with their chains, private keys, the CAs
 * that sign peers, and the keys of tickets.  It is read, checked and replaced as one unit.  A master reads it and hands it to
 * its workers as sealed memory, so that they need no file and no passphrase; a tool with one connection reads it for
 * itself. */
#ifndef TLS_MATERIAL_H
#define TLS_MATERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct material;

#define MATERIAL_CERTS_MAX 64		     /* --cert so often */
#define MATERIAL_FILE_MAX  (1024 * 1024)     /* bytes of one file */
#define MATERIAL_CA_MAX	   (8 * 1024 * 1024) /* bytes of all CAs together */

struct tls_files {
	const char *const *cert; /* FILE or NAME:FILE (tls_file_split), n_cert of them */
	size_t n_cert;
	const char *const *key;	 /* n_key of them: each belongs to the certificate whose public key it has; n_key 0: each
				    key stands in its certificate's file */
	size_t n_key;
	const char *ca;		 /* a file of PEM certificates or a directory of such files, read whole; NULL: none */
	bool ca_system;		 /* and those of the system (SSL_CERT_FILE, SSL_CERT_DIR, OpenSSL's places) */
	const char *passphrase;	 /* env:NAME, file:PATH (its first line), fd:N (to its end or first line); NULL: a
				    terminal is asked, where there is one */
};

const char *tls_file_split(const char *spec, char *name, size_t cap);
/* The path in FILE or NAME:FILE; name becomes the host name or wildcard (*.example.org), lower case, or "".  What stands
 * before the first ':' is a name only if it looks like one (letters, digits, '-', '.', '*' first) and has no '/': a file
 * with such a name is written ./A:B.  NULL: a wildcard that is none ("a*.b", "*"), or too long. */

int material_read(struct material **ret, const struct tls_files *, char *msg, size_t cap);
/* Files whole, keys decrypted, each certificate with its key.  0.  -ENOENT: a certificate or key is not there (that
 * alone: deferred), msg has its path.  -EKEYREJECTED: a file is there and unusable: msg says which, what is wrong (not
 * PEM, wrong passphrase, too large, no key for it, two of the same kind for the same name ...) and OpenSSL's reason.
 * -EAGAIN: the same, but it is empty or cut off, so somebody may be writing it.  -ENOMEM, -EMFILE, -ENFILE: no fault of the
 * files. */
void material_free(struct material *); /* keys are wiped */

int material_seal(const struct material *, int *ret_fd); /* a sealed memfd (CLOEXEC) with all of it; yours.  0 or -errno */
int material_open(struct material **ret, int fd);	  /* back; fd stays yours.  0, -EBADMSG, -ENOMEM, -errno */

int material_warning(const struct material *, int64_t now_s, char *msg, size_t cap);
/* now_s: seconds since 1970.  0: nothing to say.  1: the end of a certificate is near (14 days, or a third of its life if
 * that is less), or it is not valid yet.  2: one is past its end.  msg: one sentence with the file and the date (UTC), about
 * the worst of them. */
int64_t material_not_after(const struct material *); /* the earliest end of our certificates, s since 1970; 0: none */

/* ---- keys of session tickets: shared by workers, rotated ---- */

#define TICKET_KEYS 3 /* the first makes tickets, the others still open older ones */

struct ticket_key {
	unsigned char name[16], aes[32], hmac[32];
};

int material_rotate(struct material *, const struct material *before);
/* A new first key; before's (may be NULL, or the same as the first argument) move down, the oldest goes.  0 or -errno */
void material_keep_tickets(struct material *, const struct material *before); /* the same keys: files were read again */
size_t material_tickets(const struct material *, const struct ticket_key **ret); /* borrowed */

/* ---- for tls/context ---- */

struct material_cert {
	char name[256];		 /* for SNI; "": the default */
	const char *pem;	 /* leaf first, then its chain; len bytes; borrowed */
	size_t pem_len;
	const char *key;	 /* PEM, not encrypted */
	size_t key_len;
	const char *file;	 /* for messages */
};

size_t material_certs(const struct material *, const struct material_cert **ret);
int64_t material_cert_end(const struct material *, size_t i); /* of the i-th of them, s since 1970 */
const char *material_ca(const struct material *, size_t *len); /* PEM certificates one after the other; NULL: none given */

#endif
