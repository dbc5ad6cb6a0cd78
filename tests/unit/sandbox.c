/* sandbox: a child enters it and makes one raw system call: what is forbidden kills it with SIGSYS,
 * what a running tool needs still works.  Identity likewise in children. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "check.h"
#include "net/handoff.h"

#define CANNOT 77

static const char *why_not; /* the reason to skip all of it; NULL: none */
static unsigned allowed;

static void
enter(void)
{
	char msg[256];
	int rc = sandbox_enter(allowed, msg, sizeof(msg));

	if (rc < 0)
		_exit(rc == -ENOSYS || rc == -EINVAL ? CANNOT : 99);
}

/* How a child ended that entered the sandbox (if it shall) and ran f. */
static int
child(bool (*f)(void *), void *arg, bool sandboxed)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (sandboxed)
			enter();
		_exit(f(arg) ? 0 : 1);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	return status;
}

static bool
nothing(void *arg)
{
	(void)arg;
	return true;
}

static bool
works(bool (*f)(void *))
{
	return child(f, NULL, true) == 0;
}

/* ---- what is forbidden ---- */

struct call {
	const char *name;
	long number;
	long args[6];
};

/* Returns only if it was let through: a child it may have made then ends here, too. */
static bool
make_call(void *arg)
{
	const struct call *c = arg;
	const long *a = c->args;

	(void)syscall(c->number, a[0], a[1], a[2], a[3], a[4], a[5]);
	return true;
}

static bool
died_of(int status, int signo)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == signo;
}

static void
all_killed(struct call *calls)
{
	if (why_not)
		SKIP(why_not);
	for (struct call *c = calls; c->name; c++) {
		int status = child(make_call, c, true);

		if (!died_of(status, SIGSYS)) {
			printf("# %s: wait status 0x%x, not killed by SIGSYS\n", c->name, status);
			check_failed++;
		}
	}
}

static void
all_let_through(struct call *calls)
{
	if (why_not)
		SKIP(why_not);
	for (struct call *c = calls; c->name; c++) {
		int status = child(make_call, c, true);

		if (status != 0) {
			printf("# %s: wait status 0x%x\n", c->name, status);
			check_failed++;
		}
	}
}

