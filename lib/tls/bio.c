/* OpenSSL reads a record in two calls, header and body, and writes each record in one: over a plain
 * socket that is three system calls a record.  With one shared buffer each way it is one for many.
 * A shared buffer belongs to one connection at a time.  Between turns it mostly belongs to nobody,
 * for whoever reads until EAGAIN leaves nothing, and flush sends what was gathered. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/transport.h"
#include "tls/bio.h"

enum { HEADER = 5, RECORD_MAX = HEADER + 16384 + 256 };

struct kept { /* what a connection had to take out of a shared buffer */
	unsigned char *bytes;
	size_t off, len; /* bytes[off..len) are still to go */
};

struct side { /* what both BIOs have */
	struct transport *t;
	struct kept kept;
	int error; /* of the system call that ended it */
};

struct reader {
	struct side s;
	size_t ahead; /* bytes worth asking the kernel for now */
	size_t allow; /* bytes that may still be received in this turn */
	bool ended;
	bool begun; /* past the first record's header */
	unsigned char head_len;
	unsigned char head[HEADER];
	char greeting[HEADER + 1];
	unsigned body; /* bytes of the current record that have not been asked for */
};

struct writer {
	struct side s;
};

static struct {
	struct reader *owner;
	size_t off, len;
	unsigned char bytes[BIO_AHEAD];
} in;

/* The writer that owns bytes here keeps none: what follows kept bytes is kept, too. */
static struct {
	struct writer *owner;
	size_t len;
	unsigned char bytes[BIO_GATHER];
} out;

static size_t held;

static size_t
kept_size(const struct kept *k)
{
	return k->len - k->off;
}

static void
kept_drop(struct kept *k)
{
	held -= kept_size(k);
	free(k->bytes);
	*k = (struct kept){ 0 };
}

static int
kept_add(struct kept *k, const void *p, size_t n)
{
	size_t size = kept_size(k);
	unsigned char *bytes;

	if (k->off)
		memmove(k->bytes, k->bytes + k->off, size);
	k->off = 0;
	k->len = size;
	bytes = realloc(k->bytes, size + n);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes + size, p, n);
	k->bytes = bytes;
	k->len = size + n;
	held += n;
	return 0;
}

static void
kept_skip(struct kept *k, size_t n)
{
	k->off += n;
	held -= n;
	if (k->off == k->len)
		kept_drop(k);
}

static void
note_error(struct side *s, int err)
{
	struct transport *t = s->t;

	s->error = err;
	if (!t->broken && (err == ECONNRESET || err == EPIPE || err == ETIMEDOUT))
		t->broken = err;
}

/* A pipe knows no MSG_DONTWAIT, and O_NONBLOCK is not ours to set: ask poll, then read once. */
static ssize_t
receive(int fd, void *p, size_t n)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t got;

	do {
		got = recv(fd, p, n, MSG_DONTWAIT);
		if (got == -1 && errno == ENOTSOCK) {
			if (poll(&pfd, 1, 0) == 1)
				got = read(fd, p, n);
			else
				errno = EAGAIN;
		}
	} while (got == -1 && errno == EINTR);
	return got;
}

/* POLLOUT of a pipe promises room for PIPE_BUF bytes, no more. */
static ssize_t
transmit(int fd, const void *p, size_t n)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	ssize_t put;

	do {
		put = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (put == -1 && errno == ENOTSOCK) {
			if (poll(&pfd, 1, 0) == 1)
				put = write(fd, p, n < PIPE_BUF ? n : PIPE_BUF);
			else
				errno = EAGAIN;
		}
	} while (put == -1 && errno == EINTR);
	return put;
}

/* Follows the records, so that an end of stream inside one is known for what it is: with
 * SSL_OP_IGNORE_UNEXPECTED_EOF OpenSSL calls that a clean end, too. */
static void
follow(struct reader *r, const unsigned char *p, size_t n)
{
	while (n) {
		size_t k = r->body < n ? r->body : n;

		r->body -= (unsigned)k;
		p += k;
		n -= k;
		if (!n)
			break;
		r->head[r->head_len++] = *p;
		if (!r->begun)
			r->greeting[r->head_len - 1] = (char)*p;
		p++;
		n--;
		if (r->head_len < HEADER)
			continue;
		r->head_len = 0;
		r->body = (unsigned)r->head[3] << 8 | r->head[4];
		if (!r->begun && r->head[0] & 0x80) /* a hello in SSL 2 form: length first */
			r->body = (((unsigned)r->head[0] & 0x7f) << 8 | r->head[1]) + 2 - HEADER;
		r->begun = true;
	}
}

