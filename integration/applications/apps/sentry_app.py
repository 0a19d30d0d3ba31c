"""Sentry in an ASGI and in a WSGI application; it finds their frameworks by itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import anyio
import flask
import sentry_sdk
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

sentry_sdk.init(f"http://key@127.0.0.1:{os.environ['SINK_PORT']}/1", traces_sample_rate=1.0)


async def hello(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def fail(request: Request) -> Response:
    raise ValueError(f"a failure that is meant: {request.query_params['id']}")


async def events(_request: Request) -> Response:
    async def endless() -> AsyncIterator[str]:
        while True:
            yield "data: event\n\n"
            await anyio.sleep(0.02)

    return StreamingResponse(endless(), media_type="text/event-stream")


asgi = Starlette(routes=[Route("/hello", hello), Route("/fail", fail), Route("/events", events)])

wsgi = flask.Flask(__name__)


@wsgi.get("/hello")
def hello_of_flask() -> str:
    return "hello"


@wsgi.get("/fail")
def fail_of_flask() -> str:
    raise ValueError(f"a failure that is meant: {flask.request.args['id']}")


@wsgi.get("/download")
def download() -> flask.Response:
    def pieces() -> Iterator[bytes]:
        for _ in range(2500):
            yield bytes(16 * 1024)

    return flask.Response(pieces(), mimetype="application/octet-stream")
