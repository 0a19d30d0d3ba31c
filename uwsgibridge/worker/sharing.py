"""Has each thread of a WSGI host accept by itself, where Python runs without the GIL: `fast/sharing.h` has its part.

So the threads run beside each other, and hand nothing over. The loop goes on watching the socket, and looks again and again
whether they get on while connections wait. Where they don't, since all of them are busy, it accepts as well: so pings and
refusals are answered, and what is over a limit waits where it always does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.sockets import ListeningSocket
from uwsgibridge.fast import Intake
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.loop.interface import Loop
from uwsgibridge.worker.handed import HandedConnections
from uwsgibridge.worker.intakes import Intakes
from uwsgibridge.worker.lending import Lender

if TYPE_CHECKING:
    from uwsgibridge.hosts.wsgi.host import WsgiHost


class SharingQueue(Protocol):
    """The queue of the threads of a host, with what the accelerator has for this."""

    @property
    def accepted(self) -> int:
        """How many connections the threads have accepted."""

    @property
    def is_watched(self) -> bool:
        """Whether one of them waits at the socket."""

    def share(self, listening: int, intakes: tuple[Intake | None, ...], /) -> None:
        """Have threads accept on a descriptor, each by one of the intakes."""

    def unshare(self) -> None:
        """Have them accept no more; what they have accepted is in a table after the return."""

    def go_on(self) -> None:
        """Have them accept again where accept(2) had failed for one of them."""


class SharingLender(Lender, Protocol):
    """What is needed of the listener."""

    @property
    def is_alone(self) -> bool:
        """Whether no other worker accepts on the sockets."""


class Shareable(Protocol):
    """The acceptor of the socket."""

    listening: ListeningSocket

    def share(self, sharing: Sharing) -> None:
        """Leave connections to threads, as long as they get on."""


def share(
    lender: SharingLender,
    host: WsgiHost,
    acceptor: Shareable,
    intakes: Intakes,
    loop: Loop,
    flights: FlightRecorder,
) -> Sharing | None:
    """Have the threads of a host accept beside the loop, where that may be.

    It may not be where other workers accept as well, of whom each is to get its part, nor where requests have a limit.

    Args:
        lender: the listener.
        host: gets all requests.
        acceptor: of the only socket.
        intakes: as for `Sharing`, and so the rest.
        loop: the worker's.
        flights: of the worker.
    """
    if host.sharing_queue is None or not lender.is_alone or intakes.max_requests:
        return None
    sharing = Sharing(lender, host, acceptor.listening, intakes, loop, flights)
    acceptor.share(sharing)
    return sharing


class Sharing:
    """One socket, on which the threads of one host accept.

    Args:
        lender: the listener, which serves what is not plain.
        host: gets all requests.
        listening: the socket.
        intakes: make what each thread accepts by.
        loop: the worker's.
        flights: of the worker.
    """

    def __init__(
        self,
        lender: Lender,
        host: WsgiHost,
        listening: ListeningSocket,
        intakes: Intakes,
        loop: Loop,
        flights: FlightRecorder,
    ) -> None:
        self._lender = lender
        self._queue: SharingQueue = host.sharing_queue
        self._loop = loop
        self._accepted = 0
        self._handed = HandedConnections(flights)
        made = []
        for _ in range(host.most_threads):
            own = flights.for_another_thread()
            count = intakes.counters.for_another_thread()
            made.append(intakes.make(listening, own, partial(self._hand_over, own), count))
        self._queue.share(listening.socket.fileno(), tuple(made))

    @property
    def connections(self) -> list[Connection]:
        """List the connections that are on their way to the loop."""
        return self._handed.connections

    @property
    def is_idle(self) -> bool:
        """Whether no connection is on its way to the loop."""
        return not self._handed.connections

    def take_back(self) -> None:
        """Do nothing: the loop accepts as well, and threads accept what they run at once."""

    def gets_on(self) -> bool:
        """Whether a thread is about to accept what waits, or some have accepted since this was asked last."""
        accepted = self._queue.accepted
        has_moved = accepted != self._accepted
        self._accepted = accepted
        return has_moved or self._queue.is_watched

    def go_on(self) -> None:
        """Let threads accept again after a failure, since the loop can."""
        self._queue.go_on()

    def end(self) -> None:
        """Have the threads accept no more; what they have accepted is in flight, or on its way to the loop."""
        self._queue.unshare()

    def _hand_over(self, own: FlightRecorder, connection: Connection, received: int | None) -> None:
        """Have the loop serve a connection; from the thread that has accepted it."""
        self._handed.add(connection, received, own)
        self._loop.run_threadsafe(partial(self._take_handed, connection))

    def _take_handed(self, connection: Connection) -> None:
        with self._handed.taken(connection) as received:
            self._lender.take_handed(connection, received)
        self._lender.tell_if_idle()
