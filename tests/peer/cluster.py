#!/usr/bin/env python3
"""What stands around nodes that run (tests/nodes.bash): their readers, those they meet, and who keeps the books.  It waits for events
alone; status 1: something was not as it should be, or took longer than --within (80) seconds, and the last line says what.

    cluster.py gate NAME                lines of NAME.ev come to standard output as NAME.gate lets them pass: from each line of it on so
                                        many more, or "all"; when these have, NAME.shut is made
    cluster.py meet [--rounds N] A B    two nodes dial each other at once, each round anew
    cluster.py raw [--rounds N] NODE ID...     so do NODE and we, under each ID: we accept and dial at the same moment
    cluster.py late NODE A B ID...      who dials anew, or is met, when the connection there is is older than 2 seconds
    cluster.py crowd HOST:PORT ID N     500 messages of 1000 bytes on one connection, which stays (but with --close); then N more, each on
                                        one of its own
    cluster.py ledger [OPTION...] NAME=FILE...     do the events of nodes add up?

A NODE is NAME:PID:LISTENER: its id is NAME, the pids are its own and its listener's; NAME.in takes its orders, NAME.ev is a FIFO with
its events (--format json), NAME.ctl its control socket, and NAME.addr holds where it is dialled.

ledger: FILE is what NAME told, as text; given again for the same NAME it is what the next process told that was NAME after the one
before was killed.  All messages are `RUN NUMBER ...`: each process sends under a RUN of its own (NAME.1, NAME.2 ...), and to each
other node its numbers count from 0.  Always: at every `links` what was sent is delivered + dropped + unknown + waiting; nothing came
that was not sent; a message that comes after a later one, or again, comes over a new connection, and no
more of them than were resent.  Of a node's last process: what the links that went down and the dropped say is what it says of
itself; the other side has got no more than delivered + unknown + resent, and all that was delivered if its process was not killed.
--sent [RUN:]N: there are so many under that RUN, or each; the last process of each NAME has sent them to each; --whole: all of these
came; --tail N: of its last N each came, to the last process; --once: no message came twice or late; --no-gaps: a process that gets a
message gets all that follow, as long as it lives."""
import argparse, collections, http.client, json, os, re, select, signal, socket, struct, sys, time

LIMIT = 40 if os.environ.get("CCF_SAN") else 20  # seconds for what is waited for


def fail(*words):
    print(*words, flush=True)
    os._exit(1)


def say(**event):
    print(json.dumps(event), flush=True)


# ---- a reader that stops and goes on ----

class Gate:
    def __init__(self, args):
        self.name, self.orders, self.waiting, self.left, self.words = args.name, os.open(f"{args.name}.gate", os.O_RDWR), b"", 0, b""
        self.events = os.open(f"{args.name}.ev", os.O_RDONLY)

    def obey(self):
        *words, self.words = (self.words + os.read(self.orders, 4096)).split(b"\n")
        for word in words:
            self.left = float("inf") if word == b"all" else int(word)

    def pass_on(self):
        """What may pass of what has come."""
        lines = self.waiting.split(b"\n")
        passed = lines[:-1] if self.left >= len(lines) else lines[:-1][:self.left]
        self.waiting, self.left = b"\n".join(lines[len(passed):]), self.left - len(passed)
        data = b"".join(line + b"\n" for line in passed)
        while data:
            data = data[os.write(1, data):]
        if self.left == 0:
            open(f"{self.name}.shut", "w").close()

    def run(self):
        while True:
            ready = select.select([self.orders] + [self.events] * (self.left > 0), [], [])[0]
            if self.orders in ready:
                self.obey()
            elif self.events in ready:
                data = os.read(self.events, 1 << 16)
                self.waiting += data
                if not data:
                    break
            if self.left:
                self.pass_on()
        os.write(1, self.waiting)


def gate(args):
    Gate(args).run()


# ---- what is waited for ----

