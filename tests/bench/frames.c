/* frames - what run.sh measures ccf-nodelink with: so many messages of SIZE bytes from one process
 * to another, as fast as they go, and the CPU time of each process that has a part in it.
 *
 * frames bare SIZE COUNT: a length and so many bytes, over one loopback connection: what the rest
 * is held against.
 *
 * frames app SIZE COUNT FROM PATH PID TO PATH PID: the same two programs at the --app sockets of
 * two nodes, FROM and TO their ids.
 *
 * It prints "WHO NS" for each, nanoseconds of CPU a message: bare-out bare-in; app-out link-out
 * link-in app-in.  Each message has its number in front, and the reader stops at the first that is
 * not the next one.  A tenth as many go before, and are not measured. */
#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BATCH 65536  /* bytes of one write, or one message */
#define READ  262144 /* of one read */
#define LIMIT 300    /* seconds for all of it */
#define PARTS 3
#define TYPE  2 /* forwarded */

static size_t size;
static uint64_t count;
static bool framed;			/* CCF's frames, not bare ones */
static const char *from = "", *to = ""; /* whose */

/* ---- the programs ---- */

static size_t
add(char *at, size_t len, const void *bytes, size_t n)
{
	memcpy(at + len, bytes, n);
	return len + n;
}

/* What stands before a payload. */
static size_t
head(char *at)
{
	uint64_t type = TYPE, to_len = strlen(to), from_len = strlen(from);
	uint32_t n = (uint32_t)(size + (framed ? 16 + from_len : 0));
	size_t len = 0;

	if (!framed)
		return add(at, 0, &n, sizeof(n));
	len = add(at, len, &to_len, sizeof(to_len));
	len = add(at, len, to, to_len);
	len = add(at, len, &n, sizeof(n));
	len = add(at, len, &type, sizeof(type));
	len = add(at, len, &from_len, sizeof(from_len));
	return add(at, len, from, from_len);
}

static void
put(int fd, const char *at, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n < 0)
			err(1, "writing");
		at += n;
		len -= (size_t)n;
	}
}

/* So many messages, numbered from first on. */
static void
pour(int fd, uint64_t first, uint64_t n)
{
	static char *bytes;
	static size_t before, one, most;

	if (!bytes) {
		bytes = calloc(1, 2 * BATCH + size + 4096);
		if (!bytes)
			err(1, "memory");
		before = head(bytes);
		one = before + size;
		most = one < BATCH ? BATCH / one : 1;
		for (size_t i = 1; i < most; i++)
			memcpy(bytes + i * one, bytes, one);
	}
	for (uint64_t end = first + n; first < end;) {
		size_t some = end - first < most ? (size_t)(end - first) : most;

		for (size_t i = 0; i < some; i++, first++)
			memcpy(bytes + i * one + before, &first, sizeof(first));
		put(fd, bytes, some * one);
	}
}

/* One message, if it is whole: its length; it has to be the next one. */
static size_t
message(const char *at, size_t len, uint64_t next)
{
	uint64_t number, from_len = 0;
	size_t before;
	uint32_t n;

	if (len < sizeof(n))
		return 0;
	memcpy(&n, at, sizeof(n));
	if (len - sizeof(n) < n)
		return 0;
	before = sizeof(n);
	if (framed) {
		memcpy(&from_len, at + 12, sizeof(from_len));
		before += 16 + from_len;
	}
	if (sizeof(n) + n != before + size)
		errx(1, "a message of the wrong length, %u", n);
	memcpy(&number, at + before, sizeof(number));
	if (number != next)
		errx(1, "message %ju came where %ju was due", (uintmax_t)number, (uintmax_t)next);
	return sizeof(n) + n;
}

static void
drink(int fd, uint64_t next, uint64_t n)
{
	static char *bytes;
	static size_t have;

	if (!bytes)
		bytes = malloc(READ + size + 4096);
	if (!bytes)
		err(1, "memory");
	for (uint64_t end = next + n; next < end;) {
		ssize_t got = recv(fd, bytes + have, READ, 0);
		size_t at = 0, one;

		if (got <= 0)
			err(1, "message %ju of %ju: %s", (uintmax_t)next, (uintmax_t)end,
			    got ? "reading" : "the end");
		have += (size_t)got;
		for (; next < end && (one = message(bytes + at, have - at, next)); next++)
			at += one;
		memmove(bytes, bytes + at, have - at);
		have -= at;
	}
}

/* ---- the two of them, and their clocks ---- */

