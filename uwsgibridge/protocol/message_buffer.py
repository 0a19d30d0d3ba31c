"""A buffer for a message of unknown size, whose memory the system gets back when the message is over.

An allocator keeps large pieces. Once a large piece was freed, glibc takes the next one from its heap, and returns the
end of the heap only when that is twice as large. Besides, a bytearray allocates an eighth more than it needs, which
is much for a message of many megabytes.
"""

from __future__ import annotations

import mmap
from typing import Final

# For messages up to this size, the allocator is quicker, and returns their memory.
SMALL_BYTES: Final = 262_144

# The process gets a page when it writes to the page; none is reserved before.
_FLAGS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)


class MessageBuffer:
    """The bytes of one message, and then of the next.

    Args:
        most_bytes: how long a message may be; the caller enforces it.
    """

    __slots__ = ("_large", "_most_bytes", "_size", "_small")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._size = 0
        self._small = bytearray()
        self._large: mmap.mmap | None = None

    def __len__(self) -> int:
        """Give the number of bytes of the message so far."""
        return self._size

    def append(self, data: bytes) -> None:
        """Add bytes to the message."""
        size = self._size + len(data)
        if self._large is None and size > SMALL_BYTES:
            self._make_large(size)
        if self._large is None:
            self._small += data
        else:
            self._large[self._size : size] = data
        self._size = size

    def take(self) -> bytes:
        """Give the message, and begin a new one."""
        whole = bytes(self._small) if self._large is None else self._large[: self._size]
        self.clear()
        return whole

    def clear(self) -> None:
        """Drop the message, and begin a new one."""
        self._size = 0
        if self._small:
            self._small = bytearray()
        if self._large is not None:
            self._large.close()
            self._large = None

    def _make_large(self, size: int) -> None:
        try:
            self._large = mmap.mmap(-1, max(size, self._most_bytes), flags=_FLAGS)
        except (OSError, OverflowError, ValueError):
            return  # the system promises only memory that it has, or the limit is larger than that
        self._large[: self._size] = bytes(self._small)
        self._small = bytearray()
