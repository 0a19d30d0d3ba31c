"""Makes the log of a process of the server: where `--log-to` has it go."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import assert_never, cast

from uwsgibridge.config.log_target import (
    JournaldTarget,
    StandardErrorTarget,
    SyslogTarget,
    parse_log_target,
)
from uwsgibridge.config.settings import Facility, Settings
from uwsgibridge.telemetry.line_stream import LineStream
from uwsgibridge.telemetry.logs import Target, stream_target


def make_targets(settings: Settings) -> Sequence[Target]:
    """Give what the log of this process goes to; the same objects each time, as each has a socket of its own."""
    return [
        _make(text, settings.log_format, settings.log_identifier, settings.syslog_facility)
        for text in dict.fromkeys(settings.log_to)
    ]


@functools.cache
def _make(text: str, log_format: str, identifier: str, facility: str) -> Target:
    target = parse_log_target("--log-to", text)
    match target:
        case StandardErrorTarget():
            return stream_target(log_format)
        case JournaldTarget():
            # Imported here, as below: few services have it.
            from uwsgibridge.telemetry.journald import Journald

            return Journald(identifier)
        case SyslogTarget():
            from uwsgibridge.telemetry.syslog import Syslog

            return Syslog(
                text,
                target.address,
                identifier,
                cast("Facility", facility),
                has_json=log_format == "json",
            )
    assert_never(target)


class TargetLines(LineStream):
    """Has the lines of an access log go where the log goes.

    Args:
        targets: of the log.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        super().__init__(None)
        self._targets = targets

    def write(self, line: str) -> None:
        """Write a line that ends with a line end, or drop it; from any thread."""
        for target in self._targets:
            target.write_line(line)
