#!/usr/bin/env python3
"""HTTP clients that keep their connections and do as they are told.
  asker.py ADDRESS [--tls CA]	HOST:PORT; what to do comes on standard input, a line each, and what happens is printed:
    open N            N more, one after the other: "I up" after the handshake; "I refused", or "I closed", "I reset" before its end
    knock N           the same without a handshake: "I up"
    ask A B [PATH]    those from A to B ask for it (/), and read the answer: "I 200", "I lost WHY"
    say A B FILE [N]  they say what is in FILE, and N bytes more, and read nothing meanwhile: "I said"
    read A B N        they read N bytes: "I read N"; they are in the file rest.I
    rest A B          they read to the end: "I rest BYTES HOW", where HOW is ended, bare (no close_notify), failed (an alert says
                      that it was cut) or reset; what they read is in the file rest.I
    work A B          from now on they ask for /, one after the other, again and again: "round N", "I lost WHY"
    visit PATH        the same, but one client who connects anew for each question: "round N", "0 lost WHY"
    idle              not any more: "worked N rounds, LOST lost, MS ms at most"
    close A B         they end: close_notify and FIN
    end               all do; so does the end of input
"""
import argparse, http.client, os, resource, socket, ssl, threading, time


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Askers:
    def __init__(self, args):
        self.args, self.sock, self.n, self.stop, self.worker = args, {}, 0, None, None
        host, _, port = args.address.rpartition(":")
        self.to = host, int(port)
        self.context = ssl.create_default_context(cafile=args.tls) if args.tls else None

    def connect(self, shake):
        sock = socket.create_connection(self.to, timeout=60)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not (self.context and shake):
            return sock
        return self.context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)

    def open(self, n, shake=True):
        for self.n in range(self.n + 1, self.n + 1 + int(n)):
            try:
                self.sock[self.n] = self.connect(shake)
                say(self.n, "up")
            except ConnectionRefusedError:
                say(self.n, "refused")
            except ConnectionResetError:
                say(self.n, "reset")
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                say(self.n, "closed")

    def knock(self, n):
        self.open(n, False)

    def those(self, a, b):
        return [(i, self.sock[i]) for i in sorted(self.sock) if int(a) <= i <= int(b)]

    def write(self, i, sock, path):
        try:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        except OSError as e:
            say(i, "lost", type(e).__name__, e)
            return False
        return True

    def heard(self, i, sock):
        """The status; None: it is lost."""
        answer = http.client.HTTPResponse(sock)
        try:
            answer.begin()
            answer.read()
        except (OSError, http.client.HTTPException) as e:
            say(i, "lost", type(e).__name__, e)
            return None
        return answer.status

    def ask(self, a, b, path="/"):
        those = [(i, sock) for i, sock in self.those(a, b) if self.write(i, sock, path)]
        for i, sock in those:
            status = self.heard(i, sock)
            if status:
                say(i, status)

    def say(self, a, b, file, more=0):
        with open(file, "rb") as f:
            data = f.read()
        for i, sock in self.those(a, b):
            sock.sendall(data)
            if int(more):
                sock.sendall(bytes(int(more)))
            say(i, "said")

    def rest(self, a, b):
        for i, sock in self.those(a, b):
            got, how = b"", "ended"
            try:
                while data := sock.recv(65536):
                    got += data
            except ssl.SSLEOFError:
                how = "bare"
            except ConnectionResetError:
                how = "reset"
            except ssl.SSLError:
                how = "failed"
            with open(f"rest.{i}", "wb") as f:
                f.write(got)
            say(i, "rest", len(got), how)

    def read(self, a, b, n):
        for i, sock in self.those(a, b):
            got = b""
            while len(got) < int(n) and (data := sock.recv(int(n) - len(got))):
                got += data
            with open(f"rest.{i}", "wb") as f:
                f.write(got)
            say(i, "read", len(got))

    def visitor(self, path):
        with self.connect(True) as sock:
            return self.heard(0, sock) if self.write(0, sock, path) else None

    def asks(self, i, sock):
        return self.heard(i, sock) if self.write(i, sock, "/") else None

    def working(self, questions):
        """Each of them, by client, gives a status, or None where it has said that it is lost."""
        rounds, lost, longest = 0, 0, 0
        while not self.stop.is_set():
            for i, question in list(questions.items()):
                began = time.monotonic()
                try:
                    status = question()
                except OSError as e:
                    status = say(i, "lost", type(e).__name__, e)
                longest = max(longest, time.monotonic() - began)
                if status not in (None, 200):
                    say(i, "lost to", status)
                if status != 200:
                    lost += 1
                    del questions[i]
            rounds += 1
            say("round", rounds)
            self.stop.wait(0.02)
        say("worked", rounds, "rounds,", lost, "lost,", int(longest * 1000), "ms at most")

    def begin(self, questions):
        self.stop = threading.Event()
        self.worker = threading.Thread(target=self.working, args=(questions,), daemon=True)
        self.worker.start()

    def work(self, a, b):
        self.begin({i: lambda i=i, sock=sock: self.asks(i, sock) for i, sock in self.those(a, b)})

    def visit(self, path):
        self.begin({0: lambda: self.visitor(path)})

    def idle(self):
        if self.worker:
            self.stop.set()
            self.worker.join()
            self.worker = None

    def close(self, a, b):
        for i, sock in self.those(a, b):
            try:
                if self.context and isinstance(sock, ssl.SSLSocket):
                    sock = sock.unwrap()
            except OSError:
                pass
            sock.close()
            del self.sock[i]

    def run(self):
        rest, going = b"", True
        while going and (data := os.read(0, 65536)):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                verb, *words = line.decode().split()
                if verb == "end":
                    going = False
                    break
                getattr(self, verb)(*words)
        self.idle()
        self.close(1, self.n)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--tls", metavar="CA")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Askers(parser.parse_args()).run()


main()