static bool
reader_claims(struct reader *r)
{
	struct reader *o = in.owner;

	if (o && o != r && in.off < in.len &&
	    kept_add(&o->s.kept, in.bytes + in.off, in.len - in.off))
		return false;
	in.owner = r;
	in.off = in.len = 0;
	return true;
}

static size_t
take(struct reader *r, void *p, size_t n)
{
	size_t k;

	if (r->s.kept.bytes) {
		k = kept_size(&r->s.kept) < n ? kept_size(&r->s.kept) : n;
		memcpy(p, r->s.kept.bytes + r->s.kept.off, k);
		kept_skip(&r->s.kept, k);
		return k;
	}
	if (in.owner != r)
		return 0;
	k = in.len - in.off < n ? in.len - in.off : n;
	memcpy(p, in.bytes + in.off, k);
	in.off += k;
	return k;
}

/* Returns what recv does: into the shared buffer, or into p where that cannot be had. */
static ssize_t
fill(struct reader *r, void *p, size_t n, bool *ret_shared)
{
	bool shared = reader_claims(r);
	size_t want = shared ? r->ahead : n;
	ssize_t got = receive(r->s.t->rfd, shared ? in.bytes : p, want);

	if (got == -1) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			r->s.t->ready &= ~(unsigned)TP_READ;
		else
			note_error(&r->s, errno);
		return -1;
	}
	if (got == 0)
		r->ended = true;
	else if ((size_t)got < want)
		r->s.t->ready &= ~(unsigned)TP_READ;
	r->allow -= (size_t)got < r->allow ? (size_t)got : r->allow;
	if (shared)
		in.len = (size_t)got;
	*ret_shared = shared;
	return got;
}

static int
reader_read(BIO *b, char *p, int n)
{
	struct reader *r = BIO_get_data(b);
	size_t k = take(r, p, (size_t)n);
	bool shared = true;
	ssize_t got;

	BIO_clear_retry_flags(b);
	if (!k) {
		if (r->ended)
			return 0;
		if (r->s.error) {
			errno = r->s.error;
			return -1;
		}
		if (!(r->s.t->ready & TP_READ) || !r->allow) {
			BIO_set_retry_read(b);
			return -1;
		}
		got = fill(r, p, (size_t)n, &shared);
		if (got == -1 && !r->s.error)
			BIO_set_retry_read(b);
		if (got <= 0)
			return (int)got;
		k = shared ? take(r, p, (size_t)n) : (size_t)got;
	}
	follow(r, (unsigned char *)p, k);
	return (int)k;
}

static long
reader_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	struct reader *r = BIO_get_data(b);

	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_EOF ? r->ended : 0;
}

static int
reader_destroy(BIO *b)
{
	struct reader *r = BIO_get_data(b);

	if (!r)
		return 1;
	if (in.owner == r)
		in.owner = NULL;
	kept_drop(&r->s.kept);
	free(r);
	return 1;
}

/* Bytes the socket took: 0 if it would block.  -errno. */
static ssize_t
writer_send(struct writer *w, const void *p, size_t n)
{
	ssize_t put;

	if (!(w->s.t->ready & TP_WRITE))
		return 0;
	put = transmit(w->s.t->wfd, p, n);
	if (put == -1 && errno != EAGAIN && errno != EWOULDBLOCK) {
		note_error(&w->s, errno);
		return -w->s.error;
	}
	if (put == -1)
		put = 0;
	if ((size_t)put < n)
		w->s.t->ready &= ~(unsigned)TP_WRITE;
	return put;
}

/* Empties the shared buffer: into the socket as far as it goes, the rest into its owner. */
static void
spill(void)
{
	struct writer *w = out.owner;
	ssize_t put;

	if (!w)
		return;
	put = w->s.error ? -w->s.error : writer_send(w, out.bytes, out.len);
	if (put >= 0 && (size_t)put < out.len &&
	    kept_add(&w->s.kept, out.bytes + put, out.len - (size_t)put))
		w->s.error = ENOMEM;
	out.owner = NULL;
	out.len = 0;
}

static size_t
gather(struct writer *w, const void *p, size_t n)
{
	size_t k = BIO_GATHER - out.len < n ? BIO_GATHER - out.len : n;

	memcpy(out.bytes + out.len, p, k);
	out.len += k;
	out.owner = w;
	return k;
}

static int
writer_write(BIO *b, const char *p, int n)
{
	struct writer *w = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (out.owner != w || out.len == BIO_GATHER)
		spill();
	if (!w->s.error && w->s.kept.bytes) {
		if (kept_size(&w->s.kept) + (size_t)n > BIO_KEEP_MAX) {
			BIO_set_retry_write(b);
			return -1;
		}
		if (!kept_add(&w->s.kept, p, (size_t)n))
			return n;
		w->s.error = ENOMEM;
	}
	if (w->s.error) {
		errno = w->s.error;
		return -1;
	}
	return (int)gather(w, p, (size_t)n);
}

