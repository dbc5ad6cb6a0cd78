#!/usr/bin/env python3
"""An HTTP/1 server that answers 200 to each request when that is whole, and keeps every byte that came.

    http_backend.py [ADDRESS]		HOST:PORT, port 0 is the default; prints it

GET /records is answered when all connections before it have ended: a JSON list of what each of them said (base64) and how
many requests that were; it is empty afterwards."""
import base64, json, socketserver, sys, threading

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from http1 import LIMIT, Request, Wrong

ENDED = threading.Condition()
OPEN, RECORDS = set(), []


def records(me):
    with ENDED:
        ENDED.wait_for(lambda: not any(n < me for n in OPEN), LIMIT)
        said = json.dumps([{"bytes": base64.b64encode(data).decode(), "requests": n} for data, n in RECORDS if data])
        RECORDS.clear()
    return said.encode()


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.said, self.n, self.read = bytearray(), 0, 0
        try:
            while data := self.request.recv(65536):
                self.said += data
                if not self.answers():
                    break
        except (ConnectionError, Wrong):
            pass

    def answers(self):
        while self.said.find(b"\r\n\r\n", self.read) >= 0:
            request = Request(bytes(self.said), self.read)
            if not request.whole:
                if request.all("expect") and len(self.said) == request.head:
                    self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                break
            self.read, self.n = request.end, self.n + 1
            body = records(self.server.numbers[self.request]) if request.target == "/records" else b"ok\n"
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n"
            head += "" if request.keep else "Connection: close\r\n"
            head += "" if request.minor or not request.keep else "Connection: keep-alive\r\n"
            self.request.sendall(head.encode() + b"\r\n" + (b"" if request.method == "HEAD" else body))
            if not request.keep:
                return False
        return True

    def finish(self):
        with ENDED:
            if b"GET /records " not in self.said:
                RECORDS.append((bytes(self.said), self.n))
            OPEN.discard(self.server.numbers.pop(self.request))
            ENDED.notify_all()


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    request_queue_size = 1024
    numbers, accepted = {}, 0

    def get_request(self):
        sock, peer = super().get_request()
        with ENDED:
            self.accepted += 1
            self.numbers[sock] = self.accepted
            OPEN.add(self.accepted)
        return sock, peer


def main(where="127.0.0.1:0"):
    host, _, port = where.rpartition(":")
    with Server((host, int(port)), Handler) as server:
        print("%s:%d" % server.server_address, flush=True)
        server.serve_forever()


main(*sys.argv[1:])
