/* The socket of a link: nothing leaks, nothing waits, and a name belongs to one. */
#include "net/handoff.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"

static char buffers[HANDOFF_BATCH][HANDOFF_MAX];
static struct handoff_in in[HANDOFF_BATCH];
static char dir[] = "/tmp/ccf-test-XXXXXX";

static const char *
in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static int
receive(int chan, unsigned n)
{
	for (unsigned i = 0; i < HANDOFF_BATCH; i++)
		in[i] = (struct handoff_in){ .bytes = buffers[i], .len = 99, .fd = 99 };
	return handoff_recv(chan, in, n);
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

/* What handoff_send never sends: len bytes with any number of descriptors. */
static void
send_raw(int chan, size_t len, int n, int fd)
{
	static char bytes[HANDOFF_MAX * 2];
	char control[CMSG_SPACE(16 * sizeof(int))] = { 0 };
	struct iovec iov = { bytes, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		struct cmsghdr *c = (struct cmsghdr *)(void *)control;

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		for (int i = 0; i < n; i++)
			memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof(fd));
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
	}
	CHECK_INT(sendmsg(chan, &m, MSG_DONTWAIT), len);
}

CASE(a_message_brings_its_descriptor)
{
	int pair[2], before = open_descriptors();
	struct handoff_out out = { .bytes = "abc", .len = 3 };

	CHECK_INT(handoff_pair(pair), 0);
	out.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK_INT(handoff_send(pair[0], &out, 1), 1);
	CHECK_INT(out.fd, -1);
	CHECK_INT(open_descriptors(), before + 2);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), 1);
	CHECK_INT(in[0].len, 3);
	CHECK(!memcmp(in[0].bytes, "abc", 3));
	CHECK(in[0].fd >= 0 && fcntl(in[0].fd, F_GETFD) == FD_CLOEXEC);
	CHECK(!in[0].starved);
	close(in[0].fd);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), -EAGAIN);
	CHECK_INT(handoff_send(pair[0], &(struct handoff_out){ "x", 1, -1 }, 1), 1);
	CHECK_INT(receive(pair[1], 1), 1);
	CHECK_INT(in[0].fd, -1);
	close(pair[0]);
	close(pair[1]);
	CHECK_INT(open_descriptors(), before);
}

CASE(forty_messages_arrive_in_order)
{
	struct handoff_out out[40];
	char text[40];
	int pair[2], at = 0, n;

	handoff_pair(pair);
	for (int i = 0; i < 40; i++) {
		text[i] = (char)i;
		out[i] = (struct handoff_out){ &text[i], 1, i % 2 ? dup(pair[0]) : -1 };
	}
	CHECK_INT(handoff_send(pair[0], out, 40), 40);
	while ((n = receive(pair[1], HANDOFF_BATCH)) > 0)
		for (int i = 0; i < n; i++, at++) {
			CHECK_INT(in[i].bytes[0], at);
			CHECK((in[i].fd >= 0) == (at % 2 == 1));
			if (in[i].fd >= 0)
				close(in[i].fd);
		}
	CHECK_INT(at, 40);
	close(pair[0]);
	close(pair[1]);
}

CASE(what_a_full_socket_keeps_back_stays_ours)
{
	static char bytes[4096];
	struct handoff_out out[200];
	int pair[2], sent, again, before;

	handoff_pair(pair);
	before = open_descriptors();
	for (int i = 0; i < 200; i++)
		out[i] = (struct handoff_out){ bytes, sizeof(bytes), dup(pair[0]) };
	sent = handoff_send(pair[0], out, 200);
	CHECK(sent > 0 && sent < 200);
	CHECK_INT(open_descriptors(), before + 200 - sent);
	errno = 0;
	CHECK_INT(handoff_send(pair[0], out + sent, 200 - (unsigned)sent), 0);
	CHECK_INT(errno, EAGAIN);
	CHECK(handoff_unread(pair[0]) >= sent * (int)sizeof(bytes));
	while ((again = receive(pair[1], HANDOFF_BATCH)) > 0)
		for (int i = 0; i < again; i++)
			close(in[i].fd);
	CHECK_INT(handoff_unread(pair[0]), 0);
	CHECK(handoff_send(pair[0], out + sent, 200 - (unsigned)sent) > 0);
	for (int i = 0; i < 200; i++)
		if (out[i].fd >= 0)
			close(out[i].fd);
	close(pair[0]);
	close(pair[1]);
}

