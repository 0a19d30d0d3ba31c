"""Lends the listening socket to the only thread of a WSGI host, which accepts by itself as long as requests are short.

So a request wakes one thread, and the loop's thread sleeps. The loop accepts again as soon as a request takes longer,
so that pings and refusals are answered beside it. `fast/lending.h` has the thread's part; without the accelerator, and
with more than one thread or socket, the loop does all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.fast import Intake
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.loop.interface import Loop

# How long requests may take before the loop accepts beside them: `ALARM_NANOSECONDS` in `fast/lending.h`.
_SHORT_SECONDS: Final = 0.005

# How soon to lend the socket for the first time: the thread is about to wait.
_SOON_SECONDS: Final = 0.001

# How soon to look whether the thread is idle, so that the socket can be lent again. The time is doubled after each
# look in vain.
_FIRST_LOOK_SECONDS: Final = 0.05
_LAST_LOOK_SECONDS: Final = 0.8

# How many connections may be on their way back to the loop: more come faster than the loop can serve them.
_MAX_HANDED: Final = 32


class Borrower(Protocol):
    """The queue of the only thread of a host: what `fast/lending.h` has for the loop.

    Attributes:
        accepted: how many connections the thread has accepted.
        is_accepting: whether it may have a connection that is in no table yet.
        is_lent: whether it accepts.
        is_idle: whether it waits, and nothing waits for it.
    """

    @property
    def accepted(self) -> int: ...
    @property
    def is_accepting(self) -> bool: ...
    @property
    def is_lent(self) -> bool: ...
    @property
    def is_idle(self) -> bool: ...

    def lend(self, intake: Intake, listening: int, /) -> None:
        """Have the thread accept on a descriptor."""

    def take_back(self) -> None:
        """Have it accept no more."""

    def set_alarm(self, seconds: float, /) -> None:
        """Have `fileno` become readable in so many seconds, less than one; 0 is never."""

    def hear_alarm(self) -> None:
        """Have `fileno` be readable no more."""

    def fileno(self) -> int:
        """Give the descriptor of the alarm."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A connection that the thread has accepted, and that is the loop's to serve.

    Attributes:
        connection: the connection.
        data: what was received from it; None where nothing was.
    """

    connection: Connection
    data: bytes | None


class Lending:
    """Lends one socket to one thread, again and again.

    Args:
        borrower: of the host that gets all requests.
        loop: is told by the alarm.
        flights: of the worker.
        make_intake: makes what the thread accepts by. Its arguments are the recorder that the thread has for itself,
            and the function that gets what is not plain.
        lendable: gives the acceptor whose socket may be lent now; None where none may.
        take: serves a connection that was handed back, with the number of bytes that the worker's recorder has of it.
        changed: called where the thread, or a connection that it has handed back, may have come to its end.
    """

    def __init__(
        self,
        borrower: Borrower,
        *,
        loop: Loop,
        flights: FlightRecorder,
        make_intake: Callable[[FlightRecorder, Callable[[Connection, int | None], None]], Intake],
        lendable: Callable[[], Lendable | None],
        take: Callable[[Connection, int | None], None],
        changed: Callable[[], None],
    ) -> None:
        self._borrower = borrower
        self._loop = loop
        self._flights = flights
        self._own_flights = flights.for_another_thread()
        self._intake = make_intake(self._own_flights, self._hand_back)
        self._lendable = lendable
        self._take = take
        self._changed = changed
        self._lent: Lendable | None = None
        self._accepted = 0
        self._look_seconds = _FIRST_LOOK_SECONDS
        self._handed: deque[Handed] = deque()
        self._is_ended = False
        borrower.set_alarm(_SOON_SECONDS)
        self._watch = loop.watch(borrower, self._on_alarm)

    @property
    def connections(self) -> list[Connection]:
        """List the connections that are on their way back to the loop."""
        return [it.connection for it in list(self._handed)]

    @property
    def is_lent(self) -> bool:
        """Whether the thread accepts."""
        return self._borrower.is_lent

    @property
    def is_idle(self) -> bool:
        """Whether the thread has no connection that is in no table."""
        return not self._handed and not self._borrower.is_accepting

    def take_back(self) -> None:
        """Have the loop accept again; later, the socket is lent anew where it may be."""
        self._borrower.take_back()
        if self._lent is not None:
            lent, self._lent = self._lent, None
            lent.resume()
            self._look_later()

    def end(self) -> None:
        """Take the socket back for good; the alarm still tells of the last connection."""
        self._is_ended = True
        self.take_back()

    def _look_later(self) -> None:
        if self._is_ended:
            return
        self._borrower.set_alarm(self._look_seconds)
        self._look_seconds = min(2 * self._look_seconds, _LAST_LOOK_SECONDS)

    def _on_alarm(self) -> None:
        borrower = self._borrower
        borrower.hear_alarm()
        if self._lent is None:
            self._lend()
        elif not borrower.is_lent:  # the thread has met an error
            self.take_back()
        elif borrower.accepted != self._accepted:
            self._accepted = borrower.accepted
            if not borrower.is_idle:
                borrower.set_alarm(_SHORT_SECONDS)
        elif not borrower.is_idle:  # it runs what it ran at the last alarm
            self.take_back()
        self._changed()

    def _lend(self) -> None:
        acceptor = None if self._is_ended else self._lendable()
        if acceptor is None or not self._borrower.is_idle:
            self._look_later()
            return
        acceptor.suspend()
        self._lent = acceptor
        self._accepted = self._borrower.accepted
        self._look_seconds = _FIRST_LOOK_SECONDS
        try:
            self._borrower.lend(self._intake, acceptor.listening.socket.fileno())
        except OSError:  # the application has closed the socket, or no descriptor is left
            self.take_back()

    def _hand_back(self, connection: Connection, received: int | None) -> None:
        """Have the loop serve a connection; from the thread."""
        data = None if received is None else bytes(self._own_flights.scratch[:received])
        self._handed.append(Handed(connection, data))
        if len(self._handed) >= _MAX_HANDED:
            self._borrower.take_back()  # the alarm has the loop accept again, which knows its limits
        self._own_flights.drop_packet()
        self._loop.run_threadsafe(self._take_handed)

    def _take_handed(self) -> None:
        handed = self._handed[0]
        received = None
        if handed.data is not None:
            received = len(handed.data)
            self._flights.scratch[:received] = handed.data
        self._take(handed.connection, received)
        self._handed.popleft()
        self._changed()


class Lendable(Protocol):
    """An acceptor, for as long as its socket is lent."""

    listening: ListeningSocket
    suspend: Callable[[], None]
    resume: Callable[[], None]

