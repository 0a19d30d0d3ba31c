"""Streams of Starlette: its own response, and one in the manner of sse-starlette."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from integration.asgi.apps.table import Receive, Scope, Send, tell


async def _events(request: Request) -> AsyncIterator[bytes]:
    try:
        yield b"data: open\n\n"
        await anyio.sleep_forever()
    finally:
        tell(request.scope, "closed")


class _ListeningResponse(Response):
    """Listens for the disconnect in a task beside the stream, and says goodbye when it has come."""

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [_TYPE]}
        await send(start)
        await send(_piece(b"data: open\n\n"))
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                tell(scope, "told")
                group.cancel_scope.cancel()

            async def ping() -> None:
                while True:
                    await anyio.sleep(0.1)
                    await send(_piece(b": ping\n\n"))

            group.start_soon(listen)
            group.start_soon(ping)
        await send(_piece(b"data: goodbye\n\n"))
        await send({"type": "http.response.body", "body": b""})


_TYPE = (b"content-type", b"text/event-stream")


def _piece(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def events(request: Request) -> Response:
    return StreamingResponse(_events(request), media_type="text/event-stream")


async def lines(request: Request) -> Response:
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_events(request), media_type="text/plain", headers=headers)


async def listening(_request: Request) -> Response:
    return _ListeningResponse()


app = Starlette(
    routes=[Route("/events", events), Route("/lines", lines), Route("/listening", listening)]
)
