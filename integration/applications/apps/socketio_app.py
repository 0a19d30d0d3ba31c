"""Socket.IO: an echo with an acknowledgement, and a room, in memory."""

from __future__ import annotations

from typing import Any

import socketio

# A poll that waits for nothing is answered at each ping: in a time that a stop has.
server = socketio.AsyncServer(async_mode="asgi", ping_interval=3, ping_timeout=20)


@server.event
async def echo(_sid: str, value: Any) -> Any:
    return value


@server.event
async def enter(sid: str, room: str) -> None:
    await server.enter_room(sid, room)
    await server.emit("entered", {"room": room}, room=room)


@server.event
async def leave(sid: str) -> None:
    await server.disconnect(sid)


app = socketio.ASGIApp(server)
