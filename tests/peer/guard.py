#!/usr/bin/env python3
"""Both sides of a guard: its client, and the backend that ccf-connect reaches; what the one says is compared with what the other
hears, byte by byte.

    guard.py CASE...	prints where the backend listens; then for each line of standard input, "ADDRESS CA|- CONTROL|-", the cases
			are played against the guard at ADDRESS: each is a line, "CASE ok" or "CASE wrong: WHY", then "over"

What a case is says the function of its name."""
import fcntl, json, os, random, select, socket, struct, sys, termios, threading, time

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from http1 import LIMIT, Connection, Control, Wrong, read_head, want

RESET = struct.pack("ii", 1, 0)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
CHUNKED = b"POST /chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
GONE = "the backend closed the connection before it answered"
BROKEN = "the backend broke off in its answer"
MALFORMED = "the backend's answer is malformed"
UNASKED = "the backend answered 101, which was not asked for"
EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


class Client(Connection):
    slow = False  # it reads a piece at a time

    def pull(self):
        if not self.slow:
            return super().pull()
        data = self.sock.recv(65536)
        if self.tls:
            self.pull_tls(data)
        elif data:
            self.got += data
        else:
            self.end = "ended"

    def says(self, *pieces):
        """All of it is on its way when this returns."""
        self.send(*pieces)
        self.until(lambda: not self.unsent())
        return self

    def hears(self, data):
        self.until(lambda: len(self.got) >= len(data) or not data.startswith(bytes(self.got)))
        want(self.got.startswith(data), "the client hears", bytes(self.got[:300]), "not", data[:300])
        del self.got[:len(data)]

    def is_cut(self):
        """Not a byte more, and no clean end."""
        rest = self.rest()
        want(rest == b"", "unasked:", bytes(rest[:300]))
        want(self.end in ("reset", "failed"), "it should have been cut, but:", self.end)

    def is_told(self, status, code, *texts):
        a = self.answer()
        said = json.loads(a.body)["error"]["message"]
        a.is_error(status, code, said if said in texts else texts[0])
        self.ends()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


class Backend:
    """A connection that the guard, by way of others, has made."""

    def __init__(self, sock):
        self.sock = sock
        sock.settimeout(LIMIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def hears(self, data):
        got = b""
        while len(got) < len(data) and data.startswith(got):
            piece = self.sock.recv(len(data) - len(got))
            if not piece:
                break
            got += piece
        want(got == data, "the backend hears", got[:300], "not", data[:300])

    def hears_nothing_yet(self):
        self.sock.setblocking(False)
        try:
            raise Wrong("the backend hears " + repr(self.sock.recv(300)))
        except BlockingIOError:
            self.sock.settimeout(LIMIT)

    def says(self, *pieces):
        for piece in pieces:
            self.sock.sendall(piece)

    def ends(self, *hows):
        """Nothing more comes, and then this."""
        try:
            got = self.sock.recv(300)
            want(got == b"", "the backend hears", got)
            how = "ended"
        except ConnectionResetError:
            how = "reset"
        want(how in (hows or ("ended",)), "the backend's connection was", how)
        self.sock.close()

    def is_cut(self):
        self.ends("reset")

    def ends_half(self):
        got = self.sock.recv(300)
        want(got == b"", "the backend hears", got)

    def arrived(self):
        """The other side's kernel has all that was said; or the other side has ended."""
        end = time.monotonic() + LIMIT
        while struct.unpack("i", fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)))[0]:
            want(time.monotonic() < end, "it is not acknowledged")
            if select.select([self.sock], [], [], 0.001)[0]:
                break

    def finish(self):
        self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        self.sock.close()

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.sock.close()


class Play:
    def __init__(self, server, address, ca, control):
        self.server, self.address, self.ca, self.control = server, address, ca, control

    def client(self):
        return Client(self.address, self.ca)

    def backend(self):
        return Backend(self.server.accept()[0])

    def nobody(self):
        """Nobody has connected that was not accepted."""
        want(not select.select([self.server], [], [], 0)[0], "another connection to the backend")

    def held(self):
        return self.control.samples()["ccfnet_buffered_bytes"] if self.control else 0

    def asked(self, *request):
        """A client, and the backend, which has heard that."""
        c = self.client().says(*(request or (GET,)))
        b = self.backend()
        b.hears(b"".join(request) or GET)
        return c, b


