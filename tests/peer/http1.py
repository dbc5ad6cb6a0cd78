"""http1 - HTTP/1.1 as a client of tests speaks it: what is sent is bytes, what comes back is read strictly.  A library.

    c = Connection("127.0.0.1:8443", ca="ca.pem")     # "unix:PATH" works, too; no ca: no TLS
    c.send(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
    a = c.answer()                                    # a.status, a.fields, a.body, a.interim
    c.finish()                                        # our end of stream
    c.rest()                                          # all that is still said, b""; c.end says how it ended

A connection writes and reads at the same time, whatever the other side does; one that makes no progress for LIMIT seconds
is an error."""
import json, os, re, select, selectors, socket, ssl, sys, time

LIMIT = 40 if os.environ.get("ASAN_OPTIONS") else 20
PIECE = 65536


class Wrong(Exception):
    """What a test must not see."""


def want(true, *what):
    if not true:
        raise Wrong(" ".join(map(str, what)))


class Answer:
    def __init__(self, status, fields, minor):
        self.status, self.fields, self.minor, self.body, self.interim = status, fields, minor, b"", []

    def field(self, name):
        found = [v for n, v in self.fields if n.lower() == name.lower()]
        want(len(found) < 2, "more than one", name)
        return found[0] if found else None

    def is_error(self, status, code, text):
        """CCF's JSON error, and that the connection is over."""
        try:
            said = json.loads(self.body)
        except ValueError:
            said = self.body
        want(self.status == status, "status", self.status, "not", status, said)
        want(said == {"error": {"code": code, "message": text}}, said, "is not", code, text)
        want(self.field("Content-Type") == "application/json", self.fields)
        want(self.field("Connection") == "close", self.fields)
        return True


def read_head(data):
    """The first head in DATA, and what follows it; None: not there yet."""
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        want(len(data) < 1 << 20, "a head without an end")
        return None
    first, *lines = head.split(b"\r\n")
    line = re.fullmatch(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t -~]*)", first)
    want(line, "not a status line:", first)
    fields = []
    for field in lines:
        match = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*", field)
        want(match, "not a field:", field)
        fields.append((match[1].decode(), match[2].decode("latin-1")))
    return Answer(int(line[2]), fields, int(line[1])), rest


def read_chunks(data, at=0):
    """(body, where it ends), or None."""
    body = []
    while (end := data.find(b"\r\n", at)) >= 0:
        line = data[at:end]
        want(re.fullmatch(rb"[0-9a-fA-F]{1,15}(;[\t -~\x80-\xff]*)?", line), "not a chunk's size:", line[:80])
        size = int(line.split(b";")[0], 16)
        if size == 0:
            end = data.find(b"\r\n\r\n", end)
            return (b"".join(body), end + 4) if end >= 0 else None
        at = end + 2 + size
        if len(data) < at + 2:
            return None
        want(data[at:at + 2] == b"\r\n", "something between a chunk and its CRLF")
        body.append(data[end + 2:at])
        at += 2
    return None


def read_answer(data, method="GET", ended=False):
    """(Answer, what follows it), or None: not whole.  Interim ones are in its .interim."""
    interim = []
    while found := read_head(data):
        answer, rest = found
        if answer.status >= 200 or answer.status == 101:
            break
        interim.append(answer.status)
        data = rest
    else:
        return None
    answer.interim = interim
    length, coding = answer.field("Content-Length"), answer.field("Transfer-Encoding")
    want(length is None or coding is None, "both framings:", answer.fields)
    if method == "HEAD" or answer.status in (101, 204, 304):
        return answer, rest
    if coding is not None:
        want(coding.lower() == "chunked", coding)
        found = read_chunks(rest)
        if found:
            answer.body, rest = found[0], rest[found[1]:]
        return (answer, rest) if found else None
    if length is None:
        answer.body = rest
        return (answer, b"") if ended else None
    want(length.isdigit(), "Content-Length:", length)
    answer.body = rest[:int(length)]
    return (answer, rest[int(length):]) if len(rest) >= int(length) else None


