"""WebSockets of WSGI applications at the uwsgi socket itself: whose the connection is, and until when."""

from __future__ import annotations

import gc
import json
import queue
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.bridge import Bridge, on_each_socket, running
from tests.gil import deletes_at_once
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import connect, packet, read_answer
from tests.websocket_client import HANDSHAKE, Client, opened, said
from tests.websocket_frames import BINARY, CLOSE, TEXT, close_payload, frame
from uwsgibridge.connection.connection import Connection
from uwsgibridge.hosts.wsgi import websocket as wsgi_websocket
from uwsgibridge.hosts.wsgi.websocket import TunnelSocket, WsgiWebSocket
from uwsgibridge.protocol.request import Request
from uwsgibridge.telemetry.access_log import AccessLog
from uwsgibridge.telemetry.reporting import Reporter

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
SHORT_SECONDS = 0.1
MIB = 1024 * 1024

App = Callable[..., Any]


def by_socket(talk: Callable[[socket.socket], object]) -> App:
    """Make an application that takes the socket, answers the handshake, and then talks."""

    def application(environ: Any, start_response: Any) -> Any:
        own = environ["werkzeug.socket"]
        own.sendall(HEAD)
        talk(own)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"nobody sees this"]

    return application


def until_closed(own: socket.socket) -> None:
    """Read as a library's thread does, which closes the socket at the end."""
    while own.recv(4096):
        pass
    own.close()


def serve(app: App, family: str = "unix", **options: Any) -> Any:
    return running(app, family, loop="trio", **{"wsgi_websockets": 3, **options})


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@on_each_socket
def test_the_socket_is_a_real_one_on_the_connection(family: str) -> None:
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def talk(own: socket.socket) -> None:
        seen.put((isinstance(own, socket.socket), own.gettimeout(), own.family, own.recv(100)))
        assert own.send(b"\x81\x02hi") == 4
        own.close()

    with serve(by_socket(talk), family) as bridge, opened(bridge) as client:
        client.connection.sendall(b"as it is")
        assert client.receive() == (TEXT, b"hi")
        # The library was silent about the end: the close frame is the bridge's.
        assert client.receive() == said(CLOSE, 1000)
        assert client.ends()
        is_socket, timeout, of, received = seen.get(timeout=PATIENCE_SECONDS)
    assert is_socket
    assert timeout is None
    assert of == (socket.AF_UNIX if family == "unix" else socket.AF_INET)
    assert received == b"as it is"
    assert bridge.counters.app_errors == 0


@on_each_socket
def test_a_close_of_the_library_is_the_last_frame(family: str) -> None:
    def talk(own: socket.socket) -> None:
        own.sendall(b"\x88\x02" + close_payload(4000))
        own.close()

    with serve(by_socket(talk), family) as bridge, opened(bridge) as client:
        assert client.receive() == said(CLOSE, 4000)
        assert client.ends()


@on_each_socket
def test_the_client_gets_the_answer_to_its_close_though_the_application_is_told_first(
    family: str,
) -> None:
    """As simple-websocket has it: its thread wakes the application, and then answers."""
    application_is_over = threading.Event()

    def talk(own: socket.socket) -> None:
        told = threading.Event()

        def read() -> None:
            while not own.recv(4096).endswith(b"done"):
                pass
            told.set()
            application_is_over.wait(SHORT_SECONDS)  # the application returns meanwhile
            own.sendall(b"\x88\x06" + close_payload(4000, "done"))
            own.close()

        threading.Thread(target=read).start()
        assert told.wait(PATIENCE_SECONDS)

    with serve(by_socket(talk), family) as bridge, opened(bridge) as client:
        client.send(TEXT, b"hi")
        client.send(CLOSE, close_payload(4000, "done"))
        assert client.receive() == said(CLOSE, 4000, "done")
        assert client.ends()


