/* access: the lines go through a pipe, or a file; what is logged about them into a memfd. */
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "flow/access.h"
#include "flow/tell.h"
#include "session/http1.h"

#define T(s)                                                                                       \
	{                                                                                          \
		(s), sizeof(s) - 1                                                                 \
	}
#define DATE "\\[[0-9]{2}/[A-Z][a-z]{2}/20[0-9]{2}:[0-9]{2}:[0-9]{2}:[0-9]{2} \\+0000\\]"

static char got[64 * 1024];

static const struct tell teller = { .conn = "rpc#7", .iface = "rpc", .peer = "127.0.0.1:50312" };

/* What access_line writes of r. */
static const char *
line_of(const struct tell *t, const struct http1_record *r, bool json)
{
	struct access a = { .fd = -1, .json = json };
	int fds[2];
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		abort();
	access_use(&a, fds[1]);
	access_line(&a, t, r);
	access_close(&a);
	n = read(fds[0], got, sizeof(got) - 1);
	close(fds[0]);
	got[n > 0 ? n : 0] = '\0';
	return got;
}

static bool
matches(const char *line, const char *pattern)
{
	regex_t re;
	int rc;

	if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
		abort();
	rc = regexec(&re, line, 0, NULL, 0);
	regfree(&re);
	if (rc != 0)
		printf("# it is: %s", line);
	return rc == 0;
}

static const struct http1_field fields[] = {
	{ T("Host"), T("localhost") },
	{ T("user-agent"), T("curl/7.88.1") },
	{ T("REFERER"), T("https://localhost/a") },
};
static const struct http1_head get = {
	.method = T("GET"), .target = T("/x?y=1"), .minor = 1, .field = fields, .n_fields = 3
};
static const struct http1_record good = {
	.head = &get, .status = 200, .in = 3, .out = 1234, .us = 2001234
};

CASE(a_request_is_one_line_of_the_combined_format_and_then_id_and_seconds)
{
	CHECK(matches(line_of(&teller, &good, false),
	    "^127\\.0\\.0\\.1 - - " DATE " \"GET /x\\?y=1 HTTP/1\\.1\" 200 1234 "
	    "\"https://localhost/a\" \"curl/7\\.88\\.1\" rpc#7 2\\.001234\n$"));
}

CASE(a_request_is_one_json_object)
{
	CHECK(matches(line_of(&teller, &good, true),
	    "^\\{\"ts\":\"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{3}Z\",\"conn\":\"rpc#7\","
	    "\"iface\":\"rpc\",\"peer\":\"127\\.0\\.0\\.1:50312\",\"method\":\"GET\","
	    "\"target\":\"/x\\?y=1\",\"protocol\":\"HTTP/1\\.1\",\"status\":200,\"in\":3,"
	    "\"out\":1234,\"seconds\":2\\.001234,\"cut\":false,"
	    "\"referer\":\"https://localhost/a\",\"agent\":\"curl/7\\.88\\.1\"\\}\n$"));
}

CASE(one_that_had_no_valid_head_is_a_dash)
{
	struct http1_record r = { .status = 400, .out = 80, .us = 12, .cut = true };

	CHECK(matches(
	    line_of(&teller, &r, false), "\\] \"-\" 400 80 \"-\" \"-\" rpc#7 0\\.000012\n$"));
	CHECK(matches(line_of(&teller, &r, true),
	    "\"peer\":\"127\\.0\\.0\\.1:50312\",\"status\":400,\"in\":0,\"out\":80,"
	    "\"seconds\":0\\.000012,\"cut\":true\\}\n$"));
}

CASE(one_without_an_answer_has_status_000)
{
	struct http1_record r = { .head = &get, .cut = true };

	CHECK(matches(line_of(&teller, &r, false), "\" 000 0 \""));
}

CASE(who_came_by_v6_or_by_a_unix_socket)
{
	struct tell v6 = { .conn = "a#1", .peer = "[2001:db8::1]:443" }, local = { 0 };

	CHECK(matches(line_of(&v6, &good, false), "^2001:db8::1 - - \\["));
	CHECK(matches(line_of(&local, &good, false), "^- - - \\[.* - 2\\.001234\n$"));
}

