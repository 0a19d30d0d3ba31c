"""The workload of WebSockets: each sends a message when it has got the last one back."""

from __future__ import annotations

import asyncio
import statistics
import time

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks.metrics import CPU_OF_MESSAGE, MESSAGE_RATE, P50, P99, Metric
from benchmarks.turn import Turn, WorkloadFailed

METRICS = (CPU_OF_MESSAGE, MESSAGE_RATE, P50, P99)

_MESSAGE = "x" * 100
_AT_A_TIME = 32
"""Handshakes under way: more would overflow the listen queue of a server that is slow with them."""


_HANDSHAKE_SECONDS = 20.0
_ANSWER_SECONDS = 20.0


def under_echoes(turn: Turn) -> dict[Metric, float]:
    """Measure a server whose application sends each message back.

    Raises:
        WorkloadFailed: a WebSocket could not be opened, or did not last.
    """
    try:
        return asyncio.run(_under_echoes(turn))
    except (OSError, WebSocketException, TimeoutError) as error:
        raise WorkloadFailed(f"WebSockets: {error!r}") from error


async def _under_echoes(turn: Turn) -> dict[Metric, float]:
    free = asyncio.Semaphore(_AT_A_TIME)
    sockets: list[ClientConnection] = []

    async def open_one() -> None:
        async with free:
            sockets.append(
                await connect(
                    f"ws://{turn.server.name}/ws",
                    host="127.0.0.1",
                    port=turn.port,
                    proxy=None,
                    compression=None,
                    ping_interval=None,
                    open_timeout=_HANDSHAKE_SECONDS,
                )
            )

    try:
        async with asyncio.timeout(_HANDSHAKE_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(turn.connections):
                group.create_task(open_one())
        seconds: list[float] = []
        before, began = turn.cpu_nanoseconds(), time.monotonic()
        async with asyncio.timeout(turn.seconds + _ANSWER_SECONDS), asyncio.TaskGroup() as group:
            for socket in sockets:
                group.create_task(_echo(socket, began + turn.seconds, seconds))
        used, took = turn.cpu_nanoseconds() - before, time.monotonic() - began
    except ExceptionGroup as group_error:
        raise group_error.exceptions[0] from None
    finally:
        for socket in sockets:
            socket.transport.abort()
    return {
        CPU_OF_MESSAGE: used / 1000 / len(seconds),
        MESSAGE_RATE: len(seconds) / took,
        P50: statistics.median(seconds) * 1000,
        P99: statistics.quantiles(seconds, n=100)[98] * 1000,
    }


async def _echo(socket: ClientConnection, end: float, seconds: list[float]) -> None:
    while (began := time.monotonic()) < end:
        await socket.send(_MESSAGE)
        if await socket.recv() != _MESSAGE:
            raise WorkloadFailed("a message came back changed")
        seconds.append(time.monotonic() - began)
