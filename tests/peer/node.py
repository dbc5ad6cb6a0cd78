#!/usr/bin/env python3
"""A node in another language, written from the facts of CCF's node-to-node link alone.  Every line it prints is JSON; status 0:
all was as it should be; 1: it was not, or took longer than --within (60) seconds, and the last line is a sentence that says what.

    node.py encode FRAME...               their bytes on standard output, or --out FILE; --payload: without heads; --hex
    node.py decode [FILE]                 a line a frame; 1 if the stream is broken or does not end where a frame does
    node.py listen                        a node that is dialled: the first line is its port (of 127.0.0.1, or --bind HOST[:PORT])
    node.py dial HOST:PORT [FRAME...]     a node that dials: sends these, waits for --expect N frames, does --then, and says how it ends
    node.py junk HOST:PORT                one malformed message after the other, each on a connection of its own, a line each
    node.py cut HOST:PORT [FRAME...]      a stream that ends after each of its bytes, each time on a connection of its own
    node.py app PATH [FRAME...]           a program at ccf-nodelink's --app socket, see below
    node.py check [NAME=]FILE...          events of ccf-nodelink (--format json): every message of each peer has one fate

FRAME is [COUNT*][SENDER@]WHAT; SENDER, like every ID, is %XX where it is not printable; where it is not given it is --from, else n0 (of
app nobody: then the node fills its own in).
    TYPE[:FORM:VALUE]         channel, consensus, forwarded or a number, and a payload: text:, hex:, file:PATH[,OFFSET,LENGTH],
                              random:SIZE, zero:SIZE
    MESSAGE[:KEY=VALUE,...]   with random fields (--seed) but for those that are given; append_entries also takes entries=COUNT
                              (0 to 3), size=BYTES of each, and file=PATH,OFFSET,LENGTH as the last: its ledger entries.
                              MESSAGE is one of the names that decode shows
    entries:COUNT:SIZE        ledger entries alone, as a consensus message
    raw:HEX, rawfile:PATH     no frame: these bytes

What decode, listen and dial show of a frame: {"event":"frame", offset, n, type, from, size, message, fields, sha256, hex}; message and
fields where it is one of CCF's and long enough, sha256 of the payload, hex all of it up to --shown (4096) bytes; --quiet: nothing.
Of a connection: {"event":"open"|"end", conn, ...}; how it ended: "fin", "reset" (both the other side's), or "ours"; partial: bytes of
a frame that had only begun.

listen and dial: --after N:ACTION (repeatable): after N frames of a connection (0: at once) close, reset (SO_LINGER 0), half-close, or
stop: nothing more is read, until USR1 comes.  --slow N: so many frames a second.  --echo: each frame comes back from --from.
--forgiving: a stream that is broken is told and reset, and no fault.
listen: --send FRAME to each who connects, --answer FRAME to its first frame, the next one to its second ...  It ends when
--connections (1) have ended, or after --frames N in all, or with TERM; 0: not for that.
dial: --chunk N: so many bytes of each write (1: one by one); --then half-close (the default), close, reset, wait (for the other
side's end), stay (until TERM, or its end); --ends fin|reset: it has to end so.

app: --send ID:N sends N messages, each with its number and a checksum; --receive ID:N awaits as many such ones from there, in
order, none lost, none twice.  Both are repeatable and go on at once; when all are done it waits until the node has read
everything, and ends. --size LOW[:HIGH] (64) bytes, --type T (forwarded).  --to ID FRAME...: these, addressed to ID; raw ones go
as they are.  --expect N: any N messages have come; --print shows each as above.  --slow, --after N:stop as above.  --until-end:
it goes on until the node ends the connection, or TERM.  --when-told: it sends when USR1 comes.  --lossy, --twice: what was lost,
or came twice, is told but no fault.  --others: so is what comes from others, or has no number.  It prints {"event":"sent", to,
messages} (the node may not have read the last of them) and {"event":"received", from, run, messages, lost, twice, late, last};
run: of the program that sent them, lost: up to the last that came.

check: of the last "peer" line of each ID, sent = delivered + dropped + unknown + waiting.  --idle: nothing waits any more.  --sent ID=N,
--received ID=N, --delivered ID=N ...: exactly so many; of several files ID is NAME/ID.  --pairs: the files are of the nodes NAME, none
of which was started anew, asked when nothing was under way: what one delivered to another the other has received, and no more than
that and what is unknown or resent."""
import argparse, bisect, collections, contextlib, fcntl, hashlib, json, os, queue, random, re, signal, socket, struct, sys, threading
import time, urllib.parse, zlib

TYPES = {"channel": 0, "consensus": 1, "forwarded": 2}
LONG = 1 << 20  # bytes: of a longer frame the payload is not kept
PATIENCE = 10  # seconds for somebody to listen


def say(line=None, **event):
    os.write(1, ((json.dumps(event, separators=(",", ":")) if line is None else str(line)) + "\n").encode())


def fail(*words):
    """From any thread."""
    say(event="failed", why=" ".join(map(str, words)))
    os._exit(1)


def amount(text):
    """With k, M or G."""
    return int(text.rstrip("kMG")) << {"k": 10, "M": 20, "G": 30}.get(text[-1], 0)


class Over(Exception):
    """TERM."""


# ---- frames ----

