"""Log events: readable on a terminal, one JSON object a line elsewhere, always on standard error.

The bridge's logger is its own and leaves structlog's and logging's global configuration alone: that
belongs to the application.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Final, TextIO

import structlog

from uwsgibridge.telemetry.line_stream import LineStream

Logger = structlog.typing.FilteringBoundLogger

# Line ends stay: a traceback has them.
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def make_logger(
    log_format: str = "auto", log_level: str = "info", stream: TextIO | None = None
) -> Logger:
    """Make the logger that is handed to every part.

    Args:
        log_format: ``text``, ``json``, or ``auto`` for text on a terminal.
        log_level: the least level that is written.
        stream: where to; standard error by default.
    """
    out = stream if stream is not None else sys.stderr
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if log_format == "text" or (log_format == "auto" and out.isatty()):
        processors += [
            _escape_control_characters,
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    logger: Logger = structlog.wrap_logger(
        _LineLogger(out),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[log_level]),
        cache_logger_on_first_use=True,
    )
    return logger


class _LineLogger:
    """What structlog hands a finished line to.

    Its own ones have a lock that a forked process may find locked for ever.
    """

    def __init__(self, stream: TextIO) -> None:
        self._write = LineStream(stream).write

    def msg(self, line: str) -> None:
        self._write(line + "\n")

    debug = info = warning = error = critical = exception = msg


def _escape_control_characters(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Keep what a client sent from speaking to the operator's terminal (escape sequences)."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[key] = _CONTROL.sub(lambda match: repr(match[0])[1:-1], value)
    return event
