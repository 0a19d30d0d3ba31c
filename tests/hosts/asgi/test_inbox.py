"""What waits for a WebSocket's application: in order, within bounds, and the end for good."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from uwsgibridge.hosts.asgi.inbox import _MAX_QUEUED, _MAX_QUEUED_BYTES, Inbox
from uwsgibridge.loop.trio_loop import TrioLoop
from uwsgibridge.protocol.websocket import Closed, Message

pytestmark = pytest.mark.trio

END = Closed(1000, "done")


def message(payload: bytes) -> Message:
    return Message(payload, is_text=False)


@pytest.fixture
async def inbox() -> Inbox:
    return Inbox(TrioLoop(None))  # type: ignore[arg-type] # it makes events alone


async def test_what_came_is_taken_in_order_and_the_end_stays(inbox: Inbox) -> None:
    items: list[Message | Closed] = [message(b"1"), message(b"2"), END]
    for item in items:
        inbox.put(item)
    assert [inbox.take() for _ in range(5)] == [*items, END, END]


async def test_nothing_is_there_at_first(inbox: Inbox) -> None:
    assert inbox.take() is None
    assert not inbox


async def test_several_may_wait(inbox: Inbox) -> None:
    taken = []

    async def take() -> None:
        while (item := inbox.take()) is None:
            await inbox.wait()
        taken.append(item)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(3):
            assert len(taken) == number
            inbox.put(message(b"%d" % number))
            await trio.testing.wait_all_tasks_blocked()
    assert taken == [message(b"%d" % number) for number in range(3)]


async def test_it_is_full_by_number(inbox: Inbox) -> None:
    for _ in range(_MAX_QUEUED):
        assert not inbox.is_full(0)
        inbox.put(message(b""))
    assert inbox.is_full(0)
    inbox.take()
    assert not inbox.is_full(0)


async def test_it_is_full_by_bytes_unless_only_the_next_message_has_them(
    inbox: Inbox,
) -> None:
    assert not inbox.is_full(2 * _MAX_QUEUED_BYTES)
    inbox.put(message(bytes(_MAX_QUEUED_BYTES - 1)))
    assert not inbox.is_full(0)
    assert inbox.is_full(1)
    inbox.take()
    assert not inbox.is_full(1)
