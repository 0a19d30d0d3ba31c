"""What applications do, right and wrong, behind a real Nginx: what the client gets, and what the log says."""

from __future__ import annotations

import http.client
import itertools
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from integration.asgi.apps import http_rows, websocket_rows  # noqa: F401 - they fill the tables
from integration.asgi.apps.table import (
    BROKE_A_RULE,
    DROP,
    GONE,
    HTTP_ROWS,
    WEBSOCKET_ROWS,
    HttpRow,
    Row,
    WebSocketRow,
)
from integration.asgi.frames import BINARY, CLOSE, TEXT, Close, FrameClient
from integration.wsgi.fetching import BROKEN, fetch
from uwsgibridge.testing import event_with

if TYPE_CHECKING:
    from uwsgibridge.testing import LocalStack

APP_NAME = "integration.asgi.apps.behaviours:application"

numbers = itertools.count()


@pytest.mark.parametrize(("name", "row"), HTTP_ROWS.items(), ids=HTTP_ROWS)
def test_each_http_behaviour_is_answered_as_the_table_says(
    behaviours: LocalStack, name: str, row: HttpRow
) -> None:
    path = f"/{name}/{next(numbers)}"
    if row.leaves_at is not None:
        leave(behaviours, path, row)
        check_log(behaviours, path, row)
        return
    answer = fetch(
        behaviours.url + path + row.target, method=row.method, headers=row.headers, body=row.body
    )
    check_log(behaviours, path, row)

    assert answer.seen == row.seen
    for field in {field for field, _ in row.has}:
        found = answer.headers.get_all(field, [])
        assert found == [value for name_, value in row.has if name_ == field]
    for field in row.lacks:
        assert field not in answer.headers
    if row.text is not None:
        assert answer.body == row.text
    if row.seen == 500:
        assert answer.body == b"The application failed. The server's log says why.\n"


@pytest.mark.parametrize(("name", "row"), WEBSOCKET_ROWS.items(), ids=WEBSOCKET_ROWS)
def test_each_websocket_behaviour_is_answered_as_the_table_says(
    behaviours: LocalStack, name: str, row: WebSocketRow
) -> None:
    path = f"/{name}/{next(numbers)}"
    if row.leaves_at is not None:
        leave(behaviours, path, row)
        check_log(behaviours, path, row)
        return
    heard = talk(behaviours, path, row)
    check_log(behaviours, path, row)
    assert heard == [*row.hears]


def talk(stack: LocalStack, path: str, row: WebSocketRow) -> list[str | bytes | Close | int]:
    """Say what the client says, and give what it hears."""
    heard: list[str | bytes | Close | int] = []
    try:
        client = FrameClient(stack.url, path + row.target, headers=dict(row.headers))
    except (http.client.HTTPException, OSError):
        return [BROKEN]
    with client:
        for field in {field for field, _ in row.has}:
            found = client.headers.get_all(field, [])
            assert found == [value for name, value in row.has if name == field]
        if client.status != 101:
            assert "X-Injected" not in client.headers
            assert row.text is None or client.body == row.text
            return [client.status]
        has_closed = False
        for said in row.says_first:
            if said == DROP:
                return heard
            if isinstance(said, Close):
                client.send(CLOSE, said.payload)
                has_closed = True
            else:
                data = said.encode() if isinstance(said, str) else said
                client.send(TEXT if isinstance(said, str) else BINARY, data)
        if has_closed or any("went on" in told for told in row.told):
            fetch(f"{stack.url}/settled{path}")
        while not isinstance(message := client.receive_message(), Close):
            if message is None:
                return [*heard, GONE]
            heard.append(message)
        if not has_closed:
            client.send(CLOSE, message.payload)
        assert client.ends(), "the server closes the connection (RFC 6455, section 7.1.1)"
        return [*heard, message]


def leave(stack: LocalStack, path: str, row: Row) -> None:
    """Ask, and go away at the application's word."""
    where = urlsplit(stack.url)
    handshake = (
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
    )
    head = f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n"
    with socket.create_connection((where.hostname, where.port), 20) as client:
        client.sendall(
            (head + (handshake if isinstance(row, WebSocketRow) else "") + "\r\n").encode()
        )
        stack.wait_for_event(event_with(event="app", path=path, told=row.leaves_at))


def check_log(stack: LocalStack, path: str, row: Row) -> None:
    """Wait until the application is done; then the log has all of it."""
    settled = f"/settled{path}"
    assert fetch(stack.url + settled).seen == 200
    stack.wait_for_event(event_with(event="app", path=path, told="over"))
    assert fetch(stack.url + settled + "/after").seen == 200
    stack.wait_for_event(event_with(event="app", path=settled + "/after"))
    events = [event for event in stack.log_events() if event.get("path") == path]
    told = [event["told"] for event in events if event["event"] == "app"]
    assert told == [*row.told, "over"]
    check_event(row, [event for event in events if event["event"] != "app"])


def check_event(row: Row, events: list[Mapping[str, object]]) -> None:
    """See that what went wrong is told once, and in words that help."""
    if row.event is None:
        assert events == []
        return
    (event,) = events
    assert event["event"] == row.event
    exception = str(event.get("exception", ""))
    assert row.says in (exception or str(event.get("detail", "")))
    assert row.fields.items() <= event.items()
    assert event["app"] == APP_NAME
    # A traceback begins in the application, whatever led there, and ends there if a rule was broken.
    files = [line for line in exception.splitlines() if "  File " in line]
    shown = files if row.event == BROKE_A_RULE else files[:1]
    assert not any("/uwsgibridge/hosts/" in line for line in shown)
    assert not any("/uwsgibridge/protocol/" in line for line in shown)


def test_the_tables_are_large_enough() -> None:
    assert len(HTTP_ROWS) >= 60
    assert len(WEBSOCKET_ROWS) >= 40
