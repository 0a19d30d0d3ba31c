"""Log events: readable on a terminal, one JSON object a line elsewhere, always on standard error.

The bridge has a logger of its own. The global configurations of structlog and logging belong to the
application, and the bridge does not touch them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog

from uwsgibridge.telemetry.line_buffer import DEFAULT_BUFFER_BYTES, Gap
from uwsgibridge.telemetry.line_stream import LineStream, standard_error

Logger = structlog.typing.FilteringBoundLogger

# Control characters to escape: all but line ends, and in texts of many lines all but tabs, too.
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_CONTROL_BUT_TAB: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# A field whose value is text of the application's: on a terminal it stands below the event, with its line ends.
RAW_FIELD: Final = "line"

_OF_MANY_LINES: Final = {RAW_FIELD, "exception", "stack"}

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


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
) -> Logger:
    """Make the logger of a process.

    Args:
        log_format: ``text``, ``json``, or ``auto`` for text on a terminal.
        log_level: the least level that is written.
        stream: where the events go; by default the standard error of this process, also where the application
            replaces `sys.stderr` later.
        buffer_bytes: bytes of lines that are kept while nobody reads the log.
        facts: keys and values that each event has.
    """
    out = LineStream(stream) if stream is not None else standard_error()
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "text" or (log_format == "auto" and out.is_terminal):
        processors += [
            _escape_control_characters,
            _text_below_the_line(
                structlog.dev.ConsoleRenderer(
                    colors=out.is_terminal, exception_formatter=structlog.dev.plain_traceback
                )
            ),
        ]
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    logger: Logger = structlog.wrap_logger(
        _LineLogger(out),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[log_level]),
        cache_logger_on_first_use=True,
    ).bind(**(facts or {}))
    if out.buffer is not None:
        out.buffer.buffer_bytes = buffer_bytes
        out.buffer.tell_gap = lambda gap: _tell_gap(logger, gap)
    return logger


def _tell_gap(logger: Logger, gap: Gap) -> None:
    # Level error, so that each --log-level shows it.
    logger.error(
        "log lines were dropped: nobody read them",
        lines=gap.lines,
        seconds=round(gap.seconds, 3),
        option="--log-buffer-bytes",
    )


class _LineLogger:
    """What structlog hands a finished line to.

    The classes of structlog have a lock, which a forked process may find locked for ever.
    """

    def __init__(self, stream: LineStream) -> None:
        self._write = stream.write

    def msg(self, line: str) -> None:
        self._write(line + "\n")

    debug = info = warning = error = critical = exception = msg


def _escape_control_characters(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Keep what a client sent from speaking to the operator's terminal (escape sequences)."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            control = _CONTROL_BUT_TAB if key in _OF_MANY_LINES else _CONTROL
            event[key] = control.sub(lambda match: repr(match[0])[1:-1], value)
    return event


def _text_below_the_line(render: structlog.dev.ConsoleRenderer) -> structlog.typing.Processor:
    """Print a text below its event, with its line ends; the renderer alone would print a Python literal."""

    def process(logger: object, method: str, event: structlog.typing.EventDict) -> str:
        text = event.pop(RAW_FIELD, None)
        line = str(render(logger, method, event))
        return line if text is None else f"{line}\n{text}"

    return process