CASE(every_byte_of_the_peer_is_escaped)
{
	static const struct http1_field sly[] = {
		{ T("User-Agent"), T("a\"b\\c\td\x1b[2J\x7f\xc3\xa4\xff\n\0z") },
	};
	static const struct http1_head head = {
		.method = T("G\"T"), .target = T("/\xe2\x82\xac\""), .field = sly, .n_fields = 1
	};
	struct http1_record r = { .head = &head, .status = 200 };

	CHECK(matches(line_of(&teller, &r, false),
	    "\"G\\\\\"T /\\\\xe2\\\\x82\\\\xac\\\\\" HTTP/1\\.0\" 200 0 \"-\" "
	    "\"a\\\\\"b\\\\\\\\c\\\\x09d\\\\x1b\\["
	    "2J\\\\x7f\\\\xc3\\\\xa4\\\\xff\\\\x0a\\\\x00z\" "));
	CHECK(matches(line_of(&teller, &r, true),
	    "\"method\":\"G\\\\\"T\",\"target\":\"/"
	    "\xe2\x82\xac\\\\\"\".*\"agent\":\"a\\\\\"b\\\\\\\\c"
	    "\\\\td\\\\u001b\\[2J\\\\u007f\xc3\xa4\\\\\\\\377\\\\n\\\\u0000z\"\\}\n$"));
}

/* Of what takes most bytes escaped. */
CASE(a_line_has_at_most_8_kib_and_is_still_whole)
{
	static char long_value[16000];
	struct http1_field huge[] = {
		{ T("User-Agent"), { long_value, sizeof(long_value) } },
		{ T("Referer"), { long_value, sizeof(long_value) } },
	};
	struct http1_head head = { .method = { long_value, 1000 },
		.target = { long_value, sizeof(long_value) },
		.minor = 1,
		.field = huge,
		.n_fields = 2 };
	struct http1_record r = { .head = &head, .status = 200 };
	struct tell t = { 0 };

	memset(t.conn, 1, sizeof(t.conn) - 1);
	memset(t.iface, 1, sizeof(t.iface) - 1);
	memset(t.peer, 1, sizeof(t.peer) - 1);
	for (int i = 0; i < 3; i++) {
		memset(long_value,
		    "\001\xff"
		    "a"[i],
		    sizeof(long_value));
		CHECK(
		    matches(line_of(&t, &r, false), "\\.\\.\\. HTTP/1\\.1\" 200 .*0\\.000000\n$"));
		CHECK(strlen(got) <= 8192);
		CHECK(matches(line_of(&t, &r, true), "^\\{.*\\.\\.\\.\"\\}\n$"));
		CHECK(strlen(got) <= 8192);
		CHECK(strlen(got) > 4000);
	}
}

/* ---- the file ---- */

CASE(a_file_is_appended_to_and_made_for_owner_and_group)
{
	char dir[] = "/tmp/ccf-unit-access.XXXXXX", path[64];
	struct access a = { .fd = -1 };
	struct stat st;
	mode_t mask = umask(0);
	int fd;

	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/log", dir);
	for (int i = 0; i < 2; i++) {
		fd = access_file(path);
		CHECK(fd >= 0);
		CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		CHECK(fcntl(fd, F_GETFL) & O_APPEND);
		access_use(&a, fd);
		access_line(&a, &teller, &good);
	}
	umask(mask);
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(st.st_mode & 07777, 0640);
	CHECK_INT((size_t)st.st_size, 2 * strlen(line_of(&teller, &good, false)));
	access_close(&a);
	CHECK_INT(a.fd, -1);
	access_line(&a, &teller, &good); /* nowhere */
	unlink(path);
	rmdir(dir);
	CHECK_INT(access_file(path), -ENOENT);
	CHECK_INT(access_file("/"), -EISDIR);
}

CASE(a_dash_is_a_copy_of_standard_error)
{
	struct stat x, y;
	int fd = access_file("-");

	CHECK(fd > 2);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(fstat(fd, &x) == 0 && fstat(2, &y) == 0 && x.st_ino == y.st_ino);
	close(fd);
}

