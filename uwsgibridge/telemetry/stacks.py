"""Where an application is, and where it failed: stacks and tracebacks without the bridge's frames."""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import sys
import threading
import traceback
from pathlib import Path
from types import CoroutineType, FrameType
from typing import Any, Final

from uwsgibridge.system.interpreter import runs_without_gil

_PACKAGE: Final = str(Path(__file__).parent.parent) + os.sep
_EXAMPLES: Final = f"{_PACKAGE}demo{os.sep}"

# Files of frames before the application's first: the bridge's, and the import system's.
_NOT_ITS_OWN: Final = (_PACKAGE, "<frozen importlib", str(importlib.__file__))


def own_traceback(error: BaseException) -> str:
    """Format a traceback without the frames of the bridge and the import system that lead to the application.

    Args:
        error: what the application raised. The errors that it was raised from are formatted alike.

    Returns:
        The application's traceback; only the error itself where the application has no frame in it.
    """
    whole = traceback.TracebackException.from_exception(error)
    # A loop instead of recursion: a chain may be longer than Python's recursion limit.
    pending: list[traceback.TracebackException | None] = [whole]
    while pending:
        one = pending.pop()
        if one is not None:
            frames = itertools.dropwhile(lambda frame: is_ours(frame.filename), one.stack)
            one.stack = traceback.StackSummary.from_list(list(frames))
            pending += (one.__cause__, one.__context__, *(one.exceptions or ()))
    return "".join(whole.format()).rstrip("\n")


def place_of(error: BaseException) -> str:
    """Name the application's last line that an exception went through; empty where there is none."""
    place = ""
    traceback_ = error.__traceback__
    while traceback_ is not None:
        code = traceback_.tb_frame.f_code
        if not is_ours(code.co_filename):
            place = f"{code.co_filename}:{traceback_.tb_lineno} in {code.co_name}"
        traceback_ = traceback_.tb_next
    return place


def own_stack(frame: FrameType) -> str:
    """Format where a thread is, from the application's first frame on."""
    stack = list(traceback.walk_stack(frame))[::-1]
    ours = [number for number, (one, _) in enumerate(stack) if is_ours(one.f_code.co_filename)]
    # Frames up to the bridge's last one are left out; a thread that is in the bridge alone shows all.
    first = ours[-1] + 1 if ours and ours[-1] + 1 < len(stack) else 0
    return "".join(traceback.StackSummary.extract(iter(stack[first:])).format()).rstrip("\n")


def await_stack(task: object) -> str:
    """Format where a task of asyncio or trio waits, from the application's first frame on; in the loop's thread.

    Args:
        task: what `uwsgibridge.loop.interface.Loop.spawn` has given.

    Returns:
        The stack; empty where the task has ended, or has no frame of the application.
    """
    awaited = _coroutine_of(task)
    frames: list[tuple[FrameType, int]] = []
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        if frame is None:
            # The accelerator has awaitables that run a coroutine.
            inner = (it for it in gc.get_referents(awaited) if isinstance(it, CoroutineType))
            awaited = next(inner, None)
            continue
        if not is_ours(frame.f_code.co_filename):
            frames.append((frame, frame.f_lineno))
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)
    return "".join(traceback.StackSummary.extract(iter(frames)).format()).rstrip("\n")


def is_running(task: object) -> bool:
    """Whether a task of asyncio or trio runs at this moment, and does not wait."""
    return bool(getattr(_coroutine_of(task), "cr_running", False))


def _coroutine_of(task: object) -> Any:
    """Give the outermost coroutine of what `Loop.spawn` has given; None where the task has ended."""
    get_coroutine = getattr(task, "get_coro", None)
    if get_coroutine is not None:
        return get_coroutine()
    return getattr(getattr(task, "lowlevel", None), "coro", None)


def frames_of_threads() -> dict[int, FrameType]:
    """Give the frame of each thread by the thread's identifier, as far as frames can be looked at.

    Without the GIL, threads go on while somebody looks at their frames, which may crash Python ("Frame Objects" in the
    free-threading HOWTO of Python 3.13). So the frame of the calling thread is the only one then.
    """
    if runs_without_gil():
        return {threading.get_ident(): sys._getframe(1)}  # noqa: SLF001 - a documented function
    return sys._current_frames()  # noqa: SLF001 - a documented function


def stack_of_thread(ident: int | None) -> str:
    """Format where a thread is; empty where its frame can't be looked at."""
    frame = frames_of_threads().get(ident or 0)
    return own_stack(frame) if frame is not None else ""


def stacks_of_threads() -> list[str]:
    """Format where the threads of this process are; those that do the same thing share an entry.

    Returns:
        An entry for each stack, below the names of the threads that have it. Threads in an application's
        code come first, since a reader may cut what is too long.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    threads: dict[str, list[str]] = {}
    idle = set()
    frames = frames_of_threads()
    for ident, frame in frames.items():
        stack = own_stack(frame)
        threads.setdefault(stack, []).append(names.pop(ident, str(ident)))
        if is_ours(frame.f_code.co_filename):
            idle.add(stack)
    told = [
        f"{'Thread' if len(threads[stack]) == 1 else 'Threads'} {', '.join(sorted(threads[stack]))}:\n{stack}"
        for stack in sorted(threads, key=idle.__contains__)
    ]
    if runs_without_gil() and names:
        others = ", ".join(sorted(names.values()))
        told.append(f"Other threads, whose stacks can't be looked at without the GIL: {others}")
    return told


def is_ours(filename: str) -> bool:
    """Whether a file of code is of this package or of the import system."""
    # The bundled examples are applications, although they are in this package.
    return filename.startswith(_NOT_ITS_OWN) and not filename.startswith(_EXAMPLES)
