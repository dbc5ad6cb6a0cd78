#!/usr/bin/env python3
"""Asks a UDP echo all the time, until its standard input ends; then it waits for the answers that are still to come.

    steady.py HOST PORT [WINDOW]    WINDOW: how many questions are open at most (8)

It prints "began" at the first answer, and at the end how many were asked.  Every question has to be answered once, with its own
bytes, within --timeout seconds of the answer before; nothing is sent twice.
"""
import argparse, os, random, select, socket, sys

top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
top.add_argument("host")
top.add_argument("port", type=int)
top.add_argument("window", type=int, nargs="?", default=8)
top.add_argument("--timeout", type=float, default=20)
args = top.parse_args()

sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((args.host, args.port))
asked, waiting, began, more = 0, set(), False, True
while more or waiting:
    while more and len(waiting) < args.window:
        question = b"%d " % asked + random.randbytes(random.randint(0, 200))
        sock.send(question)
        waiting.add(question)
        asked += 1
    ready, _, _ = select.select([sock, 0] if more else [sock], [], [], args.timeout)
    if not ready:
        sys.exit(f"{len(waiting)} of {asked} questions are not answered")
    more = more and 0 not in ready
    if sock in ready:
        answer = sock.recv(65536)
        if answer not in waiting:
            sys.exit(f"{answer[:24]!r}: nobody is waiting for that")
        waiting.remove(answer)
        if not began:
            os.write(1, b"began\n")
        began = True
os.write(1, b"%d asked and answered\n" % asked)
