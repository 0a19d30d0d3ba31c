"""What a host is to the listener."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import trio

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.streams import Ending


class Host(Protocol):
    """Where an application lives.

    Attributes:
        admission: how much it holds, and what.
    """

    admission: Admission[Connection]

    @property
    def lost(self) -> Collection[Connection]:
        """Requests that were given up and whose thread or task still runs: not in flight, and no stop waits for them."""

    @property
    def capacity(self) -> int:
        """How many requests it can run at once."""

    @property
    def websockets(self) -> int:
        """How many WebSockets are open."""

    def queue_seconds(self, now: float) -> float:
        """Tell how long the request has waited that waits the longest for a place to run.

        Args:
            now: `time.monotonic()`.
        """

    def submit(self, connection: Connection) -> None:
        """Take over a connection with its request; answer, end it, and release it."""

    async def start(self, nursery: trio.Nursery) -> None:
        """Get ready to serve.

        Args:
            nursery: for what runs as long as the host.

        Raises:
            ApplicationError: the application says that it can't.
        """

    def drain(self) -> None:
        """Begin to end what would not end by itself, such as WebSockets; requests accepted before may still be submitted."""

    def end_streams(self, ending: Ending) -> None:
        """Have streams end by themselves, those that begin later as well."""

    def break_off(self) -> None:
        """End what is in flight at once, so that clients see it."""

    async def stop(self) -> None:
        """End what `start` began; nothing is in flight any more."""
