/* Programs on a real Unix socket, in this process as well: what they send and get goes through the
 * kernel.  Nobody sleeps: turns are made until what is waited for has come. */
#include "flow/apps.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "check.h"
#include "flow/range.h"

#define MAX_FRAME 4000000
#define MOST	  65536
#define TURNS	  2000 /* as many are waited for something, 5 ms each at most */

static struct reactor *loop;
static struct apps apps;
static char dir[] = "/tmp/ccf-unit-apps.XXXXXX", path[64];
static struct text sent; /* what programs sent: a line each */
static unsigned n_sent, changed, asked;
static bool full_network;
static int memory, real_stderr;

/* ---- the network's side ---- */

static bool
net_room(void *arg, const char *to, size_t len)
{
	CHECK(arg == &apps);
	asked++;
	return !full_network || len != 2 || memcmp(to, "n2", 2) != 0;
}

static unsigned
sum_range(const struct range *r)
{
	static char bytes[65536];
	unsigned sum = 0;
	off_t at = r->offset;
	ssize_t n;

	while ((n = pread(r->fd, bytes, sizeof(bytes), at)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			sum = sum * 31 + (unsigned char)bytes[i];
		at += n;
	}
	CHECK_INT(at - r->offset, r->len);
	return sum;
}

static void
net_send(void *arg, const struct message *m)
{
	(void)arg;
	n_sent++;
	text_add(&sent, "%.*s<%.*s %llu ", (int)m->frame.to_len, m->frame.to,
	    (int)m->frame.from_len, m->frame.from, (unsigned long long)m->frame.type);
	if (m->payload)
		text_add(&sent, "%.*s\n", (int)m->frame.payload, m->payload);
	else {
		CHECK(m->range && m->range->len == m->frame.payload);
		text_add(&sent, "#%u\n", sum_range(m->range));
	}
}

static void
net_changed(void *arg)
{
	CHECK(arg == &apps);
	CHECK(apps_ready(&apps) || (apps.draining && apps_idle(&apps)));
	changed++;
}

static struct apps_config config;

/* What floods is held back, and lines are counted here: two classes are made to flood, and begin
 * anew. */
static void
quiet(void)
{
	for (int i = 0; i < 11; i++) {
		struct sockaddr_un un = { .sun_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		strcpy(un.sun_path, path);
		CHECK_INT(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
		CHECK_INT(reactor_turn(loop, -1), 0);
		CHECK_INT(apps.n, 1);
		close(fd);
		CHECK_INT(reactor_turn(loop, -1), 0);
		CHECK_INT(apps.n, 0);
	}
	log_flush_held(CLOCK_NEVER);
	CHECK_INT(ftruncate(memory, 0), 0);
	lseek(memory, 0, SEEK_SET);
	apps.count = changed = 0;
}

static void
begin(void)
{
	char msg[200];

	text_free(&sent);
	n_sent = asked = 0;
	full_network = false;
	fflush(stdout);
	memory = memfd_create("log", MFD_CLOEXEC);
	real_stderr = fcntl(2, F_DUPFD_CLOEXEC, 0);
	dup2(memory, 2);
	CHECK_INT(reactor_new(&loop), 0);
	config = (struct apps_config){ .reactor = loop,
		.path = path,
		.socket_mode = 0666,
		.socket_group = (gid_t)-1,
		.peer_user = (uid_t)-1,
		.id = "n1",
		.id_len = 2,
		.max_frame = MAX_FRAME,
		.most = MOST,
		.room = net_room,
		.send = net_send,
		.changed = net_changed,
		.arg = &apps };
	CHECK_INT(apps_open(&apps, &config, msg, sizeof(msg)), 0);
	quiet();
}

/* Since begin(). */
static const char *
logged(void)
{
	static char out[64 * 1024];
	ssize_t n = pread(memory, out, sizeof(out) - 1, 0);

	out[n > 0 ? n : 0] = '\0';
	return out;
}

static unsigned
count(const char *in, const char *what)
{
	unsigned n = 0;

	while ((in = strstr(in, what))) {
		in += strlen(what);
		n++;
	}
	return n;
}

static void
end(void)
{
	struct stat st;

	apps_close(&apps);
	apps_close(&apps);
	CHECK(lstat(path, &st) < 0);
	reactor_free(loop);
	text_free(&sent);
	dup2(real_stderr, 2);
	if (check_failed)
		printf("# log:\n%s", logged());
	close(real_stderr);
	close(memory);
}

static void
turn(void)
{
	CHECK_INT(reactor_turn(loop, 5), 0);
}

#define UNTIL(x)                                                                                   \
	do {                                                                                       \
		int until_left = TURNS;                                                            \
		while (!(x) && --until_left)                                                       \
			turn();                                                                    \
		CHECK(x);                                                                          \
	} while (0)

/* Nobody calls for anything: turns take as long as they may. */
static void
rest(void)
{
	int64_t since;

	for (int i = 0; i < 3; i++)
		turn();
	since = clock_us();
	for (int i = 0; i < 3; i++)
		turn();
	CHECK(clock_us() - since >= 12000);
}

/* A message as it comes from n2; whole, or with its payload in a file. */
static void
message(const void *payload, size_t len)
{
	static char raw[FRAME_HEAD_MAX + MOST];
	struct message m = { .raw = raw, .payload = payload };
	size_t head = frame_write_head(raw, FRAME_CONSENSUS, "n2", 2, len);

	memcpy(raw + head, payload, len);
	m.payload = raw + head;
	CHECK_INT(frame_parse(&m.frame, raw, head, MAX_FRAME, false), 1);
	apps_message(&apps, &m);
}

static void
long_message(struct range *r)
{
	char raw[FRAME_HEAD_MAX];
	struct message m = { .raw = raw, .range = r };
	size_t head = frame_write_head(raw, FRAME_CONSENSUS, "n2", 2, r ? r->len : 70000);

	CHECK_INT(frame_parse(&m.frame, raw, head, MAX_FRAME, false), 1);
	apps_message(&apps, &m);
}

/* ---- programs ---- */

struct program {
	int fd;
	char *got;
	size_t len, cap;
	bool ended;
	int error;
};

static void
dial(struct program *p)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	*p = (struct program){ .fd =
				   socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
	strcpy(un.sun_path, path);
	CHECK_INT(connect(p->fd, (struct sockaddr *)&un, sizeof(un)), 0);
}

static void
attach(struct program *p)
{
	unsigned n = apps.n;

	dial(p);
	UNTIL(apps.n == n + 1);
}

static void
leave(struct program *p)
{
	if (p->fd >= 0)
		close(p->fd);
	free(p->got);
	*p = (struct program){ .fd = -1 };
}

/* Reads all there is. */
static size_t
hear(struct program *p)
{
	ssize_t n;

	for (;;) {
		if (p->len == p->cap) {
			p->cap = p->cap ? 2 * p->cap : 65536;
			p->got = realloc(p->got, p->cap);
		}
		n = recv(p->fd, p->got + p->len, p->cap - p->len, 0);
		if (n <= 0)
			break;
		p->len += (size_t)n;
	}
	if (n == 0)
		p->ended = true;
	else if (errno != EAGAIN)
		p->ended = (p->error = errno) != 0;
	return p->len;
}

static void
send_all(struct program *p, const void *bytes, size_t len)
{
	const char *at = bytes;

	for (int left = TURNS; len > 0 && left; left--) {
		ssize_t n = send(p->fd, at, len, MSG_NOSIGNAL);

		if (n > 0) {
			at += n;
			len -= (size_t)n;
		} else
			turn();
	}
	CHECK_INT(len, 0);
}

/* An addressed frame; its length. */
static size_t
frame(char *to, const char *dest, const char *from, const void *payload, size_t len)
{
	size_t n = frame_write_dest(to, dest, strlen(dest)), from_len = strlen(from);
	uint64_t words[2] = { htole64(FRAME_CONSENSUS), htole64(from_len) };
	uint32_t size = htole32((uint32_t)(16 + from_len + len));

	memcpy(to + n, &size, 4);
	memcpy(to + n + 4, words, 16);
	memcpy(to + n + 20, from, from_len);
	memcpy(to + n + 20 + from_len, payload, len);
	return n + 20 + from_len + len;
}

static void
say(struct program *p, const char *dest, const char *from, const char *payload)
{
	char bytes[2048];

	send_all(p, bytes, frame(bytes, dest, from, payload, strlen(payload)));
}

/* Checks the next message in what was got from *at on, and steps over it. */
static bool
next_is(const struct program *p, size_t *at, const void *payload, size_t len)
{
	struct frame f;

	if (frame_parse(&f, p->got + *at, p->len - *at, MAX_FRAME, false) != 1)
		return false;
	if (f.payload != len || p->len - *at < f.head + len || f.from_len != 2 ||
	    memcmp(f.from, "n2", 2) || memcmp(p->got + *at + f.head, payload, len))
		return false;
	*at += f.head + len;
	return true;
}

static int
open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static struct range *
range_made(size_t len)
{
	char *bytes = malloc(len);
	struct range *r;

	for (size_t i = 0; i < len; i++)
		bytes[i] = (char)(i * 7 + i / 251);
	CHECK_INT(range_new(&r, NULL, NULL), 0);
	CHECK_INT(range_write(r, bytes, len), 0);
	CHECK_INT(range_done(r), 0);
	free(bytes);
	return r;
}

/* ---- towards programs ---- */

CASE(every_program_gets_every_message_in_order)
{
	static char payload[3000];
	struct program p[3];
	size_t all = 0, at;

	begin();
	memset(payload, 'x', sizeof(payload));
	for (int i = 0; i < 3; i++)
		attach(&p[i]);
	for (unsigned k = 0; k < 3000; k++) {
		size_t len = k % 5 == 4 ? k : k % 7;

		memcpy(payload, &k, sizeof(k));
		UNTIL(apps_ready(&apps));
		message(payload, len);
		all += 22 + len;
		for (int i = 0; i < 3 && k % 100 == 0; i++)
			hear(&p[i]);
	}
	for (int i = 0; i < 3; i++) {
		UNTIL(hear(&p[i]) == all);
		at = 0;
		for (unsigned k = 0; k < 3000; k++) {
			memcpy(payload, &k, sizeof(k));
			if (!next_is(&p[i], &at, payload, k % 5 == 4 ? k : k % 7)) {
				CHECK_INT(k, -1);
				break;
			}
		}
		CHECK_INT(at, all);
		leave(&p[i]);
	}
	UNTIL(apps.n == 0);
	CHECK_INT(count(logged(), "messages: 0 in, 3000 out\n"), 3);
	end();
}

CASE(the_messages_of_a_turn_go_out_at_its_end)
{
	struct program p;

	begin();
	attach(&p);
	for (int i = 0; i < 100; i++)
		message("0123456789", 10);
	CHECK_INT(hear(&p), 0);
	reactor_turn(loop, 0);
	CHECK_INT(hear(&p), 3200);
	CHECK(apps_idle(&apps));
	leave(&p);
	end();
}

CASE(it_is_ready_when_somebody_listens)
{
	struct program p[2];

	begin();
	CHECK(!apps_ready(&apps));
	CHECK_INT(changed, 0);
	attach(&p[0]);
	CHECK(apps_ready(&apps));
	CHECK_INT(changed, 1);
	attach(&p[1]);
	CHECK_INT(changed, 1);
	leave(&p[0]);
	UNTIL(apps.n == 1);
	CHECK(apps_ready(&apps));
	leave(&p[1]);
	UNTIL(apps.n == 0);
	CHECK(!apps_ready(&apps));
	CHECK_INT(changed, 1);
	attach(&p[1]);
	CHECK_INT(changed, 2);
	CHECK_INT(count(logged(), "attached\n"), 3);
	CHECK(strstr(logged(), ": program 2 (user "));
	leave(&p[1]);
	end();
}

CASE(a_slow_program_holds_everything_up_and_loses_nothing)
{
	static char payload[1000];
	struct program slow, quick;
	unsigned k = 0, before;
	size_t at = 0;

	begin();
	attach(&slow);
	attach(&quick);
	before = changed;
	for (; k < 100000 && apps_ready(&apps); k++) {
		memcpy(payload, &k, sizeof(k));
		message(payload, sizeof(payload));
		if (k % 50 == 0)
			turn();
		hear(&quick);
	}
	CHECK(k > APPS_HIGH / 1100 && k < 4000);
	UNTIL(hear(&quick) == 1022 * k);
	rest();
	CHECK(!apps_ready(&apps));
	CHECK_INT(changed, before);
	message("late", 4); /* above the bound */
	UNTIL(hear(&slow) >= 10000 && hear(&quick) == 1022 * k + 26);
	UNTIL(hear(&slow) == 1022 * k + 26);
	CHECK(apps_ready(&apps));
	CHECK_INT(changed, before + 1);
	for (unsigned i = 0; i < k; i++) {
		memcpy(payload, &i, sizeof(i));
		CHECK(next_is(&slow, &at, payload, sizeof(payload)));
	}
	CHECK(next_is(&slow, &at, "late", 4));
	leave(&slow);
	leave(&quick);
	UNTIL(apps.n == 0);
	CHECK_INT(count(logged(), "lost"), 0);
	end();
}

CASE(a_slow_program_that_goes_holds_nobody_up_and_its_loss_is_counted)
{
	static char payload[1000];
	struct program slow, quick;
	unsigned before;

	begin();
	attach(&slow);
	attach(&quick);
	while (apps_ready(&apps)) {
		message(payload, sizeof(payload));
		turn();
		hear(&quick);
	}
	before = changed;
	leave(&slow);
	UNTIL(apps.n == 1);
	CHECK(apps_ready(&apps));
	CHECK_INT(changed, before + 1);
	CHECK(
	    strstr(logged(), "detached: it closed, and had not read everything; messages: 0 in, "));
	CHECK(strstr(logged(), " lost\n"));
	leave(&quick);
	end();
}

CASE(a_long_payload_comes_from_its_file_one_at_a_time)
{
	struct range *r = range_made(3000000);
	struct program p[2];
	char *bytes = malloc(3000000);
	size_t at;
	int before = open_descriptors();

	CHECK_INT(pread(r->fd, bytes, 3000000, 0), 3000000);
	begin();
	attach(&p[0]);
	attach(&p[1]);
	message("a", 1);
	long_message(r);
	CHECK(!apps_ready(&apps));
	message("b", 1);
	range_free(r);
	UNTIL(hear(&p[0]) == 3000000 + 23 + 22 + 23);
	CHECK(!apps_ready(&apps));
	UNTIL(hear(&p[1]) == 3000000 + 23 + 22 + 23);
	CHECK(apps_ready(&apps));
	CHECK_INT(changed, 2);
	for (int i = 0; i < 2; i++) {
		at = 0;
		CHECK(next_is(&p[i], &at, "a", 1));
		CHECK(next_is(&p[i], &at, bytes, 3000000));
		CHECK(next_is(&p[i], &at, "b", 1));
		leave(&p[i]);
	}
	long_message(NULL); /* there was no room for it on the disk */
	CHECK_INT(count(logged(), "a message from a peer was dropped: its payload could not"), 1);
	end();
	CHECK_INT(open_descriptors(), before - 1);
	free(bytes);
}

CASE(a_file_that_shrinks_is_a_message_less_or_the_end)
{
	struct range *r = range_made(3000000);
	struct program p;
	size_t at = 0;

	begin();
	attach(&p);
	message("a", 1);
	long_message(r);
	message("b", 1);
	CHECK_INT(ftruncate(r->fd, 2000000), 0);
	UNTIL(hear(&p) == 2 * 23);
	CHECK(next_is(&p, &at, "a", 1) && next_is(&p, &at, "b", 1));
	CHECK(apps_ready(&apps));
	CHECK_INT(count(logged(), "a message to program 1 was dropped: its file has shrunk"), 1);
	CHECK_INT(ftruncate(r->fd, 3000000), 0);
	long_message(r);
	message("c", 1);
	UNTIL(apps.listening == 0 || hear(&p) > 100000);
	CHECK_INT(ftruncate(r->fd, 10), 0);
	UNTIL(apps.n == 0);
	UNTIL((hear(&p), p.ended));
	CHECK(p.len < 3000000);
	CHECK_INT(count(logged(), "detached: a file has shrunk under a message"), 1);
	CHECK_INT(count(logged(), "2 out, 3 lost\n"), 1);
	range_free(r);
	leave(&p);
	end();
}

/* ---- from programs ---- */

CASE(what_a_program_sends_goes_to_whom_it_says)
{
	struct program p[2];

	begin();
	attach(&p[0]);
	attach(&p[1]);
	say(&p[0], "n2", "", "one");
	UNTIL(n_sent == 1);
	say(&p[1], "n3", "n1", "two");
	UNTIL(n_sent == 2);
	say(&p[0], "n4", "", "");
	UNTIL(n_sent == 3);
	CHECK_STR(sent.at, "n2< 1 one\nn3<n1 1 two\nn4< 1 \n");
	leave(&p[0]);
	leave(&p[1]);
	UNTIL(apps.n == 0);
	CHECK_INT(count(logged(), "detached: it closed; messages: 2 in, 0 out\n"), 1);
	end();
}

CASE(a_frame_that_comes_byte_by_byte_is_one)
{
	char bytes[200];
	size_t len = frame(bytes, "n2", "n1", "one", 3);
	struct program p;

	begin();
	attach(&p);
	for (size_t i = 0; i < len; i++) {
		CHECK_INT(n_sent, 0);
		send_all(&p, bytes + i, 1);
		turn();
	}
	UNTIL(n_sent == 1);
	CHECK_STR(sent.at, "n2<n1 1 one\n");
	leave(&p);
	end();
}

CASE(a_long_payload_of_a_program_lies_in_a_file)
{
	struct range *r = range_made(3000000);
	char *bytes = malloc(3000000 + 100);
	struct text want = { 0 };
	struct program p;
	int before;

	begin();
	attach(&p);
	before = open_descriptors();
	text_add(&want, "n2< 1 a\nn2< 1 #%u\nn2< 1 b\n", sum_range(r));
	say(&p, "n2", "", "a");
	{
		char *payload = malloc(3000000);

		CHECK_INT(pread(r->fd, payload, 3000000, 0), 3000000);
		send_all(&p, bytes, frame(bytes, "n2", "", payload, 3000000));
		free(payload);
	}
	say(&p, "n2", "", "b");
	UNTIL(n_sent == 3);
	CHECK_STR(sent.at, want.at);
	CHECK_INT(open_descriptors(), before);
	leave(&p);
	end();
	text_free(&want);
	range_free(r);
	free(bytes);
}

CASE(a_message_that_cannot_be_kept_is_dropped_aloud)
{
	char *bytes = malloc(70000 + 100), *zeros = calloc(70000, 1);
	const char *tmp = getenv("TMPDIR");
	struct program p;

	begin();
	attach(&p);
	setenv("TMPDIR", "/proc/self/no-such", 1);
	send_all(&p, bytes, frame(bytes, "n2", "", zeros, 70000));
	say(&p, "n2", "", "b");
	UNTIL(n_sent == 1);
	CHECK_STR(sent.at, "n2< 1 b\n");
	CHECK_INT(count(logged(), "a message from program 1 was dropped: No such file"), 1);
	if (tmp)
		setenv("TMPDIR", tmp, 1);
	else
		unsetenv("TMPDIR");
	leave(&p);
	end();
	free(bytes);
	free(zeros);
}

CASE(who_sends_to_a_full_queue_waits_alone)
{
	struct program p[2];

	begin();
	attach(&p[0]);
	attach(&p[1]);
	full_network = true;
	say(&p[0], "n3", "", "one");
	say(&p[0], "n2", "", "two");
	say(&p[0], "n3", "", "three");
	UNTIL(asked == 2);
	say(&p[1], "n3", "", "four");
	UNTIL(n_sent == 2);
	CHECK_STR(sent.at, "n3< 1 one\nn3< 1 four\n");
	say(&p[1], "n3", "", "x");
	UNTIL(n_sent == 3);
	/* It is not read, and asked about only when there is a reason to. */
	rest();
	CHECK_INT(asked, 4);
	apps_resume(&apps);
	UNTIL(asked == 5);
	full_network = false;
	message("still heard", 11);
	UNTIL(hear(&p[0]) == 33);
	apps_resume(&apps);
	UNTIL(n_sent == 5);
	CHECK_STR(sent.at, "n3< 1 one\nn3< 1 four\nn3< 1 x\nn2< 1 two\nn3< 1 three\n");
	leave(&p[0]);
	leave(&p[1]);
	end();
}

CASE(what_was_sent_before_the_end_is_passed_on)
{
	static char payload[1000];
	struct program p;

	begin();
	attach(&p);
	full_network = true;
	memset(payload, 'x', sizeof(payload) - 1);
	for (int i = 0; i < 100; i++)
		say(&p, "n2", "", payload);
	UNTIL(asked == 1);
	leave(&p);
	rest(); /* nobody listens any more, but it is not over */
	CHECK_INT(apps.n, 1);
	CHECK_INT(apps.listening, 0);
	CHECK(!apps_ready(&apps));
	CHECK_INT(asked, 1);
	full_network = false;
	apps_resume(&apps);
	UNTIL(apps.n == 0);
	CHECK_INT(n_sent, 100);
	CHECK_INT(count(logged(), "detached: it closed; messages: 100 in, 0 out\n"), 1);
	end();
}

CASE(who_closed_before_it_was_let_in_is_no_listener)
{
	struct program p;

	begin();
	dial(&p);
	say(&p, "n2", "", "word");
	leave(&p);
	UNTIL(n_sent == 1);
	UNTIL(apps.n == 0);
	CHECK_INT(apps.count, 1);
	CHECK_INT(changed, 0);
	end();
}

CASE(who_shuts_its_writing_side_goes_on_listening)
{
	struct program p;

	begin();
	attach(&p);
	say(&p, "n2", "", "last");
	CHECK_INT(shutdown(p.fd, SHUT_WR), 0);
	UNTIL(n_sent == 1);
	rest();
	CHECK_INT(apps.n, 1);
	CHECK(apps_ready(&apps));
	message("more", 4);
	UNTIL(hear(&p) == 26);
	leave(&p);
	UNTIL(apps.n == 0);
	CHECK_INT(count(logged(), "detached: it closed; messages: 1 in, 1 out\n"), 1);
	end();
}

CASE(who_shuts_its_reading_side_is_waited_for_by_nobody)
{
	struct program p, q;

	begin();
	attach(&p);
	CHECK_INT(shutdown(p.fd, SHUT_RD), 0);
	message("none", 4);
	UNTIL(apps.listening == 0);
	CHECK_INT(apps.n, 1);
	CHECK(!apps_ready(&apps));
	attach(&q);
	CHECK(apps_ready(&apps));
	message("one", 3);
	UNTIL(hear(&q) == 25);
	say(&p, "n2", "", "word");
	UNTIL(n_sent == 1);
	leave(&p);
	UNTIL(apps.n == 1);
	CHECK_INT(count(logged(), "detached: it closed; messages: 1 in, 0 out, 1 lost\n"), 1);
	leave(&q);
	end();
}

/* ---- faults ---- */

static struct fault {
	const char *bytes;
	size_t len;
	const char *says;
} faults[] = {
#define BYTES(s) s, sizeof(s) - 1
#define TO	 "\2\0\0\0\0\0\0\0n2"
	{ BYTES("\0\0\0\0\0\0\0\0"), "a frame without a destination" },
	{ BYTES("\1\4\0\0\0\0\0\0"), "a destination of 1025 bytes, 1024 is the most" },
	{ BYTES("\0\0\0\0\0\0\0\1"), "a destination of 72057594037927936 bytes" },
	{ BYTES(TO "\1\11\75\0"), "a frame of 4000001 bytes, --max-frame is 4000000" },
	{ BYTES(TO "\17\0\0\0"), "a frame of 15 bytes, its headers alone are 16" },
	{ BYTES(TO "\22\0\0\0\1\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0"), "a sender of 3 bytes in a frame" },
	{ BYTES(TO "\0\20\0\0\1\0\0\0\0\0\0\0\1\4\0\0\0\0\0\0"), "a sender of 1025 bytes, 1024" },
	{ BYTES(TO "\22\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0n7"),
	    "a frame of sender n7, but we are n1" },
	{ BYTES(TO "\23\0\0\0\1\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0n\0\n"),
	    "a frame of sender n%00%0A, but we are n1" },
	{ BYTES(TO "\377\10\75\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
	    "with our id a frame of 4000001 bytes, --max-frame is 4000000" },
	{ NULL, 0, NULL },
};

static void
fault_case(const struct fault *f)
{
	struct program good, bad;
	unsigned before;

	begin();
	attach(&good);
	attach(&bad);
	say(&bad, "n2", "n1", "fine");
	send_all(&bad, f->bytes, f->len - 1);
	UNTIL(n_sent == 1);
	for (int i = 0; i < 3; i++)
		turn();
	CHECK_INT(apps.n, 2);
	before = count(logged(), "\n");
	send_all(&bad, f->bytes + f->len - 1, 1);
	UNTIL(apps.n == 1);
	CHECK_INT(count(logged(), "\n"), before + 1);
	CHECK_INT(count(logged(), f->says), 1);
	UNTIL((hear(&bad), bad.ended));
	leave(&bad);
	message("on", 2);
	say(&good, "n2", "n1", "on");
	UNTIL(n_sent == 2);
	UNTIL(hear(&good) == 24);
	CHECK(apps_ready(&apps));
	leave(&good);
	end();
}

CASE(a_fault_ends_its_program_at_its_byte_and_the_others_go_on)
{
	for (const struct fault *f = faults; f->bytes; f++)
		fault_case(f);
}

CASE(an_end_within_a_frame_is_a_fault_at_every_byte)
{
	char bytes[200], says[96];
	size_t len = frame(bytes, "n2", "", "payload", 7);
	struct program p;

	for (size_t i = 1; i < len; i++) {
		begin();
		attach(&p);
		send_all(&p, bytes, i);
		CHECK_INT(shutdown(p.fd, SHUT_WR), 0);
		UNTIL(apps.n == 0);
		snprintf(says, sizeof(says), "detached: it ended within a frame, %zu bytes of %s; ",
		    i, i < 14 ? "its head" : "37");
		CHECK_INT(count(logged(), says), 1);
		CHECK_INT(n_sent, 0);
		leave(&p);
		end();
	}
}

CASE(what_was_right_before_a_fault_is_passed_on)
{
	char bytes[300];
	size_t len = frame(bytes, "n2", "", "a", 1);
	struct program p;

	begin();
	attach(&p);
	len += frame(bytes + len, "n2", "", "b", 1);
	memset(bytes + len, 0, 8);
	send_all(&p, bytes, len + 8);
	UNTIL(apps.n == 0);
	CHECK_STR(sent.at, "n2< 1 a\nn2< 1 b\n");
	leave(&p);
	end();
}

/* ---- who may ---- */

/* A program of another user; its exit status says whether it was left attached until it was heard.
 */
static pid_t
stranger(uid_t uid)
{
	struct program p;
	char word[8];
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (setgid(12345) < 0 || setuid(uid) < 0)
		_exit(3);
	dial(&p);
	fcntl(p.fd, F_SETFL, 0);
	_exit(recv(p.fd, word, sizeof(word), 0) > 0 ? 0 : 1);
}

static int
exit_of(pid_t pid)
{
	int status = -1, left = TURNS;

	while (waitpid(pid, &status, WNOHANG) == 0 && --left) {
		turn();
		if (apps_ready(&apps))
			message("hello", 5);
	}
	return left && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

CASE(only_who_may_attach_does)
{
	if (geteuid() != 0)
		SKIP("needs root");
	begin();
	chmod(dir, 0711);
	CHECK_INT(exit_of(stranger(65534)), 1);
	CHECK_INT(apps.count, 0);
	CHECK_INT(count(logged(), "user 65534 may not (--peer-user)\n"), 1);
	apps.cfg.peer_user = 65534;
	CHECK_INT(exit_of(stranger(65534)), 0);
	CHECK_INT(count(logged(), "program 1 (user 65534) attached\n"), 1);
	CHECK_INT(exit_of(stranger(65533)), 1);
	UNTIL(apps.n == 0);
	end();
}

CASE(one_too_many_waits_until_one_has_gone)
{
	struct program p[APPS_MAX + 1];

	begin();
	for (int i = 0; i < APPS_MAX; i++)
		attach(&p[i]);
	dial(&p[APPS_MAX]);
	say(&p[APPS_MAX], "n2", "", "patient");
	rest();
	CHECK_INT(apps.n, APPS_MAX);
	CHECK_INT(n_sent, 0);
	CHECK_INT(count(logged(), "16 programs are attached: the next one waits"), 1);
	leave(&p[3]);
	UNTIL(n_sent == 1);
	CHECK_INT(apps.n, APPS_MAX);
	message("all", 3);
	for (int i = 0; i <= APPS_MAX; i++)
		if (i != 3) {
			UNTIL(hear(&p[i]) == 25);
			leave(&p[i]);
		}
	end();
}

CASE(out_of_descriptors_they_wait)
{
	struct rlimit found, low;
	struct program p;
	int lowest;

	begin();
	dial(&p);
	getrlimit(RLIMIT_NOFILE, &found);
	lowest = dup(0);
	close(lowest);
	low = found;
	low.rlim_cur = (rlim_t)lowest;
	setrlimit(RLIMIT_NOFILE, &low);
	UNTIL(apps.retry.slot);
	CHECK_INT(apps.n, 0);
	setrlimit(RLIMIT_NOFILE, &found);
	UNTIL(apps.n == 1);
	leave(&p);
	end();
}

CASE(a_path_that_is_taken_is_said)
{
	struct apps other = { 0 };
	char msg[200];

	begin();
	CHECK_INT(apps_open(&other, &config, msg, sizeof(msg)), -EADDRINUSE);
	CHECK(strstr(msg, ": cannot bind it: somebody listens there"));
	config.path = dir;
	CHECK_INT(apps_open(&other, &config, msg, sizeof(msg)), -ENOTSOCK);
	CHECK(strstr(msg, ": cannot bind it: another kind of file is there"));
	CHECK(!other.cfg.reactor);
	apps_close(&other);
	apps_drain(&other);
	end();
}

/* ---- the end ---- */

CASE(drained_it_reads_no_program_and_each_gets_what_comes_and_the_end)
{
	static char payload[1000];
	struct program p[2];
	unsigned k = 0, before;
	struct stat st;

	begin();
	attach(&p[0]);
	attach(&p[1]);
	for (; k < 600; k++)
		message(payload, sizeof(payload));
	turn();
	hear(&p[1]);
	before = changed;
	apps_drain(&apps);
	apps_drain(&apps);
	CHECK(apps_ready(&apps) && !apps_idle(&apps));
	CHECK(lstat(path, &st) < 0);
	say(&p[0], "n2", "", "too late");
	UNTIL(hear(&p[1]) == 1022 * k);
	CHECK(!apps_idle(&apps));
	CHECK_INT(changed, before);
	UNTIL(hear(&p[0]) == 1022 * k);
	CHECK(apps_idle(&apps));
	CHECK_INT(changed, before + 1);
	message("one", 3);
	turn();
	CHECK_INT(changed, before + 2);
	rest();
	CHECK_INT(n_sent, 0);
	CHECK_INT(apps.n, 2);
	apps_close(&apps);
	for (int i = 0; i < 2; i++) {
		hear(&p[i]);
		CHECK_INT(p[i].len, 1022 * k + 25);
		CHECK(p[i].ended);
		CHECK_INT(p[i].error, i == 0 ? ECONNRESET : 0);
		leave(&p[i]);
	}
	CHECK_INT(count(logged(), "detached: we end; messages: 0 in, 601 out\n"), 1);
	CHECK_INT(count(logged(), "601 out; what it sent last was not read\n"), 1);
	end();
}

CASE(drained_it_is_held_up_by_a_slow_program_as_ever)
{
	static char payload[1000];
	struct program p, q;
	unsigned before;

	begin();
	attach(&p);
	attach(&q);
	say(&q, "n2", "", "read");
	UNTIL(n_sent == 1);
	apps_drain(&apps);
	CHECK(apps_idle(&apps));
	before = changed;
	while (apps_ready(&apps))
		message(payload, sizeof(payload));
	leave(&q);
	UNTIL(apps.n == 1);
	UNTIL((hear(&p), apps_ready(&apps)));
	CHECK_INT(changed, before + 1);
	UNTIL((hear(&p), apps_idle(&apps)));
	CHECK_INT(changed, before + 2);
	leave(&p);
	UNTIL(apps.n == 0);
	CHECK(!apps_ready(&apps));
	end();
}

CASE(closed_with_much_under_way_it_leaves_nothing_behind)
{
	static char payload[1000];
	int before = open_descriptors();
	struct program p[5];
	struct range *r = range_made(300000);

	begin();
	for (int i = 0; i < 4; i++)
		attach(&p[i]);
	full_network = true;
	say(&p[0], "n2", "", "held");
	for (int i = 0; i < 800; i++)
		message(payload, sizeof(payload));
	long_message(r);
	range_free(r);
	send_all(&p[1], TO "\0\0\4\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0half of it", 40);
	UNTIL(asked == 1);
	attach(&p[4]);
	message("more", 4);
	apps_close(&apps);
	CHECK_INT(count(logged(), "detached: we end; messages: 0 in, "), 5);
	CHECK_INT(count(logged(), "; what it sent last was not read\n"), 2);
	turn();
	end();
	for (int i = 0; i < 5; i++)
		leave(&p[i]);
	CHECK_INT(open_descriptors(), before);
	apps = (struct apps){ 0 };
	apps_close(&apps);
}

int
main(void)
{
	int rc;

	signal(SIGPIPE, SIG_IGN);
	log_open("apps", false);
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/app", dir);
	rc = check_main((struct check_case[]){ RUN(every_program_gets_every_message_in_order),
	    RUN(the_messages_of_a_turn_go_out_at_its_end), RUN(it_is_ready_when_somebody_listens),
	    RUN(a_slow_program_holds_everything_up_and_loses_nothing),
	    RUN(a_slow_program_that_goes_holds_nobody_up_and_its_loss_is_counted),
	    RUN(a_long_payload_comes_from_its_file_one_at_a_time),
	    RUN(a_file_that_shrinks_is_a_message_less_or_the_end),
	    RUN(what_a_program_sends_goes_to_whom_it_says),
	    RUN(a_frame_that_comes_byte_by_byte_is_one),
	    RUN(a_long_payload_of_a_program_lies_in_a_file),
	    RUN(a_message_that_cannot_be_kept_is_dropped_aloud),
	    RUN(who_sends_to_a_full_queue_waits_alone),
	    RUN(what_was_sent_before_the_end_is_passed_on),
	    RUN(who_closed_before_it_was_let_in_is_no_listener),
	    RUN(who_shuts_its_writing_side_goes_on_listening),
	    RUN(who_shuts_its_reading_side_is_waited_for_by_nobody),
	    RUN(a_fault_ends_its_program_at_its_byte_and_the_others_go_on),
	    RUN(an_end_within_a_frame_is_a_fault_at_every_byte),
	    RUN(what_was_right_before_a_fault_is_passed_on), RUN(only_who_may_attach_does),
	    RUN(one_too_many_waits_until_one_has_gone), RUN(out_of_descriptors_they_wait),
	    RUN(a_path_that_is_taken_is_said),
	    RUN(drained_it_reads_no_program_and_each_gets_what_comes_and_the_end),
	    RUN(drained_it_is_held_up_by_a_slow_program_as_ever),
	    RUN(closed_with_much_under_way_it_leaves_nothing_behind), { 0 } });
	rmdir(dir);
	return rc;
}
