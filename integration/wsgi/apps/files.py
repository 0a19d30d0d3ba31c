"""Answers that are files: through `wsgi.file_wrapper`, or left to Nginx by X-Sendfile."""

from __future__ import annotations

import gzip
import io
import json
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from flask import Flask, send_file
from werkzeug.wrappers import Response

from .checked import checked
from .sendfile_count import sendfile_bytes, written_by_application

FILES: Final = Path(os.environ["EXERCISE_DIRECTORY"], "files")

_BINARY: Final = ("Content-Type", "application/octet-stream")

closed: Final[list[str]] = []


def _pipe(content: bytes) -> Any:
    reading, writing = os.pipe()
    written_by_application(len(content))

    def fill() -> None:
        with os.fdopen(writing, "wb") as end:
            end.write(content)

    threading.Thread(target=fill).start()
    return os.fdopen(reading, "rb")


class OnlyReads:
    """The least that PEP 3333 asks of a file-like object."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


# How the same bytes become an object to be wrapped.
KINDS: Final[dict[str, Callable[[Path], Any]]] = {
    "file": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "memory": lambda path: io.BytesIO(path.read_bytes()),
    "pipe": lambda path: _pipe(path.read_bytes()),
    "gunzipped": gzip.open,
    "buffered-gunzipped": lambda path: io.BufferedReader(gzip.GzipFile(path)),
    "only-reads": lambda path: OnlyReads(path.read_bytes()),
    "temporary": lambda path: _fill(tempfile.TemporaryFile(), path),  # noqa: SIM115 - the bridge closes it
    "named-temporary": lambda path: _fill(tempfile.NamedTemporaryFile(), path),  # noqa: SIM115 - as above
}


def _fill(file: Any, path: Path) -> Any:
    """Write over what was read, which stays in the object's buffer, and go back."""
    content = path.read_bytes()
    before = sendfile_bytes()
    file.write(b"other" + content[5:])
    file.seek(0)
    file.read(5)
    file.seek(0)
    file.write(content[:5])
    file.seek(0)
    written_by_application(sendfile_bytes() - before)
    return file


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    # Werkzeug's lint puts a file wrapper of its own in place of the server's, and counts the bytes that
    # a server must not send.
    is_checked = environ["PATH_INFO"] != "/wrapped" and environ["REQUEST_METHOD"] != "HEAD"
    app = _handle_checked if is_checked else _handle
    return app(environ, start_response)


def _handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    handler = {"/wrapped": wrapped, "/named": named, "/state": state}[environ["PATH_INFO"]]
    return handler(environ, start_response, query)


_handle_checked = checked(_handle)


def wrapped(
    environ: dict[str, Any], start_response: Callable[..., Any], query: dict[str, str]
) -> Iterable[bytes]:
    """Wrap a file, from an offset on, under a length, after some bytes written."""
    file = KINDS[query.get("kind", "file")](FILES / query["name"])
    if "offset" in query:
        file.seek(int(query["offset"]))
    if hasattr(file, "close"):
        close = file.close

        def remember() -> None:
            closed.append(query["name"])
            close()

        file.close = remember
    length = [("Content-Length", query["length"])] if "length" in query else []
    write = start_response(query.get("status", "200 OK"), [_BINARY, *length])
    if "write" in query:
        write(query["write"].encode())
    wrap = environ["wsgi.file_wrapper"]
    if "upper" in query:

        class Upper(wrap):  # type: ignore[misc, valid-type] # the server's own class
            def __iter__(self) -> Iterator[bytes]:
                return (block.upper() for block in super().__iter__())

        wrap = Upper
    result: Iterable[bytes] = wrap(file, int(query.get("block", 8192)))
    return result


def named(
    environ: dict[str, Any], start_response: Callable[..., Any], query: dict[str, str]
) -> Iterable[bytes]:
    """Name a file; the bytes of its name are those of UTF-8, as latin-1 (PEP 3333)."""
    path = query["path"] if query["path"].startswith("/") else f"{FILES}/{query['path']}"
    if "generator" in query:
        del query["generator"]
        return _later(environ, start_response, query)
    start_response(
        query.get("status", "200 OK"),
        [
            ("Content-Type", "text/x-of-the-application"),
            ("Content-Disposition", 'attachment; filename="report"'),
            ("Set-Cookie", "seen=1"),
            ("Content-Length", "12"),
            ("X-Sendfile", path.encode().decode("latin-1")),
        ],
    )
    return [b"not this one"]


def _later(
    environ: dict[str, Any], start_response: Callable[..., Any], query: dict[str, str]
) -> Iterator[bytes]:
    yield from named(environ, start_response, query)


def state(
    environ: dict[str, Any], start_response: Callable[..., Any], query: dict[str, str]
) -> Iterable[bytes]:
    """Tell what the kernel has sent, and which files were closed since the last time."""
    names, closed[:] = list(closed), []
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"sendfile_bytes": sendfile_bytes(), "closed": names}).encode()]


# Not checked: beside X-Sendfile it gives no body, under the length of the file.
flask = Flask(__name__)
flask.config["USE_X_SENDFILE"] = True


@flask.get("/<name>")
def send(name: str) -> Response:
    return send_file(FILES / name, as_attachment=True)


@flask.errorhandler(404)
def send_page(error: Exception) -> tuple[Response, int]:
    """The way in which Flask's own documents have a page of one's own."""
    return send_file(FILES / "small", mimetype="text/x-page"), 404
