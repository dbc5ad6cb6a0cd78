"""The handoff link in another language, written from ccf-handoff(7) alone: encode, decode, tickets, sockets, Link.
Link.raw, and a bare socket of dial or listen, do what the page forbids."""
import array, errno, os, queue, re, secrets, select, socket, struct, tempfile, threading, time, types

MAX = 65536
TRAVELS = re.compile(r"(PROTO$|TCP|SSL_|CCF_)")
WANTED = {"hello": ("version", "tool", "role"), "ready": ("n",), "conn": ("id",), "adopt": ("id",),
          "eof": ("id",), "closed": ("id", "reason"), "drain": ()}
NUMBERS = {"id", "n", "version", "links", "status", "in", "out", "ready"}


class Malformed(Exception):
    """The other side broke the protocol: this link ends."""


def encode(verb, env=None, **fields):
    pairs = [f"{k.rstrip('_')}={v}" for k, v in fields.items() if v is not None]
    pairs += [f"{k}={v}" for k, v in (env or {}).items()]
    return b"".join(s.encode("utf-8", "surrogateescape") + b"\0" for s in [verb] + pairs)


def decode(packet):
    if not packet.endswith(b"\0"):
        raise Malformed("the last string is not ended")
    verb, *strings = packet[:-1].decode("utf-8", "surrogateescape").split("\0")
    fields, env = {}, {}
    for s in strings:
        name, equals, value = s.partition("=")
        if not equals or not re.match(r"[A-Za-z_]", name):
            raise Malformed("an empty string, or one without a name")
        if not name[0].islower():
            env[name] = value
        elif env or name in fields:
            raise Malformed(f"{name} is there twice, or after the environment")
        elif name in NUMBERS and not re.fullmatch(r"[0-9]{1,20}", value):
            raise Malformed(f"{name} is no number")
        else:
            fields[name] = int(value) if name in NUMBERS else value
    if not re.fullmatch(r"[a-z][a-z0-9-]*", verb) or any(name not in fields for name in WANTED.get(verb, ())):
        raise Malformed("no verb, or a field is missing")
    env = {k: v for k, v in env.items() if TRAVELS.match(k)}
    return types.SimpleNamespace(verb=verb, fields=fields, env=env, id=fields.get("id"), fd=None, starved=False)


def ticket_read(fd):
    """TOKEN and PATH from a shell pipe."""
    line = b""
    while not line.endswith(b"\n") and len(line) < 192 and (byte := os.read(fd, 1)):  # what follows is not ours
        line += byte
    if not (found := re.fullmatch(rb"ccf-handoff 1 ([0-9a-f]{32}) (/[^\0-\x1f\x7f]{0,106})\n", line)):
        raise Malformed("not a ticket of version 1")
    return found[1].decode(), os.fsdecode(found[2])


def ticket_make():
    directory = tempfile.mkdtemp(prefix="ccf-", dir="/tmp")
    os.chmod(directory, 0o711)
    return secrets.token_hex(16), directory + "/link"


def dial(path, patience=10.0):
    """A socket connected to path, as soon as somebody listens there."""
    end = time.monotonic() + patience
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if not (error := sock.connect_ex(path)):
            return sock
        sock.close()
        if time.monotonic() > end:
            raise OSError(error, os.strerror(error), path)
        time.sleep(0.05)


def listen(path, mode=0o600):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.fchmod(sock.fileno(), 0o600)
    sock.bind(path)
    if mode != 0o600:
        os.chmod(path, mode)
    sock.listen()
    return sock


