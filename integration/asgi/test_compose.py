"""A framework in the project's own containers: what streams, and what stays open."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import requests
from websockets.sync.client import connect

from integration.asgi.apps.frameworks.exercises import PIECES
from integration.asgi.conftest import APPS, REPOSITORY

if TYPE_CHECKING:
    from uwsgibridge.testing import ComposeStack

UPLOAD = b"".join(number.to_bytes(4, "big") for number in range(750_000))


@pytest.fixture(scope="module")
def url(compose_stack: Callable[..., ComposeStack]) -> str:
    stack = compose_stack(
        f"{APPS}.frameworks.starlette_site:app",
        app_dir=REPOSITORY,
        socket="unix",
        loop="uvloop",
        serve_args=("--workers", "1"),
    )
    return stack.url


def test_bodies_and_streams(url: str) -> None:
    found = requests.post(f"{url}/raw", data=UPLOAD, timeout=20).json()
    assert found["sha256"] == hashlib.sha256(UPLOAD).hexdigest()
    assert requests.get(f"{url}/stream", timeout=20).content == b"".join(PIECES)
    assert requests.get(f"{url}/state", timeout=20).json() == {"greeting": "from the lifespan"}


def test_events(url: str) -> None:
    with requests.get(f"{url}/events/compose", stream=True, timeout=20) as answer:
        lines = answer.iter_lines(chunk_size=1)
        assert next(lines) == b"data: first"
        requests.post(f"{url}/signal/compose", timeout=20)
        assert [line for line in lines if line] == [b"data: second"]


def test_websockets(url: str) -> None:
    with connect(f"{url}/echo".replace("http", "ws"), proxy=None) as peer:
        for message in ("text", b"bytes", "x" * 1_000_000):
            peer.send(message)
            assert peer.recv() == message
        peer.close(4001)
        assert peer.close_code == 4001
