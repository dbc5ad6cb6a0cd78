/* What a session says waits here: bounded, in order, whole or not at all. */
#include "session/writer.h"

#include <errno.h>
#include <stdint.h>

#include "base/exit.h"
#include "check.h"
#include "session/session.h"

static char bytes[WRITER_MAX + 1], taken[WRITER_MAX];
static int woken;

static void
wake(struct writer *w)
{
	(void)w;
	woken++;
}

CASE(what_was_put_comes_out_in_order_and_in_any_pieces)
{
	struct writer w = { 0 };
	size_t put = 0, got = 0, n;
	unsigned step = 1;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)(i * 7 + i / 251);
	while (got < 200000) {
		n = step = step * 13 % 8191;
		if (put + n <= 200000) {
			CHECK_INT(writer_put(&w, bytes + put, n), 0);
			put += n;
		} else if (put < 200000) {
			CHECK_INT(writer_put(&w, bytes + put, 200000 - put), 0);
			put = 200000;
		}
		n = writer_take(&w, taken, step * 3 % 6007);
		CHECK(memcmp(taken, bytes + got, n) == 0);
		got += n;
	}
	CHECK_INT(writer_take(&w, taken, sizeof(taken)), 0);
	writer_free(&w);
}

CASE(it_is_full_at_the_high_mark_and_takes_no_more_than_the_bound)
{
	struct writer w = { 0 };

	CHECK_INT(writer_put(&w, bytes, WRITER_HIGH - 1), 0);
	CHECK(!writer_full(&w));
	CHECK_INT(writer_put(&w, bytes, 1), 0);
	CHECK(writer_full(&w));
	CHECK_INT(writer_put(&w, bytes, WRITER_MAX - WRITER_HIGH + 1), -ENOBUFS);
	CHECK_INT(w.len, WRITER_HIGH);
	CHECK_INT(writer_put(&w, bytes, WRITER_MAX - WRITER_HIGH), 0);
	CHECK_INT(writer_put(&w, bytes, 1), -ENOBUFS);
	CHECK_INT(writer_put(&w, bytes, 0), 0);
	CHECK_INT(writer_take(&w, taken, WRITER_MAX - WRITER_HIGH), WRITER_MAX - WRITER_HIGH);
	CHECK(writer_full(&w));
	CHECK_INT(writer_take(&w, taken, 1), 1);
	CHECK(!writer_full(&w));
	writer_free(&w);
	CHECK_INT(writer_put(&w, bytes, sizeof(bytes)), -ENOBUFS);
	CHECK(w.bytes == NULL);
}

CASE(who_found_it_full_is_told_once_when_it_has_room)
{
	struct writer w = { 0 };

	CHECK_INT(writer_put(&w, bytes, WRITER_HIGH - 1), 0);
	CHECK_INT(writer_take(&w, taken, 10), 10);
	CHECK(!writer_drained(&w, SIZE_MAX));
	CHECK_INT(writer_put(&w, bytes, 20), 0);
	CHECK_INT(writer_take(&w, taken, 5), 5);
	CHECK(!writer_drained(&w, SIZE_MAX));
	CHECK_INT(writer_take(&w, taken, 100), 100);
	CHECK(writer_drained(&w, SIZE_MAX));
	CHECK(!writer_drained(&w, SIZE_MAX));

	/* one that was not taken counts, too */
	CHECK_INT(writer_put(&w, bytes, WRITER_MAX - 1), -ENOBUFS);
	CHECK_INT(writer_take(&w, taken, 1), 1);
	CHECK(writer_drained(&w, SIZE_MAX));
	writer_free(&w);
}

CASE(the_mark_is_lower_where_the_budget_is_tight)
{
	struct writer w = { 0 };

	CHECK(!writer_drained(&w, 8192));
	CHECK_INT(writer_put(&w, bytes, 8191), 0);
	CHECK(!writer_full(&w));
	CHECK_INT(writer_put(&w, bytes, 1000), 0);
	CHECK(writer_full(&w));
	/* full under the old mark, and by the new one it is not */
	CHECK_INT(writer_take(&w, taken, 1), 1);
	CHECK(writer_drained(&w, 10000));
	CHECK_INT(writer_put(&w, bytes, 2000), 0);
	CHECK(writer_full(&w));
	CHECK(!writer_drained(&w, 4096));
	CHECK_INT(writer_take(&w, taken, sizeof(taken)), 8191 + 1000 - 1 + 2000);
	CHECK(writer_drained(&w, 4096));
	writer_free(&w);
}

CASE(after_close_nothing_is_taken_and_what_was_put_still_comes_out)
{
	struct writer w = { .woken = wake };

	woken = 0;
	CHECK_INT(writer_put(&w, "12345", 5), 0);
	CHECK_INT(woken, 1);
	writer_close(&w);
	CHECK_INT(woken, 2);
	CHECK_INT(writer_put(&w, "6", 1), -EPIPE);
	CHECK_INT(writer_take(&w, taken, 3), 3);
	CHECK_INT(writer_take(&w, taken + 3, 10), 2);
	CHECK(memcmp(taken, "12345", 5) == 0);
	CHECK(w.closed);
}

