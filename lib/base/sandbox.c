/* base/sandbox - see sandbox.h.
 * The list names what a worker that is up still does; whatever opens files (time zone, /dev/null)
 * is done before the filter is loaded.  An argument is compared where a call that is needed could
 * do something that is not. */
#include "base/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fds.h"

static int
failed(char *msg, size_t cap, const char *call, int error)
{
	snprintf(msg, cap, "%s: %s", call, strerror(error));
	return -error;
}

/* ---- privileges ---- */

/* What an exec could bring back.  Needs a privilege itself: who lacks it has little to lose. */
static void
drop_bounds(void)
{
	(void)prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (unsigned long c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
			break;
}

static int
drop_privileges(char *msg, size_t cap)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capset, &head, none) < 0)
		return failed(msg, cap, "capset", errno);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return failed(msg, cap, "prctl(PR_SET_NO_NEW_PRIVS)", errno);
	return 0;
}

/* ---- identity ---- */

static bool
number(const char *text, uint32_t *ret)
{
	const char *err;
	long long n = strtonum(text, 0, UINT32_MAX - 1, &err);

	if (err)
		return false;
	*ret = (uint32_t)n;
	return true;
}

static int
find_group(struct identity *id, const char *group, char *msg, size_t cap)
{
	struct group *gr = getgrnam(group);

	if (gr)
		id->gid = gr->gr_gid;
	else if (!number(group, &id->gid)) {
		snprintf(msg, cap, "there is no group %s", group);
		return -EINVAL;
	}
	return 0;
}

int
identity_find(struct identity *ret, const char *user, char *msg, size_t cap)
{
	struct identity id = { .n_groups = 1 };
	size_t len = strcspn(user, ":");
	const char *group = user[len] ? user + len + 1 : NULL;
	struct passwd *pw;

	if (len >= sizeof(id.name)) {
		snprintf(msg, cap, "there is no user with a name that long");
		return -EINVAL;
	}
	memcpy(id.name, user, len);
	pw = getpwnam(id.name);
	if (!pw && number(id.name, &id.uid))
		pw = getpwuid(id.uid);
	else if (!pw) {
		snprintf(msg, cap, "there is no user %s", id.name);
		return -EINVAL;
	}
	if (pw) {
		id.uid = pw->pw_uid;
		id.gid = pw->pw_gid;
	} else if (!group) {
		snprintf(msg, cap, "user %s has no entry, and so no group: write %s:GROUP", id.name,
		    id.name);
		return -EINVAL;
	}
	if (group && find_group(&id, group, msg, cap) < 0)
		return -EINVAL;
	id.groups[0] = id.gid;
	if (pw) {
		id.n_groups = IDENTITY_GROUPS_MAX;
		if (getgrouplist(pw->pw_name, id.gid, id.groups, &id.n_groups) < 0) {
			snprintf(msg, cap, "user %s is in more than %d groups", id.name,
			    IDENTITY_GROUPS_MAX);
			return -EINVAL;
		}
	}
	*ret = id;
	return 0;
}

/* Real, effective and saved. */
static bool
is_now(const struct identity *id)
{
	uid_t r, e, s;
	gid_t gr, ge, gs;

	return getresuid(&r, &e, &s) == 0 && getresgid(&gr, &ge, &gs) == 0 && r == id->uid &&
	       e == id->uid && s == id->uid && gr == id->gid && ge == id->gid && gs == id->gid;
}

static int
become(const struct identity *id, char *msg, size_t cap)
{
	const char *call = NULL;
	int error;

	if (setgroups((size_t)id->n_groups, id->groups) < 0)
		call = "setgroups";
	else if (setresgid(id->gid, id->gid, id->gid) < 0)
		call = "setresgid";
	else if (setresuid(id->uid, id->uid, id->uid) < 0)
		call = "setresuid";
	if (!call)
		return 0;
	error = errno;
	snprintf(msg, cap, "%s: %s%s%s", call, strerror(error),
	    error == EPERM ? "; start it as root, or as this user: " : "",
	    error == EPERM ? id->name : "");
	return -error;
}