def disarm(fd):
    """A TCP descriptor travels armed: as it is, our close would be a reset."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes(8))


class Link:
    """One link, either role.  A thread reads it all the time, so whoever writes may wait."""

    def __init__(self, sock, role, modes="take", token=None, tool="handoff.py"):
        self.sock, self.role, self.token = sock, role, token
        self.mine = dict(version=1, tool=tool, role=role, modes=modes, token=token if role == "consumer" else None)
        self.inbox, self.ended, self.fault, self.over, self.mute = queue.Queue(), set(), None, False, False
        self.reader = None
        self.reading, self.writing = threading.RLock(), threading.Lock()
        sock.setblocking(False)

    def greet(self, timeout=5.0):
        """The hellos, consumer's first.  Returns the other side's."""
        self.read()
        if self.role == "consumer":
            self.send("hello", **self.mine)
        other = self.recv(timeout)
        if not other or other.verb != "hello" or other.fields["role"] == self.role or other.fields["version"] < 1:
            raise Malformed(self.fault or "no hello that fits")
        uid = struct.unpack("3i", self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        token = self.token if self.role == "consumer" else other.fields.get("token")
        if uid not in (0, os.geteuid()) and (not token or token != self.token):
            raise Malformed(f"user {uid} may not")
        if self.role == "producer":
            self.send("hello", **self.mine)
        return other

    def read(self):
        """Begins to take in what the other side says.  (greet does that.)"""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def close(self):
        self.over = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other side was faster
            pass
        if self.reader:
            self.reader.join()
        self.sock.close()

    def _read(self):
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        while not self.over:
            poll.poll()
            self.pump()

    def pump(self):
        """Takes in everything that lies on the link now."""
        with self.reading:
            while not self.over:
                try:
                    packet, fds, flags, _ = socket.recv_fds(self.sock, MAX + 1, 8, socket.MSG_CMSG_CLOEXEC)
                    message = self._understand(packet, fds, flags) if packet else None
                except BlockingIOError:
                    return
                except ConnectionResetError:
                    continue  # its last words come after this
                except (OSError, Malformed) as fault:
                    self.fault, message = str(fault), None
                    self.sock.shutdown(socket.SHUT_RDWR)
                if message and message.verb == "eof":
                    self.ended.add(message.id)
                if message is None:
                    self.over = True
                self.inbox.put(message)

    def _understand(self, packet, fds, flags):
        try:
            if len(fds) > 1 or len(packet) > MAX:
                raise Malformed("of the wrong shape")
            message = decode(packet)
            if fds and message.verb in WANTED and message.verb not in ("conn", "adopt"):
                raise Malformed("a descriptor where none belongs")
            message.starved = bool(flags & socket.MSG_CTRUNC)
            if message.verb in ("conn", "adopt") and fds:
                message.fd = fds.pop()
                disarm(message.fd)
            return message
        finally:
            for fd in fds:
                os.close(fd)

    def recv(self, timeout=None):
        """The next message; None at the end (fault: why, if it was one)."""
        message = self.inbox.get(timeout=timeout)
        if message is None:
            self.inbox.put(None)
        return message

    def raw(self, packet, fds=()):
        """Any bytes with any descriptors (which stay ours).  Gone when this returns."""
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        with self.writing:
            while True:
                try:
                    return self.sock.sendmsg([packet], control, socket.MSG_NOSIGNAL)
                except OSError as e:
                    if e.errno not in (errno.EAGAIN, errno.ETOOMANYREFS):
                        raise
                poll.poll(100)

    def send(self, verb, env=None, fd=None, **fields):
        """fd belongs to the other side then."""
        if fd is not None:
            os.set_blocking(fd, False)
        self.raw(encode(verb, env, **fields), () if fd is None else (fd,))
        if fd is not None:
            os.close(fd)

    def ready(self, n): self.send("ready", n=n)
    def conn(self, id, env, fd=None): self.send("conn", env, fd, id=id)
    def adopt(self, id, fd, ready=None): self.send("adopt", None, fd, id=id, ready=ready)
    def eof(self, id): self.send("eof", id=id)
    def drain(self): self.send("drain")

    def closed(self, id, reason="done", status=0, got=0, put=0, ready=None):
        self.send("closed", id=id, reason=reason, status=status, in_=got, out=put, ready=ready)

    def finish(self, id, sock):
        """Ends our direction of a connection; a Unix stream needs a word before."""
        if sock.family == socket.AF_UNIX and not self.mute:
            self.eof(id)
        sock.shutdown(socket.SHUT_WR)

    def check_end(self, id, sock):
        """An end of stream was read: is it one?"""
        self.pump()
        if sock.family == socket.AF_UNIX and id not in self.ended:
            raise ConnectionResetError


def open_link(name, role, modes):
    """The link that NAME means, greeted, and the name of who is there."""
    binds, token, path = role == "producer", None, name.removeprefix("dial:").removeprefix("bind:")
    binds = (binds or name.startswith("bind:")) and not name.startswith("dial:")
    if name == "-":
        token, path = ticket_make() if binds else ticket_read(0)
    if name.startswith("fd:"):
        sock = socket.socket(fileno=int(name[3:]))
    elif binds:
        listener = listen(path, 0o666 if token else 0o600)
        if token:
            os.write(1, f"ccf-handoff 1 {token} {path}\n".encode())
        sock = listener.accept()[0]
        os.unlink(path)
        if token:
            os.rmdir(os.path.dirname(path))
    else:
        sock = dial(path)
    link = Link(sock, role, modes, token)
    return link, link.greet().fields["tool"]
