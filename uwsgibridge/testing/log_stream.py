"""Reads a bridge's log while it is written: tests look at its events and wait for them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from uwsgibridge.testing.errors import StackError

LogEvent: TypeAlias = Mapping[str, object]


def event_with(**fields: object) -> Callable[[LogEvent], bool]:
    """Make a predicate for log events that have all of `fields`, such as ``event="refused"``."""
    return lambda event: all(event.get(name) == value for name, value in fields.items())


class LogStream:
    """Reads lines in a thread of its own until they end.

    A line that holds a JSON object is an event. Other lines, such as what an application prints, are text. All
    lines are kept in their order.

    Args:
        lines: blocks until there is a line; only the thread iterates it.
        source: the writer of the lines, for error messages.
    """

    def __init__(self, lines: Iterable[bytes], *, source: str) -> None:
        self._source = source
        self._lines: list[str] = []
        self._events: list[LogEvent] = []
        self._ended = False
        self._grown = threading.Condition()
        # A daemon: lines that never end must not keep a test run from ending.
        self._thread = threading.Thread(
            target=self._read, args=(lines,), name=f"log of {source}", daemon=True
        )
        self._thread.start()

    def events(self, *, since: int = 0) -> list[LogEvent]:
        """List the events so far without the first `since` ones."""
        with self._grown:
            return self._events[since:]

    def line_count(self) -> int:
        """Count the lines so far."""
        return len(self._lines)

    def text(self, *, since_line: int = 0) -> str:
        """Give all lines so far without the first `since_line` ones; events are JSON, as they were written."""
        with self._grown:
            return "".join(self._lines[since_line:])

    def wait_for_event(
        self,
        predicate: Callable[[LogEvent], bool],
        *,
        since: int = 0,
        timeout_seconds: float = 10.0,
    ) -> LogEvent:
        """Wait for an event; an earlier one counts, too.

        Args:
            predicate: tells whether an event is the right one; `event_with` makes predicates.
            since: how many of the first events do not count.
            timeout_seconds: how long to wait.

        Returns:
            The first such event.

        Raises:
            StackError: the event did not come in time, or the log has ended.
        """
        deadline = time.monotonic() + timeout_seconds
        seen = since
        with self._grown:
            while True:
                for event in self._events[seen:]:
                    if predicate(event):
                        return event
                seen = max(seen, len(self._events))
                left_seconds = deadline - time.monotonic()
                if self._ended or left_seconds <= 0:
                    break
                self._grown.wait(left_seconds)
            why = f"{self._source} has ended" if self._ended else f"{timeout_seconds:g} s passed"
            log = "".join(self._lines)
        raise StackError(f"{why} without the log event that was waited for", log=log)

    def wait_ended(self, timeout_seconds: float) -> bool:
        """Wait until the lines have ended; False when that takes too long."""
        # The thread itself ends a moment after it has woken those who wait for an event. So its end does not count.
        with self._grown:
            return self._grown.wait_for(lambda: self._ended, timeout_seconds)

    def _read(self, lines: Iterable[bytes]) -> None:
        try:
            for line in lines:
                self._add(line.decode("utf-8", "replace"))
        finally:
            with self._grown:
                self._ended = True
                self._grown.notify_all()

    def _add(self, line: str) -> None:
        event = _parse(line)
        with self._grown:
            self._lines.append(line if line.endswith("\n") else line + "\n")
            if event is not None:
                self._events.append(event)
                self._grown.notify_all()


def _parse(line: str) -> LogEvent | None:
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
