"""How ``wsgi.input`` asks for a body that is still arriving."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from uwsgibridge.hosts.wsgi.input import BodyStalled, open_input


class Arriving:
    """A connection on which pieces of a body arrive; None stands for a moment at which nothing has."""

    def __init__(self, *pieces: bytes | None) -> None:
        self.pieces = list(pieces)
        self.asked: list[int] = []
        self.input_stalled = False
        length = sum(len(piece) for piece in pieces if piece)
        self.request = SimpleNamespace(content_length=length)

    def receive_body(self, max_bytes: int) -> bytes:
        self.asked.append(max_bytes)
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if piece is None:
            raise BlockingIOError
        if len(piece) > max_bytes:
            self.pieces.insert(0, piece[max_bytes:])
        return piece[:max_bytes]


def opened(connection: Arriving, *, comes: bool = True) -> Any:
    as_one: Any = connection
    return open_input(as_one, lambda: comes)


def test_a_whole_body_is_asked_for_in_large_pieces():
    body = bytes(range(256)) * 1200
    connection = Arriving(body)
    assert opened(connection).read() == body
    assert set(connection.asked) == {262_144}
    assert len(connection.asked) == 3  # two pieces, and the end


def test_the_rest_of_a_body_whose_begin_was_read_is_whole_too():
    body = bytes(range(256)) * 800
    reader = opened(Arriving(body))
    assert reader.read(10) + reader.readline() + reader.read() == body
    assert reader.read() == b""


def test_a_body_is_waited_for_between_its_pieces():
    assert opened(Arriving(None, b"one ", None, None, b"two")).read() == b"one two"


def test_a_body_that_stops_raises_each_time_that_it_is_read():
    connection = Arriving(b"one ", None)
    reader = opened(connection, comes=False)
    for _ in range(2):
        with pytest.raises(BodyStalled):
            reader.read()
    assert connection.input_stalled
