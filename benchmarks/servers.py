"""The servers that are compared: how each is started, what it has to have installed, and which is held against which."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

App = Literal["hello", "flask", "fastapi"]
Interface = Literal["wsgi", "asgi"]

THREADS = 8
"""Threads of every server that has them: the bridge's default, and what peers' documents suggest."""


_BEFORE = "-before"


@dataclass(frozen=True, slots=True)
class Server:
    """One row of the comparison.

    `argv` makes the command line from the application ("module:attribute"), the endpoint ("unix:/path" or
    "127.0.0.1:port") and the length of the listen queue. `ready_text` is in the line that the server logs once
    its socket listens. `packages` are distributions, by the names under which their versions are found.
    `checkout` is the directory that the server is started in, where that is another than the benchmark's own.
    """

    name: str
    summary: str
    interface: Interface
    protocol: Literal["uwsgi", "http", "http-close"]
    packages: tuple[str, ...]
    ready_text: str
    argv: Callable[[str, str, int], list[str]]
    default: bool = True
    checkout: Path | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A server and the baseline that its figures are divided by."""

    server: str
    baseline: str


PAIRS = (
    Pair("bridge-wsgi", "uwsgi"),
    Pair("bridge-wsgi", "uwsgi-threads"),
    Pair("bridge-wsgi", "gunicorn"),
    Pair("bridge-asyncio", "uvicorn"),
    Pair("bridge-asyncio", "uvicorn-close"),
    Pair("bridge-asyncio", "uvicorn-access-log"),
    Pair("bridge-uvloop", "uvicorn"),
    Pair("bridge-uvloop", "uvicorn-close"),
    Pair("bridge-uvloop", "uvicorn-access-log"),
    Pair("bridge-trio", "uvicorn"),
)


def application(server: Server, app: App) -> str:
    """Return the "module:attribute" of an application for a server's interface."""
    if app == "hello":
        return f"benchmarks.apps:{server.interface}_hello"
    return f"benchmarks.apps.{app}_hello:app"


def choose(app: App, only: Sequence[str] = ()) -> list[Server]:
    """Return the servers to run for an application, in the table's order.

    Args:
        app: "flask" is for WSGI servers alone, "fastapi" for ASGI servers alone.
        only: names; empty means those that are run by default.

    Raises:
        BenchmarkError: a name is unknown, or that server can't run the application.
    """
    known = {server.name: server for server in SERVERS}
    for name in only:
        if name not in known:
            raise BenchmarkError(
                f"--only: there is no server {name!r}; there are {', '.join(known)}."
            )
        if not _can_run(known[name], app):
            raise BenchmarkError(
                f"--only: {name} calls {known[name].interface.upper()} applications,"
                f" and --app {app} isn't one."
            )
    return [
        server
        for server in SERVERS
        if _can_run(server, app) and (server.name in only if only else server.default)
    ]


def require_installed(servers: Collection[Server]) -> None:
    """Raise a BenchmarkError that names what is missing for these servers and where it comes from."""
    missing = {
        server.name: packages for server in servers if (packages := missing_packages(server))
    }
    if missing:
        packages = sorted({package for names in missing.values() for package in names})
        raise BenchmarkError(
            f"{', '.join(missing)} can't run without {', '.join(packages)}: install the extra with"
            " pip install --editable '.[bench]', or name other servers with --only."
        )


def with_before(servers: Sequence[Server], checkout: Path) -> list[Server]:
    """Return the servers, each of the bridge's followed by the same of another checkout.

    Args:
        servers: of the run.
        checkout: a directory with the project and the environment that `make bench` or `make test` makes there.

    Raises:
        BenchmarkError: there is no such environment, or none of the servers is the bridge's.
    """
    python = checkout / ".venv" / "bin" / "python"
    if not python.exists():
        raise BenchmarkError(
            f"--before {checkout}: there is no .venv/bin/python; run `make test` there once."
        )
    if not any(_is_bridge(server) for server in servers):
        raise BenchmarkError("--before is for the bridge's own servers: name one with --only.")
    found = []
    for server in servers:
        found.append(server)
        if _is_bridge(server):
            found.append(_of_checkout(server, checkout, python))
    return found


def pairs_with_before(servers: Sequence[Server]) -> list[Pair]:
    """Return a pair for each server that `with_before` has added one to."""
    return [
        Pair(server.name.removesuffix(_BEFORE), server.name)
        for server in servers
        if server.checkout
    ]


def _is_bridge(server: Server) -> bool:
    return "uwsgibridge" in server.packages


def _of_checkout(server: Server, checkout: Path, python: Path) -> Server:
    def argv(app: str, endpoint: str, backlog: int) -> list[str]:
        return [str(python), *server.argv(app, endpoint, backlog)[1:]]

    return replace(
        server,
        name=server.name + _BEFORE,
        summary=f"{server.summary}, of another checkout",
        argv=argv,
        checkout=checkout,
    )


def missing_packages(server: Server) -> list[str]:
    """Return those of a server's packages that aren't installed."""
    return [package for package in server.packages if version(package) is None]


