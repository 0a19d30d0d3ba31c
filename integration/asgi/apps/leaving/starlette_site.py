"""Clients that leave a site in Starlette."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from integration.asgi.apps.leaving import exercises


def told_path(request: Request) -> str:
    path: str = request.scope["path"]
    return path


async def idle(request: Request) -> Response:
    path = told_path(request)
    after = BackgroundTask(exercises.work, path)
    return StreamingResponse(exercises.idle(path), media_type=exercises.EVENTS, background=after)


async def busy(request: Request) -> Response:
    path = told_path(request)
    after = BackgroundTask(exercises.work, path)
    return StreamingResponse(exercises.busy(path), media_type=exercises.EVENTS, background=after)


async def upload(request: Request) -> Response:
    path = told_path(request)
    exercises.tell_at(path, "begun")
    try:
        content = await request.body()
    finally:
        await exercises.work(path)
    return PlainTextResponse(str(len(content)))


async def late(request: Request) -> Response:
    path = told_path(request)
    await exercises.dawdle(path)
    return PlainTextResponse("at last", background=BackgroundTask(exercises.work, path))


async def chat(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


async def release(_request: Request) -> Response:
    return Response(status_code=204)


app = exercises.observed(
    Starlette(
        routes=[
            Route("/idle/{key}", idle),
            Route("/busy/{key}", busy),
            Route("/upload/{key}", upload, methods=["POST"]),
            Route("/late/{key}", late),
            Route("/release/{key}", release),
            WebSocketRoute("/chat/{key}", chat),
        ]
    ),
    "starlette",
)
