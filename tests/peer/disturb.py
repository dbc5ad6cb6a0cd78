#!/usr/bin/env python3
"""Makes system calls of a terminator fail, one cell of a table after the other, and says what became of each.

    disturb.py [OPTION...] WHOM CA HOST:PORT [CELL...] [-- PROGRAM ARG...]
    disturb.py backend

CELL is CALL:ERRNO,ERRNO...[@WHEN,WHEN...], see straced.py.  With --all it is many more places, unless it says @@WHEN...
WHOM is
worker:PID, master:PID  PID is the master's.  strace is attached for a cell: what --event says is done, a client sends its
        bytes and gets them back, and pauses.  Then a second one has to be served as if nothing had been.  Without a CELL
        that is all.
tool:PID  The same with a tool that is one process.
server  PROGRAM is run for each cell, under strace, with a client's connection as 0 and 1.
client  The same with a connection to HOST:PORT as 6 and 7; its standard output has to be its standard input.
start   PROGRAM is run for each cell, and has to fail with --status and a line in --log that matches --until.

With --http a client sends requests on one connection, and gets what they ask for: see Browser.  With --control PATH that is
asked for its metrics before and after; with --leave a client goes away in the middle of a request before.

A line says what became of a cell: CALL ERRNO WHEN: whole|cut REASON; N injected, M calls
whole: every byte came back, and then the end.  cut: it was seen that something failed.  All else is a FAULT, and the exit
status 1: a cut for an EINTR or the like; a wrong byte; an end as if all were well though bytes are missing, also with exit
status 0; a process that is gone; no answer within --limit seconds; more than --calls system calls; one that goes on calling
while nothing happens; a cell that is not reached at all.  77: strace may not be attached here.

backend says on standard output where it listens, echoes until TERM (with --http: answers requests), and then for every FAULT
what a connection that ended as if all were well was missing.
"""
import argparse, http.client, json, os, random, re, select, signal, socket, ssl, struct, subprocess, sys, threading, time

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from straced import Fault, Gone, Strace, alive, read, run_cells, wait

RESET = struct.pack("ii", 1, 0)
QUIET = 0.03  # seconds of a silent connection; who spins makes hundreds of calls in them
SMALL = 50000
HARMLESS = "EINTR", "EAGAIN", "ETOOMANYREFS"  # that is to be done once more
PAGE = re.compile(rb"(?s).*rpc#\d+.*\n")  # what GET / answers
CHUNK = 5000
ALL = ["1", "2", "3", "4", "7", "12", "20", "2+2", "5+3"]
EVENTS = {  # what the log says sooner or later, and at last, when nothing is disturbed any more
    "reload": (rb"loaded again", rb": info: certificates? loaded again"),
    "restart": (rb"is up again|exited with status|cannot start worker", rb"is up again"),
}

parse = argparse.ArgumentParser(usage=__doc__)
parse.add_argument("--all", action="store_true")
parse.add_argument("--bytes", type=int, default=1 << 20)
parse.add_argument("--calls", type=int, default=5000)
parse.add_argument("--closed", metavar="FILE", help="the listener's log: with its line a connection is over")
parse.add_argument("--control", metavar="PATH", help="its control socket answers")
parse.add_argument("--event", choices=EVENTS, help="HUP to the master, or KILL to the oldest worker")
parse.add_argument("--follow", action="store_true", help="its children are disturbed, too")
parse.add_argument("--http", action="store_true", help="clients make requests")
parse.add_argument("--leave", action="store_true", help="another client goes away in the middle of a request")
parse.add_argument("--limit", type=float, default=20)
parse.add_argument("--log", metavar="FILE", help="the terminator's")
parse.add_argument("--mortal", action="store_true", help="a worker may end, if another one follows")
parse.add_argument("--noise", type=int, default=200, help="calls in a pause, at most")
parse.add_argument("--only", metavar="PATH", help="calls about it and no others")
parse.add_argument("--plain", action="store_true", help="clients without TLS")
parse.add_argument("--status", type=int)
parse.add_argument("--until", metavar="REGEX", type=str.encode)
parse.add_argument("whom")
parse.add_argument("rest", nargs="*")