/* The kernel lets an ordinary user have no more descriptors on their way than it may have open. */
CASE(too_many_descriptors_on_their_way_are_kept_back)
{
	uid_t me = geteuid();
	struct rlimit found, low;
	struct handoff_out out = { .bytes = "x", .len = 1, .fd = -1 };
	int pair[2], r = 1, i;

	handoff_pair(pair);
	getrlimit(RLIMIT_NOFILE, &found);
	low = found;
	low.rlim_cur = 64;
	if (me == 0)
		CHECK_INT(seteuid(65534), 0);
	setrlimit(RLIMIT_NOFILE, &low);
	for (i = 0; i < 200 && r == 1; i++) {
		out.fd = dup(pair[0]);
		r = handoff_send(pair[0], &out, 1);
	}
	CHECK_INT(r, 0);
	CHECK_INT(errno, ETOOMANYREFS);
	CHECK(out.fd >= 0);
	close(out.fd);
	setrlimit(RLIMIT_NOFILE, &found);
	CHECK_INT(seteuid(me), 0);
	close(pair[0]);
	close(pair[1]);
}

CASE(an_error_leaves_every_descriptor_with_the_caller)
{
	struct handoff_out out[2] = { { "x", 1, -1 }, { "y", 1, -1 } };
	int pair[2];

	handoff_pair(pair);
	out[0].fd = dup(pair[0]);
	close(pair[1]);
	CHECK_INT(handoff_send(pair[0], out, 2), -EPIPE);
	CHECK_INT(fcntl(out[0].fd, F_GETFD), 0);
	close(out[0].fd);
	close(pair[0]);
}

CASE(an_empty_or_oversized_message_never_leaves)
{
	struct handoff_out out[2] = { { "x", 1, -1 }, { "", 0, -1 } };
	int pair[2];

	handoff_pair(pair);
	CHECK_INT(handoff_send(pair[0], out, 2), 1);
	CHECK_INT(handoff_send(pair[0], out + 1, 1), -EINVAL);
	out[1].len = HANDOFF_MAX + 1;
	CHECK_INT(handoff_send(pair[0], out + 1, 1), -EMSGSIZE);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), 1);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), -EAGAIN);
	close(pair[0]);
	close(pair[1]);
}

CASE(stray_descriptors_are_closed)
{
	int pair[2], before;

	handoff_pair(pair);
	before = open_descriptors();
	for (int n = 2; n <= 16; n++) {
		send_raw(pair[0], 3, n, pair[0]);
		CHECK_INT(receive(pair[1], 1), 1);
		CHECK_INT(in[0].len, -EBADMSG);
		CHECK_INT(in[0].fd, -1);
	}
	send_raw(pair[0], HANDOFF_MAX + 1, 1, pair[0]);
	CHECK_INT(receive(pair[1], 1), 1);
	CHECK_INT(in[0].len, -EBADMSG);
	CHECK_INT(in[0].fd, -1);
	CHECK_INT(open_descriptors(), before);
	send_raw(pair[0], HANDOFF_MAX, 0, -1);
	CHECK_INT(receive(pair[1], 1), 1);
	CHECK_INT(in[0].len, HANDOFF_MAX);
	close(pair[0]);
	close(pair[1]);
}

CASE(credentials_in_front_take_no_room_away)
{
	int pair[2], on = 1;

	handoff_pair(pair);
	setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	send_raw(pair[0], 3, 1, pair[0]);
	CHECK_INT(receive(pair[1], 1), 1);
	CHECK_INT(in[0].len, 3);
	CHECK(in[0].fd >= 0 && !in[0].starved);
	close(in[0].fd);
	close(pair[0]);
	close(pair[1]);
}

