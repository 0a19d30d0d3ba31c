"""The fields of an exchange of WSGI: of a class of the accelerator where it is in use, else of a class of Python."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from uwsgibridge.fast import accelerator

if TYPE_CHECKING:
    from uwsgibridge.figures.recorder import Recorder
    from uwsgibridge.hosts.wsgi.context import ExchangeContext
    from uwsgibridge.hosts.wsgi.interruption import Interruption
    from uwsgibridge.protocol.response import Response


class PythonFields:
    """The fields that other code reads as well, with their defaults on the class.

    Attributes:
        started_at: when the application was called, of `time.monotonic()`.
        recorder: of the thread that runs the exchange.
        given_up: whether another thread has taken the connection away and ended it. That thread sets it, under
            `end_lock`, at any moment of the thread that runs the exchange.
        has_begun: whether the accelerator has sent a part of the answer; what Python has sent is told by
            `Exchange._has_written`.
        interruption: interrupts the thread of the request; set before `given_up`.
    """

    started_at: float
    recorder: Recorder
    given_up = False
    has_begun = False
    interruption: Interruption | None = None
    _response: Response
    _context: ExchangeContext
    _answer_began = 0.0

    @property
    def end_lock(self) -> threading.Lock:
        """The lock that decides whether the request's thread ends the connection, or who gives the request up.

        With the accelerator in a free-threaded Python, each exchange has its own: what is done in C is under it, too.
        """
        return self._context.end_lock


if TYPE_CHECKING:
    WsgiFields = PythonFields
else:
    WsgiFields = PythonFields if accelerator is None else accelerator.WsgiFields
