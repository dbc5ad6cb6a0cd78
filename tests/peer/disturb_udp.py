#!/usr/bin/env python3
"""Makes system calls of ccf-udpecho, or of `ccf-connect udp:`, fail, one cell of a table after the other, and says what became
of each.

    disturb_udp.py [OPTION...] tool:PID HOST:PORT [CELL...]
    disturb_udp.py [OPTION...] client HOST:PORT CELL... -- PROGRAM ARG...

CELL: see straced.py.  1+ is the first and all that follow: it lasts until strace lets go.

tool:PID  It echoes, or has COMMANDs that do; --log is where its log goes.  strace is attached for a cell: --peers new sockets
        ask, --window questions at a time, until each has --rounds answers; with --batch the tool is stopped while the first
        of them are sent, so that they are one batch; and --event happens meanwhile.  What does not come is asked for with USR1:
        every question has to be answered once, with its own bytes, or counted as dropped, or it went to a COMMAND whose session
        ended ("over").  Then the tool has to be at rest; and without strace these peers and new ones are all answered.
        Without a CELL that is all.
client  PROGRAM is run for each cell, under strace, with lines on a pipe, in.fifo, as its standard input, and out.fifo as its
        standard output, which has to be the same; what is behind HOST:PORT echoes.

A line says what became of a cell: CALL ERRNO WHEN: RESULT; N injected, M calls.  RESULT of a tool: whole, or how many were
dropped, or over; and what the event came to.  Of a client: whole, or N of M lines; its status, and its error.
All else is a FAULT, and the exit status 1: also a tool that is gone; one that makes more than --noise calls while nothing
happens, or while what lasts lasts; a client that ends with 0 though lines are missing, or otherwise without a word; a cell that
is not reached at all.  77: strace may not be attached here.
"""
import argparse, http.client, json, os, random, re, select, signal, socket, subprocess, sys, time

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from straced import Fault, Strace, alive, read, run_cells, state, wait

QUIET = 0.03  # seconds; who spins makes hundreds of calls in them
LASTS = 0.3  # the same, of what lasts
LATE = 0.03  # seconds without an answer: it is asked what it has dropped
SIZES = 30, 100, 1400, 24, 9000, 300
LINES = 60
STATUS = re.compile(rb": (\d+) datagrams in, (\d+) out, (\d+) dropped\n")
RENEWED = re.compile(rb"info: (renewed): |warn: [^\n]* does not take over (\([^\n]*\)): going on as before\n")

parse = argparse.ArgumentParser(usage=__doc__)
parse.add_argument("--also", action="append", default=[], metavar="INJECT", help="with each cell, as strace has it")
parse.add_argument("--batch", action="store_true")
parse.add_argument("--calls", type=int, default=3000)
parse.add_argument("--control", metavar="PATH", help="its control socket")
parse.add_argument("--event", choices=["renew", "cut"], help="USR2; or all sessions are cut, on the control socket")
parse.add_argument("--follow", action="store_true", help="its children are disturbed, too")
parse.add_argument("--limit", type=float, default=20)
parse.add_argument("--log", metavar="FILE", help="the tool's")
parse.add_argument("--noise", type=int, default=60)
parse.add_argument("--only", metavar="PATH", help="calls about it and no others")
parse.add_argument("--peers", type=int, default=1)
parse.add_argument("--rounds", type=int, default=6)
parse.add_argument("--window", type=int, default=1)
parse.add_argument("whom")
parse.add_argument("where")
parse.add_argument("rest", nargs="*")


def eventually(what, complaint):
    if not (result := wait(what, opt.limit)):
        raise Fault(complaint)
    return result


class Count:
    """What the tool has counted."""

    def __init__(self):
        since = os.path.getsize(opt.log)
        os.kill(pid, signal.SIGUSR1)
        said = eventually(lambda: STATUS.search(read(opt.log, since)), "it does not say its status")
        self.came, self.went, self.dropped = map(int, said.groups())

    def since(self, other):
        return self.came - other.came, self.went - other.went, self.dropped - other.dropped


