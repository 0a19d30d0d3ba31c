"""Bodies both ways, read or not, sent in each way that there is, with or without an end.

Linters stand around all of it but what they forbid (see `apps.checked`).
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Final

from .checked import checked

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

TEXT: Final = [("Content-Type", "text/plain")]

# Far beyond what the kernel and Nginx hold on the way to a client that does not read.
LARGE_BYTES: Final = 16 * 1024 * 1024

_PIECE: Final = bytes(1024 * 1024)

# What was called, and what was closed, since the last time that somebody asked.
called: Final[list[str]] = []
closed: Final[list[str]] = []


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/")
    if name != "state":
        called.append(name)
    app = _handle if name.startswith(NOT_CHECKED) else _handle_checked
    return app(environ, start_response)


def _handle(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    name, _, argument = environ["PATH_INFO"].strip("/").partition("/")
    if argument:
        return read_as(environ, start_response, argument)
    return HANDLERS[name.replace("-", "_")](environ, start_response)


_handle_checked = checked(_handle)

# They want a size of each read, hide that an iterable is a list, put a file wrapper of their own in
# place of the server's, and complain of what is given behind the end of an answer.
NOT_CHECKED: Final = ("read-as", "large-list", "large-file", "endless", "writes-on")


def _body(environ: Environ) -> bytes:
    content: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return content


def state(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    told = json.dumps({"called": called, "closed": closed})
    called.clear()
    closed.clear()
    return [told.encode()]


def read(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = _body(environ)
    start_response("200 OK", TEXT)
    return [str(len(body)).encode()]


def read_carefully(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    try:
        return read(environ, start_response)
    except OSError as error:
        start_response("400 Bad Request", TEXT)
        return [type(error).__name__.encode()]


def read_during_the_answer(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"the first half"
    yield _body(environ)


def read_on_after_a_stall(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Take no notice of a stall, and read on."""
    pieces: list[bytes] = []
    errors = Counter[str]()
    began = monotonic()
    for _ in range(100):
        try:
            pieces.append(environ["wsgi.input"].read(1000))
        except OSError as error:
            errors[type(error).__name__] += 1
            if errors.total() == 1:
                environ["wsgi.errors"].write("caught\n")
    told = {"bytes": len(b"".join(pieces)), "errors": errors, "seconds": monotonic() - began}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


def read_as(environ: Environ, start_response: StartResponse, reader: str) -> Iterable[bytes]:
    """Read in one of the ways that a file can be read in."""
    environ["wsgi.errors"].write("reading\n")
    pieces = READERS[reader](environ["wsgi.input"])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([piece.decode("latin-1") for piece in pieces]).encode()]


def _until_empty(read: Callable[[], bytes]) -> list[bytes]:
    return [*iter(read, b""), read()]


def _mixed(file: BinaryIO) -> list[bytes]:
    return [
        *(file.read(3), file.readline(), file.read(0), file.readline(4), next(file)),
        *file.readlines(20),
        *(b"|", file.read(), b"|", file.read(), file.readline(), *file.readlines(), *file),
    ]


# Each gives the same for a file in memory.
READERS: Final[dict[str, Callable[[Any], list[bytes]]]] = {
    "read-nothing-said": lambda file: [file.read(), file.read()],
    "read-minus-1": lambda file: [file.read(-1), file.read(-1)],
    "read-minus-5": lambda file: [file.read(-5), file.read(-5)],
    "read-none": lambda file: [file.read(None), file.read(None)],
    "read-7": lambda file: _until_empty(lambda: file.read(7)),
    "read-far-beyond": lambda file: [file.read(10**12)],
    # How much one call gives is the stream's own affair.
    "read1-7": lambda file: [b"".join(_until_empty(lambda: file.read1(7)))],
    "read1-minus-1": lambda file: [b"".join(_until_empty(lambda: file.read1(-1)))],
    "readline": lambda file: _until_empty(file.readline),
    "readline-4": lambda file: _until_empty(lambda: file.readline(4)),
    "readline-minus-1": lambda file: _until_empty(lambda: file.readline(-1)),
    "readlines": lambda file: file.readlines(),
    "readlines-20": lambda file: [*file.readlines(20), b"|", *file.readlines(20)],
    "readlines-0": lambda file: file.readlines(0),
    "readlines-none": lambda file: file.readlines(None),
    "iteration": list,
    "mixed": _mixed,
}


def fails_midway(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"the first half"
    raise ValueError("of the application")


def unread(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [b"not read"]


class Large:
    """Many pieces; its close is remembered."""

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(LARGE_BYTES // len(_PIECE)):
            yield _PIECE

    def close(self) -> None:
        closed.append("large")


def large_iterable(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return Large()


def large_list(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    class Whole(list[bytes]):
        def close(self) -> None:
            closed.append("large")

    start_response("200 OK", TEXT)
    return Whole([bytes(LARGE_BYTES)])


def large_write(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    write = start_response("200 OK", TEXT)
    try:
        for piece in Large():
            write(piece)
    finally:
        closed.append("large")
    return []


def large_file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    file: Any = io.FileIO(Path(os.environ["EXERCISE_DIRECTORY"], "large"))
    close = file.close

    def remember() -> None:
        closed.append("large")
        close()

    file.close = remember
    start_response("200 OK", TEXT)
    result: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return result


class Endless:
    """More than is ever sent; how it ends is remembered."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"12345"

    def close(self) -> None:
        closed.append("endless")


def endless(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Only for HEAD."""
    start_response("200 OK", TEXT)
    return Endless()


def endless_beyond_its_length(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "10")])
    return Endless()


def endless_without_a_body(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return Endless()


def endless_beside_a_file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    name = Path(os.environ["EXERCISE_DIRECTORY"], "files", "named")
    start_response("200 OK", [*TEXT, ("X-Sendfile", str(name))])
    return Endless()


def goes_on_behind_the_last(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Do something more when all has been given."""
    start_response("200 OK", [*TEXT, ("Content-Length", "10")])
    yield b"12345"
    yield b"67890"
    closed.append("went on")


def writes_on(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Write without an end; what it is told is remembered."""
    write = start_response("200 OK", [*TEXT, ("Content-Length", "10")])
    try:
        while True:
            write(b"12345")
    except Exception as error:
        closed.append(str(error))
    return []


def writes_on_after_a_stall(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Take no notice of a reader that has stalled, and write on when it reads again."""
    write = start_response("200 OK", TEXT)
    for number in range(LARGE_BYTES // len(_PIECE)):
        try:
            write(bytes([number]) * len(_PIECE))
        except OSError as error:
            if not closed:
                closed.append(type(error).__name__)
                environ["wsgi.errors"].write("caught\n")
    return []


HANDLERS: Final[dict[str, Callable[[Environ, StartResponse], Iterable[bytes]]]] = {
    "state": state,
    "read": read,
    "read_carefully": read_carefully,
    "read_during_the_answer": read_during_the_answer,
    "fails_midway": fails_midway,
    "unread": unread,
    "large_iterable": large_iterable,
    "large_list": large_list,
    "large_write": large_write,
    "large_file": large_file,
    "read_on_after_a_stall": read_on_after_a_stall,
    "endless": endless,
    "endless_beyond_its_length": endless_beyond_its_length,
    "endless_without_a_body": endless_without_a_body,
    "endless_beside_a_file": endless_beside_a_file,
    "goes_on_behind_the_last": goes_on_behind_the_last,
    "writes_on": writes_on,
    "writes_on_after_a_stall": writes_on_after_a_stall,
}