class World:
    """Sources of events, each with fileno() and take()."""

    def __init__(self):
        self.sources = []

    def until(self, done, what, poll=None):
        """poll: what is waited for announces itself nowhere, and is asked again after so many seconds."""
        end = time.monotonic() + LIMIT
        while not done():
            left = end - time.monotonic()
            if left < 0:
                fail("not so within", LIMIT, "s:", what, *(f"\n{source}" for source in self.sources))
            for source in select.select(self.sources, [], [], min(left, poll or left))[0]:
                source.take()


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=LIMIT)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Node:
    def __init__(self, world, spec):
        self.id, *pids = spec.split(":")
        self.pid, self.listener = map(int, pids)
        self.orders = os.open(f"{self.id}.in", os.O_WRONLY)
        self.events = os.open(f"{self.id}.ev", os.O_RDONLY | os.O_NONBLOCK)
        self.address = open(f"{self.id}.addr").read().strip()
        self.rest, self.up, self.told = b"", {}, []  # up: links, by direction and address
        self.sent, self.got, self.heard = collections.Counter(), collections.Counter(), collections.defaultdict(list)
        self.counted, self.peers, self.answers = set(), {}, 0  # counted: whose numbers have to follow each other
        world.sources.append(self)

    def __str__(self):
        return f"{self.id}: has {self.up}, got {dict(self.got)}, and told lately:\n" + "\n".join(map(str, self.told[-12:]))

    def fileno(self):
        return self.events

    def take(self):
        *lines, self.rest = (self.rest + os.read(self.events, 1 << 16)).split(b"\n")
        for line in lines:
            self.tell(json.loads(line))

    def tell(self, told):
        self.told.append(told)
        what, peer = told["event"], told.get("peer")
        if what == "message":
            self.message(told["from"], told.get("text"))
        elif what == "link up":
            self.up[told["direction"], told["address"]] = peer
        elif what == "link down":
            self.up.pop((told["direction"], told["address"]), None)
            if told["dropped"] or told["unknown"]:
                fail(self.id, "has lost messages:", told)
        elif what == "peer":
            self.peers[peer] = told
        elif what == "links":
            self.answers += 1
        else:
            fail(self.id, "told", told)

    def message(self, sender, text):
        if sender in self.counted and text != f"{sender} {self.got[sender]}":
            fail(self.id, "got", text, "from", sender, "and not", f"{sender} {self.got[sender]}\n{self}")
        self.got[sender] += 1
        self.heard[sender].append(text)

    def order(self, *words):
        os.write(self.orders, (" ".join(words) + "\n").encode())

    def send(self, peer, n=1):
        first = self.sent[peer]
        self.sent[peer] += n
        os.write(self.orders, "".join(f"send {peer} consensus {self.id} {first + i}\n" for i in range(n)).encode())

    def links(self, world):
        """What it says of each of its peers now."""
        before = self.answers
        self.order("links")
        world.until(lambda: self.answers > before, f"{self.id} answers to links")
        return self.peers

    def with_peer(self, peer):
        return [link for link, with_whom in self.up.items() if with_whom == peer]

    def rows(self):
        ask = UnixHTTP(f"{self.id}.ctl")
        ask.request("GET", "/connections")
        rows = json.loads(ask.getresponse().read())
        ask.close()
        return rows

    def happened(self, since, event, **facts):
        return [told for told in self.told[since:] if told["event"] == event and facts.items() <= told.items()]


def stopped(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


class Held:
    """Processes that do not run meanwhile."""

    def __init__(self, world, *pids):
        self.world, self.pids = world, pids

    def __enter__(self):
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)
        self.world.until(lambda: all(map(stopped, self.pids)), f"{self.pids} are stopped", 0.001)

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


def settled(world, node, peer, **figures):
    """Sooner or later nothing waits any more for that peer, nothing was lost or sent again, and it is as the figures say."""
    figures |= {"waiting": 0, "dropped": 0, "unknown": 0, "resent": 0}
    world.until(lambda: figures.items() <= node.links(world)[peer].items(), f"{node.id}: {peer}: {figures}", 0.005)


# ---- two nodes ----

