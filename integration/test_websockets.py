"""A 101 makes Nginx a tunnel: WebSockets through a plain uwsgi_pass."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    RejectConnection,
    Request,
    TextMessage,
)

from uwsgibridge.testing import event_with

pytestmark = pytest.mark.every_loop

asgi_only = pytest.mark.only(interface="asgi")


class Talk:
    """A WebSocket client; closes its connection with the `with` block."""

    def __init__(self, url, target):
        where = urlsplit(url)
        self._socket = socket.create_connection((where.hostname, where.port), timeout=20)
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self.send(Request(host="localhost", target=target))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, event):
        self._socket.sendall(self._protocol.send(event))

    def receive(self):
        events = self._protocol.events()
        while True:
            for event in events:
                return event
            data = self._socket.recv(65_536)
            assert data, "the connection ended"
            self._protocol.receive_data(data)
            events = self._protocol.events()


@asgi_only
def test_messages_go_both_ways(stack, token):
    with Talk(stack.url, f"/talk/{token}") as talk:
        assert isinstance(talk.receive(), AcceptConnection)
        for number in range(3):
            talk.send(TextMessage(f"ü {number}"))
            assert talk.receive().data == f"ü {number}"
        talk.send(BytesMessage(bytes(100)))
        assert bytes(talk.receive().data) == bytes(100)
        talk.send(CloseConnection(code=4001))
        assert talk.receive().code == 4001
    event = stack.wait_for_event(event_with(event="app: websocket closed", path=f"/talk/{token}"))
    assert event["code"] == 4001


@asgi_only
def test_a_client_that_is_gone_closes_it(stack, token):
    with Talk(stack.url, f"/talk/{token}") as talk:
        assert isinstance(talk.receive(), AcceptConnection)
    event = stack.wait_for_event(event_with(event="app: websocket closed", path=f"/talk/{token}"))
    assert event["code"] == 1006


@asgi_only
def test_an_application_may_refuse(stack):
    with Talk(stack.url, "/talk/refused") as talk:
        answer = talk.receive()
        assert isinstance(answer, RejectConnection)
        assert answer.status_code == 403


@pytest.mark.only(interface="wsgi")
def test_wsgi_has_none_and_says_so(stack, token):
    with Talk(stack.url, f"/talk/{token}") as talk:
        answer = talk.receive()
        assert isinstance(answer, RejectConnection)
        assert answer.status_code == 400
    event = stack.wait_for_event(event_with(event="refused", path=f"/talk/{token}"))
    assert "WSGI" in str(event["detail"])
