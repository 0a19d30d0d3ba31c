"""Puts all processes that are started in a certain block into one process group, and ends that group.

A process that an application starts has the group of its parent, unless it makes a group or a session of its own,
as daemons do. It keeps the group when its parent ends, however that happens.
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
    """Put all processes that are started meanwhile into a group that has the number of this process.

    Afterwards this process is in its former group, and so are the processes that it starts then.
    """
    before = os.getpgrp()
    try:
        os.setpgid(0, 0)
    except OSError:  # this process leads a session, or a sandbox forbids it
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # all processes of that group have ended
            os.setpgid(0, before)


def members_of(group: int) -> list[int]:
    """List the running processes of a group, without this one.

    Args:
        group: its number.

    Returns:
        Their process ids; none on a system without /proc.
    """
    return [
        pid
        for pid in map(int, filter(str.isdecimal, _names_in("/proc")))
        if pid != os.getpid() and _group_of(pid) == group
    ]


def signal_group(group: int, number: signal.Signals) -> bool:
    """Send a signal to all processes of a group except this one.

    Returns:
        Whether there is such a process.
    """
    members = members_of(group)
    for pid in members:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
    return bool(members)


def end_group(group: int, seconds: float) -> None:
    """End all processes of a group except this one: by SIGTERM first, and then by SIGKILL.

    Args:
        group: its number.
        seconds: how long they have between the two signals.
    """
    deadline = monotonic() + seconds
    if not signal_group(group, signal.SIGTERM):
        return
    # This process polls: they are not its children, so nothing tells it of their ends.
    while members_of(group) and monotonic() < deadline:
        sleep(_LOOK_SECONDS)
    signal_group(group, signal.SIGKILL)


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)  # noqa: PTH208 - only names are needed
    except OSError:
        return []


def _group_of(pid: int) -> int | None:
    """Tell the group of a process; None where it has ended."""
    try:
        # The name is in parentheses, and may have parentheses itself (proc_pid_stat(5)).
        state, _, group = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[:3]
    except (OSError, ValueError):
        return None
    return None if state in {b"Z", b"X"} else int(group)
