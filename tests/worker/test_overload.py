"""An overload: what is too old, or has no client any more, is not run; limits of paths; health checks pass."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bridge import Bridge, on_each_loop, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import Answer, connect, packet, read_answer
from tests.recorded import totals_of
from tests.websocket_client import HANDSHAKE
from uwsgibridge.hosts.asgi import host as _asgi  # noqa: F401 - of what is loaded, the accelerator is left out
from uwsgibridge.hosts.wsgi import host as _wsgi  # noqa: F401
from uwsgibridge.protocol.packet import PING, PONG

# What a request has waited for a thread that is looked at: more than 5 ms.
LOOKED_AT_SECONDS = 0.006


def sent(seconds_ago: float) -> str:
    return f"{time.time() - seconds_ago:.3f}"


def answered(bridge: Bridge) -> dict[str, int]:
    """Give how many requests have been recorded with which outcome."""
    counts: Counter[str] = Counter()
    for mount in totals_of(bridge.counters.memory).mounts.values():
        for (_method, outcome), count in mount.requests.items():
            counts[outcome] += count
    return {outcome: count for outcome, count in counts.items() if count}


class Application:
    """Records which paths it was called for; `/slow...` waits for `release`."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.begun = threading.Semaphore(0)
        self.release = threading.Event()

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        path = environ["SCRIPT_NAME"] + environ["PATH_INFO"]
        self.called.append(path)
        self.begun.release()
        if path.startswith("/slow"):
            assert self.release.wait(PATIENCE_SECONDS)
        start_response("200 OK", [])
        return [path.encode()]

    async def asgi(self, scope: Any, receive: Any, send: Any) -> None:
        self.called.append(scope["path"])
        self.begun.release()
        if scope["path"].startswith("/slow"):
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode()})

    def has_begun(self) -> bool:
        return self.begun.acquire(timeout=PATIENCE_SECONDS)


class Clients:
    """Requests on their way to a bridge."""

    def __init__(self, bridge: Bridge, stack: ExitStack) -> None:
        self._bridge = bridge
        self._stack = stack

    def send(self, path: str, **variables: Any) -> Any:
        connection = self._stack.enter_context(connect(self._bridge.address))
        connection.sendall(packet(path, **variables))
        return connection

    def are_accepted(self) -> None:
        """Wait until the bridge has all that was sent before."""
        with connect(self._bridge.address) as connection:
            connection.sendall(PING)
            assert connection.recv(len(PONG)) == PONG


@contextmanager
def clients_of(bridge: Bridge) -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(bridge, stack)


@contextmanager
def one_thread(family: str, **settings: Any) -> Iterator[tuple[Application, Bridge, Clients]]:
    """Serve by one thread, which is busy with `/slow`; it is free again at the end."""
    app = Application()
    with (
        running(app.wsgi, family, threads=1, **settings) as bridge,
        clients_of(bridge) as clients,
    ):
        first = clients.send("/slow")
        assert app.has_begun()
        yield app, bridge, clients
        app.release.set()
        assert read_answer(first).body == b"/slow"


# Clients that have left.


@on_each_socket
def test_a_request_whose_client_left_while_it_waited_for_a_thread_is_not_run(family: str) -> None:
    with one_thread(family, log_level="debug") as (app, bridge, clients):
        clients.send("/left").close()
        waits = clients.send("/waits")
        clients.are_accepted()
        time.sleep(LOOKED_AT_SECONDS)
        app.release.set()
        assert read_answer(waits).body == b"/waits"

    assert app.called == ["/slow", "/waits"]
    assert bridge.counters.refused == {"abandoned": 1}
    assert bridge.counters.client_gone == 1
    assert bridge.counters.requests == 3
    assert answered(bridge) == {"2xx": 2, "none": 1}
    (line,) = bridge.events.find(path="/left", event="request")
    assert (line["status"], line["complete"]) == (499, False)
    assert line["queue_seconds"] > LOOKED_AT_SECONDS


@on_each_socket
def test_it_is_run_where_that_is_wanted(family: str) -> None:
    with one_thread(family, run_abandoned=True) as (app, bridge, clients):
        clients.send("/left").close()
        waits = clients.send("/waits")
        clients.are_accepted()
        time.sleep(LOOKED_AT_SECONDS)
        app.release.set()
        assert read_answer(waits).body == b"/waits"

    assert app.called == ["/slow", "/left", "/waits"]
    assert bridge.counters.refused == {}


