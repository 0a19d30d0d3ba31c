"""Many WebSockets that say nothing, kept open by answering the server's pings."""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from integration.asgi.frames import PING, PONG, TEXT, Frame, FrameClient
from integration.asgi.resident_memory import resident_bytes
from uwsgibridge.frontend.options import Site
from uwsgibridge.frontend.private import PrivateNginx
from uwsgibridge.testing import BridgeProcess

REPOSITORY: Final = Path(__file__).parents[2]
APP: Final = "integration.asgi.apps.behaviours:application"

_WORKER_CONNECTIONS: Final = "worker_connections 1024;"


class SpaciousNginx(PrivateNginx):
    """A private Nginx for thousands of tunnels, each of which takes two of a worker's connections."""

    def _write_configuration(self, directory: Path, ready_socket: Path) -> Path:
        path = super()._write_configuration(directory, ready_socket)
        text = path.read_text()
        assert _WORKER_CONNECTIONS in text, "the configuration has another form"
        path.write_text(text.replace(_WORKER_CONNECTIONS, "worker_connections 16384;"))
        return path


@dataclass(frozen=True)
class Server:
    """One worker behind one Nginx.

    Attributes:
        url: where Nginx answers.
        pid: of the worker.
    """

    url: str
    pid: int


@contextmanager
def serving(loop: str, *, ping_seconds: float, read_timeout_seconds: int) -> Iterator[Server]:
    """Serve an application that repeats messages, with compression for those who ask for it."""
    with (
        BridgeProcess(
            *(APP, "--app-dir", str(REPOSITORY), "--loop", loop, "--workers", "0"),
            *("--bind", "127.0.0.1:0", "--websocket-deflate"),
            *("--websocket-ping-seconds", str(ping_seconds)),
        ) as bridge,
        SpaciousNginx(
            Site(upstreams=(bridge.address,), read_timeout_seconds=read_timeout_seconds)
        ) as nginx,
    ):
        yield Server(nginx.url, bridge.pid)


@dataclass(frozen=True)
class Memory:
    """What the worker has, at four times, in bytes."""

    before: int
    opened: int
    idle: int
    used: int

    def per_websocket(self, count: int) -> str:
        """Write down what each of so many costs."""
        shares = (
            f"{name} {(now - self.before) / count / 1024:.1f} KiB"
            for name, now in (("opened", self.opened), ("idle", self.idle), ("used", self.used))
        )
        return ", ".join(shares)


def hold_open(
    server: Server, *, count: int, seconds: float, headers: dict[str, str | None]
) -> Memory:
    """Open so many, keep them silent for so long, and have each repeat one message.

    Returns:
        The memory before, with all of them open, after the silence, and after the messages.

    Raises:
        AssertionError: one of them ended, or got anything but pings and its message.
    """
    with ExitStack() as clients:
        # What the first one makes the server import or allocate is not the others' share.
        with FrameClient(server.url, "/echo/first", headers=headers) as first:
            _exchange(first)
        before = resident_bytes(server.pid)
        websockets = [
            clients.enter_context(FrameClient(server.url, f"/echo/{number}", headers=headers))
            for number in range(count)
        ]
        assert {websocket.status for websocket in websockets} == {101}
        opened = resident_bytes(server.pid)
        _answer_pings(websockets, seconds)
        idle = resident_bytes(server.pid)
        for websocket in websockets:
            _exchange(websocket)
        return Memory(before, opened, idle, resident_bytes(server.pid))


def _answer_pings(websockets: list[FrameClient], seconds: float) -> None:
    with selectors.DefaultSelector() as readable:
        for websocket in websockets:
            readable.register(websocket, selectors.EVENT_READ, websocket)
        deadline = time.monotonic() + seconds
        while (left_seconds := deadline - time.monotonic()) > 0:
            for key, _ in readable.select(left_seconds):
                websocket = key.data
                frame = websocket.receive()
                assert frame == Frame(PING, b""), frame
                websocket.send(PONG)


def _exchange(websocket: FrameClient) -> None:
    # Without RSV1: a client need not compress, and the answer is compressed where that was agreed.
    websocket.send(TEXT, b"still there")
    while (frame := websocket.receive()) == Frame(PING, b""):
        websocket.send(PONG)
    assert frame is not None, "the connection has ended"
    assert frame.opcode == TEXT
