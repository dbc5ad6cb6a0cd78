#!/usr/bin/env python3
"""A TCP server that does what it is told, one connection after another, and then ends.
  scripted.py ADDRESS CONNECTION...
ADDRESS is HOST:PORT or unix:PATH; where it listens is printed first.  A CONNECTION is one word of steps:
  read:N    reads N bytes		all       reads to the end of stream
  say:TEXT  writes it			fin       ends its own direction
  close     ends the connection		reset     cuts it
  wait      until SIGUSR1		gone      closes the listening socket, for good
  stuck     until the other side has written what we have no room for
separated by commas.  After each the bytes it got are printed: "1 got 5 'hello'", or only their number where they are
many, and "1 reset" where the other side cut it.  With --into FILE all that was read is written there, too.
"""
import argparse, signal, socket, struct, sys, time

RESET = struct.pack("ii", 1, 0)


def say(*words):
    print(*words, flush=True)


def unsent(sock):
    """How much of what the other side has written is not acknowledged, in its own kernel."""
    def key(at):
        return "%08X:%04X" % (struct.unpack("=I", socket.inet_aton(at[0]))[0], at[1])
    pair = [key(sock.getpeername()), key(sock.getsockname())]
    for line in open("/proc/net/tcp"):
        words = line.split()
        if words[1:3] == pair:
            return int(words[4].split(":")[0], 16)
    return 0


def stuck(sock):
    """The same bytes wait, longer than an acknowledgement may be late."""
    before, looks = 0, 0
    while looks < 10:
        time.sleep(0.05)
        now = unsent(sock)
        looks = looks + 1 if now and now == before else 0
        before = now


def step(sock, server, word, got):
    verb, _, arg = word.partition(":")
    if verb == "read":
        while len(got) < int(arg) and (data := sock.recv(min(65536, int(arg) - len(got)))):
            got += data
    elif verb == "all":
        while data := sock.recv(65536):
            got += data
    elif verb == "say":
        sock.sendall(arg.encode())
    elif verb == "fin":
        sock.shutdown(socket.SHUT_WR)
    elif verb == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    elif verb == "close":
        sock.close()
    elif verb == "wait":
        signal.sigwait([signal.SIGUSR1])
    elif verb == "stuck":
        stuck(sock)
    elif verb == "gone":
        server.close()
    else:
        sys.exit(f"scripted.py: no such step: {word}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("connection", nargs="+")
    parser.add_argument("--into")
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    if args.address.startswith("unix:"):
        server = socket.socket(socket.AF_UNIX)
        server.bind(args.address[5:])
        server.listen()
        say(args.address)
    else:
        host, _, port = args.address.rpartition(":")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host.strip("[]"), int(port)), family=family)
        say("[%s]:%d" % server.getsockname()[:2] if family == socket.AF_INET6 else "%s:%d" % server.getsockname())
    into = open(args.into, "wb") if args.into else None
    for n, script in enumerate(args.connection, 1):
        sock, got = server.accept()[0], bytearray()
        say(n, "accepted")
        try:
            for word in script.split(","):
                step(sock, server, word, got)
        except OSError as e:
            say(n, "reset" if isinstance(e, (ConnectionResetError, BrokenPipeError)) else e)
        say(n, "got", len(got), repr(got.decode("latin-1")) if len(got) <= 100 else "")
        if into:
            into.write(got)
            into.flush()
        sock.close()


if __name__ == "__main__":
    main()
