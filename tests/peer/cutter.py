#!/usr/bin/env python3
"""A TCP peer that does what it is told, step by step; every step that is done is a line on standard output.

    cutter.py listen|connect HOST:PORT [--tls CA] [--small] STEP...
    cutter.py each		a process for each line of standard input, which says where its output goes, and the same words

    send=FILE     sends it             read=N      reads N bytes               wait=SECONDS
    fill[=N]      sends until nothing more is taken, and N bytes are: `fill SENT ACKED` (of all fills together)
    acked         until all of ours is acknowledged         knock=FILE  sends a byte from time to time, until FILE is not empty
    slow=N        reads N bytes at a time with pauses of a quarter of a second, to the end
    sip=N,SECONDS  the same with N bytes and pauses of this length: `sip READ ended`
    rest[=FILE]   reads to the end and says how it was: `rest N ended`, `bare` (no close_notify), `reset`, `failed`
    end           our end of stream (after close_notify)     bare      the FIN alone
    reset         closes with SO_LINGER 0                    close
    torn=FILE     sends it, but for the last byte of its last TLS record
    hello         sends a TLS client's hello, without --tls, and nothing after it
    trickle=FILE  sends it as one TLS record, a byte every twentieth of a second, until it is cut; without --tls, a hello
    pace=FILE,N,SECONDS  sends it, N bytes at a time with these pauses, until the other side says something: `pace SENT`
    until=TEXT    reads until it has read that (with escapes)   took      milliseconds since it connected, or began to
    await=FILE    until FILE is there                        state=S,S until the socket of the other side is in one of
                                                                       these states of /proc/net/tcp (09: LAST_ACK)
    again         accepts the next connection

--small keeps our receive buffer small.  `listen` prints its address first.  Exit status: 0, or 18 if a step was cut."""
import fcntl, os, select, signal, socket, ssl, struct, sys, termios, time

RESET = struct.pack("ii", 1, 0)
PIECE = 65536


def hello():
    said = ssl.MemoryBIO()
    try:
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return said.read()


class Plain:
    def __init__(self, sock):
        self.sock, self.bare, self.cut, self.filled = sock, False, False, 0

    def send(self, data):
        self.sock.sendall(data)

    def some(self):
        return self.sock.send(bytes(PIECE))

    def record(self, data):
        return hello()

    def recv(self, n):
        return self.sock.recv(n)

    def end(self):
        self.sock.shutdown(socket.SHUT_WR)


