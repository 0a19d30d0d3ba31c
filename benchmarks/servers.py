"""What a server of the comparison is, which of them are run, and what they have to have installed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING, Literal, Protocol

from benchmarks.errors import BenchmarkError
from uwsgibridge.fast import PURE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

App = Literal["plain", "flask", "django", "fastapi"]
Interface = Literal["wsgi", "asgi"]

_BEFORE = "-before"
_PURE = "-pure"

_MODULES: dict[App, str] = {
    "flask": "benchmarks.apps.flask_hello:app",
    "django": "benchmarks.apps.django_hello:app",
    "fastapi": "benchmarks.apps.fastapi_hello:app",
}


class CommandLine(Protocol):
    """Makes a server's command line."""

    def __call__(self, app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
        """Make it.

        Args:
            app: "module:attribute".
            endpoint: "unix:/path" or "127.0.0.1:port".
            backlog: length of the listen queue.
            workers: processes that serve.
        """


@dataclass(frozen=True, slots=True)
class Server:
    """One row of the comparison.

    `ready_text` is in the line that the server logs once its socket listens. `packages` are distributions, by the
    names under which their versions are found. `has_workers` says whether it can have several processes. `preload` are
    the further options by which an application is loaded before they are forked; None where it can't be. `checkout` is
    the directory that its code is taken from, where that is another than the benchmark's own. `is_pure` is whether
    it is the bridge without its accelerator.
    """

    name: str
    summary: str
    interface: Interface
    protocol: Literal["uwsgi", "http", "http-close"]
    packages: tuple[str, ...]
    ready_text: str
    argv: CommandLine
    default: bool = True
    has_workers: bool = True
    preload: tuple[str, ...] | None = None
    checkout: Path | None = None
    is_pure: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What its environment has to have in addition."""
        return {PURE_VARIABLE: "1"} if self.is_pure else {}

    @property
    def is_bridge(self) -> bool:
        """Whether it is the project's own."""
        return "uwsgibridge" in self.packages


@dataclass(frozen=True, slots=True)
class Pair:
    """A server and the baseline that its figures are divided by."""

    server: str
    baseline: str


def application(server: Server, app: App) -> str:
    """Return the "module:attribute" of an application for a server's interface."""
    if app == "plain":
        return f"benchmarks.apps.plain:{server.interface}"
    return _MODULES[app]


def choose(known: Sequence[Server], only: Sequence[str] = ()) -> list[Server]:
    """Return the servers to run, in the table's order.

    Args:
        known: all there are.
        only: names; empty means those that are run by default.

    Raises:
        BenchmarkError: a name is unknown.
    """
    names = [server.name for server in known]
    for name in only:
        if name not in names:
            raise BenchmarkError(
                f"--only: there is no server {name!r}; there are {', '.join(names)}."
            )
    return [server for server in known if (server.name in only if only else server.default)]


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
    if not any(server.is_bridge for server in servers):
        raise BenchmarkError("--before is for the bridge's own servers: name one with --only.")
    found = []
    for server in servers:
        found.append(server)
        if server.is_bridge:
            found.append(_of_checkout(server, checkout, python))
    return found


def with_pure(servers: Sequence[Server]) -> list[Server]:
    """Return the servers, each of the bridge's followed by the same without its accelerator."""
    found = []
    for server in servers:
        found.append(server)
        if server.is_bridge:
            found.append(
                replace(
                    server,
                    name=server.name + _PURE,
                    summary=f"{server.summary}, Python alone",
                    is_pure=True,
                )
            )
    return found


def pairs_with_pure(servers: Sequence[Server], pairs: Sequence[Pair]) -> list[Pair]:
    """Return the pairs of the servers that `with_pure` has added: each with its like, and with the peers of that."""
    pure = {server.name.removesuffix(_PURE) for server in servers if server.is_pure}
    return [
        *(Pair(name, name + _PURE) for name in sorted(pure)),
        *(Pair(pair.server + _PURE, pair.baseline) for pair in pairs if pair.server in pure),
    ]


def pairs_with_before(servers: Sequence[Server]) -> list[Pair]:
    """Return a pair for each server that `with_before` has added one to."""
    return [
        Pair(server.name.removesuffix(_BEFORE), server.name)
        for server in servers
        if server.checkout
    ]


def _of_checkout(server: Server, checkout: Path, python: Path) -> Server:
    def argv(app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
        return [str(python), *server.argv(app, endpoint, backlog, workers)[1:]]

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
