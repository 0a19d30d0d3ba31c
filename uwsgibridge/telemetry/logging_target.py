"""Has the bridge's own events and its access log go to loggers of the standard library that have handlers."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

from uwsgibridge.telemetry.access import Access
from uwsgibridge.telemetry.access_log import access_fields
from uwsgibridge.telemetry.logs import Event

EVENTS: Final = "uwsgibridge"
ACCESS: Final = "uwsgibridge.access"

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

# Attributes of a record that no field may replace.
_USUAL: Final = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})
# What the record has a place of its own for.
_PLACED: Final = frozenset({"event", "level", "timestamp", "exc_info", "exception", "stack"})


def has_handlers(name: str) -> bool:
    """Whether somebody has given a logger of this server handlers."""
    found = logging.root.manager.loggerDict.get(name)
    return isinstance(found, logging.Logger) and bool(found.handlers)


class LoggingTarget:
    """A logger as a target of the log.

    Attributes:
        buffer: always None: handlers of the application's do as they like, and may wait.
    """

    buffer = None

    def __init__(self) -> None:
        self._logger = logging.getLogger(EVENTS)

    def tell(self, event: Event) -> None:
        """Hand an event to the logger, with its fields as attributes of the record."""
        level = _LEVELS[event["level"]]
        if not self._logger.isEnabledFor(level):
            return
        fields = {name: value for name, value in event.items() if name not in _PLACED}
        record = make_record(self._logger, level, event["event"], fields)
        raised = event.get("exc_info")
        if raised is True:
            raised = sys.exception()
        if isinstance(raised, BaseException):
            record.exc_info = (type(raised), raised, raised.__traceback__)
        record.exc_text = event.get("exception")
        record.stack_info = event.get("stack")
        self._logger.handle(record)

    def write_line(self, line: str) -> None:
        """Hand a line of the access log to the logger."""
        self._logger.handle(make_record(self._logger, logging.INFO, line.rstrip("\n"), {}))


class LoggedAccess:
    """Hands each access to the logger of the access log: the line is the message, and the fields are attributes.

    Args:
        line: makes the line of an access.
    """

    def __init__(self, line: Callable[[Access], str]) -> None:
        self._line = line
        self._logger = logging.getLogger(ACCESS)

    def write(self, access: Access) -> None:
        """Record an access; from any thread."""
        if self._logger.isEnabledFor(logging.INFO):
            record = make_record(
                self._logger, logging.INFO, self._line(access), access_fields(access)
            )
            self._logger.handle(record)


def make_record(
    logger: logging.Logger, level: int, message: str, fields: dict[str, Any]
) -> logging.LogRecord:
    """Make a record with further attributes; one whose name a record has already gets ``field_`` before it."""
    extra = {f"field_{name}" if name in _USUAL else name: value for name, value in fields.items()}
    return logger.makeRecord(
        logger.name, level, "(unknown file)", 0, message, (), None, None, extra
    )
