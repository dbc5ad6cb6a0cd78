/* tls/bio - the two BIOs of a connection, made in one place.
 * Reading is recv(MSG_DONTWAIT) into one buffer shared by all connections of the process, handed to
 * OpenSSL in the pieces it asks for.  Writing gathers records in another shared buffer, sent once
 * by bio_flush.  What the owner of a shared buffer has left in it when another connection needs it
 * is kept by that connection, bounded; an idle connection holds no buffer. */
#ifndef TLS_BIO_H
#define TLS_BIO_H

#include <openssl/bio.h>
#include <stdbool.h>
#include <stddef.h>

#define BIO_GATHER   (128 * 1024) /* bytes sent in one call at most; the shared buffer */
#define BIO_KEEP_MAX (192 * 1024) /* a connection that keeps so much is not written to */
#define BIO_AHEAD    (129 * 1024) /* bytes received in one call at most */

struct transport;

BIO *bio_reader(struct transport *); /* reads t->rfd */
BIO *bio_writer(struct transport *); /* writes t->wfd */
/* Both keep t->ready and t->broken.  NULL: no memory. */

int bio_flush(BIO *writer);		/* 0: nothing pending.  -EAGAIN.  -errno */
size_t bio_pending(const BIO *writer);	/* bytes gathered or kept, not sent */
size_t bio_kept(const BIO *);		/* either: bytes of memory that this connection keeps, or has in the shared buffer */
bool bio_blocked(const BIO *writer);	/* the socket did not take everything: some is kept */
void bio_expect(BIO *reader, size_t);	/* so much plaintext is wanted now: how far to read ahead */
size_t bio_buffered(const BIO *reader); /* bytes received, not yet asked for by OpenSSL */
bool bio_ended(const BIO *reader);	/* recv gave 0 */
bool bio_in_record(const BIO *reader);	/* what OpenSSL was given stops inside a record */
const char *bio_greeting(const BIO *reader); /* up to 5 first bytes of the stream, NUL-terminated */
int bio_error(const BIO *);		     /* errno of the system call that ended it, or 0 */
size_t bio_held(void);			     /* bytes kept by all connections of this process */

#endif
