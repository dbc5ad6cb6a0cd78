/* tls_files - certificates and keys that tls_made made, written to files of a directory that goes away. */
#ifndef TLS_FILES_H
#define TLS_FILES_H

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "tls_made.h"

static char test_dir[] = "/tmp/ccf-unit-tls.XXXXXX";

/* The path of a file in it; holds for the next 16 calls. */
static inline const char *
in_dir(const char *name)
{
	static char path[16][128];
	static unsigned turn;
	char *to = path[turn++ % 16];

	snprintf(to, sizeof(path[0]), "%s/%s", test_dir, name);
	return to;
}

static inline const char *
put_bytes(const char *name, const void *p, size_t n)
{
	const char *path = in_dir(name);
	FILE *f = fopen(path, "w");

	if (!f || fwrite(p, 1, n, f) != n || fclose(f))
		abort();
	return path;
}

static inline const char *
put_file(const char *name, const char *text)
{
	return put_bytes(name, text, strlen(text));
}

/* The certificate, its issuer if there is one, the key if key; locked by a passphrase if there is one. */
static inline const char *
put_made(const char *name, const struct made *m, const struct made *issuer, bool key, const char *passphrase)
{
	const char *path = in_dir(name);
	const EVP_CIPHER *cipher = passphrase ? EVP_aes_128_cbc() : NULL;
	FILE *f = fopen(path, "w");
	bool good = f && (!m->cert || PEM_write_X509(f, m->cert)) && (!issuer || PEM_write_X509(f, issuer->cert));

	if (good && key)
		good = PEM_write_PKCS8PrivateKey(f, m->key, cipher, NULL, 0, NULL, (void *)passphrase);
	if (!good || fclose(f))
		abort();
	return path;
}

/* The key alone. */
static inline const char *
put_key(const char *name, const struct made *m, const char *passphrase)
{
	const struct made bare = { NULL, m->key };

	return put_made(name, &bare, NULL, true, passphrase);
}

static inline struct made
make_rsa(const char *cn)
{
	struct made m = make_cert((struct make){ .cn = cn });

	EVP_PKEY_free(m.key);
	m.key = EVP_RSA_gen(2048);
	X509_set_pubkey(m.cert, m.key);
	X509_sign(m.cert, m.key, EVP_sha256());
	return m;
}

static inline void
dir_make(void)
{
	if (!mkdtemp(test_dir))
		abort();
}

static inline void
dir_end(void)
{
	char command[160];

	snprintf(command, sizeof(command), "rm -rf %s", test_dir);
	if (system(command) != 0)
		printf("# could not remove %s\n", test_dir);
}

#endif
