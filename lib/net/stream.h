/* net/stream - the transport over bare descriptors: a socket, or stdin and stdout.
 * O_NONBLOCK is never touched: sockets by MSG_DONTWAIT, pipes by splice(SPLICE_F_NONBLOCK) or poll
 * and at most PIPE_BUF, files as they are. finish() of what is no socket closes wfd (1 when
 * borrowed: /dev/null takes its place) and sets it to -1: forget a watch on it first.  unsent()
 * finds a reset that nothing else reports any more, and then sets broken.  A TCP socket is reset if
 * this process dies before close(). */
#ifndef NET_STREAM_H
#define NET_STREAM_H

#include "base/transport.h"

int stream_new(int rfd, int wfd, bool owns, struct transport **ret);
/* owns: close() closes them (borrowed else).  rfd and wfd may be the same.  Both ready bits begin
 * set.  0 or -ENOMEM, and then nothing was taken.  Whether a socket has O_NONBLOCK, which splicing
 * needs, is looked up here. */

bool stream_is(const struct transport *);
ssize_t stream_splice(
    struct transport *from, struct transport *to, int rpipe, int wpipe, size_t len, bool fill);
/* Moves bytes without user space between a stream and a pipe of ours: fill: from -> wpipe (to is
 * NULL), as read; else rpipe -> to (from is NULL), as write.  A short splice leaves the ready bit:
 * the pipe may have been the limit. -EINVAL: this descriptor cannot (a socket without O_NONBLOCK, a
 * terminal): use read and write. splice(2) has no MSG_NOSIGNAL: on a socket that was reset it
 * raises SIGPIPE beside -EPIPE or -ECONNRESET. */

ssize_t stream_direct(struct transport *from, struct transport *to, size_t len);
/* One splice where one of the two is a pipe by itself (stdin or stdout).  As read: 0 is from's end
 * of stream. -EAGAIN clears the ready bit of the one that was not ready, found out by poll.
 * -EINVAL: neither is a pipe. */

#endif
