"""How much memory a process has, and had at most; Linux."""

from __future__ import annotations

import time
from pathlib import Path

PATIENCE_SECONDS = 10.0


def resident_bytes(pid: int) -> int:
    """Give what it has now."""
    return _field(pid, "VmRSS")


def bytes_at_rest(pid: int, most: int) -> int:
    """Give what it has once that is at most so much; what it has in the end, where it never is.

    A client that closes its connection does not wait until the process has seen that.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (size := resident_bytes(pid)) > most and time.monotonic() < deadline:
        time.sleep(0.02)
    return size


def peak_bytes(pid: int) -> int:
    """Give the most that it had, since `forget_peak`."""
    return _field(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Let the peak be what it has now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _field(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.removesuffix("kB")) * 1024
    raise AssertionError(f"/proc/{pid}/status has no {name}")
