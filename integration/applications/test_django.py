"""Django with Channels (a WebSocket, a long poll, a group) and Django Ninja."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import ClassVar

import requests
from websockets.sync.client import connect

from integration.applications.checks import (
    Checks,
    in_background,
    new_browser,
    read_until_it_is_closed,
    read_until_the_end,
    streaming,
    waiting,
)
from integration.applications.site import Site


class OfDjango(Checks):
    # Django warns of what it refuses, which is asked for here.
    excused: ClassVar[tuple[str, ...]] = (r'^.*"logger": "django\.request".*$',)
    app: ClassVar[str] = "channels_app:app"
    needs: ClassVar[tuple[str, ...]] = ("django", "channels", "ninja")

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)
            found = browser.get(f"{site.url}/api/async-add?a=1&b=2", timeout=20)
            assert found.json() == {"sum": 3}
            assert browser.post(f"{site.url}/api/add", json={"a": "x"}).status_code == 422
            assert browser.get(f"{site.url}/nowhere", timeout=20).status_code == 404
            with connect(f"{site.websocket_url}/room", proxy=None) as peer:
                peer.send(json.dumps({"text": "\N{SNOWMAN}"}))
                assert json.loads(peer.recv(timeout=20)) == {"you said": {"text": "\N{SNOWMAN}"}}
                with waiting(f"{site.url}/poll") as wait:
                    site.wait(lambda: site.in_flight() >= 2, seconds=8, why="the poll is not there")
                    with in_background(wait):
                        assert browser.get(f"{site.url}/tell/hello", timeout=20).text == "told"
                assert json.loads(peer.recv(timeout=20)) == {"told": "hello"}
            with connect(f"{site.websocket_url}/room", proxy=None) as peer:
                peer.send(json.dumps("wait"))
            # The consumer answers one who has left. Its `disconnect` is called all the same.
            assert browser.get(f"{site.url}/go-on", timeout=20).text == "ended"

    def ask(self, site: Site, browser: requests.Session) -> None:
        answer = browser.post(f"{site.url}/api/add", json={"a": 1, "b": 2}, timeout=20)
        assert answer.json() == {"sum": 3}


class TestWebSocketOfChannels(OfDjango):
    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with connect(f"{site.websocket_url}/room", proxy=None) as peer:
            yield read_until_it_is_closed(peer)
            # As a phone does that loses its network: no closing handshake.
            peer.socket.close()


class TestLongPollOfChannels(OfDjango):
    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return waiting(f"{site.url}/poll")


class TestEventsOfDjango(OfDjango):
    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with streaming("GET", f"{site.url}/events") as lines:
            assert next(lines) == b"data: event"
            yield read_until_the_end(lines)
