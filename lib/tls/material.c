#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tls/material_form.h"
#include "tls/secret.h"

#define PATH_LEN_MAX 4096
#define FORM_CERT_MAX                                                                              \
	(sizeof(struct form_cert) + 256 + PATH_LEN_MAX + 2 * (size_t)MATERIAL_FILE_MAX)
#define FORM_MAX (sizeof(struct form_head) + MATERIAL_CERTS_MAX * FORM_CERT_MAX + MATERIAL_CA_MAX)

#define NEAR_S	 (14 * 24 * 3600)
#define TIME_MAX 1000000000000 /* s; a certificate's dates end with the year 9999 */

struct material {
	char *form; /* all of it; what follows points into it */
	size_t len;
	struct form_head *head;
	struct material_cert *cert;
	struct span (*span)[2]; /* of each: leaf, chain */
	const char *ca;
};

/* ---- names ---- */

/* 1: a host name or wildcard, n bytes.  0: none.  -1: one that cannot be. */
static int
is_name(const char *s, size_t n)
{
	static const char letters[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.*";
	size_t label = 0;

	if (!n || strspn(s, letters) != n)
		return 0;
	if (memchr(s + 1, '*', n - 1) || (*s == '*' && (n < 3 || s[1] != '.')) || n > 253)
		return -1;
	for (size_t i = 0; i <= n; i++) {
		if (i < n && s[i] != '.') {
			label++;
			continue;
		}
		if (!label || label > 63)
			return label ? -1 : 0;
		label = 0;
	}
	return 1;
}

const char *
tls_file_split(const char *spec, char *name, size_t cap)
{
	const char *colon = strchr(spec, ':');
	size_t n = colon ? (size_t)(colon - spec) : 0;
	int is = colon ? is_name(spec, n) : 0;
	const char *path = is ? colon + 1 : spec;

	if (is < 0 || n * (size_t)is >= cap || !*path)
		return NULL;
	for (size_t i = 0; is && i < n; i++)
		name[i] = (char)tolower((unsigned char)spec[i]);
	name[is ? n : 0] = '\0';
	return path;
}

/* ---- the form ---- */

struct cursor {
	const char *at, *end;
};

/* The next n bytes.  NULL if there are not so many: then nothing is left. */
static const char *
take(struct cursor *c, size_t n)
{
	const char *p = c->at;

	if ((size_t)(c->end - c->at) < n) {
		c->at = c->end;
		return NULL;
	}
	c->at += n;
	return p;
}

static bool
is_span(const struct span *s)
{
	return s->begin > -TIME_MAX && s->begin < TIME_MAX && s->end > -TIME_MAX &&
	       s->end < TIME_MAX;
}

static bool
take_cert(struct cursor *c, struct material_cert *ret, struct span *spans)
{
	const char *p = take(c, sizeof(struct form_cert)), *name;
	struct form_cert f;

	if (!p)
		return false;
	memcpy(&f, p, sizeof(f));
	if (f.name_len >= sizeof(ret->name) || f.file_len < 2 || f.file_len > PATH_LEN_MAX ||
	    !f.pem_len || f.pem_len > MATERIAL_FILE_MAX || !f.key_len ||
	    f.key_len > MATERIAL_FILE_MAX || !is_span(&f.leaf) || !is_span(&f.chain))
		return false;
	name = take(c, f.name_len);
	ret->file = take(c, f.file_len);
	ret->pem = take(c, f.pem_len);
	ret->key = take(c, f.key_len);
	if (!ret->key || strnlen(name, f.name_len) != f.name_len ||
	    strnlen(ret->file, f.file_len) != f.file_len - 1)
		return false;
	memcpy(ret->name, name, f.name_len);
	ret->name[f.name_len] = '\0';
	ret->pem_len = f.pem_len;
	ret->key_len = f.key_len;
	spans[0] = f.leaf;
	spans[1] = f.chain;
	return true;
}

/* 0, -EBADMSG, -ENOMEM */
static int
read_form(struct material *m)
{
	struct cursor c = { m->form, m->form + m->len };
	const struct form_head *h = m->head = (struct form_head *)take(&c, sizeof(*h));

	if (!h || memcmp(h->magic, FORM_MAGIC, sizeof(h->magic)) != 0 ||
	    h->n_certs > MATERIAL_CERTS_MAX || h->n_tickets > TICKET_KEYS ||
	    h->ca_len > MATERIAL_CA_MAX)
		return -EBADMSG;
	m->cert = calloc(h->n_certs + 1, sizeof(*m->cert));
	m->span = calloc(h->n_certs + 1, sizeof(*m->span));
	if (!m->cert || !m->span)
		return -ENOMEM;
	for (size_t i = 0; i < h->n_certs; i++)
		if (!take_cert(&c, &m->cert[i], m->span[i]))
			return -EBADMSG;
	m->ca = take(&c, h->ca_len);
	return m->ca && c.at == c.end ? 0 : -EBADMSG;
}

int
material_wrap(struct material **ret, char *form, size_t len)
{
	struct material *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->form = form;
	m->len = len;
	r = read_form(m);
	if (r == 0) {
		*ret = m;
		return 0;
	}
	m->form = NULL;
	material_free(m);
	return r;
}

void
material_free(struct material *m)
{
	if (!m)
		return;
	secret_free(m->form);
	free(m->cert);
	free(m->span);
	free(m);
}

static int
put(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t r = write(fd, p, n);

		if (r < 0 && errno != EINTR)
			return -errno;
		p += r > 0 ? r : 0;
		n -= r > 0 ? (size_t)r : 0;
	}
	return 0;
}

