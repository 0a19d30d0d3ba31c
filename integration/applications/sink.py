"""A collector of telemetry, in the test's own process: it keeps what is sent to it."""

from __future__ import annotations

import gzip
import importlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

_LOOK_AGAIN_SECONDS: Final = 0.02


def _unpack_brotli(body: bytes) -> bytes:
    # Sentry takes it where it is installed.
    unpacked: bytes = importlib.import_module("brotli").decompress(body)
    return unpacked


_UNPACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "identity": bytes,
    "gzip": gzip.decompress,
    "br": _unpack_brotli,
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came with one POST.

    Attributes:
        path: that it was sent to.
        body: unpacked.
    """

    path: str
    body: bytes


class Sink:
    """Answers 200 to each POST, and keeps it; a context manager that opens and closes its port."""

    def __init__(self) -> None:
        self._deliveries: list[Delivery] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                unpack = _UNPACK[self.headers.get("Content-Encoding", "identity")]
                sink._deliveries.append(Delivery(self.path, unpack(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="the sink")

    @property
    def port(self) -> int:
        """Where it listens, of 127.0.0.1."""
        return int(self._server.server_address[1])

    def deliveries(self) -> list[Delivery]:
        """List what has come so far."""
        return list(self._deliveries)

    def wait(self, count: Callable[[list[Delivery]], int], wanted: int, *, seconds: float) -> None:
        """Wait until so much has come, as `count` counts.

        Raises:
            AssertionError: it has not come in time.
        """
        deadline = time.monotonic() + seconds
        while (found := count(self.deliveries())) < wanted:
            assert time.monotonic() < deadline, f"{found} of {wanted} came within {seconds:g} s"
            time.sleep(_LOOK_AGAIN_SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
