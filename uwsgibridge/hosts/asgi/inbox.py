"""What a WebSocket's client has sent and its application has not taken: messages, and the end behind them."""

from __future__ import annotations

from collections import deque
from typing import Final

from uwsgibridge.loop.interface import Event, Loop
from uwsgibridge.protocol.websocket import Closed, Message

# How much may wait for the application before nothing more is read from the client; the bytes include the
# unfinished next message. A single message may be larger.
_MAX_QUEUED: Final = 16
_MAX_QUEUED_BYTES: Final = 1_048_576


class Inbox:
    """A bounded queue: it says when it is full, and whoever fills it stops then.

    Args:
        loop: of the application.
    """

    __slots__ = ("_bytes", "_came", "_items", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._items: deque[Message | Closed] = deque()
        self._bytes = 0
        self._came: Event | None = None  # made when somebody waits

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Message | Closed) -> None:
        """Add what has come."""
        self._items.append(item)
        if isinstance(item, Message):
            self._bytes += len(item.payload)
        if self._came is not None:
            self._came.set()

    async def wait(self) -> None:
        """Wait for something to come, where there is nothing."""
        if self._came is None or self._came.is_set():
            self._came = self._loop.event()
        await self._came.wait()

    def take(self) -> Message | Closed | None:
        """Take the next item out; the end stays, for who asks again. None where there is nothing."""
        if not self._items:
            return None
        item = self._items[0]
        if isinstance(item, Message):
            self._items.popleft()
            self._bytes -= len(item.payload)
        return item

    def is_full(self, unfinished_bytes: int) -> bool:
        """Tell whether nothing more is to be read.

        Args:
            unfinished_bytes: of a message that has not come as a whole.
        """
        return len(self._items) >= _MAX_QUEUED or (
            # A message that nothing waits in front of may be as large as the limit lets it.
            self._bytes + unfinished_bytes >= _MAX_QUEUED_BYTES and len(self._items) > 0
        )
