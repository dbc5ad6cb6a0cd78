#!/usr/bin/env python3
"""Makes system calls of ccf-nodelink fail, one cell of a table after the other, and says what became of each.

    disturb_node.py [OPTION...] tool:PID HOST:PORT [CELL...]
    disturb_node.py [OPTION...] once CELL... -- PROGRAM ARG...

CELL: see straced.py.  nofile:EMFILE@@N is none of a call: it may open no more than N - 1 descriptors, until it has met
that and is at rest.
tool:PID  It takes connections from HOST:PORT, knows (--peer) a node p1 at --dials, obeys --orders, a FIFO, tells events, as
        JSON, to --told, and logs to --log.  strace is attached for a cell: a node p2 dials it and says something, short
        and long; it is ordered to send to p1 and to p2, from files, too; p1 sends back what it gets; then p1 is to be closed,
        and p2 ends its link.  With --echo it sends all back by itself, and is given no orders.  With --app PATH programs of ours do
        what orders and events do without.  Everything that was to be sent has to be delivered, dropped or unknown, once, and
        told so; what is delivered has been received by p1, and what is received was delivered or is unknown; what p2 has
        sent is told, in its order and as it was, all of it unless its link ended early, and of long ones is what was to be
        --save'd; each loss is told or logged.  Then the tool has to be at rest; and without strace all this comes to be whole.
        Without a CELL that is all.
once    PROGRAM is run for each cell, under strace, with commands as its standard input, which it gets through or not; ADDRESS
        in its arguments is a node p1 that sends back what it gets.  Exit status 0: everything was delivered, and is there.
        Else it has said why.

A line says what became of a cell: CALL ERRNO WHEN: RESULT; N injected, M calls.  RESULT is whole, or of p1 what was dropped,
unknown or refused as an order; of p2 how its link ended; what was not saved; of once, the status, and its error.
All else is a FAULT, and the exit status 1: also a tool that is gone; one that makes more than --noise calls while nothing
happens; a cell that is not reached at all.  77: strace may not be attached here.
"""
import argparse, collections, fcntl, json, os, random, re, resource, socket, struct, subprocess, sys, threading, time

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from straced import Fault, Gone, Strace, alive, read, run_cells, wait

LASTS = 0.2  # seconds without descriptors, and
QUIET = 0.03  # seconds; who spins makes hundreds of calls in them
PING = 0x676e6970
LONG = 3000  # bytes, and more: it does not stay in memory
SIZES = 40, 20000, 0, 100, 300000, 33

parse = argparse.ArgumentParser(usage=__doc__)
parse.add_argument("--also", action="append", default=[], metavar="INJECT", help="with each cell, as strace has it")
parse.add_argument("--app", metavar="PATH")
parse.add_argument("--attach", action="store_true", help="another program attaches meanwhile")
parse.add_argument("--calls", type=int, default=3000)
parse.add_argument("--dials", metavar="HOST:PORT", help="where p1 is")
parse.add_argument("--echo", action="store_true")
parse.add_argument("--limit", type=float, default=20)
parse.add_argument("--listener", metavar="FILE", help="the log of who gives it connections")
parse.add_argument("--log", metavar="FILE", help="the tool's")
parse.add_argument("--noise", type=int, default=60)
parse.add_argument("--only", metavar="PATH", help="calls about it and no others")
parse.add_argument("--orders", metavar="FIFO")
parse.add_argument("--save", metavar="DIR")
parse.add_argument("--told", metavar="FILE")
parse.add_argument("whom")
parse.add_argument("rest", nargs="*")


def eventually(what, complaint):
    if not (result := wait(what, opt.limit)):
        raise Fault(complaint() if callable(complaint) else complaint)
    return result


def dial():
    try:
        return socket.create_connection(address)
    except OSError:  # a listener that has lost its link refuses, until it has another one
        return None


