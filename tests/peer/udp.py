#!/usr/bin/env python3
"""Peers that speak UDP.

    udp.py rounds HOST PORT N             N questions, each from a new socket, each answered with its own bytes
    udp.py ask HOST PORT SIZE...          a question of each SIZE from one socket, each answered with its own bytes
    udp.py many HOST PORT PEERS           that many sockets, --rounds questions each, at most --window open in all; what is lost
                                          is sent again.  As many sockets at once as may be open, in waves where that are too few
    udp.py burst HOST PORT N              N at once, or evenly --over SECONDS, from --peers sockets; --between LOW HIGH are answered
    udp.py flood HOST PORT SECONDS        as fast as it goes, from --peers sockets (4); the answers are left where they are
    udp.py spoof HOST PORT COUNT SECONDS  COUNT in so many SECONDS (0: at once), each from another address of --of and another port,
                                          or all --from IP:PORT.  Root only: 77 where it may not
    udp.py steady HOST PORT SECONDS       a question every --every (0.05) SECONDS, until they are over or TERM comes, to a COMMAND that
                                          answers "COUNT QUESTION".  Each answer is a line.  Its session lasts: the count begins anew
                                          only after a silence of half of --idle SECONDS (3) at least, and one is answered
    udp.py talk HOST PORT                 as it is told on standard input, see below; --listen: it is the one who is asked

HOST may be IPv6 (without brackets).  What is sent is random; --bind HOST[:PORT] is where it is sent from (PORT: one socket only).
It prints what happened.  Status 0: all of that held; 1: it did not, or took longer than --within seconds in all; 77: not allowed.

ask --unanswered: each SIZE is followed by a small one, and that is the next to be answered, so nothing has to be waited for.
many: an answer has to be a question of that socket that is not answered yet, whole and alone; anything else ends it with 1.

talk: commands are lines, [N] VERB [ARG]; N is one of several sockets (1), which is there when it is first used.
    send TEXT, line TEXT   a datagram; line adds a newline        hex DIGITS   a datagram, empty without DIGITS
    size BYTES             a datagram of random bytes             close        that socket; used again, it is a new one
    expect TEXT            that is the next to come (a newline at its end does not count), within --timeout seconds
    echo                   the next to come is what was sent: the oldest that no expect or echo stood for yet
    none MS                nothing is left, and nothing comes for so long
    refused                the next to come is an ICMP error
It prints "N from HOST:PORT" for each socket, "N got LENGTH: TEXT" (escaped, at most 200 bytes of it) or "N error WHY" for what
comes, and "N ok" for what was expected; what does not hold ends it.  With --listen the first line is "1 at HOST:PORT" (PORT may
be 0), and it sends to who spoke last; --reply: it sends back what comes.
"""
import argparse, collections, ipaddress, os, queue, random, resource, select, signal, socket, struct, sys, threading, time

RESEND = 0.5  # seconds after which a question of `many` counts as lost
TRIES = 10
QUIET = 0.3  # seconds without an answer that end a burst


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def fail(*words):
    say(*words)
    sys.exit(1)


def resolved(host, port):
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][::4]  # family, address


def shown(address):
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def host_port(text):
    """HOST, HOST:PORT, [HOST]:PORT, V6"""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, 0
    return host.strip("[]"), int(port)


def opened(args):
    """A socket that hears its peer only.  From the peer's own port, which would look like a twin of its, only if so told."""
    sock = connected(args)
    if sock.getsockname()[1] != args.port or (args.bind and host_port(args.bind)[1]):
        return sock
    with sock:
        return connected(args)


def connected(args):
    family, address = resolved(args.host, args.port)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if args.bind:
        sock.bind(resolved(*host_port(args.bind))[1])
    sock.connect(address)
    return sock


def answer(sock, seconds):
    """None: none came"""
    sock.settimeout(seconds)
    try:
        return sock.recv(65536)
    except (TimeoutError, ConnectionRefusedError):
        return None


def judge(what, question, got):
    if got is None:
        fail(what, "not answered")
    if got != question:
        fail(what, f"{len(question)} bytes answered with {len(got)} others")


def rounds(args):
    for i in range(args.n):
        with opened(args) as sock:
            question = b"round %d, " % i + random.randbytes(64)
            sock.send(question)
            judge(f"round {i}", question, answer(sock, args.timeout))
    say(args.n, "rounds")