@on_each_socket
@pytest.mark.parametrize(("seconds_ago", "is_run"), [(1.0, False), (0.0, True), (None, True)])
@on_each_loop
def test_a_client_that_left_while_its_request_was_in_the_backlog(
    family: str, loop: str, seconds_ago: float | None, is_run: bool
) -> None:
    """How long that was is known by the frontend's word alone; a short time is none."""
    app = Application()
    with running(app.asgi, family, loop=loop, lifespan="off") as bridge:
        with bridge.held(), clients_of(bridge) as clients:
            variables = {} if seconds_ago is None else {"UWSGIBRIDGE_SENT": sent(seconds_ago)}
            clients.send("/left", **variables).close()
        assert bridge.ask("/next", UWSGIBRIDGE_SENT=sent(0)).body == b"/next"

    assert ("/left" in app.called) is is_run
    assert sum(answered(bridge).values()) == bridge.counters.all_requests == 2
    assert bridge.counters.refused == ({} if is_run else {"abandoned": 1})


@on_each_loop
def test_a_client_that_left_while_the_host_was_full(loop: str) -> None:
    app = Application()
    with (
        running(app.asgi, loop=loop, lifespan="off", max_concurrency=2) as bridge,
        clients_of(bridge) as clients,
    ):
        with bridge.held():
            # What comes in pieces is accepted before it is known where it goes: so it is held back here.
            data = packet("/left")
            pieces = [clients._stack.enter_context(connect(bridge.address)) for _ in range(2)]
            for piece in pieces:
                piece.sendall(data[:9])
        bridge.settle()
        slow = [clients.send("/slow1"), clients.send("/slow2")]
        assert app.has_begun()
        assert app.has_begun()
        with bridge.held():
            for piece in pieces:
                piece.sendall(data[9:])
                piece.close()
        bridge.settle()
        for connection in slow:
            connection.close()
        assert bridge.ask("/next").body == b"/next"

    assert "/left" not in app.called
    assert bridge.counters.refused == {"abandoned": 2}


# What has waited for too long.


@on_each_socket
def test_a_request_that_is_too_old_on_its_turn_is_refused(family: str) -> None:
    with one_thread(family, max_queue_seconds=2.5) as (app, bridge, clients):
        old = clients.send("/old", UWSGIBRIDGE_SENT=sent(10))
        young = clients.send("/young", UWSGIBRIDGE_SENT=sent(1))
        clients.are_accepted()
        app.release.set()
        answer = read_answer(old)
        assert (answer.status, answer.headers["retry-after"]) == (503, "3")
        assert answer.body == b"The server is too busy for this request.\n"
        assert read_answer(young).body == b"/young"

    assert app.called == ["/slow", "/young"]
    assert bridge.counters.refused == {"queue_timeout": 1}
    (event,) = bridge.events.find(level="warning")
    assert event["option"] == "--max-queue-seconds"
    assert (event["reason"], event["requests"]) == ("queue_timeout", 1)


@on_each_socket
def test_without_the_frontends_word_the_time_since_the_accept_counts(family: str) -> None:
    with one_thread(family, max_queue_seconds=0.001, health_path=("/slow",)) as (app, _, clients):
        old = clients.send("/old")
        clients.are_accepted()
        time.sleep(0.002)
        app.release.set()
        assert read_answer(old).status == 503

    assert app.called == ["/slow"]


@on_each_loop
@pytest.mark.parametrize("handshake", [{}, HANDSHAKE], ids=["http", "websocket"])
def test_asgi_refuses_what_is_too_old(loop: str, handshake: dict[str, str]) -> None:
    app = Application()
    with running(
        app.asgi, loop=loop, lifespan="off", max_queue_seconds=5, health_path=("/healthz",)
    ) as bridge:
        answer = bridge.ask("/old", UWSGIBRIDGE_SENT=sent(10), **handshake)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert bridge.ask("/healthz", UWSGIBRIDGE_SENT=sent(10)).body == b"/healthz"
        assert bridge.ask("/young", UWSGIBRIDGE_SENT=sent(1)).body == b"/young"

    assert app.called == ["/healthz", "/young"]
    assert answered(bridge) == {"2xx": 2, "5xx": 1}
    assert bridge.counters.refused == {"queue_timeout": 1}
    assert bridge.figures().in_flight == 0


