"""Finds the request that calls: its variables for the access log, and its time limit.

The hosts of a worker register themselves. A request pays nothing for that: it is looked for when the application asks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableMapping
from typing import Final, Protocol


class RunningRequest(Protocol):
    """A request while the application runs it.

    Attributes:
        log_variables: what the application has set for the access log; None where it has set nothing.
    """

    log_variables: MutableMapping[str, bytes] | None


class WsgiRequests(Protocol):
    """The requests of one host."""

    def find_running(self, thread: threading.Thread) -> RunningRequest | None:
        """Find the request that a thread runs."""

    def make_check(self, thread: threading.Thread) -> Callable[[], None] | None:
        """Make a function that raises in a thread where its present request is given up; None where it has none."""

    def limit_running(self, thread: threading.Thread, seconds: float) -> None:
        """Limit the time of the request that a thread runs, from now on; 0 is no limit."""


_hosts: Final[list[WsgiRequests]] = []


def add_host(host: WsgiRequests) -> None:
    """Have the requests of a host found."""
    _hosts.append(host)


def set_log_variable(name: str, value: bytes) -> None:
    """Set a variable for the line of this request in the access log; outside of a request, nothing happens."""
    request = _find()
    if request is not None:
        if request.log_variables is None:
            request.log_variables = {}
        request.log_variables[name] = value


def get_log_variable(name: str) -> bytes | None:
    """Give what `set_log_variable` has set for this request; None where it has not."""
    request = _find()
    if request is None or request.log_variables is None:
        return None
    return request.log_variables.get(name)


def limit_seconds(seconds: float) -> None:
    """Limit the time of this request from now on; 0 is no limit. Outside of a request, nothing happens."""
    thread = threading.current_thread()
    for host in _hosts:
        if host.find_running(thread) is not None:
            host.limit_running(thread, seconds)


def make_check() -> Callable[[], None]:
    """Make a function that raises where this request is given up because of its time; for what waits in its thread."""
    thread = threading.current_thread()
    found = (host.make_check(thread) for host in _hosts)
    return next((it for it in found if it is not None), lambda: None)


def _find() -> RunningRequest | None:
    thread = threading.current_thread()
    found = (host.find_running(thread) for host in _hosts)
    return next((it for it in found if it is not None), None)