int
identity_take(const struct identity *id, char *msg, size_t cap)
{
	int rc = 0;

	/* Who is not root cannot set his groups, but may well be this user already. */
	if (geteuid() == 0 || !is_now(id)) {
		if (id->uid != 0)
			drop_bounds();
		rc = become(id, msg, cap);
	}
	if (rc == 0 && id->uid != 0)
		rc = drop_privileges(msg, cap);
	else if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		rc = failed(msg, cap, "prctl(PR_SET_NO_NEW_PRIVS)", errno);
	if (rc < 0)
		return rc;
	if (!is_now(id) || (id->uid != 0 && setuid(0) == 0)) {
		snprintf(msg, cap, "setuid: it did not hold");
		return -EPERM;
	}
	return 0;
}

/* ---- system calls ---- */

/* What stays allowed whatever its arguments are.  pread64: certificates come as a memfd; sysinfo:
 * qsort asks for the size of memory; wait4, waitid: a stray SIGCHLD has the loop ask. */
static const int running[] = { SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev),
	SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(recvmmsg),
	SCMP_SYS(sendmmsg), SCMP_SYS(shutdown), SCMP_SYS(close), SCMP_SYS(dup), SCMP_SYS(dup2),
	SCMP_SYS(dup3), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(restart_syscall), SCMP_SYS(fstat),
	SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(munmap),
	SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(futex), SCMP_SYS(getrlimit),
	SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time),
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid),
	SCMP_SYS(getegid), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(pread64), SCMP_SYS(sysinfo), SCMP_SYS(wait4),
	SCMP_SYS(waitid) };

struct rule { /* allowed where all of these hold; several of one call: where one does */
	int call;
	struct scmp_arg_cmp arg[2]; /* op 0: none */
};

/* The kernel takes an int's lower half; what libc leaves in the upper one is not defined. */
#define IS(n, value)	(n), SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint32_t)(value)
#define BITS(n, of, is) (n), SCMP_CMP_MASKED_EQ, (of), (is)
#define NULLED(n)	(n), SCMP_CMP_EQ, 0, 0
#define N(array)	(sizeof(array) / sizeof((array)[0]))
#define TYPE		0xf /* of a socket's type: the rest are flags */

/* No datagram socket among them: with sendmsg one could reach any socket's name. */
static const struct rule limited[] = {
	{ SCMP_SYS(sendto), { { NULLED(4) } } },
	{ SCMP_SYS(splice), { { NULLED(1) }, { NULLED(3) } } },
	{ SCMP_SYS(socketpair), { { IS(0, AF_UNIX) }, { BITS(1, TYPE, SOCK_STREAM) } } },
	{ SCMP_SYS(socketpair), { { IS(0, AF_UNIX) }, { BITS(1, TYPE, SOCK_SEQPACKET) } } },
	{ SCMP_SYS(pipe2), { { BITS(1, ~(uint32_t)(O_CLOEXEC | O_NONBLOCK), 0) } } },
	{ SCMP_SYS(fcntl), { { IS(1, F_GETFD) } } },
	{ SCMP_SYS(fcntl), { { IS(1, F_SETFD) } } },
	{ SCMP_SYS(fcntl), { { IS(1, F_GETFL) } } },
	{ SCMP_SYS(fcntl), { { IS(1, F_DUPFD_CLOEXEC) } } },
	{ SCMP_SYS(fcntl), { { IS(1, F_SETPIPE_SZ) } } },
	{ SCMP_SYS(fcntl), { { IS(1, F_GETPIPE_SZ) } } },
	{ SCMP_SYS(fcntl), { { IS(1, F_GET_SEALS) } } },
	{ SCMP_SYS(ioctl), { { IS(1, SIOCOUTQ) } } },
	{ SCMP_SYS(ioctl), { { IS(1, FIONREAD) } } },
	{ SCMP_SYS(ioctl), { { IS(1, FIONBIO) } } },
	{ SCMP_SYS(ioctl), { { IS(1, TCGETS) } } }, /* stdio asks whether it prints to a terminal */
	{ SCMP_SYS(newfstatat), { { BITS(3, AT_EMPTY_PATH, AT_EMPTY_PATH) } } },
	{ SCMP_SYS(statx), { { BITS(2, AT_EMPTY_PATH, AT_EMPTY_PATH) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, SOL_SOCKET) }, { IS(2, SO_LINGER) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, SOL_SOCKET) }, { IS(2, SO_KEEPALIVE) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, SOL_SOCKET) }, { IS(2, SO_RCVLOWAT) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, SOL_SOCKET) }, { IS(2, SO_SNDBUF) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, SOL_SOCKET) }, { IS(2, SO_RCVBUF) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, IPPROTO_TCP) }, { IS(2, TCP_NODELAY) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, IPPROTO_TCP) }, { IS(2, TCP_CORK) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, IPPROTO_TCP) }, { IS(2, TCP_KEEPIDLE) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, IPPROTO_TCP) }, { IS(2, TCP_KEEPINTVL) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, IPPROTO_TCP) }, { IS(2, TCP_KEEPCNT) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, IPPROTO_TCP) }, { IS(2, TCP_USER_TIMEOUT) } } },
	{ SCMP_SYS(setsockopt), { { IS(1, IPPROTO_TCP) }, { IS(2, TCP_NOTSENT_LOWAT) } } },
	{ SCMP_SYS(mmap), { { BITS(2, PROT_EXEC, 0) } } },
	{ SCMP_SYS(mprotect), { { BITS(2, PROT_EXEC, 0) } } },
	{ SCMP_SYS(prlimit64), { { IS(0, 0) }, { NULLED(2) } } },
};

