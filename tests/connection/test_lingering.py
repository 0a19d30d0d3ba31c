"""The lingering close: whatever comes in between, a connection is closed once, and no drain waits for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Literal

import pytest
import trio
import trio.testing

from tests.ways import socket_pair
from uwsgibridge.connection.connection import Connection
from uwsgibridge.connection.lingering import LingeringClose
from uwsgibridge.loop.trio_loop import TrioLoop

When = Literal["before", "after", "when-it-has-run"]


class Interrupt(BaseException):
    """What somebody raises in a thread from outside."""


class InterruptedLoop(TrioLoop):
    """Raises once in the place of the step that hands over to the loop, or behind it."""

    when: When | None = None

    def run_threadsafe(self, function: Callable[[], object]) -> None:
        when, self.when = self.when, None
        if when == "when-it-has-run":
            function()
        elif when != "before":
            super().run_threadsafe(function)
        if when is not None:
            raise Interrupt


@pytest.mark.parametrize("when", ["before", "after", "when-it-has-run"])
def test_an_exception_from_outside_between_its_steps_leaves_no_socket_open(when: When):
    told: list[str] = []
    ours, theirs = socket_pair("unix")
    with theirs:
        connection = Connection(ours, is_unix=True)

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                loop = InterruptedLoop(nursery)
                lingering = LingeringClose(loop, 1000, most=1, idle=lambda: told.append("idle"))
                loop.when = when
                with pytest.raises(Interrupt):
                    lingering.discard(connection, lambda _: told.append("closed"))
                await trio.testing.wait_all_tasks_blocked()
                assert lingering.connections == [connection]
                theirs.shutdown(socket.SHUT_WR)
                await trio.testing.wait_all_tasks_blocked()
                assert lingering.is_idle
                nursery.cancel_scope.cancel()

        trio.run(main)
        assert ours.fileno() == -1
    assert told == ["closed", "idle"]
