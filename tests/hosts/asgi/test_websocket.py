"""WebSockets of ASGI applications at the uwsgi socket itself, where no Nginx stands between."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from time import monotonic
from typing import Any

import anyio
import pytest

from tests.asgi_messages import Receive, Send
from tests.bridge import Bridge, on_each_loop, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_answer, read_until, reset
from tests.websocket_client import HANDSHAKE, Client, accept, echo, opened, said
from tests.websocket_frames import BINARY, CLOSE, PING, PONG, TEXT, close_payload, frame
from uwsgibridge.hosts.asgi import websocket as asgi_websocket

# For a deadline that is meant to pass.
SHORT_SECONDS = 0.1

KIB = 1024
MIB = 1024 * KIB

# More than the kernel holds between two sockets of the same machine, were they of TCP.
ON_THE_WAY_BYTES = 16 * MIB

# The end of a WebSocket.


@on_each_loop
@on_each_socket
def test_a_whole_conversation_goes_both_ways(family: str, loop: str) -> None:
    with running(echo, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        client.send(TEXT, b"text")
        assert client.receive() == (TEXT, b"text")
        client.send(PING, b"ping")
        assert client.receive() == (PONG, b"ping")
        client.send(CLOSE, close_payload(1000, "done"))
        assert client.receive() == said(CLOSE, 1000, "done")
        assert client.ends()

    assert bridge.counters.app_errors == 0
    assert bridge.counters.client_gone == 0
    assert bridge.events.find(level="error") == bridge.events.find(level="warning") == []


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("leave", [reset, socket.socket.close], ids=["reset", "close"])
def test_a_client_that_goes_away_is_counted_and_no_news(
    family: str, loop: str, leave: Callable[[Any], None]
) -> None:
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        messages.put(await receive())
        for _ in range(2):
            with suppress(OSError):
                await send({"type": "websocket.send", "text": "to nobody"})
        raise ValueError("because of that")

    with running(app, family, loop=loop, lifespan="off") as bridge:
        with opened(bridge) as client:
            leave(client.connection)
        message = messages.get(timeout=PATIENCE_SECONDS)

    assert message == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0
    assert "Traceback" not in bridge.events.text()


class WebSocketDisconnect(Exception):
    """As frameworks have one."""


async def raises_it(receive: Receive, send: Send) -> None:
    raise WebSocketDisconnect


async def raises_what_send_raised(receive: Receive, send: Send) -> None:
    while True:
        await send({"type": "websocket.send", "text": "to nobody"})


async def wraps_it(receive: Receive, send: Send) -> None:
    try:
        await raises_what_send_raised(receive, send)
    except OSError as error:
        raise RuntimeError from error


async def raises_while_it_is_handled(receive: Receive, send: Send) -> None:
    try:
        raise WebSocketDisconnect
    finally:
        raise RuntimeError('Cannot call "send" once a close message has been sent.')


async def raises_a_group(receive: Receive, send: Send) -> None:
    try:
        await raises_what_send_raised(receive, send)
    except OSError as error:
        raise ExceptionGroup("of tasks", [WebSocketDisconnect(), error]) from None


def leaves_a_tab(client: Client) -> None:
    client.send(CLOSE, close_payload(1001))


def leaves_without_a_word(client: Client) -> None:
    reset(client.connection)


def breaks_a_rule(client: Client) -> None:
    client.send(3)


ENDS = [leaves_a_tab, leaves_without_a_word, breaks_a_rule, None]


@contextmanager
def ended(bridge: Bridge, end: Callable[[Client], None] | None) -> Iterator[None]:
    """Have a WebSocket, and end it: as a client does, or by a stop of the server."""
    with opened(bridge) as client:
        if end is not None:
            end(client)
        else:
            bridge.begin_stop()
        yield


@on_each_loop
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "then",
    [
        raises_it,
        raises_what_send_raised,
        wraps_it,
        raises_while_it_is_handled,
        raises_a_group,
    ],
)
def test_an_end_that_is_known_is_no_failure(
    loop: str, end: Callable[[Client], None] | None, then: Callable[..., Any]
) -> None:
    called = threading.Event()

    async def app(scope, receive, send):
        await accept(receive, send)
        assert (await receive())["type"] == "websocket.disconnect"
        called.set()
        await then(receive, send)

    with running(app, loop=loop, lifespan="off") as bridge, ended(bridge, end):
        assert called.wait(PATIENCE_SECONDS)

    assert bridge.counters.app_errors == 0
    assert bridge.events.find(level="error") == bridge.events.find(level="warning") == []


@on_each_loop
@pytest.mark.parametrize("end", ENDS)
def test_a_failure_after_a_known_end_is_told_in_one_line(
    loop: str, end: Callable[[Client], None] | None
) -> None:
    called = threading.Event()

    async def app(scope, receive, send):
        await accept(receive, send)
        assert (await receive())["type"] == "websocket.disconnect"
        called.set()
        raise ValueError("in its clean-up")

    with running(app, loop=loop, lifespan="off") as bridge, ended(bridge, end):
        assert called.wait(PATIENCE_SECONDS)

    (event,) = bridge.events.find(level="warning")
    assert event["event"] == "application failed after its client had gone"
    assert event["detail"] == "ValueError: in its clean-up"
    assert event["where"].startswith(__file__ + ":")
    assert event["where"].endswith(" in app")
    assert bridge.events.find(level="error") == []
    assert "Traceback" not in bridge.events.text()


@on_each_loop
def test_a_failure_after_a_close_of_its_own_is_a_failure(loop: str) -> None:
    async def app(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.close"})
        raise ValueError("in its clean-up")

    with running(app, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        assert client.receive() == said(CLOSE, 1000)
        client.send(CLOSE, close_payload(1000))
        assert client.ends()

    (event,) = bridge.events.find(level="error")
    assert event["event"] == "application failed"
    assert event["outcome"] == "the WebSocket was closed"


@on_each_loop
@on_each_socket
def test_a_client_that_goes_away_before_the_handshake_is_over(family: str, loop: str) -> None:
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        for _ in range(2):
            messages.put(await receive())

    with running(app, family, loop=loop, lifespan="off") as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(packet(**HANDSHAKE))
            assert messages.get(timeout=PATIENCE_SECONDS)["type"] == "websocket.connect"
        assert messages.get(timeout=PATIENCE_SECONDS)["code"] == 1006

    assert bridge.counters.client_gone == 1
    assert bridge.counters.app_errors == 0


@on_each_loop
@on_each_socket
def test_a_close_that_nobody_answers_is_given_up(
    family: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_websocket, "_CLOSE_SECONDS", SHORT_SECONDS)

    async def app(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 4000})

    with running(app, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        assert client.receive() == said(CLOSE, 4000)
        # No answer, but the connection ends.
        assert client.ends()


@on_each_loop
@on_each_socket
def test_a_connection_without_an_answered_close_is_not_held_by_frames(
    family: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi_websocket, "_CLOSE_SECONDS", SHORT_SECONDS)

    async def app(scope, receive, send):
        await accept(receive, send)

    with (
        running(app, family, loop=loop, lifespan="off", linger_seconds=SHORT_SECONDS) as bridge,
        opened(bridge) as client,
    ):
        assert client.receive() == said(CLOSE, 1000)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(client)


def send_for_ever(client: Client) -> None:
    while True:
        client.send(TEXT, b"and another thing")


@on_each_loop
@on_each_socket
def test_a_failure_is_counted_and_told_once(family: str, loop: str) -> None:
    async def app(scope, receive, send):
        await accept(receive, send)
        raise ValueError("of the application")

    with running(app, family, loop=loop, lifespan="off") as bridge, opened(bridge, "/x") as client:
        assert client.receive() == said(CLOSE, 1011, "the application failed")
        client.send(CLOSE, close_payload(1011))
        assert client.ends()

    assert bridge.counters.app_errors == 1
    (event,) = bridge.events.find(level="error")
    assert event["path"] == "/x"
    assert event["outcome"] == "closed with 1011"
    assert "ValueError: of the application" in event["exception"]


@on_each_loop
@on_each_socket
def test_what_is_refused_is_counted(family: str, loop: str) -> None:
    with running(echo, family, loop=loop, lifespan="off") as bridge:
        variables = {**HANDSHAKE, "HTTP_SEC_WEBSOCKET_KEY": "wrong"}
        for method, body in (("POST", bytes(300 * KIB)), ("POST", b""), ("GET", None)):
            length = None if body is None else len(body)
            with connect(bridge.address) as connection:
                connection.sendall(packet(method=method, content_length=length, **variables))
                if body:
                    connection.sendall(body)
                answer = read_answer(connection)
            assert answer.seen == 400
            assert b"WebSocket" in answer.body

    assert bridge.counters.refused == {"websocket_handshake": 3}
    assert bridge.counters.app_errors == 0


# More messages than the queue has room for.


@on_each_loop
@on_each_socket
def test_answers_to_pings_wait_for_the_message_before_them(family: str, loop: str) -> None:
    """A frame of one kind is never within one of another, however full the socket is."""
    message = bytes(range(256)) * 40_000

    async def app(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.send", "bytes": message})
        await receive()

    with running(app, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        bridge.settle()
        for number in range(20):
            client.send(PING, b"%d" % number)
        bridge.settle()
        assert client.receive() == (BINARY, message)
        for number in range(20):
            assert client.receive() == (PONG, b"%d" % number)


@on_each_loop
@on_each_socket
def test_messages_of_several_tasks_stay_whole(family: str, loop: str) -> None:
    async def app(scope, receive, send):
        await accept(receive, send)
        async with anyio.create_task_group() as group:
            for number in range(8):
                data = bytes([number]) * MIB
                group.start_soon(send, {"type": "websocket.send", "bytes": data})

    with running(app, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        bridge.settle()
        found = {client.receive() for _ in range(8)}
        assert found == {(BINARY, bytes([number]) * MIB) for number in range(8)}
        assert client.receive() == said(CLOSE, 1000)


@on_each_loop
@on_each_socket
def test_a_send_that_is_cancelled_leaves_a_whole_frame(family: str, loop: str) -> None:
    async def app(scope, receive, send):
        await accept(receive, send)
        for number in range(3):
            with anyio.move_on_after(0.01):
                data = bytes([number]) * 10 * MIB
                await send({"type": "websocket.send", "bytes": data})

    with running(app, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        bridge.settle()
        found = []
        while (received := client.receive()) != said(CLOSE, 1000):
            assert received is not None
            found.append(received)
        assert found
        for opcode, payload in found:
            assert opcode == BINARY
            assert payload == payload[:1] * 10 * MIB


@on_each_loop
@on_each_socket
def test_a_send_that_is_cancelled_waits_for_no_other(family: str, loop: str) -> None:
    gave_up = threading.Event()

    async def app(scope, receive, send):
        await accept(receive, send)
        with anyio.move_on_after(0.01) as cancelled:
            await send({"type": "websocket.send", "bytes": bytes(10 * MIB)})
        assert cancelled.cancelled_caught
        gave_up.set()
        while (await receive())["type"] == "websocket.receive":
            pass

    with (
        running(app, family, loop=loop, lifespan="off", websocket_ping_seconds=0) as bridge,
        opened(bridge) as client,
    ):
        assert gave_up.wait(PATIENCE_SECONDS)
        assert client.receive() == (BINARY, bytes(10 * MIB))


@on_each_loop
@on_each_socket
def test_sends_that_are_cancelled_are_not_kept(family: str, loop: str) -> None:
    """As a broadcast does that gives each client a second."""
    gave_up = threading.Event()

    async def app(scope, receive, send):
        await accept(receive, send)
        for number in range(20):
            with anyio.move_on_after(0.005):
                await send({"type": "websocket.send", "bytes": bytes([number]) * 10 * MIB})
        gave_up.set()
        await send({"type": "websocket.send", "text": "at last"})

    with running(app, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        assert gave_up.wait(PATIENCE_SECONDS)
        assert client.receive() == (BINARY, bytes(10 * MIB))
        assert client.receive() == (TEXT, b"at last")


@on_each_loop
@on_each_socket
def test_a_client_that_pings_and_does_not_read_is_stopped(family: str, loop: str) -> None:
    pings = frame(PING, bytes(125)) * 500
    with running(echo, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        assert sent_until_stopped(bridge, client, pings) < ON_THE_WAY_BYTES


@on_each_loop
@on_each_socket
def test_a_client_that_talks_and_is_not_heard_is_stopped(family: str, loop: str) -> None:
    release = threading.Event()

    async def app(scope, receive, send):
        await accept(receive, send)
        await anyio.to_thread.run_sync(release.wait, PATIENCE_SECONDS)
        total = 0
        while (message := await receive())["type"] == "websocket.receive" and message["bytes"]:
            total += len(message["bytes"])
        await send({"type": "websocket.send", "text": str(total)})

    messages = frame(BINARY, bytes(64 * KIB))
    with running(app, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        sent = sent_until_stopped(bridge, client, messages)
        assert sent < ON_THE_WAY_BYTES
        release.set()
        client.connection.sendall(messages[sent % len(messages) :] if sent % len(messages) else b"")
        client.send(BINARY)
        count = -(-sent // len(messages))
        assert client.receive() == (TEXT, b"%d" % (count * 64 * KIB))


def sent_until_stopped(bridge: Bridge, client: Client, data: bytes) -> int:
    """Send the same again and again, until nothing more is taken, or more than there is room for.

    Returns:
        The number of bytes taken.
    """
    sent, still = 0, 0
    client.connection.setblocking(False)
    while sent < ON_THE_WAY_BYTES and still < 3:
        try:
            sent += client.connection.send(data[sent % len(data) :])
        except BlockingIOError:
            bridge.settle()
            still += 1
        else:
            still = 0
    client.connection.settimeout(PATIENCE_SECONDS)
    return sent


@on_each_loop
@on_each_socket
def test_a_reader_that_does_not_read_is_given_up(family: str, loop: str) -> None:
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(MIB)})
        except OSError as error:
            errors.put(error)
            raise

    with (
        running(
            app, family, loop=loop, lifespan="off", write_timeout_seconds=SHORT_SECONDS
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet("/endless", **HANDSHAKE))
        event = bridge.events.wait(event="answer was not taken in time")
        errors.get(timeout=PATIENCE_SECONDS)

    assert event["path"] == "/endless"
    assert event["option"] == "--write-timeout-seconds"
    assert bridge.counters.app_errors == 0


@on_each_loop
@on_each_socket
def test_a_close_is_answered_behind_what_waits(family: str, loop: str) -> None:
    async def app(scope, receive, send):
        await accept(receive, send)
        await send({"type": "websocket.send", "bytes": bytes(10 * MIB)})
        await receive()

    with running(app, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        bridge.settle()
        client.send(CLOSE, close_payload(1001))
        bridge.settle()
        assert client.receive() == (BINARY, bytes(10 * MIB))
        assert client.receive() == said(CLOSE, 1001)
        assert client.ends()


@on_each_loop
def test_a_denial_that_ends_with_its_head_is_sent(loop: str) -> None:
    async def app(scope, receive, send):
        await receive()
        headers = [(b"content-length", b"0")]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})

    with running(app, loop=loop, lifespan="off") as bridge:
        assert bridge.ask(**HANDSHAKE).seen == 401

    assert bridge.events.find(level="error") == []
    (event,) = bridge.events.find(level="warning")
    assert event["event"].startswith("application returned without an http.response.body")


@on_each_loop
@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({}, "a message has a 'type'"),
        (None, "a message is a dict"),
        (
            {"type": "websocket.http.response.start"},
            "websocket.http.response.start has no 'status'",
        ),
    ],
)
def test_a_message_that_lacks_something_is_told_in_words(
    loop: str, message: Any, says: str
) -> None:
    async def app(scope, receive, send):
        await send(message)

    with running(app, loop=loop, lifespan="off") as bridge:
        assert bridge.ask(**HANDSHAKE).seen == 500

    (event,) = bridge.events.find(level="error")
    assert says in event["detail"]


# Pings.


@on_each_loop
@on_each_socket
def test_a_client_that_answers_no_ping_is_told_before_the_end(family: str, loop: str) -> None:
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        messages.put(await receive())

    with (
        running(
            app, family, loop=loop, lifespan="off", websocket_ping_seconds=SHORT_SECONDS
        ) as bridge,
        opened(bridge) as client,
    ):
        assert client.receive() == (PING, b"")
        assert client.receive() == said(CLOSE, 1011, "no pong")
        assert client.ends()

    message = messages.get(timeout=0)
    assert message == {"type": "websocket.disconnect", "code": 1006, "reason": "no pong"}
    assert bridge.counters.client_gone == 1
    assert bridge.events.find(level="error") == []


@on_each_loop
@pytest.mark.parametrize("options", [{"websocket_ping_seconds": 0}, {}], ids=["no-pings", "pings"])
def test_a_client_that_was_never_heard_of_is_not_waited_for(
    loop: str, options: dict[str, Any]
) -> None:
    """Through a frontend that can't carry WebSockets no frame ever comes."""
    with running(
        echo,
        loop=loop,
        lifespan="off",
        websocket_first_sign_seconds=2 * SHORT_SECONDS,
        **options,
    ) as bridge:
        for _ in range(2):
            with opened(bridge, "/silent") as client:
                assert client.receive() == (PING, b"")
                assert client.receive() == said(CLOSE, 1011, "no pong")
                assert client.ends()

    (event,) = bridge.events.find(level="warning")  # one for all
    assert "was never heard of" in event["event"]
    assert event["path"] == "/silent"
    assert event["option"] == "--websocket-first-sign-seconds"
    assert "Apache" in event["hint"]
    assert "Nginx" in event["hint"]
    assert bridge.counters.refused == {"websocket_unheard": 2}


