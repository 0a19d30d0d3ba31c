"""Make a load that does not wait for answers: so many requests a second come, whatever becomes of those before them.

A load of a fixed number of connections, as wrk makes it, slows down with the server and shows no overload. Real clients
don't know of each other.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

_READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent.

    `rate` are requests a second. A client gives up after `patience_seconds`, and closes its connection. There are never
    more than `most_open` connections; a request that would be one more is not sent, and counts as one that failed.
    """

    port: int
    host: str
    rate: float
    seconds: float
    patience_seconds: float
    most_open: int = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    `sent_at` and `ended_at` are seconds since the load has begun. `status` is 0 where no answer came in time.
    `late_seconds` is how much later it was sent than it was due: where that is much, the machine was too busy for this load.
    """

    sent_at: float
    ended_at: float
    status: int
    late_seconds: float = 0.0


def drive(load: Load, begin: float) -> list[Outcome]:
    """Send all requests, and wait for the last answer.

    Args:
        load: what is sent.
        begin: the moment of the first request, of `time.monotonic()`.
    """
    return asyncio.run(_drive(load, begin))


def good_per_second(outcomes: list[Outcome], begin: int, end: int) -> list[int]:
    """Count the answers 200 that came in each second, from one to another."""
    counts = Counter(int(it.ended_at) for it in outcomes if it.status == 200)
    return [counts[second] for second in range(begin, end)]


def most_late(outcomes: list[Outcome]) -> float:
    """Tell by how many seconds a request was sent too late, at the most."""
    return max(it.late_seconds for it in outcomes)


async def _drive(load: Load, begin: float) -> list[Outcome]:
    outcomes: list[Outcome] = []
    asking: set[asyncio.Task[None]] = set()
    head = f"GET / HTTP/1.1\r\nHost: {load.host}\r\nConnection: close\r\n\r\n".encode()

    async def ask(due_at: float) -> None:
        sent_at = time.monotonic() - begin
        status = 0
        try:
            async with asyncio.timeout(load.patience_seconds):
                status = await _ask(load.port, head)
        except (OSError, TimeoutError):
            pass
        outcomes.append(Outcome(sent_at, time.monotonic() - begin, status, sent_at - due_at))

    for number in range(int(load.rate * load.seconds)):
        due_at = number / load.rate
        wait = begin + due_at - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        if len(asking) < load.most_open:
            task = asyncio.create_task(ask(due_at))
            asking.add(task)
            task.add_done_callback(asking.discard)
        else:
            now = time.monotonic() - begin
            outcomes.append(Outcome(now, now, 0, now - due_at))
    await asyncio.gather(*asking)
    return outcomes


async def _ask(port: int, head: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head)
        answer = await reader.read(_READ_BYTES)
        return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0
    finally:
        writer.close()