def ask(args):
    with opened(args) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for size in args.size:
            question = random.randbytes(size)
            sock.send(question)
            if args.unanswered:
                question = b"after %d" % size
                sock.send(question)
            judge(size, question, answer(sock, args.timeout))
            say(size, "unanswered" if args.unanswered else "answered")


class Peer:
    def __init__(self, args, number):
        self.number, self.sock, self.asked, self.tries = number, opened(args), 0, 0
        self.question = None  # None: none is open
        self.extra = collections.Counter()  # answers that may still come, because it was asked more than once

    def ask(self, sizes):
        self.asked, self.tries = self.asked + 1, 0
        size = random.randint(*sizes)
        self.question = (b"%d.%d " % (self.number, self.asked) + random.randbytes(size))[:size]
        self.send()

    def send(self):
        self.tries += 1
        self.sock.send(self.question)

    def hear(self):
        """Whether the open question is answered."""
        try:
            got = self.sock.recv(65536, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if got == self.question:
            self.extra[got] += self.tries - 1
            self.question = None
            return True
        if not self.extra[got]:
            own = "none" if self.question is None else f"{len(self.question)} bytes, {self.question[:24]!r}"
            fail(f"FOREIGN: peer {self.number} got {len(got)} bytes, {got[:24]!r}; open is {own}")
        self.extra[got] -= 1
        return False


class Wave:
    def __init__(self, args, numbers):
        self.args, self.poll, self.lost = args, select.epoll(), 0
        self.peers = [Peer(args, i) for i in numbers]
        self.by_fd = {p.sock.fileno(): p for p in self.peers}
        self.due = collections.deque()  # when a question counts as lost: (when, peer, which)
        self.open = 0
        for fd in self.by_fd:
            self.poll.register(fd, select.EPOLLIN)

    def again(self):
        while self.due and self.due[0][0] <= time.monotonic():
            _, peer, which = self.due.popleft()
            if peer.question is None or peer.asked != which:
                continue
            self.lost += 1
            if peer.tries == TRIES:
                fail(f"peer {peer.number} is not answered, {TRIES} times")
            peer.send()
            self.due.append((time.monotonic() + RESEND, peer, which))

    def run(self):
        waiting = collections.deque(self.peers)
        while self.open or waiting:
            while waiting and self.open < self.args.window:
                peer = waiting.popleft()
                peer.ask(self.args.sizes)
                self.open += 1
                self.due.append((time.monotonic() + RESEND, peer, peer.asked))
            for fd, _ in self.poll.poll(RESEND):
                peer = self.by_fd[fd]
                if peer.hear():
                    self.open -= 1
                    if peer.asked < self.args.rounds:
                        waiting.append(peer)
            self.again()
        for peer in self.peers:
            peer.hear()  # one too many
            peer.sock.close()


def many(args):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    at_once = min(args.peers, hard - 32)
    lost, waves, began = 0, 0, time.monotonic()
    for first in range(0, args.peers, at_once):
        wave = Wave(args, range(first, min(first + at_once, args.peers)))
        wave.run()
        lost, waves = lost + wave.lost, waves + 1
    say(f"{args.peers} peers in {waves} waves, {args.peers * args.rounds} answered, {lost} lost, "
        f"{int((time.monotonic() - began) * 1000)} ms")


def burst(args):
    poll, answered, began = select.poll(), 0, time.monotonic()
    socks = [opened(args) for _ in range(args.peers)]
    by_fd = {sock.fileno(): sock for sock in socks}
    for sock in socks:
        poll.register(sock, select.POLLIN)

    def hear(seconds):
        nonlocal answered
        ready = poll.poll(max(0, seconds) * 1000)
        for fd, _ in ready:
            answered += answer(by_fd[fd], 0.01) is not None
        return ready

    for i in range(args.n):
        at = began + args.over * i / args.n
        while time.monotonic() < at:
            hear(at - time.monotonic())
        socks[i % args.peers].send(b"burst %d" % i)
    while hear(QUIET):
        pass
    say(args.n, "sent,", answered, "answered")
    if args.between and not args.between[0] <= answered <= args.between[1]:
        fail("expected", *args.between)


def flood(args):
    family, address = resolved(args.host, args.port)
    socks = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(args.peers)]
    data, sent, end = random.randbytes(args.size), 0, time.monotonic() + args.seconds
    while time.monotonic() < end:
        for sock in socks:
            for _ in range(64):
                try:
                    sent += sock.sendto(data, socket.MSG_DONTWAIT, address) == len(data)
                except (BlockingIOError, ConnectionRefusedError):
                    break
    say(sent, "sent")


