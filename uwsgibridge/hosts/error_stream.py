"""What an application writes to ``wsgi.errors``: log events, a line each (PEP 3333)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from uwsgibridge.telemetry.logs import Logger

# A line that gets longer without an end is logged in pieces of about this size.
_MAX_UNFINISHED_CHARACTERS: Final = 65_536


class ErrorStream:
    """A text stream, shared by all threads of a host; each thread's lines stay whole.

    Args:
        logger: where the lines go.

    Attributes:
        has_unfinished: whether a thread may have begun a line without ending it.
    """

    def __init__(self, logger: Logger) -> None:
        self._log = logger
        self._of_thread = threading.local()
        self.has_unfinished = False

    def write(self, text: str, /) -> int:
        """Log each line that `text` ends; keep the rest for later."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        first, *others = text.split("\n")
        unfinished = self._unfinished()
        unfinished.add(first)
        for line in others:
            unfinished.end()
            unfinished.add(line)
        if unfinished.characters:
            self.has_unfinished = True
            if unfinished.characters > _MAX_UNFINISHED_CHARACTERS:
                unfinished.end()
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what was not ended by a line end yet."""
        self._unfinished().end()

    def _unfinished(self) -> _Unfinished:
        try:
            unfinished: _Unfinished = self._of_thread.line
        except AttributeError:
            unfinished = self._of_thread.line = _Unfinished(self._report)
        return unfinished

    def _report(self, line: str) -> None:
        if line.strip():
            self._log.warning("application wrote to wsgi.errors", line=line.rstrip("\r"))


class _Unfinished:
    """The line that a thread has begun; reported when it is ended, or when the thread is.

    Args:
        report: takes a line.

    Attributes:
        characters: of it, so far.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._parts: list[str] = []
        self.characters = 0

    def add(self, text: str) -> None:
        """Go on with the line."""
        if text:
            self._parts.append(text)
            self.characters += len(text)

    def end(self) -> None:
        """Report it, and begin the next."""
        if self._parts:
            line = "".join(self._parts)
            self._parts.clear()
            self.characters = 0
            self._report(line)

    def __del__(self) -> None:
        # What a thread has stored in a threading.local goes when the thread ends.
        self.end()
