"""System calls of a process that fail, by strace, one cell of a table after the other: what disturb.py and disturb_udp.py share.

CELL is CALL:ERRNO,ERRNO... or CALL:ERRNO,ERRNO...@WHEN,WHEN..., as strace has them: 7 is the seventh such call, 5+3 the fifth
and every third after it.  Without: 1 and, in turn, 7 and 5+3; what is too late to be reached is brought forward.
"""
import os, re, signal, subprocess, sys, tempfile, time

CALL = re.compile(rb"^(?:\d+ +)?([a-z_0-9]+)\(", re.M)


class Fault(Exception):
    """What must not be."""


class Gone(Exception):
    """A process that has ended meanwhile."""


def wait(what, seconds):
    end = time.monotonic() + seconds
    while not (result := what()) and time.monotonic() < end:
        time.sleep(0.005)
    return result


def alive(pid):
    return os.path.exists(f"/proc/{pid}/exe")


def state(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def read(path, start=0):
    with open(path, "rb") as f:
        f.seek(start)
        return f.read()


class Strace:
    """Over a running process (pid), or over one that it starts itself (argv)."""

    def __init__(self, *inject, pid=None, argv=(), follow=False, only=None, **popen):
        self.file = tempfile.NamedTemporaryFile(prefix="strace.", dir=".")
        how = ["strace", "-o", self.file.name, "-e", "signal=none"]
        for one in inject:
            how += ["-e", f"inject={one}"]
        how += ["-f"] * follow + ["-P", os.path.abspath(only or "")] * bool(only)
        if not pid:
            self.process = subprocess.Popen(how + list(argv), start_new_session=True, **popen)
            return
        self.process = subprocess.Popen(how + ["-p", str(pid)], stderr=subprocess.PIPE)
        for line in self.process.stderr:
            if b"attached" in line:
                return
        self.detach()
        if alive(pid):
            print(f"strace cannot be attached to {pid}")
            sys.exit(77)
        raise Gone

    def calls(self):
        return len(CALL.findall(read(self.file.name)))

    def injected(self):
        return read(self.file.name).count(b"(INJECTED)")

    def rests(self, pid):
        """It waits for something new: who is let go in the middle of an injected call sees another error."""
        before = self.calls()
        time.sleep(0.01)
        return state(pid) in "SZX" and self.calls() == before

    def detach(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.process.stderr.close()

    def ended(self, seconds):
        """The exit status of what it has started."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise Fault("it does not end") from None
        if status < 0 or status >= 128:
            raise Fault(f"it was killed: {status}")
        return status


def run_cells(spec, turn, run, every=()):
    """run(call, error, when) for each of a CELL: whether it was reached.  every: these places in the place of those it says, but
    for @@.  Gives the errors that were not reached at all."""
    call, _, rest = spec.partition(":")
    errors, at, whens = re.fullmatch("([^@]*)(@*)(.*)", rest).groups()
    if every and at != "@@":
        whens = ",".join(every)
    missed = []
    for i, error in enumerate(errors.split(",")):
        done = set()
        for when in whens.split(",") if whens else ["1", ("7", "5+3")[(turn + i) % 2]]:
            n, more = re.fullmatch(r"(\d+)(.*)", when).groups()
            n = int(n)
            while (n, more) not in done and not run(call, error, f"{n}{more}"):
                done.add((n, more))
                n //= 2
                if n == 0:
                    print(f"{call} {error} {when}: FAULT: there is no such call", flush=True)
                    missed.append(call)
                    break
            done.add((n, more))
    return missed
