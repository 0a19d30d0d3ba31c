"""WSGI applications that do one thing or another of what PEP 3333 allows, or forbids."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from uwsgibridge.hosts.files import FileWrapper

App: TypeAlias = Callable[[Any, Any], Any]

STATUSES: Final = (
    "200 OK", "200", "404 Not Found", "204 No Content", "304 Not Modified", "100 Continue", "2xx", "500 \xe9", "200 \n",
)  # fmt: skip
NAMES: Final = (
    "Content-Type", "content-length", "X-A", "Connection", "X-Accel-Buffering", "X-Accel-Expires", "bad name", "",
)  # fmt: skip
VALUES: Final = (
    "text/plain", "text/event-stream", "0", "3", "5", "10", "x", " 5", "\t", "\xe9", "\u20ac", "a\nb", "9" * 19,
)  # fmt: skip
PLAIN_HEADERS: Final = (
    [("Content-Type", "text/plain")],
    [("Content-Type", "text/plain"), ("Content-Length", "3")],
    [("Content-Type", "text/event-stream")],
    [("X-A", "x"), ("Content-Length", "5"), ("Connection", "close")],
)
ODD_HEADERS: Final = (
    None,
    (),
    [None],
    [("X-A",)],
    [("X-A", 1)],
    [["X-A", "1"]],
    "ab",
    {"X-A": "1"},
)
PIECES: Final = (b"", b"abc", b"abcde", b"x" * 20, None, "text", bytearray(b"abc"))
PLAIN_PIECES: Final = (b"", b"abc", b"abcde", b"x" * 70_000)
FAILURES: Final = ("", "", "", "first", "call", "iter", "next", "close", "text")
AGAIN: Final = ("", "", "", "twice", "exc_info")


class Failure(Exception):
    """What an application raises."""


class Items:
    """An iterable with a `close`."""

    def __init__(self, items: list[Any], fails: str) -> None:
        self._items = items
        self._fails = fails

    def __iter__(self) -> Iterator[Any]:
        if self._fails == "iter":
            raise Failure("iter")
        yield from self._items
        if self._fails == "next":
            raise Failure("next")

    def close(self) -> None:
        if self._fails == "close":
            raise Failure("close")


def wrapped_file(items: list[Any], fails: str) -> FileWrapper:
    """Wrap a file on disk, which stands behind the first of its bytes where it has any to spare."""
    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - who answers closes it
    file.write(b"".join(item for item in items if isinstance(item, bytes)))
    file.seek(len(items) // 2)
    wrapper = FileWrapper(file)
    if fails == "close":

        def close() -> None:
            file.close()
            raise Failure("close")

        wrapper.close = close
    return wrapper


def wrapped_memory(items: list[Any], _fails: str) -> FileWrapper:
    return FileWrapper(io.BytesIO(b"".join(item for item in items if isinstance(item, bytes))))


# With its packet, it is larger than what is received at once.
UPLOAD: Final = b"x" * 65_500

KINDS: Final[list[Callable[[list[Any], str], Any]]] = [
    lambda items, fails: items,
    lambda items, fails: tuple(items),
    Items,
    lambda items, fails: iter(items),
    lambda items, fails: (it for it in items),
    wrapped_file,
    wrapped_memory,
    lambda items, fails: b"bytes",
    lambda items, fails: "text",
    lambda items, fails: None,
    lambda items, fails: 5,
]


def make_app(
    status: Any,
    given: Any,
    items: list[Any],
    kind: Callable[[list[Any], str], Any],
    fails: str,
    again: str,
    written: list[Any],
) -> App:
    def app(environ: Any, start_response: Any) -> Iterable[Any]:
        environ["wsgi.input"].read()
        if fails == "first":
            raise Failure("first")
        write = start_response(status, given)
        if again == "twice":
            start_response(status, given)
        elif again == "exc_info":
            try:
                raise Failure("replaced")
            except Failure:
                write = start_response("503 Busy", [("X-A", "1")], sys.exc_info())
        for piece in written:
            write(piece)
        if fails == "call":
            raise Failure("call")
        if fails == "text":
            environ["wsgi.errors"].write("unfinished")
        answer: Iterable[Any] = kind(list(items), fails)
        return answer

    return app