YOUNG = 1.5  # seconds: within them what was dialled is younger than 2, however late all this runs
QUICK = 0.7  # ... and nobody has waited a second for an end that did not come


class Pair:
    def __init__(self, world, a, b):
        self.world, self.a, self.b = world, a, b
        self.lesser, self.greater = sorted((a, b), key=lambda node: node.id.encode())
        for node, other in ((a, b), (b, a)):
            node.order("associate", other.id, other.address)
            node.counted.add(other.id)

    def all_there(self):
        a, b = self.a, self.b
        return a.got[b.id] == b.sent[a.id] and b.got[a.id] == a.sent[b.id]

    def dial(self, hold, n=3):
        """Both at once.  Listeners that are held: both connections are there before either is seen; nodes that are held: they are
        let go together."""
        a, b = self.a, self.b
        with Held(self.world, *((a.listener, b.listener) if hold == "listeners" else (a.pid, b.pid))):
            a.send(b.id, n)
            b.send(a.id, n)
            if hold == "listeners":
                self.world.until(lambda: a.with_peer(b.id) and b.with_peer(a.id), "both have dialled")
                yield
        self.world.until(self.all_there, "all messages of both came")

    def one(self):
        mine, other = (x.with_peer(y.id) for x, y in ((self.lesser, self.greater), (self.greater, self.lesser)))
        return len(mine) == len(other) == 1 and mine[0][0] != other[0][0]

    def used(self):
        """Both ways, over the one connection there is."""
        for node, other in ((self.a, self.b), (self.b, self.a), (self.a, self.b)):
            node.send(other.id)
            self.world.until(self.all_there, f"another one of {node.id}")
        self.world.until(self.one, "one connection is left, of which both say the same")
        for node, other in ((self.a, self.b), (self.b, self.a)):
            if node.links(self.world)[other.id]["state"] != "up":
                fail(f"{node.id} says that it has no link:\n{node}")
            self.world.until(lambda: [row["state"] for row in node.rows()] == ["open"], f"{node.id} shows one row", 0.005)

    def end(self, closer, other):
        closer.order("close", other.id)
        self.world.until(lambda: not closer.up and not other.up, "both have closed")
        for node, peer in ((closer, other.id), (other, closer.id)):
            settled(self.world, node, peer, state="down", sent=node.sent[peer], delivered=node.sent[peer], received=node.got[peer])


def meet(args):
    world = World()
    pair = Pair(world, *(Node(world, spec) for spec in (args.a, args.b)))
    lesser, greater = pair.lesser, pair.greater
    collided = judged = 0
    for i in range(args.rounds):
        hold, began, since = ("listeners", "nodes")[i % 2], time.monotonic(), (len(lesser.told), len(greater.told))
        for _ in pair.dial(hold):
            pass
        pair.used()
        refused = lesser.happened(since[0], "link down", peer=greater.id, reason="duplicate")
        collided += bool(refused or greater.happened(since[1], "link down", peer=lesser.id, reason="replaced"))
        if hold == "listeners" and time.monotonic() - began < YOUNG:
            judged += 1
            if not refused or lesser.with_peer(greater.id)[0][0] != "out":
                fail(f"round {i}: what {lesser.id} has dialled has not won:\n{lesser}\n{greater}")
        pair.end(*((pair.a, pair.b) if i % 4 < 2 else (pair.b, pair.a)))
    say(event="met", rounds=args.rounds, collided=collided, judged=judged)


# ---- a node that is us ----

def frame(sender, text):
    sender, payload = sender.encode(), text.encode()
    return struct.pack("<IQQ", 16 + len(sender) + len(payload), 1, len(sender)) + sender + payload


def connected(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), LIMIT)


