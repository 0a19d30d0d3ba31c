"""The demo's FastAPI application, at ``/fastapi``: ASGI, on whichever event loop the bridge was told to use."""

import platform
from collections.abc import AsyncIterator
from importlib import metadata
from typing import Annotated

import anyio
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from uwsgibridge.demo.arrived import scope_as_json
from uwsgibridge.demo.event_loop import loop_name
from uwsgibridge.demo.receipt import Receipt
from uwsgibridge.demo.streams import (
    CLOCK_END,
    CLOCK_HEADERS,
    CLOCK_START,
    CLOCK_TICKS,
    STREAM_CHUNKS,
    STREAM_HEADERS,
    STREAM_INTERVAL_SECONDS,
    clock_event,
    seconds_to_next_tick,
    stream_chunk,
)
from uwsgibridge.demo.web_files import WEB_FILES

# Looked up once, since each look reads files of the package.
_FASTAPI_VERSION = metadata.version("fastapi")

# FastAPI's own pages are off, because they load scripts from a CDN. The schema is at /openapi.json.
app = FastAPI(title="uwsgibridge demo", docs_url=None, redoc_url=None)


@app.get("/", include_in_schema=False)
async def index() -> Response:
    """Show the application's addresses."""
    return await asset("fastapi.html")


@app.get("/assets/{name}", include_in_schema=False)
async def asset(name: str) -> Response:
    """Send one of the demo's own files."""
    if name not in WEB_FILES:
        raise HTTPException(404)
    file = WEB_FILES[name]
    return Response(file.body, headers=file.headers)


@app.get("/status")
async def status() -> dict[str, str]:
    """Tell what runs this request."""
    return {
        "application": f"FastAPI {_FASTAPI_VERSION}",
        "interface": "ASGI",
        "python": platform.python_version(),
        "runs_on": loop_name(),
    }


@app.get("/sum")
async def add(
    numbers: Annotated[list[float], Query(alias="number", min_length=1, max_length=100)],
) -> dict[str, float]:
    """Add the numbers of the query; where one is no number, FastAPI answers 422 and names it."""
    return {"sum": sum(numbers)}


@app.get("/scope")
@app.get("/scope/{rest:path}", include_in_schema=False)
async def scope(request: Request, rest: str = "") -> JSONResponse:
    """Show this request's scope; any path may follow, to be seen in the scope."""
    return JSONResponse(scope_as_json(request.scope), headers={"Cache-Control": "no-store"})


@app.get("/stream")
async def stream() -> StreamingResponse:
    """Send one line four times a second, for five seconds."""

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(1, STREAM_CHUNKS + 1):
            yield stream_chunk(number)
            await anyio.sleep(STREAM_INTERVAL_SECONDS)

    return StreamingResponse(chunks(), headers=STREAM_HEADERS)


@app.get("/clock")
async def clock() -> StreamingResponse:
    """Send the time every second as a server-sent event, for ten minutes."""

    async def events() -> AsyncIterator[bytes]:
        yield CLOCK_START
        for tick in range(1, CLOCK_TICKS + 1):
            yield clock_event(tick)
            await anyio.sleep(seconds_to_next_tick())
        yield CLOCK_END

    return StreamingResponse(events(), headers=CLOCK_HEADERS)


@app.post("/upload")
@app.put("/upload")
async def upload(request: Request) -> dict[str, str | int | float]:
    """Count and hash the body as it comes in."""
    receipt = Receipt()
    async for chunk in request.stream():
        receipt.add(chunk)
    return receipt.report()
