"""What processes there are, and when they are gone. Linux."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path


def children_of(pid: int) -> list[int]:
    """List the processes that a process has started and that have not ended, whichever thread did it."""
    found: list[int] = []
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            found += map(int, entry.read_text().split())
    return found


def descendants_of(pid: int) -> list[int]:
    """List the children of a process, their children, and so on."""
    found = children_of(pid)
    for child in found:  # which grows meanwhile
        found += children_of(child)
    return found


def wait_gone(pid: int, seconds: float) -> bool:
    """Tell whether a process has ended, or does so in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)
