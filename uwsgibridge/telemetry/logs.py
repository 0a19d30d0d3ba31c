"""Log events: readable on a terminal, one JSON object a line elsewhere, always on standard error.

The bridge has a logger of its own. The global configurations of structlog and logging belong to the
application, and the bridge does not touch them.

An event for a person is rendered by structlog. A JSON line needs only `json`, and a process that writes JSON does not
import structlog, which imports `rich` as well where that is installed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TextIO, TypeAlias

from uwsgibridge.telemetry.line_buffer import DEFAULT_BUFFER_BYTES, Gap, LineBuffer
from uwsgibridge.telemetry.line_stream import LineStream, standard_error

# Keys and values, with `event`, `level` and `timestamp` as the last ones.
Event: TypeAlias = dict[str, Any]
Renderer: TypeAlias = Callable[[Event], str]
# Gives what is known of the present request, as fields.
Context: TypeAlias = Callable[[], Mapping[str, Any]]

# From the least to the most important; `critical` has an application's event alone.
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


class Logger(Protocol):
    """What tells events. Keyword arguments are the fields of an event.

    A field ``exc_info`` is an exception, or True for the one that is handled now: its traceback is told.
    """

    def debug(self, event: str, /, **fields: Any) -> object:
        """Tell an event of level debug."""

    def info(self, event: str, /, **fields: Any) -> object:
        """Tell an event of level info."""

    def warning(self, event: str, /, **fields: Any) -> object:
        """Tell an event of level warning."""

    def error(self, event: str, /, **fields: Any) -> object:
        """Tell an event of level error."""

    def exception(self, event: str, /, **fields: Any) -> object:
        """Tell an event of level error, with the exception that is handled now."""

    def bind(self, **facts: Any) -> Logger:
        """Make a logger whose events have these fields, too."""


class Target(Protocol):
    """Where events go.

    Attributes:
        buffer: keeps what its reader has not taken yet; None where nothing is kept.
    """

    @property
    def buffer(self) -> LineBuffer | None: ...

    def tell(self, event: Event) -> None:
        """Write an event, or drop it; from any thread. The event is the target's, which may change it."""

    def write_line(self, line: str) -> None:
        """Write a line of the access log, which ends with a line end."""


def is_json(log_format: str) -> bool:
    """Whether a log of this format (``text``, ``json`` or ``auto``) on standard error is JSON."""
    return log_format == "json" or (log_format == "auto" and not standard_error().is_terminal)


def make_logger(
    log_format: str = "auto",
    log_level: str = "info",
    stream: TextIO | None = None,
    *,
    buffer_bytes: int = DEFAULT_BUFFER_BYTES,
    facts: Mapping[str, Any] | None = None,
    targets: Sequence[Target] = (),
) -> EventLogger:
    """Make the logger of a process.

    Args:
        log_format: ``text``, ``json``, or ``auto`` for text on a terminal.
        log_level: the least level that is written.
        stream: where the events go; by default the standard error of this process, also where the application
            replaces `sys.stderr` later.
        buffer_bytes: bytes of lines that are kept while nobody reads the log.
        facts: keys and values that each event has.
        targets: where the events go in place of a stream.
    """
    if not targets:
        targets = [stream_target(log_format, stream)]
    least = _LEVELS.index(log_level)
    logger = EventLogger(targets, frozenset(_LEVELS[least:]), facts or {})
    for it in targets:
        if it.buffer is not None:
            it.buffer.buffer_bytes = buffer_bytes
            it.buffer.tell_gap = lambda gap: tell_gap(logger, gap)
    return logger


def stream_target(log_format: str, stream: TextIO | None = None) -> Target:
    """Make the target that writes lines to a stream; the arguments are those of `make_logger`."""
    out = LineStream(stream) if stream is not None else standard_error()
    render: Renderer = as_json
    if log_format == "text" or (log_format == "auto" and out.is_terminal):
        # Imported here, since it is needed for a person alone.
        from uwsgibridge.telemetry.text_events import text_renderer

        render = text_renderer(has_colours=out.is_terminal)
    return _StreamTarget(out, render)


class _StreamTarget:
    """Writes each event as a line, or several, to a stream."""

    def __init__(self, stream: LineStream, render: Renderer) -> None:
        self._stream = stream
        self._render = render

    @property
    def buffer(self) -> LineBuffer | None:
        return self._stream.buffer

    def tell(self, event: Event) -> None:
        self._stream.write(self._render(event) + "\n")

    def write_line(self, line: str) -> None:
        self._stream.write(line)


