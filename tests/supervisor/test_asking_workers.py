"""What an operator is told of the workers of a real supervisor, also of one that does not answer."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.gil import looks_at_frames
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import ask, connect, packet
from uwsgibridge.control.client import CommandRefusedError, ControlConnection

# `/stands/N` says that it has come, and waits until the socket that it has said so to is closed. `/blocks/N` keeps the
# whole event loop waiting.
APPLICATION = """
import asyncio, json, os, socket

SOCKET = os.environ["TOLD"]

async def app(scope, receive, send):
    assert scope["type"] == "http"
    with socket.socket(socket.AF_UNIX) as told:
        told.connect(SOCKET)
        told.sendall(b"%s %d\\n" % (scope["path"].encode(), os.getpid()))
        if scope["path"].startswith("/blocks"):
            told.recv(1)
        else:
            await stands(told)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})

async def stands(told):
    told.setblocking(False)
    await asyncio.get_running_loop().sock_recv(told, 1)
"""


class Site:
    """A supervisor with two workers, and the requests that wait in them."""

    def __init__(
        self, directory: Path, bridge: BridgeProcess, control: Path, told: socket.socket
    ) -> None:
        self.directory = directory
        self.bridge = bridge
        self._control = control
        self._told = told

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        with ControlConnection(self._control) as connection:
            return connection.ask(command, timeout_seconds=PATIENCE_SECONDS, **arguments)

    @contextmanager
    def waiting(self, *paths: str) -> Iterator[dict[str, int]]:
        """Have requests in flight; give the process of each."""
        found = {}
        with ExitStack() as stack:
            for path in paths:
                frontend = stack.enter_context(connect(self.bridge.address))
                frontend.sendall(packet(path))
                held, _ = self._told.accept()
                stack.enter_context(held)
                word, pid = held.recv(1_000).split()
                found[word.decode()] = int(pid)
            yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("s")
    (directory / "site_app.py").write_text(APPLICATION)
    (directory / "uwsgibridge.toml").write_text("threads = 3\n")
    control = directory / "c"
    with socket.socket(socket.AF_UNIX) as told:
        told.bind(str(directory / "t"))
        told.listen()
        told.settimeout(PATIENCE_SECONDS)
        with running_process(
            *("serve", "site_app:app", "--bind", "127.0.0.1:0", "--log-format", "json"),
            *("--workers", "2", "--control-socket", str(control), "--lifespan", "off"),
            *(
                "--env",
                "TOKEN=secret",
                "--tracemalloc",
                "1",
                "--access-log-file",
                str(directory / "log"),
            ),
            *("--status-bind", f"unix:{directory / 'p'}"),
            *("--loop", "asyncio", "--loop-block-warning-seconds", "0"),
            directory=directory,
            environment={"TOLD": str(directory / "t"), "UWSGIBRIDGE_BACKLOG": "99"},
        ) as bridge:
            bridge.events.wait_many(2, event="worker started")
            yield Site(directory, bridge, control, told)


def test_requests_of_all_workers_are_told_the_oldest_first(site: Site) -> None:
    paths = [f"/stands/{number}" for number in range(6)]
    with site.waiting(*paths) as pids:
        answer = site.ask("requests")
        assert [it["path"] for it in answer["requests"]] == paths
        assert {it["path"]: it["pid"] for it in answer["requests"]} == pids
        assert [it["age_seconds"] for it in answer["requests"]] == sorted(
            (it["age_seconds"] for it in answer["requests"]), reverse=True
        )
        assert answer["left_out"] == 0
        few = site.ask("requests", limit=2, stacks=True)
        assert [it["path"] for it in few["requests"]] == paths[:2]
        assert few["left_out"] == 4
        assert all("in stands\n" in it["stack"] for it in few["requests"])
        assert site.ask("requests", older_seconds=3_600)["requests"] == []
    assert site.ask("requests", older_seconds=3_600)["left_out"] == 0


def test_of_a_worker_that_does_not_answer_its_flight_recorder_tells(site: Site) -> None:
    with site.waiting("/blocks/1") as pids, site.waiting("/stands/1", "/stands/2"):
        answer = site.ask("requests", older_seconds=3_600)
        [stuck] = answer["requests"]
        assert (stuck["path"], stuck["pid"]) == ("/blocks/1", pids["/blocks/1"])
        assert (stuck["phase"], stuck["age_seconds"]) == ("stuck", None)
        assert [it["phase"] for it in site.ask("requests")["requests"]] == [
            "stuck",
            "application",
            "application",
        ]


def test_config_says_where_each_value_came_from(site: Site) -> None:
    options = {it["option"]: it for it in site.ask("config")["options"]}
    assert options["--workers"]["origin"] == "command line"
    assert options["--workers"]["value"] == 2
    assert options["--backlog"]["origin"] == "environment (UWSGIBRIDGE_BACKLOG)"
    assert options["--threads"]["origin"] == f"file ({site.directory / 'uwsgibridge.toml'})"
    assert options["--preload"] == {
        "option": "--preload",
        "value": False,
        "is_default": True,
        "origin": "default",
    }
    assert options["--env"]["value"] == ["TOKEN=(hidden)"]
    assert "secret" not in str(options)


def test_reopen_makes_the_log_file_anew(site: Site) -> None:
    log = site.directory / "log"
    log.rename(site.directory / "log.1")
    assert site.ask("reopen")["reopened"] == [str(log)]
    site.bridge.events.wait(event="log file opened anew")
    wait_for(log.exists)


def test_a_worker_that_is_killed_ends_its_requests_and_is_replaced(site: Site) -> None:
    before = {it["pid"] for it in site.ask("status")["workers"]}
    with site.waiting("/stands/1") as pids:
        [pid] = pids.values()
        ended: list[dict[str, Any]] = []
        killing = threading.Thread(target=lambda: ended.append(site.ask("kill", pid=pid)))
        killing.start()
        wait_for(lambda: [it["state"] for it in workers(site) if it["pid"] == pid] == ["stopping"])
        # Its successor does not wait for its requests.
        wait_for(lambda: sum(it["state"] == "ready" for it in workers(site)) == 2)
        assert not ended
    killing.join(PATIENCE_SECONDS)
    assert ended == [{"ok": True, "ended": pid}]
    after = {it["pid"] for it in workers(site)}
    assert pid not in after
    assert len(after - before) == 1
    assert site.ask("status")["crashed"] == 0


def test_a_worker_that_is_killed_now_breaks_its_requests_off(site: Site) -> None:
    with site.waiting("/stands/1") as pids:
        [pid] = pids.values()
        assert site.ask("kill", pid=pid, now=True) == {"ok": True, "ended": pid}


@looks_at_frames
def test_workers_are_profiled_while_they_work(site: Site) -> None:
    with site.waiting("/blocks/1") as pids:
        [pid] = pids.values()
        found = {it["pid"]: it for it in site.ask("profile", seconds=0.05)["profiles"]}
        assert "is blocked" in found.pop(pid)["error"]
        [other] = found.values()
        assert other["samples"] >= 1
        with pytest.raises(CommandRefusedError, match="is blocked"):
            site.ask("profile", seconds=0.05, worker=pid)
    with pytest.raises(CommandRefusedError, match="no worker has the pid"):
        site.ask("profile", seconds=0.05, worker=os.getpid())


def test_memory_is_told_of_one_worker(site: Site) -> None:
    pids = sorted(it["pid"] for it in workers(site) if it["state"] == "ready")
    first = site.ask("memory", worker=pids[0], lines=2)
    assert first["since_seconds"] is None
    assert len(first["lines"]) == 2
    assert first["traced_bytes"] > 0
    assert site.ask("memory", worker=pids[0])["since_seconds"] > 0
    with pytest.raises(CommandRefusedError, match=r"name a worker \(--worker PID\): there are"):
        site.ask("memory")


def test_the_live_page_is_at_the_status_socket(site: Site) -> None:
    status = f"unix:{site.directory / 'p'}"
    page = ask(status, "/-/status/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.headers["content-security-policy"].startswith(
        "default-src 'none'; script-src 'self'"
    )
    for name in ("live.js", "live.css"):
        assert name.encode() in page.body
        assert ask(status, f"/-/status/{name}").status == 200
    with site.waiting("/stands/<script>") as pids:
        answer = json.loads(ask(status, "/-/status/requests.json").body)
        assert [(it["path"], it["pid"]) for it in answer["requests"]] == list(pids.items())
    assert len(json.loads(ask(status, "/-/status/status.json").body)["workers"]) == 2


def test_nobody_else_is_killed(site: Site) -> None:
    with pytest.raises(
        CommandRefusedError, match=f"no worker has the pid {os.getpid()}; there are"
    ):
        site.ask("kill", pid=os.getpid())


def workers(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = site.ask("status")["workers"]
    return found


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
