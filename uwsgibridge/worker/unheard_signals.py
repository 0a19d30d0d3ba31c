"""Notices signals that a blocked event loop does not hear, and sees to it that the process ends all the same."""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
from collections.abc import Callable, Iterable
from functools import partial
from time import sleep
from types import FrameType
from typing import Final, TypeAlias

from uwsgibridge.telemetry.logs import Logger
from uwsgibridge.telemetry.stacks import stack_of_thread
from uwsgibridge.worker.process_end import ProcessEnd

_Handler: TypeAlias = Callable[[int, FrameType | None], object]

# How long a loop may take to hear a signal.
_HEARING_SECONDS: Final = 1.0


class UnheardSignals:
    """Watches signals that ask a worker to stop, whose handlers only leave a note for the event loop.

    An ASGI application that computes or waits without awaiting, in its lifespan or in a request, keeps its loop from
    reading the note. Python's own part of a handler runs meanwhile, between two instructions of the application.

    Args:
        end: sees to the end of the process.
        logger: where log events go.
        drain_seconds: how long the worker may take for its end.
        hurries: whether a second signal ends the process at once.
    """

    def __init__(
        self, end: ProcessEnd, logger: Logger, *, drain_seconds: float, hurries: bool
    ) -> None:
        self._end = end
        self._log = logger
        self._drain_seconds = drain_seconds
        self._hurries = hurries
        self._is_told = False
        self._handlers: dict[signal.Signals, _Handler] = {}
        self._shared: dict[signal.Signals, _Handler] = {}
        # How many have come, and how many of them the loop had not heard when the last one came.
        self._count = 0
        self._unheard = 0

    def watch(self, numbers: Iterable[signal.Signals]) -> None:
        """Watch signals whose handlers are set already; whoever has set those handlers removes these as well."""
        for number in numbers:
            handler = signal.getsignal(number)

            def note(number: int, frame: FrameType | None, /, handler: object = handler) -> None:
                self._note(number)
                if callable(handler):
                    handler(number, frame)

            signal.signal(number, note)
            self._handlers[number] = note

    def share(self) -> None:
        """Get the signals whose handlers the application has replaced since `watch`, after its own handlers.

        A process without a supervisor would not stop otherwise, and one of a supervisor later than it should. It may be
        called again, for handlers that have come since.
        """
        for number, ours in self._handlers.items():
            theirs = signal.getsignal(number)
            is_known = theirs is ours or theirs is self._shared.get(number)
            if callable(theirs) and not is_known:
                self._shared[number] = partial(self._share, theirs, ours)
                signal.signal(number, self._shared[number])

    def _share(
        self, theirs: _Handler, ours: _Handler, number: int, frame: FrameType | None
    ) -> None:
        count = self._count
        try:
            # The end that such a handler asks for comes in order. Its exception would end the loop, and all that runs on it.
            with contextlib.suppress(SystemExit, KeyboardInterrupt):
                theirs(number, frame)
        finally:
            # The application's handler may have called the one that it has replaced.
            if self._count == count:
                ours(number, frame)

    def hear(self) -> None:
        """Record that the loop has heard what has come so far."""
        self._unheard = 0

    def _note(self, number: int) -> None:
        self._count += 1
        self._unheard += 1
        # Not by `threading`: the handler may have interrupted that module while it held a lock.
        with contextlib.suppress(RuntimeError):  # the system has no more threads
            _thread.start_new_thread(self._look_later, (number,))

    def _look_later(self, number: int) -> None:
        # A signal that this thread gets, or one that it starts, would not wake the main thread, whose code handles it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        sleep(_HEARING_SECONDS)
        if not self._unheard:
            return
        if not self._is_told:
            self._is_told = True
            self._log.warning(
                "asked to stop while the event loop is blocked: the application computes or waits without awaiting",
                signal=signal.Signals(number).name,
                option="--graceful-timeout-seconds",
                stack=stack_of_thread(threading.main_thread().ident),
            )
        self._end.begin(self._drain_seconds)
        if self._hurries and self._count > 1:
            self._end.now(0)
