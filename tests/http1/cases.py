"""The cases of cases.txt (which says what they are), for tests that send them:

    for case in cases.load():
        case.name, case.bytes
        case.want       the framing of each request that is whole: ["none", "chunked"]
        case.status     400 ...: the next one is refused; "cut": the stream ends in it; None
        case.at         the offset in bytes that is refused, or None
        case.in_body    its head was valid
        case.says       stands in the answer; case.bodies: those of whole requests that have one

Run by itself it says what it has read."""

import os
import re
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
TOKEN = re.compile(rb"\\(?:\{(\d+)\*([^}]*)\}|x([0-9a-f]{2})|(.))|([^\\]+)", re.S)
PLAIN = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\", b'"': b'"'}


@dataclass
class Case:
    name: str
    want: list = field(default_factory=list)
    status: object = None
    in_body: bool = False
    at: object = None
    says: str = ""
    to: str = "GET"
    bodies: list = field(default_factory=list)
    bytes: bytes = b""


def decode(text):
    """The bytes of TEXT, and where \\^ stands in them."""
    out, at = [], None
    for times, what, code, char, run in TOKEN.findall(text):
        if times:
            out.append(decode(what)[0] * int(times))
        elif code:
            out.append(bytes([int(code, 16)]))
        elif char == b"^":
            at = sum(map(len, out))
        else:
            out.append(PLAIN[char] if char else run)
    return b"".join(out), at


def finish(case, lines):
    case.bytes, case.at = decode(b"".join(lines))
    if case.want and not case.want[-1].isalpha() or case.want[-1:] == ["cut"]:
        case.status = case.want.pop()
    if case.status:
        framing, slash, status = case.status.rpartition("/")
        case.in_body = bool(slash)
        case.status = "cut" if status == "cut" else int(status)
    return case


def load(path=os.path.join(HERE, "cases.txt")):
    case, lines = None, []
    with open(path, "rb") as f:
        for line in f:
            line = line.rstrip(b"\n")
            if not line or line.startswith(b"#"):
                continue
            if line.startswith(b"< "):
                lines.append(line[2:])
                continue
            key, _, value = line.partition(b":")
            value = value.strip()
            if key == b"name":
                if case:
                    yield finish(case, lines)
                case, lines = Case(value.decode()), []
            elif key == b"want":
                case.want = value.decode().split()
            elif key == b"body":
                case.bodies.append(decode(value)[0])
            else:
                setattr(case, key.decode(), value.decode())
    if case:
        yield finish(case, lines)


if __name__ == "__main__":
    n = 0
    for c in load():
        n += 1
        print(c.name, *c.want, c.status or "ok", c.at if c.at is not None else "-", len(c.bytes))
    print(n, "cases")
