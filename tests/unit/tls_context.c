#include <stdarg.h>
#include <sys/stat.h>

#include "tls_peer.h"

static char dir[] = "/tmp/ccf-unit-context.XXXXXX";

static const char *
in_dir(const char *name)
{
	static char path[4][128];
	static unsigned turn;
	char *to = path[turn++ % 4];

	snprintf(to, sizeof(path[0]), "%s/%s", dir, name);
	return to;
}

static const char *
put_file(const char *name, const char *text)
{
	const char *path = in_dir(name);
	FILE *f = fopen(path, "w");

	if (f) {
		fputs(text, f);
		fclose(f);
	}
	return path;
}

static const char *
join_files(const char *name, const char *a, const char *b)
{
	const char *const from[] = { a, b };
	static char text[16384];
	size_t n = 0;

	for (int i = 0; i < 2; i++) {
		FILE *f = fopen(from[i], "r");

		if (f) {
			n += fread(text + n, 1, sizeof(text) - 1 - n, f);
			fclose(f);
		}
	}
	text[n] = '\0';
	return put_file(name, text);
}

static bool
shell(const char *fmt, ...)
{
	char command[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command) == 0;
}

static char msg[256];

static int
try(const char *cert, const char *key)
{
	struct tls_config config = { .cert = cert, .key = key };
	struct tls_context *c = (struct tls_context *)&config;
	int r;

	msg[0] = '\0';
	r = tls_context_new(&c, &config, msg, sizeof(msg));
	if (r < 0)
		CHECK(c == (struct tls_context *)&config); /* untouched */
	else
		tls_context_free(c);
	CHECK(ERR_peek_error() == 0);
	return r;
}

static void
refused(int line, const char *cert, const char *key, const char *file, const char *words)
{
	int r = try(cert, key);

	if (r != -EKEYREJECTED || strncmp(msg, file, strlen(file)) || !strstr(msg, words)) {
		printf("# %s:%d: %d, \"%s\", not \"%s: ...%s...\"\n", __FILE__, line, r, msg, file,
		    words);
		check_failed++;
	}
}
#define REFUSED(cert, key, file, words) refused(__LINE__, cert, key, file, words)

CASE(a_good_pair_loads_from_two_files_and_from_one)
{
	const char *both = join_files("both.pem", certs("chain.pem"), certs("key.pem"));

	CHECK_INT(try(certs("chain.pem"), certs("key.pem")), 0);
	CHECK_INT(try(both, both), 0);
	CHECK_INT(try(both, NULL), 0);
}

CASE(a_file_that_is_not_there_is_named_and_nothing_else_is_deferred)
{
	const char *none = in_dir("none.pem");
	char said[512];

	snprintf(said, sizeof(said), "%s is not there", none);
	CHECK_INT(try(none, certs("key.pem")), -ENOENT);
	CHECK_STR(msg, said);
	CHECK_INT(try(certs("chain.pem"), none), -ENOENT);
	CHECK_STR(msg, said);
	put_file("plain", "");
	REFUSED(in_dir("plain/x"), certs("key.pem"), in_dir("plain/x"), "Not a directory");
	REFUSED(dir, certs("key.pem"), dir, "Is a directory");
	REFUSED(certs("chain.pem"), dir, dir, "Is a directory");
}

CASE(a_file_that_may_not_be_read_is_unusable)
{
	const char *path = join_files("secret.pem", certs("key.pem"), "/dev/null");

	if (geteuid() == 0)
		SKIP("root reads everything");
	chmod(path, 0);
	REFUSED(certs("chain.pem"), path, path, "Permission denied");
}

