#!/usr/bin/env python3
"""Clients that never stop: load.py CA HOST:PORT SHORT HELD
SHORT of them connect, GET /page twice, compare and close, over and over; HELD keep one connection and ask on it, and
connect again when it is lost.  Prints "ok N" at every tenth answer.  At USR1 the short ones stop, and "held N lied M"
is printed when the others have an answer each: M answers were ended and not whole.  At TERM all is closed."""
import os, signal, socket, ssl, sys, threading

ca, address, short, held = sys.argv[1:5]
host, port = address.rsplit(":", 1)
context = ssl.create_default_context(cafile=ca)
signals = {signal.SIGUSR1, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
lock, ok, lied = threading.Lock(), 0, 0
stop, settled = threading.Event(), threading.Semaphore(0)


class Lie(Exception):
    """A clean answer that is none."""


def connect():
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=20), server_hostname=host)


def ask(sock):
    global ok
    sock.sendall(b"GET /page HTTP/1.1\r\nHost: here\r\n\r\n")
    got, want = b"", None
    while want is None or len(got) < want:
        piece = sock.recv(65536)
        if not piece:
            raise EOFError
        got += piece
        if want is None and b"\r\n\r\n" in got:
            head, _, got = got.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise Lie
            want = int(head.lower().split(b"content-length:")[1].split()[0])
    if got != bytes(range(256)) * 256:
        raise Lie
    with lock:
        ok += 1
        if ok % 10 == 0:
            print("ok", ok, flush=True)


def attempt(work):
    global lied
    try:
        with connect() as sock:
            work(sock)
    except Lie:
        with lock:
            lied += 1
    except (OSError, EOFError):
        pass


def come_and_go():
    def work(sock):
        ask(sock)
        ask(sock)
        sock.unwrap().close()
    while not stop.is_set():
        attempt(work)


def stay():
    def work(sock):
        while not stop.wait(0.05):
            ask(sock)
        ask(sock)
        settled.release()
        threading.Event().wait()
    while True:
        attempt(work)


for target, n in (come_and_go, short), (stay, held):
    threads = [threading.Thread(target=target, daemon=True) for _ in range(int(n))]
    for t in threads:
        t.start()
    if target is come_and_go:
        fleeting = threads
if signal.sigwait(signals) == signal.SIGUSR1:
    stop.set()
    for t in fleeting:
        t.join()
    for _ in range(int(held)):
        settled.acquire()
    print("held", held, "lied", lied, flush=True)
    signal.sigwait(signals)
os._exit(0)