class Cut(Exception):
    """An honest failure."""


def eventually(what, complaint):
    if not (result := wait(what, opt.limit)):
        raise Fault(complaint)
    return result


# --- processes ---

def same_exe(a, b):
    try:
        return os.path.samefile(f"/proc/{a}/exe", f"/proc/{b}/exe")
    except OSError:
        return False


def workers():
    """The oldest first."""
    with open(f"/proc/{master}/task/{master}/children") as f:
        return [int(p) for p in f.read().split() if same_exe(p, master)]


def strace(inject, **how):
    return Strace(inject, follow=opt.follow, only=opt.only, **how)


def settle(trace, pid):
    """Until the connections are over, and it waits for something new."""
    if opt.closed:
        eventually(lambda: read(opt.closed).count(b": closed: ") >= connections,
                   "the listener does not hear that a connection is over")
    eventually(lambda: trace.rests(pid), "it does not come to rest")


# --- clients ---

def make_bytes(n):
    return struct.pack(">Q", n) + random.Random(n).randbytes(n)


class Plain:
    """A client's stream: False is a wait, b"" an end."""

    def __init__(self, sock):
        self.sock = sock
        sock.setblocking(False)

    def owes(self):
        return False

    def shake(self):
        return True

    def read(self):
        try:
            return self.sock.recv(1 << 18)
        except BlockingIOError:
            return False

    def write(self, data):
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return False

    def bye(self):
        self.sock.shutdown(socket.SHUT_WR)
        return True


