"""The gate of a limited path, where threads end requests at any moment."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.admission import Admission
from uwsgibridge.hosts.mount_limits import Gate
from uwsgibridge.hosts.turn import Turn


class InFlight(set[Any]):
    """A table of which a request ends just before the gate looks at it for the so-manieth time."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self._looks = looks
        self.end: Callable[[Any], None]

    def __len__(self) -> int:
        self._looks -= 1
        if self._looks == 0:
            for one in list(self):
                self.end(one)
        return super().__len__()


class Waiting:
    """A connection with a request."""

    request = SimpleNamespace(vars={})
    accepted_at = 0.0


def later(_seconds: float, _function: Callable[[], object]) -> Any:
    """Make a timer that never goes off."""
    return SimpleNamespace(cancel=lambda: None)


@pytest.mark.parametrize("looks", range(1, 16))
def test_an_end_at_any_moment_lets_the_next_one_run(looks: int) -> None:
    woken: list[bool] = []
    admission: Admission[Any] = Admission(10, 9, lambda: woken.append(True))
    admission.in_flight = in_flight = InFlight(looks)
    in_flight.end = admission.release
    submitted: list[Any] = []
    host: Any = SimpleNamespace(admission=admission, submit=submitted.append)
    turn: Any = SimpleNamespace(
        max_queue_seconds=60.0, drops=lambda _: False, refuses=lambda _: False
    )
    gate = Gate("/slow", 1, cast("Turn", turn), 10, later, lambda: None)
    gate.entrance_of(host)
    made = [cast("Connection", Waiting()) for _ in range(2)]
    for connection in made:
        gate.submit(host, connection)
    if len(submitted) == 1:
        if not woken:
            admission.release(made[0])
        assert woken, "the end of a request wakes nobody"
        gate.resume()
    assert submitted == made
    assert gate.connections == []
