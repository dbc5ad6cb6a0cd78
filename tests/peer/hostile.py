#!/usr/bin/env python3
"""Peers of a link that do what they should not.  What comes of it is printed, a line each.

  hostile.py consumer|producer PATH [--good HOST:PORT] DEED...
      Dials PATH once for each DEED, and prints "DEED ended" if that was the end of the link, "DEED goes on" if it was
      not.  Its hello says tool=DEED.  Meanwhile the echo at --good has to answer: a connection that is open all the
      time, and after each deed a new one.
  hostile.py deeds ROLE CLASS	lists the DEEDs of a class: shape, place, hello, descriptor, credit, empty,
      silence, conn, harmless
  hostile.py pair ROLE DEED CMD...	by a socketpair: {fd} in CMD is its other end; prints CMD's exit status, too
  hostile.py ticket DEED [again]	a producer that writes a ticket; after the DEED it ends, or greets once more and behaves
  hostile.py reads DEED	a consumer that reads a ticket, and ends after the DEED
  hostile.py silent PATH	a consumer that offers to give and never answers; prints what else it hears
  hostile.py speechless PATH... [--good HOST:PORT]	says no hello and waits for the end of each link
  hostile.py thousand ROLE PATH [--good HOST:PORT]	as many links, none of which says more than hello
  hostile.py unread PATH N	a consumer that grants N and reads nothing until USR1; then it is an echo
  hostile.py grants PATH N...	a consumer that grants so many, one after the other, without a need; it is an echo
  hostile.py flood ROLE PATH [--good HOST:PORT]	says nothing of use, as fast as it can, until the echo has answered often
  hostile.py environment PATH	a producer of 32 connections with 32 KiB of environment each, all at once
  hostile.py through FROM TO	the same, and the consumer behind, which reads nothing until all are under way
"""
import argparse, contextlib, os, resource, select, signal, socket, subprocess, sys, threading

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from link import MAX, Link, Malformed, dial, encode, listen, ticket_make, ticket_read

LIMIT = 30