class Tls(Plain):
    """Over buffers of our own: b"" is a close_notify, or a FIN without one, but not a reset."""

    def __init__(self, sock):
        super().__init__(sock)
        self.came, self.goes, self.left, self.shaken = ssl.MemoryBIO(), ssl.MemoryBIO(), b"", False
        self.tls = context.wrap_bio(self.came, self.goes, server_hostname=address[0])

    def owes(self):
        return bool(self.left)

    def flush(self):
        self.left += self.goes.read()
        while self.left and (put := super().write(self.left)):
            self.left = self.left[put:]
        return not self.left

    def step(self, call, *args):
        """None: try again at once."""
        try:
            return call(*args)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            return b""
        except ssl.SSLError as e:
            if e.reason != "UNEXPECTED_EOF_WHILE_READING":
                raise
            if not self.shaken:
                raise Cut("in the handshake") from e
            return b""
        finally:
            self.flush()
        piece = super().read()
        if piece is False:
            return False
        self.came.write(piece) if piece else self.came.write_eof()
        return None

    def shake(self):
        done = self.step(lambda: self.tls.do_handshake() or True)
        if done == b"":
            raise Cut("in the handshake")
        self.shaken = bool(done)
        return done

    def read(self):
        return self.step(self.tls.read, 1 << 18)

    def write(self, data):
        return self.flush() and self.step(self.tls.write, data)

    def bye(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        return self.flush()


class Client:
    def __init__(self, sock, data):
        self.data, self.sock, self.end = data, sock, time.monotonic() + opt.limit
        self.stream = Plain(sock) if opt.plain else Tls(sock)

    def wait(self, write=False):
        left = self.end - time.monotonic()
        if left <= 0 or not any(select.select([self.sock], [self.sock] * (write or self.stream.owes()), [], left)):
            raise Fault(f"nothing happens for {opt.limit:g} seconds")

    def until(self, call):
        while (result := call()) is None or result is False:
            if result is False:
                self.wait()
        return result

    def exchange(self):
        got, sent, data = 0, 0, self.data
        while got < len(data):
            piece = self.stream.read()
            if piece == b"":
                raise Fault(f"an end as if all were well after {got} of {len(data)} bytes")
            if piece:
                if data[got:got + len(piece)] != piece:
                    raise Fault(f"wrong bytes from {got} on")
                got += len(piece)
            put = self.stream.write(data[sent:sent + (1 << 16)]) if sent < len(data) else False
            sent += put or 0
            if piece is False and put is False:
                self.wait(write=sent < len(data))

    def run(self, pause=None):
        try:
            self.until(self.stream.shake)
            self.exchange()
            if pause:
                pause()
            self.until(self.stream.bye)
            if self.until(self.stream.read):
                raise Fault("more bytes came back than went out")
        except OSError as e:  # ssl.SSLError is one
            raise Cut(f"{type(e).__name__}: {e}") from e
        finally:
            # what was not brought to its end shall be none for the other side
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.sock.close()


class Answer:
    """Of a request, from its pieces: body is what came of it; whole, once its framing says so."""

    def __init__(self):
        self.raw, self.body, self.status, self.fields, self.whole = bytearray(), bytearray(), 0, {}, False

    def take(self, piece):
        self.raw += piece
        while not self.whole and self.step():
            pass

    def step(self):
        if not self.status:
            head, blank, rest = bytes(self.raw).partition(b"\r\n\r\n")
            if not blank:
                return False
            lines = head.decode().split("\r\n")
            if not (m := re.fullmatch(r"HTTP/1\.1 (\d\d\d) .*", lines[0])):
                raise Fault(f"no answer: {lines[0]!r}")
            self.raw, self.status = bytearray(rest), int(m[1])
            self.fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            if self.status < 200:
                self.status = 0
                return True
            self.left = 0 if self.chunked() else int(self.fields.get("content-length", 1 << 62))
            self.whole = not self.left and not self.chunked()
        elif self.chunked() and not self.left:
            size, crlf, rest = bytes(self.raw).partition(b"\r\n")
            if not crlf:
                return False
            self.left, self.raw = int(size, 16) + 2, bytearray(rest)
            self.last = self.left == 2
        elif not self.raw:
            return False
        piece = self.raw[:self.left]
        self.left -= len(piece)
        del self.raw[:len(piece)]
        self.body += piece
        if self.chunked() and piece and not self.left:
            if self.body[-2:] != b"\r\n":
                raise Fault("a chunk that does not end")
            del self.body[-2:]
            self.whole = self.last
        elif not self.chunked():
            self.whole = not self.left
        return True

    def chunked(self):
        return self.fields.get("transfer-encoding") == "chunked"

    def closes(self):
        return self.fields.get("connection") == "close"


class Browser(Client):
    """Requests on one connection, each with its answer: the right one, whole, or an error of ours (5xx), with which the connection
    may end, or it is seen to be cut.  self.data is what is posted."""

    def ask(self, method, target, data=None, *fields):
        head = [f"{method} {target} HTTP/1.1", "Host: localhost", *fields]
        if data is not None:
            head.append(f"Content-Length: {len(data)}" if "Transfer-Encoding: chunked" not in fields else "X-Sized: no")
        self.posted = data
        if data is not None and "X-Sized: no" in head:
            data = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in
                            (data[i:i + CHUNK] for i in range(0, len(data), CHUNK))) + b"0\r\n\r\n"
        return "\r\n".join([*head, "", ""]).encode() + (data or b"")

    def seen(self, answer):
        """Nothing that came of it is wrong."""
        if answer.status != 200 and not 500 <= answer.status < 600 and answer.status:
            raise Fault(f"answer {answer.status}: {bytes(answer.body)}")
        if answer.status == 200 and self.posted is not None and not self.posted.startswith(answer.body):
            raise Fault("wrong bytes")

    def judge(self, answer):
        self.seen(answer)
        if answer.status != 200:
            json.loads(answer.body)["error"]["code"]
        elif self.posted is not None and answer.body != self.posted:
            raise Fault(f"an answer as if it were whole, of {len(answer.body)} of {len(self.posted)} bytes")
        elif self.posted is None and not PAGE.fullmatch(answer.body):
            raise Fault(f"a page that is none: {bytes(answer.body)}")
        if answer.raw:
            raise Fault("more came than was asked for")

    def fetch(self, request):
        """True: the connection goes on."""
        answer, sent = Answer(), 0
        try:
            while not answer.whole or sent < len(request) and not answer.closes():
                piece = self.stream.read()
                if piece == b"":
                    if answer.status and not answer.chunked() and "content-length" not in answer.fields:
                        answer.whole = True
                        break
                    raise Cut("in an answer" if answer.status else "without an answer")
                if piece:
                    answer.take(piece)
                put = self.stream.write(request[sent:sent + (1 << 16)]) if sent < len(request) else False
                sent += put or 0
                if piece is False and put is False:
                    self.wait(write=sent < len(request))
        except (OSError, Cut):
            self.seen(answer)
            if not answer.whole:
                raise
        self.judge(answer)
        if answer.status != 200:
            self.told.append(str(answer.status))
        return answer

    def run(self, pause=None):
        self.told = []
        requests = [("GET", "/"), ("POST", "/echo", self.data), ("POST", "/echo", self.data[:SMALL], "Transfer-Encoding: chunked"),
                    ("GET", "/"), ("POST", "/echo", self.data[:CHUNK], "Connection: close")]
        try:
            self.until(self.stream.shake)
            for i, request in enumerate(requests):
                if i == len(requests) - 1 and pause:
                    pause()
                answer = self.fetch(self.ask(*request))
                if answer.closes():
                    break
            if not answer.closes():
                raise Fault("the last answer does not say that the connection ends")
            self.over(answer)
        except (Cut, Fault):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            raise
        except OSError as e:
            raise Cut(f"{type(e).__name__}: {e}") from e
        finally:
            self.sock.close()
        if self.told:
            raise Cut("told " + ", ".join(self.told))

    def over(self, answer):
        """It closes after its last answer.  Who has sent less than he wanted to need not see more than that."""
        try:
            if self.until(self.stream.read):
                raise Fault("more came after the last answer")
        except OSError:
            if answer.status == 200:
                raise


