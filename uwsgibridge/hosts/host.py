"""The interface of a host, as the listener and the worker use it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import trio

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.streams import Ending
from uwsgibridge.protocol.request import Request

if TYPE_CHECKING:
    from uwsgibridge.hosts.underway import Underway


class Entrance(Protocol):
    """What the listener hands a request to.

    Attributes:
        admission: the table of its requests in flight, with its limit.
    """

    admission: Admission[Connection]

    @property
    def submit(self) -> Callable[[Connection], None]:
        """Takes over a connection with its request: answers the request, ends the connection, releases the place."""


# Finds who gets a request; and what is done with a request that has arrived.
Select: TypeAlias = Callable[[Request], Entrance | None]
Route: TypeAlias = Callable[[Connection, Select], None]


class Host(Entrance, Protocol):
    """Runs one mounted application.

    Attributes:
        label: of its mount, in figures.
        runs_on_loop: whether its requests are tasks of the worker's event loop; else they have threads.
    """

    label: str
    runs_on_loop: bool

    @property
    def given_up(self) -> Collection[Connection]:
        """Requests that were given up and whose thread or task still runs; a stop does not wait for them."""

    @property
    def capacity(self) -> int:
        """How many requests the host can run at once."""

    @property
    def busy(self) -> int:
        """How many requests run now, each of which has a thread or a task."""

    @property
    def websockets(self) -> int:
        """How many WebSockets are open."""

    @property
    def borrower(self) -> Any:
        """What the listening socket may be lent to; None where the loop has to accept: see `worker.lending`."""

    def queue_seconds(self, now: float) -> float:
        """Tell how long the oldest request that does not run yet has waited.

        Args:
            now: `time.monotonic()`.
        """

    def underway(self) -> list[Underway]:
        """List the requests in flight and those that were given up, in no order; called rarely."""

    async def start(self, nursery: trio.Nursery) -> None:
        """Get ready to serve.

        Args:
            nursery: runs the host's own tasks.

        Raises:
            ApplicationError: the application's startup failed.
        """

    def drain(self) -> None:
        """Begin to end what does not end by itself, such as WebSockets; accepted requests may still be submitted."""

    def end_streams(self, ending: Ending) -> None:
        """Tell streams to end, including those that begin later."""

    def break_off(self) -> None:
        """End all requests in flight at once, so that clients notice."""

    async def stop(self) -> None:
        """Stop what `start` began, when no request is in flight any more."""
