"""Has what an application tells the standard library's logging become log events, where it uses that."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from uwsgibridge.config.settings import Settings
from uwsgibridge.telemetry.logs import EventLogger, Logger


@contextlib.contextmanager
def capturing_logging(settings: Settings, logger: Logger) -> Iterator[None]:
    """Import the application within this, which does what `capture_logging` does before and after.

    Args:
        settings: of this service.
        logger: of this process.
    """
    capture_logging(settings, logger)
    yield
    capture_logging(settings, logger)


def configure_by_file(settings: Settings) -> None:
    """Configure logging by the file of ``--log-config``, if there is one; call it when the application's path is set.

    Raises:
        SettingsError: the file does not configure logging.
    """
    if settings.log_config:
        # Imported here, since most applications configure logging by themselves.
        from uwsgibridge.telemetry.logging_config import configure_logging

        configure_logging(settings.log_config)


def capture_logging(settings: Settings, logger: Logger) -> None:
    """Make events of what an application tells logging; again in a forked process, whose logger is another one.

    Args:
        settings: of this service.
        logger: of this process.
    """
    if not isinstance(logger, EventLogger):
        return
    if settings.app_logging == "bridge" and "logging" in sys.modules:
        # Imported here, since it imports `logging`.
        from uwsgibridge.telemetry.application_logging import capture_records

        # A copy: the bridge's own events may get another target below, and those of the application keep theirs.
        capture_records(logger.copy(), settings.app_log_level)
    if settings.log_config:
        from uwsgibridge.telemetry.logging_target import EVENTS, LoggingTarget, has_handlers

        if has_handlers(EVENTS):
            logger.go_to([LoggingTarget()])
