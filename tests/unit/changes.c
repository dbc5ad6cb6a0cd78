#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/changes.h"
#include "check.h"

static char dir[] = "/tmp/ccf-unit-changes.XXXXXX";
static struct changes c;
static int64_t now;

static const char *
in_dir(const char *name)
{
	static char path[4][128];
	static unsigned turn;
	char *to = path[turn++ % 4];

	snprintf(to, sizeof(path[0]), "%s/%s", dir, name);
	return to;
}

/* Its mtime is set, so that nothing hangs on how coarse the kernel's clock is. */
static const char *
put(const char *name, const char *text, long ns)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = 1000000, .tv_nsec = ns } };
	const char *path = in_dir(name);
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f) || utimensat(AT_FDCWD, path, times, 0))
		abort();
	return path;
}

static bool
look_after(int64_t ms)
{
	now += ms;
	return changes_look(&c, now);
}

/* Whatever happened is seen, but not before it has held still, and once. */
static void
seen_once(int line)
{
	bool at_once = look_after(1000), still = look_after(CHANGES_STILL_MS - 1),
	     then = look_after(1), again = look_after(5000);

	if (at_once || still || !then || again) {
		printf("# line %d: at once %d, before its time %d, then %d, again %d\n", line,
		    at_once, still, then, again);
		check_failed++;
	}
	changes_loaded(&c);
	CHECK(!look_after(5000));
}
#define SEEN_ONCE() seen_once(__LINE__)

static void
begin(const char *path)
{
	changes_free(&c);
	CHECK_INT(changes_add(&c, path), 0);
	changes_loaded(&c);
	CHECK(!look_after(1000));
	CHECK(!look_after(5000));
}

CASE(nothing_changes_at_the_start)
{
	changes_free(&c);
	CHECK(!look_after(1000));
	CHECK(!look_after(5000));
	begin(put("a", "a", 0));
	changes_free(&c);
	CHECK_INT(changes_add(&c, in_dir("a")), 0);
	CHECK_INT(changes_add(&c, in_dir("not there")), 0);
	CHECK(!look_after(1000)); /* though nobody said loaded */
	CHECK(!look_after(5000));
}

CASE(a_rewrite_in_place_counts_by_size_and_by_nanoseconds)
{
	begin(put("a", "a", 0));
	put("a", "ab", 0);
	SEEN_ONCE();
	put("a", "cd", 1);
	SEEN_ONCE();
}

CASE(a_rename_and_a_symlink_swapped_above_count)
{
	begin(put("a", "a", 0));
	put("b", "b", 0);
	CHECK(rename(in_dir("b"), in_dir("a")) == 0);
	SEEN_ONCE();

	CHECK(mkdir(in_dir("one"), 0700) == 0 && mkdir(in_dir("two"), 0700) == 0);
	put("one/f", "x", 0);
	put("two/f", "x", 0);
	CHECK(symlink("one", in_dir("now")) == 0);
	begin(in_dir("now/f"));
	CHECK(symlink("two", in_dir("next")) == 0);
	CHECK(rename(in_dir("next"), in_dir("now")) == 0);
	SEEN_ONCE();
}

CASE(a_file_may_go_and_come)
{
	begin(put("a", "a", 0));
	CHECK(unlink(in_dir("a")) == 0);
	SEEN_ONCE();
	put("a", "a", 0);
	SEEN_ONCE();
}

CASE(what_keeps_changing_is_waited_for)
{
	begin(put("a", "a", 0));
	for (int i = 1; i < 5; i++) {
		put("a", "a", i);
		CHECK(!look_after(999));
	}
	CHECK(!look_after(999));
	CHECK(look_after(1));
}

CASE(what_goes_back_to_what_it_was_is_no_change)
{
	begin(put("a", "a", 0));
	put("a", "ab", 0);
	CHECK(!look_after(1000));
	put("a", "a", 0);
	CHECK(!look_after(1000));
	CHECK(!look_after(5000));
}

CASE(what_was_loaded_meanwhile_is_no_change)
{
	begin(put("a", "a", 0));
	put("a", "ab", 0);
	CHECK(!look_after(1000));
	changes_loaded(&c);
	CHECK(!look_after(5000));
}

CASE(a_directory_stands_for_what_is_in_it)
{
	CHECK(mkdir(in_dir("ca"), 0700) == 0);
	put("ca/a", "a", 0);
	begin(in_dir("ca"));
	put("ca/a", "ab", 0);
	SEEN_ONCE();
	put("ca/b", "b", 0);
	SEEN_ONCE();
	CHECK(rename(in_dir("ca/b"), in_dir("ca/c")) == 0);
	SEEN_ONCE();
	CHECK(unlink(in_dir("ca/c")) == 0);
	SEEN_ONCE();
	CHECK(symlink("../a", in_dir("ca/link")) == 0);
	put("a", "a", 0);
	SEEN_ONCE();
	put("a", "a", 7);
	SEEN_ONCE();
}

CASE(a_pair_counts_once)
{
	begin(put("a", "a", 0));
	CHECK_INT(changes_add(&c, put("b", "b", 0)), 0);
	changes_loaded(&c);
	put("a", "aa", 0);
	CHECK(!look_after(500));
	put("b", "bb", 0);
	SEEN_ONCE();
	for (int i = 0; i < 20; i++)
		CHECK_INT(changes_add(&c, in_dir("b")), 0);
	changes_loaded(&c);
	put("b", "bbb", 0);
	SEEN_ONCE();
}

CASE(who_may_read_it_counts)
{
	CHECK_INT(chmod(put("a", "aaa", 0), 0600), 0);
	changes_loaded(&c);
	CHECK_INT(chmod(in_dir("a"), 0640), 0);
	SEEN_ONCE();
}

int
main(void)
{
	char command[160];
	int r;

	if (!mkdtemp(dir))
		return 1;
	r = check_main((struct check_case[]){
	    RUN(nothing_changes_at_the_start),
	    RUN(a_rewrite_in_place_counts_by_size_and_by_nanoseconds),
	    RUN(a_rename_and_a_symlink_swapped_above_count),
	    RUN(a_file_may_go_and_come),
	    RUN(what_keeps_changing_is_waited_for),
	    RUN(what_goes_back_to_what_it_was_is_no_change),
	    RUN(what_was_loaded_meanwhile_is_no_change),
	    RUN(a_directory_stands_for_what_is_in_it),
	    RUN(a_pair_counts_once),
	    RUN(who_may_read_it_counts),
	    { 0 },
	});
	changes_free(&c);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) != 0 || r;
}
