"""BlackSheep, and Falcon as an ASGI and as a WSGI application."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import requests
from websockets.sync.client import connect

from integration.applications.checks import (
    Checks,
    downloading,
    new_browser,
    read_until_it_is_closed,
    read_until_the_end,
    streaming,
)
from integration.applications.site import ON_THREADS, Kind, Site

MIB = 1024 * 1024


class OfSmallFrameworks(Checks):
    def use(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)
            files = {"one": ("one.bin", bytes(3 * MIB)), "two": ("two.bin", b"two")}
            answer = browser.post(f"{site.url}/upload", files=files, timeout=20)
            assert answer.json() == {"one.bin": 3 * MIB, "two.bin": 3}
            assert browser.get(f"{site.url}/nowhere", timeout=20).status_code == 404
            assert browser.post(f"{site.url}/add", data=b"{", timeout=20).status_code in {400, 415}

    def ask(self, site: Site, browser: requests.Session) -> None:
        answer = browser.post(f"{site.url}/add", json={"a": 1, "b": 2}, timeout=20)
        assert answer.json() == {"sum": 3}


class WithEventsAndWebSockets(OfSmallFrameworks):
    def use(self, site: Site) -> None:
        super().use(site)
        with streaming("GET", f"{site.url}/events") as lines:
            told = [line for line in (next(lines) for _ in range(6)) if line.startswith(b"data")]
        assert b'"number"' in told[0]
        with connect(f"{site.websocket_url}/echo", proxy=None) as peer:
            for text in ("", "\N{SNOWMAN}", "x" * 100_000):
                peer.send(text)
                assert peer.recv(timeout=20) == text


class WithAWebSocket(WithEventsAndWebSockets):
    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with connect(f"{site.websocket_url}/echo", proxy=None) as peer:
            yield read_until_it_is_closed(peer)
            # As a phone does that loses its network: no closing handshake.
            peer.socket.close()


class WithEvents(WithEventsAndWebSockets):
    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with streaming("GET", f"{site.url}/events") as lines:
            next(lines)
            yield read_until_the_end(lines)


class OfBlackSheep(Checks):
    app: ClassVar[str] = "blacksheep_app:app"
    needs: ClassVar[tuple[str, ...]] = ("blacksheep",)


class TestEventsOfBlackSheep(OfBlackSheep, WithEvents):
    def use(self, site: Site) -> None:
        super().use(site)
        with new_browser() as browser:
            assert browser.get(f"{site.url}/started", timeout=20).json() == {"started": 1}
            body = browser.post(f"{site.url}/body", data=bytes(3 * MIB), timeout=20)
            assert body.json() == {"bytes": 3 * MIB}


class TestWebSocketsOfBlackSheep(OfBlackSheep, WithAWebSocket):
    pass


class OfFalcon(Checks):
    app: ClassVar[str] = "falcon_app:asgi"
    needs: ClassVar[tuple[str, ...]] = ("falcon",)


class TestEventsOfFalcon(OfFalcon, WithEvents):
    pass


class TestWebSocketsOfFalcon(OfFalcon, WithAWebSocket):
    pass


class TestFalconOverWsgi(OfSmallFrameworks):
    app: ClassVar[str] = "falcon_app:wsgi"
    needs: ClassVar[tuple[str, ...]] = ("falcon",)
    kinds: ClassVar[tuple[Kind, ...]] = ON_THREADS

    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with downloading(f"{site.url}/download", 2500 * 16 * 1024) as read:
            yield read
