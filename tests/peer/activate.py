#!/usr/bin/env python3
"""Starts a program the way a supervisor does that has bound its sockets for it (sd_listen_fds(3)).
  activate.py [--pid N] [--names A:B] [--count N] [--kind stream|seqpacket|dgram] [--bound] ADDRESS... -- COMMAND [ARG...]
ADDRESS is HOST:PORT or unix:PATH.  The sockets are 3, 4 and so on, blocking as systemd leaves them; where they listen
is written into the file `activated`, a line each.  --pid and --count tell a lie; --bound leaves listen(2) out."""
import argparse, os, socket, sys


def listener(address, args):
    kind = getattr(socket, "SOCK_" + args.kind.upper())
    if address.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.bind(address[5:])
    else:
        host, _, port = address.rpartition(":")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
        sock.bind((host.strip("[]"), int(port)))
    if kind != socket.SOCK_DGRAM and not args.bound:
        sock.listen(64)
    return sock


def main():
    at = sys.argv.index("--")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="+")
    parser.add_argument("--pid", type=int, default=os.getpid())
    parser.add_argument("--count", type=int)
    parser.add_argument("--names")
    parser.add_argument("--kind", default="stream")
    parser.add_argument("--bound", action="store_true")
    args = parser.parse_args(sys.argv[1:at])
    socks = [listener(address, args) for address in args.address]
    with open("activated", "w") as f:
        for sock in socks:
            name = sock.getsockname()
            print(name if isinstance(name, str) else "%s:%d" % name[:2], file=f)
    high = [os.dup2(sock.fileno(), 100 + i, False) for i, sock in enumerate(socks)]
    for i, fd in enumerate(high):
        os.dup2(fd, 3 + i, True)
        os.close(fd)
    os.environ.update(LISTEN_PID=str(args.pid), LISTEN_FDS=str(len(socks) if args.count is None else args.count))
    if args.names is not None:
        os.environ["LISTEN_FDNAMES"] = args.names
    os.execvp(sys.argv[at + 1], sys.argv[at + 1:])


if __name__ == "__main__":
    main()
