/* (who runs this makes no difference) */
#include "flow/pinger.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "check.h"

static struct reactor *loop;
static struct pinger pinger;
static unsigned lost, again;
static char lost_id[64], lost_why[64];
static bool closes;

static void
on_lost(void *arg, const char *id, size_t len, const char *why)
{
	char payload[PINGER_SIZE];

	CHECK(arg == &pinger);
	lost++;
	snprintf(lost_id, sizeof(lost_id), "%.*s", (int)len, id);
	snprintf(lost_why, sizeof(lost_why), "%s", why);
	if (again > 0) {
		again--;
		CHECK_INT(pinger_new(&pinger, lost_id, len, payload), 0);
	}
	if (closes)
		pinger_close(&pinger);
}

static void
begin(int64_t timeout)
{
	lost = again = 0;
	closes = false;
	CHECK_INT(reactor_new(&loop), 0);
	pinger = (struct pinger){ .timeout = timeout, .lost = on_lost, .arg = &pinger };
	CHECK_INT(pinger_open(&pinger, loop), 0);
}

static void
end(void)
{
	pinger_close(&pinger);
	pinger_close(&pinger);
	reactor_free(loop);
}

CASE(an_answer_is_matched_once_and_by_whom_it_was_asked_of)
{
	char one[PINGER_SIZE], two[PINGER_SIZE], other[PINGER_SIZE + 1];
	int64_t us = -7, before = clock_us();

	begin(-1);
	CHECK_INT(pinger_new(&pinger, "n1", 2, one), 0);
	CHECK_INT(pinger_new(&pinger, "n2", 2, two), 0);
	CHECK(memcmp(one, two, 8) == 0 && memcmp(one, two, PINGER_SIZE) != 0);
	CHECK(!pinger_match(&pinger, "n2", 2, one, sizeof(one), &us));
	CHECK(!pinger_match(&pinger, "n", 1, one, sizeof(one), &us));
	CHECK(!pinger_match(&pinger, "n1", 2, one, sizeof(one) - 1, &us));
	memcpy(other, one, sizeof(one));
	CHECK(!pinger_match(&pinger, "n1", 2, other, sizeof(other), &us));
	other[0] ^= 1; /* of another process */
	CHECK(!pinger_match(&pinger, "n1", 2, other, sizeof(one), &us));
	CHECK_INT(us, -7);
	CHECK(pinger_match(&pinger, "n2", 2, two, sizeof(two), &us));
	CHECK(us >= 0 && us <= clock_us() - before);
	CHECK(pinger_match(&pinger, "n1", 2, one, sizeof(one), &us));
	CHECK(!pinger_match(&pinger, "n1", 2, one, sizeof(one), &us));
	CHECK_INT(pinger.n, 0);
	CHECK_INT(lost, 0);
	end();
}

CASE(two_processes_have_different_keys)
{
	struct pinger second = { .timeout = -1 };
	char payload[PINGER_SIZE];
	int64_t us;

	begin(-1);
	CHECK_INT(pinger_open(&second, loop), 0);
	CHECK_INT(pinger_new(&second, "n1", 2, payload), 0);
	CHECK(!pinger_match(&pinger, "n1", 2, payload, sizeof(payload), &us));
	pinger_close(&second);
	end();
}

CASE(the_payload_is_little_endian)
{
	char payload[PINGER_SIZE];

	begin(-1);
	pinger.key = 0x0807060504030201;
	CHECK_INT(pinger_new(&pinger, "n1", 2, payload), 0);
	CHECK(memcmp(payload, "\1\2\3\4\5\6\7\10\1\0\0\0\0\0\0\0", PINGER_SIZE) == 0);
	end();
}

CASE(no_answer_in_time_is_told_once_and_never_too_soon)
{
	char payload[PINGER_SIZE];
	int64_t us, before = clock_us();

	begin(2);
	CHECK_INT(pinger_new(&pinger, "n1", 2, payload), 0);
	while (lost == 0 && clock_us() - before < 5000000)
		reactor_turn(loop, -1);
	CHECK(clock_us() - before >= 2000);
	CHECK_STR(lost_id, "n1");
	CHECK_STR(lost_why, "no answer in 2ms");
	CHECK(!pinger_match(&pinger, "n1", 2, payload, sizeof(payload), &us));
	reactor_turn(loop, 3);
	CHECK_INT(lost, 1);
	CHECK_INT(pinger.n, 0);
	end();
}

