#!/usr/bin/env python3
"""Requests that hide another one, GET /smuggled, from whoever reads them in one of two ways.

    http_smuggle.py ADDRESS [--tls CA] [--backend HOST:PORT]

ADDRESS is a guard's.  Each of them is refused, and the backend (http_backend.py) sees nothing of it; whatever it sees all
readings of HTTP/1 that servers have been caught at take for the same requests.  First it is shown that these readings
disagree about what is sent."""
import argparse, base64, itertools, json, re, sys

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from http1 import Connection, many, read_answer, run, want

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"


# ---- what is sent ----

def te_cl(coding, first=b""):
    """Whoever reads the coding sees a chunk; whoever reads the length, its size line and then a request."""
    return POST + first + coding + b"\r\nContent-Length: 4\r\n\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n"


def cl_te(coding, first=b""):
    """Whoever reads the length sees a body; whoever reads the coding, its end and then a request."""
    body = b"0\r\n\r\n" + HIDDEN
    return POST + first + b"Content-Length: %d\r\n" % len(body) + coding + b"\r\n\r\n" + body


CODINGS = [
    b"Transfer-Encoding: chunked", b"transfer-encoding: CHUNKED", b"Transfer-Encoding:chunked",
    b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: chunked\t", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: \x0cchunked",
    b"Transfer-Encoding: chunked\x0b", b"Transfer-Encoding: \x00chunked", b"Transfer-Encoding: chunked\x00",
    b"Transfer-Encoding\x00: chunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: x, chunked", b"Transfer-Encoding: chunked, x", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: ,chunked", b"Transfer-Encoding: chunked,", b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding: 'chunked'",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Transfer-Encoding:\r\n chunked",
    b"Transfer-Encoding: x\r\n chunked", b"X: y\r\n Transfer-Encoding: chunked", b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked", b"\x0bTransfer-Encoding: chunked", b" Transfer-Encoding: chunked",
    b"Transfer-Encoding: \xa0chunked", b"Transfer-Encoding: chun\xe2\x84\xaaed", b"Transfer-Encoding: ch\xc2\xadunked",
    b"Transfer-Encoding: gzip, chunked",
]
LENGTHS = [
    b"Content-Length: 0\r\nContent-Length: {n}", b"Content-Length: {n}\r\nContent-Length: 0",
    b"Content-Length: {n}\r\nContent-Length: {n}", b"Content-Length: 0, {n}", b"Content-Length: {n}, 0",
    b"Content-Length: {n}, {n}", b"Content-Length: +{n}", b"Content-Length: -{n}", b"Content-Length: {n}x",
    b"Content-Length: {n} 0", b"Content-Length: 0x{x}", b"Content-Length: {n}.0", b"Content-Length: {n}e0",
    b"Content-Length: \x0b{n}", b"Content-Length: {n}\x00", b"Content-Length: 0{n}\x0c", b"Content-Length : {n}",
    b"Content-Length\t: {n}", b"Content-Length\x00: {n}", b" Content-Length: {n}", b"Content-Length:\r\n {n}",
    b"X: y\r\n Content-Length: {n}", b"X: y\nContent-Length: {n}", b"X: y\rContent-Length: {n}", b"Content-Length:\t{n}",
    b"Content-Length: 18446744073709551616{n}", b"Content-Length: {w}", b"Content-Length: {v}",
    b"Content-Length: \"{n}\"", b"Content-Length: {n};x=y", b"Content-Length: ,{n}", b"Content-Length: {n}_0",
]


def length(form):
    """A length that one reads and another does not: the request, or not."""
    n = len(HIDDEN)
    for key, value in (b"{n}", n), (b"{x}", f"{n:x}"), (b"{w}", n + (1 << 64)), (b"{v}", n + (1 << 32)):
        form = form.replace(key, str(value).encode())
    return POST + form + b"\r\n\r\n" + HIDDEN


def chunked(body):
    return POST + b"Transfer-Encoding: chunked\r\n\r\n" + body


def sized(form):
    """A chunk size that one reads as the request's length, and another as less."""
    n = len(HIDDEN)
    for key, value in (b"{x}", n), (b"{w}", n + (1 << 32)), (b"{v}", n + (1 << 64)):
        form = form.replace(key, b"%x" % value)
    return chunked(form + HIDDEN + b"\r\n0\r\n\r\n")