def host_port(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


# --- nodes of ours ---

def frame(sender, payload, kind=1):
    return struct.pack("<IQQ", 16 + len(sender) + len(payload), kind, len(sender)) + sender + payload


numbers = iter(range(1, 1 << 40))
block = random.Random(7).randbytes(1 << 19).translate(bytes(33 + i % 90 for i in range(256)))


def message(size):
    """Its number, and bytes that follow from it: printable, so that they are shown as they are."""
    number = next(numbers)
    head = b"#%d." % number
    return (head + block[number % 1000:])[:max(size, len(head))]


class Stream:
    """What a node, or a program, hears, read by a thread of its own."""

    def __init__(self, sock, name=b"", echo=False, peer=None):
        self.peer, self.sock, self.name, self.echo, self.frames, self.sent, self.how = peer, sock, name, echo, [], [], None
        self.buf, self.mute, self.pings = bytearray(), False, 0
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        how = self.read()
        if how == "reset":
            self.read()  # what a Unix socket has behind it
        if self.echo:
            self.sock.close()
        self.how = how

    def read(self):
        try:
            while data := self.sock.recv(1 << 18):
                self.buf += data
                self.take()
            return "reset" if self.mute else "fin" if not self.buf else "half a frame"
        except OSError as e:
            return "reset" if isinstance(e, ConnectionResetError) else e.strerror

    def take(self):
        while len(self.buf) >= 20:
            n, kind, s = struct.unpack_from("<IQQ", self.buf)
            if len(self.buf) < 4 + n:
                return
            sender, payload = bytes(self.buf[20:20 + s]), bytes(self.buf[20 + s:4 + n])
            del self.buf[:4 + n]
            self.pings += kind == PING
            if kind != PING:
                self.frames.append((sender, payload))
            if self.echo:
                self.say(payload, kind)

    def say(self, payload, kind=1):
        """What has come is read all the same."""
        try:
            self.sock.sendall(frame(self.name, payload, kind))
            self.sent.append(payload)
        except OSError:
            self.mute = True

    def heard(self):
        return [payload for _, payload in list(self.frames)]

    def half_close(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:  # its reader says how it ended
            pass

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.thread.join(opt.limit)
        self.sock.close()


class Listener:
    """p1: it is dialled, and sends back what it hears."""

    def __init__(self, where):
        self.sock, self.conns = socket.create_server(where), []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            sock, peer = self.sock.accept()
            self.conns.append(Stream(sock, b"p1", True, peer))

    def over(self, before):
        """All that have dialled so far are known, and gone."""
        with socket.create_connection(self.sock.getsockname()) as last:
            mine = last.getsockname()
            eventually(lambda: any(c.peer == mine for c in self.conns), "p1 does not accept")
        eventually(lambda: all(c.how for c in self.conns[before:]), "p1's link does not end")

    def heard(self):
        return [payload for c in list(self.conns) for payload in c.heard()]


# --- what it tells ---

class Told:
    """Its events since then."""

    def __init__(self):
        self.at, self.rest, self.events, self.log = os.path.getsize(opt.told), b"", [], os.path.getsize(opt.log)
        self.listener = os.path.getsize(opt.listener) if opt.listener else 0

    def more(self):
        data = self.rest + read(opt.told, self.at)
        self.at += len(data) - len(self.rest)
        *lines, self.rest = data.split(b"\n")
        self.events += map(json.loads, lines)
        return self.events

    def of(self, event, **having):
        return [e for e in self.more() if e["event"] == event and having.items() <= e.items()]

    def logged(self):
        """And what has become of the link to the listener, which that says."""
        return read(opt.log, self.log).decode() + (read(opt.listener, self.listener).decode() if opt.listener else "")


def payload_of(event, taken):
    """None: it was not kept.  taken: of files that were looked at."""
    if "file" not in event:
        return event["text"].encode()
    if event["file"] is None:
        return None
    if event["file"] not in taken:
        taken[event["file"]] = read(event["file"])
    return taken[event["file"]]


def order(*lines):
    with open(opt.orders, "wb", 0) as f:
        f.write(b"".join(line + b"\n" for line in lines))


def links(told):
    """What it says of each peer, now."""
    n = len(told.of("links"))
    order(b"links")
    eventually(lambda: len(told.of("links")) > n, "it does not answer to `links`")
    found = {}
    for event in told.events:
        if event["event"] == "peer":
            found[event["peer"]] = event
        elif event["event"] == "links":
            last, found = found, {}
    return last


FATES = "delivered", "dropped", "unknown"


def figures(told):
    return collections.Counter({key: n for key, n in links(told)["p1"].items() if isinstance(n, int)})


# --- a round: everything that is said while a cell is disturbed ---

class Round:
    def __init__(self):
        self.told, self.taken, self.result, self.orders = Told(), {}, [], []
        for name in os.listdir(opt.save) if opt.save else ():  # of a cell that has failed
            os.unlink(os.path.join(opt.save, name))
        self.before = figures(self.told)
        self.p1_before, self.conns_before = len(p1.heard()), len(p1.conns)
        self.p2, self.others = None, []

    def conns(self):
        return p1.conns[self.conns_before:]

    def run(self, midway=None):
        self.p2 = Stream(eventually(dial, "the listener cannot be reached"), b"p2")
        if opt.attach:
            self.others.append(attach())
        for size in SIZES:
            self.p2.say(message(size))
        if not opt.echo:
            self.send()
        if midway:
            midway()
        self.settle()
        self.part()

    def send(self):
        for size in SIZES:
            payload = message(size)
            self.orders.append(payload)
            if opt.app:
                programs.now().say_to(b"p1", payload)
            elif size > 200:
                head = payload[:10]
                with open(f"ledger.{len(self.orders)}", "wb") as f:
                    f.write(b"before" + payload[10:] + b"behind")
                order(b"send p1 consensus text:%s file:ledger.%d,6,%d" % (head.replace(b"%", b"%25"), len(self.orders), len(payload) - 10))
            else:
                order(b"send p1 consensus " + payload)

    def told_of(self, who):
        if opt.app:
            return programs.of(who)
        return [payload_of(e, self.taken) for e in self.told.of("message", **{"from": who.decode()})]

    def settle(self):
        """p2 was heard to the end, or is gone; p1 has got what it gets, and was heard."""
        wait(lambda: self.p2.how or len(self.told_of(b"p2")) + self.lost() >= len(self.p2.sent), opt.limit / 4)
        if opt.echo:
            eventually(lambda: self.p2.how or len(self.p2.frames) + self.unkept() == len(self.p2.sent),
                       lambda: f"p2 has back {len(self.p2.frames)} of {len(self.p2.sent)}")
            return
        if opt.app:
            eventually(lambda: programs.now().mute or not programs.now().unread(), "it does not read what a program sends")
        eventually(lambda: self.accounted(), "p1: messages wait, and nothing happens")
        eventually(self.told_all, "what p1 has sent is not told")

    def told_all(self):
        told = self.told_of(b"p1")
        missing = sum(payload not in told for c in self.conns() if not c.how for payload in list(c.sent))
        return missing <= told.count(None) + self.lost()

    def lost(self):
        """Messages that programs have not got."""
        if not opt.app:
            return 0
        said = self.told.logged()
        return len(re.findall(r"a message (?:from a peer|to program \d+) was dropped", said)) + \
            sum(map(int, re.findall(r" detached: .*, (\d+) lost", said)))

    def accounted(self):
        return links(self.told)["p1"]["waiting"] == 0

    def part(self):
        self.p2.half_close()
        eventually(lambda: self.p2.how, "p2's link does not end")
        self.p2.close()
        order(b"close p1")
        p1.over(self.conns_before)
        eventually(lambda: "p2" not in links(self.told), "p2 is not forgotten")
        for other in self.others:
            other.close()

    def judge(self):
        self.judge_p2()
        if not opt.echo:
            self.judge_p1()
        for path in self.taken:
            os.unlink(path)
        if opt.save and os.listdir(opt.save):
            raise Fault(f"files that nobody was told of: {os.listdir(opt.save)}")
        self.result += [f"program: {how}" for how in programs.ended()] if opt.app else []
        return ", ".join(self.result) or "whole"

    def same(self, got, sent, who):
        """The beginning of it; what was not kept is counted.  Of programs: some of it."""
        if opt.app:
            return self.in_order(got, sent, who)
        for i, payload in enumerate(got):
            if i >= len(sent) or payload is not None and payload != sent[i]:
                raise Fault(f"{who}: message {i} is another one, or comes again")
        lost = got.count(None)
        if lost and not opt.echo:  # which shows nothing long
            self.result.append(f"{who}: {lost} not kept")
            self.explained(f"{who}: not kept")

    def judge_p2(self):
        got, sent = self.told_of(b"p2"), self.p2.sent
        self.same(got, sent, "p2")
        downs = self.told.of("link down", peer="p2") or self.told.of("link down", peer="-")
        reason = downs[0]["reason"] if downs else "never came"
        if opt.app and reason == "done" and len(got) < len(sent) <= len(got) + self.lost():
            self.result.append(f"p2: {len(sent) - len(got)} lost")
        elif len(got) < len(sent) or self.p2.how != "fin" or reason != "done":
            self.result.append(f"p2: {len(got)} of {len(sent)}, {self.p2.how}, {reason}")
            self.explained("p2")
            if reason == "done" and len(got) < len(sent):
                raise Fault(f"p2: {len(got)} of {len(sent)} messages, and its link ended as if all were well")
        if opt.echo:
            self.judge_echo(self.p2.heard(), sent)

    def unkept(self):
        return sum(e["count"] for e in self.told.of("dropped", peer="p2"))

    def judge_echo(self, back, sent):
        self.in_order(back, sent, "p2")
        unkept = self.unkept()
        if unkept:
            self.result.append(f"p2: {unkept} not sent back")
        if len(back) + unkept < len(sent) and self.p2.how == "fin":
            raise Fault("p2 has not got everything back, and its link ended as if all were well")

    def judge_p1(self):
        now = figures(self.told)
        moved = {key: now[key] - self.before[key] for key in ("sent", *FATES)}
        got, refused = p1.heard()[self.p1_before:], len(self.told.of("error")) + self.app_lost()
        if moved["sent"] + refused != len(self.orders) and not (opt.app and programs.ended()):
            raise Fault(f"{len(self.orders)} were to be sent, {moved['sent']} were, {refused} are told to be refused")
        if moved["sent"] != sum(moved[key] for key in FATES):
            raise Fault(f"it does not add up: {moved}")
        self.in_order(got, self.orders, "p1")
        if not moved["delivered"] <= len(got) <= moved["delivered"] + moved["unknown"]:
            raise Fault(f"p1 has got {len(got)}, and it says: {moved}")
        told = collections.Counter(dropped=sum(e["count"] for e in self.told.of("dropped", peer="p1") if e["reason"] != "unknown"),
                                   unknown=sum(e["count"] for e in self.told.of("dropped", peer="p1", reason="unknown")))
        for event in self.told.of("link down", peer="p1"):
            told.update({key: event[key] for key in ("dropped", "unknown")})
        if any(told[key] != moved[key] for key in ("dropped", "unknown")):
            raise Fault(f"events tell {dict(told)}, and `links` {moved}")
        bad = [f"{key} {moved[key]}" for key in ("dropped", "unknown") if moved[key]] + [f"refused {refused}"] * bool(refused)
        if bad:
            self.result.append("p1: " + " ".join(bad))
        told = self.told_of(b"p1")
        if opt.app:
            self.in_order(told, [payload for c in self.conns() for payload in c.sent], "a program")
            lost = sum(len(c.sent) for c in self.conns() if c.how == "fin") - len(told)
            if lost > 0:
                self.result.append(f"p1: {lost} lost")
                self.explained("p1")
            return
        for c in self.conns():
            n = 0
            while told[n:] and c.sent[n:] and told[n] in (None, c.sent[n]):
                n += 1
            self.same(told[:n], c.sent, "p1")
            del told[:n]
        if told:
            raise Fault("p1: it tells of a message that was not sent, or not now")

    def app_lost(self):
        return len(re.findall(r"a message from program \d+ was dropped", self.told.logged()))

    def in_order(self, got, sent, who):
        """None twice, for there are no retries."""
        left = iter(sent)
        if not all(any(payload == want for want in left) for payload in got):
            raise Fault(f"{who} has got what was not sent to it, or not in its order, or twice")

    def explained(self, what):
        """By a line that is more than the usual ones."""
        said = [line for line in self.told.logged().splitlines()
                if re.search(": (warn|error): ", line) or re.search(r"(closed: (?!done|closed)|detached: |refused| more )", line)]
        if not said:
            raise Fault(f"{what}, and the log does not say why: {self.told.logged()}")


# --- programs at --app ---

class Program(Stream):
    def say_to(self, to, payload):
        try:
            self.sock.sendall(struct.pack("<Q", len(to)) + to + frame(b"", payload))
        except OSError:
            self.mute = True

    def unread(self):
        return struct.unpack("i", fcntl.ioctl(self.sock, 0x5411, b"\0" * 4))[0]  # SIOCOUTQ


def attach():
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(opt.limit)
    sock.connect(opt.app)
    sock.settimeout(None)
    return Program(sock)


class Programs:
    """One after the other: who is cut off is followed by another."""

    def __init__(self):
        self.all = [attach()]

    def now(self):
        if self.all[-1].how:
            self.all.append(attach())
        return self.all[-1]

    def begin(self):
        self.first, self.before = len(self.all) - 1, len(self.now().frames)

    def of(self, who):
        self.now()
        frames = [f for p in self.all[self.first:] for f in list(p.frames)][self.before:]
        return [payload for sender, payload in frames if sender == who]

    def ended(self):
        return [p.how for p in self.all[self.first:-1]]


# --- cells ---

def still(trace, seconds):
    before = trace.calls()
    time.sleep(seconds)
    if (more := trace.calls() - before) > opt.noise:
        raise Fault(f"{more} calls while nothing happens")


def visit(during=None, midway=None):
    if programs:
        programs.begin()
    r = Round()
    r.run(midway)
    if during:
        during()
    return r.judge()


class Few(Strace):
    """Not so many descriptors: what it meets then counts as injected."""

    def __init__(self, more):
        super().__init__(pid=pid)
        self.before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
        least = next(n for n in range(1 << 20) if n - sum(fd < n for fd in taken) == more and n not in taken)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (least, self.before[1]))

    def injected(self):
        return len(re.findall(rb" = -1 EMFILE |MSG_CTRUNC", read(self.file.name)))

    def midway(self):
        wait(self.injected, opt.limit / 10)
        still(self, LASTS)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, self.before)