Frame = collections.namedtuple("Frame", "offset n type sender size payload sha256")  # payload: its beginning if it is long


class Broken(Exception):
    """Nothing more can be read from this stream."""


def frame(kind, sender, payload):
    return struct.pack("<IQQ", 16 + len(sender) + len(payload), kind, len(sender)) + sender + payload


class Reader:
    def __init__(self, most):
        self.most, self.buf, self.offset, self.left, self.long, self.sha = most, bytearray(), 0, 0, None, None

    @property
    def partial(self):
        """Bytes of a frame that has only begun."""
        return len(self.buf) + (self.long.n + 4 - self.left if self.long else 0)

    def feed(self, data):
        """Yields the frames that are whole now."""
        self.buf += data
        at = 0
        try:
            while True:
                if self.long:
                    part = bytes(self.buf[at:at + self.left])
                    self.sha.update(part)
                    at, self.left = at + len(part), self.left - len(part)
                    if self.left:
                        return
                    got, self.long = self.long._replace(sha256=self.sha.hexdigest()), None
                else:
                    got = self.head(at)
                    if not got:
                        return
                    if got.payload is None:
                        at += 20 + len(got.sender)
                        self.long, self.left, self.sha = got._replace(payload=b""), got.size, hashlib.sha256()
                        continue
                    at += 4 + got.n
                self.offset += 4 + got.n
                yield got
        finally:
            del self.buf[:at]

    def head(self, at):
        """The frame that begins there, judged as soon as that can be; None: it goes on."""
        have = len(self.buf) - at
        if have < 4:
            return None
        n, = struct.unpack_from("<I", self.buf, at)
        if n > self.most:
            raise Broken(f"a frame of {n} bytes, at most {self.most} are allowed")
        if n < 16:
            raise Broken(f"a frame of {n} bytes, which has no room for its own head")
        if have < 20:
            return None
        kind, s = struct.unpack_from("<QQ", self.buf, at + 4)
        if s > n - 16:
            raise Broken(f"a sender of {s} bytes in a frame that has room for {n - 16}")
        if have < (20 + s if n > LONG else 4 + n):
            return None
        payload = None if n > LONG else bytes(self.buf[at + 20 + s:at + 4 + n])
        return Frame(self.offset, n, kind, bytes(self.buf[at + 20:at + 20 + s]), n - 16 - s, payload, None)


def id_bytes(text):
    return urllib.parse.unquote_to_bytes(text)


def id_text(sender):
    return "".join(chr(c) if 33 <= c < 127 and c not in b'%="' else f"%{c:02X}" for c in sender)


def type_text(kind):
    return next((name for name, value in TYPES.items() if value == kind), str(kind))


# ---- what is in them ----

# name: (first u64, [(field, struct letter)])
CONSENSUS = {
    "append_entries": (0, [("idx", "Q"), ("prev_idx", "Q"), ("term", "Q"), ("prev_term", "Q"), ("leader_commit_idx", "Q"),
                           ("term_of_idx", "Q"), ("contains_new_view", "B")]),
    "append_entries_response": (1, [("term", "Q"), ("last_log_idx", "Q"), ("success", "B")]),
    "append_entries_signed_response": (2, []),
    "request_vote": (3, [("term", "Q"), ("last_committable_idx", "Q"), ("term_of_last_committable_idx", "Q")]),
    "request_vote_response": (4, [("term", "Q"), ("granted", "B")]),
    "propose_request_vote": (5, [("term", "Q")]),
    "request_pre_vote": (6, [("term", "Q"), ("last_committable_idx", "Q"), ("term_of_last_committable_idx", "Q")]),
    "request_pre_vote_response": (7, [("term", "Q"), ("granted", "B")]),
}
CONSENSUS_BYTES = (57, 25, 8, 32, 17, 16, 32, 17)
FORWARDED = {
    "forwarded_cmd_v1": (0, [("frame_format", "B")]),
    "forwarded_response_v1": (1, [("frame_format", "B")]),
    "forwarded_cmd_v2": (2, [("frame_format", "B"), ("command_id", "Q")]),
    "forwarded_response_v2": (3, [("frame_format", "B"), ("command_id", "Q")]),
    "forwarded_cmd_v3": (4, [("frame_format", "B"), ("command_id", "Q"), ("active_view", "Q")]),
    "forwarded_response_v3": (5, [("frame_format", "B"), ("command_id", "Q"), ("terminate_session", "B")]),
}
FORWARDED_BYTES = (9, 9, 17, 17, 25, 18)
CHANNEL = {  # version, then buffers
    "init": (0, True, ("key_share", "signature", "cert", "salt")),
    "response": (1, True, ("key_share", "signature", "cert")),
    "final": (2, False, ("signature",)),
}
SEALED = {1: CONSENSUS, 2: FORWARDED}


def layout(fields):
    return "<Q" + "".join(letter for _, letter in fields)


for _table, _bytes in ((CONSENSUS, CONSENSUS_BYTES), (FORWARDED, FORWARDED_BYTES)):
    assert tuple(struct.calcsize(layout(fields)) for _, fields in _table.values()) == _bytes


