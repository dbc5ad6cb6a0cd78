#!/usr/bin/env python3
"""Clients that take and do not give: N of them connect, say as much as is taken, and never read.
  greedy.py ADDRESS N [--tls CA] [--bytes M]
Each says M bytes at most (no limit; 0: nothing).  Prints "up N" when all are connected, "stuck BYTES" when a while nobody takes
any more of it (from then on they go on offering), and "lost I" for each that was cut.  They leave when it is ended."""
import argparse, os, resource, select, socket, ssl

PIECE = bytes(16384)
WHILE = 0.5


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def connect(args, context):
    host, _, port = args.address.rpartition(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # what the kernel holds is not what is asked about
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    sock.connect((host, int(port)))
    return context.wrap_socket(sock, server_hostname="localhost") if context else sock


def offer(sock, left):
    """How many bytes were taken; None: it was cut."""
    try:
        return sock.send(PIECE[:left])
    except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
        return 0
    except OSError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("n", type=int)
    parser.add_argument("--tls", metavar="CA")
    parser.add_argument("--bytes", type=int, default=1 << 40)
    args = parser.parse_args()
    context = ssl.create_default_context(cafile=args.tls) if args.tls else None
    if context:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_ecdh_curve("prime256v1")  # which everybody has: no second hello
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients, poll, total, told = {}, select.epoll(), 0, False
    for i in range(1, args.n + 1):
        sock = connect(args, context)
        sock.setblocking(False)
        clients[sock.fileno()] = [i, sock, args.bytes]
        poll.register(sock, select.EPOLLOUT if args.bytes else 0)
    say("up", args.n)
    while True:
        before = total
        for fd, event in poll.poll(WHILE):
            i, sock, left = clients[fd]
            n = None if event & (select.EPOLLERR | select.EPOLLHUP) else offer(sock, left)
            if n is None:
                say("lost", i)
                poll.unregister(fd)
                continue
            clients[fd][2] -= n
            total += n
            if n == left:
                poll.modify(fd, 0)
        if total == before and not told:
            told = True
            say("stuck", total)


main()
