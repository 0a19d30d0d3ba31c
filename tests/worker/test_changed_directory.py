"""Paths of options are relative to the directory of the start, also where the application changes to another one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import Answer, ask

# As applications do that were written for a server which starts anywhere.
APP = """
import os

os.chdir(os.environ["ELSEWHERE"])


def app(environ, start_response):
    headers = [("Content-Type", "text/plain")]
    if environ["PATH_INFO"] == "/offloaded":
        headers.append(("X-Sendfile", os.environ["FILE"]))
    start_response("200 OK", headers)
    return [b"of the application"]


def hook():
    print("the hook runs", flush=True)
"""

EVERY_WAY = pytest.mark.parametrize(
    "way",
    [("--workers", "0"), ("--workers", "1"), ("--workers", "1", "--preload")],
    ids=["unsupervised", "forked", "preloaded"],
)


@pytest.fixture
def start(tmp_path: Path, way: tuple[str, ...]) -> Callable[..., object]:
    (tmp_path / "code").mkdir()
    for name in ("first", "second"):
        (tmp_path / "code" / f"{name}.py").write_text(APP)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "text").write_text("of the file")
    (tmp_path / "elsewhere").mkdir()

    def start(*options: str):
        return running_process(
            "serve", "first:app", "--bind", "unix:app.sock", "--app-dir", "code", *way, *options,
            directory=tmp_path,
            environment={
                "ELSEWHERE": str(tmp_path / "elsewhere"),
                "FILE": str(tmp_path / "files" / "text"),
            },
        )  # fmt: skip

    return start


def answer_of(process: BridgeProcess, directory: Path, path: str) -> Answer:
    process.events.wait(event="listening")
    return ask(f"unix:{directory / 'app.sock'}", path)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline
        sleep(0.01)


@EVERY_WAY
def test_files_are_those_of_the_directory_that_was_meant(start, tmp_path: Path):
    with start("--static", "/static=files") as process:
        assert answer_of(process, tmp_path, "/static/text").body == b"of the file"
        assert process.stop() == 0

    assert process.events.find(level="warning") == []
    assert not (tmp_path / "app.sock").exists()


@EVERY_WAY
def test_files_are_left_to_nginx_in_the_directory_that_was_meant(start, tmp_path: Path):
    with start("--offload", "/protected=files") as process:
        answer = answer_of(process, tmp_path, "/offloaded")
        assert answer.headers["x-accel-redirect"] == "/protected/text"
        assert process.stop() == 0


@EVERY_WAY
def test_logs_are_there_before_and_after_they_are_moved(start, tmp_path: Path):
    with start("--log-file", "log", "--access-log-file", "access") as process:
        log, access = tmp_path / "log", tmp_path / "access"
        wait_until(lambda: log.exists() and "listening" in log.read_text())
        address = f"unix:{tmp_path / 'app.sock'}"
        ask(address, "/before")
        wait_until(lambda: "/before" in access.read_text())
        for file in (log, access):
            file.rename(file.with_suffix(".1"))
        process.signal(signal.SIGUSR1)

        def reaches_the_new_one() -> bool:
            ask(address, "/after")
            return access.exists() and "/after" in access.read_text()

        wait_until(reaches_the_new_one)
        wait_until(log.exists)
        assert process.stop() == 0

    assert "stopped" in log.read_text()
    assert not list((tmp_path / "elsewhere").iterdir())


@EVERY_WAY
def test_code_of_further_applications_and_hooks_is_found(start, tmp_path: Path):
    options = ("--mount", "/second=second:app", "--on-fork", "second:hook")
    with start(*options) as process:
        assert answer_of(process, tmp_path, "/second").status == 200
        assert process.stop() == 0

    assert "the hook runs" in process.events.other_text()


@EVERY_WAY
def test_figures_are_published_there(start, tmp_path: Path):
    with start("--metrics-file", "figures.prom") as process:
        process.events.wait(event="listening")
        wait_until((tmp_path / "figures.prom").exists)
        assert process.stop() == 0

    assert not list((tmp_path / "elsewhere").iterdir())
