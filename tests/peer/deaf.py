#!/usr/bin/env python3
"""Listens on 127.0.0.1 and answers no SYN: its backlog is full.  Prints its address; at SIGUSR1 it accepts all
that comes and closes it."""
import signal, socket

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(0)
full = []
while True:  # until one of ours is left without an answer
    sock = socket.socket()
    sock.settimeout(0.3)
    full.append(sock)
    try:
        sock.connect(server.getsockname())
    except TimeoutError:
        break
print("%s:%d" % server.getsockname(), flush=True)
signal.sigwait([signal.SIGUSR1])
while True:
    server.accept()[0].close()
