/* udp - what run.sh measures datagrams with.  ADDR is IP:PORT or [V6]:PORT.
 *
 * udp loop ADDR: a bare echo: recvfrom, sendto.
 *
 * udp mmsg ADDR: a bare echo: recvmmsg that waits for one, sendmmsg; what the others are held
 * against.
 *
 * udp load ADDR PEERS WINDOW SIZE COUNT|TIMEs: so many sockets with so many questions open on each,
 * until COUNT are answered, or for so many seconds.  Each question has its peer and a number of its
 * own all over it, and an answer has to be one that is open there, byte for byte.  What is not
 * answered for a while is lost, and another is asked in its place.
 *
 * It prints "sent N answered N glued N lost N late N foreign N short N".  glued: those of the
 * answered that did not come alone; late: own, and lost already; short: no whole number of
 * questions.  Status 1: something foreign came, or more answers than questions. */
#include <err.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define BATCH	64
#define ROOM	2048  /* bytes of a datagram, echoed */
#define GLUED	65536 /* bytes of a datagram, answered */
#define LOST_NS 300000000
#define EVENTS	64

/* ---- the echoes ---- */

static int
open_at(const char *addr, int (*how)(int, const struct sockaddr *, socklen_t))
{
	const struct addrinfo hints = { .ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST };
	const char *colon = strrchr(addr, ':');
	struct addrinfo *ai;
	char host[64];
	int fd, big = 4 << 20, rc;

	if (!colon)
		errx(2, "%s: not IP:PORT", addr);
	snprintf(host, sizeof(host), "%.*s", (int)(colon - addr), addr);
	if (*host == '[')
		*strchr(memmove(host, host + 1, strlen(host)), ']') = '\0';
	rc = getaddrinfo(host, colon + 1, &hints, &ai);
	if (rc)
		errx(2, "%s: %s", addr, gai_strerror(rc));
	fd = socket(ai->ai_family, SOCK_DGRAM, 0);
	if (fd < 0 || how(fd, ai->ai_addr, ai->ai_addrlen) < 0)
		err(1, "%s", addr);
	freeaddrinfo(ai);
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &big, sizeof(big));
	return fd;
}

static void
loop(int fd)
{
	static char bytes[ROOM];

	for (;;) {
		struct sockaddr_storage from;
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(fd, bytes, sizeof(bytes), 0, (struct sockaddr *)&from, &len);

		if (n >= 0)
			sendto(fd, bytes, (size_t)n, 0, (struct sockaddr *)&from, len);
	}
}

static void
mmsg(int fd)
{
	static char bytes[BATCH][ROOM];
	static struct sockaddr_storage from[BATCH];
	static struct iovec iov[BATCH];
	static struct mmsghdr msg[BATCH];

	for (;;) {
		int n, sent, went;

		for (int i = 0; i < BATCH; i++) {
			iov[i] = (struct iovec){ bytes[i], ROOM };
			msg[i].msg_hdr = (struct msghdr){ .msg_name = &from[i],
				.msg_namelen = sizeof(from[i]),
				.msg_iov = &iov[i],
				.msg_iovlen = 1 };
		}
		n = recvmmsg(fd, msg, BATCH, MSG_WAITFORONE, NULL);
		for (int i = 0; i < n; i++)
			iov[i].iov_len = msg[i].msg_len;
		for (sent = 0; sent < n; sent += went) {
			went = sendmmsg(fd, msg + sent, (unsigned)(n - sent), 0);
			if (went <= 0)
				went = 1;
		}
	}
}

/* ---- the load ---- */

struct question {
	uint64_t
	    number;    /* of this peer: its place among the open ones, and WINDOW more each time */
	int64_t asked; /* ns */
	bool open;
};

struct peer {
	int fd;
	uint64_t n; /* which of them */
	struct question *of;
};

static unsigned window;
static size_t size;
static int64_t now;
static struct {
	uint64_t sent, answered, glued, lost, late, foreign, cut;
} sum;

static int64_t
clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* What a question looks like: its peer, its number, and words that follow from both. */
static void
fill(char *bytes, uint64_t peer, uint64_t number)
{
	uint64_t word[] = { peer, number }, x = peer << 40 ^ number;

	memcpy(bytes, word, sizeof(word));
	for (size_t at = sizeof(word); at < size; at += sizeof(x)) {
		x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
		memcpy(bytes + at, &x, size - at < sizeof(x) ? size - at : sizeof(x));
	}
}