def entries(data):
    """The ledger entries that lie there: ([their sizes], [their flags], bytes behind the last whole one)."""
    sizes, flags, at = [], [], 0
    while len(data) - at >= 8:
        head, = struct.unpack_from("<Q", data, at)
        size = head >> 16
        if head & 0xFF != 1 or size > len(data) - at - 8:
            break
        sizes.append(size)
        flags.append(head >> 8 & 0xFF)
        at += 8 + size
    return sizes, flags, len(data) - at


def entry(rng, size):
    return struct.pack("<Q", 1 | rng.choice((0, 0, 0, 1, 2, 3)) << 8 | size << 16) + rng.randbytes(size)


def sealed_fields(table, number, payload):
    for name, (value, fields) in table.items():
        size = struct.calcsize(layout(fields))
        if value != number or len(payload) < size:
            continue
        found = dict(zip((field for field, _ in fields), struct.unpack_from(layout(fields), payload)[1:]))
        if fields and len(payload) >= size + 24:
            found["tag"] = payload[size:size + 16].hex()
            found["nonce"] = int.from_bytes(payload[size + 17:size + 24], "little")
            if name == "append_entries":
                found["entries"], found["flags"], found["behind"] = entries(payload[size + 24:])
        return name, found
    return None, {}


def channel_fields(number, payload):
    """Buffers that are empty or cut, and what stands behind the last, are malformed."""
    for name, (value, versioned, buffers) in CHANNEL.items():
        if value != number:
            continue
        found, at = {}, 8
        try:
            if versioned:
                found["version"], = struct.unpack_from("<Q", payload, at)
                at += 8
            for field in buffers:
                size, = struct.unpack_from("<Q", payload, at)
                at += 8
                found[field] = payload[at:at + size].hex()
                if not 0 < size <= len(payload) - at:
                    found["malformed"] = field
                    return name, found
                at += size
        except struct.error:
            found["malformed"] = "cut"
            return name, found
        if at != len(payload):
            found["malformed"] = "behind"
        return name, found
    return None, {}


def understood(kind, payload):
    """(message, fields); (None, {}) where it is none of CCF's, or too short for what it says it is."""
    if kind > 2 or len(payload) < 8:
        return None, {}
    number, = struct.unpack_from("<Q", payload)
    return sealed_fields(SEALED[kind], number, payload) if kind else channel_fields(number, payload)


def from_file(spec):
    path, offset, length = re.fullmatch(r"(.*?)(?:,(\d+),(\d+))?", spec, re.S).groups()
    with open(path, "rb") as file:
        file.seek(int(offset or 0))
        data = file.read(int(length) if length else -1)
    if length and len(data) != int(length):
        fail(spec, "is too short")
    return data


def channel_message(name, rng, given):
    number, versioned, buffers = CHANNEL[name]
    usual = {"key_share": rng.randbytes(97), "signature": rng.randbytes(103), "salt": rng.randbytes(32),
             "cert": b"-----BEGIN CERTIFICATE-----\n" + rng.randbytes(300).hex().encode() + b"\n-----END CERTIFICATE-----\n"}
    data = struct.pack("<Q", number) + (struct.pack("<Q", int(given.pop("version", 1))) if versioned else b"")
    for field in buffers:
        value = bytes.fromhex(given.pop(field)) if field in given else usual[field]
        data += struct.pack("<Q", len(value)) + value
    return data


def sealed_message(table, name, rng, given):
    number, fields = table[name]
    values = []
    for field, letter in fields:
        usual = 0 if field == "frame_format" else rng.getrandbits(1 if letter == "B" else 48)
        values.append(int(given.pop(field, usual)))
    data = struct.pack(layout(fields), number, *values)
    if fields:
        data += rng.randbytes(16) + b"\0" + rng.randbytes(6) + b"\0"  # tag; nonce
    if table is FORWARDED:
        data += rng.randbytes(int(given.pop("size", rng.randint(0, 300))))
    if name == "append_entries":
        if "file" in given:
            return data + from_file(given.pop("file"))
        count, size = int(given.pop("entries", rng.randint(0, 3))), given.pop("size", None)
        data += b"".join(entry(rng, rng.randint(1, 200) if size is None else int(size)) for _ in range(count))
    return data


def built(name, rng, rest):
    """(type, payload) of a message; None: there is no such."""
    kind = next((kind for kind, table in enumerate((CHANNEL, CONSENSUS, FORWARDED)) if name in table), None)
    if kind is None:
        return None
    rest, _, file = rest.partition("file=")
    given = dict(pair.split("=", 1) for pair in rest.split(",") if pair)
    if file:
        given["file"] = file
    payload = sealed_message(SEALED[kind], name, rng, given) if kind else channel_message(name, rng, given)
    if given:
        fail(name, "has no", *given)
    return kind, payload


def payload_of(rest, rng):
    form, _, value = rest.partition(":")
    if not rest:
        return b""
    if form == "text":
        return value.encode("utf-8", "surrogateescape")
    if form == "hex":
        return bytes.fromhex(value)
    if form == "file":
        return from_file(value)
    if form == "random":
        return rng.randbytes(amount(value))
    if form == "zero":
        return bytes(amount(value))
    fail(rest, "is no payload: text:, hex:, file:, random:, zero:")


def one(what, rest, rng):
    """(type, payload)"""
    if what == "entries":
        count, _, size = rest.partition(":")
        return 1, b"".join(entry(rng, int(size)) for _ in range(int(count)))
    if what in TYPES or re.fullmatch(r"\d+|0x[0-9a-f]+", what):
        return TYPES[what] if what in TYPES else int(what, 0), payload_of(rest, rng)
    return built(what, rng, rest) or fail(what, "is neither a type nor a message")


