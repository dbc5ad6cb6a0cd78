#!/usr/bin/env python3
"""A UDP service that answers as it is told, until it is killed.

    answers.py HOST PORT [RULE]     RULE: echo (the default), none, first:N (an echo of the first N), times:N (N answers to each)

It prints HOST:PORT, then with --say "IP PORT LENGTH" of each question.  --at-once N: it says nothing before N questions came.
"""
import argparse, os, socket

top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
top.add_argument("host")
top.add_argument("port", type=int)
top.add_argument("rule", nargs="?", default="echo")
top.add_argument("--say", action="store_true")
top.add_argument("--at-once", type=int, default=0, metavar="N")
args = top.parse_args()

family, address = socket.getaddrinfo(args.host, args.port, type=socket.SOCK_DGRAM)[0][::4]
sock = socket.socket(family, socket.SOCK_DGRAM)
for option in (33, socket.SO_RCVBUF):  # SO_RCVBUFFORCE, for who may
    try:
        sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
    except PermissionError:
        pass
sock.bind(address)
host, port = sock.getsockname()[:2]
os.write(1, (f"[{host}]:{port}\n" if ":" in host else f"{host}:{port}\n").encode())

what, _, number = args.rule.partition(":")
asked, kept = 0, []
while True:
    question, peer = sock.recvfrom(65536)
    asked += 1
    if args.say:
        os.write(1, f"{peer[0]} {peer[1]} {len(question)}\n".encode())
    kept.append((question, peer))
    if asked < args.at_once:
        continue
    for question, peer in kept:
        if what == "echo" or (what == "first" and asked <= int(number)):
            sock.sendto(question, peer)
        for i in range(int(number) if what == "times" else 0):
            sock.sendto(b"%d of " % (i + 1) + question, peer)
    kept = []
