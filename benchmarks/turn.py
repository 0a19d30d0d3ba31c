"""One server's turn in one workload: what a measurement needs to know, and the first look at the answer."""

from __future__ import annotations

import http.client
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.cpu_time import cpu_nanoseconds
from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from benchmarks.load import Request
    from benchmarks.processes import Process
    from benchmarks.servers import Server

_PROBE_SECONDS = 10.0


_START_SECONDS = 20.0
_RETRY_SECONDS = 0.005


class WorkloadFailed(BenchmarkError):
    """Say in some words why a server has no figures of a workload."""


class NobodyAnswers(WorkloadFailed):
    """Say that Nginx, or nobody, answered in place of the server."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A server that runs, and how it is put under load.

    `endpoint` is the server's own; load goes through Nginx, at `port` of 127.0.0.1 with the server's name as Host.
    """

    server: Server
    process: Process
    endpoint: str
    port: int
    wrk: str
    connections: int
    seconds: int

    def cpu_nanoseconds(self) -> int:
        """Return the CPU time that all processes of the server have used so far."""
        return cpu_nanoseconds(self.process.session)


def probe_when_started(port: int, name: str, request: Request, expected: bytes | int) -> bytes:
    """Ask as `probe` does, until somebody answers: some log that they are ready before they are.

    Raises:
        WorkloadFailed: the answer is another one, or nobody has answered in time.
    """
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return probe(port, name, request, expected)
        except NobodyAnswers:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)


def probe(port: int, name: str, request: Request, expected: bytes | int | None) -> bytes:
    """Ask once, through Nginx, and return the body.

    Args:
        port: of Nginx.
        name: the server's.
        request: what is asked for.
        expected: the body, or its length in bytes; None takes any.

    Raises:
        WorkloadFailed: the answer is another one, or there is none (NobodyAnswers).
    """
    method = "POST" if request.upload_bytes else "GET"
    headers = {**dict(request.headers), "Host": name}
    with closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_SECONDS)
    ) as connection:
        try:
            connection.request(method, request.path, b"x" * request.upload_bytes, headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NobodyAnswers(f"no answer: {error!r}") from error
    if response.status == http.HTTPStatus.BAD_GATEWAY:
        raise NobodyAnswers("answered 502")
    if response.status != http.HTTPStatus.OK:
        raise WorkloadFailed(f"answered {response.status}")
    if expected is not None and expected not in {body, len(body)}:
        raise WorkloadFailed(f"answered {len(body)} bytes, {body[:40]!r}")
    return body
