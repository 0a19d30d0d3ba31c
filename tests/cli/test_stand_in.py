"""What stands in for a bridge that does not run: who is answered, and who holds up whom."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from uwsgibridge.cli.stand_in import CLIENT_SECONDS, MOST_CLIENTS, refuse_requests
from uwsgibridge.connection.sockets import ListeningSocket, open_sockets
from uwsgibridge.protocol.packet import encode_packet

PATIENCE_SECONDS = 60.0
GET = encode_packet({"REQUEST_METHOD": "GET"})


@pytest.fixture
def listening(directory: Path) -> Iterator[ListeningSocket]:
    with open_sockets([f"unix:{directory}/socket"], mode="0600", backlog=511) as (one,):
        yield one


def while_refusing(
    listening: ListeningSocket, check: Callable[[MockClock], Awaitable[None]]
) -> None:
    """Run a check while requests are refused, by a clock that stands still: no client is ever late."""
    clock = MockClock()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refuse_requests, listening, "It does not run.")
            await check(clock)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=clock)


class Client:
    """A client that does not wait for ever."""

    def __init__(self, listening: ListeningSocket) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.connect(str(listening.address).removeprefix("unix:"))

    async def send(self, data: bytes) -> None:
        await trio.to_thread.run_sync(self._socket.sendall, data)

    async def answer(self) -> bytes:
        def read() -> bytes:
            received = b""
            while piece := self._socket.recv(65_536):
                received += piece
            return received

        return await trio.to_thread.run_sync(read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@pytest.mark.parametrize(("method", "body"), [("GET", b"It does not run.\n"), ("HEAD", b"")])
def test_each_request_is_answered(method: str, body: bytes, listening: ListeningSocket):
    async def check(_clock: MockClock) -> None:
        for _ in range(3):
            with Client(listening) as client:
                await client.send(encode_packet({"REQUEST_METHOD": method}))
                head, _, found = (await client.answer()).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 503 ")
                assert b"Content-Length: 17" in head
                assert found == body

    while_refusing(listening, check)


def test_clients_that_say_nothing_hold_up_nobody(listening: ListeningSocket):
    async def check(clock: MockClock) -> None:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(Client(listening)) for _ in range(MOST_CLIENTS - 1)]
            with Client(listening) as client:
                await client.send(GET)
                assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
            # Who comes while all places are taken gets one as soon as there is one.
            silent.append(stack.enter_context(Client(listening)))
            last = stack.enter_context(Client(listening))
            await last.send(GET)
            await wait_all_tasks_blocked(0.01)
            clock.jump(CLIENT_SECONDS + 1)
            assert (await last.answer()).startswith(b"HTTP/1.1 503 ")
            for one in silent:
                assert await one.answer() == b""

    while_refusing(listening, check)


def test_upload_gets_the_whole_answer(listening: ListeningSocket):
    async def check(_clock: MockClock) -> None:
        with Client(listening) as client:
            # A body that is larger than a socket's buffers.
            await client.send(GET + bytes(4_000_000))
            assert (await client.answer()).endswith(b"\r\n\r\nIt does not run.\n")

    while_refusing(listening, check)


def test_client_that_has_left_is_no_failure(listening: ListeningSocket):
    async def check(_clock: MockClock) -> None:
        for said in (b"", GET, GET + bytes(100_000)):
            with Client(listening) as client:
                await client.send(said)
        with Client(listening) as client:
            await client.send(GET)
            assert (await client.answer()).startswith(b"HTTP/1.1 503 ")

    while_refusing(listening, check)
