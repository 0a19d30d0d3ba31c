"""GraphQL by Strawberry: queries, and subscriptions over WebSocket, multipart and server-sent events."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
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
MANY = 1_000_000

MULTIPART = "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json"
EVENTS = "text/event-stream"


def counting(to: int) -> dict[str, Any]:
    return {
        "query": "subscription Count($to: Int!) { count(to: $to) }",
        "variables": {"to": to},
    }


class OfStrawberry(Checks):
    app: ClassVar[str] = "strawberry_app:app"
    needs: ClassVar[tuple[str, ...]] = ("strawberry",)

    def use(self, site: Site) -> None:
        with new_browser() as browser:
            self.ask(site, browser)
            wrong = browser.post(f"{site.url}/", json={"query": "{ goodbye }"}, timeout=20)
            assert "Cannot query field" in wrong.json()["errors"][0]["message"]
        with self._subscribed(site, 3) as peer:
            messages = [json.loads(peer.recv(timeout=20)) for _ in range(4)]
            assert [it["type"] for it in messages] == [*["next"] * 3, "complete"]
            assert [it["payload"]["data"]["count"] for it in messages[:3]] == [0, 1, 2]
        # A part or an event arrives when it is sent, whatever Nginx would like to collect.
        one = {"query": "subscription { one }"}
        for accept in (MULTIPART, EVENTS):
            with streaming(
                "POST", f"{site.url}/", headers={"Accept": accept}, json=one, timeout=20
            ) as lines:
                assert any(b'"one"' in line for line in lines)
            with streaming(
                "POST", f"{site.url}/", headers={"Accept": accept}, json=counting(3)
            ) as lines:
                text = b"\n".join(lines).decode()
            assert re.findall(r'"count": ?(\d+)', text) == ["0", "1", "2"]

    def ask(self, site: Site, browser: requests.Session) -> None:
        query = {"query": "query Hello($name: String!) { hello(name: $name) }"}
        answer = browser.post(
            f"{site.url}/", json={**query, "variables": {"name": "ada"}}, timeout=20
        )
        assert answer.json() == {"data": {"hello": "Hello ada!"}}

    @contextlib.contextmanager
    def _subscribed(self, site: Site, to: int) -> Iterator[ClientConnection]:
        with connect(
            f"{site.websocket_url}/", proxy=None, subprotocols=[Subprotocol("graphql-transport-ws")]
        ) as peer:
            peer.send('{"type": "connection_init"}')
            assert json.loads(peer.recv(timeout=20))["type"] == "connection_ack"
            peer.send(json.dumps({"id": "1", "type": "subscribe", "payload": counting(to)}))
            yield peer

    @contextlib.contextmanager
    def _streaming(self, site: Site, accept: str) -> Iterator[Callable[[], None]]:
        with streaming(
            "POST", f"{site.url}/", headers={"Accept": accept}, json=counting(MANY)
        ) as lines:
            for line in lines:
                if b'"count"' in line:
                    break
            yield read_until_the_end(lines)


class TestSubscriptionsOverWebSocket(OfStrawberry):
    @contextlib.contextmanager
    def open(self, site: Site) -> Iterator[Callable[[], None]]:
        with self._subscribed(site, MANY) as peer:
            assert json.loads(peer.recv(timeout=20))["type"] == "next"
            yield read_until_it_is_closed(peer)
            # As a phone does that loses its network: no closing handshake.
            peer.socket.close()


class TestSubscriptionsOverMultipart(OfStrawberry):
    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return self._streaming(site, MULTIPART)


class TestSubscriptionsOverEvents(OfStrawberry):
    def open(self, site: Site) -> contextlib.AbstractContextManager[Callable[[], None]]:
        return self._streaming(site, EVENTS)