class Peers:
    def __init__(self, n):
        self.base, self.log = Count(), os.path.getsize(opt.log)
        self.socks = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(n)]
        self.open = [{} for _ in self.socks]  # number: question
        self.answered = [0] * n
        self.given_up = {}  # what was given up as over
        self.behind = {}  # the question that was asked because a peer's session was closed
        self.sent = self.dropped = self.over = 0
        self.poll = select.poll()
        for sock in self.socks:
            sock.connect(address)
            self.poll.register(sock, select.POLLIN)
        self.names = ["%s:%d" % sock.getsockname()[:2] for sock in self.socks]
        self.closed = [0] * n
        self.of = {sock.fileno(): i for i, sock in enumerate(self.socks)}

    def ask(self, i):
        self.sent += 1
        question = b"%d.%d " % (i, self.sent)
        question += random.randbytes(SIZES[self.sent % len(SIZES)] - len(question))
        self.open[i][self.sent] = question
        self.socks[i].send(question)
        return self.sent

    def ask_all(self):
        for _ in range(opt.window):
            for i in range(len(self.socks)):
                self.ask(i)

    def take(self, i, got):
        number = int(got.split(b" ")[0].split(b".")[1]) if re.match(rb"\d+\.\d+ ", got) else 0
        if self.given_up.get(number) == got:
            self.over -= 1
            del self.given_up[number]
        elif self.open[i].pop(number, None) != got:
            raise Fault(f"peer {i} got {len(got)} bytes that it has not asked for, or a second time: {got[:30]!r}")
        self.answered[i] += 1
        if self.behind.get(i) == number:
            lost = {n: q for n, q in self.open[i].items() if n < number}
            self.over += len(lost)
            self.given_up |= lost
            for n in lost:
                del self.open[i][n]
            del self.behind[i]

    def hear(self, seconds):
        ready = self.poll.poll(seconds * 1000)
        for fd, _ in ready:
            i = self.of[fd]
            try:
                self.take(i, self.socks[i].recv(65536, socket.MSG_DONTWAIT))
            except BlockingIOError:
                pass
        return bool(ready)

    def account(self):
        """Whose session was closed asks again; and of those that are open, all were dropped, or it is not known yet."""
        log = read(opt.log, self.log)
        for i, name in enumerate(self.names):
            n = log.count(f" {name}: closed: ".encode())
            if n > self.closed[i] and self.open[i]:
                self.behind[i] = self.ask(i)
            self.closed[i] = n
        came, _, dropped = Count().since(self.base)
        while self.hear(0):
            pass
        left = sum(map(len, self.open))
        if dropped - self.dropped > left:
            raise Fault(f"{dropped} dropped, and not so many are missing")
        if left and dropped - self.dropped == left and came == self.sent:
            self.dropped = dropped
            for o in self.open:
                o.clear()
            return True
        return False

    def run(self, rounds):
        rounds, end = [n + rounds for n in self.answered], time.monotonic() + opt.limit
        while any(self.open) or any(n < r for n, r in zip(self.answered, rounds)):
            for i, o in enumerate(self.open):
                while len(o) < opt.window and self.answered[i] + len(o) < rounds[i]:
                    self.ask(i)
            if self.hear(LATE) or self.account():
                end = time.monotonic() + opt.limit
            elif time.monotonic() > end:
                raise Fault(f"{sum(map(len, self.open))} are not answered, nor said to be dropped: {self.result()}")

    def result(self):
        said = [f"dropped {self.dropped}"] * bool(self.dropped) + [f"over {self.over}"] * bool(self.over)
        return ", ".join(said) or "whole"

    def close(self):
        """Everything has been counted, once."""
        came, went, dropped = Count().since(self.base)
        if (came, went, dropped) != (self.sent, sum(self.answered), self.dropped):
            raise Fault(f"{self.sent} sent, {sum(self.answered)} answered, {self.dropped} dropped; "
                        f"it has counted {came} in, {went} out, {dropped} dropped")
        for sock in self.socks:
            sock.close()


def control(method, path):
    link = http.client.HTTPConnection("localhost")
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.settimeout(opt.limit)
    try:
        link.sock.connect(opt.control)
        link.request(method, path)
        return link.getresponse().read()
    except (OSError, http.client.HTTPException) as e:
        raise Fault(f"the control socket: {type(e).__name__}: {e}") from e
    finally:
        link.close()


def children():
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return f.read().split()


def cut():
    for row in json.loads(control("GET", "/connections")):
        control("DELETE", "/connections/" + row["id"].replace("#", "%23"))
    eventually(lambda: not children(), "a COMMAND is left")


def renew(since):
    """Nothing else is asked of it meanwhile."""
    os.kill(pid, signal.SIGUSR2)
    said = eventually(lambda: RENEWED.search(read(opt.log, since)), "the log does not say what became of USR2")
    return ", " + (said[1] or said[2]).decode()


