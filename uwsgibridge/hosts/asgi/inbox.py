"""The queue of messages that a client has sent and its application has not received, with the end after them."""

from __future__ import annotations

from collections import deque
from typing import Final

from uwsgibridge.loop.interface import Event, Loop
from uwsgibridge.protocol.websocket import Closed, Message

# How many messages and bytes may wait for the application; with more, nothing is read from the client. The bytes
# include the unfinished next message. A single message may be larger.
_MAX_QUEUED: Final = 16
_MAX_QUEUED_BYTES: Final = 1_048_576


class Inbox:
    """A bounded queue, which tells when it is full; its writer then has to stop.

    Args:
        loop: the event loop of the application.
    """

    __slots__ = ("_bytes", "_came", "_items", "_loop")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._items: deque[Message | Closed] = deque()
        self._bytes = 0
        self._came: Event | None = None  # made when the application waits

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Message | Closed) -> None:
        """Add a message, or the end."""
        self._items.append(item)
        if isinstance(item, Message):
            self._bytes += len(item.payload)
        if self._came is not None:
            self._came.set()

    async def wait(self) -> None:
        """Wait until the queue is not empty."""
        if self._came is None or self._came.is_set():
            self._came = self._loop.event()
        await self._came.wait()

    def take(self) -> Message | Closed | None:
        """Take the next item out of the queue; None where the queue is empty. The end stays in the queue."""
        if not self._items:
            return None
        item = self._items[0]
        if isinstance(item, Message):
            self._items.popleft()
            self._bytes -= len(item.payload)
        return item

    def is_full(self, unfinished_bytes: int) -> bool:
        """Tell whether nothing more may be read.

        Args:
            unfinished_bytes: bytes of the next message, which has not arrived completely.
        """
        return len(self._items) >= _MAX_QUEUED or (
            # While no other message waits, a message may be as large as the limit for messages.
            self._bytes + unfinished_bytes >= _MAX_QUEUED_BYTES and len(self._items) > 0
        )