def say(*words):
    """In one write: threads speak at the same time."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


# ---- the deeds: CLASS -> NAME -> (roles, what it is: bytes to send, or a function of the peer) ----

BOTH = ("consumer", "producer")
DEEDS = {"shape": {}, "place": {}, "hello": {}, "descriptor": {}, "credit": {}, "empty": {}, "silence": {},
         "conn": {}, "harmless": {}}


def sends(kind, roles=BOTH, **packets):
    for name, packet in packets.items():
        DEEDS[kind][name.replace("_", "-")] = (roles, packet)


def deed(kind, *roles):
    def add(function):
        DEEDS[kind][function.__name__.replace("_", "-")] = (roles or BOTH, function)
        return function
    return add


sends("shape",
      half=b"rea", no_end=b"ready\0n=4", no_verb=b"\0n=4\0", odd_verb=b"Ready\0n=4\0", empty_string=b"ready\0\0n=4\0",
      no_equals=b"ready\0n\0", no_name=b"ready\0=4\0", missing=b"ready\0", twice=b"ready\0n=4\0n=4\0",
      no_number=b"ready\0n=-1\0", large_number=b"ready\0n=4294967296\0", odd_reason=b"closed\0id=1\0reason=No Way\0",
      after_environment=b"closed\0id=1\0SSL_X=1\0reason=x\0", many=b"later\0" + b"x=\0" * 513,
      oversized=b"later\0x=" + b"y" * (MAX - 8) + b"\0")
sends("harmless",
      unknown_verb=b"later\0x=1\0x=2\0", unknown_field=b"eof\0id=9\0colour=red\0",
      largest=b"later\0x=" + b"y" * (MAX - 9) + b"\0",
      environment=b"eof\0id=9\0LD_PRELOAD=/x\0", unknown_id=b"closed\0id=77\0reason=x\0status=255\0",
      leading_zeros=b"eof\0id=00000000000000000000000000000000000000001\0")
sends("place", roles=("consumer",), conn=b"conn\0id=1\0PROTO=TCP\0", bare_adopt=b"adopt\0id=1\0")
sends("place", roles=("producer",), ready=b"ready\0n=1\0", drain=b"drain\0", id_zero=b"conn\0id=0\0")


@deed("place")
def second_hello(peer):
    peer.link.send("hello", **peer.link.mine)


@deed("place", "producer")
def adopt(peer):
    peer.with_descriptors(encode("adopt", id=1), 1)


@deed("place", "producer")
def same_id(peer):
    for _ in range(2):
        peer.with_descriptors(encode("conn", id=7), 1)


@deed("place", "producer")
def smaller_id(peer):
    for id in (7, 6):
        peer.with_descriptors(encode("conn", id=id), 1)


@deed("place", "producer")
def bare_conn(peer):
    """To one that can give it is a question."""
    peer.last = 1
    peer.link.conn(1, {"PROTO": "TCP"})


@deed("place", "producer")
def withdrawn(peer):
    """The question, and that it is one no more: the answer may cross that."""
    for peer.last in range(1, 9):
        peer.link.conn(peer.last, {"PROTO": "TCP"})
        peer.link.closed(peer.last, "client-gone", 18)


@deed("place", "producer")
def never_reads(peer):
    """One connection after the other, each cut at once, and what is said about them stays unread."""
    peer.link.over = True  # our own reader goes after what comes next
    for id in range(1, 3000):
        ours, theirs = socket.socketpair()
        ours.settimeout(LIMIT)
        peer.link.conn(id, {"PROTO": "UNIX"}, theirs.detach())
        ours.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            ours.recv(1)
    peer.link.over, peer.last = False, id
    peer.link.read()


@deed("hello")
def too_early(peer):
    peer.bare(encode("ready", n=1))


@deed("hello")
def unknown_first(peer):
    peer.bare(encode("later"))


@deed("hello")
def same_role(peer):
    peer.bare(encode("hello", version=1, tool="same-role", role="producer" if peer.role == "consumer" else "consumer"))


@deed("hello")
def version_0(peer):
    peer.bare(encode("hello", version=0, tool="version-0", role=peer.role))


@deed("hello")
def no_tool(peer):
    peer.bare(encode("hello", version=1, role=peer.role))


@deed("hello")
def odd_tool(peer):
    peer.bare(encode("hello", version=1, role=peer.role, tool="\x1b[31mred"))


@deed("hello")
def odd_token(peer):
    peer.bare(encode("hello", version=1, role=peer.role, tool="odd-token", token="0123"))


@deed("hello")
def with_descriptor(peer):
    peer.with_descriptors(encode("hello", version=1, role=peer.role, tool="with-descriptor"), 1)


@deed("descriptor")
def on_eof(peer):
    peer.with_descriptors(encode("eof", id=1), 1)


@deed("descriptor")
def two(peer):
    peer.with_descriptors(encode("conn" if peer.role == "producer" else "adopt", id=1), 2)


@deed("descriptor")
def many_descriptors(peer):
    peer.with_descriptors(encode("conn" if peer.role == "producer" else "adopt", id=1), 200)


@deed("descriptor")
def two_on_an_unknown(peer):
    peer.with_descriptors(encode("later"), 2)


@deed("descriptor", "consumer")
def on_ready(peer):
    peer.with_descriptors(encode("ready", n=1), 1)


@deed("descriptor", "consumer")
def on_drain(peer):
    peer.with_descriptors(encode("drain"), 1)


@deed("descriptor")
def on_closed(peer):
    peer.with_descriptors(encode("closed", id=1, reason="x"), 1)


@deed("descriptor")
def not_a_socket(peer):
    with open("/dev/zero") as file:
        peer.link.raw(encode("conn" if peer.role == "producer" else "adopt", id=1), [file.fileno()])


@deed("descriptor")
def not_a_stream(peer):
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.link.raw(encode("conn" if peer.role == "producer" else "adopt", id=1), [pair[0].fileno()])


@deed("credit", "producer")
def uncredited(peer):
    peer.with_descriptors(encode("conn", id=1), 1)


@deed("credit", "producer")
def uncredited_question(peer):
    peer.link.conn(1, {"PROTO": "TCP"})


@deed("empty")
def empty(peer):
    peer.link.raw(b"")


@deed("empty")
def empties(peer):
    for _ in range(100):
        peer.link.raw(b"")


@deed("empty")
def empty_with_descriptor(peer):
    peer.with_descriptors(b"", 1)


@deed("empty")
def empty_first(peer):
    peer.bare(b"")


@deed("silence")
def silence(peer):
    peer.greeted = False


@deed("conn", "consumer")
def adopts_twice(peer):
    """What was taken, or adopted before, cannot be adopted: that descriptor is closed, and the first one serves."""
    client, m = peer.client()
    ours, given = socket.socketpair()
    if m.fd is None:
        peer.link.adopt(m.id, given.detach())
    else:
        ours = socket.socket(fileno=m.fd)
    for _ in range(3):
        peer.with_descriptors(encode("adopt", id=m.id), 1)
    threading.Thread(target=serve, args=(peer.link, m.id, ours), daemon=True).start()
    echoed(client)


@deed("conn", "consumer")
def speaks_after_closed(peer):
    """And the client is cut, for nobody served it."""
    client, m = peer.client()
    if m.fd is not None:
        os.close(m.fd)
    for _ in range(3):
        peer.link.closed(m.id, "no-wish", 69)
        peer.link.eof(m.id)
        peer.with_descriptors(encode("adopt", id=m.id), 1)
    with contextlib.suppress(ConnectionError):
        while client.recv(1):
            pass


@deed("conn", "consumer")
def adopts_a_dead_one(peer):
    client, m = peer.client()
    if m.fd is not None:
        os.close(m.fd)
        return peer.link.closed(m.id, "no-wish", 69)
    peer.with_descriptors(encode("adopt", id=m.id), 1)
    with contextlib.suppress(ConnectionError):
        while client.recv(1):
            pass


@deed("conn", "consumer")
def grants_much_with_everything(peer):
    client, m = peer.client()
    if m.fd is None:
        peer.link.adopt(m.id, pair()[0].detach(), ready=2**32 - 1)
    else:
        os.close(m.fd)
        peer.link.closed(m.id, "no-wish", 69, 2**64 - 1, 2**64 - 1, ready=2**32 - 1)


@deed("harmless")
def on_an_unknown(peer):
    for _ in range(100):
        peer.with_descriptors(encode("later"), 1)


@deed("harmless")
def version_99(peer):
    peer.greet(version=99, modes="take,teleport", colour="red", links=4000)


@deed("harmless")
def ended_twice(peer):
    for _ in range(1000):
        peer.link.eof(3)


@deed("harmless", "consumer")
def adopt_of_nothing(peer):
    for id in (0, 1, 2**64 - 1) * 30:
        peer.with_descriptors(encode("adopt", id=id), 1)


@deed("harmless", "consumer")
def drain_twice(peer):
    peer.link.drain()


@deed("harmless", "producer")
def many_ids(peer):
    for id in (5, 2**32, 2**64 - 2):
        peer.with_descriptors(encode("conn", id=id), 1)
    peer.last = 2**64 - 2


@deed("harmless", "producer")
def closed_at_once(peer):
    for id in range(1, 9):
        peer.with_descriptors(encode("conn", {"PROTO": "UNIX", "CCF_CONN_ID": "x\n\x1b[31m" + "y" * 4000}, id=id), 1)
        peer.link.closed(id, "client-gone", 18)
        peer.link.closed(id, "client-gone", 18)
    peer.last = 8


# ---- a peer ----


class Peer:
    """One link that is there for one deed."""

    def __init__(self, sock, role, name, modes="take,give", token=None):
        self.sock, self.role, self.name, self.last = sock, role, name, 0
        self.link, self.good = Link(sock, role, modes, token, name), None
        self.greeted = False

    def greet(self, wait=True, **hello):
        self.greeted = True
        self.link.mine.update(hello)
        self.link.greet(LIMIT)
        while wait and self.role == "producer" and (m := self.link.recv(LIMIT)) and m.verb != "ready":
            pass

    def client(self):
        """A client comes while we have the fewest connections, so it is ours: its socket, and the conn."""
        self.link.ready(1)
        sock = socket.create_connection(self.good, LIMIT)
        return sock, self.link.recv(LIMIT)

    def bare(self, packet):
        """Instead of a hello."""
        self.link.raw(packet)

    def with_descriptors(self, packet, n):
        """The other ends are closed at once: nobody is left who could serve."""
        pairs = [socket.socketpair() for _ in range(n)]
        self.link.raw(packet, [pair[0].fileno() for pair in pairs])
        for pair in pairs:
            pair[0].close(), pair[1].close()

    def do(self):
        """True: the link goes on afterwards."""
        what = next(deeds[self.name][1] for deeds in DEEDS.values() if self.name in deeds)
        kind = next(kind for kind, deeds in DEEDS.items() if self.name in deeds)
        try:
            if kind not in ("hello", "silence") and self.name not in ("version-99", "empty-first"):
                self.greet(wait=kind != "credit")
            self.link.raw(what) if isinstance(what, bytes) else what(self)
            return self.goes_on() if self.greeted else not self.ends()
        except (OSError, Malformed) as fault:
            print(self.name, fault, file=sys.stderr)
            return False

    def ends(self):
        """Until the other side has closed; whatever it says before is of no interest."""
        self.sock.setblocking(True)
        self.sock.settimeout(LIMIT)
        while self.sock.recv(MAX):
            pass
        return True

    def goes_on(self):
        if self.role == "producer":
            return self.hands_on()
        self.link.drain()
        while self.link.recv(LIMIT):
            pass
        self.link.closed(0)  # it has shut its side down, and still listens; or it is gone
        return True

    def hands_on(self):
        """A connection is served as an echo."""
        ours, theirs = pair()
        self.link.conn(self.last + 1 if self.last < 2**64 - 2 else 2**64 - 1, {"PROTO": "TCP"}, theirs.detach())
        echoed(ours)
        ours.close()
        while m := self.link.recv(LIMIT):
            if m.verb == "closed" and m.id > self.last:
                return m.fields["status"] == 0
        return False


def pair():
    """A TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname(), LIMIT)
        return ours, server.accept()[0]


