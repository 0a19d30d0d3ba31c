"""Counts what the kernel sends from files in this process; imported by an application that asks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# Of Linux (proc_pid_io(5)): "wchar" has what was written by calls of write and sendfile, and not what send has sent.
_COUNTERS: Final = Path("/proc/self/io")

_sendfile: Final = os.sendfile
_counts = {"bytes": 0, "of the application": 0}


def _counting(out_fd: int, in_fd: int, offset: int, count: int) -> int:
    sent = _sendfile(out_fd, in_fd, offset, count)
    _counts["bytes"] += sent
    return sent


if not _COUNTERS.exists():
    os.sendfile = _counting  # type: ignore[assignment] # the keywords of other platforms are not used


def written_by_application(size_bytes: int) -> None:
    """Take off what the application itself is about to write."""
    _counts["of the application"] += size_bytes


def sendfile_bytes() -> int:
    """How many bytes of files the kernel has sent so far; a little more where something was logged."""
    if not _COUNTERS.exists():
        return _counts["bytes"]
    fields = dict(line.split(": ") for line in _COUNTERS.read_text("ascii").splitlines())
    return int(fields["wchar"]) - _counts["of the application"]