class Wire:
    """A connection of ours with a node."""

    def __init__(self, raw, sock):
        self.raw, self.sock, self.rest, self.end, self.began = raw, sock, b"", None, time.monotonic()
        self.frames, self.said = [], []  # said: since the node was last asked what it had heard
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.name = "%s:%d" % sock.getsockname()
        raw.wires.append(self)
        raw.world.sources.append(self)

    def __str__(self):
        return f"{self.raw.id} on {self.name}: got {self.frames}, said {self.said}, {self.end}"

    def fileno(self):
        return self.sock.fileno()

    def take(self):
        try:
            data = self.sock.recv(1 << 16)
        except ConnectionResetError:
            if time.monotonic() - self.began < QUICK:
                fail(self.raw.node.id, "has reset", self, "\n", self.raw.node)
            data, self.raw.slow = b"", True
        if not data:
            self.end = "fin"
            self.raw.world.sources.remove(self)
        self.rest += data
        while len(self.rest) >= 4:
            n, = struct.unpack_from("<I", self.rest)
            if len(self.rest) < 4 + n:
                return
            s, = struct.unpack_from("<Q", self.rest, 12)
            self.frames.append(self.rest[20 + s:4 + n].decode())
            self.rest = self.rest[4 + n:]

    def say(self, n=1):
        for _ in range(n):
            self.raw.sent += 1
            self.said.append(f"message {self.raw.sent}")
            try:
                self.sock.sendall(frame(self.raw.id, self.said[-1]))
            except OSError as e:
                if time.monotonic() - self.began < QUICK:
                    fail(self.raw.node.id, "takes nothing more:", self, e, "\n", self.raw.node)
                self.raw.slow = True

    def close(self, reset=False):
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self in self.raw.world.sources:
            self.raw.world.sources.remove(self)
        self.end = "ours"
        self.sock.close()


class Raw:
    """A node that is us.  Whom a node has left it waits a second for: what was then not quick enough is forgiven."""

    def __init__(self, world, node, name):
        self.world, self.node, self.id, self.sent, self.wires, self.got, self.slow = world, node, name, 0, [], 0, False
        self.server = socket.create_server(("127.0.0.1", 0))
        node.order("associate", name, "%s:%d" % self.server.getsockname())
        world.sources.append(self)

    def __str__(self):
        return "\n".join(map(str, self.wires))

    def fileno(self):
        return self.server.fileno()

    def take(self):
        Wire(self, self.server.accept()[0])

    def dial(self):
        return Wire(self, connected(self.node.address))

    def live(self):
        return [wire for wire in self.wires if not wire.end]

    def heard(self, *wires):
        """The node has got what was said on these, one after the other."""
        want, got = [text for wire in wires for text in wire.said], self.node.heard[self.id]
        if self.slow:
            self.world.until(lambda: want[-1] in got, f"{self.node.id} gets {want[-1]} of {self.id}")
        else:
            self.world.until(lambda: len(got) >= len(want), f"{self.node.id} gets {want} of {self.id}")
        if got != want and not (self.slow and set(got) <= set(want) and len(got) == len(set(got))):
            fail(f"{self.node.id} has got {got} of {self.id} and not {want}\n{self.node}")
        for wire in wires:
            wire.said = []
        got.clear()

    def has(self, n):
        """n more of the node's messages have come: in order, on one connection after the other."""
        self.world.until(lambda: sum(len(wire.frames) for wire in self.wires) == n, f"{self.id} gets {n} messages")
        want = [f"{self.node.id} {self.got + i}" for i in range(n)]
        by_wire = sorted((wire.frames for wire in self.wires if wire.frames), key=lambda frames: int(frames[0].split()[1]))
        if [text for frames in by_wire for text in frames] != want:
            fail(f"{self.id} has got {by_wire} and not {want}")
        self.got += n
        for wire in self.wires:
            wire.frames = []

    def left(self, wire):
        """The node has ended its direction, in order."""
        self.world.until(lambda: wire.end, f"{self.node.id} ends {wire}")

    def used(self, wire):
        """That one is what both use."""
        self.node.send(self.id)
        self.world.until(lambda: wire.frames, f"{self.node.id} writes to {wire}")
        self.has(1)
        wire.say()
        self.heard(wire)
        self.world.until(lambda: len(self.node.with_peer(self.id)) == 1, f"{self.node.id} has one link with {self.id}")

    def part(self, wire):
        self.node.order("close", self.id)
        self.left(wire)
        wire.close()
        self.world.until(lambda: not self.node.with_peer(self.id), f"{self.node.id} has no link with {self.id} any more")
        self.wires = []


