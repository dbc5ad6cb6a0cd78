#!/usr/bin/env python3
"""A producer or a consumer of the handoff link.  What happens is printed, a line each.
  handoff.py consume NAME [--echo | --http | --give HOST:PORT] [--modes M] [--credit N] [--count N]
  handoff.py produce NAME (--connect HOST:PORT | --listen HOST:PORT) [--count N] [--ask]
NAME is PATH, dial:PATH, bind:PATH, fd:N or -.
"""
import argparse, socket, struct, sys, threading, time

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from link import MAX, Malformed, open_link

RESET = struct.pack("ii", 1, 0)


def serve(link, id, name, sock, how, done):
    """One connection from its first byte to its last; done(reason, status, bytes in, bytes out)."""
    got, put, body, status = 0, 0, f"hello from {name}\n".encode(), 0
    try:
        sock.setblocking(True)
        if how == "hello":
            put += sock.send(body)
            link.finish(id, sock)
        while data := sock.recv(MAX):
            got += len(data)
            if how == "http" and b"\r\n\r\n" in data:  # a request in one piece will do here
                data, how = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body), "done"
                sock.sendall(data)
                link.finish(id, sock)
                put += len(data)
            elif how == "echo":
                sock.sendall(data)
                put += len(data)
        link.check_end(id, sock)
        if how in ("echo", "http"):
            link.finish(id, sock)
    except OSError:
        status = 18
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
    done("cut" if status else "done", status, got, put)


def relay(link, id, outer, inner, done):
    """A connection of ours and the stream that was adopted for it: a thread each way."""
    count, cuts = [0, 0], []

    def lane(at, source, sink):
        try:
            while data := source.recv(MAX):
                sink.sendall(data)
                count[at] += len(data)
            if source is inner:
                link.check_end(id, inner)
            link.finish(id, sink) if sink is inner else sink.shutdown(socket.SHUT_WR)
        except OSError:
            cuts.append(at)
            outer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            for sock in (outer, inner):  # wakes the other lane
                sock.shutdown(socket.SHUT_RD)

    up = threading.Thread(target=lane, args=(0, outer, inner))
    outer.setblocking(True), inner.setblocking(True), up.start()
    lane(1, inner, outer)
    up.join()
    outer.close(), inner.close()
    done("cut" if cuts else "done", 18 if cuts else 0, *count)


def address(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def describe(sock, id):
    env = {"PROTO": "TCP", "CCF_CONN_ID": f"peer#{id}", "CCF_ACCEPTED": int(time.monotonic() * 1000)}
    for side, at in (("LOCAL", sock.getsockname()), ("REMOTE", sock.getpeername())):
        env[f"TCP{side}IP"], env[f"TCP{side}PORT"] = at[:2]
    return env


def answer(link, m, args, say):
    """A thread that serves this connection, or None: the producer holds it, or nobody."""
    name, sock = m.env.get("CCF_CONN_ID", m.id), None
    how = "echo" if args.echo else "http" if args.http else "hello"

    def done(*what):
        say("closed", m.id, *what)
        if m.fd is not None or sock is None:  # otherwise the producer is the last holder
            link.closed(m.id, *what, ready=1)

    if m.starved:
        return done("no-descriptors", 69, 0, 0)
    if m.fd is None and args.give:
        try:
            return link.adopt(m.id, socket.create_connection(address(args.give)).detach(), 1)
        except OSError:
            return done("refused", 7, 0, 0)
    if m.fd is None:
        given, sock = socket.socketpair()
        link.adopt(m.id, given.detach(), 1)
    else:
        sock = socket.socket(fileno=m.fd)
    return threading.Thread(target=serve, args=(link, m.id, name, sock, how, done))


def consume(args, say):
    link, other = open_link(args.name, "consumer", args.modes)
    say("link", other)
    link.ready(args.credit)
    busy, seen = [], 0
    while (not args.count or seen < args.count) and (m := link.recv()):
        if m.verb == "conn":
            seen += 1
            say("conn", m.id, m.env.get("CCF_CONN_ID", "-"), "give" if m.fd is None else "take")
            if work := answer(link, m, args, say):
                busy.append(work)
                work.start()
        elif m.verb == "closed":
            say("over", m.id, m.fields["reason"], m.fields.get("status", "-"))
    if args.count:
        link.drain()
    for work in busy:
        work.join()
    return link


def produce(args, say):
    link, other = open_link(args.name, "producer", "")
    say("link", other)
    server = socket.create_server(address(args.listen)) if args.listen else None
    if server:
        say("listening", "%s:%d" % server.getsockname()[:2])
    credit, sent, held, count = 0, 0, {}, args.count or 1
    while sent < count or held:
        if sent < count and credit:
            sock = server.accept()[0] if server else socket.create_connection(address(args.connect))
            sent, credit = sent + 1, credit - 1
            held[sent] = sock
            link.conn(sent, describe(sock, sent), None if args.ask else sock.detach())
            say("conn", sent)
            continue
        if not (m := link.recv()):
            break
        credit += m.fields.get("n", 0) + m.fields.get("ready", 0)
        if m.verb == "adopt" and m.id in held:
            def done(*what):
                say("closed", m.id, *what)
                link.closed(m.id, *what)
            relay(link, m.id, held.pop(m.id), socket.socket(fileno=m.fd), done)
        elif m.verb == "closed" and held.pop(m.id, None):
            say("closed", m.id, m.fields["reason"], *(m.fields.get(f, "-") for f in ("status", "in", "out")))
        elif m.verb == "drain":
            count = sent
    return link


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("role", choices=("consume", "produce"))
    parser.add_argument("name")
    for flag in ("--echo", "--http", "--ask"):
        parser.add_argument(flag, action="store_true")
    for option in ("--give", "--connect", "--listen"):
        parser.add_argument(option, metavar="HOST:PORT")
    parser.add_argument("--modes", default="take")
    parser.add_argument("--credit", type=int, default=16)
    parser.add_argument("--count", type=int, default=0)
    args = parser.parse_args()
    out = sys.stderr if args.role == "produce" and args.name == "-" else sys.stdout
    if args.role == "produce" and not args.connect and not args.listen:
        parser.error("produce needs --connect or --listen")
    link = (consume if args.role == "consume" else produce)(args, lambda *words: print(*words, file=out, flush=True))
    if link.fault:
        raise Malformed(link.fault)


if __name__ == "__main__":
    try:
        main()
    except Malformed as fault:
        print(f"handoff.py: {fault}", file=sys.stderr)
        sys.exit(76)