class EventLogger:
    """The `Logger` of a process of the server.

    It has no lock, which a forked process might find locked for ever: a line is written by one call.
    """

    def __init__(
        self, targets: Sequence[Target], levels: frozenset[str], facts: Mapping[str, Any]
    ) -> None:
        # One list for this logger and all that `bind` makes of it.
        self._targets = targets if isinstance(targets, list) else list(targets)
        self._levels = levels
        self._facts = facts

    def copy(self) -> EventLogger:
        """Make a logger that keeps its targets when `go_to` changes those of this one."""
        return EventLogger(tuple(self._targets), self._levels, self._facts)

    def go_to(self, targets: Sequence[Target]) -> None:
        """Have the events of this logger, and of all that were made of it by `bind`, go elsewhere from now on."""
        self._targets[:] = targets

    def bind(self, **facts: Any) -> Logger:
        return EventLogger(self._targets, self._levels, {**self._facts, **facts})

    def debug(self, event: str, /, **fields: Any) -> None:
        self._tell("debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        self._tell("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        self._tell("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self._tell("error", event, fields)

    def exception(self, event: str, /, **fields: Any) -> None:
        self._tell("error", event, {"exc_info": True, **fields})

    def _tell(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        if level not in self._levels:
            return
        self.tell(
            fields, {"event": event, "level": level, "timestamp": timestamp(datetime.now(UTC))}
        )

    def tell(self, fields: Mapping[str, Any], said: Mapping[str, Any]) -> None:
        """Tell an event of whichever level.

        Args:
            fields: of the event.
            said: event, level and timestamp, which no field of that name replaces.
        """
        context: Event = {}
        for give in _contexts:
            context |= give()
        told = {**context, **self._facts, **fields, **said}
        for target in self._targets:
            target.tell(told if len(self._targets) == 1 else dict(told))


def _context_of_structlog() -> Mapping[str, Any]:
    """Give what the application has bound for the present request with structlog, if it uses that."""
    contextvars = sys.modules.get("structlog.contextvars")
    return contextvars.get_contextvars() if contextvars is not None else {}


_contexts: Final[list[Context]] = [_context_of_structlog]


def add_context(give: Context) -> None:
    """Have each event of this process, the application's own included, say more of the present request.

    Args:
        give: called for each event, in the thread or task that it is about. What it gives goes before what the
            application has bound with structlog, and after the fields of the event.
    """
    if give not in _contexts:
        _contexts.append(give)


def level_of_number(number: object) -> str:
    """Give the level of an event for a level of the standard library's logging, which may lie between those with names."""
    if not isinstance(number, int):  # of a record that was made by hand
        return "error"
    return _LEVELS[min(max(number // 10 - 1, 0), len(_LEVELS) - 1)]


def timestamp(time: datetime) -> str:
    """Write a time in UTC as events have it."""
    return time.isoformat().replace("+00:00", "Z")


def write_exception(event: Event) -> None:
    """Put the traceback of the field ``exc_info`` in its place, as text in ``exception``."""
    if "exc_info" in event:
        exception = event.pop("exc_info")
        if exception is True:
            exception = sys.exception()
        if exception:
            import traceback  # imported here, since few processes need it

            lines = traceback.format_exception(exception)
            event["exception"] = "".join(lines).removesuffix("\n")


def as_json(event: Event) -> str:
    """Write an event as a JSON object in one line."""
    write_exception(event)
    return json.dumps(event, default=repr)


def tell_gap(logger: Logger, gap: Gap, **facts: object) -> None:
    """Tell how many lines are missing, and since when.

    Args:
        logger: tells it.
        gap: the missing lines.
        facts: where the lines are missing, if that is not the log itself.
    """
    # Level error, so that each --log-level shows it.
    if gap.reason:
        logger.error(
            "log lines are lost: they could not be written",
            lines=gap.lines,
            seconds=round(gap.seconds, 3),
            reason=gap.reason,
            **facts,
        )
        return
    logger.error(
        "log lines were dropped: nobody read them",
        lines=gap.lines,
        seconds=round(gap.seconds, 3),
        option="--log-buffer-bytes",
        **facts,
    )