def echoed(sock, text=b"are you there?", end=True):
    sock.sendall(text)
    if end:
        sock.shutdown(socket.SHUT_WR)
    got = b""
    while len(got) < len(text) and (data := sock.recv(MAX)):
        got += data
    if got != text or (end and sock.recv(1)):
        raise ConnectionError(f"{got!r} came back")


class Neighbour:
    """Is served, whatever happens next door."""

    def __init__(self, address):
        host, _, port = (address or "").rpartition(":")
        self.address = address and (host, int(port))
        self.held = address and socket.create_connection(self.address, LIMIT)

    def check(self):
        if self.address:
            echoed(self.held, end=False)
            with socket.create_connection(self.address, LIMIT) as new:
                echoed(new)


# ---- what it can be asked for ----


def deeds(args):
    neighbour = Neighbour(args.good)
    neighbour.check()
    for name in args.deed:
        peer = Peer(dial(args.path), args.what, name, token=args.token)
        peer.good = neighbour.address
        say(name, "goes on" if peer.do() else "ended")
        peer.link.close()
        neighbour.check()


def by_pair(args):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.set_inheritable(True)
    command = [word.replace("{fd}", "fd:%d" % theirs.fileno()) for word in args.command]
    child = subprocess.Popen(command, close_fds=False)
    theirs.close()
    peer = Peer(ours, args.role, args.deed)
    say(args.deed, "goes on" if peer.do() else "ended")
    peer.link.close()
    say("status", child.wait(LIMIT))


