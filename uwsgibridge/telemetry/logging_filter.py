"""A filter of the standard library's logging: it filters nothing, and tells each record of its request."""

from __future__ import annotations

import logging

from uwsgibridge.telemetry.request_ids import fields_of_current_request


class RequestIdFilter(logging.Filter):
    """Gives each record ``request_id``, ``trace_id`` and ``span_id``, for ``%(request_id)s`` and the like in a format.

    It belongs to a handler, since filters of a logger do not see the records of the loggers below it.

    Args:
        missing: the text for a record outside of a request.
    """

    def __init__(self, missing: str = "-") -> None:
        super().__init__()
        self._missing = missing

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell the record of its request, and let it pass; what the application has set stays."""
        fields = fields_of_current_request()
        for name in ("request_id", "trace_id", "span_id"):
            if not hasattr(record, name):
                setattr(record, name, fields.get(name, self._missing))
        return True
