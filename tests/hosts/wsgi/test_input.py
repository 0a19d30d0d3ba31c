"""How ``wsgi.input`` asks for a body that is still arriving."""

from __future__ import annotations

import io
from collections.abc import Callable
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
    reader = opened(connection)
    assert reader.read() == body
    assert reader.read() == b""
    assert set(connection.asked) == {262_144}
    assert len(connection.asked) == 4  # two pieces, and the end, twice


def test_the_rest_of_a_body_whose_begin_was_read_is_whole_too():
    body = bytes(range(256)) * 800
    reader = opened(Arriving(body))
    assert reader.read(10) + reader.readline() + reader.read() == body
    assert reader.read() == b""


def test_a_body_is_waited_for_between_its_pieces():
    assert opened(Arriving(None, b"one ", None, None, b"two")).read() == b"one two"


def test_a_body_that_stops_raises_each_time_that_it_is_read():
    connection = Arriving(b"one ", None)
    connection.request.content_length = 9
    reader = opened(connection, comes=False)
    for _ in range(2):
        with pytest.raises(BodyStalled):
            reader.read()
    assert connection.input_stalled


@pytest.mark.parametrize("size", [None, -1, -5, 900, 1000])
def test_a_body_that_is_there_is_received_by_one_call(size: int | None):
    connection = Arriving(b"x" * 900)
    assert opened(connection).read(size) == b"x" * 900
    assert len(connection.asked) == 1


LINES = b"one\ntwo\n\nfour"


@pytest.mark.parametrize(
    ("use", "result"),
    [
        (lambda it: it.read(), LINES),
        (lambda it: it.read(len(LINES)), LINES),
        (lambda it: (it.read(), it.read(), it.read(5)), (LINES, b"", b"")),
        (lambda it: (it.read(0), it.read(3), it.read(None), it.read()), (b"", b"one", LINES[3:], b"")),
        (lambda it: (it.peek(1)[:1], it.read1(1), it.read()), (b"o", b"o", LINES[1:])),
        (lambda it: (it.readline(), it.readline(2), it.readlines()), (b"one\n", b"tw", [b"o\n", b"\n", b"four"])),
        (list, [b"one\n", b"two\n", b"\n", b"four"]),
        (lambda it: (next(it), next(it), it.read()), (b"one\n", b"two\n", b"\nfour")),
        (lambda it: (it.read(), next(it, None), it.readline()), (LINES, None, b"")),
        (lambda it: (it.readable(), it.writable(), it.seekable(), it.closed), (True, False, False, False)),
        (lambda it: (it.readinto(buffer := bytearray(3)), buffer), (3, b"one")),
        (lambda it: io.TextIOWrapper(it).read(), LINES.decode()),
        (lambda it: (isinstance(it, io.IOBase), isinstance(it, io.TextIOBase)), (True, False)),
        (lambda it: hasattr(it, "no_method_of_files"), False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pieces", [(LINES,), (b"o", b"ne\nt", None, LINES[5:])])
def test_it_is_a_file(
    use: Callable[[Any], object], result: object, pieces: tuple[bytes | None, ...]
):
    assert use(opened(Arriving(*pieces))) == result


def test_it_can_be_closed():
    for is_read in (False, True):
        reader = opened(Arriving(b"body"))
        if is_read:
            reader.read()
        with reader:
            pass
        with pytest.raises(ValueError, match="closed"):
            reader.read()
        assert reader.closed
