"""Falcon in both of its forms: ASGI with events and WebSockets, and WSGI with a long download."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import falcon
import falcon.asgi
import falcon.errors

PIECE = bytes(range(256)) * 64
PIECES = 2500


class Sum:
    def on_post(self, request: Any, response: Any) -> None:
        numbers = request.get_media()
        response.media = {"sum": numbers["a"] + numbers["b"]}


class AsyncSum:
    async def on_post(self, request: Any, response: Any) -> None:
        numbers = await request.get_media()
        response.media = {"sum": numbers["a"] + numbers["b"]}


class Upload:
    def on_post(self, request: Any, response: Any) -> None:
        response.media = {
            part.secure_filename: len(part.stream.read()) for part in request.get_media()
        }


class AsyncUpload:
    async def on_post(self, request: Any, response: Any) -> None:
        response.media = {
            part.secure_filename: len(await part.stream.read())
            async for part in await request.get_media()
        }


class Events:
    async def on_get(self, _request: Any, response: Any) -> None:
        async def endless() -> AsyncIterator[falcon.asgi.SSEvent]:
            number = 0
            while True:
                yield falcon.asgi.SSEvent(json={"number": number}, event="tick")
                number += 1
                await anyio.sleep(0.02)

        response.sse = endless()


class Echo:
    async def on_websocket(self, _request: Any, websocket: Any) -> None:
        try:
            await websocket.accept()
            while True:
                await websocket.send_text(await websocket.receive_text())
        except falcon.errors.WebSocketDisconnected:
            return


class Download:
    def on_get(self, _request: Any, response: Any) -> None:
        def pieces() -> Iterator[bytes]:
            for _ in range(PIECES):
                yield PIECE

        response.content_type = falcon.MEDIA_TEXT
        response.stream = pieces()


asgi = falcon.asgi.App()
asgi.add_route("/add", AsyncSum())
asgi.add_route("/upload", AsyncUpload())
asgi.add_route("/events", Events())
asgi.add_route("/echo", Echo())

wsgi = falcon.App()
wsgi.add_route("/add", Sum())
wsgi.add_route("/upload", Upload())
wsgi.add_route("/download", Download())
