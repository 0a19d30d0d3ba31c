"""Limits how many requests at a path run at once in a worker, so that what is slow there leaves places to all else.

A host that is full has the listener pause, and so nothing is accepted for anybody. A request at a limited path never fills a
host: one that has no place waits here, in a queue of its path, and the listener goes on.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Final, NamedTuple, Protocol

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.host import Entrance, Host
from uwsgibridge.hosts.mounts import Mounts
from uwsgibridge.hosts.turn import Turn, path_on_the_wire, waited_seconds
from uwsgibridge.loop.interface import Task, nothing
from uwsgibridge.protocol.request import Request, is_below

# A loop's clock may be early by its resolution.
_CLOCK_SECONDS: Final = 0.002


class Later(Protocol):
    """Has a function called after a time, on the loop."""

    def __call__(self, seconds: float, function: Callable[[], object], /) -> Task: ...


class LimitedMounts(Mounts):
    """The hosts of a worker that has ``--mount-limit``.

    Args:
        mounts: chooses the host.
        applications: the hosts that limits concern.
        limits: how many requests may run, by prefix; the longest prefix counts.
        turn: of the listener; ends what is not to be run.
        most_waiting: how many requests may wait at each prefix.
        later: of the loop.
        changed: called when a request that has waited was ended.
    """

    def __init__(
        self,
        mounts: Mounts,
        applications: Collection[Host],
        limits: Mapping[str, int],
        turn: Turn,
        *,
        most_waiting: int,
        later: Later,
        changed: Callable[[], None],
    ) -> None:
        self.only = None  # the path tells which limit counts
        self.hosts = mounts.hosts
        self.file_prefixes = mounts.file_prefixes
        self._mounts = mounts
        self._applications = applications
        self._turn = turn
        gates = [
            # PATH_INFO has UTF-8 bytes, decoded as latin-1.
            Gate(prefix.encode().decode("latin-1"), limit, turn, most_waiting, later, changed)
            for prefix, limit in limits.items()
        ]
        self._gates = sorted(gates, key=lambda it: len(it.prefix), reverse=True)

    @property
    def connections(self) -> list[Connection]:
        """List the connections of the requests that wait."""
        return [connection for gate in self._gates for connection in gate.connections]

    def resume(self) -> None:
        """Run requests that have waited, where there is room."""
        for gate in self._gates:
            gate.resume()

    def select(self, request: Request) -> Entrance | None:
        """Find the host of a request that may be for a file, or the way to that host."""
        return self._limited(request, self._mounts.select)

    def select_application(self, request: Request) -> Entrance | None:
        """Find the host of a request, or the way to that host."""
        return self._limited(request, self._mounts.select_application)

    def _limited(
        self, request: Request, select: Callable[[Request], Entrance | None]
    ) -> Entrance | None:
        gate = self._gate_of(request)
        host = select(request)
        for application in self._applications:
            if gate is not None and application is host:
                return gate.entrance_of(application)
        return host

    def _gate_of(self, request: Request) -> Gate | None:
        path = path_on_the_wire(request)
        for gate in self._gates:
            if is_below(path, gate.prefix):
                return None if self._turn.exempts(request) else gate
        return None


class GatedEntrance:
    """The way to a host through a gate: what the listener takes for the host.

    Args:
        gate: gets the requests.
        host: of the requests.
    """

    def __init__(self, gate: Gate, host: Host) -> None:
        # The gate has a place for each request, or ends it.
        self.admission: Admission[Connection] = Admission(sys.maxsize, 0, nothing)
        self._gate = gate
        self._host = host

    def submit(self, connection: Connection) -> None:
        """Take over a connection with its request."""
        self.admission.in_flight.discard(connection)
        self._gate.submit(self._host, connection)


class _Waiting(NamedTuple):
    connection: Connection
    host: Host
    deadline: float  # of `time.monotonic()`


class Gate:
    """One limit; all methods belong to the loop's thread.

    Args:
        prefix: of the paths that it is for.
        limit: how many requests may run.
        turn: ends requests that are not run.
        most_waiting: how many may wait.
        later: of the loop.
        changed: called when a request that has waited was ended.
    """

    def __init__(
        self,
        prefix: str,
        limit: int,
        turn: Turn,
        most_waiting: int,
        later: Later,
        changed: Callable[[], None],
    ) -> None:
        self.prefix = prefix
        self._limit = limit
        self._turn = turn
        self._most_waiting = most_waiting if turn.max_queue_seconds else 0
        self._later = later
        self._changed = changed
        # With requests that have ended since the last look: their hosts tell nobody.
        self._running: dict[Connection, Host] = {}
        self._waiting: deque[_Waiting] = deque()
        self._timer: Task | None = None
        self._entrances: dict[int, tuple[Host, GatedEntrance]] = {}

    @property
    def connections(self) -> list[Connection]:
        """List the connections of the requests that wait."""
        return [it.connection for it in self._waiting]

    def entrance_of(self, host: Host) -> GatedEntrance:
        """Give the way to a host."""
        found = self._entrances.get(id(host))
        if found is None:
            self._entrances[id(host)] = found = host, GatedEntrance(self, host)
        return found[1]

    def submit(self, host: Host, connection: Connection) -> None:
        """Run a request, or have it wait, or refuse it."""
        if not self._waiting and self._has_place(host):
            self._run(host, connection)
        elif len(self._waiting) < self._most_waiting:
            left = self._turn.max_queue_seconds - waited_seconds(connection)
            self._waiting.append(_Waiting(connection, host, monotonic() + left))
            self._set_timer()
            self.resume()
        else:
            self._turn.refuse_over_limit(connection)

    def resume(self) -> None:
        """Run requests that have waited, as long as there are places; be woken for the others."""
        while self._waiting:
            self._run_waiting()
            is_asked = self._ask_to_be_woken()
            # A thread may have ended a request before it was asked to wake somebody for that.
            if is_asked and not any(self._has_place(it.host) for it in self._waiting):
                break

    def _ask_to_be_woken(self) -> bool:
        """Have each busy host wake the listener at the end of its next request; False where one has ended meanwhile."""
        is_asked = True
        for host, _ in self._entrances.values():
            in_flight = len(host.admission.in_flight)
            if in_flight and not host.admission.wake_at(in_flight - 1):
                is_asked = False
        return is_asked

    def _run_waiting(self) -> None:
        left: deque[_Waiting] = deque()
        for one in self._waiting:
            if not self._has_place(one.host):
                left.append(one)
            elif not (self._turn.drops(one.connection) or self._turn.refuses(one.connection)):
                self._run(one.host, one.connection)
        self._waiting = left
        self._set_timer()

    def _has_place(self, host: Host) -> bool:
        admission = host.admission
        # The last place of a host is not given away here, since the listener pauses where there is none.
        if len(admission.in_flight) >= max(1, admission.limit - 1):
            return False
        if len(self._running) >= self._limit:
            for connection, its_host in list(self._running.items()):
                if connection not in its_host.admission.in_flight:
                    del self._running[connection]
        return len(self._running) < self._limit

    def _run(self, host: Host, connection: Connection) -> None:
        self._running[connection] = host
        host.admission.in_flight.add(connection)
        host.submit(connection)

    def _set_timer(self) -> None:
        """Have the request refused in time that has waited for the longest."""
        if self._timer is not None and not self._waiting:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and self._waiting:
            soonest = min(it.deadline for it in self._waiting)
            self._timer = self._later(max(0.0, soonest - monotonic()), self._refuse_overdue)

    def _refuse_overdue(self) -> None:
        self._timer = None
        end = monotonic() + _CLOCK_SECONDS
        overdue = [it for it in self._waiting if it.deadline <= end]
        self._waiting = deque(it for it in self._waiting if it.deadline > end)
        for one in overdue:
            if not self._turn.drops(one.connection):
                self._turn.refuse_over_limit(one.connection)
        self._set_timer()
        self._changed()