def parsed(specs, args):
    """For each FRAME (type, sender, payload), or the bytes of what is none."""
    for spec in specs:
        found = re.fullmatch(r"(?:(\d+)\*)?(?:([^@:]*)@)?([^:]+)(?::(.*))?", spec, re.S)
        if not found:
            fail(spec, "is no FRAME")
        count, sender, what, rest = found.groups("")
        for _ in range(int(count or 1)):
            if what.startswith("raw"):
                yield bytes.fromhex(rest) if what == "raw" else from_file(rest)
                continue
            kind, payload = one(what, rest, args.rng)
            yield kind, id_bytes(sender if found[2] is not None else args.sender), payload


def as_bytes(specs, args):
    for made in parsed(specs, args):
        yield made if isinstance(made, bytes) else frame(*made)


def show(got, args, **event):
    if args.quiet:
        return
    message, fields = understood(got.type, got.payload) if got.sha256 is None else (None, {})
    event |= {"offset": got.offset, "n": got.n, "type": type_text(got.type), "from": id_text(got.sender), "size": got.size}
    if message:
        event |= {"message": message, "fields": fields}
    event["sha256"] = got.sha256 or hashlib.sha256(got.payload).hexdigest()
    if got.size <= args.shown and got.sha256 is None:
        event["hex"] = got.payload.hex()
    say(event="frame", **event)


# ---- connections ----

def host_port(text):
    """HOST, HOST:PORT, [HOST]:PORT"""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        host, port = text, 0
    return host.strip("[]"), int(port)


def shown(address):
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def connected(args):
    host, port = host_port(args.address)
    try:
        sock = socket.create_connection((host, port), PATIENCE, host_port(args.bind) if args.bind else None)
    except OSError as e:
        fail(f"{args.address}:", e.strerror or e)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):  # ENOTCONN: it was faster
        sock.shutdown(socket.SHUT_RD)
    sock.close()


class Conn:
    """Read by a thread of its own, which does what --after says.  news: a queue that gets a word for each frame, and for the end;
    closes: it does so when the other side has ended."""

    def __init__(self, sock, conn, args, news, closes):
        self.sock, self.conn, self.args, self.news, self.closes = sock, conn, args, news, closes
        self.reader, self.frames, self.bytes, self.how, self.began = Reader(args.max_frame), 0, 0, None, time.monotonic()
        self.answers = list(as_bytes(getattr(args, "answer", []), args))
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            for data in as_bytes(getattr(self.args, "send", []), self.args):
                self.sock.sendall(data)
            self.after()
            while data := self.sock.recv(1 << 16):
                self.bytes += len(data)
                for got in self.reader.feed(data):
                    self.got(got)
                    if self.how:
                        return self.end(self.how)
            self.end(self.how or "fin")
        except (ConnectionResetError, BrokenPipeError):
            self.end(self.how or "reset")
        except OSError as e:
            self.end(self.how or e.strerror)
        except Broken as e:
            if not self.args.forgiving:
                fail(f"connection {self.conn}, at {self.reader.offset}:", e)
            say(event="broken", conn=self.conn, why=str(e))
            reset(self.sock)
            self.end("ours")

    def end(self, how):
        self.how = how
        partial = 0 if how == "ours" else self.reader.partial
        say(event="end", conn=self.conn, how=how, frames=self.frames, bytes=self.bytes, partial=partial)
        if self.closes:
            self.sock.close()
        self.news.put((self, "end"))

    def got(self, got):
        self.frames += 1
        show(got, self.args, conn=self.conn)
        if self.answers:
            self.sock.sendall(self.answers.pop(0))
        if self.args.echo:
            if got.sha256:
                fail("a frame of", got.n, "bytes is too long to be echoed")
            self.sock.sendall(frame(got.type, id_bytes(self.args.sender), got.payload))
        pace(self.args.slow, self.began, self.frames)
        self.after()
        self.news.put((self, "frame"))

    def after(self):
        for n, action in self.args.after:
            if n == self.frames:
                self.act(action)

    def act(self, action):
        say(event=action, conn=self.conn, frames=self.frames)
        if action == "stop":
            self.args.go.wait()
        elif action == "half-close":
            self.sock.shutdown(socket.SHUT_WR)
        else:
            self.how = "ours"
            if action == "reset":
                return reset(self.sock)
            self.sock.shutdown(socket.SHUT_RDWR)  # who reads it elsewhere lets go of it
            self.sock.close()


def pace(per_second, began, done):
    if per_second:
        time.sleep(max(0, began + done / per_second - time.monotonic()))


def write(conn, data, chunk=0):
    """Whether all of it went."""
    try:
        for at in range(0, len(data), chunk or len(data) or 1):
            conn.sock.sendall(data[at:at + (chunk or len(data))])
        return True
    except OSError:  # its reader says how it ended
        return False


def until(news, what, seconds=None):
    """The next word; what: what else would be amiss."""
    try:
        return news.get(timeout=seconds)
    except queue.Empty:
        fail("after", seconds, "s:", what)