class Tls(Plain):
    """By memory BIOs: the ssl module's own sockets cannot end one direction alone."""

    def __init__(self, sock, ca):
        super().__init__(sock)
        self.inside, self.outside, self.left = ssl.MemoryBIO(), ssl.MemoryBIO(), b""
        context = ssl.create_default_context(cafile=ca)
        context.check_hostname = False
        self.tls = context.wrap_bio(self.inside, self.outside)
        self.feed(self.tls.do_handshake)
        self.push()

    def push(self):
        if data := self.left + self.outside.read():
            self.left = b""
            self.sock.sendall(data)

    def feed(self, call):
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                self.push()
                if data := self.sock.recv(PIECE):
                    self.inside.write(data)
                else:
                    self.inside.write_eof()

    def send(self, data):
        for at in range(0, len(data), PIECE):
            self.tls.write(data[at:at + PIECE])
            self.push()

    def some(self):
        if not self.left:
            self.left = self.record(bytes(PIECE))
        n = self.sock.send(self.left)
        self.left = self.left[n:]
        return n

    def record(self, data):
        self.tls.write(data)
        return self.outside.read()

    def tear(self, data):
        self.sock.sendall(self.record(data)[:-1])

    def recv(self, n):
        try:
            return self.feed(lambda: self.tls.read(n))
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLEOFError:
            self.bare = True
            return b""

    def end(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:  # said; the answer comes when it comes
            pass
        self.push()
        super().end()


def unacked(sock):
    return struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


def poll_until(so):
    while not so():
        time.sleep(0.01)


def state_of(local, remote):
    def key(at):
        return "%08X:%04X" % (struct.unpack("=I", socket.inet_aton(at[0]))[0], at[1])
    for line in open("/proc/net/tcp"):
        word = line.split()
        if word[1:3] == [key(local), key(remote)]:
            return word[3]


def fill(peer, least):
    sock, poll = peer.sock, select.poll()
    poll.register(sock, select.POLLOUT)
    sock.setblocking(False)
    while poll.poll(300) or peer.filled - unacked(sock) <= least:
        try:
            peer.filled += peer.some()
        except BlockingIOError:
            pass
    sock.setblocking(True)
    return peer.filled, peer.filled - unacked(sock)


def trickle(peer, value):
    with open(value or os.devnull, "rb") as f:
        data = peer.record(f.read())
    for at in range(len(data)):
        peer.sock.sendall(data[at:at + 1])
        time.sleep(0.05)


def pace(peer, file, n, pause):
    with open(file, "rb") as f:
        data = f.read()
    for at in range(0, len(data), int(n)):
        if select.select([peer.sock], [], [], float(pause))[0]:
            return at
        peer.send(data[at:at + int(n)])
    return len(data)


def rest(peer, value, pause=0, piece=PIECE):
    got = 0
    if peer.cut:  # the kernel says it once
        return 0, "reset"
    with open(value or os.devnull, "wb") as out:
        try:
            while data := peer.recv(piece):
                got += len(data)
                out.write(data)
                out.flush()
                time.sleep(pause)
        except ConnectionError:
            return got, "reset"
        except ssl.SSLError:  # an alert says that it was cut
            return got, "failed"
    return got, "bare" if peer.bare else "ended"


def read(peer, left):
    want = left
    while left:
        data = peer.recv(min(left, PIECE))
        if not data:
            raise ConnectionError
        left -= len(data)
    return want


def sip(peer, n, pause):
    got = 0
    while data := peer.recv(n - got % n):
        got += len(data)
        if got % n == 0:
            time.sleep(pause)
    return got, "bare" if peer.bare else "ended"


def until(peer, text):
    got = b""
    while text not in got:
        data = peer.recv(PIECE)
        if not data:
            raise ConnectionError
        got += data


def step(peer, name, value):
    """Does one; returns what else is to be said."""
    sock = peer.sock
    if name in ("send", "torn"):
        with open(value, "rb") as f:
            (peer.send if name == "send" else peer.tear)(f.read())
    elif name == "hello":
        sock.sendall(hello())
    elif name == "trickle":
        trickle(peer, value)
    elif name == "fill":
        return fill(peer, int(value or 0))
    elif name == "acked":
        poll_until(lambda: not unacked(sock))
    elif name == "knock":
        while not os.path.getsize(value):
            peer.send(b"x")
            time.sleep(0.05)
    elif name == "read":
        return (read(peer, int(value)),)
    elif name == "rest":
        return rest(peer, value)
    elif name == "slow":
        return rest(peer, None, 0.25, int(value))
    elif name == "sip":
        n, pause = value.split(",")
        return sip(peer, int(n), float(pause))
    elif name == "until":
        until(peer, value.encode().decode("unicode_escape").encode("latin-1"))
    elif name == "pace":
        return (pace(peer, *value.split(",")),)
    elif name == "took":
        return (int((time.monotonic() - peer.since) * 1000),)
    elif name == "wait":
        time.sleep(float(value))
    elif name == "await":
        poll_until(lambda: os.path.exists(value))
    elif name == "state":
        poll_until(lambda: state_of(sock.getpeername(), sock.getsockname()) in value.split(","))
    elif name == "end":
        peer.end()
    elif name == "bare":
        sock.shutdown(socket.SHUT_WR)
    elif name in ("reset", "close"):
        if name == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    else:
        sys.exit(f"cutter.py: no such step: {name}")
    return ()


def say(*words):
    print(*words, flush=True)


def main(how, where, *steps):
    steps, ca, small = list(steps), None, False
    while steps[0].startswith("--"):
        option = steps.pop(0)
        small = small or option == "--small"
        ca = steps.pop(0) if option == "--tls" else ca
    host, _, port = where.rpartition(":")
    sock, since = socket.socket(), time.monotonic()
    if small:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    if how == "listen":
        server = sock
        server.bind((host, int(port)))
        server.listen()
        say("%s:%d" % server.getsockname())
        sock = server.accept()[0]
    else:
        sock.connect((host, int(port)))
    peer, status = Tls(sock, ca) if ca else Plain(sock), 0
    peer.since = since
    for text in steps:
        name, _, value = text.partition("=")
        try:
            if name == "again":
                peer = Plain(server.accept()[0])
            say(name, *(() if name == "again" else step(peer, name, value)))
        except ConnectionError:
            say(name, "reset")
            peer.cut, status = True, 18
    return status


def each():
    peers = []

    def end(*_):
        for pid in peers:
            os.kill(pid, signal.SIGTERM)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    for line in sys.stdin:
        out, *words = line.split()
        peers.append(os.fork())
        if peers[-1] == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), 1)
            return main(*words)
    while True:  # until we are ended
        signal.pause()


if __name__ == "__main__":
    sys.exit(each() if sys.argv[1:] == ["each"] else main(*sys.argv[1:]))
