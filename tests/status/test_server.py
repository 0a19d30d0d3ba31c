"""The status application: what it answers, and what it does not put up with."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.log_events import LogEvents
from tests.status.conftest import Service, connected, received, serving, settings
from uwsgibridge.protocol.packet import PING, PONG, encode_packet
from uwsgibridge.protocol.request import Request
from uwsgibridge.status import server
from uwsgibridge.status.pages import machine_pages
from uwsgibridge.status.routes import Answer, Routes
from uwsgibridge.status.server import StatusServer
from uwsgibridge.telemetry.logs import Logger

PLAIN = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}


class Status:
    """The application, with one page more."""

    def __init__(self, counted: Service, logger: Logger, place: Path) -> None:
        self.server = partial(self._make, counted, logger)
        self.address = f"unix:{place}/status"
        self.pages: dict[str, Any] = {}

    def _make(self, counted: Service, logger: Logger, **values: Any) -> StatusServer:
        pages = machine_pages(counted.sources, "uwsgibridge")
        return StatusServer(Routes({**pages, **self.pages}), settings(**values), logger)

    def ask(self, sent: bytes, *, ends: bool = False, **values: Any) -> bytes:
        """Send bytes, and give all that comes back."""

        async def main() -> bytes:
            async with (
                serving(self.server(**values).serve, self.address) as listening,
                await connected(listening) as stream,
            ):
                await stream.send_all(sent)
                if ends:
                    await stream.send_eof()
                return await received(stream)

        return trio.run(main)

    def get(self, **variables: str) -> tuple[str, dict[str, str], str]:
        """Make a request, and give status line, headers and body."""
        answer = self.ask(encode_packet({**PLAIN, **variables})).decode()
        head, _, body = answer.partition("\r\n\r\n")
        status, *lines = head.split("\r\n")
        return status, dict(line.split(": ", 1) for line in lines), body


@pytest.fixture
def status(counted: Service, logger: Logger, short: Path) -> Status:
    return Status(counted, logger, short)


def test_metrics(status: Status, counted: Service) -> None:
    counted.requests = 3
    line, headers, body = status.get()
    assert line == "HTTP/1.1 200 OK"
    assert headers == {
        "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
        "Cache-Control": "no-store",
        "Vary": "Accept",
        "Content-Length": str(len(body)),
    }
    assert body.splitlines()[-1] == "test_requests_total 3"


def test_metrics_in_openmetrics(status: Status) -> None:
    _, headers, body = status.get(HTTP_ACCEPT="application/openmetrics-text;version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith("# EOF\n")


def test_health(status: Status, counted: Service) -> None:
    line, _, body = status.get(PATH_INFO="/healthz")
    assert (line, body) == ("HTTP/1.1 200 OK", "running: 1 of 1 workers serve\n")
    counted.now = replace(counted.now, state="stopping")
    line, _, body = status.get(PATH_INFO="/healthz")
    assert line == "HTTP/1.1 503 Service Unavailable"
    assert body == "stopping: no new requests are accepted\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"PATH_INFO": "/-/status/metrics"},
        {"PATH_INFO": "/metrics", "SCRIPT_NAME": "/-/status"},
        {"PATH_INFO": "", "SCRIPT_NAME": "/-/status/metrics"},
    ],
)
def test_pages_are_below_any_prefix(status: Status, variables: dict[str, str]) -> None:
    assert status.get(**variables)[0] == "HTTP/1.1 200 OK"


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/metricsx", "/xmetrics", "/metrics/", "metrics"]
)
def test_other_paths_are_not_found(status: Status, path: str) -> None:
    line, _, body = status.get(PATH_INFO=path)
    assert line == "HTTP/1.1 404 Not Found"
    assert body == "There is no such page here; there are /healthz, /metrics.\n"


def test_head_has_the_length_alone(status: Status) -> None:
    _, of_get, body = status.get()
    _, of_head, nothing = status.get(REQUEST_METHOD="HEAD")
    assert of_head == of_get
    assert int(of_head["Content-Length"]) == len(body)
    assert nothing == ""


def test_other_methods_are_refused_after_their_body(status: Status) -> None:
    body = b"x" * 100_000
    variables = {**PLAIN, "REQUEST_METHOD": "POST", "CONTENT_LENGTH": str(len(body))}
    answer = status.ask(encode_packet(variables) + body)
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nAllow: GET, HEAD\r\n" in answer


def test_it_answers_pings(status: Status) -> None:
    assert status.ask(PING) == PONG


@pytest.mark.parametrize(
    ("sent", "begins"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"\0\x02\0\0\xff\xff", b"HTTP/1.1 400 Bad Request\r\n"),
        (b"\x11\0\0\0", b""),
    ],
)
def test_what_is_no_packet_is_refused(status: Status, sent: bytes, begins: bytes) -> None:
    answer = status.ask(sent, ends=True)
    assert answer.startswith(begins)
    assert bool(answer) == bool(begins)


def test_a_packet_may_come_in_pieces_and_has_a_limit_of_size(status: Status) -> None:
    answer = status.ask(encode_packet(PLAIN), max_vars_bytes=10)
    assert answer.startswith(b"HTTP/1.1 431 ")

    async def main() -> bytes:
        async with (
            serving(status.server().serve, status.address) as listening,
            await connected(listening) as stream,
        ):
            for byte in encode_packet(PLAIN):
                await stream.send_all(bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()
            return await received(stream)

    assert trio.run(main).startswith(b"HTTP/1.1 200 OK\r\n")


def test_who_sends_no_packet_is_not_waited_for(status: Status) -> None:
    assert status.ask(b"\0", packet_timeout_seconds=0.05) == b""


def test_a_page_that_fails_is_500_and_an_event(
    status: Status, counted: Service, log: LogEvents
) -> None:
    counted.fault = RuntimeError("no figures")
    line, _, body = status.get()
    assert line == "HTTP/1.1 500 Internal Server Error"
    assert "no figures" not in body
    event = log.wait(event="status page failed", path="/metrics")
    assert "no figures" in event["exception"]


def test_a_page_that_takes_too_long_is_503(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_request: Request) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(server, "_ANSWER_SECONDS", 0.05)
    status.pages["/never"] = never
    line, _, body = status.get(PATH_INFO="/never")
    assert (line, body) == (
        "HTTP/1.1 503 Service Unavailable",
        "The page took longer than 0.05 seconds.\n",
    )


def test_more_connections_than_there_may_be(status: Status) -> None:
    async def main() -> None:
        served = status.server(status_connections=1).serve
        async with serving(served, status.address) as listening:
            async with await connected(listening), await connected(listening) as second:
                await trio.testing.wait_all_tasks_blocked()
                async with await connected(listening) as third:
                    assert await received(third) == b""  # twice as many are not even told
                await second.send_all(encode_packet(PLAIN))
                answer = await received(second)
                assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\nContent-Type")
                assert (
                    b"1 connections are open, which is the most (--status-connections)." in answer
                )
            await trio.testing.wait_all_tasks_blocked()
            async with await connected(listening) as later:
                await later.send_all(encode_packet(PLAIN))
                assert (await received(later)).startswith(b"HTTP/1.1 200 OK\r\n")

    trio.run(main)


def test_who_does_not_read_the_answer_is_not_waited_for(status: Status) -> None:
    async def large(_request: Request) -> Answer:
        await trio.lowlevel.checkpoint()
        return Answer(200, b"x" * 50_000_000)

    status.pages["/large"] = large

    async def main() -> None:
        served = status.server(write_timeout_seconds=0.05).serve
        async with (
            serving(served, status.address) as listening,
            await connected(listening) as stream,
        ):
            await stream.send_all(encode_packet({**PLAIN, "PATH_INFO": "/large"}))
            await trio.sleep(0.1)  # while its reader stands still
            assert 0 < len(await received(stream)) < 50_000_000

    trio.run(main)