def visit(n, pause=None):
    (Browser if opt.http else Client)(connect(), make_bytes(n)).run(pause)


def leave():
    """A client that goes away in the middle of a request, once that is under way."""
    c = Browser(connect(), make_bytes(SMALL))
    try:
        c.until(c.stream.shake)
        data = c.ask("POST", "/echo", c.data)[:-CHUNK]
        while data:
            if put := c.stream.write(data):
                data = data[put:]
            else:
                c.wait(write=True)
        answer = Answer()
        while not answer.status and (piece := c.until(c.stream.read)):
            answer.take(piece)
    except (OSError, Cut):
        pass  # it was disturbed
    finally:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        c.sock.close()


def ask_control():
    """Its metrics, whole; or a Cut."""
    link = http.client.HTTPConnection("localhost")
    link.sock = socket.socket(socket.AF_UNIX)
    link.sock.settimeout(opt.limit)
    try:
        link.sock.connect(opt.control)
        link.request("GET", "/metrics")
        answer = link.getresponse()
        body = answer.read()
    except TimeoutError as e:
        raise Fault("the control socket does not answer") from e
    except (OSError, http.client.HTTPException) as e:
        raise Cut(f"of the control socket: {type(e).__name__}: {e}") from e
    finally:
        link.close()
    if answer.status != 200 or not re.search(rb"\n\w+(\{.*\})? \S+\n\Z", body):
        raise Fault(f"the control socket answers {answer.status}: {body[-200:]}")


def connect():
    global connections
    connections += 1
    try:
        return socket.create_connection(address, timeout=opt.limit)
    except OSError as e:
        raise Cut(f"{type(e).__name__}: {e}") from e


