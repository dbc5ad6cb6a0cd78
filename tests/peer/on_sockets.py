#!/usr/bin/env python3
"""on_sockets.py [--tcp] CMD [ARG...]: runs CMD with a stream socket on 0 and 1, and carries what passes from our
standard input and to our standard output.  A socket without O_NONBLOCK takes no splice.  Exits as CMD does."""
import contextlib, os, signal, socket, subprocess, sys, threading


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        here = socket.create_connection(server.getsockname())
        return here, server.accept()[0]


def upwards(here):
    try:
        while data := os.read(0, 65536):
            here.sendall(data)
        here.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def main(argv):
    tcp = argv[0] == "--tcp"
    here, there = tcp_pair() if tcp else socket.socketpair()
    child = subprocess.Popen(argv[tcp:], stdin=there, stdout=there, close_fds=False)
    there.close()
    os.closerange(9, 10)  # --ready-fd is for CMD
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    threading.Thread(target=upwards, args=(here,), daemon=True).start()
    try:
        while data := here.recv(65536):
            os.write(1, data)
    except ConnectionError as error:
        print(f"on_sockets.py: {error}", file=sys.stderr)
        with contextlib.suppress(OSError):
            here.shutdown(socket.SHUT_RDWR)
    status = child.wait()
    os._exit(status if status >= 0 else 128 - status)


main(sys.argv[1:])
