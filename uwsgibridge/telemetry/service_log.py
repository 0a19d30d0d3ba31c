"""Makes the log of a process of a service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from uwsgibridge.config.settings import Settings
from uwsgibridge.telemetry.logs import EventLogger, Target, make_logger


def make_service_logger(settings: Settings, facts: Mapping[str, Any] | None = None) -> EventLogger:
    """Make the logger of a process of a service, which goes where its settings say.

    Args:
        settings: of the service.
        facts: keys and values that each event has.
    """
    targets: Sequence[Target] = ()
    if settings.log_to != ("stderr",):
        # Imported here: most services have standard error alone.
        from uwsgibridge.telemetry.log_targets import make_targets

        targets = make_targets(settings)
    return make_logger(
        settings.log_format,
        settings.log_level,
        buffer_bytes=settings.log_buffer_bytes,
        facts=facts,
        targets=targets,
    )