class Request:
    """What stands in DATA from AT on; whole: to its end.  Nothing that could be read in two ways is understood here."""

    def __init__(self, data, at=0, head_only=False):
        self.at = at + 2 * data.startswith(b"\r\n", at)
        end = data.find(b"\r\n\r\n", self.at)
        want(end >= 0, "no head")
        first, *lines = data[self.at:end].decode("latin-1").split("\r\n")
        line = re.fullmatch(r"([!-~]+) ([!-~]+) HTTP/1\.([01])", first)
        want(line, "not a request line:", first)
        self.line, self.method, self.target, self.minor = first, line[1], line[2], int(line[3])
        self.fields = [(n.lower(), v.strip(" \t")) for n, _, v in (field.partition(":") for field in lines)]
        words = {w.strip(" \t").lower() for v in self.all("connection") for w in v.split(",")}
        self.keep = "close" not in words and (self.minor == 1 or "keep-alive" in words)
        self.head, self.end, self.body, self.whole = end + 4, None, b"", False
        if not head_only:
            self.read(data)

    def all(self, name):
        return [v for n, v in self.fields if n == name]

    def read(self, data):
        if self.all("transfer-encoding"):
            self.body, self.end = read_chunks(data, self.head) or (b"", None)
        else:
            self.end = self.head + int((self.all("content-length") or "0")[0])
            self.body = data[self.head:self.end]
        self.whole = self.end is not None and self.end <= len(data)


class Connection:
    """end: None (open), "ended" (a FIN, over TLS after close_notify), "bare" (TLS: without), "reset", "failed" (an alert)."""

    def __init__(self, address, ca=None, name="a connection"):
        self.name = name
        if address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address[5:])
        else:
            host, _, port = address.rpartition(":")
            self.sock = socket.create_connection((host.strip("[]"), int(port)), LIMIT)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.got, self.end, self.was_reset, self.tls = bytearray(), None, False, None
        self.queue, self.wire, self.queued, self.ending = [], b"", 0, False
        self.sent = 0  # bytes of the stream below that the kernel took
        if ca:
            self.shake(ca)
        self.sock.setblocking(False)

    CONTEXTS = {}

    def shake(self, ca):
        """By memory BIOs: the ssl module's own sockets cannot end one direction alone."""
        if ca not in self.CONTEXTS:
            self.CONTEXTS[ca] = ssl.create_default_context(cafile=ca)
            self.CONTEXTS[ca].check_hostname = False
            self.CONTEXTS[ca].set_ecdh_curve("prime256v1")  # the quick one
        self.inside, self.outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.CONTEXTS[ca].wrap_bio(self.inside, self.outside)
        while True:
            try:
                self.tls.do_handshake()
                self.sock.sendall(self.outside.read())
                return
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outside.read())
                data = self.sock.recv(PIECE)
                want(data, "closed in the handshake")
                self.inside.write(data)

    def fileno(self):
        return self.sock.fileno()

    # ---- out ----

    def send(self, *pieces):
        """Queues them; each is one write, and one TLS record if it is not large."""
        for piece in pieces:
            for at in range(0, len(piece), PIECE):
                self.queue.append(piece[at:at + PIECE])
        return self

    def finish(self):
        self.ending = True
        return self

    def unsent(self):
        return bool(self.queue or self.wire or self.ending)

    def push(self):
        """Writes one piece, or as much of it as goes."""
        try:
            if not self.wire and self.queue:
                self.wire = self.queue.pop(0)
                if self.tls:
                    self.tls.write(self.wire)
                    self.wire = self.outside.read()
            if self.wire:
                n = self.sock.send(self.wire)
                self.sent += n
                self.wire = self.wire[n:]
            if self.ending and not self.wire and not self.queue:
                self.ending = False
                self.say_end()
        except BlockingIOError:
            pass
        except OSError:
            self.was_reset = True
            self.queue, self.wire, self.ending = [], b"", False

    def say_end(self):
        if self.tls:
            try:
                self.tls.unwrap()
            except ssl.SSLError:  # said; the answer comes when it comes
                pass
            self.sock.sendall(self.outside.read())
        self.sock.shutdown(socket.SHUT_WR)

    # ---- in ----

    def pull(self):
        """Reads all that is there: who has been told that it is over writes no more."""
        while not self.end:
            try:
                data = self.sock.recv(PIECE)
            except BlockingIOError:
                return
            except ConnectionError:
                self.end = "reset"
                return
            if self.tls:
                self.pull_tls(data)
            elif data:
                self.got += data
            else:
                self.end = "ended"
        if self.was_reset:
            self.end = "reset"

    def pull_tls(self, data):
        self.inside.write(data) if data else self.inside.write_eof()
        try:
            while piece := self.tls.read(PIECE):
                self.got += piece
            self.end = "ended"
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.end = "ended"
        except ssl.SSLEOFError:
            self.end = "bare"
        except ssl.SSLError:
            self.end = "failed"

    # ---- both ----

    def until(self, done):
        while not (found := done()):
            writes = [self] if self.unsent() else []
            reads = [] if self.end else [self]
            want(reads or writes, "the connection has", self.end, "after", self.got[:300])
            r, w, _ = select.select(reads, writes, [], LIMIT)
            want(r or w, "nothing moves; so far:", self.got[:300])
            if r:
                self.pull()
            elif w:
                self.push()
        return found

    def answer(self, method="GET"):
        found = self.until(lambda: read_answer(self.got, method, self.end == "ended"))
        self.got = bytearray(found[1])
        return found[0]

    def rest(self):
        """All that comes until it ends; everything of ours is sent, too, unless that fails."""
        self.until(lambda: self.end and not self.unsent())
        if self.was_reset:
            self.end = "reset"
        self.sock.close()
        return self.got

    def ends(self):
        """There is nothing more to read, and its end is in order."""
        rest = self.rest()
        want(rest == b"", "unasked:", rest[:300])
        want(self.end == "ended", "it should have ended, but:", self.end)

    def ask(self, text, method="GET"):
        self.send(text if isinstance(text, bytes) else text.encode("latin-1"))
        return self.answer(method)

    def close(self):
        self.sock.close()


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def many(connections, limit=LIMIT):
    """Until each of them has ended and is closed; a piece of each goes out in turn."""
    selector, left = selectors.DefaultSelector(), set(connections)
    for c in connections:
        selector.register(c, selectors.EVENT_READ | selectors.EVENT_WRITE)
    while left:
        ready = selector.select(limit)
        want(ready, "nothing moves any more on", ", ".join(sorted(c.name for c in left)))
        for key, events in ready:
            c = key.fileobj
            if events & selectors.EVENT_READ:
                c.pull()
            if events & selectors.EVENT_WRITE and not c.end:
                c.push()
            if c.end:
                selector.unregister(c)
                c.sock.close()
                left.discard(c)
            elif not c.unsent() and key.events & selectors.EVENT_WRITE:
                selector.modify(c, selectors.EVENT_READ)
    selector.close()


