"""Bodies both ways, read or not, sent in each way that there is."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

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
    return HANDLERS[name.replace("-", "_")](environ, start_response)


def state(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    told = json.dumps({"called": called, "closed": closed})
    called.clear()
    closed.clear()
    return [told.encode()]


def read(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
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
    yield environ["wsgi.input"].read()


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


HANDLERS: Final[dict[str, Callable[[Environ, StartResponse], Iterable[bytes]]]] = {
    "state": state,
    "read": read,
    "read_carefully": read_carefully,
    "read_during_the_answer": read_during_the_answer,
    "unread": unread,
    "large_iterable": large_iterable,
    "large_list": large_list,
    "large_write": large_write,
    "large_file": large_file,
}
