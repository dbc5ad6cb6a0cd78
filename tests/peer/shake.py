#!/usr/bin/env python3
"""Handshakes without a pause: shake.py CA AT_LEAST ADDRESS... -- CHAIN...
Three processes connect in turn to each ADDRESS, verify the chain against CA (so that it came whole), say a byte, hear it
back and close.  CHAIN are the files of those that may be seen.  Prints "saw NAME ADDRESS" as each is seen first, "at N"
now and then, "failed WHY" for each that fails, and after TERM, once there were AT_LEAST of them, "done N failed N".
Ends with 0 if none did."""
import mmap, os, signal, socket, ssl, struct, sys

PROCESSES = 3
at = sys.argv.index("--")
ca, at_least, addresses, chains = sys.argv[1], int(sys.argv[2]), sys.argv[3:at], sys.argv[at + 1:]
page = mmap.mmap(-1, 8 * (1 + 2 * PROCESSES))  # stop; done and failed of each process


def value(i):
    return struct.unpack_from("q", page, 8 * i)[0]


def add(i):
    struct.pack_into("q", page, 8 * i, value(i) + 1)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def shake(context, target, known, seen):
    with socket.create_connection(target, timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with context.wrap_socket(sock, server_hostname="localhost") as tls:
            name = known[tls.getpeercert(True)]
            tls.sendall(b"?")
            if tls.recv(1) != b"?":
                raise EOFError("no answer")
            if (name, target) not in seen:
                seen.add((name, target))
                say("saw", name, "%s:%d" % target)


def work(me):
    context, known, seen, turn = ssl.create_default_context(cafile=ca), {}, set(), me
    context.set_ecdh_curve("prime256v1")  # which everybody has: no second hello
    for path in chains:
        with open(path) as f:
            known[ssl.PEM_cert_to_DER_cert(f.read().partition("-----END")[0] + "-----END CERTIFICATE-----\n")] = \
                os.path.basename(path).removesuffix(".pem")
    targets = [(host, int(port)) for host, _, port in (a.rpartition(":") for a in addresses)]
    while not value(0) and os.getppid() == parent:
        turn += 1
        try:
            shake(context, targets[turn % len(targets)], known, seen)
        except Exception as e:
            add(2 + 2 * me)
            say("failed", repr(e))
        add(1 + 2 * me)


def total(of):
    return sum(value(i) for i in range(of, 1 + 2 * PROCESSES, 2))


parent = os.getpid()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
for me in range(PROCESSES):
    if os.fork() == 0:
        work(me)
        os._exit(0)
stop, said = False, 0
while not stop or total(1) < at_least:
    stop = signal.sigtimedwait([signal.SIGTERM], 0.05) is not None or stop
    if total(1) - said >= 50:
        said = total(1)
        say("at", said)
add(0)
for me in range(PROCESSES):
    os.wait()
say("done", total(1), "failed", total(2))
sys.exit(total(2) > 0)
