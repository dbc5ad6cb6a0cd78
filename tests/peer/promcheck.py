#!/usr/bin/env python3
"""promcheck [FILE [BEFORE]] - is this Prometheus' text format (0.0.4), said strictly?  And did no counter, nor what a histogram
counts, go down since BEFORE, which the same tool had said?  Says what is wrong, a line each; exit 1."""
import math
import re
import sys

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"')
SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)\Z")
VALUE = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?\Z|[-+]Inf\Z|NaN\Z")
TYPES = ("counter", "gauge", "histogram")

wrong = []
families = {}  # name: [type, help seen, samples]
series = set()
now = None


def bad(number, why):
    wrong.append(f"line {number}: {why}")


def labels_of(number, text):
    found, at = [], 0
    while at < len(text):
        m = LABEL.match(text, at)
        if not m:
            bad(number, f"not a label: {text[at:]!r}")
            break
        found.append(m.groups())
        at = m.end()
        if at < len(text):
            if text[at] != "," or at + 1 == len(text):
                bad(number, f"not a comma and a label: {text[at:]!r}")
                break
            at += 1
    names = [n for n, _ in found]
    if len(set(names)) != len(names):
        bad(number, "a label twice")
    if any(n.startswith("__") for n in names):
        bad(number, "a label that begins with __")
    return found


def comment(number, line):
    global now
    m = re.match(r"# (HELP|TYPE) (\S+) (.*)\Z", line)
    if not m or not NAME.match(m[2]):
        return bad(number, "a comment that is neither HELP nor TYPE")
    what, name, rest = m.groups()
    if what == "HELP":
        if name in families:
            bad(number, f"HELP {name} again")
        if not rest or "\\" in re.sub(r"\\[\\n]", "", rest):
            bad(number, f"HELP {name}: empty, or a backslash that escapes nothing")
        families[name] = [None, number, []]
        now = name
    else:
        if name != now or families[name][0] is not None:
            return bad(number, f"TYPE {name} is not right after its HELP")
        if rest not in TYPES:
            bad(number, f"{name}: no type we use: {rest}")
        if (rest == "counter") != name.endswith("_total"):
            bad(number, f"{name}: _total is for counters, and for all of them")
        if name.endswith(("_bucket", "_sum", "_count")):
            bad(number, f"{name}: a suffix of histograms")
        families[name][0] = rest


def sample(number, line):
    m = SAMPLE.match(line)
    if not m:
        return bad(number, f"not a sample: {line!r}")
    name, inside, value = m.groups()
    if inside == "":
        bad(number, "empty braces")
    found = labels_of(number, inside or "")
    kind = families[now][0] if now else None
    family = re.sub(r"_(bucket|sum|count)\Z", "", name) if kind == "histogram" else name
    if family != now or kind is None:
        return bad(number, f"{name} does not stand below its own HELP and TYPE")
    if kind == "histogram" and family == name:
        bad(number, f"{name}: neither _bucket, _sum nor _count")
    if not VALUE.match(value):
        return bad(number, f"{name}: no number: {value}")
    key = (name, tuple(sorted(found)))
    if key in series:
        bad(number, f"{name}: this series again")
    series.add(key)
    number_value = float(value)
    if kind != "gauge" and not (number_value >= 0 and math.isfinite(number_value)):
        bad(number, f"{name}: a {kind} of {value}")
    families[now][2].append((number, name, dict(found), number_value))


def histogram(name, samples):
    groups = {}
    for number, sample_name, found, value in samples:
        le = found.pop("le", None)
        group = groups.setdefault(tuple(sorted(found.items())), {"bucket": [], "sum": None, "count": None})
        part = sample_name[len(name) + 1 :]
        if (le is not None) != (part == "bucket"):
            bad(number, f"{name}: le stands at buckets, and at each")
        elif part == "bucket":
            group["bucket"].append((number, float(le), value))
        else:
            group[part] = value
    for group in groups.values():
        bounds = [b for _, b, _ in group["bucket"]]
        counts = [c for _, _, c in group["bucket"]]
        at = samples[0][0]
        if not bounds or bounds[-1] != math.inf or bounds != sorted(set(bounds)):
            bad(at, f"{name}: bounds must rise and end at +Inf")
        if counts != sorted(counts):
            bad(at, f"{name}: buckets are cumulative")
        if group["sum"] is None or group["count"] is None or (counts and counts[-1] != group["count"]):
            bad(at, f"{name}: _sum and _count are there, and +Inf is _count")


def read(data):
    global now
    now = None
    families.clear()
    series.clear()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        sys.exit(f"promcheck: not UTF-8: {e}")
    if not text.endswith("\n"):
        bad(text.count("\n") + 1, "the last line has no end")
    for number, line in enumerate(text.split("\n")[:-1], 1):
        if line.startswith("#"):
            comment(number, line)
        else:
            sample(number, line)
    for name, (kind, number, samples) in families.items():
        if kind is None:
            bad(number, f"{name} has no TYPE")
        if kind == "histogram" and samples:
            histogram(name, [(n, s, dict(found), value) for n, s, found, value in samples])


def counts():
    """What only grows: of each series its line and value."""
    return {
        (name, tuple(sorted(found.items()))): (number, value)
        for kind, _, samples in families.values()
        for number, name, found, value in samples
        if kind in ("counter", "histogram")
    }


def main():
    data = [open(name, "rb").read() for name in sys.argv[1:]] or [sys.stdin.buffer.read()]
    before = {}
    if len(data) > 1:
        read(data[1])
        before = counts()
    read(data[0])
    after = counts()
    for key, (_, value) in before.items():
        number, since = after.get(key, (0, 0))
        if since < value:
            bad(number, f"{key[0]}{dict(key[1]) or ''} was {value:g} and is {since:g}")
    for line in wrong:
        print(f"promcheck: {line}", file=sys.stderr)
    sys.exit(1 if wrong or not families else 0)


main()
