#!/usr/bin/env python3
"""Peers of a link that do what they should not:
  hostile.py silent PATH     a consumer that offers to give and never answers; prints what else it hears
"""
import sys

sys.dont_write_bytecode = True
from link import open_link

what, name = sys.argv[1:3]
if what == "silent":
    link, _ = open_link(name, "consumer", "take,give")
    link.ready(32)
    while message := link.recv():
        print(message.verb, message.id, message.fields.get("reason", ""), flush=True)
