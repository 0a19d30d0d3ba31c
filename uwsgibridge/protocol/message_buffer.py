"""Where a message grows whose size is not known: memory that is the system's again when it is over.

The allocator keeps what was large: glibc takes the next large piece from its heap once one was freed,
and gives the heap's end back only when that is twice as large. And a bytearray grows by an eighth more
than it needs, which a message of many megabytes need not cost.
"""

from __future__ import annotations

import mmap
from typing import Final

# Up to here the allocator is quicker, and gives back what it has.
SMALL_BYTES: Final = 262_144

# Pages are the process's from the moment on in which they are written to; none is reserved before.
_FLAGS: Final = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)


class MessageBuffer:
    """The bytes of one message after the other.

    Args:
        most_bytes: that one message may have; the caller sees to it.
    """

    __slots__ = ("_large", "_most_bytes", "_size", "_small")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._size = 0
        self._small = bytearray()
        self._large: mmap.mmap | None = None

    def __len__(self) -> int:
        """Tell how much there is of the message."""
        return self._size

    def append(self, data: bytes) -> None:
        """Add to the message."""
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
        """Begin a new message; nothing stays of this one."""
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
            return  # a system that promises no more memory than it has, or a limit beyond it
        self._large[: self._size] = bytes(self._small)
        self._small = bytearray()
