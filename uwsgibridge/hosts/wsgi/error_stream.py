"""``wsgi.errors`` (PEP 3333): each write becomes one log event, and so does each traceback.

Flask and other frameworks have handlers of the standard library's logging write here. Such an event has the level and the
logger of the record; every other one is an error.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from types import FrameType
from typing import TYPE_CHECKING, Final

from uwsgibridge.telemetry.logs import Logger, level_of_number

if TYPE_CHECKING:
    import logging

# A text that gets longer without a line end is logged in pieces of about this size.
_MAX_UNFINISHED_CHARACTERS: Final = 65_536

# The functions of this module write a traceback line by line.
_TRACEBACK_MODULE: Final = traceback.__file__


class ErrorStream:
    """A text stream that all threads of a host share; texts of different threads are not mixed.

    A text without a line end is kept until the line end comes, or until the request or the thread ends: `print`
    writes the line end by a separate write.

    Args:
        logger: where the texts go.

    Attributes:
        has_unfinished: whether a thread may have begun a text without ending it.
    """

    def __init__(self, logger: Logger) -> None:
        self._log = logger
        self._of_thread = threading.local()
        self.has_unfinished = False

    def write(self, text: str, /) -> int:
        """Log a text together with the kept text before it, or keep it."""
        if not isinstance(text, str):
            raise TypeError(f"wsgi.errors takes str, not {type(text).__name__}")
        unfinished = self._unfinished()
        caller = sys._getframe(1)  # noqa: SLF001 - a documented function
        is_of_traceback = caller.f_code.co_filename == _TRACEBACK_MODULE
        if unfinished.is_traceback and not is_of_traceback:
            unfinished.end()
        record = None if is_of_traceback else _record_of(caller)
        if record is not None:
            unfinished.end()
            self._report_record(text, record)
            return len(text)
        unfinished.add(text)
        if is_of_traceback:
            unfinished.is_traceback = True
            is_whole = not unfinished.ends_with_request and _is_last_line(text)
        else:
            is_whole = text.endswith("\n")
        if is_whole or unfinished.characters > _MAX_UNFINISHED_CHARACTERS:
            unfinished.end()
        elif unfinished.characters:
            self.has_unfinished = True
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:
        """Write each line."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log the kept text of this thread."""
        self._unfinished().end()

    def serve_thread(self) -> None:
        """Mark this thread as one that runs requests, and calls `flush` after each where it is needed."""
        self._unfinished().ends_with_request = True

    def _unfinished(self) -> _Unfinished:
        try:
            unfinished: _Unfinished = self._of_thread.text
        except AttributeError:
            unfinished = self._of_thread.text = _Unfinished(self._report)
        return unfinished

    def _report(self, text: str) -> None:
        if text.strip():
            # Apache's mod_wsgi logs this at level error, too: the stream is for errors.
            self._log.error("application wrote to wsgi.errors", line=text.rstrip())

    def _report_record(self, text: str, record: logging.LogRecord) -> None:
        if not text.strip():
            return
        fields = {"logger": record.name, "line": text.rstrip()}
        match level_of_number(record.levelno):
            case "debug":
                self._log.debug("application wrote to wsgi.errors", **fields)
            case "info":
                self._log.info("application wrote to wsgi.errors", **fields)
            case "warning":
                self._log.warning("application wrote to wsgi.errors", **fields)
            case _:
                self._log.error("application wrote to wsgi.errors", **fields)


class _Unfinished:
    """A text that a thread has begun; it is reported by `end`, or when the thread ends.

    Args:
        report: called with the text.

    Attributes:
        characters: how long the text is.
        is_traceback: whether the `traceback` module is writing the text.
        ends_with_request: whether the thread calls `flush` at the end of each request.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._parts: list[str] = []
        self.characters = 0
        self.is_traceback = False
        self.ends_with_request = False

    def add(self, text: str) -> None:
        """Append to the text."""
        if text:
            self._parts.append(text)
            self.characters += len(text)

    def end(self) -> None:
        """Report the text, and begin the next one."""
        self.is_traceback = False
        if self._parts:
            text = "".join(self._parts)
            self._parts.clear()
            self.characters = 0
            self._report(text)

    def __del__(self) -> None:
        # At its end, a thread deletes what it has in a threading.local.
        self.end()


def _is_last_line(text: str) -> bool:
    """Whether a line of a traceback names the exception, and so may be the last one."""
    return text.strip() != "" and not text.startswith(
        (" ", "\n", "Traceback (most recent call last)")
    )


def _record_of(caller: FrameType) -> logging.LogRecord | None:
    """Give the record that a handler is writing (`logging.StreamHandler.emit` and its like); None for any other caller."""
    if caller.f_code.co_name != "emit" or "logging" not in sys.modules:
        return None
    record = caller.f_locals.get("record")
    return record if isinstance(record, sys.modules["logging"].LogRecord) else None
