"""Makes the access log that the settings ask for, and leaves out the requests that nobody wants to see."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from uwsgibridge.config.access_format import parse_format
from uwsgibridge.config.settings import Settings
from uwsgibridge.telemetry.access import Access, AccessSink
from uwsgibridge.telemetry.access_file import open_access_file
from uwsgibridge.telemetry.access_log import AccessEvents, AccessFields, AccessLog
from uwsgibridge.telemetry.line_stream import LineStream, standard_error
from uwsgibridge.telemetry.logs import EventLogger, Logger, is_json, tell_gap

if TYPE_CHECKING:
    from uwsgibridge.telemetry.access_format import FormattedAccessLog


def make_access_log(settings: Settings, logger: Logger) -> AccessSink | None:
    """Make the access log that the settings ask for.

    Returns:
        An access log that goes to its file, or where the log events go. Where no option asks for one: at level debug,
        one that makes log events; else None.

    Raises:
        LogFileError: the file can't be opened.
    """
    statuses, seconds = settings.access_log_status, settings.access_log_slow_seconds
    is_configured = _is_configured(settings)
    if not (
        settings.access_log or settings.access_log_file or statuses or seconds or is_configured
    ):
        return AccessEvents(logger) if settings.log_level == "debug" else None
    sink = _make_sink(settings, logger)
    return FilteredAccessLog(sink, statuses, seconds) if statuses or seconds else sink


def _make_sink(settings: Settings, logger: Logger) -> AccessSink:
    form = settings.access_log_format
    if not settings.access_log_file and _is_configured(settings):
        from uwsgibridge.telemetry.logging_target import LoggedAccess

        lines = _make_lines(settings, LineStream(None), "combined" if form == "auto" else form)
        return LoggedAccess(lines.line)
    if settings.access_log_file:
        path = Path(settings.access_log_file).absolute()
        file = open_access_file(path, settings.log_buffer_bytes)
        file.buffer.tell_gap = lambda gap: tell_gap(logger, gap, path=str(path))
        stream: LineStream = file
    elif settings.log_to == ("stderr",):
        stream = standard_error()
    elif form == "auto" and isinstance(logger, EventLogger):
        return AccessFields(logger)
    else:
        # Imported here: most services have standard error alone.
        from uwsgibridge.telemetry.log_targets import TargetLines, make_targets

        stream = TargetLines(make_targets(settings))
    if form == "auto":
        form = "json" if is_json(settings.log_format) else "combined"
    return _make_lines(settings, stream, form)


def _is_configured(settings: Settings) -> bool:
    """Whether the file of ``--log-config`` has given the logger of the access log handlers."""
    if not settings.log_config:
        return False
    # Imported here, since it imports `logging`.
    from uwsgibridge.telemetry.logging_target import ACCESS, has_handlers

    return has_handlers(ACCESS)


def _make_lines(
    settings: Settings, stream: LineStream, form: str
) -> AccessLog | FormattedAccessLog:
    pieces = parse_format("--access-log-format", form)
    if pieces:
        # Imported here, since most access logs have a form with a name.
        from uwsgibridge.telemetry.access_format import FormattedAccessLog

        return FormattedAccessLog(pieces, stream)
    return AccessLog(form, stream, has_variables=settings.uwsgi_module)


class FilteredAccessLog:
    """Records the requests for which one of some conditions holds.

    Args:
        sink: records them.
        statuses: such as ``404`` or ``5xx``.
        slow_seconds: requests that take so long or longer are recorded, too; 0 for no such condition.
    """

    def __init__(self, sink: AccessSink, statuses: Iterable[str], slow_seconds: float) -> None:
        self._sink = sink
        self._classes = frozenset(int(it[0]) for it in statuses if it.endswith("xx"))
        self._statuses = frozenset(int(it) for it in statuses if not it.endswith("xx"))
        self._slow_seconds = slow_seconds

    def write(self, access: Access) -> None:
        """Record an access, or pass over it; from any thread."""
        status = access.shown_status
        if (
            status // 100 in self._classes
            or status in self._statuses
            or (self._slow_seconds and access.total_seconds >= self._slow_seconds)
        ):
            self._sink.write(access)