def ask_at_once(peers):
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: state(pid) in "Tt", "it does not stop")
    peers.ask_all()
    os.kill(pid, signal.SIGCONT)


def still(trace, seconds):
    before = trace.calls()
    time.sleep(seconds)
    if (more := trace.calls() - before) > opt.noise:
        raise Fault(f"{more} calls while nothing happens")


def attached(inject, lasts):
    peers, since = Peers(opt.peers), os.path.getsize(opt.log)
    if opt.event == "renew":
        peers.run(1)  # their sessions are there
    trace, result = Strace(inject, *opt.also, pid=pid, follow=opt.follow), ""
    try:
        if opt.batch:
            ask_at_once(peers)
        if opt.event == "renew":
            peers.ask_all()
            result = renew(since)
        if lasts:
            peers.ask_all()
            eventually(trace.injected, "it does not come to it")
            Count()
            still(trace, LASTS)
        else:
            peers.run(opt.rounds)
            Count()
            if opt.event == "cut":
                cut()
                result = ", cut"
            eventually(lambda: trace.rests(pid), "it does not come to rest")
            still(trace, QUIET)
    finally:
        trace.detach()
    if not alive(pid):
        raise Fault("it is gone")
    peers.run(1)
    peers.close()
    result = peers.result() + result
    visit()
    if opt.control:
        cut()
    return result, trace


def visit():
    peers = Peers(opt.peers)
    peers.run(2)
    peers.close()
    if peers.result() != "whole":
        raise Fault(f"then, undisturbed: {peers.result()}")


def client(inject, lasts):
    lines = [b"%d %s\n" % (i, bytes(random.choices(range(97, 123), k=i * 7 % 90))) for i in range(LINES)]
    for name in "in.fifo", "out.fifo":
        if not os.path.exists(name):
            os.mkfifo(name)
    both, out = os.open("in.fifo", os.O_RDWR), os.open("out.fifo", os.O_RDONLY | os.O_NONBLOCK)
    os.write(both, b"".join(lines))
    stdin, stdout = os.open("in.fifo", os.O_RDONLY), os.open("out.fifo", os.O_WRONLY)
    trace = Strace(inject, *opt.also, argv=program, only=opt.only, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    for fd in both, stdin, stdout:
        os.close(fd)
    said = trace.process.stderr.read().decode()
    status = trace.ended(opt.limit)
    got = []
    while piece := os.read(out, 65536):  # it ends in "would block" at no time: nobody has the other end any more
        got.append(piece)
    os.close(out)
    got = b"".join(got).splitlines(True)
    if not set(got[:-1]) <= set(lines) or len(set(got)) < len(got) or not b"".join(lines).count(b"".join(got[-1:])):
        raise Fault("wrong lines")
    if status == 0 and (got != lines or said):
        raise Fault(f"exit status 0, {len(got)} of {LINES} lines: {said}")
    if status != 0 and not re.fullmatch(r"ccf-connect: error: [^\n]+\n", said):
        raise Fault(f"exit status {status}, and it says: {said!r}")
    result = "whole" if got == lines else f"{len(got)} of {LINES} lines"
    return f"{result}, status {status}" + said.rstrip().replace("ccf-connect: error", ""), trace


def run_cell(call, error, when):
    """False: it was not reached."""
    try:
        result, trace = cell(f"{call}:error={error}:when={when}", when.endswith("+"))
        calls, injected = trace.calls(), trace.injected()
        if calls > opt.calls:
            raise Fault(f"{result}; {calls} calls")
    except (Fault, OSError) as e:  # it is gone, perhaps
        print(f"{call} {error} {when}: FAULT: {e}", flush=True)
        faults.append(call)
        return True
    if injected:
        print(f"{call} {error} {when}: {result}; {injected} injected, {calls} calls", flush=True)
    return injected > 0


argv, program = sys.argv[1:], []
if "--" in argv:
    argv, program = argv[:argv.index("--")], argv[argv.index("--") + 1:]
opt = parse.parse_intermixed_args(argv)
faults = []
kind, _, number = opt.whom.partition(":")
pid = int(number or 0)
host, _, port = opt.where.rpartition(":")
family, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)[0][::4]
cell = {"tool": attached, "client": client}[kind]
if pid and not opt.rest:
    visit()
    if opt.control:
        cut()
for turn, spec in enumerate(opt.rest):
    faults += run_cells(spec, turn, run_cell)
sys.exit(bool(faults))
