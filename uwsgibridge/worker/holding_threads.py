"""Threads that Python waits for at its end, and which of them really hold it up.

The pool itself ends a thread of a pool that has nothing to do: `concurrent.futures` wakes its threads at
the end of Python, and anyio wakes its threads at the end of the loop that they serve. These threads are no
daemons. So only the code that a thread runs tells whether a pool ends it, or nobody does.
"""

from __future__ import annotations

import concurrent.futures.thread
import queue
import threading
from pathlib import PurePath
from types import FrameType
from typing import Final

from uwsgibridge.system.interpreter import runs_without_gil
from uwsgibridge.telemetry.stacks import frames_of_threads

_EXECUTOR: Final = concurrent.futures.thread.__file__
_QUEUE: Final = queue.__file__
_THREADING: Final = threading.__file__

# The end of the path of the file in which anyio's threads run.
_ANYIO: Final = ("anyio", "_backends", "_asyncio.py")


def threads_holding_exit() -> list[threading.Thread]:
    """List the threads that Python would wait for at this moment, and that nobody is going to end."""
    frames = frames_of_threads()
    here = threading.current_thread()
    return [
        it
        for it in threading.enumerate()
        if it is not here
        and it is not threading.main_thread()
        and _holds_exit(it, frames.get(it.ident or 0))
    ]


def _holds_exit(thread: threading.Thread, frame: FrameType | None) -> bool:
    if frame is None and runs_without_gil():
        # Of a pool, a thread that has nothing to do counts as well: it ends soon, and nobody is told of it then.
        pools = getattr(concurrent.futures.thread, "_threads_queues", ())
        return not thread.daemon or thread in pools
    in_executor = frame is not None and _has(frame, _EXECUTOR)
    if thread.daemon and not in_executor:
        return False  # Python waits for those of an executor, whatever they are
    if frame is None:
        return True
    if in_executor:
        # While a thread of an executor runs a task, a frame of that task is on top of `_worker`.
        return frame.f_code.co_filename != _EXECUTOR or frame.f_code.co_name != "_worker"
    return not _waits_in_anyio(frame)


def _waits_in_anyio(frame: FrameType) -> bool:
    one: FrameType | None = frame
    while one is not None and one.f_code.co_filename == _THREADING:
        one = one.f_back
    if one is None or one.f_code.co_filename != _QUEUE or one.f_back is None:
        return False
    return PurePath(one.f_back.f_code.co_filename).parts[-3:] == _ANYIO


def _has(frame: FrameType, file: str) -> bool:
    one: FrameType | None = frame
    while one is not None:
        if one.f_code.co_filename == file:
            return True
        one = one.f_back
    return False