@on_each_socket
@pytest.mark.parametrize(
    ("error", "code", "reason", "count"),
    [
        (ValueError, 1011, "the application failed", 1),
        (ConnectionError, 1000, "", 0),
        (StopIteration, 1000, "", 0),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_is_raised_in_a_tunnel(
    family: str, error: type[Exception], code: int, reason: str, count: int
) -> None:
    """Libraries raise to keep a server from answering."""

    def talk(own: socket.socket) -> None:
        own.close()
        raise error

    with serve(by_socket(talk), family) as bridge, opened(bridge, "/x") as client:
        assert client.receive() == said(CLOSE, code, reason)
        assert client.ends()
    assert bridge.counters.app_errors == count
    assert len(bridge.events.find(level="error")) == count


@on_each_socket
def test_what_is_raised_before_is_an_answer(family: str) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        assert environ["werkzeug.socket"]
        raise ValueError

    with serve(application, family) as bridge:
        assert bridge.ask(**HANDSHAKE).seen == 500
    assert bridge.counters.app_errors == 1


@on_each_socket
def test_an_answer_in_place_of_the_handshake(family: str) -> None:
    def application(environ: Any, start_response: Any) -> Any:
        start_response("404 Not Found", [("X", "y")])
        return [b"no ", b"such page"]

    with serve(application, family) as bridge:
        answer = bridge.ask(**HANDSHAKE)
        assert (answer.seen, answer.body) == (404, b"no such page")
        # It holds no place any more.
        wait_until(lambda: bridge._worker.figures().websockets == 0)


@on_each_socket
def test_a_client_that_does_not_read_is_given_up(family: str) -> None:
    errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    def talk(own: socket.socket) -> None:
        try:
            while True:
                own.send(b"\x82\x7f" + (16 * MIB).to_bytes(8, "big") + bytes(16 * MIB))
        except OSError as error:
            errors.put(error)
        own.close()

    with (
        serve(by_socket(talk), family, write_timeout_seconds=SHORT_SECONDS) as bridge,
        opened(bridge),
    ):
        assert "--write-timeout-seconds" in str(errors.get(timeout=PATIENCE_SECONDS))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Give what is set when a WebSocket has been told of the stop."""
    told = threading.Event()
    restart = WsgiWebSocket.restart

    def restart_and_tell(websocket: WsgiWebSocket) -> None:
        restart(websocket)
        told.set()

    monkeypatch.setattr(WsgiWebSocket, "restart", restart_and_tell)
    return told


@on_each_socket
def test_a_stop_waits_for_the_frame_that_is_being_sent(family: str, told: threading.Event) -> None:
    """A close frame within another frame would be its payload."""
    half, rest = threading.Event(), threading.Event()

    def talk(own: socket.socket) -> None:
        own.send(b"\x81\x04ab")
        half.set()
        assert rest.wait(PATIENCE_SECONDS)
        own.send(b"cd")
        until_closed(own)

    with serve(by_socket(talk), family) as bridge, opened(bridge) as client:
        assert half.wait(PATIENCE_SECONDS)
        bridge.begin_stop()
        assert told.wait(PATIENCE_SECONDS)
        rest.set()
        assert client.receive() == (TEXT, b"abcd")
        assert client.receive() == said(CLOSE, 1012, "the server is restarting")
        client.connection.shutdown(socket.SHUT_WR)
        assert client.ends()
        bridge.wait_stopped()


@on_each_socket
def test_a_stop_waits_for_a_frame_that_the_client_has_not_read(
    family: str, told: threading.Event
) -> None:
    def talk(own: socket.socket) -> None:
        own.send(frame(BINARY, bytes(16 * MIB), masked=False))
        until_closed(own)

    with serve(by_socket(talk), family) as bridge, opened(bridge) as client:
        assert select.select([client.connection], [], [], PATIENCE_SECONDS)[0]
        bridge.begin_stop()
        assert told.wait(PATIENCE_SECONDS)
        assert client.receive() == (BINARY, bytes(16 * MIB))
        assert client.receive() == said(CLOSE, 1012, "the server is restarting")
        client.connection.shutdown(socket.SHUT_WR)
        assert client.ends()


@on_each_socket
def test_a_stop_amid_the_handshake_closes_the_websocket(family: str, told: threading.Event) -> None:
    begun, go = threading.Event(), threading.Event()

    def application(environ: Any, start_response: Any) -> Any:
        begun.set()
        assert go.wait(PATIENCE_SECONDS)
        return by_socket(until_closed)(environ, start_response)

    with serve(application, family) as bridge, connect(bridge.address) as connection:
        connection.sendall(packet(**HANDSHAKE))
        assert begun.wait(PATIENCE_SECONDS)
        bridge.begin_stop()
        assert told.wait(PATIENCE_SECONDS)
        go.set()
        received = b""
        while piece := connection.recv(1000):
            received += piece
            if received.endswith(b"restarting"):
                connection.shutdown(socket.SHUT_WR)
        assert received.startswith(HEAD)
        client = Client(connection, received[len(HEAD) :])
        assert client.receive() == said(CLOSE, 1012, "the server is restarting")
        bridge.wait_stopped()


@on_each_socket
def test_a_client_that_answers_no_close_holds_up_no_stop(family: str) -> None:
    with (
        serve(by_socket(until_closed), family, stream_drain_seconds=SHORT_SECONDS) as bridge,
        opened(bridge) as client,
    ):
        began = time.monotonic()
        bridge.stop()
        assert time.monotonic() - began < PATIENCE_SECONDS / 4
        assert client.receive() == said(CLOSE, 1012, "the server is restarting")
        assert client.ends()
    assert bridge.events.find(level="error") == []


@on_each_socket
def test_a_library_that_closes_nothing_is_not_waited_for(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wsgi_websocket, "_CLOSE_SECONDS", SHORT_SECONDS)
    kept: list[socket.socket] = []
    with serve(by_socket(kept.append), family) as bridge, opened(bridge) as client:
        assert client.receive() == said(CLOSE, 1000)
        assert client.ends()
    assert kept.pop().fileno() == -1


@on_each_socket
def test_a_descriptor_of_its_own_is_not_followed(family: str) -> None:
    def talk(own: socket.socket) -> None:
        with own.dup() as other:
            other.sendall(b"\x81\x02hi")
        own.close()

    with serve(by_socket(talk), family) as bridge, opened(bridge) as client:
        assert client.receive() == (TEXT, b"hi")
        assert client.ends()  # no close frame where one might not fit


def test_they_are_counted_and_bring_their_places() -> None:
    with serve(by_socket(until_closed), threads=1, accept_margin=1) as bridge:
        with opened(bridge), opened(bridge), opened(bridge):
            figures = bridge._worker.figures()
            assert (figures.websockets, figures.in_flight, figures.capacity) == (3, 3, 4)
            assert figures.queue_seconds == 0
            (admission,) = [host.admission for host in bridge._worker._hosts]
            assert admission.limit == 2 + 3
            with connect(bridge.address) as connection:
                connection.sendall(packet(**HANDSHAKE))
                answer = read_answer(connection)
            assert answer.seen == 503
            assert b"--wsgi-websockets" in answer.body
        wait_until(lambda: bridge._worker.figures().in_flight == 0)
        assert admission.limit == 2
        assert bridge._worker.figures().capacity == 1
    assert bridge.counters.refused == {"wsgi_websockets": 1}
    (event,) = bridge.events.find(event="refused")
    assert (event["status"], event["option"]) == (503, "--wsgi-websockets")


def test_a_system_without_threads_is_not_taken_for_too_many_websockets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def start_others(thread: threading.Thread) -> None:
        if thread.name.startswith("wsgi-websocket-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with serve(by_socket(until_closed)) as bridge:
        (admission,) = [host.admission for host in bridge._worker._hosts]
        limit = admission.limit
        monkeypatch.setattr(threading.Thread, "start", start_others)
        answer = bridge.ask(**HANDSHAKE)
        assert (answer.seen, answer.headers["retry-after"]) == (503, "1")
        assert b"the system gives no thread" in answer.body
        assert b"--wsgi-websockets" not in answer.body
        monkeypatch.undo()
        wait_until(lambda: bridge._worker.figures().in_flight == 0)
        assert admission.limit == limit
        with opened(bridge):
            pass
    assert bridge.counters.refused == {"no_thread": 1}
    (event,) = bridge.events.find(event="refused")
    assert (event["status"], "option" in event) == (503, False)
    assert "can't start new thread" in str(event["detail"])


@pytest.mark.parametrize("kind", ["straight", "by-python", "websocket"])
def test_a_line_of_the_access_log_is_written_before_the_place_is_free(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A drain waits for no request that has left its place: the line could be lost."""
    held: list[bool] = []

    def note(*_: Any, **__: Any) -> None:
        held.append(bool(bridge._worker.figures().in_flight))

    monkeypatch.setattr(Reporter, "log_access", note)
    monkeypatch.setattr(AccessLog, "sent_writer", None)
    if kind == "websocket":
        with serve(by_socket(until_closed), access_log=True) as bridge, opened(bridge):
            pass
    else:
        with running(answers_plainly, access_log=True) as bridge:
            bridge.ask(REQUEST_METHOD="GET" if kind == "straight" else "HEAD")
    assert held == [True]


def answers_plainly(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"plain"]


def test_one_too_many_is_in_the_access_log(capfd: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"wsgi_websockets": 1, "access_log_format": "json"}
    with (
        serve(by_socket(until_closed), access_log=True, **options) as bridge,
        opened(bridge, "/first"),
        connect(bridge.address) as connection,
    ):
        connection.sendall(packet("/second", **HANDSHAKE))
        answer = read_answer(connection)
        assert answer.seen == 503

    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (second,) = [line for line in lines if line["path"] == "/second"]
    assert (second["status"], second["bytes"]) == (503, len(answer.body))
    assert second["complete"]


@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({"HTTP_SEC_WEBSOCKET_KEY": "wrong"}, 400),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 426),
        ({"SERVER_SOFTWARE": "Apache/2.4.71"}, 501),
    ],
)
def test_what_is_no_handshake_is_refused_before_the_application(
    variables: dict[str, str], status: int
) -> None:
    called: list[Any] = []
    with serve(lambda *arguments: called.append(arguments)) as bridge:
        assert bridge.ask(**{**HANDSHAKE, **variables}).seen == status
    assert not called