def test_a_health_check_passes_always() -> None:
    app = Application()
    settings: dict[str, Any] = {"max_queue_seconds": 5, "health_path": ("/up", "/é")}
    with running(app.wsgi, mounts={"/up": app.wsgi}, **settings) as bridge:
        assert bridge.ask("/up", UWSGIBRIDGE_SENT=sent(10)).body == b"/up"
        assert bridge.ask("/Ã©", UWSGIBRIDGE_SENT=sent(10)).status == 200
        assert bridge.ask("/up/", UWSGIBRIDGE_SENT=sent(10)).status == 503
        assert bridge.ask("/other", UWSGIBRIDGE_SENT=sent(10)).status == 503


def test_a_flood_is_one_line_of_the_log() -> None:
    app = Application()
    with running(app.wsgi, max_queue_seconds=60) as bridge:
        for _ in range(20):
            answer = bridge.ask(UWSGIBRIDGE_SENT=sent(100))
            assert (answer.status, answer.headers["retry-after"]) == (503, "60")
        bridge.events.wait(reason="queue_timeout", requests=1)
        assert sum(it["requests"] for it in bridge.events.find(reason="queue_timeout")) < 20

    assert bridge.counters.refused == {"queue_timeout": 20}
    assert app.called == []


# Limits of paths.

Serve = Callable[..., Any]


