#!/usr/bin/env python3
"""A TLS server that does what it is told, one connection after another, and then ends.
  tls_server.py [OPTION...] CERT KEY CONNECTION...
Its address, of 127.0.0.1, is printed first.  A CONNECTION is one word of steps, after the handshake:
  all       reads to the end of stream         read:N    reads until it has N bytes
  say:TEXT  writes it                          give:N    writes N bytes of noise
  echo      writes what it reads, to the end   bye       close_notify
  half      half a record                      fin       ends the TCP stream, without a word
  close     closes the connection              reset     cuts it
  wait      until USR1, or more of them        gone      until the client has closed
separated by commas.  For each are printed "N up VERSION sni=NAME alpn=NAME client=CN", or "N failed REASON" and no more,
at its end "N got BYTES SHA256 HOW gave BYTES SHA256": HOW is close_notify, eof, reset, or open.
"""
import argparse, hashlib, random, signal, socket, ssl, struct, sys

RESET = struct.pack("ii", 1, 0)


def say(*words):
    print(*words, flush=True)


class Connection:
    def __init__(self, sock, context):
        self.sock, self.came, self.goes = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what comes before a reset goes at once
        self.tls = context.wrap_bio(self.came, self.goes, server_side=True)
        self.got, self.gave, self.n_got, self.n_gave = hashlib.sha256(), hashlib.sha256(), 0, 0
        self.how = "open"

    def flush(self):
        if data := self.goes.read():
            self.sock.sendall(data)

    def call(self, function, *args):
        """Until it is done; what lies in the socket is read as it asks for it."""
        while True:
            try:
                return function(*args)
            except ssl.SSLWantReadError:
                self.flush()
            if data := self.sock.recv(65536):
                self.came.write(data)
            else:
                self.came.write_eof()

    def shake(self):
        try:
            self.call(self.tls.do_handshake)
        finally:
            self.flush()

    def read(self, most):
        try:
            data = self.call(self.tls.read, min(most, 65536))
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as e:
            data, self.how = b"", "eof" if isinstance(e, ssl.SSLEOFError) else "close_notify"
        if not data and self.how == "open":
            self.how = "close_notify"
        self.got.update(data)
        self.n_got += len(data)
        return data

    def write(self, data):
        for at in range(0, len(data), 65536):
            self.tls.write(data[at:at + 65536])
            self.flush()
        self.gave.update(data)
        self.n_gave += len(data)

    def bye(self):
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self.flush()

    def step(self, word):
        verb, _, arg = word.partition(":")
        if verb in ("all", "echo"):
            while data := self.read(65536):
                if verb == "echo":
                    self.write(data)
        elif verb == "read":
            while self.n_got < int(arg) and self.read(int(arg) - self.n_got):
                pass
        elif verb == "say":
            self.write(arg.encode())
        elif verb == "give":
            self.write(random.Random(int(arg)).randbytes(int(arg)))
        elif verb == "bye":
            self.bye()
        elif verb == "half":
            self.tls.write(b"never to be seen")
            record = self.goes.read()
            self.sock.sendall(record[:len(record) // 2])
        elif verb == "fin":
            self.sock.shutdown(socket.SHUT_WR)
        elif verb == "close":
            self.sock.close()
        elif verb == "reset":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.sock.close()
        elif verb == "wait":
            signal.sigwait([signal.SIGUSR1])
        elif verb == "gone":
            while self.sock.recv(65536):
                pass
        else:
            sys.exit(f"tls_server.py: no such step: {word}")


def common_name(certificate):
    return dict(pair[0] for pair in (certificate or {}).get("subject", ())).get("commonName", "-")


def serve(n, sock, context, script, asked):
    c = Connection(sock, context)
    asked.clear()
    try:
        c.shake()
    except (ssl.SSLError, OSError) as e:
        say(n, "failed", getattr(e, "reason", None) or e)
        sock.close()
        return
    say(n, "up", c.tls.version(), f"sni={(asked or ['-'])[0]}", f"alpn={c.tls.selected_alpn_protocol() or '-'}",
        f"client={common_name(c.tls.getpeercert())}")
    try:
        for word in script.split(","):
            c.step(word)
    except OSError as e:
        c.how = "reset" if isinstance(e, (ConnectionResetError, BrokenPipeError)) else str(e)
    say(n, "got", c.n_got, c.got.hexdigest(), c.how, "gave", c.n_gave, c.gave.hexdigest())
    sock.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--min", "--max", "--alpn", "--ciphers", "--curve", "--client-ca", "--keylog"):
        parser.add_argument(option)
    parser.add_argument("cert")
    parser.add_argument("key")
    parser.add_argument("connection", nargs="+")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # an end without close_notify is told apart
    context.load_cert_chain(args.cert, args.key)
    if args.min:
        context.minimum_version = ssl.TLSVersion["TLSv" + args.min.replace(".", "_")]
    if args.max:
        context.maximum_version = ssl.TLSVersion["TLSv" + args.max.replace(".", "_")]
    if args.alpn:
        context.set_alpn_protocols(args.alpn.split(","))
    if args.ciphers:
        context.set_ciphers(args.ciphers)
    if args.curve:
        context.set_ecdh_curve(args.curve)
    if args.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(args.client_ca)
    if args.keylog:
        context.keylog_filename = args.keylog
    asked = []
    context.sni_callback = lambda tls, name, context: asked.append(name) if name else None
    with socket.create_server(("127.0.0.1", 0)) as server:
        say("127.0.0.1:%d" % server.getsockname()[1])
        for n, script in enumerate(args.connection, 1):
            serve(n, server.accept()[0], context, script, asked)


if __name__ == "__main__":
    main()
