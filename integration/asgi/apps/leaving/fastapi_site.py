"""Clients that leave a site in FastAPI, whose dependencies with a `yield` end with the request."""

# ruff: noqa: FAST003 - the dependency has the whole path
# Annotations are looked at while it runs, so they are not postponed.

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from integration.asgi.apps.leaving import exercises

site = FastAPI()


async def dependency(request: Request) -> AsyncIterator[str]:
    path: str = request.scope["path"]
    try:
        yield path
    finally:
        exercises.tell_at(path, "dependency ended")


Path = Annotated[str, Depends(dependency)]


@site.get("/idle/{key}")
async def idle(path: Path, after: BackgroundTasks) -> Response:
    after.add_task(exercises.work, path)
    return StreamingResponse(exercises.idle(path), media_type=exercises.EVENTS)


@site.get("/busy/{key}")
async def busy(path: Path, after: BackgroundTasks) -> Response:
    after.add_task(exercises.work, path)
    return StreamingResponse(exercises.busy(path), media_type=exercises.EVENTS)


@site.post("/upload/{key}")
async def upload(path: Path, request: Request) -> Response:
    exercises.tell_at(path, "begun")
    try:
        content = await request.body()
    finally:
        await exercises.work(path)
    return PlainTextResponse(str(len(content)))


@site.get("/late/{key}")
async def late(path: Path, after: BackgroundTasks) -> Response:
    await exercises.dawdle(path)
    after.add_task(exercises.work, path)
    return PlainTextResponse("at last")


@site.websocket("/chat/{key}")
async def chat(socket: WebSocket) -> None:
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())


@site.get("/release/{key}")
async def release() -> Response:
    return Response(status_code=204)


app = exercises.observed(site, "fastapi")
