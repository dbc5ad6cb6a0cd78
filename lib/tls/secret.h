/* tls/secret - memory for keys and passphrases: in no core dump, wiped when it is given back. */
#ifndef TLS_SECRET_H
#define TLS_SECRET_H

#include <stdbool.h>
#include <stddef.h>

void *secret_new(size_t n, bool ours_alone); /* zeroed; ours_alone: a child made by fork sees zeros.  NULL: no memory */
void *secret_grow(void *, size_t n);	     /* as realloc; leaves no copy behind.  NULL: the old one is as it was */
void secret_free(void *);		     /* may be NULL */
void secret_sweep(void);		     /* wipes what functions that have returned left on the stack */

struct secret_buf { /* grows; zeroed it is empty; given back by secret_free(p) */
	char *p;
	size_t len, cap;
	bool failed; /* no memory once; from then on nothing is added */
};

void secret_add(struct secret_buf *, const void *, size_t n);

#endif
