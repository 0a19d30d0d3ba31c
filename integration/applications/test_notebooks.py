"""Gradio, Streamlit and marimo: pages of Python scripts, with a stream or a WebSocket for each visitor."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import requests
from websockets import Subprotocol
from websockets.sync.client import ClientConnection, connect

from integration.applications.checks import (
    Checks,
    new_browser,
    read_until_it_is_closed,
    read_until_the_end,
    streaming,
)
from integration.applications.site import Site

# Longer than a test looks at it.
MANY_STEPS = 1_000_000


class TestGradio(Checks):
    app: ClassVar[str] = "gradio_app:app"
    needs: ClassVar[tuple[str, ...]] = ("gradio", "gradio_client")
    environment: ClassVar[Mapping[str, str]] = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
    }

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            page = browser.get(site.url, timeout=30)
            assert "gradio" in page.text
            self.ask(site, browser)
            assert list(self._events(site, browser, "greet", "ada")) == [["Hello ada!"]]
            assert ["step 3"] in list(self._events(site, browser, "count", 3))
        from gradio_client import Client

        client = Client(site.url, verbose=False, analytics_enabled=False)
        try:
            assert client.predict("ada", api_name="/greet") == "Hello ada!"
            job = client.submit(3, api_name="/count")
            assert job.result(timeout=30) == "step 3"
            assert job.outputs() == ["step 1", "step 2", "step 3"]
        finally:
            client.close()

    def ask(self, site: Site, browser: requests.Session) -> None:
        answer = browser.post(
            f"{site.url}/gradio_api/run/greet_at_once", json={"data": ["ada"]}, timeout=30
        )
        assert answer.json()["data"] == ["Hello ada!"]

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with new_browser() as browser:
            url = self._call(site, browser, "count", MANY_STEPS)
        with streaming("GET", url) as lines:
            assert next(lines) == b"event: generating"
            yield read_until_the_end(lines)

    def _events(
        self, site: Site, browser: requests.Session, name: str, value: Any
    ) -> Iterator[list[Any]]:
        """Call a function, and give what it has answered by and by."""
        answer = browser.get(self._call(site, browser, name, value), timeout=30)
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.text.splitlines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))

    def _call(self, site: Site, browser: requests.Session, name: str, value: Any) -> str:
        url = f"{site.url}/gradio_api/call/{name}"
        answer = browser.post(url, json={"data": [value]}, timeout=30)
        event: str = answer.json()["event_id"]
        return f"{url}/{event}"


class TestStreamlit(Checks):
    app: ClassVar[str] = "streamlit_app:app"
    needs: ClassVar[tuple[str, ...]] = ("streamlit",)
    environment: ClassVar[Mapping[str, str]] = {"STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)
            assert "<title>Streamlit</title>" in browser.get(site.url, timeout=30).text
        with self._visit(site) as peer:
            text, widget = self._run(peer, {})
            assert text == "Hello world!"
            assert self._run(peer, {widget: "ada"}) == ("Hello ada!", widget)

    def ask(self, site: Site, browser: requests.Session) -> None:
        assert browser.get(f"{site.url}/_stcore/health", timeout=30).text == "ok"

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with self._visit(site) as peer:
            self._run(peer, {})
            yield read_until_it_is_closed(peer)
            # As a phone does that loses its network: no closing handshake.
            peer.socket.close()

    @contextlib.contextmanager
    def _visit(self, site: Site) -> Iterator[ClientConnection]:
        with connect(
            f"{site.websocket_url}/_stcore/stream",
            proxy=None,
            subprotocols=[Subprotocol("streamlit")],
        ) as peer:
            yield peer

    def _run(self, peer: ClientConnection, texts: dict[str, str]) -> tuple[str, str]:
        """Let the script run; what it has written, and the id of its text field."""
        from streamlit.proto.BackMsg_pb2 import BackMsg
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        message = BackMsg()
        message.rerun_script.query_string = ""
        for widget, text in texts.items():
            state = message.rerun_script.widget_states.widgets.add()
            state.id, state.string_value = widget, text
        peer.send(message.SerializeToString())
        written = widget = ""
        while True:
            told = ForwardMsg.FromString(peer.recv(timeout=30))
            if told.WhichOneof("type") == "script_finished":
                return written, widget
            element = told.delta.new_element
            written = element.markdown.body or written
            widget = element.text_input.id or widget


class TestMarimo(Checks):
    app: ClassVar[str] = "marimo_app:app"
    needs: ClassVar[tuple[str, ...]] = ("marimo",)

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)
        with self._visit(site) as peer:
            assert "The answer is 42." in self._output(peer)

    def ask(self, site: Site, browser: requests.Session) -> None:
        page = browser.get(site.url, timeout=30)
        assert (page.status_code, "marimo" in page.text) == (200, True)

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with self._visit(site) as peer:
            self._output(peer)
            yield read_until_it_is_closed(peer)
            peer.socket.close()

    @contextlib.contextmanager
    def _visit(self, site: Site) -> Iterator[ClientConnection]:
        session = f"s_{secrets.token_hex(3)}"
        with connect(f"{site.websocket_url}/ws?session_id={session}", proxy=None) as peer:
            yield peer

    def _output(self, peer: ClientConnection) -> str:
        """Read until the notebook has run."""
        output = ""
        while True:
            message = peer.recv(timeout=30)
            output += message if isinstance(message, str) else message.decode()
            if "completed-run" in output:
                return output
