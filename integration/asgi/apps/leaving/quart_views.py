"""Clients that leave a site in Quart: the views, served on asyncio and by Quart-Trio on trio."""

from __future__ import annotations

from typing import Any

from quart import Quart, request, websocket

from integration.asgi.apps.leaving import exercises


def add_views(app: Quart) -> None:
    """Give an application its views."""

    @app.teardown_request
    async def teardown(_error: BaseException | None) -> None:
        exercises.tell_at(request.scope["path"], "work done")

    @app.get("/idle/<key>")
    async def idle(key: str) -> Any:
        return exercises.idle(request.scope["path"]), {"Content-Type": exercises.EVENTS}

    @app.get("/busy/<key>")
    async def busy(key: str) -> Any:
        return exercises.busy(request.scope["path"]), {"Content-Type": exercises.EVENTS}

    @app.post("/upload/<key>")
    async def upload(key: str) -> Any:
        exercises.tell_at(request.scope["path"], "begun")
        return str(len(await request.get_data()))

    @app.get("/late/<key>")
    async def late(key: str) -> Any:
        await exercises.dawdle(request.scope["path"])
        return "at last"

    @app.websocket("/chat/<key>")
    async def chat(key: str) -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.get("/release/<key>")
    async def release(key: str) -> Any:
        return "", 204
