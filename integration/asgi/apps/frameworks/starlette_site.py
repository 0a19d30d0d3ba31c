"""The site in Starlette, for asyncio and for trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.endpoints import WebSocketEndpoint
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from integration.asgi.apps.frameworks import exercises

NAME = "starlette"


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
    exercises.tell_of(NAME, "startup")
    yield {"greeting": "from the lifespan"}
    exercises.tell_of(NAME, "shutdown")


async def form(request: Request) -> Response:
    async with request.form() as fields:
        return JSONResponse({name: fields.getlist(name) for name in fields})


async def upload(request: Request) -> Response:
    async with request.form() as fields:
        file = fields["file"]
        assert isinstance(file, UploadFile)
        content = await file.read()
        return JSONResponse({"name": file.filename, **exercises.about(content)})


async def raw(request: Request) -> Response:
    pieces = [piece async for piece in request.stream() if piece]
    return JSONResponse({"pieces": len(pieces), **exercises.about(b"".join(pieces))})


async def stream(request: Request) -> Response:
    return StreamingResponse(exercises.numbered_pieces())


async def events(request: Request) -> Response:
    key = request.path_params["key"]
    return StreamingResponse(exercises.two_events(key), media_type="text/event-stream")


async def endless(request: Request) -> Response:
    return StreamingResponse(exercises.endless(NAME), media_type=exercises.BINARY)


async def file(request: Request) -> Response:
    return FileResponse(__file__)


async def background(request: Request) -> Response:
    task = BackgroundTask(exercises.work_in_background, NAME, request.path_params["key"])
    return JSONResponse({"answered": True}, background=task)


async def signal(request: Request) -> Response:
    exercises.set_signal(NAME, request.path_params["key"])
    return Response(status_code=204)


async def state(request: Request) -> Response:
    return JSONResponse({"greeting": request.state.greeting})


async def libraries(request: Request) -> Response:
    return JSONResponse(exercises.libraries())


async def where(request: Request) -> Response:
    client = request.client and request.client.host
    return JSONResponse(
        {"url": str(request.url), "client": client, "root": request.scope["root_path"]}
    )


async def fail(request: Request) -> Response:
    raise ValueError("of the site")


class Echo(WebSocketEndpoint):
    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send({"type": "websocket.send", **data})

    async def decode(self, websocket: WebSocket, message: Any) -> Any:
        return {name: message.get(name) for name in ("text", "bytes")}

    async def on_disconnect(self, websocket: WebSocket, close_code: int) -> None:
        exercises.tell_of(NAME, f"disconnect {close_code}")


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/raw", raw, methods=["POST"]),
        Route("/stream", stream),
        Route("/events/{key}", events),
        Route("/endless", endless),
        Route("/file", file),
        Route("/background/{key}", background, methods=["POST"]),
        Route("/signal/{key}", signal, methods=["POST"]),
        Route("/state", state),
        Route("/libraries", libraries),
        Route("/where", where),
        Route("/fail", fail),
        WebSocketRoute("/echo", Echo),
    ],
)
