#!/usr/bin/env python3
"""Clients of an HTTP/1 terminator.

    http_clients.py ADDRESS [--tls CA] WHAT [ARGUMENT...]

library N               http.client asks for / so many times on one connection
pipeline [PATH]         100 requests in one write, and their answers in order; PATH, for all of them: not the built-in pages
forms                   what a request can look like, and what becomes of the connection
upload FORM [TIMES]     writes a whole body of 10 MiB before it reads; FORM is length, chunk (one) or chunks; it is refused, and
                        the answer is whole
silent                  is refused, and neither reads that nor closes; prints "refused" and waits for the end of its input
endless                 the same, but never stops writing; prints how much it could"""
import argparse, http.client, json, socket, ssl, sys

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from http1 import GET, LIMIT, Connection, run, want

BODY = 10 << 20
TOO_LARGE = {"error": {"code": "RequestBodyTooLarge", "message": "HTTP request body is too large (max size allowed: 1048576)"}}


def stream(args):
    """A socket as people have it: blocking, and one that writes all before it reads."""
    host, _, port = args.address.rpartition(":")
    sock = socket.create_connection((host, int(port)), LIMIT)
    if not args.tls:
        return sock
    context = ssl.create_default_context(cafile=args.tls)
    return context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)


def library(args, n="1000"):
    host, _, port = args.address.rpartition(":")
    if args.tls:
        c = http.client.HTTPSConnection(host, int(port), timeout=LIMIT, context=ssl.create_default_context(cafile=args.tls))
    else:
        c = http.client.HTTPConnection(host, int(port), timeout=LIMIT)
    c.connect()
    sock = c.sock
    for i in range(1, int(n) + 1):
        c.request("GET", "/", headers={"X-Number": str(i)})
        a = c.getresponse()
        body = a.read().decode()
        want(a.status == 200 and body.endswith(f"requests on this connection: {i}\n"), i, a.status, body)
        want(c.sock is sock, "another connection at", i)
    c.close()
    print(n, "answers")


# ---- pipelining ----

def numbered(i, path):
    """The Ith request: its method, the request, and what the built-in pages say."""
    kind, echoed = i % 5, b"%d " % i * (i % 7 * 50)
    echo = (path or "/echo").encode()
    host = b" HTTP/1.1\r\nHost: localhost\r\n"
    if kind == 0:
        return "HEAD", b"HEAD " + (path or "/").encode() + host + b"\r\n", b""
    if kind == 1:
        return "POST", b"POST " + echo + host + b"Content-Length: %d\r\n\r\n" % len(echoed) + echoed, echoed
    if kind == 2:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (echoed[:100], echoed[100:]) if p)
        return "POST", b"POST " + echo + host + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n", echoed
    if kind == 3 and not path:
        return "GET", b"GET /missing-%d" % i + host + b"\r\n", b"Unknown path: /missing-%d " % i
    return "GET", b"GET " + (path or "/").encode() + host + b"\r\n", b"requests on this connection: %d\n" % i


def pipeline(args, path=None):
    requests = [numbered(i, path) for i in range(1, 101)]
    c = Connection(args.address, args.tls).send(b"".join(r for _, r, _ in requests)).finish()
    for i, (method, _, said) in enumerate(requests, 1):
        a = c.answer(method)
        if path:
            want(a.status == 200, i, a.status, a.body[:300])
            continue
        if method == "POST":
            want(a.status == 200 and a.body == said, i, a.status, a.body[:300])
        else:
            want(a.status == (404 if b"path" in said else 200), i, a.status, a.body[:300])
            want(said in a.body or method == "HEAD", i, a.body[:300])
        want(method != "HEAD" or int(a.field("Content-Length")) > 0, i, a.fields)
    c.ends()
    print(len(requests), "answers in order")


# ---- forms ----

def one(args, request, method="GET", closes=False, **fields):
    """One request on a connection of its own, and, where that goes on, another."""
    c = Connection(args.address, args.tls)
    a = c.ask(request, method)
    for name, value in fields.items():
        want(a.field(name) == value, request, name, "is", a.field(name), "not", value)
    if not closes:
        want(c.ask(GET).status == 200, request)
        c.finish()
    c.ends()
    return a


