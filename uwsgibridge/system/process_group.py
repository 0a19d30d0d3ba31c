"""Processes that are told apart by their process group: those that began before a certain moment.

Whatever an application starts has the group of who has started it, unless it makes one of its own or a
session, as daemons do. It keeps the group when its parent ends, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Final

_LOOK_SECONDS: Final = 0.02


@contextlib.contextmanager
def group_of_its_own() -> Iterator[None]:
    """Have all that is started meanwhile be in a group whose number is that of this process.

    Afterwards the process is in the group where it was before, and so is what it starts then.
    """
    before = os.getpgrp()
    try:
        os.setpgid(0, 0)
    except OSError:  # it leads a session, or a sandbox forbids it
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # all of that group have ended
            os.setpgid(0, before)


def members_of(group: int) -> list[int]:
    """List the processes of a group that run, but for this one.

    Args:
        group: its number.

    Returns:
        Their numbers; none on a system without /proc.
    """
    return [
        pid
        for pid in map(int, filter(str.isdecimal, _names_in("/proc")))
        if pid != os.getpid() and _group_of(pid) == group
    ]


def signal_group(group: int, number: signal.Signals) -> bool:
    """Send a signal to all of a group but this process.

    Returns:
        Whether there is anybody.
    """
    members = members_of(group)
    for pid in members:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
    return bool(members)


def end_group(group: int, seconds: float) -> None:
    """End all of a group but this process: by SIGTERM, and those that are left in the end by SIGKILL.

    Args:
        group: its number.
        seconds: that they have to end by themselves.
    """
    deadline = monotonic() + seconds
    if not signal_group(group, signal.SIGTERM):
        return
    # They are no children of this process, which so is not told of their ends.
    while members_of(group) and monotonic() < deadline:
        sleep(_LOOK_SECONDS)
    signal_group(group, signal.SIGKILL)


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return []


def _group_of(pid: int) -> int | None:
    """Tell the group of a process; None where it has ended."""
    try:
        # proc_pid_stat(5): the name is in parentheses, and may hold some itself.
        state, _, group = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:3]
    except (OSError, ValueError):
        return None
    return None if state in {b"Z", b"X"} else int(group)
