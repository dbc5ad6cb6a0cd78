#!/usr/bin/env python3
"""load - what run.sh drives the tools with: "backend BYTES" prints the ports of three servers (echo, source of BYTES,
sink); "WHAT PORT plain|tls N" is a client: connect N times, 64 bytes and back on each; N bytes down, or up, on each
of 4 connections; rtt: N times 64 bytes and back over 64 connections."""
import selectors, socket, ssl, sys, threading

CHUNK = bytes(1 << 17)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
tls.set_ecdh_curve("prime256v1")  # which everybody has: no second hello


def spawn(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def serve(how, size):
    server = socket.create_server(("127.0.0.1", 0), backlog=1024)

    def one(sock):
        for at in range(0, size if how == "source" else 0, len(CHUNK)):
            sock.sendall(CHUNK[:size - at])
        while how != "source" and (data := sock.recv(1 << 17)):
            if how == "echo":
                sock.sendall(data)
        sock.close()

    def forever():
        while True:
            spawn(one, server.accept()[0])

    spawn(forever)
    return server.getsockname()[1]


def client():
    sock = socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return tls.wrap_socket(sock) if sys.argv[3] == "tls" else sock


def connect(n):
    for _ in range(n):
        with client() as sock:
            sock.sendall(bytes(64))
            assert len(sock.recv(64)) == 64


def down(n):
    sock, got = client(), 0
    while data := sock.recv(1 << 17):
        got += len(data)
    assert got == n


def up(n):
    sock = client()
    for at in range(0, n, len(CHUNK)):
        sock.sendall(CHUNK[:n - at])
    (sock.unwrap() if sys.argv[3] == "tls" else sock).shutdown(socket.SHUT_WR)
    assert not sock.recv(1)


def rtt(n):
    selector = selectors.DefaultSelector()
    for _ in range(64):
        sock = client()
        selector.register(sock, selectors.EVENT_READ)
        sock.sendall(bytes(64))
    while n > 0:
        for key, _ in selector.select():
            assert len(key.fileobj.recv(64)) == 64
            key.fileobj.sendall(bytes(64))
            n -= 1


if sys.argv[1] == "backend":
    print(*(serve(how, int(sys.argv[2])) for how in ("echo", "source", "sink")), flush=True)
    threading.Event().wait()
wide = {"connect": 16, "down": 4, "up": 4, "rtt": 1}[sys.argv[1]]
n = int(sys.argv[4]) // (wide if sys.argv[1] == "connect" else 1)
for thread in [spawn(globals()[sys.argv[1]], n) for _ in range(wide)]:
    thread.join()