@pytest.fixture(params=["wsgi", "asgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Serve with a limit, by an application of either kind, that has few places."""
    loop = "trio"

    @contextmanager
    def limited(*limits: str, **settings: Any) -> Iterator[tuple[Application, Bridge, Clients]]:
        app = Application()
        places = {"threads": 2, "accept_margin": 1, "max_concurrency": 3}
        settings = {"mount_limit": limits, "lifespan": "off", **places, **settings}
        with (
            running(getattr(app, request.param), loop=loop, **settings) as bridge,
            clients_of(bridge) as clients,
        ):
            yield app, bridge, clients
            app.release.set()

    return limited


def answer_to(app: Application, connection: Any) -> Answer:
    app.release.set()
    return read_answer(connection)


def test_what_is_over_the_limit_of_its_path_is_refused_and_all_else_goes_on(serve: Serve) -> None:
    with serve("/slow=1") as (app, bridge, clients):
        clients.send("/slow/1")
        assert app.has_begun()
        for path in ("/slow/2", "/slow"):
            answer = bridge.ask(path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        for _ in range(5):
            assert bridge.ask("/fast").body == b"/fast"

    assert bridge.counters.refused["mount_limit"] == 2
    assert answered(bridge)["5xx"] == 2
    (event, *_) = bridge.events.find(reason="mount_limit")
    assert event["option"] == "--mount-limit"


def test_the_place_is_free_when_the_request_has_ended(serve: Serve) -> None:
    """It ends a moment after its client has the answer; until then, the next one waits."""
    with serve("/=1", max_queue_seconds=60) as (_, bridge, _):
        for _ in range(5):
            assert bridge.ask("/fast").body == b"/fast"

    assert bridge.counters.refused == {}


def test_the_longest_prefix_counts_and_a_health_check_needs_no_place(serve: Serve) -> None:
    # The third thread is for the health check: it needs no place of its mount, but a thread.
    limits, settings = ("/slow=1", "/=1"), {"health_path": ("/healthz",), "threads": 3}
    with serve(*limits, **settings) as (app, bridge, clients):
        clients.send("/slow/1")
        assert app.has_begun()
        clients.send("/slowest")
        assert app.has_begun()
        assert bridge.ask("/fast").status == 503
        assert bridge.ask("/healthz").body == b"/healthz"


def test_a_health_check_passes_where_its_mount_is_full() -> None:
    app = Application()
    with (
        running(
            app.asgi, lifespan="off", mount_limit=("/=1",), health_path=("/healthz",)
        ) as bridge,
        clients_of(bridge) as clients,
    ):
        clients.send("/slow")
        assert app.has_begun()
        assert bridge.ask("/other").status == 503
        assert bridge.ask("/healthz").body == b"/healthz"


@on_each_socket
@on_each_loop
def test_one_more_waits_for_its_turn(family: str, loop: str) -> None:
    app = Application()
    with (
        running(
            app.asgi,
            family,
            loop=loop,
            lifespan="off",
            mount_limit=("/slow=1",),
            max_queue_seconds=60,
        ) as bridge,
        clients_of(bridge) as clients,
    ):
        first = clients.send("/slow/1")
        assert app.has_begun()
        clients.send("/slow/left").close()
        clients.send("/slow/2")
        assert bridge.ask("/fast").body == b"/fast"
        assert app.has_begun()
        assert app.called == ["/slow/1", "/fast"]
        first.close()
        assert app.has_begun()
        assert app.called == ["/slow/1", "/fast", "/slow/2"]

    assert bridge.counters.refused == {"abandoned": 1}
    assert bridge.events.find(level="error") == []


def test_one_more_thread_waits_for_its_turn() -> None:
    app = Application()
    with (
        running(app.wsgi, threads=2, mount_limit=("/slow=1",), max_queue_seconds=60) as bridge,
        clients_of(bridge) as clients,
    ):
        waiting = [clients.send(f"/slow/{number}") for number in range(4)]
        assert app.has_begun()
        assert bridge.ask("/fast").body == b"/fast"
        assert app.called == ["/slow/0", "/fast"]
        app.release.set()
        assert [read_answer(it).body for it in waiting] == [
            f"/slow/{it}".encode() for it in range(4)
        ]

    assert bridge.counters.refused == {}


def test_who_waits_for_a_place_for_too_long_is_refused(serve: Serve) -> None:
    with serve("/slow=1", max_queue_seconds=0.05) as (app, bridge, clients):
        clients.send("/slow/1")
        assert app.has_begun()
        began = time.monotonic()
        assert bridge.ask("/slow/2").status == 503
        assert time.monotonic() - began > 0.04

    assert bridge.counters.refused["mount_limit"] == 1


def test_who_has_waited_in_the_frontend_waits_no_more(serve: Serve) -> None:
    with serve("/slow=1", max_queue_seconds=60) as (app, bridge, clients):
        clients.send("/slow/1")
        assert app.has_begun()
        assert bridge.ask("/slow/2", UWSGIBRIDGE_SENT=sent(61)).status == 503


def test_only_so_many_wait(serve: Serve) -> None:
    with serve("/slow=1", max_queue_seconds=60, backlog=2) as (app, bridge, clients):
        clients.send("/slow/1")
        assert app.has_begun()
        for number in (2, 3):
            clients.send(f"/slow/{number}")
        assert bridge.ask("/slow/4").status == 503
        assert bridge.ask("/fast").body == b"/fast"
        bridge.hurry()


def test_a_limit_above_what_a_host_takes_leaves_it_a_place() -> None:
    """A host that is full would have the listener pause for all."""
    slow, other = Application(), Application()
    settings: dict[str, Any] = {"threads": 1, "accept_margin": 1, "mount_limit": ("/slow=100",)}
    with (
        running(other.wsgi, mounts={"/slow": slow.wsgi}, **settings) as bridge,
        clients_of(bridge) as clients,
    ):
        first = clients.send("/slow/1")
        assert slow.has_begun()
        assert bridge.ask("/slow/2").status == 503
        assert bridge.ask("/fast").body == b"/fast"
        assert answer_to(slow, first).body == b"/slow/1"


def test_files_need_no_place_and_what_is_no_file_does(tmp_path: Path) -> None:
    app = Application()
    (tmp_path / "file").write_text("a file")
    settings: dict[str, Any] = {"static": (f"/slow={tmp_path}",), "mount_limit": ("/slow=1",)}
    with running(app.wsgi, threads=2, **settings) as bridge, clients_of(bridge) as clients:
        first = clients.send("/slow/1")
        assert app.has_begun()
        assert bridge.ask("/slow/file").body == b"a file"
        assert bridge.ask("/slow/2").status == 503
        assert answer_to(app, first).body == b"/slow/1"


def test_what_waits_at_a_stop_is_served() -> None:
    app = Application()
    with (
        running(app.wsgi, threads=2, mount_limit=("/slow=1",), max_queue_seconds=60) as bridge,
        clients_of(bridge) as clients,
    ):
        waiting = [clients.send(f"/slow/{number}") for number in range(2)]
        assert app.has_begun()
        clients.are_accepted()
        bridge.begin_stop()
        app.release.set()
        assert [read_answer(it).status for it in waiting] == [200, 200]
        bridge.wait_stopped()
