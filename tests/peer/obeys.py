"""obeys - a COMMAND for ccf-udpecho that does what its peer tells it: python3 -IS obeys.py

Each datagram is "VERB [ARG]"; dots and blanks at its end do not count, so that it can be as long as it has to be.

    count           how many datagrams there were, this one too
    env             PROTO and what begins with TCP, UDP, SSL_ or CCF_ of the environment, sorted, a line each
    what            what it was started with: descriptors, the socket, signals, the limit of descriptors
    pid             its process
    say N           N bytes, as one datagram
    write N         the same, and then a datagram with what write(2) said to it
    flood N         N datagrams of 100 bytes, at once
    empty           an empty datagram, and then one that is not
    rights N        N datagrams with 30 descriptors each, and then one with none
    last TEXT       TEXT, and it exits
    exit N          it exits, with N
    kill N          it kills itself by signal N
    close           it closes 0 and 1, and lives on
    deaf            it never reads again
    stay            its process; from now on the end of input is not its end
    anything else   the count, and what it heard

At the end of its input it says "bye after N" and exits; why and how is a line of ended.PID.
"""
import array, os, resource, signal, socket, stat, sys

heard = 0
stays = False


def say(text):
    os.write(1, text.encode())


def env():
    names = ("TCP", "UDP", "SSL_", "CCF_")
    return "".join(f"{k}={v}\n" for k, v in sorted(os.environ.items()) if k == "PROTO" or k.startswith(names))


def what():
    # descriptors first: nothing of ours is open yet but the directory that is read
    fds = os.listdir("/proc/self/fd")
    fds = [fd for fd in fds if os.path.exists(f"/proc/self/fd/{fd}")]
    sock = socket.socket(fileno=os.dup(0))
    one = os.fstat(0).st_ino == os.fstat(1).st_ino
    with open("/proc/self/status") as f:
        masks = {line.split()[0]: int(line.split()[1], 16) for line in f if line.startswith("Sig") and "/" not in line}
    ours = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1  # this interpreter's own
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (f"descriptors {' '.join(sorted(fds, key=int))}\n"
            f"0 and 1 are {'one' if one else 'two'} {sock.family.name} {sock.type.name}, "
            f"{'blocking' if os.get_blocking(0) else 'not blocking'}\n"
            f"2 is {'a socket' if stat.S_ISSOCK(os.fstat(2).st_mode) else 'no socket'}\n"
            f"blocked {masks['SigBlk:']:x} ignored {masks['SigIgn:'] & ~ours:x}\n"
            f"limit {soft} {hard}\n")


def written(n):
    try:
        return f"{os.write(1, b'x' * n)} written"
    except OSError as e:
        return os.strerror(e.errno)


def rights(n):
    with socket.socket(fileno=os.dup(1)) as sock:
        for _ in range(n):
            sock.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [2] * 30))])
    say("no more rights")


def pause():
    while True:
        signal.pause()


def obey(verb, arg, text):
    global stays
    if verb == "count":
        say(f"{heard}")
    elif verb == "env":
        say(env())
    elif verb == "what":
        say(what())
    elif verb == "pid":
        say(f"{os.getpid()}")
    elif verb == "say":
        say("x" * int(arg))
    elif verb == "write":
        say(written(int(arg)))
    elif verb == "flood":
        for _ in range(int(arg)):
            say("x" * 100)
    elif verb == "empty":
        os.write(1, b"")
        say("behind it")
    elif verb == "rights":
        rights(int(arg))
    elif verb == "last":
        say(arg)
        sys.exit(0)
    elif verb == "exit":
        sys.exit(int(arg))
    elif verb == "kill":
        os.kill(os.getpid(), int(arg))
    elif verb == "close":
        os.close(0)
        os.close(1)
        pause()
    elif verb == "deaf":
        pause()
    elif verb == "stay":
        stays = True
        say(f"staying, {os.getpid()}")
    else:
        say(f"{heard} {text}")


def hear():
    try:
        return os.read(0, 65536)
    except ConnectionResetError:  # something of ours was never read
        return b""


def main():
    global heard
    while got := hear():
        heard += 1
        text = got.decode(errors="replace").rstrip(" .\n")
        verb, _, arg = text.partition(" ")
        obey(verb, arg, text)
    try:
        say(f"bye after {heard}")
        said = "bye"
    except OSError as e:
        said = os.strerror(e.errno)
    with open(f"ended.{os.getpid()}", "w") as f:
        f.write(f"{os.environ['CCF_CONN_ID']} after {heard}: {said}\n")
    if stays:
        pause()


main()
