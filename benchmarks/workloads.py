"""The table of workloads: what is asked of which application, and which figures that gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks import computing, echoes, requests_load, spreading, starting
from benchmarks.apps import BODY
from benchmarks.apps.plain import FILE_BYTES, LARGE_BYTES, make_json
from benchmarks.errors import BenchmarkError
from benchmarks.load import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.launching import Bench
    from benchmarks.metrics import Metric
    from benchmarks.servers import App, Interface, Server
    from benchmarks.turn import Turn

_BOTH: Final[tuple[Interface, ...]] = ("wsgi", "asgi")
_UPLOAD_BYTES: Final = 100 * 1024

# With Host, which wrk sends, they are 30; the order and the sizes are a browser's.
_BROWSER: Final = (
    ("Connection", "keep-alive"),
    ("Cache-Control", "max-age=0"),
    ("sec-ch-ua", '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"'),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", '"Linux"'),
    ("sec-ch-ua-platform-version", '"6.1.0"'),
    ("sec-ch-ua-arch", '"x86"'),
    ("sec-ch-ua-bitness", '"64"'),
    ("sec-ch-ua-model", '""'),
    ("sec-ch-prefers-color-scheme", "dark"),
    ("Upgrade-Insecure-Requests", "1"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-User", "?1"),
    ("Sec-Fetch-Dest", "document"),
    ("Referer", "http://bench.example/orders?page=3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8"),
    ("Cookie", "sessionid=5v2kq0b8zy0x5m9t1c8n3s7f6d4g2h1j; csrftoken=Qy7mJ5; theme=dark"),
    ("If-None-Match", '"33a64df551425fcc55e4d42a148795d9f25f89d4"'),
    ("If-Modified-Since", "Wed, 21 Oct 2026 07:28:00 GMT"),
    ("DNT", "1"),
    ("Priority", "u=0, i"),
    ("X-Requested-With", "XMLHttpRequest"),
    ("X-Request-Id", "0f8fad5bd9cb469fa16570867728950e"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "vendor=t61rcWkgMzE"),
)


@dataclass(frozen=True, slots=True)
class Workload:
    """Something that servers do in turn, while all of them run.

    `probe` is asked of each before, and has to be answered with `expected`: a body, or its length in bytes.
    `takes_connections` says whether it can be had with another number of connections than its own.
    """

    name: str
    summary: str
    app: App
    measure: Callable[[Turn], dict[Metric, float]]
    metrics: tuple[Metric, ...]
    probe: Request
    expected: bytes | int
    connections: tuple[int, ...] = (64,)
    interfaces: tuple[Interface, ...] = _BOTH
    workers: int = 1
    takes_connections: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """Something for which each server is started anew, while no other one runs."""

    name: str
    summary: str
    app: App
    measure: Callable[[Bench, Server], dict[Metric, float]]
    metrics: tuple[Metric, ...]
    interfaces: tuple[Interface, ...] = _BOTH


def _requests(
    name: str,
    summary: str,
    request: Request,
    expected: bytes | int,
    *,
    app: App = "plain",
    connections: tuple[int, ...] = (64,),
    interfaces: tuple[Interface, ...] = _BOTH,
) -> Workload:
    return Workload(
        name=name,
        summary=summary,
        app=app,
        measure=requests_load.under_requests(request),
        metrics=requests_load.METRICS,
        probe=request,
        expected=expected,
        connections=connections,
        interfaces=interfaces,
        takes_connections=True,
    )


def _computing(milliseconds: int) -> Workload:
    return Workload(
        name=f"compute-{milliseconds}",
        summary=f"4 light requests beside 4 that compute for {milliseconds} ms, and pings",
        app="plain",
        measure=computing.while_computing(milliseconds),
        metrics=computing.METRICS,
        probe=Request("/"),
        expected=BODY,
        connections=(8,),
    )


def _spreading(workers: int) -> Workload:
    return Workload(
        name=f"workers-{workers}",
        summary=f"how requests spread over {workers} workers, and useless wake-ups",
        app="plain",
        measure=spreading.over_workers,
        metrics=spreading.METRICS,
        probe=Request("/"),
        expected=BODY,
        connections=(1,),
        workers=workers,
    )


def _memory(
    app: App, title: str, interfaces: tuple[Interface, ...], *, preloaded: bool = False
) -> Trial:
    return Trial(
        name=f"memory-{app}{'-preloaded' if preloaded else ''}",
        summary=f"memory (PSS) with 1, 2 and 4 workers, {title}{', loaded before they are forked' if preloaded else ''}",
        app=app,
        measure=starting.memory(app, preloaded=preloaded),
        metrics=starting.MEMORY_METRICS,
        interfaces=interfaces,
    )


def _start(app: App, title: str, interfaces: tuple[Interface, ...]) -> Trial:
    return Trial(
        name=f"start-{app}",
        summary=f"from the start to the first answer, {title}",
        app=app,
        measure=starting.start(app),
        metrics=starting.START_METRICS,
        interfaces=interfaces,
    )


WORKLOADS: Final[tuple[Workload | Trial, ...]] = (
    _requests("hello", "12 bytes", Request("/"), BODY, connections=(64, 1, 512)),
    _requests("headers", "a browser's 30 headers", Request("/", _BROWSER), BODY),
    _requests("json", "1 KiB of JSON", Request("/json"), make_json()),
    _requests("large", "a body of 1 MiB", Request("/large"), LARGE_BYTES),
    _requests("file", "a file of 100 KiB", Request("/file"), FILE_BYTES),
    _requests(
        "upload",
        "an upload of 100 KiB",
        Request("/upload", upload_bytes=_UPLOAD_BYTES),
        str(_UPLOAD_BYTES).encode(),
    ),
    _requests("wait", "an application that waits 10 ms", Request("/wait"), b"waited"),
    _computing(2),
    _computing(20),
    Workload(
        name="websockets",
        summary="500 WebSockets, each of which gets its messages back",
        app="plain",
        measure=echoes.under_echoes,
        metrics=echoes.METRICS,
        probe=Request("/"),
        expected=BODY,
        connections=(500,),
        interfaces=("asgi",),
    ),
    _requests("flask", "12 bytes by Flask", Request("/"), BODY, app="flask", interfaces=("wsgi",)),
    _requests(
        "django", "12 bytes by Django", Request("/"), BODY, app="django", interfaces=("wsgi",)
    ),
    _requests(
        "fastapi", "12 bytes by FastAPI", Request("/"), BODY, app="fastapi", interfaces=("asgi",)
    ),
    _spreading(2),
    _spreading(4),
    _memory("django", "Django", ("wsgi",)),
    _memory("django", "Django", ("wsgi",), preloaded=True),
    _memory("fastapi", "FastAPI", ("asgi",)),
    _start("plain", "12 bytes", _BOTH),
    _start("django", "Django", ("wsgi",)),
    _start("fastapi", "FastAPI", ("asgi",)),
)


def choose_workloads(names: Sequence[str]) -> list[Workload | Trial]:
    """Return the workloads of these names in the table's order; "all" stands for all.

    Raises:
        BenchmarkError: a name is unknown.
    """
    known = [workload.name for workload in WORKLOADS]
    for name in names:
        if name not in {*known, "all"}:
            raise BenchmarkError(
                f"--workloads: there is no {name!r}; there are {', '.join(known)}."
            )
    return [workload for workload in WORKLOADS if "all" in names or workload.name in names]
