"""Processes and threads that an application starts as it is imported, as the system sees them."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.processes import children_of
from uwsgibridge.client import request
from uwsgibridge.system.forking import fork_process
from uwsgibridge.system.process_group import group_of_its_own, members_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

PATIENCE_SECONDS = 60.0

# The variable by which all that comes of a service is found.
TOKEN = "TEST_TOKEN"

APPLICATION = """
import multiprocessing, os, signal, subprocess, time

context = multiprocessing.get_context("fork")

def stay():
    time.sleep(1000)

manager = context.Manager()
shared = manager.dict()
shared["import"] = os.getpid()
pool = context.Pool(1)
context.Process(target=stay, daemon=True).start()
context.Process(target=stay).start()
subprocess.Popen(["sleep", "1000"])
subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 1000; sleep 1000"])

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/job":
        nowhere = subprocess.DEVNULL
        job = subprocess.Popen(["sleep", "1000"], stdout=nowhere, stderr=nowhere)
        return [str(job.pid).encode()]
    if environ["PATH_INFO"] == "/workers":
        shared[os.getpid()] = True
        return [" ".join(map(str, shared.keys())).encode()]
    return [str(os.getpid()).encode()]
"""

THREAD = """
import threading

threading.Thread(target=threading.Event().wait, name="loop of a library", daemon=True).start()

def app(environ, start_response):
    start_response("200 OK", [])
    return []
