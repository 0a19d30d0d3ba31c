"""Opens listening sockets as the server does, or gives the sentence that says why it can't."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.errors import BindError


@contextlib.contextmanager
def opened(*addresses: str, mode: str = "0660", backlog: int = 10) -> Iterator[ListeningSocket]:
    with open_sockets(addresses, mode=mode, backlog=backlog) as sockets:
        yield sockets[0]


def refusal(*addresses: str) -> str:
    """Give the sentence that says why."""
    with pytest.raises(BindError) as raised, opened(*addresses):
        raise AssertionError("it was opened")
    return str(raised.value)
