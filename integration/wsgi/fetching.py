"""An HTTP client that tells a whole answer from a broken one, and hides neither."""

from __future__ import annotations

import http.client
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# Longer than anything takes on a busy machine: what hangs is a failure.
PATIENCE_SECONDS = 20.0

BROKEN = "broken transfer"


@dataclass(frozen=True)
class Fetched:
    """What came back.

    Attributes:
        status: 0 where no head came.
        headers: of the answer.
        body: as much as came of it.
        is_broken: whether the transfer ended before the answer did.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    is_broken: bool

    @property
    def seen(self) -> int | str:
        """The status, or `BROKEN`: the one word of a table."""
        return BROKEN if self.is_broken else self.status

    def json(self) -> Any:
        return json.loads(self.body)


def fetch(
    url: str,
    *,
    method: str = "GET",
    headers: Sequence[tuple[str, str]] = (),
    body: bytes | None = None,
) -> Fetched:
    """Send one request exactly as it is written, on a connection of its own."""
    where = urlsplit(url)
    assert where.hostname
    target = url.partition(where.netloc)[2] or "/"
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=PATIENCE_SECONDS)
    with closing(connection):
        has_host = any(name == "Host" for name, _ in headers)
        connection.putrequest(method, target, skip_host=has_host, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        try:
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return Fetched(0, http.client.HTTPMessage(), b"", is_broken=True)
        received = bytearray()
        is_broken = False
        with response:
            try:
                while piece := response.read1(1 << 20):
                    received += piece
            except (http.client.IncompleteRead, ConnectionResetError):
                is_broken = True
            else:
                # read1 says nothing where an answer with a length ends too early.
                is_broken = bool(response.length)
        return Fetched(response.status, response.headers, bytes(received), is_broken)
