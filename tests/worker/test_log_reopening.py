"""SIGUSR1 opens the log's file anew, also where the application has a use of its own for that signal."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.log_events import PATIENCE_SECONDS
from tests.raw_client import ask

APP = """
import faulthandler
import os
import signal
import sys


def tell(text):
    sys.stderr.write(f"{text}\\n")


def take_signal():
    if os.environ["HOW"] == "faulthandler":
        faulthandler.register(signal.SIGUSR1, file=sys.stdout)
    else:
        signal.signal(signal.SIGUSR1, lambda number, frame: tell("the application's handler"))


if os.environ["WHERE"] == "import":
    take_signal()


def app(environ, start_response):
    tell(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
"""

HOWS = pytest.mark.parametrize("how", ["handler", "faulthandler"])
WHERES = pytest.mark.parametrize("where", ["import", "hook"])


def serving(directory: Path, how: str, where: str, *options: str):
    (directory / "takes_usr1.py").write_text(APP)
    hook = ("--on-fork", "takes_usr1:take_signal") if where == "hook" else ()
    return running_process(
        "serve", "takes_usr1:app", "--bind", "unix:app.sock", *hook, *options,
        directory=directory, environment={"HOW": how, "WHERE": where},
    )  # fmt: skip


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline
        sleep(0.01)


def wait_for(file: Path, text: str) -> None:
    wait_until(lambda: file.exists() and text in file.read_text())


def rotate(process: BridgeProcess, log: Path) -> Path:
    """Do what logrotate does; give the old file."""
    old = log.with_suffix(".1")
    log.rename(old)
    process.signal(signal.SIGUSR1)
    wait_until(log.exists)
    return old


def reaches(address: str, file: Path) -> Callable[[], bool]:
    """Make a condition: what a request writes reaches the file. The worker may hear of the signal after the first one."""

    def asks() -> bool:
        ask(address, "/meanwhile")
        return "/meanwhile" in file.read_text()

    return asks


@HOWS
@WHERES
@pytest.mark.parametrize(
    "options",
    [("--workers", "0"), ("--workers", "1"), ("--workers", "1", "--preload")],
    ids=["unsupervised", "forked", "preloaded"],
)
def test_application_that_has_the_signal_writes_to_the_new_file(
    options: tuple[str, ...], how: str, where: str, tmp_path: Path
) -> None:
    log, address = tmp_path / "app.log", f"unix:{tmp_path / 'app.sock'}"
    with serving(tmp_path, how, where, "--log-file", str(log), *options) as process:
        wait_for(log, "listening")
        ask(address, "/before")
        old = rotate(process, log)
        wait_until(reaches(address, log))
        ask(address, "/after")
        assert process.stop() == 0

    assert "/before" in old.read_text()
    assert "/after" in log.read_text()
    assert "/after" not in old.read_text()


@HOWS
def test_worker_that_a_template_forks_later_has_the_new_file(how: str, tmp_path: Path) -> None:
    """The template has the application in memory, and its handlers."""
    log, address = tmp_path / "app.log", f"unix:{tmp_path / 'app.sock'}"
    options = ("--log-file", str(log), "--workers", "1", "--preload")
    with serving(tmp_path, how, "import", *options) as process:
        wait_for(log, "listening")
        old = rotate(process, log)
        wait_until(reaches(address, log))
        os.kill(int(ask(address).body), signal.SIGKILL)
        wait_for(log, "worker started")
        ask(address, "/later")
        wait_for(log, "/later")
        assert process.stop() == 0

    assert "worker started" in old.read_text()
    assert "/later" not in old.read_text()
    assert old.read_text().count("worker started") == 1


@WHERES
@pytest.mark.parametrize("files", [("--log-file", "app.log"), ()], ids=["file", "no-file"])
def test_handler_of_the_application_is_called_as_well(
    files: tuple[str, ...], where: str, tmp_path: Path
) -> None:
    """After the file is opened anew; and where there is no file to open."""
    address = f"unix:{tmp_path / 'app.sock'}"
    with serving(tmp_path, "handler", where, "--workers", "0", *files) as process:
        if files:
            log = tmp_path / "app.log"
            wait_for(log, "listening")
            old = rotate(process, log)
            wait_for(log, "the application's handler")
            assert "the application's handler" not in old.read_text()
        else:
            process.events.wait(event="listening")
            process.signal(signal.SIGUSR1)
            wait_until(lambda: "the application's handler" in process.events.other_text())
        assert ask(address).status == 200
        assert process.stop() == 0
