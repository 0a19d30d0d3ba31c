"""Makes log events of what an application tells the standard library's logging, unless it has handlers of its own.

The handler of this module stands beside whatever the application configures, at whatever time it does so:

- A record that another handler takes is no event: it would be told twice. What mails a record, sends it to a
  service, or drops it (`logging.NullHandler`) does not count: without an event, such a record is nowhere to be read.
- To code that looks whether root has handlers, it has none: `logging.basicConfig` configures root as if this
  handler was not there, and from then on this handler has nothing to do.

Nothing imports this module in a process in which nobody has imported `logging`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from uwsgibridge.telemetry.logs import Event, EventLogger, level_of_number, timestamp

# Classes of handlers that write no log, by their names, and packages whose handlers send records to a service.
_NO_LOGS: Final = frozenset({"NullHandler", "SMTPHandler", "AdminEmailHandler"})
_SERVICES: Final = frozenset({"sentry_sdk", "opentelemetry", "newrelic"})
# Django's filters: by its default configuration, nothing of production goes to the console.
_SWITCHES: Final = frozenset({"RequireDebugTrue", "RequireDebugFalse"})

# Loggers of other servers that applications write to, since those servers show their level info.
_LOGGERS_OF_SERVERS: Final = ("uvicorn", "uvicorn.error", "hypercorn.error", "gunicorn.error")

# Functions of `logging` that write by the root logger.
_FUNCTIONS_OF_ROOT: Final = frozenset(
    {"critical", "fatal", "error", "exception", "warning", "warn", "info", "debug", "log"}
)

# Attributes that each record has; all others are the application's (the argument `extra`).
_USUAL: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}
)
# Fields whose meaning is fixed, whatever the application calls its own.
_OWN_FIELDS: Final = frozenset(
    {"event", "level", "timestamp", "logger", "where", "exception", "exc_info", "stack", "worker"}
)


def capture_records(logger: EventLogger, level: str) -> None:
    """Make events of all records that no handler of the application's takes.

    Call it before the application is imported, afterwards, since it may have taken all handlers away, and in a forked process,
    whose logger is another one.

    Args:
        logger: tells the events.
        level: the least level of loggers that have none of their own, unless the application has given root handlers;
            ``auto`` leaves it as it is, which is warning where the application does not set it.
    """
    root = logging.getLogger()
    for it in (*root.handlers, logging.lastResort):
        if isinstance(it, _EventHandler):
            it.logger = logger
    if any(_is_log(it) for it in root.handlers):
        return
    if not any(isinstance(it, _EventHandler) for it in root.handlers):
        root.handlers = _Handlers([*root.handlers, _EventHandler(logger)])
    if logging.lastResort is not None and not isinstance(logging.lastResort, _EventHandler):
        # For loggers that hand nothing on to root. It is None where somebody has switched it off.
        logging.lastResort = _EventHandler(logger, logging.WARNING)
    if level != "auto":
        root.setLevel(level.upper())
        return
    for name in _LOGGERS_OF_SERVERS:
        found = logging.getLogger(name)
        if not found.level and not found.hasHandlers():
            found.setLevel(logging.INFO)


class _Handlers(list[logging.Handler]):
    """The handlers of root, whose number does not count the one that makes events while it is the only one.

    So `logging.basicConfig` configures root. Functions such as `logging.warning` call that as well where root has no handler, which
    nobody has asked for: they see the true number.
    """

    def __len__(self) -> int:
        count = super().__len__()
        if count != 1 or not isinstance(self[0], _EventHandler):
            return count
        caller = sys._getframe(1).f_code  # noqa: SLF001 - a documented function
        is_of_logging = caller.co_filename == logging.__file__
        return count if is_of_logging and caller.co_name in _FUNCTIONS_OF_ROOT else 0


class _EventHandler(logging.Handler):
    """Tells records as events.

    It has no lock, which a forked process might find locked for ever: the log needs none.

    Args:
        logger: tells the events.
        level: the least level that is told.

    Attributes:
        logger: as given.
    """

    def __init__(self, logger: EventLogger, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.logger = logger

    def createLock(self) -> None:  # noqa: N802 - the name of the base class
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        # As that of the base class, without the lock.
        changed: Any = self.filter(record)
        if isinstance(changed, logging.LogRecord):  # Python 3.12 and later
            record = changed
        if changed:
            self.emit(record)
        return bool(changed)

    def emit(self, record: logging.LogRecord) -> None:
        if _is_told_elsewhere(record):
            return
        try:
            self.logger.tell(fields_of(record), _said(record))
        except RecursionError:  # as in the standard library: to say it would end in the same way
            raise
        except Exception:  # noqa: BLE001 - what is told must not end a request; the standard library does the same
            self.handleError(record)


def fields_of(record: logging.LogRecord) -> Event:
    """Give the fields of an event for a record: its logger, place and traceback, and what the application adds."""
    fields: Event = {}
    for name, value in record.__dict__.items():
        # Django's records have the request as an object, whose text has the query with it: that is in no log.
        if name not in _USUAL and (name != "request" or isinstance(value, str)):
            fields[f"extra_{name}" if name in _OWN_FIELDS else str(name)] = value
    fields["logger"] = record.name
    if level_of_number(record.levelno) not in {"debug", "info"}:
        fields["where"] = f"{record.pathname}:{record.lineno}"
    # Of a record that was formatted before, such as by a queue's handler.
    exception = record.exc_text
    if not exception and record.exc_info and record.exc_info[0] is not None:
        exception = logging.Formatter().formatException(record.exc_info)
    if exception:
        fields["exception"] = exception
    if record.stack_info:
        fields["stack"] = record.stack_info
    return fields


def _said(record: logging.LogRecord) -> Event:
    time = datetime.fromtimestamp(record.created, UTC)
    return {
        "event": record.getMessage(),
        "level": level_of_number(record.levelno),
        "timestamp": timestamp(time),
    }


def _is_told_elsewhere(record: logging.LogRecord) -> bool:
    """Whether another handler on the way of a record writes it to a log."""
    return any(_is_log(it) for it in _handlers_on_way(record.name))


def _handlers_on_way(name: str) -> Iterator[logging.Handler]:
    found: Any = logging.root.manager.loggerDict.get(name)
    logger: logging.Logger | None = found if isinstance(found, logging.Logger) else logging.root
    while logger is not None:
        yield from logger.handlers
        logger = logger.parent if logger.propagate else None


def _is_log(handler: logging.Handler) -> bool:
    kinds = type(handler).__mro__
    return not (
        isinstance(handler, _EventHandler)
        or any(it.__name__ in _NO_LOGS for it in kinds)
        or any(it.__module__.partition(".")[0] in _SERVICES for it in kinds)
        or any(_is_switched_off(it) for it in handler.filters)
    )


def _is_switched_off(condition: Any) -> bool:
    if type(condition).__name__ not in _SWITCHES:
        return False
    decide: Callable[[Any], bool] = condition.filter
    return not decide(None)  # these filters look at the settings alone
