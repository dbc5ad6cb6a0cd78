#!/usr/bin/env python3
"""A terminal, and who types at it: typist.py LOG TEXT CMD [ARG...]
We become CMD with a terminal of its own (/dev/tty; 0 to 2 stay as they are).  At each "Passphrase" that it shows TEXT is
typed, which has Python's escapes; a ^C ten times a second from then on.  LOG gets "prompt" for each, and when CMD has
ended "shown BYTES": all that was to be seen."""
import fcntl, os, select, signal, sys, termios

log, text, command = sys.argv[1], sys.argv[2].encode().decode("unicode_escape").encode(), sys.argv[3:]
master, slave = os.openpty()
pid = os.getpid()


def play():
    ended, out, shown, prompts = os.pidfd_open(pid), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), b"", 0
    while ended not in (ready := select.select([ended, master], [], [], 0.1)[0]) or master in ready:
        if prompts and text == b"\3":
            os.write(master, text)
        if master in ready:
            shown += os.read(master, 4096)
            if shown.count(b"Passphrase") > prompts and shown.rstrip(b" ").endswith(b":"):
                prompts += 1
                os.write(out, b"prompt\n")
                os.write(master, text)
    os.write(out, b"shown %s\n" % repr(shown).encode())


if os.fork() == 0:  # not CMD's child, but init's
    if os.fork() == 0:
        play()
    os._exit(0)
os.wait()
os.setsid()
fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
os.closerange(master, max(master, slave) + 1)
signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background ignores it
os.execvp(command[0], command)
