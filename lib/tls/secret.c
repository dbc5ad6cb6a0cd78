#include <openssl/crypto.h>
#include <stdalign.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "tls/secret.h"

/* Stands before what is handed out, in pages that are nobody else's. */
struct head {
	alignas(max_align_t) size_t size;
};

void *
secret_new(size_t n, bool ours_alone)
{
	size_t size = sizeof(struct head) + n;
	struct head *h;

	if (size < n)
		return NULL;
	h = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (h == MAP_FAILED)
		return NULL;
	(void)madvise(h, size, MADV_DONTDUMP);
	if (ours_alone)
		(void)madvise(h, size, MADV_WIPEONFORK);
	h->size = size;
	return h + 1;
}

void *
secret_grow(void *p, size_t n)
{
	struct head *h = (struct head *)p - 1;
	size_t size = sizeof(*h) + n;

	if (size < n)
		return NULL;
	h = mremap(h, h->size, size, MREMAP_MAYMOVE);
	if (h == MAP_FAILED)
		return NULL;
	h->size = size;
	return h + 1;
}

void
secret_free(void *p)
{
	struct head *h;
	size_t size;

	if (!p)
		return;
	h = (struct head *)p - 1;
	size = h->size;
	OPENSSL_cleanse(h, size);
	(void)munmap(h, size);
}

/* OpenSSL leaves passphrases there. */
__attribute__((noinline)) void
secret_sweep(void)
{
	char below[128 * 1024];

	OPENSSL_cleanse(below, sizeof(below));
}

void
secret_add(struct secret_buf *b, const void *data, size_t n)
{
	size_t cap = b->cap ? b->cap : 4096;
	char *p;

	while (cap - b->len < n)
		cap *= 2;
	if (!b->failed && cap > b->cap) {
		p = b->p ? secret_grow(b->p, cap) : secret_new(cap, false);
		b->failed = !p;
		b->p = p ? p : b->p;
		b->cap = p ? cap : b->cap;
	}
	if (b->failed)
		return;
	memcpy(b->p + b->len, data, n);
	b->len += n;
}
