"""What answers where there is no file: the same as WSGI and as ASGI."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = environ["wsgi.input"].read()
    told = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "body": len(body)}
    start_response("404 Not Found", [("Content-Type", "application/json")])
    return [json.dumps(told).encode()]


async def asgi(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    told = {"method": scope["method"], "path": scope["path"], "body": size}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