SIGNS_OF_LIFE = {"message": (TEXT, b"x"), "pong": (PONG, b""), "unasked-pong": (PONG, b"x")}


@on_each_loop
@pytest.mark.parametrize(("opcode", "payload"), SIGNS_OF_LIFE.values(), ids=SIGNS_OF_LIFE)
def test_one_sign_of_life_is_enough(loop: str, opcode: int, payload: bytes) -> None:
    """From then on a client may be silent, and leave pings unanswered, where none are wanted."""
    with (
        running(
            echo,
            loop=loop,
            lifespan="off",
            websocket_ping_seconds=0,
            websocket_first_sign_seconds=2 * SHORT_SECONDS,
        ) as bridge,
        opened(bridge) as client,
    ):
        assert client.receive() == (PING, b"")
        client.send(opcode, payload)
        if opcode == TEXT:
            assert client.receive() == (TEXT, payload)
        client.connection.settimeout(6 * SHORT_SECONDS)
        with pytest.raises(TimeoutError):  # neither a ping nor an end
            client.receive()
        client.connection.settimeout(PATIENCE_SECONDS)
        client.send(TEXT, b"still there")
        assert client.receive() == (TEXT, b"still there")

    assert bridge.events.find(level="warning") == []


@on_each_loop
@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"SERVER_SOFTWARE": "nginx/1.26.3"}, {"websocket_first_sign_seconds": 2 * SHORT_SECONDS}),
        ({}, {"websocket_first_sign_seconds": 0}),
    ],
    ids=["nginx", "no-limit"],
)
def test_whose_frontend_is_known_may_be_silent_from_the_start(
    loop: str, variables: dict[str, str], options: dict[str, Any]
) -> None:
    with (
        running(echo, loop=loop, lifespan="off", websocket_ping_seconds=0, **options) as bridge,
        opened(bridge, **variables) as client,
    ):
        client.connection.settimeout(6 * SHORT_SECONDS)
        with pytest.raises(TimeoutError):
            client.receive()
        client.connection.settimeout(PATIENCE_SECONDS)
        client.send(TEXT, b"still there")
        assert client.receive() == (TEXT, b"still there")