# --- cells: each gives what became of it, and its strace ---

def happen():
    """What --event says.  Gives the place in the log where it began."""
    since = os.path.getsize(opt.log)
    os.kill(*(master, signal.SIGHUP) if opt.event == "reload" else (workers()[0], signal.SIGKILL))
    return since


def await_line(since, said):
    eventually(lambda: re.search(said, read(opt.log, since)), f"the log does not say {said.decode()}")


def attached(inject):
    worker = eventually(workers, "there is no worker, and none comes")[-1] if kind != "tool" else master
    disturbed = worker if kind == "worker" else master
    try:
        trace = strace(inject, pid=disturbed)
    except Gone:  # of what was before, if it may
        if not opt.mortal:
            raise Fault("it is gone") from None
        return attached(inject)

    def pause():
        before = trace.calls()
        time.sleep(QUIET)
        if (more := trace.calls() - before) > opt.noise:
            raise Fault(f"{more} calls while nothing happens")

    try:
        result = "whole"
        if opt.event:
            since = happen()
            await_line(since, EVENTS[opt.event][0])
        for step in [ask_control] * bool(opt.control) + [leave] * opt.leave + \
                [lambda: visit(opt.bytes, pause)] + [ask_control] * bool(opt.control):
            try:
                step()
            except Cut as e:
                result = f"cut {e}" if result == "whole" else f"{result}, {e}"
    finally:
        if opt.event == "restart":  # what was there before has served the client, what comes again is perhaps not there yet
            wait(trace.injected, opt.limit / 2)
        try:
            settle(trace, disturbed)
        finally:
            trace.detach()
    if not alive(master):
        raise Fault("the master is gone")
    if not opt.mortal and not alive(worker):
        raise Fault("the worker is gone")
    try:
        if opt.event:
            await_line(happen() if opt.event == "reload" else since, EVENTS[opt.event][1])
        visit(SMALL)
        if opt.control:
            ask_control()
    except Cut as e:
        raise Fault(f"{result}; who came after it was not served: {e}") from e
    return result, trace


def served(inject):
    with socket.create_server(("127.0.0.1", 0)) as s:
        ours = socket.create_connection(s.getsockname())
        theirs = s.accept()[0]
    trace = strace(inject, argv=program, stdin=theirs, stdout=theirs, stderr=log)
    theirs.close()
    result = "whole"
    try:
        (Browser if opt.http else Client)(ours, make_bytes(opt.bytes)).run()
    except Cut as e:
        result = f"cut {e}"
    status = trace.ended(opt.limit)
    if result != "whole" and status == 0:
        raise Fault(f"{result}, and exit status 0")
    return f"{result}, status {status}", trace


def client(inject):
    ours, data, got = connect(), make_bytes(opt.bytes), []
    ours.setblocking(True)

    def place():
        os.dup2(os.dup2(ours.fileno(), 20), 6)
        os.dup2(20, 7)
        os.close(20)

    trace = strace(inject, argv=program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, close_fds=False,
                   preexec_fn=place)
    ours.close()
    try:
        out = trace.process.communicate(data, timeout=opt.limit)[0]
    except subprocess.TimeoutExpired:
        os.killpg(trace.process.pid, signal.SIGKILL)
        raise Fault("it does not end") from None
    status = trace.ended(opt.limit)
    if out != data[:len(out)]:
        raise Fault("wrong bytes")
    if status == 0 and len(out) < len(data):
        raise Fault(f"exit status 0 after {len(out)} of {len(data)} bytes")
    return f"{'whole' if out == data else 'cut'}, status {status}", trace


def start(inject):
    since = os.path.getsize(opt.log)
    trace = strace(inject, argv=program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log)
    status = trace.ended(opt.limit)
    said = read(opt.log, since).decode()
    if status != opt.status or not re.search(opt.until.decode(), said):
        raise Fault(f"exit status {status}, and it says: {said}")
    return f"status {status}", trace


