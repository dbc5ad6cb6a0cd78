#!/usr/bin/env python3
"""A client as people write it in Python: a default ssl context, GET, and read until there is nothing more.
  tls_client.py HOW CA HOST:PORT [PATH]
get     prints "ended BYTES" of the body, or "raised NAME" (status 1)
hold    prints "up" after the handshake and goes on at SIGUSR1
half    the same after its hello, before it has answered the server's
drip    prints "begun" after the first bytes of the answer and goes on at SIGUSR1
reset   prints "up" after the handshake and resets the connection at SIGUSR1
plain, plain-reset  as hold and reset, without TLS
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


class Half:
    """The same over buffers of its own: what the server says to our hello is read when we go on."""

    def __init__(self, sock, context):
        self.sock, self.came, self.goes = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes, server_hostname=host)
        self.waited = False
        self.step(self.tls.do_handshake)

    def step(self, call, *args):
        while True:
            try:
                result = call(*args)
                self.sock.sendall(self.goes.read())
                return result
            except ssl.SSLWantReadError:
                self.sock.sendall(self.goes.read())
            if not self.waited:
                self.waited = True
                wait("up")
            data = self.sock.recv(65536)
            self.came.write(data) if data else self.came.write_eof()

    def sendall(self, data):
        self.step(self.tls.write, data)

    def recv(self, size):
        return self.step(self.tls.read, size)


def read(sock):
    got = bytearray()
    while True:
        piece = sock.recv(65536)
        if not piece:
            return len(got.partition(b"\r\n\r\n")[2])
        if not got and how == "drip":
            wait("begun")
        got += piece


request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()
try:
    tls = how not in ("plain", "plain-reset", "silent")
    context = ssl.create_default_context(cafile=ca) if tls else None
    sock = socket.create_connection((host, int(port)), timeout=30)
    if tls:
        sock = Half(sock, context) if how == "half" else context.wrap_socket(sock, server_hostname=host)
    if how in ("hold", "reset", "plain", "plain-reset"):
        wait("up")
    if how in ("reset", "plain-reset"):
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