CASE(a_file_with_something_else_in_it_says_what_is_missing)
{
	const char *empty = put_file("empty", ""), *junk = put_file("junk", "hello\n");
	const char *broken =
	    put_file("broken", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");

	REFUSED(empty, certs("key.pem"), empty, "does not hold a certificate");
	REFUSED(junk, certs("key.pem"), junk, "does not hold a certificate");
	REFUSED(
	    certs("key.pem"), certs("key.pem"), certs("key.pem"), "does not hold a certificate");
	REFUSED(broken, certs("key.pem"), broken, "certificate is unusable");
	REFUSED(certs("chain.pem"), empty, empty, "does not hold a private key");
	REFUSED(certs("chain.pem"), junk, junk, "does not hold a private key");
	REFUSED(certs("chain.pem"), certs("chain.pem"), certs("chain.pem"),
	    "does not hold a private key");
}

CASE(a_broken_certificate_further_down_the_chain_is_not_overlooked)
{
	const char *broken =
	    put_file("tail", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
	const char *path = join_files("badchain.pem", certs("chain.pem"), broken);

	REFUSED(path, certs("key.pem"), path, "certificate is unusable");
}

CASE(a_key_of_another_certificate_does_not_match)
{
	REFUSED(certs("chain.pem"), certs("client.key"), certs("client.key"),
	    "does not match the certificate in");
	CHECK(shell(
	    "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out %s 2>/dev/null",
	    in_dir("rsa.key")));
	REFUSED(certs("chain.pem"), in_dir("rsa.key"), in_dir("rsa.key"),
	    "does not match the certificate in");
}

CASE(a_passphrase_is_an_error_and_never_a_prompt)
{
	CHECK(shell("openssl pkcs8 -topk8 -in %s -passout pass:x -out %s", certs("key.pem"),
	    in_dir("locked.key")));
	CHECK(shell("openssl ec -aes128 -in %s -passout pass:x -out %s 2>/dev/null",
	    certs("key.pem"), in_dir("locked-old.key")));
	REFUSED(certs("chain.pem"), in_dir("locked.key"), in_dir("locked.key"), "passphrase");
	REFUSED(
	    certs("chain.pem"), in_dir("locked-old.key"), in_dir("locked-old.key"), "passphrase");
}

CASE(a_bad_alpn_name_is_refused)
{
	char longest[257];
	const char *names[] = { "http/1.1", longest };
	struct tls_config config = { certs("chain.pem"), certs("key.pem"), names, 2 };
	struct tls_context *c;

	memset(longest, 'x', 256);
	longest[256] = '\0';
	CHECK_INT(tls_context_new(&c, &config, msg, sizeof(msg)), -EINVAL);
	longest[0] = '\0';
	CHECK_INT(tls_context_new(&c, &config, msg, sizeof(msg)), -EINVAL);
	CHECK(strstr(msg, "ALPN"));
}

CASE(links_outlive_their_context)
{
	const char *const alpn[] = { "http/1.1" };
	struct tls_context *server = server_context(alpn, 1);
	SSL_CTX *client = client_context(TLS1_3_VERSION);
	const unsigned char *got;
	struct pair p;
	unsigned n;

	SSL_CTX_set_alpn_protos(client, (const unsigned char *)"\x08http/1.1", 9);
	pair_tcp(&p, server, client, 0);
	tls_context_free(server);
	CHECK(pair_shake(&p));
	SSL_get0_alpn_selected(p.c, &got, &n);
	CHECK(n == 8 && !memcmp(got, "http/1.1", 8));
	pair_end(&p);
	SSL_CTX_free(client);
}

CASE(the_version_names_the_library)
{
	char buf[64];

	tls_about(buf, sizeof(buf));
	CHECK(!strncmp(buf, "OpenSSL ", 8));
}

int
main(void)
{
	int r;

	if (!mkdtemp(dir))
		return 1;
	r = check_main((struct check_case[]){
	    RUN(a_good_pair_loads_from_two_files_and_from_one),
	    RUN(a_file_that_is_not_there_is_named_and_nothing_else_is_deferred),
	    RUN(a_file_that_may_not_be_read_is_unusable),
	    RUN(a_file_with_something_else_in_it_says_what_is_missing),
	    RUN(a_broken_certificate_further_down_the_chain_is_not_overlooked),
	    RUN(a_key_of_another_certificate_does_not_match),
	    RUN(a_passphrase_is_an_error_and_never_a_prompt),
	    RUN(a_bad_alpn_name_is_refused),
	    RUN(links_outlive_their_context),
	    RUN(the_version_names_the_library),
	    { 0 },
	});
	shell("rm -rf %s", dir);
	certs_done();
	return r;
}
