"""Notes how full a host is at the moment when it is looked at whether somebody is to be woken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from uwsgibridge.hosts.admission import Admission

_seen: list[int] = []


class _Asked(Admission[Any]):
    __slots__ = ()

    def _note(self) -> int:
        _seen.append(len(self.in_flight))
        return -1

    _wake_at = property(_note)  # nobody waits


@contextmanager
def seen_by_who_asks(admission: Admission[Any]) -> Iterator[list[int]]:
    """Give the number of requests in flight at each look."""
    _seen.clear()
    admission.__class__ = _Asked
    try:
        yield _seen
    finally:
        admission.__class__ = Admission
