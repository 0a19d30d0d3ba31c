"""prometheus_client over several workers, by its files in a directory that they share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import anyio
import flask
from prometheus_client import CollectorRegistry, Counter, Gauge, make_asgi_app, make_wsgi_app
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

_greetings = Counter("greetings", "Since the first worker came.")
_streams = Gauge("streams", "That are open now.", multiprocess_mode="livesum")


def registry() -> CollectorRegistry:
    """Make what collects the figures of all workers."""
    made = CollectorRegistry()
    MultiProcessCollector(made)
    return made


def forget() -> None:
    """Take an ended worker out of the figures of those that live (`--on-worker-exit`)."""
    mark_process_dead(os.getpid())


async def hello(_request: Request) -> Response:
    _greetings.inc()
    return PlainTextResponse("hello")


async def events(_request: Request) -> Response:
    async def endless() -> Any:
        with _streams.track_inprogress():
            while True:
                yield "data: event\n\n"
                await anyio.sleep(0.02)

    return StreamingResponse(endless(), media_type="text/event-stream")


asgi = Starlette(
    routes=[
        Route("/hello", hello),
        Route("/events", events),
        Mount("/metrics", make_asgi_app(registry())),
    ]
)

_flask = flask.Flask(__name__)


@_flask.get("/hello")
def hello_of_flask() -> str:
    _greetings.inc()
    return "hello"


@_flask.get("/download")
def download() -> flask.Response:
    def pieces() -> Iterator[bytes]:
        with _streams.track_inprogress():
            for _ in range(2500):
                yield bytes(16 * 1024)

    return flask.Response(pieces(), mimetype="application/octet-stream")


_metrics = make_wsgi_app(registry())


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    if environ["PATH_INFO"].startswith("/metrics"):
        return _metrics(environ, start_response)
    return _flask.wsgi_app(environ, start_response)