CHUNKS = [
    b"{x}\n", b"{x};a\n", b"{x};a=\"\n\"\r\n", b"{x} \r\n", b" {x}\r\n", b"{x}\t\r\n", b"0x{x}\r\n", b"+{x}\r\n",
    b"-{x}\r\n", b"{w}\r\n", b"{v}\r\n", b"0_{x}\r\n", b"{x},\r\n", b"0{x}g\r\n", b"{x}\x00\r\n", b"\r\n{x}\r\n",
    b"{x}\r\r\n", b"{x};\r\n\r\n", b"0\n\r\n{x}\r\n", b"0\n\n", b"0\r\n\n", b"0\r\nX: y\n\r\n", b"0\r\nX: y\n\n",
    b"1\r\nxx\r\n{x}\r\n", b"2\r\nx\r\n{x}\r\n", b"1\r\nx\n0\r\n\r\n", b"1\r\nx0\r\n\r\n", b"0;\x00\r\n\r\n",
    b"0;a\r\r\n\r\n", b"0\r\nContent-Length: 3\r\n\r\n", b"0\r\nTransfer-Encoding: identity\r\n\r\n",
]
LINES = [
    POST + b"\n" + HIDDEN, POST[:-2] + b"\n\n" + HIDDEN,
    POST[:-2] + b"\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, POST.replace(b"\r\n", b"\n") + b"\n" + HIDDEN,
    POST + b"X: y\n\n" + HIDDEN, POST + b"X: y\n\r\n" + HIDDEN, POST + b"X: y\r\r\n\r\n" + HIDDEN,
    POST + b"X: \r\r" + HIDDEN, POST + b"X: y\r\n\r" + HIDDEN, POST + b"X\n\n: " + HIDDEN,
    b"POST / HTTP/1.1\n\n" + HIDDEN, b"POST /\r\n" + HIDDEN, b"POST / HTTP/0.9\r\n\r\n" + HIDDEN,
    b"POST / HTTP/1.1 \r\nHost: localhost\r\nX: y\n\n" + HIDDEN,
    POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + HIDDEN,
    POST.replace(b"Host: localhost", b"Host: localhost\r\nHost: smuggled") + b"\r\n" + HIDDEN,
    b"GET http://smuggled/ HTTP/1.1\r\nHost: localhost\r\n\r\n" + HIDDEN,
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n" + HIDDEN,
    b"GET / HTTP/1.1\r\nHost: a\n\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN,
    b"GET / HTTP/1.1\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    b"\x00GET / HTTP/1.1\r\nHost: a\r\n\r\n" + HIDDEN, b"\n\n\n" + HIDDEN, b"\r\n\r\n" + HIDDEN,
]


def attacks():
    for coding in CODINGS:
        yield "TE.CL", te_cl(coding)
        yield "CL.TE", cl_te(coding)
    yield from (("CL", length(form)) for form in LENGTHS)
    yield from (("chunks", sized(form)) for form in CHUNKS)
    yield from (("lines", data) for data in LINES)


