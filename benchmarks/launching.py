"""Start servers, with what is the same for all of them: directory, environment, CPU, Nginx in front."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.apps.plain import FILE_BYTES, FILE_VARIABLE
from benchmarks.processes import READY_SECONDS, running
from benchmarks.servers import application
from uwsgibridge.fast import PURE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.placement import Placement
    from benchmarks.processes import Process
    from benchmarks.servers import App, Server

# Options that a server would take from the environment in addition to those of the table.
_ENV_PREFIXES = ("UWSGI_", "UWSGIBRIDGE_", "GUNICORN_", "UVICORN_", "GRANIAN_", "FLASK_", "DJANGO_")
_ENV_NAMES = (
    *("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"),
    # pip has compiled the peers. The checkout would be compiled at each start.
    "PYTHONDONTWRITEBYTECODE",
)

# Whether the bridge runs without its accelerator is for the one who runs the benchmark to say.
_ENV_KEPT = (PURE_VARIABLE,)


@dataclass(frozen=True, slots=True)
class Bench:
    """What is the same for all turns.

    `directory` is a temporary one; `endpoints` are the servers', by name; `file` is what "/file" of the plain
    application sends.
    """

    root: Path
    directory: Path
    wrk: str
    nginx_port: int
    endpoints: Mapping[str, str]
    backlog: int
    placement: Placement

    @property
    def file(self) -> Path:
        """The path of that file."""
        return self.directory / "file"

    @property
    def applications(self) -> Path:
        """A directory in which this benchmark's applications are found, and nothing of the bridge."""
        return self.directory / "applications"

    def prepare(self) -> None:
        """Make what the applications need."""
        self.file.write_bytes(bytes(FILE_BYTES))
        self.applications.mkdir()
        (self.applications / "benchmarks").symlink_to(self.root / "benchmarks")


@contextmanager
def launched(
    bench: Bench, server: Server, app: App, workers: int, options: Sequence[str] = ()
) -> Iterator[Process]:
    """Run a server until the end of the block.

    Args:
        bench: what is the same for all.
        server: which.
        app: its application.
        workers: how many processes serve.
        options: further ones of the server's.

    Raises:
        BenchmarkError: it doesn't start.
    """
    endpoint = bench.endpoints[server.name]
    if endpoint.startswith("unix:"):
        # Some leave their socket behind, and then refuse to start where it is.
        Path(endpoint.removeprefix("unix:")).unlink(missing_ok=True)
    argv = server.argv(application(server, app), endpoint, bench.backlog, workers)
    with running(
        server.name,
        [*argv, *options],
        # Python takes modules from the directory that it is started in, then from PYTHONPATH. The applications are
        # those of this benchmark also for another checkout, which may have none of them.
        cwd=bench.applications if server.checkout else bench.root,
        ready_text=server.ready_text,
        cpus=bench.placement.server,
        env={
            **server_environment(os.environ),
            **server.environment,
            **({"PYTHONPATH": str(server.checkout)} if server.checkout else {}),
            FILE_VARIABLE: str(bench.file),
        },
        ready_seconds=READY_SECONDS,
    ) as process:
        yield process


def server_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the variables that would change a server's options."""
    return {
        name: value
        for name, value in environ.items()
        if name in _ENV_KEPT or (not name.startswith(_ENV_PREFIXES) and name not in _ENV_NAMES)
    }


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
