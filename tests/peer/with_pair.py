#!/usr/bin/env python3
"""Runs commands that are joined by socketpairs (SEQPACKET), as a shell joins them by pipes:
  with_pair.py NAME CMD... + NAME CMD... + ...
{from} in a CMD is fd:N, its end towards the command before; {to} the one towards the next.  A CMD without them has
the ends as its descriptors 0 and 1.  Descriptor 9 is for who has --ready-fd; standard error goes to NAME.log.
Prints "NAME PID", then "NAME ended STATUS" as each ends (128+N: by a signal).  TERM is passed on to the first."""
import os, signal, socket, sys

stages, names, pids = [[]], [], {}
for word in sys.argv[1:]:
    stages.append([]) if word == "+" else stages[-1].append(word)
pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in stages[1:]]
ends = [(pairs[i - 1][1] if i else None, pairs[i][0] if i < len(pairs) else None) for i in range(len(stages))]


def become(name, command, before, after):
    log = os.open(name + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 2)
    if "--ready-fd" not in command:
        os.closerange(9, 10)
    for n, sock, word in ((0, before, "{from}"), (1, after, "{to}")):
        if sock and word in command:
            sock.set_inheritable(True)
            command[command.index(word)] = "fd:%d" % sock.fileno()
        elif sock:
            os.dup2(sock.fileno(), n)
    os.execvp(command[0], command)


for (name, *command), (before, after) in zip(stages, ends):
    pid = os.fork()
    if not pid:
        become(name, command, before, after)
    pids[pid] = name
    names.append((name, pid))
for pair in pairs:
    pair[0].close(), pair[1].close()
signal.signal(signal.SIGTERM, lambda *_: os.kill(names[0][1], signal.SIGTERM) if names[0][1] in pids else None)
for name, pid in names:
    print(name, pid, flush=True)
os.closerange(9, 10)
while pids:
    pid, status = os.wait()
    status = os.waitstatus_to_exitcode(status)
    print(pids.pop(pid), "ended", status if status >= 0 else 128 - status, flush=True)