# what is right, though it looks like that: each is this many requests
HARMLESS = [
    (1, POST + b"Content-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN),
    (1, chunked(b"%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n0\r\n\r\n")),
    (2, POST + b"Content-Length: 3\r\n\r\nabc\r\n" + HIDDEN.replace(b"smuggled", b"second")),
    (1, chunked(b"1;x=\"0\"\r\nx\r\n%x\r\n" % len(HIDDEN) + HIDDEN + b"\r\n00\r\nX: y\r\n\r\n")),
    (1, POST + b"X-Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n" % (len(HIDDEN) + 5) + HIDDEN),
]


# ---- how it can be read ----

class Reading:
    """One of many ways to read: what ends a line, which codings and lengths are one, which of both holds."""

    def __init__(self, eol, coding, holds, which, names, wrap):
        self.eol, self.coding, self.holds, self.which, self.names, self.wrap = eol, coding, holds, which, names, wrap

    def line(self, data, at):
        """The line at that place, and where the next one begins; None: there is none."""
        found = re.compile(self.eol).search(data, at)
        return (data[at:found.start()], found.end()) if found else None

    def head(self, data, at):
        lines = []
        while found := self.line(data, at):
            line, at = found
            if line:
                lines.append(line)
            elif lines:
                return lines, at
        return None

    def fields(self, lines):
        fields = []
        for line in lines:
            if line[:1] in b" \t" and self.names == "folded" and fields:
                fields[-1][1] += b" " + line.strip()
                continue
            name, colon, value = line.partition(b":")
            if self.names != "exact":
                name = name.strip(b" \t\x0b\x0c\x00")
            fields.append([name.lower(), value])
        return fields

    def is_chunked(self, value):
        value = value.lower()
        if self.coding == "exact":
            return value.strip(b" \t") == b"chunked"
        if self.coding == "last":
            return value.split(b",")[-1].strip(b" \t\r\n\x0b\x0c\x00\"'") == b"chunked"
        return b"chunked" in re.sub(rb"[^a-z\xe2\x84\xaa]", b"", value).replace(b"\xe2\x84\xaa", b"k")

    def body(self, fields, data, at):
        """Where it ends; None: it does not."""
        codings = [v for n, v in fields if n == b"transfer-encoding"]
        lengths = [v for n, v in fields if n == b"content-length"]
        is_chunked = any(map(self.is_chunked, codings)) if self.coding == "any" else codings and self.is_chunked(codings[-1])
        if is_chunked and not (lengths and self.holds == "length"):
            return self.chunks(data, at)
        if not lengths:
            return at
        value = lengths[0 if self.which == "first" else -1].strip(b" \t\r\n\x0b\x0c\x00\"+")
        value = value.split(b",")[0 if self.which == "first" else -1].strip()
        digits = re.match(rb"0x[0-9a-f]+" if self.which == "last" else rb"[0-9]+", value) or re.match(rb"[0-9]+", value)
        return at + (int(digits[0], 0 if digits[0][:2] == b"0x" else 10) & self.wrap if digits else 0)

    def chunks(self, data, at):
        while found := self.line(data, at):
            size, at = found
            digits = re.match(rb"[ \t+]*(?:0x)?([0-9a-f]+)", size.lower())
            n = int(digits[1], 16) & self.wrap if digits else 0
            if n == 0:
                return self.trailers(data, at)
            at += n
            end = self.line(data, at) if at < len(data) else None
            if not end:
                return None
            at = end[1] if not end[0] else at
        return None

    def trailers(self, data, at):
        while found := self.line(data, at):
            at = found[1]
            if not found[0]:
                return at
        return None

    def targets(self, data):
        """What is asked for."""
        at, targets = 0, []
        while found := self.head(data, at):
            lines, at = found
            words = lines[0].split()
            if len(words) < 2 or not words[0].isalpha():
                break
            targets.append(words[1])
            at = self.body(self.fields(lines[1:]), data, at)
            if at is None or at > len(data):
                break
        return tuple(targets)


READINGS = [Reading(*how) for how in itertools.product(
    (rb"\r\n", rb"\r?\n", rb"\r\n|\r|\n"), ("exact", "last", "any"), ("coding", "length"), ("first", "last"),
    ("exact", "stripped", "folded"), ((1 << 32) - 1, (1 << 64) - 1))]


def readings(data):
    return {r.targets(data) for r in READINGS}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--tls")
    parser.add_argument("--backend")
    args = parser.parse_args()
    todo = [(0, kind, data) for kind, data in attacks()] + [(n, "harmless", data) for n, data in HARMLESS]
    ambiguous = sum(len(readings(data)) > 1 for n, _, data in todo if not n)
    want(ambiguous * 2 > len(todo), "only", ambiguous, "of", len(todo), "can be read in two ways")
    for n, _, data in todo:
        want(not n or len(readings(data)) == 1, "that is not harmless:", data, readings(data))
    connections = [Connection(args.address, args.tls).send(data).finish() for _, _, data in todo]
    many(connections)
    for c, (n, kind, data) in zip(connections, todo):
        statuses = []
        while found := read_answer(c.got):
            statuses.append(found[0].status)
            c.got = found[1]
        refused = len(statuses) == 1 and statuses[0] >= 400
        want(statuses == [200] * n if n else refused, kind, "is answered with", statuses, data)
    if args.backend:
        seen(args, sum(n for n, _, _ in todo))
    print(len(todo), "sent,", ambiguous, "of them ambiguous")


def seen(args, n):
    records = json.loads(Connection(args.backend).ask("GET /records HTTP/1.1\r\nHost: localhost\r\n\r\n").body)
    for r in records:
        r["bytes"] = base64.b64decode(r["bytes"])
        found = readings(r["bytes"])
        want(len(found) == 1 and b"/smuggled" not in next(iter(found)), "the backend could read", r["bytes"], "as", found)
    want(sum(r["requests"] for r in records) == n, "the backend has seen", records)


run(main)