def test_without_the_option_a_handshake_is_refused_by_its_name() -> None:
    with serve(by_socket(until_closed), wsgi_websockets=0) as bridge:
        assert bridge.ask(**HANDSHAKE).seen == 400
    assert bridge.counters.refused == {"wsgi_without_websockets": 1}
    (event,) = bridge.events.find(event="refused")
    assert (event["reason"], event["option"]) == ("wsgi_without_websockets", "--wsgi-websockets")


def test_without_the_option_there_is_no_such_socket() -> None:
    environs: list[Any] = []

    def application(environ: Any, start_response: Any) -> Any:
        environs.append(environ)
        start_response("200 OK", [])
        return [b""]

    with serve(application, wsgi_websockets=0) as bridge:
        answer = bridge.ask(**HANDSHAKE)
        assert answer.seen == 400
        assert b"--wsgi-websockets" in answer.body
        assert not environs
        bridge.ask()
    with serve(application) as bridge:
        bridge.ask()  # no handshake
    assert len(environs) == 2
    assert all("werkzeug.socket" not in environ for environ in environs)


@deletes_at_once
def test_nothing_is_left_of_one() -> None:
    kinds = (WsgiWebSocket, TunnelSocket, Connection, Request)

    def left() -> list[object]:
        return [thing for thing in gc.get_objects() if type(thing) in kinds]

    def talk(bridge: Bridge) -> None:
        with opened(bridge) as client:
            client.connection.shutdown(socket.SHUT_WR)
            client.receive()
        wait_until(lambda: bridge._worker.figures().in_flight == 0)

    with serve(by_socket(until_closed)) as bridge:
        talk(bridge)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                talk(bridge)
            wait_until(lambda: not left())
        finally:
            gc.enable()
