"""git's own CGI program behind WSGI: what a request brings goes to its input, its output is the answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Final

from .checked import checked

REPOSITORIES: Final = Path(os.environ["EXERCISE_DIRECTORY"], "git")

# In a log line, so that a test can see what arrived.
_TOLD: Final = ("REQUEST_METHOD", "PATH_INFO", "CONTENT_LENGTH", "HTTP_CONTENT_ENCODING")

_PIECE_BYTES: Final = 65_536


def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    print(*(f"{name}={environ.get(name, '')}" for name in _TOLD), file=environ["wsgi.errors"])
    variables = {name: value for name, value in environ.items() if type(value) is str}
    with tempfile.TemporaryFile() as body:
        # First all of it: the program may answer while it reads, and nobody would take that.
        shutil.copyfileobj(environ["wsgi.input"], body, _PIECE_BYTES)
        body.seek(0)
        process = subprocess.Popen(
            ["git", "http-backend"],
            stdin=body,
            stdout=subprocess.PIPE,
            env={
                **os.environ,
                **variables,
                "GIT_PROJECT_ROOT": str(REPOSITORIES),
                "GIT_HTTP_EXPORT_ALL": "1",
                # What makes http-backend allow a push: somebody has logged in.
                "REMOTE_USER": "somebody",
            },
        )
        with process:
            assert process.stdout is not None
            status, headers = _read_head(process.stdout)
            start_response(status, headers)
            while piece := process.stdout.read(_PIECE_BYTES):
                yield piece
        if process.returncode:
            raise RuntimeError(f"git http-backend has ended with {process.returncode}")


def _read_head(stdout: IO[bytes]) -> tuple[str, list[tuple[str, str]]]:
    status, headers = "200 OK", []
    for line in iter(stdout.readline, b"\r\n"):
        name, colon, value = line.decode("latin-1").partition(":")
        assert colon, f"{line!r} is no header"
        if name == "Status":
            status = value.strip()
        else:
            headers.append((name, value.strip()))
    return status, headers


application = checked(plain)