def listen(args):
    host, port = host_port(args.bind or "127.0.0.1:0")
    server = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    if args.rcvbuf:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, args.rcvbuf)
    say(server.getsockname()[1])
    news, ended, frames = queue.Queue(), 0, 0

    def accept():
        for i in range(1, 1 << 30):
            sock, peer = server.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            say(event="open", conn=i, peer=shown(peer))
            Conn(sock, i, args, news, True)

    threading.Thread(target=accept, daemon=True).start()
    while not (args.connections and ended == args.connections or args.frames and frames >= args.frames):
        _, what = news.get()
        ended, frames = ended + (what == "end"), frames + (what == "frame")


def dial(args):
    sock, news, frames = connected(args), queue.Queue(), 0
    if args.rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, args.rcvbuf)
    say(event="open", conn=1, local=shown(sock.getsockname()))
    conn = Conn(sock, 1, args, news, False)
    for data in as_bytes(args.frame, args):
        if not write(conn, data, args.chunk):
            break
    while frames < args.expect and not conn.how:
        frames += until(news, f"{frames} frames came, not {args.expect}", args.timeout)[1] == "frame"
    if conn.frames < args.expect:
        fail(conn.frames, "frames came, not", args.expect)
    if args.then in ("close", "reset", "half-close") and not conn.how:
        try:
            conn.act(args.then)
        except OSError:  # its reader says how it ended
            pass
    patience = None if args.then == "stay" else args.timeout
    while until(news, "the connection has not ended", patience)[1] != "end":
        pass
    if args.ends and conn.how not in (args.ends, "ours"):
        fail("ended by", conn.how, "not", args.ends)


# ---- malformed ones ----

def junk_list(args):
    rng = args.rng
    for size in range(4):
        yield f"prefix-{size}", rng.randbytes(size)
    for size in range(17):
        yield f"size-{size}", struct.pack("<I", size) + bytes(size)
    yield "type-100", frame(100, b"junk", b"")
    for s in (0, 1, 5):
        yield f"sender-{s}-of-4", struct.pack("<IQQ", 20, 1, s) + b"junk"
    for name, s in (("by-one", 101), ("far", 1 << 32), ("2^63", 1 << 63), ("most", (1 << 64) - 1), ("wraps", (1 << 64) - 16)):
        yield f"sender-overruns-{name}", struct.pack("<IQQ", 116, 1, s) + rng.randbytes(100)
    yield "sender-of-the-next", struct.pack("<IQQ", 20, 1, 12) + b"junk" + frame(1, b"junk", b"next")
    yield "prefix-alone", struct.pack("<I", 100)
    yield "half-a-frame", frame(1, b"junk", rng.randbytes(100))[:60]
    if args.max_frame < 0xFFFFFFFF:
        yield "too-large", struct.pack("<I", args.max_frame + 1)
        yield "largest", b"\xff" * 4
    for i in range(args.random):
        body = rng.randbytes(rng.randint(16, 200))
        yield f"random-body-{i}", struct.pack("<I", len(body)) + body
        yield f"random-{i}", rng.randbytes(rng.randint(5, 200))


def judged(data, most):
    """What has to become of it: refused at once; incomplete and legal: at its end.  Who has no name may be refused, too."""
    reader, nameless = Reader(most), False
    try:
        for got in reader.feed(data):
            nameless |= not got.sender
    except Broken:
        return "refused"
    return "nameless" if nameless else "incomplete" if reader.partial else "legal"


def how_it_ends(sock, seconds):
    """fin, reset; None: it has not."""
    sock.settimeout(seconds)
    try:
        while sock.recv(1 << 16):
            pass
        return "fin"
    except TimeoutError:
        return None
    except ConnectionResetError:
        return "reset"


def play(args, data, judgement):
    """Sends it, and says how the other side has ended."""
    with connected(args) as sock:
        try:
            sock.sendall(data)
            if judgement != "refused":
                sock.shutdown(socket.SHUT_WR)
        except (ConnectionResetError, BrokenPipeError):
            return "reset"
        except OSError:  # ENOTCONN: it was faster
            pass
        return how_it_ends(sock, args.timeout)


class Witness:
    """Another link, which has to be there all the time."""

    def __init__(self, args):
        self.args, self.sock, self.reader = args, connected(args), Reader(args.max_frame)
        self.sock.settimeout(args.timeout)

    def testify(self, after):
        question = self.args.rng.randbytes(16)
        try:
            self.sock.sendall(frame(100, id_bytes(self.args.beside), question))
            while data := self.sock.recv(1 << 16):
                for got in self.reader.feed(data):
                    if got.payload == question:
                        return
            fail("after", after, "another link has ended")
        except OSError as e:
            fail("after", after, "another link is gone:", e)


def junk(args):
    witness = Witness(args) if args.beside else None
    for name, data in junk_list(args):
        if args.only and not re.search(args.only, name):
            continue
        judgement = judged(data, args.max_frame)
        ended = play(args, data, judgement)
        say(event="junk", name=name, bytes=data.hex(), judgement=judgement, ended=ended)
        if not ended:
            fail(name, f"({judgement}): the connection is still open after {args.timeout} s")
        if witness:
            witness.testify(name)


