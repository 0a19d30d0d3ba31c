"""Has a scrape in a worker begin anew where the keeper of the directory has changed it meanwhile.

``MultiProcessCollector.collect`` fails where a file is gone that it has listed, and where a process has made its file but has not
given it a size yet. Neither is an error of the application, and both are over after a moment. `uwsgibridge.multiproc.ended`
has the other side.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import importlib.util
import os
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from uwsgibridge.multiproc.names import LOCK

_MODULE: Final = "prometheus_client.multiprocess"

# What `collect` raises then.
_MOMENTARY: Final = (FileNotFoundError, struct.error)

# A change takes milliseconds. One that takes longer has ended with its process, or stands still with it.
_PATIENCE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.002

# While the directory is kept from changes, processes make their files all the same. The system may have taken the CPU
# from one that is about to give its file a size.
_PAUSES_SECONDS: Final = tuple(0.001 * 2**n for n in range(9))


def repeat_failed_scrapes(directory: str) -> None:
    """Have each ``MultiProcessCollector`` of this process repeat a scrape that has met a change of the directory.

    The module is not imported for that: it is changed when the application imports it, as an application that never scrapes
    may never do.

    Args:
        directory: whose files are folded.
    """
    loaded = sys.modules.get(_MODULE)
    if loaded is not None:
        _change(loaded, directory)
    else:
        sys.meta_path.insert(0, _Finder(directory))


class _Finder(MetaPathFinder):
    """Finds the module as others find it, and has it changed once it is loaded."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None, /
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        with contextlib.suppress(ValueError):  # two threads import it at once
            sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_change(module: ModuleType) -> None:
                load(module)
                _change(module, self._directory)

            spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


def _change(module: ModuleType, directory: str) -> None:
    collector = getattr(module, "MultiProcessCollector", None)
    if collector is not None and hasattr(collector, "collect"):
        collector.collect = _repeating(collector.collect, directory)


def _repeating(collect: Callable[[Any], Any], directory: str) -> Callable[[Any], Any]:
    @functools.wraps(collect)
    def collect_again(self: Any) -> Any:
        with contextlib.suppress(*_MOMENTARY):
            return collect(self)
        with _unchanged(directory):
            for seconds in _PAUSES_SECONDS:
                with contextlib.suppress(*_MOMENTARY):
                    return collect(self)
                time.sleep(seconds)
            return collect(self)

    return collect_again


@contextlib.contextmanager
def _unchanged(directory: str) -> Iterator[None]:
    """Keep the directory from being changed while the block runs."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(
            OSError
        ):  # the directory is another one, or the file system has no locks
            lock = os.open(Path(directory) / LOCK, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, lock)
            _take(lock)
            # Not left to `close`: a process that the application forks meanwhile has the descriptor as well.
            stack.callback(fcntl.flock, lock, fcntl.LOCK_UN)
        yield


def _take(lock: int) -> None:
    # flock(2) has no deadline.
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