#define CALL(name, ...)                                                                            \
	{                                                                                          \
#name, SYS_##name,                                                                 \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define CALL_AS(as, n, ...)                                                                        \
	{                                                                                          \
		as, SYS_##n,                                                                       \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define P(x) ((long)(uintptr_t)(x))

static struct sockaddr_un hub = { .sun_family = AF_UNIX, .sun_path = "nobody-is-there" };
static char *no_args[] = { NULL };

CASE(no_file_is_opened_made_or_changed)
{
	long dir = AT_FDCWD, passwd = P("/etc/passwd"), here = P("here");

	all_killed((struct call[]){
#ifdef SYS_open
	    CALL(open, passwd, O_RDONLY),
	    CALL(creat, here, 0600),
	    CALL(stat, passwd, P((char[256]){ 0 })),
	    CALL(access, passwd, R_OK),
	    CALL(unlink, here),
	    CALL(rmdir, here),
	    CALL(mkdir, here, 0700),
	    CALL(rename, here, here),
	    CALL(chmod, here, 0777),
	    CALL(readlink, P("/proc/self/exe"), P((char[256]){ 0 }), 256),
#endif
	    CALL(openat, dir, passwd, O_RDONLY),
	    CALL_AS("openat O_PATH", openat, dir, passwd, O_PATH),
	    CALL(openat2, dir, passwd, P((uint64_t[3]){ 0 }), 24),
	    CALL(open_by_handle_at, dir, P((char[16]){ 0 }), 0),
	    CALL_AS("newfstatat of a path", newfstatat, dir, passwd, P((char[256]){ 0 }), 0),
	    CALL_AS("statx of a path", statx, dir, passwd, 0, 0, P((char[256]){ 0 })),
	    CALL(faccessat, dir, passwd, R_OK),
	    CALL(unlinkat, dir, here, 0),
	    CALL(mkdirat, dir, here, 0700),
	    CALL(mknodat, dir, here, S_IFIFO | 0600, 0),
	    CALL(linkat, dir, here, dir, here, 0),
	    CALL(symlinkat, here, dir, here),
	    CALL(renameat2, dir, here, dir, here, 0),
	    CALL(fchmodat, dir, here, 0777),
	    CALL(fchownat, dir, here, 1, 1, 0),
	    CALL(fchmod, 1, 0777),
	    CALL(fchown, 1, 1, 1),
	    CALL(truncate, here, 0),
	    CALL(ftruncate, 1, 0),
	    CALL(chdir, P("/")),
	    CALL(getcwd, P((char[256]){ 0 }), 256),
	    CALL(getdents64, 0, P((char[256]){ 0 }), 256),
	    CALL(memfd_create, here, 0),
	    CALL(inotify_init1, 0),
	    CALL(flock, 1, 0),
	    { 0 },
	});
}

CASE(no_socket_is_made_bound_connected_or_listened_on)
{
	int two[2];

	all_killed((struct call[]){
	    CALL_AS("socket of AF_INET", socket, AF_INET, SOCK_STREAM, 0),
	    CALL_AS("socket of AF_INET6", socket, AF_INET6, SOCK_DGRAM, 0),
	    CALL_AS("socket of AF_UNIX", socket, AF_UNIX, SOCK_SEQPACKET, 0),
	    CALL_AS("socket of AF_NETLINK", socket, AF_NETLINK, SOCK_RAW, 0),
	    CALL_AS("socketpair of datagrams", socketpair, AF_UNIX, SOCK_DGRAM, 0, P(two)),
	    CALL_AS("socketpair of AF_INET", socketpair, AF_INET, SOCK_STREAM, 0, P(two)),
	    CALL(connect, 0, P(&hub), sizeof(hub)),
	    CALL(bind, 0, P(&hub), sizeof(hub)),
	    CALL(listen, 0, 1),
	    CALL(accept, 0, 0, 0),
	    CALL(accept4, 0, 0, 0, 0),
	    CALL_AS("sendto an address", sendto, 1, P("x"), 1, 0, P(&hub), sizeof(hub)),
	    CALL_AS("SO_ATTACH_FILTER", setsockopt, 0, SOL_SOCKET, SO_ATTACH_FILTER, 0, 0),
	    CALL_AS("SO_BINDTODEVICE", setsockopt, 0, SOL_SOCKET, SO_BINDTODEVICE, 0, 0),
	    CALL_AS("TCP_ULP", setsockopt, 0, IPPROTO_TCP, TCP_ULP, 0, 0),
	    CALL_AS("IP_TRANSPARENT", setsockopt, 0, IPPROTO_IP, IP_TRANSPARENT, 0, 0),
	    { 0 },
	});
}

CASE(no_process_is_made_run_signalled_or_traced)
{
	long init = 1, parent = getppid(), self = P("/proc/self/exe"), none = P(no_args);

	all_killed((struct call[]){
#ifdef SYS_fork
	    CALL(fork),
	    CALL(vfork),
#endif
	    CALL(clone, SIGCHLD),
	    CALL_AS("clone of a thread", clone, CLONE_VM | CLONE_THREAD | CLONE_SIGHAND),
	    CALL(clone3, P((uint64_t[8]){ [4] = SIGCHLD }), 64),
	    CALL(unshare, CLONE_NEWUSER),
	    CALL(setns, 0, 0),
	    CALL(execve, self, none, none),
	    CALL(execveat, AT_FDCWD, self, none, none, 0),
	    CALL(kill, parent, 0),
	    CALL(tkill, parent, 0),
	    CALL_AS("tgkill of another", tgkill, parent, parent, 0),
	    CALL(rt_sigqueueinfo, parent, 0, P((char[128]){ 0 })),
	    CALL(pidfd_open, parent, 0),
	    CALL(pidfd_send_signal, 0, 0, 0, 0),
	    CALL(pidfd_getfd, 0, 0, 0),
	    CALL(ptrace, 0, 0, 0, 0),
	    CALL(process_vm_readv, init, 0, 0, 0, 0, 0),
	    CALL(process_vm_writev, init, 0, 0, 0, 0, 0),
	    CALL(kcmp, init, init, 0, 0, 0),
	    CALL(setsid),
	    CALL(setpgid, 0, 0),
	    { 0 },
	});
}

CASE(no_identity_limit_or_filter_is_changed)
{
	struct rlimit limit = { 9, 9 };

	all_killed((struct call[]){
	    CALL(setuid, 0),
	    CALL(setgid, 0),
	    CALL(setreuid, -1, -1),
	    CALL(setresuid, -1, -1, -1),
	    CALL(setresgid, -1, -1, -1),
	    CALL(setfsuid, 0),
	    CALL(setgroups, 0, 0),
	    CALL(capset, 0, 0),
	    CALL_AS("prctl PR_SET_DUMPABLE", prctl, PR_SET_DUMPABLE, 1),
	    CALL_AS("prctl PR_SET_SECCOMP", prctl, PR_SET_SECCOMP, 2, 0),
	    CALL(seccomp, 1, 0, 0),
	    CALL_AS("prlimit64 that sets", prlimit64, 0, RLIMIT_NOFILE, P(&limit), 0),
	    CALL_AS("prlimit64 of another", prlimit64, getppid(), RLIMIT_NOFILE, 0, P(&limit)),
	    CALL(setrlimit, RLIMIT_NOFILE, P(&limit)),
	    CALL(umask, 0),
	    CALL(setpriority, 0, 0, 0),
	    CALL(keyctl, 0, 0, 0, 0, 0),
	    { 0 },
	});
}

CASE(no_memory_becomes_a_program_and_the_kernel_is_left_alone)
{
	static char page[8192];
	long at = P(page) & -4096L, private = MAP_PRIVATE | MAP_ANONYMOUS;

	all_killed((struct call[]){
	    CALL_AS("mmap PROT_EXEC", mmap, 0, 4096, PROT_READ | PROT_EXEC, private, -1, 0),
	    CALL_AS("mmap writable and PROT_EXEC", mmap, 0, 4096,
		PROT_READ | PROT_WRITE | PROT_EXEC, private, -1, 0),
	    CALL_AS("mprotect PROT_EXEC", mprotect, at, 4096, PROT_READ | PROT_EXEC),
	    CALL(pkey_mprotect, at, 4096, PROT_EXEC, -1),
	    CALL(personality, 0x0400000),
	    CALL(shmget, 0, 4096, 0600),
	    CALL(mount, 0, 0, 0, 0, 0),
	    CALL(umount2, 0, 0),
	    CALL(chroot, P("/")),
	    CALL(pivot_root, 0, 0),
	    CALL(io_uring_setup, 1, P((char[128]){ 0 })),
	    CALL(io_setup, 1, 0),
	    CALL(bpf, 0, 0, 0),
	    CALL(perf_event_open, 0, 0, 0, 0, 0),
	    CALL(userfaultfd, 0),
	    CALL(init_module, 0, 0, 0),
	    CALL(reboot, 0, 0, 0, 0),
	    CALL(sethostname, 0, 0),
	    CALL(syslog, 0, 0, 0),
	    CALL_AS("fcntl F_SETOWN", fcntl, 0, F_SETOWN, 1),
	    CALL_AS("fcntl F_NOTIFY", fcntl, 0, F_NOTIFY, 0),
	    CALL_AS("fcntl F_SETFL", fcntl, 0, F_SETFL, 0),
	    CALL_AS("ioctl TIOCSTI", ioctl, 0, TIOCSTI, P("x")),
	    CALL_AS("ioctl FIOASYNC", ioctl, 0, FIOASYNC, P(page)),
	    CALL_AS("pipe2 O_NOTIFICATION_PIPE", pipe2, P(page), O_EXCL),
	    { "a number there is not", 4000, { 0 } },
	    { 0 },
	});
}

#ifdef __x86_64__
static bool
old_abi(void *arg)
{
	long rc;

	(void)arg;
	__asm__ volatile("int $0x80"
			 : "=a"(rc)
			 : "a"(20L /* getpid there */)
			 : "memory", "r8", "r9", "r10", "r11");
	return rc > 0;
}
#endif

CASE(other_abis_are_no_way_round)
{
#ifdef __x86_64__
	if (why_not)
		SKIP(why_not);
	CHECK(died_of(child(old_abi, NULL, true), SIGSYS));
	CHECK(died_of(
	    child(make_call, &(struct call){ "x32 getpid", 0x40000000 | SYS_getpid, { 0 } }, true),
	    SIGSYS));
#else
	SKIP("only x86-64 has others");
#endif
}

static bool
enters_again(void *arg)
{
	char msg[256];

	(void)arg;
	if (sandbox_enter(0, msg, sizeof(msg)) == 0)
		raise(SIGSEGV); /* not reached */
	return true;
}

CASE(it_is_entered_once)
{
	if (why_not)
		SKIP(why_not);
	CHECK(died_of(child(enters_again, NULL, true), SIGSYS));
}

/* ---- what goes on working ---- */

static bool
moves_bytes(void *arg)
{
	char a[8] = "", b[8] = "";
	struct iovec out[2] = { { (char[]){ "ab" }, 2 }, { (char[]){ "cd" }, 2 } };
	struct iovec in[2] = { { a, 2 }, { b, 2 } };
	struct msghdr m = { .msg_iov = in, .msg_iovlen = 2 };
	struct pollfd p;
	int two[2], n;

	(void)arg;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, two) < 0)
		return false;
	p = (struct pollfd){ .fd = two[1], .events = POLLIN };
	return fds_set_nonblock(two[0], false) == 0 && fds_set_nonblock(two[0], true) == 0 &&
	       fcntl(two[0], F_GETFL) & O_NONBLOCK && fds_set_cloexec(two[0], true) == 0 &&
	       writev(two[0], out, 2) == 4 && ioctl(two[0], SIOCOUTQ, &n) == 0 && n > 0 &&
	       poll(&p, 1, 0) == 1 && recvmsg(two[1], &m, MSG_DONTWAIT) == 4 &&
	       strcmp(a, "ab") == 0 && strcmp(b, "cd") == 0 &&
	       send(two[1], "x", 1, MSG_NOSIGNAL) == 1 && ioctl(two[0], FIONREAD, &n) == 0 &&
	       n == 1 && recv(two[0], a, 8, 0) == 1 && shutdown(two[0], SHUT_WR) == 0 &&
	       read(two[1], a, 8) == 0 && close(two[0]) == 0;
}

