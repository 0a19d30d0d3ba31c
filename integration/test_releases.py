"""Releases in directories of their own, to which a link is switched: a Python file, its own environment and its variables."""

from __future__ import annotations

import signal
import venv
from pathlib import Path

import pytest

from integration.process_tree import everybody
from integration.workers import EVERY_SOCKET, PATIENCE_SECONDS, Load
from tests.processes import wait_gone
from uwsgibridge.testing import LocalStack, event_with

# Answers with its version, that of a package of its environment, and the variable of its file, in one word.
APPLICATION = """
import os

import of_release

def make(version, *, of):
    def app(environ, start_response):
        start_response("200 OK", [])
        return ["/".join((version, of[0], of_release.VERSION, os.environ["RELEASE"])).encode()]
    return app

app = make("THIS", of=["file"])
"""


def release(directory: Path, version: str) -> None:
    """Make a release, and switch the link to it."""
    place = directory / version
    place.mkdir()
    (place / "app.py").write_text(APPLICATION.replace("THIS", version))
    (place / "app.env").write_text(f"# of a release\nRELEASE={version}\n")
    venv.create(place / "venv", symlinks=True)
    [packages] = (place / "venv" / "lib").glob("python*/site-packages")
    (packages / "of_release.py").write_text(f"VERSION = {version!r}\n")
    (directory / "next").symlink_to(version)
    (directory / "next").rename(directory / "current")


@EVERY_SOCKET
@pytest.mark.parametrize("app", ["app.py", "app.py:make('two', of=['call'])"], ids=["file", "call"])
def test_no_request_is_lost_when_a_link_is_switched(
    tmp_path: Path, kind_of_socket, app: str
) -> None:
    release(tmp_path, "one")
    with LocalStack(
        app,
        app_dir=".",
        socket=kind_of_socket,
        serve_args=(
            *("--workers", "2", "--chdir", f"{tmp_path}/current", "--virtualenv", "venv"),
            *(
                "--env-file",
                "app.env",
                "--control-socket",
                "none",
                "--graceful-timeout-seconds",
                "30s",
            ),
        ),
        environment={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as stack:
        begins = "two/call/" if "call" in app else "{}/file/"
        expected = {begins.format("one") + "one/one"}
        with Load(stack.url, threads=8, pause_seconds=0.02) as load:
            # A reload keeps the variables, and an upgrade reads them anew.
            for version, number, word in (
                ("two", signal.SIGHUP, "two/one"),
                ("three", signal.SIGUSR2, "three/three"),
            ):
                release(tmp_path, version)
                since, old = len(stack.log_events()), everybody(stack.pid)
                stack.bridge.signal(number)
                stack.wait_for_event(
                    event_with(event="reloaded"), since=since, timeout_seconds=PATIENCE_SECONDS
                )
                assert all(wait_gone(pid, PATIENCE_SECONDS) for pid in old)
                expected.add(begins.format(version) + word)
        assert set(load.seen) == expected, stack.bridge_log[-3000:]
        with Load(stack.url) as load:
            pass
        assert set(load.seen) == {begins.format("three") + "three/three"}
        assert stack.stop() == 0
