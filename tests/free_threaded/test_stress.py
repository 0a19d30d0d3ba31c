"""Many threads and many clients at once: what the bridge counts is exactly what the clients have seen.

These tests hold with the GIL as well. They are for a Python without it (`make test-free-threaded`), where a count or a table that
two threads change at a time would go wrong.
"""

from __future__ import annotations

import io
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from tests.bridge import Bridge, on_each_socket, running
from tests.bridge_process import running_process
from tests.log_events import EVENT_SECONDS, PATIENCE_SECONDS
from tests.raw_client import ask, connect, packet, read_answer, reset
from uwsgibridge.client import ping
from uwsgibridge.fast import PURE_VARIABLE
from uwsgibridge.hosts.wsgi import serving
from uwsgibridge.system.interpreter import runs_without_gil

THREADS: Final = 8
CLIENTS: Final = 8
# With the GIL, there is not much to be found.
LIMIT_SECONDS: Final = 0.03
ROUNDS: Final = 60 if runs_without_gil() else 8
KIB: Final = 1024
LARGE: Final = bytes(range(256)) * 1200


def application(environ: Any, start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path == "/raises":
        raise ValueError(path)
    if path == "/upload":
        body = b"%d" % len(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    if path == "/items":
        start_response("200 OK", [("Content-Length", "5")])
        return iter([b"items"])
    if path == "/file":
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](io.BytesIO(LARGE))
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":
        return (b"%d\n" % number for number in range(50))
    if path == "/endless":
        return iter(lambda: bytes(KIB), None)
    return [b"plain " + environ["QUERY_STRING"].encode()]


def plain(address: str, name: str) -> None:
    assert ask(address, QUERY_STRING=name).body == b"plain " + name.encode()


def upload(address: str, _name: str) -> None:
    body = bytes(random.randrange(300 * KIB))
    assert ask(address, "/upload", method="POST", body=body).body == b"%d" % len(body)


def items(address: str, _name: str) -> None:
    assert ask(address, "/items").body == b"items"


def file(address: str, _name: str) -> None:
    assert ask(address, "/file").body == LARGE


def stream(address: str, _name: str) -> None:
    assert ask(address, "/stream").body.count(b"\n") == 50


def raises(address: str, _name: str) -> None:
    assert ask(address, "/raises").status == 500


def leaves(address: str, _name: str) -> None:
    with connect(address) as connection:
        connection.sendall(packet("/endless"))
        assert connection.recv(KIB)
        reset(connection)


def in_pieces(address: str, _name: str) -> None:
    whole = packet()
    with connect(address) as connection:
        for byte in (whole[:7], whole[7:]):
            connection.sendall(byte)
        assert read_answer(connection).status == 200


def refused(address: str, _name: str) -> None:
    assert ask(address, CONTENT_LENGTH="x").status == 400


def only_connects(address: str, _name: str) -> None:
    connect(address).close()


def pings(address: str, _name: str) -> None:
    ping(address)


# Whether each of them is a request that an application gets.
ASKED: Final[dict[Callable[[str, str], None], bool]] = {
    **dict.fromkeys((plain, upload, items, file, stream, raises, leaves, in_pieces), True),
    **dict.fromkeys((refused, only_connects, pings), False),
}


def ask_all(address: str) -> Counter[Callable[[str, str], None]]:
    """Have many clients ask all of this, and give how often each was asked for."""

    def run(client: int) -> Counter[Callable[[str, str], None]]:
        order = random.Random(client)
        asked = [it for it in ASKED for _ in range(ROUNDS // 4)] + [plain] * ROUNDS
        order.shuffle(asked)
        for number, one in enumerate(asked):
            one(address, f"{client}-{number}")
        return Counter(asked)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return sum(pool.map(run, range(CLIENTS)), Counter())


def wait_idle(bridge: Bridge) -> None:
    """Wait until no request is in flight any more: each has its line in the log then."""
    over = threading.Event()
    for _ in range(int(PATIENCE_SECONDS * 100)):
        if not bridge.figures().in_flight:
            return
        over.wait(0.01)
    raise AssertionError(bridge.stacks())


@on_each_socket
def test_what_is_counted_is_what_was_asked(family: str) -> None:
    with running(application, family, threads=THREADS, log_level="debug") as bridge:
        asked = ask_all(bridge.address)
        wait_idle(bridge)
        figures = bridge.figures()
        # A `leaves` whose first write was noticed too late has left all the same.
        assert figures.requests == sum(count for one, count in asked.items() if ASKED[one])
        assert figures.app_errors == asked[raises]
        assert figures.client_gone == asked[leaves]
        assert sum(figures.refused.values()) == asked[refused]
        # A thread writes the line when the request has left the table.
        written = bridge.events.wait_many(figures.requests + asked[refused], event="request")
    lines = Counter((line["path"], line["complete"]) for line in written)
    assert lines["/endless", False] == asked[leaves]
    assert lines["/", True] == asked[plain] + asked[in_pieces] + asked[refused]
    assert len(bridge.events.find(event="request")) == len(written)


def test_a_request_ends_once_that_is_given_up_as_it_ends() -> None:
    def sleeps(environ: Any, start_response: Any) -> Any:
        time.sleep(float(environ["QUERY_STRING"]))
        start_response("200 OK", [("Content-Length", "4")])
        return [b"done"]

    with running(
        sleeps, "unix", threads=THREADS, request_timeout_seconds=LIMIT_SECONDS, log_level="debug"
    ) as bridge:

        def run(client: int) -> Counter[int | str]:
            chance = random.Random(client)
            seen: Counter[int | str] = Counter()
            for _ in range(ROUNDS):
                seconds = LIMIT_SECONDS + chance.uniform(-0.004, 0.004)
                seen[ask(bridge.address, QUERY_STRING=str(seconds)).seen] += 1
            return seen

        with ThreadPoolExecutor(THREADS) as pool:
            seen = sum(pool.map(run, range(THREADS)), Counter())
        wait_idle(bridge)
        figures = bridge.figures()
        written = bridge.events.wait_many(figures.requests, event="request")
    # An answer that has begun is broken.
    assert set(seen) <= {200, 504, "broken"}
    # Of an answer that was complete, the request may have been given up all the same.
    assert seen[504] + seen["broken"] <= figures.refused.get("request_timeout", 0)
    assert figures.requests == THREADS * ROUNDS == len(written)
    assert len(bridge.events.find(event="request")) == len(written)


def test_a_warning_is_logged_once() -> None:
    def bare(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return b"bare"

    with running(bare, "unix", threads=THREADS) as bridge, ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: bridge.ask().body, range(THREADS * 4)))
        assert answers == [b"bare"] * len(answers)
        assert len(bridge.events.find(level="warning")) == 1


def test_a_supervised_worker_counts_each_request(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'done']\n"
    )
    with running_process(
        *("serve", "served:application", "--bind", "127.0.0.1:0", "--workers", "1"),
        *("--threads", str(THREADS), "--control-socket", str(tmp_path / "c")),
        directory=tmp_path,
        environment=environment(),
    ) as process:
        address = process.address

        def run(_client: int) -> int:
            return sum(ask(address).body == b"done" for _ in range(ROUNDS * 5))

        with ThreadPoolExecutor(CLIENTS) as pool:
            answered = sum(pool.map(run, range(CLIENTS)))
        assert answered == CLIENTS * ROUNDS * 5
        assert status(tmp_path)["requests"] == answered
        assert process.stop() == 0


def environment() -> dict[str, str]:
    """Have processes go the way that the test goes: with the accelerator, or without."""
    return {PURE_VARIABLE: "1"} if vars(serving)["accelerator"] is None else {}


def status(directory: Path) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "uwsgibridge",
            "ctl",
            "--control-socket",
            directory / "c",
            "status",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=EVENT_SECONDS,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def events(log: Path, event: str) -> int:
    """Count the lines of an event in a log file."""
    text = log.read_text() if log.exists() else ""
    return text.count(f'"event": "{event}"')


def wait_for(condition: Callable[[], bool], failure: str) -> None:
    """Wait until a condition holds."""
    never, deadline = threading.Event(), time.monotonic() + EVENT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, failure
        never.wait(0.02)


def test_reloads_lose_no_request_and_no_count(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(
        "def application(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Length', '4')])\n"
        "    return [b'done']\n"
    )
    # A file takes each line at once. The reader of a pipe may be slower than the clients.
    address, log = f"unix:{tmp_path / 's'}", tmp_path / "log"
    over = threading.Event()

    def run(_client: int) -> int:
        answered = 0
        while not over.is_set():
            answer = ask(address)
            assert (answer.status, answer.body) == (200, b"done")
            answered += 1
        return answered

    with (
        running_process(
            *("serve", "served:application", "--bind", address, "--log-file", str(log)),
            *("--workers", "1", "--threads", str(THREADS), "--control-socket", str(tmp_path / "c")),
            *("--access-log", "--access-log-format", "json"),
            directory=tmp_path,
            environment=environment(),
        ) as process,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        wait_for(lambda: events(log, "listening") == 1, "it does not listen")
        clients = [pool.submit(run, client) for client in range(CLIENTS)]
        try:
            for count in range(1, 4):
                process.signal(signal.SIGHUP)
                wait_for(lambda: events(log, "reloaded") == count, log.read_text()[-4000:])  # noqa: B023
        finally:
            over.set()
        answered = sum(it.result(PATIENCE_SECONDS) for it in clients)
        # The supervisor's figures are those that each worker has told last.
        wait_for(
            lambda: status(tmp_path)["requests"] == answered, f"{answered} are not all counted"
        )
        assert process.stop() == 0
    assert events(log, "access") == answered


def test_a_worker_serves_where_the_gil_was_brought_back(tmp_path: Path) -> None:
    """As an extension module does that does not declare to do without; on other Pythons there is nothing to bring back."""
    (tmp_path / "site_.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'served']\n"
    )
    with running_process(
        *("serve", "site_:app", "--bind", "127.0.0.1:0", "--log-format", "json"),
        directory=tmp_path,
        environment={"PYTHON_GIL": "1"},
    ) as process:
        assert ask(process.address).body == b"served"
        assert process.stop() == 0
