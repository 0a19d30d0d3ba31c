"""The site in Litestar, for asyncio."""

# Annotations are looked at while it runs, so they are not postponed.

from typing import Any

from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import WebSocketDisconnect
from litestar.params import FromPath
from litestar.response import File, Response, Stream

from integration.asgi.apps.frameworks import exercises

NAME = "litestar"

AnyRequest = Request[Any, Any, Any]


@post("/form", status_code=200)
async def form(request: AnyRequest) -> dict[str, Any]:
    fields = await request.form()
    return {name: fields.getall(name) for name in fields}


@post("/upload", status_code=200)
async def upload(request: AnyRequest) -> dict[str, Any]:
    file = (await request.form())["file"]
    return {"name": file.filename, **exercises.about(await file.read())}


@post("/raw", status_code=200)
async def raw(request: AnyRequest) -> dict[str, Any]:
    pieces = [piece async for piece in request.stream() if piece]
    return {"pieces": len(pieces), **exercises.about(b"".join(pieces))}


@get("/stream")
async def stream() -> Stream:
    return Stream(exercises.numbered_pieces)


@get("/events/{key:str}")
async def events(key: FromPath[str]) -> Stream:
    return Stream(exercises.two_events(key), media_type="text/event-stream")


@get("/endless")
async def endless() -> Stream:
    return Stream(exercises.endless(NAME), media_type=exercises.BINARY)


@get("/file")
async def file() -> File:
    return File(__file__)


@post("/background/{key:str}", status_code=200)
async def background(key: FromPath[str]) -> Response[dict[str, bool]]:
    task = BackgroundTask(exercises.work_in_background, NAME, key)
    return Response({"answered": True}, background=task)


@post("/signal/{key:str}", status_code=204)
async def signal(key: FromPath[str]) -> None:
    exercises.set_signal(NAME, key)


@get("/state")
async def state(request: AnyRequest) -> dict[str, str]:
    return {"greeting": request.app.state.greeting}


@get("/libraries")
async def libraries() -> dict[str, Any]:
    return exercises.libraries()


@get("/where")
async def where(request: AnyRequest) -> dict[str, Any]:
    client = request.client and request.client.host
    return {"url": str(request.url), "client": client, "root": request.scope["root_path"]}


@get("/fail")
async def fail() -> None:
    raise ValueError("of the site")


@websocket("/echo")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect as disconnect:
        exercises.tell_of(NAME, f"disconnect {disconnect.code}")


async def startup(app: Litestar) -> None:
    exercises.tell_of(NAME, "startup")
    app.state.greeting = "from the lifespan"


async def shutdown(app: Litestar) -> None:
    exercises.tell_of(NAME, "shutdown")


app = Litestar(
    [
        form, upload, raw, stream, events, endless, file, background, signal, state, libraries,
        where, fail, echo,
    ],
    on_startup=[startup],
    on_shutdown=[shutdown],
    request_max_body_size=32 * 1024 * 1024,
)  # fmt: skip
