"""WebSockets through each frontend: Nginx carries them, and the others are refused by name.

Apache's mod_proxy_uwsgi and lighttpd's mod_scgi hand a 101 on as an ordinary answer. The client's
handshake fails, and frames would be waited for that never come.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from integration.asgi.frames import TEXT, encode_frame
from integration.frontends import configurations
from integration.frontends.conftest import NGINXES
from integration.frontends.running import FRONTENDS, Frontend, Site, run_frontend
from uwsgibridge.testing import BridgeProcess, event_with

REPOSITORY = Path(__file__).parents[2]
APP = "integration.asgi.apps.behaviours:application"

HANDSHAKE = (
    "GET {target} HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

OTHERS = [one for one in FRONTENDS if one.family != "nginx"]

Start: TypeAlias = Callable[..., tuple[Site, BridgeProcess]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Run a bridge with WebSockets, and a frontend before it."""
    with contextlib.ExitStack() as running:
        top = Path(tempfile.mkdtemp(prefix="uwsgibridge-frontends-"))
        running.callback(shutil.rmtree, top, ignore_errors=True)
        top.chmod(0o755)

        def start(frontend: Frontend, *options: str) -> tuple[Site, BridgeProcess]:
            if frontend.missing:
                pytest.skip(frontend.missing)
            where = ("--bind", f"unix:{top}/bridge.sock", "--socket-mode", "666", "--workers", "0")
            bridge = running.enter_context(
                BridgeProcess(APP, "--app-dir", str(REPOSITORY), *where, *options)
            )
            directory = top / "frontend"
            directory.mkdir()
            site = run_frontend(frontend, directory, f"{top}/bridge.sock")
            return running.enter_context(site), bridge

        yield start


@pytest.mark.parametrize("frontend", NGINXES, ids=str)
def test_nginx_carries_them(start: Start, frontend: Frontend) -> None:
    site, _ = start(frontend)
    with site.connect() as connection:
        connection.sendall(HANDSHAKE.format(target="/echo/1").encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(1000)
        assert received.startswith(b"HTTP/1.1 101 ")
        connection.sendall(encode_frame(TEXT, b"there and back"))
        while b"there and back" not in received:
            received += connection.recv(1000)


@pytest.mark.parametrize("frontend", OTHERS, ids=str)
def test_the_others_are_refused_by_name(start: Start, frontend: Frontend) -> None:
    site, bridge = start(frontend)
    answer = site.send(HANDSHAKE.format(target="/echo/1").encode())
    assert answer.status == 501
    assert b"Let Nginx pass them" in answer.body
    event = bridge.wait_for_event(event_with(event="refused", reason="websocket_frontend"))
    assert str(event["detail"]).lower().startswith(frontend.family)


@pytest.mark.parametrize("frontend", [it for it in OTHERS if it.family == "lighttpd"], ids=str)
def test_one_that_says_another_name_is_not_waited_for(
    start: Start, frontend: Frontend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SERVER_SOFTWARE is lighttpd's server.tag, which is often changed."""
    plain = configurations.lighttpd

    def renamed(directory: Path, address: str, upstream: str) -> str:
        text = plain(directory, address, upstream).replace(', "PATH_INFO" => "/overruled"', "")
        return f'{text}\nserver.tag = "ours"\n'

    monkeypatch.setattr(configurations, "lighttpd", renamed)
    site, bridge = start(
        frontend, "--websocket-first-sign-seconds", "0.5", "--websocket-ping-seconds", "0"
    )
    with site.connect() as connection:
        connection.sendall(HANDSHAKE.format(target="/echo/1").encode())
        event = bridge.wait_for_event(event_with(option="--websocket-first-sign-seconds"))
    assert event["frontend"] == "ours"
    assert event["path"] == "/echo/1"