CASE(what_was_put_before_it_broke_still_comes_out)
{
	struct writer w = { .woken = wake };

	woken = 0;
	CHECK_INT(writer_put(&w, "123", 3), 0);
	writer_break(&w, ECONNRESET);
	CHECK_INT(woken, 2);
	writer_break(&w, EPIPE);
	CHECK_INT(w.broken, ECONNRESET);
	CHECK(w.closed);
	CHECK_INT(writer_put(&w, "4", 1), -EPIPE);
	CHECK_INT(writer_take(&w, taken, 10), 3);
}

CASE(the_first_reason_holds)
{
	struct writer w = { 0 };

	writer_say_why(&w, "parsing", CCF_PROTOCOL);
	writer_say_why(&w, "idle", 0);
	CHECK_STR(w.reason, "parsing");
	CHECK_INT(w.status, CCF_PROTOCOL);
}

/* Whoever asked writer_full between two takes waits for that. */
CASE(one_that_was_full_under_a_lower_mark_is_told_too)
{
	struct writer w = { 0 };

	CHECK_INT(writer_put(&w, bytes, 5000), 0);
	CHECK(!writer_full(&w));
	CHECK(!writer_drained(&w, 4096));
	CHECK(writer_full(&w));
	CHECK_INT(writer_take(&w, taken, sizeof(taken)), 5000);
	CHECK(writer_drained(&w, 4096));
	CHECK(!writer_drained(&w, 4096));
}

CASE(one_that_is_empty_holds_no_memory)
{
	struct writer w = { 0 };

	CHECK_INT(writer_put(&w, bytes, 100000), 0);
	CHECK(w.bytes != NULL);
	CHECK_INT(writer_take(&w, taken, sizeof(taken)), 100000);
	CHECK(w.bytes == NULL);
	CHECK_INT(w.cap, 0);
}

CASE(an_echo_says_back_what_it_hears_and_closes_when_the_peer_has)
{
	struct writer w = { 0 };
	struct session *s = NULL;

	CHECK_INT(session_echo.open(&s, &w, NULL, NULL), 0);
	CHECK_INT(session_echo.data(s, "one", 3), 3);
	CHECK_INT(session_echo.data(s, "two", 3), 3);
	CHECK_INT(writer_take(&w, taken, sizeof(taken)), 6);
	CHECK(memcmp(taken, "onetwo", 6) == 0);
	CHECK(!w.closed);
	session_echo.end(s);
	CHECK(w.closed);
	session_echo.close(s);
	writer_free(&w);
}

CASE(a_capped_session_says_its_message_at_the_first_bytes_whatever_they_are_and_closes)
{
	struct capped says = { "busy", 4 };
	struct writer w = { 0 };
	struct session *s = NULL;

	CHECK_INT(session_capped.open(&s, &w, NULL, &says), 0);
	CHECK_INT(w.len, 0);
	CHECK_INT(session_capped.data(s, "\0", 1), 1);
	CHECK(w.closed);
	CHECK_STR(w.reason, "capped");
	CHECK_INT(w.status, CCF_UNAVAILABLE);
	CHECK_INT(writer_take(&w, taken, sizeof(taken)), 4);
	CHECK(memcmp(taken, "busy", 4) == 0);
	session_capped.close(s);
}

CASE(a_capped_session_without_one_closes_at_the_first_bytes_or_at_the_end)
{
	struct writer w = { 0 };
	struct session *s = NULL;

	CHECK_INT(session_capped.open(&s, &w, NULL, NULL), 0);
	CHECK(!w.closed);
	CHECK_INT(session_capped.data(s, "hello", 5), 5);
	CHECK(w.closed);
	CHECK_INT(writer_take(&w, taken, sizeof(taken)), 0);
	session_capped.close(s);

	w = (struct writer){ 0 };
	CHECK_INT(session_capped.open(&s, &w, NULL, NULL), 0);
	session_capped.end(s);
	CHECK(w.closed);
	session_capped.close(s);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(what_was_put_comes_out_in_order_and_in_any_pieces),
	    RUN(it_is_full_at_the_high_mark_and_takes_no_more_than_the_bound),
	    RUN(who_found_it_full_is_told_once_when_it_has_room),
	    RUN(the_mark_is_lower_where_the_budget_is_tight),
	    RUN(after_close_nothing_is_taken_and_what_was_put_still_comes_out),
	    RUN(one_that_is_empty_holds_no_memory),
	    RUN(an_echo_says_back_what_it_hears_and_closes_when_the_peer_has),
	    RUN(a_capped_session_says_its_message_at_the_first_bytes_whatever_they_are_and_closes),
	    RUN(a_capped_session_without_one_closes_at_the_first_bytes_or_at_the_end),
	    RUN(what_was_put_before_it_broke_still_comes_out),
	    RUN(the_first_reason_holds),
	    RUN(one_that_was_full_under_a_lower_mark_is_told_too),
	    { 0 },
	});
}
