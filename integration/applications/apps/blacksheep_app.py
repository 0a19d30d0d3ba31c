"""BlackSheep: routes with bound values, uploads, events, WebSockets, and work before and after all of it."""

# Annotations are looked at while it runs, so they are not postponed.

import asyncio
import contextlib
from collections.abc import AsyncIterable
from dataclasses import dataclass

from blacksheep import (
    Application,
    FromFiles,
    FromJSON,
    Request,
    WebSocket,
    WebSocketDisconnectError,
)
from blacksheep.server.sse import ServerSentEvent

app = Application()
state = {"started": 0}


@dataclass
class Numbers:
    a: int
    b: int


@app.on_start
async def start(_application: Application) -> None:
    state["started"] += 1


@app.router.get("/started")
async def started() -> dict[str, int]:
    return state


@app.router.post("/add")
async def add(numbers: FromJSON[Numbers]) -> dict[str, int]:
    return {"sum": numbers.value.a + numbers.value.b}


@app.router.post("/upload")
async def upload(files: FromFiles) -> dict[str, int]:
    return {part.file_name.decode(): part.size for part in files.value}


@app.router.post("/body")
async def body(request: Request) -> dict[str, int]:
    return {"bytes": sum([len(piece) async for piece in request.stream()])}


@app.router.get("/events")
async def events() -> AsyncIterable[ServerSentEvent]:
    number = 0
    while True:
        yield ServerSentEvent({"number": number})
        number += 1
        await asyncio.sleep(0.02)


@app.router.ws("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    # What is not caught, BlackSheep logs as an error, also after an orderly end.
    with contextlib.suppress(WebSocketDisconnectError):
        while True:
            await websocket.send_text(await websocket.receive_text())