static int loop_fd = -1;

static bool
waits_and_splices(void *arg)
{
	struct epoll_event e = { .events = EPOLLIN }, got;
	char bytes[8] = "";
	int two[2], tube[2], copy;

	(void)arg;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, two) < 0 ||
	    pipe2(tube, O_CLOEXEC | O_NONBLOCK) < 0)
		return false;
	copy = fcntl(two[1], F_DUPFD_CLOEXEC, 3);
	return epoll_ctl(loop_fd, EPOLL_CTL_ADD, two[1], &e) == 0 &&
	       write(two[0], "hello", 5) == 5 && epoll_wait(loop_fd, &got, 1, 1000) == 1 &&
	       fcntl(tube[1], F_SETPIPE_SZ, 65536) > 0 && fcntl(tube[1], F_GETPIPE_SZ) >= 65536 &&
	       splice(two[1], NULL, tube[1], NULL, 100, SPLICE_F_NONBLOCK) == 5 &&
	       splice(tube[0], NULL, copy, NULL, 5, SPLICE_F_NONBLOCK) == 5 &&
	       read(two[0], bytes, 8) == 5 && strcmp(bytes, "hello") == 0;
}

static bool
hands_descriptors_on(void *arg)
{
	static char packet[HANDOFF_MAX];
	struct handoff_in in = { .bytes = packet };
	struct handoff_out out = { .bytes = "conn", .len = 5 };
	int link[2], two[2];

	(void)arg;
	if (handoff_pair(link) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, two) < 0)
		return false;
	out.fd = two[0];
	return handoff_send(link[0], &out, 1) == 1 && handoff_recv(link[1], &in, 1) == 1 &&
	       in.fd >= 0 && write(in.fd, "y", 1) == 1 && read(two[1], packet, 1) == 1 &&
	       handoff_peer_allowed(link[0], (uid_t)-1, NULL) && handoff_unread(link[0]) == 0;
}