CASE(a_receiver_out_of_descriptors_is_starved_and_goes_on)
{
	struct rlimit found, low;
	int pair[2], lowest;

	handoff_pair(pair);
	for (int i = 0; i < 2; i++)
		send_raw(pair[0], 3, 1, pair[0]);
	getrlimit(RLIMIT_NOFILE, &found);
	lowest = dup(pair[0]);
	close(lowest);
	low = found;
	low.rlim_cur = (rlim_t)lowest;
	setrlimit(RLIMIT_NOFILE, &low);
	CHECK_INT(receive(pair[1], 1), 1);
	setrlimit(RLIMIT_NOFILE, &found);
	CHECK_INT(in[0].len, 3);
	CHECK_INT(in[0].fd, -1);
	CHECK(in[0].starved);
	CHECK_INT(receive(pair[1], 1), 1);
	CHECK(in[0].fd >= 0 && !in[0].starved);
	close(in[0].fd);
	close(pair[0]);
	close(pair[1]);
}

CASE(the_end_comes_after_what_was_said)
{
	int pair[2];

	handoff_pair(pair);
	send_raw(pair[0], 3, 0, -1);
	send_raw(pair[0], 2, 0, -1);
	close(pair[0]);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), 2);
	CHECK_INT(in[1].len, 2);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), 0);
	close(pair[1]);
}

CASE(an_empty_packet_is_malformed_or_the_end)
{
	int pair[2];

	handoff_pair(pair);
	send_raw(pair[0], 0, 0, -1);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), 0);
	send_raw(pair[0], 3, 0, -1);
	send_raw(pair[0], 0, 0, -1);
	send_raw(pair[0], 3, 0, -1);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), 3);
	CHECK_INT(in[1].len, -EBADMSG);
	CHECK_INT(in[2].len, 3);
	send_raw(pair[0], 3, 0, -1);
	send_raw(pair[0], 0, 0, -1);
	CHECK_INT(receive(pair[1], HANDOFF_BATCH), 2);
	CHECK_INT(in[1].len, -EBADMSG);
	close(pair[0]);
	close(pair[1]);
}

CASE(a_name_is_bound_with_its_mode_whatever_the_umask)
{
	static const mode_t masks[] = { 0, 022, 077, 0277 };
	struct handoff_bound b;
	struct stat st;
	mode_t found = umask(0);

	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		umask(masks[i]);
		CHECK_INT(handoff_bind(&b, in_dir("mode"), 0660, (gid_t)-1, SOCK_SEQPACKET), 0);
		CHECK_INT(stat(in_dir("mode"), &st), 0);
		CHECK_INT(st.st_mode, S_IFSOCK | 0660);
		CHECK(st.st_ino == b.ino && st.st_dev == b.dev);
		handoff_unbind(&b);
		CHECK_INT(b.fd, -1);
		CHECK_INT(lstat(in_dir("mode"), &st), -1);
	}
	umask(found);
}

CASE(a_name_is_given_to_a_group)
{
	struct handoff_bound b;
	struct stat st;

	if (geteuid() != 0)
		SKIP("needs root");
	CHECK_INT(handoff_bind(&b, in_dir("group"), 0620, 12345, SOCK_SEQPACKET), 0);
	CHECK_INT(stat(in_dir("group"), &st), 0);
	CHECK_INT(st.st_gid, 12345);
	CHECK_INT(st.st_mode, S_IFSOCK | 0620);
	handoff_unbind(&b);
}

CASE(a_stale_name_is_reclaimed_and_a_live_one_is_not)
{
	struct handoff_bound first, second, third;
	struct stat st;

	CHECK_INT(handoff_bind(&first, in_dir("stale"), 0600, (gid_t)-1, SOCK_SEQPACKET), 0);
	CHECK_INT(
	    handoff_bind(&second, in_dir("stale"), 0600, (gid_t)-1, SOCK_SEQPACKET), -EADDRINUSE);
	CHECK_INT(
	    handoff_bind(&second, in_dir("stale"), 0600, (gid_t)-1, SOCK_STREAM), -EADDRINUSE);
	close(first.fd);
	CHECK_INT(handoff_dial(in_dir("stale")), -ECONNREFUSED);
	CHECK_INT(handoff_bind(&second, in_dir("stale"), 0600, (gid_t)-1, SOCK_SEQPACKET), 0);
	/* What the dead one would remove is another's by now. */
	third = first;
	third.ino += second.ino == first.ino;
	third.fd = dup(second.fd);
	handoff_unbind(&third);
	CHECK_INT(lstat(in_dir("stale"), &st), 0);
	handoff_unbind(&second);
	handoff_unbind(&second);
	CHECK_INT(lstat(in_dir("stale"), &st), -1);
}

