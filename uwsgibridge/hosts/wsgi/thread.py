"""The threads that call a WSGI application: what they are for Python, and for the threads that the application starts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class ApplicationThread(threading.Thread):
    """A daemon whose own threads are none.

    It is a daemon, since an application that never returns must not keep the process from exiting. A new thread takes
    over from the one that starts it whether it is a daemon (`threading.Thread.daemon`), and what an application starts
    without a word about that is to be waited for, as where the main thread has started it.

    Args:
        target: what the thread runs.
        args: what that is called with.
        name: of the thread.
    """

    _runs = False

    def __init__(self, target: Callable[..., object], args: tuple[Any, ...], name: str) -> None:
        super().__init__(target=target, args=args, name=name, daemon=True)

    def run(self) -> None:
        # Not before: Python itself asks what this thread is, in this thread as well, until the thread runs.
        self._runs = True
        super().run()

    @property
    def daemon(self) -> bool:
        """Tell whether this is a daemon; False where this thread itself asks, as `threading.Thread` does for a new one."""
        return not (self._runs and threading.get_ident() == self.ident)

    @daemon.setter
    def daemon(self, _: bool) -> None:
        raise RuntimeError("cannot set daemon status of active thread")