static int
at_path(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(path) >= sizeof(sun.sun_path))
		errx(2, "%s: too long", path);
	strcpy(sun.sun_path, path);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&sun, sizeof(sun)) < 0)
		err(1, "%s", path);
	return fd;
}

static void
loopback(int *ret_out, int *ret_in)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	*ret_out = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || *ret_out < 0 || bind(listener, (struct sockaddr *)&sin, len) < 0 ||
	    listen(listener, 1) < 0 || getsockname(listener, (struct sockaddr *)&sin, &len) < 0 ||
	    connect(*ret_out, (struct sockaddr *)&sin, len) < 0)
		err(1, "loopback");
	*ret_in = accept(listener, NULL, NULL);
	if (*ret_in < 0)
		err(1, "accept");
	close(listener);
}

/* A process that pours into fd or drinks from it when told so, and says when it has; three times.
 * The parent keeps the other end. */
static pid_t
start(void (*what)(int, uint64_t, uint64_t), int fd, int other, int *ret_told)
{
	const uint64_t part[PARTS] = { 1, count / 10 + 1, count };
	uint64_t first = 0;
	int pair[2];
	pid_t pid;
	char c;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 || (pid = fork()) < 0)
		err(1, "start");
	if (pid > 0) {
		close(pair[1]);
		*ret_told = pair[0];
		return pid;
	}
	alarm(LIMIT);
	close(pair[0]);
	close(other); /* so that the end of one is seen by the other */
	for (unsigned i = 0; i < PARTS && read(pair[1], &c, 1) == 1; i++) {
		what(fd, first, part[i]);
		first += part[i];
		if (write(pair[1], &c, 1) != 1)
			break;
	}
	(void)!read(pair[1], &c, 1); /* until the parent has read our clock, and lets go */
	_exit(0);
}

/* One of them has ended before us; it has said why. */
static void
lost(int sig)
{
	(void)sig;
	_exit(1);
}

/* Both do their next part, and have done it. */
static void
round_of(int out, int in)
{
	char c = 0;

	if (write(in, &c, 1) != 1 || write(out, &c, 1) != 1 || read(out, &c, 1) != 1 ||
	    read(in, &c, 1) != 1)
		errx(1, "one of the two has failed");
}

static double
cpu(pid_t pid)
{
	struct timespec t;
	clockid_t id;

	if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &t) < 0)
		errx(1, "process %d is not there", (int)pid);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int
measure(int out, int in, const char *const who[], const pid_t others[], int n)
{
	int told_in, told_out;
	pid_t reader = start(drink, in, out, &told_in), writer = start(pour, out, in, &told_out);
	pid_t all[] = { writer, others[0], others[1], reader };
	const pid_t bare[] = { writer, reader };
	double before[4];

	if (n == 2)
		memcpy(all, bare, sizeof(bare));
	close(out);
	close(in);
	for (int i = 1; i < PARTS; i++)
		round_of(told_out, told_in);
	for (int i = 0; i < n; i++)
		before[i] = cpu(all[i]);
	round_of(told_out, told_in);
	for (int i = 0; i < n; i++)
		printf("%s %.1f\n", who[i], (cpu(all[i]) - before[i]) / (double)count);
	return 0;
}

int
main(int argc, char **argv)
{
	static const char *const bare[] = { "bare-out", "bare-in" }, *const app[] = { "app-out",
		"link-out", "link-in", "app-in" };
	pid_t others[2] = { 0 };
	int out, in;

	framed = argc == 10 && strcmp(argv[1], "app") == 0;
	if (!framed && (argc != 4 || strcmp(argv[1], "bare") != 0))
		errx(2, "frames bare SIZE COUNT | app SIZE COUNT FROM PATH PID TO PATH PID");
	size = strtoull(argv[2], NULL, 10);
	count = strtoull(argv[3], NULL, 10);
	if (size < sizeof(uint64_t) || size > BATCH || count < 1)
		errx(2, "SIZE is 8 to %d, COUNT 1 at least", BATCH);
	alarm(LIMIT);
	signal(SIGCHLD, lost);
	if (!framed) {
		loopback(&out, &in);
		return measure(out, in, bare, others, 2);
	}
	from = argv[4];
	to = argv[7];
	if (strlen(from) + strlen(to) > 2048)
		errx(2, "an id is too long");
	others[0] = (pid_t)atoi(argv[6]);
	others[1] = (pid_t)atoi(argv[9]);
	in = at_path(argv[8]);
	out = at_path(argv[5]);
	return measure(out, in, app, others, 4);
}
