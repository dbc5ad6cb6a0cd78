#!/usr/bin/env python3
"""A producer that hands on one connection with a poisoned environment: planter.py NAME NAME=VALUE...
The connection is one end of a pair; what comes back on the other is printed."""
import socket, sys

sys.dont_write_bytecode = True
from link import open_link

link, _ = open_link(sys.argv[1], "producer", "")
while link.recv(10).verb != "ready":
    pass
ours, theirs = socket.socketpair()
link.conn(1, dict(pair.split("=", 1) for pair in sys.argv[2:]), theirs.detach())
link.eof(1)
ours.shutdown(socket.SHUT_WR)
for line in ours.makefile(errors="surrogateescape"):
    print(line, end="", flush=True)
