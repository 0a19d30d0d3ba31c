"""An application that fails in each way that the bridge has an event for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Fail as the last part of the path says."""
    headers = [("Content-Type", "text/plain")]
    match environ["PATH_INFO"].rpartition("/")[2]:
        case "crashes":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fails":
            raise RuntimeError("deliberate")
        case "fails-midway":
            start_response("200 OK", [*headers, ("X-Accel-Buffering", "no")])
            return _failing()
        case "is-short":
            headers += [("Content-Length", "100"), ("X-Accel-Buffering", "no")]
        case "has-a-large-head":
            headers.append(("X-Large", "x" * 40_000))
        case "is-slow":
            time.sleep(0.8)
    start_response("200 OK", headers)
    return [b"ok"]


def _failing() -> Iterator[bytes]:
    yield b"begun"
    raise RuntimeError("deliberate")
