"""The site in FastAPI, for asyncio and for trio."""

# Annotations are looked at while it runs, so they are not postponed.

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, FastAPI, File, Form, Request, UploadFile, WebSocket
from fastapi.responses import FileResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from integration.asgi.apps.frameworks import exercises

NAME = "fastapi"


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    exercises.tell_of(NAME, "startup")
    yield {"greeting": "from the lifespan"}
    exercises.tell_of(NAME, "shutdown")


app = FastAPI(lifespan=lifespan)


@app.post("/form")
async def form(name: Annotated[list[str], Form()], other: Annotated[str, Form()]) -> dict[str, Any]:
    return {"name": name, "other": [other]}


@app.post("/upload")
async def upload(file: Annotated[UploadFile, File()]) -> dict[str, Any]:
    return {"name": file.filename, **exercises.about(await file.read())}


@app.post("/raw")
async def raw(request: Request) -> dict[str, Any]:
    pieces = [piece async for piece in request.stream() if piece]
    return {"pieces": len(pieces), **exercises.about(b"".join(pieces))}


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(exercises.numbered_pieces())


@app.get("/events/{key}")
async def events(key: str) -> StreamingResponse:
    return StreamingResponse(exercises.two_events(key), media_type="text/event-stream")


@app.get("/endless")
async def endless() -> StreamingResponse:
    return StreamingResponse(exercises.endless(NAME), media_type=exercises.BINARY)


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(__file__)


@app.post("/background/{key}")
async def background(key: str, tasks: BackgroundTasks) -> dict[str, bool]:
    tasks.add_task(exercises.work_in_background, NAME, key)
    return {"answered": True}


@app.post("/signal/{key}", status_code=204)
async def signal(key: str) -> None:
    exercises.set_signal(NAME, key)


@app.get("/state")
async def state(request: Request) -> dict[str, str]:
    return {"greeting": request.state.greeting}


@app.get("/libraries")
async def libraries() -> dict[str, Any]:
    return exercises.libraries()


@app.get("/thread")
def thread() -> dict[str, bool]:
    return {"is_main": threading.current_thread() is threading.main_thread()}


@app.get("/where")
async def where(request: Request) -> dict[str, Any]:
    client = request.client and request.client.host
    return {"url": str(request.url), "client": client, "root": request.scope["root_path"]}


@app.get("/fail")
async def fail() -> None:
    raise ValueError("of the site")


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            await websocket.send({**message, "type": "websocket.send"})
    except WebSocketDisconnect as disconnect:
        exercises.tell_of(NAME, f"disconnect {disconnect.code}")
