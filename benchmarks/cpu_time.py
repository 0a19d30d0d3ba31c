"""How much CPU time a server has used: all processes of its session, threads, and processes that have ended."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NANOSECONDS = 1_000_000_000
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_nanoseconds(session: int) -> int:
    """Return the user and system time used so far by a session and by what its processes have started.

    A process that has ended counts through its parent, which has reaped it: the difference of two readings is then
    right whether it ended before, between or never. Only that part has the resolution of a clock tick; a live
    process is read from its own CPU clock, in nanoseconds and with all its threads, ended ones too. (The first field
    of /proc/PID/schedstat would be the main thread's alone.)
    """
    members = session_members(session, _all_processes())
    return sum(
        _clock_nanoseconds(process.pid) + process.ended_children_nanoseconds for process in members
    )


def processes_cpu_nanoseconds(pids: Iterable[int]) -> dict[int, int]:
    """Return the user and system time of each process by its number; 0 for one that has ended."""
    return {pid: _clock_nanoseconds(pid) for pid in pids}


def session_pids(session: int) -> list[int]:
    """Return the numbers of the processes that `cpu_nanoseconds` counts."""
    return [process.pid for process in session_members(session, _all_processes())]


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc/PID/stat says, as far as it matters here."""

    pid: int
    parent: int
    session: int
    ended_children_nanoseconds: int


def parse_stat(text: str) -> ProcessStat:
    """Parse a /proc/PID/stat; the second field, the name in parentheses, may itself hold spaces and parentheses.

    Source: proc_pid_stat(5): (1) pid, (4) ppid, (6) session, (16) cutime and (17) cstime in clock ticks.
    """
    before, _, after = text.rpartition(")")
    # The field after the name is number 3.
    fields = after.split()
    ticks = int(fields[16 - 3]) + int(fields[17 - 3])
    return ProcessStat(
        pid=int(before.split(maxsplit=1)[0]),
        parent=int(fields[4 - 3]),
        session=int(fields[6 - 3]),
        ended_children_nanoseconds=ticks * _NANOSECONDS // _TICKS_PER_SECOND,
    )


def session_members(session: int, processes: Iterable[ProcessStat]) -> list[ProcessStat]:
    """Return the processes of a session, and their descendants that have opened a session of their own."""
    others = list(processes)
    pids: set[int] = set()
    members: list[ProcessStat] = []
    while found := [p for p in others if p.session == session or p.parent in pids]:
        members += found
        pids.update(process.pid for process in found)
        others = [process for process in others if process.pid not in pids]
    return members


def _all_processes() -> Iterable[ProcessStat]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                yield parse_stat((entry / "stat").read_text(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended since the directory was listed


def _clock_nanoseconds(pid: int) -> int:
    clock_id = ctypes.c_int()
    # Returns an error number, ESRCH for a process that has been reaped in the meantime.
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock_id)) != 0:
        return 0
    try:
        return time.clock_gettime_ns(clock_id.value)
    except OSError:
        return 0


_libc = ctypes.CDLL(None)
