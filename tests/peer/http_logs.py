#!/usr/bin/env python3
"""What a guard says it has passed on, and what nginx says it was asked, is the same, in the same order.

    http_logs.py ACCESS NGINX		lines of JSON: --access-log, and {"connection":N,"n":N,"request":LINE,"status":N}

What the guard refused nginx has not seen, or, of a request that was refused in its body, the beginning: then it is none for
nginx, either (400, 499).  Long lines are shortened in the one log, and so compared as far as that goes.  Prints how many
were whole."""
import json, sys

SHOWN = 2000


def load(path):
    with open(path, encoding="utf-8", errors="surrogateescape") as f:
        return [json.loads(line) for line in f]


def order(conn):
    return int(conn.rpartition("#")[2])


guard = [g for g in load(sys.argv[1]) if "method" in g]
guard.sort(key=lambda g: order(g["conn"]))  # a connection's own are in order
nginx = sorted(load(sys.argv[2]), key=lambda n: (n["connection"], n["n"]))
whole = at = 0
for g in guard:
    line = f"{g['method']} {g['target']} {g['protocol']}"
    n = nginx[at] if at < len(nginx) else {"request": "nothing", "status": 0}
    refused = g["cut"] or g["status"] in (400, 413, 417, 431, 501)
    same = n["request"][:SHOWN] == line[:SHOWN]
    if same and n["status"] == g["status"]:
        whole, at = whole + 1, at + 1
    elif same and refused and n["status"] in (400, 499):
        at += 1
    elif not refused:
        sys.exit(f"{g['conn']}: passed on was {line[:300]} ({g['status']}), seen was {n}")
if at < len(nginx):
    sys.exit(f"nobody passed on {nginx[at:]}")
print(whole, "requests")
