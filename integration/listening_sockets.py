"""Code for an application: finds the listening sockets of the process that it runs in; Linux."""

from __future__ import annotations

from typing import Final

# Defines `listening`, which yields the number of each.
LISTENING: Final = """
import os, socket, stat
def listening():
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            one = socket.socket(fileno=number)
        except OSError:
            continue
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            yield number
        one.detach()
"""
