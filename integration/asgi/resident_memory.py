"""How much memory a process has, and had at most; Linux."""

from __future__ import annotations

from pathlib import Path


def resident_bytes(pid: int) -> int:
    """Give what it has now."""
    return _field(pid, "VmRSS")


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