def cut(args):
    specs = args.frame or ["append_entries:entries=2,size=40", "request_vote", "init", "forwarded_cmd_v3", "consensus:text:last"]
    data, ends, whole = b"".join(as_bytes(specs, args)), collections.Counter(), 0
    witness = Witness(args) if args.beside else None
    for size in range(len(data) + 1):
        whole += sum(1 for _ in Reader(args.max_frame).feed(data[:size]))
        if args.end == "reset":
            with connected(args) as sock:
                sock.sendall(data[:size])
                reset(sock)
            continue
        ended = play(args, data[:size], "incomplete")
        if not ended:
            fail(f"{size} of {len(data)} bytes: the connection is still open after {args.timeout} s")
        ends[ended] += 1
        if witness:
            witness.testify(f"{size} of {len(data)} bytes")
    say(event="cut", bytes=len(data), connections=len(data) + 1, whole=whole, **ends)


# ---- programs at the --app socket ----

NUMBERED = struct.Struct("<QQI")  # of the program that sends it, number, checksum of all but itself


def sizes(text):
    low, _, high = text.partition(":")
    return amount(low), amount(high or low)


class Numbered:
    """Messages to somebody: their number, and a body that follows from it."""
    block = random.Random(1).randbytes(1 << 16)

    def __init__(self, args, to, count):
        self.to, self.count, self.made, self.run, self.args = id_bytes(to), count, 0, random.getrandbits(48), args
        self.front = struct.pack("<Q", len(self.to)) + self.to
        if args.size[1] + 4096 > len(self.block):
            Numbered.block *= (args.size[1] + 4096) // len(self.block) + 1

    def message(self):
        low, high = self.args.size
        size = max(low + (self.made * 7919) % (high - low + 1) - NUMBERED.size, 0)
        at = self.made % 4096
        body = self.block[at:at + size]
        check = zlib.crc32(body, zlib.crc32(struct.pack("<QQ", self.run, self.made)))
        data = NUMBERED.pack(self.run, self.made, check) + body
        self.made += 1
        return self.front + frame(self.args.type, self.args.own, data)


class Stream:
    """What came from one program of one sender."""

    def __init__(self):
        self.seen, self.n, self.late, self.twice, self.last = bytearray(), 0, 0, 0, -1

    def add(self, which):
        self.n += 1
        if which >= len(self.seen):
            self.seen += bytes(which + 1 - len(self.seen) + 1024)
        if self.seen[which]:
            self.twice += 1
        elif which < self.last:
            self.late += 1
        self.seen[which] = 1
        self.last = max(self.last, which)

    def lost(self):
        return self.last + 1 - sum(self.seen)


class App:
    def __init__(self, args):
        self.args, self.sock, self.reader = args, None, Reader(0xFFFFFFFF)
        self.to = [Numbered(args, *pair) for pair in args.send]
        self.gone = collections.Counter()  # messages written, by whom they are for
        self.due = {id_bytes(sender): n for sender, n in args.receive}
        self.streams, self.frames, self.others = collections.defaultdict(Stream), 0, 0
        self.news, self.began = queue.Queue(), time.monotonic()

    def connect(self):
        """As soon as somebody listens."""
        end = time.monotonic() + PATIENCE
        while True:
            self.sock = socket.socket(socket.AF_UNIX)
            try:
                return self.sock.connect(self.args.path)
            except (FileNotFoundError, ConnectionRefusedError) as e:
                self.sock.close()
                if time.monotonic() > end:
                    fail(f"{self.args.path}:", e.strerror)
            time.sleep(0.02)

    def write(self):
        if self.args.when_told:
            self.args.go.wait()
        try:
            for made in parsed(self.args.frame, self.args):
                if isinstance(made, bytes):
                    self.sock.sendall(made)
                    continue
                if self.args.to is None:
                    fail("whom is it for? --to ID")
                to = id_bytes(self.args.to)
                self.sock.sendall(struct.pack("<Q", len(to)) + to + frame(*made))
            left = list(self.to)
            while left:
                for numbered in left:
                    self.batch(numbered)
                left = [numbered for numbered in left if numbered.made < numbered.count]
        except OSError as e:
            self.news.put(("cut", e.strerror))
            return
        self.news.put(("written", None))

    def batch(self, numbered):
        """Some more; those that went are counted whatever happens."""
        ends, data, at = [], bytearray(), 0
        while numbered.made < numbered.count and len(ends) < 256 and len(data) < 1 << 18:
            data += numbered.message()
            ends.append(len(data))
        view = memoryview(data)
        try:
            while at < len(data):
                at += self.sock.send(view[at:])
        finally:
            self.gone[numbered.to] += bisect.bisect_right(ends, at)

    def read(self):
        try:
            while data := self.sock.recv(1 << 18):
                for got in self.reader.feed(data):
                    self.got(got)
        except Broken as e:
            fail("the node's stream, at", self.reader.offset, "bytes:", e)
        except OSError as e:
            self.news.put(("cut", e.strerror))
            return
        self.news.put(("end", self.reader.partial))

    def got(self, got):
        self.frames += 1
        if self.args.print:
            show(got, self.args)
        self.count(got)
        if self.args.slow:
            pace(self.args.slow, self.began, self.frames)
        for n, _ in self.args.after:
            if n == self.frames:
                self.args.go.wait()
        if self.frames == self.args.expect or self.done():
            self.news.put(("received", None))

    def count(self, got):
        if got.sha256 or got.size < NUMBERED.size or got.sender not in self.due:
            self.others += 1
            if self.due and not self.args.others:
                fail("a message of", got.size, "bytes from", id_text(got.sender), "was not expected")
            return
        run, which, check = NUMBERED.unpack_from(got.payload)
        if zlib.crc32(got.payload[NUMBERED.size:], zlib.crc32(got.payload[:16])) != check:
            if self.args.others:
                self.others += 1
                return
            fail("message", self.frames, "from", id_text(got.sender), "is damaged")
        stream = self.streams[got.sender, run]
        if which != stream.last + 1:
            self.amiss(got.sender, stream, which)
        stream.add(which)

    def amiss(self, sender, stream, which):
        what = "lost" if which > stream.last else "twice" if which < len(stream.seen) and stream.seen[which] else "late"
        if not (what == "lost" and self.args.lossy or what == "twice" and self.args.twice):
            fail(f"{what}: message {which} from {id_text(sender)} came after {stream.last}")

    def done(self):
        return bool(self.due) and all(
            any(stream.last + 1 >= n for (who, _), stream in self.streams.items() if who == sender)
            for sender, n in self.due.items())

    def report(self):
        for numbered in self.to:
            say(event="sent", to=id_text(numbered.to), messages=self.gone[numbered.to])
        for (sender, run), s in list(self.streams.items()):
            say(event="received", **{"from": id_text(sender)}, run=run, messages=s.n, lost=s.lost(), twice=s.twice, late=s.late, last=s.last)
        if self.others:
            say(event="others", messages=self.others)

    def over(self):
        """All that was sent has been read by the node."""
        self.sock.shutdown(socket.SHUT_WR)
        end = time.monotonic() + self.args.timeout
        while unread(self.sock):
            if time.monotonic() > end:
                fail("the node has not read everything in", self.args.timeout, "s")
            time.sleep(0.01)
        self.report()