"""


def wait_for(is_so: Callable[[], bool], why: Callable[[], object]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert monotonic() < deadline, why()
        sleep(0.02)


def processes_of(token: str) -> dict[int, str]:
    """The processes that a service, or what it has started, consists of; by number."""
    found = {}
    mark = f"{TOKEN}={token}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes():
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                if command:  # not one that has ended
                    found[int(process.name)] = command.decode()
    return found


@pytest.fixture
def token() -> Iterator[str]:
    token = secrets.token_hex(8)
    yield token
    for pid in processes_of(token):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def service(
    directory: Path, token: str, *options: str, code: str = APPLICATION
) -> Iterator[BridgeProcess]:
    (directory / "site_.py").write_text(code)
    with running_process(
        "serve", "site_:app", "--bind", "unix:s", "--control-socket", "none", "--workers", "2",
        *options,
        directory=directory, environment={TOKEN: token},
    ) as process:  # fmt: skip
        process.events.wait(event="listening")
        yield process


PRELOAD = pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["forked", "preloaded"])


@PRELOAD
def test_they_are_gone_after_a_stop(tmp_path: Path, token: str, preload: tuple[str, ...]) -> None:
    with service(tmp_path, token, *preload) as process:
        begun = monotonic()
        assert process.stop() == 0
        assert monotonic() - begun < 20  # not the graceful time
        assert processes_of(token) == {}
        said = process.events.text()
    assert "Traceback" not in said
    assert "AssertionError" not in said
    assert "can only join" not in said


@PRELOAD
def test_they_are_gone_after_a_reload(tmp_path: Path, token: str, preload: tuple[str, ...]) -> None:
    with service(tmp_path, token, *preload) as process:
        before = set(processes_of(token)) - {process.pid}
        process.signal(signal.SIGHUP)
        process.events.wait(event="generation has ended")
        assert set(processes_of(token)) & before == set()
        assert process.stop() == 0


@PRELOAD
def test_they_are_gone_when_the_supervisor_is_killed(
    tmp_path: Path, token: str, preload: tuple[str, ...]
) -> None:
    with service(tmp_path, token, *preload) as process:
        process.signal(signal.SIGKILL)
        wait_for(lambda: not processes_of(token), lambda: processes_of(token))


def test_those_of_a_worker_that_is_killed_are_gone(tmp_path: Path, token: str) -> None:
    with service(tmp_path, token) as process:
        worker = int(request(f"unix:{tmp_path}/s").body)
        its = members_of(worker)
        assert len(its) >= 6
        os.kill(worker, signal.SIGKILL)
        process.events.wait(event="worker ended")
        # The one that ignores SIGTERM stays until the template ends.
        wait_for(lambda: len(members_of(worker)) <= 2, lambda: members_of(worker))
        assert process.stop() == 0
        assert processes_of(token) == {}


@pytest.mark.parametrize("template_is", ["killed", "stopped"])
def test_those_of_a_worker_are_gone_though_no_template_sees_its_end(
    tmp_path: Path, token: str, template_is: str
) -> None:
    with service(tmp_path, token) as process:
        (template,) = children_of(process.pid)
        workers = children_of(template)
        before = {pid for worker in workers for pid in members_of(worker)}
        assert len(before) >= 12
        os.kill(template, signal.SIGKILL if template_is == "killed" else signal.SIGSTOP)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        process.events.wait(event="reloaded")
        process.events.wait(event="generation has ended")
        wait_for(
            lambda: not set(processes_of(token)) & before,
            lambda: set(processes_of(token)) & before,
        )
        assert process.stop() == 0
        assert processes_of(token) == {}


def test_those_of_a_preload_are_there_for_all_workers_while_one_serves(
    tmp_path: Path, token: str
) -> None:
    with service(tmp_path, token, "--preload") as process:
        url = f"unix:{tmp_path}/s"
        workers: set[str] = set()
        while len(workers) < 2:
            workers.add(request(url).body.decode())
        os.kill(int(min(workers)), signal.SIGTERM)  # in order, as at a recycling
        wait_for(
            lambda: (
                len({request(url).body for _ in range(5)} - {it.encode() for it in workers}) > 0
            ),
            lambda: workers,
        )
        seen = request(url, "/workers").body.decode().split()
        assert "import" in seen
        assert process.stop() == 0


@PRELOAD
def test_what_a_request_has_started_outlives_a_reload(
    tmp_path: Path, token: str, preload: tuple[str, ...]
) -> None:
    """As a job in the background that an application does not wait for."""
    with service(tmp_path, token, *preload) as process:
        job = int(request(f"unix:{tmp_path}/s", "/job").body)
        process.signal(signal.SIGHUP)
        process.events.wait(event="generation has ended")
        assert job in processes_of(token)
        assert process.stop() == 0
        assert list(processes_of(token)) == [job]


@PRELOAD
def test_they_hold_no_socket_of_the_server(
    tmp_path: Path, token: str, preload: tuple[str, ...]
) -> None:
    """Else connections would wait there for ever after a stop."""
    with service(tmp_path, token, *preload) as process:
        (inode,) = {
            it.split()[6]
            for it in Path("/proc/net/unix").read_text().splitlines()
            if it.endswith(f" s.{process.pid % 1000}")  # under which it was bound
        }
        (template,) = children_of(process.pid)
        started = (
            set(members_of(template)) - {template}
            if preload
            else {it for worker in children_of(template) for it in members_of(worker)}
        )
        assert len(started) >= 6
        assert inode in sockets_of(process.pid)
        assert [it for it in started if inode in sockets_of(it)] == []
        assert process.stop() == 0


def sockets_of(pid: int) -> set[str]:
    links = set()
    with contextlib.suppress(OSError):
        for it in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                links.add(str(it.readlink()))
    return {it.removeprefix("socket:[").removesuffix("]") for it in links if "socket:" in it}


@pytest.mark.parametrize("count", [0, 1])
def test_threads_that_a_preload_starts_are_named(tmp_path: Path, token: str, count: int) -> None:
    code = THREAD if count else THREAD.replace(".start()", "")
    with service(tmp_path, token, "--preload", code=code) as process:
        assert process.stop() == 0
        told = process.events.find(option="--preload")
    assert [it["threads"] for it in told] == [["loop of a library"]] * count
    assert all("--on-fork" in it["event"] for it in told)


def test_threads_that_a_preload_starts_end_no_template_where_warnings_are_errors(
    tmp_path: Path, token: str
) -> None:
    """Python 3.15 raises the warning about threads in the template, which has forked by then."""
    code = THREAD + "import warnings\nwarnings.simplefilter('error', DeprecationWarning)\n"
    with service(tmp_path, token, "--preload", code=code) as process:
        assert process.stop() == 0
        said = process.events.text()
    assert "DeprecationWarning" not in said


def test_the_watchdog_that_a_preload_starts_keeps_no_worker_from_its_end(
    tmp_path: Path, token: str
) -> None:
    """The thread of `dump_traceback_later` does not survive a fork, and the end of Python waits for it."""
    code = "import faulthandler\nfaulthandler.dump_traceback_later(1000, repeat=True)\n" + THREAD
    options = ("--preload", "--graceful-timeout-seconds", "1")
    with service(tmp_path, token, *options, code=code) as process:
        process.signal(signal.SIGHUP)
        process.events.wait(event="generation has ended")
        assert process.stop() == 0
        assert process.events.find(level="error") == []


def test_group_of_its_own_is_left_again() -> None:
    before = os.getpgrp()
    child = fork_process()
    if child == 0:
        status = 1
        try:
            with group_of_its_own():
                inside = os.getpgrp()
            status = 0 if (inside, os.getpgrp()) == (os.getpid(), before) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
