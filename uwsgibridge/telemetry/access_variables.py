"""Lines of the access log as JSON, with what the application has set for them by the module ``uwsgi``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from uwsgibridge.telemetry.access import Access, log_variables
from uwsgibridge.telemetry.access_text import MAX_LINE_BYTES, cut

_FIELD: Final = "variables"


def with_variables(
    write_line: Callable[[Access, Mapping[str, str | None], str], str],
) -> Callable[[Access, Mapping[str, str | None], str], str]:
    """Make a function that writes the same line of JSON with the variables as a further field.

    Args:
        write_line: writes an object of JSON, which is short enough for a line or becomes so in a second call.
    """

    def write(access: Access, texts: Mapping[str, str | None], now: str) -> str:
        line = write_line(access, texts, now)
        variables = log_variables(access)
        if not variables:
            return line
        whole = _join(line, variables)
        room = MAX_LINE_BYTES - 1 - len(_join(line, dict.fromkeys(variables, "")))
        if len(whole) < MAX_LINE_BYTES:
            return whole
        if room <= 0:  # the names alone are too long
            return line
        most_bytes = room // len(variables)
        return _join(
            line, {name: cut(value, most_bytes, json.dumps) for name, value in variables.items()}
        )

    return write


def _join(line: str, variables: Mapping[str, str]) -> str:
    return f'{line[:-1]}, "{_FIELD}": {json.dumps(variables)}}}'
