#!/usr/bin/env python3
"""A client as people write it in Python: a default ssl context, GET, and read until there is nothing more.
  tls_client.py HOW CA HOST:PORT [PATH]
get     prints "ended BYTES" of the body, or "raised NAME" (status 1)
hold    prints "up" after the handshake and goes on at SIGUSR1
half    the same after its hello, before it has answered the server's
drip    prints "begun" after the first bytes of the answer and goes on at SIGUSR1
reset   prints "up" after the handshake and resets the connection at SIGUSR1
plain   as hold, without TLS
silent  connects, says nothing, and prints what it reads: "ended BYTES" or "raised NAME"
"""
import signal, socket, ssl, struct, sys

how, ca, address, path = (sys.argv + ["/"])[1:5]
host, port = address.rsplit(":", 1)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])


def say(*words):
    print(*words, flush=True)


def wait(word):
    say(word)
    signal.sigwait([signal.SIGUSR1])


def half(sock):
    """A handshake whose second flight waits."""
    sock.setblocking(False)
    try:
        sock.do_handshake()
    except ssl.SSLWantReadError:
        wait("up")
    sock.setblocking(True)
    sock.do_handshake()


def read(sock):
    got = b""
    while True:
        piece = sock.recv(65536)
        if not piece:
            return len(got.partition(b"\r\n\r\n")[2])
        if not got and how == "drip":
            wait("begun")
        got += piece


request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
try:
    sock = socket.create_connection((host, int(port)), timeout=30)
    if how not in ("plain", "silent"):
        context = ssl.create_default_context(cafile=ca)
        sock = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=how != "half")
    if how == "half":
        half(sock)
    if how in ("hold", "reset", "plain"):
        wait("up")
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        say("reset")
        sys.exit(0)
    if how != "silent":
        sock.sendall(request)
    say("ended", read(sock))
except OSError as e:
    say("raised", type(e).__name__, e)
    sys.exit(1)
