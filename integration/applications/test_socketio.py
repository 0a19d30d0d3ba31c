"""Socket.IO by python-socketio, over polling and over WebSocket, with its Python and its JavaScript client."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from integration.applications.checks import Checks, new_browser, waiting
from integration.applications.conftest import REQUIRE_VARIABLE
from integration.applications.site import Site

CLIENT = Path(__file__).with_name("socketio_client.js")
PACKAGE = "socket.io-client@4.8"

# What a client may be told to use, and what it then ends up with.
TRANSPORTS = {"polling": "polling", "websocket": "websocket", "polling,websocket": "websocket"}


@pytest.fixture(scope="session")
def javascript(request: pytest.FixtureRequest) -> Path:
    """The JavaScript client, installed once into pytest's cache."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm on PATH")
    if os.environ.get(REQUIRE_VARIABLE) != "1":
        pytest.skip("`make test-applications` installs the client")
    directory = request.config.cache.mkdir("socket.io-client")
    package = directory / "node_modules" / "socket.io-client"
    if not (package / "package.json").exists():
        done = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(directory), PACKAGE],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    return package


class OfSocketIo(Checks):
    app: ClassVar[str] = "socketio_app:app"
    needs: ClassVar[tuple[str, ...]] = ("socketio", "websocket")

    def use(self, site: Site) -> None:
        import socketio

        for transports, last in TRANSPORTS.items():
            with socketio.SimpleClient() as client:
                client.connect(site.url, transports=transports.split(","), wait_timeout=20)
                for value in ("text \N{SNOWMAN}", {"deep": [1, None, True]}, b"\0\xff\n"):
                    assert client.call("echo", value, timeout=20) == value
                client.emit("enter", "the room")
                assert client.receive(timeout=20) == ["entered", {"room": "the room"}]
                assert client.transport == last
                if last == "polling":
                    # When the client ends the session, the server leaves its last poll unanswered for the
                    # interval and the timeout of pings together. The server's own end answers that poll.
                    client.emit("leave")
                    client.client.eio.wait()

    def ask(self, site: Site, browser: requests.Session) -> None:
        assert len(begin(site, browser)) > 10


def begin(site: Site, browser: requests.Session) -> str:
    """Begin a session by polling, as the protocol has it; its id."""
    answer = browser.get(f"{site.url}/socket.io/?EIO=4&transport=polling", timeout=20)
    # An `open` packet.
    assert answer.text.startswith("0{"), answer.text
    name: str = json.loads(answer.text[1:])["sid"]
    return name


class TestPolling(OfSocketIo):
    @pytest.mark.parametrize("transports", TRANSPORTS)
    def test_the_javascript_client_gets_its_answers(
        self, site: Site, javascript: Path, transports: str
    ) -> None:
        done = subprocess.run(
            ["node", str(CLIENT), site.url, transports],
            env={**os.environ, "SOCKET_IO_CLIENT": str(javascript)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == {
            "answers": ["text \N{SNOWMAN}", {"deep": [1, None, True]}, [0, 255, 10]],
            "entered": {"room": "the room"},
            "transport": TRANSPORTS[transports],
        }

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with new_browser() as browser:
            url = f"{site.url}/socket.io/?EIO=4&transport=polling&sid={begin(site, browser)}"
            assert browser.post(url, data="40", timeout=20).text == "OK"
            # The namespace is open. The next poll waits.
            assert browser.get(url, timeout=20).text.startswith("40{")
            with waiting(url) as wait:
                yield wait


class TestWebSocket(OfSocketIo):
    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        url = f"{site.websocket_url}/socket.io/?EIO=4&transport=websocket"
        with connect(url, proxy=None) as peer:
            assert str(peer.recv(timeout=20)).startswith("0{")
            peer.send("40")
            assert str(peer.recv(timeout=20)).startswith("40{")

            def read() -> None:
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        if peer.recv(timeout=20) == "2":
                            peer.send("3")
                assert peer.close_code in {1000, 1001, 1012}

            yield read
            # As a phone does that loses its network: no closing handshake.
            peer.socket.close()
