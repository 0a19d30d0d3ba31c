"""Time limits that an application sets for its own requests, beside ``--request-timeout-seconds``."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic

import trio

from uwsgibridge.hosts.wsgi.exchange import WsgiExchange
from uwsgibridge.hosts.wsgi.interruption import RequestInterrupted
from uwsgibridge.hosts.wsgi.running import RunningRequests
from uwsgibridge.loop.interface import Loop


class OwnLimits:
    """Finds the requests of a host by their threads, and gives up those that are over their own limit.

    Args:
        running: the requests that run, with their threads.
        loop: of the worker.
        give_up: called on the loop for a request that is over its limit, with its thread, the time and a nursery.
    """

    def __init__(
        self,
        running: RunningRequests,
        loop: Loop,
        give_up: Callable[[threading.Thread, WsgiExchange, float, trio.Nursery], None],
    ) -> None:
        self._running = running
        self._loop = loop
        self._give_up = give_up
        self._changed = trio.Event()

    def find_running(self, thread: threading.Thread) -> WsgiExchange | None:
        """Find the request that a thread runs."""
        for exchange, its_thread in self._running.items():
            if its_thread is thread:
                return exchange
        return None

    def make_check(self, thread: threading.Thread) -> Callable[[], None] | None:
        """Make a function that raises `RequestInterrupted` where the request of a thread was given up.

        It is for a thread that waits in the bridge's own code, where `Interruption` raises nothing.

        Returns:
            The function; None where the thread runs no request.
        """
        exchange = self.find_running(thread)
        if exchange is None:
            return None

        def check() -> None:
            if exchange.given_up:
                raise RequestInterrupted

        return check

    def limit_running(self, thread: threading.Thread, seconds: float) -> None:
        """Limit the time of the request that a thread runs, from now on.

        Args:
            thread: the calling one.
            seconds: the limit; 0 is none.
        """
        exchange = self.find_running(thread)
        if exchange is not None:
            exchange.own_deadline = monotonic() + seconds if seconds else None
            self._loop.run_threadsafe(self._look_again)

    async def watch(self, nursery: trio.Nursery) -> None:
        """Watch over the limits, until cancelled.

        Args:
            nursery: handed to `give_up`.
        """
        while True:
            self._changed = changed = trio.Event()
            now = monotonic()
            least = math.inf
            for exchange, thread in self._running.items():
                deadline = exchange.own_deadline
                if deadline is None or exchange.given_up:
                    continue
                if deadline <= now:
                    self._give_up(thread, exchange, now, nursery)
                else:
                    least = min(least, deadline - now)
            with trio.move_on_after(least):
                await changed.wait()

    def _look_again(self) -> None:
        self._changed.set()
