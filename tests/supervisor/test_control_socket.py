"""Where a supervisor takes commands, and what the log says where it is not the usual place."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.config.settings import Settings
from uwsgibridge.errors import BindError
from uwsgibridge.supervisor.control_socket import ControlSocket


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # pytest's own paths may be too long for a unix socket.
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setattr("tempfile.tempdir", directory)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        yield Path(directory)


def played(place: str, *, must_open: bool = True) -> tuple[set[Path], list[dict[str, Any]]]:
    """Give the sockets that there are while commands are taken, and the log."""
    commands: Any = None  # nobody asks

    def sockets() -> set[Path]:
        return set(Path(tempfile.gettempdir()).rglob("*.sock"))

    async def main() -> set[Path]:
        control = ControlSocket(Settings(control_socket=place), commands, structlog.get_logger())
        with trio.fail_after(PATIENCE_SECONDS), contextlib.ExitStack() as stack:
            async with trio.open_nursery() as nursery:
                control.open_named(stack, must_open=must_open)
                await control.answer(nursery)
                found = sockets()
                nursery.cancel_scope.cancel()
        control.remove_default()
        return found

    with structlog.testing.capture_logs() as log:
        return trio.run(main), [dict(event) for event in log]


def test_without_a_place_it_is_where_ctl_looks(temporary: Path) -> None:
    sockets, log = played("")
    assert (sockets, log) == ({temporary / f"uwsgibridge-{os.geteuid()}/{os.getpid()}.sock"}, [])
    assert list(temporary.iterdir()) == []


def test_a_named_one_is_there_and_no_other(temporary: Path) -> None:
    place = temporary / "mine.sock"
    assert played(str(place)) == ({place}, [])
    assert list(temporary.iterdir()) == []


def test_there_may_be_none(temporary: Path) -> None:
    assert played("none") == (set(), [])


def test_a_named_one_that_can_not_be_had_ends_a_start_and_no_upgrade(temporary: Path) -> None:
    place = f"{temporary}/nowhere/mine.sock"
    with pytest.RaisesGroup(pytest.RaisesExc(BindError, match="--control-socket: ")):
        played(place)
    sockets, [event] = played(place, must_open=False)
    assert not sockets
    assert (event["event"], event["log_level"]) == ("no control socket", "warning")
    assert event["reason"].startswith("--control-socket: ")


def test_a_directory_that_is_passed_over_is_an_event(temporary: Path) -> None:
    directory = temporary / f"uwsgibridge-{os.geteuid()}"
    directory.mkdir(mode=0o755)
    sockets, [event] = played("")
    assert not sockets
    assert (event["event"], event["log_level"]) == ("no control socket", "warning")
    assert event["option"] == "--control-socket"
    assert event["reason"].startswith(f"{directory}: its mode is 755")


def test_another_place_is_an_event(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = temporary / "run"
    (elsewhere / "uwsgibridge").mkdir(parents=True, mode=0o755)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(elsewhere))
    [path], [event] = played("")
    assert event["event"] == "control socket is not in its usual place"
    assert event["path"] == str(path)
    assert str(path).startswith(f"{temporary}/uwsgibridge-")
    assert event["reason"].startswith(f"{elsewhere}/uwsgibridge: its mode is 755")
