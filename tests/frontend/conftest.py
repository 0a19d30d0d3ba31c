"""A private Nginx between an HTTP client and stand-ins for the bridge."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.frontend.stand_in import PATIENCE_SECONDS, StandIn
from uwsgibridge.frontend.options import Site
from uwsgibridge.frontend.private import PrivateNginx


@pytest.fixture
def stand_ins() -> Iterator[Callable[[], StandIn]]:
    running: list[tuple[StandIn, threading.Thread]] = []

    def start() -> StandIn:
        stand_in = StandIn(socket.create_server(("127.0.0.1", 0)))
        thread = threading.Thread(target=stand_in.run)
        thread.start()
        running.append((stand_in, thread))
        return stand_in

    yield start
    for stand_in, thread in running:
        stand_in.listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
        stand_in.listener.close()


@pytest.fixture
def app(stand_ins: Callable[[], StandIn]) -> StandIn:
    return stand_ins()


Serve: TypeAlias = Callable[..., PrivateNginx]


@pytest.fixture
def serve(app: StandIn) -> Iterator[Serve]:
    """Start an Nginx in front of `app`, or of the upstreams that are named."""
    running: list[PrivateNginx] = []

    def start(
        *, binary: Path | None = None, directives: str = "", **values: object
    ) -> PrivateNginx:
        site = Site(**{"upstreams": (app.address,), **values})  # type: ignore[arg-type] # Site checks
        nginx = PrivateNginx(site, binary=binary, directives=directives, grace_seconds=0.5)
        nginx.start()
        running.append(nginx)
        return nginx

    yield start
    for nginx in running:
        nginx.stop()
