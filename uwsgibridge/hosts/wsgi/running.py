"""Tells which request each thread of a WSGI host runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uwsgibridge.hosts.wsgi.exchange import WsgiExchange

Running = dict["WsgiExchange", threading.Thread]


class RunningRequests:
    """The requests that run, in a table for each thread, so that a free-threaded Python has no lock that all threads need.

    Who removes a request from its table ends it: its own thread, or the watch over deadlines. All methods are for any thread.
    """

    __slots__ = ("_tables",)

    def __init__(self) -> None:
        self._tables: list[Running] = []

    def __len__(self) -> int:
        return sum(map(len, self._tables))

    def __iter__(self) -> Iterator[WsgiExchange]:
        return iter([exchange for exchange, _ in self.items()])

    def add_table(self, table: Running) -> None:
        """Add the table of a thread, which puts each exchange there when it begins."""
        self._tables.append(table)

    def items(self) -> list[tuple[WsgiExchange, threading.Thread]]:
        """List the exchanges that run now, with their threads."""
        return [item for table in self._tables for item in list(table.items())]

    def thread_of(self, exchange: WsgiExchange) -> threading.Thread | None:
        """Find the thread that runs an exchange."""
        return dict(self.items()).get(exchange)

    def take(self, exchange: WsgiExchange) -> bool:
        """Remove an exchange; tell whether it was there. Only one of several threads that do this gets True."""
        return any(table.pop(exchange, None) is not None for table in self._tables)
