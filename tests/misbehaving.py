"""What clients of an application that misbehaves have to see, whatever its interface is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from integration.wsgi.fetching import BROKEN
from tests.raw_client import Answer


class Seen(Protocol):
    """What a row of either catalogue tells of the answer."""

    @property
    def seen(self) -> int | str | None:
        """The status, or `BROKEN`; None where no client is there to see it."""

    @property
    def text(self) -> bytes | None:
        """The body; None where it does not matter."""


def assert_seen(answers: Iterable[Answer], row: Seen) -> None:
    for answer in answers:
        assert (BROKEN if answer.broken else answer.status) == row.seen
        assert "x-injected" not in answer.headers
        if row.text is not None:
            assert answer.body == row.text
        if row.seen == 500:
            assert answer.body == b"The application failed. The server's log says why.\n"
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
