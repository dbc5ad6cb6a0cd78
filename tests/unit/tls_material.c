#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tls/material.h"
#include "tls_files.h"

static char msg[512];
static struct made ca, a, b, rsa;

struct given {
	const char *cert[4], *key[4], *ca, *passphrase;
	bool ca_system;
};

static int
load(struct material **ret, struct given g)
{
	struct tls_files f = { .cert = g.cert,
		.key = g.key,
		.ca = g.ca,
		.ca_system = g.ca_system,
		.passphrase = g.passphrase };
	int r;

	while (f.n_cert < 4 && g.cert[f.n_cert])
		f.n_cert++;
	while (f.n_key < 4 && g.key[f.n_key])
		f.n_key++;
	msg[0] = '\0';
	r = material_read(ret, &f, msg, sizeof(msg));
	CHECK(ERR_peek_error() == 0);
	return r;
}

static int
try(struct given g)
{
	struct material *m = (struct material *)&g;
	int r = load(&m, g);

	if (r == 0)
		material_free(m);
	else
		CHECK(m == (struct material *)&g); /* untouched */
	return r;
}

static void
fails(int line, int with, struct given g, const char *file, const char *words)
{
	int r = try(g);

	if (r != with || strncmp(msg, file, strlen(file)) || !strstr(msg, words)) {
		printf("# %s:%d: %d, \"%s\", not %d, \"%s: ...%s...\"\n", __FILE__, line, r, msg,
		    with, file, words);
		check_failed++;
	}
}
#define REFUSED(file, words, ...)                                                                  \
	fails(__LINE__, -EKEYREJECTED, (struct given){ __VA_ARGS__ }, file, words)
#define UNFINISHED(file, words, ...)                                                               \
	fails(__LINE__, -EAGAIN, (struct given){ __VA_ARGS__ }, file, words)
#define DEFERRED(file, ...)                                                                        \
	fails(__LINE__, -ENOENT, (struct given){ __VA_ARGS__ }, file, "is not there")
#define LOADS(...)                                                                                 \
	do {                                                                                       \
		CHECK_INT(try((struct given){ __VA_ARGS__ }), 0);                                  \
		CHECK_STR(msg, "");                                                                \
	} while (0)

/* In a process of its own, without a terminal, or with one at whose other end text is typed; what
 * it returns. */
