"""Has what an application tells the standard library's logging become log events, where it uses that."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from uwsgibridge.config.settings import Settings
from uwsgibridge.telemetry.logs import EventLogger, Logger


@contextlib.contextmanager
def capturing_logging(settings: Settings, logger: Logger) -> Iterator[None]:
    """Import the application within this: until its end, logging is as Python has it, but for where warnings go.

    Args:
        settings: of this service.
        logger: of this process.
    """
    if _is_captured(settings) and isinstance(logger, EventLogger):
        # Imported here, since it imports `logging`.
        from uwsgibridge.telemetry.application_logging import capture_last_resort

        capture_last_resort(logger)
    yield
    capture_logging(settings, logger)


def capture_logging(settings: Settings, logger: Logger) -> None:
    """Make events of what an application tells logging; again in a forked process, whose logger is another one.

    Args:
        settings: of this service.
        logger: of this process.
    """
    if _is_captured(settings) and isinstance(logger, EventLogger):
        # Imported here, since it imports `logging`.
        from uwsgibridge.telemetry.application_logging import capture_records

        capture_records(logger, settings.app_log_level)


def _is_captured(settings: Settings) -> bool:
    return settings.app_logging == "bridge" and "logging" in sys.modules