def run_cell(call, error, when):
    """False: it was not reached."""
    try:
        result, trace = cell(f"{call}:error={error}:when={when}")
        calls, injected = trace.calls(), trace.injected()
        if injected and error in HARMLESS and "fork" not in call and call != "clone" and not result.startswith("whole"):
            raise Fault(f"{result}, for nothing")
        if calls > opt.calls:
            raise Fault(f"{result}; {calls} calls")
    except Fault as e:
        print(f"{call} {error} {when}: FAULT: {e}", flush=True)
        faults.append(call)
        return True
    if injected:
        print(f"{call} {error} {when}: {result}; {injected} injected, {calls} calls", flush=True)
    return injected > 0


# --- the backend ---

def serve(sock):
    got = bytearray()
    try:
        while piece := sock.recv(65536):
            got += piece
            sock.sendall(piece)
        if bytes(got) != make_bytes(struct.unpack(">Q", got[:8].ljust(8, b"\0"))[0]):
            faults.append(f"FAULT: an end as if all were well after {len(got)} bytes, which are not all, or wrong")
    except OSError:
        pass  # a cut
    finally:
        sock.close()


def answer_one(stream):
    """A request, and its answer.  False: there was none."""
    if not (line := stream.readline()):
        return False
    fields = http.client.parse_headers(stream)
    body, chunked = b"", fields.get("Transfer-Encoding") == "chunked"
    if chunked:
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    else:
        n = int(fields.get("Content-Length", 0))
        body = stream.read(n)
        if len(body) < n:
            raise OSError("cut")
    if line.startswith(b"GET"):
        body = b"The page of rpc#0.\n"
    elif not make_bytes(struct.unpack(">Q", body[:8])[0]).startswith(body):
        faults.append(f"FAULT: a request with {len(body)} bytes, which are wrong")
    out = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    stream.write(f"HTTP/1.1 200 OK\r\n{how}\r\nConnection: {fields.get('Connection', 'keep-alive')}\r\n\r\n".encode() + out)
    stream.flush()
    return fields.get("Connection") != "close"


def serve_http(sock):
    stream = sock.makefile("rwb")
    try:
        while answer_one(stream):
            pass
    except (OSError, ValueError):
        pass  # a cut
    finally:
        sock.close()


def backend():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    listener, threads = socket.create_server(("127.0.0.1", 0)), []

    def accept():
        while True:
            threads.append(threading.Thread(target=serve_http if opt.http else serve, args=[listener.accept()[0]], daemon=True))
            threads[-1].start()

    print("%s:%d" % listener.getsockname(), flush=True)
    threading.Thread(target=accept, daemon=True).start()
    signal.sigwait([signal.SIGTERM])
    for t in threads:
        t.join(20)
    print(*faults, sep="\n", flush=True)
    os._exit(bool(faults))


argv, program = sys.argv[1:], []
if "--" in argv:
    argv, program = argv[:argv.index("--")], argv[argv.index("--") + 1:]
opt = parse.parse_intermixed_args(argv)
faults, connections = [], 0
kind, _, pid = opt.whom.partition(":")
if kind == "backend":
    backend()
master = int(pid or 0)
ca, where, *cells = opt.rest
address = (where.rpartition(":")[0], int(where.rpartition(":")[2] or 0))
context = None if opt.plain else ssl.create_default_context(cafile=ca)
if context:
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
log = open(opt.log, "ab") if opt.log and not master else None
if opt.closed:
    connections = read(opt.closed).count(b": accepted")
cell = {"worker": attached, "master": attached, "tool": attached, "server": served, "client": client, "start": start}[kind]
if master and not cells:
    visit(opt.bytes)
for turn, spec in enumerate(cells):
    faults += run_cells(spec, turn, run_cell, ALL if opt.all else ())
sys.exit(bool(faults))