def unread(sock):
    return struct.unpack("i", fcntl.ioctl(sock, 0x5411, b"\0" * 4))[0]  # SIOCOUTQ


def app(args):
    program = App(args)
    program.connect()
    say(event="attached")
    for target in (program.read, program.write):
        threading.Thread(target=target, daemon=True).start()
    written, received = False, not (program.due or args.expect)
    try:
        while args.until_end or not (written and received):
            what, more = program.news.get()
            if what in ("end", "cut"):
                if args.until_end:
                    say(event="end", how="fin" if what == "end" else more, partial=more if what == "end" else 0)
                    return program.report()
                program.report()
                fail("the node has ended the connection", "" if what == "end" else f"({more})")
            written |= what == "written"
            received |= what == "received"
    except Over:
        return program.report()
    program.over()


# ---- what the tool told ----

FATES = ("delivered", "dropped", "unknown", "waiting")


def peers_of(path):
    """The last "peer" line of each ID."""
    found = {}
    with open(path, encoding="utf-8") as file:
        for at, line in enumerate(file, 1):
            try:
                told = json.loads(line)
            except ValueError as e:
                fail(f"{path}:{at}: no JSON: {e}")
            if not isinstance(told, dict) or "event" not in told:
                fail(f"{path}:{at}: no event")
            if told["event"] == "peer":
                name = told.get("id", told.get("peer"))
                missing = [key for key in ("sent", "received", *FATES) if not isinstance(told.get(key), int)]
                if name is None or missing:
                    fail(f"{path}:{at}: a peer without {missing or 'id'}")
                found[name] = told
    if not found:
        fail(f"{path}: no line about a peer")
    return found


def exactly(args, nodes):
    for key in ("sent", "received", *FATES):
        for name, n in getattr(args, key):
            node, _, peer = name.rpartition("/")
            told = [found[peer][key] for of, found in nodes.items() if peer in found and node in ("", of)]
            if told != [n]:
                fail(f"{key} of {name} is {told}, not {n}")


def check(args):
    nodes = {}
    for given in args.file:
        name, _, path = given.rpartition("=")
        found = nodes[name or path] = peers_of(path)
        for peer, told in found.items():
            fates = {key: told[key] for key in FATES}
            say(event="peer", node=name, id=peer, sent=told["sent"], **fates, received=told["received"])
            if told["sent"] != sum(fates.values()):
                fail(f"{path}: {peer}: {told['sent']} were sent, {sum(fates.values())} are accounted for")
            if args.idle and told["waiting"]:
                fail(f"{path}: {peer}: {told['waiting']} still wait")
    exactly(args, nodes)
    if not args.pairs:
        return
    for name, found in nodes.items():
        for peer, told in found.items():
            if peer not in nodes:
                continue
            got = nodes[peer].get(name, {"received": 0})["received"]
            most = sum(told[key] for key in ("delivered", "unknown", "waiting")) + told.get("resent", 0)
            if not told["delivered"] <= got <= most:
                fail(f"{name} has delivered {told['delivered']} to {peer}, {most} at most, which has received {got}")


# ---- files, and the verbs ----

def encode(args):
    out = open(args.out, "wb") if args.out else sys.stdout.buffer
    for made in parsed(args.frame, args):
        data = made if isinstance(made, bytes) else made[2] if args.payload else frame(*made)
        out.write(data.hex().encode() if args.hex else data)
    out.flush()


