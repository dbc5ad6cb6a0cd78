/* Ranges of files that are there, and payloads written while they arrive. */
#include "flow/range.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static char dir[] = "/tmp/ccf-range-XXXXXX";

static const char *
in_dir(const char *name)
{
	static char path[4][PATH_MAX];
	static unsigned next;
	char *at = path[next++ % 4];

	snprintf(at, PATH_MAX, "%s/%s", dir, name);
	return at;
}

static void
put_file(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");

	fputs(text, f);
	fclose(f);
}

static bool
there(const char *name)
{
	return access(in_dir(name), F_OK) == 0;
}

static const char *
text_of(const char *name)
{
	static char text[256];
	FILE *f = fopen(in_dir(name), "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	text[n] = '\0';
	if (f)
		fclose(f);
	return f ? text : "(none)";
}

static const char *
range_text(const struct range *r)
{
	static char text[256];
	ssize_t n = pread(r->fd, text, r->len, r->offset);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static unsigned
entries(void)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void
sweep(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while ((e = readdir(d)))
		unlink(in_dir(e->d_name));
	closedir(d);
}

CASE(a_range_lies_within_a_regular_file)
{
	struct range *r = NULL;

	put_file("f", "0123456789");
	CHECK_INT(range_open(&r, in_dir("f"), 2, 3), 0);
	CHECK_INT(r->refs, 1);
	CHECK_STR(range_text(r), "234");
	CHECK(r->path == NULL);
	range_free(r);
	CHECK_INT(range_open(&r, in_dir("f"), 7, -1), 0);
	CHECK_STR(range_text(r), "789");
	range_free(r);
	CHECK_INT(range_open(&r, in_dir("f"), 10, -1), 0);
	CHECK_INT(r->len, 0);
	range_free(r);
	CHECK_INT(range_open(&r, in_dir("f"), 0, 10), 0);
	range_free(r);
	sweep();
}

CASE(what_is_no_range_is_refused_and_nothing_is_returned)
{
	struct range *r = (struct range *)dir;

	put_file("f", "0123456789");
	CHECK_INT(range_open(&r, in_dir("f"), 11, -1), -ERANGE);
	CHECK_INT(range_open(&r, in_dir("f"), 11, 0), -ERANGE);
	CHECK_INT(range_open(&r, in_dir("f"), 0, 11), -ERANGE);
	CHECK_INT(range_open(&r, in_dir("f"), 9, 2), -ERANGE);
	CHECK_INT(range_open(&r, in_dir("f"), 1, INT64_MAX), -ERANGE);
	CHECK_INT(range_open(&r, in_dir("f"), INT64_MAX, INT64_MAX), -ERANGE);
	CHECK_INT(range_open(&r, in_dir("f"), -1, 1), -EINVAL);
	CHECK_INT(range_open(&r, in_dir("f"), 0, -2), -EINVAL);
	CHECK_INT(range_open(&r, in_dir("none"), 0, -1), -ENOENT);
	CHECK_INT(range_open(&r, dir, 0, -1), -EINVAL);
	CHECK_INT(range_open(&r, "/dev/zero", 0, 1), -EINVAL);
	mkfifo(in_dir("fifo"), 0600);
	CHECK_INT(range_open(&r, in_dir("fifo"), 0, -1), -EINVAL); /* and does not wait */
	CHECK(r == (struct range *)dir);
	sweep();
}

CASE(a_file_that_has_shrunk_is_stale_until_it_is_as_long_again)
{
	struct range *r;

	put_file("f", "0123456789");
	CHECK_INT(range_open(&r, in_dir("f"), 2, 6), 0);
	CHECK_INT(range_check(r), 0);
	CHECK_INT(truncate(in_dir("f"), 8), 0);
	CHECK_INT(range_check(r), 0);
	CHECK_INT(truncate(in_dir("f"), 7), 0);
	CHECK_INT(range_check(r), -ESTALE);
	CHECK_INT(truncate(in_dir("f"), 1), 0);
	CHECK_INT(range_check(r), -ESTALE);
	CHECK_INT(truncate(in_dir("f"), 20), 0);
	CHECK_INT(range_check(r), 0);
	unlink(in_dir("f"));
	CHECK_INT(range_check(r), 0); /* it is ours as long as it is open */
	range_free(r);
}

CASE(a_nameless_one_is_seen_by_nobody)
{
	struct range *r;

	CHECK_INT(range_new(&r, dir, NULL), 0);
	CHECK_INT(range_write(r, "hello ", 6), 0);
	CHECK_INT(range_write(r, "there", 5), 0);
	CHECK_INT(entries(), 0);
	CHECK_INT(range_done(r), 0);
	CHECK_INT(r->len, 11);
	CHECK_STR(range_text(r), "hello there");
	CHECK(r->path == NULL);
	CHECK_INT(range_check(r), 0);
	range_free(r);
	CHECK_INT(entries(), 0);
	CHECK_INT(range_new(&r, in_dir("none"), NULL), -ENOENT);
	setenv("TMPDIR", in_dir("none"), 1);
	CHECK_INT(range_new(&r, NULL, NULL), -ENOENT);
	setenv("TMPDIR", "", 1);
	CHECK_INT(range_new(&r, NULL, NULL), 0);
	range_free(r);
	unsetenv("TMPDIR");
	CHECK_INT(range_new(&r, NULL, NULL), 0);
	range_free(r);
}

CASE(a_named_one_is_hidden_until_it_is_done)
{
	struct stat st;
	struct range *r;

	CHECK_INT(range_new(&r, dir, "n1-1"), 0);
	CHECK_INT(range_write(r, "payload", 7), 0);
	CHECK(there(".n1-1") && !there("n1-1"));
	CHECK(r->path == NULL);
	CHECK_INT(range_done(r), 0);
	CHECK(!there(".n1-1"));
	CHECK_STR(r->path, in_dir("n1-1"));
	CHECK_STR(text_of("n1-1"), "payload");
	CHECK_INT(range_done(r), 0);
	CHECK_INT(stat(r->path, &st), 0);
	CHECK_INT(st.st_mode & 0777, 0600);
	CHECK_INT(st.st_nlink, 1);
	CHECK(range_keep(r) == r);
	range_free(r);
	CHECK_STR(range_text(r), "payload");
	range_free(r);
	CHECK_INT(entries(), 1);
	sweep();
}

CASE(one_that_was_not_done_leaves_nothing)
{
	struct range *r;

	CHECK_INT(range_new(&r, dir, "n1-1"), 0);
	CHECK_INT(range_write(r, "payload", 7), 0);
	CHECK_INT(entries(), 1);
	range_free(r);
	CHECK_INT(entries(), 0);
	range_free(NULL);
	CHECK_INT(range_new(&r, in_dir("none"), "n1-1"), -ENOENT);
	CHECK_INT(range_new(&r, dir, "../n1-1"), -EINVAL);
	CHECK_INT(entries(), 0);
}

CASE(no_file_is_ever_replaced)
{
	struct range *r[4];

	put_file("n", "old");
	put_file(".n", "left by one that was killed");
	for (int i = 0; i < 4; i++) {
		CHECK_INT(range_new(&r[i], dir, "n"), 0);
		CHECK_INT(range_write(r[i], &"0123"[i], 1), 0);
	}
	CHECK(there(".n.2") && there(".n.5"));
	for (int i = 0; i < 3; i++)
		CHECK_INT(range_done(r[2 - i]), 0);
	CHECK_STR(text_of("n"), "old");
	CHECK_STR(text_of(".n"), "left by one that was killed");
	CHECK_STR(text_of("n.2"), "2");
	CHECK_STR(text_of("n.3"), "1");
	CHECK_STR(text_of("n.4"), "0");
	CHECK_STR(r[0]->path, in_dir("n.4"));
	unlink(in_dir(".n.5"));
	CHECK_INT(range_done(r[3]), -ENOENT); /* somebody took it away */
	CHECK(r[3]->path == NULL);
	for (int i = 0; i < 4; i++)
		range_free(r[i]);
	CHECK_INT(entries(), 5);
	sweep();
}

/* As many are there as would take minutes one by one. */
CASE(of_many_names_the_next_is_found_fast)
{
	char name[32];
	struct range *r;

	put_file("n", "");
	for (unsigned n = 2; n <= 20000; n++) {
		snprintf(name, sizeof(name), "n.%u", n);
		CHECK_INT(link(in_dir("n"), in_dir(name)), 0);
	}
	for (int i = 1; i <= 200; i++) {
		CHECK_INT(range_new(&r, dir, "n"), 0);
		CHECK_INT(range_done(r), 0);
		snprintf(name, sizeof(name), "n.%d", 20000 + i);
		CHECK_STR(r->path, in_dir(name));
		range_free(r);
	}
	sweep();
}

CASE(a_file_whose_size_is_not_true_is_refused)
{
	struct range *r = NULL;

	CHECK_INT(range_open(&r, "/proc/self/status", 0, -1), -ENODATA);
	CHECK_INT(range_open(&r, "/proc/self/status", 0, 0), -ENODATA);
	CHECK_INT(range_open(&r, "/proc/self/status", 0, 5), -ERANGE);
	if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) == 0)
		CHECK_INT(
		    range_open(&r, "/sys/kernel/mm/transparent_hugepage/enabled", 0, -1), -ENODATA);
	CHECK(!r);
	put_file("empty", "");
	CHECK_INT(range_open(&r, in_dir("empty"), 0, -1), 0);
	CHECK_INT(r->len, 0);
	CHECK(!r->spooled);
	range_free(r);
	CHECK_INT(range_new(&r, dir, NULL), 0);
	CHECK(r->spooled);
	range_free(r);
	CHECK_INT(range_new(&r, dir, "n"), 0);
	CHECK(!r->spooled);
	range_free(r);
	sweep();
}

