#!/usr/bin/env python3
"""feed.py FILE: writes FILE to standard output, and says on standard error when nobody takes more of it."""
import os, select, sys

poll, told, total = select.poll(), False, 0
os.set_blocking(1, False)
poll.register(1, select.POLLOUT)
with open(sys.argv[1], "rb", buffering=0) as file:
    while data := memoryview(file.read(1 << 18)):
        while data:
            if not poll.poll(500):
                if not told:
                    sys.stderr.write(f"feed: stuck after {total}\n")
                told = True
                poll.poll()
            try:
                n = os.write(1, data)
            except BlockingIOError:
                continue
            total, data = total + n, data[n:]
sys.stderr.write(f"feed: all {total} taken\n")
