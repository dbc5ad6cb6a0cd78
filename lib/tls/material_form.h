/* tls/material_form - material as one run of bytes, in secret memory here and in the sealed memory that goes to workers: a
 * head, the certificates one after the other, the CAs.  Both ends are the same program. */
#ifndef TLS_MATERIAL_FORM_H
#define TLS_MATERIAL_FORM_H

#include "tls/material.h"

#define FORM_MAGIC "ccfmat\0\1"

struct form_head {
	char magic[8];
	uint32_t n_certs, n_tickets;
	uint64_t ca_len; /* bytes at the end */
	struct ticket_key ticket[TICKET_KEYS];
};

struct span { /* s since 1970 */
	int64_t begin, end;
};

struct form_cert { /* name, file, pem and key follow it */
	uint32_t name_len, file_len, pem_len, key_len; /* file's with its NUL */
	struct span leaf, chain; /* chain: of those in it that end first; end 0: there are none */
};

struct secret_buf;

int material_wrap(struct material **ret, char *form, size_t len);
/* Takes form (secret memory) if all in it is as it should be.  0, -EBADMSG, -ENOMEM */
int material_add_cas(struct secret_buf *, const struct tls_files *, char *msg, size_t cap);
/* Those that the files name, each once.  0, or as material_read */

#endif
