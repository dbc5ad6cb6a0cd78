/* Both ends of a channel in one process; and one end against packets made by hand. */
#include "flow/channel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "net/handoff.h"

static struct reactor *loop;

struct side {
	struct channel channel;
	unsigned heard, ended, bare; /* bare: without the descriptor that belongs to it */
	uint64_t last_id, disorder;
	struct order order;
	char payload[64];
	size_t len;
	struct stat fd;
	bool close_at_once;
};

static struct side a, b;

static void
on_order(struct channel *c, const struct order *o, const char *payload, size_t len, int fd)
{
	struct side *s = c->owner;

	s->heard++;
	s->disorder += o->id != 0 && o->id != s->last_id + 1;
	s->last_id = o->id;
	s->order = *o;
	s->len = len;
	memcpy(s->payload, payload, len < sizeof(s->payload) ? len : sizeof(s->payload));
	if (fd != -1) {
		fstat(fd, &s->fd);
		CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		close(fd);
	} else
		s->bare++;
	if (s->close_at_once)
		channel_close(c);
}

static void
on_end(struct channel *c)
{
	struct side *s = c->owner;

	s->ended++;
}

static const struct channel_ops ops = { .order = on_order, .ended = on_end };

static unsigned
open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void
begin(void)
{
	int pair[2];

	a = b = (struct side){ 0 };
	CHECK_INT(reactor_new(&loop), 0);
	CHECK_INT(channel_pair(pair), 0);
	CHECK(fcntl(pair[0], F_GETFD) & FD_CLOEXEC && fcntl(pair[0], F_GETFL) & O_NONBLOCK);
	channel_open(&a.channel, loop, pair[0], &ops, &a);
	channel_open(&b.channel, loop, pair[1], &ops, &b);
}

static void
end(void)
{
	channel_close(&a.channel);
	channel_close(&b.channel);
	channel_close(&b.channel);
	reactor_free(loop);
}

static int
say(struct side *s, enum order_verb verb, uint64_t id, int fd)
{
	return channel_say(&s->channel, &(struct order){ .verb = verb, .id = id }, NULL, 0, fd);
}

CASE(an_order_arrives_whole_and_its_descriptor_stays_the_callers)
{
	struct order o = {
		.verb = ORDER_RUN, .hub = 3, .id = 7, .value = -5, .flags = 9, .text = "abc"
	};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct stat st;

	begin();
	CHECK_INT(channel_say(&a.channel, &o, "payload", 8, null), 0);
	while (!b.heard)
		reactor_turn(loop, -1);
	CHECK(memcmp(&b.order, &o, sizeof(o)) == 0);
	CHECK_INT(b.len, 8);
	CHECK_STR(b.payload, "payload");
	CHECK_INT(fstat(null, &st), 0);
	CHECK(b.fd.st_rdev == st.st_rdev);
	CHECK_INT(say(&b, ORDER_FAILED, 7, -1), 0);
	while (!a.heard)
		reactor_turn(loop, -1);
	CHECK_INT(a.order.verb, ORDER_FAILED);
	end();
	close(null);
}

