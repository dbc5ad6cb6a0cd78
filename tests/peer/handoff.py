#!/usr/bin/env python3
"""A producer or a consumer of the handoff link.  What happens is printed, a line each.
  handoff.py consume NAME [--echo | --http | --give HOST:PORT] [--modes M] [--credit N] [--count N] [--env] [--mute]
  handoff.py produce NAME (--connect HOST:PORT | --listen HOST:PORT) [--count N] [--ask | --pair] [--mute] [--age S]
  handoff.py several ROLE NAME N	is made of N, and says so; ends when it has N links
NAME is PATH, dial:PATH, bind:PATH, fd:N or -.  What is handed on is the connection itself, with --pair one end of a
stream of ours, with --ask nothing: the consumer is to give.  A consumer drains after --count connections.  --mute: an
end of stream comes without eof, as if by accident.  --age: what is handed on was accepted S seconds ago.
"""
import argparse, os, socket, struct, sys, threading, time, types

sys.dont_write_bytecode = True  # nothing of ours stays in the tree
from link import MAX, Link, Malformed, listen, open_link, ticket_make

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


def describe(sock, id, age):
    env = {"PROTO": "TCP", "CCF_CONN_ID": f"peer#{id}", "CCF_ACCEPTED": int((time.monotonic() - age) * 1000)}
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
    link.mute = args.mute
    link.ready(args.credit)
    busy, seen = [], 0
    while m := link.recv():
        if m.verb == "conn":
            seen += 1
            say("conn", m.id, m.env.get("CCF_CONN_ID", "-"), "give" if m.fd is None else "take")
            if args.env:
                say("env", m.id, *(f"{name}={value}" for name, value in sorted(m.env.items())))
            if seen == args.count:
                link.drain()  # what is on its way is still ours
            if work := answer(link, m, args, say):
                busy.append(work)
                work.start()
        elif m.verb == "closed":
            say("over", m.id, m.fields["reason"], m.fields.get("status", "-"))
    say("end")
    for work in busy:
        work.join()
    return link


def hand_on(link, id, sock, args, say):
    env = describe(sock, id, args.age)
    if args.ask:
        return link.conn(id, env)
    if not args.pair:
        return link.conn(id, env, sock.detach())
    inner, theirs = socket.socketpair()
    link.conn(id, env, theirs.detach())

    def done(*what):  # the consumer is the last holder: it says closed
        say("moved", id, *what)
        link.inbox.put(types.SimpleNamespace(verb="moved"))
    threading.Thread(target=relay, args=(link, id, sock, inner, done)).start()


def accept(server, link):
    while True:
        link.inbox.put(types.SimpleNamespace(verb="accepted", sock=server.accept()[0]))


def produce(args, say):
    link, other = open_link(args.name, "producer", "")
    say("link", other)
    link.mute = args.mute
    server = socket.create_server(address(args.listen)) if args.listen else None
    if server:
        say("listening", "%s:%d" % server.getsockname()[:2])
    credit, sent, moved, held, adopted, came, count, drained = 0, 0, 0, {}, [], [], args.count or 1, False
    if server:
        threading.Thread(target=accept, args=(server, link), daemon=True).start()
    while sent < count or held:
        if sent < count and credit and (came or not server):
            sock = came.pop(0) if server else socket.create_connection(address(args.connect))
            sent, credit = sent + 1, credit - 1
            held[sent] = sock
            hand_on(link, sent, sock, args, say)
            say("conn", sent)
            continue
        if not (m := link.recv()):
            break
        if m.verb == "accepted":
            came.append(m.sock)
            continue
        if m.verb == "moved":
            moved += 1
        if m.verb == "drain":
            say("drain")
            count, drained = sent, True
        if drained and (not args.pair or moved == sent):  # there is no eof that is still to be said
            link.sock.shutdown(socket.SHUT_WR)
        if m.verb in ("moved", "drain"):
            continue
        credit += m.fields.get("n", 0) + m.fields.get("ready", 0)
        if credit > 32:
            raise Malformed(f"{credit} outstanding")
        if m.verb == "adopt" and m.id in held:
            say("adopt", m.id)
            adopted.append(threading.Thread(target=move, args=(link, m, held.pop(m.id), say)))
            adopted[-1].start()
        elif m.verb == "closed" and held.pop(m.id, None):
            say("closed", m.id, m.fields["reason"], *(m.fields.get(f, "-") for f in ("status", "in", "out")))
        elif m.verb == "ready":
            say("ready", m.fields["n"])
    for mover in adopted:
        mover.join()
    return link


def move(link, m, sock, say):
    """What was adopted: we are the last holder, and say closed."""
    def done(*what):
        say("closed", m.id, *what)
        try:
            link.closed(m.id, *what)
        except BrokenPipeError:  # drained: nothing more is said of it
            pass
    relay(link, m.id, sock, socket.socket(fileno=m.fd), done)


def several(args, say):
    """One process in the place of N: it binds (or has made a ticket), and counts who comes."""
    token, path = ticket_make() if args.name == "-" else (None, args.name)
    listener, links = listen(path, 0o666 if token else 0o600), []
    if token:
        print("ccf-handoff 1", token, path, flush=True)
    while len(links) < args.n:
        links.append(Link(listener.accept()[0], args.role, token=token))
        links[-1].mine["links"] = args.n
        links[-1].greet()
        say("links", len(links))
    os.unlink(path)
    if token:
        os.rmdir(os.path.dirname(path))
    return links[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("consume", "produce", "several"))
    parser.add_argument("role", nargs="?", choices=("consumer", "producer"))
    parser.add_argument("name")
    parser.add_argument("n", nargs="?", type=int)
    for flag in ("--echo", "--http", "--ask", "--pair", "--env", "--mute"):
        parser.add_argument(flag, action="store_true")
    for option in ("--give", "--connect", "--listen"):
        parser.add_argument(option, metavar="HOST:PORT")
    parser.add_argument("--modes", default="take")
    parser.add_argument("--credit", type=int, default=16)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--age", type=float, default=0)
    args = parser.parse_args()
    out = sys.stderr if args.what != "consume" and args.name == "-" else sys.stdout
    if args.what == "produce" and not args.connect and not args.listen:
        parser.error("produce needs --connect or --listen")
    run = {"consume": consume, "produce": produce, "several": several}[args.what]
    # one write a line: threads speak at the same time
    link = run(args, lambda *words: os.write(out.fileno(), (" ".join(map(str, words)) + "\n").encode()))
    if link.fault:
        raise Malformed(link.fault)


if __name__ == "__main__":
    try:
        main()
    except Malformed as fault:
        print(f"handoff.py: {fault}", file=sys.stderr)
        sys.exit(76)
