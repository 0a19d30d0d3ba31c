"""Clients that leave a site in Litestar, for asyncio."""

# Annotations are looked at while it runs, so they are not postponed.

from typing import Any

from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.params import FromPath
from litestar.response import Response, Stream

from integration.asgi.apps.leaving import exercises


@get("/idle/{key:str}")
async def idle(key: FromPath[str]) -> Stream:
    path = f"/litestar/idle/{key}"
    after = BackgroundTask(exercises.work, path)
    return Stream(exercises.idle(path), media_type=exercises.EVENTS, background=after)


@get("/busy/{key:str}")
async def busy(key: FromPath[str]) -> Stream:
    path = f"/litestar/busy/{key}"
    after = BackgroundTask(exercises.work, path)
    return Stream(exercises.busy(path), media_type=exercises.EVENTS, background=after)


@post("/upload/{key:str}")
async def upload(key: FromPath[str], request: Request[Any, Any, Any]) -> str:
    path = f"/litestar/upload/{key}"
    exercises.tell_at(path, "begun")
    try:
        content = await request.body()
    finally:
        await exercises.work(path)
    return str(len(content))


@get("/late/{key:str}")
async def late(key: FromPath[str]) -> Response[str]:
    path = f"/litestar/late/{key}"
    await exercises.dawdle(path)
    return Response("at last", background=BackgroundTask(exercises.work, path))


@websocket("/chat/{key:str}")
async def chat(key: FromPath[str], socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


@get("/release/{key:str}", status_code=204)
async def release(key: FromPath[str]) -> None:
    return


app = exercises.observed(Litestar([idle, busy, upload, late, release, chat]), "litestar")