def bytewise(data):
    return [data[i:i + 1] for i in range(len(data))]


def exchange(c, b, request=GET, answer=OK, heard=None):
    c.says(request)
    b.hears(request if heard is None else heard)
    b.says(answer)
    c.hears(answer)


def block(size, seed=1):
    return random.Random(seed).randbytes(size)


# ---- what is passed on ----

REQUESTS = [
    GET,
    b"GET /a%2Fb/../%00//c;d=e?x=&y=%zz? HTTP/1.1\r\nhOsT:LocalHost:99\r\nx-oDD:\t v a l  \t\r\nX-Obs: \xe4\xff\x80\r\nEmpty:\r\n"
    b"X: 1\r\nx: 2\r\nX_Y: (\"'\\)\r\n!#$%&'*+-.^`|~09: token\r\n\r\n",
    b"POST /len HTTP/1.1\r\ncONTENT-lENGTH:  010 \r\nhost:\tlocalhost\t\r\n\r\n\r\nGET /\0\xff\n",
    b"POST /chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding:  cHuNkEd\r\nTrailer: T\r\n\r\n"
    b"a;x=\"q;\\\"\xe4\";y\r\n0123456789\r\n0000001\r\n\n\r\n00;last=1\r\nT: \xe4 \r\nt:\r\n\r\n",
    b"PUT /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    b"PUT /no-chunks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET HTTP://LOCALHOST?q HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"DELETE /hops HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, x\r\nTE: trailers\r\nKeep-Alive: 5\r\nX: hop\r\n\r\n",
    b"GET /upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: h2c, websocket\r\n\r\n",
    b"POST /expect HTTP/1.1\r\nHost: localhost\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\nabc",
    b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
    b"PROPFIND /large HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + block(300000),
]


def requests(at):
    """Of every form arrive as they were sent, one after the other, on one connection."""
    c, b = at.asked()
    b.says(OK)
    c.hears(OK)
    for request in REQUESTS:
        old = b" HTTP/1.0\r\n" in request
        exchange(c, b, request, OK.replace(b"\r\n", b"\r\nConnection: keep-alive\r\n", 1) if old else OK)
    exchange(c, b, b"\r\n" + GET, heard=GET)  # an empty line is no part of it
    for piece in bytewise(REQUESTS[3]):
        c.says(piece)
    b.hears(REQUESTS[3])
    b.says(OK)
    c.hears(OK)
    c.finish()
    c.ends()
    b.ends()
    at.nobody()


