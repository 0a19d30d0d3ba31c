"""Stand-in servers on each kind of socket."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.uwsgi_server import (
    Serve,
    serving,
)


@pytest.fixture(params=["ipv4", "ipv6", "unix"])
def serve_all(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    return lambda behaviour: serving(behaviour, request.param, tmp_path)


@pytest.fixture(params=["ipv4", "unix"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    return lambda behaviour: serving(behaviour, request.param, tmp_path)
