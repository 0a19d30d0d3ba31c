"""Files in the place of an application's answers, in a whole bridge."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.bridge import Bridge, on_each_loop, on_each_socket, running
from tests.log_events import PATIENCE_SECONDS
from tests.other_users import as_nobody, need_root
from tests.raw_client import ask, connect, packet, read_answer
from uwsgibridge.hosts.asgi import host as _asgi  # noqa: F401 - loaded before the accelerator is left out
from uwsgibridge.hosts.static.finding import FoundFile, StaticFiles
from uwsgibridge.hosts.wsgi import host as _wsgi  # noqa: F401 - likewise
from uwsgibridge.protocol.http_date import format_date

MIB = 1024 * 1024
HUGE = 24 * MIB  # more than the kernel holds of it
PATTERN = bytes(range(251)) * 4000  # about 1 MB


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = (
        f"app {environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode()
    )
    environ["wsgi.input"].read()
    start_response("404 Not Found", [("X-From", "wsgi")])
    return [body]


async def asgi(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    assert scope["type"] == "http"
    while (await receive()).get("more_body"):
        pass
    body = f"app {scope['method']} {scope['root_path']}|{scope['path']}".encode()
    await send({"type": "http.response.start", "status": 404, "headers": [(b"x-from", b"asgi")]})
    await send({"type": "http.response.body", "body": body})


APPS: dict[str, Callable[..., Any]] = {"wsgi": wsgi, "asgi": asgi}
on_each_app = pytest.mark.parametrize("kind", list(APPS))


@pytest.fixture
def site(directory: Path) -> Path:
    site = directory / "site"
    (site / "css").mkdir(parents=True)
    (site / "css" / "main.css").write_text("body {}")
    (site / "large.bin").write_bytes(PATTERN)
    (site / "empty.txt").write_bytes(b"")
    (directory / "secret.css").write_text("secret")
    return site


@contextlib.contextmanager
def serving(
    kind: str, site: Path, family: str = "unix", loop: str = "asyncio", **settings: Any
) -> Iterator[Bridge]:
    own = {"lifespan": "off"} if kind == "asgi" else {}
    values = {"static": (f"/static={site}",), **own, **settings}
    with running(APPS[kind], family, loop=loop, **values) as bridge:
        yield bridge


@on_each_app
@on_each_socket
@on_each_loop
def test_file_is_answered_and_all_else_is_the_applications(
    site: Path, kind: str, family: str, loop: str
) -> None:
    with serving(kind, site, family, loop) as bridge:
        for _ in range(3):  # the socket may be lent to a thread meanwhile
            found = bridge.ask("/static/css/main.css")
            assert (found.seen, found.body) == (200, b"body {}")
            assert found.headers["content-type"] == "text/css"
            assert found.headers["content-length"] == "7"
            assert found.headers["accept-ranges"] == "bytes"
            assert bridge.ask("/static/large.bin").body == PATTERN
            missing = bridge.ask("/static/none.css")
            assert (missing.seen, missing.headers["x-from"]) == (404, kind)
            assert bridge.ask("/static/").headers["x-from"] == kind
            assert bridge.ask("/static/../secret.css").headers["x-from"] == kind
            assert bridge.ask("/other").headers["x-from"] == kind
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "get"):
            answer = bridge.ask("/static/css/main.css", method=method, body=b"x" * 100_000)
            assert answer.headers["x-from"] == kind, method
        wait_until(lambda: bridge.figures().in_flight == 0)
    assert bridge.counters.all_requests == 23
    assert bridge.events.find(level="warning") == bridge.events.find(level="error") == []


@on_each_app
def test_head_has_the_head_of_get(site: Path, kind: str) -> None:
    with serving(kind, site) as bridge:
        for path in ("/static/css/main.css", "/static/large.bin", "/static/empty.txt"):
            get, head = bridge.ask(path), bridge.ask(path, method="HEAD")
            assert (head.seen, head.body) == (200, b"")
            assert head.headers == get.headers


@on_each_app
def test_conditions_and_ranges(site: Path, kind: str) -> None:
    os.utime(site / "large.bin", (1_700_000_000, 1_700_000_000))
    with serving(kind, site) as bridge:
        whole = bridge.ask("/static/large.bin")
        assert whole.headers["last-modified"] == format_date(1_700_000_000)
        etag = whole.headers["etag"]

        def asked(**headers: str) -> tuple[int | str, bytes, Mapping[str, str]]:
            answer = bridge.ask("/static/large.bin", **{f"HTTP_{k}": v for k, v in headers.items()})
            return answer.seen, answer.body, answer.headers

        for known in ({"IF_NONE_MATCH": etag}, {"IF_MODIFIED_SINCE": format_date(1_700_000_000)}):
            status, body, headers = asked(**known)
            assert (status, body) == (304, b"")
            assert headers["etag"] == etag
            assert "content-length" not in headers
            assert "content-type" not in headers
        assert asked(IF_NONE_MATCH='"other"')[0] == 200
        assert asked(IF_MATCH='"other"')[:2] == (412, b"")
        status, body, headers = asked(RANGE="bytes=100-70099", IF_RANGE=etag)
        assert (status, body) == (206, PATTERN[100:70_100])
        assert headers["content-range"] == f"bytes 100-70099/{len(PATTERN)}"
        assert headers["content-type"] == "application/octet-stream"
        assert asked(RANGE="bytes=-9")[:2] == (206, PATTERN[-9:])
        assert asked(RANGE="bytes=0-9", IF_RANGE='"other"')[:2] == (200, PATTERN)
        status, body, headers = asked(RANGE=f"bytes={len(PATTERN)}-")
        assert (status, body) == (416, b"")
        assert headers["content-range"] == f"bytes */{len(PATTERN)}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.html", "text/html"),
        ("a.CSS", "text/css"),
        ("a.js", ("text/javascript", "application/javascript")),
        ("a.png", "image/png"),
        ("a.woff2", "font/woff2"),
        ("a.webp", "image/webp"),
        ("a.js.gz", "application/gzip"),
        ("a.tar.gz", "application/gzip"),
        ("a", "application/octet-stream"),
        (".profile", "application/octet-stream"),
        ("a.unknown-kind", "application/octet-stream"),
        ("data:a.css", "text/css"),
        ("http:a.b:c.css", "text/css"),
    ],
)
def test_content_type(site: Path, name: str, expected: str | tuple[str, ...]) -> None:
    (site / name).write_text("x")
    with serving("wsgi", site) as bridge:
        answer = bridge.ask(f"/static/{name}")
        assert answer.headers["content-type"] in (
            expected if isinstance(expected, tuple) else (expected,)
        )
        assert "content-encoding" not in answer.headers


@on_each_app
def test_files_come_before_mounts(site: Path, kind: str) -> None:
    own: dict[str, Any] = {"lifespan": "off"} if kind == "asgi" else {}
    app = APPS[kind]
    with running(
        app,
        "unix",
        mounts={"/static": app, "/m": app},
        static=(f"/static={site}", f"/m/s={site}"),
        **own,
    ) as bridge:
        assert bridge.ask("/static/css/main.css").body == b"body {}"
        assert bridge.ask("/m/s/css/main.css").body == b"body {}"
        assert bridge.ask("/static/none").body == b"app GET /static|/none".replace(
            b"|/none", b"|/none" if kind == "wsgi" else b"|/static/none"
        )
        assert b"/m|" in bridge.ask("/m/s/none").body


def test_request_below_no_mount_is_404(site: Path) -> None:
    with running(None, "unix", mounts={"/m": wsgi}, static=(f"/static={site}",)) as bridge:
        assert bridge.ask("/static/css/main.css").seen == 200
        answer = bridge.ask("/static/none")
        assert (answer.seen, answer.body) == (404, b"No application is mounted at this path.\n")
        assert bridge.figures().refused == {"not_mounted": 1}
        wait_until(lambda: bridge.figures().in_flight == 0)


def test_handshake_of_a_websocket_is_the_applications(site: Path) -> None:
    with serving("wsgi", site) as bridge:
        answer = bridge.ask(
            "/static/css/main.css", HTTP_UPGRADE="websocket", HTTP_CONNECTION="Upgrade"
        )
        assert answer.seen != 200
        answer = bridge.ask("/static/css/main.css", HTTP_UPGRADE="h2c")
        assert answer.seen == 200


def open_slowly(bridge: Bridge, path: str) -> socket.socket:
    """Ask, and read nothing."""
    connection = connect(bridge.address)
    connection.sendall(packet(path))
    return connection


@on_each_app
@on_each_socket
@on_each_loop
def test_slow_clients_hold_no_thread(site: Path, kind: str, family: str, loop: str) -> None:
    with (site / "huge").open("wb") as file:
        file.truncate(HUGE)
    with (
        serving(kind, site, family, loop, static_threads=1, threads=1) as bridge,
        contextlib.ExitStack() as stack,
    ):
        slow = [stack.enter_context(open_slowly(bridge, "/static/huge")) for _ in range(5)]
        for _ in range(3):
            assert bridge.ask("/static/css/main.css").body == b"body {}"
            assert bridge.ask("/static/none").seen == 404
        wait_until(lambda: bridge.figures().in_flight == 5)
        for connection in slow:
            answer = read_answer(connection)
            assert (answer.seen, len(answer.body)) == (200, HUGE)
    assert bridge.events.find(level="warning") == []


@on_each_loop
def test_client_that_takes_nothing_is_cut_off(site: Path, loop: str) -> None:
    with (site / "huge").open("wb") as file:
        file.truncate(HUGE)
    with serving("wsgi", site, "unix", loop, write_timeout_seconds=0.05) as bridge:
        with open_slowly(bridge, "/static/huge") as connection:
            bridge.events.wait(event="answer was not taken in time", path="/static/huge")
            assert read_answer(connection).seen == "broken"
        wait_until(lambda: bridge.figures().in_flight == 0)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline
        threading.Event().wait(0.001)


@on_each_socket
def test_client_that_leaves_is_counted(site: Path, family: str) -> None:
    with (site / "huge").open("wb") as file:
        file.truncate(HUGE)
    with serving("wsgi", site, family) as bridge:
        connection = open_slowly(bridge, "/static/huge")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.close()
        wait_until(lambda: bridge.figures().in_flight == 0)
        assert bridge.figures().client_gone == 1
    assert bridge.events.find(level="warning") == bridge.events.find(level="error") == []


def test_file_that_becomes_shorter_is_seen_to_be_cut(site: Path) -> None:
    with (site / "huge").open("wb") as file:
        file.truncate(HUGE)
    with serving("wsgi", site) as bridge, open_slowly(bridge, "/static/huge") as connection:
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        os.truncate(site / "huge", 10 * MIB)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(MIB):
                received += len(piece)
        assert received < 11 * MIB
        event = bridge.events.wait(event="file became shorter while it was sent")
        assert event["path"] == "/static/huge"
        wait_until(lambda: bridge.figures().in_flight == 0)


@on_each_app
@on_each_loop
def test_stop_waits_for_a_file_that_is_being_sent(site: Path, kind: str, loop: str) -> None:
    with (
        serving(kind, site, "unix", loop) as bridge,
        open_slowly(bridge, "/static/large.bin") as connection,
    ):
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        bridge.begin_stop()
        received = b""
        while piece := connection.recv(MIB):
            received += piece
        assert received.endswith(PATTERN)


@on_each_loop
def test_stop_breaks_off_what_does_not_end_in_time(site: Path, loop: str) -> None:
    with (site / "huge").open("wb") as file:
        file.truncate(HUGE)
    with (
        serving("wsgi", site, "unix", loop, graceful_timeout_seconds=0.05) as bridge,
        open_slowly(bridge, "/static/huge") as connection,
    ):
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        bridge.stop()
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(MIB):
                received += len(piece)
        assert received < HUGE
    assert bridge.events.find(event="requests were broken off: they did not end in time")


def test_requests_over_the_limit_wait(site: Path) -> None:
    with (site / "huge").open("wb") as file:
        file.truncate(HUGE)
    with (
        serving("asgi", site, "unix", max_concurrency=2) as bridge,
        open_slowly(bridge, "/static/huge") as first,
        open_slowly(bridge, "/static/huge") as second,
        contextlib.ExitStack() as stack,
    ):
        for connection in (first, second):
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        third = stack.enter_context(open_slowly(bridge, "/static/css/main.css"))
        third.setblocking(False)
        bridge.settle()
        with pytest.raises(BlockingIOError):
            third.recv(1)
        third.settimeout(PATIENCE_SECONDS)
        first.close()
        assert read_answer(third).body == b"body {}"


@need_root
def test_file_that_may_not_be_read_is_left_to_the_application(site: Path) -> None:
    (site / "css" / "main.css").chmod(0)
    with serving("wsgi", site) as bridge, _without_rights(bridge):
        assert bridge.ask("/static/css/main.css").headers["x-from"] == "wsgi"
        event = bridge.events.wait(event="file can't be opened: the application answers")
        assert event["path"] == "/static/css/main.css"
        assert event["reason"] == "Permission denied"


@contextlib.contextmanager
def _without_rights(bridge: Bridge) -> Iterator[None]:
    # seteuid of glibc is for all threads, those of the bridge, too.
    Path(bridge.settings.bind[0].removeprefix("unix:")).chmod(0o777)
    Path(bridge.settings.bind[0].removeprefix("unix:")).parent.chmod(0o755)
    with as_nobody():
        yield


def test_error_of_the_disk_is_a_500(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("wsgi", site) as bridge:
        real = os.open

        def failing(path: Any, *args: Any, **more: Any) -> int:
            if path == b"main.css":
                raise OSError(5, "Input/output error")
            return real(path, *args, **more)

        monkeypatch.setattr(os, "open", failing)
        answer = bridge.ask("/static/css/main.css")
        assert (answer.seen, answer.body) == (
            500,
            b"The file can't be read. The server's log says why.\n",
        )
        event = bridge.events.wait(event="file can't be sent")
        assert "Input/output error" in event["detail"]
        monkeypatch.undo()
        assert bridge.ask("/static/css/main.css").seen == 200


@on_each_app
@on_each_loop
def test_disk_that_does_not_answer_holds_up_no_application(
    site: Path, kind: str, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()
    real = StaticFiles.find

    def find(files: StaticFiles, path: str) -> FoundFile | None:
        assert answers.wait(PATIENCE_SECONDS)
        return real(files, path)

    monkeypatch.setattr(StaticFiles, "find", find)
    with (
        serving(kind, site, "unix", loop) as bridge,
        contextlib.ExitStack() as stack,
    ):
        waiting = [
            stack.enter_context(open_slowly(bridge, "/static/css/main.css")) for _ in range(9)
        ]
        for _ in range(3):
            assert bridge.ask("/other").headers["x-from"] == kind
            assert bridge.ask("/static/css/main.css", method="POST").headers["x-from"] == kind
        wait_until(lambda: bridge.figures().queue_seconds > 0)
        answers.set()
        assert [read_answer(it).body for it in waiting] == [b"body {}"] * 9


def test_files_are_in_the_access_log(site: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving("wsgi", site, access_log=True, access_log_format="json") as bridge:
        for path, more in (
            ("/static/css/main.css", {"REQUEST_URI": "/static/css/main.css?x=1"}),
            ("/static/large.bin", {"HTTP_RANGE": "bytes=0-9"}),
            ("/static/none", {}),
        ):
            bridge.ask(path, **more)
            wait_until(lambda: bridge.figures().in_flight == 0)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(it["path"], it["status"], it["bytes"], it["complete"]) for it in lines] == [
        ("/static/css/main.css", 200, 7, True),
        ("/static/large.bin", 206, 10, True),
        ("/static/none", 404, 21, True),
    ]


@pytest.mark.parametrize("where", ["", "/css"])
def test_offload_covers_the_same_directory_or_one_above(site: Path, where: str) -> None:
    settings: dict[str, Any] = {
        "static": (f"/static={site}{where}", f"/other={site.parent}/other"),
        "offload": (f"/protected={site}",),
    }
    (site.parent / "other").mkdir()
    (site.parent / "other" / "x.css").write_text("x")
    (site / "css" / "caf\xe9 1%.css").write_text("x")
    (site / "css" / "link.css").symlink_to("main.css")
    prefix = "/static" if where else "/static/css"
    with serving("wsgi", site, **settings) as bridge:
        answer = bridge.ask(f"{prefix}/main.css", HTTP_IF_NONE_MATCH="*", HTTP_RANGE="bytes=0-1")
        assert (answer.seen, answer.body) == (200, b"")
        assert answer.headers == {
            "content-type": "text/css",
            "x-accel-redirect": "/protected/css/main.css",
        }
        assert (
            bridge.ask(f"{prefix}/link.css").headers["x-accel-redirect"]
            == "/protected/css/main.css"
        )
        odd = bridge.ask(f"{prefix}/" + "caf\xe9 1%.css".encode().decode("latin-1"))
        assert odd.headers["x-accel-redirect"] == "/protected/css/caf%C3%A9%201%25.css"
        assert bridge.ask(f"{prefix}/none.css").headers["x-from"] == "wsgi"
        own = bridge.ask("/other/x.css")
        assert (own.seen, own.body) == (200, b"x")


def test_many_at_once(site: Path) -> None:
    with serving("wsgi", site, "unix", static_threads=2) as bridge:
        wrong: list[object] = []

        def many() -> None:
            for number in range(100):
                path = ("/static/css/main.css", "/static/none", "/other", "/static/large.bin")[
                    number % 4
                ]
                answer = ask(bridge.address, path)
                if answer.seen != (200 if number % 4 in {0, 3} else 404):
                    wrong.append((path, answer))

        threads = [threading.Thread(target=many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        wait_until(lambda: bridge.figures().in_flight == 0)
        assert bridge.figures().requests == 800
