"""The servers that are compared: how each is started, and which is held against which."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.servers import Pair, Server

if TYPE_CHECKING:
    from benchmarks.servers import CommandLine, Interface

THREADS = 8
"""Threads of every server that has them: the bridge's default, and what peers' documents suggest."""


def _bridge(*options: str) -> CommandLine:
    def argv(app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
        return [
            *(sys.executable, "-m", "uwsgibridge", "serve", app),
            *("--bind", endpoint, "--workers", str(workers)),
            # Its "listening" event is then one fixed form, on a terminal and in a pipe.
            *("--log-format", "json"),
            *options,
        ]

    return argv


def _uwsgi(*options: str) -> CommandLine:
    # It forks its processes when it has loaded the application.
    # The interpreter of `pyuwsgi` is the one that runs its script: an extension module has no `python -m`.
    script = Path(sysconfig.get_path("scripts"), "pyuwsgi")

    def argv(app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
        return [
            *(str(script), "--socket", endpoint.removeprefix("unix:")),
            *("--module", app, "--pythonpath", ".", "--need-app", "--strict"),
            *("--processes", str(workers), "--enable-threads", *options),
            # Several processes without a master are no form that anybody runs.
            *(["--master"] if workers > 1 else []),
            *("--listen", str(backlog), "--disable-logging", "--die-on-term", "--vacuum"),
        ]

    return argv


def _gunicorn(*options: str) -> CommandLine:
    def argv(app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
        return [
            *(sys.executable, "-m", "gunicorn", app, "--protocol", "uwsgi"),
            # Nginx's address; a unix socket has none and is always allowed.
            *("--uwsgi-allow-from", "127.0.0.1"),
            *("--bind", endpoint, "--workers", str(workers), "--backlog", str(backlog), *options),
            # It would be made in the home directory, where a gunicorn of the user's may have its own.
            "--no-control-socket",
        ]

    return argv


def _uvicorn(*options: str) -> CommandLine:
    def argv(app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", app, *_host_and_port(endpoint)),
            *("--backlog", str(backlog), "--workers", str(workers)),
            *("--loop", "uvloop", "--http", "httptools", "--no-use-colors", *options),
        ]

    return argv


def _granian(*options: str) -> CommandLine:
    def argv(app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
        return [
            *(sys.executable, "-m", "granian", *_host_and_port(endpoint)),
            *("--backlog", str(backlog), "--workers", str(workers), *options, app),
        ]

    return argv


def _host_and_port(endpoint: str) -> list[str]:
    if endpoint.startswith("unix:"):
        return ["--uds", endpoint.removeprefix("unix:")]
    host, port = endpoint.rsplit(":", 1)
    return ["--host", host, "--port", port]


def _waitress(app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
    path = endpoint.removeprefix("unix:")
    listen = f"--unix-socket={path}" if path != endpoint else f"--listen={endpoint}"
    # It takes no more connections at a time than it has been told.
    limit = f"--connection-limit={backlog}"
    return [
        *(sys.executable, "-m", "waitress", listen, f"--threads={THREADS}"),
        *(limit, f"--backlog={backlog}", app),
    ]


def _corn(module: str) -> CommandLine:
    def argv(app: str, endpoint: str, backlog: int, workers: int) -> list[str]:
        return [
            *(sys.executable, "-m", module, "--worker-class", "trio", "--bind", endpoint),
            *("--backlog", str(backlog), "--workers", str(workers), app),
        ]

    return argv


# All ways in which figures are published at once, each as often as it is by default. Nobody listens at the port of statsd.
_FIGURES = (
    *("--status-bind", "127.0.0.1:0", "--metrics-file", "figures.prom"),
    *("--statsd-host", "127.0.0.1:9", "--slow-request-seconds", "10"),
)
_ACCESS_LOG = ("--access-log", "--access-log-format", "json")

_BRIDGE_READY = '"listening"'
# What is compared with the same and more switched on.
_WITH_MORE: Final[tuple[tuple[str, str, Interface, tuple[str, ...]], ...]] = (
    ("wsgi", f"WSGI, {THREADS} threads", "wsgi", ("--threads", str(THREADS))),
    ("uvloop", "ASGI on uvloop", "asgi", ("--loop", "uvloop")),
)

_UWSGI_READY = "spawned uWSGI worker 1"
_GUNICORN_READY = "Booting worker with pid"
_UVICORN_READY = "Uvicorn running on"
_GRANIAN_READY = "Started worker-1"

SERVERS = (
    Server(
        name="bridge-wsgi",
        summary=f"the bridge, WSGI, {THREADS} threads",
        interface="wsgi",
        protocol="uwsgi",
        packages=("uwsgibridge",),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "wsgi", "--threads", str(THREADS)),
        preload=("--preload",),
    ),
    Server(
        name="bridge-wsgi-1",
        summary="the bridge, WSGI, one thread",
        interface="wsgi",
        protocol="uwsgi",
        packages=("uwsgibridge",),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "wsgi", "--threads", "1"),
        preload=("--preload",),
    ),
    Server(
        name="bridge-asyncio",
        summary="the bridge, ASGI on asyncio",
        interface="asgi",
        protocol="uwsgi",
        packages=("uwsgibridge",),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "asgi", "--loop", "asyncio"),
        preload=("--preload",),
    ),
    Server(
        name="bridge-uvloop",
        summary="the bridge, ASGI on uvloop",
        interface="asgi",
        protocol="uwsgi",
        packages=("uwsgibridge", "uvloop"),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "asgi", "--loop", "uvloop"),
        preload=("--preload",),
    ),
    Server(
        name="bridge-trio",
        summary="the bridge, ASGI on trio",
        interface="asgi",
        protocol="uwsgi",
        packages=("uwsgibridge",),
        ready_text=_BRIDGE_READY,
        argv=_bridge("--interface", "asgi", "--loop", "trio"),
        preload=("--preload",),
    ),
    *(
        Server(
            name=f"bridge-{name}-{what}",
            summary=f"the bridge, {summary}, with {text}",
            interface=interface,
            protocol="uwsgi",
            packages=("uwsgibridge",),
            ready_text=_BRIDGE_READY,
            argv=_bridge("--interface", interface, *choice, *options),
            default=False,
        )
        for name, summary, interface, choice in _WITH_MORE
        for what, text, options in (
            ("figures", "all figures published", _FIGURES),
            ("log", "its access log as JSON", _ACCESS_LOG),
        )
    ),
    Server(
        name="uwsgi",
        summary="uWSGI (C), one process without a master",
        interface="wsgi",
        protocol="uwsgi",
        packages=("pyuwsgi",),
        ready_text=_UWSGI_READY,
        argv=_uwsgi(),
        preload=(),
    ),
    Server(
        name="uwsgi-threads",
        summary=f"uWSGI (C), one process with {THREADS} threads",
        interface="wsgi",
        protocol="uwsgi",
        packages=("pyuwsgi",),
        ready_text=_UWSGI_READY,
        argv=_uwsgi("--threads", str(THREADS)),
        preload=(),
    ),
    Server(
        name="gunicorn",
        summary="gunicorn, sync worker",
        interface="wsgi",
        protocol="uwsgi",
        packages=("gunicorn",),
        ready_text=_GUNICORN_READY,
        argv=_gunicorn("--worker-class", "sync"),
        preload=("--preload",),
    ),
    Server(
        name="gunicorn-gthread",
        summary=f"gunicorn, gthread worker, {THREADS} threads",
        interface="wsgi",
        protocol="uwsgi",
        packages=("gunicorn",),
        ready_text=_GUNICORN_READY,
        argv=_gunicorn("--worker-class", "gthread", "--threads", str(THREADS)),
        preload=("--preload",),
    ),
    Server(
        name="granian-wsgi",
        summary=f"granian (Rust), WSGI, {THREADS} threads, HTTP with keep-alive",
        interface="wsgi",
        protocol="http",
        packages=("granian",),
        ready_text=_GRANIAN_READY,
        argv=_granian("--interface", "wsgi", "--blocking-threads", str(THREADS)),
    ),
    Server(
        name="waitress",
        summary=f"waitress, {THREADS} threads, HTTP with keep-alive",
        interface="wsgi",
        protocol="http",
        packages=("waitress",),
        ready_text="Serving on",
        argv=_waitress,
        has_workers=False,
    ),
    Server(
        name="gunicorn-asgi",
        summary="gunicorn, ASGI worker on uvloop",
        interface="asgi",
        protocol="uwsgi",
        packages=("gunicorn", "uvloop"),
        ready_text=_GUNICORN_READY,
        argv=_gunicorn("--worker-class", "asgi", "--asgi-loop", "uvloop"),
        preload=("--preload",),
    ),
    Server(
        name="uvicorn",
        summary="uvicorn, uvloop and httptools, HTTP with keep-alive",
        interface="asgi",
        protocol="http",
        packages=("uvicorn", "uvloop", "httptools"),
        ready_text=_UVICORN_READY,
        argv=_uvicorn("--no-access-log"),
    ),
    Server(
        name="uvicorn-close",
        summary="the same, with a new connection for each request",
        interface="asgi",
        protocol="http-close",
        packages=("uvicorn", "uvloop", "httptools"),
        ready_text=_UVICORN_READY,
        argv=_uvicorn("--no-access-log"),
    ),
    Server(
        name="uvicorn-access-log",
        summary="uvicorn with keep-alive as it comes, with its access log",
        interface="asgi",
        protocol="http",
        packages=("uvicorn", "uvloop", "httptools"),
        ready_text=_UVICORN_READY,
        argv=_uvicorn(),
        default=False,
    ),
    Server(
        name="granian-asgi",
        summary="granian (Rust), ASGI on uvloop, HTTP with keep-alive",
        interface="asgi",
        protocol="http",
        packages=("granian", "uvloop"),
        ready_text=_GRANIAN_READY,
        argv=_granian("--interface", "asgi", "--loop", "uvloop"),
    ),
    Server(
        name="anycorn-trio",
        summary="anycorn, ASGI on trio, HTTP with keep-alive",
        interface="asgi",
        protocol="http",
        packages=("anycorn",),
        ready_text="Running on",
        argv=_corn("anycorn"),
    ),
    Server(
        name="hypercorn-trio",
        summary="hypercorn, ASGI on trio, HTTP with keep-alive",
        interface="asgi",
        protocol="http",
        packages=("hypercorn",),
        ready_text="Running on",
        argv=_corn("hypercorn"),
        default=False,
    ),
)

PAIRS = (
    Pair("bridge-wsgi", "uwsgi"),
    Pair("bridge-wsgi", "uwsgi-threads"),
    Pair("bridge-wsgi", "gunicorn-gthread"),
    Pair("bridge-wsgi", "granian-wsgi"),
    Pair("bridge-wsgi-1", "uwsgi"),
    Pair("bridge-wsgi-1", "gunicorn"),
    Pair("bridge-asyncio", "uvicorn"),
    Pair("bridge-uvloop", "uvicorn"),
    Pair("bridge-uvloop", "uvicorn-close"),
    Pair("bridge-uvloop", "uvicorn-access-log"),
    Pair("bridge-uvloop", "gunicorn-asgi"),
    Pair("bridge-uvloop", "granian-asgi"),
    *(
        Pair(f"bridge-{name}-{what}", f"bridge-{name}")
        for name, *_ in _WITH_MORE
        for what in ("figures", "log")
    ),
    Pair("bridge-trio", "uvicorn"),
    Pair("bridge-trio", "anycorn-trio"),
)
