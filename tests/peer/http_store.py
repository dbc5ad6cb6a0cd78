#!/usr/bin/env python3
"""http_store - a small HTTP/1.1 server that keeps what is PUT and gives it back.

usage: http_store.py DIR [ADDRESS]        ADDRESS is HOST:PORT or unix:PATH; port 0 is the default

Prints "HOST:PORT" when it listens.  Standard error is its journal, one line a request:

    GET /x 200 5                  answered, so many bytes of body
    PUT /x stored 104857600       arrived whole
    PUT /x ended 512 of 1000      the client's end of stream came in the middle: a clean end, too early
    PUT /x reset 512 of 1000      the connection was reset in the middle
    idle reset, idle ended        the connection ended between requests
"""
import http.server
import os
import socket
import socketserver
import sys
import urllib.parse

CHUNK = 256 * 1024


class Store(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 64 * 1024

    def path_of(self):
        name = urllib.parse.unquote(self.path.split("?")[0]).lstrip("/") or "index.html"
        path = os.path.normpath(os.path.join(self.server.root, name))
        return path if path.startswith(self.server.root + os.sep) else None

    def journal(self, *words):
        os.write(2, (" ".join(str(w) for w in words) + "\n").encode())

    def handle_one_request(self):
        try:
            self.raw_requestline = self.rfile.readline(65537)
        except ConnectionResetError:
            self.journal("idle reset")
            self.close_connection = True
            return
        if not self.raw_requestline:
            self.journal("idle ended")
            self.close_connection = True
            return
        if not self.parse_request():
            return
        try:
            {"GET": self.get, "HEAD": self.get, "PUT": self.put, "DELETE": self.delete}.get(
                self.command, self.unknown)()
            self.wfile.flush()
        except (ConnectionResetError, BrokenPipeError):
            self.journal(self.command, self.path, "answer reset")
            self.close_connection = True

    def unknown(self):
        self.answer(501, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def get(self):
        try:
            with open(self.path_of() or "", "rb") as f:
                size = os.fstat(f.fileno()).st_size
                self.send_response(200)
                self.send_header("Content-Type", "application/octet-stream")
                self.send_header("Content-Length", str(size))
                self.end_headers()
                self.wfile.flush()
                if self.command == "GET":
                    self.connection.sendfile(f)
            self.journal(self.command, self.path, 200, size)
        except (FileNotFoundError, IsADirectoryError):
            self.answer(404, b"not here\n")
            self.journal(self.command, self.path, 404)

    def body(self):
        """Yields the pieces of the body; sets self.want (None if chunked)."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            self.want = None
            while True:
                line = self.rfile.readline(1024)
                if not line.endswith(b"\n"):
                    raise EOFError
                left = int(line.split(b";")[0], 16)
                last = left == 0
                while left:
                    piece = self.rfile.read1(min(left, CHUNK))
                    if not piece:
                        raise EOFError
                    left -= len(piece)
                    yield piece
                if not self.rfile.readline(1024).endswith(b"\n"):
                    raise EOFError
                if last:
                    return
        self.want = left = int(self.headers.get("Content-Length", "0"))
        while left:
            piece = self.rfile.read1(min(left, CHUNK))
            if not piece:
                raise EOFError
            left -= len(piece)
            yield piece

    def put(self):
        path = self.path_of()
        got = 0
        self.want = None
        if "100-continue" in self.headers.get("Expect", "").lower():
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        part = "%s.%d.part" % (path, self.connection.fileno())
        try:
            with open(part, "wb", buffering=0) as f:
                for piece in self.body():
                    f.write(piece)
                    got += len(piece)
            os.rename(part, path)
            self.answer(201, b"")
            self.journal("PUT", self.path, "stored", got)
        except EOFError:
            self.journal("PUT", self.path, "ended", got, "of", self.want)
            self.close_connection = True
        except ConnectionResetError:
            self.journal("PUT", self.path, "reset", got, "of", self.want)
            self.close_connection = True

    def delete(self):
        try:
            os.unlink(self.path_of() or "")
            self.answer(200, b"")
        except FileNotFoundError:
            self.answer(404, b"not here\n")

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request, client_address):
        os.write(2, ("error %r\n" % (sys.exc_info()[1],)).encode())


def main():
    root = os.path.abspath(sys.argv[1])
    where = sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:0"
    if where.startswith("unix:"):
        Server.address_family = socket.AF_UNIX
        address, name = where[5:], where
        Store.address_string = lambda self: "local"
    else:
        host, port = where.rsplit(":", 1)
        host = host.strip("[]")
        Server.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        address, name = (host, int(port)), None
    with Server(address, Store) as server:
        server.root = root
        if name is None:
            host, port = server.server_address[:2]
            name = "%s:%d" % ("[%s]" % host if ":" in host else host, port)
        print(name, flush=True)
        server.serve_forever()


main()