def version(package: str) -> str | None:
    """Return the version of an installed distribution, None where it isn't installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _can_run(server: Server, app: App) -> bool:
    return app == "hello" or server.interface == {"flask": "wsgi", "fastapi": "asgi"}[app]


def _bridge(*options: str) -> Callable[[str, str, int], list[str]]:
    def argv(app: str, endpoint: str, backlog: int) -> list[str]:
        return [
            *(sys.executable, "-m", "uwsgibridge", "serve", app),
            *("--bind", endpoint, "--workers", "1"),
            # Its "listening" event is then one fixed form, on a terminal and in a pipe.
            *("--log-format", "json"),
            *options,
        ]

    return argv


def _uwsgi(*options: str) -> Callable[[str, str, int], list[str]]:
    # The interpreter of `pyuwsgi` is the one that runs its script: an extension module has no `python -m`.
    script = Path(sysconfig.get_path("scripts"), "pyuwsgi")

    def argv(app: str, endpoint: str, backlog: int) -> list[str]:
        return [
            *(str(script), "--socket", endpoint.removeprefix("unix:")),
            *("--module", app, "--pythonpath", ".", "--need-app", "--strict"),
            *("--processes", "1", "--enable-threads", *options),
            *("--listen", str(backlog), "--disable-logging", "--die-on-term", "--vacuum"),
        ]

    return argv


def _gunicorn(*options: str) -> Callable[[str, str, int], list[str]]:
    def argv(app: str, endpoint: str, backlog: int) -> list[str]:
        return [
            *(sys.executable, "-m", "gunicorn", app, "--protocol", "uwsgi"),
            # Nginx's address; a unix socket has none and is always allowed.
            *("--uwsgi-allow-from", "127.0.0.1"),
            *("--bind", endpoint, "--workers", "1", "--backlog", str(backlog), *options),
            # It would be made in the home directory, where a gunicorn of the user's may have its own.
            "--no-control-socket",
        ]

    return argv


def _uvicorn(*options: str) -> Callable[[str, str, int], list[str]]:
    def argv(app: str, endpoint: str, backlog: int) -> list[str]:
        if endpoint.startswith("unix:"):
            bind = ["--uds", endpoint.removeprefix("unix:")]
        else:
            host, port = endpoint.rsplit(":", 1)
            bind = ["--host", host, "--port", port]
        return [
            *(sys.executable, "-m", "uvicorn", app, *bind, "--backlog", str(backlog)),
            *("--loop", "uvloop", "--http", "httptools", "--no-use-colors", *options),
        ]

    return argv


_BRIDGE_READY = '"listening"'
_UWSGI_READY = "spawned uWSGI worker 1"
_GUNICORN_READY = "Booting worker with pid"

SERVERS = (
    Server(
        name="bridge-wsgi",
        summary=f"the bridge, WSGI, {THREADS} threads",
        interface="wsgi",
        protocol="uwsgi",
        packages=("uwsgibridge",),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "wsgi", "--threads", str(THREADS)),
    ),
    Server(
        name="bridge-asyncio",
        summary="the bridge, ASGI on asyncio",
        interface="asgi",
        protocol="uwsgi",
        packages=("uwsgibridge",),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "asgi", "--loop", "asyncio"),
    ),
    Server(
        name="bridge-uvloop",
        summary="the bridge, ASGI on uvloop",
        interface="asgi",
        protocol="uwsgi",
        packages=("uwsgibridge", "uvloop"),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "asgi", "--loop", "uvloop"),
    ),
    Server(
        name="bridge-trio",
        summary="the bridge, ASGI on trio",
        interface="asgi",
        protocol="uwsgi",
        packages=("uwsgibridge",),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "asgi", "--loop", "trio"),
    ),
    Server(
        name="uwsgi",
        summary="uWSGI (C), one process without a master",
        interface="wsgi",
        protocol="uwsgi",
        packages=("pyuwsgi",),
        ready_text=_UWSGI_READY,
        argv=_uwsgi(),
    ),
    Server(
        name="uwsgi-threads",
        summary=f"uWSGI (C), one process with {THREADS} threads",
        interface="wsgi",
        protocol="uwsgi",
        packages=("pyuwsgi",),
        ready_text=_UWSGI_READY,
        argv=_uwsgi("--threads", str(THREADS)),
    ),
    Server(
        name="gunicorn",
        summary="gunicorn, sync worker",
        interface="wsgi",
        protocol="uwsgi",
        packages=("gunicorn",),
        ready_text=_GUNICORN_READY,
        argv=_gunicorn("--worker-class", "sync"),
    ),
    Server(
        name="gunicorn-gthread",
        summary=f"gunicorn, gthread worker, {THREADS} threads",
        interface="wsgi",
        protocol="uwsgi",
        packages=("gunicorn",),
        ready_text=_GUNICORN_READY,
        argv=_gunicorn("--worker-class", "gthread", "--threads", str(THREADS)),
        default=False,
    ),
    Server(
        name="gunicorn-asgi",
        summary="gunicorn, ASGI worker on uvloop",
        interface="asgi",
        protocol="uwsgi",
        packages=("gunicorn", "uvloop"),
        ready_text=_GUNICORN_READY,
        argv=_gunicorn("--worker-class", "asgi", "--asgi-loop", "uvloop"),
        default=False,
    ),
    Server(
        name="uvicorn",
        summary="uvicorn, uvloop and httptools, HTTP with keep-alive",
        interface="asgi",
        protocol="http",
        packages=("uvicorn", "uvloop", "httptools"),
        ready_text="Uvicorn running on",
        argv=_uvicorn("--no-access-log"),
    ),
    Server(
        name="uvicorn-close",
        summary="the same, with a new connection for each request",
        interface="asgi",
        protocol="http-close",
        packages=("uvicorn", "uvloop", "httptools"),
        ready_text="Uvicorn running on",
        argv=_uvicorn("--no-access-log"),
    ),
    Server(
        name="uvicorn-access-log",
        summary="uvicorn with keep-alive as it comes, with its access log",
        interface="asgi",
        protocol="http",
        packages=("uvicorn", "uvloop", "httptools"),
        ready_text="Uvicorn running on",
        argv=_uvicorn(),
    ),
)
