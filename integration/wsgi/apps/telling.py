"""Applications that tell where they are: two for WSGI, one for ASGI."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .checked import checked

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def _named(name: str) -> WSGIApplication:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "application/json")])
        said = {"app": name, "root": environ["SCRIPT_NAME"], "path": environ["PATH_INFO"]}
        return [json.dumps(said).encode()]

    return checked(application)


one = _named("one")
two = _named("two")


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    said = {"app": "asgi", "root": scope["root_path"], "path": scope["path"]}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})