def steady(args):
    """What is lost is not asked again: the next question is another.  A silence is measured from before the question that was
    answered last to after the answer: the other side cannot have seen a longer one."""
    asked, last, answers, restarts, longest = {}, 0, 0, 0, 0
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with opened(args) as sock:
        since = began = time.monotonic()
        while not ended.is_set() and time.monotonic() < began + args.seconds:
            question = b"steady %d" % len(asked)
            asked[question] = sent = time.monotonic()
            sock.send(question)
            while (left := sent + args.every - time.monotonic()) > 0 and (got := answer(sock, left)) is not None:
                count, _, text = got.partition(b" ")
                silence, since = time.monotonic() - since, max(since, asked[text])
                say("answered", got.decode())
                answers, longest = answers + 1, max(longest, silence)
                if int(count) <= last:
                    restarts += 1
                    if silence < args.idle / 2:
                        fail(f"began anew after {silence:.3f} s")
                last = int(count)
    say(answers, "of", len(asked), f"answered, {restarts} times from 1 again, {longest:.3f} s between two at most")
    if not answers:
        sys.exit(1)


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF or 0xFFFF


def packet(source, sport, to, port, data):
    """The IP header is ours to write: raw(7); IPv4's checksum is filled in, UDP's may be 0 there."""
    head = struct.pack("!HHHH", sport, port, 8 + len(data), 0)
    if to.version == 4:
        return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + len(data), 0, 0, 64, 17, 0, source.packed, to.packed) + head + data
    pseudo = source.packed + to.packed + struct.pack("!II", 8 + len(data), 17)
    head = head[:6] + struct.pack("!H", checksum(pseudo + head + data + b"\0" * (len(data) % 2)))
    return struct.pack("!IHBB16s16s", 6 << 28, 8 + len(data), 17, 64, source.packed, to.packed) + head + data


def spoof(args):
    family, address = resolved(args.host, args.port)
    to, data, began = ipaddress.ip_address(address[0]), args.text.encode(), time.monotonic()
    net = ipaddress.ip_network(args.of or ("127.0.0.0/8" if to.version == 4 else "::1"), strict=False)
    try:
        sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except PermissionError:
        say("raw sockets are not allowed")
        sys.exit(77)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    size, given = net.num_addresses, getattr(args, "from")
    if given:
        given = ipaddress.ip_address(host_port(given)[0]), host_port(given)[1]
    for i in range(args.count):
        source, sport = given or (net[random.randrange(size)], random.randint(1024, 65535))
        early = began + args.seconds * i / args.count - time.monotonic()
        if early > 0:
            time.sleep(early)
        sock.sendto(packet(source, sport, to, args.port, data), (address[0], 0, *address[2:]))
    say(args.count, "sent in", int((time.monotonic() - began) * 1000), "ms")


def escaped(data):
    odd = {9: "\\t", 10: "\\n", 13: "\\r", 92: "\\\\"}
    return "".join(odd.get(c) or (chr(c) if 32 <= c < 127 else f"\\x{c:02x}") for c in data)