CASE(each_has_its_own_deadline)
{
	char one[PINGER_SIZE], two[PINGER_SIZE];
	int64_t us;

	begin(3000);
	CHECK_INT(pinger_new(&pinger, "n1", 2, one), 0);
	while (pinger.timer.at > clock_ms() + 2998)
		reactor_turn(loop, 1);
	CHECK_INT(pinger_new(&pinger, "n2", 2, two), 0);
	us = pinger.timer.at;
	CHECK(pinger_match(&pinger, "n1", 2, one, sizeof(one), &(int64_t){ 0 }));
	CHECK(pinger.timer.slot && pinger.timer.at > us);
	CHECK(pinger_match(&pinger, "n2", 2, two, sizeof(two), &us));
	CHECK(!pinger.timer.slot);
	end();
}

CASE(whole_seconds_are_said_as_such)
{
	begin(3000);
	CHECK_INT(pinger_new(&pinger, "n1", 2, (char[PINGER_SIZE]){ 0 }), 0);
	CHECK_INT(reactor_turn(loop, 0), 0);
	CHECK_INT(lost, 0);
	pinger.timeout = 0; /* rather than wait for it */
	CHECK_INT(reactor_timer(loop, &pinger.timer, clock_ms()), 0);
	while (lost == 0)
		reactor_turn(loop, 5);
	CHECK_STR(lost_why, "no answer in 0s");
	end();
}

CASE(who_asks_again_when_told_cannot_keep_a_turn_from_ending)
{
	begin(0);
	again = 3;
	CHECK_INT(pinger_new(&pinger, "n1", 2, (char[PINGER_SIZE]){ 0 }), 0);
	while (lost < 4)
		reactor_turn(loop, 5);
	CHECK_INT(pinger.n, 0);
	end();
}

CASE(those_that_went_to_a_peer_fail_with_it)
{
	begin(-1);
	for (int i = 0; i < 6; i++)
		CHECK_INT(pinger_new(&pinger, i % 2 ? "odd" : "even", i % 2 ? 3 : 4,
			      (char[PINGER_SIZE]){ 0 }),
		    0);
	again = 1; /* which goes there, too, and is not among them */
	pinger_fail(&pinger, "even", 4, "link down");
	CHECK_INT(lost, 3);
	CHECK_STR(lost_id, "even");
	CHECK_STR(lost_why, "link down");
	CHECK_INT(pinger.n, 4);
	pinger_fail(&pinger, "eve", 3, "nobody");
	CHECK_INT(lost, 3);
	end();
	CHECK_INT(lost, 3);
}

CASE(closed_by_who_is_told_it_says_no_more)
{
	begin(-1);
	for (int i = 0; i < 3; i++)
		CHECK_INT(pinger_new(&pinger, "n1", 2, (char[PINGER_SIZE]){ 0 }), 0);
	closes = true;
	pinger_fail(&pinger, "n1", 2, "link down");
	CHECK_INT(lost, 1);
	end();
	begin(1);
	for (int i = 0; i < 3; i++)
		CHECK_INT(pinger_new(&pinger, "n1", 2, (char[PINGER_SIZE]){ 0 }), 0);
	closes = true;
	while (lost == 0)
		reactor_turn(loop, 5);
	reactor_turn(loop, 0);
	CHECK_INT(lost, 1);
	end();
}

CASE(there_is_a_most)
{
	char payload[PINGER_SIZE] = "", first[PINGER_SIZE];
	int64_t us;

	begin(-1);
	CHECK_INT(pinger_new(&pinger, "n1", 2, first), 0);
	for (int i = 1; i < PINGER_MAX; i++)
		CHECK_INT(pinger_new(&pinger, "n1", 2, payload), 0);
	memset(payload, 'x', sizeof(payload));
	CHECK_INT(pinger_new(&pinger, "n1", 2, payload), -ENOBUFS);
	CHECK_INT(payload[0], 'x');
	CHECK(pinger_match(&pinger, "n1", 2, first, sizeof(first), &us));
	CHECK_INT(pinger_new(&pinger, "n1", 2, payload), 0);
	end();
	pinger = (struct pinger){ 0 };
	pinger_close(&pinger);
}

int
main(void)
{
	return check_main(
	    (struct check_case[]){ RUN(an_answer_is_matched_once_and_by_whom_it_was_asked_of),
		RUN(two_processes_have_different_keys), RUN(the_payload_is_little_endian),
		RUN(no_answer_in_time_is_told_once_and_never_too_soon),
		RUN(each_has_its_own_deadline), RUN(whole_seconds_are_said_as_such),
		RUN(who_asks_again_when_told_cannot_keep_a_turn_from_ending),
		RUN(those_that_went_to_a_peer_fail_with_it),
		RUN(closed_by_who_is_told_it_says_no_more), RUN(there_is_a_most), { 0 } });
}
