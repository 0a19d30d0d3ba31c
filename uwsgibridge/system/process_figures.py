"""Reads the memory and the CPU time of a process from Linux's /proc (proc(5)).

Other systems give no figures.
"""

from __future__ import annotations

import os
from pathlib import Path


def rss_bytes(pid: int) -> int | None:
    """Give the resident set of a process: its memory in RAM, pages that others share included.

    Since Linux 6.2 the kernel's figure may lag behind by some pages for each CPU.

    Args:
        pid: of the process.

    Returns:
        Bytes; None on another system, or where there is no such process.
    """
    figures = _read(pid, "statm").split()
    return int(figures[1]) * os.sysconf("SC_PAGE_SIZE") if figures else None


def size_bytes(pid: int) -> int | None:
    """Give the size of a process: all memory that it has mapped.

    Args:
        pid: of the process.

    Returns:
        As `rss_bytes`.
    """
    figures = _read(pid, "statm").split()
    return int(figures[0]) * os.sysconf("SC_PAGE_SIZE") if figures else None


def pss_bytes(pid: int) -> int | None:
    """Give the proportional set of a process: of each page, the part that falls to it among those that share the page.

    The kernel walks all of its mappings for that, which takes about a millisecond.

    Args:
        pid: of the process; of another user's, root alone may know it.

    Returns:
        As `rss_bytes`.
    """
    # proc_pid_smaps_rollup(5): "Pss: 1234 kB".
    for line in _read(pid, "smaps_rollup").splitlines():
        name, _, rest = line.partition(b":")
        if name == b"Pss":
            return int(rest.split()[0]) * 1024
    return None


def open_files(pid: int) -> int | None:
    """Count the open descriptors of a process; None where that is not to be known."""
    try:
        return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None


def cpu_seconds(pid: int) -> float | None:
    """Give the CPU time of a process and all its threads, in user and kernel mode.

    The time of child processes does not count.

    Args:
        pid: of the process.

    Returns:
        Seconds, in steps of the kernel's clock tick (10 ms); None on another system, or where there is no
        such process.
    """
    # The name of the process comes second, in parentheses, and may hold spaces and parentheses.
    figures = _read(pid, "stat").rpartition(b")")[2].split()
    # The first of these figures is field 3 of proc_pid_stat(5); utime and stime are fields 14 and 15.
    return sum(map(int, figures[11:13])) / os.sysconf("SC_CLK_TCK") if figures else None


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