static int tcp_fd = -1, sealed_fd = -1;

static bool
tunes_and_asks(void *arg)
{
	struct sockaddr_in at;
	struct tcp_info info;
	struct linger linger = { 1, 0 };
	struct rlimit limit;
	struct stat st;
	socklen_t len = sizeof(at), info_len = sizeof(info);

	(void)arg;
	return getsockname(tcp_fd, (struct sockaddr *)&at, &len) == 0 &&
	       getsockopt(tcp_fd, IPPROTO_TCP, TCP_INFO, &info, &info_len) == 0 &&
	       setsockopt(tcp_fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0 &&
	       setsockopt(tcp_fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)) == 0 &&
	       (getpeername(tcp_fd, (struct sockaddr *)&at, &len) == 0 || errno == ENOTCONN) &&
	       getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 0 &&
	       fstat(tcp_fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

static bool
reads_sealed_memory(void *arg)
{
	char byte = 0;
	char *map = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, sealed_fd, 0);

	(void)arg;
	return map != MAP_FAILED && map[0] == 'k' && fcntl(sealed_fd, F_GET_SEALS) > 0 &&
	       pread(sealed_fd, &byte, 1, 0) == 1 && byte == 'k' &&
	       lseek(sealed_fd, 0, SEEK_END) == -1 && errno == ESPIPE && munmap(map, 4096) == 0;
}

static int
by_value(const void *a, const void *b)
{
	return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static bool
uses_memory(void *arg)
{
	size_t n = 400000;
	int *v = malloc(n * sizeof(*v));
	unsigned char random[64];

	(void)arg;
	if (!v)
		return false;
	for (size_t i = 0; i < n; i++)
		v[i] = (int)(n - i);
	qsort(v, n, sizeof(*v), by_value);
	if (v[0] != 1 || v[n - 1] != (int)n || !(v = realloc(v, 4 * n * sizeof(*v))))
		return false;
	free(v);
	for (size_t i = 0; i < 4000; i++)
		if (!malloc(500))
			return false;
	arc4random_buf(random, sizeof(random));
	return getentropy(random, sizeof(random)) == 0;
}

static bool
logs(void *arg)
{
	char text[64];
	time_t now = time(NULL);
	struct tm tm;

	log_open("sandbox", *(bool *)arg);
	log_event(LOG_L_INFO, &(struct log_who){ .peer = "127.0.0.1:1\n\xff" }, "word", NULL, "%s",
	    strerror(ECONNRESET));
	return strftime(text, sizeof(text), "%FT%T%z", localtime_r(&now, &tm)) > 0 &&
	       strftime(text, sizeof(text), "%Z", gmtime_r(&now, &tm)) > 0 && localtime(&now) &&
	       mktime(&tm) != -1;
}

static bool
prints(void *arg)
{
	(void)arg;
	printf("# printed\n");
	return fflush(stdout) == 0 && fprintf(stderr, "# %d\n", (int)getpid()) > 0;
}

static bool
nulls(void *arg)
{
	int tube[2];

	(void)arg;
	return pipe2(tube, O_CLOEXEC) == 0 && dup2(tube[1], STDOUT_FILENO) == 1 &&
	       close(tube[1]) == 0 && fds_null(STDOUT_FILENO) == 0 &&
	       read(tube[0], (char[1]){ 0 }, 1) == 0 && write(1, "x", 1) == 1;
}

static bool
exits(void *arg)
{
	(void)arg;
	exit(0);
}

CASE(a_running_tool_still_works)
{
	if (why_not)
		SKIP(why_not);
	CHECK(works(moves_bytes));
	CHECK(works(waits_and_splices));
	CHECK(works(hands_descriptors_on));
	CHECK(works(tunes_and_asks));
	CHECK(works(reads_sealed_memory));
	CHECK(works(uses_memory));
	CHECK(works(prints));
	CHECK(works(nulls));
	CHECK(works(exits));
}

CASE(times_are_formatted_whatever_tz_says)
{
	static const char *const zones[] = { NULL, "", "UTC", "Europe/Berlin", ":/etc/localtime",
		"no/such" };

	if (why_not)
		SKIP(why_not);
	for (size_t i = 0; i < sizeof(zones) / sizeof(zones[0]); i++) {
		if (zones[i])
			setenv("TZ", zones[i], 1);
		else
			unsetenv("TZ");
		CHECK_INT(child(logs, &(bool){ false }, true), 0);
		CHECK_INT(child(logs, &(bool){ true }, true), 0);
	}
	unsetenv("TZ");
}

static bool
aborts(void *arg)
{
	(void)arg;
	abort();
}

static bool
frees_twice(void *arg)
{
	void *volatile p = malloc(100);
	void *volatile same = p;

	(void)arg;
	free(p);
	free(same);
	return true;
}

static bool
faults(void *arg)
{
	*(volatile int *)arg = 1;
	return true;
}

CASE(a_crash_is_told_as_what_it_was)
{
	if (why_not)
		SKIP(why_not);
	CHECK(died_of(child(aborts, NULL, true), SIGABRT));
	CHECK(died_of(child(frees_twice, NULL, true), SIGABRT));
	CHECK(died_of(child(faults, NULL, true), SIGSEGV));
}

CASE(nobody_dumps_a_core_with_keys_in_it)
{
	struct rlimit found, wide;

	if (why_not)
		SKIP(why_not);
	getrlimit(RLIMIT_CORE, &found);
	wide = (struct rlimit){ found.rlim_max, found.rlim_max };
	setrlimit(RLIMIT_CORE, &wide);
	CHECK(!WCOREDUMP(child(aborts, NULL, true)));
	CHECK(!WCOREDUMP(child(make_call, &(struct call)CALL(getppid), true)));
	setrlimit(RLIMIT_CORE, &found);
}

static bool
has_nothing(void *arg)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	char line[256], *unbound = arg;
	FILE *f = fopen("/proc/self/status", "re");
	int seen = 0;

	if (syscall(SYS_capget, &head, data) < 0 || !f)
		return false;
	for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		if (data[i].effective || data[i].permitted || data[i].inheritable)
			return false;
	while (fgets(line, sizeof(line), f)) {
		seen += strcmp(line, "NoNewPrivs:\t1\n") == 0 ||
			strcmp(line, "CapAmb:\t0000000000000000\n") == 0;
		if (unbound && strcmp(line, "CapBnd:\t0000000000000000\n") == 0)
			seen++;
	}
	fclose(f);
	return seen == (unbound ? 3 : 2);
}

/* ---- a single connection's own link ---- */

CASE(a_link_of_its_own_may_be_dialled_and_removed)
{
	long dir = AT_FDCWD, here = P("not-here"), stat = P((char[256]){ 0 });

	allowed = SANDBOX_UNIX_DIAL;
	all_let_through((struct call[]){
#ifdef SYS_unlink
	    CALL(unlink, here),
	    CALL(rmdir, here),
#endif
	    CALL(socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
	    CALL(connect, -1, P(&hub), sizeof(hub)),
	    CALL(accept4, -1, 0, 0, SOCK_CLOEXEC),
	    CALL(openat, dir, here, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
	    CALL(newfstatat, dir, here, stat, AT_SYMLINK_NOFOLLOW),
	    CALL(unlinkat, dir, here, 0),
	    { 0 },
	});
	all_killed((struct call[]){
#ifdef SYS_open
	    CALL(open, P("/etc/passwd"), O_RDONLY),
#endif
	    CALL(openat, dir, P("/etc/passwd"), O_RDONLY),
	    CALL(openat, dir, here, O_CREAT | O_WRONLY, 0600),
	    CALL(socket, AF_INET, SOCK_STREAM, 0),
	    CALL(socket, AF_UNIX, SOCK_DGRAM, 0),
	    CALL(bind, -1, P(&hub), sizeof(hub)),
	    CALL(listen, -1, 1),
	    CALL(execve, P("/proc/self/exe"), P(no_args), P(no_args)),
	    CALL(clone, SIGCHLD),
	    CALL(fchmodat, dir, here, 0777),
	    { 0 },
	});
	allowed = 0;
}

/* ---- identity ---- */

static struct passwd *
somebody(void)
{
	struct passwd *pw = getpwnam("nobody");

	return pw ? pw : getpwuid(getuid());
}

CASE(a_user_is_found_by_name_and_number)
{
	struct identity by_name = { 0 }, by_number = { 0 }, with_group = { 0 };
	struct passwd *pw = somebody();
	struct group *gr = getgrgid(0);
	char name[64], number[32], both[128], msg[256] = "";
	uid_t uid;
	gid_t gid;

	if (!pw || !gr)
		SKIP("no user has an entry here");
	uid = pw->pw_uid;
	gid = pw->pw_gid;
	snprintf(name, sizeof(name), "%s", pw->pw_name);
	CHECK_INT(identity_find(&by_name, name, msg, sizeof(msg)), 0);
	CHECK_INT(by_name.uid, uid);
	CHECK_INT(by_name.gid, gid);
	CHECK_STR(by_name.name, name);
	CHECK(by_name.n_groups >= 1);
	snprintf(number, sizeof(number), "%u", uid);
	CHECK_INT(identity_find(&by_number, number, msg, sizeof(msg)), 0);
	CHECK_INT(by_number.uid, uid);
	CHECK_INT(by_number.gid, gid);
	snprintf(both, sizeof(both), "%s:%s", name, gr->gr_name);
	CHECK_INT(identity_find(&with_group, both, msg, sizeof(msg)), 0);
	CHECK_INT(with_group.uid, uid);
	CHECK_INT(with_group.gid, 0);
	CHECK_INT(identity_find(&with_group, "4000000000:4000000001", msg, sizeof(msg)), 0);
	CHECK_INT(with_group.uid, 4000000000);
	CHECK_INT(with_group.gid, 4000000001);
	CHECK_INT(with_group.n_groups, 1);
	CHECK_INT(with_group.groups[0], 4000000001);
}

CASE(who_is_not_there_is_named)
{
	struct identity id = { .uid = 7 };
	char msg[256] = "", longer[200];

	CHECK_INT(identity_find(&id, "nosuchuser", msg, sizeof(msg)), -EINVAL);
	CHECK_STR(msg, "there is no user nosuchuser");
	CHECK_INT(identity_find(&id, "0:nosuchgroup", msg, sizeof(msg)), -EINVAL);
	CHECK_STR(msg, "there is no group nosuchgroup");
	CHECK_INT(identity_find(&id, "4000000000", msg, sizeof(msg)), -EINVAL);
	CHECK_STR(msg, "user 4000000000 has no entry, and so no group: write 4000000000:GROUP");
	CHECK_INT(identity_find(&id, "4294967295:0", msg, sizeof(msg)), -EINVAL);
	CHECK_INT(identity_find(&id, "", msg, sizeof(msg)), -EINVAL);
	CHECK_INT(identity_find(&id, ":0", msg, sizeof(msg)), -EINVAL);
	CHECK_INT(identity_find(&id, "0:", msg, sizeof(msg)), -EINVAL);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	CHECK_INT(identity_find(&id, longer, msg, sizeof(msg)), -EINVAL);
	CHECK_INT(id.uid, 7);
}

static bool
becomes(void *arg)
{
	const struct identity *id = arg;
	gid_t groups[IDENTITY_GROUPS_MAX];
	uid_t r, e, s;
	gid_t gr, ge, gs;
	char msg[256];

	return identity_take(id, msg, sizeof(msg)) == 0 && getresuid(&r, &e, &s) == 0 &&
	       r == id->uid && e == id->uid && s == id->uid && getresgid(&gr, &ge, &gs) == 0 &&
	       gr == id->gid && ge == id->gid && gs == id->gid &&
	       getgroups(IDENTITY_GROUPS_MAX, groups) == id->n_groups &&
	       memcmp(groups, id->groups, (size_t)id->n_groups * sizeof(groups[0])) == 0 &&
	       setuid(0) < 0 && seteuid(0) < 0 && setgid(0) < 0 && setgroups(0, NULL) < 0 &&
	       has_nothing(id->n_groups > 2 ? "unbound" : NULL);
}

static const struct identity nobody_known = { .uid = 65533,
	.gid = 65532,
	.n_groups = 3,
	.groups = { 65530, 65531, 65532 },
	.name = "65533" };

CASE(root_becomes_somebody_for_good)
{
	struct identity id = nobody_known;

	if (getuid() != 0)
		SKIP("needs root");
	CHECK_INT(child(becomes, &id, false), 0);
}

static bool
stays_root(void *arg)
{
	struct identity id;
	char msg[256];

	(void)arg;
	return identity_find(&id, "0", msg, sizeof(msg)) == 0 &&
	       identity_take(&id, msg, sizeof(msg)) == 0 && setuid(0) == 0 &&
	       prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

CASE(root_may_stay_root)
{
	if (getuid() != 0)
		SKIP("needs root");
	CHECK_INT(child(stays_root, NULL, false), 0);
}

/* As an ordinary user: root becomes one first. */
static bool
already_there(void *arg)
{
	struct identity id = { .n_groups = 1 };
	char msg[256];

	(void)arg;
	if (getuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(65532, 65532, 65532) < 0 ||
				 setresuid(65533, 65533, 65533) < 0))
		return false;
	id.uid = getuid();
	id.gid = id.groups[0] = getgid();
	return identity_take(&id, msg, sizeof(msg)) == 0 && has_nothing(NULL) && setuid(0) < 0;
}

static bool
cannot_become(void *arg)
{
	struct identity id = { .uid = 65521, .gid = 65521, .n_groups = 1, .name = "somebody" };
	char msg[256] = "";

	(void)arg;
	if (getuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(65532, 65532, 65532) < 0 ||
				 setresuid(65533, 65533, 65533) < 0))
		return false;
	return identity_take(&id, msg, sizeof(msg)) == -EPERM &&
	       strcmp(msg, "setgroups: Operation not permitted; start it as root, or as this user: "
			   "somebody") == 0;
}

CASE(who_is_not_root_stays_who_he_is)
{
	CHECK_INT(child(already_there, NULL, false), 0);
	CHECK_INT(child(cannot_become, NULL, false), 0);
}

/* /proc cannot be asked from inside: what the parent sees of a child that waits. */
CASE(capabilities_are_gone_inside)
{
	char path[64], line[256];
	int ready[2], go[2], zeros = 0, filtered = 0, status;
	pid_t pid;
	FILE *f;

	if (why_not)
		SKIP(why_not);
	CHECK(pipe(ready) == 0 && pipe(go) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		enter();
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		_exit(read(go[0], line, 1) == 0 ? 0 : 1);
	}
	close(ready[1]);
	CHECK_INT(read(ready[0], line, 1), 1);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "Cap", 3) == 0 &&
		    (getuid() == 0 || strncmp(line, "CapBnd", 6) != 0))
			zeros += strcmp(line + 6, ":\t0000000000000000\n") == 0;
		filtered +=
		    strcmp(line, "NoNewPrivs:\t1\n") == 0 || strcmp(line, "Seccomp:\t2\n") == 0;
	}
	CHECK_INT(zeros, getuid() == 0 ? 5 : 4);
	CHECK_INT(filtered, 2);
	if (f)
		fclose(f);
	close(go[1]);
	close(go[0]);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	close(ready[0]);
}

