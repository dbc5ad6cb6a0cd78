#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls/pem.h"
#include "tls/says.h"
#include "tls/secret.h"

#define BEGIN "-----BEGIN "
#define END   "-----END "
#define DASH  "-----"

#define LEN(s) (sizeof(s) - 1)

static int
read_open(int fd, struct pem_text *ret, size_t max)
{
	size_t n = 0;
	struct stat st;
	ssize_t r = 1;
	char *p;

	if (fstat(fd, &st) == -1)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -ENXIO;
	if (st.st_size > (off_t)max)
		return -EFBIG;
	p = secret_new((size_t)st.st_size, false);
	if (!p)
		return -ENOMEM;
	while (r && n < (size_t)st.st_size) {
		r = read(fd, p + n, (size_t)st.st_size - n);
		if (r < 0 && errno != EINTR) {
			r = -errno;
			secret_free(p);
			return (int)r;
		}
		n += r > 0 ? (size_t)r : 0;
	}
	*ret = (struct pem_text){ p, n, 0 };
	return 0;
}

int
pem_read(struct pem_text *ret, int dir, const char *path, size_t max)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), r;

	if (fd == -1)
		return -errno;
	r = read_open(fd, ret, max);
	close(fd);
	return r;
}

/* The end of the line at p, its line feed not counted. */
static const char *
line_end(const char *p, const char *end)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));

	return lf ? lf : end;
}

static bool
begins(const char *line, const char *end, const char *with)
{
	size_t n = strlen(with);

	return (size_t)(end - line) >= n && !memcmp(line, with, n);
}

/* The label of a mark, "-----BEGIN label-----"; white space may follow it. */
static bool
read_mark(const char *line, const char *end, const char *with, struct pem *b)
{
	while (end > line && strchr(" \t\r", end[-1]))
		end--;
	if (!begins(line, end, with))
		return false;
	b->label = line + strlen(with);
	if (end - b->label <= (ptrdiff_t)LEN(DASH) || memcmp(end - LEN(DASH), DASH, LEN(DASH)) != 0)
		return false;
	b->label_len = (size_t)(end - b->label) - LEN(DASH);
	return true;
}

/* The last line, and it looks like the beginning of a block's. */
static bool
is_cut_mark(const char *line, const char *end)
{
	size_t n = (size_t)(end - line);

	if (n < 2)
		return false;
	return n <= LEN(BEGIN) ? !memcmp(line, BEGIN, n) : begins(line, end, BEGIN);
}

int
pem_next(struct pem_text *t, struct pem *ret)
{
	const char *p = t->p + t->at, *end = t->p + t->len, *eol;
	struct pem b = { 0 }, closing;

	for (; p < end; p = eol < end ? eol + 1 : end) {
		eol = line_end(p, end);
		if (!b.text && read_mark(p, eol, BEGIN, &b))
			b.text = p;
		else if (!b.text && eol == end && is_cut_mark(p, end))
			return -EBADMSG;
		else if (b.text && read_mark(p, eol, BEGIN, &closing))
			return -EBADMSG;
		else if (b.text && read_mark(p, eol, END, &closing) &&
			 closing.label_len == b.label_len &&
			 !memcmp(closing.label, b.label, b.label_len)) {
			b.len = (size_t)(eol - b.text);
			t->at = (size_t)(eol - t->p);
			*ret = b;
			return 1;
		}
	}
	t->at = t->len;
	return b.text ? -EBADMSG : 0;
}

int
pem_bad(int err, const char *path, char *msg, size_t cap)
{
	const char *what = strerror(-err);

	if (err == -EFBIG)
		what = "is too large";
	else if (err == -ENXIO)
		what = "is not a regular file";
	else if (err == -EBADMSG)
		return says(-EAGAIN, msg, cap, "%s: is cut off in the middle of a block", path);
	else if (err == -ENOMEM || err == -EMFILE || err == -ENFILE)
		return says(err, msg, cap, "%s: %s", path, what);
	return says(-EKEYREJECTED, msg, cap, "%s: %s", path, what);
}

static bool
is(const struct pem *b, const char *label)
{
	return b->label_len == strlen(label) && !memcmp(b->label, label, b->label_len);
}

bool
pem_is_certificate(const struct pem *b)
{
	return is(b, "CERTIFICATE") || is(b, "X509 CERTIFICATE");
}

X509 *
pem_certificate(const struct pem *b)
{
	BIO *bio = BIO_new_mem_buf(b->text, (int)b->len);
	X509 *x;

	ERR_clear_error();
	x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	BIO_free(bio);
	return x;
}

bool
pem_is_key(const struct pem *b)
{
	static const char tail[] = "PRIVATE KEY";

	return b->label_len >= LEN(tail) &&
	       !memcmp(b->label + b->label_len - LEN(tail), tail, LEN(tail));
}
