"""The Model Context Protocol, by its SDK and by FastMCP, with the real clients of both."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

from integration.applications.checks import Checks, new_browser, read_until_the_end, streaming
from integration.applications.conftest import serving
from integration.applications.sink import Sink
from integration.applications.site import ON_EVERY_LOOP, PATIENCE_SECONDS, Kind, Site

STEPS = 5
# Longer than a test looks at it.
MANY_STEPS = 1_000_000

BOTH = "application/json, text/event-stream"


async def use_by_the_sdk(client: Any) -> None:
    """Do with `mcp`'s client what people do with it."""
    steps: list[float] = []

    async def progress(done: float, _total: float | None, _message: str | None) -> None:
        steps.append(done)

    async with client:
        tools = await client.list_tools()
        assert {tool.name for tool in tools.tools} == {"add", "count"}
        added = await client.call_tool("add", {"a": 1, "b": 2})
        assert added.content[0].text == "3"
        counted = await client.call_tool("count", {"to": STEPS}, progress_callback=progress)
        assert counted.content[0].text == f"counted to {STEPS}"
    assert steps == list(range(1, STEPS + 1))


async def use_by_fastmcp(client: Any) -> None:
    """Do with FastMCP's client what people do with it."""
    steps: list[float] = []

    async def progress(done: float, _total: float | None, _message: str | None) -> None:
        steps.append(done)

    async with client:
        tools = await client.list_tools()
        assert {tool.name for tool in tools} == {"add", "count"}
        added = await client.call_tool("add", {"a": 1, "b": 2})
        assert added.data == 3
        counted = await client.call_tool("count", {"to": STEPS}, progress_handler=progress)
        assert counted.data == f"counted to {STEPS}"
    assert steps == list(range(1, STEPS + 1))


@contextlib.contextmanager
def session(site: Site) -> Iterator[tuple[requests.Session, dict[str, str]]]:
    """Begin a session of streamable HTTP as clients did until 2025, byte by byte the protocol's."""
    with new_browser() as browser:
        answer = browser.post(
            f"{site.url}/mcp",
            headers={"Accept": BOTH},
            json=call("initialize", hello()),
            timeout=20,
        )
        assert answer.status_code == 200, answer.text
        headers = {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"]}
        told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        answer = browser.post(
            f"{site.url}/mcp", headers={"Accept": BOTH, **headers}, json=told, timeout=20
        )
        assert answer.status_code == 202
        yield browser, headers


def hello() -> dict[str, Any]:
    return {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "a test", "version": "1"},
    }


def call(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@contextlib.contextmanager
def quiet_stream(site: Site) -> Iterator[Callable[[], None]]:
    """Open the stream that a server may send its own messages on; it has none."""
    with (
        session(site) as (_, headers),
        streaming(
            "GET", f"{site.url}/mcp", headers={"Accept": "text/event-stream", **headers}
        ) as lines,
    ):
        yield read_until_the_end(lines)


@contextlib.contextmanager
def busy_call(site: Site) -> Iterator[Callable[[], None]]:
    """Call a tool that tells of each step, for ever."""
    request = call(
        "tools/call",
        {
            "name": "count",
            "arguments": {"to": MANY_STEPS},
            "_meta": {"progressToken": "of the test"},
        },
    )
    with (
        session(site) as (_, headers),
        streaming(
            "POST", f"{site.url}/mcp", headers={"Accept": BOTH, **headers}, json=request
        ) as lines,
    ):
        for line in lines:
            if line.startswith(b"data: {"):
                break
        assert json.loads(line.removeprefix(b"data: "))["method"] == "notifications/progress"
        yield read_until_the_end(lines)


@contextlib.contextmanager
def session_by_sse(site: Site) -> Iterator[Callable[[], None]]:
    """Open the stream of the older transport, and read where messages are to be sent."""
    with streaming("GET", f"{site.url}/sse", headers={"Accept": "text/event-stream"}) as lines:
        assert next(lines) == b"event: endpoint"
        assert b"/messages/?session_id=" in next(lines)
        yield read_until_the_end(lines)


# The SDK's endpoint for SSE begins a second answer when the stream is over.
SENT_TWICE = r'^\{.*"InvalidResponse: http.response.start was sent twice".*\n'


class OfMcp(Checks):
    """What all of them have in common."""

    kinds: ClassVar[tuple[Kind, ...]] = ON_EVERY_LOOP

    def ask(self, site: Site, browser: requests.Session) -> None:
        assert browser.get(f"{site.url}/up", timeout=20).text == "up"


class TestSdkOverStreamableHttp(OfMcp):
    app: ClassVar[str] = "mcp_app:streamable"
    needs: ClassVar[tuple[str, ...]] = ("mcp",)

    def use(self, site: Site) -> None:
        from mcp.client.client import Client

        for mode in ("auto", "legacy"):
            asyncio.run(use_by_the_sdk(Client(f"{site.url}/mcp", mode=mode)))

    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return quiet_stream(site)


class TestSdkOverSse(OfMcp):
    app: ClassVar[str] = "mcp_app:sse"
    needs: ClassVar[tuple[str, ...]] = ("mcp",)
    excused: ClassVar[tuple[str, ...]] = (SENT_TWICE,)

    def use(self, site: Site) -> None:
        from mcp.client.client import Client
        from mcp.client.sse import sse_client

        asyncio.run(use_by_the_sdk(Client(sse_client(f"{site.url}/sse"), mode="legacy")))

    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return session_by_sse(site)


class TestFastMcpOverStreamableHttp(OfMcp):
    app: ClassVar[str] = "fastmcp_app:streamable"
    needs: ClassVar[tuple[str, ...]] = ("fastmcp",)

    def use(self, site: Site) -> None:
        from fastmcp import Client

        asyncio.run(use_by_fastmcp(Client(f"{site.url}/mcp")))

    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return busy_call(site)


class TestFastMcpOverSse(OfMcp):
    app: ClassVar[str] = "fastmcp_app:sse"
    needs: ClassVar[tuple[str, ...]] = ("fastmcp",)
    excused: ClassVar[tuple[str, ...]] = (SENT_TWICE,)

    def use(self, site: Site) -> None:
        from fastmcp import Client
        from fastmcp.client.transports import SSETransport

        asyncio.run(use_by_fastmcp(Client(SSETransport(f"{site.url}/sse"))))

    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return session_by_sse(site)


class OnAName(OfMcp):
    app: ClassVar[str] = "mcp_app:named"
    needs: ClassVar[tuple[str, ...]] = ("mcp",)


@pytest.mark.parametrize(
    ("checks", "status"),
    [(TestSdkOverStreamableHttp, 421), (OnAName, 200), (TestFastMcpOverStreamableHttp, 200)],
)
def test_a_name_has_to_be_allowed(
    checks: type[Checks], status: int, sink: Sink, tmp_path: Path
) -> None:
    with (
        serving(checks, checks.kinds[0], tmp_path, sink) as site,
        new_browser() as browser,
    ):
        answer = browser.post(
            f"{site.url}/mcp",
            headers={"Accept": BOTH, "Host": "example.org"},
            json=call("initialize", hello()),
            timeout=PATIENCE_SECONDS,
        )
    assert answer.status_code == status
