/* The first bytes of a client, whatever they are, to a TLS link: the handshake waits or fails, what
 * it says about that is printable, and nobody reads past what came. */
#include <errno.h>
#include <openssl/pem.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"
#include "base/transport.h"
#include "tls/context.h"
#include "tls/link.h"
#include "tls/material.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);
int LLVMFuzzerInitialize(int *, char ***);

static struct tls_context *context;

/* A key and a certificate that signs itself, in one file. */
static void
make_identity(FILE *f)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();

	X509_set_pubkey(cert, key);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	if (!X509_sign(cert, key, EVP_sha256()) || !PEM_write_X509(f, cert) ||
	    !PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL))
		abort();
	X509_free(cert);
	EVP_PKEY_free(key);
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const alpn[] = { "http/1.1" };
	char path[] = "/tmp/ccf-fuzz.XXXXXX", msg[256];
	const char *cert[] = { path };
	struct tls_files files = { .cert = cert, .n_cert = 1 };
	struct tls_policy policy = { .max_version = TLS_V13, .alpn = alpn, .n_alpn = 1 };
	struct material *m = NULL;
	int fd = mkstemp(path);
	FILE *f = fd == -1 ? NULL : fdopen(fd, "w");

	(void)argc;
	(void)argv;
	if (!f)
		abort();
	make_identity(f);
	fclose(f);
	if (material_read(&m, &files, msg, sizeof(msg)) < 0 ||
	    tls_context_new(&context, &policy, m, NULL, msg, sizeof(msg)) < 0)
		abort();
	material_free(m);
	unlink(path);
	return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct env env = { 0 };
	struct transport *t;
	const char *why;
	int fd[2], rc;

	if (len > 100000 || socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == -1)
		return 0;
	if (send(fd[1], data, len, MSG_DONTWAIT) != (ssize_t)len && len > 0)
		abort();
	if (tls_link_new(&t, context, fd[0], fd[0], true) < 0)
		abort();
	rc = t->ops->handshake(t);
	if (rc == -EAGAIN) { /* and with that it ends */
		shutdown(fd[1], SHUT_WR);
		t->ready = TP_READ | TP_WRITE;
		rc = t->ops->handshake(t);
	}
	if (rc == 0 || rc == -EAGAIN) /* nobody can guess a Finished */
		abort();
	why = t->ops->reason(t);
	for (; why && *why; why++)
		if ((unsigned char)*why < ' ' || (unsigned char)*why > '~')
			abort();
	t->ops->facts(t, &env);
	env_free(&env);
	t->ops->close(t, false);
	close(fd[1]);
	return 0;
}