def attached(inject):
    few = re.fullmatch(r"nofile:error=EMFILE:when=(\d+)", inject)
    trace = Few(int(few[1]) - 1) if few else Strace(inject, *opt.also, pid=pid, only=opt.only)
    try:
        def rest():
            eventually(lambda: trace.rests(pid), "it does not come to rest")
            still(trace, QUIET)
        result = visit(rest, few and trace.midway)
    finally:
        trace.detach()
    if not alive(pid):
        raise Fault("it is gone")
    if (then := visit()) != "whole":
        raise Fault(f"{result}; then, undisturbed: {then}")
    return result, trace


def commands():
    lines, sent = [], []
    for size in SIZES:
        payload = message(size)
        sent.append(payload)
        if size > 200:
            with open(f"ledger.{size}", "wb") as f:
                f.write(b"before" + payload[10:] + b"behind")
            lines.append(b"send p1 consensus text:%s file:ledger.%d,6,%d" % (payload[:10].replace(b"%", b"%25"), size, len(payload) - 10))
        else:
            lines.append(b"send p1 consensus " + payload)
    return b"".join(line + b"\n" for line in lines + [b"ping p1"]), sent


def once(inject):
    given, sent = commands()
    before, conns = len(p1.heard()), len(p1.conns)
    with open("commands", "wb") as f:
        f.write(given)
    with open("commands", "rb") as f:
        trace = Strace(inject, *opt.also, argv=program_argv, only=opt.only, stdin=f, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = trace.process.communicate(timeout=opt.limit)
    status = trace.ended(opt.limit)
    p1.over(conns)
    events = [json.loads(line) for line in out.splitlines()]
    got, pings = p1.heard()[before:], sum(c.pings for c in p1.conns[conns:])
    left = iter(sent)
    if not all(any(payload == want for want in left) for payload in got):
        raise Fault("p1 has got what was not sent, or not in its order, or twice")
    said = err.decode().strip()
    told = collections.Counter()
    for e in events:
        for key in FATES:
            told[key] += e.get(key, 0) if e["event"] == "link down" else 0
        if e["event"] == "dropped":
            told["unknown" if e["reason"] == "unknown" else "dropped"] += e["count"]
    refused = len([e for e in events if e["event"] == "error"])
    if (events or status == 0) and status != 23 and sum(told.values()) + refused != len(sent) + 1:
        raise Fault(f"status {status}, it does not add up: {dict(told)}, {refused} refused: {said}")
    if not told["delivered"] <= len(got) + pings <= told["delivered"] + told["unknown"] and status != 23:
        raise Fault(f"p1 has got {len(got) + pings}, and it says: {dict(told)}")
    taken = {}
    back = [payload_of(e, taken) for e in events if e["event"] == "message"]
    for path in taken:
        os.unlink(path)
    left = os.listdir(opt.save) if opt.save else []
    for name in left:
        os.unlink(os.path.join(opt.save, name))
    if left and status == 0:
        raise Fault(f"files that nobody was told of: {left}")
    if status == 0 and (got != sent or back != sent or refused):
        raise Fault(f"exit status 0, p1 has got {len(got)} of {len(sent)}, and {len(back) - back.count(None)} are back: {said}")
    why = [e for e in events if e["event"] in ("error", "dropped", "no pong") or e.get("reason", "closed") not in ("closed", "done")]
    if status != 0 and not said and not why:
        raise Fault(f"exit status {status}, without a word")
    result = "whole" if got == sent else f"{len(got)} of {len(sent)}"
    if back.count(None):
        result += f", {back.count(None)} not kept"
    why = said.splitlines()[-1] if said else why[0].get("why", why[0].get("error", why[0].get("reason"))) if why else ""
    return f"{result}, status {status}" + (": " if why else "") + re.sub("^ccf-nodelink: ", "", why), trace


def run_cell(call, error, when):
    """False: it was not reached."""
    try:
        result, trace = cell(f"{call}:error={error}:when={when}")
        calls, injected = trace.calls(), trace.injected()
        if calls > opt.calls:
            raise Fault(f"{result}; {calls} calls")
    except Gone:
        print(f"{call} {error} {when}: FAULT: it is gone", flush=True)
        faults.append(call)
        return True
    except (Fault, OSError) as e:  # it is gone, perhaps
        print(f"{call} {error} {when}: FAULT: {e}", flush=True)
        faults.append(call)
        return True
    if injected:
        print(f"{call} {error} {when}: {result}; {injected} injected, {calls} calls", flush=True)
    return injected > 0


argv, program_argv = sys.argv[1:], []
if "--" in argv:
    argv, program_argv = argv[:argv.index("--")], argv[argv.index("--") + 1:]
opt = parse.parse_intermixed_args(argv)
faults, programs, cells = [], None, opt.rest
kind, _, number = opt.whom.partition(":")
pid = int(number or 0)
if kind == "once":
    p1 = Listener(("127.0.0.1", 0))
    at = "%s:%d" % p1.sock.getsockname()
    program_argv = [arg.replace("ADDRESS", at) for arg in program_argv]
    cell = once
else:
    address, *cells = cells
    address = host_port(address)
    p1 = Listener(host_port(opt.dials))
    cell = attached
    if opt.app:
        programs = Programs()
    if not cells and (became := visit()) != "whole":
        print(f"undisturbed: {became}")
        sys.exit(1)
for turn, spec in enumerate(cells):
    faults += run_cells(spec, turn, run_cell)
sys.exit(bool(faults))