CASE(what_is_no_socket_is_left_alone)
{
	struct handoff_bound b = { .fd = 77 };
	char longer[200];
	struct stat st;

	close(open(in_dir("file"), O_CREAT | O_WRONLY, 0600));
	CHECK_INT(handoff_bind(&b, in_dir("file"), 0600, (gid_t)-1, SOCK_SEQPACKET), -ENOTSOCK);
	CHECK_INT(lstat(in_dir("file"), &st), 0);
	unlink(in_dir("file"));
	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[108] = '\0';
	CHECK_INT(handoff_bind(&b, longer, 0600, (gid_t)-1, SOCK_SEQPACKET), -ENAMETOOLONG);
	CHECK_INT(handoff_dial(longer), -ENAMETOOLONG);
	CHECK_INT(handoff_bind(&b, in_dir("no/such"), 0600, (gid_t)-1, SOCK_SEQPACKET), -ENOENT);
	CHECK_INT(handoff_bind(&b, "", 0600, (gid_t)-1, SOCK_SEQPACKET), -ENOENT);
	CHECK_INT(b.fd, 77);
}

CASE(a_name_without_a_directory_is_in_this_one)
{
	struct handoff_bound b;
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;

	CHECK_INT(chdir(dir), 0);
	CHECK_INT(handoff_bind(&b, "bare", 0600, (gid_t)-1, SOCK_SEQPACKET), 0);
	fd = handoff_dial(in_dir("bare"));
	CHECK(fd >= 0);
	close(fd);
	handoff_unbind(&b);
	CHECK_INT(fchdir(here), 0);
	close(here);
}

