/* Both sides of a link in one process, over a socketpair; and one side alone against messages made
 * by hand, where the other side would have to do what it does not. */
#include "flow/link.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/env.h"
#include "base/exit.h"
#include "base/log.h"
#include "check.h"
#include "flow/hub.h"
#include "net/handoff.h"

enum { MANY = 200, LONG = 30000 };

static struct reactor *loop;

struct side { /* a hub, and what it was told */
	struct hub hub;
	char spec[16];
	unsigned room;
	int credits, over, over_status;
};

static struct side producer, consumer;

struct held { /* a connection on either list, and what was said about it */
	struct link_conn lc;
	int fd;
	int adopted, ended, closed, lost, flushed, status;
	uint64_t in, out;
	char reason[32];
};

static struct held sent[MANY], came[MANY];
static unsigned n_came;
static char last_id[64];

/* ---- what is told ---- */

static void
told_adopted(struct link_conn *c, int fd)
{
	struct held *h = (struct held *)c;

	h->adopted++;
	h->fd = fd;
}

static void
told_ended(struct link_conn *c)
{
	((struct held *)c)->ended++;
}

static void
told_closed(struct link_conn *c, const char *reason, int status, uint64_t in, uint64_t out)
{
	struct held *h = (struct held *)c;

	CHECK(c->link == NULL);
	h->closed++;
	h->status = status;
	h->in = in;
	h->out = out;
	snprintf(h->reason, sizeof(h->reason), "%s", reason);
}

static void
told_lost(struct link_conn *c)
{
	CHECK(c->link == NULL);
	((struct held *)c)->lost++;
}

static void
told_flushed(struct link_conn *c)
{
	((struct held *)c)->flushed++;
}

static const struct link_conn_ops conn_ops = {
	.adopted = told_adopted,
	.ended = told_ended,
	.closed = told_closed,
	.lost = told_lost,
	.flushed = told_flushed,
};

static void
hub_conn(struct hub *h, struct link *l, const struct note *n, int fd)
{
	struct held *c = &came[n_came % MANY];
	struct env env = { 0 };

	(void)h;
	n_came++;
	*c = (struct held){ .fd = fd };
	CHECK_INT(note_env(n, &env), 0);
	snprintf(last_id, sizeof(last_id), "%s",
	    env_get(&env, "CCF_CONN_ID") ? env_get(&env, "CCF_CONN_ID") : "");
	env_free(&env);
	link_join(l, &c->lc, &conn_ops, n->id);
}

static struct side *
side_of(struct hub *h)
{
	return (struct side *)h;
}

static unsigned
hub_has_room(struct hub *h)
{
	return side_of(h)->room;
}

static void
hub_credit(struct hub *h)
{
	side_of(h)->credits++;
}

static void
hub_ended(struct hub *h, int status)
{
	CHECK_INT(side_of(h)->over++, 0);
	side_of(h)->over_status = status;
}

static const struct hub_ops hub_ops = {
	.conn = hub_conn,
	.room = hub_has_room,
	.credit = hub_credit,
	.over = hub_ended,
};

/* ---- setting up ---- */

static void
side_open(struct side *s, unsigned role, int fd)
{
	struct hub_config cfg = { .reactor = loop,
		.tool = role == NOTE_PRODUCER ? "producer" : "consumer",
		.option = "--link",
		.spec = s->spec,
		.role = role,
		.modes = NOTE_TAKE | NOTE_GIVE,
		.peer_user = (uid_t)-1,
		.ops = &hub_ops };
	char msg[256];

	s->credits = s->over = 0;
	s->over_status = -1;
	s->room = 1000;
	snprintf(s->spec, sizeof(s->spec), "fd:%d", fd);
	CHECK_INT(hub_open(&s->hub, &cfg, msg, sizeof(msg)), 0);
}

static void
start(void)
{
	log_open("link", false);
	log_set_level(LOG_L_ERROR); /* what is provoked here is warned of */
	CHECK_INT(reactor_new(&loop), 0);
	memset(sent, 0, sizeof(sent));
	n_came = 0;
}

static void
turns(int n)
{
	while (n-- > 0)
		CHECK_INT(reactor_turn(loop, 0), 0);
}