int
material_seal(const struct material *m, int *ret_fd)
{
	int fd = memfd_create("material", MFD_CLOEXEC | MFD_ALLOW_SEALING), r;

	if (fd == -1)
		return -errno;
	r = put(fd, m->form, m->len);
	if (r == 0 &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == -1)
		r = -errno;
	if (r < 0)
		close(fd);
	else
		*ret_fd = fd;
	return r;
}

static int
get(int fd, char *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t r = pread(fd, p + at, n - at, (off_t)at);

		if (r == 0)
			return -EBADMSG;
		if (r < 0 && errno != EINTR)
			return -errno;
		at += r > 0 ? (size_t)r : 0;
	}
	return 0;
}

/* A copy is checked, so what it was read from may change. */
int
material_open(struct material **ret, int fd)
{
	struct stat st;
	char *form;
	int r;

	if (fstat(fd, &st) == -1)
		return -errno;
	if (st.st_size < (off_t)sizeof(struct form_head) || st.st_size > (off_t)FORM_MAX)
		return -EBADMSG;
	form = secret_new((size_t)st.st_size, false);
	if (!form)
		return -ENOMEM;
	r = get(fd, form, (size_t)st.st_size);
	if (r == 0)
		r = material_wrap(ret, form, (size_t)st.st_size);
	if (r < 0)
		secret_free(form);
	return r;
}

/* ---- until when ---- */

/* 0: nothing to say, 1: soon or not yet, 2: over */
static int
how_bad(const struct span *s, int64_t now)
{
	int64_t third = (s->end - s->begin) / 3, near = third < NEAR_S ? third : NEAR_S;

	if (!s->end)
		return 0;
	if (now > s->end)
		return 2;
	return now < s->begin || s->end - now <= near;
}

int
material_warning(const struct material *m, int64_t now_s, char *msg, size_t cap)
{
	const struct span *worst = NULL;
	const char *file = NULL, *what;
	size_t n = m ? m->head->n_certs : 0, which = 0;
	int level = 0;
	char date[32] = "";
	struct tm tm;
	time_t t;

	for (size_t i = 0; i < 2 * n; i++) {
		const struct span *s = &m->span[i / 2][i % 2];
		int bad = how_bad(s, now_s);

		if (bad < level || !bad || (bad == level && worst && s->end >= worst->end))
			continue;
		level = bad;
		worst = s;
		which = i % 2;
		file = m->cert[i / 2].file;
	}
	if (!worst)
		return 0;
	what = level == 2	      ? "expired on"
	       : now_s < worst->begin ? "is not valid before"
				      : "expires on";
	t = (time_t)(level == 1 && now_s < worst->begin ? worst->begin : worst->end);
	if (gmtime_r(&t, &tm))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S UTC", &tm);
	snprintf(msg, cap, "%s: %s %s %s", file,
	    which ? "a certificate of its chain" : "the certificate", what, date);
	return level;
}

int64_t
material_not_after(const struct material *m)
{
	int64_t end = 0;

	for (size_t i = 0; m && i < m->head->n_certs; i++)
		if (!end || m->span[i][0].end < end)
			end = m->span[i][0].end;
	return end;
}

/* ---- tickets ---- */

void
material_keep_tickets(struct material *m, const struct material *before)
{
	memmove(m->head->ticket, before->head->ticket, sizeof(m->head->ticket));
	m->head->n_tickets = before->head->n_tickets;
}

int
material_rotate(struct material *m, const struct material *before)
{
	struct ticket_key fresh;
	size_t n = before ? before->head->n_tickets : 0;

	if (RAND_bytes(fresh.name, sizeof(fresh.name)) != 1 ||
	    RAND_priv_bytes(fresh.aes, sizeof(fresh.aes)) != 1 ||
	    RAND_priv_bytes(fresh.hmac, sizeof(fresh.hmac)) != 1) {
		ERR_clear_error();
		return -EIO;
	}
	if (n == TICKET_KEYS)
		n--;
	if (n)
		memmove(&m->head->ticket[1], &before->head->ticket[0], n * sizeof(fresh));
	m->head->ticket[0] = fresh;
	m->head->n_tickets = (uint32_t)n + 1;
	OPENSSL_cleanse(&fresh, sizeof(fresh));
	return 0;
}

size_t
material_tickets(const struct material *m, const struct ticket_key **ret)
{
	*ret = m ? m->head->ticket : NULL;
	return m ? m->head->n_tickets : 0;
}

/* ---- for tls/context ---- */

size_t
material_certs(const struct material *m, const struct material_cert **ret)
{
	*ret = m ? m->cert : NULL;
	return m ? m->head->n_certs : 0;
}

int64_t
material_cert_end(const struct material *m, size_t i)
{
	return m->span[i][0].end;
}

const char *
material_ca(const struct material *m, size_t *len)
{
	*len = m ? m->head->ca_len : 0;
	return *len ? m->ca : NULL;
}
