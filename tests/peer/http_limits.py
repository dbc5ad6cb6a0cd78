#!/usr/bin/env python3
"""Requests of a size about a limit: exactly at it they pass, and beyond it they are refused as CCF does.

    http_limits.py ADDRESS [--tls CA] --control PATH --listener PATH [--interface NAME] [--limits BODY,HEADER,COUNT,LINE,HEAD]
        [--elsewhere] WHAT...

WHAT is body, chunk (a body in one chunk), chunks (in many), value, name, count, line or head.  With a limit of n there are
n/2, n-10, n-1, n, n+1, n+10 and 2n, for bodies also 20n.  --control is a terminator's, --listener that of the listener;
both count each refusal, once.  --elsewhere: not the built-in pages answer, but something that answers 200, and reads a
request to its end before."""
import argparse, sys

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from http1 import GET, Connection, Control, eventually, read_answer, run, want

FACTORS = (lambda n: n // 2, lambda n: n - 10, lambda n: n - 1, lambda n: n, lambda n: n + 1, lambda n: n + 10, lambda n: 2 * n)
PAYLOAD, HEADERS = (0, 1, 0), (0, 0, 1)


def head(first, *fields):
    return "\r\n".join((first + " HTTP/1.1", "Host: localhost") + fields + ("", "")).encode()


def body(n, limits):
    return head("POST /echo", f"Content-Length: {n}") + b"b" * n


def chunk(n, limits):
    return head("POST /echo", "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (n, b"c" * n)


def chunks(n, limits, target="/"):
    each = min(4000, limits["body"] // 4)
    sizes = [each] * (n // each) + [n % each] * (n % each > 0)
    return (head("POST " + target, "Transfer-Encoding: chunked") +
            b"".join(b"%x\r\n%b\r\n" % (size, b"c" * size) for size in sizes) + b"0\r\n\r\n")


def echo(n, limits):
    return chunks(n, limits, "/echo")


def value(n, limits):
    return head("GET /", "X-Long: " + "v" * n)


def name(n, limits):
    return head("GET /", "n" * n + ": v")


def count(n, limits):
    return head("GET /", *[f"X{i}: v" for i in range(n - 1)])


def line(n, limits):
    return head("GET /?" + "l" * (n - len("GET /? HTTP/1.1")))


def whole(n, limits):
    """A head of n bytes, none of whose values is too long."""
    fields, most = [], limits["value"]
    while (left := n - len(head("GET /", *fields))) > 0:
        size = min(left, len("X00: \r\n") + most)
        if 0 < left - size < 8:
            size -= 8
        fields.append(f"X{len(fields):02}: ".ljust(size - 2, "h"))
    want(len(head("GET /", *fields)) == n, "no head of", n)
    return head("GET /", *fields)


def key(n):
    return "n" * 32 + "..." if n > 32 else "n" * n


WHAT = {  # how it is made, what it counts as, its refusal
    "body": (body, PAYLOAD, 413, "RequestBodyTooLarge", "HTTP request body is too large (max size allowed: {max})"),
    "chunk": (chunk, PAYLOAD, 413, "RequestBodyTooLarge", "HTTP request body is too large (max size allowed: {max})"),
    "chunks": (chunks, PAYLOAD, 413, "RequestBodyTooLarge", "HTTP request body is too large (max size allowed: {max})"),
    "echo": (echo, PAYLOAD, None, None, None),
    "value": (value, HEADERS, 431, "RequestHeaderTooLarge", "Header value for 'X-Long' is too large (max size allowed: {max})"),
    "name": (name, HEADERS, 431, "RequestHeaderTooLarge", "Header key for '{key}' is too large (max size allowed: {max})"),
    "count": (count, HEADERS, 431, "RequestHeaderTooLarge", "Too many headers (max number allowed: {max})"),
    "line": (line, HEADERS, 414, "RequestLineTooLong", "HTTP request line is too large (max size allowed: {max})"),
    "head": (whole, HEADERS, 431, "RequestHeaderTooLarge", "HTTP request head is too large (max size allowed: {max})"),
}


def add(a, b):
    return tuple(x + y for x, y in zip(a, b))


class Table:
    def __init__(self, args):
        self.args, self.control, self.listener = args, Control(args.control), Control(args.listener)
        self.counted, self.node, self.passed, self.refused = self.control.errors(), self.node_errors(), 0, 0
        body, header, count, line, head = map(int, args.limits.split(","))
        self.limits = dict(body=body, chunk=body, chunks=body, echo=body, value=header, name=header, count=count, line=line, head=head)

    def connect(self):
        return Connection(self.args.address, self.args.tls)

    def node_errors(self):
        return self.listener.node_errors(self.args.interface)

    def count(self, counts):
        self.counted, self.node, self.refused = add(self.counted, counts), add(self.node, counts), self.refused + 1

    def nothing_else_counts(self):
        eventually("the terminator counts", self.control.errors, self.counted)
        eventually("the listener counts", self.node_errors, self.node)

    def passes(self, connection, request, size):
        a = connection.ask(request)
        want(a.status == 200, a.status, a.body[:300])
        want(a.field("Connection") is None, a.fields)
        if not self.args.elsewhere and request.startswith(b"POST /echo"):
            want(len(a.body) == size, "an echo of", len(a.body))
        elif not self.args.elsewhere and request.startswith(b"POST"):
            want(a.body == b"%d bytes\n" % size, a.body)
        self.passed += 1

    def refuses(self, what, request, size):
        _, counts, status, code, text = WHAT[what]
        c = self.connect()
        want(c.ask(GET).status == 200, "a first request")
        c.ask(request).is_error(status, code, text.format(max=self.limits[what], key=key(size)))
        c.ends()
        self.count(counts)

    def breaks_off(self, what, request):
        """The echo has begun when it comes to the byte that is too much."""
        c = self.connect().send(request)
        c.rest()
        want(c.end in ("reset", "bare", "failed") and not read_answer(c.got), "it is not cut, but", c.end)
        self.count(WHAT[what][1])

    def dimension(self, what):
        n, made = self.limits[what], WHAT[what][0]
        sizes = [f(n) for f in FACTORS] + [20 * n] * (WHAT[what][1] == PAYLOAD)
        stays = self.connect()
        for size in sizes:
            try:
                request = made(size, self.limits)
                if size <= n:
                    self.passes(stays, request, size)
                elif what == "echo" and not self.args.elsewhere:
                    self.breaks_off(what, request)
                else:
                    self.refuses(what, request, size)
                want(stays.ask(GET).status == 200, "another connection goes on")
                self.nothing_else_counts()
            except Exception as e:
                e.args = (f"{what} of {size} at {n}: {e}",)
                raise
        stays.finish().ends()
        self.nothing_else_counts()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--tls")
    parser.add_argument("--control", required=True)
    parser.add_argument("--listener", required=True)
    parser.add_argument("--interface", default="rpc")
    parser.add_argument("--limits", default="1048576,16384,256,8192,65536")
    parser.add_argument("--elsewhere", action="store_true")
    parser.add_argument("what", nargs="+", choices=WHAT)
    args = parser.parse_args()
    table = Table(args)
    for what in args.what:
        table.dimension(what)
    print(table.passed, "passed,", table.refused, "refused")


run(main)
