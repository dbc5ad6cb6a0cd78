/* The budget by itself: shares, crossings, who is cut and who is woken.  What a relay makes of it
 * is in relay.c. */
#include "flow/budget.h"

#include "base/clock.h"
#include "base/log.h"
#include "check.h"

enum { MAX = 1 << 20, N = 128 };

struct conn {
	struct charge charge;
	int64_t unsent;
	bool trickles; /* its peer acknowledges something between any two looks */
	int woken, cut;
};

static struct reactor *loop;
static struct budget budget;
static struct conn conns[N];
static int cut_order[N], cuts, eased;

static struct conn *
conn_of(const struct charge *c)
{
	return (struct conn *)((char *)(uintptr_t)c - offsetof(struct conn, charge));
}

static void
wake(struct charge *c)
{
	conn_of(c)->woken++;
}

static int64_t
unsent(const struct charge *c)
{
	struct conn *k = conn_of(c);

	return k->trickles ? k->unsent-- : k->unsent;
}

static void
slow(struct charge *c)
{
	conn_of(c)->cut++;
	cut_order[cuts++] = (int)(conn_of(c) - conns);
	budget_leave(c);
}

static void
ease(struct budget *b)
{
	CHECK(b == &budget);
	eased++;
}

static const struct charge_ops ops = { .wake = wake, .unsent = unsent, .slow = slow };

static void
begin(int n, int64_t flush)
{
	log_open("budget", false);
	log_set_level(LOG_L_ERROR);
	cuts = eased = 0;
	CHECK_INT(reactor_new(&loop), 0);
	budget_open(&budget, loop, MAX, flush);
	budget.eased = ease;
	for (int i = 0; i < n; i++) {
		conns[i] = (struct conn){ .unsent = 1000 };
		budget_join(&budget, &conns[i].charge, &ops);
	}
}

/* Whatever happened, nothing is held for nobody. */
static void
finish(int n)
{
	for (int i = 0; i < n; i++)
		budget_leave(&conns[i].charge);
	CHECK_INT(budget.live, 0);
	CHECK_INT(budget.held, 0);
	budget_close(&budget);
	reactor_free(loop);
}

static void
hold(int from, int to, size_t each)
{
	for (int i = from; i < to; i++)
		budget_hold(&conns[i].charge, each, false);
}

CASE(the_share_is_the_bound_divided_and_never_below_the_least)
{
	begin(1, -1);
	CHECK_INT(budget_share(&conns[0].charge), MAX);
	budget_join(&budget, &conns[1].charge, &ops);
	CHECK_INT(budget_share(&conns[0].charge), MAX / 2);
	for (int i = 2; i < N; i++)
		budget_join(&budget, &conns[i].charge, &ops);
	CHECK(MAX / N < BUDGET_LEAST);
	CHECK_INT(budget_share(&conns[0].charge), BUDGET_LEAST);
	finish(N);
}

CASE(without_a_budget_nothing_is_bounded)
{
	struct charge c = { 0 };

	budget_join(NULL, &c, &ops);
	budget_hold(&c, 1 << 30, true);
	budget_stop(&c);
	CHECK(budget_share(&c) == SIZE_MAX);
	budget_leave(&c);
	budget_leave(&c);
}

CASE(what_is_held_is_summed_and_returned_in_full)
{
	begin(3, -1);
	hold(0, 3, 1000);
	CHECK_INT(budget.held, 3000);
	budget_hold(&conns[1].charge, 10, true);
	CHECK_INT(budget.held, 2010);
	budget_leave(&conns[0].charge);
	CHECK_INT(budget.held, 1010);
	budget_leave(&conns[0].charge);
	CHECK_INT(budget.held, 1010);
	CHECK_INT(budget.live, 2);
	finish(3);
}

