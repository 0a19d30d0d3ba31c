"""The two ways of a request: with the accelerator, and through Python alone."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

# Workers import these only where they need them: loaded later, they would have the accelerator, and the rest not.
import uwsgibridge.hosts.asgi.host
import uwsgibridge.hosts.static.host
import uwsgibridge.hosts.wsgi.host  # noqa: F401
from uwsgibridge import fast
from uwsgibridge.connection.connection import accept
from uwsgibridge.fast import Descriptor

# Where it is set, a test run without the accelerator fails.
REQUIRE_VARIABLE: Final = "UWSGIBRIDGE_REQUIRE_ACCELERATOR"


@contextmanager
def python_alone() -> Iterator[None]:
    """Leave the accelerator out of all modules that are loaded."""
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            is_ours = name.startswith("uwsgibridge.") and module is not fast
            if is_ours and getattr(module, "accelerator", None) is not None:
                patch.setattr(module, "accelerator", None)
        yield


def go(way: str) -> Iterator[None]:
    if way in {"python", "pure"}:
        with python_alone():
            yield
    else:
        if fast.accelerator is None:
            if os.environ.get(REQUIRE_VARIABLE, "0") != "0":
                pytest.fail(f"the accelerator is {fast.accelerator_state}")
            pytest.skip(f"the accelerator is {fast.accelerator_state}")
        yield


@pytest.fixture(autouse=True, params=["c", "python"])
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each test of a folder both ways; for its conftest.py."""
    yield from go(request.param)


@pytest.fixture(autouse=True, params=["accelerated", "pure"])
def either_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each test of a folder on one way in turn, as with event loops and sockets; for its conftest.py."""
    yield from go(request.param)


def socket_pair(family: str) -> tuple[socket.SocketType | Descriptor, socket.socket]:
    """Give a connection as the worker accepts it, and the peer's end."""
    with socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET) as listening:
        # Linux chooses the name of a unix socket then (unix(7), "Autobind feature").
        listening.bind("" if family == "unix" else ("127.0.0.1", 0))
        listening.listen()
        peer = socket.socket(listening.family)
        peer.connect(listening.getsockname())
        listening.setblocking(False)
        kind = int(listening.type) | socket.SOCK_NONBLOCK
        return accept(listening, int(listening.family), kind), peer
