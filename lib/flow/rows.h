/* flow/rows - a live connection as GET /connections shows it. */
#ifndef FLOW_ROWS_H
#define FLOW_ROWS_H

#include <stdint.h>

struct relay;
struct tell;
struct text;

#define ROWS_MAX 32768 /* of one answer */

struct conn_row { /* also as bytes between worker and master: whole, fixed, every string NUL-terminated */
	char conn[96];  /* CCF_CONN_ID */
	char iface[80];
	char peer[128]; /* address and port, "" for a Unix socket */
	char state[16]; /* handshake, waiting, asked, open, dialling, joined, command ... */
	char tls[48];   /* "TLSv1.3 TLS_AES_256_GCM_SHA384", "" none */
	uint64_t in, out;      /* plaintext bytes from and to the peer */
	int64_t age_ms;
	int64_t idle_ms;       /* since a byte moved; -1: this process does not hold the bytes */
	uint64_t held;         /* bytes of memory */
};

void rows_from(struct conn_row *, const struct tell *, const char *state);
/* All of it: who, state and age from tell; its bytes are not held here. */
void rows_look(struct conn_row *, const struct relay *, int64_t now); /* they are, by that relay */
void rows_json(struct text *, const struct conn_row *, unsigned n);
/* Appends {...},{...}; a comma before each but the first of all.  Keys: id interface peer state tls in out held (bytes)
 * idle age (seconds); null where there is nothing to say, and what is not known here. */

#endif
