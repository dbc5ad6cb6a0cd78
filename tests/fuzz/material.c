/* Bytes as the memory that a worker is given (all of what opens is looked at, and sealed again it
 * is the same), as a file of certificates and keys, and as what stands after --cert. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tls/material.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static volatile unsigned seen; /* so that looking is not optimised away */

static void
require(bool holds)
{
	if (!holds)
		abort();
}

static unsigned
sum(const char *p, size_t n)
{
	unsigned s = 0;

	for (; n; n--)
		seen += (unsigned char)*p++;
	return s;
}

static int
in_memory(const uint8_t *data, size_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	return fd;
}

static void
look_at(const struct material *m, size_t size)
{
	const struct material_cert *c;
	const struct ticket_key *k;
	size_t n = material_certs(m, &c), used = 0, len;
	const char *ca = material_ca(m, &len);
	char msg[256];

	require(n <= MATERIAL_CERTS_MAX && len <= MATERIAL_CA_MAX);
	for (size_t i = 0; i < n; i++) {
		used += strlen(c[i].name) + strlen(c[i].file) + c[i].pem_len + c[i].key_len;
		seen += sum(c[i].pem, c[i].pem_len) + sum(c[i].key, c[i].key_len);
	}
	seen += ca ? sum(ca, len) : 0;
	require(used + len < size);
	n = material_tickets(m, &k);
	require(n <= TICKET_KEYS);
	seen += sum((const char *)k, n * sizeof(*k));
	require(material_warning(m, 1700000000, msg, sizeof(msg)) <= 2);
	(void)material_not_after(m);
}

static void
open_any(const uint8_t *data, size_t size)
{
	struct material *m = NULL, *again = NULL;
	int fd = in_memory(data, size), sealed = -1;
	int r = material_open(&m, fd);

	require(r == 0 || (r == -EBADMSG && !m));
	if (r == 0) {
		look_at(m, size);
		require(material_seal(m, &sealed) == 0 && material_open(&again, sealed) == 0);
		require(material_rotate(again, m) == 0);
		look_at(again, size);
		material_free(again);
		close(sealed);
	}
	material_free(m);
	close(fd);
}

static void
read_any(const uint8_t *data, size_t size)
{
	int fd = in_memory(data, size), r;
	char path[32], msg[512] = "";
	const char *cert[] = { path };
	struct tls_files files = { .cert = cert, .n_cert = 1, .passphrase = "env:NOT_SET" };
	struct material *m = NULL;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = material_read(&m, &files, msg, sizeof(msg));
	require((r == 0) == !*msg && (r == 0 || r == -EKEYREJECTED || r == -EAGAIN));
	material_free(m);
	files = (struct tls_files){ .ca = path };
	m = NULL;
	r = material_read(&m, &files, msg, sizeof(msg));
	require(r == 0 || r == -EKEYREJECTED || r == -EAGAIN);
	material_free(m);
	close(fd);
}

static void
split_any(const uint8_t *data, size_t size)
{
	char *spec = strndup((const char *)data, size), name[64] = "?";
	const char *path;

	require(spec);
	path = tls_file_split(spec, name, sizeof(name));
	if (!path)
		require(!strcmp(name, "?"));
	else if (!*name)
		require(path == spec);
	else {
		require(path == spec + strlen(name) + 1 && path[-1] == ':' && *path);
		for (const char *p = name; *p; p++)
			require(islower((unsigned char)*p) || isdigit((unsigned char)*p) ||
				strchr("-.*", *p));
		require(!strchr(name + 1, '*'));
	}
	free(spec);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && *data == 'P')
		read_any(data + 1, size - 1);
	else if (size && *data == 'N')
		split_any(data + 1, size - 1);
	else
		open_any(data, size);
	return 0;
}