static int
apart(int (*run)(void), const char *typed)
{
	char said[256], *at = said;
	int fd = -1, status = -1;
	ssize_t n;
	pid_t pid;

	fflush(stdout);
	pid = typed ? forkpty(&fd, NULL, NULL, NULL) : fork();
	if (pid == 0) {
		if (!typed)
			setsid();
		check_failed = 0;
		status = run();
		fflush(stdout);
		_exit(check_failed ? 99 : status);
	}
	/* it is typed when it is asked for: what comes before is thrown away */
	while (typed && (n = read(fd, at, (size_t)(said + sizeof(said) - 1 - at))) > 0) {
		at += n;
		*at = '\0';
		if (strstr(said, "Passphrase for ")) {
			CHECK(write(fd, typed, strlen(typed)) == (ssize_t)strlen(typed));
			at = said;
		}
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	if (fd != -1)
		close(fd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

CASE(a_spec_is_a_file_or_a_name_and_a_file)
{
	static const struct {
		const char *spec, *path, *name;
	} good[] = {
		{ "node.pem", "node.pem", "" },
		{ "/etc/a:b.pem", "/etc/a:b.pem", "" },
		{ "./A:B", "./A:B", "" },
		{ "Example.ORG:node.pem", "node.pem", "example.org" },
		{ "*.Example.org:/x:y", "/x:y", "*.example.org" },
		{ "my_host:file", "my_host:file", "" },
		{ ":file", ":file", "" },
		{ "a..b:file", "a..b:file", "" },
		{ "localhost:f", "f", "localhost" },
	};
	static const char *const wrong[] = { "a*.b:f", "*:f", "*.:f", "*.*.org:f", "a.*:f",
		"*a.org:f", "", "name:" };
	char name[256], spec[300];

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		memset(name, '#', sizeof(name));
		CHECK_STR(tls_file_split(good[i].spec, name, sizeof(name)), good[i].path);
		CHECK_STR(name, good[i].name);
	}
	snprintf(name, sizeof(name), "untouched");
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		CHECK(!tls_file_split(wrong[i], name, sizeof(name)));
	memset(spec, 'a', sizeof(spec));
	strcpy(spec + 64, ":f");
	CHECK(!tls_file_split(spec, name, sizeof(name)));
	for (size_t i = 1; i < 253; i += 2)
		spec[i] = '.', spec[i + 1] = 'a';
	strcpy(spec + 253, "a:f");
	CHECK(!tls_file_split(spec, name, sizeof(name)));
	CHECK_STR(name, "untouched");
	strcpy(spec + 253, ":f");
	CHECK_STR(tls_file_split(spec, name, sizeof(name)), "f");
	CHECK_INT(strlen(name), 253);
	CHECK(!tls_file_split(spec, name, 253));
}

CASE(a_pair_loads_from_two_files_and_from_one)
{
	const char *chain = put_made("chain", &a, &ca, false, NULL),
		   *key = put_key("key", &a, NULL);
	const char *both = put_made("both", &a, &ca, true, NULL);
	const struct material_cert *c;
	struct material *m;

	LOADS(.cert = { chain }, .key = { key });
	LOADS(.cert = { both }, .key = { both });
	CHECK_INT(load(&m, (struct given){ .cert = { both } }), 0);
	CHECK_INT(material_certs(m, &c), 1);
	CHECK_STR(c->name, "");
	CHECK_STR(c->file, both);
	CHECK(!strncmp(c->pem, "-----BEGIN CERTIFICATE-----\n", 28));
	CHECK(memmem(c->pem + 28, c->pem_len - 28, "-----BEGIN CERTIFICATE-----\n", 28));
	CHECK(!memmem(c->pem, c->pem_len, "PRIVATE", 7));
	CHECK(!strncmp(c->key, "-----BEGIN PRIVATE KEY-----\n", 28));
	CHECK(!material_ca(m, &(size_t){ 0 }));
	material_free(m);
	LOADS(); /* a client has none */
}

CASE(keys_find_their_certificates_in_any_order)
{
	const char *ca_ = put_made("a", &a, NULL, false, NULL),
		   *cb = put_made("b", &b, NULL, false, NULL),
		   *cr = put_made("r", &rsa, NULL, true, NULL);
	const char *ka = put_key("a.key", &a, NULL), *kb = put_key("b.key", &b, NULL);
	const struct material_cert *c;
	char named[160], wild[160];
	struct material *m;

	snprintf(named, sizeof(named), "B.example:%s", cb);
	snprintf(wild, sizeof(wild), "*.b.example:%s", cb);
	CHECK_INT(
	    load(&m, (struct given){ .cert = { ca_, named, cr, wild }, .key = { kb, ka } }), 0);
	CHECK_INT(material_certs(m, &c), 4);
	CHECK_STR(c[1].name, "b.example");
	CHECK_STR(c[1].file, cb);
	CHECK_STR(c[3].name, "*.b.example");
	CHECK(c[1].key_len == c[3].key_len && !memcmp(c[1].key, c[3].key, c[1].key_len));
	CHECK(c[0].key_len != c[1].key_len || memcmp(c[0].key, c[1].key, c[1].key_len));
	material_free(m);

	REFUSED(
	    kb, "does not match any of the certificates", .cert = { ca_, cr }, .key = { ka, kb });
	REFUSED(cb, "none of the private keys", .cert = { ca_, cb }, .key = { ka });
	REFUSED(kb, "the private key does not match the certificate in", .cert = { ca_ },
	    .key = { kb });
	REFUSED(kb, "does not match", .key = { kb });
}

CASE(two_certificates_of_a_kind_for_a_name_are_one_too_many)
{
	const char *ca_ = put_made("a", &a, NULL, true, NULL),
		   *cb = put_made("b", &b, NULL, true, NULL),
		   *cr = put_made("r", &rsa, NULL, true, NULL);
	char one[160], two[160];

	REFUSED(ca_, cb, .cert = { ca_, cr, cb });
	LOADS(.cert = { ca_, cr });
	snprintf(one, sizeof(one), "x.org:%s", ca_);
	snprintf(two, sizeof(two), "X.org:%s", cb);
	REFUSED(ca_, "for x.org", .cert = { one, two });
	LOADS(.cert = { one, cb });
}

CASE(a_file_that_is_not_there_is_named_and_nothing_else_is_deferred)
{
	const char *both = put_made("both", &a, NULL, true, NULL), *none = in_dir("none"),
		   *junk = put_file("junk", "hello\n");

	DEFERRED(none, .cert = { none });
	DEFERRED(none, .cert = { both }, .key = { none });
	DEFERRED(none, .cert = { none }, .key = { both });
	REFUSED(junk, "certificate", .cert = { none, junk });
	REFUSED(junk, "private key", .cert = { none }, .key = { junk });
	REFUSED(none, "No such file", .cert = { both }, .ca = none);
	put_file("plain", "x");
	REFUSED(in_dir("plain/x"), "Not a directory", .cert = { in_dir("plain/x") });
	REFUSED(test_dir, "Is a directory", .cert = { test_dir });
	REFUSED(test_dir, "Is a directory", .cert = { both }, .key = { test_dir });
}

CASE(a_file_that_may_not_be_read_is_unusable)
{
	const char *path = put_made("secret", &a, NULL, true, NULL);

	if (geteuid() == 0)
		SKIP("root reads everything");
	chmod(path, 0);
	REFUSED(path, "Permission denied", .cert = { path });
}

CASE(nobody_waits_for_a_fifo_and_nothing_endless_is_read)
{
	const char *both = put_made("both", &a, NULL, true, NULL), *fifo = in_dir("fifo"), *big;
	static char text[MATERIAL_FILE_MAX + 1];

	CHECK(mkfifo(fifo, 0600) == 0);
	REFUSED(fifo, "not a regular file", .cert = { fifo });
	REFUSED(fifo, "not a regular file", .cert = { both }, .key = { fifo });
	REFUSED(fifo, "not a regular file", .cert = { both }, .ca = fifo);
	REFUSED("/dev/zero", "not a regular file", .cert = { "/dev/zero" });
	memset(text, '\n', sizeof(text));
	big = put_bytes("big", text, sizeof(text));
	REFUSED(big, "too large", .cert = { big });
}

CASE(a_file_with_something_else_in_it_says_what_is_missing)
{
	const char *both = put_made("both", &a, NULL, true, NULL), *key = put_key("key", &a, NULL),
		   *cert = put_made("cert", &a, NULL, false, NULL);
	const char *empty = put_file("empty", ""), *junk = put_file("junk", "hello\n");
	const char *broken =
	    put_file("broken", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
	const char *bad_key =
	    put_file("bad.key", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");

	UNFINISHED(empty, "is empty", .cert = { empty });
	REFUSED(junk, "does not hold a certificate", .cert = { junk });
	REFUSED(key, "does not hold a certificate", .cert = { key });
	REFUSED(broken, "unusable", .cert = { broken });
	UNFINISHED(empty, "is empty", .cert = { both }, .key = { empty });
	REFUSED(junk, "does not hold a private key", .cert = { both }, .key = { junk });
	REFUSED(cert, "does not hold a private key", .cert = { cert }, .key = { cert });
	REFUSED(cert, "does not hold a private key", .cert = { cert });
	REFUSED(bad_key, "its private key is unusable", .cert = { cert }, .key = { bad_key });
}

static size_t
slurp(const char *path, char *text, size_t cap)
{
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, cap, f) : 0;

	if (f)
		fclose(f);
	return n;
}

CASE(a_broken_certificate_further_down_the_chain_is_not_overlooked)
{
	static const char tail[] = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
	char text[8192];
	size_t n = slurp(put_made("both", &a, NULL, true, NULL), text, sizeof(text));
	const char *path;

	memcpy(text + n, tail, sizeof(tail));
	path = put_file("tail", text);
	REFUSED(path, "unusable", .cert = { path });
}

/* A file that is being written: at no length does it pass for a whole one. */
CASE(a_file_cut_off_anywhere_is_refused)
{
	char text[8192];
	const char *path = put_made("whole", &a, &ca, true, NULL);
	size_t n = slurp(path, text, sizeof(text));
	int cut_off = 0;

	for (size_t k = 0; k < n - 1; k++) {
		int r;

		path = put_bytes("cut", text, k);
		r = try((struct given){ .cert = { path } });
		CHECK(r == -EKEYREJECTED || r == -EAGAIN);
		CHECK(!strncmp(msg, path, strlen(path)));
		cut_off += r == -EAGAIN && strstr(msg, "is cut off");
	}
	CHECK(cut_off > (int)n - 20); /* but for "" and where a block has just ended */
	path = put_bytes("cut", text, n - 1);
	LOADS(.cert = { path });
	for (char *cr = text; (cr = strchr(cr, '\n')); cr++)
		*cr = '\r'; /* no lines at all */
	path = put_bytes("cut", text, n);
	CHECK_INT(try((struct given){ .cert = { path } }), -EAGAIN);
}

static const char *locked_old;

/* The form before PKCS#8, its kind of encryption in the header of the block. */
static const char *
put_traditional(const char *name, const struct made *m, const char *passphrase)
{
	const char *path = in_dir(name);
	BIO *bio = BIO_new_file(path, "w");

	if (!bio || !PEM_write_bio_X509(bio, m->cert) ||
	    !PEM_write_bio_PrivateKey_traditional(
		bio, m->key, EVP_aes_128_cbc(), NULL, 0, NULL, (void *)passphrase))
		abort();
	BIO_free(bio);
	return path;
}

static int
without_terminal(void)
{
	const char *locked = put_made("locked", &a, NULL, true, "open sesame");

	REFUSED(locked, "no terminal", .cert = { locked });
	REFUSED(locked_old, "no terminal", .cert = { locked_old });
	LOADS(.cert = { put_made("plain", &a, NULL, true, NULL) }); /* for which nobody asks */
	return 0;
}

CASE(without_a_terminal_nobody_is_asked)
{
	locked_old = put_traditional("locked-old", &a, "open sesame");
	CHECK_INT(apart(without_terminal, NULL), 0);
}

static int
with_terminal(void)
{
	const char *locked = put_made("locked", &a, NULL, true, "open sesame");

	LOADS(.cert = { locked });
	LOADS(.cert = { locked }); /* kept: nobody types it again */
	put_made("locked", &a, NULL, true, "another");
	REFUSED(locked, "wrong passphrase", .cert = { locked });
	put_made("locked", &a, NULL, true, "open sesame");
	LOADS(.cert = { locked }); /* nor is it forgotten */
	locked = put_made("locked2", &a, NULL, true, "open sesame");
	REFUSED(locked, "not asked for while running", .cert = { locked });
	return 0;
}

static int
with_terminal_wrong(void)
{
	const char *locked = put_made("locked", &a, NULL, true, "another");

	REFUSED(locked, "wrong passphrase", .cert = { locked });
	REFUSED(locked, "wrong passphrase", .cert = { locked }); /* asked anew */
	return 0;
}

CASE(a_terminal_is_asked_once_for_a_file)
{
	CHECK_INT(apart(with_terminal, "open sesame\n"), 0);
	CHECK_INT(apart(with_terminal_wrong, "open sesame\n"), 0);
}

CASE(a_passphrase_comes_from_a_variable_a_file_or_a_descriptor)
{
	const char *locked = put_made("locked", &a, NULL, true, "open sesame"),
		   *old = put_traditional("locked-old", &a, "open sesame");
	const char *pass = put_file("pass", "open sesame\nsecond line\n");
	char file[160], fd_spec[32];
	int fd[2];

	setenv("CCF_TEST_PASS", "open sesame", 1);
	LOADS(.cert = { locked }, .passphrase = "env:CCF_TEST_PASS");
	CHECK(!getenv("CCF_TEST_PASS"));
	LOADS(.cert = { old }, .passphrase = "env:CCF_TEST_PASS"); /* kept */
	setenv("CCF_TEST_EARLY", "open sesame", 1); /* taken though nobody needs it yet */
	DEFERRED(in_dir("none"), .cert = { in_dir("none") }, .passphrase = "env:CCF_TEST_EARLY");
	CHECK(!getenv("CCF_TEST_EARLY"));
	LOADS(.cert = { locked }, .passphrase = "env:CCF_TEST_EARLY");
	REFUSED("the passphrase from env:CCF_NOT_SET", "not set", .cert = { locked },
	    .passphrase = "env:CCF_NOT_SET");

	snprintf(file, sizeof(file), "file:%s", pass);
	LOADS(.cert = { locked }, .passphrase = file);
	put_file("pass", "wrong\n");
	REFUSED(locked, "wrong passphrase", .cert = { locked }, .passphrase = file);
	REFUSED(old, "wrong passphrase", .cert = { old }, .passphrase = file);
	put_file("pass", "\n");
	REFUSED("the passphrase from file:", "empty", .cert = { locked }, .passphrase = file);
	REFUSED("the passphrase from file:", "No such file", .cert = { locked },
	    .passphrase = "file:/nonexistent");
	REFUSED("the passphrase from file:", "not a regular file", .cert = { locked },
	    .passphrase = "file:/dev/null");

	CHECK(pipe(fd) == 0);
	CHECK(write(fd[1], "open sesame\nmore", 16) == 16);
	snprintf(fd_spec, sizeof(fd_spec), "fd:%d", fd[0]);
	LOADS(.cert = { locked }, .passphrase = fd_spec); /* though the pipe has not ended */
	CHECK(fcntl(fd[0], F_GETFD) == -1);
	LOADS(.cert = { locked }, .passphrase = fd_spec);
	close(fd[1]);
	REFUSED("the passphrase from fd:", "Bad file descriptor", .cert = { locked },
	    .passphrase = "fd:999");
	REFUSED("the passphrase from fd:", "Bad file descriptor", .cert = { locked },
	    .passphrase = "fd:");
	REFUSED("--passphrase is not the passphrase", "env:NAME", .cert = { locked },
	    .passphrase = "open sesame");
	CHECK(!strstr(msg, "sesame"));
}

/* How often a certificate begins in the CAs. */
static int
count_cas(const struct material *m)
{
	size_t len;
	const char *p = material_ca(m, &len), *end = p ? p + len : NULL;
	int n = 0;

	while (p && (p = memmem(p, (size_t)(end - p), "-----BEGIN", 10)))
		p++, n++;
	return n;
}

static int
load_cas(struct given g)
{
	struct material *m;
	int n = load(&m, g);

	if (n < 0)
		return n;
	n = count_cas(m);
	material_free(m);
	return n;
}

CASE(cas_come_from_a_file_or_a_directory_each_once)
{
	const char *cas, *broken;

	put_made("cas", &ca, &a, true, NULL); /* a key beside them is left behind */
	CHECK_INT(load_cas((struct given){ .ca = in_dir("cas") }), 2);
	cas = in_dir("ca.d");
	CHECK(mkdir(cas, 0700) == 0);
	REFUSED(cas, "does not hold a certificate", .ca = cas);
	put_file("ca.d/README", "not one\n");
	put_file("ca.d/empty", "");
	CHECK(mkfifo(in_dir("ca.d/fifo"), 0600) == 0 && mkdir(in_dir("ca.d/dir"), 0700) == 0);
	CHECK(symlink("nowhere", in_dir("ca.d/link")) == 0);
	REFUSED(cas, "does not hold a certificate", .ca = cas);
	put_made("ca.d/one", &ca, NULL, false, NULL);
	put_made("ca.d/two", &ca, &b, false, NULL);
	CHECK(symlink("two", in_dir("ca.d/three")) == 0);
	CHECK_INT(load_cas((struct given){ .ca = cas }), 2);
	broken = put_file("ca.d/broken", "-----BEGIN CERTIFICATE-----\nMIIB");
	UNFINISHED(broken, "cut off", .ca = cas);

	/* the system's are taken as they are */
	setenv("SSL_CERT_FILE", "/nonexistent", 1);
	setenv("SSL_CERT_DIR", cas, 1);
	CHECK_INT(load_cas((struct given){ .ca_system = true }), 2);
	CHECK_INT(load_cas((struct given){ .ca = in_dir("cas"), .ca_system = true }), 3);
	CHECK_INT(load_cas((struct given){ .ca = in_dir("ca.d/two"), .ca_system = true }), 2);
	setenv("SSL_CERT_FILE", in_dir("cas"), 1);
	setenv("SSL_CERT_DIR", "/nonexistent:/none", 1);
	CHECK_INT(load_cas((struct given){ .ca_system = true }), 2);
	setenv("SSL_CERT_FILE", "/nonexistent", 1);
	REFUSED("the system has no CA certificates", "--ca", .ca_system = true);
	unsetenv("SSL_CERT_FILE");
	unsetenv("SSL_CERT_DIR");
}

static bool
same(const struct material *x, const struct material *y)
{
	const struct material_cert *c, *d;
	const struct ticket_key *k, *l;
	size_t n = material_certs(x, &c), len, len2;
	const char *p = material_ca(x, &len), *q = material_ca(y, &len2);
	bool is =
	    n == material_certs(y, &d) && len == len2 && !p == !q && (!p || !memcmp(p, q, len));

	for (size_t i = 0; is && i < n; i++)
		is = !strcmp(c[i].name, d[i].name) && !strcmp(c[i].file, d[i].file) &&
		     c[i].pem_len == d[i].pem_len && !memcmp(c[i].pem, d[i].pem, c[i].pem_len) &&
		     c[i].key_len == d[i].key_len && !memcmp(c[i].key, d[i].key, c[i].key_len);
	n = material_tickets(x, &k);
	return is && n == material_tickets(y, &l) && !memcmp(k, l, n * sizeof(*k)) &&
	       material_not_after(x) == material_not_after(y);
}

CASE(what_is_sealed_opens_as_the_same_and_cannot_be_changed)
{
	struct material *m, *copy = NULL;
	char named[160], byte;
	int fd = -1, half;
	struct stat st;

	snprintf(named, sizeof(named), "x.org:%s", put_made("a", &a, &ca, true, NULL));
	CHECK_INT(load(&m, (struct given){ .cert = { named, put_made("r", &rsa, NULL, true, NULL) },
			       .ca = put_made("cas", &ca, &b, false, NULL) }),
	    0);
	CHECK_INT(material_rotate(m, NULL), 0);
	CHECK_INT(material_rotate(m, m), 0);
	CHECK_INT(material_seal(m, &fd), 0);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(
	    pwrite(fd, "x", 1, 0) == -1 && ftruncate(fd, 10) == -1 && ftruncate(fd, 1 << 20) == -1);
	CHECK_INT(material_open(&copy, fd), 0);
	CHECK(same(m, copy));
	material_free(copy);
	CHECK_INT(material_open(&copy, fd), 0); /* as often as there are workers */
	material_free(copy);

	/* a part of it is nothing, nor is more */
	fstat(fd, &st);
	half = memfd_create("half", 0);
	for (off_t i = 0; i < st.st_size; i++) {
		CHECK(pread(fd, &byte, 1, i) == 1 && pwrite(half, &byte, 1, i) == 1);
		copy = m;
		if (i % 97 == 0 || i == st.st_size - 2)
			CHECK_INT(material_open(&copy, half), -EBADMSG);
		CHECK(copy == m);
	}
	CHECK_INT(material_open(&copy, half), 0);
	material_free(copy);
	CHECK(pwrite(half, "x", 1, st.st_size) == 1);
	CHECK_INT(material_open(&copy, half), -EBADMSG);
	close(half);
	CHECK_INT(material_open(&copy, -1), -EBADF);
	close(fd);
	material_free(m);
}

CASE(keys_of_tickets_move_down_and_go)
{
	const struct ticket_key *k;
	struct ticket_key first[4];
	struct material *m, *next;

	CHECK_INT(load(&m, (struct given){ .cert = { 0 } }), 0);
	CHECK_INT(material_tickets(m, &k), 0);
	for (int i = 0; i < 4; i++) {
		CHECK_INT(material_rotate(m, i ? m : NULL), 0);
		CHECK_INT(material_tickets(m, &k), i < 3 ? i + 1 : 3);
		first[i] = k[0];
		for (int j = 1; j <= i && j < 3; j++)
			CHECK(!memcmp(&k[j], &first[i - j], sizeof(*k)));
		if (i)
			CHECK(memcmp(k[0].aes, k[1].aes, sizeof(k->aes)) &&
			      memcmp(k[0].name, k[1].name, sizeof(k->name)));
	}
	CHECK_INT(load(&next, (struct given){ .cert = { 0 } }), 0);
	material_keep_tickets(next, m);
	CHECK(same(next, m));
	CHECK_INT(material_rotate(next, NULL), 0);
	CHECK_INT(material_tickets(next, &k), 1);
	material_free(next);
	material_free(m);
}

CASE(the_end_of_a_certificate_is_announced)
{
	enum { DAY = 86400 };
	struct made root = make_cert((struct make){ .ca = true, .to = 2 }),
		    mid = make_cert((struct make){ .ca = true, .to = 100 * DAY, .issuer = &ca }),
		    leaf = make_cert((struct make){ .to = 200 * DAY, .issuer = &mid });
	const char *path = put_made("leaf", &leaf, NULL, true, NULL);
	struct material *m;
	int64_t now = time(NULL);
	char said[256];

	CHECK_INT(load(&m, (struct given){ .cert = { path } }), 0);
	CHECK(llabs(material_not_after(m) - now - 200 * DAY) < 10);
	CHECK_INT(material_warning(m, now + 100, said, sizeof(said)), 0);
	CHECK_INT(material_warning(m, now + 185 * DAY, said, sizeof(said)), 0);
	CHECK_INT(material_warning(m, now + 187 * DAY, said, sizeof(said)), 1);
	CHECK(!strncmp(said, path, strlen(path)) &&
	      strstr(said, ": the certificate expires on 20") && strstr(said, " UTC"));
	CHECK_INT(material_warning(m, now + 201 * DAY, said, sizeof(said)), 2);
	CHECK(strstr(said, "the certificate expired on 20"));
	CHECK_INT(material_warning(m, now - 100, said, sizeof(said)), 1);
	CHECK(strstr(said, "is not valid before 20"));
	material_free(m);

	/* of its chain too, but not of a root in it, whose dates nobody looks at */
	CHECK_INT(
	    load(&m, (struct given){ .cert = { put_made("leaf", &leaf, &mid, true, NULL) } }), 0);
	CHECK_INT(material_warning(m, now + 101 * DAY, said, sizeof(said)), 2);
	CHECK(strstr(said, "a certificate of its chain expired"));
	CHECK(llabs(material_not_after(m) - now - 200 * DAY) < 10);
	material_free(m);
	CHECK_INT(
	    load(&m, (struct given){ .cert = { put_made("leaf", &leaf, &root, true, NULL) } }), 0);
	CHECK_INT(material_warning(m, now + DAY, said, sizeof(said)), 0);
	material_free(m);
	CHECK_INT(load(&m, (struct given){ .cert = { 0 } }), 0);
	CHECK_INT(material_warning(m, now, said, sizeof(said)), 0);
	CHECK_INT(material_not_after(m), 0);
	material_free(m);
	made_end(&leaf);
	made_end(&mid);
	made_end(&root);
}

int
main(void)
{
	int r;

	dir_make();
	ca = make_cert((struct make){ .cn = "the ca", .ca = true });
	a = make_cert((struct make){ .cn = "a", .issuer = &ca });
	b = make_cert((struct make){ .cn = "b" });
	rsa = make_rsa("rsa");
	r = check_main((struct check_case[]){
	    RUN(a_spec_is_a_file_or_a_name_and_a_file),
	    RUN(a_terminal_is_asked_once_for_a_file), /* first: who has served is not asked any more
						       */
	    RUN(without_a_terminal_nobody_is_asked),
	    RUN(a_pair_loads_from_two_files_and_from_one),
	    RUN(keys_find_their_certificates_in_any_order),
	    RUN(two_certificates_of_a_kind_for_a_name_are_one_too_many),
	    RUN(a_file_that_is_not_there_is_named_and_nothing_else_is_deferred),
	    RUN(a_file_that_may_not_be_read_is_unusable),
	    RUN(nobody_waits_for_a_fifo_and_nothing_endless_is_read),
	    RUN(a_file_with_something_else_in_it_says_what_is_missing),
	    RUN(a_broken_certificate_further_down_the_chain_is_not_overlooked),
	    RUN(a_file_cut_off_anywhere_is_refused),
	    RUN(a_passphrase_comes_from_a_variable_a_file_or_a_descriptor),
	    RUN(cas_come_from_a_file_or_a_directory_each_once),
	    RUN(what_is_sealed_opens_as_the_same_and_cannot_be_changed),
	    RUN(keys_of_tickets_move_down_and_go),
	    RUN(the_end_of_a_certificate_is_announced),
	    { 0 },
	});
	made_end(&ca);
	made_end(&a);
	made_end(&b);
	made_end(&rsa);
	dir_end();
	return r;
}
