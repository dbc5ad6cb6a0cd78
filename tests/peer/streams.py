#!/usr/bin/env python3
"""Clients of an echo over TLS that never rest, and compare every byte.

    streams.py CA HOST:PORT N [--short]

Each of N says random blocks of up to 32 KiB, and compares what comes back; with --short each block is said on a connection
of its own, which ends with close_notify both ways.  What happens is printed, a line each: "I up", "I round 10" (every
tenth), "I lost WHY", "I wrong".  Who was lost, or was told something wrong, is no more; with --short it goes on.  At TERM
all end properly, "I done ROUNDS", and then it ends: with 0 if there was neither."""
import os, random, signal, socket, ssl, sys, threading

ca, address, number = sys.argv[1:4]
short = sys.argv[4:] == ["--short"]
host, port = address.rsplit(":", 1)
context = ssl.create_default_context(cafile=ca)
stop, bad = threading.Event(), []


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def fail(i, *words):
    bad.append(i)
    say(i, *words)


def connect():
    return context.wrap_socket(socket.create_connection((host, int(port)), timeout=30), server_hostname=host)


def one_round(sock):
    """Whether what came back is what was said."""
    block, back = os.urandom(random.randrange(1, 32768)), b""
    sock.sendall(block)
    while len(back) < len(block):
        piece = sock.recv(65536)
        if not piece:
            raise EOFError("a clean end")
        back += piece
    return back == block


def end(sock):
    sock.unwrap().close()  # their close_notify has to come, too


def rounds(i):
    n, sock = 0, None
    while not stop.wait(0.01):
        if not sock:
            sock = connect()
            if n == 0:
                say(i, "up")
        if not one_round(sock):
            return fail(i, "wrong")
        n += 1
        if n % 10 == 0:
            say(i, "round", n)
        if short:
            end(sock)
            sock = None
    if sock:
        end(sock)
    say(i, "done", n)


def run(i):
    while True:
        try:
            return rounds(i)
        except (OSError, EOFError) as e:
            fail(i, "lost", type(e).__name__, e)
        if not short or stop.is_set():
            return


signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
threads = [threading.Thread(target=run, args=(i,)) for i in range(1, int(number) + 1)]
for thread in threads:
    thread.start()
signal.sigwait([signal.SIGTERM])
stop.set()
for thread in threads:
    thread.join()
sys.exit(bool(bad))
