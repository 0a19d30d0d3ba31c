"""Samples where the threads of this process are, for ``ctl profile``.

A sample is taken by a thread of its own, which has to hold the interpreter's lock for it. So samples are as far apart as
they take long, by a factor: a process with hundreds of threads is sampled more rarely, and not slowed down.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from time import monotonic
from types import FrameType
from typing import Any, Final

from uwsgibridge.system.interpreter import runs_without_gil
from uwsgibridge.telemetry.stacks import is_ours

# How often samples are taken at the most: rarely enough to cost nothing, and often enough for a minute to tell all.
_INTERVAL_SECONDS: Final = 0.01

# A sample of one millisecond is followed by nineteen without any: it takes a twentieth of the time at the most.
_MOST_PART: Final = 0.05

# Deeper stacks are cut at their outer end.
_MOST_FRAMES: Final = 200

# How many different stacks are kept; the samples of others are counted.
_MOST_STACKS: Final = 20_000

# A thread whose innermost frame is one of these waits for something to do; no lock, socket or file of the application.
_IDLE: Final = {
    ("selectors.py", "select"),
    ("_io_epoll.py", "get_events"),
    ("thread.py", "_worker"),
    ("runners.py", "run"),  # of uvloop, whose loop has no frame
}

_one_at_a_time: Final = threading.Lock()


def sample(seconds: float) -> dict[str, Any]:
    """Sample all threads that run an application, or its libraries, for some seconds.

    Returns:
        ``stacks``, pairs of a stack, the outermost frame first, and how many samples were there; ``samples``, how many
        times was looked; ``left_out``, samples of stacks that found no room. ``error`` where nothing can be sampled.
    """
    if runs_without_gil():
        return {"error": "without the GIL, a process can't look at its own threads: install py-spy"}
    if not _one_at_a_time.acquire(blocking=False):
        return {"error": "this worker is being profiled already"}
    try:
        return _Sampler().run(seconds)
    finally:
        _one_at_a_time.release()


class _Sampler:
    def __init__(self) -> None:
        self._stacks: Counter[tuple[str, ...]] = Counter()
        self._left_out = 0
        self._me = threading.get_ident()
        self._names: dict[Any, str] = {}

    def run(self, seconds: float) -> dict[str, Any]:
        pause = threading.Event()  # nobody sets it: `wait` lets the time pass
        deadline = monotonic() + seconds
        samples = 0
        while (began := monotonic()) < deadline:
            self._look()
            samples += 1
            taken = monotonic() - began
            pause.wait(max(_INTERVAL_SECONDS - taken, taken / _MOST_PART))
        return {
            "stacks": [[list(stack), count] for stack, count in self._stacks.most_common()],
            "samples": samples,
            "left_out": self._left_out,
        }

    def _look(self) -> None:
        for ident, frame in sys._current_frames().items():  # noqa: SLF001 - a documented function
            if ident == self._me or _is_idle(frame):
                continue
            stack = self._name_frames(frame)
            if stack in self._stacks or len(self._stacks) < _MOST_STACKS:
                self._stacks[stack] += 1
            else:
                self._left_out += 1

    def _name_frames(self, innermost: FrameType) -> tuple[str, ...]:
        names: list[str] = []
        frame: FrameType | None = innermost
        while frame is not None and len(names) < _MOST_FRAMES:
            code = frame.f_code
            if is_ours(code.co_filename):
                break  # the bridge's own frames lead to the application, and are the same for all
            # A line of each frame would make too many stacks: a function is a bar, whichever of its lines runs.
            name = self._names.get(code)
            if name is None:
                place = f"{code.co_filename}:{code.co_firstlineno}"
                name = self._names[code] = f"{code.co_qualname} ({place})".replace(";", ":")
            names.append(name)
            frame = frame.f_back
        return tuple(reversed(names))


def _is_idle(frame: FrameType) -> bool:
    code = frame.f_code
    if is_ours(code.co_filename):
        return True
    return (code.co_filename.rpartition("/")[2], code.co_name) in _IDLE
