"""WebSockets whose messages wait until somebody asks for `/go`; each client is told how many there were."""

from __future__ import annotations

from typing import Any

import anyio

waiting: list[anyio.Event] = []


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        if scope["path"] == "/go":
            while waiting:
                waiting.pop().set()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % len(waiting)})
        return
    await receive()
    go = anyio.Event()
    waiting.append(go)
    await send({"type": "websocket.accept"})
    await go.wait()
    count = 0
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "how many?":
            await send({"type": "websocket.send", "text": f"{count}"})
        count += 1