CASE(a_full_channel_never_waits_and_never_loses_an_order)
{
	enum { N = 5000 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned before;

	begin();
	before = open_descriptors();
	for (unsigned i = 1; i <= N; i++)
		CHECK_INT(i % 20 ? say(&a, ORDER_EXITED, i, -1) : say(&a, ORDER_LINK, i, null), 0);
	CHECK(a.channel.queued > 0);
	CHECK(open_descriptors() > before);
	while (b.heard < N)
		reactor_turn(loop, -1);
	CHECK_INT(b.last_id, N);
	CHECK_INT(b.disorder, 0);
	CHECK_INT(b.bare, N - N / 20);
	CHECK_INT(a.channel.queued, 0);
	CHECK_INT(open_descriptors(), before);
	end();
	close(null);
}

/* The kernel lets an ordinary user have no more descriptors on their way than it may have open. */
CASE(descriptors_that_the_kernel_refuses_to_carry_go_later)
{
	enum { N = 100 };
	uid_t me = geteuid();
	struct rlimit found, low;
	int other[2];

	begin();
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other) == 0);
	getrlimit(RLIMIT_NOFILE, &found);
	low = found;
	if (me == 0)
		CHECK_INT(seteuid(65534), 0);
	for (unsigned i = 1; i <= N; i++) {
		low.rlim_cur = 32;
		setrlimit(RLIMIT_NOFILE, &low);
		if (a.channel.queued > 0) { /* those are held open here */
			low.rlim_cur = 256;
			setrlimit(RLIMIT_NOFILE, &low);
		}
		CHECK_INT(say(&a, ORDER_LINK, i, other[0]), 0);
	}
	CHECK(a.channel.queued > 0);
	CHECK(a.channel.resend.slot);
	CHECK(!(a.channel.watch.want & WATCH_WRITE));
	while (b.heard < N)
		reactor_turn(loop, -1);
	CHECK_INT(b.disorder, 0);
	CHECK_INT(b.bare, 0);
	setrlimit(RLIMIT_NOFILE, &found);
	CHECK_INT(seteuid(me), 0);
	end();
	close(other[0]), close(other[1]);
}

/* Sends it as it is, and says how b ends. */
static const char *
faulty(const void *bytes, size_t len, int fd)
{
	struct handoff_out out = { .bytes = bytes, .len = len, .fd = -1 };
	unsigned before;
	const char *wrong;

	begin();
	before = open_descriptors();
	if (fd != -1)
		out.fd = dup(fd);
	CHECK_INT(handoff_send(a.channel.fd, &out, 1), 1);
	CHECK_INT(say(&a, ORDER_DRAIN, 0, -1), 0);
	while (!b.ended)
		reactor_turn(loop, -1);
	reactor_turn(loop, 0);
	CHECK_INT(b.ended, 1);
	CHECK_INT(b.heard, 0);
	CHECK_INT(say(&b, ORDER_UP, 0, -1), -EPIPE);
	CHECK_INT(open_descriptors(), before);
	wrong = b.channel.wrong;
	end();
	return wrong;
}

CASE(what_is_no_order_ends_the_channel_and_nothing_of_it_is_heard)
{
	struct long_order {
		struct order order;
		char more[16];
	} o = { .order = { .verb = ORDER_DRAIN } };
	static char large[HANDOFF_MAX];

	CHECK_STR(faulty(&o, 1, -1), "it gave an order of the wrong length");
	CHECK_STR(faulty(&o, sizeof(o.order) - 1, -1), "it gave an order of the wrong length");
	CHECK_STR(faulty(&o, sizeof(o.order) + 1, -1), "it gave an order of the wrong length");
	CHECK_STR(faulty(large, sizeof(large), -1), "it gave an order that there is none");
	CHECK(faulty(&o, sizeof(o.order), 0) != NULL);
	o.order.verb = ORDER_VERBS;
	CHECK_STR(faulty(&o, sizeof(o.order), -1), "it gave an order that there is none");
	o.order.verb = ORDER_LINK;
	CHECK(faulty(&o, sizeof(o.order), -1) != NULL);
	o.order.verb = ORDER_RUN;
	CHECK_STR(faulty(&o, sizeof(o.order), 0), "it gave an order of the wrong length");
	CHECK(faulty(&o, sizeof(o), -1) != NULL);
	o.order.verb = ORDER_GONE;
	o.order.hub = 65;
	CHECK_STR(
	    faulty(&o, sizeof(o.order), -1), "it gave an order about a link that there is none");
	o.order.hub = 64;
	memset(o.order.text, 'x', sizeof(o.order.text));
	CHECK_STR(faulty(&o, sizeof(o.order), -1), "it gave an order with an endless text");
}

