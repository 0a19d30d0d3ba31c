"""Makes lines of what a program writes, and keeps the last ones for who tells how it ended."""

from __future__ import annotations

from collections import deque
from typing import Final

# A longer line becomes several, so that a program which ends none takes no memory.
MAX_LINE_BYTES: Final = 8192

# How much is kept of a program's last lines.
_KEPT_LINES: Final = 10
_KEPT_CHARACTERS: Final = 300


class LineSplitter:
    """Makes lines of pieces of output.

    Args:
        begun: what has come of a line that had not ended.

    Attributes:
        begun: the same, as of now.
    """

    def __init__(self, begun: bytes = b"") -> None:
        self.begun = begun

    def feed(self, piece: bytes) -> list[str]:
        """Take a piece, and give the lines that have ended; those without a word are left out."""
        *ended, self.begun = (self.begun + piece).split(b"\n")
        lines = [part for line in ended for part in _cut(line)]
        *full, self.begun = _cut(self.begun) or [b""]
        return _decode([*lines, *full])

    def finish(self) -> list[str]:
        """Give the line that has not ended, as the program will write no more of it."""
        begun, self.begun = self.begun, b""
        return _decode([begun])


class LastLines:
    """The last lines of a program."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def add(self, line: str) -> None:
        """Keep a line, and drop the oldest one where there are too many."""
        self._lines.append(line[:_KEPT_CHARACTERS])

    def __str__(self) -> str:
        return "\n".join(self._lines)


def _cut(line: bytes) -> list[bytes]:
    """Cut a line into parts that are short enough; no part begins within a character."""
    parts = []
    begin = 0
    while len(line) - begin > MAX_LINE_BYTES:
        end = begin + MAX_LINE_BYTES
        # A character of UTF-8 has up to four bytes, of which all but the first are 10xxxxxx (RFC 3629).
        for _ in range(3):
            if line[end] & 0xC0 == 0x80:
                end -= 1
        parts.append(line[begin:end])
        begin = end
    return [*parts, line[begin:]]


def _decode(lines: list[bytes]) -> list[str]:
    texts = (it.decode("utf-8", "replace").rstrip("\r") for it in lines)
    return [it for it in texts if it.strip()]