# ---- what a tool says of itself ----

class Control:
    """A control socket; it is asked on one connection."""

    def __init__(self, path):
        self.path, self.connection = path, None

    def get(self, what):
        if self.connection is None or self.connection.end:
            self.connection = Connection("unix:" + self.path)
        a = self.connection.ask(f"GET {what} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        want(a.status == 200, what, a.status, a.body[:300])
        return a.body.decode()

    def samples(self):
        """NAME{LABELS} to its value."""
        return {k: float(v) for k, v in
                (line.rsplit(" ", 1) for line in self.get("/metrics").splitlines() if line and line[0] != "#")}

    def errors(self):
        """How many were refused, by class: parsing, payload, headers."""
        s = self.samples()
        return tuple(int(s[f'ccfnet_http_errors_total{{class="{c}"}}'])
                     for c in ("parsing", "request-payload-too-large", "request-header-too-large"))

    def node_errors(self, interface="rpc"):
        e = json.loads(self.get("/node/metrics"))["sessions"]["interfaces"][interface]["errors"]
        return e["parsing"], e["request_payload_too_large"], e["request_header_too_large"]


def eventually(what, so, value):
    """Until so() is that value: what another process says of itself comes when it comes."""
    end = time.monotonic() + LIMIT
    while (now := so()) != value:
        want(time.monotonic() < end, what, now, "not", value)
        select.select([], [], [], 0.01)


def run(main):
    """What is wrong is said in a line, and is status 1."""
    try:
        main()
    except Wrong as e:
        print("wrong:", e, file=sys.stderr)
        sys.exit(1)
