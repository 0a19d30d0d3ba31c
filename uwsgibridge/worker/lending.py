"""Lends the listening socket to the threads of a WSGI host, which accept by themselves as long as requests are short.

So a request wakes one thread, and the loop's thread sleeps. The loop accepts again while requests take long, so that
other threads run beside them, and pings and refusals are answered. `fast/lending.h` has the threads' part; without
the accelerator, and with more than one host or socket, the loop does all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, Protocol

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.fast import Intake
from uwsgibridge.hosts.host import Host
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.loop.interface import Loop
from uwsgibridge.worker.handed import HandedConnections
from uwsgibridge.worker.intakes import Intakes

# How soon to look once more after a thread that has not come back: where this process has stood still, it comes now.
_AGAIN_SECONDS: Final = 0.001

# How soon to lend the socket for the first time: the threads are about to wait.
_SOON_SECONDS: Final = 0.001

# How soon to look whether the socket can be lent again. The time is doubled until it was lent for as long. Where other
# threads are free, the first request that takes long keeps a connection waiting for 5 ms, so that it is tried rarely.
_LOOK_SECONDS: Final = {True: (0.05, 0.8), False: (1.0, 64.0)}

# How soon to look again where the loop can't lend at the moment.
_BUSY_SECONDS: Final = 0.05

# Where all threads are busy, their requests are short enough if they begin so many in a second: one thread could do all.
_QUICK_PER_SECOND: Final = 1000


class Borrower(Protocol):
    """The queue of the threads of a host: what `fast/lending.h` has for the loop."""

    @property
    def taken(self) -> int:
        """How many connections the threads have got from the loop."""

    @property
    def accepted(self) -> int:
        """How many connections the threads have accepted."""

    @property
    def is_accepting(self) -> bool:
        """Whether one of them may have a connection that is in no table yet."""

    @property
    def is_lent(self) -> bool:
        """Whether they accept."""

    @property
    def is_overdue(self) -> bool:
        """Whether none of them waits at the socket, or has come back to it for some milliseconds."""

    @property
    def has_waiter(self) -> bool:
        """Whether the queue is empty, and one of them waits at it."""

    def lend(self, intake: Intake, listening: int, /) -> None:
        """Have the threads accept on a descriptor."""

    def take_back(self) -> None:
        """Have them accept no more."""

    def set_alarm(self, seconds: float, /) -> None:
        """Have `fileno` become readable in so many seconds; 0 is never."""

    def hear_alarm(self) -> None:
        """Have `fileno` be readable no more."""

    def fileno(self) -> int:
        """Give the descriptor of the alarm."""


class Lendable(Protocol):
    """An acceptor, for as long as its socket is lent."""

    listening: ListeningSocket
    suspend: Callable[[], None]

    def resume(self) -> None:
        """Have the loop watch the socket again."""


class Lender(Protocol):
    """What is needed of the listener."""

    def lendable(self) -> Lendable | None:
        """Give the acceptor whose socket may be lent now; None where none may."""

    def take_handed(self, connection: Connection, received: int | None) -> None:
        """Serve a connection that was handed back, with the number of bytes that the worker's recorder has of it."""

    def tell_if_idle(self) -> None:
        """Look whether a thread, or a connection that it has handed back, was the last thing to wait for."""


def lend(
    lender: Lender,
    host: Host,
    listening: ListeningSocket,
    intakes: Intakes,
    loop: Loop,
    flights: FlightRecorder,
) -> Lending | None:
    """Have the threads of a host accept, where that may be; the arguments are those of `Lending`."""
    borrower = host.borrower
    if borrower is None:
        return None
    return Lending(
        lender,
        borrower,
        has_one_thread=host.capacity == 1,
        listening=listening,
        intakes=intakes,
        loop=loop,
        flights=flights,
    )


