/* A hub whose sockets somebody else finds: what its keeper is told, and what it ends with once no
 * other link can come. */
#include "flow/hub.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/exit.h"
#include "base/log.h"
#include "check.h"
#include "net/handoff.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

static struct reactor *loop;
static struct hub hub;
static int wire; /* the other side of the link */
static int greeted, gone, stopped, closed, over, status, credits;
static unsigned links;
static struct name_end end;

static void
told_greeted(struct hub *h, unsigned n)
{
	CHECK(h->keeper_arg == &wire);
	greeted++;
	links = n;
}

static void
told_gone(struct hub *h, const struct name_end *e)
{
	(void)h;
	gone++;
	end = *e;
}

static void
told_stop(struct hub *h)
{
	(void)h;
	stopped++;
}

static void
told_close(struct hub *h)
{
	CHECK(TAILQ_EMPTY(&h->links));
	closed++;
}

static const struct hub_keeper keeper = {
	.greeted = told_greeted, .gone = told_gone, .stop = told_stop, .close = told_close
};

static unsigned
hub_has_room(struct hub *h)
{
	(void)h;
	return 1000;
}

static void
hub_credit(struct hub *h)
{
	(void)h;
	credits++;
}

static void
hub_ended(struct hub *h, int how)
{
	(void)h;
	CHECK_INT(over++, 0);
	status = how;
}

static const struct hub_ops ops = { .room = hub_has_room, .credit = hub_credit, .over = hub_ended };

static void
start(unsigned role, unsigned workers)
{
	struct hub_config cfg = { .tool = "given",
		.option = "--link",
		.spec = "-",
		.role = role,
		.modes = NOTE_TAKE,
		.links = workers,
		.peer_user = (uid_t)-1,
		.ops = &ops };

	log_open("hub", false);
	log_set_level(LOG_L_ERROR);
	CHECK_INT(reactor_new(&loop), 0);
	cfg.reactor = loop;
	greeted = gone = stopped = closed = over = credits = 0;
	status = -1;
	hub_open_given(&hub, &cfg, &keeper, &wire);
}

