"""What a supervisor has before it starts a generation."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nest import Nest
from uwsgibridge.connection.sockets import open_sockets


@pytest.fixture
def nest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nest]:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    # pytest's own paths may be too long for a unix socket.
    with (
        tempfile.TemporaryDirectory() as directory,
        open_sockets([f"unix:{directory}/s"], mode="0600", backlog=5) as sockets,
    ):
        nest = Nest(Path(directory), sockets)
        nest.write("")
        yield nest