def forms(args):
    get = one(args, GET, Connection=None)
    want(get.status == 200 and get.field("Date") and get.minor == 1, get.status, get.fields)
    head = one(args, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HEAD")
    want(head.status == 200 and head.body == b"" and int(head.field("Content-Length")) == len(get.body), head.fields)
    for how in b"close", b"Close", b"x, close", b"keep-alive, close":
        one(args, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: %b\r\n\r\n" % how, closes=True, Connection="close")
    one(args, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n", Connection=None)
    one(args, b"GET / HTTP/1.0\r\n\r\n", closes=True, Connection="close")
    one(args, b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n", closes=True, Connection="close")
    one(args, b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", Connection="keep-alive")
    one(args, b"HEAD / HTTP/1.0\r\n\r\n", "HEAD", closes=True, Connection="close")
    for target in b"http://localhost/", b"http://localhost", b"HTTP://LOCALHOST/?q", b"https://localhost:443/":
        host = b"localhost:443" if b"443" in target else b"localhost"
        a = one(args, b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
        want(a.status == 200, target, a.status)
    a = one(args, b"POST http://localhost/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
    want(a.body == b"abc", a.status, a.body)
    a = one(args, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", Allow="GET, HEAD, POST, PUT, OPTIONS")
    want(a.status == 204 and a.field("Content-Length") is None, a.status, a.fields)
    a = one(args, b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", Allow="GET, HEAD, POST, PUT, OPTIONS")
    want(a.status == 405, a.status)
    old = one(args, b"POST /echo HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", closes=True, Connection="close")
    want(old.status == 200 and old.body == b"abc", old.status, old.body)
    expects(args)
    print("all as it should be")


def expects(args):
    """Who waits is told to go on; who does not is not; who is refused is not told."""
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    c = Connection(args.address, args.tls).send(head % 3)
    c.until(lambda: bytes(c.got).startswith(b"HTTP/1.1 100 Continue\r\n\r\n"))
    a = c.ask(b"abc")
    want(a.interim == [100] and a.body == b"abc", a.interim, a.body)
    want(c.ask(GET).interim == [], "another one")
    a = c.ask(head % 3 + b"abc")
    want(a.interim == [] and a.body == b"abc", a.interim, a.body)
    a = c.ask(head % (BODY))
    want(a.status == 413 and a.interim == [], a.status, a.interim)
    c.ends()
    c = Connection(args.address, args.tls)
    a = c.ask((head % 3).replace(b"/echo", b"/missing"))
    want(a.status == 404 and a.interim == [] and a.field("Connection") == "close", a.status, a.fields)
    c.ends()


# ---- who is refused in the middle ----

def sent(form):
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
    if form == "length":
        return head + b"Content-Length: %d\r\n\r\n" % BODY + bytes(BODY)
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    if form == "chunk":
        return head + b"%x\r\n" % BODY + bytes(BODY) + b"\r\n0\r\n\r\n"
    return head + (b"4000\r\n" + bytes(0x4000) + b"\r\n") * (BODY // 0x4000) + b"0\r\n\r\n"


def upload(args, form, times="1"):
    data = sent(form)
    for _ in range(int(times)):
        sock, got = stream(args), b""
        sock.sendall(data)
        while piece := sock.recv(65536):
            got += piece
        sock.close()
        head, _, body = got.partition(b"\r\n\r\n")
        fields = head.decode().split("\r\n")
        want(fields[0] == "HTTP/1.1 413 Content Too Large" and "Connection: close" in fields, got)
        want(f"Content-Length: {len(body)}" in fields and json.loads(body) == TOO_LARGE, got)
    print("413 read whole", times, "times")


def silent(args):
    sock = stream(args)
    sock.sendall(sent("length")[:1 << 20])
    print("refused", flush=True)
    sys.stdin.read()


def endless(args):
    sock, n = stream(args), 0
    sock.sendall(sent("length"))
    try:
        while True:
            n += sock.send(bytes(65536))
    except (ConnectionError, ssl.SSLError):
        print("let go after", n)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--tls")
    parser.add_argument("what", choices=("library", "pipeline", "forms", "upload", "silent", "endless"))
    parser.add_argument("more", nargs="*")
    args = parser.parse_args()
    globals()[args.what](args, *args.more)


run(main)
