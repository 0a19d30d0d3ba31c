"""Where a client's session is kept: in the worker that began it, so that another one, as after a reload, has none."""

from __future__ import annotations

import asyncio
import re
import secrets
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect

from integration.applications import (
    test_mcp as mcp,
)
from integration.applications import (
    test_notebooks as notebooks,
)
from integration.applications import (
    test_socketio as socketio,
)
from integration.applications.checks import Checks, new_browser, streaming
from integration.applications.conftest import serving
from integration.applications.sink import Sink
from integration.applications.site import ON_ASYNCIO, PATIENCE_SECONDS, Site
from tests.processes import wait_gone
from uwsgibridge.control.client import ask

ON_LOOP, _ = ON_ASYNCIO


def change_the_worker(site: Site) -> None:
    old = [it["pid"] for it in site.workers()]
    ask(site.control, "reload", timeout_seconds=PATIENCE_SECONDS)
    assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in old)


def test_mcp_over_streamable_http_forgets_a_session_with_its_worker(
    sink: Sink, tmp_path: Path
) -> None:
    with (
        serving(mcp.TestSdkOverStreamableHttp, ON_LOOP, tmp_path, sink) as site,
        mcp.session(site) as (browser, headers),
    ):

        def list_tools() -> int:
            return browser.post(
                f"{site.url}/mcp",
                headers={"Accept": mcp.BOTH, **headers},
                json=mcp.call("tools/list", {}),
                timeout=PATIENCE_SECONDS,
            ).status_code

        assert list_tools() == 200
        change_the_worker(site)
        assert list_tools() == 404


def test_mcp_over_sse_forgets_a_session_with_its_worker(sink: Sink, tmp_path: Path) -> None:
    with (
        serving(mcp.TestSdkOverSse, ON_LOOP, tmp_path, sink) as site,
        new_browser() as browser,
        streaming("GET", f"{site.url}/sse", headers={"Accept": "text/event-stream"}) as lines,
    ):
        assert next(lines) == b"event: endpoint"
        url = f"{site.url}{next(lines).decode().removeprefix('data: ')}"
        ping = mcp.call("ping", {})
        assert browser.post(url, json=ping, timeout=PATIENCE_SECONDS).status_code == 202
        change_the_worker(site)
        assert browser.post(url, json=ping, timeout=PATIENCE_SECONDS).status_code == 404


@pytest.mark.parametrize(
    "checks", [mcp.TestSdkOverStreamableHttp, mcp.TestFastMcpOverStreamableHttp]
)
def test_clients_of_mcp_as_they_are_since_2026_need_none(
    checks: type[Checks], sink: Sink, tmp_path: Path
) -> None:
    with serving(checks, ON_LOOP, tmp_path, sink, "--workers", "2") as site:
        rounds = 0
        while rounds < 3 or not all(it["requests"] > 0 for it in site.workers()):
            rounds += 1
            assert rounds < 1000, "only one of the workers is asked"
            if checks is mcp.TestSdkOverStreamableHttp:
                from mcp.client.client import Client

                use = mcp.use_by_the_sdk(Client(f"{site.url}/mcp", mode="auto"))
            else:
                import fastmcp

                use = mcp.use_by_fastmcp(fastmcp.Client(f"{site.url}/mcp"))
            asyncio.run(asyncio.wait_for(use, PATIENCE_SECONDS))


def test_socket_io_over_polling_forgets_a_session_with_its_worker(
    sink: Sink, tmp_path: Path
) -> None:
    with serving(socketio.TestPolling, ON_LOOP, tmp_path, sink) as site, new_browser() as browser:
        name = socketio.begin(site, browser)
        url = f"{site.url}/socket.io/?EIO=4&transport=polling&sid={name}"
        assert browser.post(url, data="40", timeout=PATIENCE_SECONDS).status_code == 200
        change_the_worker(site)
        assert browser.post(url, data="40", timeout=PATIENCE_SECONDS).status_code == 400


def test_gradio_breaks_a_call_off_with_its_worker(sink: Sink, tmp_path: Path) -> None:
    checks = notebooks.TestGradio
    with serving(checks, ON_LOOP, tmp_path, sink) as site, new_browser() as browser:
        url = checks()._call(site, browser, "count", 3)
        change_the_worker(site)
        # It begins to answer before it looks for the call.
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            browser.get(url, timeout=PATIENCE_SECONDS)


def test_marimo_forgets_a_session_with_its_worker(sink: Sink, tmp_path: Path) -> None:
    checks = notebooks.TestMarimo
    with serving(checks, ON_LOOP, tmp_path, sink) as site, new_browser() as browser:
        session = f"s_{secrets.token_hex(3)}"

        def move_a_slider() -> int:
            # The token is the process's own.
            page = browser.get(site.url, timeout=PATIENCE_SECONDS).text
            token = re.search(r'"serverToken": ?"([^"]+)"', page)
            assert token is not None
            return browser.post(
                f"{site.url}/api/kernel/set_ui_element_value",
                json={"objectIds": [], "values": []},
                headers={"Marimo-Session-Id": session, "Marimo-Server-Token": token[1]},
                timeout=PATIENCE_SECONDS,
            ).status_code

        with connect(f"{site.websocket_url}/ws?session_id={session}", proxy=None) as peer:
            checks()._output(peer)
            assert move_a_slider() == 200
        change_the_worker(site)
        assert move_a_slider() == 500
