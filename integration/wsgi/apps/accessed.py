"""Requests for the access log: one of each kind, and with known times.

Linters stand around all of them but those of files, for which they have a wrapper of their own, and
those that they would complain of (see `apps.checked`).
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from .checked import checked

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

TEXT: Final = [("Content-Type", "text/plain")]


def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    name = environ["PATH_INFO"].split("/")[1]
    app = _handle if name in NOT_CHECKED else _handle_checked
    return app(environ, start_response)


def _handle(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    name = environ["PATH_INFO"].split("/")[1].replace("-", "_")
    return HANDLERS.get(name, missing)(environ, start_response)


_handle_checked = checked(_handle)

# Files; what is longer than its Content-Length; and a 204, for which one wants an empty length.
NOT_CHECKED: Final = ("file", "memory", "cut", "nothing", "settled")


def twelve(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    return [b"twelve bytes"]


def pieces(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("201 Created", TEXT)
    for _ in range(10):
        yield bytes(100_000)


def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    content = open(__file__, "rb")  # noqa: PTH123, SIM115 - the bridge closes it
    result: Iterable[bytes] = environ["wsgi.file_wrapper"](content)
    return result


def memory(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", TEXT)
    result: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(bytes(100_000)))
    return result


def missing(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("404 Not Found", TEXT)
    return [b"missing"]


def nothing(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def cut(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"more than that"]


def fails(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    raise ValueError("of the application")


def fails_midway(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"the first half"
    raise ValueError("of the application")


def fails_in_close(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    class Raises(list[bytes]):
        def close(self) -> None:
            raise ValueError("of the application")

    start_response("200 OK", TEXT)
    return Raises([b"twelve bytes"])


def endless(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    while True:
        yield bytes(100_000)


def silent(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Answer only after the body, which does not come."""
    environ["wsgi.errors"].write(environ["PATH_INFO"] + "\n")
    environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", TEXT)
    yield b"never"


def settled(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Mark this place in the log."""
    environ["wsgi.errors"].write(environ["PATH_INFO"] + "\n")
    return nothing(environ, start_response)


def slow(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(0.2)
    start_response("200 OK", TEXT)
    return [b"slow"]


HANDLERS: Final[dict[str, Callable[[Environ, StartResponse], Iterable[bytes]]]] = {
    "twelve": twelve,
    "pieces": pieces,
    "file": file,
    "memory": memory,
    "nothing": nothing,
    "cut": cut,
    "fails": fails,
    "fails_midway": fails_midway,
    "fails_in_close": fails_in_close,
    "endless": endless,
    "silent": silent,
    "settled": settled,
    "slow": slow,
}