def collide(peer, how):
    """Both dial; the one that is ours."""
    node = peer.node
    if how == "theirs first":
        node.send(peer.id, 3)
        peer.world.until(lambda: peer.live() and node.with_peer(peer.id), f"{node.id} has dialled {peer.id}")
    mine = peer.dial()
    if how == "at once":
        node.send(peer.id, 3)
        mine.say(2)
    elif how == "theirs first":
        mine.say(2)
    else:
        with Held(peer.world, node.pid):
            mine.say(2)
            node.send(peer.id, 3)
    return mine


def settle(peer):
    """All but one are left in order; what the other side goes on to say there is heard before what it says on the one."""
    over, came = [], lambda: sum(len(wire.frames) for wire in peer.wires)
    node = peer.node
    while True:
        peer.world.until(lambda: any(wire.end == "fin" for wire in peer.wires) or came() == 3 and len(peer.live()) == 1 and
                         len(node.with_peer(peer.id)) == 1, f"one of these is left: {peer}", 0.05)
        ended = [wire for wire in peer.wires if wire.end == "fin"]
        if not ended:
            break
        for wire in ended:
            if wire.frames or wire.said:
                wire.say()
            wire.close()
            over.append(wire)
    winner, = peer.live()
    return over, winner


def play(peer, how):
    began, since = time.monotonic(), len(peer.node.told)
    mine = collide(peer, how)
    over, winner = settle(peer)
    quick = time.monotonic() - began < QUICK
    peer.slow |= not quick
    if how == "theirs first" and quick and (winner is mine) != (peer.id.encode() < peer.node.id.encode()):
        fail(f"the wrong one of these has won:\n{peer}\n{peer.node}")
    peer.heard(*over, winner)
    peer.has(3)
    peer.used(winner)
    if winner is mine or peer.id.encode() < peer.node.id.encode():  # else what we dial anew is refused, too
        winner = anew(peer, winner, False)
        winner = anew(peer, winner, True)
    peer.part(winner)
    return len(peer.node.happened(since, "link down", peer=peer.id, reason="duplicate"))


def anew(peer, old, reset):
    """We dial anew without closing: the new one takes the place of the old, what we go on to say on the old one is heard before what
    we have said on the new one; and the end of the old one, of either kind, takes nothing from the new."""
    node, began, since = peer.node, time.monotonic(), len(peer.node.told)
    old.say()
    new = peer.dial()
    new.say(2)
    peer.left(old)
    old.say(2)
    old.close(reset)
    peer.slow |= time.monotonic() - began > QUICK
    peer.heard(old, new)
    peer.used(new)
    if not node.happened(since, "link down", peer=peer.id) or len(node.happened(since, "link up", peer=peer.id)) != 1:
        fail(f"{node.id} has not put one in the place of the other:\n{node}")
    return new


def raw(args):
    world = World()
    node = Node(world, args.node)
    for name in args.ids:
        peer, refused = Raw(world, node, name), 0
        for i in range(args.rounds):
            refused += play(peer, ("theirs first", "at once", "mine first")[i % 3])
        figures = {} if peer.slow else {"received": peer.sent}
        settled(world, node, name, state="down", sent=node.sent[name], delivered=node.sent[name], **figures)
        say(event="collided", id=name, rounds=args.rounds, messages=peer.sent, refused=refused, slow=peer.slow)
    world.until(lambda: not node.rows(), f"{node.id} has no connection any more", 0.01)


# ---- after the two seconds ----

