"""Processes and threads that an application has started as it was imported, and who ends them."""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
import threading
from typing import Any, Final

from uwsgibridge.system.process_group import end_group, signal_group
from uwsgibridge.system.signals import SERVER_SIGNALS
from uwsgibridge.telemetry.logs import Logger

# How long groups of processes have to end by themselves; a supervisor waits longer for its template.
_END_SECONDS: Final = 2.0

_NAMED_THREADS: Final = 10

_groups: set[int] = set()


def end_in_order_at_exit() -> None:
    """Have this process end its groups at its exit; call it before the application is imported.

    What is registered first with `atexit` runs last, after all functions of the application.
    """
    atexit.register(_end)


def end_group_at_exit(group: int) -> None:
    """Have a group of processes end at this one's exit, after the functions that the application has registered."""
    _groups.add(group)


def stop_group(group: int) -> None:
    """Ask a group of processes to end; what is left of the group is killed when this process ends."""
    if signal_group(group, signal.SIGTERM):
        _groups.add(group)


def forget_processes_of_template() -> None:
    """Have a forked worker forget the processes that were started in the template.

    `multiprocessing` does so in children that it forks itself (``BaseProcess._bootstrap``). Otherwise the worker
    would wait at its end for processes that are not its children, and fail: "can only join a child process".
    Locks, connections to a manager and the like are made anew, as `multiprocessing` does that, too.
    """
    _groups.clear()
    util, process = _multiprocessing("util"), _multiprocessing("process")
    if util is not None and process is not None:
        process._children = set()  # noqa: SLF001 - there is no public way
        util._finalizer_registry.clear()  # noqa: SLF001 - see above
        util._run_after_forkers()  # noqa: SLF001 - see above


def warn_of_threads(logger: Logger) -> None:
    """Log which threads no worker will have: a forked process has the thread that forked, and no other."""
    names = [it.name for it in threading.enumerate() if it is not threading.main_thread()]
    if names:
        logger.warning(
            "threads that the application has started as it was imported do not run in the workers, unless "
            "their library starts them anew in each: start them in --on-fork, or leave out --preload",
            threads=names[:_NAMED_THREADS],
            option="--preload",
        )


def end_multiprocessing_later() -> None:
    """Have `multiprocessing` wait for its processes only after they were asked to end.

    `multiprocessing` registers a function with `atexit` as it is imported. That function waits for processes
    which may never end by themselves.
    """
    util = _multiprocessing("util")
    if util is not None:
        atexit.unregister(util._exit_function)  # noqa: SLF001 - there is no public way


def _end() -> None:
    # The interpreter restores default handlers later: a signal must not kill a process that is ending.
    for number in SERVER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    util = _multiprocessing("util")
    if util is not None:
        with contextlib.suppress(Exception):
            util._run_finalizers(0)  # noqa: SLF001 - there is no public way to end managers and pools
    for group in _groups:
        end_group(group, _END_SECONDS)
    if util is not None:
        util._exit_function()  # noqa: SLF001 - there is no public way; all processes have ended


def _multiprocessing(name: str) -> Any:
    """Give a module of `multiprocessing`; None where the application has not imported it."""
    return sys.modules.get(f"multiprocessing.{name}")
