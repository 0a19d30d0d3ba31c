"""The site in Quart: the views, which `quart_site` serves on asyncio and `quart_trio_site` on trio."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, jsonify, request, send_file, websocket

from integration.asgi.apps.frameworks import exercises


def add_views(app: Quart, name: str) -> None:
    """Give an application its views.

    Args:
        app: of Quart or of Quart-Trio.
        name: how the site is called in the log.
    """
    app.config["MAX_CONTENT_LENGTH"] = 32 * 1024 * 1024
    greetings: dict[str, str] = {}

    @app.before_serving
    async def startup() -> None:
        exercises.tell_of(name, "startup")
        greetings["greeting"] = "from the lifespan"

    @app.after_serving
    async def shutdown() -> None:
        exercises.tell_of(name, "shutdown")

    @app.post("/form")
    async def form() -> Any:
        return jsonify((await request.form).to_dict(flat=False))

    @app.post("/upload")
    async def upload() -> Any:
        file = (await request.files)["file"]
        return jsonify(name=file.filename, **exercises.about(file.read()))

    @app.post("/raw")
    async def raw() -> Any:
        pieces = [piece async for piece in request.body if piece]
        return jsonify(pieces=len(pieces), **exercises.about(b"".join(pieces)))

    @app.get("/stream")
    async def stream() -> Any:
        return exercises.numbered_pieces()

    @app.get("/events/<key>")
    async def events(key: str) -> Any:
        async def encoded() -> AsyncIterator[bytes]:
            async for event in exercises.two_events(key):
                yield event.encode()

        return encoded(), {"Content-Type": "text/event-stream"}

    @app.get("/file")
    async def file() -> Any:
        return await send_file(__file__)

    @app.post("/background/<key>")
    async def background(key: str) -> Any:
        app.add_background_task(exercises.work_in_background, name, key)
        return jsonify(answered=True)

    @app.post("/signal/<key>")
    async def signal(key: str) -> Any:
        exercises.set_signal(name, key)
        return "", 204

    @app.get("/state")
    async def state() -> Any:
        return jsonify(greetings)

    @app.get("/libraries")
    async def libraries() -> Any:
        return jsonify(exercises.libraries())

    @app.get("/where")
    async def where() -> Any:
        return jsonify(url=request.url, client=request.remote_addr, root=request.script_root)

    @app.get("/fail")
    async def fail() -> Any:
        raise ValueError("of the site")

    @app.websocket("/echo")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())