def late(args):
    world = World()
    node, a, b = (Node(world, spec) for spec in (args.node, args.a, args.b))
    pair, firsts = Pair(world, a, b), []
    peers = [Raw(world, node, name) for name in args.ids]
    for peer in peers:
        node.send(peer.id)
        world.until(peer.live, f"{node.id} has dialled {peer.id}")
        firsts.append(peer.live()[0])
        peer.has(1)
    for _ in pair.dial("listeners"):
        world.until(lambda: all(row["age"] >= 2 for x in (node, a, b) for row in x.rows()), "two seconds have passed", 0.05)
    for peer, first, reset in zip(peers, firsts, (False, True) * len(peers)):
        peer.part(anew(peer, first, reset))
    pair.used()
    pair.end(a, b)
    say(event="late", ids=args.ids)


# ---- many from one ----

def crowd(args):
    first = connected(args.address)
    for i in range(500):
        first.sendall(frame(args.id, f"{args.id}.1 {i} {'x' * 1000}"))
    if args.close:
        first.close()
    for i in range(args.n):
        with connected(args.address) as sock:
            sock.sendall(frame(args.id, f"{args.id}.1 {500 + i} {'x' * 1000}"))
    say(event="said", messages=500 + args.n)
    signal.pause()


# ---- the books ----

class Run:
    """What one process has told."""

    def __init__(self, path):
        self.path, self.peers, self.fates, self.ups, self.came = path, {}, collections.Counter(), collections.Counter(), {}
        with open(path) as file:
            for at, line in enumerate(file, 1):
                if not line.endswith("\n"):  # it was killed
                    break
                what, _, rest = line.rstrip("\n").partition(" ")
                if what == "message":
                    sender, _, _, text = rest.split(" ", 3)
                    run, number = text.split(" ", 2)[:2]
                    self.came.setdefault((sender, run), []).append(int(number))
                elif what == "peer":
                    self.peer(at, rest)
                elif what == "dropped":
                    peer, n, reason = rest.split()[:3]
                    self.fates[peer, "unknown" if reason.rstrip(":") == "unknown" else "dropped"] += int(n)
                elif rest.startswith("down "):
                    self.link_down(rest)
                elif rest.startswith("up "):
                    self.ups[rest.split()[1]] += 1
                elif what == "error:":
                    fail(f"{path}:{at}: {line}")

    def peer(self, at, rest):
        name = rest.split()[0]
        told = self.peers[name] = {key: int(n) for key, n in re.findall(r"(\w+)=(\d+)(?= |$)", rest)}
        if told["sent"] != sum(told[fate] for fate in ("delivered", "dropped", "unknown", "waiting")):
            fail(f"{self.path}:{at}: what was sent is not what became of it: {rest}")

    def link_down(self, rest):
        name = rest.split()[1]
        counts = re.search(r" delivered=(\d+) dropped=(\d+) unknown=(\d+) kept=", rest)
        for fate, n in zip(("delivered", "dropped", "unknown"), counts.groups()):
            self.fates[name, fate] += int(n)


def ordered(args, who, numbers, sent, ups, resent):
    """numbers of one run, as one process got them, of so many, over so many connections; resent: None is not known."""
    high, before, again, back = -1, None, 0, 0
    for number in numbers:
        if args.no_gaps and before is not None and number > before + 1:
            fail(f"{who}: {number} follows {before}")
        again += number <= high
        back += before is not None and number <= before
        high, before = max(high, number), number
    if again and args.once:
        fail(f"{who}: {again} messages came late, or again")
    if back > max(ups - 1, 0):
        fail(f"{who}: it began again {back} times, with {ups} connections")
    if resent is not None and again > resent:
        fail(f"{who}: {again} messages came late, or again, and {resent} were sent again")
    if high >= sent:
        fail(f"{who}: number {high} came, of {sent}")
    return again


def balance(run, to, sent):
    """What a process that lived on says of itself, in two ways."""
    told = run.peers[to]
    if told["waiting"]:
        fail(f"{run.path}: {told['waiting']} still wait for {to}")
    for fate in ("delivered", "dropped", "unknown"):
        if run.fates[to, fate] != told[fate]:
            fail(f"{run.path}: {fate} for {to} by links: {told[fate]}; one by one: {run.fates[to, fate]}")
    if told["sent"] != sent:
        fail(f"{run.path}: {told['sent']} were sent to {to}, and not {sent}")


