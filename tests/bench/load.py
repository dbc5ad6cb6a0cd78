#!/usr/bin/env python3
"""load - what run.sh drives the tools with: "backend BYTES" prints the ports of three servers (echo, source of BYTES,
sink); "WHAT PORT plain|tls N" is a client: connect N times, 64 bytes and back on each; N bytes down, or up, on each
of 4 connections; rtt: N times 64 bytes and back over 64 connections."""
import contextlib, socket, ssl, sys, threading

WIDE = {"connect": 16, "down": 4, "up": 4, "rtt": 64}
CHUNK = bytes(1 << 17)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
tls.set_ecdh_curve("prime256v1")  # which everybody has: no second hello


def spawn(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def pour(sock, size):
    for at in range(0, size, len(CHUNK)):
        sock.sendall(CHUNK[:size - at])


def drain(sock, answer=False):
    got = 0
    while data := sock.recv(len(CHUNK)):
        got += len(data)
        if answer:
            sock.sendall(data)
    return got


def serve(server, one):
    def session(sock):
        with contextlib.suppress(OSError), sock:  # some peers end with a reset
            one(sock)

    while True:
        spawn(session, server.accept()[0])


def run(what, port, kind, n):
    sock = None
    for _ in range(n if what in ("connect", "rtt") else 1):
        if not sock or what == "connect":
            sock = socket.create_connection(("127.0.0.1", int(port)), timeout=60)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = tls.wrap_socket(sock) if kind == "tls" else sock
        if what in ("connect", "rtt"):
            pour(sock, 64)
            assert len(sock.recv(64)) == 64
    if what == "down":
        assert drain(sock) == n
    elif what == "up":
        pour(sock, n)
        (sock.unwrap() if kind == "tls" else sock).shutdown(socket.SHUT_WR)
        assert not sock.recv(1)


what, *rest, n = sys.argv[1:]
if what == "backend":
    servers = [socket.create_server(("127.0.0.1", 0), backlog=1024) for _ in range(3)]
    for server, one in zip(servers, (lambda s: drain(s, True), lambda s: pour(s, int(n)), drain)):
        spawn(serve, server, one)
    print(*(server.getsockname()[1] for server in servers), flush=True)
    threading.Event().wait()
n = int(n) // WIDE[what] if what in ("connect", "rtt") else int(n)
for thread in [spawn(run, what, *rest, n) for _ in range(WIDE[what])]:
    thread.join()
