"""Accepting on one listening socket, where the application has put another file in its place."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from uwsgibridge.config.address import TcpAddress
from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.fast import Intake
from uwsgibridge.link.flights import FlightRecorder
from uwsgibridge.worker.acceptor import Acceptor


class Accepted:
    """What an acceptor needs of a listener; remembers what it was told."""

    is_closed = False
    is_alone = True
    has_threads_alone = True

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.removed: list[int | None] = []

    def room(self) -> int:
        return 10

    def make_intake(self, listening: ListeningSocket) -> Intake | None:
        """Have each connection accepted for `take`."""
        return None

    def peer_check(self, listening: ListeningSocket) -> None:
        """Let everybody connect."""

    def note_accepted(self) -> None:
        pass

    def take(self, connection: Connection) -> None:
        self.connections.append(connection)

    def remove_acceptor(self, acceptor: Acceptor, error: OSError) -> None:
        self.removed.append(error.errno)
        acceptor.forget_socket()

    def pause_for_resources(self, error: OSError) -> None:
        raise AssertionError(error)


class Calls:
    """What an acceptor needs of a loop; the test calls back."""

    name = "trio"
    asked: Callable[[], object]
    again: Callable[[], object]

    def watch(
        self, _source: object, asked: Callable[[], object], again: Callable[[], object]
    ) -> Any:
        self.asked, self.again = asked, again
        return self

    def suspend(self) -> None:
        pass

    resume = close = suspend


@pytest.mark.parametrize("is_again", [False, True])
def test_it_does_not_wait_at_a_blocking_socket_of_the_application(is_again: bool) -> None:
    accepted, calls = Accepted(), Calls()
    with ExitStack() as stack:
        [listening] = stack.enter_context(open_sockets(("127.0.0.1:0",), mode="600", backlog=5))
        assert isinstance(listening, ListeningSocket)
        assert isinstance(listening.address, TcpAddress)
        number = listening.socket.fileno()
        Acceptor(accepted, calls, listening, FlightRecorder())  # type: ignore[arg-type] # a stand-in
        peer = (listening.address.host, listening.address.port)
        client = stack.enter_context(socket.create_connection(peer))
        client.send(b"x")  # the kernel holds a connection back until something has come on it
        assert calls.asked() is True
        assert len(accepted.connections) == 1
        accepted.connections[0].force_close()
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        os.dup2(other.fileno(), number)
        stack.callback(os.close, number)
        assert other.getblocking()
        assert (calls.again if is_again else calls.asked)() is False
    assert accepted.removed == [errno.EBADF]


@pytest.mark.parametrize("is_again", [False, True])
def test_nothing_to_accept_is_no_error(is_again: bool) -> None:
    accepted, calls = Accepted(), Calls()
    with open_sockets(("127.0.0.1:0",), mode="600", backlog=5) as [listening]:
        Acceptor(accepted, calls, listening, FlightRecorder())  # type: ignore[arg-type] # a stand-in
        assert (calls.again if is_again else calls.asked)() is False
    assert not accepted.connections
    assert not accepted.removed


def test_a_blocking_socket_that_is_put_there_after_the_look_is_not_waited_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread of the application may run between the look at the descriptor and accept(2)."""
    accepted, calls = Accepted(), Calls()
    with ExitStack() as stack:
        [listening] = stack.enter_context(open_sockets(("127.0.0.1:0",), mode="600", backlog=5))
        assert isinstance(listening, ListeningSocket)
        number = listening.socket.fileno()
        Acceptor(accepted, calls, listening, FlightRecorder())  # type: ignore[arg-type] # a stand-in
        other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def look(_: Acceptor) -> bool:
            os.dup2(other.fileno(), number)
            return False

        monkeypatch.setattr(Acceptor, "is_replaced", property(look))
        assert calls.again() is False
        listening.socket.detach()
        os.close(number)
    assert not accepted.connections


class Batches(Accepted):
    """Accepts batches of given sizes, each as an accelerator's intake does; remembers how often each was to wait."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self._sizes = list(sizes)
        self.waits: list[int] = []

    def make_intake(self, listening: ListeningSocket) -> Any:
        return SimpleNamespace(accept=self._accept, failed=0)

    def _accept(self, _listening: int, _most: int, waits: int) -> int:
        self.waits.append(waits)
        return self._sizes.pop(0)


def accept_batches(*sizes: int) -> list[bool]:
    """Tell for each batch whether it was to wait for further connections."""
    batches, calls = Batches(*sizes), Calls()
    with open_sockets(("127.0.0.1:0",), mode="600", backlog=5) as [listening]:
        Acceptor(batches, calls, listening, FlightRecorder())  # type: ignore[arg-type] # a stand-in
        for _ in sizes:
            calls.asked()
    return [waits > 0 for waits in batches.waits]


def test_where_connections_come_one_by_one_few_batches_wait_for_more() -> None:
    waited = accept_batches(*[1] * 33)
    assert [number for number, waits in enumerate(waited) if waits] == [0, 16, 32]


@pytest.mark.parametrize("size", [0, 2])
def test_where_they_do_not_come_one_by_one_each_batch_waits(size: int) -> None:
    assert accept_batches(1, size, 1) == [True, False, True]