@on_each_loop
@pytest.mark.parametrize(
    ("software", "name"), [("Apache/2.4.71 (Debian)", "Apache"), ("lighttpd/1.4.69", "lighttpd")]
)
def test_a_frontend_that_can_not_carry_websockets_is_told(
    loop: str, software: str, name: str
) -> None:
    with running(echo, loop=loop, lifespan="off") as bridge:
        answer = bridge.ask("/x", **HANDSHAKE, SERVER_SOFTWARE=software)
        assert answer.seen == 501
        assert b"Nginx" in answer.body

    (event,) = bridge.events.find(event="refused")
    assert event["reason"] == "websocket_frontend"
    assert event["status"] == 501
    assert f"{name}'s" in event["detail"]
    assert "Let Nginx pass them" in event["detail"]
    assert bridge.counters.refused == {"websocket_frontend": 1}


@on_each_loop
@on_each_socket
def test_a_client_that_takes_nothing_is_ended_without_a_word(family: str, loop: str) -> None:
    """A close frame has no room then, and is not waited for."""
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        with suppress(OSError):
            await send({"type": "websocket.send", "bytes": bytes(ON_THE_WAY_BYTES)})
        messages.put(await receive())

    with (
        running(
            app, family, loop=loop, lifespan="off", websocket_ping_seconds=SHORT_SECONDS
        ) as bridge,
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet(**HANDSHAKE))
        assert messages.get(timeout=PATIENCE_SECONDS)["code"] == 1006
        received = 0
        with suppress(ConnectionResetError):
            while piece := connection.recv(MIB):
                received += len(piece)

    assert received < ON_THE_WAY_BYTES
    assert bridge.counters.client_gone == 1


