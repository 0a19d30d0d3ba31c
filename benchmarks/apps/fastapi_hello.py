"""The same answer through FastAPI: what a real ASGI framework adds to the server's cost."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import Response

from benchmarks.apps import BODY

app = FastAPI(openapi_url=None)


@app.get("/")
async def hello() -> Response:
    """Answer with BODY; Starlette sets the Content-Length."""
    return Response(BODY, headers={"content-type": "text/plain"})
