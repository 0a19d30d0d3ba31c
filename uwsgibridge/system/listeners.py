"""Finds out who listens at a port, for a message: by /proc, and as far as the user of this process may look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# The state of a socket that listens (TCP_LISTEN of Linux's net/tcp_states.h), as /proc/net/tcp has it.
_LISTENING: Final = "0A"
_TABLES: Final = ("tcp", "tcp6")


def listeners_at(port: int) -> list[int]:
    """List the processes that have a listening TCP socket at a port, in their order; none where that can't be told."""
    sockets = {f"socket:[{inode}]" for inode in _inodes(port)}
    return sorted(_holders(sockets)) if sockets else []


def name_process(pid: int) -> str:
    """Name a process for people: ``nginx (pid 12)``."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:  # it has ended, or there is no /proc
        name = ""
    return f"{name} (pid {pid})" if name.isprintable() and name else f"pid {pid}"


def _inodes(port: int) -> Iterator[str]:
    for table in _TABLES:
        with contextlib.suppress(OSError, IndexError, ValueError):
            for line in Path(f"/proc/self/net/{table}").read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _holders(sockets: set[str]) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and _has_one(process / "fd", sockets):
                yield int(process.name)


def _has_one(descriptors: Path, sockets: set[str]) -> bool:
    try:
        for one in descriptors.iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                if os.readlink(one) in sockets:  # noqa: PTH115 - it leads to no path
                    return True
    except OSError:  # the process has ended, or is another user's
        pass
    return False
