#!/usr/bin/env python3
"""Many clients in one process, and what happens to each.
  clients.py ADDRESS [--tls CA] [--deaf]	what to do comes on standard input, a line each:
    open N		N more, one after the other: "I connected" or "I refused"
    send A B TEXT	those from A to B say TEXT and a line feed
    close A B		they close
    end			all close, and it ends; so does the end of input
  What a client sees is printed, a line each: "I data LINE", "I closed", "I reset"; deaf ones see nothing.

  clients.py ADDRESS [--tls CA] --late [--bytes N]
    one that says N bytes and reads nothing until a line comes on standard input; then all there is: "1 read BYTES SHA256",
    or "1 reset after BYTES".  "1 stuck after BYTES" if nobody takes what it says.

  clients.py ADDRESS [--tls CA] --load WORKERS [--bytes N]
    connect, say N bytes, hear them back, end properly; again and again until TERM.  Every tenth is said ("10 done"), every
    error ("failed: WHY"), and at the end how many of both.
ADDRESS is HOST:PORT or unix:PATH.
"""
import argparse, hashlib, os, resource, select, selectors, signal, socket, ssl, sys, threading


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def connect(args):
    if args.address.startswith("unix:"):
        sock, to = socket.socket(socket.AF_UNIX), args.address[5:]
    else:
        host, _, port = args.address.rpartition(":")
        sock, to = socket.socket(), (host, int(port))
    sock.settimeout(args.timeout)
    sock.connect(to)
    return args.context.wrap_socket(sock, server_hostname="localhost") if args.context else sock


class Clients:
    def __init__(self, args):
        self.args, self.sock, self.text, self.selector = args, {}, {}, selectors.DefaultSelector()

    def open(self, n):
        for i in range(len(self.text) + 1, len(self.text) + 1 + n):
            self.text[i] = b""
            try:
                self.sock[i] = connect(self.args)
            except OSError as e:
                say(i, {ConnectionRefusedError: "refused", ConnectionResetError: "reset"}.get(type(e), f"failed: {e}"))
                continue
            if not self.args.deaf:
                self.selector.register(self.sock[i], selectors.EVENT_READ, i)
            say(i, "connected")

    def over(self, i, what):
        if not self.args.deaf:
            self.selector.unregister(self.sock[i])
        self.sock.pop(i).close()
        if what:
            say(i, what)

    def send(self, a, b, text):
        for i in [i for i in self.sock if a <= i <= b]:
            try:
                self.sock[i].sendall(text.encode() + b"\n")
            except OSError:
                self.over(i, "reset")

    def hear(self, i):
        while i in self.sock:
            try:
                data = self.sock[i].recv(65536)
            except OSError:
                return self.over(i, "reset")
            if not data:
                return self.over(i, "closed")
            *lines, self.text[i] = (self.text[i] + data).split(b"\n")
            for line in lines:
                say(i, "data", line.decode())
            if not (self.args.context and self.sock[i].pending()):
                return

    def obey(self, line):
        verb, *words = line.split()
        if verb == "open":
            self.open(int(words[0]))
        elif verb == "send":
            self.send(int(words[0]), int(words[1]), words[2])
        elif verb == "close":
            for i in [i for i in self.sock if int(words[0]) <= i <= int(words[1])]:
                self.over(i, None)
        return verb != "end"

    def run(self):
        rest, going = b"", True
        self.selector.register(0, selectors.EVENT_READ, 0)
        while going:
            for key, _ in self.selector.select():
                if key.data:
                    self.hear(key.data)
                    continue
                data = os.read(0, 65536)
                *lines, rest = (rest + data).split(b"\n")
                going = bool(data) and all([self.obey(line.decode()) for line in lines])


def late(args):
    sock, total, digest = connect(args), 0, hashlib.sha256()
    sock.settimeout(None)

    def write():
        body, poll, quiet = memoryview(bytes(args.bytes)), select.poll(), False
        poll.register(sock, select.POLLOUT)
        while body:
            if not args.context and not poll.poll(500) and not quiet:
                quiet = True
                say(1, "stuck after", args.bytes - len(body))
            body = body[sock.send(body[:65536]):]
        if not args.context:
            sock.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    if args.context:
        writer.join()  # OpenSSL does not read and write at once
    say(1, "connected")
    sys.stdin.readline()
    try:
        while data := sock.recv(1 << 20):
            total += len(data)
            digest.update(data)
        say(1, "read", total, digest.hexdigest())
    except OSError:
        say(1, "reset after", total)


def once(args, body):
    with connect(args) as sock:
        sock.sendall(body)
        if args.context:
            left = len(body)
            while left and (data := sock.recv(65536)):
                left -= len(data)
            sock.unwrap().close()  # their close_notify has to come, too
        else:
            sock.shutdown(socket.SHUT_WR)
            left = len(body)
            while data := sock.recv(65536):
                left -= len(data)
        if left:
            raise ConnectionError(f"{left} bytes are missing")


def load(args):
    stop, lock, count = threading.Event(), threading.Lock(), {"done": 0, "failed": 0}
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    body = os.urandom(args.bytes)

    def work():
        while not stop.is_set():
            try:
                once(args, body)
                what, why = "done", ""
            except OSError as e:
                what, why = "failed", f"{type(e).__name__} {e}"
            with lock:
                count[what] += 1
                if why:
                    say("failed:", why)
                elif count[what] % 10 == 0:
                    say(count[what], "done")

    workers = [threading.Thread(target=work) for _ in range(args.load)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    say("in all:", count["done"], "done,", count["failed"], "failed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--tls", metavar="CA")
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("--timeout", type=float, default=20)
    parser.add_argument("--late", action="store_true")
    parser.add_argument("--load", type=int)
    parser.add_argument("--bytes", type=int, default=1000)
    args = parser.parse_args()
    args.context = ssl.create_default_context(cafile=args.tls) if args.tls else None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load(args) if args.load else late(args) if args.late else Clients(args).run()


main()
