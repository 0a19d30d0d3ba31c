"""Log events as tests want them: parsed, and to be waited for."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

# A test that hangs is a failure: longer than anything takes on a busy machine.
PATIENCE_SECONDS = 10.0

# An event may be that of several processes that start one after the other, as at an upgrade in place.
EVENT_SECONDS = 30.0


class LogEvents(io.StringIO):
    """A text stream that a JSON logger writes to, from any thread.

    Attributes:
        broken: whether a write fails, as to a pipe that nobody reads any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self.broken = False
        self._changed = threading.Condition()
        self._events: list[dict[str, Any]] = []
        self._other_lines: list[str] = []

    def write(self, text: str) -> int:
        if self.broken:
            raise BrokenPipeError
        with self._changed:
            for line in text.splitlines():
                try:
                    event = json.loads(line)
                except ValueError:
                    event = None
                if isinstance(event, dict):
                    self._events.append(event)
                else:
                    self._other_lines.append(line)
            self._changed.notify_all()
        return len(text)

    def find(self, **fields: object) -> list[dict[str, Any]]:
        """Give the events so far that have all these fields."""
        with self._changed:
            return self._find(fields)

    def wait(self, **fields: object) -> dict[str, Any]:
        """Wait for the first event that has all these fields."""
        return self.wait_many(1, **fields)[0]

    def wait_many(self, count: int, **fields: object) -> list[dict[str, Any]]:
        """Wait for several events that have all these fields."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._find(fields)) >= count, EVENT_SECONDS):
                raise AssertionError(f"no {count} events {fields} among:\n{self.text()}")
            return self._find(fields)[:count]

    def text(self) -> str:
        """Give everything as text, for a failure's message and for what is not an event."""
        with self._changed:
            return "\n".join([json.dumps(event) for event in self._events] + self._other_lines)

    def other_text(self) -> str:
        """Give the lines that are no events, such as a traceback of the command line."""
        with self._changed:
            return "\n".join(self._other_lines)

    def _find(self, fields: dict[str, object]) -> list[dict[str, Any]]:
        return [event for event in self._events if fields.items() <= event.items()]