/* OpenSSL asks for a flush at the end of each flight; ours is the link's, once a turn. */
static long
writer_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	(void)b;
	(void)num;
	(void)ptr;
	return cmd == BIO_CTRL_FLUSH;
}

static int
writer_destroy(BIO *b)
{
	struct writer *w = BIO_get_data(b);

	if (!w)
		return 1;
	if (out.owner == w) {
		out.owner = NULL;
		out.len = 0;
	}
	kept_drop(&w->s.kept);
	free(w);
	return 1;
}

static BIO_METHOD *
method_new(const char *name, int (*destroy)(BIO *), long (*ctrl)(BIO *, int, long, void *))
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, name);

	if (!m)
		return NULL;
	BIO_meth_set_destroy(m, destroy);
	BIO_meth_set_ctrl(m, ctrl);
	return m;
}

static BIO *
bio_make(BIO_METHOD *method, void *data)
{
	BIO *b = method && data ? BIO_new(method) : NULL;

	if (!b) {
		free(data);
		return NULL;
	}
	BIO_set_data(b, data);
	BIO_set_init(b, 1);
	return b;
}

BIO *
bio_reader(struct transport *t)
{
	static BIO_METHOD *method;
	struct reader *r = calloc(1, sizeof(*r));

	if (!method && (method = method_new("ccf reader", reader_destroy, reader_ctrl)))
		BIO_meth_set_read(method, reader_read);
	if (r) {
		r->s.t = t;
		r->ahead = RECORD_MAX;
		r->allow = BIO_AHEAD;
	}
	return bio_make(method, r);
}

BIO *
bio_writer(struct transport *t)
{
	static BIO_METHOD *method;
	struct writer *w = calloc(1, sizeof(*w));

	if (!method && (method = method_new("ccf writer", writer_destroy, writer_ctrl)))
		BIO_meth_set_write(method, writer_write);
	if (w)
		w->s.t = t;
	return bio_make(method, w);
}

int
bio_flush(BIO *b)
{
	struct writer *w = BIO_get_data(b);
	ssize_t put;

	if (out.owner == w)
		spill();
	else if (!w->s.error && w->s.kept.bytes) {
		put = writer_send(w, w->s.kept.bytes + w->s.kept.off, kept_size(&w->s.kept));
		if (put > 0)
			kept_skip(&w->s.kept, (size_t)put);
	}
	if (w->s.error) {
		kept_drop(&w->s.kept);
		return -w->s.error;
	}
	return w->s.kept.bytes ? -EAGAIN : 0;
}

/* BIO_get_data takes no const BIO, but changes nothing. */
size_t
bio_pending(const BIO *b)
{
	const struct writer *w = BIO_get_data((BIO *)b);

	return kept_size(&w->s.kept) + (out.owner == w ? out.len : 0);
}

size_t
bio_kept(const BIO *b)
{
	const struct side *s = BIO_get_data((BIO *)b);
	size_t n = s->kept.len;

	if (in.owner && &in.owner->s == s)
		n += in.len - in.off;
	if (out.owner && &out.owner->s == s)
		n += out.len;
	return n;
}

bool
bio_blocked(const BIO *b)
{
	const struct writer *w = BIO_get_data((BIO *)b);

	return w->s.kept.bytes;
}

/* Full-size records are a little larger than what they carry.  allow bounds a turn against a peer
 * whose records carry nothing. */
void
bio_expect(BIO *b, size_t plaintext)
{
	struct reader *r = BIO_get_data(b);
	size_t ahead = plaintext < BIO_AHEAD ? plaintext + plaintext / 512 + 64 : BIO_AHEAD;

	r->ahead = ahead < RECORD_MAX ? RECORD_MAX : ahead > BIO_AHEAD ? BIO_AHEAD : ahead;
	r->allow = plaintext < BIO_AHEAD ? 2 * BIO_AHEAD : 2 * plaintext;
}

size_t
bio_buffered(const BIO *b)
{
	const struct reader *r = BIO_get_data((BIO *)b);

	return kept_size(&r->s.kept) + (in.owner == r ? in.len - in.off : 0);
}

bool
bio_ended(const BIO *b)
{
	return ((const struct reader *)BIO_get_data((BIO *)b))->ended;
}

bool
bio_in_record(const BIO *b)
{
	const struct reader *r = BIO_get_data((BIO *)b);

	return r->head_len || r->body;
}

const char *
bio_greeting(const BIO *b)
{
	return ((const struct reader *)BIO_get_data((BIO *)b))->greeting;
}

int
bio_error(const BIO *b)
{
	return ((const struct side *)BIO_get_data((BIO *)b))->error;
}

size_t
bio_held(void)
{
	return held;
}
