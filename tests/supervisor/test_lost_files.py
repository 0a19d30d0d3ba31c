"""The file of a unix socket that somebody else removes or replaces, while the service goes on."""

from __future__ import annotations

import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.bridge_process import BridgeProcess, running_process
from tests.log_events import PATIENCE_SECONDS
from uwsgibridge.cli.status_table import format_status
from uwsgibridge.client import request
from uwsgibridge.control.client import ControlError, ask

APPLICATION = """
def app(environ, start_response):
    start_response("204 No Content", [])
    return []
"""

IMPATIENT = """
from uwsgibridge.supervisor import health
health._BEAT_SECONDS = 0.1
"""

LOST: dict[str, object] = {"event": "nobody can connect any more: the socket file is lost"}
REMOVED = {**LOST, "file": "removed"}
REPLACED = {**LOST, "file": "replaced"}

Start = Callable[..., AbstractContextManager[BridgeProcess]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.fixture
def start(tmp_path: Path, place: Path) -> Start:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    (tmp_path / "sitecustomize.py").write_text(IMPATIENT)

    def start(
        *arguments: str, bind: str = f"unix:{place}/s", pass_fds: tuple[int, ...] = ()
    ) -> AbstractContextManager[BridgeProcess]:
        return running_process(
            *("serve", "site_app:app", "--bind", bind, "--log-format", "json"),
            *("--workers", "1", "--control-socket", f"{place}/c", *arguments),
            directory=tmp_path,
            environment={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(tmp_path)},
            pass_fds=pass_fds,
        )

    return start


def listening(place: Path) -> dict[str, Any]:
    [told] = ask(place / "c", "status")["listening"]
    return dict(told)


def reload(place: Path) -> None:
    ask(place / "c", "reload", timeout_seconds=PATIENCE_SECONDS)


def test_a_removed_file_is_told_and_a_reload_makes_it_anew(start: Start, place: Path) -> None:
    with start() as bridge:
        address = bridge.address
        assert listening(place) == {"address": address, "waiting": 0, "lost_file": None}
        (place / "s").unlink()
        event = bridge.events.wait(**REMOVED)
        assert (event["level"], event["address"]) == ("error", address)
        assert "reload" in event["hint"]
        assert listening(place)["lost_file"] == "removed"
        shown = f"{address}: 0 waiting; its file was removed: reload, which makes it anew"
        assert shown in format_status(ask(place / "c", "status")).splitlines()

        reload(place)
        assert request(address).status == 204
        assert listening(place)["lost_file"] is None
        assert len(bridge.wait_listening(2)) == 2  # which ends the cause for `explain`
        assert bridge.stop() == 0
    assert not (place / "s").exists()
    assert len(bridge.events.find(**REMOVED)) == 1  # in some ten looks


def test_a_file_that_another_server_has_put_there_is_left_to_it(start: Start, place: Path) -> None:
    with start() as bridge, socket.socket(socket.AF_UNIX) as other:
        address = bridge.address
        other.bind(f"{place}/other")
        other.listen()
        (place / "other").rename(place / "s")
        event = bridge.events.wait(**REPLACED)
        assert "reload" in event["hint"]
        assert listening(place)["lost_file"] == "replaced"
        reload(place)
        event = bridge.events.wait(event="a socket file can't be made anew", address=address)
        assert "another process listens there" in event["reason"]
        assert bridge.stop() == 0
    assert (place / "s").is_socket()


def test_a_file_that_comes_back_is_told(start: Start, place: Path) -> None:
    with start() as bridge:
        address = bridge.address
        (place / "s").rename(place / "elsewhere")
        bridge.events.wait(**REMOVED)
        (place / "elsewhere").rename(place / "s")
        bridge.events.wait(event="the socket file is there again", address=address)
        assert request(address).status == 204
        assert bridge.stop() == 0


def test_nobody_waits_at_a_new_file_where_the_reload_has_failed(
    start: Start, place: Path, tmp_path: Path
) -> None:
    with start() as bridge:
        bridge.wait_listening(1)
        (place / "s").unlink()
        bridge.events.wait(**REMOVED)
        (tmp_path / "site_app.py").write_text("no Python")
        with pytest.raises(ControlError):
            reload(place)
        assert not (place / "s").exists()
        bridge.events.wait_many(2, **REMOVED)
        (tmp_path / "site_app.py").write_text(APPLICATION)
        reload(place)
        assert request(bridge.address).status == 204
        assert bridge.stop() == 0


def test_an_upgrade_makes_it_anew_as_well(start: Start, place: Path) -> None:
    with start() as bridge:
        address = bridge.address
        (place / "s").unlink()
        bridge.events.wait(**REMOVED)
        bridge.signal(signal.SIGUSR2)
        bridge.events.wait(event="reloaded", generation=2)
        assert request(address).status == 204
        assert bridge.stop() == 0


def test_ctl_says_what_makes_its_own_socket_anew(start: Start, place: Path) -> None:
    with start() as bridge:
        bridge.wait_listening(1)
        (place / "c").unlink()
        with pytest.raises(ControlError, match="somebody has removed its file, which SIGUSR2 "):
            ask(place / "c", "status")
        bridge.signal(signal.SIGUSR2)
        bridge.events.wait(event="reloaded", generation=2)
        assert ask(place / "c", "status")["generation"] == 2
        assert bridge.stop() == 0


def test_the_file_of_a_socket_that_was_handed_over(start: Start, place: Path) -> None:
    """Only whoever has made it can make it anew, such as systemd."""
    with socket.socket(socket.AF_UNIX) as handed:
        handed.bind(f"{place}/s")
        handed.listen()
        bind = f"fd://{handed.fileno()}"
        with start(bind=bind, pass_fds=(handed.fileno(),)) as bridge:
            bridge.wait_listening(1)
            (place / "s").unlink()
            event = bridge.events.wait(**REMOVED, address=bind)
            assert "handed" in event["hint"]
            assert "reload" not in event["hint"]
            assert listening(place)["lost_file"] == "removed"
            reload(place)
            assert not bridge.events.find(event="a socket file can't be made anew")
            assert bridge.stop() == 0


def test_a_file_that_this_process_never_saw_is_not_missed(start: Start, place: Path) -> None:
    """A socket that was handed into a container has its file outside."""
    with socket.socket(socket.AF_UNIX) as handed:
        handed.bind(f"{place}/s")
        handed.listen()
        (place / "s").unlink()
        bind = f"fd://{handed.fileno()}"
        with start(bind=bind, pass_fds=(handed.fileno(),)) as bridge:
            bridge.wait_listening(1)
            assert listening(place)["lost_file"] is None
            reload(place)
            assert bridge.stop() == 0
    assert not bridge.events.find(**REMOVED)