CASE(at_the_bound_everybody_has_the_least_until_it_is_below)
{
	begin(4, -1);
	CHECK_INT(budget_share(&conns[3].charge), MAX / 4);
	hold(0, 3, MAX / 4);
	CHECK_INT(budget_share(&conns[3].charge), MAX / 4);
	CHECK(budget_room(&budget));
	hold(3, 4, MAX / 4 - MAX / 16);
	CHECK_INT(budget_share(&conns[3].charge), BUDGET_LEAST);
	budget_hold(&conns[0].charge, MAX / 4 - MAX / 32, true);
	CHECK_INT(budget_share(&conns[3].charge), BUDGET_LEAST);
	CHECK_INT(reactor_turn(loop, 0), 0);
	CHECK_INT(eased, 0);
	budget_hold(&conns[0].charge, 0, true);
	CHECK_INT(budget_share(&conns[3].charge), MAX / 4);
	CHECK_INT(reactor_turn(loop, 0), 0);
	CHECK_INT(eased, 1);
	hold(0, 1, 3 * MAX);
	CHECK(!budget_room(&budget));
	finish(4);
}

CASE(who_stopped_is_woken_when_the_share_has_grown_and_not_before)
{
	begin(N / 2, -1);
	budget_stop(&conns[0].charge);
	budget_stop(&conns[0].charge);
	budget_stop(&conns[1].charge);
	for (int i = N / 2 - 1; i > N / 2 - 4; i--)
		budget_leave(&conns[i].charge);
	CHECK_INT(reactor_turn(loop, 0), 0);
	CHECK_INT(conns[0].woken, 0);
	budget_leave(&conns[1].charge);
	for (int i = N / 2 - 4; i > N / 4; i--)
		budget_leave(&conns[i].charge);
	CHECK_INT(reactor_turn(loop, 0), 0);
	CHECK_INT(conns[0].woken, 1);
	CHECK_INT(conns[1].woken, 0);
	budget_leave(&conns[2].charge);
	CHECK_INT(reactor_turn(loop, 0), 0);
	CHECK_INT(conns[0].woken, 1);

	budget_hold(&conns[3].charge, MAX, false);
	budget_stop(&conns[0].charge);
	budget_hold(&conns[3].charge, 0, true);
	CHECK_INT(reactor_turn(loop, 0), 0);
	CHECK_INT(conns[0].woken, 2);
	finish(N / 2);
}

static bool
runs_until(const int *what, int n)
{
	int64_t limit = clock_ms() + 10000;

	while (*what < n && clock_ms() < limit)
		CHECK_INT(reactor_turn(loop, 100), 0);
	return *what >= n;
}

CASE(at_the_bound_the_slow_are_cut_longest_first_until_it_is_below)
{
	begin(10, 40);
	hold(3, 4, MAX / 10); /* the first to hold */
	CHECK_INT(reactor_turn(loop, 0), 0);
	hold(0, 3, MAX / 10);
	hold(4, 10, MAX / 10);
	conns[0].trickles = true;
	budget_hold(&conns[1].charge, MAX / 10, true); /* moved: its turn comes last */
	CHECK_INT(cuts, 0);
	CHECK(runs_until(&cuts, 2));
	CHECK_INT(cut_order[0], 3);
	CHECK_INT(cut_order[1], 2);
	CHECK_INT(cuts, 2);
	CHECK_INT(budget.slow, 2);
	CHECK_INT(eased, 1);
	CHECK(budget.held < MAX - MAX / 8);
	CHECK_INT(conns[0].cut, 0);

	CHECK_INT(budget.look.slot, 0); /* below the bound nobody is looked at */
	finish(10);
}

CASE(without_a_deadline_nobody_is_cut)
{
	begin(2, -1);
	hold(0, 2, MAX);
	CHECK_INT(budget.look.slot, 0);
	finish(2);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(the_share_is_the_bound_divided_and_never_below_the_least),
	    RUN(without_a_budget_nothing_is_bounded),
	    RUN(what_is_held_is_summed_and_returned_in_full),
	    RUN(at_the_bound_everybody_has_the_least_until_it_is_below),
	    RUN(who_stopped_is_woken_when_the_share_has_grown_and_not_before),
	    RUN(at_the_bound_the_slow_are_cut_longest_first_until_it_is_below),
	    RUN(without_a_deadline_nobody_is_cut),
	    { 0 },
	});
}