static const int dialling[] = { SCMP_SYS(connect), SCMP_SYS(accept4), SCMP_SYS(newfstatat),
	SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(rmdir) };

/* O_PATH: a directory of ours is looked into to be removed, nothing is read. */
static const struct rule dialling_limited[] = {
	{ SCMP_SYS(socket), { { IS(0, AF_UNIX) }, { BITS(1, TYPE, SOCK_STREAM) } } },
	{ SCMP_SYS(socket), { { IS(0, AF_UNIX) }, { BITS(1, TYPE, SOCK_SEQPACKET) } } },
	{ SCMP_SYS(openat), { { BITS(2, O_PATH, O_PATH) } } },
};

static int
add(scmp_filter_ctx ctx, const int *call, size_t n, const struct rule *r, size_t rules)
{
	int rc = 0;

	for (; rc == 0 && n > 0; call++, n--)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, *call, 0, NULL);
	for (; rc == 0 && rules > 0; r++, rules--)
		rc = seccomp_rule_add_array(
		    ctx, SCMP_ACT_ALLOW, r->call, r->arg[1].op ? 2 : 1, r->arg);
	return rc;
}

static int
load_filter(unsigned allow)
{
	const struct rule abort_only = { SCMP_SYS(tgkill), { { IS(0, getpid()) } } };
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int rc;

	if (!ctx)
		return -ENOSYS;
	rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (rc == 0)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_API_SYSRAWRC, 1); /* errno as it was */
	if (rc == 0)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (rc == 0)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a tree */
	if (rc == 0)
		rc = add(ctx, running, N(running), limited, N(limited));
	if (rc == 0)
		rc = add(ctx, NULL, 0, &abort_only, 1);
	/* stdio asks at its end; who could seek could write over what the log says */
	if (rc == 0)
		rc = seccomp_rule_add_array(ctx, SCMP_ACT_ERRNO(ESPIPE), SCMP_SYS(lseek), 0, NULL);
	if (rc == 0 && allow & SANDBOX_UNIX_DIAL)
		rc = add(ctx, dialling, N(dialling), dialling_limited, N(dialling_limited));
	if (rc == 0)
		rc = seccomp_load(ctx);
	seccomp_release(ctx);
	return rc;
}

/* No core: keys are in it.  The 1 is smaller than any file of that kind, and the one limit that
 * holds for a program that takes cores from the kernel by a pipe, too. */
static int
no_core(void)
{
	struct rlimit core;

	if (getrlimit(RLIMIT_CORE, &core) < 0)
		return -errno;
	if (core.rlim_max > 1)
		core.rlim_max = 1;
	core.rlim_cur = core.rlim_max;
	return setrlimit(RLIMIT_CORE, &core) < 0 ? -errno : 0;
}

int
sandbox_enter(unsigned allow, char *msg, size_t cap)
{
	int rc = fds_keep_null();

	if (rc < 0)
		return failed(msg, cap, "/dev/null", -rc);
	/* Without TZ libc looks at the file again for every local time. */
	if (setenv("TZ", ":/etc/localtime", 0) < 0)
		return failed(msg, cap, "setenv", errno);
	tzset();
	rc = no_core();
	if (rc < 0)
		return failed(msg, cap, "setrlimit(RLIMIT_CORE)", -rc);
	drop_bounds();
	rc = drop_privileges(msg, cap);
	if (rc < 0)
		return rc;
	rc = load_filter(allow);
	return rc < 0 ? failed(msg, cap, "seccomp", -rc) : 0;
}
