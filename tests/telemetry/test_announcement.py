"""What a start warns of."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.log_events import LogEvents
from uwsgibridge import Settings
from uwsgibridge.connection.sockets import open_sockets
from uwsgibridge.telemetry.announcement import announce
from uwsgibridge.telemetry.logs import make_logger

EVENT = "whoever reaches this address is believed like Nginx"


def warned(*bind: str, allow_from: tuple[str, ...] = ()) -> list[object]:
    """Give the addresses that a start warns of, without their ports."""
    events = LogEvents()
    settings = Settings(bind=bind, allow_from=allow_from)
    with open_sockets(bind, mode="600", backlog=5) as sockets:
        announce("app", settings, make_logger("json", "info", events), sockets)
    found = events.find(event=EVENT)
    assert all("REMOTE_USER" in it["claims"] and it["option"] == "--allow-from" for it in found)
    return [address.rpartition(":")[0] for it in found for address in it["addresses"]]


def test_an_address_that_others_reach_is_warned_of_once() -> None:
    assert warned("0.0.0.0:0", "[::]:0", "127.0.0.1:0") == ["0.0.0.0", "[::]"]


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.0.0.9:0", "[::1]:0", "unix:{}/s"])
def test_the_machine_itself_is_not_warned_of(bind: str, tmp_path: Path) -> None:
    assert warned(bind.format(tmp_path)) == []


def test_who_names_a_network_is_not_warned() -> None:
    assert warned("0.0.0.0:0", allow_from=("0.0.0.0/0",)) == []