def ledger(args):
    nodes = collections.defaultdict(list)
    for given in args.file:
        name, _, path = given.partition("=")
        nodes[name].append(Run(path))
    for name, runs in nodes.items():
        for to, others in nodes.items():
            if to != name:
                account(args, name, runs, to, others)


def sent_under(args, run):
    return dict(args.sent).get(run, dict(args.sent).get("", 0))


def account(args, name, runs, to, others):
    last, figures = f"{name}.{len(runs)}", {}
    if to in runs[-1].peers:
        balance(runs[-1], to, sent_under(args, last))
        figures = runs[-1].peers[to]
    got = again = 0
    for i, run in enumerate(runs, 1):
        told = run.peers.get(to) if i == len(runs) else None
        for other in others:
            numbers = other.came.get((name, f"{name}.{i}"), [])
            n = ordered(args, f"{other.path}: from {name}.{i}", numbers, sent_under(args, f"{name}.{i}"), other.ups[name],
                        told and told["resent"])
            if told:
                got, again = got + len(numbers), again + n
    strangers = [key for other in others for key in other.came if key[0] == name and key[1] not in
                 [f"{name}.{i}" for i in range(1, len(runs) + 1)]]
    if strangers:
        fail(f"{to} has got {strangers}, which {name} never sent")
    if not figures:
        return
    most = figures["delivered"] + figures["unknown"] + figures["resent"]
    if got > most:
        fail(f"{to} has got {got} from {last}, and {most} are all there can be: {figures}")
    if len(others) == 1 and got < figures["delivered"]:
        fail(f"{to} has got {got} from {last}, which has delivered {figures['delivered']}")
    sent, came = sent_under(args, last), [other.came.get((name, last), []) for other in others]
    if args.whole and set().union(*came) != set(range(sent)):
        fail(f"{to} has not got all of {last}: {len(set().union(*came))} of {sent}")
    if args.tail and sent and not set(range(sent - args.tail, sent)) <= set(came[-1]):
        fail(f"{to} has not got the last {args.tail} of {last}")
    say(event="books", **{"from": last}, to=to, got=got, again=again, **figures)


def over(*_):
    os._exit(0)


def run_is(text):
    run, _, n = text.rpartition(":")
    return run, int(n)


def options():
    p = argparse.ArgumentParser(add_help=False)
    p.add_argument("--within", type=int, default=LIMIT * 4)
    verb = {name: argparse.ArgumentParser(prog="cluster.py " + name, parents=[p]) for name in VERBS}
    for name, words in (("gate", ("name",)), ("meet", ("a", "b")), ("raw", ("node",)), ("late", ("node", "a", "b")),
                        ("crowd", ("address", "id"))):
        for word in words:
            verb[name].add_argument(word)
    for name in ("raw", "late"):
        verb[name].add_argument("ids", nargs="+")
    for name in ("meet", "raw"):
        verb[name].add_argument("--rounds", type=int, default=10)
    verb["crowd"].add_argument("n", type=int)
    verb["crowd"].add_argument("--close", action="store_true")
    verb["ledger"].add_argument("file", nargs="+")
    verb["ledger"].add_argument("--sent", type=run_is, action="append", default=[], metavar="[RUN:]N")
    verb["ledger"].add_argument("--tail", type=int)
    for flag in ("--whole", "--once", "--no-gaps"):
        verb["ledger"].add_argument(flag, action="store_true")
    if sys.argv[1:] and sys.argv[1] in verb:
        return verb[sys.argv[1]].parse_intermixed_args(sys.argv[2:])
    print(__doc__)
    sys.exit(2)


VERBS = {"gate": gate, "meet": meet, "raw": raw, "late": late, "crowd": crowd, "ledger": ledger}
args = options()
signal.signal(signal.SIGTERM, over)
if sys.argv[1] != "gate":
    signal.signal(signal.SIGALRM, lambda *_: fail("not over after", args.within, "s"))
    signal.alarm(args.within)
VERBS[sys.argv[1]](args)