class Talker:
    def __init__(self, args, name):
        self.args, self.name, self.came, self.sent = args, name, queue.Queue(), collections.deque()
        if args.listen:
            family, address = resolved(args.host, args.port)
            self.sock, self.to = socket.socket(family, socket.SOCK_DGRAM), None
            self.sock.bind(address)
        else:
            self.sock = opened(args)
            self.to = self.sock.getpeername()
        say(name, "at" if args.listen else "from", shown(self.sock.getsockname()))
        threading.Thread(target=self.hear, daemon=True).start()

    def hear(self):
        while True:
            try:
                got, self.to = self.sock.recvfrom(65536)
            except ConnectionRefusedError as e:
                say(self.name, "error", e.strerror)
                self.came.put(None)
                continue
            except OSError:
                return  # close
            say(self.name, f"got {len(got)}:", escaped(got[:200]))
            self.came.put(got)
            if self.args.reply:
                self.sock.sendto(got, self.to)

    def put(self, data):
        if not self.to:
            fail(self.name, "has heard nobody yet")
        self.sent.append(data)
        if self.args.listen:
            self.sock.sendto(data, self.to)
        else:
            self.sock.send(data)

    def next(self):
        try:
            return self.came.get(timeout=self.args.timeout)
        except queue.Empty:
            fail(self.name, "got nothing")

    def held(self, verb, ok):
        say(self.name, "ok") if ok else fail(self.name, verb, "does not hold")

    def do(self, verb, arg):
        if verb in ("send", "line"):
            self.put(arg.encode() + b"\n" * (verb == "line"))
        elif verb == "hex":
            self.put(bytes.fromhex(arg))
        elif verb == "size":
            self.put(random.randbytes(int(arg)))
        elif verb == "expect":
            got = self.next()
            if self.sent:
                self.sent.popleft()
            self.held(f"expect {arg}", got in (arg.encode(), arg.encode() + b"\n"))
        elif verb == "echo":
            self.held(verb, self.next() == self.sent.popleft())
        elif verb == "refused":
            self.held(verb, self.next() is None)
        elif verb == "none":
            try:
                self.came.get(timeout=int(arg) / 1000)
                self.held(verb, False)
            except queue.Empty:
                self.held(verb, True)
        else:
            fail("what is", verb)


def talk(args):
    talkers = {"1": Talker(args, "1")} if args.listen else {}
    for line in iter(sys.stdin.readline, ""):
        line = line.rstrip("\n")
        name, _, rest = line.partition(" ")
        if not name.isdigit():
            name, rest = "1", line
        verb, _, arg = rest.partition(" ")
        if verb == "close":
            talkers.pop(name).sock.close()
            continue
        if name not in talkers:
            talkers[name] = Talker(args, name)
        talkers[name].do(verb, arg)


def sizes(text):
    low, _, high = text.partition("-")
    return int(low), int(high or low)


def parsed():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subs = top.add_subparsers(required=True)

    def command(what, *own):
        sub = subs.add_parser(what.__name__)
        sub.set_defaults(do=what)
        for name in ("host", "port") + own:
            kind = str if name == "host" else float if name == "seconds" else int
            sub.add_argument(name, type=kind, **({"nargs": "+"} if name == "size" else {}))
        sub.add_argument("--bind", metavar="HOST[:PORT]")
        sub.add_argument("--timeout", type=float, default=3, metavar="SECONDS", help="for an answer (3)")
        sub.add_argument("--within", type=int, default=120, metavar="SECONDS", help="for all of it (120)")
        return sub

    command(rounds, "n")
    command(ask, "size").add_argument("--unanswered", action="store_true")
    sub = command(many, "peers")
    sub.add_argument("--rounds", type=int, default=5)
    sub.add_argument("--window", type=int, default=64)
    sub.add_argument("--sizes", type=sizes, default=(0, 1400), metavar="LOW-HIGH")
    sub = command(burst, "n")
    sub.add_argument("--peers", type=int, default=1)
    sub.add_argument("--over", type=float, default=0, metavar="SECONDS")
    sub.add_argument("--between", type=int, nargs=2)
    sub = command(flood, "seconds")
    sub.add_argument("--peers", type=int, default=4)
    sub.add_argument("--size", type=int, default=64)
    sub = command(steady, "seconds")
    sub.add_argument("--every", type=float, default=0.05, metavar="SECONDS")
    sub.add_argument("--idle", type=float, default=3, metavar="SECONDS")
    sub = command(spoof, "count", "seconds")
    sub.add_argument("--from", metavar="IP:PORT")
    sub.add_argument("--of", metavar="CIDR", help="127.0.0.0/8, ::1")
    sub.add_argument("--text", default="spoofed")
    sub = command(talk)
    sub.add_argument("--listen", action="store_true")
    sub.add_argument("--reply", action="store_true")
    return top.parse_args()


def main():
    args = parsed()
    signal.signal(signal.SIGALRM, lambda *_: fail("took longer than", args.within, "s"))
    signal.alarm(args.within)
    try:
        args.do(args)
    except OSError as e:
        fail(type(e).__name__, e)


main()