CASE(a_bound_on_files_is_an_error)
{
	struct rlimit was, low = { 4096, 4096 };
	struct range *r;
	char some[3000] = "";

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &was);
	low.rlim_max = was.rlim_max;
	CHECK_INT(range_new(&r, dir, "n"), 0);
	setrlimit(RLIMIT_FSIZE, &low);
	CHECK_INT(range_write(r, some, sizeof(some)), 0);
	CHECK_INT(range_write(r, some, sizeof(some)), -EFBIG);
	CHECK_INT(r->len, 4096);
	setrlimit(RLIMIT_FSIZE, &was);
	range_free(r);
	CHECK_INT(entries(), 0);
}

CASE(a_full_file_system_is_an_error)
{
	static char some[100 * 1024];
	struct range *r;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", dir, "tmpfs", 0, "size=64k") < 0)
		SKIP("needs a mount namespace of its own");
	CHECK_INT(range_new(&r, dir, "n"), 0);
	CHECK_INT(range_write(r, some, sizeof(some)), -ENOSPC);
	range_free(r);
	CHECK_INT(entries(), 0);
	CHECK_INT(range_new(&r, dir, NULL), 0);
	CHECK_INT(range_write(r, some, sizeof(some)), -ENOSPC);
	range_free(r);
	CHECK_INT(range_new(&r, dir, "n"), 0);
	CHECK_INT(range_write(r, some, 1000), 0);
	CHECK_INT(range_done(r), 0);
	range_free(r);
	umount(dir);
}

int
main(void)
{
	int rc;

	if (!mkdtemp(dir))
		return 1;
	rc = check_main((struct check_case[]){
	    RUN(a_range_lies_within_a_regular_file),
	    RUN(what_is_no_range_is_refused_and_nothing_is_returned),
	    RUN(a_file_that_has_shrunk_is_stale_until_it_is_as_long_again),
	    RUN(a_nameless_one_is_seen_by_nobody),
	    RUN(a_named_one_is_hidden_until_it_is_done),
	    RUN(one_that_was_not_done_leaves_nothing),
	    RUN(no_file_is_ever_replaced),
	    RUN(of_many_names_the_next_is_found_fast),
	    RUN(a_file_whose_size_is_not_true_is_refused),
	    RUN(a_bound_on_files_is_an_error),
	    RUN(a_full_file_system_is_an_error),
	    { 0 },
	});
	sweep();
	rmdir(dir);
	return rc;
}
