#!/usr/bin/env python3
"""The requests of tests/http1/ over real sockets: each gets the verdict that stands there.

    http_corpus.py ADDRESS [--tls CA] [--backend HOST:PORT | --alone] HOW...

HOW: whole, bytes (one by one), split (in two, here and there).  What answers are the built-in pages, or, behind a guard,
http_backend.py, which has to have seen the bytes of the valid requests and of no other one: of one that is refused in its
body at most what comes before the byte that was wrong.  --alone: one connection after the other, answered by some server
behind a guard; only what is refused is looked at."""
import argparse, base64, json, os, re, sys

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(1, os.path.join(HERE, "..", "http1"))
from http1 import Connection, Request, Wrong, many, read_answer, run, want
import cases

AT_ONCE = 200
PAGES = {"/": ("GET", "HEAD", "POST", "PUT"), "/echo": ("POST", "PUT"), "*": ()}


class Expected:
    """What becomes of a case: answers (status, body or None), cut (the last one breaks off), closes (by the server)."""

    def __init__(self, case, guarded):
        self.answers, self.cut, self.closes, self.forwarded, self.partly = [], False, False, b"", b""
        self.asked, at, data = [], 0, case.bytes
        bodies = iter(case.bodies)
        for framing in case.want:
            request = Request(data, at)
            want(request.whole, "not whole, but it should be", framing)
            body = None if framing == "none" else next(bodies, None)
            self.answers.append((200, None) if guarded else page(request, body))
            self.asked.append(request)
            self.forwarded += data[request.at:request.end]
            at, self.closes = request.end, not request.keep or self.unread(request)
            if self.closes:
                return
        if case.status:
            self.last(case, data, at, guarded)

    def unread(self, request):
        """It is refused for what it asks for, at its head, and that is not all of it."""
        return self.answers[-1][0] >= 400 and bool(request.body or request.all("transfer-encoding"))

    def last(self, case, data, at, guarded):
        self.closes, status = True, 400 if case.status == "cut" else case.status
        if not case.in_body:
            self.answers.append((status, None))
            return
        request = Request(data, at, head_only=True)
        self.asked.append(request)
        self.partly = data[request.at:len(data) if case.at is None else case.at]
        status = (status, None) if guarded else page(request, None)
        if not guarded and status[0] == 200 and request.target == "/echo":
            self.cut = begun(request, data, case.at)
            status = (400 if case.status == "cut" else case.status, None)
        if not self.cut:
            self.answers.append(status)


def page(request, body):
    """What the built-in pages make of a request that is whole."""
    path = re.sub("(?i)^https?://[^/?]*", "", request.target) if "://" in request.target else request.target
    path = path.split("?")[0] or "/"
    if path not in PAGES or (path == "*" and request.method != "OPTIONS"):
        return 404, None
    if request.method == "OPTIONS":
        return 204, None
    if request.method not in PAGES[path]:
        return 405, None
    return 200, (body or b"") if path == "/echo" else None


def begun(request, data, at):
    """The echo has had something to say before it went wrong."""
    rest = data[request.head:at]
    if request.all("transfer-encoding"):
        line, _, rest = rest.partition(b"\r\n")
        return bool(rest) and int(line.split(b";")[0], 16) > 0
    return bool(rest)


# ---- how it is sent ----

def cut_at(data, offsets):
    offsets = sorted({o for o in offsets if 0 < o < len(data)})
    return [data[a:b] for a, b in zip([0] + offsets, offsets + [len(data)])]


def whole(case, tls):
    yield [case.bytes]


def single(case, tls):
    """Of long ones, where something happens."""
    n, at = len(case.bytes), case.at or len(case.bytes)
    yield cut_at(case.bytes, range(n) if n < 2048 else {*range(60), *range(at - 20, at + 20), *range(n - 20, n)})


def split(case, tls):
    """Beside the byte that is wrong, between CR and LF, around the end of the head."""
    n, at = len(case.bytes), case.at or len(case.bytes) - 1
    offsets = [at, at + 1, case.bytes.find(b"\r\n\r\n") + 4]
    if not tls:
        offsets += [1, at - 1, n - 1] + [m.end() for m in re.finditer(b"\r", case.bytes[:4096])][:4]
    for o in sorted({o for o in offsets if 0 < o < n}):
        yield cut_at(case.bytes, [o])


HOW = {"whole": whole, "bytes": single, "split": split}