def by_ticket(args):
    token, path = ticket_make()
    listener = listen(path, 0o666)
    listener.settimeout(LIMIT)
    say("ccf-handoff 1", token, path)
    say2 = lambda *words: print(*words, file=sys.stderr, flush=True)
    try:
        sock = listener.accept()[0]
        say2(args.deed, "goes on" if Peer(sock, "producer", args.deed, token=token).do() else "ended")
        if args.again:
            peer = Peer(listener.accept()[0], "producer", "again", token=token)
            peer.greet()
            say2("again", "goes on" if peer.hands_on() else "ended")
    finally:
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


def reads(args):
    token, path = ticket_read(0)
    say(args.deed, "goes on" if Peer(dial(path), "consumer", args.deed, token=token).do() else "ended")


def silent(args):
    link = Link(dial(args.path), "consumer", "take,give")
    link.greet()
    link.ready(32)
    while message := link.recv():
        say(message.verb, message.id, message.fields.get("reason", ""))


def speechless(args):
    peers = [(path, Peer(dial(path), "consumer", "x")) for path in args.paths]
    Neighbour(args.good).check()
    for path, peer in peers:
        peer.ends()
        say(path, "closed")


def thousand(args):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    neighbour = Neighbour(args.good)
    neighbour.check()
    poll, links, closed = select.poll(), {}, 0
    for _ in range(1000):
        sock = dial(args.path)
        with contextlib.suppress(OSError):  # those that are kept stay, however long this takes
            sock.send(encode("hello", version=1, tool="thousand", role=args.role))
        links[sock.fileno()] = sock
        poll.register(sock, 0)  # the end, and no word
    while closed < 1000 - args.free:
        for fd, _ in poll.poll(LIMIT * 1000):
            poll.unregister(fd)
            closed += 1
    neighbour.check()
    say("closed", closed, "open", len(links) - closed - len(poll.poll(0)))
    signal.sigwait([signal.SIGUSR1])


def serve(link, id, sock):
    """One connection, in a thread of its own."""
    sock.setblocking(True)
    with contextlib.suppress(OSError):
        while data := sock.recv(MAX):
            sock.sendall(data)
        link.finish(id, sock)
    sock.close()
    link.closed(id, ready=1)


def echo(link, message):
    say("echo", message.id)
    serve(link, message.id, socket.socket(fileno=message.fd))


def echoes(link):
    while m := link.recv():
        if m.verb == "conn":
            threading.Thread(target=echo, args=(link, m), daemon=True).start()