static void
pair(void)
{
	int fd[2];

	start();
	CHECK_INT(handoff_pair(fd), 0);
	side_open(&producer, NOTE_PRODUCER, fd[0]);
	side_open(&consumer, NOTE_CONSUMER, fd[1]);
	turns(4);
}

static void
finish(struct side *a, struct side *b)
{
	hub_close(&a->hub);
	if (b)
		hub_close(&b->hub);
	turns(1);
	reactor_free(loop);
}

static struct link *
link_of(struct side *s)
{
	return TAILQ_FIRST(&s->hub.links);
}

static int
descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static int
something_to_send(void)
{
	int fd[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
	close(fd[1]);
	return fd[0];
}

/* A connection from the producer; take: with a descriptor. */
static struct held *
send_one(int i, bool take)
{
	struct held *h = &sent[i];
	struct link *l = hub_pick(&producer.hub);
	struct env env = { 0 };
	int fd = take ? something_to_send() : -1;

	CHECK(l != NULL);
	CHECK_INT(env_setf(&env, "CCF_CONN_ID", "test#%d", i), 0);
	h->lc.ops = &conn_ops;
	CHECK_INT(l ? link_conn(l, &h->lc, &env, fd) : -1, 0);
	env_free(&env);
	return h;
}

/* ---- what the page says ---- */

CASE(after_the_hellos_there_is_credit_and_no_more_than_the_window)
{
	pair();
	CHECK_INT(link_of(&producer)->state, LINK_UP);
	CHECK_INT(link_of(&consumer)->state, LINK_UP);
	CHECK_STR(link_of(&producer)->tool, "consumer");
	CHECK_STR(link_of(&consumer)->tool, "producer");
	CHECK(hub_ready(&producer.hub));
	CHECK_INT(link_of(&producer)->credit, LINK_WINDOW);
	CHECK_INT(link_of(&producer)->modes, NOTE_TAKE | NOTE_GIVE);
	CHECK(producer.credits > 0);
	finish(&producer, &consumer);
}

CASE(without_room_nothing_is_granted_until_there_is_some)
{
	int fd[2];

	start();
	CHECK_INT(handoff_pair(fd), 0);
	side_open(&producer, NOTE_PRODUCER, fd[0]);
	side_open(&consumer, NOTE_CONSUMER, fd[1]);
	consumer.room = 0;
	turns(5);
	CHECK(!hub_ready(&producer.hub));
	CHECK(hub_pick(&producer.hub) == NULL);
	CHECK(hub_has_links(&producer.hub));
	consumer.room = 3;
	hub_regrant(&consumer.hub);
	turns(3);
	CHECK_INT(link_of(&producer)->credit, 3);
	finish(&producer, &consumer);
}

CASE(a_connection_taken_is_counted_until_it_is_closed)
{
	struct held *h;

	pair();
	h = send_one(0, true);
	CHECK_INT(hub_live(&producer.hub), 1);
	turns(2);
	CHECK_INT(n_came, 1);
	CHECK(came[0].fd != -1);
	CHECK_STR(last_id, "test#0");
	CHECK_INT(hub_live(&consumer.hub), 1);
	close(came[0].fd);
	link_closed(&came[0].lc, "done", 18, 12, 34);
	CHECK_INT(hub_live(&consumer.hub), 0);
	turns(2);
	CHECK_INT(h->closed, 1);
	CHECK_STR(h->reason, "done");
	CHECK_INT(h->status, 18);
	CHECK_INT(h->in, 12);
	CHECK_INT(h->out, 34);
	CHECK_INT(hub_live(&producer.hub), 0);
	link_closed(&came[0].lc, "again", 0, 0, 0); /* on no list: legal, and silent */
	turns(2);
	CHECK_INT(h->closed, 1);
	finish(&producer, &consumer);
}

CASE(a_connection_given_leaves_no_copy_with_the_giver)
{
	struct held *h;
	int fds, mine;

	pair();
	fds = descriptors();
	h = send_one(0, false);
	turns(2);
	CHECK_INT(came[0].fd, -1);
	mine = something_to_send();
	CHECK_INT(link_adopt(&came[0].lc, mine), 0);
	turns(2);
	CHECK_INT(h->adopted, 1);
	CHECK(h->fd != -1);
	CHECK_INT(descriptors(), fds + 1);
	close(h->fd);
	CHECK_INT(hub_live(&producer.hub), 1); /* until the producer says so */
	link_closed(&h->lc, "done", 0, 1, 2);
	turns(2);
	CHECK_INT(came[0].closed, 1);
	CHECK_INT(hub_live(&consumer.hub), 0);
	finish(&producer, &consumer);
}

CASE(an_adopt_that_crosses_closed_is_closed_unread)
{
	struct held *h;
	int fds;

	pair();
	fds = descriptors();
	h = send_one(0, false);
	turns(2);
	link_closed(&h->lc, "client-gone", 18, 0, 0);
	CHECK_INT(link_adopt(&came[0].lc, something_to_send()), 0);
	turns(3);
	CHECK_INT(h->adopted, 0);
	CHECK_INT(came[0].closed, 1);
	CHECK_STR(came[0].reason, "client-gone");
	CHECK_INT(descriptors(), fds);
	finish(&producer, &consumer);
}

CASE(an_eof_is_told_once_and_either_side_may_say_it)
{
	struct held *h;

	pair();
	h = send_one(0, true);
	turns(2);
	CHECK_INT(link_eof(&h->lc), 0);
	CHECK_INT(link_eof(&h->lc), 0);
	CHECK_INT(link_eof(&came[0].lc), 0);
	turns(2);
	CHECK_INT(came[0].ended, 1);
	CHECK_INT(h->ended, 1);
	CHECK(h->lc.ended && came[0].lc.ended);
	close(came[0].fd);
	finish(&producer, &consumer);
}

CASE(an_eof_already_on_its_way_is_known_after_a_pump)
{
	struct held *h;

	pair();
	h = send_one(0, true);
	turns(2);
	CHECK_INT(link_eof(&h->lc), 0); /* sent at once, before the stream is shut */
	link_pump(link_of(&consumer));
	CHECK_INT(came[0].ended, 1);
	close(came[0].fd);
	finish(&producer, &consumer);
}

CASE(credit_is_refilled_as_it_is_used)
{
	int64_t limit = clock_ms() + LONG;

	pair();
	for (int i = 0; i < MANY && clock_ms() < limit;) {
		if (!hub_ready(&producer.hub)) {
			turns(1);
			continue;
		}
		send_one(i++, true);
		CHECK(link_of(&producer)->credit < LINK_WINDOW);
	}
	while (n_came < MANY && clock_ms() < limit)
		turns(1);
	CHECK_INT(n_came, MANY);
	CHECK_STR(last_id, "test#199");
	CHECK_INT(hub_live(&consumer.hub), MANY);
	for (int i = 0; i < MANY; i++) {
		close(came[i].fd);
		link_closed(&came[i].lc, "done", 0, 0, 0);
	}
	turns(30);
	CHECK_INT(hub_live(&producer.hub), 0);
	CHECK(link_of(&producer)->credit > 0 && link_of(&producer)->credit <= LINK_WINDOW);
	finish(&producer, &consumer);
}

CASE(an_id_left_behind_stays_open_until_the_consumer_says_closed)
{
	struct held *h;

	pair();
	h = send_one(0, true);
	turns(2);
	link_leave(&h->lc);
	CHECK(h->lc.link == NULL);
	CHECK_INT(hub_live(&producer.hub), 1);
	close(came[0].fd);
	link_closed(&came[0].lc, "done", 0, 0, 0);
	turns(2);
	CHECK_INT(hub_live(&producer.hub), 0);
	CHECK_INT(h->closed, 0);
	finish(&producer, &consumer);
}

CASE(after_drain_nothing_new_is_sent_and_what_was_is_served)
{
	struct held *h;

	pair();
	h = send_one(0, true);
	turns(2);
	hub_drain(&consumer.hub);
	turns(3);
	CHECK(!hub_ready(&producer.hub));
	CHECK(hub_pick(&producer.hub) == NULL);
	CHECK_INT(consumer.over, 0);
	close(came[0].fd);
	link_closed(&came[0].lc, "done", 0, 5, 6);
	turns(5);
	CHECK_INT(h->closed, 1);
	CHECK_INT(h->in, 5);
	CHECK_INT(consumer.over, 1);
	CHECK_INT(consumer.over_status, 0);
	CHECK_INT(producer.over, 1);
	CHECK_INT(producer.over_status, 0);
	finish(&producer, &consumer);
}

CASE(when_a_link_ends_each_open_id_is_lost_once)
{
	struct held *a, *b;
	int fds;

	pair();
	fds = descriptors();
	a = send_one(0, true);
	b = send_one(1, false);
	turns(2);
	CHECK_INT(n_came, 2);
	hub_close(&consumer.hub);
	CHECK_INT(came[0].lost + came[1].lost, 2);
	turns(3);
	CHECK_INT(a->lost, 1);
	CHECK_INT(b->lost, 1);
	CHECK_INT(producer.over, 1);
	CHECK_INT(hub_live(&producer.hub), 0);
	close(came[0].fd);
	CHECK_INT(descriptors(), fds - 2); /* a socket of each side */
	finish(&producer, NULL);
}

CASE(the_last_words_of_one_that_died_are_heard)
{
	struct held *h;
	int fd;

	pair();
	h = send_one(0, true);
	send_one(1, true);
	turns(2);
	link_closed(&came[0].lc, "done", 0, 7, 8);
	close(came[0].fd);
	fd = came[1].fd;
	turns(1); /* it has gone out, and was perhaps not read */
	hub_close(&consumer.hub);
	turns(4);
	CHECK_INT(h->closed, 1);
	CHECK_INT(h->in, 7);
	CHECK_INT(h->lost, 0);
	CHECK_INT(sent[1].lost, 1);
	close(fd);
	finish(&producer, NULL);
}

/* ---- one side alone: the other is this test ---- */

static int wire;
static char packet[HANDOFF_MAX + 8];

static void
alone(struct side *s, unsigned role)
{
	int fd[2];

	start();
	CHECK_INT(handoff_pair(fd), 0);
	wire = fd[1];
	side_open(s, role, fd[0]);
	turns(1);
}

static int
put(const char *bytes, size_t len, int fd)
{
	struct handoff_out out = { .bytes = bytes, .len = len, .fd = fd };

	return handoff_send(wire, &out, 1);
}

static void
say(const struct note *n, int fd)
{
	ssize_t len = note_print(n, NULL, packet, sizeof(packet));

	CHECK(len > 0);
	CHECK_INT(put(packet, (size_t)len, fd), 1);
}

static void
greet(unsigned role)
{
	struct note hello = {
		.verb = NOTE_HELLO, .version = 1, .role = role, .modes = 3, .tool = "test"
	};

	say(&hello, -1);
	turns(2);
}

/* What the side says next; 0: nothing now. */
static enum note_verb
hear(struct note *n)
{
	static char bytes[HANDOFF_MAX];
	struct handoff_in in = { .bytes = bytes, .fd = -1 };

	if (handoff_recv(wire, &in, 1) != 1)
		return NOTE_UNKNOWN;
	CHECK_INT(note_parse(n, in.bytes, (size_t)in.len), 0);
	if (in.fd != -1)
		close(in.fd);
	return n->verb;
}

static void
ends_with(struct side *s, int status)
{
	turns(3);
	CHECK_INT(s->over, 1);
	CHECK_INT(s->over_status, status);
	CHECK(link_of(s) == NULL);
	close(wire);
	finish(s, NULL);
}

CASE(the_consumer_speaks_first_and_grants_after_the_hellos)
{
	struct note n;

	alone(&consumer, NOTE_CONSUMER);
	CHECK_INT(hear(&n), NOTE_HELLO);
	CHECK_INT(n.role, NOTE_CONSUMER);
	CHECK_INT(n.modes, NOTE_TAKE | NOTE_GIVE);
	CHECK_INT(hear(&n), NOTE_UNKNOWN);
	greet(NOTE_PRODUCER);
	CHECK_INT(hear(&n), NOTE_READY);
	CHECK_INT(n.n, LINK_WINDOW);
	CHECK_INT(hear(&n), NOTE_UNKNOWN);
	close(wire);
	ends_with(&consumer, 0);
}

CASE(what_breaks_the_protocol_ends_the_link_with_76)
{
	static const struct {
		const char *what, *bytes;
		size_t len;
	} bad[] = {
		{ "no verb", "", 1 },
		{ "not ended", "ready\0n=3", 9 },
		{ "an empty string", "ready\0n=3\0\0", 11 },
		{ "no number", "ready\0n=x\0", 10 },
		{ "a field missing", "ready\0", 6 },
		{ "a field twice", "ready\0n=1\0n=1\0", 14 },
		{ "a conn", "conn\0id=1\0", 10 },
		{ "a second hello", "hello\0version=1\0role=consumer\0tool=x\0", 37 },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		alone(&producer, NOTE_PRODUCER);
		greet(NOTE_CONSUMER);
		CHECK_INT(link_of(&producer)->state, LINK_UP);
		CHECK_INT(put(bad[i].bytes, bad[i].len, -1), 1);
		turns(2);
		CHECK_INT(producer.over, 1);
		if (!producer.over)
			printf("# %s\n", bad[i].what);
		ends_with(&producer, CCF_PROTOCOL);
	}
}

CASE(a_message_before_the_hello_and_a_hello_of_the_same_role_end_it)
{
	struct note ready = { .verb = NOTE_READY, .n = 3 };

	alone(&producer, NOTE_PRODUCER);
	say(&ready, -1);
	ends_with(&producer, CCF_PROTOCOL);
	alone(&producer, NOTE_PRODUCER);
	greet(NOTE_PRODUCER);
	ends_with(&producer, CCF_PROTOCOL);
	alone(&consumer, NOTE_CONSUMER);
	greet(NOTE_CONSUMER);
	ends_with(&consumer, CCF_PROTOCOL);
}

CASE(one_byte_too_many_ends_it)
{
	alone(&producer, NOTE_PRODUCER);
	greet(NOTE_CONSUMER);
	memset(packet, 'x', sizeof(packet));
	CHECK_INT(send(wire, packet, HANDOFF_MAX + 1, MSG_NOSIGNAL), HANDOFF_MAX + 1);
	ends_with(&producer, CCF_PROTOCOL);
}

CASE(descriptors_where_none_belong_end_it_and_none_leaks)
{
	struct note ready = { .verb = NOTE_READY, .n = 3 };
	struct note adopt = { .verb = NOTE_ADOPT, .id = 1 };
	int fds;

	alone(&producer, NOTE_PRODUCER);
	greet(NOTE_CONSUMER);
	fds = descriptors();
	say(&ready, something_to_send());
	turns(2);
	CHECK_INT(descriptors(), fds - 1); /* the link's own */
	ends_with(&producer, CCF_PROTOCOL);

	alone(&producer, NOTE_PRODUCER);
	greet(NOTE_CONSUMER);
	say(&adopt, -1);
	ends_with(&producer, CCF_PROTOCOL);
}

CASE(a_connection_number_used_twice_and_one_without_credit_end_it)
{
	struct note conn = { .verb = NOTE_CONN, .id = 5 };
	int fds;

	alone(&consumer, NOTE_CONSUMER);
	greet(NOTE_PRODUCER);
	fds = descriptors();
	say(&conn, something_to_send());
	turns(2);
	CHECK_INT(n_came, 1);
	say(&conn, something_to_send());
	turns(2);
	CHECK_INT(n_came, 1);
	CHECK_INT(came[0].lost, 1);
	close(came[0].fd);
	CHECK_INT(descriptors(), fds - 1);
	ends_with(&consumer, CCF_PROTOCOL);

	alone(&consumer, NOTE_CONSUMER);
	consumer.room = 2;
	greet(NOTE_PRODUCER);
	consumer.room = 0;
	for (conn.id = 1; conn.id <= 3; conn.id++)
		say(&conn, something_to_send());
	turns(2);
	CHECK_INT(n_came, 2);
	close(came[0].fd);
	close(came[1].fd);
	ends_with(&consumer, CCF_PROTOCOL);
}

CASE(unknown_verbs_names_and_numbers_are_ignored)
{
	static const char strange[] = "wobble\0depth=3\0CCF_X=1\0";
	struct note closed = { .verb = NOTE_CLOSED, .id = 77, .reason = "done", .status = -1 };
	struct note eof = { .verb = NOTE_EOF, .id = 77 };
	int fds;

	alone(&producer, NOTE_PRODUCER);
	greet(NOTE_CONSUMER);
	fds = descriptors();
	CHECK_INT(put(strange, sizeof(strange) - 1, something_to_send()), 1);
	say(&closed, -1);
	say(&eof, -1);
	CHECK_INT(put("ready\0n=3\0colour=red\0", 21, -1), 1);
	turns(3);
	CHECK_INT(producer.over, 0);
	CHECK_INT(link_of(&producer)->credit, 3);
	CHECK_INT(descriptors(), fds);
	close(wire);
	ends_with(&producer, CCF_UNAVAILABLE);
}

CASE(credit_above_the_window_is_not_believed)
{
	struct note ready = { .verb = NOTE_READY, .n = 4000000000U };

	alone(&producer, NOTE_PRODUCER);
	greet(NOTE_CONSUMER);
	say(&ready, -1);
	say(&ready, -1);
	turns(2);
	CHECK_INT(link_of(&producer)->credit, LINK_WINDOW);
	close(wire);
	ends_with(&producer, CCF_UNAVAILABLE);
}

CASE(what_the_socket_does_not_take_goes_later_in_order)
{
	struct note ready = { .verb = NOTE_READY, .n = LINK_WINDOW }, n;
	struct env env = { 0 };
	static char big[4000];
	uint64_t heard = 0;
	int64_t limit = clock_ms() + LONG;

	alone(&producer, NOTE_PRODUCER);
	greet(NOTE_CONSUMER);
	memset(big, 'v', sizeof(big) - 1);
	for (int i = 0; i < 12; i++) {
		char name[16];

		snprintf(name, sizeof(name), "SSL_X%d", i);
		CHECK_INT(env_set(&env, name, big), 0);
	}
	say(&ready, -1);
	turns(1);
	for (int i = 0; i < LINK_WINDOW; i++) { /* 32 times 48 KiB */
		sent[i].lc.ops = &conn_ops;
		CHECK_INT(link_conn(link_of(&producer), &sent[i].lc, &env, something_to_send()), 0);
	}
	CHECK_INT(link_eof(&sent[31].lc), -EAGAIN);
	turns(3);
	CHECK_INT(sent[31].flushed, 0);
	CHECK_INT(hear(&n), NOTE_HELLO);
	while (heard < LINK_WINDOW && clock_ms() < limit) {
		if (hear(&n) == NOTE_CONN)
			CHECK_INT(n.id, ++heard);
		turns(1);
	}
	CHECK_INT(heard, LINK_WINDOW);
	turns(2);
	CHECK_INT(sent[31].flushed, 1);
	CHECK_INT(hear(&n), NOTE_EOF);
	CHECK_INT(n.id, 32);
	env_free(&env);
	close(wire);
	turns(2);
	CHECK_INT(sent[0].lost, 1);
	ends_with(&producer, CCF_UNAVAILABLE);
}

int
main(void)
{
	return check_main((struct check_case[]){
	    RUN(after_the_hellos_there_is_credit_and_no_more_than_the_window),
	    RUN(without_room_nothing_is_granted_until_there_is_some),
	    RUN(a_connection_taken_is_counted_until_it_is_closed),
	    RUN(a_connection_given_leaves_no_copy_with_the_giver),
	    RUN(an_adopt_that_crosses_closed_is_closed_unread),
	    RUN(an_eof_is_told_once_and_either_side_may_say_it),
	    RUN(an_eof_already_on_its_way_is_known_after_a_pump),
	    RUN(credit_is_refilled_as_it_is_used),
	    RUN(an_id_left_behind_stays_open_until_the_consumer_says_closed),
	    RUN(after_drain_nothing_new_is_sent_and_what_was_is_served),
	    RUN(when_a_link_ends_each_open_id_is_lost_once),
	    RUN(the_last_words_of_one_that_died_are_heard),
	    RUN(the_consumer_speaks_first_and_grants_after_the_hellos),
	    RUN(what_breaks_the_protocol_ends_the_link_with_76),
	    RUN(a_message_before_the_hello_and_a_hello_of_the_same_role_end_it),
	    RUN(one_byte_too_many_ends_it),
	    RUN(descriptors_where_none_belong_end_it_and_none_leaks),
	    RUN(a_connection_number_used_twice_and_one_without_credit_end_it),
	    RUN(unknown_verbs_names_and_numbers_are_ignored),
	    RUN(credit_above_the_window_is_not_believed),
	    RUN(what_the_socket_does_not_take_goes_later_in_order),
	    { 0 },
	});
}
