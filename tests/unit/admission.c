/* The caps of an interface: the count is what is open, and nothing else. */
#include "flow/admission.h"

#include "check.h"

CASE(exactly_soft_unmarked_then_marked_up_to_hard_then_none)
{
	struct admission a = { .soft = 3, .hard = 5 };
	int i;

	for (i = 0; i < 3; i++)
		CHECK_INT(admission_enter(&a), ADMIT_OPEN);
	for (; i < 5; i++) {
		CHECK(!admission_full(&a));
		CHECK_INT(admission_enter(&a), ADMIT_CAPPED);
	}
	for (; i < 8; i++) {
		CHECK(admission_full(&a));
		CHECK_INT(admission_enter(&a), ADMIT_REFUSED);
	}
	CHECK_INT(a.open, 5);
	CHECK_INT(a.accepted, 5);
	CHECK_INT(a.capped, 2);
	CHECK_INT(a.refused, 3);
}

CASE(who_leaves_makes_room_and_the_mark_follows_the_count)
{
	struct admission a = { .soft = 1, .hard = 2 };

	CHECK_INT(admission_enter(&a), ADMIT_OPEN);
	CHECK_INT(admission_enter(&a), ADMIT_CAPPED);
	CHECK_INT(admission_enter(&a), ADMIT_REFUSED);
	admission_leave(&a);
	CHECK_INT(admission_enter(&a), ADMIT_CAPPED);
	admission_leave(&a);
	admission_leave(&a);
	CHECK_INT(a.open, 0);
	CHECK_INT(a.peak, 2);
	CHECK_INT(admission_enter(&a), ADMIT_OPEN);
	CHECK_INT(a.accepted, 4);
	CHECK_INT(a.peak, 2);
}

CASE(a_cap_of_0_is_none)
{
	struct admission open = { 0 }, soft = { .soft = 1 }, hard = { .hard = 1 };

	for (int i = 0; i < 5000; i++) {
		CHECK_INT(admission_enter(&open), ADMIT_OPEN);
		CHECK_INT(admission_enter(&soft), i < 1 ? ADMIT_OPEN : ADMIT_CAPPED);
		CHECK(!admission_full(&open) && !admission_full(&soft));
		CHECK_INT(admission_enter(&hard), i < 1 ? ADMIT_OPEN : ADMIT_REFUSED);
	}
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(exactly_soft_unmarked_then_marked_up_to_hard_then_none),
	    RUN(who_leaves_makes_room_and_the_mark_follows_the_count),
	    RUN(a_cap_of_0_is_none),
	    { 0 },
	});
}