CASE(who_dials_is_known_by_its_uid)
{
	struct handoff_bound b;
	uid_t uid = 77;
	int dialled, accepted;

	CHECK_INT(handoff_dial(in_dir("uid")), -ENOENT);
	CHECK_INT(handoff_bind(&b, in_dir("uid"), 0600, (gid_t)-1, SOCK_SEQPACKET), 0);
	CHECK_INT(handoff_accept(b.fd), -EAGAIN);
	dialled = handoff_dial(in_dir("uid"));
	accepted = handoff_accept(b.fd);
	CHECK(dialled >= 0 && accepted >= 0);
	CHECK(fcntl(accepted, F_GETFL) & O_NONBLOCK && fcntl(accepted, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(dialled, F_GETFL) & O_NONBLOCK && fcntl(dialled, F_GETFD) & FD_CLOEXEC);
	CHECK(handoff_peer_allowed(accepted, (uid_t)-1, &uid));
	CHECK_INT(uid, geteuid());
	CHECK(handoff_peer_allowed(dialled, (uid_t)-1, NULL));
	CHECK(!handoff_peer_allowed(open("/dev/null", O_RDONLY | O_CLOEXEC), (uid_t)-1, &uid));
	close(dialled);
	close(accepted);
	handoff_unbind(&b);
}

CASE(another_uid_is_refused_unless_it_is_named)
{
	struct handoff_bound b;
	uid_t uid = 77;
	int dialled, accepted;

	if (geteuid() != 0)
		SKIP("needs root");
	CHECK_INT(handoff_bind(&b, in_dir("other"), 0666, (gid_t)-1, SOCK_SEQPACKET), 0);
	CHECK_INT(chmod(dir, 0711), 0);
	CHECK_INT(seteuid(65534), 0);
	dialled = handoff_dial(in_dir("other"));
	CHECK_INT(seteuid(0), 0);
	accepted = handoff_accept(b.fd);
	CHECK(dialled >= 0 && accepted >= 0);
	CHECK(!handoff_peer_allowed(accepted, (uid_t)-1, &uid));
	CHECK_INT(uid, 65534);
	CHECK(!handoff_peer_allowed(accepted, 1, &uid));
	CHECK(handoff_peer_allowed(accepted, 65534, &uid));
	close(dialled);
	close(accepted);
	handoff_unbind(&b);
}

CASE(a_ticket_has_a_directory_that_others_may_pass)
{
	struct handoff_bound b;
	char path[108], small[8], parent[108];
	struct stat st;

	CHECK_INT(chmod(dir, 0711), 0);
	setenv("XDG_RUNTIME_DIR", "/nowhere", 1);
	setenv("TMPDIR", dir, 1);
	CHECK_INT(handoff_ticket_dir(path, sizeof(path)), 0);
	CHECK(!strncmp(path, dir, strlen(dir)));
	strcpy(parent, path);
	*strrchr(parent, '/') = '\0';
	CHECK_INT(stat(parent, &st), 0);
	CHECK_INT(st.st_mode & 07777, 0711);
	CHECK_INT(handoff_bind(&b, path, 0666, (gid_t)-1, SOCK_SEQPACKET), 0);
	handoff_ticket_remove(path);
	CHECK_INT(stat(parent, &st), -1);
	handoff_unbind(&b);
	CHECK_INT(chmod(dir, 0700), 0);
	CHECK_INT(handoff_ticket_dir(path, sizeof(path)), 0);
	CHECK(!strncmp(path, "/tmp/ccf-", 9));
	handoff_ticket_remove(path);
	CHECK_INT(handoff_ticket_dir(small, sizeof(small)), -ENAMETOOLONG);
}

CASE(a_ticket_removes_nothing_else)
{
	struct stat st;
	char path[160];

	handoff_ticket_remove("");
	handoff_ticket_remove("/link");
	snprintf(path, sizeof(path), "%s/ccf-abcdef", dir);
	CHECK_INT(mkdir(path, 0700), 0);
	strcat(path, "/link");
	close(open(path, O_CREAT | O_WRONLY, 0600));
	handoff_ticket_remove(path);
	CHECK_INT(stat(path, &st), 0);
	unlink(path);
	handoff_ticket_remove(path);
	CHECK_INT(stat(in_dir("ccf-abcdef"), &st), -1);
}

CASE(a_token_is_not_made_twice)
{
	char a[33], b[33];

	CHECK_INT(handoff_token(a), 0);
	CHECK_INT(handoff_token(b), 0);
	CHECK_INT(strspn(a, "0123456789abcdef"), 32);
	CHECK_INT(strlen(a), 32);
	CHECK(strcmp(a, b) != 0);
}

int
main(void)
{
	int r;

	if (!mkdtemp(dir))
		return 1;
	r = check_main((struct check_case[]){
	    RUN(a_message_brings_its_descriptor),
	    RUN(forty_messages_arrive_in_order),
	    RUN(what_a_full_socket_keeps_back_stays_ours),
	    RUN(too_many_descriptors_on_their_way_are_kept_back),
	    RUN(an_error_leaves_every_descriptor_with_the_caller),
	    RUN(an_empty_or_oversized_message_never_leaves),
	    RUN(stray_descriptors_are_closed),
	    RUN(credentials_in_front_take_no_room_away),
	    RUN(a_receiver_out_of_descriptors_is_starved_and_goes_on),
	    RUN(the_end_comes_after_what_was_said),
	    RUN(an_empty_packet_is_malformed_or_the_end),
	    RUN(a_name_is_bound_with_its_mode_whatever_the_umask),
	    RUN(a_name_is_given_to_a_group),
	    RUN(a_stale_name_is_reclaimed_and_a_live_one_is_not),
	    RUN(what_is_no_socket_is_left_alone),
	    RUN(a_name_without_a_directory_is_in_this_one),
	    RUN(who_dials_is_known_by_its_uid),
	    RUN(another_uid_is_refused_unless_it_is_named),
	    RUN(a_ticket_has_a_directory_that_others_may_pass),
	    RUN(a_ticket_removes_nothing_else),
	    RUN(a_token_is_not_made_twice),
	    { 0 },
	});
	rmdir(dir);
	return r;
}