CASE(a_fifo_that_nobody_reads_holds_nobody_up)
{
	char dir[] = "/tmp/ccf-unit-access.XXXXXX", path[64];

	if (!mkdtemp(dir))
		abort();
	snprintf(path, sizeof(path), "%s/fifo", dir);
	CHECK_INT(mkfifo(path, 0600), 0);
	CHECK_INT(access_file(path), -ENXIO);
	unlink(path);
	rmdir(dir);
}

CASE(a_write_that_fails_is_said_once_and_again_when_it_works)
{
	struct access a = { .fd = -1 };
	int memory = memfd_create("log", MFD_CLOEXEC), own = dup(2);
	char *works;
	ssize_t n;

	fflush(stdout);
	dup2(memory, 2);
	log_open("ccf-tlsterm", false);
	access_use(&a, access_file("/dev/full"));
	for (int i = 0; i < 3; i++)
		access_line(&a, &teller, &good);
	CHECK_INT(a.lost, 3);
	access_use(&a, access_file("/dev/null"));
	for (int i = 0; i < 3; i++)
		access_line(&a, &teller, &good);
	CHECK_INT(a.lost, 0);
	access_close(&a);
	dup2(own, 2);
	close(own);
	n = pread(memory, got, sizeof(got) - 1, 0);
	close(memory);
	got[n > 0 ? n : 0] = '\0';
	works = strchr(got, '\n');
	CHECK(matches(
	    got, "^ccf-tlsterm: error: --access-log: cannot write: No space left on device"));
	CHECK(works &&
	      matches(works + 1, "^ccf-tlsterm: warn: [^\n]* works again; 3 lines were lost\n$"));
}

CASE(a_line_that_is_there_in_part_does_not_swallow_the_next)
{
	struct access a = { .fd = -1 };
	struct rlimit was, few;
	int memory = memfd_create("log", MFD_CLOEXEC), own = dup(2), file;
	const char *next;
	ssize_t n;

	fflush(stdout);
	file = memfd_create("access", MFD_CLOEXEC);
	getrlimit(RLIMIT_FSIZE, &was);
	few = (struct rlimit){ .rlim_cur = 40, .rlim_max = was.rlim_max };
	dup2(memory, 2);
	access_use(&a, dup(file));
	setrlimit(RLIMIT_FSIZE, &few); /* nor does a full one kill us */
	for (int i = 0; i < 3; i++)
		access_line(&a, &teller, &good);
	setrlimit(RLIMIT_FSIZE, &was);
	CHECK_INT(a.lost, 3);
	for (int i = 0; i < 2; i++)
		access_line(&a, &teller, &good);
	access_close(&a);
	dup2(own, 2);
	close(own);
	close(memory);
	n = pread(file, got, sizeof(got) - 1, 0);
	close(file);
	got[n > 0 ? n : 0] = '\0';
	next = strchr(got, '\n');
	CHECK_INT(next ? next - got : -1, 40);
	CHECK(next && matches(next + 1, "^127.0.0.1 - - [^\n]*\n127.0.0.1 - - [^\n]*\n$"));
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_request_is_one_line_of_the_combined_format_and_then_id_and_seconds),
	    RUN(a_request_is_one_json_object),
	    RUN(one_that_had_no_valid_head_is_a_dash),
	    RUN(one_without_an_answer_has_status_000),
	    RUN(who_came_by_v6_or_by_a_unix_socket),
	    RUN(every_byte_of_the_peer_is_escaped),
	    RUN(a_line_has_at_most_8_kib_and_is_still_whole),
	    RUN(a_file_is_appended_to_and_made_for_owner_and_group),
	    RUN(a_dash_is_a_copy_of_standard_error),
	    RUN(a_fifo_that_nobody_reads_holds_nobody_up),
	    RUN(a_write_that_fails_is_said_once_and_again_when_it_works),
	    RUN(a_line_that_is_there_in_part_does_not_swallow_the_next),
	    { 0 },
	});
}