# What an application gets.


@on_each_loop
def test_a_message_has_one_of_the_two_keys_and_none_for_the_other(loop: str) -> None:
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def app(scope, receive, send):
        await accept(receive, send)
        for _ in range(2):
            messages.put(await receive())

    with running(app, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        client.send(TEXT, b"text")
        client.send(BINARY, b"bytes")
        text = messages.get(timeout=PATIENCE_SECONDS)
        binary = messages.get(timeout=PATIENCE_SECONDS)

    assert text == {"type": "websocket.receive", "text": "text"}
    assert binary == {"type": "websocket.receive", "bytes": b"bytes"}
    assert text["bytes"] is text.get("bytes") is binary["text"] is binary.get("text") is None
    with pytest.raises(KeyError, match="code"):
        text["code"]


@on_each_loop
def test_what_an_application_returns_is_warned_of_once(loop: str) -> None:
    async def app(scope, receive, send):
        await accept(receive, send)
        return "done"

    with running(app, loop=loop, lifespan="off") as bridge:
        for _ in range(2):
            with opened(bridge) as client:
                assert client.receive() == said(CLOSE, 1000)

    (event,) = bridge.events.find(level="warning")
    assert event["returned"] == "str"


# Several tasks, several WebSockets.


@on_each_loop
def test_two_tasks_may_receive(loop: str) -> None:
    texts: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def app(scope, receive, send):
        async def read() -> None:
            texts.put((await receive())["text"])

        await accept(receive, send)
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(read)

    with running(app, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        bridge.settle()
        client.send(TEXT, b"one")
        bridge.settle()
        client.send(TEXT, b"two")
        assert {texts.get(timeout=PATIENCE_SECONDS) for _ in range(2)} == {"one", "two"}


@on_each_loop
def test_the_limit_of_requests_counts_websockets(loop: str) -> None:
    started: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def app(scope, receive, send):
        started.put(scope["path"])
        await echo(scope, receive, send)

    with (
        running(app, loop=loop, lifespan="off", max_concurrency=1) as bridge,
        opened(bridge, "/first") as first,
        connect(bridge.address) as connection,
    ):
        assert started.get(timeout=PATIENCE_SECONDS) == "/first"
        connection.sendall(packet("/second", **HANDSHAKE))
        bridge.settle()
        assert started.empty()
        first.send(CLOSE, close_payload(1000))
        assert first.receive() == said(CLOSE, 1000)
        assert first.ends()
        first.connection.close()
        assert started.get(timeout=PATIENCE_SECONDS) == "/second"
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")


@on_each_loop
@on_each_socket
def test_none_is_left_behind(family: str, loop: str) -> None:
    """However they end, the next ones find room."""
    with running(echo, family, loop=loop, lifespan="off", max_concurrency=4) as bridge:
        for number in range(40):
            with opened(bridge) as client:
                client.send(TEXT, b"%d" % number)
                assert client.receive() == (TEXT, b"%d" % number)
                match number % 4:
                    case 0:
                        client.send(CLOSE, close_payload(1000))
                        assert client.receive() == said(CLOSE, 1000)
                    case 1:
                        client.send(TEXT, b"\xff")
                        received = client.receive()
                        assert received is not None
                        assert received[1][:2] == close_payload(1007)
                    case 2:
                        reset(client.connection)


# The end of the host.


@on_each_loop
@on_each_socket
def test_a_stop_closes_them(family: str, loop: str) -> None:
    with running(echo, family, loop=loop, lifespan="off") as bridge, ExitStack() as clients:
        open_ones = [clients.enter_context(opened(bridge)) for _ in range(5)]
        bridge.begin_stop()
        for client in open_ones:
            assert client.receive() == said(CLOSE, 1012, "the server is restarting")
            client.send(CLOSE, close_payload(1012))
            assert client.ends()
            client.connection.close()
        bridge.wait_stopped()

    assert bridge.events.find(level="error") == []


@on_each_loop
@on_each_socket
def test_a_stop_does_not_wait_for_clients_that_sleep(family: str, loop: str) -> None:
    """Each has the close frame, and a second; the laptop that it would wait for is shut."""
    with running(echo, family, loop=loop, lifespan="off") as bridge, opened(bridge) as client:
        began = monotonic()
        bridge.begin_stop()
        assert client.receive() == said(CLOSE, 1012, "the server is restarting")
        assert client.ends()
        client.connection.close()
        bridge.wait_stopped()
        assert monotonic() - began < PATIENCE_SECONDS / 3

    assert bridge.events.find(level="error") == []


@on_each_loop
def test_what_waits_for_its_client_alone_is_broken_off_at_once(loop: str) -> None:
    with (
        running(echo, loop=loop, lifespan="off", graceful_timeout_seconds=SHORT_SECONDS) as bridge,
        opened(bridge) as client,
    ):
        began = monotonic()
        bridge.begin_stop()
        assert client.receive() == said(CLOSE, 1012, "the server is restarting")
        assert client.ends()
        client.connection.close()
        bridge.wait_stopped()
        # Less than what is waited for tasks that do not end.
        assert monotonic() - began < SHORT_SECONDS + 0.9


@on_each_loop
@on_each_socket
def test_what_ignores_a_stop_is_broken_off(family: str, loop: str) -> None:
    async def app(scope, receive, send):
        if scope["path"] == "/denying":
            await send({"type": "websocket.http.response.start", "status": 403})
        elif scope["path"] == "/open":
            await accept(receive, send)
        await anyio.sleep_forever()

    with (
        running(
            app, family, loop=loop, lifespan="off", graceful_timeout_seconds=SHORT_SECONDS
        ) as bridge,
        opened(bridge, "/open") as client,
        connect(bridge.address) as connecting,
        connect(bridge.address) as denying,
    ):
        connecting.sendall(packet("/connecting", **HANDSHAKE))
        denying.sendall(packet("/denying", **HANDSHAKE))
        bridge.settle()
        bridge.begin_stop()
        assert client.receive() == said(CLOSE, 1012, "the server is restarting")
        client.send(CLOSE, close_payload(1012))
        assert client.ends()
        client.connection.close()
        assert read_answer(connecting).seen == 503
        assert read_answer(denying).seen == 503
        bridge.wait_stopped()

    (event,) = bridge.events.find(level="error")
    assert event["requests"] == 3
    assert event["option"] == "--graceful-timeout-seconds"
    assert bridge.counters.app_errors == 0


# The access log.


@on_each_loop
def test_the_access_log_has_them(loop: str, capfd: pytest.CaptureFixture[str]) -> None:
    async def app(scope, receive, send):
        if scope["path"] == "/denied":
            await send({"type": "websocket.http.response.start", "status": 401})
            await send({"type": "websocket.http.response.body", "body": b"who are you?"})
        elif scope["path"] == "/refused":
            await send({"type": "websocket.close"})
        else:
            await echo(scope, receive, send)

    with running(
        app, loop=loop, lifespan="off", access_log=True, access_log_format="combined"
    ) as bridge:
        with opened(bridge, "/opened") as client:
            client.send(CLOSE, close_payload(1000))
            assert client.receive() == said(CLOSE, 1000)
        for path, status in (("/denied", 401), ("/refused", 403)):
            with connect(bridge.address) as connection:
                connection.sendall(packet(path, **HANDSHAKE))
                assert read_answer(connection).seen == status

    lines = [line for line in capfd.readouterr().err.splitlines() if "HTTP/1.1" in line]
    found = {line.split('"')[1].split()[1]: line.split('"')[2].split()[0] for line in lines}
    assert found == {"/opened": "101", "/denied": "401", "/refused": "403"}


@on_each_loop
@on_each_socket
@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.close"])
def test_an_answer_to_a_handshake_that_nobody_hears_is_none_in_the_access_log(
    kind: str, family: str, loop: str, capfd: pytest.CaptureFixture[str]
) -> None:
    called, left = threading.Event(), threading.Event()

    async def app(scope, receive, send):
        await receive()
        called.set()
        await anyio.to_thread.run_sync(left.wait, PATIENCE_SECONDS)
        await send({"type": kind})

    with running(
        app, family, loop=loop, lifespan="off", access_log=True, access_log_format="json"
    ) as bridge:
        with connect(bridge.address) as connection:
            connection.sendall(packet(**HANDSHAKE))
            assert called.wait(PATIENCE_SECONDS)
            reset(connection)
        left.set()

    (line,) = map(json.loads, capfd.readouterr().err.splitlines())
    assert (line["status"], line["complete"]) == (499, False)


@on_each_socket
def test_the_access_log_has_what_is_no_valid_handshake(
    family: str, capfd: pytest.CaptureFixture[str]
) -> None:
    old = packet("/old", **{**HANDSHAKE, "HTTP_SEC_WEBSOCKET_VERSION": "8"})
    elsewhere = packet("/elsewhere", **HANDSHAKE, SERVER_SOFTWARE="Apache/2.4.66")
    with running(echo, family, lifespan="off", access_log=True, access_log_format="json") as bridge:
        for sent, status in ((old, 426), (elsewhere, 501)):
            with connect(bridge.address) as connection:
                connection.sendall(sent)
                answer = read_answer(connection)
                assert answer.seen == status

    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    found = {line["path"]: (line["status"], line["complete"]) for line in lines}
    assert found == {"/old": (426, True), "/elsewhere": (501, True)}
    assert lines[-1]["bytes"] == len(answer.body)
