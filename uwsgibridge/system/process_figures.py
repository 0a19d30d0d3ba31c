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
