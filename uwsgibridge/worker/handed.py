"""Connections that threads have accepted, and that are the loop's to serve: pings, half packets, and what is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from uwsgibridge.connection.connection import Connection
from uwsgibridge.link.flights import FlightRecorder


class HandedConnections:
    """Those that are on their way from a thread to the loop, with what was received of each.

    Args:
        flights: the recorder of the loop's thread.
    """

    def __init__(self, flights: FlightRecorder) -> None:
        self._flights = flights
        self._received: dict[Connection, bytes | None] = {}

    @property
    def connections(self) -> list[Connection]:
        """List them."""
        return list(self._received)

    def add(self, connection: Connection, received: int | None, own: FlightRecorder) -> None:
        """Add a connection; from the thread that has accepted it.

        Args:
            connection: the connection.
            received: how many bytes of it the thread's recorder has; None where nothing was received.
            own: that recorder.
        """
        self._received[connection] = None if received is None else bytes(own.scratch[:received])
        own.drop_packet()

    @contextlib.contextmanager
    def taken(self, connection: Connection) -> Iterator[int | None]:
        """Give the number of bytes that the loop's recorder has of a connection now; it is on its way until the end."""
        data = self._received[connection]
        try:
            if data is None:
                yield None
            else:
                self._flights.scratch[: len(data)] = data
                yield len(data)
        finally:
            del self._received[connection]