class Lending:
    """Lends one socket to one thread, again and again.

    Args:
        lender: the listener.
        borrower: of the host that gets all requests.
        has_one_thread: whether the host has no other.
        listening: the socket.
        intakes: make what the threads accept by.
        loop: is told by the alarm.
        flights: of the worker.
    """

    def __init__(
        self,
        lender: Lender,
        borrower: Borrower,
        *,
        has_one_thread: bool,
        listening: ListeningSocket,
        intakes: Intakes,
        loop: Loop,
        flights: FlightRecorder,
    ) -> None:
        self._lender = lender
        self._borrower = borrower
        self._loop = loop
        self._own_flights = flights.for_another_thread()
        intake = intakes.make(listening, self._own_flights, self._hand_back)
        assert intake is not None, "there is a borrower without the accelerator"
        self._intake = intake
        self._lent: Lendable | None = None
        self._accepted = 0
        self._count_from_now()
        self._first_look, self._last_look = _LOOK_SECONDS[has_one_thread]
        self._look_seconds = self._first_look
        self._lent_at = 0.0
        self._handed = HandedConnections(flights)
        self._is_ended = False
        borrower.set_alarm(_SOON_SECONDS)
        self._watch = loop.watch(borrower, self._on_alarm)

    @property
    def connections(self) -> list[Connection]:
        """List the connections that are on their way back to the loop."""
        return self._handed.connections

    @property
    def is_lent(self) -> bool:
        """Whether the thread accepts."""
        return self._borrower.is_lent

    @property
    def is_idle(self) -> bool:
        """Whether the thread has no connection that is in no table."""
        return not self._handed.connections and not self._borrower.is_accepting

    def take_back(self) -> None:
        """Have the loop accept again; later, the socket is lent anew where it may be."""
        self._borrower.take_back()
        if self._lent is not None:
            lent, self._lent = self._lent, None
            lent.resume()
            if monotonic() - self._lent_at >= self._look_seconds:
                self._look_seconds = self._first_look
            self._count_from_now()
            self._look_later()

    def end(self) -> None:
        """Take the socket back for good; the alarm still tells of the last connection."""
        self._is_ended = True
        self.take_back()

    def _look_later(self) -> None:
        if self._is_ended:
            return
        self._borrower.set_alarm(self._look_seconds)
        self._look_seconds = min(2 * self._look_seconds, self._last_look)

    def _on_alarm(self) -> None:
        borrower = self._borrower
        borrower.hear_alarm()
        before, self._accepted = self._accepted, borrower.accepted
        if self._lent is None:
            self._lend()
        elif not borrower.is_lent:
            if not self._handed.connections:  # a thread has met an error
                self.take_back()
        elif not borrower.is_overdue:
            pass  # the thread sets the alarm by itself
        elif borrower.accepted != before:
            borrower.set_alarm(_AGAIN_SECONDS)
        else:  # it runs what it ran at the last alarm
            self.take_back()
        self._lender.tell_if_idle()

    def _lend(self) -> None:
        if self._is_ended:
            return
        acceptor = self._lender.lendable()
        is_quick = self._is_quick()
        self._count_from_now()
        if acceptor is None or not (self._borrower.has_waiter or is_quick):
            self._borrower.set_alarm(_BUSY_SECONDS)
            return
        acceptor.suspend()
        self._lent = acceptor
        self._accepted = self._borrower.accepted
        self._lent_at = monotonic()
        self._lend_on()

    def _count_from_now(self) -> None:
        self._counted_from = monotonic()
        self._taken = self._borrower.taken

    def _is_quick(self) -> bool:
        """Whether the threads have begun many requests since `_count_from_now`."""
        seconds = monotonic() - self._counted_from
        return self._borrower.taken - self._taken > seconds * _QUICK_PER_SECOND

    def _lend_on(self) -> None:
        acceptor = self._lender.lendable()
        if acceptor is None:
            self.take_back()
            return
        try:
            self._borrower.lend(self._intake, acceptor.listening.socket.fileno())
        except OSError:  # no descriptor is left
            self.take_back()

    def _hand_back(self, connection: Connection, received: int | None) -> None:
        """Have the loop serve a connection; from the thread."""
        self._handed.add(connection, received, self._own_flights)
        # The next one is accepted when it is known whether there is room for it.
        self._borrower.take_back()
        self._loop.run_threadsafe(partial(self._take_handed, connection))

    def _take_handed(self, connection: Connection) -> None:
        with self._handed.taken(connection) as received:
            self._lender.take_handed(connection, received)
        if self._lent is not None:
            self._lend_on()
        self._lender.tell_if_idle()