/* ---- what the children find open ---- */

static void
prepare(void)
{
	static char page[4096] = "k";
	int status;

	loop_fd = epoll_create1(EPOLL_CLOEXEC);
	tcp_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	sealed_fd = memfd_create("keys", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (write(sealed_fd, page, sizeof(page)) != sizeof(page))
		abort();
	fcntl(sealed_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
#if defined(__SANITIZE_ADDRESS__)
	why_not = "sanitizers need more than that";
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
	why_not = "sanitizers need more than that";
#endif
#endif
	if (why_not)
		return;
	status = child(nothing, NULL, true);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT)
		why_not = "this kernel has no seccomp";
}

int
main(void)
{
	prepare();
	return check_main((struct check_case[]){
	    RUN(no_file_is_opened_made_or_changed),
	    RUN(no_socket_is_made_bound_connected_or_listened_on),
	    RUN(no_process_is_made_run_signalled_or_traced),
	    RUN(no_identity_limit_or_filter_is_changed),
	    RUN(no_memory_becomes_a_program_and_the_kernel_is_left_alone),
	    RUN(other_abis_are_no_way_round),
	    RUN(it_is_entered_once),
	    RUN(a_running_tool_still_works),
	    RUN(times_are_formatted_whatever_tz_says),
	    RUN(a_crash_is_told_as_what_it_was),
	    RUN(nobody_dumps_a_core_with_keys_in_it),
	    RUN(capabilities_are_gone_inside),
	    RUN(a_link_of_its_own_may_be_dialled_and_removed),
	    RUN(a_user_is_found_by_name_and_number),
	    RUN(who_is_not_there_is_named),
	    RUN(root_becomes_somebody_for_good),
	    RUN(root_may_stay_root),
	    RUN(who_is_not_root_stays_who_he_is),
	    { 0 },
	});
}