/* Everything that is not open is asked. */
static void
ask(struct peer *p)
{
	static char bytes[BATCH][ROOM];
	struct iovec iov[BATCH];
	struct mmsghdr msg[BATCH];
	struct question *which[BATCH];
	int n = 0, went;

	for (unsigned i = 0; i < window && n < BATCH; i++) {
		struct question *q = &p->of[i];

		if (q->open)
			continue;
		fill(bytes[n], p->n, q->number);
		iov[n] = (struct iovec){ bytes[n], size };
		msg[n].msg_hdr = (struct msghdr){ .msg_iov = &iov[n], .msg_iovlen = 1 };
		which[n++] = q;
	}
	went = n ? sendmmsg(p->fd, msg, (unsigned)n, MSG_DONTWAIT) : 0;
	for (int i = 0; i < went; i++) {
		which[i]->open = true;
		which[i]->asked = now;
	}
	sum.sent += went > 0 ? (uint64_t)went : 0;
}

/* One question's length of an answer: whether it is a question of this peer. */
static bool
own(struct peer *p, const char *bytes, bool alone)
{
	char expected[ROOM];
	uint64_t number;
	struct question *q;

	memcpy(&number, bytes + sizeof(number), sizeof(number));
	fill(expected, p->n, number);
	if (memcmp(expected, bytes, size) != 0)
		return false;
	q = &p->of[number % window];
	if (number > q->number || (number == q->number && !q->open))
		return false; /* never asked */
	if (number < q->number) {
		sum.late++;
		return true;
	}
	q->open = false;
	q->number += window;
	sum.answered++;
	sum.glued += !alone;
	return true;
}

static void
hear(struct peer *p)
{
	static char bytes[BATCH][GLUED];
	static struct iovec iov[BATCH];
	static struct mmsghdr msg[BATCH];
	int n;

	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ bytes[i], GLUED };
		msg[i].msg_hdr = (struct msghdr){ .msg_iov = &iov[i], .msg_iovlen = 1 };
	}
	n = recvmmsg(p->fd, msg, window < BATCH ? window : BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		size_t len = msg[i].msg_len, at = 0;

		sum.cut += len % size != 0 || len == 0;
		for (; len - at >= size; at += size)
			sum.foreign += !own(p, bytes[i] + at, len == size);
	}
}

static void
lose(struct peer *p)
{
	for (unsigned i = 0; i < window; i++) {
		struct question *q = &p->of[i];

		if (!q->open || now - q->asked < LOST_NS)
			continue;
		q->open = false;
		q->number += window;
		sum.lost++;
	}
	ask(p);
}

static struct peer *
open_peers(const char *addr, unsigned peers, int epfd)
{
	struct peer *all = calloc(peers, sizeof(*all));

	for (unsigned i = 0; all && i < peers; i++) {
		struct epoll_event ev = { .events = EPOLLIN, .data.ptr = &all[i] };

		all[i] = (struct peer){ .fd = open_at(addr, connect),
			.n = i,
			.of = calloc(window, sizeof(*all[i].of)) };
		if (!all[i].of || epoll_ctl(epfd, EPOLL_CTL_ADD, all[i].fd, &ev) < 0)
			err(1, "peer %u", i);
		for (unsigned k = 0; k < window; k++)
			all[i].of[k].number = k;
	}
	if (!all)
		err(1, "peers");
	return all;
}

static int
load(const char *addr, unsigned peers, const char *until)
{
	struct epoll_event ev[EVENTS];
	char *unit;
	double number = strtod(until, &unit);
	int64_t end = INT64_MAX, look = 0;
	int epfd = epoll_create1(0);
	struct peer *all = open_peers(addr, peers, epfd);

	now = clock_ns();
	if (*unit == 's')
		end = now + (int64_t)(number * 1e9);
	while (now < end && (*unit || (double)sum.answered < number)) {
		int n;

		if (now >= look) {
			for (unsigned i = 0; i < peers; i++)
				lose(&all[i]);
			look = now + LOST_NS / 4;
		}
		n = epoll_wait(epfd, ev, EVENTS, LOST_NS / 4000000);
		now = clock_ns();
		for (int i = 0; i < n; i++) {
			hear(ev[i].data.ptr);
			ask(ev[i].data.ptr);
		}
	}
	printf("sent %ju answered %ju glued %ju lost %ju late %ju foreign %ju short %ju\n",
	    sum.sent, sum.answered, sum.glued, sum.lost, sum.late, sum.foreign, sum.cut);
	return sum.foreign || sum.late > sum.lost;
}

int
main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "loop") == 0)
		loop(open_at(argv[2], bind));
	if (argc == 3 && strcmp(argv[1], "mmsg") == 0)
		mmsg(open_at(argv[2], bind));
	if (argc == 7 && strcmp(argv[1], "load") == 0) {
		window = (unsigned)atoi(argv[4]);
		size = (size_t)atoi(argv[5]);
		if (window >= 1 && size >= 2 * sizeof(uint64_t) && size <= ROOM)
			return load(argv[2], (unsigned)atoi(argv[3]), argv[6]);
	}
	errx(2, "udp loop ADDR | mmsg ADDR | load ADDR PEERS WINDOW SIZE COUNT|TIMEs");
}
