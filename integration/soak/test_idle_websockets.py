"""Idle WebSockets stay open, and cost little: how much is printed (`pytest -s` shows it)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from integration.asgi.frames import offer
from integration.soak.idle_websockets import hold_open, serving

MOST_BYTES_EACH = 32 * 1024

# A minute is enough for a look; what is promised is five.
SOAK_SECONDS = float(os.environ.get("UWSGIBRIDGE_SOAK_SECONDS", "300"))

PLAIN: dict[str, str | None] = {}
COMPRESSED = offer("permessage-deflate")


@pytest.mark.parametrize(
    ("loop", "headers"),
    [("asyncio", COMPRESSED), ("uvloop", PLAIN), ("trio", PLAIN)],
    ids=["asyncio-compressed", "uvloop-plain", "trio-plain"],
)
def test_two_hundred_idle_websockets_take_little_memory(
    loop: str, headers: dict[str, str | None]
) -> None:
    with serving(loop, ping_seconds=1.5, read_timeout_seconds=3) as server:
        memory = hold_open(server, count=200, seconds=3.5, headers=headers)
    assert memory.used - memory.before < 200 * MOST_BYTES_EACH, memory.per_websocket(200)


@pytest.mark.soak
@pytest.mark.parametrize("loop", ["uvloop", "trio"])
@pytest.mark.parametrize("headers", [PLAIN, COMPRESSED], ids=["plain", "compressed"])
def test_two_thousand_idle_websockets_take_little_memory_for_minutes(
    loop: str, headers: dict[str, str | None], record_property: Callable[[str, object], None]
) -> None:
    with serving(loop, ping_seconds=20, read_timeout_seconds=60) as server:
        memory = hold_open(server, count=2000, seconds=SOAK_SECONDS, headers=headers)
    shares = memory.per_websocket(2000)
    record_property("memory of each WebSocket", shares)
    sys.stdout.write(f"\n{loop}: memory of each WebSocket: {shares}\n")
    assert memory.used - memory.before < 2000 * MOST_BYTES_EACH, shares
