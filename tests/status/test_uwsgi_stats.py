"""Whoever connects gets the statistics, in uWSGI's two forms."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.log_events import LogEvents
from tests.status.conftest import Service, connected, received, serving, settings
from uwsgibridge.status.uwsgi_stats import UwsgiStatsServer
from uwsgibridge.telemetry.logs import Logger


def asked(
    counted: Service, logger: Logger, address: str, sent: bytes = b"", **values: Any
) -> bytes:
    async def main() -> bytes:
        server = UwsgiStatsServer(counted.sources, settings(**values), logger)
        async with (
            serving(server.serve, address) as listening,
            await connected(listening) as stream,
        ):
            if sent:
                await stream.send_all(sent)
            answer = await received(stream)
            if not listening.is_unix and sys.platform == "linux":
                # A connection that sends nothing is not held back by the kernel, as one at --bind is.
                option = (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)
                assert listening.socket.getsockopt(*option) == 0
            return answer

    return trio.run(main)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_who_connects_is_answered(counted: Service, logger: Logger, short: Path, kind: str) -> None:
    address = f"unix:{short}/stats" if kind == "unix" else "127.0.0.1:0"
    statistics = json.loads(asked(counted, logger, address))
    assert statistics["workers"][0]["requests"] == 7


def test_with_a_head_of_http(counted: Service, logger: Logger, short: Path) -> None:
    answer = asked(
        counted,
        logger,
        f"unix:{short}/stats",
        b"GET /whatever HTTP/1.1\r\nHost: x\r\n\r\n",
        uwsgi_stats_http=True,
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head == b"HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Type: application/json"
    assert json.loads(body)["pid"] == 99


def test_who_does_not_ask_by_http_is_not_waited_for(
    counted: Service, logger: Logger, short: Path
) -> None:
    address = f"unix:{short}/stats"
    assert (
        asked(counted, logger, address, uwsgi_stats_http=True, packet_timeout_seconds=0.05) == b""
    )


def test_a_fault_is_an_event(counted: Service, logger: Logger, short: Path, log: LogEvents) -> None:
    counted.fault = RuntimeError("no figures")
    assert asked(counted, logger, f"unix:{short}/stats") == b""
    log.wait(event="status page failed", path="--uwsgi-stats")