HEAD = GET.replace(b"GET", b"HEAD")
ANSWERS = [  # what goes on
    (GET, OK),
    (GET, b"HTTP/1.1 299 \r\nconTENT-length:   003  \r\nX-Obs:\xe4\r\nX: a\r\nx: b\r\nEmpty:\r\n\r\nabc"),
    (GET, b"HTTP/1.1 404 It is \xe4 not\there\r\nTransfer-Encoding: Chunked\r\nTrailer: T\r\n\r\n"
          b"5;a=\"b;\"\r\nhello\r\n1\r\n\n\r\n000;last\r\nT: \xe4\r\n\r\n"),
    (GET, b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
    (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (HEAD, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    (HEAD, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    (HEAD, b"HTTP/1.1 200 OK\r\n\r\n"),
    (GET, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"),
    (GET, b"HTTP/1.1 100 Continue\r\n\r\n" + OK),
    (GET, b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx"),
    (GET, b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + block(300000)),
    (GET, b"HTTP/1.1 500 Oops\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\nx"),
]
LASTS = [  # after which the connection ends
    (GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"),
    (GET, b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
    (GET, b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (GET, b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
    (HEAD, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"),
    (GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), OK),
    (b"GET / HTTP/1.0\r\n\r\n", OK),
]
UNTIL_END = b"HTTP/1.1 200 OK\r\n\r\nall\r\n0\r\n\r\n" + OK


def answers(at):
    """Of every form arrive as they were given, and the next request is known to belong to the next one."""
    c, b = at.asked()
    b.says(OK)
    c.hears(OK)
    for request, answer in ANSWERS:
        exchange(c, b, request, answer)
    for request, answer in ANSWERS:
        c.says(request)
        b.hears(request)
        b.says(*(bytewise(answer) if len(answer) < 1000 else (answer[:50], answer[50:-1], answer[-1:])))
        c.hears(answer)
    c.finish()
    c.ends()
    b.ends()
    at.nobody()


def last_answers(at):
    """End the connection on both sides, without an error."""
    for request, answer in LASTS:
        c, b = at.asked(request)
        b.says(answer)
        c.hears(answer)
        b.ends()
        c.ends()


def until_end(at):
    """An answer without a length lasts until the backend ends, and ends as it does: in order, or cut."""
    c, b = at.asked()
    b.says(UNTIL_END)
    c.hears(UNTIL_END)
    b.finish()
    c.ends()
    b.ends()
    c, b = at.asked()
    b.says(UNTIL_END)
    c.hears(UNTIL_END)
    b.reset()
    c.is_cut()


def continues(at):
    """Who waits for 100 Continue is told by the backend, and only by it; a final answer instead is the end."""
    head = POST.replace(b"Host", b"Expect: 100-continue\r\nHost")
    c, b = at.asked(head)
    b.hears_nothing_yet()
    want(not c.got, "the guard says", bytes(c.got))
    b.says(b"HTTP/1.1 100 Go on\r\nX: y\r\n\r\n")
    c.hears(b"HTTP/1.1 100 Go on\r\nX: y\r\n\r\n")
    exchange(c, b, b"0123456789")
    exchange(c, b)
    c.says(head)
    b.hears(head)
    refused = OK.replace(b"200 OK", b"417 No")
    b.says(refused)
    c.hears(refused)
    c.ends()
    b.ends("ended", "reset")


def keeps(at):
    """All requests of a client go to one backend connection, those of another to another."""
    c, b = at.asked()
    other, theirs = at.asked()
    b.says(OK)
    theirs.says(OK)
    c.hears(OK)
    other.hears(OK)
    for i in range(50):
        exchange(c, b, GET.replace(b"/ ", b"/%d " % i), OK)
    exchange(other, theirs)
    c.finish()
    c.ends()
    b.ends()
    other.reset()
    theirs.ends("ended", "reset")


def renews(at):
    """When the backend has ended between two requests, the next one goes over a new connection."""
    c, b = at.asked()
    other, theirs = at.asked()
    b.says(OK)
    theirs.says(OK)
    c.hears(OK)
    other.hears(OK)
    for _ in range(5):
        b.finish()
        b.arrived()
        c.says(GET)
        b.ends("ended", "reset")
        b = at.backend()
        b.hears(GET)
        b.says(OK)
        c.hears(OK)
        exchange(c, b)
        exchange(other, theirs)
    c.finish()
    c.ends()
    b.ends()
    other.finish()
    other.ends()
    theirs.ends()


def pipelines(at):
    """Requests in one write reach the backend one at a time, when the answer before is whole."""
    many = [REQUESTS[i % 4].replace(b" /", b" /%d" % i, 1) for i in range(12)]
    c = at.client().says(b"".join(many))
    b = at.backend()
    for request in many:
        b.hears(request)
        b.hears_nothing_yet()
        b.says(OK[:-1])
        c.hears(OK[:-1])
        b.hears_nothing_yet()
        b.says(OK[-1:])
        c.hears(OK[-1:])
    c.finish()
    c.ends()
    b.ends()


# ---- tunnels ----

def tunnelled(at):
    c, b = at.asked(UPGRADE)
    b.says(SWITCH + b"\x81\x02hi")
    c.hears(SWITCH + b"\x81\x02hi")
    return c, b


def tunnel(at):
    """After 101 everything passes, both ways, whatever it looks like; an end of stream ends its direction."""
    c, b = tunnelled(at)
    for data in GET, b"\0", b"\r\n\n", b"bad request\n\n", OK + EVIL, b"HTTP/1.1 999\n", block(100000):
        c.says(data)
        b.hears(data)
        b.says(data)
        c.hears(data)
    c.finish()
    c.until(lambda: not c.unsent())
    b.ends_half()
    b.says(block(50000))
    c.hears(block(50000))
    b.close()
    c.ends()


def tunnel_ends(at):
    """It ends as its ends do: the backend's end ends it, a cut on one side is one on the other."""
    c, b = tunnelled(at)
    b.says(b"bye")
    b.finish()
    c.hears(b"bye")
    c.ends()
    b.ends("ended", "reset")
    c, b = tunnelled(at)
    b.reset()
    c.is_cut()
    c, b = tunnelled(at)
    c.reset()
    b.is_cut()


def early_frames(at):
    """What the client says before the 101 waits for it."""
    c = at.client().says(UPGRADE + b"\x81\x03abc")
    b = at.backend()
    b.hears(UPGRADE)
    b.hears_nothing_yet()
    b.says(SWITCH)
    b.hears(b"\x81\x03abc")
    c.hears(SWITCH)
    b.close()
    c.ends()


def unasked_101(at):
    """Without a whole request that names websocket, HTTP/1.1, a 101 is no answer."""
    old = UPGRADE.replace(b"HTTP/1.1\r\nHost: localhost\r\n", b"HTTP/1.0\r\n")
    h2c = UPGRADE.replace(b"WebSocket", b"h2c").replace(b"\r\n\r\n", b"\r\nHTTP2-Settings: AAMAAABk\r\n\r\n")
    for request in (GET, h2c, old, UPGRADE.replace(b"Connection: keep-alive, Upgrade\r\n", b""),
                    UPGRADE.replace(b"WebSocket", b"websocket, h2c"), POST,
                    UPGRADE.replace(b"GET", b"POST").replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n")):
        c, b = at.asked(request)
        b.says(SWITCH + EVIL)
        c.is_told(502, "BadGateway", UNASKED)
        b.is_cut()


# ---- what is wrong with a backend ----

def nobody(at):
    """There is none: 502, at once, time after time."""
    began = time.monotonic()
    for request in GET, GET, POST, POST + b"0123456789", CHUNKED:
        # GONE: where somebody is between, and hears it later
        at.client().says(request).is_told(502, "BadGateway", "there is no connection to the backend", GONE)
    want(time.monotonic() - began < LIMIT / 2, "it took", time.monotonic() - began)


def silent(at):
    """It accepts, and says nothing, or half a head: 504.  In mid-answer the client is cut."""
    pairs = []
    for said in b"", b"HTTP/1.1 100 Continue\r\n\r\n", OK[:30], OK[:-1]:
        c, b = at.asked()
        b.says(said)
        pairs.append((c, b, said))
    for c, b, said in pairs:
        if said == OK[:-1]:
            c.hears(said)
            c.is_cut()
        else:
            c.hears(said if b"100" in said else b"")
            c.is_told(504, "GatewayTimeout", "the backend did not answer in time")
        b.is_cut()


def trickles(at):
    """It is slow, but never silent for long: that is no reason to give it up."""
    c, b = at.asked()
    began, said = time.monotonic(), 0
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + bytes(100)
    while time.monotonic() < began + 4:  # --idle-timeout is 3s
        select.select([], [], [], 0.1)
        b.says(answer[said:said + 1])
        said += 1
    b.says(answer[said:])
    c.hears(answer)
    exchange(c, b)


def closes(at):
    """It ends before it has answered: 502."""
    for end in Backend.close, Backend.reset, Backend.finish:
        c, b = at.asked()
        end(b)
        c.is_told(502, "BadGateway", GONE)
        c, b = at.asked(POST + b"0123456789")
        b.says(b"HTTP/1.1 100 Continue\r\n\r\n")
        c.hears(b"HTTP/1.1 100 Continue\r\n\r\n")
        end(b)
        c.is_told(502, "BadGateway", GONE)
        c, b = at.asked()
        b.says(OK[:25])
        end(b)
        c.is_told(502, "BadGateway", BROKEN)


def breaks(at):
    """It ends in its answer: the client has what there was of it, and is cut."""
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    for end in Backend.close, Backend.reset:
        for said in OK[:-1], OK[:-2], chunks, chunks[:-1], chunks + b"0\r\n", chunks + b"0\r\nT: v\r\n":
            c, b = at.asked()
            b.says(said)
            c.hears(said)
            end(b)
            c.is_cut()


BAD = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
    b"HTTP/1.1 200 OK\rContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\n Content-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nX\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"SSH-2.0-OpenSSH_9.2p1\r\n",
    b"\0\0\x12\x04\0\0\0\0\0",
    b"<html>\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
]


def malformed(at):
    """An answer that could be read in two ways, or in none, is 502, and the client sees nothing of it."""
    for answer in BAD:
        c, b = at.asked()
        b.says(answer)
        c.is_told(502, "BadGateway", MALFORMED)
        b.is_cut()


def malformed_later(at):
    """In mid-answer the client is cut, before what is wrong."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for good, bad in ((b"5\r\nhello", b"evil\r\n0\r\n\r\n"), (b"5\r\nhello\r\n", b"\xffevil\r\n"), (b"1\r\nx\r\n0\r\n", b"evil\r\n\r\n")):
        c, b = at.asked()
        b.says(head + good)
        c.hears(head + good)
        b.says(bad)
        rest = bytes(c.rest())
        want(b"evil\r\n" not in rest and b"\xff" not in rest, "the client hears", rest)
        want(c.end in ("reset", "failed"), "it should have been cut, but:", c.end)
        b.is_cut()


def says_more(at):
    """What follows an answer is nobody's: it is not passed on, and no request after it is answered by it."""
    for more in EVIL, b"\n", b"evil":
        c = at.client().says(GET + GET.replace(b"/", b"/2", 1))
        b = at.backend()
        b.hears(GET)
        b.says(OK + more)
        c.hears(OK)
        c.ends()
        b.ends("ended", "reset")


def says_before(at):
    """What it says before it is asked answers no request: the next one goes over a new connection."""
    c, b = at.asked()
    b.says(OK)
    c.hears(OK)
    b.says(EVIL)
    b.arrived()
    c.says(GET)
    b.ends("ended", "reset")
    b = at.backend()
    b.hears(GET)
    b.says(OK)
    c.hears(OK)
    c.finish()
    c.ends()
    b.ends()


# ---- what is wrong with a client ----

BAD_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n"


def error_in_place(at):
    """Our own answer stands where the next one would: after what was valid, which is answered whole; nothing of it goes on."""
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + block(200000)
    for n in 1, 3:
        c = at.client().says(GET * n + BAD_REQUEST + GET)
        b = at.backend()
        for _ in range(n):
            b.hears(GET)
            b.says(large[:1000])
            c.hears(large[:1000])
            want(not c.got, "too early:", bytes(c.got[:300]))
            b.says(large[1000:])
            c.hears(large[1000:])
        a = c.answer()
        want(a.status == 400 and json.loads(a.body)["error"]["code"] == "InvalidInput", a.status, a.body)
        c.ends()
        b.ends("ended", "reset")
    c = at.client().says(GET + POST.replace(b"10\r\n", b"1048577\r\n") + b"0" * 1000)
    b = at.backend()
    exchange(Nothing, b)
    c.hears(OK)
    a = c.answer()
    want(a.status == 413 and json.loads(a.body)["error"]["code"] == "RequestBodyTooLarge", a.status, a.body)
    c.finish()
    c.ends()
    b.ends("ended", "reset")


class Nothing:
    """A client whose bytes are on their way, and who looks later."""
    says = hears = staticmethod(lambda data: None)


def wrong_later(at):
    """A body that turns out to be malformed, too large, or not to end: the backend hears what was valid of it, and is cut."""
    good = CHUNKED + b"5\r\nhello"
    cut = "The request ended in the middle"
    for bad, status in ((b"evil\r\n", 400), (b"\r\nfffffff\r\n", 413), (b"\r\n5;\nevil", 400)):
        c, b = at.asked(good)
        c.says(bad)
        a = c.answer()
        want(a.status == status, a.status, a.body)
        c.finish()
        c.ends()
        try:
            while piece := b.sock.recv(100):
                want(b"e" not in piece and b"f" not in piece and b"\n" != piece, "the backend hears", piece)
            raise Wrong("the backend's connection ended as if all were well")
        except ConnectionResetError:
            b.close()
    for part in good, POST + b"012":
        c, b = at.asked(part)
        c.finish()
        want(c.answer().status == 400, "status")
        c.ends()
        b.is_cut()


def early_answer(at):
    """An answer before the request is whole is passed on; it is the last one unless the rest is there at once."""
    refused = OK.replace(b"200 OK", b"401 No")
    c, b = at.asked(POST + b"01234")
    b.says(refused)
    c.hears(refused)
    b.ends("ended", "reset")
    c.says(b"56789", GET)
    c.ends()


def half_closed(at):
    """Who has ended his stream is answered all the same."""
    c = at.client().send(POST + b"0123456789").finish()
    c.until(lambda: not c.unsent())
    b = at.backend()
    b.hears(POST + b"0123456789")
    b.says(OK)
    c.hears(OK)
    c.ends()
    b.ends()


def leaves(at):
    """A client that is reset resets its backend: before the answer, in it, in the middle of a body."""
    for request, said in ((GET, b""), (GET, OK[:20]), (GET, OK[:-1]), (GET, UNTIL_END), (POST + b"0123", b"")):
        c, b = at.asked(request)
        b.says(said)
        if len(said) > 30:
            c.hears(said)
        c.reset()
        b.is_cut()


# ---- much ----

SIZE, BOUND = 50 << 20, 1 << 20


def watched(at, sent):
    """What the terminator holds, until SENT, a list, does not grow any more."""
    held, before, looks = [], -1, 0
    while looks < 20:
        looks, before = looks + 1 if before == sent[0] else 0, sent[0]
        held.append(at.held())
    return held


def slow_reader(at):
    """50 MiB for a client that does not read, then reads piece by piece: the backend waits, and little is held."""
    data, sent = block(1 << 20), [0]

    def write():
        b.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        while sent[0] < SIZE:
            b.says(data)
            sent[0] += len(data)

    c, b = at.asked()
    b.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    most = watched(at, sent)
    want(sent[0] < SIZE, "all of it has gone somewhere")
    c.slow = True
    c.until(lambda: read_head(bytes(c.got[:1000])))
    del c.got[:c.got.index(b"\r\n\r\n") + 4]
    for i in range(SIZE // len(data)):
        c.hears(data)
        if i % 5 == 0:
            most.append(at.held())
    writer.join()
    want(max(most) <= BOUND, "it holds", max(most))
    exchange(c, b)


def slow_backend(at):
    """The same the other way round: the client waits."""
    data, sent = block(1 << 20), [0]

    def write():
        c.send(b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % SIZE)
        while sent[0] < SIZE:
            c.says(data)
            sent[0] += len(data)

    c = at.client()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    b = at.backend()
    most = watched(at, sent)
    want(sent[0] < SIZE, "all of it has gone somewhere")
    b.hears(b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for i in range(SIZE // len(data)):
        got = bytearray()
        while len(got) < len(data):
            piece = b.sock.recv(len(data) - len(got))
            want(piece, "an end")
            got += piece
        want(got == data, "the backend hears something else in the", i, "th MiB")
        if i % 5 == 0:
            most.append(at.held())
    writer.join()
    want(max(most) <= BOUND, "it holds", max(most))
    b.says(OK)
    c.hears(OK)


# ---- logs ----

def logged(at):
    """What an access log has lines for."""
    c, b = at.asked(POST.replace(b"/post", b"/length") + b"0123456789")
    b.says(OK)
    c.hears(OK)
    exchange(c, b, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",  # counted as they came: 20, and 22
             b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 299 X\r\nTransfer-Encoding: chunked\r\n\r\n7;a=b\r\nanswers\r\n0\r\n\r\n")
    exchange(c, b, GET.replace(b"GET /", b"HEAD /head"), OK[:-2])
    c.says(GET.replace(b"/", b"/cut", 1))
    b.hears(GET.replace(b"/", b"/cut", 1))
    b.says(OK[:-1])
    c.hears(OK[:-1])
    b.reset()
    c.is_cut()
    c, b = at.asked(GET.replace(b"/", b"/none", 1))
    b.close()
    c.is_told(502, "BadGateway", GONE)
    c, b = at.asked(GET.replace(b"/", b"/left", 1))
    c.reset()
    b.is_cut()
    c, b = at.asked(UPGRADE)
    b.says(SWITCH + b"12345")
    c.hears(SWITCH + b"12345")
    c.says(b"123")
    b.hears(b"123")
    b.close()
    c.ends()
    c = at.client().says(BAD_REQUEST)
    c.answer()
    c.ends()


# ---- plays ----

def play(at, names):
    for name in names:
        try:
            globals()[name](at)
            at.nobody()
            print(name, "ok", flush=True)
        except (Wrong, OSError) as e:
            print(name, "wrong:", type(e).__name__, e, flush=True)
            while select.select([at.server], [], [], 0)[0]:
                at.server.accept()[0].close()
    print("over", flush=True)


def main(*names):
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    server.settimeout(LIMIT)
    print("%s:%d" % server.getsockname(), flush=True)
    rest = b""
    while data := os.read(0, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            address, ca, control = line.decode().split()
            play(Play(server, address, None if ca == "-" else ca, None if control == "-" else Control(control)), names)


if __name__ == "__main__":
    main(*sys.argv[1:])
