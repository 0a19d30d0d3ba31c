"""What an application may send to its WebSocket in which state: the table, and a WebSocket that obeys it."""

from __future__ import annotations

import queue
from contextlib import suppress
from itertools import product
from typing import Any, Final

import pytest

from tests.asgi_messages import Send
from tests.bridge import on_each_loop, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet
from tests.websocket_client import HANDSHAKE
from uwsgibridge.connection.sending import PeerGone
from uwsgibridge.hosts.asgi.websocket_states import AFTER_END, FOLLOWING, State, refusal
from uwsgibridge.protocol.errors import InvalidResponse

ACCEPT: Final = "websocket.accept"
SEND: Final = "websocket.send"
CLOSE: Final = "websocket.close"
START: Final = "websocket.http.response.start"
BODY: Final = "websocket.http.response.body"
UNKNOWN: Final = "websocket.oops"

MESSAGES: Final[dict[str, dict[str, Any]]] = {
    ACCEPT: {"type": ACCEPT},
    SEND: {"type": SEND, "text": "said"},
    CLOSE: {"type": CLOSE},
    START: {"type": START, "status": 403},
    BODY: {"type": BODY, "body": b"no", "more_body": True},
    UNKNOWN: {"type": UNKNOWN},
}

# What an application sends to come into each state.
WAYS: Final[dict[State, list[dict[str, Any]]]] = {
    State.CONNECTING: [],
    State.OPEN: [MESSAGES[ACCEPT]],
    State.DENYING: [MESSAGES[START]],
    State.CLOSED: [MESSAGES[START], {"type": BODY}],
    State.CLOSED_BY_APPLICATION: [MESSAGES[ACCEPT], MESSAGES[CLOSE]],
}

ALLOWED: Final[dict[tuple[State, str], State]] = {
    (State.CONNECTING, ACCEPT): State.OPEN,
    (State.CONNECTING, CLOSE): State.CLOSED,
    (State.CONNECTING, START): State.DENYING,
    (State.OPEN, SEND): State.OPEN,
    (State.OPEN, CLOSE): State.CLOSED_BY_APPLICATION,
    (State.DENYING, BODY): State.DENYING,
}

# The words of a refusal for each state; those that are closed share them.
NAMES: Final[dict[State, str]] = {
    State.CONNECTING: "connecting",
    State.OPEN: "open",
    State.DENYING: "denying",
    State.CLOSED: "closed",
    State.CLOSED_BY_APPLICATION: "closed",
}
CLOSED: Final = {State.CLOSED, State.CLOSED_BY_APPLICATION}

PAIRS: Final = [
    pytest.param(state, kind, id=f"{kind}-{state.name}".lower())
    for state, kind in product(State, MESSAGES)
]


def expected_refusal(state: State, kind: str) -> tuple[type[Exception], str]:
    if state in CLOSED and kind in {SEND, CLOSE}:
        return PeerGone, "the WebSocket is closed"
    return InvalidResponse, f"{kind!r} is not expected while {NAMES[state]}"


@pytest.mark.parametrize(("state", "kind"), PAIRS)
def test_a_message_leads_on_or_is_refused_in_words(state: State, kind: str) -> None:
    if (state, kind) in ALLOWED:
        assert FOLLOWING[state][kind] is ALLOWED[state, kind]
        return
    assert kind not in FOLLOWING[state]
    error = refusal(state, kind)
    assert (type(error), str(error)) == expected_refusal(state, kind)


def test_who_ended_it_first_has_ended_it() -> None:
    assert {state for state in State if state.is_closed} == CLOSED
    for state in State:
        assert AFTER_END[state] is (state if state in CLOSED else State.CLOSED)


@on_each_loop
@pytest.mark.parametrize(("state", "kind"), PAIRS)
def test_a_websocket_obeys_the_table(loop: str, state: State, kind: str) -> None:
    errors: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    async def app(scope: Any, receive: Any, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        for message in WAYS[state]:
            await send(message)
        try:
            await send(MESSAGES[kind])
        except Exception as error:
            errors.put(error)
        else:
            errors.put(None)

    with running(app, loop=loop, lifespan="off") as bridge, connect(bridge.address) as connection:
        connection.sendall(packet(**HANDSHAKE))
        error = errors.get(timeout=PATIENCE_SECONDS)
        with suppress(OSError):  # some of them are broken off before their head
            connection.recv(65_536)

    if (state, kind) in ALLOWED:
        assert error is None
    else:
        assert (type(error), str(error)) == expected_refusal(state, kind)