def unread(args):
    sock = dial(args.path)
    link = Link(sock, "consumer", tool="unread")
    link.send("hello", **link.mine)
    sock.setblocking(True)
    sock.recv(MAX)
    sock.setblocking(False)
    link.ready(args.n)
    say("up")
    signal.sigwait([signal.SIGUSR1])
    link.read()
    say("reading")
    echoes(link)


def grants(args):
    peer = Peer(dial(args.path), "consumer", "grants", modes="take")
    peer.greet()
    for n in args.n:
        peer.link.ready(n)
    echoes(peer.link)


def flood(args):
    peer = Peer(dial(args.path), args.role, "flood", modes="take")
    peer.greet()
    if args.role == "consumer":
        threading.Thread(target=echoes, args=(peer.link,), daemon=True).start()
    over, count = threading.Event(), [0]
    packets = [encode("ready", n=2**32 - 1)] if args.role == "consumer" else [b"later\0" + b"x=\0" * 512]

    def pour():
        while not over.is_set():
            for packet in packets * 100:
                peer.link.raw(packet)
            count[0] += len(packets) * 100

    pourer = threading.Thread(target=pour)
    pourer.start()
    try:
        neighbour = Neighbour(args.good)
        while count[0] < 20000:
            neighbour.check()
    finally:
        over.set()
        pourer.join()
    say("poured", count[0])
    peer.link.close()


def environment(n):
    """32 KiB: eight values of the largest size."""
    env = {"PROTO": "TCP", "CCF_CONN_ID": f"x#{n}"}
    env.update({f"CCF_X_{n}_{i}": chr(97 + i) * 4000 for i in range(8)})
    return env


def start_32(link):
    clients = []
    for id in range(1, 33):
        ours, theirs = pair()
        link.conn(id, environment(id), theirs.detach())
        clients.append(ours)
    return clients


def environments(args):
    peer = Peer(dial(args.path), "producer", "environment")
    peer.greet()
    for client in start_32(peer.link):
        echoed(client)
    for _ in range(32):
        while (m := peer.link.recv(LIMIT)).verb != "closed":
            pass
        if m.fields["status"]:
            raise ConnectionError(m.fields)
    say("32 served")


def through(args):
    after = dial(args.to)
    link = Link(after, "consumer", tool="after")
    link.send("hello", **link.mine)
    after.setblocking(True)
    after.recv(MAX)
    after.setblocking(False)
    link.ready(32)
    before = Peer(dial(args.path), "producer", "before")
    before.greet()
    clients = start_32(before.link)
    for client in clients:
        client.sendall(b"hello")
    link.read()
    for id in range(1, 33):
        while (m := link.recv(LIMIT)).verb != "conn":
            pass
        want = environment(id)
        if m.id != id or any(m.env.get(name) != value for name, value in want.items()):
            raise ConnectionError(f"{m.id} is not what it was")
        threading.Thread(target=echo, args=(link, m), daemon=True).start()
    for client in clients:
        client.shutdown(socket.SHUT_WR)
        if client.recv(MAX, socket.MSG_WAITALL) != b"hello":
            raise ConnectionError("not what was said")
    say("32 served")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    subs = parser.add_subparsers(dest="what", required=True)

    def sub(name, function, *positionals, good=False):
        p = subs.add_parser(name)
        p.set_defaults(run=function, good=None)
        for word, settings in positionals:
            p.add_argument(word, **settings)
        if good:
            p.add_argument("--good")
        return p

    path, role = ("path", {}), ("role", {"choices": BOTH})
    for what in BOTH:
        p = sub(what, deeds, path, ("deed", {"nargs": "+"}), good=True)
        p.add_argument("--token")
    sub("deeds", lambda args: [say(name) for name, (roles, _) in DEEDS[args.kind].items() if args.role in roles],
        role, ("kind", {"choices": DEEDS}))
    sub("pair", by_pair, role, ("deed", {}), ("command", {"nargs": "..."}))
    sub("ticket", by_ticket, ("deed", {}), ("again", {"nargs": "?"}))
    sub("reads", reads, ("deed", {}))
    sub("silent", silent, path)
    sub("speechless", speechless, ("paths", {"nargs": "+"}), good=True)
    sub("thousand", thousand, role, path, good=True).add_argument("--free", type=int, default=63)
    sub("unread", unread, path, ("n", {"type": int}))
    sub("grants", grants, path, ("n", {"type": int, "nargs": "+"}))
    sub("flood", flood, role, path, good=True)
    sub("environment", environments, path)
    sub("through", through, path, ("to", {}))
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    args.run(args)


main()