static void
turns(int n)
{
	while (n-- > 0)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

static void
finish(void)
{
	hub_close(&hub);
	CHECK_INT(closed, 1);
	turns(1);
	reactor_free(loop);
}

static void
give(const char *token)
{
	int fd[2];

	CHECK_INT(handoff_pair(fd), 0);
	wire = fd[1];
	CHECK_INT(hub_take(&hub, fd[0], token), 0);
	turns(1);
}

static void
say(const struct note *n)
{
	char packet[512];
	ssize_t len = note_print(n, NULL, packet, sizeof(packet));

	CHECK(len > 0 && send(wire, packet, (size_t)len, MSG_NOSIGNAL) == len);
}

static void
greet(unsigned n)
{
	struct note hello = { .verb = NOTE_HELLO,
		.version = 1,
		.role = hub.cfg.role == NOTE_PRODUCER ? NOTE_CONSUMER : NOTE_PRODUCER,
		.links = n,
		.tool = "test" };

	say(&hello);
	turns(2);
}

static void
nonsense(void)
{
	CHECK_INT(send(wire, "x", 1, MSG_NOSIGNAL), 1);
	turns(2);
	close(wire);
}

static void
hang_up(void)
{
	close(wire);
	turns(2);
}

CASE(a_hello_carries_the_links_token_and_how_many_are_wanted)
{
	static char bytes[HANDOFF_MAX];
	struct handoff_in in = { .bytes = bytes, .fd = -1 };
	struct note hello;

	for (int i = 0; i < 2; i++) {
		start(NOTE_CONSUMER, i == 0 ? 3 : 1);
		give(i == 0 ? TOKEN : "");
		CHECK_INT(handoff_recv(wire, &in, 1), 1);
		CHECK_INT(note_parse(&hello, in.bytes, (size_t)in.len), 0);
		CHECK_INT(hello.verb, NOTE_HELLO);
		CHECK_STR(hello.token, i == 0 ? TOKEN : "");
		CHECK_INT(hello.links, i == 0 ? 3 : 0);
		hang_up();
		finish();
	}
}

CASE(the_keeper_is_told_what_becomes_of_a_link)
{
	struct note drain = { .verb = NOTE_DRAIN };

	start(NOTE_PRODUCER, 1);
	give("");
	greet(4);
	CHECK_INT(greeted, 1);
	CHECK_INT(links, 4);
	CHECK_INT(hub.n, 1);
	say(&drain);
	turns(2);
	hang_up();
	CHECK_INT(gone, 1);
	CHECK(end.greeted && end.drained && !end.broken);
	CHECK_INT(hub.n, 0);
	give("");
	nonsense();
	CHECK_INT(gone, 2);
	CHECK(!end.greeted && !end.drained && end.broken);
	CHECK_INT(over, 0); /* that is the keeper's to say */
	CHECK(credits > 0);
	give("");
	finish();
	CHECK_INT(gone, 2);
	close(wire);
}

CASE(when_the_name_is_over_the_links_that_are_left_end_by_themselves)
{
	for (int bad = 0; bad < 2; bad++) {
		start(NOTE_CONSUMER, 1);
		give("");
		greet(0);
		hub_name_over(&hub, false);
		turns(2);
		CHECK_INT(over, 0);
		if (bad)
			nonsense();
		else
			hang_up();
		CHECK_INT(over, 1);
		CHECK_INT(status, bad ? CCF_PROTOCOL : 0);
		hub_name_over(&hub, true); /* too late to matter */
		finish();
	}
	start(NOTE_CONSUMER, 1);
	hub_name_over(&hub, false); /* none are left */
	CHECK_INT(over, 1);
	CHECK_INT(status, 0);
	finish();
}

CASE(a_breach_counts_unless_we_wanted_no_more)
{
	start(NOTE_CONSUMER, 1);
	give("");
	greet(0);
	hub_drain(&hub);
	CHECK_INT(stopped, 1);
	CHECK_INT(over, 0);
	turns(1);
	nonsense();
	CHECK_INT(over, 1);
	CHECK_INT(status, 0);
	finish();

	start(NOTE_CONSUMER, 1);
	give("");
	nonsense();
	hub_name_over(&hub, true);
	CHECK_INT(status, CCF_PROTOCOL);
	finish();

	start(NOTE_CONSUMER, 1);
	give("");
	nonsense();
	give("");
	greet(0); /* another made up for it */
	hang_up();
	hub_name_over(&hub, true);
	CHECK_INT(status, 0);
	finish();

	start(NOTE_CONSUMER, 1);
	hub_drain(&hub);
	CHECK_INT(stopped, 1);
	CHECK_INT(over, 1);
	CHECK_INT(status, 0);
	finish();
}

CASE(a_producer_is_left_in_the_lurch_by_who_has_not_said_drain)
{
	struct note drain = { .verb = NOTE_DRAIN };

	for (int said = 0; said < 2; said++) {
		start(NOTE_PRODUCER, 1);
		give("");
		greet(0);
		if (said)
			say(&drain); /* on its way when the name is over: it is heard */
		hub_name_over(&hub, true);
		CHECK_INT(over, 1);
		CHECK_INT(status, said ? 0 : CCF_UNAVAILABLE);
		CHECK_INT(gone, 0);
		close(wire);
		finish();
	}
	start(NOTE_PRODUCER, 1);
	hub_name_over(&hub, true); /* nobody ever came */
	CHECK_INT(status, CCF_UNAVAILABLE);
	finish();
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(a_hello_carries_the_links_token_and_how_many_are_wanted),
	    RUN(the_keeper_is_told_what_becomes_of_a_link),
	    RUN(when_the_name_is_over_the_links_that_are_left_end_by_themselves),
	    RUN(a_breach_counts_unless_we_wanted_no_more),
	    RUN(a_producer_is_left_in_the_lurch_by_who_has_not_said_drain),
	    { 0 },
	});
}
