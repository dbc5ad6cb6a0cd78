#!/usr/bin/env python3
"""Makes a running process execute one system call of ours, in place of the wait in epoll in which it is found.

    inject.py PID CALL

CALL is a name below.  Says in one line what came of it, `openat: 7`, `openat: -13 EACCES` or `openat: killed by SIGSYS`,
and leaves the process as it was (its wait is interrupted, as by a signal).  Exit status: 0 if the call was made, 1 if the
process could not be made to, 77 where this cannot be tried at all (another machine than x86-64, tracing is not allowed)."""
import ctypes, errno, os, platform, signal, struct, sys, time

AT_FDCWD, CLOEXEC = -100, 0o2000000
FILE, UNIX, PROGRAM = b"/etc/passwd\0", struct.pack("H", 1) + b"nobody-is-there\0", b"/bin/true\0"
CALLS = {  # number and arguments; bytes: their address in the process
    "getpid": (39, ()),
    "openat": (257, (AT_FDCWD, FILE, CLOEXEC)),
    "open": (2, (FILE, CLOEXEC)),
    "socket": (41, (2, 1 | CLOEXEC, 0)),
    "connect": (42, (-1, UNIX, len(UNIX))),
    "bind": (49, (-1, UNIX, len(UNIX))),
    "listen": (50, (-1, 1)),
    "accept4": (288, (-1, 0, 0, 0)),
    "execve": (59, (PROGRAM, 0, 0)),
    "kill": (62, (1, 0)),
    "ptrace": (101, (-1, 0, 0, 0)),
    "setuid": (105, (0,)),
    "unlink": (87, (b"nobody-is-there\0",)),
    "memfd_create": (319, (b"x\0", 1)),
    "mmap-exec": (9, (0, 4096, 5, 0x22, -1, 0)),
    "prctl": (157, (3, 0, 0, 0, 0)),
}
WAITS = {232: "epoll_wait", 281: "epoll_pwait", 441: "epoll_pwait2"}

SYSCALL, GETREGS, SETREGS, DETACH, SEIZE, INTERRUPT = 24, 12, 13, 17, 0x4206, 0x4207
CONT = 7
REGS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base "
        "ds es fs gs").split()
GOOD = 0x80 | signal.SIGTRAP  # a stop at a system call, as PTRACE_O_TRACESYSGOOD marks it
EXEC = signal.SIGTRAP | 4 << 8
STOP = 128 << 8


class Regs(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in REGS]


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def skip(why):
    print(f"cannot be tried here: {why}")
    sys.exit(77)


class Killed(Exception):
    pass


class Process:
    def __init__(self, pid):
        self.pid = pid
        try:
            self.ptrace(SEIZE, data=0x1 | 0x10)  # TRACESYSGOOD, TRACEEXEC
        except PermissionError as e:
            skip(f"ptrace of {pid}: {e.strerror}")

    def ptrace(self, what, data=0):
        if libc.ptrace(what, self.pid, None, data) == -1:
            e = ctypes.get_errno()
            raise OSError(e, os.strerror(e))

    def regs(self):
        r = Regs()
        self.ptrace(GETREGS, ctypes.addressof(r))
        return r

    def set(self, r):
        self.ptrace(SETREGS, ctypes.addressof(r))

    def stopped(self):
        """What it stopped for: the signal, and the event above it."""
        _, status = os.waitpid(self.pid, 0x40000000)  # __WALL
        if os.WIFSIGNALED(status):
            raise Killed(signal.Signals(os.WTERMSIG(status)).name)
        if os.WIFEXITED(status):
            raise Killed(f"nobody: it exited with {os.WEXITSTATUS(status)}")
        return status >> 8

    def run_to(self, *stops):
        """On to one of these stops; signals that come meanwhile are passed on."""
        pass_on = 0
        while True:
            self.ptrace(SYSCALL, pass_on)
            stop = self.stopped()
            if stop in stops:
                return stop
            pass_on = stop if stop < 0x80 and stop != signal.SIGTRAP else 0


def waiting(p, limit=10):
    """Stops it in epoll, and returns its registers."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        p.ptrace(INTERRUPT)
        while p.stopped() >> 8 != STOP >> 8:
            p.ptrace(CONT)
        r = p.regs()
        if ctypes.c_longlong(r.orig_rax).value in WAITS and ctypes.c_longlong(r.rax).value == -errno.EINTR:
            return r
        p.ptrace(CONT)
        os.sched_yield()
    print(f"{p.pid} was not found waiting in epoll")
    sys.exit(1)


def inject(p, number, args):
    was = waiting(p)
    at = was.rsp - 1024 & ~15  # below what a leaf function may use without telling
    regs = Regs.from_buffer_copy(was)
    with open(f"/proc/{p.pid}/mem", "r+b", 0) as memory:
        memory.seek(at)
        kept = memory.read(256)
        values = []
        for arg in args:
            if isinstance(arg, bytes):
                memory.seek(at)
                memory.write(arg)
                values.append(at)
                at += len(arg)
            else:
                values.append(arg & 0xffffffffffffffff)
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), values):
            setattr(regs, name, value)
        regs.rax = number
        regs.orig_rax = 0xffffffffffffffff  # no call to be restarted
        regs.rip = was.rip - 2  # back onto the syscall instruction
        p.set(regs)
        p.run_to(GOOD)
        if p.run_to(GOOD, EXEC) == EXEC:
            return 0
        result = ctypes.c_longlong(p.regs().rax).value
        memory.seek(was.rsp - 1024 & ~15)
        memory.write(kept)
    p.set(was)
    p.run_to(GOOD)  # its next call: a filter's signal comes only now
    return result


def main():
    if len(sys.argv) != 3 or sys.argv[2] not in CALLS:
        sys.exit(f"usage: inject.py PID CALL\nCALL: {' '.join(CALLS)}")
    if platform.machine() != "x86_64" or struct.calcsize("P") != 8:
        skip(f"registers of {platform.machine()} are not known")
    name = sys.argv[2]
    p = Process(int(sys.argv[1]))
    try:
        result = inject(p, *CALLS[name])
        p.ptrace(DETACH)
    except Killed as e:
        print(f"{name}: killed by {e}")
        return
    print(f"{name}: {result}" + (f" {errno.errorcode.get(-result, '')}" if result < 0 else ""))


main()
