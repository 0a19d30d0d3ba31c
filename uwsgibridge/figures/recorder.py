"""Records requests in the memory that a worker counts in: a thread has a recorder for each mount that it serves."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from uwsgibridge.fast import accelerator
from uwsgibridge.figures.layout import (
    FIRST_HISTOGRAM,
    MESSAGES_IN,
    MESSAGES_OUT,
    METHODS,
    PENDING_CELL,
    PENDING_VALUE,
    RECEIVED,
    SENT,
    TIMES,
    request_cell,
)

# The first cell of each method's row.
_ROWS: Final = {name: request_cell(index, 0) for index, name in enumerate(METHODS)}
_OTHER_ROW: Final = _ROWS[METHODS[-1]]

# A time that was not measured.
UNKNOWN: Final = -1.0

_NANOSECONDS: Final = 1_000_000_000


class Recorder(Protocol):
    """Records what has become of requests; it belongs to one thread, unless it says otherwise."""

    def mark(self, method: str, outcome: int, /) -> None:
        """Note that an answer is about to be sent whole, by one call.

        The kernel ends a process that is killed when it comes back from a call. So a request whose answer the client
        has got is counted even where the process never gets to `record`.

        Args:
            method: of the request.
            outcome: an index of `OUTCOMES`.
        """

    def unmark(self) -> None:
        """Note that the answer was not sent whole after all."""

    def record(
        self, method: str, outcome: int, received: int, sent: int, seconds: Sequence[float], /
    ) -> None:
        """Record a request that is over.

        Args:
            method: of the request.
            outcome: an index of `OUTCOMES`.
            received: bytes of its body.
            sent: bytes of the answer's body.
            seconds: for each of `TIMES`; `UNKNOWN` where it was not measured.
        """

    def count_messages(self, received: int, sent: int, /) -> None:
        """Count messages of WebSockets."""


class PythonRecorder:
    """Records in Python alone.

    Args:
        cells: a block of the memory.
        bounds: of the histograms.
    """

    def __init__(self, cells: memoryview, bounds: tuple[float, ...]) -> None:
        self._cells = cells
        # What they hold, since nobody else writes to them: to read a list costs less than to read the memory.
        self._held = cells.tolist()
        self._bounds = bounds
        self._histogram_cells = len(bounds) + 2

    def mark(self, method: str, outcome: int, /) -> None:
        cells = self._cells
        cell = _ROWS.get(method, _OTHER_ROW) + outcome
        # In this order: who reads the first one after a kill finds the second one set.
        cells[PENDING_VALUE] = self._held[cell] + 1
        cells[PENDING_CELL] = cell

    def unmark(self) -> None:
        self._cells[PENDING_CELL] = 0

    def record(
        self, method: str, outcome: int, received: int, sent: int, seconds: Sequence[float], /
    ) -> None:
        cells, held = self._cells, self._held
        at = _ROWS.get(method, _OTHER_ROW) + outcome
        held[at] = cells[at] = held[at] + 1
        cells[PENDING_CELL] = 0
        if received:
            held[RECEIVED] = cells[RECEIVED] = held[RECEIVED] + received
        if sent:
            held[SENT] = cells[SENT] = held[SENT] + sent
        bounds, size = self._bounds, self._histogram_cells
        start = FIRST_HISTOGRAM
        for value in seconds:
            if value >= 0.0:  # what `observe` does, without a call for each
                at = start + bisect_left(bounds, value)
                held[at] = cells[at] = held[at] + 1
                at = start + size - 1
                held[at] = cells[at] = held[at] + int(value * _NANOSECONDS)
            start += size

    def count_messages(self, received: int, sent: int, /) -> None:
        cells, held = self._cells, self._held
        held[MESSAGES_IN] = cells[MESSAGES_IN] = held[MESSAGES_IN] + received
        held[MESSAGES_OUT] = cells[MESSAGES_OUT] = held[MESSAGES_OUT] + sent


class SharedRecorder:
    """A recorder for threads that have none of their own: of WebSockets of WSGI, and of who gives requests up.

    Args:
        own: does the work.
    """

    def __init__(self, own: Recorder) -> None:
        self._own = own
        self._lock = threading.Lock()

    def mark(self, method: str, outcome: int, /) -> None:
        """Do nothing: several threads may be about to send."""

    def unmark(self) -> None:
        """Do nothing, as `mark`."""

    def record(
        self, method: str, outcome: int, received: int, sent: int, seconds: Sequence[float], /
    ) -> None:
        with self._lock:
            self._own.record(method, outcome, received, sent, seconds)

    def count_messages(self, received: int, sent: int, /) -> None:
        with self._lock:
            self._own.count_messages(received, sent)


def observe(cells: memoryview, start: int, bounds: Sequence[float], seconds: float) -> None:
    """Put one observation into a histogram, which begins at a cell."""
    cells[start + bisect_left(bounds, seconds)] += 1
    cells[start + len(bounds) + 1] += int(seconds * _NANOSECONDS)


def make_recorder(cells: memoryview, bounds: tuple[float, ...]) -> Recorder:
    """Make the recorder of a thread; the arguments are those of `PythonRecorder`."""
    if accelerator is None:
        return PythonRecorder(cells, bounds)
    made: Recorder = accelerator.Recorder(cells, bounds)
    return made


if TYPE_CHECKING:
    _complies: tuple[type[Recorder], ...] = (PythonRecorder, SharedRecorder)

assert len(TIMES) == 5, "the accelerator knows their number"
