"""One server's turn: start it, warm it up, put it under load, and take its CPU time before and after."""

from __future__ import annotations

import http.client
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.apps import BODY
from benchmarks.cpu_time import cpu_nanoseconds
from benchmarks.errors import BenchmarkError
from benchmarks.load import LoadReport, drive
from benchmarks.processes import running
from benchmarks.servers import application

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from benchmarks.placement import Placement
    from benchmarks.processes import Process
    from benchmarks.servers import App, Server

_PROBE_SECONDS = 10.0

# Options that a server would take from the environment in addition to those of the table.
_ENV_PREFIXES = ("UWSGI_", "UWSGIBRIDGE_", "GUNICORN_", "UVICORN_", "FLASK_")
_ENV_NAMES = ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")


@dataclass(frozen=True, slots=True)
class Run:
    """One measured stretch of load on one server."""

    server: str
    connections: int
    round: int
    cpu_nanoseconds: int
    load: LoadReport

    @property
    def cpu_microseconds_per_request(self) -> float:
        """CPU time of all the server's processes, divided by the answers that wrk got."""
        return self.cpu_nanoseconds / 1000 / self.load.requests


@dataclass(frozen=True, slots=True)
class Bench:
    """What is the same for all turns."""

    app: App
    root: Path
    wrk: str
    nginx_port: int
    endpoints: Mapping[str, str]
    backlog: int
    placement: Placement
    warm_up_seconds: int
    seconds: int


def take_turn(
    bench: Bench, server: Server, connection_counts: Sequence[int], round_: int
) -> Iterator[Run]:
    """Start a server, warm it up, and yield a run for each number of connections; stop the server at the end.

    Raises:
        BenchmarkError: it doesn't start, doesn't answer as it should, or ends under load.
    """
    endpoint = bench.endpoints[server.name]
    argv = server.argv(application(server, bench.app), endpoint, bench.backlog)
    with running(
        server.name,
        argv,
        # Python takes modules from the directory that it is started in.
        cwd=server.checkout or bench.root,
        ready_text=server.ready_text,
        cpus=bench.placement.server,
        env=server_environment(os.environ),
    ) as process:
        if complaint := _probe(bench.nginx_port, server.name):
            raise BenchmarkError(process.complaint(complaint))
        _drive(bench, process, max(connection_counts), bench.warm_up_seconds)
        for connections in connection_counts:
            before = cpu_nanoseconds(process.session)
            load = _drive(bench, process, connections, bench.seconds)
            after = cpu_nanoseconds(process.session)
            yield Run(server.name, connections, round_, after - before, load)


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that would change a server's options."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(_ENV_PREFIXES) and name not in _ENV_NAMES
    }


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _drive(bench: Bench, process: Process, connections: int, seconds: int) -> LoadReport:
    report = drive(
        bench.wrk,
        port=bench.nginx_port,
        host=process.name,
        connections=connections,
        seconds=seconds,
    )
    process.require_alive()
    if report.requests == 0:
        raise BenchmarkError(process.complaint(f"answered no request within {seconds} s"))
    return report


def _probe(port: int, name: str) -> str:
    """Ask once, through Nginx; return what is wrong with the answer, or nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PROBE_SECONDS)
    try:
        connection.request("GET", "/", headers={"Host": name})
        response = connection.getresponse()
        body = response.read()
    except OSError as error:
        return f"did not answer through Nginx: {error}"
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK or body != BODY:
        return f"answered {response.status} with {body[:80]!r} in place of 200 with {BODY!r}"
    return ""
