"""Hands requests to their hosts, and keeps those whose host is full.

Which host a connection needs is known only when its packet has come, and that may be long after it was accepted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.host import Entrance


class HeldBack:
    """Requests that arrived when their host was full; true where there are some.

    Args:
        drops: ends a request whose client is gone, and tells whether it was one.
    """

    def __init__(self, drops: Callable[[Connection], bool]) -> None:
        self._waiting: deque[tuple[Entrance, Connection]] = deque()
        self._drops = drops

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def connections(self) -> list[Connection]:
        """List their connections."""
        return [connection for _, connection in self._waiting]

    def submit(self, host: Entrance, connection: Connection) -> bool:
        """Hand a request to its host; keep the request and return False where the host is full."""
        admission = host.admission
        if len(admission.in_flight) < admission.limit:
            admission.in_flight.add(connection)
            host.submit(connection)
            return True
        self._waiting.append((host, connection))
        return False

    def resume(self) -> None:
        """Hand requests to their hosts in the order of their arrival, until a host is full."""
        while self._waiting:
            host, connection = self._waiting[0]
            if len(host.admission.in_flight) >= host.admission.limit:
                break
            self._waiting.popleft()
            if not self._drops(connection):
                host.admission.in_flight.add(connection)
                host.submit(connection)
