"""Samples a worker from outside, by py-spy or Python's own sampling profiler, where one of them is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from uwsgibridge.cli.flame_graph import Stacks

PY_SPY: Final = "py-spy"
PYTHON: Final = "python"

# In the name of a frame of the bridge, and at the beginning of one in which an event loop, or a pool of threads, waits.
_BRIDGE_FILES: Final = "uwsgibridge/"
_WAITS: Final = (
    "EpollIOManager.get_events ",
    "EpollSelector.select ",
    "_worker (",
    "get_events (",
    "select (",
)

# How much longer than the sampling itself a profiler may take: it reads the symbols of the process first.
_MARGIN_SECONDS: Final = 20.0


class ProfilerFailed(Exception):
    """A profiler can't be used; the message is a sentence for the operator."""


def find_profiler() -> str | None:
    """Name the profiler that is there; None where the worker has to sample itself."""
    if _py_spy() is not None:
        return PY_SPY
    return PYTHON if sys.version_info >= (3, 15) else None


def profile(profiler: str, pids: Sequence[int], seconds: float) -> dict[int, Stacks]:
    """Sample processes, all at the same time.

    Args:
        profiler: `PY_SPY` or `PYTHON`.
        pids: of the processes.
        seconds: for how long; a profiler takes whole ones.

    Raises:
        ProfilerFailed: one of them can't be sampled.
    """
    with ThreadPoolExecutor(len(pids)) as threads:
        every = threads.map(lambda pid: _profile_one(profiler, pid, seconds), pids)
        return dict(zip(pids, every, strict=True))


def read_collapsed(text: str) -> Stacks:
    """Read the form that flame graphs are made of, frames with `;` between them, and a number of samples."""
    stacks: dict[tuple[str, ...], int] = {}
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        stack = _part_of_application(frames.split(";"))
        if stack and count.isdecimal():
            stacks[stack] = stacks.get(stack, 0) + int(count)
    return stacks


def _part_of_application(frames: Sequence[str]) -> tuple[str, ...]:
    """Leave out the frames of the bridge that lead to the application; empty where the thread only waits."""
    ours = [number for number, name in enumerate(frames) if _BRIDGE_FILES in name]
    if frames[-1].startswith(_WAITS):
        return ()
    return tuple(frames[ours[-1] + 1 :] if ours else frames)


def command_line(profiler: str, pid: int, seconds: float, output: Path) -> list[str]:
    """Give the command that samples a process, and writes what it has found into a file."""
    whole = str(max(1, round(seconds)))
    if profiler == PY_SPY:
        program = _py_spy() or PY_SPY
        options = ["--duration", whole, "--rate", "100", "--format", "raw", "--output", str(output)]
        return [program, "record", "--pid", str(pid), *options]
    options = ["-a", "-d", whole, "--collapsed", "-o", str(output)]
    return [sys.executable, "-m", "profiling.sampling", "attach", *options, str(pid)]


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name(PY_SPY)  # an environment that is not activated
    return shutil.which(PY_SPY) or (str(beside) if beside.exists() else None)


def _profile_one(profiler: str, pid: int, seconds: float) -> Stacks:
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "stacks"
        try:
            done = subprocess.run(  # noqa: S603 - the program is py-spy or this Python
                command_line(profiler, pid, seconds, output),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds + _MARGIN_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise ProfilerFailed(f"{profiler} is not installed") from None
        except subprocess.TimeoutExpired:
            raise ProfilerFailed(f"{profiler} did not end in time") from None
        if done.returncode or not output.exists():
            said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
            raise ProfilerFailed(f"{profiler} failed: {said[:500]}")
        return read_collapsed(output.read_text("utf-8", "replace"))
