"""An application that waits for something slow in each request, and that stands still for a time, as by a locked database."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

SERVICE_SECONDS: Final = 0.1
"""How long a request takes."""

STALL_VARIABLE: Final = "BENCHMARK_STALL"
"""The environment variable with the path of a file, which has the begin and the end of the stall: two moments of
`time.monotonic()`, which all processes have in common. It is written when the server has started."""


def wsgi(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer after `SERVICE_SECONDS`; in the stall, so long after its end."""
    begin, end = map(float, Path(os.environ[STALL_VARIABLE]).read_text().split())
    now = time.monotonic()
    time.sleep(SERVICE_SECONDS + (end - now if begin <= now < end else 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"done\n"]
