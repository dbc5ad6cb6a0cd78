#!/usr/bin/env python3
"""Peers that take and do not give: they say as much as is taken, and never read.
  greedy.py ADDRESS N [--tls CA] [--bytes M]	N clients of ADDRESS (HOST:PORT)
  greedy.py ADDRESS [--bytes M]			a server there for all who come; it prints where it is
Each says M bytes at most (no limit; 0: nothing).  "up N" is printed when all are connected, "stuck BYTES" when for a while
nobody takes any more of it (from then on they go on offering), "lost I" for each that was cut.  They leave, with a reset, when it is ended."""
import argparse, os, resource, select, socket, ssl, struct

PIECE = bytes(16384)
WHILE = 0.5


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def small(sock):
    """What lies in the kernel is not asked about."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)  # with loopback's own the other side may send 2.6 MB
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # who leaves resets
    return sock


def offer(sock, left):
    """How many bytes were taken; None: it was cut."""
    try:
        return sock.send(PIECE[:left])
    except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
        return 0
    except OSError:
        return None


class Greedy:
    def __init__(self, args):
        self.args, self.peers, self.poll, self.context, self.server = args, {}, select.epoll(), None, None
        host, _, port = args.address.rpartition(":")
        self.address = host, int(port)
        if args.tls:
            self.context = ssl.create_default_context(cafile=args.tls)
            self.context.minimum_version = ssl.TLSVersion.TLSv1_3
            self.context.set_ecdh_curve("prime256v1")  # which everybody has: no second hello

    def add(self, sock):
        sock.setblocking(False)
        self.peers[sock.fileno()] = [len(self.peers) + 1, sock, self.args.bytes]
        self.poll.register(sock, select.EPOLLOUT if self.args.bytes else 0)

    def connect(self):
        sock = small(socket.socket())
        sock.connect(self.address)
        self.add(self.context.wrap_socket(sock, server_hostname="localhost") if self.context else sock)

    def listen(self):
        self.server = small(socket.socket())
        self.server.bind(self.address)
        self.server.listen(1024)
        self.poll.register(self.server, select.EPOLLIN)
        say("%s:%d" % self.server.getsockname())

    def serve(self, fd, event):
        """How many bytes more were taken."""
        i, sock, left = self.peers[fd]
        n = None if event & (select.EPOLLERR | select.EPOLLHUP) else offer(sock, left)
        if n is None:
            say("lost", i)
            self.poll.unregister(fd)
            return 0
        self.peers[fd][2] -= n
        if n == left:
            self.poll.modify(fd, 0)
        return n

    def run(self):
        total, told = 0, False
        while True:
            before = total
            for fd, event in self.poll.poll(WHILE):
                if self.server and fd == self.server.fileno():
                    self.add(self.server.accept()[0])
                else:
                    total += self.serve(fd, event)
            if total == before and not told and self.peers:
                told = True
                say("stuck", total)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("n", type=int, nargs="?")
    parser.add_argument("--tls", metavar="CA")
    parser.add_argument("--bytes", type=int, default=1 << 40)
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    greedy = Greedy(args)
    if args.n:
        for _ in range(args.n):
            greedy.connect()
        say("up", args.n)
    else:
        greedy.listen()
    greedy.run()


main()
