"""Events as a person reads them on a terminal, rendered by structlog."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from structlog.dev import ConsoleRenderer, plain_traceback

# Control characters to escape: all but line ends, and in texts of many lines all but tabs, too.
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
_CONTROL_BUT_TAB: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# A field whose value is text of the application's: on a terminal it stands below the event, with its line ends.
RAW_FIELD: Final = "line"

_OF_MANY_LINES: Final = {RAW_FIELD, "exception", "stack"}


def text_renderer(*, has_colours: bool) -> Callable[[dict[str, Any]], str]:
    """Make what renders an event as a line, and what has line ends itself below it.

    Args:
        has_colours: whether the terminal shows colours.
    """
    render = ConsoleRenderer(colors=has_colours, exception_formatter=plain_traceback)

    def as_text(event: dict[str, Any]) -> str:
        _escape_control_characters(event)
        # The renderer would print it as a Python literal.
        text = event.pop(RAW_FIELD, None)
        line = str(render(None, "", event))
        return line if text is None else f"{line}\n{text}"

    return as_text


def _escape_control_characters(event: dict[str, Any]) -> None:
    """Keep what a client sent from speaking to the operator's terminal (escape sequences)."""
    for key, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            control = _CONTROL_BUT_TAB if key in _OF_MANY_LINES else _CONTROL
            event[key] = control.sub(lambda match: repr(match[0])[1:-1], value)