CASE(what_was_said_before_the_end_is_heard_before_it)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	begin();
	CHECK_INT(
	    say(&b, ORDER_STATUS, 0, -1), 0); /* unread by a: then recv says ECONNRESET first */
	for (unsigned i = 1; i <= 40; i++)
		CHECK_INT(say(&a, ORDER_LINK, i, null), 0);
	channel_close(&a.channel);
	CHECK_INT(say(&b, ORDER_STATUS, 0, -1), -EPIPE);
	channel_pump(&b.channel);
	CHECK_INT(b.heard, 40);
	CHECK_INT(b.disorder, 0);
	CHECK_INT(b.ended, 1);
	CHECK(b.channel.wrong == NULL);
	channel_pump(&b.channel);
	CHECK_INT(b.ended, 1);
	CHECK_INT(a.ended, 0);
	end();
	close(null);
}

CASE(the_end_is_told_by_the_loop_too)
{
	begin();
	channel_close(&a.channel);
	while (!b.ended)
		reactor_turn(loop, -1);
	CHECK(b.channel.over);
	end();
}

CASE(an_order_whose_descriptor_did_not_fit_says_so)
{
	struct rlimit found, low;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	begin();
	CHECK_INT(say(&a, ORDER_LINK, 1, null), 0);
	getrlimit(RLIMIT_NOFILE, &found);
	low = found;
	low.rlim_cur = (rlim_t)dup(null); /* all below are in use */
	close((int)low.rlim_cur);
	setrlimit(RLIMIT_NOFILE, &low);
	CHECK_INT(say(&a, ORDER_LINK, 2, null), 0); /* who says it needs no other one */
	channel_pump(&b.channel);
	setrlimit(RLIMIT_NOFILE, &found);
	CHECK_INT(b.heard, 2);
	CHECK_INT(b.bare, 2);
	CHECK_INT(b.ended, 0);
	CHECK_INT(say(&a, ORDER_LINK, 3, null), 0);
	channel_pump(&b.channel);
	CHECK_INT(b.heard, 3);
	CHECK_INT(b.bare, 2);
	end();
	close(null);
}

CASE(closing_drops_what_is_queued_and_may_happen_while_an_order_is_heard)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	unsigned before = open_descriptors();

	begin();
	b.close_at_once = true;
	for (unsigned i = 1; i <= 2000; i++)
		CHECK_INT(say(&a, ORDER_MATERIAL, i, null), 0);
	while (!b.heard)
		reactor_turn(loop, -1);
	CHECK_INT(b.heard, 1);
	CHECK_INT(b.ended, 0);
	while (!a.ended)
		reactor_turn(loop, -1);
	CHECK_INT(a.channel.queued, 0);
	end();
	CHECK_INT(open_descriptors(), before);
	close(null);
}

CASE(too_much_is_refused)
{
	static char large[HANDOFF_MAX];

	begin();
	CHECK_INT(channel_say(&a.channel, &(struct order){ .verb = ORDER_RUN }, large,
		      HANDOFF_MAX - sizeof(struct order) + 1, 0),
	    -EMSGSIZE);
	CHECK_INT(channel_say(&a.channel, &(struct order){ .verb = ORDER_RUN, .id = 1 }, large,
		      HANDOFF_MAX - sizeof(struct order), 0),
	    0);
	channel_pump(&b.channel);
	CHECK_INT(b.heard, 1);
	CHECK_INT(b.len, HANDOFF_MAX - sizeof(struct order));
	end();
}

int
main(void)
{
	alarm(60);
	return check_main((struct check_case[]){
	    RUN(an_order_arrives_whole_and_its_descriptor_stays_the_callers),
	    RUN(a_full_channel_never_waits_and_never_loses_an_order),
	    RUN(descriptors_that_the_kernel_refuses_to_carry_go_later),
	    RUN(what_is_no_order_ends_the_channel_and_nothing_of_it_is_heard),
	    RUN(what_was_said_before_the_end_is_heard_before_it),
	    RUN(the_end_is_told_by_the_loop_too),
	    RUN(an_order_whose_descriptor_did_not_fit_says_so),
	    RUN(closing_drops_what_is_queued_and_may_happen_while_an_order_is_heard),
	    RUN(too_much_is_refused),
	    { 0 },
	});
}