def decode(args):
    reader = Reader(args.max_frame)
    with open(args.file, "rb") if args.file != "-" else sys.stdin.buffer as file:
        try:
            while data := file.read(1 << 16):
                for got in reader.feed(data):
                    show(got, args)
        except Broken as e:
            fail(f"at {reader.offset}:", e)
    if reader.partial:
        fail(f"at {reader.offset}: {reader.partial} bytes of a frame that does not end")


def after(text):
    n, _, action = text.partition(":")
    if action not in ("close", "reset", "half-close", "stop"):
        raise argparse.ArgumentTypeError("N:close, reset, half-close or stop")
    return int(n), action


def id_count(text, sep=":"):
    name, _, n = text.rpartition(sep)
    return name, amount(n)


def id_is(text):
    return id_count(text, "=")


def numbered_type(text):
    return TYPES[text] if text in TYPES else int(text, 0)


def common():
    p = argparse.ArgumentParser(add_help=False)
    p.add_argument("--from", dest="sender", metavar="ID")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--max-frame", type=amount, default=64 << 20)
    p.add_argument("--within", type=int, default=60)
    p.add_argument("--timeout", type=float, default=10)
    p.add_argument("--shown", type=amount, default=4096)
    p.add_argument("--quiet", action="store_true")
    return p


def reads(p):
    p.add_argument("--after", type=after, action="append", default=[])
    p.add_argument("--slow", type=float)


def plays(p):
    reads(p)
    p.add_argument("--echo", action="store_true")
    p.add_argument("--forgiving", action="store_true")
    p.add_argument("--bind")
    p.add_argument("--rcvbuf", type=amount)


def options():
    verb = {name: argparse.ArgumentParser(prog="node.py " + name, parents=[common()]) for name in VERBS}
    for name in ("encode", "dial", "cut", "app"):
        if name != "encode":
            verb[name].add_argument("path" if name == "app" else "address")
        verb[name].add_argument("frame", nargs="*", metavar="FRAME")
    verb["junk"].add_argument("address")
    for name in ("junk", "cut"):
        verb[name].add_argument("--beside", metavar="ID", help="another link, of an echo, has to live on")
        verb[name].add_argument("--bind")
    verb["junk"].add_argument("--random", type=int, default=20)
    verb["junk"].add_argument("--only", metavar="REGEX")
    verb["cut"].add_argument("--end", choices=("fin", "reset"), default="fin")
    verb["encode"].add_argument("--out")
    verb["encode"].add_argument("--payload", action="store_true")
    verb["encode"].add_argument("--hex", action="store_true")
    verb["decode"].add_argument("file", nargs="?", default="-")
    for name in ("listen", "dial"):
        plays(verb[name])
    verb["listen"].add_argument("--send", action="append", default=[], metavar="FRAME")
    verb["listen"].add_argument("--answer", action="append", default=[], metavar="FRAME")
    verb["listen"].add_argument("--connections", type=int, default=1)
    verb["listen"].add_argument("--frames", type=int, default=0)
    verb["dial"].add_argument("--chunk", type=amount, default=0)
    verb["dial"].add_argument("--expect", type=int, default=0)
    verb["dial"].add_argument("--then", choices=("half-close", "close", "reset", "wait", "stay"), default="half-close")
    verb["dial"].add_argument("--ends", choices=("fin", "reset"))
    reads(verb["app"])
    app_options(verb["app"])
    verb["check"].add_argument("file", nargs="+")
    for key in ("sent", "received", *FATES):
        verb["check"].add_argument("--" + key, type=id_is, action="append", default=[], metavar="ID=N")
    for flag in ("--idle", "--pairs"):
        verb["check"].add_argument(flag, action="store_true")
    if sys.argv[1:2] == ["--help"] or not sys.argv[1:] or sys.argv[1] not in verb:
        print(__doc__)
        sys.exit(2)
    return verb[sys.argv[1]].parse_intermixed_args(sys.argv[2:])


def app_options(p):
    p.add_argument("--send", type=id_count, action="append", default=[], metavar="ID:N")
    p.add_argument("--receive", type=id_count, action="append", default=[], metavar="ID:N")
    p.add_argument("--to", metavar="ID")
    p.add_argument("--size", type=sizes, default=(64, 64), metavar="LOW[:HIGH]")
    p.add_argument("--type", type=numbered_type, default=2)
    p.add_argument("--expect", type=int, default=0)
    for flag in ("--print", "--until-end", "--lossy", "--twice", "--others", "--when-told"):
        p.add_argument(flag, action="store_true")


def over(*_):
    raise Over


VERBS = {"encode": encode, "decode": decode, "listen": listen, "dial": dial, "junk": junk, "cut": cut, "app": app, "check": check}
args = options()
if args.sender is None:
    args.sender = "" if sys.argv[1] == "app" else "n0"
args.rng, args.go, args.own = random.Random(args.seed), threading.Event(), id_bytes(args.sender)
signal.signal(signal.SIGTERM, over)
signal.signal(signal.SIGUSR1, lambda *_: args.go.set())
signal.signal(signal.SIGALRM, lambda *_: fail("not over after", args.within, "s"))
signal.alarm(args.within)
try:
    VERBS[sys.argv[1]](args)
except Over:
    pass
sys.stdout.flush()
os._exit(0)  # whatever its threads still do