# ---- what came of it ----

def check(c, case, expected):
    got = c.got
    for i, (status, body) in enumerate(expected.answers):
        request = expected.asked[i] if i < len(expected.asked) else None
        found = read_answer(got, request.method if request else "GET", c.end == "ended")
        want(found, "answer", i, "is missing;", c.end, got[:300])
        answer, got = found
        last = i + 1 == len(expected.answers) and not expected.cut
        want(answer.status == status, "answer", i, "is", answer.status, "not", status, answer.body[:300])
        want(body is None or answer.body == body, "answer", i, "is", answer.body[:300])
        want(set(answer.interim) <= {100} and (not answer.interim or request.all("expect")), "interim", answer.interim)
        closes = (answer.field("Connection") or "").lower() == "close"
        want(closes == (last and expected.closes), "answer", i, answer.fields)
        if last and case.status and status >= 400 and request not in expected.asked[:len(case.want)]:
            refused(answer, case)
    if expected.cut:
        want(c.end in ("reset", "bare", "failed") and not read_answer(got), "it is not cut, but", c.end, got[:300])
    else:
        want(got == b"" and c.end == "ended", "it should have ended, but", c.end, got[:300])


def check_refused(c, case, expected):
    if not case.status:
        return
    for request in expected.asked[:len(case.want)] + [None]:
        found = read_answer(c.got, request.method if request else "GET")
        want(found, "an answer is missing;", c.end, c.got[:300])
        answer, c.got = found
        if (answer.field("Connection") or "").lower() == "close" and request:
            return
    refused(answer, case)
    want(c.got == b"" and c.end == "ended", "it should have ended, but", c.end, c.got[:300])


def refused(answer, case):
    error = json.loads(answer.body)["error"]
    want(set(error) == {"code", "message"} and case.says in error["message"], error, "does not say:", case.says)
    want(answer.field("Content-Type") == "application/json", answer.fields)


def fault(case, e):
    raise Wrong(f"{case.name}: {e}") from None


def send(batch, args):
    """Each is a case, what it should come to, and the pieces it is sent in."""
    connections = []
    for case, expected, pieces in batch:
        c = Connection(args.address, args.tls, case.name).send(*pieces)
        if not expected.closes or case.status == "cut":
            c.finish()
        connections.append(c)
    many(connections)
    for c, (case, expected, _) in zip(connections, batch):
        try:
            if args.alone:
                check_refused(c, case, expected)
            else:
                check(c, case, expected)
        except (Wrong, ValueError) as e:
            fault(case, e)


def seen(batch, args):
    """What the backend has seen is what was valid.  How many requests that were."""
    said = Connection(args.backend).ask("GET /records HTTP/1.1\r\nHost: localhost\r\n\r\n")
    records = [base64.b64decode(r["bytes"]) for r in json.loads(said.body)]
    n = sum(r["requests"] for r in json.loads(said.body))
    for case, expected, _ in sorted(batch, key=lambda b: (not b[1].forwarded, -len(b[1].forwarded) - len(b[1].partly))):
        found = [r for r in records if r.startswith(expected.forwarded) and
                 expected.partly.startswith(r[len(expected.forwarded):])]
        if expected.forwarded:
            want(found, f"{case.name}: nobody has seen {expected.forwarded[:300]}")
        if found and (expected.forwarded or expected.partly):
            records.remove(max(found, key=len))
    want(not records, "the backend has seen what nobody should:", [r[:300] for r in records])
    whole = sum(len(e.asked) - bool(e.partly) for _, e, _ in batch)
    want(n == whole, "the backend has seen", n, "requests, not", whole)
    return n


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--tls")
    parser.add_argument("--backend")
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("how", nargs="+", choices=HOW)
    args = parser.parse_args()
    for how in args.how:
        batch, n, sent, forwarded = [], 0, 0, 0
        todo = [(case, pieces) for case in cases.load() if case.bytes for pieces in HOW[how](case, args.tls)]
        for n, (case, pieces) in enumerate(todo, 1):
            try:
                batch.append((case, Expected(case, args.backend or args.alone), pieces))
            except (Wrong, ValueError) as e:
                fault(case, e)
            if n == len(todo) or len(batch) == AT_ONCE or args.alone:
                send(batch, args)
                forwarded += seen(batch, args) if args.backend else 0
                batch = []
        print(how, n, "times", f"{forwarded} requests" if args.backend else "")


run(main)
