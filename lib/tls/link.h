/* tls/link - a transport whose socket is owned by OpenSSL, of a server or of a client as the context says.
 * Reading and writing go through BIOs made in tls/bio; what each *operation* waits for is kept, not
 * what the connection waits for.  A bare FIN ends the peer's direction like a close_notify does,
 * and sets bare_end. */
#ifndef TLS_LINK_H
#define TLS_LINK_H

#include "base/transport.h"

struct tls_context;

int tls_link_new(struct transport **ret, struct tls_context *, int rfd, int wfd, bool owns);
/* rfd and wfd are the socket (0 and 1 of a tool started per connection, or the same number).
 * MSG_DONTWAIT is used: O_NONBLOCK is not touched.  owns: close() closes them.  0; -ENOMEM, and
 * then nothing was taken.
 * reason() after a failed handshake is one line with OpenSSL's reason and
 * what the client offered: "no shared protocol version (client offered at most TLS 1.1, the minimum
 * is TLS 1.2; ...)".  While one is under way it says how far it has come ("the client said nothing").
 * A server of TLS 1.3 refuses a client's certificate after the handshake: then a read is -EACCES, and reason() says so.
 * The end of the stream in the handshake is -EPROTO, inside a record later
 * -ECONNRESET and broken.
 * A client's handshake that fails because the server's certificate was refused is -EKEYREJECTED, because no pin was met
 * -EKEYREVOKED. */

#endif
